#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# sluice exec: any command as a governed workload, here in the node's own network namespace.
. "$(dirname "$0")/common.bash"

governed()
{
	run node "$SLUICE" exec "$@"
}

for_label()
{
	printf -- '---\napiVersion: sluice.dev/v1\nkind: EgressPolicy\nmetadata: {name: by-label, namespace: %s}\n' "$1"
	printf 'spec:\n  workloadSelector: {labels: {%s}}\n  outboundTrafficPolicy: {mode: ALLOW_ANY}\n' "$2"
}

test_the_exit_status_is_the_commands()
{
	policy "$(mode ALLOW_ANY)"
	governed -- sh -c 'exit 42'
	expect_status 42
	governed -- true
	expect_status 0
	governed -- /nonexistent/command
	expect_status 127
	governed -- sh -c 'kill -TERM $$'
	expect_status 143
}

test_input_and_output_are_the_commands()
{
	policy "$(mode ALLOW_ANY)"
	command='echo hello | sluice exec -- cat'
	output=$(echo hello | lab_exec node "$SLUICE" exec -- cat)
	expect '^hello$'
}

test_the_cgroup_is_gone_afterwards()
{
	policy "$(mode ALLOW_ANY)"
	governed --name leaves-nothing -- cat /proc/self/cgroup
	expect '^0::/sluice/'
	[[ -z $(find "$(lab_cgroup_root)/sluice" -mindepth 1 -type d 2>/dev/null) ]] || fail "no cgroup left below sluice/"
}

family_the_command_is_governed()
{
	policy "$(mode REGISTRY_ONLY)" "$(service tcp.example.com 9000/TCP)"
	governed -- "$TOOLS/probe" tcp "$(address 12)" 9002
	expect 'result=ECONNREFUSED'
	governed -- "$TOOLS/probe" -d hello tcp "$(address 12)" 9000
	expect 'result=ok'
	governed -- "$TOOLS/probe" udp "$(address 12)" 9001
	expect 'result=ECONNREFUSED'
}

test_http_is_redirected_in_the_hosts_namespace()
{
	policy "$(mode REGISTRY_ONLY)" "$(service www.aliyun.com 80/HTTP 443/HTTPS)"
	governed -- curl -sS -m 5 -I http://www.aliyun.com/
	expect '^HTTP/1.1 301'
	expect '^x-envoy-upstream-service-time'
	governed -- curl -sS -m 5 -I https://www.aliyun.com/
	expect '^HTTP/2 200'
	governed --namespace tools --name job -- curl -sS -m 5 -i http://www.unregistered.com/
	expect '^HTTP/1.1 502'
	expect 'tools/job'
}

test_labels_select_the_policy()
{
	policy "$(mode REGISTRY_ONLY)" "$(for_label default 'role: crawler')"
	governed --label role=crawler -- "$TOOLS/probe" -d hello tcp 203.0.113.12 9000
	expect 'result=ok'
	governed --label role=other -- "$TOOLS/probe" tcp 203.0.113.12 9000
	expect 'result=ECONNREFUSED'
}

test_the_namespace_selects_the_policy()
{
	policy "$(mode REGISTRY_ONLY)" "$(for_label tools 'role: crawler')"
	governed --namespace tools --label role=crawler -- "$TOOLS/probe" -d hello tcp 203.0.113.12 9000
	expect 'result=ok'
	governed --namespace other --label role=crawler -- "$TOOLS/probe" tcp 203.0.113.12 9000
	expect 'result=ECONNREFUSED'
}

test_children_are_governed_too()
{
	policy "$(mode REGISTRY_ONLY)"
	governed -- sh -c '"$0" tcp 203.0.113.12 9000; true' "$TOOLS/probe"
	expect 'result=ECONNREFUSED'
}

test_many_at_once()
{
	local i

	policy "$(mode REGISTRY_ONLY)"
	for i in {1..12}; do background "many$i" node "$SLUICE" exec -- "$TOOLS/probe" tcp 203.0.113.12 9000; done
	wait "${background_pids[@]}"
	command='12 times sluice exec'
	output=$(cat "$scratch"/many*)
	expect_count 12 'result=ECONNREFUSED'
}

run_story
