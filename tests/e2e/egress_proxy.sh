#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A Sidecar's egressProxy: what nobody registers goes to that service (ISTIO.md §1.2). The proxy is nginx at 203.0.113.11.
. "$(dirname "$0")/common.bash"

# A proxy whose server is at 203.0.113.ENDPOINT:PORT.
proxy()
{
	service proxy.example.com "5000/TCP/$2" 'resolution: STATIC' "endpoints: [{address: 203.0.113.$1}]"
}

sidecar()
{
	printf -- '---\napiVersion: networking.istio.io/v1\nkind: Sidecar\nmetadata: {name: proxied, namespace: default}\nspec:\n'
	printf '  outboundTrafficPolicy: {mode: ALLOW_ANY, egressProxy: {host: proxy.example.com, port: {number: %s}}}\n' "${1:-5000}"
}

family_what_is_not_registered_goes_to_the_proxy()
{
	: >"$LAB/nginx.log"
	policy "$(proxy 11 80)" "$(sidecar)"
	get 10 -o /dev/null -w '%{http_code}' http://www.unregistered.com/
	expect '^200$'
	eventually grep -q '^203.0.113.11 [^ ]* www.unregistered.com ' "$LAB/nginx.log"
	policy "$(proxy 11 443)" "$(sidecar)"
	get 10 -k -o /dev/null -w '%{http_code}' https://www.unregistered.com/
	expect '^200$'
	eventually grep -q '^203.0.113.11 [^ ]* www.unregistered.com ' "$LAB/nginx.log"
	policy "$(proxy 12 9000)" "$(sidecar)"
	probe -d hello tcp "$(address 10)" 7777
	expect 'result=ok .*data=hello'
}

family_what_is_registered_does_not()
{
	policy "$(proxy 11 80)" "$(sidecar)" "$(service www.aliyun.com 80/HTTP)" "$(service tcp.example.com 9000/TCP)"
	get 10 -I http://www.aliyun.com/
	expect '^HTTP/1.1 301'
	probe -d hello tcp "$(address 12)" 9000
	expect 'result=ok'
	probe -d hello udp "$(address 12)" 9001
	expect 'result=ok'
}

test_a_proxy_that_nobody_registers_gets_nothing()
{
	policy "$(proxy 11 80)" "$(sidecar 5001)"
	get 10 -o /dev/null -w '%{http_code}' http://www.aliyun.com/
	expect '^503$'
	probe -d hello tcp 203.0.113.12 9000
	expect 'result=ECONNRESET'
}

test_explain_tells_of_it()
{
	policy "$(proxy 11 80)" "$(sidecar)"
	run node "$SLUICE" explain --config "$LAB_POLICIES" --namespace default www.unregistered.com
	expect 'egressProxy of .*Sidecar/proxied gets it'
}

test_another_mode_has_none()
{
	bad_policy "$(proxy 11 80)" "$(sidecar | sed s/ALLOW_ANY/REGISTRY_ONLY/)"
	[[ $(lab_last_error) == *'egressProxy: is for mode ALLOW_ANY'* ]] || fail "$(lab_last_error)"
	policy "$(proxy 11 80)" "$(sidecar)" "$(mode REGISTRY_ONLY | sed 's/namespace: istio-system/namespace: default/')"
	get 10 -I http://www.aliyun.com/
	expect '^HTTP/1.1 502'
}

run_story
