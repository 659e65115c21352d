// SPDX-License-Identifier: Apache-2.0
/* sluice dump: the live tables, for people or as JSON; the same content as bpftool shows. */
#include <getopt.h>
#include <json-c/json.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/memory.h"
#include "command/command.h"
#include "command/flow_print.h"

static const char usage[] =
	"Usage: sluice dump intercept|bypass|services|workloads|rulesets|flows [-o json] [--pin DIR]\n"
	"\n"
	"Prints one of the live tables, also while the daemon is down. -o json: an array, of flows a line for each.\n";

#define MAX_COLUMNS 8

/* Rows of text; the JSON keys are the column names. */
struct table {
	const char *const *columns;
	size_t column_count;
	char **cells;
	size_t cell_count, cell_capacity;
};

static void cell(struct table *table, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void cell(struct table *table, const char *format, ...)
{
	char text[1024], safe[1024];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	*array_append(table->cells, table->cell_count, table->cell_capacity) = xstrdup(printable(safe, sizeof(safe), text));
}

static void print_json(const struct table *table)
{
	struct json_object *rows = json_object_new_array();

	for (size_t i = 0; i < table->cell_count; i += table->column_count) {
		struct json_object *row = json_object_new_object();

		for (size_t k = 0; k < table->column_count; k++)
			json_object_object_add(row, table->columns[k], json_object_new_string(table->cells[i + k]));
		json_object_array_add(rows, row);
	}
	puts(json_object_to_json_string_ext(rows, JSON_C_TO_STRING_PRETTY | JSON_C_TO_STRING_NOSLASHESCAPE));
	json_object_put(rows);
}

static void print_row(const struct table *table, const char *const *cells, const size_t *widths)
{
	for (size_t k = 0; k + 1 < table->column_count; k++)
		printf("%-*s  ", (int)widths[k], cells[k]);
	puts(cells[table->column_count - 1]);
}

static void print_text(const struct table *table)
{
	size_t widths[MAX_COLUMNS] = {0};

	for (size_t k = 0; k < table->column_count; k++) {
		widths[k] = strlen(table->columns[k]);
		for (size_t i = k; i < table->cell_count; i += table->column_count)
			if (strlen(table->cells[i]) > widths[k])
				widths[k] = strlen(table->cells[i]);
	}
	print_row(table, table->columns, widths);
	for (size_t i = 0; i < table->cell_count; i += table->column_count)
		print_row(table, (const char *const *)table->cells + i, widths);
}

static void print_table(struct table *table, bool json)
{
	if (json)
		print_json(table);
	else
		print_text(table);
	for (size_t i = 0; i < table->cell_count; i++)
		free(table->cells[i]);
	free(table->cells);
}

/* ---- rows ---- */

static void add_cidr(void *context, const void *key, const void *value)
{
	const struct cidr_key *cidr = key;
	const struct cidr_value *text = value;

	cell(context, "%s", text->prefix);
	cell(context, "%u", cidr->interception);
}

static void flags_text(char out[96], __u32 flags)
{
	static const char *const names[] = {"http", "tls", "routed", "rewrites", "none", "wildcard", "tcp", "detected", "dynamic", "unix"};
	size_t n = 0;

	out[0] = 0;
	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		if (flags & 1u << i)
			n += (size_t)snprintf(out + n, 96 - n, "%s%s", n ? "," : "", names[i]);
}

static void add_service(void *context, const void *key, const void *value)
{
	static const char *const kinds[] = {"service", "upstream", "resolver", "former"};
	const struct service_key *where = key;
	const struct service_value *what = value;
	char flags[96];

	flags_text(flags, what->flags);
	cell(context, "%s", what->prefix);
	cell(context, "%u", where->port);
	cell(context, "%s", protocol_name(where->protocol));
	cell(context, "%s", where->kind < ARRAY_SIZE(kinds) ? kinds[where->kind] : "?");
	cell(context, "%s", what->host);
	cell(context, "%s", flags);
}

/* What has no address of its own: the names below a wildcard have, once they are asked for, and Unix sockets have none. */
static void add_unaddressed(void *context, const void *key, const void *value)
{
	const struct catalog_value *what = value;
	char flags[96];

	(void)key;
	if (!(what->flags & (SERVICE_DYNAMIC | SERVICE_UNIX)))
		return;
	flags_text(flags, what->flags);
	cell(context, what->flags & SERVICE_UNIX ? "a Unix socket" : "resolved when asked for");
	cell(context, "%u", what->port);
	cell(context, "%s", protocol_name(what->protocol));
	cell(context, what->flags & SERVICE_UNIX ? "upstream" : "service");
	cell(context, "%s", what->host);
	cell(context, "%s", flags);
}

struct workload_rows {
	struct table *table;
	const struct pins *pins;
};

static void add_workload_row(const struct workload_rows *rows, __u32 id, const struct workload_value *who)
{
	struct rule_set rules = {.origin = "?"};
	__u32 rule_set = 0, node_default = 0;

	if (pins_lookup(rows->pins, PIN_ASSIGNMENTS, &id, &rule_set))
		pins_lookup(rows->pins, PIN_ASSIGNMENTS, &node_default, &rule_set);
	pins_lookup(rows->pins, PIN_RULE_SETS, &rule_set, &rules);
	cell(rows->table, "%u", id);
	cell(rows->table, "%s", who->name);
	cell(rows->table, "%s", who->labels);
	cell(rows->table, "%s", who->cgroup);
	cell(rows->table, "%s", verdict_mode_name(rules.mode));
	cell(rows->table, "%s", rules.origin);
}

static void add_workload(void *context, const void *key, const void *value)
{
	__u32 id;

	memcpy(&id, key, sizeof(id));
	add_workload_row(context, id, value);
}

static void add_rule_set(void *context, const void *key, const void *value)
{
	const struct rule_set *rules = value;
	__u32 id;

	memcpy(&id, key, sizeof(id));
	cell(context, "%u", id);
	cell(context, "%s", verdict_mode_name(rules->mode));
	cell(context, "%s", rules->audit ? "audit" : "enforce");
	cell(context, "%s", verdict_host_check_name(rules->host_check));
	cell(context, "%s", rules->dns_allow == DNS_ANY ? "any" : rules->dns_allow == DNS_NONE ? "none" : "resolvers");
	cell(context, "%u", rules->interception);
	cell(context, "%s", rules->origin);
}

struct flow_rows {
	const struct pins *pins;
	bool json;
};

static void print_flow(void *context, const struct flow_event *event)
{
	const struct flow_rows *rows = context;

	flow_print(rows->pins, event, rows->json);
}

static int dump_flows(struct pins *pins, bool json)
{
	struct flow_rows rows = {pins, json};
	const struct flow_event *ring;
	const __u64 *head;
	__u64 next = 1;

	if (pins_map_flows(pins, &ring, &head)) {
		perror("sluice: flows");
		return 1;
	}
	flows_read(ring, head, &next, print_flow, &rows);
	return 0;
}

static void fill_intercept(struct table *table, const struct pins *pins)
{
	pins_each(pins, PIN_INTERCEPT, add_cidr, table);
}

static void fill_bypass(struct table *table, const struct pins *pins)
{
	pins_each(pins, PIN_BYPASS, add_cidr, table);
}

static void fill_services(struct table *table, const struct pins *pins)
{
	pins_each(pins, PIN_SERVICES, add_service, table);
	pins_each(pins, PIN_CATALOG, add_unaddressed, table);
}

static void fill_workloads(struct table *table, const struct pins *pins)
{
	struct workload_rows rows = {table, pins};
	struct workload_value node_default = {.name = "(default)"};

	add_workload_row(&rows, 0, &node_default);
	pins_each(pins, PIN_WORKLOADS, add_workload, &rows);
}

static void fill_rule_sets(struct table *table, const struct pins *pins)
{
	pins_each(pins, PIN_RULE_SETS, add_rule_set, table);
}

struct kind {
	const char *name;
	void (*fill)(struct table *table, const struct pins *pins); /* NULL: the flows, which are no table */
	size_t column_count;
	const char *columns[MAX_COLUMNS];
};

static const struct kind kinds[] = {
	{"intercept", fill_intercept, 2, {"cidr", "interception"}},
	{"bypass", fill_bypass, 2, {"cidr", "interception"}},
	{"services", fill_services, 6, {"address", "port", "protocol", "kind", "host", "flags"}},
	{"workloads", fill_workloads, 6, {"id", "name", "labels", "cgroup", "mode", "by"}},
	{"rulesets", fill_rule_sets, 7, {"id", "mode", "enforcement", "hostCheck", "dns", "interception", "by"}},
	{"flows", NULL, 0, {NULL}},
};

static const struct kind *kind_named(const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++)
		if (!strcmp(kinds[i].name, name))
			return &kinds[i];
	return NULL;
}

