// SPDX-License-Identifier: Apache-2.0
/* Lines that a rule gives a message: Envoy's variables in them are what they stand for at this moment. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "redirect/http_internal.h"

struct writer {
	char *out;
	size_t n, room;
	bool full;
};

static void put(struct writer *w, const char *bytes, size_t n)
{
	w->full |= n >= w->room - w->n;
	if (w->full)
		return;
	memcpy(w->out + w->n, bytes, n);
	w->n += n;
}

static void put_text(struct writer *w, const char *text)
{
	put(w, text, strlen(text));
}

/* ---- values: an empty one stands for what is not known ---- */

struct sources {
	const struct conn *conn;
	const struct http_head *request, *response; /* NULL: not at hand */
	uint16_t status;                            /* of the response */
};

static void put_time(struct writer *w)
{
	char text[40], fraction[8];
	struct timespec now;
	struct tm tm;

	clock_gettime(CLOCK_REALTIME, &now);
	gmtime_r(&now.tv_sec, &tm);
	strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%S", &tm);
	snprintf(fraction, sizeof(fraction), ".%03uZ", (unsigned int)(now.tv_nsec / 1000000) % 1000);
	put_text(w, text);
	put_text(w, fraction);
}

static void put_address(struct writer *w, const uint8_t addr[16], uint16_t port, bool with_address, bool with_port)
{
	char address[SLUICE_PREFIX_TEXT], text[SLUICE_PREFIX_TEXT + 16];

	format_address(address, addr);
	if (!with_address)
		snprintf(text, sizeof(text), "%u", port);
	else if (!with_port)
		snprintf(text, sizeof(text), "%s", address);
	else
		snprintf(text, sizeof(text), addr_is_v4(addr) ? "%s:%u" : "[%s]:%u", address, port);
	put_text(w, text);
}

/* outbound|80|subset|host */
static void put_cluster(struct writer *w, const struct conn *conn)
{
	const struct service *to = conn->target ? policy_service(conn->table->policy, conn->target->service) : conn->service;
	char port[16];

	if (!to)
		return;
	snprintf(port, sizeof(port), "|%u|", to->port);
	put_text(w, "outbound");
	put_text(w, port);
	put_text(w, to->subset ? to->subset : "");
	put_text(w, "|");
	put_text(w, to->host);
}

/* REQ(NAME?OTHER):LENGTH, of `head`. */
static void put_field(struct writer *w, const struct http_head *head, const char *argument, size_t n)
{
	const struct http_field *field = NULL;
	const char *colon = memchr(argument, ')', n);
	size_t most = SIZE_MAX, names = colon ? (size_t)(colon - argument) : n;
	char name[256];

	if (colon && colon[1] == ':')
		most = strtoul(colon + 2, NULL, 10);
	while (head && !field && names) {
		const char *other = memchr(argument, '?', names);
		size_t length = other ? (size_t)(other - argument) : names;

		snprintf(name, sizeof(name), "%.*s", (int)length, argument);
		if (!strcasecmp(name, ":method"))
			put(w, head->method_text.p, head->method_text.n < most ? head->method_text.n : most);
		else if (!strcasecmp(name, ":authority"))
			put(w, head->authority.p, head->authority.n < most ? head->authority.n : most);
		else if (!strcasecmp(name, ":path"))
			put(w, head->path.p, head->path.n < most ? head->path.n : most);
		else if (!strcasecmp(name, ":scheme"))
			put_text(w, "http");
		else
			field = http_field(head, name);
		if (name[0] == ':')
			return;
		argument += other ? length + 1 : length;
		names -= other ? length + 1 : length;
	}
	if (field)
		put(w, field->value.p, field->value.n < most ? field->value.n : most);
}

/* `name`: of config/headers.c's list, `n` bytes, then its argument in parentheses if it has one. */
static void put_variable(struct writer *w, const struct sources *of, const char *name, size_t n)
{
	const struct conn *conn = of->conn;
	const char *open = memchr(name, '(', n);
	size_t length = open ? (size_t)(open - name) : n;
	char text[16];

#define IS(what) (length == strlen(what) && !memcmp(name, what, length))
	if (IS("HOSTNAME")) {
		put_text(w, roster_find(conn->worker->view, conn->record.workload)->who.name);
	} else if (IS("PROTOCOL")) {
		put_text(w, conn->is_h2 ? "HTTP/2" : conn->client_minor ? "HTTP/1.1" : "HTTP/1.0");
	} else if (IS("START_TIME")) {
		put_time(w);
	} else if (IS("DOWNSTREAM_LOCAL_ADDRESS") || IS("DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT") || IS("DOWNSTREAM_LOCAL_PORT")) {
		put_address(w, conn->record.addr, conn->record.port, !IS("DOWNSTREAM_LOCAL_PORT"), IS("DOWNSTREAM_LOCAL_ADDRESS"));
	} else if (IS("UPSTREAM_HOST") || IS("UPSTREAM_REMOTE_ADDRESS") || IS("UPSTREAM_REMOTE_ADDRESS_WITHOUT_PORT") || IS("UPSTREAM_REMOTE_PORT")) {
		if (of->response)
			put_address(w, conn->addr, conn->port, !IS("UPSTREAM_REMOTE_PORT"), IS("UPSTREAM_HOST") || IS("UPSTREAM_REMOTE_ADDRESS"));
	} else if (IS("UPSTREAM_CLUSTER") || IS("UPSTREAM_CLUSTER_RAW")) {
		put_cluster(w, conn);
	} else if (IS("ROUTE_NAME")) {
		put_text(w, conn->route && conn->route->name ? conn->route->name : "default");
	} else if (IS("RESPONSE_CODE")) {
		snprintf(text, sizeof(text), "%u", of->status);
		put_text(w, text);
	} else if ((IS("REQ") || IS("RESP")) && open) {
		put_field(w, IS("REQ") ? of->request : of->response, open + 1, n - length - 1);
	}
#undef IS
	/* What is left is of a client's TLS, which no client here speaks. */
}

/* ---- lines ---- */

static void expand_value(struct writer *w, const struct sources *of, const char *value, size_t n)
{
	while (n) {
		const char *sign = memchr(value, '%', n);
		size_t plain = sign ? (size_t)(sign - value) : n, length;

		put(w, value, plain);
		value += plain;
		n -= plain;
		if (!n)
			return;
		length = header_variable_length(value); /* checked when the rule was read */
		if (length == 2)
			put_text(w, "%");
		else
			put_variable(w, of, value + 1, length - 2);
		value += length;
		n -= length;
	}
}

const char *header_lines(struct conn *conn, const struct header_ops *ops, const struct http_head *request,
			 const struct http_head *response, uint16_t status, struct buffer **scratch)
{
	const struct sources of = {conn, request, response, status};
	const char *line = ops ? ops->lines : "", *end;
	struct writer w;

	if (!strchr(line, '%'))
		return line;
	*scratch = buffer_get(conn->worker, true);
	w = (struct writer){.out = (*scratch)->bytes, .room = (*scratch)->size};
	for (; *line; line = end) {
		size_t before = w.n, name = strcspn(line, ":") + 2;

		end = strstr(line, "\r\n") + 2;
		put(&w, line, name);
		expand_value(&w, &of, line + name, (size_t)(end - line) - name - 2);
		if (w.n == before + name)
			w.n = before; /* nothing is known that it could say: it is left out, as Envoy does */
		else
			put_text(&w, "\r\n");
		if (w.full)
			w.n = before;
	}
	w.out[w.n] = 0;
	return w.out;
}
