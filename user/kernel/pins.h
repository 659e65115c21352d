/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The pinned maps, read-only: what `status`, `flows`, `dump` and live `explain` read, also while the daemon is down.
 * All maps of one `struct pins` belong to one generation.
 */
#ifndef SLUICE_PINS_H
#define SLUICE_PINS_H

#include <stdbool.h>
#include <stddef.h>

#include "policy/tables.h"

enum pinned_map {
	PIN_STATE, PIN_INTERCEPT, PIN_BYPASS, PIN_SERVICES, PIN_PORTS, PIN_RULE_SETS, PIN_ASSIGNMENTS, PIN_CATALOG,
	PIN_CGROUPS, PIN_WORKLOADS, PIN_NETNS, PIN_DEVICES, PIN_COUNTERS, PIN_FLOWS, PIN_FLOW_HEAD, PIN_COUNT
};

struct pins;

/* Before the first generation the live tables are absent: looking things up in them finds nothing. 0, or -errno with `why`. */
int pins_open(struct pins **out, const char *directory, char *why, size_t room);
void pins_close(struct pins *pins); /* accepts NULL */

const struct state *pins_state(const struct pins *pins);

/* 0 or -ENOENT. Sizes are those of abi.h's types for that map. */
int pins_lookup(const struct pins *pins, enum pinned_map map, const void *key, void *value);

/* Visits every entry. Not for PIN_COUNTERS (pins_each_counter) and the flows (pins_map_flows). */
void pins_each(const struct pins *pins, enum pinned_map map,
	       void (*visit)(void *context, const void *key, const void *value), void *context);
void pins_each_counter(const struct pins *pins, void (*visit)(void *context, const struct counter_key *key, __u64 count),
		       void *context);

/* The ring of flows and its head, mapped read-only. 0 or -errno. They stay valid until pins_close(). */
int pins_map_flows(struct pins *pins, const struct flow_event **flows, const __u64 **head);

/* The tables of verdict.h over the pinned maps. A result is valid until the next lookup of its kind. */
const struct tables *pins_tables(struct pins *pins);

/* The link pinned as link_<program>: the cgroup it is attached to, 0 if it was detached. 0 or -errno. */
int pins_link(const struct pins *pins, const char *program, __u64 *cgroup);

#endif
