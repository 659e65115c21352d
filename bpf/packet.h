/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * What a packet says of itself: where it really goes, and whether it could be part of an open flow. Everything that
 * cannot be read to its end, or that hides where it goes, has a reason to be dropped.
 */
#ifndef SLUICE_PACKET_H
#define SLUICE_PACKET_H

#include "judge.h"

#define ETH_P_IP 0x0800
#define ETH_P_IPV6 0x86dd
#define ETH_P_ARP 0x0806
#define ETH_HEADER 14

#define PROTOCOL_ICMP 1
#define PROTOCOL_ICMPV6 58
#define IPV6_HOP_BY_HOP 0
#define IPV6_ROUTING 43
#define IPV6_FRAGMENT 44
#define IPV6_DEST_OPTIONS 60
#define IPV6_MAX_HEADERS 4 /* before the transport header; no real packet has more */
#define ICMP_ERROR_MAX 1280 /* RFC 4443 §2.4(c): an error fits the minimum MTU; RFC 1812: 576 for IPv4 */

#define TCP_FIN 0x01
#define TCP_SYN 0x02
#define TCP_RST 0x04
#define TCP_ACK 0x10
#define TCP_URG 0x20

enum packet_kind {
	PACKET_FLOW,    /* of a flow: TCP, UDP, ICMP echo and whatever else there is */
	PACKET_ERROR,   /* an ICMP error: `flow` is the one it tells of */
	PACKET_LINK,    /* neighbour or multicast listener discovery, which no router forwards */
	PACKET_SOLICIT, /* neighbour discovery between addresses that are not of the link only: a question */
	PACKET_ADVERT,  /* and its answer */
	PACKET_TRAILER, /* not the first fragment of a datagram */
};

struct packet {
	struct flow flow;     /* peer: the destination; of an inbound packet the source */
	__u8 own[16];         /* the other address */
	__u16 own_port;       /* host order */
	__u8 kind;            /* enum packet_kind */
	__u8 protocol;        /* IANA number; ICMPv6 as ICMP */
	__u8 opens;           /* a TCP SYN without ACK, an ICMP echo request; UDP cannot tell */
	__u8 empty;           /* TCP that carries no data and opens nothing: all that the kernel's own sockets send */
	__u8 is_fragment;
	__u8 tcp_flags;
	__u32 fragment_id;
	__u16 start;          /* where its network header is in the data: after an Ethernet header on a link */
	/* of TCP: */
	__u16 options;        /* where they are, from the network header */
	__u16 payload;        /* where it is */
	__u16 pad;
	__u32 seq, ack;
	__u32 size;           /* of the payload; UNKNOWN_SIZE where the headers do not say */
};

#define UNKNOWN_SIZE 0x7fffffff

/* What is read of the kernel's own structures. */
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
	__u32 end;
} __attribute__((preserve_access_index));

extern void *bpf_cast_to_kern_ctx(void *) __ksym __weak; /* Linux 6.2; weak, so that the other programs load without */
extern void *bpf_rdonly_cast(const void *, __u32) __ksym __weak;

/* As bpf_get_netns_cookie(), which before Linux 6.15 no cgroup_skb program may call. */
SLUICE_INLINE __u64 netns_of(struct __sk_buff *skb)
{
	const struct sk_buff *kernel = bpf_cast_to_kern_ctx(skb);
	const struct sock *sk = kernel->sk;

	return sk ? sk->__sk_common.skc_net.net->net_cookie : 0;
}

/* A packet's bytes and what its headers do not tell. */
struct frame {
	void *ctx;      /* struct __sk_buff; struct xdp_md where `in_driver` */
	__u32 len;      /* from the Ethernet header on a link, from the network header at a socket */
	__u32 gso_size; /* 0: it is not to be cut into segments */
	int in_driver;
};

