#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# REGISTRY_ONLY without a ServiceEntry: HTTP gets 502 and a reason, everything else ECONNREFUSED at once.
. "$(dirname "$0")/common.bash"

family_the_502_says_who_what_and_why()
{
	policy "$(mode REGISTRY_ONLY)"
	get 10 -i http://www.aliyun.com/
	expect '^HTTP/1.1 502'
	expect 'www\.aliyun\.com'
	expect 'default/web'
	expect 'REGISTRY_ONLY'
	expect 'test.yaml:[0-9]+'
}

sidecar()
{
	printf -- '---\napiVersion: networking.istio.io/v1\nkind: Sidecar\nmetadata: {name: %s, namespace: default}\nspec: %s\n' "$@"
}

# Istio's zero value blocks. A Sidecar of the workload's namespace stands before the root namespace's policy.
test_a_sidecar_says_the_mode()
{
	policy "$(mode ALLOW_ANY)" "$(sidecar shut '{outboundTrafficPolicy: {}}')"
	get 10 -i http://www.aliyun.com/
	expect '^HTTP/1.1 502'
	expect 'test.yaml:[0-9]+ Sidecar/shut'
	probe tcp 203.0.113.12 9000
	expect 'result=ECONNREFUSED'
	policy "$(mode ALLOW_ANY)" "$(sidecar shut '{outboundTrafficPolicy: {}}')" \
		"$(sidecar front '{workloadSelector: {labels: {tier: front}}, outboundTrafficPolicy: {mode: ALLOW_ANY}}')"
	get 10 -I http://www.aliyun.com/
	expect '^HTTP/1.1 301'
}

test_http_1_0_gets_502_too()
{
	policy "$(mode REGISTRY_ONLY)"
	raw 10 80 'GET / HTTP/1.0\r\n\r\n'
	expect '^HTTP/1\.[01] 502'
	expect 'end=eof'
}

test_a_502_leaves_the_connection_usable()
{
	policy "$(mode REGISTRY_ONLY)"
	raw 10 80 'GET /1 HTTP/1.1\r\nHost: a.com\r\n\r\nGET /2 HTTP/1.1\r\nHost: b.com\r\nConnection: close\r\n\r\n'
	expect_count 2 '^HTTP/1.1 502'
}

family_https_is_refused_in_under_50_ms()
{
	policy "$(mode REGISTRY_ONLY)"
	get 10 -I -w 'elapsed_ms=%{time_total}' https://www.aliyun.com/
	expect_status 7
	expect 'elapsed_ms=0\.0[0-4]'
	probe tcp "$(address 10)" 443
	expect 'result=ECONNREFUSED stage=connect'
	expect_time 0 49
}

family_tcp_is_refused()
{
	policy "$(mode REGISTRY_ONLY)"
	probe -d hello tcp "$(address 12)" 9000
	expect 'result=ECONNREFUSED stage=connect'
	expect_time 0 49
}

family_udp_is_refused()
{
	policy "$(mode REGISTRY_ONLY)"
	probe -d hello udp "$(address 12)" 9001
	expect 'result=ECONNREFUSED stage=send'
	expect_time 0 49
}

family_connected_udp_is_refused()
{
	policy "$(mode REGISTRY_ONLY)"
	probe -d hello udp-connected "$(address 12)" 9001
	expect 'result=ECONNREFUSED stage=connect'
}

test_udp_from_a_v6_socket_to_a_v4_address_is_refused()
{
	policy "$(mode REGISTRY_ONLY)"
	probe -6 -d hello udp 203.0.113.12 9001
	expect 'result=ECONNREFUSED stage=send'
}

test_a_blackholed_address_is_refused_without_waiting()
{
	policy "$(mode REGISTRY_ONLY)"
	probe tcp 203.0.113.99 443
	expect 'result=ECONNREFUSED stage=connect'
	expect_time 0 49
}

