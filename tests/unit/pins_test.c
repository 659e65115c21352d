// SPDX-License-Identifier: Apache-2.0
/* The pinned maps as readers see them: maps made here, in a bpffs of their own. Runs as root. */
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <unistd.h>

#include "addr.h"
#include "command/flow_print.h"
#include "kernel/pins.h"

static char scratch[] = "/tmp/sluice-pins-XXXXXX";
static int maps[PIN_COUNT];

static const struct {
	const char *name;
	enum bpf_map_type type;
	__u32 key_size, value_size, entries, flags;
} wanted[PIN_COUNT] = {
	[PIN_STATE] = {"state", BPF_MAP_TYPE_ARRAY, 4, sizeof(struct state), 1, 0},
	[PIN_INTERCEPT] = {"intercept", BPF_MAP_TYPE_LPM_TRIE, sizeof(struct cidr_key), sizeof(struct cidr_value), 8, BPF_F_NO_PREALLOC},
	[PIN_BYPASS] = {"bypass", BPF_MAP_TYPE_LPM_TRIE, sizeof(struct cidr_key), sizeof(struct cidr_value), 8, BPF_F_NO_PREALLOC},
	[PIN_SERVICES] = {"services", BPF_MAP_TYPE_LPM_TRIE, sizeof(struct service_key), sizeof(struct service_value), 8, BPF_F_NO_PREALLOC},
	[PIN_PORTS] = {"ports", BPF_MAP_TYPE_HASH, sizeof(struct port_key), sizeof(struct port_value), 8, 0},
	[PIN_RULE_SETS] = {"rule_sets", BPF_MAP_TYPE_HASH, 4, sizeof(struct rule_set), 8, 0},
	[PIN_ASSIGNMENTS] = {"assignments", BPF_MAP_TYPE_HASH, 4, 4, 8, 0},
	[PIN_CATALOG] = {"catalog", BPF_MAP_TYPE_HASH, 4, sizeof(struct catalog_value), 8, 0},
	[PIN_CGROUPS] = {"cgroups", BPF_MAP_TYPE_HASH, 8, sizeof(struct cgroup_value), 8, 0},
	[PIN_WORKLOADS] = {"workloads", BPF_MAP_TYPE_HASH, 4, sizeof(struct workload_value), 8, 0},
	[PIN_NETNS] = {"netns", BPF_MAP_TYPE_HASH, 8, sizeof(struct netns_value), 8, 0},
	[PIN_DEVICES] = {"devices", BPF_MAP_TYPE_HASH, 4, sizeof(struct device_value), 8, 0},
	[PIN_COUNTERS] = {"counters", BPF_MAP_TYPE_PERCPU_HASH, sizeof(struct counter_key), 8, 8, 0},
	[PIN_FLOWS] = {"flows", BPF_MAP_TYPE_ARRAY, 4, sizeof(struct flow_event), SLUICE_FLOW_SLOTS, BPF_F_MMAPABLE},
	[PIN_FLOW_HEAD] = {"flow_head", BPF_MAP_TYPE_ARRAY, 4, 8, 1, BPF_F_MMAPABLE},
};

static void pin_map(unsigned int i, __u32 value_size)
{
	LIBBPF_OPTS(bpf_map_create_opts, options, .map_flags = wanted[i].flags);
	char path[64];

	maps[i] = bpf_map_create(wanted[i].type, wanted[i].name, wanted[i].key_size, value_size, wanted[i].entries, &options);
	cr_assert_geq(maps[i], 0, "map %s: %s", wanted[i].name, strerror(errno));
	snprintf(path, sizeof(path), "%s/%s", scratch, wanted[i].name);
	unlink(path);
	cr_assert_eq(bpf_obj_pin(maps[i], path), 0, "%s: %s", path, strerror(errno));
}

static void put(enum pinned_map map, const void *key, const void *value)
{
	cr_assert_eq(bpf_map_update_elem(maps[map], key, value, BPF_ANY), 0, "%s: %s", wanted[map].name, strerror(errno));
}

