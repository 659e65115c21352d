// SPDX-License-Identifier: Apache-2.0
#include "redirect/http1.h"

#include "base/memory.h"
#include "redirect/http1_text.h"

#define MAX_EMPTY_LINES 4
#define MAX_METHOD 64
#define MAX_CONNECTION_OPTIONS 32 /* each is looked up among all fields */

#define EVERYWHERE (HTTP_TOKEN_CHAR | HTTP_VALUE_CHAR | HTTP_TARGET_CHAR)
#define NO_TOKEN (HTTP_VALUE_CHAR | HTTP_TARGET_CHAR)

const uint8_t http_char_class[256] = {
	['\t'] = HTTP_VALUE_CHAR,
	[' '] = HTTP_VALUE_CHAR,
	['!'] = EVERYWHERE,
	['"'] = NO_TOKEN,
	['#'] = HTTP_TOKEN_CHAR | HTTP_VALUE_CHAR,
	['$' ... '\''] = EVERYWHERE,
	['(' ... ')'] = NO_TOKEN,
	['*' ... '+'] = EVERYWHERE,
	[','] = NO_TOKEN,
	['-' ... '.'] = EVERYWHERE,
	['/'] = NO_TOKEN,
	['0' ... '9'] = EVERYWHERE,
	[':' ... '@'] = NO_TOKEN,
	['A' ... 'Z'] = EVERYWHERE,
	['[' ... ']'] = NO_TOKEN,
	['^' ... 'z'] = EVERYWHERE,
	['{'] = NO_TOKEN,
	['|'] = EVERYWHERE,
	['}'] = NO_TOKEN,
	['~'] = EVERYWHERE,
	[0x80 ... 0xff] = HTTP_VALUE_CHAR,
};

/* Every decision is taken at the first byte that settles it, so the answer does not depend on how bytes are split. */
struct cursor {
	const char *p;
	const char *end;
	bool full; /* end is HTTP_MAX_HEAD, not where the bytes end */
	const char *why;
};

/* What the fields said, while they are read. */
struct gathered {
	bool request;
	const struct http_field *host;
	bool length;
	bool chunked;
	bool close;
	bool keep_alive;
	bool connection;      /* a Connection field is there */
	bool upgrade_option;  /* Connection: upgrade */
	bool upgrade_field;   /* Upgrade names a protocol ... */
	bool upgrade_is_http; /* ... which is another HTTP */
	bool upgrade_is_h2c;
	unsigned int settings; /* HTTP2-Settings fields */
	bool expect_continue;
};

static enum http_result bad(struct cursor *c, const char *why)
{
	c->why = why;
	return HTTP_ERROR_MALFORMED;
}

static enum http_result too_large(struct cursor *c, const char *why)
{
	c->why = why;
	return HTTP_ERROR_TOO_LARGE;
}

static enum http_result not_http(struct cursor *c)
{
	c->why = "this is not an HTTP/1 request";
	return HTTP_NOT_HTTP;
}

static enum http_result more(struct cursor *c)
{
	return c->full ? too_large(c, "the head is larger than 64 KiB") : HTTP_MORE;
}

static struct cursor cursor_of(const char *bytes, size_t n)
{
	bool full = n >= HTTP_MAX_HEAD;

	return (struct cursor){ .p = bytes, .end = bytes + (full ? HTTP_MAX_HEAD : n), .full = full };
}

/* CRLF and nothing else: a bare LF or CR ends the line for some readers only. */
static enum http_result line_end(struct cursor *c)
{
	if (c->p == c->end)
		return more(c);
	if (*c->p == '\n')
		return bad(c, "a line ends with LF alone");
	if (*c->p != '\r')
		return bad(c, "a character is not allowed there");
	if (c->p + 1 == c->end)
		return more(c);
	if (c->p[1] != '\n')
		return bad(c, "CR without LF");
	c->p += 2;
	return HTTP_OK;
}

