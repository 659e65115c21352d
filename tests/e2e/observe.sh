#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# What operators see: status, flows, explain, dump, metrics, health and the log.
. "$(dirname "$0")/common.bash"

registered()
{
	policy "$(mode REGISTRY_ONLY)" "$(service www.aliyun.com 80/HTTP 443/HTTPS)" "$(service tcp.example.com 9000/TCP)"
}

sluice()
{
	run node "$SLUICE" "$@"
}

# The same with what scripts read: standard output only, which must be JSON, whole or one object a line.
sluice_json()
{
	command="sluice $* -o json"
	output=$(lab_sluice "$@" -o json 2>/dev/null)
	status=$?
	expect_status 0
	expect .
	/usr/bin/python3 -c 'import json, sys
text = sys.stdin.read()
try: json.loads(text)
except ValueError: [json.loads(line) for line in text.splitlines()]' <<<"$output" 2>/dev/null || fail "JSON, whole or one object a line"
}

test_status()
{
	registered
	sluice status
	expect_status 0
	expect 'generation'
	expect 'connect4'
	expect 'www.aliyun.com.*203\.0\.113\.10'
	sluice_json status
}

test_status_says_when_nothing_is_enforced()
{
	sluice status --pin /sys/fs/bpf/sluice-nothing
	expect_status 1
}

# It may not look, which is not the same as that nothing is enforced.
test_status_for_who_may_not_look()
{
	cp "$BUILD/sluice" "$scratch/sluice" && chmod 755 "$scratch" "$scratch/sluice"
	run node setpriv --reuid=65534 --clear-groups "$scratch/sluice" status --pin "$LAB_PIN"
	expect_status 1
	expect "^sluice: $LAB_PIN: Permission denied: only root may look\$"
	refuse 'NOT ENFORCING|LACKS'
}

family_flows_tell_who_where_and_why()
{
	registered
	probe tcp "$(address 12)" 9002
	probe udp "$(address 12)" 9001
	probe tcp "$(address 12)" 9000
	sluice flows
	expect "deny +default/web probe\\[[0-9]+\\] \\[?$(address 12 | sed 's/^::ffff://')\\]?:9002/tcp: not-registered"
	expect 'test\.yaml:[0-9]+'
	sluice flows --verdict deny
	expect '9002'
	refuse '9000'
	sluice_json flows
	expect '^\{"time":"[^"]+","verdict":"deny","reason":"not-registered","by":"kernel","workload":"default/web","process":"probe","pid":[1-9][0-9]*,"protocol":"tcp","destination":"[^"]+:9002","host":"","origin":"[^"]+test\.yaml:[0-9]+ [^"]+","generation":[0-9]+\}$'
}

test_flows_show_what_the_redirector_decided()
{
	registered
	get 10 http://cdn.example.com/
	hello 10 cdn.example.com
	sleep 0.3
	sluice flows --verdict deny
	expect 'cdn\.example\.com'
	expect 'name-unregistered'
}

test_flows_can_be_followed()
{
	registered
	background follow node "$SLUICE" flows -f
	sleep 0.3
	probe tcp 203.0.113.12 9777
	eventually grep -q 9777 "$scratch/follow"
}

test_explain_live()
{
	registered
	sluice explain --namespace default --label app=web tcp.example.com:9000
	expect 'allow'
	expect 'test\.yaml:[0-9]+'
	sluice explain --namespace default --label app=web 203.0.113.12:9002
	expect 'deny'
	expect 'test\.yaml:[0-9]+'
	sluice explain --namespace default --label app=web http://www.aliyun.com/
	expect 'redirect'
	sluice explain --namespace default --label app=web https://www.unregistered.com/
	expect 'deny|redirect'
}

test_explain_for_a_process_and_a_cgroup()
{
	local pid

	registered
	read -r pid <"$(lab_pod_cgroup web)/cgroup.procs"
	sluice explain "$pid" 203.0.113.12:9002
	expect 'deny'
	expect 'default/web'
	sluice explain /kubepods/pod-web 203.0.113.12:9000
	expect 'allow'
}

test_explain_offline()
{
	registered
	sluice explain --config "$LAB_POLICIES" --namespace default --label app=web 203.0.113.12:9002
	expect 'deny'
	expect 'test\.yaml:[0-9]+'
	sluice explain --config "$LAB_POLICIES" --namespace default --label app=web http://www.aliyun.com/
	expect 'redirect|allow'
}

test_dump()
{
	local what

	policy "$(mode REGISTRY_ONLY 'interception: {includeCIDRs: [203.0.113.0/24], excludeCIDRs: [10.96.0.0/12]}')" \
		"$(service tcp.example.com 9000/TCP)"
	for what in intercept bypass services workloads rulesets flows; do
		sluice_json dump "$what"
		sluice dump "$what"
		expect_status 0
	done
	sluice dump intercept
	expect '203\.0\.113\.0/24'
	sluice dump bypass
	expect '10\.96\.0\.0/12'
	sluice dump services
	expect '203\.0\.113\.12.*9000.*tcp\.example\.com|tcp\.example\.com.*203\.0\.113\.12.*9000'
	sluice dump workloads
	expect 'default/web'
	sluice dump rulesets
	expect 'REGISTRY_ONLY'
}

test_health()
{
	registered
	run node curl -s -o /dev/null -w '%{http_code}' -m 2 "http://$LAB_ADMIN/healthz"
	expect '^200'
	run node curl -s -o /dev/null -w '%{http_code}' -m 2 "http://$LAB_ADMIN/readyz"
	expect '^200'
	run node curl -s -o /dev/null -w '%{http_code}' -m 2 "http://$LAB_ADMIN/nothing"
	expect '^404'
}

test_metrics()
{
	registered
	probe tcp 203.0.113.12 9002
	run node curl -s -m 2 "http://$LAB_ADMIN/metrics"
	expect '^sluice_[a-z_]*verdicts[a-z_]*\{.*reason="not-registered".*\} [1-9]'
	expect '^sluice_[a-z_]*generation[a-z_]* [1-9]'
	expect '^sluice_[a-z_]*config[a-z_]*error[a-z_]* [0-9]'
	expect '^# TYPE sluice_'
}

test_the_log_has_a_line_for_each_distinct_denial()
{
	registered
	probe tcp 203.0.113.12 9123
	probe tcp 203.0.113.12 9123
	eventually grep -q '203\.0\.113\.12.*9123' "$LAB_LOG"
	sleep 0.3
	command='the log'
	output=$(grep '203\.0\.113\.12.*9123' "$LAB_LOG")
	expect 'default/web'
	expect 'probe'
	expect 'not-registered|not registered'
	expect 'test\.yaml:[0-9]+'
}

test_an_unknown_command_is_an_error()
{
	sluice frobnicate
	((status != 0)) || fail "an error"
	sluice run --no-such-option
	((status != 0)) || fail "an error"
}

run_story
