#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The scenarios of Istio's documentation (ISTIO.md §4, S1 to S18), as sluice plays them: www.aliyun.com is the lab's 203.0.113.10,
# httpbin.example.com its 203.0.113.13, *.wild.example.org stands for *.wikipedia.org. What differs from Istio is said in place.
. "$(dirname "$0")/common.bash"

aliyun=$(service www.aliyun.com 80/HTTP 443/HTTPS)
httpbin=$(service httpbin.example.com 80/HTTP)

# A VirtualService for HOST with these http rules: rules HOST RULE...
rules()
{
	printf -- '---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: vs}\nspec:\n  hosts: ["%s"]\n  http:\n' "$1"
	printf '  - %s\n' "${@:2}"
}

to_httpbin='route: [{destination: {host: httpbin.example.com}}]'

sidecar()
{
	printf -- '---\napiVersion: networking.istio.io/v1\nkind: Sidecar\nmetadata: {name: default, namespace: default}\nspec: {outboundTrafficPolicy: {mode: %s}}\n' "$1"
}

flow_seen()
{
	lab_sluice flows | tail -n 5 | grep -qE "$1"
}

# Istio's answer comes by the proxy, with its headers; where nothing is asked of sluice nothing stands in between.
family_s01_allow_any_http_is_answered_by_the_server()
{
	policy "$(mode ALLOW_ANY)"
	get 10 -I http://www.aliyun.com/
	expect '^HTTP/1.1 301'
	refuse '[xX]-[eE]nvoy'
}

family_s02_allow_any_https_is_answered_by_the_server()
{
	policy "$(mode ALLOW_ANY)"
	get 10 -I https://www.aliyun.com/
	expect '^HTTP/2 200'
	expect '^server: Tengine'
}

# Istio's body is empty. A HEAD has the headers of a GET.
family_s03_registry_only_http_is_502()
{
	policy "$(mode REGISTRY_ONLY)"
	get 10 -I http://www.aliyun.com/
	expect '^HTTP/1.1 502 Bad Gateway'
	expect '^date: '
	expect '^server: sluice'
	refuse '^x-envoy-upstream-service-time'
	get 10 -i http://www.aliyun.com/
	expect '^HTTP/1.1 502 Bad Gateway'
	expect '^content-length: [1-9]'
	expect '^sluice: blocked www.aliyun.com port 80 '
}

# Istio accepts the connection and closes it (exit status 35); here it is refused.
family_s04_registry_only_https_is_refused()
{
	policy "$(mode REGISTRY_ONLY)"
	get 10 -I https://www.aliyun.com/
	expect_status 7
	expect 'Connection refused|Could not connect|Failed to connect'
}

family_s05_a_service_entry_opens_its_host_and_no_other()
{
	policy "$(mode REGISTRY_ONLY)" "$aliyun"
	get 10 -I http://www.aliyun.com/
	expect '^HTTP/1.1 301'
	expect '^x-envoy-upstream-service-time: [0-9]+'
	get 10 -I https://www.aliyun.com/
	expect '^HTTP/2 200'
	expect '^server: Tengine'
	get 11 -I http://www.unregistered.com/
	expect '^HTTP/1.1 502'
	get 11 -I https://www.unregistered.com/
	expect_status 35
}

test_s06_a_delay_of_five_seconds()
{
	policy "$(mode REGISTRY_ONLY)" "$aliyun" "$(rules www.aliyun.com '{fault: {delay: {percent: 100, fixedDelay: 5s}}, route: [{destination: {host: www.aliyun.com}}]}')"
	get 10 -o /dev/null -w '%{http_code} elapsed=%{time_total}' http://www.aliyun.com/
	expect '^301 elapsed=5\.[0-2]'
	get 10 -o /dev/null -w '%{http_code} elapsed=%{time_total}' https://www.aliyun.com/
	expect '^200 elapsed=0\.[0-4]'
}

# There is no x-envoy-decorator-operation, and flows stand for the access log.
test_s07_http_by_its_host()
{
	policy "$(mode REGISTRY_ONLY)" "$httpbin"
	get 13 http://httpbin.example.com/head
	expect '^Host: httpbin.example.com'
	expect '^x-request-id: [0-9a-f-]{36}'
	expect '^x-envoy-attempt-count: 1'
	eventually flow_seen 'redirect +default/web curl.* 203.0.113.13:80/tcp httpbin.example.com: service, by .*ServiceEntry/e-httpbin-example-com'
}

test_s08_https_by_its_name()
{
	policy "$(mode REGISTRY_ONLY)" "$(service www.unregistered.com 443/HTTPS)"
	get 11 -I https://www.unregistered.com/
	expect '^HTTP/2 200'
	eventually flow_seen 'redirect +default/web curl.* 203.0.113.11:443/tcp www.unregistered.com: service-tls, by .*ServiceEntry/e-www-unregistered-com'
}

