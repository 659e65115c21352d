// SPDX-License-Identifier: Apache-2.0
/* Documents compiled into services, rule sets and map images. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "config/config.h"
#include "policy/policy.h"
#include "policy/tables.h"

#define ENTRY(name) "---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: " name "}\nspec: "
#define OLD_ENTRY(name, at) \
	"---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: " name ", creationTimestamp: '" at "'}\nspec: "
#define ROUTES(name) "---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: " name "}\nspec: "
#define OLD_ROUTES(name, at) \
	"---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: " name ", creationTimestamp: '" at "'}\nspec: "
#define POLICY(name, where) "---\napiVersion: sluice.dev/v1\nkind: EgressPolicy\nmetadata: {name: " name ", namespace: " where "}\nspec: "
#define HTTP80 "ports: [{number: 80, name: http, protocol: HTTP}]"
#define TLS443 "ports: [{number: 443, name: tls, protocol: TLS}]"
#define TO(host) "http: [{route: [{destination: {host: " host "}}]}]}\n"
#define SLOW_TO(host) "http: [{fault: {delay: {fixedDelay: 1s, percent: 100}}, route: [{destination: {host: " host "}}]}]}\n"

#define L58 "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define L63 L58 "aaaaa"

static struct config *config;
static struct policy *policy;

static void compile(const char *text)
{
	struct policy_options options = {"istio-system", NULL, 0};
	struct config_file file = {"p.yaml", text, strlen(text)};

	config = config_new();
	config->unix_directory = "/run";
	config_parse(config, &file);
	config_validate(config, "istio-system");
	for (size_t i = 0; config->error_count && i < config->problem_count; i++)
		config_problem_print(stderr, &config->problems[i]);
	cr_assert_eq(config->error_count, 0, "of\n%.2000s", text);
	policy = policy_compile(config, &options);
}

static void finish(void)
{
	policy_free(policy);
	config_free(config);
	policy = NULL;
	config = NULL;
}

TestSuite(policy, .fini = finish);

static const struct service *service_of(const char *host, uint16_t port)
{
	const struct service *found = NULL;

	for (uint32_t id = 1; id <= policy_service_count(policy); id++) {
		const struct service *one = policy_service(policy, id);

		cr_assert_eq(one->id, id);
		if (!strcmp(one->host, host) && one->port == port) {
			cr_assert_null(found, "%s port %u twice", host, port);
			found = one;
		}
	}
	return found;
}

static const struct service *must_have(const char *host, uint16_t port)
{
	const struct service *found = service_of(host, port);

	cr_assert_not_null(found, "%s port %u", host, port);
	return found;
}

static const struct service *find(const char *host, uint16_t port, bool http)
{
	return policy_find(policy, 1, host, strlen(host), port, http);
}

static void expect_route(const char *host, uint16_t port, const char *name)
{
	const struct service *service = must_have(host, port);
	const struct virtual_service *route = service->route_count ? service->virtual_service : NULL;

	cr_expect(name ? route && !strcmp(route->object.name, name) : !route, "%s is routed by %s, not %s", host,
		  route ? route->object.name : "none", name ? name : "none");
}

static size_t warnings(const char *part)
{
	size_t n = 0;

	for (size_t i = 0; i < config->problem_count; i++)
		n += config->problems[i].severity == SEVERITY_WARNING && strstr(config->problems[i].text, part);
	return n;
}

/* ---- services ---- */

Test(policy, each_host_and_port_is_a_service_with_the_flags_of_its_protocol)
{
	compile(ENTRY("a") "{hosts: [a.com, '*.b.com'], ports: [{number: 80, name: h, protocol: HTTP}, {number: 443, name: t, protocol: HTTPS}]}\n"
		ENTRY("d") "{hosts: [d.com], resolution: DNS, ports: [{number: 5432, name: d, protocol: TCP}, {number: 53, name: u, protocol: UDP}, "
		"{number: 50051, name: g, protocol: GRPC}]}\n");
	cr_assert_eq(policy_service_count(policy), 7);
	cr_expect_eq(must_have("a.com", 80)->flags, SERVICE_HTTP | SERVICE_NONE);
	cr_expect_eq(must_have("a.com", 443)->flags, SERVICE_TLS | SERVICE_NONE);
	cr_expect_eq(must_have("*.b.com", 80)->flags, SERVICE_HTTP | SERVICE_NONE | SERVICE_WILDCARD);
	cr_expect_eq(must_have("d.com", 5432)->flags, SERVICE_TCP);
	cr_expect_eq(must_have("d.com", 53)->flags, SERVICE_TCP);
	cr_expect_eq(must_have("d.com", 50051)->flags, SERVICE_HTTP);
	cr_expect_str_eq(must_have("a.com", 80)->origin, "p.yaml:2 ServiceEntry/a");
	cr_expect_null(policy_service(policy, 0));
	cr_expect_null(policy_service(policy, 8));
}

Test(policy, ids_follow_age_and_order_alone)
{
	compile(ENTRY("new") "{hosts: [new.com], " HTTP80 "}\n" OLD_ENTRY("older", "2021-01-01T00:00:00Z") "{hosts: [older.com], " HTTP80 "}\n"
		OLD_ENTRY("oldest", "2020-01-01T00:00:00Z") "{hosts: [oldest.com], " HTTP80 "}\n" ENTRY("newer") "{hosts: [newer.com], " HTTP80 "}\n");
	cr_expect_eq(must_have("oldest.com", 80)->id, 1);
	cr_expect_eq(must_have("older.com", 80)->id, 2);
	cr_expect_eq(must_have("new.com", 80)->id, 3);
	cr_expect_eq(must_have("newer.com", 80)->id, 4);
}

Test(policy, of_twins_the_older_wins_and_the_other_is_reported)
{
	char line[1024];

	compile(ENTRY("young") "{hosts: [a.com], resolution: DNS, " HTTP80 "}\n"
		OLD_ENTRY("old", "2020-01-01T00:00:00Z") "{hosts: [a.com], resolution: DNS, ports: [{number: 80, name: t, protocol: TLS}, {number: 443, name: x, protocol: TLS}]}\n"
		ENTRY("udp") "{hosts: [a.com], resolution: DNS, ports: [{number: 443, name: q, protocol: UDP}]}\n");
	cr_assert_eq(policy_service_count(policy), 3);
	cr_expect_str_eq(must_have("a.com", 80)->origin, "p.yaml:7 ServiceEntry/old");
	cr_assert_eq(warnings("is already registered by"), 1);
	config_problem_format(line, sizeof(line), &config->problems[config->problem_count - 1]);
	cr_expect_str_eq(line, "p.yaml:2:1: warning: ServiceEntry/young: spec.ports: a.com port 80 is already registered by "
			 "p.yaml:7 ServiceEntry/old, which is older: this one has no effect");
}

Test(policy, each_host_and_port_that_another_entry_takes_is_reported_once)
{
	compile(ENTRY("young") "{hosts: [a.com, b.com], resolution: DNS, ports: [{number: 80, name: t, protocol: HTTP}, {number: 81, name: u, protocol: HTTP}]}\n"
		OLD_ENTRY("old", "2020-01-01T00:00:00Z") "{hosts: [a.com, b.com], resolution: DNS, ports: [{number: 80, name: t, protocol: HTTP}, {number: 81, name: u, protocol: HTTP}]}\n"
		"---\napiVersion: networking.istio.io/v1\nkind: Sidecar\nmetadata: {name: other, namespace: other}\nspec: {egress: [{hosts: ['*/*']}]}\n");
	cr_expect_eq(warnings("a.com port 80 is already registered by"), 1);
	cr_expect_eq(warnings("a.com port 81 is already registered by"), 1);
	cr_expect_eq(warnings("b.com port 80 is already registered by"), 1);
	cr_expect_eq(warnings("b.com port 81 is already registered by"), 1);
}

#define IN(where, name) "---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: " name ", namespace: " where "}\nspec: "
#define SIDECAR_IN(where, name) "---\napiVersion: networking.istio.io/v1\nkind: Sidecar\nmetadata: {name: " name ", namespace: " where "}\nspec: "
#define ROUTES_IN(where, name) \
	"---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: " name ", namespace: " where "}\nspec: "

/* Who, in the eyes of the workloads of a namespace with a label `app` or without, registers the host; "": nobody. */
static const char *seen_from(const char *namespace_, const char *app, const char *host, uint16_t port)
{
	const struct label label = {"app", app};
	const struct workload_identity who = {namespace_, "w", &label, app ? 1 : 0};
	const struct service *found;
	const struct rule_set *rules;

	policy_rule_set(policy, &who, &rules);
	found = policy_find(policy, rules->registry, host, strlen(host), port, true);
	return !found ? "" : found->entry ? found->entry->object.name : found->virtual_service->object.name;
}

Test(policy, what_is_exported_is_seen_there_alone)
{
	compile(IN("a", "all") "{hosts: [all.com], " HTTP80 "}\n" IN("a", "own") "{hosts: [own.com], exportTo: [.], " HTTP80 "}\n"
		IN("a", "some") "{hosts: [some.com], exportTo: [., b], " HTTP80 "}\n"
		IN("a", "none") "{hosts: [none.com], exportTo: ['~'], " HTTP80 "}\n"
		IN("a", "every") "{hosts: [every.com], exportTo: ['*'], " HTTP80 "}\n");
	for (const char *const *where = (const char *const[]){"a", "b", "c", "", NULL}; *where; where++) {
		bool a = !strcmp(*where, "a"), b = !strcmp(*where, "b");

		cr_expect_str_eq(seen_from(*where, NULL, "all.com", 80), "all", "%s", *where);
		cr_expect_str_eq(seen_from(*where, NULL, "every.com", 80), "every", "%s", *where);
		cr_expect_str_eq(seen_from(*where, NULL, "own.com", 80), a ? "own" : "", "%s", *where);
		cr_expect_str_eq(seen_from(*where, NULL, "some.com", 80), a || b ? "some" : "", "%s", *where);
		cr_expect_str_eq(seen_from(*where, NULL, "none.com", 80), "", "%s", *where);
	}
}

Test(policy, of_a_host_in_several_namespaces_the_own_is_seen)
{
	compile(IN("a", "in-a") "{hosts: [x.com], " HTTP80 "}\n"
		IN("b", "in-b") "{hosts: [x.com], ports: [{number: 80, name: http, protocol: HTTP}, {number: 81, name: more, protocol: HTTP}]}\n"
		IN("a", "more") "{hosts: [x.com], ports: [{number: 82, name: http, protocol: HTTP}]}\n"
		IN("a", "other") "{hosts: [x.com], resolution: DNS, ports: [{number: 83, name: http, protocol: HTTP}]}\n");
	cr_expect_str_eq(seen_from("a", NULL, "x.com", 80), "in-a");
	cr_expect_str_eq(seen_from("b", NULL, "x.com", 80), "in-b");
	cr_expect_str_eq(seen_from("c", NULL, "x.com", 80), "in-a", "the older one");
	cr_expect_str_eq(seen_from("c", NULL, "x.com", 81), "", "ports of other namespaces are not merged");
	cr_expect_str_eq(seen_from("c", NULL, "x.com", 82), "more", "those of one namespace are");
	cr_expect_str_eq(seen_from("a", NULL, "x.com", 83), "", "but for another resolution");
	cr_expect_eq(warnings("which is older and has another resolution"), 1, "said once");
}

