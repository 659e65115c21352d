// SPDX-License-Identifier: Apache-2.0
/* Pins that went away (bpffs unmounted, files removed) while the daemon runs are made again. */
#include <bpf/bpf.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "kernel/internal.h"

static const struct bpf_map *fixed_map(const struct kernel *kernel, size_t i)
{
	return bpf_object__find_map_by_name(kernel->bpf->obj, kernel_fixed_maps[i]);
}

static int pin_at(const char *path, int fd, size_t *pinned)
{
	if (access(path, F_OK) == 0)
		return 0;
	if (bpf_obj_pin(fd, path))
		return -errno;
	++*pinned;
	return 0;
}

static int pin_again(const struct kernel *kernel, const char *prefix, const char *name, int fd, size_t *pinned)
{
	char path[PATH_MAX];

	return kernel_pin_path(path, kernel->pin, prefix, name) ? -ENAMETOOLONG : pin_at(path, fd, pinned);
}

static int pin_device_again(const struct kernel *kernel, const struct device_link *link, size_t *pinned)
{
	char path[PATH_MAX];

	return kernel_device_pin_path(path, kernel->pin, link->program, link->device) ? -ENAMETOOLONG
										       : pin_at(path, link->fd, pinned);
}

/* Maps before links: whoever finds a link finds what its program uses. */
static int pin_all(const struct kernel *kernel, size_t *pinned)
{
	const struct bpf_map *map;
	int error = 0;

	for (size_t i = 0; i < kernel_fixed_map_count && !error; i++)
		error = pin_again(kernel, "", kernel_fixed_maps[i], bpf_map__fd(fixed_map(kernel, i)), pinned);
	bpf_object__for_each_map(map, kernel->bpf->obj) {
		size_t n = strlen(bpf_map__name(map)), suffix = strlen("_slots");

		if (!error && n > suffix && !strcmp(bpf_map__name(map) + n - suffix, "_slots"))
			error = pin_again(kernel, "", bpf_map__name(map), bpf_map__fd(map), pinned);
	}
	if (!error)
		error = kernel_keep_tables(kernel, pinned);
	for (size_t i = 0; i < KERNEL_PROGRAM_COUNT && !error; i++)
		if (kernel->links[i] >= 0)
			error = pin_again(kernel, "link_", kernel_programs[i], kernel->links[i], pinned);
	for (size_t i = 0; i < kernel->device_link_count && !error; i++)
		error = pin_device_again(kernel, &kernel->device_links[i], pinned);
	return error;
}

int kernel_keep_pins(struct kernel *kernel, char *why, size_t room)
{
	size_t pinned = 0;
	int error;

	if (kernel->links[0] < 0)
		return 0; /* not attached yet */
	error = kernel_prepare_pin_directory(kernel->pin, why, room);
	if (!error) {
		error = pin_all(kernel, &pinned);
		if (error)
			snprintf(why, room, "cannot pin them again: %s", strerror(-error));
	}
	if (!error && pinned)
		log_warning("%s: %zu pins were gone (was the bpffs unmounted?); pinned again, nothing has stopped enforcing",
			    kernel->pin, pinned);
	return error;
}
