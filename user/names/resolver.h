/* SPDX-License-Identifier: Apache-2.0 */
/* Asks DNS, after /etc/hosts, on a loop (c-ares). Follows changes of resolv.conf. Keeps no answers. */
#ifndef SLUICE_RESOLVER_H
#define SLUICE_RESOLVER_H

#include <stddef.h>
#include <stdint.h>

#include "base/loop.h"

struct resolver;

struct resolver_answer {
	int family;       /* AF_INET or AF_INET6 */
	int error;        /* 0, also for a name without addresses; -EIO: no answer; -ECANCELED: ask again */
	const char *why;  /* of an error, or of an answer without addresses */
	uint32_t ttl_s;   /* the smallest on the way to the addresses */
	const uint8_t (*addresses)[16]; /* canonical, sorted, each once */
	size_t count;
};

struct resolver_options {
	const char *resolv_conf;
	/* From the loop, resolver_ask() or resolver_free(). May ask, must not free the resolver. */
	void (*answered)(void *context, void *asker, const struct resolver_answer *answer);
	void (*restarted)(void *context); /* resolv.conf changed: what failed may succeed now */
	int (*socket)(void *context, int fd); /* each new socket, before it is connected; not 0: it is not used */
	void *context;
};

int resolver_new(struct resolver **out, struct loop *loop, const struct resolver_options *options);
/* Cancels what was asked. Accepts NULL. */
void resolver_free(struct resolver *resolver);

/* Answers come once for each family, possibly before this returns. */
void resolver_ask(struct resolver *resolver, const char *host, void *asker);

#endif
