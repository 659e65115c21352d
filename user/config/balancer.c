// SPDX-License-Identifier: Apache-2.0
/* loadBalancer and outlierDetection of a DestinationRule: ISTIO.md §1.7; Istio's validateLoadBalancer, validateOutlierDetection. */
#include <stddef.h>
#include <string.h>

#include "config/reader.h"
#include "config/walk.h"

#define RING_SIZE 1024        /* Envoy's minimum_ring_size if it is absent */
#define MAX_RING_SIZE 8388608 /* Envoy takes no larger one */
#define TABLE_SIZES 5000011   /* Istio: a Maglev table is smaller */
#define MAX_NAME 256
#define MAX_ATTRIBUTES 16

/* ---- loadBalancer.simple ---- */

static void read_simple(struct walk *walk, const struct node *node, void *out)
{
	static const struct choice choices[] = {
		{"UNSPECIFIED", BALANCE_DEFAULT}, {"LEAST_REQUEST", BALANCE_DEFAULT}, {"LEAST_CONN", BALANCE_DEFAULT},
		{"RANDOM", BALANCE_RANDOM}, {"ROUND_ROBIN", BALANCE_ROUND_ROBIN}, {"PASSTHROUGH", BALANCE_PASSTHROUGH},
	};
	struct balance_settings *balance = out;
	int value;

	balance->has_simple = true;
	if (walk_choice(walk, node, "a way to balance", choices, ARRAY_SIZE(choices), &value))
		balance->way = value;
}

/* ---- loadBalancer.consistentHash ---- */

/* What is read of it before it is known to be one. */
struct hash_fields {
	struct balance_settings *balance;
	unsigned int keys, sizes; /* how many are given */
};

static void key_given(struct walk *walk, const struct node *node, struct hash_fields *fields, enum hash_key key)
{
	if (fields->keys++)
		walk_error(walk, node, "is another key: only one of httpHeaderName, httpCookie, useSourceIp, httpQueryParameterName can be given");
	fields->balance->key = key;
}

static void read_key_name(struct walk *walk, const struct node *node, const char **out)
{
	const char *text;

	if (!walk_text(walk, node, &text))
		return;
	if (!*text || strlen(text) > MAX_NAME)
		walk_error(walk, node, "%s is not a name of 1 to %d characters", node_shown(walk, node), MAX_NAME);
	else
		*out = arena_strdup(walk->config->arena, text);
}

static void read_hash_header(struct walk *walk, const struct node *node, void *out)
{
	struct hash_fields *fields = out;

	key_given(walk, node, fields, HASH_HEADER);
	read_key_name(walk, node, &fields->balance->name);
	if (fields->balance->name && !is_header_name(fields->balance->name))
		walk_error(walk, node, "%s is not a header's name", node_shown(walk, node));
}

static void read_hash_parameter(struct walk *walk, const struct node *node, void *out)
{
	struct hash_fields *fields = out;

	key_given(walk, node, fields, HASH_PARAMETER);
	read_key_name(walk, node, &fields->balance->name);
}

static void read_hash_source(struct walk *walk, const struct node *node, void *out)
{
	struct hash_fields *fields = out;
	bool wanted = false;

	read_flag(walk, node, &wanted);
	key_given(walk, node, fields, wanted ? HASH_SOURCE : HASH_NOTHING);
}

static void read_cookie_name(struct walk *walk, const struct node *node, void *out)
{
	struct balance_settings *balance = out;

	read_key_name(walk, node, &balance->name);
	if (balance->name && !is_header_name(balance->name)) /* RFC 6265 §4.1.1: both are tokens */
		walk_error(walk, node, "%s is not a cookie's name", node_shown(walk, node));
}

/* Of a cookie's path or attribute: RFC 6265 §4.1.1, any character but controls and ";". */
static void read_cookie_text(struct walk *walk, const struct node *node, void *out)
{
	const char *text;

	if (!walk_text(walk, node, &text))
		return;
	for (const char *c = text; *c; c++) {
		if (*c < ' ' || *c == 0x7f || *c == ';') {
			walk_error(walk, node, "%s cannot stand in a cookie", node_shown(walk, node));
			return;
		}
	}
	if (strlen(text) > MAX_NAME)
		walk_error(walk, node, "%s is longer than %d characters", node_shown(walk, node), MAX_NAME);
	else
		*(const char **)out = arena_strdup(walk->config->arena, text);
}

