// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/*
 * Hands the record of a redirected flow from the client's socket to the one the redirector accepts. The client's end
 * becomes established before it sends the ACK that makes the server's end, so the entry is there when it is looked
 * for, and lives only that long.
 */
#include "judge.h"


/* Volatile: clang would merge neighbouring fields into one load, which the verifier refuses on this context. */
SLUICE_INLINE void words_of(__u8 out[16], const volatile __u32 *in)
{
	__u32 words[4] = {in[0], in[1], in[2], in[3]};

	__builtin_memcpy(out, words, 16);
}

SLUICE_INLINE void end_of(struct handover_key *key, struct bpf_sock_ops *ctx, int local)
{
	__builtin_memset(key, 0, sizeof(*key));
	key->netns = bpf_get_netns_cookie(ctx);
	key->port = local ? ctx->local_port : bpf_ntohl(ctx->remote_port);
	if (ctx->family == AF_INET) {
		__u32 v4 = local ? ctx->local_ip4 : ctx->remote_ip4;

		addr_from_v4(key->addr, &v4);
	} else {
		words_of(key->addr, local ? ctx->local_ip6 : ctx->remote_ip6);
	}
}

SLUICE_INLINE void client_established(struct bpf_sock_ops *ctx)
{
	struct bpf_sock *sk = ctx->sk;
	const struct state *now = state_now();
	const struct flow_record *found;
	struct flow_record copy;
	struct handover_key key;

	if (!sk || !now || bpf_ntohl(ctx->remote_port) != now->redirector_port)
		return;
	found = bpf_sk_storage_get(&redirected, sk, 0, 0);
	end_of(&key, ctx, 1);
	if (!found) {
		/* Someone who dials the redirector's port by himself must not find what another left behind. */
		bpf_map_delete_elem(&handover, &key);
		return;
	}
	copy = *found;
	bpf_map_update_elem(&handover, &key, &copy, BPF_ANY);
}

SLUICE_INLINE void server_established(struct bpf_sock_ops *ctx)
{
	struct bpf_sock *sk = ctx->sk;
	const struct flow_record *found;
	const struct socket_mark *mark;
	struct flow_record copy;
	struct handover_key key;

	mark = sk ? bpf_sk_storage_get(&marks, sk, 0, 0) : 0;
	if (!mark || mark->mark != MARK_LISTENER)
		return;
	end_of(&key, ctx, 0);
	found = bpf_map_lookup_elem(&handover, &key);
	if (!found)
		return; /* no record: the redirector closes it */
	copy = *found;
	bpf_map_delete_elem(&handover, &key);
	bpf_sk_storage_get(&accepted, sk, &copy, BPF_SK_STORAGE_GET_F_CREATE);
}

SEC("sockops")
int sock_ops(struct bpf_sock_ops *ctx)
{
	if (ctx->op == BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB)
		client_established(ctx);
	else if (ctx->op == BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB)
		server_established(ctx);
	return 1;
}
