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
		MATCH("{authority: {suffix: .a.com}, method: {suffix: T}, scheme: {suffix: s}, headers: {x: {suffix: yy}}, withoutHeaders: {z: {suffix: a}}, queryParams: {q: {suffix: -dev}}}"),
		RULE("{corsPolicy: {allowOrigins: [{suffix: .a.com}]}" ROUTE),
		MATCH("{uri: {}, method: {}, scheme: {}, authority: {}, sourceNamespace: ''}"),
		SERVICE "  hosts: [a.com]\n  gateways: [ns/edge]\n  http:\n  - {match: [{headers: {'@request.auth.claims.foo': {exact: b}, '@request.auth.claims[a][b]': {exact: c}}}]" ROUTE "\n",
		/* destinations */
		RULE("{route: [{destination: {host: '*.eu.bookinfo.com'}}]}"),
		SERVICE "  hosts: [a.com]\n  tcp: [{route: [{destination: {host: '*-foo.baz'}}]}, {match: [{port: 0}], route: [{destination: {host: '*foo.baz'}}]}]\n",
		RULE("{route: [{destination: {host: a.com}, weight: 550}, {destination: {host: b.com}, weight: 500}]}"),
		RULE("{route: [{destination: {host: a.com}, weight: 0}]}"),
		RULE("{route: [{destination: {host: a.com, subset: ''}}]}"),
		SERVICE "  hosts: [a.com]\n  tcp: [{match: [{sourceNamespace: ''}], route: [{destination: {host: a.com}}]}]\n",
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
		RULE("{mirror: {host: b.com}, mirror_percent: 5" ROUTE),
		RULE("{rewrite: {uri: '', uriRegexRewrite: {match: 'a b', rewrite: c}}" ROUTE),
		RULE("{mirrors: [{destination: {host: b.com}, percentage: {value: 0}}, {destination: {host: c.com}}]" ROUTE),
		RULE("{timeout: 1ms" ROUTE),
		RULE("{timeout: 0.001s" ROUTE),
		RULE("{timeout: 8760h" ROUTE),
		RULE("{retries: {attempts: 0}" ROUTE),
		RULE("{retries: {attempts: 0, retryOn: ''}" ROUTE),
		RULE("{retries: {attempts: 3, retryOn: '503,connect-failure,http3-post-connect-failure', perTryTimeout: 1.5s, backoff: 1ms}" ROUTE),
		/* headers */
		RULE("{headers: {request: {set: {':authority': foo}}}" ROUTE),
		RULE("{route: [{destination: {host: a.com}, headers: {request: {add: {Host: foo}}}}]}"),
		RULE("{headers: {request: {set: {x: '%DYNAMIC_METADATA(com.test.my_filter)%', y: '100%%'}}}" ROUTE),
		RULE("{headers: {response: {set: {x: '%DOWNSTREAM_PEER_CERT_V_END(%b %d %H:%M:%S %Y %Z)%'}}}" ROUTE),
		RULE("{directResponse: {status: 200, body: {bytes: ''}}}"),
		RULE("{directResponse: {status: 200, body: {bytes: aGVsbG8}}}"),
		RULE("{directResponse: {status: 200, body: {bytes: aGVsbG8=}}}"),
		/* delegates */
		SERVICE "  hosts: [a.com]\n  http:\n  - {match: [{uri: {regex: 'a.*'}}], delegate: {name: b, namespace: c}}\n",
		RULE("{delegate: {name: b, namespace: ''}, directResponse: {status: 200}, fault: {abort: {httpStatus: 500}}}"),
		RULE("{delegate: {name: b}, mirror: {host: a.com}, mirrors: [{destination: {host: b.com}}]}"),
		SERVICE "  http: [{match: [{sourceNamespace: test}]" ROUTE "]\n",
		/* CORS */
		RULE("{corsPolicy: {allowOrigins: [{exact: a}, {prefix: b}, {regex: 'c.*'}], allowMethods: [GET], allowHeaders: ['*'], maxAge: 720h}" ROUTE),
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
		{MATCH("{headers: {'': {exact: a}}}"), "spec.http[0].match[0].headers"},
		{MATCH("{headers: {'::': {exact: a}}}"), "spec.http[0].match[0].headers"},
		{MATCH("{headers: {'illegal\"char': {exact: a}}}"), "spec.http[0].match[0].headers"},
		{MATCH("{withoutHeaders: {'a b': {exact: a}}}"), "spec.http[0].match[0].withoutHeaders"},
		{MATCH("{headers: {x: {regex: '*'}}}"), "spec.http[0].match[0].headers.x.regex"},
		{MATCH("{uri: {regex: ''}}"), "spec.http[0].match[0].uri"},
		{MATCH("{method: {regex: ''}}"), "spec.http[0].match[0].method"},
		{MATCH("{uri: {suffix: .png}}"), "spec.http[0].match[0].uri"},
		{MATCH("{authority: {suffix: ''}}"), "spec.http[0].match[0].authority"},
		{MATCH("{headers: {x: {suffix: a, prefix: b}}}"), "spec.http[0].match[0].headers.x"},
		{RULE("{corsPolicy: {allowOrigins: [{suffix: ''}]}" ROUTE), "spec.http[0].corsPolicy.allowOrigins[0]"},
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
		{RULE("{redirect: {uri: /x, redirectCode: '0'}}"), "spec.http[0].redirect.redirectCode"},
		{RULE("{'no such field': 1" ROUTE), "spec.http[0]"},
		{RULE("{corsPolicy: {allowOrigins: [{}]}" ROUTE), "spec.http[0].corsPolicy.allowOrigins[0]"},
		{MATCH("{sourceLabels: {a.b/c: '-'}}"), "spec.http[0].match[0].sourceLabels"},
		{RULE("{timeout: 87601h" ROUTE), "spec.http[0].timeout"},
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
		{RULE("{headers: {response: {set: {':authority': a}}}" ROUTE), "spec.http[0].headers.response.set"},
		{RULE("{headers: {request: {set: {':path': a}}}" ROUTE), "spec.http[0].headers.request.set"},
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

