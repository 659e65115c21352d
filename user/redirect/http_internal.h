/* SPDX-License-Identifier: Apache-2.0 */
/* Between http.c and http_exchange.c. */
#ifndef SLUICE_HTTP_INTERNAL_H
#define SLUICE_HTTP_INTERNAL_H

#include "config/config.h"
#include "redirect/http_route.h"
#include "redirect/internal.h"

#define OWN_FIELDS_ROOM (HTTP_COOKIE_ROOM + 128)
#define CORS_ROOM (SMALL_BUFFER - OWN_FIELDS_ROOM)

/* What the server is told of how long this try is waited for; 0: for ever. */
uint64_t http_expected_ms(const struct conn *conn);

const struct http_retries *http_retries_of(const struct conn *conn); /* of its rule, else the mesh's or Istio's */

/*
 * The lines that `ops` (NULL: none) gives a message, with what its variables stand for. Of the heads, what is not at hand
 * is NULL; `status` is the response's. `*scratch` is theirs, if it was needed: the caller puts it back.
 */
const char *header_lines(struct conn *conn, const struct header_ops *ops, const struct http_head *request,
			 const struct http_head *response, uint16_t status, struct buffer **scratch);

/* mirror.c: copies of a request that the rule wants, once it is sure to be sent; then each checked part of its body. */
void mirror_begin(struct conn *conn);
void mirror_feed(struct conn *conn, const char *bytes, size_t length);

enum step http_exchange_step(struct conn *conn);
void http_next_request(struct conn *conn);
bool http_worth_parsing(const struct conn *conn, const struct buffer *buffer);

/*
 * Where a request, dialled on `port`, is redirected to, as Istio and Envoy compose it (applyRedirect, newUri). Returns the
 * length; 0: it does not fit `room`. `matched`: how much of its path the rule has asked for.
 */
size_t http_location(char *out, size_t room, const struct http_redirect *redirect, const struct http_head *head, uint16_t port,
		     size_t matched);

#endif
