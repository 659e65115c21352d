/* SPDX-License-Identifier: Apache-2.0 */
/* The cgroup v2 tree: where it is mounted, ids, and the identity that `sluice exec` leaves on a cgroup. */
#ifndef SLUICE_CGROUP_H
#define SLUICE_CGROUP_H

#include <linux/limits.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/*
 * Trusted extended attribute: only CAP_SYS_ADMIN in the initial user namespace can write it. Its value is
 * "namespace\0name\0key=value\0…". It outlives the daemon, so that a restart finds the workload again.
 */
#define CGROUP_IDENTITY_XATTR "trusted.sluice.workload"
#define CGROUP_IDENTITY_MAX 4096

/* The mount point of the cgroup v2 hierarchy, also on hybrid systems. 0, or -ENOENT. */
int cgroup_mount_point(char out[PATH_MAX]);

/* The id BPF helpers use for the cgroup directory `path` (its inode number). 0 or -errno. */
int cgroup_id_of(const char *path, uint64_t *out);

/* The cgroup directory at or below `path` that is reached by taking the first child at each level. 0 or -errno. */
int cgroup_leaf_of(const char *path, char out[PATH_MAX]);

/* Path of a process's cgroup below the mount ("/kubepods/pod1"), as seen from the mount's root. 0 or -errno. */
int cgroup_of_process(pid_t pid, char out[PATH_MAX]);

#endif
