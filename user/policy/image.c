// SPDX-License-Identifier: Apache-2.0
/* Map images: a policy and the addresses known now, as the sorted contents of one generation's maps. */
#include <stdio.h>
#include <string.h>

#include "policy/internal.h"
#include "policy/tables.h"

struct builder {
	const struct policy *policy;
	struct image *image;
	names_lookup lookup;
	names_lookup former; /* addresses that have left a name; NULL: none */
	void *context;
	const struct asked_names *asked; /* NULL: none */
};

/* ---- cidrs and ports of interception sets ---- */

static void add_cidr(struct cidr_item **items, size_t *count, size_t *capacity, uint32_t set, const struct cidr *cidr)
{
	struct cidr_item *item = array_append(*items, *count, *capacity);

	item->key.prefixlen = CIDR_KEY_FIXED_BITS;
	item->key.interception = set;
	if (!cidr) {
		strcpy(item->value.prefix, "*");
		return;
	}
	item->key.prefixlen += cidr->bits;
	memcpy(item->key.addr, cidr->addr, 16);
	format_cidr(item->value.prefix, cidr->addr, cidr->bits);
}

static void add_port(struct image *image, uint32_t scope, uint16_t port, uint8_t protocol, bool capture, uint32_t flags)
{
	struct port_item *item = array_append(image->ports, image->port_count, image->port_capacity);

	item->key = (struct port_key){scope, port, protocol, capture};
	item->value.flags = flags;
}

static void add_capture_ports(struct image *image, uint32_t set, const struct port_list *ports, uint32_t flag)
{
	for (size_t i = 0; i < ports->count; i++) {
		add_port(image, set, ports->items[i], SLUICE_TCP, true, flag);
		add_port(image, set, ports->items[i], SLUICE_UDP, true, flag);
	}
}

static void add_interceptions(struct builder *b)
{
	struct image *image = b->image;

	for (size_t i = 0; i < b->policy->interception_count; i++) {
		const struct interception *set = &b->policy->interceptions[i];
		uint32_t id = (uint32_t)i + 1;

		if (set->include_all)
			add_cidr(&image->intercept, &image->intercept_count, &image->intercept_capacity, id, NULL);
		for (size_t k = 0; k < set->include.count; k++)
			add_cidr(&image->intercept, &image->intercept_count, &image->intercept_capacity, id, &set->include.items[k]);
		for (size_t k = 0; k < set->exclude.count; k++)
			add_cidr(&image->bypass, &image->bypass_count, &image->bypass_capacity, id, &set->exclude.items[k]);
		add_capture_ports(image, id, &set->include_ports, PORT_INCLUDED);
		add_capture_ports(image, id, &set->exclude_ports, PORT_EXCLUDED);
	}
}

/* ---- services ---- */

static struct service_item *add_address(struct builder *b, uint32_t scope, enum sluice_kind kind, uint8_t protocol,
					uint16_t port, const uint8_t addr[16], unsigned int bits)
{
	struct service_item *item = array_append(b->image->services, b->image->service_count, b->image->service_capacity);

	item->key = (struct service_key){.prefixlen = SERVICE_KEY_FIXED_BITS + bits, .scope = scope, .port = port,
					 .protocol = protocol, .kind = (uint8_t)kind};
	memcpy(item->key.addr, addr, 16);
	format_cidr(item->value.prefix, addr, bits);
	return item;
}

static void add_service_address(struct builder *b, const struct service *service, enum sluice_kind kind, uint16_t port,
				const uint8_t addr[16], unsigned int bits)
{
	uint8_t protocol = service->protocol == PROTOCOL_UDP ? SLUICE_UDP : SLUICE_TCP;
	struct service_item *item = add_address(b, service->registry, kind, protocol, port, addr, bits);

	item->value.service = service->id;
	item->value.flags = service->flags;
	snprintf(item->value.host, sizeof(item->value.host), "%s", service->host);
}

