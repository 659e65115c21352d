/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * The verdict: what happens to one new flow of one workload. This is the only place that decides; the BPF
 * programs, the redirector, `sluice explain`, the unit tests and the fuzzers all compile this file.
 *
 * The includer defines, before including it, `struct tables` (where the rules of one generation are) and
 *
 *	lookup_rule_set(tables, id)    → const struct rule_set *       or NULL
 *	lookup_intercept(tables, key)  → const struct cidr_value *     longest prefix, or NULL
 *	lookup_bypass(tables, key)     → const struct cidr_value *     longest prefix, or NULL
 *	lookup_service(tables, key)    → const struct service_value *  longest prefix, or NULL
 *	lookup_port(tables, key)       → const struct port_value *     or NULL
 *
 * Each step is a lookup; nothing here depends on how many policies there are.
 */
#ifndef SLUICE_VERDICT_H
#define SLUICE_VERDICT_H

#include "abi.h"
#include "addr.h"

struct flow {
	__u8 addr[16];  /* canonical (addr.h) */
	__u16 port;     /* host order */
	__u8 protocol;  /* enum sluice_protocol */
	__u8 pad;
};

struct decision {
	__u8 verdict;       /* enum sluice_verdict */
	__u8 reason;        /* enum sluice_reason */
	__u8 would_be;      /* under audit: the verdict that was not enforced, else 0 */
	__u8 service_flags; /* of the services registered at this address and port, 0 if none */
	__u32 service;  /* key of the catalog, 0 if none matched by address */
	__u8 check_name;    /* ALLOW, if the ClientHello names a service: the packet programs see to that */
	__u8 pad[3];
};

SLUICE_INLINE struct decision decide(__u8 verdict, __u8 reason, __u32 service)
{
	struct decision d = {.verdict = verdict, .reason = reason, .service = service};

	return d;
}

/* `enforcement: audit` denies nothing, anywhere; what it would have done is recorded. */
SLUICE_INLINE struct decision decide_deny(const struct rule_set *rules, __u8 reason, __u32 service)
{
	struct decision d = {.verdict = VERDICT_DENY, .reason = reason, .service = service};

	if (rules->audit) {
		d.verdict = VERDICT_PASSTHROUGH;
		d.would_be = VERDICT_DENY;
	}
	return d;
}

/* Why the flow is none of our business (a BYPASS reason), or REASON_NONE. Order: ISTIO.md §1.1. */
SLUICE_INLINE __u8 verdict_bypass(const struct tables *t, const struct rule_set *rules, const struct flow *flow)
{
	struct port_key port = {rules->interception, flow->port, flow->protocol, 1};
	struct cidr_key cidr = {CIDR_KEY_FIXED_BITS + 128, rules->interception, {0}};
	const struct port_value *capture = lookup_port(t, &port);

	__builtin_memcpy(cidr.addr, flow->addr, 16);
	if (capture && (capture->flags & PORT_EXCLUDED))
		return REASON_EXCLUDED_PORT;
	if (lookup_bypass(t, &cidr))
		return REASON_EXCLUDED_CIDR;
	if (capture && (capture->flags & PORT_INCLUDED))
		return REASON_NONE;
	return lookup_intercept(t, &cidr) ? REASON_NONE : REASON_NOT_INCLUDED;
}

SLUICE_INLINE const struct service_value *verdict_service(const struct tables *t, __u32 scope, __u8 kind,
							  const struct flow *flow)
{
	struct service_key key = {SERVICE_KEY_FIXED_BITS + 128, scope, flow->port, flow->protocol, kind, {0}};

	__builtin_memcpy(key.addr, flow->addr, 16);
	return lookup_service(t, &key);
}

SLUICE_INLINE __u32 verdict_port_flags(const struct tables *t, const struct rule_set *rules, const struct flow *flow)
{
	struct port_key key = {rules->registry, flow->port, SLUICE_TCP, 0};
	const struct port_value *port = lookup_port(t, &key);

	return port ? port->flags : 0;
}

SLUICE_INLINE int verdict_admits_resolver(const struct tables *t, const struct rule_set *rules, const struct flow *flow)
{
	if (flow->port != 53 || rules->dns_allow == DNS_NONE)
		return 0;
	return rules->dns_allow == DNS_ANY || verdict_service(t, rules->resolvers, KIND_RESOLVER, flow);
}

/*
 * Whether the kernel reads the name of flows to these services. ALLOW_ANY permits any name; and where a plain TCP service
 * shares the address there need not be one.
 */
