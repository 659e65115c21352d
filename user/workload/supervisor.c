// SPDX-License-Identifier: Apache-2.0
#include "workload/supervisor.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>

#include "base/log.h"
#include "redirect/packet.h"

#define ANSWER_TIMEOUT_MS 10000 /* compiling a large configuration takes the redirector a while */
#define HELLO_TIMEOUT_MS 3000
#define RESTART_DELAY_MS 1000 /* after a redirector that died within that time */
#define END_TIMEOUT_MS 500
#define MAX_WORKERS MESSAGE_MAX_FDS /* their sockets are sent in one message */
#define PACKETS_AT_ONCE 256
/*
 * It reports every second. A silent one may be stopped by a debugger or starved, and what it holds open lives on when it
 * comes back: so it is given time. But clients wait for it, and a second one beside it would share its listeners with
 * an old table: so it is killed before it is replaced.
 */
#define SILENCE_MS 4000
#define HANG_MS 30000

struct supervisor {
	struct loop *loop;
	struct supply *supply;
	struct supervisor_events events;
	struct supervisor_options options;
	int control; /* -1: none */
	int process; /* pidfd, or -1; what it says of itself is not believed */
	uint32_t pid;
	pid_t child; /* as `pid`, if it was this loader that started it; 0: it took over another's, or none */
	uint32_t workers;
	uint64_t heard_ms; /* when it last said anything */
	bool hello_done;
	uint64_t answered; /* generation of the last TABLE_ANSWER */
	char answer[MESSAGE_MAX_BYTES];
	uint64_t started_ms;
	struct loop_timer *restart;
	pthread_mutex_t lock; /* of `statistics`: the admin page reads them */
	struct redirector_statistics statistics;
};

/* ---- packets ---- */

static int send_packet(int fd, uint32_t type, uint64_t generation, const void *payload, size_t length, const int *fds,
		       size_t fd_count)
{
	struct message head = {.type = type, .length = (uint32_t)length, .generation = generation};
	struct iovec parts[] = {{&head, sizeof(head)}, {(void *)payload, length}};
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(int) * MESSAGE_MAX_FDS)];
	} control = {0};
	struct msghdr message = {.msg_iov = parts, .msg_iovlen = length ? 2 : 1};

	if (fd_count) {
		struct cmsghdr *rights;

		message.msg_control = control.bytes;
		message.msg_controllen = CMSG_SPACE(sizeof(int) * fd_count);
		rights = CMSG_FIRSTHDR(&message);
		rights->cmsg_level = SOL_SOCKET;
		rights->cmsg_type = SCM_RIGHTS;
		rights->cmsg_len = CMSG_LEN(sizeof(int) * fd_count);
		memcpy(CMSG_DATA(rights), fds, sizeof(int) * fd_count);
	}
	return sendmsg(fd, &message, MSG_NOSIGNAL) < 0 ? -errno : 0;
}

/* ---- what the redirector says ---- */

static void on_statistics(struct supervisor *supervisor, const struct packet *packet)
{
	pthread_mutex_lock(&supervisor->lock);
	message_statistics(packet, &supervisor->statistics);
	pthread_mutex_unlock(&supervisor->lock);
}

static void on_decision(struct supervisor *supervisor, const struct packet *packet)
{
	struct flow_event event;

	if (message_decision(packet, &event))
		supervisor->events.decision(supervisor->events.context, &event);
}

static void on_listener(struct supervisor *supervisor, struct packet *packet)
{
	struct listener_message listener;

	if (!message_listener(packet, &listener))
		return;
	supervisor->events.listener(supervisor->events.context, listener.netns, listener.is_v6, packet->fds[0]);
	packet->fd_count = 0;
}

static void on_ask(struct supervisor *supervisor, const struct packet *packet)
{
	struct ask_message question;
	const char *host;

	if (message_ask(packet, &question, &host))
		supervisor->events.asked(supervisor->events.context, &question, host);
}

