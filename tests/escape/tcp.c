// SPDX-License-Identifier: Apache-2.0
/* TCP sockets, in all the ways that they can be made to connect. */
#include <fcntl.h>
#include <linux/tcp.h>
#include <pthread.h>
#include <sched.h>

#include "escape.h"

#define IPPROTO_MPTCP_ 262

static int tcp_connect(struct context *c)
{
	return tcp_to(c, &c->to);
}

static int tcp_blocking(struct context *c)
{
	int fd = socket_for(c, SOCK_STREAM, 0), result;
	struct timeval limit = {0, (suseconds_t)(c->patience_ms * 900)};

	if (fd < 0)
		return failed(c, "socket");
	if (limit.tv_usec >= 1000000)
		limit = (struct timeval){1, 0};
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
	result = connect(fd, (struct sockaddr *)&c->to.addr, c->to.length) < 0 ? failed(c, "connect") : tell(c, fd);
	close_hard(fd);
	return result;
}

static int then_dial(struct context *c, int fd)
{
	int result = dial(c, fd, &c->to);

	if (result == 0)
		result = tell(c, fd);
	close_hard(fd);
	return result;
}

/* A descriptor that was connected to somewhere allowed is emptied by AF_UNSPEC and used again. */
static int tcp_unspec(struct context *c)
{
	struct sockaddr nobody = {.sa_family = AF_UNSPEC};
	int fd = socket_for(c, SOCK_STREAM, 0);

	if (fd < 0)
		return failed(c, "socket");
	if (dial(c, fd, &c->decoy) < 0) {
		close(fd);
		return failed(c, "connect to the allowed address");
	}
	if (connect(fd, &nobody, sizeof(nobody)) < 0) {
		close(fd);
		return failed(c, "connect AF_UNSPEC");
	}
	return then_dial(c, fd);
}

static int tcp_refused_then_again(struct context *c)
{
	int fd = socket_for(c, SOCK_STREAM, 0), result = -1;

	if (fd < 0)
		return failed(c, "socket");
	for (int i = 0; i < 3 && result; i++)
		result = dial(c, fd, &c->to);
	if (result == 0)
		result = tell(c, fd);
	close_hard(fd);
	return result;
}

static int tcp_to_device(struct context *c)
{
	int fd = socket_for(c, SOCK_STREAM, 0);

	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, "eth0", 5) < 0)
		return failed(c, "SO_BINDTODEVICE");
	return then_dial(c, fd);
}

/* Another source port than the kernel's choice: one that looks like DNS or like the redirector. */
static int tcp_from_port(struct context *c)
{
	int fd = socket_for(c, SOCK_STREAM, 0), one = 1;
	struct endpoint from = with_port(c->own, 53);

	if (fd < 0)
		return failed(c, "socket");
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (bind(fd, (struct sockaddr *)&from.addr, from.length) < 0)
		return failed(c, "bind");
	return then_dial(c, fd);
}

static int enter_repair(int fd)
{
	int on = TCP_REPAIR_ON;

	return setsockopt(fd, IPPROTO_TCP, TCP_REPAIR, &on, sizeof(on));
}

/* A connection that never shook hands: established by decree, the token is its first segment. */
static int tcp_repair(struct context *c)
{
	int fd = socket_for(c, SOCK_STREAM, 0), off = TCP_REPAIR_OFF_NO_WP, result;
	struct endpoint from = with_port(c->own, c->source_port);

	if (fd < 0 || enter_repair(fd) < 0)
		return failed(c, "TCP_REPAIR");
	if (bind(fd, (struct sockaddr *)&from.addr, from.length) < 0)
		return failed(c, "bind");
	if (connect(fd, (struct sockaddr *)&c->to.addr, c->to.length) < 0)
		return failed(c, "connect in repair");
	if (setsockopt(fd, IPPROTO_TCP, TCP_REPAIR, &off, sizeof(off)) < 0)
		return failed(c, "TCP_REPAIR_OFF");
	result = tell(c, fd);
	close_hard(fd);
	return result;
}

static int tcp_fast_open(struct context *c)
{
	int fd = socket_for(c, SOCK_STREAM, 0), one = 1, result;
	struct timeval limit = {0, 300000};

	if (fd < 0)
		return failed(c, "socket");
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
	setsockopt(fd, IPPROTO_TCP, TCP_FASTOPEN_NO_COOKIE, &one, sizeof(one));
	if (sendto(fd, c->token, TOKEN_LENGTH, MSG_FASTOPEN | MSG_NOSIGNAL, (struct sockaddr *)&c->to.addr, c->to.length) < 0)
		result = failed(c, "MSG_FASTOPEN");
	else
		result = await_echo(c, fd);
	close_hard(fd);
	return result;
}

static int tcp_fast_open_connect(struct context *c)
{
	int fd = socket_for(c, SOCK_STREAM, 0), one = 1;

	if (fd < 0)
		return failed(c, "socket");
	setsockopt(fd, IPPROTO_TCP, TCP_FASTOPEN_NO_COOKIE, &one, sizeof(one));
	if (setsockopt(fd, IPPROTO_TCP, TCP_FASTOPEN_CONNECT, &one, sizeof(one)) < 0)
		return failed(c, "TCP_FASTOPEN_CONNECT");
	return then_dial(c, fd);
}

static int mptcp_connect(struct context *c)
{
	int fd = socket_for(c, SOCK_STREAM, IPPROTO_MPTCP_);

	return fd < 0 ? failed(c, "MPTCP socket") : then_dial(c, fd);
}