static void add_name(struct builder *b, const struct service *service, enum sluice_kind kind, const char *host, uint16_t port)
{
	size_t count = 0;
	const uint8_t (*addresses)[16] = b->lookup ? b->lookup(b->context, host, &count) : NULL;

	for (size_t i = 0; i < count; i++)
		add_service_address(b, service, kind, port, addresses[i], 128);
	count = 0;
	addresses = b->former ? b->former(b->context, host, &count) : NULL;
	for (size_t i = 0; i < count; i++)
		add_service_address(b, service, KIND_FORMER, port, addresses[i], 128);
}

/* Of an address that a document says itself, until the image is whole: of several services there one that gives it is enough. */
#define SERVICE_GIVEN (1U << 31)

/* Where clients dial it. */
static void add_dialled(struct builder *b, const struct service *service)
{
	for (size_t i = 0; i < service->address_count; i++) {
		add_service_address(b, service, KIND_SERVICE, service->port, service->addresses[i].addr, service->addresses[i].bits);
		b->image->services[b->image->service_count - 1].value.flags |= SERVICE_GIVEN;
	}
	if (service->resolution == RESOLUTION_STATIC && !service->address_count)
		for (size_t i = 0; i < service->target_count; i++)
			if (!service->targets[i].socket)
				add_service_address(b, service, KIND_SERVICE, service->port, service->targets[i].addr, 128);
	if ((service->resolution == RESOLUTION_DNS || service->resolution == RESOLUTION_DNS_ROUND_ROBIN) && !service->wildcard)
		add_name(b, service, KIND_SERVICE, service->host, service->port);
}

/* Where sluice dials it; UDP is never redirected, so there clients themselves dial the endpoints. */
static void add_upstreams(struct builder *b, const struct service *service)
{
	enum sluice_kind kind = service->protocol == PROTOCOL_UDP ? KIND_SERVICE : KIND_UPSTREAM;

	if (service_is_dynamic(service))
		return; /* add_asked_names() */
	for (size_t i = 0; i < service->target_count; i++) {
		const struct upstream_target *target = &service->targets[i];

		if (target->socket)
			continue;
		if (target->host)
			add_name(b, service, kind, target->host, target->port);
		else
			add_service_address(b, service, kind, target->port, target->addr, 128);
	}
}

struct asking {
	struct builder *builder;
	const struct asked_name *name;
};

static void add_asked_address(const struct asking *asking, const struct service *service, enum sluice_kind kind, const uint8_t addr[16])
{
	struct image *image = asking->builder->image;
	struct service_value *value;

	add_service_address(asking->builder, service, kind, service->target_port, addr, 128);
	value = &image->services[image->service_count - 1].value;
	snprintf(value->host, sizeof(value->host), "%s", asking->name->host);
}

static void add_asked_name(void *context, const struct service *service)
{
	const struct asking *asking = context;

	for (size_t i = 0; i < asking->name->count; i++)
		add_asked_address(asking, service, KIND_UPSTREAM, asking->name->addresses[i]);
	for (size_t i = 0; i < asking->name->former_count; i++)
		add_asked_address(asking, service, KIND_FORMER, asking->name->former[i]);
}

/* Only sluice itself dials them: what a client learns so, it reaches through the redirector alone. */
static void add_asked_names(struct builder *b)
{
	for (size_t i = 0; b->asked && i < b->asked->count; i++) {
		struct asking asking = {b, &b->asked->items[i]};

		policy_each_dynamic(b->policy, asking.name->host, add_asked_name, &asking);
	}
}

/* NONE with a targetPort: the original address at another port, which no other entry says. */
static void add_original_addresses(struct builder *b, const struct service *service)
{
	if (service->resolution != RESOLUTION_NONE || service->target_port == service->port || service->protocol == PROTOCOL_UDP)
		return;
	for (size_t i = 0; i < service->address_count; i++)
		add_service_address(b, service, KIND_UPSTREAM, service->target_port, service->addresses[i].addr,
				    service->addresses[i].bits);
}

