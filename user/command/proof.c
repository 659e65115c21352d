// SPDX-License-Identifier: Apache-2.0
/* Whether what must be refused is: every few seconds each hook's place is looked at, and the canary is asked. */
#include <stdio.h>

#include "command/health.h"
#include "command/run.h"
#include "workload/cgroup.h"

#define PERIOD_MS 3000

/* A governed cgroup that is as deep as can be found: what is attached anywhere on the way runs there too. */
static void choose_cgroup(const struct daemon *daemon, const char *mount, char out[PATH_MAX])
{
	const struct run_options *options = daemon->options;
	char path[PATH_MAX];

	for (size_t i = 0; i < options->governed_count; i++)
		if (snprintf(path, sizeof(path), "%s%s", mount, options->governed[i]) < PATH_MAX && !cgroup_leaf_of(path, out))
			return;
	snprintf(out, PATH_MAX, "%s", mount);
}

static int examine(struct daemon *daemon, char *why, size_t room)
{
	char mount[PATH_MAX], cgroup[PATH_MAX];
	int mended = cgroup_mount_point(mount);

	if (mended) {
		snprintf(why, room, "cgroup v2: no hierarchy is mounted");
		return mended;
	}
	choose_cgroup(daemon, mount, cgroup);
	mended = kernel_mend(daemon->kernel, cgroup, why, room);
	if (mended < 0)
		return mended;
	atomic_fetch_add(&daemon->hooks_mended, (unsigned int)mended);
	return canary_check(daemon->canary, why, room);
}

void proof_look(struct daemon *daemon)
{
	char why[SLUICE_ERROR_TEXT] = "";

	health_set(daemon->health, TROUBLE_CANARY, examine(daemon, why, sizeof(why)) ? why : NULL);
	atomic_store(&daemon->canary_asked, true);
	loop_timer_arm(daemon->proof, PERIOD_MS);
}

static void on_proof(void *context)
{
	proof_look(context);
}

void proof_start(struct daemon *daemon)
{
	daemon->canary = canary_new(daemon->kernel, daemon->options->redirector_port);
	daemon->proof = loop_timer_new(daemon->loop, on_proof, daemon);
}

void proof_stop(struct daemon *daemon)
{
	loop_timer_free(daemon->proof);
	daemon->proof = NULL;
	canary_free(daemon->canary);
	daemon->canary = NULL;
}
