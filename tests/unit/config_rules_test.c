// SPDX-License-Identifier: Apache-2.0
/* The rules of ISTIO.md §3 at their edges: what is accepted must stay so, what is refused names its field. */
#include <criterion/criterion.h>
#include <string.h>

#include "config/config.h"

#define OBJECT(kind) "apiVersion: networking.istio.io/v1\nkind: " kind "\nmetadata: {name: a, namespace: ns5}\nspec:\n"
#define ENTRY OBJECT("ServiceEntry")
#define SERVICE OBJECT("VirtualService")
#define SIDECAR OBJECT("Sidecar")
#define WORKLOAD OBJECT("WorkloadEntry")
#define HTTP_PORT "  ports: [{number: 80, name: http, protocol: HTTP}]\n"
#define RULE(text) SERVICE "  hosts: [a.com]\n  http:\n  - " text "\n"
#define ROUTE ", route: [{destination: {host: a.com}}]}"
#define MATCH(text) RULE("{match: [" text "]" ROUTE)

static struct config *parse(const char *text)
{
	struct config_file file = {"p.yaml", text, strlen(text)};
	struct config *config = config_new();

	config_parse(config, &file);
	config_validate(config, "istio-system");
	return config;
}

static bool has(const struct config *config, enum severity severity, const char *field)
{
	for (size_t i = 0; i < config->problem_count; i++)
		if (config->problems[i].severity == severity && !strcmp(config->problems[i].field, field))
			return true;
	return false;
}

static void print_problems(const struct config *config)
{
	for (size_t i = 0; i < config->problem_count; i++)
		config_problem_print(stderr, &config->problems[i]);
}

static void accept_all(const char *const *texts, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		struct config *config = parse(texts[i]);

		if (config->error_count)
			print_problems(config);
		cr_expect_eq(config->error_count, 0, "case %zu: must be accepted:\n%s", i, texts[i]);
		config_free(config);
	}
}

struct wrong {
	const char *text, *field;
};

static void expect_all(const struct wrong *wrong, size_t count, enum severity severity)
{
	for (size_t i = 0; i < count; i++) {
		struct config *config = parse(wrong[i].text);

		if (!has(config, severity, wrong[i].field))
			print_problems(config);
		cr_expect(has(config, severity, wrong[i].field), "case %zu: %s of %s is wanted:\n%s", i,
			  severity == SEVERITY_ERROR ? "an error" : "a warning", wrong[i].field, wrong[i].text);
		cr_expect(severity == SEVERITY_ERROR || !config->error_count, "case %zu: a warning only:\n%s", i, wrong[i].text);
		config_free(config);
	}
}

/* ---- VirtualService ---- */

