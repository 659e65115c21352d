// SPDX-License-Identifier: Apache-2.0
#include "policy/tables.h"

#include <string.h>

#include "policy/policy.h"

static const struct image_tables *of(const struct tables *t)
{
	return (const struct image_tables *)(const void *)t;
}

static const struct image *image_of(const struct tables *t)
{
	return of(t)->image;
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

static void cut(uint8_t out[16], const uint8_t addr[16], unsigned int bits)
{
	memset(out, 0, 16);
	memcpy(out, addr, bits / 8);
	if (bits % 8)
		out[bits / 8] = (uint8_t)(addr[bits / 8] & 0xff << (8 - bits % 8));
}

static const struct cidr_value *longest_cidr(const struct prefix_lengths *lengths, const struct cidr_item *items, size_t count,
					     const struct cidr_key *key)
{
	const struct cidr_item *found = NULL;
	struct cidr_key probe = *key;

	for (size_t i = 0; !found && i < lengths->count; i++) {
		probe.prefixlen = CIDR_KEY_FIXED_BITS + lengths->bits[i];
		cut(probe.addr, key->addr, lengths->bits[i]);
		found = find_cidr(items, count, &probe);
	}
	return found ? &found->value : NULL;
}

static const struct cidr_value *image_intercept(const struct tables *t, const struct cidr_key *key)
{
	return longest_cidr(&of(t)->intercept, image_of(t)->intercept, image_of(t)->intercept_count, key);
}

static const struct cidr_value *image_bypass(const struct tables *t, const struct cidr_key *key)
{
	return longest_cidr(&of(t)->bypass, image_of(t)->bypass, image_of(t)->bypass_count, key);
}

static const struct service_value *image_service(const struct tables *t, const struct service_key *key)
{
	const struct prefix_lengths *lengths = &of(t)->services;
	const struct image *image = image_of(t);
	const struct service_item *found = NULL;
	struct service_key probe = *key;

	for (size_t i = 0; !found && i < lengths->count; i++) {
		probe.prefixlen = SERVICE_KEY_FIXED_BITS + lengths->bits[i];
		cut(probe.addr, key->addr, lengths->bits[i]);
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

static void list_lengths(struct prefix_lengths *out, const bool present[129])
{
	out->count = 0;
	for (unsigned int bits = 129; bits-- > 0;)
		if (present[bits])
			out->bits[out->count++] = (uint8_t)bits;
}

static void cidr_lengths(struct prefix_lengths *out, const struct cidr_item *items, size_t count)
{
	bool present[129] = {false};

	for (size_t i = 0; i < count; i++)
		present[items[i].key.prefixlen - CIDR_KEY_FIXED_BITS] = true;
	list_lengths(out, present);
}

static void service_lengths(struct prefix_lengths *out, const struct service_item *items, size_t count)
{
	bool present[129] = {false};

	for (size_t i = 0; i < count; i++)
		present[items[i].key.prefixlen - SERVICE_KEY_FIXED_BITS] = true;
	list_lengths(out, present);
}

void image_tables_init(struct image_tables *out, const struct image *image)
{
	out->tables = (struct tables){image_rule_set, image_intercept, image_bypass, image_service, image_port};
	out->image = image;
	cidr_lengths(&out->intercept, image->intercept, image->intercept_count);
	cidr_lengths(&out->bypass, image->bypass, image->bypass_count);
	service_lengths(&out->services, image->services, image->service_count);
}
