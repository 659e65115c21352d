// SPDX-License-Identifier: Apache-2.0
/* The container of a configuration and its problems. */
#include "config/config.h"

#include <openssl/crypto.h>
#include <stdarg.h>
#include <string.h>

#include "base/text.h"
#include "config/walk.h"

struct config *config_new(void)
{
	struct config *config = xcalloc(1, sizeof(*config));

	config->arena = arena_new();
	return config;
}

void config_free(struct config *config)
{
	if (!config)
		return;
	config_forget_credentials(config);
	arena_free(config->arena);
	free(config);
}

void secret_wipe(struct secret *secret)
{
	if (secret->bytes)
		OPENSSL_cleanse(secret->bytes, secret->length);
	free(secret->bytes);
	*secret = (struct secret){0};
}

void config_forget_credentials(struct config *config)
{
	for (size_t i = 0; i < config->credential_count; i++)
		secret_wipe(&config->credentials[i].text);
}

/* Offending text is quoted: no control character of it may reach a terminal or a log. */
static const char *harmless(struct arena *arena, const char *text)
{
	char *copy = arena_strdup(arena, text);

	text_make_harmless(copy);
	return copy;
}

void config_problem(struct config *config, enum severity severity, const struct position *at, const char *object,
		    const char *field, const char *format, ...)
{
	char text[SLUICE_ERROR_TEXT];
	struct problem *problem;
	va_list args;

	config->error_count += severity == SEVERITY_ERROR;
	if (config->problem_count >= CONFIG_MAX_PROBLEMS)
		return;
	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	problem = arena_append(config->arena, config->problems, config->problem_count, config->problem_capacity);
	problem->severity = severity;
	problem->at = *at;
	problem->object = harmless(config->arena, object ? object : "");
	problem->field = harmless(config->arena, field ? field : "");
	problem->text = harmless(config->arena, text);
}

void config_problem_format(char *out, size_t room, const struct problem *problem)
{
	const struct position *at = &problem->at;
	char place[32] = "";

	if (at->line)
		snprintf(place, sizeof(place), ":%u:%u", at->line, at->column);
	snprintf(out, room, "%s%s: %s%s%s%s%s%s", at->file, place, problem->severity == SEVERITY_WARNING ? "warning: " : "",
		 problem->object, *problem->object ? ": " : "", problem->field, *problem->field ? ": " : "", problem->text);
}

void config_problem_print(FILE *out, const struct problem *problem)
{
	char line[4096 + 4 * SLUICE_ERROR_TEXT];

	config_problem_format(line, sizeof(line), problem);
	fprintf(out, "%s\n", line);
}
