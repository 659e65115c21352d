// SPDX-License-Identifier: Apache-2.0
/*
 * Inbound exchanges, abused. A peer at the forbidden address (tests/escape/run starts it) asks this pod's SERVER_PORT by
 * TCP and, from REMOTE_PORT, by UDP; answering that is allowed, anything else towards it is not. And inbound
 * exchanges that the pod forges: a nested namespace holds the remote's address.
 */
#include <fcntl.h>
#include <linux/tcp.h>
#include <sched.h>
#include <signal.h>

#include "escape.h"

static int serve(struct context *c, int type)
{
	struct endpoint here = with_port(c->own, SERVER_PORT);
	int fd = socket_for(c, type, 0), one = 1;

	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (fd < 0 || bind(fd, (struct sockaddr *)&here.addr, here.length) < 0 || (type == SOCK_STREAM && listen(fd, 4) < 0))
		return failed(c, "a server socket");
	return fd;
}

static int accept_remote(struct context *c, int server)
{
	/* The remote peer asks every 100 ms; a SYN that came before we listened is sent again after a second. */
	if (wait_for(server, POLLIN, now_ms() + 3000) < 0) {
		errno = ETIMEDOUT;
		return failed(c, "the remote peer does not ask");
	}
	return accept4(server, NULL, NULL, SOCK_CLOEXEC);
}

static int hear_remote(struct context *c, int server, struct endpoint *peer)
{
	char buffer[64];

	peer->length = sizeof(peer->addr);
	if (wait_for(server, POLLIN, now_ms() + 3000) < 0 ||
	    recvfrom(server, buffer, sizeof(buffer), 0, (struct sockaddr *)&peer->addr, &peer->length) < 0) {
		errno = ETIMEDOUT;
		return failed(c, "the remote peer does not ask");
	}
	return 0;
}

enum abuse { ACCEPTED_AGAIN, LISTENER_AGAIN, OTHER_PORT, SAME_SOURCE, OTHER_PROTOCOL, RAW_TO_PEER, UDP_OTHER_PORT, UDP_OTHER_SOURCE };

static int connect_again(struct context *c, int fd)
{
	struct sockaddr nobody = {.sa_family = AF_UNSPEC};
	int result;

	if (connect(fd, &nobody, sizeof(nobody)) < 0)
		return failed(c, "AF_UNSPEC");
	result = dial(c, fd, &c->to);
	return result ? result : tell(c, fd);
}

static int from_server_port(struct context *c)
{
	struct endpoint here = with_port(c->own, SERVER_PORT);
	int fd = socket_for(c, SOCK_STREAM, 0), one = 1, result;

	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &one, sizeof(one));
	if (bind(fd, (struct sockaddr *)&here.addr, here.length) < 0)
		return failed(c, "bind");
	result = dial(c, fd, &c->to);
	if (result == 0)
		result = tell(c, fd);
	close_hard(fd);
	return result;
}

static int abuse_tcp(struct context *c)
{
	enum abuse kind = (enum abuse)c->method->variant;
	int server = serve(c, SOCK_STREAM), accepted, result;
	struct packet p = {.source_port = SERVER_PORT};

	if (server < 0)
		return server;
	accepted = accept_remote(c, server);
	if (accepted < 0)
		return accepted;
	switch (kind) {
	case ACCEPTED_AGAIN: result = connect_again(c, accepted); break;
	case LISTENER_AGAIN:
		shutdown(server, SHUT_RDWR);
		result = connect_again(c, server);
		break;
	case OTHER_PORT: result = tcp_to(c, &c->to); break;
	case SAME_SOURCE:
		close(server); /* its accepted connection holds the port */
		server = -1;
		result = from_server_port(c);
		break;
	case OTHER_PROTOCOL: result = udp_to(c, &c->to); break;
	case RAW_TO_PEER: result = shoot(c, VIA_PACKET, &p); break;
	default: result = -EINVAL;
	}
	close_hard(accepted);
	if (server >= 0)
		close_hard(server);
	return result;
}

static int abuse_udp(struct context *c)
{
	int server = serve(c, SOCK_DGRAM), other, result;
	struct endpoint peer;

	if (server < 0)
		return server;
	result = hear_remote(c, server, &peer);
	if (result < 0)
		return result;
	if (c->method->variant == UDP_OTHER_PORT) {
		result = tell_to(c, server, &c->to);
	} else {
		/* To the very port that asked, from a socket that was not asked. */
		other = socket_for(c, SOCK_DGRAM, 0);
		c->patience_ms = 50;
		result = tell_to(c, other, &peer);
		close(other);
	}
	close(server);
	return result;
}

/* ---- forged ---- */

#define BY_STRANGER 0x100 /* the remote is played by a process outside the pod's cgroup */

static const char *forbidden(const struct context *c)
{
	return is_v6(c) ? FORBIDDEN_V6 : FORBIDDEN_V4;
}

