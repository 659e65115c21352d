/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Policy: a validated configuration compiled into services, rule sets and map images. Pure data: no kernel, no
 * clock, no sockets. The loader and the redirector compile the same documents with this code and get the same
 * service ids. Borrowed pointers point into the `struct config`, which must outlive the policy.
 */
#ifndef SLUICE_POLICY_H
#define SLUICE_POLICY_H

#include "config/config.h"

/* Where one upstream connection of a service may go. */
struct upstream_target {
	const char *host;  /* a name to resolve, or NULL: `addr` */
	const char *socket; /* path of a Unix socket, or NULL */
	uint8_t addr[16];  /* of a Unix socket: what tells it from others */
	uint16_t port;     /* host order; 0 of a Unix socket, and of nothing else */
	uint32_t weight;
	const struct label_list *labels; /* of the endpoint, or NULL */
};

/* Where a route leads, drawn by weight. */
struct route_target {
	uint32_t service; /* id; 0: not registered (503) */
	uint32_t weight;
	const struct route_destination *destination;
	struct header_changes headers; /* the destination's, then the rule's */
};

/* An http rule as it is for one service. */
struct service_route {
	const struct http_route *rule;
	const struct route_target *targets; /* none of a rule that answers by itself */
	size_t target_count;
	uint64_t weights; /* their sum */
	const uint32_t *mirrors; /* of rule->mirrors: services; 0: not registered */
};

/* The same of a tls or tcp rule. */
struct service_l4_route {
	const struct l4_route *rule;
	const struct virtual_service *owner;
	const struct route_target *targets;
	size_t target_count;
	uint64_t weights;
};

/* One (host, port) of a ServiceEntry, or a VirtualService host on port 80 that no entry registers. */
struct service {
	uint32_t id;       /* from 1: key of the catalog; index + 1 in policy->services */
	uint32_t registry; /* from 1: of the workloads that know it */
	const char *host;  /* lower case; "*.x" when `wildcard` */
	bool wildcard;
	uint16_t port;     /* what clients dial */
	enum port_protocol protocol;
	uint32_t flags;    /* enum sluice_service_flags */
	enum resolution resolution;
	uint16_t target_port;                  /* dialled port where there is no target list (NONE) */
	const struct upstream_target *targets; /* none with resolution NONE: the original destination */
	size_t target_count;
	const struct cidr *addresses;          /* where clients dial it besides its resolved addresses */
	size_t address_count;
	const struct service_route *routes;    /* of a VirtualService, in their order; none: straight to the service itself */
	size_t route_count;
	const struct service_l4_route *l4_routes; /* of a TLS or TCP service: tls or tcp rules */
	size_t l4_route_count;
	const struct http_route *connection_fault; /* its faults are for connections, of a TLS service; NULL: none */
	const struct virtual_service *virtual_service; /* that is for its host, whatever rules it has; or NULL */
	const char *origin;                    /* "file:line ServiceEntry/name" */
	const struct service_entry *entry;     /* NULL: a VirtualService host that nobody registers */
	bool one_address;                      /* DNS_ROUND_ROBIN: only the first answer counts */
	const char *subset;                    /* NULL: the whole service. A subset is found by routes only */
	uint32_t next_subset;                  /* id of another one of the same service; 0: none */
	struct traffic_policy policy;          /* of DestinationRules, for its port */
	const struct destination_rule *rule;   /* that says it; NULL: none does */
	const struct destination_rule *const *rules; /* all that are for it, to a NULL; or NULL */
	struct position subset_at;
};

/* A client's bytes go on in TLS. */
static inline bool service_originates(const struct service *service)
{
	return service->policy.tls.mode != TLS_DISABLE && service->protocol != PROTOCOL_UDP;
}

/* sluice dials where the client did. */
static inline bool service_keeps_destination(const struct service *service)
{
	return service->resolution == RESOLUTION_NONE || service->policy.balance.way == BALANCE_PASSTHROUGH;
}

/* Its one target is the name that the client shows, which is resolved then. */
static inline bool service_is_dynamic(const struct service *service)
{
	return service->resolution == RESOLUTION_DYNAMIC_DNS;
}

/*
 * In place of an address: the same for the same path in every generation, and no other path's, so that it is safe to go by it
 * where paths are not known or not believed.
 */
void socket_identity(uint8_t out[16], const char *path);

/* The path of the service's Unix socket of that identity, or NULL. */
const char *service_socket(const struct service *service, const uint8_t identity[16]);

#define CONNECT_TIMEOUT_MS 10000 /* Istio's */

static inline uint64_t connect_timeout_of(const struct service *service, const struct mesh *mesh)
{
	uint64_t own = service ? service->policy.pool.connect_timeout_ms : 0;

	return own ? own : mesh && mesh->connect_timeout_ms ? mesh->connect_timeout_ms : CONNECT_TIMEOUT_MS;
}

struct workload_identity {
	const char *namespace_; /* "" for the node's default workload (0) */
	const char *name;
	const struct label *labels;
	size_t label_count;
};

const struct cidr *cidrs_longest(const struct cidr_list *list, const uint8_t addr[16]); /* that holds it; NULL: none does */
bool cidrs_hold(const struct cidr_list *list, const uint8_t addr[16]);
bool workload_has_labels(const struct workload_identity *who, const struct label_list *wanted);

struct policy;

struct policy_options {
	const char *root_namespace;
	const uint8_t (*resolvers)[16]; /* of sluice's own resolv.conf; copied */
	size_t resolver_count;
};

