// SPDX-License-Identifier: Apache-2.0
/* The verdict, step by step (DESIGN §3), over images compiled from documents. */
#include <criterion/criterion.h>
#include <string.h>

#include "config/config.h"
#include "policy/policy.h"
#include "policy/tables.h"

#define ENTRY(name) "---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: " name "}\nspec: "
#define ROUTES(name) "---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: " name "}\nspec: "
#define POLICY "---\napiVersion: sluice.dev/v1\nkind: EgressPolicy\nmetadata: {name: p, namespace: istio-system}\nspec: "
#define REGISTRY_ONLY "outboundTrafficPolicy: {mode: REGISTRY_ONLY}"
#define HTTP80 "ports: [{number: 80, name: http, protocol: HTTP}]"
#define TLS443 "ports: [{number: 443, name: tls, protocol: TLS}]"
#define REDIRECTOR 15001

/* What the fake resolver knows. */
static const struct {
	const char *host;
	const char *address;
} answers[] = {
	{"web.com", "192.0.2.80"}, {"tls.com", "192.0.2.43"}, {"db.com", "192.0.2.33"}, {"db.com", "2001:db8::33"},
	{"quic.com", "192.0.2.44"}, {"alias.com", "192.0.2.99"},
};

static const uint8_t (*look_up(void *context, const char *host, size_t *count))[16]
{
	static uint8_t found[ARRAY_SIZE(answers)][16];

	(void)context;
	*count = 0;
	for (size_t i = 0; i < ARRAY_SIZE(answers); i++)
		if (!strcmp(answers[i].host, host))
			cr_assert_eq(parse_address(found[(*count)++], answers[i].address), 0);
	return (const uint8_t (*)[16])found;
}

/* Addresses that left. */
static const uint8_t (*look_back(void *context, const char *host, size_t *count))[16]
{
	static uint8_t left[1][16];

	(void)context;
	*count = strcmp(host, "tls.com") && strcmp(host, "db.com") && strcmp(host, "web.com") ? 0 : 1;
	cr_assert_eq(parse_address(left[0], "198.18.0.1"), 0);
	return (const uint8_t (*)[16])left;
}

/* A name that a client showed: where it is, and where it was. */
static struct asked_name asked_example(void)
{
	static uint8_t now[1][16], left[1][16];

	cr_assert(!parse_address(now[0], "192.0.2.99") && !parse_address(left[0], "198.18.0.1"));
	return (struct asked_name){"a.b.d.com", (const uint8_t (*)[16])now, (const uint8_t (*)[16])left, 1, 1};
}

struct world {
	struct config *config;
	struct policy *policy;
	struct image *image;
	struct image_tables tables;
	struct rule_set rules;
};

static void print_problems(const struct config *config)
{
	for (size_t i = 0; i < config->problem_count; i++)
		config_problem_print(stderr, &config->problems[i]);
}

static void open_world(struct world *w, const char *text)
{
	static const uint8_t own[1][16] = {{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 198, 51, 100, 53}};
	struct policy_options options = {"istio-system", own, 1};
	struct workload_identity who = {"shop", "cart", NULL, 0};
	const struct asked_name asked = asked_example();
	struct config_file file = {"p.yaml", text, strlen(text)};
	const struct rule_set *rules;
	uint32_t id;

	w->config = config_new();
	config_parse(w->config, &file);
	config_validate(w->config, "istio-system");
	if (w->config->error_count)
		print_problems(w->config);
	cr_assert_eq(w->config->error_count, 0, "of\n%s", text);
	w->policy = policy_compile(w->config, &options);
	cr_assert_not_null(w->policy);
	id = policy_rule_set(w->policy, &who, &rules);
	w->image = policy_image_build(w->policy, look_up, look_back, NULL, &(struct asked_names){&asked, 1});
	image_tables_init(&w->tables, w->image);
	w->rules = *lookup_rule_set(&w->tables.tables, id);
}

static void close_world(struct world *w)
{
	image_free(w->image);
	policy_free(w->policy);
	config_free(w->config);
}

static struct flow flow_to(uint8_t protocol, const char *address, uint16_t port)
{
	struct flow flow = {.port = port, .protocol = protocol};

	cr_assert_eq(parse_address(flow.addr, address), 0, "%s", address);
	return flow;
}

struct judged {
	uint8_t protocol;
	const char *address;
	uint16_t port;
	uint8_t verdict, reason, would_be;
};

static void expect(const char *what, const char *text, const struct judged *want, const struct decision *got)
{
	cr_expect(got->verdict == want->verdict && got->reason == want->reason && got->would_be == want->would_be,
		  "%s: %s %s:%u: wanted %s/%s/%u, got %s/%s/%u, of\n%s", what, want->protocol == SLUICE_TCP ? "tcp" : "udp",
		  want->address, want->port, verdict_name(want->verdict), verdict_reason_name(want->reason), want->would_be,
		  verdict_name(got->verdict), verdict_reason_name(got->reason), got->would_be, text);
}

static void check(const char *text, const struct judged *cases, size_t count, bool upstream)
{
	struct world w;

	open_world(&w, text);
	for (size_t i = 0; i < count; i++) {
		struct flow flow = flow_to(cases[i].protocol, cases[i].address, cases[i].port);
		struct decision d = upstream ? verdict_upstream(&w.tables.tables, &w.rules, &flow, REDIRECTOR)
					     : verdict_judge(&w.tables.tables, &w.rules, &flow);

		expect(upstream ? "upstream" : "judge", text, &cases[i], &d);
	}
	close_world(&w);
}

