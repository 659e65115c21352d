// SPDX-License-Identifier: Apache-2.0
/* Where bodies end, byte by byte and at once. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "redirect/http1.h"

static const char *why;

static struct http_body body_of(enum http_framing framing, uint64_t length)
{
	static struct http_head head;
	struct http_body body;

	head.framing = framing;
	head.content_length = length;
	http_body_start(&body, &head);
	return body;
}

/* Feeds `text` cut at `cut`; the bytes consumed, or -1. */
static int64_t feed_in_two(const char *text, size_t n, size_t cut, bool *done)
{
	struct http_body body = body_of(HTTP_BODY_CHUNKED, 0);
	int64_t first = http_body_feed(&body, text, cut, &why), second = 0;

	if (first == (int64_t)cut)
		second = http_body_feed(&body, text + cut, n - cut, &why);
	*done = body.done;
	return first < 0 || second < 0 ? -1 : first + second;
}

static int64_t feed_bytewise(const char *text, size_t n, bool *done)
{
	struct http_body body = body_of(HTTP_BODY_CHUNKED, 0);
	int64_t sum = 0;

	for (size_t i = 0; i < n && !body.done; i++) {
		int64_t taken = http_body_feed(&body, text + i, 1, &why);

		if (taken < 0)
			return -1;
		sum += taken;
	}
	*done = body.done;
	return sum;
}

Test(http1_body, no_body_and_length_0_are_done_at_once)
{
	cr_expect(body_of(HTTP_BODY_NONE, 0).done);
	cr_expect(body_of(HTTP_BODY_NONE, 5).done);
	cr_expect(body_of(HTTP_BODY_LENGTH, 0).done);
	cr_expect_not(body_of(HTTP_BODY_LENGTH, 1).done);
	cr_expect_not(body_of(HTTP_BODY_CHUNKED, 0).done);
	cr_expect_not(body_of(HTTP_BODY_CLOSE, 0).done);
}

Test(http1_body, length_ends_at_its_last_byte)
{
	struct http_body body = body_of(HTTP_BODY_LENGTH, 5);

	cr_expect_eq(http_body_feed(&body, "ab", 2, &why), 2);
	cr_expect_not(body.done);
	cr_expect_eq(http_body_feed(&body, "cdefgh", 6, &why), 3);
	cr_expect(body.done);
	cr_expect_eq(http_body_feed(&body, "x", 1, &why), 0);
}

Test(http1_body, close_never_ends)
{
	struct http_body body = body_of(HTTP_BODY_CLOSE, 0);

	cr_expect_eq(http_body_feed(&body, "abc", 3, &why), 3);
	cr_expect_not(body.done);
}

static const char *const good[] = {
	"0\r\n\r\n",
	"5\r\nhello\r\n0\r\n\r\n",
	"00000000000000aB\r\n"
	"012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789"
	"012345678901234567890123456789012345678901234567890123456789012345678901234567890\r\n0000\r\n\r\n",
	"1;ext=\"a b\";x\r\n\n\r\n1;\t\xe4\r\nA\r\n0\r\n\r\n",
	"3\r\n\r\n\r\r\n0;last\r\n\r\n",
	"0\r\nX-Sum: abc\r\nEmpty:\r\nhos: 1\r\nhosts: 2\r\nConten-Length: 3\r\n\r\n",
};

Test(http1_body, chunks_end_after_the_trailer_at_every_split)
{
	char text[1024];

	for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
		int64_t n = (int64_t)strlen(good[i]);
		bool done = false;

		snprintf(text, sizeof(text), "%sGET /next", good[i]);
		for (size_t cut = 0; cut <= strlen(text); cut++) {
			cr_expect_eq(feed_in_two(text, strlen(text), cut, &done), n, "%s: <<%s>> cut at %zu", why,
				     text, cut);
			cr_expect(done);
		}
		cr_expect_eq(feed_bytewise(text, strlen(text), &done), n);
		cr_expect(done);
		cr_expect_eq(feed_bytewise(text, (size_t)n - 1, &done), n - 1);
		cr_expect_not(done, "one byte early: <<%s>>", good[i]);
	}
}

