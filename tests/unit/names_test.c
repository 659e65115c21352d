// SPDX-License-Identifier: Apache-2.0
/* The resolver, judged by a DNS server of its own on 127.0.0.1:53 in a network namespace of its own (as root). */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <unistd.h>

#include "dns_rig.h"
#include "names/names.h"
#include "names/schedule.h"

/* ---- the harness ---- */

static struct names *names;
static struct names_options options;
static unsigned changes, sockets;
static bool refuse_sockets;

static void on_changed(void *context, const char *host)
{
	(void)context;
	(void)host;
	changes++;
}

static int on_socket(void *context, int fd)
{
	struct sockaddr_storage peer;
	socklen_t size = sizeof(peer);

	cr_assert_eq(context, &options, "the socket callback gets its owner's context");
	cr_assert(getpeername(fd, (struct sockaddr *)&peer, &size) < 0 && errno == ENOTCONN, "shown before it is connected");
	sockets++;
	return refuse_sockets ? -EPERM : 0;
}

static void setup(void)
{
	dns_rig_start();
	options = (struct names_options){
		.resolv_conf = resolv_conf, .ttl_floor_s = 1, .grace_s = 1,
		.changed = on_changed, .socket = on_socket, .context = &options,
	};
}

static void teardown(void)
{
	names_free(names);
	dns_rig_stop();
}

static void start(void)
{
	cr_assert_eq(names_new(&names, loop, &options), 0);
}

static void want(const char *a, const char *b)
{
	const char *items[] = {a, b};
	struct string_list list = {.items = items, .count = a ? b ? 2 : 1 : 0};

	names_want(names, &list);
}

static void want_answered(const char *host)
{
	start();
	want(host, NULL);
	wait_until(names_settled(names), 2000);
}

/* "192.0.2.1 2001:db8::1" */
static const char *known(const char *host)
{
	static char text[4096];
	size_t count, used = 0;
	const uint8_t (*addresses)[16] = names_get(names, host, &count);

	text[0] = 0;
	for (size_t i = 0; i < count; i++) {
		char one[SLUICE_PREFIX_TEXT];

		used += (size_t)snprintf(text + used, sizeof(text) - used, "%s%s", i ? " " : "", format_address(one, addresses[i]));
	}
	return text;
}

#define is_known(host, expected) (!strcmp(known(host), (expected)))

static struct name_status status_of(const char *host)
{
	struct name_status list[8];
	size_t count = names_status(names, list, 8);

	for (size_t i = 0; i < count; i++)
		if (!strcmp(list[i].host, host))
			return list[i];
	cr_assert_fail("%s has no status", host);
	return (struct name_status){0};
}

TestSuite(names, .init = setup, .fini = teardown, .timeout = 30);

/* ---- answers ---- */

Test(names, first_answer_has_both_families_sorted)
{
	zone("www.example.com", TYPE_A, 60, "192.0.2.9 192.0.2.1 192.0.2.9");
	zone("www.example.com", TYPE_AAAA, 60, "2001:db8::1");
	want_answered("www.example.com");
	cr_assert_str_eq(known("www.example.com"), "192.0.2.1 192.0.2.9 2001:db8::1");
	cr_assert_null(status_of("www.example.com").error);
}

Test(names, unknown_host_has_no_addresses)
{
	size_t count = 7;

	start();
	cr_assert_null(names_get(names, "www.example.com", &count));
	cr_assert_eq(count, 0);
}

Test(names, address_that_left_the_answer_stays_for_its_grace)
{
	zone("www.example.com", TYPE_A, 1, "192.0.2.1");
	zone("www.example.com", TYPE_AAAA, 1, "");
	options.grace_s = 2;
	want_answered("www.example.com");
	zone("www.example.com", TYPE_A, 1, "192.0.2.2");
	wait_until(is_known("www.example.com", "192.0.2.1 192.0.2.2"), 1500);
	run_for(1200);
	cr_assert_str_eq(known("www.example.com"), "192.0.2.1 192.0.2.2");
	wait_until(is_known("www.example.com", "192.0.2.2"), 1500);
	cr_assert_eq(changes, 3);
}

