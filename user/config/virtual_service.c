// SPDX-License-Identifier: Apache-2.0
/* VirtualService: fields and rules of ISTIO.md §1.5, §3.2, §3.4. */
#include <openssl/evp.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "config/reader.h"
#include "config/walk.h"

#define MAX_HOSTS 256
#define MAX_ROUTES 4096
#define LARGE_DIRECT_BODY 102400 /* from here on Istio warns */
#define MAX_DIRECT_BODY 1048576

/* Hosts of one VirtualService must not overlap (Istio). */
static void read_routed_host(struct walk *walk, const struct node *node, void *out)
{
	struct virtual_service *service = out;
	const char *name;

	if (!read_host(walk, node, service->is_mesh ? HOST_WILDCARD_OR_ADDRESS : HOST_OF_GATEWAY, &name))
		return;
	for (size_t i = 0; i < service->host_count; i++) {
		const char *other = service->hosts[i].name;

		if (host_covers(name, other) || host_covers(other, name)) {
			walk_error(walk, node, "\"%.64s\" overlaps \"%.64s\" of the same VirtualService", name, other);
			return;
		}
	}
	*arena_append(walk->config->arena, service->hosts, service->host_count, service->host_capacity) =
		(struct service_host){name, walk_position(walk, node)};
}

static void read_hosts(struct walk *walk, const struct node *node, void *out)
{
	walk_list(walk, node, MAX_HOSTS, read_routed_host, out);
}

/* NAMESPACE/NAME, or a domain name (Istio's older form). */
static const char *gateway_fault(const char *text)
{
	const char *slash = strchr(text, '/');

	if (!slash)
		return domain_fault(text);
	return is_label(text, (size_t)(slash - text)) && is_label(slash + 1, strlen(slash + 1))
		       ? NULL : "is not two names: letters, digits and inner hyphens, at most 63";
}

static void read_gateway(struct walk *walk, const struct node *node, void *names_mesh)
{
	const char *text, *fault;

	if (!walk_text(walk, node, &text))
		return;
	if (!strcmp(text, "mesh")) {
		*(bool *)names_mesh = true;
		return;
	}
	fault = gateway_fault(text);
	if (fault)
		walk_error(walk, node, "%s %s; a gateway is \"mesh\" or NAMESPACE/NAME", node_shown(walk, node), fault);
	else if (strchr(text, '.'))
		walk_warning(walk, node, "%s is the older form of a gateway's name; NAMESPACE/NAME is wanted", node_shown(walk, node));
}

bool read_gateway_list(struct walk *walk, const struct node *node)
{
	bool is_mesh = node->type != NODE_SEQUENCE || !node->count;

	walk_list(walk, node, MAX_HOSTS, read_gateway, &is_mesh);
	if (!is_mesh)
		walk_warning(walk, node, "has no effect here: it is for gateways only; \"mesh\" is not among them");
	return is_mesh;
}

static void read_gateways(struct walk *walk, const struct node *node, void *out)
{
	(void)out; /* known before the hosts are read */
	read_gateway_list(walk, node);
}

/* Without gateways it is for the mesh. */
static bool names_mesh(const struct node *gateways)
{
	if (!gateways || gateways->type != NODE_SEQUENCE || !gateways->count)
		return true;
	for (size_t i = 0; i < gateways->count; i++)
		if (gateways->items[i]->type == NODE_SCALAR && !strcmp(gateways->items[i]->text, "mesh"))
			return true;
	return false;
}

static void read_percent_value(struct walk *walk, const struct node *node, void *out)
{
	double value;

	if (!walk_number(walk, node, &value))
		return;
	if (value != 0 && !(value >= 0.0001 && value <= 100))
		walk_error(walk, node, "%s is not a percentage: 0, or 0.0001 to 100", node_shown(walk, node));
	else
		*(double *)out = value;
}

static void read_percentage(struct walk *walk, const struct node *node, void *out)
{
	static const struct field fields[] = {{"value", read_percent_value, 0, FIELD_OPTIONAL}};

	walk_mapping(walk, node, fields, ARRAY_SIZE(fields), out);
}

/* Of mirrors: without the least value of faults. */
static void read_share_value(struct walk *walk, const struct node *node, void *out)
{
	double value;

	if (!walk_number(walk, node, &value))
		return;
	if (!(value >= 0 && value <= 100))
		walk_error(walk, node, "%s is not within 0 to 100", node_shown(walk, node));
	else
		*(double *)out = value;
}

static void read_share(struct walk *walk, const struct node *node, void *out)
{
	static const struct field fields[] = {{"value", read_share_value, 0, FIELD_OPTIONAL}};

	walk_mapping(walk, node, fields, ARRAY_SIZE(fields), out);
}

