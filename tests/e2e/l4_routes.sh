#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# tls and tcp rules of a VirtualService: ISTIO.md §1.6 through real connections.
. "$(dirname "$0")/common.bash"

# A VirtualService: rules HOSTS LIST RULE...
rules()
{
	printf -- '---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: vs}\nspec:\n'
	printf '  hosts: [%s]\n  %s:\n' "$1" "$2"
	printf '  - %s\n' "${@:3}"
}

# A TCP service at an address of its own: tcp NAME ADDRESS PORT-OF-SERVER
tcp()
{
	service "$1.example.com" "5432/TCP/$3" 'resolution: STATIC' "addresses: [$2]" 'endpoints: [{address: 203.0.113.12}]'
}

family_a_connection_goes_where_its_name_leads()
{
	policy "$(mode REGISTRY_ONLY)" "$(service www.aliyun.com 443/HTTPS)" "$(service firewall.example.com 8443/TLS/443 'resolution: STATIC' \
		'endpoints: [{address: 203.0.113.11}]')" "$(rules www.aliyun.com tls \
		'{match: [{sniHosts: [www.aliyun.com], port: 443}], route: [{destination: {host: firewall.example.com}}]}')"
	: >"$LAB/nginx.log"
	get 10 -k -o /dev/null -w '%{http_code}' https://www.aliyun.com/
	expect '^200$'
	eventually grep -q '^203.0.113.11 [^ ]* www.aliyun.com ' "$LAB/nginx.log"
}

test_what_no_rule_takes_goes_the_services_own_way()
{
	policy "$(mode REGISTRY_ONLY)" "$(service www.aliyun.com 443/HTTPS)" "$(service firewall.example.com 8443/TLS/443 'resolution: STATIC' \
		'endpoints: [{address: 203.0.113.11}]')" "$(rules www.aliyun.com tls \
		'{match: [{sniHosts: [www.aliyun.com], port: 8443}, {sniHosts: [www.aliyun.com], sourceLabels: {app: other}},
		{sniHosts: [www.aliyun.com], destinationSubnets: [198.51.100.0/24]}], route: [{destination: {host: firewall.example.com}}]}')"
	get 10 -kI https://www.aliyun.com/
	expect '^[sS]erver: Tengine'
}

test_a_rule_that_leads_nowhere_ends_the_connection()
{
	policy "$(mode REGISTRY_ONLY)" "$(service www.aliyun.com 443/HTTPS)" "$(rules www.aliyun.com tls \
		'{match: [{sniHosts: [www.aliyun.com]}], route: [{destination: {host: nowhere.example.com}}]}')"
	get 10 -kI https://www.aliyun.com/
	expect_status 35
}

test_tcp_by_destination_and_weight()
{
	policy "$(mode REGISTRY_ONLY)" "$(tcp one 203.0.113.77 1)" "$(tcp two 203.0.113.78 9000)" "$(rules one.example.com tcp \
		'{match: [{destinationSubnets: [203.0.113.0/24]}], route: [{destination: {host: two.example.com}}]}')"
	probe -d hello tcp 203.0.113.77 5432
	expect 'result=ok .*data=hello'
	policy "$(mode REGISTRY_ONLY)" "$(tcp one 203.0.113.77 9000)" "$(tcp nobody 203.0.113.78 1)" "$(rules one.example.com tcp \
		'{route: [{destination: {host: nobody.example.com}, weight: 1}, {destination: {host: one.example.com}, weight: 0}]}')"
	probe -d hello tcp 203.0.113.77 5432
	expect 'result=ECONNRESET'
}

