// SPDX-License-Identifier: Apache-2.0
/* `sluice explain --config`: what it answers, and which line it names. */
#include <criterion/criterion.h>
#include <getopt.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/memory.h"
#include "command/command.h"

static const char policies[] =
	"apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: web}\n"
	"spec: {hosts: [web.com], resolution: DNS, ports: [{number: 80, name: h, protocol: HTTP}, {number: 443, name: s, protocol: HTTPS},\n"
	"  {number: 8443, name: t, protocol: TLS}, {number: 9000, name: d, protocol: TCP}]}\n---\n"               /* :1 */
	"apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: static}\n"
	"spec: {hosts: [one.com, two.com], resolution: STATIC, endpoints: [{address: 192.0.2.1}],\n"
	"  ports: [{number: 81, name: h, protocol: HTTP}]}\n---\n"                                                /* :7 */
	"apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: net}\n"
	"spec: {hosts: [net.com], addresses: [172.16.0.0/12], ports: [{number: 9002, name: d, protocol: TCP}]}\n---\n" /* :13 */
	"apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: wild}\n"
	"spec: {hosts: ['*.wild.com'], ports: [{number: 443, name: s, protocol: HTTPS}]}\n---\n"                   /* :18 */
	"apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: slow}\nspec:\n  hosts: [web.com]\n  http:\n"
	"  - fault: {delay: {fixedDelay: 5s, percent: 100}}\n    route: [{destination: {host: web.com}}]\n---\n"    /* :23, rule :29 */
	"apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: lost}\n"
	"spec: {hosts: [lost.com], http: [{route: [{destination: {host: nowhere.com}}]}]}\n---\n"                  /* :32, rule :35 */
	"apiVersion: sluice.dev/v1\nkind: EgressPolicy\nmetadata: {name: default, namespace: istio-system}\nspec:\n"
	"  outboundTrafficPolicy: {mode: REGISTRY_ONLY}\n---\n"                                                    /* mode :41 */
	"apiVersion: sluice.dev/v1\nkind: EgressPolicy\nmetadata: {name: shop, namespace: shop}\nspec:\n  hostCheck: off\n"
	"  interception:\n    excludeCIDRs:\n    - 10.0.0.0/8\n    excludePorts: [99]\n---\n"                      /* CIDR :50 */
	"apiVersion: sluice.dev/v1\nkind: EgressPolicy\nmetadata: {name: lab, namespace: lab}\nspec: {enforcement: audit}\n---\n"
	"apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: db1}\n"
	"spec: {hosts: [db1.com], addresses: [192.0.2.1], ports: [{number: 9001, name: d, protocol: TCP}]}\n---\n" /* :58 */
	"apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: db2}\n"
	"spec: {hosts: [db2.com], addresses: [192.0.2.1], ports: [{number: 9001, name: d, protocol: TCP}]}\n---\n"
	"apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: split3}\n"
	"spec: {hosts: [split.com], addresses: [192.0.2.3], ports: [{number: 9003, name: d, protocol: TCP}]}\n---\n"
	"apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: split4}\n"
	"spec: {hosts: [split.com], addresses: [192.0.2.4], ports: [{number: 9004, name: d, protocol: TCP}, {number: 8444, name: t, protocol: TLS}]}\n";

/* Runs the command on a file of these documents; what it printed, to be freed. `arguments`: up to a NULL. */
static char *explain_of(const char *documents, const char *const *arguments, int *status)
{
	char file[] = "/tmp/sluice-explain-XXXXXX";
	char *argv[16] = {"explain", "--config", file};
	FILE *saved = stdout;
	char *text;
	size_t n;
	int fd = mkstemp(file), argc = 3;

	cr_assert(fd >= 0 && write(fd, documents, strlen(documents)) == (ssize_t)strlen(documents) && !close(fd));
	for (; *arguments; arguments++)
		argv[argc++] = (char *)*arguments;
	stdout = open_memstream(&text, &n);
	optind = 0;
	*status = command_explain(argc, argv);
	fclose(stdout);
	stdout = saved;
	unlink(file);
	return text;
}

