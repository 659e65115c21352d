/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * hostCheck: kernel. The first bytes of a flow must be a ClientHello that names a registered service. TCP sends them
 * again until the server has acknowledged them, and what is sent again need not be what was read: a raw socket can send
 * anything, a page given to sendfile() may have been written to since. So every packet that carries some of the hello
 * is held against what was read, until the server's acknowledgement was seen where the sender cannot forge it.
 */
#ifndef SLUICE_HELLOS_H
#define SLUICE_HELLOS_H

#include <bpf/bpf_core_read.h>

#include "hello.h"
#include "packet.h"

#define NAME_PASSES 0
#define NAME_WAITS (-1)   /* dropped without a word, so that TCP sends more at once */
#define NAME_COPY (-2)    /* ON_LINK: the bytes may be changed while we read: ask again when they are our own */
#define NAME_UNKNOWN (-3) /* nothing was seen of this flow's beginning; else an enum sluice_reason */

/* Where a packet is seen. */
enum hello_place {
	AT_SOCKET,      /* inside its namespace: an answer seen here might be forged, so none is waited for */
	AT_HOST_SOCKET, /* the host's own namespace */
	ON_LINK,        /* the host's end of its link */
	ON_LINK_COPIED,
};

#define HELLO_WAITS_MAX 3
#define HELLO_FAR (1U << 30) /* beyond any window (RFC 7323 §2.3): the peer has acknowledged what was before */
#define HELLO_KILL_NS (1ULL * 1000000000ULL)
#define HELLO_SCRATCHES 4
#define TCP_OPTION_END 0
#define TCP_OPTION_NOP 1
#define TCP_OPTION_MPTCP 30
#define TCP_OPTIONS_MAX 40
#define SUM_BLOCK 16

/* Room to read one hello: for a task, for an interrupt of it, and for those they are preempted by. */
struct hello_scratch {
	__u32 busy;
	__u32 pad;
	struct client_hello hello;
	struct name_key key;
	struct hello_value fresh;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, HELLO_SCRATCHES);
	__type(key, __u32);
	__type(value, struct hello_scratch);
} hello_scratch SEC(".maps");

SLUICE_INLINE struct hello_scratch *scratch_take(void)
{
	for (__u32 i = 0; i < HELLO_SCRATCHES; i++) {
		__u32 slot = i;
		struct hello_scratch *scratch = bpf_map_lookup_elem(&hello_scratch, &slot);

		if (scratch && !__sync_val_compare_and_swap(&scratch->busy, 0, 1))
			return scratch;
	}
	return 0;
}

SLUICE_INLINE void scratch_release(struct hello_scratch *scratch)
{
	__sync_lock_test_and_set(&scratch->busy, 0);
}

SLUICE_INLINE void hello_key_fill(struct hello_key *key, __u64 cookie, const struct packet *p)
{
	key->netns = cookie;
	__builtin_memcpy(key->peer, p->flow.addr, 16);
	__builtin_memcpy(key->own, p->own, 16);
	key->peer_port = p->flow.port;
	key->own_port = p->own_port;
	key->pad = 0;
}

/* Anything of a packet's data, from the network header on: bpf_skb_load_bytes_relative() sees its linear part only. */
SLUICE_INLINE int load_data(struct __sk_buff *skb, const struct packet *p, __u32 offset, void *out, __u32 size)
{
	return bpf_skb_load_bytes(skb, p->start + offset, out, size) == 0;
}

/* ---- sums ---- */

/* SplitMix64's: what each word is multiplied with. Who does not know the seed finds no two hellos of one sum. */
SLUICE_INLINE __u64 scramble(__u64 x)
{
	x *= 0x9e3779b97f4a7c15ULL;
	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9ULL;
	x = (x ^ x >> 27) * 0x94d049bb133111ebULL;
	return x ^ x >> 31;
}

struct sum_walk {
	struct __sk_buff *skb;
	__u64 seed;
	__u64 sum;
	__u32 at; /* in the packet's data */
	__u32 left;
};

