// SPDX-License-Identifier: Apache-2.0
/*
 * Whether each hook has the last word. All programs that are effective in a cgroup run, its own first, the root's last, and
 * among those of one cgroup in the order in which they were attached; one that runs after ours can clear a denial or
 * rewrite an address once more (facts/kernel.md).
 */
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/limits.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "kernel/internal.h"

#define REASON_ROOM 256
#define MAX_EFFECTIVE 64 /* BPF_CGROUP_MAX_PROGS, of one cgroup; more than that in all is nobody's node */

/* Another sluice's program of the same name refuses, or leaves a flow alone: it clears nothing. */
bool kernel_is_harmless(uint32_t id, const char *program, char name[BPF_OBJ_NAME_LEN])
{
	_cleanup_close_ int fd = bpf_prog_get_fd_by_id(id);
	struct bpf_prog_info info = {0};
	__u32 size = sizeof(info);

	snprintf(name, BPF_OBJ_NAME_LEN, "?");
	if (fd < 0)
		return errno == ENOENT; /* it went meanwhile */
	if (bpf_obj_get_info_by_fd(fd, &info, &size))
		return false;
	snprintf(name, BPF_OBJ_NAME_LEN, "%s", info.name);
	return !strcmp(info.name, program);
}

static bool runs_last(const char *program, const struct bpf_link_info *link, const char *cgroup, char *why, size_t room)
{
	_cleanup_close_ int cgroup_fd = open(cgroup, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	__u32 ids[MAX_EFFECTIVE], last = 0;
	LIBBPF_OPTS(bpf_prog_query_opts, query, .query_flags = BPF_F_QUERY_EFFECTIVE, .prog_ids = ids, .prog_cnt = MAX_EFFECTIVE);
	char name[BPF_OBJ_NAME_LEN];

	if (cgroup_fd < 0 || bpf_prog_query_opts(cgroup_fd, link->cgroup.attach_type, &query)) {
		snprintf(why, room, "%s: cannot ask what runs in %s: %s", program, cgroup, strerror(errno));
		return errno == ENOENT || errno == ENODEV; /* the cgroup went meanwhile, and whatever ran there */
	}
	while (last < query.prog_cnt && ids[query.prog_cnt - 1 - last] != link->prog_id)
		last++;
	if (last == query.prog_cnt) {
		snprintf(why, room, "%s: is attached, but does not run in %s", program, cgroup);
		return false;
	}
	for (__u32 i = query.prog_cnt - last; i < query.prog_cnt; i++) {
		if (kernel_is_harmless(ids[i], program, name))
			continue;
		snprintf(why, room, "%s: program %u \"%s\" of somebody else runs after it and could undo its verdicts", program, ids[i],
			 name);
		return false;
	}
	return true;
}

static bool holds(int fd, const char *program, const char *cgroup, char *why, size_t room)
{
	struct bpf_link_info link = {0};
	__u32 size = sizeof(link);

	if (fd < 0 || bpf_obj_get_info_by_fd(fd, &link, &size))
		snprintf(why, room, "%s: is not attached", program);
	else if (!link.cgroup.cgroup_id) /* also after rmdir of its cgroup */
		snprintf(why, room, "%s: was detached behind our back", program);
	else
		return runs_last(program, &link, cgroup, why, room);
	return false;
}

bool kernel_hook_holds(const char *pin, const char *program, const char *cgroup, char *why, size_t room)
{
	char path[PATH_MAX];
	_cleanup_close_ int fd = kernel_pin_path(path, pin, "link_", program) ? -1 : bpf_obj_get(path);

	return holds(fd, program, cgroup, why, room);
}

int kernel_mend(struct kernel *kernel, const char *cgroup, char *why, size_t room)
{
	_cleanup_close_ int root_fd = open(kernel->cgroup, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int mended = 0, first_error = root_fd < 0 ? -errno : 0;
	char reason[REASON_ROOM];

	for (size_t i = 0; i < KERNEL_PROGRAM_COUNT && root_fd >= 0; i++) {
		int error;

		if (!kernel_runs(&kernel->state, kernel_programs[i]) || holds(kernel->links[i], kernel_programs[i], cgroup, reason, sizeof(reason)))
			continue;
		if (!mended && !first_error)
			snprintf(why, room, "%s", reason);
		log_error("%s; attaching it again", reason);
		error = kernel_attach_last(kernel, i, root_fd);
		mended += !error;
		if (error && !first_error)
			first_error = error;
	}
	return first_error ? first_error : mended;
}
