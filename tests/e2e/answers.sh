#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# What a client of HTTP sees when something fails, to the letter (ISTIO.md §1.8), and which headers come and go (§2.1).
. "$(dirname "$0")/common.bash"

httpbin=$(service httpbin.example.com 80/HTTP)
nobody=$(service nobody.example.com 7801/HTTP 'resolution: STATIC' 'endpoints: [{address: 203.0.113.13}]')

# A VirtualService for HOST with these http rules: rules HOST RULE...
rules()
{
	printf -- '---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: vs}\nspec:\n  hosts: ["%s"]\n  http:\n' "$1"
	printf '  - %s\n' "${@:2}"
}

# The whole answer but its date, headers in their order: answer_is STATUS-LINE BODY
answer_is()
{
	local want

	if [[ -n $2 ]]; then
		want=$(printf 'HTTP/1.1 %s\ncontent-length: %d\ncontent-type: text/plain\ndate: -\nserver: sluice\n\n%s' "$1" "$(printf '%s' "$2" | wc -c)" "$2")
	else
		want=$(printf 'HTTP/1.1 %s\ndate: -\nserver: sluice\ncontent-length: 0\n\n' "$1")
	fi
	[[ $(tr -d '\r' <<<"$output" | sed -E 's/^date: [A-Z][a-z]{2}, [0-9]{2} [A-Z][a-z]{2} [0-9]{4} [0-9:]{8} GMT$/date: -/') == "$want" ]] || fail "$want"
}

# The same of a gRPC client: grpc_answer_is STATUS MESSAGE
grpc_answer_is()
{
	expect '^HTTP/1.1 200 OK'
	expect '^content-type: application/grpc'
	expect "^grpc-status: $1.?$"
	expect '^content-length: 0'
	if [[ -n $2 ]]; then expect "^grpc-message: $2.?$"; else refuse '^grpc-message'; fi
}

# Of the host, by HTTP and by gRPC: expect_answer N URL STATUS-LINE BODY GRPC-STATUS
expect_answer()
{
	get "$1" -i "$2"
	answer_is "$3" "$4"
	get "$1" -i -X POST -H 'content-type: application/grpc' "$2"
	grpc_answer_is "$5" "$4"
	get "$1" -o /dev/null -o /dev/null -w '%{num_connects} ' "$2" "$2"
	[[ $output == '1 0 ' ]] || fail "the connection is kept"
}

broken='upstream connect error or disconnect/reset before headers.'

test_blocked()
{
	policy "$(mode REGISTRY_ONLY)" "$httpbin"
	get 13 -i http://evil.example.com/
	answer_is '502 Bad Gateway' "$(sed -n '/^sluice: /p' <<<"$output")
"
	expect '^sluice: blocked evil.example.com port 80 \(203.0.113.13:80\) for default/web: not registered, mode REGISTRY_ONLY set by .*test.yaml:[0-9]+ EgressPolicy/default$'
	get 13 -i -X POST -H 'content-type: application/grpc' http://evil.example.com/
	expect '^grpc-status: 14'
	expect '^grpc-message: sluice: blocked evil.example.com .*EgressPolicy/default.?$'
}

test_no_rule()
{
	policy "$(mode REGISTRY_ONLY)" "$httpbin" "$(rules httpbin.example.com '{match: [{uri: {exact: /only}}], directResponse: {status: 200}}')"
	expect_answer 13 http://httpbin.example.com/ '404 Not Found' '' 12
}

test_a_destination_that_nobody_registers()
{
	policy "$(mode REGISTRY_ONLY)" "$httpbin" "$(rules httpbin.example.com '{route: [{destination: {host: nowhere.example.com}}]}')"
	expect_answer 13 http://httpbin.example.com/ '503 Service Unavailable' '' 14
}

test_no_endpoint()
{
	policy "$(mode REGISTRY_ONLY)" "$(service httpbin.example.com 80/HTTP 'resolution: STATIC')"
	expect_answer 13 http://httpbin.example.com/ '503 Service Unavailable' 'no healthy upstream' 14
}

test_a_server_that_refuses()
{
	local refused='remote connection failure, transport failure reason: delayed connect error: Connection refused'

	policy "$(mode REGISTRY_ONLY)" "$nobody"
	expect_answer 13 http://nobody.example.com:7801/ '503 Service Unavailable' "$broken retried and the latest reset reason: $refused" 14
	policy "$(mode REGISTRY_ONLY)" "$nobody" "$(rules nobody.example.com '{retries: {attempts: 0}, route: [{destination: {host: nobody.example.com}}]}')"
	expect_answer 13 http://nobody.example.com:7801/ '503 Service Unavailable' "$broken reset reason: $refused" 14
	# what passes through has no retries
	policy "$(mode ALLOW_ANY)" "$nobody" "$(rules nobody.example.com '{retries: {attempts: 5}, route: [{destination: {host: nobody.example.com}}]}')"
	expect_answer 12 http://other.example.com:7801/ '503 Service Unavailable' "$broken reset reason: $refused" 14
}

