// SPDX-License-Identifier: Apache-2.0
/*
 * Generations. A new one is built in fresh inner maps and put into the free slot; then one word flips. A program that
 * read the old word may still be running: the syscall update of a map-in-map waits for it (facts/kernel.md), and only
 * then is the old slot emptied.
 */
#include <bpf/bpf.h>
#include <bpf/btf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <linux/limits.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/log.h"
#include "kernel/internal.h"

/* Sorted items of one table: a key at the start of each, the value at `value_offset`. */
struct items {
	const char *base;
	size_t count;
	size_t stride;
	size_t key_size;
	size_t value_offset;
	size_t value_size;
};

struct table_kind {
	const char *name;
	size_t headroom; /* entries beyond twice the present ones that names and workloads may add to a live generation */
};

static const struct table_kind kinds[TABLE_COUNT] = {
	[TABLE_INTERCEPT] = {"intercept", 1024},      [TABLE_BYPASS] = {"bypass", 1024},
	[TABLE_SERVICES] = {"services", 16384},       [TABLE_PORTS] = {"ports", 4096},
	[TABLE_NAMES] = {"names", 1024},
	[TABLE_RULE_SETS] = {"rule_sets", 4096},      [TABLE_ASSIGNMENTS] = {"assignments", SLUICE_MAX_WORKLOADS},
	[TABLE_CATALOG] = {"catalog", 16},
};

const char *kernel_map_error(int error)
{
	/* Hashes say E2BIG, tries ENOSPC. */
	return error == -E2BIG || error == -ENOSPC ? "it is full" : strerror(-error);
}

#define ITEMS_OF(array, n) \
	((struct items){(const char *)(array), (n), sizeof(*(array)), sizeof((array)->key), \
			offsetof(__typeof__(*(array)), value), sizeof((array)->value)})

static struct items items_of(unsigned int table, const struct image *image, const struct assignment *assignments,
			     size_t count)
{
	switch (table) {
	case TABLE_INTERCEPT:
		return ITEMS_OF(image->intercept, image->intercept_count);
	case TABLE_BYPASS:
		return ITEMS_OF(image->bypass, image->bypass_count);
	case TABLE_SERVICES:
		return ITEMS_OF(image->services, image->service_count);
	case TABLE_PORTS:
		return ITEMS_OF(image->ports, image->port_count);
	case TABLE_NAMES:
		return ITEMS_OF(image->names, image->name_count);
	case TABLE_RULE_SETS:
		return ITEMS_OF(image->rule_sets, image->rule_set_count);
	case TABLE_CATALOG:
		return ITEMS_OF(image->catalog, image->catalog_count);
	default:
		return (struct items){(const char *)assignments, count, sizeof(*assignments), sizeof(assignments->workload),
				      offsetof(struct assignment, rule_set), sizeof(assignments->rule_set)};
	}
}

static const char *item_key(const struct items *items, size_t i)
{
	return items->base + i * items->stride;
}

static const char *item_value(const struct items *items, size_t i)
{
	return item_key(items, i) + items->value_offset;
}

static struct bpf_map *template_of(const struct kernel *kernel, unsigned int table)
{
	char name[64];

	snprintf(name, sizeof(name), "%s_template", kinds[table].name);
	return bpf_object__find_map_by_name(kernel->bpf->obj, name);
}

static int slots_fd(const struct kernel *kernel, unsigned int table)
{
	char name[64];

	snprintf(name, sizeof(name), "%s_slots", kinds[table].name);
	return bpf_map__fd(bpf_object__find_map_by_name(kernel->bpf->obj, name));
}

