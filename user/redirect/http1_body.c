// SPDX-License-Identifier: Apache-2.0
/* Where a message body ends (RFC 9112 §6, §7.1). */
#include "base/memory.h"
#include "redirect/http1_text.h"

#define MAX_CHUNK_LINE 4096
#define MAX_TRAILER 16384
#define MAX_SIZE_DIGITS 16

enum chunk_state {
	CHUNK_SIZE,
	CHUNK_EXTENSION,
	CHUNK_SIZE_LF,
	CHUNK_DATA,
	CHUNK_DATA_CR,
	CHUNK_DATA_LF,
	TRAILER_START,
	TRAILER_NAME,
	TRAILER_VALUE,
	TRAILER_LF,
	TRAILER_END_LF,
};

/* What frames or routes a message: a reader that merges trailers into the head would obey it (RFC 9110 §6.5.1). */
static const struct slice forbidden_trailers[] = {
	{ "content-length", 14 }, { "transfer-encoding", 17 }, { "host", 4 }, { "connection", 10 },
	{ "upgrade", 7 },	  { "te", 2 },			{ "trailer", 7 },
};

void http_body_start(struct http_body *body, const struct http_head *head)
{
	*body = (struct http_body){ .framing = head->framing };
	if (head->framing == HTTP_BODY_LENGTH)
		body->left = head->content_length;
	body->done = head->framing == HTTP_BODY_NONE || (head->framing == HTTP_BODY_LENGTH && body->left == 0);
}

static int hex_value(char c)
{
	char lower = (char)(c | 0x20);

	if (c >= '0' && c <= '9')
		return c - '0';
	return lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : -1;
}

/* No blank between the size and ";" or CR: only readers that trim agree on "5 ". NULL, or what is wrong. */
static const char *size_byte(struct http_body *body, char c)
{
	int digit = hex_value(c);

	if (digit >= 0) {
		/* some readers count in 32 bits: for them the data would end early, and what follows be another request */
		if (body->digits == MAX_SIZE_DIGITS || body->left > INT32_MAX / 16)
			return "a chunk size is too large";
		body->digits++;
		body->left = body->left * 16 + (uint64_t)digit;
		return NULL;
	}
	if (body->digits == 0 || (c != ';' && c != '\r'))
		return "a chunk size is not a hexadecimal number";
	body->state = c == ';' ? CHUNK_EXTENSION : CHUNK_SIZE_LF;
	return NULL;
}

static const char *extension_byte(struct http_body *body, char c)
{
	if (++body->line_bytes > MAX_CHUNK_LINE)
		return "the extensions of a chunk are longer than 4 KiB";
	if (c == '\r')
		body->state = CHUNK_SIZE_LF;
	else if (!http_is(c, HTTP_VALUE_CHAR))
		return "a chunk extension holds a control character";
	return NULL;
}

/* Narrows down which forbidden names the trailer may still be, by its next byte; there is no room to keep the name. */
static void narrow_forbidden(struct http_body *body, char c)
{
	char lower = c >= 'A' && c <= 'Z' ? (char)(c | 0x20) : c;

	for (size_t i = 0; i < ARRAY_SIZE(forbidden_trailers); i++) {
		struct slice name = forbidden_trailers[i];

		if (body->line_bytes >= name.n || name.p[body->line_bytes] != lower)
			body->forbidden &= (uint8_t)~(1u << i);
	}
}

static bool trailer_is_forbidden(const struct http_body *body)
{
	for (size_t i = 0; i < ARRAY_SIZE(forbidden_trailers); i++)
		if (body->forbidden & (1u << i) && body->line_bytes == forbidden_trailers[i].n)
			return true;
	return false;
}

static const char *trailer_name_byte(struct http_body *body, char c)
{
	if (c == ':') {
		if (trailer_is_forbidden(body))
			return "a trailer field would change framing or routing";
		body->state = TRAILER_VALUE;
		return NULL;
	}
	if (!http_is(c, HTTP_TOKEN_CHAR))
		return "the name of a trailer field is not a token";
	narrow_forbidden(body, c);
	body->line_bytes++;
	return NULL;
}

