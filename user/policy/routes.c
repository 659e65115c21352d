// SPDX-License-Identifier: Apache-2.0
/* VirtualServices: which of them has the rules for a service, and where these lead. */
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "config/walk.h"
#include "policy/internal.h"

/* The rules of a VirtualService for services of one port: the same for all of these below one of its hosts. */
struct port_routes {
	struct port_routes *next;
	uint16_t port;
	struct service_route *items;
	size_t count;
};

/* A host of a VirtualService. Sorted by name, each once: of equal ones that of the VirtualService that comes first. */
struct routed_host {
	const char *name;
	const struct virtual_service *owner;
	size_t rank; /* of its owner in the registry */
	bool is_registered;
	struct port_routes *by_port;
};

/* How many ports a registered host has. Sorted by name, each once. */
struct registered_host {
	const char *name;
	uint16_t port; /* one of them */
	size_t ports;
	const uint32_t *services; /* one for each */
};

struct routes {
	uint32_t registry;
	struct routed_host *hosts;
	size_t host_count;
	bool has_partial; /* a host such as "*foo.com" */
	struct registered_host *registered;
	size_t registered_count;
};

static int routed_by_name(const void *a, const void *b)
{
	const struct routed_host *x = a, *y = b;
	int order = strcmp(x->name, y->name);

	return order ? order : (x->rank > y->rank) - (x->rank < y->rank);
}

static int compare_routed(const void *name, const void *host)
{
	return strcmp(name, ((const struct routed_host *)host)->name);
}

static int registered_by_name(const void *a, const void *b)
{
	return strcmp(((const struct registered_host *)a)->name, ((const struct registered_host *)b)->name);
}

static void collect_routed(struct policy *policy, struct routes *routes, const struct registry *registry)
{
	size_t capacity = 0, kept = 0;

	for (size_t i = 0; i < registry->virtual_service_count; i++)
		for (size_t k = 0; k < registry->virtual_services[i]->host_count; k++)
			*arena_append(policy->arena, routes->hosts, routes->host_count, capacity) = (struct routed_host){
				.name = registry->virtual_services[i]->hosts[k].name, .owner = registry->virtual_services[i], .rank = i};
	if (routes->host_count)
		qsort(routes->hosts, routes->host_count, sizeof(*routes->hosts), routed_by_name);
	for (size_t i = 0; i < routes->host_count; i++)
		routes->has_partial |= routes->hosts[i].name[0] == '*' && routes->hosts[i].name[1] != '.';
	for (size_t i = 0; i < routes->host_count; i++)
		if (!kept || strcmp(routes->hosts[kept - 1].name, routes->hosts[i].name))
			routes->hosts[kept++] = routes->hosts[i];
	routes->host_count = kept;
}

static void collect_registered(struct policy *policy, struct routes *routes, const struct registry *registry)
{
	size_t capacity = 0, kept = 0;
	uint32_t *services;

	for (size_t i = registry->first_service; i < registry->first_service + registry->offer_count; i++)
		*arena_append(policy->arena, routes->registered, routes->registered_count, capacity) =
			(struct registered_host){policy->services[i].host, policy->services[i].port, 1, NULL};
	services = arena_alloc(policy->arena, routes->registered_count + 1, sizeof(*services));
	for (size_t i = 0; i < routes->registered_count; i++) {
		services[i] = policy->services[registry->first_service + i].id;
		routes->registered[i].services = &services[i];
	}
	if (routes->registered_count)
		qsort(routes->registered, routes->registered_count, sizeof(*routes->registered), registered_by_name);
	services = arena_alloc(policy->arena, routes->registered_count + 1, sizeof(*services));
	for (size_t i = 0; i < routes->registered_count; i++) {
		services[i] = *routes->registered[i].services;
		if (kept && !strcmp(routes->registered[kept - 1].name, routes->registered[i].name)) {
			routes->registered[kept - 1].ports++;
			continue;
		}
		routes->registered[kept] = routes->registered[i];
		routes->registered[kept++].services = &services[i];
	}
	routes->registered_count = kept;
}

static struct routed_host *find_routed(const struct routes *routes, const char *name)
{
	return routes->host_count ? bsearch(name, routes->hosts, routes->host_count, sizeof(*routes->hosts), compare_routed)
				  : NULL;
}

