// SPDX-License-Identifier: Apache-2.0
/*
 * Upstream connections: which address, with which socket. The sockets come from the loader, made in the pod's network
 * namespace and marked with the workload; the kernel judges each connect of theirs once more. Those to Unix sockets come
 * connected.
 */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "base/memory.h"
#include "config/walk.h"
#include "hostname.h"
#include "redirect/circuit.h"
#include "redirect/directory.h"
#include "redirect/h2.h"
#include "redirect/origination.h"
#include "redirect/ring.h"

#define QUESTIONS_PER_SECOND 64 /* of a workload, about names that nobody asked for yet; and twice as many at once */
#define ASK_AGAIN_MS 100 /* a worker whose question was lost (a full queue, a loader that restarted) repeats it */

/* ---- pools of sockets ---- */

/* `socket`: the identity of a Unix socket, or NULL. */
static struct pool *pool_of(struct worker *worker, struct place *place, uint32_t workload, const uint8_t *socket)
{
	struct pool_key key = {place->cookie, workload, 0, {0}};
	struct pool *pool;

	if (socket)
		memcpy(key.socket, socket, sizeof(key.socket));
	HASH_FIND(hh, worker->pools, &key, sizeof(key), pool);
	if (pool)
		return pool;
	pool = xcalloc(1, sizeof(*pool));
	pool->key = key;
	pool->place = place_hold(place);
	HASH_ADD(hh, worker->pools, key, sizeof(pool->key), pool);
	return pool;
}

/* A worker's part of what a namespace may have idle: it asks when a quarter of that is left, for the rest. */
static size_t share_of_worker(void)
{
	return POOL_MAX / worker_count;
}

/* How many more sockets the pool may hold: for those who wait, and what the namespace's bound leaves. */
static size_t room_of(const struct pool *pool)
{
	size_t idle = atomic_load_explicit(&pool->place->idle, memory_order_relaxed);
	size_t room = pool->waiting.count + (idle < POOL_MAX ? POOL_MAX - idle : 0);

	return room < ARRAY_SIZE(pool->fds) - pool->count ? room : ARRAY_SIZE(pool->fds) - pool->count;
}

static bool is_of_unix_socket(const struct pool *pool)
{
	static const uint8_t none[sizeof(pool->key.socket)];

	return memcmp(pool->key.socket, none, sizeof(none)) != 0;
}

/* A connection is for one that waits: it would grow old with a server that ends meanwhile. */
static size_t wanted_of(const struct pool *pool)
{
	size_t count = share_of_worker() - share_of_worker() / 4, room = room_of(pool);

	if (is_of_unix_socket(pool))
		return pool->waiting.count;
	if (count < pool->waiting.count)
		count = pool->waiting.count;
	return count < room ? count : room;
}

static void pool_ask(struct worker *worker, struct pool *pool)
{
	struct {
		struct message head;
		struct want want;
	} request = {{MESSAGE_WANT, sizeof(struct want), 0}, {.netns = pool->key.netns, .workload = pool->key.workload}};
	size_t count = wanted_of(pool);

	if (worker->supply < 0 || (pool->asked && worker->now_ms - pool->asked_ms < ASK_AGAIN_MS))
		return;
	if (count > MESSAGE_MAX_FDS)
		count = MESSAGE_MAX_FDS;
	if (!count || worker->descriptors + count > worker->descriptor_limit)
		return;
	request.want.count = (__u32)count;
	memcpy(request.want.socket, pool->key.socket, sizeof(request.want.socket));
	pool->asked = send(worker->supply, &request, sizeof(request), MSG_NOSIGNAL | MSG_DONTWAIT) == sizeof(request);
	pool->asked_ms = worker->now_ms;
}

static int pool_take(struct worker *worker, struct pool *pool)
{
	int fd = -1;

	if (pool->count) {
		fd = pool->fds[--pool->count];
		atomic_fetch_sub_explicit(&pool->place->idle, 1, memory_order_relaxed);
	}
	if (pool->count < share_of_worker() / 4)
		pool_ask(worker, pool);
	return fd;
}

static void pool_empty(struct worker *worker, struct pool *pool)
{
	atomic_fetch_sub_explicit(&pool->place->idle, pool->count, memory_order_relaxed);
	worker->descriptors -= pool->count;
	while (pool->count)
		close(pool->fds[--pool->count]);
}

void queue_add(struct queue *queue, struct conn *conn)
{
	conn->waiting_in = queue;
	conn->next_waiting = NULL;
	conn->previous_waiting = queue->last;
	if (queue->last)
		queue->last->next_waiting = conn;
	else
		queue->first = conn;
	queue->last = conn;
	queue->count++;
}

void upstream_forget_waiting(struct conn *conn)
{
	struct queue *queue = conn->waiting_in;

	if (!queue)
		return;
	circuit_left_line(conn);
	conn->waiting_in = NULL;
	queue->count--;
	if (conn->previous_waiting)
		conn->previous_waiting->next_waiting = conn->next_waiting;
	else
		queue->first = conn->next_waiting;
	if (conn->next_waiting)
		conn->next_waiting->previous_waiting = conn->previous_waiting;
	else
		queue->last = conn->previous_waiting;
}

