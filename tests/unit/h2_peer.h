/* SPDX-License-Identifier: Apache-2.0 */
/* The other end of an HTTP/2 connection, client or server, on a socket of the test's: turns of the rig move its frames. */
#ifndef SLUICE_H2_PEER_H
#define SLUICE_H2_PEER_H

#include <netinet/tcp.h>
#include <nghttp2/nghttp2.h>

#include "redirect_rig.h"

#define PEER_STREAMS 128

/* What has come on a stream. */
struct peer_stream {
	int32_t id;
	char head[2048];     /* "name: value\n", of all heads; trailers too, after "--\n" */
	char body[256];      /* its beginning */
	size_t body_length;
	bool ended, closed, unread;
	uint32_t error;
	/* what is to be sent */
	const char *out;
	size_t out_length;
	bool out_ends;
	const char *trailer; /* the value of grpc-status */
};

struct peer {
	nghttp2_session *http2;
	int fd;
	bool is_server, gone, withholds; /* the window stays as it is */
	struct peer_stream streams[PEER_STREAMS];
	size_t count;
	uint32_t goaway;     /* its code + 1 */
};

#define NV(name, value) {(uint8_t *)(uintptr_t)(name), (uint8_t *)(uintptr_t)(value), strlen(name), strlen(value), NGHTTP2_NV_FLAG_NONE}

RIG struct peer_stream *peer_stream(struct peer *peer, int32_t id)
{
	for (size_t i = 0; i < peer->count; i++)
		if (peer->streams[i].id == id)
			return &peer->streams[i];
	cr_assert_lt(peer->count, PEER_STREAMS);
	peer->streams[peer->count].id = id;
	return &peer->streams[peer->count++];
}

RIG int peer_header(nghttp2_session *http2, const nghttp2_frame *frame, const uint8_t *name, size_t n, const uint8_t *value,
		    size_t length, uint8_t flags, void *context)
{
	struct peer_stream *stream = peer_stream(context, frame->hd.stream_id);
	size_t used = strlen(stream->head);

	(void)http2, (void)flags;
	snprintf(stream->head + used, sizeof(stream->head) - used, "%.*s: %.*s\n", (int)n, (const char *)name, (int)length, (const char *)value);
	return 0;
}

RIG int peer_data(nghttp2_session *http2, uint8_t flags, int32_t id, const uint8_t *bytes, size_t n, void *context)
{
	struct peer *peer = context;
	struct peer_stream *stream = peer_stream(context, id);
	size_t room = stream->body_length < sizeof(stream->body) - 1 ? sizeof(stream->body) - 1 - stream->body_length : 0;

	(void)flags;
	memcpy(stream->body + stream->body_length, bytes, n < room ? n : room);
	stream->body_length += n;
	if (!peer->withholds)
		nghttp2_session_consume(http2, id, n);
	return 0;
}

RIG int peer_begin(nghttp2_session *http2, const nghttp2_frame *frame, void *context)
{
	struct peer_stream *stream = peer_stream(context, frame->hd.stream_id);

	(void)http2;
	if (frame->headers.cat == NGHTTP2_HCAT_HEADERS)
		snprintf(stream->head + strlen(stream->head), sizeof(stream->head) - strlen(stream->head), "--\n");
	return 0;
}

RIG int peer_frame(nghttp2_session *http2, const nghttp2_frame *frame, void *context)
{
	(void)http2;
	if (frame->hd.type == NGHTTP2_GOAWAY)
		((struct peer *)context)->goaway = frame->goaway.error_code + 1;
	else if (frame->hd.stream_id && frame->hd.flags & NGHTTP2_FLAG_END_STREAM)
		peer_stream(context, frame->hd.stream_id)->ended = true;
	return 0;
}

RIG int peer_close(nghttp2_session *http2, int32_t id, uint32_t error, void *context)
{
	struct peer_stream *stream = peer_stream(context, id);

	(void)http2;
	stream->closed = true;
	stream->error = error;
	return 0;
}

RIG ssize_t peer_read(nghttp2_session *http2, int32_t id, uint8_t *out, size_t room, uint32_t *flags, nghttp2_data_source *source, void *context)
{
	struct peer_stream *stream = peer_stream(context, id);
	size_t n = stream->out_length < room ? stream->out_length : room;

	(void)source;
	if (stream->out)
		memcpy(out, stream->out, n);
	else
		memset(out, 'x', n);
	stream->out = stream->out ? stream->out + n : NULL;
	stream->out_length -= n;
	if (!stream->out_length && stream->out_ends) {
		*flags |= NGHTTP2_DATA_FLAG_EOF;
		if (stream->trailer) {
			nghttp2_nv field = NV("grpc-status", stream->trailer);

			*flags |= NGHTTP2_DATA_FLAG_NO_END_STREAM;
			nghttp2_submit_trailer(http2, id, &field, 1);
		}
	}
	return n || stream->out_ends ? (ssize_t)n : NGHTTP2_ERR_DEFERRED;
}