/* `offset`: from the network header. */
SLUICE_INLINE int load(const struct frame *f, __u32 offset, void *out, __u32 size)
{
	if (f->in_driver)
		return bpf_xdp_load_bytes(f->ctx, ETH_HEADER + offset, out, size) == 0;
	return bpf_skb_load_bytes_relative(f->ctx, offset, out, size, BPF_HDR_START_NET) == 0;
}

/* Sets `flow.port` and `own_port`. Ports of an inbound packet are the other way round. */
SLUICE_INLINE void set_ports(struct packet *p, const __be16 ports[2], int inbound)
{
	__u16 source = bpf_ntohs(ports[0]), dest = bpf_ntohs(ports[1]);

	p->flow.port = inbound ? source : dest;
	p->own_port = inbound ? dest : source;
}

SLUICE_INLINE __u8 read_tcp(const struct frame *f, __u32 offset, __u32 end, int inbound, struct packet *p)
{
	struct {
		__be16 ports[2];
		__be32 seq, ack;
		__u8 data_offset;
		__u8 flags;
		__be16 window, checksum, urgent;
	} tcp;
	__u32 header;

	if (!load(f, offset, &tcp, sizeof(tcp)))
		return REASON_PACKET;
	set_ports(p, tcp.ports, inbound);
	header = (tcp.data_offset >> 4) * 4;
	if (header < sizeof(tcp) || (end && offset + header > end))
		return REASON_PACKET;
	/* What is cut into segments is all of it, whatever its header says (PACKET_VNET_HDR). */
	if (end && f->gso_size && end != f->len && end + ETH_HEADER != f->len)
		return REASON_PACKET;
	p->seq = bpf_ntohl(tcp.seq);
	p->ack = bpf_ntohl(tcp.ack);
	p->options = (__u16)(offset + sizeof(tcp));
	p->payload = (__u16)(offset + header);
	p->size = !end ? UNKNOWN_SIZE : end > p->payload ? end - p->payload : 0;
	p->tcp_flags = tcp.flags;
	p->opens = (tcp.flags & (TCP_SYN | TCP_ACK)) == TCP_SYN;
	p->empty = !(tcp.flags & TCP_SYN) && !p->size;
	return REASON_NONE;
}

SLUICE_INLINE __u8 read_udp(const struct frame *f, __u32 offset, int inbound, struct packet *p)
{
	__be16 udp[4];

	if (!load(f, offset, udp, sizeof(udp)))
		return REASON_PACKET;
	set_ports(p, udp, inbound);
	return REASON_NONE;
}

/*
 * The flow that an ICMP error tells of: that of the packet it quotes, seen from the same side. It goes to whom that
 * packet came from: to anybody else it would only carry what it quotes.
 */
SLUICE_INLINE __u8 read_error(const struct frame *f, __u32 offset, int v6, int inbound, struct packet *p)
{
	__u8 peer[16], quoted[40], protocol;
	__be16 ports[2];
	__u32 transport;

	if (v6) {
		if (!load(f, offset, quoted, 40))
			return REASON_PACKET;
		protocol = quoted[6];
		if (inbound)
			__builtin_memcpy(peer, quoted + 24, 16);
		else
			__builtin_memcpy(peer, quoted + 8, 16);
		transport = offset + 40;
	} else {
		if (!load(f, offset, quoted, 20))
			return REASON_PACKET;
		protocol = quoted[9];
		if (inbound)
			addr_from_v4(peer, quoted + 16);
		else
			addr_from_v4(peer, quoted + 12);
		transport = offset + (quoted[0] & 15) * 4;
	}
	if (!inbound && !words_equal(peer, p->flow.addr, 4))
		return REASON_PACKET;
	__builtin_memcpy(p->flow.addr, peer, 16);
	p->kind = PACKET_ERROR;
	p->protocol = protocol == PROTOCOL_ICMPV6 ? PROTOCOL_ICMP : protocol;
	p->flow.protocol = protocol;
	if (protocol != SLUICE_TCP && protocol != SLUICE_UDP)
		return REASON_NONE;
	if (!load(f, transport, ports, sizeof(ports)))
		return REASON_PACKET;
	/* What an outgoing error quotes came in: there the peer is the source. */
	set_ports(p, ports, !inbound);
	return REASON_NONE;
}

