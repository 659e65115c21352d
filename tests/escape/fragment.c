// SPDX-License-Identifier: Apache-2.0
/* Fragments, from a raw socket and as frames on eth0. */
#include <netinet/ip6.h>

#include "escape.h"

enum shape { WHOLE_DATAGRAM, TINY, OVERLAP, LAST_FIRST, ORPHAN, ATOMIC, LATE_TRANSPORT };

#define BY_FRAME 0x100

/* Cuts `transport` at [from, to) into one fragment and sends it. */
static int send_piece(struct context *c, enum via via, uint8_t protocol, const uint8_t *transport, size_t from, size_t to, bool more)
{
	struct packet p = {.no_payload = true, .protocol = protocol};
	uint8_t packet[512], extension[8] = {protocol, 0, (uint8_t)(from >> 8), (uint8_t)((from & 0xf8) | more), 0, 0, 0x65, 0x73};
	size_t header;

	if (is_v6(c)) {
		p.options = extension;
		p.options_length = sizeof(extension);
		p.first_extension = IPPROTO_FRAGMENT;
	}
	memcpy(extension + 4, c->token + 2, 4); /* the identification: the same for all of a row's pieces */
	build(c, &p, packet);
	header = is_v6(c) ? 48 : 20;
	memcpy(packet + header, transport + from, to - from);
	if (is_v6(c)) {
		packet[4] = (uint8_t)((to - from + 8) >> 8);
		packet[5] = (uint8_t)(to - from + 8);
	} else {
		uint16_t sum;

		packet[2] = (uint8_t)((header + to - from) >> 8);
		packet[3] = (uint8_t)(header + to - from);
		packet[6] = (uint8_t)((more ? 0x20 : 0) | from >> 11);
		packet[7] = (uint8_t)(from >> 3);
		packet[10] = packet[11] = 0;
		sum = internet_checksum(packet, 20, 0);
		packet[10] = (uint8_t)(sum >> 8);
		packet[11] = (uint8_t)sum;
	}
	return inject(c, via, packet, header + to - from);
}

static int fragments(struct context *c)
{
	enum via via = c->method->variant & BY_FRAME ? VIA_PACKET : VIA_RAW;
	enum shape shape = (enum shape)(c->method->variant & 0xff);
	char payload[24] = "................";
	struct packet p = {.payload = payload, .payload_length = sizeof(payload)};
	uint8_t transport[128], protocol = IPPROTO_UDP;
	size_t length;
	int result;

	memcpy(payload + 16, c->token, TOKEN_LENGTH);
	if (shape == TINY || shape == OVERLAP) {
		p.protocol = protocol = IPPROTO_TCP;
		p.tcp_flags = TCP_SYN;
		memcpy(payload + 4, c->token, TOKEN_LENGTH); /* 24 bytes from the start of TCP: a whole unit of 8 */
	}
	length = build_transport(c, &p, transport);
	switch (shape) {
	case WHOLE_DATAGRAM:
		result = send_piece(c, via, protocol, transport, 0, 16, true);
		return result < 0 ? result : send_piece(c, via, protocol, transport, 16, length, false);
	case TINY: /* the first piece has the ports and no flags */
		result = send_piece(c, via, protocol, transport, 0, 8, true);
		return result < 0 ? result : send_piece(c, via, protocol, transport, 8, length, false);
	case OVERLAP: /* the second piece writes over the flags of the first */
		transport[13] = TCP_RST;
		result = send_piece(c, via, protocol, transport, 0, 16, true);
		transport[13] = TCP_SYN;
		return result < 0 ? result : send_piece(c, via, protocol, transport, 8, length, false);
	case LAST_FIRST:
		result = send_piece(c, via, protocol, transport, 16, length, false);
		return result < 0 ? result : send_piece(c, via, protocol, transport, 0, 16, true);
	case ORPHAN: /* there is no first piece */
		return send_piece(c, via, protocol, transport, 16, length, false);
	case ATOMIC: /* a fragment header, and nothing else in pieces */
		return send_piece(c, via, protocol, transport, 0, length, false);
	case LATE_TRANSPORT: /* options fill the first piece: its transport header is in the second */
		memmove(transport + 8, transport, length);
		memcpy(transport, (uint8_t[8]){IPPROTO_UDP, 0, 1, 4, 0, 0, 0, 0}, 8);
		result = send_piece(c, via, IPPROTO_DSTOPTS, transport, 0, 8, true);
		return result < 0 ? result : send_piece(c, via, IPPROTO_DSTOPTS, transport, 8, length + 8, false);
	}
	return -EINVAL;
}

/*
 * Destination options of 72 bytes, of which the first fragment has 64. What follows it in the frame, beyond the end of
 * the IPv6 packet, looks like the rest and a UDP header to a registered port; the next router cuts that off. The second
 * fragment brings the true one.
 */
