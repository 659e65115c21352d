// SPDX-License-Identifier: Apache-2.0
/*
 * HTTP/1: one message of a client or a server, head and body. However the bytes are split, the answer is the same; what
 * is accepted holds nothing that two readers could frame differently (looked for in the bytes, not in what the parser
 * says of them); and what is forwarded means what came in.
 */
#include <ctype.h>
#include <strings.h>

#include "fuzz.h"
#include "redirect/http1.h"

#define CUTS 6
#define FORWARDED_ROOM (2 * HTTP_MAX_HEAD)

/* How this input is read: from its first bytes. */
struct reading {
	bool response, keep_alive;
	enum http_method request; /* that a response answers */
	uint8_t cuts[CUTS];       /* 256ths of the length */
};

static enum http_result parse(const struct reading *reading, struct http_head *head, const char *bytes, size_t n, const char **why)
{
	return reading->response ? http_parse_response(head, bytes, n, reading->request, why)
				 : http_parse_request(head, bytes, n, why);
}

/* ---- splits ---- */

static void check_prefix(const struct reading *reading, const char *bytes, size_t n, size_t whole_n, enum http_result whole,
			 const struct http_head *whole_head, const char *whole_why)
{
	static struct http_head head;
	struct feed feed = {(const uint8_t *)bytes, n};
	size_t length;
	char *copy = (char *)feed_copy(&feed, n, &length);
	const char *why = "";
	enum http_result result = parse(reading, &head, copy, n, &why);

	free(copy);
	CHECK(result == HTTP_MORE || result == whole, "%zu of %zu bytes: %d (%s), all: %d (%s)", n, whole_n, result, why, whole,
	      whole_why);
	if (result < 0)
		CHECK(!strcmp(why, whole_why), "%zu of %zu bytes: \"%s\", all: \"%s\"", n, whole_n, why, whole_why);
	if (result == HTTP_OK)
		CHECK(head.bytes == whole_head->bytes && head.framing == whole_head->framing, "%zu of %zu bytes", n, whole_n);
	/* No longer than the head: then it is undecided before its last byte. */
	if (whole == HTTP_OK)
		CHECK((n >= whole_head->bytes) == (result == HTTP_OK), "%zu bytes of a head of %zu: %d", n, whole_head->bytes, result);
}

/* ---- what an accepted head may hold ---- */

struct counted {
	unsigned int hosts, lengths, encodings;
};

static bool is_name(const char *line, const char *colon, const char *name)
{
	return strlen(name) == (size_t)(colon - line) && !strncasecmp(line, name, strlen(name));
}

/* Lines by hand, from the bytes: CRLF only, a token and a colon each, no folding, no control character. */
static struct counted read_lines(const char *bytes, size_t n)
{
	struct counted counted = {0};
	const char *p = bytes, *end = bytes + n;

	while (p < end && *p == '\r')
		p += 2; /* empty lines before a request */
	for (bool first = true; p < end; first = false) {
		const char *line = p, *colon;

		while (p < end && *p != '\r' && *p != '\n') {
			CHECK(*p == '\t' || (unsigned char)*p >= ' ', "a control character %02x", (unsigned char)*p);
			CHECK(*p != 0x7f, "a DEL");
			p++;
		}
		CHECK(end - p >= 2 && p[0] == '\r' && p[1] == '\n', "a line does not end with CRLF");
		p += 2;
		if (first)
			continue;
		if (p - line == 2)
			break;
		CHECK(*line != ' ' && *line != '\t', "a folded line");
		colon = memchr(line, ':', (size_t)(p - line));
		CHECK(colon && colon > line, "a line without a name");
		CHECK(colon[-1] != ' ' && colon[-1] != '\t', "a blank before a colon");
		counted.hosts += is_name(line, colon, "host");
		counted.lengths += is_name(line, colon, "content-length");
		counted.encodings += is_name(line, colon, "transfer-encoding");
	}
	CHECK(p == end, "the head ends %zu bytes late", (size_t)(end - p));
	return counted;
}

