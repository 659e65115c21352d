// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/* The client's half of the handover where the kernel has no guard. */
#include "handover.h"

/* Volatile: clang would merge neighbouring fields into one load, which the verifier refuses on this context. */
SLUICE_INLINE void words_of(__u8 out[16], const volatile __u32 *in)
{
	__u32 words[4] = {in[0], in[1], in[2], in[3]};

	__builtin_memcpy(out, words, 16);
}

/* The ACK that makes the server's end is sent after this. */
SEC("sockops")
int sock_ops(struct bpf_sock_ops *ctx)
{
	struct bpf_sock *sk = ctx->sk;
	const struct state *now = state_now();
	struct handover_key key = {};

	if (ctx->op != BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB || !sk || !now || bpf_ntohl(ctx->remote_port) != now->redirector_port)
		return 1;
	key.netns = bpf_get_netns_cookie(ctx);
	key.port = ctx->local_port;
	if (ctx->family == AF_INET) {
		__u32 v4 = ctx->local_ip4;

		addr_from_v4(key.addr, &v4);
	} else {
		words_of(key.addr, ctx->local_ip6);
	}
	leave_record(sk, &key);
	return 1;
}
