#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# retries of a VirtualService: what is tried again, how often, and what never is.
. "$(dirname "$0")/common.bash"

service=$(service httpbin.example.com 7300/HTTP)

# /ACTION/N does it to the first N requests for that path, whose later ones get 200; it tells what attempt each was.
read -r -d '' server <<'END'
import http.server, socketserver, time
seen = {}
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def answer(self):
        _, action, times = self.path.split("/")[:3]
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        while self.headers.get("transfer-encoding") and (size := int(self.rfile.readline(), 16)):
            body += self.rfile.read(size)
            self.rfile.readline()
        told = self.headers.get("x-envoy-expected-rq-timeout-ms")
        seen.setdefault(self.path, []).append(self.headers.get("x-envoy-attempt-count", "-") + ("/" + told if told else ""))
        status = 200
        if len(seen[self.path]) <= int(times):
            if action == "close":
                self.close_connection = True
                return
            if action == "sleep":
                time.sleep(1)
            elif action == "nap":
                time.sleep(0.5)
                status = 503
            elif action != "ok":
                status = int(action)
        shown = body.decode() if len(body) < 100 else "of %d %s" % (len(body), set(body.decode()))
        text = "attempts %s body %s\n" % (",".join(seen[self.path]), shown)
        self.send_response(status)
        self.send_header("content-length", str(len(text)))
        self.send_header("x-envoy-upstream-service-time", "7777")
        if "limited" in self.path or status == 429:
            self.send_header("x-envoy-ratelimited", "true")
        self.end_headers()
        self.wfile.write(text.encode())
    do_GET = do_POST = answer
    def log_message(self, *args):
        pass
class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
    daemon_threads = True
    allow_reuse_address = True
Server(("203.0.113.13", 7300), Handler).serve_forever()
END

# retries LINE: of a rule for httpbin.example.com.
retries()
{
	policy "$(mode REGISTRY_ONLY)" "$service" "---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: vs}
spec:
  hosts: [httpbin.example.com]
  http:
  - {$1, route: [{destination: {host: httpbin.example.com}}]}"
}

serves()
{
	lab_in internet ss -Hltn 'sport = :7300' | grep -q .
}

# get_from PATH [OPTION OF curl...]: from a server that is new
get_from()
{
	background server internet python3 -c "$server"
	eventually serves
	get 13 -w '%{http_code} %{time_total}' "${@:2}" "http://httpbin.example.com:7300$1"
}

test_a_status_is_tried_again_as_often_as_the_rule_says()
{
	retries 'retries: {attempts: 3, retryOn: 5xx}'
	get_from /503/3
	expect '^attempts 1,2,3,4 '
	expect '^200'
	get 13 -w '%{http_code}' http://httpbin.example.com:7300/503/4
	expect '^attempts 1,2,3,4 '
	expect '^503'
	get 13 http://httpbin.example.com:7300/404/1
	expect '^attempts 1 '
}

test_the_statuses_of_each_condition()
{
	retries 'retries: {attempts: 1, retryOn: "gateway-error,retriable-4xx,envoy-ratelimited"}'
	get_from /502/1
	expect '^attempts 1,2 '
	get 13 http://httpbin.example.com:7300/500/1
	expect '^attempts 1 '
	get 13 http://httpbin.example.com:7300/409/1
	expect '^attempts 1,2 '
	get 13 http://httpbin.example.com:7300/429/1
	expect '^attempts 1,2 '
	retries 'retries: {attempts: 1, retryOn: "418,reset"}'
	get 13 http://httpbin.example.com:7300/418/1
	expect '^attempts 1,2 '
	get 13 http://httpbin.example.com:7300/503/1
	expect '^attempts 1 '
}

test_the_time_of_a_proxy_before_the_server_is_not_ours()
{
	policy "$(mode REGISTRY_ONLY)" "$service"
	get_from /ok/0 -i
	expect_count 1 '^x-envoy-upstream-service-time: '
	refuse 7777
}

# Envoy: only envoy-ratelimited tries such an answer again.
test_an_answer_that_is_rate_limited()
{
	retries 'retries: {attempts: 1, retryOn: "5xx,418"}'
	get_from /503/1/limited
	expect '^attempts 1 '
	get 13 http://httpbin.example.com:7300/418/1/limited
	expect '^attempts 1 '
	retries 'retries: {attempts: 1, retryOn: "5xx,envoy-ratelimited"}'
	get 13 http://httpbin.example.com:7300/503/1/limited/again
	expect '^attempts 1,2 '
}

