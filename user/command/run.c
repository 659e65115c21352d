// SPDX-License-Identifier: Apache-2.0
/* sluice run: the daemon. Sets the parts up, runs the loop, and lets go in the end; what it pinned goes on enforcing. */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "command/command.h"
#include "command/log_file.h"
#include "command/privileges.h"
#include "command/run.h"
#include "observe/admin.h"
#include "command/run_metrics.h"
#include "workload/cgroup.h"
#include "workload/netns.h"
#include "workload/sockets.h"
#include "workload/tighten.h"

#define FLOWS_PERIOD_MS 200
#define FIRST_UNPRIVILEGED_PORT 1024
#define DYING_WAIT_MS 2000
#define DYING_POLL_MS 20

static const char usage[] =
	"Usage: sluice run [OPTION]...\n"
	"\n"
	"Enforces the policies of a folder on every governed cgroup of this node. When it ends, what it enforced last\n"
	"stays in force; `sluice detach` ends that.\n"
	"\n"
	"  --config DIR          the policy folder (" DEFAULT_CONFIG ")\n"
	"  --govern CGROUP       a cgroup subtree to govern, below the cgroup v2 mount; repeatable\n"
	"                        (kubepods, kubepods.slice and sluice)\n"
	"  --pin DIR             where programs and maps are pinned (" DEFAULT_PIN ")\n"
	"  --root-namespace NS   where node-wide policies live (" DEFAULT_ROOT_NAMESPACE ")\n"
	"  --unix-endpoints DIR  ServiceEntries may name the Unix sockets below DIR as endpoints (none may)\n"
	"  --redirector-port N   port of the redirector in each governed network namespace (15001)\n"
	"  --admin ADDR:PORT     serve /metrics, /healthz and /readyz there (off)\n"
	"  --backstop tc|xdp     what judges the frames of pods' links (tc); the README says what xdp costs\n"
	"  --without FEATURE     do as on a kernel that lacks it; repeatable (`sluice status` names the features)\n"
	"  --log-level LEVEL     error, warning, info or debug (info)\n"
	"  --log-json            one JSON object per line\n";

static const char *const default_governed[] = {"/kubepods", "/kubepods.slice", "/sluice"};

/* ---- options ---- */

/* Of names alone: none is empty, "." or "..". */
static bool is_below_root(const char *path)
{
	for (path += *path == '/';; path++) {
		size_t n = strcspn(path, "/");

		if (!n || (n <= 2 && strspn(path, ".") == n))
			return false;
		path += n;
		if (!*path)
			return true;
	}
}

static int add_governed(struct run_options *options, const char *text)
{
	if (!is_below_root(text))
		return refuse_option("--govern", text, "the path of a cgroup below the root, without a trailing slash");
	*array_append(options->governed, options->governed_count, options->governed_capacity) =
		text[0] == '/' ? text : xasprintf("/%s", text);
	return 0;
}

static int add_without(struct run_options *options, const char *name)
{
	enum feature feature = kernel_feature_named(name);

	if (feature == FEATURE_COUNT)
		return refuse_option("--without", name, "a feature that `sluice status` names");
	options->without |= 1U << feature;
	return 0;
}

/* Below 1024 a listener takes CAP_NET_BIND_SERVICE, which is given up. */
static int take_redirector_port(struct run_options *options, const char *text)
{
	if (parse_port(&options->redirector_port, text) || options->redirector_port < FIRST_UNPRIVILEGED_PORT)
		return refuse_option("--redirector-port", text, "1024 to 65535");
	return 0;
}

static int take_backstop(struct run_options *options, const char *text)
{
	options->backstop_xdp = !strcmp(text, "xdp");
	return options->backstop_xdp || !strcmp(text, "tc") ? 0 : refuse_option("--backstop", text, "tc or xdp");
}

static int take_log_level(struct run_options *options, const char *text)
{
	enum log_level level;

	options->log_level = text;
	return log_level_parse(&level, text) ? refuse_option("--log-level", text, "error, warning, info or debug") : 0;
}

