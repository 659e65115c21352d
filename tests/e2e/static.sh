#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# STATIC endpoints, virtual addresses and target ports: the client dials one address, sluice another.
. "$(dirname "$0")/common.bash"

db=$(service db.example.com 5432/TCP/9000 'resolution: STATIC' 'addresses: [203.0.113.77, "2001:db8:113::77"]' \
	'endpoints: [{address: 203.0.113.12}]')

family_a_virtual_address_reaches_the_endpoint()
{
	policy "$(mode REGISTRY_ONLY)" "$db"
	probe -d hello tcp "$(address 77)" 5432
	expect 'result=ok .*data=hello'
}

family_getpeername_shows_the_virtual_address()
{
	policy "$(mode REGISTRY_ONLY)" "$db"
	probe -d hello tcp "$(address 77)" 5432
	expect "peer=$(address 77),5432 "
}

test_other_ports_of_the_virtual_address_stay_blocked()
{
	policy "$(mode REGISTRY_ONLY)" "$db"
	probe tcp 203.0.113.77 9000
	expect 'result=ECONNREFUSED'
	probe tcp 203.0.113.12 9000
	expect 'result=ECONNREFUSED'
}

test_http_by_name_reaches_the_endpoint_and_its_target_port()
{
	policy "$(mode REGISTRY_ONLY)" "$(service static.example.com 80/HTTP/8080 'resolution: STATIC' \
		'endpoints: [{address: 203.0.113.13}]')"
	get 10 http://static.example.com/head
	expect '^[hH]ost: static.example.com'
}

test_an_endpoint_port_beats_the_target_port()
{
	policy "$(mode REGISTRY_ONLY)" "$(service db.example.com 5432/TCP/1 'resolution: STATIC' 'addresses: [203.0.113.77]' \
		'endpoints: [{address: 203.0.113.12, ports: {port-5432: 9002}}]')"
	probe -d hello tcp 203.0.113.77 5432
	expect 'result=ok .*data=hello'
}

test_workload_entries_are_endpoints()
{
	local place='---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: vm}
spec: {address: 203.0.113.12, ports: {port-5432: 9000}, labels: {app: db}}'

	policy "$(mode REGISTRY_ONLY)" "$(service db.example.com 5432/TCP 'resolution: STATIC' 'addresses: [203.0.113.77]' \
		'workloadSelector: {labels: {app: db}}')" "$place"
	probe -d hello tcp 203.0.113.77 5432
	expect 'result=ok .*data=hello'
}

test_a_v6_endpoint_serves_a_v4_client()
{
	policy "$(mode REGISTRY_ONLY)" "$(service db.example.com 5432/TCP/9000 'resolution: STATIC' 'addresses: [203.0.113.77]' \
		'endpoints: [{address: "2001:db8:113::12"}]')"
	probe -d hello tcp 203.0.113.77 5432
	expect 'result=ok .*data=hello'
}

test_a_server_that_speaks_first_is_heard()
{
	policy "$(mode REGISTRY_ONLY)" "$(service mail.example.com 25/TCP/9003 'resolution: STATIC' 'addresses: [203.0.113.77]' \
		'endpoints: [{address: 203.0.113.12}]')"
	run web "$TOOLS/raw" -c 203.0.113.77 25
	expect '^220 hello'
	expect_time 0 2000
}

test_an_endpoint_by_name_is_resolved()
{
	lab_policy test <<<"$(mode REGISTRY_ONLY)
$(service alias.example.com 80/HTTP 'endpoints: [{address: httpbin.example.com}]')"
	eventually alias_answers
}

alias_answers()
{
	get 10 http://alias.example.com/head
	grep -q 'GET /head' <<<"$output"
}

run_story