# 200 connections, 1 to 3: within four standard deviations, 6.1 each.
test_weights_are_drawn_for_each_connection()
{
	local other

	policy "$(mode REGISTRY_ONLY)" "$(tcp one 203.0.113.77 9000)" "$(tcp two 203.0.113.78 9003)" "$(rules one.example.com tcp \
		'{route: [{destination: {host: two.example.com}, weight: 25}, {destination: {host: one.example.com}, weight: 75}]}')"
	run web python3 -c '
import socket
seen = []
for i in range(200):
    with socket.create_connection(("203.0.113.77", 5432), 3) as s:
        s.sendall(b"hello")
        seen.append(s.recv(3))
print(seen.count(b"220"), seen.count(b"hel"))'
	other=${output% *}
	((other >= 25 && other <= 75 && other + ${output#* } == 200)) || fail "about 50 of 200 go to the second"
}

# Rules with a subnet count wherever they stand before the first one without; behind that none does.
test_the_order_of_tcp_rules()
{
	local to_one='route: [{destination: {host: one.example.com}}]' to_nobody='route: [{destination: {host: nowhere.example.com}}]'

	policy "$(mode REGISTRY_ONLY)" "$(tcp one 203.0.113.77 9000)" "$(rules one.example.com tcp "{match: [{destinationSubnets: [198.51.100.0/24]}], $to_nobody}" \
		"{match: [{port: 1}], $to_nobody}" "{match: [{port: 5432, sourceLabels: {tier: front}, gateways: [mesh]}], $to_one}" "{$to_nobody}")"
	probe -d hello tcp 203.0.113.77 5432
	expect 'result=ok .*data=hello'
	policy "$(mode REGISTRY_ONLY)" "$(tcp one 203.0.113.77 9000)" "$(rules one.example.com tcp "{$to_nobody}" "{match: [{destinationSubnets: [203.0.113.77]}], $to_one}")"
	probe -d hello tcp 203.0.113.77 5432
	expect 'result=ECONNRESET'
}

# As Envoy finds them: the longest prefix, then the name that says most; not the order of the list.
test_the_closest_rule_takes_the_connection()
{
	local to_one='route: [{destination: {host: one.example.com}}]' to_nobody='route: [{destination: {host: nowhere.example.com}}]'

	policy "$(mode REGISTRY_ONLY)" "$(tcp one 203.0.113.77 9000)" "$(rules one.example.com tcp "{match: [{destinationSubnets: [203.0.113.0/24]}], $to_nobody}" \
		"{match: [{destinationSubnets: [203.0.113.64/26, 198.51.100.0/24]}], $to_one}")"
	probe -d hello tcp 203.0.113.77 5432
	expect 'result=ok .*data=hello'
	policy "$(mode REGISTRY_ONLY)" "$(service '*.wild.example.org' 443/TLS 'resolution: NONE')" "$(service firewall.example.com 8443/TLS/443 'resolution: STATIC' \
		'endpoints: [{address: 203.0.113.10}]')" "$(rules '"*.wild.example.org"' tls "{match: [{sniHosts: [\"*.wild.example.org\"]}], $to_nobody}" \
		'{match: [{sniHosts: ["*.b.wild.example.org"]}, {sniHosts: [a.wild.example.org]}], route: [{destination: {host: firewall.example.com}}]}')"
	get 14 -kI https://a.wild.example.org/
	expect '^[sS]erver: Tengine'
	get 14 -kI https://x.b.wild.example.org/
	expect '^[sS]erver: Tengine'
	get 14 -kI https://b.wild.example.org/
	expect_status 35
}

# The ServiceEntry is a wildcard, the VirtualService is for one name below it.
test_rules_below_a_wildcard()
{
	policy "$(mode REGISTRY_ONLY)" "$(service '*.wild.example.org' 443/TLS 'resolution: NONE')" "$(service firewall.example.com 8443/TLS/443 'resolution: STATIC' \
		'endpoints: [{address: 203.0.113.10}]')" "$(rules a.wild.example.org tls \
		'{match: [{sniHosts: [a.wild.example.org]}], route: [{destination: {host: firewall.example.com}}]}')"
	get 14 -kI https://a.wild.example.org/
	expect '^[sS]erver: Tengine'
	get 14 -k https://b.wild.example.org/
	expect '^this is b.wild.example.org$'
}

# What its source is does not matter, as in Istio.
test_a_tcp_rule_for_other_sources_takes_all()
{
	policy "$(mode REGISTRY_ONLY)" "$(tcp one 203.0.113.77 1)" "$(tcp two 203.0.113.78 9000)" "$(rules one.example.com tcp \
		'{match: [{sourceSubnet: 198.51.100.0/24}], route: [{destination: {host: two.example.com}}]}')"
	probe -d hello tcp 203.0.113.77 5432
	expect 'result=ok .*data=hello'
}

test_names_of_tls_rules()
{
	policy "$(mode REGISTRY_ONLY)" "$(service '*.wild.example.org' 443/TLS 'resolution: NONE')" "$(service firewall.example.com 8443/TLS/443 'resolution: STATIC' \
		'endpoints: [{address: 203.0.113.10}]')" "$(rules '"*.wild.example.org"' tls \
		'{match: [{sniHosts: [a.wild.example.org], destinationSubnets: [198.51.100.0/24]}], route: [{destination: {host: nowhere.example.com}}]}' \
		'{match: [{sniHosts: ["*.b.wild.example.org"]}, {sniHosts: [a.wild.example.org], gateways: [mesh], sourceLabels: {tier: front}}], route: [{destination: {host: firewall.example.com}}]}')"
	get 14 -kI https://a.wild.example.org/
	expect '^[sS]erver: Tengine'
	get 14 -kI https://x.b.wild.example.org/
	expect '^[sS]erver: Tengine'
	get 14 -k https://b.wild.example.org/
	expect '^this is b.wild.example.org$'
}

# Faults of http rules, for the connections of www.aliyun.com's port 443: connection_fault FAULT
connection_fault()
{
	rules www.aliyun.com http "{fault: {$1}, route: [{destination: {host: www.aliyun.com}}]}" |
		sed 's/^metadata: {name: vs}/metadata: {name: vs, annotations: {sluice.dev\/connection-fault: "true", other.io\/x: y}}/'
}

test_faults_of_connections()
{
	policy "$(mode REGISTRY_ONLY)" "$(service www.aliyun.com 443/HTTPS)" "$(connection_fault 'delay: {fixedDelay: 1s, percentage: {value: 100}}')"
	get 10 -k -o /dev/null -w '%{http_code}' https://www.aliyun.com/
	expect '^200$'
	expect_time 1000 2500
	policy "$(mode ALLOW_ANY)" "$(service www.aliyun.com 443/HTTPS)" "$(connection_fault 'delay: {fixedDelay: 500ms, percentage: {value: 100}}, abort: {httpStatus: 503, percentage: {value: 100}}')"
	get 10 -k https://www.aliyun.com/
	expect_status 35
	expect_time 500 2000
	get 10 -kI https://www.unregistered.com/
	expect '^HTTP/[12.]* 200'
	policy "$(mode REGISTRY_ONLY)" "$(service www.aliyun.com 443/HTTPS)" "$(connection_fault 'delay: {fixedDelay: 2s, percentage: {value: 100}}' | sed 's/"true"/"false"/')"
	get 10 -k -o /dev/null -w '%{http_code}' https://www.aliyun.com/
	expect '^200$'
	expect_time 0 1500
}

test_under_allow_any_too()
{
	policy "$(mode ALLOW_ANY)" "$(service www.aliyun.com 443/HTTPS)" "$(rules www.aliyun.com tls \
		'{match: [{sniHosts: [www.aliyun.com]}], route: [{destination: {host: nowhere.example.com}}]}')"
	get 10 -kI https://www.aliyun.com/
	expect_status 35
	get 10 -kI https://www.unregistered.com/
	expect '^HTTP/[12.]* 200'
}

run_story
