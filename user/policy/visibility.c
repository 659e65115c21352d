// SPDX-License-Identifier: Apache-2.0
/*
 * Registries: what the workloads of a namespace, under their Sidecar, know of (ISTIO.md §1.2). Classes of workloads that
 * see the same share one. All of them follow from the documents alone, so that the loader and the redirector number
 * services alike.
 */
#include <string.h>

#include "config/walk.h"
#include "policy/internal.h"

/* ---- who sees what ---- */

bool policy_is_exported(const struct object *object, const char *namespace_)
{
	const struct string_list *to = &object->export_to;

	for (size_t i = 0; i < to->count; i++)
		if (namespace_ && !strcmp(to->items[i], namespace_))
			return true;
	return !to->count;
}

static bool is_of(const struct import *import, const char *namespace_)
{
	return !strcmp(import->namespace_, "*") || !strcmp(import->namespace_, namespace_);
}

static bool covers(const struct import *import, const char *namespace_, const char *host)
{
	return is_of(import, namespace_) && (!strcmp(import->host, "*") || host_covers(import->host, host));
}

/* `parts`: a wildcard of which it imports some is imported, too. */
static bool listener_imports(const struct import_listener *listener, const char *namespace_, const char *host, bool parts)
{
	bool included = false;

	for (size_t i = 0; i < listener->import_count; i++) {
		const struct import *import = &listener->imports[i];
		bool is_covered = covers(import, namespace_, host);

		if (is_covered && import->excludes)
			return false;
		included |= is_covered || (parts && !import->excludes && is_of(import, namespace_) && host_covers(host, import->host));
	}
	return included;
}

bool policy_is_imported(const struct sidecar *sidecar, const char *namespace_, const char *host, uint16_t port)
{
	const struct import_listener *found = NULL;

	if (!sidecar || !sidecar->listener_count)
		return true;
	for (size_t i = 0; i < sidecar->listener_count; i++) {
		const struct import_listener *one = &sidecar->listeners[i];

		/* The one for the port, else the one for all the others. */
		if (one->port == port || (!one->port && !found))
			found = one;
	}
	return found && listener_imports(found, namespace_, host, false);
}

/* ---- what is offered ---- */

static void offer(struct policy *policy, struct registry *registry, const struct service_entry *entry, const struct service_host *host,
		  const struct service_port *port)
{
	*arena_append(policy->arena, registry->offers, registry->offer_count, registry->offer_capacity) =
		(struct offer){entry, host, port};
}

static void collect_offers(struct policy *policy, struct registry *registry)
{
	for (size_t i = 0; i < policy->config->service_entry_count; i++) {
		const struct service_entry *entry = policy->entries_by_age[i];

		for (size_t h = 0; h < entry->host_count && policy_is_exported(&entry->object, registry->namespace_); h++)
			for (size_t p = 0; p < entry->port_count; p++)
				if (policy_is_imported(registry->sidecar, entry->object.namespace_, entry->hosts[h].name, entry->ports[p].number))
					offer(policy, registry, entry, &entry->hosts[h], &entry->ports[p]);
	}
}

/* Where a route of a VirtualService leads. */
struct destination {
	const char *host;
	uint16_t port;     /* 0: to any */
	const char *owner; /* of the first of a host: the namespace whose entries have it already; NULL: none */
};

struct destinations {
	struct destination *items; /* by host and port, each once */
	size_t count, capacity;
};

static void add_destination(struct policy *policy, struct destinations *out, const char *host, uint16_t port)
{
	*arena_append(policy->arena, out->items, out->count, out->capacity) = (struct destination){.host = host, .port = port};
}

static void add_http_destinations(struct policy *policy, struct destinations *out, const struct http_route *route)
{
	for (size_t d = 0; d < route->destination_count; d++)
		add_destination(policy, out, route->destinations[d].host, route->destinations[d].port);
	for (size_t m = 0; m < route->mirror_count; m++)
		add_destination(policy, out, route->mirrors[m].destination.host, route->mirrors[m].destination.port);
}

static void add_l4_destinations(struct policy *policy, struct destinations *out, const struct l4_route *routes, size_t count)
{
	for (size_t r = 0; r < count; r++)
		for (size_t d = 0; d < routes[r].destination_count; d++)
			add_destination(policy, out, routes[r].destinations[d].host, routes[r].destinations[d].port);
}