static const char *trailer_byte(struct http_body *body, char c)
{
	if (++body->trailer_bytes > MAX_TRAILER)
		return "the trailer is larger than 16 KiB";
	switch (body->state) {
	case TRAILER_START:
		if (c == '\r') {
			body->state = TRAILER_END_LF;
			return NULL;
		}
		if (!http_is(c, HTTP_TOKEN_CHAR))
			return "the name of a trailer field is not a token";
		body->forbidden = UINT8_MAX;
		body->line_bytes = 0;
		body->state = TRAILER_NAME;
		return trailer_name_byte(body, c);
	case TRAILER_NAME:
		return trailer_name_byte(body, c);
	case TRAILER_VALUE:
		if (c == '\r')
			body->state = TRAILER_LF;
		else if (!http_is(c, HTTP_VALUE_CHAR))
			return "a trailer field holds a control character";
		return NULL;
	default: /* TRAILER_LF, TRAILER_END_LF */
		if (c != '\n')
			return "CR without LF in the trailer";
		body->done = body->state == TRAILER_END_LF;
		body->state = TRAILER_START;
		return NULL;
	}
}

/* One byte of the framing between the data of two chunks. */
static const char *framing_byte(struct http_body *body, char c)
{
	switch (body->state) {
	case CHUNK_SIZE:
		return size_byte(body, c);
	case CHUNK_EXTENSION:
		return extension_byte(body, c);
	case CHUNK_SIZE_LF:
		body->state = body->left ? CHUNK_DATA : TRAILER_START;
		return c == '\n' ? NULL : "the line of a chunk size does not end with CRLF";
	case CHUNK_DATA_CR:
		body->state = CHUNK_DATA_LF;
		return c == '\r' ? NULL : "a chunk is longer than its size";
	case CHUNK_DATA_LF:
		body->state = CHUNK_SIZE;
		body->digits = 0;
		body->line_bytes = 0;
		return c == '\n' ? NULL : "the data of a chunk do not end with CRLF";
	default:
		return trailer_byte(body, c);
	}
}

static struct slice take_data(struct http_body *body, const char *p, const char *end)
{
	size_t n = (size_t)(end - p);
	struct slice data = { p, n < body->left ? n : (size_t)body->left };

	body->left -= data.n;
	body->content += data.n;
	return data;
}

bool http_body_in_trailer(const struct http_body *body)
{
	return body->framing == HTTP_BODY_CHUNKED && body->state >= TRAILER_START;
}

static int64_t chunked_content(struct http_body *body, const char *bytes, size_t n, struct slice *content,
			       const char **why)
{
	const char *p = bytes, *end = bytes + n;

	bool in_trailer = http_body_in_trailer(body);

	while (p < end && !body->done && body->state != CHUNK_DATA && http_body_in_trailer(body) == in_trailer) {
		const char *wrong = framing_byte(body, *p++);

		if (wrong) {
			*why = wrong;
			return -1;
		}
	}
	if (body->state != CHUNK_DATA)
		return p - bytes;
	*content = take_data(body, p, end);
	if (body->left == 0)
		body->state = CHUNK_DATA_CR;
	return content->p + content->n - bytes;
}

int64_t http_body_content(struct http_body *body, const char *bytes, size_t n, struct slice *content, const char **why)
{
	*content = (struct slice){ bytes, 0 };
	if (body->done || n == 0)
		return 0;
	if (body->framing == HTTP_BODY_CHUNKED)
		return chunked_content(body, bytes, n, content, why);
	if (body->framing == HTTP_BODY_CLOSE) {
		content->n = n;
		body->content += n;
	} else {
		*content = take_data(body, bytes, bytes + n);
		body->done = body->left == 0;
	}
	return (int64_t)content->n;
}

int64_t http_body_feed(struct http_body *body, const char *bytes, size_t n, const char **why)
{
	struct slice content;
	size_t taken = 0;

	while (taken < n && !body->done) {
		int64_t more = http_body_content(body, bytes + taken, n - taken, &content, why);

		if (more < 0)
			return -1;
		taken += (size_t)more;
	}
	return (int64_t)taken;
}
