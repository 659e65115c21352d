// SPDX-License-Identifier: Apache-2.0
/* A tunnel by POST (DestinationRule `tunnel`): each side's bytes are the body of an HTTP/1.1 message. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "redirect/internal.h"

#define CHUNK_FRAME 16 /* its size in digits, and two line ends */

static struct buffer *empty_buffer(struct worker *worker, struct buffer **buffer, size_t room)
{
	buffer_put(worker, buffer);
	*buffer = buffer_get(worker, room > SMALL_BUFFER);
	return *buffer;
}

/* What the client said, as one chunk. */
static void wrap(struct conn *conn)
{
	struct buffer *from = conn->from_client, *to;
	uint32_t n = buffer_length(from) < LARGE_BUFFER - CHUNK_FRAME ? buffer_length(from) : LARGE_BUFFER - CHUNK_FRAME;

	to = empty_buffer(conn->worker, &conn->to_upstream, n + CHUNK_FRAME);
	to->end = (uint32_t)snprintf(to->bytes, to->size, "%x\r\n", n);
	memcpy(to->bytes + to->end, buffer_bytes(from), n);
	memcpy(to->bytes + to->end + n, "\r\n", 2);
	to->end += n + 2;
	from->start += n;
}

static void wrap_end(struct conn *conn)
{
	struct buffer *to = empty_buffer(conn->worker, &conn->to_upstream, CHUNK_FRAME);

	to->end = (uint32_t)snprintf(to->bytes, to->size, "0\r\n\r\n");
	conn->request_done = true;
}

int post_tunnel_up(struct conn *conn)
{
	struct worker *worker = conn->worker;

	for (int round = 0; round < RELAY_ROUNDS; round++) {
		int moved = end_write(&conn->upstream, conn->to_upstream, &worker->statistics.bytes_to_upstream);

		if (moved <= 0)
			return moved;
		if (conn->request_done) {
			conn->up_shut = true;
			return 0;
		}
		if (!buffer_length(conn->from_client)) {
			moved = end_read(worker, &conn->client, &conn->from_client);
			if (moved < 0 && errno)
				return -1;
		}
		if (buffer_length(conn->from_client)) {
			wrap(conn);
		} else if (conn->client.eof) {
			wrap_end(conn);
		} else {
			buffer_put(worker, &conn->to_upstream);
			buffer_drop_if_empty(worker, &conn->from_client);
			return 0;
		}
	}
	return 1;
}

/* The next run of content, for the client. False: the body is none. */
static bool unwrap(struct conn *conn)
{
	struct buffer *from = conn->from_upstream, *to;
	struct slice content;
	const char *why;
	int64_t n = http_body_content(&conn->response_body, buffer_bytes(from), buffer_length(from), &content, &why);

	if (n < 0)
		return false;
	to = empty_buffer(conn->worker, &conn->to_client, content.n);
	memcpy(to->bytes, content.p, content.n);
	to->end = (uint32_t)content.n;
	from->start += (uint32_t)n;
	return true;
}

int post_tunnel_down(struct conn *conn)
{
	struct worker *worker = conn->worker;

	for (int round = 0; round < RELAY_ROUNDS; round++) {
		int moved = end_write(&conn->client, conn->to_client, &worker->statistics.bytes_to_client);

		if (moved <= 0)
			return moved;
		if (conn->response_body.done) {
			if (!conn->down_shut)
				shutdown(conn->client.fd, SHUT_WR);
			conn->down_shut = true;
			return 0;
		}
		if (!buffer_length(conn->from_upstream)) {
			moved = end_read(worker, &conn->upstream, &conn->from_upstream);
			if (moved < 0 && (errno || conn->response_body.framing != HTTP_BODY_CLOSE))
				return -1;
			conn->response_body.done = moved < 0;
		}
		if (buffer_length(conn->from_upstream) && !unwrap(conn))
			return -1;
		if (!moved) {
			buffer_put(worker, &conn->to_client);
			buffer_drop_if_empty(worker, &conn->from_upstream);
			return 0;
		}
	}
	return 1;
}
