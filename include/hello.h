/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * The server name in a TLS ClientHello (RFC 8446 §4.1.2, RFC 6066 §3), from any number of records. The one parser of the
 * redirector and of the BPF programs: it asks for one byte after the other, by its place on the wire, and steps over
 * what it need not see, so that both a buffer and a packet can give them.
 *
 *	while (hello.at < size && result == CLIENT_HELLO_MORE)
 *		result = hello_byte(&hello, byte at hello.at);
 *	result = hello_result(&hello, result, size);
 */
#ifndef SLUICE_HELLO_H
#define SLUICE_HELLO_H

#include "hostname.h"

#define CLIENT_HELLO_MAX 16384 /* bytes on the wire, record headers included */
#define HELLO_NAME 256  /* room for a name; a power of two */

#define HELLO_RECORD_HEADER 5
#define HELLO_RECORD_HANDSHAKE 22
#define HELLO_RECORD_MAX 16384
#define HELLO_MESSAGE_HEADER 4
#define HELLO_MESSAGE_CLIENT_HELLO 1
#define HELLO_RANDOM 32
#define HELLO_SERVER_NAME 0 /* extension type */
#define HELLO_HOST_NAME 0   /* name type; only this one was ever defined */

enum client_hello_result {
	CLIENT_HELLO_MORE = 0,     /* incomplete */
	CLIENT_HELLO_OK = 1,       /* `name` holds the server name */
	CLIENT_HELLO_NO_NAME = 2,  /* complete, without a server name (or an empty one) */
	CLIENT_HELLO_NOT_TLS = -1, /* the first bytes are no TLS handshake record */
	CLIENT_HELLO_BAD = -2,     /* malformed, larger than CLIENT_HELLO_MAX, or a name that is no host name */
};

/* The number, or the bytes of the name, that come next in the message. */
enum hello_field {
	HELLO_TYPE,
	HELLO_LENGTH,
	HELLO_VERSION,
	HELLO_SESSION,
	HELLO_SUITES,
	HELLO_COMPRESSIONS,
	HELLO_EXTENSIONS,
	HELLO_EXTENSION_TYPE,
	HELLO_EXTENSION_LENGTH,
	HELLO_NAME_LIST,
	HELLO_NAME_TYPE,
	HELLO_NAME_LENGTH,
	HELLO_NAME_BYTES,
};

/* All zero at the start. */
struct client_hello {
	__u32 at;           /* on the wire: the next byte wanted. At the end: how long the hello is */
	__u32 header;       /* bytes read of a record's header */
	__u32 length;       /* the last of them as a number */
	__u32 record;       /* bytes left of the record */
	__u32 have;         /* bytes of the message read or stepped over */
	__u32 whole;        /* how long the message says it is; 0: not known yet */
	__u32 skip;         /* bytes of the message to step over */
	__u32 field;        /* enum hello_field */
	__u32 digits;       /* bytes read of the field */
	__u32 number;       /* their value */
	__u32 type;         /* of the extension, of the name */
	__u32 server_name;  /* where that extension ends in the message; 0: outside of it */
	__u32 has_server_name;
	__u32 has_host;
	__u32 host_size;    /* bytes of the name, a final dot included */
	struct host_name host;
	__u8 name[HELLO_NAME]; /* lower case, backwards, a final dot included */
};

/* ---- the message ---- */

SLUICE_INLINE __u32 hello_width(__u32 field)
{
	switch (field) {
	case HELLO_TYPE:
	case HELLO_SESSION:
	case HELLO_COMPRESSIONS:
	case HELLO_NAME_TYPE:
		return 1;
	case HELLO_LENGTH:
		return 3;
	default:
		return 2;
	}
}

/* Goes on to `field`, over `skip` bytes. `end`: of what holds them. */
SLUICE_INLINE int hello_next(struct client_hello *h, __u32 field, __u32 skip, __u32 end)
{
	if (skip > end - h->have)
		return CLIENT_HELLO_BAD;
	h->skip = skip;
	h->field = field;
	h->digits = 0;
	h->number = 0;
	return CLIENT_HELLO_MORE;
}

