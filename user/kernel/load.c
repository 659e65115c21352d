// SPDX-License-Identifier: Apache-2.0
/* Loading, adopting, attaching and detaching. */
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/limits.h>
#include <linux/magic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include "base/log.h"
#include "kernel/internal.h"

#ifndef BPF_FS_MAGIC
#define BPF_FS_MAGIC 0xcafe4a11
#endif

#define GUARD_INBOUND "guard_inbound"
#define SOCK_OPS "sock_ops"

const char *const kernel_programs[KERNEL_PROGRAM_COUNT] = {
	"connect4", "connect6", "sendmsg4", "sendmsg6", "recvmsg4",
	"recvmsg6", "getpeername4", "getpeername6", SOCK_OPS, "origdst",
	"guard", GUARD_INBOUND, "post_bind4", "post_bind6",
};

static const char *const live_maps[] = {"intercept", "bypass", "services", "ports", "names", "rule_sets", "assignments", "catalog"};

/* libbpf explains its failures at length: that is for --log-level debug, our own line says what matters. */
static int print_libbpf(enum libbpf_print_level level, const char *format, va_list args)
{
	char line[2048];
	size_t n;

	if (level == LIBBPF_DEBUG || !log_enabled(LOG_LEVEL_DEBUG))
		return 0;
	vsnprintf(line, sizeof(line), format, args);
	n = strlen(line);
	if (n && line[n - 1] == '\n')
		line[n - 1] = 0;
	log_debug("%s", line);
	return 0;
}

int kernel_pin_path(char out[PATH_MAX], const char *directory, const char *prefix, const char *name)
{
	int n = snprintf(out, PATH_MAX, "%s/%s%s", directory, prefix, name);

	return n < 0 || n >= PATH_MAX ? -ENAMETOOLONG : 0;
}

static bool is_bpffs(const char *path)
{
	struct statfs fs;

	return statfs(path, &fs) == 0 && (unsigned long)fs.f_type == BPF_FS_MAGIC;
}

int kernel_prepare_pin_directory(const char *pin, char *why, size_t room)
{
	char parent[PATH_MAX], *slash;
	int error;

	snprintf(parent, sizeof(parent), "%s", pin);
	slash = strrchr(parent, '/');
	if (!slash || slash == parent) {
		snprintf(why, room, "must be a directory below a bpffs mount");
		return -EINVAL;
	}
	*slash = 0;
	if (!is_bpffs(parent) && !is_bpffs(pin)) {
		if (strcmp(parent, "/sys/fs/bpf")) {
			snprintf(why, room, "%s is not on a bpffs (mount -t bpf bpf %s)", parent, parent);
			return -ENODEV;
		}
		if (mount("bpf", parent, "bpf", MS_NOSUID | MS_NODEV | MS_NOEXEC, "mode=0700") < 0) {
			error = -errno;
			snprintf(why, room, "cannot mount a bpffs at %s: %s", parent, strerror(-error));
			return error;
		}
		log_info("bpffs: mounted at %s", parent);
	}
	if (mkdir(pin, 0700) < 0 && errno != EEXIST) {
		error = -errno;
		snprintf(why, room, "cannot make it: %s", strerror(-error));
		return error;
	}
	return 0;
}

static int check_abi(const char *pin)
{
	char path[PATH_MAX];
	_cleanup_close_ int fd = -1;
	struct bpf_map_info info = {0};
	__u32 size = sizeof(info), zero = 0;
	struct state state;

	if (kernel_pin_path(path, pin, "", "state"))
		return -ENAMETOOLONG;
	fd = bpf_obj_get(path);
	if (fd < 0)
		return 0;
	if (bpf_obj_get_info_by_fd(fd, &info, &size) || info.value_size != sizeof(state) ||
	    bpf_map_lookup_elem(fd, &zero, &state) || (state.abi && state.abi != SLUICE_ABI))
		return log_errno(-EPROTO,
				 "%s: pinned by another version of sluice (its ABI is not %d), which goes on enforcing; "
				 "run `sluice detach`, then start this one",
				 pin, SLUICE_ABI);
	return 0;
}

