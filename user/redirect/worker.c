// SPDX-License-Identifier: Apache-2.0
/* A worker thread: its loop, timers, buffers and reports. Nothing here is shared but what says so. */
#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <time.h>

#include "base/log.h"
#include "base/memory.h"
#include "redirect/circuit.h"

#define KEEP_FREE_LARGE 64
#define EVENTS_PER_ROUND 256
#define REPORTS_PER_SECOND 1000 /* of all workers; of what was allowed a fifth */
#define STARVED_MS 100          /* until descriptors are looked for again */
#define SAY_EVERY_MS 10000      /* what a workload can bring about */

struct worker workers[MAX_WORKERS];
unsigned int worker_count;

/* ---- buffers ---- */

struct buffer *buffer_get(struct worker *worker, bool large)
{
	struct buffer **list = large ? &worker->free_large : &worker->free_small;
	struct buffer *buffer = *list;

	if (buffer) {
		*list = buffer->next;
		worker->free_large_count -= large;
	} else {
		size_t size = large ? LARGE_BUFFER : SMALL_BUFFER;

		buffer = malloc(sizeof(*buffer) + size);
		if (!buffer)
			abort(); /* as xcalloc: the loader starts another redirector */
		buffer->size = (uint32_t)size;
	}
	worker->memory += buffer->size;
	buffer->start = buffer->end = 0;
	buffer->was_filled = false;
	return buffer;
}

void buffer_put(struct worker *worker, struct buffer **buffer)
{
	struct buffer *old = *buffer;

	*buffer = NULL;
	if (!old)
		return;
	worker->memory -= old->size;
	if (old->size == SMALL_BUFFER) {
		old->next = worker->free_small;
		worker->free_small = old;
	} else if (worker->free_large_count < KEEP_FREE_LARGE) {
		old->next = worker->free_large;
		worker->free_large = old;
		worker->free_large_count++;
	} else {
		free(old);
	}
}

void buffer_drop_if_empty(struct worker *worker, struct buffer **buffer)
{
	if (*buffer && !buffer_length(*buffer))
		buffer_put(worker, buffer);
}

bool buffer_make_room(struct worker *worker, struct buffer **buffer)
{
	struct buffer *old = *buffer;

	if (!old) {
		*buffer = buffer_get(worker, false);
		return true;
	}
	if (old->start == old->end) {
		old->start = old->end = 0;
		if (!old->was_filled || old->size == LARGE_BUFFER)
			return true;
		buffer_put(worker, buffer);
		*buffer = buffer_get(worker, true);
		return true;
	}
	if (old->end < old->size)
		return true;
	if (old->start) {
		memmove(old->bytes, old->bytes + old->start, old->end - old->start);
		old->end -= old->start;
		old->start = 0;
		return true;
	}
	if (old->size == LARGE_BUFFER)
		return false;
	*buffer = buffer_get(worker, true);
	memcpy((*buffer)->bytes, old->bytes, old->end);
	(*buffer)->end = old->end;
	buffer_put(worker, &old);
	return true;
}

/* ---- timers: a heap of the earliest moment to look at a connection; a later deadline costs nothing ---- */

static void heap_set(struct timer_heap *heap, size_t slot, struct conn *conn)
{
	heap->items[slot] = conn;
	conn->timer_slot = slot;
}

static void heap_up(struct timer_heap *heap, size_t slot, struct conn *conn)
{
	while (slot > 1 && heap->items[slot / 2]->timer_ms > conn->timer_ms) {
		heap_set(heap, slot, heap->items[slot / 2]);
		slot /= 2;
	}
	heap_set(heap, slot, conn);
}

static void heap_down(struct timer_heap *heap, size_t slot, struct conn *conn)
{
	for (;;) {
		size_t child = slot * 2;

		if (child > heap->count)
			break;
		if (child < heap->count && heap->items[child + 1]->timer_ms < heap->items[child]->timer_ms)
			child++;
		if (heap->items[child]->timer_ms >= conn->timer_ms)
			break;
		heap_set(heap, slot, heap->items[child]);
		slot = child;
	}
	heap_set(heap, slot, conn);
}

static void heap_remove(struct timer_heap *heap, struct conn *conn)
{
	size_t slot = conn->timer_slot;
	struct conn *last;

	if (!slot)
		return;
	conn->timer_slot = 0;
	last = heap->items[heap->count--];
	if (last == conn)
		return;
	if (slot > 1 && heap->items[slot / 2]->timer_ms > last->timer_ms)
		heap_up(heap, slot, last);
	else
		heap_down(heap, slot, last);
}

static void heap_add(struct timer_heap *heap, struct conn *conn)
{
	if (heap->count + 1 >= heap->capacity) {
		heap->capacity = heap->capacity ? heap->capacity * 2 : 1024;
		heap->items = xrealloc(heap->items, heap->capacity, sizeof(*heap->items));
	}
	heap->count++;
	heap_up(heap, heap->count, conn);
}