/* Those who wait look again: there are sockets, or the question is to be asked anew. */
static void pool_wake(struct pool *pool, size_t many)
{
	for (; pool->waiting.first && many; many--) {
		struct conn *conn = pool->waiting.first;

		upstream_forget_waiting(conn);
		worker_ready(conn);
	}
}

static bool is_v4_only(int fd)
{
	int domain = 0;
	socklen_t size = sizeof(domain);

	return getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &size) == 0 && domain == AF_INET;
}

/* Returns how many were taken; so do the next. */
static size_t pool_add(struct worker *worker, struct pool *pool, const int *fds, size_t count)
{
	size_t kept = room_of(pool);

	kept = kept < count ? kept : count;
	pool->v4_only = kept && is_v4_only(fds[0]);
	memcpy(pool->fds + pool->count, fds, kept * sizeof(*fds));
	pool->count += kept;
	atomic_fetch_add_explicit(&pool->place->idle, kept, memory_order_relaxed);
	worker->descriptors += kept;
	pool_wake(pool, kept);
	return kept;
}

static void unix_answered(struct conn *conn, int fd, int error);

/* Those who found a server busy ask again when their time comes. */
static size_t pool_hand_out(struct worker *worker, struct pool *pool, const struct want *want, const int *fds, size_t count)
{
	size_t used = 0;

	for (; used < count && pool->waiting.first; used++) {
		worker->descriptors++;
		unix_answered(pool->waiting.first, fds[used], 0);
	}
	if (want->error == EAGAIN)
		return used;
	for (size_t i = count; want->error && i < want->count && pool->waiting.first; i++)
		unix_answered(pool->waiting.first, -1, (int)want->error);
	if (pool->waiting.first)
		pool_ask(worker, pool);
	return used;
}

static void pool_fill(struct worker *worker, const struct want *want, const int *fds, size_t count)
{
	struct pool_key key = {want->netns, want->workload, 0, {0}};
	struct pool *pool;
	size_t kept = 0;

	memcpy(key.socket, want->socket, sizeof(key.socket));
	HASH_FIND(hh, worker->pools, &key, sizeof(key), pool);
	if (pool) { /* else the pod went away in between */
		pool->asked = false;
		kept = is_of_unix_socket(pool) ? pool_hand_out(worker, pool, want, fds, count) : pool_add(worker, pool, fds, count);
	}
	for (size_t i = kept; i < count; i++)
		close(fds[i]);
}

void upstream_supplied(struct worker *worker)
{
	for (;;) {
		struct {
			struct message head;
			struct want want;
		} answer;
		struct iovec part = {&answer, sizeof(answer)};
		union {
			struct cmsghdr align;
			char bytes[CMSG_SPACE(sizeof(int) * MESSAGE_MAX_FDS)];
		} control;
		struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = control.bytes,
					 .msg_controllen = sizeof(control.bytes)};
		ssize_t n = recvmsg(worker->supply, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
		int fds[MESSAGE_MAX_FDS];
		size_t count = 0;

		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			return;
		if (n <= 0) { /* the loader is gone: what is in the pools is all there is until another comes */
			close(worker->supply);
			worker->supply = -1;
			return;
		}
		for (struct cmsghdr *c = CMSG_FIRSTHDR(&message); c; c = CMSG_NXTHDR(&message, c)) {
			if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
				continue;
			count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
			memcpy(fds, CMSG_DATA(c), count * sizeof(int));
		}
		if ((size_t)n == sizeof(answer) && answer.head.type == MESSAGE_SOCKETS)
			pool_fill(worker, &answer.want, fds, count);
		else
			for (size_t i = 0; i < count; i++)
				close(fds[i]);
	}
}

void upstream_supply_lost(struct worker *worker)
{
	struct pool *pool, *next;

	HASH_ITER(hh, worker->pools, pool, next) {
		pool->asked = false;
		if (pool->waiting.first)
			pool_ask(worker, pool);
	}
}

void upstream_places_gone(struct worker *worker)
{
	struct pool *pool, *next;

	HASH_ITER(hh, worker->pools, pool, next) {
		bool known = roster_find(worker->view, pool->key.workload)->workload == pool->key.workload, present = false;

		for (size_t i = 0; known && i < worker->view->listener_count && !present; i++)
			present = worker->view->listeners[i]->place->cookie == pool->key.netns;
		if ((present && !is_of_unix_socket(pool)) || pool->waiting.first)
			continue;
		pool_empty(worker, pool);
		place_release(pool->place);
		HASH_DEL(worker->pools, pool);
		free(pool);
	}
}

/* ---- addresses ---- */

static struct name_entry *name_of(const struct conn *conn, size_t target)
{
	return conn->table->target_names[conn->service->id - 1][target];
}

/* Of the name that the client showed. */
static const struct addresses *named_addresses(const struct conn *conn)
{
	return conn->named ? atomic_load(&conn->named->addresses) : NULL;
}

static const struct addresses *addresses_of(const struct conn *conn, size_t target)
{
	struct name_entry *name = name_of(conn, target);

	if (service_is_dynamic(conn->service))
		return named_addresses(conn);

	return name ? atomic_load(&name->addresses) : NULL;
}

static size_t add_candidate(struct candidate *out, size_t n, const uint8_t addr[16], uint16_t port)
{
	if (n == MAX_CANDIDATES)
		return n;
	memcpy(out[n].addr, addr, 16);
	out[n].port = port;
	return n + 1;
}

