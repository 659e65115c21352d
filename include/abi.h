/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * The contract between the BPF programs and user space: the keys and values of every pinned map.
 * Types only, fixed width. Addresses are always 16 bytes in network order, IPv4 as ::ffff:a.b.c.d.
 * Ports are in HOST order, so that bpftool prints them as people write them.
 * Any change of a layout or of a meaning must raise SLUICE_ABI.
 */
#ifndef SLUICE_ABI_H
#define SLUICE_ABI_H

#include "limits.h"

#ifndef __bpf__
#include <assert.h>
#include <linux/types.h>
#endif

#define SLUICE_ABI 7

enum sluice_protocol { /* IANA numbers */
	SLUICE_TCP = 6,
	SLUICE_UDP = 17,
};

/* Ordered by severity: where two identities of one flow disagree, the larger wins (DESIGN §2). */
enum sluice_verdict {
	VERDICT_BYPASS = 0,      /* not intercepted: sluice has no opinion */
	VERDICT_ALLOW = 1,       /* registered: direct */
	VERDICT_PASSTHROUGH = 2, /* not registered, ALLOW_ANY or audit: direct */
	VERDICT_REDIRECT = 3,    /* to the redirector of this network namespace */
	VERDICT_DENY = 4,        /* ECONNREFUSED */
	VERDICT_COUNT
};

/* Why. Names for people are in verdict_reason_name() (verdict.h). Append only. */
enum sluice_reason {
	REASON_NONE = 0,
	REASON_LOOPBACK,         /* BYPASS: 127.0.0.0/8, ::1, unspecified */
	REASON_EXCLUDED_PORT,    /* BYPASS: interception.excludePorts */
	REASON_EXCLUDED_CIDR,    /* BYPASS: interception.excludeCIDRs */
	REASON_NOT_INCLUDED,     /* BYPASS: no include CIDR or port covers it */
	REASON_RESOLVER,         /* ALLOW: DNS to a resolver the policy admits */
	REASON_SERVICE,          /* ALLOW or REDIRECT: the address belongs to a service */
	REASON_SERVICE_TLS,      /* REDIRECT or ALLOW: a TLS service whose name must be checked, by whom is hostCheck's say */
	REASON_NAME,             /* REDIRECT: services on this port are selected by name */
	REASON_REFUSE_HTTP,      /* REDIRECT only so that the client gets its 502 */
	REASON_ALLOW_ANY,        /* PASSTHROUGH */
	REASON_NOT_REGISTERED,   /* DENY: REGISTRY_ONLY */
	REASON_UDP_NAME_CHECK,   /* DENY: UDP to a port whose TCP flows are name-checked (QUIC) */
	REASON_UDP_ANSWER,       /* ALLOW: answers a peer that sent to this socket within 60 s */
	REASON_NO_LISTENER,      /* DENY: REDIRECT, but this netns has no redirector listener yet */
	REASON_BOUND_DEVICE,     /* DENY: REDIRECT, but the socket is bound to a device */
	REASON_NO_GENERATION,    /* DENY: no valid configuration was ever applied */
	REASON_NO_RULE_SET,      /* DENY: the workload has no rule set (an internal error) */
	REASON_MAP_FULL,         /* DENY: a kernel map had no room for this flow */
	REASON_REDIRECTOR_PORT,  /* DENY: an upstream socket dialled the redirector itself */
	REASON_UPSTREAM,         /* ALLOW: an upstream socket dials what its service is dialled at */
	/* Decided by the redirector: */
	REASON_NAME_UNREGISTERED,   /* DENY: Host or SNI is not a registered service on that port */
	REASON_NAME_MISSING,        /* DENY: TLS without SNI, or neither HTTP nor TLS */
	REASON_MALFORMED,           /* DENY: 400 */
	REASON_NAME_ALLOWED,        /* ALLOW: Host or SNI is a registered service */
	REASON_NAME_ANY,            /* PASSTHROUGH: ALLOW_ANY, relayed to where the client dialled */
	REASON_ROUTE_REVOKED,       /* DENY: a newer generation took the flow's right away */
	/* Decided on a packet (guard, veth) or a bind: */
	REASON_INBOUND_ANSWER,      /* ALLOW: belongs to an exchange that began inbound */
	REASON_FORMER_ADDRESS,      /* ALLOW: an open flow to an address that has left a service's name */
	REASON_DRAINING,            /* ALLOW: forbidden by now, but its policy lets open flows drain */
	REASON_FOREIGN_SOURCE,      /* DENY: the source address is not this namespace's */
	REASON_FRAME,               /* DENY: an ethertype, a VLAN tag or an ARP that no pod needs */
	REASON_PACKET,              /* DENY: headers that cannot be read to their end */
	REASON_SOURCE_ROUTE,        /* DENY: IP options or a routing header hide where it goes */
	REASON_FRAGMENT,            /* DENY: a fragment whose first part was not admitted, or that hides the ports */
	REASON_RESERVED_PORT,       /* DENY: bind() to the redirector's port */
	/* hostCheck: kernel, on a packet of a flow whose ClientHello the server has not acknowledged: */
	REASON_HELLO_UNREADABLE,    /* DENY: the kernel cannot read it; from now on the redirector does */
	REASON_HELLO_CHANGED,       /* DENY: sent again, it is not what was read */
	REASON_COUNT
};

