// SPDX-License-Identifier: Apache-2.0
/* A redirected connection: accepted, its record read, and what the client speaks found out. */
#include <errno.h>
#include <stdio.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "base/log.h"
#include "base/memory.h"
#include "redirect/circuit.h"
#include "redirect/client_hello.h"
#include "redirect/directory.h"
#include "redirect/h2.h"
#include "redirect/internal.h"
#include "redirect/l4_route.h"
#include "redirect/origination.h"

#define ACCEPT_BATCH 32
#define LINGER_BYTES 65536

/* ---- life ---- */

struct conn *conn_new(struct worker *worker, int fd)
{
	struct conn *conn = worker->free_conns;

	if (conn)
		worker->free_conns = conn->next;
	else
		conn = xcalloc(1, sizeof(*conn));
	memset(conn, 0, sizeof(*conn));
	conn->worker = worker;
	conn->client = (struct end){.watch = {WATCH_CLIENT, conn}, .fd = fd, .readable = true, .writable = true};
	conn->upstream = (struct end){.watch = {WATCH_UPSTREAM, conn}, .fd = -1};
	conn->state = CONN_SNIFF;
	conn->outcome.start_us = worker->now_us;
	conn->next = worker->conns;
	if (worker->conns)
		worker->conns->previous = conn;
	worker->conns = conn;
	worker->descriptors++;
	worker->memory += sizeof(*conn);
	tally(&worker->statistics.connections_open, 1);
	tally(&worker->statistics.connections_total, 1);
	return conn;
}

void conn_settle(struct conn *conn, struct place *place)
{
	conn->place = place_hold(place);
	place->connections[conn->worker->index]++;
}

void conn_own(struct conn *owner, struct conn *conn)
{
	conn->owner = owner;
	conn->next_owned = owner->owned;
	if (owner->owned)
		owner->owned->previous_owned = conn;
	owner->owned = conn;
}

static void leave_owner(struct conn *conn)
{
	if (!conn->owner)
		return;
	*(conn->previous_owned ? &conn->previous_owned->next_owned : &conn->owner->owned) = conn->next_owned;
	if (conn->next_owned)
		conn->next_owned->previous_owned = conn->previous_owned;
	conn->owner = conn->next_owned = conn->previous_owned = NULL;
}

/* What it owns ends in a while: whoever walks the connections may stand there. */
void conn_orphan(struct conn *conn)
{
	while (conn->owned) {
		conn->owned->is_orphan = true;
		worker_ready(conn->owned);
		leave_owner(conn->owned);
	}
}

static void unlink_conn(struct conn *conn)
{
	struct worker *worker = conn->worker;

	if (conn->previous)
		conn->previous->next = conn->next;
	else
		worker->conns = conn->next;
	if (conn->next)
		conn->next->previous = conn->previous;
	worker->descriptors--;
	worker->memory -= sizeof(*conn);
	tally(&worker->statistics.connections_open, (__u64)-1);
}

void conn_begin_delay(struct conn *conn, uint64_t ms)
{
	struct worker *worker = conn->worker;

	conn_note(conn, FLAG_DI, NULL);
	conn->is_delayed = true;
	conn->state = CONN_DELAYED;
	tally(&worker->statistics.delays_active, 1);
	tally(&worker->statistics.delays_total, 1);
	buffer_drop_if_empty(worker, &conn->from_client);
	worker_read_clock(worker); /* a long round must not make the delay shorter */
	worker_timer(conn, worker->now_ms + ms + 1);
}

void conn_end_delay(struct conn *conn)
{
	if (conn->is_delayed)
		tally(&conn->worker->statistics.delays_active, (__u64)-1);
	conn->is_delayed = false;
}

/* What is closed before its end, and not by the server or by us, is the client's doing. */
static void note_departure(struct conn *conn)
{
	const uint32_t of_connections = FLAG_UH | FLAG_UF | FLAG_UO | FLAG_FI | FLAG_NC | FLAG_DF;
	const uint32_t ours = FLAG_UT | FLAG_UC | FLAG_SI | FLAG_UPE | (conn->outcome.is_request ? 0 : of_connections);

	if (conn->state == CONN_RELAY || conn->outcome.is_blocked || conn->outcome.flags & ours)
		return;
	conn_note(conn, FLAG_DC, conn->outcome.is_request ? "downstream_remote_disconnect" : NULL);
}

