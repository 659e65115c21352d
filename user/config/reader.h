/* SPDX-License-Identifier: Apache-2.0 */
/* YAML text in, one tree of nodes per document out; every node knows its line and column. */
#ifndef SLUICE_CONFIG_READER_H
#define SLUICE_CONFIG_READER_H

#include <stdbool.h>
#include <yaml.h>

#include "config/walk.h"

#define READER_MAX_DEPTH 64
#define READER_MAX_NODES 1000000 /* of one file, aliases counted as often as they are used */
#define READER_MAX_ANCHORS 1000  /* of one document */

enum node_type { NODE_SCALAR, NODE_SEQUENCE, NODE_MAPPING };

struct node {
	enum node_type type;
	bool plain; /* neither quoted nor tagged as a string: may be a null, a number or a boolean */
	uint32_t line;
	uint32_t column;
	uint32_t repeats; /* of a key that stands in its mapping before: the line there */
	size_t weight; /* nodes of this tree with aliases expanded */
	const char *text; /* of a scalar */
	struct node **items; /* of a sequence; of a mapping: key, value, key, value, … */
	size_t count;
	size_t capacity;
};

struct anchor {
	const char *name;
	struct node *node;
};

struct reader {
	yaml_parser_t parser;
	struct walk *walk;   /* where problems go */
	struct arena *arena; /* of the nodes */
	const char *text;
	size_t nodes;
	bool repeats; /* a key of this document */
	struct anchor *anchors;
	size_t anchor_count, anchor_capacity;
};

/* 0, or -EINVAL as reader_next(); reader_fini() either way. */
int reader_init(struct reader *reader, struct walk *walk, const char *text, size_t length);
void reader_fini(struct reader *reader);

/* The next document. 1, 0 at the end of the file, or -EINVAL: the problem was reported, the rest is unreadable. */
int reader_next(struct reader *reader, const struct node **out);

#endif
