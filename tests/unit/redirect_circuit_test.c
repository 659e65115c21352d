// SPDX-License-Identifier: Apache-2.0
/* Limits of connections and requests, ejected addresses and consistent hashing, through a worker. */
#include "redirect/circuit.h"
#include "redirect_rig.h"

#include <limits.h>
#include <pthread.h>
#include <sched.h>

static uint16_t port;
static int servers[2] = {-1, -1}; /* 127.0.0.1 and 127.0.0.2, on one port */

#define GET "GET / HTTP/1.1\r\nHost: a.example\r\n\r\n"
#define OK "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
#define STATUS_500 "HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n"
#define STATUS_503 "HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n"

/* a.example with so many endpoints, under a traffic policy. */
static void apply_policy(int endpoints, const char *policy)
{
	char documents[4096];

	snprintf(documents, sizeof(documents), REGISTRY_ONLY
		 ENTRY_OF("a", "hosts: [a.example], addresses: [203.0.113.1], resolution: STATIC, ports: ["
			       "{number: 80, name: p, protocol: HTTP, targetPort: %u}, {number: 81, name: q, protocol: TCP, targetPort: %u}], "
			       "endpoints: [{address: 127.0.0.1}%s]")
		 "---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: d}\n"
		 "spec: {host: a.example, trafficPolicy: {%s}}\n"
		 ROUTE_OF("v", "hosts: [a.example], http: [{retries: {attempts: 1, retryOn: 'retriable-status-codes,503', backoff: 20ms}, "
			       "match: [{headers: {x-retry: {}}}], route: [{destination: {host: a.example}}]}, "
			       "{retries: {attempts: 0}, route: [{destination: {host: a.example}}]}]"),
		 port, port, endpoints > 1 ? ", {address: 127.0.0.2}" : "", policy);
	if (!rig.generation)
		rig_start(documents);
	else
		apply(documents);
	turn();
}

static void start(void)
{
	servers[0] = serve_on(&port, "127.0.0.1");
	servers[1] = serve_on(&port, "127.0.0.2");
}

TestSuite(redirect_circuit, .init = start, .timeout = 20);

static int dial(uint16_t to)
{
	struct flow_record record = record_to("203.0.113.1", to);

	record.service_flags = to == 81 ? SERVICE_TCP : SERVICE_HTTP;
	if (to == 81) /* the registered TCP service, which is found by its id */
		while (!(policy_service(rig.table->policy, ++record.service)->flags & SERVICE_TCP))
			;
	return dial_as(&record);
}

static int dial_and_ask(const char *request)
{
	int client = dial(80);

	say(client, request);
	turn();
	return client;
}

static int answer(int upstream, const char *text)
{
	hear(upstream);
	say(upstream, text);
	usleep(1000);
	turn();
	return upstream;
}

static void expect_status(int client, const char *status)
{
	struct heard heard = hear(client);

	expect_in(&heard, status);
}

static void expect_silence(int client)
{
	struct heard heard = hear(client);

	cr_expect(!heard.n && !heard.ended && !heard.error, "came: %s", heard.text);
}

static const struct circuit *circuit_of_first(void)
{
	const struct conn *conn = rig.worker->conns;

	while (conn && !conn->circuit)
		conn = conn->next;
	cr_assert(conn, "no connection has a circuit");
	return conn->circuit;
}

/* ---- connectionPool ---- */

#define ONE_AND_ONE "connectionPool: {tcp: {maxConnections: 1}, http: {http1MaxPendingRequests: 1}}"

