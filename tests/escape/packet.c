// SPDX-License-Identifier: Apache-2.0
/* Frames that meet no socket hook: AF_PACKET, AF_XDP, TUN and TAP. */
#include <fcntl.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/if_tun.h>
#include <linux/if_xdp.h>
#include <linux/virtio_net.h>
#include <net/if.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#include "escape.h"

enum frame { PLAIN, QDISC_BYPASS, BROADCAST, ODD_MAC, VLAN_0, VLAN_0_TWICE, VLAN_0_AD, VLAN_5, VNET_HEADER, LLC_SNAP };

static size_t ethernet(const struct context *c, uint8_t *out, const uint8_t to[6], const uint16_t *types, size_t count)
{
	memcpy(out, to, 6);
	memcpy(out + 6, c->own_mac, 6);
	for (size_t i = 0; i < count; i++) {
		uint16_t type = htons(types[i]);

		memcpy(out + 12 + 2 * i, &type, 2);
	}
	return 12 + 2 * count;
}

static size_t frame_head(const struct context *c, enum frame frame, uint8_t *out)
{
	static const uint8_t broadcast[6] = {255, 255, 255, 255, 255, 255};
	uint16_t ip = is_v6(c) ? ETH_P_IPV6 : ETH_P_IP;
	size_t n;

	switch (frame) {
	case BROADCAST: return ethernet(c, out, broadcast, &ip, 1);
	case ODD_MAC:
		n = ethernet(c, out, c->gateway_mac, &ip, 1);
		memcpy(out + 6, (uint8_t[6]){2, 0x65, 0x73, 0x63, 0, 1}, 6);
		return n;
	case VLAN_0: return ethernet(c, out, c->gateway_mac, (uint16_t[]){ETH_P_8021Q, 0, ip}, 3);
	case VLAN_0_AD: return ethernet(c, out, c->gateway_mac, (uint16_t[]){ETH_P_8021AD, 0, ip}, 3);
	case VLAN_5: return ethernet(c, out, c->gateway_mac, (uint16_t[]){ETH_P_8021Q, 5, ip}, 3);
	case VLAN_0_TWICE: return ethernet(c, out, c->gateway_mac, (uint16_t[]){ETH_P_8021Q, 0, ETH_P_8021Q, 0, ip}, 5);
	case LLC_SNAP: return ethernet(c, out, c->gateway_mac, (uint16_t[]){60, 0xaaaa, 0x0300, 0, ip}, 5);
	default: return ethernet(c, out, c->gateway_mac, &ip, 1);
	}
}

static size_t build_frame(const struct context *c, enum frame frame, uint8_t *out)
{
	struct packet p = {};
	size_t head = frame_head(c, frame, out);

	return head + build(c, &p, out + head);
}

static int packet_socket(struct context *c, int type, uint16_t protocol)
{
	struct sockaddr_ll on = {.sll_family = AF_PACKET, .sll_protocol = htons(protocol), .sll_ifindex = (int)c->eth0};
	int fd = socket(AF_PACKET, type | SOCK_CLOEXEC, 0);

	if (fd < 0 || bind(fd, (struct sockaddr *)&on, sizeof(on)) < 0)
		return failed(c, "packet socket");
	return fd;
}

static int packet_frame(struct context *c)
{
	enum frame kind = (enum frame)c->method->variant;
	uint8_t frame[512] = {0};
	size_t at = kind == VNET_HEADER ? sizeof(struct virtio_net_hdr) : 0, length;
	int fd = packet_socket(c, SOCK_RAW, 0), one = 1, result = 0;

	if (fd < 0)
		return fd;
	if (kind == VNET_HEADER && setsockopt(fd, SOL_PACKET, PACKET_VNET_HDR, &one, sizeof(one)) < 0)
		return failed(c, "PACKET_VNET_HDR");
	if (kind == QDISC_BYPASS && setsockopt(fd, SOL_PACKET, PACKET_QDISC_BYPASS, &one, sizeof(one)) < 0)
		return failed(c, "PACKET_QDISC_BYPASS");
	length = build_frame(c, kind, frame + at);
	if (send(fd, frame, at + length, 0) < 0)
		result = failed(c, "send");
	close(fd);
	return result;
}

