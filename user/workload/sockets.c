// SPDX-License-Identifier: Apache-2.0
#include "workload/sockets.h"

#include <errno.h>
#include <libmnl/libmnl.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "addr.h"
#include "base/log.h"
#include "base/memory.h"
#include "workload/netns.h"

#define WITH_PEER (1U << TCP_ESTABLISHED | 1U << TCP_SYN_SENT | 1U << TCP_SYN_RECV | 1U << TCP_FIN_WAIT1 | 1U << TCP_FIN_WAIT2 | \
		   1U << TCP_CLOSE_WAIT | 1U << TCP_LAST_ACK | 1U << TCP_CLOSING)

int sockets_open(int netns_fd)
{
	_cleanup_close_ int own = netns_open_own();
	int error = own < 0 ? own : netns_enter(netns_fd), fd;
	struct timeval patience = {.tv_sec = 2};

	if (error)
		return error;
	fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_SOCK_DIAG);
	error = fd < 0 ? -errno : 0;
	if (netns_enter(own)) {
		log_error("cannot return from a network namespace: %s; restarting", strerror(errno));
		abort();
	}
	if (!error)
		setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	return error ? error : fd;
}

struct walk {
	uint8_t protocol;
	void (*visit)(void *context, const struct open_socket *socket);
	void *context;
};

static void take_mark(const struct nlattr *storages, struct socket_mark *mark)
{
	const struct nlattr *storage, *part;

	mnl_attr_for_each_nested(storage, storages) {
		if (mnl_attr_get_type(storage) != SK_DIAG_BPF_STORAGE)
			continue;
		mnl_attr_for_each_nested(part, storage)
			if (mnl_attr_get_type(part) == SK_DIAG_BPF_STORAGE_MAP_VALUE && mnl_attr_get_payload_len(part) >= sizeof(*mark))
				memcpy(mark, mnl_attr_get_payload(part), sizeof(*mark));
	}
}

static int take_socket(const struct nlmsghdr *message, void *context)
{
	const struct inet_diag_msg *body = mnl_nlmsg_get_payload(message);
	const struct walk *walk = context;
	struct open_socket socket = {.protocol = walk->protocol, .family = body->idiag_family, .id = body->id};
	const struct nlattr *attribute;

	socket.listens = walk->protocol == SLUICE_TCP && body->idiag_state == TCP_LISTEN;
	socket.own_port = ntohs(body->id.idiag_sport);
	socket.peer_port = ntohs(body->id.idiag_dport);
	if (body->idiag_family == AF_INET)
		addr_from_v4(socket.peer, body->id.idiag_dst);
	else
		memcpy(socket.peer, body->id.idiag_dst, 16);
	mnl_attr_for_each(attribute, message, sizeof(*body)) {
		if (mnl_attr_get_type(attribute) == INET_DIAG_CGROUP_ID)
			socket.cgroup = mnl_attr_get_u64(attribute);
		else if (mnl_attr_get_type(attribute) == INET_DIAG_SK_BPF_STORAGES)
			take_mark(attribute, &socket.mark);
	}
	if (socket.listens || socket.peer_port)
		walk->visit(walk->context, &socket);
	return MNL_CB_OK;
}

/* Sends a request whose last message is NLMSG_DONE or an acknowledgement. 0 or -errno. */
static int ask(int fd, struct nlmsghdr *request, mnl_cb_t visit, void *context)
{
	_cleanup_free_ char *buffer = xcalloc(1, 65536);
	int more = 1;

	request->nlmsg_seq = 1;
	if (send(fd, request, request->nlmsg_len, 0) < 0)
		return -errno;
	while (more > 0) {
		ssize_t n = recv(fd, buffer, 65536, 0);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		more = mnl_cb_run(buffer, (size_t)n, 1, 0, visit, context);
	}
	return more < 0 ? -errno : 0;
}

static struct inet_diag_req_v2 *put_request(char *buffer, uint16_t type, uint16_t flags, uint8_t family, uint8_t protocol,
					    struct nlmsghdr **request)
{
	struct inet_diag_req_v2 *body;

	*request = mnl_nlmsg_put_header(buffer);
	(*request)->nlmsg_type = type;
	(*request)->nlmsg_flags = NLM_F_REQUEST | flags;
	body = mnl_nlmsg_put_extra_header(*request, sizeof(*body));
	memset(body, 0, sizeof(*body));
	body->sdiag_family = family;
	body->sdiag_protocol = protocol;
	return body;
}

