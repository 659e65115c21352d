// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/*
 * connect4, connect6: the verdict on a new TCP connection or a connected UDP socket. A redirect saves the original
 * destination in the socket's storage and rewrites the address to the redirector's listener on loopback.
 */
#include "udp_peers.h"

/* Asks the loader for a listener in this namespace; the client is refused this once. */
SLUICE_INLINE void request_listener(__u64 cookie, __u32 workload)
{
	struct listener_request request = {.netns = cookie, .workload = workload, .kind = REQUEST_LISTENER,
					   .pid = (__u32)(bpf_get_current_pid_tgid() >> 32)};

	bpf_ringbuf_output(&requests, &request, sizeof(request), 0);
}

/* Why a redirect cannot be carried out here, or REASON_NONE. */
SLUICE_INLINE __u8 redirect_obstacle(struct bpf_sock_addr *ctx, const struct identity *who, const struct flow *flow)
{
	struct bpf_sock *sk = ctx->sk;

	/* Bound to eth0 and rewritten to loopback, the handshake would never finish (facts/performance.md). */
	if (sk && sk->bound_dev_if > 1)
		return REASON_BOUND_DEVICE;
	if (!who->listener)
		return REASON_NO_LISTENER;
	return (addr_is_v4(flow->addr) ? who->listener->listens_v4 : who->listener->listens_v6) ? REASON_NONE
											     : REASON_NO_LISTENER;
}

SLUICE_INLINE int save_record(struct bpf_sock_addr *ctx, const struct flow *flow, const struct judgement *j)
{
	const struct state *now = state_now();
	struct flow_record fresh = {}, *saved;
	struct bpf_sock *sk = ctx->sk;

	if (!sk || !now)
		return -1;
	__builtin_memcpy(fresh.addr, flow->addr, 16);
	fresh.port = flow->port;
	fresh.reason = j->decision.reason;
	fresh.service_flags = j->decision.service_flags;
	fresh.workload = j->workload;
	fresh.rule_set = j->rule_set;
	fresh.service = j->decision.service;
	fresh.generation = now->generation;
	saved = bpf_sk_storage_get(&redirected, sk, &fresh, BPF_SK_STORAGE_GET_F_CREATE);
	if (!saved)
		return -1;
	*saved = fresh; /* a second connect on the same descriptor finds the first one's */
	return 0;
}

SLUICE_INLINE void forget_record(struct bpf_sock_addr *ctx)
{
	if (ctx->sk)
		bpf_sk_storage_delete(&redirected, ctx->sk);
}

/* Where the kernel could not read a hello before, the redirector does. */
SLUICE_INLINE int is_unreadable(const struct flow *flow, __u32 workload)
{
	struct unreadable_key key = {workload, flow->port, 0, {0}};

	__builtin_memcpy(key.addr, flow->addr, 16);
	return bpf_map_lookup_elem(&unreadable, &key) != 0;
}

/* A socket that sluice made for a workload and gave to the redirector. */
SLUICE_INLINE int connect_upstream(const struct flow *flow, __u32 workload)
{
	struct identity who = {};
	struct judgement j;
	int verdict = judge_workload(flow, workload, 1, &j);

	count(&j);
	if (verdict != VERDICT_DENY)
		return 1;
	record(&who, flow, &j);
	return refuse();
}

SLUICE_INLINE int connect(struct bpf_sock_addr *ctx, const struct flow *flow, int *redirect)
{
	__u64 cookie = bpf_get_netns_cookie(ctx);
	struct socket_mark *mark = ctx->sk ? bpf_sk_storage_get(&marks, ctx->sk, 0, 0) : 0;
	struct identity who = {};
	struct judgement j;

	if (mark && mark->mark == MARK_OWN)
		return 1;
	if (mark && mark->mark == MARK_UPSTREAM)
		return connect_upstream(flow, mark->workload);
	if (!identify(&who, cookie))
		return 1;
	judge(&who, flow, &j);
	udp_answer(ctx, flow, &j);
	if (j.decision.check_name && is_unreadable(flow, j.workload))
		j.decision.verdict = VERDICT_REDIRECT;
	if (j.decision.verdict == VERDICT_REDIRECT) {
		__u8 obstacle = redirect_obstacle(ctx, &who, flow);

		if (obstacle == REASON_NO_LISTENER)
			request_listener(cookie, j.workload);
		if (!obstacle && save_record(ctx, flow, &j))
			obstacle = REASON_MAP_FULL;
		if (obstacle)
			judge_instead(&j, obstacle);
	}
	if (j.decision.verdict != VERDICT_REDIRECT)
		forget_record(ctx);
	count(&j);
	if (j.decision.reason != REASON_LOOPBACK)
		record(&who, flow, &j);
	if (j.decision.verdict == VERDICT_DENY)
		return refuse();
	*redirect = j.decision.verdict == VERDICT_REDIRECT;
	return 1;
}

SLUICE_INLINE __u32 redirector_port(void)
{
	const struct state *now = state_now();

	return now ? bpf_htons((__u16)now->redirector_port) : 0;
}

SEC("cgroup/connect4")
int connect4(struct bpf_sock_addr *ctx)
{
	struct flow flow;
	int redirect = 0, allowed;

	flow_v4(&flow, ctx);
	allowed = connect(ctx, &flow, &redirect);
	if (redirect) {
		ctx->user_ip4 = bpf_htonl(0x7f000001);
		ctx->user_port = redirector_port();
	}
	return allowed;
}

/* Also v4-mapped destinations: they enter here only (facts/performance.md). */
SEC("cgroup/connect6")
int connect6(struct bpf_sock_addr *ctx)
{
	struct flow flow;
	int redirect = 0, allowed;

	flow_v6(&flow, ctx);
	allowed = connect(ctx, &flow, &redirect);
	if (redirect) {
		int mapped = addr_is_v4(flow.addr);

		ctx->user_ip6[0] = 0;
		ctx->user_ip6[1] = 0;
		ctx->user_ip6[2] = mapped ? bpf_htonl(0xffff) : 0;
		ctx->user_ip6[3] = bpf_htonl(mapped ? 0x7f000001 : 1);
		ctx->user_port = redirector_port();
	}
	return allowed;
}
