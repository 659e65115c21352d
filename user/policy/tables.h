/* SPDX-License-Identifier: Apache-2.0 */
/* The tables of include/verdict.h in user space: over a map image, or over the pinned maps of a live node. */
#ifndef SLUICE_TABLES_H
#define SLUICE_TABLES_H

#include <stdint.h>

#include "abi.h"

struct tables {
	const struct rule_set *(*rule_set)(const struct tables *t, uint32_t id);
	const struct cidr_value *(*intercept)(const struct tables *t, const struct cidr_key *key);
	const struct cidr_value *(*bypass)(const struct tables *t, const struct cidr_key *key);
	const struct service_value *(*service)(const struct tables *t, const struct service_key *key);
	const struct port_value *(*port)(const struct tables *t, const struct port_key *key);
};

static inline const struct rule_set *lookup_rule_set(const struct tables *t, uint32_t id)
{
	return t->rule_set(t, id);
}

static inline const struct cidr_value *lookup_intercept(const struct tables *t, const struct cidr_key *key)
{
	return t->intercept(t, key);
}

static inline const struct cidr_value *lookup_bypass(const struct tables *t, const struct cidr_key *key)
{
	return t->bypass(t, key);
}

static inline const struct service_value *lookup_service(const struct tables *t, const struct service_key *key)
{
	return t->service(t, key);
}

static inline const struct port_value *lookup_port(const struct tables *t, const struct port_key *key)
{
	return t->port(t, key);
}

#include "verdict.h"

struct image;

/* The prefix lengths that occur in a map, longest first. */
struct prefix_lengths {
	uint8_t bits[129];
	uint8_t count;
};

/* Tables over an image (borrowed). Longest prefix by binary search per prefix length present. */
struct image_tables {
	struct tables tables; /* first */
	const struct image *image;
	struct prefix_lengths intercept, bypass, services;
};
void image_tables_init(struct image_tables *out, const struct image *image);

#endif
