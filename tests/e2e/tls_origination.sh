#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# TLS origination (DestinationRule tls): a client's plaintext goes on in TLS. The lab's servers have certificates of $LAB_CA.
. "$(dirname "$0")/common.bash"

aliyun=$(service www.aliyun.com 80/HTTP/443 443/HTTPS)

# The settings of TLS towards www.aliyun.com's port 80: tls FIELD...
tls()
{
	printf -- '---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: aliyun}\nspec:\n  host: www.aliyun.com\n'
	printf '  trafficPolicy:\n    portLevelSettings:\n    - port: {number: 80}\n      tls:\n'
	printf '        %s\n' "$@"
}

trusted()
{
	tls 'mode: SIMPLE' "caCertificates: $LAB_CA" "$@"
}

test_under_allow_any_too()
{
	policy "$(mode ALLOW_ANY)" "$aliyun" "$(trusted)"
	get 10 -L -o /dev/null -D - http://www.aliyun.com/
	expect_count 1 '^HTTP/1.1 200'
}

test_a_session_serves_many_requests()
{
	policy "$(mode REGISTRY_ONLY)" "$(service big.example.com 80/HTTP/443 'resolution: STATIC' 'endpoints: [{address: 203.0.113.11}]')" \
		"$(trusted 'sni: www.aliyun.com' 'subjectAltNames: [www.aliyun.com]' | sed 's/  host: .*/  host: big.example.com/')"
	: >"$LAB/nginx.log"
	get 10 -o /dev/null -w '%{http_code}\n' 'http://big.example.com/[1-20]'
	expect_count 20 '^200$'
	eventually grep -q 'GET /20 ' "$LAB/nginx.log"
	[[ $(awk '/ big.example.com / { print $NF }' "$LAB/nginx.log" | sort -u | wc -l) == 1 ]] || fail "one upstream connection"
}

# The server takes HTTP/2 and HTTP/1.1: ALPN tells it which one is spoken.
test_servers_of_http2()
{
	local version

	policy "$(mode REGISTRY_ONLY)" "$(service www.aliyun.com 80/HTTP2/443)" "$(trusted)"
	for version in --http1.1 --http2-prior-knowledge; do
		: >"$LAB/nginx.log"
		get 10 "$version" -o /dev/null -w '%{http_code}' "http://www.aliyun.com/as$version"
		expect '^200$'
		eventually grep -q "GET /as$version HTTP/2.0" "$LAB/nginx.log"
	done
	policy "$(mode REGISTRY_ONLY)" "$(service www.aliyun.com 80/HTTP2/443)" "$(tls 'mode: SIMPLE')"
	get 10 --http2-prior-knowledge -w ' %{http_code}' http://www.aliyun.com/
	expect 'CERTIFICATE_VERIFY_FAILED:TLS_error_end: unable to get local issuer certificate 503$'
}

test_an_unknown_authority_is_refused()
{
	policy "$(mode REGISTRY_ONLY)" "$aliyun" "$(tls 'mode: SIMPLE')"
	get 10 -w ' %{http_code}' http://www.aliyun.com/
	expect 'CERTIFICATE_VERIFY_FAILED:TLS_error_end: unable to get local issuer certificate 503$'
	policy "$(mode REGISTRY_ONLY)" "$aliyun" "$(tls 'mode: SIMPLE' 'insecureSkipVerify: true')"
	get 10 -o /dev/null -w '%{http_code}' http://www.aliyun.com/
	expect '^200$'
}

test_the_name_is_checked()
{
	policy "$(mode REGISTRY_ONLY)" "$aliyun" "$(trusted 'subjectAltNames: [other.example.com]')"
	get 10 -w ' %{http_code}' http://www.aliyun.com/
	expect 'CERTIFICATE_VERIFY_FAILED:TLS_error_end: hostname mismatch 503$'
	policy "$(mode REGISTRY_ONLY)" "$aliyun" "$(trusted 'subjectAltNames: [other.example.com, www.aliyun.com]')"
	get 10 -o /dev/null -w '%{http_code}' http://www.aliyun.com/
	expect '^200$'
	policy "$(mode REGISTRY_ONLY)" "$(service www.aliyun.com 80/HTTP/443 'subjectAltNames: [other.example.com]')" "$(trusted)"
	get 10 -w ' %{http_code}' http://www.aliyun.com/
	expect 'CERTIFICATE_VERIFY_FAILED:TLS_error_end: hostname mismatch 503$'
}

