// SPDX-License-Identifier: Apache-2.0
#include "workload/destroy.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "addr.h"
#include "base/memory.h"

struct destroy_message {
	struct nlmsghdr header;
	struct inet_diag_req_v2 request;
};

static void fill(struct destroy_message *message, const uint8_t own[16], uint16_t own_port, const uint8_t peer[16],
		 uint16_t peer_port)
{
	bool v4 = addr_is_v4(peer);
	struct inet_diag_sockid *id = &message->request.id;

	*message = (struct destroy_message){
		.header = {.nlmsg_len = sizeof(*message), .nlmsg_type = SOCK_DESTROY, .nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK},
		.request = {.sdiag_family = v4 ? AF_INET : AF_INET6, .sdiag_protocol = IPPROTO_TCP, .idiag_states = UINT32_MAX},
	};
	id->idiag_sport = htons(own_port);
	id->idiag_dport = htons(peer_port);
	memcpy(id->idiag_src, own + (v4 ? 12 : 0), v4 ? 4 : 16);
	memcpy(id->idiag_dst, peer + (v4 ? 12 : 0), v4 ? 4 : 16);
	id->idiag_cookie[0] = INET_DIAG_NOCOOKIE;
	id->idiag_cookie[1] = INET_DIAG_NOCOOKIE;
}

int destroy_tcp(const uint8_t own[16], uint16_t own_port, const uint8_t peer[16], uint16_t peer_port)
{
	_cleanup_close_ int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_SOCK_DIAG);
	struct {
		struct nlmsghdr header;
		struct nlmsgerr error;
		char quoted[sizeof(struct destroy_message)];
	} answer;
	struct destroy_message message;
	ssize_t n;

	if (fd < 0)
		return -errno;
	fill(&message, own, own_port, peer, peer_port);
	if (send(fd, &message, sizeof(message), 0) < 0)
		return -errno;
	n = recv(fd, &answer, sizeof(answer), 0);
	if (n < 0)
		return -errno;
	if ((size_t)n < sizeof(answer.header) + sizeof(answer.error) || answer.header.nlmsg_type != NLMSG_ERROR)
		return -EPROTO;
	return answer.error.error;
}
