// SPDX-License-Identifier: Apache-2.0
/*
 * What the redirector does with a request or a connection, and with which rules: found by the functions that it runs,
 * described line by line; and what else was there and lost.
 */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/text.h"
#include "command/explain.h"
#include "redirect/l4_route.h"

/* ---- notes ---- */

void notes_add(struct notes *notes, unsigned int depth, const char *what, const char *by, const char *text, ...)
{
	char line[1024];
	va_list arguments;

	va_start(arguments, text);
	vsnprintf(line, sizeof(line), text, arguments);
	va_end(arguments);
	text_make_harmless(line);
	*arena_append(notes->arena, notes->items, notes->count, notes->capacity) =
		(struct note){depth, what, arena_strdup(notes->arena, line), by};
}

const char *place_of_line(struct arena *arena, struct position at, const struct object *object)
{
	if (!object)
		return arena_printf(arena, "%s:%u", at.file, at.line);
	return arena_printf(arena, "%s:%u %s/%s", at.file, at.line, object->kind, object->name);
}

static const char *line_of(const struct answer *answer, struct position at)
{
	return place_of_line(answer->arena, at, NULL);
}

/* ---- how a service is spoken to ---- */

static const char *joined(struct arena *arena, const struct string_list *list)
{
	const char *out = "";

	for (size_t i = 0; i < list->count; i++)
		out = arena_printf(arena, "%s%s%s", out, i ? ", " : "", list->items[i]);
	return out;
}

static const char *credential_path(const struct source *source, size_t index)
{
	return source->config->credentials[index - 1].path;
}

static void describe_tls(const struct source *source, struct answer *answer, const struct service *service)
{
	const struct tls_settings *tls = &service->policy.tls;
	const struct string_list *names = tls->alt_names.count || !service->entry ? &tls->alt_names : &service->entry->alt_names;
	const char *whom = tls->skip_verify ? "anybody (insecureSkipVerify)"
			   : names->count   ? joined(answer->arena, names)
					    : arena_printf(answer->arena, "%s", tls->sni ? tls->sni : "the request's host");

	if (!service_originates(service))
		return;
	notes_add(&answer->route, 2, "tls", line_of(answer, tls->at), "%s, server name %s, the server must be %s, by %s%s%s",
		  tls->mode == TLS_MUTUAL ? "MUTUAL" : "SIMPLE", tls->sni ? tls->sni : "of the request", whom,
		  tls->skip_verify ? "no authority" : credential_path(source, tls->authorities), tls->certificate ? ", as " : "",
		  tls->certificate ? credential_path(source, tls->certificate) : "");
}

static const char *rule_line(const struct answer *answer, const struct service *service)
{
	if (service->rule)
		return place_of_line(answer->arena, service->rule->object.at, &service->rule->object);
	return service->subset ? line_of(answer, service->subset_at) : "";
}

static void describe_limits(struct answer *answer, const struct service *service)
{
	const struct pool_settings *pool = &service->policy.pool;
	const struct {
		uint32_t most;
		const char *of;
	} limits[] = {
		{pool->max_connections, "connections"}, {pool->max_pending, "requests that wait for one"}, {pool->max_active, "requests under way"},
		{pool->max_retries, "retries under way"}, {pool->max_streams, "streams to a connection"},
	};

	for (size_t i = 0; i < ARRAY_SIZE(limits); i++)
		if (limits[i].most)
			notes_add(&answer->route, 2, "limit", rule_line(answer, service), "%u %s", limits[i].most, limits[i].of);
}

static void describe_pool(const struct source *source, struct answer *answer, const struct service *service)
{
	static const char *const balances[] = {"LEAST_REQUEST", "RANDOM", "ROUND_ROBIN", "PASSTHROUGH", "consistentHash"};
	const struct pool_settings *pool = &service->policy.pool;
	const struct mesh *mesh = source->config->mesh;
	uint64_t connect_ms = connect_timeout_of(service, mesh);
	const char *by = pool->connect_timeout_ms ? rule_line(answer, service)
			 : mesh && mesh->connect_timeout_ms
				 ? place_of_line(answer->arena, mesh->settings.object.at, &mesh->settings.object) : "";

	if (connect_ms != CONNECT_TIMEOUT_MS)
		notes_add(&answer->route, 2, "connect", by, "within %llu ms", (unsigned long long)connect_ms);
	if (pool->max_requests)
		notes_add(&answer->route, 2, "pool", rule_line(answer, service), "%u requests to a connection", pool->max_requests);
	if (pool->keepalive.present)
		notes_add(&answer->route, 2, "keepalive", rule_line(answer, service), "probes %u, time %u s, interval %u s (0: the kernel's)",
			  pool->keepalive.probes, pool->keepalive.time_s, pool->keepalive.interval_s);
	describe_limits(answer, service);
	if (service->policy.balance.present)
		notes_add(&answer->route, 2, "balance", rule_line(answer, service), "%s", balances[service->policy.balance.way]);
	if (service->policy.outlier.present)
		notes_add(&answer->route, 2, "ejects", rule_line(answer, service), "an address that fails (outlierDetection)");
	if (service->policy.tunnel.present)
		notes_add(&answer->route, 2, "tunnel", rule_line(answer, service), "%s %s port %u", service->policy.tunnel.posts ? "POST" : "CONNECT",
			  service->policy.tunnel.host, service->policy.tunnel.port);
	if (service->policy.proxy_protocol)
		notes_add(&answer->route, 2, "begins", rule_line(answer, service), "with a header of the PROXY protocol, V%d",
			  service->policy.proxy_protocol);
}

