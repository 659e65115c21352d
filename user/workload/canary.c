// SPDX-License-Identifier: Apache-2.0
#include "workload/canary.h"

#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
#include <netinet/in.h>
#include <linux/ipv6.h>
#include <poll.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "base/log.h"
#include "base/memory.h"
#include "workload/netns.h"

#define ADDRESS_V4 "198.18.0.1" /* RFC 2544: for benchmarks, never on the Internet */
#define ADDRESS_V6 "2001:2::1"  /* RFC 5180: the same */
#define LOOPBACK_INDEX 1
#define ARRIVAL_MS 300 /* what is sent over lo has arrived when the call returns, unless the machine is very busy */

union address {
	struct sockaddr any;
	struct sockaddr_in v4;
	struct sockaddr_in6 v6;
};

/* One address family: whom the attempts go to. Sockets -1: the kernel has no such family. */
struct target {
	const char *text;
	union address tcp, udp;
	socklen_t size;
	int listener, receiver;
};

struct canary {
	struct kernel *kernel;
	uint16_t redirector_port;
	int own_fd, netns_fd; /* -1: none yet */
	uint64_t cookie;
	struct target targets[2];
	char *why; /* of the check under way */
	size_t room;
};

static int fail(const struct canary *canary, const char *format, ...) __attribute__((format(printf, 2, 3)));
static int fail(const struct canary *canary, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(canary->why, canary->room, format, args);
	va_end(args);
	return -EPERM;
}

/* ---- its namespace ---- */

static int add_v4(void)
{
	_cleanup_close_ int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	struct ifreq up = {.ifr_name = "lo", .ifr_flags = IFF_UP}, alias = {.ifr_name = "lo:0"};
	struct sockaddr_in address = {.sin_family = AF_INET};

	inet_pton(AF_INET, ADDRESS_V4, &address.sin_addr);
	memcpy(&alias.ifr_addr, &address, sizeof(address));
	return fd < 0 || ioctl(fd, SIOCSIFFLAGS, &up) < 0 || ioctl(fd, SIOCSIFADDR, &alias) < 0 ? -errno : 0;
}

static int add_v6(void)
{
	_cleanup_close_ int fd = socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	struct in6_ifreq address = {.ifr6_prefixlen = 128, .ifr6_ifindex = LOOPBACK_INDEX};

	inet_pton(AF_INET6, ADDRESS_V6, &address.ifr6_addr);
	return fd < 0 || ioctl(fd, SIOCSIFADDR, &address) < 0 ? -errno : 0;
}

