/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Regular expressions as Istio has them: RE2's syntax, matched against a whole text, in time that grows with its length
 * (PCRE2's DFA matcher, which does not go back). What PCRE2 has beyond RE2 is refused, so that a pattern means the same.
 */
#ifndef SLUICE_PATTERN_H
#define SLUICE_PATTERN_H

#include <stdbool.h>
#include <stddef.h>

#include "base/memory.h"

struct pattern;

/* A pattern that lives in `arena`, or NULL and `why` not: at most `room` bytes. */
const struct pattern *pattern_compile(struct arena *arena, const char *text, char *why, size_t room);

/* Whether all of the text is matched. One that takes more room than a thread has for it is not. Any thread. */
bool pattern_matches(const struct pattern *pattern, const char *text, size_t length);

/* A pattern and what stands for each of its matches: "\\0" to "\\9" are the match and its groups, "\\\\" a backslash. */
struct rewriter;

const struct rewriter *rewriter_compile(struct arena *arena, const char *pattern, const char *text, char *why, size_t room);

/*
 * Replaces every match in `text`, from the left, as RE2's GlobalReplace. Returns the length, or -1: it does not fit, or
 * finding the matches would take too many steps (this matcher goes back). Any thread.
 */
long rewriter_apply(const struct rewriter *rewriter, const char *text, size_t length, char *out, size_t room);

#endif