static size_t add_addresses(const struct conn *conn, struct candidate *out, size_t n, const struct addresses *known, uint16_t port,
			    bool same_family)
{
	bool v4 = addr_is_v4(conn->record.addr), one_address = conn->service && conn->service->one_address;
	size_t turn = known && known->count && !one_address ? (conn->draw >> 32) % known->count : 0;

	for (size_t k = 0; known && k < known->count; k++) {
		const uint8_t *addr = known->items[(turn + k) % known->count];

		if ((addr_is_v4(addr) == v4) != same_family)
			continue;
		n = add_candidate(out, n, addr, port);
		if (one_address)
			break;
	}
	return n;
}

/* The addresses of one target, those of the client's own family first: a pod may have no route for the other. */
static size_t add_target(const struct conn *conn, struct candidate *out, size_t n, size_t i, bool same_family)
{
	const struct upstream_target *target = &conn->service->targets[i];
	bool v4 = addr_is_v4(conn->record.addr);

	if (target->socket) /* every pod has a route there */
		return same_family ? add_candidate(out, n, target->addr, 0) : n;
	if (!target->host)
		return (addr_is_v4(target->addr) == v4) == same_family ? add_candidate(out, n, target->addr, target->port) : n;
	return add_addresses(conn, out, n, addresses_of(conn, i), target->port, same_family);
}

static uint32_t weight_of(const struct upstream_target *target)
{
	return target->weight ? target->weight : 1;
}

/* Where to begin among the targets: by weight. */
static size_t first_target(const struct conn *conn)
{
	uint64_t total = 0, draw;

	for (size_t i = 0; i < conn->service->target_count; i++)
		total += weight_of(&conn->service->targets[i]);
	if (!total)
		return 0;
	draw = (conn->draw & UINT32_MAX) % total;
	for (size_t i = 0; i < conn->service->target_count; i++) {
		if (draw < weight_of(&conn->service->targets[i]))
			return i;
		draw -= weight_of(&conn->service->targets[i]);
	}
	return 0;
}

/* What nobody registers and yet is not dialled where the client did. */
static bool is_by_host(const struct conn *conn, const struct service *service)
{
	return !service && conn->goes_by_host;
}

/* The client says where. */
static bool is_by_name(const struct conn *conn, const struct service *service)
{
	return is_by_host(conn, service) || (service && service_is_dynamic(service));
}

size_t upstream_addresses(const struct conn *conn, struct candidate *out)
{
	const struct service *service = conn->service;
	bool replaces_port = service && service->resolution == RESOLUTION_NONE && service->target_port != service->port;
	size_t n = 0, first;

	if (is_by_host(conn, service)) {
		n = add_addresses(conn, out, n, named_addresses(conn), conn->record.port, true);
		return add_addresses(conn, out, n, named_addresses(conn), conn->record.port, false);
	}
	if (!service || service_keeps_destination(service))
		return add_candidate(out, 0, conn->record.addr, replaces_port ? service->target_port : conn->record.port);
	first = first_target(conn);
	for (int other = 0; other < 2; other++)
		for (size_t i = 0; i < service->target_count; i++)
			n = add_target(conn, out, n, (first + i) % service->target_count, !other);
	return n;
}

/* Candidates of the client's family come first: how many they are. */
static size_t own_family(const struct conn *conn, const struct candidate *candidates, size_t count)
{
	size_t own = 0;

	while (own < count && (!candidates[own].port || addr_is_v4(candidates[own].addr) == addr_is_v4(conn->record.addr)))
		own++;
	return own;
}

/* The first on the ring that can be used, for each try (as in Istio), moved to the front. Returns how many there are now. */
static size_t pick_by_hash(const struct conn *conn, struct candidate *candidates, size_t count)
{
	const struct ring *ring = atomic_load(&conn->table->rings[conn->service->id - 1]);
	size_t own = own_family(conn, candidates, count), allowed = own ? own : count, at = ring_find(ring, conn->hash);

	for (size_t i = 0; i < ring->point_count; i++) {
		const struct ring_address *next = &ring->addresses[ring->points[(at + i) % ring->point_count].address];

		for (size_t k = 0; k < allowed; k++) {
			if (candidates[k].port != next->port || memcmp(candidates[k].addr, next->addr, 16))
				continue;
			candidates[0] = candidates[k];
			return 1;
		}
	}
	return count; /* the name has other addresses since, and an older table */
}

static size_t candidates_of(const struct conn *conn, struct candidate *out)
{
	size_t count = outlier_filter(conn, out, upstream_addresses(conn, out));

	return conn->has_hash && count > 1 ? pick_by_hash(conn, out, count) : count;
}

/* ---- names that clients show ---- */

/* As DNS knows it. False: it is no name. */
static bool dns_name(char out[SLUICE_HOST_MAX], const char *shown)
{
	size_t length = strcspn(shown, ":"); /* a rewritten authority may have a port */

	length -= length && shown[length - 1] == '.';
	if (length >= SLUICE_HOST_MAX)
		return false;
	for (size_t i = 0; i < length; i++)
		out[i] = (char)host_name_lower((unsigned char)shown[i]);
	out[length] = 0;
	return is_asked_name(out);
}

bool upstream_can_look_up(const char *shown)
{
	char host[SLUICE_HOST_MAX];

	return dns_name(host, shown);
}

