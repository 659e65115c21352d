// SPDX-License-Identifier: Apache-2.0
/* WorkloadEntry: an endpoint of the ServiceEntries whose workloadSelector has its labels (ISTIO.md §1.4). */
#include <stddef.h>
#include <string.h>

#include "config/reader.h"
#include "config/walk.h"

void read_workload_entry(struct walk *walk, const struct node *spec, const struct object *object)
{
	struct config *config = walk->config;
	struct workload_entry *entry = arena_alloc(config->arena, 1, sizeof(*entry));
	const struct node *address = node_field(spec, "address");
	const char *name;
	size_t state;

	entry->object = *object;
	*arena_append(config->arena, config->workload_entries, config->workload_entry_count, config->workload_entry_capacity) = entry;
	if (!read_endpoint_fields(walk, spec, &entry->endpoint) || !entry->endpoint.address || entry->endpoint.is_ip)
		return;
	state = walk_enter(walk, "address");
	if (is_unix_address(entry->endpoint.address))
		check_unix_address(walk, address, &entry->endpoint);
	else if (read_host(walk, address, HOST_EXACT, &name))
		entry->endpoint.address = name;
	walk_leave(walk, state);
	state = walk_enter(walk, "ports");
	if (is_unix_address(entry->endpoint.address) && entry->endpoint.port_count)
		walk_error(walk, node_field(spec, "ports"), "a Unix socket has none");
	walk_leave(walk, state);
}

static bool has_label(const struct label_list *list, const struct label *wanted)
{
	for (size_t i = 0; i < list->count; i++)
		if (!strcmp(list->items[i].key, wanted->key) && !strcmp(list->items[i].value, wanted->value))
			return true;
	return false;
}

static bool is_selected(const struct service_entry *by, const struct workload_entry *entry)
{
	if (strcmp(by->object.namespace_, entry->object.namespace_) || !entry->endpoint.address)
		return false;
	for (size_t i = 0; i < by->selector.count; i++)
		if (!has_label(&entry->endpoint.labels, &by->selector.items[i]))
			return false;
	return by->selector.count;
}

static void add_selected(struct config *config, struct service_entry *to, const struct workload_entry *entry)
{
	bool takes_names = to->resolution == RESOLUTION_DNS || to->resolution == RESOLUTION_DNS_ROUND_ROBIN;

	if (entry->endpoint.is_ip || (entry->endpoint.socket ? !takes_names && to->port_count == 1 : takes_names))
		*arena_append(config->arena, to->endpoints, to->endpoint_count, to->endpoint_capacity) = entry->endpoint;
	else if (entry->endpoint.socket)
		config_problem(config, SEVERITY_WARNING, &entry->endpoint.at,
			       arena_printf(config->arena, "%s/%s", entry->object.kind, entry->object.name), "spec.address",
			       "\"%s\" is a Unix socket, which takes resolution STATIC and one port, unlike ServiceEntry/%s: it is left out",
			       entry->endpoint.address, to->object.name);
	else
		config_problem(config, SEVERITY_WARNING, &entry->endpoint.at,
			       arena_printf(config->arena, "%s/%s", entry->object.kind, entry->object.name), "spec.address",
			       "\"%s\" is not an IP address, as resolution STATIC of ServiceEntry/%s wants: it is left out", entry->endpoint.address,
			       to->object.name);
}

static void select_endpoints(struct config *config, struct service_entry *entry)
{
	for (size_t i = 0; i < config->workload_entry_count; i++)
		if (is_selected(entry, config->workload_entries[i]))
			add_selected(config, entry, config->workload_entries[i]);
	if (entry->resolution == RESOLUTION_STATIC && !entry->endpoint_count)
		config_problem(config, SEVERITY_WARNING, &entry->object.at, arena_printf(config->arena, "ServiceEntry/%s", entry->object.name),
			       "spec.workloadSelector", "selects no WorkloadEntry of namespace \"%s\": HTTP is answered with 503",
			       entry->object.namespace_);
}

void config_resolve_selectors(struct config *config)
{
	for (size_t i = 0; i < config->service_entry_count && !config->error_count; i++)
		if (config->service_entries[i]->has_selector && config->service_entries[i]->resolution != RESOLUTION_NONE &&
		    config->service_entries[i]->resolution != RESOLUTION_DYNAMIC_DNS)
			select_endpoints(config, config->service_entries[i]);
}
