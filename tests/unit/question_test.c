// SPDX-License-Identifier: Apache-2.0
/* What `explain` understands of a destination. */
#include <criterion/criterion.h>
#include <string.h>

#include "base/memory.h"
#include "command/question.h"

#define TCP SLUICE_TCP
#define UDP SLUICE_UDP
#define ANYTHING SPEAKS_ANYTHING
#define HTTP SPEAKS_HTTP
#define TLS SPEAKS_TLS
#define NEITHER SPEAKS_NEITHER

static const struct {
	const char *text, *host;
	uint16_t port;
	uint8_t protocol;
	enum speaks speaks;
	bool is_address;
} good[] = {
	{"a.com", "a.com", 80, TCP, ANYTHING, false},
	{"A.Com.", "a.com", 80, TCP, ANYTHING, false},
	{"a.com:8443", "a.com", 8443, TCP, ANYTHING, false},
	{"http://a.com", "a.com", 80, TCP, HTTP, false},
	{"http://a.com:443/x", "a.com", 443, TCP, HTTP, false}, /* the scheme says it, not the port */
	{"https://a.com", "a.com", 443, TCP, TLS, false},
	{"HTTPS://a.com:8443/x?y#z", "a.com", 8443, TCP, TLS, false},
	{"https://me:secret@a.com:444/", "a.com", 444, TCP, TLS, false},
	{"http://a.com/go?to=http://b.com/", "a.com", 80, TCP, HTTP, false},
	{"tcp://a.com:5432", "a.com", 5432, TCP, NEITHER, false},
	{"udp://a.com:53", "a.com", 53, UDP, ANYTHING, false},
	{"192.0.2.1", "192.0.2.1", 80, TCP, ANYTHING, true},
	{"192.0.2.1:443", "192.0.2.1", 443, TCP, ANYTHING, true},
	{"https://192.0.2.1/", "192.0.2.1", 443, TCP, TLS, true},
	{"2001:DB8::1", "2001:db8::1", 80, TCP, ANYTHING, true},
	{"[2001:db8::1]", "2001:db8::1", 80, TCP, ANYTHING, true},
	{"[2001:db8::1]:443", "2001:db8::1", 443, TCP, ANYTHING, true},
	{"https://[2001:db8::1]:8443/", "2001:db8::1", 8443, TCP, TLS, true},
	{"udp://[::ffff:192.0.2.1]:53", "::ffff:192.0.2.1", 53, UDP, ANYTHING, true},
};

Test(question, names_addresses_and_urls_are_understood)
{
	for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
		struct question q;

		cr_assert_eq(question_parse(&q, good[i].text), 0, "%s", good[i].text);
		cr_expect_str_eq(q.host, good[i].host, "%s", good[i].text);
		cr_expect(q.port == good[i].port && q.protocol == good[i].protocol && q.speaks == good[i].speaks &&
			  q.is_address == good[i].is_address, "%s: port %u protocol %u speaks %u address %u", good[i].text, q.port,
			  q.protocol, q.speaks, q.is_address);
	}
}

Test(question, the_authority_is_what_a_client_would_send)
{
	static const char *const cases[][2] = {
		{"a.com", "a.com"}, {"https://me:secret@a.com:444/x", "a.com:444"}, {"2001:DB8::1", "[2001:DB8::1]"},
		{"http://[2001:db8::1]:81/", "[2001:db8::1]:81"}, {"192.0.2.1:80", "192.0.2.1:80"},
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct question q;

		cr_assert_eq(question_parse(&q, cases[i][0]), 0, "%s", cases[i][0]);
		cr_expect_str_eq(q.authority, cases[i][1]);
	}
}

Test(question, the_address_of_a_literal_is_canonical)
{
	static const uint8_t wanted[16] = {[10] = 0xff, 0xff, 192, 0, 2, 1};
	static const char *const texts[] = {"192.0.2.1", "192.0.2.1:9", "http://192.0.2.1/", "[::ffff:192.0.2.1]:9", "::ffff:192.0.2.1"};

	for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
		struct question q;

		cr_assert_eq(question_parse(&q, texts[i]), 0, "%s", texts[i]);
		cr_expect_arr_eq(q.addr, wanted, 16, "%s", texts[i]);
	}
}

Test(question, anything_else_is_refused_and_leaves_out_alone)
{
	static const char *const bad[] = {
		"", ".", ":80", "http://", "http://:80", "https:///x", "a.com:", "a.com:0", "a.com:65536", "a.com:http", "a.com:80:81",
		"tcp://a.com", "udp://192.0.2.1", "ftp://a.com", "://a.com", "[2001:db8::1", "[2001:db8::1]80", "[2001:db8::1]:",
		"[a.com]:80", "[192.0.2.1]:80", "[]", "me@",
	};
	char longest[400];

	memset(longest, 'a', sizeof(longest) - 1);
	longest[sizeof(longest) - 1] = 0;
	for (size_t i = 0; i <= ARRAY_SIZE(bad); i++) {
		const char *text = i < ARRAY_SIZE(bad) ? bad[i] : longest;
		struct question q = {.host = "before"};

		cr_expect_neq(question_parse(&q, text), 0, "%s", text);
		cr_expect_str_eq(q.host, "before", "%s", text);
	}
}