/* Whom the client names. False: nobody below the service's wildcard. */
static bool named_host(const struct conn *conn, const struct service *service, char out[SLUICE_HOST_MAX])
{
	return dns_name(out, conn->purpose == FOR_HTTP ? http_asked_host(conn) : conn->shown) &&
	       (!service || host_covers(service->host, out));
}

/* A worker's part of what a workload may ask: who makes names up is not to keep others waiting. */
static bool may_ask(struct worker *worker, struct pool *pool)
{
	uint64_t more = (worker->now_ms - pool->questions_ms) * QUESTIONS_PER_SECOND / worker_count / 1000;
	uint32_t most = 2 * QUESTIONS_PER_SECOND / worker_count;

	if (more) {
		pool->questions = more + pool->questions < most ? (uint32_t)more + pool->questions : most;
		pool->questions_ms = worker->now_ms;
	}
	if (!pool->questions)
		return false;
	pool->questions--;
	return true;
}

static void ask_for(struct conn *conn, const char *host)
{
	struct worker *worker = conn->worker;

	conn->name_refused = !may_ask(worker, pool_of(worker, conn->place, conn->record.workload, NULL)) ||
			     !directory_want(worker, conn->record.workload, host);
	tally(conn->name_refused ? &worker->statistics.names_refused : &worker->statistics.names_asked, 1);
}

/* Where the client's name is, if anybody asked for it; else it is asked for, if that is to be the `first` look. */
static void look_up(struct conn *conn, bool first)
{
	char host[SLUICE_HOST_MAX];

	if (!is_by_name(conn, conn->service) || conn->named || conn->name_refused || conn->name_failed)
		return;
	conn->name_failed = !named_host(conn, conn->service, host);
	if (conn->name_failed)
		return;
	conn->named = directory_find(host);
	if (!conn->named && first)
		ask_for(conn, host);
}

static void forget_name(struct conn *conn)
{
	dynamic_name_release(&conn->named);
	conn->name_refused = conn->name_failed = false;
}

bool upstream_serves(const struct conn *open, const struct conn *conn, const struct service *service)
{
	char host[SLUICE_HOST_MAX];

	if (open->kept_for != service)
		return false;
	if (!is_by_name(conn, service))
		return !open->named;
	return open->named && named_host(conn, service, host) && !strcmp(open->named->host, host);
}

/* Some target's name has not had its first answer, and no other can do. */
static bool is_name_pending(const struct conn *conn)
{
	struct candidate candidates[MAX_CANDIDATES];
	bool pending = false;

	if (conn->name_refused || conn->name_failed)
		return false;
	if (is_by_host(conn, conn->service))
		return !named_addresses(conn);
	for (size_t i = 0; conn->service && i < conn->service->target_count && !pending; i++) {
		const struct addresses *known = addresses_of(conn, i);

		pending = conn->service->targets[i].host && (!known || !known->known);
	}
	return pending && !upstream_addresses(conn, candidates);
}

/* ---- failing ---- */

static void fail(struct conn *conn, const char *reason, const char *failure)
{
	tally(&conn->worker->statistics.upstream_connect_failures, 1);
	upstream_forget_waiting(conn);
	upstream_drop(conn);
	if (conn->purpose == FOR_HTTP) {
		http_answer_upstream(conn, 503, reason, failure);
		return;
	}
	access_log_reset(conn, reason, failure);
	conn_reset(conn);
}

/* In Envoy's words; those about DNS are of its dynamic forward proxy. */
static void fail_without_address(struct conn *conn)
{
	const struct addresses *known = named_addresses(conn);
	bool is_dynamic = is_by_name(conn, conn->service);
	bool is_refused = conn->name_refused || (known && known->is_refused);

	if (is_dynamic)
		conn_note(conn, FLAG_DF, is_refused ? "dns_cache_overflow" : "dns_resolution_failure");
	else
		conn_note(conn, FLAG_UH, "no_healthy_upstream");
	upstream_forget_waiting(conn);
	upstream_drop(conn);
	forget_name(conn); /* it may be asked for again */
	if (conn->purpose == FOR_RELAY)
		conn_reset(conn);
	else
		http_answer(conn, 503, "%s",
			    !is_dynamic ? "no healthy upstream" : is_refused ? "DNS cache overflow" : "DNS resolution failure");
}

static void overflow(struct conn *conn)
{
	upstream_drop(conn);
	conn_note(conn, FLAG_UO, NULL);
	if (conn->purpose != FOR_RELAY) {
		http_answer_overflow(conn);
		return;
	}
	tally(&conn->worker->statistics.overflows_total, 1);
	conn_reset(conn);
}

void upstream_admitted(struct conn *conn, bool overflows)
{
	conn->state = CONN_SOCKET;
	conn->connect_ms = conn->worker->now_ms;
	if (overflows)
		overflow(conn);
	if (conn->state != CONN_CLOSED)
		worker_ready(conn);
}

/* ---- connecting ---- */