test_a_server_that_does_not_answer_the_connect()
{
	lab_in internet ip route add blackhole 203.0.113.88
	policy "$(mode REGISTRY_ONLY)" "$(service silent.example.com 80/HTTP 'resolution: STATIC' 'endpoints: [{address: 203.0.113.88}]')" '---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: silent}
spec: {host: silent.example.com, trafficPolicy: {connectionPool: {tcp: {connectTimeout: 100ms}}}}'
	get 13 -i http://silent.example.com/
	lab_in internet ip route del blackhole 203.0.113.88
	answer_is '503 Service Unavailable' "$broken retried and the latest reset reason: connection timeout"
}

test_a_server_that_closes()
{
	policy "$(mode REGISTRY_ONLY)" "$httpbin"
	expect_answer 13 http://httpbin.example.com/die '503 Service Unavailable' "$broken reset reason: connection termination" 14
}

test_a_server_that_does_not_speak_http()
{
	policy "$(mode REGISTRY_ONLY)" "$httpbin"
	expect_answer 13 http://httpbin.example.com/garbage '502 Bad Gateway' "$broken reset reason: protocol error" 14
}

test_timeouts()
{
	policy "$(mode REGISTRY_ONLY)" "$httpbin" "$(rules httpbin.example.com '{match: [{uri: {exact: /slow/500}}], timeout: 100ms, route: [{destination: {host: httpbin.example.com}}]}' \
		'{retries: {attempts: 1, perTryTimeout: 100ms, retryOn: 5xx, backoff: 1ms}, route: [{destination: {host: httpbin.example.com}}]}')"
	expect_answer 13 http://httpbin.example.com/slow/500 '504 Gateway Timeout' 'upstream request timeout' 14
	expect_answer 13 http://httpbin.example.com/slow/501 '504 Gateway Timeout' 'upstream request timeout' 14
}

test_an_abort()
{
	policy "$(mode REGISTRY_ONLY)" "$httpbin" "$(rules httpbin.example.com '{fault: {abort: {httpStatus: 403, percentage: {value: 100}}}, route: [{destination: {host: httpbin.example.com}}]}')"
	expect_answer 13 http://httpbin.example.com/ '403 Forbidden' 'fault filter abort' 7
}

test_grpc_statuses()
{
	local code direct=()

	for code in 400 401 403 404 429 500 502 503 504; do
		direct+=("{match: [{uri: {exact: /$code}}], directResponse: {status: $code}}")
	done
	policy "$(mode REGISTRY_ONLY)" "$httpbin" "$(rules httpbin.example.com "${direct[@]}")"
	for code in 400=13 401=16 403=7 404=12 429=14 500=2 502=14 503=14 504=14; do
		get 13 -i -H 'content-type: application/grpc' "http://httpbin.example.com/${code%=*}"
		grpc_answer_is "${code#*=}" ''
	done
}

# RFC 9110 §9.3.2: as a GET's.
test_a_head_has_no_body()
{
	policy "$(mode REGISTRY_ONLY)" "$nobody"
	get 13 -I http://nobody.example.com:7801/
	expect '^HTTP/1.1 503 Service Unavailable'
	expect '^content-length: 190'
	refuse 'upstream connect error'
}

