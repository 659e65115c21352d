/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Configuration: YAML documents in, typed and validated objects out, each value with the place it came from.
 * Everything of a `struct config` lives in its arena and dies with config_free(). Strings are NUL-terminated
 * and hold no other NUL. Optional fields say how absence is shown.
 */
#ifndef SLUICE_CONFIG_H
#define SLUICE_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "abi.h"
#include "base/memory.h"
#include "base/pattern.h"

struct position {
	const char *file; /* as it is shown to the operator */
	uint32_t line;    /* from 1 */
	uint32_t column;  /* from 1 */
};

struct string_list {
	const char **items;
	size_t count;
	size_t capacity;
};

struct label {
	const char *key;
	const char *value;
};

struct label_list {
	struct label *items;
	size_t count;
	size_t capacity;
};

/* A CIDR in canonical form; `bits` counts within the 128-bit address (IPv4 /24 is 120). Host bits are cleared. */
struct cidr {
	uint8_t addr[16];
	uint8_t bits;
	struct position at;
};

struct cidr_list {
	struct cidr *items;
	size_t count;
	size_t capacity;
};

struct egress_policy;

struct object {
	const char *kind;       /* "ServiceEntry" */
	const char *name;
	const char *namespace_; /* metadata.namespace, "default" if absent */
	int64_t created;        /* metadata.creationTimestamp in unix seconds; INT64_MAX if absent (file order decides) */
	uint32_t order;         /* position in the configuration: path, then document */
	struct position at;
	bool has_waypoint;            /* label istio.io/use-waypoint */
	bool connection_fault;        /* annotation sluice.dev/connection-fault: "true", of a VirtualService */
	struct egress_policy *capture; /* annotations traffic.sidecar.istio.io/..., of a Workload; NULL: none */
	struct string_list export_to; /* the only namespaces that see it; none given: all do; "~": nobody does */
};

/* ---- ServiceEntry (networking.istio.io) ---- */

enum port_protocol {
	PROTOCOL_HTTP, PROTOCOL_HTTP2, PROTOCOL_GRPC, PROTOCOL_GRPC_WEB, PROTOCOL_HTTP_PROXY, PROTOCOL_HTTPS, PROTOCOL_TLS,
	PROTOCOL_TCP, PROTOCOL_MONGO, PROTOCOL_REDIS, PROTOCOL_MYSQL, PROTOCOL_UDP,
	PROTOCOL_UNSET, /* told from what clients send */
};

enum resolution {
	RESOLUTION_NONE, RESOLUTION_STATIC, RESOLUTION_DNS, RESOLUTION_DNS_ROUND_ROBIN,
	RESOLUTION_DYNAMIC_DNS, /* what clients name below a wildcard, when they do */
};

struct service_port {
	uint16_t number;
	uint16_t target_port; /* 0: absent */
	const char *name;
	enum port_protocol protocol;
	struct position at;
};

struct endpoint_port {
	const char *name; /* of a service port */
	uint16_t number;
};

struct endpoint {
	const char *address; /* an IP literal; with DNS, a host name; with STATIC, perhaps a Unix socket */
	const char *socket;  /* of a Unix socket: its path, else NULL */
	bool is_ip;
	uint8_t ip[16];      /* when is_ip, canonical */
	struct endpoint_port *ports;
	size_t port_count;
	size_t port_capacity;
	uint32_t weight;     /* default 1 */
	struct label_list labels;
	struct position at;
};

struct service_host {
	const char *name; /* lower case; may start with "*." */
	struct position at;
};

struct service_entry {
	struct object object;
	struct service_host *hosts;
	size_t host_count, host_capacity;
	struct cidr_list addresses;
	struct service_port *ports;
	size_t port_count, port_capacity;
	struct endpoint *endpoints;
	size_t endpoint_count, endpoint_capacity;
	enum resolution resolution;
	bool mesh_internal; /* location: MESH_INTERNAL */
	bool has_selector;  /* then the endpoints are the WorkloadEntries with these labels */
	struct label_list selector;
	struct string_list alt_names;
};

/* ---- WorkloadEntry (networking.istio.io) ---- */

struct workload_entry {
	struct object object;
	struct endpoint endpoint;
};

/* ---- VirtualService (networking.istio.io) ---- */

struct fault_delay {
	bool present;
	uint64_t fixed_ms;
	double percent; /* 0 to 100; 0 if neither percentage nor percent is given (Istio) */
	struct position at;
};