# A server that sends back what it is sent.
test_bodies_pass()
{
	background server internet python3 -c '
import http.server, ssl
class Echo(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *args): pass
server = http.server.HTTPServer(("203.0.113.10", 8444), Echo)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain("'"$LAB"'/tls.pem", "'"$LAB"'/tls.key")
server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()'
	sleep 0.5
	head -c 3000000 /dev/urandom >"$LAB/body"
	policy "$(mode REGISTRY_ONLY)" "$(service www.aliyun.com 80/HTTP/8444)" "$(trusted)"
	get 10 -o "$LAB/echo" --data-binary "@$LAB/body" http://www.aliyun.com/
	expect_status 0
	cmp "$LAB/body" "$LAB/echo" || fail "3 MB come back as they were sent"
}

# A server that wants a client's certificate, of the lab's authority.
test_mutual()
{
	local keys=$LAB/mutual

	mkdir -p "$keys"
	openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN=client -keyout "$keys/key.pem" -out "$keys/request.pem" 2>/dev/null
	openssl x509 -req -in "$keys/request.pem" -CA "$LAB_CA" -CAkey "$LAB/ca.key" -days 2 -out "$keys/client.pem" 2>/dev/null ||
		fail "a client's certificate is made"
	background server internet openssl s_server -accept 203.0.113.10:8443 -Verify 1 -verify_return_error -CAfile "$LAB_CA" -cert "$LAB/tls.pem" \
		-key "$LAB/tls.key" -www
	sleep 0.5
	policy "$(mode REGISTRY_ONLY)" "$(service www.aliyun.com 80/HTTP/8443)" \
		"$(tls 'mode: MUTUAL' "caCertificates: $LAB_CA" "clientCertificate: $keys/client.pem" "privateKey: $keys/key.pem")"
	get 10 -w '%{http_code}' http://www.aliyun.com/
	expect 'Client certificate'
	expect '200$'
	policy "$(mode REGISTRY_ONLY)" "$(service www.aliyun.com 80/HTTP/8443)" "$(trusted)"
	get 10 -w ' %{http_code}' http://www.aliyun.com/
	expect ' 503$'
}

test_a_changed_certificate_is_taken()
{
	local file=$LAB/authority.pem before

	openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN=other -days 2 -keyout /dev/null -out "$file" 2>/dev/null
	policy "$(mode REGISTRY_ONLY)" "$aliyun" "$(tls 'mode: SIMPLE' "caCertificates: $file")"
	get 10 -o /dev/null -w '%{http_code}' http://www.aliyun.com/
	expect '^503$'
	before=$(lab_sluice status -o json | sed -n 's/.*"generation": *\([0-9]*\).*/\1/p' | head -1)
	cp "$LAB_CA" "$file.new" && mv "$file.new" "$file"
	lab_wait 3 generation_after "$before" || fail "the file is read again"
	get 10 -o /dev/null -w '%{http_code}' http://www.aliyun.com/
	expect '^200$'
	echo nonsense >"$file"
	lab_wait 3 refused || fail "what is no certificate is refused"
	get 10 -o /dev/null -w '%{http_code}' http://www.aliyun.com/
	expect '^200$'
}

generation_after()
{
	(($(lab_sluice status -o json | sed -n 's/.*"generation": *\([0-9]*\).*/\1/p' | head -1) > $1))
}

refused()
{
	[[ $(lab_last_error) == *'caCertificates: '*' has no certificate in PEM form'* ]]
}

