// SPDX-License-Identifier: Apache-2.0
#include "workload/workloads.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/inotify.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <uthash.h>

#include "base/log.h"
#include "workload/cgroup.h"
#include "workload/netns.h"
#include "workload/sockets.h"

#define SCAN_DELAY_MS 5     /* a container runtime makes several changes in a row */
#define SCAN_PERIOD_MS 5000 /* what inotify cannot tell: a process that changes its namespace */
#define MAX_NETNS_PER_CGROUP 16

struct netns_node {
	UT_hash_handle hh; /* by inode */
	uint64_t inode;
	struct workload_netns seen;
	uint32_t workload;
	bool is_host;
	bool shared; /* by several workloads: no identity */
	bool unpublished; /* the kernel's map had no room for it */
	unsigned int references; /* cgroups in which a process of this namespace was seen */
};

struct cgroup_node {
	UT_hash_handle hh; /* by id */
	uint64_t id;
	char *path; /* below the mount */
	unsigned int epoch; /* of the last scan that saw it */
	struct workload *workload; /* NULL: inherits */
	bool unpublished; /* the kernel's map had no room for it */
	struct netns_node *netns[MAX_NETNS_PER_CGROUP];
	size_t netns_count;
};

struct adopted {
	uint64_t netns;
	bool v6;
	int fd;
};

struct workloads {
	struct loop *loop;
	struct kernel *kernel;
	struct workload_events events;
	char *mount;
	char **governed;
	size_t governed_count;
	uint16_t port;
	uint64_t host_netns;
	uint64_t host_inodes[2]; /* the loader's and PID 1's namespace */
	int own_netns_fd;
	int inotify_fd;
	struct loop_timer *soon;
	struct loop_timer *periodic;
	const struct config *documents;
	struct cgroup_node *cgroups;
	struct netns_node *namespaces;
	struct workload **known;
	size_t known_count, known_capacity;
	struct adopted *adopted;
	size_t adopted_count, adopted_capacity;
	uint32_t last_id;
	unsigned int epoch;
	bool dirty;   /* something changed during this scan */
	bool watched; /* the first scan has armed the watches */
	bool closed;  /* some workload's cgroup is not in the kernel's map: whoever has no entry is refused everything */
	bool settled; /* what an earlier loader left was claimed or dropped */
};

/* ---- identity ---- */

static void workload_free(struct workload *workload)
{
	if (!workload)
		return;
	for (size_t i = 0; i < workload->label_count; i++) {
		free((char *)workload->labels[i].key);
		free((char *)workload->labels[i].value);
	}
	free(workload->labels);
	free(workload->cgroup);
	free(workload->namespace_);
	free(workload->name);
	free(workload);
}

static void add_label(struct workload *workload, const char *key, size_t key_length, const char *value)
{
	struct label *label;

	workload->labels = xrealloc(workload->labels, workload->label_count + 1, sizeof(*workload->labels));
	label = &workload->labels[workload->label_count++];
	label->key = xasprintf("%.*s", (int)key_length, key);
	label->value = xstrdup(value);
}

/* What `sluice exec` wrote on the cgroup. */
static struct workload *identity_from_attribute(const char *full_path)
{
	char value[CGROUP_IDENTITY_MAX + 1];
	ssize_t n = getxattr(full_path, CGROUP_IDENTITY_XATTR, value, CGROUP_IDENTITY_MAX);
	struct workload *workload;
	const char *end, *at;

	if (n <= 0)
		return NULL;
	value[n] = 0;
	end = value + n;
	workload = xcalloc(1, sizeof(*workload));
	at = value;
	workload->namespace_ = xstrdup(at);
	at += strlen(at) + 1;
	workload->name = xstrdup(at < end ? at : "");
	for (at += at < end ? strlen(at) + 1 : 0; at < end; at += strlen(at) + 1) {
		const char *equals = strchr(at, '=');

		if (equals)
			add_label(workload, at, (size_t)(equals - at), equals + 1);
	}
	return workload;
}