static int fragment_trailer(struct context *c)
{
	uint8_t transport[256] = {IPPROTO_UDP, 8, 1, 60}, first[512], second[512], fake[16] = {1, 6};
	struct packet inner = {.destination = ALLOWED_V6, .destination_port = UNREGISTERED_PORT};
	struct packet outer = {.destination = ALLOWED_V6, .no_payload = true, .protocol = 253, .first_extension = IPPROTO_FRAGMENT,
			       .options_length = 8};
	uint8_t extension[8] = {IPPROTO_DSTOPTS, 0, 0, 1, c->token[2], c->token[3], c->token[4], c->token[5]};
	size_t length = 72;
	int result;

	transport[64] = 1; /* PadN over the last 8 bytes */
	transport[65] = 6;
	length += build_transport(c, &inner, transport + 72);
	outer.options = extension;
	build(c, &outer, first);
	first[5] = 8 + 64;
	memcpy(first + 48, transport, 64);
	fake[8] = (uint8_t)(c->source_port >> 8);
	fake[9] = (uint8_t)c->source_port;
	fake[10] = (uint8_t)(c->port >> 8);
	fake[11] = (uint8_t)c->port;
	fake[13] = 16;
	memcpy(first + 112, fake, sizeof(fake));
	extension[2] = 0;
	extension[3] = 64;
	build(c, &outer, second);
	second[5] = (uint8_t)(8 + length - 64);
	memcpy(second + 48, transport + 64, length - 64);
	result = inject(c, VIA_PACKET, first, 112 + sizeof(fake));
	return result < 0 ? result : inject(c, VIA_PACKET, second, 48 + length - 64);
}

/* A datagram bigger than the MTU: the kernel cuts it. */
static int big_datagram(struct context *c)
{
	int fd = socket_for(c, SOCK_DGRAM, 0), result;
	char data[4000];

	if (fd < 0)
		return failed(c, "socket");
	memset(data, '.', sizeof(data));
	memcpy(data, c->token, TOKEN_LENGTH);
	memcpy(data + 3200, c->token, TOKEN_LENGTH);
	if (sendto(fd, data, sizeof(data), 0, (struct sockaddr *)&c->to.addr, c->to.length) < 0)
		result = failed(c, "sendto");
	else
		result = await_echo(c, fd);
	close(fd);
	return result;
}

const struct method fragment_methods[] = {
	{"big-datagram", "UDP datagram that the kernel cuts into fragments", "", V4 | V6, LEGIT, big_datagram, NULL, 0},
	{"frag-raw", "UDP in two fragments, raw", "NET_RAW", V4 | V6, 0, fragments, NULL, WHOLE_DATAGRAM},
	{"frag-frame", "UDP in two fragments, frames", "NET_RAW", V4 | V6, 0, fragments, NULL, WHOLE_DATAGRAM | BY_FRAME},
	{"frag-tiny-raw", "TCP header cut after 8 bytes, raw", "NET_RAW", V4 | V6, 0, fragments, NULL, TINY},
	{"frag-tiny-frame", "TCP header cut after 8 bytes, frames", "NET_RAW", V4 | V6, 0, fragments, NULL, TINY | BY_FRAME},
	{"frag-overlap-raw", "overlapping fragments, raw", "NET_RAW", V4 | V6, 0, fragments, NULL, OVERLAP},
	{"frag-overlap-frame", "overlapping fragments, frames", "NET_RAW", V4 | V6, 0, fragments, NULL, OVERLAP | BY_FRAME},
	{"frag-last-first-raw", "last fragment first, raw", "NET_RAW", V4 | V6, 0, fragments, NULL, LAST_FIRST},
	{"frag-last-first-frame", "last fragment first, frames", "NET_RAW", V4 | V6, 0, fragments, NULL, LAST_FIRST | BY_FRAME},
	{"frag-orphan-raw", "a fragment without a first one, raw", "NET_RAW", V4 | V6, 0, fragments, NULL, ORPHAN},
	{"frag-orphan-frame", "a fragment without a first one, frame", "NET_RAW", V4 | V6, 0, fragments, NULL, ORPHAN | BY_FRAME},
	{"frag-atomic-raw", "atomic fragment, raw", "NET_RAW", V6, 0, fragments, NULL, ATOMIC},
	{"frag-atomic-frame", "atomic fragment, frame", "NET_RAW", V6, 0, fragments, NULL, ATOMIC | BY_FRAME},
	{"frag-late-raw", "transport header only in the second fragment, raw", "NET_RAW", V6, 0, fragments, NULL, LATE_TRANSPORT},
	{"frag-late-frame", "transport header only in the second fragment, frames", "NET_RAW", V6, 0, fragments, NULL,
	 LATE_TRANSPORT | BY_FRAME},
	{"frag-trailer", "ports of a service behind the end of a fragment, to another port of its address", "NET_RAW", V6, REGISTERED,
	 fragment_trailer, NULL, 0},
	{0},
};