/* The wildcard over `rest`, with which a host ends. */
static struct routed_host *find_routed_wildcard(const struct routes *routes, const char *rest)
{
	char wildcard[SLUICE_HOST_MAX + 1];

	snprintf(wildcard, sizeof(wildcard), "*%s", rest);
	return find_routed(routes, wildcard);
}

/* The most specific VirtualService host that covers `host`: its own name, else the longest wildcard. */
static struct routed_host *route_for(const struct routes *routes, const char *host)
{
	struct routed_host *found = find_routed(routes, host);

	for (const char *rest = host + 1; !found && host[0] && *rest; rest++)
		if (*rest == '.' || routes->has_partial)
			found = find_routed_wildcard(routes, rest);
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
		for (const char *rest = name + 1; name[0] && *rest; rest++) {
			found = *rest == '.' || routes->has_partial ? find_routed_wildcard(routes, rest) : NULL;
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
		service = policy_append_service(policy, routes->registry);
		service->host = host->name;
		service->wildcard = policy_is_wildcard(host->name);
		service->port = service->target_port = 80;
		service->protocol = PROTOCOL_HTTP;
		service->resolution = RESOLUTION_STATIC;
		service->flags = SERVICE_HTTP | SERVICE_ROUTED | (service->wildcard ? SERVICE_WILDCARD : 0);
		service->origin = policy_origin_of(policy, &host->owner->object);
	}
}

/* 0: it has no such subset. */
static uint32_t subset_of(const struct policy *policy, const struct service *service, const char *name)
{
	uint32_t id = service->next_subset;

	while (id && strcmp(policy_service(policy, id)->subset, name))
		id = policy_service(policy, id)->next_subset;
	return id;
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
	found = policy_find(policy, routes->registry, destination->host, strlen(destination->host), port, true);
	if (found && policy_is_wildcard(destination->host) && strcmp(found->host, destination->host))
		return 0; /* a wildcard is the service of that very name */
	return !found ? 0 : destination->subset ? subset_of(policy, found, destination->subset) : found->id;
}

/* The same for a connection: any service of that name and port. */
static uint32_t l4_destination_of(const struct policy *policy, const struct routes *routes, const struct route_destination *destination,
				  uint16_t dialled)
{
	struct registered_host wanted = {.name = destination->host};
	const struct registered_host *host = routes->registered_count ? bsearch(&wanted, routes->registered, routes->registered_count,
										sizeof(wanted), registered_by_name) : NULL;
	uint16_t port = destination->port ? destination->port : host && host->ports == 1 ? host->port : dialled;

	for (size_t i = 0; host && i < host->ports; i++) {
		const struct service *service = policy_service(policy, host->services[i]);

		if (service->port == port && service->protocol != PROTOCOL_UDP)
			return destination->subset ? subset_of(policy, service, destination->subset) : service->id;
	}
	return 0;
}

static bool is_named_as(const char *name, size_t n, const char *line)
{
	return strcspn(line, ":") == n && !strncasecmp(name, line, n);
}

static bool drops(const struct header_ops *ops, const char *line)
{
	for (size_t i = 0; i < ops->drop.count; i++)
		if (is_named_as(ops->drop.items[i], strlen(ops->drop.items[i]), line))
			return true;
	return false;
}

static bool sets(const struct header_ops *ops, const char *line)
{
	for (const char *set = ops->lines; set < ops->lines + ops->set_length; set = strstr(set, "\r\n") + 2)
		if (is_named_as(set, strcspn(set, ":"), line))
			return true;
	return false;
}

/* `length` bytes of lines, but for those that `then` takes back. */
static void add_lines(struct arena *arena, struct header_ops *out, const char *line, size_t length, const struct header_ops *then,
		      bool (*takes_back)(const struct header_ops *, const char *))
{
	for (const char *end = line + length, *next; line < end; line = next) {
		next = strstr(line, "\r\n") + 2;
		if (!takes_back(then, line))
			out->lines = arena_printf(arena, "%s%.*s", out->lines, (int)(next - line), line);
	}
}

static void add_drops(struct arena *arena, struct header_ops *out, const struct header_ops *ops)
{
	for (size_t i = 0; i < ops->drop.count; i++)
		*arena_append(arena, out->drop.items, out->drop.count, out->drop.capacity) = ops->drop.items[i];
}

