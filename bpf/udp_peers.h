/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* Who sent datagrams to which local UDP port lately: what lets a UDP server answer under REGISTRY_ONLY. */
#ifndef SLUICE_UDP_PEERS_H
#define SLUICE_UDP_PEERS_H

#include "judge.h"

SLUICE_INLINE void udp_peer_key_fill(struct udp_peer_key *key, struct bpf_sock_addr *ctx, const struct flow *flow)
{
	struct bpf_sock *sk = ctx->sk;

	__builtin_memset(key, 0, sizeof(*key));
	key->netns = bpf_get_netns_cookie(ctx);
	__builtin_memcpy(key->addr, flow->addr, 16);
	key->peer_port = flow->port;
	key->local_port = sk ? (__u16)sk->src_port : 0;
}

/* A DENY becomes ALLOW when the peer sent to this port within the last minute. */
SLUICE_INLINE void udp_answer(struct bpf_sock_addr *ctx, const struct flow *flow, struct judgement *j)
{
	const struct udp_peer_value *peer;
	struct udp_peer_key key;

	if (flow->protocol != SLUICE_UDP || j->decision.verdict != VERDICT_DENY)
		return;
	udp_peer_key_fill(&key, ctx, flow);
	peer = bpf_map_lookup_elem(&udp_peers, &key);
	if (peer && peer->received && bpf_ktime_get_boot_ns() - peer->received < SLUICE_UDP_PEER_NS)
		j->decision = decide(VERDICT_ALLOW, REASON_UDP_ANSWER, 0);
}

#endif
