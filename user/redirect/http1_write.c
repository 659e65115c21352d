// SPDX-License-Identifier: Apache-2.0
/* Heads as they are forwarded (RFC 9110 §7.6, RFC 9112 §9.1), and the texts that answers of our own need. */
#include <stdio.h>
#include <time.h>

#include "base/memory.h"
#include "redirect/http1_text.h"

struct writer {
	char *p;
	char *end;
	bool full;
};

static void put(struct writer *w, const char *text, size_t n)
{
	if (w->full || n > (size_t)(w->end - w->p)) {
		w->full = true;
		return;
	}
	memcpy(w->p, text, n);
	w->p += n;
}

#define PUT(w, literal) put((w), "" literal, sizeof(literal) - 1)

static void put_slice(struct writer *w, struct slice s)
{
	if (s.n)
		put(w, s.p, s.n);
}

static void put_number(struct writer *w, uint64_t number)
{
	char text[20], *p = text + sizeof(text);

	do {
		*--p = (char)('0' + number % 10);
		number /= 10;
	} while (number);
	put(w, p, (size_t)(text + sizeof(text) - p));
}

static void put_field(struct writer *w, const struct http_field *field)
{
	put_slice(w, field->name);
	PUT(w, ": ");
	put_slice(w, field->value);
	PUT(w, "\r\n");
}

static void put_host(struct writer *w, const struct http_head *head)
{
	PUT(w, "Host: ");
	put_slice(w, head->authority);
	PUT(w, "\r\n");
}

/* Content-Length that frames nothing: of what a HEAD or 304 stands for. Not for 1xx and 204 (RFC 9110 §8.6). */
static bool length_is_information(const struct http_head *head)
{
	return head->framing == HTTP_BODY_NONE && head->status >= 200 && head->status != 204;
}

static void put_fields(struct writer *w, const struct http_head *head)
{
	bool request = head->status == 0;

	for (size_t i = 0; i < head->field_count; i++) {
		const struct http_field *field = &head->fields[i];

		if (request && SLICE_IS(field->name, "host")) {
			put_host(w, head);
		} else if (SLICE_IS(field->name, "content-length")) {
			if (length_is_information(head))
				put_field(w, field);
		} else if (!field->hop_by_hop || (head->upgrade && SLICE_IS(field->name, "upgrade"))) {
			put_field(w, field);
		}
	}
}

static void put_framing(struct writer *w, const struct http_head *head)
{
	if (head->framing == HTTP_BODY_CHUNKED) {
		PUT(w, "Transfer-Encoding: chunked\r\n");
	} else if (head->framing == HTTP_BODY_LENGTH) {
		PUT(w, "Content-Length: ");
		put_number(w, head->content_length);
		PUT(w, "\r\n");
	}
}

/* All after the first line. */
static size_t finish(struct writer *w, const char *out, const struct http_head *head, bool keep_alive,
		     const char *lines, const char *extra)
{
	put_fields(w, head);
	put_framing(w, head);
	if (head->upgrade)
		PUT(w, "Connection: upgrade\r\n");
	else if (keep_alive && head->framing != HTTP_BODY_CLOSE)
		PUT(w, "Connection: keep-alive\r\n");
	else
		PUT(w, "Connection: close\r\n");
	if (lines)
		put(w, lines, strlen(lines));
	if (extra)
		put(w, extra, strlen(extra));
	PUT(w, "\r\n");
	return w->full ? 0 : (size_t)(w->p - out);
}

size_t http_write_request(char *out, size_t room, const struct http_head *head, bool keep_alive, const char *lines,
			   const char *extra)
{
	struct writer w = { .p = out, .end = out + room };

	put_slice(&w, head->method_text);
	PUT(&w, " ");
	put_slice(&w, head->method == HTTP_CONNECT ? head->authority : head->path);
	PUT(&w, " HTTP/1.1\r\n");
	if (!http_field(head, "host"))
		put_host(&w, head);
	return finish(&w, out, head, keep_alive, lines, extra);
}

