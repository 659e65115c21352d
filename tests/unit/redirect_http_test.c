// SPDX-License-Identifier: Apache-2.0
/* HTTP through a worker: what is forwarded, what is answered here, and what happens when either side ends. */
#include "redirect/directory.h"
#include "redirect_rig.h"

static uint16_t port;
static int server = -1;

#define GET "GET / HTTP/1.1\r\nHost: a.example\r\n\r\n"
#define VIA ENTRY_OF("a", "hosts: [a.example], addresses: [203.0.113.1], resolution: STATIC, " \
	"ports: [{number: 80, name: p, protocol: HTTP, targetPort: %u}], endpoints: [{address: 127.0.0.1}]")

static void start(void)
{
	char documents[2048];

	server = serve_on(&port, "127.0.0.1");
	snprintf(documents, sizeof(documents), REGISTRY_ONLY VIA, port);
	rig_start(documents);
}

static int dial(void)
{
	struct flow_record record = record_to("203.0.113.1", 80);

	return dial_as(&record);
}

/* The client's request has reached the server: the server's end of that connection. */
static int ask(int client, const char *request)
{
	int upstream;

	say(client, request);
	turn();
	upstream = accept_upstream(server);
	cr_assert_geq(upstream, 0, "no upstream connection");
	turn();
	return upstream;
}

TestSuite(redirect_http, .init = start, .timeout = 20);

Test(redirect_http, an_answer_is_forwarded_with_its_time)
{
	int client = dial(), upstream = ask(client, GET);
	struct heard heard = hear(upstream);

	expect_in(&heard, "GET / HTTP/1.1\r\nHost: a.example\r\n");
	say(upstream, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi");
	turn();
	heard = hear(client);
	expect_in(&heard, "HTTP/1.1 200 OK\r\n");
	expect_in(&heard, "x-envoy-upstream-service-time: ");
	expect_in(&heard, "\r\n\r\nhi");
}

#define RANGE_ENTRY ENTRY_OF("net", "hosts: [net.example], addresses: [127.0.0.0/8], ports: [{number: %u, name: p, protocol: TCP}]")
#define IN_RANGE_ENTRY ENTRY_OF("b", "hosts: [b.example], resolution: STATIC, ports: [{number: %u, name: p, protocol: HTTP}], " \
	"endpoints: [{address: 127.0.0.1}]")

/* The client's connection is older, and the address another one's as well, which stays. */
Test(redirect_http, a_host_that_a_range_admitted_is_blocked_without_the_range)
{
	struct flow_record record;
	char documents[2048];
	struct heard heard;
	int client, upstream;

	snprintf(documents, sizeof(documents), REGISTRY_ONLY IN_RANGE_ENTRY RANGE_ENTRY, port, port);
	apply(documents);
	turn();
	record = record_to("127.0.0.1", port);
	record.service_flags = SERVICE_HTTP | SERVICE_TCP;
	client = dial_as(&record);
	for (int i = 0; i < 2; i++, apply(documents), turn()) {
		upstream = ask(client, "GET / HTTP/1.1\r\nHost: other.example\r\n\r\n");
		say(upstream, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi");
		close(upstream);
		turn();
		heard = hear(client);
		expect_in(&heard, "HTTP/1.1 200 OK\r\n");
	}
	snprintf(documents, sizeof(documents), REGISTRY_ONLY IN_RANGE_ENTRY, port);
	apply(documents);
	turn();
	say(client, "GET / HTTP/1.1\r\nHost: other.example\r\n\r\n");
	turn();
	heard = hear(client);
	expect_in(&heard, "HTTP/1.1 502 ");
}

#define ANY_ENTRY ENTRY_OF("any", "hosts: [any.example], addresses: [203.0.113.5], resolution: STATIC, " \
	"ports: [{number: 81, name: p, targetPort: %u}], endpoints: [{address: 127.0.0.1}]")
#define OTHER_ENTRY ENTRY_OF("c", "hosts: [c.example], resolution: STATIC, ports: [{number: 81, name: p, protocol: HTTP, targetPort: %u}], " \
	"endpoints: [{address: 127.0.0.1}]")

/* What is there without a protocol is for clients that name nobody, and this one did. */
Test(redirect_http, a_request_by_a_host_that_is_gone_ends_at_the_address_of_a_port_without_a_protocol)
{
	struct flow_record record;
	char documents[2048];
	struct heard heard;
	int client;

	snprintf(documents, sizeof(documents), REGISTRY_ONLY ANY_ENTRY OTHER_ENTRY, port, port);
	apply(documents);
	turn();
	record = record_to("203.0.113.5", 81);
	record.service_flags = (uint8_t)(SERVICE_HTTP | SERVICE_TCP | SERVICE_DETECTED | SERVICE_REWRITES);
	client = dial_as(&record);
	ask(client, "GET / HTTP/1.1\r\nHost: c.example\r\n\r\n");
	snprintf(documents, sizeof(documents), REGISTRY_ONLY ANY_ENTRY, port);
	apply(documents);
	turn();
	heard = hear(client);
	expect_in(&heard, "HTTP/1.1 502 ");
}

Test(redirect_http, a_body_until_close_ends_where_bytes_and_end_arrive_together)
{
	int client = dial(), upstream = ask(client, GET);
	struct heard heard = hear(upstream);

	say(upstream, "HTTP/1.1 200 OK\r\n\r\nhi");
	close(upstream);
	usleep(2000);
	turn();
	heard = hear(client);
	expect_in(&heard, "\r\n\r\nhi");
	cr_expect(heard.ended, "the client learns of the end");
}

