# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# What each story needs: the lab, a running sluice, policies in few words, expectations, and a runner. A story defines
# functions test_* (run once) and family_* (run for v4, v6 and v4-mapped; `address N` gives the address), then calls
# run_story. A function that fails an expectation ends there and its policy, command, and output are shown.

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
BUILD=${BUILD:-$ROOT/build}
SLUICE=${SLUICE:-$BUILD/sluice}
TOOLS=$BUILD/tests/e2e
# shellcheck source=tools/lab
. "$ROOT/tools/lab"

story=$(basename "$0" .sh)
family=v4
command='' output='' status=0 elapsed_ms=0
scratch=$LAB/scratch

# ---- policies ----

# The node's EgressPolicy: mode MODE [LINE-OF-SPEC...]
mode()
{
	printf -- '---\napiVersion: sluice.dev/v1\nkind: EgressPolicy\nmetadata: {name: default, namespace: istio-system}\n'
	printf 'spec:\n  outboundTrafficPolicy: {mode: %s}\n' "$1"
	(($# == 1)) || printf '  %s\n' "${@:2}"
}

# A ServiceEntry: service HOST PORT/PROTOCOL[/TARGET]... [LINE-OF-SPEC...]; resolution DNS unless a line says otherwise.
service()
{
	local host=$1 ports='' more='' resolution='resolution: DNS' number protocol target item

	for item in "${@:2}"; do
		if [[ $item == *:* ]]; then
			more+="  $item"$'\n'
			[[ $item != resolution:* ]] || resolution=
			continue
		fi
		IFS=/ read -r number protocol target <<<"$item"
		ports+="  - {number: $number, name: port-$number, protocol: $protocol${target:+, targetPort: $target}}"$'\n'
	done
	printf -- '---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: %s}\nspec:\n' \
		"$(tr -c 'a-z0-9\n' - <<<"e-$host")"
	printf '  hosts: ["%s"]\n  ports:\n%s%s%s\n' "$host" "$ports" "$more" "${resolution:+  $resolution}"
}

# Replaces the configuration under test, and waits until it is applied and its names are resolved: policy DOCUMENT...
policy()
{
	local host

	printf '%s\n' "$@" | lab_policy test || fail "the policy is applied"
	lab_wait 1 accepted || fail "the policy is accepted, not: $(lab_last_error)"
	for host in $(printf '%s\n' "$@" | awk '/^  hosts:/ { host = $2 } /^  resolution: DNS/ { print host }' | tr -d '[]"'); do
		lab_wait 5 name_known "$host" || fail "the addresses of $host become known"
	done
}

# Documents that sluice must refuse: the last generation stays.
bad_policy()
{
	printf '%s\n' "$@" | lab_policy test || fail "the policy is looked at"
}

accepted()
{
	[[ -z $(lab_last_error) ]]
}

name_known()
{
	lab_sluice dump services | grep -F "$1" | grep -q '2001:db8:\|fd00:'
}

# ---- doing ----

# An address of the lab's host N, in the family under test.
address()
{
	case $family in
	v4) printf '203.0.113.%s\n' "$1" ;;
	v6) printf '2001:db8:113::%s\n' "$1" ;;
	mapped) printf '::ffff:203.0.113.%s\n' "$1" ;;
	esac
}

# The source address that servers see from the pod, in the family under test.
pod_address()
{
	if [[ $family == v6 ]]; then echo fd00:88::2; else echo 10.88.0.2; fi
}

# Runs a command in a pod, on the "node" or on the "internet"; leaves output (both streams), status and elapsed_ms.
run()
{
	local start=${EPOCHREALTIME/./}

	command=$*
	output=$(lab_exec "$@" 2>&1 </dev/null)
	status=$?
	elapsed_ms=$(((${EPOCHREALTIME/./} - start) / 1000))
}

