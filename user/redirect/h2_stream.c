// SPDX-License-Identifier: Apache-2.0
/* A stream as the end of a connection: HTTP/1.1 comes out of it and goes into it. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "redirect/circuit.h"
#include "redirect/h2_internal.h"

#define MAX_OUT LARGE_BUFFER /* content that waits for the peer to take it */

/* ---- queues ---- */

bool h2_queue_add(struct worker *worker, struct h2_queue *queue, const char *bytes, size_t n, size_t most)
{
	if (n > most - queue->bytes)
		return false;
	queue->bytes += n;
	while (n) {
		struct buffer *last = queue->last;
		size_t room = last ? last->size - last->end : 0, part = n < room ? n : room;

		if (!room) {
			struct buffer *more = buffer_get(worker, last || n > SMALL_BUFFER);

			more->next = NULL;
			*(last ? &last->next : &queue->first) = more;
			queue->last = more;
			continue;
		}
		memcpy(last->bytes + last->end, bytes, part);
		last->end += (uint32_t)part;
		bytes += part;
		n -= part;
	}
	return true;
}

size_t h2_queue_take(struct worker *worker, struct h2_queue *queue, char *out, size_t n)
{
	size_t taken = 0;

	while (taken < n && queue->first) {
		struct buffer *first = queue->first;
		size_t left = buffer_length(first), part = n - taken < left ? n - taken : left;

		memcpy(out + taken, buffer_bytes(first), part);
		first->start += (uint32_t)part;
		taken += part;
		if (buffer_length(first))
			break;
		queue->first = first->next;
		if (!queue->first)
			queue->last = NULL;
		buffer_put(worker, &first);
	}
	queue->bytes -= taken;
	return taken;
}

void h2_queue_drop(struct worker *worker, struct h2_queue *queue)
{
	while (queue->first) {
		struct buffer *first = queue->first;

		queue->first = first->next;
		buffer_put(worker, &first);
	}
	*queue = (struct h2_queue){0};
}

/* ---- life ---- */

struct h2_stream *h2_stream_new(struct h2_session *session, int32_t id)
{
	struct h2_stream *stream = xcalloc(1, sizeof(*stream));

	stream->worker = session->conn->worker;
	stream->worker->memory += sizeof(*stream);
	stream->session = session;
	stream->id = id;
	stream->next = session->streams;
	if (session->streams)
		session->streams->previous = stream;
	session->streams = stream;
	session->stream_count++;
	session->conn->idle_until_ms = 0;
	session->served++;
	return stream;
}

static void leave_session(struct h2_stream *stream)
{
	struct h2_session *session = stream->session;

	if (!session)
		return;
	*(stream->previous ? &stream->previous->next : &session->streams) = stream->next;
	if (stream->next)
		stream->next->previous = stream->previous;
	session->stream_count--;
	if (!session->stream_count && !session->is_server)
		h2_session_idle(session);
	circuit_session_has_room(session->conn);
	stream->session = NULL;
}

static void drop_received(struct h2_stream *stream)
{
	h2_block_drop(stream->worker, &stream->block);
	buffer_put(stream->worker, &stream->head);
	buffer_put(stream->worker, &stream->trailer);
	h2_queue_drop(stream->worker, &stream->content);
}

static void drop_unsent(struct h2_stream *stream)
{
	h2_queue_drop(stream->worker, &stream->out);
	buffer_put(stream->worker, &stream->out_trailer);
}

void h2_stream_free(struct h2_stream *stream)
{
	leave_session(stream);
	drop_received(stream);
	drop_unsent(stream);
	stream->worker->memory -= sizeof(*stream);
	free(stream);
}

static size_t size_of_queue(const struct h2_queue *queue)
{
	size_t size = 0;

	for (const struct buffer *buffer = queue->first; buffer; buffer = buffer->next)
		size += buffer->size;
	return size;
}

static size_t size_of(const struct buffer *buffer)
{
	return buffer ? buffer->size : 0;
}

static size_t memory_of(const struct h2_stream *stream)
{
	return sizeof(*stream) + size_of(stream->block.text) + size_of(stream->block.lines) + size_of(stream->block.cookies) + size_of(stream->head) +
	       size_of(stream->trailer) + size_of(stream->out_trailer) + size_of_queue(&stream->content) + size_of_queue(&stream->out);
}