static int table_create(const struct kernel *kernel, unsigned int table, const struct items *items)
{
	struct bpf_map *shape = template_of(kernel, table);
	LIBBPF_OPTS(bpf_map_create_opts, options, .map_flags = bpf_map__map_flags(shape),
		    .btf_fd = (__u32)bpf_object__btf_fd(kernel->bpf->obj),
		    .btf_key_type_id = bpf_map__btf_key_type_id(shape), .btf_value_type_id = bpf_map__btf_value_type_id(shape));
	size_t room = items->count * 2 + kinds[table].headroom;
	int fd = bpf_map_create(bpf_map__type(shape), kinds[table].name, bpf_map__key_size(shape), bpf_map__value_size(shape),
				(__u32)room, &options);

	if (fd < 0)
		return log_errno(-errno, "map %s: cannot make it with room for %zu entries: %s", kinds[table].name, room,
				 strerror(errno));
	for (size_t i = 0; i < items->count; i++) {
		if (bpf_map_update_elem(fd, item_key(items, i), item_value(items, i), BPF_ANY)) {
			int error = -errno;

			close(fd);
			return log_errno(error, "map %s: entry %zu of %zu: %s", kinds[table].name, i, items->count,
					 kernel_map_error(error));
		}
	}
	return fd;
}

void kernel_generation_free(struct generation *generation)
{
	if (generation->open)
		for (unsigned int table = 0; table < TABLE_COUNT; table++)
			if (generation->fds[table] >= 0)
				close(generation->fds[table]);
	image_free(generation->image);
	free(generation->assignments);
	*generation = (struct generation){0};
}

static int by_workload(const void *a, const void *b)
{
	return memcmp(a, b, sizeof(((struct assignment *)0)->workload));
}

static struct assignment *sorted_assignments(const struct assignment *assignments, size_t count)
{
	struct assignment *copy = xcalloc(count, sizeof(*copy));

	memcpy(copy, assignments, count * sizeof(*copy));
	qsort(copy, count, sizeof(*copy), by_workload);
	return copy;
}

/* The readers' view: the live inner map under its plain name, replaced in one step. bpffs allows no dots in names. */
static int pin_live(const struct kernel *kernel, unsigned int table, int fd)
{
	char path[PATH_MAX], next[PATH_MAX + 8];

	snprintf(path, sizeof(path), "%s/%s", kernel->pin, kinds[table].name);
	snprintf(next, sizeof(next), "%s_next", path);
	unlink(next);
	if (bpf_obj_pin(fd, next) || rename(next, path) < 0)
		return log_errno(-errno, "%s: cannot pin the live map: %s", path, strerror(errno));
	return 0;
}

int kernel_keep_tables(const struct kernel *kernel, size_t *pinned)
{
	__u32 slot = kernel->state.generation & 1, id;
	char path[PATH_MAX];

	for (unsigned int table = 0; table < TABLE_COUNT; table++) {
		_cleanup_close_ int fd = -1;

		snprintf(path, sizeof(path), "%s/%s", kernel->pin, kinds[table].name);
		if (access(path, F_OK) == 0 || bpf_map_lookup_elem(slots_fd(kernel, table), &slot, &id))
			continue;
		fd = bpf_map_get_fd_by_id(id);
		if (fd < 0 || bpf_obj_pin(fd, path))
			return -errno;
		++*pinned;
	}
	return 0;
}

static int build(struct kernel *kernel, struct generation *next, const struct image *image)
{
	next->open = true;
	for (unsigned int table = 0; table < TABLE_COUNT; table++)
		next->fds[table] = -1;
	for (unsigned int table = 0; table < TABLE_COUNT; table++) {
		struct items items = items_of(table, image, next->assignments, next->assignment_count);

		next->fds[table] = table_create(kernel, table, &items);
		if (next->fds[table] < 0)
			return next->fds[table];
	}
	return 0;
}

static int fill_slot(struct kernel *kernel, const struct generation *next, __u32 slot)
{
	for (unsigned int table = 0; table < TABLE_COUNT; table++)
		if (bpf_map_update_elem(slots_fd(kernel, table), &slot, &next->fds[table], BPF_ANY))
			return log_errno(-errno, "map %s_slots: %s", kinds[table].name, strerror(errno));
	return 0;
}

/* Any update of a map-in-map by syscall returns only after every program that was running has ended. */
static void wait_for_programs(struct kernel *kernel, const struct generation *next, __u32 slot)
{
	bpf_map_update_elem(slots_fd(kernel, TABLE_PORTS), &slot, &next->fds[TABLE_PORTS], BPF_ANY);
}

