#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Which rule of a VirtualService takes a request, and what it does with it: ISTIO.md §1.5 through real connections.
. "$(dirname "$0")/common.bash"

httpbin=$(service httpbin.example.com 80/HTTP 8080/HTTP)
aliyun=$(service www.aliyun.com 80/HTTP)
log=$(service log.example.com 80/HTTP 'resolution: STATIC' 'endpoints: [{address: 203.0.113.11}]') # nginx, which logs what it is asked

# A VirtualService for httpbin.example.com with these http rules, a line each.
rules()
{
	printf -- '---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: vs}\nspec:\n'
	printf '  hosts: [httpbin.example.com]\n  http:\n'
	printf '  - %s\n' "$@"
}

to_httpbin='route: [{destination: {host: httpbin.example.com}}]'

# A rule that answers "yes" to what matches, then one that answers "no".
asks()
{
	policy "$(mode REGISTRY_ONLY)" "$httpbin" "$(rules "{match: [$1], directResponse: {status: 200, body: {string: 'yes'}}}" \
		"{directResponse: {status: 200, body: {string: 'no'}}}")"
}

# says yes|no PATH [OPTION OF curl...]
says()
{
	get 13 "${@:3}" "http://httpbin.example.com$2"
	[[ $output == "$1" ]] || fail "$1"
}

family_a_path_is_matched_whole_by_prefix_or_by_pattern()
{
	asks '{uri: {exact: /a}}, {uri: {prefix: /b}}, {uri: {regex: "/c[0-9]+(/.*)?"}}'
	says yes /a
	says yes '/a?x=1'
	says no /ab
	says no /A
	says yes /b
	says yes /bcd/e
	says yes /c12/x
	says no /xc12
	says no /c12x
	asks '{uri: {prefix: /Shop}, ignoreUriCase: true}'
	says yes /sHOP/1
}

test_a_path_is_normalized_before()
{
	asks '{uri: {prefix: /admin}}'
	says yes /public/../admin --path-as-is
	says yes /public/%2e%2E/admin --path-as-is
	says yes '/public\..\admin' --path-as-is
	says yes /./admin --path-as-is
	says no /admin/../public --path-as-is
	policy "$(mode REGISTRY_ONLY)" "$httpbin" "$(rules '{route: [{destination: {host: httpbin.example.com}}]}')"
	get 13 --path-as-is 'http://httpbin.example.com/x/./../head?../y'
	expect '^GET /head\?\.\./y HTTP/1.1'
}

test_method_authority_scheme_and_port()
{
	asks '{method: {exact: PUT}}, {authority: {prefix: "HTTPBIN"}}, {port: 8080}'
	says no /
	says yes / -X PUT
	says yes / -H 'Host: HTTPBIN.example.com'
	get 13 http://httpbin.example.com:8080/
	[[ $output == yes ]] || fail "the port that was dialled"
	asks '{authority: {exact: "httpbin.example.com:80"}}, {authority: {regex: ".*[.]example[.]com:81"}}'
	says no /
	says yes / -H 'Host: httpbin.example.com:80'
	says yes / -H 'Host: httpbin.example.com:81'
	asks '{method: {prefix: P}}, {method: {regex: "DEL|TRACE"}}'
	says yes / -X PATCH
	says yes / -X TRACE
	says no / -X DELETE
	asks '{scheme: {exact: https}}'
	says no /
	asks '{scheme: {exact: http}}'
	says yes /
}

test_headers()
{
	asks '{headers: {x-a: {exact: one}, X-B: {prefix: tw}}}'
	says yes / -H 'X-A: one' -H 'x-b: two'
	says no / -H 'X-A: One' -H 'x-b: two'
	says no / -H 'X-A: one'
	asks '{headers: {x-a: {regex: "a,b.*"}}}'
	says yes / -H 'x-a: a' -H 'x-a: bc'
	asks '{headers: {x-a: {}}}, {headers: {x-c: {regex: ".*"}, ":authority": {prefix: other}}}'
	says yes / -H 'x-a;'
	says no / -H 'x-c: 1'
	says no /
	asks '{headers: {":method": {exact: PUT}}}'
	says yes / -X PUT
	says no /
}

