// SPDX-License-Identifier: Apache-2.0
/* HTTP/1: the request is read, judged and routed; http_exchange.c carries it. Each request is judged on its own. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/memory.h"
#include "config/config.h"
#include "redirect/circuit.h"
#include "redirect/h2.h"
#include "redirect/http_internal.h"
#include "redirect/http_route.h"
#include "redirect/origination.h"

#define MAX_COPIED_BODY 16384
#define FIXED_LINES 512 /* more than those of an answer of ours that are always the same */

static const char *workload_name(const struct conn *conn)
{
	const char *name = roster_find(conn->worker->view, conn->record.workload)->name;

	return name[0] ? name : "(default)";
}

/* ---- our own answers ---- */

static void count_answer(struct redirector_statistics *statistics, uint16_t status)
{
	tally(&statistics->responses_local_4xx, status >= 400 && status < 500);
	tally(&statistics->responses_local_502, status == 502);
	tally(&statistics->responses_local_503, status == 503);
	tally(&statistics->responses_local_504, status == 504);
}

/* ---- the lines of our own answers ---- */

static bool is_line_of(const char *line, const char *name)
{
	size_t n = strlen(name);

	return !strncasecmp(line, name, n) && line[n] == ':';
}

static bool have_line(const char *lines, const char *name)
{
	for (; *lines; lines = strstr(lines, "\r\n") + 2)
		if (is_line_of(lines, name))
			return true;
	return false;
}

static void drop_lines(char *lines, const char *name)
{
	while (*lines) {
		char *next = strstr(lines, "\r\n") + 2;

		if (is_line_of(lines, name))
			memmove(lines, next, strlen(next) + 1);
		else
			lines = next;
	}
}

/* What a gRPC client is told where others get a status (Envoy's httpToGrpcStatus). */
static unsigned int grpc_status_of(uint16_t status)
{
	switch (status) {
	case 400:
		return 13; /* INTERNAL */
	case 401:
		return 16; /* UNAUTHENTICATED */
	case 403:
		return 7; /* PERMISSION_DENIED */
	case 404:
		return 12; /* UNIMPLEMENTED */
	case 429:
	case 502:
	case 503:
	case 504:
		return 14; /* UNAVAILABLE */
	default:
		return 2; /* UNKNOWN */
	}
}

/* Printable ASCII but for "%" as it is, the rest in percent-encoding (gRPC over HTTP2, "Status-Message"). */
static void write_grpc_message(char *out, size_t room, struct slice text)
{
	size_t n = 0;

	for (size_t i = 0; i < text.n && n + 4 < room; i++) {
		unsigned char c = (unsigned char)text.p[i];

		if (c >= ' ' && c < 0x7f && c != '%')
			out[n++] = (char)c;
		else
			n += (size_t)snprintf(out + n, room - n, "%%%02X", c);
	}
	out[n] = 0;
}

struct own_answer {
	uint16_t status;
	struct slice location;        /* of a redirect, or empty */
	struct slice body;            /* a long one is not copied */
	const char *extra;            /* lines; NULL: none */
	const uint8_t *grpc_status;   /* NULL: what stands for `status` */
};

static void settle_answer(struct conn *conn, uint16_t status, size_t length)
{
	struct worker *worker = conn->worker;

	conn->outcome.status = conn->is_grpc ? 200 : status;
	conn->response_body.content = length;
	if (!conn->outcome.details)
		conn_note(conn, 0, "direct_response");
	count_answer(&worker->statistics, status);
	buffer_put(worker, &conn->to_upstream);
	circuit_retry_over(conn);
	conn->is_local = true;
	conn->route_deadline_ms = conn->try_deadline_ms = 0;
	conn->request_done = conn->response_head_done = conn->response_done = conn->response_body.done = true;
	conn->request_ready = conn->response_ready = 0;
	conn->state = CONN_EXCHANGE;
	worker_timer(conn, worker->now_ms + HELLO_TIMEOUT_MS);
}

static const struct header_changes *changes_of(const struct conn *conn)
{
	const struct header_changes *changes = conn->target ? &conn->target->headers : conn->route ? &conn->route->headers : NULL;

	return changes && changes->present ? changes : NULL;
}

/*
 * What the rule that has the request gives its answer: ours are no exception (Envoy), but for that to a preflight. Of
 * the type of what nobody says, or what is gRPC's, it has no say.
 */
static struct buffer *lines_of_rule(struct conn *conn, uint16_t status, bool has_type)
{
	const struct header_changes *changes = conn->is_preflight && conn->cors ? NULL : changes_of(conn);
	struct buffer *scratch = NULL, *out;
	const char *lines = header_lines(conn, changes ? &changes->response : NULL, NULL, NULL, status, &scratch);
	const size_t n = strlen(lines);

