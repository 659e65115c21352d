/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Walking a document by tables: for each mapping a table of the fields that may stand in it. What is wrong is
 * reported with the path walked so far; reading goes on, so that one run shows every problem.
 */
#ifndef SLUICE_CONFIG_WALK_H
#define SLUICE_CONFIG_WALK_H

#include "config/config.h"

#define CONFIG_MAX_FILE (16U << 20)
#define CONFIG_MAX_BYTES (64U << 20) /* of all files */
#define CONFIG_MAX_PROBLEMS 10000 /* kept; further ones are only counted */

struct node;

struct walk {
	struct config *config;
	const char *file;   /* in the configuration's arena */
	const char *object; /* "ServiceEntry/x" */
	char path[512];
	size_t length;
	uint32_t first_line; /* lines of the file before a document that stands within another one */
};

typedef void (*read_fn)(struct walk *walk, const struct node *node, void *out);

enum field_rule {
	FIELD_OPTIONAL,
	FIELD_REQUIRED,
	FIELD_IGNORED,
	FIELD_UNSUPPORTED, /* Istio has it, sluice not yet */
};

struct field {
	const char *name;
	read_fn read;
	size_t offset; /* of the target within `out` */
	enum field_rule rule;
};

#define UNSUPPORTED(field_name) {(field_name), NULL, 0, FIELD_UNSUPPORTED}
#define IGNORED(field_name) {(field_name), NULL, 0, FIELD_IGNORED}

struct choice {
	const char *name;
	int value; /* negative: known, but not implemented yet */
};

#define NOT_IMPLEMENTED "is not implemented yet"

void walk_problem(struct walk *walk, enum severity severity, uint32_t line, uint32_t column, const char *format, ...)
	__attribute__((format(printf, 5, 6)));
