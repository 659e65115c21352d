// SPDX-License-Identifier: Apache-2.0
#include "command/privileges.h"

#include <cap-ng.h>
#include <errno.h>
#include <linux/capability.h>
#include <stdbool.h>
#include <string.h>
#include <sys/prctl.h>

#include "base/log.h"
#include "base/memory.h"

static const struct {
	unsigned int capability;
	bool redirector; /* it needs it too, for an instant: to give it up */
	const char *purpose;
} kept[] = {
	{CAP_BPF, false, "loading programs; making, reading and writing maps"},
	{CAP_PERFMON, false, "bpf_get_current_comm() in socket programs"},
	{CAP_NET_ADMIN, false, "loading and attaching socket and packet programs; the canary's addresses"},
	/* Also for the xattr that `exec` leaves, programs by id, mounting bpffs, and making the canary's namespace. */
	{CAP_SYS_ADMIN, false, "setns() into the network namespaces of workloads"},
	{CAP_SYS_PTRACE, false, "opening /proc/PID/ns/net of other users' processes"},
	{CAP_KILL, false, "ending a redirector that hangs: it is nobody's process"},
	{CAP_SETUID, true, "the redirector becomes nobody, who also dials Unix sockets"},
	{CAP_SETGID, true, "the redirector leaves root's groups"},
	{CAP_SETPCAP, true, "emptying the bounding set"},
};

/* In the bounding set stays what the redirector begins with. */
static void shrink_bounding_set(void)
{
	bool needed[CAP_LAST_CAP + 1] = {false};

	for (size_t i = 0; i < ARRAY_SIZE(kept); i++)
		needed[kept[i].capability] = kept[i].redirector;
	for (unsigned int capability = 0; prctl(PR_CAPBSET_READ, capability, 0, 0, 0) >= 0; capability++) {
		if (capability <= CAP_LAST_CAP && needed[capability])
			continue;
		/* Without CAP_SETPCAP this fails: then no_new_privs alone sees to it that nothing is gained by exec. */
		(void)prctl(PR_CAPBSET_DROP, capability, 0, 0, 0);
	}
}

int privileges_drop(void)
{
	bool has[ARRAY_SIZE(kept)];

	if (capng_get_caps_process() < 0)
		return log_errno(-EPERM, "capabilities: cannot read its own; not started");
	for (size_t i = 0; i < ARRAY_SIZE(kept); i++) {
		has[i] = capng_have_capability(CAPNG_PERMITTED, kept[i].capability);
		if (!has[i])
			log_warning("capability %s is missing, which is for: %s", capng_capability_to_name(kept[i].capability),
				    kept[i].purpose);
	}
	shrink_bounding_set();
	capng_clear(CAPNG_SELECT_ALL);
	for (size_t i = 0; i < ARRAY_SIZE(kept); i++)
		if (has[i])
			capng_update(CAPNG_ADD, CAPNG_EFFECTIVE | CAPNG_PERMITTED, kept[i].capability);
	if (capng_apply(CAPNG_SELECT_CAPS) < 0 || capng_apply(CAPNG_SELECT_AMBIENT) < 0)
		return log_errno(-EPERM, "capabilities: cannot give up those that are not needed; not started");
	/* Also for the redirector: exec can then give it nothing that is not here. */
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return log_errno(-errno, "no_new_privs: %s; not started", strerror(errno));
	return 0;
}
