// SPDX-License-Identifier: Apache-2.0
/*
 * sluice explain: what would happen to a connection or a request, and which lines decide. The verdict is include/verdict.h's,
 * over the compiled policy (--config) or over the pinned maps of this node; the routes are found as the redirector finds them.
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

static const char usage[] =
	"Usage: sluice explain --config DIR [--root-namespace NS] [--unix-endpoints DIR] [--namespace NS] [--workload NAME]\n"
	"                      [--label K=V]... [--address ADDR] [-X METHOD] [-H HEADER]... [-o json] HOST[:PORT] | URL\n"
	"       sluice explain [--pin DIR] [--namespace NS] [--workload NAME] [--label K=V]... [--address ADDR] [-o json]\n"
	"                      [PID|CGROUP] HOST[:PORT] | URL\n"
	"\n"
	"Says what happens to a connection or a request and which lines decide, and what else was there and lost:\n"
	"offline by the files of --config, else by the live tables, for the workload of that name or with these labels,\n"
	"of that process or cgroup, or for the node's default.\n"
	"HOST may be an address; ADDR is the one that the client dials for a name. The port is 80, for https:// 443.\n"
	"tcp://HOST:PORT speaks neither HTTP nor TLS, udp://HOST:PORT is a datagram.\n"
	"With --config the rule is named that takes a request of that method (GET), path (/) and these headers, and\n"
	"what it does.\n"
	"Exit status: 0 let through, 1 denied, 2 it cannot be told.\n";

/* ---- judging ---- */

static const char *settled_by(const struct answer *answer, enum setting setting)
{
	const struct settled *by = &answer->by[setting];

	return by->object ? arena_printf(answer->arena, "%s ", place_of_line(answer->arena, by->at, by->object)) : "";
}

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
		out->bypass = "loopback is never intercepted";
	else if (out->kernel.reason == REASON_EXCLUDED_PORT)
		out->bypass = arena_printf(out->arena, "%sexcludePorts has %u", settled_by(out, SETTING_EXCLUDE_PORTS), flow->port);
	else if (out->kernel.reason == REASON_NOT_INCLUDED)
		out->bypass = arena_printf(out->arena, "%sneither includeCIDRs nor includePorts has it", settled_by(out, SETTING_INCLUDE_CIDRS));
	else
		out->bypass = arena_printf(out->arena, "%sexcludeCIDRs has %s",
					   cidr ? arena_printf(out->arena, "%s ", place_of_line(out->arena, cidr->at, out->by[SETTING_EXCLUDE_CIDRS].object))
						: "", prefix ? prefix->prefix : "it");
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
static enum shown_name what_is_shown(struct source *source, const struct question *question, struct answer *out)
{
	struct flow flow = {.port = question->port, .protocol = SLUICE_TCP};
	__u32 port = verdict_port_flags(source->tables, out->rules, &flow);
	bool http = speaks_http(source, question, out);

	if (question->speaks == SPEAKS_NEITHER) {
		out->shown = "neither HTTP nor TLS";
		return SHOWN_NOTHING;
	}
	if (http && !out->rules->egress_proxy && !verdict_speaks_http(port, flow.port, out->kernel.service_flags)) {
		out->shown = "nothing: HTTP on a port that is not for it";
		return SHOWN_NOTHING;
	}
	out->is_http = http;
	out->shown = http ? "an HTTP Host" : question->is_address ? "TLS without a server name" : "a TLS server name";
	return http ? SHOWN_HOST : question->is_address ? SHOWN_NOTHING : SHOWN_SNI;
}

/* A TCP service that is dialled elsewhere: nobody waits for a name. */
static bool is_plain_tcp(const struct answer *answer)
{
	return (answer->kernel.service_flags & (SERVICE_TCP | SERVICE_HTTP | SERVICE_TLS)) == SERVICE_TCP;
}

