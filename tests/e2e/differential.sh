#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# What nginx answers through sluice is what it answers without; what RFC 9112 calls malformed gets 400 and no further.
. "$(dirname "$0")/common.bash"

host=differential.example.com
seed=${SEED:-1}
requests=${REQUESTS:-10000}

compare()
{
	paste -d '\n' "$scratch/direct" "$scratch/through" | awk '
		{ split($0, direct, " "); getline; n = split($0, through, " "); seen[through[2]]++ }
		{ same = direct[3] == through[3] && direct[4] == through[4] && direct[5] == through[5] }
		through[2] == "head" { same = through[3] == 400 }
		through[2] == "body" { same = same || through[3] == 400 }
		!same { print "direct " direct[3] " " direct[4] ", through " $0 }
		END { print "compared " NR / 2 ", good " seen["good"] + 0 ", head " seen["head"] + 0 ", body " seen["body"] + 0 }'
}

test_answers_are_those_of_nginx_or_400()
{
	local script=$ROOT/tests/e2e/differential.py

	policy "$(mode REGISTRY_ONLY)" "$(service $host 80/HTTP 'resolution: STATIC' 'endpoints: [{address: 203.0.113.11}]')"
	lab_exec internet timeout 200 python3 "$script" 203.0.113.11 $host "$seed" "$requests" >"$scratch/direct"
	run web timeout 200 python3 "$script" 203.0.113.11 $host "$seed" "$requests"
	printf '%s\n' "$output" >"$scratch/through"
	command="differential.py, seed $seed, $requests requests"
	output=$(compare | tail -n 20)
	refuse '^direct '
	expect "^compared $requests, good [1-9][0-9]*, head [1-9][0-9]*, body [1-9]"
}

run_story
