// SPDX-License-Identifier: Apache-2.0
#include "verdict_model.h"

#include <stdio.h>
#include <string.h>

#include "config/config.h"
#include "policy/policy.h"
#include "policy/tables.h"

/* ---- the model ---- */

enum class { HTTP, TLS, TCP, UDP };

/* One host and port of one entry, or of a VirtualService alone (entry NULL). */
struct pair {
	const char *host;
	unsigned int number, target;
	enum class class;
	const struct service_entry *entry;
	const struct service_port *port;
	bool routed, rewrites;
};

struct model {
	const struct config *config;
	struct pair pairs[64];
	size_t count;
	bool registry_only, by_host, audit, unchecked, by_kernel;
	enum sluice_dns_allow dns;
	const struct egress_policy *include, *exclude, *include_ports, *exclude_ports, *servers;
};

static enum class class_of(enum port_protocol protocol)
{
	switch (protocol) {
	case PROTOCOL_HTTP: case PROTOCOL_GRPC_WEB: case PROTOCOL_HTTP_PROXY: return HTTP;
	case PROTOCOL_HTTPS: case PROTOCOL_TLS: return TLS;
	case PROTOCOL_UDP: return UDP;
	default: return TCP;
	}
}

/* 0: not at all; else the more the more specific. */
static size_t fits(const char *pattern, const char *host)
{
	size_t n = strlen(pattern), m = strlen(host);

	if (!strcmp(pattern, host))
		return 1000;
	return pattern[0] == '*' && m >= n && !strcmp(host + m - n + 1, pattern + 1) ? n : 0;
}

static const struct pair *named(const struct model *model, const char *host, unsigned int number)
{
	const struct pair *best = NULL;
	size_t most = 0;

	for (size_t i = 0; i < model->count; i++) {
		const struct pair *pair = &model->pairs[i];

		if (pair->class == HTTP && pair->entry && pair->number == number && fits(pair->host, host) > most) {
			best = pair;
			most = fits(pair->host, host);
		}
	}
	return best;
}

static bool leads_elsewhere(const struct model *model, const struct pair *pair, const struct http_route *route)
{
	unsigned int number = route->destinations[0].port, only = 0, n = 0;

	for (size_t i = 0; i < model->count; i++) {
		if (model->pairs[i].entry && !strcmp(model->pairs[i].host, route->destinations[0].host)) {
			only = model->pairs[i].number;
			n++;
		}
	}
	if (!number)
		number = n == 1 ? only : pair->number;
	return named(model, route->destinations[0].host, number) != pair;
}

static bool is_routed(const struct model *model, const struct pair *pair)
{
	const struct virtual_service *best = NULL;
	size_t most = 0;

	for (size_t i = 0; i < model->config->virtual_service_count; i++) {
		const struct virtual_service *one = model->config->virtual_services[i];

		for (size_t k = 0; one->is_mesh && k < one->host_count; k++) {
			if (fits(one->hosts[k].name, pair->host) > most) {
				most = fits(one->hosts[k].name, pair->host);
				best = one;
			}
		}
	}
	return best && pair->class == HTTP && (best->http[0].delay.percent > 0 || leads_elsewhere(model, pair, &best->http[0]));
}

static unsigned int endpoint_port(const struct pair *pair, const struct endpoint *endpoint)
{
	for (size_t i = 0; i < endpoint->port_count; i++)
		if (!strcmp(endpoint->ports[i].name, pair->port->name))
			return endpoint->ports[i].number;
	return pair->target;
}

static bool does_rewrite(const struct pair *pair)
{
	const struct service_entry *entry = pair->entry;

	if (entry->resolution == RESOLUTION_NONE)
		return pair->target != pair->number;
	if (entry->addresses.count || (entry->resolution != RESOLUTION_STATIC && entry->endpoint_count))
		return true;
	for (size_t i = 0; i < entry->endpoint_count; i++)
		if (endpoint_port(pair, &entry->endpoints[i]) != pair->number)
			return true;
	return entry->resolution != RESOLUTION_STATIC && pair->target != pair->number;
}

static bool is_seen(const struct service_entry *entry)
{
	const struct string_list *to = &entry->object.export_to;
	bool found = !to->count;

	for (size_t i = 0; i < to->count; i++)
		found |= !strcmp(to->items[i], "shop");
	return found;
}