Test(redirect_circuit, a_request_beyond_the_connections_waits_and_one_beyond_those_overflows)
{
	int first, second, third, upstream;
	struct heard heard;

	apply_policy(1, ONE_AND_ONE);
	first = dial_and_ask(GET);
	upstream = accept_upstream(servers[0]);
	second = dial_and_ask(GET);
	cr_expect_eq(accept_upstream(servers[0]), -1);
	third = dial_and_ask(GET);
	heard = hear(third);
	expect_in(&heard, "HTTP/1.1 503 ");
	expect_in(&heard, "\r\nx-envoy-overloaded: true\r\n");
	expect_in(&heard, "\r\n\r\nupstream connect error or disconnect/reset before headers. reset reason: overflow");
	cr_expect_eq(rig.worker->statistics.overflows_total, 1);
	expect_silence(second);
	answer(upstream, OK);
	expect_status(first, "HTTP/1.1 200 ");
	upstream = accept_upstream(servers[0]);
	cr_assert_geq(upstream, 0, "the connection of the first is given up for the second");
	answer(upstream, OK);
	expect_status(second, "HTTP/1.1 200 ");
	cr_expect_eq(circuit_of_first()->connections, 1);
	cr_expect_eq(circuit_of_first()->requests, 0);
	cr_expect_eq(circuit_of_first()->waiting, 0);
}

Test(redirect_circuit, an_idle_connection_of_another_client_is_given_up)
{
	int first, second, upstream;

	apply_policy(1, ONE_AND_ONE);
	first = dial_and_ask(GET);
	upstream = answer(accept_upstream(servers[0]), OK);
	expect_status(first, "HTTP/1.1 200 ");
	cr_expect_eq(rig.worker->idle.count, 1);
	second = dial_and_ask(GET);
	cr_expect(hear(upstream).ended);
	answer(accept_upstream(servers[0]), OK);
	expect_status(second, "HTTP/1.1 200 ");
	say(first, GET); /* whose client connection lives, as it would in Envoy */
	turn();
	answer(accept_upstream(servers[0]), OK);
	expect_status(first, "HTTP/1.1 200 ");
}

Test(redirect_circuit, a_client_with_more_to_ask_does_not_overtake_those_who_wait)
{
	int first, upstream;
	struct heard heard;

	apply_policy(1, "connectionPool: {tcp: {maxConnections: 1}}");
	first = dial(80);
	say(first, GET GET);
	turn();
	upstream = accept_upstream(servers[0]);
	dial_and_ask("GET /second HTTP/1.1\r\nHost: a.example\r\n\r\n");
	answer(upstream, OK);
	upstream = accept_upstream(servers[0]);
	heard = hear(upstream);
	expect_in(&heard, "GET /second ");
	answer(upstream, OK);
	heard = hear(accept_upstream(servers[0]));
	expect_in(&heard, "GET / ");
}

Test(redirect_circuit, whoever_leaves_the_line_makes_room_in_it)
{
	int second, third;

	apply_policy(1, ONE_AND_ONE);
	dial_and_ask(GET);
	second = dial_and_ask(GET);
	close(second); /* its end alone: there is nobody to wait any more */
	usleep(1000);
	turn();
	cr_expect_eq(circuit_of_first()->waiting, 0);
	third = dial_and_ask(GET);
	expect_silence(third);
	cr_expect_eq(circuit_of_first()->waiting, 1);
}

Test(redirect_circuit, counts_outlive_generations_and_end_with_their_connections)
{
	const struct circuit *circuit;
	int first, second, upstream;

	apply_policy(1, ONE_AND_ONE);
	first = dial_and_ask(GET);
	upstream = accept_upstream(servers[0]);
	circuit = circuit_of_first();
	apply_policy(1, ONE_AND_ONE);
	second = dial_and_ask(GET);
	expect_silence(second);
	cr_expect_eq(circuit->connections, 1);
	apply_policy(1, "connectionPool: {tcp: {maxConnections: 2}}");
	answer(upstream, OK);
	answer(accept_upstream(servers[0]), OK);
	expect_status(first, "HTTP/1.1 200 ");
	expect_status(second, "HTTP/1.1 200 ");
	close(first);
	close(second);
	usleep(1000);
	turn();
	cr_expect_eq(circuit->connections, 0);
	cr_expect_eq(circuit->requests, 0);
	cr_expect_eq(circuit->shared.holders, 0);
	circuit_sweep(rig.worker->now_ms);
	cr_expect_eq(circuit->shared.holders, 0, "it is too young to be forgotten");
	circuit_sweep(rig.worker->now_ms + CIRCUIT_UNUSED_MS + 1);
	turn();
	first = dial_and_ask(GET);
	answer(accept_upstream(servers[0]), OK);
	expect_status(first, "HTTP/1.1 200 ");
}