size_t http_write_response(char *out, size_t room, const struct http_head *head, bool keep_alive, const char *lines,
			   const char *extra)
{
	struct writer w = { .p = out, .end = out + room };

	PUT(&w, "HTTP/1.1 ");
	put_number(&w, head->status);
	PUT(&w, " ");
	put_slice(&w, head->reason);
	PUT(&w, "\r\n");
	return finish(&w, out, head, keep_alive, lines, extra);
}

static void put_uuid(struct writer *w, uint64_t high, uint64_t low)
{
	static const char digits[] = "0123456789abcdef";
	char text[36];

	high = (high & ~0xf000ULL) | 0x4000; /* version 4 */
	low = (low & ~(3ULL << 62)) | 2ULL << 62;
	for (int i = 0, bit = 124; i < (int)sizeof(text); i++) {
		if (i == 8 || i == 13 || i == 18 || i == 23) {
			text[i] = '-';
			continue;
		}
		text[i] = digits[(bit >= 64 ? high >> (bit - 64) : low >> bit) & 15];
		bit -= 4;
	}
	put(w, text, sizeof(text));
}

#define ATTEMPT_COUNT "x-envoy-attempt-count: "

bool http_is_among(const char *name, const char *const *names, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (!strcasecmp(names[i], name))
			return true;
	return false;
}

void http_proxy_fields(char out[HTTP_PROXY_FIELDS], struct http_head *head, const char *const *dropped, size_t count,
		       uint64_t timeout_ms, uint64_t random_high, uint64_t random_low)
{
	struct writer w = { .p = out, .end = out + HTTP_PROXY_FIELDS };
	bool has_proto = http_is_among("x-forwarded-proto", dropped, count), has_id = http_is_among("x-request-id", dropped, count);

	for (size_t i = 0; i < head->field_count; i++) {
		struct http_field *field = &head->fields[i];

		/* the length tells most fields apart, without a look at their bytes */
		if (field->name.n == 17 && SLICE_IS(field->name, "x-forwarded-proto"))
			has_proto |= !field->hop_by_hop;
		else if (field->name.n == 12 && SLICE_IS(field->name, "x-request-id"))
			has_id |= !field->hop_by_hop;
		else if (field->name.n == 21 && SLICE_IS(field->name, "x-envoy-attempt-count"))
			field->hop_by_hop = true;
		else if (timeout_ms && field->name.n == 30 && SLICE_IS(field->name, "x-envoy-expected-rq-timeout-ms"))
			field->hop_by_hop = true;
	}
	if (!has_proto)
		PUT(&w, "x-forwarded-proto: http\r\n");
	if (!has_id) {
		PUT(&w, "x-request-id: ");
		put_uuid(&w, random_high, random_low);
		PUT(&w, "\r\n");
	}
	if (timeout_ms) {
		char text[24];

		PUT(&w, "x-envoy-expected-rq-timeout-ms: ");
		put(&w, text, (size_t)snprintf(text, sizeof(text), "%llu", (unsigned long long)timeout_ms));
		PUT(&w, "\r\n");
	}
	PUT(&w, ATTEMPT_COUNT "1\r\n\0");
}

void http_drop_fields(struct http_head *head, const char *const *names, size_t count)
{
	for (size_t k = 0; k < count; k++) {
		size_t n = strlen(names[k]);

		for (size_t i = 0; i < head->field_count; i++)
			if (head->fields[i].name.n == n && !strncasecmp(head->fields[i].name.p, names[k], n))
				head->fields[i].hop_by_hop = true;
	}
}

/* Where the number begins that ends at `at`. */
static size_t number_before(const char *bytes, size_t at)
{
	while (bytes[at - 1] >= '0' && bytes[at - 1] <= '9')
		at--;
	return at;
}

