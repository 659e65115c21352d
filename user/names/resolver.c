// SPDX-License-Identifier: Apache-2.0
#include "names/resolver.h"

#include <ares.h>
#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/stat.h>

#include "addr.h"
#include "base/log.h"
#include "base/memory.h"

/* Less than c-ares' own 5 s and 4 tries: the caller asks again anyway, and names wait for the slot. */
#define QUERY_TIMEOUT_MS 2000
#define QUERY_TRIES 2
#define EDNS_SIZE 1232 /* what DNS Flag Day 2020 agreed on: no fragments */
#define WATCH_PERIOD_MS 3000

struct resolver {
	struct resolver_options options;
	struct loop *loop;
	ares_channel dns;
	ares_channel hosts; /* /etc/hosts alone: a name found there is not asked in DNS, in either family */
	struct loop_timer *timeout;
	struct loop_timer *watch;
	struct stat resolv_conf; /* as last read */
};

struct query {
	struct resolver *resolver;
	void *asker;
	int family;
};

/* ---- answers ---- */

static int by_bytes(const void *a, const void *b)
{
	return memcmp(a, b, 16);
}

static size_t sort_unique(uint8_t (*addresses)[16], size_t count)
{
	size_t kept = 0;

	if (count)
		qsort(addresses, count, sizeof(*addresses), by_bytes);
	for (size_t i = 0; i < count; i++)
		if (!kept || memcmp(addresses[kept - 1], addresses[i], 16))
			memmove(addresses[kept++], addresses[i], 16);
	return kept;
}

/* A list to be freed. */
static uint8_t (*collect(const struct ares_addrinfo *info, int family, size_t *count))[16]
{
	uint8_t (*list)[16];
	size_t n = 0;

	for (const struct ares_addrinfo_node *node = info->nodes; node; node = node->ai_next)
		n++;
	list = xcalloc(n, sizeof(*list));
	n = 0;
	for (const struct ares_addrinfo_node *node = info->nodes; node; node = node->ai_next) {
		if (node->ai_family != family)
			continue;
		if (family == AF_INET)
			addr_from_v4(list[n++], &((const struct sockaddr_in *)(const void *)node->ai_addr)->sin_addr);
		else
			memcpy(list[n++], &((const struct sockaddr_in6 *)(const void *)node->ai_addr)->sin6_addr, 16);
	}
	*count = sort_unique(list, n);
	return list;
}

static uint32_t smallest_ttl(const struct ares_addrinfo *info, int family)
{
	int ttl = INT32_MAX;

	for (const struct ares_addrinfo_node *node = info->nodes; node; node = node->ai_next)
		if (node->ai_family == family && node->ai_ttl < ttl)
			ttl = node->ai_ttl;
	for (const struct ares_addrinfo_cname *cname = info->cnames; cname; cname = cname->next)
		if (cname->ttl < ttl)
			ttl = cname->ttl;
	return ttl < 0 ? 0 : (uint32_t)ttl; /* RFC 2181 §8 */
}

static void deliver(const struct query *query, int family, int status, const struct ares_addrinfo *info)
{
	const struct resolver_options *options = &query->resolver->options;
	struct resolver_answer answer = {.family = family};
	_cleanup_free_ uint8_t (*list)[16] = NULL;

	if (status == ARES_SUCCESS && info) {
		list = collect(info, family, &answer.count);
		answer.addresses = list;
		answer.ttl_s = smallest_ttl(info, family);
	} else if (status == ARES_EDESTRUCTION || status == ARES_ECANCELLED) {
		answer.error = -ECANCELED;
	} else if (status != ARES_ENOTFOUND && status != ARES_ENODATA) {
		answer.error = -EIO;
	}
	if (!answer.count)
		answer.why = ares_strerror(status == ARES_SUCCESS ? ARES_ENODATA : status);
	options->answered(options->context, query->asker, &answer);
}

static void on_answer(void *context, int status, int timeouts, struct ares_addrinfo *info)
{
	_cleanup_free_ struct query *query = context;

	(void)timeouts;
	deliver(query, query->family, status, info);
	ares_freeaddrinfo(info);
}

static void on_hosts_answer(void *context, int status, int timeouts, struct ares_addrinfo *info)
{
	struct ares_addrinfo **out = context;

	(void)timeouts;
	(void)status;
	*out = info;
}

/* ---- c-ares on the loop ---- */

static void arm(struct resolver *resolver)
{
	struct timeval room, *wait = ares_timeout(resolver->dns, NULL, &room);

	if (wait)
		loop_timer_arm(resolver->timeout, (uint64_t)wait->tv_sec * 1000 + (uint64_t)wait->tv_usec / 1000 + 1);
	else
		loop_timer_disarm(resolver->timeout);
}

static void on_timeout(void *context)
{
	struct resolver *resolver = context;

	ares_process_fd(resolver->dns, ARES_SOCKET_BAD, ARES_SOCKET_BAD);
	arm(resolver);
}

static void on_socket(void *context, int fd, uint32_t events)
{
	struct resolver *resolver = context;

	ares_process_fd(resolver->dns, events & (EPOLLIN | EPOLLERR | EPOLLHUP) ? fd : ARES_SOCKET_BAD,
			events & EPOLLOUT ? fd : ARES_SOCKET_BAD);
	arm(resolver);
}

static void on_socket_state(void *context, ares_socket_t fd, int readable, int writable)
{
	struct resolver *resolver = context;
	uint32_t events = (readable ? EPOLLIN : 0) | (writable ? EPOLLOUT : 0);
	int error;

	if (!events) {
		loop_unwatch(resolver->loop, fd);
		return;
	}
	error = loop_watch(resolver->loop, fd, events, on_socket, resolver);
	if (error)
		log_error("resolver: socket %d: %s; the query will time out", fd, strerror(-error));
}