static int packet_datagram(struct context *c)
{
	struct packet p = {};

	return shoot(c, VIA_PACKET, &p);
}

/* A segment of 3000 bytes that the device is to cut: one frame in the pod, several beyond. */
static int packet_gso(struct context *c)
{
	static char data[2800];
	struct packet p = {.protocol = IPPROTO_TCP, .tcp_flags = TCP_ACK, .payload = data, .payload_length = sizeof(data)};
	uint8_t frame[4096] = {0};
	struct virtio_net_hdr *header = (struct virtio_net_hdr *)frame;
	size_t head, length, transport = is_v6(c) ? 40 : 20;
	int fd = packet_socket(c, SOCK_RAW, 0), one = 1, result = 0;

	if (fd < 0 || setsockopt(fd, SOL_PACKET, PACKET_VNET_HDR, &one, sizeof(one)) < 0)
		return failed(c, "PACKET_VNET_HDR");
	memset(data, '.', sizeof(data));
	memcpy(data + 2000, c->token, TOKEN_LENGTH);
	head = sizeof(*header) + frame_head(c, PLAIN, frame + sizeof(*header));
	length = build(c, &p, frame + head);
	header->flags = VIRTIO_NET_HDR_F_NEEDS_CSUM;
	header->gso_type = is_v6(c) ? VIRTIO_NET_HDR_GSO_TCPV6 : VIRTIO_NET_HDR_GSO_TCPV4;
	header->gso_size = 1000;
	header->csum_start = (uint16_t)(14 + transport);
	header->csum_offset = 16;
	header->hdr_len = (uint16_t)(14 + transport + 20);
	if (send(fd, frame, head + length, 0) < 0)
		result = failed(c, "send");
	close(fd);
	return result;
}

static int packet_ring(struct context *c)
{
	struct tpacket_req request = {.tp_block_size = 4096, .tp_frame_size = 2048, .tp_block_nr = 1, .tp_frame_nr = 2};
	int fd = packet_socket(c, SOCK_RAW, 0), result = 0;
	struct tpacket_hdr *slot;
	uint8_t *ring;

	if (fd < 0)
		return fd;
	if (setsockopt(fd, SOL_PACKET, PACKET_TX_RING, &request, sizeof(request)) < 0)
		return failed(c, "PACKET_TX_RING");
	ring = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (ring == MAP_FAILED)
		return failed(c, "mmap");
	slot = (struct tpacket_hdr *)ring;
	slot->tp_len = (unsigned)build_frame(c, PLAIN, ring + TPACKET_HDRLEN - sizeof(struct sockaddr_ll));
	slot->tp_status = TP_STATUS_SEND_REQUEST;
	if (send(fd, NULL, 0, 0) < 0)
		result = failed(c, "send");
	close(fd);
	return result;
}

/* An ARP packet with a payload: reaches whoever shares the link. */
static int packet_arp(struct context *c)
{
	uint8_t frame[64] = {0};
	size_t at = ethernet(c, frame, c->gateway_mac, (uint16_t[]){ETH_P_ARP, 1, ETH_P_IP, 0x0604, 1}, 5);
	int fd = packet_socket(c, SOCK_RAW, 0), result = 0;

	if (fd < 0)
		return fd;
	memcpy(frame + at, c->own_mac, 6);
	inet_pton(AF_INET, FORBIDDEN_V4, frame + at + 16);
	memcpy(frame + at + 20, c->token, TOKEN_LENGTH);
	if (send(fd, frame, at + 20 + TOKEN_LENGTH, 0) < 0)
		result = failed(c, "send");
	close(fd);
	return result;
}

/* ---- AF_XDP: a descriptor in a ring, and no program is needed to send ---- */

