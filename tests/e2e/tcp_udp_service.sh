#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# TCP and UDP services go directly, by their own addresses; UDP servers in a pod may answer.
. "$(dirname "$0")/common.bash"

family_a_tcp_service_passes_at_its_own_addresses_only()
{
	policy "$(mode REGISTRY_ONLY)" "$(service tcp.example.com 9000/TCP)"
	probe -d hello tcp "$(address 12)" 9000
	expect 'result=ok .*data=hello'
	probe tcp "$(address 13)" 9000
	expect 'result=ECONNREFUSED'
	probe tcp "$(address 12)" 9002
	expect 'result=ECONNREFUSED'
}

test_a_tcp_service_does_not_touch_the_redirector()
{
	local connections

	policy "$(mode REGISTRY_ONLY)" "$(service tcp.example.com 9000/TCP)"
	connections=$(settled_metric sluice_redirector_connections_total)
	probe -d hello tcp 203.0.113.12 9000
	expect 'result=ok'
	[[ $(settled_metric sluice_redirector_connections_total) == "$connections" ]] || fail "no connection through the redirector"
}

test_two_tcp_services_share_a_port()
{
	policy "$(mode REGISTRY_ONLY)" "$(service tcp.example.com 9000/TCP)" "$(service httpbin.example.com 9000/MySQL)"
	probe -d hello tcp 203.0.113.12 9000
	expect 'result=ok'
	probe -d hello tcp 203.0.113.13 9000
	expect 'result=ok'
}

family_a_range_of_addresses_is_a_service()
{
	policy "$(mode REGISTRY_ONLY)" "$(service range.example.com 9000/TCP 'resolution: NONE' \
		'addresses: [203.0.113.12/31, "2001:db8:113::12/127"]')"
	probe -d hello tcp "$(address 12)" 9000
	expect 'result=ok'
	probe -d hello tcp "$(address 13)" 9000
	expect 'result=ok'
	probe tcp "$(address 12)" 9002
	expect 'result=ECONNREFUSED'
}

# A name that DNS has at one of its addresses takes nothing away from it.
test_a_range_stays_open_around_names()
{
	policy "$(mode REGISTRY_ONLY)" "$(service range.example.com 443/TCP 'resolution: NONE' 'addresses: [203.0.113.0/28]')" \
		"$(service www.aliyun.com 443/HTTPS)"
	get 10 -kI https://www.aliyun.com/
	expect '^[sS]erver: Tengine'
	get 10 -kI https://other.example.com/
	expect '^[sS]erver: Tengine'
	policy "$(mode REGISTRY_ONLY)" "$(service www.aliyun.com 443/HTTPS)"
	get 10 -kI https://other.example.com/
	expect_status 35
}

family_a_udp_service_passes()
{
	policy "$(mode REGISTRY_ONLY)" "$(service udp.example.com 9001/UDP)"
	probe -d hello udp "$(address 12)" 9001
	expect 'result=ok .*data=hello'
	probe -d hello udp-connected "$(address 12)" 9001
	expect 'result=ok .*data=hello'
	probe udp "$(address 12)" 9002
	expect 'result=ECONNREFUSED'
	probe udp "$(address 13)" 9001
	expect 'result=ECONNREFUSED'
}

test_a_udp_service_opens_no_tcp()
{
	policy "$(mode REGISTRY_ONLY)" "$(service udp.example.com 9000/UDP)"
	probe tcp 203.0.113.12 9000
	expect 'result=ECONNREFUSED'
}

# The address a client on the internet dials the pod at.
pod_as_seen()
{
	if [[ $family == v6 ]]; then echo fd00:88::2; else echo 10.88.0.2; fi
}

family_a_udp_server_in_the_pod_answers()
{
	local any=::

	[[ $family != v4 ]] || any=0.0.0.0
	policy "$(mode REGISTRY_ONLY)"
	background server web "$TOOLS/probe" -t 20000 serve-udp "$any" 5300
	eventually grep -q ready "$scratch/server"
	run internet "$TOOLS/probe" -d question udp "$(pod_as_seen)" 5300
	expect 'result=ok .*data=question'
	run internet "$TOOLS/probe" -d again udp-connected "$(pod_as_seen)" 5300
	expect 'result=ok .*data=again'
}

test_answering_a_peer_opens_no_other_port_or_peer()
{
	policy "$(mode REGISTRY_ONLY)"
	background server web "$TOOLS/probe" -t 20000 serve-udp 0.0.0.0 5300
	eventually grep -q ready "$scratch/server"
	run internet "$TOOLS/probe" -b 203.0.113.12 -p 6001 -d question udp 10.88.0.2 5300
	expect 'result=ok .*data=question'
	probe udp 203.0.113.12 6001
	expect 'result=ECONNREFUSED'
	end_background
	probe -b 0.0.0.0 -p 5300 udp 203.0.113.12 9001
	expect 'result=ECONNREFUSED'
}

family_a_tcp_server_in_the_pod_answers()
{
	policy "$(mode REGISTRY_ONLY)"
	background server web socat TCP6-LISTEN:7100,ipv6only=0,fork,reuseaddr EXEC:cat
	eventually listens_on 7100
	run internet "$TOOLS/probe" -d hello tcp "$(pod_as_seen)" 7100
	expect 'result=ok .*data=hello'
}

run_story