test_headers_that_must_not_be_there()
{
	asks '{withoutHeaders: {x-a: {}}}'
	says yes /
	says no / -H 'x-a;'
	asks '{withoutHeaders: {x-a: {regex: "*"}}}'
	says yes /
	says no / -H 'x-a;'
	asks '{withoutHeaders: {x-a: {exact: one}}}'
	says yes /
	says yes / -H 'x-a: two'
	says no / -H 'x-a: one'
	asks '{withoutHeaders: {x-a: {regex: ".*"}}}' # what is not there counts as empty
	says no /
	asks '{withoutHeaders: {x-a: {prefix: "on"}}, headers: {x-b: {}}}'
	says yes / -H 'x-b: 1' -H 'x-a: two'
	says no / -H 'x-b: 1' -H 'x-a: one'
	says no /
}

test_query_parameters()
{
	asks '{queryParams: {a: {exact: "1"}, b: {}}}'
	says yes '/?b&a=1'
	says yes '/?a=1&a=2&b=3'
	says no '/?a=1'
	says no '/?aa=1&b'
	asks '{queryParams: {a: {regex: "[0-9]+"}}}'
	says yes '/?a=12'
	says no '/?a=1x'
	asks '{queryParams: {a: {prefix: "on"}}, uri: {prefix: /x}}'
	says yes '/x?b&a=one'
	says no '/x?a=two'
	says no '/y?a=one'
}

test_a_match_by_suffix()
{
	asks '{headers: {x-a: {suffix: -dev}}}, {queryParams: {t: {suffix: ta}}}, {authority: {suffix: ".Example.com"}}, {method: {suffix: CH}}'
	says yes / -H 'x-a: eu-dev'
	says yes / -H 'x-a: -dev'
	says no / -H 'x-a: dev'
	says no / -H 'x-a: eu-dev2'
	says no / -H 'x-a: eu-DEV'
	says yes '/?t=beta'
	says no '/?t=tab'
	says yes / -X PATCH
	says yes / -H 'Host: httpbin.Example.com'
	says no /
	asks '{withoutHeaders: {x-a: {suffix: -dev}}}'
	says yes / -H 'x-a: dev'
	says no / -H 'x-a: eu-dev'
}

test_the_workload_that_asks()
{
	asks '{sourceLabels: {tier: front}, sourceNamespace: default}'
	says yes /
	asks '{sourceLabels: {tier: back}}'
	says no /
	asks '{sourceNamespace: other}'
	says no /
	asks '{gateways: [edge]}'
	says no /
	asks '{gateways: [edge, mesh], sourceLabels: {tier: front}}'
	says yes /
}

test_where_no_rule_is_for_the_workload_the_service_is_reached()
{
	policy "$(mode REGISTRY_ONLY)" "$httpbin" "$(rules '{match: [{sourceLabels: {tier: back}}, {port: 81}], directResponse: {status: 418}}')"
	get 13 http://httpbin.example.com/head
	expect '^GET /head HTTP/1.1'
}

test_a_rule_without_a_match_ends_the_list()
{
	policy "$(mode REGISTRY_ONLY)" "$httpbin" "$(rules '{directResponse: {status: 201}}' '{match: [{uri: {exact: /}}], directResponse: {status: 202}}')"
	get 13 -o /dev/null -w '%{http_code}' http://httpbin.example.com/
	expect '^201$'
}

# On port 80 only, and under REGISTRY_ONLY it opens that host.
test_a_host_that_only_a_virtual_service_has()
{
	policy "$(mode REGISTRY_ONLY)" "$httpbin" "$(rules '{route: [{destination: {host: httpbin.example.com, port: {number: 80}}}]}' | sed 's/hosts: .*/hosts: [virtual.example.com]/')"
	get 10 http://virtual.example.com/head
	expect '^GET /head HTTP/1.1'
	expect '^Host: virtual.example.com'
	get 10 -o /dev/null -w '%{http_code}' http://virtual.example.com:8080/head
	expect '^502$'
	get 10 -kI https://virtual.example.com/
	expect_status 7
}

