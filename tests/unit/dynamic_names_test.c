// SPDX-License-Identifier: Apache-2.0
/* Names that clients show: bounds, fairness, how long what is remembered, and which addresses are none. */
#include "dns_rig.h"
#include "names/dynamic.h"

static struct dynamic_names *dynamic;
static unsigned int changes, nones, goings;

static void on_changed(void *context, const char *host)
{
	(void)context;
	(void)host;
	changes++;
}

static void on_none(void *context, const char *host)
{
	(void)context;
	(void)host;
	nones++;
}

static void on_gone(void *context, const char *host)
{
	(void)context;
	(void)host;
	goings++;
}

static void setup(void)
{
	struct dynamic_options options = {.resolv_conf = resolv_conf, .ttl_floor_s = 1, .grace_s = 1, .empty_s = 1, .idle_s = 3,
					  .changed = on_changed, .none = on_none, .gone = on_gone};

	dns_rig_start();
	options.resolv_conf = resolv_conf;
	cr_assert_eq(dynamic_names_new(&dynamic, loop, &options), 0);
}

static void teardown(void)
{
	dynamic_names_free(dynamic);
	dns_rig_stop();
}

TestSuite(dynamic_names, .init = setup, .fini = teardown, .timeout = 60);

static size_t count_of(const char *host)
{
	size_t count;

	dynamic_names_get(dynamic, host, &count);
	return count;
}

static struct dynamic_statistics statistics(void)
{
	struct dynamic_statistics now;

	dynamic_names_statistics(dynamic, &now);
	return now;
}

/* So many new names of a workload, numbered from `first` on; how many of them are taken. */
static unsigned int ask_many(uint32_t workload, unsigned int first, unsigned int count)
{
	unsigned int taken = 0;
	char host[64];

	for (unsigned int i = first; i < first + count; i++) {
		snprintf(host, sizeof(host), "w%un%u.bulk.example.com", workload, i);
		taken += dynamic_names_ask(dynamic, workload, host, false) == DYNAMIC_PENDING;
		if (i % 64 == 0)
			run_for(10);
	}
	return taken;
}

Test(dynamic_names, a_name_is_looked_up_when_it_is_asked_for)
{
	zone("a.example.com", TYPE_A, 60, "192.0.2.1");
	zone("a.example.com", TYPE_AAAA, 60, "2001:db8::1");
	cr_expect_eq(dynamic_names_ask(dynamic, 1, "a.example.com", false), DYNAMIC_PENDING);
	cr_expect_eq(dynamic_names_ask(dynamic, 2, "a.example.com", false), DYNAMIC_PENDING, "one question for all");
	wait_until(count_of("a.example.com") == 2, 2000);
	cr_expect_eq(server.asked, 2);
	cr_expect_eq(dynamic_names_ask(dynamic, 2, "a.example.com", false), DYNAMIC_KNOWN);
	cr_expect_eq(statistics().known, 1);
}

Test(dynamic_names, one_without_an_address_is_soon_forgotten)
{
	zone_error("a.example.com", NXDOMAIN);
	dynamic_names_ask(dynamic, 1, "a.example.com", false);
	wait_until(nones == 1, 2000);
	cr_expect_eq(dynamic_names_ask(dynamic, 1, "a.example.com", false), DYNAMIC_NONE);
	cr_expect_eq(changes, 0);
	wait_until(goings == 1, 5000);
	cr_expect_eq(server.asked, 2, "meanwhile it is not asked again: %u", server.asked);
	zone("a.example.com", TYPE_A, 60, "192.0.2.1");
	cr_expect_eq(dynamic_names_ask(dynamic, 1, "a.example.com", false), DYNAMIC_PENDING);
	wait_until(count_of("a.example.com") == 1, 2000);
}