void conn_close(struct conn *conn)
{
	struct worker *worker = conn->worker;

	if (conn->state == CONN_CLOSED)
		return;
	note_departure(conn);
	access_log_end(conn);
	conn_end_delay(conn);
	upstream_forget_waiting(conn);
	h2_end_session(conn);
	h2_let_go(&conn->client, false);
	upstream_drop(conn);
	circuit_leave(conn);
	relay_end(conn);
	conn_orphan(conn);
	leave_owner(conn);
	if (conn->client.fd >= 0)
		close(conn->client.fd);
	conn->state = CONN_CLOSED;
	worker_timer(conn, 0);
	buffer_put(worker, &conn->from_client);
	buffer_put(worker, &conn->from_upstream);
	buffer_put(worker, &conn->to_upstream);
	buffer_put(worker, &conn->cors);
	buffer_put(worker, &conn->copy);
	buffer_put(worker, &conn->to_client);
	table_release(conn->table);
	conn->place->connections[worker->index]--;
	place_release(conn->place);
	dynamic_name_release(&conn->named);
	unlink_conn(conn);
	conn->next = worker->closed;
	worker->closed = conn;
}

void conn_reset(struct conn *conn)
{
	struct linger now = {.l_onoff = 1, .l_linger = 0};

	if (conn->state == CONN_CLOSED)
		return;
	if (conn->client.fd >= 0)
		setsockopt(conn->client.fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
	conn_close(conn);
}

const char *conn_describe(const struct conn *conn, char *out, size_t room)
{
	char address[SLUICE_PREFIX_TEXT];

	format_address(address, conn->record.addr);
	snprintf(out, room, addr_is_v4(conn->record.addr) ? "%s:%u" : "[%s]:%u", address, conn->record.port);
	return out;
}

int end_read(struct worker *worker, struct end *end, struct buffer **buffer)
{
	ssize_t n;
	uint32_t room;

	if (!end->readable || end->eof) {
		errno = 0;
		return end->eof ? -1 : 0;
	}
	if (!buffer_make_room(worker, buffer))
		return 0;
	room = (*buffer)->size - (*buffer)->end;
	n = end->tls ? origination_receive(end, (*buffer)->bytes + (*buffer)->end, room)
	    : end->stream ? h2_receive(end, (*buffer)->bytes + (*buffer)->end, room)
			  : recv(end->fd, (*buffer)->bytes + (*buffer)->end, room, 0);
	if (n > 0) {
		(*buffer)->end += (uint32_t)n;
		(*buffer)->was_filled = (uint32_t)n == (*buffer)->size;
		if ((uint32_t)n < room && !end->ending && !end->tls && !end->stream)
			end->readable = false; /* edge-triggered: a short read says there is no more */
		return 1;
	}
	end->readable = false;
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return 0;
	if (n == 0)
		errno = 0;
	end->eof = true;
	return -1;
}

ssize_t end_send(struct end *end, const struct iovec *parts, size_t count)
{
	struct msghdr message = {.msg_iov = (struct iovec *)(uintptr_t)parts, .msg_iovlen = count};

	if (end->tls)
		return origination_send(end, parts, count);
	return end->stream ? h2_send(end, parts, count) : sendmsg(end->fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
}

int end_write(struct end *end, struct buffer *buffer, __u64 *bytes)
{
	while (buffer_length(buffer)) {
		struct iovec part = {buffer_bytes(buffer), buffer_length(buffer)};
		ssize_t n;

		if (!end->writable)
			return 0;
		n = end_send(end, &part, 1);
		if (n < 0 && errno != EAGAIN)
			return -1;
		if (n < 0) {
			end->writable = false;
			return 0;
		}
		buffer->start += (uint32_t)n;
		tally(bytes, (__u64)n);
	}
	return 1;
}

/* ---- deciding ---- */

static void take_table(struct conn *conn, struct table *table, const struct rule_set *rules)
{
	if (conn->table != table) {
		table_release(conn->table);
		conn->table = table_hold(table);
		conn->kept = false; /* it was made for a service of the old one */
	}
	conn->rules = rules;
}

/* The first decision by the generation that redirected the flow, the later ones by the newest (DESIGN §4). */
bool conn_decide(struct conn *conn)
{
	const struct view *view = conn->worker->view;
	const struct roster_entry *who;

	if (!view->table)
		return false;
	who = roster_find(view, conn->record.workload);
	if (!conn->decided && view->previous && who->previous && conn->record.generation != view->table->generation &&
	    conn->record.generation == view->previous->generation)
		take_table(conn, view->previous, who->previous);
	else
		take_table(conn, view->table, who->now);
	conn->decided = true;
	return conn->rules != NULL;
}

/* ---- telling what the client speaks ---- */

/* Istio sends what is blocked to a cluster that has no endpoint. */
static void note_refusal(struct conn *conn, struct decision decision)
{
	access_log_begin(conn, false);
	conn->outcome.is_blocked = true;
	if (decision.reason == REASON_ROUTE_REVOKED)
		conn->outcome.termination = "policy_revoked";
	else
		conn_note(conn, FLAG_UH, NULL);
}

static void refuse_connection(struct conn *conn, struct decision decision)
{
	worker_report(conn, decision, conn->shown);
	note_refusal(conn, decision);
	if (conn->is_tls)
		tally(&conn->worker->statistics.tls_refused, 1);
	conn_reset(conn);
}

/* After an injected delay, or at once: aborted, or on its way to conn->service. */
static void begin_relay(struct conn *conn)
{
	const struct http_route *fault = conn->route;

	conn_end_delay(conn);
	conn->route = NULL;
	if (fault && fault->abort.present && http_draw(conn->worker, fault->abort.percent)) {
		tally(&conn->worker->statistics.aborts_total, 1);
		conn_note(conn, FLAG_FI, NULL);
		conn_reset(conn);
		return;
	}
	upstream_begin(conn, conn->service);
}

/* The rule's target for this connection; NULL: no rule takes it. */
static const struct route_target *l4_target(const struct conn *conn, const struct service *service)
{
	struct l4_connection connection = {.name = conn->is_tls ? conn->shown : "", .addr = conn->record.addr, .port = conn->record.port};

	if (!service || !service->l4_route_count)
		return NULL;
	connection.who = &roster_find(conn->worker->view, conn->record.workload)->who;
	connection.draw = worker_random(conn->worker);
	return l4_route_find(service, &connection);
}

/* Straight there, or where a rule leads; a rule that leads nowhere ends the connection. */
static void relay_to(struct conn *conn, const struct service *service)
{
	const struct http_route *fault = service ? service->connection_fault : NULL;
	const struct route_target *target = l4_target(conn, service);

	if (target)
		service = policy_service(conn->table->policy, target->service);
	if (target && !service) {
		conn_note(conn, FLAG_NC, NULL);
		conn_reset(conn);
		return;
	}
	conn->purpose = FOR_RELAY;
	conn->service = service;
	conn->route = fault;
	if (fault && fault->delay.present && http_draw(conn->worker, fault->delay.percent))
		conn_begin_delay(conn, fault->delay.fixed_ms);
	else
		begin_relay(conn);
}

/* The TCP service at the address that the client dialled, if there is one. */
static const struct service *recorded_tcp(const struct conn *conn)
{
	/* The id is of the record's generation: of one that was replaced twice since, it names nothing any more. */
	const struct service *service = conn->table->generation == conn->record.generation
						? policy_service(conn->table->policy, conn->record.service)
						: NULL;

	return service && service->flags & SERVICE_TCP ? service : NULL;
}

uint32_t conn_flags_here(const struct conn *conn, const struct table *table, const struct rule_set *rules)
{
	uint32_t flags = conn->record.service_flags;

	if (flags & SERVICE_TCP && table->generation != conn->record.generation &&
	    !table_may_have_plain(table, rules->registry, conn->record.addr, conn->record.port))
		flags &= ~(uint32_t)SERVICE_TCP;
	return flags;
}

/* By the name in conn->shown, if any: relayed to its service or to where the client dialled, or reset. */
static void judge_name(struct conn *conn, enum shown_name shown, const char *name)
{
	const struct service *service = NULL;
	struct decision decision;

	if (shown == SHOWN_SNI)
		service = policy_find(conn->table->policy, conn->rules->registry, name, strlen(name), conn->record.port, false);
	decision = verdict_named(conn->rules, shown, service ? service->id : 0, conn_flags_here(conn, conn->table, conn->rules));
	snprintf(conn->shown, sizeof(conn->shown), "%s", name);
	access_log_begin(conn, false);
	if (decision.verdict == VERDICT_DENY) {
		refuse_connection(conn, decision);
		return;
	}
	worker_report(conn, decision, conn->shown);
	if (!service && conn->record.service_flags & SERVICE_TCP)
		conn->by_address = service = recorded_tcp(conn);
	if (!service && conn->rules->egress_proxy) {
		service = policy_service(conn->table->policy, conn->rules->egress_proxy);
		if (!service) {
			conn_note(conn, FLAG_NC, NULL);
			conn_reset(conn);
			return;
		}
	}
	relay_to(conn, service);
}

/* Neither HTTP nor TLS, or not a word. */
static void judge_nameless(struct conn *conn)
{
	judge_name(conn, SHOWN_NOTHING, "");
}

static enum step sniff_hello(struct conn *conn)
{
	char name[256];

	if (!conn->is_tls)
		worker_timer(conn, conn->worker->now_ms + HELLO_TIMEOUT_MS);
	conn->is_tls = true;
	switch (client_hello_parse(name, (const unsigned char *)buffer_bytes(conn->from_client), buffer_length(conn->from_client))) {
	case CLIENT_HELLO_MORE:
		return conn->client.readable ? STEP_ADVANCED : STEP_BLOCKED;
	case CLIENT_HELLO_OK:
		judge_name(conn, SHOWN_SNI, name);
		return STEP_ADVANCED;
	case CLIENT_HELLO_NO_NAME:
	case CLIENT_HELLO_NOT_TLS:
		judge_nameless(conn);
		return STEP_ADVANCED;
	default:
		refuse_connection(conn, decide(VERDICT_DENY, REASON_MALFORMED, 0));
		return STEP_BLOCKED;
	}
}

/* A TCP service that is dialled elsewhere: no name to look for, and servers that speak first must not wait. */
static bool is_plain_tcp(const struct conn *conn)
{
	return (conn->record.service_flags & (SERVICE_TCP | SERVICE_HTTP | SERVICE_TLS)) == SERVICE_TCP;
}

static void relay_plain(struct conn *conn)
{
	const struct service *service = recorded_tcp(conn);

	if (!service) {
		conn_reset(conn);
		return;
	}
	conn->by_address = service;
	snprintf(conn->shown, sizeof(conn->shown), "%s", service->host);
	access_log_begin(conn, false);
	relay_to(conn, service);
}

/* Redirected by a table that was published while this round was under way: the next round sees it. */
static bool is_table_coming(const struct conn *conn)
{
	const struct table *newest = conn->worker->view->table;

	return newest && conn->record.generation > newest->generation && conn->worker->epoch != atomic_load(&current_epoch);
}

/* Any protocol: that of a service is not declared, or what nobody registers goes to a proxy. */
static bool expects_any(const struct conn *conn)
{
	return conn->record.service_flags & SERVICE_DETECTED || conn->rules->egress_proxy;
}

/* Where other protocols are expected too, only a method that HTTP is known for begins a request. */
static enum http_result looks_like_http(struct conn *conn)
{
	static const char *const methods[] = {"GET ", "HEAD ", "POST ", "PUT ", "DELETE ", "OPTIONS ", "PATCH ", "TRACE ", "CONNECT "};
	const char *bytes = buffer_bytes(conn->from_client), *why;
	size_t length = buffer_length(conn->from_client);

	if (!expects_any(conn))
		return http_parse_request(&conn->worker->head, bytes, length, &why);
	for (size_t i = 0; i < ARRAY_SIZE(methods); i++) {
		size_t n = strlen(methods[i]);

		if (length < n ? !memcmp(bytes, methods[i], length) : !memcmp(bytes, methods[i], n))
			return length < n ? HTTP_MORE : HTTP_OK;
	}
	return HTTP_NOT_HTTP;
}

static bool expects_http(const struct conn *conn)
{
	uint32_t flags = policy_port_flags(conn->table->policy, conn->rules->registry, conn->record.port);

	return expects_any(conn) || verdict_speaks_http(flags, conn->record.port, conn->record.service_flags);
}

/* A client that knows beforehand that HTTP/2 is spoken (RFC 9113 §3.4). */
static enum http_result looks_like_h2(struct conn *conn)
{
	size_t length = buffer_length(conn->from_client), n = strlen(H2_PREFACE);

	if (memcmp(buffer_bytes(conn->from_client), H2_PREFACE, length < n ? length : n) != 0)
		return HTTP_NOT_HTTP;
	return length < n ? HTTP_MORE : HTTP_OK;
}

static enum step sniff_step(struct conn *conn)
{
	enum http_result result;
	int got;

	if (!conn->table) {
		if (is_table_coming(conn)) {
			worker_ready(conn);
			return STEP_BLOCKED;
		}
		if (!conn_decide(conn)) {
			conn_reset(conn);
			return STEP_BLOCKED;
		}
		if (is_plain_tcp(conn)) {
			relay_plain(conn);
			return STEP_ADVANCED;
		}
		worker_timer(conn, conn->worker->now_ms + SILENCE_MS);
	}
	got = end_read(conn->worker, &conn->client, &conn->from_client);
	if (got < 0) {
		conn_close(conn);
		return STEP_BLOCKED;
	}
	if (got == 0 && !conn->client.readable)
		return STEP_BLOCKED;
	if (*buffer_bytes(conn->from_client) == 0x16)
		return sniff_hello(conn);
	if (!expects_http(conn)) {
		judge_nameless(conn);
		return STEP_ADVANCED;
	}
	result = looks_like_h2(conn);
	if (result == HTTP_OK)
		h2_begin(conn);
	if (result != HTTP_NOT_HTTP)
		return result == HTTP_OK || conn->client.readable ? STEP_ADVANCED : STEP_BLOCKED;
	result = looks_like_http(conn);
	if (result == HTTP_MORE && expects_any(conn))
		return conn->client.readable ? STEP_ADVANCED : STEP_BLOCKED;
	if (result != HTTP_NOT_HTTP) {
		http_begin(conn);
		return STEP_ADVANCED;
	}
	judge_nameless(conn);
	return STEP_ADVANCED;
}

/* Our answer is out. Closing with unread bytes would send a RST that could overtake it. */
static enum step linger_step(struct conn *conn)
{
	ssize_t n = recv(conn->client.fd, NULL, LINGER_BYTES, MSG_TRUNC); /* thrown away unseen (tcp(7)) */

	if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR)) {
		conn_close(conn);
		return STEP_BLOCKED;
	}
	return n > 0 ? STEP_ADVANCED : STEP_BLOCKED;
}