Test(policy, a_sidecar_imports)
{
	compile(IN("a", "own") "{hosts: [own.com], " HTTP80 "}\n" IN("b", "api") "{hosts: [api.b.com], " HTTP80 "}\n"
		IN("b", "web") "{hosts: [web.b.com], ports: [{number: 80, name: http, protocol: HTTP}, {number: 81, name: more, protocol: HTTP}]}\n"
		IN("c", "c") "{hosts: [c.com], " HTTP80 "}\n"
		SIDECAR_IN("a", "own") "{egress: [{hosts: ['./*', 'b/*.b.com', '~b/api.b.com']}]}\n"
		SIDECAR_IN("a", "ports") "{workloadSelector: {labels: {app: ports}}, egress: [{port: {number: 81, protocol: HTTP, name: x}, hosts: ['*/*']}, "
		"{hosts: ['./*']}]}\n"
		SIDECAR_IN("a", "nothing") "{workloadSelector: {labels: {app: nothing}}, egress: [{hosts: ['~/*']}]}\n"
		SIDECAR_IN("a", "all") "{workloadSelector: {labels: {app: all}}, outboundTrafficPolicy: {}}\n");
	cr_expect_str_eq(seen_from("a", NULL, "own.com", 80), "own");
	cr_expect_str_eq(seen_from("a", NULL, "web.b.com", 80), "web");
	cr_expect_str_eq(seen_from("a", NULL, "api.b.com", 80), "", "excluded");
	cr_expect_str_eq(seen_from("a", NULL, "c.com", 80), "");
	cr_expect_str_eq(seen_from("a", "ports", "web.b.com", 81), "web");
	cr_expect_str_eq(seen_from("a", "ports", "web.b.com", 80), "");
	cr_expect_str_eq(seen_from("a", "ports", "own.com", 80), "own");
	cr_expect_str_eq(seen_from("a", "nothing", "own.com", 80), "");
	cr_expect_str_eq(seen_from("a", "all", "c.com", 80), "c");
	cr_expect_str_eq(seen_from("b", NULL, "c.com", 80), "c", "another namespace");
}

Test(policy, where_a_route_leads_is_known_whatever_is_imported)
{
	compile(IN("a", "own") "{hosts: [own.com], " HTTP80 "}\n" IN("b", "to") "{hosts: [to.com], " HTTP80 "}\n"
		IN("b", "far") "{hosts: [far.com], " HTTP80 "}\n" ROUTES_IN("a", "r") "{hosts: [own.com], " TO("to.com")
		SIDECAR_IN("a", "own") "{egress: [{hosts: ['./*']}]}\n");
	cr_expect_str_eq(seen_from("a", NULL, "to.com", 80), "to");
	cr_expect_str_eq(seen_from("a", NULL, "far.com", 80), "");
}

/* Only the ports that it leads to; and these, too, where others of the host are imported. */
Test(policy, of_where_a_route_leads_its_port_is_known)
{
#define THREE "resolution: DNS, ports: [{number: 80, name: a, protocol: HTTP}, {number: 8080, name: b, protocol: HTTP}, {number: 443, name: c, protocol: TLS}]}\n"
	compile(IN("a", "own") "{hosts: [own.com], " HTTP80 "}\n" IN("b", "to") "{hosts: [to.com], " THREE
		ROUTES_IN("a", "r") "{hosts: [own.com], http: [{route: [{destination: {host: to.com, port: {number: 8080}}}]}]}\n"
		SIDECAR_IN("a", "own") "{egress: [{hosts: ['./own.com']}]}\n"
		SIDECAR_IN("a", "ports") "{workloadSelector: {labels: {app: ports}}, egress: [{port: {number: 80, protocol: HTTP, name: x}, hosts: ['*/*']}]}\n"
		SIDECAR_IN("a", "all") "{workloadSelector: {labels: {app: all}}, egress: [{hosts: ['*/*']}]}\n");
	cr_expect_str_eq(seen_from("a", NULL, "to.com", 8080), "to");
	cr_expect_str_eq(seen_from("a", NULL, "to.com", 80), "");
	cr_expect_str_eq(seen_from("a", "ports", "to.com", 80), "to");
	cr_expect_str_eq(seen_from("a", "ports", "to.com", 8080), "to");
	cr_expect_str_eq(seen_from("a", "all", "to.com", 8080), "to");
}

/* What is imported explicitly is not replaced by what a route would find in an older entry. */
Test(policy, where_a_route_leads_replaces_nothing_imported)
{
	compile(IN("c", "older") "{hosts: [to.com], " THREE IN("b", "to") "{hosts: [to.com], " THREE IN("a", "own") "{hosts: [own.com], " HTTP80 "}\n"
		ROUTES_IN("a", "r") "{hosts: [own.com], http: [{route: [{destination: {host: to.com, port: {number: 8080}}}]}]}\n"
		SIDECAR_IN("a", "own") "{egress: [{port: {number: 80, protocol: HTTP, name: x}, hosts: ['./*', 'b/*']}]}\n");
	cr_expect_str_eq(seen_from("a", NULL, "to.com", 80), "to");
	cr_expect_str_eq(seen_from("a", NULL, "to.com", 8080), "to");
}

/* As in Istio: the hosts of a VirtualService and those that a Sidecar imports need only have something in common. */
Test(policy, a_virtual_service_is_imported_with_any_of_its_hosts)
{
	static const struct label app = {"app", "without"};
	const struct workload_identity imports = {"a", "w", NULL, 0}, excludes = {"a", "w", &app, 1};
	const struct rule_set *rules;

	compile(IN("b", "x") "{hosts: [a.x.com], " HTTP80 "}\n" ROUTES_IN("b", "r") "{hosts: ['*.x.com'], " SLOW_TO("a.x.com")
		SIDECAR_IN("a", "s") "{egress: [{hosts: ['b/a.x.com']}]}\n"
		SIDECAR_IN("a", "without") "{workloadSelector: {labels: {app: without}}, egress: [{hosts: ['b/a.x.com', '~b/*.x.com']}]}\n");
	policy_rule_set(policy, &imports, &rules);
	cr_assert_not_null(policy_find(policy, rules->registry, "a.x.com", 7, 80, true));
	cr_expect_not_null(policy_find(policy, rules->registry, "a.x.com", 7, 80, true)->virtual_service);
	policy_rule_set(policy, &excludes, &rules);
	cr_expect_null(policy_find(policy, rules->registry, "a.x.com", 7, 80, true));
}

Test(policy, a_virtual_service_routes_where_it_is_exported)
{
	const char *const from[] = {"a", "b"};

	compile(IN("a", "x") "{hosts: [x.com], " HTTP80 "}\n" ROUTES_IN("a", "public") "{hosts: [x.com], http: [{name: public, route: [{destination: {host: x.com}}]}]}\n"
		ROUTES_IN("b", "private") "{hosts: [x.com], exportTo: [.], http: [{name: private, route: [{destination: {host: x.com}}]}]}\n");
	for (size_t i = 0; i < ARRAY_SIZE(from); i++) {
		const struct workload_identity who = {from[i], "w", NULL, 0};
		const struct service *found;
		const struct rule_set *rules;

		policy_rule_set(policy, &who, &rules);
		found = policy_find(policy, rules->registry, "x.com", 5, 80, true);
		cr_assert_not_null(found);
		cr_assert_not_null(found->virtual_service);
		cr_expect_str_eq(found->virtual_service->object.name, i ? "private" : "public", "from %s", from[i]);
	}
}

Test(policy, partial_wildcards)
{
	compile(ENTRY("a") "{hosts: ['*-api.x.com'], " HTTP80 "}\n" ENTRY("b") "{hosts: ['*pi.x.com', '*.x.com'], resolution: NONE, " HTTP80 "}\n"
		ENTRY("c") "{hosts: ['*oo.com'], " TLS443 "}\n" ROUTES("r") "{hosts: ['*-api.x.com'], " SLOW_TO("c.com"));
	cr_expect_str_eq(find("shop-api.x.com", 80, true)->host, "*-api.x.com");
	cr_expect_str_eq(find("my.shop-api.x.com", 80, true)->host, "*-api.x.com");
	cr_expect_str_eq(find("api.x.com", 80, true)->host, "*pi.x.com", "a star is one character at least, and the longest wins");
	cr_expect_str_eq(find("www.x.com", 80, true)->host, "*.x.com");
	cr_expect_str_eq(find("foo.com", 443, false)->host, "*oo.com");
	cr_expect_null(find("oo.com", 443, false));
	cr_expect_null(find("pi.y.com", 80, true));
	expect_route("*-api.x.com", 80, "r");
	expect_route("*pi.x.com", 80, NULL);
}

#define PLACE_IN(where, name) \
	"---\napiVersion: networking.istio.io/v1\nkind: WorkloadEntry\nmetadata: {name: " name ", namespace: " where "}\nspec: "

Test(policy, a_selector_takes_the_workload_entries_of_its_namespace_with_its_labels)
{
	const struct service *x;

	compile(ENTRY("x") "{hosts: [x.com], resolution: STATIC, workloadSelector: {labels: {app: x}}, "
		"ports: [{number: 80, name: http, protocol: HTTP, targetPort: 8080}]}\n"
		ENTRY("none") "{hosts: [y.com], resolution: DNS, workloadSelector: {labels: {app: none}}, " HTTP80 "}\n"
		PLACE_IN("default", "one") "{address: 192.0.2.1, labels: {app: x, v: a}, weight: 3}\n"
		PLACE_IN("default", "two") "{address: 192.0.2.2, labels: {app: x}, ports: {http: 9000, other: 1}}\n"
		PLACE_IN("default", "named") "{address: vm.example.com, labels: {app: x}}\n"
		PLACE_IN("default", "bare") "{address: 192.0.2.3}\n" PLACE_IN("other", "three") "{address: 192.0.2.4, labels: {app: x}}\n");
	x = must_have("x.com", 80);
	cr_assert_eq(x->target_count, 2);
	cr_expect(x->targets[0].addr[15] == 1 && x->targets[0].port == 8080 && x->targets[0].weight == 3);
	cr_expect(x->targets[1].addr[15] == 2 && x->targets[1].port == 9000);
	cr_expect_eq(warnings("\"vm.example.com\" is not an IP address"), 1);
	cr_expect_eq(must_have("y.com", 80)->target_count, 0, "selects none: not its own name");
}

#define RULE_IN(where, name) \
	"---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: " name ", namespace: " where "}\nspec: "
#define TIMEOUT(ms) "{connectionPool: {tcp: {connectTimeout: " ms "}}}"

static uint64_t timeout_for(const struct workload_identity *who, const char *host, uint16_t port)
{
	const struct service *found;
	const struct rule_set *rules;

	policy_rule_set(policy, who, &rules);
	found = policy_find(policy, rules->registry, host, strlen(host), port, true);
	cr_assert_not_null(found);
	return found->policy.pool.connect_timeout_ms;
}

/* The connect timeout of a service as the workloads of a namespace have it. */
static uint64_t timeout_from(const char *namespace_, const char *host, uint16_t port)
{
	const struct workload_identity who = {namespace_, "w", NULL, 0};

	return timeout_for(&who, host, port);
}

