// SPDX-License-Identifier: Apache-2.0
/*
 * Memory. A client whose server talks to nobody who listens has much of it held here, and spends none itself: when what the
 * worker may hold is spent, the namespace that holds the most loses the connections that hold the most, and nobody else loses any.
 */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/memory.h"
#include "redirect/h2.h"
#include "redirect/internal.h"
#include "workload/cgroup.h"

#define SAY_EVERY_MS 10000 /* what a workload can bring about */

static size_t size_of(const struct buffer *buffer)
{
	return buffer ? buffer->size : 0;
}

static size_t memory_of(const struct conn *conn)
{
	return sizeof(*conn) + size_of(conn->from_client) + size_of(conn->to_client) + size_of(conn->from_upstream) + size_of(conn->to_upstream) +
	       size_of(conn->copy) + size_of(conn->cors) + size_of(conn->outcome.kept) + h2_memory(conn);
}

static struct place *who_holds_most(const struct worker *worker)
{
	struct place *most = NULL;

	for (const struct conn *conn = worker->conns; conn; conn = conn->next)
		conn->place->memory[worker->index] = 0;
	for (const struct conn *conn = worker->conns; conn; conn = conn->next) {
		conn->place->memory[worker->index] += memory_of(conn);
		if (!most || conn->place->memory[worker->index] > most->memory[worker->index])
			most = conn->place;
	}
	return most;
}

static void say(struct worker *worker, const struct place *place)
{
	if (worker->shed_ms && worker->now_ms - worker->shed_ms < SAY_EVERY_MS)
		return;
	worker->shed_ms = worker->now_ms;
	log_warning("redirector: %zu of %zu bytes of worker %u are in use, %zu of them for a network namespace (cookie %llu); it loses connections",
		    worker->memory, worker->memory_limit, worker->index, place->memory[worker->index], (unsigned long long)place->cookie);
}

/* Until an eighth is free again. */
static void shed(struct worker *worker)
{
	struct place *place = who_holds_most(worker);
	size_t average;

	if (!place)
		return;
	say(worker, place);
	place_hold(place);
	average = place->memory[worker->index] / place->connections[worker->index];
	for (struct conn *conn = worker->conns, *next; conn && worker->memory > worker->memory_limit / 8 * 7; conn = next) {
		next = conn->next;
		if (conn->place != place || memory_of(conn) < average)
			continue;
		tally(&worker->statistics.connections_shed, 1);
		conn_reset(conn);
	}
	place_release(place);
}

void overload_check(struct worker *worker)
{
	if (worker->memory_limit && worker->memory > worker->memory_limit)
		shed(worker);
}

/* ---- what there is ---- */

/* `path`: of a cgroup, which its parents bind too. */
static size_t limit_of_cgroup(size_t most, const char *root, char *path)
{
	char name[2 * PATH_MAX + 64], *slash;
	unsigned long long limit;

	for (;; *slash = 0) {
		FILE *file;

		snprintf(name, sizeof(name), "%s%s/memory.max", root, path);
		file = fopen(name, "re");
		if (file && fscanf(file, "%llu", &limit) == 1 && limit < most) /* or "max" */
			most = (size_t)limit;
		if (file)
			fclose(file);
		slash = strrchr(path, '/');
		if (!slash)
			return most;
	}
}

size_t overload_limit(void)
{
	size_t most = (size_t)sysconf(_SC_PHYS_PAGES) * (size_t)sysconf(_SC_PAGESIZE);
	char root[PATH_MAX], path[PATH_MAX];

	if (cgroup_mount_point(root) == 0 && cgroup_of_process(getpid(), path) == 0)
		most = limit_of_cgroup(most, root, path);
	return most / 4;
}