Test(names, address_that_comes_back_in_its_grace_stays)
{
	zone("www.example.com", TYPE_A, 1, "192.0.2.1 192.0.2.2");
	options.grace_s = 2;
	want_answered("www.example.com");
	zone("www.example.com", TYPE_A, 1, "192.0.2.1");
	run_for(1300);
	zone("www.example.com", TYPE_A, 1, "192.0.2.1 192.0.2.2");
	run_for(2500);
	cr_assert_str_eq(known("www.example.com"), "192.0.2.1 192.0.2.2");
	cr_assert_eq(changes, 1);
}

Test(names, same_answer_in_another_order_is_no_change)
{
	zone("www.example.com", TYPE_A, 1, "192.0.2.1 192.0.2.2");
	want_answered("www.example.com");
	zone("www.example.com", TYPE_A, 1, "192.0.2.2 192.0.2.1");
	server.asked = 0;
	wait_until(server.asked >= 2, 1500);
	run_for(50);
	cr_assert_eq(changes, 1);
}

Test(names, mapped_aaaa_is_the_same_address_as_the_a)
{
	zone("www.example.com", TYPE_A, 60, "192.0.2.1");
	zone("www.example.com", TYPE_AAAA, 60, "::ffff:192.0.2.1");
	want_answered("www.example.com");
	cr_assert_str_eq(known("www.example.com"), "192.0.2.1");
}

Test(names, nxdomain_is_an_answer_and_addresses_leave_after_grace)
{
	zone("www.example.com", TYPE_A, 1, "192.0.2.1");
	want_answered("www.example.com");
	zone_error("www.example.com", NXDOMAIN);
	server.asked = 0;
	wait_until(server.asked >= 2, 1500);
	run_for(50);
	cr_assert_str_eq(known("www.example.com"), "192.0.2.1");
	cr_assert_not_null(status_of("www.example.com").error);
	wait_until(is_known("www.example.com", ""), 1500);
	cr_assert_eq(changes, 2);
}

Test(names, more_addresses_than_the_bound_are_cut_the_same_way_each_time)
{
	struct zone_record *record = record_set("www.example.com", TYPE_A);

	record->ttl = 1;
	record->count = 70;
	for (unsigned i = 0; i < 70; i++)
		memcpy(record->addresses[i], (uint8_t[]){192, 0, 2, (uint8_t)(200 - i)}, 4);
	want_answered("www.example.com");
	cr_assert_eq(status_of("www.example.com").address_count, 64);
	memcpy(record->addresses[0], record->addresses[69], 4);
	memcpy(record->addresses[69], (uint8_t[]){192, 0, 2, 200}, 4);
	server.asked = 0;
	wait_until(server.asked >= 2, 1500);
	run_for(50);
	cr_assert_eq(changes, 1);
}

Test(names, truncated_answer_is_asked_again_over_tcp_on_a_marked_socket)
{
	zone("www.example.com", TYPE_A, 60, "192.0.2.1 192.0.2.2")->truncated = true;
	want_answered("www.example.com");
	cr_assert_str_eq(known("www.example.com"), "192.0.2.1 192.0.2.2");
	cr_assert_eq(server.asked_tcp, 1);
	cr_assert_geq(sockets, 2);
}

Test(names, new_addresses_take_the_place_of_those_in_grace)
{
	struct zone_record *record = record_set("www.example.com", TYPE_A);

	options.grace_s = 60;
	record->ttl = 1;
	record->count = 64;
	for (unsigned i = 0; i < 64; i++)
		memcpy(record->addresses[i], (uint8_t[]){192, 0, 2, (uint8_t)i}, 4);
	want_answered("www.example.com");
	zone("www.example.com", TYPE_A, 1, "198.51.100.1 198.51.100.2");
	wait_until(changes == 2, 1500);
	cr_assert_eq(status_of("www.example.com").address_count, 64);
	cr_assert(strstr(known("www.example.com"), "198.51.100.1 198.51.100.2"));
}