/*
 * What a destination does and what its rule does. Envoy makes the changes of one of several destinations first, then the
 * rule's. A single destination's Istio puts behind the rule's, and Envoy makes them together: it removes, then sets, then adds.
 */
static struct header_ops both(struct arena *arena, const struct header_ops *own, const struct header_ops *of_rule, bool is_single)
{
	const struct header_ops *first = is_single ? of_rule : own, *then = is_single ? own : of_rule;
	struct header_ops out = {.lines = "", .authority = of_rule->authority ? of_rule->authority : own->authority};
	const char *first_added = first->lines + first->set_length, *then_added = then->lines + then->set_length;

	add_drops(arena, &out, first);
	add_drops(arena, &out, then);
	add_lines(arena, &out, first->lines, first->set_length, then, is_single ? sets : drops);
	if (is_single) {
		out.lines = arena_printf(arena, "%s%.*s%s%s", out.lines, (int)then->set_length, then->lines, first_added, then_added);
		return out;
	}
	add_lines(arena, &out, first_added, strlen(first_added), then, drops);
	out.lines = arena_printf(arena, "%s%s", out.lines, then->lines);
	return out;
}

static struct header_changes merge(struct arena *arena, const struct header_changes *own, const struct header_changes *of_rule,
				   bool is_single)
{
	if (!own->present || !of_rule->present)
		return own->present ? *own : *of_rule;
	return (struct header_changes){true, both(arena, &own->request, &of_rule->request, is_single),
				       both(arena, &own->response, &of_rule->response, is_single)};
}