	out = buffer_get(conn->worker, n >= SMALL_BUFFER);
	snprintf(out->bytes, out->size, "%s", n < LARGE_BUFFER / 4 ? lines : ""); /* the rest of the head needs room, too */
	if (!has_type)
		drop_lines(out->bytes, "content-type");
	buffer_put(conn->worker, &scratch);
	return out;
}

/* All but the body. `first`, `last`: lines before and behind the date. `lines`: the rule's. */
static size_t write_answer_head(const struct conn *conn, char *out, size_t room, const struct own_answer *answer, const char *first,
				const char *last, const char *lines)
{
	const bool redirects = answer->location.n;
	const uint16_t status = conn->is_grpc ? 200 : answer->status;
	/* RFC 9112 appendix C.2.2 */
	const char *connection = !conn->keep_client ? "connection: close\r\n" : conn->client_minor ? "" : "connection: keep-alive\r\n";
	char date[48] = "";

	if (!have_line(lines, "date"))
		snprintf(date, sizeof(date), "date: %s\r\n", worker_date(conn->worker));
	return (size_t)snprintf(out, room, "HTTP/1.1 %u %s\r\n%s%.*s%s%s%s%s%s%s%s%s%s\r\n", status, http_status_phrase(status),
				redirects ? "location: " : "", redirects ? (int)answer->location.n : 0, redirects ? answer->location.p : "",
				redirects ? "\r\n" : "", first, date, have_line(lines, "server") ? "" : "server: sluice\r\n", last,
				connection, lines, answer->extra ? answer->extra : "",
				conn->cors && !conn->is_preflight ? conn->cors->bytes : "");
}

static void write_grpc_fields(char *out, size_t room, const struct own_answer *answer)
{
	const unsigned int status = answer->grpc_status ? *answer->grpc_status : grpc_status_of(answer->status);
	struct slice text = answer->body;
	char message[1024];

	text.n -= text.n && text.p[text.n - 1] == '\n';
	write_grpc_message(message, sizeof(message), text);
	snprintf(out, room, "content-type: application/grpc\r\ngrpc-status: %u\r\n%s%s%s", status, message[0] ? "grpc-message: " : "",
		 message, message[0] ? "\r\n" : "");
}

static void answer(struct conn *conn, const struct own_answer *given)
{
	struct worker *worker = conn->worker;
	struct buffer *rule;
	struct slice body = given->body;
	/* RFC 9110 §15.3.5, §15.4.5: an abort may have such a status. */
	const bool bodiless = !conn->is_grpc && (given->status == 204 || given->status == 304), has_text = !bodiless && !conn->is_grpc && body.n;
	const bool is_long = body.n > MAX_COPIED_BODY;
	char first[1200] = "", length[40] = "";

	if (conn->is_mirror) {
		conn_close(conn);
		return;
	}
	if (conn->response_head_done) { /* too late: the client has another answer half way */
		conn_reset(conn);
		return;
	}
	/* What is left of the request would be taken for the next one. */
	if (!conn->request_body.done)
		conn->keep_client = false;
	rule = lines_of_rule(conn, given->status, has_text);
	if (!bodiless)
		snprintf(length, sizeof(length), "content-length: %zu\r\n", has_text ? body.n : 0);
	if (conn->is_grpc)
		write_grpc_fields(first, sizeof(first), given);
	else if (has_text)
		snprintf(first, sizeof(first), "%s%s", length,
			 have_line(rule->bytes, "content-type") ? "" : "content-type: text/plain\r\n");
	if (!has_text || conn->method == HTTP_HEAD)
		body.n = 0;
	buffer_put(worker, &conn->to_client);
	conn->to_client = buffer_get(worker, given->location.n + strlen(first) + strlen(rule->bytes) + (conn->cors ? CORS_ROOM : 0) +
						     (is_long ? 0 : body.n) > SMALL_BUFFER - FIXED_LINES);
	conn->to_client->end = (uint32_t)write_answer_head(conn, conn->to_client->bytes, conn->to_client->size, given, first,
							   has_text ? "" : length, rule->bytes);
	buffer_put(worker, &rule);
	if (is_long) {
		conn->own_body = body.p;
		conn->own_body_left = body.n;
	} else if (body.n) {
		memcpy(conn->to_client->bytes + conn->to_client->end, body.p, body.n);
		conn->to_client->end += (uint32_t)body.n;
	}
	settle_answer(conn, given->status, body.n);
}

static struct slice slice_of(const char *text)
{
	return (struct slice){text, strlen(text)};
}

void http_answer(struct conn *conn, uint16_t status, const char *format, ...)
{
	char body[1024];
	va_list args;

	va_start(args, format);
	vsnprintf(body, sizeof(body), format, args);
	va_end(args);
	answer(conn, &(struct own_answer){.status = status, .body = slice_of(body)});
}