test_files_are_checked()
{
	bad_policy "$(mode REGISTRY_ONLY)" "$aliyun" "$(tls 'mode: SIMPLE' 'caCertificates: /nonexistent.pem')"
	[[ $(lab_last_error) == *'DestinationRule/aliyun: spec.trafficPolicy.portLevelSettings[0].tls.caCertificates: '*'/nonexistent.pem'*': cannot be read: No such file'* ]] ||
		fail "the file is named: $(lab_last_error)"
	bad_policy "$(mode REGISTRY_ONLY)" "$aliyun" "$(tls 'mode: MUTUAL')"
	[[ $(lab_last_error) == *'mode MUTUAL needs clientCertificate and privateKey'* ]] || fail "$(lab_last_error)"
}

test_a_server_without_tls_is_an_error()
{
	policy "$(mode REGISTRY_ONLY)" "$(service www.aliyun.com 80/HTTP)" "$(trusted | sed s/www.aliyun.com/www.aliyun.com/)"
	get 10 -w ' %{http_code}' http://www.aliyun.com/
	expect 'transport failure reason: TLS_error:.* 503$'
}

# ---- servers with certificates of their own: those of tests/e2e/tls-server, as HOST.pki.test ----

keys=$LAB/pki

# One of the lab's authority, or as openssl is told: certificate NAME SUBJECT-ALT-NAMES [OPTION OF openssl ca...]
certificate()
{
	openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "/CN=$1" ${2:+-addext "subjectAltName=$2"} \
		-keyout "$keys/$1.key" -out "$keys/$1.csr" 2>>"$keys/log" &&
		openssl ca -batch -config "$keys/conf" -notext -days 2 -cert "$LAB_CA" -keyfile "$LAB/ca.key" -in "$keys/$1.csr" \
			-out "$keys/$1.pem" "${@:3}" 2>>"$keys/log" || fail "a certificate for $1 is made: $(tail -n 3 "$keys/log")"
}

signed_by_itself()
{
	openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj "/CN=$1" -addext "subjectAltName=DNS:$1.pki.test" \
		-keyout "$keys/$1.key" -out "$keys/$1.pem" 2>>"$keys/log" || fail "a certificate for $1 is made"
}

make_certificates()
{
	[[ ! -e $keys/crl.pem ]] || return 0
	mkdir -p "$keys"
	: >"$keys/index.txt"
	echo 1000 >"$keys/serial"
	printf '%s\n' '[ca]' 'default_ca = lab' '[lab]' "database = $keys/index.txt" "new_certs_dir = $keys" "serial = $keys/serial" \
		'default_md = sha256' 'policy = any' 'copy_extensions = copy' 'unique_subject = no' '[any]' 'commonName = supplied' >"$keys/conf"
	cp "$LAB_CA" "$keys/ca.pem"
	certificate good 'DNS:*.pki.test'
	certificate exact DNS:exact.pki.test
	certificate address IP:203.0.113.10
	certificate uri URI:spiffe://pki.test/ns/default/sa/server
	certificate nameless ''
	certificate expired DNS:expired.pki.test -startdate 200101000000Z -enddate 210101000000Z
	certificate early DNS:early.pki.test -startdate 440101000000Z -enddate 450101000000Z
	certificate revoked DNS:revoked.pki.test
	certificate client ''
	signed_by_itself self
	signed_by_itself stranger
	openssl ca -batch -config "$keys/conf" -cert "$LAB_CA" -keyfile "$LAB/ca.key" -revoke "$keys/revoked.pem" 2>>"$keys/log"
	openssl ca -batch -config "$keys/conf" -cert "$LAB_CA" -keyfile "$LAB/ca.key" -gencrl -crldays 2 -out "$keys/crl.pem" 2>>"$keys/log" ||
		fail "a list of revoked certificates is made"
}

# servers PORT=CERTIFICATE[,OPTION]...
servers()
{
	make_certificates
	background server internet "$(dirname "$0")/tls-server" 203.0.113.10 "$keys" "$@"
	eventually grep -q ready "$scratch/server"
}

