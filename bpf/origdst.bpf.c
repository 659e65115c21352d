// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/*
 * getsockopt on a socket accepted from sluice's listener: SO_ORIGINAL_DST, as after an iptables REDIRECT, so that any
 * transparent proxy can stand in for the redirector; and the whole record for sluice's own.
 */
#include "judge.h"

#define SOL_IP 0
#define SOL_IPV6 41
#define SO_ORIGINAL_DST 80 /* linux/netfilter_ipv4.h; the same number in netfilter_ipv6/ip6_tables.h */

SLUICE_INLINE int answer(struct bpf_sockopt *ctx, const void *value, const __u32 size)
{
	void *out = ctx->optval, *end = ctx->optval_end;

	if (out + size > end)
		return 1; /* the caller's buffer is too small: the kernel's own error stays */
	__builtin_memcpy(out, value, size);
	ctx->optlen = (__s32)size;
	barrier(); /* clang would merge the two into one store, which the verifier refuses on a context */
	ctx->retval = 0;
	return 1;
}

SLUICE_INLINE int answer_v4(struct bpf_sockopt *ctx, const struct flow_record *found)
{
	struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_port = bpf_htons(found->port)};

	__builtin_memcpy(&v4.sin_addr, found->addr + 12, 4);
	return answer(ctx, &v4, sizeof(v4));
}

SLUICE_INLINE int answer_v6(struct bpf_sockopt *ctx, const struct flow_record *found)
{
	struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_port = bpf_htons(found->port)};

	__builtin_memcpy(&v6.sin6_addr, found->addr, 16);
	return answer(ctx, &v6, sizeof(v6));
}

SEC("cgroup/getsockopt")
int origdst(struct bpf_sockopt *ctx)
{
	const struct flow_record *found;
	struct flow_record copy;
	int whole = ctx->level == SLUICE_SOL && ctx->optname == SLUICE_SO_RECORD;

	if (!whole && (ctx->optname != SO_ORIGINAL_DST || (ctx->level != SOL_IP && ctx->level != SOL_IPV6)))
		return 1;
	found = ctx->sk ? bpf_sk_storage_get(&accepted, ctx->sk, 0, 0) : 0;
	if (!found)
		return 1;
	copy = *found;
	if (whole)
		return answer(ctx, &copy, sizeof(copy));
	if (ctx->level == SOL_IP)
		return addr_is_v4(copy.addr) ? answer_v4(ctx, &copy) : 1;
	return answer_v6(ctx, &copy);
}
