/* SPDX-License-Identifier: Apache-2.0 */
/* The daemon (`sluice run`): what its files share. All of it runs on one loop, but for the admin page's callbacks. */
#ifndef SLUICE_RUN_H
#define SLUICE_RUN_H

#include <stdatomic.h>

#include "base/loop.h"
#include "command/health.h"
#include "command/paths.h"
#include "config/config.h"
#include "kernel/kernel.h"
#include "names/dynamic.h"
#include "names/names.h"
#include "observe/denials.h"
#include "policy/policy.h"
#include "workload/canary.h"
#include "workload/devices.h"
#include "workload/supervisor.h"
#include "workload/supply.h"
#include "workload/workloads.h"

#define MAX_RESOLVERS 16

/* One configuration, whole: as read, as parsed, as compiled. */
struct configuration {
	struct config_source source;
	struct config *config;
	struct policy *policy;
	bool has_log;
	int log_fd; /* of its access log, if it has one */
};

struct run_options {
	const char *config;
	const char *pin;
	const char *root_namespace;
	const char *unix_directory; /* NULL: none */
	const char *admin;      /* NULL: none */
	const char *log_level;
	bool log_json;
	uint16_t redirector_port;
	uint32_t without; /* bits of features of the kernel */
	bool backstop_xdp;
	const char **governed;
	size_t governed_count, governed_capacity;
};

struct daemon {
	const struct run_options *options;
	struct run_paths paths;
	struct loop *loop;
	struct kernel *kernel;
	struct supply *supply;
	struct supervisor *supervisor;
	struct workloads *workloads;
	struct devices *devices;
	struct names *names;
	struct dynamic_names *asked;
	struct denials *denials;
	struct health *health;
	struct loop_timer *flows;

	/* proof.c */
	struct canary *canary;
	struct loop_timer *proof;
	atomic_bool canary_asked; /* once at least; the admin page reads these two */
	atomic_uint hooks_mended;

	int lock_fd;
	int control_fd;
	int signal_fd;
	int admin_fd;   /* listens before anything is attached, until the admin page takes it; -1: none */
	int detach_fd;  /* the `detach` that waits for its answer, or -1 */
	bool detached; /* by an operator: idle until restarted */
	bool attached; /* the hooks are in place, or were tried */
	bool filled;   /* the redirector has a table, so it may have listeners */
	int error;     /* why the loop was stopped, or 0 */

	/* apply.c */
	struct configuration live;    /* policy NULL: none yet */
	struct configuration pending; /* waits for the first answers about its names */
	struct string_list wanted;    /* names of both, while one is pending */
	uint64_t signature;           /* of the folder as last judged */
	struct string_list credentials; /* PEM files that the folder named then; owned */
	uint64_t credentials_signature;
	uint64_t unstable;            /* a signature seen once: judged when it stays */
	char refused[SLUICE_ERROR_TEXT]; /* why the configuration in the folder is not in force, or empty */
	struct loop_timer *watch;
	struct loop_timer *settle;
	struct loop_timer *refresh;   /* names or workloads changed: bring the kernel up to date */
	struct loop_timer *tighten;   /* workloads changed: judge their open sockets */
	struct loop_timer *drained;   /* the time of some that drain is up: the same */
	struct loop_timer *retry;     /* a configuration failed for a reason that is not its own */
	uint64_t retry_ms;            /* how long after */
	char outdated[SLUICE_ERROR_TEXT]; /* why the kernel's tables lack names or workloads, or empty */
	bool unsaved;                 /* the generation in force could not be saved */
	uint64_t pending_since_ms;
	uint64_t refresh_ms;          /* how long the last update of the kernel took */
	char **changed_names;
	size_t changed_count, changed_capacity;
	char **changed_asked;
	size_t changed_asked_count, changed_asked_capacity;
};

/* apply.c: from the policy folder to the generation in force. */
int apply_start(struct daemon *daemon); /* the first configuration, or what an earlier daemon left; never fails to start */
void apply_stop(struct daemon *daemon);
void apply_names_changed(struct daemon *daemon, const char *host);
void apply_asked_changed(struct daemon *daemon, const char *host); /* NULL: one is gone */
void apply_workloads_changed(struct daemon *daemon);
void apply_refill(struct daemon *daemon); /* tells a fresh redirector everything */
void apply_reload(struct daemon *daemon); /* SIGHUP: look at the folder now */
void apply_save_again(struct daemon *daemon); /* what could not be saved */

/* asked.c: names that clients show. */
int asked_start(struct daemon *daemon);
void asked_question(struct daemon *daemon, const struct ask_message *question, const char *host);
void asked_send(struct daemon *daemon, const char *host);
void asked_send_all(struct daemon *daemon); /* to a fresh redirector */
void asked_retain(struct daemon *daemon);   /* what no policy covers any more is forgotten */
/* From the kernel's tables, which an earlier loader filled. */
void asked_adopt(struct daemon *daemon, const struct policy *policy, const struct service_key *where, const struct service_value *service);

/* proof.c: whether what must be refused is. */
void proof_start(struct daemon *daemon);
void proof_look(struct daemon *daemon); /* when the hooks are attached; again by itself every few seconds */
void proof_stop(struct daemon *daemon);

/* control.c: exec, status and detach. */
int control_open(struct daemon *daemon);
void control_close(struct daemon *daemon);
void control_answer_detach(struct daemon *daemon);

#endif