SLUICE_INLINE __u8 read_icmp(const struct frame *f, __u32 offset, int inbound, struct packet *p)
{
	__u8 icmp[8];
	__u16 id;

	if (!load(f, offset, icmp, sizeof(icmp)))
		return REASON_PACKET;
	if (icmp[0] == 3 || icmp[0] == 11 || icmp[0] == 12)
		return f->len > ICMP_ERROR_MAX + 14 ? REASON_PACKET : read_error(f, offset + 8, 0, inbound, p);
	if (icmp[0] != 8 && icmp[0] != 0)
		return REASON_NONE;
	id = (__u16)(icmp[4] << 8 | icmp[5]);
	p->own_port = id;
	p->opens = icmp[0] == 8;
	return REASON_NONE;
}

/* RFC 4861 §4, RFC 3810 §5: a hop limit of 255 or 1 and an address of this link tell that it stays on the link. */
SLUICE_INLINE __u8 read_icmpv6(const struct frame *f, __u32 offset, __u8 hop_limit, int inbound, struct packet *p)
{
	__u8 icmp[8];
	int stays = p->flow.addr[0] == 0xff ? p->flow.addr[1] == 2
					    : p->flow.addr[0] == 0xfe && (p->flow.addr[1] & 0xc0) == 0x80;

	if (!load(f, offset, icmp, sizeof(icmp)))
		return REASON_PACKET;
	if (icmp[0] >= 1 && icmp[0] <= 4)
		return f->len > ICMP_ERROR_MAX + 14 ? REASON_PACKET : read_error(f, offset + 8, 1, inbound, p);
	if (icmp[0] == 128 || icmp[0] == 129) {
		p->own_port = (__u16)(icmp[4] << 8 | icmp[5]);
		p->opens = icmp[0] == 128;
	} else if (icmp[0] == 135 && hop_limit == 255) {
		p->kind = stays ? PACKET_LINK : PACKET_SOLICIT;
	} else if (icmp[0] == 136 && hop_limit == 255) {
		p->kind = stays ? PACKET_LINK : PACKET_ADVERT;
	} else if (stays && ((icmp[0] == 133 && hop_limit == 255) ||
			     ((icmp[0] == 131 || icmp[0] == 132 || icmp[0] == 143) && hop_limit == 1))) {
		p->kind = PACKET_LINK;
	}
	return REASON_NONE;
}

#define TRANSPORT_MIN 8 /* of UDP and ICMP; TCP's is checked with its data offset */

SLUICE_INLINE int protocol_has_ports(__u8 protocol)
{
	return protocol == SLUICE_TCP || protocol == SLUICE_UDP || protocol == IPPROTO_UDPLITE || protocol == PROTOCOL_ICMP ||
	       protocol == PROTOCOL_ICMPV6;
}

SLUICE_INLINE __u8 read_transport(const struct frame *f, __u8 protocol, __u32 offset, __u32 end, __u8 hop_limit, int inbound,
				  struct packet *p)
{
	p->protocol = protocol == PROTOCOL_ICMPV6 ? PROTOCOL_ICMP : protocol;
	p->flow.protocol = protocol == IPPROTO_UDPLITE ? SLUICE_UDP : protocol;
	/*
	 * What lies behind the end that its header tells, the next router cuts off: it must not be taken for the ports. A
	 * header without an end is of a packet that is yet to be cut into segments.
	 */
	if (end ? offset + TRANSPORT_MIN > end && protocol_has_ports(protocol) : !f->gso_size)
		return REASON_PACKET;
	if (protocol == SLUICE_TCP)
		return read_tcp(f, offset, end, inbound, p);
	if (protocol == SLUICE_UDP || protocol == IPPROTO_UDPLITE)
		return read_udp(f, offset, inbound, p);
	if (protocol == PROTOCOL_ICMP)
		return read_icmp(f, offset, inbound, p);
	if (protocol == PROTOCOL_ICMPV6)
		return read_icmpv6(f, offset, hop_limit, inbound, p);
	return REASON_NONE;
}

