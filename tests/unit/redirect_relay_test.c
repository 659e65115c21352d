// SPDX-License-Identifier: Apache-2.0
/* Relays: what is admitted by a name, by an address or by nothing, what ends them, and what a new table ends. */
#include "redirect_rig.h"

static uint16_t port, plain_port;
static int server = -1, plain = -1;

#define TLS_ENTRY ENTRY_OF("a", "hosts: [a.example], addresses: [203.0.113.1], resolution: STATIC, " \
	"ports: [{number: 443, name: p, protocol: TLS, targetPort: %u}], endpoints: [{address: 127.0.0.1}]")
#define TCP_ENTRY ENTRY_OF("db", "hosts: [db.example], addresses: [203.0.113.2], resolution: STATIC, " \
	"ports: [{number: 5432, name: p, protocol: TCP, targetPort: %u}], endpoints: [{address: 127.0.0.1}]")

static void apply_both(void)
{
	char documents[2048];

	snprintf(documents, sizeof(documents), REGISTRY_ONLY TLS_ENTRY TCP_ENTRY, port, plain_port);
	apply(documents);
	turn();
}

static void start(void)
{
	server = serve_on(&port, "127.0.0.1");
	plain = serve_on(&plain_port, "127.0.0.1");
	rig_start(REGISTRY_ONLY);
	apply_both();
}

TestSuite(redirect_relay, .init = start, .timeout = 20);

static void put16(unsigned char **at, size_t value)
{
	*(*at)++ = (unsigned char)(value >> 8);
	*(*at)++ = (unsigned char)value;
}

/* A ClientHello for `name`, with an extension of so many bytes of padding before the name. */
static size_t hello_for(unsigned char *out, const char *name, size_t padding)
{
	size_t host = strlen(name), extensions = 4 + padding + 4 + 5 + host, hello = 2 + 32 + 1 + 4 + 2 + 2 + extensions;
	unsigned char *at = out;

	*at++ = 0x16;
	put16(&at, 0x0301);
	put16(&at, hello + 4);
	*at++ = 1;
	*at++ = 0;
	put16(&at, hello);
	put16(&at, 0x0303);
	memset(at, 7, 32);
	at += 32;
	*at++ = 0; /* session */
	put16(&at, 2);
	put16(&at, 0x1301);
	*at++ = 1;
	*at++ = 0; /* compression: none */
	put16(&at, extensions);
	put16(&at, 21);
	put16(&at, padding);
	memset(at, 0, padding);
	at += padding;
	put16(&at, 0);
	put16(&at, 5 + host);
	put16(&at, 3 + host);
	*at++ = 0;
	put16(&at, host);
	memcpy(at, name, host);
	return (size_t)(at + host - out);
}

static int dial_tls(const char *name, size_t padding)
{
	unsigned char hello[16384];
	size_t n = hello_for(hello, name, padding);
	struct flow_record record = record_to("203.0.113.1", 443);
	int client;

	record.service_flags = SERVICE_TLS;
	client = dial_as(&record);
	cr_assert_eq(send(client, hello, n, 0), (ssize_t)n);
	usleep(1000);
	turn();
	return client;
}

static uint32_t id_of(const char *host)
{
	for (uint32_t id = 1; id <= policy_service_count(rig.table->policy); id++)
		if (!strcmp(policy_service(rig.table->policy, id)->host, host))
			return id;
	return 0;
}

static int dial_plain(void)
{
	struct flow_record record = record_to("203.0.113.2", 5432);
	int client;

	record.service_flags = SERVICE_TCP | SERVICE_REWRITES;
	record.service = id_of("db.example");
	client = dial_as(&record);
	turn();
	return client;
}

Test(redirect_relay, a_registered_name_is_relayed_with_all_its_bytes)
{
	int client = dial_tls("a.example", 0), upstream = accept_upstream(server);
	unsigned char hello[512];
	struct heard heard;
	size_t n = hello_for(hello, "a.example", 0);

	cr_assert_geq(upstream, 0);
	turn();
	heard = hear(upstream);
	cr_expect_eq(heard.n, n);
	cr_expect_arr_eq(heard.text, hello, n);
	say(upstream, "answer");
	turn();
	heard = hear(client);
	cr_expect_str_eq(heard.text, "answer");
}

