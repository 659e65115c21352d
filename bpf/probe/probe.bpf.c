// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/*
 * Each program asks the kernel for one thing that sluice's programs use. They are loaded one by one, to see whether the
 * verifier knows it, and never attached (user/kernel/probe.c).
 */
#include <linux/bpf.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>

#define ECONNREFUSED 111

char LICENSE[] SEC("license") = "Dual BSD/GPL";

struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC | BPF_F_CLONE);
	__type(key, int);
	__type(value, __u64);
} probe_storage SEC(".maps");

SEC("?cgroup/connect4")
int probe_connect(struct bpf_sock_addr *ctx)
{
	ctx->user_ip4 = 0;
	return bpf_get_current_comm(&(char[16]){0}, 16) == 0;
}

SEC("?cgroup/sendmsg6")
int probe_sendmsg(struct bpf_sock_addr *ctx)
{
	return ctx->user_ip6[3] != 0;
}

SEC("?cgroup/recvmsg6")
int probe_recvmsg(struct bpf_sock_addr *ctx)
{
	ctx->user_ip6[3] = ctx->user_ip6[2];
	return 1;
}

SEC("?cgroup/getpeername4")
int probe_getpeername(struct bpf_sock_addr *ctx)
{
	ctx->user_ip4 = 0;
	return 1;
}

SEC("?cgroup/connect4")
int probe_set_retval(struct bpf_sock_addr *ctx)
{
	(void)ctx;
	bpf_set_retval(-ECONNREFUSED);
	return 0;
}

SEC("?cgroup/connect4")
int probe_cgroup_id(struct bpf_sock_addr *ctx)
{
	(void)ctx;
	return bpf_get_current_cgroup_id() && bpf_get_current_ancestor_cgroup_id(1);
}

SEC("?cgroup/connect4")
int probe_netns_cookie(struct bpf_sock_addr *ctx)
{
	return bpf_get_netns_cookie(ctx) != 0;
}

SEC("?cgroup/connect4")
int probe_socket_storage(struct bpf_sock_addr *ctx)
{
	return ctx->sk && bpf_sk_storage_get(&probe_storage, ctx->sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
}

SEC("?sockops")
int probe_sockops(struct bpf_sock_ops *ctx)
{
	struct bpf_sock *sk = ctx->sk;

	return bpf_get_netns_cookie(ctx) && sk && bpf_sk_storage_get(&probe_storage, sk, 0, 0);
}

SEC("?cgroup/getsockopt")
int probe_getsockopt(struct bpf_sockopt *ctx)
{
	ctx->retval = 0;
	return bpf_get_netns_cookie(ctx) && ctx->sk && bpf_sk_storage_get(&probe_storage, ctx->sk, 0, 0);
}

SEC("?cgroup/post_bind4")
int probe_bind(struct bpf_sock *ctx)
{
	if (bpf_get_netns_cookie(ctx) && bpf_sk_storage_get(&probe_storage, ctx, 0, 0))
		return 1;
	bpf_set_retval(-ECONNREFUSED);
	return 0;
}

struct net {
	__u64 net_cookie;
} __attribute__((preserve_access_index));

struct sock_common {
	struct {
		struct net *net;
	} skc_net;
} __attribute__((preserve_access_index));

struct sock {
	struct sock_common __sk_common;
} __attribute__((preserve_access_index));

struct sk_buff {
	struct sock *sk;
	unsigned char *head;
} __attribute__((preserve_access_index));

struct skb_shared_info {
	__u8 flags;
} __attribute__((preserve_access_index));

extern void *bpf_cast_to_kern_ctx(void *) __ksym __weak; /* Linux 6.2; weak, so that the other programs load without */
extern void *bpf_rdonly_cast(const void *, __u32) __ksym __weak;

static long step(__u32 i, void *context)
{
	(void)i;
	(void)context;
	return 0;
}

/* What guard and veth both do with a packet: whose it is, the mark of its socket, what TLS name it shows. */
static __always_inline int look_at_packet(struct __sk_buff *skb)
{
	struct bpf_sock *sk = skb->sk ? bpf_sk_fullsock(skb->sk) : 0;
	const struct sk_buff *kernel = bpf_cast_to_kern_ctx(skb);
	const struct skb_shared_info *shared = bpf_rdonly_cast(kernel->head, bpf_core_type_id_kernel(struct skb_shared_info));

	bpf_loop(1, step, 0, 0);
	return bpf_skb_cgroup_id(skb) && bpf_skb_ancestor_cgroup_id(skb, 1) && sk && bpf_sk_storage_get(&probe_storage, sk, 0, 0) &&
	       shared->flags;
}

SEC("?cgroup_skb/egress")
int probe_guard(struct __sk_buff *skb)
{
	const struct sk_buff *kernel = bpf_cast_to_kern_ctx(skb);

	const struct sock *sk = kernel->sk;

	return sk && sk->__sk_common.skc_net.net->net_cookie && look_at_packet(skb);
}

SEC("?tc")
int probe_veth(struct __sk_buff *skb)
{
	return look_at_packet(skb);
}
