// SPDX-License-Identifier: Apache-2.0
#include "base/memory.h"

#include <stdint.h>
#include <stdio.h>
#include <string.h>

/* Under ASan what an arena gave out is fenced, as malloc() would fence it. */
#ifdef __has_feature
#define IS_FENCED __has_feature(address_sanitizer)
#elif defined(__SANITIZE_ADDRESS__)
#define IS_FENCED 1
#else
#define IS_FENCED 0
#endif
#if IS_FENCED
#include <sanitizer/asan_interface.h>
#define ARENA_FENCE 16
#define ARENA_CHUNK (8 * 1024)
#else
#define ARENA_FENCE 0
#define ARENA_CHUNK (64 * 1024)
#define ASAN_POISON_MEMORY_REGION(p, n) ((void)(p), (void)(n))
#define ASAN_UNPOISON_MEMORY_REGION(p, n) ((void)(p), (void)(n))
#endif

struct chunk {
	struct chunk *next;
	size_t used;
	size_t size;
	_Alignas(16) char bytes[];
};

struct arena {
	struct chunk *chunks;
};

static void out_of_memory(void)
{
	static const char message[] = "sluice: out of memory\n";

	(void)!write(STDERR_FILENO, message, sizeof(message) - 1);
	abort();
}

void *xcalloc(size_t n, size_t size)
{
	void *p = calloc(n ? n : 1, size ? size : 1);

	if (!p)
		out_of_memory();
	return p;
}

void *xrealloc(void *p, size_t n, size_t size)
{
	void *moved = reallocarray(p, n ? n : 1, size ? size : 1);

	if (!moved)
		out_of_memory();
	return moved;
}

char *xstrdup(const char *s)
{
	char *copy = strdup(s);

	if (!copy)
		out_of_memory();
	return copy;
}

char *xasprintf(const char *format, ...)
{
	va_list args;
	char *text;

	va_start(args, format);
	if (vasprintf(&text, format, args) < 0)
		out_of_memory();
	va_end(args);
	return text;
}

struct arena *arena_new(void)
{
	return xcalloc(1, sizeof(struct arena));
}

void arena_free(struct arena *arena)
{
	if (!arena)
		return;
	while (arena->chunks) {
		struct chunk *next = arena->chunks->next;

		free(arena->chunks);
		arena->chunks = next;
	}
	free(arena);
}

void *arena_alloc(struct arena *arena, size_t n, size_t size)
{
	struct chunk *chunk = arena->chunks;
	size_t wanted, bytes;
	void *p;

	if (__builtin_mul_overflow(n, size, &wanted) || wanted > SIZE_MAX / 2)
		out_of_memory();
	bytes = ((wanted + 15) & ~(size_t)15) + ARENA_FENCE;
	if (!chunk || chunk->size - chunk->used < bytes) {
		size_t room = bytes > ARENA_CHUNK ? bytes : ARENA_CHUNK;

		chunk = xcalloc(1, sizeof(*chunk) + room);
		chunk->size = room;
		chunk->next = arena->chunks;
		arena->chunks = chunk;
		ASAN_POISON_MEMORY_REGION(chunk->bytes, room);
	}
	p = chunk->bytes + chunk->used;
	ASAN_UNPOISON_MEMORY_REGION(p, wanted);
	chunk->used += bytes;
	return p;
}

char *arena_strndup(struct arena *arena, const char *s, size_t n)
{
	char *copy = arena_alloc(arena, n + 1, 1);

	memcpy(copy, s, n);
	return copy;
}

char *arena_strdup(struct arena *arena, const char *s)
{
	return arena_strndup(arena, s, strlen(s));
}

char *arena_printf(struct arena *arena, const char *format, ...)
{
	va_list args, again;
	char *text;
	int n;

	va_start(args, format);
	va_copy(again, args);
	n = vsnprintf(NULL, 0, format, args);
	va_end(args);
	if (n < 0)
		out_of_memory();
	text = arena_alloc(arena, (size_t)n + 1, 1);
	vsnprintf(text, (size_t)n + 1, format, again);
	va_end(again);
	return text;
}
