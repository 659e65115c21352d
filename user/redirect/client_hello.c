// SPDX-License-Identifier: Apache-2.0
#include "redirect/client_hello.h"

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "redirect/host_name.h"

#define RECORD_HEADER 5
#define RECORD_HANDSHAKE 22
#define RECORD_MAX 16384
#define MESSAGE_HEADER 4
#define MESSAGE_CLIENT_HELLO 1
#define EXTENSION_SERVER_NAME 0
#define NAME_TYPE_HOST 0

/* Bytes left of a structure; a read past its end takes nothing and marks it broken. */
struct input {
	const uint8_t *p;
	size_t n;
	bool broken;
};

static struct input take(struct input *in, size_t n)
{
	struct input part = { .p = in->p, .n = n };

	if (n > in->n) {
		in->broken = true;
		in->n = 0;
		return (struct input){ .p = in->p, .broken = true };
	}
	in->p += n;
	in->n -= n;
	return part;
}

static size_t take_number(struct input *in, size_t width)
{
	struct input bytes = take(in, width);
	size_t number = 0;

	for (size_t i = 0; i < bytes.n; i++)
		number = number << 8 | bytes.p[i];
	return number;
}

/* A vector: its length in `width` bytes, then so many bytes (RFC 8446 §3.4). */
static struct input take_vector(struct input *in, size_t width)
{
	return take(in, take_number(in, width));
}

/* An address is no name (RFC 6066 §3), nor are its short forms that resolvers take: their last label is a number. */
static bool is_address(const char *name, size_t n)
{
	size_t digits = 0;

	while (digits < n && name[n - 1 - digits] >= '0' && name[n - 1 - digits] <= '9')
		digits++;
	return digits && (digits == n || name[n - 1 - digits] == '.');
}

static enum client_hello_result read_host(char name[256], struct input host)
{
	size_t n = host.n;

	if (n == 0)
		return CLIENT_HELLO_NO_NAME;
	if (!host_name_valid((const char *)host.p, n))
		return CLIENT_HELLO_BAD;
	if (host.p[n - 1] == '.')
		n--;
	if (is_address((const char *)host.p, n))
		return CLIENT_HELLO_BAD;
	for (size_t i = 0; i < n; i++)
		name[i] = (char)(host.p[i] >= 'A' && host.p[i] <= 'Z' ? host.p[i] | 0x20 : host.p[i]);
	name[n] = '\0';
	return CLIENT_HELLO_OK;
}

/* A list of names of different types; only host_name was ever defined. */
static enum client_hello_result read_server_name(char name[256], struct input data)
{
	struct input list = take_vector(&data, 2), host = { 0 };
	bool found = false;

	if (data.broken || data.n || list.n == 0)
		return CLIENT_HELLO_BAD;
	while (list.n) {
		size_t type = take_number(&list, 1);
		struct input entry = take_vector(&list, 2);

		if (list.broken || (type == NAME_TYPE_HOST && found))
			return CLIENT_HELLO_BAD;
		if (type == NAME_TYPE_HOST) {
			host = entry;
			found = true;
		}
	}
	return read_host(name, host);
}

static enum client_hello_result read_extensions(char name[256], struct input list)
{
	struct input server_name = { 0 };
	bool found = false;

	while (list.n) {
		size_t type = take_number(&list, 2);
		struct input data = take_vector(&list, 2);

		if (list.broken || (type == EXTENSION_SERVER_NAME && found))
			return CLIENT_HELLO_BAD;
		if (type == EXTENSION_SERVER_NAME) {
			server_name = data;
			found = true;
		}
	}
	return found ? read_server_name(name, server_name) : CLIENT_HELLO_NO_NAME;
}

/* The body of a whole ClientHello (RFC 8446 §4.1.2; RFC 5246 §7.4.1.2 lets the extensions be absent). */
static enum client_hello_result read_hello(char name[256], struct input hello)
{
	struct input session, suites, compressions, extensions;
	size_t version = take_number(&hello, 2);

	take(&hello, 32); /* random */
	session = take_vector(&hello, 1);
	suites = take_vector(&hello, 2);
	compressions = take_vector(&hello, 1);
	if (hello.broken || version >> 8 != 3 || session.n > 32 || suites.n < 2 || suites.n % 2 || compressions.n == 0)
		return CLIENT_HELLO_BAD;
	if (hello.n == 0)
		return CLIENT_HELLO_NO_NAME;
	extensions = take_vector(&hello, 2);
	if (hello.broken || hello.n)
		return CLIENT_HELLO_BAD;
	return read_extensions(name, extensions);
}

/* What the bytes of a record header that are there say; MORE if all of them may be right. */
static enum client_hello_result check_record_header(const uint8_t *p, size_t n, bool first)
{
	enum client_hello_result wrong = first ? CLIENT_HELLO_NOT_TLS : CLIENT_HELLO_BAD;
	size_t length;

	if (n > 0 && p[0] != RECORD_HANDSHAKE)
		return wrong;
	if (n > 1 && p[1] != 3)
		return wrong;
	if (n > 2 && p[2] > 4)
		return wrong;
	if (n < RECORD_HEADER)
		return CLIENT_HELLO_MORE;
	length = (size_t)p[3] << 8 | p[4];
	return length == 0 || length > RECORD_MAX ? CLIENT_HELLO_BAD : CLIENT_HELLO_MORE;
}

enum client_hello_result client_hello_parse(char name[256], const unsigned char *bytes, size_t n)
{
	struct input wire = { .p = bytes, .n = n < CLIENT_HELLO_MAX ? n : CLIENT_HELLO_MAX };
	enum client_hello_result incomplete = n < CLIENT_HELLO_MAX ? CLIENT_HELLO_MORE : CLIENT_HELLO_BAD;
	uint8_t message[CLIENT_HELLO_MAX];
	size_t have = 0, declared = 0, whole = MESSAGE_HEADER;

	while (declared < whole) {
		enum client_hello_result wrong = check_record_header(wire.p, wire.n, have == 0);
		struct input fragment;
		size_t length;

		if (wrong != CLIENT_HELLO_MORE)
			return wrong;
		if (wire.n < RECORD_HEADER)
			return incomplete;
		take(&wire, 3);
		length = take_number(&wire, 2);
		declared += length;
		fragment = take(&wire, length < wire.n ? length : wire.n);
		memcpy(message + have, fragment.p, fragment.n);
		have += fragment.n;
		if (have && message[0] != MESSAGE_CLIENT_HELLO)
			return CLIENT_HELLO_BAD;
		if (have >= MESSAGE_HEADER)
			whole = MESSAGE_HEADER + ((size_t)message[1] << 16 | (size_t)message[2] << 8 | message[3]);
		if (whole > CLIENT_HELLO_MAX - RECORD_HEADER)
			return CLIENT_HELLO_BAD;
		/* the client waits for the answer: nothing may follow in the last record (RFC 8446 §5.1) */
		if (have >= MESSAGE_HEADER && declared > whole)
			return CLIENT_HELLO_BAD;
		if (fragment.n < length)
			return incomplete;
	}
	return read_hello(name, (struct input){ .p = message + MESSAGE_HEADER, .n = whole - MESSAGE_HEADER });
}
