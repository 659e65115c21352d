/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* What the socket hooks share: who the workload is, which tables decide, and the record of what was decided. */
#ifndef SLUICE_JUDGE_H
#define SLUICE_JUDGE_H

#include <linux/bpf.h>
#include <linux/in.h>
#include <linux/in6.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "addr.h"
#include "maps.h"

#define EADDRINUSE 98
#define ECONNREFUSED 111
#define AF_INET 2
#define AF_INET6 10
#define IPPROTO_MPTCP_ 262

/* The inner maps of one generation. */
struct tables {
	void *intercept;
	void *bypass;
	void *services;
	void *ports;
	void *names;
	void *rule_sets;
	void *assignments;
};

SLUICE_INLINE const struct rule_set *lookup_rule_set(const struct tables *t, __u32 id);
SLUICE_INLINE const struct cidr_value *lookup_intercept(const struct tables *t, const struct cidr_key *key);
SLUICE_INLINE const struct cidr_value *lookup_bypass(const struct tables *t, const struct cidr_key *key);
SLUICE_INLINE const struct service_value *lookup_service(const struct tables *t, const struct service_key *key);
SLUICE_INLINE const struct port_value *lookup_port(const struct tables *t, const struct port_key *key);

#include "verdict.h"

SLUICE_INLINE const struct rule_set *lookup_rule_set(const struct tables *t, __u32 id)
{
	return bpf_map_lookup_elem(t->rule_sets, &id);
}

SLUICE_INLINE const struct cidr_value *lookup_intercept(const struct tables *t, const struct cidr_key *key)
{
	return bpf_map_lookup_elem(t->intercept, key);
}

SLUICE_INLINE const struct cidr_value *lookup_bypass(const struct tables *t, const struct cidr_key *key)
{
	return bpf_map_lookup_elem(t->bypass, key);
}

SLUICE_INLINE const struct service_value *lookup_service(const struct tables *t, const struct service_key *key)
{
	return bpf_map_lookup_elem(t->services, key);
}

SLUICE_INLINE const struct port_value *lookup_port(const struct tables *t, const struct port_key *key)
{
	return bpf_map_lookup_elem(t->ports, key);
}

/* All tables of the live generation, or nothing: a missing one must not read as "no match". */
SLUICE_INLINE int tables_open(struct tables *t, const struct state *now)
{
	__u32 slot = now->generation & 1;

	t->intercept = bpf_map_lookup_elem(&intercept_slots, &slot);
	t->bypass = bpf_map_lookup_elem(&bypass_slots, &slot);
	t->services = bpf_map_lookup_elem(&services_slots, &slot);
	t->ports = bpf_map_lookup_elem(&ports_slots, &slot);
	t->names = bpf_map_lookup_elem(&names_slots, &slot);
	t->rule_sets = bpf_map_lookup_elem(&rule_sets_slots, &slot);
	t->assignments = bpf_map_lookup_elem(&assignments_slots, &slot);
	return now->generation && t->intercept && t->bypass && t->services && t->ports && t->names && t->rule_sets && t->assignments;
}

SLUICE_INLINE const struct state *state_now(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&state, &zero);
}

/* The governed cgroup of the current task: the deepest registered ancestor. `*id` is its id. NULL: not governed. */
SLUICE_INLINE const struct cgroup_value *governing_cgroup(__u64 *id)
{
	const struct cgroup_value *deepest = 0;

	*id = bpf_get_current_cgroup_id();
	deepest = bpf_map_lookup_elem(&cgroups, id);
	if (deepest)
		return deepest;
	/* From the top, so that a cgroup nested deeper than we look is still under the ancestors that we see. */
	for (int level = 1; level <= SLUICE_CGROUP_LEVELS; level++) {
		__u64 ancestor = bpf_get_current_ancestor_cgroup_id(level);
		const struct cgroup_value *found;

		if (!ancestor)
			break;
		found = bpf_map_lookup_elem(&cgroups, &ancestor);
		if (found) {
			deepest = found;
			*id = ancestor;
		}
	}
	return deepest;
}

