// SPDX-License-Identifier: Apache-2.0
/* What the redirector cannot do any more. Each attempt is made by a child, which must not survive it. Runs as root. */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/common_interface_defs.h>
#include <sanitizer/lsan_interface.h>
#endif

#include "base/log.h"
#include "base/memory.h"
#include "redirect/confine.h"

#define SURVIVED 7

struct attempt {
	const char *what;
	long call;
	long arguments[6];
};

static const struct attempt forbidden[] = {
#ifndef __SANITIZE_ADDRESS__ /* whose reports and leak check need these */
	{"openat", SYS_openat, {AT_FDCWD, (long)"/etc/passwd", O_RDONLY}},
	{"newfstatat", SYS_newfstatat, {AT_FDCWD, (long)"/", 0, 0}},
	{"clone", SYS_clone, {SIGCHLD}},
	{"ptrace", SYS_ptrace, {0}},
	{"prctl", SYS_prctl, {PR_SET_DUMPABLE, 1}},
	{"ioctl", SYS_ioctl, {0}},
	{"fcntl(F_SETFL)", SYS_fcntl, {0, F_SETFL, 0}},
#ifdef SYS_open
	{"open", SYS_open, {(long)"/etc/passwd", O_RDONLY}},
#endif
#endif
#ifdef SYS_fork
	{"fork", SYS_fork, {0}},
#endif
	{"openat2", SYS_openat2, {AT_FDCWD, (long)"/etc/passwd", 0, 24}},
	{"open_by_handle_at", SYS_open_by_handle_at, {0}},
	{"statx", SYS_statx, {AT_FDCWD, (long)"/", 0, 0, 0}},
	{"unlinkat", SYS_unlinkat, {AT_FDCWD, (long)"/nothing", 0}},
	{"memfd_create", SYS_memfd_create, {(long)"m", 0}},
	{"execve", SYS_execve, {(long)"/bin/true", 0, 0}},
	{"execveat", SYS_execveat, {AT_FDCWD, (long)"/bin/true", 0, 0, 0}},
	{"clone3", SYS_clone3, {0}},
	{"kill", SYS_kill, {1, 0}},
	{"pidfd_open", SYS_pidfd_open, {1, 0}},
	{"process_vm_readv", SYS_process_vm_readv, {1}},
	{"process_vm_writev", SYS_process_vm_writev, {1}},
	{"bpf", SYS_bpf, {0}},
	{"perf_event_open", SYS_perf_event_open, {0}},
	{"io_uring_setup", SYS_io_uring_setup, {1, 0}},
	{"socket", SYS_socket, {AF_INET, SOCK_STREAM, 0}},
	{"socketpair", SYS_socketpair, {AF_UNIX, SOCK_STREAM, 0, 0}},
	{"bind", SYS_bind, {0}},
	{"listen", SYS_listen, {0}},
	{"setns", SYS_setns, {0}},
	{"unshare", SYS_unshare, {CLONE_NEWUSER}},
	{"mount", SYS_mount, {0}},
	{"chroot", SYS_chroot, {(long)"/"}},
	{"setuid", SYS_setuid, {0}},
	{"capset", SYS_capset, {0}},
	{"keyctl", SYS_keyctl, {0}},
	{"userfaultfd", SYS_userfaultfd, {0}},
	{"dup", SYS_dup, {0}},
	{"tgkill of another process", SYS_tgkill, {1, 1, SIGABRT}},
	{"setsockopt(SO_MARK)", SYS_setsockopt, {0, SOL_SOCKET, SO_MARK, 0, 0}},
	{"setsockopt(SO_ATTACH_FILTER)", SYS_setsockopt, {0, SOL_SOCKET, SO_ATTACH_FILTER, 0, 0}},
	{"setsockopt(TCP_ULP)", SYS_setsockopt, {0, IPPROTO_TCP, TCP_ULP, 0, 0}},
	{"getsockopt(SO_PEERCRED)", SYS_getsockopt, {0, SOL_SOCKET, SO_PEERCRED, 0, 0}},
	{"mmap of code", SYS_mmap, {0, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0}},
	{"mprotect to code", SYS_mprotect, {0, 0, PROT_READ | PROT_EXEC}},
};