static void add_service_port(struct builder *b, const struct service *service)
{
	uint32_t flags = 0;

	if (!(service->flags & (SERVICE_HTTP | SERVICE_TLS)))
		return;
	flags |= PORT_NAMED | (policy_opens_http(service) ? PORT_HTTP : 0);
	flags |= service->flags & SERVICE_ROUTED ? PORT_NAMED_ROUTED : 0;
	add_port(b->image, service->registry, service->port, SLUICE_TCP, false, flags);
	if (service->flags & SERVICE_NONE)
		add_port(b->image, service->registry, service->resolution == RESOLUTION_NONE ? service->target_port : service->port, SLUICE_TCP,
			 false, PORT_NAMED_NONE);
}

static bool is_partial(const char *host)
{
	return host[0] == '*' && host[1] != '.';
}

/* `name` from its end on, and then one more: `last`. */
static void add_shown(struct builder *b, const struct service *service, const char *name, size_t more, char last)
{
	size_t length = strlen(name);
	struct name_item *item;

	if (length + more > sizeof(item->key.name))
		return;
	item = array_append(b->image->names, b->image->name_count, b->image->name_capacity);
	item->key = (struct name_key){.prefixlen = NAME_KEY_FIXED_BITS + 8 * (uint32_t)(length + more), .scope = service->registry,
				      .port = service->port};
	for (size_t i = 0; i < length; i++)
		item->key.name[i] = name[length - 1 - i];
	if (more)
		item->key.name[length] = last;
	item->value.service = service->id;
	item->value.flags = service->flags;
	snprintf(item->value.host, sizeof(item->value.host), "%s", service->host);
}

/* What the kernel may look a shown name up by. The longest exact names do not fit: of those the redirector knows. */
static void add_shown_name(struct builder *b, const struct service *service)
{
	static const char before[] = "abcdefghijklmnopqrstuvwxyz0123456789-_.";
	const char *name = service->wildcard ? service->host + 1 : service->host;

	if (!(service->flags & SERVICE_TLS) && !(service->flags & SERVICE_DETECTED && policy_opens_http(service)))
		return;
	if (!is_partial(service->host)) {
		add_shown(b, service, name, !service->wildcard, 0);
		return;
	}
	for (const char *c = before; *c; c++) /* one character at least stands for the star */
		add_shown(b, service, name, 1, *c);
}

static void add_catalog(struct builder *b, const struct service *service)
{
	struct catalog_item *item = array_append(b->image->catalog, b->image->catalog_count, b->image->catalog_capacity);

	item->key = service->id;
	snprintf(item->value.host, sizeof(item->value.host), "%s", service->host);
	snprintf(item->value.origin, sizeof(item->value.origin), "%s", service->origin);
	item->value.scope = service->registry;
	item->value.flags = service->flags;
	item->value.port = service->port;
	item->value.protocol = service->protocol == PROTOCOL_UDP ? SLUICE_UDP : SLUICE_TCP;
}

static void add_resolver(struct builder *b, uint32_t set, const struct cidr *server)
{
	static const uint8_t protocols[] = {SLUICE_UDP, SLUICE_TCP};

	for (size_t i = 0; i < ARRAY_SIZE(protocols); i++) {
		struct service_item *item = add_address(b, set, KIND_RESOLVER, protocols[i], 53, server->addr, server->bits);

		strcpy(item->value.host, "resolver");
	}
}

static void add_resolvers(struct builder *b)
{
	for (size_t i = 0; i < b->policy->resolver_count; i++) {
		const struct cidr_list *servers = &b->policy->resolvers[i].servers;
		uint32_t id = (uint32_t)i + 1;

		for (size_t k = 0; k < b->policy->own_resolvers.count; k++)
			add_resolver(b, id, &b->policy->own_resolvers.items[k]);
		for (size_t k = 0; k < servers->count; k++)
			add_resolver(b, id, &servers->items[k]);
	}
}