/*
 * Of an upstream that gave no answer, in Istio's words. That it was tried again is said because it tells the operator
 * that no endpoint worked.
 */
static void answer_upstream(struct conn *conn, uint16_t status, const char *reason, const char *failure, const char *extra)
{
	bool retried = conn->tries > 1 && !conn->reused;
	char body[1024];

	access_log_reset(conn, reason, failure);
	snprintf(body, sizeof(body), "upstream connect error or disconnect/reset before headers. %sreset reason: %s%s%s",
		 retried ? "retried and the latest " : "", reason,
		 failure ? ", transport failure reason: " : "", failure ? failure : "");
	answer(conn, &(struct own_answer){.status = status, .body = slice_of(body), .extra = extra});
}

void http_answer_upstream(struct conn *conn, uint16_t status, const char *reason, const char *failure)
{
	answer_upstream(conn, status, reason, failure, NULL);
}

void http_answer_overflow(struct conn *conn)
{
	tally(&conn->worker->statistics.overflows_total, 1);
	answer_upstream(conn, 503, "overflow", NULL, "x-envoy-overloaded: true\r\n");
}

static void answer_malformed(struct conn *conn, uint16_t status, const char *why)
{
	conn->keep_client = false;
	conn->method = HTTP_OTHER;
	http_answer(conn, status, "sluice: %s\n", why);
}

/* A request that cannot be read is refused whoever it is for: two readers could disagree about it. */
static void refuse_malformed(struct conn *conn, enum http_result result, const char *why)
{
	worker_report(conn, decide(VERDICT_DENY, REASON_MALFORMED, 0), "");
	access_log_begin(conn, true);
	conn_note(conn, FLAG_DPE, result == HTTP_ERROR_TOO_LARGE ? "request_headers_too_large" : "http1.codec_error");
	switch (result) {
	case HTTP_ERROR_TOO_LARGE:
		answer_malformed(conn, 431, "the request head is too large");
		break;
	case HTTP_ERROR_VERSION:
		answer_malformed(conn, 505, "only HTTP/1.0 and HTTP/1.1 are spoken here");
		break;
	case HTTP_NOT_HTTP:
		answer_malformed(conn, 400, "not an HTTP/1 request");
		break;
	default:
		answer_malformed(conn, 400, why);
	}
}

static void refuse_blocked(struct conn *conn, struct decision decision, const struct rule_set *rules)
{
	char destination[SLUICE_PREFIX_TEXT + 16];

	worker_report(conn, decision, conn->shown);
	conn->outcome.is_blocked = true;
	conn->route = NULL; /* of a rule that it had before it was revoked */
	conn->target = NULL;
	http_answer(conn, 502, "sluice: blocked %s%sport %u (%s) for %s: not registered, mode %s set by %s\n", conn->shown,
		    conn->shown[0] ? " " : "", conn->record.port, conn_describe(conn, destination, sizeof(destination)),
		    workload_name(conn), verdict_mode_name(rules->mode), rules->origin);
}

/* ---- routing ---- */

bool http_draw(struct worker *worker, double percent)
{
	return percent > 0 && (double)(worker_random(worker) >> 11) * 0x1p-53 * 100 < percent;
}

/* Istio lets gRPC's own timeout count, as far as the rule's allows it (MaxGrpcTimeout). 0: there is none. */
static uint64_t timeout_of(const struct conn *conn)
{
	uint64_t own = conn->route ? conn->route->timeout_ms : 0;

	return conn->grpc_timeout_ms && (!own || conn->grpc_timeout_ms < own) ? conn->grpc_timeout_ms : own;
}

/*
 * The route's timeout runs from when the whole request is here, over all tries, to the end of the response; an injected
 * delay is no part of it (ISTIO.md §1.5, fact 8).
 */
void http_start_timeout(struct conn *conn)
{
	uint64_t timeout_ms = timeout_of(conn);

	if (timeout_ms && !conn->route_deadline_ms && conn->request_body.done && !conn->is_local)
		conn->route_deadline_ms = conn->worker->now_ms + timeout_ms;
	if (conn->state == CONN_EXCHANGE && conn->request_body.done && !conn->try_deadline_ms)
		http_start_try(conn);
}

/* ---- tries ---- */

#define BACKOFF_MS 25 /* Envoy's */

/* ISTIO.md §0, fact 9: a registered service has them, what only passes through has none. */
const struct http_retries *http_retries_of(const struct conn *conn)
{
	static const struct http_retries none = {.attempts = 0};

	return conn->is_passthrough ? &none : http_retries_for(conn->route, conn->table->config->mesh);
}

/* Runs once the whole request is here, as the route's timeout. */
void http_start_try(struct conn *conn)
{
	uint64_t per_try_ms = http_retries_of(conn)->per_try_ms;

	if (per_try_ms && conn->request_body.done && !conn->is_local && !conn->response_head_done)
		conn->try_deadline_ms = conn->worker->now_ms + per_try_ms;
}

