// SPDX-License-Identifier: Apache-2.0
#include "workload/devices.h"

#include <errno.h>
#include <fcntl.h>
#include <libmnl/libmnl.h>
#include <linux/if_link.h>
#include <linux/net_namespace.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>

#include "addr.h"
#include "base/log.h"
#include "base/memory.h"
#include "workload/netns.h"

#define SCAN_DELAY_MS 20 /* a CNI plugin makes several changes in a row */
#define POD_DELAY_MS 500 /* after what may be a pod's own doing: it cannot keep us busy with it */
#define SCAN_PERIOD_MS 5000
#define MAX_ADDRESSES 128 /* of one namespace: who is root there can make as many as memory holds */
#define LIST_TRIES 4      /* of a list that changes while it is read */
#define NO_NSID (-1)

struct address {
	uint8_t addr[16];
};

struct address_list {
	struct address *items;
	size_t count, capacity;
	bool is_cut; /* at MAX_ADDRESSES */
};

struct device {
	uint32_t index;
	uint32_t master; /* of a bridge port: the bridge; 0: none */
	char name[IF_NAMESIZE];
	struct address_list sources; /* as in the kernel's table */
	bool seen;                   /* in the scan that is under way */
	bool published;              /* by this loader, under this name, with its programs */
	int nsid;                    /* of the namespace where its other end is now */
};

struct netns_link {
	uint64_t netns;
	int netns_fd;
	int route_fd;     /* an rtnetlink socket of that namespace */
	int events_fd;    /* another, that hears of its addresses */
	int nsid;         /* as the loader's namespace numbers it */
	struct device *devices;
	size_t count, capacity;
	bool missing_said;
	bool cut_said;
};

struct devices {
	struct loop *loop;
	struct kernel *kernel;
	struct devices_options options;
	struct mnl_socket *events;
	struct mnl_socket *route;
	struct loop_timer *soon, *periodic;
	uint64_t soon_ms; /* when, on loop_now_ms()'s clock */
	struct netns_link **links;
	size_t count, capacity;
	bool settled;
	atomic_bool looked; /* once since: the admin page's thread asks */
};

/* ---- rtnetlink ---- */

/* One datagram's messages. 1: more are to come, 0: that was all, or -errno. */
static int take_answers(const struct nlmsghdr *message, size_t size, unsigned int sequence, mnl_cb_t visit, void *context,
			bool *interrupted)
{
	for (int left = (int)size; mnl_nlmsg_ok(message, left); message = mnl_nlmsg_next(message, &left)) {
		if (message->nlmsg_seq != sequence) /* what was left of a question that was given up */
			continue;
		*interrupted |= !!(message->nlmsg_flags & NLM_F_DUMP_INTR);
		if (message->nlmsg_type == NLMSG_ERROR)
			return ((const struct nlmsgerr *)mnl_nlmsg_get_payload(message))->error;
		if (message->nlmsg_type == NLMSG_DONE)
			return 0;
		if (visit(message, context) == MNL_CB_STOP)
			return 0;
	}
	return 1;
}

/*
 * Sends and calls back for each answer. 0 or -errno; -EINTR: what was listed changed meanwhile, and some of it may have been
 * left out or said twice. The answer is read to its end all the same, or the socket would have it before the next one.
 */
static int ask(int fd, struct nlmsghdr *request, mnl_cb_t visit, void *context)
{
	static unsigned int last_sequence;
	char buffer[32768];
	unsigned int sequence = request->nlmsg_seq = ++last_sequence;
	bool interrupted = false;
	ssize_t n;
	int more = 1;

	if (send(fd, request, request->nlmsg_len, 0) < 0)
		return -errno;
	while (more > 0) {
		n = recv(fd, buffer, sizeof(buffer), 0);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		more = take_answers((const struct nlmsghdr *)buffer, (size_t)n, sequence, visit, context, &interrupted);
	}
	return more < 0 ? more : interrupted ? -EINTR : 0;
}

