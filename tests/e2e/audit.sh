#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# enforcement: audit denies nothing and records what would have been denied.
. "$(dirname "$0")/common.bash"

audited()
{
	policy "$(mode REGISTRY_ONLY 'enforcement: audit')" "$@"
}

family_tcp_and_udp_pass()
{
	audited
	probe -d hello tcp "$(address 12)" 9000
	expect 'result=ok .*data=hello'
	probe -d hello udp "$(address 12)" 9001
	expect 'result=ok .*data=hello'
	probe -d hello udp-connected "$(address 12)" 9001
	expect 'result=ok .*data=hello'
}

family_http_and_https_pass()
{
	audited
	get 11 http://www.unregistered.com/
	expect 'this is www.unregistered.com'
	get 11 https://www.unregistered.com/
	expect 'this is www.unregistered.com'
}

family_unregistered_names_on_a_named_port_pass()
{
	audited "$(service www.aliyun.com 80/HTTP 443/HTTPS)"
	get 11 http://www.unregistered.com/
	expect 'this is www.unregistered.com'
	get 11 https://www.unregistered.com/
	expect 'this is www.unregistered.com'
	hello 10 -
	expect 'end=closed .*received=[1-9]'
}

test_what_would_have_been_denied_is_recorded()
{
	audited
	probe -d hello tcp 203.0.113.12 9002
	run node "$SLUICE" flows
	expect 'deny \(audit\) .*203\.0\.113\.12:9002'
}

run_story