# HOST.pki.test: a service that listens on PORT, and what is said of TLS to it: target HOST PORT/PROTOCOL/PORT FIELD...
target()
{
	service "$1.pki.test" "$2" 'resolution: STATIC' 'endpoints: [{address: 203.0.113.10}]'
	printf -- '---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: r-%s}\nspec:\n  host: %s.pki.test\n' "$1" "$1"
	printf '  trafficPolicy:\n    tls:\n'
	printf '      %s\n' "${@:3}"
}

# The same of an HTTP service, whose server has a certificate of the lab's authority.
server()
{
	target "$1" "80/HTTP/$2" 'mode: SIMPLE' "caCertificates: $LAB_CA" "${@:3}"
}

# What the server says of the connection: says HOST PATTERN
says()
{
	get 10 -w ' %{http_code}' "http://$1.pki.test/"
	expect "^$2"
	expect ' 200$'
}

# 503, and why: refuses HOST WHY
unverified='TLS_error:\|268435581:SSL routines:OPENSSL_internal:CERTIFICATE_VERIFY_FAILED:TLS_error_end: '
refuses()
{
	get 10 -w ' %{http_code}' "http://$1.pki.test/"
	expect "^upstream connect error or disconnect/reset before headers\. (retried and the latest )?reset reason: $2 503\$"
}

test_servers_are_told_apart()
{
	servers 9101=good,1.2 9102=good,1.3 9103=exact 9104=address 9105=uri 9106=nameless 9107=expired 9108=early 9109=revoked 9110=self \
		9111=stranger 9112=good,alpn 9114=good,leave
	policy "$(mode REGISTRY_ONLY)" "$(server old 9101)" "$(server new 9102)" "$(server exact 9103)" "$(server other 9103)" \
		"$(server address 9104 'subjectAltNames: [203.0.113.10]')" "$(server wrong-address 9104 'subjectAltNames: [203.0.113.11]')" \
		"$(server uri 9105 'subjectAltNames: ["spiffe://pki.test/ns/default/sa/server"]')" \
		"$(server wrong-uri 9105 'subjectAltNames: ["spiffe://pki.test/ns/default/sa/serve"]')" \
		"$(server star 9101 'subjectAltNames: ["*.pki.test"]')" "$(server deep 9101 'subjectAltNames: [a.deep.pki.test]')" \
		"$(server nameless 9106)" "$(server sni 9102 'sni: Other.pki.test')" "$(server expired 9107)" "$(server early 9108)" \
		"$(server revoked 9109 "caCrl: $keys/crl.pem")" "$(server unlisted 9109 'subjectAltNames: [revoked.pki.test]')" \
		"$(server valid 9102 "caCrl: $keys/crl.pem")" "$(server self 9110)" "$(server stranger 9111)" \
		"$(target trusted 80/HTTP/9111 'mode: SIMPLE' "caCertificates: $keys/stranger.pem" 'subjectAltNames: [stranger.pki.test]')" \
		"$(target any 80/HTTP/9107 'mode: SIMPLE' 'insecureSkipVerify: true')" "$(server alpn 9112)" "$(server plain 80)" \
		"$(server leave 9114)"
	says old 'TLSv1\.2 sni=old.pki.test alpn=None client=None'
	says new 'TLSv1\.3 sni=new.pki.test alpn=None client=None'
	says exact 'TLSv1\.3 sni=exact.pki.test'
	refuses other "remote connection failure, transport failure reason: ${unverified}hostname mismatch"
	says address TLSv1.3
	refuses wrong-address "remote connection failure, transport failure reason: ${unverified}hostname mismatch"
	says uri TLSv1.3
	refuses wrong-uri "remote connection failure, transport failure reason: ${unverified}hostname mismatch"
	says star 'TLSv1\.2 sni=star.pki.test'
	refuses deep "remote connection failure, transport failure reason: ${unverified}hostname mismatch"
	refuses nameless "remote connection failure, transport failure reason: ${unverified}hostname mismatch"
	says sni 'TLSv1\.3 sni=other.pki.test'
	refuses expired "remote connection failure, transport failure reason: ${unverified}certificate has expired"
	refuses early "remote connection failure, transport failure reason: ${unverified}certificate is not yet valid"
	refuses revoked "remote connection failure, transport failure reason: ${unverified}certificate revoked"
	says unlisted 'TLSv1\.3 sni=unlisted.pki.test'
	says valid 'TLSv1\.3 sni=valid.pki.test'
	refuses self "remote connection failure, transport failure reason: ${unverified}self-signed certificate"
	refuses stranger "remote connection failure, transport failure reason: ${unverified}self-signed certificate"
	says trusted 'TLSv1\.3 sni=trusted.pki.test'
	says any 'TLSv1\.3 sni=any.pki.test'
	says alpn 'TLSv1\.3 sni=alpn.pki.test alpn=http/1.1'
	refuses plain 'remote connection failure, transport failure reason: TLS_error:\|268435703:SSL routines:OPENSSL_internal:WRONG_VERSION_NUMBER:TLS_error_end'
	refuses leave 'remote connection failure, transport failure reason: TLS_error: the server ended the handshake'
}

