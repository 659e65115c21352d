// SPDX-License-Identifier: Apache-2.0
/* Devices and namespaces that a pod with NET_ADMIN makes: tunnels, bridges, macvlan, routes with an encapsulation. */
#include <net/if.h>
#include <signal.h>
#include <sys/wait.h>

#include "escape.h"

static int masquerade(const struct context *c)
{
	return sh("printf '%%s\\n' 'table inet esc%u {' 'chain p {' 'type nat hook postrouting priority 100' "
		  "'oifname eth0 ip saddr 10.99.0.0/16 masquerade' 'oifname eth0 ip6 saddr fd00:99::/32 masquerade' '}' '}' | nft -f -",
		  c->port);
}

enum nested { NESTED_UDP, NESTED_TCP, NESTED_FOREIGN };

static int nested(struct context *c)
{
	enum nested kind = (enum nested)c->method->variant;
	pid_t pid = nest(c, false);
	int result;

	if (pid < 0)
		return pid;
	result = nest_veth(c, pid, "10.99.8.2", "fd00:99:8::2");
	if (result == 0 && kind != NESTED_FOREIGN && masquerade(c) < 0)
		result = failed(c, "nft masquerade");
	if (result == 0)
		result = nested_send(c, pid, &c->to, kind == NESTED_TCP ? SOCK_STREAM : SOCK_DGRAM);
	kill(pid, SIGKILL);
	return result;
}

/* The pod's address and its way out, for a device in the nested namespace that stands on the pod's link. */
static int configure_as_pod(struct context *c, pid_t pid, const char *device)
{
	char mac[18];
	const uint8_t *g = c->gateway_mac;

	snprintf(mac, sizeof(mac), "%02x:%02x:%02x:%02x:%02x:%02x", g[0], g[1], g[2], g[3], g[4], g[5]);
	if (sh("nsenter -t %d -n sh -c 'ip link set %s up && ip addr add %s/%d dev %s %s'", pid, device, address_of(&c->own),
	       is_v6(c) ? 128 : 32, device, is_v6(c) ? "nodad" : "") < 0)
		return failed(c, "address in the nested namespace");
	if (is_v6(c) ? sh("nsenter -t %d -n sh -c 'ip neigh add fe80::1 lladdr %s dev %s nud permanent &&"
			  "ip -6 route add default via fe80::1 dev %s onlink'", pid, mac, device, device)
		     : sh("nsenter -t %d -n sh -c 'ip route add 169.254.1.1 dev %s scope link &&"
			  "ip neigh add 169.254.1.1 lladdr %s dev %s nud permanent && ip route add default via 169.254.1.1 dev %s'",
			  pid, device, mac, device, device))
		return failed(c, "route in the nested namespace");
	return 0;
}

#define BY_FRAME 0x100
#define BY_STRANGER 0x200 /* who is in another cgroup, too */

static int send_and_end(struct context *c, pid_t pid, int result)
{
	/* Answers go to the pod's own stack: nobody waits for an echo. */
	c->patience_ms = 50;
	if (result == 0)
		result = nested_send(c, pid, &c->to, c->method->variant & BY_FRAME ? SOCK_PACKET : SOCK_DGRAM);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	return result;
}

static int macvlan(struct context *c)
{
	pid_t pid = nest(c, false);
	int result = 0;

	if (pid < 0)
		return pid;
	if (sh("ip link add link eth0 name in0 netns %d type %s", pid, c->method->variant & 1 ? "ipvlan" : "macvlan mode bridge") < 0)
		result = failed(c, "macvlan or ipvlan device");
	if (result == 0)
		result = configure_as_pod(c, pid, "in0");
	return send_and_end(c, pid, result);
}

static int bridge(struct context *c)
{
	pid_t pid = nest(c, false);
	char name[16];
	int result = 0;

	if (pid < 0)
		return pid;
	nested_name(c, name);
	if (sh("ip link add br%s type bridge && ip link add %s type veth peer name in0 netns %d && ip link set %s master br%s up &&"
	       "ip link set eth0 master br%s && ip link set br%s up", name, name, pid, name, name, name, name) < 0)
		result = failed(c, "bridge");
	if (result == 0)
		result = configure_as_pod(c, pid, "in0");
	return send_and_end(c, pid, result);
}

