/* SPDX-License-Identifier: Apache-2.0 */
/* The admin page: /metrics (Prometheus text), /healthz, /readyz. libmicrohttpd, on a thread of its own. */
#ifndef SLUICE_ADMIN_H
#define SLUICE_ADMIN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

/* All are called on the admin thread. */
struct admin_callbacks {
	void (*metrics)(void *context, FILE *out);
	bool (*ready)(void *context, char *why, size_t room); /* `why`: one line, also when ready */
	void *context;
};

struct admin;

/*
 * A descriptor that listens at `address` ("127.0.0.1:15020", "[::1]:15020"), or -errno, logged. For up to `wait_ms` it waits for
 * who is there already: it may be a killed daemon that the kernel has not taken down yet.
 */
int admin_listen(const char *address, unsigned int wait_ms);
/* Serves there; takes `fd`, also when it fails. 0 or -errno, logged. */
int admin_start(struct admin **out, int fd, const struct admin_callbacks *callbacks);
void admin_stop(struct admin *admin); /* accepts NULL */

/* Prometheus text: the family once, then its samples; labels are key, value, ..., LABELS_END. Values are escaped. */
#define LABELS_END ((const char *)NULL)
void metrics_family(FILE *out, const char *name, const char *type, const char *help);
void metrics_sample(FILE *out, const char *name, double value, ...) __attribute__((sentinel));

#endif
