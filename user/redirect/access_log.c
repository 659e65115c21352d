// SPDX-License-Identifier: Apache-2.0
/*
 * The access log (MeshConfig accessLogFile): a line for each request, and for each connection that was relayed or refused. What
 * comes from the network is escaped, and cannot be so long that the rest of a line has no room. A line that cannot be written at
 * once is lost, and counted: traffic never waits for its log.
 */
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/memory.h"
#include "config/config.h"
#include "redirect/operators.h"

#define KEPT 2048 /* bytes of a request's fields, escaped */

/* NULL: there is none. */
static const struct access_log *log_of(const struct worker *worker)
{
	const struct table *table = worker->view ? worker->view->table : NULL;

	return table && table->log_fd >= 0 ? &table->config->mesh->access_log : NULL;
}

/* ---- escaping ---- */

/* What could end a line or a string, or is no ASCII: in JSON by its escapes, in text as \x0a. Returns the bytes. */
static size_t escape_byte(char out[6], unsigned char c, bool json)
{
	static const char digits[] = "0123456789abcdef";
	size_t n = 0;

	if (c >= ' ' && c < 0x7f && c != '"' && c != '\\') {
		out[0] = (char)c;
		return 1;
	}
	out[n++] = '\\';
	if (json && (c == '"' || c == '\\')) {
		out[n++] = (char)c;
		return n;
	}
	out[n++] = json ? 'u' : 'x';
	if (json)
		out[n++] = '0';
	if (json)
		out[n++] = '0';
	out[n++] = digits[c >> 4];
	out[n++] = digits[c & 15];
	return n;
}

/* As much of it as there is room for. Returns the bytes. */
static size_t escape(char *out, size_t room, struct slice text, bool json)
{
	size_t n = 0;

	for (size_t i = 0; i < text.n; i++) {
		char one[6];
		size_t length = escape_byte(one, (unsigned char)text.p[i], json);

		if (length > room - n)
			break;
		memcpy(out + n, one, length);
		n += length;
	}
	return n;
}

/* ---- fields that are kept: in the order of the format, each behind its length ---- */

static bool is_of_request(const struct log_piece *piece)
{
	return piece->operator_ && (operator_is(piece->operator_, strlen(piece->operator_), "REQ") ||
				    operator_is(piece->operator_, strlen(piece->operator_), "REQ_WITHOUT_QUERY"));
}

static bool is_of_response(const struct log_piece *piece)
{
	return piece->operator_ && operator_is(piece->operator_, strlen(piece->operator_), "RESP");
}

/* At most half of the room that is left: a long one leaves some to each of the others. */
static void keep(struct buffer *kept, const struct log_piece *piece, const struct message_source *of, bool json)
{
	size_t n = strlen(piece->operator_);
	struct slice value = operator_field(of, piece->operator_, n);
	const char *query = value.n && operator_is(piece->operator_, n, "REQ_WITHOUT_QUERY") ? memchr(value.p, '?', value.n) : NULL;
	uint16_t length;

	if (kept->end + sizeof(length) > KEPT)
		return;
	if (query)
		value.n = (size_t)(query - value.p);
	length = (uint16_t)escape(kept->bytes + kept->end + sizeof(length), (KEPT - kept->end - sizeof(length)) / 2, value, json);
	memcpy(kept->bytes + kept->end, &length, sizeof(length));
	kept->end += (uint32_t)(sizeof(length) + length);
}

static void keep_all(struct conn *conn, const struct access_log *log, const struct message_source *of,
		     bool (*is_wanted)(const struct log_piece *))
{
	for (size_t i = 0; i < log->count; i++)
		if (is_wanted(&log->pieces[i]))
			keep(conn->outcome.kept, &log->pieces[i], of, log->is_json);
}

/* The next one. Empty: there was none, or none is left. */
static struct slice next_kept(const struct buffer *kept, uint32_t *at, uint32_t end)
{
	uint16_t length;
	struct slice value;

	if (*at + sizeof(length) > end)
		return (struct slice){"", 0};
	memcpy(&length, kept->bytes + *at, sizeof(length));
	value = (struct slice){kept->bytes + *at + sizeof(length), length};
	*at += (uint32_t)(sizeof(length) + length);
	return value;
}

/* ---- while it goes on ---- */