static void on_hello_answer(struct supervisor *supervisor, const struct packet *packet)
{
	struct hello_answer answer;

	if (!message_hello_answer(packet, &answer))
		return;
	supervisor->workers = answer.workers;
}

static void dispatch(struct supervisor *supervisor, struct packet *packet)
{
	switch (packet->head.type) {
	case MESSAGE_HELLO_ANSWER:
		on_hello_answer(supervisor, packet);
		break;
	case MESSAGE_LISTENER:
		on_listener(supervisor, packet);
		break;
	case MESSAGE_HELLO_DONE:
		supervisor->hello_done = true;
		break;
	case MESSAGE_TABLE_ANSWER:
		supervisor->answered = packet->head.generation;
		message_table_answer(packet, supervisor->answer);
		break;
	case MESSAGE_DECISION:
		on_decision(supervisor, packet);
		break;
	case MESSAGE_ASK:
		on_ask(supervisor, packet);
		break;
	case MESSAGE_STATISTICS:
		on_statistics(supervisor, packet);
		break;
	default:
		log_warning("redirector: message of unknown type %u ignored", packet->head.type);
	}
	packet_close(packet);
}

static void lose_redirector(struct supervisor *supervisor)
{
	if (supervisor->control < 0)
		return;
	loop_unwatch(supervisor->loop, supervisor->control);
	close(supervisor->control);
	supervisor->control = -1;
	supervisor->pid = 0;
}

/* Reads what is there, bounded: one that talks without end must not stop the loop. 0 or -errno when the redirector is gone. */
static int read_control(struct supervisor *supervisor)
{
	struct packet packet;
	int got = 0;

	for (int i = 0; i < PACKETS_AT_ONCE && supervisor->control >= 0; i++) {
		got = packet_receive(supervisor->control, &packet);
		if (got <= 0)
			return got;
		supervisor->heard_ms = loop_now_ms();
		dispatch(supervisor, &packet);
	}
	return 0;
}

/* ---- its process ---- */

/* Who listens at the other end: the redirector calls listen() again when it starts, so it is not who bound the socket. */
static pid_t peer_of(int fd)
{
	struct ucred peer;
	socklen_t size = sizeof(peer);

	return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) < 0 || peer.pid == getpid() ? 0 : peer.pid;
}

static void watch_process(struct supervisor *supervisor, pid_t pid)
{
	if (supervisor->process >= 0)
		close(supervisor->process);
	supervisor->process = pid > 0 ? pidfd_open(pid, 0) : -1;
	supervisor->pid = (uint32_t)pid;
}

static void kill_process(int process)
{
	struct pollfd gone = {.fd = process, .events = POLLIN};

	if (process >= 0 && pidfd_send_signal(process, SIGKILL, NULL, 0) == 0)
		poll(&gone, 1, 2000);
}

/* ---- starting and taking over ---- */

static int unix_address(struct sockaddr_un *out, const char *path)
{
	*out = (struct sockaddr_un){.sun_family = AF_UNIX};
	if (strlen(path) >= sizeof(out->sun_path))
		return -ENAMETOOLONG;
	strcpy(out->sun_path, path);
	return 0;
}

static int dial(const char *path)
{
	struct timeval patience = {.tv_sec = 5};
	struct sockaddr_un address;
	_cleanup_close_ int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	int error = unix_address(&address, path);

	if (error || fd < 0)
		return error ? error : -errno;
	if (connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
		return -errno;
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
	return TAKE_FD(fd);
}

static int listen_at(const char *path)
{
	struct sockaddr_un address;
	_cleanup_close_ int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	int error = unix_address(&address, path);

	if (error || fd < 0)
		return error ? error : -errno;
	unlink(path);
	if (bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0 || listen(fd, 4) < 0)
		return -errno;
	return TAKE_FD(fd);
}

/* In the child: only the log and the listening socket survive; everything else is close-on-exec. */
static void become_redirector(int listen_fd)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	sigset_t none;

	if (null < 0 || dup2(null, STDIN_FILENO) < 0 || dup2(null, STDOUT_FILENO) < 0)
		_exit(126);

	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	setsid();
	if (listen_fd == REDIRECTOR_LISTEN_FD)
		fcntl(listen_fd, F_SETFD, 0);
	else if (dup2(listen_fd, REDIRECTOR_LISTEN_FD) < 0)
		_exit(126);
	close_range(REDIRECTOR_LISTEN_FD + 1, ~0U, 0);
	execl("/proc/self/exe", "sluice", "redirector", (char *)NULL);
	_exit(127);
}

