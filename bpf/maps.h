/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * Every map of sluice. What a map holds is in include/abi.h. The program files are compiled as one unit (Makefile),
 * so that they share these: libbpf 1.1's linker cannot merge map-in-map definitions.
 */
#ifndef SLUICE_MAPS_H
#define SLUICE_MAPS_H

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include "abi.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/*
 * One generation's tables: two slots, the live one is generation & 1. User space makes the inner maps after the
 * template, which is never created itself: it is a map of its own only because clang emits the whole key and value
 * types of no inner definition.
 */
#define GENERATION_MAP(name_, type_, key_, value_)                \
	struct name_##_map {                                      \
		__uint(type, type_);                              \
		__uint(map_flags, BPF_F_NO_PREALLOC);             \
		__uint(max_entries, 1);                           \
		__type(key, key_);                                \
		__type(value, value_);                            \
	} name_##_template SEC(".maps");                          \
	struct {                                                  \
		__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);         \
		__uint(max_entries, 2);                           \
		__type(key, __u32);                               \
		__array(values, struct name_##_map);              \
	} name_##_slots SEC(".maps")

GENERATION_MAP(intercept, BPF_MAP_TYPE_LPM_TRIE, struct cidr_key, struct cidr_value);
GENERATION_MAP(bypass, BPF_MAP_TYPE_LPM_TRIE, struct cidr_key, struct cidr_value);
GENERATION_MAP(services, BPF_MAP_TYPE_LPM_TRIE, struct service_key, struct service_value);
GENERATION_MAP(ports, BPF_MAP_TYPE_HASH, struct port_key, struct port_value);
GENERATION_MAP(names, BPF_MAP_TYPE_LPM_TRIE, struct name_key, struct name_value);
GENERATION_MAP(rule_sets, BPF_MAP_TYPE_HASH, __u32, struct rule_set);
GENERATION_MAP(assignments, BPF_MAP_TYPE_HASH, __u32, __u32);
GENERATION_MAP(catalog, BPF_MAP_TYPE_HASH, __u32, struct catalog_value);

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct state);
} state SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, SLUICE_MAX_WORKLOADS);
	__type(key, __u64);
	__type(value, struct cgroup_value);
} cgroups SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, SLUICE_MAX_WORKLOADS);
	__type(key, __u32);
	__type(value, struct workload_value);
} workloads SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, SLUICE_MAX_NETNS);
	__type(key, __u64);
	__type(value, struct netns_value);
} netns SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, SLUICE_MAX_NETNS);
	__type(key, __u32);
	__type(value, struct device_value);
} devices SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, SLUICE_MAX_SOURCES);
	__type(key, struct source_key);
	__type(value, __u64);
} sources SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, SLUICE_MAX_EXCHANGES);
	__type(key, struct exchange_key);
	__type(value, struct exchange_value);
} exchanges SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, SLUICE_MAX_DRAINING);
	__type(key, struct exchange_key);
	__type(value, __u64);
} draining SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, SLUICE_MAX_HELLOS);
	__type(key, struct hello_key);
	__type(value, struct hello_value);
} hellos SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, SLUICE_MAX_UNREADABLE);
	__type(key, struct unreadable_key);
	__type(value, __u64);
} unreadable SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, SLUICE_MAX_OWNERS);
	__type(key, struct owner_key);
	__type(value, struct owner_value);
} owners SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, SLUICE_MAX_FRAGMENTS);
	__type(key, struct fragment_key);
	__type(value, __u64);
} fragments SEC(".maps");

/* Inherited by accepted sockets (BPF_F_CLONE): that is how the origdst program knows sluice's own. */
struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC | BPF_F_CLONE);
	__type(key, int);
	__type(value, struct socket_mark);
} marks SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct flow_record);
} redirected SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct flow_record);
} accepted SEC(".maps");

/* LRU: an entry lives from the client's SYN until its connection is accepted; losing one closes that connection. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, SLUICE_MAX_HANDOVER);
	__type(key, struct handover_key);
	__type(value, struct flow_record);
} handover SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, SLUICE_MAX_UDP_PEERS);
	__type(key, struct udp_peer_key);
	__type(value, struct udp_peer_value);
} udp_peers SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, SLUICE_MAX_COUNTERS);
	__type(key, struct counter_key);
	__type(value, __u64);
} counters SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, SLUICE_FLOW_SLOTS);
	__type(key, __u32);
	__type(value, struct flow_event);
} flows SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} flow_head SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 65536);
} requests SEC(".maps");

#endif
