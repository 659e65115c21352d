// SPDX-License-Identifier: Apache-2.0
/* What an upstream connection begins with before the client's bytes: whom it is from, and for a proxy whom it is to. */
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "redirect/proxy_protocol.h"
#include "redirect/internal.h"

/* ---- proxyProtocol ---- */

typedef int (*name_of_fn)(int fd, struct sockaddr *address, socklen_t *size);

static bool end_point(struct end_point *out, int fd, name_of_fn name_of)
{
	struct sockaddr_in6 in6 = {0};
	struct sockaddr_in in;
	socklen_t size = sizeof(in6);

	if (name_of(fd, (struct sockaddr *)&in6, &size) < 0)
		return false;
	if (in6.sin6_family == AF_UNIX) { /* it has no address: loopback's stands for it */
		*out = (struct end_point){.addr = {[10] = 0xff, [11] = 0xff, [12] = 127, [15] = 1}};
		return true;
	}
	out->port = ntohs(in6.sin6_port); /* of AF_INET at the same place */
	memcpy(out->addr, &in6.sin6_addr, 16);
	if (in6.sin6_family == AF_INET) {
		memcpy(&in, &in6, sizeof(in));
		addr_from_v4(out->addr, &in.sin_addr);
	}
	return true;
}

/*
 * A client that was redirected has loopback's address, on which the redirector listens; the server would have seen the pod's,
 * which is that of our own socket.
 */
bool greeting_proxy_header(struct conn *conn)
{
	int client = (conn->owner ? conn->owner : conn)->client.fd; /* a stream's is the session's */
	struct end_point own, from, to = {.port = conn->record.port};
	unsigned char header[PROXY_HEADER_MAX];
	size_t n;

	if (!end_point(&own, conn->upstream.fd, getsockname))
		return false;
	if (client < 0 || !end_point(&from, client, getpeername))
		from = own;
	if (addr_is_loopback(from.addr))
		memcpy(from.addr, own.addr, 16);
	memcpy(to.addr, conn->record.addr, 16);
	n = proxy_header(header, conn->service->policy.proxy_protocol, &from, &to);
	/* The first bytes of a connection have room. */
	if (send(conn->upstream.fd, header, n, MSG_NOSIGNAL | MSG_DONTWAIT) == (ssize_t)n)
		return true;
	errno = errno == EAGAIN ? ENOBUFS : errno;
	return false;
}

/* ---- tunnel ---- */

#define MAX_INTERIM 16 /* answers that are none, at once: a proxy may send them without end, and others wait meanwhile */

void tunnel_begin(struct conn *conn)
{
	const struct tunnel_settings *tunnel = &conn->service->policy.tunnel;
	const char *open = strchr(tunnel->host, ':') ? "[" : "", *close = *open ? "]" : "";
	struct buffer *request = buffer_get(conn->worker, false);
	char target[SLUICE_HOST_MAX + 16];

	buffer_put(conn->worker, &conn->to_upstream);
	conn->to_upstream = request;
	snprintf(target, sizeof(target), "%s%s%s:%u", open, tunnel->host, close, tunnel->port);
	request->end = (uint32_t)snprintf(request->bytes, request->size, "%s %s HTTP/1.1\r\nhost: %s\r\n%s\r\n",
					  tunnel->posts ? "POST" : "CONNECT", tunnel->posts ? "/" : target, target,
					  tunnel->posts ? "transfer-encoding: chunked\r\n" : "");
	conn->posts = tunnel->posts;
	conn->state = CONN_TUNNEL;
	conn->upstream.readable = true;
}

/* What comes behind the answer is the server's, and goes to the client. */
enum tunnel_result tunnel_step(struct conn *conn)
{
	struct http_head *head = &conn->worker->head;
	int written = end_write(&conn->upstream, conn->to_upstream, &conn->worker->statistics.bytes_to_upstream);
	unsigned int interim = 0;
	const char *why;

	if (written <= 0)
		return written ? TUNNEL_FAILED : TUNNEL_AGAIN;
	for (;;) {
		enum http_result result = HTTP_MORE;
		int got;

		if (buffer_length(conn->from_upstream))
			result = http_parse_response(head, buffer_bytes(conn->from_upstream), buffer_length(conn->from_upstream),
						     conn->posts ? HTTP_POST : HTTP_CONNECT, &why);
		if (result == HTTP_OK) {
			conn->from_upstream->start += (uint32_t)head->bytes;
			if (head->status < 200 && ++interim < MAX_INTERIM)
				continue;
			buffer_put(conn->worker, &conn->to_upstream);
			http_body_start(&conn->response_body, head);
			return head->status / 100 == 2 ? TUNNEL_OPEN : TUNNEL_FAILED;
		}
		if (result != HTTP_MORE || buffer_length(conn->from_upstream) >= SMALL_BUFFER)
			return TUNNEL_FAILED;
		got = end_read(conn->worker, &conn->upstream, &conn->from_upstream);
		if (got <= 0)
			return got ? TUNNEL_FAILED : TUNNEL_AGAIN;
	}
}