static void confine(void)
{
	log_init(LOG_LEVEL_ERROR, false, "test");
	if (confine_privileges() || confine_system_calls())
		_exit(1);
}

static int wait_for(pid_t child)
{
	int status = 0;

	cr_assert_gt(child, 0);
	cr_assert_eq(waitpid(child, &status, 0), child);
	return status;
}

Test(confine, each_forbidden_system_call_kills)
{
	for (size_t i = 0; i < ARRAY_SIZE(forbidden); i++) {
		const struct attempt *attempt = &forbidden[i];
		const long *a = attempt->arguments;
		pid_t child = fork();
		int status;

		if (child == 0) {
			confine();
			syscall(attempt->call, a[0], a[1], a[2], a[3], a[4], a[5]);
			_exit(SURVIVED);
		}
		status = wait_for(child);
		cr_expect(WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS, "%s: status %#x", attempt->what, (unsigned int)status);
	}
}

static int go[2];

static void *try_in_thread(void *unused)
{
	char byte;

	(void)unused;
	(void)!read(go[0], &byte, 1);
	syscall(SYS_socket, AF_INET, SOCK_STREAM, 0);
	_exit(SURVIVED);
}

/* The filter comes after the workers: it must be theirs too, and end them all. */
Test(confine, threads_that_run_already_are_confined)
{
	pid_t child = fork();
	int status;

	if (child == 0) {
		struct timespec a_while = {.tv_nsec = 100000000};
		pthread_t thread;

		if (pipe(go) || pthread_create(&thread, NULL, try_in_thread, NULL))
			_exit(1);
		nanosleep(&a_while, NULL); /* the thread's own start makes system calls */
		confine();
		(void)!write(go[1], "", 1);
		poll(NULL, 0, 5000);
		_exit(SURVIVED);
	}
	status = wait_for(child);
	cr_expect(WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS, "status %#x", (unsigned int)status);
}

/* What the loader gives it. */
struct gifts {
	struct sockaddr_in at;
	int listener, upstream, table, epoll_fd;
};

static struct gifts make_gifts(void)
{
	struct gifts gifts = {{.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)},
			      socket(AF_INET, SOCK_STREAM, 0), socket(AF_INET, SOCK_STREAM, 0),
			      memfd_create("table", 0), epoll_create1(0)};
	socklen_t size = sizeof(gifts.at);

	cr_assert_eq(bind(gifts.listener, (struct sockaddr *)&gifts.at, size), 0);
	cr_assert_eq(getsockname(gifts.listener, (struct sockaddr *)&gifts.at, &size), 0);
	cr_assert_eq(listen(gifts.listener, 1), 0);
	cr_assert_eq(ftruncate(gifts.table, 100000), 0);
	return gifts;
}

/* Each returns whether it worked. */
static bool relays(const struct gifts *gifts)
{
	struct epoll_event event = {.events = EPOLLIN};
	struct linger linger = {1, 0};
	int accepted, on = 1, error = 1, pair[2];
	socklen_t size = sizeof(error);
	char bytes[8];

	if (connect(gifts->upstream, (const struct sockaddr *)&gifts->at, sizeof(gifts->at)) < 0)
		return false;
	accepted = accept4(gifts->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	return accepted >= 0 && !setsockopt(accepted, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)) &&
	       !setsockopt(accepted, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger)) &&
	       !getsockopt(accepted, SOL_SOCKET, SO_ERROR, &error, &size) && !error &&
	       !epoll_ctl(gifts->epoll_fd, EPOLL_CTL_ADD, accepted, &event) && send(gifts->upstream, "hello", 5, MSG_NOSIGNAL) == 5 &&
	       epoll_wait(gifts->epoll_fd, &event, 1, 1000) == 1 && !pipe2(pair, O_NONBLOCK | O_CLOEXEC) &&
	       fcntl(pair[0], F_SETPIPE_SZ, 65536) == 65536 && splice(accepted, NULL, pair[1], NULL, 5, SPLICE_F_MOVE) == 5 &&
	       splice(pair[0], NULL, accepted, NULL, 5, SPLICE_F_MOVE) == 5 && recv(gifts->upstream, bytes, sizeof(bytes), 0) == 5 &&
	       !shutdown(gifts->upstream, SHUT_WR) && !close(accepted);
}