/* ---- ServiceEntry, WorkloadEntry ---- */

#define NAME62 "http-aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"

Test(config_rules, service_entries_that_istio_accepts)
{
	static const char *const accepted[] = {
		ENTRY "  hosts: [example.com]\n  workloadSelector: {labels: {foo: bar}}\n  addresses: [1.2.3.4, '001:db8::']\n  exportTo: [foo, .]\n"
		      "  location: MESH_EXTERNAL\n  ports: [{name: foo, protocol: HTTP, number: 1234, targetPort: 2345}]\n  subjectAltNames: [sa]\n  resolution: DNS\n",
		ENTRY "  hosts: [example.com]\n  workloadSelector: {}\n",
		ENTRY "  hosts: ['*x']\n",
		ENTRY "  hosts: ['*-x.com', foo]\n" HTTP_PORT,
		ENTRY "  hosts: [example.com]\n  addresses: [1.1.1.1/32]\n",
		ENTRY "  hosts: [example.com]\n  resolution: STATIC\n  ports: [{name: " NAME62 ", number: 80}, {name: " NAME62 "a, number: 81, protocol: ''}]\n"
		      "  endpoints: [{address: 1.2.3.4, ports: {" NAME62 ": 80, " NAME62 "a: 80}}]\n",
		ENTRY "  hosts: [www.example.com]\n  addresses: []\n  ports: [{number: 443, protocol: HTTPS, name: https-example}]\n  endpoints: [{network: cluster-1}]\n  resolution: STATIC\n",
		ENTRY "  hosts: [www.example.com]\n" HTTP_PORT "  endpoints: [{address: 192.0.2.1, network: net, locality: a/b/c, weight: 0, serviceAccount: sa}]\n  resolution: STATIC\n",
		ENTRY "  hosts: ['*.google.com']\n" HTTP_PORT "  endpoints: [{address: 1.1.1.1, ports: {http: 8080}}, {address: in.google.com}]\n  resolution: DNS\n",
		ENTRY "  hosts: [google.com]\n" HTTP_PORT "  endpoints: []\n  resolution: DNS_ROUND_ROBIN\n",
		ENTRY "  hosts: [google.com]\n  ports: [{number: 80, protocol: http, name: a, targetPort: 80}, {number: 81, protocol: grpc-web, name: b, targetPort: 80}]\n  resolution: DNS\n",
		ENTRY "  hosts: [google.com]\n  ports: [{number: 15008, protocol: HBONE, name: hbone}]\n  addresses: [240.240.0.1]\n",
		ENTRY "  hosts: [google.com]\n" HTTP_PORT "  exportTo: ['~']\n",
		ENTRY "  hosts: [google.com]\n" HTTP_PORT "  exportTo: [ns1, ns2, ns5]\n",
		ENTRY "  hosts: [google.com]\n  addresses: null\n" HTTP_PORT "  endpoints: null\n  resolution: null\n",
		ENTRY "  hosts: [istio-pilot.istio-system.svc.cluster.local.]\n" HTTP_PORT,
		WORKLOAD "  address: 1.2.3.4\n  serviceAccount: sa\n  network: net\n  labels: {app: app}\n  ports: {http: 1}\n  weight: 2\n  locality: foo/bar/baz\n",
		WORKLOAD "  network: net\n",
		WORKLOAD "  address: example.com\n  ports: {'7777': 7777}\n",
	};

	accept_all(accepted, ARRAY_SIZE(accepted));
}