static long sum_block(__u32 index, struct sum_walk *w)
{
	__u32 words[SUM_BLOCK / 4] = {}, n = w->left < SUM_BLOCK ? w->left : SUM_BLOCK;

	if (!n || bpf_skb_load_bytes(w->skb, w->at, words, n))
		return 1;
	for (__u32 i = 0; i < SUM_BLOCK / 4; i++)
		w->sum += scramble(w->seed + (__u64)index * (SUM_BLOCK / 4) + i) * words[i];
	w->at += n;
	w->left -= n;
	return 0;
}

/* Returns 0 if the bytes are not all there. */
SLUICE_INLINE int sum_part(struct __sk_buff *skb, __u32 at, __u32 size, __u64 seed, __u64 *sum)
{
	struct sum_walk w = {skb, seed, 0, at, size};

	bpf_loop(CLIENT_HELLO_MAX / SUM_BLOCK, sum_block, &w, 0);
	*sum = w.sum;
	return !w.left;
}

/* The sums of a hello that `known` says the size and the parts of. */
__noinline int sum_hello(struct __sk_buff *skb, __u32 at, struct hello_value *known)
{
	if (!known || !known->part)
		return 0;
	for (__u32 k = 0; k < SLUICE_HELLO_PARTS; k++) {
		__u32 from = k * known->part;

		if (from >= known->size)
			return 1;
		if (!sum_part(skb, at + from, known->size - from < known->part ? known->size - from : known->part,
			      known->seed, &known->sums[k]))
			return 0;
	}
	return SLUICE_HELLO_PARTS * known->part >= known->size;
}

/* Whether what a packet carries of the hello, from `offset` on, are whole parts as they were read. */
__noinline int compare_hello(struct __sk_buff *skb, const struct packet *p, __u32 offset, const struct hello_value *known)
{
	if (!p || !known)
		return REASON_HELLO_CHANGED;
	for (__u32 k = 0; k < SLUICE_HELLO_PARTS; k++) {
		__u32 from = k * known->part, to = from + known->part;
		__u64 sum;

		if (to > known->size)
			to = known->size;
		if (from >= to || from >= offset + p->size)
			break;
		if (to <= offset)
			continue;
		if (from < offset || to > offset + p->size)
			return REASON_HELLO_UNREADABLE; /* the segments are others now: the path's MTU has shrunk */
		if (!sum_part(skb, p->start + p->payload + from - offset, to - from, known->seed, &sum))
			return NAME_WAITS;
		if (sum != known->sums[k])
			return REASON_HELLO_CHANGED;
	}
	return NAME_PASSES;
}

/* ---- reading it ---- */

struct hello_walk {
	struct __sk_buff *skb;
	struct client_hello *hello;
	__u32 payload; /* in the packet's data */
	__u32 size;
	int result; /* enum client_hello_result */
};

static long read_hello_byte(__u32 index, struct hello_walk *w)
{
	__u8 byte;

	(void)index;
	if (w->hello->at >= w->size || w->result != CLIENT_HELLO_MORE ||
	    bpf_skb_load_bytes(w->skb, w->payload + w->hello->at, &byte, 1))
		return 1;
	w->result = hello_byte(w->hello, byte);
	return 0;
}

/* Returns an enum client_hello_result. */
__noinline int read_hello(struct __sk_buff *skb, const struct packet *p, struct client_hello *hello)
{
	struct hello_walk w = {skb, hello, 0, 0, CLIENT_HELLO_MORE};

	if (!p || !hello)
		return CLIENT_HELLO_BAD;
	w.payload = p->start + p->payload;
	w.size = p->size < CLIENT_HELLO_MAX ? p->size : CLIENT_HELLO_MAX;
	bpf_loop(CLIENT_HELLO_MAX, read_hello_byte, &w, 0);
	return hello_result(hello, w.result, w.size);
}

