#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# What the daemon and its redirector may do once they run, and what is said when the redirector tries more.
. "$(dirname "$0")/common.bash"

# One line of /proc/PID/status: status_of PID CapEff
status_of()
{
	awk -v name="$2:" '$1 == name { print $2 }' "/proc/$1/status"
}

# expect_field PID NAME VALUE [WHOSE]
expect_field()
{
	[[ $(status_of "$1" "$2") == "$3" ]] || fail "$2 of ${4:-pid $1} is $3, not \"$(status_of "$1" "$2")\""
}

# Every thread: capabilities and filters are each thread's own.
each_thread()
{
	local task

	for task in /proc/"$1"/task/*; do "${@:2}" "${task##*/}"; done
}

capability_bits()
{
	local bit bits=0

	for bit; do ((bits |= 1 << bit)); done
	printf '%016x\n' "$bits"
}

loader_thread()
{
	# KILL, SETGID, SETUID, SETPCAP, NET_ADMIN, SYS_PTRACE, SYS_ADMIN, PERFMON, BPF
	expect_field "$1" CapEff "$(capability_bits 5 6 7 8 12 19 21 38 39)" 'the daemon'
	expect_field "$1" CapPrm "$(capability_bits 5 6 7 8 12 19 21 38 39)" 'the daemon'
	expect_field "$1" CapInh "$(capability_bits)" 'the daemon'
	expect_field "$1" CapAmb "$(capability_bits)" 'the daemon'
	expect_field "$1" CapBnd "$(capability_bits 6 7 8)" 'the daemon'
	expect_field "$1" NoNewPrivs 1 'the daemon'
}

redirector_thread()
{
	local set

	for set in CapEff CapPrm CapInh CapAmb CapBnd; do expect_field "$1" "$set" "$(capability_bits)" 'the redirector'; done
	expect_field "$1" NoNewPrivs 1 'the redirector'
	expect_field "$1" Seccomp 2 'the redirector'
	expect_field "$1" Uid 65534 'the redirector'
	expect_field "$1" Gid 65534 'the redirector'
	[[ -z $(status_of "$1" Groups) ]] || fail "the redirector has no groups"
}

# What is behind its descriptors, but for its log.
expect_descriptors()
{
	local fd target

	for fd in /proc/"$1"/fd/*; do
		target=$(readlink "$fd") || continue
		case ${fd##*/}:$target in
		0:/dev/null | 1:/dev/null | 2:*) ;;
		*:socket:* | *:pipe:* | *:'anon_inode:[eventpoll]' | *:'anon_inode:[eventfd]') ;;
		*:"$LAB"/reports/*) ;; # of the sanitizers
		*) fail "the redirector has no descriptor of $target" ;;
		esac
	done
}

loaded()
{
	policy "$(mode REGISTRY_ONLY)" "$(service www.aliyun.com 80/HTTP 443/HTTPS)"
}

redirects()
{
	get 10 -I http://www.aliyun.com/
	expect '^HTTP/1.1 301'
	get 10 -I https://www.aliyun.com/
	expect '^HTTP/2 200'
}

test_the_daemon_keeps_only_what_it_needs()
{
	loaded
	each_thread "$(lab_sluice_pid)" loader_thread
}

test_the_redirector_has_nothing()
{
	local pid

	loaded
	redirects
	pid=$(redirector_pid)
	(($(ls "/proc/$pid/task" | wc -l) > 1)) || fail "the redirector has workers"
	each_thread "$pid" redirector_thread
	expect_descriptors "$pid"
}

test_a_redirector_that_was_restarted_has_nothing_either()
{
	local pid

	loaded
	pid=$(redirector_pid)
	kill -KILL "$pid" || fail "the redirector's pid in status"
	lab_wait 5 another_redirector "$pid" || fail "another redirector starts"
	redirects
	each_thread "$(redirector_pid)" redirector_thread
	expect_descriptors "$(redirector_pid)"
}

another_redirector()
{
	local now

	now=$(redirector_pid)
	[[ -n $now && $now != "$1" ]]
}

# The signal with which the kernel ends what makes a forbidden system call; which those are, confine_test.c tries.
test_the_log_tells_a_forbidden_system_call_from_a_kill()
{
	local signal pid

	loaded
	for signal in SYS KILL; do
		pid=$(redirector_pid)
		kill -"$signal" "$pid" || fail "the redirector's pid in status"
		lab_wait 5 grep -q "pid $pid was killed by SIG$signal" "$LAB_LOG" || fail "the log names SIG$signal"
		lab_wait 5 another_redirector "$pid" || fail "another redirector starts"
	done
	grep -q 'SIGSYS, for a system call that its filter forbids' "$LAB_LOG" || fail "the log says what SIGSYS means"
	redirects
}

run_story
