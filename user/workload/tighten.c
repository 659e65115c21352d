// SPDX-License-Identifier: Apache-2.0
#include "workload/tighten.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "base/memory.h"
#include "kernel/pins.h"
#include "workload/sockets.h"

#define MAX_RECORDED 256 /* of one run: the ring of flows is for other things too */

struct socket_list {
	struct open_socket *items;
	size_t count, capacity;
};

struct run {
	struct kernel *kernel;
	const struct workloads *workloads;
	struct pins *pins;
	const struct tables *tables;          /* by which it is judged */
	const struct assignment *assignments; /* to their rules; NULL: by the pins */
	size_t assignment_count;
	uint16_t redirector_port;
	uint64_t now;                         /* ns, CLOCK_BOOTTIME */
	uint64_t netns;
	struct netns_value who;     /* of the namespace under way */
	struct socket_list sockets; /* of the same */
	uint64_t last_cgroup;       /* and whose it is: neighbours mostly share it */
	bool last_governed;
	uint32_t last_workload;
	unsigned int touched;     /* destroyed, or let drain */
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

/* Of the generation that is to come. */
static bool coming_rules_of(const struct run *run, uint32_t workload, struct rule_set *out)
{
	uint32_t id = 0;

	for (size_t i = 0; i < run->assignment_count; i++)
		if (run->assignments[i].workload == workload || (!id && !run->assignments[i].workload))
			id = run->assignments[i].rule_set;
	if (!lookup_rule_set(run->tables, id))
		return false;
	*out = *lookup_rule_set(run->tables, id);
	return true;
}

static bool rules_of(const struct run *run, uint32_t workload, struct rule_set *out)
{
	static const uint32_t node_default = 0;
	uint32_t id;

	if (run->assignments)
		return coming_rules_of(run, workload, out);

	return (!pins_lookup(run->pins, PIN_ASSIGNMENTS, &workload, &id) ||
		!pins_lookup(run->pins, PIN_ASSIGNMENTS, &node_default, &id)) &&
	       !pins_lookup(run->pins, PIN_RULE_SETS, &id, out);
}

static bool forbids(const struct run *run, uint32_t workload, const struct flow *flow, bool upstream)
{
	const struct tables *tables = run->tables;
	struct rule_set rules;
	struct decision decision;

	if (!rules_of(run, workload, &rules))
		return true;
	decision = upstream ? verdict_upstream(tables, &rules, flow, run->redirector_port) : verdict_judge(tables, &rules, flow);
	if (decision.verdict <= VERDICT_PASSTHROUGH)
		return false;
	/* A flow that would be redirected today is let live by an audit, as guard does. */
	return !(rules.audit && decision.verdict == VERDICT_REDIRECT) &&
	       verdict_former(tables, &rules, flow, upstream).verdict == VERDICT_DENY;
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

static void record(struct run *run, const struct open_socket *socket, uint32_t workload)
{
	struct flow_event event = {.workload = workload, .port = socket->peer_port, .protocol = socket->protocol,
				   .verdict = VERDICT_DENY, .reason = REASON_ROUTE_REVOKED};
	struct workload_value who;

	memcpy(event.addr, socket->peer, 16);
	if (!kernel_get_workload(run->kernel, workload, &who))
		memcpy(event.name, who.name, sizeof(event.name));
	kernel_record(run->kernel, &event);
}

static void destroy(struct run *run, int diag_fd, const struct open_socket *socket, uint32_t workload)
{
	struct exchange_key key;
	int error;

	exchange_of(&key, run->netns, socket);
	if (kernel_is_draining(run->kernel, &key, run->now))
		return;
	error = sockets_destroy(diag_fd, socket);
	if (error && error != -ENOENT)
		log_warning("netns %llu: cannot end a socket that the policy forbids: %s; what it sends is dropped",
			    (unsigned long long)run->netns, strerror(-error));
	if (!error && run->touched++ < MAX_RECORDED)
		record(run, socket, workload);
}

static void let_drain(struct run *run, const struct open_socket *socket, uint32_t workload)
{
	struct exchange_key key;
	struct rule_set rules;

	if (!rules_of(run, workload, &rules) || !rules.drain_ms)
		return;
	exchange_of(&key, run->netns, socket);
	if (!kernel_is_draining(run->kernel, &key, run->now)) /* the first time counts, whatever comes after */
		kernel_set_draining(run->kernel, &key, run->now + rules.drain_ms * 1000000ULL);
	run->touched++;
}

static void tighten_namespace(void *context, const struct workload_netns *netns)
{
	struct run *run = context;
	_cleanup_close_ int diag_fd = -1;
	int error;

	run->netns = netns->cookie;
	run->sockets.count = 0;
	if (pins_lookup(run->pins, PIN_NETNS, &run->netns, &run->who))
		return;
	diag_fd = sockets_open(netns->netns_fd);
	error = diag_fd < 0 ? diag_fd : sockets_each(diag_fd, kernel_marks_fd(run->kernel), collect, &run->sockets);
	if (error) {
		log_error("netns %llu: cannot look at its sockets: %s; open ones that the policy forbids send nothing, but hang",
			  (unsigned long long)run->netns, strerror(-error));
		return;
	}
	for (size_t i = 0; i < run->sockets.count; i++) {
		const struct open_socket *socket = &run->sockets.items[i];
		uint32_t workload = 0;

		if (socket->listens || !is_forbidden(run, socket, &workload) || began_inbound(run, socket))
			continue;
		if (run->assignments)
			let_drain(run, socket, workload);
		else
			destroy(run, diag_fd, socket, workload);
	}
}

static unsigned int walk(struct run *run)
{
	char why[SLUICE_ERROR_TEXT];

	if (pins_open(&run->pins, kernel_pin(run->kernel), why, sizeof(why))) {
		log_error("%s; open sockets are not judged again", why);
		return 0;
	}
	if (!run->tables)
		run->tables = pins_tables(run->pins);
	run->now = kernel_boottime_ns();
	workloads_each_netns(run->workloads, tighten_namespace, run);
	pins_close(run->pins);
	free(run->sockets.items);
	return run->touched;
}

unsigned int tighten(struct kernel *kernel, const struct workloads *workloads, uint16_t redirector_port)
{
	struct run run = {.kernel = kernel, .workloads = workloads, .redirector_port = redirector_port};

	return walk(&run);
}

unsigned int tighten_drain(struct kernel *kernel, const struct workloads *workloads, uint16_t redirector_port,
			   const struct tables *tables, const struct assignment *assignments, size_t count)
{
	struct run run = {.kernel = kernel, .workloads = workloads, .tables = tables, .assignments = assignments,
			  .assignment_count = count, .redirector_port = redirector_port};

	return walk(&run);
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
