// SPDX-License-Identifier: Apache-2.0
/*
 * Sends stdin as it is, in segments and with pauses if asked, and prints what comes back until the end (without CR,
 * bytes that are not text as \xNN); then one line
 *
 *	[end=eof elapsed_ms=12.1 received=311]
 *
 * where `end` is eof, timeout or the name of an errno.
 */
#include <netinet/tcp.h>
#include <stdbool.h>

#include "net.h"

struct options {
	size_t segment;      /* 0: all at once */
	double pause_ms;     /* before each segment but the first */
	double timeout_ms;   /* from the connect on */
	bool half_close;     /* after the last byte */
	bool full_close;     /* as soon as something came back */
	struct endpoint to;
};

static char input[1 << 22];

static size_t read_input(void)
{
	size_t length = fread(input, 1, sizeof(input), stdin);

	if (length == sizeof(input)) {
		fputs("raw: the input is too long\n", stderr);
		exit(2);
	}
	return length;
}

static void show(const char *bytes, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		unsigned char c = (unsigned char)bytes[i];

		if ((c >= ' ' && c < 127) || c == '\n' || c == '\t')
			putchar(c);
		else if (c != '\r')
			printf("\\x%02x", c);
	}
}

/* What came; 0 when nothing more will. */
static int drain(int fd, size_t *received, const char **end)
{
	char buffer[65536];
	ssize_t n = recv(fd, buffer, sizeof(buffer), MSG_DONTWAIT);

	if (n > 0) {
		show(buffer, (size_t)n);
		*received += (size_t)n;
		return 1;
	}
	if (n < 0 && errno == EAGAIN)
		return 1;
	*end = n == 0 ? "eof" : strerrorname_np(errno);
	return 0;
}

static const char *exchange(int fd, const struct options *o, size_t length, size_t *received)
{
	double deadline = now_ms() + o->timeout_ms, next = now_ms();
	size_t sent = 0;
	const char *end = "timeout";
	bool closed = false;

	while (now_ms() < deadline) {
		bool due = sent < length && now_ms() >= next;
		double until = sent < length && next < deadline ? next : deadline;

		if (due) {
			size_t n = o->segment && o->segment < length - sent ? o->segment : length - sent;
			ssize_t done = send(fd, input + sent, n, MSG_NOSIGNAL | MSG_DONTWAIT);

			sent = done > 0 ? sent + (size_t)done : errno == EAGAIN ? sent : length;
			next = now_ms() + (done > 0 ? o->pause_ms : 1);
		}
		if (sent == length && o->half_close && !closed) {
			shutdown(fd, SHUT_WR);
			closed = true;
		}
		if (due && sent < length)
			until = next;
		if (wait_for(fd, POLLIN, until) == 0 && !drain(fd, received, &end))
			break;
		if (o->full_close && *received)
			return "closed";
	}
	return end;
}

int main(int argc, char **argv)
{
	struct options o = {.timeout_ms = 3000};
	size_t received = 0, length;
	const char *end;
	double start;
	int option, fd, one = 1, error;

	while ((option = getopt(argc, argv, "s:w:t:hc")) != -1) {
		switch (option) {
		case 's': o.segment = (size_t)atol(optarg); break;
		case 'w': o.pause_ms = atof(optarg); break;
		case 't': o.timeout_ms = atof(optarg); break;
		case 'h': o.half_close = true; break;
		case 'c': o.full_close = true; break;
		default: return 2;
		}
	}
	if (argc - optind != 2) {
		fputs("usage: raw [-s SEGMENT] [-w PAUSE-MS] [-t MS] [-h] [-c] ADDRESS PORT <BYTES\n", stderr);
		return 2;
	}
	o.to = endpoint_parse(argv[optind], argv[optind + 1]);
	length = read_input();
	start = now_ms();
	fd = socket(o.to.addr.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	error = connect_until(fd, &o.to, start + o.timeout_ms);
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	end = error ? result_name(error) : exchange(fd, &o, length, &received);
	printf("\n[end=%s elapsed_ms=%.1f received=%zu]\n", end, now_ms() - start, received);
	return error != 0;
}
