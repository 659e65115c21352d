/* SPDX-License-Identifier: Apache-2.0 */
/* After a policy change: the open sockets that it forbids are ended. And what is older than a backstop lives on. */
#ifndef SLUICE_TIGHTEN_H
#define SLUICE_TIGHTEN_H

#include "kernel/kernel.h"
#include "workload/workloads.h"

struct tightened {
	unsigned int destroyed;  /* open connections */
	size_t workloads;        /* that lost them */
	bool unfinished;         /* there are more: call again */
	uint64_t drained_in_ms;  /* then some have had their time: call again; 0: none drains */
};

/*
 * Judges every open socket of the governed namespaces by the tables in force (DESIGN §7): direct ones, and upstream ones
 * of the redirector, which judges its own clients. Ends those that they forbid and that have no time left; what fails is
 * logged.
 */
struct tightened tighten(struct kernel *kernel, const struct workloads *workloads, uint16_t redirector_port);

/*
 * Before these tables and assignments come into force: gives time to what they forbid, where they say so (drain). How many
 * connections have got some.
 */
unsigned int tighten_drain(struct kernel *kernel, const struct workloads *workloads, const struct image *image,
			   const struct assignment *assignments, size_t count, uint16_t redirector_port);

/* Connections that a namespace's servers accepted before its backstop was there count as begun inbound. */
void tighten_spare_accepted(struct kernel *kernel, uint64_t netns, int netns_fd);

#endif