Test(redirect_circuit, workloads_count_for_themselves)
{
	struct flow_record record;
	int other;

	apply_policy(1, ONE_AND_ONE);
	dial_and_ask(GET);
	cr_assert_geq(accept_upstream(servers[0]), 0);
	record = record_to("203.0.113.1", 80);
	record.workload = 7;
	record.service_flags = SERVICE_HTTP;
	other = dial_as(&record);
	say(other, GET);
	turn();
	answer(accept_upstream(servers[0]), OK);
	expect_status(other, "HTTP/1.1 200 ");
}

Test(redirect_circuit, more_requests_than_may_be_active_overflow)
{
	int first, second;

	apply_policy(1, "connectionPool: {http: {http2MaxRequests: 1}}");
	first = dial_and_ask(GET);
	answer(accept_upstream(servers[0]), OK);
	expect_status(first, "HTTP/1.1 200 ");
	second = dial_and_ask(GET);
	say(first, GET);
	turn();
	expect_status(first, "reset reason: overflow");
	answer(accept_upstream(servers[0]), OK);
	expect_status(second, "HTTP/1.1 200 ");
	say(second, GET);
	turn();
	cr_expect_eq(circuit_of_first()->requests, 1);
}

#define RETRIED "GET / HTTP/1.1\r\nHost: a.example\r\nx-retry: 1\r\n\r\n"

Test(redirect_circuit, of_retries_only_so_many_are_under_way)
{
	int first, second, upstream[2];

	apply_policy(1, "connectionPool: {http: {maxRetries: 1}}");
	first = dial_and_ask(RETRIED);
	upstream[0] = accept_upstream(servers[0]);
	second = dial_and_ask(RETRIED);
	upstream[1] = accept_upstream(servers[0]);
	answer(upstream[0], STATUS_503);
	turn_for(60);
	upstream[0] = accept_upstream(servers[0]);
	cr_assert_geq(upstream[0], 0, "it is tried again");
	answer(upstream[1], STATUS_503);
	expect_status(second, "HTTP/1.1 503 ");
	answer(upstream[0], OK);
	expect_status(first, "HTTP/1.1 200 ");
	cr_expect_eq(circuit_of_first()->retries, 0);
}

Test(redirect_circuit, retries_within_a_budget)
{
	int clients[4], upstream[4];

	apply_policy(1, "retryBudget: {percent: 50, minRetryConcurrency: 1}");
	for (int i = 0; i < 4; i++) {
		clients[i] = dial_and_ask(RETRIED);
		upstream[i] = accept_upstream(servers[0]);
	}
	answer(upstream[0], STATUS_503); /* of four requests half may be tried again at once */
	answer(upstream[1], STATUS_503); /* of the three that are under way now, one */
	turn_for(1);
	expect_silence(clients[0]);
	expect_status(clients[1], "HTTP/1.1 503 ");
}

/* ---- by all workers at once ---- */

#define THREADS 4
#define MOST 3

static struct service busy_service = {.host = "busy.example", .port = 80, .resolution = RESOLUTION_STATIC,
				      .policy.pool.max_connections = MOST};
static atomic_uint inside, admitted, too_many, finished;

