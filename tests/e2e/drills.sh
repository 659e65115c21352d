#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Drills: what an operator meets some day, done on purpose while a pod is probed without pause. In each, nothing that is
# denied gets through, sluice says what is wrong, and it is well again without help when the cause has gone.

# In a mount namespace of its own: whoever else makes one meanwhile would hold a copy of the bpffs that is unmounted here.
[[ -n ${APART:-} ]] || APART=1 exec unshare -m --propagation slave "$0" "$@"
. "$(dirname "$0")/common.bash"

# Each test starts afresh: a drill leaves nothing as it was.
NO_START=1

registered=$(
	service tcp.example.com 9000/TCP
	service www.aliyun.com 80/HTTP
)

started()
{
	lab_sluice_stop
	fresh_policies
	: >"$LAB_LOG"
	lab_sluice_start || fail "it starts"
	policy "$(mode REGISTRY_ONLY)" "$registered"
}

# ---- the probes ----

probing()
{
	[[ ${1:-} == 'but not redirected' ]] ||
		background redirected web "$TOOLS/hammer" -n 1 -s 120 -w 50 http 203.0.113.10 80 www.aliyun.com
	background direct web "$TOOLS/hammer" -n 1 -s 120 -w 20 echo 203.0.113.12 9000
	background denied web "$TOOLS/hammer" -n 1 -s 120 -w 10 tcp 203.0.113.12 9002
	background blocked web "$TOOLS/hammer" -n 1 -s 120 -w 50 http 203.0.113.11 80 www.unregistered.com
	: >"$LAB/servers.log"
	background frames web python3 -c "$frames" 10.88.0.2 9001 1200
	sleep 0.3
}

# Ends the probes: nothing denied got through, and what each of the given probes saw is all well.
probed()
{
	local name

	end_background
	! arrived 10.88.0.2 || fail "no frame gets past the host's end of the pod's link"
	for name in denied blocked "$@"; do
		command="what the $name probe saw"
		output=$(cat "$scratch/$name")
		expect '^[0-9]+ '
		case $name in
		denied | blocked) refuse '^[0-9]+ (ok|http-[134])' ;;
		direct) expect_count 1 '^[0-9]+ (ok)$' && expect_count 1 '^[0-9]+ ' ;;
		redirected) expect_count 1 '^[0-9]+ (http-301)$' && expect_count 1 '^[0-9]+ ' ;;
		esac
	done
	command=
}

all_is_well()
{
	run node "$SLUICE" status --pin "$LAB_PIN"
	((status == 0)) && lab_ready && [[ $(lab_in node curl -s -m 2 "http://$LAB_ADMIN/readyz") != *';'* ]] &&
		[[ $(metric sluice_trouble) == 0 ]]
}

well_within()
{
	lab_wait "$1" all_is_well || {
		run node "$SLUICE" status --pin "$LAB_PIN"
		fail "all is well within $1 s"
	}
	probe tcp 203.0.113.12 9002
	expect 'result=ECONNREFUSED'
	probe -d hello tcp 203.0.113.12 9000
	expect 'result=ok'
	get 10 -I http://www.aliyun.com/
	expect '^HTTP/1.1 301'
}

# The log comes to have a line like this: logs WITHIN REGEX
logs()
{
	lab_wait "$1" grep -qE -- "$2" "$LAB_LOG" || fail "within $1 s a line in the log like /$2/"
}

trouble()
{
	[[ $(lab_in node curl -s -m 2 "http://$LAB_ADMIN/metrics" | sed -n "s/^sluice_trouble{what=\"$1\"} //p") == 1 ]]
}

# Trouble of a kind comes to be shown: the metric, and a regex that `status` says. troubled WITHIN KIND REGEX
troubled()
{
	lab_wait "$1" trouble "$2" || fail "within $1 s the metric shows trouble with $2"
	run node "$SLUICE" status --pin "$LAB_PIN"
	expect "$3"
}

# ---- pins ----