# Envoy: what a rule does to the headers of an answer it does to ours, too, once it has the request.
test_headers_of_a_rule_are_in_our_own_answers()
{
	local set='headers: {response: {set: {x-rule: set, server: hidden}, add: {x-rule: added, content-type: text/html}, remove: [date]}}'
	local to='route: [{destination: {host: httpbin.example.com}, headers: {response: {set: {x-to: there}}}}]'

	policy "$(mode REGISTRY_ONLY)" "$httpbin" "$nobody" "$(rules httpbin.example.com \
		"{match: [{uri: {prefix: /abort}}], $set, fault: {abort: {httpStatus: 418, percentage: {value: 100}}}, $to}" \
		"{match: [{uri: {prefix: /slow}}], $set, timeout: 100ms, $to}" \
		"{match: [{uri: {prefix: /refused}}], $set, retries: {attempts: 0}, route: [{destination: {host: nobody.example.com}}]}" \
		"{match: [{uri: {prefix: /nowhere}}], $set, route: [{destination: {host: nowhere.example.com}}]}" \
		"{match: [{uri: {prefix: /direct}}], $set, directResponse: {status: 201, body: {string: done}}}" \
		"{match: [{uri: {prefix: /moved}}], $set, redirect: {uri: /new}}" \
		'{match: [{uri: {prefix: /elsewhere}}], headers: {response: {set: {location: /there}}}, redirect: {uri: /new}}')"
	for path in abort slow/1000 refused direct; do
		get 13 -i "http://httpbin.example.com/$path"
		expect_count 2 '^x-rule: '
		expect_count 1 '^content-type: text/html.?$'
		refuse '^content-type: text/plain'
		expect_count 1 '^server: hidden'
		refuse '^server: sluice'
		expect_count 1 '^date: '
	done
	get 13 -i http://httpbin.example.com/abort
	expect '^x-to: there'
	for path in nowhere moved; do
		get 13 -i "http://httpbin.example.com/$path"
		expect_count 2 '^x-rule: '
		refuse '^content-type: '
	done
	expect '^location: http://httpbin.example.com/new'
	get 13 -i http://httpbin.example.com/elsewhere
	expect_count 1 '^location: '
	expect '^location: /there'
	for path in abort slow/1000 refused nowhere direct moved; do
		get 13 -i -X POST -H 'content-type: application/grpc' "http://httpbin.example.com/$path"
		expect '^HTTP/1.1 200'
		expect '^grpc-status: [0-9]'
		expect_count 1 '^content-type: application/grpc.?$'
		refuse '^content-type: text'
		expect_count 2 '^x-rule: '
		expect_count 1 '^server: hidden'
		refuse '^server: sluice'
	done
	expect '^location: http://httpbin.example.com/new'
}

# More than has room beside an answer of ours is left out, and the answer stays what it is.
test_a_rule_with_endless_headers()
{
	local long lines='' i

	long=$(printf 'x%.0s' {1..1000})
	for i in {1..60}; do lines+="x-$i: $long, "; done
	policy "$(mode REGISTRY_ONLY)" "$httpbin" "$(rules httpbin.example.com "{headers: {response: {set: {${lines%, }}, add: {${lines%, }}}}, directResponse: {status: 200, body: {string: done}}}")"
	expect_answer 13 http://httpbin.example.com/ '200 OK' 'done' 2
	policy "$(mode REGISTRY_ONLY)" "$httpbin" "$(rules httpbin.example.com "{headers: {response: {set: {x-1: $long, x-2: $long, x-3: $long, x-4: $long}}}, directResponse: {status: 200, body: {string: done}}}")"
	get 13 -i http://httpbin.example.com/
	expect_count 4 "^x-[1-4]: x{1000}.?$"
	expect '^done$'
}

# What arrives at the server, and what is added to its answer.
test_headers_of_the_proxy()
{
	policy "$(mode REGISTRY_ONLY)" "$httpbin"
	get 13 -i http://httpbin.example.com/head
	expect '^x-forwarded-proto: http'
	expect '^x-request-id: [0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}'
	expect '^x-envoy-attempt-count: 1'
	refuse '^x-envoy-(expected-rq-timeout-ms|original-path)'
	expect '^Server: lab'
	expect_count 1 '^date: [A-Z][a-z]{2}, [0-9]{2} [A-Z][a-z]{2} [0-9]{4} [0-9:]{8} GMT'
	expect '^x-envoy-upstream-service-time: [0-9]+'
	get 13 -i -H 'x-request-id: mine' -H 'x-forwarded-proto: https' -H 'x-envoy-attempt-count: 7' http://httpbin.example.com/head
	expect '^x-request-id: mine'
	expect '^x-forwarded-proto: https'
	expect_count 1 '^x-envoy-attempt-count'
	expect '^x-envoy-attempt-count: 1'
	policy "$(mode REGISTRY_ONLY)" "$httpbin" "$(rules httpbin.example.com '{match: [{uri: {prefix: /old}}], timeout: 1.5s, rewrite: {uri: /head}, route: [{destination: {host: httpbin.example.com}}]}')"
	get 13 http://httpbin.example.com/old
	expect '^x-envoy-expected-rq-timeout-ms: 1500'
	expect '^x-envoy-original-path: /old'
}

# The server's own date stays the only one.
test_a_date_is_added_only_where_there_is_none()
{
	policy "$(mode REGISTRY_ONLY)" "$(service www.unregistered.com 80/HTTP)"
	get 11 -i http://www.unregistered.com/
	expect '^Server: nginx'
	expect_count 1 '^[Dd]ate: '
}

# An answer that overtakes its request took no time that could be told.
test_an_early_answer_has_no_time()
{
	policy "$(mode REGISTRY_ONLY)" "$httpbin"
	raw 13 80 'POST /early HTTP/1.1\r\nHost: httpbin.example.com\r\nContent-Length: 100\r\n\r\nbegin' -t 1000
	expect '^HTTP/1.1 413'
	refuse '^x-envoy-upstream-service-time'
}

run_story
