// SPDX-License-Identifier: Apache-2.0
#include "redirect/directory.h"

#include <string.h>

#include "base/memory.h"
#include "redirect/view.h"

#define DIRECTORY_MAX 8192   /* twice what the loader knows at a time: some wait, some are found not to exist */
#define UNANSWERED_MS 6000   /* those who wait for it have given up */
#define NEW_LOADER_MS 30000  /* for one that starts to read its policies */
#define NONE_MS 10000        /* the loader says earlier that it is gone */
#define REFUSED_MS 1000
#define TELL_AGAIN_MS 5000   /* that a name is in use */
#define ASK_AGAIN_MS 1000

/* Sorted by name. Replaced as a whole. */
struct directory {
	size_t count;
	struct dynamic_name *items[];
};

static _Atomic(struct directory *) current_directory;

/* The main thread's, which the next publication makes everybody's. */
static struct {
	struct dynamic_name **items;
	size_t count, capacity;
	bool changed;
	/* What goes out of sight with the next publication. */
	struct leaving {
		void *object;
		void (*destroy)(void *object);
	} *leaving;
	size_t leaving_count, leaving_capacity;
} draft;

/* ---- names ---- */

void dynamic_name_release(struct dynamic_name **name)
{
	struct dynamic_name *old = *name;

	*name = NULL;
	if (!old || atomic_fetch_sub_explicit(&old->references, 1, memory_order_acq_rel) != 1)
		return;
	free(atomic_load(&old->addresses));
	free(old);
}

static void release_later(void *object)
{
	struct dynamic_name *name = object;

	dynamic_name_release(&name);
}

/* Where `host` is among them, or belongs. */
static size_t position(struct dynamic_name *const *items, size_t count, const char *host, bool *present)
{
	size_t low = 0, high = count;

	*present = false;
	while (low < high) {
		size_t middle = low + (high - low) / 2;
		int order = strcmp(items[middle]->host, host);

		if (order < 0)
			low = middle + 1;
		else
			high = middle;
		*present |= !order;
	}
	return low;
}

/* ---- workers ---- */

/* The directory that is loaded lives until the end of the worker's round, and so do the names in it. */
struct dynamic_name *directory_find(const char *host)
{
	const struct directory *directory = atomic_load(&current_directory);
	struct dynamic_name *name;
	bool present = false;
	size_t at = directory ? position(directory->items, directory->count, host, &present) : 0;

	if (!present)
		return NULL;
	name = directory->items[at];
	atomic_fetch_add_explicit(&name->references, 1, memory_order_relaxed);
	if (!atomic_load_explicit(&name->is_used, memory_order_relaxed))
		atomic_store_explicit(&name->is_used, true, memory_order_relaxed);
	return name;
}

bool directory_want(struct worker *worker, uint32_t workload, const char *host)
{
	unsigned int head = atomic_load_explicit(&worker->question_head, memory_order_relaxed);
	unsigned int tail = atomic_load_explicit(&worker->question_tail, memory_order_acquire);
	struct question *question = &worker->questions[head % QUESTION_SLOTS];
	uint64_t one = 1;

	if (head - tail == QUESTION_SLOTS)
		return false;
	question->workload = workload;
	snprintf(question->host, sizeof(question->host), "%s", host);
	atomic_store_explicit(&worker->question_head, head + 1, memory_order_release);
	(void)!write(main_wake_fd, &one, sizeof(one));
	return true;
}

/* ---- the main thread ---- */

static struct dynamic_name *add(const char *host, size_t at)
{
	struct dynamic_name *name;

	if (draft.count == DIRECTORY_MAX)
		return NULL;
	name = xcalloc(1, sizeof(*name) + strlen(host) + 1);
	memcpy(name->host, host, strlen(host) + 1);
	atomic_store(&name->references, 1);
	(void)array_append(draft.items, draft.count, draft.capacity);
	memmove(draft.items + at + 1, draft.items + at, (draft.count - 1 - at) * sizeof(*draft.items));
	draft.items[at] = name;
	draft.changed = true;
	return name;
}

static void leave(void *object, void (*destroy)(void *object))
{
	*array_append(draft.leaving, draft.leaving_count, draft.leaving_capacity) = (struct leaving){object, destroy};
	draft.changed = true;
}