static struct service_route make_route(const struct policy *policy, const struct routes *routes, uint16_t port,
				       const struct http_route *rule)
{
	struct service_route route = {.rule = rule};
	struct route_target *targets;
	uint32_t *mirrors = arena_alloc(policy->arena, rule->mirror_count + 1, sizeof(*mirrors));

	for (size_t i = 0; i < rule->mirror_count; i++)
		mirrors[i] = destination_of(policy, routes, &rule->mirrors[i].destination, port);
	route.mirrors = mirrors;
	if (!rule->destination_count)
		return route;
	targets = arena_alloc(policy->arena, rule->destination_count, sizeof(*targets));
	for (size_t i = 0; i < rule->destination_count; i++) {
		const struct route_destination *to = &rule->destinations[i];

		if (!to->weight)
			continue;
		targets[route.target_count++] = (struct route_target){
			destination_of(policy, routes, to, port), to->weight, to,
			merge(policy->arena, &to->headers, &rule->headers, rule->destination_count == 1)};
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
	       !rule->headers.present && !rule->rewrite.present && !rule->mirror_count;
}

struct l4_routes {
	struct service_l4_route *items;
	size_t count, capacity;
};

static void add_l4_routes(struct policy *policy, const struct routes *routes, const struct routed_host *host, uint16_t port, bool is_tls,
			  struct l4_routes *out)
{
	const struct virtual_service *owner = host->owner;
	const struct l4_route *rules = is_tls ? owner->tls : owner->tcp;

	for (size_t i = 0; i < (is_tls ? owner->tls_count : owner->tcp_count); i++) {
		struct route_target *targets = arena_alloc(policy->arena, rules[i].destination_count, sizeof(*targets));
		struct service_l4_route route = {.rule = &rules[i], .owner = owner, .targets = targets};

		for (size_t d = 0; d < rules[i].destination_count; d++) {
			const struct route_destination *to = &rules[i].destinations[d];

			if (!to->weight)
				continue;
			targets[route.target_count++] = (struct route_target){
				.service = l4_destination_of(policy, routes, to, port), .weight = to->weight, .destination = to};
			route.weights += to->weight;
		}
		*arena_append(policy->arena, out->items, out->count, out->capacity) = route;
	}
}

static int hosts_by_rank(const void *a, const void *b)
{
	const struct routed_host *const *x = a, *const *y = b;

	return ((*x)->rank > (*y)->rank) - ((*x)->rank < (*y)->rank);
}

struct routed_hosts {
	const struct routed_host **items;
	size_t count, capacity;
};

static void add_routed(struct policy *policy, struct routed_hosts *out, const struct routed_host *host)
{
	if (host && host->owner->tls_count)
		*arena_append(policy->arena, out->items, out->count, out->capacity) = host;
}

/* The hosts over a TLS service and, of a wildcard, below it, by precedence: what name a client shows says which one's rules count. */
static struct routed_hosts tls_hosts(struct policy *policy, const struct routes *routes, const struct service *service)
{
	struct routed_hosts out = {0};

	add_routed(policy, &out, find_routed(routes, service->host));
	for (const char *rest = service->host + 1; *rest; rest++)
		if (rest > service->host + service->wildcard && (*rest == '.' || routes->has_partial))
			add_routed(policy, &out, find_routed_wildcard(routes, rest));
	for (size_t i = 0; service->wildcard && i < routes->host_count; i++)
		if (routes->hosts[i].owner->tls_count && strcmp(routes->hosts[i].name, service->host) && host_covers(service->host, routes->hosts[i].name))
			add_routed(policy, &out, &routes->hosts[i]);
	if (out.count)
		qsort(out.items, out.count, sizeof(*out.items), hosts_by_rank);
	return out;
}

static void attach_l4_routes(struct policy *policy, const struct routes *routes, const struct routed_host *host, struct service *service)
{
	struct l4_routes own = {0};
	struct routed_hosts hosts;

	if (policy_is_tls(service->protocol)) {
		hosts = tls_hosts(policy, routes, service);
		for (size_t i = 0; i < hosts.count; i++)
			if (!i || hosts.items[i]->rank != hosts.items[i - 1]->rank)
				add_l4_routes(policy, routes, hosts.items[i], service->port, true, &own);
	} else if (host) {
		add_l4_routes(policy, routes, host, service->port, false, &own);
	}
	if (!own.count)
		return;
	service->l4_routes = own.items;
	service->l4_route_count = own.count;
	service->flags |= SERVICE_ROUTED;
}

/* Of the rule that takes every request: a connection shows nothing that another one could match. */
static void attach_connection_fault(const struct virtual_service *virtual_service, struct service *service)
{
	for (size_t i = 0; i < virtual_service->http_count; i++) {
		const struct http_route *rule = &virtual_service->http[i];

		if (rule->match_count || !((rule->delay.present && rule->delay.percent > 0) || (rule->abort.present && rule->abort.percent > 0)))
			continue;
		service->connection_fault = rule;
		service->flags |= SERVICE_ROUTED;
		return;
	}
}

static void attach_routes(struct policy *policy, const struct routes *routes, struct service *service)
{
	struct routed_host *host = route_for(routes, service->host);
	const struct virtual_service *virtual_service = host ? host->owner : NULL;
	const struct port_routes *own;

	service->virtual_service = virtual_service;
	if (service->flags & (SERVICE_TLS | SERVICE_TCP) && service->protocol != PROTOCOL_UDP)
		attach_l4_routes(policy, routes, host, service);
	if (virtual_service && virtual_service->object.connection_fault && service->flags & SERVICE_TLS)
		attach_connection_fault(virtual_service, service);
	if (!virtual_service || !virtual_service->http_count || service->protocol == PROTOCOL_UDP)
		return;
	if (!policy_is_http(service->protocol))
		return; /* no effect there, as in Istio; `check` warns */
	own = routes_of(policy, routes, host, service->port);
	service->routes = own->items;
	service->route_count = own->count;
	if (own->count > 1 || !changes_nothing(service, &own->items[0]))
		service->flags |= SERVICE_ROUTED;
}

static void add_routes(struct policy *policy, uint32_t id)
{
	const struct registry *registry = &policy->registries[id - 1];
	struct routes routes = {.registry = id};
	size_t first_added = policy->service_count;

	if (!registry->virtual_service_count)
		return;
	collect_routed(policy, &routes, registry);
	collect_registered(policy, &routes, registry);
	mark_registered(&routes);
	add_unregistered_hosts(policy, &routes);
	for (size_t i = registry->first_service; i < registry->first_service + registry->offer_count; i++)
		attach_routes(policy, &routes, &policy->services[i]);
	for (size_t i = first_added; i < policy->service_count; i++)
		attach_routes(policy, &routes, &policy->services[i]);
}

void policy_add_routes(struct policy *policy)
{
	policy_index(policy); /* destinations are found among what ServiceEntries register */
	for (size_t i = 0; i < policy->registry_count; i++)
		add_routes(policy, (uint32_t)i + 1);
	policy_index(policy);
}