/* Whether the rules of `workload` have a service of the shown name on this port. */
__noinline int look_name_up(const struct flow *flow, __u32 workload, struct hello_scratch *scratch)
{
	const struct name_value *service;
	const struct rule_set *rules;
	struct judgement unused;
	struct tables t;
	__u32 length;
	__u8 reason;

	if (!flow || !scratch)
		return REASON_NAME_UNREGISTERED;
	rules = rules_in_force(&t, workload, &unused, &reason);
	if (!rules)
		return reason;
	length = scratch->hello.host_size;
	if (scratch->hello.name[0] == '.') /* the final dot, which no TLS client should send (RFC 6066 §3) */
		return REASON_HELLO_UNREADABLE;
	__builtin_memcpy(scratch->key.name, scratch->hello.name, SLUICE_NAME_KEY);
	if (length < SLUICE_NAME_KEY)
		scratch->key.name[length++] = 0;
	else
		length = SLUICE_NAME_KEY;
	scratch->key.prefixlen = NAME_KEY_FIXED_BITS + length * 8;
	scratch->key.scope = rules->registry;
	scratch->key.port = flow->port;
	service = bpf_map_lookup_elem(t.names, &scratch->key);
	if (service)
		return service->flags & (SERVICE_ROUTED | SERVICE_REWRITES) ? REASON_HELLO_UNREADABLE : NAME_PASSES;
	return scratch->hello.host_size < SLUICE_NAME_KEY ? REASON_NAME_UNREGISTERED : REASON_HELLO_UNREADABLE;
}

/* For people: the beginning of a refused name. */
SLUICE_INLINE void keep_shown(const struct client_hello *hello, struct hello_value *known)
{
	__u32 length = hello->host_size;

	for (__u32 i = 0; i < SLUICE_HOST_TEXT; i++)
		known->shown[i] = i < length && i < SLUICE_HOST_TEXT - 1 ? hello->name[(length - 1 - i) & (HELLO_NAME - 1)] : 0;
}

/* TCP may yet send more of it at once; where it does not, it never will. */
SLUICE_INLINE int wait_for_more(const struct packet *p, struct hello_value *known)
{
	if (p->size > known->size) {
		known->size = p->size;
		return NAME_WAITS;
	}
	return ++known->waits < HELLO_WAITS_MAX ? NAME_WAITS : REASON_HELLO_UNREADABLE;
}

SLUICE_INLINE int judge_hello(struct __sk_buff *skb, const struct packet *p, __u32 workload, struct hello_scratch *scratch,
			      struct hello_value *known)
{
	int reason;

	__builtin_memset(&scratch->hello, 0, sizeof(scratch->hello));
	switch (read_hello(skb, p, &scratch->hello)) {
	case CLIENT_HELLO_OK:
		break;
	case CLIENT_HELLO_MORE:
		return wait_for_more(p, known);
	case CLIENT_HELLO_BAD:
		return REASON_MALFORMED;
	default:
		return REASON_NAME_MISSING;
	}
	reason = look_name_up(&p->flow, workload, scratch);
	if (reason == REASON_NAME_UNREGISTERED)
		keep_shown(&scratch->hello, known);
	if (reason != NAME_PASSES)
		return reason;
	known->size = scratch->hello.at;
	known->part = skb->gso_size && skb->gso_size < known->size ? skb->gso_size : known->size;
	if (!sum_hello(skb, p->start + p->payload, known))
		return REASON_HELLO_UNREADABLE;
	barrier();
	known->state = HELLO_READ;
	return NAME_PASSES;
}

__noinline int first_hello(struct __sk_buff *skb, const struct packet *p, __u32 workload, struct hello_value *known)
{
	struct hello_scratch *scratch;
	int reason;

	if (!p || !known)
		return NAME_WAITS;
	scratch = scratch_take();
	if (!scratch)
		return NAME_WAITS;
	reason = judge_hello(skb, p, workload, scratch, known);
	scratch_release(scratch);
	return reason;
}

/* ---- a flow's state ---- */

