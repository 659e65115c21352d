/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of HTTP/1 share: the characters of RFC 9110 §5.6, and the reader of targets. */
#ifndef SLUICE_HTTP1_TEXT_H
#define SLUICE_HTTP1_TEXT_H

#include <string.h>
#include <strings.h>

#include "redirect/http1.h"

enum {
	HTTP_TOKEN_CHAR = 1,  /* tchar */
	HTTP_VALUE_CHAR = 2,  /* field values: HTAB, SP, VCHAR, obs-text */
	HTTP_TARGET_CHAR = 4, /* request targets: visible ASCII but '#', which never leaves a client (RFC 3986 §3.5) */
};

extern const uint8_t http_char_class[256];

static inline bool http_is(char c, int class)
{
	return http_char_class[(unsigned char)c] & class;
}

/* The first of [p, end) that is not of the class, or end. */
static inline const char *http_span(const char *p, const char *end, int class)
{
	while (p < end && http_is(*p, class))
		p++;
	return p;
}

static inline struct slice slice_between(const char *p, const char *end)
{
	return (struct slice){ p, (size_t)(end - p) };
}

static inline bool slice_is(struct slice s, const char *text, size_t n)
{
	return s.n == n && strncasecmp(s.p, text, n) == 0;
}

#define SLICE_IS(s, literal) slice_is((s), "" literal, sizeof(literal) - 1)

/* Both return NULL, or what is wrong. They set path, authority, host and port. */
const char *http_parse_authority(struct http_head *head, struct slice authority);
const char *http_parse_target(struct http_head *head);

#endif
