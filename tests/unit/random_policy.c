// SPDX-License-Identifier: Apache-2.0
#include "random_policy.h"

#include <stdio.h>
#include <string.h>

static const char *const host_checks[] = {"proxy", "off", "kernel"}; /* by enum sluice_host_check */
static const char *const addresses[] = {
	"10.0.0.1", "10.0.0.200", "10.1.0.1", "192.0.2.1", "2001:db8::1", "2001:db8:1::1", "127.0.0.1", RANDOM_RESOLVER, "9.9.9.9",
	"::1", "0.0.0.0",
};
static const char *const prefixes[] = {
	"10.0.0.1", "10.0.0.0/24", "10.0.0.128/25", "10.0.0.0/8", "192.0.2.1", "2001:db8::1", "2001:db8::/32", "0.0.0.0/0", "::/0",
};
static const char *const singles[] = {"10.0.0.1", "10.0.0.200", "192.0.2.1", "2001:db8::1"};
static const char *const hosts[] = {"a.com", "b.a.com", "*.a.com", "*.b.a.com", "c.org", "*.org", "d.net"};
static const char *const exact_hosts[] = {"a.com", "b.a.com", "x.b.a.com", "c.org", "d.net"};
static const unsigned int ports[] = {53, 80, 443, 8080, RANDOM_REDIRECTOR};

static const struct position nowhere = {"p.yaml", 1, 1};
static const struct random_source *source;
static struct arena *arena; /* of the configuration that is made */

static unsigned int draw(unsigned int below)
{
	return source->draw(source->context, below);
}

#define PICK(array) ((array)[draw(ARRAY_SIZE(array))])

/* Parsed once: the fuzzer asks millions of times. */
static void parsed(struct cidr *out, const char *text)
{
	static struct {
		const char *text;
		struct cidr cidr;
	} known[64];
	size_t i = 0;

	while (known[i].text && known[i].text != text)
		i++;
	if (!known[i].text) {
		parse_cidr(&known[i].cidr, text);
		known[i].text = text;
	}
	*out = known[i].cidr;
	out->at = nowhere;
}

/* ---- making ---- */

static struct object object(const char *kind, const char *prefix, unsigned int i, const char *namespace_, uint32_t order)
{
	char *name = arena_alloc(arena, 4, 1);

	name[0] = prefix[0];
	name[1] = (char)('0' + i);
	return (struct object){.kind = kind, .name = name, .namespace_ = namespace_, .created = INT64_MAX, .order = order, .at = nowhere};
}

static void add_cidrs(struct cidr_list *list, const char *const *items, size_t count, unsigned int most)
{
	unsigned int n = draw(most + 1);

	for (unsigned int i = 0; i < n; i++)
		parsed(arena_append(arena, list->items, list->count, list->capacity), items[draw((unsigned int)count)]);
}

static void add_ports(struct service_entry *entry, bool one_host)
{
	static const enum port_protocol named[] = {PROTOCOL_HTTP, PROTOCOL_TLS, PROTOCOL_HTTPS, PROTOCOL_GRPC_WEB};
	static const enum port_protocol any[] = {PROTOCOL_HTTP, PROTOCOL_TLS, PROTOCOL_TCP, PROTOCOL_UDP, PROTOCOL_MYSQL};
	static const char *const names[] = {"p0", "p1"};
	unsigned int first = draw(ARRAY_SIZE(ports)), n = 1 + draw(2);

	for (unsigned int i = 0; i < n; i++) {
		struct service_port *port = arena_append(arena, entry->ports, entry->port_count, entry->port_capacity);

		*port = (struct service_port){.number = (uint16_t)ports[(first + i) % ARRAY_SIZE(ports)], .name = names[i],
					      .protocol = one_host ? PICK(any) : PICK(named), .at = nowhere};
		if (!draw(4))
			port->target_port = (uint16_t)PICK(ports);
	}
}

static void add_endpoints(struct service_entry *entry, bool by_name, unsigned int most)
{
	unsigned int n = 1 + draw(most);

	for (unsigned int i = 0; i < n; i++) {
		struct endpoint *endpoint =
			arena_append(arena, entry->endpoints, entry->endpoint_count, entry->endpoint_capacity);
		struct cidr ip;

		*endpoint = (struct endpoint){.weight = 1, .at = nowhere, .is_ip = !by_name || !draw(2)};
		endpoint->address = endpoint->is_ip ? PICK(singles) : PICK(exact_hosts);
		if (endpoint->is_ip) {
			parsed(&ip, endpoint->address);
			memcpy(endpoint->ip, ip.addr, 16);
		}
		if (!draw(4))
			*arena_append(arena, endpoint->ports, endpoint->port_count, endpoint->port_capacity) =
				(struct endpoint_port){"p0", (uint16_t)PICK(ports)};
	}
}

