#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A ServiceEntry under REGISTRY_ONLY: the host passes, HTTP by each request's Host, TLS by its SNI; nothing else does.
. "$(dirname "$0")/common.bash"

aliyun=$(service www.aliyun.com 80/HTTP 443/HTTPS 'location: MESH_EXTERNAL')
unchecked='hostCheck: off'

family_https_without_name_check_does_not_touch_the_redirector()
{
	local connections bytes

	policy "$(mode REGISTRY_ONLY "$unchecked")" "$aliyun"
	connections=$(settled_metric sluice_redirector_connections_total)
	bytes=$(metric sluice_redirector_client_bytes_total)
	get 10 -I https://www.aliyun.com/
	expect '^HTTP/2 200'
	[[ $(settled_metric sluice_redirector_connections_total) == "$connections" ]] || fail "no connection through the redirector"
	[[ $(metric sluice_redirector_client_bytes_total) == "$bytes" ]] || fail "no byte through the redirector"
}

test_https_with_name_check_goes_through_the_redirector()
{
	local connections

	policy "$(mode REGISTRY_ONLY)" "$aliyun"
	connections=$(metric sluice_redirector_connections_total)
	get 10 -I https://www.aliyun.com/
	eventually more_connections_than "$connections"
}

more_connections_than()
{
	(($(metric sluice_redirector_connections_total) > $1))
}

family_a_wrong_server_name_on_the_same_address_is_reset()
{
	policy "$(mode REGISTRY_ONLY)" "$aliyun"
	get 10 https://cdn.example.com/
	expect_status 35
	hello 10 cdn.example.com
	expect 'end=ECONNRESET .*received=0'
}

test_a_hello_without_server_name_is_reset()
{
	policy "$(mode REGISTRY_ONLY)" "$aliyun"
	hello 10 -
	expect 'end=ECONNRESET .*received=0'
}

test_a_server_name_has_no_case()
{
	policy "$(mode REGISTRY_ONLY)" "$aliyun"
	hello 10 WWW.AliYun.Com
	expect 'end=closed .*received=[1-9]'
}

test_a_hello_in_single_bytes_is_understood()
{
	policy "$(mode REGISTRY_ONLY)" "$aliyun"
	hello 10 www.aliyun.com -- -s 1
	expect 'end=closed .*received=[1-9]'
	hello 10 cdn.example.com -- -s 1
	expect 'end=ECONNRESET .*received=0'
}

test_a_hello_in_many_records_is_understood()
{
	policy "$(mode REGISTRY_ONLY)" "$aliyun"
	hello 10 www.aliyun.com -r 3
	expect 'end=closed .*received=[1-9]'
	hello 10 cdn.example.com -r 3
	expect 'end=ECONNRESET .*received=0'
}

test_a_hello_larger_than_a_record_is_understood()
{
	policy "$(mode REGISTRY_ONLY)" "$aliyun"
	hello 10 www.aliyun.com -p 12000 -r 4000 -- -s 700 -w 1
	expect 'end=closed .*received=[1-9]'
}

test_plain_http_on_the_tls_port_is_reset()
{
	policy "$(mode REGISTRY_ONLY)" "$aliyun"
	raw 10 443 'GET / HTTP/1.1\r\nHost: www.aliyun.com\r\n\r\n'
	expect 'end=ECONNRESET .*received=0'
	policy "$(mode ALLOW_ANY)" "$aliyun"
	raw 10 443 'GET / HTTP/1.1\r\nHost: www.aliyun.com\r\n\r\n'
	expect 'plain HTTP request was sent'
}

family_an_unregistered_host_on_the_same_address_gets_502()
{
	policy "$(mode REGISTRY_ONLY)" "$aliyun"
	get 10 -i http://cdn.example.com/
	expect '^HTTP/1.1 502'
	expect 'cdn\.example\.com'
}