void upstream_drop(struct conn *conn)
{
	bool was_dialled = h2_dials(conn);

	circuit_release(conn);
	origination_end(&conn->upstream);
	h2_let_go(&conn->upstream, false);
	if (conn->upstream.fd >= 0) {
		close(conn->upstream.fd);
		conn->worker->descriptors--;
	}
	conn->upstream = (struct end){.watch = conn->upstream.watch, .fd = -1};
	conn->kept = conn->shares = false;
	conn->share_error = 0;
	conn->served = 0;
	conn->idle_until_ms = conn->connected_until_ms = 0;
	buffer_put(conn->worker, &conn->from_upstream);
	if (was_dialled && conn->owner)
		h2_wake_waiting(conn);
}

static const struct traffic_policy *policy_of(const struct service *service)
{
	static const struct traffic_policy none;

	return service ? &service->policy : &none;
}

/* What settles the order of the targets, and of a target's addresses in its upper half. */
static uint64_t new_draw(struct conn *conn, const struct service *service)
{
	uint64_t total = 0, turn;

	if (policy_of(service)->balance.way != BALANCE_ROUND_ROBIN)
		return worker_random(conn->worker);
	for (size_t i = 0; i < service->target_count; i++)
		total += weight_of(&service->targets[i]);
	turn = atomic_fetch_add_explicit(&conn->table->turns[service->id - 1], 1, memory_order_relaxed);
	return total ? turn / total << 32 | turn % total : 0;
}

/* useSourceIp. Clients reach the redirector from loopback: their network namespace stands for the address that they have. */
static void hash_source(struct conn *conn)
{
	const struct balance_settings *balance = &policy_of(conn->service)->balance;

	if (balance->way != BALANCE_HASH || balance->key != HASH_SOURCE)
		return;
	conn->has_hash = true;
	conn->hash = ring_hash(&conn->place->cookie, sizeof(conn->place->cookie));
}

void upstream_begin(struct conn *conn, const struct service *service)
{
	conn->service = service;
	conn->tries = conn->unconnected = 0;
	conn->draw = new_draw(conn, service);
	hash_source(conn);
	conn->connect_ms = conn->worker->now_ms;
	memcpy(conn->addr, conn->record.addr, 16);
	conn->port = conn->record.port;
	conn->state = CONN_NAME;
	forget_name(conn);
	look_up(conn, true);
	worker_timer(conn, conn->worker->now_ms + NAME_TIMEOUT_MS);
}

/*
 * How long a connection lasts: ISTIO.md §1.7; http.idleTimeout, and tcp's where that is absent. Without either, an HTTP
 * client's own hour ends both.
 */
static void settle_lifetime(struct conn *conn)
{
	const struct pool_settings *pool = &policy_of(conn->service)->pool;
	bool is_http = conn->purpose == FOR_HTTP;

	conn->idle_ms = is_http && pool->http_idle_ms ? pool->http_idle_ms
			: pool->has_tcp_idle	       ? pool->tcp_idle_ms
			: is_http		       ? 0
						       : IDLE_TIMEOUT_MS;
	conn->connected_until_ms = pool->max_duration_ms ? conn->worker->now_ms + pool->max_duration_ms : 0;
}

bool upstream_suits(struct conn *conn)
{
	struct candidate candidates[MAX_CANDIDATES], kept = {.port = conn->port};

	hash_source(conn);
	memcpy(kept.addr, conn->addr, 16);
	if ((conn->idle_until_ms && conn->worker->now_ms >= conn->idle_until_ms) || outlier_ejects(conn, &kept))
		return false;
	return !conn->has_hash || (candidates_of(conn, candidates) && candidates[0].port == kept.port &&
				   !memcmp(candidates[0].addr, kept.addr, 16));
}

/* Ready for the client's bytes. */
static void established(struct conn *conn)
{
	if (conn->purpose == FOR_RELAY && policy_of(conn->service)->tunnel.present && conn->state != CONN_TUNNEL) {
		tunnel_begin(conn);
		return;
	}
	outlier_connected(conn);
	settle_lifetime(conn);
	conn->kept_for = conn->service;
	access_log_connected(conn);
	worker_timer(conn, conn->worker->now_ms + IDLE_TIMEOUT_MS);
	if (conn->purpose == FOR_RELAY) {
		relay_begin(conn);
		return;
	}
	if (h2_is_spoken(conn, conn->service))
		h2_connected(conn);
	http_connected(conn);
}

static int dial(struct conn *conn, int fd, bool v4_only)
{
	struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons(conn->port)};
	struct sockaddr_in6 in6 = {.sin6_family = AF_INET6, .sin6_port = htons(conn->port)};

	memcpy(&in.sin_addr, conn->addr + 12, 4);
	memcpy(&in6.sin6_addr, conn->addr, 16);
	if (v4_only && !addr_is_v4(conn->addr))
		return -EAFNOSUPPORT;
	if (connect(fd, v4_only ? (struct sockaddr *)&in : (struct sockaddr *)&in6, v4_only ? sizeof(in) : sizeof(in6)) < 0)
		return -errno;
	return 0;
}

void upstream_again(struct conn *conn, uint64_t wait_ms)
{
	upstream_drop(conn);
	conn->connect_ms = conn->worker->now_ms + wait_ms;
	conn->state = wait_ms ? CONN_BACKOFF : CONN_SOCKET;
	worker_timer(conn, conn->connect_ms + (wait_ms ? 0 : ASK_AGAIN_MS));
}

