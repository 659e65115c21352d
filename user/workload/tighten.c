// SPDX-License-Identifier: Apache-2.0
#include "workload/tighten.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "base/memory.h"
#include "kernel/pins.h"
#include "policy/tables.h"
#include "workload/sockets.h"

#define MAX_RECORDED 256    /* of one run: the ring of flows is for other things too */
#define RETRY_MS 1000
#define MAX_DESTROYED 16384 /* of one run: half a second, in which the loader does nothing else */

struct socket_list {
	struct open_socket *items;
	size_t count, capacity;
};

struct id_list {
	uint32_t *items;
	size_t count, capacity;
};

struct run {
	struct kernel *kernel;
	const struct workloads *workloads;
	const struct tables *tables; /* those in force, or those that will be */
	const struct pins *pins;     /* has the assignments in force, or NULL: */
	const struct assignment *assignments;
	size_t assignment_count;
	uint16_t redirector_port;
	uint64_t now;
	uint64_t netns;
	struct netns_value who;     /* of the namespace under way */
	struct socket_list sockets; /* of the same */
	uint64_t last_cgroup;       /* and whose it is: neighbours mostly share it */
	bool last_governed;
	uint32_t last_workload;
	struct id_list losers;      /* workloads that lost a connection */
	struct tightened done;
	unsigned int draining, unmarked;
};

static void collect(void *context, const struct open_socket *socket)
{
	struct socket_list *list = context;

	*array_append(list->items, list->count, list->capacity) = *socket;
}

static bool is_listening(const struct socket_list *list, uint16_t port)
{
	for (size_t i = 0; i < list->count; i++)
		if (list->items[i].listens && list->items[i].own_port == port)
			return true;
	return false;
}

static void exchange_of(struct exchange_key *key, uint64_t netns, const struct open_socket *socket)
{
	*key = (struct exchange_key){.netns = netns, .peer_port = socket->peer_port, .own_port = socket->own_port,
				     .protocol = socket->protocol};
	memcpy(key->peer, socket->peer, 16);
}

/* ---- the verdict on an open socket ---- */

/* Its own, else the node's default: the first. */
static uint32_t coming_rule_set_of(const struct run *run, uint32_t workload)
{
	for (size_t i = 0; i < run->assignment_count; i++)
		if (run->assignments[i].workload == workload)
			return run->assignments[i].rule_set;
	return run->assignments[0].rule_set;
}

static bool rules_of(const struct run *run, uint32_t workload, struct rule_set *out)
{
	static const uint32_t node_default = 0;
	const struct rule_set *found;
	uint32_t id = 0;

	if (!run->pins)
		id = coming_rule_set_of(run, workload);
	else if (pins_lookup(run->pins, PIN_ASSIGNMENTS, &workload, &id))
		pins_lookup(run->pins, PIN_ASSIGNMENTS, &node_default, &id);
	found = lookup_rule_set(run->tables, id);
	if (found)
		*out = *found;
	return found != NULL;
}

static bool forbids(const struct run *run, uint32_t workload, const struct flow *flow, bool upstream)
{
	struct rule_set rules;
	struct decision decision;

	if (!rules_of(run, workload, &rules))
		return true;
	decision = upstream ? verdict_upstream(run->tables, &rules, flow, run->redirector_port)
			    : verdict_judge(run->tables, &rules, flow);
	if (decision.verdict <= VERDICT_PASSTHROUGH)
		return false;
	/* A flow that would be redirected today is let live by an audit, as guard does. */
	return !(rules.audit && decision.verdict == VERDICT_REDIRECT) &&
	       verdict_former(run->tables, &rules, flow, upstream).verdict == VERDICT_DENY;
}

static bool find_cgroup(struct run *run, uint64_t cgroup, uint32_t *workload)
{
	if (cgroup != run->last_cgroup) {
		run->last_cgroup = cgroup;
		run->last_governed = workloads_find_cgroup(run->workloads, cgroup, &run->last_workload);
	}
	*workload = run->last_workload;
	return run->last_governed;
}

