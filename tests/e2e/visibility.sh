#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# exportTo and what a Sidecar imports: who sees a service. Pod web is in namespace default.
. "$(dirname "$0")/common.bash"

# A ServiceEntry of another namespace: in NAMESPACE service-arguments...
in_namespace()
{
	service "${@:2}" | sed "s/^metadata: {/metadata: {namespace: $1, /"
}

sidecar()
{
	printf -- '---\napiVersion: networking.istio.io/v1\nkind: Sidecar\nmetadata: {name: imports, namespace: default}\nspec: {egress: [%s]}\n' "$1"
}

family_what_is_exported_elsewhere_is_not_registered()
{
	policy "$(mode REGISTRY_ONLY)" "$(in_namespace shop www.aliyun.com 80/HTTP 443/HTTPS 'exportTo: [shop, bank]')"
	get 10 -I http://www.aliyun.com/
	expect '^HTTP/1.1 502'
	get 10 -kI https://www.aliyun.com/
	expect_status 7
	policy "$(mode REGISTRY_ONLY)" "$(in_namespace shop www.aliyun.com 80/HTTP 443/HTTPS 'exportTo: [shop, default]')"
	get 10 -I http://www.aliyun.com/
	expect '^HTTP/1.1 301'
	get 10 -kI https://www.aliyun.com/
	expect '^HTTP/[12.]* 200'
}

family_a_tcp_service_of_others_is_refused()
{
	policy "$(mode REGISTRY_ONLY)" "$(in_namespace shop tcp.example.com 9000/TCP 'exportTo: [.]')"
	probe tcp "$(address 12)" 9000
	expect 'result=ECONNREFUSED'
	policy "$(mode REGISTRY_ONLY)" "$(in_namespace shop tcp.example.com 9000/TCP)"
	probe -d hello tcp "$(address 12)" 9000
	expect 'result=ok'
}

test_a_sidecar_imports()
{
	policy "$(mode REGISTRY_ONLY)" "$(in_namespace shop www.aliyun.com 80/HTTP)" "$(service httpbin.example.com 80/HTTP)" \
		"$(sidecar '{hosts: ["./*"]}')"
	get 10 -I http://www.aliyun.com/
	expect '^HTTP/1.1 502'
	get 11 http://httpbin.example.com/
	expect '^httpbin$'
	policy "$(mode REGISTRY_ONLY)" "$(in_namespace shop www.aliyun.com 80/HTTP)" "$(service httpbin.example.com 80/HTTP)" \
		"$(sidecar '{hosts: ["shop/*.aliyun.com"]}')"
	get 10 -I http://www.aliyun.com/
	expect '^HTTP/1.1 301'
	get 11 http://httpbin.example.com/headers
	expect 'not registered'
}

test_explain_sees_as_the_workload_does()
{
	policy "$(mode REGISTRY_ONLY)" "$(in_namespace shop www.aliyun.com 80/HTTP 'exportTo: [shop]')"
	run node "$SLUICE" explain --config "$LAB_POLICIES" --namespace shop www.aliyun.com
	expect_status 0
	expect 'allow'
	run node "$SLUICE" explain --config "$LAB_POLICIES" --namespace default www.aliyun.com
	expect 'deny'
}

run_story
