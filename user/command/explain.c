// SPDX-License-Identifier: Apache-2.0
/*
 * sluice explain: what would happen to a connection, and which line decides. The verdict is include/verdict.h's, over the
 * compiled policy (--config) or over the pinned maps of this node.
 */
#include <errno.h>
#include <getopt.h>
#include <json-c/json.h>
#include <stdio.h>
#include <string.h>

#include "base/memory.h"
#include "command/command.h"
#include "command/explain.h"
#include "command/flow_print.h"
#include "command/run.h"
#include "redirect/http_route.h"

static const char usage[] =
	"Usage: sluice explain [--config DIR] [--root-namespace NS] [--namespace NS] [--label K=V]... [-X METHOD] [-H HEADER]... [-o json]\n"
	"                      HOST[:PORT] | URL\n"
	"       sluice explain [--pin DIR] [-o json] PID|CGROUP HOST[:PORT] | URL\n"
	"\n"
	"Says what happens to a connection and which line decides: offline by the files of --config, else by the\n"
	"live tables, for the workload with these labels, of that process or cgroup, or for the node's default.\n"
	"HOST may be an address. The port is 80, for https:// 443. udp://HOST:PORT asks about a datagram.\n"
	"With --config the http rule is named that takes such a request: its method (GET), its path (/), its headers.\n"
	"Exit status: 0 let through, 1 denied, 2 usage.\n";

struct answer {
	const struct rule_set *rules;
	struct place place;
	struct decision kernel;
	bool redirected;
	struct decision redirector;
	const char *shown; /* to the redirector */
	struct named by_address, by_name;
	char bypass[SLUICE_ORIGIN_TEXT + 64]; /* what the policy says, if it is that */
	char workload[SLUICE_NAME_TEXT];
	bool offline;
	struct workload_identity who;   /* offline */
	const struct http_head *request; /* offline: what is asked for, to find the rule that takes it */
	enum route_result routed;
	const struct service_route *route;
};

/* ---- judging ---- */

/* What the policy says about a flow that is not intercepted. */
static void describe_bypass(struct source *source, const struct flow *flow, struct answer *out)
{
	struct cidr_key key = {CIDR_KEY_FIXED_BITS + 128, out->rules->interception, {0}};
	const struct cidr_value *prefix;
	const struct cidr *cidr;

	memcpy(key.addr, flow->addr, 16);
	prefix = lookup_bypass(source->tables, &key);
	cidr = source->policy ? policy_excluded(source->policy, out->rules, flow->addr) : NULL;
	if (out->kernel.reason == REASON_LOOPBACK)
		snprintf(out->bypass, sizeof(out->bypass), "loopback is never intercepted");
	else if (out->kernel.reason == REASON_EXCLUDED_PORT)
		snprintf(out->bypass, sizeof(out->bypass), "excludePorts has %u", flow->port);
	else if (out->kernel.reason == REASON_NOT_INCLUDED)
		snprintf(out->bypass, sizeof(out->bypass), "neither includeCIDRs nor includePorts has it");
	else if (prefix && cidr)
		snprintf(out->bypass, sizeof(out->bypass), "%s:%u excludeCIDRs has %s", cidr->at.file, cidr->at.line, prefix->prefix);
	else if (prefix)
		snprintf(out->bypass, sizeof(out->bypass), "excludeCIDRs has %s", prefix->prefix);
}

/* Without a scheme the client speaks what the address, the port or the name is registered for. */
static bool speaks_http(struct source *source, const struct question *question, const struct answer *answer)
{
	struct named named;

	if (question->speaks != SPEAKS_ANYTHING)
		return question->speaks == SPEAKS_HTTP;
	if ((answer->kernel.service_flags & (SERVICE_HTTP | SERVICE_TLS)) == SERVICE_TLS)
		return false;
	if (source->find(source, answer->rules->registry, question, true, &named))
		return true;
	return question->port != 443 &&
	       (question->is_address || !source->find(source, answer->rules->registry, question, false, &named));
}

/* To the redirector, which takes HTTP for that only where it is expected. */
static enum shown_name what_is_shown(struct source *source, const struct question *question, bool http, struct answer *out)
{
	struct flow flow = {.port = question->port, .protocol = SLUICE_TCP};
	__u32 port = verdict_port_flags(source->tables, out->rules, &flow);