# The one that is given, else the only one, else the one that was dialled.
test_the_port_of_a_destination()
{
	local two only

	two=$(service two.example.com 80/HTTP 8080/HTTP 'resolution: STATIC' 'endpoints: [{address: 203.0.113.13, ports: {port-80: 80, port-8080: 1}}]')
	only=$(service only.example.com 8081/HTTP/80 'resolution: STATIC' 'endpoints: [{address: 203.0.113.13}]')
	policy "$(mode REGISTRY_ONLY)" "$httpbin" "$two" "$only" "$(rules '{match: [{uri: {prefix: /given}}], route: [{destination: {host: two.example.com, port: {number: 80}}}]}' \
		'{match: [{uri: {prefix: /only}}], route: [{destination: {host: only.example.com}}]}' '{route: [{destination: {host: two.example.com}}]}')"
	get 13 -o /dev/null -w '%{http_code}' http://httpbin.example.com:8080/given
	expect '^200$'
	get 13 -o /dev/null -w '%{http_code}' http://httpbin.example.com:8080/only
	expect '^200$'
	get 13 -o /dev/null -w '%{http_code}' http://httpbin.example.com:8080/dialled
	expect '^503$'
	get 13 -o /dev/null -w '%{http_code}' http://httpbin.example.com:80/dialled
	expect '^200$'
}

test_the_first_rule_wins_and_each_request_is_looked_at()
{
	policy "$(mode REGISTRY_ONLY)" "$httpbin" "$(rules '{match: [{uri: {prefix: /a}}], directResponse: {status: 201}}' \
		'{match: [{uri: {prefix: /a/b}}], directResponse: {status: 202}}' '{directResponse: {status: 203}}')"
	raw 13 80 'GET /a/b HTTP/1.1\r\nHost: httpbin.example.com\r\n\r\nGET /c HTTP/1.1\r\nHost: httpbin.example.com\r\nConnection: close\r\n\r\n'
	expect_count 1 '^HTTP/1.1 201'
	expect_count 1 '^HTTP/1.1 203'
	refuse '^HTTP/1.1 202'
}

test_an_answer_without_a_server()
{
	policy "$(mode REGISTRY_ONLY)" "$httpbin" \
		"$(rules "{directResponse: {status: 503, body: {string: '{\"down\": true}'}}, headers: {response: {set: {content-type: application/json}}}}")"
	get 13 -i http://httpbin.example.com/
	expect '^HTTP/1.1 503'
	expect '^content-type: application/json'
	expect_count 1 '^content-type'
	expect '^\{"down": true\}'
	get 13 -I http://httpbin.example.com/
	expect '^content-length: 14'
}

test_a_long_answer_of_our_own()
{
	local text

	text=$(head -c 375000 /dev/urandom | base64 -w0)
	policy "$(mode REGISTRY_ONLY)" "$httpbin" "$(rules "{match: [{uri: {exact: /text}}], directResponse: {status: 200, body: {string: '$text'}}}" \
		"{directResponse: {status: 200, body: {bytes: '$text'}}}")"
	run web curl -sS -m 8 --resolve httpbin.example.com:80:203.0.113.13 -o "$LAB/text" -w '%{size_download}\n' http://httpbin.example.com/text
	expect '^500000$'
	[[ $(<"$LAB/text") == "$text" ]] || fail "the text comes whole"
	run web curl -sS -m 8 --limit-rate 400k --resolve httpbin.example.com:80:203.0.113.13 -o "$LAB/bytes" http://httpbin.example.com/bytes http://httpbin.example.com/bytes
	expect_status 0
	[[ $(base64 -w0 "$LAB/bytes") == "$text" ]] || fail "the bytes come whole"
	get 13 -I http://httpbin.example.com/text
	expect '^content-length: 500000'
}

test_grpc_is_answered_in_its_words()
{
	policy "$(mode REGISTRY_ONLY)" "$httpbin" "$(rules '{match: [{uri: {exact: /abort}}], fault: {abort: {percentage: {value: 100}, grpcStatus: RESOURCE_EXHAUSTED}}, route: [{destination: {host: httpbin.example.com}}]}' \
		'{directResponse: {status: 503, body: {string: "50% ä"}}}')"
	get 13 -i -H 'content-type: application/grpc' http://httpbin.example.com/abort
	expect '^HTTP/1.1 200'
	expect '^content-type: application/grpc'
	expect '^grpc-status: 8'
	expect '^grpc-message: fault filter abort'
	expect '^content-length: 0'
	get 13 -i http://httpbin.example.com/abort
	expect '^HTTP/1.1 429'
	expect '^fault filter abort$'
	get 13 -i -H 'content-type: application/grpc+proto' http://httpbin.example.com/
	expect '^HTTP/1.1 200'
	expect '^grpc-status: 14'
	expect '^grpc-message: 50%25 %C3%A4'
	get 13 -i -H 'content-type: application/grpc-web' http://httpbin.example.com/
	expect '^HTTP/1.1 503'
}

