#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Mirrors: copies of requests that nobody waits for. nginx at 203.0.113.11 logs what it is sent.
. "$(dirname "$0")/common.bash"

httpbin=$(service httpbin.example.com 80/HTTP)
log=$(service log.example.com 80/HTTP 'resolution: STATIC' 'endpoints: [{address: 203.0.113.11}]')
copies=$(service copies.example.com 80/HTTP/8090 'resolution: STATIC' 'endpoints: [{address: 203.0.113.13}]')

# A rule for httpbin.example.com: rules FIELD...
rules()
{
	printf -- '---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: vs}\nspec:\n'
	printf '  hosts: [httpbin.example.com]\n  http:\n  - route: [{destination: {host: httpbin.example.com}}]\n'
	printf '    %s\n' "$@"
}

mirrored()
{
	grep -c '^203.0.113.11 [^ ]* httpbin.example.com "'"$1" "$LAB/nginx.log"
}

mirrored_is()
{
	[[ $(mirrored "$1") == "$2" ]]
}

metric()
{
	lab_in node curl -s "http://$LAB_ADMIN/metrics" | sed -n "s/^$1 //p"
}

test_a_request_is_copied()
{
	: >"$LAB/nginx.log"
	policy "$(mode REGISTRY_ONLY)" "$httpbin" "$log" "$(rules 'mirror: {host: log.example.com}')"
	get 13 -w ' %{http_code}' http://httpbin.example.com/head
	expect '^GET /head HTTP/1.1'
	expect ' 200$'
	eventually mirrored_is 'GET /head ' 1
	get 13 -o /dev/null -X DELETE http://httpbin.example.com/one
	eventually mirrored_is 'DELETE /one ' 1
}

test_so_many_of_them()
{
	local count

	: >"$LAB/nginx.log"
	policy "$(mode REGISTRY_ONLY)" "$httpbin" "$log" "$(rules 'mirrors: [{destination: {host: log.example.com}, percentage: {value: 50}}]')"
	get 13 -o /dev/null 'http://httpbin.example.com/head?[1-400]'
	expect_status 0
	sleep 0.5
	count=$(mirrored 'GET /head')
	((count >= 160 && count <= 240)) || fail "about 200 of 400 are copied, not $count"
	: >"$LAB/nginx.log"
	policy "$(mode REGISTRY_ONLY)" "$httpbin" "$log" "$(rules 'mirror: {host: log.example.com}' 'mirrorPercentage: {value: 0}')"
	get 13 -o /dev/null 'http://httpbin.example.com/head?[1-20]'
	sleep 0.3
	mirrored_is 'GET /head' 0 || fail "none is copied"
}

# Writes each body that it is sent to a file.
receive_copies()
{
	rm -f "$LAB/copy"
	background server internet python3 -c '
import http.server
class Keep(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        open("'"$LAB"'/copy.new", "wb").write(self.headers["host"].encode() + b"\n" + body)
        import os
        os.rename("'"$LAB"'/copy.new", "'"$LAB"'/copy")
        self.send_response(500)
        self.end_headers()
    def log_message(self, *args): pass
http.server.HTTPServer(("203.0.113.13", 8090), Keep).serve_forever()'
	sleep 0.5
}

test_a_body_is_copied()
{
	receive_copies
	head -c 40000 /dev/urandom | base64 -w0 >"$LAB/body"
	policy "$(mode REGISTRY_ONLY)" "$httpbin" "$copies" "$(rules 'mirrors: [{destination: {host: copies.example.com}}]')"
	get 13 -o /dev/null -w '%{http_code}' --data-binary "@$LAB/body" http://httpbin.example.com/head
	expect '^200$'
	eventually test -e "$LAB/copy"
	[[ $(<"$LAB/copy") == "httpbin.example.com"$'\n'"$(<"$LAB/body")" ]] || fail "the copy is the request's"
}

test_a_long_body_is_not()
{
	local before

	receive_copies
	before=$(metric sluice_redirector_mirrors_dropped_total)
	head -c 200000 /dev/zero >"$LAB/body"
	policy "$(mode REGISTRY_ONLY)" "$httpbin" "$copies" "$(rules 'mirrors: [{destination: {host: copies.example.com}}]')"
	get 13 -o /dev/null -w '%{http_code}' --data-binary "@$LAB/body" http://httpbin.example.com/head
	expect '^200$'
	dropped()
	{
		(($(metric sluice_redirector_mirrors_dropped_total) == before + 1))
	}
	eventually dropped
	[[ ! -e $LAB/copy ]] || fail "no part of it is sent"
}

test_a_silent_mirror_slows_nobody()
{
	lab_in internet ip route add blackhole 203.0.113.88
	policy "$(mode REGISTRY_ONLY)" "$httpbin" "$(service silent.example.com 80/HTTP 'resolution: STATIC' 'endpoints: [{address: 203.0.113.88}]')" \
		"$(rules 'mirrors: [{destination: {host: silent.example.com}}, {destination: {host: nowhere.example.com}}]')"
	get 13 -o /dev/null -w '%{http_code}\n' 'http://httpbin.example.com/head?[1-50]'
	lab_in internet ip route del blackhole 203.0.113.88
	expect_count 50 '^200$'
	((elapsed_ms < 2000)) || fail "50 requests take $elapsed_ms ms"
}

test_what_is_aborted_is_not_copied()
{
	: >"$LAB/nginx.log"
	policy "$(mode REGISTRY_ONLY)" "$httpbin" "$log" "$(rules 'mirror: {host: log.example.com}' \
		'fault: {abort: {httpStatus: 418, percentage: {value: 100}}}')"
	get 13 -o /dev/null -w '%{http_code}' http://httpbin.example.com/head
	expect '^418$'
	sleep 0.3
	mirrored_is 'GET /head' 0 || fail "nothing is copied"
}

run_story