Test(dynamic_names, an_idle_one_is_forgotten_and_one_in_use_is_not)
{
	uint64_t until;

	zone("idle.example.com", TYPE_A, 60, "192.0.2.1");
	zone("used.example.com", TYPE_A, 60, "192.0.2.2");
	dynamic_names_ask(dynamic, 1, "idle.example.com", false);
	dynamic_names_ask(dynamic, 1, "used.example.com", false);
	for (until = loop_now_ms() + 5000; loop_now_ms() < until;) {
		dynamic_names_ask(dynamic, 1, "used.example.com", true);
		run_for(200);
	}
	cr_expect_eq(goings, 1);
	cr_expect_eq(count_of("idle.example.com"), 0);
	cr_expect_eq(count_of("used.example.com"), 1);
}

/* Its connections are open: what admits them must not go. */
Test(dynamic_names, one_whose_connections_are_open_stays_when_it_leaves_dns)
{
	uint64_t until;
	struct asked_names all;

	zone("a.example.com", TYPE_A, 1, "192.0.2.1");
	dynamic_names_ask(dynamic, 1, "a.example.com", true);
	wait_until(count_of("a.example.com") == 1, 2000);
	zone_error("a.example.com", NXDOMAIN);
	for (until = loop_now_ms() + 5500; loop_now_ms() < until;) {
		dynamic_names_ask(dynamic, 1, "a.example.com", true);
		run_for(200);
	}
	cr_expect_eq(count_of("a.example.com"), 0, "after its grace");
	all = dynamic_names_list(dynamic);
	cr_assert_eq(all.count, 1);
	cr_expect_eq(all.items[0].former_count, 1);
	cr_expect_eq(all.items[0].count, 0);
}

Test(dynamic_names, addresses_where_no_service_is_are_left_out)
{
	zone("a.example.com", TYPE_A, 60, "127.0.0.1 0.0.0.0 169.254.169.254 224.0.0.1 255.255.255.255 198.18.0.1 192.0.2.1");
	zone("a.example.com", TYPE_AAAA, 60, "::1 fe80::1 ff02::1 :: 64:ff9b::7f00:1 ::ffff:127.0.0.1 ::127.0.0.1 2001:db8::1");
	dynamic_names_ask(dynamic, 1, "a.example.com", false);
	wait_until(count_of("a.example.com") == 2, 2000);
	cr_expect_eq(statistics().refused_addresses, 13, "%u", (unsigned)statistics().refused_addresses);
	zone("self.example.com", TYPE_A, 60, "127.0.0.1");
	dynamic_names_ask(dynamic, 1, "self.example.com", false);
	wait_until(nones == 1, 2000);
	cr_expect_eq(dynamic_names_ask(dynamic, 1, "self.example.com", false), DYNAMIC_NONE);
}

Test(dynamic_names, special_addresses_are_those_and_no_others)
{
	static const struct {
		const char *text;
		bool is_special;
	} cases[] = {
		{"127.255.255.255", true}, {"128.0.0.0", false}, {"0.1.2.3", true}, {"1.0.0.0", false}, {"169.254.0.0", true},
		{"169.253.255.255", false}, {"198.17.255.255", false}, {"198.19.255.255", true}, {"198.20.0.0", false},
		{"223.255.255.255", false}, {"224.0.0.0", true}, {"240.0.0.1", true}, {"10.0.0.1", false}, {"fe7f::1", false},
		{"fe80::", true}, {"febf::1", true}, {"fec0::1", true}, {"fd00::1", false}, {"ff00::", true}, {"::2", true},
		{"64:ff9b::1.2.3.4", false}, {"64:ff9b::169.254.169.254", true}, {"2001:db8::1", false}, {"1::", false},
		{"100.100.100.200", true}, {"100.100.100.201", false}, {"168.63.129.16", true}, {"168.63.129.17", false},
		{"192.0.0.192", true}, {"192.0.1.1", false}, {"192.168.0.1", false}, {"fd00:ec2::254", true}, {"fd00:ec2::253", false},
		{"fd20:ce::254", true}, {"64:ff9b:1::127.0.0.1", true}, {"64:ff9b:1::10.0.0.1", false}, {"64:ff9b:2::127.0.0.1", false},
		{"2002:a9fe:a9fe::1", true}, {"2002:a00:1::1", false}, {"2001:db8::5efe:127.0.0.1", true}, {"2001:db8::5efe:10.0.0.1", false},
		{"2001:db8::200:5efe:169.254.1.1", true},
	};
	uint8_t address[16];

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		cr_assert_eq(parse_address(address, cases[i].text), 0);
		cr_expect_eq(dynamic_address_is_special(address), cases[i].is_special, "%s", cases[i].text);
	}
}

