// SPDX-License-Identifier: Apache-2.0
/* Where `explain` finds its rules: compiled from files, or in the pinned maps of this node. */
#include "command/explain.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "workload/cgroup.h"

#define MAX_LISTED 16 /* addresses of a service */

/* ---- offline: a compiled policy ---- */

static void name_service(struct named *out, const struct service *service)
{
	*out = (struct named){.id = service->id, .flags = service->flags, .service = service};
	snprintf(out->host, sizeof(out->host), "%s", service->host);
	snprintf(out->origin, sizeof(out->origin), "%s", service->origin);
}

static bool policy_describe(struct source *source, uint32_t id, struct named *out)
{
	const struct service *service = policy_service(source->policy, id);

	if (service)
		name_service(out, service);
	return service != NULL;
}

static bool policy_find_named(struct source *source, uint32_t registry, const struct question *question, bool http,
			      struct named *out)
{
	const struct service *service =
		policy_find(source->policy, registry, question->host, strlen(question->host), question->port, http);

	if (service)
		name_service(out, service);
	return service != NULL;
}

void stand_in(uint8_t out[16], size_t index)
{
	const uint8_t v4[4] = {(uint8_t)(240 + (index >> 24) % 16), (uint8_t)(index >> 16), (uint8_t)(index >> 8), (uint8_t)index};

	addr_from_v4(out, v4);
}

static int compare_name(const void *name, const void *item)
{
	return strcmp(name, *(const char *const *)item);
}

const uint8_t (*stand_in_lookup(void *policy, const char *host, size_t *count))[16]
{
	static uint8_t found[1][16];
	const struct string_list *names = policy_names(policy);
	const char **name = names->count ? bsearch(host, names->items, names->count, sizeof(*names->items), compare_name) : NULL;

	*count = name ? 1 : 0;
	if (name)
		stand_in(found[0], (size_t)(name - names->items) + 1);
	return (const uint8_t (*)[16])found;
}

/* Where the entry of a service says that clients find it, before any name is resolved. */
static bool place_of_service(const struct service *service, struct place *out)
{
	const struct cidr *cidr = service->address_count ? &service->addresses[0] : NULL;
	size_t first = 0;

	*out = (struct place){.bits = 128, .known = true};
	while (first < service->target_count && service->targets[first].socket)
		first++;
	if (!cidr && (service->resolution != RESOLUTION_STATIC || first == service->target_count))
		return false;
	memcpy(out->addr, cidr ? cidr->addr : service->targets[first].addr, 16);
	if (cidr)
		out->bits = cidr->bits;
	return out->bits == 128 || !addr_is_loopback(out->addr);
}

static bool policy_place(struct source *source, const struct question *question, struct place *out)
{
	const uint8_t (*stand_in_for_name)[16];
	struct place place;
	bool found = false;
	size_t count;

	for (uint32_t id = 1; id <= policy_service_count(source->policy); id++) {
		const struct service *service = policy_service(source->policy, id);
		bool here = service->port == question->port && (service->protocol == PROTOCOL_UDP) == (question->protocol == SLUICE_UDP);

		if ((found && !here) || strcmp(service->host, question->host) || !place_of_service(service, &place))
			continue;
		*out = place;
		found = true;
		if (here)
			return true;
	}
	if (found)
		return true;
	stand_in_for_name = stand_in_lookup(source->policy, question->host, &count);
	if (!count)
		return false;
	*out = (struct place){.bits = 128};
	memcpy(out->addr, stand_in_for_name[0], 16);
	return true;
}

static const char *append(struct arena *arena, const char *list, const char *item)
{
	return arena_printf(arena, "%s%s%s", list, *list ? ", " : "", item);
}

static void policy_addresses(struct source *source, const struct named *named, struct notes *out)
{
	const struct service *service = named->service;
	char text[SLUICE_PREFIX_TEXT];
	const char *list = "";

	(void)source;
	for (size_t i = 0; i < service->address_count && i < MAX_LISTED; i++)
		list = append(out->arena, list, format_cidr(text, service->addresses[i].addr, service->addresses[i].bits));
	for (size_t i = 0; service->resolution == RESOLUTION_STATIC && !service->address_count && i < service->target_count && i < MAX_LISTED; i++)
		if (!service->targets[i].socket)
			list = append(out->arena, list, format_address(text, service->targets[i].addr));
	if ((service->resolution == RESOLUTION_DNS || service->resolution == RESOLUTION_DNS_ROUND_ROBIN) && !service->wildcard)
		list = append(out->arena, list, arena_printf(out->arena, "those of %s, resolved by DNS when running", service->host));
	notes_add(out, 0, "addresses", "", "%s%s", *list ? list : "whatever clients dial: known by its name",
		  service->address_count > MAX_LISTED || service->target_count > MAX_LISTED ? ", and more" : "");
}

