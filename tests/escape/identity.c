// SPDX-License-Identifier: Apache-2.0
/* Who the kernel takes the process for: cgroups, passed sockets, marks, names; and sluice's own port. */
#include <fcntl.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/tcp.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "escape.h"

#define REDIRECTOR_PORT 15001

/* ---- cgroups ---- */

static int join(const char *cgroup)
{
	char path[600];

	snprintf(path, sizeof(path), "%s/cgroup.procs", cgroup);
	return write_file(path, "0");
}

static const char *outside(void)
{
	return getenv("ESCAPE_OUTSIDE"); /* a cgroup that sluice does not govern */
}

int join_outside(void)
{
	return join(outside());
}

enum moved { MOVED_TCP, MOVED_UDP, MOVED_RAW, MOVED_PACKET, MOVED_NESTED };

static int moved(struct context *c)
{
	struct packet p = {};

	if (join(outside()) < 0)
		return failed(c, "join another cgroup");
	switch ((enum moved)c->method->variant) {
	case MOVED_TCP: return tcp_to(c, &c->to);
	case MOVED_UDP: return udp_to(c, &c->to);
	case MOVED_RAW: return shoot(c, VIA_RAW, &p);
	case MOVED_PACKET: return shoot(c, VIA_PACKET, &p);
	case MOVED_NESTED: {
		pid_t pid = nest(c, true);
		int result = pid < 0 ? pid : nest_veth(c, pid, "10.99.8.2", "fd00:99:8::2");

		if (result == 0)
			result = nested_send(c, pid, &c->to, SOCK_DGRAM);
		if (pid > 0)
			kill(pid, SIGKILL);
		return result;
	}
	}
	return -EINVAL;
}

/* Neither cgroup nor namespace is the pod's: the cgroup first, since a child made there never was in the pod's. */
static int moved_to_root(struct context *c)
{
	if (join(getenv("ESCAPE_CGROUP_ROOT")) < 0)
		return failed(c, "join the root cgroup");
	return tcp_to(c, &c->to);
}

static int socket_then_moved(struct context *c)
{
	int fd = socket_for(c, SOCK_STREAM, 0), result;

	if (fd < 0 || join(outside()) < 0)
		return failed(c, "join another cgroup");
	result = dial(c, fd, &c->to);
	if (result == 0)
		result = tell(c, fd);
	close_hard(fd);
	return result;
}

static void child_cgroup(const struct context *c, char *path, size_t size)
{
	snprintf(path, size, "%s/esc%u", getenv("ESCAPE_CGROUP"), c->port);
}

static int in_child_cgroup(struct context *c)
{
	char path[512];

	child_cgroup(c, path, sizeof(path));
	if (mkdir(path, 0755) < 0 || join(path) < 0)
		return failed(c, "child cgroup");
	if (unshare(CLONE_NEWCGROUP) < 0)
		return failed(c, "cgroup namespace");
	return c->method->variant ? udp_to(c, &c->to) : tcp_to(c, &c->to);
}

static void child_cgroup_undo(struct context *c)
{
	char path[512];

	child_cgroup(c, path, sizeof(path));
	for (int i = 0; i < 20 && rmdir(path) < 0 && errno == EBUSY; i++)
		pause_ms(5);
}

/* ---- a socket that somebody outside made in the pod's network namespace ---- */

struct wanted {
	int family, type, protocol;
};

static int pass(int to, int fd)
{
	char control[CMSG_SPACE(sizeof(int))] = {0}, byte = 0;
	struct iovec data = {&byte, 1};
	struct msghdr message = {.msg_iov = &data, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control)};
	struct cmsghdr *header = CMSG_FIRSTHDR(&message);

	header->cmsg_level = SOL_SOCKET;
	header->cmsg_type = SCM_RIGHTS;
	header->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(header), &fd, sizeof(fd));
	return sendmsg(to, &message, MSG_NOSIGNAL) < 0 ? -errno : 0;
}

static int donor_address(struct sockaddr_un *out, const char *path)
{
	*out = (struct sockaddr_un){.sun_family = AF_UNIX};
	snprintf(out->sun_path, sizeof(out->sun_path), "%s", path);
	return socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
}

