// SPDX-License-Identifier: Apache-2.0
#include "redirect/l4_route.h"

#include <string.h>

#include "config/walk.h"

static bool has_name(const struct string_list *wanted, const char *name)
{
	for (size_t i = 0; i < wanted->count; i++)
		if (host_covers(wanted->items[i], name))
			return true;
	return !wanted->count;
}

static bool takes(const struct l4_match *match, const struct l4_connection *connection)
{
	return !match->never && (!match->port || match->port == connection->port) &&
	       (!match->source_namespace || !strcmp(match->source_namespace, connection->who->namespace_)) &&
	       workload_has_labels(connection->who, &match->source_labels) && has_name(&match->sni_hosts, connection->name) &&
	       (!match->subnets.count || cidrs_hold(&match->subnets, connection->addr));
}

bool l4_rule_takes(const struct l4_route *rule, const struct l4_connection *connection, const struct l4_match **match)
{
	*match = NULL;
	for (size_t i = 0; i < rule->match_count; i++) {
		if (takes(&rule->matches[i], connection)) {
			*match = &rule->matches[i];
			return true;
		}
	}
	return !rule->match_count;
}

static const struct route_target *draw_target(const struct service_l4_route *route, uint64_t draw)
{
	const struct route_target *target = route->targets;

	for (draw %= route->weights; draw >= target->weight; target++)
		draw -= target->weight;
	return target;
}

const struct service_l4_route *l4_rule_find(const struct service *service, const struct l4_connection *connection)
{
	const struct l4_match *match;

	for (size_t i = 0; i < service->l4_route_count; i++)
		if (l4_rule_takes(service->l4_routes[i].rule, connection, &match))
			return &service->l4_routes[i];
	return NULL;
}

const struct route_target *l4_route_find(const struct service *service, const struct l4_connection *connection)
{
	const struct service_l4_route *found = l4_rule_find(service, connection);

	return found ? draw_target(found, connection->draw) : NULL;
}
