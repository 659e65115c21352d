// SPDX-License-Identifier: Apache-2.0
/* The programs on the host's end of pods' links: tcx where the kernel has it, else a clsact filter; native XDP if asked for. */
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <linux/limits.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "kernel/internal.h"

/* linux/bpf.h of Linux 6.6, which older headers lack. */
#define TCX_INGRESS 46
#define TCX_EGRESS 47
#define FIRST (1U << 3) /* BPF_F_BEFORE, nobody in particular: a program before ours could pass a packet by it */
#define MAX_TCX 64      /* BPF_MPROG_MAX */
#define XDP 37          /* BPF_XDP */
#define NATIVE (1U << 2) /* XDP_FLAGS_DRV_MODE: generic XDP comes after what it should be before */

#define FILTER_HANDLE 0x51c1
#define FILTER_PRIORITY 1

static const struct side {
	const char *program;
	unsigned int type; /* enum bpf_attach_type */
	enum bpf_tc_attach_point clsact; /* where there is no tcx; of XDP: none */
} sides[KERNEL_DEVICE_PROGRAMS] = {
	{"veth_inbound", TCX_EGRESS, BPF_TC_EGRESS}, /* who spoke first is learned before anything is dropped */
	{"veth", TCX_INGRESS, BPF_TC_INGRESS},
	{"veth_xdp", XDP, 0},
};

static bool runs(const struct state *state, const struct side *side)
{
	return state->features & 1U << FEATURE_VETH && (side->type != XDP || state->notes_owners);
}

int kernel_device_pin_path(char out[PATH_MAX], const char *pin, const char *program, uint32_t device)
{
	int n = snprintf(out, PATH_MAX, "%s/link_%s_%u", pin, program, device);

	return n < 0 || n >= PATH_MAX ? -ENAMETOOLONG : 0;
}

bool kernel_is_device_pin(const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(sides); i++) {
		size_t n = strlen(sides[i].program);
		unsigned int device;
		char rest;

		if (!strncmp(name, "link_", 5) && !strncmp(name + 5, sides[i].program, n) &&
		    sscanf(name + 5 + n, "_%u%c", &device, &rest) == 1)
			return true;
	}
	return false;
}

/* Of what was pinned: gone devices have index 0. */
static bool is_attached(int fd, uint32_t device)
{
	struct bpf_link_info info = {0};
	__u32 size = sizeof(info);

	return !bpf_obj_get_info_by_fd(fd, &info, &size) && info.xdp.ifindex == device; /* tcx.ifindex has its place */
}

/* That nobody has put a program before ours since. */
static bool is_first(int fd, uint32_t device, unsigned int type, const char *program)
{
	struct bpf_link_info info = {0};
	__u32 size = sizeof(info), ids[MAX_TCX];
	LIBBPF_OPTS(bpf_prog_query_opts, query, .prog_ids = ids, .prog_cnt = MAX_TCX);
	char name[BPF_OBJ_NAME_LEN];

	if (type == XDP) /* a device has one */
		return true;
	if (bpf_obj_get_info_by_fd(fd, &info, &size) ||
	    bpf_prog_query_opts((int)device, (enum bpf_attach_type)type, &query) || !query.prog_cnt)
		return true; /* the device went meanwhile */
	for (__u32 i = 0; i < query.prog_cnt && ids[i] != info.prog_id; i++)
		if (!kernel_is_harmless(ids[i], program, name))
			return false;
	return true;
}

static bool is_in_place(int fd, uint32_t device, const struct side *side)
{
	return is_attached(fd, device) && is_first(fd, device, side->type, side->program);
}

static struct device_link *held(const struct kernel *kernel, uint32_t device, const char *program)
{
	for (size_t i = 0; i < kernel->device_link_count; i++)
		if (kernel->device_links[i].device == device && kernel->device_links[i].program == program)
			return &kernel->device_links[i];
	return NULL;
}

static void let_go(struct kernel *kernel, struct device_link *link)
{
	close(link->fd);
	*link = kernel->device_links[--kernel->device_link_count];
}

static void hold(struct kernel *kernel, uint32_t device, const char *program, int fd)
{
	*array_append(kernel->device_links, kernel->device_link_count, kernel->device_link_capacity) =
		(struct device_link){device, program, fd};
}

/* A descriptor of an earlier loader's link. -ENOENT: there is none; else -errno. */
static int adopt_link(const char *path, uint32_t device, const struct side *side, int program_fd)
{
	_cleanup_close_ int fd = bpf_obj_get(path);

	if (fd < 0)
		return -ENOENT;
	if (!is_in_place(fd, device, side)) {
		bpf_link_detach(fd);
		unlink(path);
		return -ENOENT;
	}
	return bpf_link_update(fd, program_fd, NULL) ? -errno : TAKE_FD(fd);
}

