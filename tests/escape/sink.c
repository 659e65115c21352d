// SPDX-License-Identifier: Apache-2.0
/* The peers: echo servers at every row's port, the remote that asks pods, and the client of the legitimate rows. */
#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/resource.h>

#include "escape.h"

enum peer_kind { LISTENER, DATAGRAM, STREAM };

static int queue;

static void watch(int fd, enum peer_kind kind)
{
	struct epoll_event event = {.events = EPOLLIN, .data.u64 = (uint64_t)kind << 32 | (uint32_t)fd};

	epoll_ctl(queue, EPOLL_CTL_ADD, fd, &event);
}

static void serve(const char *address, uint16_t port, int type, int protocol)
{
	char number[8];
	struct endpoint here;
	int fd, one = 1;

	snprintf(number, sizeof(number), "%u", port);
	here = endpoint_parse(address, number);
	fd = socket(here.addr.ss_family, type | SOCK_CLOEXEC | SOCK_NONBLOCK, protocol);
	if (fd < 0)
		return; /* a kernel without that protocol: its rows say so */
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (here.addr.ss_family == AF_INET6)
		setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof(one));
	if (bind(fd, (struct sockaddr *)&here.addr, here.length) < 0 || (type == SOCK_STREAM && listen(fd, 64) < 0)) {
		fprintf(stderr, "escape: %s port %u: %s\n", address, port, strerror(errno));
		exit(1);
	}
	watch(fd, type == SOCK_STREAM ? LISTENER : DATAGRAM);
}

/* What came is said, for who cannot sniff here, and sent back. */
static void echo(int fd, enum peer_kind kind)
{
	static char buffer[65536];
	struct sockaddr_storage peer;
	socklen_t size = sizeof(peer);
	ssize_t n;
	char *at;

	if (kind == LISTENER) {
		int client = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

		if (client >= 0)
			watch(client, STREAM);
		return;
	}
	n = recvfrom(fd, buffer, sizeof(buffer), 0, (struct sockaddr *)&peer, &size);
	if (n <= 0) {
		if (kind == STREAM && (n == 0 || errno != EAGAIN))
			close(fd);
		return;
	}
	at = memmem(buffer, (size_t)n, TOKEN_MAGIC, sizeof(TOKEN_MAGIC) - 1);
	if (at && buffer + n - at >= TOKEN_LENGTH)
		printf("token %.*s\n", TOKEN_LENGTH, at);
	if (kind == DATAGRAM) {
		sendto(fd, buffer, (size_t)n, 0, (struct sockaddr *)&peer, size);
		return;
	}
	fcntl(fd, F_SETFL, 0);
	(void)!send(fd, buffer, (size_t)n, MSG_NOSIGNAL);
	fcntl(fd, F_SETFL, O_NONBLOCK);
}

static bool begins(const char *text, const char *with)
{
	return strncmp(text, with, strlen(with)) == 0;
}

/* sink rows ADDRESS... | sink PORT ADDRESS... */
int sink_main(int argc, char **argv)
{
	struct rlimit files = {20000, 20000};
	struct epoll_event event;
	const struct method *m;

	if (argc < 3)
		return 2;
	setrlimit(RLIMIT_NOFILE, &files);
	setvbuf(stdout, NULL, _IOLBF, 0);
	queue = epoll_create1(EPOLL_CLOEXEC);
	for (int i = 2; i < argc; i++) {
		enum family mine = strchr(argv[i], ':') ? V6 : V4;

		if (strcmp(argv[1], "rows") != 0) {
			serve(argv[i], (uint16_t)atoi(argv[1]), SOCK_STREAM, 0);
			serve(argv[i], (uint16_t)atoi(argv[1]), SOCK_DGRAM, 0);
			continue;
		}
		serve(argv[i], UNREGISTERED_PORT, SOCK_STREAM, 0);
		serve(argv[i], UNREGISTERED_PORT, SOCK_DGRAM, 0);
		for (size_t at = 0; (m = method_at(at)); at++) {
			for (enum family family = V4; family <= MAPPED; family <<= 1) {
				if (!(m->families & family) || (family == V6) != (mine == V6))
					continue;
				serve(argv[i], port_of(at, family), SOCK_STREAM,
				      begins(m->name, "mptcp") || begins(m->name, "open-mptcp") ? 262 : 0);
				serve(argv[i], port_of(at, family), SOCK_DGRAM, 0);
				if (begins(m->name, "udplite"))
					serve(argv[i], port_of(at, family), SOCK_DGRAM, IPPROTO_UDPLITE);
			}
		}
	}
	puts("ready");
	for (;;)
		if (epoll_wait(queue, &event, 1, -1) == 1)
			echo((int)(uint32_t)event.data.u64, (enum peer_kind)(event.data.u64 >> 32));
}