#define JUDGE(text, ...)                                                               \
	do {                                                                           \
		static const struct judged cases_[] = {__VA_ARGS__};                   \
		check(text, cases_, ARRAY_SIZE(cases_), false);                        \
	} while (0)
#define UPSTREAM(text, ...)                                                            \
	do {                                                                           \
		static const struct judged cases_[] = {__VA_ARGS__};                   \
		check(text, cases_, ARRAY_SIZE(cases_), true);                         \
	} while (0)

#define T SLUICE_TCP
#define U SLUICE_UDP
#define B VERDICT_BYPASS
#define A VERDICT_ALLOW
#define P VERDICT_PASSTHROUGH
#define R VERDICT_REDIRECT
#define D VERDICT_DENY

/* ---- step 1: loopback and interception ---- */

Test(verdict, loopback_and_its_mapped_forms_bypass)
{
	JUDGE(POLICY "{" REGISTRY_ONLY "}",
	      {T, "127.0.0.1", 80, B, REASON_LOOPBACK, 0}, {U, "127.255.255.254", 53, B, REASON_LOOPBACK, 0},
	      {T, "::1", 80, B, REASON_LOOPBACK, 0}, {T, "::ffff:127.0.0.1", 80, B, REASON_LOOPBACK, 0},
	      {T, "0.0.0.0", 80, B, REASON_LOOPBACK, 0}, {T, "::", 80, B, REASON_LOOPBACK, 0},
	      {U, "::ffff:0.0.0.0", 9, B, REASON_LOOPBACK, 0});
}

Test(verdict, what_only_looks_like_loopback_is_judged)
{
	JUDGE(POLICY "{" REGISTRY_ONLY "}",
	      {T, "169.254.169.254", 81, D, REASON_NOT_REGISTERED, 0}, {T, "128.0.0.1", 81, D, REASON_NOT_REGISTERED, 0},
	      {T, "126.255.255.255", 81, D, REASON_NOT_REGISTERED, 0}, {T, "0.0.0.1", 81, D, REASON_NOT_REGISTERED, 0},
	      {T, "::2", 81, D, REASON_NOT_REGISTERED, 0}, {T, "::127.0.0.1", 81, D, REASON_NOT_REGISTERED, 0},
	      {T, "fe80::1", 81, D, REASON_NOT_REGISTERED, 0}, {T, "1::1", 81, D, REASON_NOT_REGISTERED, 0},
	      {T, "0:0:0:0:1::1", 81, D, REASON_NOT_REGISTERED, 0}, {T, "::ffff:0:127.0.0.1", 81, D, REASON_NOT_REGISTERED, 0});
}

Test(verdict, loopback_bypasses_even_where_it_is_included)
{
	JUDGE(POLICY "{" REGISTRY_ONLY ", interception: {includeCIDRs: [127.0.0.0/8], includePorts: [81]}}",
	      {T, "127.0.0.1", 81, B, REASON_LOOPBACK, 0});
}

Test(verdict, a_mapped_address_is_its_ipv4_address)
{
	JUDGE(ENTRY("db") "{hosts: [db.com], addresses: ['::ffff:203.0.113.0/120'], resolution: NONE, "
	      "ports: [{number: 5432, name: db, protocol: TCP}]}\n"
	      POLICY "{" REGISTRY_ONLY ", interception: {excludeCIDRs: ['::ffff:10.0.0.0/104']}}",
	      {T, "203.0.113.7", 5432, A, REASON_SERVICE, 0}, {T, "::ffff:203.0.113.7", 5432, A, REASON_SERVICE, 0},
	      {T, "::203.0.113.7", 5432, D, REASON_NOT_REGISTERED, 0},
	      {T, "10.1.2.3", 5432, B, REASON_EXCLUDED_CIDR, 0}, {T, "::ffff:10.1.2.3", 5432, B, REASON_EXCLUDED_CIDR, 0});
}

Test(verdict, exclude_beats_include_in_every_combination)
{
	JUDGE(POLICY "{" REGISTRY_ONLY ", interception: {includeCIDRs: [10.0.0.0/8], excludeCIDRs: [10.1.0.0/16], "
	      "includePorts: [90, 91], excludePorts: [91, 92]}}",
	      {T, "10.0.0.1", 81, D, REASON_NOT_REGISTERED, 0}, {U, "10.0.0.1", 81, D, REASON_NOT_REGISTERED, 0},
	      {T, "10.1.0.1", 81, B, REASON_EXCLUDED_CIDR, 0},  /* included CIDR, excluded CIDR */
	      {T, "10.1.0.1", 90, B, REASON_EXCLUDED_CIDR, 0},  /* included port, excluded CIDR */
	      {T, "10.0.0.1", 92, B, REASON_EXCLUDED_PORT, 0},  /* included CIDR, excluded port */
	      {U, "10.0.0.1", 92, B, REASON_EXCLUDED_PORT, 0},
	      {T, "192.0.2.1", 91, B, REASON_EXCLUDED_PORT, 0}, /* included port, excluded port */
	      {T, "10.1.0.1", 92, B, REASON_EXCLUDED_PORT, 0},
	      {T, "192.0.2.1", 90, D, REASON_NOT_REGISTERED, 0}, /* included port, any address */
	      {T, "2001:db8::1", 90, D, REASON_NOT_REGISTERED, 0},
	      {U, "192.0.2.1", 90, D, REASON_NOT_REGISTERED, 0},
	      {T, "192.0.2.1", 81, B, REASON_NOT_INCLUDED, 0}, {T, "2001:db8::1", 81, B, REASON_NOT_INCLUDED, 0});
	/* A longer include inside an exclude changes nothing. */
	JUDGE(POLICY "{" REGISTRY_ONLY ", interception: {includeCIDRs: [10.1.1.0/24], excludeCIDRs: [10.0.0.0/8]}}",
	      {T, "10.1.1.1", 81, B, REASON_EXCLUDED_CIDR, 0});
}