static int list(int fd, struct nlmsghdr *request, mnl_cb_t visit, void *context)
{
	int error = -EINTR;

	request->nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
	for (int tries = 0; tries < LIST_TRIES && error == -EINTR; tries++)
		error = ask(fd, request, visit, context);
	return error;
}

static int open_route_socket(unsigned int groups)
{
	struct sockaddr_nl own = {.nl_family = AF_NETLINK, .nl_groups = groups};
	struct timeval patience = {.tv_sec = 2};
	_cleanup_close_ int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);

	if (fd < 0 || bind(fd, (struct sockaddr *)&own, sizeof(own)) < 0)
		return -errno;
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	return TAKE_FD(fd);
}

/* One that looks into another namespace. The thread comes back in any case, or the process ends. */
static int open_route_socket_in(int netns_fd, unsigned int groups)
{
	_cleanup_close_ int own = netns_open_own();
	int error = own < 0 ? own : netns_enter(netns_fd), fd;

	if (error)
		return error;
	fd = open_route_socket(groups);
	if (netns_enter(own)) {
		log_error("cannot return from a network namespace: %s; restarting", strerror(errno));
		abort();
	}
	return fd;
}

static int take_nsid(const struct nlmsghdr *message, void *context)
{
	const struct nlattr *attribute;

	mnl_attr_for_each(attribute, message, sizeof(struct rtgenmsg))
		if (mnl_attr_get_type(attribute) == NETNSA_NSID)
			*(int *)context = (int)mnl_attr_get_u32(attribute);
	return MNL_CB_STOP;
}

static int nsid_of(const struct devices *devices, int netns_fd)
{
	char buffer[256];
	struct nlmsghdr *request = mnl_nlmsg_put_header(buffer);
	struct rtgenmsg *body;
	int nsid = NO_NSID;

	request->nlmsg_type = RTM_GETNSID;
	request->nlmsg_flags = NLM_F_REQUEST;
	body = mnl_nlmsg_put_extra_header(request, sizeof(*body));
	body->rtgen_family = AF_UNSPEC;
	mnl_attr_put_u32(request, NETNSA_FD, (uint32_t)netns_fd);
	ask(mnl_socket_get_fd(devices->route), request, take_nsid, &nsid);
	return nsid;
}

static void canonical(uint8_t out[16], int family, const void *addr)
{
	if (family == AF_INET)
		addr_from_v4(out, addr);
	else
		memcpy(out, addr, 16);
}

/* ---- sources ---- */

static bool contains(const struct address_list *list, const uint8_t addr[16])
{
	for (size_t i = 0; i < list->count; i++)
		if (!memcmp(list->items[i].addr, addr, 16))
			return true;
	return false;
}

static void append(struct address_list *list, const uint8_t addr[16])
{
	memcpy(array_append(list->items, list->count, list->capacity)->addr, addr, 16);
}

static int take_address(const struct nlmsghdr *message, void *context)
{
	const struct ifaddrmsg *body = mnl_nlmsg_get_payload(message);
	struct address_list *out = context;
	const struct nlattr *attribute, *local = NULL, *address = NULL;
	uint8_t canonical_form[16];

	if (body->ifa_family != AF_INET && body->ifa_family != AF_INET6)
		return MNL_CB_OK;
	mnl_attr_for_each(attribute, message, sizeof(*body)) {
		if (mnl_attr_get_type(attribute) == IFA_LOCAL)
			local = attribute;
		if (mnl_attr_get_type(attribute) == IFA_ADDRESS)
			address = attribute;
	}
	if (!local)
		local = address;
	if (!local || mnl_attr_get_payload_len(local) != (body->ifa_family == AF_INET ? 4 : 16))
		return MNL_CB_OK;
	canonical(canonical_form, body->ifa_family, mnl_attr_get_payload(local));
	if (addr_is_loopback(canonical_form) || contains(out, canonical_form))
		return MNL_CB_OK;
	if (out->count == MAX_ADDRESSES)
		out->is_cut = true;
	else
		append(out, canonical_form);
	return MNL_CB_OK;
}