static int spawn(struct supervisor *supervisor)
{
	_cleanup_close_ int listen_fd = listen_at(supervisor->options.socket_path);
	pid_t pid;

	if (listen_fd < 0)
		return listen_fd;
	pid = fork();
	if (pid < 0)
		return -errno;
	if (pid == 0)
		become_redirector(listen_fd);
	supervisor->child = pid;
	watch_process(supervisor, pid);
	supervisor->started_ms = loop_now_ms();
	log_info("redirector: started, pid %d", (int)pid);
	return 0;
}

static int wait_control(struct supervisor *supervisor, uint64_t deadline_ms)
{
	uint64_t now = loop_now_ms();
	struct pollfd poll_fd = {.fd = supervisor->control, .events = POLLIN};
	int n;

	if (supervisor->control < 0)
		return -EPIPE;
	if (now >= deadline_ms)
		return -ETIMEDOUT;
	n = poll(&poll_fd, 1, (int)(deadline_ms - now));
	if (n < 0 && errno != EINTR)
		return -errno;
	return read_control(supervisor);
}

static int make_channels(struct supervisor *supervisor)
{
	int ours[MAX_WORKERS], theirs[MAX_WORKERS], error = 0;
	size_t made = 0;

	for (; made < supervisor->workers; made++) {
		int pair[2];

		if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) < 0) {
			error = -errno;
			break;
		}
		ours[made] = pair[0];
		theirs[made] = pair[1];
	}
	if (!error)
		error = send_packet(supervisor->control, MESSAGE_SUPPLY, 0, NULL, 0, theirs, made);
	for (size_t i = 0; i < made; i++)
		close(theirs[i]);
	if (!error) {
		supply_set_channels(supervisor->supply, ours, made);
		return 0;
	}
	for (size_t i = 0; i < made; i++)
		close(ours[i]);
	return error;
}

static int greet(struct supervisor *supervisor)
{
	struct hello hello = {.protocol = MESSAGE_PROTOCOL, .redirector_port = supervisor->options.redirector_port,
			      .log_json = supervisor->options.log_json};
	uint64_t deadline = loop_now_ms() + HELLO_TIMEOUT_MS;
	int error;

	snprintf(hello.root_namespace, sizeof(hello.root_namespace), "%s", supervisor->options.root_namespace);
	snprintf(hello.log_level, sizeof(hello.log_level), "%s", supervisor->options.log_level);
	supervisor->hello_done = false;
	supervisor->workers = 0;
	error = send_packet(supervisor->control, MESSAGE_HELLO, 0, &hello, sizeof(hello), NULL, 0);
	while (!error && !supervisor->hello_done)
		error = wait_control(supervisor, deadline);
	if (!error && !supervisor->workers)
		error = -EPROTO;
	return error ? error : make_channels(supervisor);
}

static void on_control(void *context, int fd, uint32_t events);

static int attach_control(struct supervisor *supervisor, int fd)
{
	int error;

	supervisor->control = fd;
	supervisor->heard_ms = loop_now_ms();
	error = greet(supervisor);
	if (!error)
		error = loop_watch(supervisor->loop, fd, EPOLLIN, on_control, supervisor);
	if (error)
		lose_redirector(supervisor);
	return error;
}

static int start_fresh(struct supervisor *supervisor)
{
	int error = spawn(supervisor), fd;

	if (error)
		return log_errno(error, "redirector: cannot start it: %s", strerror(-error));
	fd = dial(supervisor->options.socket_path);
	error = fd < 0 ? fd : attach_control(supervisor, fd);
	if (error)
		kill_process(supervisor->process);
	if (error)
		return log_errno(error, "redirector: started but does not answer: %s", strerror(-error));
	return 0;
}

