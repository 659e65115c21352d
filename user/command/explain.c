// SPDX-License-Identifier: Apache-2.0
/*
 * sluice explain: what would happen to a connection, and which line decides. The verdict is include/verdict.h's, over the
 * compiled policy (--config) or over the pinned maps of this node.
 */
#include <ctype.h>
#include <errno.h>
#include <getopt.h>
#include <json-c/json.h>
#include <linux/limits.h>
#include <stdio.h>
#include <string.h>

#include "base/memory.h"
#include "command/command.h"
#include "command/flow_print.h"
#include "config/config.h"
#include "kernel/pins.h"
#include "policy/policy.h"
#include "workload/cgroup.h"

static const char usage[] =
	"Usage: sluice explain [--config DIR] [--namespace NS] [--label K=V]... [-o json] HOST[:PORT] | URL\n"
	"       sluice explain [-o json] PID|CGROUP HOST[:PORT] | URL\n"
	"\n"
	"Says what happens to a connection and which line decides: offline by the files of --config, else by the\n"
	"live tables, for the workload with these labels, of that process or cgroup, or for the node's default.\n"
	"HOST may be an address. The port is 80, for https:// 443. udp://HOST:PORT asks about a datagram.\n"
	"Exit status: 0 let through, 1 denied, 2 usage.\n";

struct question {
	char host[SLUICE_HOST_MAX];
	uint16_t port;
	uint8_t protocol;
	bool is_address, is_tls;
	uint8_t addr[16];
};

/* A service as both sources can tell of it. */
struct named {
	uint32_t id;
	uint32_t flags;
	char host[SLUICE_HOST_MAX];
	char origin[SLUICE_ORIGIN_TEXT];
	const struct service *service; /* offline only: routes and faults */
};

struct answer {
	const struct rule_set *rules;
	struct decision kernel;
	bool address_known;
	uint8_t addr[16];
	bool redirected;
	struct decision redirector;
	struct named by_address, by_name;
	char workload[SLUICE_NAME_TEXT];
};

/* Where the rules come from. */
struct source {
	const struct tables *tables;
	bool (*describe)(struct source *source, uint32_t id, struct named *out);
	bool (*find)(struct source *source, uint32_t registry, const struct question *question, bool http, struct named *out);
	/* An address clients may dial the host at. */
	bool (*address)(struct source *source, const struct question *question, uint8_t out[16]);
	struct policy *policy;
	struct image *image;
	struct pins *pins;
};

/* ---- the question ---- */

static int parse_question(struct question *out, const char *text)
{
	static const struct {
		const char *scheme;
		uint16_t port;
		uint8_t protocol;
		bool tls;
	} schemes[] = {{"http://", 80, SLUICE_TCP, false}, {"https://", 443, SLUICE_TCP, true}, {"tcp://", 0, SLUICE_TCP, false},
		       {"udp://", 0, SLUICE_UDP, false}};
	char *colon;
	size_t n;

	*out = (struct question){.port = 80, .protocol = SLUICE_TCP};
	for (size_t i = 0; i < ARRAY_SIZE(schemes); i++) {
		if (strncmp(text, schemes[i].scheme, strlen(schemes[i].scheme)))
			continue;
		text += strlen(schemes[i].scheme);
		out->port = schemes[i].port;
		out->protocol = schemes[i].protocol;
		out->is_tls = schemes[i].tls;
	}
	n = strcspn(text, "/?#");
	if (!n || n >= sizeof(out->host))
		return -EINVAL;
	memcpy(out->host, text, n);
	if (!parse_address(out->addr, out->host)) {
		out->is_address = true;
		return out->port ? 0 : -EINVAL;
	}
	if (out->host[0] == '[') {
		char *end = strchr(out->host, ']');

		if (!end || (end[1] && end[1] != ':') || (end[1] && parse_port(&out->port, end + 2)))
			return -EINVAL;
		*end = 0;
		memmove(out->host, out->host + 1, strlen(out->host));
		out->is_address = true;
		return out->port ? parse_address(out->addr, out->host) : -EINVAL;
	}
	colon = strchr(out->host, ':');
	if (colon && parse_port(&out->port, colon + 1))
		return -EINVAL;
	if (colon)
		*colon = 0;
	if (out->port == 443)
		out->is_tls = true;
	out->is_address = !parse_address(out->addr, out->host);
	for (char *c = out->host; *c; c++)
		*c = (char)tolower((unsigned char)*c);
	return out->port && out->host[0] ? 0 : -EINVAL;
}

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

