// SPDX-License-Identifier: Apache-2.0
/* Endpoints that are Unix sockets, through a worker: the loader, which makes the connections, is the test. */
#include "h2_peer.h"
#include "redirect/h2.h"

#define GET "GET / HTTP/1.1\r\nHost: a.example\r\n\r\n"
#define OK "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

static void start(void)
{
	rig_start(REGISTRY_ONLY ENTRY_OF("a", "hosts: [a.example], addresses: [203.0.113.1], resolution: STATIC, ports: [{number: 80, "
					 "name: p, protocol: HTTP}], endpoints: [{address: 'unix:///s/http'}]")
		  ENTRY_OF("b", "hosts: [b.example], addresses: [203.0.113.1], resolution: STATIC, ports: [{number: 81, name: p, "
				"protocol: TCP}], endpoints: [{address: 'unix:///s/tcp'}]")
		  ROUTE_OF("v", "hosts: [a.example], http: [{match: [{headers: {x-once: {}}}], retries: {attempts: 0}, route: "
				"[{destination: {host: a.example}}]}, {route: [{destination: {host: a.example}}], retries: {attempts: 1, "
				"retryOn: connect-failure, backoff: 20ms}}]"));
	rig.withholds = true;
}

TestSuite(redirect_unix, .init = start, .timeout = 20);

static int dial_http(const char *request)
{
	struct flow_record record = record_to("203.0.113.1", 80);
	int client;

	record.service_flags = SERVICE_HTTP;
	client = dial_as(&record);
	say(client, request);
	turn();
	return client;
}

static int dial_tcp(void)
{
	struct flow_record record = record_to("203.0.113.1", 81);
	int client;

	record.service_flags = SERVICE_TCP;
	while (!(policy_service(rig.table->policy, ++record.service)->flags & SERVICE_TCP))
		;
	client = dial_as(&record);
	turn();
	return client;
}

/* The next question, which must be for a connection to `path`. */
static struct want asked_for(const char *path)
{
	struct {
		struct message head;
		struct want want;
	} request = {0};
	uint8_t identity[16];

	socket_identity(identity, path);
	cr_assert_eq(recv(rig.supply, &request, sizeof(request), MSG_DONTWAIT), sizeof(request), "nothing is asked for");
	cr_assert_eq(request.head.type, MESSAGE_WANT);
	cr_assert_eq(memcmp(request.want.socket, identity, 16), 0, "not the identity of %s", path);
	return request.want;
}

static bool asks(void)
{
	char byte;

	return recv(rig.supply, &byte, 1, MSG_DONTWAIT | MSG_PEEK) > 0;
}

/* Answers with `count` connections, the servers' ends of which are left in `servers`, and an error. */
static void answer(struct want want, int *servers, uint32_t count, int error)
{
	struct message head = {.type = MESSAGE_SOCKETS, .length = sizeof(want)};
	struct iovec parts[] = {{&head, sizeof(head)}, {&want, sizeof(want)}};
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(int) * 8)];
	} control = {0};
	struct msghdr message = {.msg_iov = parts, .msg_iovlen = 2};
	int fds[8], pair[2];

	want.error = (uint32_t)error;
	for (uint32_t i = 0; i < count; i++) {
		cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair), 0);
		fds[i] = pair[0];
		servers[i] = pair[1];
	}
	if (count) {
		struct cmsghdr *rights;

		message.msg_control = control.bytes;
		message.msg_controllen = CMSG_SPACE(sizeof(int) * count);
		rights = CMSG_FIRSTHDR(&message);
		rights->cmsg_level = SOL_SOCKET;
		rights->cmsg_type = SCM_RIGHTS;
		rights->cmsg_len = CMSG_LEN(sizeof(int) * count);
		memcpy(CMSG_DATA(rights), fds, sizeof(int) * count);
	}
	cr_assert_gt(sendmsg(rig.supply, &message, MSG_DONTWAIT), 0);
	for (uint32_t i = 0; i < count; i++)
		close(fds[i]);
	turn();
}

static void expect_heard(int fd, const char *wanted)
{
	struct heard heard = hear(fd);

	expect_in(&heard, wanted);
}

Test(redirect_unix, a_connection_is_asked_for_by_identity_and_kept_for_the_next_request)
{
	size_t before = rig.worker->descriptors;
	int client = dial_http(GET), server;

	answer(asked_for("/s/http"), &server, 1, 0);
	for (int i = 0; i < 2; i++) {
		expect_heard(server, "GET / HTTP/1.1\r\n");
		say(server, OK);
		turn();
		expect_heard(client, "HTTP/1.1 200 OK");
		if (!i)
			say(client, GET);
		turn();
		cr_expect(!asks(), "the connection serves again");
	}
	close(client);
	turn();
	cr_expect_eq(rig.worker->descriptors, before, "%zu, before %zu", rig.worker->descriptors, before);
	cr_expect(hear(server).ended);
}

