/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Workloads: watches the governed cgroups, gives each known workload an id, and sees to it that every network
 * namespace of theirs has the redirector's listeners. A governed cgroup that nobody described belongs to workload 0,
 * the node's default, from the instant it appears (the kernel looks at its ancestors).
 */
#ifndef SLUICE_WORKLOADS_H
#define SLUICE_WORKLOADS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/loop.h"
#include "config/config.h"
#include "kernel/kernel.h"

struct workload {
	uint32_t id; /* from 1 */
	char *cgroup; /* below the mount: "/kubepods/pod1" */
	char *namespace_;
	char *name;
	struct label *labels; /* keys and values owned */
	size_t label_count;
};

/* A namespace with its listeners; -1 where there is none. Descriptors are borrowed. */
struct workload_netns {
	uint64_t cookie;
	int netns_fd;
	int listener_v4;
	int listener_v6;
};

struct workload_events {
	/* Workloads appeared, changed or went: assignments must be made again. */
	void (*changed)(void *context);
	void (*gone)(void *context, uint32_t workload);
	/* A namespace has listeners now / is being closed. */
	void (*netns_ready)(void *context, const struct workload_netns *netns);
	void (*netns_gone)(void *context, const struct workload_netns *netns);
	void *context;
};

struct workloads;

struct workloads_options {
	const char *cgroup_mount;
	const char *const *governed; /* paths below the mount */
	size_t governed_count;
	uint16_t redirector_port;
	uint64_t host_netns; /* the loader's own */
};

int workloads_new(struct workloads **out, struct loop *loop, struct kernel *kernel, const struct workloads_options *options,
		  const struct workload_events *events);
void workloads_free(struct workloads *workloads); /* closes its listeners; accepts NULL */

/* Listeners taken over from a running redirector, before the first scan; checked against the pinned cookie. */
void workloads_adopt_listener(struct workloads *workloads, uint64_t netns, bool v6, int fd /* owned */);

/* Workload documents of the configuration now in force (borrowed until the next call). */
void workloads_set_documents(struct workloads *workloads, const struct config *config);

/* Looks at the whole governed tree now. */
void workloads_scan(struct workloads *workloads);

/* A process, named by the kernel or by `exec`, needs listeners in its namespace before it connects. 0 or -errno. */
int workloads_prepare_process(struct workloads *workloads, pid_t pid);

/* How many cgroups and namespaces the kernel's maps have no room for, and which is one of them. */
size_t workloads_unpublished(const struct workloads *workloads, const char **example);
/* Destroys a TCP socket of a governed namespace, by its flow. 0 or -errno (-ENOENT: no such namespace or socket). */
int workloads_destroy_tcp(struct workloads *workloads, const struct listener_request *flow);

size_t workloads_count(const struct workloads *workloads);
const struct workload *workloads_get(const struct workloads *workloads, size_t i);
/* Whom a cgroup belongs to, by its deepest known ancestor; 0: the node's default. False: it is not governed. */
bool workloads_find_cgroup(const struct workloads *workloads, uint64_t cgroup, uint32_t *workload);
void workloads_each_netns(const struct workloads *workloads,
			  void (*visit)(void *context, const struct workload_netns *netns), void *context);

#endif