static int by_destination(const void *a, const void *b)
{
	const struct destination *x = a, *y = b;
	int order = strcmp(x->host, y->host);

	return order ? order : (x->port > y->port) - (x->port < y->port);
}

static void sort_destinations(struct destinations *list)
{
	size_t kept = 0;

	if (list->count)
		qsort(list->items, list->count, sizeof(*list->items), by_destination);
	for (size_t i = 0; i < list->count; i++)
		if (!kept || by_destination(&list->items[kept - 1], &list->items[i]))
			list->items[kept++] = list->items[i];
	list->count = kept;
}

static struct destinations list_destinations(struct policy *policy, const struct registry *registry)
{
	struct destinations list = {0};

	for (size_t i = 0; i < registry->virtual_service_count; i++) {
		const struct virtual_service *service = registry->virtual_services[i];

		for (size_t r = 0; r < service->http_count; r++)
			add_http_destinations(policy, &list, &service->http[r]);
		add_l4_destinations(policy, &list, service->tls, service->tls_count);
		add_l4_destinations(policy, &list, service->tcp, service->tcp_count);
	}
	if (registry->sidecar->proxy_host)
		add_destination(policy, &list, registry->sidecar->proxy_host, registry->sidecar->proxy_port);
	sort_destinations(&list);
	return list;
}

static int compare_host(const void *host, const void *destination)
{
	return strcmp(host, ((const struct destination *)destination)->host);
}

/* The first of this host, or NULL. */
static struct destination *find_destination(const struct destinations *list, const char *host)
{
	struct destination *found = list->count ? bsearch(host, list->items, list->count, sizeof(*list->items), compare_host) : NULL;

	while (found && found > list->items && !strcmp(found[-1].host, host))
		found--;
	return found;
}

/* What is imported of a host says whose it is: the workloads' own, else that of the oldest entry. */
static void find_owners(const struct destinations *list, const struct registry *registry)
{
	for (size_t i = 0; i < registry->offer_count; i++) {
		struct destination *found = find_destination(list, registry->offers[i].host->name);
		const char *namespace_ = registry->offers[i].entry->object.namespace_;

		if (found && (!found->owner || (registry->namespace_ && !strcmp(namespace_, registry->namespace_))))
			found->owner = namespace_;
	}
}

static bool is_destination(const struct destinations *list, const struct service_entry *entry, const char *host, uint16_t port)
{
	const struct destination *one = find_destination(list, host);

	if (!one || (one->owner && strcmp(one->owner, entry->object.namespace_)))
		return false;
	for (; one < list->items + list->count && !strcmp(one->host, host); one++)
		if (!one->port || one->port == port)
			return true;
	return false;
}

/* Where routes lead is known, whatever the Sidecar imports. */
static void collect_destinations(struct policy *policy, struct registry *registry)
{
	struct destinations list = list_destinations(policy, registry);

	find_owners(&list, registry);
	for (size_t i = 0; list.count && i < policy->config->service_entry_count; i++) {
		const struct service_entry *entry = policy->entries_by_age[i];

		for (size_t h = 0; h < entry->host_count && policy_is_exported(&entry->object, registry->namespace_); h++) {
			const char *host = entry->hosts[h].name;

			for (size_t p = 0; p < entry->port_count; p++)
				if (!policy_is_imported(registry->sidecar, entry->object.namespace_, host, entry->ports[p].number) &&
				    is_destination(&list, entry, host, entry->ports[p].number))
					offer(policy, registry, entry, &entry->hosts[h], &entry->ports[p]);
		}
	}
}

/* Those that are for the own namespace alone come first, then those that are for it by name, then everybody's. */
int policy_nearness(const struct object *object, const char *namespace_)
{
	if (!object->export_to.count)
		return 2;
	return object->export_to.count == 1 && namespace_ && !strcmp(object->namespace_, namespace_) ? 0 : 1;
}

bool policy_imports_any_host(const struct sidecar *sidecar, const struct virtual_service *service)
{
	for (size_t i = 0; sidecar && i < sidecar->listener_count; i++)
		for (size_t h = 0; h < service->host_count; h++)
			if (listener_imports(&sidecar->listeners[i], service->object.namespace_, service->hosts[h].name, true))
				return true;
	return !sidecar || !sidecar->listener_count;
}