Test(policy, a_rule_with_a_selector_is_for_its_namespaces_workloads_with_these_labels_and_for_them_the_only_one)
{
	struct label front = {"app", "front"}, both[] = {{"app", "front"}, {"tier", "a"}};
	const struct workload_identity one = {"me", "w", &front, 1}, two = {"me", "w", both, 2}, other = {"you", "w", &front, 1};

	compile(IN("svc", "x") "{hosts: [a.x.com, b.x.com], " HTTP80 "}\n"
		RULE_IN("me", "all") "{host: a.x.com, trafficPolicy: " TIMEOUT("10ms") "}\n"
		RULE_IN("me", "a") "{host: a.x.com, workloadSelector: {matchLabels: {tier: a}}, trafficPolicy: " TIMEOUT("20ms") "}\n"
		RULE_IN("me", "front") "{host: a.x.com, workloadSelector: {matchLabels: {app: front}}, trafficPolicy: {loadBalancer: {simple: RANDOM}}}\n"
		RULE_IN("me", "b") "{host: b.x.com, workloadSelector: {matchLabels: {tier: a}}, trafficPolicy: " TIMEOUT("40ms") "}\n"
		RULE_IN("svc", "b") "{host: b.x.com, trafficPolicy: " TIMEOUT("50ms") "}\n"
		RULE_IN("svc", "a") "{host: a.x.com, workloadSelector: {matchLabels: {app: front}}, trafficPolicy: " TIMEOUT("60ms") "}\n");
	cr_expect_eq(timeout_from("me", "a.x.com", 80), 10);
	cr_expect_eq(timeout_for(&one, "a.x.com", 80), 0, "nothing of the rule for all");
	cr_expect_eq(timeout_for(&two, "a.x.com", 80), 20, "the older of those that select it");
	cr_expect_eq(timeout_for(&two, "b.x.com", 80), 40);
	cr_expect_eq(timeout_for(&one, "b.x.com", 80), 0, "its namespace has a rule for the host, if not for it (Istio)");
	cr_expect_eq(timeout_for(&other, "b.x.com", 80), 50);
	cr_expect_eq(timeout_for(&other, "a.x.com", 80), 0, "another namespace's selector selects nobody here");
}

Test(policy, too_many_selectors_of_a_namespace_are_an_error)
{
	struct config_file file = {.name = "p.yaml"};
	struct policy_options options = {.root_namespace = "istio-system"};
	struct config *many = config_new();
	char text[4096] = "";

	for (int i = 0; i < 6; i++)
		snprintf(text + strlen(text), sizeof(text) - strlen(text),
			 RULE_IN("me", "r%d") "{host: a.com, workloadSelector: {matchLabels: {n: x%d}}, trafficPolicy: {loadBalancer: {simple: RANDOM}}}\n", i, i);
	file.text = text;
	file.length = strlen(text);
	config_parse(many, &file);
	config_validate(many, "istio-system");
	cr_assert_eq(many->error_count, 0);
	cr_expect_null(policy_compile(many, &options));
	cr_expect_eq(many->error_count, 1);
	config_free(many);
}

Test(policy, the_own_namespaces_rule_then_the_services_then_the_root_ones)
{
	compile(IN("svc", "x") "{hosts: [a.x.com, b.x.com, c.x.com], " HTTP80 "}\n"
		RULE_IN("svc", "d") "{host: a.x.com, trafficPolicy: " TIMEOUT("20ms") "}\n"
		RULE_IN("istio-system", "d") "{host: '*.x.com', trafficPolicy: " TIMEOUT("30ms") "}\n"
		RULE_IN("me", "d") "{host: a.x.com, trafficPolicy: " TIMEOUT("10ms") "}\n"
		RULE_IN("me", "private") "{host: b.x.com, exportTo: [.], trafficPolicy: " TIMEOUT("11ms") "}\n"
		RULE_IN("svc", "hidden") "{host: c.x.com, exportTo: [.], trafficPolicy: " TIMEOUT("12ms") "}\n");
	cr_expect_eq(timeout_from("me", "a.x.com", 80), 10);
	cr_expect_eq(timeout_from("me", "b.x.com", 80), 11);
	cr_expect_eq(timeout_from("me", "c.x.com", 80), 30);
	cr_expect_eq(timeout_from("you", "a.x.com", 80), 20);
	cr_expect_eq(timeout_from("you", "b.x.com", 80), 30);
	cr_expect_eq(timeout_from("svc", "c.x.com", 80), 12);
}

Test(policy, of_the_rules_of_a_namespace_that_of_the_longest_host_that_covers_it)
{
	compile(IN("svc", "x") "{hosts: [a.x.com, b.x.com, xx.com, y.org, z.net], " HTTP80 "}\n" IN("svc", "w") "{hosts: ['*.w.x.com'], " HTTP80 "}\n"
		RULE_IN("svc", "all") "{host: '*', trafficPolicy: " TIMEOUT("10ms") "}\n"
		RULE_IN("svc", "partial") "{host: '*x.com', trafficPolicy: " TIMEOUT("20ms") "}\n"
		RULE_IN("svc", "below") "{host: '*.x.com', trafficPolicy: " TIMEOUT("30ms") "}\n"
		RULE_IN("svc", "name") "{host: a.x.com, trafficPolicy: " TIMEOUT("40ms") "}\n"
		RULE_IN("svc", "org") "{host: '*.org', trafficPolicy: " TIMEOUT("50ms") "}\n"
		RULE_IN("aaa", "name") "{host: b.x.com, trafficPolicy: " TIMEOUT("60ms") "}\n"
		RULE_IN("zzz", "name") "{host: b.x.com, trafficPolicy: " TIMEOUT("70ms") "}\n");
	cr_expect_eq(timeout_from("me", "a.x.com", 80), 40);
	cr_expect_eq(timeout_from("me", "b.x.com", 80), 30);
	cr_expect_eq(timeout_from("me", "xx.com", 80), 20);
	cr_expect_eq(timeout_from("me", "y.org", 80), 50);
	cr_expect_eq(timeout_from("me", "z.net", 80), 10, "a star alone covers all");
	cr_expect_eq(timeout_from("me", "*.w.x.com", 80), 30);
	cr_expect_eq(timeout_from("aaa", "b.x.com", 80), 60);
	cr_expect_eq(timeout_from("zzz", "b.x.com", 80), 70);
}

Test(policy, a_port_has_its_own_settings_and_nothing_of_the_others)
{
	compile(ENTRY("x") "{hosts: [x.com], ports: [{number: 80, name: a, protocol: HTTP}, {number: 81, name: b, protocol: HTTP}]}\n"
		RULE_IN("default", "d") "{host: x.com, trafficPolicy: {connectionPool: {tcp: {connectTimeout: 1s}}, loadBalancer: {simple: RANDOM}, "
		"portLevelSettings: [{port: {number: 81}, connectionPool: {tcp: {connectTimeout: 2s}}}]}}\n");
	cr_expect_eq(must_have("x.com", 80)->policy.pool.connect_timeout_ms, 1000);
	cr_expect_eq(must_have("x.com", 80)->policy.balance.way, BALANCE_RANDOM);
	cr_expect_eq(must_have("x.com", 81)->policy.pool.connect_timeout_ms, 2000);
	cr_expect_eq(must_have("x.com", 81)->policy.balance.way, BALANCE_DEFAULT);
}

#define TLS "tls: {mode: SIMPLE, insecureSkipVerify: true}"

Test(policy, of_a_port_that_is_given_twice_the_first_holds)
{
	compile(ENTRY("x") "{hosts: [x.com], " HTTP80 "}\n"
		RULE_IN("default", "d") "{host: x.com, trafficPolicy: {portLevelSettings: [{port: {number: 80}, " TLS "}, "
		"{port: {number: 80}, tls: {mode: DISABLE}}]}}\n");
	cr_expect_eq(must_have("x.com", 80)->policy.tls.mode, TLS_SIMPLE);
}

Test(policy, what_a_server_is_to_be_told_needs_the_redirector)
{
#define MANY_PORTS ", resolution: DNS, ports: [{number: 5432, name: a, protocol: TCP}, {number: 443, name: b, protocol: TLS}, " \
	"{number: 53, name: c, protocol: UDP}]}\n"
	compile(ENTRY("a") "{hosts: [tls.com]" MANY_PORTS ENTRY("b") "{hosts: [tunnel.com]" MANY_PORTS ENTRY("c") "{hosts: [proxy.com]" MANY_PORTS
		ENTRY("d") "{hosts: [plain.com]" MANY_PORTS
		RULE_IN("default", "a") "{host: tls.com, trafficPolicy: {" TLS "}}\n"
		RULE_IN("default", "b") "{host: tunnel.com, trafficPolicy: {tunnel: {targetHost: far.com, targetPort: 1}}}\n"
		RULE_IN("default", "c") "{host: proxy.com, trafficPolicy: {proxyProtocol: {}}}\n"
		RULE_IN("default", "d") "{host: plain.com, trafficPolicy: {tls: {mode: DISABLE}}}\n");
	cr_expect_eq(must_have("tls.com", 5432)->flags, SERVICE_TCP | SERVICE_ROUTED);
	cr_expect_eq(must_have("tls.com", 443)->flags, SERVICE_TLS | SERVICE_ROUTED);
	cr_expect_eq(must_have("tunnel.com", 5432)->flags, SERVICE_TCP | SERVICE_ROUTED);
	cr_expect_eq(must_have("proxy.com", 443)->flags, SERVICE_TLS | SERVICE_ROUTED);
	cr_expect_eq(must_have("plain.com", 5432)->flags, SERVICE_TCP);
	cr_expect_eq(must_have("tls.com", 53)->flags, SERVICE_TCP, "UDP");
	cr_expect(!service_originates(must_have("tls.com", 53)));
}

Test(policy, a_tunnel_and_the_proxy_protocol_are_of_all_ports)
{
#define TWO_PORTS ", resolution: DNS, ports: [{number: 80, name: a, protocol: TCP}, {number: 81, name: b, protocol: TCP}]}\n"
	compile(ENTRY("x") "{hosts: [x.com]" TWO_PORTS ENTRY("z") "{hosts: [y.com]" TWO_PORTS
		RULE_IN("default", "d") "{host: x.com, trafficPolicy: {tunnel: {targetHost: far.com, targetPort: 1}, " TLS ", "
		"portLevelSettings: [{port: {number: 81}, tls: {mode: DISABLE}}]}}\n"
		RULE_IN("default", "e") "{host: y.com, trafficPolicy: {proxyProtocol: {version: V2}, portLevelSettings: [{port: {number: 81}, " TLS "}]}}\n");
	cr_expect(must_have("x.com", 81)->policy.tunnel.present && !service_originates(must_have("x.com", 81)));
	cr_expect(must_have("x.com", 80)->policy.tunnel.present && service_originates(must_have("x.com", 80)));
	cr_expect_eq(must_have("y.com", 81)->policy.proxy_protocol, PROXY_PROTOCOL_V2);
}

/* As these, it is nothing that a port could say. */
Test(policy, a_retry_budget_is_of_all_ports)
{
	compile(ENTRY("x") "{hosts: [x.com], " HTTP80 "}\n"
		RULE_IN("default", "d") "{host: x.com, trafficPolicy: {retryBudget: {percent: 7}, portLevelSettings: [{port: {number: 80}, loadBalancer: {simple: RANDOM}}]}}\n");
	cr_expect(must_have("x.com", 80)->policy.budget.present);
	cr_expect_eq((int)must_have("x.com", 80)->policy.budget.percent, 7);
}

Test(policy, a_server_whose_name_nobody_knows_is_refused)
{
	static const char *const known[] = {"sni: a.x.com", "subjectAltNames: [a.x.com]", "insecureSkipVerify: true"};
	char text[1024];

	compile(ENTRY("x") "{hosts: ['*.x.com'], addresses: [192.0.2.1], ports: [{number: 80, name: a, protocol: TCP}]}\n"
		RULE_IN("default", "d") "{host: '*.x.com', trafficPolicy: {tls: {mode: SIMPLE}}}\n");
	cr_expect_null(policy);
	cr_expect_str_eq(config->problems[config->problem_count - 1].text,
			 "*.x.com port 80 (p.yaml:2 ServiceEntry/x) has no name that the server's certificate could have; it needs sni or subjectAltNames");
	for (size_t i = 0; i < ARRAY_SIZE(known); i++) {
		finish();
		snprintf(text, sizeof(text), ENTRY("x") "{hosts: ['*.x.com'], addresses: [192.0.2.1], ports: [{number: 80, name: a, protocol: TCP}]}\n"
			 RULE_IN("default", "d") "{host: '*.x.com', trafficPolicy: {tls: {mode: SIMPLE, %s}}}\n", known[i]);
		compile(text);
		cr_expect_not_null(policy, "%s", known[i]);
	}
}