	if (http && !out->rules->egress_proxy && !verdict_speaks_http(port, flow.port, out->kernel.service_flags)) {
		out->shown = "nothing: HTTP on a port that is not for it";
		return SHOWN_NOTHING;
	}
	out->shown = http ? "an HTTP Host" : question->is_address ? "TLS without a server name" : "a TLS server name";
	return http ? SHOWN_HOST : question->is_address ? SHOWN_NOTHING : SHOWN_SNI;
}

/* The second half of a redirect, and of a name check in the kernel: the tables say the same. */
static void judge_redirected(struct source *source, const struct question *question, struct answer *out)
{
	bool http = speaks_http(source, question, out);
	enum shown_name shown = what_is_shown(source, question, http, out);
	size_t matched;

	out->redirected = true;
	if ((out->kernel.service_flags & (SERVICE_TCP | SERVICE_HTTP | SERVICE_TLS)) == SERVICE_TCP) {
		out->redirector = decide(VERDICT_ALLOW, REASON_SERVICE, out->kernel.service);
		out->shown = "nothing: a TCP service";
		return;
	}
	if (shown != SHOWN_NOTHING)
		source->find(source, out->rules->registry, question, http, &out->by_name);
	out->redirector = verdict_named(out->rules, shown, out->by_name.id, out->kernel.service_flags);
	if (http && out->request && out->by_name.service)
		out->routed = http_route_find(out->by_name.service, out->request, &out->who, question->port, &out->route, &matched);
}

static void judge(struct source *source, const struct question *question, struct answer *out)
{
	struct flow flow = {.port = question->port, .protocol = question->protocol};

	out->place = (struct place){.bits = 128, .known = question->is_address};
	if (question->is_address)
		memcpy(out->place.addr, question->addr, 16);
	else if (!source->place(source, question, &out->place))
		stand_in(out->place.addr, 0);
	memcpy(flow.addr, out->place.addr, 16);
	out->kernel = verdict_judge(source->tables, out->rules, &flow);
	if (out->kernel.service)
		source->describe(source, out->kernel.service, &out->by_address);
	if (out->kernel.verdict == VERDICT_BYPASS)
		describe_bypass(source, &flow, out);
	if (out->kernel.verdict == VERDICT_REDIRECT || out->kernel.check_name)
		judge_redirected(source, question, out);
}

static bool lets_through(const struct answer *answer)
{
	return (answer->redirected ? answer->redirector : answer->kernel).verdict != VERDICT_DENY;
}

/* ---- printing ---- */

static const char *decider(const struct answer *answer, const struct decision *decision)
{
	if (decision->verdict == VERDICT_BYPASS)
		return answer->bypass;
	if (decision->reason == REASON_NAME_ALLOWED)
		return answer->by_name.origin;
	if (decision->reason == REASON_RESOLVER)
		return "dns admits it";
	return decision->service && answer->by_address.id == decision->service ? answer->by_address.origin : answer->rules->origin;
}

static size_t add_targets(char *out, size_t room, const struct service_route *route)
{
	size_t n = 0;

	for (size_t i = 0; i < route->target_count && n < room; i++) {
		const struct route_target *target = &route->targets[i];

		n += (size_t)snprintf(out + n, room - n, "%s%s", i ? ", " : "to ", target->destination->host);
		if (route->target_count > 1 && n < room)
			n += (size_t)snprintf(out + n, room - n, " (%u of %llu)", target->weight, (unsigned long long)route->weights);
		if (!target->service && n < room)
			n += (size_t)snprintf(out + n, room - n, ", which is not registered: 503");
	}
	return n;
}

