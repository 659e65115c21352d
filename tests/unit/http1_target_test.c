// SPDX-License-Identifier: Apache-2.0
/* Where a request goes: the forms of its target, and Host. */
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

static void expect_slice(struct slice got, const char *wanted)
{
	cr_expect(got.n == strlen(wanted) && memcmp(got.p, wanted, got.n) == 0, "\"%.*s\" should be \"%s\"",
		  (int)got.n, got.p, wanted);
}

struct row {
	const char *text;
	const char *why; /* a part of the message */
};

static void expect_malformed(const struct row *rows, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		enum http_result result = request(rows[i].text);

		cr_expect(result == HTTP_ERROR_MALFORMED, "%d for <<%s>>", result, rows[i].text);
		cr_expect(why && strstr(why, rows[i].why), "\"%s\" for <<%s>>", why ? why : "(none)", rows[i].text);
	}
}

static void expect_ok(const char *text)
{
	enum http_result result = request(text);

	cr_assert(result == HTTP_OK, "%d (%s) for <<%s>>", result, why ? why : "", text);
}

#define HOST "Host: a.example\r\n"
#define GET_LINE "GET / HTTP/1.1\r\n"

Test(http1_target, the_four_forms_of_a_target)
{
	expect_ok("OPTIONS * HTTP/1.1\r\n" HOST "\r\n");
	expect_slice(head.path, "*");
	expect_ok("CONNECT b.example:443 HTTP/1.1\r\nHost: b.example:443\r\n\r\n");
	expect_slice(head.authority, "b.example:443");
	expect_slice(head.host, "b.example");
	expect_slice(head.path, "");
	cr_expect_eq(head.port, 443);
	expect_ok("GET HTTP://b.example:81/x?y HTTP/1.1\r\n" HOST "\r\n");
	cr_expect(head.absolute_form);
	expect_slice(head.path, "/x?y");
	expect_slice(head.authority, "b.example:81");
	expect_slice(head.host, "b.example");
	cr_expect_eq(head.port, 81);
	expect_ok("GET https://b.example HTTP/1.1\r\nHost: c.example:9\r\n\r\n");
	expect_slice(head.path, "/");
	expect_slice(head.host, "b.example");
	cr_expect_eq(head.port, 0, "the port of the overridden Host");
	expect_ok("OPTIONS http://b.example HTTP/1.1\r\n" HOST "\r\n");
	expect_slice(head.path, "*");
	expect_ok("GET //a.example/b HTTP/1.1\r\n" HOST "\r\n");
	expect_slice(head.path, "//a.example/b");
}

Test(http1_target, bad_targets_are_malformed)
{
	static const struct row rows[] = {
		{ "GET * HTTP/1.1\r\n" HOST "\r\n", "OPTIONS only" },
		{ "GET a.example:80 HTTP/1.1\r\n" HOST "\r\n", "neither a path" },
		{ "GET path HTTP/1.1\r\n" HOST "\r\n", "neither a path" },
		{ "GET ftp://a.example/ HTTP/1.1\r\n" HOST "\r\n", "neither a path" },
		{ "GET http:/a.example/ HTTP/1.1\r\n" HOST "\r\n", "neither a path" },
		{ "GET http:///x HTTP/1.1\r\n" HOST "\r\n", "not a valid name" },
		{ "GET http://u@a.example/x HTTP/1.1\r\n" HOST "\r\n", "not a valid name" },
		{ "GET http://u:p@a.example/x HTTP/1.1\r\n" HOST "\r\n", "port" },
		{ "GET http://a.example?q HTTP/1.1\r\n" HOST "\r\n", "query" },
		{ "GET http://a.example:0/ HTTP/1.1\r\n" HOST "\r\n", "port" },
		{ "GET http://a.example/ HTTP/1.1\r\nHost: a b\r\n\r\n", "not a valid name" },
		{ "OPTIONS *x HTTP/1.1\r\n" HOST "\r\n", "neither a path" },
		{ "CONNECT b.example HTTP/1.1\r\n" HOST "\r\n", "no port" },
		{ "CONNECT / HTTP/1.1\r\n" HOST "\r\n", "not a valid name" },
		{ "CONNECT http://b.example/ HTTP/1.1\r\n" HOST "\r\n", "port" },
	};

	expect_malformed(rows, ARRAY_SIZE(rows));
}