/* Where it cannot be pinned, kernel_keep_pins() says so and tries again. */
static int attach_link(const char *path, uint32_t device, unsigned int type, int program_fd)
{
	LIBBPF_OPTS(bpf_link_create_opts, options, .flags = type == XDP ? NATIVE : FIRST);
	int fd = bpf_link_create(program_fd, (int)device, (enum bpf_attach_type)type, &options);

	if (fd < 0)
		return -errno;
	(void)bpf_obj_pin(fd, path);
	return fd;
}

int kernel_attach_filter(uint32_t device, int point, int program_fd)
{
	LIBBPF_OPTS(bpf_tc_hook, hook, .ifindex = (int)device, .attach_point = (enum bpf_tc_attach_point)point);
	LIBBPF_OPTS(bpf_tc_opts, options, .handle = FILTER_HANDLE, .priority = FILTER_PRIORITY, .prog_fd = program_fd,
		    .flags = BPF_TC_F_REPLACE);
	int error = bpf_tc_hook_create(&hook);

	if (error && error != -EEXIST)
		return error;
	return bpf_tc_attach(&hook, &options);
}

void kernel_detach_filter(uint32_t device, int point)
{
	LIBBPF_OPTS(bpf_tc_hook, hook, .ifindex = (int)device, .attach_point = (enum bpf_tc_attach_point)point);
	LIBBPF_OPTS(bpf_tc_opts, options, .handle = FILTER_HANDLE, .priority = FILTER_PRIORITY);

	bpf_tc_detach(&hook, &options); /* the clsact qdisc stays: others may have put filters there, and empty it costs nothing */
}

bool kernel_has_filter(uint32_t device, int point)
{
	LIBBPF_OPTS(bpf_tc_hook, hook, .ifindex = (int)device, .attach_point = (enum bpf_tc_attach_point)point);
	LIBBPF_OPTS(bpf_tc_opts, options, .handle = FILTER_HANDLE, .priority = FILTER_PRIORITY);

	return !bpf_tc_query(&hook, &options);
}

static bool has_filter(uint32_t device, const struct side *side)
{
	return side->type != XDP && kernel_has_filter(device, side->clsact);
}

static int attach_side(struct kernel *kernel, uint32_t device, const char *name, const struct side *side)
{
	const struct bpf_program *program = bpf_object__find_program_by_name(kernel->bpf->obj, side->program);
	struct device_link *link = held(kernel, device, side->program);
	int program_fd = bpf_program__fd(program), fd;
	char path[PATH_MAX];

	if (kernel_device_pin_path(path, kernel->pin, side->program, device))
		return -ENAMETOOLONG;
	if (!kernel_has(kernel, FEATURE_TCX) && side->type != XDP) {
		unlink(path); /* of a daemon that had it */
		return kernel_attach_filter(device, side->clsact, program_fd);
	}
	if (link && is_in_place(link->fd, device, side))
		return 0;
	if (link) {
		if (is_attached(link->fd, device))
			log_warning("device %s: somebody put a program before %s; attaching it again, as the first", name,
				    side->program);
		bpf_link_detach(link->fd);
		let_go(kernel, link);
		unlink(path);
	}
	fd = adopt_link(path, device, side, program_fd);
	if (fd == -ENOENT)
		fd = attach_link(path, device, side->type, program_fd);
	if (fd < 0)
		return fd;
	hold(kernel, device, side->program, fd);
	/* Of a daemon that had no tcx: with tables that nobody looks after it would go on dropping. */
	if (has_filter(device, side))
		kernel_detach_filter(device, side->clsact);
	return 0;
}

bool kernel_holds_device(const struct kernel *kernel, uint32_t device)
{
	for (size_t i = 0; i < ARRAY_SIZE(sides); i++) {
		const struct device_link *link = held(kernel, device, sides[i].program);

		if (runs(&kernel->state, &sides[i]) &&
		    (link ? !is_in_place(link->fd, device, &sides[i]) : !has_filter(device, &sides[i])))
			return false;
	}
	return true;
}

static int put(const struct bpf_map *map, const void *key, const void *value)
{
	return bpf_map_update_elem(bpf_map__fd(map), key, value, BPF_ANY) ? -errno : 0;
}

static void remove_side(const char *pin, uint32_t device, const struct side *side)
{
	char path[PATH_MAX];

	if (!kernel_device_pin_path(path, pin, side->program, device) && unlink(path) < 0 && side->type != XDP)
		kernel_detach_filter(device, side->clsact);
}

static void remove_device(const char *pin, uint32_t device)
{
	for (size_t i = 0; i < ARRAY_SIZE(sides); i++)
		remove_side(pin, device, &sides[i]);
}

