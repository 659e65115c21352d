/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One line per event on stderr, as text or as JSON. A message is logged once, by whoever can add the most
 * context, in the form `what: on which object: why; what happens now`. Thread-safe.
 */
#ifndef SLUICE_LOG_H
#define SLUICE_LOG_H

#include <stdbool.h>

enum log_level { LOG_LEVEL_ERROR, LOG_LEVEL_WARNING, LOG_LEVEL_INFO, LOG_LEVEL_DEBUG };

void log_init(enum log_level level, bool json, const char *component);
int log_level_parse(enum log_level *out, const char *text); /* 0 or -EINVAL */
bool log_enabled(enum log_level level);
void log_line(enum log_level level, const char *format, ...) __attribute__((format(printf, 2, 3)));

#define log_error(...) log_line(LOG_LEVEL_ERROR, __VA_ARGS__)
#define log_warning(...) log_line(LOG_LEVEL_WARNING, __VA_ARGS__)
#define log_info(...) log_line(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_debug(...) log_line(LOG_LEVEL_DEBUG, __VA_ARGS__)

/* Logs the error and yields `error` (a negative errno), so that a failing function can `return log_errno(...)`. */
#define log_errno(error, ...)            \
	({                               \
		int error_ = (error);    \
		log_error(__VA_ARGS__);  \
		error_;                  \
	})

#endif