static bool is_template(const struct bpf_map *map)
{
	const char *name = bpf_map__name(map);
	size_t n = strlen(name), suffix = strlen("_template");

	return n > suffix && !strcmp(name + n - suffix, "_template");
}

static int load_programs(struct kernel *kernel, uint32_t features)
{
	const struct {
		enum feature feature;
		struct bpf_program *programs[2];
	} *group, groups[] = {
		{FEATURE_GUARD, {kernel->bpf->progs.guard, kernel->bpf->progs.guard_inbound}},
		{FEATURE_VETH, {kernel->bpf->progs.veth, kernel->bpf->progs.veth_inbound}},
		{FEATURE_BIND, {kernel->bpf->progs.post_bind4, kernel->bpf->progs.post_bind6}},
	};

	for (group = groups; group < groups + ARRAY_SIZE(groups); group++)
		for (size_t i = 0; i < ARRAY_SIZE(group->programs); i++)
			bpf_program__set_autoload(group->programs[i], features & 1U << group->feature);
	bpf_program__set_autoload(kernel->bpf->progs.veth_xdp, kernel->state.notes_owners && features & 1U << FEATURE_VETH);
	return sluice_bpf__load(kernel->bpf);
}

static int load_object(struct kernel *kernel, uint32_t features)
{
	struct bpf_map *map;
	char path[PATH_MAX];

	kernel->bpf = sluice_bpf__open();
	if (!kernel->bpf)
		return log_errno(-errno, "BPF object: cannot open it: %s; not started", strerror(errno));
	bpf_object__for_each_map(map, kernel->bpf->obj) {
		if (is_template(map)) {
			bpf_map__set_autocreate(map, false);
			continue;
		}
		/* Constants go with their programs, which hold them. */
		if (bpf_map__is_internal(map))
			continue;
		if (kernel_pin_path(path, kernel->pin, "", bpf_map__name(map)))
			return -ENAMETOOLONG;
		bpf_map__set_pin_path(map, path);
	}
	return load_programs(kernel, features);
}

/*
 * The probes are small. A verifier that knows each thing may still give up on a program that is large: then what is
 * optional is left out, as little as possible.
 */
static int load_what_loads(struct kernel *kernel)
{
	static const uint32_t left_out[] = {0, 1U << FEATURE_GUARD, 1U << FEATURE_VETH, 1U << FEATURE_GUARD | 1U << FEATURE_VETH,
					    1U << FEATURE_GUARD | 1U << FEATURE_VETH | 1U << FEATURE_BIND};
	int error = -EINVAL;

	for (size_t i = 0; i < ARRAY_SIZE(left_out) && error; i++) {
		if (left_out[i] & ~kernel->features)
			continue; /* the same as before */
		sluice_bpf__destroy(kernel->bpf);
		error = load_object(kernel, kernel->features & ~left_out[i]);
		if (!error)
			kernel->features &= ~left_out[i];
	}
	if (error)
		return log_errno(error, "BPF programs: the kernel refused them: %s (see --log-level debug); not started",
				 strerror(-error));
	return 0;
}

void kernel_log_missing(enum feature feature)
{
	const struct feature_text *text = &kernel_features[feature];

	if (feature_is_mandatory(feature))
		log_error("kernel: %s is missing (%s), without which %s; not started", text->name, text->what, text->without);
	else
		log_warning("kernel: %s is missing (%s): %s", text->name, text->what, text->without);
}

static int find_features(struct kernel *kernel, uint32_t without)
{
	int error = 0;

	kernel->features = kernel_probe() & ~without;
	for (enum feature feature = 0; feature_is_mandatory(feature); feature++) {
		if (kernel_has(kernel, feature))
			continue;
		kernel_log_missing(feature);
		error = -EOPNOTSUPP;
	}
	if (!error)
		error = load_what_loads(kernel);
	if (!error && kernel->state.notes_owners && !(kernel_has(kernel, FEATURE_GUARD) && kernel_has(kernel, FEATURE_VETH)))
		error = log_errno(-EOPNOTSUPP, "--backstop xdp: needs guard, which knows whose flows a driver sees, and veth; not started");
	for (enum feature feature = FEATURE_BIND; feature < FEATURE_DESTROY && !error; feature++)
		if (!kernel_has(kernel, feature))
			kernel_log_missing(feature);
	return error;
}