/* Where sluice itself dials it. */
static void describe_upstreams(struct answer *answer, const struct service *service)
{
	if (service->resolution == RESOLUTION_NONE && service->target_port == service->port)
		notes_add(&answer->route, 2, "at", "", "the address that the client dialled");
	else if (service->resolution == RESOLUTION_NONE)
		notes_add(&answer->route, 2, "at", "", "the address that the client dialled, port %u", service->target_port);
	else if (!service->target_count)
		notes_add(&answer->route, 2, "at", "", "nowhere, it has no endpoints: %s",
			  service->flags & SERVICE_HTTP ? "503 no healthy upstream" : "connections end");
	for (size_t i = 0; i < service->target_count; i++) {
		const struct upstream_target *target = &service->targets[i];
		char address[SLUICE_PREFIX_TEXT];

		if (target->socket)
			notes_add(&answer->route, 2, "at", "", "unix://%s, a socket of the node", target->socket);
		else
			notes_add(&answer->route, 2, "at", "", addr_is_v4(target->addr) || target->host ? "%s:%u%s" : "[%s]:%u%s",
			  target->host ? target->host : format_address(address, target->addr), target->port,
			  !target->host ? "" : service->one_address ? ", the first address DNS has when running" : ", resolved by DNS when running");
		if (target->weight > 1)
			answer->route.items[answer->route.count - 1].text = arena_printf(answer->arena, "%s, weight %u",
				answer->route.items[answer->route.count - 1].text, target->weight);
	}
}

static void describe_service(const struct source *source, struct answer *answer, const struct service *service)
{
	describe_upstreams(answer, service);
	describe_tls(source, answer, service);
	describe_pool(source, answer, service);
}

/* ---- actions of a rule ---- */

static void describe_headers(struct answer *answer, unsigned int depth, const struct header_changes *changes, struct position at)
{
	const struct header_ops *both[] = {&changes->request, &changes->response};

	for (size_t i = 0; changes->present && i < ARRAY_SIZE(both); i++) {
		const char *what = i ? "response" : "request", *line = both[i]->lines, *end;

		if (both[i]->drop.count)
			notes_add(&answer->route, depth, what, line_of(answer, at), "loses %s", joined(answer->arena, &both[i]->drop));
		for (; line && (end = strstr(line, "\r\n")); line = end + 2)
			notes_add(&answer->route, depth, what, line_of(answer, at), "gets %.*s", (int)(end - line), line);
	}
}

static void describe_faults(struct answer *answer, const struct http_route *rule, const char *aborted)
{
	if (rule->delay.present)
		notes_add(&answer->route, 1, "delay", line_of(answer, rule->delay.at), "%llu ms for %g %%",
			  (unsigned long long)rule->delay.fixed_ms, rule->delay.percent);
	if (rule->abort.present && aborted)
		notes_add(&answer->route, 1, "abort", line_of(answer, rule->abort.at), "%s for %g %%", aborted, rule->abort.percent);
	else if (rule->abort.present && rule->abort.is_grpc)
		notes_add(&answer->route, 1, "abort", line_of(answer, rule->abort.at), "grpc-status %u (%u to others) for %g %%",
			  rule->abort.grpc_status, rule->abort.http_status, rule->abort.percent);
	else if (rule->abort.present)
		notes_add(&answer->route, 1, "abort", line_of(answer, rule->abort.at), "%u for %g %%", rule->abort.http_status,
			  rule->abort.percent);
}

