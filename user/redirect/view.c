// SPDX-License-Identifier: Apache-2.0
/*
 * What the main thread publishes and the workers read: views, tables, names. Nothing published changes; it is replaced.
 * What was replaced is freed when every worker has begun a round after the replacement (they hold nothing of a view
 * across rounds), tables and places when their last connection lets go as well.
 */
#include "redirect/view.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.h"
#include "base/memory.h"
#include "redirect/origination.h"
#include "redirect/ring.h"

_Atomic(struct view *) current_view;
atomic_ulong current_epoch;

/* ---- reclaiming ---- */

struct retired {
	struct retired *next;
	void *object;
	void (*destroy)(void *object);
	unsigned long epoch;
};

static struct retired *retired_objects;

void view_retire(void *object, void (*destroy)(void *object))
{
	struct retired *retired = xcalloc(1, sizeof(*retired));

	*retired = (struct retired){retired_objects, object, destroy, atomic_load(&current_epoch)};
	retired_objects = retired;
}

void view_retire_ahead(void *object, void (*destroy)(void *object))
{
	view_retire(object, destroy);
	retired_objects->epoch++;
}

void view_reclaim(void)
{
	unsigned long oldest = atomic_load(&current_epoch);

	for (unsigned int i = 0; i < worker_count; i++) {
		unsigned long seen = atomic_load(&workers[i].seen);

		if (seen < oldest)
			oldest = seen;
	}
	for (struct retired **at = &retired_objects; *at;) {
		struct retired *retired = *at;

		if (retired->epoch > oldest) {
			at = &retired->next;
			continue;
		}
		*at = retired->next;
		retired->destroy(retired->object);
		free(retired);
	}
}

void view_advance(void)
{
	atomic_fetch_add(&current_epoch, 1);
	for (unsigned int i = 0; i < worker_count; i++)
		worker_wake(&workers[i]);
}

/* ---- tables ---- */

struct table *table_hold(struct table *table)
{
	atomic_fetch_add_explicit(&table->references, 1, memory_order_relaxed);
	return table;
}

void table_release(struct table *table)
{
	if (!table || atomic_fetch_sub_explicit(&table->references, 1, memory_order_acq_rel) != 1)
		return;
	for (size_t i = 0; i < policy_service_count(table->policy); i++)
		free(table->target_names[i]);
	free(table->target_names);
	for (size_t i = 0; i < policy_service_count(table->policy); i++)
		ring_free(atomic_load(&table->rings[i]));
	free(table->rings);
	free(table->plain);
	if (table->log_fd >= 0)
		close(table->log_fd);
	free(table->turns);
	origination_free(table);
	policy_free(table->policy);
	config_free(table->config);
	free(table);
}

static struct name_entry *names;

static struct name_entry *name_of(const char *host)
{
	struct name_entry *entry;

	HASH_FIND_STR(names, host, entry);
	if (entry)
		return entry;
	entry = xcalloc(1, sizeof(*entry));
	entry->host = xstrdup(host);
	HASH_ADD_KEYPTR(hh, names, entry->host, strlen(entry->host), entry);
	return entry;
}

static void bind_names(struct table *table)
{
	size_t count = policy_service_count(table->policy);

	table->target_names = xcalloc(count, sizeof(*table->target_names));
	table->turns = xcalloc(count, sizeof(*table->turns));
	for (size_t i = 0; i < count; i++) {
		const struct service *service = policy_service(table->policy, (uint32_t)i + 1);

		table->target_names[i] = xcalloc(service->target_count, sizeof(**table->target_names));
		for (size_t k = 0; k < service->target_count; k++)
			if (service->targets[k].host && !service_is_dynamic(service))
				table->target_names[i][k] = name_of(service->targets[k].host);
	}
}

/* Of consistentHash: the addresses known now, each with its endpoint's weight. */
static struct ring *build_ring(const struct table *table, const struct service *service)
{
	struct ring_address *items = NULL;
	size_t count = 0, capacity = 0;
	struct ring *ring;

	for (size_t i = 0; i < service->target_count; i++) {
		const struct upstream_target *target = &service->targets[i];
		const struct name_entry *name = table->target_names[service->id - 1][i];
		const struct addresses *known = name ? atomic_load(&name->addresses) : NULL;
		size_t n = !target->host ? 1 : !known ? 0 : service->one_address && known->count ? 1 : known->count;

		for (size_t k = 0; k < n; k++) {
			struct ring_address *item = array_append(items, count, capacity);

			memcpy(item->addr, target->host ? known->items[k] : target->addr, 16);
			item->port = target->port;
			item->weight = target->weight ? target->weight : 1;
		}
	}
	ring = ring_new(items, count, service->policy.balance.ring_size);
	free(items);
	return ring;
}

