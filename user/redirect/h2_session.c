// SPDX-License-Identifier: Apache-2.0
/* A connection that speaks HTTP/2: what nghttp2 tells of it, and the bytes it is told. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/memory.h"
#include "redirect/h2_internal.h"
#include "redirect/origination.h"

#define READS_PER_TURN 16
#define FRAME_ROOM (16384 + 64) /* for what nghttp2 gives at once */
#define MAX_QUEUED 512          /* frames that wait for a peer that does not read: then nothing is read of it */
#define MAX_CONTINUATIONS 8
/* Resets of a client: so many at once, and so many a second (CVE-2023-44487). Clients of gRPC cancel at their deadlines. */
#define RESET_BURST 1000
#define RESETS_PER_SECOND 33
#define MAX_SETTINGS_TEXT 512 /* of HTTP2-Settings */

void h2_session_wake(struct h2_session *session)
{
	worker_ready(session->conn);
}

/* ---- what the peer says ---- */

static void malformed(struct h2_session *session, struct h2_stream *stream)
{
	nghttp2_submit_rst_stream(session->http2, NGHTTP2_FLAG_NONE, stream->id, NGHTTP2_PROTOCOL_ERROR);
	stream->is_malformed = true;
	if (!session->is_server || session->is_broken)
		return;
	session->is_broken = true;
	worker_report(session->conn, decide(VERDICT_DENY, REASON_MALFORMED, 0), "");
}

static int on_begin_headers(nghttp2_session *http2, const nghttp2_frame *frame, void *context)
{
	struct h2_session *session = context;

	if (session->is_server && frame->hd.type == NGHTTP2_HEADERS && frame->headers.cat == NGHTTP2_HCAT_REQUEST)
		nghttp2_session_set_stream_user_data(http2, frame->hd.stream_id, h2_stream_new(session, frame->hd.stream_id));
	return 0;
}

static int on_header(nghttp2_session *http2, const nghttp2_frame *frame, const uint8_t *name, size_t name_length,
		     const uint8_t *value, size_t value_length, uint8_t flags, void *context)
{
	struct h2_stream *stream = nghttp2_session_get_stream_user_data(http2, frame->hd.stream_id);

	(void)flags;
	(void)context;
	if (stream)
		h2_block_add(stream->worker, &stream->block, (struct slice){(const char *)name, name_length},
			     (struct slice){(const char *)value, value_length});
	return 0;
}

/* nghttp2 would leave such a field out: another reader might not. */
static int on_invalid_header(nghttp2_session *http2, const nghttp2_frame *frame, const uint8_t *name, size_t name_length,
			     const uint8_t *value, size_t value_length, uint8_t flags, void *context)
{
	struct h2_stream *stream = nghttp2_session_get_stream_user_data(http2, frame->hd.stream_id);

	(void)name, (void)name_length, (void)value, (void)value_length, (void)flags, (void)context;
	if (stream)
		stream->block.is_malformed = true;
	return 0;
}

/* 431 without a word more: there is no head that could be judged. */
static void refuse_large(struct h2_session *session, struct h2_stream *stream)
{
	static const char name[] = ":status", status[] = "431";
	nghttp2_nv field = {(uint8_t *)(uintptr_t)name, (uint8_t *)(uintptr_t)status, sizeof(name) - 1, sizeof(status) - 1, NGHTTP2_NV_FLAG_NONE};

	tally(&session->conn->worker->statistics.responses_local_4xx, 1);
	stream->out_done = true;
	nghttp2_submit_response(session->http2, stream->id, &field, 1, NULL);
}

