#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# What goes on when the loader or the redirector dies.
. "$(dirname "$0")/common.bash"

loaded()
{
	policy "$(mode REGISTRY_ONLY)" "$(service www.aliyun.com 80/HTTP 443/HTTPS)" "$(service tcp.example.com 9000/TCP)" \
		"$(service db.example.com 5432/TCP/9000 'resolution: STATIC' 'addresses: [203.0.113.77]' 'endpoints: [{address: 203.0.113.12}]')"
}

kill_loader()
{
	local pid

	pid=$(lab_sluice_pid)
	kill -KILL "$pid"
	lab_wait 2 lab_gone "$pid" || fail "the loader is gone"
}

the_policy_holds()
{
	probe tcp 203.0.113.12 9002
	expect 'result=ECONNREFUSED'
	probe udp 203.0.113.12 9001
	expect 'result=ECONNREFUSED'
	probe tcp 203.0.113.11 25
	expect 'result=ECONNREFUSED'
	probe -d hello tcp 203.0.113.12 9000
	expect 'result=ok'
	get 11 -I http://www.unregistered.com/
	expect '^HTTP/1.1 502'
}

# An open redirected connection to the echo server, on descriptors 6 (in) and 7 (out).
open_connection()
{
	mkfifo "$scratch/in" "$scratch/out"
	lab_enter web socat - TCP:203.0.113.77:5432 <"$scratch/in" >"$scratch/out" &
	background_pids+=($!)
	exec 6>"$scratch/in" 7<"$scratch/out"
	rm "$scratch/in" "$scratch/out"
}

connection_echoes()
{
	local answer=

	echo "$1" >&6
	read -r -t 3 answer <&7
	[[ $answer == "$1" ]] || fail "the open connection echoes \"$1\", not \"$answer\""
}

test_killed_loader_and_its_restart()
{
	local redirector

	loaded
	open_connection
	connection_echoes before
	redirector=$(redirector_pid)
	[[ -n $redirector ]] || fail "the redirector's pid in status"
	kill_loader
	the_policy_holds
	connection_echoes 'the loader is dead'
	get 10 -I http://www.aliyun.com/
	expect '^HTTP/1.1 301'
	get 10 -I https://www.aliyun.com/
	expect '^HTTP/2 200'
	run node "$SLUICE" dump services
	expect 'www.aliyun.com'
	run node "$SLUICE" status
	expect 'generation'
	lab_sluice_start || fail "it starts again"
	connection_echoes 'a new loader'
	[[ $(redirector_pid) == "$redirector" ]] || fail "redirector $redirector was taken over, not replaced by $(redirector_pid)"
	the_policy_holds
	get 10 -I http://www.aliyun.com/
	expect '^HTTP/1.1 301'
	exec 6>&- 7<&-
}

test_connects_in_a_loop_see_no_gap_over_a_restart()
{
	loaded
	background allowed web "$TOOLS/hammer" -n 2 -s 60 echo 203.0.113.12 9000
	background denied web "$TOOLS/hammer" -n 2 -s 60 tcp 203.0.113.12 9002
	background blocked web "$TOOLS/hammer" -n 2 -s 60 http 203.0.113.11 80 www.unregistered.com
	background redirected web "$TOOLS/hammer" -n 1 -s 60 http 203.0.113.10 80 www.aliyun.com
	sleep 0.5
	kill -KILL "$(lab_sluice_pid)"
	lab_sluice_start || fail "it starts again"
	sleep 0.5
	end_background
	command='hammer over kill -9 and a restart'
	output=$(cat "$scratch"/{allowed,denied,blocked,redirected})
	expect '^[0-9]+ ok$'
	expect '^[0-9]+ ECONNREFUSED$'
	expect '^[0-9]+ http-502$'
	expect '^[0-9]+ http-301$'
	expect_count 4 '^[0-9]+ '
}

test_a_stopped_loader_leaves_the_policy_in_force()
{
	local pid

	loaded
	pid=$(lab_sluice_pid)
	kill -TERM "$pid"
	lab_wait 5 lab_gone "$pid" || fail "it ends on SIGTERM"
	the_policy_denies
	lab_sluice_start || fail "it starts again"
	the_policy_holds
}

the_policy_denies()
{
	probe tcp 203.0.113.12 9002
	expect 'result=ECONNREFUSED'
	probe -d hello tcp 203.0.113.12 9000
	expect 'result=ok'
}

test_a_policy_changed_meanwhile_is_applied_at_the_restart()
{
	loaded
	kill_loader
	mode ALLOW_ANY >"$LAB_POLICIES/test.yaml"
	the_policy_holds
	lab_sluice_start || fail "it starts again"
	eventually lab_exec web "$TOOLS/probe" -d hello tcp 203.0.113.12 9002
}

test_after_kill_of_the_redirector_the_next_request_succeeds()
{
	local i

	loaded
	for i in 1 2 3; do
		kill -KILL "$(redirector_pid)" || fail "the redirector's pid in status"
		get 10 -I http://www.aliyun.com/
		expect '^HTTP/1.1 301'
		get 10 -I https://www.aliyun.com/
		expect '^HTTP/2 200'
	done
	the_policy_holds
}

test_when_both_die_direct_verdicts_hold_and_a_start_restores_the_rest()
{
	loaded
	kill -KILL "$(lab_sluice_pid)" "$(redirector_pid)" || fail "the redirector's pid in status"
	the_policy_denies
	get 10 -m 2 http://www.aliyun.com/
	((status != 0)) || fail "no answer without a redirector"
	lab_sluice_start || fail "it starts again"
	the_policy_holds
	get 10 -I http://www.aliyun.com/
	expect '^HTTP/1.1 301'
}

test_a_pod_made_after_the_start_is_governed_from_its_first_connection()
{
	policy "$(mode REGISTRY_ONLY)"
	lab_pod late
	run late "$TOOLS/probe" tcp 203.0.113.12 9000
	expect 'result=ECONNREFUSED'
	eventually late_gets_502
}

late_gets_502()
{
	run late curl -sS -m 2 -I http://203.0.113.10/
	grep -q '^HTTP/1.1 502' <<<"$output"
}

run_story