Test(config_rules, virtual_services_that_istio_accepts)
{
	static const char *const accepted[] = {
		/* hosts and gateways */
		SERVICE "  hosts: ['outbound_.15010_._.istiod.istio-system.svc.cluster.local']\n  gateways: [ns1/gateway]\n"
			"  tls: [{match: [{sniHosts: ['outbound_.15010_._.istiod.istio-system.svc.cluster.local']}], route: [{destination: {host: a.com}}]}]\n",
		SERVICE "  hosts: [foo.bar]\n  gateways: [gateway.example.com]\n  http: [{route: [{destination: {host: a.com}}]}]\n",
		SERVICE "  hosts: ['*']\n  gateways: [somegateway]\n  http: [{route: [{destination: {host: a.com}}]}]\n",
		SERVICE "  hosts: [10.0.0.1]\n  http: [{route: [{destination: {host: a.com}}]}]\n",
		SERVICE "  hosts: [reviews]\n  http: [{route: [{destination: {host: reviews}}]}]\n",
		/* match */
		MATCH("{headers: {':authority': {exact: a}, 'funky!$#_': {prefix: b}, x: {}}}"),
		MATCH("{withoutHeaders: {x: {regex: '*'}, y: null, z: {}}}"),
		MATCH("{queryParams: {q: null, r: {}}}"),
		MATCH("{uri: {prefix: ''}, port: 0, name: m, statPrefix: s, ignoreUriCase: true}"),
		MATCH("null"),
		SERVICE "  hosts: [a.com]\n  gateways: [ns/edge]\n  http:\n  - {match: [{headers: {'@request.auth.claims.foo': {exact: b}, '@request.auth.claims[a][b]': {exact: c}}}]" ROUTE "\n",
		/* destinations */
		RULE("{route: [{destination: {host: '*.eu.bookinfo.com'}}]}"),
		SERVICE "  hosts: [a.com]\n  tcp: [{route: [{destination: {host: '*-foo.baz'}}]}, {match: [{port: 0}], route: [{destination: {host: '*foo.baz'}}]}]\n",
		RULE("{route: [{destination: {host: a.com}, weight: 550}, {destination: {host: b.com}, weight: 500}]}"),
		RULE("{route: [{destination: {host: a.com}, weight: 0}]}"),
		/* actions */
		RULE("{redirect: {uri: t, authority: t, redirectCode: 0}}"),
		RULE("{redirect: {port: 0}}"),
		RULE("{redirect: {scheme: https}}"),
		RULE("{directResponse: {status: 600, body: {string: hello}}}"),
		RULE("{directResponse: {status: 200, body: {bytes: aGVsbG8}}}"),
		RULE("{directResponse: {status: 200, body: {bytes: aGVs-_8=}}}"),
		RULE("{fault: {delay: {percentage: {value: 50}}}" ROUTE),
		RULE("{fault: {abort: {percentage: {value: 0.0001}, httpStatus: 600}}" ROUTE),
		RULE("{fault: {abort: {grpcStatus: DEADLINE_EXCEEDED}}" ROUTE),
		RULE("{mirror: {host: b.com}, mirrorPercentage: {value: 0.00001}" ROUTE),
		RULE("{mirrors: [{destination: {host: b.com}, percentage: {value: 0}}, {destination: {host: c.com}}]" ROUTE),
		RULE("{timeout: 1ms" ROUTE),
		RULE("{timeout: 0.001s" ROUTE),
		RULE("{retries: {attempts: 0}" ROUTE),
		RULE("{retries: {attempts: 3, retryOn: '503,connect-failure,http3-post-connect-failure', perTryTimeout: 1.5s, backoff: 1ms}" ROUTE),
		/* headers */
		RULE("{headers: {request: {set: {':authority': foo}}}" ROUTE),
		RULE("{route: [{destination: {host: a.com}, headers: {request: {add: {Host: foo}}}}]}"),
		RULE("{headers: {request: {set: {x: '%DYNAMIC_METADATA(com.test.my_filter)%', y: '100%%'}}}" ROUTE),
		RULE("{headers: {response: {set: {x: '%DOWNSTREAM_PEER_CERT_V_END(%b %d %H:%M:%S %Y %Z)%'}}}" ROUTE),
		/* delegates */
		SERVICE "  hosts: [a.com]\n  http:\n  - {match: [{uri: {regex: 'a.*'}}], delegate: {name: b, namespace: c}}\n",
		SERVICE "  http: [{match: [{sourceNamespace: test}]" ROUTE "]\n",
		/* CORS */
		RULE("{corsPolicy: {allowOrigins: [{exact: a}, {prefix: b}, {regex: 'c.*'}], allowMethods: [GET], allowHeaders: ['*'], maxAge: 24h}" ROUTE),
		/* tls */
		SERVICE "  hosts: [a.com]\n  tls: [{match: [{sniHosts: [1.1.1.1], port: 999}], route: [{destination: {host: a.com}}]}]\n",
		SERVICE "  hosts: ['*.a.com']\n  tls: [{match: [{sniHosts: ['*.b.a.com', c.a.com]}], route: [{destination: {host: a.com}}]}]\n",
		/* exportTo */
		SERVICE "  hosts: [a.com]\n  exportTo: ['.', ns1]\n  http: [{route: [{destination: {host: a.com}}]}]\n",
	};

	accept_all(accepted, ARRAY_SIZE(accepted));
}

