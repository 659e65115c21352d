// SPDX-License-Identifier: Apache-2.0
/* Heads: what is taken, what is refused, and that the split of the bytes changes neither. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "base/memory.h"
#include "redirect/http1.h"

static struct http_head head;
static const char *why;

static enum http_result request(const char *text)
{
	return http_parse_request(&head, text, strlen(text), &why);
}

static enum http_result response_to(enum http_method method, const char *text)
{
	return http_parse_response(&head, text, strlen(text), method, &why);
}

static enum http_result response(const char *text)
{
	return response_to(HTTP_GET, text);
}

static void expect_slice(struct slice got, const char *wanted)
{
	cr_expect(got.n == strlen(wanted) && memcmp(got.p, wanted, got.n) == 0, "\"%.*s\" should be \"%s\"",
		  (int)got.n, got.p, wanted);
}

struct row {
	const char *text;
	const char *why; /* a part of the message */
};

static void expect_malformed(enum http_result (*parse)(const char *), const struct row *rows, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		enum http_result result = parse(rows[i].text);

		cr_expect(result == HTTP_ERROR_MALFORMED, "%d for <<%s>>", result, rows[i].text);
		cr_expect(why && strstr(why, rows[i].why), "\"%s\" for <<%s>>", why ? why : "(none)", rows[i].text);
	}
}

static void expect_ok(enum http_result (*parse)(const char *), const char *text)
{
	enum http_result result = parse(text);

	cr_assert(result == HTTP_OK, "%d (%s) for <<%s>>", result, why ? why : "", text);
}

#define HOST "Host: a.example\r\n"
#define GET_LINE "GET / HTTP/1.1\r\n"
#define GET GET_LINE HOST

Test(http1, request_is_read_into_its_parts)
{
	const char *text = "GET /path?q=1 HTTP/1.1\r\nHost: www.Example.com:8080\r\nUser-Agent:  curl/8 \t\r\n"
			   "Empty:\r\n\r\nrest";

	expect_ok(request, text);
	cr_expect_eq(head.bytes, strlen(text) - 4);
	cr_expect_eq(head.method, HTTP_GET);
	expect_slice(head.method_text, "GET");
	expect_slice(head.target, "/path?q=1");
	expect_slice(head.path, "/path?q=1");
	expect_slice(head.authority, "www.Example.com:8080");
	expect_slice(head.host, "www.Example.com");
	cr_expect_eq(head.port, 8080);
	cr_expect_eq(head.minor, 1);
	cr_expect_eq(head.framing, HTTP_BODY_NONE);
	cr_expect(head.keep_alive && !head.upgrade && !head.expect_continue && !head.absolute_form);
	cr_assert_eq(head.field_count, 3);
	expect_slice(head.fields[1].name, "User-Agent");
	expect_slice(head.fields[1].value, "curl/8");
	expect_slice(head.fields[2].value, "");
	expect_slice(http_field(&head, "USER-agent")->value, "curl/8");
	cr_expect_null(http_field(&head, "user"));
}

Test(http1, methods_are_recognised)
{
	static const struct {
		const char *text;
		enum http_method method;
	} rows[] = {
		{ "GET", HTTP_GET },	     { "HEAD", HTTP_HEAD },   { "POST", HTTP_POST },   { "PUT", HTTP_PUT },
		{ "DELETE", HTTP_DELETE },   { "PATCH", HTTP_PATCH }, { "TRACE", HTTP_TRACE },
		{ "OPTIONS", HTTP_OPTIONS }, { "X", HTTP_OTHER },     { "GETS", HTTP_OTHER },
		{ "PROPFIND", HTTP_OTHER },  { "!#$%&'*+-.^_`|~09", HTTP_OTHER },
	};
	char text[128];

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		snprintf(text, sizeof(text), "%s / HTTP/1.1\r\n" HOST "\r\n", rows[i].text);
		expect_ok(request, text);
		cr_expect_eq(head.method, rows[i].method, "%s", rows[i].text);
	}
}

