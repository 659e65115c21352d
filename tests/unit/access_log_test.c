// SPDX-License-Identifier: Apache-2.0
/* The access log, line by line: what a request or connection leaves in it, whoever tries to spoil it. */
#include "redirect_rig.h"

#include <json-c/json.h>
#include <regex.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "base/memory.h"

static uint16_t port;
static int server = -1, log_end = -1;

#define GET "GET / HTTP/1.1\r\nHost: a.example\r\n\r\n"
#define SERVICES                                                                                                        \
	ENTRY_OF("a", "hosts: [a.example], addresses: [203.0.113.1], resolution: STATIC, "                             \
		      "ports: [{number: 80, name: p, protocol: HTTP, targetPort: %u}], endpoints: [{address: 127.0.0.1}]") \
	ENTRY_OF("t", "hosts: [t.example], addresses: [203.0.113.2], resolution: STATIC, "                             \
		      "ports: [{number: 5432, name: p, protocol: TCP, targetPort: %u}], endpoints: [{address: 127.0.0.1}]")
#define RULES                                                                                                          \
	ROUTE_OF("a", "hosts: [a.example], http: ["                                                                    \
		      "{name: aborted, match: [{uri: {prefix: /abort}}], fault: {abort: {httpStatus: 418, percentage: {value: 100}}}, route: [{destination: {host: a.example}}]}, " \
		      "{name: patient, match: [{uri: {prefix: /slow}}], timeout: 100ms, route: [{destination: {host: a.example}}]}, " \
		      "{name: direct, match: [{uri: {prefix: /direct}}], directResponse: {status: 200, body: {string: hello}}}, " \
		      "{name: rewritten, match: [{uri: {prefix: /old}}], rewrite: {uri: /new}, route: [{destination: {host: a.example}}]}, " \
		      "{name: plain, match: [{uri: {exact: /}}], route: [{destination: {host: a.example}}]}]")
#define LOGGED(settings)                                                                                               \
	"---\napiVersion: install.istio.io/v1alpha1\nkind: IstioOperator\nmetadata: {name: mesh}\n"                    \
	"spec: {meshConfig: {accessLogFile: /dev/stdout" settings "}}\n"

/* The worker's log is a pipe, as a container's standard output is. */
static void apply_logged(const char *settings)
{
	char documents[8192];
	int ends[2];
	size_t n = (size_t)snprintf(documents, sizeof(documents), REGISTRY_ONLY SERVICES RULES, port, port);

	snprintf(documents + n, sizeof(documents) - n, "%s", settings);
	cr_assert_eq(pipe2(ends, O_NONBLOCK | O_CLOEXEC), 0);
	if (log_end >= 0)
		close(log_end);
	log_end = ends[0];
	if (rig.worker)
		apply(documents);
	else
		rig_start(documents);
	table_take_log(rig.table, ends[1]);
	turn();
}

static void start(void)
{
	server = serve_on(&port, "127.0.0.1");
	apply_logged(LOGGED(""));
}

static const char *logged(void)
{
	static char text[65536];
	ssize_t n = read(log_end, text, sizeof(text) - 1);

	text[n > 0 ? n : 0] = 0;
	return text;
}

static void expect_line(const char *pattern)
{
	const char *line = logged();
	char whole[2048];
	regex_t regex;

	snprintf(whole, sizeof(whole), "^%s\n$", pattern);
	cr_assert_eq(regcomp(&regex, whole, REG_EXTENDED | REG_NOSUB), 0, "%s", pattern);
	cr_expect_eq(regexec(&regex, line, 0, NULL, 0), 0, "wanted: %s\ncame:   %s", pattern, line);
	regfree(&regex);
}

static int dial_to(const char *address, uint16_t to)
{
	struct flow_record record = record_to(address, to);

	return dial_as(&record);
}

static int dial(void)
{
	return dial_to("203.0.113.1", 80);
}

static int ask(int client, const char *request)
{
	int upstream;

	say(client, request);
	turn();
	upstream = accept_upstream(server);
	cr_assert_geq(upstream, 0, "no upstream connection");
	turn();
	return upstream;
}

static void answer_with(int upstream, const char *response)
{
	say(upstream, response);
	turn();
}