static void describe_redirect(struct answer *answer, const struct http_redirect *redirect)
{
	const char *port = redirect->port ? arena_printf(answer->arena, " port %u", redirect->port) : "";

	notes_add(&answer->route, 1, "redirect", line_of(answer, redirect->at), "%u to %s://%s%s%s%s", redirect->code,
		  redirect->scheme ? redirect->scheme : "http", redirect->authority ? redirect->authority : "the same host", port,
		  redirect->uri || redirect->prefix_rewrite ? ", path " : ", the same path",
		  redirect->uri ? redirect->uri : redirect->prefix_rewrite ? arena_printf(answer->arena, "%s for the matched prefix",
									   redirect->prefix_rewrite) : "");
}

static void describe_rewrite(struct answer *answer, const struct http_rewrite *rewrite)
{
	if (rewrite->uri && *rewrite->uri)
		notes_add(&answer->route, 1, "rewrite", line_of(answer, rewrite->at), "%s for what is matched of the path", rewrite->uri);
	if (rewrite->regex)
		notes_add(&answer->route, 1, "rewrite", line_of(answer, rewrite->at), "the path, by uriRegexRewrite");
	if (rewrite->authority && *rewrite->authority)
		notes_add(&answer->route, 1, "rewrite", line_of(answer, rewrite->at), "Host: %s", rewrite->authority);
}

static void describe_retries(const struct source *source, struct answer *answer, const struct http_route *rule)
{
	const struct mesh *mesh = source->config->mesh;
	const struct http_retries *retries = http_retries_for(rule, mesh);
	const char *by = (rule && retries == &rule->retries) || (mesh && retries == &mesh->retries) ? line_of(answer, retries->at) : "Istio's default";
	const char *each = retries->per_try_ms ? arena_printf(answer->arena, ", each within %llu ms", (unsigned long long)retries->per_try_ms) : "";

	notes_add(&answer->route, 1, "retries", by, retries->attempts ? "%u on %s%s" : "none", retries->attempts,
		  retries->on_text ? retries->on_text : "connect-failure,refused-stream,unavailable,cancelled", each);
}

static void describe_cors(struct answer *answer, const struct http_route *rule)
{
	static const char *const results[] = {
		[CORS_NONE] = "says nothing to this request", [CORS_RESPONSE] = "tells the origin that it may read the answer",
		[CORS_PREFLIGHT] = "answers the preflight", [CORS_IGNORED] = "answers the preflight of another origin without a word",
	};
	char room[8192];

	if (rule->cors.present)
		notes_add(&answer->route, 1, "cors", line_of(answer, rule->at), "%s",
			  results[http_cors(room, sizeof(room), &rule->cors, answer->request)]);
}

static const char *target_text(const struct answer *answer, const struct route_destination *to, const struct service *service,
			       const char *otherwise)
{
	const char *subset = to->subset ? arena_printf(answer->arena, " subset %s", to->subset) : "";

	if (!service)
		return arena_printf(answer->arena, "%s%s, which is not registered: %s", to->host, subset, otherwise);
	return arena_printf(answer->arena, "%s port %u%s", to->host, service->port, subset);
}

static void describe_targets(const struct source *source, struct answer *answer, const struct route_target *targets, size_t count,
			     uint64_t weights, const char *otherwise)
{
	for (size_t i = 0; i < count; i++) {
		const struct service *service = policy_service(source->policy, targets[i].service);
		const char *text = target_text(answer, targets[i].destination, service, otherwise);

		if (count > 1)
			text = arena_printf(answer->arena, "%s (%u of %llu)", text, targets[i].weight, (unsigned long long)weights);
		notes_add(&answer->route, 1, "to", service ? service->origin : line_of(answer, targets[i].destination->at), "%s", text);
		describe_headers(answer, 2, &targets[i].headers, targets[i].destination->at);
		if (service)
			describe_service(source, answer, service);
	}
}

static void describe_mirrors(const struct source *source, struct answer *answer, const struct service_route *route)
{
	for (size_t i = 0; i < route->rule->mirror_count; i++) {
		const struct http_mirror *mirror = &route->rule->mirrors[i];

		notes_add(&answer->route, 1, "mirror", line_of(answer, mirror->destination.at), "%s, %g %%",
			  target_text(answer, &mirror->destination, policy_service(source->policy, route->mirrors[i]), "nothing is sent"),
			  mirror->percent);
	}
}

