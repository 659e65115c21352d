// SPDX-License-Identifier: Apache-2.0
/* What Istio accepts without a word and is likely not meant: warnings only. */
#include <libpsl.h>
#include <string.h>
#include <strings.h>

#include "config/config.h"
#include "config/walk.h"

static const char *label_of(struct config *config, const struct object *object)
{
	return arena_printf(config->arena, "%s/%s", object->kind, object->name ? object->name : "");
}

/* ---- wildcards over what belongs to everybody ---- */

static void check_suffix(struct config *config, const psl_ctx_t *suffixes, const struct object *object, const struct service_host *host,
			 size_t index)
{
	const char *suffix = host->name + strspn(host->name, "*.-");

	if (host->name[0] == '*' && psl_is_public_suffix2(suffixes, suffix, PSL_TYPE_ANY | PSL_TYPE_NO_STAR_RULE))
		config_problem(config, SEVERITY_WARNING, &host->at, label_of(config, object), arena_printf(config->arena, "spec.hosts[%zu]", index),
			       "\"%s\" is for everybody's names: anyone can register one under \"%s\" (publicsuffix.org); name a domain of one owner",
			       host->name, suffix);
}

static void check_suffixes(struct config *config)
{
	const psl_ctx_t *suffixes = psl_builtin();

	for (size_t i = 0; suffixes && i < config->service_entry_count; i++)
		for (size_t h = 0; h < config->service_entries[i]->host_count; h++)
			check_suffix(config, suffixes, &config->service_entries[i]->object, &config->service_entries[i]->hosts[h], h);
}

/* ---- ports of the same addresses ---- */

/* A port that is told by its addresses. */
struct place {
	uint8_t addr[16];
	uint8_t bits;
	bool udp;
	uint16_t number;
	const struct service_entry *entry;
	const struct service_port *port;
	size_t index; /* of the port */
};

struct places {
	struct place *items;
	size_t count, capacity;
};

/* Neither HTTP nor TLS, which show a name. */
static bool is_nameless(const struct service_port *port)
{
	return port->protocol >= PROTOCOL_TCP && port->protocol != PROTOCOL_UNSET;
}

static void add_place(struct config *config, struct places *places, const struct service_entry *entry, size_t index, const uint8_t addr[16],
		      uint8_t bits)
{
	struct place *place = arena_append(config->arena, places->items, places->count, places->capacity);

	*place = (struct place){.bits = bits, .udp = entry->ports[index].protocol == PROTOCOL_UDP, .number = entry->ports[index].number,
				.entry = entry, .port = &entry->ports[index], .index = index};
	memcpy(place->addr, addr, 16);
}

static void add_places(struct config *config, struct places *places, const struct service_entry *entry)
{
	for (size_t p = 0; p < entry->port_count; p++) {
		for (size_t i = 0; i < entry->addresses.count; i++)
			add_place(config, places, entry, p, entry->addresses.items[i].addr, entry->addresses.items[i].bits);
		/* Without addresses the endpoints are what clients dial. */
		for (size_t i = 0; !entry->addresses.count && entry->resolution == RESOLUTION_STATIC && i < entry->endpoint_count; i++)
			if (!entry->endpoints[i].socket)
				add_place(config, places, entry, p, entry->endpoints[i].ip, 128);
	}
}

static int compare_places(const struct place *x, const struct place *y)
{
	int order = memcmp(x->addr, y->addr, 16);

	if (!order)
		order = x->bits - y->bits;
	if (!order)
		order = x->number - y->number;
	return order ? order : x->udp - y->udp;
}

static int by_place(const void *a, const void *b)
{
	const struct place *x = a, *y = b;
	int order = compare_places(x, y);

	if (order)
		return order;
	if (x->entry->object.order != y->entry->object.order)
		return x->entry->object.order < y->entry->object.order ? -1 : 1;
	return (x->index > y->index) - (x->index < y->index);
}