/* Runs in the pod's network namespace but in a cgroup of the node's: donor PATH */
int donor_main(int argc, char **argv)
{
	struct sockaddr_un address;
	struct wanted wanted;
	int server;

	if (argc < 2)
		return 2;
	server = donor_address(&address, argv[1]);
	unlink(argv[1]);
	if (bind(server, (struct sockaddr *)&address, sizeof(address)) < 0 || listen(server, 16) < 0) {
		fprintf(stderr, "escape: donor %s: %s\n", argv[1], strerror(errno));
		return 1;
	}
	puts("ready");
	fflush(stdout);
	for (;;) {
		int client = accept4(server, NULL, NULL, SOCK_CLOEXEC), fd;

		if (client >= 0 && recv(client, &wanted, sizeof(wanted), 0) == sizeof(wanted)) {
			fd = socket(wanted.family, wanted.type | SOCK_CLOEXEC, wanted.protocol);
			if (fd >= 0) {
				pass(client, fd);
				close(fd);
			}
		}
		close(client);
	}
}

static int receive_socket(struct context *c, struct wanted wanted)
{
	char control[CMSG_SPACE(sizeof(int))], byte;
	struct iovec data = {&byte, 1};
	struct msghdr message = {.msg_iov = &data, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control)};
	struct timeval limit = {1, 0};
	struct sockaddr_un address;
	struct cmsghdr *header;
	int fd = donor_address(&address, getenv("ESCAPE_DONOR")), out = -1;

	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	if (connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0 || send(fd, &wanted, sizeof(wanted), 0) < 0 ||
	    recvmsg(fd, &message, 0) < 0)
		return failed(c, "a socket from outside");
	header = CMSG_FIRSTHDR(&message);
	if (header)
		memcpy(&out, CMSG_DATA(header), sizeof(out));
	close(fd);
	return out;
}

static int passed_socket(struct context *c)
{
	int type = c->method->variant, family = c->family == V4 ? AF_INET : AF_INET6, result, fd;
	struct endpoint to = c->to;

	if (type == SOCK_PACKET) {
		struct sockaddr_ll frame = {.sll_family = AF_PACKET, .sll_protocol = htons(is_v6(c) ? ETH_P_IPV6 : ETH_P_IP),
					    .sll_ifindex = (int)c->eth0, .sll_halen = 6};
		struct packet p = {};
		uint8_t packet[256];

		memcpy(frame.sll_addr, c->gateway_mac, 6);
		fd = receive_socket(c, (struct wanted){AF_PACKET, SOCK_DGRAM, 0});
		if (fd < 0)
			return fd;
		if (sendto(fd, packet, build(c, &p, packet), 0, (struct sockaddr *)&frame, sizeof(frame)) < 0)
			return failed(c, "sendto");
		return 0;
	}
	fd = receive_socket(c, (struct wanted){family, type, type == SOCK_RAW ? 253 : 0});
	if (fd < 0)
		return fd;
	if (type == SOCK_RAW)
		to = with_port(to, 0);
	if (type == SOCK_STREAM) {
		result = dial(c, fd, &to);
		if (result == 0)
			result = tell(c, fd);
	} else {
		result = tell_to(c, fd, &to);
	}
	close_hard(fd);
	return result;
}

/* ---- what a process can say of itself ---- */

enum disguise { AS_MARK, AS_UID, AS_COMM };

static int disguised(struct context *c)
{
	static const int marks[] = {1, 15001, 0x400, 1337, -1};
	int fd, result = -EINVAL;

	switch ((enum disguise)c->method->variant) {
	case AS_MARK:
		for (size_t i = 0; i < sizeof(marks) / sizeof(*marks) && result < 0; i++) {
			fd = socket_for(c, SOCK_STREAM, 0);
			if (setsockopt(fd, SOL_SOCKET, SO_MARK, &marks[i], sizeof(int)) < 0)
				return failed(c, "SO_MARK");
			result = dial(c, fd, &c->to);
			if (result == 0)
				result = tell(c, fd);
			close_hard(fd);
		}
		return result;
	case AS_UID: /* nobody: the redirector's */
		if (setresuid(65534, 65534, 65534) < 0)
			return failed(c, "setresuid");
		return tcp_to(c, &c->to);
	case AS_COMM:
		prctl(PR_SET_NAME, "sluice");
		return tcp_to(c, &c->to);
	}
	return result;
}

/* ---- the redirector's port ---- */

enum taking { TAKE_PLAIN, TAKE_REUSEPORT, TAKE_BY_FORCE, TAKE_WILDCARD, TAKE_MPTCP, TAKE_ON_LO };

