// SPDX-License-Identifier: Apache-2.0
/* Heads as they are forwarded: what stays, what goes, and that they read back as what they were. */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "redirect/http1.h"

static struct http_head head;
static char out[4096];

static void read_request(const char *text)
{
	const char *why = NULL;

	cr_assert_eq(http_parse_request(&head, text, strlen(text), &why), HTTP_OK, "%s: <<%s>>", why, text);
}

static void read_response(enum http_method method, const char *text)
{
	const char *why = NULL;

	cr_assert_eq(http_parse_response(&head, text, strlen(text), method, &why), HTTP_OK, "%s: <<%s>>", why, text);
}

static void expect_request(bool keep_alive, const char *extra, const char *wanted)
{
	size_t n = http_write_request(out, sizeof(out), &head, keep_alive, NULL, extra);

	out[n] = '\0';
	cr_expect_str_eq(out, wanted);
}

static void expect_response(bool keep_alive, const char *extra, const char *wanted)
{
	size_t n = http_write_response(out, sizeof(out), &head, keep_alive, NULL, extra);

	out[n] = '\0';
	cr_expect_str_eq(out, wanted);
}

Test(http1_write, request_keeps_order_and_spelling_and_loses_hop_by_hop_fields)
{
	read_request("POST /x HTTP/1.1\r\nuser-AGENT: curl\r\nhost:  a.example:80 \r\nConnection: x-hop, keep-alive\r\n"
		     "X-Hop: 1\r\nKeep-Alive: 5\r\ncontent-length: 007\r\nTE: trailers\r\nX-Empty:\r\nA: 1\r\n"
		     "a: 2\r\n\r\n");
	expect_request(true, NULL,
		       "POST /x HTTP/1.1\r\nuser-AGENT: curl\r\nHost: a.example:80\r\nTE: trailers\r\nX-Empty: \r\n"
		       "A: 1\r\na: 2\r\nContent-Length: 7\r\nConnection: keep-alive\r\n\r\n");
}

Test(http1_write, request_from_1_0_gets_a_host_and_no_keep_alive)
{
	read_request("GET / HTTP/1.0\r\nAccept: x\r\nConnection: keep-alive\r\n\r\n");
	expect_request(false, "X-A: 1\r\nX-B: 2\r\n",
		       "GET / HTTP/1.1\r\nHost: \r\nAccept: x\r\nConnection: close\r\nX-A: 1\r\nX-B: 2\r\n\r\n");
}

Test(http1_write, expectation_of_1_0_is_not_forwarded)
{
	read_request("PUT / HTTP/1.0\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n");
	expect_request(true, NULL, "PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nConnection: keep-alive\r\n\r\n");
}

/* "Connection: close", which is ours, would name it. */
Test(http1_write, field_named_like_a_connection_option_is_not_forwarded)
{
	read_request("GET / HTTP/1.1\r\nHost: a\r\nClose: 1\r\nClosed: 2\r\n\r\n");
	expect_request(false, NULL, "GET / HTTP/1.1\r\nHost: a\r\nClosed: 2\r\nConnection: close\r\n\r\n");
}

Test(http1_write, absolute_form_becomes_origin_form_with_the_host_of_the_target)
{
	read_request("GET http://b.example:81/p?q HTTP/1.1\r\nA: b\r\nHost: a.example\r\n\r\n");
	expect_request(true, NULL, "GET /p?q HTTP/1.1\r\nA: b\r\nHost: b.example:81\r\nConnection: keep-alive\r\n\r\n");
}

Test(http1_write, chunked_request_stays_chunked)
{
	read_request("PUT / HTTP/1.1\r\nTransfer-Encoding: CHUNKED\r\nHost: a\r\nTrailer: x\r\n"
		     "Expect: 100-continue\r\n\r\n");
	expect_request(true, "",
		       "PUT / HTTP/1.1\r\nHost: a\r\nTrailer: x\r\nExpect: 100-continue\r\n"
		       "Transfer-Encoding: chunked\r\nConnection: keep-alive\r\n\r\n");
}

Test(http1_write, upgrade_is_forwarded_only_where_it_was_accepted)
{
	read_request("GET /ws HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade, X\r\nX: 1\r\n"
		     "Sec-WebSocket-Key: k\r\n\r\n");
	expect_request(true, NULL,
		       "GET /ws HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nSec-WebSocket-Key: k\r\n"
		       "Connection: upgrade\r\n\r\n");
	read_request("GET / HTTP/1.1\r\nHost: a\r\nUpgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\n"
		     "HTTP2-Settings: x\r\n\r\n");
	expect_request(true, NULL, "GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive\r\n\r\n");
	read_response(HTTP_GET,
		      "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n");
	expect_response(true, NULL,
			"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n");
}