static bool hashes(const struct service *service)
{
	return service->policy.balance.way == BALANCE_HASH;
}

static void build_rings(struct table *table)
{
	size_t count = policy_service_count(table->policy);

	table->rings = xcalloc(count, sizeof(*table->rings));
	for (size_t i = 0; i < count; i++) {
		const struct service *service = policy_service(table->policy, (uint32_t)i + 1);

		if (hashes(service))
			atomic_store(&table->rings[i], build_ring(table, service));
	}
}

static int by_host_and_port(const void *a, const void *b)
{
	const struct service *x = *(const struct service *const *)a, *y = *(const struct service *const *)b;
	int order = strcmp(x->host, y->host);

	if (!order)
		order = (x->port > y->port) - (x->port < y->port);
	return order ? order : (x->registry > y->registry) - (x->registry < y->registry);
}

static void collect_plain(struct table *table)
{
	size_t count = policy_service_count(table->policy);

	table->plain = xcalloc(count, sizeof(*table->plain));
	for (size_t i = 0; i < count; i++) {
		const struct service *service = policy_service(table->policy, (uint32_t)i + 1);

		if (service->flags & SERVICE_TCP && service->protocol != PROTOCOL_UDP && !service->subset)
			table->plain[table->plain_count++] = service;
	}
	qsort(table->plain, table->plain_count, sizeof(*table->plain), by_host_and_port);
}

const struct service *table_find_plain(const struct table *table, uint32_t registry, const char *host, uint16_t port)
{
	struct service key = {.host = host, .port = port, .registry = registry};
	const struct service *wanted = &key;
	const struct service *const *found =
		bsearch(&wanted, table->plain, table->plain_count, sizeof(*table->plain), by_host_and_port);

	return found ? *found : NULL;
}

/* Where DNS says it is, only the kernel's tables know. */
static bool may_be_at(const struct service *service, const uint8_t addr[16])
{
	if (service->resolution == RESOLUTION_DNS || service->resolution == RESOLUTION_DNS_ROUND_ROBIN ||
	    (service->entry && cidrs_hold(&service->entry->addresses, addr)))
		return true;
	for (size_t i = 0; service->resolution == RESOLUTION_STATIC && !service->address_count && i < service->target_count; i++)
		if (!service->targets[i].socket && !memcmp(service->targets[i].addr, addr, 16))
			return true;
	return false;
}

bool table_may_have_plain(const struct table *table, uint32_t registry, const uint8_t addr[16], uint16_t port)
{
	for (size_t i = 0; i < table->plain_count; i++)
		if (table->plain[i]->registry == registry && table->plain[i]->port == port && may_be_at(table->plain[i], addr))
			return true;
	return false;
}

static void say_first_error(const struct config *config, char *why, size_t room)
{
	for (size_t i = 0; i < config->problem_count; i++) {
		if (config->problems[i].severity == SEVERITY_ERROR) {
			config_problem_format(why, room, &config->problems[i]);
			return;
		}
	}
	snprintf(why, room, "it has errors");
}

int table_compile(struct table **out, uint64_t generation, int memfd, const char *root_namespace, char *why, size_t room)
{
	struct policy_options options = {.root_namespace = root_namespace};
	struct config_source source = {0};
	struct config *config = config_new();
	struct policy *policy = NULL;
	struct table *table;
	/* Not fstat(), which may be a call that also takes paths: confine.c. */
	off_t end = lseek(memfd, 0, SEEK_END);
	size_t length = end > 0 ? (size_t)end : 0;
	void *bytes = length ? mmap(NULL, length, PROT_READ, MAP_PRIVATE, memfd, 0) : MAP_FAILED;

	snprintf(why, room, "the table cannot be read");
	config->unix_directory = ""; /* the loader has judged where they may be, and it dials them */
	if (bytes != MAP_FAILED && !config_source_unpack(&source, bytes, length)) {
		config_parse_source(config, &source, root_namespace);
		policy = config->error_count ? NULL : policy_compile(config, &options);
		if (!policy)
			say_first_error(config, why, room);
	}
	if (bytes != MAP_FAILED)
		munmap(bytes, length);
	config_source_free(&source);
	if (!policy) {
		config_free(config);
		return -EINVAL;
	}
	table = xcalloc(1, sizeof(*table));
	table->generation = generation;
	table->log_fd = -1;
	table->config = config;
	table->policy = policy;
	atomic_store(&table->references, 1);
	bind_names(table);
	build_rings(table);
	collect_plain(table);
	if (origination_bind(table, why, room)) {
		table_release(table);
		return -EINVAL;
	}
	config_forget_credentials(config); /* what is needed of them is in the contexts */
	why[0] = 0;
	*out = table;
	return 0;
}

