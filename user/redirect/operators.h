/* SPDX-License-Identifier: Apache-2.0 */
/* Envoy's command operators (config/operators.c): what they stand for while a message passes, and afterwards. */
#ifndef SLUICE_OPERATORS_H
#define SLUICE_OPERATORS_H

#include "redirect/internal.h"

/* Writes up to `room`, or not at all what does not fit. */
struct writer {
	char *out;
	size_t n, room;
	bool full;
};

void put(struct writer *w, const char *bytes, size_t n);
void put_text(struct writer *w, const char *text);
void put_number(struct writer *w, uint64_t number);
/* "ADDRESS:PORT", "[ADDRESS]:PORT", or one of both; nothing where `port` is 0. */
void put_address(struct writer *w, const uint8_t addr[16], uint16_t port, bool with_address, bool with_port);

/* A message: its head (NULL: it is not at hand), and the lines that it is given before it is sent. */
struct message_source {
	const struct http_head *head;
	const char *lines[2]; /* NULL: none; if the first is there, what the head loses is not in the message */
};

struct operator_sources {
	const struct conn *conn;
	struct message_source request, response;
	bool is_request;   /* else a connection that is relayed */
	bool has_upstream; /* conn->addr was dialled */
	uint16_t status;   /* of the response */
	uint64_t start_us; /* on the worker's clock; 0: now */
};

/*
 * `name`: an operator without its signs, `n` bytes. Nothing is written for what is not known, and for REQ and RESP:
 * those are the value of a field.
 */
void put_operator(struct writer *w, const struct operator_sources *of, const char *name, size_t n);
struct slice operator_field(const struct message_source *of, const char *name, size_t n);
bool operator_is(const char *name, size_t n, const char *what); /* with an argument or without */

#endif
