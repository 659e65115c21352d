#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Which destinations are judged at all: include and exclude CIDRs and ports, combined as Istio does.
. "$(dirname "$0")/common.bash"

only()
{
	policy "$(mode REGISTRY_ONLY "interception: {$1}")"
}

family_only_included_ranges_are_judged()
{
	only 'includeCIDRs: [203.0.113.12/32, "2001:db8:113::12/128"]'
	probe tcp "$(address 12)" 9000
	expect 'result=ECONNREFUSED'
	probe udp "$(address 12)" 9001
	expect 'result=ECONNREFUSED'
	get 11 -i http://www.unregistered.com/
	expect '^HTTP/1.1 200'
	get 11 -I https://www.unregistered.com/
	expect '^HTTP/2 200'
	probe -d hello tcp "$(address 13)" 9000
	expect 'result=ok'
}

family_excluded_ranges_bypass()
{
	only 'excludeCIDRs: [203.0.113.12/32, "2001:db8:113::12/128"]'
	probe -d hello tcp "$(address 12)" 9000
	expect 'result=ok .*data=hello'
	probe -d hello udp "$(address 12)" 9001
	expect 'result=ok .*data=hello'
	probe tcp "$(address 13)" 9000
	expect 'result=ECONNREFUSED'
	get 11 -I http://www.unregistered.com/
	expect '^HTTP/1.1 502'
}

family_exclude_beats_include()
{
	only 'includeCIDRs: [203.0.113.0/24, "2001:db8:113::/64"], excludeCIDRs: [203.0.113.12/32, "2001:db8:113::12/128"]'
	probe -d hello tcp "$(address 12)" 9000
	expect 'result=ok'
	probe tcp "$(address 13)" 9000
	expect 'result=ECONNREFUSED'
}

test_a_v4_range_captures_no_v6()
{
	only 'includeCIDRs: [0.0.0.0/0]'
	probe tcp 203.0.113.12 9000
	expect 'result=ECONNREFUSED'
	probe tcp ::ffff:203.0.113.12 9000
	expect 'result=ECONNREFUSED'
	probe -d hello tcp 2001:db8:113::12 9000
	expect 'result=ok'
}

test_a_v6_range_captures_no_v4()
{
	only 'includeCIDRs: ["::/0"]'
	probe tcp 2001:db8:113::12 9000
	expect 'result=ECONNREFUSED'
	probe -d hello tcp 203.0.113.12 9000
	expect 'result=ok'
	probe -d hello tcp ::ffff:203.0.113.12 9000
	expect 'result=ok'
}

family_excluded_ports_bypass()
{
	only 'excludePorts: [9000, 9001]'
	probe -d hello tcp "$(address 12)" 9000
	expect 'result=ok'
	probe -d hello udp "$(address 12)" 9001
	expect 'result=ok'
	probe tcp "$(address 12)" 9002
	expect 'result=ECONNREFUSED'
}

family_with_no_included_range_only_included_ports_are_judged()
{
	only 'includeCIDRs: [], includePorts: [9000]'
	probe tcp "$(address 12)" 9000
	expect 'result=ECONNREFUSED'
	probe -d hello tcp "$(address 12)" 9002
	expect 'result=ok'
}

test_an_excluded_range_beats_an_included_port()
{
	only 'includeCIDRs: [], includePorts: [9000], excludeCIDRs: [203.0.113.13/32]'
	probe -d hello tcp 203.0.113.13 9000
	expect 'result=ok'
	probe tcp 203.0.113.12 9000
	expect 'result=ECONNREFUSED'
}

test_an_excluded_port_beats_everything()
{
	only 'includePorts: [9000], excludePorts: [9000]'
	probe -d hello tcp 203.0.113.12 9000
	expect 'result=ok'
}

test_bypassed_http_meets_no_route_and_gets_no_header()
{
	policy "$(mode REGISTRY_ONLY 'interception: {excludeCIDRs: [203.0.113.10/32]}')" "$(service www.aliyun.com 80/HTTP)"
	get 10 -I http://www.aliyun.com/
	expect '^HTTP/1.1 301'
	refuse 'x-envoy-upstream-service-time'
}

run_story