/* Every address of the namespace, whichever interface has it: it may answer on any. */
static int addresses_of(const struct netns_link *link, struct address_list *out)
{
	char buffer[256];
	struct nlmsghdr *request = mnl_nlmsg_put_header(buffer);
	struct rtgenmsg *body;

	request->nlmsg_type = RTM_GETADDR;
	body = mnl_nlmsg_put_extra_header(request, sizeof(*body));
	body->rtgen_family = AF_UNSPEC;
	return list(link->route_fd, request, take_address, out);
}

static int take_route(const struct nlmsghdr *message, void *context)
{
	const struct nlattr *attribute;

	mnl_attr_for_each(attribute, message, sizeof(struct rtmsg))
		if (mnl_attr_get_type(attribute) == RTA_OIF)
			*(uint32_t *)context = mnl_attr_get_u32(attribute);
	return MNL_CB_STOP;
}

/* The interface by which the loader's namespace reaches an address; 0: none. */
static uint32_t route_to(const struct devices *devices, const uint8_t addr[16])
{
	bool v4 = addr_is_v4(addr);
	char buffer[256];
	struct nlmsghdr *request = mnl_nlmsg_put_header(buffer);
	struct rtmsg *body;
	uint32_t device = 0;

	request->nlmsg_type = RTM_GETROUTE;
	request->nlmsg_flags = NLM_F_REQUEST;
	body = mnl_nlmsg_put_extra_header(request, sizeof(*body));
	memset(body, 0, sizeof(*body));
	body->rtm_family = v4 ? AF_INET : AF_INET6;
	body->rtm_dst_len = v4 ? 32 : 128;
	mnl_attr_put(request, RTA_DST, v4 ? 4 : 16, v4 ? addr + 12 : addr);
	ask(mnl_socket_get_fd(devices->route), request, take_route, &device);
	return device;
}

static bool is_link_local(const uint8_t addr[16])
{
	return addr[0] == 0xfe && (addr[1] & 0xc0) == 0x80;
}

/* Link-local ones, which a link has by itself and before it is given any, do not count. */
static size_t count_given(const struct address_list *list)
{
	size_t given = 0;

	for (size_t i = 0; i < list->count; i++)
		given += !is_link_local(list->items[i].addr);
	return given;
}

/*
 * Whether an address of the namespace may stand as source behind the device: if this host sends answers back there. A
 * bridge says that of every neighbour's address too, so it is believed only for what the namespace was given at the start:
 * what is added later may be the pod's own doing.
 */
static bool is_believable(const struct devices *devices, const struct device *device, bool at_start, const uint8_t addr[16])
{
	uint32_t route;

	if (is_link_local(addr))
		return true;
	route = route_to(devices, addr);
	return route && (route == device->index || (at_start && route == device->master));
}

static void add_sources(struct devices *devices, struct device *device, const struct address_list *now)
{
	bool at_start = !count_given(&device->sources);

	for (size_t i = 0; i < now->count && device->sources.count < MAX_ADDRESSES; i++) {
		const uint8_t *addr = now->items[i].addr;

		if (contains(&device->sources, addr) || !is_believable(devices, device, at_start, addr))
			continue;
		if (!kernel_set_source(devices->kernel, device->index, addr))
			append(&device->sources, addr);
	}
}

/*
 * The last one that it was given stays: it is what tells, also the next loader, that the start is over. Of a list that is not
 * whole, which who is root there can bring about, those stay too that this host still sends there.
 */
static void drop_sources(struct devices *devices, struct device *device, const struct address_list *now, bool is_whole)
{
	size_t given = count_given(&device->sources), kept = 0;

	for (size_t i = 0; i < device->sources.count; i++) {
		const uint8_t *addr = device->sources.items[i].addr;
		bool is_given = !is_link_local(addr);

		if (contains(now, addr) || (is_given && given == 1) ||
		    (!is_whole && is_believable(devices, device, true, addr))) {
			device->sources.items[kept++] = device->sources.items[i];
			continue;
		}
		given -= is_given;
		kernel_delete_source(devices->kernel, device->index, addr);
	}
	device->sources.count = kept;
}

