#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# What a connection sees whose Host or SNI nobody registers, by the protocol that its port has in the registry: ISTIO.md §1.3
# through real connections, with sluice's differences.
. "$(dirname "$0")/common.bash"

# Of each port: its protocol (X: unset); how the service on it, whose server is 203.0.113.13, is found (at an address of its
# own, or by its endpoint); where the call goes (there, or elsewhere: 203.0.113.12); then what HTTP/1.1, HTTP/1.0, h2c, a
# ClientHello and plain TCP see under REGISTRY_ONLY:
#
#	502      sluice's answer          close    a reset without a byte
#	refused  ECONNREFUSED             service  the service's server answers
#
# Under ALLOW_ANY whatever is not the service's passes to where it was dialled.
#
# Where Istio says "to that service" for TCP and unset ports without addresses, sluice asks for the service's own (resolved)
# address; what Istio closes after the handshake is refused where no name could be shown; HTTP/1.0 is HTTP.
matrix='
7501 HTTP   endpoint elsewhere  502     502     502      close    close
7501 HTTP   endpoint there      502     502     502      close    close
7502 HTTP   address  elsewhere  502     502     502      close    close
7503 X      endpoint elsewhere  502     502     502      close    close
7503 X      endpoint there      502     502     502      service  service
7504 X      address  elsewhere  close   close   close    close    close
7504 X      address  there      502     502     502      service  service
7505 TCP    endpoint elsewhere  refused refused refused  refused  refused
7505 TCP    endpoint there      service service service  service  service
7506 TCP    address  elsewhere  refused refused refused  refused  refused
7506 TCP    address  there      service service service  service  service
7507 TLS    endpoint elsewhere  close   close   close    close    close
7507 TLS    endpoint there      close   close   close    close    close
7508 TLS    address  elsewhere  close   close   close    close    close
7509 HTTPS  endpoint elsewhere  close   close   close    close    close
7510 HTTPS  address  elsewhere  close   close   close    close    close
7510 HTTPS  address  there      close   close   close    close    close
7511 none   -        elsewhere  refused refused refused  refused  refused
7512 HTTP2  endpoint elsewhere  502     502     502      close    close
7513 GRPC   endpoint elsewhere  502     502     502      close    close
80   none   -        elsewhere  502     502     502      close    close'

# Servers that say who they are, to whatever they hear: of these ports, at 203.0.113.12 and .13. To a request in HTTP/2 (frames
# behind a preface of 24 bytes, one of type 1) they say it in HTTP/2.
read -r -d '' servers <<'END'
import asyncio, sys
def has_request(came):
    at = 24
    while at + 9 <= len(came):
        if came[at + 3] == 1:
            return True
        at += 9 + int.from_bytes(came[at:at + 3], "big")
    return False
async def main():
    for who in ("12", "13"):
        async def answer(reader, writer, who=who):
            came = await reader.read(4096)
            while came.startswith(b"PRI") and not has_request(came) and (part := await reader.read(4096)):
                came += part
            if came.startswith(b"PRI"):
                writer.write(b"\0\0\0\4\0\0\0\0\0\0\0\1\1\4\0\0\0\1\x88\0\0\2\0\1\0\0\0\1" + who.encode())
            elif came:
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n" + who.encode())
            writer.close()
        for port in sys.argv[1:]:
            await asyncio.start_server(answer, "203.0.113." + who, int(port))
    print("ready", flush=True)
    await asyncio.Event().wait()
asyncio.run(main())
END

# For each line `PORT WHERE...` what the five clients see: where is 12 or 13.
read -r -d '' clients <<'END'
import re, socket, sys
hello = open(sys.argv[1], "rb").read()
speak = [b"GET / HTTP/1.1\r\nHost: foo\r\nConnection: close\r\n\r\n", b"GET / HTTP/1.0\r\nHost: foo\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0\0\0\10\1\5\0\0\0\1\x82\x86\x84\x41\3foo", hello, b"hello\n"]
# Who answers, as far as that is known yet; a session of HTTP/2 stays open behind an answer.
def said(came, wire):
    is_h2 = wire.startswith(b"PRI")
    if b"sluice: blocked" in came:
        return "502" if is_h2 or (came.startswith(b"HTTP/1.1 502 ") and b"server: sluice" in came) else "other"
    who = re.search(b"\0\0\2\0[\0\1]\0\0\0\1(1[23])" if is_h2 else rb"^HTTP/1.1 200 .*(1[23])$", came, re.S)
    return who and {b"12": "elsewhere", b"13": "there"}[who[1]]
def sees(number, port, wire):
    came = b""
    try:
        with socket.create_connection(("203.0.113." + number, port), 3) as s:
            s.sendall(wire)
            while not said(came, wire) and (part := s.recv(4096)):
                came += part
    except ConnectionRefusedError:
        return "refused"
    except ConnectionResetError:
        pass
    except TimeoutError:
        return "timeout"
    return said(came, wire) or ("close" if not came else "other")
for line in sys.stdin:
    port, where = line.split()
    print(port, where, *(sees({"elsewhere": "12", "there": "13"}[where], int(port), wire) for wire in speak), flush=True)
END

# Of each row's port a service, once.
services()
{
	local port protocol found

	awk 'NF && $2 != "none" && !seen[$1]++ { print $1, $2, $3 }' <<<"$matrix" | while read -r port protocol found; do
		case $found in
		# where clients dial it is its own; sluice dials the endpoint
		address) service "p$port.example.com" "$port/$protocol" 'resolution: STATIC' 'addresses: [203.0.113.13]' 'endpoints: [{address: 203.0.113.13}]' ;;
		endpoint) service "p$port.example.com" "$port/$protocol" 'resolution: STATIC' 'endpoints: [{address: 203.0.113.13}]' ;;
		esac | sed 's/, protocol: X//'
	done
}

# What the rows should see, a line `PORT WHERE SEEN...` each: wanted MODE
wanted()
{
	awk -v mode="$1" 'NF {
		printf "%s %s", $1, $4
		for (i = 5; i <= NF; i++)
			printf " %s", $i == "service" ? "there" : mode == "ALLOW_ANY" ? $4 : $i
		print ""
	}' <<<"$matrix"
}

expect_matrix()
{
	local ports

	ports=$(awk 'NF && $1 != 80 { print $1 }' <<<"$matrix" | sort -u)
	# shellcheck disable=SC2086 # words
	background servers internet python3 -c "$servers" $ports
	eventually grep -q ready "$scratch/servers"
	"$TOOLS/hello" -- foo.example.com >"$scratch/hello"
	policy "$(mode "$1")" "$(services)"
	wanted "$1" >"$scratch/wanted"
	command="the clients of the matrix"
	cut -d ' ' -f 1,2 "$scratch/wanted" | lab_exec web python3 -c "$clients" "$scratch/hello" >"$scratch/seen" 2>&1
	output=$(diff "$scratch/wanted" "$scratch/seen")
	[[ -z $output ]] || fail "each cell as in the matrix (<)"
}

test_registry_only()
{
	expect_matrix REGISTRY_ONLY
}

# The server of port 80 elsewhere is nobody's here: what passes is refused by its host.
test_allow_any()
{
	matrix=$(grep -v '^80 ' <<<"$matrix")
	expect_matrix ALLOW_ANY
}

run_story