static struct workload *identity_from_documents(const struct config *documents, const char *path)
{
	for (size_t i = 0; documents && i < documents->workload_count; i++) {
		const struct workload_document *document = documents->workloads[i];
		struct workload *workload;

		if (fnmatch(document->cgroup, path, FNM_PATHNAME | FNM_PERIOD))
			continue;
		workload = xcalloc(1, sizeof(*workload));
		workload->namespace_ = xstrdup(document->namespace_);
		workload->name = xstrdup(document->name);
		for (size_t k = 0; k < document->labels.count; k++)
			add_label(workload, document->labels.items[k].key, strlen(document->labels.items[k].key),
				  document->labels.items[k].value);
		return workload;
	}
	return NULL;
}

static bool same_identity(const struct workload *a, const struct workload *b)
{
	if (!a || !b || strcmp(a->namespace_, b->namespace_) || strcmp(a->name, b->name) || a->label_count != b->label_count)
		return a == b;
	for (size_t i = 0; i < a->label_count; i++)
		if (strcmp(a->labels[i].key, b->labels[i].key) || strcmp(a->labels[i].value, b->labels[i].value))
			return false;
	return true;
}

/* ---- network namespaces ---- */

struct marker {
	struct kernel *kernel;
	uint32_t mark;
};

static int mark_socket(void *context, int fd)
{
	const struct marker *marker = context;

	return kernel_mark_socket(marker->kernel, fd, marker->mark, 0);
}

static uint64_t socket_cookie(int fd)
{
	uint64_t cookie = 0;
	socklen_t size = sizeof(cookie);

	return fd >= 0 && getsockopt(fd, SOL_SOCKET, SO_COOKIE, &cookie, &size) == 0 ? cookie : 0;
}

static int take_adopted(struct workloads *workloads, uint64_t netns, bool v6)
{
	for (size_t i = 0; i < workloads->adopted_count; i++) {
		struct adopted *adopted = &workloads->adopted[i];
		int fd = adopted->fd;

		if (adopted->netns != netns || adopted->v6 != v6 || fd < 0)
			continue;
		adopted->fd = -1;
		return fd;
	}
	return -1;
}

/* Said once; the next scan tries again. */
static bool is_unpublished(int error, bool was, const char *map, const char *what, const char *consequence)
{
	if (error && !was)
		log_error("map %s: no entry for %s: %s; %s, tried again", map, what, kernel_map_error(error), consequence);
	if (!error && was)
		log_info("map %s: %s has its entry now", map, what);
	return error != 0;
}

static void publish_netns(struct workloads *workloads, struct netns_node *node)
{
	struct netns_value value = {
		.workload = node->workload,
		.is_host = node->is_host,
		.is_identity = !node->is_host && !node->shared,
		.listens_v4 = node->seen.listener_v4 >= 0,
		.listens_v6 = node->seen.listener_v6 >= 0,
		.listener_v4 = socket_cookie(node->seen.listener_v4),
		.listener_v6 = socket_cookie(node->seen.listener_v6),
	};
	const struct workload *workload = NULL;
	char what[SLUICE_NAME_TEXT + 32];

	for (size_t i = 0; i < workloads->known_count; i++)
		if (workloads->known[i]->id == node->workload)
			workload = workloads->known[i];
	if (workload)
		snprintf(value.name, sizeof(value.name), "%s/%s", workload->namespace_, workload->name);
	else
		snprintf(value.name, sizeof(value.name), "%s", node->is_host ? "(host)" : "(default)");
	snprintf(what, sizeof(what), "netns %llu (%s)", (unsigned long long)node->seen.cookie, value.name);
	node->unpublished = is_unpublished(kernel_set_netns(workloads->kernel, node->seen.cookie, &value), node->unpublished,
					   "netns", what, "redirected flows there are refused");
}

static void leave_netns(const struct workloads *workloads, const struct netns_node *node)
{
	if (!netns_enter(workloads->own_netns_fd))
		return;
	log_error("cannot return from netns %llu: %s; restarting", (unsigned long long)node->seen.cookie, strerror(errno));
	abort();
}