/* With several paths the first bytes of this one are not the first that the server reads (RFC 8684 §3.3). */
SLUICE_INLINE int is_multipath(struct __sk_buff *skb, const struct packet *p)
{
	__u32 at = p->options;

	for (int i = 0; i < TCP_OPTIONS_MAX && at < p->payload; i++) {
		__u8 kind, length;

		if (!load_data(skb, p, at, &kind, 1))
			return 1;
		if (kind == TCP_OPTION_END)
			return 0;
		if (kind == TCP_OPTION_MPTCP)
			return 1;
		if (kind == TCP_OPTION_NOP) {
			at++;
			continue;
		}
		if (!load_data(skb, p, at + 1, &length, 1))
			return 1;
		if (length < 2)
			return 0;
		at += length;
	}
	return 0;
}

/* A SYN, also one that is sent again: nothing is known of what follows. */
__noinline int await_hello(struct __sk_buff *skb, const struct packet *p, const struct hello_key *key)
{
	struct hello_scratch *scratch;
	long error;

	if (!p || !key)
		return NAME_WAITS;
	if (is_multipath(skb, p))
		return REASON_HELLO_UNREADABLE;
	if (p->size) /* TCP fast open: without an answer it is sent again as an ordinary SYN */
		return NAME_WAITS;
	scratch = scratch_take();
	if (!scratch)
		return NAME_WAITS;
	__builtin_memset(&scratch->fresh, 0, sizeof(scratch->fresh));
	scratch->fresh.isn = p->seq;
	scratch->fresh.seed = (__u64)bpf_get_prandom_u32() << 32 | bpf_get_prandom_u32();
	error = bpf_map_update_elem(&hellos, key, &scratch->fresh, BPF_ANY);
	scratch_release(scratch);
	return error ? REASON_MAP_FULL : NAME_PASSES;
}

struct skb_shared_info {
	__u8 flags;
} __attribute__((preserve_access_index));

#define SKBFL_SHARED_FRAG 2 /* include/linux/skbuff.h: somebody else may write to its pages */

/* sendfile(), splice() and zero-copy sends hand over pages that the sender goes on writing to (Linux 6.2 tells us). */
SLUICE_INLINE int is_shared(struct __sk_buff *skb)
{
	const struct sk_buff *kernel = bpf_cast_to_kern_ctx(skb);
	const struct skb_shared_info *shared =
		bpf_rdonly_cast(kernel->head + kernel->end, bpf_core_type_id_kernel(struct skb_shared_info));

	return shared->flags & SKBFL_SHARED_FRAG;
}

/* Data of a flow whose hello the server has not acknowledged, as far as we know. */
SLUICE_INLINE int unconfirmed_data(struct __sk_buff *skb, const struct packet *p, __u32 workload, int place,
				   struct hello_value *known)
{
	__u32 offset = p->seq - known->isn - 1;

	if (known->state == HELLO_REFUSED)
		return known->reason;
	if (p->tcp_flags & TCP_URG) /* the byte it points to is taken out of what the server reads (RFC 6093) */
		return REASON_MALFORMED;
	if (p->is_fragment || is_shared(skb) || (place != AT_SOCKET && !known->answered))
		return REASON_HELLO_UNREADABLE;
	if (place == ON_LINK)
		return NAME_COPY;
	if (known->state == HELLO_AWAITED)
		return offset ? NAME_WAITS : first_hello(skb, p, workload, known);
	if ((__s32)offset < 0)
		return REASON_HELLO_CHANGED;
	if (offset < known->size)
		return compare_hello(skb, p, offset, known);
	if (place == AT_SOCKET && offset > HELLO_FAR)
		known->state = HELLO_CONFIRMED;
	return NAME_PASSES;
}