static void route_text(char *out, size_t room, const struct answer *answer)
{
	const struct service *service = answer->by_name.service;
	const struct service_route *found = answer->route;
	const struct http_route *route = found ? found->rule : NULL;
	size_t n;

	out[0] = 0;
	if (answer->routed == ROUTE_NONE)
		snprintf(out, room, "no rule of VirtualService/%s takes it: 404 (%s:%u)", service->virtual_service->object.name,
			 service->virtual_service->object.at.file, service->virtual_service->object.at.line);
	if (answer->routed != ROUTE_FOUND)
		return;
	if (route->redirect.present)
		n = (size_t)snprintf(out, room, "redirect %u", route->redirect.code);
	else if (route->direct.present)
		n = (size_t)snprintf(out, room, "answer %u", route->direct.status);
	else
		n = add_targets(out, room, found);
	if (route->rewrite.present && route->rewrite.uri && n < room)
		n += (size_t)snprintf(out + n, room - n, ", path rewritten to %s", route->rewrite.uri);
	if (route->rewrite.present && route->rewrite.authority && n < room)
		n += (size_t)snprintf(out + n, room - n, ", Host rewritten to %s", route->rewrite.authority);
	if (route->timeout_ms && n < room)
		n += (size_t)snprintf(out + n, room - n, ", timeout %llu ms", (unsigned long long)route->timeout_ms);
	if (route->delay.present && n < room)
		n += (size_t)snprintf(out + n, room - n, ", delay %llu ms for %g %%", (unsigned long long)route->delay.fixed_ms,
				      route->delay.percent);
	if (route->abort.present && n < room)
		n += (size_t)snprintf(out + n, room - n, ", abort %u for %g %%", route->abort.http_status, route->abort.percent);
	if (n < room)
		snprintf(out + n, room - n, " (%s:%u VirtualService/%s)", route->at.file, route->at.line,
			 service->virtual_service->object.name);
}

static const char *mode_name(const struct rule_set *rules)
{
	return verdict_mode_name(rules->mode);
}

/* Who reads the name. */
static const char *reader(const struct answer *answer)
{
	return answer->kernel.check_name ? "hello" : "redirector";
}

static void print_decision(const char *who, const struct answer *answer, const struct decision *decision)
{
	printf("%-11s %s, %s%s: %s\n", who, verdict_name(decision->verdict), verdict_reason_name(decision->reason),
	       decision->check_name ? ", name checked in the kernel" : "", decider(answer, decision));
	if (decision->would_be)
		printf("            audit: would be %s\n", verdict_name(decision->would_be));
}

static void print_redirected(const struct answer *answer)
{
	const struct named *service = answer->by_name.id ? &answer->by_name : &answer->by_address;
	char route[512];

	print_decision(reader(answer), answer, &answer->redirector);
	printf("shown       %s\n", answer->shown);
	if (answer->redirector.verdict == VERDICT_PASSTHROUGH && answer->rules->egress_proxy)
		printf("proxy       the egressProxy of %s gets it\n", answer->rules->origin);
	if (answer->redirector.verdict != VERDICT_ALLOW)
		return;
	printf("service     %s: %s\n", service->host, service->origin);
	if (service->flags & SERVICE_DYNAMIC)
		printf("dialled     where DNS has the name, resolved when asked for\n");
	route_text(route, sizeof(route), answer);
	if (route[0])
		printf("route       %s\n", route);
	else if (answer->by_name.flags & SERVICE_ROUTED && !(answer->by_name.flags & SERVICE_DYNAMIC))
		printf("route       by a VirtualService (`explain --config` shows it)\n");
}

static void print_text(const struct question *question, const struct answer *answer)
{
	char address[SLUICE_PREFIX_TEXT];

	printf("%s port %u/%s", question->host, question->port, protocol_name(question->protocol));
	if (answer->place.known && !question->is_address)
		printf(" at %s", format_cidr(address, answer->place.addr, answer->place.bits));
	else if (!answer->place.known)
		printf(", address not known%s: judged by name", answer->offline ? " offline" : "");
	printf(", for %s\n", answer->workload[0] ? answer->workload : "the node's default");
	print_decision("kernel", answer, &answer->kernel);
	if (answer->redirected)
		print_redirected(answer);
	printf("rules       %s, hostCheck %s, enforcement %s: %s\n", mode_name(answer->rules),
	       verdict_host_check_name(answer->rules->host_check), answer->rules->audit ? "audit" : "enforce",
	       answer->rules->origin);
	printf("%s\n", lets_through(answer) ? "=> let through" : "=> denied");
}

static struct json_object *decision_json(const struct answer *answer, const struct decision *decision)
{
	struct json_object *out = json_object_new_object();

	json_object_object_add(out, "verdict", json_object_new_string(verdict_name(decision->verdict)));
	json_object_object_add(out, "reason", json_object_new_string(verdict_reason_name(decision->reason)));
	if (decision->would_be)
		json_object_object_add(out, "would_be", json_object_new_string(verdict_name(decision->would_be)));
	json_object_object_add(out, "by", json_object_new_string(decider(answer, decision)));
	return out;
}

