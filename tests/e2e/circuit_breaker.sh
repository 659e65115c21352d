#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# connectionPool, outlierDetection and loadBalancer of a DestinationRule, with two endpoints: 203.0.113.13 and .14.
. "$(dirname "$0")/common.bash"

svc=$(service svc.example.com 7400/HTTP 7401/TCP 'resolution: STATIC' 'endpoints: [{address: 203.0.113.13}, {address: 203.0.113.14}]')

# A server at each address says who it is, on which of its connections. /break and /mend (asked from the internet) tell it
# to answer 500 or not; /slow takes 50 ms; /most tells how many of those were under way at once. 7401 echoes.
read -r -d '' servers <<'END'
import http.server, itertools, socketserver, threading, time
lock, busy, most = threading.Lock(), 0, 0
broken, numbers = set(), itertools.count(1)
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def setup(self):
        super().setup()
        self.number = next(numbers)
    def slow(self):
        global busy, most
        with lock:
            busy += 1
            most = max(most, busy)
        time.sleep(0.05)
        with lock:
            busy -= 1
    def do_GET(self):
        name = self.server.server_address[0]
        if self.path == "/break":
            broken.add(name)
        if self.path == "/mend":
            broken.discard(name)
        if self.path == "/slow" or self.headers.get("host") == "slow.example.com":
            self.slow()
        text = ("most %d\n" % most if self.path == "/most" else "from %s connection %d\n" % (name, self.number)).encode()
        self.send_response(500 if name in broken and self.path.startswith("/?") else 200)
        self.send_header("content-length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)
    def log_message(self, *args):
        pass
class Echo(socketserver.BaseRequestHandler):
    def handle(self):
        while data := self.request.recv(100):
            self.request.sendall(data)
class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
    daemon_threads = allow_reuse_address = True
    request_queue_size = 128
class EchoServer(socketserver.ThreadingTCPServer):
    daemon_threads = allow_reuse_address = True
for address in "203.0.113.13", "203.0.113.14":
    threading.Thread(target=Server((address, 7400), Handler).serve_forever).start()
    threading.Thread(target=EchoServer((address, 7401), Echo).serve_forever).start()
END

serve()
{
	background servers internet python3 -c "$servers"
	lab_wait 5 listens || fail "the servers listen"
}

listens()
{
	(($(lab_in internet ss -Hltn '( sport = :7400 or sport = :7401 )' | wc -l) == 4))
}

# The story's policy: traffic POLICY [DOCUMENT...]
traffic()
{
	policy "$(mode REGISTRY_ONLY)" "${@:2}" "$svc" "---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: d}
spec:
  host: svc.example.com
  trafficPolicy: {$1}"
}

# So many requests, each on a connection of its own: ask COUNT [OPTION OF curl...]
ask()
{
	get 13 -w '%{http_code}\n' -H 'connection: close' "${@:2}" "http://svc.example.com:7400/[1-$1]"
}

# To the root of a server, which may be broken.
ask_root()
{
	get 13 -w '%{http_code}\n' -H 'connection: close' "http://svc.example.com:7400/?[1-$1]"
}

tell()
{
	lab_in internet curl -s -o /dev/null "http://203.0.113.$1:7400/$2"
}

test_requests_beyond_the_connections_wait_or_overflow()
{
	local most served

	serve
	traffic 'connectionPool: {tcp: {maxConnections: 2}, http: {http1MaxPendingRequests: 3}}' \
		"$(service slow.example.com 7402/HTTP/7400 'resolution: STATIC' 'addresses: [203.0.113.88]' 'endpoints: [{address: 203.0.113.13}]')" "---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: slow}
spec:
  host: slow.example.com
  trafficPolicy: {connectionPool: {tcp: {maxConnections: 2}, http: {http1MaxPendingRequests: 3}}}"
	run web "$TOOLS/hammer" -n 12 -s 1 http 203.0.113.88 7402 slow.example.com
	served=$(sed -n 's/ http-200$//p' <<<"$output")
	((served >= 25 && served <= 46)) || fail 'as many as two connections can serve in a second, 20 each'
	expect '^[1-9][0-9]* http-503$'
	refuse '^[0-9]+ (E|end|http-50[24])'
	most=$(lab_in internet curl -s http://203.0.113.13:7400/most)
	[[ $most == 'most 2' ]] || fail "two requests at once, not: $most"
	(($(settled_metric sluice_redirector_overflows_total) > 0)) || fail "overflows are counted"
	run web curl -sS -m 5 -w ' %{http_code}' --resolve slow.example.com:7402:203.0.113.88 http://slow.example.com:7402/
	expect '200$'
}

test_those_who_wait_are_served()
{
	local i pids=()

	serve
	traffic 'connectionPool: {tcp: {maxConnections: 1}}'
	for i in {1..12}; do
		lab_exec web curl -sS -m 8 --resolve svc.example.com:7400:203.0.113.13 http://svc.example.com:7400/slow >"$scratch/waiter.$i" 2>&1 &
		pids+=($!)
	done
	wait "${pids[@]}"
	output=$(cat "$scratch"/waiter.*) command='12 at once'
	expect_count 12 '^from 203.0.113.1[34] '
}

test_an_overflow_says_what_it_is()
{
	serve
	traffic 'connectionPool: {http: {http2MaxRequests: 1}}'
	background holder web curl -sS -m 5 --resolve svc.example.com:7400:203.0.113.13 'http://svc.example.com:7400/slow?' 'http://svc.example.com:7400/slow' \
		'http://svc.example.com:7400/slow' 'http://svc.example.com:7400/slow' 'http://svc.example.com:7400/slow' 'http://svc.example.com:7400/slow'
	run web sh -c 'for i in 1 2 3 4 5 6 7 8; do curl -sS -i -m 5 --resolve svc.example.com:7400:203.0.113.13 http://svc.example.com:7400/slow & done; wait'
	expect '^HTTP/1.1 503 Service Unavailable'
	expect '^x-envoy-overloaded: true'
	expect '^upstream connect error or disconnect/reset before headers. reset reason: overflow'
}

# Two requests on one client connection, so many seconds apart.
read -r -d '' two_requests <<'END'
import http.client, sys, time
connection = http.client.HTTPConnection("203.0.113.13", 7400, timeout=5)
for pause in 0, float(sys.argv[1]):
    time.sleep(pause)
    connection.auto_open = pause == 0
    connection.request("GET", "/", headers={"Host": "svc.example.com"})
    print(connection.getresponse().read().decode(), end="")
END

test_an_idle_connection_is_closed_but_not_its_clients()
{
	serve
	traffic 'connectionPool: {http: {idleTimeout: 300ms}}'
	run web python3 -c "$two_requests" 0.1
	(($(sort -u <<<"$output" | wc -l) == 1)) || fail 'both on one connection'
	run web python3 -c "$two_requests" 0.6
	expect_count 2 '^from '
	(($(sort -u <<<"$output" | wc -l) == 2)) || fail 'each on a connection of its own'
}

test_a_relay_is_closed_beyond_the_connections_when_idle_and_after_its_time()
{
	serve
	traffic 'connectionPool: {tcp: {maxConnections: 1, idleTimeout: 300ms, maxConnectionDuration: 1200ms}}'
	run web python3 -c '
import socket, time
def connect():
    try:
        return socket.create_connection(("203.0.113.13", 7401), timeout=5)
    except ConnectionResetError: # so soon
        return None
def talk(s):
    try:
        s.sendall(b"x")
        return s.recv(1) == b"x"
    except (AttributeError, OSError):
        return False
one = connect()
print("first", talk(one))
print("second", talk(connect()))
started = time.time()
time.sleep(0.15)
print("not idle", talk(one))
print("ended when idle", one.recv(1) == b"" and 0.4 < time.time() - started < 1.1)
one = connect()
started = time.time()
while talk(one):
    time.sleep(0.1)
print("ended in time", 1.1 < time.time() - started < 2)
'
	expect '^first True'
	expect '^second False'
	expect '^not idle True'
	expect '^ended when idle True'
	expect '^ended in time True'
}

test_an_endpoint_that_fails_is_ejected_and_comes_back()
{
	serve
	tell 14 break
	traffic 'loadBalancer: {simple: ROUND_ROBIN}, outlierDetection: {consecutive5xxErrors: 3, interval: 100ms, baseEjectionTime: 1500ms, maxEjectionPercent: 50}'
	ask_root 30
	expect_count 3 '^500$'
	expect_count 27 '^200$'
	(($(settled_metric sluice_redirector_ejections_total) == 1)) || fail 'an ejection is counted'
	tell 14 mend
	sleep 0.6
	ask_root 20
	expect_count 10 '^from 203.0.113.13 '
	expect_count 10 '^from 203.0.113.14 '
}

test_where_all_are_ejected_nobody_is_healthy()
{
	serve
	tell 13 break
	tell 14 break
	traffic 'outlierDetection: {consecutive5xxErrors: 2, interval: 100ms, baseEjectionTime: 1s, maxEjectionPercent: 100}'
	ask_root 20
	expect '^no healthy upstream503$'
	expect_count 4 '^500$'
	tell 13 mend
	tell 14 mend
	sleep 1.3
	ask_root 4
	expect_count 4 '^200$'
}

test_a_header_tells_the_endpoint()
{
	local user seen=''

	serve
	traffic 'loadBalancer: {consistentHash: {httpHeaderName: x-user}}'
	for user in {1..8}; do
		ask 12 -H "x-user: user-$user"
		expect_count 12 '^from '
		(($(grep -o 'from [0-9.]*' <<<"$output" | sort -u | wc -l) == 1)) || fail "one endpoint for user $user"
		seen+=$(grep -o 'from [0-9.]*' <<<"$output" | head -n 1)$'\n'
	done
	(($(sort -u <<<"$seen" | grep -c .) == 2)) || fail 'both endpoints have users'
}

test_a_cookie_tells_the_endpoint()
{
	serve
	traffic 'loadBalancer: {consistentHash: {httpCookie: {name: sid, path: /, ttl: 60s}}}'
	rm -f "$scratch/jar"
	ask 1 -D - -c "$scratch/jar"
	expect '^set-cookie: sid="[0-9a-f]{16}"; Max-Age=60; Path=/; HttpOnly'
	ask 30 -b "$scratch/jar"
	expect_count 30 '^from '
	(($(grep -o 'from [0-9.]*' <<<"$output" | sort -u | wc -l) == 1)) || fail 'one endpoint'
}

test_a_pod_has_its_endpoint()
{
	serve
	traffic 'loadBalancer: {consistentHash: {useSourceIp: true}}'
	ask 30
	expect_count 30 '^from '
	(($(grep -o 'from [0-9.]*' <<<"$output" | sort -u | wc -l) == 1)) || fail 'one endpoint'
}

test_passthrough_goes_where_the_client_did()
{
	serve
	traffic 'loadBalancer: {simple: PASSTHROUGH}'
	ask 10
	expect_count 10 '^from 203.0.113.13 '
	get 14 -H 'connection: close' 'http://svc.example.com:7400/[1-10]'
	expect_count 10 '^from 203.0.113.14 '
}

run_story