bool kernel_has(const struct kernel *kernel, enum feature feature)
{
	return kernel->features & 1U << feature;
}

bool kernel_judges_in_driver(const struct kernel *kernel)
{
	return kernel->state.notes_owners;
}

void kernel_set_feature(struct kernel *kernel, enum feature feature, bool found)
{
	if (found) {
		kernel->features |= 1U << feature;
	} else {
		kernel->features &= ~(1U << feature);
		kernel_log_missing(feature);
	}
	kernel->state.features = kernel->features;
	kernel_write_state(kernel);
}

bool kernel_runs(const struct state *state, const char *program)
{
	if (!strcmp(program, GUARD_INBOUND) && !state->watches_host)
		return false;
	if (!strcmp(program, SOCK_OPS)) /* guard does its part where it can */
		return !(state->features & 1U << FEATURE_GUARD);
	if (!strncmp(program, "guard", strlen("guard")))
		return state->features & 1U << FEATURE_GUARD;
	return strncmp(program, "post_bind", strlen("post_bind")) != 0 || state->features & 1U << FEATURE_BIND;
}

unsigned int kernel_expected(const struct kernel *kernel)
{
	unsigned int expected = 0;

	for (size_t i = 0; i < KERNEL_PROGRAM_COUNT; i++)
		expected += kernel_runs(&kernel->state, kernel_programs[i]);
	return expected;
}

static int map_flows(struct kernel *kernel)
{
	size_t bytes = sizeof(struct flow_event) * SLUICE_FLOW_SLOTS;
	long page = sysconf(_SC_PAGESIZE);

	bytes = (bytes + (size_t)page - 1) & ~((size_t)page - 1);
	kernel->flow_head = mmap(NULL, (size_t)page, PROT_READ | PROT_WRITE, MAP_SHARED,
				 bpf_map__fd(kernel->bpf->maps.flow_head), 0);
	kernel->flows = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, bpf_map__fd(kernel->bpf->maps.flows), 0);
	kernel->flows_bytes = bytes;
	if (kernel->flow_head == MAP_FAILED || kernel->flows == MAP_FAILED)
		return log_errno(-errno, "flows map: cannot map it: %s; not started", strerror(errno));
	if (__atomic_load_n(kernel->flow_head, __ATOMIC_RELAXED) == 0)
		__atomic_store_n(kernel->flow_head, 1, __ATOMIC_RELAXED);
	kernel->flow_next = __atomic_load_n(kernel->flow_head, __ATOMIC_ACQUIRE);
	return 0;
}

static int read_state(struct kernel *kernel, const struct kernel_options *options)
{
	__u32 zero = 0;

	if (bpf_map_lookup_elem(bpf_map__fd(kernel->bpf->maps.state), &zero, &kernel->state))
		return log_errno(-errno, "state map: cannot read it: %s; not started", strerror(errno));
	kernel->state.abi = SLUICE_ABI;
	kernel->state.redirector_port = options->redirector_port;
	kernel->state.host_netns = options->host_netns;
	kernel->state.features = kernel->features;
	kernel->state.notes_owners = options->backstop_xdp;
	snprintf(kernel->state.config, sizeof(kernel->state.config), "%s", options->config);
	return kernel_bump_epoch(kernel);
}

