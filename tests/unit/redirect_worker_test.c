// SPDX-License-Identifier: Apache-2.0
/* What a worker keeps: timers, buffers, sockets for upstream connections, reports. */
#include "redirect_rig.h"

static uint16_t port;
static int server = -1;

static void start(void)
{
	char documents[1024];

	server = serve_on(&port, "127.0.0.1");
	snprintf(documents, sizeof(documents), REGISTRY_ONLY
		 ENTRY_OF("a", "hosts: [a.example], addresses: [203.0.113.1], resolution: STATIC, ports: [{number: 80, name: p, "
			       "protocol: HTTP, targetPort: %u}], endpoints: [{address: 127.0.0.1}]"), port);
	rig_start(documents);
}

TestSuite(redirect_worker, .init = start, .timeout = 20);

#define GET "GET / HTTP/1.1\r\nHost: a.example\r\n\r\n"

static int dial_and_ask(uint32_t workload)
{
	struct flow_record record = record_to("203.0.113.1", 80);
	int client;

	record.workload = workload;
	client = dial_as(&record);
	say(client, GET);
	turn();
	return client;
}

/* ---- timers ---- */

Test(redirect_worker, timers_keep_their_order_through_any_changes)
{
	static struct conn conns[500];
	struct timer_heap *heap = &rig.worker->timers;
	size_t in_heap = 0;

	for (size_t i = 0; i < 500; i++)
		conns[i].worker = rig.worker;
	for (int step = 0; step < 20000; step++) {
		struct conn *conn = &conns[worker_random(rig.worker) % 500];
		uint64_t deadline = rig.worker->now_ms + 1000000 + worker_random(rig.worker) % 100000;

		worker_timer(conn, deadline);
		cr_assert_eq(conn->deadline_ms, deadline);
		cr_assert_leq(conn->timer_ms, deadline, "a connection is looked at by its deadline");
		if (step % 7 == 0) {
			conn->state = CONN_CLOSED;
			worker_timer(conn, 0);
			conn->state = CONN_SNIFF;
			cr_assert_eq(conn->timer_slot, 0);
		}
	}
	for (size_t i = 1; i <= heap->count; i++) {
		cr_assert_eq(heap->items[i]->timer_slot, i);
		cr_assert(i == 1 || heap->items[i / 2]->timer_ms <= heap->items[i]->timer_ms);
	}
	for (size_t i = 0; i < 500; i++)
		in_heap += conns[i].timer_slot != 0;
	cr_expect_eq(in_heap, heap->count);
}

Test(redirect_worker, a_later_deadline_leaves_the_heap_alone)
{
	struct conn conn = {.worker = rig.worker};

	worker_timer(&conn, rig.worker->now_ms + 1000);
	worker_timer(&conn, rig.worker->now_ms + 5000);
	cr_expect_eq(conn.timer_ms, rig.worker->now_ms + 1000);
	worker_timer(&conn, rig.worker->now_ms + 500);
	cr_expect_eq(conn.timer_ms, rig.worker->now_ms + 500);
}

/* ---- buffers ---- */

Test(redirect_worker, a_buffer_grows_only_for_what_does_not_fit)
{
	struct buffer *buffer = NULL;

	cr_assert(buffer_make_room(rig.worker, &buffer));
	cr_assert_eq(buffer->size, SMALL_BUFFER);
	buffer->end = buffer->size;
	buffer->start = 100;
	cr_assert(buffer_make_room(rig.worker, &buffer));
	cr_expect_eq(buffer->size, SMALL_BUFFER);
	cr_expect_eq(buffer->end, SMALL_BUFFER - 100);
	buffer->end = buffer->size;
	cr_assert(buffer_make_room(rig.worker, &buffer));
	cr_expect_eq(buffer->size, LARGE_BUFFER);
	cr_expect_eq(buffer_length(buffer), SMALL_BUFFER);
	buffer->end = buffer->size;
	cr_expect_not(buffer_make_room(rig.worker, &buffer), "full for good");
	buffer_put(rig.worker, &buffer);
	cr_expect_null(buffer);
}

/* ---- sockets ---- */

Test(redirect_worker, sockets_are_asked_for_in_batches)
{
	for (int i = 0; i < 100; i++) {
		close(dial_and_ask(0));
		close(accept_upstream(server));
		turn();
	}
	cr_expect_leq(rig.asked, 100 + POOL_MAX);
	cr_expect_leq(rig.place.idle, POOL_MAX);
}

