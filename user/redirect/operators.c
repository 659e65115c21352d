// SPDX-License-Identifier: Apache-2.0
#include "redirect/operators.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "base/memory.h"
#include "config/config.h"

void put(struct writer *w, const char *bytes, size_t n)
{
	w->full |= n >= w->room - w->n;
	if (w->full)
		return;
	memcpy(w->out + w->n, bytes, n);
	w->n += n;
}

void put_text(struct writer *w, const char *text)
{
	put(w, text, strlen(text));
}

void put_number(struct writer *w, uint64_t number)
{
	char text[24];

	put(w, text, (size_t)snprintf(text, sizeof(text), "%llu", (unsigned long long)number));
}

void put_address(struct writer *w, const uint8_t addr[16], uint16_t port, bool with_address, bool with_port)
{
	char address[SLUICE_PREFIX_TEXT], text[SLUICE_PREFIX_TEXT + 16];

	if (!port)
		return;
	format_address(address, addr);
	if (!with_address)
		snprintf(text, sizeof(text), "%u", port);
	else if (!with_port)
		snprintf(text, sizeof(text), "%s", address);
	else
		snprintf(text, sizeof(text), addr_is_v4(addr) ? "%s:%u" : "[%s]:%u", address, port);
	put_text(w, text);
}

/* What access_log_settle() has kept, in its order; NULL: the policy is still there. */
static const char *settled_text(const struct conn *conn, size_t which)
{
	const char *text = conn->outcome.settled ? conn->outcome.settled->bytes : NULL;

	for (; text && which; which--)
		text += strlen(text) + 1;
	return text;
}

/* The path, as Envoy has it. */
static void put_socket(struct writer *w, const struct conn *conn)
{
	const char *path = settled_text(conn, 2);

	if (!path && conn->service)
		path = service_socket(conn->service, conn->addr);
	if (path)
		put_text(w, path);
}

/* ---- time ---- */

/* strftime() knows no parts of a second: they become digits before it reads the format. */
static void settle_fractions(char *out, size_t room, const char *format, size_t length, long nanoseconds)
{
	char digits[16];
	size_t n = 0;

	snprintf(digits, sizeof(digits), "%09ld", nanoseconds);
	for (size_t i = 0; i < length && n + 10 < room; i++) {
		size_t wanted = 9, at = i + 1;

		if (format[i] == '%' && at < length && format[at] >= '1' && format[at] <= '9')
			wanted = (size_t)(format[at++] - '0');
		if (format[i] == '%' && at < length && format[at] == 'f') {
			memcpy(out + n, digits, wanted);
			n += wanted;
			i = at;
			continue;
		}
		out[n++] = format[i];
		if (format[i] == '%' && i + 1 < length)
			out[n++] = format[++i];
	}
	out[n] = 0;
}

/* START_TIME, and perhaps a format in parentheses. */
static void put_start(struct writer *w, const struct operator_sources *of, const char *name, size_t n)
{
	static const char usual[] = "%Y-%m-%dT%H:%M:%S.%3fZ";
	const char *open = memchr(name, '(', n), *wanted = open ? open + 1 : usual;
	size_t length = open ? n - (size_t)(wanted - name) - 1 : strlen(usual), written;
	char format[256], text[256];
	struct timespec at;
	struct tm tm;

	clock_gettime(CLOCK_REALTIME, &at);
	if (of->start_us) {
		uint64_t us = (uint64_t)at.tv_sec * 1000000 + (uint64_t)at.tv_nsec / 1000 - (of->conn->worker->now_us - of->start_us);

		at = (struct timespec){(time_t)(us / 1000000), (long)(us % 1000000) * 1000};
	}
	gmtime_r(&at.tv_sec, &tm);
	settle_fractions(format, sizeof(format), wanted, length, at.tv_nsec);
	written = strftime(text, sizeof(text), format, &tm);
	put(w, text, written);
}

/* ---- where to ---- */

/* outbound|80|subset|host; what passes because nobody registers it has Istio's name for that. */
static void put_cluster(struct writer *w, const struct operator_sources *of)
{
	const struct conn *conn = of->conn;
	const char *settled = settled_text(conn, 0);
	const struct service *to = conn->target ? policy_service(conn->table->policy, conn->target->service) : conn->service;

	if (settled)
		put_text(w, settled);
	else if (conn->outcome.is_blocked)
		put_text(w, of->is_request ? "" : "BlackHoleCluster");
	else if (!to && !conn->target && (conn->is_passthrough || !of->is_request))
		put_text(w, "PassthroughCluster");
	if (settled || !to || conn->outcome.is_blocked || conn->outcome.flags & FLAG_NR)
		return;
	if (conn->route && (conn->route->direct.present || conn->route->redirect.present))
		return;
	put_text(w, "outbound|");
	put_number(w, to->port);
	put_text(w, "|");
	put_text(w, to->subset ? to->subset : "");
	put_text(w, "|");
	put_text(w, to->host);
}

