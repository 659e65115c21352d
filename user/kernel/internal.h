/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of kernel/ share. */
#ifndef SLUICE_KERNEL_INTERNAL_H
#define SLUICE_KERNEL_INTERNAL_H

#include <linux/limits.h>

#include "kernel/kernel.h"
#include "sluice.skel.h"

enum { TABLE_INTERCEPT, TABLE_BYPASS, TABLE_SERVICES, TABLE_PORTS, TABLE_NAMES, TABLE_RULE_SETS, TABLE_ASSIGNMENTS, TABLE_CATALOG, TABLE_COUNT };

/* The content of the live inner maps, for the difference to the next. */
struct generation {
	int fds[TABLE_COUNT]; /* -1: none */
	bool open;            /* fds are valid */
	struct image *image;  /* NULL: adopted, content unknown */
	struct assignment *assignments; /* sorted by workload */
	size_t assignment_count;
};

/* A link on a device that we hold, as its pin does. */
struct device_link {
	uint32_t device;
	const char *program;
	int fd;
};

struct kernel {
	char *pin;
	char *cgroup;
	struct sluice_bpf *bpf;
	struct state state; /* what the state map holds: only we write it */
	struct generation live;
	uint32_t features; /* bits: what this kernel can do */
	int links[KERNEL_PROGRAM_COUNT]; /* -1: not attached by us */
	struct device_link *device_links;
	size_t device_link_count, device_link_capacity;
	struct ring_buffer *requests;
	void (*on_request)(void *context, const struct listener_request *request);
	void *request_context;
	uint64_t *flow_head;       /* mapped */
	struct flow_event *flows;  /* mapped */
	size_t flows_bytes;
	uint64_t flow_next;        /* the first sequence number not yet read for the log */
};

/* Maps that outlive generations, by pin name. */
extern const char *const kernel_fixed_maps[];
extern const size_t kernel_fixed_map_count;

/* Mounts a bpffs at /sys/fs/bpf if nobody has yet, and makes the directory. 0 or -errno, and why. */
int kernel_prepare_pin_directory(const char *pin, char *why, size_t room);
int kernel_pin_path(char out[PATH_MAX], const char *directory, const char *prefix, const char *name); /* 0 or -ENAMETOOLONG */
/* link_<program>_<device> */
int kernel_device_pin_path(char out[PATH_MAX], const char *directory, const char *program, uint32_t device);
int kernel_keep_tables(const struct kernel *kernel, size_t *pinned); /* pins again the live tables whose pins are gone */
int kernel_write_state(struct kernel *kernel);
void kernel_log_missing(enum feature feature);
int kernel_attach_last(struct kernel *kernel, size_t i, int cgroup_fd);
int kernel_bump_epoch(struct kernel *kernel);
bool kernel_is_device_pin(const char *name);
/* Whether a program before or after ours changes nothing. Also tells its name, for the log. */
bool kernel_is_harmless(uint32_t id, const char *program, char name[BPF_OBJ_NAME_LEN]);
void kernel_detach_filters(const char *pin); /* of all devices */
int kernel_open_requests(struct kernel *kernel);
void kernel_generation_free(struct generation *generation);

#endif
