// SPDX-License-Identifier: Apache-2.0
#include "redirect/circuit.h"

#include <string.h>

#include "base/memory.h"
#include "redirect/h2.h"
#include "redirect/ring.h"
#include "redirect/view.h"

#define SHARED_GONE UINT32_MAX
#define BUCKETS 4096

static _Atomic(struct shared *) buckets[BUCKETS];

/* ---- shared lists ---- */

/* False: it is gone, as if it had not been found. */
static bool hold(struct shared *shared)
{
	unsigned int n = atomic_load(&shared->holders);

	while (n != SHARED_GONE)
		if (atomic_compare_exchange_weak(&shared->holders, &n, n + 1))
			return true;
	return false;
}

/* What it knows of ejections is of use until they are over. */
static void let_go(struct shared *shared, uint64_t now_ms, uint64_t ejected_until_ms)
{
	atomic_store_explicit(&shared->used_ms, ejected_until_ms > now_ms ? ejected_until_ms : now_ms, memory_order_relaxed);
	atomic_fetch_sub(&shared->holders, 1);
}

/* From `head` up to what was there before (`end`); NULL: none is it, or it is gone. */
static struct shared *find_held(_Atomic(struct shared *) *list, const struct shared *end, bool (*is)(const struct shared *, const void *),
				const void *wanted, struct shared **head)
{
	*head = atomic_load(list);
	for (struct shared *one = *head; one && one != end; one = atomic_load(&one->next))
		if (is(one, wanted) && hold(one))
			return one;
	return NULL;
}

/* The one that is wanted, held; made if it is not there. */
static struct shared *find_or_add(_Atomic(struct shared *) *list, bool (*is)(const struct shared *, const void *), const void *wanted,
				  struct shared *(*make)(const void *wanted), bool *added)
{
	struct shared *fresh = NULL, *head, *seen = NULL, *found;

	for (;;) {
		found = find_held(list, seen, is, wanted, &head);
		if (found) {
			free(fresh);
			return found;
		}
		if (!fresh) {
			fresh = make(wanted);
			atomic_store(&fresh->holders, 1);
		}
		seen = head; /* another one may have been added meanwhile: it is looked at, no more of them */
		atomic_store(&fresh->next, head);
		if (atomic_compare_exchange_strong(list, &head, fresh)) {
			*added = true;
			return fresh;
		}
	}
}

static bool is_to_go(struct shared *shared, uint64_t before_ms)
{
	unsigned int none = 0;

	if (atomic_load(&shared->holders) == SHARED_GONE)
		return true; /* it could not be taken out the last time */
	return atomic_load_explicit(&shared->used_ms, memory_order_relaxed) < before_ms &&
	       atomic_compare_exchange_strong(&shared->holders, &none, SHARED_GONE);
}

/* Main thread. Others add at the head meanwhile: one that is no longer the first waits for the next sweep. */
static size_t sweep(_Atomic(struct shared *) *list, uint64_t before_ms, void (*destroy)(void *))
{
	_Atomic(struct shared *) *at = list;
	size_t gone = 0;

	for (struct shared *one = atomic_load(at); one; one = atomic_load(at)) {
		struct shared *expected = one;

		if (is_to_go(one, before_ms) && atomic_compare_exchange_strong(at, &expected, atomic_load(&one->next))) {
			view_retire_ahead(one, destroy);
			gone++;
		} else {
			at = &one->next;
		}
	}
	return gone;
}

/* ---- circuits ---- */

struct wanted_circuit {
	struct pool_key key;
	const struct service *service;
	uint64_t now_ms;
};

static const char *subset_of(const struct service *service)
{
	return service->subset ? service->subset : "";
}

static bool is_for(const struct circuit *circuit, const struct service *service)
{
	return circuit->port == service->port && !strcmp(circuit->host, service->host) && !strcmp(circuit->subset, subset_of(service));
}

static bool is_circuit(const struct shared *shared, const void *of)
{
	const struct circuit *circuit = (const struct circuit *)shared;
	const struct wanted_circuit *wanted = of;

	return !memcmp(&circuit->key, &wanted->key, sizeof(wanted->key)) && is_for(circuit, wanted->service);
}

static struct shared *make_circuit(const void *of)
{
	const struct wanted_circuit *wanted = of;
	size_t host = strlen(wanted->service->host) + 1, subset = strlen(subset_of(wanted->service)) + 1;
	struct circuit *circuit = xcalloc(1, sizeof(*circuit) + host + subset);
	char *names = (char *)(circuit + 1);