/* The next element of a comma-separated list (RFC 9110 §5.6.1); empty ones are skipped. */
static bool next_element(struct slice *rest, struct slice *element)
{
	const char *p = rest->p, *end = rest->p + rest->n, *comma, *last;

	while (p < end && (*p == ',' || *p == ' ' || *p == '\t'))
		p++;
	if (p == end)
		return false;
	comma = memchr(p, ',', (size_t)(end - p));
	last = comma ? comma : end;
	*rest = slice_between(last, end);
	while (last[-1] == ' ' || last[-1] == '\t')
		last--;
	*element = slice_between(p, last);
	return true;
}

/* ---- fields ---- */

static enum http_result read_content_length(struct cursor *c, struct http_head *head, struct slice value, bool repeated)
{
	uint64_t length = 0;

	if (repeated)
		return bad(c, "more than one Content-Length");
	if (value.n == 0)
		return bad(c, "Content-Length is empty");
	for (size_t i = 0; i < value.n; i++) {
		uint64_t digit = (uint64_t)(unsigned char)value.p[i] - '0';

		if (digit > 9)
			return bad(c, "Content-Length is not a decimal number");
		if (length > (INT64_MAX - digit) / 10)
			return bad(c, "Content-Length is too large");
		length = length * 10 + digit;
	}
	head->content_length = length;
	return HTTP_OK;
}

static enum http_result read_transfer_encoding(struct cursor *c, struct slice value, bool repeated)
{
	if (repeated)
		return bad(c, "more than one Transfer-Encoding");
	if (!SLICE_IS(value, "chunked"))
		return bad(c, "Transfer-Encoding is not just \"chunked\"");
	return HTTP_OK;
}

static void read_connection(struct gathered *g, struct slice value)
{
	struct slice option;

	g->connection = true;
	while (next_element(&value, &option)) {
		g->close |= SLICE_IS(option, "close");
		g->keep_alive |= SLICE_IS(option, "keep-alive");
		g->upgrade_option |= SLICE_IS(option, "upgrade");
	}
}

/* An upgrade to HTTP/2 would carry requests for any host past the policy: it is not offered to the server. */
static void read_upgrade(struct gathered *g, struct slice value)
{
	struct slice protocol;

	while (next_element(&value, &protocol)) {
		g->upgrade_field = true;
		g->upgrade_is_h2c |= SLICE_IS(protocol, "h2c");
		if (SLICE_IS(protocol, "h2c") || (protocol.n >= 4 && strncasecmp(protocol.p, "http", 4) == 0))
			g->upgrade_is_http = true;
	}
}

/* Takes in what one field says about the message itself. */
static enum http_result read_field(struct cursor *c, struct http_head *head, struct http_field *field,
				   struct gathered *g)
{
	enum http_result result = HTTP_OK;
	struct slice name = field->name;

	switch (name.n) {
	case 2:
		field->hop_by_hop = SLICE_IS(name, "te") && !SLICE_IS(field->value, "trailers");
		break;
	case 4:
		if (g->request && SLICE_IS(name, "host")) {
			if (g->host)
				return bad(c, "more than one Host");
			g->host = field;
		}
		break;
	case 5:
		/* reserved (RFC 9110 §16.3.1): our own Connection: close would name it, so the next hop may drop it or not */
		field->hop_by_hop = SLICE_IS(name, "close");
		break;
	case 6:
		if (SLICE_IS(name, "expect")) {
			g->expect_continue |= SLICE_IS(field->value, "100-continue");
			/* ignored in HTTP/1.0 (RFC 9110 §10.1.1): it must not come to life when forwarded as HTTP/1.1 */
			field->hop_by_hop = head->minor == 0;
		}
		break;
	case 7:
		if (SLICE_IS(name, "upgrade")) {
			field->hop_by_hop = true;
			read_upgrade(g, field->value);
		}
		break;
	case 10:
		if (SLICE_IS(name, "connection")) {
			field->hop_by_hop = true;
			read_connection(g, field->value);
		} else {
			field->hop_by_hop = SLICE_IS(name, "keep-alive");
		}
		break;
	case 14:
		if (SLICE_IS(name, "content-length")) {
			result = read_content_length(c, head, field->value, g->length);
			g->length = true;
		} else {
			field->hop_by_hop = SLICE_IS(name, "http2-settings");
			g->settings += field->hop_by_hop;
		}
		break;
	case 16:
		field->hop_by_hop = SLICE_IS(name, "proxy-connection");
		break;
	case 17:
		if (SLICE_IS(name, "transfer-encoding")) {
			field->hop_by_hop = true;
			result = read_transfer_encoding(c, field->value, g->chunked);
			g->chunked = true;
		}
		break;
	}
	return result;
}