void worker_timer(struct conn *conn, uint64_t deadline_ms)
{
	struct timer_heap *heap = &conn->worker->timers;

	if (deadline_ms && conn->route_deadline_ms && conn->route_deadline_ms < deadline_ms)
		deadline_ms = conn->route_deadline_ms;
	if (deadline_ms && conn->try_deadline_ms && conn->try_deadline_ms < deadline_ms)
		deadline_ms = conn->try_deadline_ms;
	if (deadline_ms && (conn->state == CONN_REQUEST || conn->state == CONN_SESSION) && conn->idle_until_ms && conn->idle_until_ms < deadline_ms)
		deadline_ms = conn->idle_until_ms;
	if (deadline_ms && conn->state == CONN_RELAY && conn->connected_until_ms && conn->connected_until_ms < deadline_ms)
		deadline_ms = conn->connected_until_ms;
	conn->deadline_ms = deadline_ms;
	if (!deadline_ms) {
		if (conn->state == CONN_CLOSED)
			heap_remove(heap, conn);
		return;
	}
	if (conn->timer_slot && conn->timer_ms <= deadline_ms)
		return;
	heap_remove(heap, conn);
	conn->timer_ms = deadline_ms;
	heap_add(heap, conn);
}

static void run_timers(struct worker *worker)
{
	struct timer_heap *heap = &worker->timers;

	while (heap->count && heap->items[1]->timer_ms <= worker->now_ms) {
		struct conn *conn = heap->items[1];

		heap_remove(heap, conn);
		if (!conn->deadline_ms)
			continue;
		if (conn->deadline_ms > worker->now_ms) {
			conn->timer_ms = conn->deadline_ms;
			heap_add(heap, conn);
			continue;
		}
		conn->deadline_ms = 0;
		conn_timeout(conn);
	}
}

/* Those that drain and have had their time are ended. */
static void end_drained(struct worker *worker)
{
	if (!worker->drained_ms || worker->now_ms < worker->drained_ms)
		return;
	worker->drained_ms = 0;
	for (struct conn *conn = worker->conns, *next; conn; conn = next) {
		next = conn->next;
		if (conn->drain_until_ms)
			conn_still_allowed(conn);
	}
}

static int wait_ms(const struct worker *worker)
{
	uint64_t next = worker->timers.count ? worker->timers.items[1]->timer_ms : UINT64_MAX;

	if (worker->ready)
		return 0;
	if (worker->starved_ms && worker->starved_ms + STARVED_MS < next)
		next = worker->starved_ms + STARVED_MS;
	if (worker->drained_ms && worker->drained_ms < next)
		next = worker->drained_ms;
	if (next == UINT64_MAX)
		return -1;
	if (next <= worker->now_ms)
		return 0;
	return next - worker->now_ms > 60000 ? 60000 : (int)(next - worker->now_ms);
}

/* ---- small services ---- */

uint64_t worker_random(struct worker *worker)
{
	/* xorshift64*: draws for faults and weights need no secrecy. */
	worker->random ^= worker->random >> 12;
	worker->random ^= worker->random << 25;
	worker->random ^= worker->random >> 27;
	return worker->random * 0x2545f4914f6cdd1dULL;
}

const char *worker_date(struct worker *worker)
{
	time_t now = time(NULL);

	if (now != worker->date_second) {
		worker->date_second = now;
		http_date(worker->date, now);
	}
	return worker->date;
}

void worker_read_clock(struct worker *worker)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	worker->now_us = (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
	worker->now_ms = worker->now_us / 1000;
}

/* The ring is for people: only so much a second, most of it for denials. */
static bool worth_reporting(struct worker *worker, bool denial)
{
	unsigned int share = REPORTS_PER_SECOND / worker_count;

	if (worker->now_ms / 1000 != worker->report_second) {
		worker->report_second = worker->now_ms / 1000;
		worker->reported = 0;
	}
	if (worker->reported >= (denial ? share : share / 5)) {
		if (denial)
			tally(&worker->statistics.decisions_lost, 1);
		return false;
	}
	worker->reported++;
	return true;
}

