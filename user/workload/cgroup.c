// SPDX-License-Identifier: Apache-2.0
#include "workload/cgroup.h"

#include <dirent.h>
#include <errno.h>
#include <mntent.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

int cgroup_mount_point(char out[PATH_MAX])
{
	FILE *mounts = setmntent("/proc/self/mounts", "re");
	struct mntent entry;
	char buffer[PATH_MAX * 2];
	int error = -ENOENT;

	if (!mounts)
		return -errno;
	while (error && getmntent_r(mounts, &entry, buffer, sizeof(buffer))) {
		if (strcmp(entry.mnt_type, "cgroup2") || strlen(entry.mnt_dir) >= PATH_MAX)
			continue;
		strcpy(out, entry.mnt_dir);
		error = 0;
	}
	endmntent(mounts);
	return error;
}

int cgroup_id_of(const char *path, uint64_t *out)
{
	struct stat st;

	if (stat(path, &st) < 0)
		return -errno;
	if (!S_ISDIR(st.st_mode))
		return -ENOTDIR;
	*out = st.st_ino;
	return 0;
}

static bool first_child(const char *path, char name[NAME_MAX + 1])
{
	DIR *directory = opendir(path);
	struct dirent *entry = NULL;

	while (directory && (entry = readdir(directory)) && (entry->d_type != DT_DIR || entry->d_name[0] == '.'))
		;
	if (entry)
		snprintf(name, NAME_MAX + 1, "%s", entry->d_name);
	if (directory)
		closedir(directory);
	return entry;
}

int cgroup_leaf_of(const char *path, char out[PATH_MAX])
{
	char name[NAME_MAX + 1];
	struct stat st;
	size_t n = (size_t)snprintf(out, PATH_MAX, "%s", path);

	if (stat(path, &st) < 0)
		return -errno;
	while (n < PATH_MAX && first_child(out, name))
		n += (size_t)snprintf(out + n, PATH_MAX - n, "/%s", name);
	return n < PATH_MAX ? 0 : -ENAMETOOLONG;
}

int cgroup_of_process(pid_t pid, char out[PATH_MAX])
{
	char name[64], line[PATH_MAX + 16];
	int error = -ENOENT;
	FILE *file;

	snprintf(name, sizeof(name), "/proc/%d/cgroup", (int)pid);
	file = fopen(name, "re");
	if (!file)
		return -errno;
	while (error && fgets(line, sizeof(line), file)) {
		if (strncmp(line, "0::", 3))
			continue;
		line[strcspn(line, "\n")] = 0;
		if (strlen(line + 3) >= PATH_MAX) {
			error = -ENAMETOOLONG;
			break;
		}
		strcpy(out, line + 3);
		error = 0;
	}
	fclose(file);
	return error;
}