# Each try is told what is left of the rule's time.
test_what_the_server_is_told_of_the_time()
{
	retries 'timeout: 5s, retries: {attempts: 2, perTryTimeout: 300ms, retryOn: 5xx}'
	get_from /sleep/2
	expect '^attempts 1/300,2/300,3/300 '
	retries 'timeout: 1400ms, retries: {attempts: 1, perTryTimeout: 1200ms, retryOn: 5xx, backoff: 1ms}'
	get 13 http://httpbin.example.com:7300/nap/1
	expect '^attempts 1/1200,2/([5-9][0-9]{2}|1000) '
	retries 'retries: {attempts: 1, retryOn: 5xx}'
	get 13 http://httpbin.example.com:7300/503/1/none
	expect '^attempts 1,2 '
}

test_a_server_that_closes()
{
	retries 'retries: {attempts: 2, retryOn: reset}'
	get_from /close/2
	expect '^attempts 1,2,3 '
	expect '^200'
	retries 'retries: {attempts: 0}'
	get 13 -w '%{http_code}' http://httpbin.example.com:7300/close/1?other
	expect 'reset reason: connection termination503'
	refuse 'retried'
}

test_by_default_only_a_failed_connection_is_tried_again()
{
	policy "$(mode REGISTRY_ONLY)" "$service"
	get_from /503/1
	expect '^attempts 1 '
	get 13 -w '%{http_code}' http://httpbin.example.com:7300/close/1
	expect '503$'
	end_background
	sleep 0.2
	get 13 -w ' %{http_code}' http://httpbin.example.com:7300/ok/0
	expect 'retried and the latest reset reason: remote connection failure, .*Connection refused 503$'
	expect_time 0 1500
}

test_a_try_has_its_own_time()
{
	retries 'retries: {attempts: 2, perTryTimeout: 300ms, retryOn: 5xx}'
	get_from /sleep/2
	expect '^attempts 1/300,2/300,3/300 '
	expect '^200 0\.[6-9]|^200 1\.[0-2]'
	retries 'retries: {attempts: 1, perTryTimeout: 300ms, retryOn: 5xx}'
	get 13 -w ' %{http_code}' http://httpbin.example.com:7300/sleep/5
	expect '^upstream request timeout 504$'
	expect_time 600 1500
	retries 'timeout: 500ms, retries: {attempts: 5, perTryTimeout: 300ms, retryOn: 5xx}'
	get 13 -w ' %{http_code}' http://httpbin.example.com:7300/sleep/6
	expect '^upstream request timeout 504$'
	expect_time 500 1000
}

test_a_body_is_sent_again()
{
	retries 'retries: {attempts: 3, retryOn: "5xx,reset"}'
	get_from /503/2 -d 'some body'
	expect '^attempts 1,2,3 body some body$'
	expect '^200'
	get 13 -d 'some body' http://httpbin.example.com:7300/close/1
	expect '^attempts 1,2 body some body$'
	head -c 40000 /dev/zero | tr '\0' b >"$scratch/body"
	get 13 -H 'Transfer-Encoding: chunked' -T "$scratch/body" -X POST http://httpbin.example.com:7300/503/1
	expect "^attempts 1,2 body of 40000 \{'b'\}$"
	get 13 -X POST http://httpbin.example.com:7300/500/1
	expect '^attempts 1,2 body $'
}

# The server may have acted on it; and it was not kept.
test_a_request_whose_body_is_gone_is_never_repeated()
{
	retries 'retries: {attempts: 3, retryOn: 5xx}'
	head -c 100000 /dev/zero | tr '\0' b >"$scratch/body"
	get_from /503/1 -T "$scratch/body" -X POST
	expect "^attempts 1 body of 100000 \{'b'\}$"
	expect '^503'
}

test_more_than_nine_attempts_are_counted()
{
	retries 'retries: {attempts: 11, backoff: 1ms, retryOn: 5xx}'
	get_from /503/11
	expect '^attempts 1,2,3,4,5,6,7,8,9,10,11,12 '
}

test_an_injected_abort_is_not_tried_again()
{
	retries 'fault: {abort: {httpStatus: 503, percentage: {value: 100}}}, retries: {attempts: 3, retryOn: 5xx}'
	get_from /ok/0
	expect '^fault filter abort'
	get 13 -o /dev/null http://httpbin.example.com:7300/ok/0
	expect_time 0 200
}

run_story
