// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/* getpeername4, getpeername6: a redirected application sees the destination it asked for. */
#include "judge.h"

SLUICE_INLINE const struct flow_record *record_of(struct bpf_sock_addr *ctx)
{
	return ctx->sk ? bpf_sk_storage_get(&redirected, ctx->sk, 0, 0) : 0;
}

SEC("cgroup/getpeername4")
int getpeername4(struct bpf_sock_addr *ctx)
{
	const struct flow_record *asked = record_of(ctx);
	__u32 v4;

	if (!asked)
		return 1;
	__builtin_memcpy(&v4, asked->addr + 12, 4);
	ctx->user_ip4 = v4;
	ctx->user_port = bpf_htons(asked->port);
	return 1;
}

SEC("cgroup/getpeername6")
int getpeername6(struct bpf_sock_addr *ctx)
{
	const struct flow_record *asked = record_of(ctx);
	__u32 words[4];

	if (!asked)
		return 1;
	__builtin_memcpy(words, asked->addr, 16);
	ctx->user_ip6[0] = words[0];
	ctx->user_ip6[1] = words[1];
	ctx->user_ip6[2] = words[2];
	ctx->user_ip6[3] = words[3];
	ctx->user_port = bpf_htons(asked->port);
	return 1;
}
