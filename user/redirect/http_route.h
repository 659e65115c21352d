/* SPDX-License-Identifier: Apache-2.0 */
/* Which rule of a VirtualService takes a request (ISTIO.md §1.5). Pure. */
#ifndef SLUICE_HTTP_ROUTE_H
#define SLUICE_HTTP_ROUTE_H

#include "policy/policy.h"
#include "redirect/http1.h"

enum route_result {
	ROUTE_OWN,   /* no rule is for this workload and port: the service's own way */
	ROUTE_FOUND,
	ROUTE_NONE,  /* none takes this request: 404 */
};

/* Whether a rule takes a request, and by which of its matches (NULL: it has none, and takes every one). */
enum route_result http_rule_takes(const struct http_route *rule, const struct http_head *head, const struct workload_identity *who,
				  uint16_t port, const struct http_match **match);

/* The first rule that takes a request that `who` sent to `port`, and by which match. `head->path` is normalized. */
enum route_result http_route_find(const struct service *service, const struct http_head *head,
				  const struct workload_identity *who, uint16_t port, const struct service_route **out,
				  const struct http_match **match);

/* How much of the path a rewrite or redirect by that match (NULL: none was asked) stands for. */
size_t http_matched_path(const struct http_match *match, const struct http_head *head);

/* How a request to a registered service is tried again: as its rule says (NULL: it has none), else the mesh, else Istio. */
const struct http_retries *http_retries_for(const struct http_route *rule, const struct mesh *mesh);

enum cors_result {
	CORS_NONE,      /* not asked for, or another origin */
	CORS_RESPONSE,  /* the answer is told that the origin may read it */
	CORS_PREFLIGHT, /* the request is a question, and this is the answer */
	CORS_IGNORED,   /* a question of another origin, which is not passed on */
};

/* What a request from another origin is told, in lines with CRLF; an empty string if nothing. */
enum cors_result http_cors(char *out, size_t room, const struct http_cors *cors, const struct http_head *head);

/* What of the request tells where it goes (consistentHash); a cookie's value. False: it has none of it. */
bool http_hash(const struct balance_settings *balance, const struct http_head *head, uint64_t *hash);

/* For a client that has no such cookie: the line that gives it one, and what it will then be hashed to. */
#define HTTP_COOKIE_ROOM 1100 /* config/balancer.c bounds the parts */
void http_cookie_line(char *out, size_t room, const struct balance_settings *balance, uint64_t value);
uint64_t http_cookie_hash(uint64_t value);

/*
 * Takes "." and ".." out of a path in place, and backslashes for slashes, as Envoy does before it looks for a route, so
 * that no rule is passed by ("%2e" is a dot). Returns the new length; the query behind it moves along.
 */
size_t http_normalize_path(char *path, size_t n);

#endif
