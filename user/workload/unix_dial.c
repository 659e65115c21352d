// SPDX-License-Identifier: Apache-2.0
#include "workload/unix_dial.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/memory.h"

#define NOBODY 65534

/*
 * The socket as it is now: servers make it anew when they start. Who may write below the directory must not lead us out of it,
 * nor to a file system that keeps whoever looks waiting.
 */
static int open_socket(const char *directory, const char *path)
{
	struct open_how how = {.flags = O_PATH | O_CLOEXEC,
			       .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_XDEV};
	_cleanup_close_ int top = open(*directory ? directory : "/", O_PATH | O_DIRECTORY | O_CLOEXEC);
	int fd;

	if (top < 0)
		return -errno;
	fd = (int)syscall(SYS_openat2, top, path + strlen(directory) + 1, &how, sizeof(how));
	return fd < 0 ? -errno : fd;
}

static int dial(const char *directory, const char *path)
{
	_cleanup_close_ int place = open_socket(directory, path), fd = -1;
	struct sockaddr_un address = {.sun_family = AF_UNIX};

	if (place < 0)
		return place;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	snprintf(address.sun_path, sizeof(address.sun_path), "/proc/self/fd/%d", place);
	if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
		return -errno;
	return TAKE_FD(fd);
}

/* Of this thread alone, which libc's functions are not. Root stays its saved identity. */
static int become(unsigned int id)
{
	/* Each needs the capability that only root's identity has in effect. */
	if (id && (syscall(SYS_setgroups, 0, NULL) < 0 || syscall(SYS_setresgid, -1, id, -1) < 0))
		return -errno;
	if (syscall(SYS_setresuid, -1, id, -1) < 0 || (!id && syscall(SYS_setresgid, -1, id, -1) < 0))
		return -errno;
	return 0;
}

/*
 * As nobody, which the redirector is that will use the connection: a server that asks who its peer is must not be told root,
 * and a socket that is root's alone is not for workloads.
 */
int unix_dial(const char *directory, const char *path)
{
	int error = become(NOBODY), fd = error ? error : dial(directory, path);

	error = become(0);
	if (error && fd >= 0)
		close(fd);
	return error ? error : fd;
}