Test(http1_body, broken_chunks_are_refused_at_every_split)
{
	static const struct {
		const char *text;
		const char *why;
	} rows[] = {
		{ "\r\n", "hexadecimal" },
		{ ";x\r\n", "hexadecimal" },
		{ "g\r\n", "hexadecimal" },
		{ "0x5\r\nhello\r\n", "hexadecimal" },
		{ "-1\r\n", "hexadecimal" },
		{ "+5\r\nhello\r\n", "hexadecimal" },
		{ " 5\r\nhello\r\n", "hexadecimal" },
		{ "5 \r\nhello\r\n", "hexadecimal" },
		{ "5 ;x\r\nhello\r\n", "hexadecimal" },
		{ "5\t\r\nhello\r\n", "hexadecimal" },
		{ "5,\r\nhello\r\n", "hexadecimal" },
		{ "5\nhello\r\n", "hexadecimal" },
		{ "5\rhello\r\n", "does not end with CRLF" },
		{ "5;\nhello\r\n", "control" },
		{ "5;x\x01\r\nhello\r\n", "control" },
		{ "5;x\rhello\r\n", "does not end with CRLF" },
		{ "80000000\r\n", "too large" },
		{ "100000005\r\nhello\r\n", "too large" }, /* 5 for a reader that counts in 32 bits */
		{ "8000000000000000\r\n", "too large" },
		{ "ffffffffffffffff\r\n", "too large" },
		{ "00000000000000001\r\n", "too large" },
		{ "5\r\nhellox\r\n", "longer than its size" },
		{ "5\r\nhello\n", "longer than its size" },
		{ "5\r\nhello\rx", "do not end with CRLF" },
		{ "5\r\nhello\r\n\r\n", "hexadecimal" },
		{ "0\r\n\rx", "CR without LF" },
		{ "0\r\n\n", "not a token" },
		{ "0\r\n x: y\r\n\r\n", "not a token" },
		{ "0\r\n: y\r\n\r\n", "not a token" },
		{ "0\r\nx : y\r\n\r\n", "not a token" },
		{ "0\r\nx: y\n\r\n", "control" },
		{ "0\r\nx: y\rz", "CR without LF" },
		{ "0\r\nx: y\r\n z\r\n\r\n", "not a token" },
		{ "0\r\nx\r\n\r\n", "not a token" },
		{ "0\r\na: b\r\nContent-Length: 5\r\n\r\n", "framing or routing" },
		{ "0\r\nTRANSFER-ENCODING: chunked\r\n\r\n", "framing or routing" },
		{ "0\r\nhost: x\r\n\r\n", "framing or routing" },
		{ "0\r\nConnection: x\r\n\r\n", "framing or routing" },
		{ "0\r\nTE: x\r\n\r\n", "framing or routing" },
		{ "0\r\nTrailer: x\r\n\r\n", "framing or routing" },
	};
	bool done;

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		for (size_t cut = 0; cut <= strlen(rows[i].text); cut++) {
			why = "(none)";
			cr_expect_eq(feed_in_two(rows[i].text, strlen(rows[i].text), cut, &done), -1,
				     "<<%s>> cut at %zu", rows[i].text, cut);
			cr_expect(strstr(why, rows[i].why), "\"%s\" for <<%s>>", why, rows[i].text);
		}
		cr_expect_eq(feed_bytewise(rows[i].text, strlen(rows[i].text), &done), -1, "<<%s>>", rows[i].text);
	}
}

Test(http1_body, control_characters_in_trailers_and_extensions_are_refused)
{
	static const char nul[] = "0\r\nx: \0\r\n\r\n", extension[] = "1;\0\r\nx\r\n";
	bool done;

	cr_expect_eq(feed_bytewise(nul, sizeof(nul) - 1, &done), -1);
	cr_expect_eq(feed_bytewise(extension, sizeof(extension) - 1, &done), -1);
}

Test(http1_body, the_largest_chunk_is_counted)
{
	struct http_body body = body_of(HTTP_BODY_CHUNKED, 0);

	cr_expect_eq(http_body_feed(&body, "00000000" "7FFFFFFF\r\nabc", 21, &why), 21);
	cr_expect_eq(body.left, (uint64_t)INT32_MAX - 3);
}

Test(http1_body, extensions_and_trailers_are_bounded)
{
	static char text[20000];
	bool done;
	size_t n;

	memset(text, 'x', sizeof(text));
	memcpy(text, "1;", 2);
	memcpy(text + 2 + 4095, "\r\nx\r\n0\r\n\r\n", 10);
	cr_expect_eq(feed_bytewise(text, 2 + 4095 + 10, &done), 2 + 4095 + 10);
	memset(text + 2, 'x', 4110);
	cr_expect_eq(feed_bytewise(text, 4110, &done), -1);

	n = (size_t)sprintf(text, "0\r\na: ");
	memset(text + n, 'x', sizeof(text) - n);
	cr_expect_eq(feed_bytewise(text, 3 + 16384, &done), 3 + 16384);
	cr_expect_eq(feed_bytewise(text, 3 + 16385, &done), -1);
}

Test(http1_body, bounds_hold_for_each_chunk_anew)
{
	struct http_body body = body_of(HTTP_BODY_CHUNKED, 0);
	char line[3000] = "1;";

	memset(line + 2, 'x', sizeof(line) - 7);
	memcpy(line + sizeof(line) - 5, "\r\ny\r\n", 5);
	for (int i = 0; i < 5; i++)
		cr_assert_eq(http_body_feed(&body, line, sizeof(line), &why), (int64_t)sizeof(line), "%s", why);
}

Test(http1_body, content_comes_without_its_framing)
{
	const char *text = "5;x\r\nhello\r\n1\r\n \r\n5\r\nworld\r\n0\r\nT: t\r\n\r\nrest";
	size_t n = strlen(text);

	for (size_t step = 1; step <= n; step++) {
		struct http_body body = body_of(HTTP_BODY_CHUNKED, 0);
		char got[64] = "";
		size_t at = 0;

		while (!body.done) {
			struct slice content;
			size_t now = step < n - at ? step : n - at;
			int64_t taken = http_body_content(&body, text + at, now, &content, &why);

			cr_assert_gt(taken, 0, "%s", why);
			at += (size_t)taken;
			strncat(got, content.p, content.n);
		}
		cr_expect_str_eq(got, "hello world");
		cr_expect_eq(n - at, 4);
	}
}
