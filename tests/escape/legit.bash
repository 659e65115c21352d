# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# What must keep working under enforcement, each a function legit_NAME FAMILY that prints why it failed. Sourced by run.

in_family()
{
	if [[ $1 == v4 ]]; then echo "$2"; else echo "$3"; fi
}

pod_address() { in_family "$1" "$(pod_v4 web)" "$(pod_v6 web)"; }
allowed() { in_family "$1" 203.0.113.67 2001:db8:113::67; }
health() { in_family "$1" 10.88.0.1 fd00:88::1; }

ask() { lab_in "$1" timeout 20 "$ESCAPE" ask "${@:2}"; }
ask_pod() { lab_exec web timeout 20 "$ESCAPE" ask "$@" </dev/null; }

legit_inbound_tcp() { ask internet -n 300000 tcp "$(pod_address "$1")" 7000; }
legit_inbound_udp() { ask internet udp "$(pod_address "$1")" 7000; }
legit_inbound_udp_fragments() { ask internet -n 4000 udp "$(pod_address "$1")" 7000; }
legit_inbound_ping() { ask internet ping "$(pod_address "$1")" 0; }
legit_health_tcp() { ask node -f "$(health "$1")" tcp "$(pod_address "$1")" 7000; }
legit_health_udp() { ask node -f "$(health "$1")" udp "$(pod_address "$1")" 7000; }
legit_health_ping() { ask node -f "$(health "$1")" ping "$(pod_address "$1")" 0; }
legit_outbound_udp_fragments() { ask_pod -n 4000 udp "$(allowed "$1")" 22001; }
legit_outbound_bulk() { ask_pod -n 1000000 tcp "$(allowed "$1")" 22001; }
legit_loopback_tcp() { ask_pod tcp "$(in_family "$1" 127.0.0.1 ::1)" 7000; }
legit_loopback_udp() { ask_pod udp "$(in_family "$1" 127.0.0.1 ::1)" 7000; }

# The pod's kernel says that nobody listens.
legit_inbound_refused_tcp() { ask internet tcp "$(pod_address "$1")" 7999 | expect_line 'connect: ECONNREFUSED'; }
legit_inbound_refused_udp() { ask internet udp "$(pod_address "$1")" 7999 | expect_line 'bytes back: ECONNREFUSED'; }
# An ICMP error of the server reaches the pod.
legit_outbound_refused_udp() { ask_pod udp "$(allowed "$1")" 22000 | expect_line 'bytes back: ECONNREFUSED'; }

expect_line()
{
	local text

	text=$(cat)
	grep -q "$1" <<<"$text" || {
		echo "not \"$1\" but: $text"
		return 1
	}
}

# The way beyond the node is narrower than the pod's link: it must learn that, both as a client and as a server. (Of the
# route, not the device: a veth drops what is longer than its receiver's MTU, and says nothing.)
legit_path_mtu()
{
	local status=0

	way_out_of_node mtu lock 1400
	ask_pod -n 300000 tcp "$(allowed "$1")" 22001 && ask internet -n 300000 tcp "$(pod_address "$1")" 7000 || status=1
	if ((status == 0)) && ! lab_in web ip route get "$(allowed "$1")" | grep -q 'mtu 1400'; then
		echo "the pod did not learn the path's MTU: $(lab_in web ip route get "$(allowed "$1")")"
		status=1
	fi
	way_out_of_node
	lab_in web ip route flush cache
	lab_in web ip -6 route flush cache
	return "$status"
}

way_out_of_node()
{
	lab_in node ip route replace default via 198.51.100.1 "$@"
	lab_in node ip -6 route replace default via 2001:db8:51::1 "$@"
}

legit_dns_udp() { dns_query SOCK_DGRAM "$1"; }
legit_dns_tcp() { dns_query SOCK_STREAM "$1"; }

dns_query()
{
	lab_exec web python3 - "$1" "$(in_family "$2" 203.0.113.53 2001:db8:113::53)" <<-'END'
		import socket, struct, sys
		kind, server = getattr(socket, sys.argv[1]), sys.argv[2]
		query = b"es\1\0\0\1\0\0\0\0\0\0\3www\6aliyun\3com\0\0\1\0\1"
		s = socket.socket(socket.AF_INET6 if ":" in server else socket.AF_INET, kind)
		s.settimeout(3)
		s.connect((server, 53))
		s.sendall(query if kind == socket.SOCK_DGRAM else struct.pack("!H", len(query)) + query)
		answer = s.recv(512)
		assert socket.inet_aton("203.0.113.10") in answer, answer
	END
}

