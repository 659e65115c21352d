// SPDX-License-Identifier: Apache-2.0
/*
 * Connects in a loop, one connection at a time, and prints the nanoseconds that one takes from connect() to the end
 * of close(): the median over batches of the mean within a batch. socket() is not in it, which is the same for all.
 *
 *	connect [-d | -x] [-c COUNT] [-s ADDRESSES] ADDRESS PORT
 *
 * Without an option: connect, and close with a reset. -d: expect to be refused. -x: send a byte, read one, close; the
 * whole time of a batch counts, because proxies work on after the close and for many connections at once.
 * -s: dial that many consecutive addresses in turn.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define BATCH 100

struct run {
	struct sockaddr_in to;
	unsigned int count, addresses;
	bool refused, exchange;
};

static double now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec * 1e9 + (double)now.tv_nsec;
}

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static void exchange(int fd)
{
	char byte = 'x';

	if (write(fd, &byte, 1) != 1)
		die("connect: write");
	if (read(fd, &byte, 1) != 1)
		die("connect: read");
}

/* Returns the nanoseconds from connect() to close(). */
static double connect_once(const struct run *run, unsigned int i)
{
	static const struct linger reset = {.l_onoff = 1};
	struct sockaddr_in to = run->to;
	int fd = socket(AF_INET, SOCK_STREAM, 0), result;
	double start;

	if (fd < 0 || (!run->exchange && setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset))))
		die("connect: socket");
	to.sin_addr.s_addr = htonl(ntohl(to.sin_addr.s_addr) + i % run->addresses);
	start = now_ns();
	result = connect(fd, (struct sockaddr *)&to, sizeof(to));
	if (run->refused ? result == 0 || errno != ECONNREFUSED : result < 0) {
		fprintf(stderr, "connect: %s:%u: %s\n", inet_ntoa(to.sin_addr), ntohs(to.sin_port), result ? strerror(errno) : "allowed");
		exit(1);
	}
	if (run->exchange)
		exchange(fd);
	close(fd);
	return now_ns() - start;
}

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static double measure(const struct run *run)
{
	unsigned int batches = run->count / BATCH;
	double *means = calloc(batches, sizeof(*means)), median;

	if (!means)
		die("connect");
	for (unsigned int i = 0; i < BATCH; i++)
		connect_once(run, i);
	for (unsigned int batch = 0; batch < batches; batch++) {
		double start = now_ns(), inside = 0;

		for (unsigned int i = 0; i < BATCH; i++)
			inside += connect_once(run, batch * BATCH + i);
		means[batch] = (run->exchange ? now_ns() - start : inside) / BATCH;
	}
	qsort(means, batches, sizeof(*means), by_value);
	median = means[batches / 2];
	free(means);
	return median;
}

int main(int argc, char **argv)
{
	struct run run = {.to.sin_family = AF_INET, .count = 20000, .addresses = 1};
	int option;

	while ((option = getopt(argc, argv, "dxc:s:")) != -1) {
		if (option == 'd')
			run.refused = true;
		else if (option == 'x')
			run.exchange = true;
		else if (option == 'c')
			run.count = (unsigned int)atoi(optarg);
		else if (option == 's')
			run.addresses = (unsigned int)atoi(optarg);
		else
			return 2;
	}
	if (optind + 2 != argc || inet_pton(AF_INET, argv[optind], &run.to.sin_addr) != 1 || run.count < BATCH || !run.addresses) {
		fprintf(stderr, "usage: connect [-d | -x] [-c COUNT] [-s ADDRESSES] ADDRESS PORT\n");
		return 2;
	}
	run.to.sin_port = htons((unsigned short)atoi(argv[optind + 1]));
	printf("%.0f\n", measure(&run));
	return 0;
}
