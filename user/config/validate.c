// SPDX-License-Identifier: Apache-2.0
/* What can only be seen with all documents at hand: duplicates, references, and settings that work against each other. */
#include <string.h>

#include "config/config.h"
#include "config/walk.h"

/* A registered host, sorted by name so that 10,000 entries are searched, not scanned. */
struct registered {
	const char *host;
	const struct service_entry *entry;
};

struct registry {
	struct registered *items;
	size_t count, capacity;
	bool has_partial; /* a host such as "*foo.com" */
};

static const char *label_of(struct config *config, const struct object *object)
{
	return arena_printf(config->arena, "%s/%s", object->kind, object->name ? object->name : "");
}

static int compare_objects(const void *a, const void *b)
{
	const struct object *x = *(const struct object *const *)a, *y = *(const struct object *const *)b;
	int order = strcmp(x->kind, y->kind);

	if (!order)
		order = strcmp(x->namespace_, y->namespace_);
	if (!order)
		order = strcmp(x->name ? x->name : "", y->name ? y->name : "");
	return order ? order : (x->order > y->order) - (x->order < y->order);
}

static bool same_identity(const struct object *a, const struct object *b)
{
	return a->name && b->name && !strcmp(a->kind, b->kind) && !strcmp(a->namespace_, b->namespace_) &&
	       !strcmp(a->name, b->name);
}

static void check_duplicates(struct config *config)
{
	size_t total = config->service_entry_count + config->virtual_service_count + config->workload_count +
		       config->egress_policy_count + config->sidecar_count + config->destination_rule_count +
		       config->workload_entry_count, n = 0;
	const struct object **objects = arena_alloc(config->arena, total + 1, sizeof(*objects));

	for (size_t i = 0; i < config->service_entry_count; i++)
		objects[n++] = &config->service_entries[i]->object;
	for (size_t i = 0; i < config->virtual_service_count; i++)
		objects[n++] = &config->virtual_services[i]->object;
	for (size_t i = 0; i < config->workload_count; i++)
		objects[n++] = &config->workloads[i]->object;
	for (size_t i = 0; i < config->egress_policy_count; i++)
		objects[n++] = &config->egress_policies[i]->object;
	for (size_t i = 0; i < config->sidecar_count; i++)
		objects[n++] = &config->sidecars[i]->object;
	for (size_t i = 0; i < config->destination_rule_count; i++)
		objects[n++] = &config->destination_rules[i]->object;
	for (size_t i = 0; i < config->workload_entry_count; i++)
		objects[n++] = &config->workload_entries[i]->object;
	qsort(objects, n, sizeof(*objects), compare_objects);
	for (size_t i = 1; i < n; i++) {
		const struct object *first = objects[i - 1], *second = objects[i];

		if (same_identity(first, second))
			config_problem(config, SEVERITY_ERROR, &second->at, label_of(config, second), "metadata.name",
				       "\"%s\" in namespace \"%s\" is defined already at %s:%u:%u", second->name,
				       second->namespace_, first->at.file, first->at.line, first->at.column);
	}
}

static int compare_selectors(const struct label_list *a, const struct label_list *b)
{
	for (size_t i = 0; i < a->count && i < b->count; i++) {
		int order = strcmp(a->items[i].key, b->items[i].key);

		if (!order)
			order = strcmp(a->items[i].value, b->items[i].value);
		if (order)
			return order;
	}
	return (a->count > b->count) - (a->count < b->count);
}

/* What speaks for workloads. */
struct scoped {
	const struct object *object;
	const struct label_list *selector;
};

static int compare_scopes(const struct scoped *a, const struct scoped *b)
{
	int order = strcmp(a->object->namespace_, b->object->namespace_);

	return order ? order : compare_selectors(a->selector, b->selector);
}

static int by_scope(const void *a, const void *b)
{
	const struct scoped *x = a, *y = b;
	int order = compare_scopes(x, y);

	return order ? order : (x->object->order > y->object->order) - (x->object->order < y->object->order);
}

