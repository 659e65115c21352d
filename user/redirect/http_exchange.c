// SPDX-License-Identifier: Apache-2.0
/* One request and its response under way: bytes move as far as both sides let them, and no further. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "base/memory.h"
#include "redirect/circuit.h"
#include "redirect/h2.h"
#include "redirect/http_internal.h"
#include "redirect/origination.h"

#define MOVES_PER_TURN 64 /* then other connections have theirs */

enum moved { MOVE_BLOCKED, MOVE_SOME, MOVE_DONE, MOVE_BROKEN };

/* ---- sending: a rebuilt head, then checked body bytes, in one call ---- */

static enum moved send_parts(struct end *end, struct buffer *head, struct buffer *body, uint32_t *ready, __u64 *bytes)
{
	struct iovec parts[2];
	size_t count = 0;
	ssize_t n;

	if (!end->writable)
		return MOVE_BLOCKED;
	if (buffer_length(head))
		parts[count++] = (struct iovec){buffer_bytes(head), buffer_length(head)};
	if (*ready)
		parts[count++] = (struct iovec){buffer_bytes(body), *ready};
	n = end_send(end, parts, count);
	if (n < 0) {
		if (errno == EINTR)
			return MOVE_SOME;
		if (errno != EAGAIN)
			return MOVE_BROKEN;
		end->writable = false;
		return MOVE_BLOCKED;
	}
	tally(bytes, (__u64)n);
	if (buffer_length(head)) {
		uint32_t part = (uint64_t)n < buffer_length(head) ? (uint32_t)n : buffer_length(head);

		head->start += part;
		n -= part;
	}
	if (n) {
		body->start += (uint32_t)n;
		*ready -= (uint32_t)n;
	}
	return MOVE_SOME;
}

/* A connection whose sides are both fast must not keep the worker to itself. */
static enum moved give_way(struct conn *conn)
{
	worker_ready(conn);
	return MOVE_BLOCKED;
}

/* ---- the request's body ---- */

/* Whether another try may be wanted once some of the body is sent: what only HTTP/2 and gRPC tell cannot come elsewhere. */
static bool may_be_repeated(const struct conn *conn)
{
	const struct http_retries *retries = http_retries_of(conn);
	uint32_t on = retries->on & ~(uint32_t)RETRY_CONNECT;

	if (!conn->is_grpc)
		on &= ~(uint32_t)RETRY_GRPC;
	if (!conn->upstream.stream)
		on &= ~(uint32_t)RETRY_REFUSED;
	return on && conn->tries <= retries->attempts;
}

/*
 * A body that another try may have to repeat stays behind the request's head and is sent from there, with its framing and
 * trailers, as long as it fits. False: it goes as it comes, and then it is gone.
 */
static bool keep_body(struct conn *conn, const char *bytes, uint32_t n)
{
	struct buffer *kept = conn->to_upstream, *larger;
	uint32_t needed = kept ? kept->end + n + HTTP_ATTEMPT_ROOM : 0;

	if (!kept || conn->body_sent || !may_be_repeated(conn))
		return false;
	if (needed > LARGE_BUFFER || conn->request_body.left > LARGE_BUFFER - needed)
		return false;
	if (needed > kept->size) {
		larger = buffer_get(conn->worker, true);
		memcpy(larger->bytes, kept->bytes, kept->end);
		larger->start = kept->start;
		larger->end = kept->end;
		buffer_put(conn->worker, &conn->to_upstream);
		kept = conn->to_upstream = larger;
	}
	memcpy(kept->bytes + kept->end, bytes, n);
	kept->end += n;
	return true;
}

static enum moved feed_request(struct conn *conn)
{
	uint32_t fresh = buffer_length(conn->from_client);
	const char *why;
	int64_t n;
	int got;

	if (!fresh) {
		got = end_read(conn->worker, &conn->client, &conn->from_client);
		if (got < 0) { /* half a request is none */
			conn_close(conn);
			return MOVE_BROKEN;
		}
		return got ? MOVE_SOME : MOVE_BLOCKED;
	}
	n = http_body_feed(&conn->request_body, buffer_bytes(conn->from_client), fresh, &why);
	if (n < 0) {
		upstream_drop(conn);
		conn->keep_client = false;
		http_answer(conn, 400, "sluice: %s\n", why);
		return MOVE_BROKEN;
	}
	mirror_feed(conn, buffer_bytes(conn->from_client), (size_t)n);
	if (keep_body(conn, buffer_bytes(conn->from_client), (uint32_t)n))
		conn->from_client->start += (uint32_t)n;
	else
		conn->request_ready = (uint32_t)n;
	http_start_timeout(conn);
	return MOVE_SOME;
}

