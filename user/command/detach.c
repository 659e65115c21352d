// SPDX-License-Identifier: Apache-2.0
/* sluice detach: the break-glass. Works with the daemon running, hung or gone. */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/pidfd.h>
#include <unistd.h>

#include "base/memory.h"
#include "command/command.h"
#include "command/paths.h"
#include "kernel/kernel.h"
#include "workload/supervisor.h"

#define DAEMON_PATIENCE_MS 3000

static const char usage[] =
	"Usage: sluice detach [--pin DIR]\n"
	"\n"
	"Stops enforcing at once: tells the daemon to let go (it stays idle until it is restarted), ends the\n"
	"redirector and removes every program, map and pin of sluice, and nothing else.\n";

/* The process that holds the daemon's lock, or 0. */
static pid_t lock_holder(const struct run_paths *paths)
{
	_cleanup_close_ int fd = open(paths->lock, O_RDWR | O_CLOEXEC);
	struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};

	if (fd < 0 || fcntl(fd, F_GETLK, &lock) < 0 || lock.l_type == F_UNLCK)
		return 0;
	return lock.l_pid;
}

static void stop_daemon(const struct run_paths *paths)
{
	struct control_request request = {.type = CONTROL_DETACH};
	struct control_answer answer;
	int error = control_ask(paths, &request, &answer, DAEMON_PATIENCE_MS);
	struct pollfd gone = {.events = POLLIN};
	pid_t holder;

	if (!error) {
		printf("daemon: told; it stays idle until it is restarted\n");
		return;
	}
	holder = lock_holder(paths);
	if (holder <= 0)
		return;
	fprintf(stderr, "sluice: daemon: pid %d does not answer (%s); killed. If something restarts it, it will attach again\n",
		(int)holder, strerror(-error));
	gone.fd = pidfd_open(holder, 0);
	kill(holder, SIGKILL);
	/* It holds the hooks as the pins do. */
	if (gone.fd >= 0 && poll(&gone, 1, DAEMON_PATIENCE_MS) != 1)
		fprintf(stderr, "sluice: daemon: pid %d does not end: its hooks stay until it does\n", (int)holder);
	if (gone.fd >= 0)
		close(gone.fd);
}

int command_detach(int argc, char **argv)
{
	static const struct option options[] = {
		{"pin", required_argument, NULL, 'p'}, {"help", no_argument, NULL, 'h'}, {0},
	};
	const char *pin = DEFAULT_PIN;
	struct run_paths paths;
	int option, error;

	while ((option = getopt_long(argc, argv, "h", options, NULL)) != -1) {
		if (option == 'p') {
			pin = optarg;
		} else {
			fputs(usage, option == 'h' ? stdout : stderr);
			return option == 'h' ? 0 : EXIT_USAGE;
		}
	}
	if (optind < argc)
		return refuse_arguments(argv + optind);
	run_paths_of(&paths, pin);
	stop_daemon(&paths);
	supervisor_quit(paths.redirector);
	error = kernel_detach(pin);
	unlink(paths.applied);
	if (error) {
		fprintf(stderr, "sluice: %s: not everything could be removed: %s\n", pin, strerror(-error));
		return 1;
	}
	printf("detached: nothing is enforced; nothing of sluice is left below %s\n", pin);
	return 0;
}
