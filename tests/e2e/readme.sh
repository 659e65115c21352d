#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# The README stays true: its tour is run here as it stands, on the lab's node, with an /etc/sluice of its own.
NO_START=1
# shellcheck source=tests/e2e/common.bash
. "$(dirname "$0")/common.bash"

# The `sh` blocks of the tour, one after the other, in one shell. What README says of a command is in its comment.
tour()
{
	awk '/^## /{ tour = /Five minutes/ } /^```/{ block = tour && /^```sh/; next } block' "$ROOT/README.md"
}

take_tour()
{
	mkdir -p "$scratch/bin" /etc/sluice
	ln -sf "$SLUICE" "$scratch/bin/sluice"
	tour >"$scratch/tour"
	# shellcheck disable=SC2016 # expanded by the inner shell
	run node unshare -m bash -c \
		'mount -t tmpfs tmpfs /etc/sluice && PATH=$0:$PATH && sed -i s,/var/log/sluice.log,$1/readme.log, $1/tour && . $1/tour' \
		"$scratch/bin" "$scratch"
	rmdir /etc/sluice 2>/dev/null
}

test_the_tour_does_what_it_says()
{
	take_tour
	expect 'curl: \(7\)'
	expect '^sluice: blocked www.aliyun.com port 80 .* for default/curl: not registered, mode REGISTRY_ONLY'
	expect 'deny +default/curl curl\[[0-9]+\] .*: not-registered, by '
	expect '^HTTP/1.1 301'
	expect '^x-envoy-upstream-service-time: '
	expect '^HTTP/(2|1.1) 200'
	expect '^=> let through'
	expect '^=> denied'
	expect '^enforcing$'
	expect 'www.aliyun.com +tls'
	expect '^enforcing: generation 2'
	expect '^detached: '
	[[ ! -e $LAB_PIN ]] || fail "nothing is left of it"
}

test_the_commands_of_the_readme_are_targets()
{
	local target

	for target in $(grep -oE '^make [a-z]+' "$ROOT/README.md" | awk '{ print $2 }'); do
		grep -q "^$target:" "$ROOT/Makefile" || fail "make $target is a target"
	done
}

test_the_unit_names_what_is_installed()
{
	local unit=$scratch/installed/usr/lib/systemd/system/sluice.service file

	make -s -C "$ROOT" BUILD="$BUILD" DESTDIR="$scratch/installed" PREFIX=/usr install
	[[ $(grep -cE '^(ExecStart|ExecStartPost|Documentation)=' "$unit") == 3 ]] || fail "the unit is installed"
	for file in $(sed -nE 's/^(ExecStart=|Documentation=file:)([^ ]*).*/\2/p; s/.*until ([^ ]*) status.*/\1/p' "$unit"); do
		[[ -f $scratch/installed$file ]] || fail "$file is installed, too"
	done
}

# Every field of these kinds that is read, refused or passed over.
fields()
{
	cd "$ROOT/user/config" || return
	grep -ohE '(UNSUPPORTED|IGNORED)\("[A-Za-z0-9]+"\)|\{"[a-z][A-Za-z0-9]+", [a-z_0-9]+, [^{}]*FIELD_' \
		service_entry.c virtual_service.c http_match.c http_cors.c headers.c l4_route.c sidecar.c \
		destination_rule.c balancer.c workload_entry.c |
		sed -E 's/^[^"]*"([A-Za-z0-9]+)".*/\1/' | sort -u
}

test_the_policy_reference_has_every_field()
{
	local field

	[[ $(fields | wc -l) -gt 80 ]] || fail "the fields are found"
	sed -n '/^## Policy reference/,/^## How it works/p' "$ROOT/README.md" | grep -oE '`[^`]*`' >"$scratch/reference"
	for field in $(fields); do
		grep -qwF "$field" "$scratch/reference" || fail "$field is in the policy reference"
	done
}

run_story
