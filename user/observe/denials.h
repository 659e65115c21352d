/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The log of denials: one line for each distinct one (workload, process, destination, reason), again after a minute
 * with the number of repeats; at most so many lines a second, and a line that says how many were left out.
 */
#ifndef SLUICE_DENIALS_H
#define SLUICE_DENIALS_H

#include <stdint.h>

#include "abi.h"

struct denials;

struct denials *denials_new(void);
void denials_free(struct denials *denials); /* accepts NULL */

/* `origin`: what set the workload's mode ("file:line EgressPolicy/name"). Other verdicts than DENY (or would-be) are ignored. */
void denials_see(struct denials *denials, const struct flow_event *event, const char *origin);

/* A new generation: what is denied now is news again. */
void denials_forget(struct denials *denials);

#endif