void source_offline(struct source *out, struct policy *policy, const struct config *config, const struct tables *tables)
{
	*out = (struct source){tables, policy_describe, policy_find_named, policy_place, policy_addresses, policy, config, NULL};
}

/* ---- live: the pinned maps ---- */

static void name_catalog(struct named *out, uint32_t id, const struct catalog_value *value)
{
	*out = (struct named){.id = id, .flags = value->flags};
	memcpy(out->host, value->host, sizeof(out->host));
	memcpy(out->origin, value->origin, sizeof(out->origin));
}

static bool pins_describe(struct source *source, uint32_t id, struct named *out)
{
	struct catalog_value value;

	if (pins_lookup(source->pins, PIN_CATALOG, &id, &value))
		return false;
	name_catalog(out, id, &value);
	return true;
}

struct search {
	uint32_t registry;
	const struct question *question;
	bool http;
	struct named *best;
	size_t best_length; /* of the matching pattern; exact counts more than any wildcard */
};

/* The same precedence as policy_find(): exact, then the longest wildcard, then the lowest id. */
static void consider(void *context, const void *key, const void *value)
{
	struct search *search = context;
	const struct catalog_value *entry = value;
	const char *host = search->question->host;
	size_t n = strlen(entry->host), m = strlen(host), length = SIZE_MAX;
	uint32_t id;

	memcpy(&id, key, sizeof(id));
	if (entry->scope != search->registry || entry->port != search->question->port ||
	    !(entry->flags & (search->http ? SERVICE_HTTP : SERVICE_TLS)))
		return;
	if (entry->flags & SERVICE_WILDCARD) {
		if (m < n || strcmp(host + m - (n - 1), entry->host + 1))
			return;
		length = n;
	} else if (strcmp(host, entry->host)) {
		return;
	}
	if (length < search->best_length || (length == search->best_length && search->best->id && id > search->best->id))
		return;
	search->best_length = length;
	name_catalog(search->best, id, entry);
}

static bool pins_find_named(struct source *source, uint32_t registry, const struct question *question, bool http,
			    struct named *out)
{
	struct search search = {registry, question, http, out, 0};

	out->id = 0;
	pins_each(source->pins, PIN_CATALOG, consider, &search);
	return out->id != 0;
}

struct place_search {
	struct source *source;
	const struct question *question;
	struct place *out;
	bool found, here; /* `here`: on the port that was asked about */
};

static void consider_place(void *context, const void *key, const void *value)
{
	struct place_search *search = context;
	const struct service_key *where = key;
	const struct service_value *service = value;
	bool here = where->port == search->question->port && where->protocol == search->question->protocol;
	struct named named;

	if (search->here || (search->found && !here) || where->kind != KIND_SERVICE ||
	    !pins_describe(search->source, service->service, &named) || strcmp(named.host, search->question->host) ||
	    (where->prefixlen != SERVICE_KEY_FIXED_BITS + 128 && addr_is_loopback(where->addr)))
		return;
	*search->out = (struct place){.bits = (uint8_t)(where->prefixlen - SERVICE_KEY_FIXED_BITS), .known = true};
	memcpy(search->out->addr, where->addr, 16);
	search->found = true;
	search->here = here;
}

static bool pins_place(struct source *source, const struct question *question, struct place *out)
{
	struct place_search search = {source, question, out, false, false};

	pins_each(source->pins, PIN_SERVICES, consider_place, &search);
	return search.found;
}

struct listing {
	const struct named *named;
	enum sluice_kind kind;
	struct arena *arena;
	const char *list;
	size_t count;
};

static void list_address(void *context, const void *key, const void *value)
{
	struct listing *listing = context;
	const struct service_key *where = key;
	const struct service_value *service = value;
	char text[SLUICE_PREFIX_TEXT];
	const char *item;

	if (where->kind != listing->kind || service->service != listing->named->id)
		return;
	item = format_cidr(text, where->addr, where->prefixlen - SERVICE_KEY_FIXED_BITS);
	if (listing->count++ < MAX_LISTED)
		listing->list = append(listing->arena, listing->list,
				       listing->kind == KIND_SERVICE ? item : arena_printf(listing->arena, "%s port %u", item, where->port));
}