static void take_known_source(void *context, const uint8_t addr[16])
{
	append(context, addr);
}

static void update_sources(struct devices *devices, struct netns_link *link, struct device *device)
{
	struct address_list now = {0};
	int error = addresses_of(link, &now);

	if (error && error != -EINTR) {
		log_warning("device %s: cannot list the addresses behind it: %s; looking again in %d s", device->name,
			    strerror(-error), SCAN_PERIOD_MS / 1000);
	} else {
		add_sources(devices, device, &now);
		drop_sources(devices, device, &now, !error && !now.is_cut);
		if (now.is_cut && !link->cut_said)
			log_warning("device %s: more than %d addresses behind it; the others are foreign",
				    device->name, MAX_ADDRESSES);
		link->cut_said = now.is_cut;
	}
	free(now.items);
}

/* ---- devices ---- */

static void give_up(struct devices *devices, struct device *device)
{
	for (size_t i = 0; i < device->sources.count; i++)
		kernel_delete_source(devices->kernel, device->index, device->sources.items[i].addr);
	free(device->sources.items);
	kernel_detach_device(devices->kernel, device->index);
	log_debug("device %s: let go", device->name);
}

/* Its namespace is governed no more, but somebody had moved its end away: no source is believed there until it is gone. */
static void close_down(struct devices *devices, struct device *device)
{
	for (size_t i = 0; i < device->sources.count; i++)
		kernel_delete_source(devices->kernel, device->index, device->sources.items[i].addr);
	free(device->sources.items);
	log_warning("device %s: its end was moved to another namespace; nothing that comes from there passes", device->name);
}

static void attach(struct devices *devices, const struct netns_link *link, struct device *device)
{
	struct device_value value = {.netns = link->netns};

	snprintf(value.name, sizeof(value.name), "%s", device->name);
	device->published = !kernel_attach_device(devices->kernel, device->index, &value);
	if (device->published)
		log_debug("device %s: judges what comes from netns %llu", device->name, (unsigned long long)link->netns);
}

static void take_adopted_sources(struct devices *devices, struct device *device)
{
	kernel_each_source(devices->kernel, device->index, take_known_source, &device->sources);
}

struct found {
	uint32_t index, master;
	int nsid;
	char name[IF_NAMESIZE];
	bool is_pair; /* veth or netkit */
};

static void see_device(struct devices *devices, struct netns_link *link, const struct found *found)
{
	struct device *device = NULL;

	for (size_t i = 0; i < link->count; i++)
		if (link->devices[i].index == found->index)
			device = &link->devices[i];
	if (!device) {
		device = array_append(link->devices, link->count, link->capacity);
		device->index = found->index;
		take_adopted_sources(devices, device);
	}
	device->master = found->master;
	device->nsid = found->nsid;
	device->seen = true;
	device->published &= !strcmp(device->name, found->name);
	snprintf(device->name, sizeof(device->name), "%s", found->name);
}

/*
 * A device stays with the namespace that it was found for until it is gone: who is root in a pod can move its end to a
 * namespace that nobody knows.
 */
static bool see_known(struct devices *devices, const struct found *found)
{
	for (size_t i = 0; i < devices->count; i++) {
		struct netns_link *link = devices->links[i];

		for (size_t k = 0; k < link->count; k++) {
			if (link->devices[k].index != found->index)
				continue;
			see_device(devices, link, found);
			return true;
		}
	}
	return false;
}

static bool is_pair(const struct nlattr *info)
{
	const struct nlattr *attribute;

	mnl_attr_for_each_nested(attribute, info)
		if (mnl_attr_get_type(attribute) == IFLA_INFO_KIND)
			return !strcmp(mnl_attr_get_str(attribute), "veth") || !strcmp(mnl_attr_get_str(attribute), "netkit");
	return false;
}