/* Makes the listeners that are missing, inside the namespace. The thread comes back in any case, or the process ends. */
static int open_listeners(struct workloads *workloads, struct netns_node *node)
{
	struct marker marker = {workloads->kernel, MARK_LISTENER};
	int error = netns_enter(node->seen.netns_fd);

	if (error)
		return error;
	error = netns_own_cookie(&node->seen.cookie);
	for (int v6 = 0; v6 < 2 && !error; v6++) {
		int *listener = v6 ? &node->seen.listener_v6 : &node->seen.listener_v4;

		if (*listener < 0)
			*listener = take_adopted(workloads, node->seen.cookie, v6);
		if (*listener < 0)
			*listener = netns_listen(v6, workloads->port, mark_socket, &marker);
		if (*listener < 0 && !(v6 && (*listener == -EAFNOSUPPORT || *listener == -EADDRNOTAVAIL)))
			log_error("listener %s:%u in netns %llu: %s; redirected flows there are refused", v6 ? "[::1]" : "127.0.0.1",
				  workloads->port, (unsigned long long)node->seen.cookie, strerror(-*listener));
	}
	leave_netns(workloads, node);
	return error;
}

static struct netns_node *find_netns(struct workloads *workloads, uint64_t inode)
{
	struct netns_node *node;

	HASH_FIND(hh, workloads->namespaces, &inode, sizeof(inode), node);
	return node;
}

static struct netns_node *add_netns(struct workloads *workloads, int netns_fd, uint64_t inode, uint32_t workload)
{
	struct netns_node *node = xcalloc(1, sizeof(*node));
	int error;

	node->inode = inode;
	node->workload = workload;
	node->seen = (struct workload_netns){.netns_fd = netns_fd, .listener_v4 = -1, .listener_v6 = -1};
	error = open_listeners(workloads, node);
	if (error) {
		log_warning("netns of inode %llu: %s; looking again later", (unsigned long long)inode, strerror(-error));
		free(node);
		return NULL;
	}
	node->is_host = inode == workloads->host_inodes[0] || inode == workloads->host_inodes[1];
	if (node->is_host) {
		node->workload = 0;
		node->references = 1; /* it outlives every workload: the next one finds its listeners */
		kernel_watch_host(workloads->kernel);
	}
	HASH_ADD(hh, workloads->namespaces, inode, sizeof(node->inode), node);
	log_debug("netns %llu: listeners ready", (unsigned long long)node->seen.cookie);
	workloads->events.netns_ready(workloads->events.context, &node->seen);
	publish_netns(workloads, node);
	return node;
}

static void free_netns(struct workloads *workloads, struct netns_node *node)
{
	HASH_DEL(workloads->namespaces, node);
	if (node->seen.listener_v4 >= 0)
		close(node->seen.listener_v4);
	if (node->seen.listener_v6 >= 0)
		close(node->seen.listener_v6);
	close(node->seen.netns_fd);
	free(node);
}

static void drop_netns(struct workloads *workloads, struct netns_node *node)
{
	kernel_delete_netns(workloads->kernel, node->seen.cookie);
	workloads->events.netns_gone(workloads->events.context, &node->seen);
	free_netns(workloads, node);
}

static bool knows_netns(const struct cgroup_node *cgroup, const struct netns_node *node)
{
	for (size_t i = 0; i < cgroup->netns_count; i++)
		if (cgroup->netns[i] == node)
			return true;
	return false;
}

