// SPDX-License-Identifier: Apache-2.0
/*
 * The server of the benchmarks, on every address:
 *	7000	completes handshakes without ever being woken (TCP_DEFER_ACCEPT), so that only the client is measured
 *	7001	answers each read with the same bytes
 */
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define SINK_PORT 7000
#define ECHO_PORT 7001
#define DEFER_SECONDS 60

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static int listen_on(unsigned short port, int defer_seconds)
{
	struct sockaddr_in any = {.sin_family = AF_INET, .sin_port = htons(port)};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), on = 1;

	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) ||
	    setsockopt(fd, IPPROTO_TCP, TCP_DEFER_ACCEPT, &defer_seconds, sizeof(defer_seconds)) ||
	    bind(fd, (struct sockaddr *)&any, sizeof(any)) || listen(fd, 4096))
		die("backend: listen");
	return fd;
}

static void watch(int epoll, int fd)
{
	struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};

	if (fd >= 0 && epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event))
		die("backend: epoll");
}

static void answer(int fd)
{
	char bytes[4096];
	ssize_t n = read(fd, bytes, sizeof(bytes));

	if (n <= 0 || write(fd, bytes, (size_t)n) != n)
		close(fd);
}

int main(void)
{
	int sink = listen_on(SINK_PORT, DEFER_SECONDS), echo = listen_on(ECHO_PORT, 0), epoll = epoll_create1(EPOLL_CLOEXEC);
	struct epoll_event events[64];

	watch(epoll, sink);
	watch(epoll, echo);
	for (;;) {
		int n = epoll_wait(epoll, events, 64, -1);

		for (int i = 0; i < n; i++) {
			if (events[i].data.fd == sink)
				close(accept4(sink, NULL, NULL, SOCK_CLOEXEC));
			else if (events[i].data.fd == echo)
				watch(epoll, accept4(echo, NULL, NULL, SOCK_CLOEXEC));
			else
				answer(events[i].data.fd);
		}
	}
}