int kernel_open(struct kernel **out, const struct kernel_options *options)
{
	struct kernel *kernel = xcalloc(1, sizeof(*kernel));
	char why[PATH_MAX + 64];
	int error;

	libbpf_set_print(print_libbpf);
	kernel->pin = xstrdup(options->pin);
	kernel->cgroup = xstrdup(options->cgroup);
	kernel->state.notes_owners = options->backstop_xdp;
	kernel->flow_head = MAP_FAILED;
	kernel->flows = MAP_FAILED;
	for (size_t i = 0; i < KERNEL_PROGRAM_COUNT; i++)
		kernel->links[i] = -1;
	error = kernel_prepare_pin_directory(kernel->pin, why, sizeof(why));
	if (error)
		log_error("--pin %s: %s; not started", kernel->pin, why);
	if (!error)
		error = check_abi(kernel->pin);
	if (!error)
		error = find_features(kernel, options->without);
	if (!error)
		error = map_flows(kernel);
	if (!error)
		error = read_state(kernel, options);
	if (!error)
		error = kernel_open_requests(kernel);
	if (error) {
		kernel_close(kernel);
		return error;
	}
	*out = kernel;
	return 0;
}

const char *kernel_pin(const struct kernel *kernel)
{
	return kernel->pin;
}

void kernel_close(struct kernel *kernel)
{
	if (!kernel)
		return;
	ring_buffer__free(kernel->requests);
	if (kernel->flow_head != MAP_FAILED)
		munmap(kernel->flow_head, (size_t)sysconf(_SC_PAGESIZE));
	if (kernel->flows != MAP_FAILED)
		munmap(kernel->flows, kernel->flows_bytes);
	for (size_t i = 0; i < KERNEL_PROGRAM_COUNT; i++)
		if (kernel->links[i] >= 0)
			close(kernel->links[i]);
	for (size_t i = 0; i < kernel->device_link_count; i++)
		close(kernel->device_links[i].fd);
	free(kernel->device_links);
	kernel_generation_free(&kernel->live);
	sluice_bpf__destroy(kernel->bpf);
	free(kernel->pin);
	free(kernel->cgroup);
	free(kernel);
}

static bool link_is_attached(int fd)
{
	struct bpf_link_info info = {0};
	__u32 size = sizeof(info);

	/* rmdir of its cgroup detaches a link silently: the cgroup id becomes 0. */
	return bpf_obj_get_info_by_fd(fd, &info, &size) == 0 && info.cgroup.cgroup_id != 0;
}

/*
 * After all that is attached there. The new link is in force before the one whose place it takes goes: no gap. Without a
 * pin (no bpffs) it is held all the same, until kernel_keep_pins() can make one.
 */
int kernel_attach_last(struct kernel *kernel, size_t i, int cgroup_fd)
{
	const char *name = kernel_programs[i];
	const struct bpf_program *program = bpf_object__find_program_by_name(kernel->bpf->obj, name);
	char path[PATH_MAX], next[PATH_MAX];
	int fd = bpf_link_create(bpf_program__fd(program), cgroup_fd, bpf_program__expected_attach_type(program), NULL), error;

	if (fd < 0)
		return log_errno(-errno, "%s: cannot attach at %s: %s; not enforcing", name, kernel->cgroup, strerror(errno));
	error = kernel_pin_path(path, kernel->pin, "link_", name) ?: kernel_pin_path(next, kernel->pin, "next_", name);
	if (!error) {
		unlink(next); /* of a daemon that was killed here */
		error = bpf_obj_pin(fd, next) || rename(next, path) < 0 ? -errno : 0;
	}
	if (error)
		log_error("%s: cannot pin its link at %s: %s; enforcement by it ends with this daemon", name, path, strerror(-error));
	if (kernel->links[i] >= 0)
		close(kernel->links[i]);
	kernel->links[i] = fd;
	return 0;
}

/* Two references keep a program attached: the pin, for when no daemon runs, and ours, for when the pin is gone. */
static int attach_program(struct kernel *kernel, size_t i, int cgroup_fd)
{
	const char *name = kernel_programs[i];
	const struct bpf_program *program = bpf_object__find_program_by_name(kernel->bpf->obj, name);
	_cleanup_close_ int fd = -1;
	char path[PATH_MAX];

	if (kernel_pin_path(path, kernel->pin, "link_", name))
		return -ENAMETOOLONG;
	fd = bpf_obj_get(path);
	if (fd >= 0 && link_is_attached(fd)) {
		if (bpf_link_update(fd, bpf_program__fd(program), NULL))
			return log_errno(-errno, "%s: cannot replace the program behind %s: %s; the old one goes on enforcing",
					 name, path, strerror(errno));
		kernel->links[i] = TAKE_FD(fd);
		return 0;
	}
	if (fd >= 0)
		log_warning("%s: %s was detached behind our back; attaching again", name, path);
	return kernel_attach_last(kernel, i, cgroup_fd);
}

