// SPDX-License-Identifier: Apache-2.0
#include "command/paths.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>

#include "base/memory.h"

static void join(char out[PATH_MAX], const char *directory, const char *name)
{
	if (snprintf(out, PATH_MAX, "%s/%s", directory, name) >= PATH_MAX)
		out[0] = 0;
}

void run_paths_of(struct run_paths *out, const char *pin)
{
	const char *base = strrchr(pin, '/');

	join(out->directory, "/run", base && base[1] ? base + 1 : "sluice");
	join(out->lock, out->directory, "lock");
	join(out->control, out->directory, "control.sock");
	join(out->redirector, out->directory, "redirector.sock");
	join(out->applied, out->directory, "applied");
}

int control_read_request(struct control_request *out, const void *bytes, size_t length)
{
	struct control_request request;

	if (length != sizeof(request))
		return -EBADMSG;
	memcpy(&request, bytes, sizeof(request));
	if (request.type != CONTROL_DETACH && request.type != CONTROL_HEALTH && (request.type != CONTROL_PREPARE || request.pid <= 0))
		return -EINVAL;
	*out = request;
	return 0;
}

int control_read_answer(struct control_answer *out, const void *bytes, size_t length)
{
	if (length != sizeof(*out))
		return -EBADMSG;
	memcpy(out, bytes, sizeof(*out));
	out->text[sizeof(out->text) - 1] = 0;
	if (out->error > 0)
		out->error = -EBADMSG;
	return 0;
}

int control_ask(const struct run_paths *paths, const struct control_request *request, struct control_answer *answer,
		int timeout_ms)
{
	struct timeval patience = {.tv_sec = timeout_ms / 1000, .tv_usec = timeout_ms % 1000 * 1000};
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	_cleanup_close_ int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	char bytes[sizeof(*answer)];
	ssize_t n;

	if (fd < 0)
		return -errno;
	if (strlen(paths->control) >= sizeof(address.sun_path))
		return -ENAMETOOLONG;
	strcpy(address.sun_path, paths->control);
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
	if (connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0 ||
	    send(fd, request, sizeof(*request), MSG_NOSIGNAL) < 0)
		return errno == EAGAIN ? -ETIMEDOUT : -errno;
	n = recv(fd, bytes, sizeof(bytes), MSG_TRUNC);
	if (n < 0)
		return errno == EAGAIN ? -ETIMEDOUT : -errno;
	return control_read_answer(answer, bytes, (size_t)n) ? -EPIPE : 0;
}