/* 0, or EXIT_USAGE, of which the user was told. */
static int take_option(struct run_options *out, int option)
{
	switch (option) {
	case 'c':
		out->config = optarg;
		break;
	case 'g':
		return add_governed(out, optarg);
	case 'p':
		out->pin = optarg;
		break;
	case 'r':
		out->root_namespace = optarg;
		break;
	case 'u':
		return take_unix_directory(&out->unix_directory, optarg);
	case 'P':
		return take_redirector_port(out, optarg);
	case 'a':
		out->admin = optarg;
		break;
	case 'w':
		return add_without(out, optarg);
	case 'b':
		return take_backstop(out, optarg);
	case 'l':
		return take_log_level(out, optarg);
	case 'j':
		out->log_json = true;
		break;
	default:
		fputs(usage, stderr);
		return EXIT_USAGE;
	}
	return 0;
}

/* 0, or the exit status plus one. */
static int parse_options(int argc, char **argv, struct run_options *out)
{
	static const struct option options[] = {
		{"config", required_argument, NULL, 'c'},    {"govern", required_argument, NULL, 'g'},
		{"pin", required_argument, NULL, 'p'},	     {"root-namespace", required_argument, NULL, 'r'},
		{"redirector-port", required_argument, NULL, 'P'}, {"admin", required_argument, NULL, 'a'},
		{"without", required_argument, NULL, 'w'},   {"backstop", required_argument, NULL, 'b'},
		{"log-level", required_argument, NULL, 'l'}, {"log-json", no_argument, NULL, 'j'},
		{"unix-endpoints", required_argument, NULL, 'u'}, {"help", no_argument, NULL, 'h'}, {0},
	};
	enum log_level level;
	int option;

	while ((option = getopt_long(argc, argv, "h", options, NULL)) != -1) {
		if (option == 'h') {
			fputs(usage, stdout);
			return 1;
		}
		if (take_option(out, option))
			return EXIT_USAGE + 1;
	}
	if (optind < argc)
		return refuse_arguments(argv + optind) + 1;
	if (!out->governed_count)
		for (size_t i = 0; i < ARRAY_SIZE(default_governed); i++)
			*array_append(out->governed, out->governed_count, out->governed_capacity) = default_governed[i];
	log_level_parse(&level, out->log_level);
	log_init(level, out->log_json, "sluice");
	return 0;
}

/* ---- events ---- */

static void on_request(void *context, const struct listener_request *request)
{
	struct daemon *daemon = context;
	int error;

	if (request->kind == REQUEST_KILL) {
		error = workloads_destroy_tcp(daemon->workloads, request);
		if (error && error != -ENOENT)
			log_warning("netns %llu: cannot destroy the socket of port %u, whose name was refused: %s; it waits until it "
				    "times out", (unsigned long long)request->netns, request->own_port, strerror(-error));
		return;
	}
	log_info("netns %llu: process %u needs a listener there", (unsigned long long)request->netns, request->pid);
	workloads_prepare_process(daemon->workloads, (pid_t)request->pid);
}

static void on_requests(void *context, int fd, uint32_t events)
{
	struct daemon *daemon = context;

	(void)fd;
	(void)events;
	kernel_requests_read(daemon->kernel);
}

static void on_flow(void *context, const struct flow_event *event)
{
	struct daemon *daemon = context;
	const struct rule_set *rules =
		daemon->live.policy ? policy_rule_set_get(daemon->live.policy, event->rule_set) : NULL;

	denials_see(daemon->denials, event, rules ? rules->origin : "no policy");
}

static void on_flows(void *context)
{
	struct daemon *daemon = context;

	kernel_flows_read(daemon->kernel, on_flow, daemon);
	loop_timer_arm(daemon->flows, FLOWS_PERIOD_MS);
}

static void on_decision(void *context, const struct flow_event *event)
{
	struct daemon *daemon = context;
	struct flow_event complete = *event;

	for (size_t i = 0; i < workloads_count(daemon->workloads); i++) {
		const struct workload *workload = workloads_get(daemon->workloads, i);

		if (workload->id == event->workload)
			snprintf(complete.name, sizeof(complete.name), "%s/%s", workload->namespace_, workload->name);
	}
	kernel_record(daemon->kernel, &complete);
}

