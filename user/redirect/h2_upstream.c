// SPDX-License-Identifier: Apache-2.0
/* Sessions with servers: which of them a request takes, and what else the streams of a client share. */
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>

#include "base/memory.h"
#include "redirect/circuit.h"
#include "redirect/directory.h"
#include "redirect/h2_internal.h"
#include "redirect/origination.h"

#define MAX_IDLE 16 /* connections of one client to servers of HTTP/1, and as many sessions */
#define MAKES_WAY_MS 1000 /* then its streams are of those that last, and others may as well begin */

static struct conn *owner_of(const struct conn *conn)
{
	return conn->owner ? conn->owner : (struct conn *)(uintptr_t)conn;
}

/* As Istio: by the port's protocol; as the client where that says nothing, or DestinationRule says so. */
bool h2_is_spoken(const struct conn *conn, const struct service *to)
{
	if (!to || to->protocol == PROTOCOL_UNSET || to->policy.pool.use_client_protocol)
		return conn->is_h2;
	if (to->protocol == PROTOCOL_HTTP2 || to->protocol == PROTOCOL_GRPC || to->protocol == PROTOCOL_GRPC_WEB)
		return true;
	return to->protocol == PROTOCOL_HTTP && to->policy.pool.upgrades_to_h2;
}

/* For the access log. */
static void know_local(struct conn *to, const struct conn *from)
{
	memcpy(to->local_addr, from->local_addr, 16);
	to->local_port = from->local_port;
}

/* The descriptor goes along with what is known of it; events of this round are still the other's, and come again. */
static void move_upstream(struct conn *from, struct conn *to)
{
	struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, .data.ptr = &to->upstream.watch};
	struct watch watch = to->upstream.watch;

	to->upstream = from->upstream;
	to->upstream.watch = watch;
	to->upstream.readable = to->upstream.writable = true;
	know_local(to, from);
	from->upstream = (struct end){.watch = from->upstream.watch, .fd = -1};
	epoll_ctl(to->worker->epoll_fd, EPOLL_CTL_MOD, to->upstream.fd, &event);
}

static void bind_stream(struct conn *conn, struct h2_session *session)
{
	struct h2_stream *stream = h2_stream_new(session, 0);

	upstream_forget_waiting(session->conn); /* it is not idle */
	h2_stream_bind(stream, conn, &conn->upstream);
}

static void retire(struct h2_session *session)
{
	session->leaves = true;
	h2_session_wake(session);
}

/* A client that asks many servers keeps the sessions that were made last. */
static void bound_idle(const struct conn *owner)
{
	size_t idle = 0;

	for (const struct conn *one = owner->owned; one; one = one->next_owned)
		if (one->session && !one->session->stream_count && ++idle > MAX_IDLE)
			retire(one->session);
}

void h2_connected(struct conn *conn)
{
	struct conn *carrier = conn_new(conn->worker, -1);

	carrier->record = conn->record;
	conn_settle(carrier, conn->place);
	carrier->table = table_hold(conn->table);
	carrier->rules = conn->rules;
	carrier->service = carrier->kept_for = conn->service;
	memcpy(carrier->addr, conn->addr, 16);
	carrier->port = conn->port;
	carrier->idle_ms = conn->idle_ms;
	carrier->connected_until_ms = conn->connected_until_ms;
	circuit_lend(conn, carrier);
	conn_own(owner_of(conn), carrier);
	move_upstream(conn, carrier);
	h2_session_new(carrier, &carrier->upstream, false);
	bind_stream(conn, carrier->session);
	bound_idle(owner_of(conn));
	worker_timer(carrier, carrier->worker->now_ms + IDLE_TIMEOUT_MS);
	worker_ready(carrier);
	h2_wake_waiting(conn);
	circuit_session_has_room(carrier);
}

static bool is_of_service(const struct conn *carrier, const struct conn *conn)
{
	return carrier->table == conn->table && carrier->service == conn->service;
}

static bool leads_there(const struct conn *carrier, const struct conn *conn)
{
	return is_of_service(carrier, conn) && carrier->port == conn->port && !memcmp(carrier->addr, conn->addr, 16);
}

static bool is_good_for(const struct conn *carrier, const struct conn *conn)
{
	struct candidate candidate = {.port = carrier->port};

	memcpy(candidate.addr, carrier->addr, 16);
	return is_of_service(carrier, conn) && !outlier_ejects(conn, &candidate);
}

static bool has_served_all(const struct h2_session *session)
{
	const struct service *service = session->conn->service;
	uint32_t most = service ? service->policy.pool.max_requests : 0;

	return most && session->served >= most;
}

static bool has_room(const struct h2_session *session)
{
	const struct conn *carrier = session->conn;
	const struct pool_settings *pool = carrier->service ? &carrier->service->policy.pool : NULL;
	uint32_t most = nghttp2_session_get_remote_settings(session->http2, NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS);

	if (pool && pool->max_streams && pool->max_streams < most)
		most = pool->max_streams;
	if (carrier->connected_until_ms && carrier->worker->now_ms >= carrier->connected_until_ms)
		return false;
	return !session->leaves && session->stream_count < most && nghttp2_session_check_request_allowed(session->http2) &&
	       !has_served_all(session);
}

