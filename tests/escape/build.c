// SPDX-License-Identifier: Apache-2.0
/* Packets by hand, and the two ways to send them: a raw socket, and a frame on eth0. */
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <netinet/ip.h>
#include <netinet/ip6.h>

#include "escape.h"

uint16_t internet_checksum(const void *data, size_t length, uint32_t sum)
{
	const uint8_t *bytes = data;

	for (size_t i = 0; i < length; i++)
		sum += i % 2 ? bytes[i] : (uint32_t)bytes[i] << 8;
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)~sum;
}

static void put16(uint8_t *at, uint16_t value)
{
	at[0] = (uint8_t)(value >> 8);
	at[1] = (uint8_t)value;
}

static void put32(uint8_t *at, uint32_t value)
{
	put16(at, (uint16_t)(value >> 16));
	put16(at + 2, (uint16_t)value);
}

static void addresses(const struct context *c, const struct packet *p, uint8_t source[16], uint8_t destination[16])
{
	int family = is_v6(c) ? AF_INET6 : AF_INET;
	size_t size = is_v6(c) ? 16 : 4;

	memcpy(source, address_bytes(&c->own), size);
	memcpy(destination, address_bytes(&c->to), size);
	if (p->source)
		inet_pton(family, p->source, source);
	if (p->destination)
		inet_pton(family, p->destination, destination);
}

static uint32_t sum_of(const uint8_t *data, size_t length)
{
	return (uint16_t)~internet_checksum(data, length, 0);
}

/* The transport header and the payload, with their checksum. */
size_t build_transport(const struct context *c, const struct packet *p, uint8_t *out)
{
	uint8_t source[16], destination[16], protocol = p->protocol ? p->protocol : IPPROTO_UDP;
	const void *payload = p->payload ? p->payload : c->token;
	size_t header, n = p->no_payload ? 0 : p->payload ? p->payload_length : TOKEN_LENGTH, at = 0, size = is_v6(c) ? 16 : 4;
	uint32_t sum;

	addresses(c, p, source, destination);
	memset(out, 0, 40);
	switch (protocol) {
	case IPPROTO_TCP:
		header = 20;
		at = 16;
		put32(out + 4, p->sequence);
		put32(out + 8, p->acknowledgment);
		out[12] = 5 << 4;
		out[13] = p->tcp_flags;
		put16(out + 14, 64240);
		break;
	case IPPROTO_UDP:
	case IPPROTO_UDPLITE:
		header = 8;
		at = 6;
		put16(out + 4, (uint16_t)(header + n));
		break;
	case IPPROTO_ICMP:
	case IPPROTO_ICMPV6:
		header = 8;
		at = 2;
		out[0] = p->icmp_type;
		out[1] = p->icmp_code;
		put16(out + 4, c->port);
		break;
	default:
		header = 0;
	}
	if (at >= 6) {
		put16(out, p->source_port ? p->source_port : c->source_port);
		put16(out + 2, p->destination_port ? p->destination_port : c->port);
	}
	memcpy(out + header, payload, n);
	if (at) {
		sum = sum_of(source, size) + sum_of(destination, size) + protocol + (uint32_t)(header + n);
		put16(out + at, internet_checksum(out, header + n, protocol == IPPROTO_ICMP ? 0 : sum));
	}
	return header + n;
}

size_t build(const struct context *c, const struct packet *p, uint8_t *out)
{
	uint8_t protocol = p->protocol ? p->protocol : IPPROTO_UDP, source[16], destination[16];
	size_t header = is_v6(c) ? 40 : 20, more = p->options_length, length;

	addresses(c, p, source, destination);
	memset(out, 0, header);
	if (more)
		memcpy(out + header, p->options, more);
	length = build_transport(c, p, out + header + more);
	if (is_v6(c)) {
		out[0] = 0x60;
		put16(out + 4, (uint16_t)(more + length));
		out[6] = more ? p->first_extension : protocol;
		out[7] = 64;
		memcpy(out + 8, source, 16);
		memcpy(out + 24, destination, 16);
		return header + more + length;
	}
	out[0] = (uint8_t)(0x40 | (header + more) / 4);
	put16(out + 2, (uint16_t)(header + more + length));
	put16(out + 4, c->source_port);
	out[8] = 64;
	out[9] = protocol;
	memcpy(out + 12, source, 4);
	memcpy(out + 16, destination, 4);
	put16(out + 10, internet_checksum(out, header + more, 0));
	return header + more + length;
}

static int inject_raw(struct context *c, const struct endpoint *route_to, const uint8_t *packet, size_t length)
{
	int fd = socket_for(c, SOCK_RAW, IPPROTO_RAW);
	struct endpoint to = with_port(*route_to, 0); /* a raw v6 sockaddr's port would be its protocol */
	ssize_t n;

	if (fd < 0)
		return failed(c, "raw socket");
	n = sendto(fd, packet, length, 0, (const struct sockaddr *)&to.addr, to.length);
	close(fd);
	return n < 0 ? failed(c, "raw sendto") : 0;
}

static int inject_packet(struct context *c, const uint8_t *packet, size_t length)
{
	struct sockaddr_ll to = {
		.sll_family = AF_PACKET,
		.sll_protocol = htons(is_v6(c) ? ETH_P_IPV6 : ETH_P_IP),
		.sll_ifindex = (int)c->eth0,
		.sll_halen = 6,
	};
	int fd = socket(AF_PACKET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	ssize_t n;

	if (fd < 0)
		return failed(c, "packet socket");
	memcpy(to.sll_addr, c->gateway_mac, 6);
	n = sendto(fd, packet, length, 0, (const struct sockaddr *)&to, sizeof(to));
	close(fd);
	return n < 0 ? failed(c, "packet sendto") : 0;
}

int inject_to(struct context *c, enum via via, const struct endpoint *route_to, const uint8_t *packet, size_t length)
{
	return via == VIA_RAW ? inject_raw(c, route_to, packet, length) : inject_packet(c, packet, length);
}

int inject(struct context *c, enum via via, const uint8_t *packet, size_t length)
{
	return inject_to(c, via, &c->to, packet, length);
}

int shoot(struct context *c, enum via via, const struct packet *p)
{
	uint8_t packet[2048];

	return inject(c, via, packet, build(c, p, packet));
}