/* c-ares runs this before connect(), and what ares_set_socket_callback() sets only after. */
static int on_new_socket(ares_socket_t fd, int type, void *context)
{
	struct resolver *resolver = context;

	(void)type;
	return resolver->options.socket(resolver->options.context, fd) ? -1 : 0;
}

/* Names of policies are whole: no search list, no aliases. */
static int open_channel(struct resolver *resolver, const char *lookups, ares_channel *out)
{
	struct ares_options options = {
		.flags = ARES_FLAG_NOSEARCH | ARES_FLAG_NOALIASES | ARES_FLAG_EDNS,
		.ednspsz = EDNS_SIZE,
		.timeout = QUERY_TIMEOUT_MS,
		.tries = QUERY_TRIES,
		.lookups = (char *)lookups,
		.sock_state_cb = on_socket_state,
		.sock_state_cb_data = resolver,
		.resolvconf_path = (char *)resolver->options.resolv_conf,
	};
	int set = ARES_OPT_FLAGS | ARES_OPT_EDNSPSZ | ARES_OPT_TIMEOUTMS | ARES_OPT_TRIES | ARES_OPT_DOMAINS |
		  ARES_OPT_LOOKUPS | ARES_OPT_SOCK_STATE_CB | ARES_OPT_RESOLVCONF;
	int status = ares_init_options(out, &options, set);

	if (status != ARES_SUCCESS)
		return log_errno(status == ARES_ENOMEM ? -ENOMEM : -EINVAL, "resolver: %s: %s",
				 resolver->options.resolv_conf, ares_strerror(status));
	ares_set_socket_configure_callback(*out, on_new_socket, resolver);
	return 0;
}

/* ---- resolv.conf ---- */

static void look_at_resolv_conf(const struct resolver *resolver, struct stat *out)
{
	if (stat(resolver->options.resolv_conf, out) < 0)
		*out = (struct stat){0};
}

static void on_watch(void *context)
{
	struct resolver *resolver = context;
	const struct stat *before = &resolver->resolv_conf;
	ares_channel fresh, old = resolver->dns;
	struct stat now;

	loop_timer_arm(resolver->watch, WATCH_PERIOD_MS);
	look_at_resolv_conf(resolver, &now);
	if (now.st_dev == before->st_dev && now.st_ino == before->st_ino && now.st_size == before->st_size &&
	    now.st_mtim.tv_sec == before->st_mtim.tv_sec && now.st_mtim.tv_nsec == before->st_mtim.tv_nsec)
		return;
	if (open_channel(resolver, "b", &fresh))
		return;
	log_info("resolver: %s changed; names that failed are asked again", resolver->options.resolv_conf);
	resolver->resolv_conf = now;
	resolver->dns = fresh;
	ares_destroy(old);
	arm(resolver);
	resolver->options.restarted(resolver->options.context);
}

/* ---- outside ---- */

int resolver_new(struct resolver **out, struct loop *loop, const struct resolver_options *options)
{
	struct resolver *resolver;
	int error;

	if (ares_library_init(ARES_LIB_INIT_ALL) != ARES_SUCCESS)
		return -ENOMEM;
	resolver = xcalloc(1, sizeof(*resolver));
	resolver->options = *options;
	resolver->loop = loop;
	look_at_resolv_conf(resolver, &resolver->resolv_conf);
	error = open_channel(resolver, "b", &resolver->dns);
	if (!error)
		error = open_channel(resolver, "f", &resolver->hosts);
	if (error) {
		resolver_free(resolver);
		return error;
	}
	resolver->timeout = loop_timer_new(loop, on_timeout, resolver);
	resolver->watch = loop_timer_new(loop, on_watch, resolver);
	loop_timer_arm(resolver->watch, WATCH_PERIOD_MS);
	*out = resolver;
	return 0;
}

void resolver_free(struct resolver *resolver)
{
	if (!resolver)
		return;
	if (resolver->dns)
		ares_destroy(resolver->dns);
	if (resolver->hosts)
		ares_destroy(resolver->hosts);
	loop_timer_free(resolver->timeout);
	loop_timer_free(resolver->watch);
	free(resolver);
	ares_library_cleanup();
}

/* One query for each family, so that one that fails does not look like an answer without addresses. */
static void ask_dns(struct resolver *resolver, const char *host, void *asker, int family)
{
	struct ares_addrinfo_hints hints = {.ai_family = family, .ai_flags = ARES_AI_NOSORT};
	struct query *query = xcalloc(1, sizeof(*query));

	*query = (struct query){resolver, asker, family};
	ares_getaddrinfo(resolver->dns, host, NULL, &hints, on_answer, query);
}

void resolver_ask(struct resolver *resolver, const char *host, void *asker)
{
	struct ares_addrinfo_hints hints = {.ai_family = AF_UNSPEC, .ai_flags = ARES_AI_NOSORT};
	struct ares_addrinfo *found = NULL;

	ares_getaddrinfo(resolver->hosts, host, NULL, &hints, on_hosts_answer, &found);
	if (found && found->nodes) {
		struct query query = {resolver, asker, AF_UNSPEC};

		deliver(&query, AF_INET, ARES_SUCCESS, found);
		deliver(&query, AF_INET6, ARES_SUCCESS, found);
	} else {
		ask_dns(resolver, host, asker, AF_INET);
		ask_dns(resolver, host, asker, AF_INET6);
		arm(resolver);
	}
	ares_freeaddrinfo(found);
}