void conn_run(struct conn *conn)
{
	enum step step = STEP_ADVANCED;

	if (conn->is_orphan)
		conn_close(conn);
	for (int rounds = 0; step == STEP_ADVANCED && conn->state != CONN_CLOSED; rounds++) {
		if (rounds == 64) { /* a client that pipelines without end must not starve the others */
			worker_ready(conn);
			return;
		}
		switch (conn->state) {
		case CONN_SNIFF:
			step = sniff_step(conn);
			break;
		case CONN_REQUEST:
		case CONN_EXCHANGE:
			step = http_step(conn);
			break;
		case CONN_NAME:
		case CONN_PENDING:
		case CONN_SOCKET:
		case CONN_CONNECT:
		case CONN_TLS:
		case CONN_TUNNEL:
			step = upstream_step(conn);
			break;
		case CONN_SESSION:
			step = h2_step(conn);
			break;
		case CONN_RELAY:
			step = relay_step(conn);
			break;
		case CONN_LINGER:
			step = linger_step(conn);
			break;
		default:
			step = STEP_BLOCKED;
		}
	}
}

/*
 * Nobody is there to be answered. A relay carries even that on; elsewhere a reset ends everything, and a client that
 * ends while a delay holds its request, or others' connections do, is taken to have lost its patience, as Envoy does.
 */
