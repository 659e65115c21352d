// SPDX-License-Identifier: Apache-2.0
#include "names/dynamic.h"

#include <stdatomic.h>
#include <string.h>
#include <uthash.h>

#include "addr.h"
#include "base/log.h"
#include "base/memory.h"

#define QUESTIONS 512 /* names asked at a time: a few workloads with names that nobody answers for leave some */
#define TICK_MS 1000
#define HOLD_MS 30000 /* for how long a connection is taken to be open after that was last said */
#define LOG_EVERY_MS 10000

/* A workload that has names here. */
struct asker {
	UT_hash_handle hh;
	uint32_t workload;
	size_t names, unanswered;
	uint64_t full_until_ms; /* none of its names can make room before */
};

#define ADOPTED UINT32_MAX /* asks for what an earlier loader knew */

struct entry {
	UT_hash_handle hh;
	struct asker *asker;
	uint64_t used_ms;
	uint64_t held_ms;  /* when a connection to it was last known to be open */
	uint64_t empty_ms; /* when it was found to have no address; 0: it has some, or is being asked */
	bool answered;
	char host[];
};

struct dynamic_names {
	struct dynamic_options options;
	struct names *names;
	struct loop_timer *tick;
	struct entry *entries;
	struct asker *askers;
	struct asked_name *list;
	uint64_t logged_ms;
	atomic_ullong known, refused, refused_addresses;
};

/* ---- addresses ---- */

/* Metadata services of clouds (credentials of the node) that are not link-local: Alibaba, Azure; Oracle's is of 192.0.0.0/24. */
static bool v4_is_metadata(const uint8_t v4[4])
{
	static const uint8_t alibaba[] = {100, 100, 100, 200}, azure[] = {168, 63, 129, 16};

	return !memcmp(v4, alibaba, 4) || !memcmp(v4, azure, 4);
}

static bool v6_is_metadata(const uint8_t v6[16])
{
	static const uint8_t aws[16] = {0xfd, 0, 0x0e, 0xc2, [14] = 0x02, 0x54}, google[16] = {0xfd, 0x20, 0, 0xce, [14] = 0x02, 0x54};

	return !memcmp(v6, aws, 16) || !memcmp(v6, google, 16);
}

static bool v4_is_special(const uint8_t v4[4])
{
	return v4[0] == 0 || v4[0] == 127 || (v4[0] == 169 && v4[1] == 254) || (v4[0] == 192 && !v4[1] && !v4[2]) ||
	       (v4[0] == 198 && (v4[1] & 0xfe) == 18) || v4[0] >= 224 || v4_is_metadata(v4);
}

/* Where IPv6 has it: by a NAT64 gateway's prefixes (RFC 6052, /96 of RFC 8215), 6to4, ISATAP. NULL: nowhere. */
static const uint8_t *embedded_v4(const uint8_t address[16])
{
	static const uint8_t nat64[12] = {0, 0x64, 0xff, 0x9b}, nat64_local[6] = {0, 0x64, 0xff, 0x9b, 0, 1}, isatap[3] = {0, 0x5e, 0xfe};

	if (addr_is_v4(address) || !memcmp(address, nat64, sizeof(nat64)) || !memcmp(address, nat64_local, sizeof(nat64_local)))
		return address + 12;
	if (address[0] == 0x20 && address[1] == 0x02)
		return address + 2;
	return (address[8] & 0xfd) == 0 && !memcmp(address + 9, isatap, sizeof(isatap)) ? address + 12 : NULL;
}

bool dynamic_address_is_special(const uint8_t address[16])
{
	static const uint8_t none[8];
	const uint8_t *v4 = embedded_v4(address);

	if (v4 && v4_is_special(v4))
		return true;
	if (addr_is_v4(address))
		return false;
	/* ::/64 holds the unspecified address, loopback and the older forms of embedded IPv4. */
	return !memcmp(address, none, sizeof(none)) || address[0] == 0xff || (address[0] == 0xfe && address[1] >= 0x80) || v6_is_metadata(address);
}

