// SPDX-License-Identifier: Apache-2.0
#include "workload/netns.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <stdio.h>
#include <sys/socket.h>

#include "base/memory.h"

#ifndef SO_NETNS_COOKIE
#define SO_NETNS_COOKIE 71 /* Linux 5.14 */
#endif

#define LISTEN_BACKLOG 4096 /* the kernel caps it at net.core.somaxconn */

static int open_namespace(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	return fd < 0 ? -errno : fd;
}

int netns_open_own(void)
{
	return open_namespace("/proc/thread-self/ns/net");
}

int netns_open_process(pid_t pid)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/ns/net", (int)pid);
	return open_namespace(path);
}

int netns_enter(int netns_fd)
{
	return setns(netns_fd, CLONE_NEWNET) < 0 ? -errno : 0;
}

int netns_cookie_of_socket(int socket_fd, uint64_t *out)
{
	uint64_t cookie;
	socklen_t size = sizeof(cookie);

	if (getsockopt(socket_fd, SOL_SOCKET, SO_NETNS_COOKIE, &cookie, &size) < 0)
		return -errno;
	*out = cookie;
	return 0;
}

int netns_own_cookie(uint64_t *out)
{
	_cleanup_close_ int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	return fd < 0 ? -errno : netns_cookie_of_socket(fd, out);
}

/*
 * Inherited by what is accepted: a client may shut down its end and wait for an answer, and one that is gone after that is told
 * from it by its silence alone.
 */
static bool expect_life(int fd)
{
	const struct {
		int option, value;
	} options[] = {{TCP_KEEPIDLE, 60}, {TCP_KEEPINTVL, 10}, {TCP_KEEPCNT, 3}};
	int on = 1;

	for (size_t i = 0; i < ARRAY_SIZE(options); i++)
		if (setsockopt(fd, IPPROTO_TCP, options[i].option, &options[i].value, sizeof(options[i].value)) < 0)
			return false;
	return setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on)) == 0;
}

/* FREEBIND: a namespace whose lo is not up yet has no loopback address to bind. */
int netns_listen(bool v6, uint16_t port, netns_mark mark, void *context)
{
	struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	struct sockaddr_in6 in6 = {.sin6_family = AF_INET6, .sin6_port = htons(port), .sin6_addr = IN6ADDR_LOOPBACK_INIT};
	_cleanup_close_ int fd = socket(v6 ? AF_INET6 : AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	int on = 1, error;

	if (fd < 0)
		return -errno;
	if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) < 0 ||
	    (v6 && setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on)) < 0) ||
	    setsockopt(fd, v6 ? IPPROTO_IPV6 : IPPROTO_IP, v6 ? IPV6_FREEBIND : IP_FREEBIND, &on, sizeof(on)) < 0 || !expect_life(fd))
		return -errno;
	error = mark(context, fd);
	if (error)
		return error;
	if (bind(fd, v6 ? (struct sockaddr *)&in6 : (struct sockaddr *)&in, v6 ? sizeof(in6) : sizeof(in)) < 0 ||
	    listen(fd, LISTEN_BACKLOG) < 0)
		return -errno;
	return TAKE_FD(fd);
}
