#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# What is wrong in a policy is said with file, line and column, and the last good generation stays in force.
. "$(dirname "$0")/common.bash"

good=$(
	mode REGISTRY_ONLY
	service tcp.example.com 9000/TCP
)

# The good configuration decides: tcp.example.com passes, the rest is refused.
good_in_force()
{
	probe -d hello tcp 203.0.113.12 9000
	expect 'result=ok'
	probe tcp 203.0.113.12 9002
	expect 'result=ECONNREFUSED'
}

# These documents are refused at LINE:COLUMN with a message that matches REGEX: refused LINE:COLUMN REGEX DOCUMENT...
refused()
{
	local generation

	policy "$good"
	generation=$(lab_status_number generation)
	bad_policy "${@:3}"
	[[ $(lab_status_number generation) == "$generation" ]] || fail "generation $generation stays"
	run node "$SLUICE" status
	expect "test\.yaml:$1: .*($2)"
	good_in_force
	run node "$SLUICE" check "$LAB_POLICIES"
	expect_status 1
	expect "test\.yaml:$1: .*($2)"
	policy "$good"
	run node "$SLUICE" status
	refuse 'test\.yaml:[0-9]+:[0-9]+: .*'"($2)"
}

entry()
{
	printf 'apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: e}\nspec:\n'
	printf '  %s\n' "$@"
}

test_broken_yaml()
{
	refused '[0-9]+:[0-9]+' '.' 'apiVersion: sluice.dev/v1' 'kind: [EgressPolicy'
}

test_an_unknown_kind()
{
	refused '2:[0-9]+' 'EgressPolitics' 'apiVersion: sluice.dev/v1' 'kind: EgressPolitics' 'metadata: {name: x}' 'spec: {}'
}

test_an_unknown_api_version()
{
	refused '1:[0-9]+' 'v7' 'apiVersion: networking.istio.io/v7' 'kind: ServiceEntry' 'metadata: {name: x}' 'spec: {hosts: [a.com]}'
}

test_an_unknown_field()
{
	refused '6:3' 'hots' "$(entry 'hosts: [a.com]' 'hots: [b.com]' 'ports: [{number: 80, name: http, protocol: HTTP}]')"
}

test_an_unknown_protocol()
{
	refused '7:[0-9]+' 'HTP.*HTTP' "$(entry 'hosts: [a.com]' 'ports:' '- {number: 80, name: http, protocol: HTP}' 'resolution: DNS')"
}

test_a_feature_of_istio_that_is_not_implemented()
{
	refused '[0-9]+:[0-9]+' 'not (yet )?(implemented|supported)' \
		'apiVersion: networking.istio.io/v1' 'kind: DestinationRule' 'metadata: {name: x}' 'spec:' '  host: a.com' \
		'  trafficPolicy: {loadBalancer: {localityLbSetting: {failoverPriority: [a]}}, outlierDetection: {}}'
}

test_a_port_out_of_range()
{
	refused '7:[0-9]+' '99999' "$(entry 'hosts: [a.com]' 'ports:' '- {number: 99999, name: http, protocol: HTTP}' 'resolution: DNS')"
}

test_a_bad_cidr()
{
	refused '6:[0-9]+' '10\.0\.0\.0/33' "$(mode REGISTRY_ONLY 'interception: {includeCIDRs: [10.0.0.0/33]}' | tail -n +2)"
}

test_an_unknown_mode()
{
	refused '5:[0-9]+' 'BLOCK_ALL' "$(mode BLOCK_ALL | tail -n +2)"
}

test_a_missing_host()
{
	refused '[0-9]+:[0-9]+' 'hosts' "$(entry 'ports: [{number: 80, name: http, protocol: HTTP}]')"
}

test_two_policies_at_one_scope()
{
	refused '[0-9]+:[0-9]+' 'default.*other|other.*default' \
		"$(mode REGISTRY_ONLY | tail -n +2)" "$(mode ALLOW_ANY | sed 's/name: default/name: other/')"
}

test_a_bad_duration()
{
	refused '10:[0-9]+|[0-9]+:[0-9]+' '5 parsecs' 'apiVersion: networking.istio.io/v1' 'kind: VirtualService' 'metadata: {name: x}' \
		'spec:' '  hosts: [a.com]' '  http:' '  - fault: {delay: {percent: 100, fixedDelay: 5 parsecs}}' \
		'    route: [{destination: {host: a.com}}]'
}

test_check_names_every_problem()
{
	printf '%s\n' "$(entry 'hosts: [a.com]' 'ports:' '- {number: 99999, name: http, protocol: HTP}' 'color: red')" >"$scratch/bad.yaml"
	run node "$SLUICE" check "$scratch/bad.yaml"
	expect_status 1
	expect 'bad.yaml:7:.*99999'
	expect 'bad.yaml:7:.*HTP'
	expect 'bad.yaml:8:3:.*color'
	run node "$SLUICE" check -o json "$scratch/bad.yaml"
	expect_status 1
	/usr/bin/python3 -m json.tool <<<"$output" >/dev/null || fail "valid JSON"
	run node "$SLUICE" check -o github "$scratch/bad.yaml"
	expect_status 1
	expect '^::error file=.*bad.yaml,line=8,col=3,title=ServiceEntry/.*::spec.color: '
}