static void on_asked(void *context, const struct ask_message *question, const char *host)
{
	asked_question(context, question, host);
}

static void on_listener(void *context, uint64_t netns, bool v6, int fd)
{
	struct daemon *daemon = context;

	workloads_adopt_listener(daemon->workloads, netns, v6, fd);
}

static void on_refill(void *context)
{
	apply_refill(context);
}

static void on_workloads_changed(void *context)
{
	apply_workloads_changed(context);
}

static void on_workload_gone(void *context, uint32_t workload)
{
	struct daemon *daemon = context;

	supervisor_send_workload_gone(daemon->supervisor, workload);
}

static void on_netns_ready(void *context, const struct workload_netns *netns)
{
	struct daemon *daemon = context;

	supply_add_netns(daemon->supply, netns->cookie, netns->netns_fd);
	devices_add_netns(daemon->devices, netns->cookie, netns->netns_fd);
	if (daemon->filled)
		supervisor_send_netns(daemon->supervisor, netns);
}

static void on_namespace_found(void *context, uint64_t netns, int netns_fd)
{
	struct daemon *daemon = context;

	tighten_spare_accepted(daemon->kernel, netns, netns_fd);
}

static void on_netns_gone(void *context, const struct workload_netns *netns)
{
	struct daemon *daemon = context;

	supply_remove_netns(daemon->supply, netns->cookie);
	devices_remove_netns(daemon->devices, netns->cookie);
	supervisor_send_netns_gone(daemon->supervisor, netns);
}

static void on_name(void *context, const char *host)
{
	apply_names_changed(context, host);
}

static int on_name_socket(void *context, int fd)
{
	struct daemon *daemon = context;

	return kernel_mark_socket(daemon->kernel, fd, MARK_OWN, 0);
}

static void on_signal(void *context, int fd, uint32_t events)
{
	struct daemon *daemon = context;
	struct signalfd_siginfo info;

	(void)events;
	if (read(fd, &info, sizeof(info)) != sizeof(info))
		return;
	if (info.ssi_signo == SIGHUP)
		apply_reload(daemon);
	else
		loop_stop(daemon->loop);
}

/* ---- setting up, in order; each says why it failed ---- */

/* A killed daemon has its lock, and its admin port, until the kernel has taken it down, which a supervisor's restart does not wait for. */
static int lock_within(int fd, unsigned int wait_ms)
{
	struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};

	while (fcntl(fd, F_SETLK, &lock) < 0) {
		if ((errno != EAGAIN && errno != EACCES) || wait_ms == 0)
			return -errno;
		usleep(DYING_POLL_MS * 1000);
		wait_ms -= DYING_POLL_MS;
	}
	return 0;
}

