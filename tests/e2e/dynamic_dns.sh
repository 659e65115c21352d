#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Resolution DYNAMIC_DNS: the name that the client shows decides where sluice dials, wherever the client dialled.
. "$(dirname "$0")/common.bash"

wild=$(service '*.wild.example.org' 80/HTTP 443/TLS 'resolution: DYNAMIC_DNS')

# The names of this story, one below the other in the resolver's file; dnsmasq knows no others.
names()
{
	local name

	{
		lab_hosts | grep -v wild
		for name; do printf '%s %s.wild.example.org\n' "${name#*=}" "${name%%=*}"; done
	} >"$LAB/hosts"
	kill -HUP "$(<"$LAB/dnsmasq.pid")"
}

two_names()
{
	policy "$(mode "${1:-REGISTRY_ONLY}")" "$wild"
	names one=203.0.113.11 one=2001:db8:113::11 two=203.0.113.14 two=2001:db8:113::14
}

served_at()
{
	tail -n 1 "$LAB/nginx.log" | grep -qF "$1 $(pod_address) $2.wild" || fail "a request for $2 at $1, not $(tail -n 1 "$LAB/nginx.log")"
}

family_each_name_is_dialled_where_it_is()
{
	two_names
	get 12 -i http://one.wild.example.org/
	expect '^HTTP/1.1 200'
	expect '^x-envoy-upstream-service-time'
	expect 'this is one.wild.example.org'
	served_at "$(address 11 | sed s/::ffff://)" one
	get 12 https://two.wild.example.org/
	expect 'this is two.wild.example.org'
	served_at "$(address 14 | sed s/::ffff://)" two
}

test_under_allow_any_too()
{
	two_names ALLOW_ANY
	get 11 http://two.wild.example.org/
	served_at 203.0.113.14 two
	get 10 https://one.wild.example.org/
	served_at 203.0.113.11 one
	get 11 https://www.unregistered.com/
	expect 'this is www.unregistered.com'
}

# Whatever the name: what nobody registers and is HTTP goes where its Host is, all else where the client dials.
test_the_mesh_may_have_all_http_dialled_so()
{
	policy "$(mode ALLOW_ANY_DYNAMIC_DNS)"
	names one=203.0.113.11 self=127.0.0.1
	get 12 http://one.wild.example.org/
	expect 'this is one.wild'
	served_at 203.0.113.11 one
	get 12 -I http://www.aliyun.com/
	expect '^HTTP/1.1 301'
	get 12 http://nowhere.wild.example.org/
	expect 'DNS resolution failure'
	get 12 http://self.wild.example.org/
	expect 'DNS resolution failure'
	get 11 https://www.aliyun.com/
	expect 'this is www.aliyun.com'
	run web curl -sS -m 5 http://203.0.113.11/
	expect 'this is 203.0.113.11'
	probe -d hello tcp 203.0.113.12 9000
	expect 'result=ok'
	run node "$SLUICE" dump rulesets
	expect 'ALLOW_ANY_DYNAMIC_DNS'
}

test_each_request_of_a_connection_is_dialled_by_its_own_name()
{
	two_names
	run web curl -sS --resolve one.wild.example.org:80:203.0.113.12 http://one.wild.example.org/ http://one.wild.example.org/ -H 'Host: TWO.wild.example.org.'
	expect_count 2 'this is two'
	served_at 203.0.113.14 two
	raw 12 80 'GET / HTTP/1.1\r\nHost: one.wild.example.org\r\n\r\nGET / HTTP/1.1\r\nHost: two.wild.example.org\r\nConnection: close\r\n\r\n'
	expect 'this is one'
	expect 'this is two'
	[[ $(tail -n 2 "$LAB/nginx.log" | awk '{ print $1, $3 }' | xargs) == '203.0.113.11 one.wild.example.org 203.0.113.14 two.wild.example.org' ]] ||
		fail "each at its server, not $(tail -n 2 "$LAB/nginx.log")"
}

test_rules_hold_for_what_is_below_the_wildcard()
{
	policy "$(mode REGISTRY_ONLY)" "$wild" '---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: wild}
spec:
  hosts: ["*.wild.example.org"]
  http:
  - match: [{uri: {prefix: /gone}}]
    fault: {abort: {httpStatus: 410, percentage: {value: 100}}}
    route: [{destination: {host: "*.wild.example.org"}}]
  - route: [{destination: {host: "*.wild.example.org"}}]
    timeout: 5s'
	names one=203.0.113.11
	get 12 -i http://one.wild.example.org/gone
	expect '^HTTP/1.1 410'
	get 12 http://one.wild.example.org/
	expect 'this is one'
	served_at 203.0.113.11 one
}

