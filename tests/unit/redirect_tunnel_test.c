// SPDX-License-Identifier: Apache-2.0
/* What a server is told before the client's bytes: CONNECT and POST to a proxy, and the PROXY protocol. */
#include "redirect/proxy_protocol.h"
#include "redirect_rig.h"

static uint16_t port;
static int server = -1;

static void start_with(const char *traffic_policy)
{
	char documents[2048];

	server = serve_on(&port, "127.0.0.1");
	rig_start(REGISTRY_ONLY);
	snprintf(documents, sizeof(documents),
		 REGISTRY_ONLY ENTRY_OF("db", "hosts: [db.example], addresses: [203.0.113.2], resolution: STATIC, "
		 "ports: [{number: 5432, name: p, protocol: TCP, targetPort: %u}], endpoints: [{address: 127.0.0.1}]")
		 "---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: db}\n"
		 "spec: {host: db.example, trafficPolicy: {%s}}\n", port, traffic_policy);
	apply(documents);
	turn();
}

static int dial(int *upstream)
{
	struct flow_record record = record_to("203.0.113.2", 5432);
	int client;

	record.service_flags = SERVICE_TCP | SERVICE_REWRITES | SERVICE_ROUTED;
	record.service = 1;
	client = dial_as(&record);
	say(client, "early");
	usleep(1000);
	turn();
	*upstream = accept_upstream(server);
	cr_assert_geq(*upstream, 0);
	turn();
	return client;
}

static void expect_heard(int fd, const char *wanted)
{
	struct heard heard;

	usleep(1000);
	turn();
	heard = hear(fd);
	cr_expect_str_eq(heard.text, wanted);
}

#define CONNECT "tunnel: {targetHost: far.example, targetPort: 443}"
#define POST "tunnel: {protocol: POST, targetHost: far.example, targetPort: 443}"
#define POSTED "POST / HTTP/1.1\r\nhost: far.example:443\r\ntransfer-encoding: chunked\r\n\r\n"

TestSuite(redirect_tunnel, .timeout = 20);

Test(redirect_tunnel, nothing_of_the_client_goes_out_before_the_proxy_agrees)
{
	int client, upstream;

	start_with(CONNECT);
	client = dial(&upstream);
	expect_heard(upstream, "CONNECT far.example:443 HTTP/1.1\r\nhost: far.example:443\r\n\r\n");
	say(upstream, "HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 20");
	expect_heard(upstream, "");
	say(upstream, "0 Whatever\r\ncontent-length: 100\r\n\r\nfirst");
	expect_heard(upstream, "early");
	expect_heard(client, "first");
	say(upstream, "HTTP/1.1 500 is data now");
	expect_heard(client, "HTTP/1.1 500 is data now");
}

Test(redirect_tunnel, a_proxy_that_refuses_or_talks_nonsense_is_a_reset)
{
	static const char *const answers[] = {"HTTP/1.1 407 No\r\n\r\n", "HTTP/1.1 302 Found\r\nlocation: /\r\n\r\n", "220 mail.example\r\n", "HTTP/1.1 200"};

	start_with(CONNECT);
	for (size_t i = 0; i < ARRAY_SIZE(answers); i++) {
		struct heard heard;
		int client, upstream;

		client = dial(&upstream);
		say(upstream, answers[i]);
		close(upstream);
		usleep(1000);
		turn();
		heard = hear(client);
		cr_expect_eq(heard.error, ECONNRESET, "%s", answers[i]);
		close(client);
	}
}

Test(redirect_tunnel, an_answer_without_end_is_not_waited_for)
{
	struct heard heard;
	int client, upstream;

	start_with(CONNECT);
	client = dial(&upstream);
	say(upstream, "HTTP/1.1 200 OK\r\n");
	for (int i = 0; i < 100; i++) {
		static const char field[] = "x: 0123456789012345678901234567890123456789012345678901234567890123456789\r\n";

		send(upstream, field, sizeof(field) - 1, MSG_NOSIGNAL);
		turn();
	}
	heard = hear(client);
	cr_expect_eq(heard.error, ECONNRESET);
}

/* Each would be read at once, as fast as it comes: nobody else would have his turn. */
Test(redirect_tunnel, interim_answers_without_end_are_not_read)
{
	static const char one[] = "HTTP/1.1 103 Early Hints\r\n\r\n";
	struct heard heard;
	int client, upstream;

	start_with(CONNECT);
	client = dial(&upstream);
	for (int i = 0; i < 1000; i++)
		send(upstream, one, sizeof(one) - 1, MSG_NOSIGNAL);
	say(upstream, "HTTP/1.1 200 OK\r\n\r\nfirst");
	turn();
	heard = hear(client);
	cr_expect_eq(heard.error, ECONNRESET);
	cr_expect_eq(heard.n, 0);
}

