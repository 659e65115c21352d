// SPDX-License-Identifier: Apache-2.0
/*
 * One connection or one datagram, and what became of it, as `key=value` on one line:
 *
 *	result=ok stage=data elapsed_ms=0.21 peer=203.0.113.12,9000 local=10.88.0.2,40312 data=hello
 *
 * `result` is "ok" or the name of an errno, `stage` is what was last tried, `elapsed_ms` the time until then.
 */
#include <net/if.h>

#include "net.h"

struct options {
	const char *kind, *data, *device;
	double timeout_ms;
	int v6_socket; /* send an IPv4 sockaddr through an IPv6 socket */
	struct endpoint to, from;
};

struct outcome {
	const char *stage;
	int result;
	struct endpoint peer, local;
	char data[2048];
};

static int open_socket(const struct options *o, int type)
{
	int fd = socket(o->v6_socket ? AF_INET6 : o->to.addr.ss_family, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	int one = 1;

	if (fd < 0)
		return -errno;
	if (o->device && setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, o->device, (socklen_t)strlen(o->device) + 1) < 0)
		return -errno;
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (o->from.length && bind(fd, (const struct sockaddr *)&o->from.addr, o->from.length) < 0)
		return -errno;
	return fd;
}

static void note_names(int fd, struct outcome *out)
{
	out->peer.length = out->local.length = sizeof(out->peer.addr);
	if (getpeername(fd, (struct sockaddr *)&out->peer.addr, &out->peer.length) < 0)
		out->peer.length = 0;
	if (getsockname(fd, (struct sockaddr *)&out->local.addr, &out->local.length) < 0)
		out->local.length = 0;
}

static int expect_echo(int fd, const struct options *o, struct outcome *out, double deadline)
{
	size_t want = strlen(o->data), got = 0;
	ssize_t n;

	while (got < want) {
		n = receive_until(fd, out->data + got, sizeof(out->data) - 1 - got, deadline);
		if (n <= 0)
			return n < 0 ? (int)n : -ENODATA;
		got += (size_t)n;
	}
	return strcmp(out->data, o->data) == 0 ? 0 : -EBADMSG;
}

static int probe(const struct options *o, struct outcome *out)
{
	double deadline = now_ms() + o->timeout_ms;
	int is_udp = strcmp(o->kind, "tcp") != 0, connects = strcmp(o->kind, "udp") != 0;
	int fd = open_socket(o, is_udp ? SOCK_DGRAM : SOCK_STREAM), error = 0;
	const struct sockaddr *to = connects ? NULL : (const struct sockaddr *)&o->to.addr;

	out->stage = "socket";
	if (fd < 0)
		return fd;
	if (connects) {
		out->stage = "connect";
		error = connect_until(fd, &o->to, deadline);
		note_names(fd, out);
	}
	if (!error && (o->data || is_udp)) {
		const char *data = o->data ? o->data : "x";

		out->stage = "send";
		if (sendto(fd, data, strlen(data), MSG_NOSIGNAL, to, to ? o->to.length : 0) < 0)
			error = -errno;
		note_names(fd, out);
	}
	if (!error && o->data) {
		out->stage = "data";
		error = expect_echo(fd, o, out, deadline);
	}
	close(fd);
	return error;
}

/* Answers every datagram to whoever sent it, from an unconnected socket, as a DNS server does. */
static int serve_udp(const struct options *o)
{
	struct sockaddr_storage peer;
	socklen_t length = sizeof(peer);
	char data[2048];
	ssize_t n;
	int fd = socket(o->to.addr.ss_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	if (fd < 0 || bind(fd, (const struct sockaddr *)&o->to.addr, o->to.length) < 0)
		return -errno;
	puts("ready");
	fflush(stdout);
	while (wait_for(fd, POLLIN, now_ms() + o->timeout_ms) == 0) {
		length = sizeof(peer);
		n = recvfrom(fd, data, sizeof(data), 0, (struct sockaddr *)&peer, &length);
		if (n >= 0 && sendto(fd, data, (size_t)n, 0, (struct sockaddr *)&peer, length) < 0)
			printf("answer=%s\n", strerrorname_np(errno));
	}
	return 0;
}

static void usage(void)
{
	fputs("usage: probe [-t MS] [-d DATA] [-i DEVICE] [-b ADDRESS] [-p LOCAL-PORT] [-6] "
	      "tcp|udp|udp-connected|serve-udp ADDRESS PORT\n", stderr);
	exit(2);
}

int main(int argc, char **argv)
{
	struct options o = {.timeout_ms = 3000};
	struct outcome out = {0};
	const char *from = NULL, *from_port = "0";
	double start;
	int option;

	while ((option = getopt(argc, argv, "t:d:i:b:p:6")) != -1) {
		switch (option) {
		case 't': o.timeout_ms = atof(optarg); break;
		case 'd': o.data = optarg; break;
		case 'i': o.device = optarg; break;
		case 'b': from = optarg; break;
		case 'p': from_port = optarg; break;
		case '6': o.v6_socket = 1; break;
		default: usage();
		}
	}
	if (argc - optind != 3)
		usage();
	o.kind = argv[optind];
	o.to = endpoint_parse(argv[optind + 1], argv[optind + 2]);
	if (from)
		o.from = endpoint_parse(from, from_port);
	if (strcmp(o.kind, "serve-udp") == 0)
		return serve_udp(&o) < 0;
	start = now_ms();
	out.result = probe(&o, &out);
	printf("result=%s stage=%s elapsed_ms=%.2f", result_name(out.result), out.stage, now_ms() - start);
	endpoint_print(stdout, "peer", &out.peer);
	endpoint_print(stdout, "local", &out.local);
	printf(" data=%s\n", out.data);
	return out.result != 0;
}
