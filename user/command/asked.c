// SPDX-License-Identifier: Apache-2.0
/*
 * Names that clients show below wildcards of resolution DYNAMIC_DNS: the redirector asks, names/dynamic.h looks up, the kernel
 * learns where they are, and then the redirector.
 */
#include <string.h>

#include "command/run.h"
#include "kernel/pins.h"

static const struct workload *workload_of(const struct daemon *daemon, uint32_t id)
{
	for (size_t i = 0; i < workloads_count(daemon->workloads); i++)
		if (workloads_get(daemon->workloads, i)->id == id)
			return workloads_get(daemon->workloads, i);
	return NULL;
}

/* Whether a service that the workload sees covers the name. */
static bool is_covered(const struct daemon *daemon, struct policy *policy, uint32_t id, const char *host)
{
	const struct workload *workload = workload_of(daemon, id);
	struct workload_identity who = {.namespace_ = "", .name = ""};
	const struct rule_set *rules;

	if (!policy || (id && !workload))
		return false;
	if (workload)
		who = (struct workload_identity){workload->namespace_, workload->name, workload->labels, workload->label_count};
	policy_rule_set(policy, &who, &rules);
	return policy_resolves(policy, rules, host);
}

static void send(struct daemon *daemon, const char *host, enum name_failure failure)
{
	size_t count;
	const uint8_t (*addresses)[16] = dynamic_names_get(daemon->asked, host, &count);

	supervisor_send_asked_name(daemon->supervisor, host, addresses, count, count ? NAME_NOT_FAILED : failure);
}

void asked_question(struct daemon *daemon, const struct ask_message *question, const char *host)
{
	enum dynamic_state state;

	/* One that a policy covers which is not in force yet is asked about again. */
	if (!is_covered(daemon, daemon->live.policy, question->workload, host) &&
	    !is_covered(daemon, daemon->pending.policy, question->workload, host))
		return;
	state = dynamic_names_ask(daemon->asked, question->workload, host, question->flags & ASK_HELD);
	if (state == DYNAMIC_REFUSED || (state == DYNAMIC_NONE && question->flags & ASK_ANSWER))
		send(daemon, host, state == DYNAMIC_NONE ? NAME_HAS_NONE : NAME_REFUSED);
	else if (state == DYNAMIC_KNOWN && question->flags & ASK_ANSWER)
		apply_asked_changed(daemon, host); /* perhaps the kernel is about to learn of it */
}

static void on_changed(void *context, const char *host)
{
	apply_asked_changed(context, host);
}

static void on_none(void *context, const char *host)
{
	send(context, host, NAME_HAS_NONE);
}

static void on_gone(void *context, const char *host)
{
	struct daemon *daemon = context;

	if (daemon->supervisor)
		supervisor_send_asked_name_gone(daemon->supervisor, host);
	apply_asked_changed(daemon, NULL);
}

void asked_send(struct daemon *daemon, const char *host)
{
	send(daemon, host, NAME_HAS_NONE);
}

void asked_send_all(struct daemon *daemon)
{
	struct asked_names all = dynamic_names_list(daemon->asked);

	for (size_t i = 0; i < all.count; i++)
		if (all.items[i].count)
			send(daemon, all.items[i].host, NAME_HAS_NONE);
}

static bool is_wanted(void *context, const char *host)
{
	const struct daemon *daemon = context;

	return (daemon->live.policy && policy_resolves(daemon->live.policy, NULL, host)) ||
	       (daemon->pending.policy && policy_resolves(daemon->pending.policy, NULL, host));
}

void asked_retain(struct daemon *daemon)
{
	dynamic_names_retain(daemon->asked, is_wanted, daemon);
}

void asked_adopt(struct daemon *daemon, const struct policy *policy, const struct service_key *where, const struct service_value *service)
{
	/* A name that was cut is found again when its connection says that it is in use. */
	if (service->flags & SERVICE_DYNAMIC && (where->kind == KIND_UPSTREAM || where->kind == KIND_FORMER) &&
	    strlen(service->host) < sizeof(service->host) - 1 && policy_resolves(policy, NULL, service->host))
		dynamic_names_adopt(daemon->asked, service->host, where->addr);
}

static int on_socket(void *context, int fd)
{
	struct daemon *daemon = context;

	return kernel_mark_socket(daemon->kernel, fd, MARK_OWN, 0);
}

int asked_start(struct daemon *daemon)
{
	struct dynamic_options options = {.changed = on_changed, .none = on_none, .gone = on_gone, .socket = on_socket, .context = daemon};

	return dynamic_names_new(&daemon->asked, daemon->loop, &options);
}