Test(verdict, an_include_list_of_one_family_captures_none_of_the_other)
{
	JUDGE(POLICY "{" REGISTRY_ONLY ", interception: {includeCIDRs: [0.0.0.0/0]}}",
	      {T, "192.0.2.1", 81, D, REASON_NOT_REGISTERED, 0}, {T, "2001:db8::1", 81, B, REASON_NOT_INCLUDED, 0});
	JUDGE(POLICY "{" REGISTRY_ONLY ", interception: {includeCIDRs: ['::/0']}}",
	      {T, "2001:db8::1", 81, D, REASON_NOT_REGISTERED, 0}, {T, "192.0.2.1", 81, B, REASON_NOT_INCLUDED, 0});
	JUDGE(POLICY "{" REGISTRY_ONLY ", interception: {excludeCIDRs: ['::/0']}}",
	      {T, "2001:db8::1", 81, B, REASON_EXCLUDED_CIDR, 0}, {T, "192.0.2.1", 81, D, REASON_NOT_REGISTERED, 0});
}

Test(verdict, an_empty_include_list_captures_nothing_but_included_ports)
{
	JUDGE(POLICY "{" REGISTRY_ONLY ", interception: {includeCIDRs: []}}",
	      {T, "192.0.2.1", 80, B, REASON_NOT_INCLUDED, 0}, {U, "2001:db8::1", 53, B, REASON_NOT_INCLUDED, 0});
	JUDGE(POLICY "{" REGISTRY_ONLY ", interception: {includeCIDRs: [], includePorts: [80]}}",
	      {T, "192.0.2.1", 80, R, REASON_REFUSE_HTTP, 0}, {T, "192.0.2.1", 81, B, REASON_NOT_INCLUDED, 0});
}

/* ---- DNS ---- */

Test(verdict, dns_is_admitted_to_our_resolvers_and_the_listed_ones)
{
	JUDGE(POLICY "{" REGISTRY_ONLY ", dns: {servers: [9.9.9.9, '2620:fe::fe']}}",
	      {U, "198.51.100.53", 53, A, REASON_RESOLVER, 0}, {T, "198.51.100.53", 53, A, REASON_RESOLVER, 0},
	      {U, "9.9.9.9", 53, A, REASON_RESOLVER, 0}, {T, "2620:fe::fe", 53, A, REASON_RESOLVER, 0},
	      {U, "8.8.8.8", 53, D, REASON_NOT_REGISTERED, 0}, {T, "8.8.8.8", 53, D, REASON_NOT_REGISTERED, 0},
	      {T, "9.9.9.9", 853, D, REASON_NOT_REGISTERED, 0}, {U, "198.51.100.53", 54, D, REASON_NOT_REGISTERED, 0});
}

Test(verdict, dns_any_admits_every_server_and_none_not_even_ours)
{
	JUDGE(POLICY "{" REGISTRY_ONLY ", dns: {allow: any}}",
	      {U, "8.8.8.8", 53, A, REASON_RESOLVER, 0}, {T, "8.8.8.8", 53, A, REASON_RESOLVER, 0},
	      {U, "8.8.8.8", 5353, D, REASON_NOT_REGISTERED, 0});
	JUDGE(POLICY "{" REGISTRY_ONLY ", dns: {allow: none, servers: [9.9.9.9]}}",
	      {U, "198.51.100.53", 53, D, REASON_NOT_REGISTERED, 0}, {U, "9.9.9.9", 53, D, REASON_NOT_REGISTERED, 0});
	JUDGE(POLICY "{dns: {allow: none}}", {U, "198.51.100.53", 53, P, REASON_ALLOW_ANY, 0});
}

/* ---- step 2: by address ---- */

#define SERVICES                                                                                                        \
	ENTRY("web") "{hosts: [web.com], resolution: DNS, " HTTP80 "}\n"                                               \
	ENTRY("tls") "{hosts: [tls.com], resolution: DNS, " TLS443 "}\n"                                               \
	ENTRY("db") "{hosts: [db.com], resolution: DNS, ports: [{number: 5432, name: db, protocol: TCP}]}\n"           \
	ENTRY("vip") "{hosts: [vip.com], addresses: [203.0.113.9], resolution: STATIC, endpoints: [{address: 192.0.2.9}, " \
	"{address: '2001:db8::9'}], ports: [{number: 6379, name: r, protocol: Redis}]}\n"                             \
	ENTRY("moved") "{hosts: [moved.com], resolution: STATIC, endpoints: [{address: 192.0.2.10}], "                 \
	"ports: [{number: 7000, name: m, protocol: TCP, targetPort: 7001}]}\n"                                         \
	ENTRY("quic") "{hosts: [quic.com], resolution: DNS, ports: [{number: 4430, name: q, protocol: UDP}]}\n"

