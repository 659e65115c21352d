// SPDX-License-Identifier: Apache-2.0
#include "config/reader.h"

#include <errno.h>
#include <string.h>

static void cleanup_event(yaml_event_t *event)
{
	yaml_event_delete(event);
}

#define _cleanup_event_ __attribute__((cleanup(cleanup_event)))

void reader_fini(struct reader *reader)
{
	yaml_parser_delete(&reader->parser);
	arena_free(reader->arena);
}

static int fail(struct reader *reader, yaml_mark_t at, const char *text)
{
	walk_problem(reader->walk, SEVERITY_ERROR, (uint32_t)at.line + 1, (uint32_t)at.column + 1, "%s", text);
	return -EINVAL;
}

/* libyaml gives byte offsets, not marks, for bytes that are no characters. */
static yaml_mark_t mark_of_offset(const char *text, size_t offset)
{
	yaml_mark_t at = {0};

	for (size_t i = 0; i < offset; i++) {
		if (text[i] == '\n') {
			at.line++;
			at.column = 0;
		} else if ((text[i] & 0xc0) != 0x80) {
			at.column++;
		}
	}
	return at;
}

/* libyaml compares each %TAG with all before it: quadratic. Kubernetes has no use for them. */
static const char *find_tag_directive(const char *text, size_t length)
{
	static const char breaks[] = "\n\r\x85\xa8\xa9"; /* or how U+0085, U+2028 and U+2029 end */
	const char *end = text + length;

	for (const char *p = text; (p = memmem(p, (size_t)(end - p), "%TAG", 4)); p++) {
		if (p == text || strchr(breaks, p[-1]))
			return p;
	}
	return NULL;
}

int reader_init(struct reader *reader, struct walk *walk, const char *text, size_t length)
{
	size_t mark = length >= 3 && !memcmp(text, "\xef\xbb\xbf", 3) ? 3 : 0; /* of byte order, as some editors write it */
	const char *directive;

	text += mark;
	length -= mark;
	directive = find_tag_directive(text, length);
	memset(reader, 0, sizeof(*reader));
	reader->walk = walk;
	reader->arena = arena_new();
	reader->text = text;
	if (!yaml_parser_initialize(&reader->parser))
		abort(); /* out of memory, as in base/memory.c */
	yaml_parser_set_encoding(&reader->parser, YAML_UTF8_ENCODING);
	yaml_parser_set_input_string(&reader->parser, (const unsigned char *)text, length);
	if (!directive)
		return 0;
	return fail(reader, mark_of_offset(text, (size_t)(directive - text)), "%TAG directives are not supported");
}

static int next_event(struct reader *reader, yaml_event_t *event)
{
	const yaml_parser_t *parser = &reader->parser;
	const char *what;

	memset(event, 0, sizeof(*event));
	if (yaml_parser_parse(&reader->parser, event))
		return 0;
	what = parser->problem ? parser->problem : "cannot be read";
	if (parser->error == YAML_READER_ERROR)
		return fail(reader, mark_of_offset(reader->text, parser->problem_offset),
			    arena_printf(reader->arena, "not YAML in UTF-8: %s", what));
	return fail(reader, parser->problem_mark,
		    arena_printf(reader->arena, "not YAML: %s%s", what,
				 parser->context && strstr(parser->context, "an alias") ?
				 "; quote a value that starts with \"*\"" : ""));
}

static int spend(struct reader *reader, yaml_mark_t at, size_t nodes)
{
	reader->nodes += nodes;
	if (reader->nodes <= READER_MAX_NODES)
		return 0;
	return fail(reader, at, "the file expands to more than 1000000 values; split it");
}