static char *explain(const char *namespace_, const char *question, const char *output, int *status)
{
	const char *arguments[] = {"--namespace", namespace_, "-o", output, question, NULL};

	return explain_of(policies, arguments, status);
}

/* Each of `says`, up to a NULL, is part of the answer, in this order. */
static void expect_parts(const char *text, const char *const *says, size_t count, const char *question)
{
	const char *at = text;

	for (size_t k = 0; k < count && says[k]; k++) {
		const char *found = strstr(at, says[k]);

		cr_expect_not_null(found, "%s: no \"%s\" in\n%s", question, says[k], text);
		at = found ? found : at;
	}
}

static const struct {
	const char *namespace_, *question;
	int status;
	const char *says[4]; /* parts of the answer, in this order */
} cases[] = {
	{"", "web.com", 0, {"kernel      redirect, service: ", ":1 ServiceEntry/web", "route       http[0] (", "delay     5000 ms for 100 % ("}},
	{"", "WEB.com.", 0, {"web.com port 80/tcp, address not known offline: judged by name", "name-allowed", ":1 ServiceEntry/web"}},
	{"", "https://web.com", 0, {"redirect, service-tls", "allow, name-allowed", "TLS server name"}},
	{"", "web.com:8443", 0, {"redirect, service-tls", "allow, name-allowed", "TLS server name"}},
	{"", "http://web.com:443/", 1, {"redirect, service-tls", "deny, name-missing", "HTTP on a port that is not for it"}},
	{"", "web.com:9000", 0, {"kernel      allow, service: ", ":1 ServiceEntry/web"}},
	{"", "web.com:9999", 1, {"deny, not-registered: ", ":41 EgressPolicy/default"}},
	{"", "unknown.com:9000", 1, {"deny, not-registered: ", ":41 EgressPolicy/default"}},
	{"", "unknown.com", 1, {"redirect, name", "deny, name-unregistered: ", ":41 EgressPolicy/default"}},
	{"", "[2001:db8::1]:443", 1, {"redirect, name", "deny, name-missing", "TLS without a server name"}},
	{"", "https://a.wild.com", 0, {"redirect, name", "allow, name-allowed: ", ":18 ServiceEntry/wild", "*.wild.com"}},
	{"", "https://wild.com", 1, {"deny, name-unregistered"}},
	{"", "db1.com:9001", 0, {"at 192.0.2.1,", "allow, service: ", ":58 ServiceEntry/db1"}},
	{"", "db2.com:9001", 0, {"at 192.0.2.1,", "allow, service: "}}, /* they share it */
	{"", "two.com:81", 0, {"at 192.0.2.1,", "redirect, service", "name-allowed", "service     two.com: "}},
	{"", "split.com:9003", 0, {"at 192.0.2.3,", "allow, service: ", "ServiceEntry/split3"}},
	{"", "split.com:9004", 0, {"at 192.0.2.4,", "allow, service: ", "ServiceEntry/split4"}},
	{"", "192.0.2.4:8444", 1, {"redirect, service-tls", "deny, name-missing", "TLS without a server name"}},
	{"", "net.com:9002", 0, {"at 172.16.0.0/12,", "allow, service: ", ":13 ServiceEntry/net"}},
	{"", "lost.com", 0, {"name-allowed: ", ":32 VirtualService/lost", ":35 VirtualService/lost)", "to        nowhere.com, which is not registered: 503"}},
	{"", "udp://192.0.2.7:443", 1, {"443/udp", "deny, not-registered"}},
	{"", "127.0.0.1:9", 0, {"bypass, loopback: loopback is never intercepted"}},
	{"shop", "https://web.com", 0, {"for namespace shop", "allow, service: ", ":1 ServiceEntry/web", "hostCheck off"}},
	{"shop", "10.1.2.3:9", 0, {"bypass, excluded-cidr: ", ":50 EgressPolicy/shop excludeCIDRs has 10.0.0.0/8"}},
	{"shop", "192.0.2.7:99", 0, {"bypass, excluded-port: ", ":51 EgressPolicy/shop excludePorts has 99"}},
	{"shop", "192.0.2.7:98", 1, {"deny, not-registered: ", ":41 EgressPolicy/default"}},
	{"lab", "192.0.2.7:98", 0, {"passthrough, not-registered", "audit: would be deny", "enforcement audit"}},
};

