// SPDX-License-Identifier: Apache-2.0
#include "names/names.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <uthash.h>

#include "base/log.h"
#include "base/memory.h"
#include "names/addresses.h"
#include "names/resolver.h"
#include "names/schedule.h"

#define FAMILIES 2

struct name {
	UT_hash_handle hh;
	struct schedule_entry entry; /* the next moment to look at it */
	struct addresses addresses;
	uint64_t due_ms;      /* when to ask */
	uint32_t references;  /* the table's, and one for each answer that is still to come */
	uint32_t failures;    /* rounds in a row that brought no address or no answer */
	uint32_t ttl_s;       /* the smallest of this round */
	uint8_t outstanding;  /* answers still to come in this round */
	bool found, failed, cancelled; /* in this round */
	bool failing;         /* the last round failed */
	bool settled;
	bool wanted;          /* in the table */
	bool full;            /* had more addresses than there is room for */
	const char *why;      /* this round brought no address or no answer */
	const char *error;    /* the same of the last round */
	char host[];
};

struct names {
	struct names_options options;
	struct resolver *resolver;
	struct loop_timer *timer;
	struct name *table;
	struct schedule schedule;
	size_t asked;     /* names with answers to come */
	size_t unsettled;
	size_t failing;   /* names whose last round failed */
};

static struct name *name_of(struct schedule_entry *entry)
{
	return (struct name *)(void *)((char *)entry - offsetof(struct name, entry));
}

static void release(struct name *name)
{
	if (--name->references)
		return;
	addresses_fini(&name->addresses);
	free(name);
}

static void arm(struct names *names)
{
	const struct schedule_entry *first = schedule_first(&names->schedule);
	uint64_t now = loop_now_ms();

	/* With all slots taken, the next answer arms the timer. */
	if (!first || first->at_ms == UINT64_MAX || names->asked >= names->options.questions)
		loop_timer_disarm(names->timer);
	else
		loop_timer_arm(names->timer, first->at_ms > now ? first->at_ms - now : 0);
}

static void reschedule(struct names *names, struct name *name)
{
	uint64_t expiry = addresses_next_expiry(&name->addresses);
	uint64_t due = name->outstanding ? UINT64_MAX : name->due_ms;

	schedule_set(&names->schedule, &name->entry, expiry < due ? expiry : due);
}

/* ---- answers ---- */

/* Up to a tenth sooner, so that names that were asked together do not stay together. */
static uint64_t jittered_ms(uint64_t seconds)
{
	uint32_t most = (uint32_t)(seconds * 100);

	return seconds * 1000 - arc4random_uniform(most + 1);
}

static uint64_t wait_ms(const struct names *names, const struct name *name)
{
	const struct names_options *options = &names->options;
	uint64_t seconds = name->found ? name->ttl_s : options->ttl_ceiling_s;

	if (seconds < options->ttl_floor_s)
		seconds = options->ttl_floor_s;
	if (seconds > options->ttl_ceiling_s)
		seconds = options->ttl_ceiling_s;
	if (name->failures) {
		uint32_t doublings = name->failures < 16 ? name->failures - 1 : 15;
		uint64_t retry = (uint64_t)options->retry_floor_s << doublings;

		if (retry < seconds)
			seconds = retry;
	}
	return jittered_ms(seconds);
}

/* What may be used of an answer: a list to be freed. */
static uint8_t (*admitted(struct names *names, const struct name *name, const struct resolver_answer *answer, size_t *count))[16]
{
	const struct names_options *options = &names->options;
	uint8_t (*list)[16] = xcalloc(answer->count, sizeof(*list));

	*count = 0;
	for (size_t i = 0; i < answer->count; i++)
		if (!options->admits || options->admits(options->context, name->host, answer->addresses[i]))
			memcpy(list[(*count)++], answer->addresses[i], sizeof(*list));
	return list;
}