/* ---- what one generation consists of: inner maps, immutable but for DNS additions ---- */

/* LPM key of `intercept` and `bypass`; `prefixlen` counts from `interception`: 32 + address bits. */
struct cidr_key {
	__u32 prefixlen;
	__u32 interception; /* which interception set: rule_set.interception */
	__u8 addr[16];
};

struct cidr_value {
	char prefix[SLUICE_PREFIX_TEXT]; /* "10.0.0.0/8" */
};

/* What an entry of `services` says about an address. */
enum sluice_kind {
	KIND_SERVICE = 0,  /* clients dial this address to reach the service */
	KIND_UPSTREAM = 1, /* sluice's own upstream sockets dial this address for it */
	KIND_RESOLVER = 2, /* a DNS server; `scope` is rule_set.resolvers */
	KIND_FORMER = 3,   /* has left its name: admits packets of open flows, no new ones */
};

/* LPM key of `services`; prefixlen: 64 + address bits. */
struct service_key {
	__u32 prefixlen;
	__u32 scope;   /* rule_set.registry, or rule_set.resolvers for KIND_RESOLVER */
	__u16 port;    /* host order */
	__u8 protocol; /* enum sluice_protocol */
	__u8 kind;     /* enum sluice_kind */
	__u8 addr[16];
};
#define SERVICE_KEY_FIXED_BITS 64
#define CIDR_KEY_FIXED_BITS 32

enum sluice_service_flags {
	SERVICE_HTTP = 1 << 0,     /* protocol HTTP, HTTP2, GRPC */
	SERVICE_TLS = 1 << 1,      /* protocol TLS or HTTPS: hostCheck applies */
	SERVICE_ROUTED = 1 << 2,   /* has routes, faults or TLS settings: layer 7 */
	SERVICE_REWRITES = 1 << 3, /* dialled elsewhere than the client asked (endpoints, targetPort) */
	SERVICE_NONE = 1 << 4,     /* resolution NONE: dialled at the original destination */
	SERVICE_WILDCARD = 1 << 5, /* the host has a wildcard */
	SERVICE_TCP = 1 << 6,      /* plain TCP (or UDP): it has no name to show, an address match is enough */
	SERVICE_DETECTED = 1 << 7, /* HTTP if the client speaks it, else TCP: its protocol is not declared */
	SERVICE_DYNAMIC = 1 << 8,  /* dialled where the name is that the client shows; always ROUTED */
	SERVICE_UNIX = 1 << 9,     /* some endpoint is a Unix socket, which no address leads to; always ROUTED */
};

struct service_value {
	__u32 service; /* key of `catalog`; where several share the address, the first */
	__u32 flags;   /* enum sluice_service_flags, of all that share the address */
	char prefix[SLUICE_PREFIX_TEXT];
	char host[SLUICE_HOST_TEXT];
};

/* Hash `ports`: what is known of a port whatever the address. */
struct port_key {
	__u32 scope;   /* rule_set.registry for registry flags, rule_set.interception for capture flags */
	__u16 port;    /* host order */
	__u8 protocol; /* enum sluice_protocol; capture flags are stored for both protocols */
	__u8 capture;  /* 0: registry flags, 1: capture flags */
};