static void describe_http_rule(const struct source *source, struct answer *answer, const struct service_route *route,
			       const struct http_match *match)
{
	const struct http_route *rule = route->rule;

	if (match)
		notes_add(&answer->route, 1, "match", line_of(answer, match->at), "match[%zu]%s%s", (size_t)(match - rule->matches),
			  match->name ? " " : "", match->name ? match->name : "");
	describe_cors(answer, rule);
	describe_faults(answer, rule, NULL);
	if (rule->redirect.present)
		describe_redirect(answer, &rule->redirect);
	if (rule->direct.present)
		notes_add(&answer->route, 1, "answer", line_of(answer, rule->direct.at), "%u, %zu bytes", rule->direct.status, rule->direct.length);
	if (!route->target_count) {
		describe_headers(answer, 1, &rule->headers, rule->at);
		return;
	}
	describe_rewrite(answer, &rule->rewrite);
	if (rule->timeout_ms)
		notes_add(&answer->route, 1, "timeout", line_of(answer, rule->at), "%llu ms", (unsigned long long)rule->timeout_ms);
	describe_retries(source, answer, rule);
	describe_mirrors(source, answer, route);
	describe_targets(source, answer, route->targets, route->target_count, route->weights, "503");
}

/* ---- which rule ---- */

static void add_lost_rule(struct answer *answer, const struct virtual_service *service, const char *list, size_t index,
			  struct position at, const char *why)
{
	notes_add(&answer->lost, 0, arena_printf(answer->arena, "%s[%zu]", list, index),
		  place_of_line(answer->arena, at, &service->object), "%s", why);
}

static void explain_other_http_rules(struct answer *answer, const struct service *service, uint16_t port, const struct http_route *taken)
{
	const struct virtual_service *owner = service->virtual_service;
	const struct http_match *match;

	for (size_t i = 0; i < owner->http_count; i++) {
		enum route_result result = http_rule_takes(&owner->http[i], answer->request, &answer->who, port, &match);

		if (&owner->http[i] == taken)
			continue;
		if (result == ROUTE_FOUND)
			add_lost_rule(answer, owner, "http", i, match ? match->at : owner->http[i].at, "it takes the request, too, but comes later");
		else if (result == ROUTE_OWN)
			add_lost_rule(answer, owner, "http", i, owner->http[i].at,
				      "it is for others (port, sourceLabels, sourceNamespace or gateways)");
		else if (!taken)
			add_lost_rule(answer, owner, "http", i, owner->http[i].at, "it does not match the request");
	}
}

/* Without a rule: as the service itself says. */
static void describe_own_way(const struct source *source, struct answer *answer, const struct service *service, const char *why)
{
	notes_add(&answer->route, 0, "route", service->origin, "to the service itself%s%s", *why ? ": " : "", why);
	if (answer->is_http)
		describe_retries(source, answer, NULL);
	notes_add(&answer->route, 1, "to", service->origin, "%s port %u", service->host, service->port);
	describe_service(source, answer, service);
}

static void explain_http(const struct source *source, struct answer *answer, const struct service *service, uint16_t port)
{
	const struct virtual_service *owner = service->virtual_service;
	const struct service_route *found = NULL;
	const struct http_match *match;
	enum route_result result;

	if (!service->route_count) {
		describe_own_way(source, answer, service, owner ? arena_printf(answer->arena, "VirtualService/%s has no http rules",
									       owner->object.name) : "");
		return;
	}
	result = http_route_find(service, answer->request, &answer->who, port, &found, &match);
	if (result == ROUTE_NONE) {
		notes_add(&answer->route, 0, "route", place_of_line(answer->arena, owner->object.at, &owner->object),
			  "no rule of VirtualService/%s takes it: 404", owner->object.name);
	} else if (result == ROUTE_OWN) {
		describe_own_way(source, answer, service, arena_printf(answer->arena, "no rule of VirtualService/%s is for this workload and port",
								       owner->object.name));
	} else {
		notes_add(&answer->route, 0, "route", place_of_line(answer->arena, found->rule->at, &owner->object), "http[%zu]%s%s",
			  (size_t)(found->rule - owner->http), found->rule->name ? " " : "", found->rule->name ? found->rule->name : "");
		describe_http_rule(source, answer, found, match);
	}
	explain_other_http_rules(answer, service, port, result == ROUTE_FOUND ? found->rule : NULL);
}

static const char *l4_list(const struct service *service)
{
	return service->flags & SERVICE_TLS ? "tls" : "tcp";
}

static size_t l4_index(const struct service *service, const struct service_l4_route *route)
{
	return (size_t)(route->rule - (service->flags & SERVICE_TLS ? route->owner->tls : route->owner->tcp));
}

