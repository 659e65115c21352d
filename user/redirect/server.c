// SPDX-License-Identifier: Apache-2.0
/* The redirector's main thread: its start without privileges, and what it and the loader say to each other. */
#include "redirect/server.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>

#include "base/log.h"
#include "base/memory.h"
#include "redirect/circuit.h"
#include "redirect/confine.h"
#include "redirect/directory.h"
#include "redirect/origination.h"
#include "redirect/packet.h"
#include "redirect/view.h"

#define LOADER_PATIENCE_MS 60000 /* how long a redirector without any loader waits for its first */
#define TICK_MS 1000
#define ANSWER_PATIENCE_S 5 /* then a loader that does not read is given up for the next */
#define OWN_DESCRIPTORS 256 /* besides the workers', as long as there are few listeners */

int main_wake_fd = -1;

static struct {
	int control; /* -1: no loader */
	bool had_loader;
	bool quit;
	bool changed; /* something is to be published */
	char root_namespace[SLUICE_HOST_MAX];
	struct table *table, *previous;
	__u64 decisions_lost;
} server = {.control = -1};

static uint64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static size_t raise_descriptor_limit(void)
{
	struct rlimit limit = {1024, 1024};

	if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
		limit.rlim_cur = limit.rlim_max;
		setrlimit(RLIMIT_NOFILE, &limit);
	}
	return limit.rlim_cur;
}

/* ---- sending ---- */

static int tell(uint32_t type, uint64_t generation, const void *payload, size_t length, int fd)
{
	struct message head = {type, (uint32_t)length, generation};
	struct iovec parts[] = {{&head, sizeof(head)}, {(void *)payload, length}};
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(int))];
	} control = {0};
	struct msghdr message = {.msg_iov = parts, .msg_iovlen = length ? 2 : 1};
	bool may_wait;

	if (fd >= 0) {
		struct cmsghdr *rights;

		message.msg_control = control.bytes;
		message.msg_controllen = sizeof(control.bytes);
		rights = CMSG_FIRSTHDR(&message);
		rights->cmsg_level = SOL_SOCKET;
		rights->cmsg_type = SCM_RIGHTS;
		rights->cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(rights), &fd, sizeof(int));
	}
	/* Reports and questions never wait: the loader may itself be waiting for us. Answers do. */
	may_wait = type != MESSAGE_DECISION && type != MESSAGE_STATISTICS && type != MESSAGE_ASK;
	return sendmsg(server.control, &message, MSG_NOSIGNAL | (may_wait ? 0 : MSG_DONTWAIT)) < 0 ? -errno : 0;
}

bool server_ask(const struct ask_message *message, const char *host)
{
	char payload[sizeof(*message) + SLUICE_HOST_MAX];
	size_t length = strlen(host) + 1;

	memcpy(payload, message, sizeof(*message));
	memcpy(payload + sizeof(*message), host, length);
	return server.control >= 0 && !tell(MESSAGE_ASK, 0, payload, sizeof(*message) + length, -1);
}

static void send_decisions(void)
{
	for (unsigned int i = 0; i < worker_count; i++) {
		struct worker *worker = &workers[i];
		unsigned int tail = atomic_load(&worker->decision_tail);

		while (tail != atomic_load_explicit(&worker->decision_head, memory_order_acquire)) {
			if (server.control < 0 ||
			    tell(MESSAGE_DECISION, 0, &worker->decisions[tail % DECISION_SLOTS], sizeof(struct flow_event), -1))
				server.decisions_lost++;
			atomic_store_explicit(&worker->decision_tail, ++tail, memory_order_release);
		}
	}
}

static void send_statistics(void)
{
	struct redirector_statistics sum = {0};
	__u64 *total = (__u64 *)&sum;

	for (unsigned int i = 0; i < worker_count; i++)
		for (size_t k = 0; k < sizeof(sum) / sizeof(*total); k++)
			total[k] += __atomic_load_n((__u64 *)&workers[i].statistics + k, __ATOMIC_RELAXED);
	sum.decisions_lost += server.decisions_lost;
	/* Also when nothing has changed: the loader takes a long silence for a hang. */
	if (server.control >= 0)
		(void)tell(MESSAGE_STATISTICS, 0, &sum, sizeof(sum), -1);
}

/* ---- messages ---- */

/* Once for all that came together: each publication makes every worker look at every connection. */
static void publish(void)
{
	if (server.changed)
		view_publish(server.table, server.previous);
	server.changed = false;
	directory_publish();
}

