// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/* post_bind4, post_bind6: the redirector's port is sluice's own in a governed namespace, also while nobody has it. */
#include "judge.h"

SLUICE_INLINE int bound(struct bpf_sock *ctx, int v6)
{
	const struct state *now = state_now();
	const struct socket_mark *mark;
	struct identity who = {};
	struct flow flow = {.port = (__u16)ctx->src_port, .protocol = SLUICE_TCP};
	struct judgement j;
	const struct rule_set *rules;
	struct tables t;
	__u8 reason;

	if (!now || flow.port != now->redirector_port || (ctx->protocol != IPPROTO_TCP && ctx->protocol != IPPROTO_MPTCP_))
		return 1;
	mark = bpf_sk_storage_get(&marks, ctx, 0, 0);
	if (mark || !identify(&who, bpf_get_netns_cookie(ctx)))
		return 1;
	if (v6) {
		__u32 words[4] = {ctx->src_ip6[0], ctx->src_ip6[1], ctx->src_ip6[2], ctx->src_ip6[3]};

		__builtin_memcpy(flow.addr, words, 16);
	} else {
		__u32 v4 = ctx->src_ip4;

		addr_from_v4(flow.addr, &v4);
	}
	rules = rules_in_force(&t, who.cgroup ? who.cgroup->workload : who.namespace->workload, &j, &reason);
	j.decision = rules ? decide_deny(rules, REASON_RESERVED_PORT, 0) : decide(VERDICT_DENY, REASON_RESERVED_PORT, 0);
	count(&j);
	record(&who, &flow, &j);
	if (j.decision.verdict != VERDICT_DENY)
		return 1;
	bpf_set_retval(-EADDRINUSE);
	return 0;
}

SEC("cgroup/post_bind4")
int post_bind4(struct bpf_sock *ctx)
{
	return bound(ctx, 0);
}

SEC("cgroup/post_bind6")
int post_bind6(struct bpf_sock *ctx)
{
	return bound(ctx, 1);
}
