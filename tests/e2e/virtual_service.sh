#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A VirtualService: delays, aborts and routes for the requests to a registered host.
. "$(dirname "$0")/common.bash"

aliyun=$(service www.aliyun.com 80/HTTP 443/HTTPS)
httpbin=$(service httpbin.example.com 80/HTTP)

# A VirtualService for HOST whose first rule has these lines: routes HOST DESTINATION LINE...
routes()
{
	printf -- '---\napiVersion: networking.istio.io/v1alpha3\nkind: VirtualService\nmetadata: {name: vs}\nspec:\n'
	printf '  hosts: ["%s"]\n  http:\n  - route:\n    - destination: {host: %s}\n      weight: 100\n' "$1" "$2"
	(($# == 2)) || printf '    %s\n' "${@:3}"
}

test_a_delay_by_percentage()
{
	policy "$(mode ALLOW_ANY)" "$aliyun" \
		"$(routes www.aliyun.com www.aliyun.com 'fault: {delay: {percentage: {value: 100}, fixedDelay: 0.5s}}')"
	get 10 -o /dev/null -w '%{http_code} elapsed=%{time_total}' http://www.aliyun.com/
	expect '^301 elapsed=0\.[56]'
}

test_a_delay_without_percent_never_happens()
{
	policy "$(mode ALLOW_ANY)" "$aliyun" \
		"$(routes www.aliyun.com www.aliyun.com 'fault: {delay: {fixedDelay: 3s}}')"
	get 10 -o /dev/null -w '%{http_code} elapsed=%{time_total}' http://www.aliyun.com/
	expect '^301 elapsed=0\.[0-4]'
}

test_delayed_requests_do_not_wait_for_each_other()
{
	policy "$(mode REGISTRY_ONLY)" "$aliyun" \
		"$(routes www.aliyun.com www.aliyun.com 'fault: {delay: {percent: 100, fixedDelay: 1s}}')"
	run web "$TOOLS/hammer" -n 60 -s 0.5 http 203.0.113.10 80 www.aliyun.com
	expect '^60 http-301'
	expect '^max_ms=1[0-4][0-9][0-9]$'
}

test_each_request_of_a_connection_is_delayed()
{
	policy "$(mode REGISTRY_ONLY)" "$aliyun" \
		"$(routes www.aliyun.com www.aliyun.com 'fault: {delay: {percent: 100, fixedDelay: 300ms}}')"
	raw 10 80 'GET / HTTP/1.1\r\nHost: www.aliyun.com\r\n\r\nGET / HTTP/1.1\r\nHost: www.aliyun.com\r\nConnection: close\r\n\r\n'
	expect_count 2 '^HTTP/1.1 301'
	expect_time 600 1200
}

test_headers_of_a_route()
{
	policy "$(mode REGISTRY_ONLY)" "$aliyun" "$(routes www.aliyun.com www.aliyun.com 'headers: {response: {set: {server: hidden}, add: {x-more: "1"}, remove: [location]}}')"
	get 10 -i http://www.aliyun.com/
	expect '^HTTP/1.1 301'
	expect '^server: hidden'
	expect '^x-more: 1'
	refuse '^[Ll]ocation:'
}

test_a_client_that_leaves_during_the_delay_is_forgotten()
{
	policy "$(mode REGISTRY_ONLY)" "$aliyun" \
		"$(routes www.aliyun.com www.aliyun.com 'fault: {delay: {percent: 100, fixedDelay: 30s}}')"
	get 10 -m 0.3 http://www.aliyun.com/
	expect_status 28
	policy "$(mode REGISTRY_ONLY)" "$aliyun"
	get 10 -I http://www.aliyun.com/
	expect '^HTTP/1.1 301'
}

family_an_abort_answers_in_place_of_the_server()
{
	policy "$(mode REGISTRY_ONLY)" "$aliyun" \
		"$(routes www.aliyun.com www.aliyun.com 'fault: {abort: {httpStatus: 418, percentage: {value: 100}}}')"
	get 10 -i http://www.aliyun.com/
	expect '^HTTP/1.1 418'
	expect '^server: sluice'
	expect 'fault filter abort'
	refuse 'x-envoy-upstream-service-time'
}

test_delay_comes_before_abort()
{
	policy "$(mode REGISTRY_ONLY)" "$aliyun" "$(routes www.aliyun.com www.aliyun.com \
		'fault: {delay: {percent: 100, fixedDelay: 400ms}, abort: {httpStatus: 503, percentage: {value: 100}}}')"
	get 10 -o /dev/null -w '%{http_code} elapsed=%{time_total}' http://www.aliyun.com/
	expect '^503 elapsed=0\.[4-6]'
}

test_requests_are_routed_to_another_registered_host()
{
	policy "$(mode REGISTRY_ONLY)" "$aliyun" "$httpbin" "$(routes www.aliyun.com httpbin.example.com)"
	get 10 http://www.aliyun.com/head
	expect '^GET /head HTTP/1.1'
	expect '^[hH]ost: www.aliyun.com'
}

test_faults_apply_under_allow_any_whatever_address_was_dialled()
{
	policy "$(mode ALLOW_ANY)" "$aliyun" \
		"$(routes www.aliyun.com www.aliyun.com 'fault: {abort: {httpStatus: 418, percentage: {value: 100}}}')"
	get 11 -o /dev/null -w '%{http_code}' http://www.aliyun.com/
	expect '^418'
	get 11 http://www.unregistered.com/
	expect 'this is www.unregistered.com'
}

test_http_routes_do_not_touch_https()
{
	policy "$(mode REGISTRY_ONLY)" "$aliyun" \
		"$(routes www.aliyun.com www.aliyun.com 'fault: {abort: {httpStatus: 418, percentage: {value: 100}}}')"
	get 10 -I https://www.aliyun.com/
	expect '^HTTP/2 200'
}

run_story