static void add_host(struct service_host **items, size_t *count, size_t *capacity, const char *name)
{
	*arena_append(arena, *items, *count, *capacity) = (struct service_host){name, nowhere};
}

/* The workloads under test are in shop. */
static void add_exports(struct object *object)
{
	static const char *const names[] = {"shop", "bank", "~", "default"};

	*arena_append(arena, object->export_to.items, object->export_to.count, object->export_to.capacity) = PICK(names);
	if (!strcmp(object->export_to.items[0], "default"))
		*arena_append(arena, object->export_to.items, object->export_to.count, object->export_to.capacity) = "shop";
}

static void add_entry(struct config *config, unsigned int i)
{
	static const char *const namespaces[] = {"default", "default", "shop", "bank"};
	static const char *const own_hosts[] = {"e0.net", "e1.net", "e2.net", "e3.net"};
	struct service_entry *entry = arena_alloc(arena, 1, sizeof(*entry));
	bool one_host = draw(3), resolves;
	const char *host = PICK(hosts);

	*arena_append(arena, config->service_entries, config->service_entry_count, config->service_entry_capacity) = entry;
	entry->object = object("ServiceEntry", "e", i, PICK(namespaces), i);
	if (!draw(3))
		add_exports(&entry->object);
	entry->resolution = (enum resolution)draw(4);
	resolves = entry->resolution >= RESOLUTION_DNS;
	add_host(&entry->hosts, &entry->host_count, &entry->host_capacity, host);
	if (!one_host && host[0] != '*')
		add_host(&entry->hosts, &entry->host_count, &entry->host_capacity, own_hosts[i]);
	add_ports(entry, entry->host_count == 1);
	if (!draw(2))
		add_cidrs(&entry->addresses, resolves ? singles : prefixes, resolves ? ARRAY_SIZE(singles) : ARRAY_SIZE(prefixes), 2);
	if (entry->resolution == RESOLUTION_STATIC || (resolves && (host[0] == '*' || !draw(3))))
		add_endpoints(entry, resolves, entry->resolution == RESOLUTION_DNS_ROUND_ROBIN ? 1 : 2);
}

static void add_virtual_service(struct config *config, unsigned int i)
{
	struct virtual_service *service = arena_alloc(arena, 1, sizeof(*service));
	struct http_route *route = arena_append(arena, service->http, service->http_count, service->http_capacity);
	struct route_destination *to;

	*arena_append(arena, config->virtual_services, config->virtual_service_count, config->virtual_service_capacity) = service;
	service->object = object("VirtualService", "v", i, "default", 10 + i);
	service->is_mesh = draw(4);
	add_host(&service->hosts, &service->host_count, &service->host_capacity, PICK(hosts));
	*route = (struct http_route){.at = nowhere};
	to = arena_append(arena, route->destinations, route->destination_count, route->destination_capacity);
	*to = (struct route_destination){.host = PICK(exact_hosts), .weight = 1, .at = nowhere};
	if (!draw(3))
		to->port = (uint16_t)PICK(ports);
	if (!draw(3))
		route->delay = (struct fault_delay){true, 1000, draw(2) * 50, nowhere};
}

static void add_port_numbers(bool *present, struct port_list *list, unsigned int most)
{
	unsigned int n = draw(most + 1);

	*present = true;
	for (unsigned int i = 0; i < n; i++)
		*arena_append(arena, list->items, list->count, list->capacity) = (uint16_t)ports[draw(ARRAY_SIZE(ports) - 1)];
}

static void add_interception(struct egress_policy *policy)
{
	switch (draw(4)) {
	case 0:
	case 1:
		policy->has_include_cidrs = policy->include_all = true;
		break;
	case 2:
		policy->has_include_cidrs = true;
		add_cidrs(&policy->include_cidrs, prefixes, ARRAY_SIZE(prefixes), 3);
		break;
	}
	if (!draw(2)) {
		policy->has_exclude_cidrs = true;
		add_cidrs(&policy->exclude_cidrs, prefixes, ARRAY_SIZE(prefixes) - 2, 1); /* but all of the world */
	}
	if (!draw(3))
		add_port_numbers(&policy->has_include_ports, &policy->include_ports, 2);
	add_port_numbers(&policy->has_exclude_ports, &policy->exclude_ports, 1);
}

