/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * The one rule of guard and veth, on a packet's real destination (DESIGN §4). A packet passes if the verdict on it is
 * BYPASS, ALLOW or PASSTHROUGH; if it belongs to an exchange that the host's end of the link saw begin inbound; or if it
 * is of an open flow to an address that has left its name, or of one that may drain. What the kernel's own sockets send
 * (RST, the acknowledgement of a TIME_WAIT) has no owner any more: empty packets also pass where sluice itself dials.
 */
#ifndef SLUICE_ADMIT_H
#define SLUICE_ADMIT_H

#include "hellos.h"

#define CACHE_SLOTS 1024
#define RECORD_NS (1ULL * 1000000000ULL) /* at most one event about the same packets in this time */

/* On whose behalf a packet travels. */
struct subject {
	__u64 cgroup;  /* of its socket; 0: none */
	__u64 netns;   /* cookie */
	__u32 mark;    /* enum sluice_mark of its socket; 0: none */
	__u32 workload; /* of an UPSTREAM mark */
	__u32 device;  /* the host's end that it came in by; 0: seen at its socket */
	__u32 pad;
};

enum cached { CACHED_NOTHING = 0, CACHED_PASS = 1, CACHED_ASK = 2 /* the verdict denies it: look for another right */,
	      CACHED_NAME = 3 /* passes if it names a service */ };

/* Per-CPU array `verdict_cache`: what the tables said of the same packets a moment ago. */
struct cached_verdict {
	__u32 sequence; /* entry_begin() */
	__u32 outcome; /* enum cached */
	__u64 epoch;   /* state.epoch */
	struct subject subject;
	struct flow flow;
	__u8 source[16];  /* where `subject.device` checks it */
	__u32 workload;   /* that `outcome` was found for */
	__u64 recorded;   /* ns, CLOCK_BOOTTIME, of the last event about these packets */
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, CACHE_SLOTS);
	__type(key, __u32);
	__type(value, struct cached_verdict);
} verdict_cache SEC(".maps");

SLUICE_INLINE struct cached_verdict *cache_slot(const struct subject *s, const struct packet *p)
{
	__u64 words[2];
	__u32 slot;

	__builtin_memcpy(words, p->flow.addr, 16);
	words[0] ^= words[1] * 0x9e3779b97f4a7c15ULL;
	words[0] ^= (s->cgroup + s->netns * 31 + ((__u64)p->flow.port << 32 | s->device)) * 0xbf58476d1ce4e5b9ULL;
	words[0] *= 0x94d049bb133111ebULL;
	slot = words[0] >> 54;
	return bpf_map_lookup_elem(&verdict_cache, &slot);
}

_Static_assert(sizeof(struct subject) == 32 && sizeof(struct flow) == 20, "compared as words");

SLUICE_INLINE int cache_get(const volatile struct cached_verdict *slot, __u64 epoch, const struct subject *s,
			    const struct packet *p)
{
	__u32 sequence = slot->sequence;
	int outcome = (int)slot->outcome;

	/* The canary asks the tables. */
	if ((sequence & 1) || slot->epoch != epoch || slot->workload == WORKLOAD_CANARY || !words_equal((const void *)&slot->subject, s, 8) ||
	    !words_equal((const void *)&slot->flow, &p->flow, 5) ||
	    (s->device && !words_equal((const void *)slot->source, p->own, 4)))
		return CACHED_NOTHING;
	barrier();
	return slot->sequence == sequence ? outcome : CACHED_NOTHING;
}

SLUICE_INLINE void cache_put(struct cached_verdict *slot, __u64 epoch, const struct subject *s, const struct packet *p,
			     int outcome, __u32 workload)
{
	if (!entry_begin(&slot->sequence))
		return;
	slot->outcome = (__u32)outcome;
	slot->epoch = epoch;
	slot->subject = *s;
	slot->flow = p->flow;
	__builtin_memcpy(slot->source, p->own, 16);
	slot->workload = workload;
	slot->recorded = 0;
	entry_end(&slot->sequence);
}

/* ---- who ---- */