	circuit->key = wanted->key;
	circuit->port = wanted->service->port;
	circuit->host = memcpy(names, wanted->service->host, host);
	circuit->subset = memcpy(names + host, subset_of(wanted->service), subset);
	circuit->made_ms = wanted->now_ms;
	atomic_flag_clear(&circuit->ejecting);
	return &circuit->shared;
}

static _Atomic(struct shared *) *bucket_of(const struct wanted_circuit *wanted)
{
	uint64_t hash = ring_hash(wanted->service->host, strlen(wanted->service->host)) ^ ring_hash(&wanted->key, sizeof(wanted->key));

	return &buckets[hash % BUCKETS];
}

static bool is_wanted(const struct service *service, bool several)
{
	const struct pool_settings *pool = &service->policy.pool;

	return pool->max_connections || pool->max_active || pool->max_retries || service->policy.budget.present || service->policy.outlier.present ||
	       (several && service->policy.balance.way == BALANCE_DEFAULT);
}

void circuit_enter(struct conn *conn, bool several)
{
	const struct service *service = conn->service;
	struct wanted_circuit wanted = {{conn->place->cookie, conn->record.workload, 0, {0}}, service, conn->worker->now_ms};
	bool added;

	if (conn->circuit && service && is_wanted(service, several) && is_for(conn->circuit, service))
		return;
	circuit_leave(conn);
	if (service && is_wanted(service, several))
		conn->circuit = (struct circuit *)find_or_add(bucket_of(&wanted), is_circuit, &wanted, make_circuit, &added);
}

void circuit_leave(struct conn *conn)
{
	if (!conn->circuit)
		return;
	circuit_retry_over(conn);
	circuit_release(conn);
	let_go(&conn->circuit->shared, conn->worker->now_ms, atomic_load(&conn->circuit->ejected_until_ms));
	conn->circuit = NULL;
}

/* ---- its hosts ---- */

static bool is_host(const struct shared *shared, const void *of)
{
	const struct circuit_host *host = (const struct circuit_host *)shared;
	const struct candidate *wanted = of;

	return host->port == wanted->port && !memcmp(host->addr, wanted->addr, 16);
}

static struct shared *make_host(const void *of)
{
	struct circuit_host *host = xcalloc(1, sizeof(*host));
	const struct candidate *wanted = of;

	memcpy(host->addr, wanted->addr, 16);
	host->port = wanted->port;
	return &host->shared;
}

struct circuit_host *circuit_host_of(const struct circuit *circuit, const uint8_t addr[16], uint16_t port)
{
	for (struct shared *one = circuit ? atomic_load(&circuit->hosts) : NULL; one; one = atomic_load(&one->next)) {
		struct circuit_host *host = (struct circuit_host *)one;

		if (host->port == port && !memcmp(host->addr, addr, 16) && atomic_load(&one->holders) != SHARED_GONE)
			return host;
	}
	return NULL;
}

unsigned int circuit_load(const struct conn *conn, const uint8_t addr[16], uint16_t port)
{
	const struct circuit_host *host = circuit_host_of(conn->circuit, addr, port);

	return host ? atomic_load_explicit(&host->requests, memory_order_relaxed) : 0;
}

void circuit_dial(struct conn *conn)
{
	struct circuit *circuit = conn->circuit;
	struct candidate wanted = {.port = conn->port};
	bool added = false;

	/* Of the original destination nobody can choose another address. */
	if (!circuit || service_keeps_destination(conn->service) || atomic_load(&circuit->host_count) >= CIRCUIT_HOSTS)
		return;
	memcpy(wanted.addr, conn->addr, 16);
	conn->host = (struct circuit_host *)find_or_add(&circuit->hosts, is_host, &wanted, make_host, &added);
	if (added)
		atomic_fetch_add(&circuit->host_count, 1);
	atomic_fetch_add(&conn->host->requests, 1);
}

static void destroy_circuit(void *of)
{
	struct circuit *circuit = of;

	for (struct shared *one = atomic_load(&circuit->hosts), *next; one; one = next) {
		next = atomic_load(&one->next);
		free(one);
	}
	free(circuit);
}

void circuit_sweep(uint64_t now_ms)
{
	uint64_t before_ms = now_ms > CIRCUIT_UNUSED_MS ? now_ms - CIRCUIT_UNUSED_MS : 0;
	size_t gone = 0;

	for (size_t i = 0; i < BUCKETS; i++) {
		for (struct shared *one = atomic_load(&buckets[i]); one; one = atomic_load(&one->next)) {
			struct circuit *circuit = (struct circuit *)one;
			size_t hosts = sweep(&circuit->hosts, before_ms, free);

			atomic_fetch_sub(&circuit->host_count, (unsigned int)hosts);
			gone += hosts;
		}
		gone += sweep(&buckets[i], before_ms, destroy_circuit);
	}
	if (gone)
		view_advance();
}