static void *come_and_go(void *of)
{
	struct worker *worker = of;
	struct conn conn = {.worker = worker, .place = &rig.place, .service = &busy_service, .purpose = FOR_RELAY, .port = 80};

	for (unsigned int i = 0; i < 20000; i++) {
		circuit_enter(&conn, false);
		conn.addr[15] = (uint8_t)(i % 16);
		if (circuit_admit(&conn) == CIRCUIT_ADMITS) {
			atomic_fetch_add(&too_many, atomic_fetch_add(&inside, 1) >= MOST);
			atomic_fetch_add(&admitted, 1);
			circuit_dial(&conn);
			if (i % 64 == 0)
				sched_yield();
			atomic_fetch_sub(&inside, 1);
		}
		circuit_release(&conn);
		circuit_leave(&conn);
		atomic_store(&worker->seen, atomic_load(&current_epoch)); /* as at the end of a round */
	}
	atomic_store(&worker->seen, ULONG_MAX);
	atomic_fetch_add(&finished, 1);
	return NULL;
}

/* With a sweeper that forgets whatever nobody holds this very moment. */
Test(circuit, all_workers_count_in_one_while_others_are_forgotten)
{
	pthread_t threads[THREADS];

	worker_count = THREADS;
	for (int i = 0; i < THREADS; i++) {
		workers[i].wake_fd = -1;
		pthread_create(&threads[i], NULL, come_and_go, &workers[i]);
	}
	while (atomic_load(&finished) < THREADS) {
		circuit_sweep(CIRCUIT_UNUSED_MS + 2);
		view_reclaim();
	}
	for (int i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	cr_expect_eq(too_many, 0);
	cr_expect_gt(admitted, 1000);
	circuit_sweep(CIRCUIT_UNUSED_MS + 2);
	circuit_sweep(CIRCUIT_UNUSED_MS + 2);
	view_reclaim();
}

Test(redirect_circuit, a_relay_beyond_the_connections_is_closed)
{
	int first, second;

	apply_policy(1, "connectionPool: {tcp: {maxConnections: 1}}");
	first = dial(81);
	turn();
	cr_assert_geq(accept_upstream(servers[0]), 0);
	second = dial(81);
	turn();
	cr_expect_eq(hear(second).error, ECONNRESET);
	reset(first);
	usleep(1000);
	turn();
	second = dial(81);
	turn();
	cr_expect_geq(accept_upstream(servers[0]), 0);
}

Test(redirect_circuit, an_idle_connection_is_closed_and_its_client_is_not)
{
	int client, upstream;

	apply_policy(1, "connectionPool: {tcp: {idleTimeout: 10s}, http: {idleTimeout: 60ms}}");
	client = dial_and_ask(GET);
	upstream = answer(accept_upstream(servers[0]), OK);
	expect_status(client, "HTTP/1.1 200 ");
	turn_for(30);
	cr_expect_not(hear(upstream).ended);
	turn_for(60);
	cr_expect(hear(upstream).ended);
	expect_silence(client);
	say(client, GET);
	turn();
	answer(accept_upstream(servers[0]), OK);
	expect_status(client, "HTTP/1.1 200 ");
}

Test(redirect_circuit, a_connection_that_has_lasted_long_enough_serves_no_other_request)
{
	int client, upstream;

	apply_policy(1, "connectionPool: {tcp: {maxConnectionDuration: 60ms}}");
	client = dial_and_ask(GET);
	upstream = accept_upstream(servers[0]);
	turn_for(90);
	answer(upstream, OK);
	expect_status(client, "HTTP/1.1 200 ");
	cr_expect(hear(upstream).ended);
	say(client, GET);
	turn();
	cr_expect_geq(accept_upstream(servers[0]), 0);
}

Test(redirect_circuit, a_relay_ends_when_it_is_idle_or_has_lasted_long_enough)
{
	int idle, busy;

	apply_policy(1, "connectionPool: {tcp: {idleTimeout: 60ms, maxConnectionDuration: 150ms}}");
	idle = dial(81);
	busy = dial(81);
	turn();
	for (int i = 0; i < 4; i++) {
		say(busy, "x");
		turn_for(25);
	}
	cr_expect(hear(idle).ended);
	expect_silence(busy);
	for (int i = 0; i < 4; i++) {
		send(busy, "x", 1, MSG_NOSIGNAL);
		turn_for(25);
	}
	cr_expect(hear(busy).ended || hear(busy).error);
}

/* ---- outlierDetection ---- */

/* Which server is asked, on a connection of its own; it answers so. -1: neither. */
static int which_is_asked(const char *status_of_first, const char *status_of_second, const char *expected)
{
	int client = dial_and_ask(GET);

	for (int i = 0; i < 2; i++) {
		int upstream = accept_upstream(servers[i]);

		if (upstream < 0)
			continue;
		answer(upstream, i ? status_of_second : status_of_first);
		expect_status(client, expected ? expected : "HTTP/1.1 ");
		close(upstream);
		close(client);
		usleep(500);
		turn();
		return i;
	}
	expect_status(client, expected ? expected : "HTTP/1.1 503 ");
	close(client);
	return -1;
}

static unsigned int times_asked(int which, int of, const char *first, const char *second)
{
	unsigned int n = 0;

	for (int i = 0; i < of; i++)
		n += which_is_asked(first, second, NULL) == which;
	return n;
}

#define EJECTS(more) "loadBalancer: {simple: ROUND_ROBIN}, outlierDetection: {consecutive5xxErrors: 2, interval: 20ms, baseEjectionTime: 200ms" more "}"

Test(redirect_circuit, an_address_that_fails_in_a_row_is_ejected_and_comes_back)
{
	apply_policy(2, EJECTS(", maxEjectionPercent: 50"));
	cr_expect_eq(times_asked(0, 4, STATUS_500, OK), 2);
	cr_expect_eq(rig.worker->statistics.ejections_total, 1);
	cr_expect_eq(times_asked(0, 6, STATUS_500, OK), 0);
	cr_expect_eq(times_asked(1, 6, OK, STATUS_500), 6, "more than half may not be ejected");
	turn_for(260);
	cr_expect_eq(times_asked(0, 6, OK, OK), 3);
	cr_expect_eq(rig.worker->statistics.ejections_total, 1);
}

Test(redirect_circuit, what_is_known_of_an_address_outlives_generations)
{
	apply_policy(2, EJECTS(", maxEjectionPercent: 50"));
	cr_expect_eq(times_asked(0, 4, STATUS_500, OK), 2);
	apply_policy(2, EJECTS(", maxEjectionPercent: 50"));
	cr_expect_eq(times_asked(0, 4, OK, OK), 0);
}

Test(redirect_circuit, an_answer_between_failures_begins_the_row_anew)
{
	apply_policy(1, EJECTS(", maxEjectionPercent: 100"));
	for (int i = 0; i < 4; i++)
		which_is_asked(i % 2 ? OK : STATUS_500, OK, NULL);
	cr_expect_eq(rig.worker->statistics.ejections_total, 0);
}

Test(redirect_circuit, nobody_is_ejected_where_one_is_more_than_may_be)
{
	apply_policy(2, EJECTS(""));
	cr_expect_eq(times_asked(0, 12, STATUS_500, STATUS_500), 6);
	cr_expect_eq(rig.worker->statistics.ejections_total, 0);
}

Test(redirect_circuit, all_ejected_is_no_healthy_upstream)
{
	apply_policy(2, EJECTS(", maxEjectionPercent: 100"));
	times_asked(0, 4, STATUS_500, STATUS_500);
	cr_expect_eq(rig.worker->statistics.ejections_total, 2);
	cr_expect_eq(which_is_asked(OK, OK, "\r\n\r\nno healthy upstream"), -1);
}

Test(redirect_circuit, all_are_used_where_too_few_are_healthy)
{
	apply_policy(2, EJECTS(", maxEjectionPercent: 100, minHealthPercent: 60"));
	times_asked(0, 4, STATUS_500, OK);
	cr_expect_eq(rig.worker->statistics.ejections_total, 1);
	cr_expect_gt(times_asked(0, 6, OK, OK), 0);
}

Test(redirect_circuit, a_kept_connection_to_an_ejected_address_is_left)
{
	int client, upstream;

	apply_policy(2, EJECTS(", maxEjectionPercent: 50"));
	client = dial_and_ask(GET);
	upstream = accept_upstream(servers[0]);
	answer(upstream, STATUS_500);
	say(client, GET);
	turn();
	answer(upstream, STATUS_500);
	hear(client);
	say(client, GET);
	turn();
	cr_expect(hear(upstream).ended);
	answer(accept_upstream(servers[1]), OK);
	expect_status(client, "HTTP/1.1 200 ");
}

Test(redirect_circuit, failures_on_the_way_count_as_5xx_unless_they_are_split)
{
	apply_policy(2, EJECTS(", maxEjectionPercent: 50"));
	close(servers[0]);
	for (int i = 0; i < 4; i++)
		which_is_asked("", OK, NULL);
	cr_expect_eq(rig.worker->statistics.ejections_total, 1);
	turn_for(260);
	apply_policy(2, EJECTS(", maxEjectionPercent: 50, splitExternalLocalOriginErrors: true, consecutiveLocalOriginFailures: 3"));
	for (int i = 0; i < 4; i++)
		which_is_asked("", OK, NULL);
	cr_expect_eq(rig.worker->statistics.ejections_total, 1);
	for (int i = 0; i < 2; i++)
		which_is_asked("", OK, NULL);
	cr_expect_eq(rig.worker->statistics.ejections_total, 2);
}

Test(redirect_circuit, gateway_errors_have_a_row_of_their_own)
{
	apply_policy(1, "outlierDetection: {consecutive5xxErrors: 0, consecutiveGatewayErrors: 2, maxEjectionPercent: 100}");
	for (int i = 0; i < 6; i++)
		which_is_asked(i % 2 ? STATUS_500 : STATUS_503, OK, NULL);
	cr_expect_eq(rig.worker->statistics.ejections_total, 0);
	for (int i = 0; i < 2; i++)
		which_is_asked(STATUS_503, OK, NULL);
	cr_expect_eq(rig.worker->statistics.ejections_total, 1);
}

Test(outlier, each_ejection_in_a_row_is_longer)
{
	struct outlier_settings settings = {.base_ejection_ms = 30000}, long_one = {.base_ejection_ms = 400000};

	cr_expect_eq(outlier_time(&settings, 1), 30000);
	cr_expect_eq(outlier_time(&settings, 3), 90000);
	cr_expect_eq(outlier_time(&settings, 50), 300000, "Envoy's max_ejection_time");
	cr_expect_eq(outlier_time(&long_one, 2), 400000);
}

/* ---- where a request goes ---- */

Test(redirect_circuit, of_two_addresses_the_one_with_less_to_do)
{
	unsigned int asked[2] = {0}, before;
	int upstreams[64], n = 0;

	apply_policy(2, "loadBalancer: {simple: LEAST_REQUEST}");
	rig.worker->random = 4711;
	for (int i = 0; i < 40; i++) {
		dial_and_ask(GET);
		for (int k = 0; k < 2; k++) {
			int upstream = accept_upstream(servers[k]);

			if (upstream >= 0)
				asked[k]++;
			if (upstream >= 0 && k == 1)
				upstreams[n++] = upstream;
		}
	}
	cr_expect(asked[0] >= 18 && asked[0] <= 22, "%u of 40", asked[0]);
	for (int i = 0; i < n; i++)
		answer(upstreams[i], OK);
	before = asked[0];
	for (int i = 0; i < 12; i++) {
		dial_and_ask(GET);
		asked[0] += accept_upstream(servers[0]) >= 0;
	}
	cr_expect(asked[0] - before <= 5, "%u of 12, though the other one has nothing to do", asked[0] - before);
}

#define KEYED "GET / HTTP/1.1\r\nHost: a.example\r\nX-User: user-%d\r\n\r\n"

static int server_for(int user)
{
	char request[128];
	int client, which = -1;

	snprintf(request, sizeof(request), KEYED, user);
	client = dial_and_ask(request);
	for (int i = 0; i < 2; i++) {
		int upstream = accept_upstream(servers[i]);

		if (upstream >= 0)
			which = i;
		close(upstream);
	}
	close(client);
	usleep(500);
	turn();
	return which;
}

Test(redirect_circuit, a_header_tells_the_address_for_each_request)
{
	char request[128];
	int where[20], ones = 0, client, upstream, other = 0;

	apply_policy(2, "loadBalancer: {consistentHash: {httpHeaderName: x-user}}");
	for (int user = 0; user < 20; user++)
		ones += where[user] = server_for(user);
	cr_expect(ones > 2 && ones < 18, "%d of 20 users go to the second", ones);
	apply_policy(2, "loadBalancer: {consistentHash: {httpHeaderName: x-user}}");
	for (int user = 0; user < 20; user++)
		cr_expect_eq(server_for(user), where[user]);
	while (where[other] == where[0])
		other++;
	snprintf(request, sizeof(request), KEYED, 0);
	client = dial_and_ask(request);
	upstream = answer(accept_upstream(servers[where[0]]), OK);
	say(client, request);
	turn();
	cr_expect_eq(accept_upstream(servers[where[0]]), -1, "the connection is used again");
	answer(upstream, OK);
	snprintf(request, sizeof(request), KEYED, other);
	say(client, request);
	turn();
	cr_expect_geq(accept_upstream(servers[where[other]]), 0);
}

Test(redirect_circuit, a_client_without_the_cookie_is_given_one_that_leads_back)
{
	char cookie[64], request[256];
	struct heard heard;
	int which, client;
	const char *at;

	apply_policy(2, "loadBalancer: {consistentHash: {httpCookie: {name: sid, path: /p, ttl: 90s, attributes: [{name: Secure}]}}}");
	for (int i = 0; i < 10; i++) {
		int upstream = -1;

		client = dial_and_ask(GET);
		for (which = 0; which < 2 && (upstream = accept_upstream(servers[which])) < 0; which++)
			;
		answer(upstream, OK);
		heard = hear(client);
		at = strstr(heard.text, "set-cookie: sid=\"");
		cr_assert(at, "%s", heard.text);
		cr_assert_eq(sscanf(at, "set-cookie: sid=\"%16[0-9a-f]\"", cookie), 1);
		expect_in(&heard, "\"; Max-Age=90; Path=/p; Secure; HttpOnly\r\n");
		snprintf(request, sizeof(request), "GET / HTTP/1.1\r\nHost: a.example\r\nCookie: x=1; sid=\"%s\"\r\n\r\n", cookie);
		client = dial_and_ask(request);
		upstream = accept_upstream(servers[which]);
		cr_assert_geq(upstream, 0, "the same server");
		answer(upstream, OK);
		heard = hear(client);
		cr_expect(!strstr(heard.text, "set-cookie"), "it has one: %s", heard.text);
	}
}

Test(redirect_circuit, a_hashed_request_goes_on_to_the_next_when_its_address_is_ejected)
{
	int where, user = 0;
	char request[128];

	apply_policy(2, "loadBalancer: {consistentHash: {httpHeaderName: x-user}}, "
			"outlierDetection: {consecutive5xxErrors: 1, maxEjectionPercent: 50}");
	where = server_for(user); /* which closes without an answer: a failure */
	cr_expect_eq(rig.worker->statistics.ejections_total, 1);
	snprintf(request, sizeof(request), KEYED, user);
	dial_and_ask(request);
	cr_expect_geq(accept_upstream(servers[!where]), 0);
}

Test(redirect_circuit, passthrough_keeps_the_destination)
{
	struct candidate out[MAX_CANDIDATES];
	struct conn conn = {.record = record_to("192.0.2.9", 80)};

	apply_policy(2, "loadBalancer: {simple: PASSTHROUGH}");
	conn.service = policy_service(rig.table->policy, 1);
	cr_assert_eq(upstream_addresses(&conn, out), 1);
	cr_expect(!memcmp(out[0].addr, conn.record.addr, 16) && out[0].port == 80);
	cr_expect(conn.service->flags & SERVICE_NONE, "the kernel lets sluice dial it");
}