Test(config_rules, service_entries_that_istio_rejects)
{
	static const struct wrong wrong[] = {
		{ENTRY "  hosts: ['-']\n" HTTP_PORT, "spec.hosts[0]"},
		{ENTRY "  hosts: [foo.com, '*']\n" HTTP_PORT, "spec.hosts[1]"},
		{ENTRY "  hosts: [a.com]\n  workloadSelector: {labels: {'': bar}}\n", "spec.workloadSelector.labels"},
		{ENTRY "  hosts: [a.com]\n  workloadSelector: {labels: {val: '*'}}\n", "spec.workloadSelector.labels.val"},
		{ENTRY "  hosts: [a.com]\n  workloadSelector: {labels: {a: b}}\n  endpoints: []\n  resolution: STATIC\n", "spec.workloadSelector"},
		{ENTRY "  hosts: [a.com]\n  workloadSelector: {}\n  endpoints: [{address: 1.2.3.4}]\n  resolution: STATIC\n", "spec.workloadSelector"},
		{ENTRY "  hosts: [a.com]\n  ports: [{name: a, number: 1, targetPort: 99999}]\n", "spec.ports[0].targetPort"},
		{ENTRY "  hosts: [a.com]\n  ports: [{name: a, number: 1, targetPort: 0}]\n", "spec.ports[0].targetPort"},
		{ENTRY "  hosts: [a.com]\n  ports: [{name: a, number: -1}]\n", "spec.ports[0].number"},
		{ENTRY "  hosts: [a.com]\n  addresses: [1.1.1.1/48]\n", "spec.addresses[0]"},
		{ENTRY "  hosts: [a.com]\n  addresses: ['2001:1::1/132']\n", "spec.addresses[0]"},
		{ENTRY "  hosts: [a.com]\n" HTTP_PORT "  resolution: STATIC\n  endpoints: [{address: ''}]\n", "spec.endpoints[0].address"},
		{ENTRY "  hosts: [a.com]\n" HTTP_PORT "  resolution: DNS\n  endpoints: [{network: eu}]\n", "spec.endpoints[0].address"},
		{ENTRY "  hosts: [a.com]\n" HTTP_PORT "  resolution: DNS\n  endpoints: [{address: '*.lon.google.com'}]\n", "spec.endpoints[0].address"},
		{ENTRY "  hosts: [a.com]\n" HTTP_PORT "  resolution: STATIC\n  endpoints: [{address: 1.1.1.1, ports: {http: 65536}}]\n", "spec.endpoints[0].ports.http"},
		{ENTRY "  hosts: [a.com]\n" HTTP_PORT "  resolution: STATIC\n  endpoints: [{address: 'unix://./relative/path.sock'}]\n", "spec.endpoints[0].address"},
		{ENTRY "  hosts: [a.com]\n" HTTP_PORT "  exportTo: ['~', ns1]\n", "spec.exportTo[0]"},
		{"apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: a, annotations: {istio.io/dry-run: 'true'}}\nspec:\n  hosts: [a.com]\n", "metadata.annotations"},
		{WORKLOAD "  weight: 1\n", "spec.address"},
		{WORKLOAD "  address: invaliddns.com:9443\n", "spec.address"},
		{WORKLOAD "  address: 1.1.1.1\n  ports: {http: 99999}\n", "spec.ports.http"},
		{WORKLOAD "  address: 1.1.1.1\n  ports: {'@': 80}\n", "spec.ports"},
		{WORKLOAD "  address: 1.1.1.1\n  ports: {" NAME62 "ab: 80}\n", "spec.ports." NAME62 "ab"},
	};

	expect_all(wrong, ARRAY_SIZE(wrong), SEVERITY_ERROR);
}