void worker_report(struct conn *conn, struct decision decision, const char *shown)
{
	struct worker *worker = conn->worker;
	unsigned int head = atomic_load_explicit(&worker->decision_head, memory_order_relaxed);
	unsigned int tail = atomic_load_explicit(&worker->decision_tail, memory_order_acquire);
	struct flow_event *event = &worker->decisions[head % DECISION_SLOTS];
	bool denial = decision.verdict == VERDICT_DENY || decision.would_be;
	uint64_t one = 1;

	if (!worth_reporting(worker, denial))
		return;
	if (head - tail == DECISION_SLOTS) {
		tally(&worker->statistics.decisions_lost, 1);
		return;
	}
	memset(event, 0, sizeof(*event));
	memcpy(event->addr, conn->record.addr, 16);
	event->port = conn->record.port;
	event->protocol = SLUICE_TCP;
	event->workload = conn->record.workload;
	event->rule_set = conn->record.rule_set;
	event->service = decision.service;
	event->verdict = decision.verdict;
	event->reason = decision.reason;
	event->would_be = decision.would_be;
	event->by_redirector = 1;
	snprintf(event->host, sizeof(event->host), "%.*s", (int)sizeof(event->host) - 1, shown);
	atomic_store_explicit(&worker->decision_head, head + 1, memory_order_release);
	/* What was allowed waits for the main thread's next round, unless there is much of it. */
	if (denial || head - tail == DECISION_SLOTS / 2)
		(void)!write(main_wake_fd, &one, sizeof(one));
}

void worker_ready(struct conn *conn)
{
	if (conn->is_ready)
		return;
	conn->is_ready = true;
	conn->next_ready = conn->worker->ready;
	conn->worker->ready = conn;
}

void worker_wake(struct worker *worker)
{
	uint64_t one = 1;

	(void)!write(worker->wake_fd, &one, sizeof(one));
}

/* ---- listeners and views ---- */

static void watch_listener(const struct worker *worker, struct listener *listener)
{
	/* Exclusive: a connection wakes one worker, not all. */
	struct epoll_event event = {.events = EPOLLIN | EPOLLEXCLUSIVE, .data.ptr = listener};

	epoll_ctl(worker->epoll_fd, EPOLL_CTL_ADD, listener->fd, &event);
}

static void unwatch_listener(const struct worker *worker, const struct listener *listener)
{
	epoll_ctl(worker->epoll_fd, EPOLL_CTL_DEL, listener->fd, NULL);
}

/* The last quarter is for what connections need later: upstream connections and pipes. */
static size_t room(const struct worker *worker)
{
	size_t most = worker->descriptor_limit / 4 * 3;

	return worker->descriptors < most ? most - worker->descriptors : 0;
}

/* What is free is everybody's limit: the more others have, the less a namespace may add, and who takes all he can leaves some. */
bool worker_may_accept(const struct worker *worker, const struct place *place)
{
	return place->connections[worker->index] < room(worker);
}

void worker_hold_back(struct worker *worker, struct listener *listener)
{
	unwatch_listener(worker, listener);
	listener->waits[worker->index] = worker->holds_back = true;
	if (worker->held_back_ms && worker->now_ms - worker->held_back_ms < SAY_EVERY_MS)
		return;
	worker->held_back_ms = worker->now_ms;
	log_warning("redirector: a network namespace (cookie %llu) has %zu connections and streams of worker %u, where %zu of %zu descriptors are in "
		    "use; its new ones wait in the backlog",
		    (unsigned long long)listener->place->cookie, listener->place->connections[worker->index], worker->index,
		    worker->descriptors, worker->descriptor_limit);
}

static void release_held_back(struct worker *worker)
{
	if (!worker->holds_back || worker->paused)
		return;
	worker->holds_back = false;
	for (size_t i = 0; i < worker->view->listener_count; i++) {
		struct listener *listener = worker->view->listeners[i];

		if (!listener->waits[worker->index])
			continue;
		listener->waits[worker->index] = !worker_may_accept(worker, listener->place);
		if (listener->waits[worker->index])
			worker->holds_back = true;
		else
			watch_listener(worker, listener);
	}
}

static void pause_or_resume(struct worker *worker)
{
	bool full = !room(worker);

	if (worker->starved_ms && worker->now_ms >= worker->starved_ms + STARVED_MS)
		worker->starved_ms = 0;
	if ((full || worker->starved_ms) == worker->paused || (worker->paused && worker->descriptors > worker->descriptor_limit / 3 * 2))
		return;
	worker->paused = !worker->paused;
	for (size_t i = 0; i < worker->view->listener_count; i++) {
		if (worker->paused)
			unwatch_listener(worker, worker->view->listeners[i]);
		else
			watch_listener(worker, worker->view->listeners[i]);
	}
	if (full && worker->paused)
		log_warning("redirector: %zu of %zu descriptors of worker %u are in use; new connections wait in the backlog",
			    worker->descriptors, worker->descriptor_limit, worker->index);
}

static void take_supply(struct worker *worker)
{
	int fd = atomic_exchange(&worker->new_supply, -1);
	struct epoll_event event = {.events = EPOLLIN | EPOLLET, .data.ptr = &worker->supply_watch};

	if (fd < 0)
		return;
	if (worker->supply >= 0)
		close(worker->supply);
	worker->supply = fd;
	epoll_ctl(worker->epoll_fd, EPOLL_CTL_ADD, fd, &event);
	upstream_supply_lost(worker); /* what was asked of the old one is asked again */
}

