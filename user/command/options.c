// SPDX-License-Identifier: Apache-2.0
/* What is said of a wrong command line. */
#include "command/command.h"

#include <stdio.h>
#include <string.h>

#include "config/config.h"

int refuse_option(const char *option, const char *value, const char *rule)
{
	fprintf(stderr, "sluice: %s \"%s\": must be %s\n", option, value, rule);
	return EXIT_USAGE;
}

int refuse_arguments(char *const *arguments)
{
	fprintf(stderr, "sluice: \"%s\": nothing is expected here; the command was not run\n", *arguments);
	return EXIT_USAGE;
}

int take_output(bool *json, const char *text)
{
	if (strcmp(text, "json") && strcmp(text, "text"))
		return refuse_option("--output", text, "json or text");
	*json = text[0] == 'j';
	return 0;
}

int take_unix_directory(const char **out, char *text)
{
	return parse_unix_directory(out, text) ? refuse_option("--unix-endpoints", text, "an absolute path") : 0;
}
