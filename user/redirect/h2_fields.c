// SPDX-License-Identifier: Apache-2.0
#include "redirect/h2_fields.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "redirect/http1_text.h"

/* ---- text in buffers ---- */

bool h2_append(struct worker *worker, struct buffer **buffer, const char *bytes, size_t n)
{
	struct buffer *old = *buffer;

	if (!old) {
		*buffer = buffer_get(worker, n > SMALL_BUFFER);
	} else if (old->size == SMALL_BUFFER && n > old->size - old->end) {
		*buffer = buffer_get(worker, true);
		memcpy((*buffer)->bytes, old->bytes, old->end);
		(*buffer)->end = old->end;
		buffer_put(worker, &old);
	}
	if (n > (*buffer)->size - (*buffer)->end)
		return false;
	memcpy((*buffer)->bytes + (*buffer)->end, bytes, n);
	(*buffer)->end += (uint32_t)n;
	return true;
}

#define APPEND(worker, buffer, literal) h2_append((worker), (buffer), "" literal, sizeof(literal) - 1)

static bool append_slice(struct worker *worker, struct buffer **buffer, struct slice s)
{
	return h2_append(worker, buffer, s.p, s.n);
}

/* ---- receiving a block ---- */

static bool consists_of(struct slice s, int class)
{
	return http_span(s.p, s.p + s.n, class) == s.p + s.n;
}

static bool is_name(struct slice name)
{
	for (size_t i = 0; i < name.n; i++)
		if (isupper((unsigned char)name.p[i]))
			return false;
	return name.n && consists_of(name, HTTP_TOKEN_CHAR);
}

static bool is_blank(char c)
{
	return c == ' ' || c == '\t';
}

/* No CR, LF or NUL; and no blanks around it, which HTTP/1 would lose. */
static bool is_value(struct slice value)
{
	return consists_of(value, HTTP_VALUE_CHAR) && (!value.n || !(is_blank(value.p[0]) || is_blank(value.p[value.n - 1])));
}

/* What speaks of a connection, which HTTP/2 does otherwise (RFC 9113 §8.2.2). */
static bool is_of_connection(struct slice name, struct slice value)
{
	return SLICE_IS(name, "connection") || SLICE_IS(name, "keep-alive") || SLICE_IS(name, "proxy-connection") ||
	       SLICE_IS(name, "transfer-encoding") || SLICE_IS(name, "upgrade") || SLICE_IS(name, "http2-settings") ||
	       (SLICE_IS(name, "te") && !SLICE_IS(value, "trailers"));
}

static void keep_span(struct worker *worker, struct h2_block *block, struct h2_span *span, struct slice value)
{
	if (span->present) {
		block->is_malformed = true;
		return;
	}
	if (!append_slice(worker, &block->text, value)) {
		block->is_too_large = true;
		return;
	}
	*span = (struct h2_span){block->text->end - (uint32_t)value.n, (uint32_t)value.n, true};
}

static struct slice text_of(const struct h2_block *block, const struct h2_span *span)
{
	return span->present && block->text ? (struct slice){block->text->bytes + span->start, span->length} : (struct slice){"", 0};
}

static bool is_exactly(struct slice s, const char *text)
{
	return s.n == strlen(text) && !memcmp(s.p, text, s.n);
}

static void add_pseudo(struct worker *worker, struct h2_block *block, struct slice name, struct slice value)
{
	struct h2_span *span = is_exactly(name, ":method") ? &block->method
			       : is_exactly(name, ":scheme") ? &block->scheme
			       : is_exactly(name, ":path") ? &block->path
			       : is_exactly(name, ":authority") ? &block->authority
			       : is_exactly(name, ":status") ? &block->status
							     : NULL;

	/* A blank would end the path in a request line; ":protocol" is RFC 8441's, which nobody was offered. */
	if (!span || block->lines || !value.n || !consists_of(value, HTTP_TARGET_CHAR))
		block->is_malformed = true;
	else
		keep_span(worker, block, span, value);
}

/* Crumbs of one Cookie are joined again (RFC 9113 §8.2.3). */
static bool add_cookie(struct worker *worker, struct h2_block *block, struct slice value)
{
	return (block->cookies ? APPEND(worker, &block->cookies, "; ") : APPEND(worker, &block->cookies, "cookie: ")) &&
	       append_slice(worker, &block->cookies, value);
}

static bool add_line(struct worker *worker, struct buffer **out, struct slice name, struct slice value)
{
	return append_slice(worker, out, name) && APPEND(worker, out, ": ") && append_slice(worker, out, value) && APPEND(worker, out, "\r\n");
}

void h2_block_add(struct worker *worker, struct h2_block *block, struct slice name, struct slice value)
{
	if (block->is_malformed || block->is_too_large)
		return;
	block->is_too_large = ++block->count > HTTP_MAX_FIELDS;
	if (name.n && name.p[0] == ':')
		add_pseudo(worker, block, name, value);
	else if (!is_name(name) || !is_value(value) || is_of_connection(name, value))
		block->is_malformed = true;
	else if (SLICE_IS(name, "host"))
		keep_span(worker, block, &block->host, value);
	else if (SLICE_IS(name, "content-length"))
		keep_span(worker, block, &block->length, value);
	else if (SLICE_IS(name, "cookie"))
		block->is_too_large |= !add_cookie(worker, block, value);
	else
		block->is_too_large |= !add_line(worker, &block->lines, name, value);
	if (SLICE_IS(name, "content-type"))
		block->is_grpc = http_is_grpc_type(value);
	if (SLICE_IS(name, "grpc-status"))
		block->grpc_answer = http_status_of_grpc(value);
}