static void check_framing(const struct reading *reading, const struct http_head *head, const struct counted *counted)
{
	CHECK(reading->response || counted->hosts <= 1, "%u Hosts", counted->hosts);
	CHECK(reading->response || head->minor == 0 || counted->hosts, "HTTP/1.1 without Host");
	CHECK(counted->lengths + counted->encodings <= 1, "%u lengths, %u encodings", counted->lengths, counted->encodings);
	CHECK(head->framing != HTTP_BODY_LENGTH || counted->lengths, "a length from nowhere");
	CHECK(head->framing != HTTP_BODY_CHUNKED || (counted->encodings && head->minor), "chunks from nowhere");
	if (!reading->response) {
		CHECK(head->framing != HTTP_BODY_CLOSE, "a request that ends with its connection");
		CHECK(!counted->lengths || head->framing == HTTP_BODY_LENGTH, "a Content-Length that does not count");
		CHECK(!counted->encodings || head->framing == HTTP_BODY_CHUNKED, "a Transfer-Encoding that does not count");
	}
	CHECK(head->framing != HTTP_BODY_CLOSE || !head->keep_alive, "a connection that ends and stays");
}

/* ---- forwarding ---- */

static bool same(struct slice a, struct slice b)
{
	return a.n == b.n && (!a.n || !memcmp(a.p, b.p, a.n));
}

/* Fields that the writer makes anew: what they mean is compared apart. */
static bool is_rewritten(const struct http_field *field, bool response)
{
	static const char *const names[] = {"connection", "content-length", "transfer-encoding", "upgrade"};

	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++)
		if (field->name.n == strlen(names[i]) && !strncasecmp(field->name.p, names[i], field->name.n))
			return true;
	return !response && field->name.n == 4 && !strncasecmp(field->name.p, "host", 4);
}

static const struct http_field *next_kept(const struct http_head *head, bool response, size_t *i)
{
	while (*i < head->field_count) {
		const struct http_field *field = &head->fields[(*i)++];

		if (!is_rewritten(field, response) && !field->hop_by_hop)
			return field;
	}
	return NULL;
}

static void compare_fields(const struct http_head *a, const struct http_head *b, bool response)
{
	size_t i = 0, k = 0;

	for (;;) {
		const struct http_field *x = next_kept(a, response, &i), *y = next_kept(b, response, &k);

		CHECK(!x == !y, "one has more fields");
		if (!x)
			return;
		CHECK(same(x->name, y->name) && same(x->value, y->value), "\"%.*s\" became \"%.*s\"", (int)x->name.n, x->name.p,
		      (int)y->name.n, y->name.p);
	}
}

static void compare_heads(const struct reading *reading, const struct http_head *a, const struct http_head *b)
{
	CHECK(b->minor == 1, "not forwarded as HTTP/1.1");
	CHECK(a->framing == b->framing, "framing %d became %d", a->framing, b->framing);
	CHECK(a->framing != HTTP_BODY_LENGTH || a->content_length == b->content_length, "another length");
	CHECK(a->upgrade == b->upgrade, "upgrade %d became %d", a->upgrade, b->upgrade);
	if (!a->upgrade)
		CHECK(b->keep_alive == (reading->keep_alive && a->framing != HTTP_BODY_CLOSE), "keep-alive %d", b->keep_alive);
	compare_fields(a, b, reading->response);
	if (reading->response) {
		CHECK(a->status == b->status && same(a->reason, b->reason), "status %u became %u", a->status, b->status);
		return;
	}
	CHECK(a->method == b->method && same(a->method_text, b->method_text), "another method");
	CHECK(same(a->path, b->path), "\"%.*s\" became \"%.*s\"", (int)a->path.n, a->path.p, (int)b->path.n, b->path.p);
	CHECK(same(a->authority, b->authority) && same(a->host, b->host) && a->port == b->port, "another authority");
	CHECK(a->expect_continue == b->expect_continue, "expectation %d became %d", a->expect_continue, b->expect_continue);
	CHECK(!b->absolute_form, "forwarded in absolute form");
}