Test(redirect_worker, the_workloads_of_a_namespace_share_its_bound)
{
	for (uint32_t workload = 0; workload < 12; workload++) {
		close(dial_and_ask(workload));
		cr_expect_geq(accept_upstream(server), 0, "workload %u", workload);
		cr_expect_leq(rig.place.idle, POOL_MAX);
	}
}

Test(redirect_worker, more_than_the_bound_may_wait_at_once)
{
	int clients[200], served = 0;

	rig.withholds = true;
	for (int i = 0; i < 200; i++)
		clients[i] = dial_and_ask(0);
	rig.withholds = false;
	for (int i = 0; i < 1000 && served < 200; i++) {
		turn_for(5);
		while (accept_upstream(server) >= 0)
			served++;
	}
	cr_expect_eq(served, 200);
	cr_expect_leq(rig.place.idle, POOL_MAX);
	for (int i = 0; i < 200; i++)
		close(clients[i]);
}

Test(redirect_worker, those_who_wait_may_leave_in_any_order)
{
	int clients[60], left = 0;

	rig.withholds = true;
	for (int i = 0; i < 60; i++)
		clients[i] = dial_and_ask(0);
	for (int i = 0; i < 60; i += 3) {
		reset(clients[i]);
		left++;
	}
	usleep(1000);
	turn();
	cr_expect_eq(rig.worker->statistics.connections_open, 60 - left);
	cr_expect_eq(rig.worker->pools->waiting.count, 60 - left);
	rig.withholds = false;
	turn_for(150);
	cr_expect_eq(rig.worker->pools->waiting.count, 0);
}

Test(redirect_worker, sockets_in_hand_are_used_when_the_loader_is_gone)
{
	close(dial_and_ask(0));
	close(accept_upstream(server));
	turn();
	close(rig.supply);
	rig.supply = -1;
	turn();
	cr_expect_eq(rig.worker->supply, -1);
	close(dial_and_ask(0));
	cr_expect_geq(accept_upstream(server), 0);
}

Test(redirect_worker, a_loader_killed_with_questions_unread_is_noticed)
{
	rig.withholds = true;
	close(dial_and_ask(0));
	close(rig.supply);
	rig.supply = -1;
	turn();
	cr_expect_eq(rig.worker->supply, -1);
}

Test(redirect_worker, a_new_loader_serves_those_who_waited)
{
	int client;

	rig.withholds = true;
	client = dial_and_ask(0);
	close(rig.supply);
	turn();
	cr_assert_eq(accept_upstream(server), -1);
	rig.withholds = false;
	connect_supply();
	turn();
	cr_expect_geq(accept_upstream(server), 0);
	close(client);
}

Test(redirect_worker, idle_sockets_go_with_their_namespace)
{
	close(dial_and_ask(0));
	close(accept_upstream(server));
	turn();
	/* The rig publishes no listeners: to the worker the namespace is gone at the next publication. */
	view_publish(rig.table, rig.previous);
	turn();
	cr_expect_null(rig.worker->pools);
	cr_expect_eq(rig.place.idle, 0);
}

/* ---- reports ---- */

static unsigned int report_many(struct decision decision, unsigned int many)
{
	struct conn conn = {.worker = rig.worker, .record = record_to("203.0.113.1", 80)};
	unsigned int taken = 0;

	conn.record.workload = 7;
	for (unsigned int i = 0; i < many; i++) {
		worker_report(&conn, decision, "evil.example");
		for (; rig.worker->decision_tail != rig.worker->decision_head; taken++) {
			struct flow_event *event = &rig.worker->decisions[rig.worker->decision_tail++ % DECISION_SLOTS];

			cr_assert_eq(event->verdict, decision.verdict);
			cr_assert_eq(event->workload, 7);
			cr_assert_eq(event->by_redirector, 1);
			cr_assert_str_eq(event->host, "evil.example");
		}
	}
	return taken;
}

Test(redirect_worker, what_is_allowed_leaves_most_reports_to_denials)
{
	cr_expect_eq(report_many(decide(VERDICT_ALLOW, REASON_NAME_ALLOWED, 1), 3000), 200);
	cr_expect_eq(report_many(decide(VERDICT_DENY, REASON_NAME_UNREGISTERED, 0), 3000), 800);
	cr_expect_eq(rig.worker->statistics.decisions_lost, 2200);
}

Test(redirect_worker, reports_that_nobody_takes_are_counted)
{
	struct conn conn = {.worker = rig.worker};

	for (unsigned int i = 0; i < DECISION_SLOTS + 5; i++)
		worker_report(&conn, decide(VERDICT_DENY, REASON_MALFORMED, 0), "");
	cr_expect_eq(rig.worker->statistics.decisions_lost, 5);
}