/* A process of `cgroup`, which belongs to `workload`, was seen. */
static void see_process(struct workloads *workloads, struct cgroup_node *cgroup, pid_t pid, uint32_t workload)
{
	_cleanup_close_ int fd = netns_open_process(pid);
	struct netns_node *node;
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0)
		return; /* it has ended */
	node = find_netns(workloads, st.st_ino);
	if (!node) {
		node = add_netns(workloads, fd, st.st_ino, workload);
		if (!node)
			return;
		TAKE_FD(fd);
	}
	/* A port that was taken a moment ago, by ours of a workload that has just ended or by a stranger, may be free now. */
	if (node->seen.listener_v4 < 0 && !open_listeners(workloads, node) && node->seen.listener_v4 >= 0) {
		workloads->events.netns_ready(workloads->events.context, &node->seen);
		publish_netns(workloads, node);
	}
	if (!node->is_host && !node->shared && node->workload != workload) {
		if (!node->workload || !node->references) {
			node->workload = workload;
		} else if (workload) {
			node->shared = true;
			log_warning("netns %llu: shared by workloads %u and %u: there the cgroup alone tells who is who",
				    (unsigned long long)node->seen.cookie, node->workload, workload);
		}
		publish_netns(workloads, node);
	}
	if (node->unpublished)
		publish_netns(workloads, node);
	if (knows_netns(cgroup, node))
		return;
	if (cgroup->netns_count == MAX_NETNS_PER_CGROUP) {
		log_warning("%s: processes in more than %d network namespaces: redirected flows in the others are refused",
			    cgroup->path, MAX_NETNS_PER_CGROUP);
		return;
	}
	cgroup->netns[cgroup->netns_count++] = node;
	node->references++;
}

static void see_processes(struct workloads *workloads, struct cgroup_node *cgroup, int directory_fd, uint32_t workload)
{
	int fd = openat(directory_fd, "cgroup.procs", O_RDONLY | O_CLOEXEC);
	FILE *file = fd < 0 ? NULL : fdopen(fd, "r");
	int pid;

	if (!file) {
		if (fd >= 0)
			close(fd);
		return;
	}
	while (fscanf(file, "%d", &pid) == 1)
		if (pid > 0)
			see_process(workloads, cgroup, pid, workload);
	fclose(file);
}

/* ---- cgroups ---- */

static void publish_cgroup(struct workloads *workloads, struct cgroup_node *node, bool is_root)
{
	const struct workload *workload = node->workload;
	struct cgroup_value value = {.workload = workload ? workload->id : workloads->closed ? WORKLOAD_CLOSED : 0};
	struct workload_value who = {0};
	size_t n = 0;

	if (!workload && !is_root) {
		kernel_delete_cgroup(workloads->kernel, node->id);
		node->unpublished = false;
		return;
	}
	if (workload) {
		snprintf(value.name, sizeof(value.name), "%s/%s", workload->namespace_, workload->name);
		memcpy(who.name, value.name, sizeof(who.name));
		snprintf(who.cgroup, sizeof(who.cgroup), "%s", workload->cgroup);
		for (size_t i = 0; i < workload->label_count && n < sizeof(who.labels); i++)
			n += (size_t)snprintf(who.labels + n, sizeof(who.labels) - n, "%s%s=%s", i ? "," : "",
					      workload->labels[i].key, workload->labels[i].value);
		(void)kernel_set_workload(workloads->kernel, workload->id, &who); /* its name, for people */
	} else {
		snprintf(value.name, sizeof(value.name), "%s", node->path);
	}
	node->unpublished = is_unpublished(kernel_set_cgroup(workloads->kernel, node->id, &value), node->unpublished, "cgroups",
					   node->path, is_root ? "it is not governed" : "it is refused everything");
}

static void forget_workload(struct workloads *workloads, struct workload *workload)
{
	for (size_t i = 0; i < workloads->known_count; i++) {
		if (workloads->known[i] != workload)
			continue;
		workloads->known[i] = workloads->known[--workloads->known_count];
		break;
	}
	kernel_delete_workload(workloads->kernel, workload->id);
	workloads->events.gone(workloads->events.context, workload->id);
	workload_free(workload);
	workloads->dirty = true;
}