struct fault_abort {
	bool present;
	uint16_t http_status; /* of grpcStatus: what a client that speaks no gRPC is told */
	bool is_grpc;
	uint8_t grpc_status;  /* of grpcStatus */
	double percent;
	struct position at;
};

struct header_ops {
	bool of_request;         /* else of the response */
	struct string_list drop; /* names, in any case: what the message loses */
	const char *lines;       /* "Name: value\r\n" and so on: what it gets, with Envoy's variables (%NAME%) and %% for % */
	size_t set_length;       /* of those at the start, that `set` gives; behind them are those of `add` */
	const char *authority;   /* that a request gets, as it stands; NULL: it keeps its own */
};

/* Of Envoy's operator at the start of `text`, with both its signs; 2: "%%"; 0: it is none. */
size_t operator_length(const char *text);

struct header_changes {
	bool present;
	struct header_ops request, response;
};

enum text_rule { TEXT_ANY /* not asked for */, TEXT_PRESENT, TEXT_EXACT, TEXT_PREFIX, TEXT_SUFFIX, TEXT_REGEX };

struct text_match {
	const char *name; /* of a header (any case) or of a parameter; else NULL */
	enum text_rule rule;
	const char *text;
	size_t length;
	const struct pattern *pattern; /* TEXT_REGEX */
};

struct text_matches {
	struct text_match *items;
	size_t count, capacity;
};

/* All of it must hold. */
struct http_match {
	const char *name; /* NULL: absent */
	struct text_match uri, scheme, method, authority;
	struct text_matches headers, without, params;
	bool ignore_case;             /* of uri.exact and uri.prefix */
	bool never;                   /* gateways: without "mesh" */
	uint16_t port;                /* that the client dialled; 0: any */
	struct label_list source_labels;
	const char *source_namespace; /* NULL: any */
	struct position at;
};

struct route_destination {
	const char *host;   /* lower case */
	uint16_t port;      /* 0: absent */
	const char *subset; /* NULL: absent */
	uint32_t weight;
	struct header_changes headers;
	struct position at;
};

/* Of retryOn. */
enum retry_condition {
	RETRY_CONNECT = 1,      /* connect-failure */
	RETRY_RESET = 2,        /* reset: no answer, whatever the reason */
	RETRY_UNSENT = 4,       /* reset-before-request */
	RETRY_5XX = 8,
	RETRY_GATEWAY = 16,     /* gateway-error: 502, 503, 504, or no answer */
	RETRY_409 = 32,         /* retriable-4xx */
	RETRY_RATE_LIMITED = 64, /* envoy-ratelimited */
	RETRY_STATUS = 128,     /* one of `statuses` */
	RETRY_REFUSED = 256,    /* refused-stream: of HTTP/2, which the server has not acted on */
	RETRY_CANCELLED = 512,  /* this and the others: the status of a gRPC answer without messages */
	RETRY_DEADLINE = 1024,
	RETRY_INTERNAL = 2048,
	RETRY_EXHAUSTED = 4096,
	RETRY_UNAVAILABLE = 8192,
	RETRY_GRPC = RETRY_CANCELLED | RETRY_DEADLINE | RETRY_INTERNAL | RETRY_EXHAUSTED | RETRY_UNAVAILABLE,
};

/* Of Istio's default; to it belong statuses, of which there are none. */
#define RETRY_DEFAULT (RETRY_CONNECT | RETRY_REFUSED | RETRY_UNAVAILABLE | RETRY_CANCELLED)

#define RETRY_STATUSES 600

struct http_retries {
	bool present;
	uint32_t attempts;        /* beyond the first try; 0: none */
	uint64_t per_try_ms;      /* 0: absent */
	uint64_t backoff_ms;      /* 0: absent */
	bool has_on;
	const char *on_text;      /* retryOn as it is written; NULL: absent */
	uint32_t on;              /* enum retry_condition; Istio's default if retryOn is absent */
	uint8_t statuses[RETRY_STATUSES / 8]; /* a bit for each that is tried again */
	bool has_remote, remote;  /* retryRemoteLocalities */
	bool has_ignore, ignore_previous;
	struct position at;
};

struct http_redirect {
	bool present;
	const char *uri, *prefix_rewrite, *authority, *scheme; /* NULL: absent */
	uint16_t port;                                          /* 0: absent */
	bool derive_port, port_of_request;                      /* derivePort; FROM_REQUEST_PORT */
	uint16_t code;                                          /* 301 if absent */
	struct position at;
};