Test(config_rules, virtual_services_that_istio_rejects)
{
	static const struct wrong wrong[] = {
		{SERVICE "  hosts: [a.com]\n  gateways: [ns1/*]\n  http: [{route: [{destination: {host: a.com}}]}]\n", "spec.gateways[0]"},
		{SERVICE "  hosts: [a.com]\n  gateways: ['*/gateway']\n  http: [{route: [{destination: {host: a.com}}]}]\n", "spec.gateways[0]"},
		{SERVICE "  hosts: [a.com]\n  gateways: [ns/a.b]\n  http: [{route: [{destination: {host: a.com}}]}]\n", "spec.gateways[0]"},
		{SERVICE "  hosts: [foo.ba!r]\n  http: [{route: [{destination: {host: a.com}}]}]\n", "spec.hosts[0]"},
		{SERVICE "  hosts: ['outbound_.80_._.a.b']\n  http: [{route: [{destination: {host: a.com}}]}]\n", "spec.hosts[0]"},
		{MATCH("{headers: {'': {exact: a}}}"), "spec.http[0].match[0].headers."},
		{MATCH("{headers: {'::': {exact: a}}}"), "spec.http[0].match[0].headers.::"},
		{MATCH("{headers: {'illegal\"char': {exact: a}}}"), "spec.http[0].match[0].headers.illegal\"char"},
		{MATCH("{withoutHeaders: {'a b': {exact: a}}}"), "spec.http[0].match[0].withoutHeaders.a b"},
		{MATCH("{headers: {x: {regex: '*'}}}"), "spec.http[0].match[0].headers.x.regex"},
		{MATCH("{uri: {regex: ''}}"), "spec.http[0].match[0].uri"},
		{MATCH("{method: {regex: ''}}"), "spec.http[0].match[0].method"},
		{MATCH("{authority: {prefix: ''}}"), "spec.http[0].match[0].authority"},
		{MATCH("{queryParams: {q: {regex: ''}}}"), "spec.http[0].match[0].queryParams.q"},
		{MATCH("{port: 65536}"), "spec.http[0].match[0].port"},
		{MATCH("{sourceNamespace: a_b}"), "spec.http[0].match[0].sourceNamespace"},
		{MATCH("{gateways: ['b@d']}"), "spec.http[0].match[0].gateways[0]"},
		{MATCH("{headers: {'@request.auth.claims.foo': {exact: b}}}"), "spec.http[0].match[0].headers"},
		{MATCH("{withoutHeaders: {'@Request.Auth.Claims[foo]': {exact: b}}}"), "spec.http[0].match[0].withoutHeaders"},
		{RULE("{route: [{destination: {host: '*'}}]}"), "spec.http[0].route[0].destination.host"},
		{RULE("{route: [{destination: {host: 'foo.*'}}]}"), "spec.http[0].route[0].destination.host"},
		{RULE("{route: [{destination: {host: default/baz}}]}"), "spec.http[0].route[0].destination.host"},
		{RULE("{route: [{destination: {host: a.com, port: {}}}]}"), "spec.http[0].route[0].destination.port.number"},
		{RULE("{redirect: {uri: /x, redirectCode: 299}}"), "spec.http[0].redirect.redirectCode"},
		{RULE("{directResponse: {status: 199}}"), "spec.http[0].directResponse.status"},
		{RULE("{directResponse: {status: 200, body: {bytes: hello}}}"), "spec.http[0].directResponse.body.bytes"},
		{RULE("{fault: {abort: {httpStatus: 100}}" ROUTE), "spec.http[0].fault.abort.httpStatus"},
		{RULE("{fault: {abort: {grpcStatus: BAD_STATUS}}" ROUTE), "spec.http[0].fault.abort.grpcStatus"},
		{RULE("{fault: {delay: {fixedDelay: 3.000000042s}}" ROUTE), "spec.http[0].fault.delay.fixedDelay"},
		{RULE("{mirrors: [{destination: {host: b.com}, percentage: {value: 101}}]" ROUTE), "spec.http[0].mirrors[0].percentage.value"},
		{RULE("{mirror: {host: b.com}, mirrorPercentage: {value: -1}" ROUTE), "spec.http[0].mirrorPercentage.value"},
		{RULE("{mirror: {host: b.com}, mirrors: [{destination: {host: c.com}}]" ROUTE), "spec.http[0]"},
		{RULE("{headers: {request: {set: {':authority': foo}}}, rewrite: {authority: bar}" ROUTE), "spec.http[0]"},
		{RULE("{headers: {request: {set: {':authority': foo}, add: {host: bar}}}" ROUTE), "spec.http[0].headers.request.add.host"},
		{RULE("{headers: {request: {remove: [Host]}}" ROUTE), "spec.http[0].headers.request.remove[0]"},
		{RULE("{headers: {response: {set: {':authority': a}}}" ROUTE), "spec.http[0].headers.response.set.:authority"},
		{RULE("{headers: {request: {set: {':path': a}}}" ROUTE), "spec.http[0].headers.request.set.:path"},
		{RULE("{headers: {request: {set: {x: '%START_TIME%%'}}}" ROUTE), "spec.http[0].headers.request.set.x"},
		{RULE("{corsPolicy: {allowOrigins: [{exact: ''}]}" ROUTE), "spec.http[0].corsPolicy.allowOrigins[0]"},
		{RULE("{corsPolicy: {exposeHeaders: ['']}" ROUTE), "spec.http[0].corsPolicy.exposeHeaders[0]"},
		{RULE("{corsPolicy: {maxAge: 0s}" ROUTE), "spec.http[0].corsPolicy.maxAge"},
		{RULE("{retries: {attempts: 0, retryRemoteLocalities: false}" ROUTE), "spec.http[0].retries"},
		{RULE("{retries: {attempts: 1, retryOn: '5xx,invalid policy'}" ROUTE), "spec.http[0].retries.retryOn"},
		{RULE("{rewrite: {uriRegexRewrite: {rewrite: a}}" ROUTE), "spec.http[0].rewrite.uriRegexRewrite.match"},
		{SERVICE "  hosts: [a.com]\n  tls: [{match: [{sniHosts: [foo.*.com]}], route: [{destination: {host: a.com}}]}]\n", "spec.tls[0].match[0].sniHosts[0]"},
		{SERVICE "  hosts: [a.com]\n  tls: [{match: [{sniHosts: [b.com]}], route: [{destination: {host: a.com}}]}]\n", "spec.tls[0]"},
		{SERVICE "  hosts: [a.com]\n  tls: [{match: [{sniHosts: [a.com]}]}]\n", "spec.tls[0].route"},
		{SERVICE "  hosts: [a.com]\n  tcp: [{match: [{port: 999}]}]\n", "spec.tcp[0].route"},
		{SERVICE "  hosts: [a.com]\n  exportTo: ['~', ns1]\n  http: [{route: [{destination: {host: a.com}}]}]\n", "spec.exportTo[0]"},
		{SERVICE "  hosts: [a.com]\n  exportTo: [ns1_]\n  http: [{route: [{destination: {host: a.com}}]}]\n", "spec.exportTo[0]"},
	};

	expect_all(wrong, ARRAY_SIZE(wrong), SEVERITY_ERROR);
}

Test(config_rules, authority_of_header_operations_is_no_line)
{
	struct config *config = parse(RULE("{headers: {request: {set: {Host: 'b.com:81', x: z}}}" ROUTE));
	const struct header_ops *ops = &config->virtual_services[0]->http[0].headers.request;

	cr_assert_eq(config->error_count, 0);
	cr_expect_str_eq(ops->authority, "b.com:81");
	cr_expect_str_eq(ops->lines, "x: z\r\n");
	cr_expect_eq(ops->drop.count, 1);
	config_free(config);
}
