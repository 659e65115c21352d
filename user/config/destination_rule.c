// SPDX-License-Identifier: Apache-2.0
/* DestinationRule: fields and rules of ISTIO.md §1.7. */
#include <stddef.h>
#include <string.h>

#include "config/reader.h"
#include "config/walk.h"

#define MAX_SUBSETS 256
#define MAX_PORTS 4096 /* of portLevelSettings: as Istio's schema */

/* ---- connectionPool ---- */

static void read_count(struct walk *walk, const struct node *node, void *out)
{
	int64_t value;

	if (walk_integer(walk, node, 0, INT32_MAX, &value))
		*(uint32_t *)out = (uint32_t)value;
}

static void read_seconds(struct walk *walk, const struct node *node, void *out)
{
	uint64_t ms = 0;

	walk_duration(walk, node, &ms);
	*(uint32_t *)out = (uint32_t)((ms + 999) / 1000);
}

static void read_keepalive(struct walk *walk, const struct node *node, void *out)
{
	static const struct field fields[] = {
		{"probes", read_count, offsetof(struct keepalive, probes), FIELD_OPTIONAL},
		{"time", read_seconds, offsetof(struct keepalive, time_s), FIELD_OPTIONAL},
		{"interval", read_seconds, offsetof(struct keepalive, interval_s), FIELD_OPTIONAL},
	};
	struct keepalive *keepalive = out;

	keepalive->present = true;
	walk_mapping(walk, node, fields, ARRAY_SIZE(fields), keepalive);
}

static void read_tcp_idle(struct walk *walk, const struct node *node, void *out)
{
	struct pool_settings *pool = out;

	pool->has_tcp_idle = true;
	walk_duration_or_zero(walk, node, &pool->tcp_idle_ms);
}

static void read_pool_tcp(struct walk *walk, const struct node *node, void *out)
{
	static const struct field fields[] = {
		{"connectTimeout", walk_duration, offsetof(struct pool_settings, connect_timeout_ms), FIELD_OPTIONAL},
		{"tcpKeepalive", read_keepalive, offsetof(struct pool_settings, keepalive), FIELD_OPTIONAL},
		{"maxConnections", read_count, offsetof(struct pool_settings, max_connections), FIELD_OPTIONAL},
		{"maxConnectionDuration", walk_duration, offsetof(struct pool_settings, max_duration_ms), FIELD_OPTIONAL},
		{"idleTimeout", read_tcp_idle, 0, FIELD_OPTIONAL},
	};

	walk_mapping(walk, node, fields, ARRAY_SIZE(fields), out);
}

static void read_h2_upgrade(struct walk *walk, const struct node *node, void *out)
{
	static const struct choice choices[] = {{"DEFAULT", false}, {"DO_NOT_UPGRADE", false}, {"UPGRADE", true}};
	int value;

	if (walk_choice(walk, node, "a policy of upgrades", choices, ARRAY_SIZE(choices), &value))
		*(bool *)out = value;
}

static void read_pool_http(struct walk *walk, const struct node *node, void *out)
{
	static const struct field fields[] = {
		{"maxRequestsPerConnection", read_count, offsetof(struct pool_settings, max_requests), FIELD_OPTIONAL},
		{"http1MaxPendingRequests", read_count, offsetof(struct pool_settings, max_pending), FIELD_OPTIONAL},
		{"http2MaxRequests", read_count, offsetof(struct pool_settings, max_active), FIELD_OPTIONAL},
		{"maxRetries", read_count, offsetof(struct pool_settings, max_retries), FIELD_OPTIONAL},
		{"idleTimeout", walk_duration, offsetof(struct pool_settings, http_idle_ms), FIELD_OPTIONAL},
		{"maxConcurrentStreams", read_count, offsetof(struct pool_settings, max_streams), FIELD_OPTIONAL},
		{"h2UpgradePolicy", read_h2_upgrade, offsetof(struct pool_settings, upgrades_to_h2), FIELD_OPTIONAL},
		{"useClientProtocol", read_flag, offsetof(struct pool_settings, use_client_protocol), FIELD_OPTIONAL},
		{"http2KeepAlive", check_pings, 0, FIELD_OPTIONAL},
	};
	const struct pool_settings *pool = out;

	if (walk_mapping(walk, node, fields, ARRAY_SIZE(fields), out) && pool->upgrades_to_h2 && pool->use_client_protocol)
		walk_error(walk, node, "has useClientProtocol, but h2UpgradePolicy is UPGRADE");
}