static void on_hello(const struct packet *packet)
{
	struct hello_answer answer = {.protocol = MESSAGE_PROTOCOL, .workers = worker_count,
				      .generation = server.table ? server.table->generation : 0};
	enum log_level level = LOG_LEVEL_INFO;
	struct hello hello;

	if (!message_hello(packet, &hello))
		return;
	snprintf(server.root_namespace, sizeof(server.root_namespace), "%s", hello.root_namespace);
	log_level_parse(&level, hello.log_level);
	log_init(level, hello.log_json, "redirector");
	tell(MESSAGE_HELLO_ANSWER, 0, &answer, sizeof(answer), -1);
	for (size_t i = 0; i < listeners_count(); i++) {
		const struct listener *listener = listeners_get(i);
		struct listener_message message = {.netns = listener->place->cookie, .is_v6 = listener->v6};

		tell(MESSAGE_LISTENER, 0, &message, sizeof(message), listener->fd);
	}
	tell(MESSAGE_HELLO_DONE, 0, NULL, 0, -1);
	directory_new_loader(now_ms());
}

static void on_supply(struct packet *packet)
{
	for (size_t i = 0; i < packet->fd_count && i < worker_count; i++) {
		int old = atomic_exchange(&workers[i].new_supply, packet->fds[i]);

		if (old >= 0)
			close(old);
		packet->fds[i] = -1;
	}
	server.changed = true; /* the workers look for it at the top of their round */
}

static void on_table(struct packet *packet)
{
	char why[MESSAGE_MAX_BYTES] = "no table came with the message";
	struct table *table;

	if (packet->fd_count >= 1 &&
	    !table_compile(&table, packet->head.generation, packet->fds[0], server.root_namespace, why, sizeof(why))) {
		if (packet->fd_count == 2) {
			table_take_log(table, packet->fds[1]);
			packet->fds[1] = -1;
		}
		/* The same generation again, or one that never came into force, is no predecessor of itself. */
		if (server.table && server.table->generation == table->generation) {
			table_release(server.table);
		} else {
			table_release(server.previous);
			server.previous = server.table;
		}
		server.table = table;
		server.changed = true;
		publish(); /* before the answer: it says that the workers see it */
	}
	tell(MESSAGE_TABLE_ANSWER, packet->head.generation, why, strlen(why), -1);
}

static void on_workload(const struct packet *packet)
{
	struct workload_message message;
	const char *strings;
	size_t length;

	if (!message_workload(packet, &message, &strings, &length))
		return;
	workload_learn(message.workload, strings, length, message.label_count);
	server.changed = true;
}

static void on_workload_gone(const struct packet *packet)
{
	uint32_t workload;

	if (!message_workload_gone(packet, &workload))
		return;
	workload_forget(workload);
	server.changed = true;
}

static void on_listener(struct packet *packet)
{
	struct listener_message message;

	if (!message_listener(packet, &message))
		return;
	if (!listener_add(message.netns, message.is_v6, packet->fds[0]))
		return;
	packet->fds[0] = -1;
	server.changed = true;
}

static void on_listener_gone(const struct packet *packet)
{
	struct listener_message message;

	if (!message_listener_gone(packet, &message))
		return;
	if (listeners_drop(message.netns))
		server.changed = true;
}

static void on_name(const struct packet *packet)
{
	struct published_name name;

	if (message_name(packet, &name))
		name_publish(name.host, name.addresses, name.count, name.known);
}

static void on_asked_name(const struct packet *packet)
{
	struct published_name name;

	if (message_asked_name(packet, &name))
		directory_answer(&name, now_ms());
}

static void on_asked_name_gone(const struct packet *packet)
{
	const char *host;

	if (message_asked_name_gone(packet, &host))
		directory_gone(host);
}

static void dispatch(struct packet *packet)
{
	switch (packet->head.type) {
	case MESSAGE_HELLO:
		on_hello(packet);
		break;
	case MESSAGE_SUPPLY:
		on_supply(packet);
		break;
	case MESSAGE_TABLE:
		on_table(packet);
		break;
	case MESSAGE_WORKLOAD:
		on_workload(packet);
		break;
	case MESSAGE_WORKLOAD_GONE:
		on_workload_gone(packet);
		break;
	case MESSAGE_LISTENER:
		on_listener(packet);
		break;
	case MESSAGE_LISTENER_GONE:
		on_listener_gone(packet);
		break;
	case MESSAGE_NAME:
		on_name(packet);
		break;
	case MESSAGE_ASKED_NAME:
		on_asked_name(packet);
		break;
	case MESSAGE_ASKED_NAME_GONE:
		on_asked_name_gone(packet);
		break;
	case MESSAGE_QUIT:
		server.quit = true;
		break;
	default:
		log_warning("redirector: message of unknown type %u ignored", packet->head.type);
	}
	packet_close(packet);
}