/* An id stays with its cgroup across restarts: records and marks of open flows name it. */
static uint32_t workload_id_for(struct workloads *workloads, uint64_t cgroup)
{
	struct cgroup_value adopted;

	if (!kernel_get_cgroup(workloads->kernel, cgroup, &adopted) && adopted.workload && adopted.workload != WORKLOAD_CLOSED)
		return adopted.workload;
	return ++workloads->last_id;
}

static void identify_cgroup(struct workloads *workloads, struct cgroup_node *node, const char *full_path, bool is_root)
{
	struct workload *now = is_root ? NULL : identity_from_attribute(full_path);

	if (!now && !is_root)
		now = identity_from_documents(workloads->documents, node->path);
	if (same_identity(now, node->workload)) {
		workload_free(now);
		return;
	}
	workloads->dirty = true;
	if (now) {
		now->cgroup = xstrdup(node->path);
		now->id = node->workload ? node->workload->id : workload_id_for(workloads, node->id);
	}
	if (node->workload && now) { /* the same cgroup under a new name keeps its id */
		for (size_t i = 0; i < workloads->known_count; i++)
			if (workloads->known[i] == node->workload)
				workloads->known[i] = now;
		workload_free(node->workload);
	} else if (node->workload) {
		forget_workload(workloads, node->workload);
	} else {
		*array_append(workloads->known, workloads->known_count, workloads->known_capacity) = now;
	}
	node->workload = now;
	publish_cgroup(workloads, node, is_root);
	if (now)
		log_info("workload %s/%s: cgroup %s, id %u", now->namespace_, now->name, node->path, now->id);
}

static void watch_cgroup(struct workloads *workloads, const char *full_path)
{
	char events[PATH_MAX + 16];

	inotify_add_watch(workloads->inotify_fd, full_path, IN_CREATE | IN_DELETE | IN_ONLYDIR);
	snprintf(events, sizeof(events), "%s/cgroup.events", full_path);
	inotify_add_watch(workloads->inotify_fd, events, IN_MODIFY);
}

static struct cgroup_node *see_cgroup(struct workloads *workloads, const char *path, const char *full_path, uint64_t id,
				      bool is_root)
{
	struct cgroup_node *node;

	HASH_FIND(hh, workloads->cgroups, &id, sizeof(id), node);
	if (!node) {
		node = xcalloc(1, sizeof(*node));
		node->id = id;
		node->path = xstrdup(path);
		HASH_ADD(hh, workloads->cgroups, id, sizeof(node->id), node);
		watch_cgroup(workloads, full_path);
		if (is_root) {
			publish_cgroup(workloads, node, true);
			log_info("governing cgroup %s", path);
		}
	}
	node->epoch = workloads->epoch;
	identify_cgroup(workloads, node, full_path, is_root);
	if (node->unpublished)
		publish_cgroup(workloads, node, is_root);
	return node;
}

static void walk(struct workloads *workloads, const char *path, uint32_t inherited, int level, bool is_root)
{
	char full_path[PATH_MAX];
	struct cgroup_node *node;
	struct dirent *entry;
	uint64_t id;
	DIR *directory;

	if (level > SLUICE_CGROUP_LEVELS || snprintf(full_path, sizeof(full_path), "%s%s", workloads->mount, path) >= PATH_MAX)
		return; /* the kernel still sees the ancestors */
	if (cgroup_id_of(full_path, &id))
		return;
	directory = opendir(full_path);
	if (!directory)
		return;
	node = see_cgroup(workloads, path, full_path, id, is_root);
	if (node->workload)
		inherited = node->workload->id;
	see_processes(workloads, node, dirfd(directory), inherited);
	while ((entry = readdir(directory))) {
		char child[PATH_MAX];

		if (entry->d_type != DT_DIR || entry->d_name[0] == '.')
			continue;
		if (snprintf(child, sizeof(child), "%s/%s", path, entry->d_name) < PATH_MAX)
			walk(workloads, child, inherited, level + 1, false);
	}
	closedir(directory);
}