static void read_cookie_ttl(struct walk *walk, const struct node *node, void *out)
{
	struct balance_settings *balance = out;

	balance->makes_cookie = true;
	walk_duration_or_zero(walk, node, &balance->cookie_ttl_ms);
}

struct cookie_attribute {
	const char *name, *value;
};

static void read_cookie_attribute(struct walk *walk, const struct node *node, void *out)
{
	static const struct field fields[] = {
		{"name", read_cookie_text, offsetof(struct cookie_attribute, name), FIELD_REQUIRED},
		{"value", read_cookie_text, offsetof(struct cookie_attribute, value), FIELD_OPTIONAL},
	};
	struct balance_settings *balance = out;
	struct cookie_attribute one = {0};

	if (!walk_mapping(walk, node, fields, ARRAY_SIZE(fields), &one) || !one.name)
		return;
	balance->cookie_attributes = arena_printf(walk->config->arena, "%s; %s%s%s", balance->cookie_attributes, one.name,
						  one.value && *one.value ? "=" : "", one.value ? one.value : "");
}

static void read_cookie_attributes(struct walk *walk, const struct node *node, void *out)
{
	walk_list(walk, node, MAX_ATTRIBUTES, read_cookie_attribute, out);
}

static void read_hash_cookie(struct walk *walk, const struct node *node, void *out)
{
	static const struct field fields[] = {
		{"name", read_cookie_name, 0, FIELD_REQUIRED},
		{"path", read_cookie_text, offsetof(struct balance_settings, cookie_path), FIELD_OPTIONAL},
		{"ttl", read_cookie_ttl, 0, FIELD_OPTIONAL},
		{"attributes", read_cookie_attributes, 0, FIELD_OPTIONAL},
	};
	struct hash_fields *of = out;

	key_given(walk, node, of, HASH_COOKIE);
	walk_mapping(walk, node, fields, ARRAY_SIZE(fields), of->balance);
	if (strlen(of->balance->cookie_attributes) > MAX_NAME)
		walk_error(walk, node, "has attributes of more than %d characters", MAX_NAME);
}

static void size_given(struct walk *walk, const struct node *node, struct hash_fields *fields)
{
	if (fields->sizes++)
		walk_error(walk, node, "is another size: only one of ringHash, maglev, minimumRingSize can be given");
}

static void read_ring_size(struct walk *walk, const struct node *node, void *out)
{
	int64_t value;

	if (walk_integer(walk, node, 0, MAX_RING_SIZE, &value) && value)
		*(uint32_t *)out = (uint32_t)value;
}

static void read_ring_hash(struct walk *walk, const struct node *node, void *out)
{
	static const struct field fields[] = {
		{"minimumRingSize", read_ring_size, offsetof(struct balance_settings, ring_size), FIELD_OPTIONAL},
	};
	struct hash_fields *of = out;

	size_given(walk, node, of);
	walk_mapping(walk, node, fields, ARRAY_SIZE(fields), of->balance);
}

static void read_old_ring_size(struct walk *walk, const struct node *node, void *out)
{
	struct hash_fields *of = out;

	size_given(walk, node, of);
	walk_warning(walk, node, "is deprecated: ringHash.minimumRingSize says the same");
	read_ring_size(walk, node, &of->balance->ring_size);
}

static bool is_prime(uint32_t n)
{
	for (uint32_t i = 2; i * i <= n; i++)
		if (n % i == 0)
			return false;
	return n > 0; /* Envoy, and so Istio, takes 1 for one */
}

static void read_table_size(struct walk *walk, const struct node *node, void *out)
{
	int64_t value;

	if (!walk_integer(walk, node, 1, TABLE_SIZES - 1, &value))
		return;
	if (!is_prime((uint32_t)value))
		walk_error(walk, node, "%s is not a prime number", node_shown(walk, node));
	*(uint32_t *)out = (uint32_t)value;
}

/* Its table becomes a ring of as many points: of an endpoint that comes or goes a ring moves fewer keys. */
static void read_maglev(struct walk *walk, const struct node *node, void *out)
{
	static const struct field fields[] = {
		{"tableSize", read_table_size, offsetof(struct balance_settings, ring_size), FIELD_REQUIRED},
	};
	struct hash_fields *of = out;

	size_given(walk, node, of);
	walk_mapping(walk, node, fields, ARRAY_SIZE(fields), of->balance);
}

