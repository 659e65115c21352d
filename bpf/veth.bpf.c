// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/*
 * The host's end of a pod's link. veth, on what comes from the pod: the rule of admit.h on frames that met no socket
 * hook, and only from addresses that are the pod's. veth_inbound, on what goes to the pod: learns who spoke first.
 */
#include "exchanges.h"

#define PASS (-1) /* TCX_NEXT, TC_ACT_UNSPEC: programs after us have their say */
#define DROP 2    /* TC_ACT_SHOT */
#define ARP_FRAME_MAX 60 /* the shortest Ethernet frame, without its checksum */

/* RFC 826 for Ethernet and IPv4, from an address of the pod's or, looking for duplicates (RFC 5227), from none. */
static __noinline int is_needed_arp(struct __sk_buff *skb, __u32 device)
{
	static const __u8 ethernet_ipv4[6] = {0, 1, 8, 0, 6, 4};
	struct source_key key = {device, 0, {0}};
	__u8 arp[28];
	__u32 sender;

	if (skb->len > ARP_FRAME_MAX || !load(skb, 0, arp, sizeof(arp)))
		return 0;
	for (int i = 0; i < 6; i++)
		if (arp[i] != ethernet_ipv4[i])
			return 0;
	__builtin_memcpy(&sender, arp + 14, 4);
	addr_from_v4(key.addr, &sender);
	return !sender || bpf_map_lookup_elem(&sources, &key);
}

SEC("tc")
int veth(struct __sk_buff *skb)
{
	__u32 device = skb->ifindex;
	const struct device_value *known = bpf_map_lookup_elem(&devices, &device);
	const struct state *now = state_now();
	struct subject s = {};
	struct packet p;
	__u64 epoch;
	__u8 reason;

	if (!known || !now)
		return DROP;
	epoch = epoch_now(now);
	s.netns = known->netns;
	s.device = device;
	s.cgroup = bpf_skb_cgroup_id(skb);
	mark_of(skb, &s);
	if (!skb->vlan_present && is_known_to_pass(skb, &s, &p, epoch, ETH_HEADER))
		return PASS;
	if (skb->protocol == bpf_htons(ETH_P_ARP) && !skb->vlan_present && is_needed_arp(skb, device))
		return PASS;
	reason = (__u8)read_packet(skb, &p, 0);
	p.start = ETH_HEADER;
	if (skb->vlan_present)
		reason = REASON_FRAME;
	else if (!reason && addr_is_loopback(p.flow.addr))
		reason = REASON_PACKET; /* a node that routes 127.0.0.0/8 (route_localnet) would take it in */
	if (s.mark != MARK_OWN && !admit(skb, &s, &p, reason, epoch, 1))
		return DROP;
	learn_outbound(s.netns, &p);
	return PASS;
}

SEC("tc")
int veth_inbound(struct __sk_buff *skb)
{
	__u32 device = skb->ifindex;
	const struct device_value *known = bpf_map_lookup_elem(&devices, &device);
	const struct state *now = state_now();
	struct packet p;

	if (!known || !now || (!now->checks_names && read_plain_tcp(skb, ETH_HEADER, &p, 1) && answers_opening(&p)))
		return PASS;
	if (!read_packet(skb, &p, 1)) {
		learn_inbound(known->netns, &p);
		learn_acknowledged(now, known->netns, &p);
	}
	return PASS;
}