static void add_text(struct json_object *object, const char *name, const char *text)
{
	json_object_object_add(object, name, json_object_new_string(text));
}

static struct json_object *answer_json(const struct question *question, const struct answer *answer)
{
	const struct named *service = answer->by_name.id ? &answer->by_name : &answer->by_address;
	struct json_object *out = json_object_new_object();
	char text[512];

	add_text(out, "host", question->host);
	json_object_object_add(out, "port", json_object_new_int(question->port));
	add_text(out, "protocol", protocol_name(question->protocol));
	if (answer->place.known)
		add_text(out, "address", format_cidr(text, answer->place.addr, answer->place.bits));
	add_text(out, "workload", answer->workload);
	json_object_object_add(out, "allowed", json_object_new_boolean(lets_through(answer)));
	json_object_object_add(out, "kernel", decision_json(answer, &answer->kernel));
	if (answer->redirected)
		json_object_object_add(out, reader(answer), decision_json(answer, &answer->redirector));
	if (service->id)
		add_text(out, "service", service->host);
	route_text(text, sizeof(text), answer);
	if (text[0])
		add_text(out, "route", text);
	add_text(out, "mode", mode_name(answer->rules));
	add_text(out, "hostCheck", verdict_host_check_name(answer->rules->host_check));
	add_text(out, "enforcement", answer->rules->audit ? "audit" : "enforce");
	add_text(out, "mode_by", answer->rules->origin);
	return out;
}

static void print_json(struct json_object *object)
{
	puts(json_object_to_json_string_ext(object, JSON_C_TO_STRING_PRETTY | JSON_C_TO_STRING_NOSLASHESCAPE));
	json_object_put(object);
}

/* There are no rules to ask. Returns the exit status. */
static int print_flat(bool json, bool allowed, const char *why)
{
	struct json_object *out;

	if (!json) {
		printf("%s\n%s\n", why, allowed ? "=> let through" : "=> denied");
		return !allowed;
	}
	out = json_object_new_object();
	json_object_object_add(out, "allowed", json_object_new_boolean(allowed));
	add_text(out, "why", why);
	print_json(out);
	return !allowed;
}

static int print_answer(struct source *source, const struct question *question, struct answer *answer, bool json)
{
	judge(source, question, answer);
	if (json)
		print_json(answer_json(question, answer));
	else
		print_text(question, answer);
	return lets_through(answer) ? 0 : 1;
}

/* ---- the command ---- */

/* The request that is asked about, as it would be sent. */
static bool make_request(struct http_head *out, struct arena *arena, const struct question *question, const char *method,
			 const struct string_list *headers)
{
	char *text = arena_printf(arena, "%s %s HTTP/1.1\r\nHost: %s\r\n", method, question->path, question->authority);
	const char *why = "";

	for (size_t i = 0; i < headers->count; i++)
		text = arena_printf(arena, "%s%s\r\n", text, headers->items[i]);
	text = arena_printf(arena, "%s\r\n", text);
	if (http_parse_request(out, text, strlen(text), &why) != HTTP_OK) {
		fprintf(stderr, "sluice: not a request that could be sent: %s\n", why);
		return false;
	}
	out->path.n = http_normalize_path((char *)out->path.p, out->path.n);
	return true;
}