static bool client_left(const struct conn *conn, uint32_t events)
{
	if (conn->state == CONN_DELAYED || conn->state == CONN_PENDING)
		return events & (EPOLLRDHUP | EPOLLERR | EPOLLHUP);
	return conn->state != CONN_RELAY && conn->state != CONN_LINGER && events & (EPOLLERR | EPOLLHUP);
}

void conn_event(struct conn *conn, bool upstream, uint32_t events)
{
	struct end *end = upstream ? &conn->upstream : &conn->client;

	if (conn->state == CONN_CLOSED || end->fd < 0 || end->registered == conn->worker->round)
		return;
	if (events & (EPOLLIN | EPOLLRDHUP | EPOLLERR | EPOLLHUP))
		end->readable = true;
	if (events & (EPOLLOUT | EPOLLERR | EPOLLHUP))
		end->writable = true;
	if (end->tls && events & (EPOLLIN | EPOLLOUT)) /* it may have to write before it can read, and the other way round */
		end->readable = end->writable = true;
	end->ending |= (events & (EPOLLRDHUP | EPOLLERR | EPOLLHUP)) != 0;
	end->failing |= (events & EPOLLERR) != 0;
	if (!upstream && client_left(conn, events))
		conn_close(conn);
	else
		conn_run(conn);
}