/* ---- bounds ---- */

Test(redirect_worker, at_the_bound_no_more_are_accepted)
{
	int clients[20];

	rig.withholds = true;
	rig.worker->descriptor_limit = 24;
	for (int i = 0; i < 20; i++) {
		cr_expect_eq(rig.worker->paused, i >= 18, "after %d", i);
		clients[i] = dial_and_ask(0);
	}
	for (int i = 0; i < 20; i++)
		reset(clients[i]);
	usleep(1000);
	turn();
	cr_expect_not(rig.worker->paused);
	cr_expect_eq(rig.worker->descriptors, 0);
}

/* One namespace may not add what the other could need: here all that is free. */
Test(redirect_worker, who_has_his_share_waits_and_others_do_not)
{
	uint16_t at = 0;
	int listening = serve_on(&at, "127.0.0.1"), clients[9], late;
	struct place other = {.cookie = 2};

	cr_assert(listener_add(rig.place.cookie, false, listening));
	view_publish(rig.table, rig.previous);
	turn();
	rig.withholds = true;
	rig.worker->descriptor_limit = 24;
	for (int i = 0; i < 9; i++) {
		cr_expect(worker_may_accept(rig.worker, &rig.place), "after %d", i);
		clients[i] = dial_and_ask(0);
	}
	cr_expect_not(worker_may_accept(rig.worker, &rig.place));
	cr_expect(worker_may_accept(rig.worker, &other));
	cr_expect_not(rig.worker->paused);

	rig.worker->view->listeners[0]->place->connections[0] = 9;
	late = dial_port(at);
	turn();
	cr_expect(rig.worker->view->listeners[0]->waits[0]);
	cr_expect_not(hear(late).ended, "it waits in the backlog");
	rig.worker->view->listeners[0]->place->connections[0] = 8;
	for (int i = 0; i < 9; i++)
		reset(clients[i]);
	usleep(1000);
	turn();
	cr_expect_not(rig.worker->view->listeners[0]->waits[0]);
	cr_expect(hear(late).ended, "it was accepted; as one without a record it is closed");
	cr_expect_eq(rig.place.connections[0], 0);
}

/* Heads that do not end, of two namespaces: who holds most loses some, the other nothing. */
Test(redirect_worker, who_holds_most_memory_loses_connections)
{
	static char head[60000];
	struct place other = {.references = 1, .cookie = 2};
	struct flow_record record = record_to("203.0.113.1", 80);
	int clients[8], modest, ended = 0;

	memset(head, 'x', sizeof(head) - 1);
	memcpy(head, "GET /", 5);
	rig.worker->memory_limit = 300000;
	modest = dial_from(&other, &record);
	say(modest, head);
	turn();
	for (int i = 0; i < 8; i++) {
		clients[i] = dial_as(&record);
		say(clients[i], head);
		turn();
		cr_expect_leq(rig.worker->memory, rig.worker->memory_limit);
	}
	for (int i = 0; i < 8; i++)
		ended += hear(clients[i]).error == ECONNRESET;
	cr_expect(ended > 2 && ended < 8, "%d of 8", ended);
	cr_expect_eq(rig.worker->statistics.connections_shed, (unsigned int)ended);
	say(modest, " HTTP/1.1\r\nHost: no.example\r\n\r\n");
	turn();
	cr_expect_gt(hear(modest).n, 0, "it is answered");
	close(modest);
	for (int i = 0; i < 8; i++)
		close(clients[i]);
	usleep(1000);
	turn();
	cr_expect_eq(rig.worker->memory, 0);
}

Test(redirect_worker, what_was_opened_is_closed_and_counted_so)
{
	for (int i = 0; i < 30; i++) {
		int client = dial_and_ask(0), upstream = accept_upstream(server);

		say(upstream, "HTTP/1.1 101 Switching Protocols\r\n\r\n");
		turn();
		close(client);
		close(upstream);
		turn();
	}
	cr_expect_eq(rig.worker->statistics.connections_open, 0);
	cr_expect_eq(rig.worker->descriptors, rig.place.idle + 2 * rig.worker->free_pipe_count);
}

Test(redirect_worker, out_of_descriptors_is_a_pause)
{
	rig.worker->starved_ms = rig.worker->now_ms;
	turn();
	cr_expect(rig.worker->paused);
	turn_for(150);
	cr_expect_not(rig.worker->paused);
}
