// SPDX-License-Identifier: Apache-2.0
/*
 * DNS messages: what a hostile resolver answers to two names, over UDP and TCP, with time going by. The names, c-ares and
 * what lies between them are as they ship; the sockets, the loop and its clock are this file's. An address must come from a
 * message, the set of a name is sorted and bounded, and nothing is put off for longer than the ceiling.
 */
#include <ares.h>
#include <arpa/inet.h>
#include <errno.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "addr.h"
#include "base/log.h"
#include "base/loop.h"
#include "base/memory.h"
#include "fuzz.h"
#include "names/addresses.h"
#include "names/names.h"

#define MAX_SOCKETS 16
#define FIRST_FD 5000 /* no real one */
#define MAX_QUERY 512
#define MAX_QUERIES 8 /* per socket; later ones take the place of earlier ones */
#define STEPS 24
#define CEILING_S 300

static const char *hosts[] = {"a.example", "www.b.example"};

/* ---- the loop ---- */

struct loop_timer {
	loop_timer_handler handler;
	void *context;
	uint64_t at_ms; /* 0: disarmed */
};

static struct loop_timer *timers[8];
static size_t timer_count;
static uint64_t now_ms = 1;

uint64_t loop_now_ms(void)
{
	return now_ms;
}

struct loop_timer *loop_timer_new(struct loop *loop, loop_timer_handler handler, void *context)
{
	struct loop_timer *timer = xcalloc(1, sizeof(*timer));

	(void)loop;
	CHECK(timer_count < ARRAY_SIZE(timers), "more timers than expected");
	*timer = (struct loop_timer){handler, context, 0};
	timers[timer_count++] = timer;
	return timer;
}

void loop_timer_free(struct loop_timer *timer)
{
	free(timer);
}

void loop_timer_arm(struct loop_timer *timer, uint64_t delay_ms)
{
	timer->at_ms = now_ms + delay_ms;
}

void loop_timer_disarm(struct loop_timer *timer)
{
	timer->at_ms = 0;
}

static void run_timers(void)
{
	for (size_t i = 0; i < timer_count; i++) {
		if (!timers[i]->at_ms || timers[i]->at_ms > now_ms)
			continue;
		timers[i]->at_ms = 0;
		timers[i]->handler(timers[i]->context);
	}
}

/* ---- sockets ---- */

struct fake_socket {
	bool open, stream;
	uint32_t events;
	loop_fd_handler handler;
	void *context;
	size_t query_count;
	struct query {
		uint8_t bytes[MAX_QUERY];
		size_t length;
	} queries[MAX_QUERIES];
};

static struct fake_socket sockets[MAX_SOCKETS];
static size_t reading; /* the socket whose turn it is */

/* What is read next, and all that was in this run. */
static uint8_t packet[2048], seen[STEPS * 2048];
static size_t packet_length, packet_at, seen_length;

int loop_watch(struct loop *loop, int fd, uint32_t epoll_events, loop_fd_handler handler, void *context)
{
	struct fake_socket *one = &sockets[fd - FIRST_FD];

	(void)loop;
	CHECK(one->open, "watches %d, which is closed", fd);
	one->events = epoll_events;
	one->handler = handler;
	one->context = context;
	return 0;
}

void loop_unwatch(struct loop *loop, int fd)
{
	(void)loop;
	sockets[fd - FIRST_FD].events = 0;
}

static ares_socket_t open_socket(int family, int type, int protocol, void *context)
{
	(void)family;
	(void)protocol;
	(void)context;
	for (int i = 0; i < MAX_SOCKETS; i++) {
		if (sockets[i].open)
			continue;
		sockets[i].open = true;
		sockets[i].stream = type == SOCK_STREAM;
		sockets[i].query_count = 0;
		return FIRST_FD + i;
	}
	errno = EMFILE;
	return ARES_SOCKET_BAD;
}

static int close_socket(ares_socket_t fd, void *context)
{
	(void)context;
	CHECK(sockets[fd - FIRST_FD].open && !sockets[fd - FIRST_FD].events, "closes %d, which is watched", fd);
	sockets[fd - FIRST_FD].open = false;
	return 0;
}