/* The forbidden address asks pods, each 100 ms, by TCP and UDP: remote POD-ADDRESS... */
int remote_main(int argc, char **argv)
{
	double end = now_ms() + 900000;
	int datagram[2], fds[64];
	char port[8];

	if (argc < 2 || argc > 64)
		return 2;
	for (int v6 = 0; v6 < 2; v6++) {
		struct endpoint from;

		snprintf(port, sizeof(port), "%d", REMOTE_PORT);
		from = endpoint_parse(v6 ? FORBIDDEN_V6 : FORBIDDEN_V4, port);
		datagram[v6] = socket(from.addr.ss_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
		if (bind(datagram[v6], (struct sockaddr *)&from.addr, from.length) < 0)
			return 1;
	}
	puts("ready");
	fflush(stdout);
	snprintf(port, sizeof(port), "%d", SERVER_PORT);
	while (now_ms() < end) {
		for (int i = 1; i < argc; i++) {
			struct endpoint to = endpoint_parse(argv[i], port), from;
			bool v6 = to.addr.ss_family == AF_INET6;

			from = endpoint_parse(v6 ? FORBIDDEN_V6 : FORBIDDEN_V4, "0");
			sendto(datagram[v6], "question", 8, MSG_DONTWAIT, (struct sockaddr *)&to.addr, to.length);
			fds[i] = socket(to.addr.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
			bind(fds[i], (struct sockaddr *)&from.addr, from.length);
			(void)!connect(fds[i], (struct sockaddr *)&to.addr, to.length);
		}
		pause_ms(100);
		for (int i = 1; i < argc; i++)
			close(fds[i]);
	}
	return 0;
}

/* One echo; 0 if it comes back. */
static int ping(const struct endpoint *to, const struct endpoint *from)
{
	bool v6 = to->addr.ss_family == AF_INET6;
	int fd = socket(to->addr.ss_family, SOCK_DGRAM | SOCK_CLOEXEC, v6 ? (int)IPPROTO_ICMPV6 : (int)IPPROTO_ICMP);
	uint8_t echo[16] = {v6 ? 128 : 8, 0, 0, 0, 0, 0, 0, 1, 'e', 's', 'c'}, back[64];
	ssize_t n;

	if (fd < 0 || (from && bind(fd, (const struct sockaddr *)&from->addr, from->length) < 0) ||
	    sendto(fd, echo, sizeof(echo), 0, (const struct sockaddr *)&to->addr, to->length) < 0)
		return printf("ping: %s\n", strerrorname_np(errno)), 1;
	n = receive_until(fd, back, sizeof(back), now_ms() + 3000);
	return n == sizeof(echo) && memcmp(back + 8, echo + 8, 8) == 0 ? puts("ok 1"), 0 : (printf("ping: no answer\n"), 1);
}

/* Datagrams may be lost, and answered late: three tries, and a number in each. */
static int ask_datagram(int fd, char *data, size_t length, int round)
{
	static char back[65536];

	for (int attempt = 0; attempt < 3; attempt++) {
		double limit = now_ms() + 1000;
		ssize_t n;

		snprintf(data, length, "%d.%d", round, attempt);
		if (send(fd, data, length, 0) < 0)
			return printf("round %d: send: %s\n", round, strerrorname_np(errno)), 1;
		while ((n = receive_until(fd, back, sizeof(back), limit)) >= 0)
			if ((size_t)n == length && memcmp(data, back, length) == 0)
				return 0;
		if (n != -ETIMEDOUT)
			return printf("round %d: 0 of %zu bytes back: %s\n", round, length, result_name((int)n)), 1;
	}
	return printf("round %d: three datagrams without an answer\n", round), 1;
}

/* Everything there and back; the server echoes while we still send. */
static int ask_stream(int fd, const char *data, size_t length, int round)
{
	static char back[1 << 20];
	double limit = now_ms() + 15000;
	size_t sent = 0, got = 0;

	while (got < length) {
		struct pollfd p = {.fd = fd, .events = (short)(sent < length ? POLLIN | POLLOUT : POLLIN)};
		ssize_t n = 0;

		if (now_ms() > limit || poll(&p, 1, 8000) == 0)
			return printf("round %d: %zu of %zu bytes back: ETIMEDOUT\n", round, got, length), 1;
		if (p.revents & POLLOUT && sent < length)
			n = send(fd, data + sent, length - sent, MSG_NOSIGNAL);
		sent += n > 0 ? (size_t)n : 0;
		if (!(p.revents & (POLLIN | POLLHUP | POLLERR)))
			continue;
		n = recv(fd, back + got, length - got, 0);
		if (n == 0 || (n < 0 && errno != EAGAIN))
			return printf("round %d: %zu of %zu bytes back: %s\n", round, got, length, n ? strerrorname_np(errno) : "closed"), 1;
		got += n > 0 ? (size_t)n : 0;
	}
	return memcmp(data, back, length) == 0 ? 0 : (printf("round %d: other bytes came back\n", round), 1);
}

/* A legitimate client: ask tcp|udp|ping ADDRESS PORT [-f FROM] [-n BYTES] [-u FILE]; 0 if every answer came back whole. */
int ask_main(int argc, char **argv)
{
	static char data[1 << 20];
	const char *until = NULL, *from = NULL;
	size_t length = 64;
	struct endpoint to, here;
	int fd, option, type, error, rounds = 0;
	double deadline = now_ms() + 120000;

	while ((option = getopt(argc, argv, "+f:n:u:")) != -1) {
		switch (option) {
		case 'f': from = optarg; break;
		case 'n': length = (size_t)atol(optarg); break;
		case 'u': until = optarg; break;
		default: return 2;
		}
	}
	if (argc - optind != 3 || length > sizeof(data))
		return 2;
	type = strcmp(argv[optind], "tcp") == 0 ? SOCK_STREAM : SOCK_DGRAM;
	to = endpoint_parse(argv[optind + 1], argv[optind + 2]);
	if (from)
		here = endpoint_parse(from, "0");
	if (strcmp(argv[optind], "ping") == 0)
		return ping(&to, from ? &here : NULL);
	fd = socket(to.addr.ss_family, type | SOCK_CLOEXEC, 0);
	if (from && bind(fd, (struct sockaddr *)&here.addr, here.length) < 0)
		return perror("bind"), 1;
	fcntl(fd, F_SETFL, O_NONBLOCK);
	error = connect_until(fd, &to, now_ms() + 3000);
	if (error)
		return printf("connect: %s\n", result_name(error)), 1;
	for (size_t i = 0; i < length; i++)
		data[i] = (char)('a' + i % 26);
	do {
		if (type == SOCK_STREAM ? ask_stream(fd, data, length, rounds) : ask_datagram(fd, data, length, rounds))
			return 1;
		rounds++;
		if (until)
			pause_ms(50);
	} while (until && access(until, F_OK) < 0 && now_ms() < deadline);
	if (type == SOCK_STREAM) {
		/* A clean end: our FIN, then theirs. */
		shutdown(fd, SHUT_WR);
		if (receive_until(fd, data, 1, now_ms() + 3000) != 0)
			return printf("no clean end\n"), 1;
	}
	printf("ok %d\n", rounds);
	return 0;
}