SLUICE_INLINE int verdict_checks_name(const struct rule_set *rules, __u32 flags)
{
	return (flags & SERVICE_TLS) && !(flags & (SERVICE_HTTP | SERVICE_ROUTED | SERVICE_REWRITES | SERVICE_TCP)) &&
	       rules->host_check == HOST_CHECK_KERNEL && rules->mode == MODE_REGISTRY_ONLY;
}

/* Whether clients reach these services, at an address that is theirs, through the redirector only. */
SLUICE_INLINE int verdict_redirects(const struct rule_set *rules, __u32 flags)
{
	return (flags & (SERVICE_HTTP | SERVICE_ROUTED | SERVICE_REWRITES)) ||
	       ((flags & SERVICE_TLS) && rules->host_check == HOST_CHECK_PROXY);
}

/*
 * Whether what looks like HTTP is taken for it: on port 80, on every port that a service of the registry declares to be HTTP
 * (or leaves open without an address of its own, ISTIO.md §1.3), and at the addresses of such services (`here`). Elsewhere it
 * is bytes like any other, and nobody is told 502.
 */
SLUICE_INLINE int verdict_speaks_http(__u32 port_flags, __u16 port, __u32 here)
{
	return port == 80 || (port_flags & PORT_HTTP) || (here & SERVICE_HTTP);
}

/* DESIGN §3 steps 2 to 4 for an intercepted TCP flow; `proxied`: with the proxy, or the Host, of what is not registered. */
SLUICE_INLINE struct decision verdict_tcp(const struct tables *t, const struct rule_set *rules, const struct flow *flow, int proxied)
{
	const struct service_value *service = verdict_service(t, rules->registry, KIND_SERVICE, flow);
	__u32 port;
	int http;

	if (service) {
		struct decision d = decide(VERDICT_ALLOW, REASON_SERVICE, service->service);

		d.service_flags = (__u8)service->flags;
		if (verdict_redirects(rules, service->flags)) {
			d.verdict = VERDICT_REDIRECT;
			if (!(service->flags & (SERVICE_HTTP | SERVICE_ROUTED | SERVICE_REWRITES)))
				d.reason = REASON_SERVICE_TLS;
		} else if (verdict_checks_name(rules, service->flags)) {
			d.reason = REASON_SERVICE_TLS;
			d.check_name = 1;
		}
		return d;
	}
	port = verdict_port_flags(t, rules, flow);
	if ((port & PORT_NAMED_ROUTED) || ((port & PORT_NAMED) && rules->mode == MODE_REGISTRY_ONLY))
		return decide(VERDICT_REDIRECT, REASON_NAME, 0);
	http = verdict_speaks_http(port, flow->port, 0);
	if (rules->mode != MODE_REGISTRY_ONLY)
		return proxied && (rules->egress_proxy || (http && rules->mode == MODE_ALLOW_ANY_DYNAMIC_DNS))
			       ? decide(VERDICT_REDIRECT, REASON_NAME, 0)
			       : decide(VERDICT_PASSTHROUGH, REASON_ALLOW_ANY, 0);
	if (http) {
		struct decision d = decide(VERDICT_REDIRECT, REASON_REFUSE_HTTP, 0);

		if (rules->audit) {
			d.verdict = VERDICT_PASSTHROUGH;
			d.would_be = VERDICT_REDIRECT;
		}
		return d;
	}
	return decide_deny(rules, REASON_NOT_REGISTERED, 0);
}

/*
 * UDP and whatever else is not TCP: as for TCP, without names and without redirect. QUIC to a port where TCP is
 * name-checked is refused, so that clients fall back to TCP.
 */
SLUICE_INLINE struct decision verdict_udp(const struct tables *t, const struct rule_set *rules, const struct flow *flow)
{
	const struct service_value *service = verdict_service(t, rules->registry, KIND_SERVICE, flow);
	struct flow tcp = *flow;
	struct decision twin;

	if (service)
		return decide(VERDICT_ALLOW, REASON_SERVICE, service->service);
	if (rules->mode == MODE_REGISTRY_ONLY)
		return decide_deny(rules, REASON_NOT_REGISTERED, 0);
	tcp.protocol = SLUICE_TCP;
	twin = verdict_tcp(t, rules, &tcp, 0);
	if (twin.verdict == VERDICT_REDIRECT)
		return decide_deny(rules, REASON_UDP_NAME_CHECK, twin.service);
	return decide(VERDICT_PASSTHROUGH, REASON_ALLOW_ANY, 0);
}

