#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# HTTP/2 and gRPC: clients and servers of either version, and the rules of HTTP for both.
. "$(dirname "$0")/common.bash"

# nginx speaks HTTP/2 with prior knowledge on 7200, HTTP/1.1 on 7201; behind both the same answers.
nginx_conf()
{
	cat <<-END
		daemon off;
		worker_processes 1;
		pid $scratch/nginx.pid;
		error_log $scratch/nginx-error.log;
		events { worker_connections 1024; }
		http {
			access_log off;
			client_body_temp_path $scratch/body;
			client_max_body_size 100m;
			http2_max_concurrent_streams 128;
			server {
				listen 203.0.113.13:7200 http2;
				listen 203.0.113.13:7201;
				root $scratch/www;
				location /who { return 200 "\$server_protocol \$http_host \$http_x_envoy_attempt_count\n"; }
				location /status/503 { return 503 "busy\n"; }
			}
		}
	END
}

grpc=$(service grpc.example.com 7202/GRPC 'resolution: STATIC' 'endpoints: [{address: 203.0.113.13}]')

serves()
{
	lab_in internet ss -Hltn "sport = :$1" | grep -q .
}

start_servers()
{
	serves 7200 && return
	mkdir -p "$scratch/www"
	chmod 755 "$LAB" "$scratch" "$scratch/www" 2>/dev/null
	head -c 20000000 /dev/urandom >"$scratch/www/big"
	nginx_conf >"$scratch/nginx.conf"
	background nginx internet nginx -c "$scratch/nginx.conf" -e "$scratch/nginx-error.log"
	eventually serves 7200
}

h2=$(service h2.example.com 7200/HTTP2 'resolution: STATIC' 'endpoints: [{address: 203.0.113.13}]')
h1=$(service h1.example.com 7201/HTTP 'resolution: STATIC' 'endpoints: [{address: 203.0.113.13}]')

# pool HOST SETTING: a DestinationRule
pool()
{
	printf -- '---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: dr}\nspec:\n'
	printf '  host: %s\n  trafficPolicy: {connectionPool: {http: {%s}}}\n' "$1" "$2"
}

# traffic POLICY: of grpc.example.com
traffic()
{
	printf -- '---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: dr}\nspec:\n'
	printf '  host: grpc.example.com\n  trafficPolicy: {%s}\n' "$1"
}

# A VirtualService for HOST with one rule: rule HOST FIELDS
rule()
{
	printf -- '---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: vs}\nspec:\n'
	printf '  hosts: [%s]\n  http:\n  - {%s, route: [{destination: {host: %s}}]}\n' "$1" "$2" "$1"
}

start_grpc()
{
	serves 7202 && return
	background grpc internet node "$ROOT/tests/e2e/grpc.js" serve 203.0.113.13 7202
	eventually serves 7202
}

# call WHAT PATH [MORE...]: of tests/e2e/grpc.js, from the pod to grpc.example.com
call()
{
	run web timeout 9 node "$ROOT/tests/e2e/grpc.js" "$1" 203.0.113.13 7202 "${host:-grpc.example.com}" "${@:2}"
}

test_clients_and_servers_of_either_version()
{
	start_servers
	policy "$(mode REGISTRY_ONLY)" "$h2" "$h1"
	get 13 --http2-prior-knowledge -i http://h2.example.com:7200/who
	expect '^HTTP/2 200'
	expect '^x-envoy-upstream-service-time: '
	expect '^HTTP/2.0 h2.example.com:7200 1$'
	get 13 http://h2.example.com:7200/who
	expect '^HTTP/2.0 h2.example.com:7200 1$'
	get 13 --http2-prior-knowledge -i http://h1.example.com:7201/who
	expect '^HTTP/2 200'
	expect '^HTTP/1.1 h1.example.com:7201 1$'
	get 13 --http2 -i http://h1.example.com:7201/who
	expect '^HTTP/1.1 101 '
	expect '^HTTP/2 200'
	expect '^HTTP/1.1 h1.example.com:7201 1$'
	get 13 --http2 -i http://h2.example.com:7200/who
	expect '^HTTP/2 200'
	expect '^HTTP/2.0 h2'
}

