// SPDX-License-Identifier: Apache-2.0
#include <criterion/criterion.h>
#include <string.h>

#include "base/pattern.h"

static bool matches(const char *text, const char *subject)
{
	struct arena *arena = arena_new();
	char why[128] = "";
	const struct pattern *pattern = pattern_compile(arena, text, why, sizeof(why));
	bool result;

	cr_assert(pattern, "%s: %s", text, why);
	result = pattern_matches(pattern, subject, strlen(subject));
	arena_free(arena);
	return result;
}

Test(pattern, all_of_the_text_is_matched)
{
	cr_expect(matches("/a.*", "/abc"));
	cr_expect(!matches("a", "/abc"));
	cr_expect(!matches("/a", "/abc"));
	cr_expect(matches("a|ab|abc", "abc"), "the longest alternative");
	cr_expect(matches("(?i)ABC", "abc"));
	cr_expect(matches("^abc$", "abc"));
	cr_expect(!matches("abc$", "abc\n"), "$ is the end, not the last line's");
	cr_expect(!matches("a.c", "a\nc"));
	cr_expect(matches("", ""));
	cr_expect(matches("[]a]+", "]a"));
	cr_expect(matches("\\Qa.b\\E+", "a.bbb"));
	cr_expect(matches("(?P<name>a{2,3})", "aaa"));
	cr_expect(matches("a{,2}", "a{,2}"), "no repetition without a first number");
	cr_expect(matches("[[:digit:]]{1000}|x", "x"));
	cr_expect(matches("\\pL+", "\xc3\xa9"));
	cr_expect(!matches("a.", "a\xff"), "bytes that are no UTF-8 match nothing");
}

Test(pattern, what_re2_does_not_know_is_refused)
{
	static const char *const refused[] = {
		"(a)\\1", "(?=a)", "(?!a)", "(?<=a)b", "(?<!a)b", "(?>a)", "(?|a)", "(?R)", "(?(1)a)", "(?#a)", "a**", "a*+", "a++",
		"a?+", "a{2}{3}", "a{2}+", "a{1001}", "a{0,1001}", "a{99999999999}", "(*UTF)a", "\\Ka", "\\Ga", "\\Ra", "\\h", "\\X",
		"\\g1", "\\k<a>", "\\Z", "\\N", "\\C", "a\\", "(", ")", "[", "a(?i", "[[:<:]]", "[[.a.]]", "*a", "(?z)a",
	};

	for (size_t i = 0; i < sizeof(refused) / sizeof(*refused); i++) {
		struct arena *arena = arena_new();
		char why[128] = "";

		cr_expect(!pattern_compile(arena, refused[i], why, sizeof(why)), "%s", refused[i]);
		cr_expect(why[0], "%s: the reason", refused[i]);
		arena_free(arena);
	}
}

Test(pattern, time_does_not_explode, .timeout = 10)
{
	char text[4096];

	memset(text, 'a', sizeof(text) - 1);
	text[sizeof(text) - 1] = 0;
	cr_expect(!matches("(a+)+b", text));
	cr_expect(!matches("(a|aa)+b", text));
	cr_expect(!matches("(a?){100}a{100}b", text));
}

Test(pattern, size_is_bounded)
{
	struct arena *arena = arena_new();
	char why[128] = "", text[2048];

	memset(text, 'a', sizeof(text) - 1);
	text[sizeof(text) - 1] = 0;
	cr_expect(!pattern_compile(arena, text, why, sizeof(why)));
	cr_expect(!pattern_compile(arena, "((a{1000}){1000}){1000}", why, sizeof(why)));
	arena_free(arena);
}