Test(explain, names_the_verdict_and_the_line_that_decides)
{
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		int status;
		char *text = explain(cases[i].namespace_, cases[i].question, "text", &status);

		cr_expect_eq(status, cases[i].status, "%s: status %d, of\n%s", cases[i].question, status, text);
		expect_parts(text, cases[i].says, ARRAY_SIZE(cases[i].says), cases[i].question);
		free(text);
	}
}

Test(explain, tells_programs_the_same)
{
	int status;
	char *text = explain("shop", "web.com:9000", "json", &status);

	cr_expect_eq(status, 0);
	cr_expect(strstr(text, "\"allowed\":true") && strstr(text, "\"hostCheck\":\"off\"") && strstr(text, "\"service\":\"web.com\"") &&
		  strstr(text, "\"protocol\":\"tcp\"") && strstr(text, ":1 ServiceEntry/web") && strstr(text, "\"addresses\":["), "%s", text);
	free(text);
}

/* ---- what the rules do, and what else was there ---- */

#define ENTRY(name, namespace_, spec) \
	"---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: " name ", namespace: " namespace_ "}\nspec: {" spec "}\n"
#define ROUTES(name, spec) \
	"---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: " name ", namespace: shop}\nspec: {" spec "}\n"
#define RULE(name, spec) \
	"---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: " name ", namespace: shop}\nspec: {" spec "}\n"
#define SIDECAR(name, spec) \
	"---\napiVersion: networking.istio.io/v1\nkind: Sidecar\nmetadata: {name: " name ", namespace: shop}\nspec: {" spec "}\n"
#define POLICY(name, namespace_, spec) \
	"---\napiVersion: sluice.dev/v1\nkind: EgressPolicy\nmetadata: {name: " name ", namespace: " namespace_ "}\nspec: {" spec "}\n"
#define ONLY POLICY("default", "istio-system", "outboundTrafficPolicy: {mode: REGISTRY_ONLY}, interception: {excludePorts: [25]}")
#define TLS_TO(name) ENTRY(name, "shop", "hosts: [" name ".com], resolution: DNS, ports: [{number: 443, name: t, protocol: TLS}]")
#define HTTP "ports: [{number: 80, name: http, protocol: HTTP}]"
#define TO_A "route: [{destination: {host: a.com}}]"
#define A ONLY ENTRY("a", "shop", "hosts: [a.com], resolution: DNS, " HTTP)