static void put_state(__u32 abi, __u64 generation)
{
	struct state state = {.abi = abi, .generation = generation};
	__u32 zero = 0;

	put(PIN_STATE, &zero, &state);
}

static void mount_scratch(void)
{
	if (geteuid() != 0)
		cr_skip_test("needs root");
	cr_assert_not_null(mkdtemp(scratch));
	cr_assert_eq(mount("bpf", scratch, "bpf", 0, NULL), 0, "mount: %s", strerror(errno));
}

static void pin_all(void)
{
	mount_scratch();
	for (unsigned int i = 0; i < PIN_COUNT; i++)
		pin_map(i, wanted[i].value_size);
	put_state(SLUICE_ABI, 7);
}

static void unmount_scratch(void)
{
	umount2(scratch, MNT_DETACH);
	rmdir(scratch);
}

static struct pins *open_pins(void)
{
	struct pins *pins = NULL;
	char why[256] = "";

	cr_assert_eq(pins_open(&pins, scratch, why, sizeof(why)), 0, "%s", why);
	return pins;
}

static void expect_error(int error, const char *text)
{
	struct pins *pins;
	char why[256] = "";

	cr_assert_eq(pins_open(&pins, scratch, why, sizeof(why)), error);
	cr_assert_not_null(strstr(why, text), "%s", why);
}

TestSuite(pins, .init = pin_all, .fini = unmount_scratch);
TestSuite(no_pins, .init = mount_scratch, .fini = unmount_scratch);

Test(no_pins, a_directory_without_pins_is_not_an_installation)
{
	expect_error(-ENOENT, "nothing is pinned");
}

Test(pins, another_abi_is_refused)
{
	put_state(SLUICE_ABI + 1, 7);
	expect_error(-EPROTO, "another version");
}

Test(pins, a_map_of_another_layout_is_refused)
{
	pin_map(PIN_CGROUPS, sizeof(struct cgroup_value) + 8);
	expect_error(-EPROTO, "another version");
}

Test(pins, before_the_first_generation_its_tables_are_empty)
{
	const struct tables *tables;
	struct pins *pins;
	char path[64];

	for (unsigned int i = PIN_INTERCEPT; i <= PIN_CATALOG; i++) {
		snprintf(path, sizeof(path), "%s/%s", scratch, wanted[i].name);
		unlink(path);
	}
	put_state(SLUICE_ABI, 0);
	pins = open_pins();
	tables = pins_tables(pins);
	cr_assert_eq(pins_state(pins)->generation, 0);
	cr_assert_null(lookup_rule_set(tables, 1));
	pins_close(pins);
}

Test(pins, a_reader_cannot_write)
{
	struct bpf_map_info info = {0};
	__u32 size = sizeof(info), zero = 0;
	struct pins *pins = open_pins();
	struct state state = {0};
	int state_map = -1;

	for (int fd = 3; fd < 64; fd++) {
		memset(&info, 0, sizeof(info));
		size = sizeof(info);
		if (fd != maps[PIN_STATE] && !bpf_obj_get_info_by_fd(fd, &info, &size) && !strcmp(info.name, "state"))
			state_map = fd;
	}
	cr_assert_geq(state_map, 0);
	cr_assert_neq(bpf_map_update_elem(state_map, &zero, &state, BPF_ANY), 0);
	cr_assert_eq(errno, EPERM);
	pins_close(pins);
}