static int resolve_alias(struct reader *reader, const yaml_event_t *event, struct node **out)
{
	const char *name = (const char *)event->data.alias.anchor;

	for (size_t i = reader->anchor_count; i-- > 0;) {
		if (strcmp(reader->anchors[i].name, name))
			continue;
		if (spend(reader, event->start_mark, reader->anchors[i].node->weight))
			return -EINVAL;
		*out = reader->anchors[i].node;
		return 0;
	}
	return fail(reader, event->start_mark, arena_printf(reader->arena, "alias \"*%s\" has no anchor before it", name));
}

static int define_anchor(struct reader *reader, yaml_mark_t at, const yaml_char_t *name, struct node *node)
{
	struct anchor *anchor;

	if (!name)
		return 0;
	if (reader->anchor_count == READER_MAX_ANCHORS)
		return fail(reader, at, "more than 1000 anchors in one document");
	anchor = arena_append(reader->arena, reader->anchors, reader->anchor_count, reader->anchor_capacity);
	anchor->name = arena_strdup(reader->arena, (const char *)name);
	anchor->node = node;
	return 0;
}

/* The core tags say what the shape says already; only !!str changes a meaning, and others have none here. */
static int check_tag(struct reader *reader, yaml_mark_t at, const yaml_char_t *tag, const char *natural)
{
	if (!tag || !strcmp((const char *)tag, "!") || !strcmp((const char *)tag, natural))
		return 0;
	return fail(reader, at, arena_printf(reader->arena, "tag \"%s\" is not supported; remove it", (const char *)tag));
}

static int read_scalar(struct reader *reader, const yaml_event_t *event, struct node *node)
{
	const yaml_char_t *tag = event->data.scalar.tag;
	const char *text = (const char *)event->data.scalar.value;
	size_t length = event->data.scalar.length;

	if (memchr(text, 0, length))
		return fail(reader, event->start_mark, "contains a NUL character");
	node->text = arena_strndup(reader->arena, text, length);
	node->plain = event->data.scalar.style == YAML_PLAIN_SCALAR_STYLE && !tag;
	return check_tag(reader, event->start_mark, tag, YAML_STR_TAG);
}

static int by_key(const void *a, const void *b)
{
	const struct node *x = *(struct node *const *)a, *y = *(struct node *const *)b;
	int order = strcmp(x->text, y->text);

	if (order)
		return order;
	if (x->line != y->line)
		return x->line < y->line ? -1 : 1;
	return (x->column > y->column) - (x->column < y->column);
}

static int check_keys(struct reader *reader, const struct node *mapping)
{
	struct node **keys = arena_alloc(reader->arena, mapping->count / 2 + 1, sizeof(*keys));
	size_t n = 0;

	for (size_t i = 0; i < mapping->count; i += 2) {
		yaml_mark_t at = {.line = mapping->items[i]->line - 1, .column = mapping->items[i]->column - 1};

		if (mapping->items[i]->type != NODE_SCALAR)
			return fail(reader, at, "a field's name must be a string; {{...}} is a template that was not rendered");
		if (mapping->items[i]->plain && !strcmp(mapping->items[i]->text, "<<"))
			return fail(reader, at, "merge keys (<<) are not supported; write the fields out");
		keys[n++] = mapping->items[i];
	}
	qsort(keys, n, sizeof(struct node *), by_key);
	for (size_t i = 1; i < n; i++) {
		if (strcmp(keys[i - 1]->text, keys[i]->text))
			continue;
		keys[i]->repeats = keys[i - 1]->line;
		reader->repeats = true;
	}
	return 0;
}

static int read_node(struct reader *reader, const yaml_event_t *event, unsigned int depth, struct node **out);

static int read_children(struct reader *reader, struct node *node, yaml_event_type_t end, unsigned int depth)
{
	for (;;) {
		_cleanup_event_ yaml_event_t event;
		struct node *child = NULL;
		int error = next_event(reader, &event);

		if (error)
			return error;
		if (event.type == end)
			return node->type == NODE_MAPPING ? check_keys(reader, node) : 0;
		if (depth == READER_MAX_DEPTH)
			return fail(reader, event.start_mark, "nested deeper than 64 levels");
		error = read_node(reader, &event, depth + 1, &child);
		if (error)
			return error;
		*arena_append(reader->arena, node->items, node->count, node->capacity) = child;
		node->weight += child->weight;
	}
}