static void check_overlaps(struct config *config)
{
	struct places places = {0};
	char text[SLUICE_PREFIX_TEXT];

	for (size_t i = 0; i < config->service_entry_count; i++)
		add_places(config, &places, config->service_entries[i]);
	if (places.count)
		qsort(places.items, places.count, sizeof(*places.items), by_place);
	for (size_t i = 1; i < places.count; i++) {
		const struct place *first = &places.items[i - 1], *second = &places.items[i];

		if (compare_places(first, second) || first->entry == second->entry || !(is_nameless(first->port) || is_nameless(second->port)) ||
		    !first->entry->host_count || !second->entry->host_count || !strcmp(first->entry->hosts[0].name, second->entry->hosts[0].name))
			continue;
		config_problem(config, SEVERITY_WARNING, &second->port->at, label_of(config, &second->entry->object),
			       arena_printf(config->arena, "spec.ports[%zu]", second->index),
			       "port %u of %s is that of ServiceEntry/%s at %s:%u too, and no name tells the two apart: the older entry has the connections",
			       second->number, format_cidr(text, second->addr, second->bits),
			       first->entry->object.name ? first->entry->object.name : "", first->port->at.file, first->port->at.line);
	}
}

/* ---- rules that others have taken everything from ---- */

#define MAX_COMPARED 2000 /* matches of one VirtualService: each is compared with those before it */

/* Whether what `inner` takes, `outer` takes. */
static bool text_covers(const struct text_match *outer, const struct text_match *inner)
{
	if (outer->rule == TEXT_ANY)
		return true;
	if (outer->rule == TEXT_PRESENT)
		return inner->rule != TEXT_ANY;
	if (outer->rule == TEXT_PREFIX)
		return (inner->rule == TEXT_PREFIX || inner->rule == TEXT_EXACT) && inner->length >= outer->length &&
		       !memcmp(inner->text, outer->text, outer->length);
	if (outer->rule == TEXT_SUFFIX)
		return (inner->rule == TEXT_SUFFIX || inner->rule == TEXT_EXACT) && inner->length >= outer->length &&
		       !memcmp(inner->text + inner->length - outer->length, outer->text, outer->length);
	return outer->rule == inner->rule && outer->length == inner->length && !memcmp(outer->text, inner->text, outer->length);
}

static bool same_text(const struct text_match *a, const struct text_match *b)
{
	return a->rule == b->rule && (a->rule < TEXT_EXACT || (a->length == b->length && !memcmp(a->text, b->text, a->length)));
}

enum conditions { HEADERS, ABSENT_HEADERS, PARAMS };

static bool is_within(const struct text_match *inner, const struct text_match *outer, enum conditions what)
{
	if (what == PARAMS ? strcmp(inner->name, outer->name) : strcasecmp(inner->name, outer->name))
		return false;
	return what == ABSENT_HEADERS ? same_text(inner, outer) : text_covers(outer, inner);
}

static bool all_within(const struct text_matches *inner, const struct text_matches *outer, enum conditions what)
{
	for (size_t i = 0; i < outer->count; i++) {
		size_t k = 0;

		while (k < inner->count && !is_within(&inner->items[k], &outer->items[i], what))
			k++;
		if (k == inner->count)
			return false;
	}
	return true;
}

static bool labels_within(const struct label_list *inner, const struct label_list *outer)
{
	for (size_t i = 0; i < outer->count; i++) {
		size_t k = 0;

		while (k < inner->count && (strcmp(inner->items[k].key, outer->items[i].key) || strcmp(inner->items[k].value, outer->items[i].value)))
			k++;
		if (k == inner->count)
			return false;
	}
	return true;
}

static bool source_covers(const char *outer, const char *inner)
{
	return !outer || (inner && !strcmp(outer, inner));
}

static bool http_covers(const struct http_match *outer, const struct http_match *inner)
{
	return !outer->never && (outer->uri.rule == TEXT_ANY || outer->ignore_case == inner->ignore_case) && text_covers(&outer->uri, &inner->uri) &&
	       text_covers(&outer->scheme, &inner->scheme) && text_covers(&outer->method, &inner->method) &&
	       text_covers(&outer->authority, &inner->authority) && all_within(&inner->headers, &outer->headers, HEADERS) &&
	       all_within(&inner->params, &outer->params, PARAMS) && all_within(&inner->without, &outer->without, ABSENT_HEADERS) &&
	       (!outer->port || outer->port == inner->port) && labels_within(&inner->source_labels, &outer->source_labels) &&
	       source_covers(outer->source_namespace, inner->source_namespace);
}