struct http_direct_response {
	bool present;
	uint16_t status;
	const char *body; /* any bytes; "" if absent */
	size_t length;
	struct position at;
};

struct http_rewrite {
	bool present;
	const char *uri, *authority; /* NULL: absent */
	const struct rewriter *regex; /* uriRegexRewrite; NULL: absent */
	struct position at;
};

struct http_cors {
	bool present;
	struct text_matches origins;
	bool ignores_unmatched;            /* a preflight of another origin is answered, without a word of it */
	const char *preflight, *response;  /* lines for an origin that is allowed */
};

#define MAX_MIRRORS 16

/* A copy of the request goes there; nobody waits for the answer. */
struct http_mirror {
	struct route_destination destination;
	double percent;
};

struct http_route {
	const char *name; /* NULL: absent */
	const char *delegate, *delegate_namespace; /* only while documents are read; the namespace NULL: the own one */
	struct http_match *matches; /* one of them must hold; none: it takes every request */
	size_t match_count, match_capacity;
	struct http_direct_response direct;
	struct http_rewrite rewrite;
	struct http_cors cors;
	struct http_redirect redirect;
	struct header_changes headers;
	uint64_t timeout_ms; /* 0: absent */
	struct http_retries retries;
	struct fault_delay delay;
	struct fault_abort abort;
	struct http_mirror *mirrors;
	size_t mirror_count, mirror_capacity;
	double mirror_percentage, mirror_percent; /* only while documents are read */
	struct route_destination *destinations; /* one of them is drawn for each request, by weight */
	size_t destination_count, destination_capacity;
	struct position at;
};

/* All of it must hold, of the connection. */
struct l4_match {
	struct string_list sni_hosts; /* of tls: one of them; lower case, may start with "*." */
	struct cidr_list subnets;     /* one of them holds what the client dialled; none: any */
	uint16_t port;                /* 0: any */
	struct label_list source_labels;
	const char *source_namespace; /* NULL: any */
	bool never;                   /* gateways: without "mesh" */
	struct position at;
};

struct l4_route {
	struct l4_match *matches; /* one of them must hold; none: it takes every connection */
	size_t match_count, match_capacity;
	struct route_destination *destinations;
	size_t destination_count, destination_capacity;
	struct position at;
};

struct virtual_service {
	struct object object;
	bool is_delegate; /* without hosts: others hand requests to its rules */
	bool is_mesh; /* gateways: absent, or with "mesh"; else it is for gateways and does nothing here */
	struct service_host *hosts;
	size_t host_count, host_capacity;
	struct http_route *http;
	size_t http_count, http_capacity;
	struct l4_route *tls, *tcp;
	size_t tls_count, tls_capacity, tcp_count, tcp_capacity;
};

/* ---- DestinationRule (networking.istio.io) ---- */

struct keepalive {
	bool present;
	uint32_t probes, time_s, interval_s; /* 0: the kernel's */
};

/* Of numbers 0 is no bound, as in Istio. */
struct pool_settings {
	bool present;
	struct position at;
	uint64_t connect_timeout_ms; /* 0: absent */
	struct keepalive keepalive;
	uint32_t max_requests;       /* of one upstream connection */
	uint32_t max_connections;
	uint32_t max_pending;        /* requests that wait for one of these: http1MaxPendingRequests */
	uint32_t max_active;         /* requests under way: http2MaxRequests, which is for HTTP/1 too */
	uint32_t max_retries;        /* under way */
	bool has_tcp_idle;
	uint64_t tcp_idle_ms;        /* 0 if it is given: for ever */
	uint64_t http_idle_ms;       /* 0: absent */
	uint64_t max_duration_ms;    /* of a connection; 0: absent */
	uint32_t max_streams;        /* of one upstream connection, at a time */
	bool upgrades_to_h2;         /* h2UpgradePolicy: UPGRADE */
	bool use_client_protocol;
};

enum balance {
	BALANCE_DEFAULT, /* LEAST_REQUEST */
	BALANCE_RANDOM,
	BALANCE_ROUND_ROBIN,
	BALANCE_PASSTHROUGH, /* the original destination, whatever the endpoints are */
	BALANCE_HASH,        /* consistentHash */
};

/* What of a request tells where it goes. */
enum hash_key { HASH_NOTHING, HASH_HEADER, HASH_COOKIE, HASH_SOURCE, HASH_PARAMETER };

