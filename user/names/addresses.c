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

static void forget_former(struct addresses *addresses, size_t at)
{
	size_t after = addresses->former_count - at - 1;

	memmove(addresses->former + at, addresses->former + at + 1, after * sizeof(*addresses->former));
	memmove(addresses->former_until_ms + at, addresses->former_until_ms + at + 1, after * sizeof(*addresses->former_until_ms));
	addresses->former_count--;
}

void addresses_remember(struct addresses *addresses, const uint8_t address[16], uint64_t until_ms)
{
	for (size_t i = 0; i < addresses->former_count; i++) {
		if (memcmp(addresses->former[i], address, 16) == 0) {
			forget_former(addresses, i);
			break;
		}
	}
	if (addresses->former_count == FORMER_MAX)
		forget_former(addresses, 0);
	if (addresses->former_count == addresses->former_capacity) {
		addresses->former_capacity = addresses->former_capacity ? addresses->former_capacity * 2 : 4;
		addresses->former = xrealloc(addresses->former, addresses->former_capacity, sizeof(*addresses->former));
		addresses->former_until_ms =
			xrealloc(addresses->former_until_ms, addresses->former_capacity, sizeof(*addresses->former_until_ms));
	}
	memcpy(addresses->former[addresses->former_count], address, 16);
	addresses->former_until_ms[addresses->former_count++] = until_ms;
}

const uint8_t (*addresses_former(struct addresses *addresses, uint64_t now_ms, size_t *count))[16]
{
	bool present;

	for (size_t i = addresses->former_count; i-- > 0;) {
		position(addresses, addresses->former[i], &present);
		if (present || addresses->former_until_ms[i] <= now_ms)
			forget_former(addresses, i);
	}
	*count = addresses->former_count;
	return (const uint8_t(*)[16])addresses->former;
}

static void remove_at(struct addresses *addresses, size_t at)
{
	size_t after = addresses->count - at - 1;

	/* Its lease tells the time: it has just run out, or would have soon. */
	addresses_remember(addresses, addresses->list[at], addresses->leases[at].until_ms + FORMER_MS);
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
	free(addresses->former);
	free(addresses->former_until_ms);
	*addresses = (struct addresses){0};
}