size_t h2_memory(const struct conn *conn)
{
	size_t size = (conn->client.stream ? memory_of(conn->client.stream) : 0) + (conn->upstream.stream ? memory_of(conn->upstream.stream) : 0);

	if (!conn->session)
		return size;
	for (const struct h2_stream *stream = conn->session->streams; stream; stream = stream->next)
		if (!stream->conn) /* let go: it is nobody else's */
			size += memory_of(stream);
	return size + H2_SESSION_BYTES;
}

void h2_stream_bind(struct h2_stream *stream, struct conn *conn, struct end *end)
{
	*end = (struct end){.watch = end->watch, .fd = -1, .stream = stream, .readable = true, .writable = true};
	stream->conn = conn;
	stream->end = end;
}

void h2_stream_wake(struct h2_stream *stream)
{
	if (!stream->conn)
		return;
	stream->end->readable = true;
	worker_ready(stream->conn);
}

void h2_let_go(struct end *end, bool complete)
{
	struct h2_stream *stream = end->stream;
	struct h2_session *session;

	if (!stream)
		return;
	session = stream->session;
	end->stream = NULL;
	stream->conn = NULL;
	stream->end = NULL;
	if (session && stream->content.bytes) { /* closed or not, all streams share that window */
		nghttp2_session_consume_connection(session->http2, stream->content.bytes);
		h2_session_wake(session);
	}
	if (!session || stream->is_closed || stream->id <= 0) { /* nghttp2 has no hold of it */
		h2_stream_free(stream);
		return;
	}
	drop_received(stream);
	if (complete && !stream->out_done) { /* a body that ends where its connection does */
		stream->out_done = true;
		nghttp2_session_resume_data(session->http2, stream->id);
	} else if (!complete && !(stream->out_done && !stream->out.bytes && stream->ended)) {
		nghttp2_submit_rst_stream(session->http2, NGHTTP2_FLAG_NONE, stream->id,
					  session->is_server ? NGHTTP2_INTERNAL_ERROR : NGHTTP2_CANCEL);
		stream->out_done = false; /* what is left must not be taken for all */
		drop_unsent(stream);      /* a peer that does not read may keep the stream for long */
	}
	h2_session_wake(session);
}

bool h2_was_refused(const struct end *end)
{
	return end->stream && end->stream->is_refused;
}

bool h2_was_reset(const struct end *end)
{
	return end->stream && end->stream->is_reset && end->stream->session;
}

bool h2_was_malformed(const struct end *end)
{
	return end->stream && end->stream->is_malformed;
}

uint16_t h2_grpc_answer(const struct end *end)
{
	return end->stream ? end->stream->grpc_answer : 0;
}

/* ---- from the peer ---- */

void h2_stream_received(struct h2_stream *stream, const uint8_t *bytes, size_t n)
{
	/* A peer that keeps to its window never fills it. What nobody reads is taken off the window at once. */
	if (!stream->conn || !h2_queue_add(stream->worker, &stream->content, (const char *)bytes, n, H2_STREAM_WINDOW))
		nghttp2_session_consume(stream->session->http2, stream->id, n);
	else
		h2_stream_wake(stream);
}

static size_t take_buffer(struct worker *worker, struct buffer **buffer, char *out, size_t room)
{
	size_t left = buffer_length(*buffer), n = left < room ? left : room;

	memcpy(out, buffer_bytes(*buffer), n);
	(*buffer)->start += (uint32_t)n;
	buffer_drop_if_empty(worker, buffer);
	return n;
}

void h2_keep_trailer(struct end *end, struct http_head *head)
{
	struct h2_stream *stream = end->stream;

	if (!stream || head->framing != HTTP_BODY_LENGTH || (stream->ended && !stream->trailer))
		return;
	stream->tells_length = true;
	stream->length = head->content_length;
	stream->framing = head->framing = HTTP_BODY_CHUNKED;
}