static enum http_result parse_field(struct cursor *c, struct http_field *field)
{
	const char *name = c->p, *value, *last;
	enum http_result result;

	c->p = http_span(c->p, c->end, HTTP_TOKEN_CHAR);
	if (c->p == c->end)
		return more(c);
	if (c->p == name)
		return bad(c, *name == ' ' || *name == '\t' ? "a line begins with a blank (obsolete folding)" :
			      *name == ':' ? "a field has no name" : "a field name is not a token");
	if (*c->p != ':')
		return bad(c, *c->p == ' ' || *c->p == '\t' ? "a blank stands before the colon of a field" :
							      "a field name is not a token");
	field->name = slice_between(name, c->p++);
	while (c->p < c->end && (*c->p == ' ' || *c->p == '\t'))
		c->p++;
	value = c->p;
	last = c->p = http_span(c->p, c->end, HTTP_VALUE_CHAR);
	result = line_end(c);
	if (result != HTTP_OK)
		return result;
	while (last > value && (last[-1] == ' ' || last[-1] == '\t'))
		last--;
	field->value = slice_between(value, last);
	field->hop_by_hop = false;
	return HTTP_OK;
}

/* Up to and with the empty line. */
static enum http_result parse_fields(struct cursor *c, struct http_head *head, struct gathered *g)
{
	for (;;) {
		struct http_field *field = &head->fields[head->field_count];
		enum http_result result;

		if (c->p == c->end)
			return more(c);
		if (*c->p == '\r')
			return line_end(c);
		if (head->field_count == HTTP_MAX_FIELDS)
			return too_large(c, "more than 128 fields");
		result = parse_field(c, field);
		if (result == HTTP_OK)
			result = read_field(c, head, field, g);
		if (result != HTTP_OK)
			return result;
		head->field_count++;
	}
}

/* Whether Connection may name it: not what frames or routes the message, and TE is decided by its value. */
static bool connection_may_name(struct slice name)
{
	return !SLICE_IS(name, "host") && !SLICE_IS(name, "content-length") && !SLICE_IS(name, "te") &&
	       !SLICE_IS(name, "trailer") && !SLICE_IS(name, "expect");
}

static enum http_result mark_named_by_connection(struct cursor *c, struct http_head *head)
{
	struct slice value, option;
	size_t options = 0;

	for (size_t i = 0; i < head->field_count; i++) {
		if (!SLICE_IS(head->fields[i].name, "connection"))
			continue;
		value = head->fields[i].value;
		while (next_element(&value, &option)) {
			if (++options > MAX_CONNECTION_OPTIONS)
				return bad(c, "Connection has more than 32 options");
			if (!connection_may_name(option))
				continue;
			for (size_t k = 0; k < head->field_count; k++)
				if (slice_is(head->fields[k].name, option.p, option.n))
					head->fields[k].hop_by_hop = true;
		}
	}
	return HTTP_OK;
}