void http_try_timeout(struct conn *conn)
{
	upstream_forget_waiting(conn);
	outlier_failed(conn, 504);
	upstream_drop(conn);
	if (http_try_again(conn, RETRY_RESET | RETRY_5XX | RETRY_GATEWAY, true))
		return;
	conn_note(conn, FLAG_UT, "upstream_per_try_timeout");
	http_answer(conn, 504, "upstream request timeout");
}

bool http_try_again(struct conn *conn, uint32_t happened, bool wait)
{
	const struct http_retries *retries = http_retries_of(conn);
	uint64_t base = retries->backoff_ms ? retries->backoff_ms : BACKOFF_MS, most = base;

	conn->try_deadline_ms = 0;
	circuit_retry_over(conn);
	if (retries->on & happened && retries->attempts && conn->tries > retries->attempts)
		conn_note(conn, FLAG_URX, NULL);
	if (!(retries->on & happened) || conn->tries > retries->attempts || conn->body_sent || !conn->to_upstream || !circuit_retry(conn))
		return false;
	/* A random part of base × (2^n - 1), at most ten times the base (Envoy). */
	for (unsigned int i = 1; i < conn->tries && most < base * 10; i++)
		most = most * 2 + base;
	if (most > base * 10)
		most = base * 10;
	conn->to_upstream->start = 0;
	conn->request_done = conn->reused = false;
	conn->incomplete = 0;
	upstream_again(conn, wait ? 1 + worker_random(conn->worker) % most : 0);
	return true;
}

void http_route_timeout(struct conn *conn)
{
	upstream_forget_waiting(conn);
	if (!conn->response_head_done)
		outlier_failed(conn, 504);
	upstream_drop(conn);
	conn_note(conn, FLAG_UT, "response_timeout");
	http_answer(conn, 504, "upstream request timeout");
}

static void abort_request(struct conn *conn, const struct fault_abort *abort)
{
	conn_note(conn, FLAG_FI, "fault_filter_abort");
	answer(conn, &(struct own_answer){.status = abort->http_status, .body = slice_of("fault filter abort"),
					  .grpc_status = abort->is_grpc ? &abort->grpc_status : NULL});
}

/* What the rule makes of the authority, else what the destination does (as Istio); NULL: it stays. */
static const char *new_authority(const struct conn *conn)
{
	const struct http_rewrite *rewrite = conn->route ? &conn->route->rewrite : NULL;
	const struct header_changes *changes = changes_of(conn);

	if (rewrite && rewrite->present && rewrite->authority && rewrite->authority[0])
		return rewrite->authority;
	return changes ? changes->request.authority : NULL;
}

const char *http_asked_host(const struct conn *conn)
{
	const char *authority = new_authority(conn);

	return authority ? authority : conn->shown;
}

static void answer_preflight(struct conn *conn)
{
	conn_note(conn, 0, "cors_response");
	answer(conn, &(struct own_answer){.status = 200, .extra = conn->cors->bytes});
}

/* After a delay, or at once: abort, or go where the route leads. */
static void follow_route(struct conn *conn)
{
	const struct http_route *route = conn->route;
	const struct service *to = conn->service;

	if (route && route->abort.present && http_draw(conn->worker, route->abort.percent)) {
		tally(&conn->worker->statistics.aborts_total, 1);
		buffer_put(conn->worker, &conn->cors); /* Istio's filter for origins comes after that for faults */
		abort_request(conn, &route->abort);
		return;
	}
	if (conn->is_preflight) {
		answer_preflight(conn);
		return;
	}
	http_start_timeout(conn);
	mirror_begin(conn);
	if (conn->target) {
		to = policy_service(conn->table->policy, conn->target->service);
		if (!to) {
			conn_note(conn, FLAG_NC, "cluster_not_found");
			http_answer(conn, 503, "%s", "");
			return;
		}
	}
	conn->service = to;
	if (conn->owner && !conn->kept && !h2_is_spoken(conn, to))
		h2_unpark(conn, to, http_asked_host(conn));
	if (conn->kept && conn->upstream.fd >= 0 && !conn->upstream.eof && upstream_serves(conn, conn, to) && upstream_suits(conn) &&
	    (!conn->upstream.tls || origination_is_for(conn, to, http_asked_host(conn)))) {
		if (!circuit_request(conn)) {
			conn->tries = 0;
			upstream_drop(conn);
			http_answer_overflow(conn);
			return;
		}
		conn->idle_until_ms = 0;
		conn->reused = true;
		conn->outcome.has_upstream = true;
		conn->tries = 1;
		conn->unconnected = 0;
		http_start_try(conn);
		http_connected(conn);
		return;
	}
	upstream_drop(conn);
	conn->reused = false;
	conn->purpose = FOR_HTTP;
	upstream_begin(conn, to);
}

