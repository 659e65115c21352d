// SPDX-License-Identifier: Apache-2.0
/* nftables in the pod: packets that change after the socket's hooks, some after every hook in the pod. */
#include "escape.h"

enum rewrite {
	DNAT,             /* nat output */
	OUTPUT_ADDRESS,   /* before cgroup_skb */
	EGRESS_ADDRESS,   /* netdev egress: after cgroup_skb */
	EGRESS_PORT,
	EGRESS_SOURCE,
	DNAT_LOOPBACK,
};

#define WITH_UDP 0x100
#define MID_FLOW 0x200

static int apply(struct context *c, enum rewrite rewrite)
{
	const char *ip = is_v6(c) ? "ip6" : "ip", *to = is_v6(c) ? FORBIDDEN_V6 : FORBIDDEN_V4, *decoy = is_v6(c) ? ALLOWED_V6 : ALLOWED_V4;
	const char *other = getenv(is_v6(c) ? "ESCAPE_OTHER_V6" : "ESCAPE_OTHER_V4");
	const char *nft = "printf '%%s\\n' 'table %s esc%u {' 'chain a {' 'type %s' '%s' '}' '}' | nft -f -";
	char rule[256];

	switch (rewrite) {
	case DNAT:
		snprintf(rule, sizeof(rule), "%s daddr %s meta l4proto {tcp, udp} th dport %u dnat %s to %s", ip, decoy, c->port, ip, to);
		return sh(nft, "inet", c->port, "nat hook output priority -100", rule);
	case OUTPUT_ADDRESS:
		snprintf(rule, sizeof(rule), "%s daddr %s th dport %u %s daddr set %s", ip, decoy, c->port, ip, to);
		return sh(nft, "inet", c->port, "route hook output priority 0", rule);
	case EGRESS_ADDRESS:
		snprintf(rule, sizeof(rule), "%s daddr %s th dport %u %s daddr set %s", ip, decoy, c->port, ip, to);
		break;
	case EGRESS_PORT:
		snprintf(rule, sizeof(rule), "%s daddr %s th dport %u th dport set %u", ip, decoy, c->port, UNREGISTERED_PORT);
		break;
	case EGRESS_SOURCE:
		snprintf(rule, sizeof(rule), "%s daddr %s th dport %u %s saddr set %s", ip, decoy, c->port, ip, other);
		break;
	case DNAT_LOOPBACK:
		write_file("/proc/sys/net/ipv4/conf/all/route_localnet", "1");
		return sh("printf '%%s\\n' 'table inet esc%u {' 'chain a {' 'type nat hook output priority -100' 'th dport %u dnat %s to %s' '}' "
			  "'chain p {' 'type nat hook postrouting priority 100' 'oifname eth0 th dport %u masquerade' '}' '}' | nft -f -",
			  c->port, c->port, ip, to, c->port);
	}
	return sh(nft, "netdev", c->port, "filter hook egress device eth0 priority 0", rule);
}

static int rewrite(struct context *c)
{
	int variant = c->method->variant, fd, result = 0;
	enum rewrite kind = (enum rewrite)(variant & 0xff);
	struct endpoint to = kind == DNAT_LOOPBACK ? endpoint_at("127.0.0.1", "::1", c, c->port) : c->decoy;
	bool mid_flow = variant & MID_FLOW;

	fd = socket_for(c, variant & WITH_UDP ? SOCK_DGRAM : SOCK_STREAM, 0);
	if (fd < 0)
		return failed(c, "socket");
	if (!mid_flow && apply(c, kind) < 0)
		return failed(c, "nft");
	if (!(variant & WITH_UDP))
		result = dial(c, fd, &to);
	else if (connect(fd, (struct sockaddr *)&to.addr, to.length) < 0)
		result = failed(c, "connect");
	if (result == 0 && mid_flow && apply(c, kind) < 0)
		result = failed(c, "nft");
	c->patience_ms = mid_flow || kind != DNAT ? 60 : c->patience_ms;
	if (result == 0)
		result = tell(c, fd);
	close_hard(fd);
	return result;
}

static void rewrite_undo(struct context *c)
{
	sh("nft delete table inet esc%u 2>/dev/null; nft delete table netdev esc%u 2>/dev/null; true", c->port, c->port);
}

/* Each of an allowed name's first bytes becomes the token's: the hook in the pod is the last to see the packet. */
static int rewrite_name(struct context *c)
{
	struct endpoint to = endpoint_at(NAMED_V4, NAMED_V6, c, 80);
	int fd = socket_for(c, SOCK_STREAM, 0), result;
	char hex[2 * TOKEN_LENGTH + 1], request[128];
	ssize_t n;

	for (int i = 0; i < TOKEN_LENGTH; i++)
		snprintf(hex + 2 * i, 3, "%02x", (unsigned char)c->token[i]);
	if (fd < 0)
		return failed(c, "socket");
	/* "GET / HTTP/1.1\r\nHost: " is 22 bytes; "allowed." is 8. Connections have timestamps: TCP's header is 32 bytes. */
	if (sh("printf '%%s\\n' 'table netdev esc%u {' 'chain a {' 'type filter hook egress device eth0 priority 0' "
	       "'%s daddr %s tcp dport 80 @th,%d,64 0x%s @th,%d,64 set 0x%s' '}' '}' | nft -f -", c->port, is_v6(c) ? "ip6" : "ip",
	       is_v6(c) ? NAMED_V6 : NAMED_V4, (32 + 22) * 8, "616c6c6f7765642e", (32 + 22) * 8, hex) < 0)
		return failed(c, "nft");
	result = dial(c, fd, &to);
	n = snprintf(request, sizeof(request), "GET / HTTP/1.1\r\nHost: %s\r\n\r\n", ALLOWED_NAME);
	if (result == 0 && send(fd, request, (size_t)n, MSG_NOSIGNAL) != n)
		result = failed(c, "send");
	if (result == 0)
		result = await_echo(c, fd);
	close_hard(fd);
	return result;
}

