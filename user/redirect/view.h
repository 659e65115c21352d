/* SPDX-License-Identifier: Apache-2.0 */
/* The main thread's side of what is published (redirect/internal.h). Main thread only. */
#ifndef SLUICE_VIEW_H
#define SLUICE_VIEW_H

#include "redirect/internal.h"

/* Compiles what config_source_pack() put into `memfd`. 0, or -EINVAL with `why`. One reference is the caller's. */
int table_compile(struct table **out, uint64_t generation, int memfd, const char *root_namespace, char *why, size_t room);

void table_take_log(struct table *table, int fd); /* owned by the table, before it is published */

void name_publish(const char *host, const uint8_t (*addresses)[16], size_t count, bool known);

/* Seen by the workers from the next view_publish() on. */
void workload_learn(uint32_t id, const char *strings, size_t length, uint32_t label_count);
void workload_forget(uint32_t id);
bool listener_add(uint64_t cookie, bool v6, int fd); /* false: there is one already, `fd` stays the caller's */
bool listeners_drop(uint64_t cookie);
size_t listeners_count(void);
const struct listener *listeners_get(size_t i);

void view_publish(struct table *table, struct table *previous); /* takes references of its own */
void view_retire_after_next(void *object, void (*destroy)(void *object));
/* For what is published elsewhere: the workers look at it once more; what they can have seen before is destroyed when they did. */
void view_advance(void);
void view_retire(void *object, void (*destroy)(void *object));       /* after view_advance() */
void view_retire_ahead(void *object, void (*destroy)(void *object)); /* before it */
void view_reclaim(void); /* frees what no worker can see any more; call now and then */

#endif