Test(verdict, a_registered_address_is_allowed_or_redirected_by_its_protocol)
{
	JUDGE(SERVICES POLICY "{" REGISTRY_ONLY "}",
	      {T, "192.0.2.80", 80, R, REASON_SERVICE, 0}, {T, "192.0.2.43", 443, R, REASON_SERVICE_TLS, 0},
	      {T, "192.0.2.33", 5432, A, REASON_SERVICE, 0}, {T, "2001:db8::33", 5432, A, REASON_SERVICE, 0},
	      {T, "192.0.2.34", 5432, D, REASON_NOT_REGISTERED, 0}, {T, "192.0.2.33", 5433, D, REASON_NOT_REGISTERED, 0},
	      {T, "203.0.113.9", 6379, R, REASON_SERVICE, 0},    /* a VIP is dialled elsewhere */
	      {T, "192.0.2.9", 6379, D, REASON_NOT_REGISTERED, 0}, /* its endpoint is for upstream sockets */
	      {T, "192.0.2.10", 7000, R, REASON_SERVICE, 0}, {T, "192.0.2.10", 7001, D, REASON_NOT_REGISTERED, 0});
}

Test(verdict, host_check_off_allows_a_registered_tls_address_and_still_asks_unknown_ones)
{
	JUDGE(SERVICES POLICY "{" REGISTRY_ONLY ", hostCheck: off}",
	      {T, "192.0.2.43", 443, A, REASON_SERVICE, 0}, {T, "192.0.2.80", 80, R, REASON_SERVICE, 0},
	      {T, "192.0.2.77", 443, R, REASON_NAME, 0});
}

Test(verdict, host_check_kernel_allows_a_registered_tls_address_if_the_name_is_shown)
{
	struct flow flow = flow_to(T, "192.0.2.43", 443);
	struct world w;

	JUDGE(SERVICES POLICY "{" REGISTRY_ONLY ", hostCheck: kernel}",
	      {T, "192.0.2.43", 443, A, REASON_SERVICE_TLS, 0}, {T, "192.0.2.80", 80, R, REASON_SERVICE, 0},
	      {T, "192.0.2.77", 443, R, REASON_NAME, 0}, {U, "192.0.2.43", 443, D, REASON_NOT_REGISTERED, 0});
	JUDGE(SERVICES POLICY "{hostCheck: kernel}", {T, "192.0.2.43", 443, A, REASON_SERVICE, 0}); /* any name may be shown */
	open_world(&w, SERVICES POLICY "{" REGISTRY_ONLY ", hostCheck: kernel}");
	cr_expect(verdict_judge(&w.tables.tables, &w.rules, &flow).check_name);
	cr_expect(!verdict_upstream(&w.tables.tables, &w.rules, &flow, REDIRECTOR).check_name, "the redirector has read it");
	close_world(&w);
}

Test(verdict, the_longest_prefix_and_everybodys_flags_decide)
{
	JUDGE(ENTRY("wide") "{hosts: [wide.com], addresses: [203.0.113.0/24], ports: [{number: 9000, name: t, protocol: TCP}]}\n"
	      ENTRY("narrow") "{hosts: [narrow.com], addresses: [203.0.113.128/25], ports: [{number: 9000, name: t, protocol: HTTP}]}\n"
	      ENTRY("same") "{hosts: [same.com], addresses: [203.0.113.0/26], ports: [{number: 9000, name: t, protocol: TCP}]}\n"
	      ENTRY("same2") "{hosts: [same2.com], addresses: [203.0.113.0/26], ports: [{number: 9000, name: t, protocol: TLS}]}\n"
	      POLICY "{" REGISTRY_ONLY "}",
	      {T, "203.0.113.100", 9000, A, REASON_SERVICE, 0}, {T, "203.0.113.200", 9000, R, REASON_SERVICE, 0},
	      {T, "203.0.113.1", 9000, R, REASON_SERVICE_TLS, 0}, {T, "203.0.112.1", 9000, R, REASON_NAME, 0});
}

/* ---- step 3: by name ---- */

Test(verdict, registry_only_asks_for_the_name_on_a_port_of_named_services)
{
	JUDGE(SERVICES ENTRY("any") "{hosts: ['*.any.com'], ports: [{number: 8443, name: t, protocol: HTTPS}]}\n"
	      POLICY "{" REGISTRY_ONLY "}",
	      {T, "8.8.8.8", 80, R, REASON_NAME, 0}, {T, "8.8.8.8", 443, R, REASON_NAME, 0},
	      {T, "2001:db8::8", 8443, R, REASON_NAME, 0}, {T, "8.8.8.8", 5432, D, REASON_NOT_REGISTERED, 0});
}

Test(verdict, allow_any_asks_for_the_name_only_where_a_named_service_is_routed)
{
	JUDGE(SERVICES,
	      {T, "8.8.8.8", 80, P, REASON_ALLOW_ANY, 0}, {T, "8.8.8.8", 443, P, REASON_ALLOW_ANY, 0},
	      {T, "192.0.2.80", 80, R, REASON_SERVICE, 0});
	JUDGE(SERVICES ROUTES("slow") "{hosts: [web.com], http: [{fault: {delay: {fixedDelay: 5s, percent: 100}}, "
	      "route: [{destination: {host: web.com}}]}]}\n",
	      {T, "8.8.8.8", 80, R, REASON_NAME, 0}, {T, "8.8.8.8", 443, P, REASON_ALLOW_ANY, 0});
	/* A fault of 0 % to its own service changes nothing. */
	JUDGE(SERVICES ROUTES("slow") "{hosts: [web.com], http: [{fault: {delay: {fixedDelay: 5s}}, "
	      "route: [{destination: {host: web.com}}]}]}\n",
	      {T, "8.8.8.8", 80, P, REASON_ALLOW_ANY, 0});
}