SLUICE_INLINE int hello_message_length(struct client_hello *h, __u32 length)
{
	h->whole = HELLO_MESSAGE_HEADER + length;
	/* The client waits for the answer: nothing may follow in the last record (RFC 8446 §5.1). */
	if (h->whole > CLIENT_HELLO_MAX - HELLO_RECORD_HEADER || h->record > length)
		return CLIENT_HELLO_BAD;
	return hello_next(h, HELLO_VERSION, 0, h->whole);
}

SLUICE_INLINE int hello_extension(struct client_hello *h, __u32 length)
{
	if (h->type != HELLO_SERVER_NAME)
		return hello_next(h, HELLO_EXTENSION_TYPE, length, h->whole);
	if (h->has_server_name || length > h->whole - h->have)
		return CLIENT_HELLO_BAD;
	h->has_server_name = 1;
	h->server_name = h->have + length;
	return hello_next(h, HELLO_NAME_LIST, 0, h->server_name);
}

/* After a name: another one, or the next extension. */
SLUICE_INLINE int hello_after_name(struct client_hello *h, __u32 skip)
{
	if (h->have + skip < h->server_name)
		return hello_next(h, HELLO_NAME_TYPE, skip, h->server_name);
	h->server_name = 0;
	return hello_next(h, HELLO_EXTENSION_TYPE, skip, h->whole);
}

SLUICE_INLINE int hello_name_length(struct client_hello *h, __u32 length)
{
	if (length > h->server_name - h->have)
		return CLIENT_HELLO_BAD;
	if (h->type != HELLO_HOST_NAME)
		return hello_after_name(h, length);
	if (h->has_host || length >= HELLO_NAME)
		return CLIENT_HELLO_BAD;
	h->has_host = 1;
	h->host_size = length;
	return length ? hello_next(h, HELLO_NAME_BYTES, 0, h->server_name) : hello_after_name(h, 0);
}

SLUICE_INLINE int hello_name_byte(struct client_hello *h, __u8 byte)
{
	h->name[(h->host_size - 1 - h->host.length) & (HELLO_NAME - 1)] = host_name_lower(byte);
	if (!host_name_byte(&h->host, byte))
		return CLIENT_HELLO_BAD;
	if (h->host.length < h->host_size)
		return CLIENT_HELLO_MORE;
	if (!host_name_is_whole(&h->host) || host_name_is_address(&h->host))
		return CLIENT_HELLO_BAD;
	return hello_after_name(h, 0);
}

/* A number is complete: what it means for what follows. */
SLUICE_INLINE int hello_number(struct client_hello *h, __u32 number)
{
	switch (h->field) {
	case HELLO_TYPE:
		return number == HELLO_MESSAGE_CLIENT_HELLO ? hello_next(h, HELLO_LENGTH, 0, HELLO_MESSAGE_HEADER) : CLIENT_HELLO_BAD;
	case HELLO_LENGTH:
		return hello_message_length(h, number);
	case HELLO_VERSION:
		return number >> 8 == 3 ? hello_next(h, HELLO_SESSION, HELLO_RANDOM, h->whole) : CLIENT_HELLO_BAD;
	case HELLO_SESSION:
		return number <= 32 ? hello_next(h, HELLO_SUITES, number, h->whole) : CLIENT_HELLO_BAD;
	case HELLO_SUITES:
		return number >= 2 && number % 2 == 0 ? hello_next(h, HELLO_COMPRESSIONS, number, h->whole) : CLIENT_HELLO_BAD;
	case HELLO_COMPRESSIONS:
		return number ? hello_next(h, HELLO_EXTENSIONS, number, h->whole) : CLIENT_HELLO_BAD;
	case HELLO_EXTENSIONS:
		return number == h->whole - h->have ? hello_next(h, HELLO_EXTENSION_TYPE, 0, h->whole) : CLIENT_HELLO_BAD;
	case HELLO_EXTENSION_TYPE:
		h->type = number;
		return hello_next(h, HELLO_EXTENSION_LENGTH, 0, h->whole);
	case HELLO_EXTENSION_LENGTH:
		return hello_extension(h, number);
	case HELLO_NAME_LIST:
		return number && number == h->server_name - h->have ? hello_next(h, HELLO_NAME_TYPE, 0, h->server_name)
								     : CLIENT_HELLO_BAD;
	case HELLO_NAME_TYPE:
		h->type = number;
		return hello_next(h, HELLO_NAME_LENGTH, 0, h->server_name);
	case HELLO_NAME_LENGTH:
		return hello_name_length(h, number);
	default:
		return CLIENT_HELLO_BAD;
	}
}