static const struct {
	const char *documents;
	const char *arguments[8];
	int status;
	const char *says[8];
} stories[] = {
	/* Rules of one VirtualService. */
	{A ROUTES("r", "hosts: [a.com], http: [{name: slow, match: [{uri: {prefix: /b}}, {name: x, headers: {x: {exact: z}}}], timeout: 3s, "
		  "retries: {attempts: 2, perTryTimeout: 1s, retryOn: '5xx,gateway-error'}, rewrite: {uri: /c}, "
		  "fault: {abort: {httpStatus: 418, percentage: {value: 5}}}, " TO_A "}, {match: [{sourceNamespace: bank}], " TO_A "}, {" TO_A "}]"),
	 {"--namespace", "shop", "-H", "x: z", "http://a.com/", NULL}, 0,
	 {"route       http[0] slow (", "match     match[1] x (", "abort     418 for 5 % (", "rewrite   /c", "timeout   3000 ms (",
	  "retries   2 on 5xx,gateway-error, each within 1000 ms (",
	  "http[1]: it is for others", "http[2]: it takes the request, too, but comes later"}},
	{A ROUTES("r", "hosts: [a.com], http: [{match: [{uri: {exact: /b}}], " TO_A "}]"), {"--namespace", "shop", "http://a.com/", NULL}, 0,
	 {"route       no rule of VirtualService/r takes it: 404 (", "http[0]: it does not match the request"}},
	{A ROUTES("r", "hosts: [a.com], http: [{match: [{port: 81}], " TO_A "}]"), {"--namespace", "shop", "http://a.com/", NULL}, 0,
	 {"to the service itself: no rule of VirtualService/r is for this workload and port (", "retries   2 on connect-failure,refused-stream,unavailable,cancelled (Istio's default)"}},
	{A ROUTES("r", "hosts: [a.com], http: [{redirect: {scheme: https, authority: b.com, redirectCode: 308}}]"), {"a.com", NULL}, 0,
	 {"redirect  308 to https://b.com, the same path ("}},
	{A ROUTES("r", "hosts: [a.com], http: [{directResponse: {status: 201, body: {string: four}}, headers: {response: {add: {x: z}}}}]"),
	 {"a.com", NULL}, 0, {"answer    201, 4 bytes (", "response  gets x: z ("}},
	{A ENTRY("b", "shop", "hosts: [b.com], resolution: STATIC, endpoints: [{address: 192.0.2.1, weight: 3}], " HTTP)
	   ROUTES("r", "hosts: [a.com], http: [{mirrors: [{destination: {host: b.com}, percentage: {value: 10}}], route: [{destination: {host: a.com}, weight: 1}, "
		  "{destination: {host: b.com}, weight: 3}], corsPolicy: {allowOrigins: [{exact: 'https://o.com'}]}}]"),
	 {"-H", "Origin: https://o.com", "a.com", NULL}, 0,
	 {"cors      tells the origin", "mirror    b.com port 80, 10 %", "to        a.com port 80 (1 of 4) (", "at      a.com:80, resolved by DNS when running",
	  "to        b.com port 80 (3 of 4) (", "at      192.0.2.1:80, weight 3"}},
	{A ROUTES("r", "hosts: [a.com], http: [{retries: {attempts: 3}, " TO_A "}]"), {"a.com", NULL}, 0,
	 {"retries   3 on connect-failure,refused-stream,unavailable,cancelled ("}},
	/* An empty name is none. */
	{A ROUTES("r", "hosts: [a.com], http: [{name: x, match: [{name: m}], delegate: {name: d}}]")
	   ROUTES("d", "http: [{name: '', match: [{name: ''}], rewrite: {uri: '', authority: b.com}, " TO_A "}]"), {"--namespace", "shop", "http://a.com/", NULL}, 0,
	 {"route       http[0] x (", "match     match[0] m (", "rewrite   Host: b.com"}},
	/* Connections. */
	{ONLY ENTRY("t", "shop", "hosts: [t.com], resolution: DNS, ports: [{number: 443, name: t, protocol: TLS}]")
	   ROUTES("r", "hosts: [t.com], http: [{" TO_A "}], tls: [{match: [{sniHosts: [t.com], destinationSubnets: [10.0.0.0/8]}], route: [{destination: {host: t.com}}]}, "
		  "{match: [{sniHosts: [t.com], port: 444}, {sniHosts: [t.com]}], route: [{destination: {host: gone.com}}]}]"),
	 {"https://t.com", NULL}, 0,
	 {"route       tls[1] (", "match     match[1] (", "to        gone.com, which is not registered: the connection ends", "tls[0]: its destinationSubnets hold an address",
	  "http: http rules do nothing on a TLS port"}},
	{ONLY ENTRY("t", "shop", "hosts: [t.com], resolution: DNS, ports: [{number: 443, name: t, protocol: TLS}]")
	   ROUTES("r", "hosts: [t.com], tls: [{match: [{sniHosts: [t.com], destinationSubnets: [10.0.0.0/8]}], route: [{destination: {host: t.com}}]}]"),
	 {"--address", "10.1.2.3", "https://t.com", NULL}, 0, {"at 10.1.2.3,", "route       tls[0] ("}},
	{ONLY ENTRY("d", "shop", "hosts: [d.com], addresses: [192.0.2.9], resolution: STATIC, endpoints: [{address: 192.0.2.10}], ports: [{number: 5432, name: d, protocol: TCP}]")
	   ROUTES("r", "hosts: [d.com], tcp: [{match: [{port: 5432}], route: [{destination: {host: d.com}}]}, {route: [{destination: {host: d.com}}]}]"),
	 {"d.com:5432", NULL}, 0, {"shown       nothing: a TCP service", "addresses   192.0.2.9", "route       tcp[0] (", "at      192.0.2.10:5432",
				   "tcp[1]: it takes the connection, too, but comes later"}},
	{ONLY TLS_TO("one") TLS_TO("two") ENTRY("w", "shop", "hosts: ['*.w.com'], ports: [{number: 443, name: t, protocol: TLS}]")
	   ROUTES("r", "hosts: ['*.w.com'], tls: [{match: [{sniHosts: ['*.w.com']}], route: [{destination: {host: one.com}}]}, "
		  "{match: [{sniHosts: [a.w.com]}, {sniHosts: ['*.w.com'], destinationSubnets: [10.0.0.0/8]}], route: [{destination: {host: two.com}}]}]"),
	 {"https://a.w.com", NULL}, 0, {"route       tls[1] (", "match     match[0] (", "to        two.com", "tls[0]: it takes the connection, too, but says less of"}},
	{ONLY TLS_TO("one") TLS_TO("two") ENTRY("w", "shop", "hosts: ['*.w.com'], ports: [{number: 443, name: t, protocol: TLS}]")
	   ROUTES("r", "hosts: ['*.w.com'], tls: [{match: [{sniHosts: [a.w.com]}], route: [{destination: {host: one.com}}]}, "
		  "{match: [{sniHosts: ['*.w.com'], destinationSubnets: [10.0.0.0/8]}], route: [{destination: {host: two.com}}]}]"),
	 {"--address", "10.1.2.3", "https://a.w.com", NULL}, 0, {"route       tls[1] (", "tls[0]: it takes the connection, too, but says less of"}},
	/* An address is no server's name. */
	{ONLY TLS_TO("one") TLS_TO("two")
	   ROUTES("r", "hosts: [one.com], tls: [{match: [{sniHosts: [192.0.2.9]}], route: [{destination: {host: two.com}}]}]"),
	 {"https://one.com", NULL}, 0, {"to the service itself: no tls rule of VirtualService/r takes it", "to        one.com port 443"}},
	/* Of a wildcard also the rules of VirtualServices below it. */
	{ONLY TLS_TO("one") TLS_TO("two") ENTRY("w", "shop", "hosts: ['*.w.com'], ports: [{number: 443, name: t, protocol: TLS}]")
	   ROUTES("r", "hosts: ['*.w.com'], tls: [{match: [{sniHosts: ['*.w.com']}], route: [{destination: {host: one.com}}]}]")
	   ROUTES("below", "hosts: [b.w.com, a.w.com], tls: [{match: [{sniHosts: [b.w.com]}], route: [{destination: {host: one.com}}]}, "
		  "{match: [{sniHosts: [a.w.com]}], route: [{destination: {host: two.com}}]}]"),
	 {"https://a.w.com", NULL}, 0, {"route       tls[1] (", "VirtualService/below)", "to        two.com", "VirtualService/r, tls[0]: it takes the connection, too"}},
	{ONLY ENTRY("d", "shop", "hosts: [d.com], addresses: [192.0.2.0/24], ports: [{number: 5432, name: d, protocol: TCP}]")
	   ROUTES("r", "hosts: [d.com], tcp: [{match: [{destinationSubnets: [192.0.2.0/25]}], route: [{destination: {host: d.com}}]}, "
		  "{match: [{destinationSubnets: [192.0.2.9/32]}], route: [{destination: {host: d.com}}]}, {route: [{destination: {host: d.com}}]}, "
		  "{match: [{destinationSubnets: [192.0.2.9/32]}], route: [{destination: {host: gone.com}}]}]"),
	 {"--address", "192.0.2.9", "d.com:5432", NULL}, 0, {"route       tcp[1] (", "tcp[0]: it takes the connection, too, but says less of",
							    "tcp[3]: it takes the connection, too, but comes later"}},
	/* DestinationRules. */
	{A RULE("near", "host: a.com, trafficPolicy: {loadBalancer: {simple: RANDOM}, connectionPool: {tcp: {connectTimeout: 2s}}, tls: {mode: SIMPLE}}, "
		"subsets: [{name: v1, labels: {v: '1'}}]")
	   RULE("far", "host: '*.com', trafficPolicy: {loadBalancer: {simple: ROUND_ROBIN}}") RULE("late", "host: a.com, trafficPolicy: {loadBalancer: {simple: ROUND_ROBIN}}"),
	 {"--namespace", "shop", "a.com", NULL}, 0,
	 {"tls     SIMPLE, server name of the request", "connect within 2000 ms (", "DestinationRule/near)", "balance RANDOM (", "DestinationRule/far, *.com: a.com of DestinationRule/near is more specific",
	  "DestinationRule/late, a.com: DestinationRule/near of the same host is older"}},
	/* Who registers and routes it besides. */
	{A ENTRY("wild", "shop", "hosts: ['*.com'], " HTTP) ENTRY("late", "shop", "hosts: [a.com], resolution: DNS, " HTTP)
	   ENTRY("own", "bank", "hosts: [a.com], resolution: DNS, exportTo: ['.'], " HTTP)
	   ROUTES("r", "hosts: [a.com], http: [{" TO_A "}]") ROUTES("r2", "hosts: [a.com], http: [{" TO_A "}]") ROUTES("all", "hosts: ['*.com'], http: [{" TO_A "}]"),
	 {"--namespace", "shop", "a.com", NULL}, 0,
	 {"service     a.com: ", "ServiceEntry/wild, *.com: a.com is more specific", "ServiceEntry/late, a.com: ServiceEntry/a (", "registers it, which is older",
	  "ServiceEntry/own, a.com: it is not exported to namespace shop", "VirtualService/r2, a.com: VirtualService/r (", "and is older",
	  "VirtualService/all, *.com: a.com of VirtualService/r is more specific"}},
	{A ENTRY("own", "bank", "hosts: [a.com], resolution: DNS, " HTTP), {"--namespace", "bank", "a.com", NULL}, 0,
	 {"ServiceEntry/own", "ServiceEntry/a, a.com: ServiceEntry/own (", "registers it, which is in the workloads' own namespace or older"}},
	{ONLY ENTRY("d", "shop", "hosts: [d.com], resolution: DNS, ports: [{number: 9000, name: any}]"), {"tcp://d.com:9000", NULL}, 0,
	 {"shown       neither HTTP nor TLS", "service     d.com: ", "route       to the service itself (", "ServiceEntry/d)\n  to        d.com port 9000 ("}},
	{ONLY ENTRY("d", "shop", "hosts: [d.com], addresses: [192.0.2.9], ports: [{number: 9000, name: any}]"), {"--address", "192.0.2.8", "https://d.com:9000", NULL}, 1,
	 {"deny, name-unregistered", "ServiceEntry/d, d.com: it is HTTP on port 9000: known by its address, which is another"}},
	/* What names nobody's name, where a TCP service is, too, goes to that. */
	{ONLY ENTRY("d", "shop", "hosts: [d.com], addresses: [192.0.2.9], resolution: STATIC, endpoints: [{address: 192.0.2.10}], ports: [{number: 443, name: d, protocol: TCP}]")
	   ENTRY("t", "shop", "hosts: [t.com], addresses: [192.0.2.9], ports: [{number: 443, name: t, protocol: TLS}]"), {"--address", "192.0.2.9", "https://e.com", NULL}, 0,
	 {"passthrough, service", "service     d.com: ", "route       to the service itself (", "at      192.0.2.10:443"}},
	{ONLY ENTRY("d", "shop", "hosts: [d.com], resolution: DNS, ports: [{number: 9000, name: any}]"), {"http://e.com:9000", NULL}, 1,
	 {"deny, name-unregistered", "shown       an HTTP Host", "=> denied"}},
	{A, {"a.com:9999", NULL}, 1, {"deny, not-registered", "ServiceEntry/a, a.com: it is not on port 9999, but on 80"}},
	{ONLY ENTRY("d", "shop", "hosts: [d.com], addresses: [192.0.2.9], ports: [{number: 5432, name: d, protocol: TCP}]"),
	 {"192.0.2.9:5433", NULL}, 1, {"deny, not-registered", "ServiceEntry/d, d.com: it is not on port 5433, but on 5432"}},
	{ONLY ENTRY("t", "shop", "hosts: [t.com], addresses: [192.0.2.9], ports: [{number: 443, name: t, protocol: TLS}]"), {"https://192.0.2.9", NULL}, 1,
	 {"deny, name-missing", "ServiceEntry/t, t.com: it is TLS on port 443: known by a name, and the client shows none"}},
	{ONLY ENTRY("t", "shop", "hosts: [t.com], addresses: [192.0.2.9], ports: [{number: 444, name: t, protocol: TCP}]"), {"--address", "192.0.2.10", "t.com:444", NULL}, 1,
	 {"deny, not-registered", "ServiceEntry/t, t.com: it is TCP on port 444: known by its address, which is another"}},
	{ONLY ENTRY("t", "shop", "hosts: [t.com], addresses: [192.0.2.0/24], ports: [{number: 444, name: t, protocol: TCP}]")
	   ENTRY("u", "shop", "hosts: [u.com], addresses: [192.0.2.9], ports: [{number: 444, name: t, protocol: TCP}]"), {"192.0.2.9:444", NULL}, 0,
	 {"service     u.com", "ServiceEntry/t, t.com: u.com has the address in a longer prefix, or is older"}},
	{ONLY ENTRY("t", "shop", "hosts: [t.com], resolution: DNS, ports: [{number: 443, name: t, protocol: TLS}]"), {"http://t.com:443", NULL}, 1,
	 {"deny, name-missing", "ServiceEntry/t, t.com: it is TLS on port 443: known by a name, and the client shows none"}},
	{ONLY ENTRY("t", "shop", "hosts: [t.com], resolution: DNS, ports: [{number: 443, name: t, protocol: TLS}]")
	   ENTRY("h", "shop", "hosts: [h.com], resolution: DNS, ports: [{number: 443, name: h, protocol: HTTP}]"), {"http://t.com:443", NULL}, 1,
	 {"deny, name-unregistered", "ServiceEntry/t, t.com: it is TLS on port 443, and not what the client speaks"}},
	{A SIDECAR("some", "egress: [{hosts: ['./b.com']}]"), {"--namespace", "shop", "a.com", NULL}, 1,
	 {"deny, name-unregistered", "ServiceEntry/a, a.com: Sidecar/some (", "does not import it"}},
	/* Who says what of the workload. */
	{ONLY POLICY("shop", "shop", "outboundTrafficPolicy: {mode: ALLOW_ANY}, enforcement: audit")
	   SIDECAR("own", "workloadSelector: {labels: {app: web}}, outboundTrafficPolicy: {mode: REGISTRY_ONLY}") SIDECAR("whole", "egress: [{hosts: ['*/*']}]"),
	 {"--namespace", "shop", "--label", "app=web", "192.0.2.1:9", NULL}, 0,
	 {"audit: would be deny", "Sidecar/whole, all of it: Sidecar/own (", "EgressPolicy/default, mode: EgressPolicy/shop is more specific",
	  "EgressPolicy/shop, mode: Sidecar/own is more specific", "rules       REGISTRY_ONLY", "Sidecar/own\n", "enforcement: ", "EgressPolicy/shop"}},
	/* Annotations of a workload: behind EgressPolicies, before the mesh. */
	{"---\napiVersion: sluice.dev/v1\nkind: Workload\nmetadata: {name: w, namespace: shop, annotations: {traffic.sidecar.istio.io/excludeOutboundIPRanges: 192.0.2.0/24,\n"
	 "  traffic.sidecar.istio.io/excludeOutboundPorts: '26'}}\nspec: {cgroup: /w}\n" ONLY,
	 {"--namespace", "shop", "--workload", "w", "192.0.2.1:26", NULL}, 0, {"for shop/w", "bypass, excluded-cidr: ", ":4 Workload/w excludeCIDRs has 192.0.2.0/24",
	 "Workload/w, excludePorts: EgressPolicy/default is more specific"}},
};