test_client_certificates()
{
	local mutual=('mode: MUTUAL' "caCertificates: $LAB_CA")

	servers 9101=good,ask 9102=good,want,1.2 9103=good,want,1.3
	policy "$(mode REGISTRY_ONLY)" \
		"$(target asked 80/HTTP/9101 "${mutual[@]}" "clientCertificate: $keys/client.pem" "privateKey: $keys/client.key")" \
		"$(target wanted 80/HTTP/9103 "${mutual[@]}" "clientCertificate: $keys/client.pem" "privateKey: $keys/client.key")" \
		"$(target wrong 80/HTTP/9102 "${mutual[@]}" "clientCertificate: $keys/self.pem" "privateKey: $keys/self.key")" \
		"$(target wrong3 80/HTTP/9103 "${mutual[@]}" "clientCertificate: $keys/self.pem" "privateKey: $keys/self.key")" \
		"$(server none 9101)" "$(server missing 9102)" "$(server missing3 9103)"
	says asked 'TLSv1\.3 .*client=client$'
	says wanted 'TLSv1\.3 .*client=client$'
	says none 'TLSv1\.3 .*client=None$'
	refuses missing 'remote connection failure, transport failure reason: TLS_error:\|[0-9]*:SSL routines:OPENSSL_internal:[A-Z0-9_]*ALERT_HANDSHAKE_FAILURE:TLS_error_end'
	refuses wrong 'remote connection failure, transport failure reason: TLS_error:\|268436[0-9]*:SSL routines:OPENSSL_internal:TLSV1_ALERT_UNKNOWN_CA:TLS_error_end'
	refuses missing3 'connection termination, transport failure reason: TLS_error:\|268436572:SSL routines:OPENSSL_internal:[A-Z0-9_]*CERTIFICATE_REQUIRED:TLS_error_end'
	refuses wrong3 'connection termination, transport failure reason: TLS_error:\|268436504:SSL routines:OPENSSL_internal:TLSV1_ALERT_UNKNOWN_CA:TLS_error_end'
}

# As Envoy's connect-failure: three tries of a rule that says nothing, as many as it says of another one.
test_a_failed_handshake_is_tried_again()
{
	servers 9107=expired
	policy "$(mode REGISTRY_ONLY)" "$(server expired 9107)" "$(server once 9107)" "$(printf -- '---\napiVersion: networking.istio.io/v1\nkind: VirtualService
metadata: {name: once}\nspec: {hosts: [once.pki.test], http: [{route: [{destination: {host: once.pki.test}}], retries: {attempts: 0}}]}')"
	refuses expired "remote connection failure, transport failure reason: $unverified.*"
	expect 'retried and the latest'
	[[ $(grep -c '^end SSLError' "$scratch/server") == 3 ]] || fail "three handshakes: $(cat "$scratch/server")"
	refuses once "remote connection failure, transport failure reason: $unverified.*"
	refuse 'retried'
	[[ $(grep -c '^end SSLError' "$scratch/server") == 4 ]] || fail "one handshake: $(cat "$scratch/server")"
}