enum sluice_port_flags {
	PORT_INCLUDED = 1 << 0,    /* capture: interception.includePorts */
	PORT_EXCLUDED = 1 << 1,    /* capture: interception.excludePorts */
	PORT_HTTP = 1 << 2,        /* registry: known to speak HTTP (verdict_speaks_http()) */
	PORT_NAMED = 1 << 3,       /* registry: carries services selected by name */
	PORT_NAMED_ROUTED = 1 << 4,/* registry: one of those has routes, faults or TLS settings */
	PORT_NAMED_NONE = 1 << 5,  /* registry: dialled at any address, for one of those with resolution NONE */
};

struct port_value {
	__u32 flags; /* enum sluice_port_flags */
};

/*
 * LPM key of `names`: the TLS services that a client may name on a port. The name stands backwards and in lower case: an
 * exact one with its NUL, a wildcard up to its last dot ("*.b.com" as "moc.b."). A trie takes 256 bytes at most: longer
 * names are not in it.
 */
struct name_key {
	__u32 prefixlen;
	__u32 scope; /* rule_set.registry */
	__u16 port;  /* host order */
	char name[SLUICE_NAME_KEY];
};
#define NAME_KEY_FIXED_BITS 48

struct name_value {
	__u32 service; /* key of `catalog` */
	__u32 flags;   /* enum sluice_service_flags */
	char host[SLUICE_HOST_TEXT];
};

enum sluice_mode {
	MODE_ALLOW_ANY = 0,
	MODE_REGISTRY_ONLY = 1,
	MODE_ALLOW_ANY_DYNAMIC_DNS = 2, /* as ALLOW_ANY; but HTTP to whom nobody registers is dialled where its Host is */
};
enum sluice_host_check { HOST_CHECK_PROXY = 0, HOST_CHECK_OFF = 1, HOST_CHECK_KERNEL = 2 };
enum sluice_dns_allow { DNS_RESOLVERS = 0, DNS_ANY = 1, DNS_NONE = 2 };

/* Hash `rule_sets`: everything that decides for one class of workloads. */
struct rule_set {
	__u32 registry;     /* scope of service_key and port_key */
	__u32 interception; /* scope of cidr_key and of capture port_keys */
	__u32 resolvers;    /* scope of KIND_RESOLVER keys */
	__u8 mode;          /* enum sluice_mode */
	__u8 host_check;    /* enum sluice_host_check */
	__u8 dns_allow;     /* enum sluice_dns_allow */
	__u8 audit;         /* 1: enforcement: audit */
	__u32 drain_ms;     /* how long open flows live on that these rules forbid */
	__u32 egress_proxy; /* under ALLOW_ANY: the service that gets TCP to whom nobody registers; 0: none does */
	char origin[SLUICE_ORIGIN_TEXT]; /* what set the mode: "file:line EgressPolicy/name", or "default" */
};

/* Hash `assignments`: workload id → rule set id. Workload 0 is the node's default. */

/* Hash `catalog`: service id → who it is, for people, `explain`, `flows` and `status`. */
struct catalog_value {
	char host[SLUICE_HOST_MAX];
	char origin[SLUICE_ORIGIN_TEXT]; /* "file:line ServiceEntry/name" */
	__u32 scope;    /* the registry it belongs to */
	__u32 flags;    /* enum sluice_service_flags */
	__u16 port;     /* host order */
	__u8 protocol;  /* enum sluice_protocol */
	__u8 pad[5];
};

/* ---- maps that outlive generations ---- */