/* A request is a connection of its own from here on. */
static void begin_stream(struct h2_session *session, struct h2_stream *stream)
{
	struct conn *owner = session->conn, *conn;

	if (!worker_may_accept(owner->worker, owner->place)) {
		nghttp2_submit_rst_stream(session->http2, NGHTTP2_FLAG_NONE, stream->id, NGHTTP2_REFUSED_STREAM);
		return;
	}
	conn = conn_new(owner->worker, -1);
	conn->record = owner->record;
	conn_settle(conn, owner->place);
	conn_own(owner, conn);
	h2_stream_bind(stream, conn, &conn->client);
	http_begin(conn);
	conn->is_h2 = true;
	conn->decided = owner->decided;
	owner->decided = true;
	worker_ready(conn);
}

static void received_head(struct h2_session *session, struct h2_stream *stream, const nghttp2_frame *frame)
{
	struct worker *worker = stream->worker;
	bool ended = frame->hd.flags & NGHTTP2_FLAG_END_STREAM;
	struct slice method = {stream->block.text ? stream->block.text->bytes + stream->block.method.start : "", stream->block.method.length};
	struct buffer *head;

	if (session->is_server)
		stream->method = method.n == 4 && !memcmp(method.p, "HEAD", 4) ? HTTP_HEAD : HTTP_OTHER;
	head = session->is_server ? h2_request_head(worker, &stream->block, ended, &stream->framing)
				  : h2_response_head(worker, &stream->block, ended, stream->method, &stream->framing);
	if (!head && session->is_server && stream->block.is_too_large) {
		refuse_large(session, stream);
		return;
	}
	if (!head) {
		malformed(session, stream);
		return;
	}
	stream->has_head = session->is_server || buffer_bytes(head)[strlen("HTTP/1.1 ")] != '1';
	if (stream->head) { /* 1xx that was not read yet */
		bool fits = h2_append(worker, &stream->head, buffer_bytes(head), buffer_length(head));

		buffer_put(worker, &head);
		if (!fits) {
			malformed(session, stream);
			return;
		}
	} else {
		stream->head = head;
	}
	stream->ended = ended;
	if (session->is_server)
		begin_stream(session, stream);
	else
		h2_stream_wake(stream);
}

static void received_trailer(struct h2_session *session, struct h2_stream *stream)
{
	uint16_t grpc_answer = stream->block.grpc_answer;
	struct buffer *trailer = h2_trailer(stream->worker, &stream->block);

	if (!trailer) {
		malformed(session, stream);
		return;
	}
	stream->ended = true;
	stream->grpc_answer = grpc_answer;
	if (stream->conn)
		stream->trailer = trailer;
	else
		buffer_put(stream->worker, &trailer);
	h2_stream_wake(stream);
}