/* `*workload`: whose rules forbid it. */
static bool is_forbidden(struct run *run, const struct open_socket *socket, uint32_t *workload)
{
	struct flow flow = {.port = socket->peer_port, .protocol = socket->protocol};

	memcpy(flow.addr, socket->peer, 16);
	if (addr_is_loopback(flow.addr))
		return false; /* a redirected one looks like that; the redirector judges it again */
	if (socket->mark.mark == MARK_UPSTREAM) {
		*workload = socket->mark.workload;
		return forbids(run, *workload, &flow, true);
	}
	if (socket->mark.mark)
		return false;
	if (find_cgroup(run, socket->cgroup, workload) && forbids(run, *workload, &flow, false))
		return true;
	*workload = run->who.workload;
	return !run->who.is_host && run->who.is_identity && forbids(run, *workload, &flow, false);
}

static bool began_inbound(const struct run *run, const struct open_socket *socket)
{
	struct exchange_key key;

	/* Nobody who is governed can forge this in the host's own namespace. */
	if (run->who.is_host && socket->protocol == SLUICE_TCP && is_listening(&run->sockets, socket->own_port))
		return true;
	exchange_of(&key, run->netns, socket);
	return kernel_is_inbound(run->kernel, &key);
}

/* ---- one namespace after another ---- */

/* Looks at the namespace's sockets into run->sockets. A descriptor to end them by, or -errno. */
static int look_at(struct run *run, const struct workload_netns *netns)
{
	int diag_fd, error;

	run->netns = netns->cookie;
	run->sockets.count = 0;
	if (kernel_get_netns(run->kernel, run->netns, &run->who))
		return -ENOENT;
	diag_fd = sockets_open(netns->netns_fd);
	error = diag_fd < 0 ? diag_fd : sockets_each(diag_fd, kernel_marks_fd(run->kernel), collect, &run->sockets);
	if (!error)
		return diag_fd;
	log_error("netns %llu: cannot look at its sockets: %s; open ones that the policy forbids send nothing, but hang",
		  (unsigned long long)run->netns, strerror(-error));
	if (diag_fd >= 0)
		close(diag_fd);
	return error;
}

/* `*workload`: whose rules end it. */
static bool is_to_end(struct run *run, const struct open_socket *socket, uint32_t *workload)
{
	return !socket->listens && is_forbidden(run, socket, workload) && !began_inbound(run, socket);
}

static void note_loser(struct run *run, uint32_t workload)
{
	for (size_t i = run->losers.count; i-- > 0;)
		if (run->losers.items[i] == workload)
			return;
	*array_append(run->losers.items, run->losers.count, run->losers.capacity) = workload;
}

static void record(struct run *run, const struct open_socket *socket, uint32_t workload)
{
	struct flow_event event = {.workload = workload, .port = socket->peer_port, .protocol = socket->protocol,
				   .verdict = VERDICT_DENY, .reason = REASON_ROUTE_REVOKED};
	struct workload_value who;

	if (run->done.destroyed > MAX_RECORDED) {
		kernel_count(run->kernel, &event);
		return;
	}
	memcpy(event.addr, socket->peer, 16);
	if (!kernel_get_workload(run->kernel, workload, &who))
		memcpy(event.name, who.name, sizeof(event.name));
	kernel_record(run->kernel, &event);
}

static void end(struct run *run, int diag_fd, const struct open_socket *socket, const struct exchange_key *key,
		uint32_t workload)
{
	int error = sockets_destroy(diag_fd, socket);

	if (error && error != -ENOENT)
		log_warning("netns %llu: cannot end a socket that the policy forbids: %s; what it sends is dropped",
			    (unsigned long long)run->netns, strerror(-error));
	kernel_delete_draining(run->kernel, key);
	if (error)
		return;
	run->done.destroyed++;
	note_loser(run, workload);
	record(run, socket, workload);
}

static void tighten_namespace(void *context, const struct workload_netns *netns)
{
	struct run *run = context;
	_cleanup_close_ int diag_fd = run->done.unfinished ? -1 : look_at(run, netns);

	for (size_t i = 0; diag_fd >= 0 && i < run->sockets.count; i++) {
		const struct open_socket *socket = &run->sockets.items[i];
		struct exchange_key key;
		uint32_t workload = 0;

		exchange_of(&key, run->netns, socket);
		if (!is_to_end(run, socket, &workload) || kernel_draining_until(run->kernel, &key) > run->now)
			continue;
		if (run->done.destroyed == MAX_DESTROYED) {
			run->done.unfinished = true;
			return;
		}
		end(run, diag_fd, socket, &key, workload);
	}
}