/* A message may end before its extensions (RFC 5246 §7.4.1.2) or after any of them. */
SLUICE_INLINE int hello_end(const struct client_hello *h)
{
	if (h->digits || (h->field != HELLO_EXTENSIONS && h->field != HELLO_EXTENSION_TYPE))
		return CLIENT_HELLO_BAD;
	return h->host_size ? CLIENT_HELLO_OK : CLIENT_HELLO_NO_NAME;
}

SLUICE_INLINE int hello_message_byte(struct client_hello *h, __u8 byte)
{
	h->have++;
	h->record--;
	if (h->field == HELLO_NAME_BYTES)
		return hello_name_byte(h, byte);
	h->number = h->number << 8 | byte;
	if (++h->digits == hello_width(h->field))
		return hello_number(h, h->number);
	/* No number crosses the end of the names; hello_end() sees to that of the message. */
	return h->server_name && h->have >= h->server_name ? CLIENT_HELLO_BAD : CLIENT_HELLO_MORE;
}

/* ---- records ---- */

SLUICE_INLINE int hello_record(struct client_hello *h, __u32 length)
{
	if (length == 0 || length > HELLO_RECORD_MAX || (h->whole && length > h->whole - h->have))
		return CLIENT_HELLO_BAD;
	h->header = 0;
	h->record = length;
	return CLIENT_HELLO_MORE;
}

SLUICE_INLINE int hello_header_byte(struct client_hello *h, __u8 byte)
{
	int wrong = h->have ? CLIENT_HELLO_BAD : CLIENT_HELLO_NOT_TLS;

	h->length = h->length << 8 | byte;
	switch (h->header++) {
	case 0:
		return byte == HELLO_RECORD_HANDSHAKE ? CLIENT_HELLO_MORE : wrong;
	case 1:
		return byte == 3 ? CLIENT_HELLO_MORE : wrong;
	case 2:
		return byte <= 4 ? CLIENT_HELLO_MORE : wrong;
	case 3:
		return CLIENT_HELLO_MORE;
	default:
		return hello_record(h, h->length & 0xffff);
	}
}

/* Takes the byte at `at`, and goes to the next one that is wanted: maybe past what there is. */
SLUICE_INLINE int hello_byte(struct client_hello *h, __u8 byte)
{
	int result = h->record ? hello_message_byte(h, byte) : hello_header_byte(h, byte);
	__u32 step = h->skip < h->record ? h->skip : h->record;

	h->at++;
	if (result != CLIENT_HELLO_MORE)
		return result;
	h->at += step;
	h->have += step;
	h->record -= step;
	h->skip -= step;
	return h->whole && h->have == h->whole ? hello_end(h) : CLIENT_HELLO_MORE;
}

/* What is known after `size` bytes on the wire, of which hello_byte() said `result` last. */
SLUICE_INLINE int hello_result(const struct client_hello *h, int result, __u32 size)
{
	if (h->at > size)
		result = CLIENT_HELLO_MORE;
	return result == CLIENT_HELLO_MORE && size >= CLIENT_HELLO_MAX ? CLIENT_HELLO_BAD : result;
}

#endif
