#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# `sluice explain` says before what happens then: each answer stands beside the request that it is about.
. "$(dirname "$0")/common.bash"

httpbin=$(service httpbin.example.com 80/HTTP)

rules()
{
	printf -- '---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: vs}\nspec:\n'
	printf '  hosts: [%s]\n  %s:\n' "$1" "$2"
	printf '  - %s\n' "${@:3}"
}

# A rule that answers with its number: answers NUMBER MATCH
answers()
{
	printf '{match: [%s], directResponse: {status: 200, body: {string: "http[%d]"}}}\n' "$2" "$1"
}

# As pod web would be told, by the files: explain ARGUMENT...
explain()
{
	run node "$SLUICE" explain --config "$LAB_POLICIES" --namespace default --workload web "$@"
}

# The rule that explain names is the one that answers: is_answered_by RULE PATH [OPTION OF both...]
is_answered_by()
{
	get 11 "${@:3}" "http://httpbin.example.com$2"
	[[ $output == "$1" ]] || fail "answered by $1"
	explain "${@:3}" "http://httpbin.example.com$2"
	expect_status 0
	expect "^route +${1//[/\\[} \(.*test\.yaml:[0-9]+ VirtualService/vs\)"
}

test_the_rule_that_is_named_is_the_one_that_answers()
{
	policy "$(mode REGISTRY_ONLY)" "$httpbin" "$(rules httpbin.example.com http "$(answers 0 '{uri: {prefix: /a}, method: {exact: PUT}}')" \
		"$(answers 1 '{headers: {x-a: {regex: "[0-9]+"}}}, {queryParams: {q: {exact: "1"}}}')" \
		"$(answers 2 '{uri: {prefix: /}, sourceLabels: {app: other}}')" "$(answers 3 '{uri: {prefix: /a/b}}')" "$(answers 4 '{uri: {prefix: /a}}')")"
	is_answered_by 'http[0]' /a/b -X PUT
	expect 'http\[3\]: it takes the request, too, but comes later'
	expect 'http\[2\]: it is for others'
	is_answered_by 'http[1]' /a -H 'x-a: 12'
	is_answered_by 'http[1]' '/?q=1'
	is_answered_by 'http[3]' /x/../a/b
	is_answered_by 'http[4]' /a -H 'x-a: b'
	get 11 -o /dev/null -w '%{http_code}' http://httpbin.example.com/
	expect '^404$'
	explain http://httpbin.example.com/
	expect 'no rule of VirtualService/vs takes it: 404'
}

test_where_connections_lead()
{
	policy "$(mode REGISTRY_ONLY)" "$(service www.aliyun.com 443/HTTPS)" "$(service tcp.example.com 9000/TCP 'resolution: STATIC' \
		'addresses: [198.51.100.0/24]' 'endpoints: [{address: 203.0.113.12}]')" \
		"$(rules www.aliyun.com tls '{match: [{sniHosts: [www.aliyun.com], destinationSubnets: [203.0.113.0/24]}], route: [{destination: {host: nowhere.example.com}}]}')"
	get 10 -kI https://www.aliyun.com/
	expect_status 35
	explain --address 203.0.113.10 https://www.aliyun.com/
	expect '^route +tls\[0\]'
	expect 'nowhere\.example\.com, which is not registered: the connection ends'
	explain https://www.aliyun.com/
	expect 'destinationSubnets hold an address that is not known offline'
	probe -d hello tcp 198.51.100.7 9000
	expect 'result=ok'
	explain 198.51.100.7:9000
	expect '^ +at +203\.0\.113\.12:9000'
	explain https://198.51.100.7:9000
	expect '^service +tcp\.example\.com: '
}

# is_refused EXPLAINED DENIED-BY
is_refused()
{
	explain "$1"
	expect_status 1
	expect "$2"
	expect '^=> denied'
}

test_who_is_refused_is_told_why()
{
	policy "$(mode REGISTRY_ONLY)" "$(service tcp.example.com 9000/TCP)" "$(service httpbin.example.com 80/HTTP 'exportTo: [shop]')"
	probe tcp 203.0.113.12 9002
	expect 'result=ECONNREFUSED'
	is_refused tcp.example.com:9002 'ServiceEntry/e-tcp-example-com, tcp\.example\.com: it is not on port 9002, but on 9000'
	get 11 -I http://httpbin.example.com/
	expect '^HTTP/1.1 502'
	is_refused http://httpbin.example.com/ 'ServiceEntry/e-httpbin-example-com, httpbin\.example\.com: it is not exported to namespace default'
	is_refused http://www.unregistered.com/ 'test\.yaml:[0-9]+ EgressPolicy/default'
}

