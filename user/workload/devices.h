/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The host's end of each governed namespace's links: found in the loader's own namespace, followed, and given the
 * programs that judge what comes by.
 */
#ifndef SLUICE_DEVICES_H
#define SLUICE_DEVICES_H

#include <stdbool.h>
#include <stdint.h>

#include "base/loop.h"
#include "kernel/kernel.h"

struct devices;

struct devices_options {
	uint64_t host_netns; /* cookie: a namespace without an other end */
	/* A namespace that no loader has judged before: its sockets may be older. Called before anything is attached. */
	void (*found)(void *context, uint64_t netns, int netns_fd);
	void *context;
};

/* 0 or -errno. Looks for devices only once a namespace was added. */
int devices_new(struct devices **out, struct loop *loop, struct kernel *kernel, const struct devices_options *options);
void devices_free(struct devices *devices); /* leaves the programs where they are; accepts NULL */

/* Again for one that is known: no harm. `netns_fd` stays the caller's. */
void devices_add_netns(struct devices *devices, uint64_t netns, int netns_fd);
void devices_remove_netns(struct devices *devices, uint64_t netns);
/* All namespaces that an earlier loader may have known were added: devices of others are given up. */
void devices_settle(struct devices *devices);
/* Since then, what was to be found has its programs, or a log line says why not. From any thread. */
bool devices_looked(const struct devices *devices);

#endif