static bool same_exports(const struct service_entry *a, const struct service_entry *b)
{
	bool same = a->object.export_to.count == b->object.export_to.count;

	for (size_t i = 0; same && i < a->object.export_to.count; i++)
		same = !strcmp(a->object.export_to.items[i], b->object.export_to.items[i]);
	return same;
}

/* The namespace whose entries of `host` count: the own one if it has any that is seen, else that of the oldest. */
static const char *home_of(const struct config *config, const char *host)
{
	const char *home = NULL;

	for (size_t i = 0; i < config->service_entry_count; i++) {
		const struct service_entry *entry = config->service_entries[i];

		for (size_t k = 0; is_seen(entry) && k < entry->host_count; k++)
			if (!strcmp(entry->hosts[k].name, host) && (!home || !strcmp(entry->object.namespace_, "shop")))
				home = entry->object.namespace_;
	}
	return home;
}

static void add_entry(struct model *model, const struct service_entry *entry, const char *host)
{
	for (size_t p = 0; p < entry->port_count; p++) {
		const struct service_port *port = &entry->ports[p];
		struct pair *pair = &model->pairs[model->count];
		bool twin = false;

		for (size_t i = 0; i < model->count; i++)
			twin |= !strcmp(model->pairs[i].host, host) && model->pairs[i].entry != entry &&
				(model->pairs[i].entry->resolution != entry->resolution || !same_exports(model->pairs[i].entry, entry) ||
				 (model->pairs[i].number == port->number && (model->pairs[i].class == UDP) == (port->protocol == PROTOCOL_UDP)));
		if (twin)
			continue;
		*pair = (struct pair){.host = host, .number = port->number, .class = class_of(port->protocol), .entry = entry,
				      .target = port->target_port ? port->target_port : port->number, .port = port};
		pair->rewrites = does_rewrite(pair);
		model->count++;
	}
}

static void add_virtual_host(struct model *model, const char *host, size_t registered)
{
	for (size_t i = 0; i < registered; i++)
		if (fits(host, model->pairs[i].host))
			return;
	model->pairs[model->count++] = (struct pair){.host = host, .number = 80, .class = HTTP, .routed = true};
}

static void take_policy(struct model *model, const struct egress_policy *policy)
{
	if (policy->has_mode) {
		model->registry_only = policy->mode == MODE_REGISTRY_ONLY;
		model->by_host = policy->mode == MODE_ALLOW_ANY_DYNAMIC_DNS;
	}
	if (policy->has_audit)
		model->audit = policy->audit;
	if (policy->has_host_check) {
		model->unchecked = policy->host_check == HOST_CHECK_OFF;
		model->by_kernel = policy->host_check == HOST_CHECK_KERNEL;
	}
	if (policy->has_dns_allow)
		model->dns = policy->dns_allow;
	model->servers = policy->has_dns_servers ? policy : model->servers;
	model->include = policy->has_include_cidrs ? policy : model->include;
	model->exclude = policy->has_exclude_cidrs ? policy : model->exclude;
	model->include_ports = policy->has_include_ports ? policy : model->include_ports;
	model->exclude_ports = policy->has_exclude_ports ? policy : model->exclude_ports;
}

static void make_model(struct model *model, const struct config *config)
{
	size_t registered;

	*model = (struct model){.config = config};
	for (size_t i = 0; i < config->service_entry_count; i++)
		for (size_t k = 0; is_seen(config->service_entries[i]) && k < config->service_entries[i]->host_count; k++)
			if (!strcmp(config->service_entries[i]->object.namespace_, home_of(config, config->service_entries[i]->hosts[k].name)))
				add_entry(model, config->service_entries[i], config->service_entries[i]->hosts[k].name);
	registered = model->count;
	for (size_t i = 0; i < registered; i++)
		model->pairs[i].routed = is_routed(model, &model->pairs[i]);
	for (size_t i = 0; i < config->virtual_service_count; i++)
		if (config->virtual_services[i]->is_mesh)
			add_virtual_host(model, config->virtual_services[i]->hosts[0].name, registered);
	for (int pass = 0; pass < 4; pass++) {
		for (size_t i = 0; i < config->egress_policy_count; i++) {
			const struct egress_policy *one = config->egress_policies[i];

			if (!strcmp(one->object.namespace_, pass / 2 ? "shop" : "istio-system") && !!one->selector.count == pass % 2)
				take_policy(model, one);
		}
	}
}