#define TIME "\\[[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\\.[0-9]{3}Z\\]"
#define UUID "[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"
#define LOCAL "127\\.0\\.0\\.1:[0-9]+"

TestSuite(access_log, .init = start, .timeout = 20);

Test(access_log, istios_default_line_for_what_passes)
{
	int client = dial();

	answer_with(ask(client, "POST / HTTP/1.1\r\nHost: a.example\r\nUser-Agent: curl/8\r\nContent-Length: 3\r\n\r\nabc"),
		    "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi");
	expect_line(TIME " \"POST / HTTP/1\\.1\" 200 - via_upstream - \"-\" 3 2 [0-9]+ [0-9]+ \"-\" \"curl/8\" \"" UUID "\" \"a\\.example\" "
			 "\"" LOCAL "\" outbound\\|80\\|\\|a\\.example " LOCAL " 203\\.0\\.113\\.1:80 " LOCAL " - plain");
	say(client, GET);
	turn();
	cr_expect_str_eq(logged(), "", "no line before the end of the answer");
}

Test(access_log, istios_default_line_for_what_is_blocked)
{
	int client = dial_to("203.0.113.9", 80);

	say(client, "GET /x HTTP/1.1\r\nHost: foo.com\r\nx-request-id: mine\r\n\r\n");
	turn();
	expect_line(TIME " \"GET /x HTTP/1\\.1\" 502 - direct_response - \"-\" 0 [0-9]+ 0 - \"-\" \"-\" \"mine\" \"foo\\.com\" \"-\" - - "
			 "203\\.0\\.113\\.9:80 " LOCAL " - block_all");
}

Test(access_log, a_blocked_connection_has_the_black_hole_for_a_cluster)
{
	int client = dial_to("203.0.113.9", 443);

	say(client, "SSH-2.0-x\r\n");
	turn();
	expect_line(TIME " \"- - -\" 0 UH - - \"-\" 0 0 [0-9]+ - \"-\" \"-\" \"-\" \"-\" \"-\" BlackHoleCluster - 203\\.0\\.113\\.9:443 " LOCAL " - -");
}

static int dial_relay(void)
{
	struct flow_record record = record_to("203.0.113.2", 5432);

	record.service_flags = SERVICE_TCP;
	while (strcmp(policy_service(rig.table->policy, ++record.service)->host, "t.example"))
		;
	return dial_as(&record);
}

Test(access_log, a_relay_has_its_line_when_it_ends)
{
	int client = dial_relay(), upstream = ask(client, "hello");

	say(upstream, "welcome!");
	turn();
	cr_expect_str_eq(logged(), "");
	close(upstream);
	usleep(2000);
	turn();
	close(client);
	usleep(2000);
	turn();
	expect_line(TIME " \"- - -\" 0 - - - \"-\" 5 8 [0-9]+ - \"-\" \"-\" \"-\" \"-\" \"" LOCAL "\" outbound\\|5432\\|\\|t\\.example " LOCAL
			 " 203\\.0\\.113\\.2:5432 " LOCAL " - -");
}

/* Format, then for each request what the line is: flags and details as Envoy has them. */
#define OUTCOME LOGGED(", accessLogFormat: '%%RESPONSE_CODE%% %%RESPONSE_FLAGS%% %%RESPONSE_CODE_DETAILS%% %%ROUTE_NAME%% %%UPSTREAM_CLUSTER%% %%BYTES_SENT%%'")

static void apply_outcome(void)
{
	char settings[512];

	snprintf(settings, sizeof(settings), OUTCOME "%s", "");
	apply_logged(settings);
}

static void request_line(const char *path, const char *line)
{
	char request[256];
	int client = dial();

	snprintf(request, sizeof(request), "GET %s HTTP/1.1\r\nHost: a.example\r\n\r\n", path);
	say(client, request);
	turn();
	expect_line(line);
}

Test(access_log, a_relay_beyond_the_limit_is_not_the_clients_doing)
{
	int first, second;
	struct heard heard;

	apply_logged(LOGGED("") "---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: t}\n"
		     "spec: {host: t.example, trafficPolicy: {connectionPool: {tcp: {maxConnections: 1}}}}\n");
	first = dial_relay();
	ask(first, "hello");
	second = dial_relay();
	turn();
	heard = hear(second);
	cr_expect_eq(heard.error, ECONNRESET);
	expect_line(TIME " \"- - -\" 0 UO - - .*");
}