/* A redirector that died: another takes its place at once, its listeners' backlogs are ours. */
static void restart_now(void *context)
{
	struct supervisor *supervisor = context;

	if (supervisor->control >= 0)
		return;
	if (start_fresh(supervisor)) {
		loop_timer_arm(supervisor->restart, RESTART_DELAY_MS);
		return;
	}
	supervisor->events.refill(supervisor->events.context);
}

/* Its sockets are closed a moment before it can be waited for. */
static bool wait_for_end(pid_t child, int *status)
{
	_cleanup_close_ int fd = (int)syscall(SYS_pidfd_open, child, 0);
	struct pollfd ended = {.fd = fd, .events = POLLIN};

	return fd >= 0 && poll(&ended, 1, END_TIMEOUT_MS) == 1 && waitpid(child, status, WNOHANG) == child;
}

/* How it ended, as far as its parent can know. */
static void describe_end(struct supervisor *supervisor, char *out, size_t room)
{
	pid_t child = supervisor->child;
	int status = 0;

	supervisor->child = 0;
	if (child <= 0)
		snprintf(out, room, "it is gone");
	else if (!wait_for_end(child, &status))
		snprintf(out, room, "pid %d has hung up", (int)child);
	else if (!WIFSIGNALED(status))
		snprintf(out, room, "pid %d ended with status %d", (int)child, WEXITSTATUS(status));
	else
		snprintf(out, room, "pid %d was killed by SIG%s%s", (int)child, sigabbrev_np(WTERMSIG(status)) ?: "?",
			 WTERMSIG(status) == SIGSYS ? ", for a system call that its filter forbids: the kernel's audit log names it" : "");
}

/* `error`: why nothing more is to be expected of it. One that hung up has most likely died, and is asked how. */
static void redirector_died(struct supervisor *supervisor, int error)
{
	uint64_t lived = loop_now_ms() - supervisor->started_ms;
	char how[128];

	if (error != -EPIPE && error != -ECONNRESET)
		kill_process(supervisor->process);
	lose_redirector(supervisor);
	describe_end(supervisor, how, sizeof(how));
	kill_process(supervisor->process); /* one that only hung up must not share its listeners with the next */
	while (waitpid(-1, NULL, WNOHANG) > 0)
		;
	log_error("redirector: %s; starting another%s", how,
		  supervisor->started_ms && lived < RESTART_DELAY_MS ? " in a second, for it died at once" : "");
	loop_timer_arm(supervisor->restart, supervisor->started_ms && lived < RESTART_DELAY_MS ? RESTART_DELAY_MS : 0);
}

static void on_control(void *context, int fd, uint32_t events)
{
	struct supervisor *supervisor = context;
	int error = read_control(supervisor);

	(void)fd;
	(void)events;
	if (error)
		redirector_died(supervisor, error);
}

int supervisor_new(struct supervisor **out, struct loop *loop, struct supply *supply,
		   const struct supervisor_options *options, const struct supervisor_events *events)
{
	struct supervisor *supervisor = xcalloc(1, sizeof(*supervisor));
	int fd = dial(options->socket_path), error = -ENOENT;

	supervisor->loop = loop;
	supervisor->supply = supply;
	supervisor->events = *events;
	supervisor->options = *options;
	supervisor->control = -1;
	supervisor->process = -1;
	supervisor->restart = loop_timer_new(loop, restart_now, supervisor);
	pthread_mutex_init(&supervisor->lock, NULL);
	if (fd >= 0) {
		watch_process(supervisor, peer_of(fd));
		error = attach_control(supervisor, fd);
		if (error)
			log_warning("redirector: one runs but cannot be taken over (%s); starting another, its open connections end",
				    strerror(-error));
		else
			log_info("redirector: took over pid %u", supervisor->pid);
	}
	if (error) {
		supervisor_quit(options->socket_path);
		error = start_fresh(supervisor);
	}
	if (error) {
		supervisor_free(supervisor);
		return error;
	}
	*out = supervisor;
	return 0;
}

