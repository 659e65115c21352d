/* SPDX-License-Identifier: Apache-2.0 */
/* The addresses of one name: sorted, each once; one that left the answers stays for its grace. */
#ifndef SLUICE_ADDRESSES_H
#define SLUICE_ADDRESSES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ADDRESSES_MAX 64

struct lease {
	uint64_t until_ms; /* when it leaves; 0: some answer still has it */
	uint8_t answers;   /* a bit for each kind of answer that has it */
};

struct addresses {
	uint8_t (*list)[16];   /* canonical */
	struct lease *leases;  /* of each */
	size_t count;
	size_t capacity;
};

/*
 * Takes a new answer of the kind `bit`: what it no longer has leaves at `leave_ms`, what is new is there at once, in
 * place of one that leaves if there is no room. True if the set changed; `left_out`: how many found no room.
 */
bool addresses_answer(struct addresses *addresses, uint8_t bit, const uint8_t (*answer)[16], size_t count,
		      uint64_t leave_ms, size_t *left_out);

bool addresses_expire(struct addresses *addresses, uint64_t now_ms);      /* true if the set changed */
uint64_t addresses_next_expiry(const struct addresses *addresses);        /* UINT64_MAX: none leaves */
void addresses_fini(struct addresses *addresses);

#endif