/* What its line says is of the policy that it began under, which other ones have replaced since. */
Test(access_log, a_relay_that_outlives_its_policy_has_its_line)
{
	int client = dial_relay(), upstream = ask(client, "hello");

	for (int i = 0; i < 4; i++)
		apply_logged(LOGGED(""));
	cr_expect_eq(rig.worker->conns->table, rig.table, "those are gone");
	close(upstream);
	close(client);
	usleep(2000);
	turn();
	cr_expect(strstr(logged(), " outbound|5432||t.example "));
}

Test(access_log, an_upgraded_request_that_outlives_its_policy_has_its_line)
{
	int client = dial(), upstream = ask(client, "GET / HTTP/1.1\r\nHost: a.example\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n");

	answer_with(upstream, "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n");
	for (int i = 0; i < 4; i++)
		apply_logged(LOGGED(""));
	cr_expect_eq(rig.worker->conns->table, rig.table, "those are gone");
	close(upstream);
	close(client);
	usleep(2000);
	turn();
	expect_line(TIME " \"GET / HTTP/1.1\" 101 .* outbound\\|80\\|\\|a\\.example .* plain");
}

Test(access_log, our_own_answers_say_why)
{
	apply_outcome();
	request_line("/abort", "418 FI fault_filter_abort aborted outbound\\|80\\|\\|a\\.example 18");
	request_line("/direct", "200 - direct_response direct - 5");
	request_line("/nowhere", "404 NR route_not_found - - 0");
}

Test(access_log, what_cannot_be_read_says_so)
{
	int client = dial();

	apply_outcome();
	answer_with(ask(client, GET), "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi");
	expect_line("200 - via_upstream plain outbound\\|80\\|\\|a\\.example 2");
	say(client, "GET / HTTP/1.1\r\nHost: a.example\r\nno field\r\n\r\n");
	turn();
	expect_line("400 DPE http1\\.codec_error - - [0-9]+");
}

Test(access_log, timeouts_say_so)
{
	int client = dial();

	apply_outcome();
	ask(client, "GET /slow HTTP/1.1\r\nHost: a.example\r\n\r\n");
	turn_for(150);
	expect_line("504 UT response_timeout patient outbound\\|80\\|\\|a\\.example 24");
}

Test(access_log, a_server_that_refuses_says_how_often)
{
	int client;

	apply_logged(LOGGED(", accessLogFormat: '%RESPONSE_CODE% %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% %UPSTREAM_TRANSPORT_FAILURE_REASON% %UPSTREAM_HOST% %UPSTREAM_LOCAL_ADDRESS% %UPSTREAM_REQUEST_ATTEMPT_COUNT%'"));
	close(server);
	client = dial();
	say(client, GET);
	turn_for(200);
	expect_line("503 UF,URX upstream_reset_before_response_started\\{remote_connection_failure\\|delayed_connect_error:_Connection_refused\\} "
		    "delayed_connect_error:_Connection_refused " LOCAL " - 3");
}