test_check_accepts_what_is_good()
{
	printf '%s\n' "$good" >"$scratch/good.yaml"
	run node "$SLUICE" check "$scratch/good.yaml"
	expect_status 0
}

test_a_folder_that_disappears_changes_nothing()
{
	local generation

	policy "$good"
	generation=$(lab_status_number generation)
	mv "$LAB_POLICIES" "$LAB_POLICIES.away"
	eventually error_is_shown
	good_in_force
	[[ $(lab_status_number generation) == "$generation" ]] || fail "generation $generation stays"
	mv "$LAB_POLICIES.away" "$LAB_POLICIES"
	eventually accepted
	policy "$(mode ALLOW_ANY)"
	probe -d hello tcp 203.0.113.12 9002
	expect 'result=ok'
}

error_is_shown()
{
	! accepted
}

test_a_folder_without_documents_changes_nothing()
{
	policy "$good"
	mkdir "$scratch/away"
	mv "$LAB_POLICIES"/*.yaml "$scratch/away"
	eventually error_is_shown
	good_in_force
	mv "$scratch/away"/*.yaml "$LAB_POLICIES"
	eventually accepted
}

test_a_file_that_is_being_written_is_not_an_empty_policy()
{
	policy "$good"
	exec 8>"$LAB_POLICIES/test.yaml"
	sleep 0.5
	good_in_force
	head -c 150 <<<"$good" >&8
	sleep 0.5
	good_in_force
	tail -c +151 <<<"$good" >&8
	exec 8>&-
	eventually accepted
	good_in_force
}

test_a_deleted_file_takes_its_policy_along_within_a_second()
{
	policy "$good"
	service httpbin.example.com 9000/TCP | lab_policy more
	eventually name_known httpbin.example.com
	probe -d hello tcp 203.0.113.13 9000
	expect 'result=ok'
	rm "$LAB_POLICIES/more.yaml"
	lab_wait 1.5 refuses_httpbin || fail "the service is gone within a second"
	good_in_force
}

refuses_httpbin()
{
	! lab_exec web "$TOOLS/probe" -d hello tcp 203.0.113.13 9000
}

test_a_renamed_file_is_read_within_a_second()
{
	policy "$good"
	service httpbin.example.com 9000/TCP >"$LAB_POLICIES/more.disabled"
	sleep 0.5
	probe tcp 203.0.113.13 9000
	expect 'result=ECONNREFUSED'
	mv "$LAB_POLICIES/more.disabled" "$LAB_POLICIES/more.yaml"
	lab_wait 1.5 lab_exec web "$TOOLS/probe" -d hello tcp 203.0.113.13 9000 || fail "the service is there within a second"
	rm "$LAB_POLICIES/more.yaml"
	eventually refuses_httpbin
}

test_a_configmap_swap_is_picked_up_within_a_second()
{
	local volume=$LAB_POLICIES

	policy "$good"
	mkdir "$volume/..v1" "$volume/..v2"
	cp "$volume/workloads.yaml" "$volume/..v1"
	cp "$volume/workloads.yaml" "$volume/..v2"
	printf '%s\n' "$good" >"$volume/..v1/test.yaml"
	mode ALLOW_ANY >"$volume/..v2/test.yaml"
	ln -s ..v1 "$volume/..data"
	ln -sf ..data/workloads.yaml "$volume/workloads.yaml"
	ln -sf ..data/test.yaml "$volume/test.yaml"
	sleep 0.5
	good_in_force
	ln -s ..v2 "$volume/..data_tmp"
	mv -T "$volume/..data_tmp" "$volume/..data"
	lab_wait 1.5 lab_exec web "$TOOLS/probe" -d hello tcp 203.0.113.12 9002 || fail "the new policy within a second"
	cp --remove-destination "$volume/..v2/test.yaml" "$volume/..v2/workloads.yaml" "$volume"
	rm -r "$volume"/..v1 "$volume"/..v2 "$volume"/..data
}

test_a_first_start_with_an_invalid_configuration_denies()
{
	lab_sluice_stop
	printf 'kind: [\n' >"$LAB_POLICIES/test.yaml"
	lab_enter node "$SLUICE" run --config "$LAB_POLICIES" "${LAB_GOVERN[@]}" --pin "$LAB_PIN" --admin "$LAB_ADMIN" </dev/null >>"$LAB_LOG" 2>&1 &
	echo $! >"$LAB/sluice.pid"
	eventually refuses_tcp
	probe udp 203.0.113.12 9001
	expect 'result=ECONNREFUSED'
	run node "$TOOLS/probe" -d hello tcp 203.0.113.12 9000
	expect 'result=ok'
	run node "$SLUICE" status
	expect_status 1
	expect 'test\.yaml:[0-9]+:[0-9]+'
	policy "$good"
	good_in_force
}

refuses_tcp()
{
	! lab_exec web "$TOOLS/probe" -d hello tcp 203.0.113.12 9000
}

run_story