static int take_device(const struct nlmsghdr *message, void *context)
{
	const struct ifinfomsg *body = mnl_nlmsg_get_payload(message);
	struct found found = {.index = (uint32_t)body->ifi_index, .nsid = NO_NSID};
	struct devices *devices = context;
	const struct nlattr *attribute;

	mnl_attr_for_each(attribute, message, sizeof(*body)) {
		if (mnl_attr_get_type(attribute) == IFLA_LINK_NETNSID)
			found.nsid = (int)mnl_attr_get_u32(attribute);
		else if (mnl_attr_get_type(attribute) == IFLA_MASTER)
			found.master = mnl_attr_get_u32(attribute);
		else if (mnl_attr_get_type(attribute) == IFLA_IFNAME)
			snprintf(found.name, sizeof(found.name), "%s", mnl_attr_get_str(attribute));
		else if (mnl_attr_get_type(attribute) == IFLA_LINKINFO)
			found.is_pair = is_pair(attribute);
	}
	if (found.is_pair && !see_known(devices, &found) && found.nsid != NO_NSID)
		for (size_t i = 0; i < devices->count; i++)
			if (devices->links[i]->nsid == found.nsid)
				see_device(devices, devices->links[i], &found);
	return MNL_CB_OK;
}

static int dump_devices(struct devices *devices)
{
	char buffer[256];
	struct nlmsghdr *request = mnl_nlmsg_put_header(buffer);
	struct ifinfomsg *body;

	request->nlmsg_type = RTM_GETLINK;
	body = mnl_nlmsg_put_extra_header(request, sizeof(*body));
	memset(body, 0, sizeof(*body));
	return list(mnl_socket_get_fd(devices->route), request, take_device, devices);
}

static void settle_link(struct devices *devices, struct netns_link *link)
{
	size_t kept = 0;

	for (size_t i = 0; i < link->count; i++) {
		struct device *device = &link->devices[i];

		if (!device->seen) {
			give_up(devices, device);
			continue;
		}
		update_sources(devices, link, device);
		/* Also again and again: what somebody detached behind our back comes back. */
		if (!device->published || !kernel_holds_device(devices->kernel, device->index))
			attach(devices, link, device);
		device->seen = false;
		link->devices[kept++] = *device;
	}
	link->count = kept;
	if (!kept && !link->missing_said) {
		log_warning("netns %llu: no veth or netkit of it ends in this namespace: only its sockets are judged, and its servers "
			    "cannot answer whom the policy does not admit",
			    (unsigned long long)link->netns);
		link->missing_said = true;
	}
	link->missing_said &= !kept;
}

static bool is_numbered(struct devices *devices)
{
	bool all = true;

	for (size_t i = 0; i < devices->count; i++) {
		struct netns_link *link = devices->links[i];

		if (link->nsid == NO_NSID)
			link->nsid = nsid_of(devices, link->netns_fd);
		all &= link->nsid != NO_NSID;
	}
	return all;
}

/* A namespace has no number in this one before somebody lists a link to it. */
static int number_namespaces(struct devices *devices)
{
	int error = is_numbered(devices) ? 0 : dump_devices(devices);

	is_numbered(devices);
	return error;
}

static bool is_followed(const struct devices *devices, uint32_t index)
{
	for (size_t i = 0; i < devices->count; i++)
		for (size_t k = 0; k < devices->links[i]->count; k++)
			if (devices->links[i]->devices[k].index == index)
				return true;
	return false;
}

/* Closed down, and gone since. */
static void drop_gone(void *context, uint32_t index, const struct device_value *value)
{
	struct devices *devices = context;
	char name[IF_NAMESIZE];

	(void)value;
	if (!is_followed(devices, index) && !if_indextoname(index, name))
		kernel_detach_device(devices->kernel, index);
}

static void on_addresses(void *context, int fd, uint32_t events);

/*
 * What comes from now on is not in what is read now. A namespace with more addresses than are believed is not listened to:
 * reading them takes long, and who made them can change them all day.
 */
static void listen_again(struct devices *devices, const struct netns_link *link)
{
	char buffer[4096];
	unsigned int left = 1024; /* of a flood, the rest is for the next scan */

	if (link->cut_said)
		return;
	while (left-- && (recv(link->events_fd, buffer, sizeof(buffer), MSG_DONTWAIT) > 0 || errno == ENOBUFS))
		;
	if (loop_watch(devices->loop, link->events_fd, EPOLLIN, on_addresses, devices))
		log_warning("netns %llu: %s; its addresses are looked at every %d s only", (unsigned long long)link->netns,
			    strerror(errno), SCAN_PERIOD_MS / 1000);
}

