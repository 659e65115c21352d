// SPDX-License-Identifier: Apache-2.0
/* Raw sockets, IP options, routing headers and extension headers; most of them also as frames on eth0. */
#include <linux/seg6.h>
#include <netinet/icmp6.h>
#include <netinet/ip.h>
#include <netinet/ip6.h>
#include <netinet/ip_icmp.h>

#include "escape.h"

#define VIA(variant) ((enum via)((variant) >> 16))
#define KIND(variant) ((variant) & 0xffff)
#define BY_PACKET (VIA_PACKET << 16)

enum kind { UDP_DATAGRAM, TCP_SYN_BARE, TCP_SYN_DATA, TCP_ACK_DATA, TCP_RST_BARE, ECHO, ICMP_ERROR };

static void shape(const struct context *c, struct packet *p, enum kind kind)
{
	bool v6 = is_v6(c);

	*p = (struct packet){.protocol = IPPROTO_TCP, .sequence = 0x01020304};
	switch (kind) {
	case UDP_DATAGRAM:
		p->protocol = IPPROTO_UDP;
		break;
	case TCP_SYN_BARE:
		p->no_payload = true;
		p->tcp_flags = TCP_SYN;
		break;
	case TCP_SYN_DATA:
		p->tcp_flags = TCP_SYN;
		break;
	case TCP_ACK_DATA:
		p->tcp_flags = TCP_ACK | TCP_PSH;
		break;
	case TCP_RST_BARE:
		p->no_payload = true;
		p->tcp_flags = TCP_RST;
		break;
	case ECHO:
		p->protocol = v6 ? (int)IPPROTO_ICMPV6 : (int)IPPROTO_ICMP;
		p->icmp_type = v6 ? ICMP6_ECHO_REQUEST : ICMP_ECHO;
		break;
	case ICMP_ERROR:
		p->protocol = v6 ? (int)IPPROTO_ICMPV6 : (int)IPPROTO_ICMP;
		p->icmp_type = v6 ? ICMP6_DST_UNREACH : ICMP_DEST_UNREACH;
		p->icmp_code = v6 ? ICMP6_DST_UNREACH_NOPORT : ICMP_PORT_UNREACH;
		break;
	}
}

static int handmade(struct context *c)
{
	struct packet p;

	shape(c, &p, (enum kind)KIND(c->method->variant));
	return shoot(c, VIA(c->method->variant), &p);
}

/* A raw socket for one protocol: the kernel writes the IP header. */
static int raw_without_header(struct context *c)
{
	int protocol = c->method->variant, fd = socket_for(c, SOCK_RAW, protocol), result = 0;
	struct endpoint to = with_port(c->to, 0);
	uint8_t body[64];
	struct packet p;
	size_t length;

	if (fd < 0)
		return failed(c, "raw socket");
	shape(c, &p, UDP_DATAGRAM);
	p.protocol = (uint8_t)protocol;
	if (protocol == IPPROTO_ICMPV6 || protocol == IPPROTO_ICMP)
		shape(c, &p, ECHO);
	length = build_transport(c, &p, body);
	if (sendto(fd, body, length, 0, (struct sockaddr *)&to.addr, to.length) < 0)
		result = failed(c, "raw sendto");
	close(fd);
	return result;
}

/* Connected to the allowed address; the header that we write says another. */
static int raw_connected(struct context *c)
{
	int fd = socket_for(c, SOCK_RAW, IPPROTO_RAW), result = 0;
	struct endpoint to = with_port(c->decoy, 0);
	struct packet p = {};
	uint8_t packet[128];
	size_t length = build(c, &p, packet);

	if (fd < 0)
		return failed(c, "raw socket");
	if (connect(fd, (struct sockaddr *)&to.addr, to.length) < 0)
		result = failed(c, "connect to the allowed address");
	else if (send(fd, packet, length, 0) < 0)
		result = failed(c, "raw send");
	close(fd);
	return result;
}

static int raw_protocol(struct context *c)
{
	struct packet p = {.protocol = (uint8_t)KIND(c->method->variant)};

	return shoot(c, VIA(c->method->variant), &p);
}