/* Who a flow belongs to. By cgroup, by network namespace, or by both; then the more severe verdict wins. */
struct identity {
	const struct cgroup_value *cgroup;   /* NULL: none */
	const struct netns_value *namespace; /* NULL: none, or the namespace is no identity */
	const struct netns_value *listener;  /* what is known of this namespace, identity or not */
	__u64 cgroup_id;
};

SLUICE_INLINE int identify(struct identity *who, __u64 cookie)
{
	who->cgroup = governing_cgroup(&who->cgroup_id);
	who->listener = bpf_map_lookup_elem(&netns, &cookie);
	who->namespace = who->listener;
	if (who->namespace && (who->namespace->is_host || !who->namespace->is_identity))
		who->namespace = 0;
	return who->cgroup || who->namespace;
}

struct judgement {
	struct decision decision;
	__u32 workload;
	__u32 rule_set;
	__u8 audit;
};

/* The rules of a workload: its own assignment, else the node's default. */
SLUICE_INLINE const struct rule_set *rules_of(const struct tables *t, __u32 workload, __u32 *id)
{
	__u32 node_default = 0;
	const __u32 *assigned = bpf_map_lookup_elem(t->assignments, &workload);

	if (!assigned)
		assigned = bpf_map_lookup_elem(t->assignments, &node_default);
	if (!assigned)
		return 0;
	*id = *assigned;
	return lookup_rule_set(t, *assigned);
}

/* The rules in force for a workload. NULL: there are none; `reason` tells why. */
SLUICE_INLINE const struct rule_set *rules_in_force(struct tables *t, __u32 workload, struct judgement *out, __u8 *reason)
{
	const struct state *now = state_now();
	const struct rule_set *rules;

	out->workload = workload;
	out->rule_set = 0;
	out->audit = 0;
	*reason = REASON_NO_GENERATION;
	if (!now || !tables_open(t, now))
		return 0;
	*reason = workload == WORKLOAD_CLOSED ? REASON_MAP_FULL : REASON_NO_RULE_SET;
	rules = workload == WORKLOAD_CLOSED ? 0 : rules_of(t, workload, &out->rule_set);
	if (rules)
		out->audit = rules->audit;
	return rules;
}

SLUICE_INLINE int words_equal(const void *a, const void *b, const __u32 words)
{
	const __u32 *x = a, *y = b;
	__u32 difference = 0;

	for (__u32 i = 0; i < words; i++)
		difference |= x[i] ^ y[i];
	return !difference;
}

/* Before the tables are looked at: they may be newer than it, never older. */
SLUICE_INLINE __u64 epoch_now(const struct state *now)
{
	return *(const volatile __u64 *)&now->epoch;
}

/*
 * Entries of per-CPU caches: `sequence` is odd while one is written, so that a program that runs in an interrupt finds no
 * half of it. False: this is such an interrupt, whose writer is to finish.
 */
SLUICE_INLINE int entry_begin(__u32 *sequence)
{
	__u32 even = *sequence & ~1U;

	return __sync_val_compare_and_swap(sequence, even, even + 1) == even;
}

SLUICE_INLINE void entry_end(__u32 *sequence)
{
	barrier();
	__sync_fetch_and_add(sequence, 1);
}

/* Per-CPU array `judgements`: what the tables said of the same flow a moment ago. */
#define JUDGEMENT_SLOTS 1024

struct cached_judgement {
	__u32 sequence; /* entry_begin(); 0: none yet */
	__u32 upstream;
	__u64 epoch; /* state.epoch */
	struct flow flow;
	__u32 workload;
	struct judgement judgement;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, JUDGEMENT_SLOTS);
	__type(key, __u32);
	__type(value, struct cached_judgement);
} judgements SEC(".maps");

SLUICE_INLINE struct cached_judgement *judgement_slot(const struct flow *flow, __u32 workload)
{
	__u64 words[2];
	__u32 slot;

	__builtin_memcpy(words, flow->addr, 16);
	words[0] ^= words[1] * 0x9e3779b97f4a7c15ULL;
	words[0] = (words[0] ^ ((__u64)workload << 32 | (__u32)flow->protocol << 16 | flow->port)) * 0x94d049bb133111ebULL;
	slot = words[0] >> 54;
	return bpf_map_lookup_elem(&judgements, &slot);
}