static void collect_virtual_services(struct policy *policy, struct registry *registry)
{
	size_t capacity = 0;

	for (int near = 0; near < 3; near++) {
		for (size_t i = 0; i < policy->config->virtual_service_count; i++) {
			const struct virtual_service *one = policy->virtual_services_by_age[i];

			if (one->is_mesh && policy_nearness(&one->object, registry->namespace_) == near &&
			    policy_is_exported(&one->object, registry->namespace_) && policy_imports_any_host(registry->sidecar, one))
				*arena_append(policy->arena, registry->virtual_services, registry->virtual_service_count, capacity) = one;
		}
	}
}

/* A workload knows those of its own namespace, and what others export to it. */
static void collect_rules(struct policy *policy, struct registry *registry)
{
	size_t capacity = 0;

	for (size_t i = 0; i < policy->config->destination_rule_count; i++) {
		const struct destination_rule *one = policy->rules_by_host[i];
		bool is_own = registry->namespace_ && !strcmp(one->object.namespace_, registry->namespace_);

		if (!is_own && !policy_is_exported(&one->object, registry->namespace_))
			continue;
		*arena_append(policy->arena, registry->rules, registry->rule_count, capacity) = one;
		registry->has_partial_rules |= one->host[0] == '*' && one->host[1] != '.';
	}
}

/* ---- the same host more than once ---- */

struct ranked {
	const struct offer *offer;
	bool is_own; /* of the workloads' namespace */
	size_t age;
};

static int by_host(const void *a, const void *b)
{
	const struct ranked *x = a, *y = b;
	int order = strcmp(x->offer->host->name, y->offer->host->name);

	if (!order)
		order = y->is_own - x->is_own;
	return order ? order : (x->age > y->age) - (x->age < y->age);
}

static bool same_exports(const struct string_list *a, const struct string_list *b)
{
	for (size_t i = 0; a->count == b->count && i < a->count; i++)
		if (strcmp(a->items[i], b->items[i]))
			return false;
	return a->count == b->count;
}

static bool same_port(const struct service_port *a, const struct service_port *b)
{
	return a->number == b->number && (a->protocol == PROTOCOL_UDP) == (b->protocol == PROTOCOL_UDP);
}

/* Why an offer has no effect beside `older`, which stays; NULL: both are there (Istio merges the ports of such entries). */
const char *policy_conflict_of(const struct offer *older, const struct offer *younger)
{
	if (older->entry == younger->entry)
		return NULL;
	if (strcmp(older->entry->object.namespace_, younger->entry->object.namespace_))
		return "which is in the workloads' own namespace or older";
	if (older->entry->resolution != younger->entry->resolution)
		return "which is older and has another resolution";
	if (!same_exports(&older->entry->object.export_to, &younger->entry->object.export_to))
		return "which is older and has another exportTo";
	return same_port(older->port, younger->port) ? "which is older" : NULL;
}

/* Whether one of those that stay, `count` of them, hides the offer. */
static bool is_hidden(struct policy *policy, const struct ranked *stay, size_t count, const struct offer *offer)
{
	for (size_t i = 0; i < count; i++) {
		const char *why = policy_conflict_of(stay[i].offer, offer);

		if (!why)
			continue;
		*arena_append(policy->arena, policy->hidden, policy->hidden_count, policy->hidden_capacity) =
			(struct hidden_offer){*offer, *stay[i].offer, why};
		return true;
	}
	return false;
}

/* The same host in several entries: ISTIO.md §1.2. Leaves the order of the others. */
static void drop_hidden(struct policy *policy, struct registry *registry)
{
	struct ranked *ranked = arena_alloc(policy->arena, registry->offer_count + 1, sizeof(*ranked));
	bool *hidden = arena_alloc(policy->arena, registry->offer_count + 1, sizeof(*hidden));
	size_t kept = 0, first = 0, stay = 0; /* of the host under way: from `first` to `stay` */

	for (size_t i = 0; i < registry->offer_count; i++)
		ranked[i] = (struct ranked){&registry->offers[i], registry->namespace_ &&
					    !strcmp(registry->offers[i].entry->object.namespace_, registry->namespace_), i};
	qsort(ranked, registry->offer_count, sizeof(*ranked), by_host);
	for (size_t i = 0; i < registry->offer_count; i++) {
		if (stay > first && strcmp(ranked[first].offer->host->name, ranked[i].offer->host->name))
			first = stay;
		hidden[ranked[i].age] = is_hidden(policy, ranked + first, stay - first, ranked[i].offer);
		if (!hidden[ranked[i].age])
			ranked[stay++] = ranked[i];
	}
	for (size_t i = 0; i < registry->offer_count; i++)
		if (!hidden[i])
			registry->offers[kept++] = registry->offers[i];
	registry->offer_count = kept;
}