static void read_percent(struct walk *walk, const struct node *node, void *out)
{
	int64_t value;

	if (walk_integer(walk, node, 0, 100, &value))
		*(double *)out = (double)value;
}

struct delay_fields {
	uint64_t fixed_ms;
	double percentage;
	double percent; /* the old field, used where there is no percentage */
};

static void warn_never(struct walk *walk, const struct node *node, double percent)
{
	if (percent == 0 && (node_field(node_field(node, "percentage"), "value") || node_field(node, "percent")))
		walk_warning(walk, node, "has no effect: it is for 0 %% of the requests");
	else if (percent == 0)
		walk_warning(walk, node, "has no effect: without percentage Istio takes 0 %%; give percentage: {value: 100}");
}

static void read_delay(struct walk *walk, const struct node *node, void *out)
{
	static const struct field fields[] = {
		{"fixedDelay", walk_duration, offsetof(struct delay_fields, fixed_ms), FIELD_OPTIONAL},
		{"percentage", read_percentage, offsetof(struct delay_fields, percentage), FIELD_OPTIONAL},
		{"percent", read_percent, offsetof(struct delay_fields, percent), FIELD_OPTIONAL},
		UNSUPPORTED("exponentialDelay"),
	};
	size_t errors = walk->config->error_count;
	struct delay_fields read = {0};
	struct fault_delay *delay = out;

	if (!walk_mapping(walk, node, fields, ARRAY_SIZE(fields), &read))
		return;
	delay->present = read.fixed_ms != 0;
	delay->fixed_ms = read.fixed_ms;
	delay->percent = node_field(node, "percentage") ? read.percentage : read.percent;
	delay->at = walk_position(walk, node);
	if (walk->config->error_count != errors)
		return;
	if (!delay->present)
		walk_warning(walk, node, "has no effect: give fixedDelay");
	else
		warn_never(walk, node, delay->percent);
}

static void read_status(struct walk *walk, const struct node *node, void *out)
{
	int64_t value;

	if (walk_integer(walk, node, 200, 600, &value))
		*(uint16_t *)out = (uint16_t)value;
}

/* The names of google.rpc.Code, and what Envoy makes of them in plain HTTP. */
static void read_grpc_status(struct walk *walk, const struct node *node, void *out)
{
	static const struct {
		const char *name;
		uint8_t code;
		uint16_t http;
	} statuses[] = {
		{"OK", 0, 200}, {"CANCELLED", 1, 499}, {"CANCELED", 1, 499}, {"UNKNOWN", 2, 500}, {"INVALID_ARGUMENT", 3, 400},
		{"DEADLINE_EXCEEDED", 4, 504}, {"NOT_FOUND", 5, 404}, {"ALREADY_EXISTS", 6, 409}, {"PERMISSION_DENIED", 7, 403},
		{"RESOURCE_EXHAUSTED", 8, 429}, {"FAILED_PRECONDITION", 9, 400}, {"ABORTED", 10, 409}, {"OUT_OF_RANGE", 11, 400},
		{"UNIMPLEMENTED", 12, 501}, {"INTERNAL", 13, 500}, {"UNAVAILABLE", 14, 503}, {"DATA_LOSS", 15, 500},
		{"UNAUTHENTICATED", 16, 401},
	};
	struct fault_abort *abort = out;
	const char *text;

	if (!walk_text(walk, node, &text))
		return;
	for (size_t i = 0; i < ARRAY_SIZE(statuses); i++) {
		if (strcmp(text, statuses[i].name))
			continue;
		abort->is_grpc = true;
		abort->grpc_status = statuses[i].code;
		abort->http_status = statuses[i].http;
		return;
	}
	walk_error(walk, node, "%s is no gRPC status, such as UNAVAILABLE", node_shown(walk, node));
}

static void read_abort(struct walk *walk, const struct node *node, void *out)
{
	static const struct field fields[] = {
		{"httpStatus", read_status, offsetof(struct fault_abort, http_status), FIELD_OPTIONAL},
		{"percentage", read_percentage, offsetof(struct fault_abort, percent), FIELD_OPTIONAL},
		{"grpcStatus", read_grpc_status, 0, FIELD_OPTIONAL},
		UNSUPPORTED("http2Error"),
	};
	size_t errors = walk->config->error_count;
	struct fault_abort *abort = out;

	if (!walk_mapping(walk, node, fields, ARRAY_SIZE(fields), abort))
		return;
	if (node_field(node, "httpStatus") && node_field(node, "grpcStatus"))
		walk_error(walk, node, "has both httpStatus and grpcStatus");
	abort->present = abort->http_status != 0;
	abort->at = walk_position(walk, node);
	if (walk->config->error_count != errors)
		return;
	if (!abort->present)
		walk_warning(walk, node, "has no effect: give httpStatus or grpcStatus");
	else
		warn_never(walk, node, abort->percent);
}