static bool policy_address(struct source *source, const struct question *question, uint8_t out[16])
{
	for (size_t i = 0; i < source->image->service_count; i++) {
		const struct service_item *item = &source->image->services[i];
		const struct service *service = policy_service(source->policy, item->value.service);

		if (item->key.kind != KIND_SERVICE || item->key.prefixlen != SERVICE_KEY_FIXED_BITS + 128 || !service ||
		    strcmp(service->host, question->host))
			continue;
		memcpy(out, item->key.addr, 16);
		return true;
	}
	return false;
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
	if (entry->port != search->question->port || !(entry->flags & (search->http ? SERVICE_HTTP : SERVICE_TLS)))
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
	struct search search = {question, http, out, 0};

	(void)registry;
	out->id = 0;
	pins_each(source->pins, PIN_CATALOG, consider, &search);
	return out->id != 0;
}

struct address_search {
	struct source *source;
	const struct question *question;
	uint8_t *out;
	bool found;
};

static void consider_address(void *context, const void *key, const void *value)
{
	struct address_search *search = context;
	const struct service_key *where = key;
	const struct service_value *service = value;
	struct named named;

	if (search->found || where->kind != KIND_SERVICE || where->prefixlen != SERVICE_KEY_FIXED_BITS + 128 ||
	    !pins_describe(search->source, service->service, &named) || strcmp(named.host, search->question->host))
		return;
	memcpy(search->out, where->addr, 16);
	search->found = true;
}

static bool pins_address(struct source *source, const struct question *question, uint8_t out[16])
{
	struct address_search search = {source, question, out, false};

	pins_each(source->pins, PIN_SERVICES, consider_address, &search);
	return search.found;
}

/* ---- judging ---- */

/* An address nobody registers stands for the one a client would find for a name we know no address of. */
static const uint8_t unknown_address[16] = {0x20, 0x01, 0x0d, 0xb8, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff};

static void judge(struct source *source, const struct question *question, struct answer *out)
{
	struct flow flow = {.port = question->port, .protocol = question->protocol};
	bool http;

	memcpy(out->addr, unknown_address, 16);
	out->address_known = question->is_address;
	if (question->is_address)
		memcpy(out->addr, question->addr, 16);
	else
		out->address_known = source->address(source, question, out->addr);
	memcpy(flow.addr, out->addr, 16);
	out->kernel = verdict_judge(source->tables, out->rules, &flow);
	if (out->kernel.service)
		source->describe(source, out->kernel.service, &out->by_address);
	if (out->kernel.verdict != VERDICT_REDIRECT)
		return;
	out->redirected = true;
	if ((out->kernel.service_flags & (SERVICE_TCP | SERVICE_HTTP | SERVICE_TLS)) == SERVICE_TCP) {
		out->redirector = decide(VERDICT_ALLOW, REASON_SERVICE, out->kernel.service);
		return;
	}
	http = !question->is_tls;
	source->find(source, out->rules->registry, question, http, &out->by_name);
	out->redirector = verdict_named(out->rules, http ? SHOWN_HOST : question->is_address ? SHOWN_NOTHING : SHOWN_SNI,
					out->by_name.id, out->kernel.service_flags);
}

static bool lets_through(const struct answer *answer)
{
	return (answer->redirected ? answer->redirector : answer->kernel).verdict != VERDICT_DENY;
}

/* ---- printing ---- */

static const char *decider(const struct answer *answer, const struct decision *decision)
{
	switch (decision->reason) {
	case REASON_SERVICE:
	case REASON_SERVICE_TLS:
		return answer->by_address.id ? answer->by_address.origin : answer->rules->origin;
	case REASON_NAME_ALLOWED:
		return answer->by_name.origin;
	case REASON_LOOPBACK:
		return "loopback is never intercepted";
	default:
		return answer->rules->origin;
	}
}

static void route_text(char *out, size_t room, const struct service *service)
{
	const struct http_route *route = service ? service->route : NULL;
	size_t n = 0;

	out[0] = 0;
	if (!route)
		return;
	n += (size_t)snprintf(out + n, room - n, "to %s", route->destination.host);
	if (route->delay.present && n < room)
		n += (size_t)snprintf(out + n, room - n, ", delay %llu ms for %g %%", (unsigned long long)route->delay.fixed_ms,
				      route->delay.percent);
	if (route->abort.present && n < room)
		n += (size_t)snprintf(out + n, room - n, ", abort %u for %g %%", route->abort.http_status, route->abort.percent);
	if (n < room)
		snprintf(out + n, room - n, " (%s:%u VirtualService/%s)", route->at.file, route->at.line,
			 service->virtual_service->object.name);
}

