// SPDX-License-Identifier: Apache-2.0
#include "redirect/ring.h"

#include <stdlib.h>
#include <string.h>

#include "base/memory.h"

/* FNV-1a, then mixed: by itself its upper bits follow short keys too closely to spread points over a ring. */
uint64_t ring_hash(const void *bytes, size_t length)
{
	const unsigned char *at = bytes;
	uint64_t hash = 0xcbf29ce484222325ULL;

	for (size_t i = 0; i < length; i++)
		hash = (hash ^ at[i]) * 0x100000001b3ULL;
	hash = (hash ^ hash >> 33) * 0xff51afd7ed558ccdULL;
	hash = (hash ^ hash >> 33) * 0xc4ceb9fe1a85ec53ULL;
	return hash ^ hash >> 33;
}

/* Of an address's point: by nothing but the address and which of its points it is. */
static uint64_t hash_of_point(const struct ring_address *address, uint32_t which)
{
	unsigned char key[22];

	memcpy(key, address->addr, 16);
	memcpy(key + 16, &address->port, 2);
	memcpy(key + 18, &which, 4);
	return ring_hash(key, sizeof(key));
}

static int by_hash(const void *a, const void *b)
{
	const struct ring_point *x = a, *y = b;

	if (x->hash != y->hash)
		return x->hash < y->hash ? -1 : 1;
	return (x->address > y->address) - (x->address < y->address);
}

/* Its share, rounded up, so that everybody has a point. */
static uint32_t points_of(const struct ring_address *address, uint64_t weights, uint32_t size)
{
	return (uint32_t)(((uint64_t)address->weight * size + weights - 1) / weights);
}

struct ring *ring_new(const struct ring_address *addresses, size_t count, uint32_t size)
{
	struct ring *ring = xcalloc(1, sizeof(*ring));
	uint64_t weights = 0;

	if (!count)
		return ring;
	ring->addresses = xcalloc(count, sizeof(*addresses));
	memcpy(ring->addresses, addresses, count * sizeof(*addresses));
	ring->address_count = count;
	for (size_t i = 0; i < count; i++)
		weights += addresses[i].weight;
	ring->points = xcalloc(size + count, sizeof(*ring->points));
	for (size_t i = 0; i < count; i++)
		for (uint32_t k = 0; k < points_of(&addresses[i], weights, size); k++)
			ring->points[ring->point_count++] = (struct ring_point){hash_of_point(&addresses[i], k), (uint32_t)i};
	qsort(ring->points, ring->point_count, sizeof(*ring->points), by_hash);
	return ring;
}

void ring_free(void *of)
{
	struct ring *ring = of;

	if (!ring)
		return;
	free(ring->points);
	free(ring->addresses);
	free(ring);
}

size_t ring_find(const struct ring *ring, uint64_t hash)
{
	size_t low = 0, high = ring->point_count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (ring->points[middle].hash < hash)
			low = middle + 1;
		else
			high = middle;
	}
	return low == ring->point_count ? 0 : low;
}