/* Compiles `config`, which has no errors. Problems found only now (conflicts) are added to config; NULL if any. */
struct policy *policy_compile(struct config *config, const struct policy_options *options);
void policy_free(struct policy *policy); /* accepts NULL */

size_t policy_service_count(const struct policy *policy);
const struct service *policy_service(const struct policy *policy, uint32_t id); /* NULL if there is none */

/*
 * The service that `host` (any case, a trailing dot allowed, no port) names on `port`, for workloads of
 * `registry`: exact, else the longest wildcard; NULL if none. HTTP services if `http`, else TLS ones.
 */
const struct service *policy_find(const struct policy *policy, uint32_t registry, const char *host, size_t length,
				  uint16_t port, bool http);

/* What the image says of a port, as far as verdict_speaks_http() asks. */
uint32_t policy_port_flags(const struct policy *policy, uint32_t registry, uint16_t port);

/* The one that it would be without `service`, which one of these two found; NULL if none. */
const struct service *policy_find_after(const struct policy *policy, uint32_t registry, const char *host, size_t length,
					uint16_t port, bool http, const struct service *service);

/*
 * The rule set of a workload; equal ones share an id (from 1). May add a rule set: then policy_image_build()
 * must run again before the kernel learns of it. `*out` is borrowed until the next call. Never fails.
 */
uint32_t policy_rule_set(struct policy *policy, const struct workload_identity *who, const struct rule_set **out);
const struct rule_set *policy_rule_set_get(const struct policy *policy, uint32_t id); /* NULL if there is none */

/* The longest of the rule set's excludeCIDRs that holds `addr`, with its place; NULL if none does. */
const struct cidr *policy_excluded(const struct policy *policy, const struct rule_set *rules, const uint8_t addr[16]);

/* Every name the policy's services must resolve, each once, lower case. */
const struct string_list *policy_names(const struct policy *policy);

/* The services of resolution DYNAMIC_DNS whose wildcard `host` (lower case, no final dot) is below, of all registries. */
void policy_each_dynamic(const struct policy *policy, const char *host,
			 void (*visit)(void *context, const struct service *service), void *context);
/* Whether workloads of `rules` (NULL: of any) may have such a name resolved; in ALLOW_ANY_DYNAMIC_DNS they may have any. */
bool policy_resolves(const struct policy *policy, const struct rule_set *rules, const char *host);
/* ---- for `explain`: what decided, and what else was there and lost ---- */

struct settled {
	const struct object *object; /* NULL: nothing says it */
	struct position at;
};

struct rival {
	const struct object *object;
	struct position at;
	const char *what; /* it wanted to decide */
	const char *why;  /* it does not */
};

struct rivals {
	struct arena *arena;
	struct rival *items;
	size_t count, capacity;
};

/* Who says what of a workload, and those who had said it before. */
void policy_settings_of(const struct policy *policy, const struct workload_identity *who, struct settled by[SETTING_COUNT],
			struct rivals *overruled);

/* A destination that was asked about. */
struct asked {
	const char *host;    /* lower case */
	const uint8_t *addr; /* 16 bytes, where `host` is its literal; else NULL */
	uint16_t port;
	bool is_udp;
	bool is_named, is_http;      /* looked for by the Host, or the server name, that a client shows */
	const struct service *found; /* what it goes by, or NULL */
};

void policy_other_sidecars(const struct policy *policy, const struct workload_identity *who, struct rivals *out);
void policy_other_entries(const struct policy *policy, const struct workload_identity *who, const struct asked *asked,
			  struct rivals *out);
void policy_other_virtual_services(const struct policy *policy, const struct workload_identity *who, const struct asked *asked,
				   struct rivals *out);
void policy_other_destination_rules(const struct policy *policy, const struct workload_identity *who, const struct service *service,
				    struct rivals *out);

/* ---- map images ---- */

/* Current addresses of a name. `*count` 0: none known (yet). */
typedef const uint8_t (*(*names_lookup)(void *context, const char *host, size_t *count))[16];

/* A name that clients have shown below a wildcard of resolution DYNAMIC_DNS, and where it is. Borrowed. */
struct asked_name {
	const char *host;
	const uint8_t (*addresses)[16];
	const uint8_t (*former)[16];
	size_t count, former_count;
};

struct asked_names {
	const struct asked_name *items;
	size_t count;
};

struct cidr_item { struct cidr_key key; struct cidr_value value; };
struct service_item { struct service_key key; struct service_value value; };
struct port_item { struct port_key key; struct port_value value; };
struct name_item { struct name_key key; struct name_value value; };
struct rule_set_item { uint32_t key; struct rule_set value; };
struct catalog_item { uint32_t key; struct catalog_value value; };

/* The contents of one generation's inner maps (but `assignments`), each sorted by key bytes without duplicates. */
struct image {
	struct cidr_item *intercept; size_t intercept_count, intercept_capacity;
	struct cidr_item *bypass; size_t bypass_count, bypass_capacity;
	struct service_item *services; size_t service_count, service_capacity;
	struct port_item *ports; size_t port_count, port_capacity;
	struct name_item *names; size_t name_count, name_capacity;
	struct rule_set_item *rule_sets; size_t rule_set_count, rule_set_capacity;
	struct catalog_item *catalog; size_t catalog_count, catalog_capacity;
};

/*
 * Builds the image for the addresses known now, with the canary's rule set. `asked` may be NULL: none. Never fails; free
 * with image_free().
 */
struct image *policy_image_build(const struct policy *policy, names_lookup lookup, names_lookup former, void *context,
				 const struct asked_names *asked);
void image_free(struct image *image); /* accepts NULL */

#endif