static void scan(void *context)
{
	struct devices *devices = context;
	int error = 0;

	loop_timer_arm(devices->periodic, SCAN_PERIOD_MS);
	if (!devices->count) {
		atomic_store(&devices->looked, devices->settled);
		return;
	}
	for (size_t i = 0; i < devices->count; i++)
		listen_again(devices, devices->links[i]);
	error = number_namespaces(devices);
	if (!error)
		error = dump_devices(devices);
	if (error) {
		log_warning("devices: cannot list them: %s; looking again in %d s", strerror(-error), SCAN_PERIOD_MS / 1000);
		return;
	}
	for (size_t i = 0; i < devices->count; i++)
		settle_link(devices, devices->links[i]);
	kernel_each_device(devices->kernel, drop_gone, devices);
	atomic_store(&devices->looked, devices->settled);
}

/* An earlier deadline stays. */
static void scan_within(struct devices *devices, uint64_t delay_ms)
{
	uint64_t deadline = loop_now_ms() + delay_ms;

	if (loop_timer_armed(devices->soon) && devices->soon_ms <= deadline)
		return;
	devices->soon_ms = deadline;
	loop_timer_arm(devices->soon, delay_ms);
}

/* Who is root in a pod can set its end of a link down and up all day; making links here is the host's. */
static int take_event(const struct nlmsghdr *message, void *context)
{
	const struct ifinfomsg *body = mnl_nlmsg_get_payload(message);
	struct devices *devices = context;
	bool is_change = message->nlmsg_type == RTM_NEWLINK && is_followed(devices, (uint32_t)body->ifi_index);

	scan_within(devices, is_change ? POD_DELAY_MS : SCAN_DELAY_MS);
	return MNL_CB_OK;
}

static void on_events(void *context, int fd, uint32_t events)
{
	struct devices *devices = context;
	char buffer[32768];
	ssize_t n;

	(void)events;
	while ((n = recv(fd, buffer, sizeof(buffer), MSG_DONTWAIT)) > 0)
		mnl_cb_run(buffer, (size_t)n, 0, 0, take_event, devices);
	/* What changed is looked up anew: an overrun loses nothing. */
	if (n < 0 && errno == ENOBUFS)
		scan_within(devices, SCAN_DELAY_MS);
}

/* Not heard again before the next scan: what it says is looked up there. */
static void on_addresses(void *context, int fd, uint32_t events)
{
	struct devices *devices = context;

	(void)events;
	loop_unwatch(devices->loop, fd);
	scan_within(devices, POD_DELAY_MS);
}

/* ---- namespaces ---- */

static size_t find(const struct devices *devices, uint64_t netns)
{
	size_t i = 0;

	while (i < devices->count && devices->links[i]->netns != netns)
		i++;
	return i;
}

struct search {
	uint64_t netns;
	bool found;
};

static void match_netns(void *context, uint32_t index, const struct device_value *value)
{
	struct search *search = context;

	(void)index;
	search->found |= value->netns == search->netns;
}

/* Neither this loader nor an earlier one has judged what the namespace sends. */
static bool is_new(const struct devices *devices, uint64_t netns)
{
	struct search search = {.netns = netns};

	kernel_each_device(devices->kernel, match_netns, &search);
	return !search.found;
}

