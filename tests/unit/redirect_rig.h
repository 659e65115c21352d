/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One worker of the redirector in the test's own thread, between clients and servers on loopback that are the test's
 * too: nothing happens but by turn(), so what arrives together is the test's choice. The test plays the loader: it
 * publishes tables and names, and answers what the worker asks on its supply socket.
 */
#ifndef SLUICE_REDIRECT_RIG_H
#define SLUICE_REDIRECT_RIG_H

#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "redirect/view.h"

#define RIG __attribute__((unused)) static
#define RIG_ROOT "istio-system"

static struct {
	struct worker *worker;
	struct place place;
	int supply;           /* the loader's end */
	bool withholds;       /* the loader does not answer */
	size_t asked, given;  /* sockets */
	uint64_t generation;
	struct table *table, *previous;
} rig = {.supply = -1};

/* ---- the loader ---- */

RIG void send_sockets(const struct want *want)
{
	struct message head = {.type = MESSAGE_SOCKETS, .length = sizeof(*want)};
	struct iovec parts[] = {{&head, sizeof(head)}, {(void *)want, sizeof(*want)}};
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(int) * MESSAGE_MAX_FDS)];
	} control = {0};
	struct msghdr message = {.msg_iov = parts, .msg_iovlen = 2, .msg_control = control.bytes,
				 .msg_controllen = CMSG_SPACE(sizeof(int) * want->count)};
	struct cmsghdr *rights = CMSG_FIRSTHDR(&message);
	int fds[MESSAGE_MAX_FDS];

	for (uint32_t i = 0; i < want->count; i++) {
		fds[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
		cr_assert_geq(fds[i], 0);
	}
	rights->cmsg_level = SOL_SOCKET;
	rights->cmsg_type = SCM_RIGHTS;
	rights->cmsg_len = CMSG_LEN(sizeof(int) * want->count);
	memcpy(CMSG_DATA(rights), fds, sizeof(int) * want->count);
	cr_assert_gt(sendmsg(rig.supply, &message, MSG_DONTWAIT), 0);
	for (uint32_t i = 0; i < want->count; i++)
		close(fds[i]);
	rig.given += want->count;
}

RIG void answer_wants(void)
{
	struct {
		struct message head;
		struct want want;
	} request;

	while (!rig.withholds && rig.supply >= 0 &&
	       recv(rig.supply, &request, sizeof(request), MSG_DONTWAIT) == sizeof(request)) {
		cr_assert_eq(request.head.type, MESSAGE_WANT);
		cr_assert(request.want.count > 0 && request.want.count <= MESSAGE_MAX_FDS, "%u sockets wanted", request.want.count);
		rig.asked += request.want.count;
		send_sockets(&request.want);
	}
}

RIG void connect_supply(void)
{
	int pair[2];

	cr_assert_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
	rig.supply = pair[0];
	atomic_store(&rig.worker->new_supply, pair[1]);
	view_publish(rig.table, rig.previous);
}

/* Everything for which nobody has to wait. */
RIG void turn(void)
{
	for (int i = 0; i < 12; i++) {
		worker_round(rig.worker, 0);
		answer_wants();
	}
	view_reclaim();
}

RIG void turn_for(int ms)
{
	struct timespec now;
	uint64_t end;

	clock_gettime(CLOCK_MONOTONIC, &now);
	end = (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000 + (uint64_t)ms;
	do {
		worker_round(rig.worker, 5);
		answer_wants();
		clock_gettime(CLOCK_MONOTONIC, &now);
	} while ((uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000 < end);
}

/* A new generation of these documents. */
RIG void apply(const char *documents)
{
	struct config_file file = {"p.yaml", documents, strlen(documents)};
	struct config_source source = {.files = &file, .count = 1, .capacity = 1};
	int memfd = memfd_create("table", MFD_CLOEXEC);
	char why[1024] = "", *bytes;
	struct table *table = NULL;
	size_t length;

	cr_assert_eq(config_source_pack(&source, &bytes, &length), 0);
	cr_assert_eq(write(memfd, bytes, length), (ssize_t)length);
	free(bytes);
	cr_assert_eq(table_compile(&table, ++rig.generation, memfd, RIG_ROOT, why, sizeof(why)), 0, "%s\n%s", why, documents);
	close(memfd);
	table_release(rig.previous);
	rig.previous = rig.table;
	rig.table = table;
	view_publish(rig.table, rig.previous);
}

RIG void rig_start(const char *documents)
{
	signal(SIGPIPE, SIG_IGN);
	worker_count = 1;
	main_wake_fd = open("/dev/null", O_WRONLY | O_CLOEXEC);
	rig.worker = &workers[0];
	atomic_store(&rig.place.references, 1);
	rig.place.cookie = 1;
	view_publish(NULL, NULL);
	cr_assert_eq(worker_init(rig.worker, 0, 1000), 0);
	apply(documents);
	connect_supply();
	turn();
}

/* ---- clients and servers ---- */

/* Listens on 127.0.0.1. `port` 0: any. */
RIG int serve_on(uint16_t *port, const char *address)
{
	struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(*port)};
	socklen_t size = sizeof(at);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), on = 1;

	inet_pton(AF_INET, address, &at.sin_addr);
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	cr_assert_eq(bind(fd, (struct sockaddr *)&at, sizeof(at)), 0, "%s", strerror(errno));
	cr_assert_eq(listen(fd, 128), 0);
	getsockname(fd, (struct sockaddr *)&at, &size);
	*port = ntohs(at.sin_port);
	return fd;
}