void conn_timeout(struct conn *conn)
{
	if (conn->is_orphan) {
		conn_close(conn);
		return;
	}
	if (conn->route_deadline_ms && conn->worker->now_ms >= conn->route_deadline_ms) {
		http_route_timeout(conn);
		conn_run(conn);
		return;
	}
	if (conn->try_deadline_ms && conn->worker->now_ms >= conn->try_deadline_ms) {
		http_try_timeout(conn);
		conn_run(conn);
		return;
	}
	if (conn->state == CONN_REQUEST && conn->idle_until_ms && conn->worker->now_ms >= conn->idle_until_ms) {
		if (h2_is_parked(conn)) {
			conn_close(conn);
			return;
		}
		upstream_drop(conn); /* the client may be idle for longer */
		worker_timer(conn, conn->worker->now_ms + (conn->head_pending ? HELLO_TIMEOUT_MS : IDLE_TIMEOUT_MS));
		return;
	}
	switch (conn->state) {
	case CONN_SNIFF:
		if (conn->is_tls)
			refuse_connection(conn, decide(VERDICT_DENY, REASON_MALFORMED, 0));
		else
			judge_nameless(conn);
		break;
	case CONN_DELAYED:
		if (conn->purpose == FOR_RELAY) {
			begin_relay(conn);
			break;
		}
		http_timeout(conn);
		break;
	case CONN_REQUEST:
	case CONN_EXCHANGE:
		http_timeout(conn);
		break;
	case CONN_SESSION:
		h2_timeout(conn);
		break;
	case CONN_NAME:
	case CONN_PENDING:
	case CONN_SOCKET:
	case CONN_BACKOFF:
	case CONN_CONNECT:
	case CONN_TLS:
	case CONN_TUNNEL:
		upstream_timeout(conn);
		break;
	default:
		conn_close(conn);
	}
	conn_run(conn);
}