static void learn_address(int fd, int (*ask)(int, struct sockaddr *, socklen_t *), uint8_t addr[16], uint16_t *port)
{
	union {
		struct sockaddr any;
		struct sockaddr_in in;
		struct sockaddr_in6 in6;
	} at;
	socklen_t size = sizeof(at);

	*port = 0;
	if (fd < 0 || ask(fd, &at.any, &size) < 0)
		return;
	if (at.any.sa_family == AF_INET6) {
		memcpy(addr, &at.in6.sin6_addr, 16);
		*port = ntohs(at.in6.sin6_port);
	} else if (at.any.sa_family == AF_INET) {
		addr_from_v4(addr, &at.in.sin_addr);
		*port = ntohs(at.in.sin_port);
	}
}

void access_log_begin(struct conn *conn, bool is_request)
{
	uint64_t accepted_us = conn->outcome.start_us;

	if (!log_of(conn->worker) || conn->outcome.begun)
		return;
	conn->outcome = (struct outcome){.begun = true, .is_request = is_request,
					 .start_us = is_request || !accepted_us ? conn->worker->now_us : accepted_us};
	if (!conn->peer_port)
		learn_address((conn->owner ? conn->owner : conn)->client.fd, getpeername, conn->peer_addr, &conn->peer_port);
}

void access_log_request(struct conn *conn, const struct http_head *head, const char *lines, const char *extra)
{
	const struct message_source request = {head, {lines, extra}};
	const struct access_log *log = log_of(conn->worker);

	if (!log || !conn->outcome.begun)
		return;
	if (!conn->outcome.kept)
		conn->outcome.kept = buffer_get(conn->worker, false);
	conn->outcome.kept->end = 0;
	conn->outcome.format = log->format;
	keep_all(conn, log, &request, is_of_request);
	conn->outcome.kept_request = conn->outcome.kept->end;
}

void access_log_response(struct conn *conn, const struct http_head *head, const char *lines, const char *extra)
{
	const struct message_source response = {head, {lines, extra}};
	const struct access_log *log = log_of(conn->worker);

	conn->outcome.status = head->status;
	if (log && conn->outcome.kept && conn->outcome.format == log->format)
		keep_all(conn, log, &response, is_of_response);
}

void access_log_connected(struct conn *conn)
{
	if (log_of(conn->worker))
		learn_address(conn->upstream.fd, getsockname, conn->local_addr, &conn->local_port);
}

void access_log_reset(struct conn *conn, const char *reason, const char *failure)
{
	static const struct {
		const char *reason;
		uint32_t flag;
	} reasons[] = {{"connection termination", FLAG_UC}, {"protocol error", FLAG_UPE}, {"overflow", FLAG_UO},
		     {"remote reset", FLAG_UR}, {"remote refused stream reset", FLAG_UR}};
	uint32_t flag = FLAG_UF;

	if (!conn->outcome.begun)
		return;
	for (size_t i = 0; i < ARRAY_SIZE(reasons); i++)
		if (!strcmp(reason, reasons[i].reason))
			flag = reasons[i].flag;
	conn_note(conn, flag, NULL);
	conn->outcome.reset = reason;
	snprintf(conn->outcome.failure, sizeof(conn->outcome.failure), "%s", failure ? failure : "");
}

/* ---- what a relay leaves to other policies ---- */

#define VALUE 1024 /* bytes of one, unescaped */

static struct operator_sources sources_of(const struct conn *conn)
{
	const struct outcome *outcome = &conn->outcome;

	return (struct operator_sources){.conn = conn, .is_request = outcome->is_request, .has_upstream = outcome->has_upstream,
					 .status = outcome->status, .start_us = outcome->start_us};
}

void access_log_settle(struct conn *conn)
{
	static const char *const names[] = {"UPSTREAM_CLUSTER", "ROUTE_NAME", "UPSTREAM_HOST"}; /* operators.c knows the order */
	const struct operator_sources of = sources_of(conn);
	struct buffer *settled;

	if (!conn->outcome.begun || conn->outcome.settled)
		return;
	settled = buffer_get(conn->worker, false);
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		struct writer w = {.out = settled->bytes + settled->end, .room = VALUE};

		put_operator(&w, &of, names[i], strlen(names[i]));
		w.out[w.n] = 0;
		settled->end += (uint32_t)w.n + 1;
	}
	conn->outcome.settled = settled;
}

/* ---- values of its end ---- */

