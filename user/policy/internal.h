/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of policy/ share. */
#ifndef SLUICE_POLICY_INTERNAL_H
#define SLUICE_POLICY_INTERNAL_H

#include "policy/policy.h"

/* Names a service answers to: its host, and for HTTP the literals of its addresses. */
struct alias {
	const char *host;
	uint32_t registry;
	uint32_t service; /* 0: an empty slot */
	uint16_t port;
	bool http;
};

/* A host and port of a ServiceEntry that workloads see. */
struct offer {
	const struct service_entry *entry;
	const struct service_host *host;
	const struct service_port *port;
};

/* The workloadSelectors of a namespace's DestinationRules, each once, older first. */
#define MAX_SELECTORS 5 /* each doubles the classes of its namespace's workloads */

struct selectors {
	const struct label_list *items[MAX_SELECTORS];
	size_t count;
};

/* What the workloads of one class or more see; its id is its index + 1. */
struct registry {
	const char *namespace_;        /* of the first class; NULL: one that no document tells apart */
	const struct sidecar *sidecar; /* of the first class, or NULL */
	struct selectors selectors;    /* of its namespace */
	uint32_t selected;             /* a bit for each of them that selects the first class */
	struct offer *offers;          /* older entries first */
	size_t offer_count, offer_capacity;
	const struct virtual_service **virtual_services; /* by precedence */
	size_t virtual_service_count;
	const struct destination_rule **rules; /* that are seen: by namespace, then by host, then older first */
	size_t rule_count;
	bool has_partial_rules; /* a host such as "*foo.com" among them */
	const struct destination_rule **chosen; /* of each offer those that are for it, and a NULL; none if there are no rules */
	size_t chosen_count, chosen_capacity;
	size_t first_service; /* its services follow each other, as the offers do */
};

struct workload_class {
	const char *namespace_;
	const struct sidecar *sidecar;
	uint32_t selected;
	uint32_t registry;
};

/* An offer that has no effect beside another one. */
struct hidden_offer {
	struct offer offer, by;
	const char *why;
};

/* A service of resolution DYNAMIC_DNS. */
struct dynamic_service {
	const char *below; /* its host without the star */
	uint32_t service;
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
	struct service_entry **entries_by_age; /* oldest first */
	struct virtual_service **virtual_services_by_age;
	struct destination_rule **rules_by_age;
	struct destination_rule **rules_by_host; /* by namespace, then by host, then older first */
	struct registry *registries;
	size_t registry_count, registry_capacity;
	struct workload_class *classes; /* the first: of all the namespaces that are not told apart */
	size_t class_count, class_capacity;
	struct hidden_offer *hidden;
	size_t hidden_count, hidden_capacity;
	struct service *services;
	size_t service_count, service_capacity;
	struct alias *aliases; /* open addressing */
	size_t alias_slots;    /* a power of two */
	bool has_partial; /* a host such as "*foo.com": a name's wildcards begin anywhere in it, not at dots alone */
	struct string_list names;
	struct dynamic_service *dynamic; /* sorted by name */
	size_t dynamic_count, dynamic_capacity;
	bool has_partial_dynamic; /* a host such as "*foo.com" among them */
	struct cidr_list own_resolvers;
	const struct workload_document **annotated; /* what is captured of them is in their annotations */
	size_t annotated_count, annotated_capacity;
	const struct egress_policy **by_age; /* oldest first */
	const struct sidecar **sidecars_by_age;
	struct interception *interceptions;  /* id - 1 */
	size_t interception_count, interception_capacity;
	struct resolver_set *resolvers;      /* id - 1 */
	size_t resolver_count, resolver_capacity;
	struct rule_set *rule_sets;          /* id - 1 */
	size_t rule_set_count, rule_set_capacity;
};

/* rules.c */
const struct sidecar *policy_sidecar_of(const struct policy *policy, const struct workload_identity *who);

/* rivals.c */
void rivals_add(struct rivals *rivals, const struct object *object, struct position at, const char *what, const char *why, ...)
	__attribute__((format(printf, 5, 6)));

/* visibility.c */
bool policy_is_exported(const struct object *object, const char *namespace_);
bool policy_is_imported(const struct sidecar *sidecar, const char *namespace_, const char *host, uint16_t port);
bool policy_imports_any_host(const struct sidecar *sidecar, const struct virtual_service *service);
int policy_nearness(const struct object *object, const char *namespace_);
const char *policy_conflict_of(const struct offer *older, const struct offer *younger);
void policy_add_registries(struct policy *policy, struct config *config);
uint32_t policy_registry_of(const struct policy *policy, const struct workload_identity *who, const struct sidecar *sidecar);

/* services.c */
void policy_add_services(struct policy *policy);
struct service *policy_append_service(struct policy *policy, uint32_t registry); /* the others may move */
const char *policy_origin_of(struct policy *policy, const struct object *object);
bool policy_is_wildcard(const char *host);
bool policy_is_http(enum port_protocol protocol);
bool policy_is_tls(enum port_protocol protocol);
bool policy_opens_http(const struct service *service); /* its port is known to speak HTTP, whatever the address */

/* subsets.c */
struct selectors policy_selectors(const struct policy *policy, const char *namespace_);
void policy_check_selectors(const struct policy *policy, struct config *config);
void policy_choose_rules(struct policy *policy, struct registry *registry);
void policy_add_destination_rules(struct policy *policy, struct config *config);

/* routes.c */
void policy_add_routes(struct policy *policy);

/* dynamic.c */
void policy_index_dynamic(struct policy *policy);

/* find.c */
void policy_index(struct policy *policy);

#endif
