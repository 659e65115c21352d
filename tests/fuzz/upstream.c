// SPDX-License-Identifier: Apache-2.0
/*
 * What servers answer, by the first byte: in HTTP/1, in HTTP/2, as a proxy that is asked by CONNECT or by POST. Whatever it is, the
 * client of HTTP is told something that begins as an answer does, and when both are gone nothing is left: no connection, no memory.
 */
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "fuzz.h"
#include "redirect/view.h"

#define MAX_INPUT 65536
#define ENTRY(name, port, protocol)                                                                                              \
	"---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: " name "}\nspec: {hosts: [" name ".example], " \
	"ports: [{number: " port ", name: p, protocol: " protocol ", targetPort: %u}], resolution: STATIC, endpoints: [{address: 127.0.0.1}], "
#define RULE(name, policy) \
	"---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: " name "}\nspec: {host: " name ".example, trafficPolicy: {" policy "}}\n"
#define LIMITS "connectionPool: {tcp: {maxConnections: 2}, http: {http2MaxRequests: 2, maxRetries: 1}}, outlierDetection: {consecutive5xxErrors: 3}"

static const char documents[] =
	"apiVersion: sluice.dev/v1\nkind: EgressPolicy\nmetadata: {name: default, namespace: istio-system}\n"
	"spec: {outboundTrafficPolicy: {mode: REGISTRY_ONLY}}\n"
	ENTRY("one", "80", "HTTP") "}\n" ENTRY("two", "80", "HTTP2") "}\n"
	ENTRY("asks", "5000", "TCP") "addresses: [203.0.113.1]}\n" ENTRY("posts", "5001", "TCP") "addresses: [203.0.113.1]}\n"
	RULE("one", LIMITS) RULE("two", LIMITS)
	RULE("asks", "tunnel: {targetHost: far.example, targetPort: 443}")
	RULE("posts", "tunnel: {protocol: POST, targetHost: far.example, targetPort: 443}")
	"---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: one}\nspec: {hosts: [one.example, two.example], "
	"http: [{match: [{authority: {exact: one.example}}], route: [{destination: {host: one.example}}], retries: {attempts: 1, backoff: 1ms, retryOn: '5xx,reset'}}, "
	"{route: [{destination: {host: two.example}}]}]}\n";

static struct worker *worker = &workers[0];
static struct place place = {.cookie = 1};
static struct table *table;
static int server, supply;

static uint16_t listen_somewhere(void)
{
	struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
	socklen_t size = sizeof(at);

	server = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	CHECK(!bind(server, (struct sockaddr *)&at, size) && !listen(server, 64) && !getsockname(server, (struct sockaddr *)&at, &size), "no server");
	return ntohs(at.sin_port);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	static char text[sizeof(documents) + 64];
	uint16_t port = listen_somewhere();
	struct config_file file = {"p.yaml", text, (size_t)snprintf(text, sizeof(text), documents, port, port, port, port)};
	struct config_source source = {.files = &file, .count = 1, .capacity = 1};
	int memfd = memfd_create("table", MFD_CLOEXEC), pair[2];
	char *bytes, why[1024];
	size_t length;

	(void)argc, (void)argv;
	signal(SIGPIPE, SIG_IGN);
	worker_count = 1;
	main_wake_fd = open("/dev/null", O_WRONLY | O_CLOEXEC);
	atomic_store(&place.references, 1);
	CHECK(!config_source_pack(&source, &bytes, &length) && write(memfd, bytes, length) == (ssize_t)length, "the documents");
	free(bytes);
	CHECK(!table_compile(&table, 1, memfd, "istio-system", why, sizeof(why)), "%s", why);
	close(memfd);
	view_publish(NULL, NULL);
	CHECK(!worker_init(worker, 0, 100000) && !socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), "no worker");
	supply = pair[0];
	atomic_store(&worker->new_supply, pair[1]);
	view_publish(table, NULL);
	return 0;
}