Test(pins, the_longest_prefix_decides)
{
	struct cidr_key key = {.interception = 3};
	struct pins *pins = open_pins();
	const struct cidr_value *found;

	key.prefixlen = CIDR_KEY_FIXED_BITS + 96 + 8;
	addr_from_v4(key.addr, (const __u8[]){10, 0, 0, 0});
	put(PIN_BYPASS, &key, &(struct cidr_value){"10.0.0.0/8"});
	key.prefixlen = CIDR_KEY_FIXED_BITS + 96 + 16;
	addr_from_v4(key.addr, (const __u8[]){10, 1, 0, 0});
	put(PIN_BYPASS, &key, &(struct cidr_value){"10.1.0.0/16"});
	key.prefixlen = CIDR_KEY_FIXED_BITS + 128;
	addr_from_v4(key.addr, (const __u8[]){10, 1, 2, 3});
	found = lookup_bypass(pins_tables(pins), &key);
	cr_assert_not_null(found);
	cr_assert_str_eq(found->prefix, "10.1.0.0/16");
	key.interception = 4;
	cr_assert_null(lookup_bypass(pins_tables(pins), &key));
	pins_close(pins);
}

static void sum_ids(void *context, const void *key, const void *value)
{
	__u32 id;

	(void)value;
	memcpy(&id, key, sizeof(id));
	*(__u32 *)context = *(__u32 *)context * 10 + 1;
	cr_assert(id >= 1 && id <= 3);
}

Test(pins, every_entry_is_visited_once)
{
	struct workload_value who = {.name = "default/web"};
	struct pins *pins = open_pins();
	__u32 visits = 0;

	for (__u32 id = 1; id <= 3; id++)
		put(PIN_WORKLOADS, &id, &who);
	pins_each(pins, PIN_WORKLOADS, sum_ids, &visits);
	cr_assert_eq(visits, 111);
	pins_close(pins);
}

struct churn {
	unsigned int visits;
};

/* Deletes what is being visited, and adds it again: a walk over a hash then begins anew. */
static void churn(void *context, const void *key, const void *value)
{
	struct churn *state = context;

	if (++state->visits > 100)
		return;
	bpf_map_delete_elem(maps[PIN_WORKLOADS], key);
	bpf_map_update_elem(maps[PIN_WORKLOADS], (const __u32[]){100 + state->visits}, value, BPF_ANY);
}

Test(pins, a_walk_ends_though_entries_come_and_go)
{
	struct workload_value who = {.name = "default/web"};
	struct pins *pins = open_pins();
	struct churn state = {0};
	__u32 id = 1;

	put(PIN_WORKLOADS, &id, &who);
	pins_each(pins, PIN_WORKLOADS, churn, &state);
	cr_assert_leq(state.visits, wanted[PIN_WORKLOADS].entries);
	pins_close(pins);
}

static void keep_count(void *context, const struct counter_key *key, __u64 count)
{
	cr_assert_eq(key->verdict, VERDICT_DENY);
	*(__u64 *)context = count;
}

Test(pins, counters_are_sums_over_cpus)
{
	struct counter_key key = {.verdict = VERDICT_DENY, .reason = REASON_NOT_REGISTERED};
	int cpus = libbpf_num_possible_cpus();
	__u64 *counts = calloc((size_t)cpus, sizeof(*counts)), total = 0;
	struct pins *pins = open_pins();

	for (int i = 0; i < cpus; i++)
		counts[i] = 5;
	put(PIN_COUNTERS, &key, counts);
	pins_each_counter(pins, keep_count, &total);
	cr_assert_eq(total, 5ULL * (unsigned int)cpus);
	free(counts);
	pins_close(pins);
}

Test(pins, a_link_that_is_not_pinned_is_not_attached)
{
	struct pins *pins = open_pins();
	__u64 cgroup;

	cr_assert_eq(pins_link(pins, "connect4", &cgroup), -ENOENT);
	pins_close(pins);
}

Test(pins, the_ring_of_flows_is_mapped)
{
	struct flow_event event = {.seq = 1, .port = 443};
	struct pins *pins = open_pins();
	const struct flow_event *ring;
	const __u64 *head;
	__u32 zero = 0, one = 1;
	__u64 next = 2;

	put(PIN_FLOWS, &one, &event);
	put(PIN_FLOW_HEAD, &zero, &next);
	cr_assert_eq(pins_map_flows(pins, &ring, &head), 0);
	cr_assert_eq(*head, 2);
	cr_assert_eq(ring[1].port, 443);
	pins_close(pins);
}