void devices_add_netns(struct devices *devices, uint64_t netns, int netns_fd)
{
	struct netns_link *link;
	int route_fd, events_fd;

	if (netns == devices->options.host_netns || find(devices, netns) < devices->count)
		return;
	route_fd = open_route_socket_in(netns_fd, 0);
	events_fd = route_fd < 0 ? route_fd : open_route_socket_in(netns_fd, RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR);
	if (events_fd < 0) {
		log_error("netns %llu: cannot look at its addresses: %s; it has no backstop", (unsigned long long)netns,
			  strerror(-events_fd));
		if (route_fd >= 0)
			close(route_fd);
		return;
	}
	link = xcalloc(1, sizeof(*link));
	*link = (struct netns_link){.netns = netns, .netns_fd = fcntl(netns_fd, F_DUPFD_CLOEXEC, 3), .route_fd = route_fd,
				    .events_fd = events_fd, .nsid = NO_NSID};
	*array_append(devices->links, devices->count, devices->capacity) = link;
	if (is_new(devices, netns))
		devices->options.found(devices->options.context, netns, netns_fd);
	scan_within(devices, SCAN_DELAY_MS);
}

static void free_link(struct devices *devices, struct netns_link *link)
{
	loop_unwatch(devices->loop, link->events_fd);
	close(link->events_fd);
	for (size_t i = 0; i < link->count; i++)
		free(link->devices[i].sources.items);
	free(link->devices);
	close(link->netns_fd);
	close(link->route_fd);
	free(link);
}

void devices_remove_netns(struct devices *devices, uint64_t netns)
{
	size_t at = find(devices, netns);
	struct netns_link *link;

	if (at == devices->count)
		return;
	link = devices->links[at];
	dump_devices(devices); /* where their ends are now */
	devices->links[at] = devices->links[--devices->count];
	for (size_t i = 0; i < link->count; i++) {
		struct device *device = &link->devices[i];

		if (device->nsid == link->nsid || !device->seen)
			give_up(devices, device);
		else
			close_down(devices, device);
		device->sources = (struct address_list){0};
	}
	free_link(devices, link);
}

static void drop_stranger(void *context, uint32_t index, const struct device_value *value)
{
	struct devices *devices = context;

	if (find(devices, value->netns) == devices->count)
		kernel_detach_device(devices->kernel, index);
}

void devices_settle(struct devices *devices)
{
	kernel_each_device(devices->kernel, drop_stranger, devices);
	devices->settled = true;
	scan_within(devices, SCAN_DELAY_MS);
}

bool devices_looked(const struct devices *devices)
{
	return atomic_load(&devices->looked);
}

static struct mnl_socket *open_socket(unsigned int groups)
{
	struct mnl_socket *socket = mnl_socket_open2(NETLINK_ROUTE, SOCK_CLOEXEC);
	struct timeval patience = {.tv_sec = 2};

	if (!socket)
		return NULL;
	setsockopt(mnl_socket_get_fd(socket), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	if (mnl_socket_bind(socket, groups, MNL_SOCKET_AUTOPID) < 0) {
		mnl_socket_close(socket);
		return NULL;
	}
	return socket;
}

int devices_new(struct devices **out, struct loop *loop, struct kernel *kernel, const struct devices_options *options)
{
	struct devices *devices = xcalloc(1, sizeof(*devices));
	int error;

	devices->loop = loop;
	devices->kernel = kernel;
	devices->options = *options;
	devices->soon = loop_timer_new(loop, scan, devices);
	devices->periodic = loop_timer_new(loop, scan, devices);
	devices->events = open_socket(RTMGRP_LINK);
	devices->route = devices->events ? open_socket(0) : NULL;
	error = devices->route ? loop_watch(loop, mnl_socket_get_fd(devices->events), EPOLLIN, on_events, devices) : -errno;
	if (error) {
		devices_free(devices);
		return log_errno(error, "devices: rtnetlink: %s; not started", strerror(-error));
	}
	loop_timer_arm(devices->periodic, SCAN_PERIOD_MS);
	*out = devices;
	return 0;
}

void devices_free(struct devices *devices)
{
	if (!devices)
		return;
	for (size_t i = 0; i < devices->count; i++)
		free_link(devices, devices->links[i]);
	free(devices->links);
	loop_timer_free(devices->soon);
	loop_timer_free(devices->periodic);
	if (devices->events) {
		loop_unwatch(devices->loop, mnl_socket_get_fd(devices->events));
		mnl_socket_close(devices->events);
	}
	if (devices->route)
		mnl_socket_close(devices->route);
	free(devices);
}