static void read_pool(struct walk *walk, const struct node *node, void *out)
{
	static const struct field fields[] = {
		{"tcp", read_pool_tcp, 0, FIELD_OPTIONAL},
		{"http", read_pool_http, 0, FIELD_OPTIONAL},
	};
	struct pool_settings *pool = out;

	pool->present = true;
	pool->at = walk_position(walk, node);
	if (walk_mapping(walk, node, fields, ARRAY_SIZE(fields), pool) && !node_field(node, "tcp") && !node_field(node, "http"))
		walk_error(walk, node, "must have tcp or http");
	if (pool->max_pending && !pool->max_connections)
		walk_warning(walk, node, "http1MaxPendingRequests has no effect without tcp.maxConnections: no request waits for a connection");
}

/* ---- tls ---- */

static void read_tls_mode(struct walk *walk, const struct node *node, void *out)
{
	static const struct choice choices[] = {
		{"DISABLE", TLS_DISABLE}, {"SIMPLE", TLS_SIMPLE}, {"MUTUAL", TLS_MUTUAL}, {"ISTIO_MUTUAL", TLS_ISTIO_MUTUAL},
	};
	int value;

	if (!walk_choice(walk, node, "a TLS mode", choices, ARRAY_SIZE(choices), &value))
		return;
	*(enum tls_mode *)out = value;
	if (value == TLS_ISTIO_MUTUAL)
		walk_error(walk, node, "ISTIO_MUTUAL is refused: it takes an identity in a mesh, and sluice has none; MUTUAL takes certificates from files");
}

static size_t want_credential(struct walk *walk, const struct node *node, const char *path)
{
	struct config *config = walk->config;

	for (size_t i = 0; i < config->credential_count; i++)
		if (!strcmp(config->credentials[i].path, path))
			return i + 1;
	*arena_append(config->arena, config->credentials, config->credential_count, config->credential_capacity) =
		(struct credential){.path = arena_strdup(config->arena, path), .at = walk_position(walk, node),
				    .object = walk->object, .field = arena_strdup(config->arena, walk->path)};
	return config->credential_count;
}

static void read_credential(struct walk *walk, const struct node *node, void *out)
{
	const char *text;

	if (!walk_text(walk, node, &text) || !*text)
		return;
	if (*text != '/')
		walk_error(walk, node, "%s is not the path of a file from / on", node_shown(walk, node));
	else
		*(size_t *)out = want_credential(walk, node, text);
}

static void read_alt_names(struct walk *walk, const struct node *node, void *out)
{
	walk_list(walk, node, MAX_SUBSETS, read_string_item, out);
}

static void read_sni(struct walk *walk, const struct node *node, void *out)
{
	if (node->type != NODE_SCALAR || node->plain || *node->text) /* "" is as if it were not there */
		read_host(walk, node, HOST_EXACT, out);
}

static void read_credential_name(struct walk *walk, const struct node *node, void *out)
{
	const char *text;

	(void)out;
	if (walk_text(walk, node, &text) && *text)
		walk_error(walk, node, "%s is refused: sluice reads no secrets of Kubernetes; name files", node_shown(walk, node));
}

/* Istio's rules (ValidateTLS). */
static void check_tls(struct walk *walk, const struct node *node, struct tls_settings *tls)
{
	const struct node *secret = node_field(node, "credentialName");
	bool has_pair = tls->certificate || tls->key, verifies_none = tls->skip_verify && tls->mode != TLS_DISABLE;

	if (verifies_none && (tls->authorities || node_field(node, "subjectAltNames") || (secret && tls->mode == TLS_SIMPLE)))
		walk_error(walk, node, "has insecureSkipVerify: then caCertificates, credentialName and subjectAltNames must not be set");
	if (secret && (has_pair || tls->authorities || tls->revoked))
		walk_error(walk, node, "has credentialName: then no files may be named");
	else if (!secret && tls->mode == TLS_MUTUAL && !(tls->certificate && tls->key))
		walk_error(walk, node, "mode MUTUAL needs clientCertificate and privateKey");
	if (tls->mode != TLS_MUTUAL && has_pair) {
		walk_warning(walk, node, "clientCertificate and privateKey have no effect: they are for mode MUTUAL");
		tls->certificate = tls->key = 0;
	}
	if (tls->mode != TLS_DISABLE && !tls->authorities && !tls->skip_verify)
		tls->authorities = want_credential(walk, node, SYSTEM_AUTHORITIES);
}

