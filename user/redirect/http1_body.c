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

/* Fields that frame or route a message: a reader that merges trailers into the head would obey them (RFC 9110 §6.5.1). */
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
		if (body->digits == MAX_SIZE_DIGITS || body->left > (INT64_MAX - (uint64_t)digit) / 16)
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

static uint64_t take_data(struct http_body *body, uint64_t n)
{
	uint64_t taken = n < body->left ? n : body->left;

	body->left -= taken;
	return taken;
}

static int64_t feed_chunked(struct http_body *body, const char *bytes, size_t n, const char **why)
{
	const char *p = bytes, *end = bytes + n;

	while (p < end && !body->done) {
		if (body->state == CHUNK_DATA) {
			p += take_data(body, (uint64_t)(end - p));
			if (body->left == 0)
				body->state = CHUNK_DATA_CR;
			continue;
		}
		*why = framing_byte(body, *p++);
		if (*why)
			return -1;
	}
	return p - bytes;
}

int64_t http_body_feed(struct http_body *body, const char *bytes, size_t n, const char **why)
{
	int64_t taken = 0;

	if (body->done)
		return 0;
	switch (body->framing) {
	case HTTP_BODY_NONE:
		break;
	case HTTP_BODY_LENGTH:
		taken = (int64_t)take_data(body, n);
		body->done = body->left == 0;
		break;
	case HTTP_BODY_CHUNKED:
		return feed_chunked(body, bytes, n, why);
	case HTTP_BODY_CLOSE:
		taken = (int64_t)n;
		break;
	}
	return taken;
}
