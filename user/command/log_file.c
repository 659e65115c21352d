// SPDX-License-Identifier: Apache-2.0
#include "command/log_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int standard_output = -EBADF, standard_error = -EBADF;

/*
 * Whether writing waits belongs to what is open, which others share: a pipe or terminal is opened once more. A file does not make
 * anybody wait, but has its place to write at, which is shared on purpose; a socket (journald's) is asked not to wait at each send.
 */
static int open_again(int fd)
{
	char path[32];
	struct stat st;

	if (fstat(fd, &st) < 0)
		return -errno;
	if (S_ISREG(st.st_mode) || S_ISSOCK(st.st_mode)) {
		fd = fcntl(fd, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
	} else {
		snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
		fd = open(path, O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	}
	return fd < 0 ? -errno : fd;
}

void log_file_prepare(void)
{
	standard_output = open_again(STDOUT_FILENO);
	standard_error = open_again(STDERR_FILENO);
}

int log_file_open(const char *path)
{
	int standard = !strcmp(path, "/dev/stdout") ? standard_output : !strcmp(path, "/dev/stderr") ? standard_error : 0, fd;

	if (standard < 0)
		return standard;
	if (standard)
		fd = fcntl(standard, F_DUPFD_CLOEXEC, 0);
	else
		fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_NONBLOCK | O_NOCTTY | O_CLOEXEC, 0640);
	return fd < 0 ? -errno : fd;
}