static void print_text(const struct question *question, const struct answer *answer)
{
	char address[SLUICE_PREFIX_TEXT], route[512];

	printf("%s port %u/%s", question->host, question->port, protocol_name(question->protocol));
	if (answer->address_known && !question->is_address)
		printf(" at %s", format_address(address, answer->addr));
	else if (!answer->address_known)
		printf(", address not known: judged by name");
	printf(", for %s\n", answer->workload[0] ? answer->workload : "the node's default");
	printf("kernel      %s, %s: %s\n", verdict_name(answer->kernel.verdict), verdict_reason_name(answer->kernel.reason),
	       decider(answer, &answer->kernel));
	if (answer->kernel.would_be)
		printf("            audit: would be %s\n", verdict_name(answer->kernel.would_be));
	if (answer->redirected) {
		printf("redirector  %s, %s: %s\n", verdict_name(answer->redirector.verdict),
		       verdict_reason_name(answer->redirector.reason), decider(answer, &answer->redirector));
		if (answer->redirector.would_be)
			printf("            audit: would be %s\n", verdict_name(answer->redirector.would_be));
		route_text(route, sizeof(route), answer->by_name.service);
		if (route[0])
			printf("route       %s\n", route);
		else if (answer->by_name.flags & SERVICE_ROUTED)
			printf("route       by a VirtualService (`explain --config` shows it)\n");
	}
	printf("rules       %s, hostCheck %s, enforcement %s: %s\n",
	       answer->rules->mode == MODE_REGISTRY_ONLY ? "REGISTRY_ONLY" : "ALLOW_ANY",
	       answer->rules->host_check == HOST_CHECK_OFF ? "off" : "proxy", answer->rules->audit ? "audit" : "enforce",
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

static void print_json(const struct question *question, const struct answer *answer)
{
	struct json_object *out = json_object_new_object();
	char route[512];

	json_object_object_add(out, "host", json_object_new_string(question->host));
	json_object_object_add(out, "port", json_object_new_int(question->port));
	json_object_object_add(out, "allowed", json_object_new_boolean(lets_through(answer)));
	json_object_object_add(out, "kernel", decision_json(answer, &answer->kernel));
	if (answer->redirected)
		json_object_object_add(out, "redirector", decision_json(answer, &answer->redirector));
	route_text(route, sizeof(route), answer->by_name.service);
	if (route[0])
		json_object_object_add(out, "route", json_object_new_string(route));
	json_object_object_add(out, "mode", json_object_new_string(answer->rules->mode == MODE_REGISTRY_ONLY ? "REGISTRY_ONLY" : "ALLOW_ANY"));
	json_object_object_add(out, "mode_by", json_object_new_string(answer->rules->origin));
	puts(json_object_to_json_string_ext(out, JSON_C_TO_STRING_PRETTY | JSON_C_TO_STRING_NOSLASHESCAPE));
	json_object_put(out);
}

static int print_answer(struct source *source, const struct question *question, struct answer *answer, bool json)
{
	judge(source, question, answer);
	if (json)
		print_json(question, answer);
	else
		print_text(question, answer);
	return lets_through(answer) ? 0 : 1;
}

/* ---- the workload ---- */

struct who {
	const char *namespace_;
	struct label_list labels;
	const char *process; /* PID or cgroup, or NULL */
};

static int explain_offline(const char *folder, const char *root_namespace, const struct who *who,
			   const struct question *question, bool json)
{
	struct config *config = config_new();
	struct config_source files = {0};
	struct policy_options options = {.root_namespace = root_namespace};
	struct workload_identity identity = {who->namespace_, "", who->labels.items, who->labels.count};
	struct policy *policy = NULL;
	struct answer answer = {0};
	int status = 2;

	if (!config_load(config, &files, &folder, 1, root_namespace) && !config->error_count)
		policy = policy_compile(config, &options);
	if (policy) {
		struct image_tables tables;
		struct source source = {.describe = policy_describe, .find = policy_find_named, .address = policy_address,
					.policy = policy};

		policy_rule_set(policy, &identity, &answer.rules);
		source.image = policy_image_build(policy, NULL, NULL);
		image_tables_init(&tables, source.image);
		source.tables = &tables.tables;
		snprintf(answer.workload, sizeof(answer.workload), "%s%s", who->namespace_[0] ? "namespace " : "", who->namespace_);
		status = print_answer(&source, question, &answer, json);
		image_free(source.image);
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

/* The deepest registered ancestor of a cgroup, as the kernel finds it. */
static bool workload_of_cgroup(const struct pins *pins, const char *cgroup, uint32_t *workload, char name[SLUICE_NAME_TEXT])
{
	char mount[PATH_MAX], path[PATH_MAX];
	struct cgroup_value value;

	if (cgroup_mount_point(mount))
		return false;
	if (!strncmp(cgroup, mount, strlen(mount)))
		cgroup += strlen(mount);
	if (snprintf(path, sizeof(path), "%s%s%s", mount, cgroup[0] == '/' ? "" : "/", cgroup) >= (int)sizeof(path))
		return false;
	while (strlen(path) > strlen(mount)) {
		uint64_t id;

		if (!cgroup_id_of(path, &id) && !pins_lookup(pins, PIN_CGROUPS, &id, &value)) {
			*workload = value.workload;
			memcpy(name, value.name, SLUICE_NAME_TEXT);
			return true;
		}
		*strrchr(path, '/') = 0;
	}
	return false;
}

struct workload_search {
	const struct who *who;
	uint32_t workload;
	char *name;
};

static void consider_workload(void *context, const void *key, const void *value)
{
	struct workload_search *search = context;
	const struct workload_value *workload = value;
	const char *slash = strchr(workload->name, '/');
	char padded[SLUICE_ORIGIN_TEXT + 2];

	if (search->workload || !slash || strncmp(workload->name, search->who->namespace_, (size_t)(slash - workload->name)) ||
	    search->who->namespace_[slash - workload->name])
		return;
	snprintf(padded, sizeof(padded), ",%s,", workload->labels);
	for (size_t i = 0; i < search->who->labels.count; i++) {
		char wanted[512];

		snprintf(wanted, sizeof(wanted), ",%s=%s,", search->who->labels.items[i].key, search->who->labels.items[i].value);
		if (!strstr(padded, wanted))
			return;
	}
	memcpy(&search->workload, key, sizeof(search->workload));
	memcpy(search->name, workload->name, SLUICE_NAME_TEXT);
}

static int find_workload(const struct pins *pins, const struct who *who, uint32_t *workload, char name[SLUICE_NAME_TEXT])
{
	struct workload_search search = {who, 0, name};
	char cgroup[PATH_MAX];

	if (who->process) {
		char *end;
		long pid = strtol(who->process, &end, 10);

		snprintf(cgroup, sizeof(cgroup), "%s", who->process);
		if (!*end && cgroup_of_process((pid_t)pid, cgroup)) {
			fprintf(stderr, "sluice: %s: no such process\n", who->process);
			return -ESRCH;
		}
		if (workload_of_cgroup(pins, cgroup, workload, name))
			return 0;
		printf("%s is not governed\n=> let through\n", who->process);
		return -ENOENT;
	}
	if (who->namespace_[0] || who->labels.count)
		pins_each(pins, PIN_WORKLOADS, consider_workload, &search);
	*workload = search.workload;
	return 0;
}

static int explain_live(const char *pin, const struct who *who, const struct question *question, bool json)
{
	struct source source = {.describe = pins_describe, .find = pins_find_named, .address = pins_address};
	uint32_t workload = 0, rule_set = 0, node_default = 0;
	struct answer answer = {0};
	struct rule_set rules;
	char why[512];
	int error, status;

	if (pins_open(&source.pins, pin, why, sizeof(why))) {
		fprintf(stderr, "sluice: %s; use --config DIR to ask the files\n", why);
		return 2;
	}
	error = find_workload(source.pins, who, &workload, answer.workload);
	if (error) {
		pins_close(source.pins);
		return error == -ENOENT ? 0 : 2;
	}
	source.tables = pins_tables(source.pins);
	if (pins_lookup(source.pins, PIN_ASSIGNMENTS, &workload, &rule_set))
		pins_lookup(source.pins, PIN_ASSIGNMENTS, &node_default, &rule_set);
	if (pins_lookup(source.pins, PIN_RULE_SETS, &rule_set, &rules)) {
		printf("no generation is in force: governed traffic is denied\n=> denied\n");
		status = 1;
	} else {
		answer.rules = &rules;
		status = print_answer(&source, question, &answer, json);
	}
	pins_close(source.pins);
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
	bool json = false;
	int option, status = 2;

	while ((option = getopt_long(argc, argv, "o:h", options, NULL)) != -1) {
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
		else if (option != 'o' || parse_output(&json, optarg)) {
			fputs(usage, option == 'h' ? stdout : stderr);
			arena_free(arena);
			return option == 'h' ? 0 : 2;
		}
	}
	if (argc - optind == 2 && !config)
		who.process = argv[optind++];
	if (argc - optind != 1 || parse_question(&question, argv[optind]))
		fputs(usage, stderr);
	else if (config)
		status = explain_offline(config, root_namespace, &who, &question, json);
	else
		status = explain_live(pin, &who, &question, json);
	arena_free(arena);
	return status;
}