struct balance_settings {
	bool present;
	bool has_simple;
	enum balance way;
	enum hash_key key;
	const char *name;            /* of the header, cookie or parameter */
	bool makes_cookie;           /* has a ttl: a client without the cookie is given one */
	uint64_t cookie_ttl_ms;      /* 0: as long as the client likes */
	const char *cookie_path;     /* "" if absent */
	const char *cookie_attributes; /* "; Name=value" for each */
	uint32_t ring_size;          /* points of the ring, at least */
};

struct outlier_settings {
	bool present;
	uint32_t consecutive_5xx, consecutive_gateway, consecutive_local; /* that eject an endpoint; 0: they do not */
	bool splits;                 /* failures on the way to the server are consecutive_local's alone */
	bool has_local;
	uint64_t interval_ms;        /* when those whose time is over come back */
	uint64_t base_ejection_ms;   /* the first time; the second twice as long, ... */
	uint32_t max_ejection_percent, min_health_percent;
	struct position at;
};

/* Instead of max_retries: as many retries under way as are `percent` of the requests that are, and at least `least`. */
struct retry_budget {
	bool present;
	double percent;
	uint32_t least;
};

enum tls_mode { TLS_DISABLE, TLS_SIMPLE, TLS_MUTUAL, TLS_ISTIO_MUTUAL };

/* Stands for the file of authorities that the loader's system trusts, wherever it has it. */
#define SYSTEM_AUTHORITIES "the system's authorities"

/* What may hold a private key: nothing of it stays behind when it is freed. */
struct secret {
	char *bytes;
	size_t length;
};
void secret_wipe(struct secret *secret); /* accepts one without bytes */
#define _cleanup_secret_ __attribute__((cleanup(secret_wipe)))

/* A PEM file that documents name: read by the loader, handed to the redirector with them. */
struct credential {
	const char *path;
	struct position at;              /* where it is first named */
	const char *object, *field;
	struct secret text;              /* without bytes: not read (yet) */
};

struct tls_settings {
	bool present;
	enum tls_mode mode;
	size_t authorities, certificate, key, revoked; /* index + 1 in config->credentials; 0: none */
	const char *sni;                      /* NULL: the request's host */
	struct string_list alt_names;         /* one of them must be the server's; none: the SNI must be */
	bool skip_verify;
	struct position at;
};

/* The service is an HTTP proxy, through which connections go on to `host`. */
struct tunnel_settings {
	bool present;
	bool posts; /* POST instead of CONNECT */
	const char *host;
	uint16_t port;
};

/* What a server is told first of whom a connection is from (haproxy.org, proxy-protocol.txt). */
enum proxy_protocol { PROXY_PROTOCOL_NONE, PROXY_PROTOCOL_V1, PROXY_PROTOCOL_V2 };

/* How a service is spoken to. What is not present is left to who comes before. */
struct traffic_policy {
	struct pool_settings pool;
	struct balance_settings balance;
	struct outlier_settings outlier;
	struct retry_budget budget;
	struct tls_settings tls;
	struct tunnel_settings tunnel; /* this and the next are not of one port */
	enum proxy_protocol proxy_protocol;
};

struct port_policy {
	uint16_t port;
	struct traffic_policy policy; /* what it leaves out is as if nobody had said it */
};

struct traffic_rules {
	bool present;
	struct traffic_policy all;
	struct port_policy *ports;
	size_t port_count, port_capacity;
};

struct subset {
	const char *name;
	struct label_list labels; /* of endpoints */
	struct traffic_rules policy;
	struct position at;
};

struct destination_rule {
	struct object object;
	const char *host; /* lower case; may start with "*" */
	bool has_selector;          /* workloadSelector: it is for workloads of its own namespace with these labels */
	struct label_list selector;
	struct traffic_rules policy;
	struct subset *subsets;
	size_t subset_count, subset_capacity;
};

/* ---- Workload (sluice.dev/v1) ---- */

struct workload_document {
	struct object object;
	const char *cgroup;       /* spec.cgroup: path or glob below the cgroup v2 mount, with leading '/' */
	const char *namespace_;   /* spec.namespace, else metadata.namespace */
	const char *name;         /* spec.name, else metadata.name */
	struct label_list labels; /* spec.labels */
	const struct egress_policy *capture; /* what its annotations say; NULL: nothing */
};

/* ---- EgressPolicy (sluice.dev/v1): absent fields inherit from the less specific policy ---- */

