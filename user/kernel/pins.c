// SPDX-License-Identifier: Apache-2.0
#include "kernel/pins.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <linux/limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include "base/memory.h"

#define OPEN_TRIES 20

static const struct {
	const char *name;
	size_t key_size, value_size;
} layout[PIN_COUNT] = {
	[PIN_STATE] = {"state", 4, sizeof(struct state)},
	[PIN_INTERCEPT] = {"intercept", sizeof(struct cidr_key), sizeof(struct cidr_value)},
	[PIN_BYPASS] = {"bypass", sizeof(struct cidr_key), sizeof(struct cidr_value)},
	[PIN_SERVICES] = {"services", sizeof(struct service_key), sizeof(struct service_value)},
	[PIN_PORTS] = {"ports", sizeof(struct port_key), sizeof(struct port_value)},
	[PIN_RULE_SETS] = {"rule_sets", 4, sizeof(struct rule_set)},
	[PIN_ASSIGNMENTS] = {"assignments", 4, 4},
	[PIN_CATALOG] = {"catalog", 4, sizeof(struct catalog_value)},
	[PIN_CGROUPS] = {"cgroups", 8, sizeof(struct cgroup_value)},
	[PIN_WORKLOADS] = {"workloads", 4, sizeof(struct workload_value)},
	[PIN_NETNS] = {"netns", 8, sizeof(struct netns_value)},
	[PIN_DEVICES] = {"devices", 4, sizeof(struct device_value)},
	[PIN_COUNTERS] = {"counters", sizeof(struct counter_key), 8},
	[PIN_FLOWS] = {"flows", 4, sizeof(struct flow_event)},
	[PIN_FLOW_HEAD] = {"flow_head", 4, 8},
};

#define MAX_KEY 32
#define MAX_VALUE 1024
_Static_assert(sizeof(struct state) <= MAX_VALUE && sizeof(struct service_key) <= MAX_KEY, "room for every map");

struct pins {
	struct tables tables; /* first: the lookups find the rest by it */
	char *directory;
	int fds[PIN_COUNT];
	__u32 max_entries[PIN_COUNT];
	struct state state;
	void *flows, *head;
	size_t flows_bytes;
	struct rule_set rule_set;
	struct cidr_value intercept, bypass;
	struct service_value service;
	struct port_value port;
};

static bool is_generation_map(unsigned int map)
{
	return map >= PIN_INTERCEPT && map <= PIN_CATALOG;
}

static int open_map(struct pins *pins, unsigned int map)
{
	/* The kernel maps no memory from a read-only descriptor: mmap() takes VM_SHARED away, which it asks for. */
	LIBBPF_OPTS(bpf_obj_get_opts, options, .file_flags = map == PIN_FLOWS || map == PIN_FLOW_HEAD ? 0 : BPF_F_RDONLY);
	struct bpf_map_info info = {0};
	__u32 size = sizeof(info);
	char path[PATH_MAX];
	int fd;

	snprintf(path, sizeof(path), "%s/%s", pins->directory, layout[map].name);
	fd = bpf_obj_get_opts(path, &options);
	if (fd < 0)
		return -errno;
	if (bpf_obj_get_info_by_fd(fd, &info, &size) || info.key_size != layout[map].key_size ||
	    info.value_size != layout[map].value_size) {
		close(fd);
		return -EPROTO;
	}
	pins->max_entries[map] = info.max_entries;
	return fd;
}

static void close_maps(struct pins *pins)
{
	for (unsigned int map = 0; map < PIN_COUNT; map++) {
		if (pins->fds[map] >= 0)
			close(pins->fds[map]);
		pins->fds[map] = -1;
	}
}

static int read_state(const struct pins *pins, struct state *out)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(pins->fds[PIN_STATE], &zero, out) ? -errno : 0;
}

static int open_maps(struct pins *pins)
{
	for (unsigned int map = 0; map < PIN_COUNT; map++) {
		pins->fds[map] = open_map(pins, map);
		if (pins->fds[map] < 0 && !(is_generation_map(map) && pins->fds[map] == -ENOENT))
			return pins->fds[map];
		if (map == PIN_STATE && read_state(pins, &pins->state))
			return -EIO;
	}
	return 0;
}

/* A swap pins seven maps one after the other: the same generation before and after says that all are of one. */
static int open_consistent(struct pins *pins)
{
	for (int i = 0; i < OPEN_TRIES; i++) {
		struct state after;
		int error = open_maps(pins);

		if (error)
			return error;
		if (!read_state(pins, &after) && after.generation == pins->state.generation)
			return 0;
		close_maps(pins);
		usleep(5000);
	}
	return -EAGAIN;
}

static struct pins *pins_of(const struct tables *t)
{
	return (struct pins *)(void *)t;
}

static const struct rule_set *pinned_rule_set(const struct tables *t, uint32_t id)
{
	struct pins *pins = pins_of(t);

	return pins_lookup(pins, PIN_RULE_SETS, &id, &pins->rule_set) ? NULL : &pins->rule_set;
}

static const struct cidr_value *pinned_intercept(const struct tables *t, const struct cidr_key *key)
{
	struct pins *pins = pins_of(t);

	return pins_lookup(pins, PIN_INTERCEPT, key, &pins->intercept) ? NULL : &pins->intercept;
}

static const struct cidr_value *pinned_bypass(const struct tables *t, const struct cidr_key *key)
{
	struct pins *pins = pins_of(t);

	return pins_lookup(pins, PIN_BYPASS, key, &pins->bypass) ? NULL : &pins->bypass;
}