static int read_node(struct reader *reader, const yaml_event_t *event, unsigned int depth, struct node **out)
{
	const yaml_char_t *anchor = NULL;
	struct node *node;
	int error;

	if (event->type == YAML_ALIAS_EVENT)
		return resolve_alias(reader, event, out);
	error = spend(reader, event->start_mark, 1);
	if (error)
		return error;
	node = arena_alloc(reader->arena, 1, sizeof(*node));
	node->line = (uint32_t)event->start_mark.line + 1;
	node->column = (uint32_t)event->start_mark.column + 1;
	node->weight = 1;
	if (event->type == YAML_SCALAR_EVENT) {
		anchor = event->data.scalar.anchor;
		error = read_scalar(reader, event, node);
	} else if (event->type == YAML_SEQUENCE_START_EVENT) {
		anchor = event->data.sequence_start.anchor;
		node->type = NODE_SEQUENCE;
		error = check_tag(reader, event->start_mark, event->data.sequence_start.tag, YAML_SEQ_TAG);
		if (!error)
			error = read_children(reader, node, YAML_SEQUENCE_END_EVENT, depth);
	} else {
		anchor = event->data.mapping_start.anchor;
		node->type = NODE_MAPPING;
		error = check_tag(reader, event->start_mark, event->data.mapping_start.tag, YAML_MAP_TAG);
		if (!error)
			error = read_children(reader, node, YAML_MAPPING_END_EVENT, depth);
	}
	if (!error)
		error = define_anchor(reader, event->start_mark, anchor, node);
	if (!error)
		*out = node;
	return error;
}

static void report_keys(struct walk *walk, const struct node *node, unsigned int depth)
{
	size_t step = node->type == NODE_MAPPING ? 2 : 1;

	for (size_t i = 0; i < node->count && depth < READER_MAX_DEPTH; i += step) { /* aliases can be deeper */
		const struct node *key = step == 2 ? node->items[i] : NULL;
		size_t state = key ? walk_enter_key(walk, key) : walk_enter_item(walk, i);

		if (key && key->repeats)
			walk_error(walk, key, "\"%.64s\" is given twice, first at line %u", key->text, key->repeats);
		report_keys(walk, node->items[i + step - 1], depth + 1);
		walk_leave(walk, state);
	}
}

static const char *text_of(const struct node *node)
{
	return node && node->type == NODE_SCALAR ? node->text : "";
}

/* Once the document is read, so that they are told with whose they are. */
static void report_repeated(struct reader *reader, const struct node *root)
{
	const char *object = reader->walk->object;

	if (!*object)
		reader->walk->object = arena_printf(reader->walk->config->arena, "%.64s/%.253s", text_of(node_field(root, "kind")),
						    text_of(node_field(node_field(root, "metadata"), "name")));
	report_keys(reader->walk, root, 0);
	reader->walk->object = object;
}

int reader_next(struct reader *reader, const struct node **out)
{
	reader->repeats = false;
	reader->anchor_count = 0;
	for (;;) {
		_cleanup_event_ yaml_event_t event;
		struct node *root = NULL;
		int error = next_event(reader, &event);

		if (error)
			return error;
		if (event.type == YAML_STREAM_END_EVENT)
			return 0;
		if (event.type == YAML_STREAM_START_EVENT || event.type == YAML_DOCUMENT_START_EVENT ||
		    event.type == YAML_DOCUMENT_END_EVENT)
			continue;
		error = read_node(reader, &event, 0, &root);
		if (error)
			return error;
		if (reader->repeats)
			report_repeated(reader, root);
		*out = root;
		return 1;
	}
}
