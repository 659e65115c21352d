#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# DestinationRule: subsets of endpoints, and how they are spoken to. Endpoint v1 answers with 301, v2 with 200.
. "$(dirname "$0")/common.bash"

svc=$(service svc.example.com 80/HTTP 'resolution: STATIC' 'endpoints: [{address: 203.0.113.10, labels: {version: v1}}, {address: 203.0.113.11, labels: {version: v2, tier: a}}]')

# A DestinationRule for svc.example.com: destination NAME SPEC-LINE...
destination()
{
	printf -- '---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: %s}\nspec:\n  host: svc.example.com\n' "$1"
	printf '  %s\n' "${@:2}"
}

rules()
{
	printf -- '---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: vs}\nspec:\n'
	printf '  hosts: [svc.example.com]\n  http:\n'
	printf '  - %s\n' "$@"
}

# The statuses of so many requests, each on a connection of its own: statuses COUNT [OPTION OF curl...]
statuses()
{
	get 10 -o /dev/null -w '%{http_code}\n' -H 'connection: close' "${@:2}" "http://svc.example.com/[1-$1]"
}

family_a_subset_has_the_endpoints_with_its_labels()
{
	policy "$(mode REGISTRY_ONLY)" "$svc" "$(destination d 'subsets: [{name: one, labels: {version: v1}}, {name: two, labels: {version: v2, tier: a}}, {name: none, labels: {version: v3}}]')" \
		"$(rules '{match: [{headers: {x-to: {exact: one}}}], route: [{destination: {host: svc.example.com, subset: one}}]}' \
			'{match: [{headers: {x-to: {exact: two}}}], route: [{destination: {host: svc.example.com, subset: two}}]}' \
			'{match: [{headers: {x-to: {exact: none}}}], route: [{destination: {host: svc.example.com, subset: none}}]}' \
			'{match: [{headers: {x-to: {exact: unknown}}}], route: [{destination: {host: svc.example.com, subset: unknown}}]}')"
	statuses 20 -H 'x-to: one'
	expect_count 20 '^301$'
	statuses 20 -H 'x-to: two'
	expect_count 20 '^200$'
	get 10 -w ' %{http_code}' -H 'x-to: none' http://svc.example.com/
	expect '^no healthy upstream 503$'
	get 10 -w '%{http_code}' -H 'x-to: unknown' http://svc.example.com/
	expect '^503$'
}

test_check_says_that_there_is_no_such_subset()
{
	printf '%s\n' "$svc" "$(rules '{route: [{destination: {host: svc.example.com, subset: v9}}]}')" >"$scratch/policy.yaml"
	run node "$SLUICE" check "$scratch/policy.yaml"
	expect 'no DestinationRule for "svc.example.com" has a subset "v9": requests are answered with 503'
}

test_endpoints_in_turn()
{
	policy "$(mode REGISTRY_ONLY)" "$svc" "$(destination d 'trafficPolicy: {loadBalancer: {simple: ROUND_ROBIN}}')"
	statuses 40
	expect_count 20 '^301$'
	expect_count 20 '^200$'
	policy "$(mode REGISTRY_ONLY)" "${svc/labels: \{version: v1\}/weight: 3}" \
		"$(destination d 'trafficPolicy: {portLevelSettings: [{port: {number: 80}, loadBalancer: {simple: ROUND_ROBIN}}]}')"
	statuses 40
	expect_count 30 '^301$'
	expect_count 10 '^200$'
}

test_a_connection_is_waited_for_as_long_as_the_rule_says()
{
	lab_in internet ip route add blackhole 203.0.113.88
	policy "$(mode REGISTRY_ONLY)" "$(service svc.example.com 80/HTTP 'resolution: STATIC' 'endpoints: [{address: 203.0.113.88}]')" \
		"$(destination d 'trafficPolicy: {connectionPool: {tcp: {connectTimeout: 300ms, tcpKeepalive: {time: 30s, interval: 5s, probes: 3}}}}')"
	get 10 -w ' %{http_code}' http://svc.example.com/
	lab_in internet ip route del blackhole 203.0.113.88
	expect 'reset reason: connection timeout 503$'
	((elapsed_ms >= 900 && elapsed_ms < 2500)) || fail "three tries of 300 ms, not $elapsed_ms ms"
}

keepalive_is()
{
	lab_in web ss -Htno state established dst 203.0.113.12:9000 | grep -q "timer:(keepalive,$1"
}

# In seconds of 15 bits.
test_more_keepalive_than_linux_has_is_all_that_it_has()
{
	policy "$(mode REGISTRY_ONLY)" \
		"$(service svc.example.com 9000/TCP 'resolution: STATIC' 'addresses: [203.0.113.77]' 'endpoints: [{address: 203.0.113.12}]')" \
		"$(destination d 'trafficPolicy: {connectionPool: {tcp: {tcpKeepalive: {time: 100h, interval: 100h, probes: 1000}}}}')"
	background kept web sh -c 'sleep 5 | socat - TCP:203.0.113.77:9000'
	eventually keepalive_is 54.min
}

six_requests_were_logged()
{
	(($(grep -c ' svc.example.com ' "$LAB/nginx.log") == 6))
}

test_an_upstream_connection_serves_so_many_requests()
{
	local seen

	policy "$(mode REGISTRY_ONLY)" "$(service svc.example.com 80/HTTP 'resolution: STATIC' 'endpoints: [{address: 203.0.113.11}]')" \
		"$(destination d 'trafficPolicy: {connectionPool: {http: {maxRequestsPerConnection: 2}}}')"
	: >"$LAB/nginx.log"
	get 10 -o /dev/null 'http://svc.example.com/[1-6]'
	expect_status 0
	eventually six_requests_were_logged
	seen=$(awk '/ svc.example.com / { print $NF }' "$LAB/nginx.log" | sort -u | wc -l)
	[[ $seen == 3 ]] || fail "six requests take three connections, not $seen"
}

run_story
