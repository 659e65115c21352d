// SPDX-License-Identifier: Apache-2.0
/*
 * sluice exec: runs a command as a governed workload, in a cgroup of its own below <cgroup2>/sluice. Its identity is
 * written on the cgroup; the command starts when the daemon has seen it and its namespace has listeners.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <sys/xattr.h>

#include "base/memory.h"
#include "command/command.h"
#include "command/paths.h"
#include "config/config.h"
#include "workload/cgroup.h"

#define DAEMON_PATIENCE_MS 5000
#define EXIT_NOT_STARTED 125 /* as env(1) and docker-run(1): the command itself was never run */

static const char usage[] =
	"Usage: sluice exec [--namespace NS] [--name NAME] [--label K=V]... [--pin DIR] -- CMD [ARG]...\n"
	"\n"
	"Runs CMD as a governed workload: it reaches what the policies for that namespace, name and labels allow.\n"
	"The exit status is CMD's; 125 when CMD was not started, 126 or 127 when it cannot be executed.\n";

struct identity {
	char bytes[CGROUP_IDENTITY_MAX];
	size_t length;
};

static const char *last_part(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? slash + 1 : path;
}

static int identity_append(struct identity *identity, const char *text)
{
	size_t n = strlen(text) + 1;

	if (identity->length + n > sizeof(identity->bytes))
		return -E2BIG;
	memcpy(identity->bytes + identity->length, text, n);
	identity->length += n;
	return 0;
}

static int fail(const char *what, const char *object, int error)
{
	fprintf(stderr, "sluice: %s: %s: %s; the command was not started\n", what, object, strerror(-error));
	return error;
}

/* <cgroup2>/sluice/<name>-<pid>, with the identity on it before any process is in it. */
static int make_cgroup(char path[PATH_MAX], const char *name, const struct identity *identity)
{
	char mount[PATH_MAX];
	int error = cgroup_mount_point(mount);

	if (error)
		return fail("cgroup", "no cgroup v2 hierarchy is mounted", error);
	if (snprintf(path, PATH_MAX, "%s/sluice", mount) >= PATH_MAX)
		return fail("cgroup", mount, -ENAMETOOLONG);
	if (mkdir(path, 0755) < 0 && errno != EEXIST)
		return fail("cgroup", path, -errno);
	if (snprintf(path, PATH_MAX, "%s/sluice/%s-%d", mount, name, (int)getpid()) >= PATH_MAX)
		return fail("cgroup", mount, -ENAMETOOLONG);
	if (mkdir(path, 0755) < 0)
		return fail("cgroup", path, -errno);
	if (setxattr(path, CGROUP_IDENTITY_XATTR, identity->bytes, identity->length, 0) < 0) {
		error = -errno;
		rmdir(path);
		return fail("cgroup identity", path, error);
	}
	return 0;
}

static int join_cgroup(const char *path)
{
	char procs[PATH_MAX + 16];
	_cleanup_close_ int fd = -1;

	snprintf(procs, sizeof(procs), "%s/cgroup.procs", path);
	fd = open(procs, O_WRONLY | O_CLOEXEC);
	return fd < 0 || write(fd, "0", 1) != 1 ? -errno : 0;
}

/* In the child: governed from here on; runs when the parent says so, ends when the parent is gone. */
static void run_child(const char *cgroup, int go, char **argv)
{
	int error = join_cgroup(cgroup);
	char byte = 0;

	if (error)
		fail("cgroup", cgroup, error);
	if (error || read(go, &byte, 1) != 1)
		_exit(EXIT_NOT_STARTED);
	execvp(argv[0], argv);
	error = errno;
	fprintf(stderr, "sluice: %s: %s\n", argv[0], strerror(error));
	_exit(error == ENOENT ? 127 : 126);
}

/* Until the child is in its cgroup: the daemon must find it there. */
static void wait_until_joined(pid_t child, const char *cgroup)
{
	const char *name = strrchr(cgroup, '/');
	char now[PATH_MAX];

	for (int i = 0; i < 1000; i++) {
		const char *last = cgroup_of_process(child, now) ? NULL : strrchr(now, '/');

		if (last && !strcmp(last, name))
			return;
		usleep(1000);
	}
}

static int prepare(const struct run_paths *paths, pid_t child)
{
	struct control_request request = {.type = CONTROL_PREPARE, .pid = child};
	struct control_answer answer = {0};
	int error = control_ask(paths, &request, &answer, DAEMON_PATIENCE_MS);

	if (error == -ENOENT || error == -ECONNREFUSED)
		fprintf(stderr, "sluice: the daemon is not running (%s): start it with `sluice run`; the command was not started\n",
			paths->control);
	else if (error || answer.error)
		fprintf(stderr, "sluice: the daemon did not take the workload: %s; the command was not started\n",
			answer.text[0] ? answer.text : strerror(error ? -error : -answer.error));
	return error ? error : answer.error;
}

