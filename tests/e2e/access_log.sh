#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The access log (MeshConfig accessLogFile, accessLogFormat, accessLogEncoding): ISTIO.md §2.2 and §2.4 by real requests.
. "$(dirname "$0")/common.bash"

log=$scratch/access.log
registry=$(mode REGISTRY_ONLY && service httpbin.example.com 80/HTTP && service www.aliyun.com 443/HTTPS)
time='\[20[0-9-]{8}T[0-9:]{8}\.[0-9]{3}Z\]'
uuid='[0-9a-f-]{36}'
local='127\.0\.0\.1:[0-9]+'
pod='10\.88\.0\.2:[0-9]+'

# The log's settings: to FILE [FIELD...]
to()
{
	printf -- '---\napiVersion: install.istio.io/v1alpha1\nkind: IstioOperator\nmetadata: {name: installed}\nspec:\n  meshConfig:\n'
	printf '    %s\n' "accessLogFile: $1" "${@:2}"
}

rules()
{
	printf -- '---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: vs}\nspec:\n  hosts: [httpbin.example.com]\n  http:\n'
	printf '  - %s\n' "$@"
}

# What the log has got, once it has a line like /$1/.
expect_logged()
{
	command="cat $log"
	lab_wait 3 grep -qE -- "$1" "$log"
	output=$(<"$log")
	expect "$1"
	: >"$log"
}

to_httpbin='route: [{destination: {host: httpbin.example.com}}]'

test_lines_of_requests()
{
	policy "$(to "$log")" "$registry" "$(rules "{name: aborted, match: [{uri: {prefix: /abort}}], fault: {abort: {httpStatus: 418, percentage: {value: 100}}, delay: {fixedDelay: 300ms, percentage: {value: 100}}}, $to_httpbin}" \
		"{name: hurried, match: [{uri: {prefix: /slow}}], timeout: 200ms, $to_httpbin}" \
		"{name: again, match: [{uri: {prefix: /status}}], retries: {attempts: 1, retryOn: 5xx}, $to_httpbin}" \
		"{name: main, match: [{uri: {prefix: /head}}], $to_httpbin}")"
	get 13 -A curl/8 http://httpbin.example.com/head
	expect_logged "^$time \"GET /head HTTP/1\.1\" 200 - via_upstream - \"-\" 0 [0-9]+ [0-9]+ [0-9]+ \"-\" \"curl/8\" \"$uuid\" \"httpbin\.example\.com\" \"203\.0\.113\.13:80\" outbound\|80\|\|httpbin\.example\.com $pod 203\.0\.113\.13:80 $local - main\$"
	get 13 -A curl/8 http://foo.com/
	expect_logged "^$time \"GET / HTTP/1\.1\" 502 - direct_response - \"-\" 0 [0-9]+ [0-9]+ - \"-\" \"curl/8\" \"-\" \"foo\.com\" \"-\" - - 203\.0\.113\.13:80 $local - block_all\$"
	get 13 http://httpbin.example.com/abort
	expect_logged '"GET /abort HTTP/1\.1" 418 DI,FI fault_filter_abort - "-" 0 18 3[0-9]{2} - .* - aborted$'
	get 13 http://httpbin.example.com/slow/1000
	expect_logged '"GET /slow/1000 HTTP/1\.1" 504 UT response_timeout - "-" 0 24 (199|2[0-9]{2}) - .* - hurried$'
	get 13 http://httpbin.example.com/status/503
	expect_logged '"GET /status/503 HTTP/1\.1" 503 URX via_upstream - .* - again$'
	get 13 http://httpbin.example.com/other
	expect_logged '"GET /other HTTP/1\.1" 404 NR route_not_found - "-" 0 0 .* "-" - - 203\.0\.113\.13:80 .* - -$'
	raw 13 80 'GET / HTTP/1.1\r\nHost: a b\r\n\r\n'
	expect_logged "^$time \"- - HTTP/1\.1\" 400 DPE http1\.codec_error - "
	policy "$(to "$log")" "$(mode REGISTRY_ONLY)" "$(service refused.example.com 80/HTTP/1 'resolution: STATIC' 'endpoints: [{address: 203.0.113.12}]')"
	get 12 http://refused.example.com/
	expect_logged '503 UF,URX upstream_reset_before_response_started\{remote_connection_failure\|delayed_connect_error:_Connection_refused\} - "delayed_connect_error:_Connection_refused" .* "203\.0\.113\.12:1" outbound\|80\|\|refused\.example\.com - '
}

# Istio: the rule's name and its match's; a rule without one is nameless.
test_names_of_rules()
{
	policy "$(to "$log" "accessLogFormat: '%REQ(:PATH)% is %ROUTE_NAME%.'")" "$registry" "$(rules \
		"{name: main, match: [{name: first, uri: {prefix: /a}}, {uri: {prefix: /b}}], $to_httpbin}" \
		"{match: [{name: second, uri: {prefix: /c}}], $to_httpbin}" "{match: [{uri: {prefix: /d}}], $to_httpbin}")"
	get 13 http://httpbin.example.com/a
	expect_logged '^/a is main\.first\.$'
	get 13 http://httpbin.example.com/b
	expect_logged '^/b is main\.$'
	get 13 http://httpbin.example.com/c
	expect_logged '^/c is \.second\.$'
	get 13 http://httpbin.example.com/d
	expect_logged '^/d is -\.$'
	policy "$(to "$log" "accessLogFormat: '%REQ(:PATH)% is %ROUTE_NAME%.'")" "$registry"
	get 13 http://httpbin.example.com/e
	expect_logged '^/e is default\.$'
}