void supervisor_free(struct supervisor *supervisor)
{
	if (!supervisor)
		return;
	lose_redirector(supervisor);
	if (supervisor->process >= 0)
		close(supervisor->process);
	loop_timer_free(supervisor->restart);
	pthread_mutex_destroy(&supervisor->lock);
	free(supervisor);
}

int supervisor_quit(const char *socket_path)
{
	_cleanup_close_ int fd = dial(socket_path);
	pid_t pid = fd < 0 ? 0 : peer_of(fd);
	_cleanup_close_ int process = pid > 0 ? pidfd_open(pid, 0) : -1;
	struct pollfd gone = {.fd = fd, .events = 0};
	int error;

	if (fd < 0)
		return fd == -ENOENT || fd == -ECONNREFUSED ? 0 : fd;
	error = send_packet(fd, MESSAGE_QUIT, 0, NULL, 0, NULL, 0);
	if (error || poll(&gone, 1, 2000) == 0)
		kill_process(process);
	unlink(socket_path);
	return error;
}

/* ---- telling it ---- */

static void tell(struct supervisor *supervisor, uint32_t type, const void *payload, size_t length, const int *fds,
		 size_t fd_count)
{
	int error;

	if (supervisor->control < 0)
		return; /* a fresh one is told everything */
	error = send_packet(supervisor->control, type, 0, payload, length, fds, fd_count);
	if (error) {
		log_error("redirector: cannot tell it: %s", strerror(-error));
		redirector_died(supervisor, error);
	}
}