/*
 * The top of each round: from here on only the newest view is looked at. Events of this round may still name a
 * listener of the old one: `seen` follows at its end.
 */
static void follow_view(struct worker *worker)
{
	unsigned long epoch = atomic_load(&current_epoch);
	struct view *view, *old = worker->view;

	if (epoch == worker->epoch)
		return;
	view = atomic_load(&current_view);
	worker->view = view;
	worker->epoch = epoch;
	take_supply(worker);
	for (size_t i = 0; old && i < old->listener_count; i++)
		if (atomic_load(&old->listeners[i]->place->gone))
			unwatch_listener(worker, old->listeners[i]);
	for (size_t i = 0; i < view->listener_count && !worker->paused; i++)
		watch_listener(worker, view->listeners[i]); /* EEXIST for those already watched */
	for (struct conn *conn = worker->conns, *next; conn; conn = next) {
		next = conn->next;
		conn_view_changed(conn, view != old);
	}
	upstream_places_gone(worker);
}

/* ---- the loop ---- */

static void dispatch(struct worker *worker, const struct epoll_event *event)
{
	struct watch *watch = event->data.ptr;
	uint64_t drained;

	switch (watch->kind) {
	case WATCH_LISTENER:
		conn_accept(worker, (struct listener *)(void *)watch);
		break;
	case WATCH_CLIENT:
	case WATCH_UPSTREAM:
		conn_event(watch->conn, watch->kind == WATCH_UPSTREAM, event->events);
		break;
	case WATCH_SUPPLY:
		upstream_supplied(worker);
		break;
	default:
		(void)!read(worker->wake_fd, &drained, sizeof(drained));
	}
}

/* Connections that gave way to others in the last round. */
static void run_ready(struct worker *worker)
{
	struct conn *ready = worker->ready;

	worker->ready = NULL;
	while (ready) {
		struct conn *conn = ready;

		ready = conn->next_ready;
		conn->is_ready = false;
		conn_run(conn);
	}
}

/* Closed connections are kept until nothing of this round can name them. */
static void reap(struct worker *worker)
{
	struct conn *closed = worker->closed;

	worker->closed = NULL;
	while (closed) {
		struct conn *conn = closed;

		closed = conn->next;
		if (conn->is_ready) {
			conn->next = worker->closed;
			worker->closed = conn;
		} else {
			conn->next = worker->free_conns;
			worker->free_conns = conn;
		}
	}
	pause_or_resume(worker);
	release_held_back(worker);
}

void worker_round(struct worker *worker, int patience_ms)
{
	struct epoll_event events[EVENTS_PER_ROUND];
	int wait = wait_ms(worker), n;

	if (patience_ms >= 0 && (wait < 0 || wait > patience_ms))
		wait = patience_ms;
	n = epoll_wait(worker->epoll_fd, events, EVENTS_PER_ROUND, wait);
	worker_read_clock(worker);
	worker->round++;
	follow_view(worker);
	for (int i = 0; i < n; i++)
		dispatch(worker, &events[i]);
	if (atomic_exchange(&worker->look_again, false))
		circuit_look_again(worker);
	run_timers(worker);
	end_drained(worker);
	run_ready(worker);
	overload_check(worker);
	access_log_flush(worker);
	reap(worker);
	if (worker->epoch != atomic_load_explicit(&worker->seen, memory_order_relaxed))
		atomic_store(&worker->seen, worker->epoch);
}

static void *run(void *context)
{
	struct worker *worker = context;

	sem_post(&worker->runs);
	for (;;)
		worker_round(worker, -1);
	return NULL;
}

int worker_init(struct worker *worker, unsigned int index, size_t descriptor_limit)
{
	struct epoll_event event = {.events = EPOLLIN, .data.ptr = &worker->wake};

	worker->index = index;
	worker->descriptor_limit = descriptor_limit;
	worker->supply = -1;
	atomic_store(&worker->new_supply, -1);
	worker->wake.kind = WATCH_WAKE;
	worker->supply_watch.kind = WATCH_SUPPLY;
	worker->view = atomic_load(&current_view);
	worker_read_clock(worker);
	worker->random = worker->now_us * 2654435761u + index + 1;
	worker->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	worker->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (worker->epoll_fd < 0 || worker->wake_fd < 0 ||
	    epoll_ctl(worker->epoll_fd, EPOLL_CTL_ADD, worker->wake_fd, &event) < 0)
		return -errno;
	return 0;
}

int worker_start(struct worker *worker)
{
	int error;

	sem_init(&worker->runs, 0, 0);
	error = pthread_create(&worker->thread, NULL, run, worker);
	/* Until then it makes system calls that will be forbidden (confine.c). */
	while (!error && sem_wait(&worker->runs) < 0)
		;
	return -error;
}