static bool inside(const uint8_t addr[16], const uint8_t net[16], unsigned int bits)
{
	for (unsigned int i = 0; i < bits; i++)
		if ((addr[i / 8] ^ net[i / 8]) >> (7 - i % 8) & 1)
			return false;
	return true;
}

static bool in_list(const uint8_t addr[16], const struct cidr_list *list)
{
	for (size_t i = 0; i < list->count; i++)
		if (inside(addr, list->items[i].addr, list->items[i].bits))
			return true;
	return false;
}

static bool has_number(const struct port_list *list, unsigned int port)
{
	for (size_t i = 0; i < list->count; i++)
		if (list->items[i] == port)
			return true;
	return false;
}

static bool is_endpoint(const struct pair *pair, const struct flow *flow)
{
	const struct service_entry *entry = pair->entry;
	const uint8_t (*known)[16];
	size_t count;

	for (size_t i = 0; i < entry->endpoint_count; i++) {
		const struct endpoint *endpoint = &entry->endpoints[i];

		if (endpoint_port(pair, endpoint) != flow->port)
			continue;
		count = 1;
		known = endpoint->is_ip ? &endpoint->ip : random_addresses(NULL, endpoint->address, &count);
		for (size_t k = 0; k < count; k++)
			if (!memcmp(known[k], flow->addr, 16))
				return true;
	}
	if (entry->endpoint_count || entry->resolution < RESOLUTION_DNS || pair->target != flow->port)
		return false;
	known = random_addresses(NULL, pair->host, &count);
	for (size_t k = 0; k < count; k++)
		if (!memcmp(known[k], flow->addr, 16))
			return true;
	return false;
}

/* Length of the longest prefix + 1 at which clients dial `pair` by this address; 0: none. */
static unsigned int dialled_at(const struct pair *pair, const struct flow *flow)
{
	const struct service_entry *entry = pair->entry;
	unsigned int best = 0;
	size_t count = 0;

	if (!entry || (pair->class == UDP) != (flow->protocol == SLUICE_UDP))
		return 0;
	if (pair->class == UDP && is_endpoint(pair, flow)) /* nothing rewrites UDP: clients dial the endpoints */
		return 129;
	if (pair->number != flow->port)
		return 0;
	for (size_t i = 0; i < entry->addresses.count; i++) {
		const struct cidr *cidr = &entry->addresses.items[i];

		if (inside(flow->addr, cidr->addr, cidr->bits) && cidr->bits + 1U > best)
			best = cidr->bits + 1U;
	}
	for (size_t i = 0; entry->resolution == RESOLUTION_STATIC && !entry->addresses.count && i < entry->endpoint_count; i++)
		if (!memcmp(entry->endpoints[i].ip, flow->addr, 16))
			best = 129;
	if (entry->resolution >= RESOLUTION_DNS && pair->host[0] != '*') {
		const uint8_t (*known)[16] = random_addresses(NULL, pair->host, &count);

		for (size_t i = 0; i < count; i++)
			if (!memcmp(known[i], flow->addr, 16))
				best = 129;
	}
	return best;
}

static struct decision say(uint8_t verdict, uint8_t reason, uint8_t would_be, uint8_t flags)
{
	return (struct decision){.verdict = verdict, .reason = reason, .would_be = would_be, .service_flags = flags};
}

static struct decision refuse(const struct model *model, uint8_t reason)
{
	return model->audit ? say(VERDICT_PASSTHROUGH, reason, VERDICT_DENY, 0) : say(VERDICT_DENY, reason, 0, 0);
}

static uint32_t pair_flags(const struct pair *pair)
{
	return (pair->class == HTTP ? SERVICE_HTTP : pair->class == TLS ? SERVICE_TLS : SERVICE_TCP) |
	       (pair->routed ? SERVICE_ROUTED : 0) | (pair->rewrites && pair->class != UDP ? SERVICE_REWRITES : 0) |
	       (pair->entry->resolution == RESOLUTION_NONE ? SERVICE_NONE : 0) | (pair->host[0] == '*' ? SERVICE_WILDCARD : 0);
}

