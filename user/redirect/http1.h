/* SPDX-License-Identifier: Apache-2.0 */
/*
 * HTTP/1 messages by RFC 9110 and 9112, strict where leniency lets two readers disagree (request smuggling).
 * Pure functions over bytes the caller owns: no allocation, no I/O. Slices borrow from the parsed buffer.
 */
#ifndef SLUICE_HTTP1_H
#define SLUICE_HTTP1_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define HTTP_MAX_FIELDS 128
#define HTTP_MAX_HEAD 65536 /* bytes of a request or response head; more is HTTP_ERROR_TOO_LARGE */

struct slice {
	const char *p;
	size_t n;
};

struct http_field {
	struct slice name;
	struct slice value; /* without surrounding blanks */
	bool hop_by_hop;    /* connection-specific (RFC 9110 §7.6.1) or named by Connection: not forwarded */
};

enum http_framing {
	HTTP_BODY_NONE,
	HTTP_BODY_LENGTH,  /* Content-Length bytes */
	HTTP_BODY_CHUNKED,
	HTTP_BODY_CLOSE,   /* responses only: until the connection ends */
};

enum http_method {
	HTTP_OTHER,
	HTTP_GET,
	HTTP_HEAD,
	HTTP_POST,
	HTTP_PUT,
	HTTP_DELETE,
	HTTP_OPTIONS,
	HTTP_PATCH,
	HTTP_TRACE,
	HTTP_CONNECT,
};

/* What the first line and the fields of one message say. */
struct http_head {
	size_t bytes;             /* of the whole head, the empty line included */
	uint8_t minor;            /* HTTP/1.minor; 0 or 1 */
	/* requests */
	enum http_method method;
	struct slice method_text;
	struct slice target;      /* as sent */
	struct slice path;        /* origin-form with query ("*" for OPTIONS *); of absolute-form what follows the
	                           * authority, "/" if empty ("*" for OPTIONS); empty for CONNECT */
	struct slice authority;   /* absolute-form and CONNECT: the target's (it overrides Host, RFC 9112 §3.2.2);
	                           * else the Host value; may be empty */
	struct slice host;        /* authority without port and without the brackets of an IPv6 literal */
	uint16_t port;            /* of the authority; 0: none given */
	bool expect_continue;
	bool absolute_form;
	/* responses */
	uint16_t status;
	struct slice reason;
	/* both */
	enum http_framing framing;
	uint64_t content_length;  /* when HTTP_BODY_LENGTH (0 too); and for the information of HEAD and 304 responses */
	bool keep_alive;          /* after version and Connection */
	bool upgrade;             /* Connection: upgrade with an Upgrade field that names no HTTP (h2c would carry
	                           * all requests past policy). HTTP/1.1 only; of responses only 101, which has it */
	bool upgrade_h2c;         /* the same with Upgrade: h2c, and HTTP2-Settings (RFC 7540 §3.2); requests without a body only */
	size_t field_count;
	struct http_field fields[HTTP_MAX_FIELDS];
};

enum http_result {
	HTTP_MORE = 0,  /* incomplete: read more and call again with the whole buffer */
	HTTP_OK = 1,
	HTTP_NOT_HTTP = -1,        /* the first bytes cannot be the start of an HTTP/1 request */
	HTTP_ERROR_MALFORMED = -2, /* 400 for a request, 502 for a response; `*why` says what */
	HTTP_ERROR_TOO_LARGE = -3, /* 431 */
	HTTP_ERROR_VERSION = -4,   /* 505: HTTP/2 or later in the request line */
};

/*
 * Parses a request head at the start of `bytes`. Leading empty lines (at most 4 CRLF) are skipped (RFC 9112 §2.2).
 * HTTP_NOT_HTTP is decided as early as the first byte that no method token can hold. `*why` is a static string.
 */
enum http_result http_parse_request(struct http_head *out, const char *bytes, size_t n, const char **why);

/* Parses a response head; `request` decides whether a body follows (HEAD, CONNECT; RFC 9112 §6.3). */
enum http_result http_parse_response(struct http_head *out, const char *bytes, size_t n, enum http_method request,
				     const char **why);

/* The first field of that name (any case), or NULL. */
const struct http_field *http_field(const struct http_head *head, const char *name);