Test(http1, bad_request_lines_are_malformed)
{
	static const struct row rows[] = {
		{ "GET  / HTTP/1.1\r\n" HOST "\r\n", "no target after one space" },
		{ "GET\t/ HTTP/1.1\r\n" HOST "\r\n", "not followed by one space" },
		{ "GET /  HTTP/1.1\r\n" HOST "\r\n", "no HTTP version" },
		{ "GET /\tHTTP/1.1\r\n" HOST "\r\n", "not allowed" },
		{ "GET / HTTP/1.1 \r\n" HOST "\r\n", "not allowed" },
		{ "GET /a b HTTP/1.1\r\n" HOST "\r\n", "no HTTP version" },
		{ "GET /\x01 HTTP/1.1\r\n" HOST "\r\n", "not allowed" },
		{ "GET /\x7f HTTP/1.1\r\n" HOST "\r\n", "not allowed" },
		{ "GET /\xc3\xa4 HTTP/1.1\r\n" HOST "\r\n", "not allowed" },
		{ "GET /#f HTTP/1.1\r\n" HOST "\r\n", "not allowed" },
		{ "GET /\r\n", "not allowed" },
		{ "GET / http/1.1\r\n" HOST "\r\n", "no HTTP version" },
		{ "GET / HTTP/1.1\n" HOST "\r\n", "LF alone" },
		{ "GET / HTTP/1.1\r" HOST "\r\n", "CR without LF" },
		{ "GET / HTTP/0.9\r\n" HOST "\r\n", "version" },
		{ "GET / HTTP/1\r\n" HOST "\r\n", "version" },
		{ "GET / HTTP/1.\r\n" HOST "\r\n", "version" },
		{ "GET / HTTP/1.10\r\n" HOST "\r\n", "not allowed" },
		{ "GET / HTTP/ 1.1\r\n" HOST "\r\n", "version" },
		{ "get / HTTP/1.1\r\n" HOST "\r\n", "capitals" },
		{ "Head / HTTP/1.1\r\n" HOST "\r\n", "capitals" },
		{ "CONNECT b.example:443 HTTP/1.1\r\n" HOST "Content-Length: 1\r\n\r\n", "CONNECT with a body" },
		{ "\r\n\r\n\r\n\r\n\r\n" GET "\r\n", "empty lines" },
	};

	expect_malformed(request, rows, ARRAY_SIZE(rows));
}

Test(http1, bad_field_lines_are_malformed)
{
	static const struct row rows[] = {
		{ GET "A : b\r\n\r\n", "before the colon" },
		{ GET "A\t: b\r\n\r\n", "before the colon" },
		{ GET "Host : b\r\n\r\n", "before the colon" },
		{ GET ": b\r\n\r\n", "no name" },
		{ GET "A b: c\r\n\r\n", "before the colon" },
		{ GET "A\xe4: c\r\n\r\n", "not a token" },
		{ GET "A(b): c\r\n\r\n", "not a token" },
		{ GET "A\x01: c\r\n\r\n", "not a token" },
		{ GET "no colon\r\n\r\n", "before the colon" },
		{ GET "nocolon\r\n\r\n", "not a token" },
		{ GET "A: b\r\n c\r\n\r\n", "folding" },
		{ GET "A: b\r\n\tc\r\n\r\n", "folding" },
		{ GET " A: b\r\n\r\n", "folding" },
		{ GET_LINE " \r\n" HOST "\r\n", "folding" },
		{ GET "A: b\n\r\n", "LF alone" },
		{ GET "A: b\r\n\n", "not a token" },
		{ GET "A: b\rc\r\n\r\n", "CR without LF" },
		{ GET "A: b\r\r\n\r\n", "CR without LF" },
		{ GET "A: b\x01\r\n\r\n", "not allowed" },
		{ GET "A: b\x7f\r\n\r\n", "not allowed" },
		{ GET "A: b\x0b\r\n\r\n", "not allowed" },
		{ GET "A: b\r\n\rX", "CR without LF" },
	};

	expect_malformed(request, rows, ARRAY_SIZE(rows));
}

Test(http1, nul_in_a_value_or_name_is_malformed)
{
	static const char value[] = GET "A: b\0c\r\n\r\n";
	static const char name[] = GET "A\0b: c\r\n\r\n";

	cr_expect_eq(http_parse_request(&head, value, sizeof(value) - 1, &why), HTTP_ERROR_MALFORMED);
	cr_expect_eq(http_parse_request(&head, name, sizeof(name) - 1, &why), HTTP_ERROR_MALFORMED);
}

