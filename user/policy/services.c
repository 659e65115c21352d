// SPDX-License-Identifier: Apache-2.0
/* ServiceEntries become services: one for each host and port that a registry has. */
#include <openssl/sha.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "policy/internal.h"

bool policy_is_http(enum port_protocol protocol)
{
	return protocol <= PROTOCOL_HTTP_PROXY || protocol == PROTOCOL_UNSET;
}

bool policy_is_tls(enum port_protocol protocol)
{
	return protocol == PROTOCOL_HTTPS || protocol == PROTOCOL_TLS;
}

bool policy_is_wildcard(const char *host)
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

void socket_identity(uint8_t out[16], const char *path)
{
	uint8_t digest[SHA256_DIGEST_LENGTH];

	SHA256((const unsigned char *)path, strlen(path), digest);
	memcpy(out, digest, 16);
	out[0] |= 0x80; /* no mapped IPv4 address */
}

const char *service_socket(const struct service *service, const uint8_t identity[16])
{
	for (size_t i = 0; i < service->target_count; i++)
		if (service->targets[i].socket && !memcmp(service->targets[i].addr, identity, 16))
			return service->targets[i].socket;
	return NULL;
}

static struct upstream_target target_of(const struct endpoint *endpoint, const struct service_port *port)
{
	struct upstream_target target = {.weight = endpoint->weight, .labels = &endpoint->labels, .socket = endpoint->socket};

	if (endpoint->socket) {
		socket_identity(target.addr, endpoint->socket);
		return target;
	}
	target.host = endpoint->is_ip ? NULL : endpoint->address;
	target.port = port_of_endpoint(endpoint, port);
	memcpy(target.addr, endpoint->ip, 16);
	return target;
}

static void set_targets(struct policy *policy, struct service *service, const struct service_entry *entry,
			const struct service_port *port)
{
	struct upstream_target *targets;

	service->target_port = port->target_port ? port->target_port : port->number;
	if (entry->resolution == RESOLUTION_NONE)
		return;
	if (!entry->endpoint_count) {
		if (!service_is_dynamic(service) &&
		    (entry->resolution == RESOLUTION_STATIC || service->wildcard || entry->has_selector))
			return;
		targets = arena_alloc(policy->arena, 1, sizeof(*targets));
		targets[0] = (struct upstream_target){.host = service->host, .port = service->target_port, .weight = 1};
		service->targets = targets;
		service->target_count = 1;
		return;
	}
	targets = arena_alloc(policy->arena, entry->endpoint_count, sizeof(*targets));
	service->targets = targets;
	for (size_t i = 0; i < entry->endpoint_count; i++)
		if (!entry->endpoints[i].socket || port->protocol != PROTOCOL_UDP)
			targets[service->target_count++] = target_of(&entry->endpoints[i], port);
}

static bool has_socket(const struct service *service)
{
	for (size_t i = 0; i < service->target_count; i++)
		if (service->targets[i].socket)
			return true;
	return false;
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

	if (service->protocol == PROTOCOL_UNSET)
		flags |= SERVICE_TCP | SERVICE_DETECTED;
	if (service->wildcard)
		flags |= SERVICE_WILDCARD;
	if (entry->resolution == RESOLUTION_NONE)
		flags |= SERVICE_NONE;
	if (service_is_dynamic(service)) /* in no mode and by no check of names does it stay in the kernel */
		flags |= SERVICE_DYNAMIC | SERVICE_ROUTED;
	if (has_socket(service)) /* the same: the kernel cannot lead a connection there */
		flags |= SERVICE_UNIX | SERVICE_ROUTED;
	if (service->protocol != PROTOCOL_UDP && rewrites(service, entry))
		flags |= SERVICE_REWRITES;
	return flags;
}

/* ---- services ---- */

bool policy_opens_http(const struct service *service)
{
	return service->flags & SERVICE_HTTP && !(service->flags & SERVICE_DETECTED && service->address_count);
}

const char *policy_origin_of(struct policy *policy, const struct object *object)
{
	return arena_printf(policy->arena, "%s:%u %s/%s", object->at.file, object->at.line, object->kind, object->name);
}

struct service *policy_append_service(struct policy *policy, uint32_t registry)
{
	struct service *service =
		arena_append(policy->arena, policy->services, policy->service_count, policy->service_capacity);

	*service = (struct service){.id = (uint32_t)policy->service_count, .registry = registry};
	return service;
}

static void add_service(struct policy *policy, uint32_t registry, const struct offer *offer)
{
	struct service *service = policy_append_service(policy, registry);
	const struct service_entry *entry = offer->entry;
	const struct service_host *host = offer->host;
	const struct service_port *port = offer->port;

	service->host = host->name;
	service->wildcard = policy_is_wildcard(host->name);
	service->port = port->number;
	service->protocol = port->protocol;
	service->resolution = entry->resolution;
	service->addresses = entry->addresses.items;
	service->address_count = entry->addresses.count;
	service->origin = service > policy->services && service[-1].entry == entry ? service[-1].origin
										    : policy_origin_of(policy, &entry->object);
	service->entry = entry;
	service->one_address = entry->resolution == RESOLUTION_DNS_ROUND_ROBIN;
	set_targets(policy, service, entry, port);
	service->flags = flags_of(service, entry);
}

void policy_add_services(struct policy *policy)
{
	for (size_t r = 0; r < policy->registry_count; r++) {
		struct registry *registry = &policy->registries[r];

		registry->first_service = policy->service_count;
		for (size_t i = 0; i < registry->offer_count; i++)
			add_service(policy, (uint32_t)r + 1, &registry->offers[i]);
	}
}