static const struct service *subset_of(const struct service *service, const char *name)
{
	for (uint32_t id = service->next_subset; id; id = policy_service(policy, id)->next_subset)
		if (!strcmp(policy_service(policy, id)->subset, name))
			return policy_service(policy, id);
	return NULL;
}

Test(policy, rules_for_one_host_are_merged)
{
	const struct service *x, *one, *two;

	compile(ENTRY("x") "{hosts: [x.com], resolution: STATIC, " HTTP80 ", endpoints: [{address: 192.0.2.1, labels: {v: a}}, {address: 192.0.2.2, "
		"labels: {v: b, w: c}}, {address: 192.0.2.3}]}\n"
		RULE_IN("default", "d") "{host: x.com, subsets: [{name: one, labels: {v: a}}]}\n"
		RULE_IN("default", "e") "{host: x.com, trafficPolicy: " TIMEOUT("1s") ", subsets: [{name: one, labels: {v: b}}, {name: two, labels: {v: b}, "
		"trafficPolicy: {loadBalancer: {simple: ROUND_ROBIN}}}, {name: all}]}\n"
		ROUTES("r") "{hosts: [x.com], http: [{route: [{destination: {host: x.com, subset: two}}]}]}\n");
	x = find("x.com", 80, true);
	cr_assert_not_null(x);
	cr_expect_null(x->subset);
	one = subset_of(x, "one");
	two = subset_of(x, "two");
	cr_assert(one && two && subset_of(x, "all") && !subset_of(x, "three"));
	cr_assert_eq(one->target_count, 1);
	cr_expect_eq(one->targets[0].addr[15], 1, "the older rule's");
	cr_assert_eq(two->target_count, 1);
	cr_expect_eq(two->targets[0].addr[15], 2);
	cr_expect_eq(subset_of(x, "all")->target_count, 3);
	cr_expect_eq(two->policy.pool.connect_timeout_ms, 1000, "inherited");
	cr_expect_eq(two->policy.balance.way, BALANCE_ROUND_ROBIN);
	cr_expect_eq(one->policy.balance.way, BALANCE_DEFAULT);
	cr_assert_eq(x->route_count, 1);
	cr_expect_eq(x->routes[0].targets[0].service, two->id);
	cr_expect_eq(two->route_count, 0);
}

Test(policy, an_endpoints_port_beats_target_port_beats_number)
{
	const struct service *service;

	compile(ENTRY("a") "{hosts: [a.com], resolution: STATIC, endpoints: [{address: 192.0.2.1, ports: {web: 9000}}, {address: 192.0.2.2, weight: 5}], "
		"ports: [{number: 80, name: web, protocol: HTTP, targetPort: 8080}, {number: 81, name: plain, protocol: HTTP}]}\n"
		ENTRY("d") "{hosts: [d.com], resolution: DNS, ports: [{number: 80, name: web, protocol: TCP, targetPort: 8080}]}\n");
	service = must_have("a.com", 80);
	cr_assert_eq(service->target_count, 2);
	cr_expect_eq(service->targets[0].port, 9000);
	cr_expect_eq(service->targets[1].port, 8080);
	cr_expect_eq(service->targets[1].weight, 5);
	cr_expect_eq(must_have("a.com", 81)->targets[0].port, 81);
	cr_expect(service->flags & SERVICE_REWRITES);
	cr_expect(!(must_have("a.com", 81)->flags & SERVICE_REWRITES));
	cr_expect_str_eq(must_have("d.com", 80)->targets[0].host, "d.com");
	cr_expect_eq(must_have("d.com", 80)->targets[0].port, 8080);
	cr_expect(must_have("d.com", 80)->flags & SERVICE_REWRITES);
}

Test(policy, a_vip_and_named_endpoints_rewrite_and_udp_never_does)
{
	compile(ENTRY("vip") "{hosts: [vip.com], addresses: [10.0.0.1], resolution: DNS, ports: [{number: 1, name: a, protocol: TCP}]}\n"
		ENTRY("cname") "{hosts: [c.com], resolution: DNS, endpoints: [{address: real.com}], ports: [{number: 1, name: a, protocol: TCP}]}\n"
		ENTRY("none") "{hosts: [n.com], addresses: [10.0.0.1], ports: [{number: 1, name: a, protocol: TCP}, {number: 2, name: b, protocol: TCP, targetPort: 3}]}\n"
		ENTRY("udp") "{hosts: [u.com], addresses: [10.0.0.2], resolution: DNS, ports: [{number: 1, name: a, protocol: UDP}]}\n");
	cr_expect(must_have("vip.com", 1)->flags & SERVICE_REWRITES);
	cr_expect(must_have("c.com", 1)->flags & SERVICE_REWRITES);
	cr_expect(!(must_have("n.com", 1)->flags & SERVICE_REWRITES));
	cr_expect(must_have("n.com", 2)->flags & SERVICE_REWRITES);
	cr_expect(!(must_have("u.com", 1)->flags & SERVICE_REWRITES));
}

Test(policy, every_name_to_resolve_is_listed_once)
{
	const struct string_list *names;

	compile(ENTRY("a") "{hosts: [b.com], resolution: DNS, endpoints: [{address: Real.com}, {address: 192.0.2.1}], " HTTP80 "}\n"
		ENTRY("b") "{hosts: [real.com], resolution: DNS_ROUND_ROBIN, " HTTP80 "}\n" ENTRY("c") "{hosts: ['*.w.com'], resolution: DNS, endpoints: [{address: a.com}], " HTTP80 "}\n"
		ENTRY("d") "{hosts: [none.com], " HTTP80 "}\n" ENTRY("e") "{hosts: [s.com], resolution: STATIC, endpoints: [{address: 192.0.2.1}], " HTTP80 "}\n");
	names = policy_names(policy);
	cr_assert_eq(names->count, 3);
	cr_expect_str_eq(names->items[0], "a.com");
	cr_expect_str_eq(names->items[1], "b.com");
	cr_expect_str_eq(names->items[2], "real.com");
	cr_expect(must_have("real.com", 80)->one_address);
}

/* ---- routes ---- */

Test(policy, the_most_specific_virtual_service_host_routes_and_of_equal_ones_the_oldest)
{
	compile(ENTRY("a") "{hosts: [x.b.com, y.b.com, z.com, x.c.b.com, '*.d.b.com'], " HTTP80 "}\n"
		ROUTES("wide") "{hosts: ['*.b.com'], " SLOW_TO("z.com") ROUTES("exact") "{hosts: [x.b.com], " SLOW_TO("z.com")
		ROUTES("deep") "{hosts: ['*.c.b.com'], " SLOW_TO("z.com") ROUTES("first") "{hosts: [z.com], " SLOW_TO("z.com")
		OLD_ROUTES("oldest", "2020-01-01T00:00:00Z") "{hosts: [z.com], " SLOW_TO("z.com"));
	expect_route("x.b.com", 80, "exact");
	expect_route("y.b.com", 80, "wide");
	expect_route("x.c.b.com", 80, "deep");
	expect_route("*.d.b.com", 80, "wide");
	expect_route("z.com", 80, "oldest");
	cr_expect_eq(policy_service_count(policy), 5, "a covered wildcard is registered");
}

Test(policy, routes_attach_to_http_ports_only)
{
	compile(ENTRY("a") "{hosts: [a.com], ports: [{number: 80, name: h, protocol: HTTP}, {number: 443, name: t, protocol: TLS}]}\n"
		ROUTES("r") "{hosts: [a.com], " SLOW_TO("a.com"));
	expect_route("a.com", 80, "r");
	expect_route("a.com", 443, NULL);
	cr_expect(must_have("a.com", 80)->flags & SERVICE_ROUTED);
	cr_expect(!(must_have("a.com", 443)->flags & SERVICE_ROUTED));
}

Test(policy, http_rules_are_for_ports_of_http2_and_grpc_too)
{
	compile(ENTRY("g") "{hosts: [g.com], ports: [{number: 50051, name: g, protocol: GRPC}, {number: 50052, name: w, protocol: GRPC-Web}, "
		"{number: 80, name: h, protocol: HTTP2}]}\n" ROUTES("r") "{hosts: [g.com], " SLOW_TO("g.com"));
	expect_route("g.com", 50051, "r");
	expect_route("g.com", 50052, "r");
	expect_route("g.com", 80, "r");
}

Test(policy, a_route_to_itself_without_fault_is_no_route)
{
	compile(ENTRY("a") "{hosts: [a.com], " HTTP80 "}\n" ROUTES("r") "{hosts: [a.com], " TO("a.com"));
	cr_expect(!(must_have("a.com", 80)->flags & SERVICE_ROUTED));
	cr_expect_eq(must_have("a.com", 80)->routes[0].targets[0].service, 1);
}

Test(policy, an_unregistered_virtual_service_host_is_routed_on_port_80)
{
	const struct service *service;

	compile(ENTRY("a") "{hosts: [a.com], resolution: DNS, " HTTP80 "}\n"
		ROUTES("r") "{hosts: [new.com], " TO("a.com") ROUTES("younger") "{hosts: [new.com], " TO("new.com"));
	service = must_have("new.com", 80);
	cr_expect_eq(service->flags, SERVICE_HTTP | SERVICE_ROUTED);
	cr_expect_eq(service->routes[0].targets[0].service, must_have("a.com", 80)->id);
	cr_expect_null(service->entry);
	cr_expect_eq(find("new.com", 80, true), service);
	expect_route("new.com", 80, "r");
}

Test(policy, a_virtual_service_for_gateways_routes_nothing)
{
	compile(ENTRY("a") "{hosts: [a.com], " HTTP80 "}\n" ROUTES("edge") "{gateways: [ns/edge], hosts: [a.com, new.com], " SLOW_TO("a.com"));
	expect_route("a.com", 80, NULL);
	cr_expect_null(find("new.com", 80, true));
}

Test(policy, unregistered_hosts_do_not_register_each_other)
{
	compile(ROUTES("wide") "{hosts: ['*.a.com'], " TO("x.a.com") ROUTES("exact") "{hosts: [x.a.com], " TO("x.a.com"));
	expect_route("x.a.com", 80, "exact");
	expect_route("*.a.com", 80, "wide");
	cr_expect_eq(must_have("x.a.com", 80)->routes[0].targets[0].service, 0, "a host that no entry registers is no destination");
	cr_expect_str_eq(find("y.a.com", 80, true)->host, "*.a.com");
}

Test(policy, a_host_below_a_registered_wildcard_can_be_routed_alone)
{
	compile(ENTRY("a") "{hosts: ['*.a.com'], " HTTP80 "}\n" ROUTES("r") "{hosts: [x.a.com], " SLOW_TO("x.a.com"));
	expect_route("*.a.com", 80, NULL);
	expect_route("x.a.com", 80, "r");
	cr_expect_eq(must_have("x.a.com", 80)->routes[0].targets[0].service, must_have("*.a.com", 80)->id);
}

