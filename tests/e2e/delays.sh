#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Many delayed requests at once: they cost memory, not threads, and each is held for as long as it should be.
# shellcheck source=tests/e2e/common.bash
. "$(dirname "$0")/common.bash"

REQUESTS=10000

redirector_pid()
{
	lab_sluice status -o json | tr -d ' \n' | sed -n 's/.*"redirector":{"pid":\([0-9]*\).*/\1/p'
}

redirector_threads()
{
	awk '/^Threads:/ { print $2 }' "/proc/$(redirector_pid)/status"
}

test_ten_thousand_requests_are_held_at_once()
{
	local threads

	policy "$(mode REGISTRY_ONLY)" "$(service www.aliyun.com 80/HTTP)" '---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: held}
spec:
  hosts: [www.aliyun.com]
  http:
  - fault:
      delay: {percentage: {value: 100}, fixedDelay: 3s}
      abort: {percentage: {value: 100}, httpStatus: 200}
    route:
    - destination: {host: www.aliyun.com}'
	threads=$(redirector_threads)
	run web "$TOOLS/many" 203.0.113.10 80 www.aliyun.com "$REQUESTS" 30
	expect_status 0
	expect "answered=$REQUESTS other_status=0 failed=0 unanswered=0"
	(($(sed -n 's/.*fastest_ms=\([0-9]*\).*/\1/p' <<<"$output") >= 3000)) || fail "none is answered too early"
	(($(sed -n 's/.*slowest_ms=\([0-9]*\).*/\1/p' <<<"$output") <= 6000)) || fail "none is answered much too late"
	(($(redirector_threads) == threads)) || fail "$threads threads, as before, not $(redirector_threads)"
}

run_story
