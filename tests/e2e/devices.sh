#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The host's end of a pod's link: found, followed, judged, and never left without its programs.
. "$(dirname "$0")/common.bash"

denied_for()
{
	lab_sluice flows | grep -q "deny .*203.0.113.12:9001/udp: $1"
}

programs_on()
{
	lab_in node ip -d link show "$1" >"$scratch/link" && lab_in node bpftool net show dev "$1" | grep -c 'veth'
}

status_says()
{
	lab_sluice status | grep -qE -- "$1"
}

test_status_names_the_device_of_a_pod()
{
	status_says 'default/web.*, devices: pod-web$' || fail "status names pod-web: $(lab_sluice status)"
}

test_a_frame_from_a_packet_socket_is_judged()
{
	policy "$(mode ALLOW_ANY)"
	: >"$LAB/servers.log"
	frame 10.88.0.2 9001
	expect sent
	eventually arrived 10.88.0.2
	policy "$(mode REGISTRY_ONLY)"
	: >"$LAB/servers.log"
	frame 10.88.0.2 9001
	expect sent
	eventually denied_for not-registered
	! arrived 10.88.0.2 || fail "nothing arrives"
	policy "$(mode REGISTRY_ONLY)" "$(service udp.example.com 9001/UDP)"
	frame 10.88.0.2 9001
	eventually arrived 10.88.0.2
}

test_a_foreign_source_is_refused_even_under_allow_any()
{
	policy "$(mode ALLOW_ANY)"
	: >"$LAB/servers.log"
	frame 10.88.0.77 9001
	expect sent
	eventually denied_for foreign-source
	! arrived 10.88.0.77 || fail "nothing arrives"
}

test_an_address_that_the_pod_gives_itself_is_foreign()
{
	policy "$(mode ALLOW_ANY)"
	lab_in web ip addr add 10.88.0.99/32 dev eth0
	sleep 6 # longer than the period of looking
	: >"$LAB/servers.log"
	frame 10.88.0.99 9001
	lab_in web ip addr del 10.88.0.99/32 dev eth0
	sleep 0.3
	! arrived 10.88.0.99 || fail "nothing arrives"
}

routed_frame_arrives()
{
	frame 10.88.0.98 9001
	sleep 0.3
	arrived 10.88.0.98
}

test_an_address_that_the_host_routes_there_is_the_pods()
{
	policy "$(mode ALLOW_ANY)"
	lab_in node ip route add 10.88.0.98 dev pod-web
	lab_in web ip addr add 10.88.0.98/32 dev eth0
	: >"$LAB/servers.log"
	lab_wait 10 routed_frame_arrives ||
		fail "it is believed within 10 s"
	lab_in web ip addr del 10.88.0.98/32 dev eth0
	lab_in node ip route del 10.88.0.98 dev pod-web
}

test_a_new_link_is_found()
{
	policy "$(mode REGISTRY_ONLY)"
	lab_in node ip link add pod-extra type veth peer name eth1 netns "$(lab_netns web)"
	lab_in node ip link set pod-extra up
	eventually status_says 'devices:.* pod-extra'
	lab_in node ip link del pod-extra
	eventually status_lacks pod-extra
	status_says '^enforcing$' || fail "it still enforces"
}

status_lacks()
{
	! lab_sluice status | grep -q -- "$1"
}

test_a_detached_link_comes_back()
{
	local link

	policy "$(mode REGISTRY_ONLY)"
	link=$(find "$LAB_PIN" -name 'link_veth_[0-9]*')
	[[ -n $link ]] || fail "there is a pinned link"
	bpftool link detach pinned "$link" || fail "bpftool detaches it"
	lab_sluice status >"$scratch/status" && fail "status fails at once: $(cat "$scratch/status")"
	lab_wait 8 status_says '^enforcing$' || fail "within 8 s it is attached again"
}

test_the_programs_outlive_the_loader()
{
	local pid

	policy "$(mode REGISTRY_ONLY)"
	pid=$(lab_sluice_pid)
	kill -KILL "$pid"
	lab_wait 2 lab_gone "$pid" || fail "the loader is gone"
	: >"$LAB/servers.log"
	frame 10.88.0.2 9001
	expect sent
	sleep 0.3
	! arrived 10.88.0.2 || fail "nothing arrives"
	lab_sluice_start || fail "it starts again"
	frame 10.88.0.2 9001
	sleep 0.3
	! arrived 10.88.0.2 || fail "nothing arrives"
	status_says 'devices: pod-web$' || fail "the device is adopted: $(lab_sluice status)"
}

test_detach_leaves_no_program_there()
{
	lab_sluice detach >"$scratch/detach" || fail "it detaches"
	[[ -z $(lab_in node bpftool net show dev pod-web | grep -w 'veth\|veth_inbound') ]] ||
		fail "nothing of ours is left: $(lab_in node bpftool net show dev pod-web)"
}

run_story