/* Not each: who makes names up can make up many. */
static bool worth_logging(struct dynamic_names *dynamic)
{
	uint64_t now = loop_now_ms();

	if (dynamic->logged_ms && now - dynamic->logged_ms < LOG_EVERY_MS)
		return false;
	dynamic->logged_ms = now;
	return true;
}

static bool admits(void *context, const char *host, const uint8_t address[16])
{
	struct dynamic_names *dynamic = context;
	char text[SLUICE_PREFIX_TEXT];

	if (!dynamic_address_is_special(address))
		return true;
	atomic_fetch_add(&dynamic->refused_addresses, 1);
	if (worth_logging(dynamic))
		log_warning("%s: a client named it and DNS has it at %s, where no service is; not dialled", host,
			    format_address(text, address));
	return false;
}

/* ---- entries ---- */

static struct entry *find(const struct dynamic_names *dynamic, const char *host)
{
	struct entry *entry;

	HASH_FIND_STR(dynamic->entries, host, entry);
	return entry;
}

static struct asker *asker_of(struct dynamic_names *dynamic, uint32_t workload)
{
	struct asker *asker;

	HASH_FIND(hh, dynamic->askers, &workload, sizeof(workload), asker);
	if (asker)
		return asker;
	asker = xcalloc(1, sizeof(*asker));
	asker->workload = workload;
	HASH_ADD(hh, dynamic->askers, workload, sizeof(asker->workload), asker);
	return asker;
}

static void leave(struct dynamic_names *dynamic, struct asker *asker)
{
	if (asker->names)
		return;
	HASH_DEL(dynamic->askers, asker);
	free(asker);
}

static void add(struct dynamic_names *dynamic, struct asker *asker, const char *host)
{
	struct entry *entry = xcalloc(1, sizeof(*entry) + strlen(host) + 1);

	memcpy(entry->host, host, strlen(host) + 1);
	entry->asker = asker;
	entry->used_ms = loop_now_ms();
	asker->names++;
	asker->unanswered++;
	HASH_ADD_STR(dynamic->entries, host, entry);
	atomic_store(&dynamic->known, HASH_COUNT(dynamic->entries));
	if (!loop_timer_armed(dynamic->tick))
		loop_timer_arm(dynamic->tick, TICK_MS);
	names_add(dynamic->names, host);
}

static void forget(struct dynamic_names *dynamic, struct entry *entry)
{
	HASH_DEL(dynamic->entries, entry);
	atomic_store(&dynamic->known, HASH_COUNT(dynamic->entries));
	entry->asker->names--;
	entry->asker->unanswered -= !entry->answered;
	leave(dynamic, entry->asker);
	names_drop(dynamic->names, entry->host);
	dynamic->options.gone(dynamic->options.context, entry->host);
	free(entry);
}

static void note_answer(struct entry *entry)
{
	entry->asker->unanswered -= !entry->answered;
	entry->answered = true;
}

static bool has_address(const struct dynamic_names *dynamic, const struct entry *entry)
{
	size_t count;

	return names_get(dynamic->names, entry->host, &count) != NULL;
}

/* Both mean an answer. The callback comes last: it may ask. */
static void on_changed(void *context, const char *host)
{
	struct dynamic_names *dynamic = context;
	struct entry *entry = find(dynamic, host);

	if (!entry)
		return;
	note_answer(entry);
	entry->empty_ms = has_address(dynamic, entry) ? 0 : loop_now_ms();
	dynamic->options.changed(dynamic->options.context, host);
}

static void on_empty(void *context, const char *host)
{
	struct dynamic_names *dynamic = context;
	struct entry *entry = find(dynamic, host);

	if (!entry)
		return;
	note_answer(entry);
	entry->empty_ms = loop_now_ms();
	dynamic->options.none(dynamic->options.context, host);
}

/* That a name has no address is not remembered for long; but where it was, connections may be open. */
static bool is_over(const struct dynamic_names *dynamic, const struct entry *entry, uint64_t now)
{
	size_t former;

	if (now - entry->used_ms >= dynamic->options.idle_s * 1000ULL)
		return true;
	if (!entry->empty_ms || now - entry->empty_ms < dynamic->options.empty_s * 1000ULL)
		return false;
	names_former(dynamic->names, entry->host, &former);
	return !former || now - entry->held_ms >= HOLD_MS;
}

