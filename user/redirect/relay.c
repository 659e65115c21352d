// SPDX-License-Identifier: Apache-2.0
/*
 * Bytes both ways: clients' own TLS, upgraded connections, and what is neither HTTP nor TLS but allowed. With splice, unless
 * the upstream is spoken to in TLS.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "redirect/internal.h"
#include "redirect/origination.h"

#define SPLICE_BYTES (256 * 1024)
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
	int moved = end_write(to, *first, bytes); /* what was read before the relay began goes first */

	if (moved <= 0)
		return moved;
	buffer_put(worker, first);
	for (int round = 0; round < RELAY_ROUNDS; round++) {
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

/* 1: said; 0: `to` takes no more now; -1: broken. */
static int say_end(struct end *to)
{
	enum origination_result result = to->tls ? origination_finish(to) : ORIGINATION_DONE;

	if (!to->tls)
		shutdown(to->fd, SHUT_WR);
	return result == ORIGINATION_DONE ? 1 : result == ORIGINATION_AGAIN ? 0 : -1;
}

/* The same through user space, where one side speaks TLS. */
static int carry(struct worker *worker, struct end *from, struct end *to, struct buffer **buffer, bool *shut, __u64 *bytes)
{
	int moved = 1, said;

	for (int round = 0; round < RELAY_ROUNDS && moved > 0; round++) {
		moved = end_write(to, *buffer, bytes);
		if (moved > 0)
			moved = end_read(worker, from, buffer);
		if (moved < 0 && (buffer_length(*buffer) || errno))
			return -1;
	}
	if (from->eof && !buffer_length(*buffer) && !*shut) {
		said = say_end(to);
		if (said < 0 && !to->eof) /* who has ended already need not hear it */
			return -1;
		*shut = said != 0;
	}
	buffer_drop_if_empty(worker, buffer);
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

/* As move(). */
static int move_up(struct conn *conn)
{
	__u64 *bytes = &conn->worker->statistics.bytes_to_upstream;

	if (conn->posts)
		return post_tunnel_up(conn);
	if (conn->upstream.tls)
		return carry(conn->worker, &conn->client, &conn->upstream, &conn->from_client, &conn->up_shut, bytes);
	return move(conn->worker, &conn->client, &conn->upstream, &conn->from_client, &conn->up, &conn->up_shut, bytes);
}

static int move_down(struct conn *conn)
{
	__u64 *bytes = &conn->worker->statistics.bytes_to_client;

	if (conn->posts)
		return post_tunnel_down(conn);
	if (conn->upstream.tls)
		return carry(conn->worker, &conn->upstream, &conn->client, &conn->from_upstream, &conn->down_shut, bytes);
	return move(conn->worker, &conn->upstream, &conn->client, &conn->from_upstream, &conn->down, &conn->down_shut, bytes);
}

enum step relay_step(struct conn *conn)
{
	struct redirector_statistics *statistics = &conn->worker->statistics;
	const __u64 sent = statistics->bytes_to_client, received = statistics->bytes_to_upstream;
	int up = move_up(conn), down = up < 0 ? -1 : move_down(conn);

	conn->outcome.received += statistics->bytes_to_upstream - received;
	conn->outcome.sent += statistics->bytes_to_client - sent;
	if (up < 0 || down < 0) {
		/* Broken for one, broken for the other: a clean end could pass for the end of the data. */
		setsockopt(conn->upstream.fd, SOL_SOCKET, SO_LINGER, &(struct linger){.l_onoff = 1}, sizeof(struct linger));
		origination_break(&conn->upstream);
		conn_reset(conn);
		return STEP_BLOCKED;
	}
	if (conn->up_shut && conn->down_shut) {
		conn_close(conn);
		return STEP_BLOCKED;
	}
	worker_timer(conn, conn->idle_ms ? conn->worker->now_ms + conn->idle_ms : NEVER_MS);
	if (up || down)
		worker_ready(conn);
	return STEP_BLOCKED;
}