static int xdp_send(struct context *c)
{
	int fd = socket(AF_XDP, SOCK_RAW | SOCK_CLOEXEC, 0);
	uint8_t *area = mmap(NULL, 16384, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	struct xdp_umem_reg registration = {.addr = (uintptr_t)area, .len = 16384, .chunk_size = 4096};
	struct sockaddr_xdp on = {.sxdp_family = AF_XDP, .sxdp_flags = XDP_COPY, .sxdp_ifindex = c->eth0};
	struct xdp_mmap_offsets offsets;
	socklen_t size = sizeof(offsets);
	int entries = 4, result = 0;
	uint8_t *ring;

	if (fd < 0 || setsockopt(fd, SOL_XDP, XDP_UMEM_REG, &registration, sizeof(registration)) < 0)
		return failed(c, "AF_XDP socket");
	setsockopt(fd, SOL_XDP, XDP_UMEM_FILL_RING, &entries, sizeof(entries));
	setsockopt(fd, SOL_XDP, XDP_UMEM_COMPLETION_RING, &entries, sizeof(entries));
	setsockopt(fd, SOL_XDP, XDP_TX_RING, &entries, sizeof(entries));
	if (getsockopt(fd, SOL_XDP, XDP_MMAP_OFFSETS, &offsets, &size) < 0)
		return failed(c, "XDP_MMAP_OFFSETS");
	ring = mmap(NULL, offsets.tx.desc + 4 * sizeof(struct xdp_desc), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd,
		    XDP_PGOFF_TX_RING);
	if (ring == MAP_FAILED)
		return failed(c, "mmap of the ring");
	if (bind(fd, (struct sockaddr *)&on, sizeof(on)) < 0)
		return failed(c, "AF_XDP bind");
	*(struct xdp_desc *)(ring + offsets.tx.desc) = (struct xdp_desc){.addr = 0, .len = (uint32_t)build_frame(c, PLAIN, area)};
	__atomic_store_n((uint32_t *)(ring + offsets.tx.producer), 1, __ATOMIC_RELEASE);
	if (sendto(fd, NULL, 0, MSG_DONTWAIT, NULL, 0) < 0 && errno != EAGAIN && errno != EBUSY)
		result = failed(c, "AF_XDP send");
	pause_ms(20);
	close(fd);
	return result;
}

/* ---- TUN and TAP: packets that the pod's kernel forwards ---- */

static void forward(const struct context *c)
{
	(void)c;
	write_file("/proc/sys/net/ipv4/ip_forward", "1");
	write_file("/proc/sys/net/ipv6/conf/all/forwarding", "1");
}

static void device_name(const struct context *c, char name[IFNAMSIZ])
{
	snprintf(name, IFNAMSIZ, "esc%u", c->port);
}

/* Makes a TUN (or TAP) device that is up and has an address of a network of its own. */
int tun_open(struct context *c, bool tap)
{
	struct ifreq request = {.ifr_flags = (short)((tap ? IFF_TAP : IFF_TUN) | IFF_NO_PI)};
	int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);

	device_name(c, request.ifr_name);
	if (fd < 0 || ioctl(fd, TUNSETIFF, &request) < 0)
		return failed(c, "TUN device");
	if (sh("ip link set %s up && ip addr add 10.99.7.1/24 dev %s && ip -6 addr add fd00:99:7::1/64 dev %s nodad", request.ifr_name,
	       request.ifr_name, request.ifr_name) < 0)
		return failed(c, "TUN address");
	forward(c);
	return fd;
}

static int masquerade(const struct context *c, bool on)
{
	if (!on)
		return sh("nft delete table inet esc%u 2>/dev/null", c->port);
	return sh("printf '%%s\\n' 'table inet esc%u {' 'chain p {' 'type nat hook postrouting priority 100' "
		  "'oifname eth0 ip saddr 10.99.0.0/16 masquerade' 'oifname eth0 ip6 saddr fd00:99::/32 masquerade' '}' '}' | nft -f -",
		  c->port);
}

enum tun { TUN_FOREIGN, TUN_MASQUERADE, TAP_FOREIGN };

