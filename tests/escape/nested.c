// SPDX-License-Identifier: Apache-2.0
/* A network namespace behind the pod: a container in the container. */
#include <fcntl.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "escape.h"

/*
 * A process in a new network namespace, whose lo is up; it ends with us. A stranger is in a cgroup outside the pod's
 * before it has that namespace: nothing connects the two.
 */
pid_t nest(struct context *c, bool stranger)
{
	int ready[2];
	char byte;
	pid_t pid;

	if (pipe(ready) < 0)
		return failed(c, "pipe");
	pid = fork();
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if ((stranger && join_outside() < 0) || unshare(CLONE_NEWNET) < 0)
			_exit(1);
		(void)!write(ready[1], "r", 1);
		for (;;)
			pause();
	}
	close(ready[1]);
	if (pid < 0 || read(ready[0], &byte, 1) != 1)
		return failed(c, "unshare of the network");
	close(ready[0]);
	if (sh("nsenter -t %d -n ip link set lo up", pid) < 0)
		return failed(c, "nsenter");
	return pid;
}

void nested_name(const struct context *c, char name[16])
{
	snprintf(name, 16, "esc%u", c->port);
}

/* A veth between the pod (10.99.8.1, forwarding) and the namespace, which has the given addresses. */
int nest_veth(struct context *c, pid_t nested, const char *inner_v4, const char *inner_v6)
{
	char name[16];

	nested_name(c, name);
	write_file("/proc/sys/net/ipv4/ip_forward", "1");
	write_file("/proc/sys/net/ipv6/conf/all/forwarding", "1");
	if (sh("ip link add %s type veth peer name in0 netns %d && ip link set %s up && ip addr add 10.99.8.1/32 dev %s &&"
	       "ip -6 addr add fd00:99:8::1/128 dev %s nodad && ip route add %s dev %s && ip -6 route add %s dev %s &&"
	       "nsenter -t %d -n sh -c 'ip link set in0 up && ip addr add %s/32 dev in0 && ip -6 addr add %s/128 dev in0 nodad &&"
	       "ip route add 10.99.8.1 dev in0 && ip route add default via 10.99.8.1 &&"
	       "ip -6 route add fd00:99:8::1 dev in0 && ip -6 route add default via fd00:99:8::1'",
	       name, nested, name, name, name, inner_v4, name, inner_v6, name, nested, inner_v4, inner_v6) < 0)
		return failed(c, "veth");
	return 0;
}

/* On the device that stands on the pod's link there. */
static int frame(struct context *c)
{
	struct packet p = {};

	c->eth0 = if_nametoindex("in0");
	if (!c->eth0)
		c->eth0 = if_nametoindex("eth0");
	return shoot(c, VIA_PACKET, &p);
}

/* Sends the token from within; the result as a method's. */
int nested_send(struct context *c, pid_t nested, const struct endpoint *to, int type)
{
	int status[2], result = -ECHILD, netns;
	char path[64];
	pid_t pid;

	if (pipe(status) < 0)
		return failed(c, "pipe");
	pid = fork();
	if (pid == 0) {
		snprintf(path, sizeof(path), "/proc/%d/ns/net", nested);
		netns = open(path, O_RDONLY | O_CLOEXEC);
		if (netns < 0 || setns(netns, CLONE_NEWNET) < 0)
			result = -errno;
		else
			result = type == SOCK_PACKET ? frame(c) : type == SOCK_STREAM ? tcp_to(c, to) : udp_to(c, to);
		(void)!write(status[1], &result, sizeof(result));
		_exit(0);
	}
	close(status[1]);
	if (pid < 0 || read(status[0], &result, sizeof(result)) != sizeof(result))
		return failed(c, "child");
	close(status[0]);
	waitpid(pid, NULL, 0);
	if (result < 0)
		c->step = "send from the nested namespace";
	return result;
}

void nested_end(struct context *c)
{
	char name[16];

	nested_name(c, name);
	sh("ip link del %s 2>/dev/null; nft delete table inet %s 2>/dev/null; nft delete table netdev %s 2>/dev/null; true", name, name,
	   name);
}
