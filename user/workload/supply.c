// SPDX-License-Identifier: Apache-2.0
#include "workload/supply.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <pthread.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <uthash.h>

#include "base/log.h"
#include "base/loop.h"
#include "base/memory.h"
#include "redirect/packet.h"
#include "workload/netns.h"
#include "workload/unix_dial.h"

#define SAY_AGAIN_MS 1000 /* a server that comes and goes must not fill the log */

struct source {
	UT_hash_handle hh; /* by cookie */
	uint64_t cookie;
	int netns_fd;
};

/* A Unix socket that policies name. */
struct unix_socket {
	UT_hash_handle hh;
	uint8_t identity[16];
	char *path;
	int error; /* that was said of its last connections, positive; 0: none */
	uint64_t said_ms;
};

struct supply {
	const struct kernel *kernel;
	const char *unix_directory;
	pthread_t thread;
	bool running;
	int epoll_fd;
	int stop_fd;
	int own_netns_fd;
	pthread_mutex_t lock; /* of all below: the loader's loop changes them */
	struct source *sources;
	struct unix_socket *sockets;
	bool knows_sockets; /* a policy was seen */
	int *channels;
	size_t channel_count;
};

static int make_socket(const struct supply *supply, uint32_t workload)
{
	_cleanup_close_ int fd = socket(AF_INET6, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	int off = 0, error;

	if (fd < 0 && errno == EAFNOSUPPORT)
		fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	else if (fd >= 0 && setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off)) < 0)
		return -errno;
	if (fd < 0)
		return -errno;
	error = kernel_mark_socket(supply->kernel, fd, MARK_UPSTREAM, workload);
	return error ? error : TAKE_FD(fd);
}

/* As many as could be made; none when the namespace is gone. */
static size_t make_sockets(struct supply *supply, const struct want *want, int *fds)
{
	size_t made = 0;
	struct source *source;
	uint64_t cookie = want->netns;

	HASH_FIND(hh, supply->sources, &cookie, sizeof(cookie), source);
	if (!source || netns_enter(source->netns_fd))
		return 0;
	while (made < want->count) {
		int fd = make_socket(supply, want->workload);

		if (fd < 0) {
			log_warning("upstream socket in netns %llu: %s", (unsigned long long)cookie, strerror(-fd));
			break;
		}
		fds[made++] = fd;
	}
	/* A thread that stays keeps a dead pod's namespace alive. */
	netns_enter(supply->own_netns_fd);
	return made;
}

static void answer(int channel, const struct want *want, const int *fds, size_t count)
{
	struct message head = {.type = MESSAGE_SOCKETS, .length = sizeof(*want)};
	struct iovec parts[] = {{&head, sizeof(head)}, {(void *)want, sizeof(*want)}};
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(int) * MESSAGE_MAX_FDS)];
	} control = {0};
	struct msghdr message = {.msg_iov = parts, .msg_iovlen = ARRAY_SIZE(parts)};

	if (count) {
		struct cmsghdr *rights;

		message.msg_control = control.bytes;
		message.msg_controllen = CMSG_SPACE(sizeof(int) * count);
		rights = CMSG_FIRSTHDR(&message);
		rights->cmsg_level = SOL_SOCKET;
		rights->cmsg_type = SCM_RIGHTS;
		rights->cmsg_len = CMSG_LEN(sizeof(int) * count);
		memcpy(CMSG_DATA(rights), fds, sizeof(int) * count);
	}
	/* A worker whose queue is full asks again. */
	(void)sendmsg(channel, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
}

static bool is_channel(const struct supply *supply, int fd)
{
	for (size_t i = 0; i < supply->channel_count; i++)
		if (supply->channels[i] == fd)
			return true;
	return false;
}

static struct unix_socket *find_socket(const struct supply *supply, const uint8_t identity[16])
{
	struct unix_socket *found;

	HASH_FIND(hh, supply->sockets, identity, sizeof(found->identity), found);
	return found;
}

