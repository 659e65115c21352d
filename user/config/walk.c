// SPDX-License-Identifier: Apache-2.0
#include "config/walk.h"

#include <stdarg.h>
#include <string.h>

#include "config/reader.h"

#define LONGEST_SUGGESTION 48
#define MOST_FIELDS_SHOWN 8

static void report(struct walk *walk, enum severity severity, uint32_t line, uint32_t column, const char *format,
		   va_list args)
{
	struct position at = {walk->file, walk->first_line + line, column};
	char text[SLUICE_ERROR_TEXT];

	vsnprintf(text, sizeof(text), format, args);
	config_problem(walk->config, severity, &at, walk->object, walk->path, "%s", text);
}

void walk_problem(struct walk *walk, enum severity severity, uint32_t line, uint32_t column, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	report(walk, severity, line, column, format, args);
	va_end(args);
}

void walk_error(struct walk *walk, const struct node *node, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	report(walk, SEVERITY_ERROR, node->line, node->column, format, args);
	va_end(args);
}

void walk_warning(struct walk *walk, const struct node *node, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	report(walk, SEVERITY_WARNING, node->line, node->column, format, args);
	va_end(args);
}

struct position walk_position(const struct walk *walk, const struct node *node)
{
	return (struct position){walk->file, walk->first_line + node->line, node->column};
}

static size_t extend_path(struct walk *walk, int written)
{
	size_t before = walk->length;

	walk->length += (size_t)written;
	if (walk->length >= sizeof(walk->path))
		walk->length = sizeof(walk->path) - 1;
	return before;
}

size_t walk_enter(struct walk *walk, const char *field)
{
	return extend_path(walk, snprintf(walk->path + walk->length, sizeof(walk->path) - walk->length, "%s%.64s",
					  walk->length ? "." : "", field));
}

