/* SPDX-License-Identifier: Apache-2.0 */
/* After a policy change: the open sockets that it forbids are ended. And what is older than a backstop lives on. */
#ifndef SLUICE_TIGHTEN_H
#define SLUICE_TIGHTEN_H

#include "kernel/kernel.h"
#include "policy/tables.h"
#include "workload/workloads.h"

/*
 * Judges every open socket of the governed namespaces by the tables in force (DESIGN §7): direct ones, and upstream ones
 * of the redirector, which judges its own clients. How many were destroyed; what fails is logged.
 */
unsigned int tighten(struct kernel *kernel, const struct workloads *workloads, uint16_t redirector_port);

/*
 * Before a generation comes into force: what its tables will forbid, of workloads whose new rules give them time to
 * drain, may live on for so long. `tables` are the image's. How many.
 */
unsigned int tighten_drain(struct kernel *kernel, const struct workloads *workloads, uint16_t redirector_port,
			   const struct tables *tables, const struct assignment *assignments, size_t count);

/* Connections that a namespace's servers accepted before its backstop was there count as begun inbound. */
void tighten_spare_accepted(struct kernel *kernel, uint64_t netns, int netns_fd);

#endif