/* A protocol that is not registered, to the registered address, whose content is a packet to the forbidden one. */
static int tunnel_to_allowed(struct context *c)
{
	struct packet inner = {}, outer = {.protocol = is_v6(c) ? IPPROTO_IPV6 : IPPROTO_IPIP};
	uint8_t packet[256], whole[512];

	outer.payload_length = build(c, &inner, packet);
	outer.payload = packet;
	outer.destination = is_v6(c) ? ALLOWED_V6 : ALLOWED_V4;
	return inject_to(c, VIA_RAW, &c->decoy, whole, build(c, &outer, whole));
}

enum source { OTHER_POD, NODE, NOBODY, LOOPBACK };

static const char *source_text(const struct context *c, enum source source)
{
	switch (source) {
	case OTHER_POD: return getenv(is_v6(c) ? "ESCAPE_OTHER_V6" : "ESCAPE_OTHER_V4");
	case NODE: return is_v6(c) ? "2001:db8:51::2" : "198.51.100.2";
	case LOOPBACK: return is_v6(c) ? "::1" : "127.0.0.1";
	default: return is_v6(c) ? "2001:db8:77::7" : "192.0.2.77";
	}
}

/* To the *allowed* address, with a source that is not the pod's: it must not pass either. */
static int foreign_source(struct context *c)
{
	int variant = c->method->variant;
	struct packet p = {.source = source_text(c, (enum source)KIND(variant)), .destination = is_v6(c) ? ALLOWED_V6 : ALLOWED_V4};
	uint8_t packet[256];

	return inject_to(c, VIA(variant), &c->decoy, packet, build(c, &p, packet));
}

/* ---- IPv4 options ---- */

static int source_route_raw(struct context *c)
{
	uint8_t options[8] = {IPOPT_LSRR, 7, 4};
	bool through_allowed = c->method->variant;
	struct packet p = {.options = options, .options_length = sizeof(options)};

	/* First hop in the header, last hop in the option; either of them is the forbidden one. */
	inet_pton(AF_INET, through_allowed ? FORBIDDEN_V4 : ALLOWED_V4, options + 3);
	p.destination = through_allowed ? ALLOWED_V4 : FORBIDDEN_V4;
	return shoot(c, VIA_RAW, &p);
}

/* The socket's destination is the allowed address; the first hop, which the kernel puts in the header, is not. */
static int source_route_socket(struct context *c)
{
	uint8_t options[8] = {IPOPT_LSRR, 7, 4};
	int type = c->method->variant, fd = socket_for(c, type, 0), result;

	inet_pton(AF_INET, FORBIDDEN_V4, options + 3);
	if (fd < 0 || setsockopt(fd, IPPROTO_IP, IP_OPTIONS, options, sizeof(options)) < 0)
		return failed(c, "IP_OPTIONS");
	if (type == SOCK_STREAM) {
		result = dial(c, fd, &c->decoy);
		if (result == 0)
			result = tell(c, fd);
		close_hard(fd);
		return result;
	}
	result = tell_to(c, fd, &c->decoy);
	close(fd);
	return result;
}

/* Options that read like the ports of a registered service to who takes the header to be 20 bytes long. */
static int confusing_options(struct context *c)
{
	uint8_t options[40] = {0};
	struct packet p = {.options = options, .destination = is_v6(c) ? ALLOWED_V6 : ALLOWED_V4};
	uint8_t packet[256];

	p.destination_port = UNREGISTERED_PORT;
	if (is_v6(c)) {
		/* Destination options whose first one is read by nobody on the way. */
		p.options_length = 16;
		p.first_extension = IPPROTO_DSTOPTS;
		options[0] = IPPROTO_UDP;
		options[1] = 1;
		options[2] = (uint8_t)(c->port >> 8);
		options[3] = (uint8_t)c->port;
	} else {
		p.options_length = 8;
		memset(options, IPOPT_NOP, 8);
		options[2] = (uint8_t)(c->port >> 8);
		options[3] = (uint8_t)c->port;
		options[0] = IPOPT_SECURITY; /* skipped by its length, 8 bytes in all */
		options[1] = 8;
	}
	return inject_to(c, (enum via)c->method->variant, &c->decoy, packet, build(c, &p, packet));
}