static void read_control(void)
{
	static struct packet packet;
	int got = 0;

	while (!server.quit && server.control >= 0 && (got = packet_receive(server.control, &packet)) > 0)
		dispatch(&packet);
	publish();
	if (got < 0) {
		log_info("redirector: the loader is gone; serving on");
		close(server.control);
		server.control = -1;
	}
}

/* The newest loader is the one that counts. Only root can reach the socket's folder. */
static void accept_loader(int listen_fd)
{
	int fd = accept4(listen_fd, NULL, NULL, SOCK_CLOEXEC);

	if (fd < 0)
		return;
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &(struct timeval){.tv_sec = ANSWER_PATIENCE_S}, sizeof(struct timeval));
	if (server.control >= 0)
		close(server.control);
	server.control = fd;
	server.had_loader = true;
	server.decisions_lost = 0;
}

/* ---- life ---- */

static int serve(int listen_fd)
{
	uint64_t started = now_ms(), next_tick = started + TICK_MS;

	while (!server.quit) {
		struct pollfd fds[] = {{listen_fd, POLLIN, 0}, {main_wake_fd, POLLIN, 0}, {server.control, POLLIN, 0}};
		uint64_t now = now_ms(), drained;

		poll(fds, ARRAY_SIZE(fds), now >= next_tick ? 0 : (int)(next_tick - now));
		if (fds[0].revents)
			accept_loader(listen_fd);
		else if (fds[2].revents)
			read_control();
		if (fds[1].revents && read(main_wake_fd, &drained, sizeof(drained)) > 0) {
			send_decisions();
			directory_take_questions(now_ms());
		}
		if (now_ms() >= next_tick) {
			send_statistics();
			circuit_sweep(now_ms());
			directory_tick(now_ms());
			next_tick = now_ms() + TICK_MS;
		}
		directory_publish();
		view_reclaim();
		if (!server.had_loader && now_ms() - started > LOADER_PATIENCE_MS)
			return log_errno(-ETIMEDOUT, "redirector: no loader came within %d s; ending", LOADER_PATIENCE_MS / 1000);
	}
	return 0;
}

int redirector_run(void)
{
	size_t limit = raise_descriptor_limit(), memory = overload_limit();
	cpu_set_t cpus;
	int error;

	log_init(LOG_LEVEL_INFO, false, "redirector");
	close_range(REDIRECTOR_LISTEN_FD + 1, ~0U, 0); /* nothing of the loader's, least of all a BPF map */
	listen(REDIRECTOR_LISTEN_FD, 4); /* once more, by us: whoever connects learns our pid from the kernel */
	error = origination_init();
	if (!error)
		error = confine_privileges();
	if (error)
		return error;
	signal(SIGPIPE, SIG_IGN);
	fcntl(REDIRECTOR_LISTEN_FD, F_SETFD, FD_CLOEXEC);
	main_wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (main_wake_fd < 0)
		return log_errno(-errno, "redirector: %s; not started", strerror(errno));
	view_publish(NULL, NULL);
	worker_count = sched_getaffinity(0, sizeof(cpus), &cpus) ? 1 : (unsigned int)CPU_COUNT(&cpus);
	if (worker_count > MAX_WORKERS)
		worker_count = MAX_WORKERS;
	for (unsigned int i = 0; i < worker_count && !error; i++) {
		workers[i].memory_limit = memory / worker_count;
		error = worker_init(&workers[i], i, (limit > 2 * OWN_DESCRIPTORS ? limit - OWN_DESCRIPTORS : limit / 2) / worker_count);
	}
	for (unsigned int i = 0; i < worker_count && !error; i++)
		error = worker_start(&workers[i]);
	if (error)
		return log_errno(error, "redirector: cannot start its workers: %s; not started", strerror(-error));
	/* A worker that waits has nothing yet to be attacked with: whom it serves comes from the loader. */
	error = confine_system_calls();
	return error ? error : serve(REDIRECTOR_LISTEN_FD);
}
