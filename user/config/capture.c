// SPDX-License-Identifier: Apache-2.0
/*
 * What is captured, as Istio writes it: lists in strings, among the values of a mesh's proxies and, for one workload, in
 * its annotations (ISTIO.md §1.1).
 */
#include <stdio.h>
#include <string.h>

#include "config/reader.h"
#include "config/walk.h"

#define MAX_RANGES 4096
#define MAX_PORTS 1024
#define ANNOTATIONS "traffic.sidecar.istio.io/"

static bool next_item(const char **text, char *out, size_t room)
{
	size_t n;

	if (!*text)
		return false;
	n = strcspn(*text, ",");
	snprintf(out, room, "%.*s", (int)n, *text);
	*text = (*text)[n] ? *text + n + 1 : NULL;
	return true;
}

static bool is_full(struct walk *walk, const struct node *node, size_t count, size_t most)
{
	if (count == most)
		walk_error(walk, node, "has more than %zu items", most);
	return count == most;
}

/* ---- ranges: without blanks, and no address without its prefix ---- */

static void read_ranges(struct walk *walk, const struct node *node, struct cidr_list *out)
{
	const char *text;
	char item[64];

	if (!walk_text(walk, node, &text) || !*text)
		return;
	while (next_item(&text, item, sizeof(item))) {
		struct cidr cidr = {.at = walk_position(walk, node)};

		if (is_full(walk, node, out->count, MAX_RANGES))
			return;
		if (!strchr(item, '/') || parse_cidr(&cidr, item))
			walk_error(walk, node, "\"%s\" is not a CIDR, as in 10.0.0.0/8 (no blanks)", item);
		else
			*arena_append(walk->config->arena, out->items, out->count, out->capacity) = cidr;
	}
}

void read_include_ranges(struct walk *walk, const struct node *node, void *out)
{
	struct egress_policy *settings = out;

	settings->has_include_cidrs = true;
	settings->at[SETTING_INCLUDE_CIDRS] = walk_position(walk, node);
	settings->include_all = node->type == NODE_SCALAR && !strcmp(node->text, "*");
	if (!settings->include_all)
		read_ranges(walk, node, &settings->include_cidrs);
}

void read_exclude_ranges(struct walk *walk, const struct node *node, void *out)
{
	struct egress_policy *settings = out;

	settings->has_exclude_cidrs = true;
	settings->at[SETTING_EXCLUDE_CIDRS] = walk_position(walk, node);
	read_ranges(walk, node, &settings->exclude_cidrs);
}

/* ---- ports ---- */

static void read_ports(struct walk *walk, const struct node *node, struct port_list *out)
{
	const char *text = node->text;
	char item[64], *first;

	if (node->type != NODE_SCALAR) {
		walk_error(walk, node, "is %s; a string is wanted", node_shown(walk, node));
		return;
	}
	if (!text[strspn(text, " ")])
		return;
	while (next_item(&text, item, sizeof(item))) {
		uint16_t port = 0;

		if (is_full(walk, node, out->count, MAX_PORTS))
			return;
		first = item + strspn(item, " ");
		first[strcspn(first, " ")] = 0;
		if (strcmp(first, "0") && parse_port(&port, first))
			walk_error(walk, node, "\"%s\" is not a port: 0 to 65535", first);
		else
			*arena_append(walk->config->arena, out->items, out->count, out->capacity) = port;
	}
}

void read_include_port_list(struct walk *walk, const struct node *node, void *out)
{
	struct egress_policy *settings = out;

	settings->has_include_ports = true;
	settings->at[SETTING_INCLUDE_PORTS] = walk_position(walk, node);
	read_ports(walk, node, &settings->include_ports);
}

void read_exclude_port_list(struct walk *walk, const struct node *node, void *out)
{
	struct egress_policy *settings = out;

	settings->has_exclude_ports = true;
	settings->at[SETTING_EXCLUDE_PORTS] = walk_position(walk, node);
	read_ports(walk, node, &settings->exclude_ports);
}

/* ---- annotations of a workload ---- */

static void say_without_effect(struct walk *walk, const struct node *node, void *out)
{
	(void)out;
	walk_warning(walk, node, "has no effect here: it is for what comes in");
}

static void say_unsupported(struct walk *walk, const struct node *node, void *out)
{
	(void)out;
	walk_error(walk, node, NOT_IMPLEMENTED);
}

bool is_capture_annotation(const char *name)
{
	return !strncmp(name, ANNOTATIONS, strlen(ANNOTATIONS));
}

void read_capture_annotation(struct walk *walk, const struct node *name, const struct node *value, struct egress_policy *out)
{
	static const struct {
		const char *name;
		read_fn read;
	} known[] = {
		{"includeOutboundIPRanges", read_include_ranges}, {"excludeOutboundIPRanges", read_exclude_ranges},
		{"includeOutboundPorts", read_include_port_list}, {"excludeOutboundPorts", read_exclude_port_list},
		{"includeInboundPorts", say_without_effect},      {"excludeInboundPorts", say_without_effect},
		{"kubevirtInterfaces", say_without_effect},       {"excludeInterfaces", say_unsupported},
	};
	const char *names[ARRAY_SIZE(known)], *text, *nearest, *rest = name->text + strlen(ANNOTATIONS);
	size_t state = walk_enter(walk, name->text), i;

	for (i = 0; i < ARRAY_SIZE(known) && strcmp(known[i].name, rest); i++)
		;
	for (size_t k = 0; k < ARRAY_SIZE(known); k++)
		names[k] = known[k].name;
	nearest = nearest_name(rest, names, ARRAY_SIZE(names));
	if (i == ARRAY_SIZE(known))
		walk_error(walk, name, "is no annotation that Istio knows%s%s%s", nearest ? "; did you mean \"" ANNOTATIONS : "",
			   nearest ? nearest : "", nearest ? "\"?" : "");
	else if (walk_text(walk, value, &text)) /* Kubernetes' are strings, whatever they hold */
		known[i].read(walk, value, out);
	walk_leave(walk, state);
}
