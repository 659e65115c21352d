// SPDX-License-Identifier: Apache-2.0
/* sluice: one binary, subcommands. */
#include <bpf/libbpf.h>
#include <stdio.h>
#include <string.h>

#include "base/memory.h"
#include "command/command.h"

static const struct {
	const char *name;
	int (*run)(int argc, char **argv);
	const char *help; /* NULL: internal */
} commands[] = {
	{"run", command_run, "enforce a policy folder on this node (the daemon)"},
	{"check", command_check, "report every problem of policy files"},
	{"exec", command_exec, "run a command as a governed workload"},
	{"status", command_status, "say what is enforced, and whether it is"},
	{"explain", command_explain, "say what would happen to a connection, and which line decides"},
	{"flows", command_flows, "show what was decided, for whom, and why"},
	{"dump", command_dump, "print the live tables"},
	{"detach", command_detach, "stop enforcing at once, and remove everything (the break-glass)"},
	{"redirector", command_redirector, NULL},
};

static void print_usage(FILE *out)
{
	fputs("Usage: sluice COMMAND [OPTION]...\n\n", out);
	for (size_t i = 0; i < ARRAY_SIZE(commands); i++)
		if (commands[i].help)
			fprintf(out, "  %-8s %s\n", commands[i].name, commands[i].help);
	fputs("\n`sluice COMMAND --help` says more.\n", out);
}

int main(int argc, char **argv)
{
	if (argc >= 2 && (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h"))) {
		print_usage(stdout);
		return 0;
	}
	for (size_t i = 0; argc >= 2 && i < ARRAY_SIZE(commands); i++)
		if (!strcmp(argv[1], commands[i].name)) {
			libbpf_set_print(NULL); /* what fails is said in our own words; the daemon logs its too, for --log-level debug */
			argv[1] = argv[0] = "sluice"; /* with which getopt begins what it says, as we do */
			return commands[i].run(argc - 1, argv + 1);
		}
	if (argc >= 2)
		fprintf(stderr, "sluice: \"%s\" is not a command\n\n", argv[1]);
	print_usage(stderr);
	return EXIT_USAGE;
}
