// SPDX-License-Identifier: Apache-2.0
/* The cgroup tree; where any tree of folders will do, one of our own. */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "workload/cgroup.h"

static char tree[] = "/tmp/sluice-cgroup-XXXXXX";

static const char *below(const char *name)
{
	static char path[PATH_MAX];

	snprintf(path, sizeof(path), "%s%s", tree, name);
	return path;
}

static void make_tree(void)
{
	cr_assert(mkdtemp(tree));
	cr_assert_eq(mkdir(below("/a"), 0700), 0);
	cr_assert_eq(mkdir(below("/a/b"), 0700), 0);
	close(open(below("/a/b/cgroup.procs"), O_CREAT | O_WRONLY, 0600));
}

static void remove_tree(void)
{
	unlink(below("/a/b/cgroup.procs"));
	rmdir(below("/a/b"));
	rmdir(below("/a"));
	rmdir(tree);
}

TestSuite(cgroup, .init = make_tree, .fini = remove_tree);

Test(cgroup, the_id_is_the_folders_inode)
{
	struct stat st;
	uint64_t id = 0;

	cr_assert_eq(stat(below("/a"), &st), 0);
	cr_expect_eq(cgroup_id_of(below("/a"), &id), 0);
	cr_expect_eq(id, st.st_ino);
	cr_expect_eq(cgroup_id_of(below("/a/b/cgroup.procs"), &id), -ENOTDIR);
	cr_expect_eq(cgroup_id_of(below("/c"), &id), -ENOENT);
	cr_expect_eq(id, st.st_ino, "what failed says nothing");
}

Test(cgroup, the_leaf_is_the_first_of_each_level)
{
	char leaf[PATH_MAX];

	cr_expect_eq(cgroup_leaf_of(tree, leaf), 0);
	cr_expect_str_eq(leaf, below("/a/b"));
	cr_expect_eq(cgroup_leaf_of(below("/a/b"), leaf), 0);
	cr_expect_str_eq(leaf, below("/a/b"), "its files are no cgroups");
	cr_expect_eq(cgroup_leaf_of(below("/c"), leaf), -ENOENT);
}

Test(cgroup, of_a_process_it_is_that_of_version_2)
{
	char path[PATH_MAX] = "", line[PATH_MAX], wanted[PATH_MAX] = "";
	FILE *file = fopen("/proc/self/cgroup", "r");

	while (file && fgets(line, sizeof(line), file))
		if (sscanf(line, "0::%[^\n]", wanted) == 1)
			break;
	cr_assert(file);
	fclose(file);
	if (!*wanted)
		cr_skip_test("no cgroup v2 here");
	cr_expect_eq(cgroup_of_process(getpid(), path), 0);
	cr_expect_str_eq(path, wanted);
	cr_expect_eq(cgroup_of_process(1 << 30, path), -ENOENT);
}

Test(cgroup, the_hierarchy_is_found_where_it_is_mounted)
{
	char mount[PATH_MAX];

	if (cgroup_mount_point(mount))
		cr_skip_test("no cgroup v2 here");
	strcat(mount, "/cgroup.procs");
	cr_expect_eq(access(mount, F_OK), 0, "%s", mount);
}
