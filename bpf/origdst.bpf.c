// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/*
 * getsockopt on a socket accepted from sluice's listener: SO_ORIGINAL_DST, as after an iptables REDIRECT, so that any
 * transparent proxy can stand in for the redirector; and the whole record for sluice's own.
 */
#include "handover.h"

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

/* Volatile: clang would merge neighbouring fields into one load, which the verifier refuses on a socket. */
SLUICE_INLINE void peer_of(const volatile struct bpf_sock *sk, struct handover_key *key)
{
	key->port = bpf_ntohs(sk->dst_port);
	if (sk->family == AF_INET) {
		__u32 v4 = sk->dst_ip4;

		addr_from_v4(key->addr, &v4);
	} else {
		__u32 words[4] = {sk->dst_ip6[0], sk->dst_ip6[1], sk->dst_ip6[2], sk->dst_ip6[3]};

		__builtin_memcpy(key->addr, words, 16);
	}
}

/* What the client left for a socket accepted from a listener of ours. */
SLUICE_INLINE const struct flow_record *take_record(struct bpf_sockopt *ctx, struct bpf_sock *sk)
{
	const struct socket_mark *mark = bpf_sk_storage_get(&marks, sk, 0, 0);
	struct handover_key key = {};
	struct flow_record *found, copy;

	if (!mark || mark->mark != MARK_LISTENER)
		return 0;
	key.netns = bpf_get_netns_cookie(ctx);
	peer_of(sk, &key);
	found = bpf_map_lookup_elem(&handover, &key);
	if (!found)
		return 0; /* no record: the redirector closes it */
	copy = *found;
	bpf_map_delete_elem(&handover, &key);
	return bpf_sk_storage_get(&accepted, sk, &copy, BPF_SK_STORAGE_GET_F_CREATE);
}

SEC("cgroup/getsockopt")
int origdst(struct bpf_sockopt *ctx)
{
	struct bpf_sock *sk = ctx->sk;
	const struct flow_record *found;
	struct flow_record copy;
	int whole = ctx->level == SLUICE_SOL && ctx->optname == SLUICE_SO_RECORD;

	if (!whole && (ctx->optname != SO_ORIGINAL_DST || (ctx->level != SOL_IP && ctx->level != SOL_IPV6)))
		return 1;
	if (!sk)
		return 1;
	found = bpf_sk_storage_get(&accepted, sk, 0, 0) ?: take_record(ctx, sk);
	if (!found)
		return 1;
	copy = *found;
	if (whole)
		return answer(ctx, &copy, sizeof(copy));
	if (ctx->level == SOL_IP)
		return addr_is_v4(copy.addr) ? answer_v4(ctx, &copy) : 1;
	return answer_v6(ctx, &copy);
}