/* ---- IPv6 extension headers ---- */

enum extension { RH0, RH2, SRH, SRH_THROUGH_ALLOWED, HOP_BY_HOP, DESTINATION, CHAIN, NO_NEXT, AUTHENTICATION, UNKNOWN_HEADER };

/* A routing header that names two segments. */
static size_t routing_header(uint8_t *out, uint8_t type, const char *segment)
{
	memset(out, 0, 24);
	out[0] = IPPROTO_UDP;
	out[1] = 2;
	out[2] = type;
	out[3] = 1; /* segments left: it is to be forwarded to `segment` */
	inet_pton(AF_INET6, segment, out + 8);
	return 24;
}

static size_t padded_header(uint8_t *out, uint8_t next)
{
	memcpy(out, (uint8_t[8]){next, 0, 1, 4, 0, 0, 0, 0}, 8);
	return 8;
}

static int extension(struct context *c)
{
	int variant = c->method->variant;
	uint8_t bytes[256], *at = bytes;
	struct packet p = {.options = bytes};

	switch ((enum extension)KIND(variant)) {
	case RH0:
	case RH2:
	case SRH:
	case SRH_THROUGH_ALLOWED:
		p.first_extension = IPPROTO_ROUTING;
		if (KIND(variant) == SRH_THROUGH_ALLOWED)
			p.destination = ALLOWED_V6;
		at += routing_header(at, KIND(variant) == RH0 ? 0 : KIND(variant) == RH2 ? 2 : 4, p.destination ? FORBIDDEN_V6 : ALLOWED_V6);
		break;
	case HOP_BY_HOP:
		p.first_extension = IPPROTO_HOPOPTS;
		at += padded_header(at, IPPROTO_UDP);
		break;
	case DESTINATION:
		p.first_extension = IPPROTO_DSTOPTS;
		at += padded_header(at, IPPROTO_UDP);
		break;
	case CHAIN: /* longer than who walks a few headers will walk */
		p.first_extension = IPPROTO_DSTOPTS;
		for (int i = 0; i < 20; i++)
			at += padded_header(at, i == 19 ? IPPROTO_UDP : IPPROTO_DSTOPTS);
		break;
	case NO_NEXT:
		p.first_extension = IPPROTO_NONE;
		break;
	case AUTHENTICATION:
		p.first_extension = IPPROTO_AH;
		memset(at, 0, 24);
		at[0] = IPPROTO_UDP;
		at[1] = 4; /* in words, minus 2 */
		at += 24;
		break;
	case UNKNOWN_HEADER:
		p.first_extension = 253;
		at += padded_header(at, IPPROTO_UDP);
		break;
	}
	if (at == bytes) {
		p.protocol = p.first_extension;
		p.options = NULL;
	}
	p.options_length = (size_t)(at - bytes);
	return shoot(c, VIA(variant), &p);
}

/* A routing header as a socket option: connect() sees the last segment, the wire the first. */
static int routing_option(struct context *c)
{
	struct {
		struct ipv6_sr_hdr header;
		struct in6_addr segments[2];
	} route = {.header = {.hdrlen = 4, .type = 4, .segments_left = 1, .first_segment = 1}};
	int type = c->method->variant, fd = socket_for(c, type, 0), result;

	inet_pton(AF_INET6, FORBIDDEN_V6, &route.segments[1]);
	if (fd < 0 || setsockopt(fd, IPPROTO_IPV6, IPV6_RTHDR, &route, sizeof(route)) < 0)
		return failed(c, "IPV6_RTHDR");
	if (type == SOCK_DGRAM) {
		result = tell_to(c, fd, &c->decoy);
		close(fd);
		return result;
	}
	result = dial(c, fd, &c->decoy);
	if (result == 0)
		result = tell(c, fd);
	close_hard(fd);
	return result;
}

