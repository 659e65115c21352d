/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The kernel side as the loader sees it: programs and maps loaded or adopted from their pins, generations swapped,
 * sockets marked. Only the loader writes; what only reads uses pins.h.
 */
#ifndef SLUICE_KERNEL_H
#define SLUICE_KERNEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "abi.h"
#include "kernel/probe.h"
#include "policy/policy.h"

#define KERNEL_PROGRAM_COUNT 14
/* Those that are attached at the cgroup root; each link is pinned as link_<name>. */
extern const char *const kernel_programs[KERNEL_PROGRAM_COUNT];

struct assignment {
	uint32_t workload;
	uint32_t rule_set;
};

struct kernel;

struct kernel_options {
	const char *pin;        /* directory on bpffs; made if absent, bpffs mounted if it is not */
	const char *cgroup;     /* the cgroup v2 mount: programs are attached at its root */
	const char *config;     /* shown in `status` */
	uint16_t redirector_port;
	uint64_t host_netns;    /* cookie */
	uint32_t without;       /* bits of features to do without, as on a kernel that lacks them */
	bool backstop_xdp;      /* frames of pods' links are judged in the driver */
};

/*
 * Sees what the kernel can do, loads the programs that it can run and makes or adopts the pinned maps. Attaches nothing yet.
 * 0; -EOPNOTSUPP: a mandatory feature is missing; another -errno. Logged.
 */
int kernel_open(struct kernel **out, const struct kernel_options *options);
const char *kernel_pin(const struct kernel *kernel); /* the pin directory */
void kernel_close(struct kernel *kernel); /* leaves pins and enforcement in place; accepts NULL */

bool kernel_has(const struct kernel *kernel, enum feature feature);
bool kernel_judges_in_driver(const struct kernel *kernel); /* --backstop xdp */
/* For what can only be tried with the maps at hand. A missing one is logged. */
void kernel_set_feature(struct kernel *kernel, enum feature feature, bool found);
/* Whether `program`, one of kernel_programs, is to be attached: the kernel can run it, and there is something to do for it. */
bool kernel_runs(const struct state *state, const char *program);
unsigned int kernel_expected(const struct kernel *kernel); /* how many of KERNEL_PROGRAM_COUNT it runs */

/* Attaches each program at the cgroup root that is not yet, or replaces the one behind its pinned link. 0 or -errno, logged. */
int kernel_attach(struct kernel *kernel);

/*
 * From now on what begins inbound in the host's own namespace is learned, because somebody governed lives there. Before, no
 * packet of the node pays for it. 0 or -errno, logged.
 */
int kernel_watch_host(struct kernel *kernel);
/*
 * Makes pins again that are gone: without them enforcement would end with the daemon, which holds the hooks meanwhile.
 * 0, or -errno and why not.
 */
int kernel_keep_pins(struct kernel *kernel, char *why, size_t room);
/*
 * Whether hook `program` is in its place: attached, effective in `cgroup` (a path), and the last to run there but for
 * those of another sluice. If not, `why` tells. From the pins alone.
 */
bool kernel_hook_holds(const char *pin, const char *program, const char *cgroup, char *why, size_t room);
/* Puts hooks that are not back into their place. Returns how many, or -errno if one cannot be; logged. `why`: the first. */
int kernel_mend(struct kernel *kernel, const char *cgroup, char *why, size_t room);
/* How many of kernel_expected() links are attached right now. */
unsigned int kernel_attached(const struct kernel *kernel);

/*
 * Applies a whole new generation: fills fresh maps, flips the generation word, waits until no program uses the old
 * maps, frees them. Takes ownership of `image` on success. 0 or -errno, logged; then nothing has changed.
 */
int kernel_swap(struct kernel *kernel, struct image *image, const struct assignment *assignments, size_t count);
/* Brings the live generation to `image` and `assignments` (names, new workloads) by the difference. Same ownership. */
int kernel_update(struct kernel *kernel, struct image *image, const struct assignment *assignments, size_t count);
uint64_t kernel_generation(const struct kernel *kernel); /* 0: none was ever applied */

/* Why a map did not take an entry, in an operator's words: "it is full". */
const char *kernel_map_error(int error);

/* Not logged: the caller knows what the entry is for. */
int kernel_set_cgroup(struct kernel *kernel, uint64_t id, const struct cgroup_value *value);
int kernel_get_cgroup(const struct kernel *kernel, uint64_t id, struct cgroup_value *out); /* 0 or -ENOENT */
void kernel_delete_cgroup(struct kernel *kernel, uint64_t id);
int kernel_set_workload(struct kernel *kernel, uint32_t id, const struct workload_value *value);
void kernel_delete_workload(struct kernel *kernel, uint32_t id);
int kernel_set_netns(struct kernel *kernel, uint64_t cookie, const struct netns_value *value);
void kernel_delete_netns(struct kernel *kernel, uint64_t cookie);
int kernel_get_netns(const struct kernel *kernel, uint64_t cookie, struct netns_value *out); /* 0 or -ENOENT */