Test(redirect_relay, a_hello_of_more_than_one_buffer_is_understood)
{
	close(dial_tls("a.example", 4500));
	cr_expect_geq(accept_upstream(server), 0);
}

Test(redirect_relay, a_hello_of_exactly_one_buffer_is_understood)
{
	unsigned char hello[8192];
	size_t n = hello_for(hello, "a.example", 0);

	close(dial_tls("a.example", SMALL_BUFFER - n));
	cr_expect_geq(accept_upstream(server), 0);
}

Test(redirect_relay, an_unregistered_name_is_reset)
{
	struct heard heard = hear(dial_tls("evil.example", 0));

	cr_expect_eq(heard.error, ECONNRESET);
	cr_expect_eq(accept_upstream(server), -1);
	cr_expect_eq(rig.worker->statistics.tls_refused, 1);
}

static int dial_http(void)
{
	struct flow_record record = record_to("203.0.113.1", 443);
	int client;

	record.service_flags = SERVICE_TLS | SERVICE_REWRITES;
	client = dial_as(&record);
	say(client, "GET / HTTP/1.1\r\nHost: a.example\r\n\r\n");
	turn();
	return client;
}

Test(redirect_relay, http_is_no_http_where_only_tls_is_registered)
{
	char documents[2048];
	struct heard heard = hear(dial_http());

	cr_expect_eq(heard.error, ECONNRESET);
	cr_expect_eq(heard.n, 0);
	snprintf(documents, sizeof(documents), REGISTRY_ONLY TLS_ENTRY ENTRY_OF("b", "hosts: [b.example], resolution: NONE, "
		 "ports: [{number: 443, name: p, protocol: HTTP}]"), port);
	apply(documents);
	turn();
	heard = hear(dial_http());
	expect_in(&heard, "HTTP/1.1 502 ");
}

Test(redirect_relay, a_tcp_service_needs_no_word_from_the_client)
{
	int client = dial_plain(), upstream = accept_upstream(plain);
	struct heard heard;

	cr_assert_geq(upstream, 0);
	say(upstream, "server speaks first");
	turn();
	heard = hear(client);
	cr_expect_str_eq(heard.text, "server speaks first");
}

Test(redirect_relay, the_end_of_one_side_leaves_the_other_open)
{
	int client = dial_plain(), upstream = accept_upstream(plain);
	struct heard heard;

	say(client, "all I have");
	shutdown(client, SHUT_WR);
	usleep(1000);
	turn();
	heard = hear(upstream);
	cr_expect_str_eq(heard.text, "all I have");
	cr_expect(heard.ended);
	say(upstream, "answer");
	close(upstream);
	usleep(1000);
	turn();
	heard = hear(client);
	cr_expect_str_eq(heard.text, "answer");
	cr_expect(heard.ended);
	cr_expect_eq(rig.worker->statistics.connections_open, 0);
}

Test(redirect_relay, a_reset_crosses_from_client_to_server)
{
	int client = dial_plain(), upstream = accept_upstream(plain);
	struct heard heard;

	say(client, "half a mess");
	turn();
	hear(upstream);
	reset(client);
	usleep(1000);
	turn();
	heard = hear(upstream);
	cr_expect_eq(heard.error, ECONNRESET, "the server must not take it for the end");
}

Test(redirect_relay, a_reset_crosses_from_server_to_client)
{
	int client = dial_plain(), upstream = accept_upstream(plain);
	struct heard heard;

	reset(upstream);
	usleep(1000);
	turn();
	heard = hear(client);
	cr_expect_eq(heard.error, ECONNRESET);
}

Test(redirect_relay, pipes_are_held_only_while_bytes_are_in_them)
{
	int client = dial_plain(), upstream = accept_upstream(plain);

	say(client, "through");
	turn();
	cr_assert_not_null(rig.worker->conns);
	cr_expect_null(rig.worker->conns->up);
	cr_expect_null(rig.worker->conns->down);
	cr_expect_geq(rig.worker->free_pipe_count, 1);
	close(upstream);
}