# A bpffs of this drill's own, which the daemon's mount namespace sees come and go.
own_bpffs()
{
	bpffs=$LAB/bpffs
	mkdir -p "$bpffs"
	mount --bind "$bpffs" "$bpffs" && mount --make-shared "$bpffs" || fail "a shared mount can be made"
	trap 'lab_sluice_stop; umount -l "$bpffs/fs"; umount -l "$bpffs"; end_background' EXIT
	mount_bpffs
	LAB_PIN=$bpffs/fs/$LAB_NAME
}

mount_bpffs()
{
	mkdir -p "$bpffs/fs"
	mount -t bpf bpf "$bpffs/fs" || fail "a bpffs can be mounted"
}

reaches_a_new_service()
{
	printf '%s\n' "$(mode REGISTRY_ONLY)" "$registered" "$(service httpbin.example.com 9000/TCP)" >"$LAB/new"
	mv "$LAB/new" "$LAB_POLICIES/test.yaml"
	eventually lab_exec web "$TOOLS/probe" -d hello tcp 203.0.113.13 9000
}

test_an_unmounted_bpffs()
{
	own_bpffs
	started
	probing
	umount -l "$bpffs/fs" || fail "it can be unmounted"
	troubled 5 pins 'NOT PINNED'
	expect_status 1
	expect "$LAB_PIN: .* is not on a bpffs \(mount -t bpf bpf $bpffs/fs\); pid [0-9]+ holds the hooks"
	! lab_ready || fail "it is not ready"
	logs 0 "error sluice: pins: $LAB_PIN: .* is not on a bpffs"
	reaches_a_new_service
	sleep 5 # until the pod's device was looked at, too
	mount_bpffs
	logs 5 'warning sluice: .* [0-9]+ pins were gone .*pinned again'
	well_within 5
	kill -KILL "$(lab_sluice_pid)"
	sleep 0.5
	lab_sluice_start || fail "it starts from the new pins"
	well_within 5
	probed direct redirected
}

test_a_bpffs_unmounted_in_the_namespace_of_the_daemon()
{
	own_bpffs
	started
	probing
	nsenter -t "$(lab_sluice_pid)" -m umount -l "$bpffs/fs" || fail "it can be unmounted"
	troubled 5 pins 'it says .*is not on a bpffs'
	nsenter -t "$(lab_sluice_pid)" -m mount -t bpf bpf "$bpffs/fs" || fail "it can be mounted"
	well_within 5
	probed direct redirected
}

test_removed_pins()
{
	started
	probing
	rm -r "$LAB_PIN"
	logs 5 'pins were gone .*pinned again'
	well_within 5
	kill -KILL "$(lab_sluice_pid)"
	sleep 0.5
	lab_sluice_start || fail "it starts from the new pins"
	well_within 5
	probed direct redirected
}

test_a_link_detached_behind_our_back()
{
	started
	probing
	run node bpftool link detach pinned "$LAB_PIN/link_connect4"
	expect_status 0
	run node "$SLUICE" status --pin "$LAB_PIN"
	expect_status 1
	expect 'connect4 +NOT ATTACHED'
	sleep 1
	lab_sluice_stop_daemon
	lab_sluice_start || fail "it starts again"
	well_within 5
	probed
}

lab_sluice_stop_daemon()
{
	kill -TERM "$(lab_sluice_pid)"
	lab_wait 5 lab_gone "$(lab_sluice_pid)" || fail "the daemon ends"
}

# ---- another version's pins ----

# Starts the daemon, which must refuse: what it says is in `output`.
refuses_to_start()
{
	run node timeout 10 "$SLUICE" run --config "$LAB_POLICIES" "${LAB_GOVERN[@]}" --pin "$LAB_PIN"
	expect_status 1
	expect "$LAB_PIN: pinned by another version of sluice .*goes on enforcing; run .sluice detach., then start this one"
}

starts_after_detach()
{
	run node "$SLUICE" detach --pin "$LAB_PIN"
	expect_status 0
	lab_sluice_start || fail "it starts"
	well_within 5
}