/* Says of each two at one scope `what` comes of it. Sorts `items`. */
static void check_scopes(struct config *config, struct scoped *items, size_t count, enum severity severity, const char *what)
{
	if (count)
		qsort(items, count, sizeof(*items), by_scope);
	for (size_t i = 1; i < count; i++) {
		const struct object *first = items[i - 1].object, *second = items[i].object;

		if (!compare_scopes(&items[i - 1], &items[i]))
			config_problem(config, severity, &second->at, label_of(config, second), "spec.workloadSelector",
				       "is for the same workloads as %s/%s at %s:%u (namespace \"%s\", %s); %s", first->kind,
				       first->name ? first->name : "", first->at.file, first->at.line, first->namespace_,
				       items[i].selector->count ? "same selector" : "no selector", what);
	}
}

/* Which of two EgressPolicies for the same workloads holds cannot be told: neither may (DESIGN §3). */
static void check_policy_scopes(struct config *config)
{
	struct scoped *items = arena_alloc(config->arena, config->egress_policy_count + 1, sizeof(*items));

	for (size_t i = 0; i < config->egress_policy_count; i++)
		items[i] = (struct scoped){&config->egress_policies[i]->object, &config->egress_policies[i]->selector};
	check_scopes(config, items, config->egress_policy_count, SEVERITY_ERROR, "merge the two");
}

static int by_workload(const void *a, const void *b)
{
	const struct workload_document *x = *(struct workload_document *const *)a, *y = *(struct workload_document *const *)b;
	int order = strcmp(x->namespace_, y->namespace_);

	if (!order)
		order = strcmp(x->name ? x->name : "", y->name ? y->name : "");
	return order ? order : (x->object.order > y->object.order) - (x->object.order < y->object.order);
}

/* Several may describe one workload, at several cgroups; what is captured of it must not depend on which is read first. */
static void check_annotations(struct config *config)
{
	struct workload_document **items = arena_alloc(config->arena, config->workload_count + 1, sizeof(*items));

	for (size_t i = 0; i < config->workload_count; i++)
		items[i] = config->workloads[i];
	qsort(items, config->workload_count, sizeof(*items), by_workload);
	for (size_t i = 1; i < config->workload_count; i++) {
		const struct workload_document *first = items[i - 1], *second = items[i];

		if (!first->name || !second->name || strcmp(first->namespace_, second->namespace_) || strcmp(first->name, second->name) ||
		    (!first->capture && !second->capture))
			continue;
		config_problem(config, SEVERITY_ERROR, &second->object.at, label_of(config, &second->object), "metadata.annotations",
			       "is workload %s/%s, as %s/%s at %s:%u: with annotations of what is captured there can be one of it",
			       second->namespace_, second->name, first->object.kind, first->object.name, first->object.at.file,
			       first->object.at.line);
	}
}

/* Istio takes the oldest Sidecar. */
static void check_sidecar_scopes(struct config *config)
{
	struct scoped *items = arena_alloc(config->arena, config->sidecar_count + 1, sizeof(*items));

	for (size_t i = 0; i < config->sidecar_count; i++)
		items[i] = (struct scoped){&config->sidecars[i]->object, &config->sidecars[i]->selector};
	check_scopes(config, items, config->sidecar_count, SEVERITY_WARNING, "the older one holds, the other has no effect");
}

static int by_host(const void *a, const void *b)
{
	return strcmp(((const struct registered *)a)->host, ((const struct registered *)b)->host);
}

static void build_registry(struct registry *registry, struct config *config)
{
	for (size_t i = 0; i < config->service_entry_count; i++) {
		const struct service_entry *entry = config->service_entries[i];

		for (size_t h = 0; h < entry->host_count; h++)
			*arena_append(config->arena, registry->items, registry->count, registry->capacity) =
				(struct registered){entry->hosts[h].name, entry};
	}
	for (size_t i = 0; i < registry->count; i++)
		registry->has_partial |= registry->items[i].host[0] == '*' && registry->items[i].host[1] != '.';
	if (registry->count)
		qsort(registry->items, registry->count, sizeof(*registry->items), by_host);
}