test_the_address_opens_nothing_else()
{
	two_names
	get 12 http://one.wild.example.org/
	expect 'this is one'
	get 12 https://two.wild.example.org/
	expect 'this is two'
	hello 11 www.unregistered.com
	expect 'end=ECONNRESET .*received=0'
	get 11 -I http://www.unregistered.com/
	expect '^HTTP/1.1 502'
	probe tcp 203.0.113.14 25
	expect 'result=ECONNREFUSED'
	run node "$SLUICE" dump services
	expect '203.0.113.11 +80 +tcp +upstream +one.wild.example.org'
	refuse '203.0.113.1[14] +[0-9]+ +tcp +service'
}

test_what_people_are_shown()
{
	two_names
	get 12 http://one.wild.example.org/
	run node "$SLUICE" dump services
	expect 'resolved when asked for +443 +tcp +service +\*\.wild\.example\.org +tls,routed,wildcard,dynamic'
	run node "$SLUICE" status
	expect '\*\.wild\.example\.org: resolved when asked for'
	expect ' one\.wild\.example\.org: .*203\.0\.113\.11'
	run node "$SLUICE" explain http://two.wild.example.org/
	expect '^kernel +redirect, name'
	expect '^dialled +where DNS has the name, resolved when asked for'
}

test_a_name_that_is_nowhere()
{
	two_names
	get 14 -i http://nowhere.wild.example.org/
	expect '^HTTP/1.1 503'
	expect '^server: sluice'
	expect 'DNS resolution failure'
	hello 14 nowhere.wild.example.org
	expect 'end=ECONNRESET .*received=0'
}

# That HTTP for a name is answered, whoever answers.
serves()
{
	get 12 "http://$1.wild.example.org/"
	[[ $output == *"this is $1.wild"* ]]
}

test_a_resolver_that_says_nothing()
{
	two_names
	trap 'kill -CONT "$(<"$LAB/dnsmasq.pid")"; end_background' EXIT
	kill -STOP "$(<"$LAB/dnsmasq.pid")"
	get 14 -i http://silent.wild.example.org/
	expect '^HTTP/1.1 503'
	expect 'DNS resolution failure'
}

test_addresses_where_no_service_is_are_refused()
{
	local before

	two_names
	before=$(metric sluice_dynamic_addresses_refused_total)
	names self=127.0.0.1 self6=::1 meta=169.254.169.254 any=0.0.0.0 local=fe80::1 group=224.0.0.1 canary=198.18.0.1 mixed=127.0.0.2 mixed=203.0.113.11
	background own web socat TCP-LISTEN:80,bind=127.0.0.1,fork,reuseaddr SYSTEM:'echo own'
	for name in self self6 meta any local group canary; do
		get 12 -i "http://$name.wild.example.org/"
		expect '^HTTP/1.1 503'
		expect 'DNS resolution failure'
	done
	hello 12 self.wild.example.org
	expect 'end=ECONNRESET .*received=0'
	get 12 http://mixed.wild.example.org/
	expect 'this is mixed'
	served_at 203.0.113.11 mixed
	(($(metric sluice_dynamic_addresses_refused_total) - before >= 8)) || fail "refused addresses are counted"
	grep -q 'where no service is' "$LAB_LOG" || fail "the log says so"
}

test_answers_that_change()
{
	two_names
	names moves=203.0.113.11
	get 12 http://moves.wild.example.org/
	served_at 203.0.113.11 moves
	get 12 http://comes.wild.example.org/
	expect 'DNS resolution failure'
	names moves=203.0.113.14 comes=203.0.113.14
	lab_wait 8 moved || fail "the new address is dialled after the floor of TTLs"
	lab_wait 2 serves comes || fail "that a name is nowhere is not remembered for long"
}

moved()
{
	get 12 http://moves.wild.example.org/
	tail -n 1 "$LAB/nginx.log" | grep -qF '203.0.113.14 10.88.0.2 moves.wild'
}

