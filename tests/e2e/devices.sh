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

udp_frame_is_stopped()
{
	: >"$LAB/servers.log"
	frame 10.88.0.2 9001
	sleep 0.3
	! arrived 10.88.0.2
}

put_a_program_before()
{
	background before node "$TOOLS/tcx" pod-web
	eventually grep -q attached "$scratch/before"
}

test_a_program_put_before_ours_does_not_stay_there()
{
	policy "$(mode REGISTRY_ONLY)"
	udp_frame_is_stopped || fail "nothing arrives"
	put_a_program_before
	lab_wait 8 udp_frame_is_stopped || fail "within 8 s ours is the first again"
	eventually grep -q 'device pod-web: somebody put a program before veth;' "$LAB_LOG"
	status_says '^enforcing$' || fail "it enforces"
}

test_ours_comes_before_a_program_that_was_there()
{
	lab_sluice_stop
	put_a_program_before
	mode REGISTRY_ONLY >"$LAB_POLICIES/test.yaml"
	lab_sluice_start || fail "it starts"
	eventually status_says 'devices: pod-web$'
	udp_frame_is_stopped || fail "nothing arrives"
}

test_a_renamed_device_is_shown_by_its_name()
{
	lab_in node ip link set pod-web down
	lab_in node ip link set pod-web name pod-other
	eventually status_says 'devices: pod-other$'
	lab_in node ip link set pod-other name pod-web
	eventually status_says 'devices: pod-web$'
	pod_link_up
}

# What goes with the link's state: the routes, the proxying, the neighbours.
pod_link_up()
{
	local mac

	lab_in node ip link set pod-web up
	lab_in node sysctl -qw net.ipv4.conf.pod-web.proxy_arp=1 net.ipv4.neigh.pod-web.proxy_delay=0
	lab_in node ip route replace 10.88.0.2 dev pod-web
	lab_in node ip -6 route replace fd00:88::2 dev pod-web
	mac=$(lab_in node cat /sys/class/net/pod-web/address 2>/dev/null) ||
		mac=$(lab_in node ip -o link show pod-web | sed 's/.*link\/ether \([0-9a-f:]*\).*/\1/')
	lab_in web ip neigh replace fe80::1 lladdr "$mac" dev eth0 nud permanent
	lab_in web ip link set eth0 up
	lab_in web ip addr replace 10.88.0.2/32 dev eth0
	lab_in web ip addr replace fd00:88::2/128 dev eth0 nodad
	lab_in web ip route replace 169.254.1.1 dev eth0 scope link
	lab_in web ip route replace default via 169.254.1.1 dev eth0
	lab_in web ip -6 route replace default via fe80::1 dev eth0 onlink
	lab_in node ip neigh replace fd00:88::2 dev pod-web nud permanent \
		lladdr "$(lab_in web ip -o link show eth0 | sed 's/.*link\/ether \([0-9a-f:]*\).*/\1/')"
}

served()
{
	lab_exec "$1" "$TOOLS/probe" -d hello -t 300 tcp 203.0.113.12 9000 | grep -q 'result=ok'
}

test_a_replaced_link_is_judged_and_serves_within_a_second()
{
	policy "$(mode ALLOW_ANY)"
	lab_in node ip link del pod-web
	eventually status_lacks 'devices:.* pod-web'
	lab_in node ip link add pod-web type veth peer name eth0 netns "$(lab_netns web)"
	pod_link_up
	lab_wait 1.5 served web || fail "it serves: $(lab_sluice status)"
	status_says 'devices: pod-web$' || fail "status names it"
	policy "$(mode REGISTRY_ONLY)"
	udp_frame_is_stopped || fail "nothing arrives"
}

# A pod whose process is there before its link is, which comes with a link-local address and gets others later.
make_bridged()
{
	local cgroup

	cgroup=$(lab_pod_cgroup bridged)
	lab_in node ip link add br0 type bridge
	lab_in node ip addr add 10.89.0.1/24 dev br0
	lab_in node ip link set br0 up
	lab_in internet ip route add 10.89.0.0/24 via 198.51.100.2
	ip netns add "$(lab_netns bridged)"
	mkdir -p "$cgroup"
	(echo 0 >"$cgroup/cgroup.procs" && exec nsenter --net="/run/netns/$(lab_netns bridged)" sleep 60) </dev/null >/dev/null 2>&1 &
	eventually status_says 'no device: only its sockets'
	lab_in node ip link add pod-bridged type veth peer name eth0 netns "$(lab_netns bridged)"
	lab_in node ip link set pod-bridged master br0 up
	lab_in bridged ip link set lo up
	lab_in bridged ip link set eth0 up
	eventually status_says 'devices: pod-bridged$'
	sleep 0.3
	lab_in bridged ip addr add 10.89.0.2/24 dev eth0
	lab_in bridged ip route add default via 10.89.0.1
}

