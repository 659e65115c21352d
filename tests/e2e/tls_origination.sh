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

test_an_unknown_authority_is_refused()
{
	policy "$(mode REGISTRY_ONLY)" "$aliyun" "$(tls 'mode: SIMPLE')"
	get 10 -w ' %{http_code}' http://www.aliyun.com/
	expect 'reset reason: remote connection failure, transport failure reason: TLS_error: certificate verify failed: unable to get local issuer certificate 503$'
	policy "$(mode REGISTRY_ONLY)" "$aliyun" "$(tls 'mode: SIMPLE' 'insecureSkipVerify: true')"
	get 10 -o /dev/null -w '%{http_code}' http://www.aliyun.com/
	expect '^200$'
}

test_the_name_is_checked()
{
	policy "$(mode REGISTRY_ONLY)" "$aliyun" "$(trusted 'subjectAltNames: [other.example.com]')"
	get 10 -w ' %{http_code}' http://www.aliyun.com/
	expect 'certificate verify failed: it is for another name 503$'
	policy "$(mode REGISTRY_ONLY)" "$aliyun" "$(trusted 'subjectAltNames: [other.example.com, www.aliyun.com]')"
	get 10 -o /dev/null -w '%{http_code}' http://www.aliyun.com/
	expect '^200$'
	policy "$(mode REGISTRY_ONLY)" "$(service www.aliyun.com 80/HTTP/443 'subjectAltNames: [other.example.com]')" "$(trusted)"
	get 10 -w ' %{http_code}' http://www.aliyun.com/
	expect 'certificate verify failed: it is for another name 503$'
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
	bad_policy "$(mode REGISTRY_ONLY)" "$aliyun" "$(trusted | sed 's/number: 80/number: 443/')"
	[[ $(lab_last_error) == *'www.aliyun.com port 443'*'is not HTTP'* ]] || fail "$(lab_last_error)"
}

test_a_server_without_tls_is_an_error()
{
	policy "$(mode REGISTRY_ONLY)" "$(service www.aliyun.com 80/HTTP)" "$(trusted | sed s/www.aliyun.com/www.aliyun.com/)"
	get 10 -w ' %{http_code}' http://www.aliyun.com/
	expect 'transport failure reason: TLS_error: .* 503$'
}

run_story