/* What requests and responses have in common once all fields are read. */
static enum http_result settle(struct cursor *c, struct http_head *head, const struct gathered *g)
{
	if (g->chunked && g->length)
		return bad(c, "both Content-Length and Transfer-Encoding");
	if (g->chunked && head->minor == 0)
		return bad(c, "Transfer-Encoding in HTTP/1.0");
	head->framing = g->chunked ? HTTP_BODY_CHUNKED : g->length ? HTTP_BODY_LENGTH : HTTP_BODY_NONE;
	head->keep_alive = !g->close && (head->minor == 1 || g->keep_alive);
	head->upgrade = head->minor == 1 && g->upgrade_option && g->upgrade_field && !g->upgrade_is_http;
	return g->connection ? mark_named_by_connection(c, head) : HTTP_OK;
}

bool http_is_grpc_type(struct slice type)
{
	static const char grpc[] = "application/grpc";
	size_t n = sizeof(grpc) - 1;

	return type.n >= n && !memcmp(type.p, grpc, n) && (type.n == n || type.p[n] == '+');
}

bool http_is_grpc(const struct http_head *head)
{
	const struct http_field *field = http_field(head, "content-type");

	return field && http_is_grpc_type(field->value);
}

/* Envoy's grpcToHttpStatus. */
uint16_t http_status_of_grpc(struct slice text)
{
	static const uint16_t statuses[] = {200, 499, 500, 400, 504, 404, 409, 403, 429, 400, 409, 400, 501, 500, 503, 500, 401};
	size_t status = 0;

	for (size_t i = 0; i < text.n && status < ARRAY_SIZE(statuses); i++)
		status = text.p[i] >= '0' && text.p[i] <= '9' ? status * 10 + (size_t)(text.p[i] - '0') : ARRAY_SIZE(statuses);
	return text.n && status < ARRAY_SIZE(statuses) ? statuses[status] : 500;
}

/* gRPC over HTTP2, "Timeout": up to 8 digits and a unit. */
uint64_t http_grpc_timeout(const struct http_head *head)
{
	static const struct {
		char unit;
		uint64_t microseconds;
	} units[] = {{'H', 3600000000}, {'M', 60000000}, {'S', 1000000}, {'m', 1000}, {'u', 1}, {'n', 0}};
	const struct http_field *field = http_field(head, "grpc-timeout");
	uint64_t value = 0;

	if (!field || field->value.n < 2 || field->value.n > 9)
		return 0;
	for (size_t i = 0; i < field->value.n - 1; i++) {
		if (field->value.p[i] < '0' || field->value.p[i] > '9')
			return 0;
		value = value * 10 + (uint64_t)(field->value.p[i] - '0');
	}
	for (size_t i = 0; i < ARRAY_SIZE(units); i++)
		if (units[i].unit == field->value.p[field->value.n - 1]) {
			value = value * units[i].microseconds / 1000;
			return value ? value : 1;
		}
	return 0;
}

const struct http_field *http_field(const struct http_head *head, const char *name)
{
	size_t n = strlen(name);

	for (size_t i = 0; i < head->field_count; i++)
		if (slice_is(head->fields[i].name, name, n))
			return &head->fields[i];
	return NULL;
}

/* ---- requests ---- */

static enum http_result skip_empty_lines(struct cursor *c)
{
	for (int lines = 0; c->p < c->end && *c->p == '\r'; lines++) {
		if (c->p + 1 == c->end)
			return more(c);
		if (c->p[1] != '\n')
			return not_http(c);
		if (lines == MAX_EMPTY_LINES)
			return bad(c, "more than 4 empty lines before the request");
		c->p += 2;
	}
	return HTTP_OK;
}

/* A line that goes wrong before it says HTTP: meant as HTTP if the method is a registered one. */
static enum http_result no_request_line(struct cursor *c, const struct http_head *head, const char *why)
{
	return head->method == HTTP_OTHER ? not_http(c) : bad(c, why);
}

static bool has_small_letter(struct slice s)
{
	for (size_t i = 0; i < s.n; i++)
		if (s.p[i] >= 'a' && s.p[i] <= 'z')
			return true;
	return false;
}

