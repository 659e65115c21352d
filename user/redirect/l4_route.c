// SPDX-License-Identifier: Apache-2.0
#include "redirect/l4_route.h"

#include <stdint.h>
#include <string.h>

#include "config/walk.h"

static unsigned int longest_prefix(const struct cidr_list *subnets, const uint8_t addr[16])
{
	const struct cidr *longest = cidrs_longest(subnets, addr);

	return longest ? longest->bits + 1 : !subnets->count;
}

/* As an exact name says more than any wildcard, and a longer one more than a shorter. */
static size_t closest_name(const struct string_list *wanted, const char *name)
{
	size_t closest = 0;

	for (size_t i = 0; i < wanted->count; i++) {
		size_t length = wanted->items[i][0] == '*' ? strlen(wanted->items[i]) : SIZE_MAX;

		if (length > closest && host_covers(wanted->items[i], name))
			closest = length;
	}
	return wanted->count ? closest : 1;
}

static struct l4_fit fit_of(const struct l4_match *match, const struct l4_connection *connection)
{
	struct l4_fit fit = {.match = match};

	if (match->never || (match->port && match->port != connection->port) ||
	    (match->source_namespace && strcmp(match->source_namespace, connection->who->namespace_) != 0) ||
	    !workload_has_labels(connection->who, &match->source_labels))
		return fit;
	fit.prefix = longest_prefix(&match->subnets, connection->addr);
	fit.name = closest_name(&match->sni_hosts, connection->name);
	fit.takes = fit.prefix && fit.name;
	return fit;
}

bool l4_is_closer(const struct l4_fit *fit, const struct l4_fit *than)
{
	if (!fit->takes || !than->takes)
		return fit->takes;
	return fit->prefix != than->prefix ? fit->prefix > than->prefix : fit->name > than->name;
}

/* A tcp rule for all addresses: those behind it do not count. */
static bool takes_the_rest(const struct l4_fit *fit)
{
	return fit->takes && (!fit->match || (!fit->match->subnets.count && !fit->match->sni_hosts.count));
}

struct l4_fit l4_rule_fit(const struct l4_route *rule, const struct l4_connection *connection)
{
	struct l4_fit best = {.takes = !rule->match_count, .prefix = 1, .name = 1};

	for (size_t i = 0; i < rule->match_count; i++) {
		struct l4_fit fit = fit_of(&rule->matches[i], connection);

		if (takes_the_rest(&fit))
			return fit;
		if (l4_is_closer(&fit, &best))
			best = fit;
	}
	return best;
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
	const struct service_l4_route *found = NULL;
	struct l4_fit best = {.takes = false};

	for (size_t i = 0; i < service->l4_route_count; i++) {
		struct l4_fit fit = l4_rule_fit(service->l4_routes[i].rule, connection);

		if (l4_is_closer(&fit, &best)) {
			found = &service->l4_routes[i];
			best = fit;
		}
		if (takes_the_rest(&fit))
			break;
	}
	return found;
}

const struct route_target *l4_route_find(const struct service *service, const struct l4_connection *connection)
{
	const struct service_l4_route *found = l4_rule_find(service, connection);

	return found ? draw_target(found, connection->draw) : NULL;
}
