#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Clients and servers that break off anywhere leave nothing behind: no descriptor, no place in a limit (tests/e2e/abuse.py).
. "$(dirname "$0")/common.bash"

abuse=$ROOT/tests/e2e/abuse.py
count=${COUNT:-1500}

# A service that is dialled at the servers' port TARGET: host NAME PORT TARGET PROTOCOL
host()
{
	service "$1.example.com" "$2/$4/$3" 'resolution: STATIC' 'endpoints: [{address: 203.0.113.13}]'
}

# rule KIND NAME LINE...: the spec of NAME.example.com's
rule()
{
	printf -- '---\napiVersion: networking.istio.io/v1\nkind: %s\nmetadata: {name: %s}\nspec:\n' "$1" "$2"
	printf '  %s\n' "${@:3}"
}

pool='connectionPool: {tcp: {maxConnections: 8}, http: {http1MaxPendingRequests: 8, http2MaxRequests: 16, maxRetries: 4}}'

documents()
{
	mode REGISTRY_ONLY
	host h1 7500 7500 HTTP
	host h2 7501 7501 HTTP2
	host tls 7502 7502 HTTP
	host badtls 7503 7503 HTTP
	host limited 7505 7500 HTTP
	host mirrored 7506 7500 HTTP
	host retried 7507 7500 HTTP
	service db.example.com 7520/TCP 'resolution: STATIC' 'addresses: [203.0.113.77]' 'endpoints: [{address: 203.0.113.12}]'
	host proxy 7504 7504 TCP
	for name in tls badtls; do
		rule DestinationRule "$name" "host: $name.example.com" 'trafficPolicy: {tls: {mode: SIMPLE, insecureSkipVerify: true}}'
	done
	rule DestinationRule limited 'host: limited.example.com' "trafficPolicy: {$pool}"
	rule DestinationRule retried 'host: retried.example.com' "trafficPolicy: {$pool}"
	rule DestinationRule proxy 'host: proxy.example.com' "subsets: [{name: db, trafficPolicy: {tunnel: {protocol: CONNECT, targetHost: db.example.com, targetPort: 5432}}}]"
	rule VirtualService db 'hosts: [db.example.com]' 'tcp: [{route: [{destination: {host: proxy.example.com, subset: db, port: {number: 7504}}}]}]'
	rule VirtualService mirrored 'hosts: [mirrored.example.com]' 'http: [{route: [{destination: {host: mirrored.example.com}}], mirror: {host: h1.example.com}}]'
	rule VirtualService retried 'hosts: [retried.example.com]' \
		'http: [{route: [{destination: {host: retried.example.com}}], timeout: 2s, retries: {attempts: 3, perTryTimeout: 400ms, retryOn: "5xx,reset,connect-failure"}}]'
}

descriptors()
{
	find "/proc/$(redirector_pid)/fd" -type l | wc -l
}

all_gone()
{
	sleep 0.5
	(($(metric sluice_redirector_connections) == 0))
}

test_what_breaks_off_leaves_nothing()
{
	local kind pid before after

	background servers internet python3 "$abuse" serve 203.0.113.13 "$LAB"
	eventually grep -q ready "$scratch/servers"
	policy "$(documents)"
	pid=$(redirector_pid)
	for kind in h1 h2 tls badtls limited mirrored retried db; do
		run web python3 "$abuse" break "$kind" 300
	done
	lab_wait 20 all_gone || fail "all connections end, not $(metric sluice_redirector_connections)"
	before=$(descriptors)
	for kind in h1 h2 tls badtls limited mirrored retried db; do
		SEED=2 run web python3 "$abuse" break "$kind" "$count"
		refuse Traceback
		lab_wait 60 all_gone || fail "all connections of $kind end, not $(metric sluice_redirector_connections)"
	done
	after=$(descriptors)
	[[ $(redirector_pid) == "$pid" ]] || fail "one redirector all the time"
	((after <= before + 64)) || fail "as many descriptors as before, $before, not $after"
	run web python3 "$abuse" whole 16
	expect_count 6 '^[a-z0-9]+ 200[*]16$'
}

run_story