test_lines_of_connections()
{
	policy "$(to "$log")" "$registry"
	get 10 -k -o /dev/null https://www.aliyun.com/
	expect_logged "^$time \"- - -\" 0 - - - \"-\" [1-9][0-9]{2,} [1-9][0-9]{2,} [0-9]+ - \"-\" \"-\" \"-\" \"-\" \"203\.0\.113\.10:443\" outbound\|443\|\|www\.aliyun\.com $pod 203\.0\.113\.10:443 $local www\.aliyun\.com -\$"
	get 11 -k https://www.unregistered.com/
	expect_status 35
	expect_logged "^$time \"- - -\" 0 UH - - \"-\" 0 0 [0-9]+ - \"-\" \"-\" \"-\" \"-\" \"-\" BlackHoleCluster - 203\.0\.113\.11:443 $local www\.unregistered\.com -\$"
}

test_objects()
{
	policy "$(to "$log" 'accessLogEncoding: JSON')" "$registry"
	get 13 http://httpbin.example.com/head
	expect_logged '^\{"authority":"httpbin\.example\.com","bytes_received":0,"bytes_sent":[0-9]+,"connection_termination_details":null,"downstream_local_address":"203\.0\.113\.13:80",.*"response_code":200,"response_code_details":"via_upstream","response_flags":"-","route_name":"default",.*"x_forwarded_for":null\}$'
	policy "$(to "$log" 'accessLogEncoding: JSON' "accessLogFormat: '{\"who\": \"%HOSTNAME%\", \"code\": \"%RESPONSE_CODE%\"}'")" "$registry"
	get 13 http://httpbin.example.com/head
	expect_logged '^\{"code":200,"who":"web"\}$'
	policy "$(to "$log" 'accessLogEncoding: JSON' "accessLogFormat: '{\"z\": [\"%PROTOCOL%\", 1.5, null], \"at\": {\"to\": {}, \"code\": \"%RESPONSE_CODE%\", \"100%%\": true, \"by\": \"<%REQ(:METHOD):2%>\"}}'")" "$registry"
	get 13 http://httpbin.example.com/head
	expect_logged '^\{"at":\{"100%%":true,"by":"<GE>","code":200,"to":\{\}\},"z":\["HTTP/1\.1",1\.5,null\]\}$'
}

test_a_client_cannot_write_lines_of_its_own()
{
	policy "$(to "$log" "accessLogFormat: '\"%REQ(USER-AGENT)%\" %REQ(:PATH)%'")" "$registry"
	get 13 -A $'a" 200\\\t\xff' http://httpbin.example.com/head
	expect_logged '^"a\\x22 200\\x5c\\x09\\xff" /head$'
	raw 13 80 'GET /head HTTP/1.1\r\nHost: httpbin.example.com\r\nUser-Agent: a\n"b" /forged\r\n\r\n'
	expect '^HTTP/1.1 400'
	expect_logged '^"-" -$'
	[[ $output != *forged* ]] || fail "no line of the client's own"
}

test_a_configuration_whose_log_cannot_be_opened_is_refused()
{
	policy "$(to "$log")" "$registry"
	bad_policy "$(to /nowhere/access.log)" "$registry"
	command='sluice status' output=$(lab_last_error)
	expect 'test.yaml:7:20: IstioOperator/installed: spec.meshConfig.accessLogFile: \\"/nowhere/access.log\\": cannot be opened: No such file or directory; kept generation'
	get 13 http://httpbin.example.com/head
	expect_logged ' 200 - via_upstream '
}

test_a_log_is_rotated_with_sighup()
{
	local generation

	policy "$(to "$log")" "$registry"
	get 13 http://httpbin.example.com/head
	eventually grep -q ' 200 ' "$log"
	mv "$log" "$log.1"
	generation=$(lab_status_number generation)
	kill -HUP "$(lab_sluice_pid)"
	eventually test -e "$log"
	lab_wait 5 lab_config_seen "$generation" "$(lab_status_number config_errors)"
	get 13 http://httpbin.example.com/status/201
	expect_logged ' 201 - via_upstream '
	[[ $(wc -l <"$log.1") == 1 ]] || fail "the rotated file is left alone"
	[[ $(stat -c %a "$log") == 640 ]] || fail "for nobody else to read"
}

test_standard_output()
{
	policy "$(to /dev/stdout "accessLogFormat: 'to standard output: %RESPONSE_CODE%'")" "$registry"
	get 13 http://httpbin.example.com/head
	eventually grep -q '^to standard output: 200$' "$LAB_LOG"
}

# A redirector that was restarted is given it again.
test_after_a_restart_of_the_redirector()
{
	local pid

	policy "$(to "$log")" "$registry"
	pid=$(redirector_pid)
	kill -KILL "$pid"
	lab_wait 5 another_redirector "$pid" || fail "another redirector"
	: >"$log"
	get 13 --retry 5 --retry-all-errors http://httpbin.example.com/head
	expect_logged ' 200 - via_upstream '
}

another_redirector()
{
	local pid

	pid=$(redirector_pid)
	[[ -n $pid && $pid != 0 && $pid != "$1" ]]
}

test_a_full_pipe_stops_nobody()
{
	local pipe=$scratch/pipe long lost

	mkfifo "$pipe"
	sleep 60 <>"$pipe" &
	background_pids+=($!)
	long=$(printf 'x%.0s' {1..900})
	lost=$(metric sluice_redirector_access_log_lost_total)
	policy "$(to "$pipe" "accessLogFormat: '$long %RESPONSE_CODE%'")" "$registry"
	get 13 -o /dev/null -w '%{http_code}\n' 'http://httpbin.example.com/head?[1-120]'
	expect_count 120 '^200$'
	((elapsed_ms < 4000)) || fail "nobody waits for the log: $elapsed_ms ms"
	(($(settled_metric sluice_redirector_access_log_lost_total) > lost + 20)) || fail "lines that were lost are counted"
}

run_story