static bool is_plain(const char *name)
{
	return *name && !name[strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-")];
}

/* What a path cannot hold stands in the message only. */
size_t walk_enter_key(struct walk *walk, const struct node *key)
{
	return is_plain(key->text) ? walk_enter(walk, key->text) : walk->length;
}

size_t walk_enter_item(struct walk *walk, size_t index)
{
	return extend_path(walk, snprintf(walk->path + walk->length, sizeof(walk->path) - walk->length, "[%zu]", index));
}

void walk_leave(struct walk *walk, size_t state)
{
	walk->length = state;
	walk->path[state] = 0;
}

bool node_is_null(const struct node *node)
{
	static const char *const nulls[] = {"", "~", "null", "Null", "NULL"};

	if (node->type != NODE_SCALAR || !node->plain)
		return false;
	for (size_t i = 0; i < ARRAY_SIZE(nulls); i++) {
		if (!strcmp(node->text, nulls[i]))
			return true;
	}
	return false;
}

bool node_is_empty(const struct node *list)
{
	return !list || (list->type == NODE_SEQUENCE && !list->count);
}

const struct node *node_field(const struct node *mapping, const char *name)
{
	if (!mapping || mapping->type != NODE_MAPPING)
		return NULL;
	/* Of a field given twice the one that walk_mapping() reads. */
	for (size_t i = 0; i < mapping->count; i += 2) {
		if (!strcmp(mapping->items[i]->text, name) && !node_is_null(mapping->items[i + 1]))
			return mapping->items[i + 1];
	}
	return NULL;
}

const char *node_shown(struct walk *walk, const struct node *node)
{
	if (node->type == NODE_SEQUENCE)
		return "a list";
	if (node->type == NODE_MAPPING)
		return "a mapping";
	return arena_printf(walk->config->arena, "\"%.64s%s\"", node->text, strlen(node->text) > 64 ? "…" : "");
}

static size_t edit_distance(const char *a, const char *b)
{
	size_t n = strlen(b), row[LONGEST_SUGGESTION + 1];

	for (size_t j = 0; j <= n; j++)
		row[j] = j;
	for (size_t i = 0; a[i]; i++) {
		size_t diagonal = row[0];

		row[0] = i + 1;
		for (size_t j = 0; j < n; j++) {
			size_t best = diagonal + ((a[i] | 0x20) != (b[j] | 0x20));

			diagonal = row[j + 1];
			if (row[j] + 1 < best)
				best = row[j] + 1;
			if (row[j + 1] + 1 < best)
				best = row[j + 1] + 1;
			row[j + 1] = best;
		}
	}
	return row[n];
}

const char *nearest_name(const char *text, const char *const *names, size_t count)
{
	size_t length = strlen(text), best = 3;
	const char *nearest = NULL;

	if (length < 2 || length > LONGEST_SUGGESTION)
		return NULL;
	for (size_t i = 0; i < count; i++) {
		size_t distance = strlen(names[i]) > LONGEST_SUGGESTION ? best : edit_distance(text, names[i]);

		/* "percent" for "percentage" is more typing than three errors. */
		if (length > 3 && (!strncasecmp(text, names[i], length) || !strncasecmp(text, names[i], strlen(names[i]))))
			distance = distance ? 1 : 0;
		if (distance < best && distance < length) {
			best = distance;
			nearest = names[i];
		}
	}
	return nearest;
}

/* " (name, number, protocol)": what a mapping may have, where that is short enough to help. */
static const char *known_fields(struct walk *walk, const struct field *fields, size_t count)
{
	const char *names = "", *separator = " (";

	if (!count || count > MOST_FIELDS_SHOWN)
		return "";
	for (size_t i = 0; i < count; i++) {
		if (fields[i].rule == FIELD_UNSUPPORTED)
			continue;
		names = arena_printf(walk->config->arena, "%s%s%s", names, separator, fields[i].name);
		separator = ", ";
	}
	return *names ? arena_printf(walk->config->arena, "%s)", names) : "";
}

static void unknown_field(struct walk *walk, const struct node *key, const struct field *fields, size_t count)
{
	const char *names[64], *nearest;
	size_t n = 0;

	for (size_t i = 0; i < count && n < ARRAY_SIZE(names); i++)
		names[n++] = fields[i].name;
	nearest = nearest_name(key->text, names, n);
	if (!is_plain(key->text))
		walk_error(walk, key, "%s is an unknown field", node_shown(walk, key));
	else if (nearest)
		walk_error(walk, key, "unknown field; did you mean \"%s\"?", nearest);
	else
		walk_error(walk, key, "unknown field%s", known_fields(walk, fields, count));
}

static void read_field(struct walk *walk, const struct node *key, const struct node *value, const struct field *field,
		       void *out)
{
	if (field->rule == FIELD_UNSUPPORTED)
		walk_error(walk, key, "is an Istio field that " NOT_IMPLEMENTED);
	else if (field->rule != FIELD_IGNORED)
		field->read(walk, value, (char *)out + field->offset);
}

bool walk_mapping(struct walk *walk, const struct node *node, const struct field *fields, size_t count, void *out)
{
	uint64_t seen = 0;

	if (node->type != NODE_MAPPING) {
		walk_error(walk, node, "is %s; a mapping is wanted%s", node_shown(walk, node), known_fields(walk, fields, count));
		return false;
	}
	for (size_t i = 0; i < node->count; i += 2) {
		const struct node *key = node->items[i], *value = node->items[i + 1];
		size_t state = walk_enter_key(walk, key), f = 0;

		while (f < count && strcmp(fields[f].name, key->text))
			f++;
		if (f == count) {
			unknown_field(walk, key, fields, count);
		} else if (!node_is_null(value) && !(seen & (1ULL << f))) { /* of a field given twice, the first */
			seen |= 1ULL << f;
			read_field(walk, key, value, &fields[f], out);
		}
		walk_leave(walk, state);
	}
	for (size_t f = 0; f < count; f++) {
		size_t state = walk_enter(walk, fields[f].name);

		if (fields[f].rule == FIELD_REQUIRED && !(seen & (1ULL << f)))
			walk_error(walk, node, "is required");
		walk_leave(walk, state);
	}
	return true;
}

void walk_list(struct walk *walk, const struct node *node, size_t max, read_fn read, void *out)
{
	if (node->type != NODE_SEQUENCE) {
		walk_error(walk, node, node->type == NODE_SCALAR ? "is %s; a list is wanted, as in [%s]" : "is %s; a list is wanted",
			   node_shown(walk, node), node->plain && strlen(node->text) <= 64 ? node->text : node_shown(walk, node));
		return;
	}
	if (node->count > max) {
		walk_error(walk, node, "has %zu items; at most %zu are accepted", node->count, max);
		return;
	}
	for (size_t i = 0; i < node->count; i++) {
		size_t state = walk_enter_item(walk, i);

		if (node_is_null(node->items[i]))
			walk_error(walk, node->items[i], "must not be null");
		else
			read(walk, node->items[i], out);
		walk_leave(walk, state);
	}
}