static void read_tls(struct walk *walk, const struct node *node, void *out)
{
	static const struct field fields[] = {
		{"mode", read_tls_mode, offsetof(struct tls_settings, mode), FIELD_OPTIONAL},
		{"clientCertificate", read_credential, offsetof(struct tls_settings, certificate), FIELD_OPTIONAL},
		{"privateKey", read_credential, offsetof(struct tls_settings, key), FIELD_OPTIONAL},
		{"caCertificates", read_credential, offsetof(struct tls_settings, authorities), FIELD_OPTIONAL},
		{"subjectAltNames", read_alt_names, offsetof(struct tls_settings, alt_names), FIELD_OPTIONAL},
		{"sni", read_sni, offsetof(struct tls_settings, sni), FIELD_OPTIONAL},
		{"insecureSkipVerify", read_flag, offsetof(struct tls_settings, skip_verify), FIELD_OPTIONAL},
		{"caCrl", read_credential, offsetof(struct tls_settings, revoked), FIELD_OPTIONAL},
		{"credentialName", read_credential_name, 0, FIELD_OPTIONAL},
	};
	struct tls_settings *tls = out;

	tls->present = true;
	tls->at = walk_position(walk, node);
	if (walk_mapping(walk, node, fields, ARRAY_SIZE(fields), tls))
		check_tls(walk, node, tls);
}

/* ---- tunnel, proxyProtocol ---- */

static void read_tunnel_protocol(struct walk *walk, const struct node *node, void *out)
{
	static const struct choice choices[] = {{"CONNECT", false}, {"POST", true}};
	int value;

	if (node->type == NODE_SCALAR && !*node->text)
		return; /* as if it were not there */
	if (walk_choice(walk, node, "a tunnel's protocol", choices, ARRAY_SIZE(choices), &value))
		*(bool *)out = value;
}

static void read_target_host(struct walk *walk, const struct node *node, void *out)
{
	const char *text;
	uint8_t unused[16];

	if (node->type == NODE_SCALAR && !parse_address(unused, node->text) && walk_text(walk, node, &text))
		*(const char **)out = arena_strdup(walk->config->arena, text);
	else
		read_host(walk, node, HOST_EXACT, out);
}

static void read_tunnel(struct walk *walk, const struct node *node, void *out)
{
	static const struct field fields[] = {
		{"protocol", read_tunnel_protocol, offsetof(struct tunnel_settings, posts), FIELD_OPTIONAL},
		{"targetHost", read_target_host, offsetof(struct tunnel_settings, host), FIELD_REQUIRED},
		{"targetPort", read_port_number, offsetof(struct tunnel_settings, port), FIELD_REQUIRED},
	};
	struct tunnel_settings *tunnel = out;

	tunnel->present = true;
	walk_mapping(walk, node, fields, ARRAY_SIZE(fields), tunnel);
}

static void read_proxy_version(struct walk *walk, const struct node *node, void *out)
{
	static const struct choice choices[] = {{"V1", PROXY_PROTOCOL_V1}, {"V2", PROXY_PROTOCOL_V2}};
	int value;

	if (walk_choice(walk, node, "a version", choices, ARRAY_SIZE(choices), &value))
		*(enum proxy_protocol *)out = value;
}

static void read_proxy_protocol(struct walk *walk, const struct node *node, void *out)
{
	static const struct field fields[] = {{"version", read_proxy_version, 0, FIELD_OPTIONAL}};

	*(enum proxy_protocol *)out = PROXY_PROTOCOL_V1; /* the enum's zero value in Istio */
	walk_mapping(walk, node, fields, ARRAY_SIZE(fields), out);
}

/* ---- trafficPolicy ---- */

static void read_budget_percent(struct walk *walk, const struct node *node, void *out)
{
	double value;

	if (!walk_number(walk, node, &value))
		return;
	if (value < 0 || value > 100)
		walk_error(walk, node, "%s is not within 0 to 100", node_shown(walk, node));
	*(double *)out = value;
}