test_pins_of_an_older_abi()
{
	local value

	started
	kill -KILL "$(lab_sluice_pid)"
	probing
	mapfile -t value < <(bpftool -j map dump pinned "$LAB_PIN/state" |
		/usr/bin/python3 -c 'import json, sys; print(*json.load(sys.stdin)[0]["value"], sep="\n")')
	((${#value[@]} > 100)) || fail "the bytes of the state map, not ${#value[@]} values"
	value[0]=0x01
	bpftool map update pinned "$LAB_PIN/state" key 0 0 0 0 value "${value[@]}" || fail "the state map can be written"
	refuses_to_start
	run node "$SLUICE" status --pin "$LAB_PIN"
	expect_status 1
	expect 'another version'
	probed direct
	starts_after_detach
}

test_a_state_map_of_another_size()
{
	started
	kill -KILL "$(lab_sluice_pid)"
	probing
	rm "$LAB_PIN/state"
	bpftool map create "$LAB_PIN/state" type array key 4 value 96 entries 1 name state || fail "a map can be made"
	refuses_to_start
	probed direct
	starts_after_detach
}

# ---- full maps ----

# One line for `bpftool batch` per entry until no more fit: fill MAP ENTRIES VALUE-BYTES
fill()
{
	local zeros

	zeros=$(printf '0 %.0s' $(seq "$3"))
	for ((i = 0; i < $2; i++)); do
		printf 'map update pinned %s key %d %d 0 0 0 0 0 255 value %s\n' "$LAB_PIN/$1" $((i & 255)) $((i >> 8)) "$zeros"
	done >"$scratch/fill"
	bpftool batch file "$scratch/fill" >"$scratch/filled" 2>&1 && fail "map $1 has room for more than $2 entries"
	sed 's/update/delete/; s/ value .*//' "$scratch/fill" >"$scratch/empty-$1"
}

make_room()
{
	bpftool batch file "$scratch/empty-$1" >/dev/null 2>&1
	return 0
}

extra_reaches()
{
	lab_exec extra "$TOOLS/probe" -d hello tcp "$1" 9000
}

test_full_maps_of_cgroups_and_namespaces()
{
	trap 'end_background; make_room cgroups; make_room netns; remove_extra' EXIT
	started
	policy "$(mode ALLOW_ANY)" "$registered" "$(lab_workload extra)" "---
apiVersion: sluice.dev/v1
kind: EgressPolicy
metadata: {name: extra, namespace: default}
spec:
  workloadSelector: {labels: {app: extra}}
  outboundTrafficPolicy: {mode: REGISTRY_ONLY}"
	fill cgroups 16384 72
	fill netns 8192 88
	lab_pod extra || fail "a pod can be made"
	background extra extra "$TOOLS/hammer" -n 1 -s 120 -w 20 tcp 203.0.113.12 9002
	run extra "$TOOLS/probe" tcp 203.0.113.12 9000
	expect 'result=ECONNREFUSED'
	troubled 5 maps 'no room in the kernel for [0-9]+ of the governed cgroups and namespaces, such as .*pod-extra; they are refused'
	expect_status 0
	logs 0 'error sluice: map cgroups: no entry for .*pod-extra: it is full; it is refused everything'
	logs 0 'error sluice: map netns: no entry for netns .*: it is full'
	run node "$SLUICE" flows --pin "$LAB_PIN" --verdict deny
	expect '203.0.113.12:9000.*map.full'
	probe -d hello tcp 203.0.113.12 9002
	expect 'result=ok'
	make_room cgroups
	make_room netns
	lab_wait 10 all_is_well || fail "all is well when there is room"
	run extra "$TOOLS/probe" -d hello tcp 203.0.113.12 9000
	expect 'result=ok'
	run extra curl -sS -m 3 -I --resolve www.aliyun.com:80:203.0.113.10 http://www.aliyun.com/
	expect '^HTTP/1.1 301'
	end_background
	command='the denied probe of pod extra'
	output=$(cat "$scratch/extra")
	expect '^[0-9]+ ECONNREFUSED'
	expect_count 1 '^[0-9]+ '
}

remove_extra()
{
	[[ -e /run/netns/$LAB_NAME-pod-extra ]] || return
	lab_kill "$LAB_NAME-pod-extra"
	ip netns delete "$LAB_NAME-pod-extra"
	lab_wait 2 rmdir "$(lab_pod_cgroup extra)"
}

# 300 names get 63 IPv4 addresses each, where the live map was made for one.
many_names()
{
	local count=$1 i k

	lab_hosts >"$LAB/hosts.new"
	for ((i = 0; i < 300; i++)); do
		printf '2001:db8:40::%x n%d.example.net\n' $((i + 1)) $i
		for ((k = 0; k < count; k++)); do printf '10.%d.%d.%d n%d.example.net\n' $((40 + i / 250)) $((i % 250)) $((k + 1)) $i; done
	done >>"$LAB/hosts.new"
	cat "$LAB/hosts.new" >"$LAB/hosts"
	kill -HUP "$(<"$LAB/dnsmasq.pid")"
}

many()
{
	printf -- '---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: many-%d}\nspec:\n  hosts:\n' "$1"
	printf -- '  - n%d.example.net\n' $(seq "$1" "$2")
	printf -- '  ports: [{number: 8000, name: http, protocol: HTTP}]\n  resolution: DNS\n'
}

test_a_full_map_of_addresses()
{
	trap 'end_background; lab_hosts >"$LAB/hosts"; kill -HUP "$(<"$LAB/dnsmasq.pid")"' EXIT
	started
	many_names 1
	printf '%s\n' "$(mode REGISTRY_ONLY)" "$registered" "$(many 0 149)" "$(many 150 299)" | lab_policy test ||
		fail "the policy is looked at"
	eventually accepted
	probing
	many_names 63
	logs 20 'error sluice: map services: cannot add an entry: it is full'
	logs 5 'the same configuration, in larger maps'
	lab_wait 15 last_of_many_is_known || fail "the kernel knows every address"
	well_within 5
	probed direct redirected
}

last_of_many_is_known()
{
	(($(bpftool -j map dump pinned "$LAB_PIN/services" | grep -o 'n[0-9]*\.example\.net' | wc -l) >= 300 * 63))
}

# ---- memory ----

# A cgroup with little memory, of whichever hierarchy has the memory controller.
little_memory()
{
	local megabytes=$1 v1

	v1=$(awk '$3 == "cgroup" && "," $4 "," ~ /,memory,/ { print $2; exit }' /proc/mounts)
	memory=${v1:-$(lab_cgroup_root)}/$LAB_NAME-drill
	trap 'end_background; give_memory; lab_sluice_stop; lab_wait 5 rmdir "$memory"' EXIT
	[[ -n $v1 ]] || echo +memory >"$(lab_cgroup_root)/cgroup.subtree_control" || fail "there is a memory controller"
	mkdir -p "$memory"
	memory_limit=$memory/memory.limit_in_bytes
	[[ -n $v1 ]] || memory_limit=$memory/memory.max
	echo "${megabytes}M" >"$memory_limit" || fail "memory can be limited"
}

give_memory()
{
	echo 4G >"$memory_limit"
}

ten_thousand_services()
{
	mode REGISTRY_ONLY
	printf '%s\n' "$registered"
	awk 'BEGIN {
		for (i = 0; i < 10000; i++)
			printf "---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: s%d}\nspec:\n" \
				"  hosts: [s%d.example.net]\n  ports: [{number: 9000, name: tcp, protocol: TCP}]\n" \
				"  addresses: [10.%d.%d.1]\n  resolution: NONE\n", i, i, 50 + i / 250, i % 250
	}'
}

# As a ConfigMap's new version: in one step.
ten_thousand_arrive()
{
	ten_thousand_services >"$LAB/new" && mv "$LAB/new" "$LAB_POLICIES/test.yaml"
}

ten_thousand_are_in_force()
{
	[[ $(lab_sluice explain 10.60.1.1:9000 2>&1) == *ServiceEntry/s2501* ]]
}

test_no_memory_for_the_daemon()
{
	little_memory 24
	started
	probing
	echo "$(lab_sluice_pid)" >"$memory/cgroup.procs" || fail "the daemon can be put there"
	ten_thousand_arrive
	lab_wait 20 lab_gone "$(lab_sluice_pid)" || fail "the daemon is killed: this drill needs a lower limit"
	the_policy_in_force_is_the_old_one
	run node "$SLUICE" status --pin "$LAB_PIN"
	expect_status 0
	expect 'daemon +not running; what is pinned goes on enforcing'
	give_memory
	lab_sluice_start || fail "it starts again"
	lab_wait 20 ten_thousand_are_in_force || fail "the new policy is in force"
	well_within 5
	probed direct
}

the_policy_in_force_is_the_old_one()
{
	probe tcp 203.0.113.12 9002
	expect 'result=ECONNREFUSED'
	probe tcp 10.60.1.1 9000
	expect 'result=ECONNREFUSED'
	probe -d hello tcp 203.0.113.12 9000
	expect 'result=ok'
}

test_no_memory_for_the_redirector()
{
	little_memory 12
	started
	probing
	echo "$(redirector_pid)" >"$memory/cgroup.procs" || fail "the redirector can be put there"
	ten_thousand_arrive
	logs 20 'error sluice: redirector: .*; starting another'
	logs 5 'configuration refused: .*the redirector did not take it.*kept generation'
	logs 0 'configuration: tried again in 5 s'
	the_policy_in_force_is_the_old_one
	lab_wait 20 ten_thousand_are_in_force || fail "the new policy is in force: another redirector took it"
	well_within 5
	probed direct
}

# ---- names ----

test_the_resolver_is_gone()
{
	trap 'kill -CONT "$(<"$LAB/dnsmasq.pid")"; end_background' EXIT
	started
	probing
	kill -STOP "$(<"$LAB/dnsmasq.pid")"
	troubled 20 names 'names: [0-9]+ get no answer, such as .*; the last good addresses stay, asked again'
	expect_status 0
	logs 0 'warning sluice: resolver: .*; the last good addresses stay'
	kill -CONT "$(<"$LAB/dnsmasq.pid")"
	well_within 20
	probed direct redirected
}

# ---- the clock ----

# The daemon's and the redirector's wall clock, and theirs alone, is what $scratch/skew says beside the real one.
skewed_clock()
{
	cat >"$scratch/clock.c" <<-'END'
		#define _GNU_SOURCE
		#include <dlfcn.h>
		#include <fcntl.h>
		#include <stdlib.h>
		#include <sys/mman.h>
		#include <sys/time.h>
		#include <time.h>

		static const volatile long *skew;
		static int (*real)(clockid_t, struct timespec *);

		__attribute__((constructor)) static void start(void)
		{
			void *page = mmap(NULL, 4096, PROT_READ, MAP_SHARED, open(getenv("SKEW"), O_RDONLY | O_CLOEXEC), 0);

			real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
			skew = page == MAP_FAILED ? NULL : page;
		}

		int clock_gettime(clockid_t clock, struct timespec *now)
		{
			int error = real ? real(clock, now) : -1;

			if (!error && skew && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
				now->tv_sec += *skew;
			return error;
		}

		int gettimeofday(struct timeval *restrict now, void *restrict zone)
		{
			struct timespec t = {0};

			(void)zone;
			clock_gettime(CLOCK_REALTIME, &t);
			*now = (struct timeval){t.tv_sec, t.tv_nsec / 1000};
			return 0;
		}

		time_t time(time_t *out)
		{
			struct timespec t = {0};

			clock_gettime(CLOCK_REALTIME, &t);
			if (out)
				*out = t.tv_sec;
			return t.tv_sec;
		}
	END
	gcc -shared -fPIC -O1 "$scratch/clock.c" -o "$scratch/clock.so" -ldl || fail "the shim compiles"
	truncate -s 4096 "$scratch/skew"
}

skew()
{
	/usr/bin/python3 -c 'import sys
with open(sys.argv[1], "r+b") as f: f.write(int(sys.argv[2]).to_bytes(8, "little", signed=True))' "$scratch/skew" "$1"
}

moved_to()
{
	lab_sluice dump services | grep -F moving.example.com | grep -qF "203.0.113.$1"
}

# A jump while the delay of a fault runs, then whatever depends on time: names, a new policy, the folder's files.
jump()
{
	local days=$1 address=$2 port=$3

	background slow web curl -sS -m 10 -o /dev/null -w 'status=%{http_code} elapsed_ms=%{time_total}\n' \
		--resolve slow.example.com:8080:203.0.113.13 http://slow.example.com:8080/
	sleep 0.7
	skew $((days * 86400))
	lab_dns moving.example.com "203.0.113.$address" 2001:db8:113::13
	timed_policy "$port"
	eventually lab_exec web "$TOOLS/probe" -d hello tcp 203.0.113.77 "$port"
	lab_wait 10 moved_to "$address" || fail "the name's new address becomes known"
	tail -n 1 "$LAB_LOG" | grep -q "^$(date -u -d "$days days" +%F)" || fail "the daemon's clock jumps: $(tail -n 1 "$LAB_LOG")"
	lab_wait 5 grep -q status "$scratch/slow"
	command='a request that is delayed by 2 s, with a jump in between'
	output=$(<"$scratch/slow")
	expect 'status=200 elapsed_ms=2\.[0-3]'
	well_within 5
}

timed_policy()
{
	printf '%s\n' "$(mode REGISTRY_ONLY)" "$registered" "$(service moving.example.com 9000/TCP)" \
		"$(service echo.example.com "$1/TCP/9000" 'resolution: STATIC' 'addresses: [203.0.113.77]' 'endpoints: [{address: 203.0.113.12}]')" \
		"$(service slow.example.com 8080/HTTP 'resolution: STATIC' 'endpoints: [{address: 203.0.113.13}]')" '---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: slow}
spec:
  hosts: [slow.example.com]
  http:
  - fault: {delay: {fixedDelay: 2s, percentage: {value: 100}}}
    route: [{destination: {host: slow.example.com}}]' | lab_policy test || fail "the policy is looked at"
	eventually accepted
}

test_the_wall_clock_jumps()
{
	trap 'end_background; lab_dns moving.example.com' EXIT
	skewed_clock
	lab_dns moving.example.com 203.0.113.12 2001:db8:113::12
	lab_sluice_stop
	fresh_policies
	SKEW=$scratch/skew LD_PRELOAD=$scratch/clock.so ASAN_OPTIONS=${ASAN_OPTIONS:+$ASAN_OPTIONS:}verify_asan_link_order=0 \
		lab_sluice_start || fail "it starts"
	timed_policy 5000
	probing
	jump 1 13 5001
	jump -1 14 5002
	probed direct redirected
}

# ---- processes that hang ----

# New redirected connections live on the upstream sockets that were handed over, then wait.
test_a_stopped_daemon()
{
	local i

	trap 'kill -CONT "$(lab_sluice_pid)"; end_background' EXIT
	started
	probing 'but not redirected'
	lab_exec web "$TOOLS/hammer" -n 8 -s 0.5 http 203.0.113.10 80 www.aliyun.com >"$scratch/before"
	sleep 0.3
	kill -STOP "$(lab_sluice_pid)"
	run node "$SLUICE" status --pin "$LAB_PIN"
	expect_status 0
	expect 'it says +nothing \(Connection timed out\); what is pinned goes on enforcing, changes wait for it'
	printf '%s\n' "$(mode REGISTRY_ONLY)" "$registered" "$(service httpbin.example.com 9000/TCP)" >"$LAB_POLICIES/test.yaml"
	for i in 1 2; do
		get 10 -I http://www.aliyun.com/
		expect '^HTTP/1.1 301'
		sleep 2
	done
	lab_exec web "$TOOLS/hammer" -n 8 -s 0.5 http 203.0.113.10 80 www.aliyun.com >"$scratch/drained"
	background waiting web curl -sS -m 20 -o /dev/null -w 'status=%{http_code} elapsed_ms=%{time_total}\n' \
		--resolve www.aliyun.com:80:203.0.113.10 http://www.aliyun.com/
	probe tcp 203.0.113.13 9000
	expect 'result=ECONNREFUSED'
	sleep 1
	kill -CONT "$(lab_sluice_pid)"
	eventually lab_exec web "$TOOLS/probe" -d hello tcp 203.0.113.13 9000
	well_within 10
	command='a request made when most sockets were used'
	output=$(<"$scratch/waiting")
	expect 'status=301'
	probed direct
}

stop_redirector()
{
	redirector=$(redirector_pid)
	kill -STOP "$redirector" || fail "the redirector's pid in status"
}

test_a_stopped_redirector()
{
	started
	probing
	stop_redirector
	trap 'kill -CONT "$redirector"; end_background' EXIT
	background waiting web curl -sS -m 20 -o /dev/null -w 'status=%{http_code} elapsed_ms=%{time_total}\n' \
		--resolve www.aliyun.com:80:203.0.113.10 http://www.aliyun.com/
	troubled 8 redirector 'redirector: pid [0-9]+ has said nothing for [0-9]+ s; redirected connections wait for it'
	expect_status 0
	sleep 5
	kill -CONT "$redirector"
	well_within 5
	[[ $(redirector_pid) == "$redirector" ]] || fail "redirector $redirector goes on, not $(redirector_pid)"
	command='a request made while the redirector was stopped'
	output=$(<"$scratch/waiting")
	expect 'status=301 elapsed_ms=([5-9]|1[0-9])\.'
	probed direct
}

test_a_redirector_that_hangs_for_good()
{
	started
	probing
	stop_redirector
	logs 40 "error sluice: redirector: pid $redirector has said nothing for 30 s; killed, its open connections end"
	lab_wait 2 lab_gone "$redirector" || fail "it is gone"
	well_within 10
	probed direct
}

test_a_stopped_redirector_does_not_take_a_policy()
{
	started
	probing
	stop_redirector
	printf '%s\n' "$(mode REGISTRY_ONLY)" "$registered" "$(service httpbin.example.com 9000/TCP)" >"$LAB_POLICIES/test.yaml"
	logs 20 'configuration refused: .*the redirector did not take it: the redirector does not answer; kept generation'
	lab_wait 2 lab_gone "$redirector" || fail "it was killed: two would share the listeners, one with an old table"
	lab_wait 20 lab_exec web "$TOOLS/probe" -d hello tcp 203.0.113.13 9000 || fail "the next one takes the policy"
	well_within 10
	probed direct
}

# ---- files ----

test_the_policy_folder_is_deleted()
{
	local generation

	trap 'mkdir -p "$LAB_POLICIES"; end_background' EXIT
	started
	probing
	generation=$(lab_status_number generation)
	rm -r "$LAB_POLICIES"
	logs 5 "configuration refused: $LAB_POLICIES: No such file or directory; kept generation $generation"
	run node "$SLUICE" status --pin "$LAB_PIN"
	expect_status 0
	expect "last error +$LAB_POLICIES: No such file or directory; kept generation $generation"
	[[ $(metric sluice_config_refused) == 1 ]] || fail "a metric says so"
	sleep 2
	mkdir "$LAB_POLICIES"
	sleep 0.5
	fresh_policies
	printf '%s\n' "$(mode REGISTRY_ONLY)" "$registered" >"$LAB_POLICIES/test.yaml"
	well_within 10
	probed direct redirected
}

full_disk()
{
	cat /dev/zero >"$run/filler" 2>/dev/null
	[[ -s $run/filler ]] || fail "the disk is full"
}

test_a_full_disk()
{
	run=/run/$LAB_NAME
	lab_sluice_stop
	mkdir -p "$run"
	trap 'lab_sluice_stop; umount -l "$run"; end_background' EXIT
	mount -t tmpfs -o size=64k,mode=0700 tmpfs "$run" || fail "a small file system can be mounted"
	started
	probing
	full_disk
	reaches_a_new_service
	troubled 5 disk "disk: $run/applied: cannot save generation [0-9]+: No space left on device; .*tried again"
	expect_status 0
	lab_ready || fail "it is ready"
	lab_sluice_stop_daemon
	lab_sluice_start || fail "it starts on a full disk"
	trouble disk || fail "it still says so"
	rm "$run/filler"
	well_within 5
	grep -qF httpbin.example.com "$run/applied" || fail "the generation in force is saved"
	probed direct redirected
}

run_story
