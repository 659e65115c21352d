// SPDX-License-Identifier: Apache-2.0
/*
 * What Istio keeps of the whole mesh, where it keeps it: the MeshConfig in the ConfigMap `istio`, or in an IstioOperator
 * with the values of its proxies. It holds for all workloads, behind every EgressPolicy and Sidecar (DESIGN §3). Most of
 * these documents is for other parts of a mesh: it is named in a warning and has no effect.
 */
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "config/reader.h"
#include "config/walk.h"

static void add_mesh(struct walk *walk, const struct node *node, const struct object *object, struct mesh *mesh)
{
	struct config *config = walk->config;

	mesh->settings.object = *object;
	if (config->mesh)
		walk_error(walk, node, "is the second mesh configuration beside %s/%s at %s:%u; there can be one", config->mesh->settings.object.kind,
			   config->mesh->settings.object.name, config->mesh->settings.object.at.file, config->mesh->settings.object.at.line);
	else
		config->mesh = mesh;
}

/* Reads the fields of the table and names the others. */
static void read_known(struct walk *walk, const struct node *node, const struct field *fields, size_t count, void *out)
{
	char others[256] = "";
	size_t n = 0;

	if (node->type != NODE_MAPPING) {
		walk_error(walk, node, "is %s; a mapping is wanted", node_shown(walk, node));
		return;
	}
	for (size_t i = 0; i < node->count; i += 2) {
		size_t state = walk_enter(walk, node->items[i]->text), f = 0;

		while (f < count && strcmp(fields[f].name, node->items[i]->text))
			f++;
		if (f == count && n < sizeof(others))
			n += (size_t)snprintf(others + n, sizeof(others) - n, "%s%.40s", n ? ", " : "", node->items[i]->text);
		else if (f < count && !node_is_null(node->items[i + 1]))
			fields[f].read(walk, node->items[i + 1], (char *)out + fields[f].offset);
		walk_leave(walk, state);
	}
	if (n)
		walk_warning(walk, node, "what is not for egress has no effect here: %s", others);
}

/* ---- MeshConfig ---- */

static void read_mode(struct walk *walk, const struct node *node, void *out)
{
	static const struct choice modes[] = {
		{"ALLOW_ANY", MODE_ALLOW_ANY}, {"REGISTRY_ONLY", MODE_REGISTRY_ONLY},
		{"ALLOW_ANY_DYNAMIC_DNS", MODE_ALLOW_ANY_DYNAMIC_DNS},
	};
	struct mesh *mesh = out;
	int value;

	if (!walk_choice(walk, node, "a mode", modes, ARRAY_SIZE(modes), &value))
		return;
	mesh->settings.has_mode = true;
	mesh->settings.mode = value;
	mesh->settings.at[SETTING_MODE] = walk_position(walk, node);
}

static void read_outbound(struct walk *walk, const struct node *node, void *out)
{
	static const struct field fields[] = {{"mode", read_mode, 0, FIELD_REQUIRED}, UNSUPPORTED("egressProxy")};

	walk_mapping(walk, node, fields, ARRAY_SIZE(fields), out);
}

/* Of the access log: its fields are read together. */
static void read_later(struct walk *walk, const struct node *node, void *out)
{
	(void)walk;
	(void)node;
	(void)out;
}

static void read_mesh_config(struct walk *walk, const struct node *node, void *out)
{
	static const struct field fields[] = {
		{"outboundTrafficPolicy", read_outbound, 0, FIELD_OPTIONAL},
		{"connectTimeout", walk_duration, offsetof(struct mesh, connect_timeout_ms), FIELD_OPTIONAL},
		{"defaultHttpRetryPolicy", read_retries, offsetof(struct mesh, retries), FIELD_OPTIONAL},
		{"accessLogFile", read_later, 0, FIELD_OPTIONAL},
		{"accessLogFormat", read_later, 0, FIELD_OPTIONAL},
		{"accessLogEncoding", read_later, 0, FIELD_OPTIONAL},
	};

	read_known(walk, node, fields, ARRAY_SIZE(fields), out);
	if (node->type == NODE_MAPPING)
		read_access_log(walk, node, &((struct mesh *)out)->access_log);
}

/* ---- values.global.proxy ---- */

static void read_proxy_values(struct walk *walk, const struct node *node, void *out)
{
	static const struct field fields[] = {
		{"includeIPRanges", read_include_ranges, offsetof(struct mesh, settings), FIELD_OPTIONAL},
		{"excludeIPRanges", read_exclude_ranges, offsetof(struct mesh, settings), FIELD_OPTIONAL},
		{"includeOutboundPorts", read_include_port_list, offsetof(struct mesh, settings), FIELD_OPTIONAL},
		{"excludeOutboundPorts", read_exclude_port_list, offsetof(struct mesh, settings), FIELD_OPTIONAL},
	};

	read_known(walk, node, fields, ARRAY_SIZE(fields), out);
}

static void read_global(struct walk *walk, const struct node *node, void *out)
{
	static const struct field fields[] = {{"proxy", read_proxy_values, 0, FIELD_OPTIONAL}};

	read_known(walk, node, fields, ARRAY_SIZE(fields), out);
}

static void read_values(struct walk *walk, const struct node *node, void *out)
{
	static const struct field fields[] = {
		{"global", read_global, 0, FIELD_OPTIONAL},
		{"meshConfig", read_mesh_config, 0, FIELD_OPTIONAL},
	};

	read_known(walk, node, fields, ARRAY_SIZE(fields), out);
}

void read_operator(struct walk *walk, const struct node *spec, const struct object *object)
{
	static const struct field fields[] = {
		{"meshConfig", read_mesh_config, 0, FIELD_OPTIONAL},
		{"values", read_values, 0, FIELD_OPTIONAL},
	};
	struct mesh *mesh = arena_alloc(walk->config->arena, 1, sizeof(*mesh));

	add_mesh(walk, spec, object, mesh);
	read_known(walk, spec, fields, ARRAY_SIZE(fields), mesh);
}

/* ---- the ConfigMap ---- */

/* A document within a document: its first line is the one behind the key's. */
static void read_mesh_text(struct walk *walk, const struct node *node, void *out)
{
	uint32_t outer = walk->first_line;
	const struct node *root;
	struct reader reader;
	const char *text;

	if (!walk_text(walk, node, &text))
		return;
	walk->first_line += node->line;
	if (!reader_init(&reader, walk, text, strlen(text)) && reader_next(&reader, &root) > 0 && !node_is_null(root))
		read_mesh_config(walk, root, out);
	reader_fini(&reader);
	walk->first_line = outer;
}

void read_config_map(struct walk *walk, const struct node *data, const struct object *object)
{
	static const struct field fields[] = {{"mesh", read_mesh_text, 0, FIELD_OPTIONAL}};
	struct mesh *mesh = arena_alloc(walk->config->arena, 1, sizeof(*mesh));

	if (!node_field(data, "mesh")) {
		walk_error(walk, data, "has no mesh: of ConfigMaps only Istio's own is read, which has the MeshConfig there");
		return;
	}
	add_mesh(walk, data, object, mesh);
	read_known(walk, data, fields, ARRAY_SIZE(fields), mesh);
}