/* ---- accepting ---- */

void conn_adopt(struct worker *worker, int fd, struct place *place, const struct flow_record *record)
{
	struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET};
	struct conn *conn;
	int on = 1;

	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	conn = conn_new(worker, fd);
	conn->record = *record;
	conn_settle(conn, place);
	event.data.ptr = &conn->client.watch;
	/* Nobody listens at port 0, which stands for Unix sockets here: whoever dials it must not be led to one. */
	if (!record->port || epoll_ctl(worker->epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0) {
		conn_reset(conn);
		return;
	}
	conn_run(conn);
}

void conn_accept(struct worker *worker, struct listener *listener)
{
	if (atomic_load(&listener->place->gone))
		return;
	for (int i = 0; i < ACCEPT_BATCH; i++) {
		struct flow_record record;
		socklen_t size = sizeof(record);
		int fd;

		if (!worker_may_accept(worker, listener->place)) {
			worker_hold_back(worker, listener);
			return;
		}
		fd = accept4(listener->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
		if (fd < 0) {
			if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM)
				worker->starved_ms = worker->now_ms;
			return;
		}
		if (getsockopt(fd, SLUICE_SOL, SLUICE_SO_RECORD, &record, &size) < 0 || size != sizeof(record)) {
			/* Nobody was redirected here: somebody dialled the redirector himself. */
			tally(&worker->statistics.connections_refused, 1);
			close(fd);
			continue;
		}
		conn_adopt(worker, fd, listener->place, &record);
	}
}