SLUICE_INLINE int judgement_get(const volatile struct cached_judgement *slot, __u64 epoch, const struct flow *flow,
				__u32 workload, int upstream, struct judgement *out)
{
	__u32 sequence = slot->sequence;

	/* The canary asks the tables. */
	if (!sequence || (sequence & 1) || slot->epoch != epoch || slot->workload != workload || workload == WORKLOAD_CANARY ||
	    slot->upstream != (__u32)upstream || !words_equal((const void *)&slot->flow, flow, sizeof(*flow) / 4))
		return 0;
	*out = *(const struct judgement *)&slot->judgement;
	barrier();
	return slot->sequence == sequence;
}

SLUICE_INLINE void judgement_put(struct cached_judgement *slot, __u64 epoch, const struct flow *flow, __u32 workload,
				 int upstream, const struct judgement *judgement)
{
	if (!entry_begin(&slot->sequence))
		return;
	slot->upstream = (__u32)upstream;
	slot->epoch = epoch;
	slot->flow = *flow;
	slot->workload = workload;
	slot->judgement = *judgement;
	entry_end(&slot->sequence);
}

/*
 * Returns the verdict. Global functions are verified once, by themselves, whoever calls them: inlined into each path of
 * a packet program this would be too much for the verifier. The price is that it wants to see pointers checked.
 */
__noinline int judge_workload(const struct flow *flow, __u32 workload, int upstream, struct judgement *out)
{
	const struct state *now = state_now();
	struct cached_judgement *slot;
	const struct rule_set *rules;
	struct tables t;
	__u64 epoch;
	__u8 reason;

	if (!flow || !out)
		return VERDICT_DENY;
	if (addr_is_loopback(flow->addr) && !upstream) {
		out->workload = workload;
		out->rule_set = 0;
		out->audit = 0;
		out->decision = decide(VERDICT_BYPASS, REASON_LOOPBACK, 0);
		return VERDICT_BYPASS;
	}
	slot = judgement_slot(flow, workload);
	if (!slot || !now) {
		out->decision = decide(VERDICT_DENY, REASON_NO_GENERATION, 0);
		return VERDICT_DENY;
	}
	epoch = epoch_now(now);
	if (judgement_get(slot, epoch, flow, workload, upstream, out))
		return out->decision.verdict;
	rules = rules_in_force(&t, workload, out, &reason);
	if (!rules) {
		out->decision = decide(VERDICT_DENY, reason, 0);
		return VERDICT_DENY;
	}
	out->decision = upstream ? verdict_upstream(&t, rules, flow, (__u16)now->redirector_port)
				 : verdict_judge(&t, rules, flow);
	judgement_put(slot, epoch, flow, workload, upstream, out);
	return out->decision.verdict;
}

/* The verdict for everybody the flow belongs to: where they disagree, the more severe one. */
SLUICE_INLINE void judge(const struct identity *who, const struct flow *flow, struct judgement *out)
{
	__u32 by_cgroup = who->cgroup ? who->cgroup->workload : 0;
	__u32 by_namespace = who->namespace ? who->namespace->workload : by_cgroup;
	int verdict;

	if (!who->cgroup)
		by_cgroup = by_namespace;
	verdict = judge_workload(flow, by_cgroup, 0, out);
	if (by_namespace != by_cgroup) {
		struct judgement other;
		int its = judge_workload(flow, by_namespace, 0, &other);

		if (its > verdict || (its == verdict && other.decision.check_name))
			*out = other;
	}
}

/* Turns a decision into another one where it cannot be carried out. */
SLUICE_INLINE void judge_instead(struct judgement *j, __u8 reason)
{
	struct rule_set rules = {.audit = j->audit};

	j->decision = verdict_unredirectable(&rules, j->decision, reason);
}

SLUICE_INLINE void count(const struct judgement *j)
{
	struct counter_key key = {j->workload, j->decision.verdict, j->decision.reason, 0, 0};
	__u64 *counter, one = 1;

	if (j->workload == WORKLOAD_CANARY)
		return; /* sluice's own doing is nobody's flow */
	counter = bpf_map_lookup_elem(&counters, &key);
	if (counter)
		*counter += 1;
	else
		bpf_map_update_elem(&counters, &key, &one, BPF_ANY);
}

