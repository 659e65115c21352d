#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A policy that becomes tighter ends what it forbids, and nothing else.
. "$(dirname "$0")/common.bash"

# Dialled elsewhere than it is, so it goes through the redirector.
database()
{
	service db.example.com 5432/TCP/9000 'resolution: STATIC' 'addresses: [203.0.113.77, "2001:db8:113::77"]' \
		'endpoints: [{address: 203.0.113.12}, {address: "2001:db8:113::12"}]'
}

services()
{
	policy "$(mode REGISTRY_ONLY)" "$(service tcp.example.com 9000/TCP)" "$(service udp.example.com 9001/UDP)" "$(database)" "$@"
}

# An open connection through socat, on descriptors 6 (in) and 7 (out): open_to WHERE SOCAT-ADDRESS
open_to()
{
	rm -f "$scratch/in" "$scratch/out" "$scratch/open"
	mkfifo "$scratch/in" "$scratch/out"
	lab_enter "$1" socat - "$2" <"$scratch/in" >"$scratch/out" 2>"$scratch/open" &
	opened=$!
	background_pids+=($!)
	exec 6>"$scratch/in" 7<"$scratch/out"
}

echoes()
{
	local answer=

	echo "$1" >&6
	read -r -t 3 answer <&7
	[[ $answer == "$1" ]] || fail "the open connection echoes \"$1\", not \"$answer\": $(<"$scratch/open")"
}

# As open_to; a TLS connection from pod web that has shown the name NAME: open_tls NUMBER NAME
open_tls()
{
	local relayed

	relayed=$(settled_metric sluice_redirector_tls_relayed_total)
	open_to web "$(socat_address OPENSSL "$1" 443),snihost=$2,verify=0"
	lab_wait 5 tls_relayed_more_than "$relayed" || fail "the connection to $2 is relayed: $(<"$scratch/open")"
}

tls_relayed_more_than()
{
	(($(metric sluice_redirector_tls_relayed_total) > $1))
}

still_open()
{
	! lab_gone "$opened" || fail "the connection is still open: $(<"$scratch/open")"
}

route_revoked()
{
	lab_in node curl -s -m 2 "http://$LAB_ADMIN/metrics" |
		awk '/^sluice_verdicts_total.*reason="route-revoked".*by="kernel"/ { sum += $2 } END { print sum + 0 }'
}

ends_within_a_second()
{
	lab_wait 1.2 lab_gone "$opened" || fail "the connection is ended within a second: $(lab_in web ss -tunp)"
}

socat_address()
{
	local address

	address=$(address "$2")
	[[ $address != *:* ]] || address="[$address]"
	printf '%s:%s:%s\n' "$1" "$address" "$3"
}

family_a_direct_tcp_connection_is_ended()
{
	services
	open_to web "$(socat_address TCP 12 9000)"
	echoes before
	policy "$(mode REGISTRY_ONLY)" "$(service udp.example.com 9001/UDP)"
	ends_within_a_second
	lab_sluice flows | grep -q 'deny .*:9000/tcp: route-revoked' || fail "flows tells: $(lab_sluice flows | tail -n 3)"
}

family_a_connected_udp_socket_is_ended()
{
	services
	open_to web "$(socat_address UDP 12 9001)"
	echoes before
	policy "$(mode REGISTRY_ONLY)" "$(service tcp.example.com 9000/TCP)"
	ends_within_a_second
}

family_a_redirected_connection_is_ended()
{
	services
	open_to web "$(socat_address TCP 77 5432)"
	echoes before
	policy "$(mode REGISTRY_ONLY)" "$(service tcp.example.com 9000/TCP)"
	ends_within_a_second
	! upstreams_to 9000 || fail "the upstream connection is ended too: $(lab_in web ss -Htn)"
}

upstreams_to()
{
	lab_in web ss -Htn state established "dport = :$1" | grep -q .
}

family_a_relay_by_name_is_ended()
{
	services "$(service www.aliyun.com 443/TLS)"
	open_tls 10 www.aliyun.com
	services "$(service www.aliyun.com 443/TLS)" "$(service httpbin.example.com 80/HTTP)"
	sleep 1
	still_open
	services
	ends_within_a_second
	! upstreams_to 443 || fail "the upstream connection is ended too: $(lab_in web ss -Htn)"
}