/* Kept, so that they can be freed. */
static struct peer *peers[64];

RIG void peers_free(void)
{
	for (size_t i = 0; i < sizeof(peers) / sizeof(*peers) && peers[i]; i++) {
		nghttp2_session_del(peers[i]->http2);
		free(peers[i]);
	}
}

RIG struct peer *peer_new(int fd, bool is_server)
{
	struct peer *peer = calloc(1, sizeof(*peer));
	size_t at = 0;
	nghttp2_session_callbacks *callbacks;
	nghttp2_option *option;
	int on = 1;

	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	while (peers[at])
		at++;
	peers[at] = peer;
	peer->fd = fd;
	peer->is_server = is_server;
	nghttp2_session_callbacks_new(&callbacks);
	nghttp2_option_new(&option);
	nghttp2_option_set_no_auto_window_update(option, 1);
	nghttp2_option_set_no_http_messaging(option, 1); /* so that it may be as wrong as the test wants */
	nghttp2_session_callbacks_set_on_header_callback(callbacks, peer_header);
	nghttp2_session_callbacks_set_on_begin_headers_callback(callbacks, peer_begin);
	nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, peer_data);
	nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, peer_frame);
	nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, peer_close);
	if (is_server)
		nghttp2_session_server_new2(&peer->http2, callbacks, peer, option);
	else
		nghttp2_session_client_new2(&peer->http2, callbacks, peer, option);
	nghttp2_option_del(option);
	nghttp2_session_callbacks_del(callbacks);
	nghttp2_submit_settings(peer->http2, NGHTTP2_FLAG_NONE, NULL, 0);
	return peer;
}

/* Its frames go out, and others come in. */
RIG void peer_turn(struct peer *peer)
{
	static uint8_t in[65536];
	const uint8_t *out;
	ssize_t n;

	while (!peer->gone && (n = recv(peer->fd, in, sizeof(in), MSG_DONTWAIT)) >= 0) {
		peer->gone = n == 0;
		if (nghttp2_session_mem_recv(peer->http2, in, (size_t)n) < 0)
			break;
	}
	while ((n = nghttp2_session_mem_send(peer->http2, &out)) > 0) {
		ssize_t sent = send(peer->fd, out, (size_t)n, MSG_NOSIGNAL | MSG_DONTWAIT);

		cr_assert(sent == n || peer->gone || errno == EPIPE || errno == ECONNRESET, "%zd of %zd: %s", sent, n, strerror(errno));
	}
}

/* Until nothing moves any more, for peers of whom some may be NULL. */
RIG void turn_with(struct peer *a, struct peer *b)
{
	for (int i = 0; i < 12; i++) {
		if (a)
			peer_turn(a);
		turn();
		if (b)
			peer_turn(b);
		turn();
	}
	if (a)
		peer_turn(a);
}

RIG int32_t peer_ask_with(struct peer *peer, const nghttp2_nv *fields, size_t count, const char *body, bool ends)
{
	nghttp2_data_provider provider = {.read_callback = peer_read};
	int32_t id = nghttp2_submit_request(peer->http2, NULL, fields, count, body || !ends ? &provider : NULL, NULL);
	struct peer_stream *stream;

	cr_assert_gt(id, 0);
	stream = peer_stream(peer, id);
	stream->out = body;
	stream->out_length = body ? strlen(body) : 0;
	stream->out_ends = ends;
	return id;
}

RIG int32_t peer_get(struct peer *peer, const char *authority, const char *path)
{
	const nghttp2_nv fields[] = {NV(":method", "GET"), NV(":scheme", "http"), NV(":authority", authority), NV(":path", path)};

	return peer_ask_with(peer, fields, 4, NULL, true);
}

RIG void peer_answer(struct peer *peer, int32_t id, const char *status, const char *body, const char *trailer)
{
	const nghttp2_nv fields[] = {NV(":status", status), NV("x-from", "server")};
	nghttp2_data_provider provider = {.read_callback = peer_read};
	struct peer_stream *stream = peer_stream(peer, id);

	stream->out = body;
	stream->out_length = body ? strlen(body) : 0;
	stream->out_ends = true;
	stream->trailer = trailer;
	cr_assert_eq(nghttp2_submit_response(peer->http2, id, fields, 2, body || trailer ? &provider : NULL), 0);
}

RIG void expect_head(struct peer *peer, int32_t id, const char *wanted)
{
	struct peer_stream *stream = peer_stream(peer, id);

	cr_expect(strstr(stream->head, wanted), "wanted: %s\ncame: %s%s error %u", wanted, stream->head, stream->closed ? " [closed]" : "", stream->error);
}

#endif