/* Content, as one chunk if the body is in chunks; its window opens again as it is read. */
static size_t take_content(struct h2_stream *stream, char *out, size_t room)
{
	size_t n = stream->content.bytes < room ? stream->content.bytes : room, around = 0;
	char size[24];

	if (stream->framing == HTTP_BODY_CHUNKED) {
		around = (size_t)snprintf(size, sizeof(size), "%zx\r\n", n) + 2;
		if (room <= around)
			return 0;
		if (n > room - around) {
			n = room - around;
			around = (size_t)snprintf(size, sizeof(size), "%zx\r\n", n) + 2;
		}
		snprintf(out, room, "%zx\r\n", n); /* its NUL gives way to the content */
		out += around - 2;
		out[n] = '\r';
		out[n + 1] = '\n';
	}
	h2_queue_take(stream->worker, &stream->content, out, n);
	if (stream->session) {
		nghttp2_session_consume(stream->session->http2, stream->id, n);
		h2_session_wake(stream->session);
	}
	return n + around;
}

/* The last chunk, and the trailer; of a body whose length is told, or that there is none of, nothing. */
static size_t take_end(struct h2_stream *stream, char *out, size_t room)
{
	static const char last[] = "0\r\n\r\n";
	size_t n = stream->trailer ? 3 : sizeof(last) - 1;

	stream->is_whole = true;
	if (stream->framing != HTTP_BODY_CHUNKED || room < n)
		return 0;
	memcpy(out, last, n);
	if (stream->trailer)
		stream->head = stream->trailer; /* the rest of what there is to read */
	stream->trailer = NULL;
	return n;
}

ssize_t h2_receive(struct end *end, void *out, size_t room)
{
	struct h2_stream *stream = end->stream;
	size_t n = 0;

	if (buffer_length(stream->head))
		n = take_buffer(stream->worker, &stream->head, out, room);
	else if (stream->content.bytes)
		n = take_content(stream, out, room);
	else if (stream->ended && !stream->is_whole)
		n = take_end(stream, out, room);
	if (n)
		return (ssize_t)n;
	errno = stream->is_reset ? ECONNRESET : EAGAIN;
	return -1;
}

/* ---- to the peer ---- */

ssize_t h2_stream_read(nghttp2_session *http2, int32_t id, uint8_t *out, size_t room, uint32_t *flags, nghttp2_data_source *source,
		       void *context)
{
	struct h2_stream *stream = source->ptr;
	size_t n = h2_queue_take(stream->worker, &stream->out, (char *)out, room);

	(void)context;
	if (stream->conn && stream->out.bytes < MAX_OUT / 2 && !stream->end->writable) {
		stream->end->writable = true;
		worker_ready(stream->conn);
	}
	if (stream->out.bytes || !stream->out_done)
		return n ? (ssize_t)n : NGHTTP2_ERR_DEFERRED;
	*flags |= NGHTTP2_DATA_FLAG_EOF;
	if (stream->out_trailer) {
		nghttp2_nv fields[H2_MAX_FIELDS];
		struct buffer *names = buffer_get(stream->worker, true);
		size_t count = h2_trailer_fields(fields, buffer_bytes(stream->out_trailer), buffer_length(stream->out_trailer), names);

		if (count && nghttp2_submit_trailer(http2, id, fields, count) == 0)
			*flags |= NGHTTP2_DATA_FLAG_NO_END_STREAM;
		buffer_put(stream->worker, &names);
		buffer_put(stream->worker, &stream->out_trailer);
	}
	return (ssize_t)n;
}

/* Whether nothing follows the head. */
static void start_body(struct h2_stream *stream, const struct http_head *head)
{
	http_body_start(&stream->body, head);
	stream->out_done = stream->body.done;
	stream->head_sent = true;
}

/* What the other end of the connection was told of the length of this message, which comes in chunks; or NULL. */
static const uint64_t *told_length(const struct h2_stream *stream, const struct http_head *head)
{
	const struct h2_stream *other = stream->session->is_server ? stream->conn->upstream.stream : stream->conn->client.stream;

	return other && other->tells_length && head->framing == HTTP_BODY_CHUNKED ? &other->length : NULL;
}

static int submit_request(struct h2_stream *stream, const struct http_head *head, struct buffer *names)
{
	struct h2_session *session = stream->session;
	nghttp2_data_provider provider = {{.ptr = stream}, h2_stream_read};
	nghttp2_nv fields[H2_MAX_FIELDS];
	size_t count = h2_request_fields(fields, head, session->end->tls ? "https" : "http", told_length(stream, head), names);

	if (!count)
		return -1;
	start_body(stream, head);
	stream->method = head->method;
	stream->id = nghttp2_submit_request(session->http2, NULL, fields, count, stream->out_done ? NULL : &provider, stream);
	return stream->id < 0 ? -1 : 0;
}

