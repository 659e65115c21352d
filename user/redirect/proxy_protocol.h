/* SPDX-License-Identifier: Apache-2.0 */
/* The header of the PROXY protocol (haproxy.org, proxy-protocol.txt). */
#ifndef SLUICE_PROXY_PROTOCOL_H
#define SLUICE_PROXY_PROTOCOL_H

#include "config/config.h"

struct end_point {
	uint8_t addr[16]; /* canonical */
	uint16_t port;
};

#define PROXY_HEADER_MAX 108 /* version 1, with the CRLF and a NUL */

/* Returns the header's length. */
size_t proxy_header(unsigned char out[PROXY_HEADER_MAX], enum proxy_protocol version, const struct end_point *from,
		    const struct end_point *to);

#endif
