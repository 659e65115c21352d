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
	cr_expect(matches("\\x41\\x{42}\\.\\/\\_", "AB./_"));
	cr_expect(matches("[[:word:][:^alpha:]\\d]+", "a_1-"));
	cr_expect(matches("\\p{Greek}\\P{^L}(?:a)", "\xce\xb1" "ba"));
	cr_expect(matches("(?i-s:A.)(?P<n>b)(?<m>c)", "axbc"));
	cr_expect(matches("(?U)a+", "aaa") && matches("a+?", "aaa") && matches("\\Aa\\z", "a"));
	cr_expect(matches("(?m)^a$", "a") && matches("(?s)a.b", "a\nb") && !matches("a\\z", "a\n"));
	cr_expect(!matches("\\d", "\xd9\xa3") && !matches("\\w", "\xc3\xa9"), "these classes are ASCII's");
	cr_expect(!matches("a.", "a\xff"), "bytes that are no UTF-8 match nothing");
}

Test(pattern, what_re2_does_not_know_is_refused)
{
	static const char *const refused[] = {
		"(a)\\1", "(?=a)", "(?!a)", "(?<=a)b", "(?<!a)b", "(?>a)", "(?|a)", "(?R)", "(?(1)a)", "(?#a)", "a**", "a*+", "a++",
		"a?+", "a{2}{3}", "a{2}+", "a{1001}", "a{0,1001}", "a{99999999999}", "(*UTF)a", "\\Ka", "\\Ga", "\\Ra", "\\h", "\\X",
		"\\g1", "\\k<a>", "\\Z", "\\N", "\\C", "\\v", "\\e", "\\cA", "\\H", "\\E", "[\\b]",
		"[\\Qa\\E]", "\\x", "\\x4", "\\x{}", "\\p{L&}", "\\p{Xan}", "\\p{greek}", "\\p{sc:Greek}", "(?x)a", "(?J)a", "(?^)a", "(?'n'a)", "(?P=n)", "(?&n)",
		"(?C1)a", "(?P>n)", "[[:foo:]]", "a\\", "(", ")", "[", "a(?i", "[[:<:]]", "[[.a.]]", "*a", "(?z)a",
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

static const char *rewritten(const char *pattern, const char *substitution, const char *text)
{
	static char out[256];
	struct arena *arena = arena_new();
	char why[128] = "";
	const struct rewriter *rewriter = rewriter_compile(arena, pattern, substitution, why, sizeof(why));
	long n;

	cr_assert(rewriter, "%s: %s", pattern, why);
	n = rewriter_apply(rewriter, text, strlen(text), out, sizeof(out) - 1);
	arena_free(arena);
	if (n < 0)
		return "(none)";
	out[n] = 0;
	return out;
}

Test(pattern, matches_are_replaced_from_the_left)
{
	cr_expect_str_eq(rewritten("^/service/([^/]+)(/.*)$", "\\2/instance/\\1", "/service/foo/v1/api"), "/v1/api/instance/foo");
	cr_expect_str_eq(rewritten("one", "two", "/xxx/one/yyy/one/zzz"), "/xxx/two/yyy/two/zzz");
	cr_expect_str_eq(rewritten("^(.*?)one(.*)$", "\\1two\\2", "/xxx/one/yyy/one/zzz"), "/xxx/two/yyy/one/zzz");
	cr_expect_str_eq(rewritten("(?i)/xxx/", "/yyy/", "/aaa/XxX/bbb"), "/aaa/yyy/bbb");
	cr_expect_str_eq(rewritten("(a)|(b)", "[\\1\\2]", "ab"), "[a][b]");
	cr_expect_str_eq(rewritten("x*", "-", "abc"), "-a-b-c-", "RE2's own examples");
	cr_expect_str_eq(rewritten("b*", "-", "abc"), "-a-c-");
	cr_expect_str_eq(rewritten("nothing", "x", "/as/it/is"), "/as/it/is");
	cr_expect_str_eq(rewritten("a", "\\\\\\0", "a"), "\\a");
	cr_expect_str_eq(rewritten("a", "", "aba"), "b");
}

Test(pattern, a_rewrite_is_bounded, .timeout = 10)
{
	char text[201];

	memset(text, 'a', sizeof(text) - 1);
	text[sizeof(text) - 1] = 0;
	cr_expect_str_eq(rewritten("a", "12", text), "(none)", "it does not fit");
	for (int i = 0; i < 20; i++)
		cr_expect_str_eq(rewritten("(a+)+[bc]", "x", text), "(none)", "too many steps");
	cr_expect_str_eq(rewritten("a+", "x", text), "x", "and the next is well");
}

Test(pattern, a_substitution_refers_to_what_is_there)
{
	static const char *const refused[][2] = {{"(a)", "\\2"}, {"a", "\\1"}, {"a", "\\x"}, {"a", "\\"}, {"(", "x"}, {"(?=a)", "x"}};

	for (size_t i = 0; i < sizeof(refused) / sizeof(*refused); i++) {
		struct arena *arena = arena_new();
		char why[128] = "";

		cr_expect(!rewriter_compile(arena, refused[i][0], refused[i][1], why, sizeof(why)), "%s", refused[i][1]);
		cr_expect(why[0]);
		arena_free(arena);
	}
}