static int submit_response(struct h2_stream *stream, const struct http_head *head, struct buffer *names)
{
	nghttp2_session *http2 = stream->session->http2;
	nghttp2_data_provider provider = {{.ptr = stream}, h2_stream_read};
	nghttp2_nv fields[H2_MAX_FIELDS];
	size_t count = h2_response_fields(fields, head, told_length(stream, head), names);

	if (!count)
		return -1;
	if (head->status < 200)
		return nghttp2_submit_headers(http2, NGHTTP2_FLAG_NONE, stream->id, NULL, fields, count, NULL);
	start_body(stream, head);
	return nghttp2_submit_response(http2, stream->id, fields, count, stream->out_done ? NULL : &provider);
}

/* Heads come whole: the first part of what the exchange sends is the rest of its rebuilt head. */
static ssize_t send_head(struct h2_stream *stream, const char *bytes, size_t n)
{
	struct http_head *head = &stream->worker->head;
	bool is_server = stream->session->is_server;
	const char *why;
	enum http_result result = is_server ? http_parse_response(head, bytes, n, stream->method, &why)
					    : http_parse_request(head, bytes, n, &why);
	struct buffer *names;
	int error;

	if (result != HTTP_OK)
		return -1;
	names = buffer_get(stream->worker, true);
	error = is_server ? submit_response(stream, head, names) : submit_request(stream, head, names);
	buffer_put(stream->worker, &names);
	return error ? -1 : (ssize_t)head->bytes;
}

static bool add_trailer(struct h2_stream *stream, const char *bytes, size_t n)
{
	struct buffer **trailer = &stream->out_trailer;

	if (!*trailer)
		*trailer = buffer_get(stream->worker, true); /* http1_body.c bounds it at 16 KiB */
	if (n > (*trailer)->size - (*trailer)->end)
		return false;
	memcpy((*trailer)->bytes + (*trailer)->end, bytes, n);
	(*trailer)->end += (uint32_t)n;
	return true;
}

/* How much of it is taken: less than all where the queue is full. -1: broken. */
static ssize_t send_body(struct h2_stream *stream, const char *bytes, size_t n)
{
	size_t taken = 0;

	while (taken < n && !stream->body.done) {
		size_t most = n - taken, room = MAX_OUT - stream->out.bytes;
		bool in_trailer = http_body_in_trailer(&stream->body);
		struct slice content;
		const char *why;
		int64_t part;

		if (!room)
			break;
		part = http_body_content(&stream->body, bytes + taken, most < room ? most : room, &content, &why);
		if (part < 0 || (in_trailer && !add_trailer(stream, bytes + taken, (size_t)part)))
			return -1;
		h2_queue_add(stream->worker, &stream->out, content.p, content.n, MAX_OUT);
		taken += (size_t)part;
	}
	stream->out_done |= stream->body.done;
	return (ssize_t)taken;
}

ssize_t h2_send(struct end *end, const struct iovec *parts, size_t count)
{
	struct h2_stream *stream = end->stream;
	size_t sent = 0;

	if (!stream->session || stream->is_closed) {
		errno = ECONNRESET;
		return -1;
	}
	for (size_t i = 0; i < count; i++) {
		const char *bytes = parts[i].iov_base;
		size_t n = parts[i].iov_len, at = 0;

		while (at < n) {
			ssize_t taken;

			taken = stream->head_sent ? send_body(stream, bytes + at, n - at) : send_head(stream, bytes + at, n - at);
			if (taken < 0) {
				stream->is_reset = true;
				errno = EPROTO;
				return -1;
			}
			if (!taken)
				break;
			at += (size_t)taken;
		}
		sent += at;
		if (at < n)
			break;
	}
	if (stream->id > 0)
		nghttp2_session_resume_data(stream->session->http2, stream->id);
	h2_session_wake(stream->session);
	if (sent)
		return (ssize_t)sent;
	errno = EAGAIN;
	return -1;
}