static void explain_other_l4_rules(struct answer *answer, const struct service *service, const struct l4_connection *connection,
				   const struct service_l4_route *taken, const struct l4_fit *best)
{
	bool is_behind = false;

	for (size_t i = 0; i < service->l4_route_count; i++) {
		const struct service_l4_route *one = &service->l4_routes[i];
		struct l4_fit fit = l4_rule_fit(one->rule, connection);
		bool has_subnets = false;

		for (size_t k = 0; k < one->rule->match_count; k++)
			has_subnets |= one->rule->matches[k].subnets.count != 0;
		if (taken == one)
			is_behind = true;
		else if (fit.takes)
			add_lost_rule(answer, one->owner, l4_list(service), l4_index(service, one), fit.match ? fit.match->at : one->rule->at,
				      l4_is_closer(best, &fit) ? "it takes the connection, too, but says less of its address or name"
							       : "it takes the connection, too, but comes later");
		else if ((!is_behind || service->flags & SERVICE_TLS) && has_subnets && !answer->place.known)
			add_lost_rule(answer, one->owner, l4_list(service), l4_index(service, one), one->rule->at,
				      "its destinationSubnets hold an address that is not known offline: give one with --address");
	}
}

static void explain_connection(const struct source *source, struct answer *answer, const struct service *service, const char *name,
			       uint16_t port)
{
	struct l4_connection connection = {.who = &answer->who, .name = name, .addr = answer->place.addr, .port = port};
	const struct service_l4_route *found = l4_rule_find(service, &connection);
	const struct virtual_service *owner = service->virtual_service;
	struct l4_fit fit = {.takes = false};

	if (found) {
		fit = l4_rule_fit(found->rule, &connection);
		notes_add(&answer->route, 0, "route", place_of_line(answer->arena, found->rule->at, &found->owner->object), "%s[%zu]",
			  l4_list(service), l4_index(service, found));
		if (fit.match)
			notes_add(&answer->route, 1, "match", line_of(answer, fit.match->at), "match[%zu]", (size_t)(fit.match - found->rule->matches));
		if (service->connection_fault)
			describe_faults(answer, service->connection_fault, "reset");
		describe_targets(source, answer, found->targets, found->target_count, found->weights, "the connection ends");
	} else {
		describe_own_way(source, answer, service, owner ? arena_printf(answer->arena, "no %s rule of VirtualService/%s takes it", l4_list(service),
									       owner->object.name) : "");
		if (service->connection_fault)
			describe_faults(answer, service->connection_fault, "reset");
	}
	explain_other_l4_rules(answer, service, &connection, found, &fit);
	if (owner && owner->http_count && !service->connection_fault)
		notes_add(&answer->lost, 0, "http", place_of_line(answer->arena, owner->http[0].at, &owner->object),
			  "http rules do nothing on a %s port", service->flags & SERVICE_TLS ? "TLS" : "TCP");
}

/* ---- all of it ---- */

static void add_rivals(struct answer *answer, const struct rivals *rivals)
{
	for (size_t i = 0; i < rivals->count; i++)
		notes_add(&answer->lost, 0, rivals->items[i].what,
			  place_of_line(answer->arena, rivals->items[i].at, rivals->items[i].object), "%s", rivals->items[i].why);
}

static void explain_rivals(const struct source *source, const struct question *question, struct answer *answer)
{
	const struct named *named = answer_service(answer);
	const struct service *service = named ? named->service : NULL;
	struct rivals rivals = {.arena = answer->arena};
	struct asked asked = {
		.host = question->host, .addr = question->is_address ? question->addr : NULL, .port = question->port,
		.is_udp = question->protocol == SLUICE_UDP, .is_named = answer->is_named,
		.is_http = answer->is_http, .found = service,
	};

	if (answer->kernel.verdict != VERDICT_BYPASS) {
		policy_other_entries(source->policy, &answer->who, &asked, &rivals);
		if (!asked.is_udp)
			policy_other_virtual_services(source->policy, &answer->who, &asked, &rivals);
		if (service)
			policy_other_destination_rules(source->policy, &answer->who, service, &rivals);
		policy_other_sidecars(source->policy, &answer->who, &rivals);
	}
	policy_settings_of(source->policy, &answer->who, answer->by, &rivals);
	add_rivals(answer, &rivals);
}

void explain_route(struct source *source, const struct question *question, struct answer *answer)
{
	const struct named *named = answer_service(answer);
	const struct service *service = named ? named->service : NULL;

	if (service && answer->redirected && !answer->kernel.check_name) {
		if (answer->is_http)
			explain_http(source, answer, service, question->port);
		else
			explain_connection(source, answer, service, answer->by_name.id ? question->host : "", question->port);
	}
	explain_rivals(source, question, answer);
}