test_addresses_are_told_live()
{
	policy "$(mode REGISTRY_ONLY)" "$(service tcp.example.com 9000/TCP)" "$(service www.aliyun.com 80/HTTP/8080 'endpoints: [{address: httpbin.example.com}]')"
	run node "$SLUICE" explain --namespace default --workload web tcp.example.com:9000
	expect_status 0
	expect ', for default/web$'
	expect '^addresses +203\.0\.113\.12(,|$)'
	explain tcp.example.com:9000
	expect '^addresses +those of tcp\.example\.com, resolved by DNS when running'
	lab_wait 5 is_dialled 203.0.113.13 || fail "dialled at 203.0.113.13"
	expect '^addresses +203\.0\.113\.10, 2001:db8:113::10$'
	expect '^dialled at +203\.0\.113\.13 port 8080, 2001:db8:113::13 port 8080$'
	policy "$(mode REGISTRY_ONLY)" "$(service '*.example.com' 80/HTTP 'resolution: NONE')" "$(service httpbin.example.com 80/HTTP)" \
		"$(service '*.aliyun.com' 80/HTTP 'resolution: NONE')"
	run node "$SLUICE" explain http://httpbin.example.com
	expect '^service +httpbin\.example\.com: .* ServiceEntry/e-httpbin-example-com$'
	run node "$SLUICE" explain http://www.aliyun.com
	expect '^service +\*\.aliyun\.com: '
	expect '^addresses +none of its own is known now$'
}

test_all_that_a_rule_does_is_told()
{
	policy "$(mode REGISTRY_ONLY)" "$(service httpbin.example.com 80/HTTP)" "$(rules httpbin.example.com http \
		'{rewrite: {uriRegexRewrite: {match: a, rewrite: b}, authority: c.com}, timeout: 3s, route: [{destination: {host: httpbin.example.com}, weight: 3, headers: {request: {set: {x: told}}}}, {destination: {host: other.example.com}, weight: 1}]}')" \
		"$(printf -- '---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: dr}\nspec: {host: httpbin.example.com, trafficPolicy: {%s}}\n' \
			'connectionPool: {tcp: {maxConnections: 7, connectTimeout: 2s}, http: {maxRequestsPerConnection: 5}}, loadBalancer: {simple: RANDOM}, outlierDetection: {interval: 1s}')"
	explain http://httpbin.example.com/
	expect '^  rewrite +the path, by uriRegexRewrite \('
	expect '^  rewrite +Host: c\.com \('
	expect '^  timeout +3000 ms'
	expect '^  to +httpbin\.example\.com port 80 \(3 of 4\) \('
	expect '^  to +other\.example\.com, which is not registered: .*503'
	expect '^    request +.*told'
	expect '^    connect +within 2000 ms \(.* DestinationRule/dr\)'
	expect '^    pool +5 requests to a connection \('
	expect '^    limit +7 connections \('
	expect '^    balance +RANDOM \('
	expect '^    ejects +an address that fails'
}

is_dialled()
{
	run node "$SLUICE" explain --namespace default --workload web http://www.aliyun.com
	[[ $output == *"dialled at  "*"$1 port 8080"* ]]
}

test_what_is_captured_of_a_workload()
{
	policy "$(mode REGISTRY_ONLY)"
	is_refused 203.0.113.12:9000 'deny, not-registered'
	lab_workload web tier=front | sed 's|^metadata: {|&annotations: {traffic.sidecar.istio.io/excludeOutboundPorts: "9000"}, |' | lab_policy workloads
	probe -d hello tcp 203.0.113.12 9000
	expect 'result=ok'
	explain 203.0.113.12:9000
	expect_status 0
	expect 'bypass, excluded-port: .*workloads\.yaml:[0-9]+ Workload/web excludePorts has 9000'
	policy "$(mode REGISTRY_ONLY 'interception: {excludePorts: []}')"
	probe tcp 203.0.113.12 9000
	expect 'result=ECONNREFUSED'
	is_refused 203.0.113.12:9000 'Workload/web, excludePorts: EgressPolicy/default is more specific'
	lab_workload web tier=front | lab_policy workloads
}

# Exit status 2, and a line like REGEX: is_wrong REGEX ARGUMENT...
is_wrong()
{
	run node "$SLUICE" explain "${@:2}"
	expect_status 2
	expect "$1"
}

test_a_question_that_cannot_be_answered()
{
	policy "$(mode REGISTRY_ONLY)"
	is_wrong 'label "app": must be KEY=VALUE' --config "$LAB_POLICIES" --label app a.com
	is_wrong 'address "a\.com": must be an IP address' --address a.com a.com
	is_wrong '"a\.com:http" is neither HOST\[:PORT\] nor a URL' a.com:http
	is_wrong '-H "x": must be NAME: VALUE' --config "$LAB_POLICIES" -H x a.com
	is_wrong '-X and -H are for --config DIR' -X PUT a.com
	is_wrong 'no document describes a Workload nobody in namespace default' --config "$LAB_POLICIES" --workload nobody a.com
	is_wrong 'no workload default/nobody is known' --namespace default --workload nobody a.com
	is_wrong 'use --config DIR to ask the files' --pin /nowhere a.com
	printf 'kind: [\n' >"$scratch/broken.yaml"
	is_wrong "broken\.yaml:2:1: " --config "$scratch/broken.yaml" a.com
}

run_story
