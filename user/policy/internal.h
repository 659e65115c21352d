/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of policy/ share. */
#ifndef SLUICE_POLICY_INTERNAL_H
#define SLUICE_POLICY_INTERNAL_H

#include "policy/policy.h"

#define REGISTRY 1 /* one registry for all workloads: exportTo and Sidecar are not implemented yet */

/* Names a service answers to: its host, and for HTTP the literals of its addresses. */
struct alias {
	const char *host;
	uint32_t service; /* 0: an empty slot */
	uint16_t port;
	bool http;
};

struct interception {
	bool include_all;
	struct cidr_list include, exclude;
	struct port_list include_ports, exclude_ports;
};

struct resolver_set {
	struct cidr_list servers;
};

struct policy {
	struct arena *arena;
	const struct config *config;
	const char *root_namespace;
	struct service *services;
	size_t service_count, service_capacity;
	struct alias *aliases; /* open addressing */
	size_t alias_slots;    /* a power of two */
	struct string_list names;
	struct cidr_list own_resolvers;
	const struct egress_policy **by_age; /* oldest first */
	const struct sidecar **sidecars_by_age;
	struct interception *interceptions;  /* id - 1 */
	size_t interception_count, interception_capacity;
	struct resolver_set *resolvers;      /* id - 1 */
	size_t resolver_count, resolver_capacity;
	struct rule_set *rule_sets;          /* id - 1 */
	size_t rule_set_count, rule_set_capacity;
};

/* services.c */
void policy_add_services(struct policy *policy, struct config *config);
bool policy_is_http(enum port_protocol protocol);
bool policy_is_tls(enum port_protocol protocol);

/* find.c */
void policy_index(struct policy *policy);

#endif