/* The second half of a redirect, and of a name check in the kernel: the tables say the same. */
static void judge_redirected(struct source *source, const struct question *question, struct answer *out)
{
	enum shown_name shown;

	out->redirected = true;
	if (is_plain_tcp(out)) {
		out->redirector = decide(VERDICT_ALLOW, REASON_SERVICE, out->kernel.service);
		out->shown = "nothing: a TCP service";
		return;
	}
	shown = what_is_shown(source, question, out);
	out->is_named = shown != SHOWN_NOTHING;
	if (out->is_named)
		source->find(source, out->rules->registry, question, out->is_http, &out->by_name);
	out->redirector = verdict_named(out->rules, shown, out->by_name.id, out->kernel.service_flags);
}

/* Where the client connects to: as asked, as it says, or as the policy knows. */
static void find_place(struct source *source, const struct question *question, struct answer *out)
{
	out->place = (struct place){.bits = 128, .known = true};
	if (out->dialled)
		parse_address(out->place.addr, out->dialled);
	else if (question->is_address)
		memcpy(out->place.addr, question->addr, 16);
	else if (!source->place(source, question, &out->place)) {
		out->place.known = false;
		stand_in(out->place.addr, 0);
	}
}

static void judge(struct source *source, const struct question *question, struct answer *out)
{
	struct flow flow = {.port = question->port, .protocol = question->protocol};
	const struct named *service;

	if (source->policy)
		policy_settings_of(source->policy, &out->who, out->by, NULL);
	find_place(source, question, out);
	memcpy(flow.addr, out->place.addr, 16);
	out->kernel = verdict_judge(source->tables, out->rules, &flow);
	if (out->kernel.service)
		source->describe(source, out->kernel.service, &out->by_address);
	if (out->kernel.verdict == VERDICT_BYPASS)
		describe_bypass(source, &flow, out);
	if (out->kernel.verdict == VERDICT_REDIRECT || out->kernel.check_name)
		judge_redirected(source, question, out);
	service = answer_service(out);
	if (service)
		source->addresses(source, service, &out->addresses);
	if (source->policy)
		explain_route(source, question, out);
}

bool answer_lets_through(const struct answer *answer)
{
	return (answer->redirected ? answer->redirector : answer->kernel).verdict != VERDICT_DENY;
}

/* The one that the client named; else, as the redirector has it, one at the address that needs no name. */
const struct named *answer_service(const struct answer *answer)
{
	bool by_address = !answer->redirected || is_plain_tcp(answer) ||
			  (answer->by_address.flags & SERVICE_TCP && !answer->is_http);

	if (!answer_lets_through(answer))
		return NULL;
	return answer->by_name.id ? &answer->by_name : answer->by_address.id && by_address ? &answer->by_address : NULL;
}