static void bridge_undo(struct context *c)
{
	char name[16];

	nested_name(c, name);
	sh("ip link set eth0 nomaster; ip link del %s 2>/dev/null; ip link del br%s 2>/dev/null", name, name);
}

/* The pod's own end of the link, moved into another namespace. */
static int move_eth0(struct context *c)
{
	int variant = c->method->variant, result = 0;
	pid_t pid = nest(c, variant & BY_STRANGER);

	if (pid < 0)
		return pid;
	if (sh("ip link set eth0 netns %d", pid) < 0)
		return failed(c, "move of eth0");
	result = configure_as_pod(c, pid, "eth0");
	if (variant & BY_STRANGER && result == 0 && join_outside() < 0)
		result = failed(c, "join another cgroup");
	c->patience_ms = 150;
	pause_ms(variant & BY_FRAME ? 300 : 0); /* whoever follows links has seen it go */
	if (result == 0)
		result = nested_send(c, pid, &c->to, variant & BY_FRAME ? SOCK_PACKET : variant);
	/* Whatever happened: a namespace that ends takes the link with it. */
	sh("nsenter -t %d -n ip link set eth0 netns %d", pid, getpid());
	kill(pid, SIGKILL);
	return result;
}

static void restore_eth0(struct context *c)
{
	const char *v4 = getenv("ESCAPE_OWN_V4"), *v6 = getenv("ESCAPE_OWN_V6");
	const uint8_t *g = c->gateway_mac;

	sh("sysctl -qw net.ipv6.conf.eth0.accept_dad=0; ip link set eth0 up; ip addr add %s/32 dev eth0; ip addr add %s/128 dev eth0 nodad;"
	   "ip route add 169.254.1.1 dev eth0 scope link; ip route add default via 169.254.1.1 dev eth0;"
	   "ip neigh add fe80::1 lladdr %02x:%02x:%02x:%02x:%02x:%02x dev eth0 nud permanent;"
	   "ip -6 route add default via fe80::1 dev eth0 onlink", v4, v6, g[0], g[1], g[2], g[3], g[4], g[5]);
}

static int vxlan(struct context *c)
{
	char name[16];

	nested_name(c, name);
	if (sh("ip link add %s type vxlan id 7 remote %s dstport %u dev eth0 && ip link set %s up && ip addr add 10.99.9.1/24 dev %s &&"
	       "ip neigh add 10.99.9.2 lladdr 02:00:00:00:00:02 dev %s", name, address_of(&c->to), c->port, name, name, name) < 0)
		return failed(c, "vxlan device");
	{
		struct endpoint inner = endpoint_parse("10.99.9.2", "7777");
		int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), result = 0;

		if (sendto(fd, c->token, TOKEN_LENGTH, 0, (struct sockaddr *)&inner.addr, inner.length) < 0)
			result = failed(c, "sendto");
		close(fd);
		return result;
	}
}

/* Tunnel devices that a kernel may have: the token travels inside. */
static int tunnel(struct context *c)
{
	static const char *const types[][2] = {{"gre", "ip6gre"}, {"ipip", "ip6tnl mode any"}, {"geneve id 9", "geneve id 9"},
					       {"sit", "sit"}, {"bareudp ethertype ip", "bareudp ethertype ip"}};
	char name[16];

	nested_name(c, name);
	if (sh("ip link add %s type %s remote %s local %s 2>/dev/null && ip link set %s up && ip addr add 10.99.9.1/24 dev %s", name,
	       types[c->method->variant][is_v6(c)], address_of(&c->to), address_of(&c->own), name, name) < 0)
		return failed(c, "tunnel device");
	{
		struct endpoint inner = endpoint_parse("10.99.9.2", "7777");
		int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), result = 0;

		if (sendto(fd, c->token, TOKEN_LENGTH, 0, (struct sockaddr *)&inner.addr, inner.length) < 0)
			result = failed(c, "sendto");
		close(fd);
		return result;
	}
}

