/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Small worlds by chance: a configuration, what its names resolve to, and flows through it. Few hosts, addresses and ports,
 * so that everything meets everything.
 */
#ifndef SLUICE_RANDOM_POLICY_H
#define SLUICE_RANDOM_POLICY_H

#include "config/config.h"
#include "policy/tables.h"

#define RANDOM_REDIRECTOR 15001
#define RANDOM_RESOLVER "198.51.100.53" /* of sluice's own resolv.conf */

/* Where the choices come from: a generator, or a fuzzer's bytes. `below` is at most 256. */
struct random_source {
	unsigned int (*draw)(void *context, unsigned int below);
	void *context;
};

/* Fills an empty configuration as the reader does from documents without mistakes. */
void random_config(struct config *out, const struct random_source *source);
/* Documents that are read as that configuration. Free it. */
char *random_config_text(const struct config *config);

/* A names_lookup. */
const uint8_t (*random_addresses(void *context, const char *host, size_t *count))[16];

void random_flow(struct flow *out, const struct random_source *source);

#endif