static bool checks_names(const struct image *image)
{
	for (size_t i = 0; i < image->rule_set_count; i++)
		if (image->rule_sets[i].value.host_check == HOST_CHECK_KERNEL)
			return true;
	return false;
}

int kernel_swap(struct kernel *kernel, struct image *image, const struct assignment *assignments, size_t count)
{
	__u64 generation = kernel->state.generation + 1;
	__u32 slot = generation & 1, old = slot ^ 1;
	struct generation next = {.assignments = sorted_assignments(assignments, count), .assignment_count = count};
	int error = build(kernel, &next, image);

	if (!error)
		error = fill_slot(kernel, &next, slot);
	if (error) {
		kernel_generation_free(&next);
		return error;
	}
	kernel->state.generation = generation;
	kernel->state.applied_at = (__u64)time(NULL);
	kernel->state.checks_names |= checks_names(image); /* and so it stays, for flows that are being checked */
	error = kernel_bump_epoch(kernel);
	if (error) {
		kernel->state.generation--;
		kernel_generation_free(&next);
		return error;
	}
	wait_for_programs(kernel, &next, slot);
	/* Again: a program that saw the new epoch first and then the old generation has cached the one under the other. */
	kernel_bump_epoch(kernel);
	for (unsigned int table = 0; table < TABLE_COUNT; table++) {
		pin_live(kernel, table, next.fds[table]);
		bpf_map_delete_elem(slots_fd(kernel, table), &old);
	}
	next.image = image;
	kernel_generation_free(&kernel->live);
	kernel->live = next;
	return 0;
}

/* Walks two sorted tables together: first what is new or changed, then what is gone, so that nothing valid is missing. */
static int apply_difference(int fd, const char *name, const struct items *was, const struct items *will, bool remove)
{
	size_t i = 0, k = 0;

	while (i < was->count || k < will->count) {
		int order = i == was->count ? 1 : k == will->count ? -1 : memcmp(item_key(was, i), item_key(will, k), was->key_size);
		bool same = !order && !memcmp(item_value(was, i), item_value(will, k), was->value_size);

		if (remove && order < 0 && bpf_map_delete_elem(fd, item_key(was, i)) && errno != ENOENT)
			return log_errno(-errno, "map %s: cannot remove an entry: %s", name, strerror(errno));
		if (!remove && order >= 0 && !same && bpf_map_update_elem(fd, item_key(will, k), item_value(will, k), BPF_ANY))
			return log_errno(-errno, "map %s: cannot add an entry: %s", name, kernel_map_error(-errno));
		i += order <= 0;
		k += order >= 0;
	}
	return 0;
}

int kernel_update(struct kernel *kernel, struct image *image, const struct assignment *assignments, size_t count)
{
	/* Rules before those who are assigned to them; assignments before nothing else needs them. */
	static const unsigned int order[TABLE_COUNT] = {TABLE_CATALOG, TABLE_INTERCEPT, TABLE_BYPASS, TABLE_PORTS,
							TABLE_NAMES, TABLE_SERVICES, TABLE_RULE_SETS, TABLE_ASSIGNMENTS};
	struct generation *live = &kernel->live;
	struct assignment *sorted;

	if (!live->image)
		return kernel_swap(kernel, image, assignments, count);
	sorted = sorted_assignments(assignments, count);
	for (int pass = 0; pass < 2; pass++) {
		for (unsigned int i = 0; i < TABLE_COUNT; i++) {
			unsigned int table = pass ? order[TABLE_COUNT - 1 - i] : order[i];
			struct items was = items_of(table, live->image, live->assignments, live->assignment_count);
			struct items will = items_of(table, image, sorted, count);
			int error = apply_difference(live->fds[table], kinds[table].name, &was, &will, pass);

			if (error) {
				kernel_bump_epoch(kernel);
				free(sorted);
				return error;
			}
		}
	}
	kernel_bump_epoch(kernel);
	image_free(live->image);
	free(live->assignments);
	live->image = image;
	live->assignments = sorted;
	live->assignment_count = count;
	return 0;
}

uint64_t kernel_generation(const struct kernel *kernel)
{
	return kernel->state.generation;
}
