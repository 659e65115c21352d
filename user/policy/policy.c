// SPDX-License-Identifier: Apache-2.0
#include <string.h>

#include "policy/internal.h"

static int by_text(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* Clients resolve a service's own host, whatever its endpoints are; sluice resolves the endpoints' names. */
static void collect_names(struct policy *policy)
{
	struct string_list *names = &policy->names;
	size_t kept = 0;

	for (size_t i = 0; i < policy->service_count; i++) {
		const struct service *service = &policy->services[i];

		if (service->resolution != RESOLUTION_DNS && service->resolution != RESOLUTION_DNS_ROUND_ROBIN)
			continue;
		if (!service->wildcard)
			*arena_append(policy->arena, names->items, names->count, names->capacity) = service->host;
		for (size_t k = 0; k < service->target_count; k++)
			if (service->targets[k].host)
				*arena_append(policy->arena, names->items, names->count, names->capacity) = service->targets[k].host;
	}
	if (names->count)
		qsort(names->items, names->count, sizeof(*names->items), by_text);
	for (size_t i = 0; i < names->count; i++)
		if (!kept || strcmp(names->items[kept - 1], names->items[i]))
			names->items[kept++] = names->items[i];
	names->count = kept;
}

static int compare_age(const struct object *x, const struct object *y)
{
	if (x->created != y->created)
		return x->created < y->created ? -1 : 1;
	return x->order < y->order ? -1 : x->order > y->order;
}

static int entries_by_age(const void *a, const void *b)
{
	return compare_age(&(*(struct service_entry *const *)a)->object, &(*(struct service_entry *const *)b)->object);
}

static int virtual_services_by_age(const void *a, const void *b)
{
	return compare_age(&(*(struct virtual_service *const *)a)->object, &(*(struct virtual_service *const *)b)->object);
}

static int rules_by_age(const void *a, const void *b)
{
	return compare_age(&(*(struct destination_rule *const *)a)->object, &(*(struct destination_rule *const *)b)->object);
}

static int rules_by_host(const void *a, const void *b)
{
	const struct destination_rule *x = *(struct destination_rule *const *)a, *y = *(struct destination_rule *const *)b;
	int order = strcmp(x->object.namespace_, y->object.namespace_);

	if (!order)
		order = strcmp(x->host, y->host);
	return order ? order : compare_age(&x->object, &y->object);
}

static int policies_by_age(const void *a, const void *b)
{
	return compare_age(&(*(const struct egress_policy *const *)a)->object, &(*(const struct egress_policy *const *)b)->object);
}

static int sidecars_by_age(const void *a, const void *b)
{
	return compare_age(&(*(const struct sidecar *const *)a)->object, &(*(const struct sidecar *const *)b)->object);
}

static void *sorted_copy(struct arena *arena, const void *items, size_t count, int (*compare)(const void *, const void *))
{
	void *copy = arena_alloc(arena, count + 1, sizeof(void *));

	if (count)
		memcpy(copy, items, count * sizeof(void *));
	qsort(copy, count, sizeof(void *), compare);
	return copy;
}

static void sort_by_age(struct policy *policy, const struct config *config)
{
	struct arena *arena = policy->arena;

	policy->by_age = sorted_copy(arena, config->egress_policies, config->egress_policy_count, policies_by_age);
	policy->sidecars_by_age = sorted_copy(arena, config->sidecars, config->sidecar_count, sidecars_by_age);
	policy->entries_by_age = sorted_copy(arena, config->service_entries, config->service_entry_count, entries_by_age);
	policy->rules_by_age = sorted_copy(arena, config->destination_rules, config->destination_rule_count, rules_by_age);
	policy->rules_by_host = sorted_copy(arena, config->destination_rules, config->destination_rule_count, rules_by_host);
	policy->virtual_services_by_age =
		sorted_copy(arena, config->virtual_services, config->virtual_service_count, virtual_services_by_age);
}

static void collect_annotated(struct policy *policy, const struct config *config)
{
	for (size_t i = 0; i < config->workload_count; i++)
		if (config->workloads[i]->capture)
			*arena_append(policy->arena, policy->annotated, policy->annotated_count, policy->annotated_capacity) = config->workloads[i];
}

static void copy_resolvers(struct policy *policy, const struct policy_options *options)
{
	struct cidr_list *own = &policy->own_resolvers;

	for (size_t i = 0; i < options->resolver_count; i++) {
		struct cidr *one = arena_append(policy->arena, own->items, own->count, own->capacity);

		memset(one, 0, sizeof(*one));
		memcpy(one->addr, options->resolvers[i], 16);
		one->bits = 128;
	}
}

struct policy *policy_compile(struct config *config, const struct policy_options *options)
{
	struct arena *arena = arena_new();
	struct policy *policy = arena_alloc(arena, 1, sizeof(*policy));

	policy->arena = arena;
	policy->config = config;
	policy->root_namespace = arena_strdup(arena, options->root_namespace);
	copy_resolvers(policy, options);
	sort_by_age(policy, config);
	policy_check_selectors(policy, config);
	collect_annotated(policy, config);
	policy_add_registries(policy, config);
	policy_add_services(policy);
	policy_add_destination_rules(policy, config);
	policy_add_routes(policy);
	policy_index_dynamic(policy);
	collect_names(policy);
	if (config->error_count) {
		policy_free(policy);
		return NULL;
	}
	return policy;
}

void policy_free(struct policy *policy)
{
	if (policy)
		arena_free(policy->arena); /* the policy itself lives there */
}

size_t policy_service_count(const struct policy *policy)
{
	return policy->service_count;
}

const struct service *policy_service(const struct policy *policy, uint32_t id)
{
	return id && id <= policy->service_count ? &policy->services[id - 1] : NULL;
}

const struct string_list *policy_names(const struct policy *policy)
{
	return &policy->names;
}