/* The entries of exactly this name: `*count` of them from the one returned on. */
static const struct registered *find_exact(const struct registry *registry, const char *host, size_t *count)
{
	size_t low = 0, high = registry->count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (strcmp(registry->items[middle].host, host) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	for (*count = 0; low + *count < registry->count; (*count)++) {
		if (strcmp(registry->items[low + *count].host, host))
			break;
	}
	return *count ? &registry->items[low] : NULL;
}

/* The entries that serve `host`: its own, else those of the longest wildcard over it. */
static const struct registered *find_host(struct config *config, const struct registry *registry, const char *host,
					  size_t *count)
{
	const struct registered *found = find_exact(registry, host, count);

	for (const char *rest = host + 1; !found && host[0] && *rest; rest++)
		if (*rest == '.' || registry->has_partial)
			found = find_exact(registry, arena_printf(config->arena, "*%s", rest), count);
	return found;
}

static bool is_http(enum port_protocol protocol)
{
	return protocol <= PROTOCOL_HTTP_PROXY || protocol == PROTOCOL_UNSET;
}

static bool has_http_port(const struct service_entry *entry)
{
	for (size_t i = 0; i < entry->port_count; i++) {
		if (is_http(entry->ports[i].protocol))
			return true;
	}
	return !entry->port_count;
}

/* A wildcard host of a VirtualService routes every registered host below it. */
static bool covers_any(const struct registry *registry, const char *wildcard)
{
	for (size_t i = 0; wildcard[0] == '*' && i < registry->count; i++) {
		if (host_covers(wildcard, registry->items[i].host))
			return true;
	}
	return false;
}

static bool has_fault(const struct virtual_service *service)
{
	for (size_t i = 0; i < service->http_count; i++)
		if (service->http[i].delay.present || service->http[i].abort.present)
			return true;
	return false;
}

/* Which of the protocols has a port that is ruled by `service`. */
static bool has_ruled_port(const struct service_entry *entry, const struct virtual_service *service)
{
	for (size_t i = 0; i < entry->port_count; i++) {
		enum port_protocol protocol = entry->ports[i].protocol;
		bool is_tls = protocol == PROTOCOL_HTTPS || protocol == PROTOCOL_TLS;

		if (is_tls ? service->tls_count : protocol >= PROTOCOL_TCP && protocol != PROTOCOL_UDP && service->tcp_count)
			return true;
	}
	return false;
}

static void check_routed_host(struct config *config, const struct registry *registry, const struct virtual_service *service,
			      const struct service_host *host, size_t index)
{
	const struct object *object = &service->object;
	const char *field = arena_printf(config->arena, "spec.hosts[%zu]", index);
	const struct registered *found;
	size_t count, http = 0, l4 = 0;

	found = find_host(config, registry, host->name, &count);
	if (!found) {
		if (!covers_any(registry, host->name))
			config_problem(config, SEVERITY_WARNING, &host->at, label_of(config, object), field,
				       "no ServiceEntry registers \"%s\": it is routed on port 80 only", host->name);
		return;
	}
	for (size_t i = 0; i < count; i++) {
		http += has_http_port(found[i].entry);
		l4 += has_ruled_port(found[i].entry, service);
	}
	if (!l4 && !service->http_count)
		config_problem(config, SEVERITY_WARNING, &host->at, label_of(config, object), field,
			       "the rules have no effect on \"%s\": ServiceEntry/%s at %s:%u gives it no port that tls or tcp rules are for",
			       host->name, found->entry->object.name ? found->entry->object.name : "", found->entry->object.at.file,
			       found->entry->object.at.line);
	if (!http && service->http_count && !object->connection_fault)
		config_problem(config, SEVERITY_WARNING, &host->at, label_of(config, object), field,
			       "http routes have no effect on \"%s\": ServiceEntry/%s at %s:%u gives it no HTTP port%s",
			       host->name, found->entry->object.name ? found->entry->object.name : "",
			       found->entry->object.at.file, found->entry->object.at.line,
			       has_fault(service) ? " (the annotation sluice.dev/connection-fault: \"true\" applies their faults to connections)" : "");
}

static bool has_number(const struct service_entry *entry, uint16_t number)
{
	for (size_t i = 0; i < entry->port_count; i++) {
		if (entry->ports[i].number == number)
			return true;
	}
	return false;
}

static bool is_on_port(const struct registered *found, size_t count, uint16_t port)
{
	for (size_t i = 0; i < count; i++)
		if (!port || has_number(found[i].entry, port))
			return true;
	return false;
}

static bool has_subset(const struct config *config, const char *host, const char *name)
{
	for (size_t i = 0; i < config->destination_rule_count; i++) {
		const struct destination_rule *rule = config->destination_rules[i];

		for (size_t k = 0; rule->host && k < rule->subset_count; k++)
			if (host_covers(rule->host, host) && !strcmp(rule->subsets[k].name, name))
				return true;
	}
	return false;
}

/* `list`: "http", "tls" or "tcp"; `what`: "route" or "mirrors". */
static void check_destination(struct config *config, const struct registry *registry, const struct object *object, const char *list,
			      const char *what, const struct route_destination *destination, size_t rule, size_t index)
{
	const char *field = arena_printf(config->arena, "spec.%s[%zu].%s[%zu].destination", list, rule, what, index);
	const struct registered *found;
	const char *why = NULL;
	size_t count;

	if (!destination->host)
		return;
	found = destination->host[0] == '*' ? find_exact(registry, destination->host, &count)
					    : find_host(config, registry, destination->host, &count);
	if (!found)
		why = arena_printf(config->arena, "no ServiceEntry registers \"%s\"", destination->host);
	else if (!is_on_port(found, count, destination->port))
		why = arena_printf(config->arena, "\"%s\" is not registered on port %u", destination->host, destination->port);
	else if (destination->subset && !has_subset(config, destination->host, destination->subset))
		why = arena_printf(config->arena, "no DestinationRule for \"%s\" has a subset \"%s\"", destination->host, destination->subset);
	if (why)
		config_problem(config, SEVERITY_WARNING, &destination->at, label_of(config, object), field,
			       "%s: %s", why, !strcmp(what, "mirrors") ? "nothing is mirrored there" : strcmp(list, "http") ?
			       "connections are reset" : "requests are answered with 503");
}

static void check_l4_destinations(struct config *config, const struct registry *registry, const struct object *object, const char *list,
				  const struct l4_route *routes, size_t count)
{
	for (size_t r = 0; r < count; r++)
		for (size_t d = 0; d < routes[r].destination_count; d++)
			check_destination(config, registry, object, list, "route", &routes[r].destinations[d], r, d);
}

/* Whether a client can dial `port` of one of the hosts. What no ServiceEntry registers is routed on port 80. */
static bool has_dialled_port(struct config *config, const struct registry *registry, const struct virtual_service *service, uint16_t port)
{
	for (size_t h = 0; h < service->host_count; h++) {
		const char *host = service->hosts[h].name;
		const struct registered *found;
		size_t count;

		if (host[0] == '*')
			return true; /* of many */
		found = find_host(config, registry, host, &count);
		if (found ? is_on_port(found, count, port) : port == 80)
			return true;
	}
	return !service->host_count;
}

static void check_match_port(struct config *config, const struct registry *registry, const struct virtual_service *service,
			     const struct position *at, uint16_t port, const char *field)
{
	if (port && !has_dialled_port(config, registry, service, port))
		config_problem(config, SEVERITY_WARNING, at, label_of(config, &service->object), field,
			       "never holds: no host of the VirtualService is registered on port %u", port);
}

static void check_match_ports(struct config *config, const struct registry *registry, const struct virtual_service *service)
{
	static const char *const names[] = {"tls", "tcp"};
	const struct l4_route *lists[] = {service->tls, service->tcp};
	size_t counts[] = {service->tls_count, service->tcp_count};

	for (size_t r = 0; r < service->http_count; r++)
		for (size_t m = 0; m < service->http[r].match_count; m++)
			check_match_port(config, registry, service, &service->http[r].matches[m].at, service->http[r].matches[m].port,
					 arena_printf(config->arena, "spec.http[%zu].match[%zu].port", r, m));
	for (size_t l = 0; l < ARRAY_SIZE(names); l++)
		for (size_t r = 0; r < counts[l]; r++)
			for (size_t m = 0; m < lists[l][r].match_count; m++)
				check_match_port(config, registry, service, &lists[l][r].matches[m].at, lists[l][r].matches[m].port,
						 arena_printf(config->arena, "spec.%s[%zu].match[%zu].port", names[l], r, m));
}

static void check_virtual_services(struct config *config, const struct registry *registry)
{
	for (size_t i = 0; i < config->virtual_service_count; i++) {
		const struct virtual_service *service = config->virtual_services[i];

		if (!service->is_mesh)
			continue;
		for (size_t h = 0; h < service->host_count; h++)
			check_routed_host(config, registry, service, &service->hosts[h], h);
		check_match_ports(config, registry, service);
		for (size_t r = 0; r < service->http_count; r++)
			for (size_t d = 0; d < service->http[r].destination_count; d++)
				check_destination(config, registry, &service->object, "http", "route", &service->http[r].destinations[d], r, d);
		for (size_t r = 0; r < service->http_count; r++)
			for (size_t m = 0; m < service->http[r].mirror_count; m++)
				check_destination(config, registry, &service->object, "http", "mirrors",
						  &service->http[r].mirrors[m].destination, r, m);
		check_l4_destinations(config, registry, &service->object, "tls", service->tls, service->tls_count);
		check_l4_destinations(config, registry, &service->object, "tcp", service->tcp, service->tcp_count);
	}
}

/* Envoy ejects an endpoint only while the part that is ejected stays within the limit, the first included. */
static void check_ejection(struct config *config, const struct registered *found, size_t count, const struct destination_rule *rule)
{
	const struct outlier_settings *outlier = &rule->policy.all.outlier;

	for (size_t i = 0; i < count && outlier->present; i++) {
		const struct service_entry *entry = found[i].entry;

		if (entry->resolution != RESOLUTION_STATIC || !entry->endpoint_count ||
		    100 <= outlier->max_ejection_percent * entry->endpoint_count)
			continue;
		config_problem(config, SEVERITY_WARNING, &outlier->at, label_of(config, &rule->object), "spec.trafficPolicy.outlierDetection",
			       "no endpoint of \"%s\" can ever be ejected: one of %zu is more than maxEjectionPercent %u", rule->host,
			       entry->endpoint_count, outlier->max_ejection_percent);
		return;
	}
}

static const struct tls_settings *tls_on(const struct traffic_rules *rules, uint16_t port)
{
	for (size_t i = 0; i < rules->port_count; i++)
		if (rules->ports[i].port == port)
			return &rules->ports[i].policy.tls;
	return &rules->all.tls;
}

/* What Istio does too, and what is seldom meant. */
static void check_twofold_tls(struct config *config, const struct destination_rule *rule, const struct service_entry *entry)
{
	for (size_t i = 0; i < entry->port_count; i++) {
		const struct service_port *port = &entry->ports[i];
		const struct tls_settings *tls = tls_on(&rule->policy, port->number);

		if (tls->mode != TLS_DISABLE && (port->protocol == PROTOCOL_HTTPS || port->protocol == PROTOCOL_TLS))
			config_problem(config, SEVERITY_WARNING, &tls->at, label_of(config, &rule->object), "spec.trafficPolicy",
				       "clients of \"%s\" speak TLS on port %u themselves: it goes on within a second one; portLevelSettings say it of one port",
				       rule->host, port->number);
	}
}

static void check_destination_rules(struct config *config, const struct registry *registry)
{
	for (size_t i = 0; i < config->destination_rule_count; i++) {
		const struct destination_rule *rule = config->destination_rules[i];
		const struct registered *found;
		size_t count = 0;

		found = rule->host ? find_host(config, registry, rule->host, &count) : NULL;
		if (found)
			check_ejection(config, found, count, rule);
		else if (rule->host && !covers_any(registry, rule->host))
			config_problem(config, SEVERITY_WARNING, &rule->object.at, label_of(config, &rule->object), "spec.host",
				       "no ServiceEntry registers \"%s\": the rule has no effect", rule->host);
		for (size_t k = 0; found && k < count; k++)
			check_twofold_tls(config, rule, found[k].entry);
	}
}

static const struct egress_policy *root_policy(const struct config *config, const char *root_namespace)
{
	for (size_t i = 0; i < config->egress_policy_count; i++) {
		const struct egress_policy *policy = config->egress_policies[i];

		if (!policy->selector.count && !strcmp(policy->object.namespace_, root_namespace))
			return policy;
	}
	return NULL;
}

/* The mode of the workloads that `policy` is for, as far as it, the root policy and the mesh tell. */
static enum sluice_mode effective_mode(const struct config *config, const struct egress_policy *policy, const struct egress_policy *root)
{
	if (policy && policy->has_mode)
		return policy->mode;
	if (root && root->has_mode)
		return root->mode;
	return config->mesh && config->mesh->settings.has_mode ? config->mesh->settings.mode : MODE_ALLOW_ANY;
}

static const struct service_entry *first_looked_up(const struct config *config)
{
	for (size_t i = 0; i < config->service_entry_count; i++) {
		enum resolution resolution = config->service_entries[i]->resolution;

		if (resolution == RESOLUTION_DNS || resolution == RESOLUTION_DNS_ROUND_ROBIN || resolution == RESOLUTION_DYNAMIC_DNS)
			return config->service_entries[i];
	}
	return NULL;
}

static void check_resolvers(struct config *config, const struct egress_policy *root)
{
	const struct service_entry *entry = first_looked_up(config);

	for (size_t i = 0; entry && i < config->egress_policy_count; i++) {
		const struct egress_policy *policy = config->egress_policies[i];

		if (policy->has_dns_allow && policy->dns_allow == DNS_NONE &&
		    effective_mode(config, policy, root) == MODE_REGISTRY_ONLY)
			config_problem(config, SEVERITY_WARNING, &policy->object.at, label_of(config, &policy->object),
				       "spec.dns.allow",
				       "under REGISTRY_ONLY with \"none\" no resolver is reachable, so workloads cannot look up ServiceEntry/%s (%s:%u)",
				       entry->object.name ? entry->object.name : "", entry->object.at.file,
				       entry->object.at.line);
	}
}

static bool any_workload_is_free(const struct config *config, const struct egress_policy *root)
{
	if (effective_mode(config, NULL, root) != MODE_REGISTRY_ONLY)
		return true;
	for (size_t i = 0; i < config->egress_policy_count; i++) {
		if (effective_mode(config, config->egress_policies[i], root) != MODE_REGISTRY_ONLY)
			return true;
	}
	return false;
}

/* DESIGN §3 step 3: under ALLOW_ANY a name matters on a port only when a service selected by it is routed. */
static void check_routed_ports(struct config *config, const struct registry *registry, const struct egress_policy *root)
{
	if (!any_workload_is_free(config, root))
		return;
	for (size_t i = 0; i < config->virtual_service_count; i++) {
		const struct virtual_service *service = config->virtual_services[i];
		const struct service_host *host = service->is_mesh && service->host_count ? &service->hosts[0] : NULL;
		size_t count;
		const struct registered *found = host ? find_host(config, registry, host->name, &count) : NULL;

		for (size_t p = 0; found && p < found->entry->port_count; p++) {
			if (!is_http(found->entry->ports[p].protocol))
				continue;
			config_problem(config, SEVERITY_WARNING, &host->at, label_of(config, &service->object), "spec.hosts[0]",
				       "under ALLOW_ANY these routes send every flow to port %u of an unregistered address through the redirector",
				       found->entry->ports[p].number);
			break;
		}
	}
}

/* The same of what is resolved when a client names it: only the redirector sees the name. */
static void check_dynamic_ports(struct config *config, const struct egress_policy *root)
{
	for (size_t i = 0; i < config->service_entry_count && any_workload_is_free(config, root); i++) {
		const struct service_entry *entry = config->service_entries[i];

		for (size_t p = 0; entry->resolution == RESOLUTION_DYNAMIC_DNS && p < entry->port_count; p++)
			config_problem(config, SEVERITY_WARNING, &entry->ports[p].at, label_of(config, &entry->object),
				       arena_printf(config->arena, "spec.ports[%zu]", p),
				       "under ALLOW_ANY resolution DYNAMIC_DNS sends every flow to port %u of an unregistered address through the redirector",
				       entry->ports[p].number);
	}
}

void config_validate(struct config *config, const char *root_namespace)
{
	const struct egress_policy *root = root_policy(config, root_namespace);
	struct registry registry = {0};

	if (!config->error_count)
		config_advise(config);
	config_resolve_delegates(config);
	config_resolve_selectors(config);
	build_registry(&registry, config);
	check_duplicates(config);
	check_policy_scopes(config);
	check_annotations(config);
	check_sidecar_scopes(config);
	check_virtual_services(config, &registry);
	check_destination_rules(config, &registry);
	config_check_credentials(config);
	check_resolvers(config, root);
	check_routed_ports(config, &registry, root);
	check_dynamic_ports(config, root);
}
