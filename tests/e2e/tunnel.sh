#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# What a server is told before the client's bytes (DestinationRule): `tunnel` through an HTTP proxy, and `proxyProtocol`.
. "$(dirname "$0")/common.bash"

# servers PORT=CERTIFICATE[,OPTION]... of tests/e2e/tls-server
servers()
{
	background server internet "$(dirname "$0")/tls-server" 203.0.113.10 "$LAB" "$@"
	eventually grep -q ready "$scratch/server"
}

# A DestinationRule: rule HOST LINE-OF-TRAFFIC-POLICY...
rule()
{
	printf -- '---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: %s}\nspec:\n  host: %s\n  trafficPolicy:\n' "${1%%.*}" "$1"
	printf '    %s\n' "${@:2}"
}

# Istio's task "Using an External HTTPS Proxy": connections to db.example.com go to a subset of the proxy, whose settings lead
# them on. through FIELDS-OF-TUNNEL [LINE-OF-THE-PROXYS-POLICY...]
through()
{
	service db.example.com 5432/TCP 8443/TLS 'resolution: STATIC' 'addresses: [203.0.113.77]' 'endpoints: [{address: 203.0.113.12}]'
	service proxy.example.com 3128/TCP 'resolution: STATIC' 'endpoints: [{address: 203.0.113.10}]'
	printf -- '---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: proxy}\nspec:\n  host: proxy.example.com\n'
	printf '  subsets:\n  - name: db\n    trafficPolicy:\n      tunnel: {%s}\n' "$1"
	(($# == 1)) || printf '      %s\n' "${@:2}"
	printf -- '---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: db}\nspec:\n  hosts: [db.example.com]\n'
	printf '  tcp:\n  - route: [{destination: {host: proxy.example.com, subset: db, port: {number: 3128}}}]\n'
	printf '  tls:\n  - match: [{sniHosts: [db.example.com]}]\n    route: [{destination: {host: proxy.example.com, subset: db, port: {number: 3128}}}]\n'
}

asked()
{
	eventually grep -qF -- "asked $1 |" "$scratch/server"
}

# 3 MB and their end, there and back; prints the proxied server's first line, and whether all came.
loud='
import os, socket, sys, threading
data = os.urandom(3000000)
s = socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=10)
def send():
    s.sendall(data)
    s.shutdown(socket.SHUT_WR)
threading.Thread(target=send).start()
back = b""
while part := s.recv(65536):
    back += part
first, _, rest = back.partition(b"\n")
print(first.decode(), "same" if rest == data else "%d of %d bytes" % (len(rest), len(data)))'

test_a_connection_goes_through_a_proxy()
{
	servers 3128=none,connect
	policy "$(mode REGISTRY_ONLY)" "$(through 'targetHost: db.example.com, targetPort: 5432')"
	run web python3 -c "$loud" 203.0.113.77 5432
	expect '^hi same$'
	asked 'CONNECT db.example.com:5432 HTTP/1.1 | host: db.example.com:5432'
	port=8443 hello 77 db.example.com
	expect '^hi$'
	port=8443 hello 77 evil.example.com
	expect 'end=ECONNRESET .*received=0'
}

test_an_address_is_a_target_too()
{
	servers 3128=none,connect
	policy "$(mode REGISTRY_ONLY)" "$(through 'targetHost: "2001:db8::1", targetPort: 65535, protocol: CONNECT')"
	raw 77 5432 'hello\n' -h
	expect '^hello$'
	expect 'end=eof'
	asked 'CONNECT [2001:db8::1]:65535 HTTP/1.1 | host: [2001:db8::1]:65535'
}

test_a_tunnel_by_post()
{
	servers 3128=none,connect
	policy "$(mode REGISTRY_ONLY)" "$(through 'protocol: POST, targetHost: db.example.com, targetPort: 5432')"
	run web python3 -c "$loud" 203.0.113.77 5432
	expect '^hi same$'
	asked 'POST / HTTP/1.1 | host: db.example.com:5432 | transfer-encoding: chunked'
}

test_a_proxy_is_spoken_to_in_tls()
{
	local protocol

	servers 3128=tls,connect
	for protocol in CONNECT POST; do
		policy "$(mode REGISTRY_ONLY)" "$(through "protocol: $protocol, targetHost: db.example.com, targetPort: 5432" \
			"tls: {mode: SIMPLE, caCertificates: $LAB_CA, sni: www.aliyun.com}")"
		run web python3 -c "$loud" 203.0.113.77 5432
		expect '^hi same$'
	done
}

test_what_a_proxy_does_not_lead_on_is_reset()
{
	servers 3128=none,connect
	policy "$(mode REGISTRY_ONLY)" "$(through 'targetHost: forbidden.example.com, targetPort: 5432')"
	raw 77 5432 hello
	expect 'end=ECONNRESET .*received=0'
	asked 'CONNECT forbidden.example.com:5432 HTTP/1.1 | host: forbidden.example.com:5432'
	end_background
	background server internet "$(dirname "$0")/tls-server" 203.0.113.10 "$LAB" 3128=none,silent
	policy "$(mode REGISTRY_ONLY)" "$(through 'targetHost: db.example.com, targetPort: 5432' 'connectionPool: {tcp: {connectTimeout: 200ms}}')"
	eventually grep -q ready "$scratch/server"
	raw 77 5432 hello
	expect 'end=ECONNRESET .*received=0'
	expect_time 150 1500
}

# The addresses that the server would have seen without sluice, and the one that the client asked for.
family_a_server_is_told_the_clients_address()
{
	local to from

	servers 9101=none,proxy,echo 9102=none,proxy,echo 9103=tls,proxy 9104=none,proxy
	policy "$(mode REGISTRY_ONLY)" \
		"$(service one.example.com 5432/TCP/9101 'resolution: STATIC' 'addresses: [203.0.113.77, "2001:db8:113::77"]' 'endpoints: [{address: 203.0.113.10}]')" \
		"$(service two.example.com 5433/TCP/9102 'resolution: STATIC' 'addresses: [203.0.113.77, "2001:db8:113::77"]' 'endpoints: [{address: 203.0.113.10}]')" \
		"$(service tls.example.com 80/HTTP/9103 'resolution: STATIC' 'endpoints: [{address: 203.0.113.10}]')" \
		"$(service web.example.com 80/HTTP/9104 'resolution: STATIC' 'endpoints: [{address: 203.0.113.10}]')" \
		"$(rule one.example.com 'proxyProtocol: {}')" "$(rule two.example.com 'proxyProtocol: {version: V2}')" \
		"$(rule tls.example.com 'proxyProtocol: {version: V2}' "tls: {mode: SIMPLE, caCertificates: $LAB_CA, sni: www.aliyun.com}")" \
		"$(rule web.example.com 'proxyProtocol: {version: V1}')"
	to=203.0.113.77 from=10.88.0.2
	[[ $family != v6 ]] || to=2001:db8:113::77 from=::ffff:10.88.0.2
	raw 77 5432 'hello\n' -h
	expect "^PROXY TCP[46] $from $to [1-9][0-9]{3,4} 5432\$"
	expect '^hello$'
	raw 77 5433 'hello\n' -h
	expect "^v2 1 0x[12]1 $from $to [1-9][0-9]{3,4} 5433\$"
	expect '^hello$'
	[[ $family == v4 ]] || return 0
	get 10 http://tls.example.com/
	expect '^v2 1 0x11 10.88.0.2 203.0.113.10 [1-9][0-9]{3,4} 80TLSv1.3 sni=www.aliyun.com'
	get 10 'http://web.example.com/[1-3]'
	expect_count 3 '^PROXY TCP4 10.88.0.2 203.0.113.10 [1-9][0-9]{3,4} 80$'
}

run_story
