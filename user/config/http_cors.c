// SPDX-License-Identifier: Apache-2.0
/* corsPolicy of a VirtualService's http route: ISTIO.md §1.5, §3.4; the lines are Envoy's (cors_filter.cc). */
#include <stddef.h>
#include <string.h>
#include <strings.h>

#include "config/reader.h"
#include "config/walk.h"

#define MAX_ITEMS 64
#define MAX_LINES 2048

static void read_origins(struct walk *walk, const struct node *node, void *out)
{
	walk_list(walk, node, MAX_ITEMS, read_text_item, out);
}

static void read_exact_origin(struct walk *walk, const struct node *node, void *out)
{
	struct text_match match = {.rule = TEXT_EXACT};
	struct text_matches *origins = out;

	if (!walk_text(walk, node, &match.text))
		return;
	match.text = arena_strdup(walk->config->arena, match.text);
	match.length = strlen(match.text);
	if (!strcmp(match.text, "*"))
		match.rule = TEXT_PRESENT;
	*arena_append(walk->config->arena, origins->items, origins->count, origins->capacity) = match;
}

/* The old field: exact ones, or "*". */
static void read_old_origins(struct walk *walk, const struct node *node, void *out)
{
	walk_list(walk, node, MAX_ITEMS, read_exact_origin, out);
}

static void add_item(struct walk *walk, const char *text, const char **out)
{
	*out = *out ? arena_printf(walk->config->arena, "%s,%s", *out, text) : arena_strdup(walk->config->arena, text);
}

static void read_method(struct walk *walk, const struct node *node, void *out)
{
	static const char *const methods[] = {"CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE", "*"};
	const char *text;

	if (!walk_text(walk, node, &text))
		return;
	for (size_t i = 0; i < ARRAY_SIZE(methods); i++) {
		if (strcmp(text, methods[i]))
			continue;
		add_item(walk, text, out);
		return;
	}
	walk_error(walk, node, "%s is no method of HTTP", node_shown(walk, node));
}

static void read_name(struct walk *walk, const struct node *node, void *out)
{
	const char *text;

	if (!walk_text(walk, node, &text))
		return;
	if (is_header_name(text))
		add_item(walk, text, out);
	else
		walk_error(walk, node, "%s is not a header's name (RFC 9110 §5.1)", node_shown(walk, node));
}

static void read_methods(struct walk *walk, const struct node *node, void *out)
{
	walk_list(walk, node, MAX_ITEMS, read_method, out);
}

static void read_names(struct walk *walk, const struct node *node, void *out)
{
	walk_list(walk, node, MAX_ITEMS, read_name, out);
}

static void read_max_age(struct walk *walk, const struct node *node, void *out)
{
	uint64_t ms = 0;

	walk_duration(walk, node, &ms);
	if (!ms)
		return;
	if (ms % 1000)
		walk_error(walk, node, "%s has a part of a second; only whole ones can be told", node_shown(walk, node));
	else
		*(const char **)out = arena_printf(walk->config->arena, "%llu", (unsigned long long)(ms / 1000));
}

static void read_unmatched(struct walk *walk, const struct node *node, void *out)
{
	static const struct choice choices[] = {{"UNSPECIFIED", 0}, {"FORWARD", 0}, {"IGNORE", 1}};
	int value;

	if (walk_choice(walk, node, "what becomes of them", choices, ARRAY_SIZE(choices), &value))
		*(bool *)out = value;
}

struct cors_fields {
	struct text_matches origins, old_origins;
	const char *methods, *headers, *exposed, *max_age;
	bool credentials, ignores_unmatched;
};

static const char *add_line(struct walk *walk, const char *lines, const char *name, const char *value)
{
	return value ? arena_printf(walk->config->arena, "%s%s: %s\r\n", lines, name, value) : lines;
}

void read_cors(struct walk *walk, const struct node *node, void *out)
{
	static const struct field fields[] = {
		{"allowOrigins", read_origins, offsetof(struct cors_fields, origins), FIELD_OPTIONAL},
		{"allowOrigin", read_old_origins, offsetof(struct cors_fields, old_origins), FIELD_OPTIONAL},
		{"allowMethods", read_methods, offsetof(struct cors_fields, methods), FIELD_OPTIONAL},
		{"allowHeaders", read_names, offsetof(struct cors_fields, headers), FIELD_OPTIONAL},
		{"exposeHeaders", read_names, offsetof(struct cors_fields, exposed), FIELD_OPTIONAL},
		{"maxAge", read_max_age, offsetof(struct cors_fields, max_age), FIELD_OPTIONAL},
		{"allowCredentials", read_flag, offsetof(struct cors_fields, credentials), FIELD_OPTIONAL},
		{"unmatchedPreflights", read_unmatched, offsetof(struct cors_fields, ignores_unmatched), FIELD_OPTIONAL},
	};
	struct cors_fields read = {0};
	const char *common;
	struct http_cors *cors = out;

	if (!walk_mapping(walk, node, fields, ARRAY_SIZE(fields), &read))
		return;
	cors->present = true;
	cors->origins = read.origins.count ? read.origins : read.old_origins;
	cors->ignores_unmatched = read.ignores_unmatched;
	common = add_line(walk, "", "access-control-allow-credentials", read.credentials ? "true" : NULL);
	cors->preflight = add_line(walk, add_line(walk, add_line(walk, common, "access-control-allow-methods", read.methods),
						  "access-control-allow-headers", read.headers),
				   "access-control-max-age", read.max_age);
	cors->response = add_line(walk, common, "access-control-expose-headers", read.exposed);
	if (strlen(cors->preflight) > MAX_LINES || strlen(cors->response) > MAX_LINES)
		walk_error(walk, node, "makes headers of more than %d bytes", MAX_LINES);
	if (!cors->origins.count)
		walk_warning(walk, node, "has no effect: allowOrigins has none");
}