/* The verdict on a new flow of a workload whose rule set is `rules`. */
SLUICE_INLINE struct decision verdict_judge(const struct tables *t, const struct rule_set *rules,
					    const struct flow *flow)
{
	__u8 bypass;

	if (addr_is_loopback(flow->addr))
		return decide(VERDICT_BYPASS, REASON_LOOPBACK, 0);
	bypass = verdict_bypass(t, rules, flow);
	if (bypass)
		return decide(VERDICT_BYPASS, bypass, 0);
	if (verdict_admits_resolver(t, rules, flow))
		return decide(VERDICT_ALLOW, REASON_RESOLVER, 0);
	return flow->protocol == SLUICE_TCP ? verdict_tcp(t, rules, flow, 1) : verdict_udp(t, rules, flow);
}

/* A REDIRECT that cannot be carried out: no listener in this netns, or a socket bound to a device. */
SLUICE_INLINE struct decision verdict_unredirectable(const struct rule_set *rules, struct decision d, __u8 reason)
{
	struct decision out = decide_deny(rules, reason, d.service);

	if (rules->audit)
		out.would_be = VERDICT_REDIRECT;
	return out;
}

/*
 * The verdict on an upstream socket, which sluice made and marked with the workload it works for: the
 * workload's own, except that a redirect has already happened (DESIGN §3, "on a marked socket").
 */
SLUICE_INLINE struct decision verdict_upstream(const struct tables *t, const struct rule_set *rules,
					       const struct flow *flow, __u16 redirector_port)
{
	const struct service_value *dialled;
	struct decision d;

	if (addr_is_loopback(flow->addr) && flow->port == redirector_port)
		return decide(VERDICT_DENY, REASON_REDIRECTOR_PORT, 0);
	dialled = verdict_service(t, rules->registry, KIND_UPSTREAM, flow);
	if (dialled)
		return decide(VERDICT_ALLOW, REASON_UPSTREAM, dialled->service);
	d = verdict_judge(t, rules, flow);
	d.check_name = 0; /* the redirector has read it */
	if (d.verdict != VERDICT_REDIRECT && d.verdict != VERDICT_DENY && !d.would_be)
		return d;
	if (d.reason == REASON_SERVICE || d.reason == REASON_SERVICE_TLS)
		return decide(VERDICT_ALLOW, d.reason, d.service);
	if (d.reason == REASON_NAME && ((rules->mode != MODE_REGISTRY_ONLY && !rules->egress_proxy) || rules->audit))
		return decide(VERDICT_PASSTHROUGH, REASON_NAME_ANY, 0);
	if (flow->protocol == SLUICE_TCP && (verdict_port_flags(t, rules, flow) & PORT_NAMED_NONE))
		return decide(VERDICT_ALLOW, REASON_NAME, 0);
	if (d.verdict != VERDICT_REDIRECT)
		return d;
	return decide_deny(rules, REASON_NOT_REGISTERED, 0);
}

/*
 * The verdict on an open flow to an address that a service's name has had: that admits what is open, nothing new, and
 * directly only what the service itself would have been reached by. `check_name`: and of that only what has shown a name.
 */
SLUICE_INLINE struct decision verdict_former(const struct tables *t, const struct rule_set *rules, const struct flow *flow,
					     int upstream)
{
	const struct service_value *service = verdict_service(t, rules->registry, KIND_FORMER, flow);
	struct decision d = decide(VERDICT_DENY, REASON_NOT_REGISTERED, 0);

	if (service && (upstream || flow->protocol != SLUICE_TCP || !verdict_redirects(rules, service->flags))) {
		d = decide(VERDICT_ALLOW, REASON_FORMER_ADDRESS, service->service);
		d.check_name = !upstream && flow->protocol == SLUICE_TCP && verdict_checks_name(rules, service->flags);
	}
	return d;
}

/* What a redirected client showed of itself. */
enum shown_name {
	SHOWN_HOST,    /* an HTTP request: Host or the authority of the target */
	SHOWN_SNI,     /* a ClientHello with a server name */
	SHOWN_NOTHING, /* a ClientHello without one, other bytes, or silence */
};