/* ---- when ---- */

Test(names, ttl_is_kept_with_jitter)
{
	zone("www.example.com", TYPE_A, 100, "192.0.2.1");
	want_answered("www.example.com");
	cr_assert_leq(status_of("www.example.com").next_in_ms, 100000);
	cr_assert_geq(status_of("www.example.com").next_in_ms, 89000);
}

Test(names, ttl_is_bounded_by_floor_and_ceiling)
{
	options.ttl_floor_s = 20;
	options.ttl_ceiling_s = 50;
	zone("low.example.com", TYPE_A, 0, "192.0.2.1");
	zone("high.example.com", TYPE_A, 86400, "192.0.2.1");
	start();
	want("low.example.com", "high.example.com");
	wait_until(names_settled(names), 2000);
	cr_assert(status_of("low.example.com").next_in_ms > 17000 && status_of("low.example.com").next_in_ms <= 20000);
	cr_assert(status_of("high.example.com").next_in_ms > 44000 && status_of("high.example.com").next_in_ms <= 50000);
}

Test(names, ttl_of_an_alias_counts)
{
	zone("www.example.com", TYPE_A, 200, "192.0.2.1")->cname_ttl = 20;
	want_answered("www.example.com");
	cr_assert_str_eq(known("www.example.com"), "192.0.2.1");
	cr_assert_leq(status_of("www.example.com").next_in_ms, 20000);
}

Test(names, ten_thousand_names_are_answered_in_seconds)
{
	static char text[10000][24];
	static const char *items[10000];
	struct string_list list = {.items = items, .count = 10000};

	for (unsigned i = 0; i < 10000; i++) {
		snprintf(text[i], sizeof(text[i]), "n%u.bulk", i);
		items[i] = text[i];
	}
	start();
	names_want(names, &list);
	wait_until(names_settled(names), 20000);
	cr_assert_eq(changes, 10000);
	cr_assert_eq(names_status(names, NULL, 0), 10000);
}

Test(names, at_most_64_names_are_asked_at_a_time)
{
	static char text[200][24];
	static const char *items[200];
	struct string_list list = {.items = items, .count = 200};

	for (unsigned i = 0; i < 200; i++) {
		snprintf(text[i], sizeof(text[i]), "n%u.bulk", i);
		items[i] = text[i];
	}
	loop_unwatch(loop, server.fd);
	start();
	names_want(names, &list);
	run_for(300);
	serve(NULL, server.fd, 0);
	cr_assert_eq(server.asked, 128, "two families each");
	loop_watch(loop, server.fd, EPOLLIN, serve, NULL);
	wait_until(names_settled(names), 3000);
}

/* ---- failure ---- */

Test(names, failing_resolver_keeps_the_last_good_answer_and_is_asked_again)
{
	zone("www.example.com", TYPE_A, 1, "192.0.2.1");
	want_answered("www.example.com");
	zone_error("www.example.com", SERVFAIL);
	run_for(3000);
	cr_assert_str_eq(known("www.example.com"), "192.0.2.1");
	cr_assert_not_null(status_of("www.example.com").error);
	zone("www.example.com", TYPE_A, 1, "192.0.2.2");
	zone("www.example.com", TYPE_AAAA, 1, "");
	wait_until(is_known("www.example.com", "192.0.2.1 192.0.2.2"), 3000);
	cr_assert_null(status_of("www.example.com").error);
}

Test(names, resolver_that_is_gone_keeps_the_last_good_answer)
{
	zone("www.example.com", TYPE_A, 1, "192.0.2.1");
	want_answered("www.example.com");
	server_stop();
	wait_until(status_of("www.example.com").error, 2500);
	run_for(1500);
	cr_assert_str_eq(known("www.example.com"), "192.0.2.1");
}