/* Length of the longest prefix + 1 of the addresses that the entry gives; 0: none. */
static unsigned int given_at(const struct pair *pair, const struct flow *flow)
{
	unsigned int best = 0;

	if (!pair->entry || pair->class == UDP || pair->number != flow->port)
		return 0;
	for (size_t i = 0; i < pair->entry->addresses.count; i++) {
		const struct cidr *cidr = &pair->entry->addresses.items[i];

		if (inside(flow->addr, cidr->addr, cidr->bits) && cidr->bits + 1U > best)
			best = cidr->bits + 1U;
	}
	return best;
}

/* A name or an endpoint that lies in a range of plain TCP leaves that open; an address that somebody gives does not. */
static bool stays_open(const struct model *model, const struct flow *flow)
{
	unsigned int best = 0;
	uint32_t flags = 0;

	for (size_t i = 0; i < model->count; i++) {
		unsigned int length = given_at(&model->pairs[i], flow);

		if (length == 129)
			return false;
		if (length > best) {
			best = length;
			flags = 0;
		}
		if (length && length == best)
			flags |= pair_flags(&model->pairs[i]);
	}
	return (flags & (SERVICE_TCP | SERVICE_HTTP | SERVICE_TLS | SERVICE_ROUTED | SERVICE_REWRITES)) == SERVICE_TCP;
}

static struct decision by_address(const struct model *model, const struct flow *flow, bool *found)
{
	struct decision d = say(VERDICT_ALLOW, REASON_SERVICE, 0, 0);
	unsigned int best = 0;

	for (size_t i = 0; i < model->count; i++) {
		unsigned int length = dialled_at(&model->pairs[i], flow);

		if (length > best) {
			best = length;
			d.service_flags = 0;
			d.service = (uint32_t)i + 1;
		}
		if (length && length == best)
			d.service_flags |= (uint8_t)pair_flags(&model->pairs[i]);
	}
	if (best == 129 && stays_open(model, flow))
		d.service_flags |= SERVICE_TCP;
	*found = best;
	if (flow->protocol == SLUICE_UDP)
		d.service_flags = 0;
	else if (d.service_flags & (SERVICE_HTTP | SERVICE_ROUTED | SERVICE_REWRITES))
		d.verdict = VERDICT_REDIRECT;
	else if (d.service_flags & SERVICE_TLS && model->by_kernel) {
		/* In ALLOW_ANY every name passes; beside a plain TCP service a flow need not show one. */
		if (model->registry_only && !(d.service_flags & SERVICE_TCP)) {
			d.reason = REASON_SERVICE_TLS;
			d.check_name = true;
		}
	} else if (d.service_flags & SERVICE_TLS && !model->unchecked) {
		d.verdict = VERDICT_REDIRECT;
		d.reason = REASON_SERVICE_TLS;
	}
	return d;
}

static bool port_has(const struct model *model, unsigned int number, bool routed)
{
	for (size_t i = 0; i < model->count; i++)
		if (model->pairs[i].class <= TLS && model->pairs[i].number == number && (model->pairs[i].routed || !routed))
			return true;
	return false;
}

static bool speaks_http(const struct model *model, unsigned int number)
{
	bool found = number == 80;

	for (size_t i = 0; i < model->count; i++)
		found |= model->pairs[i].class == HTTP && model->pairs[i].number == number;
	return found;
}

/* `by_host`: who speaks HTTP to whom nobody registers is sent where the Host is. */
static struct decision model_tcp(const struct model *model, const struct flow *flow, bool by_host)
{
	bool found;
	struct decision d = by_address(model, flow, &found);

	if (found)
		return d;
	if (port_has(model, flow->port, !model->registry_only) || (by_host && speaks_http(model, flow->port)))
		return say(VERDICT_REDIRECT, REASON_NAME, 0, 0);
	if (!model->registry_only)
		return say(VERDICT_PASSTHROUGH, REASON_ALLOW_ANY, 0, 0);
	if (flow->port != 80)
		return refuse(model, REASON_NOT_REGISTERED);
	return model->audit ? say(VERDICT_PASSTHROUGH, REASON_REFUSE_HTTP, VERDICT_REDIRECT, 0)
			    : say(VERDICT_REDIRECT, REASON_REFUSE_HTTP, 0, 0);
}