/* Whatever the documents say, there is one workload that may do nothing: by it the loader sees that denials hold. */
static void add_canary(struct image *image)
{
	struct rule_set_item *item = array_append(image->rule_sets, image->rule_set_count, image->rule_set_capacity);

	item->key = WORKLOAD_CANARY;
	item->value = (struct rule_set){.registry = WORKLOAD_CANARY, .interception = WORKLOAD_CANARY, .resolvers = WORKLOAD_CANARY,
					.mode = MODE_REGISTRY_ONLY, .dns_allow = DNS_NONE, .origin = "the canary"};
	add_cidr(&image->intercept, &image->intercept_count, &image->intercept_capacity, WORKLOAD_CANARY, NULL);
}

/* ---- sorting and merging ---- */

#define COMPARE_KEYS(name_, type_)                                                          \
	static int name_(const void *a, const void *b)                                      \
	{                                                                                   \
		return memcmp(&((const type_ *)a)->key, &((const type_ *)b)->key, sizeof(((type_ *)0)->key)); \
	}
COMPARE_KEYS(cidrs_by_key, struct cidr_item)
COMPARE_KEYS(services_by_key_only, struct service_item)
COMPARE_KEYS(ports_by_key, struct port_item)
COMPARE_KEYS(names_by_key_only, struct name_item)
COMPARE_KEYS(rule_sets_by_key, struct rule_set_item)
COMPARE_KEYS(catalog_by_key, struct catalog_item)

static int services_by_key(const void *a, const void *b)
{
	const struct service_item *x = a, *y = b;
	int order = services_by_key_only(a, b);

	return order ? order : (x->value.service > y->value.service) - (x->value.service < y->value.service);
}

static int names_by_key(const void *a, const void *b)
{
	const struct name_item *x = a, *y = b;
	int order = names_by_key_only(a, b);

	if (!order)
		order = is_partial(x->value.host) - is_partial(y->value.host); /* "*.a.com" says more than "*a.com" */
	return order ? order : (x->value.service > y->value.service) - (x->value.service < y->value.service);
}

/* Several services of one name on one port: the first by id, as policy_find() has it. */
static void merge_names(struct image *image)
{
	size_t kept = 0;

	for (size_t i = 0; i < image->name_count; i++)
		if (!kept || names_by_key_only(&image->names[kept - 1], &image->names[i]))
			image->names[kept++] = image->names[i];
	image->name_count = kept;
}

/* Several services at one address: the first by id names it, the flags are everybody's. */
static void merge_services(struct image *image)
{
	size_t kept = 0;

	for (size_t i = 0; i < image->service_count; i++) {
		if (kept && !services_by_key_only(&image->services[kept - 1], &image->services[i]))
			image->services[kept - 1].value.flags |= image->services[i].value.flags;
		else
			image->services[kept++] = image->services[i];
	}
	image->service_count = kept;
}

/* The service with the longest prefix over an address, but for that of the address itself; NULL: there is none. */
static const struct service_item *find_range(const struct image *image, const struct prefix_lengths *lengths, const struct service_item *item)
{
	const struct service_item *found = NULL;
	struct service_item probe = *item;

	for (size_t i = 0; !found && i < lengths->count; i++) {
		unsigned int bits = lengths->bits[i];

		probe.key.prefixlen = SERVICE_KEY_FIXED_BITS + bits;
		for (unsigned int k = bits; k < 128; k++)
			probe.key.addr[k / 8] &= (uint8_t)~(0x80 >> k % 8);
		found = bsearch(&probe, image->services, image->service_count, sizeof(probe), services_by_key_only);
	}
	return found;
}

/*
 * A range of a TCP service stays open where a name happens to have an address in it, or an endpoint lies there: what shows
 * no name of that port goes directly, as before. Addresses that an entry gives are the longer prefix, and its own.
 */