/* Another candidate is tried at once, one that has failed only after a while. */
static bool try_another(struct conn *conn, size_t candidates)
{
	if (conn->purpose == FOR_HTTP)
		return http_try_again(conn, RETRY_CONNECT | RETRY_RESET | RETRY_UNSENT | RETRY_5XX | RETRY_GATEWAY,
				      conn->unconnected >= candidates);
	if (conn->tries >= MAX_TRIES || conn->tries >= candidates) {
		conn_note(conn, FLAG_URX, NULL);
		return false;
	}
	conn->state = CONN_SOCKET;
	return true;
}

static void try_failed(struct conn *conn, int error, size_t candidates)
{
	char failure[128];

	conn->unconnected++;
	outlier_failed(conn, 503);
	h2_dial_failed(conn, error, NULL);
	upstream_drop(conn);
	if (try_another(conn, candidates))
		return;
	if (error == ECONNREFUSED && conn->purpose == FOR_HTTP && http_judge_again(conn))
		return;
	snprintf(failure, sizeof(failure), "delayed connect error: %s", strerror(error));
	if (error == ETIMEDOUT)
		fail(conn, "connection timeout", NULL);
	else
		fail(conn, "remote connection failure", failure);
}

/* Whom a server is to be that no setting names: of a connection that is only relayed its service's host. */
static const char *server_name(const struct conn *conn)
{
	if (conn->purpose == FOR_HTTP)
		return http_asked_host(conn);
	return conn->service->wildcard ? conn->shown : conn->service->host;
}

/* The TCP connection is made; what is left of the connect timeout is for what else the server asks for. */
static void connected(struct conn *conn)
{
	struct candidate candidates[MAX_CANDIDATES];

	if (policy_of(conn->service)->proxy_protocol && !greeting_proxy_header(conn)) {
		try_failed(conn, errno, candidates_of(conn, candidates));
		return;
	}
	if (!conn->service || !service_originates(conn->service)) {
		established(conn);
		return;
	}
	conn->state = CONN_TLS;
	if (!origination_begin(conn, server_name(conn)))
		fail(conn, "local connection failure", "TLS_error: no session can be made");
}

/* Connected, but the server is not the one that is wanted, or does not do what is asked of it. */
static void refused(struct conn *conn, const char *why)
{
	struct candidate candidates[MAX_CANDIDATES];

	conn->unconnected++;
	outlier_failed(conn, 503);
	h2_dial_failed(conn, EPROTO, why);
	upstream_drop(conn);
	if (!try_another(conn, candidates_of(conn, candidates)))
		fail(conn, "remote connection failure", why);
}

static enum step handshake(struct conn *conn)
{
	char why[256];

	switch (origination_step(conn, why, sizeof(why))) {
	case ORIGINATION_AGAIN:
		return STEP_BLOCKED;
	case ORIGINATION_DONE:
		established(conn);
		return STEP_ADVANCED;
	default:
		refused(conn, why);
		return STEP_ADVANCED;
	}
}

static enum step ask_proxy(struct conn *conn)
{
	switch (tunnel_step(conn)) {
	case TUNNEL_AGAIN:
		return STEP_BLOCKED;
	case TUNNEL_OPEN:
		established(conn);
		return STEP_ADVANCED;
	default:
		refused(conn, NULL);
		return STEP_ADVANCED;
	}
}

/* Each try another one: those of the client's family in turn, the others when nobody is found at these. */
static size_t candidate_at(const struct conn *conn, const struct candidate *candidates, size_t count)
{
	size_t own = own_family(conn, candidates, count);

	if (own && own < count && conn->unconnected >= own)
		return own + (conn->unconnected - own) % (count - own);
	return conn->tries % (own ? own : count);
}

/* As far as Linux goes: it refuses more (net/tcp.h: MAX_TCP_KEEPCNT and its like). */
static void keep_alive(int fd, const struct keepalive *wanted)
{
	struct {
		int option;
		uint32_t value, most;
	} options[] = {{TCP_KEEPCNT, wanted->probes, 127}, {TCP_KEEPIDLE, wanted->time_s, 32767}, {TCP_KEEPINTVL, wanted->interval_s, 32767}};
	int on = 1;

	setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
	for (size_t i = 0; i < ARRAY_SIZE(options); i++) {
		if (options[i].value > options[i].most)
			options[i].value = options[i].most;
		if (options[i].value)
			setsockopt(fd, IPPROTO_TCP, options[i].option, &options[i].value, sizeof(options[i].value));
	}
}

#define REDRAWS 16 /* then whoever follows the ejected one has its share */

/* The draw falls on an address that is not ejected; LEAST_REQUEST: of two on the one with less to do (Envoy's choice of two). */
static void settle_draw(struct conn *conn)
{
	struct candidate one[MAX_CANDIDATES], other[MAX_CANDIDATES];
	size_t count = upstream_addresses(conn, one);
	uint64_t first;

	for (int i = 0; i < REDRAWS && count > 1 && outlier_ejects(conn, &one[0]); i++) {
		conn->draw = new_draw(conn, conn->service);
		count = upstream_addresses(conn, one); /* a name may have others by now */
	}
	if (count < 2 || conn->service->policy.balance.way != BALANCE_DEFAULT)
		return;
	first = conn->draw;
	conn->draw = worker_random(conn->worker);
	if (!upstream_addresses(conn, other) || outlier_ejects(conn, &other[0]) ||
	    circuit_load(conn, other[0].addr, other[0].port) >= circuit_load(conn, one[0].addr, one[0].port))
		conn->draw = first;
}

