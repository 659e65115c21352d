// SPDX-License-Identifier: Apache-2.0
/* Rule sets: what EgressPolicies and Sidecars say for one class of workloads. Equal ones are one. */
#include <stdio.h>
#include <string.h>

#include "policy/internal.h"

/* The EgressPolicies that concern a workload, merged field by field. */
struct effective {
	enum sluice_mode mode;
	enum sluice_host_check host_check;
	enum sluice_dns_allow dns_allow;
	bool audit;
	struct interception interception;
	struct resolver_set resolvers;
	const struct sidecar *proxied_by; /* its egressProxy gets what nobody registers; NULL: there is none */
	uint64_t drain_ms;
	struct settled by[SETTING_COUNT];
	struct rivals *overruled; /* gets what had been said before; NULL: nobody asks */
};

static const char *const setting_names[SETTING_COUNT] = {
	"mode", "includeCIDRs", "excludeCIDRs", "includePorts", "excludePorts", "enforcement", "hostCheck", "dns.allow", "dns.servers", "drain",
};

static void settle(struct effective *out, enum setting setting, const struct object *object, struct position at)
{
	struct settled *by = &out->by[setting];

	if (out->overruled && by->object)
		rivals_add(out->overruled, by->object, by->at, setting_names[setting], "%s/%s is more specific", object->kind, object->name);
	*by = (struct settled){object, at};
}

static void overlay_interception(struct effective *out, const struct egress_policy *policy)
{
	if (policy->has_include_cidrs) {
		out->interception.include_all = policy->include_all;
		out->interception.include = policy->include_cidrs;
		settle(out, SETTING_INCLUDE_CIDRS, &policy->object, policy->at[SETTING_INCLUDE_CIDRS]);
	}
	if (policy->has_exclude_cidrs) {
		out->interception.exclude = policy->exclude_cidrs;
		settle(out, SETTING_EXCLUDE_CIDRS, &policy->object, policy->at[SETTING_EXCLUDE_CIDRS]);
	}
	if (policy->has_include_ports) {
		out->interception.include_ports = policy->include_ports;
		settle(out, SETTING_INCLUDE_PORTS, &policy->object, policy->at[SETTING_INCLUDE_PORTS]);
	}
	if (policy->has_exclude_ports) {
		out->interception.exclude_ports = policy->exclude_ports;
		settle(out, SETTING_EXCLUDE_PORTS, &policy->object, policy->at[SETTING_EXCLUDE_PORTS]);
	}
}

static void overlay(struct effective *out, const struct egress_policy *policy)
{
	if (policy->has_mode) {
		out->mode = policy->mode;
		out->proxied_by = NULL;
		settle(out, SETTING_MODE, &policy->object, policy->at[SETTING_MODE]);
	}
	overlay_interception(out, policy);
	if (policy->has_audit) {
		out->audit = policy->audit;
		settle(out, SETTING_ENFORCEMENT, &policy->object, policy->at[SETTING_ENFORCEMENT]);
	}
	if (policy->has_host_check) {
		out->host_check = policy->host_check;
		settle(out, SETTING_HOST_CHECK, &policy->object, policy->at[SETTING_HOST_CHECK]);
	}
	if (policy->has_drain) {
		out->drain_ms = policy->drain_ms;
		settle(out, SETTING_DRAIN, &policy->object, policy->at[SETTING_DRAIN]);
	}
	if (policy->has_dns_allow) {
		out->dns_allow = policy->dns_allow;
		settle(out, SETTING_DNS_ALLOW, &policy->object, policy->at[SETTING_DNS_ALLOW]);
	}
	if (policy->has_dns_servers) {
		out->resolvers.servers = policy->dns_servers;
		settle(out, SETTING_DNS_SERVERS, &policy->object, policy->at[SETTING_DNS_SERVERS]);
	}
}

static bool has_label(const struct workload_identity *who, const struct label *wanted)
{
	for (size_t i = 0; i < who->label_count; i++)
		if (!strcmp(who->labels[i].key, wanted->key))
			return !strcmp(who->labels[i].value, wanted->value);
	return false;
}

bool workload_has_labels(const struct workload_identity *who, const struct label_list *wanted)
{
	for (size_t i = 0; i < wanted->count; i++)
		if (!has_label(who, &wanted->items[i]))
			return false;
	return true;
}

