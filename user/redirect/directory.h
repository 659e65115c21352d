/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The names that clients show for services of resolution DYNAMIC_DNS, and what the loader said of them. Workers look names up
 * and ask for new ones; the main thread asks the loader and publishes what it answers.
 */
#ifndef SLUICE_DIRECTORY_H
#define SLUICE_DIRECTORY_H

#include "redirect/internal.h"
#include "redirect/packet.h"

/* Counted: the directory has one reference, and each connection to it. */
struct dynamic_name {
	atomic_uint references;
	atomic_bool is_used; /* since the loader was told last */
	_Atomic(struct addresses *) addresses; /* NULL: no answer yet */
	/* The main thread's: */
	uint32_t workload; /* who named it first */
	bool is_answered;
	uint64_t told_ms;  /* when the loader was told of it last */
	uint64_t until_ms; /* when it leaves; 0: when the loader says so */
	char host[];
};

/* ---- workers ---- */

/* Held; NULL: nobody asked for it yet. */
struct dynamic_name *directory_find(const char *host);
void dynamic_name_release(struct dynamic_name **name); /* of NULL, too */
/* Has the main thread ask for it. False: there is no room. */
bool directory_want(struct worker *worker, uint32_t workload, const char *host);

/* ---- the main thread ---- */

void directory_take_questions(uint64_t now_ms); /* of all workers */
void directory_answer(const struct published_name *name, uint64_t now_ms);
void directory_gone(const char *host);
void directory_tick(uint64_t now_ms); /* every second */
void directory_new_loader(uint64_t now_ms); /* it knows nothing of what is known here */
void directory_publish(void); /* what the calls above changed, once for all */

/* server.c: false if the loader cannot be told now. */
bool server_ask(const struct ask_message *message, const char *host);

#endif
