/* SPDX-License-Identifier: Apache-2.0 */
/*
 * HTTP/2 (RFC 9113), by nghttp2: each stream is the end of a connection that speaks HTTP/1.1 to the rest of the redirector,
 * so that one reader judges all requests, and one exchange carries them. A client's session hangs on the connection that was
 * accepted, and each of its streams is a connection without a client's descriptor (`owner`: the accepted one). A session
 * with a server hangs on a connection of its own, whose owner is the client's; requests of that client share it.
 */
#ifndef SLUICE_H2_H
#define SLUICE_H2_H

#include <sys/uio.h>

#include "redirect/internal.h"

#define H2_PREFACE "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

/* ---- sessions ---- */

void h2_begin(struct conn *conn); /* its client has sent the preface, or the beginning of what follows 101 */
/* The request at the start of conn->from_client asks for HTTP/2. False: it goes on in HTTP/1.1. */
bool h2_upgrade(struct conn *conn, const struct http_head *head);
enum step h2_step(struct conn *conn);
void h2_timeout(struct conn *conn);
void h2_end_session(struct conn *conn); /* accepts one without */
size_t h2_memory(const struct conn *conn); /* of its session or its streams */

/* ---- streams, as ends of connections ---- */

/* As recv() and sendmsg(). ECONNRESET: the peer has reset the stream, or the session is gone. */
ssize_t h2_receive(struct end *end, void *out, size_t room);
ssize_t h2_send(struct end *end, const struct iovec *parts, size_t count);
/* The connection needs it no more. `complete`: all was said; otherwise it is reset if anything is open. */
void h2_let_go(struct end *end, bool complete);
/*
 * Its message, whose head was read just now, goes on in HTTP/2, too. A body of a length that is told comes in chunks then: only
 * behind these a trailer has its place. The length is told nevertheless.
 */
void h2_keep_trailer(struct end *end, struct http_head *head);
bool h2_was_refused(const struct end *end); /* the server has not acted on the request (RFC 9113 §8.7) */
bool h2_was_reset(const struct end *end);   /* by the server, whose session goes on */
bool h2_was_malformed(const struct end *end); /* what the server has answered */
uint16_t h2_grpc_answer(const struct end *end); /* what grpc-status in its trailer stands for; 0: there is none */

/* ---- upstream ---- */

bool h2_is_spoken(const struct conn *conn, const struct service *to); /* to the server; NULL: the original destination */
void h2_connected(struct conn *conn);  /* its open upstream connection becomes a session with one stream */
/* One that has room, with conn->addr and conn->port, or `anywhere` that its service is; or NULL. */
struct h2_session *h2_session_for(const struct conn *conn, bool anywhere);
void h2_where(struct conn *conn, const struct h2_session *session); /* its address becomes the connection's */
void h2_join(struct conn *conn, struct h2_session *session);
bool h2_makes_way(struct h2_session *session); /* for others, who wait for its connection */
bool h2_dials(const struct conn *conn);      /* its upstream connection is being made */
bool h2_is_dialled(const struct conn *conn); /* such a session is being made */
void h2_wake_waiting(struct conn *conn);     /* those that wait for one */
/* With it the tries of those that wait for it. `why`: of EPROTO, else NULL. */
void h2_dial_failed(struct conn *conn, int error, const char *why);
/* A finished stream's connection may keep its HTTP/1 upstream connection for a later one. */
bool h2_may_park(const struct conn *conn);
bool h2_is_parked(const struct conn *conn);
void h2_unpark(struct conn *conn, const struct service *to, const char *host);

/* What leads to servers by an earlier table is for requests that are under way: there will be no others. */
void h2_view_changed(struct conn *conn);

#endif