/* As http_exchange.c of a connection that may serve again. */
void h2_session_idle(struct h2_session *session)
{
	struct conn *carrier = session->conn;
	uint64_t now = carrier->worker->now_ms;

	carrier->idle_until_ms = carrier->idle_ms ? now + carrier->idle_ms : 0;
	if (carrier->connected_until_ms && (!carrier->idle_until_ms || carrier->connected_until_ms < carrier->idle_until_ms))
		carrier->idle_until_ms = carrier->connected_until_ms;
	worker_timer(carrier, now + IDLE_TIMEOUT_MS);
	circuit_idle(carrier);
	if (session->leaves || has_served_all(session))
		retire(session);
}

/* They have it once its streams have ended: it takes no more of these for a while. */
bool h2_makes_way(struct h2_session *session)
{
	uint64_t now = session->conn->worker->now_ms;

	if (!circuit_is_short(session->conn->circuit)) {
		session->wanted_ms = 0;
		return false;
	}
	if (!session->wanted_ms)
		session->wanted_ms = now;
	return now - session->wanted_ms < MAKES_WAY_MS;
}

struct h2_session *h2_session_for(const struct conn *conn, bool anywhere)
{
	for (struct conn *one = owner_of(conn)->owned; one; one = one->next_owned) {
		if (one->state != CONN_SESSION || one->is_orphan || one->upstream.eof || !has_room(one->session) ||
		    !(anywhere ? is_good_for(one, conn) : leads_there(one, conn)))
			continue;
		if (one->upstream.tls && !origination_is_for(one, conn->service, http_asked_host(conn)))
			continue;
		return one->session;
	}
	return NULL;
}

void h2_where(struct conn *conn, const struct h2_session *session)
{
	memcpy(conn->addr, session->conn->addr, 16);
	conn->port = session->conn->port;
}

void h2_join(struct conn *conn, struct h2_session *session)
{
	bind_stream(conn, session);
	know_local(conn, session->conn);
}

/* Or will be, once there is a socket for it: within limits there is a connection for few. */
bool h2_dials(const struct conn *conn)
{
	return conn->state == CONN_CONNECT || conn->state == CONN_TLS || (conn->state == CONN_SOCKET && conn->has_connection);
}

bool h2_is_dialled(const struct conn *conn)
{
	for (const struct conn *one = owner_of(conn)->owned; one; one = one->next_owned)
		if (one != conn && h2_dials(one) && leads_there(one, conn))
			return true;
	return false;
}

void h2_dial_failed(struct conn *conn, int error, const char *why)
{
	if (conn->shares) /* it was another's, which may be dialling again */
		return;
	for (struct conn *one = owner_of(conn)->owned; one; one = one->next_owned) {
		if (one == conn || !one->shares || !leads_there(one, conn))
			continue;
		one->share_error = error;
		snprintf(one->outcome.failure, sizeof(one->outcome.failure), "%s", why ? why : "");
	}
}

void h2_wake_waiting(struct conn *conn)
{
	for (struct conn *one = owner_of(conn)->owned; one; one = one->next_owned)
		if (one != conn && one->state == CONN_SOCKET && !one->waiting_in)
			worker_ready(one);
}

/* ---- HTTP/1 connections that later streams use ---- */

bool h2_is_parked(const struct conn *conn)
{
	return conn->state == CONN_REQUEST && conn->is_h2 && !conn->client.stream && conn->kept;
}

bool h2_may_park(const struct conn *conn)
{
	size_t parked = 0;

	if (!conn->kept || !conn->owner || conn->is_orphan)
		return false;
	for (const struct conn *one = conn->owner->owned; one; one = one->next_owned)
		parked += h2_is_parked(one);
	return parked < MAX_IDLE;
}

void h2_unpark(struct conn *conn, const struct service *to, const char *host)
{
	for (struct conn *one = conn->owner ? conn->owner->owned : NULL; one; one = one->next_owned) {
		if (one == conn || !h2_is_parked(one) || one->upstream.eof || one->table != conn->table || !upstream_serves(one, conn, to))
			continue;
		if (one->upstream.tls && !origination_is_for(one, to, host))
			continue;
		move_upstream(one, conn);
		circuit_move(one, conn);
		dynamic_name_release(&conn->named);
		conn->named = one->named;
		one->named = NULL;
		conn->kept = true;
		conn->kept_for = to;
		conn->served = one->served;
		conn->idle_ms = one->idle_ms;
		conn->connected_until_ms = one->connected_until_ms;
		memcpy(conn->addr, one->addr, 16);
		conn->port = one->port;
		conn_close(one);
		return;
	}
}

void h2_view_changed(struct conn *conn)
{
	if (conn->table == conn->worker->view->table)
		return;
	if (h2_is_parked(conn))
		conn_close(conn);
	else if (conn->session && !conn->session->is_server)
		retire(conn->session);
}
