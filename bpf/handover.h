/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * The record of a redirected flow goes from the client's socket to the one that the redirector accepts. The client leaves
 * it under its own end of the connection before the server's end is there: with its SYN, which guard sees, or where the
 * kernel has no guard when its end is established. Whoever accepts takes it with the first question for it (origdst).
 */
#ifndef SLUICE_HANDOVER_H
#define SLUICE_HANDOVER_H

#include "judge.h"

SLUICE_INLINE void leave_record(struct bpf_sock *client, const struct handover_key *key)
{
	const struct flow_record *found = bpf_sk_storage_get(&redirected, client, 0, 0);

	if (found)
		bpf_map_update_elem(&handover, key, found, BPF_ANY);
	else /* Someone who dials the redirector's port by himself must not find what another left behind. */
		bpf_map_delete_elem(&handover, key);
}

#endif
