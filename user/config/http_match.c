// SPDX-License-Identifier: Apache-2.0
/* match of a VirtualService's http route: ISTIO.md §1.5, §3.4. */
#include <stddef.h>
#include <string.h>
#include <strings.h>

#include "config/reader.h"
#include "config/walk.h"

#define MAX_MATCHES 1024
#define MAX_CONDITIONS 256
#define CLAIMS "@request.auth.claims"

/* ---- text ---- */

static void set_rule(struct walk *walk, const struct node *node, struct text_match *match, enum text_rule rule)
{
	char why[128];

	match->rule = rule;
	if (!walk_text(walk, node, &match->text))
		return;
	match->text = arena_strdup(walk->config->arena, match->text);
	match->length = strlen(match->text);
	if (rule != TEXT_REGEX || !match->length)
		return;
	match->pattern = pattern_compile(walk->config->arena, match->text, why, sizeof(why));
	if (!match->pattern)
		walk_error(walk, node, "%s %s", node_shown(walk, node), why);
}

static void read_exact(struct walk *walk, const struct node *node, void *out)
{
	set_rule(walk, node, out, TEXT_EXACT);
}

static void read_prefix(struct walk *walk, const struct node *node, void *out)
{
	set_rule(walk, node, out, TEXT_PREFIX);
}

static void read_suffix(struct walk *walk, const struct node *node, void *out)
{
	set_rule(walk, node, out, TEXT_SUFFIX);
}

static void read_regex(struct walk *walk, const struct node *node, void *out)
{
	set_rule(walk, node, out, TEXT_REGEX);
}

/* exact, prefix, suffix or regex. With none of them anything will do. */
static void read_text_match(struct walk *walk, const struct node *node, struct text_match *out)
{
	static const struct field fields[] = {
		{"exact", read_exact, 0, FIELD_OPTIONAL},
		{"prefix", read_prefix, 0, FIELD_OPTIONAL},
		{"suffix", read_suffix, 0, FIELD_OPTIONAL},
		{"regex", read_regex, 0, FIELD_OPTIONAL},
	};
	size_t given = 0;

	walk_mapping(walk, node, fields, ARRAY_SIZE(fields), out);
	for (size_t i = 0; i < ARRAY_SIZE(fields); i++)
		given += node_field(node, fields[i].name) != NULL;
	if (given > 1)
		walk_error(walk, node, "has %zu of exact, prefix, suffix and regex; only one can be asked for", given);
}

static void refuse_empty(struct walk *walk, const struct node *node, const struct text_match *match)
{
	if (match->text && !match->length && match->rule == TEXT_REGEX)
		walk_error(walk, node, "has an empty regex");
	else if (match->text && !match->length && match->rule == TEXT_PREFIX)
		walk_error(walk, node, "has an empty prefix, which everything has; leave it out");
	else if (match->text && !match->length && match->rule == TEXT_SUFFIX)
		walk_error(walk, node, "has an empty suffix, which everything has; leave it out");
}

static void read_whole(struct walk *walk, const struct node *node, void *out)
{
	read_text_match(walk, node, out);
	refuse_empty(walk, node, out);
}

/* An empty prefix of a path is taken as Istio takes it: every path has it. */
static void read_uri(struct walk *walk, const struct node *node, void *out)
{
	struct text_match *match = out;

	read_text_match(walk, node, match);
	if (match->rule == TEXT_REGEX)
		refuse_empty(walk, node, match);
	if (match->rule == TEXT_SUFFIX)
		walk_error(walk, node, "has a suffix, which Istio takes for no path; a regex can ask for it");
}

void read_text_item(struct walk *walk, const struct node *node, void *out)
{
	struct text_matches *matches = out;
	struct text_match match = {.rule = TEXT_ANY};

	read_whole(walk, node, &match);
	if (node->type == NODE_MAPPING && match.rule == TEXT_ANY)
		walk_error(walk, node, "must have exact, prefix, suffix or regex");
	if (match.rule == TEXT_EXACT && match.text && !match.length)
		walk_error(walk, node, "has an empty exact, which nothing is");
	*arena_append(walk->config->arena, matches->items, matches->count, matches->capacity) = match;
}

/* ---- headers and parameters, by name ---- */

/* A claim of a token: @request.auth.claims.NAME or @request.auth.claims[NAME]. */
static bool is_claim(const char *name)
{
	size_t n = strlen(CLAIMS);

	return !strncasecmp(name, CLAIMS, n) && (name[n] == '.' || name[n] == '[');
}

static bool is_matched_name(const char *name)
{
	static const char *const pseudo[] = {":method", ":scheme", ":authority", ":path", ":status"};

	for (size_t i = 0; i < ARRAY_SIZE(pseudo); i++)
		if (!strcmp(name, pseudo[i]))
			return true;
	return is_header_name(name) || is_claim(name);
}

static bool is_star(const struct node *value)
{
	const struct node *regex = node_field(value, "regex");

	return regex && regex->type == NODE_SCALAR && !strcmp(regex->text, "*");
}

typedef void (*condition_fn)(struct walk *walk, const struct node *name, const struct node *value, struct text_matches *out);

static void add_condition(struct walk *walk, const struct node *name, const struct node *value, struct text_matches *out)
{
	struct text_match match = {.name = arena_strdup(walk->config->arena, name->text), .rule = TEXT_PRESENT};

	/* Istio takes a null for {}. */
	if (!node_is_null(value)) {
		read_text_match(walk, value, &match);
		refuse_empty(walk, value, &match);
	}
	*arena_append(walk->config->arena, out->items, out->count, out->capacity) = match;
}