# The document's 5 s and 3 s, by ten.
test_s09_a_timeout()
{
	policy "$(mode REGISTRY_ONLY)" "$httpbin"
	get 13 -o /dev/null -w '%{http_code} elapsed=%{time_total}' http://httpbin.example.com/slow/500
	expect '^200 elapsed=0\.[5-7]'
	policy "$(mode REGISTRY_ONLY)" "$httpbin" "$(rules httpbin.example.com "{timeout: 0.3s, $to_httpbin}")"
	get 13 -w '\n%{http_code} elapsed=%{time_total}' http://httpbin.example.com/slow/500
	expect '^upstream request timeout$'
	expect '^504 elapsed=0\.(29|[34])'
	get 13 -o /dev/null -w '%{http_code}' http://httpbin.example.com/slow/50
	expect '^200$'
}

test_s10_what_is_not_in_the_ranges_passes()
{
	policy '---
apiVersion: install.istio.io/v1alpha1
kind: IstioOperator
metadata: {name: installed}
spec:
  meshConfig: {outboundTrafficPolicy: {mode: REGISTRY_ONLY}}
  values: {global: {proxy: {includeIPRanges: 10.96.0.0/12}}}'
	get 13 -i http://httpbin.example.com/head
	expect '^HTTP/1.1 200'
	refuse '[xX]-[eE]nvoy'
	eventually flow_seen 'bypass +default/web curl.* 203.0.113.13:80/tcp: not-included, by .*IstioOperator/installed'
}

test_s11_without_tls_origination_the_server_redirects()
{
	policy "$(mode ALLOW_ANY)" "$aliyun"
	get 10 -L -o /dev/null -D - --resolve www.aliyun.com:443:203.0.113.10 http://www.aliyun.com/politics
	expect '^HTTP/1.1 301'
	expect '^[lL]ocation: https://www.aliyun.com/'
	expect '^HTTP/2 200'
}

family_s12_tls_origination()
{
	policy "$(mode REGISTRY_ONLY)" "$(service www.aliyun.com 80/HTTP/443 443/HTTPS)" "---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: aliyun}
spec:
  host: www.aliyun.com
  trafficPolicy: {portLevelSettings: [{port: {number: 80}, tls: {mode: SIMPLE, caCertificates: $LAB_CA}}]}"
	get 10 -L -o /dev/null -D - http://www.aliyun.com/politics
	expect_count 1 '^HTTP/1.1 200'
	expect_count 1 '^HTTP/'
	get 10 -o /dev/null -D - https://www.aliyun.com/politics
	expect '^HTTP/2 200'
}

family_s13_a_wildcard_host()
{
	policy "$(mode REGISTRY_ONLY)" "$(service '*.wild.example.org' 443/HTTPS 'resolution: NONE')"
	get 14 https://a.wild.example.org/
	expect '^this is a.wild.example.org$'
	get 14 https://b.wild.example.org/
	expect '^this is b.wild.example.org$'
	get 14 https://wild.example.org/
	expect_status 35
	run web openssl s_client -connect "$(bracketed 14):443" -servername a.wild.example.org -brief
	expect '^CONNECTION ESTABLISHED'
	run web openssl s_client -connect "$(bracketed 14):443" -servername wild.example.org -brief
	expect 'errno=104'
}

# As openssl wants an address.
bracketed()
{
	address "$1" | sed '/:/s/.*/[&]/'
}

# The document's 7 s, by ten.
test_s14_faults_for_jason()
{
	local jason='match: [{headers: {end-user: {exact: jason}}}]'

	policy "$(mode REGISTRY_ONLY)" "$httpbin" \
		"$(rules httpbin.example.com "{$jason, fault: {delay: {percentage: {value: 100}, fixedDelay: 0.7s}}, $to_httpbin}" "{$to_httpbin}")"
	get 13 -o /dev/null -w '%{http_code} elapsed=%{time_total}' -H 'end-user: jason' http://httpbin.example.com/
	expect '^200 elapsed=0\.[78]'
	get 13 -o /dev/null -w '%{http_code} elapsed=%{time_total}' http://httpbin.example.com/
	expect '^200 elapsed=0\.[0-4]'
	policy "$(mode REGISTRY_ONLY)" "$httpbin" \
		"$(rules httpbin.example.com "{$jason, fault: {abort: {percentage: {value: 100}, httpStatus: 500}}, $to_httpbin}" "{$to_httpbin}")"
	get 13 -w ' %{http_code}' -H 'end-user: jason' http://httpbin.example.com/
	expect '^fault filter abort 500$'
	get 13 -w ' %{http_code}' http://httpbin.example.com/
	expect '^ 200$'
}

family_s15_an_excluded_range_passes()
{
	policy "$(mode REGISTRY_ONLY 'interception: {excludeCIDRs: [203.0.113.0/24, "2001:db8:113::/64"]}')"
	get 10 -I http://www.aliyun.com/
	expect '^HTTP/1.1 301'
	refuse '[xX]-[eE]nvoy'
	get 10 -I https://www.aliyun.com/
	expect '^HTTP/2 200'
}

