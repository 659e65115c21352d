/* SPDX-License-Identifier: Apache-2.0 */
/* The server name in a TLS ClientHello (RFC 8446 §4.1.2, RFC 6066 §3), from any number of records. Pure. */
#ifndef SLUICE_CLIENT_HELLO_H
#define SLUICE_CLIENT_HELLO_H

#include <stddef.h>

#define CLIENT_HELLO_MAX 16384 /* bytes on the wire, record headers included */

enum client_hello_result {
	CLIENT_HELLO_MORE = 0,     /* incomplete */
	CLIENT_HELLO_OK = 1,       /* `name` holds the server name, lower case */
	CLIENT_HELLO_NO_NAME = 2,  /* complete, without a server name (or an empty one) */
	CLIENT_HELLO_NOT_TLS = -1, /* the first bytes are no TLS handshake record */
	CLIENT_HELLO_BAD = -2,     /* malformed, larger than CLIENT_HELLO_MAX, or a name that is no host name */
};

/* `bytes` holds all that the client sent so far; call again with more after CLIENT_HELLO_MORE. */
enum client_hello_result client_hello_parse(char name[256], const unsigned char *bytes, size_t n);

#endif