struct port_list {
	uint16_t *items;
	size_t count;
	size_t capacity;
};

/* What an EgressPolicy may say, each by itself. */
enum setting {
	SETTING_MODE, SETTING_INCLUDE_CIDRS, SETTING_EXCLUDE_CIDRS, SETTING_INCLUDE_PORTS, SETTING_EXCLUDE_PORTS,
	SETTING_ENFORCEMENT, SETTING_HOST_CHECK, SETTING_DNS_ALLOW, SETTING_DNS_SERVERS, SETTING_DRAIN, SETTING_COUNT
};

struct egress_policy {
	struct object object;
	struct position at[SETTING_COUNT]; /* of those that it has */
	struct label_list selector; /* spec.workloadSelector.labels; none: the whole namespace */
	bool has_mode;
	enum sluice_mode mode;
	bool has_include_cidrs, include_all; /* include_all: "*" */
	struct cidr_list include_cidrs;
	bool has_exclude_cidrs;
	struct cidr_list exclude_cidrs;
	bool has_include_ports;
	struct port_list include_ports;
	bool has_exclude_ports;
	struct port_list exclude_ports;
	bool has_audit;
	bool audit; /* enforcement: audit */
	bool has_host_check;
	enum sluice_host_check host_check;
	bool has_dns_allow;
	enum sluice_dns_allow dns_allow;
	bool has_dns_servers;
	struct cidr_list dns_servers; /* addresses: /128 in canonical form */
	bool has_drain;
	uint64_t drain_ms; /* how long open flows live on that a newer generation forbids; 0: not at all */
};

/* ---- Sidecar (networking.istio.io) ---- */

struct import {
	bool excludes;
	const char *namespace_; /* "*": all of them */
	const char *host;       /* lower case; "*": all, "*.x": all below */
};

/* What may be seen of one port. */
struct import_listener {
	uint16_t port; /* 0: every port that no other listener has */
	struct import *imports;
	size_t import_count, import_capacity;
};

struct sidecar {
	struct object object;
	struct label_list selector; /* spec.workloadSelector.labels; none: the whole namespace */
	bool has_mode;              /* outboundTrafficPolicy; else the mesh's */
	enum sluice_mode mode;
	struct position mode_at;
	const char *proxy_host;     /* egressProxy, lower case; NULL: absent */
	const char *proxy_subset;   /* NULL: absent */
	uint16_t proxy_port;
	struct import_listener *listeners; /* egress; none: everything is imported */
	size_t listener_count, listener_capacity;
};

/* ---- the mesh's settings (IstioOperator, MeshConfig) ---- */

/* Text as it stands in every line, then what an operator stands for. */
struct log_piece {
	const char *text;
	const char *operator_; /* without its signs: NAME, NAME(ARGUMENT), NAME(ARGUMENT):LENGTH; NULL: none follows */
	bool is_value;         /* of JSON: with its type, a number, a string in quotes, or null */
};

#define ACCESS_LOG_TEXT 1024 /* bytes of the text of all pieces, at most */
#define ACCESS_LOG_OPERATORS 64

struct access_log {
	const char *file; /* NULL: there is none */
	struct position at;
	const char *object, *field; /* that say so, for messages */
	bool is_said; /* by a MeshConfig */
	bool is_json;
	struct log_piece *pieces;
	size_t count, capacity;
	size_t text_length; /* of all pieces */
	uint64_t format;    /* the same for the same format */
};

struct mesh {
	struct egress_policy settings; /* of all workloads, behind everything else that says them */
	uint64_t connect_timeout_ms;   /* 0: absent */
	struct http_retries retries;   /* of rules that have none */
	struct access_log access_log;
};

/* ---- a whole configuration ---- */

enum severity { SEVERITY_ERROR, SEVERITY_WARNING };

struct problem {
	enum severity severity;
	struct position at;
	const char *object; /* "ServiceEntry/aliyun-com-ext", or "" before a document's kind is known */
	const char *field;  /* "spec.ports[0].protocol", or "" */
	const char *text;   /* what is wrong and what would be right, quoting the offending text */
};

