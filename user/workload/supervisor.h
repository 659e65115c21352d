/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The loader's end of the redirector: starts it, takes over one that is running, restarts one that died, and tells it
 * everything it needs (redirect/protocol.h). A send or an answer is waited for, bounded; decisions and statistics
 * that arrive meanwhile are delivered.
 */
#ifndef SLUICE_SUPERVISOR_H
#define SLUICE_SUPERVISOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/loop.h"
#include "config/config.h"
#include "redirect/protocol.h"
#include "workload/supply.h"
#include "workload/workloads.h"

struct supervisor;

struct supervisor_events {
	void (*listener)(void *context, uint64_t netns, bool v6, int fd /* owned by the callee */);
	void (*decision)(void *context, const struct flow_event *event);
	void (*asked)(void *context, const struct ask_message *question, const char *host);
	/* A fresh redirector: send it names, workloads, the table in force, then the listeners. */
	void (*refill)(void *context);
	void *context;
};

struct supervisor_options {
	const char *socket_path;
	const char *root_namespace;
	const char *log_level;
	bool log_json;
	uint16_t redirector_port;
};

/* Takes over the running redirector (its listeners are delivered) or starts one. 0 or -errno, logged. */
int supervisor_new(struct supervisor **out, struct loop *loop, struct supply *supply,
		   const struct supervisor_options *options, const struct supervisor_events *events);
/* Leaves the redirector running. Accepts NULL. */
void supervisor_free(struct supervisor *supervisor);

/*
 * Sends a table, with its access log's descriptor (-1: it has none), and waits for the verdict on it. 0; -EINVAL: refused,
 * `why` says so; another -errno.
 */
int supervisor_send_table(struct supervisor *supervisor, uint64_t generation, const struct config_source *source, int log_fd,
			  char *why, size_t room);
void supervisor_send_workload(struct supervisor *supervisor, const struct workload *workload);
void supervisor_send_workload_gone(struct supervisor *supervisor, uint32_t workload);
void supervisor_send_netns(struct supervisor *supervisor, const struct workload_netns *netns);
void supervisor_send_netns_gone(struct supervisor *supervisor, const struct workload_netns *netns);
void supervisor_send_name(struct supervisor *supervisor, const char *host, const uint8_t (*addresses)[16], size_t count,
			  bool failed);
/* The same of a name that clients show: one that was asked for. */
void supervisor_send_asked_name(struct supervisor *supervisor, const char *host, const uint8_t (*addresses)[16], size_t count,
				enum name_failure failure);
void supervisor_send_asked_name_gone(struct supervisor *supervisor, const char *host);

/*
 * For how long the redirector has said nothing, or 0 when that is no reason to worry. To be asked every few seconds: one
 * that hangs for good is killed and replaced here.
 */
uint64_t supervisor_silence_ms(struct supervisor *supervisor);
uint32_t supervisor_pid(const struct supervisor *supervisor); /* 0: none runs */
void supervisor_statistics(const struct supervisor *supervisor, struct redirector_statistics *out); /* any thread */

/* Tells a running redirector to end, for `detach`. 0 or -errno. */
int supervisor_quit(const char *socket_path);

#endif