/* The redirector's own connection to an allowed name, turned elsewhere on its way out of the pod. */
static int rewrite_upstream(struct context *c)
{
	const char *ip = is_v6(c) ? "ip6" : "ip", *from = is_v6(c) ? NAMED_V6 : NAMED_V4, *to = is_v6(c) ? FORBIDDEN_V6 : FORBIDDEN_V4;
	struct endpoint named = endpoint_at(NAMED_V4, NAMED_V6, c, 80);
	static const char request[] = "GET / HTTP/1.1\r\nHost: " ALLOWED_NAME "\r\n\r\n";
	int fd = socket_for(c, SOCK_STREAM, 0), result;

	if (fd < 0)
		return failed(c, "socket");
	if (sh("printf '%%s\\n' 'table netdev esc%u {' 'chain a {' 'type filter hook egress device eth0 priority 0' "
	       "'%s daddr %s tcp dport 80 %s daddr set %s tcp dport set %u' '}' '}' | nft -f -", c->port, ip, from, ip, to, c->port) < 0)
		return failed(c, "nft");
	c->patience_ms = 150;
	result = dial(c, fd, &named);
	if (result == 0 && send(fd, request, sizeof(request) - 1, MSG_NOSIGNAL) < 0)
		result = failed(c, "send");
	pause_ms(result ? 0 : 150);
	close_hard(fd);
	return result;
}

const struct method rewrite_methods[] = {
	{"dnat-tcp", "DNAT in the pod, TCP", "NET_ADMIN", V4 | V6, REGISTERED | TUPLE, rewrite, rewrite_undo, DNAT},
	{"dnat-udp", "DNAT in the pod, UDP", "NET_ADMIN", V4 | V6, REGISTERED | TUPLE, rewrite, rewrite_undo, DNAT | WITH_UDP},
	{"dnat-loopback", "DNAT of a loopback address", "NET_ADMIN", V4 | V6, TUPLE | MAY_LACK, rewrite, rewrite_undo, DNAT_LOOPBACK},
	{"dnat-loopback-udp", "DNAT of a loopback address, UDP", "NET_ADMIN", V4 | V6, TUPLE | MAY_LACK, rewrite, rewrite_undo,
	 DNAT_LOOPBACK | WITH_UDP},
	{"nft-output-tcp", "nft rewrites the destination in output, TCP", "NET_ADMIN", V4 | V6, REGISTERED | TUPLE, rewrite, rewrite_undo,
	 OUTPUT_ADDRESS},
	{"nft-output-udp", "nft rewrites the destination in output, UDP", "NET_ADMIN", V4 | V6, REGISTERED | TUPLE, rewrite, rewrite_undo,
	 OUTPUT_ADDRESS | WITH_UDP},
	{"nft-output-midflow", "nft rewrites the destination of an established connection in output", "NET_ADMIN", V4 | V6,
	 REGISTERED | TUPLE, rewrite, rewrite_undo, OUTPUT_ADDRESS | MID_FLOW},
	{"nft-egress-tcp", "nft rewrites the destination at netdev egress, TCP", "NET_ADMIN", V4 | V6, REGISTERED | TUPLE, rewrite,
	 rewrite_undo, EGRESS_ADDRESS},
	{"nft-egress-udp", "nft rewrites the destination at netdev egress, UDP", "NET_ADMIN", V4 | V6, REGISTERED | TUPLE, rewrite,
	 rewrite_undo, EGRESS_ADDRESS | WITH_UDP},
	{"nft-egress-midflow", "nft rewrites the destination of an established connection at netdev egress", "NET_ADMIN", V4 | V6,
	 REGISTERED | TUPLE, rewrite, rewrite_undo, EGRESS_ADDRESS | MID_FLOW},
	{"nft-egress-port", "nft rewrites the port at netdev egress", "NET_ADMIN", V4 | V6, REGISTERED, rewrite, rewrite_undo,
	 EGRESS_PORT | WITH_UDP},
	{"nft-egress-source", "nft rewrites the source at netdev egress", "NET_ADMIN", V4 | V6, REGISTERED, rewrite, rewrite_undo,
	 EGRESS_SOURCE | WITH_UDP},
	{"nft-egress-upstream", "nft turns the redirector's own connection elsewhere", "NET_ADMIN", V4 | V6, TUPLE, rewrite_upstream,
	 rewrite_undo, 0},
	{"nft-egress-name", "nft rewrites the name in a checked payload: the address still holds", "NET_ADMIN", V4 | V6, LIMIT, rewrite_name,
	 rewrite_undo, 0},
	{0},
};