/* Where this try may go. What is the same for all tries is settled by the first. */
static size_t choose(struct conn *conn, struct candidate *out)
{
	if (!conn->tries) {
		circuit_enter(conn, upstream_addresses(conn, out) > 1);
		if (conn->circuit && !conn->has_hash)
			settle_draw(conn);
	}
	return candidates_of(conn, out);
}

/* ---- sessions of HTTP/2, that streams of one client share ---- */

static bool may_share(const struct conn *conn)
{
	return conn->purpose == FOR_HTTP && h2_is_spoken(conn, conn->service);
}

/* A try that needs no connection of its own. False: it was answered. */
static bool begin_shared(struct conn *conn)
{
	bool was_to_dial = h2_dials(conn);

	if (!circuit_stream(conn)) {
		overflow(conn);
		return false;
	}
	if (was_to_dial) /* those who wait for that look elsewhere */
		h2_wake_waiting(conn);
	conn->tries++;
	circuit_dial(conn);
	conn->outcome.has_upstream = true;
	http_start_try(conn);
	return true;
}

static void take_stream(struct conn *conn, struct h2_session *session)
{
	conn->reused = !conn->shares && conn->tries == 1;
	conn->shares = false;
	h2_join(conn, session);
	worker_timer(conn, conn->worker->now_ms + IDLE_TIMEOUT_MS);
	http_connected(conn);
}

/* 1: a session with that server takes the request; 0: one will; -1: there is none. */
static int share_session(struct conn *conn)
{
	struct h2_session *session = h2_session_for(conn, false);
	uint64_t now = conn->worker->now_ms;

	if (session && !conn->has_connection && h2_makes_way(session)) {
		worker_timer(conn, now + ASK_AGAIN_MS);
		return 0;
	}
	if (!session && !h2_is_dialled(conn))
		return -1;
	if (!begin_shared(conn))
		return 1;
	if (session) {
		take_stream(conn, session);
		return 1;
	}
	conn->shares = true;
	worker_timer(conn, now + IDLE_TIMEOUT_MS); /* it ends with the dial, and has the timeouts of its own try */
	return 0;
}

void upstream_share(struct conn *conn, bool is_first)
{
	/* Where there is no connection for another address, one that is in use will do, unless the request tells which. */
	bool anywhere = !conn->has_hash && !is_by_name(conn, conn->service);
	struct h2_session *session = may_share(conn) ? h2_session_for(conn, anywhere) : NULL;

	if (!session || (!is_first && h2_makes_way(session)))
		return;
	upstream_forget_waiting(conn);
	h2_where(conn, session);
	if (begin_shared(conn))
		take_stream(conn, session);
	if (conn->state != CONN_CLOSED)
		worker_ready(conn);
}

/* A try for conn->addr, with `fd`; -1: there is none. */
static void count_try(struct conn *conn, int fd)
{
	conn->tries++;
	circuit_dial(conn);
	conn->local_port = 0;
	conn->outcome.has_upstream = true;
	if (conn->purpose == FOR_HTTP)
		http_start_try(conn);
	conn->upstream.fd = fd;
	conn->upstream.registered = conn->worker->round;
}

/* 0 or -errno. */
static int await_connection(struct conn *conn)
{
	struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, .data.ptr = &conn->upstream.watch};
	struct worker *worker = conn->worker;

	conn->state = CONN_CONNECT;
	if (epoll_ctl(worker->epoll_fd, EPOLL_CTL_ADD, conn->upstream.fd, &event) < 0)
		return -errno;
	worker_timer(conn, worker->now_ms + connect_timeout_of(conn->service, conn->table->config->mesh));
	return 0;
}

/* The loader has made the connection to conn->addr, or could not. */
static void unix_answered(struct conn *conn, int fd, int error)
{
	struct candidate candidates[MAX_CANDIDATES];

	upstream_forget_waiting(conn);
	if (!error && may_share(conn) && share_session(conn) >= 0) { /* that another request has begun meanwhile */
		close(fd);
		conn->worker->descriptors--;
		worker_ready(conn);
		return;
	}
	count_try(conn, fd);
	if (!error)
		error = -await_connection(conn);
	if (error)
		try_failed(conn, error, candidates_of(conn, candidates));
	if (conn->state != CONN_CLOSED)
		worker_ready(conn);
}

/* Another may be drawn each time that a socket is looked for: those who wait for a session with the last one look elsewhere. */
static void settle_address(struct conn *conn, const struct candidate *to, bool was_to_dial)
{
	bool stays = conn->port == to->port && !memcmp(conn->addr, to->addr, 16) && h2_dials(conn);

	memcpy(conn->addr, to->addr, 16);
	conn->port = to->port;
	if (was_to_dial && !stays)
		h2_wake_waiting(conn);
}

/* Takes a socket and dials the next candidate. */
static enum step begin_try(struct conn *conn)
{
	struct worker *worker = conn->worker;
	struct candidate candidates[MAX_CANDIDATES];
	const struct pool_settings *pool_settings = &policy_of(conn->service)->pool;
	struct pool *pool;
	bool was_to_dial = h2_dials(conn);
	size_t count = choose(conn, candidates);
	int fd, error, shared, on = 1;

