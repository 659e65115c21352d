#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A port without a protocol: what the client speaks tells (ISTIO.md §1.3, §1.4).
. "$(dirname "$0")/common.bash"

# A service without a protocol at 203.0.113.77, whose server is at 203.0.113.ENDPOINT:TARGET: auto ENDPOINT TARGET [PORT]
auto()
{
	service auto.example.com "${3:-8088}/X/$2" 'resolution: STATIC' 'addresses: [203.0.113.77]' "endpoints: [{address: 203.0.113.$1}]" |
		sed 's/, protocol: X//'
}

test_http_goes_by_its_host()
{
	policy "$(mode REGISTRY_ONLY)" "$(auto 11 80)" "$(service other.example.com 8088/HTTP/80 'resolution: STATIC' 'endpoints: [{address: 203.0.113.10}]')"
	get 77 -w ' %{http_code}' http://auto.example.com:8088/
	expect '200$'
	expect_header_of_proxy
	get 77 -I http://other.example.com:8088/
	expect '^HTTP/1.1 301'
	get 77 -I http://unregistered.example.com:8088/
	expect '^HTTP/1.1 502'
}

expect_header_of_proxy()
{
	get 77 -I http://auto.example.com:8088/
	expect '^x-envoy-upstream-service-time: '
}

test_http_rules_apply()
{
	policy "$(mode REGISTRY_ONLY)" "$(auto 11 80)" '---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: vs}
spec:
  hosts: [auto.example.com]
  http: [{directResponse: {status: 418}}]'
	get 77 -o /dev/null -w '%{http_code}' http://auto.example.com:8088/
	expect '^418$'
}

test_other_bytes_go_to_the_service()
{
	policy "$(mode REGISTRY_ONLY)" "$(auto 12 9000)"
	probe -d hello tcp 203.0.113.77 8088
	expect 'result=ok .*data=hello'
}

test_tls_goes_to_the_service()
{
	policy "$(mode REGISTRY_ONLY)" "$(auto 10 443)"
	run web curl -sS -m 8 -kI --connect-to ::203.0.113.77:8088 https://www.aliyun.com/
	expect '^[sS]erver: Tengine'
}

test_a_server_that_speaks_first_is_heard()
{
	policy "$(mode REGISTRY_ONLY)" "$(auto 12 9003)"
	run web "$TOOLS/raw" -c 203.0.113.77 8088
	expect '^220 '
}

# It has no address of its own: the name that TLS shows is all there is.
test_tls_of_a_wildcard_goes_by_its_server_name()
{
	policy "$(mode REGISTRY_ONLY)" "$(service '*.wild.example.org' 443/X 'resolution: NONE' | sed 's/, protocol: X//')"
	get 14 -k https://a.wild.example.org/
	expect '^this is a.wild.example.org$'
	get 14 -k https://wild.example.org/
	expect_status 35
	raw 14 443 'hello' -c
	refuse 'this is'
}

test_elsewhere_the_port_is_closed()
{
	policy "$(mode REGISTRY_ONLY)" "$(auto 12 9000)"
	probe -d hello tcp 203.0.113.12 8088
	refuse 'result=ok'
	get 10 -I http://unregistered.example.com:8088/
	expect_status 56
	refuse '^HTTP'
}

run_story