static void add_header(struct walk *walk, const struct node *name, const struct node *value, struct text_matches *out)
{
	if (!is_matched_name(name->text))
		walk_error(walk, name, "%s is neither a header's name (RFC 9110 §5.1) nor :method, :scheme, :authority, :path or :status",
			   node_shown(walk, name));
	else if (node_is_null(value))
		walk_error(walk, value, "must not be null: {} asks for any value");
	else
		add_condition(walk, name, value, out);
}

/* The regex "*", which is none, asks whether the header is there. */
static void add_absent_header(struct walk *walk, const struct node *name, const struct node *value, struct text_matches *out)
{
	static const struct node anything = {.type = NODE_MAPPING};

	add_header(walk, name, node_is_null(value) || is_star(value) ? &anything : value, out);
}

static void add_param(struct walk *walk, const struct node *name, const struct node *value, struct text_matches *out)
{
	if (*name->text)
		add_condition(walk, name, value, out);
	else
		walk_error(walk, name, "is empty; a name is wanted");
}

static void read_conditions(struct walk *walk, const struct node *node, condition_fn add, struct text_matches *out)
{
	if (node->type != NODE_MAPPING || node->count / 2 > MAX_CONDITIONS) {
		walk_error(walk, node, "must be a mapping of at most %d names", MAX_CONDITIONS);
		return;
	}
	for (size_t i = 0; i < node->count; i += 2) {
		size_t state = walk_enter_key(walk, node->items[i]);

		add(walk, node->items[i], node->items[i + 1], out);
		walk_leave(walk, state);
	}
}

static void read_match_headers(struct walk *walk, const struct node *node, void *out)
{
	read_conditions(walk, node, add_header, out);
}

static void read_absent_headers(struct walk *walk, const struct node *node, void *out)
{
	read_conditions(walk, node, add_absent_header, out);
}

static void read_params(struct walk *walk, const struct node *node, void *out)
{
	read_conditions(walk, node, add_param, out);
}

/* ---- the rest ---- */

static void read_match_gateways(struct walk *walk, const struct node *node, void *out)
{
	struct http_match *match = out;

	match->never = !read_gateway_list(walk, node);
}

static void read_http_match(struct walk *walk, const struct node *node, void *out)
{
	static const struct field fields[] = {
		{"name", read_string_or_none, offsetof(struct http_match, name), FIELD_OPTIONAL},
		{"uri", read_uri, offsetof(struct http_match, uri), FIELD_OPTIONAL},
		{"scheme", read_whole, offsetof(struct http_match, scheme), FIELD_OPTIONAL},
		{"method", read_whole, offsetof(struct http_match, method), FIELD_OPTIONAL},
		{"authority", read_whole, offsetof(struct http_match, authority), FIELD_OPTIONAL},
		{"headers", read_match_headers, offsetof(struct http_match, headers), FIELD_OPTIONAL},
		{"withoutHeaders", read_absent_headers, offsetof(struct http_match, without), FIELD_OPTIONAL},
		{"queryParams", read_params, offsetof(struct http_match, params), FIELD_OPTIONAL},
		{"ignoreUriCase", read_flag, offsetof(struct http_match, ignore_case), FIELD_OPTIONAL},
		{"port", read_port_or_none, offsetof(struct http_match, port), FIELD_OPTIONAL},
		{"sourceLabels", walk_labels, offsetof(struct http_match, source_labels), FIELD_OPTIONAL},
		{"sourceNamespace", read_label_or_none, offsetof(struct http_match, source_namespace), FIELD_OPTIONAL},
		{"gateways", read_match_gateways, 0, FIELD_OPTIONAL},
		IGNORED("statPrefix"),
	};
	struct http_route *route = out;
	struct http_match match = {.at = walk_position(walk, node)};

	if (walk_mapping(walk, node, fields, ARRAY_SIZE(fields), &match))
		*arena_append(walk->config->arena, route->matches, route->match_count, route->match_capacity) = match;
}

/* Istio takes a null for one that asks for nothing. */
void read_http_matches(struct walk *walk, const struct node *node, void *out)
{
	struct http_route *route = out;

	if (node->type != NODE_SEQUENCE || node->count > MAX_MATCHES) {
		walk_error(walk, node, "must be a list of at most %d matches", MAX_MATCHES);
		return;
	}
	for (size_t i = 0; i < node->count; i++) {
		size_t state = walk_enter_item(walk, i);

		if (node_is_null(node->items[i]))
			*arena_append(walk->config->arena, route->matches, route->match_count, route->match_capacity) =
				(struct http_match){.at = walk_position(walk, node->items[i])};
		else
			read_http_match(walk, node->items[i], out);
		walk_leave(walk, state);
	}
}

static void refuse_claims_in(struct walk *walk, const struct node *match, const char *field)
{
	const struct node *names = node_field(match, field);
	size_t state = walk_enter(walk, field);

	for (size_t i = 0; names && names->type == NODE_MAPPING && i < names->count; i += 2)
		if (is_claim(names->items[i]->text))
			walk_error(walk, names->items[i], "%s is of a token that a gateway has read: here is none",
				   node_shown(walk, names->items[i]));
	walk_leave(walk, state);
}

void refuse_claims(struct walk *walk, const struct node *route)
{
	const struct node *matches = node_field(route, "match");
	size_t state = walk_enter(walk, "match");

	for (size_t i = 0; matches && matches->type == NODE_SEQUENCE && i < matches->count; i++) {
		size_t item = walk_enter_item(walk, i);

		refuse_claims_in(walk, matches->items[i], "headers");
		refuse_claims_in(walk, matches->items[i], "withoutHeaders");
		walk_leave(walk, item);
	}
	walk_leave(walk, state);
}
