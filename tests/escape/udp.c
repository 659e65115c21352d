// SPDX-License-Identifier: Apache-2.0
/* UDP, UDP-Lite and ping sockets. */
#include <linux/if.h>
#include <netinet/icmp6.h>
#include <netinet/ip_icmp.h>
#include <netinet/udp.h>
#include <pthread.h>

#include "escape.h"

#define UDP_SEGMENT_ 103

static int udp_sendto(struct context *c)
{
	return udp_to(c, &c->to);
}

static int udp_socket(struct context *c)
{
	return socket_for(c, SOCK_DGRAM, c->method->variant == IPPROTO_UDPLITE ? IPPROTO_UDPLITE : 0);
}

static int udp_connect(struct context *c)
{
	int fd = udp_socket(c), result;

	if (fd < 0)
		return failed(c, "socket");
	if (connect(fd, (struct sockaddr *)&c->to.addr, c->to.length) < 0)
		result = failed(c, "connect");
	else
		result = tell(c, fd);
	close(fd);
	return result;
}

static int udplite_sendto(struct context *c)
{
	int fd = socket_for(c, SOCK_DGRAM, IPPROTO_UDPLITE), result;

	if (fd < 0)
		return failed(c, "UDP-Lite socket");
	result = tell_to(c, fd, &c->to);
	close(fd);
	return result;
}

/* Connected to the allowed address; the datagram names another one. */
static int udp_connected_sendto(struct context *c)
{
	int fd = socket_for(c, SOCK_DGRAM, 0), result;

	if (fd < 0)
		return failed(c, "socket");
	if (connect(fd, (struct sockaddr *)&c->decoy.addr, c->decoy.length) < 0)
		result = failed(c, "connect to the allowed address");
	else
		result = tell_to(c, fd, &c->to);
	close(fd);
	return result;
}

static int udp_unspec(struct context *c)
{
	struct sockaddr nobody = {.sa_family = AF_UNSPEC};
	int fd = socket_for(c, SOCK_DGRAM, 0), result;

	if (fd < 0)
		return failed(c, "socket");
	if (connect(fd, (struct sockaddr *)&c->decoy.addr, c->decoy.length) < 0 || send(fd, "x", 1, 0) < 0 ||
	    connect(fd, &nobody, sizeof(nobody)) < 0)
		result = failed(c, "connect to the allowed address");
	else if (connect(fd, (struct sockaddr *)&c->to.addr, c->to.length) < 0)
		result = failed(c, "connect");
	else
		result = tell(c, fd);
	close(fd);
	return result;
}

static int udp_sendmmsg(struct context *c)
{
	struct iovec data = {c->token, TOKEN_LENGTH};
	struct mmsghdr messages[2] = {};
	int fd = socket_for(c, SOCK_DGRAM, 0), result;

	if (fd < 0)
		return failed(c, "socket");
	for (int i = 0; i < 2; i++) {
		/* The first one to the allowed address. */
		struct endpoint *to = i ? &c->to : &c->decoy;

		messages[i].msg_hdr = (struct msghdr){.msg_name = &to->addr, .msg_namelen = to->length, .msg_iov = &data, .msg_iovlen = 1};
	}
	messages[0].msg_hdr.msg_iov = &(struct iovec){"x", 1};
	if (sendmmsg(fd, messages, 2, 0) < 2)
		result = failed(c, "sendmmsg");
	else
		result = await_echo(c, fd);
	close(fd);
	return result;
}

/* A v4 sockaddr on a v6 socket enters sendmsg4 with family AF_INET6. */
static int udp_v4_on_v6(struct context *c)
{
	int fd = socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0), result;

	if (fd < 0)
		return failed(c, "socket");
	if (c->method->variant)
		result = connect(fd, (struct sockaddr *)&c->to.addr, c->to.length) < 0 ? failed(c, "connect") : tell(c, fd);
	else
		result = tell_to(c, fd, &c->to);
	close(fd);
	return result;
}

