#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# --backstop xdp: frames of a pod's link are judged in its driver, where no packet has a socket any more. All of the suite
# but hostCheck: kernel can be run so: LAB_RUN_OPTIONS="--backstop xdp" tests/run devices/
. "$(dirname "$0")/common.bash"
LAB_RUN_OPTIONS="--backstop xdp"

registered_only()
{
	policy "$(mode REGISTRY_ONLY)" "$(service tcp.example.com 9000/TCP)" "$(service udp.example.com 9001/UDP)" \
		"$(service www.aliyun.com 80/HTTP)"
}

test_status_says_so()
{
	run node "$SLUICE" status
	expect '^enforcing$'
	expect '^backstop    xdp'
	run node "$SLUICE" status -o json
	expect '"backstop": ?"xdp"'
	expect '"in_driver": ?true'
	run node bpftool net show dev pod-web
	expect 'pod-web\([0-9]*\) driver id'
}

family_direct_and_redirected_flows_go_on()
{
	registered_only
	probe -d hello tcp "$(address 12)" 9000
	expect 'result=ok'
	probe tcp "$(address 12)" 9002
	expect 'result=ECONNREFUSED'
	probe -d hello udp "$(address 12)" 9001
	expect 'result=ok'
	get 10 -I http://www.aliyun.com/
	expect '^HTTP/1.1 301'
	get 11 -I http://unregistered.example.com/
	expect '^HTTP/1.1 502'
}

test_a_frame_is_judged()
{
	registered_only
	: >"$LAB/servers.log"
	frame 10.88.0.2 9001
	eventually arrived 10.88.0.2
	frame 10.88.0.77 9001
	expect sent
	sleep 0.3
	! arrived 10.88.0.77 || fail "nothing arrives from a foreign source"
	policy "$(mode REGISTRY_ONLY)"
	: >"$LAB/servers.log"
	frame 10.88.0.2 9001
	expect sent
	sleep 0.3
	! arrived 10.88.0.2 || fail "nothing arrives"
	lab_sluice flows | grep -q 'deny .*203.0.113.12:9001/udp: not-registered' || fail "it is recorded: $(lab_sluice flows)"
}

test_a_server_in_the_pod_answers()
{
	registered_only
	background server web python3 -c '
import socket
s = socket.create_server(("0.0.0.0", 7101))
while True:
    c = s.accept()[0]
    c.sendall(b"it answers")
    c.close()'
	sleep 0.5
	run internet python3 -c '
import socket
s = socket.create_connection(("10.88.0.2", 7101), 3)
print(s.recv(20))'
	expect 'it answers'
}

enforces()
{
	lab_sluice status >/dev/null
}

test_a_detached_program_comes_back()
{
	local link

	registered_only
	link=$LAB_PIN/link_veth_xdp_$(lab_in node ip -o link show pod-web | cut -d: -f1)
	bpftool link detach pinned "$link" || fail "bpftool detaches it"
	lab_sluice status >"$scratch/status" && fail "status fails at once: $(cat "$scratch/status")"
	lab_wait 8 enforces || fail "within 8 s it is attached again"
}

test_names_cannot_be_left_to_the_kernel()
{
	bad_policy "$(mode REGISTRY_ONLY 'hostCheck: kernel')"
	[[ $(lab_last_error) == *'spec.hostCheck: '*'--backstop xdp'* ]] || fail "it is refused, not: $(lab_last_error)"
}

# Between two loaders something judges all the time; what is left after the change is tc alone.
test_a_loader_with_tc_takes_over()
{
	registered_only
	kill -KILL "$(lab_sluice_pid)"
	LAB_RUN_OPTIONS='' lab_sluice_start || fail "it starts with tc"
	! lab_in node bpftool net show dev pod-web | grep -q driver || fail "the driver's program is gone"
	: >"$LAB/servers.log"
	frame 10.88.0.2 9001
	eventually arrived 10.88.0.2
	frame 10.88.0.77 9001
	sleep 0.3
	! arrived 10.88.0.77 || fail "nothing arrives from a foreign source"
	get 10 -I http://www.aliyun.com/
	expect '^HTTP/1.1 301'
}

test_it_takes_guard()
{
	lab_sluice_stop
	LAB_RUN_OPTIONS='' run node timeout 10 "$SLUICE" run --config "$LAB_POLICIES" "${LAB_GOVERN[@]}" --pin "$LAB_PIN" --backstop xdp --without guard
	expect_status 1
	expect -- '--backstop xdp: needs guard'
	run node "$SLUICE" run --backstop generic
	expect_status 2
	expect 'must be tc or xdp'
}

run_story