static int take_lock(struct daemon *daemon)
{
	int err;

	if (mkdir(daemon->paths.directory, 0700) < 0 && errno != EEXIST)
		return log_errno(-errno, "%s: %s; not started", daemon->paths.directory, strerror(errno));
	if (chmod(daemon->paths.directory, 0700) < 0)
		return log_errno(-errno, "%s: %s; not started", daemon->paths.directory, strerror(errno));
	daemon->lock_fd = open(daemon->paths.lock, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (daemon->lock_fd < 0)
		return log_errno(-errno, "%s: %s; not started", daemon->paths.lock, strerror(errno));
	err = lock_within(daemon->lock_fd, DYING_WAIT_MS);
	if (err == -EAGAIN || err == -EACCES)
		return log_errno(err, "%s: another `sluice run` holds it; not started", daemon->paths.lock);
	return err ? log_errno(err, "%s: %s; not started", daemon->paths.lock, strerror(-err)) : 0;
}

static int watch_signals(struct daemon *daemon)
{
	sigset_t mask;

	signal(SIGPIPE, SIG_IGN);
	sigemptyset(&mask);
	sigaddset(&mask, SIGTERM);
	sigaddset(&mask, SIGINT);
	sigaddset(&mask, SIGHUP);
	sigprocmask(SIG_BLOCK, &mask, NULL);
	daemon->signal_fd = signalfd(-1, &mask, SFD_CLOEXEC | SFD_NONBLOCK);
	return daemon->signal_fd < 0 ? -errno : loop_watch(daemon->loop, daemon->signal_fd, EPOLLIN, on_signal, daemon);
}

static void raise_limits(void)
{
	struct rlimit limit;

	if (!getrlimit(RLIMIT_NOFILE, &limit)) {
		limit.rlim_cur = limit.rlim_max;
		setrlimit(RLIMIT_NOFILE, &limit);
	}
}

/*
 * Where `sluice exec` puts things: one that is there needs not be waited for. The root of the hierarchy is writable for
 * nobody, so this is for those who start with more capabilities than they need. kubepods belongs to kubelet.
 */
static void make_exec_cgroup(void)
{
	char mount[PATH_MAX], path[PATH_MAX];

	if (!cgroup_mount_point(mount) && snprintf(path, sizeof(path), "%s/sluice", mount) < PATH_MAX && mkdir(path, 0755) < 0 &&
	    errno != EEXIST)
		log_debug("%s: %s; the first `sluice exec` makes it", path, strerror(errno));
}

static int mark_own(void *context, int fd)
{
	return kernel_mark_socket(context, fd, MARK_OWN, 0);
}

static int probe_sockets(struct daemon *daemon)
{
	const uint32_t without = daemon->options->without;
	bool destroys, tells_storage;
	int error = sockets_probe(kernel_marks_fd(daemon->kernel), mark_own, daemon->kernel, &destroys, &tells_storage);

	if (error)
		return log_errno(error, "sock_diag: cannot be tried: %s; not started", strerror(-error));
	kernel_set_feature(daemon->kernel, FEATURE_DESTROY, destroys && !(without & 1U << FEATURE_DESTROY));
	kernel_set_feature(daemon->kernel, FEATURE_DIAG_STORAGE, tells_storage && !(without & 1U << FEATURE_DIAG_STORAGE));
	return 0;
}

static int open_parts(struct daemon *daemon, const char *cgroup_mount)
{
	const struct run_options *options = daemon->options;
	uint64_t host_netns = 0;
	struct kernel_options kernel = {.pin = options->pin, .cgroup = cgroup_mount, .config = options->config,
					.redirector_port = options->redirector_port, .without = options->without,
					.backstop_xdp = options->backstop_xdp};
	struct names_options names = {.changed = on_name, .socket = on_name_socket, .context = daemon};
	struct workloads_options workloads = {cgroup_mount, options->governed, options->governed_count,
					      options->redirector_port, 0};
	struct workload_events workload_events = {on_workloads_changed, on_workload_gone, on_netns_ready, on_netns_gone, daemon};
	struct supervisor_options supervisor = {daemon->paths.redirector, options->root_namespace, options->log_level,
						options->log_json, options->redirector_port};
	struct devices_options devices = {.found = on_namespace_found, .context = daemon};
	struct supervisor_events supervisor_events = {on_listener, on_decision, on_asked, on_refill, daemon};
	int error = netns_own_cookie(&host_netns);

	if (error)
		return log_errno(error, "network namespace cookie: %s (Linux 5.14 or newer is needed); not started", strerror(-error));
	kernel.host_netns = host_netns;
	workloads.host_netns = host_netns;
	devices.host_netns = host_netns;
	error = kernel_open(&daemon->kernel, &kernel);
	if (error)
		return error;
	error = probe_sockets(daemon);
	if (error)
		return error;
	kernel_on_request(daemon->kernel, on_request, daemon);
	error = loop_watch(daemon->loop, kernel_requests_fd(daemon->kernel), EPOLLIN, on_requests, daemon);
	if (error)
		return log_errno(error, "requests ring: %s; not started", strerror(-error));
	error = names_new(&daemon->names, daemon->loop, &names);
	if (!error)
		error = asked_start(daemon);
	if (error)
		return log_errno(error, "resolver: %s; not started", strerror(-error));
	error = supply_new(&daemon->supply, daemon->kernel, options->unix_directory);
	if (!error)
		error = devices_new(&daemon->devices, daemon->loop, daemon->kernel, &devices);
	if (!error)
		error = workloads_new(&daemon->workloads, daemon->loop, daemon->kernel, &workloads, &workload_events);
	if (!error)
		error = supervisor_new(&daemon->supervisor, daemon->loop, daemon->supply, &supervisor, &supervisor_events);
	return error;
}

static int listen_for_admin(struct daemon *daemon)
{
	if (!daemon->options->admin)
		return 0;
	daemon->admin_fd = admin_listen(daemon->options->admin, DYING_WAIT_MS);
	return daemon->admin_fd < 0 ? daemon->admin_fd : 0;
}

/* Governed cgroups first, then rules, then the hooks: nothing is refused for want of a step that comes later. */
static int start(struct daemon *daemon)
{
	char cgroup_mount[PATH_MAX];
	int error = cgroup_mount_point(cgroup_mount);

	if (error)
		return log_errno(error, "cgroup v2: no hierarchy is mounted; not started");
	raise_limits();
	error = take_lock(daemon);
	if (!error)
		error = watch_signals(daemon);
	if (!error)
		error = listen_for_admin(daemon);
	if (!error)
		error = open_parts(daemon, cgroup_mount);
	if (error)
		return error;
	daemon->denials = denials_new();
	daemon->health = health_new(daemon);
	proof_start(daemon);
	/* Looks at the workloads when it knows from the documents who they are. */
	error = apply_start(daemon);
	if (error)
		return error;
	kernel_set_pids(daemon->kernel, (uint32_t)getpid(), supervisor_pid(daemon->supervisor));
	daemon->flows = loop_timer_new(daemon->loop, on_flows, daemon);
	loop_timer_arm(daemon->flows, FLOWS_PERIOD_MS);
	return control_open(daemon);
}

static void let_go(struct daemon *daemon)
{
	control_close(daemon);
	apply_stop(daemon);
	proof_stop(daemon);
	loop_timer_free(daemon->flows);
	supervisor_free(daemon->supervisor);
	workloads_free(daemon->workloads);
	devices_free(daemon->devices);
	supply_free(daemon->supply);
	names_free(daemon->names);
	dynamic_names_free(daemon->asked);
	denials_free(daemon->denials);
	health_free(daemon->health);
	kernel_close(daemon->kernel);
	if (daemon->lock_fd >= 0)
		close(daemon->lock_fd);
	if (daemon->signal_fd >= 0)
		close(daemon->signal_fd);
	loop_free(daemon->loop);
}

/* After `sluice detach`: alive, so that nothing restarts it into attaching again. */
static void idle_until_stopped(void)
{
	sigset_t mask;
	int got;

	log_warning("detached by an operator: nothing is enforced until this daemon is restarted");
	sigemptyset(&mask);
	sigaddset(&mask, SIGTERM);
	sigaddset(&mask, SIGINT);
	sigwait(&mask, &got);
}

int command_run(int argc, char **argv)
{
	struct run_options options = {.config = DEFAULT_CONFIG, .pin = DEFAULT_PIN, .root_namespace = DEFAULT_ROOT_NAMESPACE,
				      .log_level = "info", .redirector_port = DEFAULT_REDIRECTOR_PORT};
	struct daemon daemon = {.options = &options, .control_fd = -1, .signal_fd = -1, .admin_fd = -1, .detach_fd = -1, .lock_fd = -1};
	struct run_metrics metrics = {.lock = PTHREAD_MUTEX_INITIALIZER};
	struct admin *admin = NULL;
	int status = parse_options(argc, argv, &options), error;

	if (status) {
		free(options.governed);
		return status - 1;
	}
	run_paths_of(&daemon.paths, options.pin);
	make_exec_cgroup();
	log_file_prepare();
	error = privileges_drop();
	if (!error)
		daemon.loop = loop_new();
	if (!error)
		error = daemon.loop ? start(&daemon) : -errno;
	if (!error && options.admin)
		error = run_metrics_start(&admin, &metrics, &daemon);
	if (!error)
		error = loop_run(daemon.loop);
	if (!error)
		error = daemon.error;
	run_metrics_stop(&metrics, daemon.detached);
	let_go(&daemon);
	if (daemon.detached) {
		control_answer_detach(&daemon);
		idle_until_stopped();
	}
	admin_stop(admin);
	free(options.governed);
	return error ? 1 : 0;
}
