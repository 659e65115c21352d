/* SPDX-License-Identifier: Apache-2.0 */
/* Where a tls or tcp rule of a VirtualService leads a connection (ISTIO.md §1.6). Pure. */
#ifndef SLUICE_L4_ROUTE_H
#define SLUICE_L4_ROUTE_H

#include "policy/policy.h"

struct l4_connection {
	const struct workload_identity *who;
	const char *name; /* lower case, of a TLS client; "": none was shown */
	const uint8_t *addr; /* 16 bytes: what the client dialled */
	uint16_t port;
	uint64_t draw;    /* random: settles which of several destinations */
};

/* Whether a rule takes a connection, and by which of its matches (NULL: it has none, and takes every one). */
bool l4_rule_takes(const struct l4_route *rule, const struct l4_connection *connection, const struct l4_match **match);

/* The first rule that takes the connection, or NULL. */
const struct service_l4_route *l4_rule_find(const struct service *service, const struct l4_connection *connection);

/* The target, drawn, of the first rule that takes the connection, or NULL: none takes it, and it goes the service's own way. */
const struct route_target *l4_route_find(const struct service *service, const struct l4_connection *connection);

#endif