static void received_headers(struct h2_session *session, struct h2_stream *stream, const nghttp2_frame *frame)
{
	if (!session->is_server && !stream->conn) {
		h2_block_drop(stream->worker, &stream->block); /* let go meanwhile */
		stream->ended |= (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0;
	} else if (frame->headers.cat == NGHTTP2_HCAT_REQUEST || frame->headers.cat == NGHTTP2_HCAT_RESPONSE || !stream->has_head) {
		received_head(session, stream, frame);
	} else {
		received_trailer(session, stream);
	}
}

static int on_frame_recv(nghttp2_session *http2, const nghttp2_frame *frame, void *context)
{
	struct h2_session *session = context;
	struct h2_stream *stream = frame->hd.stream_id ? nghttp2_session_get_stream_user_data(http2, frame->hd.stream_id) : NULL;

	if (frame->hd.type == NGHTTP2_GOAWAY)
		session->leaves = true;
	if (!stream)
		return 0;
	if (frame->hd.type == NGHTTP2_HEADERS)
		received_headers(session, stream, frame);
	if (frame->hd.type == NGHTTP2_DATA && frame->hd.flags & NGHTTP2_FLAG_END_STREAM) {
		stream->ended = true;
		h2_stream_wake(stream);
	}
	return 0;
}

static int on_data(nghttp2_session *http2, uint8_t flags, int32_t id, const uint8_t *bytes, size_t n, void *context)
{
	struct h2_stream *stream = nghttp2_session_get_stream_user_data(http2, id);

	(void)flags;
	(void)context;
	if (stream)
		h2_stream_received(stream, bytes, n);
	else
		nghttp2_session_consume(http2, id, n);
	return 0;
}

static int on_invalid_frame(nghttp2_session *http2, const nghttp2_frame *frame, int error, void *context)
{
	struct h2_session *session = context;

	(void)http2, (void)frame, (void)error;
	if (!session->is_server || session->is_broken)
		return 0;
	worker_report(session->conn, decide(VERDICT_DENY, REASON_MALFORMED, 0), "");
	session->is_broken = true;
	return 0;
}

/* As a client that resets, one who brings us to do it (CVE-2025-8671): its requests were begun, and their room is free again. */
static void note_fault(struct h2_session *session, uint32_t error)
{
	uint64_t now = session->conn->worker->now_ms, passed = (now - session->faults_ms) * RESETS_PER_SECOND / 1000;

	if (!session->is_server || (error != NGHTTP2_PROTOCOL_ERROR && error != NGHTTP2_FLOW_CONTROL_ERROR && error != NGHTTP2_STREAM_CLOSED))
		return;
	if (passed) {
		session->faults -= passed < session->faults ? (uint32_t)passed : session->faults;
		session->faults_ms = now;
	}
	if (++session->faults == RESET_BURST)
		nghttp2_session_terminate_session(session->http2, NGHTTP2_ENHANCE_YOUR_CALM);
}

/* The answer is out, and what is left of the request does not matter any more (RFC 9113 §8.1). */
static void answered(nghttp2_session *http2, const nghttp2_frame *frame)
{
	struct h2_stream *stream = NULL;

	if (frame->hd.flags & NGHTTP2_FLAG_END_STREAM && (frame->hd.type == NGHTTP2_DATA || frame->hd.type == NGHTTP2_HEADERS))
		stream = nghttp2_session_get_stream_user_data(http2, frame->hd.stream_id);
	if (stream && !stream->ended)
		nghttp2_submit_rst_stream(http2, NGHTTP2_FLAG_NONE, stream->id, NGHTTP2_NO_ERROR);
}

/* What a server is told of its answer, while there is somebody who waits for that: it cannot be read. */
static void objected(struct h2_session *session, const nghttp2_frame *frame)
{
	struct h2_stream *stream = NULL;

	if (frame->hd.type == NGHTTP2_GOAWAY)
		session->is_broken |= frame->goaway.error_code != NGHTTP2_NO_ERROR;
	if (frame->hd.type == NGHTTP2_RST_STREAM)
		stream = nghttp2_session_get_stream_user_data(session->http2, frame->hd.stream_id);
	if (stream && stream->conn)
		stream->is_malformed = true;
}

static int on_frame_sent(nghttp2_session *http2, const nghttp2_frame *frame, void *context)
{
	struct h2_session *session = context;

	if (frame->hd.type == NGHTTP2_RST_STREAM)
		note_fault(session, frame->rst_stream.error_code);
	if (session->is_server)
		answered(http2, frame);
	else
		objected(session, frame);
	return 0;
}

/* A server that goes away has not seen the request. */
static int on_frame_not_sent(nghttp2_session *http2, const nghttp2_frame *frame, int error, void *context)
{
	struct h2_stream *stream = frame->hd.stream_id ? nghttp2_session_get_stream_user_data(http2, frame->hd.stream_id) : NULL;

	(void)context;
	if (stream && frame->hd.type == NGHTTP2_HEADERS && frame->headers.cat == NGHTTP2_HCAT_REQUEST)
		stream->is_refused = error == NGHTTP2_ERR_START_STREAM_NOT_ALLOWED || error == NGHTTP2_ERR_STREAM_CLOSING;
	return 0;
}

static int on_stream_close(nghttp2_session *http2, int32_t id, uint32_t error, void *context)
{
	struct h2_session *session = context;
	struct h2_stream *stream = nghttp2_session_get_stream_user_data(http2, id);

	if (!stream)
		return 0;
	nghttp2_session_set_stream_user_data(http2, id, NULL);
	stream->is_closed = true;
	stream->is_refused |= error == NGHTTP2_REFUSED_STREAM;
	stream->is_reset |= !stream->ended || error != NGHTTP2_NO_ERROR;
	if (!stream->conn) {
		h2_stream_free(stream);
	} else if (session->is_server) {
		conn_close(stream->conn); /* a client that cancels; its stream is let go with it */
	} else {
		h2_stream_wake(stream);
	}
	return 0;
}

/* ---- sessions ---- */

static int set_up(struct h2_session *session)
{
	nghttp2_session_callbacks *callbacks;
	nghttp2_option *option;
	int error = -1;

	if (nghttp2_session_callbacks_new(&callbacks))
		return -1;
	nghttp2_session_callbacks_set_on_begin_headers_callback(callbacks, on_begin_headers);
	nghttp2_session_callbacks_set_on_header_callback(callbacks, on_header);
	nghttp2_session_callbacks_set_on_invalid_header_callback(callbacks, on_invalid_header);
	nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, on_frame_recv);
	nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, on_data);
	nghttp2_session_callbacks_set_on_invalid_frame_recv_callback(callbacks, on_invalid_frame);
	nghttp2_session_callbacks_set_on_frame_send_callback(callbacks, on_frame_sent);
	nghttp2_session_callbacks_set_on_frame_not_send_callback(callbacks, on_frame_not_sent);
	nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, on_stream_close);
	if (nghttp2_option_new(&option) == 0) {
		nghttp2_option_set_no_auto_window_update(option, 1);
		nghttp2_option_set_no_closed_streams(option, 1);
		nghttp2_option_set_max_continuations(option, MAX_CONTINUATIONS);
		nghttp2_option_set_stream_reset_rate_limit(option, RESET_BURST, RESETS_PER_SECOND);
		error = session->is_server ? nghttp2_session_server_new2(&session->http2, callbacks, session, option)
					   : nghttp2_session_client_new2(&session->http2, callbacks, session, option);
		nghttp2_option_del(option);
	}
	nghttp2_session_callbacks_del(callbacks);
	return error;
}