/* The connection that the worker made to the server, or -1. */
RIG int accept_upstream(int server)
{
	return accept4(server, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
}

RIG struct flow_record record_to(const char *address, uint16_t port)
{
	struct flow_record record = {.port = port, .generation = rig.generation};
	struct in_addr in;

	inet_pton(AF_INET, address, &in);
	addr_from_v4(record.addr, &in);
	return record;
}

RIG int dial_port(uint16_t port)
{
	int client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr = {htonl(INADDR_LOOPBACK)}};

	cr_assert_eq(connect(client, (struct sockaddr *)&at, sizeof(at)), 0);
	return client;
}

/* A client that was redirected on its way to the record's destination. */
RIG int dial_from(struct place *place, const struct flow_record *record)
{
	uint16_t port = 0;
	int server = serve_on(&port, "127.0.0.1"), client = dial_port(port), accepted;

	accepted = accept4(server, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	cr_assert_geq(accepted, 0);
	close(server);
	fcntl(client, F_SETFL, O_NONBLOCK);
	conn_adopt(rig.worker, accepted, place, record);
	return client;
}

RIG int dial_as(const struct flow_record *record)
{
	return dial_from(&rig.place, record);
}

RIG void say(int fd, const char *text)
{
	cr_assert_eq(send(fd, text, strlen(text), MSG_NOSIGNAL), (ssize_t)strlen(text), "%s", strerror(errno));
}

/* What has arrived, and how it ended. */
struct heard {
	char text[8192];
	size_t n;
	bool ended;
	int error;
};

RIG struct heard hear(int fd)
{
	struct heard heard = {0};
	ssize_t n;

	while ((n = recv(fd, heard.text + heard.n, sizeof(heard.text) - 1 - heard.n, MSG_DONTWAIT)) > 0)
		heard.n += (size_t)n;
	heard.ended = n == 0 && heard.n < sizeof(heard.text) - 1;
	heard.error = n < 0 && errno != EAGAIN ? errno : 0;
	return heard;
}

RIG void expect_in(const struct heard *heard, const char *wanted)
{
	cr_expect(strstr(heard->text, wanted), "wanted: %s\ncame: %s%s%s", wanted, heard->text, heard->ended ? " [end]" : "",
		  heard->error ? strerror(heard->error) : "");
}

RIG void reset(int fd)
{
	struct linger now = {1, 0};

	setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
	close(fd);
}

/* ---- documents ---- */

#define REGISTRY_ONLY                                                                                             \
	"---\napiVersion: sluice.dev/v1\nkind: EgressPolicy\nmetadata: {name: default, namespace: istio-system}\n" \
	"spec: {outboundTrafficPolicy: {mode: REGISTRY_ONLY}}\n"

#define DRAINING(time)                                                                                            \
	"---\napiVersion: sluice.dev/v1\nkind: EgressPolicy\nmetadata: {name: default, namespace: istio-system}\n" \
	"spec: {outboundTrafficPolicy: {mode: REGISTRY_ONLY}, drain: " time "}\n"

/* "  hosts: [...]" and so on: the spec of a ServiceEntry, as one flow mapping. */
#define ENTRY_OF(name, spec) \
	"---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: " name "}\nspec: {" spec "}\n"
#define ROUTE_OF(name, spec) \
	"---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: " name "}\nspec: {" spec "}\n"

#endif
