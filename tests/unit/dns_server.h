/* SPDX-License-Identifier: Apache-2.0 */
/* A DNS server for tests: answers as told, over UDP and TCP, on the test's own loop. */
#ifndef SLUICE_TEST_DNS_SERVER_H
#define SLUICE_TEST_DNS_SERVER_H

#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/loop.h"

#define TYPE_A 1
#define TYPE_CNAME 5
#define TYPE_AAAA 28
#define NXDOMAIN 3
#define SERVFAIL 2
#define MAX_ANSWER 100

struct zone_record {
	char host[64];
	uint16_t type;
	int rcode;
	bool silent, garbage, truncated; /* truncated: but over TCP */
	uint32_t ttl, cname_ttl; /* cname_ttl: the addresses are those of an alias */
	size_t count;
	uint8_t addresses[MAX_ANSWER][16];
};

static struct {
	int fd, tcp_fd;
	struct zone_record records[8];
	size_t count;
	unsigned asked, asked_tcp;
} server = {.fd = -1};

static struct zone_record *record_of(const char *host, uint16_t type)
{
	for (size_t i = 0; i < server.count; i++)
		if (!strcmp(server.records[i].host, host) && server.records[i].type == type)
			return &server.records[i];
	return NULL;
}

static struct zone_record *record_set(const char *host, uint16_t type)
{
	struct zone_record *record = record_of(host, type);

	if (!record)
		record = &server.records[server.count++];
	*record = (struct zone_record){.type = type};
	snprintf(record->host, sizeof(record->host), "%s", host);
	return record;
}

/* An answer as text: addresses, or none for NODATA. */
static struct zone_record *zone(const char *host, uint16_t type, uint32_t ttl, const char *addresses)
{
	struct zone_record *record = record_set(host, type);
	char copy[256], *rest = copy, *word;

	record->ttl = ttl;
	snprintf(copy, sizeof(copy), "%s", addresses);
	while ((word = strsep(&rest, " ")))
		if (*word)
			cr_assert_eq(inet_pton(type == TYPE_A ? AF_INET : AF_INET6, word, record->addresses[record->count++]), 1);
	return record;
}

static void zone_error(const char *host, int rcode)
{
	record_set(host, TYPE_A)->rcode = rcode;
	record_set(host, TYPE_AAAA)->rcode = rcode;
}

static uint8_t *put16(uint8_t *at, unsigned value)
{
	at[0] = (uint8_t)(value >> 8);
	at[1] = (uint8_t)value;
	return at + 2;
}

static uint8_t *put_resource(uint8_t *at, unsigned owner, unsigned type, uint32_t ttl, const void *data, unsigned length)
{
	at = put16(put16(put16(at, 0xc000 | owner), type), 1);
	at = put16(put16(put16(at, ttl >> 16), ttl & 0xffff), length);
	memcpy(at, data, length);
	return at + length;
}

/* The question's name as text; what follows it. */
static const uint8_t *question_name(char out[256], const uint8_t *at)
{
	char *to = out;

	while (*at) {
		memcpy(to, at + 1, *at);
		to += *at;
		*to++ = '.';
		at += *at + 1;
	}
	to[to == out ? 0 : -1] = 0;
	return at + 1;
}

static size_t answer(uint8_t *packet, size_t length, bool tcp)
{
	static const uint8_t alias[] = {5, 'a', 'l', 'i', 'a', 's', 0};
	char host[256];
	const uint8_t *after = question_name(host, packet + 12);
	uint16_t type = (uint16_t)(after[0] << 8 | after[1]);
	const struct zone_record *record = record_of(host, type);
	unsigned owner = 12, count = record ? (unsigned)record->count : 0;
	uint8_t *at = packet + (after + 4 - packet);

	if (record && record->silent)
		return 0;
	if (record && record->garbage) {
		memset(packet + 12, 0xc0, length);
		return length;
	}
	packet[2] = 0x81;
	packet[3] = (uint8_t)(0x80 | (record ? record->rcode : strstr(host, ".bulk") ? 0 : NXDOMAIN));
	memset(packet + 6, 0, 6);
	if (record && record->truncated && !tcp) {
		packet[2] |= 2;
		return (size_t)(at - packet);
	}
	if (count && record->cname_ttl) {
		at = put_resource(at, 12, TYPE_CNAME, record->cname_ttl, alias, sizeof(alias));
		owner = (unsigned)(at - packet - sizeof(alias));
		packet[7] = 1;
	}
	if (!record && type == TYPE_A && strstr(host, ".bulk")) {
		at = put_resource(at, owner, TYPE_A, 300, "\xc0\0\2\1", 4);
		packet[7] = 1;
	}
	for (unsigned i = 0; i < count; i++)
		at = put_resource(at, owner, type, record->ttl, record->addresses[i], type == TYPE_A ? 4 : 16);
	packet[7] = (uint8_t)(packet[7] + count);
	return (size_t)(at - packet);
}

static void serve(void *context, int fd, uint32_t events)
{
	uint8_t packet[4096];
	struct sockaddr_in from;
	socklen_t size = sizeof(from);
	ssize_t n;

	(void)context;
	(void)events;
	while ((n = recvfrom(fd, packet, 512, MSG_DONTWAIT, (struct sockaddr *)&from, &size)) > 12) {
		size_t length = answer(packet, (size_t)n, false);

		server.asked++;
		if (length)
			sendto(fd, packet, length, 0, (struct sockaddr *)&from, size);
	}
}

static struct loop *loop;

/* One query, in one segment. */
static void serve_client(void *context, int fd, uint32_t events)
{
	uint8_t packet[4096];
	ssize_t n = recv(fd, packet, 514, 0);

	(void)context;
	(void)events;
	if (n > 14) {
		size_t length = answer(packet + 2, (size_t)n - 2, true);

		server.asked_tcp++;
		put16(packet, (unsigned)length);
		cr_assert_eq(send(fd, packet, length + 2, MSG_NOSIGNAL), (ssize_t)length + 2);
	}
	loop_unwatch(loop, fd);
	close(fd);
}

static void serve_tcp(void *context, int fd, uint32_t events)
{
	(void)context;
	(void)events;
	cr_assert_eq(loop_watch(loop, accept4(fd, NULL, NULL, SOCK_CLOEXEC), EPOLLIN, serve_client, NULL), 0);
}

static void server_start(void)
{
	struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(53), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};

	server.fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	cr_assert_eq(bind(server.fd, (struct sockaddr *)&at, sizeof(at)), 0);
	cr_assert_eq(loop_watch(loop, server.fd, EPOLLIN, serve, NULL), 0);
	server.tcp_fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	cr_assert_eq(bind(server.tcp_fd, (struct sockaddr *)&at, sizeof(at)), 0);
	cr_assert_eq(listen(server.tcp_fd, 8), 0);
	cr_assert_eq(loop_watch(loop, server.tcp_fd, EPOLLIN, serve_tcp, NULL), 0);
}

static void server_stop(void)
{
	loop_unwatch(loop, server.fd);
	close(server.fd);
}

#endif