static void open_ranges(struct image *image)
{
	const uint32_t direct = SERVICE_TCP, other = SERVICE_HTTP | SERVICE_TLS | SERVICE_ROUTED | SERVICE_REWRITES;
	struct prefix_lengths lengths = {.count = 0};
	bool present[128] = {false};

	for (size_t i = 0; i < image->service_count; i++)
		if (image->services[i].key.kind == KIND_SERVICE && image->services[i].key.prefixlen < SERVICE_KEY_FIXED_BITS + 128)
			present[image->services[i].key.prefixlen - SERVICE_KEY_FIXED_BITS] = true;
	for (unsigned int bits = 128; bits-- > 0;)
		if (present[bits])
			lengths.bits[lengths.count++] = (uint8_t)bits;
	for (size_t i = 0; lengths.count && i < image->service_count; i++) {
		struct service_item *item = &image->services[i];
		const struct service_item *range;

		if (item->key.kind != KIND_SERVICE || item->key.prefixlen != SERVICE_KEY_FIXED_BITS + 128 ||
		    item->value.flags & (SERVICE_TCP | SERVICE_GIVEN))
			continue;
		range = find_range(image, &lengths, item);
		if (range && (range->value.flags & (direct | other)) == direct)
			item->value.flags |= SERVICE_TCP;
	}
	for (size_t i = 0; i < image->service_count; i++)
		image->services[i].value.flags &= ~SERVICE_GIVEN;
}

static void merge_ports(struct image *image)
{
	size_t kept = 0;

	for (size_t i = 0; i < image->port_count; i++) {
		if (kept && !ports_by_key(&image->ports[kept - 1], &image->ports[i]))
			image->ports[kept - 1].value.flags |= image->ports[i].value.flags;
		else
			image->ports[kept++] = image->ports[i];
	}
	image->port_count = kept;
}

static void merge_cidrs(struct cidr_item *items, size_t *count)
{
	size_t kept = 0;

	for (size_t i = 0; i < *count; i++)
		if (!kept || cidrs_by_key(&items[kept - 1], &items[i]))
			items[kept++] = items[i];
	*count = kept;
}

static void sort(void *items, size_t count, size_t size, int (*compare)(const void *, const void *))
{
	if (count)
		qsort(items, count, size, compare);
}

static void sort_image(struct image *image)
{
	sort(image->intercept, image->intercept_count, sizeof(*image->intercept), cidrs_by_key);
	merge_cidrs(image->intercept, &image->intercept_count);
	sort(image->bypass, image->bypass_count, sizeof(*image->bypass), cidrs_by_key);
	merge_cidrs(image->bypass, &image->bypass_count);
	sort(image->services, image->service_count, sizeof(*image->services), services_by_key);
	merge_services(image);
	open_ranges(image);
	sort(image->ports, image->port_count, sizeof(*image->ports), ports_by_key);
	merge_ports(image);
	sort(image->names, image->name_count, sizeof(*image->names), names_by_key);
	merge_names(image);
	sort(image->rule_sets, image->rule_set_count, sizeof(*image->rule_sets), rule_sets_by_key);
	sort(image->catalog, image->catalog_count, sizeof(*image->catalog), catalog_by_key);
}

struct image *policy_image_build(const struct policy *policy, names_lookup lookup, names_lookup former, void *context,
				 const struct asked_names *asked)
{
	struct image *image = xcalloc(1, sizeof(*image));
	struct builder b = {policy, image, lookup, former, context, asked};

	add_interceptions(&b);
	add_resolvers(&b);
	for (size_t i = 0; i < policy->service_count; i++) {
		const struct service *service = &policy->services[i];

		add_catalog(&b, service);
		if (service->subset)
			continue; /* its endpoints are the whole service's */
		add_dialled(&b, service);
		add_upstreams(&b, service);
		add_original_addresses(&b, service);
		add_service_port(&b, service);
		add_shown_name(&b, service);
	}
	add_asked_names(&b);
	for (size_t i = 0; i < policy->rule_set_count; i++) {
		struct rule_set_item *item = array_append(image->rule_sets, image->rule_set_count, image->rule_set_capacity);

		item->key = (uint32_t)i + 1;
		item->value = policy->rule_sets[i];
	}
	add_canary(image);
	sort_image(image);
	return image;
}

void image_free(struct image *image)
{
	if (!image)
		return;
	free(image->intercept);
	free(image->bypass);
	free(image->services);
	free(image->ports);
	free(image->names);
	free(image->rule_sets);
	free(image->catalog);
	free(image);
}
