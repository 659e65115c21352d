// SPDX-License-Identifier: Apache-2.0
#include "names/addresses.h"

#include <string.h>

#include "base/memory.h"

/* Where `address` is, or where it belongs. */
static size_t position(const struct addresses *addresses, const uint8_t address[16], bool *present)
{
	size_t at = 0;
	int order = -1;

	while (at < addresses->count && (order = memcmp(addresses->list[at], address, 16)) < 0)
		at++;
	*present = at < addresses->count && order == 0;
	return at;
}

static void remove_at(struct addresses *addresses, size_t at)
{
	size_t after = addresses->count - at - 1;

	memmove(addresses->list + at, addresses->list + at + 1, after * sizeof(*addresses->list));
	memmove(addresses->leases + at, addresses->leases + at + 1, after * sizeof(*addresses->leases));
	addresses->count--;
}

static void insert_at(struct addresses *addresses, size_t at, const uint8_t address[16], uint8_t bit)
{
	size_t after = addresses->count - at;

	if (addresses->count == addresses->capacity) {
		addresses->capacity = addresses->capacity ? addresses->capacity * 2 : 4;
		addresses->list = xrealloc(addresses->list, addresses->capacity, sizeof(*addresses->list));
		addresses->leases = xrealloc(addresses->leases, addresses->capacity, sizeof(*addresses->leases));
	}
	memmove(addresses->list + at + 1, addresses->list + at, after * sizeof(*addresses->list));
	memmove(addresses->leases + at + 1, addresses->leases + at, after * sizeof(*addresses->leases));
	memcpy(addresses->list[at], address, 16);
	addresses->leases[at] = (struct lease){.answers = bit};
	addresses->count++;
}

/* Gives up the address that would leave first. False if none leaves. */
static bool make_room(struct addresses *addresses)
{
	uint64_t first = addresses_next_expiry(addresses);

	for (size_t i = 0; first != UINT64_MAX && i < addresses->count; i++) {
		if (addresses->leases[i].until_ms == first) {
			remove_at(addresses, i);
			return true;
		}
	}
	return false;
}

/* True if the set changed. */
static bool add(struct addresses *addresses, uint8_t bit, const uint8_t address[16], size_t *left_out)
{
	bool present;
	size_t at = position(addresses, address, &present);

	if (present) {
		addresses->leases[at].answers |= bit;
		addresses->leases[at].until_ms = 0;
		return false;
	}
	if (addresses->count == ADDRESSES_MAX) {
		if (!make_room(addresses)) {
			++*left_out;
			return false;
		}
		at = position(addresses, address, &present);
	}
	insert_at(addresses, at, address, bit);
	return true;
}

bool addresses_answer(struct addresses *addresses, uint8_t bit, const uint8_t (*answer)[16], size_t count,
		      uint64_t leave_ms, size_t *left_out)
{
	bool changed = false;

	*left_out = 0;
	for (size_t i = 0; i < addresses->count; i++) {
		struct lease *lease = &addresses->leases[i];

		if (lease->answers == bit)
			lease->until_ms = leave_ms;
		lease->answers &= (uint8_t)~bit;
	}
	/* First those that stay, so that none of them makes room for a new one. */
	for (size_t i = 0; i < count; i++) {
		bool present;
		size_t at = position(addresses, answer[i], &present);

		if (present)
			addresses->leases[at] = (struct lease){.answers = addresses->leases[at].answers | bit};
	}
	for (size_t i = 0; i < count; i++)
		changed |= add(addresses, bit, answer[i], left_out);
	return changed;
}

bool addresses_expire(struct addresses *addresses, uint64_t now_ms)
{
	size_t before = addresses->count;

	for (size_t i = addresses->count; i-- > 0;)
		if (addresses->leases[i].until_ms && addresses->leases[i].until_ms <= now_ms)
			remove_at(addresses, i);
	return addresses->count != before;
}

uint64_t addresses_next_expiry(const struct addresses *addresses)
{
	uint64_t first = UINT64_MAX;

	for (size_t i = 0; i < addresses->count; i++)
		if (addresses->leases[i].until_ms && addresses->leases[i].until_ms < first)
			first = addresses->leases[i].until_ms;
	return first;
}

void addresses_fini(struct addresses *addresses)
{
	free(addresses->list);
	free(addresses->leases);
	*addresses = (struct addresses){0};
}
