// SPDX-License-Identifier: Apache-2.0
/* Sockets that were there before sluice attached, or before the policy forbade what they reach. */
#include <fcntl.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <sys/mman.h>
#include <sys/sendfile.h>

#include "escape.h"

enum prepared { TCP_SEND, TCP_SENDFILE, TCP_SPLICE, TCP_ZEROCOPY, MPTCP_SEND, UDP_CONNECTED, UDP_UNCONNECTED, RAW_SOCKET, PACKET_SOCKET };

static int token_file(const struct context *c)
{
	int fd = memfd_create("token", MFD_CLOEXEC);

	if (fd >= 0 && write(fd, c->token, TOKEN_LENGTH) == TOKEN_LENGTH)
		lseek(fd, 0, SEEK_SET);
	return fd;
}

static int send_by(struct context *c, int fd, enum prepared how)
{
	int ends[2], file = token_file(c), one = 1;
	ssize_t n = -1;

	switch (how) {
	case TCP_SENDFILE:
		n = sendfile(fd, file, NULL, TOKEN_LENGTH);
		break;
	case TCP_SPLICE:
		if (pipe(ends) == 0 && splice(file, NULL, ends[1], NULL, TOKEN_LENGTH, 0) > 0)
			n = splice(ends[0], NULL, fd, NULL, TOKEN_LENGTH, 0);
		break;
	case TCP_ZEROCOPY:
		setsockopt(fd, SOL_SOCKET, SO_ZEROCOPY, &one, sizeof(one));
		n = send(fd, c->token, TOKEN_LENGTH, MSG_ZEROCOPY | MSG_NOSIGNAL);
		break;
	default:
		n = send(fd, c->token, TOKEN_LENGTH, MSG_NOSIGNAL);
	}
	close(file);
	return n < 0 ? failed(c, "send") : await_echo(c, fd);
}

static int stream(struct context *c, enum prepared how)
{
	int fd = socket_for(c, SOCK_STREAM, how == MPTCP_SEND ? 262 : 0), result;

	if (fd < 0)
		return failed(c, "socket");
	result = dial(c, fd, &c->to);
	await_release(c);
	if (result == 0)
		result = send_by(c, fd, how);
	close_hard(fd);
	return result;
}

static int prepared(struct context *c)
{
	enum prepared how = (enum prepared)c->method->variant;
	struct sockaddr_ll frame = {.sll_family = AF_PACKET, .sll_protocol = htons(is_v6(c) ? ETH_P_IPV6 : ETH_P_IP),
				    .sll_ifindex = (int)c->eth0, .sll_halen = 6};
	struct packet p = {};
	struct endpoint to = with_port(c->to, 0);
	uint8_t packet[256];
	size_t length = build(c, &p, packet);
	int fd, result = 0;

	memcpy(frame.sll_addr, c->gateway_mac, 6);
	switch (how) {
	case UDP_CONNECTED:
	case UDP_UNCONNECTED:
		fd = socket_for(c, SOCK_DGRAM, 0);
		if (how == UDP_CONNECTED && connect(fd, (struct sockaddr *)&c->to.addr, c->to.length) < 0)
			result = failed(c, "connect");
		await_release(c);
		if (result == 0)
			result = how == UDP_CONNECTED ? tell(c, fd) : tell_to(c, fd, &c->to);
		break;
	case RAW_SOCKET:
		fd = socket_for(c, SOCK_RAW, IPPROTO_RAW);
		await_release(c);
		if (fd < 0 || sendto(fd, packet, length, 0, (struct sockaddr *)&to.addr, to.length) < 0)
			result = failed(c, "raw sendto");
		break;
	case PACKET_SOCKET:
		fd = socket(AF_PACKET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
		await_release(c);
		if (fd < 0 || sendto(fd, packet, length, 0, (struct sockaddr *)&frame, sizeof(frame)) < 0)
			result = failed(c, "packet sendto");
		break;
	default: return stream(c, how);
	}
	close(fd);
	return result;
}

#define BOTH(name, what, needs, flags, how)                                                                            \
	{name "-attach", what ", before sluice attached", needs, V4 | V6, (flags) | AT_ATTACH, prepared, NULL, how},   \
	{name "-policy", what ", before the policy forbade it", needs, V4 | V6, (flags) | AT_POLICY, prepared, NULL, how}

const struct method prepared_methods[] = {
	BOTH("open-tcp", "TCP connection", "", LEGIT, TCP_SEND),
	BOTH("open-sendfile", "TCP connection, sendfile", "", LEGIT, TCP_SENDFILE),
	BOTH("open-splice", "TCP connection, splice", "", LEGIT, TCP_SPLICE),
	BOTH("open-zerocopy", "TCP connection, MSG_ZEROCOPY", "", LEGIT, TCP_ZEROCOPY),
	BOTH("open-mptcp", "MPTCP connection", "", LEGIT | MAY_LACK, MPTCP_SEND),
	BOTH("open-udp", "connected UDP socket", "", LEGIT, UDP_CONNECTED),
	BOTH("open-udp-sendto", "UDP socket, unconnected", "", LEGIT, UDP_UNCONNECTED),
	BOTH("open-raw", "raw socket", "NET_RAW", 0, RAW_SOCKET),
	BOTH("open-packet", "packet socket", "NET_RAW", 0, PACKET_SOCKET),
	{0},
};
