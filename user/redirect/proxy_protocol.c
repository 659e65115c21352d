// SPDX-License-Identifier: Apache-2.0
#include "redirect/proxy_protocol.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

#include "abi.h"
#include "addr.h"

/* §2.1. Both ends are of one family: an IPv4 address beside an IPv6 one is written as mapped into it. */
static size_t header_v1(unsigned char *out, bool v4, const struct end_point *from, const struct end_point *to)
{
	size_t skipped = v4 ? 12 : 0;
	char source[INET6_ADDRSTRLEN], destination[INET6_ADDRSTRLEN];
	int family = v4 ? AF_INET : AF_INET6;

	inet_ntop(family, from->addr + skipped, source, sizeof(source));
	inet_ntop(family, to->addr + skipped, destination, sizeof(destination));
	return (size_t)snprintf((char *)out, PROXY_HEADER_MAX, "PROXY TCP%c %s %s %u %u\r\n", v4 ? '4' : '6', source, destination,
				from->port, to->port);
}

static unsigned char *put(unsigned char *at, const void *bytes, size_t n)
{
	memcpy(at, bytes, n);
	return at + n;
}

static unsigned char *put_number(unsigned char *at, uint16_t number)
{
	*at++ = (unsigned char)(number >> 8);
	*at++ = (unsigned char)number;
	return at;
}

/* §2.2: version 2, command PROXY, a stream over IPv4 or IPv6. */
static size_t header_v2(unsigned char *out, bool v4, const struct end_point *from, const struct end_point *to)
{
	size_t size = v4 ? 4 : 16, skipped = 16 - size;
	unsigned char *at = put(out, "\r\n\r\n\0\r\nQUIT\n\x21", 13);

	*at++ = v4 ? 0x11 : 0x21;
	at = put_number(at, (uint16_t)(2 * size + 4));
	at = put(at, from->addr + skipped, size);
	at = put(at, to->addr + skipped, size);
	at = put_number(at, from->port);
	at = put_number(at, to->port);
	return (size_t)(at - out);
}

size_t proxy_header(unsigned char out[PROXY_HEADER_MAX], enum proxy_protocol version, const struct end_point *from,
		    const struct end_point *to)
{
	bool v4 = addr_is_v4(from->addr) && addr_is_v4(to->addr);

	return version == PROXY_PROTOCOL_V1 ? header_v1(out, v4, from, to) : header_v2(out, v4, from, to);
}