Test(policy, a_destinations_port_is_the_given_one_else_its_only_one_else_the_dialled)
{
	compile(ENTRY("one") "{hosts: [one.com], ports: [{number: 8080, name: h, protocol: HTTP}]}\n"
		ENTRY("two") "{hosts: [two.com], ports: [{number: 80, name: h, protocol: HTTP}, {number: 8080, name: i, protocol: HTTP}]}\n"
		ENTRY("from") "{hosts: [f1.com, f2.com, f3.com, f4.com], " HTTP80 "}\n"
		ROUTES("r1") "{hosts: [f1.com], " TO("one.com") ROUTES("r2") "{hosts: [f2.com], " TO("two.com")
		ROUTES("r3") "{hosts: [f3.com], " TO("two.com, port: {number: 8080}") ROUTES("r4") "{hosts: [f4.com], " TO("two.com, port: {number: 9}"));
	cr_expect_eq(must_have("f1.com", 80)->routes[0].targets[0].service, must_have("one.com", 8080)->id);
	cr_expect_eq(must_have("f2.com", 80)->routes[0].targets[0].service, must_have("two.com", 80)->id);
	cr_expect_eq(must_have("f3.com", 80)->routes[0].targets[0].service, must_have("two.com", 8080)->id);
	cr_expect_eq(must_have("f4.com", 80)->routes[0].targets[0].service, 0);
}

Test(policy, a_wildcard_as_destination_is_the_service_of_that_name)
{
	compile(ENTRY("a") "{hosts: ['*.a.com'], " HTTP80 "}\n" ENTRY("from") "{hosts: [f1.com, f2.com], " HTTP80 "}\n"
		ROUTES("r1") "{hosts: [f1.com], " TO("'*.a.com'") ROUTES("r2") "{hosts: [f2.com], " TO("'*.b.a.com'"));
	cr_expect_eq(must_have("f1.com", 80)->routes[0].targets[0].service, must_have("*.a.com", 80)->id);
	cr_expect_eq(must_have("f2.com", 80)->routes[0].targets[0].service, 0);
	cr_expect_eq(warnings("no ServiceEntry registers \"*.b.a.com\""), 1);
	cr_expect_eq(warnings("no ServiceEntry registers \"*.a.com\""), 0);
}

/* ---- finding ---- */

Test(policy, a_name_finds_its_own_service_else_the_longest_wildcard)
{
	compile(ENTRY("a") "{hosts: [x.b.com, '*.b.com', '*.com', '*.c.b.com'], ports: [{number: 80, name: h, protocol: HTTP}, {number: 443, name: t, protocol: TLS}]}\n");
	cr_expect_eq(find("X.B.com", 80, true), must_have("x.b.com", 80));
	cr_expect_eq(find("x.b.com.", 443, false), must_have("x.b.com", 443));
	cr_expect_eq(find("y.b.com", 80, true), must_have("*.b.com", 80));
	cr_expect_eq(find("z.y.b.com", 80, true), must_have("*.b.com", 80));
	cr_expect_eq(find("y.c.b.com", 80, true), must_have("*.c.b.com", 80));
	cr_expect_eq(find("c.b.com", 80, true), must_have("*.b.com", 80));
	cr_expect_eq(find("b.com", 80, true), must_have("*.com", 80));
	cr_expect_null(find("com", 80, true));
	cr_expect_null(find(".com", 80, true));
	cr_expect_null(find("x.b.com", 443, true));
	cr_expect_null(find("x.b.com", 80, false));
	cr_expect_null(find("x.b.com", 81, true));
	cr_expect_null(policy_find(policy, 2, "x.b.com", 7, 80, true), "another registry");
}

/* The image's flag for the kernel and the redirector's own look are one. */
static void expect_speaks_http(uint16_t port, bool wanted)
{
	struct image *image = policy_image_build(policy, NULL, NULL, NULL, NULL);
	struct port_key key = {1, port, SLUICE_TCP, 0};
	const struct port_value *value;
	struct image_tables tables;

	image_tables_init(&tables, image);
	value = lookup_port(&tables.tables, &key);
	cr_expect_eq(value && value->flags & PORT_HTTP, wanted, "port %u in the image", port);
	cr_expect_eq(policy_port_flags(policy, 1, port) == PORT_HTTP, wanted, "port %u", port);
	image_free(image);
}

Test(policy, a_port_speaks_http_if_one_of_its_services_does_at_any_address)
{
	compile(ENTRY("a") "{hosts: [a.com], resolution: NONE, ports: [{number: 81, name: http, protocol: HTTP}, {number: 82, name: tls, protocol: HTTPS},"
		" {number: 83, name: any}]}\n" ENTRY("b") "{hosts: [b.com], addresses: [192.0.2.1], resolution: NONE, ports: [{number: 84, name: any},"
		" {number: 85, name: http, protocol: HTTP}]}\n" ENTRY("c") "{hosts: [c.com], resolution: NONE, ports: [{number: 85, name: tls, protocol: TLS}]}\n");
	expect_speaks_http(81, true);
	expect_speaks_http(82, false);
	expect_speaks_http(83, true);
	expect_speaks_http(84, false);
	expect_speaks_http(85, true);
	expect_speaks_http(86, false);
	finish();
}

Test(policy, of_a_port_without_a_protocol_both_names_are_known)
{
	struct image *image;

	compile(ENTRY("a") "{hosts: ['*.a.com'], resolution: NONE, ports: [{number: 443, name: any}]}\n"
		ENTRY("b") "{hosts: [b.a.com], resolution: NONE, " TLS443 "}\n");
	cr_expect_str_eq(find("x.a.com", 443, true)->host, "*.a.com");
	cr_assert_not_null(find("x.a.com", 443, false));
	cr_expect_str_eq(find("x.a.com", 443, false)->host, "*.a.com");
	cr_expect_str_eq(find("b.a.com", 443, true)->host, "*.a.com");
	cr_expect_str_eq(find("b.a.com", 443, false)->host, "b.a.com");
	image = policy_image_build(policy, NULL, NULL, NULL, NULL);
	cr_expect_eq(image->name_count, 2, "the kernel knows them, too");
	image_free(image);
}

Test(policy, hostile_names_find_nothing)
{
	char longest[400];

	compile(ENTRY("a") "{hosts: [a.com], " HTTP80 "}\n" ENTRY("b") "{hosts: [b.com], " TLS443 "}\n");
	memset(longest, 'a', sizeof(longest));
	cr_expect_null(policy_find(policy, 1, longest, sizeof(longest), 80, true));
	cr_expect_null(policy_find(policy, 1, longest, 255, 80, true));
	cr_expect_null(policy_find(policy, 1, "", 0, 80, true));
	cr_expect_null(policy_find(policy, 1, ".", 1, 80, true));
	for (size_t n = 6; n < 200; n++) { /* beyond a NUL the name must not be read as the service's */
		char name[200] = "a.com";

		cr_expect_null(policy_find(policy, 1, name, n, 80, true));
	}
}

Test(policy, an_entrys_single_addresses_are_names_of_its_http_services)
{
	compile(ENTRY("a") "{hosts: [a.com], addresses: [192.0.2.1, '2001:db8::1', 10.0.0.0/8], ports: [{number: 80, name: h, protocol: HTTP}, {number: 443, name: t, protocol: TLS}]}\n"
		ENTRY("b") "{hosts: [b.com], addresses: [192.0.2.1], " HTTP80 "}\n");
	cr_expect_eq(find("192.0.2.1", 80, true), must_have("a.com", 80));
	cr_expect_eq(find("2001:DB8::1", 80, true), must_have("a.com", 80));
	cr_expect_null(find("192.0.2.1", 443, false));
	cr_expect_null(find("10.0.0.0", 80, true));
	cr_expect_null(find("10.0.0.0/8", 80, true));
}

/* ---- rule sets ---- */

static struct rule_set rules_of(const char *namespace_, const struct label *labels, size_t count, uint32_t *id)
{
	struct workload_identity who = {namespace_, "w", labels, count};
	const struct rule_set *rules;
	uint32_t found = policy_rule_set(policy, &who, &rules);

	if (id)
		*id = found;
	cr_assert_eq(policy_rule_set_get(policy, found), rules);
	return *rules;
}

static const struct label labels[] = {{"app", "web"}, {"tier", "front"}};

Test(policy, without_policies_everything_is_the_default)
{
	struct rule_set rules;

	compile("");
	rules = rules_of("", NULL, 0, NULL);
	cr_expect(rules.mode == MODE_ALLOW_ANY && rules.host_check == HOST_CHECK_PROXY && rules.dns_allow == DNS_RESOLVERS && !rules.audit);
	cr_expect_str_eq(rules.origin, "default (ALLOW_ANY)");
	cr_expect_null(policy_rule_set_get(policy, 0));
	cr_expect_null(policy_rule_set_get(policy, 2));
}

Test(policy, each_field_comes_from_the_most_specific_policy_that_sets_it)
{
	struct rule_set rules;

	compile(POLICY("both", "shop") "{workloadSelector: {labels: {app: web, tier: front}}, dns: {allow: none}}\n"
		POLICY("app", "shop") "{workloadSelector: {labels: {app: web}}, enforcement: enforce, dns: {allow: any}}\n"
		POLICY("shop", "shop") "{hostCheck: off, enforcement: audit}\n"
		POLICY("rootweb", "istio-system") "{workloadSelector: {labels: {app: web}}, outboundTrafficPolicy: {mode: ALLOW_ANY}}\n"
		POLICY("root", "istio-system") "{outboundTrafficPolicy: {mode: REGISTRY_ONLY}, hostCheck: proxy, dns: {allow: resolvers}}\n");
	rules = rules_of("other", NULL, 0, NULL);
	cr_expect(rules.mode == MODE_REGISTRY_ONLY && rules.host_check == HOST_CHECK_PROXY && !rules.audit && rules.dns_allow == DNS_RESOLVERS);
	cr_expect_str_eq(rules.origin, "p.yaml:25 EgressPolicy/root");
	rules = rules_of("other", labels, 1, NULL);
	cr_expect(rules.mode == MODE_ALLOW_ANY && rules.host_check == HOST_CHECK_PROXY);
	rules = rules_of("shop", NULL, 0, NULL);
	cr_expect(rules.mode == MODE_REGISTRY_ONLY && rules.host_check == HOST_CHECK_OFF && rules.audit && rules.dns_allow == DNS_RESOLVERS);
	rules = rules_of("shop", labels, 1, NULL);
	cr_expect(rules.mode == MODE_ALLOW_ANY && rules.host_check == HOST_CHECK_OFF && !rules.audit && rules.dns_allow == DNS_ANY);
	rules = rules_of("shop", labels, 2, NULL);
	cr_expect(rules.dns_allow == DNS_NONE && !rules.audit && rules.host_check == HOST_CHECK_OFF);
	rules = rules_of("", labels, 2, NULL);
	cr_expect(rules.mode == MODE_ALLOW_ANY && rules.dns_allow == DNS_RESOLVERS);
	rules = rules_of("shop", &(struct label){"app", "db"}, 1, NULL);
	cr_expect(rules.mode == MODE_REGISTRY_ONLY && rules.audit, "the key without the value selects nothing");
}

#define SIDECAR(name, namespace) "---\napiVersion: networking.istio.io/v1\nkind: Sidecar\nmetadata: {name: " name ", namespace: " namespace "}\nspec: "