/* ---- step 4 ---- */

Test(verdict, registry_only_answers_http_ports_and_refuses_the_rest)
{
	JUDGE(POLICY "{" REGISTRY_ONLY "}",
	      {T, "8.8.8.8", 80, R, REASON_REFUSE_HTTP, 0}, {T, "8.8.8.8", 443, D, REASON_NOT_REGISTERED, 0},
	      {T, "8.8.8.8", 8080, D, REASON_NOT_REGISTERED, 0}, {U, "8.8.8.8", 80, D, REASON_NOT_REGISTERED, 0});
	JUDGE(ENTRY("x") "{hosts: [x.com], ports: [{number: 8080, name: h, protocol: HTTP}]}\n" POLICY "{" REGISTRY_ONLY "}",
	      {T, "8.8.8.8", 8080, R, REASON_NAME, 0}, {U, "8.8.8.8", 8080, D, REASON_NOT_REGISTERED, 0});
}

Test(verdict, allow_any_passes_what_is_not_registered)
{
	JUDGE("", {T, "8.8.8.8", 80, P, REASON_ALLOW_ANY, 0}, {T, "2001:db8::8", 443, P, REASON_ALLOW_ANY, 0},
	      {U, "8.8.8.8", 53, P, REASON_ALLOW_ANY, 0}, {U, "198.51.100.53", 53, A, REASON_RESOLVER, 0});
}

Test(verdict, audit_denies_nothing_and_says_what_it_would_have_done)
{
	JUDGE(SERVICES POLICY "{" REGISTRY_ONLY ", enforcement: audit}",
	      {T, "8.8.8.8", 5432, P, REASON_NOT_REGISTERED, D}, {U, "8.8.8.8", 443, P, REASON_NOT_REGISTERED, D},
	      {T, "8.8.8.8", 443, R, REASON_NAME, 0}, {T, "192.0.2.33", 5432, A, REASON_SERVICE, 0});
	JUDGE(POLICY "{" REGISTRY_ONLY ", enforcement: audit}", {T, "8.8.8.8", 80, P, REASON_REFUSE_HTTP, R});
	JUDGE(SERVICES POLICY "{enforcement: audit}", {U, "192.0.2.43", 443, P, REASON_UDP_NAME_CHECK, D});
}

/* ---- UDP ---- */

Test(verdict, quic_is_refused_where_tcp_is_name_checked)
{
	JUDGE(SERVICES,
	      {U, "192.0.2.43", 443, D, REASON_UDP_NAME_CHECK, 0}, {U, "192.0.2.80", 80, D, REASON_UDP_NAME_CHECK, 0},
	      {U, "8.8.8.8", 443, P, REASON_ALLOW_ANY, 0}, {U, "192.0.2.33", 5432, P, REASON_ALLOW_ANY, 0});
	JUDGE(SERVICES POLICY "{hostCheck: off}", {U, "192.0.2.43", 443, P, REASON_ALLOW_ANY, 0});
}

Test(verdict, registered_udp_is_allowed_and_is_no_tcp_service)
{
	JUDGE(SERVICES POLICY "{" REGISTRY_ONLY "}",
	      {U, "192.0.2.44", 4430, A, REASON_SERVICE, 0}, {T, "192.0.2.44", 4430, D, REASON_NOT_REGISTERED, 0},
	      {U, "192.0.2.33", 5432, D, REASON_NOT_REGISTERED, 0}, {U, "192.0.2.43", 443, D, REASON_NOT_REGISTERED, 0});
}

Test(verdict, registered_udp_endpoints_are_dialled_by_clients_themselves)
{
	JUDGE(ENTRY("vip") "{hosts: [v.com], addresses: [203.0.113.9], resolution: STATIC, endpoints: [{address: 192.0.2.9}], "
	      "ports: [{number: 5353, name: u, protocol: UDP, targetPort: 53}, {number: 5354, name: t, protocol: TCP, targetPort: 54}]}\n"
	      ENTRY("alias") "{hosts: [a.com], resolution: DNS, endpoints: [{address: alias.com}], "
	      "ports: [{number: 4430, name: q, protocol: UDP}]}\n" POLICY "{" REGISTRY_ONLY ", dns: {allow: none}}",
	      {U, "203.0.113.9", 5353, A, REASON_SERVICE, 0}, {U, "192.0.2.9", 53, A, REASON_SERVICE, 0},
	      {U, "192.0.2.99", 4430, A, REASON_SERVICE, 0}, {U, "192.0.2.9", 5353, D, REASON_NOT_REGISTERED, 0},
	      {T, "192.0.2.9", 53, D, REASON_NOT_REGISTERED, 0}, {U, "192.0.2.9", 54, D, REASON_NOT_REGISTERED, 0},
	      {T, "192.0.2.9", 54, D, REASON_NOT_REGISTERED, 0});
}

/* ---- redirects that cannot be ---- */