/* Whether a Content-Type is gRPC's: "application/grpc", with or without "+proto" and the like. */
bool http_is_grpc_type(struct slice type);
bool http_is_grpc(const struct http_head *head);
uint64_t http_grpc_timeout(const struct http_head *head); /* ms, at least 1; 0: none, or none that can be read */
uint16_t http_status_of_grpc(struct slice grpc_status); /* what another server would have answered */

/* ---- bodies ---- */

/* Follows a body through any split of its bytes, without changing them. */
struct http_body {
	enum http_framing framing;
	uint64_t left;      /* bytes of the length-delimited body, or of the current chunk */
	uint8_t state;      /* of the chunk reader */
	uint8_t digits;
	uint8_t forbidden;  /* a bit for each refused trailer name that the current one may still become */
	bool done;
	uint64_t content;    /* bytes so far, without framing */
	uint32_t line_bytes; /* of the current chunk-size or trailer line, for the bound */
	uint32_t trailer_bytes;
};

/* Sets body->done at once where nothing follows the head (HTTP_BODY_NONE, or a length of 0). */
void http_body_start(struct http_body *body, const struct http_head *head);

/*
 * Consumes at most `n` bytes that belong to the body. Returns how many do (fewer than `n` when the body ends:
 * body->done is set then), or -1 and `*why` when chunked framing is broken (bad size, bare LF or CR, overflow, …).
 */
int64_t http_body_feed(struct http_body *body, const char *bytes, size_t n, const char **why);

/*
 * The same, but no further than the first run of content, which is `*content` (empty when only framing was consumed):
 * what an HTTP/1.0 client, which knows no chunks, is sent of a chunked body. It stops before the first line behind the last
 * chunk, too: what is consumed while http_body_in_trailer() are the lines of the trailer, with the empty one.
 */
int64_t http_body_content(struct http_body *body, const char *bytes, size_t n, struct slice *content, const char **why);

bool http_body_in_trailer(const struct http_body *body);

/* ---- writing ---- */

/*
 * Writes the head of the forwarded message into `out`: the request line in origin-form (or the status line as it was)
 * with HTTP/1.1, the end-to-end fields in their order and spelling, Host from `head->authority` for requests, the
 * framing field of the message as parsed (one Content-Length, or Transfer-Encoding: chunked), `Connection:
 * keep-alive|close` or `Connection: upgrade` with Upgrade when `head->upgrade`, then `lines` and `extra` (zero or more
 * whole field lines with CRLF, or NULL), then the empty line. A request to HTTP/1.0 keeps no hop-by-hop field either.
 * Returns the bytes written, or 0 when `room` is too small.
 */
size_t http_write_request(char *out, size_t room, const struct http_head *head, bool keep_alive, const char *lines,
			  const char *extra);
size_t http_write_response(char *out, size_t room, const struct http_head *head, bool keep_alive, const char *lines,
			   const char *extra);

/*
 * The fields that a proxied request is given, as `extra` for http_write_request: x-forwarded-proto and x-request-id
 * unless the client sent them, or they are among the `dropped`; x-envoy-expected-rq-timeout-ms if there is a timeout (not 0) and, last, x-envoy-attempt-count,
 * in place of any that it sent (those are marked in `head` as not to be forwarded). The id is a random UUID of these 128
 * bits (RFC 9562 §5.4).
 */
#define HTTP_PROXY_FIELDS 192
void http_proxy_fields(char out[HTTP_PROXY_FIELDS], struct http_head *head, const char *const *dropped, size_t count,
		       uint64_t timeout_ms, uint64_t random_high, uint64_t random_low);

/*
 * Another attempt with the same head, which has those fields, of `length` bytes with what follows it, and, unless `timeout_ms`
 * is 0, a shorter timeout than it has: returns the head's length now. There is room for HTTP_ATTEMPT_ROOM more bytes.
 */
#define HTTP_ATTEMPT_ROOM 16
size_t http_set_attempt(char *bytes, size_t head, size_t length, unsigned int attempt, uint64_t timeout_ms);

bool http_is_among(const char *name, const char *const *names, size_t count); /* in any case */

/* The fields of these names, in any case, are not forwarded. */
void http_drop_fields(struct http_head *head, const char *const *names, size_t count);

/* "Bad Gateway" for 502; "Unknown" for a status without a registered phrase. */
const char *http_status_phrase(uint16_t status);

/* "Sun, 06 Nov 1994 08:49:37 GMT" (RFC 9110 §5.6.7). `out` holds at least 30 bytes. */
void http_date(char out[32], int64_t unix_seconds);

#endif
