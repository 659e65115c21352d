// SPDX-License-Identifier: Apache-2.0
/* The addresses of one name, and those that it has had: what is remembered of them, and for how long. */
#include <criterion/criterion.h>
#include <string.h>

#include "names/addresses.h"

#define A 1 /* the kind of answer */

static struct addresses addresses;

static void fini(void)
{
	addresses_fini(&addresses);
}

TestSuite(addresses, .fini = fini);

static void number(uint8_t out[16], unsigned int n)
{
	memset(out, 0, 16);
	out[14] = (uint8_t)(n >> 8);
	out[15] = (uint8_t)n;
}

/* An answer of `count` addresses from `first` on; what it lacks leaves at `leave_ms`. */
static void answer(unsigned int first, unsigned int count, uint64_t leave_ms)
{
	uint8_t items[ADDRESSES_MAX][16];
	size_t left_out;

	for (unsigned int i = 0; i < count; i++)
		number(items[i], first + i);
	addresses_answer(&addresses, A, (const uint8_t(*)[16])items, count, leave_ms, &left_out);
	cr_assert_eq(left_out, 0);
}

static bool is_former(unsigned int n, uint64_t now_ms)
{
	uint8_t wanted[16];
	size_t count;
	const uint8_t (*former)[16] = addresses_former(&addresses, now_ms, &count);

	number(wanted, n);
	for (size_t i = 0; i < count; i++)
		if (!memcmp(former[i], wanted, 16))
			return true;
	return false;
}

static size_t former_count(uint64_t now_ms)
{
	size_t count;

	addresses_former(&addresses, now_ms, &count);
	return count;
}

Test(addresses, one_is_former_from_the_end_of_its_grace_for_a_day)
{
	answer(1, 1, 0);
	answer(2, 1, 1000);
	addresses_expire(&addresses, 999);
	cr_expect_not(is_former(1, 999), "its grace lasts");
	addresses_expire(&addresses, 1000);
	cr_expect(is_former(1, 1000));
	cr_expect_not(is_former(2, 1000));
	cr_expect(is_former(1, 1000 + FORMER_MS - 1));
	cr_expect_not(is_former(1, 1000 + FORMER_MS));
}

Test(addresses, one_that_comes_back_is_former_no_more_and_has_a_whole_day_when_it_leaves_again)
{
	answer(1, 1, 0);
	answer(2, 1, 1000);
	addresses_expire(&addresses, 1000);
	answer(1, 1, 5000);
	cr_expect_not(is_former(1, 2000));
	addresses_expire(&addresses, 5000);
	answer(2, 1, 9000);
	addresses_expire(&addresses, 9000);
	cr_expect(is_former(1, 9000 + FORMER_MS - 1));
}

Test(addresses, one_that_made_room_within_its_grace_is_former)
{
	answer(1, ADDRESSES_MAX, 0);
	answer(2, ADDRESSES_MAX, 1000);
	cr_expect(is_former(1, 1));
}

Test(addresses, of_more_than_the_bound_the_oldest_are_forgotten)
{
	for (unsigned int i = 0; i < FORMER_MAX + 2; i++) {
		answer(1 + i, 1, i + 1);
		addresses_expire(&addresses, i + 1);
	}
	cr_expect_eq(former_count(FORMER_MAX + 2), FORMER_MAX);
	cr_expect_not(is_former(1, FORMER_MAX + 2));
	cr_expect(is_former(2, FORMER_MAX + 2));
	cr_expect(is_former(FORMER_MAX + 1, FORMER_MAX + 2));
}

Test(addresses, one_that_is_remembered_twice_counts_once)
{
	uint8_t one[16];

	number(one, 1);
	addresses_remember(&addresses, one, 10);
	addresses_remember(&addresses, one, 20);
	cr_expect_eq(former_count(0), 1);
	cr_expect(is_former(1, 15), "by the later time");
}

/* An answer of these, each below 256, of the kind `bit`. */
static size_t answer_of(uint8_t bit, const char *numbers, uint64_t leave_ms)
{
	uint8_t items[ADDRESSES_MAX][16];
	size_t left_out, count = strlen(numbers);

	for (size_t i = 0; i < count; i++)
		number(items[i], (unsigned int)numbers[i]);
	addresses_answer(&addresses, bit, (const uint8_t(*)[16])items, count, leave_ms, &left_out);
	return left_out;
}

static void expect_these(const char *numbers)
{
	char found[ADDRESSES_MAX + 1] = "";

	for (size_t i = 0; i < addresses.count; i++)
		found[i] = (char)addresses.list[i][15];
	cr_expect_str_eq(found, numbers);
}

Test(addresses, they_are_sorted_and_each_once_whatever_the_order_of_answers)
{
	answer_of(A, "dbb", 0);
	expect_these("bd");
	answer_of(2, "caeb", 0);
	expect_these("abcde");
}

Test(addresses, each_leaves_at_its_own_time)
{
	answer_of(A, "bd", 0);
	answer_of(A, "c", 1000);
	cr_expect_eq(addresses_next_expiry(&addresses), 1000);
	answer_of(A, "ace", 2000);
	cr_expect_eq(addresses_next_expiry(&addresses), 1000);
	answer_of(A, "ae", 3000);
	expect_these("abcde");
	addresses_expire(&addresses, 2999);
	expect_these("ace");
	addresses_expire(&addresses, 3000);
	expect_these("ae");
	cr_expect_eq(addresses_next_expiry(&addresses), UINT64_MAX);
}

Test(addresses, what_another_kind_of_answer_has_stays)
{
	answer_of(A, "ab", 0);
	answer_of(2, "bc", 0);
	answer_of(A, "", 1000);
	addresses_expire(&addresses, 1000);
	expect_these("bc");
}

/* An address that is in the answer again is no room for a new one before it. */
Test(addresses, those_that_stay_make_no_room_for_new_ones)
{
	uint8_t others[ADDRESSES_MAX - 1][16];
	size_t left_out;

	for (unsigned int i = 0; i < ADDRESSES_MAX - 1; i++)
		number(others[i], 101 + i);
	addresses_answer(&addresses, 2, (const uint8_t(*)[16])others, ADDRESSES_MAX - 1, 0, &left_out);
	answer_of(A, "\x64", 0);
	answer_of(A, "", 1000); /* 100 is about to leave, and the only one */
	cr_expect_eq(answer_of(A, "\x01\x64", 2000), 1);
	cr_expect_eq(addresses.count, ADDRESSES_MAX);
	cr_expect_eq(addresses.list[0][15], 100, "it stays, and 1 is left out");
}
