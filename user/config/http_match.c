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
	if (rule != TEXT_REGEX || !strcmp(match->text, "*"))
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

static void read_regex(struct walk *walk, const struct node *node, void *out)
{
	set_rule(walk, node, out, TEXT_REGEX);
}

/* exact, prefix or regex. False: none of them. */
static bool read_text_match(struct walk *walk, const struct node *node, struct text_match *out)
{
	static const struct field fields[] = {
		{"exact", read_exact, 0, FIELD_OPTIONAL},
		{"prefix", read_prefix, 0, FIELD_OPTIONAL},
		{"regex", read_regex, 0, FIELD_OPTIONAL},
	};
	size_t given = 0;

	if (!walk_mapping(walk, node, fields, ARRAY_SIZE(fields), out))
		return true;
	for (size_t i = 0; i < ARRAY_SIZE(fields); i++)
		given += node_field(node, fields[i].name) != NULL;
	if (given > 1)
		walk_error(walk, node, "has %zu of exact, prefix and regex; only one can be asked for", given);
	return given;
}

static void refuse_empty(struct walk *walk, const struct node *node, const struct text_match *match)
{
	if (match->text && !match->length && match->rule == TEXT_REGEX)
		walk_error(walk, node, "has an empty regex");
	else if (match->text && !match->length && match->rule == TEXT_PREFIX)
		walk_error(walk, node, "has an empty prefix, which everything has; leave it out");
}

static void read_whole(struct walk *walk, const struct node *node, void *out)
{
	if (!read_text_match(walk, node, out))
		walk_error(walk, node, "must have exact, prefix or regex");
	refuse_empty(walk, node, out);
}

/* An empty prefix of a path is taken as Istio takes it: every path has it. */
static void read_uri(struct walk *walk, const struct node *node, void *out)
{
	struct text_match *match = out;

	if (!read_text_match(walk, node, match))
		walk_error(walk, node, "must have exact, prefix or regex");
	if (match->rule == TEXT_REGEX)
		refuse_empty(walk, node, match);
}

void read_text_item(struct walk *walk, const struct node *node, void *out)
{
	struct text_matches *matches = out;
	struct text_match match = {.rule = TEXT_ANY};

	read_whole(walk, node, &match);
	if (match.rule == TEXT_REGEX && !match.pattern)
		match.rule = TEXT_PRESENT; /* "*" */
	*arena_append(walk->config->arena, matches->items, matches->count, matches->capacity) = match;
}

/* ---- headers and parameters, by name ---- */

static void add_condition(struct walk *walk, const struct node *name, const struct node *value, struct text_matches *out)
{
	struct text_match match = {.rule = TEXT_PRESENT};

	if (!*name->text)
		walk_error(walk, name, "is empty; a name is wanted");
	else if (!strncasecmp(name->text, CLAIMS, strlen(CLAIMS)))
		walk_error(walk, name, "%s is of a token that a gateway has read: here is none", node_shown(walk, name));
	if (node_is_null(value)) {
		walk_error(walk, value, "must not be null: {} asks for any value");
		return;
	}
	read_text_match(walk, value, &match);
	refuse_empty(walk, value, &match);
	if (match.rule == TEXT_REGEX && !match.pattern)
		match.rule = TEXT_PRESENT; /* "*" */
	match.name = arena_strdup(walk->config->arena, name->text);
	*arena_append(walk->config->arena, out->items, out->count, out->capacity) = match;
}

static void read_conditions(struct walk *walk, const struct node *node, void *out)
{
	if (node->type != NODE_MAPPING || node->count / 2 > MAX_CONDITIONS) {
		walk_error(walk, node, "must be a mapping of at most %d names", MAX_CONDITIONS);
		return;
	}
	for (size_t i = 0; i < node->count; i += 2) {
		size_t state = walk_enter(walk, node->items[i]->text);

		add_condition(walk, node->items[i], node->items[i + 1], out);
		walk_leave(walk, state);
	}
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
		{"name", read_string, offsetof(struct http_match, name), FIELD_OPTIONAL},
		{"uri", read_uri, offsetof(struct http_match, uri), FIELD_OPTIONAL},
		{"scheme", read_whole, offsetof(struct http_match, scheme), FIELD_OPTIONAL},
		{"method", read_whole, offsetof(struct http_match, method), FIELD_OPTIONAL},
		{"authority", read_whole, offsetof(struct http_match, authority), FIELD_OPTIONAL},
		{"headers", read_conditions, offsetof(struct http_match, headers), FIELD_OPTIONAL},
		{"withoutHeaders", read_conditions, offsetof(struct http_match, without), FIELD_OPTIONAL},
		{"queryParams", read_conditions, offsetof(struct http_match, params), FIELD_OPTIONAL},
		{"ignoreUriCase", read_flag, offsetof(struct http_match, ignore_case), FIELD_OPTIONAL},
		{"port", read_port_number, offsetof(struct http_match, port), FIELD_OPTIONAL},
		{"sourceLabels", walk_labels, offsetof(struct http_match, source_labels), FIELD_OPTIONAL},
		{"sourceNamespace", read_label_name, offsetof(struct http_match, source_namespace), FIELD_OPTIONAL},
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