# 1,000 draws of 3 to 1: within four standard deviations, 13.7 each.
test_weights()
{
	local other

	policy "$(mode REGISTRY_ONLY)" "$httpbin" "$aliyun" \
		"$(rules '{route: [{destination: {host: httpbin.example.com}, weight: 30}, {destination: {host: www.aliyun.com}, weight: 10}]}')"
	get 13 -o /dev/null -w '%{http_code}\n' 'http://httpbin.example.com/[1-1000]'
	expect_count 1000 '^[0-9]+$'
	other=$(grep -c '^301$' <<<"$output")
	((other >= 195 && other <= 305)) || fail "about 250 of 1,000 go to the other, not $other"
	policy "$(mode REGISTRY_ONLY)" "$httpbin" "$aliyun" \
		"$(rules '{route: [{destination: {host: httpbin.example.com}, weight: 0}, {destination: {host: www.aliyun.com}, weight: 5}]}')"
	get 13 -o /dev/null -w '%{http_code}\n' 'http://httpbin.example.com/[1-50]'
	expect_count 50 '^301$'
}

# Of several destinations each has its changes made before those of the rule (Envoy); those of a single one are made together
# with the rule's, and the last to set a header wins (Istio's processDestination).
test_headers_of_a_destination_and_of_its_rule()
{
	local own="headers: {request: {set: {x-a: destination}, add: {x-b: destination, x-c: '100%% destination'}, remove: [x-e]}, response: {add: {x-d: '1'}}}"
	local of_rule='headers: {request: {set: {x-a: rule}, add: {x-b: rule, x-e: rule}, remove: [x-c]}}'

	policy "$(mode REGISTRY_ONLY)" "$httpbin" "$(rules "{$of_rule, route: [{destination: {host: httpbin.example.com}, $own}]}")"
	get 13 -i -H 'x-a: client' -H 'x-c: client' -H 'x-e: client' http://httpbin.example.com/head
	expect '^x-a: destination'
	expect_count 1 '^x-a:'
	expect_count 2 '^x-b:'
	expect '^x-c: 100% destination'
	expect_count 1 '^x-c:'
	expect '^x-d: 1'
	expect '^x-e: rule'
	expect_count 1 '^x-e:'
	policy "$(mode REGISTRY_ONLY)" "$httpbin" "$(rules "{$of_rule, route: [{destination: {host: httpbin.example.com}, weight: 1, $own}, {destination: {host: httpbin.example.com}, weight: 0}]}")"
	get 13 -i -H 'x-a: client' -H 'x-c: client' -H 'x-e: client' http://httpbin.example.com/head
	expect '^x-a: rule'
	expect_count 1 '^x-a:'
	expect_count 2 '^x-b:'
	refuse '^x-c:'
	expect '^x-d: 1'
	expect '^x-e: rule'
	expect_count 1 '^x-e:'
}

# Those of the proxy are there before the rule's changes are made (Envoy).
test_a_rule_changes_the_headers_of_the_proxy()
{
	policy "$(mode REGISTRY_ONLY)" "$httpbin" "$(rules "{match: [{uri: {exact: /head/set}}], headers: {request: {set: {X-Forwarded-Proto: https, x-request-id: mine}}, response: {remove: [x-envoy-upstream-service-time]}}, $to_httpbin}" \
		"{match: [{uri: {exact: /head/remove}}], headers: {request: {remove: [x-forwarded-proto, X-Request-Id]}, response: {set: {x-envoy-upstream-service-time: none}}}, $to_httpbin}" \
		"{headers: {request: {add: {x-forwarded-proto: https}}}, $to_httpbin}")"
	get 13 -i -H 'x-request-id: client' http://httpbin.example.com/head/set
	expect_count 1 '^[xX]-[fF]orwarded-[pP]roto: '
	expect '^X-Forwarded-Proto: https'
	expect_count 1 '^x-request-id: '
	expect '^x-request-id: mine'
	refuse '^x-envoy-upstream-service-time'
	get 13 -i http://httpbin.example.com/head/remove
	refuse '^x-forwarded-proto|^x-request-id'
	expect_count 1 '^x-envoy-upstream-service-time'
	expect '^x-envoy-upstream-service-time: none'
	get 13 http://httpbin.example.com/head
	expect_count 2 '^x-forwarded-proto: '
	expect_count 1 '^x-request-id: '
}