static int udp_option(struct context *c)
{
	int variant = c->method->variant, fd = socket_for(c, SOCK_DGRAM, 0), one = 1, segment = TOKEN_LENGTH, result;
	char twice[2 * TOKEN_LENGTH];

	if (fd < 0)
		return failed(c, "socket");
	memcpy(twice, c->token, TOKEN_LENGTH);
	memcpy(twice + TOKEN_LENGTH, c->token, TOKEN_LENGTH);
	if (variant == UDP_SEGMENT_) {
		setsockopt(fd, IPPROTO_UDP, UDP_SEGMENT_, &segment, sizeof(segment));
	} else if (variant == SO_ZEROCOPY) {
		setsockopt(fd, SOL_SOCKET, SO_ZEROCOPY, &one, sizeof(one));
	} else if (variant == UDP_CORK) {
		setsockopt(fd, IPPROTO_UDP, UDP_CORK, &one, sizeof(one));
	} else {
		setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, "eth0", 5);
	}
	if (sendto(fd, twice, sizeof(twice), variant == SO_ZEROCOPY ? MSG_ZEROCOPY : 0, (struct sockaddr *)&c->to.addr, c->to.length) < 0) {
		result = failed(c, "sendto");
	} else {
		one = 0;
		if (variant == UDP_CORK)
			setsockopt(fd, IPPROTO_UDP, UDP_CORK, &one, sizeof(one));
		result = await_echo(c, fd);
	}
	close(fd);
	return result;
}

/* The interface and the source address in ancillary data. */
static int udp_pktinfo(struct context *c)
{
	char control[128] = {0};
	struct iovec data = {c->token, TOKEN_LENGTH};
	struct msghdr message = {.msg_name = &c->to.addr, .msg_namelen = c->to.length, .msg_iov = &data, .msg_iovlen = 1,
				 .msg_control = control, .msg_controllen = sizeof(control)};
	struct cmsghdr *header = CMSG_FIRSTHDR(&message);
	int fd = socket_for(c, SOCK_DGRAM, 0), result;

	if (fd < 0)
		return failed(c, "socket");
	if (is_v6(c)) {
		struct in6_pktinfo info = {.ipi6_ifindex = c->eth0};

		memcpy(&info.ipi6_addr, address_bytes(&c->own), 16);
		header->cmsg_level = IPPROTO_IPV6;
		header->cmsg_type = IPV6_PKTINFO;
		header->cmsg_len = CMSG_LEN(sizeof(info));
		memcpy(CMSG_DATA(header), &info, sizeof(info));
	} else {
		struct in_pktinfo info = {.ipi_ifindex = (int)c->eth0};

		memcpy(&info.ipi_spec_dst, address_bytes(&c->own), 4);
		header->cmsg_level = IPPROTO_IP;
		header->cmsg_type = IP_PKTINFO;
		header->cmsg_len = CMSG_LEN(sizeof(info));
		memcpy(CMSG_DATA(header), &info, sizeof(info));
	}
	message.msg_controllen = header->cmsg_len;
	result = sendmsg(fd, &message, 0) < 0 ? failed(c, "sendmsg") : await_echo(c, fd);
	close(fd);
	return result;
}

struct race {
	struct endpoint shown;
	const struct endpoint *a, *b;
	volatile bool stop;
};

static void *flip(void *argument)
{
	struct race *race = argument;

	for (unsigned i = 0; !race->stop; i++)
		memcpy(&race->shown, i % 2 ? race->a : race->b, sizeof(race->shown));
	return NULL;
}

/* Another thread rewrites msg_name between allowed and forbidden. What comes to the allowed address is no escape. */
static int udp_race(struct context *c)
{
	struct race race = {c->decoy, &c->decoy, &c->to, false};
	double deadline = now_ms() + 150;
	int fd = socket_for(c, SOCK_DGRAM, 0);
	pthread_t thread;

	if (fd < 0 || pthread_create(&thread, NULL, flip, &race))
		return failed(c, "socket");
	for (int i = 0; i < 2000 && now_ms() < deadline; i++)
		sendto(fd, "race", 4, MSG_DONTWAIT, (struct sockaddr *)&race.shown.addr, race.shown.length);
	race.stop = true;
	pthread_join(thread, NULL);
	close(fd);
	return 0;
}

static int udp_to_port(struct context *c)
{
	struct endpoint to = with_port(c->to, (uint16_t)c->method->variant);

	return udp_to(c, &to);
}

/* The address is registered, the port is not. */
static int other_port(struct context *c)
{
	int type = c->method->variant;
	struct endpoint to = with_port(c->decoy, UNREGISTERED_PORT);

	return type == SOCK_STREAM ? tcp_to(c, &to) : udp_to(c, &to);
}