static enum moved push_request(struct conn *conn)
{
	struct worker *worker = conn->worker;

	for (int moves = 0; !conn->request_done; moves++) {
		enum moved flow;

		if (moves == MOVES_PER_TURN)
			return give_way(conn);
		if (buffer_length(conn->to_upstream) || conn->request_ready) {
			const uint32_t ready = conn->request_ready;

			flow = send_parts(&conn->upstream, conn->to_upstream, conn->from_client, &conn->request_ready,
					  &worker->statistics.bytes_to_upstream);
			conn->body_sent |= conn->request_ready != ready;
			if (flow == MOVE_BROKEN) {
				/* It may have answered before it closed: that answer counts, this connection does not. */
				conn->request_done = true;
				conn->keep_client = conn->keep_client && conn->request_body.done;
				conn->keep_upstream = false;
				return MOVE_DONE;
			}
		} else if (conn->request_body.done) {
			conn->request_done = true;
			conn->sent_us = worker->now_us;
			buffer_drop_if_empty(worker, &conn->from_client);
			return MOVE_DONE;
		} else {
			flow = feed_request(conn);
		}
		if (flow != MOVE_SOME)
			return flow;
	}
	return MOVE_DONE;
}

/* ---- the response ---- */

static bool is_idempotent(enum http_method method)
{
	return method == HTTP_GET || method == HTTP_HEAD || method == HTTP_OPTIONS || method == HTTP_PUT || method == HTTP_DELETE ||
	       method == HTTP_TRACE;
}

/* The connection had served before and the server let go of it just now: one fresh try, if that can do no harm. */
static bool retry_fresh(struct conn *conn)
{
	bool bodiless = conn->request_body.framing == HTTP_BODY_NONE;

	if (!conn->reused || buffer_length(conn->from_upstream) || !bodiless || !is_idempotent(conn->method) || !conn->to_upstream)
		return false;
	/* A session that goes on has not let go of anything; and the next one may have served before, too. */
	if (conn->was_repeated || h2_was_reset(&conn->upstream))
		return false;
	upstream_drop(conn);
	conn->to_upstream->start = 0;
	conn->request_done = false;
	conn->reused = false;
	conn->was_repeated = true;
	conn->incomplete = 0;
	upstream_begin(conn, conn->service);
	return true;
}

static void answer_protocol_error(struct conn *conn)
{
	outlier_failed(conn, 503);
	if (http_try_again(conn, RETRY_RESET | RETRY_5XX | RETRY_GATEWAY, true))
		return;
	upstream_drop(conn);
	http_answer_upstream(conn, 502, "protocol error", NULL);
}

static void break_off(struct conn *conn)
{
	conn_note(conn, FLAG_UPE, "upstream_reset_after_response_started{protocol_error}");
	conn_reset(conn);
}

static enum moved upstream_ended(struct conn *conn)
{
	uint32_t happened = RETRY_RESET | RETRY_5XX | RETRY_GATEWAY;
	const char *reason = "connection termination";
	int error = errno;
	char why[256];
	bool refused = origination_refused(conn, why, sizeof(why));

	if (conn->response_head_done && conn->response_body.framing == HTTP_BODY_CLOSE && !error) {
		conn->response_body.done = true;
		return MOVE_SOME;
	}
	if (h2_was_malformed(&conn->upstream)) {
		if (conn->response_head_done)
			break_off(conn);
		else
			answer_protocol_error(conn);
		return MOVE_BROKEN;
	}
	if (conn->response_head_done) { /* the client must not take half an answer for a whole one */
		if (conn->trailer_tells)
			outlier_failed(conn, 503);
		conn_note(conn, FLAG_UC, "upstream_reset_after_response_started{connection_termination}");
		conn_reset(conn);
		return MOVE_BROKEN;
	}
	if (h2_was_refused(&conn->upstream)) {
		happened |= RETRY_REFUSED;
		reason = "remote refused stream reset";
	} else if (h2_was_reset(&conn->upstream)) {
		reason = "remote reset";
	}
	if (retry_fresh(conn))
		return MOVE_BROKEN;
	outlier_failed(conn, 503);
	if (http_try_again(conn, happened | (conn->request_done ? 0 : RETRY_UNSENT), true))
		return MOVE_BROKEN;
	upstream_drop(conn);
	http_answer_upstream(conn, 503, reason, refused ? why : NULL);
	return MOVE_BROKEN;
}

