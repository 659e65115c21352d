#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# What is not governed is never touched, also beside a governed process in the same network namespace.
. "$(dirname "$0")/common.bash"

everything_passes_on_the_node()
{
	run node "$TOOLS/probe" -d hello tcp "$(address 12)" 9000
	expect 'result=ok .*data=hello'
	run node "$TOOLS/probe" -d hello udp "$(address 12)" 9001
	expect 'result=ok .*data=hello'
	run node "$TOOLS/probe" -d hello udp-connected "$(address 12)" 9001
	expect 'result=ok .*data=hello'
	run node curl -sS -i -m 5 http://www.unregistered.com/
	expect '^HTTP/1.1 200'
	refuse 'x-envoy'
	run node curl -sS -m 5 https://www.unregistered.com/
	expect 'this is www.unregistered.com'
}

family_an_ungoverned_process_on_the_node_bypasses()
{
	policy "$(mode REGISTRY_ONLY)"
	everything_passes_on_the_node
}

family_also_while_a_governed_process_shares_its_namespace()
{
	policy "$(mode REGISTRY_ONLY)"
	background neighbour node "$SLUICE" exec -- sh -c 'echo ready; exec sleep 20'
	eventually grep -q ready "$scratch/neighbour"
	everything_passes_on_the_node
	run node "$SLUICE" exec -- "$TOOLS/probe" tcp "$(address 12)" 9000
	expect 'result=ECONNREFUSED'
	run node "$SLUICE" exec -- "$TOOLS/probe" udp "$(address 12)" 9001
	expect 'result=ECONNREFUSED'
}

test_another_namespace_is_untouched()
{
	policy "$(mode REGISTRY_ONLY)"
	run internet "$TOOLS/probe" -d hello tcp 203.0.113.12 9000
	expect 'result=ok .*data=hello'
}

test_an_ungoverned_cgroup_in_the_pods_namespace_is_governed_by_the_namespace()
{
	policy "$(mode REGISTRY_ONLY)"
	command='probe in the namespace of pod web, outside its cgroup'
	output=$(lab_in web "$TOOLS/probe" tcp 203.0.113.12 9000)
	expect 'result=ECONNREFUSED'
}

test_a_first_start_on_the_node_cuts_nobody_off()
{
	lab_sluice_stop
	background busy node "$TOOLS/hammer" -n 2 -s 20 echo 203.0.113.12 9000
	mode REGISTRY_ONLY >"$LAB_POLICIES/test.yaml"
	lab_sluice_start || fail "it starts"
	sleep 0.3
	end_background
	command='hammer on the node while sluice starts'
	output=$(<"$scratch/busy")
	expect '^[0-9]+ ok$'
	expect_count 1 '^[0-9]+ '
}

run_story