static int make_socket(const struct canary *canary, const struct target *target, int type, uint32_t mark)
{
	_cleanup_close_ int fd = socket(target->tcp.any.sa_family, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	struct linger no_time_wait = {1, 0};
	int error = 0;

	if (fd < 0)
		return -errno;
	if (type == SOCK_STREAM)
		setsockopt(fd, SOL_SOCKET, SO_LINGER, &no_time_wait, sizeof(no_time_wait));
	if (mark)
		error = kernel_mark_socket(canary->kernel, fd, mark, 0);
	return error ? error : TAKE_FD(fd);
}

static int bind_any_port(int fd, union address *address, socklen_t size)
{
	return bind(fd, &address->any, size) < 0 || getsockname(fd, &address->any, &size) < 0 ? -errno : 0;
}

static int open_target(const struct canary *canary, struct target *target)
{
	int error;

	target->udp = target->tcp;
	/* Marked: what the kernel sends for them, a SYN-ACK, is sluice's own. */
	target->listener = make_socket(canary, target, SOCK_STREAM, MARK_OWN);
	target->receiver = make_socket(canary, target, SOCK_DGRAM, MARK_OWN);
	if (target->listener < 0 || target->receiver < 0)
		return target->listener < 0 ? target->listener : target->receiver;
	error = bind_any_port(target->listener, &target->tcp, target->size);
	if (!error)
		error = bind_any_port(target->receiver, &target->udp, target->size);
	return error ? error : listen(target->listener, 8) < 0 ? -errno : 0;
}

static void close_target(struct target *target)
{
	if (target->listener >= 0)
		close(target->listener);
	if (target->receiver >= 0)
		close(target->receiver);
	target->listener = target->receiver = -1;
}

static int furnish(struct canary *canary)
{
	struct target *v4 = &canary->targets[0], *v6 = &canary->targets[1];
	int error = add_v4();

	if (!error)
		error = netns_own_cookie(&canary->cookie);
	if (!error)
		error = open_target(canary, v4);
	/* Without IPv6 there is none to refuse. */
	if (!error && (add_v6() || open_target(canary, v6)))
		close_target(v6);
	return error;
}

/* The thread comes back in any case, or the process ends. */
static void come_back(const struct canary *canary)
{
	if (!netns_enter(canary->own_fd))
		return;
	log_error("canary: cannot return from its network namespace: %s; restarting", strerror(errno));
	abort();
}

static void leave(struct canary *canary)
{
	for (size_t i = 0; i < ARRAY_SIZE(canary->targets); i++)
		close_target(&canary->targets[i]);
	if (canary->netns_fd >= 0)
		close(canary->netns_fd);
	canary->netns_fd = -1;
}

static int settle(struct canary *canary)
{
	struct netns_value value = {.workload = WORKLOAD_CANARY, .is_identity = 1, .name = "(canary)"};
	int error;

	if (canary->own_fd < 0)
		canary->own_fd = netns_open_own();
	if (canary->own_fd < 0)
		return fail(canary, "canary: cannot open the daemon's network namespace: %s", strerror(-canary->own_fd));
	if (unshare(CLONE_NEWNET) < 0)
		return fail(canary, "canary: cannot make its network namespace: %s", strerror(errno));
	canary->netns_fd = netns_open_own();
	error = canary->netns_fd < 0 ? canary->netns_fd : furnish(canary);
	come_back(canary);
	if (!error)
		error = kernel_set_netns(canary->kernel, canary->cookie, &value);
	if (!error)
		return 0;
	leave(canary);
	return fail(canary, "canary: cannot set up its network namespace: %s", strerror(-error));
}

/* ---- what must be refused ---- */

static bool wait_for(int fd, short events)
{
	struct pollfd ready = {.fd = fd, .events = events};

	return poll(&ready, 1, ARRIVAL_MS) == 1;
}

static int connect_refused(const struct canary *canary, const struct target *target, int type)
{
	_cleanup_close_ int fd = make_socket(canary, target, type, 0);
	const union address *to = type == SOCK_STREAM ? &target->tcp : &target->udp;

	if (fd < 0)
		return fail(canary, "canary: socket: %s", strerror(-fd));
	if (connect(fd, &to->any, target->size) < 0 && errno == ECONNREFUSED)
		return 0;
	return fail(canary, "canary: a %s connect to %s was not refused", type == SOCK_STREAM ? "TCP" : "UDP", target->text);
}

static int datagram_refused(const struct canary *canary, const struct target *target)
{
	_cleanup_close_ int fd = make_socket(canary, target, SOCK_DGRAM, 0);

	if (fd < 0)
		return fail(canary, "canary: socket: %s", strerror(-fd));
	if (sendto(fd, "stray", 5, 0, &target->udp.any, target->size) < 0 && errno == ECONNREFUSED)
		return 0;
	return fail(canary, "canary: a datagram to %s was not refused", target->text);
}

/* A socket that was connected before sluice governed it: only its packets can be judged. */
static int packet_refused(const struct canary *canary, const struct target *target)
{
	_cleanup_close_ int fd = make_socket(canary, target, SOCK_DGRAM, MARK_OWN);
	int error = fd < 0 ? fd : connect(fd, &target->udp.any, target->size) < 0 ? -errno : 0;

	if (!error)
		error = kernel_mark_socket(canary->kernel, fd, 0, 0);
	if (error)
		return fail(canary, "canary: a socket with sluice's mark: %s", strerror(-error));
	if (send(fd, "stray", 5, 0) < 0 && errno == EPERM)
		return 0;
	return fail(canary, "canary: a packet of a connected socket to %s was not dropped", target->text);
}

static int bind_port(const struct canary *canary, const struct target *target, uint32_t mark)
{
	_cleanup_close_ int fd = make_socket(canary, target, SOCK_STREAM, mark);
	union address address = target->tcp;

	address.v4.sin_port = htons(canary->redirector_port); /* at the same place in both families */
	return fd < 0 ? fd : bind(fd, &address.any, target->size) < 0 ? -errno : 0;
}

static int port_refused(const struct canary *canary, const struct target *target)
{
	if (bind_port(canary, target, 0) != -EADDRINUSE)
		return fail(canary, "canary: the redirector's port could be bound at %s", target->text);
	return 0;
}

static int nothing_arrived(const struct canary *canary, const struct target *target)
{
	_cleanup_close_ int accepted = accept4(target->listener, NULL, NULL, SOCK_CLOEXEC);
	char bytes[16];

	if (accepted >= 0)
		return fail(canary, "canary: a refused connection arrived at %s", target->text);
	if (recv(target->receiver, bytes, sizeof(bytes), MSG_DONTWAIT) >= 0)
		return fail(canary, "canary: a refused datagram arrived at %s", target->text);
	return 0;
}

/* ---- what must not: else something else than a hook refuses ---- */

static int own_connect_arrives(const struct canary *canary, const struct target *target)
{
	_cleanup_close_ int fd = make_socket(canary, target, SOCK_STREAM, MARK_OWN), accepted = -1;

	if (fd >= 0 && (connect(fd, &target->tcp.any, target->size) == 0 || errno == EINPROGRESS) && wait_for(target->listener, POLLIN))
		accepted = accept4(target->listener, NULL, NULL, SOCK_CLOEXEC);
	return accepted >= 0 ? 0 : fail(canary, "canary: sluice's own connection to %s fails: what refuses the others may be no hook", target->text);
}

static int own_datagram_arrives(const struct canary *canary, const struct target *target)
{
	_cleanup_close_ int fd = make_socket(canary, target, SOCK_DGRAM, MARK_OWN);
	char bytes[16];

	if (fd >= 0 && sendto(fd, "own", 3, 0, &target->udp.any, target->size) == 3 && wait_for(target->receiver, POLLIN) &&
	    recv(target->receiver, bytes, sizeof(bytes), MSG_DONTWAIT) == 3)
		return 0;
	return fail(canary, "canary: sluice's own datagram to %s is lost: what refuses the others may be no hook", target->text);
}

static int own_bind_succeeds(const struct canary *canary, const struct target *target)
{
	int error = bind_port(canary, target, MARK_OWN);

	return error ? fail(canary, "canary: sluice itself cannot bind the redirector's port at %s: %s", target->text, strerror(-error)) : 0;
}

/* What a failed check let through is not held against the next. */
static void drain(const struct target *target)
{
	char bytes[16];
	int fd;

	while ((fd = accept4(target->listener, NULL, NULL, SOCK_CLOEXEC)) >= 0)
		close(fd);
	while (recv(target->receiver, bytes, sizeof(bytes), MSG_DONTWAIT) >= 0)
		;
}

static int try_target(const struct canary *canary, const struct target *target)
{
	/* First what came late since the last time. */
	int error = nothing_arrived(canary, target);

	if (!error)
		error = connect_refused(canary, target, SOCK_STREAM);
	if (!error)
		error = connect_refused(canary, target, SOCK_DGRAM);
	if (!error)
		error = datagram_refused(canary, target);
	if (!error && kernel_has(canary->kernel, FEATURE_GUARD))
		error = packet_refused(canary, target);
	if (!error && kernel_has(canary->kernel, FEATURE_BIND))
		error = port_refused(canary, target);
	if (!error)
		error = nothing_arrived(canary, target);
	if (!error)
		error = own_connect_arrives(canary, target);
	if (!error)
		error = own_datagram_arrives(canary, target);
	return error ? error : own_bind_succeeds(canary, target);
}

static int check_target(const struct canary *canary, const struct target *target)
{
	int error = try_target(canary, target);

	if (error)
		drain(target);
	return error;
}

int canary_check(struct canary *canary, char *why, size_t room)
{
	int error;

	canary->why = why;
	canary->room = room;
	error = canary->netns_fd < 0 ? settle(canary) : 0;
	if (error)
		return error;
	error = netns_enter(canary->netns_fd);
	if (error)
		return fail(canary, "canary: cannot enter its network namespace: %s", strerror(-error));
	for (size_t i = 0; i < ARRAY_SIZE(canary->targets) && !error; i++)
		if (canary->targets[i].listener >= 0)
			error = check_target(canary, &canary->targets[i]);
	come_back(canary);
	return error;
}

/* ---- life ---- */

static void drop_predecessor(void *context, uint64_t cookie, const struct netns_value *value)
{
	if (value->workload == WORKLOAD_CANARY)
		kernel_delete_netns(context, cookie);
}

struct canary *canary_new(struct kernel *kernel, uint16_t redirector_port)
{
	struct canary *canary = xcalloc(1, sizeof(*canary));
	struct target *v4 = &canary->targets[0], *v6 = &canary->targets[1];

	canary->kernel = kernel;
	canary->redirector_port = redirector_port;
	canary->own_fd = canary->netns_fd = -1;
	*v4 = (struct target){.text = ADDRESS_V4, .size = sizeof(v4->tcp.v4), .listener = -1, .receiver = -1};
	*v6 = (struct target){.text = ADDRESS_V6, .size = sizeof(v6->tcp.v6), .listener = -1, .receiver = -1};
	v4->tcp.v4.sin_family = AF_INET;
	inet_pton(AF_INET, ADDRESS_V4, &v4->tcp.v4.sin_addr);
	v6->tcp.v6.sin6_family = AF_INET6;
	inet_pton(AF_INET6, ADDRESS_V6, &v6->tcp.v6.sin6_addr);
	kernel_each_netns(kernel, drop_predecessor, kernel); /* of a loader that was killed */
	return canary;
}

void canary_free(struct canary *canary)
{
	if (!canary)
		return;
	if (canary->netns_fd >= 0)
		kernel_delete_netns(canary->kernel, canary->cookie);
	leave(canary);
	if (canary->own_fd >= 0)
		close(canary->own_fd);
	free(canary);
}