static void drop(size_t at)
{
	leave(draft.items[at], release_later);
	draft.count--;
	memmove(draft.items + at, draft.items + at + 1, (draft.count - at) * sizeof(*draft.items));
}

void directory_publish(void)
{
	struct directory *directory, *old;

	if (!draft.changed)
		return;
	directory = xcalloc(1, sizeof(*directory) + draft.count * sizeof(*draft.items));
	directory->count = draft.count;
	if (draft.count)
		memcpy(directory->items, draft.items, draft.count * sizeof(*draft.items));
	old = atomic_exchange(&current_directory, directory);
	view_advance();
	if (old)
		view_retire(old, free);
	for (; draft.leaving_count; draft.leaving_count--)
		view_retire(draft.leaving[draft.leaving_count - 1].object, draft.leaving[draft.leaving_count - 1].destroy);
	draft.changed = false;
}

/* What is lost is asked again: directory_tick(). */
static void tell(struct dynamic_name *name, uint64_t now_ms)
{
	/* One reference is the directory's, the others are those of connections. */
	bool is_held = atomic_load(&name->references) > 1;
	struct ask_message message = {.workload = name->workload,
				      .flags = (name->is_answered ? 0 : ASK_ANSWER) | (is_held ? ASK_HELD : 0)};

	if (!server_ask(&message, name->host))
		return;
	name->told_ms = now_ms;
	atomic_store(&name->is_used, false);
}

static void take_question(const struct question *question, uint64_t now_ms)
{
	bool present;
	size_t at = position(draft.items, draft.count, question->host, &present);
	struct dynamic_name *name = present ? NULL : add(question->host, at);

	if (!name)
		return;
	name->workload = question->workload;
	name->until_ms = now_ms + UNANSWERED_MS;
	tell(name, now_ms);
}

void directory_take_questions(uint64_t now_ms)
{
	for (unsigned int i = 0; i < worker_count; i++) {
		struct worker *worker = &workers[i];
		unsigned int tail = atomic_load(&worker->question_tail);

		while (tail != atomic_load_explicit(&worker->question_head, memory_order_acquire)) {
			take_question(&worker->questions[tail % QUESTION_SLOTS], now_ms);
			atomic_store_explicit(&worker->question_tail, ++tail, memory_order_release);
		}
	}
}

static void set_addresses(struct dynamic_name *name, const struct published_name *from)
{
	struct addresses *fresh = xcalloc(1, sizeof(*fresh) + from->count * 16), *old;

	fresh->count = from->count;
	fresh->known = true;
	fresh->is_refused = from->failure == NAME_REFUSED;
	if (from->count)
		memcpy(fresh->items, from->addresses, from->count * 16);
	old = atomic_exchange(&name->addresses, fresh);
	draft.changed = true; /* whoever waits for it looks again */
	if (old)
		leave(old, free);
}

void directory_answer(const struct published_name *from, uint64_t now_ms)
{
	bool present;
	size_t at = position(draft.items, draft.count, from->host, &present);
	struct dynamic_name *name = present ? draft.items[at] : from->known ? add(from->host, at) : NULL;

	if (!name || !from->known)
		return;
	set_addresses(name, from);
	name->is_answered = true;
	name->until_ms = from->count ? 0 : now_ms + (from->failure == NAME_REFUSED ? REFUSED_MS : NONE_MS);
}

void directory_gone(const char *host)
{
	bool present;
	size_t at = position(draft.items, draft.count, host, &present);

	if (present)
		drop(at);
}

void directory_tick(uint64_t now_ms)
{
	for (size_t at = draft.count; at-- > 0;) {
		struct dynamic_name *name = draft.items[at];
		bool is_used = atomic_load(&name->references) > 1 || atomic_load(&name->is_used);

		if (name->until_ms && now_ms >= name->until_ms)
			drop(at);
		else if (is_used && now_ms - name->told_ms >= (name->is_answered ? TELL_AGAIN_MS : ASK_AGAIN_MS))
			tell(name, now_ms);
	}
}

void directory_new_loader(uint64_t now_ms)
{
	for (size_t at = 0; at < draft.count; at++) {
		struct dynamic_name *name = draft.items[at];

		name->is_answered = false;
		name->told_ms = 0;
		if (!name->until_ms)
			name->until_ms = now_ms + NEW_LOADER_MS;
	}
}
