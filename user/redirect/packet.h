/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Packets of redirect/protocol.h, received and read. The redirector, which handles what workloads send, is the less trusted
 * end: whatever comes is checked here, before anyone acts on it.
 */
#ifndef SLUICE_PACKET_H
#define SLUICE_PACKET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "redirect/protocol.h"

struct packet {
	struct message head;
	char payload[MESSAGE_MAX_BYTES + 1]; /* NUL-terminated after what was received */
	size_t length;
	int fds[MESSAGE_MAX_FDS];
	size_t fd_count;
};

/* 1: a packet, its descriptors are the caller's; 0: none now; -errno: the other end is gone (-EPIPE) or talks nonsense. */
int packet_receive(int fd, struct packet *out);
/* Closes the descriptors but those that are -1. */
void packet_close(struct packet *packet);

/*
 * What the payload of a packet of that type says. False: it is none, and `out` is untouched. Pure; what is borrowed lives as
 * long as the packet. Every text ends within the packet.
 */
bool message_hello(const struct packet *packet, struct hello *out);
bool message_hello_answer(const struct packet *packet, struct hello_answer *out); /* of this protocol, with workers */
bool message_listener(const struct packet *packet, struct listener_message *out); /* one descriptor comes with it */
bool message_listener_gone(const struct packet *packet, struct listener_message *out);
bool message_workload(const struct packet *packet, struct workload_message *out, const char **strings, size_t *length);
bool message_workload_gone(const struct packet *packet, uint32_t *workload);
/* Only what the redirector can know: process, cgroup and name of the workload are for the loader to say. */
bool message_decision(const struct packet *packet, struct flow_event *out);
bool message_statistics(const struct packet *packet, struct redirector_statistics *out);
/* Why a table was refused, fit for a terminal; empty: it was accepted. */
void message_table_answer(const struct packet *packet, char out[MESSAGE_MAX_BYTES]);

struct published_name {
	const char *host;
	const uint8_t (*addresses)[16];
	size_t count;
	bool known;
	enum name_failure failure;
};
bool message_name(const struct packet *packet, struct published_name *out);
/* A DNS name in lower case, no final dot, that is no address; nothing else is looked up or remembered. */
bool message_asked_name(const struct packet *packet, struct published_name *out);
bool message_asked_name_gone(const struct packet *packet, const char **host);
bool message_ask(const struct packet *packet, struct ask_message *out, const char **host);
/* Whether `host` is a name of that form. */
bool is_asked_name(const char *host);

/* A packet of a supply socket, head included. */
bool message_want(const void *bytes, size_t length, struct want *out); /* count is at most MESSAGE_MAX_FDS */

#endif