static void read_fault(struct walk *walk, const struct node *node, void *out)
{
	static const struct field fields[] = {
		{"delay", read_delay, offsetof(struct http_route, delay), FIELD_OPTIONAL},
		{"abort", read_abort, offsetof(struct http_route, abort), FIELD_OPTIONAL},
	};

	if (walk_mapping(walk, node, fields, ARRAY_SIZE(fields), out) && !node_field(node, "delay") &&
	    !node_field(node, "abort"))
		walk_error(walk, node, "must have delay or abort");
}

/* A wildcard is the service of that very name. */
static void read_destination_host(struct walk *walk, const struct node *node, void *out)
{
	read_host(walk, node, HOST_WILDCARD, out);
}

static void read_destination_port(struct walk *walk, const struct node *node, void *out)
{
	static const struct field fields[] = {{"number", read_port_number, 0, FIELD_REQUIRED}};

	walk_mapping(walk, node, fields, ARRAY_SIZE(fields), out);
}

static void read_destination(struct walk *walk, const struct node *node, void *out)
{
	static const struct field fields[] = {
		{"host", read_destination_host, offsetof(struct route_destination, host), FIELD_REQUIRED},
		{"port", read_destination_port, offsetof(struct route_destination, port), FIELD_OPTIONAL},
		{"subset", read_label_or_none, offsetof(struct route_destination, subset), FIELD_OPTIONAL},
	};

	((struct route_destination *)out)->at = walk_position(walk, node);
	walk_mapping(walk, node, fields, ARRAY_SIZE(fields), out);
}

static void read_weight(struct walk *walk, const struct node *node, void *out)
{
	int64_t value;

	if (walk_integer(walk, node, 0, INT32_MAX, &value))
		*(uint32_t *)out = (uint32_t)value;
}

bool read_weighted_destination(struct walk *walk, const struct node *node, bool headers, struct route_destination *out)
{
	static const struct field fields[] = {
		{"destination", read_destination, 0, FIELD_REQUIRED},
		{"weight", read_weight, offsetof(struct route_destination, weight), FIELD_OPTIONAL},
		{"headers", read_headers, offsetof(struct route_destination, headers), FIELD_OPTIONAL},
	};

	*out = (struct route_destination){0};
	return walk_mapping(walk, node, fields, ARRAY_SIZE(fields) - !headers, out);
}

/* Weights are relative; that of a single destination does not matter. */
void check_weights(struct walk *walk, const struct node *node, struct route_destination *items, size_t count)
{
	uint64_t sum = 0;

	for (size_t i = 0; i < count; i++)
		sum += items[i].weight;
	if (count > 1 && !sum)
		walk_error(walk, node, "has %zu destinations, and the sum of their weights is 0", count);
	if (count == 1)
		items[0].weight = 1;
}

static void read_http_destination(struct walk *walk, const struct node *node, void *out)
{
	struct http_route *route = out;
	struct route_destination destination;

	if (read_weighted_destination(walk, node, true, &destination))
		*arena_append(walk->config->arena, route->destinations, route->destination_count, route->destination_capacity) =
			destination;
}

static void read_route(struct walk *walk, const struct node *node, void *out)
{
	struct http_route *route = out;

	walk_list(walk, node, MAX_HOSTS, read_http_destination, out);
	check_weights(walk, node, route->destinations, route->destination_count);
}

/* One of these decides what a route does; exactly one must be there. */
static void check_action(struct walk *walk, const struct node *node)
{
	static const char *const others[] = {"redirect", "directResponse", "delegate"};
	bool has_route = !node_is_empty(node_field(node, "route"));

	if (node_field(node, "delegate") && node_field(node, "redirect"))
		walk_error(walk, node, "has both redirect and delegate");
	for (size_t i = 0; i < ARRAY_SIZE(others); i++) {
		if (!node_field(node, others[i]))
			continue;
		if (has_route)
			walk_error(walk, node, "has both route and %s", others[i]);
		return;
	}
	if (!has_route)
		walk_error(walk, node, "must have a route with a destination, or redirect, directResponse or delegate");
}