/* EgressPolicy for the workload, Sidecar for it, EgressPolicy for the namespace, Sidecar for it, root EgressPolicy, mesh (DESIGN §3). */
Test(policy, a_sidecar_stands_between_the_egress_policies_of_its_scope_and_the_next)
{
	compile(SIDECAR("all", "istio-system") "{outboundTrafficPolicy: {}}\n");
	cr_expect_eq(rules_of("", NULL, 0, NULL).mode, MODE_REGISTRY_ONLY, "the node's default too");
	cr_expect_eq(rules_of("shop", NULL, 0, NULL).mode, MODE_REGISTRY_ONLY);
	cr_expect(strstr(rules_of("shop", NULL, 0, NULL).origin, " Sidecar/all"));
	finish();
	compile(SIDECAR("all", "istio-system") "{outboundTrafficPolicy: {}}\n"
		POLICY("root", "istio-system") "{outboundTrafficPolicy: {mode: ALLOW_ANY}}\n"
		SIDECAR("shop", "shop") "{outboundTrafficPolicy: {mode: REGISTRY_ONLY}}\n"
		SIDECAR("web", "shop") "{workloadSelector: {labels: {app: web}}, egress: [{hosts: ['*/*']}]}\n"
		SIDECAR("cart", "cart") "{outboundTrafficPolicy: {}}\n"
		POLICY("cart", "cart") "{outboundTrafficPolicy: {mode: ALLOW_ANY}}\n"
		SIDECAR("cartweb", "cart") "{workloadSelector: {labels: {app: web}}, outboundTrafficPolicy: {}}\n"
		POLICY("cartboth", "cart") "{workloadSelector: {labels: {app: web, tier: front}}, outboundTrafficPolicy: {mode: ALLOW_ANY}}\n");
	cr_expect_eq(rules_of("other", NULL, 0, NULL).mode, MODE_ALLOW_ANY, "the root's policy over its Sidecar");
	cr_expect_eq(rules_of("shop", NULL, 0, NULL).mode, MODE_REGISTRY_ONLY, "the namespace's Sidecar over the root's policy");
	cr_expect_eq(rules_of("shop", labels, 1, NULL).mode, MODE_ALLOW_ANY, "a Sidecar without a mode takes nothing of another");
	cr_expect_eq(rules_of("cart", NULL, 0, NULL).mode, MODE_ALLOW_ANY, "the namespace's policy over its Sidecar");
	cr_expect_eq(rules_of("cart", labels, 1, NULL).mode, MODE_REGISTRY_ONLY, "the workload's Sidecar over the namespace's policy");
	cr_expect_eq(rules_of("cart", labels, 2, NULL).mode, MODE_ALLOW_ANY, "the workload's policy over its Sidecar");
}

Test(policy, drain_comes_from_the_most_specific_policy_that_sets_it_to_none_as_well)
{
	compile(POLICY("app", "shop") "{workloadSelector: {labels: {app: web}}, drain: 0s}\n" POLICY("shop", "shop") "{drain: 5s}\n"
		POLICY("cart", "cart") "{dns: {allow: any}}\n" POLICY("root", "istio-system") "{drain: 30s}\n");
	cr_expect_eq(rules_of("", NULL, 0, NULL).drain_ms, 30000);
	cr_expect_eq(rules_of("cart", NULL, 0, NULL).drain_ms, 30000);
	cr_expect_eq(rules_of("shop", NULL, 0, NULL).drain_ms, 5000);
	cr_expect_eq(rules_of("shop", labels, 1, NULL).drain_ms, 0);
	finish();
	compile("");
	cr_expect_eq(rules_of("shop", labels, 1, NULL).drain_ms, 0);
}

Test(policy, of_selectors_with_equally_many_labels_the_oldest_policy_wins)
{
	static const char *const order[] = {"2020", "2022"};

	for (int i = 0; i < 2; i++) { /* whichever comes first in the files */
		char text[1024];
		struct rule_set rules;

		snprintf(text, sizeof(text), "---\napiVersion: sluice.dev/v1\nkind: EgressPolicy\nmetadata: {name: app, namespace: shop, "
			 "creationTimestamp: '%s-01-01T00:00:00Z'}\nspec: {workloadSelector: {labels: {app: web}}, "
			 "outboundTrafficPolicy: {mode: REGISTRY_ONLY}}\n---\napiVersion: sluice.dev/v1\nkind: EgressPolicy\n"
			 "metadata: {name: tier, namespace: shop, creationTimestamp: '%s-01-01T00:00:00Z'}\n"
			 "spec: {workloadSelector: {labels: {tier: front}}, outboundTrafficPolicy: {mode: ALLOW_ANY}}\n", order[i], order[!i]);
		compile(text);
		rules = rules_of("shop", labels, 2, NULL);
		cr_expect_eq(rules.mode, i ? MODE_ALLOW_ANY : MODE_REGISTRY_ONLY, "of\n%s", text);
		finish();
	}
}

#define MESH "---\napiVersion: install.istio.io/v1alpha1\nkind: IstioOperator\nmetadata: {name: mesh}\n" \
	"spec: {values: {global: {proxy: {excludeIPRanges: 10.0.0.0/8, excludeOutboundPorts: '25'}}}}\n"
#define ANNOTATED "---\napiVersion: sluice.dev/v1\nkind: Workload\nmetadata: {name: web, namespace: shop, annotations: {" \
	"traffic.sidecar.istio.io/excludeOutboundIPRanges: 11.0.0.0/8}}\nspec: {cgroup: /web}\n"

/* Which of 10.1.1.1:80, 11.1.1.1:80 and 12.1.1.1:25 bypass, of a workload of shop. */
static unsigned int bypassing(const char *name)
{
	static const struct flow flows[] = {
		{{[10] = 0xff, 0xff, 10, 1, 1, 1}, 80, SLUICE_TCP, 0}, {{[10] = 0xff, 0xff, 11, 1, 1, 1}, 80, SLUICE_TCP, 0},
		{{[10] = 0xff, 0xff, 12, 1, 1, 1}, 25, SLUICE_TCP, 0},
	};
	struct workload_identity who = {.namespace_ = "shop", .name = name};
	const struct rule_set *rules;
	struct image_tables tables;
	struct image *image;
	unsigned int out = 0;

	policy_rule_set(policy, &who, &rules);
	image = policy_image_build(policy, NULL, NULL, NULL, NULL);
	image_tables_init(&tables, image);
	for (size_t i = 0; i < ARRAY_SIZE(flows); i++)
		out |= (verdict_judge(&tables.tables, rules, &flows[i]).verdict == VERDICT_BYPASS) << i;
	image_free(image);
	return out;
}

Test(policy, annotations_of_a_workload_stand_behind_egress_policies_and_before_the_mesh)
{
	compile(MESH ANNOTATED);
	cr_expect_eq(bypassing("other"), 5);
	cr_expect_eq(bypassing("web"), 6, "the list as a whole; the mesh's other lists stay");
	finish();
	compile(MESH ANNOTATED POLICY("p", "istio-system") "{interception: {excludeCIDRs: [12.0.0.0/8], excludePorts: []}}\n");
	cr_expect_eq(bypassing("web"), 4);
}

Test(policy, what_would_be_found_without_a_service_is_the_next_less_specific_one)
{
	const struct service *found;

	compile(ENTRY("a") "{hosts: [x.a.com, '*.a.com', '*.com'], " HTTP80 "}\n" ENTRY("b") "{hosts: ['*x.a.com'], " HTTP80 "}\n");
	found = policy_find(policy, 1, "x.a.com", 7, 80, true);
	cr_expect_str_eq(found->host, "x.a.com");
	found = policy_find_after(policy, 1, "x.a.com", 7, 80, true, found);
	cr_expect_str_eq(found->host, "*.a.com");
	found = policy_find_after(policy, 1, "x.a.com", 7, 80, true, found);
	cr_expect_str_eq(found->host, "*.com");
	cr_expect_null(policy_find_after(policy, 1, "x.a.com", 7, 80, true, found));
	found = policy_find(policy, 1, "yx.a.com", 8, 80, true);
	cr_expect_str_eq(found->host, "*x.a.com");
	cr_expect_str_eq(policy_find_after(policy, 1, "yx.a.com", 8, 80, true, found)->host, "*.a.com");
}

Test(policy, interceptions_that_differ_in_one_list_are_not_shared)
{
	static const char *const spaces[] = {"a", "b", "c", "d", "e", "f"};

	compile(POLICY("p", "a") "{interception: {includeCIDRs: [10.0.0.0/8]}}\n" POLICY("p", "b") "{interception: {includeCIDRs: [10.0.0.0/9]}}\n"
		POLICY("p", "c") "{interception: {excludeCIDRs: [10.0.0.0/8]}}\n" POLICY("p", "d") "{interception: {includePorts: [80]}}\n"
		POLICY("p", "e") "{interception: {excludePorts: [80]}}\n" POLICY("p", "f") "{interception: {excludePorts: [81]}}\n");
	for (size_t i = 0; i < ARRAY_SIZE(spaces); i++)
		for (size_t k = 0; k <= i; k++)
			cr_expect((i == k) == (rules_of(spaces[i], NULL, 0, NULL).interception == rules_of(spaces[k], NULL, 0, NULL).interception),
				  "%s and %s", spaces[i], spaces[k]);
}

Test(policy, an_excluded_address_has_the_place_of_the_longest_prefix_over_it)
{
	struct rule_set rules;
	uint8_t address[16];
	const struct cidr *cidr;

	compile(POLICY("p", "istio-system") "\n  interception:\n    excludeCIDRs:\n    - 10.0.0.0/8\n    - 10.1.0.0/17\n    - 2001:db8::/33\n");
	rules = rules_of("", NULL, 0, NULL);
	parse_address(address, "10.1.127.1");
	cidr = policy_excluded(policy, &rules, address);
	cr_assert_not_null(cidr);
	cr_expect_eq(cidr->at.line, 9);
	parse_address(address, "10.1.128.1");
	cr_assert_not_null(policy_excluded(policy, &rules, address));
	cr_expect_eq(policy_excluded(policy, &rules, address)->at.line, 8);
	parse_address(address, "11.0.0.1");
	cr_expect_null(policy_excluded(policy, &rules, address));
	parse_address(address, "2001:db8:8000::1");
	cr_expect_null(policy_excluded(policy, &rules, address));
}

Test(policy, equal_workloads_share_rule_set_interception_and_resolvers)
{
	struct rule_set shop, again, other;
	uint32_t a, b, c;

	compile(POLICY("shop", "shop") "{interception: {excludeCIDRs: [10.0.0.0/8]}, dns: {servers: [9.9.9.9]}}\n"
		POLICY("cart", "cart") "{interception: {excludeCIDRs: [10.0.0.0/8]}, outboundTrafficPolicy: {mode: REGISTRY_ONLY}}\n");
	shop = rules_of("shop", NULL, 0, &a);
	again = rules_of("shop", labels, 2, &b);
	other = rules_of("cart", NULL, 0, &c);
	cr_expect_eq(a, b);
	cr_expect_eq(memcmp(&shop, &again, sizeof(shop)), 0);
	cr_expect_neq(a, c);
	cr_expect_eq(shop.interception, other.interception);
	cr_expect_neq(shop.resolvers, other.resolvers);
	cr_expect_eq(rules_of("else", NULL, 0, NULL).resolvers, other.resolvers);
	cr_expect_neq(rules_of("else", NULL, 0, NULL).interception, other.interception);
}

/* ---- images ---- */

static const uint8_t (*same_for_all(void *context, const char *host, size_t *count))[16]
{
	(void)host;
	*count = context ? 1 : 0;
	return context;
}