static void end_delay(struct conn *conn)
{
	conn_end_delay(conn);
	follow_route(conn);
}

/* The rule for this request and where it leads. False: it was answered. */
static bool choose_route(struct conn *conn, struct http_head *head, size_t *matched)
{
	const struct http_match *match;
	const struct workload_identity *who = &roster_find(conn->worker->view, conn->record.workload)->who;
	const struct service_route *found;
	uint64_t at;

	conn->route = NULL;
	conn->chosen = NULL;
	conn->target = NULL;
	*matched = 1;
	if (!conn->service || !conn->service->route_count)
		return true;
	head->path.n = http_normalize_path((char *)head->path.p, head->path.n); /* our buffer; what is constant is normal */
	switch (http_route_find(conn->service, head, who, conn->record.port, &found, &match)) {
	case ROUTE_OWN:
		return true;
	case ROUTE_NONE:
		conn_note(conn, FLAG_NR, "route_not_found");
		http_answer(conn, 404, "%s", "");
		return false;
	default:
		conn->route = found->rule;
		conn->chosen = found;
		conn->match_name = match ? match->name : NULL;
		*matched = http_matched_path(match, head);
	}
	if (!found->target_count)
		return true;
	at = found->target_count > 1 ? worker_random(conn->worker) % found->weights : 0;
	conn->target = found->targets;
	for (; at >= conn->target->weight; conn->target++)
		at -= conn->target->weight;
	return true;
}

/* After faults (Istio's order of filters), so only what is to be said then is settled here. */
static void look_at_origin(struct conn *conn, const struct http_head *head)
{
	enum cors_result result;

	if (!conn->route || !conn->route->cors.present)
		return;
	conn->cors = buffer_get(conn->worker, false);
	result = http_cors(conn->cors->bytes, CORS_ROOM, &conn->route->cors, head);
	conn->is_preflight = result == CORS_PREFLIGHT || result == CORS_IGNORED;
	if (result == CORS_NONE)
		buffer_put(conn->worker, &conn->cors);
}

/* The new path into `room`. Returns its length; 0: it is not rewritten; -1: it does not fit, or takes too long to find. */
static long new_path(const struct http_rewrite *rewrite, struct slice old, size_t matched, char *room, size_t size)
{
	const char *query = memchr(old.p, '?', old.n);
	size_t path = query ? (size_t)(query - old.p) : old.n;
	long n;

	if (rewrite->regex) {
		n = rewriter_apply(rewrite->regex, old.p, path, room, size);
		if (n <= 0 || (size_t)n + old.n - path >= size)
			return -1;
		memcpy(room + n, old.p + path, old.n - path);
		return n + (long)(old.n - path);
	}
	if (!rewrite->uri || !rewrite->uri[0] || old.n < matched)
		return 0;
	n = snprintf(room, size, "%s%.*s", rewrite->uri, (int)(old.n - matched), old.p + matched);
	return n < 0 || (size_t)n >= size ? -1 : n;
}

/*
 * The new path, then the lines of what is added to the request, in `room`; the old path is told in x-envoy-original-path.
 * NULL: there is none.
 */
static const char *rewrite_path(const struct http_rewrite *rewrite, struct http_head *head, size_t matched, const char *fields,
				char *room, size_t size)
{
	static const char *const old_name[] = {"x-envoy-original-path"};
	struct slice old = head->path;
	long length = old.n && old.p[0] == '/' ? new_path(rewrite, old, matched, room, size) : 0;
	int n;

	if (length <= 0)
		return length ? NULL : fields;
	head->path = (struct slice){room, (size_t)length};
	http_drop_fields(head, old_name, 1);
	room += length;
	size -= (size_t)length;
	n = snprintf(room, size, "%s: %.*s\r\n%s", old_name[0], (int)old.n, old.p, fields);
	return n < 0 || (size_t)n >= size ? NULL : room;
}

uint64_t http_expected_ms(const struct conn *conn)
{
	uint64_t whole = timeout_of(conn), one = http_retries_of(conn)->per_try_ms, now = conn->worker->now_ms;

	if (conn->route_deadline_ms) /* as long as it is about to end, too: 0 would be for ever */
		whole = conn->route_deadline_ms > now ? conn->route_deadline_ms - now : 1;
	return one && (!whole || one < whole) ? one : whole;
}

/* Where the request goes; NULL: to the original destination, or nowhere. */
static const struct service *leads_to(const struct conn *conn)
{
	return conn->target ? policy_service(conn->table->policy, conn->target->service) : conn->service;
}

