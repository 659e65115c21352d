#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The client sees the address it asked for, the server the pod's, a proxy in the redirector's place the original one.
. "$(dirname "$0")/common.bash"

registered()
{
	policy "$(mode REGISTRY_ONLY)" "$(service www.aliyun.com 80/HTTP 443/HTTPS)" "$(service tcp.example.com 9000/TCP)"
}

family_getpeername_of_a_redirected_connection_is_the_asked_address()
{
	registered
	probe tcp "$(address 10)" 80
	expect "result=ok .*peer=$(address 10),80 "
	probe tcp "$(address 11)" 80
	expect "result=ok .*peer=$(address 11),80 "
	probe tcp "$(address 10)" 443
	expect "result=ok .*peer=$(address 10),443 "
}

family_getpeername_of_a_direct_connection_is_the_asked_address()
{
	registered
	probe tcp "$(address 12)" 9000
	expect "result=ok .*peer=$(address 12),9000 "
}

family_the_server_of_a_redirected_request_sees_the_pods_address()
{
	policy "$(mode REGISTRY_ONLY)" "$(service www.unregistered.com 80/HTTP 443/HTTPS)"
	: >"$LAB/nginx.log"
	get 11 http://www.unregistered.com/
	expect 'this is'
	get 11 https://www.unregistered.com/
	expect 'this is'
	eventually peers_are_the_pod "$LAB/nginx.log"
}

# Every line of nginx's log names the pod as the peer. (Which family sluice dials upstream is its own choice.)
peers_are_the_pod()
{
	[[ -s $1 ]] && ! grep -qvE '^[^ ]+ (10\.88\.0\.2|fd00:88::2) ' "$1"
}

family_the_server_of_a_direct_connection_sees_the_pods_address()
{
	registered
	: >"$LAB/servers.log"
	probe -d hello tcp "$(address 12)" 9000
	expect 'result=ok'
	eventually grep -qE "^tcp $(pod_address) [0-9]+" "$LAB/servers.log"
}

family_so_original_dst_on_the_redirectors_side()
{
	registered
	printf 'GET / HTTP/1.1\r\nHost: www.aliyun.com\r\n\r\n' >"$scratch/bytes"
	lab_enter web "$TOOLS/raw" -t 4000 "$(address 11)" 80 <"$scratch/bytes" >"$scratch/answer" 2>&1 &
	background_pids+=($!)
	command="origdst of the redirector"
	eventually original_is "$(address 11 | sed 's/^::ffff://')"
}

original_is()
{
	output=$("$TOOLS/origdst" "$(redirector_pid)")
	grep -qE "original=(::ffff:)?$1,80\$" <<<"$output"
}

run_story
