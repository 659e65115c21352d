// SPDX-License-Identifier: Apache-2.0
/* What else is there for a destination and lost, and why: asked of the very rules by which the policy was compiled. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "config/walk.h"
#include "policy/internal.h"

void rivals_add(struct rivals *rivals, const struct object *object, struct position at, const char *what, const char *why, ...)
{
	char text[1024];
	va_list arguments;

	va_start(arguments, why);
	vsnprintf(text, sizeof(text), why, arguments);
	va_end(arguments);
	*arena_append(rivals->arena, rivals->items, rivals->count, rivals->capacity) =
		(struct rival){object, at, what, arena_strdup(rivals->arena, text)};
}

/* Why workloads do not see an object at all; false: they do. */
static bool add_unseen(struct rivals *out, const struct object *object, const char *what, const char *namespace_, const struct sidecar *sidecar,
		       bool imported)
{
	bool exported = policy_is_exported(object, namespace_);

	if (!exported && !*namespace_)
		rivals_add(out, object, object->at, what, "it is exported to certain namespaces only, and the node's default has none");
	else if (!exported)
		rivals_add(out, object, object->at, what, "it is not exported to namespace %s", namespace_);
	else if (!imported)
		rivals_add(out, object, object->at, what, "Sidecar/%s (%s:%u) does not import it", sidecar->object.name,
			   sidecar->object.at.file, sidecar->object.at.line);
	return !exported || !imported;
}

/* ---- Sidecars ---- */

void policy_other_sidecars(const struct policy *policy, const struct workload_identity *who, struct rivals *out)
{
	const struct sidecar *chosen = policy_sidecar_of(policy, who);

	for (size_t i = 0; chosen && i < policy->config->sidecar_count; i++) {
		const struct sidecar *one = policy->sidecars_by_age[i];
		bool is_here = !strcmp(one->object.namespace_, who->namespace_);
		bool is_root = !strcmp(one->object.namespace_, policy->root_namespace) && !one->selector.count;

		if (one != chosen && (is_here || is_root) && workload_has_labels(who, &one->selector))
			rivals_add(out, &one->object, one->object.at, "all of it", "Sidecar/%s (%s:%u) is for this workload, and one Sidecar only",
				   chosen->object.name, chosen->object.at.file, chosen->object.at.line);
	}
}

/* ---- ServiceEntries ---- */

struct search {
	const struct policy *policy;
	const struct workload_identity *who;
	const struct sidecar *sidecar;
	const struct registry *registry;
	uint32_t registry_id;
	const struct asked *asked;
	struct rivals *out;
};

static struct search search_of(const struct policy *policy, const struct workload_identity *who, const struct asked *asked,
			       struct rivals *out)
{
	const struct sidecar *sidecar = policy_sidecar_of(policy, who);
	uint32_t id = policy_registry_of(policy, who, sidecar);

	return (struct search){policy, who, sidecar, &policy->registries[id - 1], id, asked, out};
}

static const char *protocol_of(const struct service *service)
{
	if (service->protocol == PROTOCOL_UDP)
		return "UDP";
	return policy_is_http(service->protocol) ? "HTTP" : policy_is_tls(service->protocol) ? "TLS" : "TCP";
}

/* Whether it is found, by the name that was asked for, behind the one that was taken. */
static bool comes_later(const struct search *search, const struct service *service)
{
	const struct asked *asked = search->asked;
	const struct service *next = asked->found;

	while (next && next != service)
		next = policy_find_after(search->policy, search->registry_id, asked->host, strlen(asked->host), asked->port, asked->is_http, next);
	return next != NULL;
}

/* It is there, and something else is taken, or nothing. */
static void add_visible(const struct search *search, const struct service *service)
{
	const struct asked *asked = search->asked;
	const struct service *found = asked->found;
	const struct object *object = &service->entry->object;

	if (found && found->entry == service->entry && !strcmp(found->host, service->host))
		return;
	if (found && asked->is_named && comes_later(search, service))
		rivals_add(search->out, object, object->at, service->host, "%s is more specific", found->host);
	else if (asked->is_named && service->protocol != PROTOCOL_UNSET && policy_is_http(service->protocol) != asked->is_http)
		rivals_add(search->out, object, object->at, service->host, "it is %s on port %u, and not what the client speaks",
			   protocol_of(service), service->port);
	else if (found && asked->addr)
		rivals_add(search->out, object, object->at, service->host, "%s has the address in a longer prefix, or is older", found->host);
	else if (service->flags & SERVICE_TLS || policy_opens_http(service))
		rivals_add(search->out, object, object->at, service->host, "it is %s on port %u: known by a name, and the client shows none",
			   protocol_of(service), service->port);
	else
		rivals_add(search->out, object, object->at, service->host, "it is %s on port %u: known by its address, which is another",
			   protocol_of(service), service->port);
}