Test(verdict, a_redirect_without_listener_is_refused_but_not_under_audit)
{
	struct decision redirect = decide(VERDICT_REDIRECT, REASON_SERVICE, 7), d;
	struct rule_set enforce = {.mode = MODE_ALLOW_ANY}, audit = {.audit = 1};

	d = verdict_unredirectable(&enforce, redirect, REASON_NO_LISTENER);
	cr_expect(d.verdict == D && d.reason == REASON_NO_LISTENER && d.service == 7 && !d.would_be);
	d = verdict_unredirectable(&audit, redirect, REASON_BOUND_DEVICE);
	cr_expect(d.verdict == P && d.reason == REASON_BOUND_DEVICE && d.would_be == R);
}

/* ---- on a marked socket ---- */

Test(verdict, an_upstream_socket_may_dial_what_services_are_dialled_at)
{
	UPSTREAM(SERVICES POLICY "{" REGISTRY_ONLY "}",
		 {T, "192.0.2.80", 80, A, REASON_UPSTREAM, 0}, {T, "192.0.2.43", 443, A, REASON_UPSTREAM, 0},
		 {T, "192.0.2.9", 6379, A, REASON_UPSTREAM, 0}, {T, "2001:db8::9", 6379, A, REASON_UPSTREAM, 0},
		 {T, "::ffff:192.0.2.9", 6379, A, REASON_UPSTREAM, 0}, {T, "192.0.2.10", 7001, A, REASON_UPSTREAM, 0},
		 {T, "192.0.2.10", 7000, A, REASON_SERVICE, 0}, {T, "203.0.113.9", 6379, A, REASON_SERVICE, 0},
		 {T, "192.0.2.9", 6380, D, REASON_NOT_REGISTERED, 0}, {U, "192.0.2.9", 6379, D, REASON_NOT_REGISTERED, 0});
}

Test(verdict, an_upstream_socket_never_dials_the_redirector)
{
	UPSTREAM("", {T, "127.0.0.1", REDIRECTOR, D, REASON_REDIRECTOR_PORT, 0}, {T, "::1", REDIRECTOR, D, REASON_REDIRECTOR_PORT, 0},
		 {T, "0.0.0.0", REDIRECTOR, D, REASON_REDIRECTOR_PORT, 0}, {T, "::", REDIRECTOR, D, REASON_REDIRECTOR_PORT, 0},
		 {T, "127.9.9.9", REDIRECTOR, D, REASON_REDIRECTOR_PORT, 0},
		 {T, "127.0.0.1", 8080, B, REASON_LOOPBACK, 0}, {T, "192.0.2.1", REDIRECTOR, P, REASON_ALLOW_ANY, 0});
	/* Not even as the endpoint of a service. */
	UPSTREAM(ENTRY("loop") "{hosts: [loop.com], resolution: STATIC, endpoints: [{address: 127.0.0.1}], "
		 "ports: [{number: 15001, name: h, protocol: HTTP}]}\n",
		 {T, "127.0.0.1", REDIRECTOR, D, REASON_REDIRECTOR_PORT, 0});
}

Test(verdict, an_upstream_socket_dials_an_unknown_address_only_for_none_allow_any_or_audit)
{
	static const char none[] = ENTRY("none") "{hosts: ['*.n.com'], ports: [{number: 443, name: t, protocol: TLS}]}\n"
		ENTRY("named") "{hosts: [tls.com], resolution: DNS, ports: [{number: 8443, name: t, protocol: TLS}]}\n"
		POLICY "{" REGISTRY_ONLY "}";

	UPSTREAM(none, {T, "8.8.8.8", 443, A, REASON_NAME, 0}, {T, "8.8.8.8", 8443, D, REASON_NOT_REGISTERED, 0},
		 {U, "8.8.8.8", 443, D, REASON_NOT_REGISTERED, 0});
	UPSTREAM(SERVICES POLICY "{" REGISTRY_ONLY ", enforcement: audit}", {T, "8.8.8.8", 443, P, REASON_NAME_ANY, 0},
		 {T, "8.8.8.8", 5432, P, REASON_NOT_REGISTERED, D});
	UPSTREAM(SERVICES ROUTES("to") "{hosts: [web.com], http: [{route: [{destination: {host: nowhere.com}}]}]}\n",
		 {T, "8.8.8.8", 80, P, REASON_NAME_ANY, 0}, {T, "8.8.8.8", 443, P, REASON_ALLOW_ANY, 0});
}

Test(verdict, a_none_service_with_a_target_port_is_dialled_there_and_only_there)
{
	static const char text[] = ENTRY("none") "{hosts: [n.com], ports: [{number: 80, name: h, protocol: HTTP, targetPort: 8080}]}\n"
		POLICY "{" REGISTRY_ONLY "}";

	JUDGE(text, {T, "8.8.8.8", 80, R, REASON_NAME, 0}, {T, "8.8.8.8", 8080, D, REASON_NOT_REGISTERED, 0});
	UPSTREAM(text, {T, "8.8.8.8", 8080, A, REASON_NAME, 0}, {T, "8.8.8.8", 80, D, REASON_NOT_REGISTERED, 0},
		 {T, "8.8.8.8", 8081, D, REASON_NOT_REGISTERED, 0});
	UPSTREAM(ENTRY("none") "{hosts: [n.com], ports: [{number: 80, name: h, protocol: HTTP, targetPort: 8080}]}\n"
		 POLICY "{" REGISTRY_ONLY ", enforcement: audit}",
		 {T, "8.8.8.8", 8080, A, REASON_NAME, 0}, {T, "8.8.8.8", 8081, P, REASON_NOT_REGISTERED, D});
}