Test(names, family_that_fails_keeps_its_addresses)
{
	zone("www.example.com", TYPE_A, 1, "192.0.2.1");
	zone("www.example.com", TYPE_AAAA, 1, "2001:db8::1");
	want_answered("www.example.com");
	record_set("www.example.com", TYPE_AAAA)->rcode = SERVFAIL;
	run_for(3000);
	cr_assert_str_eq(known("www.example.com"), "192.0.2.1 2001:db8::1");
}

Test(names, failures_back_off_up_to_the_ceiling)
{
	options.ttl_ceiling_s = 3;
	zone_error("www.example.com", SERVFAIL);
	want_answered("www.example.com");
	cr_assert_leq(status_of("www.example.com").next_in_ms, 1000);
	wait_until(status_of("www.example.com").next_in_ms > 1200, 2000);
	wait_until(status_of("www.example.com").next_in_ms > 2200, 3000);
	cr_assert_leq(status_of("www.example.com").next_in_ms, 3000);
}

Test(names, garbage_is_a_failure)
{
	record_set("www.example.com", TYPE_A)->garbage = true;
	record_set("www.example.com", TYPE_AAAA)->garbage = true;
	start();
	want("www.example.com", NULL);
	wait_until(names_settled(names), 8000);
	cr_assert_str_eq(known("www.example.com"), "");
	cr_assert_not_null(status_of("www.example.com").error);
}

Test(names, silence_settles_as_a_failure)
{
	record_set("www.example.com", TYPE_A)->silent = true;
	zone("www.example.com", TYPE_AAAA, 60, "2001:db8::1");
	start();
	want("www.example.com", NULL);
	wait_until(is_known("www.example.com", "2001:db8::1"), 500);
	cr_assert_not(names_settled(names));
	wait_until(names_settled(names), 8000);
	cr_assert_not_null(status_of("www.example.com").error);
}

Test(names, refused_socket_is_a_failure_and_sends_nothing)
{
	zone("www.example.com", TYPE_A, 60, "192.0.2.1");
	refuse_sockets = true;
	want_answered("www.example.com");
	run_for(50);
	cr_assert_gt(sockets, 0);
	cr_assert_eq(server.asked, 0);
	cr_assert_str_eq(known("www.example.com"), "");
	refuse_sockets = false;
	wait_until(is_known("www.example.com", "192.0.2.1"), 3000);
}

/* ---- the set ---- */

Test(names, dropped_names_are_forgotten)
{
	zone("a.example.com", TYPE_A, 60, "192.0.2.1");
	zone("b.example.com", TYPE_A, 60, "192.0.2.2");
	start();
	want("a.example.com", "b.example.com");
	wait_until(names_settled(names), 2000);
	want("b.example.com", NULL);
	cr_assert_str_eq(known("a.example.com"), "");
	cr_assert_str_eq(known("b.example.com"), "192.0.2.2");
	cr_assert_eq(names_status(names, NULL, 0), 1);
}

Test(names, name_dropped_while_it_is_asked_is_never_reported)
{
	zone("a.example.com", TYPE_A, 60, "192.0.2.1");
	loop_unwatch(loop, server.fd);
	start();
	want("a.example.com", NULL);
	run_for(50);
	want(NULL, NULL);
	cr_assert(names_settled(names));
	loop_watch(loop, server.fd, EPOLLIN, serve, NULL);
	run_for(200);
	cr_assert_eq(server.asked, 2);
	cr_assert_eq(changes, 0);
}

static void want_nothing(void *context, const char *host)
{
	(void)context;
	(void)host;
	changes++;
	want(NULL, NULL);
}

Test(names, callback_may_change_what_is_wanted)
{
	zone("a.example.com", TYPE_A, 60, "192.0.2.1");
	zone("a.example.com", TYPE_AAAA, 60, "2001:db8::1");
	options.changed = want_nothing;
	start();
	want("a.example.com", NULL);
	wait_until(changes == 1, 2000);
	run_for(100);
	cr_assert_eq(changes, 1);
}

Test(names, can_be_freed_while_asking)
{
	record_set("a.example.com", TYPE_A)->silent = true;
	start();
	want("a.example.com", "b.example.com");
	run_for(50);
}

