// SPDX-License-Identifier: Apache-2.0
/* VirtualService tls[] and tcp[]: fields and rules of ISTIO.md §1.6, §3.4. */
#include <stddef.h>
#include <string.h>

#include "config/reader.h"
#include "config/walk.h"

#define MAX_ROUTES 4096
#define MAX_MATCHES 4096
#define MAX_ITEMS 256

static void read_subnets(struct walk *walk, const struct node *node, void *out)
{
	walk_list(walk, node, MAX_ITEMS, read_cidr_item, out);
}

/* Istio ignores it. */
static void read_source_subnet(struct walk *walk, const struct node *node, void *out)
{
	const char *text;

	(void)out;
	if (walk_text(walk, node, &text))
		walk_warning(walk, node, "has no effect, as in Istio");
}

static void read_match_gateways(struct walk *walk, const struct node *node, void *out)
{
	*(bool *)out = !read_gateway_list(walk, node);
}

static void read_sni_host(struct walk *walk, const struct node *node, void *out)
{
	struct string_list *hosts = out;
	const char *name;
	uint8_t unused[16];

	if (node->type == NODE_SCALAR && !parse_address(unused, node->text)) {
		walk_warning(walk, node, "%s is an address: no client shows one as a name", node_shown(walk, node));
		return;
	}
	/* A generated name is one of spec.hosts, or refused below. */
	if (read_host(walk, node, HOST_OF_GATEWAY, &name))
		*arena_append(walk->config->arena, hosts->items, hosts->count, hosts->capacity) = name;
}

static void read_sni_hosts(struct walk *walk, const struct node *node, void *out)
{
	if (node->type == NODE_SEQUENCE && !node->count)
		walk_error(walk, node, "must name at least one host");
	walk_list(walk, node, MAX_ITEMS, read_sni_host, out);
}

#define COMMON_FIELDS                                                                                               \
	{"destinationSubnets", read_subnets, offsetof(struct l4_match, subnets), FIELD_OPTIONAL},                   \
	{"port", read_port_or_none, offsetof(struct l4_match, port), FIELD_OPTIONAL},                               \
	{"sourceLabels", walk_labels, offsetof(struct l4_match, source_labels), FIELD_OPTIONAL},                    \
	{"sourceNamespace", read_label_or_none, offsetof(struct l4_match, source_namespace), FIELD_OPTIONAL},       \
	{"gateways", read_match_gateways, offsetof(struct l4_match, never), FIELD_OPTIONAL}

static void add_match(struct walk *walk, struct l4_route *route, const struct l4_match *match)
{
	*arena_append(walk->config->arena, route->matches, route->match_count, route->match_capacity) = *match;
}

static void read_tcp_match(struct walk *walk, const struct node *node, void *out)
{
	static const struct field fields[] = {COMMON_FIELDS, {"sourceSubnet", read_source_subnet, 0, FIELD_OPTIONAL}};
	struct l4_match match = {.at = walk_position(walk, node)};

	if (walk_mapping(walk, node, fields, ARRAY_SIZE(fields), &match))
		add_match(walk, out, &match);
}

static void read_tls_match(struct walk *walk, const struct node *node, void *out)
{
	static const struct field fields[] = {
		COMMON_FIELDS, {"sniHosts", read_sni_hosts, offsetof(struct l4_match, sni_hosts), FIELD_REQUIRED}};
	struct l4_match match = {.at = walk_position(walk, node)};

	if (!walk_mapping(walk, node, fields, ARRAY_SIZE(fields), &match))
		return;
	match.never |= !match.sni_hosts.count; /* they are addresses all */
	add_match(walk, out, &match);
}

static void read_tcp_matches(struct walk *walk, const struct node *node, void *out)
{
	walk_list(walk, node, MAX_MATCHES, read_tcp_match, out);
}

static void read_tls_matches(struct walk *walk, const struct node *node, void *out)
{
	if (node->type == NODE_SEQUENCE && !node->count)
		walk_error(walk, node, "must have at least one match, with sniHosts");
	walk_list(walk, node, MAX_MATCHES, read_tls_match, out);
}

static void read_l4_destination(struct walk *walk, const struct node *node, void *out)
{
	struct l4_route *route = out;
	struct route_destination destination;

	if (read_weighted_destination(walk, node, false, &destination))
		*arena_append(walk->config->arena, route->destinations, route->destination_count, route->destination_capacity) =
			destination;
}

static void read_l4_destinations(struct walk *walk, const struct node *node, void *out)
{
	struct l4_route *route = out;

	if (node->type == NODE_SEQUENCE && !node->count)
		walk_error(walk, node, "must have a destination");
	walk_list(walk, node, MAX_ITEMS, read_l4_destination, route);
	check_weights(walk, node, route->destinations, route->destination_count);
}

static bool read_route(struct walk *walk, const struct node *node, read_fn read_matches, enum field_rule matches_rule, struct l4_route *out)
{
	const struct field fields[] = {
		{"match", read_matches, 0, matches_rule},
		{"route", read_l4_destinations, 0, FIELD_REQUIRED},
	};

	*out = (struct l4_route){.at = walk_position(walk, node)};
	return walk_mapping(walk, node, fields, ARRAY_SIZE(fields), out);
}

static void read_tcp_route(struct walk *walk, const struct node *node, void *out)
{
	struct virtual_service *service = out;
	struct l4_route route;

	if (read_route(walk, node, read_tcp_matches, FIELD_OPTIONAL, &route))
		*arena_append(walk->config->arena, service->tcp, service->tcp_count, service->tcp_capacity) = route;
}

/* A name that no host of the VirtualService covers is somebody else's. */
static void check_sni_hosts(struct walk *walk, const struct node *node, const struct virtual_service *service, const struct l4_match *match)
{
	for (size_t i = 0; i < match->sni_hosts.count; i++) {
		bool found = false;

		for (size_t h = 0; h < service->host_count && !found; h++)
			found = host_covers(service->hosts[h].name, match->sni_hosts.items[i]);
		if (!found)
			walk_error(walk, node, "\"%.64s\" of sniHosts is not within spec.hosts", match->sni_hosts.items[i]);
	}
}

static void read_tls_route(struct walk *walk, const struct node *node, void *out)
{
	struct virtual_service *service = out;
	struct l4_route route;

	if (!read_route(walk, node, read_tls_matches, FIELD_REQUIRED, &route))
		return;
	for (size_t i = 0; i < route.match_count; i++)
		check_sni_hosts(walk, node, service, &route.matches[i]);
	*arena_append(walk->config->arena, service->tls, service->tls_count, service->tls_capacity) = route;
}

void read_tcp_routes(struct walk *walk, const struct node *node, void *out)
{
	walk_list(walk, node, MAX_ROUTES, read_tcp_route, out);
}

void read_tls_routes(struct walk *walk, const struct node *node, void *out)
{
	walk_list(walk, node, MAX_ROUTES, read_tls_route, out);
}