/* ---- counting ---- */

/* `most` 0: no bound. */
static bool take(atomic_uint *count, uint32_t most)
{
	unsigned int n = atomic_load(count);

	do {
		if (most && n >= most)
			return false;
	} while (!atomic_compare_exchange_weak(count, &n, n + 1));
	return true;
}

/* Those in line, of whichever worker, look again. */
static void wake_line(void)
{
	for (unsigned int i = 0; i < worker_count; i++) {
		if (!atomic_load(&workers[i].lined_up))
			continue;
		atomic_store(&workers[i].look_again, true);
		worker_wake(&workers[i]);
	}
}

static void give_back(struct circuit *circuit)
{
	atomic_fetch_sub(&circuit->connections, 1);
	if (atomic_load(&circuit->waiting))
		wake_line();
}

/* In order: whoever comes while others wait waits, too. */
static enum admission take_both(struct conn *conn, bool is_in_line)
{
	const struct pool_settings *pool = &conn->service->policy.pool;
	struct circuit *circuit = conn->circuit;

	if ((!is_in_line && atomic_load(&circuit->waiting)) || !take(&circuit->connections, pool->max_connections))
		return CIRCUIT_HOLDS;
	if (!conn->has_request && !take(&circuit->requests, pool->max_active)) {
		give_back(circuit);
		return CIRCUIT_OVERFLOWS;
	}
	conn->has_connection = conn->has_request = true;
	return CIRCUIT_ADMITS;
}

static enum admission line_up(struct conn *conn)
{
	const struct pool_settings *pool = &conn->service->policy.pool;
	struct circuit *circuit = conn->circuit;

	if (conn->purpose == FOR_RELAY || !take(&circuit->waiting, pool->max_pending))
		return CIRCUIT_OVERFLOWS;
	atomic_fetch_add(&conn->worker->lined_up, 1);
	queue_add(&conn->worker->pending, conn);
	/* One may have come back before this was seen to wait; and idle ones are to be given up. */
	if (atomic_load(&circuit->connections) < pool->max_connections || atomic_load(&circuit->idle))
		wake_line();
	return CIRCUIT_HOLDS;
}

enum admission circuit_admit(struct conn *conn)
{
	enum admission answer;

	if (!conn->circuit || conn->has_connection)
		return CIRCUIT_ADMITS;
	atomic_store_explicit(&conn->circuit->limit, conn->service->policy.pool.max_connections, memory_order_relaxed);
	answer = take_both(conn, false);
	return answer == CIRCUIT_HOLDS ? line_up(conn) : answer;
}

bool circuit_request(struct conn *conn)
{
	if (!conn->circuit)
		return true;
	upstream_forget_waiting(conn);
	if (!take(&conn->circuit->requests, conn->service->policy.pool.max_active))
		return false;
	conn->has_request = true;
	if (conn->host)
		atomic_fetch_add(&conn->host->requests, 1);
	return true;
}

bool circuit_stream(struct conn *conn)
{
	struct circuit *circuit = conn->circuit;

	if (!circuit)
		return true;
	if (!conn->has_request && !take(&circuit->requests, conn->service->policy.pool.max_active))
		return false;
	conn->has_request = true;
	if (conn->has_connection) /* it was to dial by itself */
		give_back(circuit);
	conn->has_connection = false;
	return true;
}

static void end_request(struct conn *conn)
{
	if (!conn->has_request)
		return;
	conn->has_request = false;
	atomic_fetch_sub(&conn->circuit->requests, 1);
	if (conn->host)
		atomic_fetch_sub(&conn->host->requests, 1);
}

bool circuit_rest(struct conn *conn)
{
	struct circuit *circuit = conn->circuit;

	if (!circuit)
		return true;
	end_request(conn);
	if (atomic_load(&circuit->waiting))
		return false;
	circuit_idle(conn);
	return true;
}

void circuit_idle(struct conn *conn)
{
	struct circuit *circuit = conn->circuit;

	if (!circuit || !atomic_load_explicit(&circuit->limit, memory_order_relaxed))
		return;
	atomic_fetch_add(&conn->worker->lined_up, 1);
	atomic_fetch_add(&circuit->idle, 1);
	queue_add(&conn->worker->idle, conn);
	if (atomic_load(&circuit->waiting)) /* somebody has come, and did not see this one yet */
		wake_line();
}

