// SPDX-License-Identifier: Apache-2.0
/* The Location of a redirect. Pure. */
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "redirect/http_internal.h"

struct text {
	char *p;
	size_t n, room;
};

static void put(struct text *out, const char *p, size_t n)
{
	if (n < out->room - out->n)
		memcpy(out->p + out->n, p, n);
	out->n = n < out->room - out->n ? out->n + n : out->room;
}

static void put_string(struct text *out, const char *text)
{
	put(out, text, strlen(text));
}

static bool is_given(const char *text)
{
	return text && *text;
}

/* The port to name, or 0. */
static uint16_t port_of(const struct http_redirect *redirect, const char *scheme, uint16_t dialled)
{
	uint16_t port = redirect->port_of_request ? dialled : redirect->port;

	return port == (strcmp(scheme, "https") ? 80 : 443) ? 0 : port;
}

/* The request's own authority; without its port where that would be wrong: another is named, or that of http for https. */
static void put_authority(struct text *out, struct slice authority, const char *scheme, uint16_t port)
{
	const char *colon = authority.n ? memrchr(authority.p, ':', authority.n) : NULL;
	size_t host = colon ? (size_t)(colon - authority.p) : authority.n;
	bool has_port = colon && (authority.p[0] != '[' || (host && colon[-1] == ']'));
	bool is_80 = has_port && authority.n - host == 3 && !memcmp(colon, ":80", 3);

	put(out, authority.p, has_port && (port || (is_80 && strcmp(scheme, "http"))) ? host : authority.n);
}

/* `uri` stands for the path; the query stays unless it brings its own. prefixRewrite stands for the `matched` bytes. */
static void put_path(struct text *out, const struct http_redirect *redirect, struct slice path, size_t matched)
{
	const char *query = path.n ? memchr(path.p, '?', path.n) : NULL;

	if (is_given(redirect->uri)) {
		put_string(out, redirect->uri);
		if (query && !strchr(redirect->uri, '?'))
			put(out, query, (size_t)(path.p + path.n - query));
	} else if (is_given(redirect->prefix_rewrite) && path.n >= matched && path.p[0] == '/') {
		put_string(out, redirect->prefix_rewrite);
		put(out, path.p + matched, path.n - matched);
	} else {
		put(out, path.p, path.n);
	}
}

size_t http_location(char *out, size_t room, const struct http_redirect *redirect, const struct http_head *head, uint16_t port,
		     size_t matched)
{
	const char *scheme = is_given(redirect->scheme) ? redirect->scheme : "http";
	uint16_t named = port_of(redirect, scheme, port);
	struct text text = {out, 0, room};
	char number[8];

	put_string(&text, scheme);
	put_string(&text, "://");
	if (is_given(redirect->authority))
		put_string(&text, redirect->authority);
	else
		put_authority(&text, head->authority, scheme, named);
	if (named) {
		snprintf(number, sizeof(number), ":%u", named);
		put_string(&text, number);
	}
	put_path(&text, redirect, head->path, matched);
	return text.n < room ? text.n : 0;
}
