// SPDX-License-Identifier: Apache-2.0
/* DestinationRules: how the services of a registry are spoken to, and the subsets of their endpoints (ISTIO.md §1.7). */
#include <string.h>

#include "config/walk.h"
#include "policy/internal.h"

/* Of two hosts that cover a service, the one that says more: Istio's order. */
bool policy_is_closer(const char *host, const char *than)
{
	if (!than || (host[0] != '*') != (than[0] != '*'))
		return !than || host[0] != '*';
	return strlen(host) > strlen(than);
}

/* The closest host of the rules of one namespace that covers a service; NULL: none does. */
static const char *closest_host(const struct registry *registry, const char *namespace_, const char *host)
{
	const char *best = NULL;

	for (size_t i = 0; i < registry->rule_count; i++) {
		const struct destination_rule *rule = registry->rules[i];

		if (!strcmp(rule->object.namespace_, namespace_) && host_covers(rule->host, host) && policy_is_closer(rule->host, best))
			best = rule->host;
	}
	return best;
}

/* Rules of one host and namespace are one rule: the oldest that has a policy, and the subsets of all. */
struct merged_rule {
	const struct destination_rule *from; /* whose policy it is; NULL: there is none */
	const struct subset **subsets;
	size_t subset_count, subset_capacity;
};

static void add_subset(struct policy *policy, struct merged_rule *out, const struct subset *subset)
{
	for (size_t i = 0; i < out->subset_count; i++)
		if (!strcmp(out->subsets[i]->name, subset->name))
			return;
	*arena_append(policy->arena, out->subsets, out->subset_count, out->subset_capacity) = subset;
}

static void merge(struct policy *policy, struct merged_rule *out, const struct destination_rule *rule)
{
	if (!out->from && rule->policy.present)
		out->from = rule;
	for (size_t k = 0; k < rule->subset_count; k++)
		add_subset(policy, out, &rule->subsets[k]);
}

static void choose(struct policy *policy, struct registry *registry, const struct destination_rule *rule)
{
	*arena_append(policy->arena, registry->chosen, registry->chosen_count, registry->chosen_capacity) = rule;
}

/* The workloads' own namespace, then the service's, then the root namespace. */
static void choose_for(struct policy *policy, struct registry *registry, const struct offer *offer)
{
	const char *const order[] = {registry->namespace_, offer->entry->object.namespace_, policy->root_namespace};
	const char *host = NULL, *where = NULL;

	for (size_t i = 0; i < ARRAY_SIZE(order) && !host; i++) {
		where = order[i];
		host = where ? closest_host(registry, where, offer->host->name) : NULL;
	}
	for (size_t i = 0; host && i < registry->rule_count; i++)
		if (!strcmp(registry->rules[i]->object.namespace_, where) && !strcmp(registry->rules[i]->host, host))
			choose(policy, registry, registry->rules[i]);
	choose(policy, registry, NULL);
}

void policy_choose_rules(struct policy *policy, struct registry *registry)
{
	for (size_t i = 0; registry->rule_count && i < registry->offer_count; i++)
		choose_for(policy, registry, &registry->offers[i]);
}

static void overlay(struct traffic_policy *out, const struct traffic_policy *with)
{
	if (with->pool.present)
		out->pool = with->pool;
	if (with->balance.present)
		out->balance = with->balance;
	if (with->tls.present)
		out->tls = with->tls;
}

static void apply(struct traffic_policy *out, const struct traffic_rules *rules, uint16_t port)
{
	overlay(out, &rules->all);
	for (size_t i = 0; i < rules->port_count; i++)
		if (rules->ports[i].port == port)
			*out = rules->ports[i].policy;
}

static bool has_labels(const struct label_list *has, const struct label_list *wanted)
{
	for (size_t i = 0; i < wanted->count; i++) {
		bool found = false;

		for (size_t k = 0; has && k < has->count && !found; k++)
			found = !strcmp(has->items[k].key, wanted->items[i].key) && !strcmp(has->items[k].value, wanted->items[i].value);
		if (!found)
			return false;
	}
	return true;
}

static void keep_selected(struct policy *policy, struct service *service, const struct label_list *labels)
{
	struct upstream_target *kept = arena_alloc(policy->arena, service->target_count + 1, sizeof(*kept));
	size_t count = 0;

	for (size_t i = 0; i < service->target_count; i++)
		if (has_labels(service->targets[i].labels, labels))
			kept[count++] = service->targets[i];
	service->targets = kept;
	service->target_count = count;
}

/* Under ALLOW_ANY too its clients are led to the redirector. */
static void settle_tls(struct config *config, struct service *service)
{
	const struct tls_settings *tls = &service->policy.tls;

	if (tls->mode == TLS_DISABLE)
		return;
	if (service->flags & SERVICE_HTTP && !(service->flags & SERVICE_DETECTED))
		service->flags |= SERVICE_ROUTED;
	else
		config_problem(config, SEVERITY_ERROR, &tls->at, "DestinationRule", "trafficPolicy.tls",
			       "%s port %u (%s) is not HTTP: TLS towards it " NOT_IMPLEMENTED, service->host, service->port, service->origin);
}

static void make_subset(struct policy *policy, struct config *config, size_t of, const struct subset *subset)
{
	struct service *service = policy_append_service(policy, policy->services[of].registry), *whole = &policy->services[of];
	uint32_t id = service->id;

	*service = *whole;
	service->id = id;
	service->subset = subset->name;
	service->subset_at = subset->at;
	whole->next_subset = id; /* and it goes on to the one before */
	apply(&service->policy, &subset->policy, service->port);
	settle_tls(config, service);
	keep_selected(policy, service, &subset->labels);
}

static void add_rules(struct policy *policy, struct config *config, const struct registry *registry)
{
	const struct destination_rule **chosen = registry->chosen;

	for (size_t i = registry->first_service; i < registry->first_service + registry->offer_count; i++) {
		struct merged_rule merged = {0};

		policy->services[i].rules = chosen;
		for (; *chosen; chosen++)
			merge(policy, &merged, *chosen);
		chosen++;
		policy->services[i].rule = merged.from;
		if (merged.from)
			apply(&policy->services[i].policy, &merged.from->policy, policy->services[i].port);
		settle_tls(config, &policy->services[i]);
		for (size_t k = 0; k < merged.subset_count; k++)
			make_subset(policy, config, i, merged.subsets[k]);
	}
}

void policy_add_destination_rules(struct policy *policy, struct config *config)
{
	for (size_t i = 0; i < policy->registry_count; i++)
		if (policy->registries[i].chosen_count)
			add_rules(policy, config, &policy->registries[i]);
}