static int by_value(const void *a, const void *b)
{
	return memcmp(a, b, sizeof(int));
}

static bool compiles_a_table(const struct gifts *gifts)
{
	off_t length = lseek(gifts->table, 0, SEEK_END);
	int *numbers = mmap(NULL, (size_t)length, PROT_READ | PROT_WRITE, MAP_PRIVATE, gifts->table, 0);

	if (length != 100000 || numbers == MAP_FAILED)
		return false;
	qsort(numbers, (size_t)length / sizeof(int), sizeof(int), by_value); /* asks for the size of memory */
	return !munmap(numbers, (size_t)length);
}

/* Sizes on both sides of the one from which malloc() asks the kernel each time. */
static void allocate(void)
{
	for (size_t size = 1000; size < 3000000; size *= 2) {
		void *some[8];

		for (size_t i = 0; i < ARRAY_SIZE(some); i++)
			some[i] = memset(xcalloc(1, size), 1, size);
		for (size_t i = 0; i < ARRAY_SIZE(some); i++)
			free(xrealloc(some[i], 2, size));
	}
}

Test(confine, its_work_is_not_forbidden)
{
	struct gifts gifts = make_gifts();
	pid_t child = fork();
	int status;

	if (child == 0) {
		confine();
		log_init(LOG_LEVEL_INFO, false, "test");
		log_info("a line with its time, from behind the filter");
		if (!relays(&gifts))
			_exit(2);
		if (!compiles_a_table(&gifts))
			_exit(3);
		allocate();
		_exit(SURVIVED);
	}
	status = wait_for(child);
	cr_expect(WIFEXITED(status) && WEXITSTATUS(status) == SURVIVED, "status %#x", (unsigned int)status);
}

/* The loader tells a bug from a break-in by the signal. */
Test(confine, abort_is_still_sigabrt)
{
	pid_t child = fork();
	int status;

	if (child == 0) {
		confine();
		abort();
	}
	status = wait_for(child);
	cr_expect(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT, "status %#x", (unsigned int)status);
}

Test(confine, no_identity_or_capability_is_left)
{
	pid_t child = fork();
	int status;

	if (child == 0) {
		gid_t groups[1];

		if (confine_privileges())
			_exit(1);
		if (getuid() != 65534 || geteuid() != 65534 || getgid() != 65534 || getgroups(0, groups) != 0)
			_exit(2);
		if (setuid(0) == 0 || prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) != 1 || prctl(PR_GET_DUMPABLE, 0, 0, 0, 0) != 0)
			_exit(3);
		for (unsigned long capability = 0; capability < 64; capability++)
			if (prctl(PR_CAPBSET_READ, capability, 0, 0, 0) == 1)
				_exit(4);
		_exit(SURVIVED);
	}
	status = wait_for(child);
	cr_expect(WIFEXITED(status) && WEXITSTATUS(status) == SURVIVED, "status %#x", (unsigned int)status);
}

#ifdef __SANITIZE_ADDRESS__
/* What the sanitized build keeps open is enough for it: else its findings would read as break-ins. */
Test(confine, sanitizers_can_report)
{
	volatile size_t room = 4; /* unknown to the compiler, which would see the overflow */
	pid_t child = fork();
	int status;

	if (child == 0) {
		__sanitizer_set_report_fd((void *)STDERR_FILENO); /* a file could not be opened any more */
		confine();
		_exit(__lsan_do_recoverable_leak_check() ? 1 : SURVIVED);
	}
	status = wait_for(child);
	cr_expect(WIFEXITED(status) && WEXITSTATUS(status) == SURVIVED, "leak check: status %#x", (unsigned int)status);
	child = fork();
	if (child == 0) {
		volatile char *small = malloc(room);

		__sanitizer_set_report_fd((void *)STDERR_FILENO);
		confine();
		small[room] = 1;
		_exit(SURVIVED);
	}
	status = wait_for(child);
	cr_expect(WIFEXITED(status) && WEXITSTATUS(status) == 1, "overflow: status %#x", (unsigned int)status);
}
#endif