/* consistentHash: what of the request tells its address, or the cookie that the client is to bring from now on. */
static void settle_hash(struct conn *conn, const struct http_head *head)
{
	const struct service *to = leads_to(conn);
	const struct balance_settings *balance = to ? &to->policy.balance : NULL;

	conn->has_hash = conn->makes_cookie = false;
	if (!balance || balance->way != BALANCE_HASH)
		return;
	conn->has_hash = http_hash(balance, head, &conn->hash);
	if (conn->has_hash || !balance->makes_cookie || balance->key != HASH_COOKIE)
		return;
	conn->makes_cookie = conn->has_hash = true;
	conn->cookie = worker_random(conn->worker);
	conn->hash = http_cookie_hash(conn->cookie);
}

static bool write_request(struct conn *conn, struct http_head *head, size_t matched, struct buffer *scratch)
{
	struct worker *worker = conn->worker;
	const struct header_changes *changes = changes_of(conn);
	const struct http_rewrite *rewrite = conn->route && conn->route->rewrite.present ? &conn->route->rewrite : NULL;
	char fields[HTTP_PROXY_FIELDS] = "";
	const char *authority = new_authority(conn), *extra = fields, *lines;
	struct string_list dropped = {0};
	struct buffer *expanded = NULL;
	bool fits = false;

	conn->counts_attempts = !conn->is_passthrough;
	conn->tells_time = http_expected_ms(conn);
	if (h2_is_spoken(conn, leads_to(conn))) {
		head->upgrade = conn->upgrade_asked = false;
		h2_keep_trailer(&conn->client, head);
		http_body_start(&conn->request_body, head);
	}
	lines = header_lines(conn, changes ? &changes->request : NULL, head, NULL, 0, &expanded); /* of what it is about to lose, too */
	if (changes)
		dropped = changes->request.drop;
	http_drop_fields(head, dropped.items, dropped.count);
	if (conn->counts_attempts)
		http_proxy_fields(fields, head, dropped.items, dropped.count, http_expected_ms(conn), worker_random(worker), worker_random(worker));
	if (rewrite)
		extra = rewrite_path(rewrite, head, matched, fields, scratch->bytes, scratch->size);
	if (authority)
		head->authority = (struct slice){authority, strlen(authority)};
	for (int large = head->bytes > SMALL_BUFFER / 2; extra && large < 2 && !fits; large++) {
		size_t n;

		buffer_put(worker, &conn->to_upstream);
		conn->to_upstream = buffer_get(worker, large);
		n = http_write_request(conn->to_upstream->bytes, conn->to_upstream->size, head, true,
				       lines, extra);
		fits = n && n + HTTP_ATTEMPT_ROOM <= conn->to_upstream->size;
		conn->to_upstream->end = conn->request_head = fits ? (uint32_t)n : 0;
	}
	if (fits)
		access_log_request(conn, head, lines, extra);
	buffer_put(worker, &expanded);
	return fits;
}

/* The head as it is forwarded; the scratch head is gone after this request's first step. */
static bool build_request(struct conn *conn, struct http_head *head, size_t matched)
{
	struct buffer *scratch = conn->route && conn->route->rewrite.present ? buffer_get(conn->worker, true) : NULL;
	bool fits = write_request(conn, head, matched, scratch);

	if (scratch)
		buffer_put(conn->worker, &scratch);
	return fits;
}

static void redirect(struct conn *conn, const struct http_head *head, size_t matched)
{
	struct buffer *location = buffer_get(conn->worker, true);
	/* What is left of the answer's own buffer is for the rest of it. */
	size_t n = http_location(location->bytes, location->size / 2, &conn->route->redirect, head, conn->record.port, matched);
	const struct header_changes *changes = changes_of(conn);
	const bool is_kept = !changes || !http_is_among("location", changes->response.drop.items, changes->response.drop.count);

	if (n)
		answer(conn, &(struct own_answer){.status = conn->route->redirect.code, .location = {location->bytes, is_kept ? n : 0}});
	else
		refuse_malformed(conn, HTTP_ERROR_TOO_LARGE, "");
	buffer_put(conn->worker, &location);
}

static void answer_directly(struct conn *conn)
{
	const struct http_direct_response *direct = &conn->route->direct;

	answer(conn, &(struct own_answer){.status = direct->status, .body = {direct->body, direct->length}});
}

/* No fault comes before it: a rule has either. */
static void answer_by_rule(struct conn *conn, const struct http_head *head, size_t matched)
{
	if (conn->is_preflight)
		answer_preflight(conn);
	else if (conn->route->redirect.present)
		redirect(conn, head, matched);
	else
		answer_directly(conn);
}

/* What nobody registers is for the rule set's proxy, if it has one. False: that is nobody's either, and this was answered. */
static bool find_proxy(struct conn *conn)
{
	if (!conn->rules->egress_proxy)
		return true;
	conn->service = policy_service(conn->table->policy, conn->rules->egress_proxy);
	if (!conn->service) {
		conn_note(conn, FLAG_NC, "cluster_not_found");
		http_answer(conn, 503, "%s", "");
	}
	return conn->service != NULL;
}

