// SPDX-License-Identifier: Apache-2.0
#include "base/pattern.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#define MAX_PATTERN 1024   /* Istio's own bound on the size of a program is higher; no real pattern comes near */
#define MAX_REPEAT 1000    /* RE2's */
#define WORKSPACE 4096     /* ints, for each thread: two for each alternative under way */
#define MAX_COMPILED 65536 /* bytes of pattern with what it repeats */
#define THREAD_ROOM (256 << 10) /* a match takes twice what it took before, up to HEAP_KB, and gives nothing back */
#define GROUPS 9

/* ---- what RE2 knows ---- */

/* Behind "(?". */
static const char *group_fault(const char *at)
{
	if (*at == ':' || (at[0] == 'P' && at[1] == '<'))
		return NULL;
	if (*at == '<' && at[1] != '=' && at[1] != '!')
		return NULL;
	at += strspn(at, "imsU");
	at += *at == '-' ? 1 + strspn(at + 1, "imsU") : 0;
	return *at == ':' || *at == ')' ? NULL : "has a group that RE2 does not know: lookaround, atomic or conditional";
}

/* \xHH or \x{H...}; PCRE2 would take fewer digits too. */
static bool is_code(const char *at)
{
	size_t digits = strspn(at + (*at == '{'), "0123456789abcdefABCDEF");

	return *at == '{' ? digits && at[1 + digits] == '}' : digits >= 2;
}