test_variables_in_headers()
{
	policy "$(mode REGISTRY_ONLY)" "$httpbin" "$(rules "{name: main, headers: {request: {set: {x-who: '%HOSTNAME% %% %PROTOCOL%', x-old: '<%REQ(x-old)%>', \
x-cut: '%REQ(x-none?x-old):3%', x-peer: '%DOWNSTREAM_PEER_CERT_V_END(%b %d %H:%M:%S %Y %Z)%', x-to: '%UPSTREAM_CLUSTER% %ROUTE_NAME% %DOWNSTREAM_LOCAL_ADDRESS%'}}, \
response: {set: {x-status: '%RESPONSE_CODE% %RESP(server)%', x-host: '%UPSTREAM_HOST%'}, add: {x-time: '%START_TIME%'}}}, \
route: [{destination: {host: httpbin.example.com}}]}")"
	get 13 -i -H 'x-old: before' http://httpbin.example.com/head
	expect '^x-who: web % HTTP/1.1'
	expect '^x-old: <before>'
	expect '^x-cut: bef'
	refuse '^x-peer'
	expect '^x-to: outbound\|80\|\|httpbin.example.com main 203.0.113.13:80'
	expect '^x-status: 200 lab'
	expect '^x-host: 203.0.113.13:80'
	expect "^x-time: $(date -u +%Y-%m-%d)T[0-9:]{8}\.[0-9]{3}Z"
}

test_a_path_is_rewritten()
{
	: >"$LAB/nginx.log"
	policy "$(mode REGISTRY_ONLY)" "$httpbin" "$log" "$(rules '{match: [{uri: {prefix: /old/}}], rewrite: {uri: /}, route: [{destination: {host: httpbin.example.com}}]}' \
		'{match: [{uri: {prefix: /bare}}], rewrite: {uri: /}, route: [{destination: {host: log.example.com}}]}' \
		'{match: [{uri: {exact: /exact}}], rewrite: {uri: /head, authority: other.example}, route: [{destination: {host: httpbin.example.com}}]}' \
		'{rewrite: {uri: /he}, route: [{destination: {host: httpbin.example.com}}]}')"
	get 13 -H 'x-envoy-original-path: forged' 'http://httpbin.example.com/old/head?q=1'
	expect '^GET /head\?q=1 HTTP/1.1'
	expect '^x-envoy-original-path: /old/head\?q=1'
	refuse forged
	get 13 -o /dev/null 'http://httpbin.example.com/bare/x?q=1'
	eventually grep -q 'httpbin.example.com "GET //x?q=1 HTTP' "$LAB/nginx.log" # as in Istio: the prefix is replaced, not more
	get 13 'http://httpbin.example.com/exact?q=1'
	expect '^GET /head\?q=1 HTTP/1.1'
	expect '^[hH]ost: other.example'
	get 13 http://httpbin.example.com/ad
	expect '^GET /head HTTP/1.1'
}

test_the_authority_is_changed_after_the_route_is_found()
{
	policy "$(mode REGISTRY_ONLY)" "$httpbin" "$(rules '{match: [{uri: {prefix: /head/rule}}], headers: {request: {set: {":authority": rule.example}}}, route: [{destination: {host: httpbin.example.com}, headers: {request: {set: {host: destination.example}}}}]}' \
		'{match: [{uri: {prefix: /head/rewrite}}], rewrite: {authority: rewrite.example}, route: [{destination: {host: httpbin.example.com}, headers: {request: {set: {host: destination.example}}}}]}' \
		'{route: [{destination: {host: httpbin.example.com}, headers: {request: {add: {Host: "destination.example:81"}}}}]}')"
	get 13 http://httpbin.example.com/head/rule
	expect '^[hH]ost: rule.example'
	get 13 http://httpbin.example.com/head/rewrite
	expect '^[hH]ost: rewrite.example'
	get 13 http://httpbin.example.com/head
	expect '^[hH]ost: destination.example:81'
	[[ $(grep -ci '^host:' <<<"$output") == 1 ]] || fail "one Host"
}