Test(verdict, an_upstream_socket_is_refused_where_a_client_would_get_a_502)
{
	UPSTREAM(POLICY "{" REGISTRY_ONLY "}", {T, "8.8.8.8", 80, D, REASON_NOT_REGISTERED, 0});
	UPSTREAM(POLICY "{" REGISTRY_ONLY ", enforcement: audit}", {T, "8.8.8.8", 80, P, REASON_REFUSE_HTTP, R});
	UPSTREAM(POLICY "{" REGISTRY_ONLY ", interception: {excludePorts: [80]}}", {T, "8.8.8.8", 80, B, REASON_EXCLUDED_PORT, 0});
}

/* ---- names that clients show ---- */

static uint8_t former(const struct world *w, uint8_t protocol, uint16_t port, bool upstream)
{
	struct flow flow = flow_to(protocol, "198.18.0.1", port);
	struct decision d = verdict_former(&w->tables.tables, &w->rules, &flow, upstream);

	cr_expect_eq(d.reason, d.verdict == VERDICT_ALLOW ? REASON_FORMER_ADDRESS : REASON_NOT_REGISTERED);
	return d.verdict;
}

#define DYNAMIC \
	ENTRY("dynamic") "{hosts: ['*.d.com'], resolution: DYNAMIC_DNS, ports: [{number: 80, name: h, protocol: HTTP, targetPort: 8080}, " \
	"{number: 443, name: t, protocol: TLS}]}\n"

Test(verdict, what_clients_name_below_a_wildcard_only_the_redirector_dials)
{
	static const char *const modes[] = {"{" REGISTRY_ONLY "}", "{" REGISTRY_ONLY ", hostCheck: kernel}", "{" REGISTRY_ONLY ", hostCheck: off}"};
	char text[1024];

	for (size_t i = 0; i < ARRAY_SIZE(modes); i++) {
		snprintf(text, sizeof(text), DYNAMIC POLICY "%s", modes[i]);
		JUDGE(text, {T, "192.0.2.99", 80, R, REASON_NAME, 0}, {T, "192.0.2.99", 443, R, REASON_NAME, 0},
		      {T, "192.0.2.99", 8080, D, REASON_NOT_REGISTERED, 0}, {U, "192.0.2.99", 443, D, REASON_NOT_REGISTERED, 0});
		UPSTREAM(text, {T, "192.0.2.99", 8080, A, REASON_UPSTREAM, 0}, {T, "192.0.2.99", 443, A, REASON_UPSTREAM, 0},
			 {T, "192.0.2.99", 80, D, REASON_NOT_REGISTERED, 0}, {T, "192.0.2.98", 443, D, REASON_NOT_REGISTERED, 0});
	}
	JUDGE(DYNAMIC, {T, "192.0.2.99", 80, R, REASON_NAME, 0}, {T, "192.0.2.99", 443, R, REASON_NAME, 0},
	      {T, "192.0.2.99", 8080, P, REASON_ALLOW_ANY, 0});
}

Test(verdict, where_the_host_of_http_is_dialled_only_ports_that_speak_it_are_redirected)
{
	static const char text[] = SERVICES POLICY "{outboundTrafficPolicy: {mode: ALLOW_ANY_DYNAMIC_DNS}}";

	JUDGE(text, {T, "8.8.8.8", 80, R, REASON_NAME, 0}, {T, "8.8.8.8", 443, P, REASON_ALLOW_ANY, 0}, {T, "8.8.8.8", 22, P, REASON_ALLOW_ANY, 0},
	      {U, "8.8.8.8", 80, P, REASON_ALLOW_ANY, 0});
	JUDGE(ENTRY("h") "{hosts: [h.com], resolution: DNS, ports: [{number: 8081, name: h, protocol: HTTP}]}\n" POLICY
	      "{outboundTrafficPolicy: {mode: ALLOW_ANY_DYNAMIC_DNS}}", {T, "8.8.8.8", 8081, R, REASON_NAME, 0});
	UPSTREAM(text, {T, "8.8.8.8", 80, P, REASON_NAME_ANY, 0}, {T, "8.8.8.8", 443, P, REASON_ALLOW_ANY, 0});
}

Test(verdict, where_a_name_was_that_clients_showed_admits_open_upstream_flows_only)
{
	struct world w;

	open_world(&w, DYNAMIC POLICY "{" REGISTRY_ONLY ", hostCheck: off}");
	cr_expect_eq(former(&w, T, 443, true), A);
	cr_expect_eq(former(&w, T, 8080, true), A);
	cr_expect_eq(former(&w, T, 443, false), D);
	cr_expect_eq(former(&w, T, 8080, false), D);
	close_world(&w);
}

/* ---- addresses that have left a name ---- */

#define DB "{hosts: [db.com], resolution: DNS, ports: [{number: 5432, name: db, protocol: TCP}]}\n"

Test(verdict, a_former_address_admits_nothing_new)
{
	const char *text = ENTRY("db") DB POLICY "{" REGISTRY_ONLY "}";

	JUDGE(text, {T, "192.0.2.33", 5432, A, REASON_SERVICE, 0}, {T, "198.18.0.1", 5432, D, REASON_NOT_REGISTERED, 0});
	UPSTREAM(text, {T, "192.0.2.33", 5432, A, REASON_UPSTREAM, 0}, {T, "198.18.0.1", 5432, D, REASON_NOT_REGISTERED, 0});
}