Test(redirect_relay, a_table_that_still_has_the_service_ends_nothing)
{
	int tls = dial_tls("a.example", 0), tcp = dial_plain();
	struct heard heard;

	apply_both();
	heard = hear(tls);
	cr_expect(!heard.error && !heard.ended);
	heard = hear(tcp);
	cr_expect(!heard.error && !heard.ended);
	cr_expect_eq(rig.worker->statistics.connections_open, 2);
}

Test(redirect_relay, a_table_without_the_service_resets_its_relays)
{
	int tls = dial_tls("a.example", 0), tcp = dial_plain();
	struct heard heard;

	apply(REGISTRY_ONLY);
	turn();
	heard = hear(tls);
	cr_expect_eq(heard.error, ECONNRESET, "TLS");
	heard = hear(tcp);
	cr_expect_eq(heard.error, ECONNRESET, "TCP");
}

static bool is_open(int client)
{
	struct heard heard = hear(client);

	return !heard.error && !heard.ended;
}

Test(redirect_relay, drain_gives_a_relay_time_and_no_more)
{
	int tls = dial_tls("a.example", 0), upstream = accept_upstream(server), tcp = dial_plain();
	struct heard heard;

	apply(DRAINING("400ms"));
	turn();
	say(upstream, "still here");
	turn();
	heard = hear(tls);
	cr_expect_str_eq(heard.text, "still here");
	turn_for(200);
	apply(DRAINING("400ms")); /* a second one gives no more */
	turn_for(100);
	cr_expect(is_open(tls) && is_open(tcp));
	turn_for(200);
	heard = hear(tls);
	cr_expect_eq(heard.error, ECONNRESET, "TLS");
	heard = hear(tcp);
	cr_expect_eq(heard.error, ECONNRESET, "TCP");
	cr_expect_eq(rig.worker->drained_ms, 0);
}

Test(redirect_relay, a_policy_without_drain_ends_what_drains)
{
	int tcp = dial_plain();
	struct heard heard;

	apply(DRAINING("20s"));
	turn();
	cr_expect(is_open(tcp));
	apply(REGISTRY_ONLY);
	turn();
	heard = hear(tcp);
	cr_expect_eq(heard.error, ECONNRESET);
}

Test(redirect_relay, what_is_allowed_again_drains_no_more)
{
	int tcp = dial_plain();

	apply(DRAINING("200ms"));
	turn();
	apply_both();
	turn_for(400);
	cr_expect(is_open(tcp));
}

Test(redirect_relay, a_workload_that_comes_under_another_policy_loses_what_that_forbids)
{
	static const char strict[] = "shop\0cart\0app\0strict", loose[] = "shop\0cart\0app\0loose";
	struct flow_record record;
	struct heard heard;
	int client;

	apply("---\napiVersion: sluice.dev/v1\nkind: EgressPolicy\nmetadata: {name: s, namespace: shop}\n"
	      "spec: {workloadSelector: {labels: {app: strict}}, outboundTrafficPolicy: {mode: REGISTRY_ONLY}}\n");
	workload_learn(7, loose, sizeof(loose), 1);
	view_publish(rig.table, rig.previous);
	turn();
	record = record_to("127.0.0.1", port);
	record.workload = 7;
	client = dial_as(&record);
	say(client, "\001neither HTTP nor TLS");
	turn();
	cr_assert_geq(accept_upstream(server), 0);
	cr_expect(is_open(client));
	workload_learn(7, strict, sizeof(strict), 1);
	view_publish(rig.table, rig.previous);
	turn();
	heard = hear(client);
	cr_expect_eq(heard.error, ECONNRESET);
}

Test(redirect_relay, a_table_that_comes_during_the_connect_counts_too)
{
	struct heard heard;
	int tcp;

	rig.withholds = true;
	do { /* until the pool is empty and somebody waits for a socket */
		tcp = dial_plain();
	} while (!rig.worker->pools->waiting.count);
	apply(REGISTRY_ONLY);
	turn();
	rig.withholds = false;
	turn_for(250);
	heard = hear(tcp);
	cr_expect_eq(heard.error, ECONNRESET);
}

