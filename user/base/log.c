// SPDX-License-Identifier: Apache-2.0
#include "base/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define LINE_MAX_BYTES 4096

static enum log_level threshold = LOG_LEVEL_INFO;
static bool as_json;
static const char *log_component = "sluice";
static const char *const level_names[] = {"error", "warning", "info", "debug"};

void log_init(enum log_level level, bool json, const char *component)
{
	threshold = level;
	as_json = json;
	log_component = component;
}

int log_level_parse(enum log_level *out, const char *text)
{
	for (unsigned int i = 0; i < sizeof(level_names) / sizeof(level_names[0]); i++) {
		if (!strcmp(text, level_names[i])) {
			*out = (enum log_level)i;
			return 0;
		}
	}
	return -EINVAL;
}

bool log_enabled(enum log_level level)
{
	return level <= threshold;
}

/* Hostile bytes (host names, paths) reach the log: nothing below space may split or forge a line. */
static size_t escape(char *out, size_t room, const char *in)
{
	size_t n = 0;

	for (; *in && n + 7 < room; in++) {
		unsigned char c = (unsigned char)*in;

		if (as_json && (c == '"' || c == '\\')) {
			out[n++] = '\\';
			out[n++] = (char)c;
		} else if (c < 0x20 || c == 0x7f) {
			n += (size_t)snprintf(out + n, room - n, as_json ? "\\u%04x" : "\\x%02x", c);
		} else {
			out[n++] = (char)c;
		}
	}
	out[n] = 0;
	return n;
}

void log_line(enum log_level level, const char *format, ...)
{
	char message[LINE_MAX_BYTES], safe[LINE_MAX_BYTES], line[LINE_MAX_BYTES + 256], when[40];
	struct timespec now;
	struct tm utc;
	va_list args;
	int n;

	if (!log_enabled(level))
		return;
	va_start(args, format);
	vsnprintf(message, sizeof(message), format, args);
	va_end(args);
	escape(safe, sizeof(safe), message);

	clock_gettime(CLOCK_REALTIME, &now);
	gmtime_r(&now.tv_sec, &utc);
	strftime(when, sizeof(when), "%Y-%m-%dT%H:%M:%S", &utc);
	n = snprintf(line, sizeof(line),
		     as_json ? "{\"time\":\"%s.%03ldZ\",\"level\":\"%s\",\"component\":\"%s\",\"message\":\"%s\"}\n"
			     : "%s.%03ldZ %s %s: %s\n",
		     when, now.tv_nsec / 1000000, level_names[level], log_component, safe);
	if (n > 0)
		(void)!write(STDERR_FILENO, line, (size_t)n < sizeof(line) ? (size_t)n : sizeof(line) - 1);
}