/* Appends the rebuilt head to what goes to the client. False: it does not fit anywhere. */
static bool build_response(struct conn *conn, const struct http_head *head, bool keep, const char *lines,
			   const char *extra)
{
	struct worker *worker = conn->worker;
	struct buffer *out = conn->to_client;

	if (!out)
		out = conn->to_client = buffer_get(worker, head->bytes > SMALL_BUFFER / 2);
	for (;;) {
		size_t n = http_write_response(out->bytes + out->end, out->size - out->end, head, keep, lines, extra);
		struct buffer *larger;

		if (n) {
			out->end += (uint32_t)n;
			return true;
		}
		if (out->size == LARGE_BUFFER)
			return false;
		larger = buffer_get(worker, true);
		larger->end = buffer_length(out);
		memcpy(larger->bytes, buffer_bytes(out), larger->end);
		buffer_put(worker, &conn->to_client);
		out = conn->to_client = larger;
	}
}

/* The server's own, where the rule says it too. */
static void replace_cors(struct http_head *head, const char *lines)
{
	static const char *const names[] = {"access-control-allow-origin", "access-control-allow-credentials",
					    "access-control-expose-headers"};

	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		if (strstr(lines, names[i]))
			http_drop_fields(head, &names[i], 1);
}

/*
 * What a registered service's answer is given: the date if it has none (RFC 9110 §6.6.1), how long the server took (whatever a
 * proxy on its side says of that) unless the rule wants it otherwise, and the cookie that leads the client there again.
 */
static void own_fields(const struct conn *conn, struct http_head *head, const struct header_ops *changes, char *out, size_t room)
{
	static const char *const service_time[] = {"x-envoy-upstream-service-time"};
	size_t n = 0;

	out[0] = 0;
	if (conn->is_passthrough)
		return;
	if (!http_field(head, "date"))
		n = (size_t)snprintf(out, room, "date: %s\r\n", worker_date(conn->worker));
	if (conn->request_done && !(changes && http_is_among(service_time[0], changes->drop.items, changes->drop.count))) {
		http_drop_fields(head, service_time, 1);
		n += (size_t)snprintf(out + n, room - n, "x-envoy-upstream-service-time: %llu\r\n",
				      (unsigned long long)((conn->worker->now_us - conn->sent_us) / 1000));
	}
	if (conn->makes_cookie)
		http_cookie_line(out + n, HTTP_COOKIE_ROOM, &conn->service->policy.balance, conn->cookie);
}

static bool final_response(struct conn *conn, struct http_head *head)
{
	const struct header_changes *headers = conn->target ? &conn->target->headers : NULL;
	const struct header_ops *changes = headers && headers->present ? &headers->response : NULL;
	struct buffer *expanded = NULL;
	const char *lines;
	char own[OWN_FIELDS_ROOM], *extra = own;
	size_t cors = conn->cors ? strlen(conn->cors->bytes) : 0;
	bool fits;
	bool by_close = head->framing == HTTP_BODY_CLOSE;

	if (conn->client.stream)
		h2_keep_trailer(&conn->upstream, head);
	http_body_start(&conn->response_body, head);
	conn->keep_upstream = head->keep_alive && !by_close && conn->request_done && !conn->upstream.stream;
	conn->dechunk = conn->client_minor == 0 && head->framing == HTTP_BODY_CHUNKED;
	if (conn->dechunk)
		head->framing = HTTP_BODY_CLOSE;
	/* A response that overtakes its request is forwarded, but what is left of the request ends the connection. */
	conn->keep_client = conn->keep_client && !by_close && !conn->dechunk && conn->request_done;
	own_fields(conn, head, changes, own, sizeof(own));
	lines = header_lines(conn, changes, NULL, head, head->status, &expanded);
	if (changes)
		http_drop_fields(head, changes->drop.items, changes->drop.count);
	if (conn->cors) {
		replace_cors(head, conn->cors->bytes);
		extra = strcat(conn->cors->bytes, own);
	}
	fits = build_response(conn, head, conn->keep_client, lines, extra);
	conn_note(conn, 0, "via_upstream");
	access_log_response(conn, head, lines, extra);
	buffer_put(conn->worker, &expanded);
	if (conn->cors)
		conn->cors->bytes[cors] = 0; /* where this answer does not fit, there is another one */
	if (!fits)
		return false;
	conn->response_head_done = true;
	conn->try_deadline_ms = 0;
	circuit_retry_over(conn);
	buffer_drop_if_empty(conn->worker, &conn->to_upstream);
	return true;
}

