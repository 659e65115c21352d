/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * Whose flow a frame is of, for the driver's program of a link, which sees no socket: guard notes it. Who may send raw
 * frames in the same namespace can send as any of these flows, to where it goes.
 */
#ifndef SLUICE_OWNERS_H
#define SLUICE_OWNERS_H

#include "admit.h"

SLUICE_INLINE void owner_key_fill(struct owner_key *key, __u64 cookie, const struct packet *p)
{
	key->netns = cookie;
	__builtin_memcpy(key->peer, p->flow.addr, 16);
	__builtin_memcpy(key->own, p->own, 16);
	key->peer_port = p->flow.port;
	key->own_port = p->own_port;
	key->protocol = p->protocol;
}

/* Of a packet at its socket. Whether it may go on is judged by the driver's program as by guard. */
static __noinline void note_owner(struct __sk_buff *skb, const struct subject *s, const struct packet *p)
{
	struct owner_value owner = {.cgroup = s->cgroup, .mark = s->mark, .workload = s->workload};
	const struct owner_value *known;
	struct owner_key key;

	if (owner.cgroup && !governing_cgroup_of(skb, &owner.cgroup))
		owner.cgroup = 0;
	owner_key_fill(&key, s->netns, p);
	known = bpf_map_lookup_elem(&owners, &key);
	if (!known || known->cgroup != owner.cgroup || known->mark != owner.mark || known->workload != owner.workload)
		bpf_map_update_elem(&owners, &key, &owner, BPF_ANY);
}

#endif