/* The oldest of a namespace that selects a workload by labels, or that is for all of it. */
static const struct sidecar *oldest_sidecar(const struct policy *policy, const struct workload_identity *who, const char *namespace_,
					    bool by_labels)
{
	for (size_t i = 0; i < policy->config->sidecar_count; i++) {
		const struct sidecar *one = policy->sidecars_by_age[i];

		if (!strcmp(one->object.namespace_, namespace_) && (one->selector.count != 0) == by_labels && workload_has_labels(who, &one->selector))
			return one;
	}
	return NULL;
}

/* One Sidecar is for a workload, and nothing of another (ISTIO.md §1.2). */
const struct sidecar *policy_sidecar_of(const struct policy *policy, const struct workload_identity *who)
{
	const struct sidecar *found = oldest_sidecar(policy, who, who->namespace_, true);

	if (!found)
		found = oldest_sidecar(policy, who, who->namespace_, false);
	return found ? found : oldest_sidecar(policy, who, policy->root_namespace, false);
}

static void overlay_sidecar(struct effective *out, const struct sidecar *sidecar)
{
	if (!sidecar->has_mode)
		return;
	out->mode = sidecar->mode;
	out->proxied_by = sidecar->proxy_host ? sidecar : NULL;
	settle(out, SETTING_MODE, &sidecar->object, sidecar->mode_at);
}

/*
 * One scope, less specific first: fewer labels before more, younger before older, so that the last word is right. A
 * Sidecar's comes before that of an EgressPolicy of its own scope (DESIGN §3).
 */
static void overlay_scope(const struct policy *policy, struct effective *out, const struct workload_identity *who,
			  const char *namespace_, const struct sidecar *sidecar)
{
	bool is_here = sidecar && !strcmp(sidecar->object.namespace_, namespace_);
	size_t most = 0;

	for (size_t i = 0; i < policy->config->egress_policy_count; i++)
		if (policy->by_age[i]->selector.count > most)
			most = policy->by_age[i]->selector.count;
	if (is_here && !sidecar->selector.count)
		overlay_sidecar(out, sidecar);
	for (size_t labels = 0; labels <= most || labels <= 1; labels++) {
		if (is_here && sidecar->selector.count && labels == 1)
			overlay_sidecar(out, sidecar);
		for (size_t i = policy->config->egress_policy_count; i-- > 0;) {
			const struct egress_policy *one = policy->by_age[i];

			if (one->selector.count == labels && !strcmp(one->object.namespace_, namespace_) && workload_has_labels(who, &one->selector))
				overlay(out, one);
		}
	}
}

static bool same_cidrs(const struct cidr_list *a, const struct cidr_list *b)
{
	if (a->count != b->count)
		return false;
	for (size_t i = 0; i < a->count; i++)
		if (a->items[i].bits != b->items[i].bits || memcmp(a->items[i].addr, b->items[i].addr, 16))
			return false;
	return true;
}

static bool same_ports(const struct port_list *a, const struct port_list *b)
{
	return a->count == b->count && (!a->count || !memcmp(a->items, b->items, a->count * sizeof(*a->items)));
}

static uint32_t interception_id(struct policy *policy, const struct interception *wanted)
{
	for (size_t i = 0; i < policy->interception_count; i++) {
		const struct interception *one = &policy->interceptions[i];

		if (one->include_all == wanted->include_all && same_cidrs(&one->include, &wanted->include) &&
		    same_cidrs(&one->exclude, &wanted->exclude) && same_ports(&one->include_ports, &wanted->include_ports) &&
		    same_ports(&one->exclude_ports, &wanted->exclude_ports))
			return (uint32_t)i + 1;
	}
	*arena_append(policy->arena, policy->interceptions, policy->interception_count, policy->interception_capacity) = *wanted;
	return (uint32_t)policy->interception_count;
}

static uint32_t resolvers_id(struct policy *policy, const struct resolver_set *wanted)
{
	for (size_t i = 0; i < policy->resolver_count; i++)
		if (same_cidrs(&policy->resolvers[i].servers, &wanted->servers))
			return (uint32_t)i + 1;
	*arena_append(policy->arena, policy->resolvers, policy->resolver_count, policy->resolver_capacity) = *wanted;
	return (uint32_t)policy->resolver_count;
}

#define NOBODY UINT32_MAX /* a proxy that is not registered: what is meant for it ends */

static uint32_t proxy_of(const struct policy *policy, uint32_t registry, const struct sidecar *sidecar)
{
	for (size_t i = 0; i < policy->service_count; i++) {
		const struct service *one = &policy->services[i];
		bool same_subset = sidecar->proxy_subset ? one->subset && !strcmp(one->subset, sidecar->proxy_subset) : !one->subset;

		if (one->registry == registry && one->port == sidecar->proxy_port && one->protocol != PROTOCOL_UDP && same_subset &&
		    !strcmp(one->host, sidecar->proxy_host))
			return one->id;
	}
	return NOBODY;
}