static const struct service_value *pinned_service(const struct tables *t, const struct service_key *key)
{
	struct pins *pins = pins_of(t);

	return pins_lookup(pins, PIN_SERVICES, key, &pins->service) ? NULL : &pins->service;
}

static const struct port_value *pinned_port(const struct tables *t, const struct port_key *key)
{
	struct pins *pins = pins_of(t);

	return pins_lookup(pins, PIN_PORTS, key, &pins->port) ? NULL : &pins->port;
}

int pins_open(struct pins **out, const char *directory, char *why, size_t room)
{
	struct pins *pins = xcalloc(1, sizeof(*pins));
	int error;

	pins->directory = xstrdup(directory);
	pins->tables = (struct tables){pinned_rule_set, pinned_intercept, pinned_bypass, pinned_service, pinned_port};
	for (unsigned int map = 0; map < PIN_COUNT; map++)
		pins->fds[map] = -1;
	error = open_consistent(pins);
	if (!error && pins->state.abi != SLUICE_ABI)
		error = -EPROTO;
	if (!error) {
		*out = pins;
		return 0;
	}
	if (error == -ENOENT)
		snprintf(why, room, "%s: nothing is pinned: sluice has not run, or was detached (then a restart of the daemon undoes it)", directory);
	else if (error == -EPROTO)
		snprintf(why, room, "%s: pinned by another version of sluice", directory);
	else if (error == -EACCES || error == -EPERM)
		snprintf(why, room, "%s: %s: only root may look", directory, strerror(-error));
	else
		snprintf(why, room, "%s: %s", directory, strerror(-error));
	pins_close(pins);
	return error;
}

void pins_close(struct pins *pins)
{
	if (!pins)
		return;
	if (pins->flows)
		munmap(pins->flows, pins->flows_bytes);
	if (pins->head)
		munmap(pins->head, (size_t)sysconf(_SC_PAGESIZE));
	close_maps(pins);
	free(pins->directory);
	free(pins);
}

const struct state *pins_state(const struct pins *pins)
{
	return &pins->state;
}

int pins_lookup(const struct pins *pins, enum pinned_map map, const void *key, void *value)
{
	return pins->fds[map] >= 0 && !bpf_map_lookup_elem(pins->fds[map], key, value) ? 0 : -ENOENT;
}

void pins_each(const struct pins *pins, enum pinned_map map,
	       void (*visit)(void *context, const void *key, const void *value), void *context)
{
	_Alignas(8) char key[MAX_KEY], next[MAX_KEY], value[MAX_VALUE];
	int fd = pins->fds[map], end;
	__u32 left = pins->max_entries[map];

	if (fd < 0)
		return;
	/* Bounded: when its key is deleted meanwhile, a walk over a hash begins anew. */
	for (end = bpf_map_get_next_key(fd, NULL, next); !end && left--; end = bpf_map_get_next_key(fd, key, next)) {
		memcpy(key, next, sizeof(key));
		if (!bpf_map_lookup_elem(fd, key, value))
			visit(context, key, value);
	}
}

void pins_each_counter(const struct pins *pins, void (*visit)(void *context, const struct counter_key *key, __u64 count),
		       void *context)
{
	int fd = pins->fds[PIN_COUNTERS], cpus = libbpf_num_possible_cpus(), end;
	_cleanup_free_ __u64 *counts = cpus > 0 ? xcalloc((size_t)cpus, sizeof(*counts)) : NULL;
	__u32 left = pins->max_entries[PIN_COUNTERS];
	struct counter_key key, next;

	if (!counts)
		return;
	for (end = bpf_map_get_next_key(fd, NULL, &next); !end && left--; end = bpf_map_get_next_key(fd, &key, &next)) {
		__u64 sum = 0;

		key = next;
		if (bpf_map_lookup_elem(fd, &key, counts))
			continue;
		for (int i = 0; i < cpus; i++)
			sum += counts[i];
		visit(context, &key, sum);
	}
}

int pins_map_flows(struct pins *pins, const struct flow_event **flows, const __u64 **head)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);

	pins->flows_bytes = (sizeof(struct flow_event) * SLUICE_FLOW_SLOTS + page - 1) & ~(page - 1);
	pins->flows = mmap(NULL, pins->flows_bytes, PROT_READ, MAP_SHARED, pins->fds[PIN_FLOWS], 0);
	pins->head = mmap(NULL, page, PROT_READ, MAP_SHARED, pins->fds[PIN_FLOW_HEAD], 0);
	if (pins->flows == MAP_FAILED)
		pins->flows = NULL;
	if (pins->head == MAP_FAILED)
		pins->head = NULL;
	if (!pins->flows || !pins->head)
		return -errno;
	*flows = pins->flows;
	*head = pins->head;
	return 0;
}

const struct tables *pins_tables(struct pins *pins)
{
	return &pins->tables;
}

int pins_link(const struct pins *pins, const char *program, __u64 *cgroup)
{
	struct bpf_link_info info = {0};
	__u32 size = sizeof(info);
	char path[PATH_MAX];
	_cleanup_close_ int fd = -1;

	snprintf(path, sizeof(path), "%s/link_%s", pins->directory, program);
	fd = bpf_obj_get(path);
	if (fd < 0 || bpf_obj_get_info_by_fd(fd, &info, &size))
		return -errno;
	*cgroup = info.cgroup.cgroup_id;
	return 0;
}