/* An upstream socket's workload is not the current task's: only its id is at hand. */
SLUICE_INLINE void record_name_of(struct flow_event *event, __u32 workload)
{
	const struct workload_value *known = bpf_map_lookup_elem(&workloads, &workload);

	if (known)
		__builtin_memcpy(event->name, known->name, SLUICE_NAME_TEXT);
	else
		__builtin_memset(event->name, 0, SLUICE_NAME_TEXT);
}

/*
 * Appends to the ring of decisions. The sequence number is written last: a reader sees a whole entry or none.
 * `by_task`: the current task does it. (Where packets are seen it may be any.) `host`: the name shown, or NULL.
 */
SLUICE_INLINE void record_event(const struct identity *who, const struct flow *flow, const struct judgement *j,
				const int by_task, const char *host)
{
	const struct state *now = state_now();
	__u32 zero = 0, slot;
	__u64 *head = bpf_map_lookup_elem(&flow_head, &zero), seq;
	struct flow_event *event;

	if (!head || !now || j->workload == WORKLOAD_CANARY)
		return;
	seq = __sync_fetch_and_add(head, 1);
	slot = seq & (SLUICE_FLOW_SLOTS - 1);
	event = bpf_map_lookup_elem(&flows, &slot);
	if (!event)
		return;
	__sync_lock_test_and_set(&event->seq, 0);
	event->time = bpf_ktime_get_boot_ns();
	event->generation = now->generation;
	event->cgroup = who->cgroup ? who->cgroup_id : 0;
	event->workload = j->workload;
	event->service = j->decision.service;
	event->rule_set = j->rule_set;
	event->pid = by_task ? bpf_get_current_pid_tgid() >> 32 : 0;
	__builtin_memcpy(event->addr, flow->addr, 16);
	event->port = flow->port;
	event->protocol = flow->protocol;
	event->verdict = j->decision.verdict;
	event->reason = j->decision.reason;
	event->would_be = j->decision.would_be;
	event->by_redirector = 0;
	if (by_task)
		bpf_get_current_comm(event->comm, sizeof(event->comm));
	else
		__builtin_memset(event->comm, 0, sizeof(event->comm));
	if (who->cgroup)
		__builtin_memcpy(event->name, who->cgroup->name, SLUICE_NAME_TEXT);
	else if (who->namespace)
		__builtin_memcpy(event->name, who->namespace->name, SLUICE_NAME_TEXT);
	else
		record_name_of(event, j->workload);
	if (host)
		__builtin_memcpy(event->host, host, SLUICE_HOST_TEXT);
	else
		event->host[0] = 0;
	__sync_lock_test_and_set(&event->seq, seq);
}

SLUICE_INLINE void record(const struct identity *who, const struct flow *flow, const struct judgement *j)
{
	record_event(who, flow, j, 1, 0);
}

/* The protocol of a socket in the terms of the tables; MPTCP is TCP on the wire. */
SLUICE_INLINE __u8 flow_protocol(const struct bpf_sock_addr *ctx)
{
	__u32 protocol = ctx->protocol;

	if (protocol == IPPROTO_TCP || protocol == IPPROTO_MPTCP_)
		return SLUICE_TCP;
	if (protocol == IPPROTO_UDP || protocol == IPPROTO_UDPLITE)
		return SLUICE_UDP;
	return (__u8)protocol;
}

SLUICE_INLINE void flow_v4(struct flow *flow, const struct bpf_sock_addr *ctx)
{
	__u32 v4 = ctx->user_ip4;

	addr_from_v4(flow->addr, &v4);
	flow->port = bpf_ntohs((__u16)ctx->user_port);
	flow->protocol = flow_protocol(ctx);
	flow->pad = 0;
}

SLUICE_INLINE void flow_v6(struct flow *flow, const struct bpf_sock_addr *ctx)
{
	__u32 words[4] = {ctx->user_ip6[0], ctx->user_ip6[1], ctx->user_ip6[2], ctx->user_ip6[3]};

	__builtin_memcpy(flow->addr, words, 16);
	flow->port = bpf_ntohs((__u16)ctx->user_port);
	flow->protocol = flow_protocol(ctx);
	flow->pad = 0;
}

SLUICE_INLINE int refuse(void)
{
	bpf_set_retval(-ECONNREFUSED);
	return 0;
}

#endif
