/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of `explain` share: where it finds its rules, what it answers. */
#ifndef SLUICE_EXPLAIN_H
#define SLUICE_EXPLAIN_H

#include "command/question.h"
#include "kernel/pins.h"
#include "policy/policy.h"
#include "redirect/http_route.h"

/* One thing of the answer, and the line that says it. */
struct note {
	unsigned int depth; /* below the note before that has one less */
	const char *what;   /* "timeout" */
	const char *text;
	const char *by;     /* "file:line Kind/name", or "" */
};

struct notes {
	struct arena *arena;
	struct note *items;
	size_t count, capacity;
};

void notes_add(struct notes *notes, unsigned int depth, const char *what, const char *by, const char *text, ...)
	__attribute__((format(printf, 5, 6)));
/* "file:line Kind/name", without an object "file:line". */
const char *place_of_line(struct arena *arena, struct position at, const struct object *object);

/* ---- sources ---- */

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
	/* Where clients find a service. */
	void (*addresses)(struct source *source, const struct named *named, struct notes *out);
	struct policy *policy; /* offline, else NULL */
	const struct config *config; /* the same */
	struct pins *pins;
};

/* `tables`: over policy_image_build(policy, stand_in_lookup, policy). */
void source_offline(struct source *out, struct policy *policy, const struct config *config, const struct tables *tables);
void source_live(struct source *out, struct pins *pins);

/*
 * Offline no name is resolved. Each gets an address of its own that nobody has (240.0.0.0/4 is reserved), so that the
 * image holds it wherever it would hold the real one. Index 0 is for names that the policy does not resolve.
 */
void stand_in(uint8_t out[16], size_t index);
const uint8_t (*stand_in_lookup(void *policy, const char *host, size_t *count))[16];

struct who {
	const char *namespace_; /* NULL: not given */
	const char *name;       /* of a Workload, or NULL */
	struct label_list labels;
	const char *process; /* PID or cgroup, or NULL */
};

/* On a live node: 0, -ENODATA if the process or cgroup is not governed, or -errno, which is printed. */
int find_workload(const struct pins *pins, const struct who *who, uint32_t *workload, char name[SLUICE_NAME_TEXT]);

/* ---- the answer ---- */

struct answer {
	struct arena *arena;
	const struct rule_set *rules;
	const char *dialled; /* what was given as the address to dial; NULL: nothing */
	struct place place;
	struct decision kernel;
	bool redirected;
	struct decision redirector;
	const char *shown; /* to the redirector */
	bool is_named, is_http; /* it is a name; of a request */
	struct named by_address, by_name;
	const char *bypass; /* what the policy says, if it is that */
	char workload[SLUICE_NAME_TEXT];
	bool offline;
	struct workload_identity who;   /* offline */
	struct settled by[SETTING_COUNT]; /* offline */
	const struct http_head *request; /* offline: what is asked for, to find the rule that takes it */
	struct notes addresses;
	struct notes route; /* at depth 0 the rule, below it what it does */
	struct notes lost;
};

bool answer_lets_through(const struct answer *answer);
/* Which of the two names what is served. */
const struct named *answer_service(const struct answer *answer);

/* explain_route.c: what the redirector does with it, offline. */
void explain_route(struct source *source, const struct question *question, struct answer *answer);
/* explain_print.c */
void print_text(const struct question *question, const struct answer *answer);
void print_json(const struct question *question, const struct answer *answer);

#endif