void h2_block_drop(struct worker *worker, struct h2_block *block)
{
	buffer_put(worker, &block->text);
	buffer_put(worker, &block->lines);
	buffer_put(worker, &block->cookies);
	*block = (struct h2_block){.is_malformed = block->is_malformed, .is_too_large = block->is_too_large};
}

/* ---- heads of HTTP/1.1 ---- */

/* The lines, and what frames the body; the block is empty then. */
static struct buffer *finish_head(struct worker *worker, struct h2_block *block, struct buffer **out, enum http_framing framing)
{
	bool tells_length = block->length.present && framing != HTTP_BODY_CHUNKED;
	const char length_name[] = "content-length";
	bool fits = true;

	if (block->lines)
		fits = h2_append(worker, out, buffer_bytes(block->lines), buffer_length(block->lines));
	if (block->cookies)
		fits = fits && h2_append(worker, out, buffer_bytes(block->cookies), buffer_length(block->cookies)) && APPEND(worker, out, "\r\n");
	if (tells_length)
		fits = fits && add_line(worker, out, (struct slice){length_name, sizeof(length_name) - 1}, text_of(block, &block->length));
	else if (framing == HTTP_BODY_CHUNKED)
		fits = fits && APPEND(worker, out, "transfer-encoding: chunked\r\n");
	else if (framing == HTTP_BODY_LENGTH)
		fits = fits && APPEND(worker, out, "content-length: 0\r\n");
	if (!fits || !APPEND(worker, out, "\r\n")) {
		block->is_too_large = true;
		buffer_put(worker, out);
	}
	h2_block_drop(worker, block);
	return *out;
}

static enum http_framing framing_of(const struct h2_block *block, bool ended)
{
	if (ended)
		return block->length.present && !block->is_grpc ? HTTP_BODY_LENGTH : HTTP_BODY_NONE;
	return block->length.present && !block->is_grpc ? HTTP_BODY_LENGTH : HTTP_BODY_CHUNKED;
}

/* RFC 9113 §8.3.1. :authority and Host must not differ: one reader would obey the one, another the other. */
static bool is_request(const struct h2_block *block)
{
	struct slice path = text_of(block, &block->path), scheme = text_of(block, &block->scheme),
		     method = text_of(block, &block->method), authority = text_of(block, &block->authority),
		     host = text_of(block, &block->host);

	if (block->status.present || !block->method.present || !consists_of(method, HTTP_TOKEN_CHAR))
		return false;
	if (block->authority.present && block->host.present && !slice_is(host, authority.p, authority.n))
		return false;
	if (method.n == 7 && !memcmp(method.p, "CONNECT", 7))
		return block->authority.present && !block->path.present && !block->scheme.present;
	return (path.n && (path.p[0] == '/' || (path.n == 1 && path.p[0] == '*'))) &&
	       (SLICE_IS(scheme, "http") || SLICE_IS(scheme, "https"));
}

struct buffer *h2_request_head(struct worker *worker, struct h2_block *block, bool ended, enum http_framing *framing)
{
	struct slice target = text_of(block, block->path.present ? &block->path : &block->authority);
	struct buffer *out = NULL;

	block->is_malformed |= !is_request(block);
	if (block->is_malformed || block->is_too_large) {
		h2_block_drop(worker, block);
		return NULL;
	}
	*framing = block->path.present ? framing_of(block, ended) : HTTP_BODY_NONE;
	if (!block->path.present)
		block->length.present = false; /* it frames nothing: CONNECT is refused */
	if (!append_slice(worker, &out, text_of(block, &block->method)) || !APPEND(worker, &out, " ") ||
	    !append_slice(worker, &out, target) || !APPEND(worker, &out, " HTTP/1.1\r\nhost: ") ||
	    !append_slice(worker, &out, text_of(block, block->authority.present ? &block->authority : &block->host)) ||
	    !APPEND(worker, &out, "\r\n")) {
		block->is_too_large = true;
		buffer_put(worker, &out);
		h2_block_drop(worker, block);
		return NULL;
	}
	return finish_head(worker, block, &out, *framing);
}

struct buffer *h2_response_head(struct worker *worker, struct h2_block *block, bool ended, enum http_method request,
				enum http_framing *framing)
{
	struct slice text = text_of(block, &block->status);
	struct buffer *out = NULL;
	unsigned int status = 0;
	char line[64];