/* Array `state`, one entry. Only the loader writes it. */
struct state {
	__u32 abi;              /* SLUICE_ABI */
	__u32 redirector_port;  /* host order */
	__u64 generation;       /* the one in force; 0: none ever was. Its inner maps are in slot generation & 1 */
	__u64 applied_at;       /* unix seconds */
	__u64 config_errors;    /* configurations refused since the first start */
	__u64 host_netns;       /* cookie of the loader's network namespace: never an identity */
	__u64 epoch;            /* grows with every change that could alter a verdict: what is cached is of one epoch */
	__u64 draining_until;   /* ns, CLOCK_BOOTTIME: until then `draining` holds flows */
	__u32 loader_pid;
	__u32 redirector_pid;
	__u32 features;         /* bits of user/kernel/probe.h: what this kernel can do */
	__u32 checks_names;     /* 1: a policy has asked for hostCheck: kernel; answers of servers are looked at */
	__u32 watches_host;     /* 1: a governed process was seen in the host's namespace; guard_inbound is attached */
	__u32 notes_owners;     /* 1: backstop: xdp; guard fills `owners` */
	char config[SLUICE_ORIGIN_TEXT];     /* the policy folder */
	char last_error[SLUICE_ERROR_TEXT];  /* empty: the last configuration was applied */
};

/* The workload of whoever the maps have no room for: everything of theirs is refused (REASON_MAP_FULL). */
#define WORKLOAD_CLOSED 0xffffffffU
/* A workload, and its rule set of the same number in every generation, to which everything is denied (workload/canary.c). */
#define WORKLOAD_CANARY 0xfffffffeU

/* Hash `cgroups`: cgroup id (u64) → workload. The deepest registered ancestor decides. */
struct cgroup_value {
	__u32 workload; /* key of `workloads` and `assignments`; 0: governed, not a known workload */
	__u32 pad;
	char name[SLUICE_NAME_TEXT]; /* "namespace/name", or the cgroup's path */
};

/* Hash `workloads`: workload id → who it is, for people. */
struct workload_value {
	char name[SLUICE_NAME_TEXT];        /* "namespace/name" */
	char labels[SLUICE_ORIGIN_TEXT];    /* "app=web,tier=front" */
	char cgroup[SLUICE_ORIGIN_TEXT];    /* below the cgroup v2 mount */
};

/* Hash `netns`: network namespace cookie (u64) → its listeners and workload. */
struct netns_value {
	__u32 workload;        /* identity by namespace; not used when is_host */
	__u8 is_host;          /* the loader's own namespace: identity is the cgroup only */
	__u8 is_identity;      /* 1: `workload` governs every socket of this namespace */
	__u8 listens_v4;       /* 127.0.0.1:redirector_port is ours */
	__u8 listens_v6;       /* [::1]:redirector_port is ours */
	__u64 listener_v4;     /* socket cookies, so that an adopted descriptor can be checked */
	__u64 listener_v6;
	char name[SLUICE_NAME_TEXT];
};

/* Hash `devices`: index of the host's end of a governed namespace's link (u32, in the loader's namespace). */
struct device_value {
	__u64 netns;     /* cookie of the namespace at the other end: key of `netns` */
	char name[16];   /* of the host's end */
	__u32 in_driver; /* 1: veth_xdp judges there, which leaves veth what has a VLAN tag */
	__u32 pad;
};

/* Key of LRU hash `owners` (backstop: xdp only): a flow that guard has seen. */
struct owner_key {
	__u64 netns;
	__u8 peer[16];
	__u8 own[16];
	__u16 peer_port; /* host order */
	__u16 own_port;  /* host order */
	__u32 protocol;  /* ICMPv6 as ICMP */
};

struct owner_value {
	__u64 cgroup; /* key of `cgroups`; 0: none governs it */
	__u32 mark;   /* enum sluice_mark of its socket; 0: none */
	__u32 workload; /* of an UPSTREAM mark */
};

/* Hash `sources` → u64 CLOCK_BOOTTIME ns when it was learned: the addresses that may stand as source behind a device. */
struct source_key {
	__u32 device; /* key of `devices` */
	__u32 pad;
	__u8 addr[16];
};

/*
 * Key of LRU hash `exchanges` → struct exchange_value, and of hash `draining` → u64 CLOCK_BOOTTIME ns until when the
 * flow may live. An ICMP echo's identifier stands for both ports.
 */
struct exchange_key {
	__u64 netns;
	__u8 peer[16];
	__u16 peer_port; /* host order */
	__u16 own_port;  /* host order */
	__u8 protocol;   /* IANA number; ICMPv6 as ICMP */
	__u8 pad[3];
};

