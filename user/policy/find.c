// SPDX-License-Identifier: Apache-2.0
/* Finding a service by the name a client showed: exact, else the longest wildcard. No allocation, any thread. */
#include <string.h>
#include <strings.h>

#include "policy/internal.h"

static uint64_t hash_of(uint32_t registry, const char *host, size_t length, uint16_t port, bool http)
{
	uint64_t hash = 0xcbf29ce484222325ULL ^ port ^ ((uint64_t)http << 16) ^ ((uint64_t)registry << 32); /* FNV-1a */

	for (size_t i = 0; i < length; i++)
		hash = (hash ^ (unsigned char)host[i]) * 0x100000001b3ULL;
	return hash ^ hash >> 29;
}

static const struct alias *slot_of(const struct policy *policy, uint32_t registry, const char *host, size_t length, uint16_t port,
				   bool http)
{
	size_t mask = policy->alias_slots - 1;

	for (size_t i = hash_of(registry, host, length, port, http) & mask;; i = (i + 1) & mask) {
		const struct alias *alias = &policy->aliases[i];

		if (!alias->service || (alias->registry == registry && alias->port == port && alias->http == http &&
					!strncmp(alias->host, host, length) && !alias->host[length]))
			return alias;
	}
}

static void add_alias(struct policy *policy, const char *host, const struct service *service, bool http)
{
	struct alias *alias = (struct alias *)slot_of(policy, service->registry, host, strlen(host), service->port, http);

	if (!alias->service)
		*alias = (struct alias){host, service->registry, service->id, service->port, http};
}

/* The literals of single addresses are names too: `http://203.0.113.10/` has them as its Host (ISTIO.md §1.4). */
static void add_literals(struct policy *policy, const struct service *service)
{
	for (size_t i = 0; i < service->address_count; i++) {
		char text[SLUICE_PREFIX_TEXT];

		if (service->addresses[i].bits == 128)
			add_alias(policy, arena_strdup(policy->arena, format_address(text, service->addresses[i].addr)), service, true);
	}
}

void policy_index(struct policy *policy)
{
	size_t wanted = 16;

	for (size_t i = 0; i < policy->service_count; i++)
		wanted += 2 * (3 + policy->services[i].address_count);
	for (policy->alias_slots = 16; policy->alias_slots < wanted; policy->alias_slots *= 2)
		;
	policy->aliases = arena_alloc(policy->arena, policy->alias_slots, sizeof(*policy->aliases));
	for (size_t i = 0; i < policy->service_count; i++) {
		const struct service *service = &policy->services[i];

		policy->has_partial |= service->wildcard && service->host[1] != '.';
		if (service->subset || (!policy_is_http(service->protocol) && !policy_is_tls(service->protocol)))
			continue;
		add_alias(policy, service->host, service, policy_is_http(service->protocol));
		if (service->protocol == PROTOCOL_UNSET && policy_opens_http(service)) /* what clients speak there, TLS as well, tells */
			add_alias(policy, service->host, service, false);
		if (policy_opens_http(service))
			add_alias(policy, "", service, true);
		if (policy_is_http(service->protocol))
			add_literals(policy, service);
	}
}

uint32_t policy_port_flags(const struct policy *policy, uint32_t registry, uint16_t port)
{
	return slot_of(policy, registry, "", 0, port, true)->service ? PORT_HTTP : 0; /* no name is empty: the port's own slot */
}

/* From the left, so that the longest wildcard is found first: a.b.x, then *.b.x, then *.x; partial ones in between. */
static const struct service *find(const struct policy *policy, uint32_t registry, const char *host, size_t length, uint16_t port,
				  bool http, const struct service *after)
{
	char name[SLUICE_HOST_MAX];

	if (length && host[length - 1] == '.')
		length--;
	if (!length || length >= sizeof(name))
		return NULL;
	for (size_t i = 0; i < length; i++) {
		if (!host[i])
			return NULL; /* the names compared with end there */
		name[i] = (char)(host[i] >= 'A' && host[i] <= 'Z' ? host[i] | 0x20 : host[i]);
	}
	for (size_t dot = 0; dot < length; dot++) {
		size_t from = dot ? dot - 1 : 0;
		const struct service *found;

		if (dot && name[dot] != '.' && !policy->has_partial)
			continue;
		if (dot)
			name[from] = '*';
		found = policy_service(policy, slot_of(policy, registry, name + from, length - from, port, http)->service);
		if (found && !after)
			return found;
		if (found == after)
			after = NULL;
	}
	return NULL;
}

const struct service *policy_find(const struct policy *policy, uint32_t registry, const char *host, size_t length,
				  uint16_t port, bool http)
{
	return find(policy, registry, host, length, port, http, NULL);
}

const struct service *policy_find_after(const struct policy *policy, uint32_t registry, const char *host, size_t length,
					uint16_t port, bool http, const struct service *service)
{
	return find(policy, registry, host, length, port, http, service);
}