Test(http1, what_two_readers_would_frame_differently_is_malformed)
{
	static const struct row rows[] = {
		{ GET "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", "both" },
		{ GET "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n", "both" },
		{ GET "Content-Length: 5\r\nContent-Length: 5\r\n\r\n", "more than one Content-Length" },
		{ GET "Content-Length: 5\r\ncontent-length: 6\r\n\r\n", "more than one Content-Length" },
		{ GET "Content-Length: 5, 5\r\n\r\n", "decimal" },
		{ GET "Content-Length: 5,6\r\n\r\n", "decimal" },
		{ GET "Content-Length: +5\r\n\r\n", "decimal" },
		{ GET "Content-Length: -5\r\n\r\n", "decimal" },
		{ GET "Content-Length: 0x5\r\n\r\n", "decimal" },
		{ GET "Content-Length: 5 5\r\n\r\n", "decimal" },
		{ GET "Content-Length: 5;\r\n\r\n", "decimal" },
		{ GET "Content-Length:\r\n\r\n", "empty" },
		{ GET "Content-Length: \t \r\n\r\n", "empty" },
		{ GET "Content-Length: 9223372036854775808\r\n\r\n", "too large" },
		{ GET "Content-Length: 18446744073709551621\r\n\r\n", "too large" },
		{ GET "Content-Length: 99999999999999999999999999\r\n\r\n", "too large" },
		{ "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", "HTTP/1.0" },
		{ GET "Transfer-Encoding: gzip, chunked\r\n\r\n", "not just" },
		{ GET "Transfer-Encoding: chunked, gzip\r\n\r\n", "not just" },
		{ GET "Transfer-Encoding: chunked, chunked\r\n\r\n", "not just" },
		{ GET "Transfer-Encoding: chunked,\r\n\r\n", "not just" },
		{ GET "Transfer-Encoding: identity\r\n\r\n", "not just" },
		{ GET "Transfer-Encoding: gzip\r\n\r\n", "not just" },
		{ GET "Transfer-Encoding: xchunked\r\n\r\n", "not just" },
		{ GET "Transfer-Encoding: chunked;q=1\r\n\r\n", "not just" },
		{ GET "Transfer-Encoding: \"chunked\"\r\n\r\n", "not just" },
		{ GET "Transfer-Encoding: \x0b"
		      "chunked\r\n\r\n", "not allowed" },
		{ GET "Transfer-Encoding:\r\n\r\n", "not just" },
		{ GET "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", "more than one Transfer" },
		{ GET "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n", "more than one Transfer" },
	};

	expect_malformed(request, rows, ARRAY_SIZE(rows));
}

Test(http1, what_is_not_http_is_told_at_its_first_wrong_byte)
{
	static const char *const texts[] = {
		"\x16", "\x80", " ", "\n", "\t", "{", "\"", "\r\r", "\r\nSSH-2.0-OpenSSH_9\r", "SSH-2.0-OpenSSH_9\r",
		"EHLO me\r", "EHLO\r", "*1\r", "PRI * HTTP/2", "SET a b", "USER name\r",
	};

	for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
		cr_expect_eq(request(texts[i]), HTTP_NOT_HTTP, "<<%s>>", texts[i]);
		cr_expect_eq(http_parse_request(&head, texts[i], strlen(texts[i]) - 1, &why), HTTP_MORE, "<<%s>>",
			     texts[i]);
	}
}