/* The route to the registered address wraps packets for the forbidden one. */
static int segment_route(struct context *c)
{
	const char *mode = c->method->variant ? "encap" : "inline";

	if (is_v6(c) ? sh("ip -6 route add %s/128 encap seg6 mode %s segs %s via fe80::1 dev eth0 onlink", ALLOWED_V6, mode, FORBIDDEN_V6)
		     : sh("ip route add %s/32 encap seg6 mode encap segs %s dev eth0", ALLOWED_V4, FORBIDDEN_V6))
		return failed(c, "route with seg6");
	return udp_to(c, &c->decoy);
}

static void segment_route_undo(struct context *c)
{
	if (is_v6(c))
		sh("ip -6 route del %s/128 2>/dev/null", ALLOWED_V6);
	else
		sh("ip route del %s/32 2>/dev/null", ALLOWED_V4);
}

/* Another pod's address, added to eth0 and bound. */
static int added_address(struct context *c)
{
	struct endpoint from = endpoint_at(getenv("ESCAPE_OTHER_V4"), getenv("ESCAPE_OTHER_V6"), c, 0);
	int fd = socket_for(c, SOCK_DGRAM, 0), result;

	if (sh("ip addr add %s/%d dev eth0 %s", address_of(&from), is_v6(c) ? 128 : 32, is_v6(c) ? "nodad" : "") < 0)
		return failed(c, "address");
	if (fd < 0 || bind(fd, (struct sockaddr *)&from.addr, from.length) < 0)
		return failed(c, "bind");
	c->patience_ms = 50;
	result = tell_to(c, fd, &c->decoy);
	close(fd);
	return result;
}

static void added_address_undo(struct context *c)
{
	sh("ip addr del %s/%d dev eth0 2>/dev/null", getenv(is_v6(c) ? "ESCAPE_OTHER_V6" : "ESCAPE_OTHER_V4"), is_v6(c) ? 128 : 32);
}

static int transparent(struct context *c)
{
	struct endpoint from = endpoint_at(getenv("ESCAPE_OTHER_V4"), getenv("ESCAPE_OTHER_V6"), c, 0);
	int fd = socket_for(c, SOCK_DGRAM, 0), one = 1, result;

	if (fd < 0 || setsockopt(fd, is_v6(c) ? (int)IPPROTO_IPV6 : (int)IPPROTO_IP, is_v6(c) ? 75 : IP_TRANSPARENT, &one, sizeof(one)) < 0)
		return failed(c, "IP_TRANSPARENT");
	if (bind(fd, (struct sockaddr *)&from.addr, from.length) < 0)
		return failed(c, "bind");
	c->patience_ms = 50;
	result = tell_to(c, fd, &c->decoy);
	close(fd);
	return result;
}

/* ---- not the internet: what else is beyond the pod ---- */

static int to_other_pod(struct context *c)
{
	struct endpoint to = endpoint_at(getenv("ESCAPE_OTHER_V4"), getenv("ESCAPE_OTHER_V6"), c, c->port);

	c->patience_ms = 50;
	return c->method->variant == SOCK_STREAM ? tcp_to(c, &to) : udp_to(c, &to);
}

static int to_node(struct context *c)
{
	struct endpoint to = endpoint_at("198.51.100.2", "2001:db8:51::2", c, c->port);

	sh("ip route del unreachable 198.51.100.2 2>/dev/null; ip -6 route del unreachable 2001:db8:51::2 2>/dev/null");
	c->patience_ms = 50;
	return udp_to(c, &to);
}

static void to_node_undo(struct context *c)
{
	(void)c;
	sh("ip route add unreachable 198.51.100.2 2>/dev/null; ip -6 route add unreachable 2001:db8:51::2 2>/dev/null");
}