static volatile sig_atomic_t child_pid;

static void forward(int signal_number)
{
	if (child_pid > 0)
		kill(child_pid, signal_number);
}

static int wait_for(pid_t child)
{
	int status;

	while (waitpid(child, &status, 0) < 0)
		if (errno != EINTR)
			return EXIT_NOT_STARTED;
	return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

/* What the command left running stays governed; then the cgroup stays too, and the daemon keeps it. */
static void remove_cgroup(const char *path)
{
	for (int i = 0; i < 50; i++) {
		if (rmdir(path) == 0 || errno == ENOENT)
			return;
		usleep(2000);
	}
}

static int run(const struct run_paths *paths, const char *name, const struct identity *identity, char **argv)
{
	static const int forwarded[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2};
	char cgroup[PATH_MAX];
	int go[2], status;
	pid_t child;

	if (make_cgroup(cgroup, name, identity))
		return EXIT_NOT_STARTED;
	if (pipe2(go, O_CLOEXEC) < 0 || (child = fork()) < 0) {
		fail("cannot start", argv[0], -errno);
		remove_cgroup(cgroup);
		return EXIT_NOT_STARTED;
	}
	if (child == 0) {
		close(go[1]);
		run_child(cgroup, go[0], argv);
	}
	close(go[0]);
	child_pid = child;
	for (size_t i = 0; i < ARRAY_SIZE(forwarded); i++)
		signal(forwarded[i], forward);
	wait_until_joined(child, cgroup);
	/* Without a word from us the child ends by itself: the pipe closes. */
	if (!prepare(paths, child))
		(void)!write(go[1], "", 1);
	close(go[1]);
	status = wait_for(child);
	remove_cgroup(cgroup);
	return status;
}

struct arguments {
	const char *namespace_, *name, *pin;
	struct string_list labels; /* "key=value", in an arena */
};

/* 0, or EXIT_USAGE, of which the user was told. */
static int take_option(struct arguments *out, struct arena *arena, int option)
{
	struct label label;

	switch (option) {
	case 'n':
		out->namespace_ = optarg;
		break;
	case 'N':
		out->name = optarg;
		break;
	case 'p':
		out->pin = optarg;
		break;
	case 'l':
		if (parse_label(&label, arena, optarg))
			return refuse_option("--label", optarg, "KEY=VALUE");
		*arena_append(arena, out->labels.items, out->labels.count, out->labels.capacity) = optarg;
		break;
	default:
		fputs(usage, stderr);
		return EXIT_USAGE;
	}
	return 0;
}

static int exec_as(const struct arguments *arguments, char **argv)
{
	const char *name = arguments->name[0] ? arguments->name : last_part(argv[0]);
	struct identity identity = {0};
	struct run_paths paths;
	char base[NAME_MAX / 2];
	bool too_long;

	snprintf(base, sizeof(base), "%s", name);
	for (char *c = base; *c; c++)
		if (*c == '/' || *c == '.' || (unsigned char)*c <= ' ')
			*c = '-';
	too_long = identity_append(&identity, arguments->namespace_) || identity_append(&identity, name);
	for (size_t i = 0; i < arguments->labels.count; i++)
		too_long = too_long || identity_append(&identity, arguments->labels.items[i]);
	if (too_long) {
		fprintf(stderr, "sluice: namespace, name and labels are longer than %d bytes together\n", CGROUP_IDENTITY_MAX);
		return EXIT_NOT_STARTED;
	}
	run_paths_of(&paths, arguments->pin);
	return run(&paths, base, &identity, argv);
}

int command_exec(int argc, char **argv)
{
	static const struct option options[] = {
		{"namespace", required_argument, NULL, 'n'}, {"name", required_argument, NULL, 'N'},
		{"label", required_argument, NULL, 'l'},     {"pin", required_argument, NULL, 'p'},
		{"help", no_argument, NULL, 'h'},	     {0},
	};
	struct arguments arguments = {.namespace_ = "default", .name = "", .pin = DEFAULT_PIN};
	struct arena *arena = arena_new();
	int option, status = 0;

	while (!status && (option = getopt_long(argc, argv, "+h", options, NULL)) != -1) {
		if (option == 'h') {
			fputs(usage, stdout);
			arena_free(arena);
			return 0;
		}
		status = take_option(&arguments, arena, option);
	}
	if (!status && optind == argc) {
		fputs(usage, stderr);
		status = EXIT_USAGE;
	}
	if (!status)
		status = exec_as(&arguments, argv + optind);
	arena_free(arena);
	return status;
}