Test(redirect_tunnel, a_post_carries_each_side_as_a_body)
{
	struct heard heard;
	int client, upstream;

	start_with(POST);
	client = dial(&upstream);
	expect_heard(upstream, POSTED);
	say(upstream, "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhel");
	expect_heard(upstream, "5\r\nearly\r\n");
	expect_heard(client, "hel");
	say(upstream, "lo\r\n3;x=y\r\n yo\r\n");
	expect_heard(client, "lo yo");
	say(client, "more and more and");
	shutdown(client, SHUT_WR);
	expect_heard(upstream, "11\r\nmore and more and\r\n0\r\n\r\n");
	say(upstream, "0\r\n\r\n");
	usleep(1000);
	turn();
	heard = hear(client);
	cr_expect(heard.ended);
	cr_expect_eq(rig.worker->statistics.connections_open, 0);
}

Test(redirect_tunnel, the_body_of_a_post_ends_as_its_head_says)
{
	static const struct {
		const char *answer, *wanted;
		bool ends, reset;
	} cases[] = {
		{"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nabcd", "abc", true, false},
		{"HTTP/1.1 200 OK\r\n\r\nabc", "abc", true, false},
		{"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nabc", "abc", false, true},
		{"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n", "abc", false, true},
		{"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabcX\r\n", "abc", false, true},
	};

	start_with(POST);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct heard heard;
		int client, upstream;

		client = dial(&upstream);
		hear(upstream);
		say(upstream, cases[i].answer);
		shutdown(upstream, SHUT_WR);
		usleep(1000);
		turn();
		heard = hear(client);
		if (!cases[i].reset)
			cr_expect_str_eq(heard.text, cases[i].wanted);
		cr_expect_eq(heard.ended, cases[i].ends, "%s", cases[i].answer);
		cr_expect_eq(heard.error == ECONNRESET, cases[i].reset, "%s", cases[i].answer);
		reset(client);
		close(upstream);
		turn();
	}
}

Test(redirect_tunnel, large_posts_arrive_whole)
{
	static char bytes[300000], got[400000];
	size_t sent = 0, n = 0;
	int client, upstream;

	start_with(POST);
	client = dial(&upstream);
	expect_heard(upstream, POSTED);
	say(upstream, "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n");
	memset(bytes, 'x', sizeof(bytes));
	for (int i = 0; i < 2000 && (sent < sizeof(bytes) || n < 5 || memcmp(got + n - 5, "0\r\n\r\n", 5)); i++) {
		ssize_t part = sent < sizeof(bytes) ? send(client, bytes + sent, sizeof(bytes) - sent, MSG_DONTWAIT | MSG_NOSIGNAL) : 0;

		sent += part > 0 ? (size_t)part : 0;
		if (sent == sizeof(bytes))
			shutdown(client, SHUT_WR);
		turn();
		part = recv(upstream, got + n, sizeof(got) - n, MSG_DONTWAIT);
		n += part > 0 ? (size_t)part : 0;
	}
	sent = 0;
	for (size_t i = 0; i < n; i++)
		sent += got[i] == 'x';
	cr_expect_eq(sent, sizeof(bytes));
}

Test(redirect_tunnel, the_proxy_header_comes_before_the_clients_bytes)
{
	struct sockaddr_in at;
	socklen_t size = sizeof(at);
	char wanted[128];
	int client, upstream;

	start_with("proxyProtocol: {}");
	client = dial(&upstream);
	getsockname(client, (struct sockaddr *)&at, &size);
	snprintf(wanted, sizeof(wanted), "PROXY TCP4 127.0.0.1 203.0.113.2 %u 5432\r\nearly", ntohs(at.sin_port));
	expect_heard(upstream, wanted);
}

Test(redirect_tunnel, the_headers_bytes)
{
	static const unsigned char v2_4[] = "\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\x0a\x58\0\x02\xcb\0\x71\x0a\x30\x39\x01\xbb";
	static const unsigned char v2_6[] = "\r\n\r\n\0\r\nQUIT\n\x21\x21\0\x24\0\0\0\0\0\0\0\0\0\0\xff\xff\x0a\x58\0\x02"
					    "\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01\x30\x39\x01\xbb";
	struct end_point from = {.port = 12345}, to = {.port = 443}, far = {.port = 443};
	unsigned char out[PROXY_HEADER_MAX];
	size_t n;

	parse_address(from.addr, "10.88.0.2");
	parse_address(to.addr, "203.0.113.10");
	parse_address(far.addr, "2001:db8::1");
	n = proxy_header(out, PROXY_PROTOCOL_V2, &from, &to);
	cr_assert_eq(n, sizeof(v2_4) - 1);
	cr_expect_arr_eq(out, v2_4, n);
	n = proxy_header(out, PROXY_PROTOCOL_V2, &from, &far);
	cr_assert_eq(n, sizeof(v2_6) - 1);
	cr_expect_arr_eq(out, v2_6, n);
	n = proxy_header(out, PROXY_PROTOCOL_V1, &from, &far);
	cr_expect_eq(n, strlen("PROXY TCP6 ::ffff:10.88.0.2 2001:db8::1 12345 443\r\n"));
	cr_expect_str_eq((char *)out, "PROXY TCP6 ::ffff:10.88.0.2 2001:db8::1 12345 443\r\n");
}
