// SPDX-License-Identifier: Apache-2.0
#include "names/names.h"

#include <ares.h>
#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/stat.h>
#include <uthash.h>

#include "addr.h"
#include "base/log.h"
#include "base/memory.h"

#define MAX_ADDRESSES 64
#define MAX_IN_FLIGHT 64
#define QUERY_TIMEOUT_MS 1000
#define QUERY_TRIES 3
#define RESOLV_CONF_CHECK_MS 2000

struct address {
	uint8_t addr[16];
	uint64_t leaves_ms; /* 0: in the last answer; else when its grace ends */
};

struct name {
	UT_hash_handle hh; /* by host */
	struct names *names;
	char *host;
	struct address *addresses; /* sorted */
	uint8_t (*current)[16];    /* the same without the times, as it is handed out */
	size_t count;
	uint64_t due_ms;
	uint32_t backoff_s;
	const char *error; /* of the last attempt, or NULL */
	bool in_flight;
	bool settled; /* answered or failed at least once */
	bool wanted;
};

struct names {
	struct loop *loop;
	struct names_options options;
	char *resolv_conf;
	struct timespec resolv_conf_mtime;
	uint64_t resolv_conf_checked_ms;
	ares_channel channel;
	bool has_channel;
	struct name *names;
	size_t in_flight;
	size_t unsettled;
	struct loop_timer *due;     /* the next name to ask, or the next grace to end */
	struct loop_timer *timeout; /* c-ares' own */
	unsigned int random;
};

static void name_free(struct name *name)
{
	free(name->host);
	free(name->addresses);
	free(name->current);
	free(name);
}

/* ---- the channel ---- */

static void arm_timeout(struct names *names)
{
	struct timeval left;

	if (!names->has_channel || !ares_timeout(names->channel, NULL, &left))
		loop_timer_disarm(names->timeout);
	else
		loop_timer_arm(names->timeout, (uint64_t)left.tv_sec * 1000 + (uint64_t)left.tv_usec / 1000 + 1);
}

static void on_socket(void *context, int fd, uint32_t events)
{
	struct names *names = context;

	ares_process_fd(names->channel, events & (EPOLLIN | EPOLLERR | EPOLLHUP) ? fd : ARES_SOCKET_BAD,
			events & EPOLLOUT ? fd : ARES_SOCKET_BAD);
	arm_timeout(names);
}

static void on_timeout(void *context)
{
	struct names *names = context;

	ares_process_fd(names->channel, ARES_SOCKET_BAD, ARES_SOCKET_BAD);
	arm_timeout(names);
}

static void on_socket_state(void *context, ares_socket_t fd, int readable, int writable)
{
	struct names *names = context;

	if (!readable && !writable)
		loop_unwatch(names->loop, fd);
	else
		loop_watch(names->loop, fd, (readable ? EPOLLIN : 0U) | (writable ? EPOLLOUT : 0U), on_socket, names);
}

/* Runs after socket() and before connect(). */
static int on_new_socket(ares_socket_t fd, int type, void *context)
{
	const struct names *names = context;

	(void)type;
	return names->options.socket && names->options.socket(names->options.context, fd) ? -1 : 0;
}

static int open_channel(struct names *names)
{
	struct ares_options options = {.timeout = QUERY_TIMEOUT_MS, .tries = QUERY_TRIES, .sock_state_cb = on_socket_state,
				       .sock_state_cb_data = names, .lookups = (char *)"fb", .resolvconf_path = names->resolv_conf};
	int mask = ARES_OPT_TIMEOUTMS | ARES_OPT_TRIES | ARES_OPT_SOCK_STATE_CB | ARES_OPT_LOOKUPS | ARES_OPT_RESOLVCONF;
	struct stat st;
	int status = ares_init_options(&names->channel, &options, mask);

	if (status != ARES_SUCCESS)
		return log_errno(-EIO, "resolver: %s: %s", names->resolv_conf, ares_strerror(status));
	names->has_channel = true;
	ares_set_socket_configure_callback(names->channel, on_new_socket, names);
	if (stat(names->resolv_conf, &st) == 0)
		names->resolv_conf_mtime = st.st_mtim;
	return 0;
}