/* While `in_driver` is not set, veth judges everything: until XDP does, and again when it is gone. */
int kernel_attach_device(struct kernel *kernel, uint32_t device, const struct device_value *value)
{
	struct device_value known = *value;
	int error = put(kernel->bpf->maps.devices, &device, &known);

	for (size_t i = 0; i < ARRAY_SIZE(sides) && !error; i++) {
		if (runs(&kernel->state, &sides[i]))
			error = attach_side(kernel, device, value->name, &sides[i]);
		else
			remove_side(kernel->pin, device, &sides[i]); /* what a daemon that had it left */
		if (error && sides[i].type == XDP)
			return log_errno(error, "device %s: cannot attach native XDP: %s; tc judges what comes from there",
					 value->name, strerror(-error));
	}
	if (error)
		return log_errno(error, "device %s: cannot attach the backstop: %s; what meets no socket hook can leave there",
				 value->name, strerror(-error));
	known.in_driver = kernel->state.notes_owners;
	error = put(kernel->bpf->maps.devices, &device, &known);
	return error ? error : kernel_bump_epoch(kernel);
}

bool kernel_device_attached(const char *pin, uint32_t device, const struct state *state)
{
	for (size_t i = 0; i < ARRAY_SIZE(sides); i++) {
		char path[PATH_MAX];
		_cleanup_close_ int fd = kernel_device_pin_path(path, pin, sides[i].program, device) ? -1 : bpf_obj_get(path);

		if (runs(state, &sides[i]) && !(fd >= 0 ? is_attached(fd, device) : has_filter(device, &sides[i])))
			return false;
	}
	return true;
}

void kernel_detach_device(struct kernel *kernel, uint32_t device)
{
	for (size_t i = 0; i < ARRAY_SIZE(sides); i++) {
		struct device_link *link = held(kernel, device, sides[i].program);

		if (link)
			let_go(kernel, link);
	}
	remove_device(kernel->pin, device);
	bpf_map_delete_elem(bpf_map__fd(kernel->bpf->maps.devices), &device);
	kernel_bump_epoch(kernel);
}

void kernel_detach_filters(const char *pin)
{
	char path[PATH_MAX];
	int n = snprintf(path, sizeof(path), "%s/devices", pin);
	_cleanup_close_ int fd = n < PATH_MAX ? bpf_obj_get(path) : -1;
	uint32_t device, *previous = NULL, last;

	for (; fd >= 0 && !bpf_map_get_next_key(fd, previous, &device); last = device, previous = &last)
		remove_device(pin, device);
}

int kernel_set_source(struct kernel *kernel, uint32_t device, const uint8_t addr[16])
{
	struct source_key key = {.device = device};
	__u64 now = kernel_boottime_ns();
	int error;

	memcpy(key.addr, addr, 16);
	error = put(kernel->bpf->maps.sources, &key, &now);
	return error ? error : kernel_bump_epoch(kernel);
}

void kernel_delete_source(struct kernel *kernel, uint32_t device, const uint8_t addr[16])
{
	struct source_key key = {.device = device};

	memcpy(key.addr, addr, 16);
	bpf_map_delete_elem(bpf_map__fd(kernel->bpf->maps.sources), &key);
	kernel_bump_epoch(kernel);
}

void kernel_each_device(struct kernel *kernel, void (*visit)(void *context, uint32_t device, const struct device_value *v),
			void *context)
{
	int fd = bpf_map__fd(kernel->bpf->maps.devices);
	size_t count = 0, capacity = 0;
	_cleanup_free_ uint32_t *keys = NULL;
	uint32_t key;

	for (int end = bpf_map_get_next_key(fd, NULL, &key); !end && count < SLUICE_MAX_NETNS;
	     end = bpf_map_get_next_key(fd, &keys[count - 1], &key))
		*array_append(keys, count, capacity) = key;
	for (size_t i = 0; i < count; i++) {
		struct device_value value;

		if (!bpf_map_lookup_elem(fd, &keys[i], &value))
			visit(context, keys[i], &value);
	}
}

void kernel_each_source(struct kernel *kernel, uint32_t device, void (*visit)(void *context, const uint8_t addr[16]), void *context)
{
	int fd = bpf_map__fd(kernel->bpf->maps.sources);
	size_t count = 0, capacity = 0;
	_cleanup_free_ struct source_key *keys = NULL;
	struct source_key key;

	for (int end = bpf_map_get_next_key(fd, NULL, &key); !end && count < SLUICE_MAX_SOURCES;
	     end = bpf_map_get_next_key(fd, &keys[count - 1], &key))
		*array_append(keys, count, capacity) = key;
	for (size_t i = 0; i < count; i++)
		if (keys[i].device == device)
			visit(context, keys[i].addr);
}