Test(redirect_unix, each_that_waits_gets_a_connection_and_none_is_left_over)
{
	int clients[3], servers[8];
	struct want want;

	clients[0] = dial_http(GET);
	want = asked_for("/s/http");
	cr_expect_eq(want.count, 1);
	clients[1] = dial_http(GET);
	clients[2] = dial_http(GET);
	cr_expect(!asks(), "one question at a time");
	answer(want, servers, 1, 0);
	want = asked_for("/s/http");
	cr_expect_eq(want.count, 2);
	reset(clients[2]);
	turn();
	answer(want, servers + 1, 2, 0);
	expect_heard(servers[0], "GET /");
	expect_heard(servers[1], "GET /");
	cr_expect(hear(servers[2]).ended, "its client is gone: it is closed");
	cr_expect(!asks());
}

Test(redirect_unix, a_failure_is_tried_again_as_the_rule_says_then_503)
{
	int client = dial_http(GET);

	answer(asked_for("/s/http"), NULL, 0, ECONNREFUSED);
	turn_for(60);
	answer(asked_for("/s/http"), NULL, 0, ENOENT);
	turn();
	expect_heard(client, "HTTP/1.1 503 Service Unavailable\r\n");
	cr_expect(!asks());
	say(client, GET);
	turn();
	answer(asked_for("/s/http"), NULL, 0, ECONNREFUSED);
	turn_for(60);
	answer(asked_for("/s/http"), NULL, 0, ECONNREFUSED);
	expect_heard(client, "reset reason: remote connection failure, transport failure reason: delayed connect error: Connection refused");
}

Test(redirect_unix, a_busy_server_is_asked_again)
{
	int client = dial_http("GET / HTTP/1.1\r\nHost: a.example\r\nx-once: 1\r\n\r\n"), server;

	answer(asked_for("/s/http"), NULL, 0, EAGAIN);
	cr_expect(!asks(), "not at once");
	turn_for(150);
	cr_expect_eq(hear(client).n, 0);
	answer(asked_for("/s/http"), &server, 1, 0);
	expect_heard(server, "GET /");
}

Test(redirect_unix, one_of_two_connections_is_made_and_the_other_fails)
{
	const char *once = "GET / HTTP/1.1\r\nHost: a.example\r\nx-once: 1\r\n\r\n";
	int clients[3], servers[1];
	struct want want;

	clients[0] = dial_http(once);
	want = asked_for("/s/http");
	clients[1] = dial_http(once);
	clients[2] = dial_http(once);
	answer(want, NULL, 0, ECONNREFUSED);
	expect_heard(clients[0], "HTTP/1.1 503 ");
	want = asked_for("/s/http");
	cr_expect_eq(want.count, 2);
	answer(want, servers, 1, ECONNREFUSED);
	expect_heard(servers[0], "GET /");
	expect_heard(clients[2], "HTTP/1.1 503 ");
	cr_expect_eq(hear(clients[1]).n, 0);
}

Test(redirect_unix, a_relay_goes_both_ways_and_ends_with_either_side)
{
	int client = dial_tcp(), server;

	answer(asked_for("/s/tcp"), &server, 1, 0);
	say(client, "hello");
	turn();
	expect_heard(server, "hello");
	say(server, "world");
	turn();
	expect_heard(client, "world");
	shutdown(server, SHUT_WR);
	turn();
	cr_expect(hear(client).ended);
	say(client, "more");
	turn();
	expect_heard(server, "more");
}

Test(redirect_unix, a_relay_without_server_is_reset)
{
	int client = dial_tcp();

	answer(asked_for("/s/tcp"), NULL, 0, ENOENT);
	turn();
	cr_expect_eq(hear(client).error, ECONNRESET);
}

Test(redirect_unix, without_a_loader_a_request_waits_for_one)
{
	int client, server;

	close(rig.supply);
	rig.supply = -1;
	turn();
	client = dial_http(GET);
	connect_supply();
	turn_for(150);
	answer(asked_for("/s/http"), &server, 1, 0);
	expect_heard(server, "GET /");
	close(client);
}

Test(redirect_unix, a_kept_connection_whose_server_ended_is_replaced)
{
	int client = dial_http(GET), server;

	answer(asked_for("/s/http"), &server, 1, 0);
	say(server, OK);
	turn();
	expect_heard(client, "HTTP/1.1 200 OK");
	say(client, GET);
	turn();
	hear(server);
	close(server);
	turn();
	answer(asked_for("/s/http"), &server, 1, 0);
	expect_heard(server, "GET / HTTP/1.1\r\n");
}

/* It has no address that a header of the PROXY protocol could name. */
Test(redirect_unix, a_proxy_header_names_loopback)
{
	int client, server;

	apply(REGISTRY_ONLY ENTRY_OF("b", "hosts: [b.example], addresses: [203.0.113.1], resolution: STATIC, ports: [{number: 81, name: p, "
					  "protocol: TCP}], endpoints: [{address: 'unix:///s/tcp'}]")
	      "---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: d}\n"
	      "spec: {host: b.example, trafficPolicy: {proxyProtocol: {version: V1}}}\n");
	turn();
	client = dial_tcp();
	answer(asked_for("/s/tcp"), &server, 1, 0);
	say(client, "hello");
	turn();
	expect_heard(server, "PROXY TCP4 127.0.0.1 203.0.113.1 ");
}