# The client shows no name, and what it speaks is not declared.
test_a_relay_of_a_port_without_a_protocol_is_ended()
{
	services "$(service auto.example.com 8088/X/9000 'resolution: STATIC' 'addresses: [203.0.113.77]' 'endpoints: [{address: 203.0.113.12}]' |
		sed 's/, protocol: X//')"
	open_to web TCP:203.0.113.77:8088
	echoes before
	services "$(service auto.example.com 8088/X/9000 'resolution: STATIC' 'addresses: [203.0.113.77]' 'endpoints: [{address: 203.0.113.12}]' |
		sed 's/, protocol: X//')" "$(service httpbin.example.com 80/HTTP)"
	echoes between
	services
	ends_within_a_second
}

# Two names at one address: the kernel cannot tell their connections apart, the redirector can.
test_of_two_names_at_one_address_only_the_forbidden_one_is_ended()
{
	two_names "$(service www.aliyun.com 443/TLS)" "$(service cdn.example.com 443/TLS)"
	open_tls 10 www.aliyun.com
	two_names "$(service www.aliyun.com 443/TLS)"
	sleep 1
	still_open
	two_names "$(service www.aliyun.com 443/TLS)" "$(service cdn.example.com 443/TLS)"
	two_names "$(service cdn.example.com 443/TLS)"
	ends_within_a_second
}

# `dump services` shows one name for an address: policy() would wait for the other.
two_names()
{
	printf '%s\n' "$(mode REGISTRY_ONLY)" "$@" | lab_policy test || fail "the policy is applied"
	lab_wait 1 accepted || fail "the policy is accepted, not: $(lab_last_error)"
}

family_a_request_under_way_is_refused()
{
	services "$(service httpbin.example.com 80/HTTP)"
	background request web curl -sS -i -m 8 --resolve "httpbin.example.com:80:$(address 13)" \
		http://httpbin.example.com/ http://httpbin.example.com/slow/5000 -w 'elapsed_ms=%{time_total}\n'
	eventually grep -q httpbin "$scratch/request"
	eventually upstreams_to 80
	services
	lab_wait 1.2 lab_gone "${background_pids[-1]}" || fail "it is answered within a second"
	command='two requests on one connection, a policy that forbids the second'
	output=$(<"$scratch/request")
	expect_count 1 '^HTTP/1.1 200'
	expect_count 1 '^HTTP/1.1 502'
	refuse '^slow'
	! upstreams_to 80 || fail "the upstream connection is ended too: $(lab_in web ss -Htn)"
}

test_what_stays_allowed_is_untouched()
{
	services
	open_to web TCP:203.0.113.12:9000
	echoes one
	services "$(service www.aliyun.com 80/HTTP)"
	echoes two
	policy "$(mode ALLOW_ANY)"
	echoes three
	policy "$(mode REGISTRY_ONLY)" "$(service tcp.example.com 9000/TCP)"
	echoes four
}

family_a_connection_that_a_pods_server_accepted_is_untouched()
{
	local pod

	pod=$(pod_address)
	[[ $pod != *:* ]] || pod="[$pod]"
	policy "$(mode ALLOW_ANY)"
	background server web socat TCP6-LISTEN:7100,ipv6only=0,fork,reuseaddr EXEC:cat
	eventually listens_on 7100
	open_to internet "TCP:$pod:7100"
	echoes one
	policy "$(mode REGISTRY_ONLY)"
	echoes two
}

# A process of pod web's cgroup in the node's own network namespace.
on_the_node()
{
	printf 'echo 0 >%s/cgroup.procs; exec %s\n' "$(lab_pod_cgroup web)" "$*"
}

test_on_the_node_what_a_governed_process_dialled_is_ended_and_nothing_else()
{
	policy "$(mode ALLOW_ANY)"
	open_to node TCP:203.0.113.12:9000
	echoes 'nobody governs this one'
	background governed node sh -c "$(on_the_node socat -u TCP:203.0.113.12:9002 -)"
	lab_wait 5 node_has_open 9002 || fail "the governed one is open"
	policy "$(mode REGISTRY_ONLY)"
	lab_wait 1.2 lab_gone "${background_pids[-1]}" || fail "the governed one is ended within a second"
	echoes 'still there'
}

node_has_open()
{
	lab_in node ss -Htn state established "dport = :$1" | grep -q .
}

test_on_the_node_what_a_governed_server_accepted_is_untouched()
{
	policy "$(mode ALLOW_ANY)"
	background server node sh -c "$(on_the_node socat TCP-LISTEN:7200,fork,reuseaddr EXEC:cat)"
	lab_wait 5 node_listens_on 7200 || fail "it listens"
	open_to internet TCP:198.51.100.2:7200
	echoes one
	policy "$(mode REGISTRY_ONLY)"
	echoes two
}