/* What an earlier daemon may have attached: its tables are not looked after any more. */
static int leave_out(const struct kernel *kernel, size_t i)
{
	char path[PATH_MAX];
	int error = kernel_pin_path(path, kernel->pin, "link_", kernel_programs[i]);

	return !error && unlink(path) < 0 && errno != ENOENT ? -errno : error;
}

int kernel_attach(struct kernel *kernel)
{
	_cleanup_close_ int cgroup_fd = open(kernel->cgroup, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int first_error = 0;

	if (cgroup_fd < 0)
		return log_errno(-errno, "%s: cannot open the cgroup root: %s; not enforcing", kernel->cgroup, strerror(errno));
	for (size_t i = 0; i < KERNEL_PROGRAM_COUNT; i++) {
		int error = 0;

		if (!kernel_runs(&kernel->state, kernel_programs[i]))
			error = leave_out(kernel, i);
		else if (kernel->links[i] < 0)
			error = attach_program(kernel, i, cgroup_fd);
		if (error && !first_error)
			first_error = error;
	}
	return first_error;
}

int kernel_watch_host(struct kernel *kernel)
{
	int error;

	if (kernel->state.watches_host)
		return 0;
	kernel->state.watches_host = 1;
	error = kernel_write_state(kernel);
	return error || !kernel_attached(kernel) ? error : kernel_attach(kernel);
}

unsigned int kernel_attached(const struct kernel *kernel)
{
	unsigned int attached = 0;

	for (size_t i = 0; i < KERNEL_PROGRAM_COUNT; i++)
		attached += kernel->links[i] >= 0 && link_is_attached(kernel->links[i]);
	return attached;
}

static bool is_link(const char *name)
{
	return !strncmp(name, "link_", 5) || !strncmp(name, "next_", 5);
}

static bool is_ours(const char *name)
{
	for (size_t i = 0; i < KERNEL_PROGRAM_COUNT; i++)
		if (is_link(name) && !strcmp(name + 5, kernel_programs[i]))
			return true;
	if (kernel_is_device_pin(name))
		return true;
	for (size_t i = 0; i < ARRAY_SIZE(live_maps); i++) {
		size_t n = strlen(live_maps[i]);

		if (!strncmp(name, live_maps[i], n) &&
		    (!name[n] || !strcmp(name + n, "_slots") || !strcmp(name + n, "_next")))
			return true;
	}
	for (size_t i = 0; i < kernel_fixed_map_count; i++)
		if (!strcmp(name, kernel_fixed_maps[i]))
			return true;
	return false;
}

static int remove_pins(const char *pin, bool links)
{
	DIR *directory = opendir(pin);
	int first_error = 0;

	if (!directory)
		return errno == ENOENT ? 0 : -errno;
	for (struct dirent *entry = readdir(directory); entry; entry = readdir(directory)) {
		char path[PATH_MAX];

		if (!is_ours(entry->d_name) || is_link(entry->d_name) != links)
			continue;
		if ((kernel_pin_path(path, pin, "", entry->d_name) || unlink(path) < 0) && !first_error) {
			first_error = errno ? -errno : -ENAMETOOLONG;
			log_error("%s: cannot remove it: %s", path, strerror(-first_error));
		}
	}
	closedir(directory);
	return first_error;
}

int kernel_detach(const char *pin)
{
	int error, later;

	kernel_detach_filters(pin);
	/* Links first: a program whose maps went away before it would go on refusing. */
	error = remove_pins(pin, true);
	later = remove_pins(pin, false);

	if (rmdir(pin) < 0 && errno != ENOENT && errno != ENOTEMPTY && !error && !later)
		later = log_errno(-errno, "%s: cannot remove it: %s", pin, strerror(errno));
	return error ? error : later;
}