static void put_flags(struct writer *w, uint32_t flags)
{
	static const struct {
		uint32_t flag;
		const char *name;
	} names[] = {
		{FLAG_UH, "UH"}, {FLAG_UT, "UT"}, {FLAG_UR, "UR"}, {FLAG_UF, "UF"}, {FLAG_UC, "UC"}, {FLAG_UO, "UO"},
		{FLAG_NR, "NR"}, {FLAG_DI, "DI"}, {FLAG_FI, "FI"}, {FLAG_DC, "DC"}, {FLAG_URX, "URX"},
		{FLAG_SI, "SI"}, {FLAG_DPE, "DPE"}, {FLAG_UPE, "UPE"}, {FLAG_NC, "NC"}, {FLAG_DF, "DF"},
	};

	if (!flags)
		put_text(w, "-");
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		if (!(flags & names[i].flag))
			continue;
		if (w->n)
			put_text(w, ",");
		put_text(w, names[i].name);
	}
}

/* No blanks within (Envoy). */
static void put_word(struct writer *w, const char *text)
{
	for (; *text; text++)
		put(w, *text == ' ' ? "_" : text, 1);
}

static void put_details(struct writer *w, const struct outcome *outcome)
{
	if (!outcome->reset || !outcome->is_request) {
		put_word(w, outcome->details ? outcome->details : "");
		return;
	}
	put_text(w, "upstream_reset_before_response_started{");
	put_word(w, outcome->reset);
	put_text(w, outcome->failure[0] ? "|" : "");
	put_word(w, outcome->failure);
	put_text(w, "}");
}

static uint64_t bytes_received(const struct conn *conn)
{
	return conn->outcome.received + (conn->outcome.is_request ? conn->request_body.content : 0);
}

static uint64_t bytes_sent(const struct conn *conn)
{
	return conn->outcome.sent + (conn->outcome.is_request ? conn->response_body.content : 0);
}

static void put_value(struct writer *w, const struct operator_sources *of, const char *name, size_t n)
{
	const struct conn *conn = of->conn;
	const struct outcome *outcome = &conn->outcome;

#define IS(what) operator_is(name, n, what)
	if (IS("RESPONSE_FLAGS"))
		put_flags(w, outcome->flags);
	else if (IS("RESPONSE_CODE_DETAILS"))
		put_details(w, outcome);
	else if (IS("CONNECTION_TERMINATION_DETAILS"))
		put_text(w, outcome->termination ? outcome->termination : "");
	else if (IS("UPSTREAM_TRANSPORT_FAILURE_REASON"))
		put_word(w, outcome->failure);
	else if (IS("BYTES_RECEIVED"))
		put_number(w, bytes_received(conn));
	else if (IS("BYTES_SENT"))
		put_number(w, bytes_sent(conn));
	else if (IS("DURATION"))
		put_number(w, (conn->worker->now_us - outcome->start_us) / 1000);
	else if (IS("UPSTREAM_REQUEST_ATTEMPT_COUNT"))
		put_number(w, outcome->has_upstream ? conn->tries : 0);
	else if (IS("REQUESTED_SERVER_NAME"))
		put_text(w, conn->is_tls ? conn->shown : "");
	else if (IS("UPSTREAM_LOCAL_ADDRESS") || IS("UPSTREAM_LOCAL_ADDRESS_WITHOUT_PORT") || IS("UPSTREAM_LOCAL_PORT"))
		put_address(w, conn->local_addr, outcome->has_upstream ? conn->local_port : 0, !IS("UPSTREAM_LOCAL_PORT"),
			    IS("UPSTREAM_LOCAL_ADDRESS"));
	else if (strstr(name, "REMOTE_") && name[0] == 'D')
		put_address(w, conn->peer_addr, conn->peer_port, !strstr(name, "_PORT") || strstr(name, "WITHOUT"),
			    !strstr(name, "WITHOUT"));
	else
		put_operator(w, of, name, n);
#undef IS
}

/* In JSON these keep their type. */
static bool is_number(const char *name, size_t n)
{
	static const char *const names[] = {"RESPONSE_CODE", "BYTES_RECEIVED", "BYTES_SENT", "DURATION", "UPSTREAM_REQUEST_ATTEMPT_COUNT",
					    "DOWNSTREAM_LOCAL_PORT", "DOWNSTREAM_REMOTE_PORT", "DOWNSTREAM_DIRECT_REMOTE_PORT",
					    "UPSTREAM_LOCAL_PORT", "UPSTREAM_REMOTE_PORT"};

	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		if (operator_is(name, n, names[i]))
			return true;
	return false;
}

/* ---- a line ---- */

#define MARKS 4 /* of a value: the quotes around it, or null */

struct line {
	char *out;
	size_t n, room;
	size_t reserved; /* for what is to come for sure */
	const struct buffer *kept; /* NULL: nothing, or by another format */
	uint32_t request_at, response_at;
};