/* An address in place of a name is where the client dials, or nobody's. */
static bool goes_by_host(const struct conn *conn)
{
	return conn->is_passthrough && conn->rules->mode == MODE_ALLOW_ANY_DYNAMIC_DNS && upstream_can_look_up(conn->shown);
}

static void judge_request(struct conn *conn, struct http_head *head)
{
	const struct service *service;
	struct decision decision;
	size_t matched;

	if (!conn_decide(conn)) {
		http_answer(conn, 503, "sluice: no configuration\n");
		return;
	}
	service = policy_find(conn->table->policy, conn->rules->registry, head->host.p, head->host.n, conn->record.port, true);
	decision = verdict_named(conn->rules, SHOWN_HOST, service ? service->id : 0, conn_flags_here(conn, conn->table, conn->rules));
	if (decision.verdict == VERDICT_DENY) {
		refuse_blocked(conn, decision, conn->rules);
		return;
	}
	worker_report(conn, decision, conn->shown);
	if (head->method == HTTP_CONNECT) {
		http_answer(conn, 405, "sluice: CONNECT is not served here\n");
		return;
	}
	conn->is_passthrough = decision.verdict == VERDICT_PASSTHROUGH;
	conn->service = conn->is_passthrough ? NULL : service;
	conn->goes_by_host = goes_by_host(conn);
	if (!choose_route(conn, head, &matched))
		return;
	if (conn->is_passthrough && !find_proxy(conn))
		return;
	look_at_origin(conn, head);
	if (conn->route && (conn->route->redirect.present || conn->route->direct.present)) {
		answer_by_rule(conn, head, matched);
		return;
	}
	settle_hash(conn, head);
	if (!build_request(conn, head, matched)) {
		refuse_malformed(conn, HTTP_ERROR_TOO_LARGE, "");
		return;
	}
	if (conn->route && conn->route->delay.present && http_draw(conn->worker, conn->route->delay.percent))
		conn_begin_delay(conn, conn->route->delay.fixed_ms);
	else
		follow_route(conn);
}

/*
 * The kernel refused the upstream connection, and there is a newer generation than the one this request was judged by:
 * then that one's answer is the right one.
 */
bool http_judge_again(struct conn *conn)
{
	const struct service *service;
	struct decision decision;

	if (conn->is_mirror || conn->table == conn->worker->view->table || !conn_decide(conn))
		return false;
	service = policy_find(conn->table->policy, conn->rules->registry, conn->shown, strlen(conn->shown), conn->record.port, true);
	decision = verdict_named(conn->rules, SHOWN_HOST, service ? service->id : 0, conn_flags_here(conn, conn->table, conn->rules));
	conn->is_passthrough = decision.verdict == VERDICT_PASSTHROUGH;
	conn->service = decision.verdict == VERDICT_ALLOW ? service : NULL;
	conn->goes_by_host = goes_by_host(conn);
	conn->route = NULL;
	conn->target = NULL;
	conn->has_hash = conn->makes_cookie = false;
	if (decision.verdict == VERDICT_DENY)
		refuse_blocked(conn, decision, conn->rules);
	else if (conn->service && conn->service->route_count) /* what its rules ask of a request is not here any more */
		http_answer(conn, 503, "sluice: the policy has changed meanwhile; send it again\n");
	else if (!conn->is_passthrough || find_proxy(conn))
		follow_route(conn);
	return true;
}

void http_revoke(struct conn *conn, struct decision decision, const struct rule_set *rules)
{
	conn_end_delay(conn);
	upstream_forget_waiting(conn);
	upstream_drop(conn);
	refuse_blocked(conn, decision, rules);
	if (conn->state != CONN_CLOSED)
		worker_ready(conn);
}

static void begin_request(struct conn *conn)
{
	struct http_head *head = &conn->worker->head;
	size_t shown;

	if (head->upgrade_h2c && !conn->client.stream && h2_upgrade(conn, head))
		return;
	tally(&conn->worker->statistics.requests_total, 1);
	conn->head_pending = false;
	conn->incomplete = 0;
	conn->method = head->method;
	conn->client_minor = head->minor;
	conn->keep_client = head->keep_alive;
	conn->upgrade_asked = head->upgrade;
	conn->is_grpc = http_is_grpc(head);
	conn->grpc_timeout_ms = conn->is_grpc ? http_grpc_timeout(head) : 0;
	http_body_start(&conn->request_body, head);
	conn->from_client->start += (uint32_t)head->bytes;
	shown = head->host.n < sizeof(conn->shown) ? head->host.n : sizeof(conn->shown) - 1;
	memcpy(conn->shown, head->host.p, shown);
	conn->shown[shown] = 0;
	access_log_begin(conn, true);
	access_log_request(conn, head, NULL, NULL);
	judge_request(conn, head);
	if (conn->state != CONN_CLOSED)
		buffer_drop_if_empty(conn->worker, &conn->from_client);
}

