// SPDX-License-Identifier: Apache-2.0
/*
 * The pod's own kernel made to answer the forbidden address: the pod gives itself a packet that claims to come from
 * there, by a raw socket, as a frame on lo, or by a TUN device. The answer has no socket of the pod's.
 */
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <netinet/icmp6.h>
#include <netinet/ip_icmp.h>

#include "escape.h"

#define BY_LO 0x100
#define BY_TUN 0x200

enum answer { BY_ECHO_REPLY, BY_UNREACHABLE, BY_RST, BY_SYN_ACK, BY_UDP_SERVER };

static int inject_lo(struct context *c, const uint8_t *packet, size_t length)
{
	struct sockaddr_ll to = {.sll_family = AF_PACKET, .sll_protocol = htons(is_v6(c) ? ETH_P_IPV6 : ETH_P_IP),
				 .sll_ifindex = (int)if_nametoindex("lo"), .sll_halen = 6};
	int fd = socket(AF_PACKET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	ssize_t n = sendto(fd, packet, length, 0, (struct sockaddr *)&to, sizeof(to));

	close(fd);
	return n < 0 ? failed(c, "packet sendto") : 0;
}

static int inject_tun(struct context *c, const uint8_t *packet, size_t length)
{
	int fd = tun_open(c, false), result = 0;

	if (fd < 0)
		return fd;
	if (write(fd, packet, length) < 0)
		result = failed(c, "write");
	pause_ms(30);
	close(fd);
	return result;
}

static int send_forged(struct context *c, struct packet *p)
{
	int variant = c->method->variant;
	uint8_t packet[256];
	size_t length;

	p->source = is_v6(c) ? FORBIDDEN_V6 : FORBIDDEN_V4;
	p->destination = address_of(&c->own);
	p->source_port = c->port; /* where the answer goes */
	length = build(c, p, packet);
	if (variant & BY_LO)
		return inject_lo(c, packet, length);
	return variant & BY_TUN ? inject_tun(c, packet, length) : inject_to(c, VIA_RAW, &c->own, packet, length);
}

static int listen_here(struct context *c, int type)
{
	struct endpoint here = with_port(c->own, c->source_port);
	int fd = socket_for(c, type, 0);

	if (fd < 0 || bind(fd, (struct sockaddr *)&here.addr, here.length) < 0 || (type == SOCK_STREAM && listen(fd, 4) < 0))
		return failed(c, "a server socket");
	return fd;
}

static int reflect(struct context *c)
{
	struct packet p = {.protocol = IPPROTO_UDP, .destination_port = c->source_port};
	struct sockaddr_storage peer;
	socklen_t size = sizeof(peer);
	char buffer[64];
	int fd = -1, result;

	switch ((enum answer)(c->method->variant & 0xff)) {
	case BY_ECHO_REPLY:
		p.protocol = is_v6(c) ? (int)IPPROTO_ICMPV6 : (int)IPPROTO_ICMP;
		p.icmp_type = is_v6(c) ? ICMP6_ECHO_REQUEST : ICMP_ECHO;
		return send_forged(c, &p);
	case BY_UNREACHABLE: /* the error quotes the payload */
		return send_forged(c, &p);
	case BY_RST: /* to an ACK: its sequence number is ours */
		p.protocol = IPPROTO_TCP;
		p.tcp_flags = TCP_ACK;
		p.no_payload = true;
		return send_forged(c, &p);
	case BY_SYN_ACK:
		p.protocol = IPPROTO_TCP;
		p.tcp_flags = TCP_SYN;
		p.no_payload = true;
		fd = listen_here(c, SOCK_STREAM);
		if (fd < 0)
			return fd;
		result = send_forged(c, &p);
		pause_ms(50);
		break;
	case BY_UDP_SERVER: /* a server that answers who asked, as far as it can tell */
		fd = listen_here(c, SOCK_DGRAM);
		if (fd < 0)
			return fd;
		p.payload = "question";
		p.payload_length = 8;
		result = send_forged(c, &p);
		if (result == 0 && wait_for(fd, POLLIN, now_ms() + c->patience_ms) < 0)
			result = failed(c, "the forged question does not arrive");
		else if (result == 0 && (recvfrom(fd, buffer, sizeof(buffer), 0, (struct sockaddr *)&peer, &size) < 0 ||
					 sendto(fd, c->token, TOKEN_LENGTH, 0, (struct sockaddr *)&peer, size) < 0))
			result = failed(c, "answer");
		break;
	default: return -EINVAL;
	}
	close(fd);
	return result;
}

#define ALL_WAYS(name, what, flags, answer)                                                                                     \
	{name, what ", raw over lo", "NET_RAW", V4 | V6, flags, reflect, NULL, answer},                                         \
	{name "-lo", what ", frame on lo", "NET_RAW", V4 | V6, flags, reflect, NULL, (answer) | BY_LO},                         \
	{name "-tun", what ", by TUN", "NET_ADMIN", V4 | V6, flags, reflect, NULL, (answer) | BY_TUN}

const struct method reflect_methods[] = {
	ALL_WAYS("reflect-echo", "forged ping: the kernel's echo reply carries data", 0, BY_ECHO_REPLY),
	ALL_WAYS("reflect-unreachable", "forged datagram: the kernel's ICMP error carries data", 0, BY_UNREACHABLE),
	ALL_WAYS("reflect-rst", "forged segment: the kernel's RST", TUPLE, BY_RST),
	ALL_WAYS("reflect-syn-ack", "forged SYN: a listener's SYN-ACK", TUPLE, BY_SYN_ACK),
	ALL_WAYS("reflect-udp", "forged question: a UDP server answers", TUPLE, BY_UDP_SERVER),
	{0},
};