/* The one beside which the offer has no effect: of those that stay the first. They are all of one namespace. */
static const struct offer *hider_of(const struct search *search, const struct offer *offer)
{
	for (size_t i = 0; i < search->registry->offer_count; i++) {
		const struct offer *one = &search->registry->offers[i];

		if (!strcmp(one->host->name, offer->host->name) && policy_conflict_of(one, offer))
			return one;
	}
	return NULL;
}

static void add_offer(const struct search *search, const struct offer *offer)
{
	const struct object *object = &offer->entry->object;
	const struct offer *hider;

	for (size_t i = 0; i < search->registry->offer_count; i++) {
		const struct offer *one = &search->registry->offers[i];

		if (one->entry != offer->entry || one->host != offer->host || one->port != offer->port)
			continue;
		add_visible(search, &search->policy->services[search->registry->first_service + i]);
		return;
	}
	if (add_unseen(search->out, object, offer->host->name, search->who->namespace_, search->sidecar,
		       policy_is_imported(search->sidecar, object->namespace_, offer->host->name, offer->port->number)))
		return;
	hider = hider_of(search, offer);
	if (hider)
		rivals_add(search->out, object, object->at, offer->host->name, "%s/%s (%s:%u) registers it, %s", hider->entry->object.kind,
			   hider->entry->object.name, hider->entry->object.at.file, hider->entry->object.at.line,
			   policy_conflict_of(hider, offer));
}

static bool has_address(const struct service_entry *entry, const uint8_t addr[16])
{
	for (size_t i = 0; i < entry->endpoint_count; i++)
		if (entry->endpoints[i].is_ip && !memcmp(entry->endpoints[i].ip, addr, 16))
			return true;
	return cidrs_hold(&entry->addresses, addr);
}

static void add_other_ports(const struct search *search, const struct service_entry *entry, const struct service_host *host)
{
	char ports[256] = "";
	size_t n = 0;

	for (size_t i = 0; i < entry->port_count && n < sizeof(ports); i++)
		n += (size_t)snprintf(ports + n, sizeof(ports) - n, "%s%u%s", i ? ", " : "", entry->ports[i].number,
				      entry->ports[i].protocol == PROTOCOL_UDP ? "/udp" : "");
	rivals_add(search->out, &entry->object, entry->object.at, host->name, "it is not on port %u%s, but on %s", search->asked->port,
		   search->asked->is_udp ? "/udp" : "", ports);
}

static void add_host(const struct search *search, const struct service_entry *entry, const struct service_host *host)
{
	const struct asked *asked = search->asked;
	bool is_there = false;

	for (size_t i = 0; i < entry->port_count; i++) {
		const struct service_port *port = &entry->ports[i];

		if (port->number != asked->port || (port->protocol == PROTOCOL_UDP) != asked->is_udp)
			continue;
		is_there = true;
		add_offer(search, &(struct offer){entry, host, port});
	}
	if (!is_there && !asked->found)
		add_other_ports(search, entry, host);
}

void policy_other_entries(const struct policy *policy, const struct workload_identity *who, const struct asked *asked,
			  struct rivals *out)
{
	struct search search = search_of(policy, who, asked, out);

	for (size_t i = 0; i < policy->config->service_entry_count; i++) {
		const struct service_entry *entry = policy->entries_by_age[i];

		for (size_t h = 0; h < entry->host_count; h++)
			if (asked->addr ? has_address(entry, asked->addr) : host_covers(entry->hosts[h].name, asked->host))
				add_host(&search, entry, &entry->hosts[h]);
	}
}

/* ---- VirtualServices ---- */

/* Of two hosts that cover a name, the one that says more: Istio's order. */
static bool is_closer(const char *host, const char *than)
{
	if (!than || (host[0] != '*') != (than[0] != '*'))
		return !than || host[0] != '*';
	return strlen(host) > strlen(than);
}

