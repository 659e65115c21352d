// SPDX-License-Identifier: Apache-2.0
#include "policy/tables.h"

#include <string.h>

#include "policy/policy.h"

static const struct image *image_of(const struct tables *t)
{
	return ((const struct image_tables *)(const void *)t)->image;
}

#define EXACT(name_, item_, key_type_)     \
	static int compare_##name_(const void *key, const void *item)                                      \
	{                                                                                                  \
		return memcmp(key, &((const struct item_ *)item)->key, sizeof(key_type_));                 \
	}                                                                                                  \
	static const struct item_ *find_##name_(const struct item_ *items, size_t count, const key_type_ *key) \
	{                                                                                                  \
		return count ? bsearch(key, items, count, sizeof(*items), compare_##name_) : NULL;         \
	}
EXACT(cidr, cidr_item, struct cidr_key)
EXACT(service, service_item, struct service_key)
EXACT(port, port_item, struct port_key)
EXACT(rule_set, rule_set_item, uint32_t)

/* Clears the last bit that is still in the prefix: from the longest prefix to the shortest. */
static void shorten(uint8_t addr[16], unsigned int bits)
{
	addr[bits / 8] &= (uint8_t)~(0x80 >> bits % 8);
}

static const struct cidr_value *longest_cidr(const struct cidr_item *items, size_t count, const struct cidr_key *key)
{
	struct cidr_key probe = *key;
	const struct cidr_item *found = find_cidr(items, count, &probe);

	while (!found && probe.prefixlen > CIDR_KEY_FIXED_BITS) {
		probe.prefixlen--;
		shorten(probe.addr, probe.prefixlen - CIDR_KEY_FIXED_BITS);
		found = find_cidr(items, count, &probe);
	}
	return found ? &found->value : NULL;
}

static const struct cidr_value *image_intercept(const struct tables *t, const struct cidr_key *key)
{
	return longest_cidr(image_of(t)->intercept, image_of(t)->intercept_count, key);
}

static const struct cidr_value *image_bypass(const struct tables *t, const struct cidr_key *key)
{
	return longest_cidr(image_of(t)->bypass, image_of(t)->bypass_count, key);
}

static const struct service_value *image_service(const struct tables *t, const struct service_key *key)
{
	const struct image *image = image_of(t);
	struct service_key probe = *key;
	const struct service_item *found = find_service(image->services, image->service_count, &probe);

	while (!found && probe.prefixlen > SERVICE_KEY_FIXED_BITS) {
		probe.prefixlen--;
		shorten(probe.addr, probe.prefixlen - SERVICE_KEY_FIXED_BITS);
		found = find_service(image->services, image->service_count, &probe);
	}
	return found ? &found->value : NULL;
}

static const struct port_value *image_port(const struct tables *t, const struct port_key *key)
{
	const struct port_item *found = find_port(image_of(t)->ports, image_of(t)->port_count, key);

	return found ? &found->value : NULL;
}

static const struct rule_set *image_rule_set(const struct tables *t, uint32_t id)
{
	const struct rule_set_item *found = find_rule_set(image_of(t)->rule_sets, image_of(t)->rule_set_count, &id);

	return found ? &found->value : NULL;
}

void image_tables_init(struct image_tables *out, const struct image *image)
{
	out->tables = (struct tables){image_rule_set, image_intercept, image_bypass, image_service, image_port};
	out->image = image;
}