Test(config_rules, endpoint_without_address_is_left_out)
{
	struct config *config = parse(ENTRY "  hosts: [a.com]\n" HTTP_PORT "  resolution: STATIC\n  endpoints: [{network: net}, {address: 192.0.2.1, network: net}]\n");

	cr_assert_eq(config->error_count, 0);
	cr_assert_eq(config->service_entries[0]->endpoint_count, 1);
	cr_expect_str_eq(config->service_entries[0]->endpoints[0].address, "192.0.2.1");
	config_free(config);
}

/* ---- Sidecar ---- */

#define EGRESS "  egress: [{hosts: ['*/*']}]\n"
#define INGRESS(text) SIDECAR "  ingress: [{port: {protocol: http, number: 90, name: foo}, " text "}]\n"
#define TLS(text) SIDECAR "  ingress: [{port: {protocol: HTTPS, number: 90, name: foo}, tls: {" text "}}]\n"

Test(config_rules, sidecars_that_istio_accepts)
{
	static const char *const accepted[] = {
		SIDECAR "  egress: [{hosts: ['~/*']}]\n",
		SIDECAR "  egress: [{hosts: ['./foo.com', '~ns/*', '*/*']}]\n",
		SIDECAR "  egress: [{port: {protocol: http, number: 8080}, hosts: [ns1/bar.com]}]\n",
		SIDECAR "  egress: [{port: {protocol: http, number: 0, name: uds}, bind: 'unix:///@foo/bar/com', hosts: [ns1/bar.com]}]\n",
		SIDECAR "  egress: [{port: {protocol: http, number: 0, name: uds}, bind: 'unix://@foo', captureMode: NONE, hosts: [ns1/bar.com]}]\n",
		SIDECAR "  outboundTrafficPolicy: {mode: ALLOW_ANY}\n",
		SIDECAR "  workloadSelector: {}\n" EGRESS,
		SIDECAR "  egress: [{port: {number: 80, targetPort: 0}, hosts: [a/b.c]}]\n",
		SIDECAR "  outboundTrafficPolicy: {mode: ALLOW_ANY, egressProxy: {host: foo.bar, subset: '', port: {number: 80}}}\n",
		SIDECAR "  inboundConnectionPool: {http: {http2KeepAlive: {interval: 5s, timeout: 1s}}}\n",
		SIDECAR "  inboundConnectionPool: {http: {http1MaxPendingRequests: 1024, http2MaxRequests: 1024, maxRequestsPerConnection: 1024, maxRetries: 1024}}\n",
		SIDECAR "  inboundConnectionPool: {tcp: {maxConnections: 1, connectTimeout: 1s, idleTimeout: 0s, tcpKeepalive: {probes: 1, time: 1s, interval: 1s}}}\n",
		INGRESS("defaultEndpoint: ':80'"), INGRESS("defaultEndpoint: 'unix:///x'"), INGRESS("defaultEndpoint: '[::]:1'"), INGRESS("defaultEndpoint: ''"),
		TLS("mode: SIMPLE, serverCertificate: a, privateKey: b, minProtocolVersion: TLSV1_2, cipherSuites: [x]"),
		TLS("mode: SIMPLE, serverCertificate: a, privateKey: b, ecdhCurves: [x], alpnProtocols: [h2], insecureSkipVerify: true"),
		TLS("mode: MUTUAL, serverCertificate: a, privateKey: b, caCertificates: c"),
	};

	accept_all(accepted, ARRAY_SIZE(accepted));
}

