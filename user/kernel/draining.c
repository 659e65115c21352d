// SPDX-License-Identifier: Apache-2.0
/* Flows that a generation forbids and that may live until a time: map `draining`, which outlives the daemon. */
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>

#include "kernel/internal.h"

static int draining_fd(const struct kernel *kernel)
{
	return bpf_map__fd(kernel->bpf->maps.draining);
}

bool kernel_is_draining(const struct kernel *kernel)
{
	return kernel->state.draining_until != 0;
}

uint64_t kernel_draining_until(const struct kernel *kernel, const struct exchange_key *key)
{
	uint64_t until;

	if (!kernel_is_draining(kernel) || bpf_map_lookup_elem(draining_fd(kernel), key, &until))
		return 0;
	return until;
}

int kernel_set_draining(struct kernel *kernel, const struct exchange_key *key, uint64_t until)
{
	if (bpf_map_update_elem(draining_fd(kernel), key, &until, BPF_ANY))
		return -errno;
	if (until <= kernel->state.draining_until)
		return 0;
	kernel->state.draining_until = until;
	return kernel_write_state(kernel);
}

void kernel_delete_draining(struct kernel *kernel, const struct exchange_key *key)
{
	if (kernel_is_draining(kernel))
		bpf_map_delete_elem(draining_fd(kernel), key);
}

uint64_t kernel_end_draining(struct kernel *kernel, uint64_t now)
{
	struct exchange_key *keys = NULL, key;
	size_t count = 0, capacity = 0;
	uint64_t next = 0, until;
	int fd = draining_fd(kernel), end = bpf_map_get_next_key(fd, NULL, &key);

	/* All keys first: deleting while walking a hash starts the walk over. */
	for (; !end && count < SLUICE_MAX_DRAINING; end = bpf_map_get_next_key(fd, &keys[count - 1], &key))
		*array_append(keys, count, capacity) = key;
	for (size_t i = 0; i < count; i++) {
		if (bpf_map_lookup_elem(fd, &keys[i], &until))
			continue;
		if (until <= now)
			bpf_map_delete_elem(fd, &keys[i]);
		else if (!next || until < next)
			next = until;
	}
	free(keys);
	if (!next && kernel->state.draining_until) {
		kernel->state.draining_until = 0;
		kernel_write_state(kernel);
	}
	return next;
}
