// SPDX-License-Identifier: Apache-2.0
/* The ring of consistentHash: an even part of the keys for everybody, and no key that moves without need. */
#include <criterion/criterion.h>
#include <string.h>

#include "redirect/ring.h"

#define KEYS 20000

#define SIZE 1024

static struct ring_address address(uint8_t n, uint32_t weight)
{
	struct ring_address one = {.port = 80, .weight = weight};

	one.addr[15] = n;
	return one;
}

static struct ring *ring_of(uint8_t count, uint32_t size)
{
	struct ring_address items[16];

	for (uint8_t i = 0; i < count; i++)
		items[i] = address(i, 1);
	return ring_new(items, count, size);
}

static uint8_t owner(const struct ring *ring, uint32_t key)
{
	uint64_t hash = ring_hash(&key, sizeof(key));

	return ring->addresses[ring->points[ring_find(ring, hash)].address].addr[15];
}

Test(ring, keys_are_spread_evenly)
{
	struct ring *ring = ring_of(4, 4096);
	unsigned int of[4] = {0};

	for (uint32_t key = 0; key < KEYS; key++)
		of[owner(ring, key)]++;
	for (int i = 0; i < 4; i++)
		cr_expect(of[i] > KEYS / 4 * 9 / 10 && of[i] < KEYS / 4 * 11 / 10, "address %d has %u keys of %d", i, of[i], KEYS);
	ring_free(ring);
}

Test(ring, keys_follow_the_weights)
{
	struct ring_address items[] = {address(0, 3), address(1, 1)};
	struct ring *ring = ring_new(items, 2, 4096);
	unsigned int of[2] = {0};

	for (uint32_t key = 0; key < KEYS; key++)
		of[owner(ring, key)]++;
	cr_expect(of[0] > KEYS * 7 / 10 && of[0] < KEYS * 8 / 10, "three parts of four, not %u of %d", of[0], KEYS);
	ring_free(ring);
}

Test(ring, an_address_that_comes_takes_its_part_and_moves_nothing_else)
{
	struct ring *four = ring_of(4, SIZE), *five = ring_of(5, SIZE);
	unsigned int moved = 0;

	for (uint32_t key = 0; key < KEYS; key++) {
		uint8_t before = owner(four, key), after = owner(five, key);

		moved += after == 4;
		cr_assert(after == 4 || after == before, "key %u goes from %u to %u", key, before, after);
	}
	cr_expect(moved > KEYS / 5 * 9 / 10 && moved < KEYS / 5 * 11 / 10, "a fifth moves, not %u of %d", moved, KEYS);
	ring_free(four);
	ring_free(five);
}

Test(ring, the_order_of_the_addresses_does_not_matter)
{
	struct ring_address ahead[] = {address(0, 1), address(1, 1), address(2, 1)}, back[] = {address(2, 1), address(1, 1), address(0, 1)};
	struct ring *one = ring_new(ahead, 3, 1024), *other = ring_new(back, 3, 1024);

	for (uint32_t key = 0; key < KEYS; key++)
		cr_assert_eq(owner(one, key), owner(other, key));
	ring_free(one);
	ring_free(other);
}

Test(ring, it_has_a_point_for_everybody_and_none_for_nobody)
{
	struct ring *ring = ring_of(16, 1), *empty = ring_new(NULL, 0, 1024);

	cr_expect_eq(ring->point_count, 16 * 1024);
	cr_expect_eq(empty->point_count, 0);
	cr_expect_eq(ring_find(ring, UINT64_MAX), 0, "the last point is followed by the first");
	ring_free(ring);
	ring_free(empty);
}
