/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Names: keeps the addresses of a set of DNS names current (c-ares). TTLs are honoured between a floor and a
 * ceiling, with jitter; an address stays for a grace time after it left the answer; the last good answer stays
 * when the resolver fails; failures retry with back-off. Runs on the caller's loop; never blocks.
 */
#ifndef SLUICE_NAMES_H
#define SLUICE_NAMES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "base/loop.h"
#include "config/config.h"

struct names;

/* Called when the address set of `host` changed. The addresses are read with names_get(). */
typedef void (*names_changed)(void *context, const char *host);
/* Called when a round of questions about `host`, which has no address, brought none. */
typedef void (*names_empty)(void *context, const char *host);
/* Whether an address in an answer about `host` may be used. */
typedef bool (*names_admits)(void *context, const char *host, const uint8_t address[16]);
/* Called with each socket the resolver makes, so that the owner can mark it. 0, or -errno to refuse the socket. */
typedef int (*names_socket)(void *context, int fd);

struct names_options {
	const char *resolv_conf;     /* NULL: /etc/resolv.conf */
	uint32_t ttl_floor_s;        /* 0: 5 */
	uint32_t ttl_ceiling_s;      /* 0: 300 */
	uint32_t grace_s;            /* 0: 60 */
	uint32_t retry_floor_s;      /* 0: 1; doubles up to the ceiling while the resolver fails */
	uint32_t questions;          /* names asked at a time; 0: 64 */
	bool quiet;                  /* whose names they are is not ours to say: no word of one that fails in the log */
	names_changed changed;
	names_empty empty;           /* NULL: nobody waits for that */
	names_admits admits;         /* NULL: all */
	names_socket socket;
	void *context;
};

/* 0 or -errno. */
int names_new(struct names **out, struct loop *loop, const struct names_options *options);
void names_free(struct names *names); /* accepts NULL */

/* The set of names wanted from now on: new ones are asked at once, dropped ones forgotten. */
void names_want(struct names *names, const struct string_list *hosts);
/* The same for a single name that is not wanted yet, or is. Not from within `admits`. */
void names_add(struct names *names, const char *host);
void names_drop(struct names *names, const char *host);

/* Canonical addresses of `host`, borrowed until the next names_* call or callback; NULL and 0 if none is known. */
const uint8_t (*names_get(struct names *names, const char *host, size_t *count))[16];

/* Addresses that have left the answers about `host` within a day; borrowed likewise. They admit nothing new. */
const uint8_t (*names_former(struct names *names, const char *host, size_t *count))[16];
/* What an earlier loader knew as an address of `host`, which is wanted: a former one until an answer has it. */
void names_adopt(struct names *names, const char *host, const uint8_t address[16]);

/* How many names got no answer in their last round; `host` (borrowed, as names_get's) and `why` are of one of them. */
size_t names_failing(const struct names *names, const char **host, const char **why);

/* True once every wanted name has had its first answer or its first failure. */
bool names_settled(const struct names *names);

struct name_status {
	const char *host;
	size_t address_count;
	const char *error;      /* of the last attempt, or NULL */
	uint64_t next_in_ms;
};
size_t names_status(const struct names *names, struct name_status *out, size_t room); /* how many there are */

#define RESOLV_CONF "/etc/resolv.conf"

/* The nameserver addresses (canonical) in a resolv.conf, loopback ones included. -errno if unreadable. */
int names_resolvers(const char *resolv_conf, uint8_t (*out)[16], size_t room, size_t *count);

#endif
