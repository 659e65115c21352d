// SPDX-License-Identifier: Apache-2.0
/* Services of resolution DYNAMIC_DNS, found by the names below their wildcards. */
#include <string.h>

#include "policy/internal.h"

static int by_host(const void *a, const void *b)
{
	const struct dynamic_service *x = a, *y = b;
	int order = strcmp(x->below, y->below);

	return order ? order : (x->service > y->service) - (x->service < y->service);
}

void policy_index_dynamic(struct policy *policy)
{
	for (size_t i = 0; i < policy->service_count; i++) {
		const struct service *service = &policy->services[i];

		if (!service_is_dynamic(service) || service->subset)
			continue;
		*arena_append(policy->arena, policy->dynamic, policy->dynamic_count, policy->dynamic_capacity) =
			(struct dynamic_service){service->host + 1, service->id};
		policy->has_partial_dynamic |= service->host[1] != '.';
	}
	if (policy->dynamic_count)
		qsort(policy->dynamic, policy->dynamic_count, sizeof(*policy->dynamic), by_host);
}

/* The first of those whose wildcard is "*" and exactly `below`. */
static size_t first_below(const struct policy *policy, const char *below)
{
	size_t low = 0, high = policy->dynamic_count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (strcmp(policy->dynamic[middle].below, below) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

void policy_each_dynamic(const struct policy *policy, const char *host,
			 void (*visit)(void *context, const struct service *service), void *context)
{
	for (const char *below = host + 1; policy->dynamic_count && host[0] && *below; below++) {
		if (*below != '.' && !policy->has_partial_dynamic)
			continue;
		for (size_t i = first_below(policy, below); i < policy->dynamic_count && !strcmp(policy->dynamic[i].below, below); i++)
			visit(context, policy_service(policy, policy->dynamic[i].service));
	}
}

struct registry_search {
	const struct rule_set *rules;
	bool found;
};

static void look_for_registry(void *context, const struct service *service)
{
	struct registry_search *search = context;

	search->found |= !search->rules || service->registry == search->rules->registry;
}

static bool resolves_any(const struct policy *policy, const struct rule_set *rules)
{
	bool found = rules && rules->mode == MODE_ALLOW_ANY_DYNAMIC_DNS;

	for (size_t i = 0; !rules && i < policy->rule_set_count; i++)
		found |= policy->rule_sets[i].mode == MODE_ALLOW_ANY_DYNAMIC_DNS;
	return found;
}

bool policy_resolves(const struct policy *policy, const struct rule_set *rules, const char *host)
{
	struct registry_search search = {.rules = rules, .found = resolves_any(policy, rules)};

	policy_each_dynamic(policy, host, look_for_registry, &search);
	return search.found;
}