/*
 * The second half of a REDIRECT, decided by the redirector for each request (HTTP) or connection.
 * `service`: the catalog id of the service registered under the shown name on the dialled port, or 0.
 * `here`: flags of the services registered at the dialled address and port (flow_record.service_flags).
 * ALLOW: serve it by that service; PASSTHROUGH: relay to where the client dialled; DENY: 502 or RST.
 */
SLUICE_INLINE struct decision verdict_named(const struct rule_set *rules, enum shown_name shown, __u32 service,
					    __u32 here)
{
	if (service)
		return decide(VERDICT_ALLOW, REASON_NAME_ALLOWED, service);
	if (rules->mode != MODE_REGISTRY_ONLY)
		return decide(VERDICT_PASSTHROUGH, REASON_NAME_ANY, 0);
	/* A plain TCP service has no name to show: there the address is enough. A client that speaks HTTP has named another one. */
	if (here & SERVICE_TCP && !(shown == SHOWN_HOST && here & SERVICE_DETECTED))
		return decide(VERDICT_PASSTHROUGH, REASON_SERVICE, 0);
	return decide_deny(rules, shown == SHOWN_NOTHING ? REASON_NAME_MISSING : REASON_NAME_UNREGISTERED, 0);
}

#ifndef __bpf__
SLUICE_INLINE const char *verdict_name(__u8 verdict)
{
	static const char *const names[VERDICT_COUNT] = {"bypass", "allow", "passthrough", "redirect", "deny"};

	return verdict < VERDICT_COUNT ? names[verdict] : "?";
}

SLUICE_INLINE const char *verdict_mode_name(__u8 mode)
{
	static const char *const names[] = {"ALLOW_ANY", "REGISTRY_ONLY", "ALLOW_ANY_DYNAMIC_DNS"};

	return mode < sizeof(names) / sizeof(*names) ? names[mode] : "?";
}

SLUICE_INLINE const char *verdict_host_check_name(__u8 host_check)
{
	static const char *const names[] = {"proxy", "off", "kernel"};

	return host_check < sizeof(names) / sizeof(*names) ? names[host_check] : "?";
}

SLUICE_INLINE const char *verdict_reason_name(__u8 reason)
{
	static const char *const names[REASON_COUNT] = {
		[REASON_NONE] = "none",
		[REASON_LOOPBACK] = "loopback",
		[REASON_EXCLUDED_PORT] = "excluded-port",
		[REASON_EXCLUDED_CIDR] = "excluded-cidr",
		[REASON_NOT_INCLUDED] = "not-included",
		[REASON_RESOLVER] = "resolver",
		[REASON_SERVICE] = "service",
		[REASON_SERVICE_TLS] = "service-tls",
		[REASON_NAME] = "name",
		[REASON_REFUSE_HTTP] = "refuse-http",
		[REASON_ALLOW_ANY] = "allow-any",
		[REASON_NOT_REGISTERED] = "not-registered",
		[REASON_UDP_NAME_CHECK] = "udp-name-check",
		[REASON_UDP_ANSWER] = "udp-answer",
		[REASON_NO_LISTENER] = "no-listener",
		[REASON_BOUND_DEVICE] = "bound-device",
		[REASON_NO_GENERATION] = "no-generation",
		[REASON_NO_RULE_SET] = "no-rule-set",
		[REASON_MAP_FULL] = "map-full",
		[REASON_REDIRECTOR_PORT] = "redirector-port",
		[REASON_UPSTREAM] = "upstream",
		[REASON_NAME_UNREGISTERED] = "name-unregistered",
		[REASON_NAME_MISSING] = "name-missing",
		[REASON_MALFORMED] = "malformed",
		[REASON_NAME_ALLOWED] = "name-allowed",
		[REASON_NAME_ANY] = "name-any",
		[REASON_ROUTE_REVOKED] = "route-revoked",
		[REASON_INBOUND_ANSWER] = "inbound-answer",
		[REASON_FORMER_ADDRESS] = "former-address",
		[REASON_DRAINING] = "draining",
		[REASON_FOREIGN_SOURCE] = "foreign-source",
		[REASON_FRAME] = "frame",
		[REASON_PACKET] = "packet",
		[REASON_SOURCE_ROUTE] = "source-route",
		[REASON_FRAGMENT] = "fragment",
		[REASON_RESERVED_PORT] = "reserved-port",
		[REASON_HELLO_UNREADABLE] = "hello-unreadable",
		[REASON_HELLO_CHANGED] = "hello-changed",
	};

	return reason < REASON_COUNT ? names[reason] : "?";
}
#endif

#endif