void circuit_session_has_room(const struct conn *carrier)
{
	if (!carrier->circuit || !carrier->owner || !atomic_load(&carrier->circuit->waiting))
		return;
	carrier->owner->session_has_room = true;
	atomic_store(&carrier->worker->look_again, true);
	worker_wake(carrier->worker);
}

void circuit_lend(struct conn *conn, struct conn *carrier)
{
	if (!conn->circuit)
		return;
	atomic_fetch_add(&conn->circuit->shared.holders, 1);
	carrier->circuit = conn->circuit;
	carrier->has_connection = conn->has_connection;
	conn->has_connection = false;
}

void circuit_move(struct conn *from, struct conn *to)
{
	circuit_leave(to);
	if (!from->circuit)
		return;
	upstream_forget_waiting(from);
	to->circuit = from->circuit;
	to->host = from->host;
	to->has_connection = from->has_connection;
	from->circuit = NULL;
	from->host = NULL;
	from->has_connection = false;
}

void circuit_release(struct conn *conn)
{
	struct circuit *circuit = conn->circuit;

	if (!circuit)
		return;
	if (conn->waiting_in == &conn->worker->idle)
		upstream_forget_waiting(conn);
	end_request(conn);
	if (conn->host)
		let_go(&conn->host->shared, conn->worker->now_ms, atomic_load(&conn->host->ejected_until_ms));
	conn->host = NULL;
	if (conn->has_connection)
		give_back(circuit);
	conn->has_connection = false;
}

static uint32_t most_retries(const struct conn *conn)
{
	const struct retry_budget *budget = &conn->service->policy.budget;
	double share = budget->percent / 100 * (atomic_load(&conn->circuit->requests) + atomic_load(&conn->circuit->waiting));

	if (!budget->present)
		return conn->service->policy.pool.max_retries;
	return share > budget->least ? (uint32_t)share : budget->least;
}

bool circuit_retry(struct conn *conn)
{
	circuit_retry_over(conn);
	if (!conn->circuit)
		return true;
	conn->has_retry = take(&conn->circuit->retries, most_retries(conn));
	return conn->has_retry;
}

void circuit_retry_over(struct conn *conn)
{
	if (conn->has_retry)
		atomic_fetch_sub(&conn->circuit->retries, 1);
	conn->has_retry = false;
}

/* ---- the line ---- */

void circuit_left_line(struct conn *conn)
{
	if (conn->waiting_in == &conn->worker->pending)
		atomic_fetch_sub(&conn->circuit->waiting, 1);
	if (conn->waiting_in == &conn->worker->idle)
		atomic_fetch_sub(&conn->circuit->idle, 1);
	if (conn->waiting_in == &conn->worker->pending || conn->waiting_in == &conn->worker->idle)
		atomic_fetch_sub(&conn->worker->lined_up, 1);
}

bool circuit_is_short(const struct circuit *circuit)
{
	unsigned int limit = circuit ? atomic_load_explicit(&circuit->limit, memory_order_relaxed) : 0;
	unsigned int waiting = circuit ? atomic_load(&circuit->waiting) : 0;

	return waiting && limit && atomic_load(&circuit->connections) + waiting > limit;
}

static struct conn *owner_of(struct conn *conn)
{
	return conn->owner ? conn->owner : conn;
}

/* Who finds room for another stream on a session needs no other connection. */
static void share_sessions(struct worker *worker)
{
	const struct circuit *first = NULL;

	for (struct conn *conn = worker->pending.first, *next; conn; conn = next) {
		const struct circuit *circuit = conn->circuit;

		next = conn->next_waiting;
		if (owner_of(conn)->session_has_room)
			upstream_share(conn, circuit != first);
		first = circuit;
	}
	for (struct conn *conn = worker->pending.first; conn; conn = conn->next_waiting)
		owner_of(conn)->session_has_room = false;
}

void circuit_look_again(struct worker *worker)
{
	const struct circuit *full = NULL;

	share_sessions(worker);
	for (struct conn *conn = worker->idle.first, *next; conn; conn = next) {
		next = conn->next_waiting;
		if (!circuit_is_short(conn->circuit))
			continue;
		if (h2_is_parked(conn) || conn->session) /* nobody else needs it */
			conn_close(conn);
		else
			upstream_drop(conn);
	}
	for (struct conn *conn = worker->pending.first, *next; conn; conn = next) {
		enum admission answer;

		next = conn->next_waiting;
		if (conn->circuit == full)
			continue;
		answer = take_both(conn, true);
		if (answer == CIRCUIT_HOLDS) {
			full = conn->circuit;
			continue;
		}
		upstream_forget_waiting(conn);
		upstream_admitted(conn, answer == CIRCUIT_OVERFLOWS);
	}
}