/* Its identity is the same in every generation, so that a kept connection is never another's. */
Test(redirect_unix, a_new_generation_with_another_socket_gets_another_connection)
{
	int client = dial_http(GET), server, other;

	answer(asked_for("/s/http"), &server, 1, 0);
	say(server, OK);
	turn();
	expect_heard(client, "HTTP/1.1 200 OK");
	apply(REGISTRY_ONLY ENTRY_OF("a", "hosts: [a.example], addresses: [203.0.113.1], resolution: STATIC, ports: [{number: 80, "
				     "name: p, protocol: HTTP}], endpoints: [{address: 'unix:///s/other'}]"));
	turn();
	say(client, GET);
	turn();
	answer(asked_for("/s/other"), &other, 1, 0);
	expect_heard(other, "GET /");
}

/* ---- sessions of HTTP/2, on connections that come one by one ---- */

#define LIMITED(limits) REGISTRY_ONLY ENTRY_OF("a", "hosts: [a.example], addresses: [203.0.113.1], resolution: STATIC, ports: [{number: 80, " \
	"name: p, protocol: HTTP2}], endpoints: [{address: 'unix:///s/one'}]") \
	"---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: d}\n" \
	"spec: {host: a.example, trafficPolicy: {connectionPool: {" limits "}}}\n"

static struct peer *dial_peer(uint32_t workload)
{
	struct flow_record record = record_to("203.0.113.1", 80);

	record.workload = workload;
	record.service_flags = SERVICE_HTTP;
	return peer_new(dial_as(&record), false);
}

/* Whoever was to have a connection takes a session that has room again: those who wait for that connection must not wait on. */
Test(redirect_unix, who_waits_for_a_dial_that_is_not_begun_asks_by_itself, .fini = peers_free)
{
	struct peer *client, *first, *second;
	int fd;

	apply(LIMITED("tcp: {maxConnections: 2}, http: {maxConcurrentStreams: 1}"));
	turn();
	client = dial_peer(0);
	peer_get(client, "a.example", "/1");
	turn_with(client, NULL);
	answer(asked_for("/s/one"), &fd, 1, 0);
	first = peer_new(fd, true);
	turn_with(client, first);
	cr_assert_eq(first->count, 1);
	peer_get(client, "a.example", "/2");
	peer_get(client, "a.example", "/3");
	turn_with(client, first);
	peer_answer(first, 1, "200", NULL, NULL);
	turn_with(client, first);
	answer(asked_for("/s/one"), &fd, 1, 0);
	close(fd);
	turn_with(client, first);
	cr_assert_eq(first->count, 2, "one has the session that is there");
	answer(asked_for("/s/one"), &fd, 1, 0);
	second = peer_new(fd, true);
	turn_with(client, second);
	cr_expect_eq(second->count, 1, "and the other one of its own");
}

/* Of two addresses another one may be drawn each time that a connection is looked for. */
Test(redirect_unix, nobody_waits_for_a_dial_that_goes_elsewhere, .fini = peers_free)
{
	apply(REGISTRY_ONLY ENTRY_OF("a", "hosts: [a.example], addresses: [203.0.113.1], resolution: STATIC, ports: [{number: 80, "
				     "name: p, protocol: HTTP2}], endpoints: [{address: 'unix:///s/one'}, {address: 'unix:///s/two'}]"));
	turn();
	for (uint32_t i = 1; i <= 8; i++) {
		struct peer *client = dial_peer(i); /* each has its own circuit */

		peer_get(client, "a.example", "/1");
		peer_get(client, "a.example", "/2");
		turn_with(client, NULL);
	}
	for (int i = 0; i < 8; i++) {
		turn_for(60);
		turn();
		for (const struct conn *conn = rig.worker->conns; conn; conn = conn->next)
			cr_assert(!conn->shares || h2_is_dialled(conn), "one waits for a session that nobody dials");
	}
}

/* Who dials port 0 of an address that is a socket's identity is not led to the socket. */
Test(redirect_unix, port_0_is_no_way_to_a_socket)
{
	struct flow_record record = record_to("203.0.113.1", 0);
	int client;

	apply("---\napiVersion: sluice.dev/v1\nkind: EgressPolicy\nmetadata: {name: default, namespace: istio-system}\n"
	      "spec: {outboundTrafficPolicy: {mode: ALLOW_ANY}}\n");
	turn();
	record.generation = rig.generation;
	socket_identity(record.addr, "/s/http");
	client = dial_as(&record);
	turn();
	cr_expect_eq(hear(client).error, ECONNRESET);
	send(client, "hello", 5, MSG_NOSIGNAL);
	turn();
	cr_expect(!asks(), "a connection is asked for");
}