static void follow_resolv_conf(struct names *names, uint64_t now)
{
	struct stat st;

	if (now - names->resolv_conf_checked_ms < RESOLV_CONF_CHECK_MS)
		return;
	names->resolv_conf_checked_ms = now;
	if (stat(names->resolv_conf, &st) < 0 || (st.st_mtim.tv_sec == names->resolv_conf_mtime.tv_sec &&
						  st.st_mtim.tv_nsec == names->resolv_conf_mtime.tv_nsec))
		return;
	log_info("resolver: %s changed, read again", names->resolv_conf);
	names->has_channel = false;
	ares_destroy(names->channel);
	open_channel(names);
}

/* ---- one name ---- */

static uint64_t jittered_ms(struct names *names, uint32_t seconds)
{
	uint64_t ms = (uint64_t)seconds * 1000;

	return ms - ms / 10 + (uint64_t)rand_r(&names->random) % (ms / 5 + 1); /* ±10 % */
}

static int by_address(const void *a, const void *b)
{
	return memcmp(((const struct address *)a)->addr, ((const struct address *)b)->addr, 16);
}

/* Makes `merged` the name's addresses. True if the set changed. */
static bool replace_addresses(struct name *name, struct address *merged, size_t count)
{
	bool same = count == name->count;

	for (size_t i = 0; i < count && same; i++)
		same = !memcmp(merged[i].addr, name->addresses[i].addr, 16);
	free(name->addresses);
	name->addresses = merged;
	name->count = count;
	name->current = xrealloc(name->current, count, sizeof(*name->current));
	for (size_t i = 0; i < count; i++)
		memcpy(name->current[i], merged[i].addr, 16);
	return !same;
}

static bool contains(const struct address *addresses, size_t count, const uint8_t addr[16])
{
	for (size_t i = 0; i < count; i++)
		if (!memcmp(addresses[i].addr, addr, 16))
			return true;
	return false;
}

/* The new answer, and what left it less than a grace time ago. */
static bool merge_answer(struct name *name, const struct address *answer, size_t count, uint64_t now)
{
	struct address *merged = xcalloc(count + name->count, sizeof(*merged));
	size_t n = count;

	if (count)
		memcpy(merged, answer, count * sizeof(*merged));
	for (size_t i = 0; i < name->count && n < MAX_ADDRESSES; i++) {
		struct address old = name->addresses[i];

		if (contains(answer, count, old.addr))
			continue;
		if (!old.leaves_ms)
			old.leaves_ms = now + (uint64_t)name->names->options.grace_s * 1000;
		if (old.leaves_ms > now)
			merged[n++] = old;
	}
	qsort(merged, n, sizeof(*merged), by_address);
	return replace_addresses(name, merged, n);
}

static size_t collect(struct address *out, const struct ares_addrinfo *info, uint32_t *ttl, const char *host)
{
	size_t n = 0, left_out = 0;

	for (const struct ares_addrinfo_node *node = info ? info->nodes : NULL; node; node = node->ai_next) {
		uint8_t addr[16];

		if (node->ai_family == AF_INET)
			addr_from_v4(addr, &((const struct sockaddr_in *)(const void *)node->ai_addr)->sin_addr);
		else if (node->ai_family == AF_INET6)
			memcpy(addr, &((const struct sockaddr_in6 *)(const void *)node->ai_addr)->sin6_addr, 16);
		else
			continue;
		if (node->ai_ttl >= 0 && (uint32_t)node->ai_ttl < *ttl)
			*ttl = (uint32_t)node->ai_ttl;
		if (contains(out, n, addr))
			continue;
		if (n == MAX_ADDRESSES)
			left_out++;
		else
			memcpy(out[n++].addr, addr, 16);
	}
	if (left_out)
		log_warning("resolver: %s: %zu addresses beyond %d left out", host, left_out, MAX_ADDRESSES);
	return n;
}

static void on_due(void *context);

static void arm_due(struct names *names, uint64_t at_ms)
{
	uint64_t now = loop_now_ms();

	loop_timer_arm(names->due, at_ms > now ? at_ms - now : 0);
}

static uint32_t clamp_ttl(const struct names *names, uint32_t ttl)
{
	if (ttl < names->options.ttl_floor_s)
		return names->options.ttl_floor_s;
	return ttl > names->options.ttl_ceiling_s ? names->options.ttl_ceiling_s : ttl;
}