/* The statuses Istio knows by name. */
static bool is_known_status(const char *text)
{
	static const struct {
		unsigned int low, high;
	} known[] = {{100, 103}, {200, 208}, {226, 226}, {300, 305}, {307, 308}, {400, 418}, {421, 426},
		     {428, 429}, {431, 431}, {451, 451}, {500, 508}, {510, 511}};
	unsigned int value;

	if (strlen(text) != 3 || strspn(text, "0123456789") != 3)
		return false;
	value = (unsigned int)(text[0] - '0') * 100 + (unsigned int)(text[1] - '0') * 10 + (unsigned int)(text[2] - '0');
	for (size_t i = 0; i < ARRAY_SIZE(known); i++)
		if (value >= known[i].low && value <= known[i].high)
			return true;
	return false;
}

static bool add_retry_condition(struct http_retries *retries, const char *text)
{
	static const struct {
		const char *name;
		uint32_t condition;
	} conditions[] = {
		{"5xx", RETRY_5XX}, {"gateway-error", RETRY_GATEWAY}, {"reset", RETRY_RESET}, {"reset-before-request", RETRY_UNSENT},
		{"connect-failure", RETRY_CONNECT}, {"retriable-4xx", RETRY_409}, {"envoy-ratelimited", RETRY_RATE_LIMITED},
		{"refused-stream", RETRY_REFUSED}, {"cancelled", RETRY_CANCELLED}, {"deadline-exceeded", RETRY_DEADLINE},
		{"internal", RETRY_INTERNAL}, {"resource-exhausted", RETRY_EXHAUSTED}, {"unavailable", RETRY_UNAVAILABLE},
		{"retriable-status-codes", 0}, {"retriable-headers", 0}, {"http3-post-connect-failure", 0},
	};
	unsigned int status;

	for (size_t i = 0; i < ARRAY_SIZE(conditions); i++) {
		if (strcmp(text, conditions[i].name))
			continue;
		retries->on |= conditions[i].condition;
		return true;
	}
	if (!is_known_status(text))
		return false;
	status = (unsigned int)strtoul(text, NULL, 10);
	retries->on |= RETRY_STATUS;
	retries->statuses[status / 8] |= (uint8_t)(1U << status % 8);
	return true;
}

static void read_retry_on(struct walk *walk, const struct node *node, void *out)
{
	struct http_retries *retries = out;
	const char *text;

	if (!walk_text(walk, node, &text) || !*text)
		return;
	retries->has_on = true;
	retries->on_text = arena_strdup(walk->config->arena, text);
	for (;;) {
		size_t length = strcspn(text, ",");
		const char *item = arena_strndup(walk->config->arena, text, length);

		if (!add_retry_condition(retries, item))
			walk_error(walk, node, "\"%.64s\" is neither a retry condition nor an HTTP status", item);
		if (!text[length])
			return;
		text += length + 1;
	}
}

static void read_attempts(struct walk *walk, const struct node *node, void *out)
{
	int64_t value;

	if (walk_integer(walk, node, 0, INT32_MAX, &value))
		*(uint32_t *)out = (uint32_t)value;
}

void read_flag(struct walk *walk, const struct node *node, void *out)
{
	bool is_true = node->type == NODE_SCALAR && node->plain && !strcmp(node->text, "true");

	if (is_true || (node->type == NODE_SCALAR && node->plain && !strcmp(node->text, "false")))
		*(bool *)out = is_true;
	else
		walk_error(walk, node, "must be true or false, without quotes");
}

void read_retries(struct walk *walk, const struct node *node, void *out)
{
	static const struct field fields[] = {
		{"attempts", read_attempts, offsetof(struct http_retries, attempts), FIELD_OPTIONAL},
		{"perTryTimeout", walk_duration, offsetof(struct http_retries, per_try_ms), FIELD_OPTIONAL},
		{"backoff", walk_duration, offsetof(struct http_retries, backoff_ms), FIELD_OPTIONAL},
		{"retryOn", read_retry_on, 0, FIELD_OPTIONAL},
		{"retryRemoteLocalities", read_flag, offsetof(struct http_retries, remote), FIELD_OPTIONAL},
		{"retryIgnorePreviousHosts", read_flag, offsetof(struct http_retries, ignore_previous), FIELD_OPTIONAL},
	};
	static const char *const needing[] = {"perTryTimeout", "retryOn", "retryRemoteLocalities"};
	struct http_retries *retries = out;
	size_t errors = walk->config->error_count;

	retries->at = walk_position(walk, node);
	if (!walk_mapping(walk, node, fields, ARRAY_SIZE(fields), retries))
		return;
	retries->present = true;
	if (!retries->has_on)
		retries->on = RETRY_DEFAULT;
	retries->has_remote = node_field(node, "retryRemoteLocalities") != NULL;
	retries->has_ignore = node_field(node, "retryIgnorePreviousHosts") != NULL;
	for (size_t i = 0; i < ARRAY_SIZE(needing) && !retries->attempts && walk->config->error_count == errors; i++)
		if (node_field(node, needing[i]) && (strcmp(needing[i], "retryOn") || retries->has_on))
			walk_error(walk, node, "has %s, but attempts is 0: no retries", needing[i]);
}

