// SPDX-License-Identifier: Apache-2.0
/*
 * many ADDR PORT HOST COUNT SECONDS: COUNT HTTP requests at once, each on a connection of its own, from one thread.
 * Prints how many were answered with which status, and the fastest and slowest answer in milliseconds.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

struct request {
	int fd;
	int sent;
	uint64_t start_us;
};

static uint64_t now_us(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

static int dial(const char *address, int port)
{
	struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);

	if (fd < 0 || inet_pton(AF_INET, address, &in.sin_addr) != 1)
		return -1;
	if (connect(fd, (struct sockaddr *)&in, sizeof(in)) < 0 && errno != EINPROGRESS) {
		close(fd);
		return -1;
	}
	return fd;
}

static struct request *requests;
static int epoll_fd, open_count, ok, other, failed;
static uint64_t fastest = UINT64_MAX, slowest;
static char text[512];
static size_t length;

static void take_answer(struct request *request)
{
	char answer[2048];
	ssize_t got = recv(request->fd, answer, sizeof(answer) - 1, 0);
	uint64_t took = now_us() - request->start_us;

	if (got > 12 && !strncmp(answer, "HTTP/1.1 ", 9)) {
		fastest = took < fastest ? took : fastest;
		slowest = took > slowest ? took : slowest;
		if (answer[9] == '2' || answer[9] == '3')
			ok++;
		else
			other++;
	} else {
		failed++;
	}
	close(request->fd);
	open_count--;
}

static void serve(int timeout_ms)
{
	struct epoll_event events[256];
	int n = epoll_wait(epoll_fd, events, 256, timeout_ms);

	for (int k = 0; k < n; k++) {
		struct request *request = &requests[events[k].data.u32];
		struct epoll_event event = {.events = EPOLLIN, .data.u32 = events[k].data.u32};

		if (!request->sent && !(events[k].events & (EPOLLERR | EPOLLHUP))) {
			request->sent = 1;
			request->start_us = now_us();
			if (send(request->fd, text, length, MSG_NOSIGNAL) == (ssize_t)length) {
				epoll_ctl(epoll_fd, EPOLL_CTL_MOD, request->fd, &event);
				continue;
			}
		}
		take_answer(request);
	}
}

int main(int argc, char **argv)
{
	struct rlimit limit;
	uint64_t deadline;
	int count;

	if (argc != 6) {
		fprintf(stderr, "usage: many ADDR PORT HOST COUNT SECONDS\n");
		return 2;
	}
	getrlimit(RLIMIT_NOFILE, &limit);
	limit.rlim_cur = limit.rlim_max;
	setrlimit(RLIMIT_NOFILE, &limit);
	epoll_fd = epoll_create1(0);
	count = atoi(argv[4]);
	deadline = now_us() + (uint64_t)atoi(argv[5]) * 1000000;
	requests = calloc((size_t)count, sizeof(*requests));
	length = (size_t)snprintf(text, sizeof(text), "GET / HTTP/1.1\r\nHost: %s\r\n\r\n", argv[3]);
	for (int i = 0; i < count; i++) {
		struct epoll_event event = {.events = EPOLLOUT, .data.u32 = (uint32_t)i};

		requests[i].fd = dial(argv[1], atoi(argv[2]));
		if (requests[i].fd < 0) {
			failed++;
			continue;
		}
		epoll_ctl(epoll_fd, EPOLL_CTL_ADD, requests[i].fd, &event);
		open_count++;
		if (i % 64 == 63)
			serve(0); /* who says nothing for a second is reset */
	}
	while (open_count && now_us() < deadline)
		serve(100);
	printf("answered=%d other_status=%d failed=%d unanswered=%d fastest_ms=%llu slowest_ms=%llu\n", ok, other, failed, open_count,
	       (unsigned long long)(fastest == UINT64_MAX ? 0 : fastest / 1000), (unsigned long long)(slowest / 1000));
	return ok == count ? 0 : 1;
}