static bool is_governed_root(const struct workloads *workloads, const struct cgroup_node *node)
{
	for (size_t i = 0; i < workloads->governed_count; i++)
		if (!strcmp(workloads->governed[i], node->path))
			return true;
	return false;
}

static void drop_cgroup(struct workloads *workloads, struct cgroup_node *node)
{
	kernel_delete_cgroup(workloads->kernel, node->id);
	for (size_t i = 0; i < node->netns_count; i++)
		if (--node->netns[i]->references == 0)
			drop_netns(workloads, node->netns[i]);
	if (node->workload)
		forget_workload(workloads, node->workload);
	HASH_DEL(workloads->cgroups, node);
	free(node->path);
	free(node);
}

static void delete_unseen_cgroup(void *context, uint64_t id, const struct cgroup_value *value)
{
	struct workloads *workloads = context;
	struct cgroup_node *node;

	HASH_FIND(hh, workloads->cgroups, &id, sizeof(id), node);
	if (!node || (value->workload && !node->workload)) {
		kernel_delete_cgroup(workloads->kernel, id);
		if (value->workload)
			kernel_delete_workload(workloads->kernel, value->workload);
		if (node)
			publish_cgroup(workloads, node, false);
	}
}

static void delete_unseen_netns(void *context, uint64_t cookie, const struct netns_value *value)
{
	struct workloads *workloads = context;
	struct netns_node *node, *next;

	if (value->workload == WORKLOAD_CANARY)
		return; /* canary.c looks after it */
	HASH_ITER(hh, workloads->namespaces, node, next)
		if (node->seen.cookie == cookie)
			return;
	kernel_delete_netns(workloads->kernel, cookie);
}

/* After the first scan: what an earlier loader left and nobody claimed. */
static void drop_leftovers(struct workloads *workloads)
{
	workloads->settled = true;
	kernel_each_cgroup(workloads->kernel, delete_unseen_cgroup, workloads);
	kernel_each_netns(workloads->kernel, delete_unseen_netns, workloads);
	for (size_t i = 0; i < workloads->adopted_count; i++)
		if (workloads->adopted[i].fd >= 0)
			close(workloads->adopted[i].fd);
	free(workloads->adopted);
	workloads->adopted = NULL;
	workloads->adopted_count = workloads->adopted_capacity = 0;
}

static void watch_tree(struct workloads *workloads)
{
	if (workloads->watched)
		return;
	workloads->watched = true;
	/* A governed cgroup that does not exist yet (kubepods before kubelet) shows up here. */
	inotify_add_watch(workloads->inotify_fd, workloads->mount, IN_CREATE | IN_DELETE | IN_ONLYDIR);
	loop_timer_arm(workloads->periodic, SCAN_PERIOD_MS);
}

/*
 * A cgroup without an entry would get the rules of the nearest ancestor that has one, which may allow more than its
 * own: then that ancestor refuses everything.
 */
static void close_or_open(struct workloads *workloads)
{
	struct cgroup_node *node, *next;
	bool closed = false;

	HASH_ITER(hh, workloads->cgroups, node, next)
		closed |= node->unpublished && node->workload;
	if (closed == workloads->closed)
		return;
	workloads->closed = closed;
	if (closed)
		log_error("map cgroups: governed cgroups without an entry are refused everything until there is room");
	HASH_ITER(hh, workloads->cgroups, node, next)
		if (is_governed_root(workloads, node))
			publish_cgroup(workloads, node, true);
}

void workloads_scan(struct workloads *workloads)
{
	struct cgroup_node *node, *next;

	workloads->epoch++;
	workloads->dirty = false;
	watch_tree(workloads);
	for (size_t i = 0; i < workloads->governed_count; i++)
		walk(workloads, workloads->governed[i], 0, 1, true);
	HASH_ITER(hh, workloads->cgroups, node, next)
		if (node->epoch != workloads->epoch)
			drop_cgroup(workloads, node);
	close_or_open(workloads);
	/* Without documents nobody can tell who is who: what is pinned stays. */
	if (!workloads->settled && workloads->documents)
		drop_leftovers(workloads);
	if (workloads->dirty)
		workloads->events.changed(workloads->events.context);
}