static int connect_socket(ares_socket_t fd, const struct sockaddr *to, ares_socklen_t length, void *context)
{
	(void)fd;
	(void)to;
	(void)length;
	(void)context;
	return 0;
}

static ares_ssize_t send_query(ares_socket_t fd, const struct iovec *parts, int count, void *context)
{
	struct fake_socket *one = &sockets[fd - FIRST_FD];
	struct query *query = &one->queries[one->query_count++ % MAX_QUERIES];
	size_t total = 0;

	(void)context;
	for (int i = 0; i < count; i++) {
		for (size_t k = 0; k < parts[i].iov_len; k++)
			if (total + k < MAX_QUERY)
				query->bytes[total + k] = ((const uint8_t *)parts[i].iov_base)[k];
		total += parts[i].iov_len;
	}
	query->length = total < MAX_QUERY ? total : MAX_QUERY;
	if (one->stream && query->length > 2) {
		query->length -= 2;
		memmove(query->bytes, query->bytes + 2, query->length);
	}
	return (ares_ssize_t)total;
}

static ares_ssize_t receive(ares_socket_t fd, void *out, size_t room, int flags, struct sockaddr *from, ares_socklen_t *from_length,
			    void *context)
{
	struct sockaddr_in server = {.sin_family = AF_INET, .sin_port = htons(53), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	size_t n = packet_length - packet_at;

	(void)flags;
	(void)context;
	if ((size_t)(fd - FIRST_FD) != reading || !n) {
		errno = EAGAIN;
		return -1;
	}
	n = n < room ? n : room;
	memcpy(out, packet + packet_at, n);
	packet_at += n;
	if (!sockets[reading].stream)
		packet_at = packet_length; /* a datagram is cut */
	if (from) {
		memcpy(from, &server, sizeof(server));
		*from_length = sizeof(server);
	}
	return (ares_ssize_t)n;
}

static ares_channel dns;

int __real_ares_init_options(ares_channel *out, struct ares_options *options, int set);
int __wrap_ares_init_options(ares_channel *out, struct ares_options *options, int set);

/* The linker puts this in front of c-ares' own. The channel that reads /etc/hosts finds nothing, and reads nothing. */
int __wrap_ares_init_options(ares_channel *out, struct ares_options *options, int set)
{
	static const struct ares_socket_functions functions = {open_socket, close_socket, connect_socket, receive, send_query};
	bool asks_dns = !strcmp(options->lookups, "b");
	struct ares_options own = *options;
	int status;

	own.lookups = asks_dns ? options->lookups : (char *)"";
	status = __real_ares_init_options(out, &own, set);
	if (status == ARES_SUCCESS && asks_dns) {
		ares_set_socket_functions(*out, &functions, NULL);
		dns = *out;
	}
	return status;
}

/* ---- answers ---- */

/* The question of a query: how many bytes. */
static size_t question_length(const struct query *query)
{
	size_t at = 12;

	while (at < query->length && query->bytes[at])
		at += query->bytes[at] + 1U;
	at += 5;
	return at <= query->length ? at - 12 : 0;
}

/* Id and question of a query with the fuzzer's header flags, counts and records. Returns its length. */
static size_t build_answer(uint8_t *message, const struct query *query, uint8_t shape, const uint8_t *bytes, size_t length)
{
	size_t question = shape & 2 ? 0 : question_length(query);

	memcpy(message, query->bytes, 2);
	memcpy(message + 2, bytes, 10);
	message[2] |= 0x80;
	if (!(shape & 4))
		message[3] &= 0xf0; /* NOERROR: with other codes nothing is read */
	if (question) {
		message[4] = 0;
		message[5] = 1;
		memcpy(message + 12, query->bytes + 12, question);
	}
	memcpy(message + 12 + question, bytes + 10, length - 10);
	return length + 2 + question;
}

static void build_packet(struct feed *feed, const struct fake_socket *to)
{
	uint8_t shape = feed_byte(feed);
	const struct query *query = to->query_count ? &to->queries[(shape >> 4) % (to->query_count < MAX_QUERIES ? to->query_count : MAX_QUERIES)] : NULL;
	size_t length = feed_byte(feed) * (shape & 8 ? 4U : 1U);
	uint8_t *message = packet + (to->stream ? 2 : 0);

	length = length < feed->n ? length : feed->n;
	if (length > sizeof(packet) - MAX_QUERY - 16)
		length = sizeof(packet) - MAX_QUERY - 16;
	packet_at = 0;
	packet_length = length;
	if ((shape & 3) != 3 && query && query->length > 12 && length >= 10)
		packet_length = build_answer(message, query, shape, feed->p, length);
	else
		memcpy(message, feed->p, length);
	feed->p += length;
	feed->n -= length;
	if (to->stream) {
		packet[0] = (uint8_t)(packet_length >> 8);
		packet[1] = (uint8_t)packet_length;
		packet_length += 2;
	}
	CHECK(seen_length + packet_length <= sizeof(seen), "no room for what was sent");
	memcpy(seen + seen_length, packet, packet_length);
	seen_length += packet_length;
}

static void answer(struct feed *feed)
{
	size_t turn = feed_byte(feed);

	for (size_t i = 0; i < MAX_SOCKETS; i++) {
		struct fake_socket *one = &sockets[(turn + i) % MAX_SOCKETS];
		uint32_t events = one->events;

		if (!one->open || !events)
			continue;
		reading = (turn + i) % MAX_SOCKETS;
		build_packet(feed, one);
		one->handler(one->context, FIRST_FD + (int)reading, events & EPOLLOUT ? EPOLLOUT | EPOLLIN : EPOLLIN);
		break;
	}
	packet_length = packet_at = 0;
}

/* ---- what must hold ---- */

static struct names *names;

static void check_name(const char *host)
{
	size_t count;
	const uint8_t (*list)[16] = names_get(names, host, &count);

	CHECK(!list == !count && count <= ADDRESSES_MAX, "%s has %zu addresses", host, count);
	for (size_t i = 0; i < count; i++) {
		bool v4 = addr_is_v4(list[i]);

		CHECK(!i || memcmp(list[i - 1], list[i], 16) < 0, "%s: out of order at %zu", host, i);
		CHECK(memmem(seen, seen_length, list[i] + (v4 ? 12 : 0), v4 ? 4 : 16), "%s: an address from nowhere", host);
	}
}

static void check_names(void)
{
	struct name_status status[ARRAY_SIZE(hosts) + 1];
	size_t n = names_status(names, status, ARRAY_SIZE(status));

	CHECK(n == ARRAY_SIZE(hosts), "%zu names", n);
	for (size_t i = 0; i < n; i++) {
		CHECK(status[i].next_in_ms <= CEILING_S * 1000, "%s: asked in %llu ms", status[i].host,
		      (unsigned long long)status[i].next_in_ms);
		CHECK(!status[i].error || status[i].error[0], "%s fails without a reason", status[i].host);
	}
	for (size_t i = 0; i < ARRAY_SIZE(hosts); i++)
		check_name(hosts[i]);
}

static void on_changed(void *context, const char *host)
{
	(void)context;
	check_name(host);
}

/* A run is the same each time. */
uint32_t arc4random_uniform(uint32_t bound)
{
	return bound / 2;
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	struct names_options options = {.resolv_conf = "/dev/null", .ttl_ceiling_s = CEILING_S, .changed = on_changed};

	(void)argc;
	(void)argv;
	log_init(LOG_LEVEL_ERROR, false, "fuzz");
	CHECK(!names_new(&names, NULL, &options), "no names");
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct string_list nothing;
	struct string_list wanted = {hosts, ARRAY_SIZE(hosts), 0};
	struct feed feed = {data, size};

	seen_length = 0;
	names_want(names, &wanted);
	for (int step = 0; step < STEPS && feed.n; step++) {
		uint8_t first = feed_byte(&feed);

		run_timers();
		if (first & 0x80)
			now_ms += (uint64_t)(first & 0x7f) * 1000;
		else
			answer(&feed);
		check_names();
	}
	names_want(names, &nothing);
	ares_cancel(dns);
	CHECK(names_settled(names), "a name is left over");
	return 0;
}
