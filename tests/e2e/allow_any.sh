#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# ALLOW_ANY: what nobody registered is reached directly; the answers are the servers' own.
. "$(dirname "$0")/common.bash"

family_tcp_passes()
{
	policy "$(mode ALLOW_ANY)"
	probe -d hello tcp "$(address 12)" 9000
	expect 'result=ok .*data=hello'
}

family_udp_passes()
{
	policy "$(mode ALLOW_ANY)"
	probe -d hello udp "$(address 12)" 9001
	expect 'result=ok .*data=hello'
	probe -d hello udp-connected "$(address 12)" 9001
	expect 'result=ok .*data=hello'
}

test_udp_from_a_v6_socket_to_a_v4_address_passes()
{
	policy "$(mode ALLOW_ANY)"
	probe -6 -d hello udp 203.0.113.12 9001
	expect 'result=ok .*data=hello'
}

test_names_resolve_and_unregistered_hosts_are_reached()
{
	policy "$(mode ALLOW_ANY)"
	run web curl -sS -m 5 http://www.unregistered.com/ https://www.unregistered.com/
	expect_count 2 'this is www.unregistered.com'
}

test_a_closed_port_is_refused_by_its_server()
{
	policy "$(mode ALLOW_ANY)"
	probe tcp 203.0.113.12 1
	expect 'result=ECONNREFUSED stage=connect'
}

test_without_an_egress_policy_the_mode_is_allow_any()
{
	policy "$(service www.aliyun.com 80/HTTP)"
	probe -d hello tcp 203.0.113.12 9000
	expect 'result=ok .*data=hello'
}

test_registered_http_goes_through_the_redirector_and_other_hosts_pass()
{
	policy "$(mode ALLOW_ANY)" "$(service www.aliyun.com 80/HTTP)"
	get 10 -I http://www.aliyun.com/
	expect '^HTTP/1.1 301'
	expect '^x-envoy-upstream-service-time: [0-9]+'
	get 10 -I http://cdn.example.com/
	expect '^HTTP/1.1 301'
	get 11 http://www.unregistered.com/
	expect 'this is www.unregistered.com'
}

family_quic_to_a_name_checked_port_is_refused()
{
	policy "$(mode ALLOW_ANY)" "$(service www.aliyun.com 443/HTTPS)"
	probe udp "$(address 10)" 443
	expect 'result=ECONNREFUSED stage=send'
	probe udp-connected "$(address 10)" 443
	expect 'result=ECONNREFUSED stage=connect'
	probe udp "$(address 11)" 443
	expect 'result=ok stage=send'
}

run_story
