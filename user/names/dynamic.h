/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Names that clients show below wildcards of resolution DYNAMIC_DNS: looked up when first asked for, kept current while they
 * are in use. Whoever sends requests makes them up. So all of them together are bounded, and each workload may have as many as
 * are still free; where there are none left, who has less than an equal share takes from who has most. What was used last
 * stays: a name makes room for another of its workload once it was idle for as long as an address is let live that leaves DNS.
 */
#ifndef SLUICE_DYNAMIC_H
#define SLUICE_DYNAMIC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "names/names.h"
#include "policy/policy.h"

#define DYNAMIC_NAMES_MAX 4096
#define DYNAMIC_NAMES_OF_WORKLOAD 512
#define DYNAMIC_UNANSWERED_MAX 128 /* of a workload, at a time */
#define DYNAMIC_ADDRESSES_MAX 16   /* of a name; and as many former ones */

struct dynamic_names;

enum dynamic_state { DYNAMIC_PENDING, DYNAMIC_KNOWN, DYNAMIC_NONE, DYNAMIC_REFUSED };

struct dynamic_options {
	const char *resolv_conf; /* NULL: /etc/resolv.conf */
	uint32_t ttl_floor_s, grace_s, empty_s, idle_s; /* 0: 5, 60, 3, 300 */
	void (*changed)(void *context, const char *host); /* its addresses */
	void (*none)(void *context, const char *host);    /* it was looked up and has none */
	void (*gone)(void *context, const char *host);    /* it was forgotten */
	names_socket socket;
	void *context;
};

/* Any thread may read it. */
struct dynamic_statistics {
	uint64_t known;             /* names */
	uint64_t refused;           /* questions, for want of room */
	uint64_t refused_addresses; /* in answers */
};

/* 0 or -errno. */
int dynamic_names_new(struct dynamic_names **out, struct loop *loop, const struct dynamic_options *options);
void dynamic_names_free(struct dynamic_names *dynamic); /* accepts NULL */

/*
 * `host` (lower case, no final dot) is in use by `workload`, by an open connection if `is_held`. PENDING: `changed` or `none`
 * will come.
 */
enum dynamic_state dynamic_names_ask(struct dynamic_names *dynamic, uint32_t workload, const char *host, bool is_held);
/* What an earlier loader knew: looked up anew, `address` is a former one until an answer has it. */
void dynamic_names_adopt(struct dynamic_names *dynamic, const char *host, const uint8_t address[16]);
/* Forgets those that are not `wanted` any more. */
void dynamic_names_retain(struct dynamic_names *dynamic, bool (*wanted)(void *context, const char *host), void *context);

/* As names_get(). */
const uint8_t (*dynamic_names_get(struct dynamic_names *dynamic, const char *host, size_t *count))[16];
/* All of them, borrowed until the next call of anything here. */
struct asked_names dynamic_names_list(struct dynamic_names *dynamic);
void dynamic_names_statistics(const struct dynamic_names *dynamic, struct dynamic_statistics *out);

/*
 * Nobody's service is there, whatever a name says: loopback, the unspecified addresses, link-local ones (metadata services),
 * multicast, reserved ones, and the canary's. A name that has them would turn the redirector, which dials in the pod's
 * namespace, against the pod or the node.
 */
bool dynamic_address_is_special(const uint8_t address[16]);

#endif
