/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Supplies the redirector's workers with upstream sockets: made in the pod's network namespace and marked with the
 * workload they work for; and with connections to the Unix sockets that policies name. A thread of its own, because it moves
 * between namespaces, is nobody for a moment, and must answer while the loader compiles.
 */
#ifndef SLUICE_SUPPLY_H
#define SLUICE_SUPPLY_H

#include <stddef.h>
#include <stdint.h>

#include "kernel/kernel.h"
#include "policy/policy.h"

struct supply;

/* `unix_directory`: below which endpoints may be Unix sockets, or NULL; borrowed. */
int supply_new(struct supply **out, const struct kernel *kernel, const char *unix_directory);
void supply_free(struct supply *supply); /* stops the thread; accepts NULL */

/* Namespaces that sockets may be asked for. `netns_fd` is duplicated. */
int supply_add_netns(struct supply *supply, uint64_t cookie, int netns_fd);
void supply_remove_netns(struct supply *supply, uint64_t cookie);

/* The Unix sockets that may be asked for: those of both policies, each of which may be NULL. */
void supply_set_sockets(struct supply *supply, const struct policy *policy, const struct policy *next);

/* Replaces the channels: `count` connected SEQPACKET sockets, owned from now on. */
void supply_set_channels(struct supply *supply, const int *fds, size_t count);

#endif