Test(config_rules, sidecars_that_istio_rejects)
{
	static const struct wrong wrong[] = {
		{SIDECAR "  egress: [{hosts: ['*']}]\n", "spec.egress[0].hosts[0]"},
		{SIDECAR "  egress: [{hosts: ['/']}]\n", "spec.egress[0].hosts[0]"},
		{SIDECAR "  egress: [{hosts: [/a.com]}]\n", "spec.egress[0].hosts[0]"},
		{SIDECAR "  egress: []\n", "spec"},
		{SIDECAR "  ingress: []\n", "spec"},
		{SIDECAR "  egress: [{hosts: ['test/*a.com']}]\n", "spec.egress[0].hosts[0]"},
		{SIDECAR "  egress: [{port: {protocol: http, number: 0}, bind: 'foobar:///@foo', hosts: [ns1/bar.com]}]\n", "spec.egress[0]"},
		{SIDECAR "  egress: [{port: {protocol: http, number: 0}, bind: 'unix://rel', hosts: [ns1/bar.com]}]\n", "spec.egress[0]"},
		{SIDECAR "  egress: [{port: {number: 0}, bind: 'unix:///x', hosts: [a/b.c]}, {port: {number: 0}, bind: 'unix:///x', hosts: [a/b.c]}]\n", "spec.egress[1]"},
		{SIDECAR "  egress: [{port: {number: 80, targetPort: 81}, hosts: [a/b.c]}]\n", "spec.egress[0].port.targetPort"},
		{SIDECAR "  ingress: [{defaultEndpoint: '127.0.0.1:110'}]\n" EGRESS, "spec.ingress[0].port"},
		{INGRESS("defaultEndpoint: '127.0.0.1:hi'"), "spec.ingress[0].defaultEndpoint"},
		{INGRESS("defaultEndpoint: '[1:1:1:1:1:1:1:1]:90'"), "spec.ingress[0].defaultEndpoint"},
		{INGRESS("defaultEndpoint: 'unix:///'"), "spec.ingress[0].defaultEndpoint"},
		{SIDECAR "  outboundTrafficPolicy: {egressProxy: {host: foo.bar, subset: shiny, port: {number: 5000}}}\n" EGRESS, "spec.outboundTrafficPolicy.egressProxy"},
		{SIDECAR "  outboundTrafficPolicy: {mode: ALLOW_ANY, egressProxy: {host: 'foobar*123', port: {number: 5000}}}\n" EGRESS, "spec.outboundTrafficPolicy.egressProxy.host"},
		{SIDECAR "  outboundTrafficPolicy: {mode: ALLOW_ANY, egressProxy: {host: foo.bar}}\n" EGRESS, "spec.outboundTrafficPolicy.egressProxy.port"},
		{TLS("mode: ISTIO_MUTUAL"), "spec.ingress[0].tls.mode"},
		{TLS("mode: SIMPLE"), "spec.ingress[0].tls"},
		{TLS("mode: MUTUAL, serverCertificate: a, privateKey: b"), "spec.ingress[0].tls"},
		{TLS("mode: SIMPLE, serverCertificate: a, privateKey: b, subjectAltNames: [httpbin.com]"), "spec.ingress[0].tls.subjectAltNames"},
		{TLS("mode: SIMPLE, serverCertificate: a, privateKey: b, tlsCertificates: [{}]"), "spec.ingress[0].tls.tlsCertificates"},
		{TLS("mode: SIMPLE, serverCertificate: a, privateKey: b, nonsense: c"), "spec.ingress[0].tls.nonsense"},
		{SIDECAR "  inboundConnectionPool: {}\n", "spec.inboundConnectionPool"},
		{SIDECAR "  inboundConnectionPool: {http: {maxRetries: -1}}\n", "spec.inboundConnectionPool.http.maxRetries"},
		{SIDECAR "  inboundConnectionPool: {http: {h2UpgradePolicy: UPGRADE, useClientProtocol: true}}\n", "spec.inboundConnectionPool.http"},
		{SIDECAR "  inboundConnectionPool: {tcp: {connectTimeout: 2.000000005s}}\n", "spec.inboundConnectionPool.tcp.connectTimeout"},
		{SIDECAR "  inboundConnectionPool: {udp: {}}\n", "spec.inboundConnectionPool.udp"},
	};

	expect_all(wrong, ARRAY_SIZE(wrong), SEVERITY_ERROR);
}

/* ---- warnings ---- */

#define TCP(name, host, addresses, more) "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: " name "}\nspec:\n  hosts: [" host "]\n" \
	"  addresses: [" addresses "]\n  ports: [{number: 5432, name: tcp, protocol: TCP}" more "]\n---\n"

