#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The three LPM maps read well in bpftool.
. "$(dirname "$0")/common.bash"

filled()
{
	policy "$(mode REGISTRY_ONLY 'interception: {includeCIDRs: [203.0.113.0/24, "2001:db8:113::/64"], excludeCIDRs: [10.96.0.0/12]}')" \
		"$(service tcp.example.com 9000/TCP)"
}

map()
{
	run node bpftool map dump pinned "$LAB_PIN/$1"
}

test_intercept_shows_prefixes()
{
	filled
	map intercept
	expect '"prefix": "203\.0\.113\.0/24"'
	expect '"prefix": "2001:db8:113::/64"'
	expect '"prefixlen": 152' # 32 + 96 + 24
	expect '"addr": \['
}

test_bypass_shows_prefixes()
{
	filled
	map bypass
	expect '"prefix": "10\.96\.0\.0/12"'
}

test_services_shows_addresses_ports_and_hosts()
{
	filled
	map services
	expect '"port": 9000'
	expect '"protocol": 6'
	expect '"host": "tcp\.example\.com"'
	expect '"prefix": "203\.0\.113\.12'
	expect '"prefix": "2001:db8:113::12'
}

test_the_pins_follow_the_live_generation()
{
	filled
	policy "$(mode REGISTRY_ONLY 'interception: {includeCIDRs: [198.18.0.0/15]}')"
	map intercept
	expect '"prefix": "198\.18\.0\.0/15"'
	refuse '203\.0\.113\.0/24'
}

test_maps_are_of_type_lpm_trie()
{
	local name

	filled
	for name in intercept bypass services; do
		run node bpftool map show pinned "$LAB_PIN/$name"
		expect 'lpm_trie'
	done
}

run_story