static void introduce(struct h2_session *session)
{
	const nghttp2_settings_entry settings[] = {
		{NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, H2_STREAM_WINDOW},
		{NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, HTTP_MAX_HEAD},
		{NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, session->is_server ? H2_MAX_STREAMS : 0},
		{NGHTTP2_SETTINGS_ENABLE_PUSH, 0}, /* of a client only */
	};

	nghttp2_submit_settings(session->http2, NGHTTP2_FLAG_NONE, settings, ARRAY_SIZE(settings) - session->is_server);
	nghttp2_session_set_local_window_size(session->http2, NGHTTP2_FLAG_NONE, 0, H2_SESSION_WINDOW);
}

struct h2_session *h2_session_new(struct conn *conn, struct end *end, bool is_server)
{
	struct h2_session *session = xcalloc(1, sizeof(*session));

	session->conn = conn;
	session->end = end;
	session->is_server = is_server;
	conn->worker->memory += H2_SESSION_BYTES;
	if (set_up(session))
		abort(); /* as xcalloc: the loader starts another redirector */
	conn->session = session;
	conn->state = CONN_SESSION;
	if (!is_server)
		introduce(session);
	return session;
}

void h2_end_session(struct conn *conn)
{
	struct h2_session *session = conn->session;

	if (!session)
		return;
	conn->session = NULL;
	for (struct h2_stream *stream = session->streams, *next; stream; stream = next) {
		next = stream->next;
		if (!stream->conn) {
			h2_stream_free(stream);
			continue;
		}
		stream->is_closed = stream->is_reset = true;
		stream->is_malformed |= session->is_broken;
		stream->session = NULL;
		h2_stream_wake(stream);
	}
	nghttp2_session_del(session->http2);
	conn->worker->memory -= H2_SESSION_BYTES;
	free(session);
}