static int sealed_memfd(const struct config_source *source)
{
	_cleanup_secret_ struct secret packed = {0};
	_cleanup_close_ int fd = -1;
	size_t at = 0;
	int error = config_source_pack(source, &packed.bytes, &packed.length);

	if (error)
		return error;
	fd = memfd_create("sluice-table", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (fd < 0)
		return -errno;
	while (at < packed.length) {
		ssize_t n = write(fd, packed.bytes + at, packed.length - at);

		if (n < 0)
			return -errno;
		at += (size_t)n;
	}
	if (fcntl(fd, F_ADD_SEALS, F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE) < 0)
		return -errno;
	return TAKE_FD(fd);
}

int supervisor_send_table(struct supervisor *supervisor, uint64_t generation, const struct config_source *source, int log_fd,
			  char *why, size_t room)
{
	uint64_t deadline = loop_now_ms() + ANSWER_TIMEOUT_MS;
	_cleanup_close_ int fd = sealed_memfd(source);
	const int fds[] = {fd, log_fd};
	int error;

	snprintf(why, room, "the redirector does not answer");
	if (fd < 0)
		return fd;
	if (supervisor->control < 0)
		return -EPIPE;
	supervisor->answered = 0;
	error = send_packet(supervisor->control, MESSAGE_TABLE, generation, NULL, 0, fds, log_fd < 0 ? 1 : 2);
	while (!error && supervisor->answered != generation)
		error = wait_control(supervisor, deadline);
	if (error) {
		redirector_died(supervisor, error);
		return error;
	}
	snprintf(why, room, "%s", supervisor->answer);
	return supervisor->answer[0] ? -EINVAL : 0;
}

static size_t append_string(char *out, size_t at, size_t room, const char *text)
{
	size_t n = strlen(text) + 1;

	if (at + n > room)
		return at;
	memcpy(out + at, text, n);
	return at + n;
}

void supervisor_send_workload(struct supervisor *supervisor, const struct workload *workload)
{
	char payload[MESSAGE_MAX_BYTES];
	struct workload_message head = {.workload = workload->id, .label_count = (uint32_t)workload->label_count};
	size_t at = sizeof(head);

	memcpy(payload, &head, sizeof(head));
	at = append_string(payload, at, sizeof(payload), workload->namespace_);
	at = append_string(payload, at, sizeof(payload), workload->name);
	for (size_t i = 0; i < workload->label_count; i++) {
		at = append_string(payload, at, sizeof(payload), workload->labels[i].key);
		at = append_string(payload, at, sizeof(payload), workload->labels[i].value);
	}
	tell(supervisor, MESSAGE_WORKLOAD, payload, at, NULL, 0);
}

void supervisor_send_workload_gone(struct supervisor *supervisor, uint32_t workload)
{
	tell(supervisor, MESSAGE_WORKLOAD_GONE, &workload, sizeof(workload), NULL, 0);
}

void supervisor_send_netns(struct supervisor *supervisor, const struct workload_netns *netns)
{
	struct listener_message listener = {.netns = netns->cookie};

	if (netns->listener_v4 >= 0)
		tell(supervisor, MESSAGE_LISTENER, &listener, sizeof(listener), &netns->listener_v4, 1);
	listener.is_v6 = 1;
	if (netns->listener_v6 >= 0)
		tell(supervisor, MESSAGE_LISTENER, &listener, sizeof(listener), &netns->listener_v6, 1);
}

void supervisor_send_netns_gone(struct supervisor *supervisor, const struct workload_netns *netns)
{
	struct listener_message listener = {.netns = netns->cookie};

	tell(supervisor, MESSAGE_LISTENER_GONE, &listener, sizeof(listener), NULL, 0);
}

static void tell_name(struct supervisor *supervisor, uint32_t type, const char *host, const uint8_t (*addresses)[16], size_t count,
		      enum name_failure failure)
{
	char payload[MESSAGE_MAX_BYTES];
	size_t length = strlen(host) + 1, room = (sizeof(payload) - sizeof(struct name_message) - length) / 16;
	struct name_message head = {.count = (uint32_t)(count < room ? count : room), .failed = failure};

	memcpy(payload, &head, sizeof(head));
	if (head.count)
		memcpy(payload + sizeof(head), addresses, (size_t)head.count * 16);
	memcpy(payload + sizeof(head) + (size_t)head.count * 16, host, length);
	tell(supervisor, type, payload, sizeof(head) + (size_t)head.count * 16 + length, NULL, 0);
}

void supervisor_send_name(struct supervisor *supervisor, const char *host, const uint8_t (*addresses)[16], size_t count,
			  bool failed)
{
	tell_name(supervisor, MESSAGE_NAME, host, addresses, count, failed ? NAME_HAS_NONE : NAME_NOT_FAILED);
}

void supervisor_send_asked_name(struct supervisor *supervisor, const char *host, const uint8_t (*addresses)[16], size_t count,
				enum name_failure failure)
{
	tell_name(supervisor, MESSAGE_ASKED_NAME, host, addresses, count, failure);
}

void supervisor_send_asked_name_gone(struct supervisor *supervisor, const char *host)
{
	tell(supervisor, MESSAGE_ASKED_NAME_GONE, host, strlen(host) + 1, NULL, 0);
}

uint64_t supervisor_silence_ms(struct supervisor *supervisor)
{
	int error = supervisor->control >= 0 ? read_control(supervisor) : 0;
	uint64_t silence;

	if (error)
		redirector_died(supervisor, error);
	if (supervisor->control < 0)
		return 0;
	silence = loop_now_ms() - supervisor->heard_ms;
	if (silence >= HANG_MS) {
		log_error("redirector: pid %u has said nothing for %d s; killed, its open connections end", supervisor->pid,
			  HANG_MS / 1000);
		redirector_died(supervisor, -ETIMEDOUT);
	}
	return silence < SILENCE_MS ? 0 : silence;
}

uint32_t supervisor_pid(const struct supervisor *supervisor)
{
	return supervisor->pid;
}

void supervisor_statistics(const struct supervisor *supervisor, struct redirector_statistics *out)
{
	struct supervisor *unlocked = (struct supervisor *)supervisor;

	pthread_mutex_lock(&unlocked->lock);
	*out = supervisor->statistics;
	pthread_mutex_unlock(&unlocked->lock);
}
