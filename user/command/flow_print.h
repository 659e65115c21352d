/* SPDX-License-Identifier: Apache-2.0 */
/* Flow events for people and as JSON: `flows` and `dump flows`. */
#ifndef SLUICE_FLOW_PRINT_H
#define SLUICE_FLOW_PRINT_H

#include "kernel/pins.h"

/* Reads what was recorded since `*next` (1: from the beginning), oldest first. Returns how many were lost. */
__u64 flows_read(const struct flow_event *ring, const __u64 *head, __u64 *next,
		 void (*visit)(void *context, const struct flow_event *event), void *context);

void flow_print(const struct pins *pins, const struct flow_event *event, bool json);

/* Copies hostile text: whatever is not printable ASCII becomes '?', for terminals and for JSON. Returns `out`. */
const char *printable(char *out, size_t room, const char *text);

const char *protocol_name(__u8 protocol);

#endif