static void on_tick(void *context)
{
	struct dynamic_names *dynamic = context;
	uint64_t now = loop_now_ms();
	struct entry *entry, *next;

	HASH_ITER(hh, dynamic->entries, entry, next) {
		if (is_over(dynamic, entry, now))
			forget(dynamic, entry);
	}
	if (dynamic->entries)
		loop_timer_arm(dynamic->tick, TICK_MS);
}

/* ---- room ---- */

/* What is free is everybody's limit: the more others have, the less a workload may add. */
static size_t limit(const struct dynamic_names *dynamic)
{
	size_t free = DYNAMIC_NAMES_MAX - HASH_COUNT(dynamic->entries);

	return free < DYNAMIC_NAMES_OF_WORKLOAD ? free : DYNAMIC_NAMES_OF_WORKLOAD;
}

static struct entry *least_recently_used(const struct dynamic_names *dynamic, const struct asker *asker)
{
	struct entry *oldest = NULL;

	for (struct entry *entry = dynamic->entries; entry; entry = entry->hh.next)
		if (entry->asker == asker && (!oldest || entry->used_ms < oldest->used_ms))
			oldest = entry;
	return oldest;
}

/* The name that the workload has not used for the longest makes room, if that is long enough. */
static bool make_room(struct dynamic_names *dynamic, struct asker *asker)
{
	uint64_t now = loop_now_ms(), grace_ms = dynamic->options.grace_s * 1000ULL;
	struct entry *oldest;

	if (now < asker->full_until_ms)
		return false;
	oldest = least_recently_used(dynamic, asker);
	if (!oldest || now - oldest->used_ms < grace_ms) {
		asker->full_until_ms = oldest ? oldest->used_ms + grace_ms : 0;
		return false;
	}
	forget(dynamic, oldest);
	return true;
}

/* Who has less than an equal share of all takes from who has most, but nothing that has an open connection. */
static bool take_share(struct dynamic_names *dynamic, const struct asker *asker)
{
	const struct asker *most = asker;
	struct entry *oldest;

	if (asker->names * HASH_COUNT(dynamic->askers) >= DYNAMIC_NAMES_MAX)
		return false;
	for (const struct asker *other = dynamic->askers; other; other = other->hh.next)
		if (other->names > most->names)
			most = other;
	oldest = most->names > asker->names + 1 ? least_recently_used(dynamic, most) : NULL;
	if (!oldest || (oldest->held_ms && loop_now_ms() - oldest->held_ms < HOLD_MS))
		return false;
	forget(dynamic, oldest);
	return true;
}

enum dynamic_state dynamic_names_ask(struct dynamic_names *dynamic, uint32_t workload, const char *host, bool is_held)
{
	struct entry *entry = find(dynamic, host);
	struct asker *asker;

	if (entry) {
		entry->used_ms = loop_now_ms();
		entry->held_ms = is_held ? entry->used_ms : entry->held_ms;
		return has_address(dynamic, entry) ? DYNAMIC_KNOWN : entry->empty_ms ? DYNAMIC_NONE : DYNAMIC_PENDING;
	}
	asker = asker_of(dynamic, workload);
	if (asker->unanswered >= DYNAMIC_UNANSWERED_MAX ||
	    (asker->names >= limit(dynamic) && !make_room(dynamic, asker) && !take_share(dynamic, asker))) {
		atomic_fetch_add(&dynamic->refused, 1);
		if (worth_logging(dynamic))
			log_warning("%s: not looked up: workload %u has %zu names in use, %zu of them unanswered; there is no room for more", host,
				    workload, asker->names, asker->unanswered);
		leave(dynamic, asker);
		return DYNAMIC_REFUSED;
	}
	add(dynamic, asker_of(dynamic, workload), host); /* again: it may have made room by its last name */
	return DYNAMIC_PENDING;
}

