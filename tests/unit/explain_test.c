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

/* Runs the command in `namespace_`; what it printed, to be freed. */
static char *explain(const char *namespace_, const char *question, const char *output, int *status)
{
	char file[] = "/tmp/sluice-explain-XXXXXX";
	char *argv[] = {"explain", "--config", file, "--namespace", (char *)namespace_, "-o", (char *)output, (char *)question, NULL};
	FILE *saved = stdout;
	char *text;
	size_t n;
	int fd = mkstemp(file);

	cr_assert(fd >= 0 && write(fd, policies, strlen(policies)) == (ssize_t)strlen(policies) && !close(fd));
	stdout = open_memstream(&text, &n);
	optind = 0;
	*status = command_explain(8, argv);
	fclose(stdout);
	stdout = saved;
	unlink(file);
	return text;
}

static const struct {
	const char *namespace_, *question;
	int status;
	const char *says[4]; /* parts of the answer, in this order */
} cases[] = {
	{"", "web.com", 0, {"kernel      redirect, service: ", ":1 ServiceEntry/web", "delay 5000 ms for 100 %", ":29 VirtualService/slow"}},
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
	{"", "lost.com", 0, {"name-allowed: ", ":32 VirtualService/lost", "to nowhere.com, which is not registered: 503", ":35 VirtualService/lost"}},
	{"", "udp://192.0.2.7:443", 1, {"443/udp", "deny, not-registered"}},
	{"", "127.0.0.1:9", 0, {"bypass, loopback: loopback is never intercepted"}},
	{"shop", "https://web.com", 0, {"for namespace shop", "allow, service: ", ":1 ServiceEntry/web", "hostCheck off"}},
	{"shop", "10.1.2.3:9", 0, {"bypass, excluded-cidr: ", ":50 excludeCIDRs has 10.0.0.0/8"}},
	{"shop", "192.0.2.7:99", 0, {"bypass, excluded-port: excludePorts has 99"}},
	{"shop", "192.0.2.7:98", 1, {"deny, not-registered: ", ":41 EgressPolicy/default"}},
	{"lab", "192.0.2.7:98", 0, {"passthrough, not-registered", "audit: would be deny", "enforcement audit"}},
};

Test(explain, names_the_verdict_and_the_line_that_decides)
{
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		int status;
		char *text = explain(cases[i].namespace_, cases[i].question, "text", &status);
		const char *at = text;

		cr_expect_eq(status, cases[i].status, "%s: status %d, of\n%s", cases[i].question, status, text);
		for (size_t k = 0; k < ARRAY_SIZE(cases[i].says) && cases[i].says[k]; k++) {
			const char *found = strstr(at, cases[i].says[k]);

			cr_expect_not_null(found, "%s: no \"%s\" in\n%s", cases[i].question, cases[i].says[k], text);
			at = found ? found : at;
		}
		free(text);
	}
}

Test(explain, tells_programs_the_same)
{
	int status;
	char *text = explain("shop", "web.com:9000", "json", &status);

	cr_expect_eq(status, 0);
	cr_expect(strstr(text, "\"allowed\":true") && strstr(text, "\"hostCheck\":\"off\"") && strstr(text, "\"service\":\"web.com\"") &&
		  strstr(text, "\"protocol\":\"tcp\"") && strstr(text, ":1 ServiceEntry/web"), "%s", text);
	free(text);
}

Test(explain, a_question_it_does_not_understand_is_usage)
{
	int status;
	FILE *saved = stderr;

	stderr = fopen("/dev/null", "w");
	free(explain("", "web.com:http", "text", &status));
	cr_expect_eq(status, 2);
	free(explain("", "web.com", "yaml", &status));
	cr_expect_eq(status, 2);
	fclose(stderr);
	stderr = saved;
}
