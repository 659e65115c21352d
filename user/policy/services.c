// SPDX-License-Identifier: Apache-2.0
/* ServiceEntries and VirtualServices become services: one for each host and port. */
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "policy/internal.h"

/* What the redirector speaks. HTTP/2 and gRPC are governed by address until it does. */
bool policy_is_http(enum port_protocol protocol)
{
	return protocol == PROTOCOL_HTTP || protocol == PROTOCOL_GRPC_WEB || protocol == PROTOCOL_HTTP_PROXY;
}

bool policy_is_tls(enum port_protocol protocol)
{
	return protocol == PROTOCOL_HTTPS || protocol == PROTOCOL_TLS;
}

static bool is_wildcard(const char *host)
{
	return host[0] == '*';
}

/* ---- targets ---- */

static uint16_t port_of_endpoint(const struct endpoint *endpoint, const struct service_port *port)
{
	for (size_t i = 0; i < endpoint->port_count; i++)
		if (!strcmp(endpoint->ports[i].name, port->name))
			return endpoint->ports[i].number;
	return port->target_port ? port->target_port : port->number;
}

static void set_targets(struct policy *policy, struct service *service, const struct service_entry *entry,
			const struct service_port *port)
{
	struct upstream_target *targets;

	service->target_port = port->target_port ? port->target_port : port->number;
	if (entry->resolution == RESOLUTION_NONE)
		return;
	if (!entry->endpoint_count) {
		if (entry->resolution == RESOLUTION_STATIC || service->wildcard)
			return;
		targets = arena_alloc(policy->arena, 1, sizeof(*targets));
		targets[0] = (struct upstream_target){.host = service->host, .port = service->target_port, .weight = 1};
		service->targets = targets;
		service->target_count = 1;
		return;
	}
	targets = arena_alloc(policy->arena, entry->endpoint_count, sizeof(*targets));
	for (size_t i = 0; i < entry->endpoint_count; i++) {
		const struct endpoint *endpoint = &entry->endpoints[i];

		targets[i] = (struct upstream_target){.host = endpoint->is_ip ? NULL : endpoint->address,
						      .port = port_of_endpoint(endpoint, port), .weight = endpoint->weight};
		memcpy(targets[i].addr, endpoint->ip, 16);
	}
	service->targets = targets;
	service->target_count = entry->endpoint_count;
}

/* Whether sluice dials another address or port than the client did. */
static bool rewrites(const struct service *service, const struct service_entry *entry)
{
	if (entry->resolution == RESOLUTION_NONE)
		return service->target_port != service->port;
	if (service->address_count || (entry->endpoint_count && entry->resolution != RESOLUTION_STATIC))
		return true;
	for (size_t i = 0; i < service->target_count; i++)
		if (service->targets[i].port != service->port)
			return true;
	return false;
}

static uint32_t flags_of(const struct service *service, const struct service_entry *entry)
{
	uint32_t flags = policy_is_http(service->protocol) ? SERVICE_HTTP
			 : policy_is_tls(service->protocol) ? SERVICE_TLS
							    : SERVICE_TCP;

	if (service->wildcard)
		flags |= SERVICE_WILDCARD;
	if (entry->resolution == RESOLUTION_NONE)
		flags |= SERVICE_NONE;
	if (service->protocol != PROTOCOL_UDP && rewrites(service, entry))
		flags |= SERVICE_REWRITES;
	return flags;
}

/* ---- services ---- */

static const char *origin_of(struct policy *policy, const struct object *object)
{
	return arena_printf(policy->arena, "%s:%u %s/%s", object->at.file, object->at.line, object->kind, object->name);
}

static struct service *append_service(struct policy *policy)
{
	struct service *service =
		arena_append(policy->arena, policy->services, policy->service_count, policy->service_capacity);

	*service = (struct service){.id = (uint32_t)policy->service_count};
	return service;
}