static struct decision model_udp(const struct model *model, const struct flow *flow)
{
	struct flow tcp = *flow;
	bool found;
	struct decision d = by_address(model, flow, &found);

	if (found)
		return d;
	if (model->registry_only)
		return refuse(model, REASON_NOT_REGISTERED);
	tcp.protocol = SLUICE_TCP;
	d = model_tcp(model, &tcp, false);
	if (d.verdict != VERDICT_REDIRECT)
		return say(VERDICT_PASSTHROUGH, REASON_ALLOW_ANY, 0, 0);
	tcp.protocol = SLUICE_UDP;
	found = d.service;
	d = refuse(model, REASON_UDP_NAME_CHECK);
	if (found)
		d.service = UINT32_MAX; /* of the TCP twin: not compared */
	return d;
}

static bool is_resolver(const struct model *model, const struct flow *flow)
{
	uint8_t own[16];

	parse_address(own, RANDOM_RESOLVER);
	if (flow->port != 53 || model->dns == DNS_NONE)
		return false;
	return model->dns == DNS_ANY || !memcmp(flow->addr, own, 16) ||
	       (model->servers && in_list(flow->addr, &model->servers->dns_servers));
}

static bool is_loopback(const uint8_t addr[16])
{
	static const char *const nets[] = {"127.0.0.0/8", "0.0.0.0", "::1", "::"};
	struct cidr net;

	for (size_t i = 0; i < ARRAY_SIZE(nets); i++) {
		parse_cidr(&net, nets[i]);
		if (inside(addr, net.addr, net.bits))
			return true;
	}
	return false;
}

static struct decision model_judge(const struct model *model, const struct flow *flow)
{
	if (is_loopback(flow->addr))
		return say(VERDICT_BYPASS, REASON_LOOPBACK, 0, 0);
	if (model->exclude_ports && has_number(&model->exclude_ports->exclude_ports, flow->port))
		return say(VERDICT_BYPASS, REASON_EXCLUDED_PORT, 0, 0);
	if (model->exclude && in_list(flow->addr, &model->exclude->exclude_cidrs))
		return say(VERDICT_BYPASS, REASON_EXCLUDED_CIDR, 0, 0);
	if (!(model->include_ports && has_number(&model->include_ports->include_ports, flow->port)) && model->include &&
	    !model->include->include_all && !in_list(flow->addr, &model->include->include_cidrs))
		return say(VERDICT_BYPASS, REASON_NOT_INCLUDED, 0, 0);
	if (is_resolver(model, flow))
		return say(VERDICT_ALLOW, REASON_RESOLVER, 0, 0);
	return flow->protocol == SLUICE_TCP ? model_tcp(model, flow, model->by_host) : model_udp(model, flow);
}

/* Whether sluice dials this address for `pair`. */
static bool dials(const struct pair *pair, const struct flow *flow)
{
	const struct service_entry *entry = pair->entry;

	if (!entry || pair->class == UDP || flow->protocol != SLUICE_TCP)
		return false;
	if (entry->resolution == RESOLUTION_NONE)
		return pair->target != pair->number && pair->target == flow->port && in_list(flow->addr, &entry->addresses);
	return is_endpoint(pair, flow);
}

static struct decision model_upstream(const struct model *model, const struct flow *flow)
{
	struct decision d = model_judge(model, flow);
	bool none = false;