test_a_path_is_rewritten_by_a_pattern()
{
	policy "$(mode REGISTRY_ONLY)" "$httpbin" "$(rules '{match: [{uri: {regex: "/all/.*"}}], rewrite: {uri: /head}, route: [{destination: {host: httpbin.example.com}}]}' \
		'{rewrite: {uriRegexRewrite: {match: "^/service/([^/]+)(/.*)$", rewrite: "\\2?from=\\1"}}, route: [{destination: {host: httpbin.example.com}}]}')"
	get 13 'http://httpbin.example.com/service/foo/head?x'
	expect '^GET /head\?from=foo\?x HTTP/1.1'
	expect '^x-envoy-original-path: /service/foo/head\?x'
	get 13 'http://httpbin.example.com/all/of/it?x'
	expect '^GET /head\?x HTTP/1.1'
}

test_another_origin()
{
	policy "$(mode REGISTRY_ONLY)" "$httpbin" "$(rules "{corsPolicy: {allowOrigins: [{exact: 'http://foo.example'}, {regex: 'https://.*'}], allowMethods: [POST, GET], \
allowHeaders: [x-a], exposeHeaders: [x-b], maxAge: 300s, allowCredentials: true}, route: [{destination: {host: httpbin.example.com}}]}")"
	get 13 -i -X OPTIONS -H 'Origin: http://foo.example' -H 'Access-Control-Request-Method: POST' http://httpbin.example.com/head
	expect '^HTTP/1.1 200'
	expect '^server: sluice'
	expect '^access-control-allow-origin: http://foo.example'
	expect '^access-control-allow-methods: POST,GET'
	expect '^access-control-allow-headers: x-a'
	expect '^access-control-max-age: 300'
	expect '^access-control-allow-credentials: true'
	refuse 'OPTIONS /head'
	get 13 -i -H 'Origin: https://bar.example' http://httpbin.example.com/head
	expect '^GET /head'
	expect '^access-control-allow-origin: https://bar.example'
	expect '^access-control-expose-headers: x-b'
	get 13 -i -H 'Origin: http://bar.example' http://httpbin.example.com/head
	expect '^GET /head'
	refuse '^access-control'
	get 13 -i -X OPTIONS -H 'Origin: http://bar.example' -H 'Access-Control-Request-Method: POST' http://httpbin.example.com/head
	expect '^OPTIONS /head'
	policy "$(mode REGISTRY_ONLY)" "$httpbin" "$(rules "{corsPolicy: {allowOrigins: [{exact: 'http://foo.example'}], unmatchedPreflights: IGNORE}, \
fault: {abort: {httpStatus: 418, percentage: {value: 0}}}, route: [{destination: {host: httpbin.example.com}}]}")"
	get 13 -i -X OPTIONS -H 'Origin: http://bar.example' -H 'Access-Control-Request-Method: POST' http://httpbin.example.com/head
	expect '^HTTP/1.1 200'
	refuse '^access-control|^OPTIONS'
	# Envoy looks at the origin before it answers by itself
	policy "$(mode REGISTRY_ONLY)" "$httpbin" "$(rules "{match: [{uri: {prefix: /moved}}], corsPolicy: {allowOrigins: [{exact: 'http://foo.example'}], allowMethods: [GET]}, redirect: {uri: /new}}" \
		"{corsPolicy: {allowOrigins: [{exact: 'http://foo.example'}], allowMethods: [GET]}, directResponse: {status: 200, body: {string: done}}}")"
	for path in moved direct; do
		get 13 -i -X OPTIONS -H 'Origin: http://foo.example' -H 'Access-Control-Request-Method: GET' http://httpbin.example.com/$path
		expect '^HTTP/1.1 200'
		expect '^access-control-allow-origin: http://foo.example'
		expect '^access-control-allow-methods: GET'
		expect '^content-length: 0'
		get 13 -i -H 'Origin: http://foo.example' http://httpbin.example.com/$path
		expect '^HTTP/1.1 (301|200)'
		expect '^access-control-allow-origin: http://foo.example'
		refuse '^access-control-allow-methods'
		get 13 -i -H 'Origin: http://bar.example' http://httpbin.example.com/$path
		refuse '^access-control'
	done
}

# redirects REDIRECT LOCATION [STATUS]
redirects()
{
	policy "$(mode REGISTRY_ONLY)" "$httpbin" "$(rules "{redirect: $1}")"
	get 13 -o /dev/null -w '%{http_code} %{redirect_url}' 'http://httpbin.example.com:8080/old?a=b'
	[[ $output == "${3:-301} $2" ]] || fail "${3:-301} $2"
}