/* Whoever listens there gets the pod's redirected connections. */
static int take_port(struct context *c)
{
	enum taking kind = (enum taking)c->method->variant;
	struct endpoint here = kind == TAKE_WILDCARD ? endpoint_at("0.0.0.0", "::", c, REDIRECTOR_PORT)
						     : endpoint_at("127.0.0.1", "::1", c, REDIRECTOR_PORT);
	int fd = socket_for(c, SOCK_STREAM, kind == TAKE_MPTCP ? 262 : 0), one = 1, repair = TCP_REPAIR_ON;

	if (fd < 0)
		return failed(c, "socket");
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (kind == TAKE_REUSEPORT)
		setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &one, sizeof(one));
	if (kind == TAKE_ON_LO)
		setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, "lo", 3);
	if (kind == TAKE_BY_FORCE && setsockopt(fd, IPPROTO_TCP, TCP_REPAIR, &repair, sizeof(repair)) < 0)
		return failed(c, "TCP_REPAIR");
	if (bind(fd, (struct sockaddr *)&here.addr, here.length) < 0)
		return failed(c, "bind");
	repair = TCP_REPAIR_OFF_NO_WP;
	if (kind == TAKE_BY_FORCE)
		setsockopt(fd, IPPROTO_TCP, TCP_REPAIR, &repair, sizeof(repair));
	if (listen(fd, 1) < 0)
		return failed(c, "listen");
	close(fd);
	return 1;
}

const struct method identity_methods[] = {
	{"moved-tcp", "process moves to another cgroup, new TCP socket", "cgroupfs", V4 | V6, TUPLE, moved, NULL, MOVED_TCP},
	{"moved-udp", "process moves to another cgroup, new UDP socket", "cgroupfs", V4 | V6, TUPLE, moved, NULL, MOVED_UDP},
	{"moved-raw", "process moves to another cgroup, raw socket", "cgroupfs, NET_RAW", V4 | V6, TUPLE, moved, NULL, MOVED_RAW},
	{"moved-packet", "process moves to another cgroup, AF_PACKET", "cgroupfs, NET_RAW", V4 | V6, TUPLE, moved, NULL, MOVED_PACKET},
	{"moved-nested", "process moves to another cgroup and a nested namespace", "cgroupfs, NET_ADMIN", V4 | V6, TUPLE, moved, nested_end,
	 MOVED_NESTED},
	{"moved-root", "process moves to the root cgroup", "cgroupfs", V4 | V6, TUPLE, moved_to_root, NULL, 0},
	{"socket-then-moved", "socket made in the pod, used after its process moved away", "cgroupfs", V4 | V6, TUPLE, socket_then_moved, NULL, 0},
	{"child-cgroup-tcp", "child cgroup with its own cgroup namespace, TCP", "cgroupfs", V4 | V6, LEGIT | TUPLE, in_child_cgroup,
	 child_cgroup_undo, 0},
	{"child-cgroup-udp", "child cgroup with its own cgroup namespace, UDP", "cgroupfs", V4 | V6, LEGIT | TUPLE, in_child_cgroup,
	 child_cgroup_undo, 1},
	{"passed-tcp", "TCP socket made outside the cgroup and passed in", "a helper", V4 | V6, TUPLE, passed_socket, NULL, SOCK_STREAM},
	{"passed-udp", "UDP socket made outside the cgroup and passed in", "a helper", V4 | V6, TUPLE, passed_socket, NULL, SOCK_DGRAM},
	{"passed-raw", "raw socket made outside the cgroup and passed in", "a helper", V4 | V6, 0, passed_socket, NULL, SOCK_RAW},
	{"passed-packet", "packet socket made outside the cgroup and passed in", "a helper", V4 | V6, TUPLE, passed_socket, NULL, SOCK_PACKET},
	{"as-mark", "SO_MARK of all kinds", "NET_RAW", V4 | V6, TUPLE, disguised, NULL, AS_MARK},
	{"as-uid", "the redirector's uid", "", V4 | V6, TUPLE, disguised, NULL, AS_UID},
	{"as-comm", "the name \"sluice\"", "", V4 | V6, TUPLE, disguised, NULL, AS_COMM},
	{"port-plain", "listen on the redirector's port", "", V4 | V6, HOLDS_PORT, take_port, NULL, TAKE_PLAIN},
	{"port-reuseport", "listen on the redirector's port, SO_REUSEPORT", "", V4 | V6, HOLDS_PORT, take_port, NULL, TAKE_REUSEPORT},
	{"port-force", "listen on the redirector's port, TCP_REPAIR forces the bind", "NET_ADMIN", V4 | V6, HOLDS_PORT, take_port, NULL,
	 TAKE_BY_FORCE},
	{"port-wildcard", "listen on the redirector's port at the wildcard address", "", V4 | V6, HOLDS_PORT, take_port, NULL, TAKE_WILDCARD},
	{"port-mptcp", "listen on the redirector's port, MPTCP", "", V4 | V6, HOLDS_PORT, take_port, NULL, TAKE_MPTCP},
	{"port-on-lo", "listen on the redirector's port, bound to lo", "", V4 | V6, HOLDS_PORT, take_port, NULL, TAKE_ON_LO},
	{0},
};
