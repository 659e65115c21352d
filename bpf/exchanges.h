/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* Who spoke first: what is learned of packets where the governed side cannot forge them. */
#ifndef SLUICE_EXCHANGES_H
#define SLUICE_EXCHANGES_H

#include "admit.h"

#define REFRESH_NS (1ULL * 1000000000ULL)

SLUICE_INLINE void learn(const struct exchange_key *key, __u32 inbound)
{
	struct exchange_value fresh = {bpf_ktime_get_boot_ns(), inbound, 0};

	bpf_map_update_elem(&exchanges, key, &fresh, BPF_ANY);
}

SLUICE_INLINE int begins(const struct packet *p)
{
	return p->opens || p->protocol == SLUICE_UDP || p->protocol == IPPROTO_UDPLITE || p->kind == PACKET_SOLICIT;
}

/* To a connection that was opened from here. */
SLUICE_INLINE int answers_opening(const struct packet *p)
{
	return p->protocol == SLUICE_TCP && (p->tcp_flags & (TCP_SYN | TCP_ACK)) == (TCP_SYN | TCP_ACK);
}

/* A packet came in. What it begins, and what it keeps alive. */
static __noinline void learn_inbound(__u64 cookie, const struct packet *p)
{
	struct exchange_value *known;
	struct exchange_key key;
	__u64 now = bpf_ktime_get_boot_ns();

	if ((p->kind != PACKET_FLOW && p->kind != PACKET_SOLICIT) || answers_opening(p))
		return;
	exchange_key_fill(&key, cookie, p);
	known = bpf_map_lookup_elem(&exchanges, &key);
	if (known && known->inbound) {
		if (now - known->seen > REFRESH_NS)
			known->seen = now;
		return;
	}
	if (!begins(p))
		return;
	/* The answer to a datagram of our own begins nothing. */
	if (known && p->protocol != SLUICE_TCP && now - known->seen < SLUICE_UDP_PEER_NS)
		return;
	learn(&key, 1);
}

/* A datagram that the verdict admits goes out. */
static __noinline void learn_outbound(__u64 cookie, const struct packet *p)
{
	struct exchange_value *known;
	struct exchange_key key;
	__u64 now = bpf_ktime_get_boot_ns();

	if (p->kind != PACKET_FLOW || p->protocol == SLUICE_TCP || !begins(p))
		return;
	exchange_key_fill(&key, cookie, p);
	known = bpf_map_lookup_elem(&exchanges, &key);
	if (!known || now - known->seen > SLUICE_UDP_PEER_NS)
		learn(&key, 0);
	else if (!known->inbound && now - known->seen > REFRESH_NS)
		known->seen = now;
}

#endif
