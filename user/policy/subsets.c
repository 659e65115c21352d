// SPDX-License-Identifier: Apache-2.0
/* DestinationRules: how the services of a registry are spoken to, and the subsets of their endpoints (ISTIO.md §1.7). */
#include <stdio.h>
#include <string.h>

#include "config/walk.h"
#include "policy/internal.h"

static bool is_for(const struct destination_rule *rule, const char *namespace_, const char *host)
{
	return !strcmp(rule->object.namespace_, namespace_) && !strcmp(rule->host, host);
}

/* Of the rules of one namespace and host the first; rule_count: there are none. */
static size_t first_rule(const struct registry *registry, const char *namespace_, const char *host)
{
	size_t first = 0, end = registry->rule_count;

	while (first < end) {
		size_t middle = first + (end - first) / 2;
		int order = strcmp(registry->rules[middle]->object.namespace_, namespace_);

		if (!order)
			order = strcmp(registry->rules[middle]->host, host);
		if (order < 0)
			first = middle + 1;
		else
			end = middle;
	}
	return first < registry->rule_count && is_for(registry->rules[first], namespace_, host) ? first : registry->rule_count;
}

/* The same of the closest host that covers a service: its own name, else the longest wildcard. */
static size_t first_of_closest(const struct registry *registry, const char *namespace_, const char *host)
{
	size_t found = first_rule(registry, namespace_, host), length = strlen(host);
	char wildcard[SLUICE_HOST_MAX + 1];

	for (size_t i = 1; i <= length && found == registry->rule_count; i++) {
		if (host[i] != '.' && !registry->has_partial_rules) /* "*" is one, too */
			continue;
		snprintf(wildcard, sizeof(wildcard), "*%s", host + i);
		found = first_rule(registry, namespace_, wildcard);
	}
	return found;
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

static bool same_labels(const struct label_list *a, const struct label_list *b)
{
	for (size_t i = 0; a->count == b->count && i < a->count; i++)
		if (strcmp(a->items[i].key, b->items[i].key) || strcmp(a->items[i].value, b->items[i].value))
			return false;
	return a->count == b->count;
}

/* count: it is none of them. */
static size_t selector_index(const struct selectors *selectors, const struct label_list *selector)
{
	size_t i = 0;

	while (i < selectors->count && !same_labels(selectors->items[i], selector))
		i++;
	return i;
}

struct selectors policy_selectors(const struct policy *policy, const char *namespace_)
{
	struct selectors selectors = {.count = 0};

	for (size_t i = 0; i < policy->config->destination_rule_count; i++) {
		const struct destination_rule *rule = policy->rules_by_age[i];

		if (rule->has_selector && !strcmp(rule->object.namespace_, namespace_) && selectors.count < MAX_SELECTORS &&
		    selector_index(&selectors, &rule->selector) == selectors.count)
			selectors.items[selectors.count++] = &rule->selector;
	}
	return selectors;
}

void policy_check_selectors(const struct policy *policy, struct config *config)
{
	for (size_t i = 0; i < config->destination_rule_count; i++) {
		const struct destination_rule *rule = policy->rules_by_age[i];
		struct selectors selectors;

		if (!rule->has_selector)
			continue;
		selectors = policy_selectors(policy, rule->object.namespace_);
		if (selector_index(&selectors, &rule->selector) == selectors.count)
			config_problem(config, SEVERITY_ERROR, &rule->object.at,
				       arena_printf(config->arena, "DestinationRule/%s", rule->object.name), "spec.workloadSelector",
				       "is one more than the %d that the DestinationRules of a namespace may have: more " NOT_IMPLEMENTED,
				       MAX_SELECTORS);
	}
}

/* Of the rules for one host those with the selector of the first that selects the workloads, else those without one. */
static bool is_chosen(const struct destination_rule *rule, const struct label_list *selector)
{
	return selector ? rule->has_selector && same_labels(&rule->selector, selector) : !rule->has_selector;
}

static bool selects(const struct registry *registry, const struct destination_rule *rule)
{
	size_t index;

	if (!rule->has_selector || !registry->namespace_ || strcmp(rule->object.namespace_, registry->namespace_))
		return false;
	index = selector_index(&registry->selectors, &rule->selector);
	return index < registry->selectors.count && registry->selected & 1U << index;
}

static void choose(struct policy *policy, struct registry *registry, const struct destination_rule *rule)
{
	*arena_append(policy->arena, registry->chosen, registry->chosen_count, registry->chosen_capacity) = rule;
}

/* The workloads' own namespace, then the service's, then the root namespace. */
static void choose_for(struct policy *policy, struct registry *registry, const struct offer *offer)
{
	const char *const order[] = {registry->namespace_, offer->entry->object.namespace_, policy->root_namespace};
	size_t first = registry->rule_count, end;
	const struct label_list *selector = NULL;

	for (size_t i = 0; i < ARRAY_SIZE(order) && first == registry->rule_count; i++)
		if (order[i])
			first = first_of_closest(registry, order[i], offer->host->name);
	for (end = first; end < registry->rule_count &&
			  is_for(registry->rules[end], registry->rules[first]->object.namespace_, registry->rules[first]->host); end++)
		if (!selector && selects(registry, registry->rules[end]))
			selector = &registry->rules[end]->selector;
	for (size_t i = first; i < end; i++)
		if (is_chosen(registry->rules[i], selector))
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
	if (with->outlier.present)
		out->outlier = with->outlier;
	if (with->budget.present)
		out->budget = with->budget;
	if (with->tls.present)
		out->tls = with->tls;
	if (with->tunnel.present)
		out->tunnel = with->tunnel;
	if (with->proxy_protocol)
		out->proxy_protocol = with->proxy_protocol;
}

/* What a port says stands alone; what is not of one port stays. */
static void overlay_port(struct traffic_policy *out, const struct traffic_policy *with)
{
	struct traffic_policy own = *with;

	own.budget = out->budget;
	own.tunnel = out->tunnel;
	own.proxy_protocol = out->proxy_protocol;
	*out = own;
}

static void apply(struct traffic_policy *out, const struct traffic_rules *rules, uint16_t port)
{
	overlay(out, &rules->all);
	for (size_t i = 0; i < rules->port_count; i++)
		if (rules->ports[i].port == port)
			overlay_port(out, &rules->ports[i].policy);
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

/* Whether the name of a server is known that no client shows: that of a TCP service's is its host. */
static bool is_server_known(const struct service *service)
{
	const struct tls_settings *tls = &service->policy.tls;

	return !service->wildcard || !(service->flags & SERVICE_TCP) || tls->skip_verify || tls->sni || tls->alt_names.count ||
	       (service->entry && service->entry->alt_names.count);
}

static void check_tls(struct config *config, const struct service *service)
{
	const struct tls_settings *tls = &service->policy.tls;

	if (!is_server_known(service))
		config_problem(config, SEVERITY_ERROR, &tls->at, "DestinationRule", "trafficPolicy.tls",
			       "%s port %u (%s) has no name that the server's certificate could have; it needs sni or subjectAltNames",
			       service->host, service->port, service->origin);
}

/* What cannot be done for flows that no proxy sees leads clients to the redirector, under ALLOW_ANY too. */
static void settle_connections(struct config *config, struct service *service)
{
	const struct traffic_policy *policy = &service->policy;

	if (service->protocol == PROTOCOL_UDP)
		return;
	if (service_originates(service))
		check_tls(config, service);
	if (service_originates(service) || policy->tunnel.present || policy->proxy_protocol || policy->pool.present || policy->outlier.present ||
	    policy->balance.way == BALANCE_HASH)
		service->flags |= SERVICE_ROUTED;
}

/* The original destination, whatever it is, must be admitted where the kernel looks: at the whole service. */
static void settle_passthrough(struct service *whole, const struct service *service)
{
	if (service->policy.balance.way == BALANCE_PASSTHROUGH)
		whole->flags |= SERVICE_NONE;
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
	settle_connections(config, service);
	settle_passthrough(whole, service);
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
		settle_connections(config, &policy->services[i]);
		settle_passthrough(&policy->services[i], &policy->services[i]);
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
