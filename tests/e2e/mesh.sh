#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# What Istio keeps of the whole mesh: the ConfigMap istio and IstioOperator, behind every policy of sluice's own.
. "$(dirname "$0")/common.bash"

config_map()
{
	printf -- '---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: istio, namespace: istio-system}\ndata:\n  mesh: |-\n'
	printf '    %s\n' "$@" 'enableTracing: true'
	printf '  meshNetworks: "networks: {}"\n'
}

operator()
{
	printf -- '---\napiVersion: install.istio.io/v1alpha1\nkind: IstioOperator\nmetadata: {name: installed}\nspec:\n  profile: default\n'
	printf '  %s\n' "$@"
}

test_the_mode_of_the_mesh()
{
	policy "$(config_map 'outboundTrafficPolicy:' '  mode: REGISTRY_ONLY')"
	get 10 -I http://www.aliyun.com/
	expect '^HTTP/1.1 502'
	policy "$(config_map 'outboundTrafficPolicy:' '  mode: REGISTRY_ONLY')" "$(mode ALLOW_ANY)"
	get 10 -I http://www.aliyun.com/
	expect '^HTTP/1.1 301'
	policy "$(operator 'meshConfig: {outboundTrafficPolicy: {mode: REGISTRY_ONLY}}')"
	get 10 -I http://www.aliyun.com/
	expect '^HTTP/1.1 502'
	refuse '^HTTP/1.1 301'
}

test_excluded_ports_pass()
{
	policy "$(operator 'meshConfig: {outboundTrafficPolicy: {mode: REGISTRY_ONLY}}' 'values: {global: {proxy: {excludeOutboundPorts: "443,8443"}}}')"
	get 10 -I http://www.aliyun.com/
	expect '^HTTP/1.1 502'
	get 10 -kI https://www.aliyun.com/
	expect '^HTTP/[12.]* 200'
}

# What is captured of pod web: annotated ANNOTATION-OF-traffic.sidecar.istio.io
annotated()
{
	lab_workload web tier=front | sed "s|^metadata: {|&annotations: {traffic.sidecar.istio.io/$1}, |" | lab_policy workloads
}

# Each list of a workload's own stands for the mesh's, and behind what an EgressPolicy says.
test_annotations_of_a_workload()
{
	local mesh

	mesh=$(operator 'meshConfig: {outboundTrafficPolicy: {mode: REGISTRY_ONLY}}' \
		'values: {global: {proxy: {includeIPRanges: 203.0.113.0/24, excludeOutboundPorts: "443"}}}')
	policy "$mesh"
	annotated 'excludeOutboundPorts: "80,81"'
	get 10 -I http://www.aliyun.com/
	expect '^HTTP/1.1 301'
	refuse 'x-envoy'
	get 10 -kI https://www.aliyun.com/
	expect_status 7
	annotated 'includeOutboundIPRanges: "10.96.0.0/12"'
	probe -d hello tcp 203.0.113.12 9000
	expect 'result=ok'
	policy "$mesh" "$(mode REGISTRY_ONLY 'interception: {includeCIDRs: ["*"]}')"
	probe tcp 203.0.113.12 9000
	expect 'result=ECONNREFUSED'
	lab_workload web tier=front | lab_policy workloads
}

test_timeouts_and_retries()
{
	lab_in internet ip route add blackhole 203.0.113.88
	policy "$(mode REGISTRY_ONLY)" "$(config_map 'connectTimeout: 200ms' 'defaultHttpRetryPolicy: {attempts: 1, retryOn: connect-failure}')" \
		"$(service svc.example.com 80/HTTP 'resolution: STATIC' 'endpoints: [{address: 203.0.113.88}]')"
	get 10 -w ' %{http_code}' http://svc.example.com/
	lab_in internet ip route del blackhole 203.0.113.88
	expect ' 503$'
	((elapsed_ms >= 400 && elapsed_ms < 1500)) || fail "two tries of 200 ms, not $elapsed_ms ms"
}

run_story