/* Who spoke first. Written where the namespace cannot reach: tc on the host's end of its link. */
struct exchange_value {
	__u64 seen;    /* ns, CLOCK_BOOTTIME, of the last inbound packet (outbound: of the last outbound one) */
	__u32 inbound; /* 1: the peer began it, so answers pass whatever the policy; 0: a flow of our own */
	__u32 pad;
};

/*
 * LRU hash `hellos`: what is known of the ClientHello of a flow whose name is checked in the kernel. Until the server
 * has acknowledged it, its bytes pass only as they were read: in whole parts, each with its sum.
 */
struct hello_key {
	__u64 netns;
	__u8 peer[16];
	__u8 own[16];
	__u16 peer_port; /* host order */
	__u16 own_port;  /* host order */
	__u32 pad;
};

enum sluice_hello { HELLO_AWAITED = 0, HELLO_READ = 1, HELLO_CONFIRMED = 2, HELLO_REFUSED = 3 };

struct hello_value {
	__u32 isn;     /* sequence number of the SYN */
	__u32 size;    /* of the ClientHello on the wire; AWAITED: the most that a packet held of it */
	__u32 part;    /* bytes that one segment of it carries */
	__u8 state;    /* enum sluice_hello */
	__u8 answered; /* the server's SYN-ACK was seen */
	__u8 waits;    /* packets dropped that held no more of it than the one before */
	__u8 reason;   /* REFUSED: enum sluice_reason */
	__u64 killed;  /* ns, CLOCK_BOOTTIME, when the end of its socket was last asked for */
	__u64 seed;    /* of the sums: who sends the bytes must not know it */
	union {
		__u64 sums[SLUICE_HELLO_PARTS];
		char shown[SLUICE_HOST_TEXT]; /* REFUSED: the name in it, if that was why */
	};
};

/* Key of LRU hash `unreadable` → u64 CLOCK_BOOTTIME ns: where ClientHellos go that only the redirector can read. */
struct unreadable_key {
	__u32 workload;
	__u16 port; /* host order */
	__u16 pad;
	__u8 addr[16];
};

/* Key of LRU hash `fragments` → u64 CLOCK_BOOTTIME ns of an admitted first fragment. */
struct fragment_key {
	__u64 netns;
	__u8 source[16];
	__u8 dest[16];
	__u32 id;
	__u32 protocol;
};

/* Socket storage `marks`: written by the loader by descriptor, inherited by accepted sockets. */
enum sluice_mark { MARK_LISTENER = 1, MARK_UPSTREAM = 2, MARK_OWN = 3 };
struct socket_mark {
	__u32 mark;     /* enum sluice_mark. OWN: the loader's own, e.g. its resolver's */
	__u32 workload; /* UPSTREAM: on whose behalf */
};

/*
 * The record of a redirected flow. Socket storage `redirected` on the client's socket, hash `handover`
 * from its SYN until the redirector asks, socket storage `accepted` on the redirector's socket, and the
 * answer of getsockopt(SLUICE_SOL, SLUICE_SO_RECORD).
 */
struct flow_record {
	__u8 addr[16];      /* original destination */
	__u16 port;         /* host order */
	__u8 reason;        /* enum sluice_reason */
	__u8 service_flags; /* enum sluice_service_flags of the address's services, 0 if none matched */
	__u32 workload;
	__u32 rule_set;
	__u32 service;      /* 0: none matched by address */
	__u64 generation;
};
#define SLUICE_SOL 0x534c /* a level no protocol uses */
#define SLUICE_SO_RECORD 1

/* Key of LRU hash `handover`: the client's end of a loopback connection to the redirector. */
struct handover_key {
	__u64 netns;   /* cookie */
	__u8 addr[16]; /* the client's own address */
	__u32 port;    /* the client's own port, host order */
	__u32 pad;
};

/* Key of LRU hash `udp_peers` → struct udp_peer_value. */
struct udp_peer_key {
	__u64 netns;
	__u8 addr[16];
	__u16 peer_port;  /* host order */
	__u16 local_port; /* host order */
	__u32 pad;
};

struct udp_peer_value {
	__u64 received; /* ns, CLOCK_BOOTTIME, of the last datagram from that peer; 0: none */
	__u64 recorded; /* of the last event about datagrams to that peer: one a second is enough */
};