static void read_redirect_code(struct walk *walk, const struct node *node, void *out)
{
	int64_t code;

	if (node->type == NODE_SCALAR && node->plain && !strcmp(node->text, "0")) /* protobuf's way of leaving it out */
		return;
	if (!walk_integer(walk, node, 300, 399, &code))
		return;
	if ((code >= 301 && code <= 303) || code == 307 || code == 308)
		*(uint16_t *)out = (uint16_t)code;
	else
		walk_error(walk, node, "%s is no redirect a client follows: 301, 302, 303, 307 or 308", node_shown(walk, node));
}

static void read_redirect_scheme(struct walk *walk, const struct node *node, void *out)
{
	const char *text;

	if (!walk_text(walk, node, &text))
		return;
	if (*text && strcmp(text, "http") && strcmp(text, "https"))
		walk_error(walk, node, "%s is no scheme to redirect to: http or https", node_shown(walk, node));
	else
		read_string(walk, node, out);
}

static void read_derive_port(struct walk *walk, const struct node *node, void *out)
{
	static const struct choice choices[] = {{"FROM_PROTOCOL_DEFAULT", 0}, {"FROM_REQUEST_PORT", 1}};
	struct http_redirect *redirect = out;
	int value;

	if (!walk_choice(walk, node, "a way to derive the port", choices, ARRAY_SIZE(choices), &value))
		return;
	redirect->derive_port = true;
	redirect->port_of_request = value == 1;
}

static bool is_given(const char *text)
{
	return text && *text;
}

/* What goes into a header of the answer as it stands. */
static void read_header_text(struct walk *walk, const struct node *node, void *out)
{
	const char *text;

	if (!walk_text(walk, node, &text))
		return;
	for (const unsigned char *c = (const unsigned char *)text; *c; c++) {
		if (*c > ' ' && *c < 0x7f)
			continue;
		walk_error(walk, node, "%s has a blank, a control character or one that is not ASCII", node_shown(walk, node));
		return;
	}
	read_string(walk, node, out);
}

static void read_redirect(struct walk *walk, const struct node *node, void *out)
{
	static const struct field fields[] = {
		{"uri", read_header_text, offsetof(struct http_redirect, uri), FIELD_OPTIONAL},
		{"prefixRewrite", read_header_text, offsetof(struct http_redirect, prefix_rewrite), FIELD_OPTIONAL},
		{"authority", read_header_text, offsetof(struct http_redirect, authority), FIELD_OPTIONAL},
		{"scheme", read_redirect_scheme, offsetof(struct http_redirect, scheme), FIELD_OPTIONAL},
		{"port", read_port_or_none, offsetof(struct http_redirect, port), FIELD_OPTIONAL},
		{"derivePort", read_derive_port, 0, FIELD_OPTIONAL},
		{"redirectCode", read_redirect_code, offsetof(struct http_redirect, code), FIELD_OPTIONAL},
	};
	struct http_redirect *redirect = out;
	size_t errors = walk->config->error_count;

	redirect->code = 301;
	redirect->at = walk_position(walk, node);
	if (!walk_mapping(walk, node, fields, ARRAY_SIZE(fields), redirect))
		return;
	redirect->present = true;
	if (is_given(redirect->uri) && is_given(redirect->prefix_rewrite))
		walk_error(walk, node, "has both uri and prefixRewrite");
	if (node_field(node, "port") && node_field(node, "derivePort"))
		walk_error(walk, node, "has both port and derivePort");
	if (walk->config->error_count == errors && !is_given(redirect->uri) && !is_given(redirect->prefix_rewrite) &&
	    !is_given(redirect->authority) && !is_given(redirect->scheme) && !node_field(node, "port") && !redirect->derive_port)
		walk_error(walk, node, "must have uri, prefixRewrite, authority, scheme or port");
}

/* An answer at once: there is nothing to rewrite or to fail. */
static void check_direct_response(struct walk *walk, const struct node *route)
{
	static const char *const others[] = {"fault", "rewrite"};

	for (size_t i = 0; node_field(route, "directResponse") && !node_field(route, "delegate") && i < ARRAY_SIZE(others); i++)
		if (node_field(route, others[i]))
			walk_error(walk, route, "has both directResponse and %s", others[i]);
}