void walk_error(struct walk *walk, const struct node *node, const char *format, ...) __attribute__((format(printf, 3, 4)));
void walk_warning(struct walk *walk, const struct node *node, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
struct position walk_position(const struct walk *walk, const struct node *node);

/* The path of what is read now. Each yields the state to go back to with walk_leave(). */
size_t walk_enter(struct walk *walk, const char *field);
size_t walk_enter_key(struct walk *walk, const struct node *key); /* a name that the document chose */
size_t walk_enter_item(struct walk *walk, size_t index);
void walk_leave(struct walk *walk, size_t state);

/* Structure. A null counts as absent; a null item does not. walk_mapping: false if it is no mapping. */
bool walk_mapping(struct walk *walk, const struct node *node, const struct field *fields, size_t count, void *out);
void walk_list(struct walk *walk, const struct node *node, size_t max, read_fn read, void *out);
void walk_labels(struct walk *walk, const struct node *node, void *label_list); /* a read_fn; sorted by key */

const struct node *node_field(const struct node *mapping, const char *name); /* NULL if absent or null */
bool node_is_null(const struct node *node);
bool node_is_empty(const struct node *list); /* no item, or NULL */
const char *node_shown(struct walk *walk, const struct node *node); /* quoted for a message, cut if long */

/* Scalars, typed as Kubernetes does: numbers unquoted, strings not looking like anything else unless quoted. */
void walk_duration(struct walk *walk, const struct node *node, void *uint64_ms); /* a read_fn: from 1 ms to ten years */
void walk_duration_or_zero(struct walk *walk, const struct node *node, void *uint64_ms);
void walk_duration_of_day(struct walk *walk, const struct node *node, void *uint64_ms); /* 0 to 24 h */
bool walk_text(struct walk *walk, const struct node *node, const char **out); /* borrowed from the node */
bool walk_integer(struct walk *walk, const struct node *node, int64_t low, int64_t high, int64_t *out);
bool walk_number(struct walk *walk, const struct node *node, double *out);
bool walk_choice(struct walk *walk, const struct node *node, const char *what, const struct choice *choices, size_t count,
		 int *out);
const char *nearest_name(const char *text, const char *const *names, size_t count); /* for "did you mean"; or NULL */

/* Common values, each a read_fn on the type named. */
void read_string(struct walk *walk, const struct node *node, void *string);        /* const char * */
void read_string_or_none(struct walk *walk, const struct node *node, void *string); /* "" says none, as in protobuf */
void read_string_item(struct walk *walk, const struct node *node, void *list);    /* struct string_list */
void read_label_name(struct walk *walk, const struct node *node, void *string);    /* const char *, RFC 1123 label */
void read_label_or_none(struct walk *walk, const struct node *node, void *string); /* "" says none, as in protobuf */
void read_object_name(struct walk *walk, const struct node *node, void *string);   /* const char * */
void read_port_number(struct walk *walk, const struct node *node, void *number);   /* uint16_t */
void read_port_or_none(struct walk *walk, const struct node *node, void *number);  /* uint16_t; 0 says none */
void read_port_item(struct walk *walk, const struct node *node, void *list);       /* struct port_list */
void read_cidr_item(struct walk *walk, const struct node *node, void *list);       /* struct cidr_list */
void read_address_item(struct walk *walk, const struct node *node, void *list);    /* struct cidr_list */

enum host_form { HOST_EXACT, HOST_WILDCARD, HOST_WILDCARD_OR_ADDRESS, HOST_ANY /* also "*" */, HOST_OF_GATEWAY /* also a generated name */ };
/* A domain name in lower case without its trailing dot, in the configuration's arena. */
bool read_host(struct walk *walk, const struct node *node, enum host_form form, const char **out);
bool is_label(const char *text, size_t length); /* RFC 1123 */
const char *domain_fault(const char *text); /* why it is no domain name, or NULL */
bool host_covers(const char *wildcard, const char *host); /* "*.x" covers "a.x" and "*.a.x"; equal names too */

void config_resolve_delegates(struct config *config); /* once all documents are read */
void read_headers(struct walk *walk, const struct node *node, void *changes); /* struct header_changes */
/* With `headers` if they may be there. False: it is none. */
bool read_weighted_destination(struct walk *walk, const struct node *node, bool headers, struct route_destination *out);
void check_weights(struct walk *walk, const struct node *node, struct route_destination *items, size_t count);
void read_tls_routes(struct walk *walk, const struct node *node, void *service); /* struct virtual_service */
void read_tcp_routes(struct walk *walk, const struct node *node, void *service);
void read_http_matches(struct walk *walk, const struct node *node, void *route); /* struct http_route */
void refuse_claims(struct walk *walk, const struct node *route); /* in the matches of an http route for workloads */
void read_balancer(struct walk *walk, const struct node *node, void *balance); /* struct balance_settings */
void read_outlier(struct walk *walk, const struct node *node, void *outlier); /* struct outlier_settings */
void read_export_to(struct walk *walk, const struct node *node, void *object); /* of it: struct object */
void read_cors(struct walk *walk, const struct node *node, void *cors); /* struct http_cors */
void read_text_item(struct walk *walk, const struct node *node, void *text_matches); /* exact, prefix, suffix or regex */
bool is_header_name(const char *text); /* RFC 9110 §5.6.2 */
enum operators_of { OPERATORS_OF_REQUEST, OPERATORS_OF_RESPONSE, OPERATORS_OF_LOG };
/* Whether each % of `value` begins an operator that can be said there; `node` is named if not. */
bool check_operators(struct walk *walk, const struct node *node, const char *value, enum operators_of place);
void read_access_log(struct walk *walk, const struct node *mesh_config, struct access_log *log);
void read_flag(struct walk *walk, const struct node *node, void *flag); /* bool */
bool read_gateway_list(struct walk *walk, const struct node *node); /* whether "mesh" is among them, or there are none */

/* One per kind. `spec` is not null. */
void read_service_entry(struct walk *walk, const struct node *spec, const struct object *object);
void read_virtual_service(struct walk *walk, const struct node *spec, const struct object *object);
void read_operator(struct walk *walk, const struct node *spec, const struct object *object);
void read_config_map(struct walk *walk, const struct node *data, const struct object *object);
/* Lists in strings, each into a struct egress_policy. */
void read_include_ranges(struct walk *walk, const struct node *node, void *settings);
void read_exclude_ranges(struct walk *walk, const struct node *node, void *settings);
void read_include_port_list(struct walk *walk, const struct node *node, void *settings);
void read_exclude_port_list(struct walk *walk, const struct node *node, void *settings);
bool is_capture_annotation(const char *name); /* traffic.sidecar.istio.io/... */
void read_capture_annotation(struct walk *walk, const struct node *name, const struct node *value, struct egress_policy *out);
void read_retries(struct walk *walk, const struct node *node, void *retries); /* struct http_retries */
void check_server_tls(struct walk *walk, const struct node *node, void *has_tls);    /* bool; of inbound traffic */
void check_pings(struct walk *walk, const struct node *node, void *out);             /* http2KeepAlive */
void check_inbound_pool(struct walk *walk, const struct node *node, void *has_http); /* bool */
void read_sidecar(struct walk *walk, const struct node *spec, const struct object *object);
bool read_endpoint_fields(struct walk *walk, const struct node *node, struct endpoint *out); /* false: it is none */
bool is_unix_address(const char *address);
void check_unix_address(struct walk *walk, const struct node *node, struct endpoint *endpoint); /* what it says is allowed: endpoint->socket */
void config_resolve_selectors(struct config *config); /* once all documents are read */
void config_advise(struct config *config); /* while delegates are as they were read, and nothing is wrong */
void config_check_credentials(struct config *config);
void read_workload_entry(struct walk *walk, const struct node *spec, const struct object *object);
void read_destination_rule(struct walk *walk, const struct node *spec, const struct object *object);
void read_workload(struct walk *walk, const struct node *spec, const struct object *object);
void read_egress_policy(struct walk *walk, const struct node *spec, const struct object *object);

#endif