/* Each stream holds what it is judged by. */
static void forget_table(struct conn *conn)
{
	table_release(conn->table);
	conn->table = NULL;
	conn->rules = NULL;
}

void h2_begin(struct conn *conn)
{
	struct h2_session *session = h2_session_new(conn, &conn->client, true);

	conn->decided = false; /* what was looked at so far decided nothing: the first request does */
	forget_table(conn);
	introduce(session);
	worker_timer(conn, conn->worker->now_ms + HELLO_TIMEOUT_MS);
}

/* ---- upgrade (RFC 7540 §3.2) ---- */

/* Base64 with the alphabet of URLs and without padding. -1: it is not that. */
static long decode_settings(struct slice text, uint8_t out[MAX_SETTINGS_TEXT])
{
	static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
	uint32_t bits = 0;
	long n = 0;

	while (text.n && text.p[text.n - 1] == '=')
		text.n--;
	for (size_t i = 0; i < text.n; i++) {
		const char *at = text.p[i] ? strchr(alphabet, text.p[i]) : NULL;

		if (!at || text.n > MAX_SETTINGS_TEXT)
			return -1;
		bits = bits << 6 | (uint32_t)(at - alphabet);
		if (i % 4)
			out[n++] = (uint8_t)(bits >> (6 - 2 * (i % 4)));
	}
	return n;
}

bool h2_upgrade(struct conn *conn, const struct http_head *head)
{
	static const char answer[] = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n";
	const struct http_field *settings = http_field(head, "http2-settings");
	struct worker *worker = conn->worker;
	uint8_t payload[MAX_SETTINGS_TEXT];
	long n = settings ? decode_settings(settings->value, payload) : -1;
	struct h2_session *session;
	struct h2_stream *stream;

	if (n < 0)
		return false;
	session = h2_session_new(conn, &conn->client, true);
	stream = h2_stream_new(session, 1);
	if (nghttp2_session_upgrade2(session->http2, payload, (size_t)n, head->method == HTTP_HEAD, stream)) {
		h2_end_session(conn);
		conn->state = CONN_REQUEST;
		return false;
	}
	upstream_drop(conn);
	forget_table(conn);
	conn->to_client = buffer_get(worker, true);
	memcpy(conn->to_client->bytes, answer, sizeof(answer) - 1);
	conn->to_client->end = sizeof(answer) - 1;
	introduce(session);
	stream->method = head->method;
	stream->ended = stream->has_head = true;
	h2_append(worker, &stream->head, buffer_bytes(conn->from_client), head->bytes);
	conn->from_client->start += (uint32_t)head->bytes;
	worker_timer(conn, worker->now_ms + HELLO_TIMEOUT_MS);
	begin_stream(session, stream);
	return true;
}

/* ---- bytes ---- */

/* False: broken. */
static bool fill(struct h2_session *session, struct buffer **out)
{
	if (!*out)
		*out = buffer_get(session->conn->worker, true);
	while ((*out)->size - (*out)->end >= FRAME_ROOM) {
		const uint8_t *bytes;
		ssize_t n = nghttp2_session_mem_send(session->http2, &bytes);

		if (n <= 0)
			return n == 0;
		memcpy((*out)->bytes + (*out)->end, bytes, (size_t)n);
		(*out)->end += (uint32_t)n;
	}
	return true;
}