Test(http1_target, bad_hosts_are_malformed)
{
	static const struct row rows[] = {
		{ GET_LINE "\r\n", "no Host" },
		{ GET_LINE "Host: a\r\nHost: a\r\n\r\n", "more than one Host" },
		{ GET_LINE "Host: a\r\nhOST: b\r\n\r\n", "more than one Host" },
		{ GET_LINE "Host: u@a\r\n\r\n", "not a valid name" },
		{ GET_LINE "Host: a b\r\n\r\n", "not a valid name" },
		{ GET_LINE "Host: a,b\r\n\r\n", "not a valid name" },
		{ GET_LINE "Host: a/b\r\n\r\n", "not a valid name" },
		{ GET_LINE "Host: a%2eb\r\n\r\n", "not a valid name" },
		{ GET_LINE "Host: a\\b\r\n\r\n", "not a valid name" },
		{ GET_LINE "Host: \xc3\xa4.example\r\n\r\n", "not a valid name" },
		{ GET_LINE "Host: .a\r\n\r\n", "not a valid name" },
		{ GET_LINE "Host: a..b\r\n\r\n", "not a valid name" },
		{ GET_LINE "Host: .\r\n\r\n", "not a valid name" },
		{ GET_LINE "Host: a..\r\n\r\n", "not a valid name" },
		{ GET_LINE "Host: :80\r\n\r\n", "not a valid name" },
		{ GET_LINE "Host: a:\r\n\r\n", "port" },
		{ GET_LINE "Host: a:0\r\n\r\n", "port" },
		{ GET_LINE "Host: a:080\r\n\r\n", "port" },
		{ GET_LINE "Host: a:65536\r\n\r\n", "port" },
		{ GET_LINE "Host: a:65616\r\n\r\n", "port" }, /* 80 in 16 bits */
		{ GET_LINE "Host: a:999999999999\r\n\r\n", "port" },
		{ GET_LINE "Host: a:8x\r\n\r\n", "port" },
		{ GET_LINE "Host: a:80:80\r\n\r\n", "port" },
		{ GET_LINE "Host: [::1\r\n\r\n", "IPv6" },
		{ GET_LINE "Host: []\r\n\r\n", "IPv6" },
		{ GET_LINE "Host: [a.example]\r\n\r\n", "IPv6" },
		{ GET_LINE "Host: [127.0.0.1]\r\n\r\n", "IPv6" },
		{ GET_LINE "Host: [fe80::1%25eth0]\r\n\r\n", "IPv6" },
		{ GET_LINE "Host: [v1.x]\r\n\r\n", "IPv6" },
		{ GET_LINE "Host: [::1]x\r\n\r\n", "something else" },
		{ GET_LINE "Host: [::1]:\r\n\r\n", "port" },
		{ GET_LINE "Host: ::1\r\n\r\n", "not a valid name" },
		{ GET_LINE "Host: [0000:0000:0000:0000:0000:0000:0000:0000:0000:0000]\r\n\r\n", "IPv6" },
	};

	expect_malformed(rows, ARRAY_SIZE(rows));
}

Test(http1_target, good_hosts_are_read)
{
	static const struct {
		const char *value;
		const char *host;
		uint16_t port;
	} rows[] = {
		{ "a.example", "a.example", 0 },
		{ "a.example.", "a.example.", 0 },
		{ "A_b-c.Example:65535", "A_b-c.Example", 65535 },
		{ "127.0.0.1:1", "127.0.0.1", 1 },
		{ "[::1]", "::1", 0 },
		{ "[2001:db8::1]:443", "2001:db8::1", 443 },
		{ "[::ffff:10.0.0.1]", "::ffff:10.0.0.1", 0 },
	};
	char text[256];

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		snprintf(text, sizeof(text), GET_LINE "Host: %s\r\n\r\n", rows[i].value);
		expect_ok(text);
		expect_slice(head.authority, rows[i].value);
		expect_slice(head.host, rows[i].host);
		cr_expect_eq(head.port, rows[i].port);
	}
}

Test(http1_target, long_hosts_end_at_the_limits_of_dns)
{
	char label[64], text[600];

	memset(label, 'a', 63);
	label[63] = '\0';
	snprintf(text, sizeof(text), GET_LINE "Host: %s.%s.%s.%.61s\r\n\r\n", label, label, label, label);
	expect_ok(text);
	snprintf(text, sizeof(text), GET_LINE "Host: %s.%s.%s.%.62s\r\n\r\n", label, label, label, label);
	cr_expect_eq(request(text), HTTP_ERROR_MALFORMED);
	snprintf(text, sizeof(text), GET_LINE "Host: %sa.example\r\n\r\n", label);
	cr_expect_eq(request(text), HTTP_ERROR_MALFORMED);
}

Test(http1_target, host_may_be_missing_in_1_0_and_empty)
{
	expect_ok("GET / HTTP/1.0\r\n\r\n");
	cr_expect(head.minor == 0 && head.authority.n == 0 && head.host.n == 0 && !head.keep_alive);
	expect_ok(GET_LINE "Host:\r\n\r\n");
	cr_expect(head.authority.n == 0 && head.host.n == 0);
}