Test(access_log, a_server_that_breaks_off_says_when)
{
	int client = dial(), upstream;

	apply_outcome();
	upstream = ask(client, GET);
	close(upstream);
	usleep(2000);
	turn();
	expect_line("503 UC upstream_reset_before_response_started\\{connection_termination\\} plain outbound\\|80\\|\\|a\\.example [0-9]+");
	upstream = ask(client, GET);
	answer_with(upstream, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhi");
	close(upstream);
	usleep(2000);
	turn();
	expect_line("200 UC upstream_reset_after_response_started\\{connection_termination\\} plain outbound\\|80\\|\\|a\\.example 2");
}

Test(access_log, a_client_that_leaves_says_so)
{
	int client = dial();

	apply_outcome();
	ask(client, GET);
	reset(client);
	usleep(2000);
	turn();
	expect_line("0 DC downstream_remote_disconnect plain outbound\\|80\\|\\|a\\.example 0");
}

Test(access_log, operators_and_their_arguments)
{
	int client = dial();

	apply_logged(LOGGED(", accessLogFormat: '100%% <%REQ(x-none?x-old:3)%> %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %REQ(:PATH)% %REQ_WITHOUT_QUERY(:PATH)% "
			    "%REQ(X-A):2% %RESP(X-B)% %RESP(X-C)% %START_TIME(%Y %3f %s)% %DOWNSTREAM_LOCAL_PORT% %DOWNSTREAM_TLS_VERSION% %REQ(X-A)%'"));
	answer_with(ask(client, "GET /old/x?q HTTP/1.1\r\nHost: a.example\r\nx-a: abc\r\nx-old: n\r\n\r\n"),
		    "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nx-b: b\r\n\r\n");
	expect_line("100% <-> /old/x\\?q /new/x\\?q /new/x ab b - 20[0-9]{2} [0-9]{3} [0-9]{10} 80 - abc");
}

#define HOSTILE "GET / HTTP/1.1\r\nHost: a.example\r\nx-a: a\"b\\c\xff\td\r\n\r\n"

Test(access_log, hostile_values_end_nothing_in_text)
{
	int client = dial();

	apply_logged(LOGGED(", accessLogFormat: \"\\\"%REQ(X-A)%\\\"\""));
	answer_with(ask(client, HOSTILE), "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
	expect_line("\"a\\\\x22b\\\\x5cc\\\\xff\\\\x09d\"");
}

static struct json_object *logged_json(void)
{
	const char *line = logged();
	struct json_object *object = json_tokener_parse(line);

	cr_assert_not_null(object, "not JSON: %s", line);
	cr_assert(*line && strchr(line, '\n') == line + strlen(line) - 1, "not one line: %s", line);
	return object;
}

static void expect_json(struct json_object *object, const char *key, const char *value)
{
	struct json_object *found = NULL;

	cr_assert(json_object_object_get_ex(object, key, &found), "no %s", key);
	cr_expect_str_eq(json_object_to_json_string_ext(found, JSON_C_TO_STRING_NOSLASHESCAPE), value, "%s", key);
}

Test(access_log, istios_default_object)
{
	int client = dial();
	struct json_object *object;

	apply_logged(LOGGED(", accessLogEncoding: JSON"));
	answer_with(ask(client, "GET / HTTP/1.1\r\nHost: a.example\r\nUser-Agent: a\"b\r\n\r\n"), "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi");
	object = logged_json();
	cr_expect_eq(json_object_object_length(object), 24);
	expect_json(object, "response_code", "200");
	expect_json(object, "bytes_sent", "2");
	expect_json(object, "user_agent", "\"a\\\"b\"");
	expect_json(object, "x_forwarded_for", "null");
	expect_json(object, "response_flags", "\"-\"");
	expect_json(object, "upstream_cluster", "\"outbound|80||a.example\"");
	expect_json(object, "path", "\"/\"");
	json_object_put(object);
}

Test(access_log, an_objects_own_fields)
{
	int client = dial();

	apply_logged(LOGGED(", accessLogEncoding: JSON, accessLogFormat: '{\"z\": \"%REQ(X-A)%\", \"a\": \"is \\\"%RESPONSE_CODE%\\\" 5%%\", \"m\": \"%REQ(none)%\", \"n\": \"%RESPONSE_CODE%\"}'"));
	answer_with(ask(client, HOSTILE), "HTTP/1.1 204 No\r\n\r\n");
	cr_expect_str_eq(logged(), "{\"a\":\"is \\\"204\\\" 5%\",\"m\":null,\"n\":204,\"z\":\"a\\\"b\\\\c\\u00ff\\u0009d\"}\n");
}

Test(access_log, long_values_leave_room_for_the_rest)
{
	static char request[60000];
	int client = dial();
	struct json_object *object;
	size_t n = (size_t)snprintf(request, sizeof(request), "GET /old/");

	memset(request + n, 'x', 9000);
	n += 9000;
	n += (size_t)snprintf(request + n, sizeof(request) - n, " HTTP/1.1\r\nHost: a.example\r\nUser-Agent: ");
	memset(request + n, '"', 9000);
	n += 9000;
	snprintf(request + n, sizeof(request) - n, "\r\nX-Forwarded-For: 1\r\n\r\n");
	apply_logged(LOGGED(", accessLogEncoding: JSON"));
	answer_with(ask(client, request), "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
	object = logged_json();
	expect_json(object, "upstream_cluster", "\"outbound|80||a.example\"");
	expect_json(object, "route_name", "\"rewritten\"");
	expect_json(object, "x_forwarded_for", "\"1\"");
	json_object_put(object);
}

Test(access_log, without_a_log_nothing_is_kept)
{
	int client = dial();

	apply_logged("");
	ask(client, GET);
	cr_assert_not_null(rig.worker->conns);
	cr_expect_null(rig.worker->conns->outcome.kept);
	cr_expect_not(rig.worker->conns->outcome.begun);
}

Test(access_log, another_format_does_not_mix_with_what_was_kept)
{
	int client = dial(), upstream = ask(client, GET);

	apply_logged(LOGGED(", accessLogFormat: '%REQ(HOST)% %REQ(:METHOD)% %RESPONSE_CODE%'"));
	answer_with(upstream, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
	expect_line("- - 200");
}

Test(access_log, a_log_that_takes_nothing_stops_nobody)
{
	int client = dial();
	struct heard heard;

	fcntl(log_end, F_SETPIPE_SZ, 4096);
	for (int i = 0; i < 100; i++) {
		say(client, "GET /direct HTTP/1.1\r\nHost: a.example\r\n\r\n");
		turn();
		heard = hear(client);
		expect_in(&heard, "\r\n\r\nhello");
	}
	cr_expect_gt(rig.worker->statistics.access_log_lost, 50);
	cr_expect_lt(rig.worker->statistics.access_log_lost, 100);
}

Test(access_log, a_socket_that_is_full_stops_nobody)
{
	int client = dial(), ends[2], small = 4096;

	cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
	setsockopt(ends[1], SOL_SOCKET, SO_SNDBUF, &small, sizeof(small));
	apply_logged(LOGGED(""));
	close(rig.table->log_fd);
	table_take_log(rig.table, ends[1]);
	for (int i = 0; i < 200; i++) {
		say(client, "GET /direct HTTP/1.1\r\nHost: a.example\r\n\r\n");
		turn();
		hear(client);
	}
	cr_expect_gt(rig.worker->statistics.access_log_lost, 50);
}

/* A disk that is full takes a part of a line: the next one must not go on where that ends. */
Test(access_log, a_line_that_is_torn_stays_the_only_one)
{
	char path[] = "/tmp/access-log-XXXXXX", text[8192] = "";
	int client = dial(), file = mkstemp(path);
	struct rlimit full = {100, RLIM_INFINITY}, free = {RLIM_INFINITY, RLIM_INFINITY};
	struct stat st;

	cr_assert_geq(file, 0);
	unlink(path);
	signal(SIGXFSZ, SIG_IGN);
	apply_logged(LOGGED(", accessLogFormat: 'begin %REQ(:PATH)% 0123456789012345678901234567890123456789 end'"));
	close(rig.table->log_fd);
	table_take_log(rig.table, fcntl(file, F_DUPFD_CLOEXEC, 0));
	for (int i = 0; i < 4; i++) {
		cr_assert_eq(setrlimit(RLIMIT_FSIZE, i < 3 ? &full : &free), 0);
		say(client, "GET /direct HTTP/1.1\r\nHost: a.example\r\n\r\n");
		turn();
		hear(client);
	}
	cr_assert(fstat(file, &st) == 0 && st.st_size > 100);
	cr_assert_gt(pread(file, text, sizeof(text) - 1, 0), 0);
	cr_expect(strstr(text, "end\nbegin ") && strstr(text, " end\n"), "%s", text);
	for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n"))
		cr_expect(!strncmp(line, "begin ", 6) && !strstr(line + 1, "begin "), "%s", line);
	cr_expect_eq(rig.worker->statistics.access_log_lost, 2);
}

Test(access_log, each_pipelined_request_has_its_own_line)
{
	int client = dial();

	apply_logged(LOGGED(", accessLogFormat: '%REQ(X-A)% %RESPONSE_CODE% %ROUTE_NAME%'"));
	say(client, "GET /direct HTTP/1.1\r\nHost: a.example\r\nx-a: 1\r\n\r\nGET /abort HTTP/1.1\r\nHost: a.example\r\n\r\n"
		    "GET /x HTTP/1.1\r\nHost: b.example\r\nx-a: 3\r\n\r\n");
	turn();
	expect_line("1 200 direct\n- 418 aborted\n3 502 block_all");
}