static void add_listing(struct source *source, const struct named *named, enum sluice_kind kind, const char *what, struct notes *out)
{
	struct listing listing = {named, kind, out->arena, "", 0};

	pins_each(source->pins, PIN_SERVICES, list_address, &listing);
	if (listing.count)
		notes_add(out, 0, what, "", "%s%s", listing.list, listing.count > MAX_LISTED ? ", and more" : "");
}

static void pins_addresses(struct source *source, const struct named *named, struct notes *out)
{
	add_listing(source, named, KIND_SERVICE, "addresses", out);
	add_listing(source, named, KIND_UPSTREAM, "dialled at", out);
	if (!out->count)
		notes_add(out, 0, "addresses", "", "none of its own is known now");
}

void source_live(struct source *out, struct pins *pins)
{
	*out = (struct source){pins_tables(pins), pins_describe, pins_find_named, pins_place, pins_addresses, NULL, NULL, pins};
}

/* ---- the workload ---- */

/* The deepest registered ancestor of a cgroup, as the kernel finds it. 0, -ENODATA if there is none, or -errno. */
static int workload_of_cgroup(const struct pins *pins, const char *cgroup, uint32_t *workload, char name[SLUICE_NAME_TEXT])
{
	char mount[PATH_MAX], given[2 * PATH_MAX], path[PATH_MAX];
	struct cgroup_value value;
	uint64_t id;
	size_t n;

	if (cgroup_mount_point(mount))
		return -ENOENT;
	n = strlen(mount);
	snprintf(given, sizeof(given), "%s/%s", mount, strncmp(cgroup, mount, n) ? cgroup : cgroup + n);
	if (!realpath(given, path))
		return -errno;
	if (strncmp(path, mount, n) || (path[n] && path[n] != '/'))
		return -ENOENT;
	for (; path[n]; *strrchr(path, '/') = 0) {
		if (cgroup_id_of(path, &id) || pins_lookup(pins, PIN_CGROUPS, &id, &value))
			continue;
		*workload = value.workload;
		memcpy(name, value.name, SLUICE_NAME_TEXT);
		return 0;
	}
	return -ENODATA;
}

struct workload_search {
	const struct who *who;
	uint32_t workload;
	char *name;
};

static bool in_namespace(const struct workload_value *workload, const char *namespace_)
{
	size_t n = namespace_ ? strlen(namespace_) : 0;

	return !n || (!strncmp(workload->name, namespace_, n) && workload->name[n] == '/');
}

static bool has_name(const struct workload_value *workload, const char *name)
{
	const char *slash = strchr(workload->name, '/');

	return !name || (slash && !strcmp(slash + 1, name));
}

/* Of several that fit, the first by id. */
static void consider_workload(void *context, const void *key, const void *value)
{
	struct workload_search *search = context;
	const struct workload_value *workload = value;
	char padded[SLUICE_ORIGIN_TEXT + 2];
	uint32_t id;

	memcpy(&id, key, sizeof(id));
	if ((search->workload && search->workload < id) || !in_namespace(workload, search->who->namespace_) ||
	    !has_name(workload, search->who->name))
		return;
	snprintf(padded, sizeof(padded), ",%s,", workload->labels);
	for (size_t i = 0; i < search->who->labels.count; i++) {
		char wanted[512];

		snprintf(wanted, sizeof(wanted), ",%s=%s,", search->who->labels.items[i].key, search->who->labels.items[i].value);
		if (!strstr(padded, wanted))
			return;
	}
	search->workload = id;
	memcpy(search->name, workload->name, SLUICE_NAME_TEXT);
}

int find_workload(const struct pins *pins, const struct who *who, uint32_t *workload, char name[SLUICE_NAME_TEXT])
{
	struct workload_search search = {who, 0, name};
	char cgroup[PATH_MAX];
	int error = 0;

	if (who->process) {
		bool is_pid = !who->process[strspn(who->process, "0123456789")];

		if (is_pid)
			error = cgroup_of_process(atoi(who->process), cgroup);
		if (!error)
			error = workload_of_cgroup(pins, is_pid ? cgroup : who->process, workload, name);
		if (error && error != -ENODATA)
			fprintf(stderr, "sluice: %s \"%s\": %s\n", is_pid ? "process" : "cgroup", who->process,
				error == -ENOENT ? "there is none" : strerror(-error));
		return error;
	}
	if (who->namespace_ || who->name || who->labels.count)
		pins_each(pins, PIN_WORKLOADS, consider_workload, &search);
	if (who->name && !search.workload) {
		fprintf(stderr, "sluice: no workload %s%s%s is known (`sluice dump workloads` names them)\n", who->namespace_ ? who->namespace_ : "", who->namespace_ ? "/" : "", who->name);
		return -ENOENT;
	}
	*workload = search.workload;
	return 0;
}