static int tun_send(struct context *c)
{
	enum tun kind = (enum tun)c->method->variant;
	int fd = tun_open(c, kind == TAP_FOREIGN), result = 0;
	struct packet p = {.source = is_v6(c) ? "fd00:99:7::2" : "10.99.7.2"};
	uint8_t frame[256];
	size_t at = 0;

	if (fd < 0)
		return fd;
	if (kind == TUN_MASQUERADE && masquerade(c, true) < 0)
		return failed(c, "nft masquerade");
	if (kind == TAP_FOREIGN) {
		char command[128], name[IFNAMSIZ];
		unsigned mac[6];
		FILE *file;

		/* /sys may show another namespace's devices: ask ip. */
		device_name(c, name);
		snprintf(command, sizeof(command), "ip -o link show %s 2>/dev/null | sed 's/.*ether \\([^ ]*\\).*/\\1/' 2>/dev/null", name);
		file = popen(command, "r");
		if (!file || fscanf(file, "%x:%x:%x:%x:%x:%x", mac, mac + 1, mac + 2, mac + 3, mac + 4, mac + 5) != 6)
			return failed(c, "TAP address");
		pclose(file);
		at = frame_head(c, PLAIN, frame);
		for (int i = 0; i < 6; i++)
			frame[i] = (uint8_t)mac[i];
	}
	if (write(fd, frame, at + build(c, &p, frame + at)) < 0)
		result = failed(c, "write");
	pause_ms(30);
	close(fd);
	return result;
}

static void tun_undo(struct context *c)
{
	masquerade(c, false);
}

/* A packet to the forbidden address that lo receives, and the pod's kernel forwards. */
static int lo_forward(struct context *c)
{
	struct packet p = {};
	uint8_t packet[256], zero[6] = {0};
	struct sockaddr_ll to = {.sll_family = AF_PACKET, .sll_protocol = htons(is_v6(c) ? ETH_P_IPV6 : ETH_P_IP),
				 .sll_ifindex = (int)if_nametoindex("lo"), .sll_halen = 6};
	int fd = socket(AF_PACKET, SOCK_DGRAM | SOCK_CLOEXEC, 0), result = 0;

	forward(c);
	write_file("/proc/sys/net/ipv4/conf/lo/accept_local", "1");
	memcpy(to.sll_addr, zero, 6);
	if (fd < 0 || sendto(fd, packet, build(c, &p, packet), 0, (struct sockaddr *)&to, sizeof(to)) < 0)
		result = failed(c, "packet sendto");
	pause_ms(20);
	close(fd);
	return result;
}

/* Segments to a service whose name must be checked, past the redirector. */
static int named_frame(struct context *c)
{
	struct packet p = {.protocol = IPPROTO_TCP, .tcp_flags = (uint8_t)c->method->variant, .sequence = 7, .destination_port = 443,
			   .destination = is_v6(c) ? NAMED_V6 : NAMED_V4};

	return shoot(c, VIA_PACKET, &p);
}

/* A segment without payload: the token is its two sequence numbers. */
static int empty_frame(struct context *c)
{
	struct packet p = {.protocol = IPPROTO_TCP, .tcp_flags = TCP_ACK, .no_payload = true, .destination_port = 443,
			   .destination = is_v6(c) ? NAMED_V6 : NAMED_V4};
	uint32_t words[2];

	memcpy(words, c->token, TOKEN_LENGTH);
	p.sequence = ntohl(words[0]);
	p.acknowledgment = ntohl(words[1]);
	return shoot(c, VIA_PACKET, &p);
}

/* To what is beyond the pod and not the internet. */
static int frame_to(struct context *c)
{
	bool node = c->method->variant;
	struct packet p = {.destination = node ? is_v6(c) ? "2001:db8:51::2" : "198.51.100.2"
					       : getenv(is_v6(c) ? "ESCAPE_OTHER_V6" : "ESCAPE_OTHER_V4")};

	return shoot(c, VIA_PACKET, &p);
}

/* Multicast to the link, which a router may carry on. */
static int multicast(struct context *c)
{
	struct endpoint to = endpoint_at("239.7.7.7", "ff0e::777", c, c->port);
	int fd = socket_for(c, SOCK_DGRAM, 0), index = (int)c->eth0, ttl = 8, result;

	if (fd < 0)
		return failed(c, "socket");
	if (is_v6(c))
		setsockopt(fd, IPPROTO_IPV6, IPV6_MULTICAST_IF, &index, sizeof(index));
	else
		setsockopt(fd, IPPROTO_IP, IP_MULTICAST_TTL, &ttl, sizeof(ttl));
	result = sendto(fd, c->token, TOKEN_LENGTH, 0, (struct sockaddr *)&to.addr, to.length) < 0 ? failed(c, "sendto") : 0;
	close(fd);
	return result;
}

