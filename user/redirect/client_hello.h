/* SPDX-License-Identifier: Apache-2.0 */
/* The server name in a TLS ClientHello that has come in so far: include/hello.h over a buffer. Pure. */
#ifndef SLUICE_CLIENT_HELLO_H
#define SLUICE_CLIENT_HELLO_H

#include <stddef.h>
#include <stdint.h>

#include "hello.h"

/*
 * `bytes` holds all that the client sent so far; call again with more after CLIENT_HELLO_MORE. CLIENT_HELLO_OK: `name`
 * holds the server name, lower case, without a final dot.
 */
enum client_hello_result client_hello_parse(char name[256], const unsigned char *bytes, size_t n);

#endif
