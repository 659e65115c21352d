/* SPDX-License-Identifier: Apache-2.0 */
/* Ownership helpers: scope-bound cleanup, moved ownership, and an arena whose contents die together. */
#ifndef SLUICE_MEMORY_H
#define SLUICE_MEMORY_H

#include <stddef.h>
#include <stdarg.h>
#include <stdlib.h>
#include <unistd.h>

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))

static inline void cleanup_free(void *p)
{
	free(*(void **)p);
}

static inline void cleanup_close(const int *fd)
{
	if (*fd >= 0)
		close(*fd);
}

#define _cleanup_free_ __attribute__((cleanup(cleanup_free)))
#define _cleanup_close_ __attribute__((cleanup(cleanup_close)))

#define TAKE_PTR(p)                    \
	({                             \
		__typeof__(p) taken_ = (p); \
		(p) = NULL;            \
		taken_;                \
	})
#define TAKE_FD(fd)                \
	({                         \
		int taken_ = (fd); \
		(fd) = -1;         \
		taken_;            \
	})

/* Allocation failure in user space ends the process: the kernel side keeps enforcing without it. */
void *xcalloc(size_t n, size_t size);
void *xrealloc(void *p, size_t n, size_t size);
char *xstrdup(const char *s);
char *xasprintf(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Appends to a growing array `items` of `count` elements with room for `capacity`; yields the new element. */
#define array_append(items, count, capacity)                                               \
	({                                                                                 \
		if ((count) == (capacity)) {                                               \
			(capacity) = (capacity) ? (capacity) * 2 : 8;                      \
			(items) = xrealloc((items), (capacity), sizeof(*(items)));         \
		}                                                                          \
		memset(&(items)[(count)], 0, sizeof(*(items)));                            \
		&(items)[(count)++];                                                       \
	})

struct arena;
struct arena *arena_new(void);
void arena_free(struct arena *arena); /* accepts NULL */
void *arena_alloc(struct arena *arena, size_t n, size_t size); /* zeroed, never NULL */
char *arena_strdup(struct arena *arena, const char *s);
char *arena_strndup(struct arena *arena, const char *s, size_t n);
char *arena_printf(struct arena *arena, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* As array_append, in an arena; the outgrown copy stays in the arena until it dies. */
#define arena_append(arena, items, count, capacity)                                        \
	({                                                                                 \
		if ((count) == (capacity)) {                                               \
			size_t grown_ = (capacity) ? (size_t)(capacity) * 2 : 4;           \
			__typeof__(items) moved_ = arena_alloc((arena), grown_, sizeof(*(items))); \
			if (count)                                                         \
				memcpy((void *)moved_, (items), (size_t)(count) * sizeof(*(items))); \
			(items) = moved_;                                                  \
			(capacity) = grown_;                                               \
		}                                                                          \
		&(items)[(count)++];                                                       \
	})

#endif
