// SPDX-License-Identifier: Apache-2.0
#include "redirect/http_route.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "redirect/ring.h"

#define MAX_JOINED 8192 /* bytes of the values of one header; longer ones match nothing */

static const struct slice http_scheme = {"http", 4};

/* ---- text ---- */

static bool has_text(const struct text_match *match, struct slice value, bool ignore_case)
{
	if (value.n < match->length || (match->rule == TEXT_EXACT && value.n != match->length))
		return false;
	if (match->rule == TEXT_SUFFIX)
		value.p += value.n - match->length;
	return ignore_case ? !strncasecmp(value.p, match->text, match->length) : !memcmp(value.p, match->text, match->length);
}

static bool holds(const struct text_match *match, struct slice value, bool ignore_case)
{
	switch (match->rule) {
	case TEXT_ANY:
	case TEXT_PRESENT:
		return true;
	case TEXT_REGEX:
		return pattern_matches(match->pattern, value.p, value.n);
	default:
		return has_text(match, value, ignore_case);
	}
}

/* ---- headers ---- */

static bool pseudo_header(const struct http_head *head, const char *name, struct slice *out)
{
	if (!strcasecmp(name, ":authority"))
		*out = head->authority;
	else if (!strcasecmp(name, ":method"))
		*out = head->method_text;
	else if (!strcasecmp(name, ":path"))
		*out = head->path;
	else if (!strcasecmp(name, ":scheme"))
		*out = http_scheme;
	else
		return false;
	return true;
}

/* The values of a header that comes more than once are one list (RFC 9110 §5.3). False: it is not there. */
static bool header_value(const struct http_head *head, const char *name, char room[MAX_JOINED], struct slice *out)
{
	size_t length = strlen(name), n = 0, found = 0;

	if (pseudo_header(head, name, out))
		return true;
	for (size_t i = 0; i < head->field_count; i++) {
		const struct http_field *field = &head->fields[i];

		if (field->name.n != length || strncasecmp(field->name.p, name, length))
			continue;
		if (!found++) {
			*out = field->value;
			continue;
		}
		if (found == 2 && out->n < MAX_JOINED) {
			memcpy(room, out->p, out->n);
			n = out->n;
		}
		if (n + 1 + field->value.n > MAX_JOINED)
			return false;
		room[n++] = ',';
		memcpy(room + n, field->value.p, field->value.n);
		n += field->value.n;
		*out = (struct slice){room, n};
	}
	return found;
}

static bool headers_hold(const struct http_match *match, const struct http_head *head)
{
	char room[MAX_JOINED];
	struct slice value;

	for (size_t i = 0; i < match->headers.count; i++)
		if (!header_value(head, match->headers.items[i].name, room, &value) || !holds(&match->headers.items[i], value, false))
			return false;
	/* An absent one is taken for an empty one, but for the question whether it is there. */
	for (size_t i = 0; i < match->without.count; i++) {
		const struct text_match *without = &match->without.items[i];
		bool present = header_value(head, without->name, room, &value);

		if (!present)
			value = (struct slice){"", 0};
		if (without->rule == TEXT_PRESENT ? present : holds(without, value, false))
			return false;
	}
	return true;
}

/* ---- the target ---- */

static struct slice path_of(const struct http_head *head)
{
	const char *query = head->path.n ? memchr(head->path.p, '?', head->path.n) : NULL;

	return (struct slice){head->path.p, query ? (size_t)(query - head->path.p) : head->path.n};
}

/* The first of that name, as it was sent. */
static bool param_value(struct slice query, const char *name, struct slice *out)
{
	size_t length = strlen(name);

	while (query.n) {
		const char *end = memchr(query.p, '&', query.n);
		size_t n = end ? (size_t)(end - query.p) : query.n;

		if (n >= length && !memcmp(query.p, name, length) && (n == length || query.p[length] == '=')) {
			*out = n == length ? (struct slice){"", 0} : (struct slice){query.p + length + 1, n - length - 1};
			return true;
		}
		query.p += end ? n + 1 : n;
		query.n -= end ? n + 1 : n;
	}
	return false;
}

static struct slice query_of(const struct http_head *head)
{
	size_t path = path_of(head).n;

	return path < head->path.n ? (struct slice){head->path.p + path + 1, head->path.n - path - 1} : (struct slice){"", 0};
}

