#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# hostCheck: kernel. TLS flows stay direct, and pass if their ClientHello names a registered service.
. "$(dirname "$0")/common.bash"

E2E=$ROOT/tests/e2e
allowed=www.aliyun.com wildcard=a.wild.example.org other=www.unregistered.com

checked()
{
	policy "$(mode REGISTRY_ONLY 'hostCheck: kernel' "$@")" "$(service $allowed {443,8443,8444,8445,8446}/TLS)" \
		"$(service '*.wild.example.org' 443/TLS 'resolution: NONE' 'addresses: [203.0.113.14, "2001:db8:113::14"]')"
	connections=$(settled_metric sluice_redirector_connections_total)
}

all_direct()
{
	[[ $(settled_metric sluice_redirector_connections_total) == "$connections" ]] || fail "no connection through the redirector"
}

# ---- the table: each client, each name ----

# A handshake by CLIENT with the server at N for NAME (or -: none; or ip: the address itself): shake CLIENT N NAME [VERSION [SIZE]]
shake()
{
	local client=$1 name=$3 version=${4:-} size=${5:-0} address options=() alpn=''

	address=$(address "$2")
	case $client in
	curl)
		[[ -z $version ]] || options+=("--tlsv$version" --tls-max "$version")
		if [[ $name == ip ]]; then
			[[ $address != *:* ]] || address="[$address]"
			run web curl -sSk -m 5 -o /dev/null "${options[@]}" "https://$address/"
		else
			get "$2" -k -o /dev/null "${options[@]}" "https://$name/"
		fi
		((status)) || output=established
		;;
	openssl)
		options=(-servername "$name")
		case $name in -) options=(-noservername) ;; ip) options=(-servername "$address") ;; esac
		[[ -z $version ]] || options+=("-tls${version/./_}")
		while ((${#alpn} < size)); do alpn+=",$(printf 'x%.0s' {1..99})"; done
		[[ -z $alpn ]] || options+=(-alpn "http/1.1$alpn")
		[[ $address != *:* ]] || address="[$address]"
		run web timeout 5 openssl s_client -connect "$address:443" "${options[@]}"
		((status)) || output=established
		;;
	python)
		[[ $name != ip ]] || name=$address
		run web "$E2E/tls-client" ${version:+-v "$version"} -a "$size" "$address" 443 "$name"
		output=${output/#TLSv/established TLSv}
		;;
	node)
		[[ $name != - && $name != ip ]] || name=
		run web timeout 8 node -e '
			const [address, name, version, size] = process.argv.slice(1);
			const options = {host: address, port: 443, rejectUnauthorized: false, servername: name};
			if (version) options.minVersion = options.maxVersion = "TLSv" + version;
			options.ALPNProtocols = ["http/1.1"].concat(Array(Math.floor(size / 100)).fill("x".repeat(99)));
			const socket = require("tls").connect(options, () => { console.log("established"); process.exit(0); });
			socket.on("error", (error) => { console.log(error.code); process.exit(1); });' \
			"$address" "$name" "$version" "$size"
		;;
	esac
}

clients=(curl openssl python node)

family_registered_names_pass_and_stay_direct()
{
	local client version

	checked
	for client in "${clients[@]}"; do
		for version in '' 1.2 1.3; do
			shake "$client" 10 $allowed $version
			expect '^established'
			shake "$client" 14 $wildcard $version
			expect '^established'
		done
	done
	all_direct
}

family_other_names_are_refused_at_once()
{
	local client version

	checked
	for client in "${clients[@]}"; do
		for version in 1.2 1.3; do
			shake "$client" 10 $other $version
			refuse '^established'
			expect_time 0 2000
		done
		shake "$client" 10 ip
		refuse '^established'
		[[ $client == curl ]] || shake "$client" 10 -
		refuse '^established'
		shake "$client" 14 $allowed.evil.org
		refuse '^established'
		shake "$client" 14 wild.example.org
		refuse '^established'
	done
	all_direct
}

# curl cannot be made to say more.
test_large_hellos_pass_and_stay_direct()
{
	local client size

	checked
	for client in openssl python node; do
		for size in 2000 6000; do
			shake $client 10 $allowed '' $size
			expect '^established'
			shake $client 10 $other '' $size
			refuse '^established'
		done
	done
	all_direct
}

# ---- what clients seldom do ----

passes()
{
	grep -qE '^\[end=(closed|eof)' <<<"$output" && ! grep -q 'received=0' <<<"$output" || fail "an answer of the server"
}

is_refused()
{
	expect '\[end=ECONNABORTED .* received=0\]'
}

test_names_in_any_case()
{
	checked
	hello 10 wWw.AliYun.COM
	passes
	hello 14 A.B.Wild.Example.Org
	passes
	all_direct
}

test_hellos_in_many_records()
{
	local size

	checked
	for size in 1 7 100; do
		hello 10 $allowed -r $size
		passes
		hello 10 $other -r $size
		is_refused
	done
	all_direct
}

test_hellos_written_byte_by_byte()
{
	checked
	hello 10 $allowed -- -s 1
	passes
	hello 10 $allowed -- -s 1 -w 1
	passes
	hello 10 $other -- -s 1
	is_refused
	all_direct
}

test_of_an_encrypted_hello_the_outer_name_counts()
{
	checked
	hello 10 $allowed -e
	passes
	hello 10 $other -e
	is_refused
	all_direct
}

test_what_is_not_tls_is_refused()
{
	checked
	raw 10 443 'GET / HTTP/1.1\r\nHost: www.aliyun.com\r\n\r\n'
	is_refused
	hello 10 -
	is_refused
	run web "$SLUICE" flows
	expect 'deny .*203\.0\.113\.10:443/tcp.*name-missing'
}

test_the_event_tells_the_name()
{
	checked
	hello 10 $other
	is_refused
	run web "$SLUICE" flows
	expect "deny .*203\.0\.113\.10:443/tcp $other: name-unregistered"
}

test_a_hello_that_the_kernel_cannot_read_goes_through_the_redirector_from_then_on()
{
	checked
	background server internet "$E2E/hello-server" 203.0.113.10 8443 $allowed
	eventually grep -q ready "$scratch/server"
	# Half of it, and then silence: nothing makes TCP send the rest along.
	port=8443 hello 10 $allowed -p 3000 -- -s 1500 -w 1500 -t 4000
	is_refused
	port=8443 hello 10 $allowed -p 3000 -- -s 1500 -w 500
	passes
	port=8443 hello 10 $other
	refuse 'received=[1-9]'
	(($(settled_metric sluice_redirector_connections_total) == connections + 2)) || fail "two connections through the redirector"
	run web "$SLUICE" flows
	expect 'deny .*:8443/tcp.*hello-unreadable'
	expect 'redirect .*:8443/tcp.*service-tls'
}

test_a_final_dot_is_left_to_the_redirector()
{
	checked
	# From here on so is all that goes to this address.
	hello 14 $wildcard.
	is_refused
	hello 14 $wildcard.
	passes
}

family_udp_to_a_checked_port_is_refused()
{
	checked
	probe -d hello udp "$(address 10)" 443
	expect 'result=ECONNREFUSED stage=send'
}

test_explain_tells_who_checks()
{
	checked
	run node "$SLUICE" explain https://$allowed
	expect 'kernel +allow, service-tls, name checked in the kernel'
	expect 'hostCheck kernel'
	expect '=> let through'
	run node "$SLUICE" explain https://203.0.113.10
	expect 'hello +deny, name-missing'
	expect '=> denied'
}

test_audit_lets_all_pass_and_tells()
{
	checked 'enforcement: audit'
	hello 10 $other
	passes
	run web "$SLUICE" flows
	expect "$other: name-unregistered.*"
	all_direct
}

test_allow_any_checks_nothing()
{
	policy "$(mode ALLOW_ANY 'hostCheck: kernel')" "$(service $allowed 443/TLS)"
	connections=$(settled_metric sluice_redirector_connections_total)
	hello 10 $other
	passes
	all_direct
}

test_a_flow_that_showed_its_name_lives_on()
{
	checked
	run web curl -sSk -m 20 --resolve $allowed:443:203.0.113.10 -o /dev/null -w '%{http_code}\n' \
		--limit-rate 200 "https://$allowed/" "https://$allowed/again"
	expect_count 2 '^200'
	all_direct
}

# ---- showing the server another hello ----

# attack WAY PORT: each has a port of its own, because what cannot be read is the redirector's from then on.
attack()
{
	background server internet "$E2E/hello-server" 203.0.113.10 "$2" $allowed www.aliyun.bad
	eventually grep -q ready "$scratch/server"
	"$TOOLS/hello" $allowed >"$scratch/allowed"
	"$TOOLS/hello" www.aliyun.bad >"$scratch/forbidden"
	run web "$E2E/hello-attacks" "$1" 203.0.113.10 "$2" "$scratch/allowed" "$scratch/forbidden"
	output+=$'\n'$(<"$scratch/server")
	end_background
}

test_rewritten_pages_do_not_reach_the_server()
{
	policy "$(mode REGISTRY_ONLY 'hostCheck: off')" "$(service $allowed 8444/TLS)"
	attack sendfile 8444
	expect '^saw www\.aliyun\.bad' # so the way is one
	checked
	attack sendfile 8444
	refuse '^saw'
}

test_an_injected_hello_does_not_reach_the_server()
{
	policy "$(mode REGISTRY_ONLY 'hostCheck: off')" "$(service $allowed 8445/TLS)"
	attack inject 8445
	expect '^saw www\.aliyun\.bad'
	checked
	attack inject 8445
	refuse '^saw'
	run web "$SLUICE" flows
	expect 'deny .*:8445/tcp.*hello-changed'
}

test_urgent_bytes_are_refused()
{
	checked
	attack urgent 8446
	refuse '^saw'
	expect 'ConnectionAborted'
}

run_story