/* \pL or \p{Greek}, with ^ for all others; PCRE2 has names of its own. */
static bool is_unicode_class(const char *at)
{
	size_t n;

	if (*at != '{')
		return *at >= 'A' && *at <= 'Z';
	at += 1 + (at[1] == '^');
	n = strspn(at, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_");
	return n && at[n] == '}' && *at >= 'A' && *at <= 'Z' && !(*at == 'X' && n == 3);
}

/* Behind "\". RE2's \v is one character, PCRE2's is a class. */
static const char *escape_fault(const char *at, bool in_class)
{
	if (!*at)
		return "ends with a backslash";
	if (*at >= '1' && *at <= '9')
		return "has a backreference, which RE2 does not know";
	if (((*at >= 'a' && *at <= 'z') || (*at >= 'A' && *at <= 'Z')) && !strchr(in_class ? "afnrtxDdPpSsWw" : "afnrtxABbDdPpQSsWwz", *at))
		return "has an escape that RE2 does not know, or knows as something else";
	if (*at == 'x' && !is_code(at + 1))
		return "has \\x without two hexadecimal digits";
	if ((*at == 'p' || *at == 'P') && !is_unicode_class(at + 1))
		return "has a class that RE2 does not know";
	return NULL;
}

/* The number of digits, 0 if none; the value is at most MAX_REPEAT + 1. */
static size_t read_count(const char *at, unsigned int *out)
{
	size_t n = strspn(at, "0123456789");

	*out = 0;
	for (size_t i = 0; i < n && *out <= MAX_REPEAT; i++)
		*out = *out * 10 + (unsigned int)(at[i] - '0');
	return n;
}

/* The length of a quantifier at `at`, 0 if there is none; `*most`: how often it repeats at most. */
static size_t quantifier(const char *at, unsigned int *most)
{
	unsigned int count;
	size_t low, high;

	*most = 1;
	if (*at == '*' || *at == '+' || *at == '?')
		return 1;
	low = *at == '{' ? read_count(at + 1, most) : 0;
	if (!low)
		return 0;
	if (at[1 + low] == '}')
		return low + 2;
	if (at[1 + low] != ',')
		return 0;
	high = read_count(at + 2 + low, &count);
	*most = count > *most ? count : *most;
	return at[2 + low + high] == '}' ? low + high + 3 : 0;
}

static const char *syntax_fault(const char *text)
{
	bool in_class = false, quoted = false;

	for (const char *at = text; *at; at++) {
		unsigned int most;
		const char *fault = NULL;
		size_t n;

		if (quoted) {
			quoted = strncmp(at, "\\E", 2) != 0;
			at += !quoted;
			continue;
		}
		if (*at == '\\') {
			fault = escape_fault(++at, in_class);
			quoted = *at == 'Q';
		} else if (in_class) {
			in_class = *at != ']';
			if (*at == '[' && (at[1] == ':' || at[1] == '.' || at[1] == '=')) {
				const char *end = strstr(at, ":]");

				if (at[1] != ':' || !end || at[2] == '<' || at[2] == '>')
					fault = "has a class that RE2 does not know";
				else
					at = end + 1;
			}
		} else if (*at == '[') {
			in_class = true;
			at += at[1] == '^';
			at += at[1] == ']'; /* the first is an ordinary character */
		} else if (*at == '(' && at[1] == '*') {
			fault = "has a verb, which RE2 does not know";
		} else if (*at == '(' && at[1] == '?') {
			fault = group_fault(at + 2);
		} else if ((n = quantifier(at, &most))) {
			unsigned int unused;

			at += n - 1;
			at += at[1] == '?';
			if (most > MAX_REPEAT)
				fault = "repeats more than 1000 times";
			else if (quantifier(at + 1, &unused))
				fault = "repeats a repetition, which RE2 does not know";
		}
		if (fault)
			return fault;
	}
	return NULL;
}

/* ---- compiling ---- */

static void *take(size_t size, void *arena)
{
	return arena_alloc(arena, 1, size);
}

static void give_back(void *memory, void *arena)
{
	(void)memory; /* dies with the arena */
	(void)arena;
}

static pcre2_code *compile(struct arena *arena, const char *text, uint32_t how, char *why, size_t room)
{
	const uint32_t options = PCRE2_DOLLAR_ENDONLY | PCRE2_UTF | how;
	pcre2_general_context *memory = pcre2_general_context_create(take, give_back, arena);
	pcre2_compile_context *context = pcre2_compile_context_create(memory);
	PCRE2_SIZE offset;
	pcre2_code *code;
	int error;

	pcre2_set_newline(context, PCRE2_NEWLINE_LF);
	pcre2_set_max_pattern_length(context, MAX_PATTERN);
	code = pcre2_compile((PCRE2_SPTR)text, PCRE2_ZERO_TERMINATED, options, &error, &offset, context);
	if (!code) {
		unsigned char message[128] = "";

		pcre2_get_error_message(error, message, sizeof(message));
		snprintf(why, room, "is no regular expression: %s at byte %zu", message, (size_t)offset);
	}
	return code;
}

static pcre2_code *compile_checked(struct arena *arena, const char *text, uint32_t how, char *why, size_t room)
{
	const char *fault = strlen(text) > MAX_PATTERN ? "is longer than 1024 bytes" : syntax_fault(text);
	pcre2_code *code;
	size_t size = 0;

	if (fault) {
		snprintf(why, room, "%s", fault);
		return NULL;
	}
	code = compile(arena, text, how, why, room);
	if (code && (pcre2_pattern_info(code, PCRE2_INFO_SIZE, &size) || size > MAX_COMPILED)) {
		snprintf(why, room, "is too large once its repetitions are written out");
		return NULL;
	}
	return code;
}

const struct pattern *pattern_compile(struct arena *arena, const char *text, char *why, size_t room)
{
	return (const struct pattern *)compile_checked(arena, text, PCRE2_ANCHORED | PCRE2_ENDANCHORED | PCRE2_NO_AUTO_CAPTURE, why, room);
}

/* ---- matching ---- */

/* What PCRE2 needs of a thread, in the thread itself: nothing is allocated for a match, and nothing is left when it ends. */
struct thread_room {
	_Alignas(16) char bytes[THREAD_ROOM];
	size_t used;
	pcre2_match_data *data;
	pcre2_match_context *context;
};

#define HEAP_KB 64           /* that a match may take to remember where it goes back to */
#define MATCH_STEPS 100000

static _Thread_local struct thread_room here;

static void *take_here(size_t size, void *unused)
{
	size_t from = here.used;

	(void)unused;
	if (size > sizeof(here.bytes) - from)
		return NULL;
	here.used = from + ((size + 15) & ~(size_t)15);
	return here.bytes + from;
}

static bool thread_is_ready(void)
{
	pcre2_general_context *memory;

	if (here.used)
		return here.context;
	memory = pcre2_general_context_create(take_here, give_back, NULL);
	here.data = memory ? pcre2_match_data_create(GROUPS + 1, memory) : NULL;
	here.context = here.data ? pcre2_match_context_create(memory) : NULL;
	if (!here.context)
		return false;
	pcre2_set_heap_limit(here.context, HEAP_KB);
	pcre2_set_match_limit(here.context, MATCH_STEPS);
	return true;
}

bool pattern_matches(const struct pattern *pattern, const char *text, size_t length)
{
	static _Thread_local int workspace[WORKSPACE];

	/* 0: matched, but the place for all the shorter matches is too small. */
	return thread_is_ready() && pcre2_dfa_match((const pcre2_code *)pattern, (PCRE2_SPTR)text, length, 0, 0, here.data,
						    here.context, workspace, WORKSPACE) >= 0;
}

/* ---- rewriting ---- */

struct rewriter {
	const pcre2_code *code;
	const char *text;
};

/* A reference to a group that is not there, or to nothing. */
static const char *substitution_fault(const char *text, uint32_t groups)
{
	for (; *text; text++) {
		if (*text != '\\')
			continue;
		text++;
		if (*text >= '0' && *text <= '9' && (uint32_t)(*text - '0') > groups)
			return "refers to a group that the pattern does not have";
		if (*text != '\\' && (*text < '0' || *text > '9'))
			return "has a backslash before something else than a digit or a backslash";
	}
	return NULL;
}

const struct rewriter *rewriter_compile(struct arena *arena, const char *pattern, const char *text, char *why, size_t room)
{
	pcre2_code *code = compile_checked(arena, pattern, 0, why, room);
	struct rewriter *rewriter;
	uint32_t groups = 0;
	const char *fault;

	if (!code)
		return NULL;
	pcre2_pattern_info(code, PCRE2_INFO_CAPTURECOUNT, &groups);
	fault = substitution_fault(text, groups);
	if (fault) {
		snprintf(why, room, "%s", fault);
		return NULL;
	}
	rewriter = arena_alloc(arena, 1, sizeof(*rewriter));
	*rewriter = (struct rewriter){code, arena_strdup(arena, text)};
	return rewriter;
}

struct rewritten {
	char *p;
	size_t n, room;
};

static void put(struct rewritten *out, const char *p, size_t n)
{
	if (n > out->room - out->n)
		n = out->room - out->n;
	memcpy(out->p + out->n, p, n);
	out->n += n;
}

static void put_substitution(struct rewritten *out, const char *substitution, const char *text, const PCRE2_SIZE *groups, int count)
{
	for (; *substitution; substitution++) {
		int group = substitution[0] == '\\' ? substitution[1] - '0' : -1;

		if (substitution[0] == '\\')
			substitution++;
		if (group < 0 || group > GROUPS)
			put(out, substitution, 1);
		else if (group < count && groups[2 * group] != PCRE2_UNSET)
			put(out, text + groups[2 * group], groups[2 * group + 1] - groups[2 * group]);
	}
}

long rewriter_apply(const struct rewriter *rewriter, const char *text, size_t length, char *out, size_t room)
{
	struct rewritten to = {out, 0, room};
	size_t at = 0, last = SIZE_MAX;

	while (at <= length) {
		const PCRE2_SIZE *groups;
		int count = thread_is_ready() ? pcre2_match(rewriter->code, (PCRE2_SPTR)text, length, at, 0, here.data, here.context)
					      : PCRE2_ERROR_NOMEMORY;

		if (count == PCRE2_ERROR_NOMATCH)
			break;
		if (count < 0)
			return -1;
		groups = pcre2_get_ovector_pointer(here.data);
		put(&to, text + at, groups[0] - at);
		if (groups[0] == groups[1] && groups[0] == last) { /* nothing, where a match has just ended */
			if (groups[0] < length)
				put(&to, text + groups[0], 1);
			at = groups[0] + 1;
			continue;
		}
		put_substitution(&to, rewriter->text, text, groups, count ? count : GROUPS + 1);
		at = last = groups[1];
	}
	if (at < length)
		put(&to, text + at, length - at);
	return to.n < room ? (long)to.n : -1;
}