Test(config_rules, what_is_likely_not_meant_is_warned_of)
{
	static const struct wrong wrong[] = {
		{ENTRY "  hosts: [a.com, '*.com']\n" HTTP_PORT, "spec.hosts[1]"},
		{ENTRY "  hosts: ['*.co.uk']\n" HTTP_PORT, "spec.hosts[0]"},
		{ENTRY "  hosts: ['*foo.com']\n" HTTP_PORT, "spec.hosts[0]"},
		{TCP("a", "a.com", "192.0.2.1", "") TCP("b", "b.com", "192.0.2.1", ""), "spec.ports[0]"},
		{TCP("a", "a.com", "192.0.2.0/24", "") TCP("b", "b.com", "192.0.2.0/24", ", {number: 1, name: b, protocol: TCP}"), "spec.ports[0]"},
		{ENTRY "  hosts: [a.com, b.com]\n  addresses: [192.0.2.1]\n  ports: [{number: 443, name: tls, protocol: TLS}]\n  resolution: DNS\n", "spec.addresses"},
		{SERVICE "  hosts: [foo.bar]\n  gateways: [gateway.example.com]\n  http: [{route: [{destination: {host: a.com}}]}]\n", "spec.gateways[0]"},
		{RULE("{fault: {delay: {fixedDelay: 1s, percentage: {value: 0}}}" ROUTE), "spec.http[0].fault.delay"},
		{RULE("{fault: {abort: {percentage: {value: 1}}}" ROUTE), "spec.http[0].fault.abort"},
		{MATCH("{uri: {prefix: /api/v1/product}}, {uri: {prefix: /api/v1/products}, method: {exact: GET}}"), "spec.http[0].match[1]"},
		{MATCH("{headers: {A: {}}}, {headers: {a: {exact: b}, c: {}}, queryParams: {q: {}}}"), "spec.http[0].match[1]"},
		{MATCH("{headers: {a: {suffix: b}}}, {headers: {a: {exact: ab}}}"), "spec.http[0].match[1]"},
		{MATCH("{headers: {a: {suffix: b}}}, {headers: {a: {suffix: ab}}}"), "spec.http[0].match[1]"},
		{MATCH("{uri: {exact: /a}}, {uri: {exact: /a}, method: {exact: GET}}"), "spec.http[0].match[1]"},
		{MATCH("{port: 81}"), "spec.http[0].match[0].port"},
		{OBJECT("DestinationRule") "  host: a.com\n  workloadSelector: {matchLabels: {}}\n", "spec.workloadSelector"},
		{MATCH("{gateways: [edge]}"), "spec.http[0].match[0].gateways"},
		{RULE("{route: [{destination: {host: a.com}}]}\n  - {route: [{destination: {host: a.com}}]}"), "spec.http[1]"},
		{SERVICE "  hosts: [a.com]\n  tcp: [{route: [{destination: {host: a.com}}]}, {match: [{port: 1}], route: [{destination: {host: a.com}}]}]\n", "spec.tcp[1]"},
		{SERVICE "  hosts: ['*.a.com']\n  tls: [{match: [{sniHosts: [b.a.com, '*.a.com']}, {sniHosts: [b.a.com], port: 443}], route: [{destination: {host: a.com}}]}]\n",
		 "spec.tls[0].match[1]"},
		{SIDECAR "  egress: [{hosts: ['*/*', test/a.com]}]\n", "spec.egress[0].hosts"},
		{SIDECAR "  egress: [{hosts: [test/*, test/a.com]}]\n", "spec.egress[0].hosts[1]"},
		{SIDECAR "  egress: [{hosts: ['./*', ns5/a.com]}]\n", "spec.egress[0].hosts[1]"},
		{SIDECAR "  ingress: [{port: {number: 90, protocol: tcp}, connectionPool: {http: {maxRetries: 1}}}]\n", "spec.ingress[0]"},
	};

	expect_all(wrong, ARRAY_SIZE(wrong), SEVERITY_WARNING);
}