static bool params_hold(const struct http_match *match, const struct http_head *head)
{
	struct slice query = query_of(head), value;

	for (size_t i = 0; i < match->params.count; i++)
		if (!param_value(query, match->params.items[i].name, &value) || !holds(&match->params.items[i], value, false))
			return false;
	return true;
}

/* ---- rules ---- */

/* Whether a match is for this workload and port at all, whatever it sends. */
static bool is_for(const struct http_match *match, const struct workload_identity *who, uint16_t port)
{
	return !match->never && (!match->port || match->port == port) &&
	       (!match->source_namespace || !strcmp(match->source_namespace, who->namespace_)) &&
	       workload_has_labels(who, &match->source_labels);
}

static bool takes(const struct http_match *match, const struct http_head *head)
{
	return holds(&match->uri, path_of(head), match->ignore_case) && holds(&match->scheme, http_scheme, false) &&
	       holds(&match->method, head->method_text, false) && holds(&match->authority, head->authority, false) &&
	       headers_hold(match, head) && params_hold(match, head);
}

/* How much of the path a rewrite stands for: Envoy's route has the prefix "/" where Istio's match has no uri. */
size_t http_matched_path(const struct http_match *match, const struct http_head *head)
{
	if (match && match->uri.rule == TEXT_PREFIX)
		return match->uri.length;
	return match && (match->uri.rule == TEXT_EXACT || match->uri.rule == TEXT_REGEX) ? path_of(head).n : 1;
}

enum route_result http_rule_takes(const struct http_route *rule, const struct http_head *head, const struct workload_identity *who,
				  uint16_t port, const struct http_match **match)
{
	enum route_result otherwise = ROUTE_OWN;

	*match = NULL;
	if (!rule->match_count)
		return ROUTE_FOUND;
	for (size_t i = 0; i < rule->match_count; i++) {
		if (!is_for(&rule->matches[i], who, port))
			continue;
		otherwise = ROUTE_NONE;
		if (takes(&rule->matches[i], head)) {
			*match = &rule->matches[i];
			return ROUTE_FOUND;
		}
	}
	return otherwise;
}

enum route_result http_route_find(const struct service *service, const struct http_head *head,
				  const struct workload_identity *who, uint16_t port, const struct service_route **out,
				  const struct http_match **match)
{
	enum route_result otherwise = ROUTE_OWN;

	for (size_t i = 0; i < service->route_count; i++) {
		enum route_result result = http_rule_takes(service->routes[i].rule, head, who, port, match);

		if (result == ROUTE_NONE)
			otherwise = ROUTE_NONE;
		if (result != ROUTE_FOUND)
			continue;
		*out = &service->routes[i];
		return ROUTE_FOUND;
	}
	return otherwise;
}

const struct http_retries *http_retries_for(const struct http_route *rule, const struct mesh *mesh)
{
	static const struct http_retries istio = {
		.attempts = 2, .on = RETRY_DEFAULT, .on_text = "connect-failure,refused-stream,unavailable,cancelled"};

	if (rule && rule->retries.present)
		return &rule->retries;
	return mesh && mesh->retries.present ? &mesh->retries : &istio;
}

/* ---- other origins ---- */

static bool is_allowed(const struct http_cors *cors, struct slice origin)
{
	for (size_t i = 0; i < cors->origins.count; i++)
		if (holds(&cors->origins.items[i], origin, false))
			return true;
	return false;
}

enum cors_result http_cors(char *out, size_t room, const struct http_cors *cors, const struct http_head *head)
{
	const struct http_field *origin = http_field(head, "origin");
	const struct http_field *asked = head->method == HTTP_OPTIONS ? http_field(head, "access-control-request-method") : NULL;
	bool is_preflight = asked && asked->value.n;
	int n;

	out[0] = 0;
	if (!cors->present || !origin || !origin->value.n)
		return CORS_NONE;
	if (!is_allowed(cors, origin->value))
		return is_preflight && cors->ignores_unmatched ? CORS_IGNORED : CORS_NONE;
	n = snprintf(out, room, "access-control-allow-origin: %.*s\r\n%s", (int)origin->value.n, origin->value.p,
		     is_preflight ? cors->preflight : cors->response);
	if (n < 0 || (size_t)n >= room) { /* no origin is that long */
		out[0] = 0;
		return CORS_NONE;
	}
	return is_preflight ? CORS_PREFLIGHT : CORS_RESPONSE;
}