/* A later fragment, or a first one with all the ports in it. RFC 1858, RFC 5722: none may overwrite them. */
SLUICE_INLINE __u8 read_fragment(struct packet *p, __u32 id, __u16 offset, __u8 protocol)
{
	p->is_fragment = 1;
	p->fragment_id = id;
	p->protocol = protocol;
	if (!offset)
		return REASON_NONE;
	p->kind = PACKET_TRAILER;
	return offset < 64 ? REASON_FRAGMENT : REASON_NONE;
}

SLUICE_INLINE __u8 read_v4(const struct frame *f, int inbound, struct packet *p)
{
	struct {
		__u8 version_length;
		__u8 tos;
		__be16 total;
		__be16 id;
		__be16 fragment;
		__u8 ttl;
		__u8 protocol;
		__be16 checksum;
		__u32 source, dest;
	} ip;
	__u16 fragment, total;

	if (!load(f, 0, &ip, sizeof(ip)) || ip.version_length >> 4 != 4)
		return REASON_PACKET;
	if (inbound) {
		addr_from_v4(p->flow.addr, &ip.source);
		addr_from_v4(p->own, &ip.dest);
	} else {
		addr_from_v4(p->flow.addr, &ip.dest);
		addr_from_v4(p->own, &ip.source);
	}
	if (ip.version_length != 0x45)
		return REASON_SOURCE_ROUTE;
	total = bpf_ntohs(ip.total); /* 0: longer than 65535, as a GSO packet may be */
	if (total && total < sizeof(ip))
		return REASON_PACKET;
	fragment = bpf_ntohs(ip.fragment);
	if (fragment & 0x3fff) {
		__u8 reason = read_fragment(p, bpf_ntohs(ip.id), (fragment & 0x1fff) * 8, ip.protocol);

		if (reason || p->kind == PACKET_TRAILER)
			return reason;
	}
	return ip.protocol == PROTOCOL_ICMPV6 ? REASON_PACKET
					      : read_transport(f, ip.protocol, sizeof(ip), total, ip.ttl, inbound, p);
}

SLUICE_INLINE __u8 read_v6(const struct frame *f, int inbound, struct packet *p)
{
	struct {
		__be32 version_class_label;
		__be16 payload;
		__u8 next;
		__u8 hop_limit;
		__u8 source[16], dest[16];
	} ip;
	__u32 offset = sizeof(ip), end;
	__u8 next;

	if (!load(f, 0, &ip, sizeof(ip)) || bpf_ntohl(ip.version_class_label) >> 28 != 6)
		return REASON_PACKET;
	if (inbound) {
		__builtin_memcpy(p->flow.addr, ip.source, 16);
		__builtin_memcpy(p->own, ip.dest, 16);
	} else {
		__builtin_memcpy(p->flow.addr, ip.dest, 16);
		__builtin_memcpy(p->own, ip.source, 16);
	}
	end = ip.payload ? sizeof(ip) + bpf_ntohs(ip.payload) : 0;
	next = ip.next;
	for (int i = 0; i < IPV6_MAX_HEADERS; i++) {
		__u8 header[8];

		if (next == IPV6_ROUTING)
			return REASON_SOURCE_ROUTE;
		if (next != IPV6_HOP_BY_HOP && next != IPV6_DEST_OPTIONS && next != IPV6_FRAGMENT)
			return next == PROTOCOL_ICMP ? REASON_PACKET
						     : read_transport(f, next, offset, end, ip.hop_limit, inbound, p);
		if (!load(f, offset, header, sizeof(header)) || (end && offset + sizeof(header) > end))
			return REASON_PACKET;
		if (next == IPV6_FRAGMENT) {
			__u16 fragment = (__u16)(header[2] << 8 | header[3]);
			__u32 id;

			__builtin_memcpy(&id, header + 4, 4);
			if (fragment & 0xfff9) { /* else an atomic one: RFC 6946 */
				__u8 reason = read_fragment(p, id, fragment & 0xfff8, header[0]);

				if (reason || p->kind == PACKET_TRAILER)
					return reason;
			}
			offset += 8;
		} else {
			offset += (header[1] + 1) * 8;
		}
		next = header[0];
	}
	return REASON_PACKET;
}