static void check_budget_interval(struct walk *walk, const struct node *node, void *out)
{
	uint64_t ms = 0;

	(void)out;
	walk_duration_or_zero(walk, node, &ms);
	if (ms)
		walk_warning(walk, node, "has no effect here: only requests under way are counted, as with 0s");
}

static void read_retry_budget(struct walk *walk, const struct node *node, void *out)
{
	static const struct field fields[] = {
		{"percent", read_budget_percent, offsetof(struct retry_budget, percent), FIELD_OPTIONAL},
		{"minRetryConcurrency", read_count, offsetof(struct retry_budget, least), FIELD_OPTIONAL},
		{"budgetInterval", check_budget_interval, 0, FIELD_OPTIONAL},
	};
	struct retry_budget *budget = out;

	*budget = (struct retry_budget){.present = true, .percent = 20}; /* Istio's defaults */
	walk_mapping(walk, node, fields, ARRAY_SIZE(fields), budget);
	if (!budget->least)
		budget->least = 3;
}

static void read_policy_port(struct walk *walk, const struct node *node, void *out)
{
	static const struct field fields[] = {{"number", read_port_number, 0, FIELD_REQUIRED}};

	walk_mapping(walk, node, fields, ARRAY_SIZE(fields), out);
}

static void read_port_policy(struct walk *walk, const struct node *node, void *out)
{
	static const struct field fields[] = {
		{"port", read_policy_port, offsetof(struct port_policy, port), FIELD_REQUIRED},
		{"connectionPool", read_pool, offsetof(struct port_policy, policy.pool), FIELD_OPTIONAL},
		{"loadBalancer", read_balancer, offsetof(struct port_policy, policy.balance), FIELD_OPTIONAL},
		{"tls", read_tls, offsetof(struct port_policy, policy.tls), FIELD_OPTIONAL},
		{"outlierDetection", read_outlier, offsetof(struct port_policy, policy.outlier), FIELD_OPTIONAL},
	};
	struct traffic_rules *rules = out;
	struct port_policy one = {0};

	if (!walk_mapping(walk, node, fields, ARRAY_SIZE(fields), &one))
		return;
	if (node->count == 2) /* a field and what it says */
		walk_error(walk, node, "says nothing of the port; one of connectionPool, loadBalancer, outlierDetection, tls is wanted");
	for (size_t i = 0; i < rules->port_count; i++) {
		if (rules->ports[i].port != one.port || !one.port)
			continue;
		walk_warning(walk, node, "has no effect: item %zu is for port %u too, and the first one holds", i, one.port);
		return;
	}
	*arena_append(walk->config->arena, rules->ports, rules->port_count, rules->port_capacity) = one;
}

static void read_port_policies(struct walk *walk, const struct node *node, void *out)
{
	walk_list(walk, node, MAX_PORTS, read_port_policy, out);
}

static void read_traffic_policy(struct walk *walk, const struct node *node, void *out)
{
	static const struct field fields[] = {
		{"connectionPool", read_pool, offsetof(struct traffic_rules, all.pool), FIELD_OPTIONAL},
		{"loadBalancer", read_balancer, offsetof(struct traffic_rules, all.balance), FIELD_OPTIONAL},
		{"tls", read_tls, offsetof(struct traffic_rules, all.tls), FIELD_OPTIONAL},
		{"portLevelSettings", read_port_policies, 0, FIELD_OPTIONAL},
		{"outlierDetection", read_outlier, offsetof(struct traffic_rules, all.outlier), FIELD_OPTIONAL},
		{"retryBudget", read_retry_budget, offsetof(struct traffic_rules, all.budget), FIELD_OPTIONAL},
		{"tunnel", read_tunnel, offsetof(struct traffic_rules, all.tunnel), FIELD_OPTIONAL},
		{"proxyProtocol", read_proxy_protocol, offsetof(struct traffic_rules, all.proxy_protocol), FIELD_OPTIONAL},
	};
	const struct node *ports = node_field(node, "portLevelSettings");
	struct traffic_rules *rules = out;

	rules->present = true;
	if (!walk_mapping(walk, node, fields, ARRAY_SIZE(fields), rules))
		return;
	if (!node->count || (node->count == 2 && ports && !ports->count))
		walk_error(walk, node, "is empty; leave it out, or say something of the connections");
	if (node_field(node, "tunnel") && node_field(node, "proxyProtocol"))
		walk_error(walk, node, "has tunnel and proxyProtocol; one of them at most may be set");
}