static void add_service(struct policy *policy, const struct service_entry *entry, const struct service_host *host,
			const struct service_port *port, const char *origin)
{
	struct service *service = append_service(policy);

	service->host = host->name;
	service->wildcard = is_wildcard(host->name);
	service->port = port->number;
	service->protocol = port->protocol;
	service->resolution = entry->resolution;
	service->addresses = entry->addresses.items;
	service->address_count = entry->addresses.count;
	service->origin = origin;
	service->entry = entry;
	service->one_address = entry->resolution == RESOLUTION_DNS_ROUND_ROBIN;
	set_targets(policy, service, entry, port);
	service->flags = flags_of(service, entry);
}

static int by_age(const struct object *a, const struct object *b)
{
	if (a->created != b->created)
		return a->created < b->created ? -1 : 1;
	return a->order < b->order ? -1 : a->order > b->order;
}

static int entries_by_age(const void *a, const void *b)
{
	return by_age(&(*(struct service_entry *const *)a)->object, &(*(struct service_entry *const *)b)->object);
}

static int virtual_services_by_age(const void *a, const void *b)
{
	return by_age(&(*(struct virtual_service *const *)a)->object, &(*(struct virtual_service *const *)b)->object);
}

static void *sorted_copy(struct policy *policy, const void *items, size_t count, int (*compare)(const void *, const void *))
{
	void *copy = arena_alloc(policy->arena, count ? count : 1, sizeof(void *));

	if (count)
		memcpy(copy, items, count * sizeof(void *));
	qsort(copy, count, sizeof(void *), compare);
	return copy;
}

static int services_by_name(const void *a, const void *b)
{
	const struct service *x = *(struct service *const *)a, *y = *(struct service *const *)b;
	int order = strcmp(x->host, y->host);

	if (!order)
		order = (x->port > y->port) - (x->port < y->port);
	if (!order)
		order = (x->protocol == PROTOCOL_UDP) - (y->protocol == PROTOCOL_UDP);
	return order ? order : (x->id > y->id) - (x->id < y->id);
}

/* The same host and port twice: the older entry wins (ISTIO.md §1.2); the other one is gone, and that is said. */
static void drop_younger_twins(struct policy *policy, struct config *config)
{
	struct service **sorted = arena_alloc(policy->arena, policy->service_count + 1, sizeof(*sorted));
	size_t kept = 0;

	for (size_t i = 0; i < policy->service_count; i++)
		sorted[i] = &policy->services[i];
	qsort(sorted, policy->service_count, sizeof(*sorted), services_by_name);
	for (size_t i = 1; i < policy->service_count; i++) {
		const struct object *younger = &sorted[i]->entry->object;

		if (strcmp(sorted[i]->host, sorted[i - 1]->host) || sorted[i]->port != sorted[i - 1]->port ||
		    (sorted[i]->protocol == PROTOCOL_UDP) != (sorted[i - 1]->protocol == PROTOCOL_UDP))
			continue;
		config_problem(config, SEVERITY_WARNING, &younger->at,
			       arena_printf(config->arena, "%s/%s", younger->kind, younger->name), "spec.ports",
			       "%s port %u is already registered by %s, which is older: this one has no effect",
			       sorted[i]->host, sorted[i]->port, sorted[i - 1]->origin);
		sorted[i]->id = 0;
		sorted[i] = sorted[i - 1];
	}
	for (size_t i = 0; i < policy->service_count; i++) {
		if (!policy->services[i].id)
			continue;
		policy->services[kept] = policy->services[i];
		policy->services[kept].id = (uint32_t)kept + 1;
		kept++;
	}
	policy->service_count = kept;
}

/* ---- routes ---- */

/* The rules of a VirtualService for services of one port: the same for all of these below one of its hosts. */
struct port_routes {
	struct port_routes *next;
	uint16_t port;
	struct service_route *items;
	size_t count;
};