static void read_consistent_hash(struct walk *walk, const struct node *node, void *out)
{
	static const struct field fields[] = {
		{"httpHeaderName", read_hash_header, 0, FIELD_OPTIONAL},
		{"httpCookie", read_hash_cookie, 0, FIELD_OPTIONAL},
		{"useSourceIp", read_hash_source, 0, FIELD_OPTIONAL},
		{"httpQueryParameterName", read_hash_parameter, 0, FIELD_OPTIONAL},
		{"ringHash", read_ring_hash, 0, FIELD_OPTIONAL},
		{"maglev", read_maglev, 0, FIELD_OPTIONAL},
		{"minimumRingSize", read_old_ring_size, 0, FIELD_OPTIONAL},
	};
	struct hash_fields read = {.balance = out};

	read.balance->way = BALANCE_HASH;
	read.balance->ring_size = RING_SIZE;
	read.balance->cookie_path = read.balance->cookie_attributes = "";
	if (walk_mapping(walk, node, fields, ARRAY_SIZE(fields), &read) && !read.keys)
		walk_warning(walk, node, "has no key (httpHeaderName, httpCookie, useSourceIp, httpQueryParameterName): requests go anywhere, as in Istio");
}

/* ---- the rest of loadBalancer ---- */

static void read_locality(struct walk *walk, const struct node *node, void *out)
{
	static const char why[] = "prefers endpoints by the node's locality, which sluice does not know: it " NOT_IMPLEMENTED;
	static const char *const refused[] = {"distribute", "failover", "failoverPriority"};

	(void)out;
	if (node->type != NODE_MAPPING) {
		walk_error(walk, node, "is %s; a mapping is wanted", node_shown(walk, node));
		return;
	}
	for (size_t i = 0; i < node->count; i += 2) {
		const char *name = node->items[i]->text;
		size_t state = walk_enter(walk, name);
		bool enabled, known = !strcmp(name, "enabled");

		if (known && !node_is_null(node->items[i + 1]))
			read_flag(walk, node->items[i + 1], &enabled);
		for (size_t k = 0; k < ARRAY_SIZE(refused) && !known; k++) {
			known = !strcmp(name, refused[k]);
			if (known)
				walk_error(walk, node->items[i], "%s", why);
		}
		if (!known)
			walk_error(walk, node->items[i], "unknown field");
		walk_leave(walk, state);
	}
	walk_warning(walk, node, "has no effect here: no endpoint is nearer than another");
}

static void check_size(struct walk *walk, const struct node *node, void *out)
{
	int64_t value;

	(void)out;
	walk_integer(walk, node, 1, UINT32_MAX, &value);
}

static void read_zones(struct walk *walk, const struct node *node, void *out)
{
	static const struct field fields[] = {
		{"enabled", read_flag, 0, FIELD_OPTIONAL},
		{"minClusterSize", check_size, 0, FIELD_OPTIONAL},
		UNSUPPORTED("failover"),
		UNSUPPORTED("failoverPriority"),
	};
	bool enabled = false;

	(void)out;
	walk_mapping(walk, node, fields, ARRAY_SIZE(fields), &enabled);
	if (enabled)
		walk_warning(walk, node, "has no effect here: no endpoint is nearer than another");
}

struct warmup {
	uint64_t ms;
	double percent, aggression;
};

static void read_real(struct walk *walk, const struct node *node, void *out)
{
	walk_number(walk, node, out);
}

static void read_warmup(struct walk *walk, const struct node *node, void *out)
{
	static const struct field fields[] = {
		{"duration", walk_duration, offsetof(struct warmup, ms), FIELD_REQUIRED},
		{"minimumPercent", read_real, offsetof(struct warmup, percent), FIELD_OPTIONAL},
		{"aggression", read_real, offsetof(struct warmup, aggression), FIELD_OPTIONAL},
	};
	struct warmup read = {.aggression = 1};

	(void)out;
	walk_mapping(walk, node, fields, ARRAY_SIZE(fields), &read);
	if (read.percent < 0 || read.percent > 100)
		walk_error(walk, node, "minimumPercent is not within 0 to 100");
	if (read.aggression < 1)
		walk_error(walk, node, "aggression is less than 1");
	walk_warning(walk, node, "has no effect here: a new endpoint has its whole share at once");
}

static void read_old_warmup(struct walk *walk, const struct node *node, void *out)
{
	uint64_t ms;

	(void)out;
	walk_duration(walk, node, &ms);
	walk_warning(walk, node, "has no effect here: a new endpoint has its whole share at once");
}

