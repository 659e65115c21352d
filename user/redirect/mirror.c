// SPDX-License-Identifier: Apache-2.0
/*
 * Mirrors: copies of a request, each on a connection without a client. Whatever becomes of a copy, the request does not
 * wait for it. One with a body is copied while that comes and sent when it is there, as long as it is short.
 */
#include <string.h>

#include "base/memory.h"
#include "redirect/http_internal.h"

#define MIRROR_TIMEOUT_MS 15000 /* Envoy's for routes: one that hangs must not hold up requests by the descriptors it takes */

static void drop(struct conn *conn)
{
	for (uint32_t left = conn->mirrored; left; left &= left - 1)
		tally(&conn->worker->statistics.mirrors_dropped, 1);
	conn->mirrored = 0;
	buffer_put(conn->worker, &conn->copy);
}

static void send_to(struct conn *of, const struct service *service, const char *bytes, size_t length)
{
	struct worker *worker = of->worker;
	struct conn *conn;

	if (!service || !worker_may_accept(worker, of->place)) {
		tally(&worker->statistics.mirrors_dropped, 1);
		return;
	}
	conn = conn_new(worker, -1);
	conn->is_mirror = conn->decided = true;
	conn->record = of->record;
	conn_settle(conn, of->place);
	conn->table = table_hold(of->table);
	conn->rules = of->rules;
	conn->method = of->method;
	conn->client_minor = 1;
	conn->is_h2 = of->is_h2;
	conn->is_passthrough = true; /* one try, and no fields of ours */
	memcpy(conn->shown, of->shown, sizeof(conn->shown));
	conn->request_body = (struct http_body){.done = true};
	conn->to_upstream = buffer_get(worker, length > SMALL_BUFFER);
	memcpy(conn->to_upstream->bytes, bytes, length);
	conn->to_upstream->end = (uint32_t)length;
	conn->purpose = FOR_HTTP;
	conn->route_deadline_ms = worker->now_ms + MIRROR_TIMEOUT_MS;
	tally(&worker->statistics.mirrors_total, 1);
	upstream_begin(conn, service);
	worker_ready(conn);
}

static void send_all(struct conn *conn, const char *bytes, size_t length)
{
	for (uint32_t i = 0; i < MAX_MIRRORS; i++)
		if (conn->mirrored & 1U << i)
			send_to(conn, policy_service(conn->table->policy, conn->chosen->mirrors[i]), bytes, length);
	conn->mirrored = 0;
}

void mirror_begin(struct conn *conn)
{
	const struct http_route *rule = conn->route;
	uint32_t length = buffer_length(conn->to_upstream);

	conn->mirrored = 0;
	for (uint32_t i = 0; rule && i < rule->mirror_count; i++)
		if (http_draw(conn->worker, rule->mirrors[i].percent))
			conn->mirrored |= 1U << i;
	if (!conn->mirrored)
		return;
	if (conn->request_body.done) {
		send_all(conn, buffer_bytes(conn->to_upstream), length);
		return;
	}
	conn->copy = buffer_get(conn->worker, true);
	memcpy(conn->copy->bytes, buffer_bytes(conn->to_upstream), length);
	conn->copy->end = length;
}

void mirror_feed(struct conn *conn, const char *bytes, size_t length)
{
	struct buffer *copy = conn->copy;

	if (!copy)
		return;
	if (copy->size - copy->end < length) {
		drop(conn);
		return;
	}
	memcpy(copy->bytes + copy->end, bytes, length);
	copy->end += (uint32_t)length;
	if (!conn->request_body.done)
		return;
	send_all(conn, buffer_bytes(copy), buffer_length(copy));
	buffer_put(conn->worker, &conn->copy);
}