node_listens_on()
{
	[[ -n $(lab_in node ss -Hltn "sport = :$1") ]]
}

test_one_that_a_server_accepted_before_sluice_came_is_untouched()
{
	policy "$(mode REGISTRY_ONLY)"
	lab_sluice detach >/dev/null
	lab_sluice_stop
	background server web socat TCP-LISTEN:7100,fork,reuseaddr EXEC:cat
	eventually listens_on 7100
	open_to internet TCP:10.88.0.2:7100
	echoes one
	lab_sluice_start || fail "it starts"
	lab_wait 5 device_is_judged || fail "the backstop is there"
	echoes two
}

device_is_judged()
{
	lab_sluice status | grep -q 'devices: pod-web$'
}

test_an_address_that_leaves_dns_ends_nothing()
{
	lab_dns moving.example.com 203.0.113.12 2001:db8:113::12
	policy "$(mode REGISTRY_ONLY)" "$(service moving.example.com 9000/TCP 9001/UDP)"
	lab_wait 5 names_say 203.0.113.12 || fail "the first address is known"
	open_to web TCP:203.0.113.12:9000
	echoes before
	send_datagrams v4 AF_INET 203.0.113.12
	send_datagrams mapped AF_INET6 ::ffff:203.0.113.12
	lab_dns moving.example.com 203.0.113.13 2001:db8:113::13
	lab_wait 100 names_lack 203.0.113.12 || fail "the first address leaves"
	echoes after
	still_echoes v4
	still_echoes mapped
	probe tcp 203.0.113.12 9000
	expect 'result=ECONNREFUSED'
	probe udp 203.0.113.12 9001
	expect 'result=ECONNREFUSED'
	policy "$(mode REGISTRY_ONLY)" "$(service moving.example.com 9000/TCP)" "$(service udp.example.com 9001/UDP)"
	echoes 'a generation later'
	policy "$(mode REGISTRY_ONLY)"
	ends_within_a_second
}

# One connected socket in pod web, five datagrams a second: send_datagrams NAME FAMILY ADDRESS
send_datagrams()
{
	background "$1" web python3 -c "
import socket, time
s = socket.socket(socket.$2, socket.SOCK_DGRAM)
s.settimeout(2)
s.connect(('$3', 9001))
while True:
    s.send(b'datagram')
    print(s.recv(99), flush=True)
    time.sleep(.2)"
	eventually grep -q datagram "$scratch/$1"
}

still_echoes()
{
	local before

	before=$(grep -c datagram "$scratch/$1")
	sleep 1
	(($(grep -c datagram "$scratch/$1") > before)) || fail "the datagrams go on ($1): $(tail -n 1 "$scratch/$1")"
}

names_say()
{
	lab_sluice status | sed -n '/^names/,$p' | grep -qw -- "$1"
}

names_lack()
{
	! names_say "$1"
}

# The kernel's own count of what is open from pod web to the echo server.
open_to_echo()
{
	lab_in web ss -Htn state established 'dport = :9000' | wc -l
}

few_are_open()
{
	(($(open_to_echo) <= $1))
}

test_two_thousand_connections_end_within_a_second()
{
	local revoked

	policy "$(mode REGISTRY_ONLY)" "$(service tcp.example.com 9000/TCP)" "$(service httpbin.example.com 9000/TCP)"
	open_to web TCP:203.0.113.12:9000
	background crowd web python3 -c "
import socket, time, resource
resource.setrlimit(resource.RLIMIT_NOFILE, (8192, 8192))
s = [socket.create_connection(('203.0.113.13', 9000)) for i in range(2000)]
print('ready', flush=True)
time.sleep(60)"
	lab_wait 20 grep -q ready "$scratch/crowd" || fail "2,000 connections are open: $(tail -n 2 "$scratch/crowd")"
	(($(open_to_echo) > 2000)) || fail "more than 2,000 are open, not $(open_to_echo)"
	echoes before
	revoked=$(route_revoked)
	policy "$(mode REGISTRY_ONLY)" "$(service tcp.example.com 9000/TCP)"
	lab_wait 1 few_are_open 1 || fail "all but one are gone within a second; there are $(open_to_echo)"
	echoes after
	lab_wait 2 counted_since "$revoked" 2000 || fail "all of them are counted, not $(($(route_revoked) - revoked))"
	grep -q 'ended 2000 open connections of 1 workloads' "$LAB_LOG" || fail "the log tells"
}