/* Per-CPU hash `counters` → u64. */
struct counter_key {
	__u32 workload;
	__u8 verdict; /* enum sluice_verdict */
	__u8 reason;  /* enum sluice_reason */
	__u8 by_redirector;
	__u8 pad;
};

/*
 * Array `flows`, mmapable: a ring of the latest decisions. Slot = seq % SLUICE_FLOW_SLOTS.
 * `seq` is written 0 first and its value last; a reader that sees it change has lost the entry.
 * The next seq to be written is in array `flow_head` (u64, mmapable), which starts at 1.
 */
struct flow_event {
	__u64 seq;
	__u64 time;     /* ns, CLOCK_BOOTTIME */
	__u64 generation;
	__u64 cgroup;   /* id of the deciding cgroup, 0 if the identity was the network namespace */
	__u32 workload;
	__u32 service;
	__u32 rule_set;
	__u32 pid;      /* in the initial pid namespace; 0 when the redirector decided */
	__u8 addr[16];
	__u16 port;     /* host order */
	__u8 protocol;
	__u8 verdict;
	__u8 reason;
	__u8 would_be;  /* audit: the verdict that was not enforced, else 0 */
	__u8 by_redirector;
	__u8 pad;
	char comm[SLUICE_COMM_TEXT];
	char name[SLUICE_NAME_TEXT]; /* the workload */
	char host[SLUICE_HOST_TEXT]; /* Host or SNI where the redirector decided */
};

/* Ring buffer `requests`: what the kernel asks of the loader. */
enum sluice_request { REQUEST_LISTENER = 0, REQUEST_KILL = 1 };
struct listener_request {
	__u64 netns;
	__u32 pid;
	__u32 workload;
	__u32 kind;         /* enum sluice_request; LISTENER: a listener in the namespace of `pid` */
	__u16 peer_port;    /* host order; KILL: destroy the TCP socket of this flow */
	__u16 own_port;     /* host order */
	__u8 peer[16];
	__u8 own[16];
};

#ifndef __bpf__
_Static_assert(sizeof(struct cidr_key) == 24, "abi");
_Static_assert(sizeof(struct cidr_value) == 48, "abi");
_Static_assert(sizeof(struct service_key) == 28, "abi");
_Static_assert(sizeof(struct service_value) == 120, "abi");
_Static_assert(sizeof(struct port_key) == 8, "abi");
_Static_assert(sizeof(struct port_value) == 4, "abi");
_Static_assert(sizeof(struct rule_set) == 152, "abi");
_Static_assert(sizeof(struct catalog_value) == 400, "abi");
_Static_assert(sizeof(struct state) == 720, "abi");
_Static_assert(sizeof(struct cgroup_value) == 72, "abi");
_Static_assert(sizeof(struct workload_value) == 320, "abi");
_Static_assert(sizeof(struct netns_value) == 88, "abi");
_Static_assert(sizeof(struct device_value) == 32, "abi");
_Static_assert(sizeof(struct owner_key) == 48, "abi");
_Static_assert(sizeof(struct owner_value) == 16, "abi");
_Static_assert(sizeof(struct source_key) == 24, "abi");
_Static_assert(sizeof(struct exchange_key) == 32, "abi");
_Static_assert(sizeof(struct exchange_value) == 16, "abi");
_Static_assert(sizeof(struct name_key) == 260, "abi");
_Static_assert(sizeof(struct name_value) == 72, "abi");
_Static_assert(sizeof(struct hello_key) == 48, "abi");
_Static_assert(sizeof(struct hello_value) == 128, "abi");
_Static_assert(sizeof(struct unreadable_key) == 24, "abi");
_Static_assert(sizeof(struct fragment_key) == 48, "abi");
_Static_assert(sizeof(struct socket_mark) == 8, "abi");
_Static_assert(sizeof(struct flow_record) == 40, "abi");
_Static_assert(sizeof(struct handover_key) == 32, "abi");
_Static_assert(sizeof(struct udp_peer_key) == 32, "abi");
_Static_assert(sizeof(struct udp_peer_value) == 16, "abi");
_Static_assert(sizeof(struct counter_key) == 8, "abi");
_Static_assert(sizeof(struct flow_event) == 216, "abi");
_Static_assert(sizeof(struct listener_request) == 56, "abi");
#endif

#endif