static int answer_question(struct source *source, const struct question *question, struct answer *answer, bool json)
{
	judge(source, question, answer);
	if (json)
		print_json(question, answer);
	else
		print_text(question, answer);
	return answer_lets_through(answer) ? 0 : 1;
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
	json_object_object_add(out, "why", json_object_new_string(why));
	puts(json_object_to_json_string_ext(out, JSON_C_TO_STRING_PRETTY | JSON_C_TO_STRING_NOSLASHESCAPE));
	json_object_put(out);
	return !allowed;
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

/* What a Workload of the files says, with the labels that were given besides. False: there is none of that name. */
static bool take_workload(const struct config *config, const struct who *who, struct workload_identity *out)
{
	const char *namespace_ = who->namespace_ ? who->namespace_ : "default";

	*out = (struct workload_identity){who->namespace_ ? who->namespace_ : "", "", who->labels.items, who->labels.count};
	if (!who->name)
		return true;
	for (size_t i = 0; i < config->workload_count; i++) {
		const struct workload_document *one = config->workloads[i];

		if (strcmp(one->namespace_, namespace_) || strcmp(one->name, who->name))
			continue;
		*out = (struct workload_identity){one->namespace_, one->name, one->labels.items, one->labels.count};
		return true;
	}
	fprintf(stderr, "sluice: no document describes a Workload %s in namespace %s\n", who->name, namespace_);
	return false;
}

static int explain_policy(struct policy *policy, const struct config *config, const struct question *question, struct answer *answer,
			  bool json)
{
	struct image_tables tables;
	struct source source;
	struct image *image;
	int status;

	policy_rule_set(policy, &answer->who, &answer->rules);
	image = policy_image_build(policy, stand_in_lookup, NULL, policy, NULL);
	image_tables_init(&tables, image);
	source_offline(&source, policy, config, &tables.tables);
	if (answer->who.name[0])
		snprintf(answer->workload, sizeof(answer->workload), "%s/%s", answer->who.namespace_, answer->who.name);
	else if (answer->who.namespace_[0])
		snprintf(answer->workload, sizeof(answer->workload), "namespace %s", answer->who.namespace_);
	status = answer_question(&source, question, answer, json);
	image_free(image);
	return status;
}

struct arguments {
	const char *config, *pin, *root_namespace, *unix_directory, *method;
	struct who who;
	struct string_list headers;
	const char *address;
	bool json;
};

static int explain_offline(const struct arguments *arguments, const struct question *question, struct answer *answer)
{
	struct config *config = config_new();
	struct config_source files = {0};
	uint8_t resolvers[MAX_RESOLVERS][16];
	struct policy_options options = {.root_namespace = arguments->root_namespace, .resolvers = (const uint8_t (*)[16])resolvers};
	struct policy *policy = NULL;
	int status = 2;

	answer->offline = true;
	config->unix_directory = arguments->unix_directory;
	names_resolvers(RESOLV_CONF, resolvers, MAX_RESOLVERS, &options.resolver_count); /* `run` admits those of this host */
	if (!config_load(config, &files, &arguments->config, 1, arguments->root_namespace) && !config->error_count)
		policy = policy_compile(config, &options);
	if (policy && take_workload(config, &arguments->who, &answer->who)) {
		status = explain_policy(policy, config, question, answer, arguments->json);
	} else if (!policy) {
		for (size_t i = 0; i < config->problem_count; i++)
			if (config->problems[i].severity == SEVERITY_ERROR)
				config_problem_print(stderr, &config->problems[i]);
		fprintf(stderr, "sluice: %s: not a configuration that would be applied\n", arguments->config);
	}
	policy_free(policy);
	config_source_free(&files);
	config_free(config);
	return status;
}

static int explain_live(const char *pin, const struct who *who, const struct question *question, struct answer *answer, bool json)
{
	struct source source;
	struct pins *pins;
	uint32_t workload = 0, rule_set = 0, node_default = 0;
	struct rule_set *rules = arena_alloc(answer->arena, 1, sizeof(*rules));
	char why[512];
	int error, status;

	if (pins_open(&pins, pin, why, sizeof(why))) {
		fprintf(stderr, "sluice: %s; use --config DIR to ask the files\n", why);
		return 2;
	}
	error = find_workload(pins, who, &workload, answer->workload);
	if (error) {
		pins_close(pins);
		return error == -ENODATA ? print_flat(json, true, "not governed") : 2;
	}
	source_live(&source, pins);
	if (pins_lookup(pins, PIN_ASSIGNMENTS, &workload, &rule_set))
		pins_lookup(pins, PIN_ASSIGNMENTS, &node_default, &rule_set);
	if (pins_lookup(pins, PIN_RULE_SETS, &rule_set, rules)) {
		status = print_flat(json, false, "no generation is in force: governed traffic is denied");
	} else {
		answer->rules = rules;
		status = answer_question(&source, question, answer, json);
	}
	pins_close(pins);
	return status;
}

static int take_label(struct arguments *out, struct arena *arena, const char *text)
{
	struct label label;

	if (parse_label(&label, arena, text))
		return refuse_option("--label", text, "KEY=VALUE");
	*arena_append(arena, out->who.labels.items, out->who.labels.count, out->who.labels.capacity) = label;
	return 0;
}

static int take_address(struct arguments *out, const char *text)
{
	uint8_t address[16];

	if (parse_address(address, text))
		return refuse_option("--address", text, "an IP address");
	out->address = text;
	return 0;
}

/* 0, or EXIT_USAGE, of which the user was told. */
static int take_option(struct arguments *out, struct arena *arena, int option)
{
	switch (option) {
	case 'c':
		out->config = optarg;
		break;
	case 'n':
		out->who.namespace_ = *optarg ? optarg : NULL;
		break;
	case 'w':
		out->who.name = optarg;
		break;
	case 'l':
		return take_label(out, arena, optarg);
	case 'a':
		return take_address(out, optarg);
	case 'r':
		out->root_namespace = optarg;
		break;
	case 'u':
		return take_unix_directory(&out->unix_directory, optarg);
	case 'p':
		out->pin = optarg;
		break;
	case 'X':
		out->method = optarg;
		break;
	case 'H':
		if (!strchr(optarg, ':'))
			return refuse_option("-H", optarg, "NAME: VALUE");
		*arena_append(arena, out->headers.items, out->headers.count, out->headers.capacity) = optarg;
		break;
	case 'o':
		return take_output(&out->json, optarg);
	default:
		fputs(usage, stderr);
		return EXIT_USAGE;
	}
	return 0;
}

static int explain(struct arguments *arguments, struct arena *arena, const char *text)
{
	struct answer answer = {.arena = arena, .dialled = arguments->address, .addresses.arena = arena, .route.arena = arena, .lost.arena = arena};
	struct question question;
	struct http_head request;

	if (question_parse(&question, text)) {
		fprintf(stderr, "sluice: \"%s\" is neither HOST[:PORT] nor a URL of http, https, tcp or udp (these two with a port)\n", text);
		return 2;
	}
	if (!arguments->config && (arguments->method || arguments->headers.count)) {
		fputs("sluice: -X and -H are for --config DIR: the live tables have no rules for requests\n", stderr);
		return 2;
	}
	if (!arguments->config)
		return explain_live(arguments->pin, &arguments->who, &question, &answer, arguments->json);
	if (!make_request(&request, arena, &question, arguments->method ? arguments->method : "GET", &arguments->headers))
		return 2;
	answer.request = &request;
	return explain_offline(arguments, &question, &answer);
}

static int explain_arguments(struct arguments *arguments, struct arena *arena, char **words, int count)
{
	if (count == 2 && !arguments->config)
		arguments->who.process = *words;
	else if (count > 1)
		return refuse_arguments(words + 1);
	else if (!count)
		fputs(usage, stderr);
	return count ? explain(arguments, arena, words[count - 1]) : EXIT_USAGE;
}

int command_explain(int argc, char **argv)
{
	static const struct option options[] = {
		{"config", required_argument, NULL, 'c'},   {"namespace", required_argument, NULL, 'n'},
		{"workload", required_argument, NULL, 'w'}, {"label", required_argument, NULL, 'l'},
		{"address", required_argument, NULL, 'a'},  {"root-namespace", required_argument, NULL, 'r'},
		{"pin", required_argument, NULL, 'p'},	    {"output", required_argument, NULL, 'o'},
		{"unix-endpoints", required_argument, NULL, 'u'}, {"help", no_argument, NULL, 'h'}, {0},
	};
	struct arguments arguments = {.pin = DEFAULT_PIN, .root_namespace = DEFAULT_ROOT_NAMESPACE};
	struct arena *arena = arena_new();
	int option, status = 0;

	while (!status && (option = getopt_long(argc, argv, "o:X:H:h", options, NULL)) != -1) {
		if (option == 'h') {
			fputs(usage, stdout);
			arena_free(arena);
			return 0;
		}
		status = take_option(&arguments, arena, option);
	}
	if (!status)
		status = explain_arguments(&arguments, arena, argv + optind, argc - optind);
	arena_free(arena);
	return status;
}