/* Its first hop in ancillary data, for one datagram. */
static int routing_ancillary(struct context *c)
{
	struct {
		struct ipv6_sr_hdr header;
		struct in6_addr segments[2];
	} route = {.header = {.hdrlen = 4, .type = 4, .segments_left = 1, .first_segment = 1}};
	char control[CMSG_SPACE(sizeof(route))] = {0};
	struct iovec data = {c->token, TOKEN_LENGTH};
	struct msghdr message = {.msg_name = &c->decoy.addr, .msg_namelen = c->decoy.length, .msg_iov = &data, .msg_iovlen = 1,
				 .msg_control = control, .msg_controllen = CMSG_LEN(sizeof(route))};
	struct cmsghdr *header = CMSG_FIRSTHDR(&message);
	int fd = socket_for(c, SOCK_DGRAM, 0), result = 0;

	inet_pton(AF_INET6, FORBIDDEN_V6, &route.segments[1]);
	header->cmsg_level = IPPROTO_IPV6;
	header->cmsg_type = IPV6_RTHDR;
	header->cmsg_len = CMSG_LEN(sizeof(route));
	memcpy(CMSG_DATA(header), &route, sizeof(route));
	if (fd < 0 || sendmsg(fd, &message, 0) < 0)
		result = failed(c, "sendmsg with IPV6_RTHDR");
	close(fd);
	return result;
}