test_loopback_is_never_touched()
{
	local address

	policy "$(mode REGISTRY_ONLY)"
	background loopback web "$TOOLS/probe" -t 20000 serve-udp :: 7000
	eventually grep -q ready "$scratch/loopback"
	for address in 127.0.0.1 127.8.9.10 ::1 ::ffff:127.0.0.1; do
		probe -d hello udp "$address" 7000
		expect 'result=ok .*data=hello'
	done
}

test_the_pods_own_address_is_not_loopback()
{
	policy "$(mode REGISTRY_ONLY)"
	probe -d hello udp 10.88.0.2 7000
	expect 'result=ECONNREFUSED stage=send'
	probe tcp fd00:88::2 7000
	expect 'result=ECONNREFUSED stage=connect'
}

test_link_local_metadata_is_not_loopback()
{
	policy "$(mode REGISTRY_ONLY)"
	probe udp 169.254.169.254 1234
	expect 'result=ECONNREFUSED stage=send'
}

test_a_socket_bound_to_a_device_is_refused()
{
	policy "$(mode REGISTRY_ONLY)"
	probe -i eth0 tcp 203.0.113.10 80
	expect 'result=ECONNREFUSED stage=connect'
}

test_a_client_that_does_not_speak_http_on_port_80_is_reset()
{
	policy "$(mode REGISTRY_ONLY)"
	raw 10 80 'SSH-2.0-hello\r\n'
	expect 'end=ECONNRESET .*received=0'
	port=80 hello 10 www.aliyun.com
	expect 'end=ECONNRESET .*received=0'
}

test_a_silent_client_on_port_80_is_reset_after_a_second()
{
	policy "$(mode REGISTRY_ONLY)"
	raw 10 80 ''
	expect 'end=ECONNRESET'
	expect_time 800 2500
}

test_nobody_gets_through_the_redirectors_port_itself()
{
	policy "$(mode REGISTRY_ONLY)"
	run web "$TOOLS/raw" 127.0.0.1 15001
	expect 'end=(eof|ECONNRESET|ECONNREFUSED) .*received=0'
	run web "$TOOLS/raw" ::1 15001
	expect 'end=(eof|ECONNRESET|ECONNREFUSED) .*received=0'
}

test_a_pod_that_is_no_known_workload_has_the_nodes_default()
{
	policy "$(mode REGISTRY_ONLY)"
	lab_pod stray
	run stray "$TOOLS/probe" tcp 203.0.113.12 9000
	expect 'result=ECONNREFUSED stage=connect'
	run stray "$TOOLS/probe" udp 203.0.113.12 9001
	expect 'result=ECONNREFUSED stage=send'
	run stray curl -sS -m 3 -o /dev/null -w '%{http_code}' http://203.0.113.10/
	expect 502
}

test_a_child_cgroup_of_a_pod_is_governed_as_the_pod()
{
	policy "$(mode REGISTRY_ONLY)"
	# shellcheck disable=SC2016 # expanded in the pod
	run web sh -c 'mkdir -p "$0/child" && echo $$ >"$0/child/cgroup.procs" && exec "$@"' "$(lab_pod_cgroup web)" \
		"$TOOLS/probe" tcp 203.0.113.12 9000
	rmdir "$(lab_pod_cgroup web)/child"
	expect 'result=ECONNREFUSED stage=connect'
}

test_a_policy_for_labels_overrides_the_nodes()
{
	policy "$(mode REGISTRY_ONLY)" "---
apiVersion: sluice.dev/v1
kind: EgressPolicy
metadata: {name: front, namespace: default}
spec:
  workloadSelector: {labels: {tier: front}}
  outboundTrafficPolicy: {mode: ALLOW_ANY}"
	probe -d hello tcp 203.0.113.12 9000
	expect 'result=ok .*data=hello'
	policy "$(mode REGISTRY_ONLY)" "---
apiVersion: sluice.dev/v1
kind: EgressPolicy
metadata: {name: back, namespace: default}
spec:
  workloadSelector: {labels: {tier: back}}
  outboundTrafficPolicy: {mode: ALLOW_ANY}"
	probe -d hello tcp 203.0.113.12 9000
	expect 'result=ECONNREFUSED'
}

run_story
