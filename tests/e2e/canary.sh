#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Proof of life: what takes enforcement away behind sluice's back is seen, said, and put right within seconds.
. "$(dirname "$0")/common.bash"

status_says()
{
	lab_sluice status >"$scratch/status" 2>&1
	(($? == $1)) && grep -qE -- "$2" "$scratch/status"
}

# status_is EXIT-STATUS REGULAR-EXPRESSION [SECONDS]
status_is()
{
	lab_wait "${3:-0}" status_says "$1" "$2" || fail "status $1 with /$2/, not: $(head -n 6 "$scratch/status")"
}

# The daemon is held while something is done, so that what is seen of it is not a matter of luck.
hold()
{
	kill -STOP "$(lab_sluice_pid)"
}

let_go()
{
	kill -CONT "$(lab_sluice_pid)"
}

healthy()
{
	policy "$(mode REGISTRY_ONLY)"
	status_is 0 '^enforcing' 5
	: >"$LAB_LOG"
	mended=$(metric sluice_hooks_mended_total)
}

refused()
{
	probe tcp 203.0.113.12 9000
	expect 'result=ECONNREFUSED'
}

# expect_mended COUNT LOG-LINE
expect_mended()
{
	lab_wait 8 mended_by "$1" || fail "$1 hooks mended, not $(($(metric sluice_hooks_mended_total) - mended))"
	grep -qE -- "$2" "$LAB_LOG" || fail "the log says /$2/"
	status_is 0 '^enforcing' 5
	refused
}

mended_by()
{
	(($(metric sluice_hooks_mended_total) - mended == $1))
}

test_a_detached_hook_is_seen_said_and_attached_again()
{
	healthy
	hold
	bpftool link detach pinned "$LAB_PIN/link_connect4"
	status_is 1 'connect4: was detached behind our back'
	let_go
	expect_mended 1 'connect4: was detached behind our back; attaching it again'
}

test_all_hooks_detached_at_once()
{
	local link links=("$LAB_PIN"/link_{connect4,connect6,sendmsg4,sendmsg6,guard,post_bind4})

	healthy
	hold
	for link in "${links[@]}"; do bpftool link detach pinned "$link"; done
	let_go
	expect_mended "${#links[@]}" 'guard: was detached behind our back'
}

make_foreign()
{
	printf '__attribute__((section("cgroup/connect4"), used)) int pass(void *ctx) { (void)ctx; return 1; }\n' |
		clang -target bpf -O2 -x c -c - -o "$scratch/foreign.o"
	bpftool prog load "$scratch/foreign.o" "$foreign"
}
foreign=/sys/fs/bpf/$LAB_NAME-foreign

# remove_foreign CGROUP
remove_foreign()
{
	bpftool cgroup detach "$1" connect4 pinned "$foreign"
	rm -f "$foreign"
}

test_a_program_that_would_run_after_ours_does_not_stay_there()
{
	healthy
	make_foreign || fail "a foreign program can be loaded"
	trap 'remove_foreign "$(lab_cgroup_root)"; let_go; end_background' EXIT
	hold
	bpftool cgroup attach "$(lab_cgroup_root)" connect4 pinned "$foreign" multi || fail "it can be attached"
	status_is 1 'connect4: program [0-9]+ "pass" of somebody else runs after it'
	let_go
	expect_mended 1 'program [0-9]+ "pass" of somebody else runs after it'
	sleep 4
	mended_by 1 || fail "it is done once"
}

test_a_program_further_down_is_left_alone()
{
	healthy
	make_foreign || fail "a foreign program can be loaded"
	trap 'remove_foreign "$(lab_pod_cgroup web)"; end_background' EXIT
	bpftool cgroup attach "$(lab_pod_cgroup web)" connect4 pinned "$foreign" multi || fail "it can be attached"
	refused
	sleep 4
	mended_by 0 || fail "nothing needs to be mended"
	status_is 0 '^enforcing'
}

# Every hook is in its place, and yet what must be refused is not: only trying shows it.
test_tables_that_no_longer_deny_are_noticed()
{
	policy "$(mode ALLOW_ANY)"
	status_is 0 '^enforcing' 5
	: >"$LAB_LOG"
	bpftool map delete pinned "$LAB_PIN/assignments" key 0xfe 0xff 0xff 0xff
	status_is 1 'NOT ENFORCING: .*canary: a TCP connect to 198.18.0.1 was not refused' 6
	[[ $(metric sluice_canary_ok) == 0 ]] || fail "sluice_canary_ok is 0"
	run node curl -s -o /dev/null -w '%{http_code}' "http://$LAB_ADMIN/readyz"
	expect '^503'
	sleep 4
	(($(grep -c 'error.*canary:' "$LAB_LOG") == 1)) || fail "it is said once"
	policy "$(mode REGISTRY_ONLY)"
	status_is 0 '^enforcing' 6
	[[ $(metric sluice_canary_ok) == 1 ]] || fail "sluice_canary_ok is 1"
	grep -q 'canary: well again' "$LAB_LOG" || fail "the end of it is said"
}

test_the_canary_is_nobodys_flow()
{
	healthy
	sleep 4
	run node "$SLUICE" flows
	refuse '198\.18\.|2001:2:'
	run node "$SLUICE" status
	refuse '\(canary\)'
	run node curl -s "http://$LAB_ADMIN/metrics"
	expect '^sluice_canary_ok 1$'
	refuse 'workload="[^"]*(canary|4294967294)'
}

canaries()
{
	bpftool map dump pinned "$LAB_PIN/netns" | grep -c '(canary)'
}

test_one_canary_at_a_time()
{
	healthy
	kill -KILL "$(lab_sluice_pid)"
	lab_wait 3 lab_gone "$(lab_sluice_pid)" || fail "it is gone"
	status_is 0 '^enforcing'
	lab_sluice_start || fail "it starts again"
	[[ $(canaries) == 1 ]] || fail "one canary, not $(canaries)"
	kill -TERM "$(lab_sluice_pid)"
	lab_wait 5 lab_gone "$(lab_sluice_pid)" || fail "it ends on SIGTERM"
	[[ $(canaries) == 0 ]] || fail "no canary without a daemon"
	lab_sluice_start || fail "it starts again"
}

run_story
