/* SPDX-License-Identifier: Apache-2.0 */
/* After a policy change: the open sockets that it forbids are ended. And what is older than a backstop lives on. */
#ifndef SLUICE_TIGHTEN_H
#define SLUICE_TIGHTEN_H

#include "kernel/kernel.h"
#include "workload/workloads.h"

/*
 * Judges every open socket of the governed namespaces by the tables in force (DESIGN §7): direct ones, and upstream ones
 * of the redirector, which judges its own clients. How many were destroyed; what fails is logged.
 */
unsigned int tighten(struct kernel *kernel, const struct workloads *workloads, uint16_t redirector_port);

/* Connections that a namespace's servers accepted before its backstop was there count as begun inbound. */
void tighten_spare_accepted(struct kernel *kernel, uint64_t netns, int netns_fd);

#endif
