/* SPDX-License-Identifier: Apache-2.0 */
/* What `explain` is asked about: a destination as people write it. */
#ifndef SLUICE_QUESTION_H
#define SLUICE_QUESTION_H

#include <stdbool.h>
#include <stdint.h>

#include "abi.h"

#define QUESTION_PATH 2048

enum speaks { SPEAKS_ANYTHING, SPEAKS_HTTP, SPEAKS_TLS, SPEAKS_NEITHER };

struct question {
	char host[SLUICE_HOST_MAX]; /* lower case, no trailing dot, no brackets */
	uint16_t port;              /* host order */
	uint8_t protocol;           /* enum sluice_protocol */
	bool is_address;            /* `host` is the literal of `addr` */
	uint8_t addr[16];
	enum speaks speaks;         /* as the scheme says */
	char authority[SLUICE_HOST_MAX + 8]; /* host and port as a client writes them into Host */
	char path[QUESTION_PATH];   /* of a URL, with its query; "/" if there is none */
};

/* HOST, HOST:PORT, [V6]:PORT, or a URL of http, https, tcp, udp. 0 or -EINVAL. */
int question_parse(struct question *out, const char *text);

#endif