/* A host of a VirtualService. Sorted by name, each once: of equal ones the oldest VirtualService's. */
struct routed_host {
	const char *name;
	const struct virtual_service *owner;
	size_t age; /* 0: the oldest */
	bool is_registered;
	struct port_routes *by_port;
};

/* How many ports a registered host has. Sorted by name, each once. */
struct registered_host {
	const char *name;
	uint16_t port; /* one of them */
	size_t ports;
};

struct routes {
	struct routed_host *hosts;
	size_t host_count;
	struct registered_host *registered;
	size_t registered_count;
};

static int routed_by_name(const void *a, const void *b)
{
	const struct routed_host *x = a, *y = b;
	int order = strcmp(x->name, y->name);

	return order ? order : (x->age > y->age) - (x->age < y->age);
}

static int compare_routed(const void *name, const void *host)
{
	return strcmp(name, ((const struct routed_host *)host)->name);
}

static int registered_by_name(const void *a, const void *b)
{
	return strcmp(((const struct registered_host *)a)->name, ((const struct registered_host *)b)->name);
}

static void collect_routed(struct policy *policy, struct routes *routes, const struct config *config)
{
	struct virtual_service **sorted =
		sorted_copy(policy, config->virtual_services, config->virtual_service_count, virtual_services_by_age);
	size_t capacity = 0, kept = 0;

	for (size_t i = 0; i < config->virtual_service_count; i++)
		for (size_t k = 0; sorted[i]->is_mesh && k < sorted[i]->host_count; k++)
			*arena_append(policy->arena, routes->hosts, routes->host_count, capacity) =
				(struct routed_host){.name = sorted[i]->hosts[k].name, .owner = sorted[i], .age = i};
	if (routes->host_count)
		qsort(routes->hosts, routes->host_count, sizeof(*routes->hosts), routed_by_name);
	for (size_t i = 0; i < routes->host_count; i++)
		if (!kept || strcmp(routes->hosts[kept - 1].name, routes->hosts[i].name))
			routes->hosts[kept++] = routes->hosts[i];
	routes->host_count = kept;
}

static void collect_registered(struct policy *policy, struct routes *routes)
{
	size_t capacity = 0, kept = 0;

	for (size_t i = 0; i < policy->service_count; i++)
		*arena_append(policy->arena, routes->registered, routes->registered_count, capacity) =
			(struct registered_host){policy->services[i].host, policy->services[i].port, 1};
	if (routes->registered_count)
		qsort(routes->registered, routes->registered_count, sizeof(*routes->registered), registered_by_name);
	for (size_t i = 0; i < routes->registered_count; i++) {
		if (kept && !strcmp(routes->registered[kept - 1].name, routes->registered[i].name))
			routes->registered[kept - 1].ports++;
		else
			routes->registered[kept++] = routes->registered[i];
	}
	routes->registered_count = kept;
}

static struct routed_host *find_routed(const struct routes *routes, const char *name)
{
	return routes->host_count ? bsearch(name, routes->hosts, routes->host_count, sizeof(*routes->hosts), compare_routed)
				  : NULL;
}

/* The wildcard over `dot`, which is the rest of a host from one of its dots on. */
static struct routed_host *find_routed_wildcard(const struct routes *routes, const char *dot)
{
	char wildcard[SLUICE_HOST_MAX + 1];

	snprintf(wildcard, sizeof(wildcard), "*%s", dot);
	return find_routed(routes, wildcard);
}

/* The most specific VirtualService host that covers `host`: its own name, else the longest wildcard. */
static struct routed_host *route_for(const struct routes *routes, const char *host)
{
	struct routed_host *found = find_routed(routes, host);

	for (const char *dot = strchr(host, '.'); !found && dot; dot = strchr(dot + 1, '.'))
		found = find_routed_wildcard(routes, dot);
	return found;
}