test_a_handshake_is_waited_for_as_long_as_for_a_connection()
{
	servers 9101=good,silent
	policy "$(mode REGISTRY_ONLY)" "$(server silent 9101 | sed 's/  trafficPolicy:/&\n    connectionPool: {tcp: {connectTimeout: 200ms}}/')"
	refuses silent 'connection timeout'
	expect_time 550 2000
}

# The file of the system's authorities, where the daemon sees it.
system_authorities()
{
	nsenter -t "$(lab_sluice_pid)" -m "$@" /etc/ssl/certs/ca-certificates.crt
}

test_the_systems_authorities_are_trusted()
{
	servers 9101=good
	policy "$(mode REGISTRY_ONLY)" "$(target system 80/HTTP/9101 'mode: SIMPLE')"
	refuses system "remote connection failure, transport failure reason: ${unverified}self-signed certificate in certificate chain"
	system_authorities mount --bind "$LAB_CA" || fail "another file stands there"
	trap 'system_authorities umount; end_background' EXIT
	eventually answers system 200
	system_authorities umount
	trap end_background EXIT
	eventually answers system 503 # and what is applied after this is no more of it
}

answers()
{
	get 10 -o /dev/null -w '%{http_code}' "http://$1.pki.test/"
	[[ $output == "$2" ]]
}

# Clients of Python's in pod web, with an address and a port: a client of TCP that sends 3 MB and its end, and hears them again.
loud='
import os, socket, sys, threading
data = os.urandom(3000000)
s = socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=10)
first = b""
while not first.endswith(b"\n"):
    first += s.recv(1)
def send():
    s.sendall(data)
    s.shutdown(socket.SHUT_WR)
threading.Thread(target=send).start()
back = b""
while part := s.recv(65536):
    back += part
print(first.decode().strip(), "same" if back == data else "%d of %d bytes" % (len(back), len(data)))'

# The server speaks first: nothing of the client is waited for.
family_tcp_goes_on_in_tls()
{
	servers 9101=good,echo 9102=good,echo,1.2
	policy "$(mode REGISTRY_ONLY)" "$(target db 5432/TCP/9101 'mode: SIMPLE' "caCertificates: $LAB_CA" | sed 's/endpoints/addresses: [203.0.113.77, "2001:db8:113::77"]\n  &/')" \
		"$(target old 5433/TCP/9102 'mode: SIMPLE' "caCertificates: $LAB_CA" | sed 's/endpoints/addresses: [203.0.113.77, "2001:db8:113::77"]\n  &/')"
	run web python3 -c "$loud" "$(address 77)" 5432
	expect '^TLSv1.3 sni=db.pki.test alpn=None client=None same$'
	run web python3 -c "$loud" "$(address 77)" 5433
	expect '^TLSv1.2 sni=old.pki.test alpn=None client=None same$'
}

test_under_allow_any_tcp_too()
{
	servers 9101=good,echo
	policy "$(mode ALLOW_ANY)" "$(target db 9101/TCP 'mode: SIMPLE' "caCertificates: $LAB_CA")"
	run web python3 -c "$loud" 203.0.113.10 9101
	expect '^TLSv1.3 sni=db.pki.test .* same$'
}

# The end of a plaintext client's connection is the end of the data; what was cut must not look like that.
test_a_tcp_server_that_is_not_whom_it_should_be_is_reset()
{
	servers 9101=expired,echo 9102=good,cut
	policy "$(mode REGISTRY_ONLY)" "$(target db 9101/TCP 'mode: SIMPLE' "caCertificates: $LAB_CA")" \
		"$(target cut 9102/TCP 'mode: SIMPLE' "caCertificates: $LAB_CA")" "$(target name 9103/TCP/9102 'mode: SIMPLE' "caCertificates: $LAB_CA" \
		'subjectAltNames: [other.example.com]')"
	raw 10 9101 hello
	expect 'end=ECONNRESET .*received=0'
	raw 10 9102 ''
	expect '^TLSv1.3 sni=cut.pki.test'
	expect 'end=ECONNRESET'
	raw 10 9103 hello
	expect 'end=ECONNRESET .*received=0'
}

