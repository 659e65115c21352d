/* SPDX-License-Identifier: Apache-2.0 */
/* What is due first: a binary heap of entries that live in their owners. */
#ifndef SLUICE_SCHEDULE_H
#define SLUICE_SCHEDULE_H

#include <stddef.h>
#include <stdint.h>

struct schedule_entry {
	uint64_t at_ms;
	size_t place; /* in the heap, from 1; 0: not scheduled */
};

struct schedule {
	struct schedule_entry **heap;
	size_t count;
	size_t capacity;
};

void schedule_set(struct schedule *schedule, struct schedule_entry *entry, uint64_t at_ms); /* adds or moves */
void schedule_remove(struct schedule *schedule, struct schedule_entry *entry);
struct schedule_entry *schedule_first(const struct schedule *schedule); /* NULL if empty */
void schedule_fini(struct schedule *schedule);

#endif