static int explain_offline(const char *folder, const char *root_namespace, const struct who *who,
			   const struct question *question, const struct http_head *request, bool json)
{
	struct config *config = config_new();
	struct config_source files = {0};
	uint8_t resolvers[MAX_RESOLVERS][16];
	struct policy_options options = {.root_namespace = root_namespace, .resolvers = (const uint8_t (*)[16])resolvers};
	struct workload_identity identity = {who->namespace_, "", who->labels.items, who->labels.count};
	struct policy *policy = NULL;
	struct answer answer = {.offline = true, .who = identity, .request = request};
	int status = 2;

	names_resolvers(RESOLV_CONF, resolvers, MAX_RESOLVERS, &options.resolver_count); /* `run` admits those of this host */
	if (!config_load(config, &files, &folder, 1, root_namespace) && !config->error_count)
		policy = policy_compile(config, &options);
	if (policy) {
		struct image_tables tables;
		struct source source;
		struct image *image;

		policy_rule_set(policy, &identity, &answer.rules);
		image = policy_image_build(policy, stand_in_lookup, NULL, policy, NULL);
		image_tables_init(&tables, image);
		source_offline(&source, policy, &tables.tables);
		snprintf(answer.workload, sizeof(answer.workload), "%s%s", who->namespace_[0] ? "namespace " : "", who->namespace_);
		status = print_answer(&source, question, &answer, json);
		image_free(image);
	} else {
		for (size_t i = 0; i < config->problem_count; i++)
			if (config->problems[i].severity == SEVERITY_ERROR)
				config_problem_print(stderr, &config->problems[i]);
		fprintf(stderr, "sluice: %s: not a configuration that would be applied\n", folder);
	}
	policy_free(policy);
	config_source_free(&files);
	config_free(config);
	return status;
}

static int explain_live(const char *pin, const struct who *who, const struct question *question, bool json)
{
	struct source source;
	struct pins *pins;
	uint32_t workload = 0, rule_set = 0, node_default = 0;
	struct answer answer = {0};
	struct rule_set rules;
	char why[512];
	int error, status;

	if (pins_open(&pins, pin, why, sizeof(why))) {
		fprintf(stderr, "sluice: %s; use --config DIR to ask the files\n", why);
		return 2;
	}
	error = find_workload(pins, who, &workload, answer.workload);
	if (error) {
		pins_close(pins);
		return error == -ENODATA ? print_flat(json, true, "not governed") : 2;
	}
	source_live(&source, pins);
	if (pins_lookup(pins, PIN_ASSIGNMENTS, &workload, &rule_set))
		pins_lookup(pins, PIN_ASSIGNMENTS, &node_default, &rule_set);
	if (pins_lookup(pins, PIN_RULE_SETS, &rule_set, &rules)) {
		status = print_flat(json, false, "no generation is in force: governed traffic is denied");
	} else {
		answer.rules = &rules;
		status = print_answer(&source, question, &answer, json);
	}
	pins_close(pins);
	return status;
}

int command_explain(int argc, char **argv)
{
	static const struct option options[] = {
		{"config", required_argument, NULL, 'c'}, {"namespace", required_argument, NULL, 'n'},
		{"label", required_argument, NULL, 'l'},  {"root-namespace", required_argument, NULL, 'r'},
		{"pin", required_argument, NULL, 'p'},	  {"output", required_argument, NULL, 'o'},
		{"help", no_argument, NULL, 'h'},	  {0},
	};
	const char *config = NULL, *pin = DEFAULT_PIN, *root_namespace = DEFAULT_ROOT_NAMESPACE;
	struct arena *arena = arena_new();
	struct who who = {.namespace_ = ""};
	struct question question;
	struct string_list headers = {0};
	const char *method = "GET";
	struct http_head request;
	bool json = false;
	int option, status = 2;

	while ((option = getopt_long(argc, argv, "o:X:H:h", options, NULL)) != -1) {
		struct label label;

		if (option == 'c')
			config = optarg;
		else if (option == 'n')
			who.namespace_ = optarg;
		else if (option == 'l' && !parse_label(&label, arena, optarg))
			*arena_append(arena, who.labels.items, who.labels.count, who.labels.capacity) = label;
		else if (option == 'r')
			root_namespace = optarg;
		else if (option == 'p')
			pin = optarg;
		else if (option == 'X')
			method = optarg;
		else if (option == 'H')
			*arena_append(arena, headers.items, headers.count, headers.capacity) = optarg;
		else if (option != 'o' || parse_output(&json, optarg)) {
			fputs(usage, option == 'h' ? stdout : stderr);
			arena_free(arena);
			return option == 'h' ? 0 : 2;
		}
	}
	if (argc - optind == 2 && !config)
		who.process = argv[optind++];
	if (argc - optind != 1 || question_parse(&question, argv[optind]))
		fputs(usage, stderr);
	else if (config && make_request(&request, arena, &question, method, &headers))
		status = explain_offline(config, root_namespace, &who, &question, &request, json);
	else if (config)
		status = 2;
	else
		status = explain_live(pin, &who, &question, json);
	arena_free(arena);
	return status;
}