static void set_origin(struct rule_set *out, const struct effective *from)
{
	const struct settled *mode = &from->by[SETTING_MODE];

	if (mode->object)
		snprintf(out->origin, sizeof(out->origin), "%s:%u %s/%s", mode->at.file, mode->at.line, mode->object->kind, mode->object->name);
	else
		snprintf(out->origin, sizeof(out->origin), "default (ALLOW_ANY)");
}

/* Of the workload's own annotations: behind every EgressPolicy, before what the mesh says (ISTIO.md §1.1). */
static void overlay_annotations(const struct policy *policy, struct effective *out, const struct workload_identity *who)
{
	for (size_t i = 0; i < policy->annotated_count; i++) {
		const struct workload_document *one = policy->annotated[i];

		if (!strcmp(one->namespace_, who->namespace_) && !strcmp(one->name, who->name))
			overlay_interception(out, one->capture);
	}
}

static void overlay_all(const struct policy *policy, struct effective *out, const struct workload_identity *who,
			const struct sidecar *sidecar)
{
	if (policy->config->mesh)
		overlay(out, &policy->config->mesh->settings);
	overlay_annotations(policy, out, who);
	overlay_scope(policy, out, who, policy->root_namespace, sidecar);
	if (strcmp(who->namespace_, policy->root_namespace))
		overlay_scope(policy, out, who, who->namespace_, sidecar);
}

uint32_t policy_rule_set(struct policy *policy, const struct workload_identity *who, const struct rule_set **out)
{
	struct effective effective = {.mode = MODE_ALLOW_ANY, .interception = {.include_all = true}};
	const struct sidecar *sidecar = policy_sidecar_of(policy, who);
	struct rule_set rules = {.registry = policy_registry_of(policy, who, sidecar)};
	size_t found = 0;

	overlay_all(policy, &effective, who, sidecar);
	rules.interception = interception_id(policy, &effective.interception);
	rules.resolvers = resolvers_id(policy, &effective.resolvers);
	rules.mode = (uint8_t)effective.mode;
	rules.host_check = (uint8_t)effective.host_check;
	rules.dns_allow = (uint8_t)effective.dns_allow;
	rules.audit = effective.audit;
	rules.drain_ms = (uint32_t)effective.drain_ms;
	if (effective.proxied_by)
		rules.egress_proxy = proxy_of(policy, rules.registry, effective.proxied_by);
	set_origin(&rules, &effective);
	while (found < policy->rule_set_count && memcmp(&policy->rule_sets[found], &rules, sizeof(rules)))
		found++;
	if (found == policy->rule_set_count)
		*arena_append(policy->arena, policy->rule_sets, policy->rule_set_count, policy->rule_set_capacity) = rules;
	*out = &policy->rule_sets[found];
	return (uint32_t)found + 1;
}

const struct rule_set *policy_rule_set_get(const struct policy *policy, uint32_t id)
{
	return id && id <= policy->rule_set_count ? &policy->rule_sets[id - 1] : NULL;
}

static bool holds(const struct cidr *cidr, const uint8_t addr[16])
{
	for (unsigned int i = 0; i < cidr->bits; i++)
		if ((addr[i / 8] ^ cidr->addr[i / 8]) & 0x80 >> i % 8)
			return false;
	return true;
}

const struct cidr *cidrs_longest(const struct cidr_list *list, const uint8_t addr[16])
{
	const struct cidr *longest = NULL;

	for (size_t i = 0; i < list->count; i++)
		if (holds(&list->items[i], addr) && (!longest || list->items[i].bits > longest->bits))
			longest = &list->items[i];
	return longest;
}

bool cidrs_hold(const struct cidr_list *list, const uint8_t addr[16])
{
	return cidrs_longest(list, addr) != NULL;
}

const struct cidr *policy_excluded(const struct policy *policy, const struct rule_set *rules, const uint8_t addr[16])
{
	return cidrs_longest(&policy->interceptions[rules->interception - 1].exclude, addr);
}

void policy_settings_of(const struct policy *policy, const struct workload_identity *who, struct settled by[SETTING_COUNT],
			struct rivals *overruled)
{
	struct effective effective = {.overruled = overruled};

	overlay_all(policy, &effective, who, policy_sidecar_of(policy, who));
	memcpy(by, effective.by, sizeof(effective.by));
}