/* The child that plays the remote, in the nested namespace: asks once, and stays until it is killed. */
static pid_t play_remote(struct context *c, pid_t nested, int type)
{
	struct endpoint here = with_port(c->own, (uint16_t)(SERVER_PORT + 10)), from = with_port(c->to, c->port);
	char path[64];
	pid_t pid = fork();
	int fd, netns, one = 1;

	if (pid)
		return pid;
	snprintf(path, sizeof(path), "/proc/%d/ns/net", nested);
	netns = open(path, O_RDONLY | O_CLOEXEC);
	if (netns < 0 || setns(netns, CLONE_NEWNET) < 0 || (c->method->variant & BY_STRANGER && join_outside() < 0))
		_exit(1);
	fd = socket_for(c, type, 0);
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (bind(fd, (struct sockaddr *)&from.addr, from.length) < 0 || dial(c, fd, &here) < 0 || send(fd, "question", 8, 0) < 0)
		_exit(1);
	pause();
	_exit(0);
}

/* From here on the remote's address leads to the remote. */
static int forget_nested_route(const struct context *c)
{
	char name[16];

	nested_name(c, name);
	return sh("ip %s route del %s dev %s", is_v6(c) ? "-6" : "-4", forbidden(c), name);
}

static int forged(struct context *c)
{
	int type = c->method->variant & 0xff, server, fd, result = 0, one = 1;
	struct endpoint here = with_port(c->own, (uint16_t)(SERVER_PORT + 10)), peer = {.length = sizeof(peer.addr)};
	pid_t nested = nest(c, c->method->variant & BY_STRANGER), remote = -1;
	char buffer[64];

	if (nested < 0)
		return nested;
	server = socket_for(c, type, 0);
	setsockopt(server, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (bind(server, (struct sockaddr *)&here.addr, here.length) < 0 || (type == SOCK_STREAM && listen(server, 4) < 0))
		return failed(c, "a server socket");
	result = nest_veth(c, nested, FORBIDDEN_V4, FORBIDDEN_V6);
	if (result == 0)
		remote = play_remote(c, nested, type);
	if (remote > 0 && wait_for(server, POLLIN, now_ms() + 1500) < 0) {
		errno = ETIMEDOUT;
		result = failed(c, "the forged connection does not arrive");
	}
	fd = server;
	if (result == 0 && type == SOCK_STREAM)
		fd = accept4(server, NULL, NULL, SOCK_CLOEXEC);
	if (result == 0 && (fd < 0 || recvfrom(fd, buffer, sizeof(buffer), 0, (struct sockaddr *)&peer.addr, &peer.length) < 0))
		result = failed(c, "accept");
	if (result == 0 && forget_nested_route(c) < 0)
		result = failed(c, "route del");
	c->patience_ms = 50;
	if (result == 0)
		result = type == SOCK_STREAM ? tell(c, fd) : tell_to(c, fd, &peer);
	close_hard(fd);
	if (remote > 0)
		kill(remote, SIGKILL);
	kill(nested, SIGKILL);
	return result;
}

const struct method inbound_methods[] = {
	{"inbound-accepted-again", "accepted socket, AF_UNSPEC, connect to the peer's other port", "", V4 | V6, TUPLE, abuse_tcp, NULL, ACCEPTED_AGAIN},
	{"inbound-listener-again", "listening socket, shut down, connect", "", V4 | V6, TUPLE, abuse_tcp, NULL, LISTENER_AGAIN},
	{"inbound-other-port", "connect to another port of a peer that connected in", "", V4 | V6, TUPLE, abuse_tcp, NULL, OTHER_PORT},
	{"inbound-same-source", "the same from the server's own port", "", V4 | V6, TUPLE, abuse_tcp, NULL, SAME_SOURCE},
	{"inbound-other-protocol", "UDP to a peer that connected in by TCP", "", V4 | V6, TUPLE, abuse_tcp, NULL, OTHER_PROTOCOL},
	{"inbound-frame", "a frame to a peer that connected in", "NET_RAW", V4 | V6, TUPLE, abuse_tcp, NULL, RAW_TO_PEER},
	{"inbound-udp-other-port", "a UDP server sends to another port of who asked", "", V4 | V6, TUPLE, abuse_udp, NULL, UDP_OTHER_PORT},
	{"inbound-udp-other-source", "another socket sends to the UDP port that asked", "", V4 | V6, 0, abuse_udp, NULL, UDP_OTHER_SOURCE},
	{"forged-tcp", "forged inbound TCP connection: a nested namespace holds the remote's address", "NET_ADMIN", V4 | V6, TUPLE, forged,
	 nested_end, SOCK_STREAM},
	{"forged-udp", "forged inbound UDP: a nested namespace holds the remote's address", "NET_ADMIN", V4 | V6, TUPLE, forged, nested_end,
	 SOCK_DGRAM},
	{"forged-tcp-stranger", "the same TCP connection, made from another cgroup", "NET_ADMIN, cgroupfs", V4 | V6, TUPLE, forged, nested_end,
	 SOCK_STREAM | BY_STRANGER},
	{"forged-udp-stranger", "the same UDP, made from another cgroup", "NET_ADMIN, cgroupfs", V4 | V6, TUPLE, forged, nested_end,
	 SOCK_DGRAM | BY_STRANGER},
	{0},
};
