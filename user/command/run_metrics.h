/* SPDX-License-Identifier: Apache-2.0 */
/* The daemon's side of the admin page. Its callbacks run on the admin thread and read the kernel's maps. */
#ifndef SLUICE_RUN_METRICS_H
#define SLUICE_RUN_METRICS_H

#include <pthread.h>

#include "command/run.h"
#include "observe/admin.h"

struct run_metrics {
	pthread_mutex_t lock; /* of `daemon`, which is taken away before its parts are freed */
	const struct daemon *daemon;
	bool detached;
};

int run_metrics_start(struct admin **out, struct run_metrics *metrics, const struct daemon *daemon);
/* From now on the page says "not ready". Before the daemon lets go of its parts. */
void run_metrics_stop(struct run_metrics *metrics, bool detached);

#endif
