// SPDX-License-Identifier: Apache-2.0
/* Workload (sluice.dev/v1): gives the cgroups of a path a namespace, a name and labels. */
#include <linux/limits.h>
#include <stddef.h>
#include <string.h>

#include "config/reader.h"
#include "config/walk.h"

static bool climbs(const char *path)
{
	for (const char *p = path; (p = strstr(p, "..")); p += 2) {
		if ((p == path || p[-1] == '/') && (!p[2] || p[2] == '/'))
			return true;
	}
	return false;
}

static void read_cgroup(struct walk *walk, const struct node *node, void *out)
{
	const char *text;

	if (!walk_text(walk, node, &text))
		return;
	if (text[0] != '/' || !text[1] || strlen(text) >= PATH_MAX)
		walk_error(walk, node, "%s is not a path below the cgroup v2 mount, as in /system.slice/web.service",
			   node_shown(walk, node));
	else if (climbs(text))
		walk_error(walk, node, "%s must not contain \"..\"", node_shown(walk, node));
	else
		*(const char **)out = arena_strdup(walk->config->arena, text);
}

void read_workload(struct walk *walk, const struct node *spec, const struct object *object)
{
	static const struct field fields[] = {
		{"cgroup", read_cgroup, offsetof(struct workload_document, cgroup), FIELD_REQUIRED},
		{"namespace", read_label_name, offsetof(struct workload_document, namespace_), FIELD_OPTIONAL},
		{"name", read_object_name, offsetof(struct workload_document, name), FIELD_OPTIONAL},
		{"labels", walk_labels, offsetof(struct workload_document, labels), FIELD_OPTIONAL},
	};
	struct config *config = walk->config;
	struct workload_document *workload = arena_alloc(config->arena, 1, sizeof(*workload));

	workload->object = *object;
	workload->namespace_ = object->namespace_;
	workload->name = object->name;
	workload->capture = object->capture;
	if (object->capture)
		object->capture->object = *object;
	walk_mapping(walk, spec, fields, ARRAY_SIZE(fields), workload);
	*arena_append(config->arena, config->workloads, config->workload_count, config->workload_capacity) = workload;
}