Test(config_rules, what_may_well_be_meant_is_not)
{
	static const char *const quiet[][2] = {
		{ENTRY "  hosts: ['*.example.com', '*.svc.cluster.local']\n" HTTP_PORT, "spec.hosts[0]"},
		{TCP("a", "a.com", "192.0.2.0/24", "") TCP("b", "b.com", "192.0.2.1", ""), "spec.ports[0]"},
		{TCP("a", "a.com", "192.0.2.1", "") TCP("b", "a.com", "192.0.2.1", ""), "spec.ports[0]"},
		{MATCH("{uri: {prefix: /a}, headers: {x: {}}}, {uri: {prefix: /a/b}}"), "spec.http[0].match[1]"},
		{MATCH("{uri: {prefix: /a}, ignoreUriCase: true}, {uri: {exact: /b}}"), "spec.http[0].match[1]"},
		{MATCH("{queryParams: {q: {}}}, {queryParams: {Q: {exact: a}}}"), "spec.http[0].match[1]"},
		{MATCH("{withoutHeaders: {x: {exact: a}}}, {withoutHeaders: {x: {exact: b}}}"), "spec.http[0].match[1]"},
		{MATCH("{headers: {a: {suffix: ab}}}, {headers: {a: {suffix: b}}}"), "spec.http[0].match[1]"},
		{MATCH("{headers: {a: {suffix: ab}}}, {headers: {a: {prefix: ab}}}"), "spec.http[0].match[1]"},
		{MATCH("{gateways: [edge]}, {uri: {prefix: /a}}"), "spec.http[0].match[1]"},
		{SERVICE "  hosts: ['*.a.com']\n  tls: [{match: [{sniHosts: ['*.a.com']}, {sniHosts: [b.a.com]}], route: [{destination: {host: a.com}}]}]\n",
		 "spec.tls[0].match[1]"},
		{SERVICE "  hosts: [a.com]\n  tcp: [{match: [{destinationSubnets: [10.0.0.0/8]}, {destinationSubnets: [10.1.0.0/16]}], route: [{destination: {host: a.com}}]}]\n",
		 "spec.tcp[0].match[1]"},
		{MATCH("{uri: {exact: /a}}, {uri: {exact: /b}}"), "spec.http[0].match[1]"},
		{MATCH("{uri: {regex: /a}}, {uri: {exact: /a}}"), "spec.http[0].match[1]"},
		{OBJECT("DestinationRule") "  host: a.com\n  workloadSelector: {matchLabels: {app: web}}\n", "spec.workloadSelector"},
		{RULE("{match: [{uri: {prefix: /}}], delegate: {name: b}}\n  - {match: [{uri: {prefix: /a}}]" ROUTE), "spec.http[1].match[0]"},
		{SIDECAR "  egress: [{hosts: ['*/b.com', test/a.com]}]\n", "spec.egress[0].hosts"},
	};

	for (size_t i = 0; i < ARRAY_SIZE(quiet); i++) {
		struct config *config = parse(quiet[i][0]);

		cr_expect(!has(config, SEVERITY_WARNING, quiet[i][1]), "case %zu: no warning of %s is wanted:\n%s", i, quiet[i][1], quiet[i][0]);
		cr_expect_eq(config->error_count, 0, "case %zu", i);
		config_free(config);
	}
}

/* ---- documents ---- */

Test(config_rules, what_is_not_read_is_no_document)
{
	struct config *config = parse("apiVersion: apps/v1\nkind: Deployment\n---\n# nothing\n---\n" ENTRY "  hosts: [a.com]\n" HTTP_PORT "---\napiVersion: v1\nkind: Service\n");

	cr_expect_eq(config->error_count, 0);
	cr_expect_eq(config->document_count, 1);
	config_free(config);
	config = parse("apiVersion: apps/v1\nkind: Deployment\n");
	cr_expect_eq(config->document_count, 0, "a folder of nothing else holds no policy");
	config_free(config);
}

Test(config_rules, documents_that_kubectl_and_people_write_are_read)
{
	static const char *const accepted[] = {
		"# only a comment\n---\n---\n" ENTRY "  hosts: [a.com]\n" HTTP_PORT "...\n",
		"%YAML 1.1\n---\n" ENTRY "  hosts: [a.com]\n" HTTP_PORT,
		"apiVersion: v1\nkind: List\nmetadata: {resourceVersion: ''}\nitems:\n- apiVersion: networking.istio.io/v1beta1\n  kind: ServiceEntry\n  metadata: {name: a}\n  spec: {hosts: [a.com]}\n",
		"apiVersion: networking.istio.io/v1alpha3\nkind: ServiceEntry\nmetadata: {name: a, creationTimestamp: null, labels: null, annotations: {a/b: 'c'}, managedFields: []}\n"
		"spec: {hosts: [a.com]}\nstatus: {validationMessages: [], conditions: [], observedGeneration: '1'}\n",
		"{\"apiVersion\": \"networking.istio.io/v1\", \"kind\": \"ServiceEntry\", \"metadata\": {\"name\": \"a\"}, \"spec\": {\"hosts\": [\"a.com\"]}}\n",
		"\xef\xbb\xbf" ENTRY "  hosts: [a.com]\n",
		"apiVersion: networking.istio.io/v1\r\nkind: ServiceEntry\r\nmetadata:\r\n  name: a\r\nspec:\r\n  hosts:\r\n  - a.com\r\n",
	};

	accept_all(accepted, ARRAY_SIZE(accepted));
}
