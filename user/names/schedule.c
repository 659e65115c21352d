// SPDX-License-Identifier: Apache-2.0
#include "names/schedule.h"

#include <string.h>

#include "base/memory.h"

static void put(struct schedule *schedule, size_t place, struct schedule_entry *entry)
{
	schedule->heap[place - 1] = entry;
	entry->place = place;
}

static struct schedule_entry *at(const struct schedule *schedule, size_t place)
{
	return schedule->heap[place - 1];
}

static void rise(struct schedule *schedule, struct schedule_entry *entry)
{
	size_t place = entry->place;

	for (; place > 1 && at(schedule, place / 2)->at_ms > entry->at_ms; place /= 2)
		put(schedule, place, at(schedule, place / 2));
	put(schedule, place, entry);
}

static void sink(struct schedule *schedule, struct schedule_entry *entry)
{
	size_t place = entry->place;

	for (size_t child = place * 2; child <= schedule->count; child = place * 2) {
		if (child < schedule->count && at(schedule, child + 1)->at_ms < at(schedule, child)->at_ms)
			child++;
		if (at(schedule, child)->at_ms >= entry->at_ms)
			break;
		put(schedule, place, at(schedule, child));
		place = child;
	}
	put(schedule, place, entry);
}

void schedule_set(struct schedule *schedule, struct schedule_entry *entry, uint64_t at_ms)
{
	entry->at_ms = at_ms;
	if (!entry->place) {
		*array_append(schedule->heap, schedule->count, schedule->capacity) = entry;
		entry->place = schedule->count;
	}
	rise(schedule, entry);
	sink(schedule, entry);
}

void schedule_remove(struct schedule *schedule, struct schedule_entry *entry)
{
	struct schedule_entry *last;

	if (!entry->place)
		return;
	last = at(schedule, schedule->count--);
	if (last != entry) {
		put(schedule, entry->place, last);
		rise(schedule, last);
		sink(schedule, last);
	}
	entry->place = 0;
}

struct schedule_entry *schedule_first(const struct schedule *schedule)
{
	return schedule->count ? schedule->heap[0] : NULL;
}

void schedule_fini(struct schedule *schedule)
{
	free(schedule->heap);
	*schedule = (struct schedule){0};
}
