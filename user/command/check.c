// SPDX-License-Identifier: Apache-2.0
/* `sluice check`: would all of this be applied? */
#include <getopt.h>
#include <json-c/json.h>
#include <stdio.h>
#include <string.h>

#include "base/memory.h"
#include "command/command.h"
#include "policy/policy.h"

static const char usage[] =
	"Usage: sluice check FILE|DIR... [-o json|github] [--root-namespace NS] [--unix-endpoints DIR]\n"
	"\n"
	"Reports every problem of the given policy files as file:line:column. Needs no root.\n"
	"Exit status: 0 if all of it would be applied, 1 if not, 2 for a wrong command line.\n"
	"\n"
	"  -o, --output FORMAT      json: one object instead of lines; github: annotations of a workflow run\n"
	"      --root-namespace NS  where the node's default policy is (" DEFAULT_ROOT_NAMESPACE ")\n"
	"      --unix-endpoints DIR as `sluice run` is given it (none)\n"
	"  -h, --help               this text\n";

enum output { OUTPUT_TEXT, OUTPUT_JSON, OUTPUT_GITHUB };

struct arguments {
	const char *root_namespace;
	const char *unix_directory;
	enum output output;
};

static const char *plural(size_t n)
{
	return n == 1 ? "" : "s";
}

/* A workflow command ends its fields with what `special` holds; such characters are written as %XX there. */
static void print_escaped(const char *text, const char *special)
{
	for (; *text; text++) {
		if (strchr(special, *text))
			printf("%%%02X", (unsigned char)*text);
		else
			putchar(*text);
	}
}

/* "::error file=F,line=L,col=C,title=T::text", which GitHub shows beside the line that is meant. */
static void print_annotation(const struct problem *problem)
{
	static const char in_data[] = "%\r\n", in_property[] = "%\r\n:,";

	printf("::%s file=", problem->severity == SEVERITY_WARNING ? "warning" : "error");
	print_escaped(problem->at.file, in_property);
	if (problem->at.line)
		printf(",line=%u,col=%u", problem->at.line, problem->at.column);
	if (*problem->object) {
		fputs(",title=", stdout);
		print_escaped(problem->object, in_property);
	}
	fputs("::", stdout);
	print_escaped(problem->field, in_data);
	fputs(*problem->field ? ": " : "", stdout);
	print_escaped(problem->text, in_data);
	putchar('\n');
}

static void print_lines(const struct config *config, size_t files, enum output output)
{
	size_t warnings = 0;

	for (size_t i = 0; i < config->problem_count; i++) {
		if (output == OUTPUT_GITHUB)
			print_annotation(&config->problems[i]);
		else
			config_problem_print(stdout, &config->problems[i]);
		warnings += config->problems[i].severity == SEVERITY_WARNING;
	}
	printf("%zu file%s, %zu document%s: %zu error%s, %zu warning%s\n", files, plural(files), config->document_count,
	       plural(config->document_count), config->error_count, plural(config->error_count), warnings,
	       plural(warnings));
}

static struct json_object *problems_json(const struct config *config, enum severity severity)
{
	struct json_object *list = json_object_new_array();

	for (size_t i = 0; i < config->problem_count; i++) {
		const struct problem *problem = &config->problems[i];
		struct json_object *item;

		if (problem->severity != severity)
			continue;
		item = json_object_new_object();
		json_object_object_add(item, "file", json_object_new_string(problem->at.file));
		json_object_object_add(item, "line", json_object_new_int64(problem->at.line));
		json_object_object_add(item, "column", json_object_new_int64(problem->at.column));
		json_object_object_add(item, "object", json_object_new_string(problem->object));
		json_object_object_add(item, "field", json_object_new_string(problem->field));
		json_object_object_add(item, "message", json_object_new_string(problem->text));
		json_object_array_add(list, item);
	}
	return list;
}

static void print_json(const struct config *config, size_t files)
{
	struct json_object *out = json_object_new_object();

	json_object_object_add(out, "files", json_object_new_int64((int64_t)files));
	json_object_object_add(out, "documents", json_object_new_int64((int64_t)config->document_count));
	json_object_object_add(out, "errors", problems_json(config, SEVERITY_ERROR));
	json_object_object_add(out, "warnings", problems_json(config, SEVERITY_WARNING));
	puts(json_object_to_json_string_ext(out, JSON_C_TO_STRING_PRETTY | JSON_C_TO_STRING_NOSLASHESCAPE));
	json_object_put(out);
}

/* The run-time keeps its last generation rather than apply nothing at all, so nothing is an error here too. */
static void refuse_emptiness(struct config *config, const char *path)
{
	struct position at = {path, 0, 0};

	if (!config->document_count && !config->error_count)
		config_problem(config, SEVERITY_ERROR, &at, "", "",
			       "holds no document; allowing everything needs an EgressPolicy that says so");
}

static int check(const struct arguments *arguments, const char *const *paths, size_t count)
{
	__attribute__((cleanup(config_source_free))) struct config_source source = {0};
	struct policy_options options = {.root_namespace = arguments->root_namespace};
	struct config *config = config_new();
	size_t errors;

	config->unix_directory = arguments->unix_directory;
	config_load(config, &source, paths, count, arguments->root_namespace);
	refuse_emptiness(config, paths[0]);
	if (!config->error_count)
		policy_free(policy_compile(config, &options));
	if (arguments->output == OUTPUT_JSON)
		print_json(config, source.count);
	else
		print_lines(config, source.count, arguments->output);
	errors = config->error_count;
	config_free(config);
	return errors ? 1 : 0;
}

static int take_format(enum output *out, const char *text)
{
	static const char *const names[] = {"text", "json", "github"};

	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		if (!strcmp(text, names[i])) {
			*out = (enum output)i;
			return 0;
		}
	return refuse_option("--output", text, "json, github or text");
}

int command_check(int argc, char **argv)
{
	static const struct option options[] = {
		{"output", required_argument, NULL, 'o'},
		{"root-namespace", required_argument, NULL, 'r'},
		{"unix-endpoints", required_argument, NULL, 'u'},
		{"help", no_argument, NULL, 'h'},
		{0},
	};
	struct arguments arguments = {.root_namespace = DEFAULT_ROOT_NAMESPACE};
	int option;

	while ((option = getopt_long(argc, argv, "o:h", options, NULL)) != -1) {
		if (option == 'r') {
			arguments.root_namespace = optarg;
		} else if (option == 'u') {
			if (take_unix_directory(&arguments.unix_directory, optarg))
				return EXIT_USAGE;
		} else if (option == 'o') {
			if (take_format(&arguments.output, optarg))
				return EXIT_USAGE;
		} else {
			fputs(usage, option == 'h' ? stdout : stderr);
			return option == 'h' ? 0 : EXIT_USAGE;
		}
	}
	if (optind == argc) {
		fputs(usage, stderr);
		return EXIT_USAGE;
	}
	return check(&arguments, (const char *const *)argv + optind, (size_t)(argc - optind));
}