static void add(struct line *line, const char *bytes, size_t n)
{
	memcpy(line->out + line->n, bytes, n);
	line->n += n;
}

static void add_reserved(struct line *line, const char *bytes, size_t n)
{
	line->reserved -= n;
	add(line, bytes, n);
}

static size_t room_left(const struct line *line)
{
	return line->room - line->n - line->reserved;
}

static struct slice kept_value(struct line *line, const struct outcome *outcome, const struct log_piece *piece)
{
	if (!line->kept)
		return (struct slice){"", 0};
	if (is_of_request(piece))
		return next_kept(line->kept, &line->request_at, outcome->kept_request);
	return next_kept(line->kept, &line->response_at, line->kept->end);
}

static void add_value(struct line *line, const struct operator_sources *of, const struct log_piece *piece, bool json)
{
	const bool is_kept = is_of_request(piece) || is_of_response(piece);
	const char *quote = piece->is_value && !is_number(piece->operator_, strlen(piece->operator_)) ? "\"" : "";
	struct slice value = {"", 0};
	char own[VALUE];
	struct writer w = {.out = own, .room = sizeof(own)};

	if (is_kept) {
		value = kept_value(line, &of->conn->outcome, piece);
	} else {
		put_value(&w, of, piece->operator_, strlen(piece->operator_));
		value = (struct slice){own, w.n};
	}
	if (!value.n)
		quote = piece->is_value ? "null" : "-";
	add(line, quote, strlen(quote));
	if (is_kept)
		add_reserved(line, value.p, value.n);
	else
		line->n += escape(line->out + line->n, room_left(line), value, json);
	if (value.n)
		add(line, quote, strlen(quote));
	line->reserved -= MARKS;
}

/* `out` holds LOG_LINES bytes: its text, its marks and what was kept have room in any case. */
static size_t write_line(char *out, const struct conn *conn, const struct access_log *log)
{
	const struct outcome *outcome = &conn->outcome;
	const struct operator_sources of = sources_of(conn);
	struct line line = {.out = out, .room = LOG_LINES, .reserved = log->text_length + log->count * MARKS + 1};

	if (outcome->kept && outcome->format == log->format) {
		line.kept = outcome->kept;
		line.response_at = outcome->kept_request;
		line.reserved += outcome->kept->end;
	}
	for (size_t i = 0; i < log->count; i++) {
		add_reserved(&line, log->pieces[i].text, strlen(log->pieces[i].text));
		if (log->pieces[i].operator_)
			add_value(&line, &of, &log->pieces[i], log->is_json);
	}
	add_reserved(&line, "\n", 1);
	return line.n;
}

_Static_assert(ACCESS_LOG_TEXT + (ACCESS_LOG_OPERATORS + 1) * MARKS + 1 + KEPT < LOG_LINES, "a line's room");

/* ---- its end ---- */

void access_log_flush(struct worker *worker)
{
	const struct table *table;
	ssize_t n;

	if (!worker->log_length)
		return;
	table = worker->view->table;
	/* Others may share what a socket is, and want it to block; what is no socket does not block (command/log_file.c). */
	if (table->log_is_socket)
		n = send(table->log_fd, worker->log_lines, worker->log_length, MSG_NOSIGNAL | MSG_DONTWAIT);
	else
		n = write(table->log_fd, worker->log_lines, worker->log_length);
	if (n != (ssize_t)worker->log_length)
		tally(&worker->statistics.access_log_lost, worker->log_count);
	if (n > 0)
		worker->log_is_torn = worker->log_lines[n - 1] != '\n';
	worker->log_length = worker->log_count = 0;
}

void access_log_end(struct conn *conn)
{
	const struct access_log *log = log_of(conn->worker);
	struct worker *worker = conn->worker;
	char line[LOG_LINES];
	size_t n;

	if (!conn->outcome.begun)
		return;
	conn->outcome.begun = false;
	if (log) {
		n = write_line(line, conn, log);
		if (n > sizeof(worker->log_lines) - worker->log_length)
			access_log_flush(worker);
		if (!worker->log_length && worker->log_is_torn && n < sizeof(worker->log_lines))
			worker->log_lines[worker->log_length++] = '\n';
		memcpy(worker->log_lines + worker->log_length, line, n);
		worker->log_length += n;
		worker->log_count++;
	}
	buffer_put(worker, &conn->outcome.kept);
	buffer_put(worker, &conn->outcome.settled);
}