static bool subnets_among(const struct cidr_list *some, const struct cidr_list *all)
{
	for (size_t i = 0; i < some->count; i++) {
		size_t k = 0;

		while (k < all->count && (all->items[k].bits != some->items[i].bits || memcmp(all->items[k].addr, some->items[i].addr, 16) != 0))
			k++;
		if (k == all->count)
			return false;
	}
	return some->count || !all->count;
}

static bool names_among(const struct string_list *some, const struct string_list *all)
{
	for (size_t i = 0; i < some->count; i++) {
		size_t k = 0;

		while (k < all->count && strcmp(all->items[k], some->items[i]) != 0)
			k++;
		if (k == all->count)
			return false;
	}
	return true;
}

/* A longer prefix, or a name that says more, is found wherever it stands; a tcp match for all addresses is the last one. */
static bool l4_covers(const struct l4_match *outer, const struct l4_match *inner)
{
	bool is_last = !outer->sni_hosts.count && !outer->subnets.count;

	return !outer->never && (is_last || subnets_among(&inner->subnets, &outer->subnets)) && names_among(&inner->sni_hosts, &outer->sni_hosts) &&
	       (!outer->port || outer->port == inner->port) && labels_within(&inner->source_labels, &outer->source_labels) &&
	       source_covers(outer->source_namespace, inner->source_namespace);
}

/* A match, wherever it stands. */
struct asked {
	size_t rule, index;
	const struct http_match *http; /* one of the two */
	const struct l4_match *l4;
};

static const struct asked *find_cover(const struct asked *asked, size_t at)
{
	for (size_t i = 0; i < at; i++)
		if (asked[at].http ? http_covers(asked[i].http, asked[at].http) : l4_covers(asked[i].l4, asked[at].l4))
			return &asked[i];
	return NULL;
}

static void check_reached(struct config *config, const struct object *object, const char *list, const struct asked *asked, size_t count)
{
	for (size_t i = 1; i < count && count <= MAX_COMPARED; i++) {
		const struct asked *cover = find_cover(asked, i);

		if (cover)
			config_problem(config, SEVERITY_WARNING, asked[i].http ? &asked[i].http->at : &asked[i].l4->at, label_of(config, object),
				       arena_printf(config->arena, "spec.%s[%zu].match[%zu]", list, asked[i].rule, asked[i].index),
				       "is never reached: all that it asks for is taken by %s[%zu].match[%zu]", list, cover->rule, cover->index);
	}
}

/* But for rules with a delegate, which takes what it likes. */
static void check_http(struct config *config, const struct virtual_service *service)
{
	struct asked *asked;
	size_t count = 0;

	for (size_t r = 0; r < service->http_count; r++)
		count += service->http[r].match_count;
	asked = arena_alloc(config->arena, count + 1, sizeof(*asked));
	count = 0;
	for (size_t r = 0; r < service->http_count; r++)
		for (size_t m = 0; !service->http[r].delegate && m < service->http[r].match_count; m++)
			asked[count++] = (struct asked){r, m, &service->http[r].matches[m], NULL};
	check_reached(config, &service->object, "http", asked, count);
}

static void check_l4(struct config *config, const struct object *object, const char *list, const struct l4_route *routes, size_t route_count)
{
	struct asked *asked;
	size_t count = 0;

	for (size_t r = 0; r < route_count; r++)
		count += routes[r].match_count;
	asked = arena_alloc(config->arena, count + 1, sizeof(*asked));
	count = 0;
	for (size_t r = 0; r < route_count; r++) {
		if (r && !routes[r - 1].match_count)
			config_problem(config, SEVERITY_WARNING, &routes[r].at, label_of(config, object),
				       arena_printf(config->arena, "spec.%s[%zu]", list, r),
				       "is never reached: %s[%zu] has no match and takes every connection", list, r - 1);
		for (size_t m = 0; m < routes[r].match_count; m++)
			asked[count++] = (struct asked){r, m, NULL, &routes[r].matches[m]};
	}
	check_reached(config, object, list, asked, count);
}

void config_advise(struct config *config)
{
	check_suffixes(config);
	check_overlaps(config);
	for (size_t i = 0; i < config->virtual_service_count; i++) {
		const struct virtual_service *service = config->virtual_services[i];

		if (!service->is_mesh)
			continue;
		check_http(config, service);
		check_l4(config, &service->object, "tls", service->tls, service->tls_count);
		check_l4(config, &service->object, "tcp", service->tcp, service->tcp_count);
	}
}
