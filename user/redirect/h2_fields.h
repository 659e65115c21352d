/* SPDX-License-Identifier: Apache-2.0 */
/*
 * HTTP/2's field blocks as HTTP/1.1 heads, and the other way round (RFC 9113 §8.2, §8.3). What could be read in two ways
 * once it is text is refused here. No I/O; buffers are the worker's.
 */
#ifndef SLUICE_H2_FIELDS_H
#define SLUICE_H2_FIELDS_H

#include <nghttp2/nghttp2.h>

#include "redirect/internal.h"

/* Bytes of a block's text. */
struct h2_span {
	uint32_t start, length;
	bool present;
};

/* A field block while it is received. */
struct h2_block {
	struct buffer *text; /* the values of pseudo-fields, Host and Content-Length; lines of the others */
	struct buffer *lines, *cookies;
	struct h2_span method, scheme, path, authority, status, host, length;
	unsigned int count;
	uint16_t grpc_answer; /* what grpc-status stands for; 0: there is none */
	bool is_grpc, is_malformed, is_too_large;
};

/* Text at the end of a buffer, which grows once. False: it is full for good. */
bool h2_append(struct worker *worker, struct buffer **buffer, const char *bytes, size_t n);

void h2_block_add(struct worker *worker, struct h2_block *block, struct slice name, struct slice value);
void h2_block_drop(struct worker *worker, struct h2_block *block);

/*
 * The head that the block stands for, as HTTP/1.1 would have it, with its framing: chunks if the length is not told, or if
 * it is gRPC, whose trailers must not get lost. `ended`: nothing follows. NULL: it is malformed or too large, as the block
 * says then. The block is empty afterwards.
 */
struct buffer *h2_request_head(struct worker *worker, struct h2_block *block, bool ended, enum http_framing *framing);
struct buffer *h2_response_head(struct worker *worker, struct h2_block *block, bool ended, enum http_method request,
				enum http_framing *framing);
struct buffer *h2_trailer(struct worker *worker, struct h2_block *block); /* the lines, with the empty one */

/*
 * The fields of a message; `names` (a large buffer) holds their names in small letters. Returns how many; 0: there are more
 * than H2_MAX_FIELDS, or there is no room for their names. `length` (or NULL): of a body in chunks, if it is known.
 */
#define H2_MAX_FIELDS (HTTP_MAX_FIELDS + 5)
size_t h2_request_fields(nghttp2_nv out[H2_MAX_FIELDS], const struct http_head *head, const char *scheme, const uint64_t *length,
			 struct buffer *names);
size_t h2_response_fields(nghttp2_nv out[H2_MAX_FIELDS], const struct http_head *head, const uint64_t *length, struct buffer *names);
size_t h2_trailer_fields(nghttp2_nv out[H2_MAX_FIELDS], const char *lines, size_t n, struct buffer *names);

#endif