test_a_host_that_nobody_registers()
{
	start_servers
	policy "$(mode REGISTRY_ONLY)" "$h2" "$grpc"
	get 13 --http2-prior-knowledge -i http://other.example.com:7200/who
	expect '^HTTP/2 502'
	expect '^sluice: blocked other.example.com'
	host=other.example.com call call /x
	expect '^head :status: 200'
	expect '^head grpc-status: 14'
	expect '^head grpc-message: sluice: blocked other.example.com'
	refuse '^trailer'
	policy "$(mode ALLOW_ANY)" "$h2" "$(rule h2.example.com 'timeout: 9s')"
	get 13 --http2-prior-knowledge http://other.example.com:7200/who
	expect '^HTTP/2.0 other.example.com:7200 $'
}

test_which_version_a_rule_wants_for_the_server()
{
	start_servers
	policy "$(mode REGISTRY_ONLY)" "$(service h1.example.com 7200/HTTP 'resolution: STATIC' 'endpoints: [{address: 203.0.113.13}]')" \
		"$(pool h1.example.com 'h2UpgradePolicy: UPGRADE')"
	get 13 http://h1.example.com:7200/who
	expect '^HTTP/2.0 h1'
	policy "$(mode REGISTRY_ONLY)" "$h1" "$(pool h1.example.com 'useClientProtocol: true')"
	get 13 http://h1.example.com:7201/who
	expect '^HTTP/1.1 h1'
	get 13 --http2-prior-knowledge -w '%{http_code}' http://h1.example.com:7201/who
	expect '502$|503$'
	policy "$(mode REGISTRY_ONLY)" "$(service h2.example.com 7200/ 'resolution: STATIC' 'addresses: [203.0.113.13]' 'endpoints: [{address: 203.0.113.13}]' |
		sed 's/, protocol: //')"
	get 13 --http2-prior-knowledge http://h2.example.com:7200/who
	expect '^HTTP/2.0 h2'
}

test_long_bodies_both_ways()
{
	local sum

	start_servers
	start_grpc
	policy "$(mode REGISTRY_ONLY)" "$h2" "$h1" "$grpc"
	sum=$(sha256sum <"$scratch/www/big")
	run web sh -c "curl -sS -m 8 --limit-rate 30M --http2-prior-knowledge --resolve h2.example.com:7200:203.0.113.13 http://h2.example.com:7200/big | sha256sum"
	[[ $output == "$sum" ]] || fail "the file as it is: $sum"
	run web sh -c "curl -sS -m 8 --http2-prior-knowledge --resolve h1.example.com:7201:203.0.113.13 http://h1.example.com:7201/big | sha256sum"
	[[ $output == "$sum" ]] || fail "the file as it is: $sum"
	run web sh -c "curl -sS -m 8 --resolve h2.example.com:7200:203.0.113.13 http://h2.example.com:7200/big | sha256sum"
	[[ $output == "$sum" ]] || fail "the file as it is: $sum"
	get 13 --http2-prior-knowledge --data-binary "@$scratch/www/big" -H 'content-type: application/grpc' http://grpc.example.com:7202/size
	expect 'size 20000000'
	call many /size 4 3000000
	expect '^good 4 of 4'
}

test_calls_and_streams_of_grpc()
{
	start_grpc
	policy "$(mode REGISTRY_ONLY)" "$grpc"
	call call /x
	expect '^message x attempt 1 te trailers'
	expect '^trailer grpc-status: 0'
	expect '^end 0'
	call chat /echo
	expect '^message one'
	expect '^message three'
	expect '^trailer x-attempt: 1'
	call many /echo 100
	expect '^good 100 of 100'
	call cancel /open
	expect '^message begun'
	eventually was_cancelled
}

was_cancelled()
{
	call call /seen
	[[ $output == *'open 8'* ]]
}

test_one_session_for_the_streams_of_a_client()
{
	start_grpc
	policy "$(mode REGISTRY_ONLY)" "$grpc"
	call many /echo 100
	expect '^good 100 of 100'
	output=$(<"$scratch/grpc")
	expect_count 1 '^sessions'
}

test_tries_of_grpc()
{
	start_grpc
	policy "$(mode REGISTRY_ONLY)" "$grpc"
	call call /status/14/2
	expect '^message status attempt 3 '
	expect '^trailer grpc-status: 0'
	call call /status/8/1
	expect '^head grpc-status: 8'
	call call /refuse/1
	expect '^message refuse attempt 2 '
	policy "$(mode REGISTRY_ONLY)" "$grpc" "$(rule grpc.example.com 'retries: {attempts: 1, retryOn: "resource-exhausted"}')"
	call call /status/8/1/again
	expect '^message status attempt 2 '
	call call /status/14/1/again
	expect '^head grpc-status: 14'
}