/* As the loader: one socket for each question, and an answer in any case. */
static void give_socket(void)
{
	struct {
		struct message head;
		struct want want;
	} request;
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(int))];
	} control = {.align = {.cmsg_len = CMSG_LEN(sizeof(int)), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS}};
	struct iovec part = {&request, sizeof(request)};
	struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = control.bytes, .msg_controllen = sizeof(control.bytes)};
	int fd;

	while (recv(supply, &request, sizeof(request), MSG_DONTWAIT) == sizeof(request)) {
		request.head.type = MESSAGE_SOCKETS;
		request.want.count = 1;
		fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
		memcpy(CMSG_DATA(&control.align), &fd, sizeof(fd));
		CHECK(sendmsg(supply, &message, MSG_DONTWAIT) > 0, "no socket");
		close(fd);
	}
}

static void turn(void)
{
	for (int i = 0; i < 4; i++) {
		worker_round(worker, 0);
		give_socket();
	}
}

/* No TIME_WAIT: there are more inputs than ports. */
static void reset(int fd)
{
	struct linger now = {1, 0};

	setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
	close(fd);
}

static struct flow_record record_to(const char *host, uint16_t port)
{
	struct flow_record record = {.port = port, .generation = 1, .service_flags = SERVICE_HTTP};
	const struct service *service;

	if (port == 80)
		return record;
	record.service_flags = SERVICE_TCP | SERVICE_REWRITES | SERVICE_ROUTED;
	for (record.service = 1; (service = policy_service(table->policy, record.service)) && strcmp(service->host, host) != 0;)
		record.service++;
	CHECK(service, "%s", host);
	return record;
}

static void look(int client, bool is_http)
{
	static char told[65536];
	ssize_t n = recv(client, told, sizeof(told), MSG_DONTWAIT);

	CHECK(!is_http || n <= 0 || (n >= 9 && !memcmp(told, "HTTP/1.1 ", 9)), "%.*s", (int)(n > 40 ? 40 : n), told);
	while (n > 0)
		n = recv(client, told, sizeof(told), MSG_DONTWAIT);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct {
		const char *host, *says;
		uint16_t port;
	} kinds[] = {{"one.example", "GET / HTTP/1.1\r\nHost: one.example\r\n\r\n", 80},
		     {"two.example", "POST / HTTP/1.1\r\nHost: two.example\r\nContent-Length: 4\r\n\r\nbodyHEAD / HTTP/1.1\r\nHost: two.example\r\n\r\n", 80},
		     {"asks.example", "early", 5000}, {"posts.example", "early", 5001}};
	struct feed feed = {data, size};
	uint8_t first = feed_byte(&feed), kind = first & 3, cut = feed_byte(&feed);
	struct flow_record record = record_to(kinds[kind].host, kinds[kind].port);
	int pair[2], upstream, fds[8];
	size_t n, count = 0;
	char *bytes = (char *)feed_copy(&feed, MAX_INPUT, &n);

	CHECK(!socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair), "no sockets");
	CHECK(write(pair[0], kinds[kind].says, strlen(kinds[kind].says)) > 0, "the client");
	conn_adopt(worker, pair[1], &place, &record);
	turn();
	while (count < 8 && (upstream = accept4(server, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
		fds[count++] = upstream;
		(void)!send(upstream, bytes, n * cut / 256, MSG_NOSIGNAL);
		turn();
		(void)!send(upstream, bytes + n * cut / 256, n - n * cut / 256, MSG_NOSIGNAL);
		if (first & 4)
			shutdown(upstream, SHUT_WR);
		turn();
	}
	look(pair[0], kind < 2);
	close(pair[0]);
	while (count)
		reset(fds[--count]);
	turn();
	while ((upstream = accept4(server, NULL, NULL, SOCK_CLOEXEC)) >= 0)
		reset(upstream);
	turn();
	free(bytes);
	CHECK(!worker->conns, "a connection outlives both its ends");
	CHECK(!worker->memory && !place.connections[0], "%zu bytes and %zu connections are left", worker->memory, place.connections[0]);
	return 0;
}