const struct method packet_methods[] = {
	{"packet-raw", "AF_PACKET, whole frame", "NET_RAW", V4 | V6, TUPLE, packet_frame, NULL, PLAIN},
	{"packet-dgram", "AF_PACKET, SOCK_DGRAM", "NET_RAW", V4 | V6, TUPLE, packet_datagram, NULL, 0},
	{"packet-bypass", "AF_PACKET with PACKET_QDISC_BYPASS", "NET_RAW", V4 | V6, TUPLE, packet_frame, NULL, QDISC_BYPASS},
	{"packet-ring", "AF_PACKET by a mapped ring", "NET_RAW", V4 | V6, TUPLE, packet_ring, NULL, 0},
	{"packet-vnet", "AF_PACKET with a virtio header", "NET_RAW", V4 | V6, TUPLE, packet_frame, NULL, VNET_HEADER},
	{"packet-gso", "AF_PACKET, a TCP segment for the device to cut", "NET_RAW", V4 | V6, TUPLE, packet_gso, NULL, 0},
	{"packet-mac", "AF_PACKET, another source MAC", "NET_RAW", V4 | V6, TUPLE, packet_frame, NULL, ODD_MAC},
	{"packet-vlan0", "AF_PACKET, 802.1Q priority tag", "NET_RAW", V4 | V6, TUPLE, packet_frame, NULL, VLAN_0},
	{"packet-vlan0-ad", "AF_PACKET, 802.1ad priority tag", "NET_RAW", V4 | V6, TUPLE | MAY_LACK, packet_frame, NULL, VLAN_0_AD},
	{"packet-vlan0-twice", "AF_PACKET, two priority tags: the second is taken off after tc", "NET_RAW", V4 | V6, TUPLE | MAY_LACK,
	 packet_frame, NULL, VLAN_0_TWICE},
	{"packet-vlan5", "AF_PACKET, tag of a VLAN", "NET_RAW", V4, MAY_LACK, packet_frame, NULL, VLAN_5},
	{"packet-broadcast", "AF_PACKET to the broadcast MAC", "NET_RAW", V4 | V6, MAY_LACK, packet_frame, NULL, BROADCAST},
	{"packet-snap", "AF_PACKET, IP in LLC/SNAP", "NET_RAW", V4, MAY_LACK, packet_frame, NULL, LLC_SNAP},
	{"packet-arp", "ARP with a payload", "NET_RAW", V4, MAY_LACK, packet_arp, NULL, 0},
	{"packet-lo", "AF_PACKET on lo, forwarded by the pod", "NET_RAW, NET_ADMIN", V4 | V6, TUPLE | MAY_LACK, lo_forward, NULL, 0},
	{"xdp-send", "AF_XDP", "NET_RAW", V4 | V6, TUPLE | MAY_LACK, xdp_send, NULL, 0},
	{"tun", "TUN, forwarded by the pod with its own source", "NET_ADMIN", V4 | V6, TUPLE, tun_send, tun_undo, TUN_FOREIGN},
	{"tun-masquerade", "TUN, masqueraded as the pod", "NET_ADMIN", V4 | V6, TUPLE, tun_send, tun_undo, TUN_MASQUERADE},
	{"tap", "TAP, forwarded by the pod", "NET_ADMIN", V4 | V6, TUPLE, tun_send, tun_undo, TAP_FOREIGN},
	{"named-syn-frame", "a frame to a TLS service: SYN with data, past the redirector", "NET_RAW", V4 | V6, 0, named_frame, NULL, TCP_SYN},
	{"named-data-frame", "a frame to a TLS service: data, past the redirector", "NET_RAW", V4 | V6, 0, named_frame, NULL,
	 TCP_ACK | TCP_PSH},
	{"named-empty-frame", "a frame to a TLS service: an empty segment may pass, it cannot be told from the kernel's", "NET_RAW", V4 | V6, LIMIT,
	 empty_frame, NULL, 0},
	{"other-pod-frame", "a frame to another pod", "NET_RAW", V4 | V6, 0, frame_to, NULL, 0},
	{"node-frame", "a frame to the node itself", "NET_RAW", V4 | V6, 0, frame_to, NULL, 1},
	{"multicast", "UDP multicast", "", V4 | V6, MAY_LACK, multicast, NULL, 0},
	{0},
};
