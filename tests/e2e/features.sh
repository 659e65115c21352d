#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# What sluice does on a kernel that lacks something: says so, does the rest, or does not start.
. "$(dirname "$0")/common.bash"

NO_START=1

# starts_without FEATURE...
starts_without()
{
	local feature options=()

	for feature; do options+=(--without "$feature"); done
	lab_sluice_stop
	fresh_policies
	: >"$LAB_LOG"
	lab_sluice_start "${options[@]}" || fail "it starts without $*"
	policy "$(mode REGISTRY_ONLY)" "$(service tcp.example.com 9000/TCP)" "$(service www.aliyun.com 80/HTTP)"
}

# It enforces, and says what it lacks.
lacks()
{
	run node "$SLUICE" status
	expect_status 0
	expect '^enforcing'
	expect "LACKS $1 \\(.*\\): "
	grep -q "warning sluice: kernel: $1 is missing (.*): " "$LAB_LOG" || fail "the log says what is missing"
	[[ $(metric "sluice_kernel_feature{feature=\"$1\"}") == 0 ]] || fail "the metrics say what is missing"
	sleep 4 # the canary asks again
	run node "$SLUICE" status
	expect_status 0
}

the_policy_holds()
{
	probe tcp 203.0.113.12 9002
	expect 'result=ECONNREFUSED'
	probe udp 203.0.113.12 9001
	expect 'result=ECONNREFUSED'
	probe -d hello tcp 203.0.113.12 9000
	expect 'result=ok'
	get 10 -I http://www.aliyun.com/
	expect '^HTTP/1.1 301'
}

# Its links, by name.
links()
{
	find "$LAB_PIN" -name 'link_*' -o -name '*veth*' | sed 's|.*/||'
}

test_status_lists_what_the_kernel_can_do()
{
	starts_without
	run node "$SLUICE" status
	expect '^kernel      can: connect .*ringbuf.*'
	run node "$SLUICE" status -o json
	expect '"name": ?"netns-cookie"'
	expect '"mandatory": ?true'
	expect '"without": ?".+"'
}

test_without_guard_the_rest_enforces()
{
	starts_without guard
	lacks guard
	the_policy_holds
	! links | grep -q guard || fail "guard is not attached: $(links)"
	[[ $(metric sluice_hooks_attached) == 12 && $(metric sluice_hooks_expected) == 12 ]] || fail "12 of 12 hooks"
}

test_without_guard_names_are_not_checked_by_it()
{
	starts_without guard
	bad_policy "$(mode REGISTRY_ONLY 'hostCheck: kernel')"
	[[ $(lab_last_error) == *'spec.hostCheck: '*'needs '*', which this kernel lacks'* ]] ||
		fail "hostCheck: kernel is refused, not: $(lab_last_error)"
	the_policy_holds
}

kill_daemon()
{
	kill -KILL "$(lab_sluice_pid)"
	lab_wait 5 lab_gone "$(lab_sluice_pid)" || fail "it is gone"
}

test_guard_comes_and_goes_with_the_kernel()
{
	starts_without
	links | grep -q guard || fail "guard is attached"
	kill_daemon
	lab_sluice_start --without guard || fail "it starts without guard"
	! links | grep -q guard || fail "what an earlier daemon attached is gone: $(links)"
	kill_daemon
	lab_sluice_start || fail "it starts with guard"
	links | grep -q guard || fail "guard is back"
}

test_without_veth_the_rest_enforces()
{
	starts_without veth
	lacks veth
	the_policy_holds
	! links | grep -q veth || fail "veth is not attached: $(links)"
}

test_without_tcx_a_filter_takes_its_place()
{
	starts_without tcx
	lacks tcx
	the_policy_holds
	run node tc filter show dev pod-web ingress
	expect 'bpf .*veth'
}

test_without_bind_the_rest_enforces()
{
	starts_without bind
	lacks bind
	the_policy_holds
}

test_without_socket_destroy_the_rest_enforces()
{
	starts_without socket-destroy diag-storage
	lacks socket-destroy
	lacks diag-storage
	the_policy_holds
}

# All at once, as on an old kernel.
test_without_all_that_is_optional()
{
	starts_without guard veth tcx bind socket-destroy diag-storage
	lacks guard
	the_policy_holds
}

test_without_what_is_mandatory_it_does_not_start()
{
	lab_sluice_stop
	run node "$SLUICE" run --config "$LAB_POLICIES" "${LAB_GOVERN[@]}" --pin "$LAB_PIN" --without set-retval --without ringbuf
	expect_status 1
	expect 'error sluice: kernel: set-retval is missing \(bpf_set_retval.*\), without which .*; not started'
	expect 'error sluice: kernel: ringbuf is missing'
	run node "$SLUICE" status
	expect_status 1
	expect 'NOT ENFORCING'
	expect 'kernel      can: '
	probe -d hello tcp 203.0.113.12 9000
	expect 'result=ok'
}

test_an_unknown_feature_is_an_error()
{
	run node "$SLUICE" run --without nonsense
	expect_status 2
	expect '--without "nonsense": must be a feature'
}

run_story