/* RULE.MATCH; where there is no VirtualService's rule, Istio's own. */
static void put_route_name(struct writer *w, const struct operator_sources *of)
{
	const struct conn *conn = of->conn;
	const char *settled = settled_text(conn, 1);

	if (!of->is_request)
		return;
	if (settled) {
		put_text(w, settled);
	} else if (conn->outcome.is_blocked) {
		put_text(w, "block_all");
	} else if (conn->is_passthrough) {
		put_text(w, "allow_any");
	} else if (conn->route) {
		put_text(w, conn->route->name ? conn->route->name : "");
		put_text(w, conn->match_name ? "." : "");
		put_text(w, conn->match_name ? conn->match_name : "");
	} else if (conn->service && !(conn->outcome.flags & FLAG_NR)) {
		put_text(w, "default");
	}
}

/* ---- fields ---- */

static struct slice line_value(const char *lines, const char *name)
{
	size_t n = strlen(name);

	while (lines && *lines) {
		size_t length = strcspn(lines, "\r");

		if (length > n + 1 && lines[n] == ':' && !strncasecmp(lines, name, n))
			return (struct slice){lines + n + 2, length - n - 2};
		lines += length;
		lines += strspn(lines, "\r\n");
	}
	return (struct slice){NULL, 0};
}

static struct slice named_value(const struct message_source *of, const char *name)
{
	const struct http_head *head = of->head;
	const struct http_field *field;
	struct slice value;

	if (!strcasecmp(name, ":method"))
		return head->method_text;
	if (!strcasecmp(name, ":authority"))
		return head->authority;
	if (!strcasecmp(name, ":path"))
		return head->path;
	if (!strcasecmp(name, ":scheme"))
		return (struct slice){"http", 4};
	for (size_t i = 0; i < ARRAY_SIZE(of->lines); i++) {
		value = line_value(of->lines[i], name);
		if (value.p)
			return value;
	}
	field = http_field(head, name);
	return field && (!field->hop_by_hop || !of->lines[0]) ? field->value : (struct slice){NULL, 0};
}

/* REQ(NAME?OTHER):LENGTH */
struct slice operator_field(const struct message_source *of, const char *operator_, size_t n)
{
	const char *argument = memchr(operator_, '(', n), *end = operator_ + n, *close;
	struct slice value = {NULL, 0};
	size_t most = SIZE_MAX;
	char name[256];

	if (!of->head || !argument++)
		return value;
	close = memchr(argument, ')', (size_t)(end - argument));
	if (!close)
		return value;
	if (close + 1 < end)
		most = strtoul(close + 2, NULL, 10);
	while (!value.p && argument < close) {
		const char *other = memchr(argument, '?', (size_t)(close - argument));
		size_t length = (size_t)((other ? other : close) - argument);

		snprintf(name, sizeof(name), "%.*s", (int)length, argument);
		value = named_value(of, name);
		argument += other ? length + 1 : length;
	}
	if (value.n > most)
		value.n = most;
	return value;
}

/* ---- any ---- */

bool operator_is(const char *name, size_t n, const char *what)
{
	size_t length = strlen(what);

	return n >= length && !memcmp(name, what, length) && (n == length || name[length] == '(');
}

void put_operator(struct writer *w, const struct operator_sources *of, const char *name, size_t n)
{
	const struct conn *conn = of->conn;

#define IS(what) operator_is(name, n, what)
	if (IS("HOSTNAME")) {
		put_text(w, roster_find(conn->worker->view, conn->record.workload)->who.name);
	} else if (IS("PROTOCOL")) {
		if (of->is_request)
			put_text(w, conn->is_h2 ? "HTTP/2" : conn->client_minor ? "HTTP/1.1" : "HTTP/1.0");
	} else if (IS("START_TIME")) {
		put_start(w, of, name, n);
	} else if (IS("DOWNSTREAM_LOCAL_ADDRESS") || IS("DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT") || IS("DOWNSTREAM_LOCAL_PORT")) {
		put_address(w, conn->record.addr, conn->record.port, !IS("DOWNSTREAM_LOCAL_PORT"), IS("DOWNSTREAM_LOCAL_ADDRESS"));
	} else if (IS("UPSTREAM_HOST") || IS("UPSTREAM_REMOTE_ADDRESS") || IS("UPSTREAM_REMOTE_ADDRESS_WITHOUT_PORT") || IS("UPSTREAM_REMOTE_PORT")) {
		if (of->has_upstream && !conn->port && !IS("UPSTREAM_REMOTE_PORT"))
			put_socket(w, conn);
		else if (of->has_upstream)
			put_address(w, conn->addr, conn->port, !IS("UPSTREAM_REMOTE_PORT"), IS("UPSTREAM_HOST") || IS("UPSTREAM_REMOTE_ADDRESS"));
	} else if (IS("UPSTREAM_CLUSTER") || IS("UPSTREAM_CLUSTER_RAW")) {
		put_cluster(w, of);
	} else if (IS("ROUTE_NAME")) {
		put_route_name(w, of);
	} else if (IS("RESPONSE_CODE")) {
		put_number(w, of->status);
	}
#undef IS
	/* What is left is of a client's TLS, which no client here speaks. */
}
