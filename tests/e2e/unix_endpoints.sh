#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Endpoints that are Unix sockets of the node, below the folder that an operator names (--unix-endpoints).
. "$(dirname "$0")/common.bash"

sockets=$scratch/sockets
log=$scratch/access.log
LAB_RUN_OPTIONS="--unix-endpoints $sockets/"

# A service at ADDRESS 203.0.113.77 on PORT/PROTOCOL, served at these endpoints: socket NAME of the folder, or /PATH, or an address.
at()
{
	local item list=''

	for item in "${@:2}"; do
		[[ $item != [a-z]* ]] || item=$sockets/$item
		[[ $item != /* ]] || item="'unix://$item'"
		list+="{address: $item}, "
	done
	service unix.example.com "$1" 'resolution: STATIC' 'addresses: [203.0.113.77, "2001:db8:113::77"]' "endpoints: [${list%, }]"
}

logged()
{
	printf -- '---\napiVersion: install.istio.io/v1alpha1\nkind: IstioOperator\nmetadata: {name: installed}\nspec:\n  meshConfig:\n'
	printf '    accessLogFile: %s\n    accessLogFormat: "%s"\n' "$log" \
		'%RESPONSE_CODE% %RESPONSE_FLAGS% %UPSTREAM_HOST% %UPSTREAM_REMOTE_ADDRESS% %UPSTREAM_LOCAL_ADDRESS% %UPSTREAM_TRANSPORT_FAILURE_REASON%'
}

expect_logged()
{
	command="cat $log"
	lab_wait 3 grep -qE -- "$1" "$log"
	output=$(<"$log")
	expect "$1"
	: >"$log"
}

# nginx with a socket for each of HTTP/1, HTTP/2 and TLS; it ends with the test.
start_nginx()
{
	mkdir -p "$scratch/nginx" "$sockets"
	rm -f "$sockets"/{web,h2,tls}.sock
	cat >"$scratch/nginx/conf" <<-END
		daemon off;
		user root;
		pid $scratch/nginx/pid;
		error_log $scratch/nginx/error.log;
		events { worker_connections 256; }
		http {
			access_log off;
			client_body_temp_path $scratch/nginx/body;
			proxy_temp_path $scratch/nginx/proxy;
			fastcgi_temp_path $scratch/nginx/fastcgi;
			uwsgi_temp_path $scratch/nginx/uwsgi;
			scgi_temp_path $scratch/nginx/scgi;
			ssl_certificate $LAB/tls.pem;
			ssl_certificate_key $LAB/tls.key;
			server {
				listen unix:$sockets/web.sock;
				location / { return 200 "\$host \$request_uri connection \$connection\n"; }
			}
			server {
				listen unix:$sockets/h2.sock http2;
				location / { return 200 "\$host over \$server_protocol\n"; }
			}
			server {
				listen unix:$sockets/tls.sock ssl;
				location / { return 200 "\$ssl_server_name over \$ssl_protocol\n"; }
			}
		}
	END
	lab_enter internet nginx -e "$scratch/nginx/error.log" -c "$scratch/nginx/conf" </dev/null &
	background_pids+=($!)
	eventually test -S "$sockets/tls.sock"
}

stop_nginx()
{
	end_background
	lab_wait 5 test ! -e "$sockets/web.sock" || fail "nginx ends"
}

# Says who its peer is, then what it hears.
peer_server='
import os, signal, socket, struct, sys, threading
def serve(one):
    pid, uid, gid = struct.unpack("3i", one.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    one.sendall(b"peer uid=%d gid=%d\n" % (uid, gid))
    while data := one.recv(65536):
        one.sendall(data)
    one.close()
s = socket.socket(socket.AF_UNIX)
s.bind(sys.argv[1])
os.chmod(sys.argv[1], int(sys.argv[2], 8))
s.listen(int(sys.argv[3]) if len(sys.argv) > 3 else 64)
while len(sys.argv) < 5:
    threading.Thread(target=serve, args=(s.accept()[0],), daemon=True).start()
signal.pause()'

# serve NAME [MODE [BACKLOG never]]; it ends with the test.
serve()
{
	mkdir -p "$sockets"
	rm -f "$sockets/$1"
	lab_enter internet python3 -c "$peer_server" "$sockets/$1" "${2:-666}" "${@:3}" </dev/null >/dev/null &
	background_pids+=($!)
	eventually test -S "$sockets/$1"
}

family_http_reaches_the_socket_and_keeps_its_connection()
{
	start_nginx
	: >"$log"
	policy "$(mode REGISTRY_ONLY)" "$(logged)" "$(at 80/HTTP web.sock)"
	get 77 http://unix.example.com/one http://unix.example.com/two
	expect '^unix.example.com /one connection [0-9]+$'
	[[ $(grep -o 'connection [0-9]*' <<<"$output" | sort -u | wc -l) == 1 ]] || fail "one connection for both"
	expect_logged "^200 - $sockets/web.sock $sockets/web.sock - -"
}

family_tcp_reaches_the_socket()
{
	: >"$log"
	serve echo.sock
	policy "$(mode REGISTRY_ONLY)" "$(logged)" "$(at 9000/TCP echo.sock)"
	raw 77 9000 'hello\n' -h
	expect '^peer uid=65534 gid=65534$'
	expect '^hello$'
	expect_logged "^0 - $sockets/echo.sock $sockets/echo.sock - -"
	probe tcp "$(address 77)" 9001
	expect 'result=ECONNREFUSED'
}

test_a_megabyte_goes_both_ways()
{
	serve echo.sock
	policy "$(mode REGISTRY_ONLY)" "$(at 9000/TCP echo.sock)"
	head -c 4000000 /dev/urandom >"$scratch/random"
	lab_exec web socat -t 5 - TCP:203.0.113.77:9000 <"$scratch/random" >"$scratch/back" 2>&1
	tail -c 4000000 "$scratch/back" | cmp - "$scratch/random" || fail "the same bytes come back"
}

test_http2_and_tls_reach_their_sockets()
{
	start_nginx
	policy "$(mode REGISTRY_ONLY)" "$(at 80/HTTP2 h2.sock)"
	get 77 --http2-prior-knowledge http://unix.example.com/
	expect '^unix.example.com over HTTP/2.0'
	policy "$(mode REGISTRY_ONLY)" "$(at 80/HTTP tls.sock)" '---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: tls}
spec: {host: unix.example.com, trafficPolicy: {tls: {mode: SIMPLE, sni: www.aliyun.com, insecureSkipVerify: true}}}'
	get 77 http://unix.example.com/
	expect '^www.aliyun.com over TLSv1.[23]'
	policy "$(mode REGISTRY_ONLY)" "$(at 443/TLS tls.sock)"
	get 77 -k https://unix.example.com/
	expect '^unix.example.com over TLSv1.[23]'
}

test_a_known_name_is_redirected_under_allow_any_too()
{
	start_nginx
	policy "$(mode ALLOW_ANY)" "$(service unix.example.com 80/HTTP 'resolution: STATIC' "endpoints: [{address: 'unix://$sockets/web.sock'}]")"
	get 10 http://unix.example.com/here
	expect '^unix.example.com /here connection'
	get 10 -o /dev/null -w '%{http_code}' http://www.aliyun.com/
	expect '^301$'
}

test_a_server_that_restarts()
{
	start_nginx
	: >"$log"
	policy "$(mode REGISTRY_ONLY)" "$(logged)" "$(at 80/HTTP web.sock)"
	get 77 http://unix.example.com/
	expect '^unix.example.com / '
	stop_nginx
	get 77 -i http://unix.example.com/
	expect '^HTTP/1.1 503'
	expect 'remote connection failure, transport failure reason: delayed connect error: No such file or directory'
	sleep 1 # the log names one reason a second
	python3 -c 'import socket, sys; socket.socket(socket.AF_UNIX).bind(sys.argv[1])' "$sockets/web.sock"
	chmod 666 "$sockets/web.sock"
	get 77 -i http://unix.example.com/
	expect '^HTTP/1.1 503'
	expect 'remote connection failure, transport failure reason: delayed connect error: Connection refused'
	expect_logged "^503 UF,URX $sockets/web.sock $sockets/web.sock - delayed_connect_error:_Connection_refused"
	[[ $(grep -c "endpoint unix://$sockets/web.sock: Connection refused: connections to it fail" "$LAB_LOG") == 1 ]] || fail "the log says so once"
	rm -f "$sockets/web.sock"
	start_nginx
	get 77 http://unix.example.com/
	expect '^unix.example.com / '
}

test_what_is_refused_when_it_is_dialled()
{
	local what

	serve root.sock 600
	mkdir -p "$scratch/elsewhere"
	rm -f "$sockets"/{link,dir,file} "$scratch/elsewhere/web.sock"
	ln -s "$sockets/web.sock" "$sockets/link"
	ln -s ../elsewhere "$sockets/dir"
	touch "$sockets/file"
	chmod 666 "$sockets/file"
	python3 -c 'import socket, sys; socket.socket(socket.AF_UNIX).bind(sys.argv[1])' "$scratch/elsewhere/web.sock"
	while read -r name what; do
		policy "$(mode REGISTRY_ONLY)" "$(at 80/HTTP "$name")"
		get 77 -i http://unix.example.com/
		expect '^HTTP/1.1 503'
		expect "transport failure reason: delayed connect error: $what"
	done <<-END
		link Too many levels of symbolic links
		dir/web.sock Too many levels of symbolic links
		root.sock Permission denied
		file Connection refused
		nothing.sock No such file or directory
		file/web.sock Not a directory
	END
	policy "$(mode REGISTRY_ONLY)" "$(at 9000/TCP root.sock)"
	probe -d hello tcp 203.0.113.77 9000
	expect 'result=ECONNRESET'
}

test_a_busy_server_is_waited_for()
{
	serve busy.sock 666 0 never
	policy "$(mode REGISTRY_ONLY)" "$(at 80/HTTP busy.sock)" '---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: patience}
spec: {host: unix.example.com, trafficPolicy: {connectionPool: {tcp: {connectTimeout: 500ms}}}}' '---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: once}
spec: {hosts: [unix.example.com], http: [{retries: {attempts: 0}, route: [{destination: {host: unix.example.com}}]}]}'
	background first web curl -sS -m 20 --resolve unix.example.com:80:203.0.113.77 http://unix.example.com/
	sleep 0.3
	get 77 -i http://unix.example.com/
	expect '^HTTP/1.1 503'
	expect 'reset reason: connection timeout'
	expect_time 450 1500
}

test_a_dead_endpoint_is_tried_once_and_the_other_serves()
{
	local i

	start_nginx
	policy "$(mode REGISTRY_ONLY)" "$(at 80/HTTP web.sock nothing.sock)"
	for i in 1 2 3 4 5 6 7 8; do
		get 77 http://unix.example.com/
		expect '^unix.example.com / '
	done
	policy "$(mode REGISTRY_ONLY)" "$(at 80/HTTP nothing.sock 203.0.113.13)"
	get 77 http://unix.example.com/head
	expect '^GET /head'
}

test_many_at_once()
{
	start_nginx
	policy "$(mode REGISTRY_ONLY)" "$(at 80/HTTP web.sock)"
	run web h2load --h1 -n 400 -c 80 --connect-to 203.0.113.77:80 http://unix.example.com/
	expect '400 succeeded, 0 failed'
	policy "$(mode REGISTRY_ONLY)" "$(at 80/HTTP2 h2.sock)"
	run web h2load -n 400 -c 10 -m 20 --connect-to 203.0.113.77:80 http://unix.example.com/
	expect '400 succeeded, 0 failed'
}

test_a_policy_that_changes_sockets()
{
	start_nginx
	serve echo.sock
	policy "$(mode REGISTRY_ONLY)" "$(at 9000/TCP echo.sock)"
	background held web socat -t 20 - TCP:203.0.113.77:9000
	eventually grep -q '^peer' "$scratch/held"
	policy "$(mode REGISTRY_ONLY)" "$(at 80/HTTP web.sock)"
	probe tcp 203.0.113.77 9000
	expect 'result=ECONNREFUSED'
	get 77 http://unix.example.com/
	expect '^unix.example.com / '
}

test_a_loader_that_is_killed()
{
	start_nginx
	policy "$(mode REGISTRY_ONLY)" "$(at 80/HTTP web.sock)"
	kill -KILL "$(lab_sluice_pid)"
	lab_wait 3 lab_gone "$(lab_sluice_pid)" || fail "it is gone"
	background waits web curl -sS -m 20 --resolve unix.example.com:80:203.0.113.77 http://unix.example.com/waits
	lab_sluice_start || fail "it starts again"
	eventually grep -q '^unix.example.com /waits' "$scratch/waits"
	get 77 http://unix.example.com/
	expect '^unix.example.com / '
}

test_explain_and_dump_show_it()
{
	policy "$(mode REGISTRY_ONLY)" "$(at 80/HTTP web.sock)"
	run node "$SLUICE" explain --unix-endpoints "$sockets" --config "$LAB_POLICIES" http://unix.example.com/
	expect "^    at +unix://$sockets/web.sock, a socket of the node"
	expect '^kernel +redirect'
	run node "$SLUICE" dump services --pin "$LAB_PIN"
	expect '^a Unix socket +80 +tcp +upstream +unix.example.com +http,routed,rewrites,unix$'
	refuse '^[0-9a-f:.]+ +0 '
}

test_outside_of_the_folder_nothing_is_accepted()
{
	local path

	for path in /run/docker.sock "$sockets/../web.sock" "${sockets}2/web.sock" "$sockets/" "$sockets"; do
		bad_policy "$(mode REGISTRY_ONLY)" "$(at 80/HTTP "$path")"
		command="unix://$path" output=$(lab_last_error)
		expect 'test.yaml:[0-9]+:[0-9]+: ServiceEntry/e-unix-example-com: spec.endpoints\[0\].address: .*; kept generation'
		policy "$(mode REGISTRY_ONLY)"
	done
}

test_without_the_option_none_is_accepted()
{
	local path=$sockets/web.sock

	lab_sluice_stop
	fresh_policies
	LAB_RUN_OPTIONS='' lab_sluice_start
	bad_policy "$(mode REGISTRY_ONLY)" "$(at 80/HTTP web.sock)"
	command='sluice status' output=$(lab_last_error)
	lab_sluice_stop
	fresh_policies
	lab_sluice_start
	expect "spec.endpoints\[0\].address: .*unix://$path.* is a Unix socket of the node, and no operator allows any: .sluice run --unix-endpoints DIR. allows those below DIR; kept generation"
}

run_story