/* A VirtualService host is registered by a service of its own name or, if it is a wildcard, by any below it. */
static void mark_registered(const struct routes *routes)
{
	for (size_t i = 0; i < routes->registered_count; i++) {
		const char *name = routes->registered[i].name;
		struct routed_host *found = find_routed(routes, name);

		if (found)
			found->is_registered = true;
		for (const char *dot = strchr(name, '.'); dot; dot = strchr(dot + 1, '.')) {
			found = find_routed_wildcard(routes, dot);
			if (found)
				found->is_registered = true;
		}
	}
}

/* Istio routes a host that nobody registers on port 80 only, under REGISTRY_ONLY too (ISTIO.md §1.5). */
static void add_unregistered_hosts(struct policy *policy, const struct routes *routes)
{
	for (size_t i = 0; i < routes->host_count; i++) {
		const struct routed_host *host = &routes->hosts[i];
		struct service *service;

		if (host->is_registered)
			continue;
		service = append_service(policy);
		service->host = host->name;
		service->wildcard = is_wildcard(host->name);
		service->port = service->target_port = 80;
		service->protocol = PROTOCOL_HTTP;
		service->resolution = RESOLUTION_STATIC;
		service->flags = SERVICE_HTTP | SERVICE_ROUTED | (service->wildcard ? SERVICE_WILDCARD : 0);
		service->origin = origin_of(policy, &host->owner->object);
	}
}

/* Port: the one given, else the destination's only one, else the one the client dialled. */
static uint32_t destination_of(const struct policy *policy, const struct routes *routes,
			       const struct route_destination *destination, uint16_t dialled)
{
	struct registered_host wanted = {.name = destination->host};
	const struct registered_host *host;
	const struct service *found;
	uint16_t port = destination->port;

	if (!port) {
		host = routes->registered_count ? bsearch(&wanted, routes->registered, routes->registered_count,
							  sizeof(wanted), registered_by_name) : NULL;
		port = host && host->ports == 1 ? host->port : dialled;
	}
	found = policy_find(policy, REGISTRY, destination->host, strlen(destination->host), port, true);
	return found ? found->id : 0;
}

static bool drops(const struct header_ops *ops, const char *line)
{
	size_t n = strcspn(line, ":");

	for (size_t i = 0; i < ops->drop.count; i++)
		if (strlen(ops->drop.items[i]) == n && !strncasecmp(ops->drop.items[i], line, n))
			return true;
	return false;
}

/* What `first` does, and then `then` (Envoy: a destination's changes come before its rule's). */
static struct header_ops both(struct arena *arena, const struct header_ops *first, const struct header_ops *then)
{
	struct header_ops out = {.lines = ""};
	const char *line = first->lines, *end;

	for (size_t i = 0; i < first->drop.count; i++)
		*arena_append(arena, out.drop.items, out.drop.count, out.drop.capacity) = first->drop.items[i];
	for (size_t i = 0; i < then->drop.count; i++)
		*arena_append(arena, out.drop.items, out.drop.count, out.drop.capacity) = then->drop.items[i];
	for (; *line; line = end) {
		end = strstr(line, "\r\n") + 2;
		if (!drops(then, line))
			out.lines = arena_printf(arena, "%s%.*s", out.lines, (int)(end - line), line);
	}
	out.lines = arena_printf(arena, "%s%s", out.lines, then->lines);
	return out;
}

static struct header_changes merge(struct arena *arena, const struct header_changes *first, const struct header_changes *then)
{
	if (!first->present || !then->present)
		return first->present ? *first : *then;
	return (struct header_changes){true, both(arena, &first->request, &then->request), both(arena, &first->response, &then->response)};
}

static struct service_route make_route(const struct policy *policy, const struct routes *routes, uint16_t port,
				       const struct http_route *rule)
{
	struct service_route route = {.rule = rule};
	struct route_target *targets;

	if (!rule->destination_count)
		return route;
	targets = arena_alloc(policy->arena, rule->destination_count, sizeof(*targets));
	for (size_t i = 0; i < rule->destination_count; i++) {
		const struct route_destination *to = &rule->destinations[i];

		if (!to->weight)
			continue;
		targets[route.target_count++] = (struct route_target){
			destination_of(policy, routes, to, port), to->weight, to, merge(policy->arena, &to->headers, &rule->headers)};
		route.weights += to->weight;
	}
	route.targets = targets;
	return route;
}