Test(redirect_http, an_upstream_that_ends_with_its_answer_is_not_used_again)
{
	int client = dial(), upstream = ask(client, GET);
	struct heard heard = hear(upstream);

	say(upstream, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi");
	close(upstream);
	usleep(2000);
	turn();
	heard = hear(client);
	expect_in(&heard, "\r\n\r\nhi");
	cr_expect(heard.ended, "as without us, the client's connection ends too");
}

Test(redirect_http, a_request_on_a_connection_that_just_ended_is_sent_anew)
{
	int client = dial(), upstream = ask(client, GET);
	struct heard heard;

	say(upstream, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi");
	turn();
	hear(client);
	say(client, GET);
	reset(upstream);
	usleep(2000);
	turn();
	upstream = accept_upstream(server);
	cr_assert_geq(upstream, 0, "a fresh upstream connection");
	turn();
	say(upstream, "HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n");
	turn();
	heard = hear(client);
	expect_in(&heard, "HTTP/1.1 201 ");
}

/* The server may have done what it was asked for, before it let go. */
Test(redirect_http, what_must_not_be_done_twice_is_not_sent_anew)
{
	int client = dial(), upstream = ask(client, GET);
	struct heard heard;

	say(upstream, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi");
	turn();
	hear(client);
	say(client, "POST / HTTP/1.1\r\nHost: a.example\r\n\r\n");
	reset(upstream);
	usleep(2000);
	turn();
	cr_expect_lt(accept_upstream(server), 0, "no other upstream connection");
	heard = hear(client);
	expect_in(&heard, "HTTP/1.1 503 ");
}

Test(redirect_http, a_head_of_64_kb_without_an_end_is_refused)
{
	int client = dial();
	struct heard heard;
	char piece[1024];

	memset(piece, 'x', sizeof(piece) - 1);
	piece[sizeof(piece) - 1] = 0;
	say(client, "GET / HTTP/1.1\r\nHost: a.example\r\nX: ");
	for (size_t sent = 0; sent < LARGE_BUFFER - sizeof(piece); sent += sizeof(piece) - 1) {
		say(client, piece);
		turn();
	}
	heard = hear(client);
	cr_expect_eq(heard.n, 0, "up to there it may still end");
	say(client, piece);
	turn();
	heard = hear(client);
	expect_in(&heard, "HTTP/1.1 431 ");
	cr_expect(heard.ended || heard.error);
	cr_expect_lt(accept_upstream(server), 0);
}

Test(redirect_http, a_client_that_breaks_off_ends_the_upstream_request)
{
	int client = dial(), upstream = ask(client, GET);
	struct heard heard;

	hear(upstream);
	reset(client);
	usleep(2000);
	turn();
	heard = hear(upstream);
	cr_expect(heard.ended || heard.error, "the server learns of it");
	cr_expect_eq(rig.worker->statistics.connections_open, 0);
}

Test(redirect_http, a_half_closed_client_gets_its_answer)
{
	int client = dial(), upstream = ask(client, GET);
	struct heard heard;

	shutdown(client, SHUT_WR);
	turn();
	say(upstream, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi");
	turn();
	heard = hear(client);
	expect_in(&heard, "\r\n\r\nhi");
	cr_expect(heard.ended);
}

Test(redirect_http, blocked_hosts_get_502_and_the_connection_goes_on)
{
	int client = dial(), upstream;
	struct heard heard;

	say(client, "GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n");
	turn();
	heard = hear(client);
	expect_in(&heard, "HTTP/1.1 502 Bad Gateway\r\n");
	expect_in(&heard, "server: sluice\r\n");
	expect_in(&heard, "evil.example");
	expect_in(&heard, "REGISTRY_ONLY");
	upstream = ask(client, GET);
	say(upstream, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
	turn();
	heard = hear(client);
	expect_in(&heard, "HTTP/1.1 200 ");
}

Test(redirect_http, a_table_without_the_service_answers_a_request_under_way)
{
	int client = dial(), upstream = ask(client, GET);
	struct heard heard;

	hear(upstream);
	apply(REGISTRY_ONLY);
	turn();
	heard = hear(upstream);
	cr_expect(heard.ended || heard.error, "the server learns of it");
	heard = hear(client);
	expect_in(&heard, "HTTP/1.1 502 ");
	expect_in(&heard, "a.example");
	expect_in(&heard, "REGISTRY_ONLY");
	cr_expect(!heard.ended, "it may ask for something else");
	say(client, GET);
	turn();
	heard = hear(client);
	expect_in(&heard, "HTTP/1.1 502 ");
}

Test(redirect_http, a_table_without_the_service_resets_half_an_answer)
{
	int client = dial(), upstream = ask(client, GET);
	struct heard heard;

	say(upstream, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf");
	turn();
	heard = hear(client);
	expect_in(&heard, "half");
	apply(REGISTRY_ONLY);
	turn();
	heard = hear(client);
	cr_expect_eq(heard.error, ECONNRESET);
	cr_expect_eq(rig.worker->statistics.connections_open, 0);
}

Test(redirect_http, a_table_that_has_the_service_leaves_a_request_alone)
{
	int client = dial(), upstream = ask(client, GET);
	char documents[2048];
	struct heard heard;

	snprintf(documents, sizeof(documents), REGISTRY_ONLY VIA, port);
	apply(documents);
	turn();
	say(upstream, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi");
	turn();
	heard = hear(client);
	expect_in(&heard, "\r\n\r\nhi");
}

Test(redirect_http, a_request_that_drains_gets_its_answer_and_the_next_one_does_not)
{
	int client = dial(), upstream = ask(client, GET);
	struct heard heard;

	apply(DRAINING("10s"));
	turn();
	say(upstream, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi");
	turn();
	heard = hear(client);
	expect_in(&heard, "\r\n\r\nhi");
	say(client, GET);
	turn();
	heard = hear(client);
	expect_in(&heard, "HTTP/1.1 502 ");
}

Test(redirect_http, a_request_that_drains_too_long_is_answered)
{
	int client = dial(), upstream = ask(client, GET);
	struct heard heard;

	hear(upstream);
	apply(DRAINING("100ms"));
	turn();
	heard = hear(client);
	cr_expect_eq(heard.n, 0);
	turn_for(200);
	heard = hear(client);
	expect_in(&heard, "HTTP/1.1 502 ");
}

Test(redirect_http, the_end_of_a_failed_upstream_is_not_taken_for_the_end_of_the_body)
{
	int client = dial(), upstream = ask(client, GET);
	struct heard heard;

	say(upstream, "HTTP/1.1 200 OK\r\n\r\nhi");
	reset(upstream);
	usleep(2000);
	turn();
	heard = hear(client);
	cr_expect_eq(heard.error, ECONNRESET);
}

Test(redirect_http, an_interim_response_is_forwarded_at_once)
{
	int client = dial(), upstream = ask(client, "PUT / HTTP/1.1\r\nHost: a.example\r\nExpect: 100-continue\r\n"
						    "Content-Length: 2\r\n\r\n");
	struct heard heard;

	say(upstream, "HTTP/1.1 100 Continue\r\n\r\n");
	turn();
	heard = hear(client);
	expect_in(&heard, "HTTP/1.1 100 ");
	say(client, "hi");
	turn();
	say(upstream, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
	turn();
	heard = hear(client);
	expect_in(&heard, "HTTP/1.1 200 ");
}

Test(redirect_http, a_chunked_answer_reaches_an_http_1_0_client_without_chunks)
{
	int client = dial(), upstream = ask(client, "GET / HTTP/1.0\r\nHost: a.example\r\n\r\n");
	struct heard heard;

	say(upstream, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n3\r\ncde\r\n0\r\n\r\n");
	turn();
	heard = hear(client);
	expect_in(&heard, "\r\n\r\nabcde");
	cr_expect_null(strstr(heard.text, "chunked"));
	cr_expect(heard.ended);
}

Test(redirect_http, a_head_in_single_bytes_is_understood)
{
	int client = dial();

	for (const char *at = GET; *at; at++) {
		cr_assert_eq(send(client, at, 1, 0), 1);
		turn();
	}
	cr_expect_geq(accept_upstream(server), 0);
}

Test(redirect_http, pipelined_requests_share_the_upstream_connection)
{
	int client = dial(), upstream = ask(client, GET GET GET);
	struct heard heard;

	for (int i = 0; i < 3; i++) {
		heard = hear(upstream);
		expect_in(&heard, "GET / HTTP/1.1\r\n");
		say(upstream, "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx");
		turn();
		heard = hear(client);
		expect_in(&heard, "\r\n\r\nx");
	}
	cr_expect_eq(accept_upstream(server), -1);
}

Test(redirect_http, the_last_answer_before_the_upstream_ends_does_not_lose_the_next_request)
{
	int client = dial(), upstream = ask(client, GET GET);
	struct heard heard = hear(upstream);

	say(upstream, "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx");
	close(upstream);
	usleep(2000);
	turn();
	heard = hear(client);
	expect_in(&heard, "\r\n\r\nx");
	upstream = accept_upstream(server);
	cr_assert_geq(upstream, 0, "the second request has a fresh connection");
}

/* ---- faults ---- */

static void start_with_fault(const char *fault)
{
	char documents[4096];

	snprintf(documents, sizeof(documents),
		 REGISTRY_ONLY VIA
		 "---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: r}\n"
		 "spec: {hosts: [a.example], http: [{fault: {%s}, route: [{destination: {host: a.example}}]}]}\n", port, fault);
	apply(documents);
	turn();
}

Test(redirect_http, a_client_that_leaves_during_the_delay_is_forgotten)
{
	int client;

	start_with_fault("delay: {percent: 100, fixedDelay: 30s}");
	client = dial();
	say(client, GET);
	turn();
	cr_assert_eq(rig.worker->statistics.delays_active, 1);
	close(client);
	usleep(2000);
	turn();
	cr_expect_eq(rig.worker->statistics.delays_active, 0);
	cr_expect_eq(rig.worker->statistics.connections_open, 0);
}

Test(redirect_http, a_table_without_the_service_ends_a_delay)
{
	struct heard heard;
	int client;

	start_with_fault("delay: {percent: 100, fixedDelay: 60s}");
	client = dial();
	say(client, GET);
	turn();
	cr_assert_eq(rig.worker->statistics.delays_active, 1);
	apply(REGISTRY_ONLY);
	turn();
	heard = hear(client);
	expect_in(&heard, "HTTP/1.1 502 ");
	cr_expect_eq(rig.worker->statistics.delays_active, 0);
}

Test(redirect_http, a_delay_holds_only_a_small_buffer)
{
	int client;
	struct conn *conn;

	start_with_fault("delay: {percent: 100, fixedDelay: 30s}");
	client = dial();
	say(client, GET);
	turn();
	conn = rig.worker->conns;
	cr_assert_not_null(conn);
	cr_expect_null(conn->from_client);
	cr_expect_null(conn->from_upstream);
	cr_expect_null(conn->to_client);
	cr_expect_eq(conn->to_upstream->size, SMALL_BUFFER);
	cr_expect_eq(conn->upstream.fd, -1);
	close(client);
}

Test(redirect_http, an_abort_without_content_leaves_no_bytes_behind)
{
	int client;
	struct heard heard;
	char *end;

	start_with_fault("abort: {httpStatus: 204, percentage: {value: 100}}");
	client = dial();
	say(client, GET);
	turn();
	heard = hear(client);
	expect_in(&heard, "HTTP/1.1 204 ");
	end = strstr(heard.text, "\r\n\r\n");
	cr_assert_not_null(end);
	cr_expect_str_eq(end + 4, "");
	cr_expect_null(strstr(heard.text, "content-length"));
}

/* ---- where to ---- */

Test(redirect_http, of_two_endpoints_the_one_that_works_is_found)
{
	char documents[2048];

	snprintf(documents, sizeof(documents), REGISTRY_ONLY
		 ENTRY_OF("a", "hosts: [a.example], addresses: [203.0.113.1], resolution: STATIC, ports: [{number: 80, name: p, "
			       "protocol: HTTP, targetPort: %u}], endpoints: [{address: 127.0.0.1}, {address: 127.0.0.2}]"), port);
	apply(documents);
	turn();
	for (int i = 0; i < 40; i++) {
		int client = dial(), upstream = ask(client, GET);

		close(client);
		close(upstream);
		turn();
	}
}

#define NAMED(host) ENTRY_OF("a", "hosts: [a.example], addresses: [203.0.113.1], resolution: DNS, ports: [{number: 80, " \
	"name: p, protocol: HTTP, targetPort: %u}], endpoints: [" host "]")

static const uint8_t loopback[1][16] = {{[10] = 0xff, 0xff, 127, 0, 0, 1}};

Test(redirect_http, a_name_without_an_answer_is_waited_for)
{
	char documents[2048];
	int client, upstream;

	snprintf(documents, sizeof(documents), REGISTRY_ONLY NAMED("{address: one.example}"), port);
	apply(documents);
	turn();
	client = dial();
	say(client, GET);
	turn();
	cr_assert_eq(accept_upstream(server), -1);
	name_publish("one.example", loopback, 1, true);
	turn();
	upstream = accept_upstream(server);
	cr_expect_geq(upstream, 0);
}

Test(redirect_http, one_name_with_an_answer_is_enough)
{
	char documents[2048];
	int client;

	snprintf(documents, sizeof(documents), REGISTRY_ONLY NAMED("{address: one.example}, {address: two.example}"), port);
	apply(documents);
	name_publish("two.example", loopback, 1, true);
	turn();
	client = dial();
	say(client, GET);
	turn();
	cr_expect_geq(accept_upstream(server), 0);
}

Test(redirect_http, a_name_that_does_not_resolve_is_503)
{
	char documents[2048];
	struct heard heard;
	int client;

	snprintf(documents, sizeof(documents), REGISTRY_ONLY NAMED("{address: one.example}"), port);
	apply(documents);
	name_publish("one.example", NULL, 0, true);
	turn();
	client = dial();
	say(client, GET);
	turn();
	heard = hear(client);
	expect_in(&heard, "HTTP/1.1 503 ");
	expect_in(&heard, "\r\n\r\nno healthy upstream");
}

/* ---- names that clients show ---- */

#define DYNAMIC ENTRY_OF("d", "hosts: ['*.d.example'], resolution: DYNAMIC_DNS, ports: [{number: 80, name: p, protocol: HTTP, targetPort: %u}]")
#define GET_OF(host) "GET / HTTP/1.1\r\nHost: " host "\r\n\r\n"
#define LOOPBACK(n) {{[10] = 0xff, 0xff, 127, 0, 0, n}}

static void start_dynamic(const char *more)
{
	char documents[2048];

	snprintf(documents, sizeof(documents), REGISTRY_ONLY DYNAMIC "%s", port, more);
	apply(documents);
	turn();
}

/* The main thread's part: what was asked for is known to be asked for. */
static void turn_main(void)
{
	turn();
	directory_take_questions(1);
	directory_publish();
	turn();
}

static void answer_name(const char *host, const uint8_t (*addresses)[16], size_t count, enum name_failure failure)
{
	const struct published_name name = {host, addresses, count, true, failure};

	directory_answer(&name, 1);
	directory_publish();
	turn();
}

static int dial_elsewhere(void)
{
	struct flow_record record = record_to("203.0.113.9", 80);

	return dial_as(&record);
}

static unsigned long long questions(void)
{
	return (unsigned long long)rig.worker->statistics.names_asked;
}

Test(redirect_http, a_shown_name_is_asked_for_once_and_dialled_where_it_is)
{
	static const uint8_t here[1][16] = LOOPBACK(1);
	int one, two, upstream;
	struct heard heard;

	start_dynamic("");
	one = dial_elsewhere();
	say(one, GET_OF("A.d.example."));
	turn_main();
	two = dial_elsewhere();
	say(two, GET_OF("a.d.example"));
	turn_main();
	cr_expect_eq(questions(), 1);
	cr_assert_eq(accept_upstream(server), -1);
	answer_name("a.d.example", here, 1, NAME_NOT_FAILED);
	for (int i = 0; i < 2; i++) {
		upstream = accept_upstream(server);
		cr_assert_geq(upstream, 0);
		turn();
		heard = hear(upstream);
		expect_in(&heard, i ? "Host: A.d.example" : "Host: a.d.example"); /* who waited last goes first */
	}
	cr_expect_eq(questions(), 1);
}

Test(redirect_http, a_kept_connection_serves_no_other_name)
{
	static const uint8_t here[1][16] = LOOPBACK(1), there[1][16] = LOOPBACK(2);
	int client, first, second, other = serve_on(&port, "127.0.0.2");
	struct heard heard;

	start_dynamic("");
	answer_name("a.d.example", here, 1, NAME_NOT_FAILED);
	answer_name("b.d.example", there, 1, NAME_NOT_FAILED);
	client = dial_elsewhere();
	first = ask(client, GET_OF("a.d.example"));
	say(first, "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na");
	turn();
	say(client, GET_OF("b.d.example"));
	turn();
	second = accept_upstream(other);
	cr_assert_geq(second, 0, "the second name is dialled where it is");
	turn();
	heard = hear(second);
	expect_in(&heard, "Host: b.d.example");
	say(second, "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nb");
	turn();
	say(client, GET_OF("B.d.example"));
	turn();
	heard = hear(second);
	expect_in(&heard, "Host: B.d.example");
	cr_expect_eq(accept_upstream(other), -1, "the same name goes over the same connection");
}

Test(redirect_http, a_shown_name_without_an_address_is_503_with_the_reason)
{
	static const struct {
		const char *request, *host;
		enum name_failure failure;
		const char *says;
	} cases[] = {
		{GET_OF("none.d.example"), "none.d.example", NAME_HAS_NONE, "\r\n\r\nDNS resolution failure"},
		{GET_OF("full.d.example"), "full.d.example", NAME_REFUSED, "\r\n\r\nDNS cache overflow"},
	};

	start_dynamic("");
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		int client = dial_elsewhere();
		struct heard heard;

		say(client, cases[i].request);
		turn_main();
		answer_name(cases[i].host, NULL, 0, cases[i].failure);
		heard = hear(client);
		expect_in(&heard, "HTTP/1.1 503 ");
		expect_in(&heard, cases[i].says);
	}
}

Test(redirect_http, a_shown_name_that_is_gone_is_asked_for_again)
{
	static const uint8_t here[1][16] = LOOPBACK(1);

	start_dynamic("");
	answer_name("a.d.example", here, 1, NAME_NOT_FAILED);
	directory_gone("a.d.example");
	directory_publish();
	turn();
	say(dial_elsewhere(), GET_OF("a.d.example"));
	turn_main();
	cr_expect_eq(questions(), 1);
	cr_expect_eq(accept_upstream(server), -1);
}

Test(redirect_http, a_workload_cannot_ask_for_any_number_of_names)
{
	unsigned int overflows = 0;
	char request[128];

	start_dynamic("");
	for (int i = 0; i < 200; i++) {
		int client = dial_elsewhere();
		struct heard heard;

		snprintf(request, sizeof(request), GET_OF("n%d.d.example"), i);
		say(client, request);
		turn();
		directory_take_questions(1); /* not published: the rig's namespace is no listener's, so its pools would go */
		heard = hear(client);
		overflows += strstr(heard.text, "DNS cache overflow") != NULL;
		reset(client);
		turn();
	}
	cr_expect(overflows >= 40 && overflows <= 72, "%u, %llu asked, %llu refused", overflows, questions(), (unsigned long long)rig.worker->statistics.names_refused); /* 128 at once, and 64 more in a second */
	cr_expect_eq(questions() + overflows, 200);
	cr_expect_eq(rig.worker->statistics.names_refused, overflows);
}

Test(redirect_http, http_to_whom_nobody_registers_goes_where_its_host_is)
{
	static const uint8_t here[1][16] = LOOPBACK(1);
	struct flow_record record;
	char documents[2048];
	int client, upstream;
	struct heard heard;

	snprintf(documents, sizeof(documents),
		 "---\napiVersion: sluice.dev/v1\nkind: EgressPolicy\nmetadata: {name: default, namespace: istio-system}\n"
		 "spec: {outboundTrafficPolicy: {mode: ALLOW_ANY_DYNAMIC_DNS}}\n"
		 ENTRY_OF("h", "hosts: [h.example], ports: [{number: %u, name: p, protocol: HTTP}]"), port);
	apply(documents);
	turn();
	record = record_to("127.0.0.9", port); /* nobody is there */
	client = dial_as(&record);
	say(client, GET_OF("Any.Example:99"));
	turn_main();
	cr_expect_eq(questions(), 1);
	answer_name("any.example", here, 1, NAME_NOT_FAILED);
	upstream = accept_upstream(server);
	cr_assert_geq(upstream, 0, "at the port that the client dialled");
	turn();
	heard = hear(upstream);
	expect_in(&heard, "Host: Any.Example:99\r\n");
	cr_expect_null(strstr(heard.text, "x-envoy-"), "it only passes");
	say(upstream, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
	turn();
	heard = hear(client);
	say(client, GET_OF("other.example"));
	turn_main();
	answer_name("other.example", NULL, 0, NAME_HAS_NONE);
	heard = hear(client);
	expect_in(&heard, "DNS resolution failure");
	record = record_to("127.0.0.1", port);
	client = dial_as(&record);
	say(client, GET_OF("192.0.2.1"));
	turn_main();
	cr_expect_geq(accept_upstream(server), 0, "an address in place of a name: where the client dialled");
	cr_expect_eq(questions(), 2);
}

/* A rule may send others' requests to the wildcard: who is no name below it is nowhere. */
Test(redirect_http, a_name_that_is_not_below_the_wildcard_is_not_asked_for)
{
	struct heard heard;
	int client;

	start_dynamic(ENTRY_OF("o", "hosts: [o.example], resolution: NONE, ports: [{number: 80, name: p, protocol: HTTP}]")
		      ROUTE_OF("o", "hosts: [o.example], http: [{match: [{uri: {prefix: /re}}], rewrite: {authority: 'a.d.example:8080'}, "
			       "route: [{destination: {host: '*.d.example'}}]}, {route: [{destination: {host: '*.d.example'}}]}]"));
	client = dial_elsewhere();
	say(client, GET_OF("o.example"));
	turn_main();
	heard = hear(client);
	expect_in(&heard, "DNS resolution failure");
	cr_expect_eq(questions(), 0);
	say(client, "GET /re HTTP/1.1\r\nHost: o.example\r\n\r\n");
	turn_main();
	cr_expect_eq(questions(), 1, "by the name that the server is told");
}

/* ---- what an upstream that fails is answered with: Istio's words ---- */

#define RETRIES_MS 200 /* two, after at most 25 and 75 */
#define NO_REPLY "upstream connect error or disconnect/reset before headers. "
#define TEXT_OF(length) "content-length: " length "\r\ncontent-type: text/plain\r\ndate: "

Test(redirect_http, a_refused_connection_is_503_and_says_so)
{
	int client = dial();
	struct heard heard;

	close(server);
	say(client, GET);
	turn_for(RETRIES_MS);
	heard = hear(client);
	expect_in(&heard, "HTTP/1.1 503 Service Unavailable\r\n" TEXT_OF("190"));
	expect_in(&heard, "\r\nserver: sluice\r\n\r\n" NO_REPLY "retried and the latest reset reason: remote connection failure, "
		  "transport failure reason: delayed connect error: Connection refused");
	cr_expect_null(strstr(heard.text, "x-envoy-upstream-service-time"));
	cr_expect_not(heard.ended, "the connection goes on");
}

Test(redirect_http, several_endpoints_that_refuse_were_retried)
{
	char documents[2048];
	struct heard heard;
	int client;

	snprintf(documents, sizeof(documents), REGISTRY_ONLY
		 ENTRY_OF("a", "hosts: [a.example], addresses: [203.0.113.1], resolution: STATIC, ports: [{number: 80, name: p, "
			       "protocol: HTTP, targetPort: %u}], endpoints: [{address: 127.0.0.2}, {address: 127.0.0.3}]"), port);
	apply(documents);
	turn();
	client = dial();
	say(client, GET);
	turn_for(RETRIES_MS);
	heard = hear(client);
	expect_in(&heard, NO_REPLY "retried and the latest reset reason: remote connection failure, ");
}

Test(redirect_http, an_upstream_that_closes_without_a_reply_is_503)
{
	int client = dial(), upstream = ask(client, GET);
	struct heard heard = hear(upstream);

	close(upstream);
	usleep(2000);
	turn();
	heard = hear(client);
	expect_in(&heard, "HTTP/1.1 503 ");
	expect_in(&heard, "\r\n\r\n" NO_REPLY "reset reason: connection termination");
}

Test(redirect_http, an_upstream_that_does_not_speak_http_is_502)
{
	int client = dial(), upstream = ask(client, GET);
	struct heard heard = hear(upstream);

	say(upstream, "220 mail.example ESMTP\r\n");
	turn();
	heard = hear(client);
	expect_in(&heard, "HTTP/1.1 502 ");
	expect_in(&heard, "\r\n\r\n" NO_REPLY "reset reason: protocol error");
}

/* ---- fields that a proxied request gets ---- */

Test(redirect_http, a_request_gets_an_id_its_scheme_and_its_attempt)
{
	int client = dial(), upstream = ask(client, GET);
	struct heard heard = hear(upstream);
	char id[2][64] = {"", ""};
	const char *at;

	for (int i = 0; i < 2; i++) {
		expect_in(&heard, "\r\nx-forwarded-proto: http\r\nx-request-id: ");
		expect_in(&heard, "\r\nx-envoy-attempt-count: 1\r\n\r\n");
		at = strstr(heard.text, "x-request-id: ");
		cr_assert(at && sscanf(at, "x-request-id: %63s", id[i]) == 1);
		cr_expect_eq(strlen(id[i]), 36);
		cr_expect_eq(strspn(id[i], "0123456789abcdef-"), 36);
		cr_expect(id[i][14] == '4' && strchr("89ab", id[i][19]), "a UUID of version 4: %s", id[i]);
		if (i)
			break;
		say(upstream, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
		turn();
		say(client, GET);
		turn();
		heard = hear(upstream);
	}
	cr_expect_str_neq(id[0], id[1]);
}

Test(redirect_http, an_id_and_a_scheme_that_the_client_gives_are_kept_and_a_count_is_not)
{
	int client = dial(), upstream = ask(client, "GET / HTTP/1.1\r\nHost: a.example\r\nX-Request-Id: mine\r\n"
						    "X-Forwarded-Proto: https\r\nX-Envoy-Attempt-Count: 7\r\n\r\n");
	struct heard heard = hear(upstream);

	expect_in(&heard, "X-Request-Id: mine\r\n");
	expect_in(&heard, "X-Forwarded-Proto: https\r\n");
	expect_in(&heard, "\r\nx-envoy-attempt-count: 1\r\n\r\n");
	cr_expect_null(strstr(heard.text, "x-request-id"));
	cr_expect_null(strstr(heard.text, "x-forwarded-proto"));
	cr_expect_null(strstr(heard.text, "X-Envoy-Attempt-Count"));
}

Test(redirect_http, an_id_that_is_for_the_next_hop_only_is_replaced)
{
	int client = dial(), upstream = ask(client, "GET / HTTP/1.1\r\nHost: a.example\r\nX-Request-Id: mine\r\n"
						    "Connection: X-Request-Id\r\n\r\n");
	struct heard heard = hear(upstream);

	expect_in(&heard, "\r\nx-request-id: ");
	cr_expect_null(strstr(heard.text, "mine"));
}

Test(redirect_http, the_second_endpoint_is_told_that_it_is_the_second_attempt)
{
	char documents[2048];
	int seen = 0;

	snprintf(documents, sizeof(documents), REGISTRY_ONLY
		 ENTRY_OF("a", "hosts: [a.example], addresses: [203.0.113.1], resolution: STATIC, ports: [{number: 80, name: p, "
			       "protocol: HTTP, targetPort: %u}], endpoints: [{address: 127.0.0.1}, {address: 127.0.0.2}]"), port);
	apply(documents);
	turn();
	for (int i = 0; i < 40; i++) {
		int client = dial(), upstream = ask(client, GET);
		struct heard heard = hear(upstream);

		seen |= strstr(heard.text, "x-envoy-attempt-count: 1\r\n\r\n") ? 1 : 0;
		seen |= strstr(heard.text, "x-envoy-attempt-count: 2\r\n\r\n") ? 2 : 0;
		close(client);
		close(upstream);
		turn();
	}
	cr_expect_eq(seen, 3, "first and second attempts, not %d", seen);
}

/* ---- bytes ---- */

Test(redirect_http, a_large_body_moves_in_large_pieces)
{
	static char body[4 << 20];
	int client = dial(), upstream = ask(client, GET);
	size_t sent = 0, came = 0;
	bool grew = false;

	say(upstream, "HTTP/1.1 200 OK\r\nContent-Length: 4194304\r\n\r\n");
	for (int i = 0; i < 10000 && came < sizeof(body); i++) {
		ssize_t n = send(upstream, body + sent, sizeof(body) - sent, MSG_NOSIGNAL | MSG_DONTWAIT);
		struct heard heard;

		sent += n > 0 ? (size_t)n : 0;
		turn();
		if (rig.worker->conns && rig.worker->conns->from_upstream)
			grew |= rig.worker->conns->from_upstream->size == LARGE_BUFFER;
		do {
			heard = hear(client);
			came += heard.n;
		} while (heard.n);
		if (sent == sizeof(body) && !heard.n && came > sizeof(body))
			break;
	}
	cr_expect_gt(came, sizeof(body));
	cr_expect(grew, "a large buffer for a large body");
}

/* ---- headers that a route changes ---- */

Test(redirect_http, a_route_sets_adds_and_removes_headers_both_ways)
{
	char documents[2048];
	struct heard heard;
	int client, upstream;

	snprintf(documents, sizeof(documents), REGISTRY_ONLY VIA
		 "---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: v}\nspec:\n  hosts: [a.example]\n  http:\n"
		 "  - route: [{destination: {host: a.example}}]\n    headers:\n"
		 "      request: {set: {X-Set: new}, add: {X-Add: more}, remove: [x-gone]}\n"
		 "      response: {set: {Server: hidden}, add: {X-Add: answer}, remove: [X-Inner]}\n", port);
	apply(documents);
	client = dial();
	upstream = ask(client, "GET / HTTP/1.1\r\nHost: a.example\r\nx-set: old\r\nx-add: one\r\nX-Gone: secret\r\nX-Gone: too\r\n\r\n");
	heard = hear(upstream);
	expect_in(&heard, "\r\nX-Set: new\r\n");
	expect_in(&heard, "\r\nx-add: one\r\n");
	expect_in(&heard, "\r\nX-Add: more\r\n");
	expect_in(&heard, "\r\nx-envoy-attempt-count: 1\r\n\r\n");
	cr_expect_null(strstr(heard.text, "old"));
	cr_expect_null(strcasestr(heard.text, "x-gone"));
	say(upstream, "HTTP/1.1 200 OK\r\nServer: nginx\r\nX-Inner: 1\r\nContent-Length: 2\r\n\r\nhi");
	turn();
	heard = hear(client);
	expect_in(&heard, "\r\nServer: hidden\r\n");
	expect_in(&heard, "\r\nX-Add: answer\r\n");
	cr_expect_null(strstr(heard.text, "nginx"));
	cr_expect_null(strstr(heard.text, "X-Inner"));
	expect_in(&heard, "\r\n\r\nhi");
}

/* ---- the route's timeout ---- */

static void start_with_timeout(const char *also)
{
	char documents[2048];

	snprintf(documents, sizeof(documents), REGISTRY_ONLY VIA
		 "---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: v}\nspec:\n  hosts: [a.example]\n  http:\n"
		 "  - {route: [{destination: {host: a.example}}], timeout: 100ms%s}\n", port, also);
	apply(documents);
}

Test(redirect_http, a_silent_upstream_is_504_when_the_routes_timeout_is_over)
{
	int client, upstream;
	struct heard heard;

	start_with_timeout("");
	client = dial();
	upstream = ask(client, GET);
	heard = hear(upstream);
	expect_in(&heard, "\r\nx-envoy-expected-rq-timeout-ms: 100\r\n");
	turn_for(50);
	heard = hear(client);
	cr_expect_eq(heard.n, 0);
	turn_for(100);
	heard = hear(client);
	expect_in(&heard, "HTTP/1.1 504 Gateway Timeout\r\ncontent-length: 24\r\n");
	expect_in(&heard, "\r\n\r\nupstream request timeout");
	heard = hear(upstream);
	cr_expect(heard.ended, "nothing more is expected of it");
	cr_expect_not(heard.n);
}

Test(redirect_http, the_routes_timeout_begins_when_the_whole_request_is_there)
{
	int client, upstream;
	struct heard heard;

	start_with_timeout("");
	client = dial();
	upstream = ask(client, "POST / HTTP/1.1\r\nHost: a.example\r\nX-Envoy-Expected-Rq-Timeout-Ms: 9\r\nContent-Length: 2\r\n\r\nh");
	heard = hear(upstream);
	cr_expect_null(strstr(heard.text, "Timeout-Ms: 9"));
	turn_for(200);
	heard = hear(client);
	cr_expect_eq(heard.n, 0, "half a request is no reason");
	say(client, "i");
	turn_for(150);
	heard = hear(client);
	expect_in(&heard, "HTTP/1.1 504 ");
}

Test(redirect_http, an_answer_that_takes_longer_than_the_timeout_is_cut)
{
	int client, upstream;
	struct heard heard;

	start_with_timeout("");
	client = dial();
	upstream = ask(client, GET);
	say(upstream, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf");
	turn_for(150);
	heard = hear(client);
	expect_in(&heard, "half");
	cr_expect_eq(heard.error, ECONNRESET, "half an answer is not taken for a whole one");
}

Test(redirect_http, a_timeout_is_of_one_request_and_not_of_the_connection)
{
	int client, upstream;
	struct heard heard;

	start_with_timeout("");
	client = dial();
	upstream = ask(client, GET);
	say(upstream, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
	turn_for(150);
	heard = hear(client);
	expect_in(&heard, "200 OK");
	cr_expect_not(heard.ended);
	say(client, GET);
	turn_for(50);
	say(upstream, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi");
	turn();
	heard = hear(client);
	expect_in(&heard, "\r\n\r\nhi");
}

Test(redirect_http, an_injected_delay_is_no_part_of_the_timeout)
{
	int client, upstream;
	struct heard heard;

	start_with_timeout(", fault: {delay: {percentage: {value: 100}, fixedDelay: 200ms}}");
	client = dial();
	say(client, GET);
	turn_for(250);
	upstream = accept_upstream(server);
	cr_assert_geq(upstream, 0);
	say(upstream, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi");
	turn();
	heard = hear(client);
	expect_in(&heard, "\r\n\r\nhi");
}

/* ---- tries ---- */

#define ONE_SERVER                                                                                                         \
	REGISTRY_ONLY ENTRY_OF("a", "hosts: [a.example], addresses: [203.0.113.1], resolution: STATIC, ports: [{number: 80, name: p, " \
				    "protocol: HTTP, targetPort: %u}], endpoints: [{address: 127.0.0.1}]")

static void apply_retries(const char *retries)
{
	char documents[2048];

	snprintf(documents, sizeof(documents),
		 ONE_SERVER ROUTE_OF("r", "hosts: [a.example], http: [{retries: %s, route: [{destination: {host: a.example}}]}]"), port, retries);
	apply(documents);
	turn();
}

Test(redirect_http, an_upgraded_connection_has_left_the_times_of_its_rule_behind)
{
	char documents[2048];
	struct heard heard;
	int client, upstream;

	snprintf(documents, sizeof(documents),
		 ONE_SERVER ROUTE_OF("r", "hosts: [a.example], http: [{timeout: 150ms, retries: {attempts: 1, perTryTimeout: 100ms, retryOn: 5xx}, "
					  "route: [{destination: {host: a.example}}]}]"), port);
	apply(documents);
	turn();
	client = dial();
	upstream = ask(client, "GET / HTTP/1.1\r\nHost: a.example\r\nConnection: upgrade\r\nUpgrade: lab\r\n\r\n");
	hear(upstream);
	say(upstream, "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: lab\r\n\r\n");
	turn_for(250);
	say(upstream, "still there");
	turn();
	heard = hear(client);
	expect_in(&heard, "HTTP/1.1 101 ");
	expect_in(&heard, "still there");
	cr_expect_not(heard.ended);
}

Test(redirect_http, an_answer_that_comes_too_late_for_its_try_is_of_nobody)
{
	struct heard heard;
	int client, upstream, second;

	apply_retries("{attempts: 1, perTryTimeout: 100ms, backoff: 1ms, retryOn: 5xx}");
	client = dial();
	upstream = ask(client, GET);
	turn_for(150);
	say(upstream, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nfirst");
	second = accept_upstream(server);
	cr_assert_geq(second, 0, "a second try");
	heard = hear(second);
	expect_in(&heard, "x-envoy-attempt-count: 2\r\n");
	say(second, "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nsecond");
	turn();
	heard = hear(client);
	expect_in(&heard, "\r\n\r\nsecond");
	cr_expect_null(strstr(heard.text, "first"));
}

/* The next request that the server gets after `refuses` the one before. */
static int second_try(int upstream, const char *refuses)
{
	int second;

	say(upstream, refuses);
	turn_for(20);
	second = accept_upstream(server);
	cr_assert_geq(second, 0, "a second try");
	turn();
	return second;
}

#define REFUSED "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"
#define POST(fields) "POST / HTTP/1.1\r\nHost: a.example\r\n" fields "\r\n"

static void expect_body(const struct heard *heard, const char *wanted)
{
	const char *body = strstr(heard->text, "\r\n\r\n");

	cr_assert_not_null(body, "%s", heard->text);
	cr_expect_str_eq(body + 4, wanted);
}

Test(redirect_http, a_body_is_sent_again_with_its_request)
{
	struct heard heard;
	int client, upstream;

	apply_retries("{attempts: 9, backoff: 1ms, retryOn: 5xx}");
	client = dial();
	upstream = ask(client, POST("Content-Length: 9\r\n") "some body");
	for (unsigned int attempt = 2; attempt <= 10; attempt++) {
		char count[40];

		upstream = second_try(upstream, REFUSED);
		heard = hear(upstream);
		snprintf(count, sizeof(count), "\r\nx-envoy-attempt-count: %u\r\n\r\n", attempt);
		expect_in(&heard, count);
		expect_body(&heard, "some body");
	}
	say(upstream, REFUSED);
	turn_for(20);
	cr_expect_eq(accept_upstream(server), -1);
	heard = hear(client);
	expect_in(&heard, "HTTP/1.1 503 ");
}

Test(redirect_http, chunks_and_trailers_are_sent_again_as_they_came)
{
	static const char begin[] = "3;a=b\r\nabc\r\n00", rest[] = "4\r\nd\r\ne\r\n0\r\nX-T: 1\r\n\r\n";
	struct heard heard;
	int client, upstream;

	apply_retries("{attempts: 1, backoff: 1ms, retryOn: 5xx}");
	client = dial();
	upstream = ask(client, POST("Transfer-Encoding: chunked\r\n"));
	say(client, begin);
	turn();
	heard = hear(upstream);
	expect_body(&heard, begin);
	upstream = second_try(upstream, REFUSED); /* before the rest of it is there */
	say(client, rest);
	turn();
	heard = hear(upstream);
	expect_body(&heard, "3;a=b\r\nabc\r\n004\r\nd\r\ne\r\n0\r\nX-T: 1\r\n\r\n");
	say(upstream, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi");
	turn();
	heard = hear(client);
	expect_in(&heard, "\r\n\r\nhi");
	cr_expect_not(heard.ended);
}

Test(redirect_http, a_body_that_is_too_long_to_keep_is_sent_once)
{
	static char chunk[4010], came[200000];
	struct heard heard;
	int client, upstream;
	size_t n = 0;

	apply_retries("{attempts: 1, backoff: 1ms, retryOn: 5xx}");
	strcpy(chunk, "fa0\r\n");
	memset(chunk + 5, 'x', 4000);
	strcpy(chunk + 4005, "\r\n");
	client = dial();
	upstream = ask(client, POST("Transfer-Encoding: chunked\r\n"));
	hear(upstream);
	for (int i = 0; i <= 25; i++) {
		say(client, i < 25 ? chunk : "0\r\n\r\n");
		turn();
		heard = hear(upstream);
		memcpy(came + n, heard.text, heard.n);
		n += heard.n;
	}
	cr_expect_eq(n, 25 * 4007 + 5);
	for (size_t i = 0; i < 25; i++)
		cr_expect_arr_eq(came + i * 4007, chunk, 4007, "chunk %zu", i);
	say(upstream, REFUSED);
	turn_for(20);
	cr_expect_eq(accept_upstream(server), -1, "it is not sent again");
	heard = hear(client);
	expect_in(&heard, "HTTP/1.1 503 ");
}

Test(redirect_http, a_body_whose_answer_comes_early_goes_on)
{
	struct heard heard;
	int client, upstream;

	apply_retries("{attempts: 1, backoff: 1ms, retryOn: 5xx}");
	client = dial();
	upstream = ask(client, POST("Content-Length: 6\r\n") "abc");
	hear(upstream);
	say(upstream, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n");
	turn();
	say(client, "def");
	turn();
	heard = hear(upstream);
	cr_expect_str_eq(heard.text, "def");
	say(upstream, "hi");
	turn();
	heard = hear(client);
	expect_in(&heard, "\r\n\r\nhi");
}

/* A server that takes copies and never answers must not hold on to what requests need. */
Test(redirect_http, a_mirror_that_hangs_is_given_up)
{
	char documents[4096];
	int client, upstream = -1, copy;
	struct conn *conn;

	snprintf(documents, sizeof(documents), REGISTRY_ONLY VIA ROUTE_OF("m", "hosts: [a.example], "
		 "http: [{route: [{destination: {host: a.example}}], mirror: {host: a.example}}]"), port);
	apply(documents);
	client = dial();
	upstream = ask(client, GET);
	copy = accept_upstream(server);
	cr_assert_geq(copy, 0);
	for (conn = rig.worker->conns; conn && !conn->is_mirror; conn = conn->next)
		;
	cr_assert_not_null(conn);
	cr_assert(conn->route_deadline_ms > rig.worker->now_ms && conn->route_deadline_ms <= rig.worker->now_ms + 15000, "it has 15 s");
	cr_expect_leq(conn->deadline_ms, conn->route_deadline_ms);
	conn->route_deadline_ms = rig.worker->now_ms + 10;
	worker_timer(conn, conn->route_deadline_ms);
	turn_for(30);
	cr_expect_eq(rig.worker->statistics.connections_open, 1);
	(void)upstream;
}

/* ---- an answer that does not fit ---- */

/* What it was to be given is not given to the next one, nor to ours. */
Test(redirect_http, of_answers_that_do_not_fit_nothing_is_left_in_ours)
{
	static char big[65500];
	char documents[2048];
	struct heard heard;
	int client, upstream, tries = 0;

	snprintf(documents, sizeof(documents), REGISTRY_ONLY VIA
		 ROUTE_OF("v", "hosts: [a.example], http: [{corsPolicy: {allowOrigins: [{exact: 'http://o.example'}]}, "
			       "retries: {attempts: 60, retryOn: reset, backoff: 1ms}, route: [{destination: {host: a.example}}]}]"), port);
	apply(documents);
	turn();
	memset(big, 'a', sizeof(big));
	memcpy(big, "HTTP/1.1 200 OK\r\nX: ", 20);
	memcpy(big + sizeof(big) - 4, "\r\n\r\n", 4);
	client = dial();
	for (upstream = ask(client, "GET / HTTP/1.1\r\nHost: a.example\r\nOrigin: http://o.example\r\n\r\n"); upstream >= 0; tries++) {
		cr_assert_eq(send(upstream, big, sizeof(big), MSG_NOSIGNAL), sizeof(big));
		turn_for(15);
		close(upstream);
		upstream = accept_upstream(server);
	}
	cr_expect_eq(tries, 61);
	heard = hear(client);
	expect_in(&heard, "HTTP/1.1 502 ");
	expect_in(&heard, "access-control-allow-origin: http://o.example\r\n");
	cr_expect(!strstr(heard.text, "x-envoy-upstream-service-time"), "%s", heard.text);
	cr_expect(!strstr(strstr(heard.text, "date: ") + 1, "date: "), "%s", heard.text);
}
