// SPDX-License-Identifier: Apache-2.0
#include "redirect/confine.h"

#include <cap-ng.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/landlock.h>
#include <malloc.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <seccomp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "abi.h"
#include "base/log.h"
#include "base/memory.h"

#define NOBODY 65534

/* A sanitizer's report reads /proc/self and the binary: that build keeps a few ways open. */
#ifdef __SANITIZE_ADDRESS__
#define SANITIZED true
#else
#define SANITIZED false
#endif

/* ---- privileges ---- */

/*
 * A second lock behind the filter of system calls: no path leads anywhere. Kernels before 5.13, and those built or booted
 * without Landlock, have the filter alone.
 */
static void leave_file_system(void)
{
	struct landlock_ruleset_attr all = {
		.handled_access_fs = LANDLOCK_ACCESS_FS_EXECUTE | LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_READ_FILE |
				     LANDLOCK_ACCESS_FS_READ_DIR | LANDLOCK_ACCESS_FS_REMOVE_DIR | LANDLOCK_ACCESS_FS_REMOVE_FILE |
				     LANDLOCK_ACCESS_FS_MAKE_CHAR | LANDLOCK_ACCESS_FS_MAKE_DIR | LANDLOCK_ACCESS_FS_MAKE_REG |
				     LANDLOCK_ACCESS_FS_MAKE_SOCK | LANDLOCK_ACCESS_FS_MAKE_FIFO | LANDLOCK_ACCESS_FS_MAKE_BLOCK |
				     LANDLOCK_ACCESS_FS_MAKE_SYM,
	};
	_cleanup_close_ int ruleset = (int)syscall(SYS_landlock_create_ruleset, &all, sizeof(all), 0);

	if (ruleset < 0 || syscall(SYS_landlock_restrict_self, ruleset, 0) < 0)
		log_debug("redirector: no Landlock (%s): the filter of system calls alone keeps it from files", strerror(errno));
}

/* What glibc would look up in files later, at a moment that is hard to foresee. */
static void settle_libc(void)
{
	/* strftime() looks whether /etc/localtime is another one; not if TZ is set. Everything here is in UTC. */
	setenv("TZ", "UTC0", 1);
	tzset();
	/* The number of arenas depends on that of processors, their shrinking on the overcommit mode. Workers keep
	 * what they need often. */
	mallopt(M_ARENA_MAX, 1);
}

int confine_privileges(void)
{
	settle_libc();
	/* Needs CAP_SETPCAP, which a container may lack; without it no_new_privs makes the bounding set worthless. */
	capng_clear(CAPNG_SELECT_ALL);
	(void)capng_apply(CAPNG_SELECT_BOUNDS | CAPNG_SELECT_AMBIENT);
	if (setgroups(0, NULL) < 0 || setresgid(NOBODY, NOBODY, NOBODY) < 0 || setresuid(NOBODY, NOBODY, NOBODY) < 0)
		return log_errno(-errno, "redirector: cannot become nobody: %s; not started", strerror(errno));
	capng_clear(CAPNG_SELECT_ALL);
	if (capng_apply(CAPNG_SELECT_CAPS) < 0)
		return log_errno(-EPERM, "redirector: cannot drop its capabilities; not started");
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0)
		return log_errno(-errno, "redirector: %s; not started", strerror(errno));
	if (!SANITIZED)
		leave_file_system();
	return 0;
}

/* ---- system calls ---- */

/* Any arguments. Each acts on descriptors that the loader gave, on memory, or on time. */
static const int allowed[] = {
	/* sockets and pipes: made by the loader but for what accept4 and pipe2 make */
	SCMP_SYS(accept4), SCMP_SYS(connect), SCMP_SYS(shutdown), SCMP_SYS(recvfrom), SCMP_SYS(recvmsg), SCMP_SYS(sendto),
	SCMP_SYS(sendmsg), SCMP_SYS(getsockname), SCMP_SYS(getpeername), SCMP_SYS(pipe2), SCMP_SYS(splice), SCMP_SYS(read), SCMP_SYS(write), SCMP_SYS(close),
	/* the size of a table's memfd */
	SCMP_SYS(lseek),
	/* waiting. What glibc makes of epoll_wait() and poll() depends on the architecture */
	SCMP_SYS(epoll_ctl), SCMP_SYS(epoll_wait), SCMP_SYS(epoll_pwait), SCMP_SYS(poll), SCMP_SYS(ppoll), SCMP_SYS(futex),
	SCMP_SYS(restart_syscall),
	/* memory; mmap and mprotect are below. qsort() asks how much there is */
	SCMP_SYS(brk), SCMP_SYS(munmap), SCMP_SYS(mremap), SCMP_SYS(madvise), SCMP_SYS(sysinfo),
	/* the randomness of TLS */
	SCMP_SYS(getrandom),
	/* time, where the vDSO has none */
	SCMP_SYS(clock_gettime), SCMP_SYS(gettimeofday), SCMP_SYS(time),
	/* the end: return from main(), and abort() with tgkill below */
	SCMP_SYS(getpid), SCMP_SYS(gettid), SCMP_SYS(rt_sigprocmask), SCMP_SYS(rt_sigaction), SCMP_SYS(rt_sigreturn), SCMP_SYS(writev),
	SCMP_SYS(exit), SCMP_SYS(exit_group),
};

