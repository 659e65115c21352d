#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# sluice detach, the break-glass: everything of ours goes, nothing else, and the daemon does not attach again.
. "$(dirname "$0")/common.bash"

attached()
{
	bpftool cgroup tree "$(lab_cgroup_root)" 2>/dev/null | grep -c 'connect\|sendmsg\|getpeername\|getsockopt'
}

# A program and a map of somebody else, which must survive.
make_foreign()
{
	printf '__attribute__((section("cgroup/connect4"), used)) int pass(void *ctx) { (void)ctx; return 1; }\n' |
		clang -target bpf -O2 -x c -c - -o "$scratch/foreign.o"
	bpftool prog load "$scratch/foreign.o" /sys/fs/bpf/foreign-program
	bpftool map create /sys/fs/bpf/foreign-map type array key 4 value 4 entries 1 name foreign
	bpftool cgroup attach "$(lab_cgroup_root)" connect4 pinned /sys/fs/bpf/foreign-program multi
}

remove_foreign()
{
	bpftool cgroup detach "$(lab_cgroup_root)" connect4 pinned /sys/fs/bpf/foreign-program
	rm -f /sys/fs/bpf/foreign-program /sys/fs/bpf/foreign-map
}

# Each test here starts afresh: a daemon that was told to detach stays idle.
NO_START=1

started()
{
	lab_sluice_stop
	fresh_policies
	lab_sluice_start || fail "it starts"
	policy "$(mode REGISTRY_ONLY)"
	refused
}

refused()
{
	probe tcp 203.0.113.12 9000
	expect 'result=ECONNREFUSED'
}

allowed()
{
	probe -d hello tcp 203.0.113.12 9000
	expect 'result=ok'
}

detach()
{
	run node "$SLUICE" detach
	expect_status 0
}

test_detach_removes_all_of_ours_and_nothing_else()
{
	local before

	make_foreign || fail "a foreign program can be attached"
	trap 'remove_foreign; end_background' EXIT
	before=$(attached)
	started
	detach
	[[ ! -e $LAB_PIN ]] || fail "no pin is left: $(ls "$LAB_PIN")"
	[[ $(attached) == "$before" ]] || fail "$before programs attached as before, not $(attached)"
	[[ -e /sys/fs/bpf/foreign-map ]] || fail "the foreign map is still pinned"
	allowed
}

test_the_daemon_does_not_attach_again()
{
	local before

	lab_sluice_stop
	detach
	before=$(attached)
	started
	detach
	mode ALLOW_ANY >"$LAB_POLICIES/test.yaml"
	sleep 2
	allowed
	run node "$SLUICE" status
	expect_status 1
	[[ $(attached) == "$before" ]] || fail "$before programs attached as before, not $(attached)"
}

test_without_a_daemon_it_detaches_too()
{
	started
	kill -KILL "$(lab_sluice_pid)"
	refused
	detach
	allowed
	[[ ! -e $LAB_PIN ]] || fail "no pin is left"
}

# The daemon holds the hooks as the pins do: what hangs must end.
test_with_a_hung_daemon_and_redirector_it_detaches_too()
{
	local redirector

	started
	redirector=$(redirector_pid)
	kill -STOP "$(lab_sluice_pid)" "$redirector" || fail "the redirector's pid in status"
	detach
	expect 'daemon: pid [0-9]+ does not answer .*; killed'
	allowed
	lab_gone "$redirector" || fail "the redirector is gone"
}

test_detaching_twice_is_no_error()
{
	started
	detach
	detach
}

test_a_start_after_a_detach_enforces_again()
{
	started
	detach
	started
}

run_story