SLUICE_INLINE const struct cgroup_value *governing_cgroup_of(struct __sk_buff *skb, __u64 *id)
{
	const struct cgroup_value *deepest = bpf_map_lookup_elem(&cgroups, id);

	if (deepest)
		return deepest;
	for (int level = 1; level <= SLUICE_CGROUP_LEVELS; level++) {
		__u64 ancestor = bpf_skb_ancestor_cgroup_id(skb, level);
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

SLUICE_INLINE int identify_place(const struct subject *s, struct identity *who)
{
	__u64 cookie = s->netns;

	who->listener = bpf_map_lookup_elem(&netns, &cookie);
	who->namespace = who->listener;
	if (who->namespace && (who->namespace->is_host || !who->namespace->is_identity))
		who->namespace = 0;
	/* Behind a governed device nothing is ungoverned: what has no owner is the node's default's. */
	return who->cgroup || who->namespace || s->device;
}

/* Who the packet's socket, namespace or device belongs to. 0: nobody that is governed. */
static __noinline int identify_packet(struct __sk_buff *skb, const struct subject *s, struct identity *who)
{
	who->cgroup_id = s->cgroup;
	who->cgroup = s->cgroup ? governing_cgroup_of(skb, &who->cgroup_id) : 0;
	return identify_place(s, who);
}

/* The same where there is no packet to ask: `s->cgroup` is the governing one. */
static __noinline int identify_frame(const struct subject *s, struct identity *who)
{
	who->cgroup_id = s->cgroup;
	who->cgroup = bpf_map_lookup_elem(&cgroups, &who->cgroup_id);
	return identify_place(s, who);
}

/*
 * Per-CPU array `strangers`: cgroups and namespaces that nobody governs, so that the rest of the node pays no more than
 * one lookup for each packet.
 */
#define STRANGER_SLOTS 256

struct stranger {
	__u32 sequence; /* entry_begin() */
	__u32 pad;
	__u64 epoch;
	__u64 cgroup;
	__u64 netns;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, STRANGER_SLOTS);
	__type(key, __u32);
	__type(value, struct stranger);
} strangers SEC(".maps");

SLUICE_INLINE struct stranger *stranger_slot(const struct subject *s)
{
	__u32 slot = ((s->cgroup + s->netns * 31) * 0x9e3779b97f4a7c15ULL) >> 56;

	return bpf_map_lookup_elem(&strangers, &slot);
}

SLUICE_INLINE int is_stranger(const volatile struct stranger *slot, __u64 epoch, const struct subject *s)
{
	__u32 sequence = slot->sequence;
	int same = slot->epoch == epoch && slot->cgroup == s->cgroup && slot->netns == s->netns;

	barrier();
	return same && !(sequence & 1) && slot->sequence == sequence;
}

SLUICE_INLINE void remember_stranger(struct stranger *slot, __u64 epoch, const struct subject *s)
{
	if (!entry_begin(&slot->sequence))
		return;
	slot->epoch = epoch;
	slot->cgroup = s->cgroup;
	slot->netns = s->netns;
	entry_end(&slot->sequence);
}

SLUICE_INLINE void mark_of(struct __sk_buff *skb, struct subject *s)
{
	struct bpf_sock *sk = skb->sk;
	const struct socket_mark *mark;

	if (sk)
		sk = bpf_sk_fullsock(sk);
	if (!sk)
		return;
	mark = bpf_sk_storage_get(&marks, sk, 0, 0);
	if (!mark)
		return;
	s->mark = mark->mark;
	if (mark->mark == MARK_UPSTREAM)
		s->workload = mark->workload;
}

/* ---- what is recorded ---- */

/* One event a second about the same packets: a flood must not push all else out of the ring. */
SLUICE_INLINE int worth_recording(struct cached_verdict *slot)
{
	__u64 now = bpf_ktime_get_boot_ns();

	if (slot->recorded && now - slot->recorded < RECORD_NS)
		return 0;
	slot->recorded = now;
	return 1;
}

/*
 * Counts a denial, and records it now and then. Returns 1 if it passes all the same, because it is audited; of TCP and
 * UDP the socket's own hooks have recorded that already.
 */
static __noinline int deny_packet(const struct identity *who, const struct packet *p, struct judgement *j,
			      struct cached_verdict *slot)
{
	int denied;

	if (j->decision.verdict == VERDICT_REDIRECT)
		judge_instead(j, j->decision.reason);
	denied = j->decision.verdict == VERDICT_DENY;
	if (!denied && (p->protocol == SLUICE_TCP || p->protocol == SLUICE_UDP))
		return 1;
	count(j);
	if (worth_recording(slot))
		record_event(who, &p->flow, j, 0, 0);
	return !denied;
}

/* A packet that must not pass whatever the tables say, unless the policy only audits. */
__noinline int judge_malformed(__u32 workload, int reason, struct judgement *out)
{
	const struct rule_set *rules;
	struct tables t;
	__u8 none;

	if (!out)
		return VERDICT_DENY;
	rules = rules_in_force(&t, workload, out, &none);
	out->decision = rules ? decide_deny(rules, (__u8)reason, 0) : decide(VERDICT_DENY, (__u8)reason, 0);
	return out->decision.verdict;
}

/* ---- the rule ---- */

SLUICE_INLINE int passes(const struct judgement *j)
{
	return j->decision.verdict <= VERDICT_PASSTHROUGH;
}

SLUICE_INLINE int is_draining(const struct exchange_key *key)
{
	const struct state *current = state_now();
	__u64 now = bpf_ktime_get_boot_ns();
	const __u64 *until;

	if (!current || current->draining_until < now)
		return 0;
	until = bpf_map_lookup_elem(&draining, key);
	return until && *until > now;
}

enum begun { BEGUN_UNKNOWN, BEGUN_INBOUND, BEGUN_OUTBOUND };

/* Who began the exchange that a packet is of. */
SLUICE_INLINE int who_began(const struct exchange_key *key, const struct packet *p)
{
	const struct exchange_value *known = bpf_map_lookup_elem(&exchanges, key);
	__u64 life = p->protocol == SLUICE_TCP ? SLUICE_EXCHANGE_NS : SLUICE_UDP_PEER_NS;

	if (!known || bpf_ktime_get_boot_ns() - known->seen > life)
		return BEGUN_UNKNOWN;
	return known->inbound ? BEGUN_INBOUND : BEGUN_OUTBOUND;
}

enum former { FORMER_NOT = 0, FORMER_PASSES = 1, FORMER_NAME = 2 /* if the server has taken its name */ };

/* Whether an open flow goes to an address that a service's name once had. */
__noinline int was_admitted(const struct flow *flow, __u32 workload, int upstream)
{
	struct judgement unused;
	const struct rule_set *rules;
	struct tables t;
	__u8 reason;

	struct decision d;

	if (!flow)
		return FORMER_NOT;
	rules = rules_in_force(&t, workload, &unused, &reason);
	if (!rules)
		return FORMER_NOT;
	d = verdict_former(&t, rules, flow, upstream);
	return d.verdict != VERDICT_ALLOW ? FORMER_NOT : d.check_name ? FORMER_NAME : FORMER_PASSES;
}

SLUICE_INLINE int is_past_hello(__u64 cookie, const struct packet *p)
{
	int known = hello_state(cookie, p);

	return known < 0 || known == HELLO_CONFIRMED;
}

/* Another right than the verdict's. Returns the reason, or REASON_NONE. */
static __noinline __u8 other_right(const struct subject *s, const struct packet *p, __u32 workload)
{
	struct exchange_key key;
	struct judgement upstream;
	int begun;

	exchange_key_fill(&key, s->netns, p);
	if (p->opens) /* something new is nobody's answer */
		return REASON_NONE;
	begun = who_began(&key, p);
	if (begun == BEGUN_INBOUND)
		return REASON_INBOUND_ANSWER;
	if (begun == BEGUN_OUTBOUND || p->protocol == SLUICE_TCP) {
		int former = was_admitted(&p->flow, workload, s->mark == MARK_UPSTREAM || p->empty);

		if (former == FORMER_PASSES ||
		    (former == FORMER_NAME && (p->empty || hello_state(s->netns, p) == HELLO_CONFIRMED)))
			return REASON_FORMER_ADDRESS;
	}
	/* What was still to show its name when its policy went has no right to go on. */
	if (is_draining(&key) && (p->protocol != SLUICE_TCP || is_past_hello(s->netns, p)))
		return REASON_DRAINING;
	if ((p->empty || p->kind == PACKET_ERROR) && judge_workload(&p->flow, workload, 1, &upstream) != VERDICT_DENY)
		return REASON_UPSTREAM;
	return REASON_NONE;
}

static __noinline void judge_packet(const struct subject *s, const struct identity *who, const struct packet *p,
				struct judgement *j)
{
	if (s->mark == MARK_UPSTREAM)
		judge_workload(&p->flow, s->workload, 1, j);
	else
		judge(who, &p->flow, j);
}

/* ---- fragments: the later ones go where the first went ---- */

SLUICE_INLINE void fragment_key_fill(struct fragment_key *key, const struct subject *s, const struct packet *p)
{
	key->netns = s->netns;
	__builtin_memcpy(key->source, p->own, 16);
	__builtin_memcpy(key->dest, p->flow.addr, 16);
	key->id = p->fragment_id;
	key->protocol = addr_is_v4(p->own) ? p->protocol : 0; /* RFC 8200 §4.5: of IPv6 it is no part of the key */
}

static __noinline void remember_fragment(const struct subject *s, const struct packet *p)
{
	__u64 now = bpf_ktime_get_boot_ns();
	struct fragment_key key;

	fragment_key_fill(&key, s, p);
	bpf_map_update_elem(&fragments, &key, &now, BPF_ANY);
}

static __noinline int follows_fragment(const struct subject *s, const struct packet *p)
{
	struct fragment_key key;
	const __u64 *first;

	fragment_key_fill(&key, s, p);
	first = bpf_map_lookup_elem(&fragments, &key);
	return first && bpf_ktime_get_boot_ns() - *first < SLUICE_FRAGMENT_NS;
}

/* ---- names ---- */

/* A flow that the peer began, or that drains since the time when no name was asked for. */
__noinline int needs_no_name(__u64 cookie, const struct packet *p)
{
	struct exchange_key key;

	if (!p)
		return 0;
	exchange_key_fill(&key, cookie, p);
	return who_began(&key, p) == BEGUN_INBOUND || is_draining(&key);
}

/* NAME_PASSES, NAME_WAITS or the reason to refuse a packet whose verdict is ALLOW if it names a service. */
SLUICE_INLINE int judge_name(struct __sk_buff *skb, const struct subject *s, const struct packet *p, __u32 workload,
			     const int on_link)
{
	const struct state *current = state_now();
	int place = on_link ? ON_LINK : current && current->host_netns == s->netns ? AT_HOST_SOCKET : AT_SOCKET, named;

	named = check_name(skb, s->netns, p, workload, place);
	if (on_link && named == NAME_COPY) {
		__u32 hello = p->start + p->payload + (p->size < CLIENT_HELLO_MAX ? p->size : CLIENT_HELLO_MAX);

		if (bpf_skb_pull_data(skb, hello < skb->len ? hello : skb->len))
			return NAME_WAITS;
		named = check_name(skb, s->netns, p, workload, ON_LINK_COPIED);
	}
	if (named != NAME_UNKNOWN)
		return named;
	return needs_no_name(s->netns, p) ? NAME_PASSES : REASON_NAME_MISSING;
}

/* Refuses the flow for good, for the reason in `j`. Returns 1 if it passes all the same, because it is audited. */
static __noinline int deny_name(const struct identity *who, const struct subject *s, const struct packet *p,
				struct judgement *j)
{
	struct rule_set rules = {.audit = j->audit};
	struct hello_value *known;
	struct hello_key key;
	int is_new = 1;

	j->decision = decide_deny(&rules, j->decision.reason, 0);
	hello_key_fill(&key, s->netns, p);
	if (!j->audit)
		is_new = refuse_hello(&key, j->workload, j->decision.reason);
	count(j);
	known = bpf_map_lookup_elem(&hellos, &key);
	if (is_new)
		record_event(who, &p->flow, j, 0, known && j->decision.reason == REASON_NAME_UNREGISTERED ? known->shown : 0);
	if (j->audit && known)
		known->state = HELLO_CONFIRMED; /* not looked at again */
	return j->audit;
}

/* ---- all of it ---- */

static __noinline int is_foreign(const struct subject *s, const struct packet *p)
{
	struct source_key key = {s->device, 0, {0}};
	__u8 unspecified[16] = {};

	if (!s->device)
		return 0;
	if (p->kind == PACKET_LINK && words_equal(p->own, unspecified, 4)) /* RFC 4862 §5.4: looking for duplicates */
		return 0;
	__builtin_memcpy(key.addr, p->own, 16);
	return !bpf_map_lookup_elem(&sources, &key);
}

/*
 * Neighbours look for each other also by addresses that routers forward. Within a pod, to the namespaces nested in it,
 * guard lets that by: what leaves the pod meets veth, which asks who began it. In the host's namespace nobody would.
 */
SLUICE_INLINE int is_discovery(const struct subject *s, const struct identity *who, const struct packet *p)
{
	if (p->kind == PACKET_LINK)
		return 1;
	return (p->kind == PACKET_SOLICIT || p->kind == PACKET_ADVERT) && !s->device && !(who->listener && who->listener->is_host);
}

/* Not inlined: its key would not fit the stack of the programs. */
static __noinline int has_confirmed_name(__u64 cookie, const struct packet *p)
{
	return hello_state(cookie, p) == HELLO_CONFIRMED;
}

/*
 * The common case of admit(), of what read_plain_tcp() has read: a segment of a connection that the tables have let pass
 * before, whose name is confirmed.
 */
SLUICE_INLINE int is_known_to_pass(const struct subject *s, const struct packet *p, __u64 epoch)
{
	const struct cached_verdict *slot;
	int known;

	if (addr_is_loopback(p->flow.addr))
		return 0;
	slot = cache_slot(s, p);
	known = slot ? cache_get(slot, epoch, s, p) : CACHED_NOTHING;
	return known == CACHED_PASS ||
	       (known == CACHED_NAME && !(p->tcp_flags & TCP_SYN) && has_confirmed_name(s->netns, p));
}

/*
 * Whether a packet may go on. `reason`: why it could not be read, or REASON_NONE. `skb`: null in a driver, where no names
 * are read.
 */
SLUICE_INLINE int admit(struct __sk_buff *skb, const struct subject *s, const struct packet *p, __u8 reason, __u64 epoch,
			const int on_link)
{
	struct cached_verdict *slot = cache_slot(s, p);
	int plain = !reason && p->kind == PACKET_FLOW && !p->is_fragment, known = CACHED_NOTHING, named = NAME_UNKNOWN;
	struct identity who = {};
	struct judgement j;

	if (!slot)
		return 0;
	if (plain)
		known = cache_get(slot, epoch, s, p);
	if (known == CACHED_PASS || (known == CACHED_ASK && other_right(s, p, slot->workload)))
		return 1;
	if (known == CACHED_NAME) {
		named = skb ? judge_name(skb, s, p, slot->workload, on_link) : REASON_HELLO_UNREADABLE;
		if (named == NAME_PASSES)
			return 1;
	}
	if (skb ? !identify_packet(skb, s, &who) : !identify_frame(s, &who)) {
		struct stranger *stranger = stranger_slot(s);

		if (stranger)
			remember_stranger(stranger, epoch, s);
		return 1;
	}
	if (!reason && is_foreign(s, p))
		reason = REASON_FOREIGN_SOURCE;
	if (!reason && is_discovery(s, &who, p))
		return 1;
	if (!reason && p->kind == PACKET_TRAILER) {
		if (follows_fragment(s, p))
			return 1;
		reason = REASON_FRAGMENT;
	}
	if (reason) {
		judge_malformed(who.cgroup ? who.cgroup->workload : who.namespace ? who.namespace->workload : 0, reason, &j);
		return deny_packet(&who, p, &j, slot);
	}
	judge_packet(s, &who, p, &j);
	if (!passes(&j) || j.decision.would_be) {
		if (plain && known == CACHED_NOTHING)
			cache_put(slot, epoch, s, p, CACHED_ASK, j.workload);
		if (!other_right(s, p, j.workload) && !deny_packet(&who, p, &j, slot))
			return 0;
	} else if (j.decision.check_name && p->kind == PACKET_FLOW) {
		if (plain && known == CACHED_NOTHING)
			cache_put(slot, epoch, s, p, CACHED_NAME, j.workload);
		if (named == NAME_UNKNOWN)
			named = skb ? judge_name(skb, s, p, j.workload, on_link) : REASON_HELLO_UNREADABLE;
		if (named == NAME_WAITS && !j.audit)
			return 0;
		j.decision.reason = (__u8)named;
		if (named > NAME_PASSES && !deny_name(&who, s, p, &j))
			return 0;
	} else if (plain) {
		cache_put(slot, epoch, s, p, CACHED_PASS, j.workload);
	}
	if (p->is_fragment)
		remember_fragment(s, p);
	return 1;
}

#endif