static bool take(struct names *names, struct name *name, const struct resolver_answer *answer)
{
	_cleanup_free_ uint8_t (*list)[16] = NULL;
	uint64_t leave_ms = loop_now_ms() + (uint64_t)names->options.grace_s * 1000;
	uint8_t bit = answer->family == AF_INET ? 1 : 2;
	size_t left_out, count;
	bool changed;

	if (answer->error == -ECANCELED) {
		name->cancelled = true;
		return false;
	}
	if (answer->error || (!name->failed && answer->why))
		name->why = answer->why;
	if (answer->error) {
		name->failed = true;
		return false;
	}
	list = admitted(names, name, answer, &count);
	if (!count && answer->count && !name->failed)
		name->why = "no address that may be used";
	changed = addresses_answer(&name->addresses, bit, (const uint8_t (*)[16])list, count, leave_ms, &left_out);
	if (left_out && !name->full && !names->options.quiet)
		log_warning("%s: has more addresses than %d; %zu are left out", name->host, ADDRESSES_MAX, left_out);
	name->full |= left_out != 0;
	if (count) {
		name->found = true;
		if (answer->ttl_s < name->ttl_s)
			name->ttl_s = answer->ttl_s;
	}
	return changed;
}

/* One line when names begin to fail and one when all answer again; `status` has each name's. */
static void note_failing(struct names *names, struct name *name)
{
	if (name->failed && !name->failing && !names->failing++ && !names->options.quiet)
		log_warning("resolver: %s: %s; the last good addresses stay, it is asked again", name->host, name->why);
	if (!name->failed && name->failing && !--names->failing && !names->options.quiet)
		log_info("resolver: answers for every name again");
	name->failing = name->failed;
}

static void finish_round(struct names *names, struct name *name)
{
	if (name->cancelled) {
		name->due_ms = loop_now_ms();
		return;
	}
	if (!name->settled)
		names->unsettled--;
	name->settled = true;
	note_failing(names, name);
	if (!name->failed && !name->found && (!name->error || strcmp(name->error, name->why)) && !names->options.quiet)
		log_warning("%s: %s; addresses it had leave after %u s, it is asked again", name->host, name->why,
			    names->options.grace_s);
	name->error = name->failed || !name->found ? name->why : NULL;
	name->failures = name->error ? name->failures + 1 : 0;
	name->due_ms = loop_now_ms() + wait_ms(names, name);
}

/* The callbacks come last: they may change what is wanted. */
static void on_answered(void *context, void *asker, const struct resolver_answer *answer)
{
	struct names *names = context;
	struct name *name = asker;
	bool changed = name->wanted && take(names, name, answer), is_empty = false;

	if (!--name->outstanding) {
		names->asked--;
		if (name->wanted)
			finish_round(names, name);
		is_empty = name->wanted && !name->cancelled && !name->addresses.count;
	}
	if (name->wanted)
		reschedule(names, name);
	if (changed)
		names->options.changed(names->options.context, name->host);
	if (is_empty && names->options.empty)
		names->options.empty(names->options.context, name->host);
	release(name);
	arm(names);
}

/* ---- asking ---- */

static void ask(struct names *names, struct name *name)
{
	name->outstanding = FAMILIES;
	name->references += FAMILIES;
	name->found = name->failed = name->cancelled = false;
	name->why = NULL;
	name->ttl_s = UINT32_MAX;
	names->asked++;
	reschedule(names, name);
	resolver_ask(names->resolver, name->host, name);
}

static void tend(struct names *names, struct name *name)
{
	uint64_t now = loop_now_ms();
	bool changed = addresses_expire(&name->addresses, now);

	name->references++;
	if (!name->outstanding && name->due_ms <= now)
		ask(names, name);
	else
		reschedule(names, name);
	if (changed && name->wanted)
		names->options.changed(names->options.context, name->host);
	release(name);
}

static void on_timer(void *context)
{
	struct names *names = context;

	/* Bounded: answers from /etc/hosts and refused sockets come at once. */
	for (unsigned budget = names->options.questions; budget && names->asked < names->options.questions; budget--) {
		struct schedule_entry *first = schedule_first(&names->schedule);

		if (!first || first->at_ms > loop_now_ms())
			break;
		tend(names, name_of(first));
	}
	arm(names);
}

static void on_restarted(void *context)
{
	struct names *names = context;
	uint64_t now = loop_now_ms();

	for (struct name *name = names->table; name; name = name->hh.next) {
		if (!name->failures)
			continue;
		name->due_ms = now;
		reschedule(names, name);
	}
	arm(names);
}

static int on_socket(void *context, int fd)
{
	struct names *names = context;

	return names->options.socket ? names->options.socket(names->options.context, fd) : 0;
}

/* ---- the set of names ---- */

static struct name *find(const struct names *names, const char *host)
{
	struct name *name;

	HASH_FIND_STR(names->table, host, name);
	return name;
}

static struct name *add(struct names *names, const char *host)
{
	struct name *name = xcalloc(1, sizeof(*name) + strlen(host) + 1);

