#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Who a workload is: Workload documents name cgroups and say their labels, which policies select.
# shellcheck source=tests/e2e/common.bash
. "$(dirname "$0")/common.bash"

# Pod web's cgroup is held to the registry if, and only if, it is a workload with the label tier=held.
selected()
{
	policy "$(mode ALLOW_ANY)" "$(mode REGISTRY_ONLY 'workloadSelector: {labels: {tier: held}}' | sed 's/name: default/name: held/')"
}

# What the document says of which cgroups: is_workload CGROUP TIER
is_workload()
{
	lab_workload web tier="$2" | sed "s|cgroup: .*|cgroup: $1|" | lab_policy workloads || fail "the document is looked at"
	lab_wait 1 accepted || fail "the document is accepted"
}

held()
{
	lab_wait 2 refuses || fail "pod web is held to the registry"
}

free()
{
	lab_wait 2 passes || fail "pod web is not held"
}

refuses()
{
	probe tcp 203.0.113.12 9000
	[[ $output == *result=ECONNREFUSED* ]]
}

passes()
{
	probe -d hello tcp 203.0.113.12 9000
	[[ $output == *result=ok* ]]
}

test_a_cgroup_is_named_by_its_path()
{
	selected
	is_workload "/$LAB_PODS/pod-web" held
	held
	is_workload "/$LAB_PODS/pod-other" held
	free
}

test_a_glob_names_many_of_one_level()
{
	selected
	is_workload "/$LAB_PODS/pod-w[a-e]*" held
	held
	is_workload '/*' held
	free
	is_workload '/*/*' held
	held
}

test_new_labels_are_in_force_at_once()
{
	selected
	is_workload "/$LAB_PODS/pod-web" front
	free
	is_workload "/$LAB_PODS/pod-web" held
	held
	is_workload "/$LAB_PODS/pod-web" front
	free
}

run_story
