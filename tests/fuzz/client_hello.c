// SPDX-License-Identifier: Apache-2.0
/*
 * ClientHello: the wire bytes of a client. A prefix may leave the answer open, but an answer once given stays; a name is
 * a host name, and the one that a second, slower reader finds.
 */
#include <ctype.h>

#include "fuzz.h"
#include "redirect/client_hello.h"
#include "redirect/host_name.h"

#define CUTS 16 /* places where the input is cut */

static enum client_hello_result parse_prefix(char name[256], const uint8_t *bytes, size_t n)
{
	struct feed feed = {bytes, n};
	uint8_t *copy = feed_copy(&feed, n, &n);
	enum client_hello_result result = client_hello_parse(name, copy, n);

	free(copy);
	return result;
}

/* ---- the slow reader: all records into one buffer, then fields by their offsets ---- */

static uint8_t message[CLIENT_HELLO_MAX * 2];
static size_t message_length;

static size_t number(size_t at, size_t width)
{
	size_t value = 0;

	for (size_t i = 0; i < width; i++)
		value = value << 8 | (at + i < message_length ? message[at + i] : 0);
	return value;
}

static void join_records(const uint8_t *bytes, size_t n)
{
	message_length = 0;
	for (size_t at = 0; at + 5 <= n && bytes[at] == 22 && message_length < CLIENT_HELLO_MAX;) {
		size_t length = (size_t)bytes[at + 3] << 8 | bytes[at + 4];

		at += 5;
		for (size_t i = 0; i < length && at < n && message_length < sizeof(message); i++)
			message[message_length++] = bytes[at++];
	}
}

/* Where the server name stands in `message`; 0: none. */
static size_t find_name(size_t *length)
{
	size_t at = 4 + 2 + 32, end;

	at += 1 + number(at, 1);
	at += 2 + number(at, 2);
	at += 1 + number(at, 1);
	end = at + 2 + number(at, 2);
	for (at += 2; at + 4 <= end; at += 4 + number(at + 2, 2)) {
		if (number(at, 2))
			continue;
		for (size_t one = at + 6, last = at + 4 + number(at + 2, 2); one + 3 <= last; one += 3 + number(one + 1, 2)) {
			if (number(one, 1))
				continue;
			*length = number(one + 1, 2);
			return one + 3;
		}
		return 0;
	}
	return 0;
}

static void check_name(const char *name, const uint8_t *bytes, size_t n)
{
	size_t length = 0, at, shown = strlen(name);

	CHECK(host_name_valid(name, shown) && name[shown - 1] != '.', "\"%s\"", name);
	join_records(bytes, n);
	at = find_name(&length);
	CHECK(at, "\"%s\" was found where there is none", name);
	if (length && message[at + length - 1] == '.')
		length--;
	CHECK(length == shown, "\"%s\" has %zu bytes", name, length);
	for (size_t i = 0; i < length; i++)
		CHECK(tolower(message[at + i]) == name[i], "\"%s\" differs at %zu", name, i);
}

static void check_prefix(const uint8_t *bytes, size_t n, enum client_hello_result whole, const char *name)
{
	char shorter[256] = "";
	enum client_hello_result result = parse_prefix(shorter, bytes, n);

	CHECK(result == CLIENT_HELLO_MORE || result == whole, "%zu bytes: %d, all: %d", n, result, whole);
	CHECK(result != CLIENT_HELLO_OK || !strcmp(shorter, name), "%zu bytes: \"%s\", all: \"%s\"", n, shorter, name);
}

/* The first byte: 255 goes on with zeros past the bound; else it shifts the cuts. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static uint8_t wire[CLIENT_HELLO_MAX + 512];
	struct feed feed = {data, size};
	uint8_t seed = feed_byte(&feed);
	enum client_hello_result whole;
	char name[256] = "";
	size_t n = feed.n < sizeof(wire) ? feed.n : sizeof(wire), step;

	memcpy(wire, feed.p, n);
	if (seed == 255) {
		memset(wire + n, 0, sizeof(wire) - n);
		n = sizeof(wire);
	}
	whole = parse_prefix(name, wire, n);
	CHECK(whole != CLIENT_HELLO_MORE || n < CLIENT_HELLO_MAX, "%zu bytes are still not enough", n);
	if (whole == CLIENT_HELLO_OK)
		check_name(name, wire, n);
	step = n / CUTS + 1;
	for (size_t cut = seed % step; cut < n; cut += step)
		check_prefix(wire, cut, whole, name);
	return 0;
}