/* ---- a new generation, or a pod that is gone ---- */

/* What was reached by its address, as it is today; NULL: it is gone. */
static const struct service *find_by_address(const struct conn *conn, const struct table *table, const struct rule_set *rules)
{
	return table_find_plain(table, rules->registry, conn->by_address->host, conn->record.port);
}

/* Whether what is under way would be admitted today. */
static struct decision judge_again(const struct conn *conn, const struct table *table, const struct rule_set *rules)
{
	const struct service *service = NULL;

	if (conn->by_address) {
		service = find_by_address(conn, table, rules);
		return verdict_named(rules, SHOWN_NOTHING, service ? service->id : 0, 0);
	}
	if (conn->shown[0])
		service = policy_find(table->policy, rules->registry, conn->shown, strlen(conn->shown), conn->record.port,
				      !conn->is_tls);
	return verdict_named(rules, !conn->shown[0] ? SHOWN_NOTHING : conn->is_tls ? SHOWN_SNI : SHOWN_HOST, service ? service->id : 0,
			     conn_flags_here(conn, table, rules));
}

/* A relay, or a request whose answer is not ours: what was admitted, and may lose its right. */
static bool is_under_way(const struct conn *conn)
{
	switch (conn->state) {
	case CONN_DELAYED:
	case CONN_NAME:
	case CONN_PENDING:
	case CONN_SOCKET:
	case CONN_BACKOFF:
	case CONN_CONNECT:
	case CONN_TLS:
	case CONN_TUNNEL:
	case CONN_RELAY:
		return true;
	case CONN_EXCHANGE:
		return !conn->is_local;
	default:
		return false;
	}
}

/* A later policy may leave it less time, never more. */
static bool may_drain(struct conn *conn, uint64_t drain_ms)
{
	struct worker *worker = conn->worker;
	uint64_t until = worker->now_ms + drain_ms;

	if (!conn->drain_until_ms || conn->drain_until_ms > until)
		conn->drain_until_ms = until;
	if (conn->drain_until_ms <= worker->now_ms)
		return false;
	if (!worker->drained_ms || conn->drain_until_ms < worker->drained_ms)
		worker->drained_ms = conn->drain_until_ms;
	return true;
}

/* What it was reached by is no service any more: then its address is as good as any. */
static void keep_address(struct conn *conn, const struct table *table, const struct rule_set *rules)
{
	if (!conn->by_address)
		return;
	conn->by_address = find_by_address(conn, table, rules);
	if (!conn->by_address)
		conn->record.service_flags = 0;
}

bool conn_still_allowed(struct conn *conn)
{
	const struct view *view = conn->worker->view;
	const struct roster_entry *who = roster_find(view, conn->record.workload);
	struct decision decision;

	if (!is_under_way(conn) || !who->now)
		return true;
	decision = judge_again(conn, view->table, who->now);
	if (decision.verdict != VERDICT_DENY) {
		conn->drain_until_ms = 0;
		if (conn->state == CONN_RELAY) { /* a request still needs the service */
			access_log_settle(conn);
			keep_address(conn, view->table, who->now);
			take_table(conn, view->table, who->now);
			conn->service = NULL;
			conn->route = NULL;
			conn->target = NULL;
		}
		return true;
	}
	if (may_drain(conn, who->now->drain_ms))
		return true;
	decision.reason = REASON_ROUTE_REVOKED;
	if (conn->state != CONN_RELAY && conn->purpose == FOR_HTTP)
		http_revoke(conn, decision, who->now);
	else
		refuse_connection(conn, decision);
	return false;
}

void conn_view_changed(struct conn *conn, bool rules_changed)
{
	if (atomic_load(&conn->place->gone)) {
		conn_reset(conn);
		return;
	}
	if (conn->state == CONN_NAME)
		worker_ready(conn); /* perhaps it was a name that changed */
	if (!rules_changed)
		return;
	conn_still_allowed(conn);
	h2_view_changed(conn);
}