int workloads_prepare_process(struct workloads *workloads, pid_t pid)
{
	char path[PATH_MAX], full_path[PATH_MAX];
	struct cgroup_node *node = NULL;
	uint64_t id;

	workloads_scan(workloads);
	if (cgroup_of_process(pid, path))
		return -ESRCH;
	/* Its own cgroup, or the nearest ancestor that is governed. */
	while (path[0] && path[1] && !node) {
		snprintf(full_path, sizeof(full_path), "%s%s", workloads->mount, path);
		if (!cgroup_id_of(full_path, &id))
			HASH_FIND(hh, workloads->cgroups, &id, sizeof(id), node);
		*strrchr(path, '/') = 0;
	}
	if (!node)
		return -ENOENT;
	see_process(workloads, node, pid, node->workload ? node->workload->id : 0);
	return 0;
}

int workloads_destroy_tcp(struct workloads *workloads, const struct listener_request *flow)
{
	struct netns_node *node, *next, *found = NULL;
	_cleanup_close_ int diag_fd = -1;

	HASH_ITER(hh, workloads->namespaces, node, next)
		if (node->seen.cookie == flow->netns)
			found = node;
	if (!found)
		return -ENOENT;
	diag_fd = sockets_open(found->seen.netns_fd);
	return diag_fd < 0 ? diag_fd : sockets_destroy_tcp(diag_fd, flow->own, flow->own_port, flow->peer, flow->peer_port);
}

/* ---- life ---- */

static void on_inotify(void *context, int fd, uint32_t events)
{
	struct workloads *workloads = context;
	char buffer[16384];

	(void)events;
	while (read(fd, buffer, sizeof(buffer)) > 0)
		;
	if (!loop_timer_armed(workloads->soon))
		loop_timer_arm(workloads->soon, SCAN_DELAY_MS);
}

static void on_soon(void *context)
{
	workloads_scan(context);
}

static void on_period(void *context)
{
	struct workloads *workloads = context;

	workloads_scan(workloads);
	loop_timer_arm(workloads->periodic, SCAN_PERIOD_MS);
}

static void highest_id(void *context, uint64_t id, const struct cgroup_value *value)
{
	uint32_t *highest = context;

	(void)id;
	if (value->workload > *highest && value->workload != WORKLOAD_CLOSED)
		*highest = value->workload;
}

static uint64_t netns_inode(const char *path)
{
	struct stat st;

	return stat(path, &st) < 0 ? 0 : st.st_ino;
}

int workloads_new(struct workloads **out, struct loop *loop, struct kernel *kernel, const struct workloads_options *options,
		  const struct workload_events *events)
{
	struct workloads *workloads = xcalloc(1, sizeof(*workloads));
	int error;

	workloads->loop = loop;
	workloads->kernel = kernel;
	workloads->events = *events;
	workloads->mount = xstrdup(options->cgroup_mount);
	workloads->governed = xcalloc(options->governed_count, sizeof(char *));
	workloads->governed_count = options->governed_count;
	for (size_t i = 0; i < options->governed_count; i++)
		workloads->governed[i] = xstrdup(options->governed[i]);
	workloads->port = options->redirector_port;
	workloads->host_netns = options->host_netns;
	workloads->host_inodes[0] = netns_inode("/proc/self/ns/net");
	workloads->host_inodes[1] = netns_inode("/proc/1/ns/net");
	workloads->own_netns_fd = netns_open_own();
	workloads->inotify_fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
	workloads->soon = loop_timer_new(loop, on_soon, workloads);
	workloads->periodic = loop_timer_new(loop, on_period, workloads);
	kernel_each_cgroup(kernel, highest_id, &workloads->last_id);
	error = workloads->own_netns_fd < 0 ? workloads->own_netns_fd : workloads->inotify_fd < 0 ? -errno : 0;
	if (!error)
		error = loop_watch(loop, workloads->inotify_fd, EPOLLIN, on_inotify, workloads);
	if (error) {
		workloads_free(workloads);
		return log_errno(error, "workloads: cannot watch cgroups: %s; not started", strerror(-error));
	}
	*out = workloads;
	return 0;
}