/* The host of it that says most of those that cover `host`; NULL: none does. */
static const char *host_for(const struct virtual_service *service, const char *host)
{
	const char *best = NULL;

	for (size_t i = 0; i < service->host_count; i++)
		if (host_covers(service->hosts[i].name, host) && is_closer(service->hosts[i].name, best))
			best = service->hosts[i].name;
	return best;
}

static void add_virtual_service(const struct search *search, const struct virtual_service *one, const char *covers, const char *host)
{
	const struct virtual_service *owner = search->asked->found ? search->asked->found->virtual_service : NULL;
	const char *namespace_ = search->registry->namespace_, *owners = owner ? host_for(owner, host) : NULL;
	const struct object *object = &one->object;

	if (!one->is_mesh)
		rivals_add(search->out, object, object->at, covers, "it is for gateways only: \"mesh\" is not among them");
	else if (add_unseen(search->out, object, covers, search->who->namespace_, search->sidecar,
			    policy_imports_any_host(search->sidecar, one)))
		return;
	else if (owners && strcmp(owners, covers))
		rivals_add(search->out, object, object->at, covers, "%s of VirtualService/%s is more specific", owners, owner->object.name);
	else if (owners)
		rivals_add(search->out, object, object->at, covers, "VirtualService/%s (%s:%u) has the host, too, and is %s", owner->object.name,
			   owner->object.at.file, owner->object.at.line,
			   policy_nearness(&owner->object, namespace_) == policy_nearness(object, namespace_) ? "older" : "exported to fewer");
	else if (!search->asked->found)
		rivals_add(search->out, object, object->at, covers, "of a host that is not registered it has the requests to port 80");
}

/* tls rules are of all whose hosts fit. */
static bool has_rules_of(const struct service *service, const struct virtual_service *one)
{
	for (size_t i = 0; i < service->l4_route_count; i++)
		if (service->l4_routes[i].owner == one)
			return true;
	return false;
}

void policy_other_virtual_services(const struct policy *policy, const struct workload_identity *who, const struct asked *asked,
				   struct rivals *out)
{
	struct search search = search_of(policy, who, asked, out);
	const char *host = asked->found ? asked->found->host : asked->host;

	for (size_t i = 0; i < policy->config->virtual_service_count; i++) {
		const struct virtual_service *one = policy->virtual_services_by_age[i];
		const char *covers = host_for(one, host);

		if (covers && !(asked->found && (asked->found->virtual_service == one || has_rules_of(asked->found, one))))
			add_virtual_service(&search, one, covers, host);
	}
}

/* ---- DestinationRules ---- */

static bool is_among(const struct destination_rule *const *rules, const struct destination_rule *rule)
{
	while (rules && *rules && *rules != rule)
		rules++;
	return rules && *rules;
}

static void add_destination_rule(const struct search *search, const struct service *service, const struct destination_rule *one)
{
	const struct destination_rule *chosen = service->rules ? service->rules[0] : NULL;
	const struct object *object = &one->object;
	bool is_own = !strcmp(object->namespace_, search->who->namespace_);

	if (!is_own && add_unseen(search->out, object, one->host, search->who->namespace_, NULL, true))
		return;
	if (!chosen)
		rivals_add(search->out, object, object->at, one->host, "its namespace %s is neither the workload's nor the service's nor the root",
			   object->namespace_);
	else if (is_among(service->rules, one))
		rivals_add(search->out, object, object->at, one->host, "DestinationRule/%s of the same host is older: of this one only the subsets count",
			   service->rule ? service->rule->object.name : chosen->object.name);
	else if (strcmp(chosen->object.namespace_, object->namespace_))
		rivals_add(search->out, object, object->at, one->host, "DestinationRule/%s of namespace %s is asked before those of %s",
			   chosen->object.name, chosen->object.namespace_, object->namespace_);
	else
		rivals_add(search->out, object, object->at, one->host, "%s of DestinationRule/%s is more specific", chosen->host,
			   chosen->object.name);
}

void policy_other_destination_rules(const struct policy *policy, const struct workload_identity *who, const struct service *service,
				    struct rivals *out)
{
	struct search search = search_of(policy, who, NULL, out);

	for (size_t i = 0; service->entry && i < policy->config->destination_rule_count; i++) {
		const struct destination_rule *one = policy->rules_by_age[i];

		if (host_covers(one->host, service->host) && one != service->rule && (one->policy.present || !is_among(service->rules, one)))
			add_destination_rule(&search, service, one);
	}
}