# curl from pod web to URL, whose host is at the lab's address N in the family under test: get N [OPTION...] URL
get()
{
	local number=$1 url=${*: -1} host port=80 address

	address=$(address "$number")
	host=${url#*://}
	host=${host%%/*}
	[[ $url != https:* ]] || port=443
	[[ $host != *:* ]] || port=${host#*:}
	[[ $address != *:* ]] || address="[$address]"
	run web curl -sS -m 8 --resolve "${host%:*}:$port:$address" "${@:2}"
}

probe()
{
	run web "$TOOLS/probe" "$@"
}

# Raw bytes, given as printf's format, to the lab's address N: raw N PORT FORMAT [OPTION OF raw...]
raw()
{
	local bytes=$3

	# shellcheck disable=SC2059 # the bytes are the format
	printf "$bytes" >"$scratch/bytes"
	command="printf '$bytes' | raw ${*:4} $(address "$1") $2"
	output=$(lab_exec web "$TOOLS/raw" "${@:4}" "$(address "$1")" "$2" <"$scratch/bytes" 2>&1)
	status=$?
}

# A ClientHello to the lab's address N, port $port or 443: hello N NAME [OPTION OF hello...] [-- OPTION OF raw...]
hello()
{
	local number=$1 name=$2 to=${port:-443} shape=()

	shift 2
	while (($#)) && [[ $1 != -- ]]; do
		shape+=("$1")
		shift
	done
	"$TOOLS/hello" "${shape[@]}" -- "$name" >"$scratch/bytes"
	command="hello ${shape[*]} $name | raw ${*:2} $(address "$number") $to"
	output=$(lab_exec web "$TOOLS/raw" -c "${@:2}" "$(address "$number")" "$to" <"$scratch/bytes" 2>&1)
	status=$?
}

# Whole UDP datagrams from address $1 of the pod to 203.0.113.12 port $2, $3 of them (1), ten a second, past every socket
# hook of UDP: run as `python3 -c "$frames" ADDRESS PORT COUNT` in a pod.
frames='
import socket, struct, subprocess, sys, time
def checksum(b):
    total = sum(struct.unpack("!%dH" % (len(b) // 2), b))
    total = (total >> 16) + (total & 0xffff)
    return ~(total + (total >> 16)) & 0xffff
udp = struct.pack("!HHHH", 4444, int(sys.argv[2]), 13, 0) + b"token"
ip = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(udp), 7, 0, 64, 17, 0,
                 socket.inet_aton(sys.argv[1]), socket.inet_aton("203.0.113.12"))
ip = ip[:10] + struct.pack("!H", checksum(ip)) + ip[12:]
gateway = subprocess.run(["ip", "neigh", "show", "fe80::1"], capture_output=True, text=True).stdout.split()
mac = bytes.fromhex(gateway[gateway.index("lladdr") + 1].replace(":", ""))
s = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, 0x0800)
for i in range(int(sys.argv[3]) if len(sys.argv) > 3 else 1):
    time.sleep(0.1 if i else 0)
    s.sendto(ip + udp, ("eth0", 0x0800, 0, 0, mac))
print("sent")'

frame()
{
	command="frame $*"
	output=$(lab_exec web python3 -c "$frames" "$@" 2>&1)
	status=$?
}

# A datagram from an address reached the echo server.
arrived()
{
	grep -q "^udp $1 " "$LAB/servers.log"
}

# Runs a command in the background as `run` would, its output in $scratch/NAME: background NAME WHERE CMD...
background()
{
	: >"$scratch/$1" # now: the child may be late, and an earlier one's output is not this one's
	lab_enter "${@:2}" >"$scratch/$1" 2>&1 </dev/null &
	background_pids+=($!)
}
background_pids=()

end_background()
{
	((${#background_pids[@]})) || return 0
	kill "${background_pids[@]}" 2>/dev/null
	wait "${background_pids[@]}" 2>/dev/null
	background_pids=()
}

metric()
{
	lab_in node curl -s -m 2 "http://$LAB_ADMIN/metrics" |
		awk -v name="$1" '$1 == name || index($1, name "{") == 1 { sum += $2 } END { printf "%d\n", sum }'
}

# The redirector reports what it counts once a second.
settled_metric()
{
	sleep 1.2
	metric "$1"
}

redirector_pid()
{
	lab_status_number redirector.pid
}

lab_last_error()
{
	lab_sluice status -o json | sed -n 's/.*"last_error": *"\(.*\)".*/\1/p' | head -n 1
}

listens_on()
{
	[[ -n $(lab_in web ss -Hltn "sport = :$1") ]]
}

# ---- expecting ----

fail()
{
	printf '  expected: %s\n' "$*"
	[[ -z $command ]] || printf '  command:  %s\n  status:   %s\n  came:\n' "$command" "$status"
	[[ -z $command ]] || head -c 4000 <<<"$output" | sed 's/^/    | /'
	printf '  policy:\n'
	sed 's/^/    | /' "$LAB_POLICIES/test.yaml" 2>/dev/null
	printf '  log:\n'
	tail -n 6 "$LAB_LOG" 2>/dev/null | cut -c 1-300 | sed 's/^/    | /'
	exit 1
}

expect_status()
{
	((status == $1)) || fail "exit status $1"
}

# A line of the output matches an extended regular expression.
expect()
{
	grep -qE -- "$1" <<<"$output" || fail "a line like /$1/"
}

refuse()
{
	! grep -qE -- "$1" <<<"$output" || fail "no line like /$1/"
}

expect_count()
{
	local count

	count=$(grep -cE -- "$2" <<<"$output")
	((count == $1)) || fail "$1 lines like /$2/, not $count"
}

# The time that curl or probe measured itself (elapsed_ms=N or time_total N), in milliseconds: expect_time MIN MAX
expect_time()
{
	local took

	took=$(sed -n 's/.*elapsed_ms=\([0-9]*\).*/\1/p' <<<"$output" | tail -n 1)
	took=${took:-$elapsed_ms}
	((took >= $1 && took <= $2)) || fail "between $1 and $2 ms, not $took"
}

# That "$@" becomes true within 5 seconds.
eventually()
{
	lab_wait 5 "$@" || fail "within 5 s: $*"
}

# ---- running ----

start_story()
{
	[[ -n ${LAB_HELD:-} ]] || lab_up || exit 1
	mkdir -p "$scratch"
	: >"$LAB_LOG"
	fresh_policies
	[[ ${NO_START:-} == 1 ]] || lab_sluice_start || exit 1
}

# Pod web is the workload default/web; everything is allowed.
fresh_policies()
{
	rm -f "$LAB_POLICIES"/*
	lab_workload web tier=front >"$LAB_POLICIES/workloads.yaml"
	mode ALLOW_ANY >"$LAB_POLICIES/test.yaml"
}

end_story()
{
	end_background
	lab_sluice_stop
	if [[ -n ${LAB_HELD:-} ]]; then
		rm -rf "$scratch" "${LAB_POLICIES:?}"/*
	else
		lab_down
	fi
}

run_one()
{
	local name=$1 label=${1#*_} text started=${EPOCHREALTIME/./}

	family=${2:-v4}
	[[ -z ${2:-} ]] || label+=" ($2)"
	[[ "$story/$label" == *"${FILTER:-}"* ]] || return 0
	if [[ ${NO_START:-} != 1 ]] && lab_gone "$(lab_sluice_pid)"; then
		printf '# sluice is gone; starting it again\n'
		lab_sluice_stop
		fresh_policies
		lab_sluice_start
	fi
	if text=$(
		trap end_background EXIT
		"$name" 2>&1
	); then
		printf 'ok %s: %s\n' "$story" "${label//_/ }"
	else
		printf 'not ok %s: %s\n%s\n' "$story" "${label//_/ }" "$text"
	fi
	[[ -z ${TIMES:-} ]] || printf '# %d ms\n' $(((${EPOCHREALTIME/./} - started) / 1000))
}

run_story()
{
	local name one

	# Who waits for the lab in vain must not take it down: it is another's.
	[[ -n ${LAB_HELD:-} ]] || lab_lock || exit 1
	trap end_story EXIT
	trap 'exit 130' INT TERM
	start_story
	for name in $(grep -oE '^(test|family)_[a-z0-9_]+' "$0"); do
		if [[ $name == test_* ]]; then
			run_one "$name"
			continue
		fi
		for one in v4 v6 mapped; do run_one "$name" "$one"; done
	done
	printf '# %s is complete\n' "$story"
}
