/* SPDX-License-Identifier: Apache-2.0 */
/*
 * TLS towards a server, for a client that speaks plaintext (DestinationRule `tls`). One context for each set of files of a
 * table; a connection's session hangs on its `struct end`, and no other file looks into it.
 */
#ifndef SLUICE_ORIGINATION_H
#define SLUICE_ORIGINATION_H

#include <sys/uio.h>

#include "redirect/internal.h"

/* Before the process is confined: what OpenSSL sets up once. 0 or -EIO, which is logged. */
int origination_init(void);

/* The contexts of a table's services. 0, or -EINVAL with `why`. */
int origination_bind(struct table *table, char *why, size_t room);
void origination_free(struct table *table);

/* Begins a session with a server that is to be `host` (a name or an address; a port behind it does not count). */
bool origination_begin(struct conn *conn, const char *host);

enum origination_result { ORIGINATION_AGAIN, ORIGINATION_DONE, ORIGINATION_FAILED };
enum origination_result origination_step(struct conn *conn, char *why, size_t room);

/* Whether the open session, of a connection that was made for `service`, is one for `host`. */
bool origination_is_for(const struct conn *conn, const struct service *service, const char *host);

/* As recv() and sendmsg() without flags that the caller sets; EAGAIN: `end` says what is waited for. */
ssize_t origination_receive(struct end *end, void *out, size_t room);
ssize_t origination_send(struct end *end, const struct iovec *parts, size_t count);
void origination_end(struct end *end);

#endif
