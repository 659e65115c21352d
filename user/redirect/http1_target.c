// SPDX-License-Identifier: Apache-2.0
/* Where a request goes: its target and the authority of it or of Host. */
#include <arpa/inet.h>
#include <netinet/in.h>

#include "redirect/host_name.h"
#include "redirect/http1_text.h"

static bool is_ipv6(const char *p, size_t n)
{
	char text[INET6_ADDRSTRLEN];
	struct in6_addr address;

	if (n >= sizeof(text))
		return false;
	memcpy(text, p, n);
	text[n] = '\0';
	return inet_pton(AF_INET6, text, &address) == 1;
}

/* 1 to 65535 without leading zeros; 0 for anything else. */
static uint16_t port_of(const char *p, const char *end)
{
	uint32_t port = 0;

	if (p == end || end - p > 5 || *p == '0')
		return 0;
	for (; p < end; p++) {
		if (*p < '0' || *p > '9')
			return 0;
		port = port * 10 + (uint32_t)(*p - '0');
	}
	return port > UINT16_MAX ? 0 : (uint16_t)port;
}

/* host [":" port], no userinfo (RFC 9110 §7.2, §4.2.4). */
const char *http_parse_authority(struct http_head *head, struct slice authority)
{
	const char *p = authority.p, *end = p + authority.n, *host_end;

	if (authority.n && *p == '[') {
		host_end = memchr(p, ']', authority.n);
		if (!host_end || !is_ipv6(p + 1, (size_t)(host_end - p - 1)))
			return "the host in brackets is not an IPv6 address";
		head->host = slice_between(p + 1, host_end++);
	} else {
		host_end = memchr(p, ':', authority.n);
		host_end = host_end ? host_end : end;
		if (!host_name_valid(p, (size_t)(host_end - p)))
			return "the host is not a valid name";
		head->host = slice_between(p, host_end);
	}
	if (host_end < end) {
		if (*host_end != ':')
			return "the host is followed by something else than a port";
		head->port = port_of(host_end + 1, end);
		if (head->port == 0)
			return "the port of the host is not a number from 1 to 65535";
	}
	head->authority = authority;
	return NULL;
}

/* The part after the scheme; 0 if this is no http or https URI. */
static size_t scheme_length(struct slice target)
{
	if (target.n >= 7 && strncasecmp(target.p, "http://", 7) == 0)
		return 7;
	return target.n >= 8 && strncasecmp(target.p, "https://", 8) == 0 ? 8 : 0;
}

static const char *parse_absolute_form(struct http_head *head)
{
	size_t scheme = scheme_length(head->target), n = 0;
	struct slice rest = { head->target.p + scheme, head->target.n - scheme };

	if (scheme == 0)
		return "the request target is neither a path nor an http or https URI";
	while (n < rest.n && rest.p[n] != '/' && rest.p[n] != '?')
		n++;
	if (n < rest.n && rest.p[n] == '?')
		return "the request target has a query but no path";
	head->absolute_form = true;
	if (n < rest.n)
		head->path = (struct slice){ rest.p + n, rest.n - n };
	else
		head->path = (struct slice){ head->method == HTTP_OPTIONS ? "*" : "/", 1 }; /* RFC 9112 §3.2.4 */
	return http_parse_authority(head, (struct slice){ rest.p, n });
}

/* The four forms of RFC 9112 §3.2. */
const char *http_parse_target(struct http_head *head)
{
	struct slice target = head->target;
	const char *why;

	if (head->method == HTTP_CONNECT) {
		why = http_parse_authority(head, target);
		return why ? why : head->port ? NULL : "the target of CONNECT has no port";
	}
	if (target.p[0] != '/' && !(target.n == 1 && target.p[0] == '*'))
		return parse_absolute_form(head);
	if (target.p[0] == '*' && head->method != HTTP_OPTIONS)
		return "\"*\" is a target for OPTIONS only";
	head->path = target;
	return NULL;
}