# The mesh's mode, not the root EgressPolicy's: that stands before both.
mesh_mode()
{
	printf -- '---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: istio, namespace: istio-system}\ndata:\n  mesh: "outboundTrafficPolicy: {mode: %s}"\n' "$1"
}

family_s16_the_sidecar_wins_on_all_ports()
{
	policy "$(mesh_mode ALLOW_ANY)" "$(sidecar REGISTRY_ONLY)"
	get 10 -I http://www.aliyun.com/
	expect '^HTTP/1.1 502'
	get 10 -I https://www.aliyun.com/
	expect_status 7
	policy "$(mesh_mode REGISTRY_ONLY)" "$(sidecar ALLOW_ANY)"
	get 10 -I http://www.aliyun.com/
	expect '^HTTP/1.1 301'
	get 10 -I https://www.aliyun.com/
	expect '^HTTP/2 200'
}

# Without addresses Istio gives the port to the older of two; here each has what its name resolves to.
test_s17_two_tcp_services_of_one_port()
{
	local one two

	one=$(service one.example.com 7700/TCP 'resolution: STATIC' 'addresses: [203.0.113.77]' 'endpoints: [{address: 203.0.113.12, ports: {port-7700: 9000}}]')
	two=$(service two.example.com 7700/TCP 'resolution: STATIC' 'addresses: [203.0.113.78]' 'endpoints: [{address: 203.0.113.12, ports: {port-7700: 9003}}]')
	policy "$(mode REGISTRY_ONLY)" "$one" "$two"
	run web timeout 5 sh -c 'echo hello | socat -t 0.5 - TCP:203.0.113.77:7700'
	[[ $output == hello ]] || fail "hello, from the first"
	run web timeout 5 sh -c 'echo hello | socat -t 0.5 - TCP:203.0.113.78:7700'
	expect '^220 hello'
	policy "$(mode REGISTRY_ONLY)" "$(service tcp.example.com 9000/TCP)" "$(service httpbin.example.com 9000/TCP)"
	run web timeout 5 sh -c 'echo twelve | socat -t 0.5 - TCP:203.0.113.12:9000'
	expect '^twelve$'
	run web timeout 5 sh -c 'echo thirteen | socat -t 0.5 - TCP:203.0.113.13:9000'
	expect '^thirteen$'
	run web timeout 5 socat -u OPEN:/dev/null TCP:203.0.113.14:9000
	expect 'Connection refused'
}

# Within four standard deviations of 500.
test_s18_half_of_a_thousand_requests_are_aborted()
{
	local aborted

	policy "$(mode REGISTRY_ONLY)" "$httpbin" \
		"$(rules httpbin.example.com "{fault: {abort: {percentage: {value: 50}, httpStatus: 503}}, $to_httpbin}")"
	get 13 -o /dev/null -w '%{http_code}\n' 'http://httpbin.example.com/[1-1000]'
	expect_count 1000 '^(200|503)$'
	aborted=$(grep -c '^503$' <<<"$output")
	((aborted >= 437 && aborted <= 563)) || fail "437 to 563 of 1000 are aborted, not $aborted"
}

# A request of gRPC by nghttp2's own client: rpc AUTHORITY
rpc()
{
	printf '\0\0\0\0\0' >"$scratch/message"
	run web timeout 9 nghttp -v --data="$scratch/message" -H ":authority: $1" -H 'content-type: application/grpc' -H 'te: trailers' http://203.0.113.13:7202/echo
}

serves_grpc()
{
	lab_in internet socat -u OPEN:/dev/null TCP:203.0.113.13:7202
}

# S3, S5 and S14 by gRPC, where an answer is always 200 and what it means is in grpc-status.
test_grpc_is_blocked_served_and_aborted()
{
	local grpc

	background grpc internet node "$ROOT/tests/e2e/grpc.js" serve 203.0.113.13 7202
	eventually serves_grpc
	grpc=$(service grpc.example.com 7202/GRPC 'resolution: STATIC' 'endpoints: [{address: 203.0.113.13}]')
	policy "$(mode REGISTRY_ONLY)" "$grpc"
	rpc other.example.com
	expect 'recv .*:status: 200'
	expect 'recv .*grpc-status: 14'
	expect 'recv .*grpc-message: sluice: blocked other.example.com'
	rpc grpc.example.com
	expect 'recv .*:status: 200'
	expect 'recv .*grpc-status: 0'
	policy "$(mode REGISTRY_ONLY)" "$grpc" \
		"$(rules grpc.example.com '{fault: {abort: {percentage: {value: 100}, grpcStatus: UNAVAILABLE}}, route: [{destination: {host: grpc.example.com}}]}')"
	rpc grpc.example.com
	expect 'recv .*grpc-status: 14'
	expect 'recv .*grpc-message: fault filter abort'
}

run_story