/*
 * The server of the allowed address announces the forbidden one; a worker of the kernel, no task of the pod,
 * connects the second subflow. (tests/escape/run configures the server; ADD_ADDR keeps the port.)
 */
static int mptcp_subflow(struct context *c)
{
	int fd, result;

	/* A socket takes the limits that are there when it is made. */
	if (sh("ip mptcp limits set subflows 2 add_addr_accepted 2 2>/dev/null") < 0)
		return failed(c, "ip mptcp limits");
	fd = socket_for(c, SOCK_STREAM, IPPROTO_MPTCP_);
	if (fd < 0)
		return failed(c, "MPTCP socket");
	result = dial(c, fd, &c->decoy);
	/* The token stays here: it may go to the allowed address by right. */
	if (result == 0 && send(fd, "hello", 5, MSG_NOSIGNAL) < 0)
		result = failed(c, "send");
	pause_ms(300);
	close_hard(fd);
	return result;
}

static void mptcp_subflow_undo(struct context *c)
{
	(void)c;
	sh("ip mptcp limits set subflows 2 add_addr_accepted 0 2>/dev/null");
}

struct race {
	struct endpoint shown;
	const struct endpoint *a, *b;
	volatile bool stop;
};

static void *flip(void *argument)
{
	struct race *race = argument;

	for (unsigned i = 0; !race->stop; i++)
		memcpy(&race->shown, i % 2 ? race->a : race->b, sizeof(race->shown));
	return NULL;
}

/* Another thread rewrites the sockaddr between allowed and forbidden while connect reads it. */
static int tcp_race(struct context *c)
{
	struct race race = {c->decoy, &c->decoy, &c->to, false};
	double deadline = now_ms() + c->patience_ms;
	int fd, result = 0;
	pthread_t thread;

	if (pthread_create(&thread, NULL, flip, &race))
		return failed(c, "thread");
	for (int tries = 0; now_ms() < deadline && tries < 500; tries++) {
		struct sockaddr_storage peer;
		socklen_t size = sizeof(peer);

		fd = socket_for(c, SOCK_STREAM, 0);
		result = dial(c, fd, &race.shown);
		/* To the forbidden address only: the token must not come from the allowed one. */
		if (result == 0 && getpeername(fd, (struct sockaddr *)&peer, &size) == 0 && memcmp(&peer, &c->to.addr, size) == 0)
			result = tell(c, fd);
		close_hard(fd);
		if (result == 1)
			break;
	}
	race.stop = true;
	pthread_join(thread, NULL);
	return result;
}

static int tcp_child(struct context *c)
{
	int fd = socket_for(c, SOCK_STREAM, 0), result = -ECHILD, status[2];
	pid_t pid;

	if (fd < 0 || pipe(status) < 0)
		return failed(c, "socket");
	/* The socket of a parent, connected by a child that left its files' table. */
	pid = fork();
	if (pid == 0) {
		unshare(CLONE_FILES | CLONE_FS);
		result = then_dial(c, fd);
		(void)!write(status[1], &result, sizeof(result));
		_exit(0);
	}
	if (read(status[0], &result, sizeof(result)) < 0)
		return failed(c, "child");
	close_hard(fd);
	return result;
}

const struct method tcp_methods[] = {
	{"tcp-connect", "TCP connect, non-blocking", "", V4 | V6 | MAPPED, LEGIT | TUPLE, tcp_connect, NULL, 0},
	{"tcp-blocking", "TCP connect, blocking", "", V4 | V6 | MAPPED, LEGIT | TUPLE, tcp_blocking, NULL, 0},
	{"tcp-unspec", "TCP connect, AF_UNSPEC, connect elsewhere", "", V4 | V6 | MAPPED, LEGIT | REGISTERED | TUPLE, tcp_unspec, NULL, 0},
	{"tcp-again", "TCP connect, again on a refused socket", "", V4 | V6, TUPLE, tcp_refused_then_again, NULL, 0},
	{"tcp-device", "TCP with SO_BINDTODEVICE eth0", "", V4 | V6, LEGIT | TUPLE, tcp_to_device, NULL, 0},
	{"tcp-from-53", "TCP from source port 53", "", V4 | V6, LEGIT | TUPLE, tcp_from_port, NULL, 0},
	{"tcp-repair", "TCP_REPAIR: established without a handshake", "NET_ADMIN", V4 | V6, TUPLE, tcp_repair, NULL, 0},
	{"tcp-fastopen", "TCP fast open: MSG_FASTOPEN, data in the SYN", "", V4 | V6, LEGIT | TUPLE, tcp_fast_open, NULL, 0},
	{"tcp-fastopen-connect", "TCP fast open: TCP_FASTOPEN_CONNECT", "", V4 | V6, LEGIT | TUPLE, tcp_fast_open_connect, NULL, 0},
	{"tcp-race", "sockaddr rewritten by another thread during connect", "", V4 | V6, REGISTERED | TUPLE, tcp_race, NULL, 0},
	{"tcp-child", "TCP socket connected by a child process", "", V4 | V6, LEGIT | TUPLE, tcp_child, NULL, 0},
	{"mptcp", "MPTCP connect", "", V4 | V6 | MAPPED, LEGIT | TUPLE | MAY_LACK, mptcp_connect, NULL, 0},
	{"mptcp-subflow", "MPTCP: second subflow to an announced address", "NET_ADMIN", V4 | V6, REGISTERED | TUPLE | MAY_LACK,
	 mptcp_subflow, mptcp_subflow_undo, 0},
	{0},
};