static void add_policy(struct config *config, const char *namespace_, bool selects, uint32_t order)
{
	struct egress_policy *policy;

	if (!draw(3))
		return;
	policy = arena_alloc(arena, 1, sizeof(*policy));
	*arena_append(arena, config->egress_policies, config->egress_policy_count, config->egress_policy_capacity) = policy;
	policy->object = object("EgressPolicy", "p", selects, namespace_, order);
	policy->at[SETTING_MODE] = nowhere;
	if (selects)
		*arena_append(arena, policy->selector.items, policy->selector.count, policy->selector.capacity) =
			(struct label){"app", "web"};
	policy->has_mode = draw(3);
	if (policy->has_mode)
		policy->mode = (enum sluice_mode)draw(3);
	policy->has_audit = !draw(3);
	policy->audit = policy->has_audit && draw(2);
	policy->has_host_check = !draw(3);
	if (policy->has_host_check)
		policy->host_check = (enum sluice_host_check)draw(3);
	switch (draw(5)) {
	case 0:
	case 1:
		policy->has_dns_allow = true;
		policy->dns_allow = (enum sluice_dns_allow)draw(3);
		break;
	case 2:
		policy->has_dns_servers = true;
		parsed(arena_append(arena, policy->dns_servers.items, policy->dns_servers.count, policy->dns_servers.capacity),
		       "9.9.9.9");
		break;
	}
	if (!draw(2))
		add_interception(policy);
}

void random_config(struct config *out, const struct random_source *from)
{
	unsigned int entries, routes;

	source = from;
	arena = out->arena;
	entries = draw(5);
	routes = draw(3);
	for (unsigned int i = 0; i < entries; i++)
		add_entry(out, i);
	for (unsigned int i = 0; i < routes; i++)
		add_virtual_service(out, i);
	for (uint32_t i = 0; i < 4; i++)
		add_policy(out, i / 2 ? "shop" : "istio-system", i % 2, 20 + i);
}

/* ---- as documents ---- */

static void head(FILE *out, const char *group, const struct object *object)
{
	fprintf(out, "---\napiVersion: %s\nkind: %s\nmetadata: {name: %s, namespace: %s}\nspec:\n", group, object->kind,
		object->name, object->namespace_);
}

static void print_cidrs(FILE *out, const char *indent, const char *name, const struct cidr_list *list)
{
	char text[SLUICE_PREFIX_TEXT];

	fprintf(out, "%s%s: [", indent, name);
	for (size_t i = 0; i < list->count; i++)
		fprintf(out, "%s'%s'", i ? ", " : "", format_cidr(text, list->items[i].addr, list->items[i].bits));
	fprintf(out, "]\n");
}

static void print_ports(FILE *out, const char *name, const struct port_list *list)
{
	fprintf(out, "    %s: [", name);
	for (size_t i = 0; i < list->count; i++)
		fprintf(out, "%s%u", i ? ", " : "", list->items[i]);
	fprintf(out, "]\n");
}

static void print_hosts(FILE *out, const struct service_host *list, size_t count)
{
	fprintf(out, "  hosts: [");
	for (size_t i = 0; i < count; i++)
		fprintf(out, "%s'%s'", i ? ", " : "", list[i].name);
	fprintf(out, "]\n");
}

static void print_entry(FILE *out, const struct service_entry *entry)
{
	static const char *const resolutions[] = {"NONE", "STATIC", "DNS", "DNS_ROUND_ROBIN"};
	static const char *const protocols[] = {"HTTP", "HTTP2", "GRPC", "GRPC-Web", "HTTP_PROXY", "HTTPS",
						"TLS", "TCP", "Mongo", "Redis", "MySQL", "UDP"};

	head(out, "networking.istio.io/v1", &entry->object);
	print_hosts(out, entry->hosts, entry->host_count);
	fprintf(out, "  resolution: %s\n  ports:\n", resolutions[entry->resolution]);
	for (size_t i = 0; i < entry->port_count; i++) {
		const struct service_port *port = &entry->ports[i];

		fprintf(out, "  - {number: %u, name: %s, protocol: %s", port->number, port->name, protocols[port->protocol]);
		if (port->target_port)
			fprintf(out, ", targetPort: %u", port->target_port);
		fprintf(out, "}\n");
	}
	print_cidrs(out, "  ", "addresses", &entry->addresses);
	for (size_t i = 0; i < entry->object.export_to.count; i++)
		fprintf(out, "%s'%s'%s", i ? ", " : "  exportTo: [", entry->object.export_to.items[i],
			i + 1 == entry->object.export_to.count ? "]\n" : "");
	fprintf(out, "  endpoints:%s\n", entry->endpoint_count ? "" : " []");
	for (size_t i = 0; i < entry->endpoint_count; i++) {
		const struct endpoint *endpoint = &entry->endpoints[i];

		fprintf(out, "  - {address: '%s'", endpoint->address);
		if (endpoint->port_count)
			fprintf(out, ", ports: {%s: %u}", endpoint->ports[0].name, endpoint->ports[0].number);
		fprintf(out, "}\n");
	}
}