remove_bridged()
{
	echo 1 >"$(lab_pod_cgroup bridged)/cgroup.kill"
	ip netns delete "$(lab_netns bridged)"
	lab_in node ip link del br0
	lab_in internet ip route del 10.89.0.0/24
	lab_wait 2 rmdir "$(lab_pod_cgroup bridged)"
}

test_a_pod_behind_a_bridge_has_the_addresses_it_was_given()
{
	policy "$(mode ALLOW_ANY)"
	trap 'end_background; remove_bridged' EXIT
	make_bridged
	lab_wait 2 served bridged || fail "it serves: $(lab_sluice status)"
	lab_in bridged ip addr del 10.89.0.2/24 dev eth0 # first: it takes those of its prefix along
	lab_in bridged ip addr add 10.89.0.3/24 dev eth0 # a neighbour's, which the bridge leads to as well
	sleep 1
	lab_in bridged ip route replace default via 10.89.0.1
	! served bridged || fail "another address is foreign"
	kill -KILL "$(lab_sluice_pid)"
	lab_sluice_start || fail "it starts again"
	sleep 1
	! served bridged || fail "another address is foreign to another loader too"
	lab_sluice_stop
	eventually served bridged # it was sluice that refused it
	lab_sluice_start || fail "it starts again"
}

sources()
{
	bpftool map dump pinned "$LAB_PIN/sources" | grep -c '"device"'
}

# Adds and deletes addresses for about $1 seconds, without end for who lists them; while there is the file "churn".
churn()
{
	local end=$((SECONDS + $1))

	addresses 6 200 >"$scratch/more"
	sed 's/^addr add/addr del/; s/ nodad//' "$scratch/more" >"$scratch/less"
	while [[ -e $scratch/churn ]] && ((SECONDS < end)); do
		lab_in web ip -force -batch "$scratch/more"
		lab_in web ip -force -batch "$scratch/less"
	done >/dev/null 2>&1
}

addresses()
{
	seq "$2" | awk -v net="$1" '{ printf "addr add fe80::%s:%x/128 dev eth0 nodad\n", net, $1 }'
}

believed()
{
	bpftool map dump pinned "$LAB_PIN/sources" | tr -d ' \n' | grep -q '10,88,0,77\]'
}

forgotten()
{
	! believed
}

sources()
{
	bpftool map dump pinned "$LAB_PIN/sources" | grep -c '"device"'
}

# They are of any pod's own making: link-local ones are always believed. And a list that changes while it is read is not whole.
test_a_pod_cannot_fill_the_table_of_sources()
{
	local before churn

	policy "$(mode ALLOW_ANY)"
	before=$(sources)
	trap 'rm -f "$scratch/churn"; wait; lab_in web ip -6 addr flush dev eth0 scope link' EXIT
	lab_in node ip route add 10.88.0.77 dev pod-web
	lab_in web ip addr add 10.88.0.77/32 dev eth0
	lab_wait 6 believed || fail "its new address is believed"
	: >"$scratch/churn"
	churn 30 &
	churn=$!
	addresses 5 600 >"$scratch/addresses"
	lab_in web ip -force -batch "$scratch/addresses"
	eventually grep -q 'device pod-web: more than 128 addresses behind it' "$LAB_LOG"
	(($(sources) <= before + 128)) || fail "at most 128 sources, not $(sources)"
	served web || fail "it serves"
	lab_in node ip route del 10.88.0.77 dev pod-web
	lab_in web ip addr del 10.88.0.77/32 dev eth0
	lab_wait 7 forgotten || fail "its old address is not believed any more"
	rm "$scratch/churn"
	wait "$churn"
	lab_in web ip -6 addr flush dev eth0 scope link
	lab_wait 8 has_sources "$before" || fail "$before sources again, not $(sources)"
}

# Flushed with the others: the link's own.
has_sources()
{
	(($(sources) >= $1 - 1 && $(sources) <= $1))
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