test_faults_and_timeouts_of_grpc()
{
	start_grpc
	policy "$(mode REGISTRY_ONLY)" "$grpc" "$(rule grpc.example.com 'fault: {abort: {grpcStatus: RESOURCE_EXHAUSTED, percentage: {value: 100}}}')"
	call call /x
	expect '^head grpc-status: 8'
	expect '^head grpc-message: fault filter abort'
	expect '^end 0'
	policy "$(mode REGISTRY_ONLY)" "$grpc" "$(rule grpc.example.com 'timeout: 300ms')"
	call call /late
	expect '^head grpc-status: 14'
	expect '^head grpc-message: upstream request timeout'
	policy "$(mode REGISTRY_ONLY)" "$grpc" "$(rule grpc.example.com 'timeout: 5s, fault: {delay: {fixedDelay: 400ms, percentage: {value: 100}}}')"
	call call /x
	expect '^message x attempt 1'
	((elapsed_ms >= 400)) || fail "the delay"
	call call /late grpc-timeout=200m
	expect '^head grpc-status: 14'
}

# Envoy's flag is another one than that of a connection that failed or ended; a gRPC client's answer has the status 200.
test_a_stream_that_the_server_resets()
{
	local log=$scratch/access.log

	start_grpc
	policy "$(mode REGISTRY_ONLY)" "$grpc" "---
apiVersion: install.istio.io/v1alpha1
kind: IstioOperator
metadata: {name: installed}
spec: {meshConfig: {accessLogFile: $log, accessLogFormat: '%PROTOCOL% %RESPONSE_CODE% %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS%'}}"
	get 13 --http2-prior-knowledge http://grpc.example.com:7202/reset
	expect '^upstream connect error or disconnect/reset before headers. reset reason: remote reset'
	call call /reset
	expect '^head grpc-status: 14'
	eventually grep -q '^HTTP/2 200 UR ' "$log"
	output=$(<"$log")
	expect '^HTTP/2 503 UR upstream_reset_before_response_started\{remote_reset\}$'
	expect '^HTTP/2 200 UR upstream_reset_before_response_started\{remote_reset\}$'
}

sessions()
{
	grep -c '^sessions' "$scratch/grpc"
}

test_limits_count_sessions_and_streams()
{
	local before

	start_grpc
	policy "$(mode REGISTRY_ONLY)" "$grpc" "$(traffic 'connectionPool: {tcp: {maxConnections: 1}, http: {http1MaxPendingRequests: 1}}')"
	before=$(sessions)
	call many /echo 100
	expect '^good 100 of 100'
	(($(sessions) == before + 1)) || fail "one session more than $before, not $(sessions)"
	call many /echo 100
	expect '^good 100 of 100'
	policy "$(mode REGISTRY_ONLY)" "$grpc" "$(traffic 'connectionPool: {http: {http2MaxRequests: 10}}')"
	call many /late 12
	expect '^good 10 of 12'
}

test_a_server_of_grpc_is_ejected()
{
	start_grpc
	policy "$(mode REGISTRY_ONLY)" "$grpc" "$(rule grpc.example.com 'retries: {attempts: 0}')" \
		"$(traffic 'outlierDetection: {consecutive5xxErrors: 2, interval: 100ms, baseEjectionTime: 1s, maxEjectionPercent: 100}')"
	call call /trailer/5
	call call /trailer/14
	call call /trailer/14
	expect '^trailer grpc-status: 14'
	call call /trailer/0
	expect '^head grpc-message: no healthy upstream'
	sleep 1.3
	call call /trailer/0
	expect '^trailer grpc-status: 0'
}

test_a_length_and_a_trailer()
{
	start_grpc
	policy "$(mode REGISTRY_ONLY)" "$grpc"
	call call /length content-type=text/plain content-length=10
	expect '^head content-length: 4'
	expect '^trailer x-asked: 10'
	expect '^end 0'
}

test_a_server_that_says_goodbye()
{
	start_grpc
	policy "$(mode REGISTRY_ONLY)" "$grpc"
	call call /goaway
	expect '^message goodbye'
	expect '^trailer grpc-status: 0'
	call call /x
	expect '^trailer grpc-status: 0'
}

run_story