	memcpy(name->host, host, strlen(host) + 1);
	name->references = 1;
	name->due_ms = loop_now_ms();
	HASH_ADD_STR(names->table, host, name);
	names->unsettled++;
	reschedule(names, name);
	return name;
}

static void forget(struct names *names, struct name *name)
{
	HASH_DEL(names->table, name);
	schedule_remove(&names->schedule, &name->entry);
	if (!name->settled)
		names->unsettled--;
	if (name->failing)
		names->failing--;
	name->wanted = false;
	release(name);
}

static void forget_unwanted(struct names *names)
{
	struct name *name, *next;

	HASH_ITER(hh, names->table, name, next) {
		if (!name->wanted)
			forget(names, name);
	}
}

void names_want(struct names *names, const struct string_list *hosts)
{
	struct name *name;

	for (name = names->table; name; name = name->hh.next)
		name->wanted = false;
	for (size_t i = 0; i < hosts->count; i++) {
		name = find(names, hosts->items[i]);
		if (!name)
			name = add(names, hosts->items[i]);
		name->wanted = true;
	}
	forget_unwanted(names);
	arm(names);
}

void names_add(struct names *names, const char *host)
{
	if (find(names, host))
		return;
	add(names, host)->wanted = true;
	arm(names);
}

void names_drop(struct names *names, const char *host)
{
	struct name *name = find(names, host);

	if (!name)
		return;
	forget(names, name);
	arm(names);
}

const uint8_t (*names_get(struct names *names, const char *host, size_t *count))[16]
{
	const struct name *name = find(names, host);

	*count = name ? name->addresses.count : 0;
	return *count ? (const uint8_t (*)[16])name->addresses.list : NULL;
}

const uint8_t (*names_former(struct names *names, const char *host, size_t *count))[16]
{
	struct name *name = find(names, host);

	*count = 0;
	return name ? addresses_former(&name->addresses, loop_now_ms(), count) : NULL;
}

void names_adopt(struct names *names, const char *host, const uint8_t address[16])
{
	struct name *name = find(names, host);

	if (name)
		addresses_remember(&name->addresses, address, loop_now_ms() + FORMER_MS);
}

size_t names_failing(const struct names *names, const char **host, const char **why)
{
	for (const struct name *name = names->table; name && names->failing; name = name->hh.next) {
		if (!name->failing)
			continue;
		*host = name->host;
		*why = name->error;
		break;
	}
	return names->failing;
}

bool names_settled(const struct names *names)
{
	return !names->unsettled;
}

size_t names_status(const struct names *names, struct name_status *out, size_t room)
{
	uint64_t now = loop_now_ms();
	size_t n = 0;

	for (const struct name *name = names->table; name && n < room; name = name->hh.next) {
		out[n++] = (struct name_status){
			.host = name->host,
			.address_count = name->addresses.count,
			.error = name->error,
			.next_in_ms = name->outstanding || name->due_ms <= now ? 0 : name->due_ms - now,
		};
	}
	return HASH_COUNT(names->table);
}

/* ---- the whole ---- */

static void set_default(uint32_t *option, uint32_t value)
{
	if (!*option)
		*option = value;
}

int names_new(struct names **out, struct loop *loop, const struct names_options *options)
{
	struct names *names = xcalloc(1, sizeof(*names));
	struct resolver_options resolver = {
		.resolv_conf = options->resolv_conf ? options->resolv_conf : RESOLV_CONF,
		.answered = on_answered,
		.restarted = on_restarted,
		.socket = on_socket,
		.context = names,
	};
	int error;

	names->options = *options;
	set_default(&names->options.ttl_floor_s, 5);
	set_default(&names->options.ttl_ceiling_s, 300);
	set_default(&names->options.grace_s, 60);
	set_default(&names->options.retry_floor_s, 1);
	set_default(&names->options.questions, 64);
	error = resolver_new(&names->resolver, loop, &resolver);
	if (error) {
		free(names);
		return error;
	}
	names->timer = loop_timer_new(loop, on_timer, names);
	*out = names;
	return 0;
}

void names_free(struct names *names)
{
	if (!names)
		return;
	resolver_free(names->resolver);
	for (struct name *name = names->table; name; name = name->hh.next)
		name->wanted = false;
	forget_unwanted(names);
	schedule_fini(&names->schedule);
	loop_timer_free(names->timer);
	free(names);
}