/* The same of a redirect. */
static void check_redirect(struct walk *walk, const struct node *route)
{
	static const char *const others[] = {"directResponse", "fault", "rewrite"};
	const struct node *redirect = node_field(route, "redirect"), *match = node_field(route, "match");

	for (size_t i = 0; redirect && i < ARRAY_SIZE(others); i++)
		if (node_field(route, others[i]))
			walk_error(walk, route, "has both redirect and %s", others[i]);
	if (!redirect || !node_field(redirect, "prefixRewrite") || !match || match->type != NODE_SEQUENCE)
		return;
	for (size_t i = 0; i < match->count; i++) {
		const struct node *uri = node_field(match->items[i], "uri");

		if (uri && !node_field(uri, "prefix"))
			walk_error(walk, uri, "must be a prefix: redirect.prefixRewrite replaces one");
	}
}

static void set_body(struct walk *walk, const struct node *node, struct http_direct_response *direct, const char *bytes, size_t length)
{
	if (length > MAX_DIRECT_BODY) {
		walk_error(walk, node, "has %zu bytes; at most %d may be sent", length, MAX_DIRECT_BODY);
		return;
	}
	if (length > LARGE_DIRECT_BODY)
		walk_warning(walk, node, "has %zu bytes: it is kept in memory for every rule that sends it", length);
	direct->body = arena_strndup(walk->config->arena, bytes, length);
	direct->length = length;
}

static void read_body_text(struct walk *walk, const struct node *node, void *out)
{
	const char *text;

	if (!walk_text(walk, node, &text))
		return;
	set_body(walk, node, out, text, strlen(text));
}

/* Standard or URL-safe base64, with padding or without: protobuf's JSON form of bytes. Padded and standard in `out`. */
static size_t pad_base64(char *out, const char *text)
{
	size_t n = strcspn(text, "=");

	for (size_t i = 0; i < n; i++)
		out[i] = (char)(text[i] == '-' ? '+' : text[i] == '_' ? '/' : text[i]);
	while (n % 4)
		out[n++] = '=';
	return n;
}

static void read_body_bytes(struct walk *walk, const struct node *node, void *out)
{
	struct arena *arena = walk->config->arena;
	size_t length, padded, padding;
	const char *text;
	char *base64;
	unsigned char *bytes;
	int n;

	if (!walk_text(walk, node, &text))
		return;
	length = strlen(text);
	base64 = arena_alloc(arena, length + 4, 1);
	padded = pad_base64(base64, text);
	padding = padded - strcspn(base64, "=");
	bytes = arena_alloc(arena, padded + 1, 1);
	n = padding > 2 || (strchr(text, '=') && padded != length) ? -1 : EVP_DecodeBlock(bytes, (const unsigned char *)base64, (int)padded);
	if (n < (int)padding)
		walk_error(walk, node, "%s is not base64", node_shown(walk, node));
	else
		set_body(walk, node, out, (const char *)bytes, (size_t)n - padding);
}

static void read_body(struct walk *walk, const struct node *node, void *out)
{
	static const struct field fields[] = {
		{"string", read_body_text, 0, FIELD_OPTIONAL},
		{"bytes", read_body_bytes, 0, FIELD_OPTIONAL},
	};

	if (walk_mapping(walk, node, fields, ARRAY_SIZE(fields), out) && node_field(node, "string") && node_field(node, "bytes"))
		walk_error(walk, node, "has both string and bytes");
}

static void read_direct_response(struct walk *walk, const struct node *node, void *out)
{
	static const struct field fields[] = {
		{"status", read_status, offsetof(struct http_direct_response, status), FIELD_REQUIRED},
		{"body", read_body, 0, FIELD_OPTIONAL},
	};
	struct http_direct_response *direct = out;

	direct->present = true;
	direct->body = "";
	direct->at = walk_position(walk, node);
	walk_mapping(walk, node, fields, ARRAY_SIZE(fields), direct);
}

struct regex_fields {
	const char *match, *rewrite;
};

static void read_regex_rewrite(struct walk *walk, const struct node *node, void *out)
{
	static const struct field fields[] = {
		{"match", read_string, offsetof(struct regex_fields, match), FIELD_REQUIRED},
		{"rewrite", read_header_text, offsetof(struct regex_fields, rewrite), FIELD_REQUIRED},
	};
	struct http_rewrite *rewrite = out;
	struct regex_fields read = {0};
	char why[128];

	if (!walk_mapping(walk, node, fields, ARRAY_SIZE(fields), &read) || !read.match || !read.rewrite)
		return;
	if (!is_given(read.match) || !is_given(read.rewrite)) {
		walk_error(walk, node, "must have both match and rewrite");
		return;
	}
	rewrite->regex = rewriter_compile(walk->config->arena, read.match, read.rewrite, why, sizeof(why));
	if (!rewrite->regex)
		walk_error(walk, node, "%s", why);
}

