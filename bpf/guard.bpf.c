// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/*
 * guard: the rule of admit.h at the socket's end, on what no socket hook sees: raw sockets, sockets older than the
 * hooks, addresses rewritten on the way. guard_inbound learns what began inbound in the host's own namespace, which has
 * no link to watch: there nobody who is governed can forge it.
 */
#include "exchanges.h"
#include "handover.h"
#include "owners.h"

#define LOOPBACK_IFINDEX 1 /* in every network namespace */

/* Of a SYN, if it is to the redirector. */
static __noinline void hand_over(struct __sk_buff *skb, const struct subject *s, const struct packet *p)
{
	struct handover_key key = {.netns = s->netns, .port = p->own_port};
	const struct state *now = state_now();
	struct bpf_sock *sk = skb->sk;

	if (!now || p->flow.port != now->redirector_port)
		return;
	sk = sk ? bpf_sk_fullsock(sk) : 0;
	__builtin_memcpy(key.addr, p->own, 16);
	if (sk)
		leave_record(sk, &key);
}

SLUICE_INLINE int stays_here(const struct __sk_buff *skb, const struct packet *p)
{
	return skb->ifindex == LOOPBACK_IFINDEX && addr_is_loopback(p->flow.addr);
}

SEC("cgroup_skb/egress")
int guard(struct __sk_buff *skb)
{
	struct subject s = {.cgroup = bpf_skb_cgroup_id(skb), .netns = netns_of(skb)};
	const struct state *now = state_now();
	struct stranger *stranger = stranger_slot(&s);
	struct packet p;
	__u64 epoch;
	__u8 reason;
	int plain;

	if (!now || !stranger)
		return 0;
	epoch = epoch_now(now);
	if (is_stranger(stranger, epoch, &s))
		return 1;
	plain = read_plain_tcp(skb, 0, &p, 0);
	if (plain && stays_here(skb, &p) && !(p.tcp_flags & TCP_SYN))
		return 1;
	mark_of(skb, &s);
	if (now->notes_owners && !read_packet(skb, &p, 0) && p.kind == PACKET_FLOW)
		note_owner(skb, &s, &p);
	if (s.mark == MARK_OWN || (plain && is_known_to_pass(&s, &p, epoch)))
		return 1;
	reason = (__u8)read_packet(skb, &p, 0);
	if (!reason && stays_here(skb, &p)) {
		if (p.opens)
			hand_over(skb, &s, &p);
		return 1;
	}
	if (!reason && addr_is_loopback(p.flow.addr))
		reason = REASON_PACKET;
	return admit(skb, &s, &p, reason, epoch, 0);
}

SEC("cgroup_skb/ingress")
int guard_inbound(struct __sk_buff *skb)
{
	const struct state *now = state_now();
	struct subject s = {};
	struct identity who = {};
	struct packet p;

	if (!now || netns_of(skb) != now->host_netns)
		return 1;
	if (read_packet(skb, &p, 1))
		return 1;
	learn_acknowledged(now, now->host_netns, &p);
	if (p.protocol == SLUICE_TCP && !p.opens)
		return 1;
	s.cgroup = bpf_skb_cgroup_id(skb);
	s.netns = now->host_netns;
	if (identify_packet(skb, &s, &who))
		learn_inbound(s.netns, &p);
	return 1;
}