/* ---- subsets ---- */

static void read_subset(struct walk *walk, const struct node *node, void *out)
{
	static const struct field fields[] = {
		{"name", read_label_name, offsetof(struct subset, name), FIELD_REQUIRED},
		{"labels", walk_labels, offsetof(struct subset, labels), FIELD_OPTIONAL},
		{"trafficPolicy", read_traffic_policy, offsetof(struct subset, policy), FIELD_OPTIONAL},
	};
	struct destination_rule *rule = out;
	struct subset subset = {.at = walk_position(walk, node)};

	if (!walk_mapping(walk, node, fields, ARRAY_SIZE(fields), &subset) || !subset.name)
		return;
	for (size_t i = 0; i < rule->subset_count; i++)
		if (!strcmp(rule->subsets[i].name, subset.name))
			walk_error(walk, node, "\"%s\" is the name of item %zu too", subset.name, i);
	*arena_append(walk->config->arena, rule->subsets, rule->subset_count, rule->subset_capacity) = subset;
}

static void read_subsets(struct walk *walk, const struct node *node, void *out)
{
	walk_list(walk, node, MAX_SUBSETS, read_subset, out);
}

static void read_rule_host(struct walk *walk, const struct node *node, void *out)
{
	uint8_t unused[16];

	if (node->type == NODE_SCALAR && !parse_address(unused, node->text))
		walk_error(walk, node, "%s is an address; a rule is for a host's name", node_shown(walk, node));
	else
		read_host(walk, node, HOST_ANY, out);
}

static void read_rule_selector(struct walk *walk, const struct node *node, void *out)
{
	static const struct field fields[] = {{"matchLabels", walk_labels, offsetof(struct destination_rule, selector), FIELD_OPTIONAL}};
	struct destination_rule *rule = out;

	rule->has_selector = true;
	if (walk_mapping(walk, node, fields, ARRAY_SIZE(fields), rule) && !rule->selector.count)
		walk_warning(walk, node, "has no labels: the rule is for every workload of its namespace");
}

/* Nobody else has workloads that a selector could choose; and "~" is for what clients look up. */
static void check_export(struct walk *walk, const struct node *node, const struct destination_rule *rule)
{
	size_t state = walk_enter(walk, "exportTo");
	const char *own = rule->object.namespace_;

	for (size_t i = 0; node && i < node->count; i++) {
		const struct node *item = node->items[i];
		size_t at = walk_enter_item(walk, i);

		if (item->type == NODE_SCALAR && !strcmp(item->text, "~"))
			walk_error(walk, item, "%s is for ServiceEntries only", node_shown(walk, item));
		else if (rule->has_selector && item->type == NODE_SCALAR && strcmp(item->text, ".") && strcmp(item->text, own))
			walk_error(walk, item, "%s: a rule with a workloadSelector is for its own namespace, \".\"", node_shown(walk, item));
		walk_leave(walk, at);
	}
	walk_leave(walk, state);
}

void read_destination_rule(struct walk *walk, const struct node *spec, const struct object *object)
{
	static const struct field fields[] = {
		{"host", read_rule_host, offsetof(struct destination_rule, host), FIELD_REQUIRED},
		{"trafficPolicy", read_traffic_policy, offsetof(struct destination_rule, policy), FIELD_OPTIONAL},
		{"subsets", read_subsets, 0, FIELD_OPTIONAL},
		{"exportTo", read_export_to, offsetof(struct destination_rule, object), FIELD_OPTIONAL},
		{"workloadSelector", read_rule_selector, 0, FIELD_OPTIONAL},
	};
	struct config *config = walk->config;
	struct destination_rule *rule = arena_alloc(config->arena, 1, sizeof(*rule));

	rule->object = *object;
	*arena_append(config->arena, config->destination_rules, config->destination_rule_count,
		      config->destination_rule_capacity) = rule;
	if (walk_mapping(walk, spec, fields, ARRAY_SIZE(fields), rule))
		check_export(walk, node_field(spec, "exportTo"), rule);
}
