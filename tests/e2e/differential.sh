#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# What nginx answers through sluice is what it answers without; what RFC 9112 calls malformed gets 400 and no further.
. "$(dirname "$0")/common.bash"

host=differential.example.com
seed=${SEED:-1}
requests=${REQUESTS:-10000}

test_answers_are_those_of_nginx_or_400()
{
	local script=$ROOT/tests/e2e/differential.py

	policy "$(mode REGISTRY_ONLY)" "$(service $host 80/HTTP 'resolution: STATIC' 'endpoints: [{address: 203.0.113.11}]')"
	run internet timeout 200 python3 "$script" send 203.0.113.11 $host "$seed" "$requests"
	printf '%s\n' "$output" >"$scratch/direct"
	run web timeout 200 python3 "$script" send 203.0.113.11 $host "$seed" "$requests"
	printf '%s\n' "$output" >"$scratch/through"
	run node python3 "$script" compare "$scratch/direct" "$scratch/through"
	refuse '^(DIFFERENT|Traceback)'
	expect '^compared body [1-9][0-9]* good [1-9][0-9]* head [1-9][0-9]* answers [0-9]+$'
}

# Each case whole, in two parts and byte by byte. What sluice judged is what arrived or what it answered itself: no request
# came by that it did not see.
test_what_arrives_has_one_reading()
{
	local script=$ROOT/tests/e2e/smuggling.py before

	policy "$(mode REGISTRY_ONLY)" "$(service recorder.example.com 7800/HTTP 'resolution: STATIC' 'endpoints: [{address: 203.0.113.13}]')"
	background recorder internet python3 "$script" record "$scratch/recorded" 203.0.113.13 7800
	eventually grep -q ready "$scratch/recorder"
	before=$(settled_metric sluice_redirector_requests_total)
	run web timeout 60 python3 "$script" send "$scratch/answered" 203.0.113.13 7800
	expect_status 0
	run node python3 "$script" judge "$scratch/recorded" "$scratch/answered"
	refuse '^(SEVERAL|FORBIDDEN|CASE|NOBODY|Traceback)'
	expect "^cases [1-9][0-9]* judged $(($(settled_metric sluice_redirector_requests_total) - before))\$"
}

run_story
