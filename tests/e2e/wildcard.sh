#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Wildcard hosts and resolution NONE: the name decides, the original destination is dialled.
. "$(dirname "$0")/common.bash"

wild=$(service '*.wild.example.org' 80/HTTP 443/TLS 'resolution: NONE')

family_a_matching_name_passes()
{
	policy "$(mode REGISTRY_ONLY)" "$wild"
	get 14 -i http://a.wild.example.org/
	expect '^HTTP/1.1 200'
	expect 'x-envoy-upstream-service-time'
	expect 'this is a.wild.example.org'
	get 14 https://b.wild.example.org/
	expect 'this is b.wild.example.org'
}

test_the_original_destination_is_dialled()
{
	policy "$(mode REGISTRY_ONLY)" "$wild"
	get 11 http://a.wild.example.org/
	expect 'this is a.wild.example.org'
	tail -n 1 "$LAB/nginx.log" | grep -q '^203\.0\.113\.11 10\.88\.0\.2 a\.wild' || fail "a request at 203.0.113.11 in nginx.log"
}

family_other_names_stay_blocked()
{
	policy "$(mode REGISTRY_ONLY)" "$wild"
	get 14 -I http://wild.example.org/
	expect '^HTTP/1.1 502'
	get 11 -I http://www.unregistered.com/
	expect '^HTTP/1.1 502'
	hello 11 www.unregistered.com
	expect 'end=ECONNRESET .*received=0'
	hello 14 wild.example.org
	expect 'end=ECONNRESET .*received=0'
	hello 14 xwild.example.org
	expect 'end=ECONNRESET .*received=0'
}

test_the_longest_name_wins()
{
	policy "$(mode REGISTRY_ONLY)" "$wild" \
		"$(service a.wild.example.org 80/HTTP 'resolution: STATIC' 'endpoints: [{address: 203.0.113.13}]')"
	get 14 http://a.wild.example.org/head
	expect '^GET /head'
	get 14 http://b.wild.example.org/
	expect 'this is b.wild.example.org'
}

test_a_tls_name_of_several_labels_matches()
{
	policy "$(mode REGISTRY_ONLY)" "$wild"
	hello 14 x.y.wild.example.org
	expect 'end=closed .*received=[1-9]'
}

family_an_exact_host_with_resolution_none()
{
	policy "$(mode REGISTRY_ONLY)" "$(service www.unregistered.com 80/HTTP 443/TLS 'resolution: NONE')"
	get 11 http://www.unregistered.com/
	expect 'this is www.unregistered.com'
	get 11 https://www.unregistered.com/
	expect 'this is www.unregistered.com'
}

family_a_partial_wildcard()
{
	policy "$(mode REGISTRY_ONLY)" "$(service '*yun.com' 80/HTTP 443/HTTPS 'resolution: NONE')"
	get 10 -I http://www.aliyun.com/
	expect '^HTTP/1.1 301'
	get 10 -kI https://www.aliyun.com/
	expect '^HTTP/[12.]* 200'
	get 10 -I http://www.unregistered.com/
	expect '^HTTP/1.1 502'
	policy "$(mode REGISTRY_ONLY 'hostCheck: kernel')" "$(service '*yun.com' 80/HTTP 443/HTTPS 'resolution: NONE')"
	get 10 -kI https://www.aliyun.com/
	expect '^HTTP/[12.]* 200'
	get 10 -kI https://www.unregistered.com/
	expect_status 35
}

run_story