void read_balancer(struct walk *walk, const struct node *node, void *out)
{
	static const struct field fields[] = {
		{"simple", read_simple, 0, FIELD_OPTIONAL},
		{"consistentHash", read_consistent_hash, 0, FIELD_OPTIONAL},
		UNSUPPORTED("backendUtilization"),
		{"localityLbSetting", read_locality, 0, FIELD_OPTIONAL},
		{"zoneAwareLbSetting", read_zones, 0, FIELD_OPTIONAL},
		{"warmup", read_warmup, 0, FIELD_OPTIONAL},
		{"warmupDurationSecs", read_old_warmup, 0, FIELD_OPTIONAL},
	};
	struct balance_settings *balance = out;

	balance->present = true;
	walk_mapping(walk, node, fields, ARRAY_SIZE(fields), balance);
	if (balance->has_simple && balance->ring_size)
		walk_error(walk, node, "has simple and consistentHash: only one of them can be given");
	if (node_field(node, "warmup") && node_field(node, "warmupDurationSecs"))
		walk_error(walk, node, "has warmup and warmupDurationSecs: only one of them can be given");
}

/* ---- outlierDetection ---- */

static void read_unsigned(struct walk *walk, const struct node *node, void *out)
{
	int64_t value;

	if (walk_integer(walk, node, 0, UINT32_MAX, &value))
		*(uint32_t *)out = (uint32_t)value;
}

static void read_percent(struct walk *walk, const struct node *node, void *out)
{
	int64_t value;

	if (walk_integer(walk, node, 0, 100, &value))
		*(uint32_t *)out = (uint32_t)value;
}

/* 0 says as much as nothing there (Istio cannot tell them apart). */
static void read_max_ejection(struct walk *walk, const struct node *node, void *out)
{
	uint32_t value = 0;

	read_percent(walk, node, &value);
	if (value)
		*(uint32_t *)out = value;
}

static void read_local_failures(struct walk *walk, const struct node *node, void *out)
{
	struct outlier_settings *outlier = out;
	uint32_t value = 0;

	read_unsigned(walk, node, &value);
	outlier->has_local = value > 0;
	if (value)
		outlier->consecutive_local = value;
}

static void read_old_errors(struct walk *walk, const struct node *node, void *out)
{
	int64_t value;

	(void)out;
	if (walk_integer(walk, node, 0, INT32_MAX, &value))
		walk_warning(walk, node, "is deprecated and has no effect, as in Istio: consecutiveGatewayErrors or consecutive5xxErrors has");
}

void read_outlier(struct walk *walk, const struct node *node, void *out)
{
	static const struct field fields[] = {
		{"consecutive5xxErrors", read_unsigned, offsetof(struct outlier_settings, consecutive_5xx), FIELD_OPTIONAL},
		{"consecutiveGatewayErrors", read_unsigned, offsetof(struct outlier_settings, consecutive_gateway), FIELD_OPTIONAL},
		{"consecutiveLocalOriginFailures", read_local_failures, 0, FIELD_OPTIONAL},
		{"splitExternalLocalOriginErrors", read_flag, offsetof(struct outlier_settings, splits), FIELD_OPTIONAL},
		{"consecutiveErrors", read_old_errors, 0, FIELD_OPTIONAL},
		{"interval", walk_duration, offsetof(struct outlier_settings, interval_ms), FIELD_OPTIONAL},
		{"baseEjectionTime", walk_duration, offsetof(struct outlier_settings, base_ejection_ms), FIELD_OPTIONAL},
		{"maxEjectionPercent", read_max_ejection, offsetof(struct outlier_settings, max_ejection_percent), FIELD_OPTIONAL},
		{"minHealthPercent", read_percent, offsetof(struct outlier_settings, min_health_percent), FIELD_OPTIONAL},
		UNSUPPORTED("failurePercentageThreshold"),
		UNSUPPORTED("outlierDetectionHttpErrorCodes"),
	};
	struct outlier_settings *outlier = out;

	/* Envoy's defaults; what Istio leaves off: gateway errors by themselves, unless they are asked for. */
	*outlier = (struct outlier_settings){.present = true, .consecutive_5xx = 5, .consecutive_local = 5, .interval_ms = 10000,
					     .base_ejection_ms = 30000, .max_ejection_percent = 10, .at = walk_position(walk, node)};
	walk_mapping(walk, node, fields, ARRAY_SIZE(fields), outlier);
	if (outlier->has_local && !outlier->splits)
		walk_error(walk, node, "has consecutiveLocalOriginFailures, which needs splitExternalLocalOriginErrors: true");
}