/* 1: all is out; 0: the peer takes no more now; -1: broken. */
static int flush(struct h2_session *session)
{
	struct worker *worker = session->conn->worker;
	struct buffer **out = session->is_server ? &session->conn->to_client : &session->conn->to_upstream;
	__u64 *bytes = session->is_server ? &worker->statistics.bytes_to_client : &worker->statistics.bytes_to_upstream;

	for (;;) {
		struct iovec part;
		ssize_t n;

		if (!fill(session, out))
			return -1;
		if (!buffer_length(*out)) {
			buffer_put(worker, out);
			return 1;
		}
		if (!session->end->writable)
			return 0;
		part = (struct iovec){buffer_bytes(*out), buffer_length(*out)};
		n = end_send(session->end, &part, 1);
		if (n < 0 && errno != EAGAIN && errno != EINTR)
			return -1;
		if (n < 0 && errno == EAGAIN)
			session->end->writable = false;
		if (n > 0) {
			(*out)->start += (uint32_t)n;
			tally(bytes, (__u64)n);
		}
		if (!buffer_length(*out))
			(*out)->start = (*out)->end = 0;
	}
}

/* 1: there may be more; 0: none now; -1: the end. */
static int take_in(struct h2_session *session)
{
	struct conn *conn = session->conn;
	struct buffer **in = session->is_server ? &conn->from_client : &conn->from_upstream;
	int got = buffer_length(*in) ? 1 : end_read(conn->worker, session->end, in);

	if (got <= 0)
		return got;
	if (nghttp2_session_mem_recv(session->http2, (const uint8_t *)buffer_bytes(*in), buffer_length(*in)) < 0) {
		session->is_broken = true;
		return -1;
	}
	(*in)->start = (*in)->end;
	return 1;
}

/* No stream is open, and none may be opened: or the peer broke the protocol, and was told so. */
static bool is_over(struct h2_session *session)
{
	return (!nghttp2_session_want_read(session->http2) && !nghttp2_session_want_write(session->http2)) ||
	       (session->leaves && !session->stream_count);
}

/* What was said last must reach the client: closing with unread bytes would send a RST that could overtake it. */
static enum step leave(struct conn *conn)
{
	bool is_server = conn->session->is_server;

	h2_end_session(conn);
	if (!is_server) {
		conn_close(conn);
		return STEP_BLOCKED;
	}
	conn_orphan(conn);
	shutdown(conn->client.fd, SHUT_WR);
	buffer_put(conn->worker, &conn->from_client);
	conn->state = CONN_LINGER;
	conn->client.readable = true;
	worker_timer(conn, conn->worker->now_ms + LINGER_TIMEOUT_MS);
	return STEP_ADVANCED;
}

enum step h2_step(struct conn *conn)
{
	struct h2_session *session = conn->session;
	struct buffer **in = session->is_server ? &conn->from_client : &conn->from_upstream;

	for (int reads = 0;; reads++) {
		int flushed = flush(session), got;

		if (flushed < 0) {
			conn_close(conn);
			return STEP_BLOCKED;
		}
		if (flushed && is_over(session))
			return leave(conn);
		if (!flushed && nghttp2_session_get_outbound_queue_size(session->http2) > MAX_QUEUED)
			return STEP_BLOCKED;
		if (reads == READS_PER_TURN) {
			worker_ready(conn);
			return STEP_BLOCKED;
		}
		got = take_in(session);
		if (got < 0) {
			(void)flush(session);
			conn_close(conn);
			return STEP_BLOCKED;
		}
		if (!got)
			break;
		worker_timer(conn, conn->worker->now_ms + IDLE_TIMEOUT_MS);
	}
	buffer_drop_if_empty(conn->worker, in);
	return STEP_BLOCKED;
}

/* Nothing was said for long: an idle session ends; one whose streams wait goes on as they do. */
void h2_timeout(struct conn *conn)
{
	struct h2_session *session = conn->session;

	conn->idle_until_ms = 0;
	worker_timer(conn, conn->worker->now_ms + IDLE_TIMEOUT_MS);
	for (struct h2_stream *stream = session->streams; stream; stream = stream->next)
		if (stream->conn)
			return;
	nghttp2_session_terminate_session(session->http2, NGHTTP2_NO_ERROR);
}