static void answered(struct name *name, const struct ares_addrinfo *info, uint64_t now, bool *changed)
{
	struct names *names = name->names;
	struct address answer[MAX_ADDRESSES] = {0};
	uint32_t ttl = names->options.ttl_ceiling_s;
	size_t count = collect(answer, info, &ttl, name->host);

	*changed = merge_answer(name, answer, count, now);
	name->backoff_s = 0;
	name->due_ms = now + jittered_ms(names, clamp_ttl(names, count ? ttl : names->options.ttl_floor_s));
}

static void failed(struct name *name, uint64_t now)
{
	struct names *names = name->names;

	name->backoff_s = name->backoff_s ? name->backoff_s * 2 : names->options.retry_floor_s;
	if (name->backoff_s > names->options.ttl_ceiling_s)
		name->backoff_s = names->options.ttl_ceiling_s;
	name->due_ms = now + jittered_ms(names, name->backoff_s);
}

static void on_answer(void *context, int status, int timeouts, struct ares_addrinfo *info)
{
	struct name *name = context;
	struct names *names = name->names;
	uint64_t now = loop_now_ms();
	bool changed = false, first = !name->settled;

	(void)timeouts;
	names->in_flight--;
	name->in_flight = false;
	if (!name->wanted) {
		ares_freeaddrinfo(info);
		name_free(name);
		return;
	}
	if (status == ARES_EDESTRUCTION) { /* the channel is being opened anew */
		name->due_ms = now;
		return;
	}
	name->error = status == ARES_SUCCESS ? NULL : ares_strerror(status);
	/* That the name does not exist, or has no address, is an answer; anything else keeps the last good one. */
	if (status == ARES_SUCCESS || status == ARES_ENOTFOUND || status == ARES_ENODATA) {
		answered(name, info, now, &changed);
	} else {
		failed(name, now);
		log_debug("resolver: %s: %s; kept %zu addresses", name->host, name->error, name->count);
	}
	ares_freeaddrinfo(info);
	if (first) {
		name->settled = true;
		names->unsettled--;
	}
	arm_due(names, now + 1);
	if (changed || first)
		names->options.changed(names->options.context, name->host);
}

static void ask(struct name *name)
{
	struct ares_addrinfo_hints hints = {.ai_family = AF_UNSPEC, .ai_flags = ARES_AI_NOSORT};

	name->in_flight = true;
	name->names->in_flight++;
	ares_getaddrinfo(name->names->channel, name->host, NULL, &hints, on_answer, name);
}

/* Drops what outstayed its grace. True if something went. */
static bool expire(struct name *name, uint64_t now, uint64_t *next)
{
	bool expired = false;

	for (size_t i = 0; i < name->count; i++) {
		uint64_t leaves = name->addresses[i].leaves_ms;

		if (leaves && leaves <= now)
			expired = true;
		else if (leaves && leaves < *next)
			*next = leaves;
	}
	if (expired) {
		struct address *kept = xcalloc(name->count, sizeof(*kept));
		size_t n = 0;

		for (size_t i = 0; i < name->count; i++)
			if (!name->addresses[i].leaves_ms || name->addresses[i].leaves_ms > now)
				kept[n++] = name->addresses[i];
		replace_addresses(name, kept, n);
	}
	return expired;
}

/* Asks what is due and ends graces; sleeps until the next of either. */
static void on_due(void *context)
{
	struct names *names = context;
	uint64_t now = loop_now_ms(), next = UINT64_MAX;
	struct name *name, *following;

	follow_resolv_conf(names, now);
	if (!names->has_channel && open_channel(names)) {
		arm_due(names, now + 1000);
		return;
	}
	HASH_ITER(hh, names->names, name, following) {
		if (expire(name, now, &next))
			names->options.changed(names->options.context, name->host);
		if (name->in_flight)
			continue;
		if (name->due_ms <= now && names->in_flight < MAX_IN_FLIGHT)
			ask(name);
		else if (name->due_ms > now && name->due_ms < next)
			next = name->due_ms;
	}
	if (next != UINT64_MAX && !loop_timer_armed(names->due))
		arm_due(names, next);
	arm_timeout(names);
}