Test(http1, a_method_without_end_is_not_http)
{
	char text[66];

	memset(text, 'A', sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';
	cr_expect_eq(request(text), HTTP_NOT_HTTP);
	text[64] = '\0';
	cr_expect_eq(request(text), HTTP_MORE);
	text[63] = '\0';
	cr_expect_eq(request(text), HTTP_MORE);
}

Test(http1, later_versions_are_told_apart)
{
	cr_expect_eq(request("GET / HTTP/2.0\r\n" HOST "\r\n"), HTTP_ERROR_VERSION);
	cr_expect_eq(request("GET / HTTP/3"), HTTP_ERROR_VERSION);
	cr_expect_eq(request("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), HTTP_NOT_HTTP);
	expect_ok(request, "GET / HTTP/1.3\r\n" HOST "\r\n");
	cr_expect_eq(head.minor, 1);
}

Test(http1, leading_empty_lines_are_skipped)
{
	expect_ok(request, "\r\n\r\n\r\n\r\n" GET "\r\n");
	cr_expect_eq(head.bytes, 8 + strlen(GET "\r\n"));
}

Test(http1, a_head_is_bounded)
{
	static char text[HTTP_MAX_HEAD + 1024];
	size_t n;
	char *p = text;

	p += sprintf(p, GET);
	for (int i = 1; i < HTTP_MAX_FIELDS; i++)
		p += sprintf(p, "f: v\r\n");
	strcpy(p, "\r\n");
	expect_ok(request, text);
	cr_expect_eq(head.field_count, HTTP_MAX_FIELDS);
	strcpy(p, "f: v\r\n\r\n");
	cr_expect_eq(request(text), HTTP_ERROR_TOO_LARGE);

	n = strlen(strcpy(text, GET "long: "));
	memset(text + n, 'x', sizeof(text) - n);
	cr_expect_eq(http_parse_request(&head, text, HTTP_MAX_HEAD - 1, &why), HTTP_MORE);
	cr_expect_eq(http_parse_request(&head, text, HTTP_MAX_HEAD, &why), HTTP_ERROR_TOO_LARGE);
	memcpy(text + HTTP_MAX_HEAD - 4, "\r\n\r\n", 4);
	cr_expect_eq(http_parse_request(&head, text, sizeof(text), &why), HTTP_OK);
	memcpy(text + HTTP_MAX_HEAD - 4, "x\r\n\r\n", 5);
	cr_expect_eq(http_parse_request(&head, text, sizeof(text), &why), HTTP_ERROR_TOO_LARGE);

	memset(text, 'x', sizeof(text));
	memcpy(text, "GET /", 5);
	cr_expect_eq(http_parse_request(&head, text, 20000, &why), HTTP_MORE);
	cr_expect_eq(http_parse_request(&head, text, sizeof(text), &why), HTTP_ERROR_TOO_LARGE);
}

Test(http1, bodies_of_requests)
{
	expect_ok(request, GET "Content-Length: 0\r\n\r\n");
	cr_expect(head.framing == HTTP_BODY_LENGTH && head.content_length == 0);
	expect_ok(request, GET "content-LENGTH:9223372036854775807\r\n\r\n");
	cr_expect(head.framing == HTTP_BODY_LENGTH && head.content_length == INT64_MAX);
	expect_ok(request, GET "Transfer-Encoding: Chunked\r\n\r\n");
	cr_expect_eq(head.framing, HTTP_BODY_CHUNKED);
	expect_ok(request, GET "Expect: 100-Continue\r\nContent-Length: 3\r\n\r\n");
	cr_expect(head.expect_continue);
	expect_ok(request, GET "Expect: 100-continue\r\n\r\n");
	cr_expect_not(head.expect_continue, "nothing to wait for");
	expect_ok(request, "POST / HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n");
	cr_expect_not(head.expect_continue, "RFC 9110 §10.1.1");
}

Test(http1, keep_alive_follows_version_and_connection)
{
	static const struct {
		const char *text;
		bool keep_alive;
	} rows[] = {
		{ GET "\r\n", true },
		{ GET "Connection: close\r\n\r\n", false },
		{ GET "Connection: keep-alive, , CLOSE ,\r\n\r\n", false },
		{ GET "Connection: keep-alive\r\nConnection: close\r\n\r\n", false },
		{ GET "Connection: closed\r\n\r\n", true },
		{ "GET / HTTP/1.0\r\n\r\n", false },
		{ "GET / HTTP/1.0\r\nConnection: foo,Keep-Alive\r\n\r\n", true },
		{ "GET / HTTP/1.0\r\nConnection: keep-alive, close\r\n\r\n", false },
		{ "GET / HTTP/1.0\r\nProxy-Connection: keep-alive\r\n\r\n", false },
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		expect_ok(request, rows[i].text);
		cr_expect_eq(head.keep_alive, rows[i].keep_alive, "<<%s>>", rows[i].text);
	}
}

Test(http1, connection_specific_fields_are_marked)
{
	static const struct {
		const char *name;
		bool hop_by_hop;
	} rows[] = {
		{ "connection", true }, { "keep-alive", true }, { "proxy-connection", true }, { "upgrade", true },
		{ "te", true }, { "x-mine", true }, { "x-other", true }, { "http2-settings", true },
		{ "host", false }, { "content-length", false }, { "trailer", false }, { "x-end", false },
		{ "proxy-authorization", false },
	};

	expect_ok(request,
		  GET "Connection: X-Mine,, x-other\t,host, content-length,trailer\r\nKeep-Alive: timeout=5\r\n"
		      "Proxy-Connection: x\r\nUpgrade: x\r\nTE: gzip\r\nx-mine: 1\r\nX-Other: 2\r\nx-end: 3\r\n"
		      "HTTP2-Settings: x\r\nContent-Length: 1\r\nTrailer: x\r\nProxy-Authorization: x\r\n\r\n");
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		cr_expect_eq(http_field(&head, rows[i].name)->hop_by_hop, rows[i].hop_by_hop, "%s", rows[i].name);
	cr_expect_eq(head.content_length, 1);
	expect_ok(request, GET "TE: trailers\r\nConnection: TE\r\n\r\n");
	cr_expect_not(http_field(&head, "te")->hop_by_hop);
}

Test(http1, many_connection_options_are_malformed)
{
	char text[512] = GET "Connection: a";

	for (int i = 0; i < 31; i++)
		strcat(text, ",a");
	strcat(text, "\r\n\r\n");
	expect_ok(request, text);
	strcpy(text + strlen(text) - 4, ",a\r\n\r\n");
	cr_expect_eq(request(text), HTTP_ERROR_MALFORMED);
}

Test(http1, upgrade_needs_the_option_the_field_and_1_1)
{
	static const struct {
		const char *text;
		bool upgrade;
	} rows[] = {
		{ GET "Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\r\n", true },
		{ GET "Connection: keep-alive\r\nUpgrade: websocket\r\n\r\n", false },
		{ GET "Connection: Upgrade\r\n\r\n", false },
		{ GET "Connection: Upgrade\r\nUpgrade:\r\n\r\n", false },
		{ "GET / HTTP/1.0\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n", false },
		{ GET "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: x\r\n\r\n", false },
		{ GET "Connection: Upgrade\r\nUpgrade: websocket, H2C\r\n\r\n", false },
		{ GET "Connection: Upgrade\r\nUpgrade: websocket\r\nUpgrade: HTTP/2.0\r\n\r\n", false },
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		expect_ok(request, rows[i].text);
		cr_expect_eq(head.upgrade, rows[i].upgrade, "<<%s>>", rows[i].text);
	}
}

Test(http1, response_is_read_into_its_parts)
{
	expect_ok(response, "HTTP/1.1 404 Not  Found\xe4\r\nServer: x\r\nContent-Length: 3\r\n\r\nabc");
	cr_expect(head.status == 404 && head.minor == 1 && head.keep_alive);
	expect_slice(head.reason, "Not  Found\xe4");
	cr_expect(head.framing == HTTP_BODY_LENGTH && head.content_length == 3);
	expect_ok(response, "HTTP/1.0 200\r\n\r\n");
	cr_expect(head.status == 200 && head.reason.n == 0 && head.minor == 0 && !head.keep_alive);
	expect_ok(response, "HTTP/1.1 200 \r\nHost: a b\r\nHost: c\r\n\r\n");
}

Test(http1, framing_of_a_response_depends_on_request_and_status)
{
	static const struct {
		enum http_method method;
		const char *text;
		enum http_framing framing;
		bool keep_alive;
	} rows[] = {
		{ HTTP_GET, "HTTP/1.1 200 OK\r\n\r\n", HTTP_BODY_CLOSE, false },
		{ HTTP_GET, "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n\r\n", HTTP_BODY_CLOSE, false },
		{ HTTP_GET, "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 1\r\n\r\n", HTTP_BODY_LENGTH,
		  true },
		{ HTTP_GET, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", HTTP_BODY_CHUNKED, true },
		{ HTTP_HEAD, "HTTP/1.1 200 OK\r\n\r\n", HTTP_BODY_NONE, true },
		{ HTTP_HEAD, "HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n", HTTP_BODY_NONE, true },
		{ HTTP_HEAD, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", HTTP_BODY_NONE, true },
		{ HTTP_GET, "HTTP/1.1 304 Not Modified\r\nContent-Length: 7\r\n\r\n", HTTP_BODY_NONE, true },
		{ HTTP_GET, "HTTP/1.1 204 No Content\r\n\r\n", HTTP_BODY_NONE, true },
		{ HTTP_GET, "HTTP/1.1 100 Continue\r\n\r\n", HTTP_BODY_NONE, true },
		{ HTTP_GET, "HTTP/1.1 103 Early Hints\r\nContent-Length: 7\r\n\r\n", HTTP_BODY_NONE, true },
		{ HTTP_CONNECT, "HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n", HTTP_BODY_NONE, true },
		{ HTTP_CONNECT, "HTTP/1.1 407 No\r\nContent-Length: 7\r\n\r\n", HTTP_BODY_LENGTH, true },
		{ HTTP_GET, "HTTP/1.1 101 Go\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n", HTTP_BODY_NONE,
		  true },
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		cr_assert_eq(response_to(rows[i].method, rows[i].text), HTTP_OK, "%s for <<%s>>", why, rows[i].text);
		cr_expect_eq(head.framing, rows[i].framing, "<<%s>>", rows[i].text);
		cr_expect_eq(head.keep_alive, rows[i].keep_alive, "<<%s>>", rows[i].text);
		cr_expect_eq(head.upgrade, head.status == 101);
	}
}

Test(http1, bad_responses_are_malformed)
{
	static const struct row rows[] = {
		{ "SSH-2.0-x\r\n", "status line" },
		{ "\r\nHTTP/1.1 200 OK\r\n\r\n", "status line" },
		{ "HTTP/2.0 200 OK\r\n\r\n", "status line" },
		{ "HTTP/1.1  200 OK\r\n\r\n", "status line" },
		{ "HTTP/1.1 20 OK\r\n\r\n", "status line" },
		{ "HTTP/1.1 2000 OK\r\n\r\n", "not allowed" },
		{ "HTTP/1.1 099 OK\r\n\r\n", "below 100" },
		{ "HTTP/1.1 200\tOK\r\n\r\n", "not allowed" },
		{ "HTTP/1.1 200 O\x01K\r\n\r\n", "not allowed" },
		{ "HTTP/1.1 200 OK\n\n", "LF alone" },
		{ "HTTP/1.1 200 OK\r\nA: b\n\r\n", "LF alone" },
		{ "HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n", "folding" },
		{ "HTTP/1.1 200 OK\r\nA : b\r\n\r\n", "before the colon" },
		{ "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", "more than one" },
		{ "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", "both" },
		{ "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "HTTP/1.0" },
		{ "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", "not just" },
		{ "HTTP/1.1 101 Go\r\n\r\n", "101 without" },
		{ "HTTP/1.1 101 Go\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n", "101 without" },
		{ "HTTP/1.0 101 Go\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n", "101 without" },
	};

	expect_malformed(response, rows, ARRAY_SIZE(rows));
}

/* ---- splits ---- */

/* Every prefix of `text` is incomplete, or gets the answer that the whole gets. */
static void expect_split_invariant(const char *text, size_t n, enum http_result whole)
{
	for (size_t i = 0; i < n; i++) {
		char *copy = memcpy(malloc(i + 1), text, i); /* so that ASan sees a read beyond */
		enum http_result result = http_parse_request(&head, copy, i, &why);

		cr_expect(result == HTTP_MORE || result == whole, "%d after %zu bytes of <<%s>>", result, i, text);
		cr_expect(whole != HTTP_OK || result == HTTP_MORE, "complete after %zu bytes of <<%s>>", i, text);
		free(copy);
	}
	cr_expect_eq(http_parse_request(&head, text, n, &why), whole);
}

Test(http1, every_prefix_of_a_request_is_incomplete)
{
	static const char *const good[] = {
		GET "\r\n",
		"\r\n\r\nPOST http://a.example:80/x?y=z HTTP/1.1\r\n"
		"Host: b\r\nContent-Length: 12\r\nConnection: a, b\r\nA: \r\n\r\n",
		"OPTIONS * HTTP/1.0\r\nHost:   [::1]:80  \r\nTE: trailers\r\n\r\n",
	};
	static const char *const wrong[] = {
		GET "A : b\r\n\r\n", GET "A: b\r\n c\r\n\r\n", GET "A: b\rc\r\n\r\n", GET "Content-Length: 5,5\r\n\r\n",
		"GET  / HTTP/1.1\r\n\r\n", "GET /x HTTP/1.1\r\nHost: a@b\r\n\r\n", "get / HTTP/1.1\r\n\r\n",
	};

	for (size_t i = 0; i < ARRAY_SIZE(good); i++)
		expect_split_invariant(good[i], strlen(good[i]), HTTP_OK);
	for (size_t i = 0; i < ARRAY_SIZE(wrong); i++)
		expect_split_invariant(wrong[i], strlen(wrong[i]), HTTP_ERROR_MALFORMED);
	expect_split_invariant("PRI * HTTP/2.0\r\n\r\n", 18, HTTP_NOT_HTTP);
	expect_split_invariant("GET / HTTP/2.0\r\n\r\n", 18, HTTP_ERROR_VERSION);
}

Test(http1, every_prefix_of_a_response_is_incomplete)
{
	const char *text = "HTTP/1.1 200 OK\r\nServer: x\r\nContent-Length: 3\r\n\r\n";

	for (size_t i = 0; i < strlen(text); i++)
		cr_expect_eq(http_parse_response(&head, text, i, HTTP_GET, &why), HTTP_MORE, "%zu", i);
	expect_ok(response, text);
}