legit_resolve() { lab_exec web getent "ahosts$1" www.aliyun.com </dev/null | grep -q "$(in_family "$1" 203.0.113.10 2001:db8:113::10)"; }

# Each end forgets the other's link address and asks for it again.
legit_neighbours()
{
	local mac status=0

	if [[ $1 == v4 ]]; then
		lab_in web ip -4 neigh flush dev eth0
		lab_in node ip -4 neigh flush dev pod-web nud all
		ask_pod tcp "$(allowed v4)" 22001 && ask internet tcp "$(pod_address v4)" 7000
		return
	fi
	mac=$(lab_in node ip -o link show pod-web | sed 's/.*link\/ether \([0-9a-f:]*\).*/\1/')
	lab_in node ip addr add fe80::1/64 dev pod-web nodad
	lab_in web ip neigh del fe80::1 dev eth0
	lab_in node ip neigh del "$(pod_v6 web)" dev pod-web
	ask_pod tcp "$(allowed v6)" 22001 && ask internet tcp "$(pod_address v6)" 7000 || status=1
	lab_in web ip -6 neigh show fe80::1 | grep -q 'REACHABLE\|DELAY\|STALE\|PROBE' || {
		echo "no neighbour: $(lab_in web ip -6 neigh show)"
		status=1
	}
	lab_in web ip neigh replace fe80::1 lladdr "$mac" dev eth0 nud permanent
	lab_in node ip neigh replace "$(pod_v6 web)" dev pod-web nud permanent \
		lladdr "$(lab_in web ip -o link show eth0 | sed 's/.*link\/ether \([0-9a-f:]*\).*/\1/')"
	lab_in node ip addr del fe80::1/64 dev pod-web
	return "$status"
}

# Through the redirector: not expected of a dead one.
legit_redirected_http() { curl_pod "$1" 301 http; }
legit_redirected_https() { curl_pod "$1" 200 https; }

curl_pod()
{
	local code address port=80

	address=$(in_family "$1" 203.0.113.10 '[2001:db8:113::10]')
	[[ $3 == http ]] || port=443
	code=$(lab_exec web curl -sS -m 8 -o /dev/null -w "%{http_code}" --resolve "www.aliyun.com:$port:$address" "$3://www.aliyun.com/" </dev/null 2>&1)
	[[ $code == "$2" ]] || {
		echo "status $code, not $2"
		return 1
	}
}

# All of them, into PHASE.legit: lines "NAME/FAMILY works|broken WHY"
legit_all()
{
	local phase=$1 name row family why

	for name in $(compgen -A function legit_ | grep -v '^legit_all$'); do
		[[ $phase != killed || $name != legit_redirected_* ]] || continue
		for family in v4 v6; do
			row=${name#legit_}
			row=${row//_/-}/$family
			[[ $row == *"$FILTER"* ]] || continue
			if why=$("$name" "$family" 2>&1); then
				printf '%s works\n' "$row"
			else
				printf '%s broken %s\n' "$row" "${why//$'\n'/; }"
			fi
		done
	done >"$OUT/$phase.legit"
}

# Connections that live as long as the phase: name, where, arguments of ask.
start_long_lived()
{
	local family

	rm -f "$OUT/phase-done"
	long_lived=()
	for family in v4 v6; do
		keep_asking "$1" "long-lived-outbound-tcp/$family" web tcp "$(allowed "$family")" 22001
		keep_asking "$1" "long-lived-outbound-udp/$family" web udp "$(allowed "$family")" 22001
		keep_asking "$1" "long-lived-inbound-tcp/$family" internet tcp "$(pod_address "$family")" 7000
		keep_asking "$1" "long-lived-inbound-udp/$family" internet udp "$(pod_address "$family")" 7000
	done
}

keep_asking()
{
	local phase=$1 row=$2 where=$3

	[[ $row == *"$FILTER"* ]] || return 0
	shift 3
	if [[ $where == web ]]; then
		lab_enter web "$ESCAPE" ask -u "$OUT/phase-done" "$@" </dev/null >"$OUT/$phase.long.${row/\//-}" 2>&1 &
	else
		lab_in "$where" "$ESCAPE" ask -u "$OUT/phase-done" "$@" </dev/null >"$OUT/$phase.long.${row/\//-}" 2>&1 &
	fi
	long_lived+=("$row:$!")
}

end_long_lived()
{
	local entry row why

	touch "$OUT/phase-done"
	for entry in "${long_lived[@]}"; do
		row=${entry%:*}
		if wait "${entry##*:}"; then
			printf '%s works\n' "$row"
		else
			why=$(<"$OUT/$1.long.${row/\//-}")
			printf '%s broken %s\n' "$row" "$why"
		fi
	done >>"$OUT/$1.legit"
}