/* ---- the ring, as flows_read() sees it ---- */

static struct flow_event ring[SLUICE_FLOW_SLOTS];
static __u64 head;

static void write_events(__u64 from, __u64 to)
{
	for (__u64 seq = from; seq < to; seq++)
		ring[seq % SLUICE_FLOW_SLOTS] = (struct flow_event){.seq = seq, .port = (__u16)seq};
	head = to;
}

struct seen {
	__u64 count, first, last;
};

static void see(void *context, const struct flow_event *event)
{
	struct seen *seen = context;

	if (!seen->count++)
		seen->first = event->seq;
	else
		cr_assert_gt(event->seq, seen->last);
	seen->last = event->seq;
}

static __u64 read_ring(__u64 *next, struct seen *seen)
{
	*seen = (struct seen){0};
	return flows_read(ring, &head, next, see, seen);
}

Test(flows, come_oldest_first_and_once)
{
	struct seen seen;
	__u64 next = 1;

	write_events(1, 4);
	cr_assert_eq(read_ring(&next, &seen), 0);
	cr_assert(seen.count == 3 && seen.first == 1 && seen.last == 3);
	cr_assert_eq(read_ring(&next, &seen), 0);
	cr_assert_eq(seen.count, 0);
	write_events(4, 5);
	cr_assert_eq(read_ring(&next, &seen), 0);
	cr_assert(seen.count == 1 && seen.first == 4);
}

Test(flows, that_were_overwritten_unread_are_counted)
{
	struct seen seen;
	__u64 next = 1;

	write_events(1, SLUICE_FLOW_SLOTS + 11);
	cr_assert_eq(read_ring(&next, &seen), 10);
	cr_assert(seen.count == SLUICE_FLOW_SLOTS && seen.first == 11);
}

Test(flows, that_no_writer_finished_are_lost_but_not_waited_for_without_end)
{
	struct seen seen;
	__u64 next = 1;

	write_events(1, 4);
	ring[2].seq = 0;
	cr_assert_eq(read_ring(&next, &seen), 1);
	cr_assert_eq(seen.count, 2);
}

Test(flows, that_a_later_event_is_replacing_are_lost)
{
	struct seen seen;
	__u64 next = 1;

	write_events(1, 4);
	ring[2].seq = 2 + SLUICE_FLOW_SLOTS;
	cr_assert_eq(read_ring(&next, &seen), 1);
	cr_assert_eq(seen.count, 2);
}

Test(flows, start_over_with_a_new_ring)
{
	struct seen seen;
	__u64 next = 500;

	write_events(1, 4);
	cr_assert_eq(read_ring(&next, &seen), 0);
	cr_assert_eq(seen.count, 3);
}

static void check_terminated(void *context, const struct flow_event *event)
{
	++*(int *)context;
	cr_assert_lt(strnlen(event->host, sizeof(event->host)), sizeof(event->host));
	cr_assert_lt(strnlen(event->comm, sizeof(event->comm)), sizeof(event->comm));
	cr_assert_lt(strnlen(event->name, sizeof(event->name)), sizeof(event->name));
}

Test(flows, always_end_their_strings)
{
	__u64 next = 1;
	int count = 0;

	write_events(1, 2);
	memset(ring[1].host, 'h', sizeof(ring[1].host));
	memset(ring[1].comm, 'c', sizeof(ring[1].comm));
	memset(ring[1].name, 'n', sizeof(ring[1].name));
	flows_read(ring, &head, &next, check_terminated, &count);
	cr_assert_eq(count, 1);
}

Test(flows, cannot_send_escape_sequences_to_a_terminal)
{
	char out[16];

	cr_assert_str_eq(printable(out, sizeof(out), "a\033[2Jb\n"), "a?[2Jb?");
	cr_assert_str_eq(printable(out, sizeof(out), "\x9b" "2J\xc2\x9b"), "?2J??");
	cr_assert_str_eq(printable(out, 4, "abcdef"), "abc");
}
