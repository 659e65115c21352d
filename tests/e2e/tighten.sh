#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A policy that becomes tighter ends what it forbids, and nothing else.
. "$(dirname "$0")/common.bash"

services()
{
	policy "$(mode REGISTRY_ONLY)" "$(service tcp.example.com 9000/TCP)" "$(service udp.example.com 9001/UDP)" \
		"$(service db.example.com 5432/TCP/9000 'resolution: STATIC' 'addresses: [203.0.113.77]' 'endpoints: [{address: 203.0.113.12}]')" "$@"
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

test_a_redirected_connection_is_ended()
{
	services
	open_to web TCP:203.0.113.77:5432
	echoes before
	policy "$(mode REGISTRY_ONLY)" "$(service tcp.example.com 9000/TCP)"
	ends_within_a_second
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

test_a_connection_that_a_pods_server_accepted_is_untouched()
{
	policy "$(mode ALLOW_ANY)"
	background server web socat TCP-LISTEN:7100,fork,reuseaddr EXEC:cat
	eventually listens_on 7100
	open_to internet TCP:10.88.0.2:7100
	echoes one
	policy "$(mode REGISTRY_ONLY)"
	echoes two
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
	policy "$(mode REGISTRY_ONLY)" "$(service moving.example.com 9000/TCP)"
	lab_wait 5 names_say 203.0.113.12 || fail "the first address is known"
	open_to web TCP:203.0.113.12:9000
	echoes before
	lab_dns moving.example.com 203.0.113.13 2001:db8:113::13
	lab_wait 100 names_lack 203.0.113.12 || fail "the first address leaves"
	echoes after
	probe tcp 203.0.113.12 9000
	expect 'result=ECONNREFUSED'
	policy "$(mode REGISTRY_ONLY)" "$(service moving.example.com 9000/TCP)" "$(service udp.example.com 9001/UDP)"
	echoes 'a generation later'
	policy "$(mode REGISTRY_ONLY)"
	ends_within_a_second
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

family_a_policy_can_let_connections_drain()
{
	services
	open_to web "$(socat_address TCP 12 9000)"
	echoes before
	policy "$(mode REGISTRY_ONLY 'drain: 4s')"
	probe tcp "$(address 12)" 9000
	expect 'result=ECONNREFUSED'
	echoes while
	policy "$(mode REGISTRY_ONLY 'drain: 4s')" "$(service udp.example.com 9001/UDP)"
	echoes 'a generation later'
	lab_wait 6 lab_gone "$opened" || fail "the connection is ended when its time is over"
}

test_a_relay_drains_too()
{
	services
	open_to web TCP:203.0.113.77:5432
	echoes before
	policy "$(mode REGISTRY_ONLY 'drain: 3s')"
	echoes while
	lab_wait 5 lab_gone "$opened" || fail "the connection is ended when its time is over"
}

test_a_restart_ends_what_drains()
{
	local pid

	services
	open_to web TCP:203.0.113.12:9000
	echoes before
	policy "$(mode REGISTRY_ONLY 'drain: 6s')"
	pid=$(lab_sluice_pid)
	kill -KILL "$pid"
	lab_wait 2 lab_gone "$pid" || fail "the loader is gone"
	lab_sluice_start || fail "it starts again"
	echoes while
	lab_wait 8 lab_gone "$opened" || fail "the connection is ended when its time is over"
}

test_two_thousand_connections_end_within_a_second()
{
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
	policy "$(mode REGISTRY_ONLY)" "$(service tcp.example.com 9000/TCP)"
	lab_wait 1 few_are_open 1 || fail "all but one are gone within a second; there are $(open_to_echo)"
	echoes after
}

run_story