/* ---- files ---- */

Test(names, hosts_file_comes_before_dns)
{
	char path[64];

	snprintf(path, sizeof(path), "%s/hosts", directory);
	write_file(path, "192.0.2.77 www.example.com\n");
	cr_assert_eq(mount(path, "/etc/hosts", NULL, MS_BIND, NULL), 0);
	zone("www.example.com", TYPE_A, 60, "192.0.2.1");
	zone("www.example.com", TYPE_AAAA, 60, "2001:db8::1");
	want_answered("www.example.com");
	cr_assert_str_eq(known("www.example.com"), "192.0.2.77");
	cr_assert_eq(server.asked, 0);
}

Test(names, search_list_is_not_used)
{
	write_file(resolv_conf, "nameserver 127.0.0.1\nsearch evil.example\noptions ndots:5\n");
	zone("www.example.com.evil.example", TYPE_A, 60, "192.0.2.66");
	want_answered("www.example.com");
	cr_assert_str_eq(known("www.example.com"), "");
}

Test(names, changed_resolv_conf_is_followed)
{
	write_file(resolv_conf, "nameserver 127.0.0.2\n");
	zone("www.example.com", TYPE_A, 60, "192.0.2.1");
	want_answered("www.example.com");
	cr_assert_str_eq(known("www.example.com"), "");
	write_file(resolv_conf, "# moved\nnameserver 127.0.0.1\n");
	wait_until(is_known("www.example.com", "192.0.2.1"), 5000);
}

static const char *resolvers_in(const char *text)
{
	static char list[256];
	uint8_t addresses[3][16];
	size_t count, used = 0;
	char one[SLUICE_PREFIX_TEXT];

	write_file(resolv_conf, text);
	cr_assert_eq(names_resolvers(resolv_conf, addresses, 3, &count), 0);
	list[0] = 0;
	for (size_t i = 0; i < count; i++)
		used += (size_t)snprintf(list + used, sizeof(list) - used, "%s%s", i ? " " : "", format_address(one, addresses[i]));
	return list;
}

Test(names, resolvers_of_a_resolv_conf)
{
	cr_assert_str_eq(resolvers_in("search a\nnameserver 10.0.0.1\n\tnameserver\t::1 # here\n"), "10.0.0.1 ::1");
	cr_assert_str_eq(resolvers_in("#nameserver 10.0.0.9\n;nameserver 10.0.0.9\nnameserver\nnameserver x\nnameservers 1.1.1.1\n"),
			 "127.0.0.1");
	cr_assert_str_eq(resolvers_in("nameserver fe80::1%eth0\nnameserver 10.0.0.1\nnameserver 10.0.0.1"), "fe80::1 10.0.0.1");
	cr_assert_str_eq(resolvers_in("nameserver 1.0.0.1\nnameserver 1.0.0.2\nnameserver 1.0.0.3\nnameserver 1.0.0.4\n"),
			 "1.0.0.1 1.0.0.2 1.0.0.3");
	unlink(resolv_conf);
	cr_assert_eq(names_resolvers(resolv_conf, NULL, 0, NULL), -ENOENT);
}

/* ---- the schedule ---- */

Test(schedule, first_is_always_the_earliest)
{
	static struct schedule_entry entries[500];
	struct schedule schedule = {0};
	uint64_t last = 0;

	srandom(1);
	for (unsigned i = 0; i < 5000; i++) {
		struct schedule_entry *entry = &entries[random() % 500];

		if (random() % 4)
			schedule_set(&schedule, entry, (uint64_t)random() % 1000);
		else
			schedule_remove(&schedule, entry);
	}
	for (size_t left = schedule.count; left; left--) {
		struct schedule_entry *first = schedule_first(&schedule);

		cr_assert_geq(first->at_ms, last);
		last = first->at_ms;
		schedule_remove(&schedule, first);
		cr_assert_eq(first->place, 0);
	}
	cr_assert_null(schedule_first(&schedule));
	schedule_fini(&schedule);
}
