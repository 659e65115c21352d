/* SPDX-License-Identifier: Apache-2.0 */
/*
 * TLS towards a server, for clients that do not speak it (DestinationRule `tls`). One context for each set of files of a
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

/*
 * Begins a session with the server of conn->service, which is to be `host` (a name or an address; a port behind it does not
 * count) unless the service's settings say who.
 */
bool origination_begin(struct conn *conn, const char *host);

enum origination_result { ORIGINATION_AGAIN, ORIGINATION_DONE, ORIGINATION_FAILED };
enum origination_result origination_step(struct conn *conn, char *why, size_t room);

/*
 * Whether what failed just now was ended by the server's alert, and which: with TLS 1.3 it looks at our certificate when the
 * handshake is over for us.
 */
bool origination_refused(const struct conn *conn, char *why, size_t room);

/* Whether the open session, of a connection that was made for `service`, is one for `host`. */
bool origination_is_for(const struct conn *conn, const struct service *service, const char *host);

/* As recv() and sendmsg() without flags that the caller sets; EAGAIN: `end` says what is waited for. */
ssize_t origination_receive(struct end *end, void *out, size_t room);
ssize_t origination_send(struct end *end, const struct iovec *parts, size_t count);
/* Says that no more is sent; what the server still has to say can be received. */
enum origination_result origination_finish(struct end *end);
/* The end will be none that the server could take for that of the data. */
void origination_break(struct end *end);
void origination_end(struct end *end);

#endif