static void read_rewrite(struct walk *walk, const struct node *node, void *out)
{
	static const struct field fields[] = {
		{"uri", read_header_text, offsetof(struct http_rewrite, uri), FIELD_OPTIONAL},
		{"authority", read_header_text, offsetof(struct http_rewrite, authority), FIELD_OPTIONAL},
		{"uriRegexRewrite", read_regex_rewrite, 0, FIELD_OPTIONAL},
	};
	struct http_rewrite *rewrite = out;

	rewrite->present = true;
	rewrite->at = walk_position(walk, node);
	if (!walk_mapping(walk, node, fields, ARRAY_SIZE(fields), rewrite))
		return;
	if (is_given(rewrite->uri) && node_field(node, "uriRegexRewrite"))
		walk_error(walk, node, "has both uri and uriRegexRewrite");
	else if (!is_given(rewrite->uri) && !is_given(rewrite->authority) && !node_field(node, "uriRegexRewrite"))
		walk_error(walk, node, "must have uri, uriRegexRewrite or authority");
}

static void add_mirror(struct walk *walk, struct http_route *route, const struct http_mirror *mirror)
{
	*arena_append(walk->config->arena, route->mirrors, route->mirror_count, route->mirror_capacity) = *mirror;
}

static void read_mirror_destination(struct walk *walk, const struct node *node, void *out)
{
	read_destination(walk, node, &((struct http_mirror *)out)->destination);
}

static void read_mirror_item(struct walk *walk, const struct node *node, void *out)
{
	static const struct field fields[] = {
		{"destination", read_mirror_destination, 0, FIELD_REQUIRED},
		{"percentage", read_share, offsetof(struct http_mirror, percent), FIELD_OPTIONAL},
	};
	struct http_mirror mirror = {.percent = 100};

	if (node_field(node, "percentage"))
		mirror.percent = 0; /* without a value, as in Istio */
	if (walk_mapping(walk, node, fields, ARRAY_SIZE(fields), &mirror))
		add_mirror(walk, out, &mirror);
}

static void read_mirrors(struct walk *walk, const struct node *node, void *out)
{
	walk_list(walk, node, MAX_MIRRORS, read_mirror_item, out);
}

static void read_mirror(struct walk *walk, const struct node *node, void *out)
{
	struct http_mirror mirror = {.percent = 100};

	read_destination(walk, node, &mirror.destination);
	add_mirror(walk, out, &mirror);
}

/* Of `mirror`: mirrorPercentage, else the old mirrorPercent. */
static void settle_mirror(struct walk *walk, const struct node *node, struct http_route *route)
{
	const struct node *percent = node_field(node, "mirrorPercent") ? node_field(node, "mirrorPercent") : node_field(node, "mirror_percent");

	if (node_field(node, "mirror") && !node_is_empty(node_field(node, "mirrors")) && !node_field(node, "delegate"))
		walk_error(walk, node, "has both mirror and mirrors");
	if (percent)
		walk_warning(walk, node, "has mirrorPercent, which Istio has replaced by mirrorPercentage: {value: ...}");
	if (!node_field(node, "mirror") || route->mirror_count != 1)
		return;
	if (node_field(node, "mirrorPercentage"))
		route->mirrors[0].percent = route->mirror_percentage;
	else if (percent)
		route->mirrors[0].percent = route->mirror_percent;
}

struct delegate_fields {
	const char *name, *namespace_;
};

static void read_delegate(struct walk *walk, const struct node *node, void *out)
{
	static const struct field fields[] = {
		{"name", read_string, offsetof(struct delegate_fields, name), FIELD_OPTIONAL},
		{"namespace", read_label_or_none, offsetof(struct delegate_fields, namespace_), FIELD_OPTIONAL},
	};
	struct delegate_fields read = {.name = ""}; /* of no VirtualService */
	struct http_route *route = out;

	if (!walk_mapping(walk, node, fields, ARRAY_SIZE(fields), &read))
		return;
	route->delegate = read.name;
	route->delegate_namespace = read.namespace_;
}