Test(http1_write, connect_and_asterisk_keep_their_targets)
{
	read_request("CONNECT b.example:443 HTTP/1.1\r\nHost: x\r\n\r\n");
	expect_request(true, NULL,
		       "CONNECT b.example:443 HTTP/1.1\r\nHost: b.example:443\r\nConnection: keep-alive\r\n\r\n");
	read_request("OPTIONS http://b.example HTTP/1.1\r\nHost: x\r\n\r\n");
	expect_request(true, NULL, "OPTIONS * HTTP/1.1\r\nHost: b.example\r\nConnection: keep-alive\r\n\r\n");
}

Test(http1_write, response_framing_is_written_once)
{
	read_response(HTTP_GET, "HTTP/1.0 404 Nope nope\r\nServer: x\r\nContent-Length: 5\r\nhost: y\r\n\r\n");
	expect_response(true, "x-envoy-upstream-service-time: 3\r\n",
			"HTTP/1.1 404 Nope nope\r\nServer: x\r\nhost: y\r\nContent-Length: 5\r\n"
			"Connection: keep-alive\r\nx-envoy-upstream-service-time: 3\r\n\r\n");
	read_response(HTTP_GET, "HTTP/1.1 200\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n");
	expect_response(true, NULL, "HTTP/1.1 200 \r\nTransfer-Encoding: chunked\r\nConnection: keep-alive\r\n\r\n");
}

Test(http1_write, response_that_ends_with_the_connection_says_close)
{
	read_response(HTTP_GET, "HTTP/1.1 200 OK\r\nConnection: keep-alive\r\n\r\n");
	expect_response(true, NULL, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n");
}

Test(http1_write, content_length_for_information_stays_on_head_and_304_only)
{
	read_response(HTTP_HEAD, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n");
	expect_response(true, NULL, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: keep-alive\r\n\r\n");
	read_response(HTTP_HEAD, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
	expect_response(true, NULL, "HTTP/1.1 200 OK\r\nConnection: keep-alive\r\n\r\n");
	read_response(HTTP_GET, "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n");
	expect_response(true, NULL, "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\nConnection: keep-alive\r\n\r\n");
	read_response(HTTP_GET, "HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n");
	expect_response(true, NULL, "HTTP/1.1 204 No Content\r\nConnection: keep-alive\r\n\r\n");
}

Test(http1_write, what_is_written_reads_back_the_same)
{
	static const char text[] = "PATCH http://b.example:81/p?q HTTP/1.1\r\nHost: a\r\nA: x, y\r\n"
				   "Content-Length: 12\r\n\r\n";
	struct http_head again;
	const char *why;
	size_t n;

	read_request(text);
	n = http_write_request(out, sizeof(out), &head, true, NULL, NULL);
	cr_assert_eq(http_parse_request(&again, out, n, &why), HTTP_OK);
	cr_expect_eq(again.bytes, n);
	cr_expect(again.method == HTTP_PATCH && again.keep_alive && !again.absolute_form);
	cr_expect(again.framing == HTTP_BODY_LENGTH && again.content_length == 12);
	cr_expect(again.authority.n == 12 && memcmp(again.authority.p, "b.example:81", 12) == 0);
	cr_expect(again.path.n == 4 && memcmp(again.path.p, "/p?q", 4) == 0);
	cr_expect_eq(http_write_request(out + n, sizeof(out) - n, &again, true, NULL, NULL), n);
	cr_expect(memcmp(out, out + n, n) == 0, "a second forwarding changes nothing");
}

Test(http1_write, too_little_room_writes_nothing_past_it)
{
	size_t n;

	read_request("GET /x HTTP/1.1\r\nHost: a\r\nA: b\r\nContent-Length: 10\r\n\r\n");
	n = http_write_request(out, sizeof(out), &head, true, NULL, "X: y\r\n");
	for (size_t room = 0; room <= n; room++) {
		char *exact = malloc(room + 1); /* so that ASan sees a write beyond */

		exact[room] = '!';
		cr_expect_eq(http_write_request(exact, room, &head, true, NULL, "X: y\r\n"), room < n ? 0 : n);
		cr_expect_eq(exact[room], '!');
		free(exact);
	}
}

Test(http1_write, statuses_have_phrases)
{
	cr_expect_str_eq(http_status_phrase(502), "Bad Gateway");
	cr_expect_str_eq(http_status_phrase(431), "Request Header Fields Too Large");
	cr_expect_str_eq(http_status_phrase(299), "Unknown");
	cr_expect_str_eq(http_status_phrase(0), "Unknown");
}

Test(http1_write, dates_have_the_fixed_form)
{
	char date[32];

	http_date(date, 784111777);
	cr_expect_str_eq(date, "Sun, 06 Nov 1994 08:49:37 GMT");
	http_date(date, 951782400);
	cr_expect_str_eq(date, "Tue, 29 Feb 2000 00:00:00 GMT");
	http_date(date, INT64_MIN);
	cr_expect_str_eq(date, "Thu, 01 Jan 1970 00:00:00 GMT");
	http_date(date, INT64_MAX);
	cr_expect_str_eq(date, "Fri, 31 Dec 9999 23:59:59 GMT");
}