	for (size_t i = 0; text.n == 3 && i < 3; i++)
		status = status * 10 + (unsigned int)(text.p[i] - '0');
	/* 101 does not exist in HTTP/2 (RFC 9113 §8.6). */
	if (block->is_malformed || block->is_too_large || block->method.present || block->path.present || block->scheme.present ||
	    block->authority.present || status < 100 || status > 999 || status == 101 || (ended && status < 200)) {
		block->is_malformed = true;
		h2_block_drop(worker, block);
		return NULL;
	}
	*framing = request == HTTP_HEAD || status < 200 || status == 204 || status == 304 ? HTTP_BODY_NONE
		   : ended ? HTTP_BODY_LENGTH
			   : framing_of(block, false);
	if (status < 200 || status == 204)
		block->length.present = false;
	h2_append(worker, &out, line, (size_t)snprintf(line, sizeof(line), "HTTP/1.1 %u %s\r\n", status, http_status_phrase((uint16_t)status)));
	return finish_head(worker, block, &out, *framing);
}

struct buffer *h2_trailer(struct worker *worker, struct h2_block *block)
{
	struct buffer *out = NULL;

	/* What is not among the lines would frame or route the message, or has no place behind it. */
	block->is_malformed |= block->text || block->cookies;
	if (block->is_malformed || block->is_too_large) {
		h2_block_drop(worker, block);
		return NULL;
	}
	return finish_head(worker, block, &out, HTTP_BODY_NONE);
}

/* ---- fields of HTTP/2 ---- */

struct fields {
	nghttp2_nv *out;
	size_t count;
	struct buffer *names;
	bool full;
};

static void put(struct fields *fields, struct slice name, struct slice value)
{
	struct buffer *names = fields->names;

	fields->full |= fields->count == H2_MAX_FIELDS || name.n > names->size - names->end;
	if (fields->full)
		return;
	for (size_t i = 0; i < name.n; i++)
		names->bytes[names->end + i] = (char)tolower((unsigned char)name.p[i]);
	fields->out[fields->count++] = (nghttp2_nv){(uint8_t *)names->bytes + names->end, (uint8_t *)(uintptr_t)value.p, name.n, value.n,
						    NGHTTP2_NV_FLAG_NONE};
	names->end += (uint32_t)name.n;
}

#define PUT(fields, literal, value) put((fields), (struct slice){"" literal, sizeof(literal) - 1}, (value))

/* Content-Length that counts, or tells what a HEAD or 304 stands for; gRPC has none. */
static bool tells_length(const struct http_head *head)
{
	return !http_is_grpc(head) && (head->framing == HTTP_BODY_LENGTH ||
				       (head->framing == HTTP_BODY_NONE && head->status >= 200 && head->status != 204));
}

static void put_fields(struct fields *fields, const struct http_head *head)
{
	for (size_t i = 0; i < head->field_count; i++) {
		const struct http_field *field = &head->fields[i];

		if (field->hop_by_hop || (!head->status && SLICE_IS(field->name, "host")))
			continue;
		if (SLICE_IS(field->name, "content-length") && !tells_length(head))
			continue;
		put(fields, field->name, field->value);
	}
}

/* Its text stays in `names`. */
static struct slice put_number(struct buffer *names, uint64_t number)
{
	char *text = names->bytes + names->end, *end = text + snprintf(text, names->size - names->end, "%llu", (unsigned long long)number);

	names->end += (uint32_t)(end - text);
	return slice_between(text, end);
}

size_t h2_request_fields(nghttp2_nv out[H2_MAX_FIELDS], const struct http_head *head, const char *scheme, const uint64_t *length,
			 struct buffer *names)
{
	struct fields fields = {.out = out, .names = names};

	PUT(&fields, ":method", head->method_text);
	PUT(&fields, ":scheme", ((struct slice){scheme, strlen(scheme)}));
	PUT(&fields, ":authority", head->authority);
	PUT(&fields, ":path", head->path);
	if (length)
		PUT(&fields, "content-length", put_number(names, *length));
	put_fields(&fields, head);
	return fields.full ? 0 : fields.count;
}

size_t h2_response_fields(nghttp2_nv out[H2_MAX_FIELDS], const struct http_head *head, const uint64_t *length, struct buffer *names)
{
	struct fields fields = {.out = out, .names = names};

	PUT(&fields, ":status", put_number(names, head->status));
	if (length)
		PUT(&fields, "content-length", put_number(names, *length));
	put_fields(&fields, head);
	return fields.full ? 0 : fields.count;
}

/* They were checked when they were read (http1_body.c): names are tokens, values hold no control characters. */
size_t h2_trailer_fields(nghttp2_nv out[H2_MAX_FIELDS], const char *lines, size_t n, struct buffer *names)
{
	struct fields fields = {.out = out, .names = names};
	const char *end = lines + n;

	for (const char *line = lines, *next; line < end; line = next) {
		const char *last = memchr(line, '\r', (size_t)(end - line)), *colon = memchr(line, ':', (size_t)(end - line));
		struct slice name, value;

		if (!last || last == line)
			break;
		next = last + 2;
		name = slice_between(line, colon++);
		while (colon < last && is_blank(*colon))
			colon++;
		while (last > colon && is_blank(last[-1]))
			last--;
		value = slice_between(colon, last);
		if (!is_of_connection(name, value))
			put(&fields, name, value);
	}
	return fields.full ? 0 : fields.count;
}