static const struct port_routes *routes_of(struct policy *policy, const struct routes *routes, struct routed_host *host, uint16_t port)
{
	const struct virtual_service *owner = host->owner;
	struct port_routes *own = host->by_port;

	while (own && own->port != port)
		own = own->next;
	if (own)
		return own;
	own = arena_alloc(policy->arena, 1, sizeof(*own));
	*own = (struct port_routes){host->by_port, port, arena_alloc(policy->arena, owner->http_count, sizeof(*own->items)), 0};
	host->by_port = own;
	while (own->count < owner->http_count) {
		own->items[own->count] = make_route(policy, routes, port, &owner->http[own->count]);
		if (!owner->http[own->count++].match_count)
			break; /* it takes the rest */
	}
	return own;
}

/* Whether a request takes the same way as without the rule. */
static bool changes_nothing(const struct service *service, const struct service_route *route)
{
	const struct http_route *rule = route->rule;

	return !rule->match_count && route->target_count == 1 && route->targets[0].service == service->id &&
	       !route->targets[0].destination->headers.present && !(rule->delay.present && rule->delay.percent > 0) &&
	       !(rule->abort.present && rule->abort.percent > 0) && !rule->timeout_ms && !rule->retries.present && !rule->cors.present &&
	       !rule->headers.present && !rule->rewrite.present;
}

static void attach_routes(struct policy *policy, struct config *config, const struct routes *routes, struct service *service)
{
	struct routed_host *host = route_for(routes, service->host);
	const struct virtual_service *virtual_service = host ? host->owner : NULL;
	const struct port_routes *own;

	if (!virtual_service || !virtual_service->http_count || service->protocol == PROTOCOL_UDP)
		return;
	if (service->protocol == PROTOCOL_HTTP2 || service->protocol == PROTOCOL_GRPC) {
		config_problem(config, SEVERITY_ERROR, &virtual_service->http[0].at,
			       arena_printf(config->arena, "VirtualService/%s", virtual_service->object.name), "spec.http",
			       "%s port %u is HTTP2 or GRPC (%s): http rules there are not implemented yet", service->host,
			       service->port, service->origin);
		return;
	}
	if (!policy_is_http(service->protocol))
		return; /* no effect there, as in Istio; `check` warns */
	own = routes_of(policy, routes, host, service->port);
	service->virtual_service = virtual_service;
	service->routes = own->items;
	service->route_count = own->count;
	if (own->count > 1 || !changes_nothing(service, &own->items[0]))
		service->flags |= SERVICE_ROUTED;
}

void policy_add_services(struct policy *policy, struct config *config)
{
	struct service_entry **entries = sorted_copy(policy, config->service_entries, config->service_entry_count, entries_by_age);
	struct routes routes = {0};

	for (size_t i = 0; i < config->service_entry_count; i++) {
		const char *origin = origin_of(policy, &entries[i]->object);

		for (size_t h = 0; h < entries[i]->host_count; h++)
			for (size_t p = 0; p < entries[i]->port_count; p++)
				add_service(policy, entries[i], &entries[i]->hosts[h], &entries[i]->ports[p], origin);
	}
	drop_younger_twins(policy, config);
	policy_index(policy);
	if (!config->virtual_service_count)
		return;
	collect_routed(policy, &routes, config);
	collect_registered(policy, &routes);
	mark_registered(&routes);
	add_unregistered_hosts(policy, &routes);
	/* Destinations are found among what ServiceEntries register, so the index of those serves here. */
	for (size_t i = 0; i < policy->service_count; i++)
		attach_routes(policy, config, &routes, &policy->services[i]);
	policy_index(policy);
}