struct config {
	struct arena *arena;
	const char *unix_directory; /* below which endpoints may be Unix sockets, without a final '/'; NULL: none may. Set before parsing */
	struct service_entry **service_entries;
	size_t service_entry_count, service_entry_capacity;
	struct virtual_service **virtual_services;
	size_t virtual_service_count, virtual_service_capacity;
	struct workload_document **workloads;
	size_t workload_count, workload_capacity;
	struct egress_policy **egress_policies;
	size_t egress_policy_count, egress_policy_capacity;
	struct sidecar **sidecars;
	size_t sidecar_count, sidecar_capacity;
	struct workload_entry **workload_entries;
	size_t workload_entry_count, workload_entry_capacity;
	struct destination_rule **destination_rules;
	size_t destination_rule_count, destination_rule_capacity;
	struct mesh *mesh; /* NULL: nothing says it */
	struct credential *credentials;
	size_t credential_count, credential_capacity;
	size_t document_count; /* objects that were read or refused; not those that say nothing of egress */
	struct problem *problems;
	size_t problem_count, problem_capacity;
	size_t error_count; /* problems that are errors */
};

struct config_file {
	const char *name; /* as shown in messages */
	const char *text;
	size_t length;
};

/* An empty configuration. Never NULL. */
struct config *config_new(void);
void config_free(struct config *config); /* accepts NULL */

/* Parses one file's text into `config`. What is wrong is added to config->problems; never fails otherwise. */
void config_parse(struct config *config, const struct config_file *file);

/* Checks that need all documents (duplicates, references). Call once, after the last config_parse(). */
void config_validate(struct config *config, const char *root_namespace);

void config_problem(struct config *config, enum severity severity, const struct position *at, const char *object,
		    const char *field, const char *format, ...) __attribute__((format(printf, 6, 7)));

/* "file:line:column: [warning: ]Kind/name: field: text" and a newline (parts that are empty are left out). */
void config_problem_print(FILE *out, const struct problem *problem);
/* The same line without newline into `out`. */
void config_problem_format(char *out, size_t room, const struct problem *problem);

/* ---- the policy folder ---- */

/* Raw files of a configuration, as read in one pass; what is sent to the redirector. */
struct config_source {
	struct config_file *files; /* sorted by name; names and texts are owned */
	size_t count, capacity;
	size_t bytes; /* of them */
	struct config_file *credentials; /* the PEM files that these name */
	size_t credential_count, credential_capacity;
};

/*
 * Reads `path`: a file, or a folder's *.yaml and *.yml (not recursive into folders; names starting with '.'
 * such as a ConfigMap's ..data are skipped; symlinks followed). `shown` names are path-joined as given.
 * 0 or -errno with a problem added to `config`: a folder that is missing or unreadable, a file over the size
 * limit, or one that changed while it was read (-EAGAIN: read again). Sleeps up to 50 ms for a file written
 * to just now (or empty), so that a write in progress is seen as a change and not taken for the whole.
 */
int config_source_read(struct config_source *out, const char *path, struct config *config);
void config_source_free(struct config_source *source);

/* Wipes the credentials of a configuration that was compiled. */
void config_forget_credentials(struct config *config);

/* Where a credential is read: its path, or that of SYSTEM_AUTHORITIES here. */
const char *credential_file(const char *path);

/* config_parse of each file + config_validate, with the credentials that the source has. */
void config_parse_source(struct config *config, const struct config_source *source, const char *root_namespace);

/* config_source_read of each path, the credentials that the documents name, and config_parse_source. */
int config_load(struct config *config, struct config_source *source, const char *const *paths, size_t count,
		const char *root_namespace);

/* One flat byte string of a source and back, to hand it to the redirector. `bytes` is malloc'd. 0 or -errno. */
int config_source_pack(const struct config_source *source, char **bytes, size_t *length); /* a secret */
int config_source_unpack(struct config_source *out, const char *bytes, size_t length);

/* ---- small parsers shared with the command line; each touches `out` last; 0 or -EINVAL ---- */
int parse_address(uint8_t out[16], const char *text);
int parse_cidr(struct cidr *out, const char *text); /* an address or a CIDR */
int parse_label(struct label *out, struct arena *arena, const char *text); /* "key=value" */
int parse_port(uint16_t *out, const char *text); /* 1 to 65535, decimal */
int parse_unix_directory(const char **out, char *text); /* --unix-endpoints: absolute; loses its final '/' */

/* "10.0.0.0/8"; an address without "/32" or "/128" when `bits` is 128. Returns `out`. */
const char *format_address(char out[SLUICE_PREFIX_TEXT], const uint8_t addr[16]);
const char *format_cidr(char out[SLUICE_PREFIX_TEXT], const uint8_t addr[16], unsigned int bits);

#endif