#define EXPECT_SORTED(items, count)                                                             \
	for (size_t i_ = 1; i_ < (count); i_++)                                                 \
		cr_expect_lt(memcmp(&(items)[i_ - 1].key, &(items)[i_].key, sizeof((items)[0].key)), 0, #items)

static void expect_sorted(const struct image *image)
{
	EXPECT_SORTED(image->intercept, image->intercept_count);
	EXPECT_SORTED(image->bypass, image->bypass_count);
	EXPECT_SORTED(image->services, image->service_count);
	EXPECT_SORTED(image->ports, image->port_count);
	EXPECT_SORTED(image->rule_sets, image->rule_set_count);
	EXPECT_SORTED(image->catalog, image->catalog_count);
}

/* The loader sees by it that denials hold, so no document may exempt it. */
Test(policy, the_canary_is_denied_whatever_the_documents_say)
{
	struct flow flow = {.port = 9, .protocol = SLUICE_TCP};
	static const char *const addresses[] = {"198.18.0.1", "2001:2::1"};
	struct image_tables tables;
	const struct rule_set *rules;
	struct image *image;

	compile(ENTRY("a") "{hosts: [a.com], addresses: [198.18.0.0/15], resolution: NONE, ports: [{number: 9, name: t, protocol: TCP}]}\n"
		POLICY("p", "istio-system") "{outboundTrafficPolicy: {mode: ALLOW_ANY}, enforcement: audit, "
		"interception: {includeCIDRs: [], excludeCIDRs: [0.0.0.0/0, '::/0'], excludePorts: [9]}, dns: {allow: any}}\n");
	rules_of("", NULL, 0, NULL);
	image = policy_image_build(policy, same_for_all, NULL, NULL, NULL);
	image_tables_init(&tables, image);
	rules = lookup_rule_set(&tables.tables, WORKLOAD_CANARY);
	cr_assert_not_null(rules);
	for (size_t i = 0; i < 2 * ARRAY_SIZE(addresses); i++) {
		struct decision decision;

		parse_address(flow.addr, addresses[i / 2]);
		flow.protocol = i % 2 ? SLUICE_UDP : SLUICE_TCP;
		decision = verdict_judge(&tables.tables, rules, &flow);
		cr_expect_eq(decision.verdict, VERDICT_DENY, "%s/%u: %s", addresses[i / 2], flow.protocol, verdict_name(decision.verdict));
	}
	image_free(image);
}

Test(policy, an_image_is_sorted_and_services_that_share_an_address_are_one_item)
{
	uint8_t address[1][16];
	const struct service_item *shared = NULL;
	struct image *image;

	compile(ENTRY("a") "{hosts: [a.com], resolution: DNS, " TLS443 "}\n"
		ENTRY("b") "{hosts: [b.com], resolution: DNS, ports: [{number: 443, name: t, protocol: TCP}]}\n"
		POLICY("p", "istio-system") "{interception: {includeCIDRs: [10.0.0.0/8, 10.0.0.0/8, 9.0.0.0/8], excludePorts: [80, 80]}, dns: {servers: [9.9.9.9, 9.9.9.9]}}\n");
	rules_of("", NULL, 0, NULL);
	parse_address(address[0], "192.0.2.1");
	image = policy_image_build(policy, same_for_all, NULL, address, NULL);
	expect_sorted(image);
	cr_expect_eq(image->intercept_count, 3, "two and the canary's");
	cr_expect_eq(image->catalog_count, 2);
	cr_expect_eq(image->rule_set_count, 2, "one and the canary's");
	for (size_t i = 0; i < image->service_count; i++) {
		if (image->services[i].key.kind != KIND_SERVICE)
			continue;
		cr_expect_null(shared, "one item for the shared address");
		shared = &image->services[i];
	}
	cr_assert_not_null(shared);
	cr_expect_eq(shared->value.service, 1);
	cr_expect_eq(shared->value.flags, SERVICE_TLS | SERVICE_TCP);
	cr_expect_str_eq(shared->value.host, "a.com");
	cr_expect_str_eq(shared->value.prefix, "192.0.2.1");
	image_free(image);
}

static uint32_t flags_at(const struct image *image, const char *address)
{
	uint8_t addr[16];

	parse_address(addr, address);
	for (size_t i = 0; i < image->service_count; i++)
		if (image->services[i].key.kind == KIND_SERVICE && image->services[i].key.prefixlen == SERVICE_KEY_FIXED_BITS + 128 &&
		    !memcmp(image->services[i].key.addr, addr, 16))
			return image->services[i].value.flags;
	return 0;
}

/* What is open without a name stays open where a service with a name turns up; but not at an address that this one gives. */
Test(policy, a_range_stays_open_around_names)
{
	struct image *image;

	compile(ENTRY("net") "{hosts: [net.com], addresses: [192.0.2.0/24], ports: [{number: 443, name: t, protocol: TCP}]}\n"
		ENTRY("far") "{hosts: [far.com], addresses: [192.0.2.64/26], resolution: STATIC, endpoints: [{address: 198.51.100.1}], ports: [{number: 443, name: t, protocol: TCP}]}\n"
		ENTRY("a") "{hosts: [a.com], resolution: STATIC, endpoints: [{address: 192.0.2.1}, {address: 192.0.2.65}, {address: 203.0.113.1}], " TLS443 "}\n"
		ENTRY("b") "{hosts: [b.com], resolution: STATIC, addresses: [192.0.2.2], endpoints: [{address: 203.0.113.2}], " TLS443 "}\n");
	image = policy_image_build(policy, NULL, NULL, NULL, NULL);
	cr_expect_eq(flags_at(image, "192.0.2.1"), SERVICE_TLS | SERVICE_TCP);
	cr_expect_eq(flags_at(image, "192.0.2.65"), SERVICE_TLS, "around it is what is dialled elsewhere");
	cr_expect_eq(flags_at(image, "203.0.113.1"), SERVICE_TLS);
	cr_expect(!(flags_at(image, "192.0.2.2") & SERVICE_TCP));
	image_free(image);
}

/* Whoever was older there. */
Test(policy, a_range_does_not_open_an_address_that_any_entry_gives)
{
	struct image *image;

	compile(ENTRY("net") "{hosts: [net.com], addresses: [192.0.2.0/24], ports: [{number: 443, name: t, protocol: TCP}]}\n"
		ENTRY("a") "{hosts: [a.com], resolution: STATIC, endpoints: [{address: 192.0.2.2}], " TLS443 "}\n"
		ENTRY("b") "{hosts: [b.com], resolution: STATIC, addresses: [192.0.2.2], endpoints: [{address: 203.0.113.2}], " TLS443 "}\n");
	image = policy_image_build(policy, NULL, NULL, NULL, NULL);
	cr_expect_eq(flags_at(image, "192.0.2.2"), SERVICE_TLS | SERVICE_REWRITES, "%#x", flags_at(image, "192.0.2.2"));
	image_free(image);
}

static const struct name_item *name_item(const struct image *image, const char *backwards, size_t size, uint16_t port)
{
	for (size_t i = 0; i < image->name_count; i++)
		if (image->names[i].key.prefixlen == NAME_KEY_FIXED_BITS + 8 * size && image->names[i].key.port == port &&
		    !memcmp(image->names[i].key.name, backwards, size))
			return &image->names[i];
	return NULL;
}

Test(policy, tls_names_stand_backwards_in_the_image_each_once)
{
	struct image *image;

	compile(ENTRY("a") "{hosts: [a.com, '*.a.com'], resolution: NONE, ports: [{number: 443, name: t, protocol: TLS}]}\n"
		ENTRY("b") "{hosts: [a.com], resolution: NONE, ports: [{number: 8443, name: t, protocol: HTTPS}, {number: 80, name: h, protocol: HTTP}]}\n"
		ENTRY("long") "{hosts: [" L63 "." L63 "." L63 "." L58 "], resolution: NONE, ports: [{number: 443, name: t, protocol: TLS}]}\n");
	image = policy_image_build(policy, NULL, NULL, NULL, NULL);
	cr_expect_eq(image->name_count, 3, "%zu", image->name_count); /* HTTP shows a Host; 250 bytes and a NUL do not fit */
	cr_expect_eq(name_item(image, "moc.a", 6, 443)->value.service, must_have("a.com", 443)->id);
	cr_expect_eq(name_item(image, "moc.a.", 6, 443)->value.service, must_have("*.a.com", 443)->id);
	cr_expect_eq(name_item(image, "moc.a", 6, 8443)->value.service, must_have("a.com", 8443)->id);
	image_free(image);
}

/* Elsewhere its port is closed (ISTIO.md §1.3): what is at the addresses needs no name. */
Test(policy, without_a_protocol_a_server_name_counts_where_there_are_no_addresses)
{
	struct image *image;

	compile(ENTRY("a") "{hosts: [a.com, '*.a.com'], ports: [{number: 443, name: t}]}\n"
		ENTRY("b") "{hosts: [b.com, '*.b.com'], addresses: [192.0.2.0/24], ports: [{number: 443, name: t}]}\n");
	image = policy_image_build(policy, NULL, NULL, NULL, NULL);
	cr_expect_eq(find("a.com", 443, false), must_have("a.com", 443));
	cr_expect_eq(find("x.a.com", 443, false), must_have("*.a.com", 443));
	cr_expect_null(find("b.com", 443, false));
	cr_expect_null(find("x.b.com", 443, false));
	cr_expect_eq(find("b.com", 443, true), must_have("b.com", 443));
	cr_expect_eq(image->name_count, 2, "%zu", image->name_count);
	image_free(image);
}

static unsigned int items_of_kind(const struct image *image, enum sluice_kind kind, uint16_t port, const uint8_t addr[16])
{
	unsigned int n = 0;

	for (size_t i = 0; i < image->service_count; i++)
		n += image->services[i].key.kind == kind && image->services[i].key.port == port &&
		     !memcmp(image->services[i].key.addr, addr, 16);
	return n;
}

Test(policy, unix_sockets_are_targets_that_only_the_redirector_reaches)
{
	const struct service *service, *udp;
	uint8_t address[16], identity[16];
	struct image *image;

	compile(ENTRY("a") "{hosts: [a.com], resolution: STATIC, endpoints: [{address: 'unix:///run/a', weight: 3}, {address: 192.0.2.1}], " HTTP80 "}\n"
		ENTRY("b") "{hosts: [b.com], addresses: [192.0.2.9], resolution: STATIC, endpoints: [{address: 'unix:///run/a'}], "
		"ports: [{number: 22, name: t, protocol: TCP}]}\n"
		ENTRY("c") "{hosts: [c.com], addresses: [192.0.2.9], resolution: STATIC, endpoints: [{address: 'unix:///run/a'}], "
		"ports: [{number: 22, name: u, protocol: UDP}]}\n"
		ENTRY("d") "{hosts: [d.com], resolution: STATIC, workloadSelector: {labels: {app: x}}, " HTTP80 "}\n"
		ENTRY("e") "{hosts: [e.com], resolution: DNS, workloadSelector: {labels: {app: x}}, " HTTP80 "}\n"
		PLACE_IN("default", "one") "{address: 'unix:///run/b', labels: {app: x}}\n");
	service = must_have("a.com", 80);
	cr_assert_eq(service->target_count, 2);
	cr_expect_str_eq(service->targets[0].socket, "/run/a");
	cr_expect_eq(service->targets[0].port, 0);
	cr_expect_eq(service->targets[0].weight, 3);
	cr_expect_null(service->targets[0].host);
	cr_expect_null(service->targets[1].socket);
	cr_expect_eq(service->flags, SERVICE_HTTP | SERVICE_ROUTED | SERVICE_REWRITES | SERVICE_UNIX);
	socket_identity(identity, "/run/a");
	cr_expect_eq(memcmp(service->targets[0].addr, identity, 16), 0);
	cr_expect_str_eq(service_socket(service, identity), "/run/a");
	socket_identity(identity, "/run/b");
	cr_expect_null(service_socket(service, identity));
	cr_expect_eq(must_have("b.com", 22)->flags, SERVICE_TCP | SERVICE_ROUTED | SERVICE_REWRITES | SERVICE_UNIX);
	udp = must_have("c.com", 22);
	cr_expect_eq(udp->target_count, 0);
	cr_expect(!(udp->flags & SERVICE_UNIX));
	cr_assert_eq(must_have("d.com", 80)->target_count, 1);
	cr_expect_str_eq(must_have("d.com", 80)->targets[0].socket, "/run/b");
	cr_expect_eq(must_have("e.com", 80)->target_count, 0);
	cr_expect_eq(warnings("\"unix:///run/b\" is a Unix socket, which takes resolution STATIC and one port"), 1);
	image = policy_image_build(policy, NULL, NULL, NULL, NULL);
	parse_address(address, "192.0.2.1");
	cr_expect_eq(items_of_kind(image, KIND_SERVICE, 80, address), 1);
	cr_expect_eq(items_of_kind(image, KIND_UPSTREAM, 80, address), 1);
	parse_address(address, "192.0.2.9");
	cr_expect_eq(image->service_count, 2U + 2U, "and the two that have the address: %zu", image->service_count);
	for (size_t i = 0; i < image->service_count; i++)
		cr_expect_neq(image->services[i].key.port, 0);
	image_free(image);
}

static void count_service(void *context, const struct service *service)
{
	*(uint32_t *)context += service->id;
}

static uint32_t dynamic_ids(const char *host)
{
	uint32_t sum = 0;

	policy_each_dynamic(policy, host, count_service, &sum);
	return sum;
}

Test(policy, shown_names_find_the_wildcards_over_them)
{
	uint32_t two;

	compile(ENTRY("a") "{hosts: ['*.a.com'], resolution: DYNAMIC_DNS, " HTTP80 "}\n"
		ENTRY("b") "{hosts: ['*.b.a.com'], resolution: DYNAMIC_DNS, " HTTP80 "}\n"
		ENTRY("c") "{hosts: ['*.c.com'], resolution: NONE, " HTTP80 "}\n");
	two = must_have("*.a.com", 80)->id + must_have("*.b.a.com", 80)->id;
	cr_expect_eq(dynamic_ids("x.a.com"), must_have("*.a.com", 80)->id);
	cr_expect_eq(dynamic_ids("x.b.a.com"), two);
	cr_expect_eq(dynamic_ids("b.a.com"), must_have("*.a.com", 80)->id);
	cr_expect_eq(dynamic_ids("a.com"), 0);
	cr_expect_eq(dynamic_ids("xa.com"), 0);
	cr_expect_eq(dynamic_ids("x.c.com"), 0, "only those that are resolved so");
	cr_expect_eq(dynamic_ids(""), 0);
	cr_expect(policy_resolves(policy, &(struct rule_set){.registry = 1}, "x.a.com") && policy_resolves(policy, NULL, "x.a.com"));
	cr_expect_not(policy_resolves(policy, &(struct rule_set){.registry = 2}, "x.a.com"));
	cr_expect_not(policy_resolves(policy, &(struct rule_set){.registry = 1}, "a.com"));
	cr_expect(policy_resolves(policy, &(struct rule_set){.mode = MODE_ALLOW_ANY_DYNAMIC_DNS}, "a.com"));
	cr_expect_eq(policy_names(policy)->count, 0, "nothing to resolve before anybody asks");
}

Test(policy, shown_names_find_partial_wildcards_over_them)
{
	compile(ENTRY("a") "{hosts: ['*x.com'], resolution: DYNAMIC_DNS, " HTTP80 "}\n");
	cr_expect_eq(dynamic_ids("ax.com"), 1);
	cr_expect_eq(dynamic_ids("x.com"), 0);
}

Test(policy, shown_names_are_in_the_image_for_upstream_sockets_only)
{
	uint8_t address[2][16];
	const struct asked_name names[] = {{"x.a.com", (const uint8_t (*)[16])address, (const uint8_t (*)[16])address + 1, 1, 1},
					   {"x.b.com", (const uint8_t (*)[16])address, NULL, 1, 0}};
	const struct asked_names asked = {names, 2};
	struct image *image;

	compile(ENTRY("a") "{hosts: ['*.a.com'], resolution: DYNAMIC_DNS, ports: [{number: 443, name: t, protocol: TLS, targetPort: 8443}]}\n");
	parse_address(address[0], "192.0.2.1");
	parse_address(address[1], "192.0.2.2");
	image = policy_image_build(policy, same_for_all, NULL, address, &asked);
	expect_sorted(image);
	cr_assert_eq(image->service_count, 2, "the other name is nobody's: %zu", image->service_count);
	cr_expect_eq(items_of_kind(image, KIND_UPSTREAM, 8443, address[0]), 1);
	cr_expect_eq(items_of_kind(image, KIND_FORMER, 8443, address[1]), 1);
	cr_expect_str_eq(image->services[0].value.host, "x.a.com");
	cr_expect_eq(image->services[0].value.flags, SERVICE_TLS | SERVICE_ROUTED | SERVICE_REWRITES | SERVICE_WILDCARD | SERVICE_DYNAMIC);
	cr_expect_eq(image->port_count, 1);
	cr_expect_eq(image->ports[0].value.flags, PORT_NAMED | PORT_NAMED_ROUTED);
	image_free(image);
}

static const uint8_t (*one_former(void *context, const char *host, size_t *count))[16]
{
	const uint8_t (*addresses)[16] = context;

	(void)host;
	*count = 1;
	return addresses + 1;
}

Test(policy, former_addresses_stand_at_the_dialled_and_the_target_port_and_only_as_former)
{
	uint8_t address[2][16];
	struct image *image;

	compile(ENTRY("a") "{hosts: [a.com], resolution: DNS, ports: [{number: 443, name: tls, protocol: TLS, targetPort: 8443}]}\n"
		ENTRY("b") "{hosts: [b.com], resolution: NONE, " HTTP80 "}\n");
	rules_of("", NULL, 0, NULL);
	parse_address(address[0], "192.0.2.1");
	parse_address(address[1], "192.0.2.2");
	image = policy_image_build(policy, same_for_all, one_former, address, NULL);
	expect_sorted(image);
	cr_expect_eq(items_of_kind(image, KIND_FORMER, 443, address[1]), 1);
	cr_expect_eq(items_of_kind(image, KIND_FORMER, 8443, address[1]), 1);
	cr_expect_eq(items_of_kind(image, KIND_SERVICE, 443, address[0]), 1);
	cr_expect_eq(items_of_kind(image, KIND_UPSTREAM, 8443, address[0]), 1);
	cr_expect_eq(image->service_count, 4);
	image_free(image);
}

Test(policy, new_addresses_change_the_services_and_nothing_else)
{
	uint8_t address[1][16];
	struct image *before, *after;

	compile(ENTRY("a") "{hosts: [a.com], resolution: DNS, " TLS443 "}\n" POLICY("p", "istio-system") "{interception: {excludeCIDRs: [10.0.0.0/8]}}\n");
	rules_of("", NULL, 0, NULL);
	before = policy_image_build(policy, same_for_all, NULL, NULL, NULL);
	parse_address(address[0], "192.0.2.1");
	after = policy_image_build(policy, same_for_all, NULL, address, NULL);
	cr_expect_eq(before->service_count, 0);
	cr_expect_eq(after->service_count, 2);
#define SAME(items, count) \
	cr_expect(before->count == after->count && !memcmp(before->items, after->items, after->count * sizeof(*after->items)), #items)
	SAME(intercept, intercept_count);
	SAME(bypass, bypass_count);
	SAME(ports, port_count);
	SAME(rule_sets, rule_set_count);
	SAME(catalog, catalog_count);
	image_free(before);
	image_free(after);
}

/* ---- size ---- */

static double milliseconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
	return (double)now.tv_sec * 1e3 + (double)now.tv_nsec / 1e6;
}

/* CPU time to compile and build what `text` holds, which is freed. */
static double time_to_compile(char *text, size_t length)
{
	struct policy_options options = {"istio-system", NULL, 0};
	struct config_file file = {"p.yaml", text, length};
	uint8_t address[1][16];
	struct image *image;
	double start;

	config = config_new();
	config_parse(config, &file);
	parse_address(address[0], "192.0.2.1");
	start = milliseconds();
	policy = policy_compile(config, &options);
	image = policy_image_build(policy, same_for_all, NULL, address, NULL);
	start = milliseconds() - start;
	cr_expect_eq(image->catalog_count, policy_service_count(policy));
	image_free(image);
	free(text);
	return start;
}

struct size {
	unsigned int services, routes, rules;
};

/* Entries, VirtualServices that route all of them, and DestinationRules for some. */
static double time_to_compile_all(struct size size)
{
	size_t length;
	char *text;
	FILE *out = open_memstream(&text, &length);

	for (unsigned int i = 0; i < size.services; i++)
		fprintf(out, "---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: e%u}\n"
			"spec: {hosts: [h%u.g%u.com], resolution: DNS, " HTTP80 "}\n", i, i, i % 1000);
	for (unsigned int i = 0; i < size.routes; i++)
		fprintf(out, "---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: v%u}\n"
			"spec: {hosts: ['*.g%u.com'], " TO("h0.g0.com"), i, i);
	for (unsigned int i = 0; i < size.rules; i++)
		fprintf(out, "---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: r%u}\n"
			"spec: {host: h%u.g%u.com, trafficPolicy: " TIMEOUT("%ums") "}\n", i, i, i % 1000, i + 1);
	fclose(out);
	return time_to_compile(text, length);
}

#ifdef __SANITIZE_ADDRESS__
#define BUDGET_MS 1000
#else
#define BUDGET_MS 200
#endif

Test(policy, ten_thousand_services_compile_in_a_fifth_of_a_second)
{
	double spent = time_to_compile_all((struct size){.services = 10000});

	cr_expect_eq(policy_service_count(policy), 10000);
	cr_expect_lt(spent, BUDGET_MS, "%.0f ms", spent);
}

Test(policy, ten_thousand_routed_services_do_not_cost_the_square)
{
	double spent = time_to_compile_all((struct size){.services = 10000, .routes = 1000});

	cr_expect(policy_service(policy, 10000)->routes);
	cr_expect_lt(spent, BUDGET_MS, "%.0f ms", spent);
}

Test(policy, ten_thousand_destination_rules_do_not_cost_the_square)
{
	double spent = time_to_compile_all((struct size){.services = 10000, .rules = 10000});

	cr_expect_eq(policy_service(policy, 1)->policy.pool.connect_timeout_ms, 1);
	cr_expect_eq(policy_service(policy, 10000)->policy.pool.connect_timeout_ms, 10000);
	cr_expect_lt(spent, BUDGET_MS, "%.0f ms", spent);
}

Test(policy, ten_thousand_destinations_that_a_sidecar_does_not_import_do_not_cost_the_square)
{
	size_t length;
	char *text;
	FILE *out = open_memstream(&text, &length);
	double spent;

	for (unsigned int i = 0; i < 10000; i++)
		fprintf(out, IN("svc", "e%u") "{hosts: [h%u.com], exportTo: [me], resolution: DNS, " HTTP80 "}\n"
			"---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: v%u, namespace: me}\n"
			"spec: {hosts: [v%u.com], " TO("h%u.com"), i, i, i, i, i);
	fprintf(out, "---\napiVersion: networking.istio.io/v1\nkind: Sidecar\nmetadata: {name: default, namespace: me}\n"
		"spec: {egress: [{hosts: [./*]}]}\n");
	fclose(out);
	spent = time_to_compile(text, length);
	cr_expect_eq(timeout_from("me", "h0.com", 80) + timeout_from("me", "h9999.com", 80), 0, "both are known, and no rule is for them");
	cr_expect_lt(spent, BUDGET_MS, "%.0f ms", spent);
}
