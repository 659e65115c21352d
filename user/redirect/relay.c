// SPDX-License-Identifier: Apache-2.0
/* Bytes both ways with splice: TLS, upgraded connections, and what is neither HTTP nor TLS but allowed. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "redirect/internal.h"

#define SPLICE_BYTES (256 * 1024)
#define ROUNDS 16 /* then others have their turn */
#define KEEP_FREE_PIPES 256

/* ---- pipes: held only while bytes are in them ---- */

static struct pipe_pair *pipe_get(struct worker *worker)
{
	struct pipe_pair *pair = worker->free_pipes;

	if (pair) {
		worker->free_pipes = pair->next;
		worker->free_pipe_count--;
		return pair;
	}
	pair = calloc(1, sizeof(*pair));
	if (!pair || pipe2(pair->fds, O_NONBLOCK | O_CLOEXEC) < 0) {
		free(pair);
		return NULL;
	}
	fcntl(pair->fds[0], F_SETPIPE_SZ, SPLICE_BYTES);
	worker->descriptors += 2;
	return pair;
}

static void pipe_put(struct worker *worker, struct pipe_pair **pipe)
{
	struct pipe_pair *pair = *pipe;

	*pipe = NULL;
	if (!pair)
		return;
	if (!pair->held && worker->free_pipe_count < KEEP_FREE_PIPES) {
		pair->next = worker->free_pipes;
		worker->free_pipes = pair;
		worker->free_pipe_count++;
		return;
	}
	close(pair->fds[0]);
	close(pair->fds[1]);
	worker->descriptors -= 2;
	free(pair);
}

void relay_end(struct conn *conn)
{
	pipe_put(conn->worker, &conn->up);
	pipe_put(conn->worker, &conn->down);
}

/* ---- one direction ---- */

/* What was read before the relay began goes first. -1: broken; 0: the other side takes no more now; 1: all is out. */
static int flush_buffer(struct worker *worker, struct buffer **buffer, struct end *to, __u64 *bytes)
{
	while (buffer_length(*buffer)) {
		ssize_t n;

		if (!to->writable)
			return 0;
		n = send(to->fd, buffer_bytes(*buffer), buffer_length(*buffer), MSG_NOSIGNAL | MSG_DONTWAIT);
		if (n < 0 && errno == EAGAIN) {
			to->writable = false;
		} else if (n < 0) {
			return -1;
		} else {
			(*buffer)->start += (uint32_t)n;
			tally(bytes, (__u64)n);
		}
	}
	buffer_put(worker, buffer);
	return 1;
}

/* 1: bytes came in; 0: none now, or the end; -1: broken. */
static int fill_pipe(struct worker *worker, struct end *from, struct pipe_pair **pipe)
{
	ssize_t n;

	if (!from->readable || from->eof)
		return 0;
	if (!*pipe)
		*pipe = pipe_get(worker);
	if (!*pipe)
		return -1;
	n = splice(from->fd, NULL, (*pipe)->fds[1], NULL, SPLICE_BYTES, SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
	if (n > 0) {
		(*pipe)->held = (size_t)n;
		return 1;
	}
	if (n < 0 && errno != EAGAIN)
		return -1;
	from->readable = false;
	from->eof = n == 0;
	return 0;
}

/* 1: bytes went out; 0: none now; -1: broken. */
static int drain_pipe(struct pipe_pair *pipe, struct end *to, __u64 *bytes)
{
	ssize_t n;

	if (!to->writable)
		return 0;
	n = splice(pipe->fds[0], NULL, to->fd, NULL, pipe->held, SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
	if (n > 0) {
		pipe->held -= (size_t)n;
		tally(bytes, (__u64)n);
		return 1;
	}
	if (n < 0 && errno != EAGAIN)
		return -1;
	to->writable = false;
	return 0;
}

/* Moves what can be moved. -1: broken; 0: blocked or done; 1: there is more. */
static int move(struct worker *worker, struct end *from, struct end *to, struct buffer **first, struct pipe_pair **pipe,
		bool *shut, __u64 *bytes)
{
	int moved = flush_buffer(worker, first, to, bytes);

	if (moved <= 0)
		return moved;
	for (int round = 0; round < ROUNDS; round++) {
		if (*pipe && (*pipe)->held)
			moved = drain_pipe(*pipe, to, bytes);
		else
			moved = fill_pipe(worker, from, pipe);
		if (moved < 0)
			return -1;
		if (!moved)
			break;
	}
	if (*pipe && !(*pipe)->held)
		pipe_put(worker, pipe);
	if (from->eof && !*pipe && !*shut) {
		*shut = true;
		shutdown(to->fd, SHUT_WR);
	}
	return moved > 0;
}

void relay_begin(struct conn *conn)
{
	conn->state = CONN_RELAY;
	if (!conn_still_allowed(conn)) /* a table may have come while the upstream connection was made */
		return;
	conn->upstream.readable = conn->client.readable = true;
	tally(&conn->worker->statistics.tls_relayed, conn->is_tls);
	buffer_drop_if_empty(conn->worker, &conn->from_client);
	buffer_drop_if_empty(conn->worker, &conn->from_upstream);
}

enum step relay_step(struct conn *conn)
{
	struct worker *worker = conn->worker;
	struct redirector_statistics *statistics = &worker->statistics;
	const __u64 sent = statistics->bytes_to_client, received = statistics->bytes_to_upstream;
	int up = move(worker, &conn->client, &conn->upstream, &conn->from_client, &conn->up, &conn->up_shut,
		      &statistics->bytes_to_upstream);
	int down = up < 0 ? -1
			  : move(worker, &conn->upstream, &conn->client, &conn->from_upstream, &conn->down, &conn->down_shut,
				 &statistics->bytes_to_client);

	conn->outcome.received += statistics->bytes_to_upstream - received;
	conn->outcome.sent += statistics->bytes_to_client - sent;
	if (up < 0 || down < 0) {
		/* Broken for one, broken for the other: a clean end could pass for the end of the data. */
		setsockopt(conn->upstream.fd, SOL_SOCKET, SO_LINGER, &(struct linger){.l_onoff = 1}, sizeof(struct linger));
		conn_reset(conn);
		return STEP_BLOCKED;
	}
	if (conn->up_shut && conn->down_shut) {
		conn_close(conn);
		return STEP_BLOCKED;
	}
	worker_timer(conn, worker->now_ms + IDLE_TIMEOUT_MS);
	if (up || down)
		worker_ready(conn);
	return STEP_BLOCKED;
}
