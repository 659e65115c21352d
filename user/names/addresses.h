/* SPDX-License-Identifier: Apache-2.0 */
/* The addresses of one name: sorted, each once; one that left the answers stays for its grace. */
#ifndef SLUICE_ADDRESSES_H
#define SLUICE_ADDRESSES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ADDRESSES_MAX 64
#define FORMER_MAX 256           /* the oldest makes room */
#define FORMER_MS (24 * 3600000ULL)

struct lease {
	uint64_t until_ms; /* when it leaves; 0: some answer still has it */
	uint8_t answers;   /* a bit for each kind of answer that has it */
};

struct addresses {
	uint8_t (*list)[16];   /* canonical */
	struct lease *leases;  /* of each */
	size_t count;
	size_t capacity;
	/* Those that left: open connections to them live on. Oldest first. */
	uint8_t (*former)[16];
	uint64_t *former_until_ms;
	size_t former_count, former_capacity;
};

/*
 * Takes a new answer of the kind `bit`: what it no longer has leaves at `leave_ms`, what is new is there at once, in
 * place of one that leaves if there is no room. True if the set changed; `left_out`: how many found no room.
 */
bool addresses_answer(struct addresses *addresses, uint8_t bit, const uint8_t (*answer)[16], size_t count,
		      uint64_t leave_ms, size_t *left_out);

bool addresses_expire(struct addresses *addresses, uint64_t now_ms);      /* true if the set changed */
uint64_t addresses_next_expiry(const struct addresses *addresses);        /* UINT64_MAX: none leaves */
void addresses_remember(struct addresses *addresses, const uint8_t address[16], uint64_t until_ms); /* as a former one */
/* Those that left and are not back, until they are forgotten. Borrowed until the next call for the same name. */
const uint8_t (*addresses_former(struct addresses *addresses, uint64_t now_ms, size_t *count))[16];
void addresses_fini(struct addresses *addresses);

#endif