/* Clients learn only that there is no connection. */
static void note_failure(struct supply *supply, const struct want *want)
{
	struct unix_socket *socket = find_socket(supply, want->socket);
	int error = want->error == EAGAIN ? 0 : (int)want->error; /* a busy server is none of ours */

	if (!socket || socket->error == error || (error && loop_now_ms() - socket->said_ms < SAY_AGAIN_MS))
		return;
	socket->error = error;
	if (!error)
		return;
	socket->said_ms = loop_now_ms();
	log_warning("endpoint unix://%s: %s: connections to it fail", socket->path, strerror(error));
}

/* Not under the lock, for which the loader's loop waits: a file system may take its time. */
static size_t dial_socket(struct supply *supply, struct want *want, int *fds)
{
	const struct unix_socket *socket = find_socket(supply, want->socket);
	_cleanup_free_ char *path = socket ? xstrdup(socket->path) : NULL;
	size_t made = 0;

	if (!path) { /* a policy that is gone by now */
		want->error = ECONNREFUSED;
		return 0;
	}
	pthread_mutex_unlock(&supply->lock);
	for (want->error = 0; made < want->count && !want->error;) {
		int fd = unix_dial(supply->unix_directory, path);

		if (fd < 0)
			want->error = (uint32_t)-fd;
		else
			fds[made++] = fd;
	}
	pthread_mutex_lock(&supply->lock);
	note_failure(supply, want);
	return made;
}

static bool is_of_unix_socket(const struct want *want)
{
	static const uint8_t none[sizeof(want->socket)];

	return memcmp(want->socket, none, sizeof(none)) != 0;
}

/* 0, or -errno when the channel is of no more use. */
static int serve(struct supply *supply, int channel)
{
	char request[sizeof(struct message) + sizeof(struct want) + 1]; /* longer ones are cut, and show it */
	struct want want;
	int fds[MESSAGE_MAX_FDS];
	ssize_t n = recv(channel, request, sizeof(request), MSG_DONTWAIT);
	size_t made;

	if (n < 0)
		return errno == EAGAIN ? 0 : -errno;
	if (n == 0)
		return -EPIPE;
	if (!message_want(request, (size_t)n, &want))
		return 0;
	if (!is_of_unix_socket(&want))
		made = make_sockets(supply, &want, fds);
	else if (supply->knows_sockets)
		made = dial_socket(supply, &want, fds);
	else
		return 0; /* a loader that has just begun: asked again */
	if (is_channel(supply, channel))
		answer(channel, &want, fds, made);
	for (size_t i = 0; i < made; i++)
		close(fds[i]);
	return 0;
}

static void *run(void *context)
{
	struct supply *supply = context;
	struct epoll_event events[16];

	for (;;) {
		int n = epoll_wait(supply->epoll_fd, events, ARRAY_SIZE(events), -1);

		for (int i = 0; i < n; i++) {
			int fd = events[i].data.fd;

			if (fd == supply->stop_fd)
				return NULL;
			pthread_mutex_lock(&supply->lock);
			if (is_channel(supply, fd) && serve(supply, fd))
				epoll_ctl(supply->epoll_fd, EPOLL_CTL_DEL, fd, NULL);
			pthread_mutex_unlock(&supply->lock);
		}
	}
}

static int watch(struct supply *supply, int fd)
{
	struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};

	return epoll_ctl(supply->epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0 ? -errno : 0;
}

int supply_new(struct supply **out, const struct kernel *kernel, const char *unix_directory)
{
	struct supply *supply = xcalloc(1, sizeof(*supply));
	int error;

	supply->kernel = kernel;
	supply->unix_directory = unix_directory;
	pthread_mutex_init(&supply->lock, NULL);
	supply->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	supply->stop_fd = eventfd(0, EFD_CLOEXEC);
	supply->own_netns_fd = netns_open_own();
	error = supply->epoll_fd < 0 || supply->stop_fd < 0 || supply->own_netns_fd < 0 ? -errno : watch(supply, supply->stop_fd);
	if (!error)
		error = -pthread_create(&supply->thread, NULL, run, supply);
	if (error) {
		supply_free(supply);
		return log_errno(error, "supply of upstream sockets: %s; not started", strerror(-error));
	}
	supply->running = true;
	*out = supply;
	return 0;
}