static size_t write_head(const struct reading *reading, char *out, size_t room, const struct http_head *head)
{
	return reading->response ? http_write_response(out, room, head, reading->keep_alive, NULL, NULL)
				 : http_write_request(out, room, head, reading->keep_alive, NULL, NULL);
}

/* Out and in again: the same message; and once more: the same bytes. */
static void check_forwarded(const struct reading *reading, const struct http_head *head)
{
	static char first[FORWARDED_ROOM], second[FORWARDED_ROOM];
	static struct http_head again;
	size_t n = write_head(reading, first, sizeof(first), head), m;
	const char *why = "";
	enum http_result result;
	struct counted counted;

	CHECK(n, "no room for what came in %zu bytes", head->bytes);
	if (n > HTTP_MAX_HEAD)
		return; /* a few fields of ours, on top of a head at the bound */
	result = parse(reading, &again, first, n, &why);
	if (result == HTTP_ERROR_TOO_LARGE && head->field_count + 3 > HTTP_MAX_FIELDS)
		return;
	CHECK(result == HTTP_OK && again.bytes == n, "%d (%s) of what was forwarded:\n%.*s", result, why, (int)n, first);
	compare_heads(reading, head, &again);
	counted = read_lines(first, n);
	check_framing(reading, &again, &counted);
	CHECK(reading->response || counted.hosts == 1, "%u Hosts forwarded", counted.hosts);
	m = write_head(reading, second, sizeof(second), &again);
	CHECK(m == n && !memcmp(first, second, n), "forwarded twice:\n%.*s\nand\n%.*s", (int)n, first, (int)m, second);
}

/* ---- bodies ---- */

struct outcome {
	int64_t taken; /* -1: broken */
	bool done;
	size_t content;
	const char *why;
};

static char content_whole[65536], content_split[65536], content_slow[65536];

/* One piece of the body through http_body_content(), its content appended. */
static void read_piece(struct http_body *body, const char *bytes, size_t n, char *content, struct outcome *out)
{
	struct feed feed = {(const uint8_t *)bytes, n};
	size_t at = 0, length;
	char *copy = (char *)feed_copy(&feed, n, &length);

	while (at < n && !body->done) {
		struct slice part;
		int64_t taken = http_body_content(body, copy + at, n - at, &part, &out->why);

		if (taken < 0) {
			out->taken = -1;
			break;
		}
		CHECK(taken > 0 && (size_t)taken <= n - at, "took %lld of %zu", (long long)taken, n - at);
		CHECK(part.p >= copy + at && part.p + part.n <= copy + at + taken, "content outside of what was taken");
		memcpy(content + out->content, part.p, part.n);
		out->content += part.n;
		at += (size_t)taken;
	}
	if (out->taken >= 0)
		out->taken += (int64_t)at;
	out->done = body->done;
	free(copy);
}

/* Chunks (RFC 9112 §7.1) as simple as can be. -1: not whole or not valid. */
static int64_t read_chunks_slowly(const char *p, size_t n, size_t *content)
{
	size_t at = 0;

	*content = 0;
	for (;;) {
		const char *line = p + at, *end = memmem(line, n - at, "\r\n", 2);
		char *stop;
		unsigned long long size;

		if (!end || !isxdigit((unsigned char)*line))
			return -1;
		size = strtoull(line, &stop, 16);
		if (stop != end && *stop != ';')
			return -1;
		at = (size_t)(end + 2 - p);
		if (!size)
			break;
		if (size > n - at || n - at - size < 2 || memcmp(p + at + size, "\r\n", 2))
			return -1;
		memcpy(content_slow + *content, p + at, size);
		*content += size;
		at += size + 2;
	}
	for (;;) {
		const char *end = memmem(p + at, n - at, "\r\n", 2);
		bool empty = end == p + at;

		if (!end)
			return -1;
		at = (size_t)(end + 2 - p);
		if (empty)
			return (int64_t)at;
	}
}

