#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Which resolvers a workload may ask under REGISTRY_ONLY.
. "$(dirname "$0")/common.bash"

family_the_nodes_resolver_is_allowed()
{
	policy "$(mode REGISTRY_ONLY)"
	probe udp "$(address 53)" 53
	expect 'result=ok'
	probe udp-connected "$(address 53)" 53
	expect 'result=ok'
	probe tcp "$(address 53)" 53
	expect 'result=ok'
}

family_another_resolver_is_refused()
{
	policy "$(mode REGISTRY_ONLY)"
	probe udp "$(address 54)" 53
	expect 'result=ECONNREFUSED stage=send'
	probe udp-connected "$(address 54)" 53
	expect 'result=ECONNREFUSED stage=connect'
	probe tcp "$(address 54)" 53
	expect 'result=ECONNREFUSED stage=connect'
}

# resolv.conf of the node: given back at the end.
has_resolver()
{
	probe udp "$1" 53
	[[ $output == *result=ok* ]]
}

test_the_nodes_resolver_may_change()
{
	local before

	policy "$(mode REGISTRY_ONLY)"
	before=$(<"$LAB/resolv.conf")
	# shellcheck disable=SC2064
	trap "printf '%s\n' '$before' >'$LAB/resolv.conf'; end_background" EXIT
	echo 'nameserver 203.0.113.54' >"$LAB/resolv.conf"
	eventually has_resolver 203.0.113.54
	probe udp 203.0.113.53 53
	expect 'result=ECONNREFUSED'
	printf '%s\n' "$before" >"$LAB/resolv.conf"
	eventually has_resolver 203.0.113.53
	probe udp 203.0.113.54 53
	expect 'result=ECONNREFUSED'
}

test_names_resolve_in_the_pod()
{
	policy "$(mode REGISTRY_ONLY)"
	run web getent ahosts www.aliyun.com
	expect '203\.0\.113\.10'
	expect '2001:db8:113::10'
}

test_the_pods_own_resolv_conf_opens_nothing()
{
	policy "$(mode REGISTRY_ONLY)"
	run web sh -c 'mount -t tmpfs none /mnt && echo "nameserver 203.0.113.54" >/mnt/r && mount --bind /mnt/r /etc/resolv.conf &&
		getent ahosts www.aliyun.com'
	expect_status 2
}

test_only_port_53_of_the_resolver_opens()
{
	policy "$(mode REGISTRY_ONLY)"
	probe udp 203.0.113.53 54
	expect 'result=ECONNREFUSED'
}

family_listed_servers_are_allowed()
{
	policy "$(mode REGISTRY_ONLY 'dns: {servers: [203.0.113.54, "2001:db8:113::54"]}')"
	probe udp "$(address 54)" 53
	expect 'result=ok'
	probe udp "$(address 53)" 53
	expect 'result=ok'
}

family_any_resolver_where_the_policy_says_so()
{
	policy "$(mode REGISTRY_ONLY 'dns: {allow: any}')"
	probe udp "$(address 54)" 53
	expect 'result=ok'
	probe tcp "$(address 54)" 53
	expect 'result=ok'
}

family_no_resolver_where_the_policy_says_so()
{
	policy "$(mode REGISTRY_ONLY 'dns: {allow: none}')"
	probe udp "$(address 53)" 53
	expect 'result=ECONNREFUSED'
	probe tcp "$(address 53)" 53
	expect 'result=ECONNREFUSED'
}

run_story
