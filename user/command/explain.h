/* SPDX-License-Identifier: Apache-2.0 */
/* Where `explain` finds its rules: the compiled policy of a folder, or the pinned maps of this node. */
#ifndef SLUICE_EXPLAIN_H
#define SLUICE_EXPLAIN_H

#include "command/question.h"
#include "kernel/pins.h"
#include "policy/policy.h"

/* A service as both sources can tell of it. */
struct named {
	uint32_t id;
	uint32_t flags;
	char host[SLUICE_HOST_MAX];
	char origin[SLUICE_ORIGIN_TEXT];
	const struct service *service; /* offline only: routes and faults */
};

/* Where the host is. */
struct place {
	uint8_t addr[16];
	uint8_t bits; /* 128, or of the prefix that `addr` stands for */
	bool known;   /* false: `addr` stands for the one that a client would find */
};

/* Where the rules come from. */
struct source {
	const struct tables *tables;
	bool (*describe)(struct source *source, uint32_t id, struct named *out);
	bool (*find)(struct source *source, uint32_t registry, const struct question *question, bool http, struct named *out);
	/* An address that clients may dial the host at; false if none is known. */
	bool (*place)(struct source *source, const struct question *question, struct place *out);
	struct policy *policy; /* offline, else NULL */
	struct pins *pins;
};

/* `tables`: over policy_image_build(policy, stand_in_lookup, policy). */
void source_offline(struct source *out, struct policy *policy, const struct tables *tables);
void source_live(struct source *out, struct pins *pins);

/*
 * Offline no name is resolved. Each gets an address of its own that nobody has (240.0.0.0/4 is reserved), so that the
 * image holds it wherever it would hold the real one. Index 0 is for names that the policy does not resolve.
 */
void stand_in(uint8_t out[16], size_t index);
const uint8_t (*stand_in_lookup(void *policy, const char *host, size_t *count))[16];

struct who {
	const char *namespace_;
	struct label_list labels;
	const char *process; /* PID or cgroup, or NULL */
};

/* On a live node: 0, -ENODATA if the process or cgroup is not governed, or -errno, which is printed. */
int find_workload(const struct pins *pins, const struct who *who, uint32_t *workload, char name[SLUICE_NAME_TEXT]);

#endif