const struct method raw_methods[] = {
	{"raw-udp", "raw socket, own IP header: UDP", "NET_RAW", V4 | V6, TUPLE, handmade, NULL, UDP_DATAGRAM},
	{"raw-syn", "raw socket: bare SYN", "NET_RAW", V4 | V6, TUPLE, handmade, NULL, TCP_SYN_BARE},
	{"raw-syn-data", "raw socket: payload in the SYN", "NET_RAW", V4 | V6, TUPLE, handmade, NULL, TCP_SYN_DATA},
	{"raw-ack-data", "raw socket: payload in an ACK of no connection", "NET_RAW", V4 | V6, TUPLE, handmade, NULL, TCP_ACK_DATA},
	{"raw-rst", "raw socket: bare RST", "NET_RAW", V4 | V6, TUPLE, handmade, NULL, TCP_RST_BARE},
	{"raw-echo", "raw socket: ICMP echo", "NET_RAW", V4 | V6, 0, handmade, NULL, ECHO},
	{"raw-icmp-error", "raw socket: ICMP error that carries data", "NET_RAW", V4 | V6, 0, handmade, NULL, ICMP_ERROR},
	{"raw-noheader-udp", "raw socket, kernel's IP header: UDP", "NET_RAW", V4 | V6, TUPLE, raw_without_header, NULL, IPPROTO_UDP},
	{"raw-noheader-icmp", "raw socket, kernel's IP header: ICMP", "NET_RAW", V4, 0, raw_without_header, NULL, IPPROTO_ICMP},
	{"raw-noheader-icmp6", "raw socket, kernel's IP header: ICMPv6", "NET_RAW", V6, 0, raw_without_header, NULL, IPPROTO_ICMPV6},
	{"raw-noheader-253", "raw socket, kernel's IP header: protocol 253", "NET_RAW", V4 | V6, 0, raw_without_header, NULL, 253},
	{"raw-connected", "raw socket connected to an allowed address, header says another", "NET_RAW", V4 | V6, TUPLE | REGISTERED,
	 raw_connected, NULL, 0},
	{"raw-sctp", "raw SCTP", "NET_RAW", V4 | V6, 0, raw_protocol, NULL, IPPROTO_SCTP},
	{"raw-gre", "raw GRE", "NET_RAW", V4 | V6, 0, raw_protocol, NULL, IPPROTO_GRE},
	{"raw-esp", "raw ESP", "NET_RAW", V4 | V6, 0, raw_protocol, NULL, IPPROTO_ESP},
	{"raw-udplite", "raw UDP-Lite", "NET_RAW", V4 | V6, TUPLE, raw_protocol, NULL, IPPROTO_UDPLITE},
	{"raw-protocol-0", "raw protocol 0", "NET_RAW", V4, 0, raw_protocol, NULL, BY_PACKET | 0},
	{"raw-protocol-255", "raw protocol 255", "NET_RAW", V4 | V6, 0, raw_protocol, NULL, 255},
	{"raw-tunnel", "IP in IP to a registered address", "NET_RAW", V4 | V6, REGISTERED, tunnel_to_allowed, NULL, 0},
	{"source-other-pod", "another pod's source address, raw, to a registered address", "NET_RAW", V4 | V6, REGISTERED, foreign_source,
	 NULL, OTHER_POD},
	{"source-node", "the node's source address, raw, to a registered address", "NET_RAW", V4 | V6, REGISTERED | MAY_LACK, foreign_source,
	 NULL, NODE},
	{"source-nobody", "nobody's source address, raw, to a registered address", "NET_RAW", V4 | V6, REGISTERED, foreign_source, NULL, NOBODY},
	{"source-loopback", "a loopback source address, raw, to a registered address", "NET_RAW", V4 | V6, REGISTERED | MAY_LACK, foreign_source,
	 NULL, LOOPBACK},
	{"source-other-pod-frame", "another pod's source address, frame, to a registered address", "NET_RAW", V4 | V6, REGISTERED,
	 foreign_source, NULL, BY_PACKET | OTHER_POD},
	{"lsrr-udp", "IP source route on a UDP socket, forbidden first hop", "NET_RAW", V4, REGISTERED | TUPLE, source_route_socket, NULL, SOCK_DGRAM},
	{"lsrr-tcp", "IP source route on a TCP socket, forbidden first hop", "NET_RAW", V4, REGISTERED | TUPLE, source_route_socket, NULL, SOCK_STREAM},
	{"lsrr-raw", "IP source route, raw, forbidden first hop", "NET_RAW", V4, REGISTERED | TUPLE, source_route_raw, NULL, 0},
	{"lsrr-raw-through", "IP source route, raw, through a registered address to a forbidden one", "NET_RAW", V4, REGISTERED,
	 source_route_raw, NULL, 1},
	{"options-as-ports", "options that look like the ports of a service, raw", "NET_RAW", V4 | V6, REGISTERED, confusing_options, NULL, VIA_RAW},
	{"options-as-ports-frame", "options that look like the ports of a service, frame", "NET_RAW", V4 | V6, REGISTERED, confusing_options,
	 NULL, VIA_PACKET},
	{"rthdr-udp", "routing header by setsockopt, UDP", "NET_RAW", V6, REGISTERED, routing_option, NULL, SOCK_DGRAM},
	{"rthdr-tcp", "routing header by setsockopt, TCP", "NET_RAW", V6, REGISTERED | TUPLE, routing_option, NULL, SOCK_STREAM},
	{"rthdr-cmsg", "routing header by ancillary data, UDP", "NET_RAW", V6, REGISTERED | MAY_LACK, routing_ancillary, NULL, 0},
	{"rthdr-0", "routing header type 0, raw", "NET_RAW", V6, 0, extension, NULL, RH0},
	{"rthdr-2", "routing header type 2, raw", "NET_RAW", V6, 0, extension, NULL, RH2},
	{"rthdr-4", "segment routing header, raw", "NET_RAW", V6, 0, extension, NULL, SRH},
	{"rthdr-4-through", "segment routing header through a registered address, frame", "NET_RAW", V6, REGISTERED, extension, NULL,
	 BY_PACKET | SRH_THROUGH_ALLOWED},
	{"ext-hop-by-hop", "hop-by-hop options before UDP, raw", "NET_RAW", V6, 0, extension, NULL, HOP_BY_HOP},
	{"ext-destination", "destination options before UDP, raw", "NET_RAW", V6, 0, extension, NULL, DESTINATION},
	{"ext-chain", "twenty extension headers before UDP, raw", "NET_RAW", V6, 0, extension, NULL, CHAIN},
	{"ext-chain-frame", "twenty extension headers before UDP, frame", "NET_RAW", V6, 0, extension, NULL, BY_PACKET | CHAIN},
	{"ext-none", "payload after No Next Header, frame", "NET_RAW", V6, 0, extension, NULL, BY_PACKET | NO_NEXT},
	{"ext-ah", "authentication header before UDP, frame", "NET_RAW", V6, 0, extension, NULL, BY_PACKET | AUTHENTICATION},
	{"ext-unknown", "unknown header before UDP, frame", "NET_RAW", V6, 0, extension, NULL, BY_PACKET | UNKNOWN_HEADER},
	{0},
};
