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

/* How closely a rule fits a connection. */
struct l4_fit {
	bool takes;
	unsigned int prefix; /* how long the longest is that holds the address, and 1; 1: any does */
	size_t name;         /* how much the name says that covers what the client showed */
	const struct l4_match *match; /* by which it takes it; NULL: it has none, and takes every one */
};

struct l4_fit l4_rule_fit(const struct l4_route *rule, const struct l4_connection *connection);

/* Envoy's order: the longest prefix, and then the name that says most. */
bool l4_is_closer(const struct l4_fit *fit, const struct l4_fit *than);

/* The rule that fits the connection most closely, of equal ones the first; or NULL. */
const struct service_l4_route *l4_rule_find(const struct service *service, const struct l4_connection *connection);

/* The target, drawn, of that rule, or NULL: none takes it, and it goes the service's own way. */
const struct route_target *l4_route_find(const struct service *service, const struct l4_connection *connection);

#endif