static bool switch_protocols(struct conn *conn, const struct http_head *head)
{
	if (!conn->upgrade_asked || !build_response(conn, head, true, "", ""))
		return false;
	conn->response_head_done = true;
	conn->route_deadline_ms = conn->try_deadline_ms = 0; /* they were for an answer */
	conn->upgraded = true;
	conn_note(conn, 0, "via_upstream");
	access_log_response(conn, head, "", "");
	conn->response_body = (struct http_body){.done = true};
	return true;
}

static uint32_t retry_of_grpc(unsigned long status)
{
	switch (status) {
	case 1:
		return RETRY_CANCELLED;
	case 4:
		return RETRY_DEADLINE;
	case 8:
		return RETRY_EXHAUSTED;
	case 13:
		return RETRY_INTERNAL;
	case 14:
		return RETRY_UNAVAILABLE;
	default:
		return 0;
	}
}

/* Whether the rule wants another try instead of this answer, and there is one. */
static bool try_instead(struct conn *conn, const struct http_head *head)
{
	const struct http_retries *retries = http_retries_of(conn);
	const struct http_field *status = conn->is_grpc ? http_field(head, "grpc-status") : NULL;
	uint32_t happened = 0;

	if (head->status >= 500)
		happened |= RETRY_5XX;
	if (head->status >= 502 && head->status <= 504)
		happened |= RETRY_GATEWAY;
	if (head->status == 409)
		happened |= RETRY_409;
	if (status && status->value.n && status->value.n <= 2)
		happened |= retry_of_grpc(strtoul(status->value.p, NULL, 10));
	if (head->status < RETRY_STATUSES && retries->statuses[head->status / 8] & 1U << head->status % 8)
		happened |= RETRY_STATUS;
	if (http_field(head, "x-envoy-ratelimited"))
		happened = RETRY_RATE_LIMITED; /* and nothing else (Envoy) */
	return http_try_again(conn, happened, true);
}

/* How the server does, for its health. Of gRPC its own status tells, which comes before the body or behind it. */
static void server_answered(struct conn *conn, const struct http_head *head)
{
	const struct http_field *grpc = conn->is_grpc ? http_field(head, "grpc-status") : NULL;

	conn->trailer_tells = conn->is_grpc && conn->upstream.stream && !grpc && head->status == 200;
	if (!conn->trailer_tells)
		outlier_answered(conn, grpc ? http_status_of_grpc(grpc->value) : head->status);
}

static void trailer_came(struct conn *conn)
{
	uint16_t answer = h2_grpc_answer(&conn->upstream);

	if (conn->trailer_tells)
		outlier_answered(conn, answer ? answer : 200);
	conn->trailer_tells = false;
}

static enum moved read_response_head(struct conn *conn)
{
	struct http_head *head = &conn->worker->head;
	const char *why;
	enum http_result result = HTTP_MORE;
	bool good = true;
	int got;