/* ---- consistent hashing ---- */

/* The value of a cookie, without its quotes (RFC 6265 §4.2.1). */
static bool cookie_value(const struct http_head *head, const char *name, struct slice *out)
{
	size_t length = strlen(name);

	for (size_t i = 0; i < head->field_count; i++) {
		const struct http_field *field = &head->fields[i];
		struct slice rest = field->value;

		if (field->name.n != 6 || strncasecmp(field->name.p, "cookie", 6))
			continue;
		while (rest.n) {
			const char *end = memchr(rest.p, ';', rest.n);
			size_t n = end ? (size_t)(end - rest.p) : rest.n;

			if (n > length && !memcmp(rest.p, name, length) && rest.p[length] == '=') {
				*out = (struct slice){rest.p + length + 1, n - length - 1};
				if (out->n >= 2 && out->p[0] == '"' && out->p[out->n - 1] == '"')
					*out = (struct slice){out->p + 1, out->n - 2};
				return true;
			}
			n += end != NULL;
			while (n < rest.n && rest.p[n] == ' ')
				n++;
			rest = (struct slice){rest.p + n, rest.n - n};
		}
	}
	return false;
}

bool http_hash(const struct balance_settings *balance, const struct http_head *head, uint64_t *hash)
{
	char room[MAX_JOINED];
	struct slice value = {"", 0};
	bool found = false;

	if (balance->key == HASH_HEADER)
		found = header_value(head, balance->name, room, &value);
	else if (balance->key == HASH_COOKIE)
		found = cookie_value(head, balance->name, &value);
	else if (balance->key == HASH_PARAMETER)
		found = param_value(query_of(head), balance->name, &value);
	if (found)
		*hash = ring_hash(value.p, value.n);
	return found;
}

static void write_cookie(char out[17], uint64_t value)
{
	snprintf(out, 17, "%016llx", (unsigned long long)value);
}

void http_cookie_line(char *out, size_t room, const struct balance_settings *balance, uint64_t value)
{
	char text[17], age[40] = "";

	write_cookie(text, value);
	if (balance->cookie_ttl_ms)
		snprintf(age, sizeof(age), "; Max-Age=%llu", (unsigned long long)(balance->cookie_ttl_ms + 999) / 1000);
	snprintf(out, room, "set-cookie: %s=\"%s\"%s%s%s%s; HttpOnly\r\n", balance->name, text, age,
		 balance->cookie_path[0] ? "; Path=" : "", balance->cookie_path, balance->cookie_attributes);
}

uint64_t http_cookie_hash(uint64_t value)
{
	char text[17];

	write_cookie(text, value);
	return ring_hash(text, 16);
}

/* ---- paths ---- */

/* How many dots a segment is: 1 or 2; 0: it is something else. */
static int dots(const char *segment, size_t n)
{
	int count = 0;

	for (size_t i = 0; i < n; count++) {
		if (segment[i] == '.')
			i++;
		else if (n - i >= 3 && !strncasecmp(segment + i, "%2e", 3))
			i += 3;
		else
			return 0;
	}
	return count <= 2 ? count : 0;
}

static bool is_slash(char c)
{
	return c == '/' || c == '\\';
}

static size_t segment_length(const char *path, size_t at, size_t end)
{
	size_t n = 0;

	while (at + n < end && !is_slash(path[at + n]))
		n++;
	return n;
}

static bool is_normal(const char *path, size_t end)
{
	for (size_t at = 0; at < end; at++)
		if (path[at] == '\\' || (path[at] == '/' && dots(path + at + 1, segment_length(path, at + 1, end))))
			return false;
	return true;
}

size_t http_normalize_path(char *path, size_t n)
{
	const char *query = n ? memchr(path, '?', n) : NULL;
	size_t end = query ? (size_t)(query - path) : n, out = 0;

	if (!n || path[0] != '/' || is_normal(path, end))
		return n;
	for (size_t at = 0; at < end;) {
		size_t length = segment_length(path, at + 1, end);
		int up = dots(path + at + 1, length);

		while (up == 2 && out && path[--out] != '/')
			;
		if (!up || at + 1 + length == end)
			path[out++] = '/';
		if (!up) {
			memmove(path + out, path + at + 1, length);
			out += length;
		}
		at += 1 + length;
	}
	memmove(path + out, path + end, n - end);
	return out + n - end;
}
