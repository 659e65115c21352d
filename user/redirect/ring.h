/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Consistent hashing (DestinationRule loadBalancer.consistentHash): addresses at many points of a ring of 64-bit hashes; a
 * key belongs to the next point from its hash on. An address that comes takes its part of the keys from the others, one
 * that goes leaves its own to them; no other key moves.
 */
#ifndef SLUICE_RING_H
#define SLUICE_RING_H

#include <stddef.h>
#include <stdint.h>

struct ring_address {
	uint8_t addr[16];
	uint16_t port;
	uint32_t weight;
};

struct ring_point {
	uint64_t hash;
	uint32_t address; /* index */
};

struct ring {
	struct ring_point *points; /* by hash */
	size_t point_count;
	struct ring_address *addresses;
	size_t address_count;
};

uint64_t ring_hash(const void *bytes, size_t length);

/* At least `size` points, shared among the addresses by weight (each at least 1). Never NULL. */
struct ring *ring_new(const struct ring_address *addresses, size_t count, uint32_t size);
void ring_free(void *ring); /* accepts NULL */

/* The place of a key's point; the next ones follow it, round the ring. `ring` has points. */
size_t ring_find(const struct ring *ring, uint64_t hash);

#endif