/* What an earlier loader left: calls back for each entry. Entries may be deleted inside the callback. */
void kernel_each_cgroup(struct kernel *kernel, void (*visit)(void *context, uint64_t id, const struct cgroup_value *v),
			void *context);
void kernel_each_netns(struct kernel *kernel, void (*visit)(void *context, uint64_t cookie, const struct netns_value *v),
		       void *context);

/* ---- the host's end of pods' links (devices.c); all in the loader's own network namespace ---- */

#define KERNEL_DEVICE_PROGRAMS 3
/* Attaches veth_inbound, veth and, with `backstop_xdp`, veth_xdp there, or replaces them. Its sources come first. 0 or -errno, logged. */
int kernel_attach_device(struct kernel *kernel, uint32_t device, const struct device_value *value);
void kernel_detach_device(struct kernel *kernel, uint32_t device); /* also of a device that is gone */
bool kernel_holds_device(const struct kernel *kernel, uint32_t device); /* its programs are attached right now */
bool kernel_device_attached(const char *pin, uint32_t device, const struct state *state); /* the same, from the pins */
int kernel_set_source(struct kernel *kernel, uint32_t device, const uint8_t addr[16]);
void kernel_delete_source(struct kernel *kernel, uint32_t device, const uint8_t addr[16]);
/* Entries may be deleted inside the callback. */
void kernel_each_device(struct kernel *kernel, void (*visit)(void *context, uint32_t device, const struct device_value *v),
			void *context);
void kernel_each_source(struct kernel *kernel, uint32_t device, void (*visit)(void *context, const uint8_t addr[16]),
			void *context);
/* The way without tcx. `point`: enum bpf_tc_attach_point. */
int kernel_attach_filter(uint32_t device, int point, int program_fd);
void kernel_detach_filter(uint32_t device, int point);
bool kernel_has_filter(uint32_t device, int point);

/* Marks a socket, by descriptor. Thread-safe. 0 or -errno. */
int kernel_mark_socket(const struct kernel *kernel, int fd, uint32_t mark, uint32_t workload);

int kernel_marks_fd(const struct kernel *kernel); /* of the socket storage, for sock_diag(7) */
int kernel_set_exchange(struct kernel *kernel, const struct exchange_key *key); /* one that began inbound */
bool kernel_is_inbound(const struct kernel *kernel, const struct exchange_key *key);
uint64_t kernel_boottime_ns(void);

/* Flows that may live until a time (ns, CLOCK_BOOTTIME) whatever the tables say. */
bool kernel_is_draining(const struct kernel *kernel); /* there may be such flows */
uint64_t kernel_draining_until(const struct kernel *kernel, const struct exchange_key *key); /* 0: it is none */
int kernel_set_draining(struct kernel *kernel, const struct exchange_key *key, uint64_t until); /* 0 or -errno */
void kernel_delete_draining(struct kernel *kernel, const struct exchange_key *key);
uint64_t kernel_end_draining(struct kernel *kernel, uint64_t now); /* forgets whose time is up; when the next one's is, or 0 */

/* Every counter, summed over CPUs. Any thread. */
void kernel_each_counter(const struct kernel *kernel,
			 void (*visit)(void *context, const struct counter_key *key, uint64_t count), void *context);
int kernel_get_workload(const struct kernel *kernel, uint32_t id, struct workload_value *out); /* 0 or -ENOENT; any thread */
void kernel_read_state(const struct kernel *kernel, struct state *out); /* any thread */

/* Publishes facts in the `state` map. */
void kernel_set_error(struct kernel *kernel, const char *text, bool counts); /* "" clears; counts: a refused config */
void kernel_set_pids(struct kernel *kernel, uint32_t loader, uint32_t redirector);

/* A decision of user space joins the ring of flows and the counters. `event` without seq, time, generation. */
void kernel_record(struct kernel *kernel, const struct flow_event *event);
void kernel_count(struct kernel *kernel, const struct flow_event *event); /* the counters alone */

/* What the programs ask for: a descriptor to poll, and the reader that calls back for each request. */
int kernel_requests_fd(const struct kernel *kernel);
void kernel_requests_read(struct kernel *kernel);
void kernel_on_request(struct kernel *kernel, void (*handler)(void *context, const struct listener_request *request),
		       void *context);

/* Decisions since the last call, oldest first, for the log; returns how many were lost (overwritten unread). */
uint64_t kernel_flows_read(struct kernel *kernel, void (*visit)(void *context, const struct flow_event *event),
			   void *context);

/* The break-glass: removes our links, programs, maps and pins below `pin`, nothing else. 0 or -errno, logged. */
int kernel_detach(const char *pin);

#endif