/* Whether a packet of a TCP flow passes that may if the flow names a service. `place`: enum hello_place. */
__noinline int check_name(struct __sk_buff *skb, __u64 cookie, const struct packet *p, __u32 workload, int place)
{
	struct hello_value *known;
	struct hello_key key;

	if (!p)
		return NAME_WAITS;
	if (p->empty && !p->is_fragment && !(p->tcp_flags & TCP_URG))
		return NAME_PASSES;
	hello_key_fill(&key, cookie, p);
	if (p->opens && !p->is_fragment)
		return await_hello(skb, p, &key);
	known = bpf_map_lookup_elem(&hellos, &key);
	if (!known)
		return NAME_UNKNOWN;
	if (known->state == HELLO_CONFIRMED)
		return NAME_PASSES;
	return unconfirmed_data(skb, p, workload, place, known);
}

/* What the flow has shown. -1: its name was never asked for. */
SLUICE_INLINE int hello_state(__u64 cookie, const struct packet *p)
{
	const struct hello_value *known;
	struct hello_key key;

	hello_key_fill(&key, cookie, p);
	known = bpf_map_lookup_elem(&hellos, &key);
	return known ? known->state : -1;
}

/* ---- what becomes of a refused flow ---- */

SLUICE_INLINE void note_unreadable(const struct hello_key *flow, __u32 workload)
{
	struct unreadable_key key = {workload, flow->peer_port, 0, {0}};
	__u64 now = bpf_ktime_get_boot_ns();

	__builtin_memcpy(key.addr, flow->peer, 16);
	bpf_map_update_elem(&unreadable, &key, &now, BPF_ANY);
}

SLUICE_INLINE void request_kill(const struct hello_key *flow, __u32 workload)
{
	struct listener_request request = {.netns = flow->netns, .workload = workload, .kind = REQUEST_KILL,
					   .peer_port = flow->peer_port, .own_port = flow->own_port};

	__builtin_memcpy(request.peer, flow->peer, 16);
	__builtin_memcpy(request.own, flow->own, 16);
	bpf_ringbuf_output(&requests, &request, sizeof(request), 0);
}

/*
 * Nothing more of this flow passes, and its socket is destroyed: else it would try again until it times out. Returns 1 if
 * that is asked for now, 0 if it was a moment ago.
 */
__noinline int refuse_hello(const struct hello_key *flow, __u32 workload, int reason)
{
	struct hello_scratch *scratch;
	struct hello_value *known;
	__u64 now = bpf_ktime_get_boot_ns();

	if (!flow)
		return 0;
	if (reason == REASON_HELLO_UNREADABLE)
		note_unreadable(flow, workload);
	known = bpf_map_lookup_elem(&hellos, flow);
	if (!known) {
		scratch = scratch_take();
		if (!scratch)
			return 0;
		__builtin_memset(&scratch->fresh, 0, sizeof(scratch->fresh));
		bpf_map_update_elem(&hellos, flow, &scratch->fresh, BPF_NOEXIST);
		scratch_release(scratch);
		known = bpf_map_lookup_elem(&hellos, flow);
		if (!known)
			return 0;
	}
	known->reason = (__u8)reason;
	known->state = HELLO_REFUSED;
	if (known->killed && now - known->killed < HELLO_KILL_NS)
		return 0;
	known->killed = now;
	request_kill(flow, workload);
	return 1;
}


/* ---- what the server says ---- */

SLUICE_INLINE void learn_acknowledged(const struct state *now, __u64 cookie, const struct packet *p)
{
	struct hello_value *known;
	struct hello_key key;

	if (!now->checks_names || p->kind != PACKET_FLOW || p->protocol != SLUICE_TCP || (p->tcp_flags & (TCP_ACK | TCP_RST)) != TCP_ACK)
		return;
	hello_key_fill(&key, cookie, p);
	known = bpf_map_lookup_elem(&hellos, &key);
	if (!known || known->state >= HELLO_CONFIRMED)
		return;
	if (p->tcp_flags & TCP_SYN)
		known->answered |= p->ack == known->isn + 1;
	else if (known->answered && known->state == HELLO_READ &&
		 (__s32)(p->ack - known->isn - 1 - known->size) >= 0)
		known->state = HELLO_CONFIRMED;
}

#endif