/* ---- interface ---- */

int names_new(struct names **out, struct loop *loop, const struct names_options *options)
{
	struct names *names;
	int error;

	if (ares_library_init(ARES_LIB_INIT_ALL) != ARES_SUCCESS)
		return -EIO;
	names = xcalloc(1, sizeof(*names));
	names->loop = loop;
	names->options = *options;
	names->resolv_conf = xstrdup(options->resolv_conf ? options->resolv_conf : "/etc/resolv.conf");
	names->options.ttl_floor_s = options->ttl_floor_s ? options->ttl_floor_s : 5;
	names->options.ttl_ceiling_s = options->ttl_ceiling_s ? options->ttl_ceiling_s : 300;
	names->options.grace_s = options->grace_s ? options->grace_s : 60;
	names->options.retry_floor_s = options->retry_floor_s ? options->retry_floor_s : 1;
	names->random = (unsigned int)loop_now_ms();
	names->due = loop_timer_new(loop, on_due, names);
	names->timeout = loop_timer_new(loop, on_timeout, names);
	error = open_channel(names);
	if (error) {
		names_free(names);
		return error;
	}
	*out = names;
	return 0;
}

void names_free(struct names *names)
{
	struct name *name, *next;

	if (!names)
		return;
	HASH_ITER(hh, names->names, name, next)
		name->wanted = !name->in_flight; /* what is in flight is freed by its own callback */
	HASH_ITER(hh, names->names, name, next) {
		HASH_DEL(names->names, name);
		if (name->wanted)
			name_free(name);
	}
	if (names->has_channel)
		ares_destroy(names->channel);
	loop_timer_free(names->due);
	loop_timer_free(names->timeout);
	free(names->resolv_conf);
	free(names);
	ares_library_cleanup();
}

static struct name *find(struct names *names, const char *host)
{
	struct name *name;

	HASH_FIND_STR(names->names, host, name);
	return name;
}

void names_want(struct names *names, const struct string_list *hosts)
{
	struct name *name, *next;

	HASH_ITER(hh, names->names, name, next)
		name->wanted = false;
	for (size_t i = 0; i < hosts->count; i++) {
		name = find(names, hosts->items[i]);
		if (!name) {
			name = xcalloc(1, sizeof(*name));
			name->names = names;
			name->host = xstrdup(hosts->items[i]);
			HASH_ADD_KEYPTR(hh, names->names, name->host, strlen(name->host), name);
			names->unsettled++;
		}
		name->wanted = true;
	}
	HASH_ITER(hh, names->names, name, next) {
		if (name->wanted)
			continue;
		HASH_DEL(names->names, name);
		names->unsettled -= !name->settled;
		name->settled = true;
		if (!name->in_flight)
			name_free(name);
	}
	if (names->names)
		arm_due(names, 0);
}

const uint8_t (*names_get(struct names *names, const char *host, size_t *count))[16]
{
	const struct name *name = find(names, host);

	*count = name ? name->count : 0;
	return name ? (const uint8_t (*)[16])name->current : NULL;
}

bool names_settled(const struct names *names)
{
	return !names->unsettled;
}

size_t names_status(const struct names *names, struct name_status *out, size_t room)
{
	uint64_t now = loop_now_ms();
	struct name *name, *next;
	size_t n = 0;

	HASH_ITER(hh, names->names, name, next) {
		if (n < room)
			out[n] = (struct name_status){name->host, name->count, name->error,
						      name->due_ms > now ? name->due_ms - now : 0};
		n++;
	}
	return n;
}

int names_resolvers(const char *resolv_conf, uint8_t (*out)[16], size_t room, size_t *count)
{
	FILE *file = fopen(resolv_conf ? resolv_conf : "/etc/resolv.conf", "re");
	char line[512], address[128];
	size_t n = 0;

	if (!file)
		return -errno;
	while (fgets(line, sizeof(line), file) && n < room) {
		if (sscanf(line, " nameserver %127s", address) != 1)
			continue;
		address[strcspn(address, "%")] = 0; /* the zone of a link-local address */
		if (!parse_address(out[n], address))
			n++;
	}
	fclose(file);
	*count = n;
	return 0;
}
