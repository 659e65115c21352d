#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A new configuration is a swap: each connection is answered by the old one or by the new one.
. "$(dirname "$0")/common.bash"

FLIPS=${FLIPS:-500}

test_connections_during_500_flips_get_one_of_the_two_answers()
{
	local i registered before aborted

	registered=$(service www.aliyun.com 80/HTTP)
	printf '%s\n' "$(mode ALLOW_ANY)" "$registered" >"$scratch/0"
	printf '%s\n' "$(mode REGISTRY_ONLY)" "$registered" "$(service tcp.example.com 9002/TCP)" >"$scratch/1"
	policy "$(<"$scratch/1")"
	policy "$(<"$scratch/0")"
	background tcp web "$TOOLS/hammer" -n 4 -s 230 -w 2 echo 203.0.113.12 9000
	background http web "$TOOLS/hammer" -n 4 -s 230 -w 2 http 203.0.113.11 80 www.unregistered.com
	background registered web "$TOOLS/hammer" -n 2 -s 230 -w 2 http 203.0.113.10 80 www.aliyun.com
	before=$(lab_status_number generation)
	for ((i = 1; i <= FLIPS; i++)); do
		cp "$scratch/$((i % 2))" "$LAB/flip" && mv "$LAB/flip" "$LAB_POLICIES/test.yaml" &&
			kill -HUP "$(lab_sluice_pid)" # look now, not at the next quarter of a second
		lab_wait 5 generation_is_beyond $((before + i - 1)) || fail "flip $i is applied"
	done
	end_background
	command='hammer during 500 flips'
	# What was open when a flip took its right away is aborted: at most one connection of each thread in each flip.
	output=$(cat "$scratch/tcp" "$scratch/http")
	aborted=$(sed -n 's/ ECONNABORTED$//p' <<<"$output" | awk '{ sum += $1 } END { print sum + 0 }')
	((aborted <= FLIPS / 2 * 8)) || fail "at most 8 aborted connections in each flip to the tighter side"
	output=$(grep -v ' ECONNABORTED$' <<<"$output"; cat "$scratch/registered")
	expect '^[0-9]+ ok$'
	expect '^[0-9]+ ECONNREFUSED$'
	expect '^[0-9]+ http-200$'
	expect '^[0-9]+ http-502$'
	expect '^[0-9]+ http-301$'
	expect_count 5 '^[0-9]+ '
	expect_count 3 '^max_ms=1?[0-9]{1,3}$'
}

generation_is_beyond()
{
	(($(lab_status_number generation) > $1))
}

run_story
