// SPDX-License-Identifier: Apache-2.0
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "redirect/http_route.h"

/* Which rule of `rules` (YAML of spec.http) takes a request of default/web to port 80: its index, -1 none, -2 the service. */
static int rule_with(const char *rules, const char *delegate, const char *request)
{
	static const struct label label = {"app", "web"};
	const struct workload_identity who = {"default", "web", &label, 1};
	const struct policy_options options = {.root_namespace = "istio-system"};
	struct config *config = config_new();
	const struct service_route *route;
	const struct service *service;
	enum route_result result;
	struct policy *policy;
	struct http_head head;
	char text[4096], bytes[4096];
	const char *why;
	const struct http_match *match;
	int index;

	snprintf(text, sizeof(text),
		 "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: a}\n"
		 "spec: {hosts: [a.com], ports: [{number: 80, name: h, protocol: HTTP}], resolution: DNS}\n---\n"
		 "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: a}\nspec: {hosts: [a.com], http: %s}\n---\n"
		 "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: d, namespace: other}\nspec: {http: %s}\n",
		 rules, delegate);
	config_parse(config, &(struct config_file){"a.yaml", text, strlen(text)});
	config_validate(config, "istio-system");
	for (size_t i = 0; config->error_count && i < config->problem_count; i++)
		config_problem_print(stderr, &config->problems[i]);
	cr_assert_eq(config->error_count, 0, "%s", text);
	policy = policy_compile(config, &options);
	service = policy_find(policy, 1, "a.com", 5, 80, true);
	snprintf(bytes, sizeof(bytes), "%s\r\nHost: a.com\r\n\r\n", request);
	cr_assert_eq(http_parse_request(&head, bytes, strlen(bytes), &why), HTTP_OK, "%s", request);
	result = http_route_find(service, &head, &who, 80, &route, &match);
	index = result == ROUTE_FOUND ? (int)(route - service->routes) : result == ROUTE_NONE ? -1 : -2;
	policy_free(policy);
	config_free(config);
	return index;
}

static int rule_for(const char *rules, const char *request)
{
	return rule_with(rules, "[{directResponse: {status: 200}}]", request);
}

#define ANSWER ", directResponse: {status: 200}}"
#define EXPECT_RULE(index_, rules_, request_) cr_expect_eq(rule_for(rules_, request_), index_, "%s: %s", rules_, request_)

Test(http_route, fields_of_a_match_are_and_matches_are_or)
{
	static const char rules[] = "[{match: [{uri: {exact: /a}, method: {exact: GET}}, {uri: {prefix: /b}}]" ANSWER ", {match: [{uri: {prefix: ''}}]" ANSWER "]";

	EXPECT_RULE(0, rules, "GET /a HTTP/1.1");
	EXPECT_RULE(1, rules, "PUT /a HTTP/1.1");
	EXPECT_RULE(0, rules, "PUT /bc HTTP/1.1");
	EXPECT_RULE(0, rules, "GET /a?b HTTP/1.1");
	EXPECT_RULE(1, rules, "GET /ab HTTP/1.1");
}

Test(http_route, a_suffix_is_how_a_text_ends)
{
	static const char header[] = "[{match: [{headers: {x: {suffix: -dev}}}]" ANSWER "]";
	static const char authority[] = "[{match: [{authority: {suffix: .com}, queryParams: {q: {suffix: b}}}]" ANSWER "]";

	EXPECT_RULE(0, header, "GET / HTTP/1.1\r\nx: a-dev");
	EXPECT_RULE(0, header, "GET / HTTP/1.1\r\nx: -dev");
	EXPECT_RULE(-1, header, "GET / HTTP/1.1\r\nx: dev");
	EXPECT_RULE(-1, header, "GET / HTTP/1.1\r\nx: -devil");
	EXPECT_RULE(-1, header, "GET / HTTP/1.1");
	EXPECT_RULE(0, authority, "GET /?q=ab HTTP/1.1");
	EXPECT_RULE(-1, authority, "GET /?q=ba HTTP/1.1");
	EXPECT_RULE(0, "[{match: [{withoutHeaders: {x: {suffix: -dev}}}]" ANSWER "]", "GET / HTTP/1.1\r\nx: prod");
}

Test(http_route, what_is_for_nobody_here_leaves_the_service_as_it_is)
{
	EXPECT_RULE(-2, "[{match: [{port: 81}, {sourceNamespace: x}, {sourceLabels: {app: back}}, {gateways: [g]}]" ANSWER "]", "GET / HTTP/1.1");
	EXPECT_RULE(-1, "[{match: [{port: 81}, {uri: {exact: /x}}]" ANSWER "]", "GET / HTTP/1.1");
	EXPECT_RULE(0, "[{match: [{port: 80, sourceNamespace: default, sourceLabels: {app: web}, gateways: [g, mesh]}]" ANSWER "]", "GET / HTTP/1.1");
	EXPECT_RULE(-1, "[{match: [{sourceLabels: {app: web}, uri: {exact: /x}}]" ANSWER "]", "GET / HTTP/1.1");
}

