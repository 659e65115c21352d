// SPDX-License-Identifier: Apache-2.0
/*
 * The judge: what passes an interface beyond the pod. Prints one line for each token, and for each packet to a
 * forbidden address, once:
 *
 *	token Zq1a2b3c
 *	packet v4 PROTOCOL PORT
 */
#include <ctype.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>

#include "escape.h"

#define SEEN_MAX 65536

static uint64_t seen[SEEN_MAX];

/* True the first time. An open hash; when it is full, lines repeat. */
static bool first_time(uint64_t key)
{
	size_t at = (size_t)(key * 0x9e3779b97f4a7c15ull >> 48);

	for (size_t i = 0; i < 64; i++) {
		uint64_t *slot = &seen[(at + i) % SEEN_MAX];

		if (*slot == key)
			return false;
		if (*slot == 0) {
			*slot = key;
			return true;
		}
	}
	return true;
}

static bool is_token(const uint8_t *at)
{
	for (size_t i = sizeof(TOKEN_MAGIC) - 1; i < TOKEN_LENGTH; i++)
		if (!isalnum(at[i]))
			return false;
	return true;
}

static void find_tokens(const uint8_t *packet, size_t length)
{
	const uint8_t *at = packet, *end = packet + length;
	uint64_t key;

	while ((at = memmem(at, (size_t)(end - at), TOKEN_MAGIC, sizeof(TOKEN_MAGIC) - 1)) && end - at >= TOKEN_LENGTH) {
		memcpy(&key, at, sizeof(key));
		if (is_token(at) && first_time(key))
			printf("token %.*s\n", TOKEN_LENGTH, (const char *)at);
		at++;
	}
}

static void note_packet(bool v6, uint8_t protocol, const uint8_t *transport, const uint8_t *end)
{
	unsigned port;

	if (transport + 4 > end)
		return;
	port = (unsigned)transport[2] << 8 | transport[3];
	if (first_time((uint64_t)1 << 63 | (uint64_t)v6 << 24 | (uint64_t)protocol << 16 | port))
		printf("packet %s %u %u\n", v6 ? "v6" : "v4", protocol, port);
}

/* The transport is behind the extension headers. */
static void note_v6(uint8_t next, const uint8_t *at, const uint8_t *end)
{
	while ((next == IPPROTO_HOPOPTS || next == IPPROTO_ROUTING || next == IPPROTO_DSTOPTS) && at + 8 <= end) {
		next = at[0];
		at += 8 * (1 + at[1]);
	}
	note_packet(true, next, at, end);
}

static void find_forbidden(const uint8_t *frame, size_t length)
{
	static uint8_t v4[4], v6[16];
	const uint8_t *end = frame + length, *ip = frame + ETH_HLEN;
	unsigned type = (unsigned)frame[12] << 8 | frame[13];

	if (!v6[0]) {
		inet_pton(AF_INET, FORBIDDEN_V4, v4);
		inet_pton(AF_INET6, FORBIDDEN_V6, v6);
	}
	if (type == ETH_P_IP && length >= ETH_HLEN + 20 && memcmp(ip + 16, v4, 4) == 0)
		note_packet(false, ip[9], ip + (ip[0] & 15) * 4, end);
	if (type == ETH_P_IPV6 && length >= ETH_HLEN + 40 && memcmp(ip + 24, v6, 16) == 0)
		note_v6(ip[6], ip + 40, end);
}

int sniff_main(int argc, char **argv)
{
	static uint8_t frame[1 << 17];
	struct sockaddr_ll on = {.sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL)};
	int fd, room = 32 << 20, inbound_only = argc > 2;
	socklen_t size = sizeof(on);
	struct sockaddr_ll from;
	ssize_t n;

	if (argc < 2)
		return 2;
	fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
	on.sll_ifindex = (int)if_nametoindex(argv[1]);
	setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &room, sizeof(room));
	if (!on.sll_ifindex || bind(fd, (struct sockaddr *)&on, sizeof(on)) < 0) {
		fprintf(stderr, "escape: sniff %s: %s\n", argv[1], strerror(errno));
		return 1;
	}
	setvbuf(stdout, NULL, _IOLBF, 0);
	puts("ready");
	while ((n = recvfrom(fd, frame, sizeof(frame), 0, (struct sockaddr *)&from, &size)) >= 0) {
		size = sizeof(from);
		if (n < ETH_HLEN || (inbound_only && from.sll_pkttype == PACKET_OUTGOING))
			continue;
		find_tokens(frame, (size_t)n);
		find_forbidden(frame, (size_t)n);
	}
	return 1;
}