static enum http_result parse_method(struct cursor *c, struct http_head *head)
{
	static const struct {
		struct slice text;
		enum http_method method;
	} methods[] = {
		{ { "GET", 3 }, HTTP_GET }, { { "POST", 4 }, HTTP_POST }, { { "HEAD", 4 }, HTTP_HEAD },
		{ { "PUT", 3 }, HTTP_PUT }, { { "DELETE", 6 }, HTTP_DELETE }, { { "OPTIONS", 7 }, HTTP_OPTIONS },
		{ { "PATCH", 5 }, HTTP_PATCH }, { { "CONNECT", 7 }, HTTP_CONNECT }, { { "TRACE", 5 }, HTTP_TRACE },
	};
	const char *start = c->p, *limit = c->end - start > MAX_METHOD ? start + MAX_METHOD : c->end;

	c->p = http_span(start, limit, HTTP_TOKEN_CHAR);
	if (c->p == c->end)
		return more(c);
	if (c->p == start)
		return not_http(c);
	head->method_text = slice_between(start, c->p);
	for (size_t i = 0; i < ARRAY_SIZE(methods) && head->method == HTTP_OTHER; i++)
		if (slice_is(head->method_text, methods[i].text.p, methods[i].text.n))
			head->method = methods[i].method;
	/* a server that ignores case would answer "head" without the body that we would wait for */
	if (head->method != HTTP_OTHER && has_small_letter(head->method_text))
		return bad(c, "the method is not in capitals");
	if (*c->p != ' ')
		return no_request_line(c, head, "the method is not followed by one space");
	c->p++;
	return HTTP_OK;
}

static enum http_result parse_request_version(struct cursor *c, struct http_head *head)
{
	for (const char *expected = "HTTP/"; *expected; expected++, c->p++) {
		if (c->p == c->end)
			return more(c);
		if (*c->p != *expected)
			return no_request_line(c, head, "the request line has no HTTP version after one space");
	}
	if (c->p == c->end)
		return more(c);
	if (*c->p >= '2' && *c->p <= '9') {
		if (head->method_text.n == 3 && memcmp(head->method_text.p, "PRI", 3) == 0)
			return not_http(c); /* the preface of HTTP/2 (RFC 9113 §3.4) */
		c->why = "the request is for HTTP/2 or later";
		return HTTP_ERROR_VERSION;
	}
	for (int i = 0; i < 3; i++, c->p++) {
		if (c->p == c->end)
			return more(c);
		if (i == 0 ? *c->p != '1' : i == 1 ? *c->p != '.' : *c->p < '0' || *c->p > '9')
			return bad(c, "the HTTP version is not 1.0 or 1.1");
	}
	head->minor = c->p[-1] != '0';
	return line_end(c);
}

static enum http_result parse_request_line(struct cursor *c, struct http_head *head)
{
	enum http_result result = parse_method(c, head);
	const char *start = c->p, *why;

	if (result != HTTP_OK)
		return result;
	c->p = http_span(start, c->end, HTTP_TARGET_CHAR);
	if (c->p == c->end)
		return more(c);
	if (c->p == start)
		return no_request_line(c, head, "the request line has no target after one space");
	if (*c->p != ' ')
		return no_request_line(c, head, "the request target holds a character that is not allowed there");
	head->target = slice_between(start, c->p++);
	result = parse_request_version(c, head);
	if (result != HTTP_OK)
		return result;
	why = http_parse_target(head);
	return why ? bad(c, why) : HTTP_OK;
}

static enum http_result settle_request(struct cursor *c, struct http_head *head, const struct gathered *g)
{
	bool target_has_authority = head->absolute_form || head->method == HTTP_CONNECT;
	struct http_head of_host;
	const char *why = NULL;
	enum http_result result = settle(c, head, g);