test_redirects()
{
	local code

	redirects '{scheme: https, authority: other.example, uri: /new}' 'https://other.example/new?a=b'
	redirects '{uri: /new}' 'http://httpbin.example.com:8080/new?a=b'
	redirects '{authority: other.example, redirectCode: 308}' 'http://other.example/old?a=b' 308
	redirects '{scheme: https, port: 8443}' 'https://httpbin.example.com:8443/old?a=b'
	redirects '{scheme: https, derivePort: FROM_PROTOCOL_DEFAULT}' 'https://httpbin.example.com:8080/old?a=b' # Envoy keeps what is not :80
	redirects '{derivePort: FROM_REQUEST_PORT, authority: other.example}' 'http://other.example:8080/old?a=b'
	for code in 302 303 307; do
		redirects "{uri: /new, redirectCode: $code}" 'http://httpbin.example.com:8080/new?a=b' $code
	done
}

test_a_redirect_is_an_answer_of_ours()
{
	policy "$(mode REGISTRY_ONLY)" "$httpbin" "$(rules '{redirect: {uri: /new}, headers: {response: {add: {x-a: b}}}}')"
	get 13 -i http://httpbin.example.com/old
	expect '^HTTP/1.1 301 Moved Permanently'
	expect '^location: http://httpbin.example.com/new'
	expect '^server: sluice'
	expect '^content-length: 0'
	expect '^x-a: b'
}

test_a_redirect_of_a_prefix()
{
	policy "$(mode REGISTRY_ONLY)" "$httpbin" "$(rules '{match: [{uri: {prefix: /old}}], redirect: {prefixRewrite: /new}}' '{directResponse: {status: 200}}')"
	get 13 -o /dev/null -w '%{http_code} %{redirect_url}' 'http://httpbin.example.com/old/x?y'
	expect '^301 http://httpbin.example.com/new/x\?y$'
}

delegate()
{
	printf -- '---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: team, namespace: other}\nspec:\n  http:\n'
	printf '  - %s\n' "$@"
}

test_a_rule_is_delegated()
{
	policy "$(mode REGISTRY_ONLY)" "$httpbin" "$(rules '{match: [{uri: {prefix: /team}}], rewrite: {uri: /head}, delegate: {name: team, namespace: other}}' \
		'{directResponse: {status: 200, body: {string: "rest"}}}')" \
		"$(delegate '{match: [{uri: {exact: /team/x}}], route: [{destination: {host: httpbin.example.com}}]}' \
			'{match: [{method: {exact: PUT}}], directResponse: {status: 200, body: {string: "team"}}}')"
	get 13 http://httpbin.example.com/team/x
	expect '^GET /head HTTP/1.1'
	says team /team/y -X PUT
	says rest /team/y
	says rest /else -X PUT
}

test_explain_names_the_rule()
{
	asks '{uri: {prefix: /a}, method: {exact: PUT}, headers: {x-a: {exact: one}}}'
	run node "$SLUICE" explain --config "$LAB_POLICIES" --namespace default -X PUT -H 'x-a: one' http://httpbin.example.com/a/b
	expect '^route +http\[0\] \(.*test.yaml:[0-9]+ VirtualService/vs\)'
	expect '^ +answer +200, '
	local first=$output
	run node "$SLUICE" explain --config "$LAB_POLICIES" --namespace default http://httpbin.example.com/a/b
	[[ $(grep '^route' <<<"$first") != $(grep '^route' <<<"$output") ]] || fail "another rule takes it"
	policy "$(mode REGISTRY_ONLY)" "$httpbin" "$(rules '{match: [{uri: {exact: /only}}], directResponse: {status: 200}}')"
	run node "$SLUICE" explain --config "$LAB_POLICIES" httpbin.example.com
	expect '^route +no rule of VirtualService/vs takes it: 404'
}

test_a_bad_match_is_refused_with_its_place()
{
	bad_policy "$(mode REGISTRY_ONLY)" "$httpbin" "$(rules '{match: [{uri: {regex: "(a)\\1"}}], directResponse: {status: 200}}')"
	[[ $(lab_last_error) == *'spec.http[0].match[0].uri.regex: '*'backreference'* ]] || fail "$(lab_last_error)"
	bad_policy "$(mode REGISTRY_ONLY)" "$httpbin" "$(rules '{match: [{headers: {x-a: null}}], directResponse: {status: 200}}')"
	[[ $(lab_last_error) == *'match[0].headers.x-a: must not be null'* ]] || fail "$(lab_last_error)"
}

run_story
