// SPDX-License-Identifier: Apache-2.0
/* exportTo of ServiceEntries and VirtualServices: ISTIO.md §1.2, §3.3, §3.4. */
#include <string.h>

#include "config/reader.h"
#include "config/walk.h"

#define MAX_NAMESPACES 256

/* "." is the own namespace of an object, and so the same as its name. */
static bool same_export(const struct object *object, const char *a, const char *b)
{
	a = strcmp(a, ".") ? a : object->namespace_;
	b = strcmp(b, ".") ? b : object->namespace_;
	return !strcmp(a, b);
}

static void read_export(struct walk *walk, const struct node *list, size_t index, struct object *object)
{
	const struct node *node = list->items[index];
	struct string_list *out = &object->export_to;
	const char *text = NULL, *label;

	if (!walk_text(walk, node, &text))
		return;
	for (size_t i = 0; i < index; i++) {
		if (list->items[i]->type == NODE_SCALAR && same_export(object, list->items[i]->text, text)) {
			walk_error(walk, node, "%s is given twice", node_shown(walk, node));
			return;
		}
	}
	if ((!strcmp(text, "*") || !strcmp(text, "~")) && list->count > 1) {
		walk_error(walk, node, "%s stands alone: with it no other item has a meaning", node_shown(walk, node));
		return;
	}
	label = NULL;
	if (!strcmp(text, "."))
		label = object->namespace_;
	else if (!strcmp(text, "~"))
		label = "~";
	else if (strcmp(text, "*"))
		read_label_name(walk, node, &label);
	if (label)
		*arena_append(walk->config->arena, out->items, out->count, out->capacity) = label;
}

void read_export_to(struct walk *walk, const struct node *node, void *out)
{
	struct object *object = out;

	if (node->type != NODE_SEQUENCE || node->count > MAX_NAMESPACES) {
		walk_error(walk, node, "must be a list of at most %d namespaces", MAX_NAMESPACES);
		return;
	}
	for (size_t i = 0; i < node->count; i++) {
		size_t state = walk_enter_item(walk, i);

		read_export(walk, node, i, object);
		walk_leave(walk, state);
	}
}