static int dump(const struct kind *kind, struct pins *pins, bool json)
{
	struct table table = {.columns = kind->columns, .column_count = kind->column_count};

	if (!kind->fill)
		return dump_flows(pins, json);
	kind->fill(&table, pins);
	print_table(&table, json);
	return 0;
}

int command_dump(int argc, char **argv)
{
	static const struct option options[] = {
		{"pin", required_argument, NULL, 'p'}, {"output", required_argument, NULL, 'o'}, {"help", no_argument, NULL, 'h'}, {0},
	};
	const char *pin = DEFAULT_PIN;
	bool json = false;
	char why[512];
	const struct kind *kind;
	int option, status;
	struct pins *pins;

	while ((option = getopt_long(argc, argv, "o:h", options, NULL)) != -1) {
		if (option == 'o') {
			if (take_output(&json, optarg))
				return EXIT_USAGE;
		} else if (option == 'p') {
			pin = optarg;
		} else {
			fputs(usage, option == 'h' ? stdout : stderr);
			return option == 'h' ? 0 : EXIT_USAGE;
		}
	}
	if (optind == argc) {
		fputs(usage, stderr);
		return EXIT_USAGE;
	}
	kind = kind_named(argv[optind]);
	if (!kind) {
		fprintf(stderr, "sluice: \"%s\" is not a table\n%s", argv[optind], usage);
		return EXIT_USAGE;
	}
	if (optind + 1 < argc)
		return refuse_arguments(argv + optind + 1);
	if (pins_open(&pins, pin, why, sizeof(why))) {
		fprintf(stderr, "sluice: %s\n", why);
		return 1;
	}
	status = dump(kind, pins, json);
	pins_close(pins);
	return status;
}
