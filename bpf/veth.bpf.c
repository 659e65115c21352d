// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/*
 * The host's end of a pod's link. veth, on what comes from the pod: the rule of admit.h on frames that met no socket
 * hook, and only from addresses that are the pod's. veth_inbound, on what goes to the pod: learns who spoke first.
 */
#include "exchanges.h"
#include "owners.h"

#define PASS (-1) /* TCX_NEXT, TC_ACT_UNSPEC: programs after us have their say */
#define DROP 2    /* TC_ACT_SHOT */
#define ARP_FRAME_MAX 60 /* the shortest Ethernet frame, without its checksum */

/* RFC 826 for Ethernet and IPv4, from an address of the pod's or, looking for duplicates (RFC 5227), from none. */
SLUICE_INLINE int is_needed_arp(const struct frame *f, __u32 device)
{
	static const __u8 ethernet_ipv4[6] = {0, 1, 8, 0, 6, 4};
	struct source_key key = {device, 0, {0}};
	__u8 arp[28];
	__u32 sender;

	if (f->len > ARP_FRAME_MAX || !load(f, 0, arp, sizeof(arp)))
		return 0;
	for (int i = 0; i < 6; i++)
		if (arp[i] != ethernet_ipv4[i])
			return 0;
	__builtin_memcpy(&sender, arp + 14, 4);
	addr_from_v4(key.addr, &sender);
	return !sender || bpf_map_lookup_elem(&sources, &key);
}

static __noinline int is_needed_arp_packet(struct __sk_buff *skb, __u32 device)
{
	struct frame f = {skb, skb->len, 0, 0};

	return skb->protocol == bpf_htons(ETH_P_ARP) && !skb->vlan_present && is_needed_arp(&f, device);
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
	if (known->in_driver && !skb->vlan_present) /* a tag is beside the frame that the driver's program sees */
		return PASS;
	epoch = epoch_now(now);
	s.netns = known->netns;
	s.device = device;
	s.cgroup = bpf_skb_cgroup_id(skb);
	mark_of(skb, &s);
	if (!skb->vlan_present && read_plain_tcp(skb, ETH_HEADER, &p, 0) && is_known_to_pass(&s, &p, epoch))
		return PASS;
	if (is_needed_arp_packet(skb, device))
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

/* ---- backstop: xdp ---- */

static __noinline int is_needed_arp_frame(struct xdp_md *ctx, __u32 device)
{
	struct frame f = {ctx, (__u32)bpf_xdp_get_buff_len(ctx), 0, 1};

	return is_needed_arp(&f, device);
}

/* As read_packet(). */
__noinline int read_frame(struct xdp_md *ctx, __u32 ethertype, struct packet *p)
{
	struct frame f = {ctx, (__u32)bpf_xdp_get_buff_len(ctx), 0, 1};

	return p ? read_network(&f, (__be16)ethertype, p, 0) : REASON_PACKET;
}

/* Whose flow this is, as guard has noted it. Of another namespace's flow, or of none: only the device's. */
static __noinline void find_owner(struct subject *s, const struct packet *p)
{
	const struct owner_value *owner;
	struct owner_key key;

	owner_key_fill(&key, s->netns, p);
	owner = bpf_map_lookup_elem(&owners, &key);
	if (!owner)
		return;
	s->cgroup = owner->cgroup;
	s->mark = owner->mark;
	s->workload = owner->workload;
}

/* As veth, in the device's driver, where no packet has a socket any more. */
SEC("xdp.frags")
int veth_xdp(struct xdp_md *ctx)
{
	const __u8 *at = (const __u8 *)(long)ctx->data, *end = (const __u8 *)(long)ctx->data_end;
	__u32 device = ctx->ingress_ifindex, ethertype;
	const struct device_value *known = bpf_map_lookup_elem(&devices, &device);
	const struct state *now = state_now();
	struct subject s = {};
	struct packet p;
	__u8 reason;

	if (!known || !now || at + ETH_HEADER > end)
		return XDP_DROP;
	ethertype = *(const __be16 *)(at + ETH_HEADER - 2);
	s.netns = known->netns;
	s.device = device;
	if (ethertype == bpf_htons(ETH_P_ARP) && is_needed_arp_frame(ctx, device))
		return XDP_PASS;
	reason = (__u8)read_frame(ctx, ethertype, &p);
	if (!reason && addr_is_loopback(p.flow.addr))
		reason = REASON_PACKET;
	if (!reason && p.kind == PACKET_FLOW)
		find_owner(&s, &p);
	if (s.mark != MARK_OWN && !admit(0, &s, &p, reason, epoch_now(now), 1))
		return XDP_DROP;
	learn_outbound(s.netns, &p);
	return XDP_PASS;
}