Test(http_route, pseudo_headers_and_lists)
{
	EXPECT_RULE(0, "[{match: [{headers: {':authority': {exact: a.com}, ':method': {exact: GET}, ':path': {exact: '/?q'}, ':scheme': {exact: http}}}]" ANSWER "]", "GET /?q HTTP/1.1");
	EXPECT_RULE(0, "[{match: [{headers: {a: {exact: 'x,y,z'}}}]" ANSWER "]", "GET / HTTP/1.1\r\nA: x\r\nb: 1\r\na: y\r\na: z");
	EXPECT_RULE(0, "[{match: [{withoutHeaders: {a: {regex: '.+'}}}]" ANSWER "]", "GET / HTTP/1.1");
	EXPECT_RULE(-1, "[{match: [{withoutHeaders: {a: {regex: '.*'}}}]" ANSWER "]", "GET / HTTP/1.1");
}

Test(http_route, a_header_that_is_too_long_to_join_matches_nothing)
{
	char request[3800] = "GET / HTTP/1.1";
	size_t n = strlen(request);

	for (int i = 0; i < 3; i++)
		n += (size_t)snprintf(request + n, sizeof(request) - n, "\r\na: %0*d", 1000, 1);
	EXPECT_RULE(0, "[{match: [{headers: {a: {}}}]" ANSWER "]", request);
}

static void expect_path(const char *path, const char *wanted)
{
	char bytes[256];
	size_t n = (size_t)snprintf(bytes, sizeof(bytes), "%s", path);

	n = http_normalize_path(bytes, n);
	cr_expect(n == strlen(wanted) && !memcmp(bytes, wanted, n), "%s: %.*s, not %s", path, (int)n, bytes, wanted);
}

Test(http_route, paths_are_normalized)
{
	expect_path("/", "/");
	expect_path("/a/b", "/a/b");
	expect_path("/a/../b", "/b");
	expect_path("/a/..", "/");
	expect_path("/a/b/..", "/a/");
	expect_path("/a/.", "/a/");
	expect_path("/.", "/");
	expect_path("/..", "/");
	expect_path("/../../a", "/a");
	expect_path("/a/./b/../c?x=/../y", "/a/c?x=/../y");
	expect_path("/a\\b\\..\\c", "/a/c");
	expect_path("/%2e%2E/a/%2e/b", "/a/b");
	expect_path("/.%2e/a", "/a");
	expect_path("/...", "/...");
	expect_path("/.a/..b", "/.a/..b");
	expect_path("//a//../b", "//a/b");
	expect_path("/%2e%2", "/%2e%2");
	expect_path("*", "*");
	expect_path("", "");
	expect_path("/a/..?", "/?");
}

/* ---- delegates ---- */

#define TO_OTHER "delegate: {name: d, namespace: other}}"
#define EXPECT_WITH(index_, rules_, delegate_, request_) \
	cr_expect_eq(rule_with(rules_, delegate_, request_), index_, "%s, %s: %s", rules_, delegate_, request_)

Test(http_route, a_delegates_rules_stand_in_the_place_of_the_rule)
{
	static const char rules[] = "[{match: [{uri: {prefix: /a}}], " TO_OTHER ", {directResponse: {status: 200}}]";
	static const char delegate[] = "[{match: [{uri: {exact: /a/b}}]" ANSWER ", {match: [{method: {exact: PUT}}]" ANSWER "]";

	EXPECT_WITH(0, rules, delegate, "GET /a/b HTTP/1.1");
	EXPECT_WITH(1, rules, delegate, "PUT /a/c HTTP/1.1");
	EXPECT_WITH(2, rules, delegate, "PUT /b HTTP/1.1");
	EXPECT_WITH(2, rules, delegate, "GET /a/c HTTP/1.1");
}

