// SPDX-License-Identifier: Apache-2.0
#include "redirect/ring.h"

#include <stdlib.h>
#include <string.h>

#include "base/memory.h"

#define MANY_POINTS 262144

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

/* weight × 2^power, rounded up: everybody has a point. */
static uint64_t points_of(uint64_t weight, int power)
{
	return power >= 0 ? weight << power : (weight + (1ULL << -power) - 1) >> -power;
}

/*
 * 1024 points for each unit of weight; fewer where they would be too many, more where `size` is more. As long as the
 * power stays, an address that comes or goes changes nobody else's points.
 */
static int power_for(uint64_t weights, uint32_t size)
{
	int power = 10;

	while (points_of(weights, power) > MANY_POINTS && power > -32)
		power--;
	while (points_of(weights, power) < size)
		power++;
	return power;
}

struct ring *ring_new(const struct ring_address *addresses, size_t count, uint32_t size)
{
	struct ring *ring = xcalloc(1, sizeof(*ring));
	uint64_t weights = 0;
	int power;

	if (!count)
		return ring;
	ring->addresses = xcalloc(count, sizeof(*addresses));
	memcpy(ring->addresses, addresses, count * sizeof(*addresses));
	ring->address_count = count;
	for (size_t i = 0; i < count; i++)
		weights += addresses[i].weight;
	power = power_for(weights, size);
	ring->points = xcalloc(points_of(weights, power) + count, sizeof(*ring->points));
	for (size_t i = 0; i < count; i++)
		for (uint32_t k = 0; k < points_of(addresses[i].weight, power); k++)
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
