// SPDX-License-Identifier: Apache-2.0
/* The daemon's control socket: `sluice exec` asks for listeners, `sluice status` how it is, `sluice detach` for the end. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>

#include "base/log.h"
#include "command/run.h"

static void serve(struct daemon *daemon, int client)
{
	struct timeval patience = {.tv_sec = 1};
	struct control_request request;
	struct control_answer answer = {0};
	char bytes[sizeof(request)];
	struct ucred peer;
	socklen_t size = sizeof(peer);
	ssize_t n;

	setsockopt(client, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	if (getsockopt(client, SOL_SOCKET, SO_PEERCRED, &peer, &size) < 0 || peer.uid != 0)
		return;
	n = recv(client, bytes, sizeof(bytes), MSG_TRUNC);
	if (n < 0)
		return;
	answer.error = control_read_request(&request, bytes, (size_t)n);
	if (answer.error == -EBADMSG)
		return;
	if (!answer.error && request.type == CONTROL_DETACH) {
		daemon->detached = true;
		daemon->detach_fd = fcntl(client, F_DUPFD_CLOEXEC, 0); /* answered when all is let go */
		loop_stop(daemon->loop);
		return;
	}
	if (!answer.error && request.type == CONTROL_HEALTH)
		answer.error = health_summary(daemon, answer.text, sizeof(answer.text)) ? 0 : -EAGAIN;
	else if (!answer.error)
		answer.error = workloads_prepare_process(daemon->workloads, request.pid);
	if (answer.error == -ENOENT)
		snprintf(answer.text, sizeof(answer.text), "its cgroup is not governed (--govern)");
	(void)send(client, &answer, sizeof(answer), MSG_NOSIGNAL);
}

static void on_control(void *context, int fd, uint32_t events)
{
	_cleanup_close_ int client = accept4(fd, NULL, NULL, SOCK_CLOEXEC);

	(void)events;
	if (client >= 0)
		serve(context, client);
}

int control_open(struct daemon *daemon)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};

	if (strlen(daemon->paths.control) >= sizeof(address.sun_path))
		return log_errno(-ENAMETOOLONG, "%s: too long for a Unix socket; not started", daemon->paths.control);
	strcpy(address.sun_path, daemon->paths.control);
	unlink(daemon->paths.control);
	daemon->control_fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (daemon->control_fd < 0 || bind(daemon->control_fd, (struct sockaddr *)&address, sizeof(address)) < 0 ||
	    listen(daemon->control_fd, 16) < 0)
		return log_errno(-errno, "%s: %s; not started", daemon->paths.control, strerror(errno));
	return loop_watch(daemon->loop, daemon->control_fd, EPOLLIN, on_control, daemon);
}

void control_close(struct daemon *daemon)
{
	if (daemon->control_fd < 0)
		return;
	loop_unwatch(daemon->loop, daemon->control_fd);
	close(daemon->control_fd);
	daemon->control_fd = -1;
	unlink(daemon->paths.control);
}

void control_answer_detach(struct daemon *daemon)
{
	struct control_answer answer = {0};

	if (daemon->detach_fd < 0)
		return;
	(void)send(daemon->detach_fd, &answer, sizeof(answer), MSG_NOSIGNAL);
	close(daemon->detach_fd);
	daemon->detach_fd = -1;
}