	d.check_name = false; /* the redirector has read it */
	if (d.reason == REASON_LOOPBACK && flow->port == RANDOM_REDIRECTOR)
		return say(VERDICT_DENY, REASON_REDIRECTOR_PORT, 0, 0);
	for (size_t i = 0; i < model->count; i++)
		if (dials(&model->pairs[i], flow))
			return say(VERDICT_ALLOW, REASON_UPSTREAM, 0, 0);
	for (size_t i = 0; i < model->count && flow->protocol == SLUICE_TCP; i++)
		none |= model->pairs[i].entry && model->pairs[i].entry->resolution == RESOLUTION_NONE &&
			model->pairs[i].class <= TLS && model->pairs[i].target == flow->port;
	if (d.verdict == VERDICT_REDIRECT && (d.reason == REASON_SERVICE || d.reason == REASON_SERVICE_TLS))
		return say(VERDICT_ALLOW, d.reason, 0, 0);
	if (d.reason == REASON_NAME && (!model->registry_only || model->audit))
		return say(VERDICT_PASSTHROUGH, REASON_NAME_ANY, 0, 0);
	if (none && (d.verdict == VERDICT_REDIRECT || d.verdict == VERDICT_DENY || d.would_be))
		return say(VERDICT_ALLOW, REASON_NAME, 0, 0);
	return d.verdict == VERDICT_REDIRECT ? refuse(model, REASON_NOT_REGISTERED) : d;
}

/* ---- the comparison ---- */

static bool same(const struct decision *a, const struct decision *b, bool with_service)
{
	return a->verdict == b->verdict && a->reason == b->reason && a->would_be == b->would_be &&
	       a->check_name == b->check_name &&
	       (!with_service || a->service == UINT32_MAX || (a->service == b->service && a->service_flags == b->service_flags));
}

static char *disagreement(const char *what, const struct config *config, const struct flow *flow, const struct decision *a,
			  const struct decision *b)
{
	_cleanup_free_ char *text = random_config_text(config);
	char address[SLUICE_PREFIX_TEXT];

	return xasprintf("%s: %s %s port %u: the model says %s/%s/%u service %u flags %u, verdict.h %s/%s/%u service %u flags %u, of\n%s",
			 what, flow->protocol == SLUICE_TCP ? "tcp" : "udp", format_address(address, flow->addr), flow->port,
			 verdict_name(a->verdict), verdict_reason_name(a->reason), a->would_be, a->service, a->service_flags,
			 verdict_name(b->verdict), verdict_reason_name(b->reason), b->would_be, b->service, b->service_flags, text);
}

/* The how manieth of its registry: the model knows no other. */
static uint32_t rank_of(const struct policy *policy, uint32_t id)
{
	uint32_t rank = 0;

	for (uint32_t i = 1; i <= id; i++)
		rank += policy_service(policy, i)->registry == policy_service(policy, id)->registry;
	return rank;
}

static char *compare_flow(const struct model *model, const struct policy *policy, const struct tables *tables, const struct rule_set *rules,
			  const struct flow *flow, unsigned int seen[REASON_COUNT])
{
	struct decision wanted = model_judge(model, flow), got = verdict_judge(tables, rules, flow);

	got.service = rank_of(policy, got.service);
	if (!same(&wanted, &got, true))
		return disagreement("judge", model->config, flow, &wanted, &got);
	seen[got.reason]++;
	wanted = model_upstream(model, flow);
	got = verdict_upstream(tables, rules, flow, RANDOM_REDIRECTOR);
	if (!same(&wanted, &got, false))
		return disagreement("upstream", model->config, flow, &wanted, &got);
	seen[got.reason]++;
	return NULL;
}

char *verdict_model_compare(struct config *config, const struct random_source *source, unsigned int flows,
			    unsigned int seen[REASON_COUNT])
{
	static const struct label web = {"app", "web"};
	struct policy_options options = {"istio-system", NULL, 1};
	struct workload_identity who = {"shop", "cart", &web, 1};
	struct image_tables tables;
	const struct rule_set *rules;
	struct policy *policy;
	struct image *image;
	struct model model;
	uint8_t own[1][16];
	char *why = NULL;

	parse_address(own[0], RANDOM_RESOLVER);
	options.resolvers = (const uint8_t (*)[16])own;
	policy = policy_compile(config, &options);
	if (!policy)
		return random_config_text(config);
	policy_rule_set(policy, &who, &rules);
	image = policy_image_build(policy, random_addresses, NULL, NULL, NULL);
	image_tables_init(&tables, image);
	make_model(&model, config);
	for (unsigned int i = 0; i < flows && !why; i++) {
		struct flow flow;

		random_flow(&flow, source);
		why = compare_flow(&model, policy, &tables.tables, rules, &flow, seen);
	}
	image_free(image);
	policy_free(policy);
	return why;
}