	if (http_worth_parsing(conn, conn->from_upstream)) {
		result = http_parse_response(head, buffer_bytes(conn->from_upstream), buffer_length(conn->from_upstream), conn->method,
					     &why);
		conn->incomplete = buffer_length(conn->from_upstream);
	}
	if (result == HTTP_MORE) {
		if (buffer_length(conn->from_upstream) >= LARGE_BUFFER) {
			answer_protocol_error(conn);
			return MOVE_BROKEN;
		}
		got = end_read(conn->worker, &conn->upstream, &conn->from_upstream);
		return got < 0 ? upstream_ended(conn) : got ? MOVE_SOME : MOVE_BLOCKED;
	}
	conn->incomplete = 0;
	if (result != HTTP_OK) {
		answer_protocol_error(conn);
		return MOVE_BROKEN;
	}
	if (head->status >= 200 || head->status == 101)
		server_answered(conn, head);
	if (head->status >= 200 && try_instead(conn, head))
		return MOVE_BROKEN;
	if (head->status == 101)
		good = switch_protocols(conn, head);
	else if (head->status >= 200)
		good = final_response(conn, head);
	else if (conn->client_minor) /* 100, 102, 103: HTTP/1.0 knows none of them */
		good = build_response(conn, head, true, "", "");
	if (!good) {
		answer_protocol_error(conn);
		return MOVE_BROKEN;
	}
	conn->from_upstream->start += (uint32_t)head->bytes;
	return MOVE_SOME;
}

static enum moved feed_response(struct conn *conn)
{
	uint32_t fresh = buffer_length(conn->from_upstream);
	struct slice content;
	const char *why;
	int64_t n;
	int got;

	if (!fresh) {
		got = end_read(conn->worker, &conn->upstream, &conn->from_upstream);
		return got < 0 ? upstream_ended(conn) : got ? MOVE_SOME : MOVE_BLOCKED;
	}
	if (!conn->dechunk) {
		n = http_body_feed(&conn->response_body, buffer_bytes(conn->from_upstream), fresh, &why);
		conn->response_ready = n > 0 ? (uint32_t)n : 0;
	} else {
		n = http_body_content(&conn->response_body, buffer_bytes(conn->from_upstream), fresh, &content, &why);
		if (n >= 0) {
			conn->from_upstream->start += (uint32_t)(n - (int64_t)content.n);
			conn->response_ready = (uint32_t)content.n;
		}
	}
	if (n < 0) {
		break_off(conn);
		return MOVE_BROKEN;
	}
	return MOVE_SOME;
}

/* A head waits for the body bytes that came with it, and a 1xx for what may follow at once: one call for both. */
static bool is_time_to_send(const struct conn *conn)
{
	if (conn->response_ready || !buffer_length(conn->to_client))
		return conn->response_ready;
	if (!conn->response_head_done)
		return !conn->upstream.readable;
	return conn->response_body.done || !buffer_length(conn->from_upstream);
}

/* The answer to a mirror's request. */
static enum moved throw_away(struct conn *conn)
{
	buffer_put(conn->worker, &conn->to_client);
	if (conn->response_ready)
		conn->from_upstream->start += conn->response_ready;
	conn->response_ready = 0;
	return MOVE_SOME;
}

static enum moved send_own_body(struct conn *conn)
{
	struct iovec part;
	ssize_t n;

	if (!conn->client.writable)
		return MOVE_BLOCKED;
	part = (struct iovec){(char *)(uintptr_t)conn->own_body, conn->own_body_left};
	n = end_send(&conn->client, &part, 1);
	if (n < 0 && errno == EAGAIN)
		conn->client.writable = false;
	if (n < 0)
		return errno == EAGAIN ? MOVE_BLOCKED : errno == EINTR ? MOVE_SOME : MOVE_BROKEN;
	tally(&conn->worker->statistics.bytes_to_client, (__u64)n);
	conn->own_body += n;
	conn->own_body_left -= (size_t)n;
	return MOVE_SOME;
}

static enum moved pull_response(struct conn *conn)
{
	for (int moves = 0; !conn->response_done || buffer_length(conn->to_client) || conn->response_ready || conn->own_body_left; moves++) {
		enum moved flow;

		if (moves == MOVES_PER_TURN)
			return give_way(conn);
		if (conn->is_mirror && is_time_to_send(conn)) {
			flow = throw_away(conn);
		} else if (is_time_to_send(conn)) {
			flow = send_parts(&conn->client, conn->to_client, conn->from_upstream, &conn->response_ready,
					  &conn->worker->statistics.bytes_to_client);
			if (flow == MOVE_BROKEN) {
				conn_close(conn);
				return MOVE_BROKEN;
			}
		} else if (conn->own_body_left) {
			flow = send_own_body(conn);
			if (flow == MOVE_BROKEN) {
				conn_close(conn);
				return MOVE_BROKEN;
			}
		} else if (!conn->response_head_done) {
			flow = read_response_head(conn);
		} else if (conn->response_body.done) {
			trailer_came(conn);
			conn->response_done = true;
			flow = MOVE_SOME;
		} else {
			flow = feed_response(conn);
		}
		/* No more can be read: a 1xx that waited for it goes now. */
		if (flow == MOVE_BLOCKED && conn->client.writable && is_time_to_send(conn))
			continue;
		if (flow != MOVE_SOME)
			return flow;
	}
	return MOVE_DONE;
}