test_each_request_of_a_connection_is_judged()
{
	policy "$(mode REGISTRY_ONLY)" "$aliyun"
	raw 10 80 'GET / HTTP/1.1\r\nHost: www.aliyun.com\r\n\r\nGET / HTTP/1.1\r\nHost: cdn.example.com\r\n\r\nGET / HTTP/1.1\r\nHost: www.aliyun.com\r\nConnection: close\r\n\r\n'
	[[ $(grep -oE '^HTTP/1.1 [0-9]+' <<<"$output" | awk '{ print $2 }' | xargs) == '301 502 301' ]] ||
		fail "the statuses 301 502 301"
}

test_an_absolute_target_beats_the_host_header()
{
	policy "$(mode REGISTRY_ONLY)" "$aliyun"
	raw 10 80 'GET http://www.aliyun.com/ HTTP/1.1\r\nHost: cdn.example.com\r\nConnection: close\r\n\r\n'
	expect '^HTTP/1.1 301'
	raw 10 80 'GET http://cdn.example.com/ HTTP/1.1\r\nHost: www.aliyun.com\r\nConnection: close\r\n\r\n'
	expect '^HTTP/1.1 502'
}

test_host_matches_with_port_dot_and_any_case()
{
	local host

	policy "$(mode REGISTRY_ONLY)" "$aliyun"
	for host in www.aliyun.com:80 www.aliyun.com. WWW.ALIYUN.COM; do
		raw 10 80 "GET / HTTP/1.1\r\nHost: $host\r\nConnection: close\r\n\r\n"
		expect '^HTTP/1.1 301'
	done
}

test_an_allowed_host_cannot_be_pointed_at_another_server()
{
	policy "$(mode REGISTRY_ONLY)" "$aliyun"
	get 11 -I http://www.aliyun.com/
	expect '^HTTP/1.1 301'
	get 11 -I https://www.aliyun.com/
	expect '^HTTP/2 200'
	hello 11 www.aliyun.com
	expect 'end=closed .*received=[1-9]'
}

test_an_address_that_dns_never_gave_is_slow_but_not_wrong()
{
	policy "$(mode REGISTRY_ONLY "$unchecked")" "$aliyun"
	get 14 -I https://www.aliyun.com/
	expect '^HTTP/2 200'
}

test_only_the_declared_ports_open()
{
	policy "$(mode REGISTRY_ONLY)" "$(service www.aliyun.com 80/HTTP)"
	get 10 -I http://www.aliyun.com/
	expect '^HTTP/1.1 301'
	probe tcp 203.0.113.10 443
	expect 'result=ECONNREFUSED'
}

test_a_name_without_address_is_503()
{
	lab_policy test <<<"$(mode REGISTRY_ONLY)
$(service nowhere.example.com 80/HTTP)"
	get 10 -i http://nowhere.example.com/
	expect '^HTTP/1.1 503'
	expect '^no healthy upstream$'
}

test_an_upstream_that_swallows_packets_is_503()
{
	lab_policy test <<<"$(mode REGISTRY_ONLY)
$(service blackhole.example.com 80/HTTP)"
	run web curl -sS -i -m 30 --resolve blackhole.example.com:80:203.0.113.99 http://blackhole.example.com/
	expect '^HTTP/1.1 503'
	expect 'retried and the latest reset reason: (connection timeout|remote connection failure, .*)$'
}

test_a_new_address_in_dns_is_followed()
{
	lab_dns moving.example.com 203.0.113.12 2001:db8:113::12
	policy "$(mode REGISTRY_ONLY)" "$(service moving.example.com 9000/TCP)"
	probe -d hello tcp 203.0.113.13 9000
	expect 'result=ECONNREFUSED'
	lab_dns moving.example.com 203.0.113.13 2001:db8:113::13
	lab_wait 12 moved || fail "the new address is admitted within 12 s"
	probe -d hello tcp 203.0.113.13 9000
	expect 'result=ok .*data=hello'
	probe -d hello tcp 203.0.113.12 9000
	expect 'result=ok .*data=hello' # the grace time
	lab_dns moving.example.com
}

moved()
{
	lab_sluice dump services | grep -F moving.example.com | grep -q '203\.0\.113\.13'
}

run_story