	if (!count) {
		fail_without_address(conn);
		return STEP_ADVANCED;
	}
	settle_address(conn, &candidates[candidate_at(conn, candidates, count)], was_to_dial);
	shared = may_share(conn) ? share_session(conn) : -1;
	if (shared >= 0)
		return shared ? STEP_ADVANCED : STEP_BLOCKED;
	switch (circuit_admit(conn)) {
	case CIRCUIT_OVERFLOWS:
		overflow(conn);
		return STEP_ADVANCED;
	case CIRCUIT_HOLDS:
		conn->state = CONN_PENDING;
		worker_timer(conn, worker->now_ms + IDLE_TIMEOUT_MS);
		upstream_share(conn, atomic_load(&conn->circuit->waiting) == 1);
		return STEP_BLOCKED;
	default:
		break;
	}
	pool = pool_of(worker, conn->place, conn->record.workload, conn->port ? NULL : conn->addr);
	fd = pool_take(worker, pool);
	if (fd < 0) {
		queue_add(&pool->waiting, conn);
		pool_ask(worker, pool);
		/* The question or its answer may be lost, or the loader not be ready: ask again (upstream_timeout). */
		worker_timer(conn, worker->now_ms + ASK_AGAIN_MS);
		return STEP_BLOCKED;
	}
	count_try(conn, fd);
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	if (pool_settings->keepalive.present)
		keep_alive(fd, &pool_settings->keepalive);
	error = dial(conn, fd, pool->v4_only);
	if (!error || error == -EINPROGRESS)
		error = await_connection(conn);
	if (!error)
		return STEP_BLOCKED;
	try_failed(conn, -error, count);
	return STEP_ADVANCED;
}

static void dial_failed(struct conn *conn)
{
	struct candidate candidates[MAX_CANDIDATES];
	char why[sizeof(conn->outcome.failure)];

	memcpy(why, conn->outcome.failure, sizeof(why));
	conn->outcome.failure[0] = 0;
	if (conn->share_error == EPROTO)
		refused(conn, why[0] ? why : NULL);
	else
		try_failed(conn, conn->share_error, candidates_of(conn, candidates));
}

/* The session that another stream dials is there, or that try has failed for both. */
static enum step follow_dial(struct conn *conn)
{
	struct h2_session *session = h2_session_for(conn, false);

	if (session) {
		take_stream(conn, session);
		return STEP_ADVANCED;
	}
	if (conn->share_error) {
		dial_failed(conn);
		return STEP_ADVANCED;
	}
	if (h2_is_dialled(conn))
		return STEP_BLOCKED;
	upstream_drop(conn); /* nobody dials it any more, or it has no room for this one */
	conn->tries--;
	return STEP_ADVANCED;
}

static enum step finish_try(struct conn *conn)
{
	struct candidate candidates[MAX_CANDIDATES];
	int error = 0;
	socklen_t size = sizeof(error);

	if (!conn->upstream.writable)
		return STEP_BLOCKED;
	if (conn->upstream.failing)
		getsockopt(conn->upstream.fd, SOL_SOCKET, SO_ERROR, &error, &size);
	if (error)
		try_failed(conn, error, candidates_of(conn, candidates));
	else
		connected(conn);
	return STEP_ADVANCED;
}

enum step upstream_step(struct conn *conn)
{
	switch (conn->state) {
	case CONN_NAME:
		look_up(conn, false);
		if (is_name_pending(conn))
			return STEP_BLOCKED; /* a published name wakes every connection: conn_view_changed */
		conn->state = CONN_SOCKET;
		return STEP_ADVANCED;
	case CONN_PENDING: /* circuit_look_again() */
		return STEP_BLOCKED;
	case CONN_SOCKET:
		return conn->waiting_in ? STEP_BLOCKED : conn->shares ? follow_dial(conn) : begin_try(conn);
	case CONN_TLS:
		return handshake(conn);
	case CONN_TUNNEL:
		return ask_proxy(conn);
	default:
		return finish_try(conn);
	}
}

/* How long a connection looks for a socket; a Unix socket's comes connected, or when its server is less busy. */
static uint64_t patience_of(const struct conn *conn)
{
	bool is_busy = !conn->port && conn->worker->supply >= 0;

	return is_busy ? connect_timeout_of(conn->service, conn->table->config->mesh) : CONNECT_TIMEOUT_MS;
}

void upstream_timeout(struct conn *conn)
{
	struct candidate candidates[MAX_CANDIDATES];

	switch (conn->state) {
	case CONN_NAME:
		fail_without_address(conn);
		break;
	case CONN_BACKOFF:
		upstream_again(conn, 0);
		break;
	case CONN_PENDING:
		upstream_forget_waiting(conn);
		overflow(conn);
		break;
	case CONN_SOCKET:
		if (conn->worker->now_ms < conn->connect_ms + patience_of(conn)) {
			upstream_forget_waiting(conn);
			break;
		}
		if (!conn->port && conn->worker->supply >= 0) {
			upstream_forget_waiting(conn);
			count_try(conn, -1);
			try_failed(conn, ETIMEDOUT, candidates_of(conn, candidates));
			break;
		}
		fail(conn, "local connection failure", conn->worker->supply < 0 ? "loader unavailable" :
									  "no upstream socket could be made");
		break;
	default:
		try_failed(conn, ETIMEDOUT, candidates_of(conn, candidates));
	}
}