const struct method device_methods[] = {
	{"nested-udp", "nested namespace behind the pod, masqueraded, UDP", "NET_ADMIN", V4 | V6, LEGIT | TUPLE, nested, nested_end, NESTED_UDP},
	{"nested-tcp", "nested namespace behind the pod, masqueraded, TCP", "NET_ADMIN", V4 | V6, LEGIT | TUPLE, nested, nested_end, NESTED_TCP},
	{"nested-foreign", "nested namespace behind the pod, its own source", "NET_ADMIN", V4 | V6, TUPLE, nested, nested_end, NESTED_FOREIGN},
	{"macvlan", "macvlan on eth0 in a nested namespace", "NET_ADMIN", V4 | V6, TUPLE | MAY_LACK | DISRUPTIVE, macvlan, NULL, 0},
	{"macvlan-frame", "macvlan on eth0 in a nested namespace, frame", "NET_ADMIN, NET_RAW", V4 | V6, TUPLE | MAY_LACK | DISRUPTIVE, macvlan, NULL,
	 BY_FRAME},
	{"ipvlan", "ipvlan on eth0 in a nested namespace", "NET_ADMIN", V4 | V6, TUPLE | MAY_LACK | DISRUPTIVE, macvlan, NULL, 1},
	{"bridge", "bridge over eth0 and a nested namespace", "NET_ADMIN", V4 | V6, TUPLE | DISRUPTIVE, bridge, bridge_undo, 0},
	{"bridge-frame", "bridge over eth0 and a nested namespace, frame", "NET_ADMIN, NET_RAW", V4 | V6, TUPLE | DISRUPTIVE, bridge, bridge_undo, BY_FRAME},
	{"eth0-moved-frame", "eth0 itself moved to another namespace, frame", "NET_ADMIN, NET_RAW", V4 | V6, TUPLE | DISRUPTIVE, move_eth0,
	 restore_eth0, BY_FRAME},
	{"eth0-moved-stranger", "eth0 moved to a namespace of another cgroup, frame", "NET_ADMIN, NET_RAW, cgroupfs", V4 | V6, TUPLE | DISRUPTIVE,
	 move_eth0, restore_eth0, BY_FRAME | BY_STRANGER},
	{"eth0-moved-udp", "eth0 itself moved to another namespace, UDP", "NET_ADMIN", V4 | V6, TUPLE | DISRUPTIVE, move_eth0, restore_eth0, SOCK_DGRAM},
	{"eth0-moved-tcp", "eth0 itself moved to another namespace, TCP", "NET_ADMIN", V4 | V6, TUPLE | DISRUPTIVE, move_eth0, restore_eth0, SOCK_STREAM},
	{"vxlan", "VXLAN device", "NET_ADMIN", V4 | V6, TUPLE | MAY_LACK, vxlan, nested_end, 0},
	{"gre", "GRE device", "NET_ADMIN", V4 | V6, MAY_LACK, tunnel, nested_end, 0},
	{"ipip", "IP in IP device", "NET_ADMIN", V4 | V6, MAY_LACK, tunnel, nested_end, 1},
	{"geneve", "Geneve device", "NET_ADMIN", V4 | V6, MAY_LACK, tunnel, nested_end, 2},
	{"sit", "SIT device", "NET_ADMIN", V4, MAY_LACK, tunnel, nested_end, 3},
	{"seg6-inline", "route that inserts a segment routing header", "NET_ADMIN", V6, REGISTERED | MAY_LACK, segment_route, segment_route_undo, 0},
	{"seg6-encap", "route that wraps in segment routing", "NET_ADMIN", V4 | V6, REGISTERED | MAY_LACK, segment_route, segment_route_undo, 1},
	{"source-added", "another pod's address added to eth0, to a registered address", "NET_ADMIN", V4 | V6, REGISTERED, added_address,
	 added_address_undo, 0},
	{"source-transparent", "another pod's address by IP_TRANSPARENT, to a registered address", "NET_ADMIN", V4 | V6, REGISTERED,
	 transparent, NULL, 0},
	{"other-pod-udp", "UDP to another pod", "", V4 | V6, 0, to_other_pod, NULL, SOCK_DGRAM},
	{"node-udp", "UDP to the node itself, the pod's route to it repaired", "NET_ADMIN", V4 | V6, 0, to_node, to_node_undo, 0},
	{0},
};