static int each_of(int diag_fd, int marks_fd, uint8_t family, const struct walk *walk)
{
	char buffer[512];
	struct nlmsghdr *request;
	struct inet_diag_req_v2 *body =
		put_request(buffer, SOCK_DIAG_BY_FAMILY, NLM_F_DUMP, family, walk->protocol, &request);
	struct nlattr *storages;

	/* A connected UDP socket is called established. */
	body->idiag_states = walk->protocol == SLUICE_TCP ? WITH_PEER | 1U << TCP_LISTEN : 1U << TCP_ESTABLISHED;
	storages = mnl_attr_nest_start(request, INET_DIAG_REQ_SK_BPF_STORAGES);
	mnl_attr_put_u32(request, SK_DIAG_BPF_STORAGE_REQ_MAP_FD, (uint32_t)marks_fd);
	mnl_attr_nest_end(request, storages);
	return ask(diag_fd, request, take_socket, (void *)walk);
}

int sockets_each(int diag_fd, int marks_fd, void (*visit)(void *context, const struct open_socket *socket), void *context)
{
	static const uint8_t families[] = {AF_INET, AF_INET6}, protocols[] = {SLUICE_TCP, SLUICE_UDP};

	for (size_t f = 0; f < ARRAY_SIZE(families); f++) {
		for (size_t p = 0; p < ARRAY_SIZE(protocols); p++) {
			struct walk walk = {protocols[p], visit, context};
			int error = each_of(diag_fd, marks_fd, families[f], &walk);

			if (error && error != -ENOENT) /* no IPv6, or no module for it */
				return error;
		}
	}
	return 0;
}

int sockets_destroy(int diag_fd, const struct open_socket *socket)
{
	char buffer[256];
	struct nlmsghdr *request;
	struct inet_diag_req_v2 *body =
		put_request(buffer, SOCK_DESTROY, NLM_F_ACK, socket->family, socket->protocol, &request);

	body->idiag_states = ~0U;
	body->id = socket->id;
	return ask(diag_fd, request, NULL, NULL);
}

int sockets_destroy_tcp(int diag_fd, const uint8_t own[16], uint16_t own_port, const uint8_t peer[16], uint16_t peer_port)
{
	bool v4 = addr_is_v4(peer);
	struct open_socket socket = {.protocol = SLUICE_TCP, .family = v4 ? AF_INET : AF_INET6};

	socket.id.idiag_sport = htons(own_port);
	socket.id.idiag_dport = htons(peer_port);
	memcpy(socket.id.idiag_src, own + (v4 ? 12 : 0), v4 ? 4 : 16);
	memcpy(socket.id.idiag_dst, peer + (v4 ? 12 : 0), v4 ? 4 : 16);
	socket.id.idiag_cookie[0] = INET_DIAG_NOCOOKIE;
	socket.id.idiag_cookie[1] = INET_DIAG_NOCOOKIE;
	return sockets_destroy(diag_fd, &socket);
}

static void look_for_mark(void *context, const struct open_socket *socket)
{
	struct open_socket *wanted = context;

	if (socket->listens && socket->own_port == wanted->own_port && socket->mark.mark == MARK_OWN)
		wanted->mark = socket->mark;
}

int sockets_probe(int marks_fd, int (*mark)(void *context, int fd), void *context, bool *destroys, bool *tells_storage)
{
	struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	_cleanup_close_ int diag_fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_SOCK_DIAG);
	_cleanup_close_ int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct open_socket found = {0};
	socklen_t size = sizeof(at);
	uint8_t address[16];
	int error;

	if (diag_fd < 0 || listener < 0)
		return -errno;
	error = mark(context, listener);
	if (error)
		return error;
	if (bind(listener, (struct sockaddr *)&at, size) < 0 || listen(listener, 1) < 0 ||
	    getsockname(listener, (struct sockaddr *)&at, &size) < 0)
		return -errno;
	found.own_port = ntohs(at.sin_port);
	*tells_storage = !sockets_each(diag_fd, marks_fd, look_for_mark, &found) && found.mark.mark == MARK_OWN;
	/* A connection that is not there: where sockets can be ended, that is the answer. */
	addr_from_v4(address, &at.sin_addr);
	*destroys = sockets_destroy_tcp(diag_fd, address, 1, address, 1) == -ENOENT;
	return 0;
}