void table_take_log(struct table *table, int fd)
{
	int domain;
	socklen_t size = sizeof(domain);

	if (!table->config->mesh || !table->config->mesh->access_log.file) {
		close(fd);
		return;
	}
	table->log_fd = fd;
	table->log_is_socket = getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &size) == 0;
}

/* ---- names ---- */

static bool resolves(const struct table *table, const struct service *service, const struct name_entry *name)
{
	for (size_t i = 0; i < service->target_count; i++)
		if (table->target_names[service->id - 1][i] == name)
			return true;
	return false;
}

/* Of the tables that new connections are decided by; a ring that misses an address is passed over (upstream.c). */
static void renew_rings(struct table *table, const struct name_entry *name)
{
	for (size_t i = 0; table && i < policy_service_count(table->policy); i++) {
		const struct service *service = policy_service(table->policy, (uint32_t)i + 1);

		if (hashes(service) && resolves(table, service, name))
			view_retire_ahead(atomic_exchange(&table->rings[i], build_ring(table, service)), ring_free);
	}
}

void name_publish(const char *host, const uint8_t (*addresses)[16], size_t count, bool known)
{
	struct name_entry *entry = name_of(host);
	struct addresses *fresh = xcalloc(1, sizeof(*fresh) + count * 16), *old;
	const struct view *view = atomic_load(&current_view);

	fresh->count = count;
	fresh->known = known;
	if (count)
		memcpy(fresh->items, addresses, count * 16);
	old = atomic_exchange(&entry->addresses, fresh);
	if (view) {
		renew_rings(view->table, entry);
		renew_rings(view->previous, entry);
	}
	view_advance();
	if (old)
		view_retire(old, free);
}

/* ---- places ---- */

struct place *place_hold(struct place *place)
{
	atomic_fetch_add_explicit(&place->references, 1, memory_order_relaxed);
	return place;
}

void place_release(struct place *place)
{
	if (place && atomic_fetch_sub_explicit(&place->references, 1, memory_order_acq_rel) == 1)
		free(place);
}

/* ---- workloads ---- */

struct known_workload {
	UT_hash_handle hh;
	uint32_t id;
	char *strings; /* namespace, name, key, value, ... each with its NUL */
	struct workload_identity identity;
	struct label *labels;
};

static struct known_workload *known_workloads;

static void known_free(struct known_workload *known)
{
	free(known->strings);
	free(known->labels);
	free(known);
}

static const char *next_string(const char **at, const char *end)
{
	const char *text = *at;

	if (text >= end)
		return "";
	*at = text + strlen(text) + 1;
	return text;
}

/* `strings` ends in a NUL (the caller sees to it). */
void workload_learn(uint32_t id, const char *strings, size_t length, uint32_t label_count)
{
	struct known_workload *known, *old;
	const char *at, *end;

	if (label_count > length)
		return;
	known = xcalloc(1, sizeof(*known));
	known->id = id;
	known->strings = xcalloc(length + 1, 1);
	memcpy(known->strings, strings, length);
	known->labels = xcalloc(label_count, sizeof(*known->labels));
	at = known->strings;
	end = known->strings + length;
	known->identity.namespace_ = next_string(&at, end);
	known->identity.name = next_string(&at, end);
	for (uint32_t i = 0; i < label_count; i++) {
		known->labels[i].key = next_string(&at, end);
		known->labels[i].value = next_string(&at, end);
	}
	known->identity.labels = known->labels;
	known->identity.label_count = label_count;
	HASH_REPLACE(hh, known_workloads, id, sizeof(known->id), known, old);
	if (old)
		known_free(old);
}

void workload_forget(uint32_t id)
{
	struct known_workload *known;

	HASH_FIND(hh, known_workloads, &id, sizeof(id), known);
	if (!known)
		return;
	HASH_DEL(known_workloads, known);
	known_free(known);
}

static const struct rule_set *rules_for(struct table *table, const struct workload_identity *who)
{
	const struct rule_set *rules = NULL;

	/* Stays valid as long as the table: outgrown arrays stay in the policy's arena. */
	if (table)
		policy_rule_set(table->policy, who, &rules);
	return rules;
}

static int by_workload(const void *a, const void *b)
{
	const struct roster_entry *x = a, *y = b;

	return (x->workload > y->workload) - (x->workload < y->workload);
}

static struct workload_identity copy_identity(struct arena *arena, const struct workload_identity *of)
{
	struct workload_identity copy = {arena_strdup(arena, of->namespace_), arena_strdup(arena, of->name), NULL, of->label_count};
	struct label *labels = arena_alloc(arena, of->label_count + 1, sizeof(*labels));