Test(verdict, a_former_address_admits_open_flows_to_the_services_ports_only)
{
	struct world w;

	open_world(&w, ENTRY("db") DB POLICY "{" REGISTRY_ONLY "}");
	cr_expect_eq(former(&w, T, 5432, false), A);
	cr_expect_eq(former(&w, T, 5432, true), A);
	cr_expect_eq(former(&w, T, 5433, false), D);
	cr_expect_eq(former(&w, U, 5432, false), D);
	close_world(&w);
	open_world(&w, ENTRY("web") "{hosts: [alias.com], resolution: DNS, " HTTP80 "}\n" POLICY "{" REGISTRY_ONLY "}");
	cr_expect_eq(former(&w, T, 80, true), D, "of a name that is not registered any more");
	close_world(&w);
}

Test(verdict, a_direct_flow_has_no_right_to_a_former_address_of_what_is_redirected)
{
	struct world w;

	open_world(&w, ENTRY("web") "{hosts: [web.com], resolution: DNS, " HTTP80 "}\n" ENTRY("tls") "{hosts: [tls.com], resolution: DNS, " TLS443 "}\n"
		   ENTRY("db") "{hosts: [db.com], resolution: DNS, ports: [{number: 5432, name: db, protocol: TCP, targetPort: 6543}]}\n"
		   POLICY "{" REGISTRY_ONLY "}");
	cr_expect_eq(former(&w, T, 80, false), D);
	cr_expect_eq(former(&w, T, 80, true), A);
	cr_expect_eq(former(&w, T, 443, false), D);
	cr_expect_eq(former(&w, T, 443, true), A);
	cr_expect_eq(former(&w, T, 5432, false), D);
	cr_expect_eq(former(&w, T, 6543, true), A);
	close_world(&w);
	open_world(&w, ENTRY("tls") "{hosts: [tls.com], resolution: DNS, " TLS443 "}\n" POLICY "{" REGISTRY_ONLY ", hostCheck: off}");
	cr_expect_eq(former(&w, T, 443, false), A);
	close_world(&w);
}

/* ---- by name, in the redirector ---- */

Test(verdict, a_shown_name_decides)
{
	struct rule_set any = {.mode = MODE_ALLOW_ANY}, only = {.mode = MODE_REGISTRY_ONLY};
	struct rule_set audit = {.mode = MODE_REGISTRY_ONLY, .audit = 1};
	const struct {
		const struct rule_set *rules;
		enum shown_name shown;
		uint32_t service, here;
		uint8_t verdict, reason, would_be;
	} cases[] = {
		{&only, SHOWN_HOST, 3, 0, A, REASON_NAME_ALLOWED, 0},
		{&any, SHOWN_SNI, 3, 0, A, REASON_NAME_ALLOWED, 0},
		{&audit, SHOWN_SNI, 3, SERVICE_TCP, A, REASON_NAME_ALLOWED, 0},
		{&any, SHOWN_HOST, 0, 0, P, REASON_NAME_ANY, 0},
		{&any, SHOWN_NOTHING, 0, 0, P, REASON_NAME_ANY, 0},
		{&only, SHOWN_HOST, 0, 0, D, REASON_NAME_UNREGISTERED, 0},
		{&only, SHOWN_SNI, 0, SERVICE_TLS | SERVICE_HTTP, D, REASON_NAME_UNREGISTERED, 0},
		{&only, SHOWN_NOTHING, 0, SERVICE_TLS, D, REASON_NAME_MISSING, 0},
		{&only, SHOWN_NOTHING, 0, SERVICE_TCP, P, REASON_SERVICE, 0},
		{&only, SHOWN_SNI, 0, SERVICE_TCP | SERVICE_TLS, P, REASON_SERVICE, 0},
		{&audit, SHOWN_HOST, 0, 0, P, REASON_NAME_UNREGISTERED, D},
		{&audit, SHOWN_NOTHING, 0, 0, P, REASON_NAME_MISSING, D},
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct decision d = verdict_named(cases[i].rules, cases[i].shown, cases[i].service, cases[i].here);

		cr_expect(d.verdict == cases[i].verdict && d.reason == cases[i].reason && d.would_be == cases[i].would_be,
			  "case %zu: got %s/%s", i, verdict_name(d.verdict), verdict_reason_name(d.reason));
		cr_expect_eq(d.service, cases[i].service, "case %zu", i);
	}
}

Test(verdict, http_is_seen_where_it_is_known_to_be_spoken)
{
	cr_expect(verdict_speaks_http(0, 80, 0));
	cr_expect(verdict_speaks_http(PORT_NAMED | PORT_HTTP, 443, SERVICE_TLS));
	cr_expect(verdict_speaks_http(PORT_NAMED, 8080, SERVICE_HTTP | SERVICE_TCP | SERVICE_DETECTED));
	cr_expect_not(verdict_speaks_http(PORT_NAMED, 443, SERVICE_TLS));
	cr_expect_not(verdict_speaks_http(PORT_NAMED | PORT_NAMED_ROUTED, 8080, SERVICE_TCP));
}

Test(verdict, every_verdict_and_reason_has_a_name_of_its_own)
{
	for (unsigned int i = 0; i < REASON_COUNT; i++)
		for (unsigned int k = 0; k <= i; k++)
			cr_expect((i == k) == !strcmp(verdict_reason_name((uint8_t)i), verdict_reason_name((uint8_t)k)) &&
				  verdict_reason_name((uint8_t)i), "%u and %u", i, k);
	cr_expect_str_eq(verdict_reason_name(REASON_COUNT), "?");
	cr_expect_str_eq(verdict_name(VERDICT_COUNT), "?");
}