static void print_virtual_service(FILE *out, const struct virtual_service *service)
{
	const struct http_route *route = &service->http[0];

	head(out, "networking.istio.io/v1", &service->object);
	print_hosts(out, service->hosts, service->host_count);
	if (!service->is_mesh)
		fprintf(out, "  gateways: [edge]\n");
	fprintf(out, "  http:\n  - route: [{destination: {host: %s", route->destinations[0].host);
	if (route->destinations[0].port)
		fprintf(out, ", port: {number: %u}", route->destinations[0].port);
	fprintf(out, "}}]\n");
	if (route->delay.present)
		fprintf(out, "    fault: {delay: {fixedDelay: 1s, percent: %.0f}}\n", route->delay.percent);
}

static void print_policy(FILE *out, const struct egress_policy *policy)
{
	static const char *const modes[] = {"ALLOW_ANY", "REGISTRY_ONLY", "ALLOW_ANY_DYNAMIC_DNS"};
	static const char *const allow[] = {[DNS_RESOLVERS] = "resolvers", [DNS_ANY] = "any", [DNS_NONE] = "none"};

	head(out, "sluice.dev/v1", &policy->object);
	fprintf(out, "  workloadSelector: {labels: {%s}}\n", policy->selector.count ? "app: web" : "");
	if (policy->has_mode)
		fprintf(out, "  outboundTrafficPolicy: {mode: %s}\n", modes[policy->mode]);
	if (policy->has_audit)
		fprintf(out, "  enforcement: %s\n", policy->audit ? "audit" : "enforce");
	if (policy->has_host_check)
		fprintf(out, "  hostCheck: %s\n", host_checks[policy->host_check]);
	if (policy->has_dns_allow)
		fprintf(out, "  dns: {allow: %s}\n", allow[policy->dns_allow]);
	if (policy->has_dns_servers)
		fprintf(out, "  dns: {servers: [9.9.9.9]}\n");
	fprintf(out, "  interception:\n");
	if (policy->has_include_cidrs && policy->include_all)
		fprintf(out, "    includeCIDRs: ['*']\n");
	else if (policy->has_include_cidrs)
		print_cidrs(out, "    ", "includeCIDRs", &policy->include_cidrs);
	if (policy->has_exclude_cidrs)
		print_cidrs(out, "    ", "excludeCIDRs", &policy->exclude_cidrs);
	if (policy->has_include_ports)
		print_ports(out, "includePorts", &policy->include_ports);
	if (policy->has_exclude_ports)
		print_ports(out, "excludePorts", &policy->exclude_ports);
}

char *random_config_text(const struct config *config)
{
	size_t length;
	char *text;
	FILE *out = open_memstream(&text, &length);

	for (size_t i = 0; i < config->service_entry_count; i++)
		print_entry(out, config->service_entries[i]);
	for (size_t i = 0; i < config->virtual_service_count; i++)
		print_virtual_service(out, config->virtual_services[i]);
	for (size_t i = 0; i < config->egress_policy_count; i++)
		print_policy(out, config->egress_policies[i]);
	fclose(out);
	return text;
}

/* ---- names and flows ---- */

const uint8_t (*random_addresses(void *context, const char *host, size_t *count))[16]
{
	static uint8_t found[2][16];
	size_t length = strlen(host);
	struct cidr one;

	(void)context;
	if (host[length - 1] == 't') { /* .net: not resolved yet */
		*count = 0;
		return NULL;
	}
	*count = host[0] == 'a' ? 2 : 1;
	parsed(&one, addresses[length % 4]);
	memcpy(found[0], one.addr, 16);
	parsed(&one, addresses[4]);
	memcpy(found[1], one.addr, 16);
	return (const uint8_t (*)[16])found;
}

/* Now and then the neighbour of a known address: one bit away, so across the border of some prefix. */
void random_flow(struct flow *out, const struct random_source *from)
{
	struct cidr address;

	source = from;
	*out = (struct flow){.port = (uint16_t)PICK(ports), .protocol = draw(3) ? SLUICE_TCP : SLUICE_UDP};
	parsed(&address, PICK(addresses));
	memcpy(out->addr, address.addr, 16);
	if (!draw(4)) {
		unsigned int bit = draw(128);

		out->addr[bit / 8] ^= (uint8_t)(0x80 >> bit % 8);
	}
	if (!draw(8))
		out->port = (uint16_t)(draw(256) << 8 | draw(256));
}