/* ---- the end of an exchange ---- */

static bool may_serve_again(struct conn *conn)
{
	uint32_t most = conn->service ? conn->service->policy.pool.max_requests : 0;

	if (!conn->keep_upstream || !conn->request_done || buffer_length(conn->from_upstream) || (++conn->served >= most && most) ||
	    (conn->connected_until_ms && conn->worker->now_ms >= conn->connected_until_ms) || !circuit_rest(conn))
		return false;
	conn->idle_until_ms = conn->idle_ms ? conn->worker->now_ms + conn->idle_ms : 0;
	if (conn->connected_until_ms && (!conn->idle_until_ms || conn->connected_until_ms < conn->idle_until_ms))
		conn->idle_until_ms = conn->connected_until_ms;
	return true;
}

/* A stream is for one request; its connection to the server may serve another one's. */
static enum step finish_stream(struct conn *conn)
{
	bool parks = h2_may_park(conn);

	h2_let_go(&conn->client, true);
	conn->client.readable = false;
	if (parks)
		http_next_request(conn);
	else
		conn_close(conn);
	return STEP_BLOCKED;
}

static enum step finish(struct conn *conn)
{
	struct worker *worker = conn->worker;

	if (conn->is_mirror) {
		conn_close(conn);
		return STEP_BLOCKED;
	}
	buffer_put(worker, &conn->to_client);
	buffer_put(worker, &conn->to_upstream);
	if (conn->upgraded) {
		conn->idle_ms = IDLE_TIMEOUT_MS; /* it is one request still */
		conn->connected_until_ms = 0;
		relay_begin(conn);
		return STEP_ADVANCED;
	}
	access_log_end(conn);
	if (!conn->is_local && may_serve_again(conn)) {
		conn->kept = true;
		buffer_drop_if_empty(worker, &conn->from_upstream);
	} else if (!conn->is_local || !conn->keep_client) {
		upstream_drop(conn);
	}
	if (conn->client.stream)
		return finish_stream(conn);
	if (conn->keep_client) {
		http_next_request(conn);
		return STEP_ADVANCED;
	}
	shutdown(conn->client.fd, SHUT_WR);
	buffer_put(worker, &conn->from_client);
	conn->state = CONN_LINGER;
	conn->client.readable = true;
	worker_timer(conn, worker->now_ms + LINGER_TIMEOUT_MS);
	return STEP_ADVANCED;
}

enum step http_exchange_step(struct conn *conn)
{
	enum moved up = MOVE_DONE, down;

	if (!conn->is_local) {
		up = push_request(conn);
		if (up == MOVE_BROKEN)
			return STEP_ADVANCED;
	}
	down = pull_response(conn);
	if (down == MOVE_BROKEN)
		return STEP_ADVANCED;
	if (down == MOVE_DONE)
		return finish(conn);
	worker_timer(conn, conn->worker->now_ms + IDLE_TIMEOUT_MS);
	return STEP_BLOCKED;
}

static void tell_attempt(struct conn *conn, struct buffer *request)
{
	size_t head = http_set_attempt(request->bytes, conn->request_head, request->end, conn->tries,
				       conn->tries > 1 && conn->tells_time ? http_expected_ms(conn) : 0);

	request->end += (uint32_t)head - conn->request_head;
	conn->request_head = (uint32_t)head;
}

void http_connected(struct conn *conn)
{
	conn->state = CONN_EXCHANGE;
	conn->sent_us = conn->worker->now_us;
	conn->keep_upstream = false;
	if (conn->counts_attempts && !conn->reused && conn->to_upstream)
		tell_attempt(conn, conn->to_upstream);
}
