// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/*
 * sendmsg4, sendmsg6: the verdict on a datagram of an unconnected socket. recvmsg4, recvmsg6 rewrite nothing: they
 * note who sent to which port, so that a UDP server can answer. The program, never ctx->family, tells the address
 * family: a v6 socket that sends to a v4 address enters sendmsg4 with AF_INET6 (facts/kernel.md).
 */
#include "admit.h"
#include "udp_peers.h"

/* At most one event a second for each peer: a stream of datagrams must not push all else out of the ring. */
SLUICE_INLINE void record_datagram(struct bpf_sock_addr *ctx, const struct identity *who, const struct flow *flow,
				   const struct judgement *j)
{
	struct udp_peer_value fresh = {}, *peer;
	__u64 now = bpf_ktime_get_boot_ns();
	struct udp_peer_key key;

	udp_peer_key_fill(&key, ctx, flow);
	peer = bpf_map_lookup_elem(&udp_peers, &key);
	if (peer && now - peer->recorded < SLUICE_UDP_RECORD_NS)
		return;
	if (peer) {
		peer->recorded = now;
	} else {
		fresh.recorded = now;
		bpf_map_update_elem(&udp_peers, &key, &fresh, BPF_ANY);
	}
	record(who, flow, j);
}

/*
 * The rights that an open flow has at guard (admit.h): a connected v6 socket whose peer is a v4 address comes by here with
 * each datagram.
 */
SLUICE_INLINE void open_flow(struct bpf_sock_addr *ctx, const struct flow *flow, struct judgement *j)
{
	const struct exchange_value *known;
	__u64 now = bpf_ktime_get_boot_ns();
	struct exchange_key key = {};
	struct bpf_sock *sk = ctx->sk;

	if (flow->protocol != SLUICE_UDP || j->decision.verdict != VERDICT_DENY || !sk)
		return;
	key.netns = bpf_get_netns_cookie(ctx);
	__builtin_memcpy(key.peer, flow->addr, 16);
	key.peer_port = flow->port;
	key.own_port = (__u16)sk->src_port;
	key.protocol = SLUICE_UDP;
	if (is_draining(&key)) {
		j->decision = decide(VERDICT_ALLOW, REASON_DRAINING, 0);
		return;
	}
	known = bpf_map_lookup_elem(&exchanges, &key);
	if (known && !known->inbound && now - known->seen < SLUICE_UDP_PEER_NS &&
	    was_admitted(flow, j->workload, 0) == FORMER_PASSES)
		j->decision = decide(VERDICT_ALLOW, REASON_FORMER_ADDRESS, 0);
}

SLUICE_INLINE int send_datagram(struct bpf_sock_addr *ctx, const struct flow *flow)
{
	struct socket_mark *mark = ctx->sk ? bpf_sk_storage_get(&marks, ctx->sk, 0, 0) : 0;
	struct identity who = {};
	struct judgement j;

	if (mark && mark->mark == MARK_OWN)
		return 1;
	if (!identify(&who, bpf_get_netns_cookie(ctx)))
		return 1;
	judge(&who, flow, &j);
	udp_answer(ctx, flow, &j);
	open_flow(ctx, flow, &j);
	/* TCP's sendmsg runs no such hook, so nothing here can be a redirect; were it one, it could not be done. */
	if (j.decision.verdict == VERDICT_REDIRECT)
		judge_instead(&j, REASON_UDP_NAME_CHECK);
	count(&j);
	if (j.decision.reason != REASON_LOOPBACK)
		record_datagram(ctx, &who, flow, &j);
	return j.decision.verdict == VERDICT_DENY ? refuse() : 1;
}

SLUICE_INLINE int receive_datagram(struct bpf_sock_addr *ctx, const struct flow *flow)
{
	struct udp_peer_value fresh = {}, *peer;
	struct identity who = {};
	struct udp_peer_key key;

	if (flow->protocol != SLUICE_UDP || addr_is_loopback(flow->addr) || !identify(&who, bpf_get_netns_cookie(ctx)))
		return 1;
	udp_peer_key_fill(&key, ctx, flow);
	peer = bpf_map_lookup_elem(&udp_peers, &key);
	if (peer) {
		peer->received = bpf_ktime_get_boot_ns();
		return 1;
	}
	fresh.received = bpf_ktime_get_boot_ns();
	bpf_map_update_elem(&udp_peers, &key, &fresh, BPF_ANY);
	return 1;
}

SEC("cgroup/sendmsg4")
int sendmsg4(struct bpf_sock_addr *ctx)
{
	struct flow flow;

	flow_v4(&flow, ctx);
	return send_datagram(ctx, &flow);
}

SEC("cgroup/sendmsg6")
int sendmsg6(struct bpf_sock_addr *ctx)
{
	struct flow flow;

	flow_v6(&flow, ctx);
	return send_datagram(ctx, &flow);
}

SEC("cgroup/recvmsg4")
int recvmsg4(struct bpf_sock_addr *ctx)
{
	struct flow flow;

	flow_v4(&flow, ctx);
	return receive_datagram(ctx, &flow);
}

SEC("cgroup/recvmsg6")
int recvmsg6(struct bpf_sock_addr *ctx)
{
	struct flow flow;

	flow_v6(&flow, ctx);
	return receive_datagram(ctx, &flow);
}