static int by_place(const void *a, const void *b)
{
	const struct hidden_offer *x = a, *y = b;

	if (x->offer.entry != y->offer.entry)
		return x->offer.entry->object.order < y->offer.entry->object.order ? -1 : 1;
	if (x->offer.host != y->offer.host)
		return x->offer.host < y->offer.host ? -1 : 1;
	return (x->offer.port > y->offer.port) - (x->offer.port < y->offer.port);
}

/* Each once, however many registries it is hidden in. */
static void say_hidden(struct policy *policy, struct config *config)
{
	if (policy->hidden_count)
		qsort(policy->hidden, policy->hidden_count, sizeof(*policy->hidden), by_place);
	for (size_t i = 0; i < policy->hidden_count; i++) {
		const struct hidden_offer *one = &policy->hidden[i];
		const struct object *object = &one->offer.entry->object, *other = &one->by.entry->object;

		if (i && !by_place(one - 1, one))
			continue;
		config_problem(config, SEVERITY_WARNING, &object->at, arena_printf(config->arena, "%s/%s", object->kind, object->name),
			       "spec.ports", "%s port %u is already registered by %s:%u %s/%s, %s: this one has no effect",
			       one->offer.host->name, one->offer.port->number, other->at.file, other->at.line, other->kind, other->name,
			       one->why);
	}
}

/* ---- classes of workloads ---- */

static void add_namespace(struct policy *policy, struct string_list *out, const char *name)
{
	for (size_t i = 0; i < out->count; i++)
		if (!strcmp(out->items[i], name))
			return;
	*arena_append(policy->arena, out->items, out->count, out->capacity) = name;
}

static void add_exports(struct policy *policy, struct string_list *out, const struct object *object)
{
	for (size_t i = 0; i < object->export_to.count; i++)
		add_namespace(policy, out, object->export_to.items[i]);
}

struct owned_host {
	const char *host, *namespace_;
};

static int by_owned_host(const void *a, const void *b)
{
	return strcmp(((const struct owned_host *)a)->host, ((const struct owned_host *)b)->host);
}

/* A host that several namespaces register: each of them sees its own. */
static void add_rivals(struct policy *policy, struct string_list *out)
{
	size_t count = 0, capacity = 0;
	struct owned_host *hosts = NULL;

	for (size_t i = 0; i < policy->config->service_entry_count; i++)
		for (size_t h = 0; h < policy->entries_by_age[i]->host_count; h++)
			*arena_append(policy->arena, hosts, count, capacity) = (struct owned_host){
				policy->entries_by_age[i]->hosts[h].name, policy->entries_by_age[i]->object.namespace_};
	if (count)
		qsort(hosts, count, sizeof(*hosts), by_owned_host);
	for (size_t i = 1; i < count; i++) {
		if (strcmp(hosts[i].host, hosts[i - 1].host) || !strcmp(hosts[i].namespace_, hosts[i - 1].namespace_))
			continue;
		add_namespace(policy, out, hosts[i - 1].namespace_);
		add_namespace(policy, out, hosts[i].namespace_);
	}
}

static bool same_items(const void *a, size_t a_count, const void *b, size_t b_count, size_t size)
{
	return a_count == b_count && (!a_count || !memcmp(a, b, a_count * size));
}

static bool same_registry(const struct registry *a, const struct registry *b)
{
	return same_items(a->offers, a->offer_count, b->offers, b->offer_count, sizeof(*a->offers)) &&
	       same_items(a->virtual_services, a->virtual_service_count, b->virtual_services, b->virtual_service_count, sizeof(void *)) &&
	       same_items(a->chosen, a->chosen_count, b->chosen, b->chosen_count, sizeof(void *));
}