	if (result != HTTP_OK)
		return result;
	if (!g->host && head->minor == 1)
		return bad(c, "no Host in HTTP/1.1");
	/* an empty Host says that there is no authority (RFC 9110 §7.2); one that is overridden must be valid too */
	if (g->host && g->host->value.n)
		why = http_parse_authority(target_has_authority ? &of_host : head, g->host->value);
	if (why)
		return bad(c, why);
	if (head->method == HTTP_CONNECT && head->framing != HTTP_BODY_NONE)
		return bad(c, "CONNECT with a body");
	head->upgrade_h2c = head->minor == 1 && g->upgrade_option && g->upgrade_is_h2c && g->settings == 1 &&
			    head->framing == HTTP_BODY_NONE;
	head->expect_continue = head->minor == 1 && g->expect_continue && head->framing != HTTP_BODY_NONE;
	return HTTP_OK;
}

enum http_result http_parse_request(struct http_head *out, const char *bytes, size_t n, const char **why)
{
	struct cursor c = cursor_of(bytes, n);
	struct gathered g = { .request = true };
	enum http_result result;

	memset(out, 0, offsetof(struct http_head, fields));
	out->path = out->authority = out->host = (struct slice){ "", 0 };
	result = skip_empty_lines(&c);
	if (result == HTTP_OK)
		result = parse_request_line(&c, out);
	if (result == HTTP_OK)
		result = parse_fields(&c, out, &g);
	if (result == HTTP_OK)
		result = settle_request(&c, out, &g);
	out->bytes = (size_t)(c.p - bytes);
	*why = c.why;
	return result;
}

/* ---- responses ---- */

static enum http_result parse_status_line(struct cursor *c, struct http_head *head)
{
	const char *start;

	/* '1' stands for any digit here */
	for (const char *expected = "HTTP/1.1 111"; *expected; expected++, c->p++) {
		bool any_digit = *expected == '1' && expected[-1] != '/';

		if (c->p == c->end)
			return more(c);
		if (any_digit ? *c->p < '0' || *c->p > '9' : *c->p != *expected)
			return bad(c, "the response does not begin with a status line of HTTP/1");
	}
	head->minor = c->p[-5] != '0';
	head->status = (uint16_t)((c->p[-3] - '0') * 100 + (c->p[-2] - '0') * 10 + (c->p[-1] - '0'));
	if (head->status < 100)
		return bad(c, "the status is below 100");
	head->reason = slice_between(c->p, c->p);
	if (c->p == c->end)
		return more(c);
	if (*c->p == ' ') {
		start = ++c->p;
		c->p = http_span(start, c->end, HTTP_VALUE_CHAR);
		head->reason = slice_between(start, c->p);
	}
	return line_end(c);
}

/* RFC 9112 §6.3 */
static enum http_result settle_response(struct cursor *c, struct http_head *head, const struct gathered *g,
					enum http_method request)
{
	enum http_result result = settle(c, head, g);

	if (result != HTTP_OK)
		return result;
	head->upgrade = head->upgrade && head->status == 101;
	if (head->status == 101 && !head->upgrade)
		return bad(c, "101 without an upgrade that may be used");
	if (request == HTTP_HEAD || head->status < 200 || head->status == 204 || head->status == 304 ||
	    (request == HTTP_CONNECT && head->status < 300)) {
		head->framing = HTTP_BODY_NONE;
	} else if (head->framing == HTTP_BODY_NONE) {
		head->framing = HTTP_BODY_CLOSE;
		head->keep_alive = false;
	}
	return HTTP_OK;
}

enum http_result http_parse_response(struct http_head *out, const char *bytes, size_t n, enum http_method request,
				     const char **why)
{
	struct cursor c = cursor_of(bytes, n);
	struct gathered g = { .request = false };
	enum http_result result;

	memset(out, 0, offsetof(struct http_head, fields));
	result = parse_status_line(&c, out);
	if (result == HTTP_OK)
		result = parse_fields(&c, out, &g);
	if (result == HTTP_OK)
		result = settle_response(&c, out, &g, request);
	out->bytes = (size_t)(c.p - bytes);
	*why = c.why;
	return result;
}