static void read_http_route(struct walk *walk, const struct node *node, void *out)
{
	static const struct field fields[] = {
		{"name", read_string_or_none, offsetof(struct http_route, name), FIELD_OPTIONAL},
		{"fault", read_fault, 0, FIELD_OPTIONAL},
		{"match", read_http_matches, 0, FIELD_OPTIONAL},
		{"route", read_route, 0, FIELD_OPTIONAL},
		{"directResponse", read_direct_response, offsetof(struct http_route, direct), FIELD_OPTIONAL},
		{"rewrite", read_rewrite, offsetof(struct http_route, rewrite), FIELD_OPTIONAL},
		{"redirect", read_redirect, offsetof(struct http_route, redirect), FIELD_OPTIONAL},
		{"headers", read_headers, offsetof(struct http_route, headers), FIELD_OPTIONAL},
		{"corsPolicy", read_cors, offsetof(struct http_route, cors), FIELD_OPTIONAL},
		{"timeout", walk_duration, offsetof(struct http_route, timeout_ms), FIELD_OPTIONAL},
		{"retries", read_retries, offsetof(struct http_route, retries), FIELD_OPTIONAL},
		{"delegate", read_delegate, 0, FIELD_OPTIONAL},
		{"mirror", read_mirror, 0, FIELD_OPTIONAL},
		{"mirrors", read_mirrors, 0, FIELD_OPTIONAL},
		{"mirrorPercentage", read_share, offsetof(struct http_route, mirror_percentage), FIELD_OPTIONAL},
		{"mirrorPercent", read_percent, offsetof(struct http_route, mirror_percent), FIELD_OPTIONAL},
		{"mirror_percent", read_percent, offsetof(struct http_route, mirror_percent), FIELD_OPTIONAL},
	};
	struct virtual_service *service = out;
	struct http_route route = {.at = walk_position(walk, node)};

	if (!walk_mapping(walk, node, fields, ARRAY_SIZE(fields), &route))
		return;
	settle_mirror(walk, node, &route);
	if (is_given(route.rewrite.authority) && route.headers.request.authority)
		walk_error(walk, node, "changes the authority in rewrite and in headers.request");
	check_action(walk, node);
	check_redirect(walk, node);
	check_direct_response(walk, node);
	if (service->is_mesh)
		refuse_claims(walk, node);
	if (service->is_delegate && node_field(node, "delegate"))
		walk_error(walk, node, "has a delegate, but is one itself: the VirtualService has no hosts");
	for (size_t i = 0; i < service->http_count; i++) {
		if (service->http[i].match_count || service->http[i].delegate)
			continue;
		walk_warning(walk, node, "is never reached: http[%zu] has no match and takes every request", i);
		break;
	}
	*arena_append(walk->config->arena, service->http, service->http_count, service->http_capacity) = route;
}

static void read_http(struct walk *walk, const struct node *node, void *out)
{
	walk_list(walk, node, MAX_ROUTES, read_http_route, out);
}

/* Unlike a ServiceEntry's it cannot be for nobody. */
static void read_visible_to(struct walk *walk, const struct node *node, void *out)
{
	if (node->type == NODE_SEQUENCE && node->count == 1 && node->items[0]->type == NODE_SCALAR && !strcmp(node->items[0]->text, "~"))
		walk_error(walk, node, "\"~\" is for ServiceEntries only: name namespaces, \".\" or \"*\"");
	else
		read_export_to(walk, node, out);
}

void read_virtual_service(struct walk *walk, const struct node *spec, const struct object *object)
{
	static const struct field fields[] = {
		{"hosts", read_hosts, 0, FIELD_OPTIONAL},
		{"gateways", read_gateways, 0, FIELD_OPTIONAL},
		{"http", read_http, 0, FIELD_OPTIONAL},
		{"exportTo", read_visible_to, offsetof(struct virtual_service, object), FIELD_OPTIONAL},
		{"tls", read_tls_routes, 0, FIELD_OPTIONAL},
		{"tcp", read_tcp_routes, 0, FIELD_OPTIONAL},
	};
	struct config *config = walk->config;
	struct virtual_service *service = arena_alloc(config->arena, 1, sizeof(*service));

	service->object = *object;
	service->is_delegate = node_is_empty(node_field(spec, "hosts"));
	service->is_mesh = names_mesh(node_field(spec, "gateways"));
	*arena_append(config->arena, config->virtual_services, config->virtual_service_count,
		      config->virtual_service_capacity) = service;
	if (!walk_mapping(walk, spec, fields, ARRAY_SIZE(fields), service))
		return;
	if (service->is_delegate && !node_is_empty(node_field(spec, "gateways")))
		walk_error(walk, spec, "has gateways, but no hosts: what others delegate to has none");
	if (node_is_empty(node_field(spec, "http")) && node_is_empty(node_field(spec, "tls")) && node_is_empty(node_field(spec, "tcp")))
		walk_error(walk, spec, "must have http, tls or tcp routes");
	if (service->is_delegate && (service->tls_count || service->tcp_count))
		walk_error(walk, spec, "has tls or tcp routes, but no hosts: what others delegate to has http routes only");
}