static int ping_socket(struct context *c)
{
	int fd = socket_for(c, SOCK_DGRAM, is_v6(c) ? (int)IPPROTO_ICMPV6 : (int)IPPROTO_ICMP), result;
	uint8_t echo[8 + TOKEN_LENGTH] = {is_v6(c) ? ICMP6_ECHO_REQUEST : ICMP_ECHO};
	struct endpoint to = with_port(c->to, 0);

	if (fd < 0)
		return failed(c, "ping socket");
	memcpy(echo + 8, c->token, TOKEN_LENGTH);
	if (c->method->variant && connect(fd, (struct sockaddr *)&to.addr, to.length) < 0)
		result = failed(c, "connect");
	else if (c->method->variant)
		result = send(fd, echo, sizeof(echo), 0) < 0 ? failed(c, "send") : await_echo(c, fd);
	else if (sendto(fd, echo, sizeof(echo), 0, (struct sockaddr *)&to.addr, to.length) < 0)
		result = failed(c, "sendto");
	else
		result = await_echo(c, fd);
	close(fd);
	return result;
}

const struct method udp_methods[] = {
	{"udp-sendto", "UDP sendto", "", V4 | V6 | MAPPED, LEGIT | TUPLE, udp_sendto, NULL, 0},
	{"udp-connect", "UDP connect and send", "", V4 | V6 | MAPPED, LEGIT | TUPLE, udp_connect, NULL, 0},
	{"udp-connected-sendto", "UDP connected to an allowed address, sendto elsewhere", "", V4 | V6 | MAPPED,
	 LEGIT | REGISTERED | TUPLE, udp_connected_sendto, NULL, 0},
	{"udp-unspec", "UDP connect, AF_UNSPEC, connect elsewhere", "", V4 | V6 | MAPPED, LEGIT | REGISTERED | TUPLE, udp_unspec, NULL, 0},
	{"udp-sendmmsg", "UDP sendmmsg, the first to an allowed address", "", V4 | V6 | MAPPED, LEGIT | REGISTERED | TUPLE,
	 udp_sendmmsg, NULL, 0},
	{"udp-v4-on-v6", "AF_INET sockaddr on a v6 UDP socket, sendto", "", V4, LEGIT | TUPLE, udp_v4_on_v6, NULL, 0},
	{"udp-v4-on-v6-connect", "AF_INET sockaddr on a v6 UDP socket, connect", "", V4, LEGIT | TUPLE, udp_v4_on_v6, NULL, 1},
	{"udp-gso", "UDP with segmentation offload", "", V4 | V6, LEGIT | TUPLE, udp_option, NULL, UDP_SEGMENT_},
	{"udp-zerocopy", "UDP with MSG_ZEROCOPY", "", V4 | V6, LEGIT | TUPLE, udp_option, NULL, SO_ZEROCOPY},
	{"udp-cork", "UDP corked", "", V4 | V6, LEGIT | TUPLE, udp_option, NULL, UDP_CORK},
	{"udp-device", "UDP with SO_BINDTODEVICE eth0", "", V4 | V6, LEGIT | TUPLE, udp_option, NULL, SO_BINDTODEVICE},
	{"udp-pktinfo", "UDP with source and interface in ancillary data", "", V4 | V6, LEGIT | TUPLE, udp_pktinfo, NULL, 0},
	{"udp-race", "sockaddr rewritten by another thread during sendto", "", V4 | V6, REGISTERED | TUPLE, udp_race, NULL, 0},
	{"udplite-sendto", "UDP-Lite sendto", "", V4 | V6, TUPLE | MAY_LACK, udplite_sendto, NULL, 0},
	{"udplite-connect", "UDP-Lite connect (no pre_connect in the kernel)", "", V4 | V6, TUPLE | MAY_LACK, udp_connect, NULL,
	 IPPROTO_UDPLITE},
	{"udp-443", "QUIC: UDP to port 443", "", V4 | V6, 0, udp_to_port, NULL, 443},
	{"udp-53", "DNS port of a server that is not listed", "", V4 | V6, 0, udp_to_port, NULL, 53},
	{"tcp-other-port", "TCP to an unregistered port of a registered address", "", V4 | V6, REGISTERED, other_port, NULL, SOCK_STREAM},
	{"udp-other-port", "UDP to an unregistered port of a registered address", "", V4 | V6, REGISTERED, other_port, NULL, SOCK_DGRAM},
	{"ping-sendto", "ICMP ping socket, sendto", "", V4 | V6, 0, ping_socket, NULL, 0},
	{"ping-connect", "ICMP ping socket, connect", "", V4 | V6, 0, ping_socket, NULL, 1},
	{0},
};