Test(redirect_relay, a_long_name_is_still_known_when_the_table_changes)
{
#define LONG_NAME "a23456789012345678901234567890.b23456789012345678901234567890.c23456789012345678901234567890.example"
	char documents[2048];
	struct heard heard;
	int tls;

	snprintf(documents, sizeof(documents), REGISTRY_ONLY ENTRY_OF("a", "hosts: [" LONG_NAME "], addresses: [203.0.113.1], "
		 "resolution: STATIC, ports: [{number: 443, name: p, protocol: TLS, targetPort: %u}], endpoints: [{address: 127.0.0.1}]"),
		 port);
	apply(documents);
	turn();
	tls = dial_tls(LONG_NAME, 0);
	cr_assert_geq(accept_upstream(server), 0);
	apply(documents);
	turn();
	heard = hear(tls);
	cr_expect(!heard.error && !heard.ended, "%s", strerror(heard.error));
}

Test(redirect_relay, a_service_id_of_a_forgotten_generation_names_nothing)
{
	struct flow_record record = record_to("203.0.113.2", 5432);
	struct heard heard;
	int client;

	record.service_flags = SERVICE_TCP | SERVICE_REWRITES;
	record.service = id_of("db.example");
	apply_both();
	apply_both();
	client = dial_as(&record);
	turn();
	heard = hear(client);
	cr_expect_eq(heard.error, ECONNRESET);
}

#define RANGE_ENTRY ENTRY_OF("net", "hosts: [net.example], addresses: [127.0.0.0/8], ports: [{number: %u, name: p, protocol: TCP}]")
#define IN_RANGE_ENTRY ENTRY_OF("b", "hosts: [b.example], resolution: STATIC, ports: [{number: %u, name: p, protocol: TLS}], " \
	"endpoints: [{address: 127.0.0.1}]")

/* The address is another one's as well, which stays. */
Test(redirect_relay, what_a_range_admitted_ends_with_the_range)
{
	char documents[2048];
	struct flow_record record;
	struct heard heard;
	int client;

	snprintf(documents, sizeof(documents), REGISTRY_ONLY IN_RANGE_ENTRY RANGE_ENTRY, port, port);
	apply(documents);
	turn();
	record = record_to("127.0.0.1", port);
	record.service_flags = SERVICE_TLS | SERVICE_TCP;
	record.service = id_of("b.example");
	client = dial_as(&record);
	cr_assert_eq(send(client, "hello\n", 6, 0), 6);
	usleep(1000);
	turn();
	cr_expect_geq(accept_upstream(server), 0);
	apply(documents);
	turn();
	heard = hear(client);
	cr_expect(!heard.error && !heard.ended);
	snprintf(documents, sizeof(documents), REGISTRY_ONLY IN_RANGE_ENTRY, port);
	apply(documents);
	turn();
	heard = hear(client);
	cr_expect_eq(heard.error, ECONNRESET);
}

Test(redirect_relay, a_record_of_a_table_just_published_waits_for_it)
{
	struct flow_record record;
	int client;

	apply(REGISTRY_ONLY);
	turn();
	{
		char documents[2048];

		snprintf(documents, sizeof(documents), REGISTRY_ONLY TCP_ENTRY, plain_port);
		apply(documents);
	}
	record = record_to("203.0.113.2", 5432);
	record.service_flags = SERVICE_TCP | SERVICE_REWRITES;
	record.service = id_of("db.example");
	client = dial_as(&record); /* the worker has not begun another round */
	turn();
	cr_expect_geq(accept_upstream(plain), 0);
	close(client);
}

Test(redirect_relay, a_pod_that_goes_takes_its_connections_along)
{
	int tcp = dial_plain();
	struct heard heard;

	atomic_store(&rig.place.gone, true);
	view_publish(rig.table, rig.previous);
	turn();
	heard = hear(tcp);
	cr_expect_eq(heard.error, ECONNRESET);
	cr_expect_eq(rig.worker->statistics.connections_open, 0);
}

Test(redirect_relay, silence_is_reset_where_a_name_is_needed)
{
	struct flow_record record = record_to("203.0.113.1", 443);
	struct heard heard;
	int client;

	record.service_flags = SERVICE_TLS;
	client = dial_as(&record);
	turn_for(SILENCE_MS - 200);
	heard = hear(client);
	cr_expect(!heard.error && !heard.ended, "not before a second has passed");
	turn_for(400);
	heard = hear(client);
	cr_expect_eq(heard.error, ECONNRESET);
}