void workloads_free(struct workloads *workloads)
{
	struct cgroup_node *cgroup, *next_cgroup;
	struct netns_node *node, *next_node;

	if (!workloads)
		return;
	HASH_ITER(hh, workloads->cgroups, cgroup, next_cgroup) {
		HASH_DEL(workloads->cgroups, cgroup);
		free(cgroup->path);
		free(cgroup);
	}
	HASH_ITER(hh, workloads->namespaces, node, next_node)
		free_netns(workloads, node);
	for (size_t i = 0; i < workloads->known_count; i++)
		workload_free(workloads->known[i]);
	free(workloads->known);
	for (size_t i = 0; i < workloads->governed_count; i++)
		free(workloads->governed[i]);
	free(workloads->governed);
	loop_timer_free(workloads->soon);
	loop_timer_free(workloads->periodic);
	if (workloads->inotify_fd >= 0) {
		loop_unwatch(workloads->loop, workloads->inotify_fd);
		close(workloads->inotify_fd);
	}
	if (workloads->own_netns_fd >= 0)
		close(workloads->own_netns_fd);
	free(workloads->mount);
	free(workloads);
}

void workloads_adopt_listener(struct workloads *workloads, uint64_t netns, bool v6, int fd)
{
	struct netns_value value;
	uint64_t expected;

	if (kernel_get_netns(workloads->kernel, netns, &value)) {
		close(fd);
		return;
	}
	expected = v6 ? value.listener_v6 : value.listener_v4;
	if (!expected || socket_cookie(fd) != expected) {
		log_warning("listener of netns %llu: not the socket that was pinned; not taken over", (unsigned long long)netns);
		close(fd);
		return;
	}
	*array_append(workloads->adopted, workloads->adopted_count, workloads->adopted_capacity) =
		(struct adopted){netns, v6, fd};
}

void workloads_set_documents(struct workloads *workloads, const struct config *config)
{
	workloads->documents = config;
}

size_t workloads_unpublished(const struct workloads *workloads, const char **example)
{
	const struct cgroup_node *cgroup;
	const struct netns_node *namespace;
	size_t count = 0;

	for (cgroup = workloads->cgroups; cgroup; cgroup = cgroup->hh.next) {
		if (!cgroup->unpublished)
			continue;
		count++;
		*example = cgroup->path;
	}
	for (namespace = workloads->namespaces; namespace; namespace = namespace->hh.next) {
		if (!namespace->unpublished)
			continue;
		if (!count++)
			*example = "a network namespace";
	}
	return count;
}

size_t workloads_count(const struct workloads *workloads)
{
	return workloads->known_count;
}

const struct workload *workloads_get(const struct workloads *workloads, size_t i)
{
	return workloads->known[i];
}

void workloads_each_netns(const struct workloads *workloads,
			  void (*visit)(void *context, const struct workload_netns *netns), void *context)
{
	struct netns_node *node, *next;

	HASH_ITER(hh, workloads->namespaces, node, next)
		visit(context, &node->seen);
}

bool workloads_find_cgroup(const struct workloads *workloads, uint64_t cgroup, uint32_t *workload)
{
	const struct cgroup_node *node;
	size_t deepest = 0;

	HASH_FIND(hh, workloads->cgroups, &cgroup, sizeof(cgroup), node);
	if (!node)
		return false;
	*workload = 0;
	for (size_t i = 0; i < workloads->known_count; i++) {
		const struct workload *known = workloads->known[i];
		size_t n = strlen(known->cgroup);

		if (n > deepest && !strncmp(node->path, known->cgroup, n) && (!node->path[n] || node->path[n] == '/')) {
			deepest = n;
			*workload = known->id;
		}
	}
	return true;
}