Test(explain, names_the_actions_of_the_rule_and_what_lost)
{
	for (size_t i = 0; i < ARRAY_SIZE(stories); i++) {
		const char *question = "";
		int status;
		char *text = explain_of(stories[i].documents, stories[i].arguments, &status);

		for (size_t k = 0; stories[i].arguments[k]; k++)
			question = stories[i].arguments[k];
		cr_expect_eq(status, stories[i].status, "%s: status %d, of\n%s", question, status, text);
		expect_parts(text, stories[i].says, ARRAY_SIZE(stories[i].says), question);
		free(text);
	}
}

Test(explain, tells_programs_of_each_action_below_its_rule)
{
	static const char *const arguments[] = {"-o", "json", "http://a.com/", NULL};
	int status;
	char *text = explain_of(A ENTRY("wild", "shop", "hosts: ['*.com'], " HTTP) ROUTES("r", "hosts: [a.com], http: [{timeout: 3s, " TO_A "}]"), arguments, &status);
	static const char *const says[] = {"\"route\":[", "\"what\":\"route\"", "\"notes\":[", "\"what\":\"timeout\"", "\"text\":\"3000 ms\"", "\"lost\":[",
					   "\"text\":\"a.com is more specific\"", "\"by\":\""};

	cr_expect_eq(status, 0);
	expect_parts(text, says, ARRAY_SIZE(says), "http://a.com/");
	free(text);
}

Test(explain, a_question_it_does_not_understand_is_usage)
{
	static const char *const wrong[][4] = {
		{"--label", "app", "web.com", NULL}, {"--address", "web.com", "web.com", NULL}, {"--workload", "nobody", "web.com", NULL},
		{"-H", "no field", "web.com", NULL}, {"-X", "G T", "web.com", NULL},
	};
	int status;
	FILE *saved = stderr;

	stderr = fopen("/dev/null", "w");
	free(explain("", "web.com:http", "text", &status));
	cr_expect_eq(status, 2);
	free(explain("", "web.com", "yaml", &status));
	cr_expect_eq(status, 2);
	for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
		free(explain_of(policies, wrong[i], &status));
		cr_expect_eq(status, 2, "%s %s", wrong[i][0], wrong[i][1]);
	}
	fclose(stderr);
	stderr = saved;
}
