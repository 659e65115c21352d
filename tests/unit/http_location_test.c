// SPDX-License-Identifier: Apache-2.0
#include <criterion/criterion.h>
#include <string.h>

#include "redirect/http_internal.h"

static const char *locate(const struct http_redirect *redirect, const char *authority, const char *path, uint16_t port)
{
	static char out[256];
	struct http_head head = {.authority = {authority, strlen(authority)}, .path = {path, strlen(path)}};
	size_t n = http_location(out, sizeof(out) - 1, redirect, &head, port, 1);

	out[n] = 0;
	return out;
}

Test(http_location, parts_that_are_not_given_are_the_requests)
{
	cr_expect_str_eq(locate(&(struct http_redirect){.scheme = "https"}, "a.example", "/x?q", 80), "https://a.example/x?q");
	cr_expect_str_eq(locate(&(struct http_redirect){.authority = "b.example"}, "a.example:81", "/x", 81), "http://b.example/x");
	cr_expect_str_eq(locate(&(struct http_redirect){.uri = "/y", .authority = ""}, "a.example:81", "/x", 81), "http://a.example:81/y");
}

Test(http_location, a_path_keeps_the_query_unless_it_brings_one)
{
	cr_expect_str_eq(locate(&(struct http_redirect){.uri = "/y"}, "a", "/x?q=1", 80), "http://a/y?q=1");
	cr_expect_str_eq(locate(&(struct http_redirect){.uri = "/y?z"}, "a", "/x?q=1", 80), "http://a/y?z");
}

Test(http_location, a_prefix_stands_for_the_first_slash)
{
	cr_expect_str_eq(locate(&(struct http_redirect){.prefix_rewrite = "/v2/"}, "a", "/x/y?q", 80), "http://a/v2/x/y?q");
	cr_expect_str_eq(locate(&(struct http_redirect){.prefix_rewrite = "/v2/"}, "a", "*", 80), "http://a*");
}

Test(http_location, ports)
{
	const struct http_redirect derived = {.derive_port = true, .port_of_request = true};

	cr_expect_str_eq(locate(&(struct http_redirect){.port = 8080}, "a:80", "/", 80), "http://a:8080/");
	cr_expect_str_eq(locate(&(struct http_redirect){.port = 443, .scheme = "https"}, "a", "/", 80), "https://a/");
	cr_expect_str_eq(locate(&(struct http_redirect){.scheme = "https"}, "a:80", "/", 80), "https://a/", "that of http is wrong there");
	cr_expect_str_eq(locate(&(struct http_redirect){.scheme = "https"}, "a:81", "/", 81), "https://a:81/");
	cr_expect_str_eq(locate(&(struct http_redirect){.uri = "/y"}, "a:80", "/", 80), "http://a:80/y");
	cr_expect_str_eq(locate(&derived, "a", "/", 8000), "http://a:8000/");
	cr_expect_str_eq(locate(&derived, "a", "/", 80), "http://a/");
	cr_expect_str_eq(locate(&(struct http_redirect){.port = 81}, "[2001:db8::1]", "/", 80), "http://[2001:db8::1]:81/");
	cr_expect_str_eq(locate(&(struct http_redirect){.port = 81}, "[2001:db8::1]:80", "/", 80), "http://[2001:db8::1]:81/");
}

Test(http_location, what_does_not_fit_is_none)
{
	char path[300];

	memset(path, 'x', sizeof(path) - 1);
	path[sizeof(path) - 1] = 0;
	cr_expect_str_eq(locate(&(struct http_redirect){.scheme = "https"}, "a", path, 80), "");
}