/* A report; and the leak check at the end, which looks on from a task of its own. */
static const int allowed_sanitizers[] = {
	SCMP_SYS(open), SCMP_SYS(openat), SCMP_SYS(newfstatat), SCMP_SYS(readlink), SCMP_SYS(getdents), SCMP_SYS(getdents64), SCMP_SYS(ioctl), SCMP_SYS(fcntl),
	SCMP_SYS(sched_yield), SCMP_SYS(sigaltstack), SCMP_SYS(clone), SCMP_SYS(ptrace), SCMP_SYS(wait4), SCMP_SYS(prctl),
	SCMP_SYS(getppid),
};

/* Options of sockets that it sets and asks for: the rest of that interface is as large as the kernel's. */
static const struct {
	int call, level, option;
} options[] = {
	{SCMP_SYS(setsockopt), SOL_SOCKET, SO_LINGER},
	{SCMP_SYS(setsockopt), SOL_SOCKET, SO_SNDTIMEO},
	{SCMP_SYS(setsockopt), SOL_SOCKET, SO_KEEPALIVE},
	{SCMP_SYS(setsockopt), IPPROTO_TCP, TCP_KEEPCNT},
	{SCMP_SYS(setsockopt), IPPROTO_TCP, TCP_KEEPIDLE},
	{SCMP_SYS(setsockopt), IPPROTO_TCP, TCP_KEEPINTVL},
	{SCMP_SYS(setsockopt), IPPROTO_TCP, TCP_NODELAY},
	{SCMP_SYS(getsockopt), SOL_SOCKET, SO_ERROR},
	{SCMP_SYS(getsockopt), SOL_SOCKET, SO_DOMAIN},
	{SCMP_SYS(getsockopt), SLUICE_SOL, SLUICE_SO_RECORD},
};

static int allow_some(scmp_filter_ctx filter)
{
	scmp_datum_t self = (scmp_datum_t)getpid();
	int error = 0;

	for (size_t i = 0; i < ARRAY_SIZE(options) && !error; i++)
		error = seccomp_rule_add(filter, SCMP_ACT_ALLOW, options[i].call, 2,
					 SCMP_A1(SCMP_CMP_EQ, (scmp_datum_t)options[i].level),
					 SCMP_A2(SCMP_CMP_EQ, (scmp_datum_t)options[i].option));
	/* Memory that was data never becomes code. */
	if (!error)
		error = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(mmap), 1, SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0));
	if (!error)
		error = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(mprotect), 1, SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0));
	if (!error)
		error = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(fcntl), 1, SCMP_A1(SCMP_CMP_EQ, F_SETPIPE_SZ));
	if (!error)
		error = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(tgkill), 2, SCMP_A0(SCMP_CMP_EQ, self),
					 SCMP_A2(SCMP_CMP_EQ, SIGABRT));
	return error;
}

int confine_system_calls(void)
{
	scmp_filter_ctx filter = seccomp_init(SCMP_ACT_KILL_PROCESS);
	int error = filter ? 0 : -ENOMEM;

	for (size_t i = 0; i < ARRAY_SIZE(allowed) && !error; i++)
		error = seccomp_rule_add(filter, SCMP_ACT_ALLOW, allowed[i], 0);
	for (size_t i = 0; SANITIZED && i < ARRAY_SIZE(allowed_sanitizers) && !error; i++)
		error = seccomp_rule_add(filter, SCMP_ACT_ALLOW, allowed_sanitizers[i], 0);
	if (!error)
		error = allow_some(filter);
	if (!error)
		error = seccomp_attr_set(filter, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS);
	if (!error)
		error = seccomp_attr_set(filter, SCMP_FLTATR_CTL_TSYNC, 1);
	if (!error)
		error = seccomp_attr_set(filter, SCMP_FLTATR_CTL_OPTIMIZE, 2); /* a binary tree instead of a chain */
	if (!error)
		error = seccomp_load(filter);
	seccomp_release(filter);
	return error ? log_errno(error, "redirector: cannot filter its system calls: %s; not started", strerror(-error)) : 0;
}