struct tightened tighten(struct kernel *kernel, const struct workloads *workloads, uint16_t redirector_port)
{
	struct run run = {.kernel = kernel, .workloads = workloads, .redirector_port = redirector_port,
			  .now = kernel_boottime_ns()};
	struct pins *pins;
	char why[SLUICE_ERROR_TEXT];
	uint64_t next;

	/* Whose marks cannot be read, sluice's own would be ended with the others. */
	if (!kernel_has(kernel, FEATURE_DESTROY) || !kernel_has(kernel, FEATURE_DIAG_STORAGE))
		return run.done;
	if (pins_open(&pins, kernel_pin(kernel), why, sizeof(why))) {
		log_error("%s; open sockets are not judged again", why);
		run.done.drained_in_ms = kernel_is_draining(kernel) ? RETRY_MS : 0;
		return run.done;
	}
	run.pins = pins;
	run.tables = pins_tables(pins);
	workloads_each_netns(workloads, tighten_namespace, &run);
	pins_close(pins);
	next = kernel_end_draining(kernel, run.now);
	run.done.drained_in_ms = next ? (next - run.now) / 1000000 + 1 : 0;
	run.done.workloads = run.losers.count;
	free(run.losers.items);
	free(run.sockets.items);
	return run.done;
}

/* ---- before a generation that is tighter ---- */

/* What drains since an earlier generation has no more time than it was given then, but may have less. */
static void let_live(struct run *run, const struct exchange_key *key, uint32_t drain_ms)
{
	uint64_t until = run->now + drain_ms * 1000000ULL, given = kernel_draining_until(run->kernel, key);

	run->draining++;
	if ((!given || given > until) && kernel_set_draining(run->kernel, key, until))
		run->unmarked++;
}

static void drain_namespace(void *context, const struct workload_netns *netns)
{
	struct run *run = context;
	_cleanup_close_ int diag_fd = look_at(run, netns);

	for (size_t i = 0; diag_fd >= 0 && i < run->sockets.count; i++) {
		const struct open_socket *socket = &run->sockets.items[i];
		struct rule_set rules;
		struct exchange_key key;
		uint32_t workload = 0;
		bool drains = is_to_end(run, socket, &workload) && rules_of(run, workload, &rules) && rules.drain_ms;

		exchange_of(&key, run->netns, socket);
		if (drains)
			let_live(run, &key, rules.drain_ms);
		else
			kernel_delete_draining(run->kernel, &key);
	}
}

static bool any_drains(const struct image *image)
{
	for (size_t i = 0; i < image->rule_set_count; i++)
		if (image->rule_sets[i].value.drain_ms)
			return true;
	return false;
}

unsigned int tighten_drain(struct kernel *kernel, const struct workloads *workloads, const struct image *image,
			   const struct assignment *assignments, size_t count, uint16_t redirector_port)
{
	struct run run = {.kernel = kernel, .workloads = workloads, .assignments = assignments, .assignment_count = count,
			  .redirector_port = redirector_port, .now = kernel_boottime_ns()};
	struct image_tables tables;

	if (!kernel_generation(kernel) || (!any_drains(image) && !kernel_is_draining(kernel)))
		return 0;
	image_tables_init(&tables, image);
	run.tables = &tables.tables;
	workloads_each_netns(workloads, drain_namespace, &run);
	if (run.unmarked)
		log_error("map draining: no entry for %u of %u open connections that may drain: it is full; they are ended at once",
			  run.unmarked, run.draining);
	free(run.sockets.items);
	return run.draining - run.unmarked;
}

void tighten_spare_accepted(struct kernel *kernel, uint64_t netns, int netns_fd)
{
	struct socket_list sockets = {0};
	_cleanup_close_ int diag_fd = sockets_open(netns_fd);
	int error = diag_fd < 0 ? diag_fd : sockets_each(diag_fd, kernel_marks_fd(kernel), collect, &sockets);

	if (error)
		log_warning("netns %llu: cannot look at its sockets: %s; connections that its servers had accepted may hang",
			    (unsigned long long)netns, strerror(-error));
	for (size_t i = 0; i < sockets.count && !error; i++) {
		const struct open_socket *socket = &sockets.items[i];
		struct exchange_key key;

		if (socket->listens || socket->mark.mark || socket->protocol != SLUICE_TCP || !is_listening(&sockets, socket->own_port))
			continue;
		exchange_of(&key, netns, socket);
		kernel_set_exchange(kernel, &key);
	}
	free(sockets.items);
}
