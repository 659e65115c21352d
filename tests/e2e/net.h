/* SPDX-License-Identifier: Apache-2.0 */
/* What the end-to-end helpers share. */
#ifndef TESTS_E2E_NET_H
#define TESTS_E2E_NET_H

#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

struct endpoint {
	struct sockaddr_storage addr;
	socklen_t length;
};

/* A literal address; ::ffff:a.b.c.d stays an IPv6 sockaddr, so that the v4-mapped path is taken. */
static inline struct endpoint endpoint_parse(const char *address, const char *port)
{
	struct endpoint e = {0};
	struct sockaddr_in *v4 = (struct sockaddr_in *)&e.addr;
	struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)&e.addr;

	if (inet_pton(AF_INET, address, &v4->sin_addr) == 1) {
		v4->sin_family = AF_INET;
		v4->sin_port = htons((uint16_t)atoi(port));
		e.length = sizeof(*v4);
	} else if (inet_pton(AF_INET6, address, &v6->sin6_addr) == 1) {
		v6->sin6_family = AF_INET6;
		v6->sin6_port = htons((uint16_t)atoi(port));
		e.length = sizeof(*v6);
	} else {
		fprintf(stderr, "\"%s\" is not an address\n", address);
		exit(2);
	}
	return e;
}

static inline void endpoint_print(FILE *out, const char *name, const struct endpoint *e)
{
	const struct sockaddr_in *v4 = (const struct sockaddr_in *)&e->addr;
	const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)&e->addr;
	char text[INET6_ADDRSTRLEN] = "-";
	int is_v4 = e->addr.ss_family == AF_INET;

	if (e->length)
		inet_ntop(e->addr.ss_family, is_v4 ? (const void *)&v4->sin_addr : (const void *)&v6->sin6_addr, text, sizeof(text));
	fprintf(out, " %s=%s,%u", name, text, e->length ? ntohs(is_v4 ? v4->sin_port : v6->sin6_port) : 0);
}

static inline double now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

/* Waits for `events` on fd until `deadline` (now_ms); 0 or -ETIMEDOUT. */
static inline int wait_for(int fd, short events, double deadline)
{
	struct pollfd p = {.fd = fd, .events = events};
	double left = deadline - now_ms();

	return left > 0 && poll(&p, 1, (int)left + 1) > 0 ? 0 : -ETIMEDOUT;
}

/* Connects a non-blocking socket; 0 or -errno. */
static inline int connect_until(int fd, const struct endpoint *to, double deadline)
{
	int error = 0;
	socklen_t size = sizeof(error);

	if (connect(fd, (const struct sockaddr *)&to->addr, to->length) == 0)
		return 0;
	if (errno != EINPROGRESS)
		return -errno;
	if (wait_for(fd, POLLOUT, deadline) < 0)
		return -ETIMEDOUT;
	getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size);
	return -error;
}

/* Some bytes, 0 at the end, or -errno. */
static inline ssize_t receive_until(int fd, void *buffer, size_t room, double deadline)
{
	ssize_t n;

	do {
		n = recv(fd, buffer, room, MSG_DONTWAIT);
		if (n >= 0)
			return n;
		if (errno != EAGAIN)
			return -errno;
	} while (wait_for(fd, POLLIN, deadline) == 0);
	return -ETIMEDOUT;
}

static inline const char *result_name(int result)
{
	return result == 0 ? "ok" : strerrorname_np(-result);
}

#endif