/* ---- reading requests ---- */

static void reset_exchange(struct conn *conn)
{
	conn->request_ready = conn->response_ready = 0;
	conn->request_done = conn->response_head_done = conn->response_done = false;
	conn->is_local = conn->dechunk = conn->upgraded = conn->is_grpc = false;
	conn->own_body_left = 0;
	conn->drain_until_ms = conn->route_deadline_ms = conn->try_deadline_ms = 0;
	conn->body_sent = conn->was_repeated = conn->is_preflight = false;
	buffer_put(conn->worker, &conn->cors);
	buffer_put(conn->worker, &conn->copy);
	conn->incomplete = 0;
	conn->client_minor = 1; /* until a head says otherwise, as that there is no body */
	conn->request_body = (struct http_body){.done = true};
	conn->response_body = (struct http_body){0};
	conn->service = NULL;
	conn->route = NULL;
	conn->target = NULL;
	conn->is_passthrough = false;
	conn->state = CONN_REQUEST;
}

void http_begin(struct conn *conn)
{
	reset_exchange(conn);
	conn->purpose = FOR_HTTP;
	conn->decided = false; /* what was looked at so far decided nothing: the first request does */
	conn->head_pending = true;
	worker_timer(conn, conn->worker->now_ms + HELLO_TIMEOUT_MS);
}

void http_next_request(struct conn *conn)
{
	reset_exchange(conn);
	worker_timer(conn, conn->worker->now_ms + IDLE_TIMEOUT_MS);
}

/* An upstream that closes while nothing is asked of it: so do we, as it would be without us. */
static bool upstream_went_away(struct conn *conn)
{
	if (conn->upstream.fd < 0 || !conn->upstream.readable)
		return false;
	if (end_read(conn->worker, &conn->upstream, &conn->from_upstream) == 0)
		return false;
	upstream_drop(conn);
	return !buffer_length(conn->from_client) && !conn->client.readable;
}

/*
 * Whether what came since the last parse can complete a head: without the end of a line it cannot. A head that comes
 * byte by byte would otherwise be read anew for each of 65536.
 */
bool http_worth_parsing(const struct conn *conn, const struct buffer *buffer)
{
	uint32_t length = buffer_length(buffer), known = conn->incomplete;

	return length > known &&
	       (!known || length >= LARGE_BUFFER || memchr(buffer->bytes + buffer->start + known, '\n', length - known));
}

static enum step request_step(struct conn *conn)
{
	struct worker *worker = conn->worker;
	const char *why = "";

	if (upstream_went_away(conn)) {
		conn_close(conn);
		return STEP_BLOCKED;
	}
	for (;;) {
		enum http_result result = HTTP_MORE;
		int got;

		if (http_worth_parsing(conn, conn->from_client)) {
			result = http_parse_request(&worker->head, buffer_bytes(conn->from_client), buffer_length(conn->from_client),
						    &why);
			conn->incomplete = buffer_length(conn->from_client);
		}
		if (result == HTTP_OK) {
			begin_request(conn);
			return STEP_ADVANCED;
		}
		if (result == HTTP_MORE && buffer_length(conn->from_client) >= LARGE_BUFFER)
			result = HTTP_ERROR_TOO_LARGE;
		if (result != HTTP_MORE) {
			refuse_malformed(conn, result, why);
			return STEP_ADVANCED;
		}
		if (buffer_length(conn->from_client) && !conn->head_pending) {
			conn->head_pending = true;
			worker_timer(conn, worker->now_ms + HELLO_TIMEOUT_MS);
		}
		got = end_read(worker, &conn->client, &conn->from_client);
		if (got < 0) {
			conn_close(conn);
			return STEP_BLOCKED;
		}
		if (got == 0) {
			buffer_drop_if_empty(worker, &conn->from_client);
			return STEP_BLOCKED;
		}
	}
}

enum step http_step(struct conn *conn)
{
	return conn->state == CONN_REQUEST ? request_step(conn) : http_exchange_step(conn);
}

static void answer_late(struct conn *conn)
{
	access_log_begin(conn, true);
	conn_note(conn, 0, "request_header_timeout");
	answer_malformed(conn, 408, "the request head did not arrive within 10 s");
}

static void close_idle(struct conn *conn)
{
	conn_note(conn, FLAG_SI, "stream_idle_timeout");
	conn_close(conn);
}

void http_timeout(struct conn *conn)
{
	if (conn->state == CONN_DELAYED)
		end_delay(conn);
	else if (conn->state == CONN_REQUEST && conn->head_pending)
		answer_late(conn);
	else
		close_idle(conn);
}
