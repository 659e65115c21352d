/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Proof of life: a network namespace in which nobody lives but a listener, and whose workload may do nothing (the rule set
 * WORKLOAD_CANARY, part of every generation). What must be refused there is tried, and so is the same from a socket with
 * sluice's own mark, which must succeed: so what refused was a hook, by the very programs and tables of every workload.
 */
#ifndef SLUICE_CANARY_H
#define SLUICE_CANARY_H

#include <stddef.h>
#include <stdint.h>

#include "kernel/kernel.h"

struct canary;

/* The namespace is made by the first check. */
struct canary *canary_new(struct kernel *kernel, uint16_t redirector_port);
void canary_free(struct canary *canary); /* accepts NULL */

/* 0: all was refused that must be. -errno with `why`. Takes about a millisecond; when nothing is as it should be, seconds. */
int canary_check(struct canary *canary, char *why, size_t room);

#endif