counted_since()
{
	(($(route_revoked) - $1 == $2))
}

# ---- drain ----

drained()
{
	drain_start=${EPOCHREALTIME/./}
	policy "$(mode REGISTRY_ONLY 'drain: 3s')"
}

since_drained_ms()
{
	echo $(((${EPOCHREALTIME/./} - drain_start) / 1000))
}

lives_for_three_seconds()
{
	local took

	echoes 'while it drains'
	until (($(since_drained_ms) > 2500)); do sleep 0.1; done
	echoes 'and still'
	lab_wait 3 lab_gone "$opened" || fail "it is ended in the end: $(lab_in web ss -tunp)"
	took=$(since_drained_ms)
	((took >= 3000 && took < 4700)) || fail "3 s after the flip, not $took ms after the policy was written"
}

family_a_direct_tcp_connection_drains()
{
	services
	open_to web "$(socat_address TCP 12 9000)"
	echoes before
	drained
	probe tcp "$(address 12)" 9000
	expect 'result=ECONNREFUSED'
	policy "$(mode REGISTRY_ONLY 'drain: 3s')" "$(service udp.example.com 9001/UDP)" # a generation later is no later end
	lives_for_three_seconds
	lab_wait 2 nothing_drains || fail "the map is empty again: $(bpftool map dump pinned "$LAB_PIN/draining")"
}

nothing_drains()
{
	bpftool map dump pinned "$LAB_PIN/draining" | grep -q 'Found 0 elements\|^\[\]'
}

family_a_connected_udp_socket_drains()
{
	services
	open_to web "$(socat_address UDP 12 9001)"
	echoes before
	drained
	lives_for_three_seconds
}

family_a_redirected_connection_drains()
{
	services
	open_to web "$(socat_address TCP 77 5432)"
	echoes before
	drained
	probe tcp "$(address 77)" 5432
	expect 'result=ECONNREFUSED'
	lives_for_three_seconds
}

test_a_request_under_way_drains()
{
	services "$(service httpbin.example.com 80/HTTP)"
	background request web curl -sS -i -m 8 http://httpbin.example.com/slow/2000 http://httpbin.example.com/
	eventually upstreams_to 80
	drained
	lab_wait 5 lab_gone "${background_pids[-1]}" || fail "it is answered"
	command='a slow request, a policy that forbids it in three seconds, and another request'
	output=$(<"$scratch/request")
	expect '^slow'
	expect_count 1 '^HTTP/1.1 200'
	expect_count 1 '^HTTP/1.1 502'
}

test_a_killed_daemon_is_no_reason_to_drain_longer()
{
	local pid

	services
	open_to web TCP:203.0.113.12:9000
	echoes before
	drained
	pid=$(lab_sluice_pid)
	kill -KILL "$pid"
	lab_wait 2 lab_gone "$pid" || fail "the daemon is gone"
	echoes 'without a daemon'
	lab_sluice_start || fail "it starts again"
	lab_wait 4 lab_gone "$opened" || fail "the next daemon ends it: $(lab_in web ss -tnp)"
	lab_wait 2 nothing_drains || fail "the map is empty again"
}

test_without_a_daemon_what_drained_sends_nothing_any_more()
{
	local pid answer=

	services
	open_to web TCP:203.0.113.12:9000
	echoes before
	drained
	pid=$(lab_sluice_pid)
	kill -KILL "$pid"
	lab_wait 2 lab_gone "$pid" || fail "the daemon is gone"
	sleep 3.2
	echo 'too late' >&6
	! read -r -t 1.5 answer <&7 || fail "no answer, not \"$answer\""
	lab_sluice_start || fail "it starts again"
	ends_within_a_second
}

test_a_policy_that_does_not_drain_ends_what_drains()
{
	services
	open_to web TCP:203.0.113.12:9000
	echoes before
	policy "$(mode REGISTRY_ONLY 'drain: 1h')"
	echoes 'while it drains'
	policy "$(mode REGISTRY_ONLY)"
	ends_within_a_second
}

test_what_is_allowed_again_is_not_ended()
{
	services
	open_to web TCP:203.0.113.12:9000
	echoes before
	policy "$(mode REGISTRY_ONLY 'drain: 1s')"
	services
	sleep 1.5
	echoes after
}

run_story
