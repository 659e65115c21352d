#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# A wrong command line is told what is wrong with it, ends with status 2, and does nothing.
# shellcheck source=tests/e2e/common.bash
. "$(dirname "$0")/common.bash"

# is_wrong WHAT-IS-SAID ARGUMENT...: as the first line.
is_wrong()
{
	run node "$SLUICE" "${@:2}"
	output=$(head -n 1 <<<"$output")
	expect "^sluice: $1"
	expect_status 2
}

test_what_an_option_wants_is_said()
{
	is_wrong '--output "yaml": must be json, github or text$' check -o yaml "$LAB_POLICIES"
	is_wrong '--output "yaml": must be json or text$' status -o yaml
	is_wrong '--verdict "denied": must be bypass, .* or deny$' flows --verdict denied
	is_wrong '--label "app": must be KEY=VALUE$' exec --label app -- true
	is_wrong '--log-level "trace": must be error, warning, info or debug$' run --log-level trace
	for cgroup in /kubepods/ / '' .. ../a /a/../b /a/. //a /a//b; do
		is_wrong "--govern \"$cgroup\": must be the path of a cgroup" run --govern "$cgroup"
	done
	is_wrong '--redirector-port "80": must be 1024 to 65535$' run --redirector-port 80
	is_wrong '--backstop "off": must be tc or xdp$' run --backstop off
}

test_unknown_words_are_named()
{
	is_wrong '"chek" is not a command$' chek
	is_wrong '"rules" is not a table$' dump rules
	is_wrong "unrecognized option '--verbose'\$" run --verbose
	for command in run status flows 'dump flows' 'explain --config . a.com'; do
		# shellcheck disable=SC2086 # words
		is_wrong '"web": nothing is expected here' $command web
	done
}

test_detach_with_an_argument_detaches_nothing()
{
	policy "$(mode REGISTRY_ONLY)"
	is_wrong '"web": nothing is expected here' detach web
	run web curl -sS -m 5 https://203.0.113.10/
	expect_status 7
	lab_sluice status >/dev/null || fail "it goes on enforcing"
}

# The page's port is taken before anything is attached: who cannot have it has not touched the node.
test_an_admin_address_that_cannot_be_had_attaches_nothing()
{
	for address in nonsense 203.0.113.10:15020; do
		run node timeout 10 "$SLUICE" run --config "$LAB_POLICIES" --govern "/$LAB_NAME-nobody" --pin "$LAB_PIN-other" --admin "$address"
		expect "--admin \"?$address\"?: .*; not started"
		refuse 'hooks attached'
		expect_status 1
	done
	[[ ! -e $LAB_PIN-other ]] || fail "nothing is pinned"
	rm -rf "/run/$LAB_NAME-other"
}

run_story