static uint32_t registry_id(struct policy *policy, const struct registry *wanted)
{
	for (size_t i = 0; i < policy->registry_count; i++)
		if (same_registry(&policy->registries[i], wanted))
			return (uint32_t)i + 1;
	*arena_append(policy->arena, policy->registries, policy->registry_count, policy->registry_capacity) = *wanted;
	return (uint32_t)policy->registry_count;
}

static void add_class(struct policy *policy, const char *namespace_, const struct sidecar *sidecar, const struct selectors *selectors,
		      uint32_t selected)
{
	struct registry registry = {.namespace_ = namespace_, .sidecar = sidecar, .selectors = *selectors, .selected = selected};

	collect_virtual_services(policy, &registry);
	collect_rules(policy, &registry);
	collect_offers(policy, &registry);
	if (sidecar && sidecar->listener_count)
		collect_destinations(policy, &registry);
	drop_hidden(policy, &registry);
	policy_choose_rules(policy, &registry);
	*arena_append(policy->arena, policy->classes, policy->class_count, policy->class_capacity) =
		(struct workload_class){namespace_, sidecar, selected, registry_id(policy, &registry)};
}

/* One for each set of labels that its DestinationRules can tell apart. */
static void add_classes(struct policy *policy, const char *namespace_, const struct sidecar *sidecar)
{
	struct selectors selectors = policy_selectors(policy, namespace_);

	for (uint32_t selected = 0; selected < 1U << selectors.count; selected++)
		add_class(policy, namespace_, sidecar, &selectors, selected);
}

/* The Sidecar of a namespace's workloads that none selects by labels. */
static const struct sidecar *plain_sidecar(const struct policy *policy, const char *namespace_)
{
	for (size_t i = 0; i < policy->config->sidecar_count; i++)
		if (!policy->sidecars_by_age[i]->selector.count && !strcmp(policy->sidecars_by_age[i]->object.namespace_, namespace_))
			return policy->sidecars_by_age[i];
	return NULL;
}

void policy_add_registries(struct policy *policy, struct config *config)
{
	const struct sidecar *root = plain_sidecar(policy, policy->root_namespace);
	struct string_list names = {0};

	for (size_t i = 0; i < config->service_entry_count; i++)
		add_exports(policy, &names, &config->service_entries[i]->object);
	for (size_t i = 0; i < config->virtual_service_count; i++)
		add_exports(policy, &names, &config->virtual_services[i]->object);
	for (size_t i = 0; i < config->sidecar_count; i++)
		add_namespace(policy, &names, config->sidecars[i]->object.namespace_);
	for (size_t i = 0; i < config->destination_rule_count; i++) {
		add_exports(policy, &names, &config->destination_rules[i]->object);
		add_namespace(policy, &names, config->destination_rules[i]->object.namespace_);
	}
	add_rivals(policy, &names);
	add_class(policy, NULL, root, &(struct selectors){.count = 0}, 0); /* of the namespaces that nothing tells apart */
	for (size_t i = 0; i < names.count; i++) {
		const struct sidecar *own = plain_sidecar(policy, names.items[i]);

		add_classes(policy, names.items[i], own ? own : root);
		for (size_t k = 0; k < config->sidecar_count; k++) {
			const struct sidecar *one = policy->sidecars_by_age[k];

			if (one->selector.count && !strcmp(one->object.namespace_, names.items[i]))
				add_classes(policy, names.items[i], one);
		}
	}
	say_hidden(policy, config);
}

uint32_t policy_registry_of(const struct policy *policy, const struct workload_identity *who, const struct sidecar *sidecar)
{
	struct selectors selectors = policy_selectors(policy, who->namespace_);
	uint32_t selected = 0;

	for (size_t i = 0; i < selectors.count; i++)
		selected |= workload_has_labels(who, selectors.items[i]) ? 1U << i : 0;
	for (size_t i = 1; i < policy->class_count; i++)
		if (policy->classes[i].sidecar == sidecar && policy->classes[i].selected == selected &&
		    !strcmp(policy->classes[i].namespace_, who->namespace_))
			return policy->classes[i].registry;
	return policy->classes[0].registry;
}
