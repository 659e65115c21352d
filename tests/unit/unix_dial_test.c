// SPDX-License-Identifier: Apache-2.0
/* Which Unix sockets below a folder are dialled, and as whom. Runs as root, which it must not show. */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/memory.h"
#include "workload/unix_dial.h"

static char top[64], directory[96];

static const char *in(const char *name)
{
	static char path[4][256];
	static unsigned int at;

	snprintf(path[++at % 4], sizeof(path[0]), "%s/%s", directory, name);
	return path[at % 4];
}

static void start(void)
{
	snprintf(top, sizeof(top), "/tmp/sluice-unix-XXXXXX");
	cr_assert(mkdtemp(top));
	snprintf(directory, sizeof(directory), "%s/sockets", top);
	cr_assert(!chmod(top, 0755) && !mkdir(directory, 0755));
	chmod(directory, 0755);
}

static void finish(void)
{
	char command[128];

	snprintf(command, sizeof(command), "rm -rf %s", top);
	cr_assert_eq(system(command), 0);
}

TestSuite(unix_dial, .init = start, .fini = finish, .timeout = 20);

static int serve(const char *path, mode_t mode, int type, int backlog)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, type | SOCK_CLOEXEC, 0);

	snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
	cr_assert_eq(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0, "%s: %s", path, strerror(errno));
	cr_assert_eq(chmod(path, mode), 0);
	cr_assert_eq(backlog < 0 ? 0 : listen(fd, backlog), 0);
	return fd;
}

static void expect_error(const char *path, int error)
{
	int fd = unix_dial(directory, path);

	cr_expect_eq(fd, -error, "%s: %s, not %s", path, fd < 0 ? strerror(-fd) : "connected", strerror(error));
	if (fd >= 0)
		close(fd);
	cr_expect_eq(geteuid(), 0);
	cr_expect_eq(getegid(), 0);
}

Test(unix_dial, a_server_meets_nobody_and_the_caller_stays_root)
{
	_cleanup_close_ int server = serve(in("a"), 0666, SOCK_STREAM, 1), fd = unix_dial(directory, in("a")), peer = -1;
	struct ucred who;
	socklen_t size = sizeof(who);

	cr_assert_geq(fd, 0, "%s", strerror(-fd));
	peer = accept4(server, NULL, NULL, SOCK_CLOEXEC);
	cr_assert_eq(getsockopt(peer, SOL_SOCKET, SO_PEERCRED, &who, &size), 0);
	cr_expect_eq(who.uid, 65534);
	cr_expect_eq(who.gid, 65534);
	cr_expect(fcntl(fd, F_GETFL) & O_NONBLOCK);
	cr_expect_eq(geteuid(), 0);
	cr_expect_eq(getegid(), 0);
}

Test(unix_dial, only_what_nobody_may_write_is_reached)
{
	_cleanup_close_ int closed = serve(in("closed"), 0660, SOCK_STREAM, 1), hidden = -1;

	expect_error(in("closed"), EACCES);
	mkdir(in("dir"), 0700);
	hidden = serve(in("dir/a"), 0666, SOCK_STREAM, 1);
	expect_error(in("dir/a"), EACCES);
}

Test(unix_dial, nothing_leads_out_of_the_folder)
{
	_cleanup_close_ int outside = -1, inside = serve(in("a"), 0666, SOCK_STREAM, 1);
	char path[128];

	snprintf(path, sizeof(path), "%s/outside", top);
	outside = serve(path, 0666, SOCK_STREAM, 1);
	cr_assert_eq(symlink(path, in("absolute")), 0);
	cr_assert_eq(symlink("../outside", in("relative")), 0);
	cr_assert_eq(symlink("..", in("folder")), 0);
	cr_assert_eq(symlink("a", in("within")), 0);
	expect_error(in("absolute"), ELOOP);
	expect_error(in("relative"), ELOOP);
	expect_error(in("folder/outside"), ELOOP);
	expect_error(in("within"), ELOOP);
	expect_error(in("../outside"), EXDEV);
}

Test(unix_dial, no_mount_is_entered)
{
	_cleanup_close_ int server = -1;

	cr_assert_eq(unshare(CLONE_NEWNS), 0); /* it ends with this process */
	cr_assert_eq(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL), 0);
	cr_assert_eq(mkdir(in("mount"), 0755), 0);
	cr_assert_eq(mount("none", in("mount"), "tmpfs", 0, "size=64k,mode=755"), 0);
	server = serve(in("mount/a"), 0666, SOCK_STREAM, 1);
	expect_error(in("mount/a"), EXDEV);
	close(TAKE_FD(server));
	cr_assert_eq(umount(in("mount")), 0);
}

Test(unix_dial, what_is_no_stream_server)
{
	_cleanup_close_ int datagrams = serve(in("datagrams"), 0666, SOCK_DGRAM, -1);
	_cleanup_close_ int gone = serve(in("gone"), 0666, SOCK_STREAM, 1);

	close(TAKE_FD(gone));
	close(open(in("file"), O_CREAT | O_WRONLY | O_CLOEXEC, 0666));
	chmod(in("file"), 0666);
	mkfifo(in("fifo"), 0666);
	chmod(in("fifo"), 0666);
	expect_error(in("datagrams"), EPROTOTYPE);
	expect_error(in("gone"), ECONNREFUSED);
	expect_error(in("file"), ECONNREFUSED);
	expect_error(in("fifo"), ECONNREFUSED);
	expect_error(in("nothing"), ENOENT);
}

Test(unix_dial, a_full_backlog_is_not_waited_for)
{
	_cleanup_close_ int server = serve(in("busy"), 0666, SOCK_STREAM, 0), first = unix_dial(directory, in("busy"));

	cr_assert_geq(first, 0);
	expect_error(in("busy"), EAGAIN);
}