static void close_channels(struct supply *supply)
{
	for (size_t i = 0; i < supply->channel_count; i++)
		close(supply->channels[i]);
	free(supply->channels);
	supply->channels = NULL;
	supply->channel_count = 0;
}

static void forget_sockets(struct supply *supply)
{
	struct unix_socket *socket, *next;

	HASH_ITER(hh, supply->sockets, socket, next) {
		HASH_DEL(supply->sockets, socket);
		free(socket->path);
		free(socket);
	}
}

void supply_free(struct supply *supply)
{
	struct source *source, *next;
	uint64_t one = 1;

	if (!supply)
		return;
	if (supply->running) {
		(void)!write(supply->stop_fd, &one, sizeof(one));
		pthread_join(supply->thread, NULL);
	}
	HASH_ITER(hh, supply->sources, source, next) {
		HASH_DEL(supply->sources, source);
		close(source->netns_fd);
		free(source);
	}
	forget_sockets(supply);
	close_channels(supply);
	if (supply->epoll_fd >= 0)
		close(supply->epoll_fd);
	if (supply->stop_fd >= 0)
		close(supply->stop_fd);
	if (supply->own_netns_fd >= 0)
		close(supply->own_netns_fd);
	pthread_mutex_destroy(&supply->lock);
	free(supply);
}

int supply_add_netns(struct supply *supply, uint64_t cookie, int netns_fd)
{
	struct source *source = xcalloc(1, sizeof(*source));

	source->cookie = cookie;
	source->netns_fd = fcntl(netns_fd, F_DUPFD_CLOEXEC, 0);
	if (source->netns_fd < 0) {
		free(source);
		return -errno;
	}
	supply_remove_netns(supply, cookie);
	pthread_mutex_lock(&supply->lock);
	HASH_ADD(hh, supply->sources, cookie, sizeof(source->cookie), source);
	pthread_mutex_unlock(&supply->lock);
	return 0;
}

void supply_remove_netns(struct supply *supply, uint64_t cookie)
{
	struct source *source;

	pthread_mutex_lock(&supply->lock);
	HASH_FIND(hh, supply->sources, &cookie, sizeof(cookie), source);
	if (source) {
		HASH_DEL(supply->sources, source);
		close(source->netns_fd);
		free(source);
	}
	pthread_mutex_unlock(&supply->lock);
}

static void add_sockets(struct supply *supply, const struct service *service)
{
	for (size_t i = 0; i < service->target_count; i++) {
		const struct upstream_target *target = &service->targets[i];
		struct unix_socket *socket;

		if (!target->socket || find_socket(supply, target->addr))
			continue;
		socket = xcalloc(1, sizeof(*socket));
		memcpy(socket->identity, target->addr, sizeof(socket->identity));
		socket->path = xstrdup(target->socket);
		HASH_ADD(hh, supply->sockets, identity, sizeof(socket->identity), socket);
	}
}

void supply_set_sockets(struct supply *supply, const struct policy *policy, const struct policy *next)
{
	const struct policy *both[] = {policy, next};

	pthread_mutex_lock(&supply->lock);
	forget_sockets(supply);
	for (size_t i = 0; i < ARRAY_SIZE(both); i++)
		for (uint32_t id = 1; both[i] && id <= policy_service_count(both[i]); id++)
			add_sockets(supply, policy_service(both[i], id));
	supply->knows_sockets = policy || next;
	pthread_mutex_unlock(&supply->lock);
}

void supply_set_channels(struct supply *supply, const int *fds, size_t count)
{
	pthread_mutex_lock(&supply->lock);
	close_channels(supply);
	supply->channels = xcalloc(count, sizeof(*fds));
	supply->channel_count = count;
	for (size_t i = 0; i < count; i++) {
		supply->channels[i] = fds[i];
		watch(supply, fds[i]);
	}
	pthread_mutex_unlock(&supply->lock);
}