void dynamic_names_adopt(struct dynamic_names *dynamic, const char *host, const uint8_t address[16])
{
	if (!find(dynamic, host)) {
		if (HASH_COUNT(dynamic->entries) >= DYNAMIC_NAMES_MAX)
			return;
		add(dynamic, asker_of(dynamic, ADOPTED), host);
	}
	names_adopt(dynamic->names, host, address);
}

void dynamic_names_retain(struct dynamic_names *dynamic, bool (*wanted)(void *context, const char *host), void *context)
{
	struct entry *entry, *next;

	HASH_ITER(hh, dynamic->entries, entry, next) {
		if (!wanted(context, entry->host))
			forget(dynamic, entry);
	}
}

/* ---- what is known ---- */

static size_t at_most(size_t count)
{
	return count < DYNAMIC_ADDRESSES_MAX ? count : DYNAMIC_ADDRESSES_MAX;
}

const uint8_t (*dynamic_names_get(struct dynamic_names *dynamic, const char *host, size_t *count))[16]
{
	const uint8_t (*addresses)[16] = names_get(dynamic->names, host, count);

	*count = at_most(*count);
	return addresses;
}

struct asked_names dynamic_names_list(struct dynamic_names *dynamic)
{
	struct asked_names list = {.count = 0};

	dynamic->list = xrealloc(dynamic->list, HASH_COUNT(dynamic->entries) + 1, sizeof(*dynamic->list));
	for (const struct entry *entry = dynamic->entries; entry; entry = entry->hh.next) {
		struct asked_name *name = &dynamic->list[list.count++];
		size_t former;

		name->host = entry->host;
		name->addresses = dynamic_names_get(dynamic, entry->host, &name->count);
		name->former = names_former(dynamic->names, entry->host, &former); /* the last are the latest */
		name->former_count = at_most(former);
		if (name->former_count)
			name->former += former - name->former_count;
	}
	list.items = dynamic->list;
	return list;
}

void dynamic_names_statistics(const struct dynamic_names *dynamic, struct dynamic_statistics *out)
{
	out->known = atomic_load(&dynamic->known);
	out->refused = atomic_load(&dynamic->refused);
	out->refused_addresses = atomic_load(&dynamic->refused_addresses);
}

/* ---- the whole ---- */

static void set_default(uint32_t *option, uint32_t value)
{
	if (!*option)
		*option = value;
}

static int on_socket(void *context, int fd)
{
	struct dynamic_names *dynamic = context;

	return dynamic->options.socket ? dynamic->options.socket(dynamic->options.context, fd) : 0;
}

int dynamic_names_new(struct dynamic_names **out, struct loop *loop, const struct dynamic_options *options)
{
	struct dynamic_names *dynamic = xcalloc(1, sizeof(*dynamic));
	struct names_options names = {.resolv_conf = options->resolv_conf, .ttl_floor_s = options->ttl_floor_s,
				      .questions = QUESTIONS, .quiet = true, .changed = on_changed, .empty = on_empty,
				      .admits = admits, .socket = on_socket, .context = dynamic};
	int error;

	dynamic->options = *options;
	set_default(&dynamic->options.grace_s, 60);
	set_default(&dynamic->options.empty_s, 3);
	set_default(&dynamic->options.idle_s, 300);
	names.grace_s = dynamic->options.grace_s;
	names.retry_floor_s = 2 * dynamic->options.empty_s; /* who has no address is asked about when it is named again */
	error = names_new(&dynamic->names, loop, &names);
	if (error) {
		free(dynamic);
		return error;
	}
	dynamic->tick = loop_timer_new(loop, on_tick, dynamic);
	*out = dynamic;
	return 0;
}

void dynamic_names_free(struct dynamic_names *dynamic)
{
	struct entry *entry, *next;

	if (!dynamic)
		return;
	HASH_ITER(hh, dynamic->entries, entry, next) {
		HASH_DEL(dynamic->entries, entry);
		entry->asker->names--;
		leave(dynamic, entry->asker);
		free(entry);
	}
	names_free(dynamic->names);
	loop_timer_free(dynamic->tick);
	free(dynamic->list);
	free(dynamic);
}