Test(dynamic_names, a_workload_has_no_more_than_its_share)
{
	unsigned int taken = ask_many(1, 0, 700);

	cr_expect_eq(taken, DYNAMIC_NAMES_OF_WORKLOAD);
	cr_expect_eq(statistics().refused, 700 - taken);
	cr_expect_eq(statistics().known, taken);
	cr_expect_eq(dynamic_names_ask(dynamic, 1, "w1n0.bulk.example.com", false), DYNAMIC_KNOWN, "what it has it keeps");
	cr_expect_eq(ask_many(2, 0, 100), 100, "others are not kept from theirs");
}

Test(dynamic_names, the_longest_idle_name_makes_room_once_its_grace_is_over)
{
	ask_many(1, 0, DYNAMIC_NAMES_OF_WORKLOAD);
	cr_expect_eq(dynamic_names_ask(dynamic, 1, "one.bulk.example.com", false), DYNAMIC_REFUSED);
	run_for(1100);
	dynamic_names_ask(dynamic, 1, "w1n0.bulk.example.com", false);
	cr_expect_eq(dynamic_names_ask(dynamic, 1, "one.bulk.example.com", false), DYNAMIC_PENDING);
	cr_expect_eq(goings, 1);
	cr_expect_eq(count_of("w1n0.bulk.example.com"), 1, "it was just used");
	cr_expect_eq(count_of("w1n1.bulk.example.com"), 0);
	cr_expect_eq(statistics().known, DYNAMIC_NAMES_OF_WORKLOAD);
}

Test(dynamic_names, however_many_take_theirs_there_is_room_for_one_more)
{
	for (uint32_t workload = 1; workload <= 20; workload++)
		ask_many(workload, 0, DYNAMIC_NAMES_OF_WORKLOAD);
	cr_expect_leq(statistics().known, DYNAMIC_NAMES_MAX);
	cr_expect_eq(ask_many(99, 0, 100), 100);
	cr_expect_leq(statistics().known, DYNAMIC_NAMES_MAX);
}

Test(dynamic_names, questions_that_nobody_answers_are_bounded)
{
	char host[64];
	unsigned int taken = 0;

	server_stop();
	for (unsigned int i = 0; i < 300; i++) {
		snprintf(host, sizeof(host), "x%u.example.com", i);
		taken += dynamic_names_ask(dynamic, 1, host, false) == DYNAMIC_PENDING;
	}
	cr_expect_eq(taken, DYNAMIC_UNANSWERED_MAX);
	cr_expect_eq(dynamic_names_ask(dynamic, 2, "a.example.com", false), DYNAMIC_PENDING);
}

static bool is_a(void *context, const char *host)
{
	(void)context;
	return host[0] == 'a';
}

Test(dynamic_names, what_no_policy_covers_any_more_is_forgotten)
{
	dynamic_names_ask(dynamic, 1, "a.bulk.example.com", false);
	dynamic_names_ask(dynamic, 1, "b.bulk.example.com", false);
	dynamic_names_retain(dynamic, is_a, NULL);
	cr_expect_eq(goings, 1);
	cr_expect_eq(statistics().known, 1);
	wait_until(count_of("a.bulk.example.com") == 1, 2000);
}

Test(dynamic_names, what_an_earlier_loader_knew_is_a_former_address_and_asked_anew)
{
	uint8_t address[16];
	struct asked_names all;

	zone("a.example.com", TYPE_A, 60, "192.0.2.2");
	parse_address(address, "192.0.2.1");
	dynamic_names_adopt(dynamic, "a.example.com", address);
	all = dynamic_names_list(dynamic);
	cr_assert_eq(all.count, 1);
	cr_expect(all.items[0].former_count == 1 && !memcmp(all.items[0].former[0], address, 16) && !all.items[0].count);
	wait_until(count_of("a.example.com") == 1, 2000);
}
