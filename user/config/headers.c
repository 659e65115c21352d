// SPDX-License-Identifier: Apache-2.0
/* Header operations of a route (ISTIO.md §1.5, §3.2, §3.4), made into what a message loses and the lines it gets. */
#include <stddef.h>
#include <string.h>
#include <strings.h>

#include "config/reader.h"
#include "config/walk.h"

#define MAX_OPERATIONS 64
#define MAX_VALUE 1024

/* RFC 9110 §5.6.2 */
bool is_header_name(const char *text)
{
	return *text && !text[strspn(text, "!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz")];
}

/* What says where a message ends or how its connection is used is not for a route to change. */
static bool is_framing(const char *name)
{
	static const char *const names[] = {"connection", "content-length", "keep-alive", "proxy-connection", "te", "trailer",
					    "transfer-encoding", "upgrade", "x-envoy-attempt-count"};

	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		if (!strcasecmp(name, names[i]))
			return true;
	return false;
}

static bool is_authority(const char *name)
{
	return !strcasecmp(name, "host") || !strcasecmp(name, ":authority");
}

static bool check_name(struct walk *walk, const struct node *node, const char *name)
{
	if (is_authority(name))
		walk_error(walk, node, "%s can only be changed by request.set or request.add", node_shown(walk, node));
	else if (!is_header_name(name))
		walk_error(walk, node, "%s is not a header's name (RFC 9110 §5.1)", node_shown(walk, node));
	else if (is_framing(name))
		walk_error(walk, node, "%s belongs to the connection: no route changes it", node_shown(walk, node));
	else
		return true;
	return false;
}

/* ---- operations ---- */

static bool check_value(struct walk *walk, const struct node *node, const char *value, bool of_request)
{
	size_t n = strlen(value);

	for (const unsigned char *c = (const unsigned char *)value; *c; c++) {
		if ((*c >= ' ' && *c != 0x7f) || *c == '\t')
			continue;
		walk_error(walk, node, "%s has a control character", node_shown(walk, node));
		return false;
	}
	if (n > MAX_VALUE) {
		walk_error(walk, node, "is longer than %d bytes", MAX_VALUE);
		return false;
	}
	return check_operators(walk, node, value, of_request ? OPERATORS_OF_REQUEST : OPERATORS_OF_RESPONSE);
}

static void drop(struct walk *walk, struct header_ops *ops, const char *name)
{
	*arena_append(walk->config->arena, ops->drop.items, ops->drop.count, ops->drop.capacity) =
		arena_strdup(walk->config->arena, name);
}

/* Istio makes it a rewrite of the host, which knows no variables. */
static void read_authority(struct walk *walk, const struct node *name, const struct node *value, struct header_ops *ops)
{
	const char *text;

	if (!walk_text(walk, value, &text) || !check_value(walk, value, text, true) || !*text)
		return;
	if (strpbrk(text, " \t"))
		walk_error(walk, value, "%s has a blank", node_shown(walk, value));
	else if (ops->authority)
		walk_error(walk, name, "changes the authority, which is \"%.64s\" already", ops->authority);
	else
		ops->authority = arena_strdup(walk->config->arena, text);
}

static void read_lines(struct walk *walk, const struct node *node, struct header_ops *ops, bool replace)
{
	const char *set = arena_strndup(walk->config->arena, ops->lines, ops->set_length), *added = ops->lines + ops->set_length;
	const char **lines = replace ? &set : &added;

	if (node->type != NODE_MAPPING || node->count / 2 > MAX_OPERATIONS) {
		walk_error(walk, node, "must be a mapping of at most %d headers", MAX_OPERATIONS);
		return;
	}
	for (size_t i = 0; i < node->count; i += 2) {
		const struct node *name = node->items[i], *value = node->items[i + 1];
		size_t state = walk_enter_key(walk, name);
		const char *text;

		if (ops->of_request && is_authority(name->text)) {
			read_authority(walk, name, value, ops);
		} else if (check_name(walk, name, name->text) && walk_text(walk, value, &text) && check_value(walk, value, text, ops->of_request)) {
			if (replace)
				drop(walk, ops, name->text);
			*lines = arena_printf(walk->config->arena, "%s%s: %s\r\n", *lines, name->text, text);
		}
		walk_leave(walk, state);
	}
	ops->set_length = strlen(set);
	ops->lines = arena_printf(walk->config->arena, "%s%s", set, added);
}

static void read_set(struct walk *walk, const struct node *node, void *out)
{
	read_lines(walk, node, out, true);
}

static void read_add(struct walk *walk, const struct node *node, void *out)
{
	read_lines(walk, node, out, false);
}

static void read_removed(struct walk *walk, const struct node *node, void *out)
{
	const char *text;

	if (walk_text(walk, node, &text) && check_name(walk, node, text))
		drop(walk, out, text);
}

static void read_remove(struct walk *walk, const struct node *node, void *out)
{
	walk_list(walk, node, MAX_OPERATIONS, read_removed, out);
}

static void read_operations(struct walk *walk, const struct node *node, void *out)
{
	static const struct field fields[] = {
		{"set", read_set, 0, FIELD_OPTIONAL},
		{"add", read_add, 0, FIELD_OPTIONAL},
		{"remove", read_remove, 0, FIELD_OPTIONAL},
	};

	walk_mapping(walk, node, fields, ARRAY_SIZE(fields), out);
}

void read_headers(struct walk *walk, const struct node *node, void *out)
{
	static const struct field fields[] = {
		{"request", read_operations, offsetof(struct header_changes, request), FIELD_OPTIONAL},
		{"response", read_operations, offsetof(struct header_changes, response), FIELD_OPTIONAL},
	};
	struct header_changes *changes = out;

	changes->present = true;
	changes->request.lines = changes->response.lines = "";
	changes->request.of_request = true;
	walk_mapping(walk, node, fields, ARRAY_SIZE(fields), out);
}