Test(http_route, what_a_delegate_matches_beyond_the_rule_is_left_out)
{
	static const char rules[] = "[{match: [{uri: {prefix: /a}, headers: {x: {exact: y1}}}], " TO_OTHER "]";

	EXPECT_WITH(-2, rules, "[{match: [{uri: {prefix: /b}}]" ANSWER "]", "GET /b HTTP/1.1");
	EXPECT_WITH(-2, rules, "[{match: [{uri: {regex: '/a.*'}}]" ANSWER "]", "GET /a HTTP/1.1\r\nx: y1");
	EXPECT_WITH(-2, rules, "[{match: [{headers: {X: {exact: y2}}}]" ANSWER "]", "GET /a HTTP/1.1\r\nx: y2");
	EXPECT_WITH(0, rules, "[{match: [{headers: {z: {exact: y2}}}]" ANSWER "]", "GET /a HTTP/1.1\r\nx: y1\r\nz: y2");
	EXPECT_WITH(-1, rules, "[{match: [{headers: {z: {exact: y2}}}]" ANSWER "]", "GET /a HTTP/1.1\r\nz: y2");
	EXPECT_WITH(0, "[{match: [{headers: {x: {suffix: b}}}], " TO_OTHER "]", "[{match: [{headers: {x: {suffix: ab}}}]" ANSWER "]", "GET / HTTP/1.1\r\nx: cab");
	EXPECT_WITH(-2, "[{match: [{headers: {x: {suffix: ab}}}], " TO_OTHER "]", "[{match: [{headers: {x: {suffix: b}}}]" ANSWER "]", "GET / HTTP/1.1\r\nx: cab");
	EXPECT_WITH(-2, "[{match: [{port: 80}], " TO_OTHER "]", "[{match: [{port: 81}]" ANSWER "]", "GET / HTTP/1.1");
	EXPECT_WITH(0, "[{" TO_OTHER "]", "[{match: [{uri: {exact: /b}}]" ANSWER "]", "GET /b HTTP/1.1");
	EXPECT_WITH(-2, "[{delegate: {name: nobody}}]", "[{directResponse: {status: 200}}]", "GET /b HTTP/1.1");
}

/* ---- consistent hashing ---- */

/* Of a request with these lines; 0 where nothing of it tells where it goes. */
static uint64_t hash_of(enum hash_key key, const char *name, const char *request)
{
	const struct balance_settings balance = {.key = key, .name = name};
	struct http_head head;
	char bytes[1024];
	const char *why;
	uint64_t hash;

	snprintf(bytes, sizeof(bytes), "%s\r\nHost: a.com\r\n\r\n", request);
	cr_assert_eq(http_parse_request(&head, bytes, strlen(bytes), &why), HTTP_OK, "%s", request);
	return http_hash(&balance, &head, &hash) ? hash : 0;
}

#define COOKIE(text) hash_of(HASH_COOKIE, "sid", "GET / HTTP/1.1\r\n" text)

Test(http_route, a_cookie_is_found_by_its_whole_name_wherever_it_stands)
{
	const uint64_t hash = COOKIE("Cookie: sid=one");

	cr_assert_neq(hash, 0);
	cr_expect_eq(COOKIE("Cookie: sid=\"one\""), hash, "quotes are not the value's");
	cr_expect_eq(COOKIE("Cookie: a=1; longer=sid=two;  sid=one; b=2"), hash);
	cr_expect_eq(COOKIE("cookie: a=1\r\nCookie: sid=one"), hash, "in a second line");
	cr_expect_neq(COOKIE("Cookie: sid=two"), hash);
	cr_expect_eq(COOKIE("Cookie: sidx=one; xsid=one; SID=one; sid"), 0, "none of these is it");
	cr_expect_eq(COOKIE("X: sid=one"), 0);
}

Test(http_route, a_header_and_a_parameter_are_keys_as_well)
{
	cr_expect_neq(hash_of(HASH_HEADER, "x-key", "GET / HTTP/1.1\r\nX-Key: one"), 0, "in any case");
	cr_expect_neq(hash_of(HASH_HEADER, "x-key", "GET / HTTP/1.1\r\nX-Key: one"), hash_of(HASH_HEADER, "x-key", "GET / HTTP/1.1\r\nX-Key: two"));
	cr_expect_eq(hash_of(HASH_HEADER, "x-key", "GET / HTTP/1.1\r\nX-Keys: one"), 0);
	cr_expect_neq(hash_of(HASH_PARAMETER, "k", "GET /?a=1&k=one HTTP/1.1"), 0);
	cr_expect_eq(hash_of(HASH_PARAMETER, "k", "GET /?a=1&k=one HTTP/1.1"), hash_of(HASH_PARAMETER, "k", "GET /other?k=one&b=2 HTTP/1.1"));
	cr_expect_neq(hash_of(HASH_PARAMETER, "k", "GET /?k=one HTTP/1.1"), hash_of(HASH_PARAMETER, "k", "GET /?k=two HTTP/1.1"));
	cr_expect_eq(hash_of(HASH_PARAMETER, "k", "GET /?K=one&kk=one HTTP/1.1"), 0);
}