test_an_open_connection_survives_loader_and_redirector_are_replaced_with_what_is_known()
{
	local pid

	two_names
	get 12 http://one.wild.example.org/
	expect 'this is one'
	pid=$(redirector_pid)
	kill -KILL "$pid"
	lab_wait 3 lab_gone "$pid" || fail "the redirector is gone"
	eventually serves one
	get 12 https://two.wild.example.org/
	expect 'this is two'
	open_relay one
	pid=$(lab_sluice_pid)
	kill -KILL "$pid"
	lab_wait 2 lab_gone "$pid" || fail "the loader is gone"
	relay_answers 'the loader is dead'
	get 12 http://one.wild.example.org/
	expect 'this is one'
	lab_sluice_start || fail "it starts again"
	relay_answers 'a new loader'
	get 12 http://two.wild.example.org/
	expect 'this is two'
	exec 6>&- 7<&-
}

# An open TLS connection, which asks for something each time: on descriptors 6 (in) and 7 (out).
open_relay()
{
	mkfifo "$scratch/in" "$scratch/out"
	lab_enter web openssl s_client -quiet -connect 203.0.113.12:443 -servername "$1.wild.example.org" -alpn http/1.1 \
		<"$scratch/in" >"$scratch/out" 2>/dev/null &
	background_pids+=($!)
	exec 6>"$scratch/in" 7<"$scratch/out"
	rm "$scratch/in" "$scratch/out"
	relay_answers 'just opened'
}

relay_answers()
{
	local line

	printf 'GET /relay HTTP/1.1\r\nHost: relay\r\n\r\n' >&6
	while read -r -t 3 line <&7; do
		[[ $line != *'this is relay'* ]] || return 0
	done
	fail "the open connection answers: $1"
}

# 5,000 names that nobody has, 300 that are there, over 20 connections; what came of them, by status.
flood='
import collections, http.client, sys, threading
came, lock = collections.Counter(), threading.Lock()
def ask(first):
    c = http.client.HTTPConnection("203.0.113.12", 80, timeout=8)
    for i in range(first, 5300, 20):
        c.request("GET", "/", headers={"Host": "%s%d.wild.example.org" % ("f" if i < 300 else "x", i)})
        r = c.getresponse()
        r.read()
        with lock:
            came[r.status] += 1
threads = [threading.Thread(target=ask, args=(i,)) for i in range(20)]
[t.start() for t in threads]
[t.join() for t in threads]
print(" ".join("%d=%d" % x for x in sorted(came.items())))'

test_a_flood_of_names_stays_within_bounds()
{
	local i many=()

	for ((i = 0; i < 300; i++)); do many+=("f$i=203.0.113.11"); done
	policy "$(mode REGISTRY_ONLY)" "$wild"
	names one=203.0.113.11 two=203.0.113.14 "${many[@]}"
	get 12 http://one.wild.example.org/
	expect 'this is one'
	run web timeout 20 python3 -c "$flood"
	expect '^200=[0-9]+ 503=[0-9]+$'
	(($(settled_metric sluice_redirector_names_refused_total) > 1000)) || fail "most are refused"
	(($(metric sluice_dynamic_names) <= 512)) || fail "at most 512 names of the workload, not $(metric sluice_dynamic_names)"
	get 12 http://one.wild.example.org/
	expect 'this is one'
	lab_pod other
	{
		lab_workload web tier=front
		lab_workload other
	} | lab_policy workloads || fail "the policy is looked at"
	eventually other_is_served
	lab_workload web tier=front | lab_policy workloads || fail "the policy is looked at"
	ip netns del "$(lab_netns other)"
	lab_sluice status >/dev/null || fail "sluice is well"
}

other_is_served()
{
	run other curl -sS -m 3 --resolve two.wild.example.org:80:203.0.113.12 http://two.wild.example.org/
	[[ $output == *'this is two.wild'* ]]
}

test_without_the_policy_nothing_is_left()
{
	two_names
	get 12 http://one.wild.example.org/
	expect 'this is one'
	policy "$(mode REGISTRY_ONLY)"
	run node "$SLUICE" dump services
	refuse 'wild'
	get 12 -I http://one.wild.example.org/
	expect '^HTTP/1.1 502'
	[[ $(metric sluice_dynamic_names) == 0 ]] || fail "no name is kept"
}

end_names()
{
	lab_hosts >"$LAB/hosts"
	kill -HUP "$(<"$LAB/dnsmasq.pid")"
}
trap end_names EXIT

run_story