	for (size_t i = 0; i < of->label_count; i++)
		labels[i] = (struct label){arena_strdup(arena, of->labels[i].key), arena_strdup(arena, of->labels[i].value)};
	copy.labels = labels;
	return copy;
}

static void fill_roster(struct view *view)
{
	static const struct workload_identity node_default = {.namespace_ = "", .name = ""};
	struct known_workload *known, *next;

	view->roster = xcalloc(HASH_COUNT(known_workloads) + 1, sizeof(*view->roster));
	view->arena = arena_new();
	view->roster[0] = (struct roster_entry){.who = node_default, .now = rules_for(view->table, &node_default),
						.previous = rules_for(view->previous, &node_default)};
	view->roster_count = 1;
	HASH_ITER(hh, known_workloads, known, next) {
		struct roster_entry *entry = &view->roster[view->roster_count++];

		entry->workload = known->id;
		snprintf(entry->name, sizeof(entry->name), "%s/%s", known->identity.namespace_, known->identity.name);
		entry->who = copy_identity(view->arena, &known->identity);
		entry->now = rules_for(view->table, &known->identity);
		entry->previous = rules_for(view->previous, &known->identity);
	}
	qsort(view->roster, view->roster_count, sizeof(*view->roster), by_workload);
}

const struct roster_entry *roster_find(const struct view *view, uint32_t workload)
{
	struct roster_entry key = {.workload = workload};
	const struct roster_entry *found = bsearch(&key, view->roster, view->roster_count, sizeof(key), by_workload);

	return found ? found : &view->roster[0];
}

/* ---- listeners ---- */

static struct listener **listeners;
static size_t listener_count, listener_capacity;

static void listener_destroy(void *object)
{
	struct listener *listener = object;

	close(listener->fd);
	place_release(listener->place);
	free(listener);
}

bool listener_add(uint64_t cookie, bool v6, int fd)
{
	struct listener *listener;
	struct place *place = NULL;

	for (size_t i = 0; i < listener_count; i++) {
		if (listeners[i]->place->cookie != cookie)
			continue;
		if (listeners[i]->v6 == v6)
			return false;
		place = place_hold(listeners[i]->place);
	}
	if (!place) {
		place = xcalloc(1, sizeof(*place));
		place->cookie = cookie;
		atomic_store(&place->references, 1);
	}
	listener = xcalloc(1, sizeof(*listener));
	*listener = (struct listener){.kind = WATCH_LISTENER, .fd = fd, .v6 = v6, .place = place};
	*array_append(listeners, listener_count, listener_capacity) = listener;
	return true;
}

bool listeners_drop(uint64_t cookie)
{
	size_t kept = 0;
	bool dropped = false;

	for (size_t i = 0; i < listener_count; i++) {
		if (listeners[i]->place->cookie != cookie) {
			listeners[kept++] = listeners[i];
			continue;
		}
		atomic_store(&listeners[i]->place->gone, true);
		view_retire_after_next(listeners[i], listener_destroy);
		dropped = true;
	}
	listener_count = kept;
	return dropped;
}

size_t listeners_count(void)
{
	return listener_count;
}

const struct listener *listeners_get(size_t i)
{
	return listeners[i];
}

/* ---- publishing ---- */

static void view_destroy(void *object)
{
	struct view *view = object;

	table_release(view->table);
	table_release(view->previous);
	arena_free(view->arena);
	free(view->roster);
	free(view->listeners);
	free(view);
}

/* What the next publication takes out of sight. */
static struct retired *leaving;

void view_retire_after_next(void *object, void (*destroy)(void *object))
{
	struct retired *retired = xcalloc(1, sizeof(*retired));

	*retired = (struct retired){leaving, object, destroy, 0};
	leaving = retired;
}

void view_publish(struct table *table, struct table *previous)
{
	struct view *view = xcalloc(1, sizeof(*view)), *old;

	view->table = table ? table_hold(table) : NULL;
	view->previous = previous ? table_hold(previous) : NULL;
	fill_roster(view);
	/* Without a table nobody may be accepted. */
	view->listener_count = table ? listener_count : 0;
	view->listeners = xcalloc(listener_count, sizeof(*view->listeners));
	if (listener_count)
		memcpy(view->listeners, listeners, listener_count * sizeof(*listeners));
	old = atomic_exchange(&current_view, view);
	view_advance();
	if (old)
		view_retire(old, view_destroy);
	while (leaving) {
		struct retired *retired = leaving;

		leaving = retired->next;
		view_retire(retired->object, retired->destroy);
		free(retired);
	}
}
