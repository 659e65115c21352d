/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the fuzzers share. Each file here is one libFuzzer target: it turns bytes into calls of the code as it ships
 * and checks what must hold for any input. A crash, a sanitizer's report and a CHECK that fails are findings.
 */
#ifndef SLUICE_FUZZ_H
#define SLUICE_FUZZ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerInitialize(int *argc, char ***argv);

#define CHECK(holds, ...)                                                            \
	do {                                                                         \
		if (!(holds)) {                                                      \
			fprintf(stderr, "%s:%d: %s: ", __FILE__, __LINE__, #holds);  \
			fprintf(stderr, __VA_ARGS__);                                \
			fputc('\n', stderr);                                         \
			abort();                                                     \
		}                                                                    \
	} while (0)

/* Fuzzer bytes, read front to back; 0 once they are used up. */
struct feed {
	const uint8_t *p;
	size_t n;
};

static inline uint8_t feed_byte(struct feed *feed)
{
	if (!feed->n)
		return 0;
	feed->n--;
	return *feed->p++;
}

static inline uint16_t feed_u16(struct feed *feed)
{
	uint16_t high = feed_byte(feed);

	return (uint16_t)(high << 8 | feed_byte(feed));
}

/* At most `n` bytes in memory of their own, so that ASan sees a read past the end. Free it. */
static inline uint8_t *feed_copy(struct feed *feed, size_t n, size_t *length)
{
	uint8_t *copy;

	*length = n < feed->n ? n : feed->n;
	copy = malloc(*length ? *length : 1);
	if (!copy)
		abort();
	if (*length)
		memcpy(copy, feed->p, *length);
	feed->p += *length;
	feed->n -= *length;
	return copy;
}

#endif