size_t http_set_attempt(char *bytes, size_t head, size_t length, unsigned int attempt, uint64_t timeout_ms)
{
	size_t at = number_before(bytes, head - strlen("\r\n\r\n")), n;
	char end[sizeof(ATTEMPT_COUNT) + 48];

	if (timeout_ms) {
		at = number_before(bytes, at - strlen("\r\n" ATTEMPT_COUNT));
		n = (size_t)snprintf(end, sizeof(end), "%llu\r\n" ATTEMPT_COUNT "%u\r\n\r\n", (unsigned long long)timeout_ms, attempt);
	} else {
		n = (size_t)snprintf(end, sizeof(end), "%u\r\n\r\n", attempt);
	}
	memmove(bytes + at + n, bytes + head, length - head);
	memcpy(bytes + at, end, n);
	return at + n;
}

const char *http_status_phrase(uint16_t status)
{
	static const struct {
		uint16_t status;
		const char *phrase;
	} phrases[] = {
		{ 100, "Continue" },
		{ 101, "Switching Protocols" },
		{ 102, "Processing" },
		{ 103, "Early Hints" },
		{ 200, "OK" },
		{ 201, "Created" },
		{ 202, "Accepted" },
		{ 203, "Non-Authoritative Information" },
		{ 204, "No Content" },
		{ 205, "Reset Content" },
		{ 206, "Partial Content" },
		{ 207, "Multi-Status" },
		{ 208, "Already Reported" },
		{ 226, "IM Used" },
		{ 300, "Multiple Choices" },
		{ 301, "Moved Permanently" },
		{ 302, "Found" },
		{ 303, "See Other" },
		{ 304, "Not Modified" },
		{ 305, "Use Proxy" },
		{ 307, "Temporary Redirect" },
		{ 308, "Permanent Redirect" },
		{ 400, "Bad Request" },
		{ 401, "Unauthorized" },
		{ 402, "Payment Required" },
		{ 403, "Forbidden" },
		{ 404, "Not Found" },
		{ 405, "Method Not Allowed" },
		{ 406, "Not Acceptable" },
		{ 407, "Proxy Authentication Required" },
		{ 408, "Request Timeout" },
		{ 409, "Conflict" },
		{ 410, "Gone" },
		{ 411, "Length Required" },
		{ 412, "Precondition Failed" },
		{ 413, "Content Too Large" },
		{ 414, "URI Too Long" },
		{ 415, "Unsupported Media Type" },
		{ 416, "Range Not Satisfiable" },
		{ 417, "Expectation Failed" },
		{ 421, "Misdirected Request" },
		{ 422, "Unprocessable Content" },
		{ 423, "Locked" },
		{ 424, "Failed Dependency" },
		{ 425, "Too Early" },
		{ 426, "Upgrade Required" },
		{ 428, "Precondition Required" },
		{ 429, "Too Many Requests" },
		{ 431, "Request Header Fields Too Large" },
		{ 451, "Unavailable For Legal Reasons" },
		{ 500, "Internal Server Error" },
		{ 501, "Not Implemented" },
		{ 502, "Bad Gateway" },
		{ 503, "Service Unavailable" },
		{ 504, "Gateway Timeout" },
		{ 505, "HTTP Version Not Supported" },
		{ 506, "Variant Also Negotiates" },
		{ 507, "Insufficient Storage" },
		{ 508, "Loop Detected" },
		{ 511, "Network Authentication Required" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(phrases); i++)
		if (phrases[i].status == status)
			return phrases[i].phrase;
	return "Unknown";
}

void http_date(char out[32], int64_t unix_seconds)
{
	static const char days[][4] = { "Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat" };
	static const char months[][4] = { "Jan", "Feb", "Mar", "Apr", "May", "Jun",
					  "Jul", "Aug", "Sep", "Oct", "Nov", "Dec" };
	const int64_t last = 253402300799; /* of year 9999: the form has four digits */
	time_t seconds = unix_seconds < 0 ? 0 : unix_seconds > last ? last : unix_seconds;
	struct tm tm;

	gmtime_r(&seconds, &tm);
	snprintf(out, 32, "%s, %02d %s %04d %02d:%02d:%02d GMT", days[tm.tm_wday], tm.tm_mday, months[tm.tm_mon],
		 tm.tm_year + 1900, tm.tm_hour, tm.tm_min, tm.tm_sec);
}