# A port whose protocol is not declared: HTTP by its requests, all else as TCP.
test_a_detected_port_goes_on_in_tls()
{
	servers 9101=good 9102=good,echo
	policy "$(mode REGISTRY_ONLY)" "$(target web 9101/TCP 'mode: SIMPLE' "caCertificates: $LAB_CA" | sed 's/, protocol: TCP//')" \
		"$(target echo 9102/TCP 'mode: SIMPLE' "caCertificates: $LAB_CA" | sed 's/, protocol: TCP//')"
	get 10 http://web.pki.test:9101/
	expect '^TLSv1.3 sni=web.pki.test'
	raw 10 9102 'hello\n' -h
	expect '^TLSv1.3 sni=echo.pki.test'
	expect '^hello$'
	expect 'end=eof'
}

# What clients say in TLS goes on within it.
test_tls_within_tls()
{
	servers 9101=good,echo
	policy "$(mode REGISTRY_ONLY)" "$(target tls 9101/TLS 'mode: SIMPLE' "caCertificates: $LAB_CA")"
	hello 10 tls.pki.test
	port=9101 hello 10 tls.pki.test
	expect '^TLSv1.3 sni=tls.pki.test'
	port=9101 hello 10 evil.pki.test
	expect 'end=ECONNRESET .*received=0'
}

test_an_upgraded_connection_goes_on_in_tls()
{
	servers 9101=good,upgrade
	policy "$(mode REGISTRY_ONLY)" "$(server web 9101)"
	raw 10 80 'GET / HTTP/1.1\r\nhost: web.pki.test\r\nconnection: upgrade\r\nupgrade: x\r\n\r\nsaid early\n' -h
	expect '^HTTP/1.1 101 '
	expect '^TLSv1.3 sni=web.pki.test'
	expect '^said early$'
	expect 'end=eof'
}

# What is secret is in files, in the processes' memory, and nowhere else.
test_keys_are_not_logged()
{
	local line

	servers 9101=good,want
	policy "$(mode REGISTRY_ONLY)" "$(target wanted 80/HTTP/9101 'mode: MUTUAL' "caCertificates: $LAB_CA" "clientCertificate: $keys/client.pem" \
		"privateKey: $keys/client.key")"
	says wanted 'TLSv1\.3 .*client=client$'
	cp "$keys/client.key" "$keys/broken.key" && echo nonsense >>"$keys/broken.key"
	sed -i 's/^-----END.*//' "$keys/broken.key"
	bad_policy "$(mode REGISTRY_ONLY)" "$(target wanted 80/HTTP/9101 'mode: MUTUAL' "caCertificates: $LAB_CA" "clientCertificate: $keys/client.pem" \
		"privateKey: $keys/broken.key")"
	[[ $(lab_last_error) == *'broken.key'*'has no private key in PEM form without a password'* ]] || fail "$(lab_last_error)"
	line=$(sed -n 2p "$keys/client.key")
	[[ ${#line} -gt 40 ]] || fail "a line of the key"
	run node curl -s "http://$LAB_ADMIN/status" "http://$LAB_ADMIN/metrics" "http://$LAB_ADMIN/"
	! grep -qF -- "${line:0:40}" "$LAB_LOG" <<<"$output" || fail "no log has the key"
	! grep -qF -- "${line:0:40}" <<<"$output" || fail "no page has the key"
	lab_sluice status | grep -qF -- "${line:0:40}" && fail "no status has the key"
	[[ $(stat -c %a "$LAB_PIN"/../*/applied 2>/dev/null | sort -u) =~ ^(600)?$ ]] || fail "what survives a restart is root's alone"
}

run_story