/*
 * The common case, without a call: a whole TCP segment over IPv4, or over IPv6 without extension headers, whose headers
 * are where the program may read them; `start`: where its network header is in that. Sets `flow`, `own`, `own_port`,
 * `protocol` and `tcp_flags` only. 0: it is another packet, or read_packet() has to look closer.
 */
SLUICE_INLINE int read_plain_tcp(struct __sk_buff *skb, const __u32 start, struct packet *p, const int inbound)
{
	const __u8 *at = (const __u8 *)(long)skb->data + start, *end = (const __u8 *)(long)skb->data_end;
	const __u8 *tcp;
	__u32 length;

	if (skb->protocol == bpf_htons(ETH_P_IP)) {
		tcp = at + 20;
		if (tcp + 20 > end || at[0] != 0x45 || at[9] != SLUICE_TCP || (*(const __be16 *)(at + 6) & bpf_htons(0x3fff)))
			return 0;
		length = bpf_ntohs(*(const __be16 *)(at + 2));
		if (length < 40)
			return 0;
		length -= 20;
		addr_from_v4(p->flow.addr, at + (inbound ? 12 : 16));
		addr_from_v4(p->own, at + (inbound ? 16 : 12));
	} else if (skb->protocol == bpf_htons(ETH_P_IPV6)) {
		tcp = at + 40;
		if (tcp + 20 > end || at[0] >> 4 != 6 || at[6] != SLUICE_TCP)
			return 0;
		length = bpf_ntohs(*(const __be16 *)(at + 4));
		__builtin_memcpy(p->flow.addr, at + (inbound ? 8 : 24), 16);
		__builtin_memcpy(p->own, at + (inbound ? 24 : 8), 16);
	} else {
		return 0;
	}
	if (skb->gso_size || tcp[12] >> 4 < 5 || (tcp[12] >> 4) * 4 > length)
		return 0;
	p->flow.port = bpf_ntohs(*(const __be16 *)(tcp + (inbound ? 0 : 2)));
	p->flow.protocol = SLUICE_TCP;
	p->flow.pad = 0;
	p->own_port = bpf_ntohs(*(const __be16 *)(tcp + (inbound ? 2 : 0)));
	p->protocol = SLUICE_TCP;
	p->tcp_flags = tcp[13];
	return 1;
}

SLUICE_INLINE int read_network(const struct frame *f, __be16 ethertype, struct packet *p, int inbound)
{
	__builtin_memset(p, 0, sizeof(*p));
	if (ethertype == bpf_htons(ETH_P_IP))
		return read_v4(f, inbound, p);
	if (ethertype == bpf_htons(ETH_P_IPV6))
		return read_v6(f, inbound, p);
	return REASON_FRAME;
}

/* Reads a packet. Returns why it must not pass, or REASON_NONE. */
__noinline int read_packet(struct __sk_buff *skb, struct packet *p, int inbound)
{
	struct frame f = {skb, skb->len, skb->gso_size, 0};

	return p ? read_network(&f, (__be16)skb->protocol, p, inbound) : REASON_PACKET;
}

SLUICE_INLINE void exchange_key_fill(struct exchange_key *key, __u64 cookie, const struct packet *p)
{
	__builtin_memset(key, 0, sizeof(*key));
	key->netns = cookie;
	__builtin_memcpy(key->peer, p->flow.addr, 16);
	key->peer_port = p->flow.port;
	key->own_port = p->own_port;
	key->protocol = p->protocol;
}

#endif