static void check_chunks(const char *bytes, size_t n, const struct outcome *whole)
{
	/* NUL-terminated for strtoull(). */
	static char text[65536 + 1];
	size_t content;
	int64_t taken;

	memcpy(text, bytes, n);
	text[n] = 0;
	taken = read_chunks_slowly(text, n, &content);
	CHECK(taken == whole->taken, "%lld bytes, slowly %lld", (long long)whole->taken, (long long)taken);
	CHECK(content == whole->content && !memcmp(content_slow, content_whole, content), "other content, read slowly");
}

static void check_body(const struct reading *reading, const struct http_head *head, const char *bytes, size_t n)
{
	struct outcome whole = {.why = ""}, split = {.why = ""};
	struct http_body body, fed;
	size_t at = 0;

	http_body_start(&body, head);
	whole.done = body.done;
	fed = body;
	read_piece(&body, bytes, n, content_whole, &whole);
	if (whole.taken >= 0)
		CHECK(http_body_feed(&fed, bytes, n, &whole.why) == whole.taken && fed.done == whole.done, "fed otherwise");
	CHECK(whole.done || whole.taken < 0 || (size_t)whole.taken == n, "left %zu bytes", n - (size_t)whole.taken);

	http_body_start(&body, head);
	split.done = body.done;
	for (int i = 0; i <= CUTS && split.taken >= 0; i++) {
		size_t cut = i == CUTS ? n : n * reading->cuts[i] / 256;

		if (cut > at) {
			read_piece(&body, bytes + at, cut - at, content_split, &split);
			at = cut;
		}
	}
	CHECK((whole.taken < 0) == (split.taken < 0), "whole %lld, split %lld", (long long)whole.taken, (long long)split.taken);
	if (whole.taken < 0) {
		CHECK(!strcmp(whole.why, split.why), "\"%s\", split \"%s\"", whole.why, split.why);
		return;
	}
	CHECK(whole.taken == split.taken && whole.done == split.done, "whole %lld, split %lld", (long long)whole.taken,
	      (long long)split.taken);
	CHECK(whole.content == split.content && !memcmp(content_whole, content_split, whole.content), "other content, split");
	if (head->framing == HTTP_BODY_CHUNKED && whole.done)
		check_chunks(bytes, n, &whole);
}

/* ---- the whole ---- */

static int by_value(const void *a, const void *b)
{
	return *(const uint8_t *)a - *(const uint8_t *)b;
}

static struct reading read_first_bytes(struct feed *feed)
{
	uint8_t first = feed_byte(feed);
	struct reading reading = {.response = first & 1, .keep_alive = first & 2, .request = (enum http_method)((first >> 2) % (HTTP_CONNECT + 1))};

	for (int i = 0; i < CUTS; i++)
		reading.cuts[i] = feed_byte(feed);
	qsort(reading.cuts, CUTS, 1, by_value);
	return reading;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct http_head head;
	struct feed feed = {data, size};
	struct reading reading = read_first_bytes(&feed);
	size_t n;
	char *bytes = (char *)feed_copy(&feed, sizeof(content_whole), &n);
	const char *why = "";
	enum http_result whole = parse(&reading, &head, bytes, n, &why);

	for (int i = 0; i < CUTS; i++)
		check_prefix(&reading, bytes, n * reading.cuts[i] / 256, n, whole, &head, why);
	if (whole == HTTP_OK) {
		struct counted counted = read_lines(bytes, head.bytes);

		check_framing(&reading, &head, &counted);
		check_forwarded(&reading, &head);
		check_body(&reading, &head, bytes + head.bytes, n - head.bytes);
	}
	free(bytes);
	return 0;
}
