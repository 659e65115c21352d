// SPDX-License-Identifier: Apache-2.0
#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "base/memory.h"
#include "observe/admin.h"

static struct admin *admin;
static struct sockaddr_in where = {.sin_family = AF_INET};
static bool is_ready = true;

static void print_metrics(void *context, FILE *out)
{
	metrics_family(out, "answer_total", "counter", "The answer.");
	metrics_sample(out, "answer_total", *(double *)context, LABELS_END);
}

static bool tell_ready(void *context, char *why, size_t room)
{
	(void)context;
	snprintf(why, room, is_ready ? "enforcing" : "no hooks");
	return is_ready;
}

static double answer = 42;
static const struct admin_callbacks callbacks = {print_metrics, tell_ready, &answer};

/* A port that was free a moment ago. */
static void choose_port(void)
{
	socklen_t size = sizeof(where);
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	where.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	where.sin_port = 0;
	cr_assert_eq(bind(fd, (struct sockaddr *)&where, sizeof(where)), 0);
	cr_assert_eq(getsockname(fd, (struct sockaddr *)&where, &size), 0);
	close(fd);
}

static int start_at(struct admin **out, const char *format)
{
	char address[64];
	int fd;

	snprintf(address, sizeof(address), format, ntohs(where.sin_port));
	fd = admin_listen(address, 0);
	return fd < 0 ? fd : admin_start(out, fd, &callbacks);
}

static void setup(void)
{
	signal(SIGPIPE, SIG_IGN);
	choose_port();
	cr_assert_eq(start_at(&admin, "127.0.0.1:%u"), 0);
}

static void teardown(void)
{
	admin_stop(admin);
}

static int dial(void)
{
	struct timeval limit = {.tv_sec = 5};
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	cr_assert_eq(connect(fd, (struct sockaddr *)&where, sizeof(where)), 0);
	return fd;
}

/* The whole response. */
static const char *get(const char *request_line)
{
	static char text[8192];
	char request[256];
	size_t used = 0;
	ssize_t n;
	int fd = dial();

	snprintf(request, sizeof(request), "%s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", request_line);
	cr_assert_eq(write(fd, request, strlen(request)), (ssize_t)strlen(request));
	while ((n = read(fd, text + used, sizeof(text) - 1 - used)) > 0)
		used += (size_t)n;
	cr_assert_eq(n, 0, "the response ends with a close");
	text[used] = 0;
	close(fd);
	return text;
}

static bool has_status(const char *response, int status)
{
	char line[32];

	snprintf(line, sizeof(line), "HTTP/1.1 %d ", status);
	return !strncmp(response, line, strlen(line));
}

static const char *body(const char *response)
{
	const char *end = strstr(response, "\r\n\r\n");

	return end ? end + 4 : "(no end of headers)";
}

TestSuite(admin, .init = setup, .fini = teardown, .timeout = 20);

Test(admin, metrics_are_prometheus_text)
{
	const char *response = get("GET /metrics");

	cr_assert(has_status(response, 200));
	cr_assert(strstr(response, "Content-Type: text/plain; version=0.0.4"));
	cr_assert_str_eq(body(response), "# HELP answer_total The answer.\n# TYPE answer_total counter\nanswer_total 42\n");
}

Test(admin, head_has_no_body)
{
	const char *response = get("HEAD /metrics");

	cr_assert(has_status(response, 200));
	cr_assert_str_eq(body(response), "");
}

Test(admin, readyz_says_why)
{
	const char *response = get("GET /readyz");

	cr_assert(has_status(response, 200));
	cr_assert_str_eq(body(response), "enforcing\n");
	is_ready = false;
	response = get("GET /readyz");
	cr_assert(has_status(response, 503));
	cr_assert_str_eq(body(response), "no hooks\n");
}

Test(admin, healthz_does_not_depend_on_readiness)
{
	is_ready = false;
	cr_assert(has_status(get("GET /healthz"), 200));
}

Test(admin, index_lists_the_pages)
{
	cr_assert_not_null(strstr(body(get("GET /")), "/metrics"));
}

Test(admin, other_paths_are_not_found)
{
	cr_assert(has_status(get("GET /metrics/../etc/passwd"), 404));
}

Test(admin, other_methods_are_refused)
{
	cr_assert(has_status(get("POST /metrics"), 405));
	cr_assert(has_status(get("DELETE /"), 405));
}

Test(admin, silent_clients_beyond_the_bound_do_not_stay_for_ever)
{
	int held[20];

	for (size_t i = 0; i < ARRAY_SIZE(held); i++)
		held[i] = dial();
	for (size_t i = 0; i < ARRAY_SIZE(held); i++)
		close(held[i]);
	usleep(100000);
	cr_assert(has_status(get("GET /healthz"), 200));
}

Test(admin, address_in_use_is_an_error)
{
	struct admin *second = NULL;

	cr_assert_eq(start_at(&second, "127.0.0.1:%u"), -EADDRINUSE);
	cr_assert_null(second);
}

static void *end_soon(void *fd)
{
	usleep(100 * 1000);
	close(*(int *)fd);
	return NULL;
}

Test(admin, who_is_about_to_end_is_waited_for)
{
	char address[64];
	pthread_t thread;
	int first, second;

	choose_port();
	snprintf(address, sizeof(address), "127.0.0.1:%u", ntohs(where.sin_port));
	first = admin_listen(address, 0);
	cr_assert_geq(first, 0);
	cr_assert_eq(pthread_create(&thread, NULL, end_soon, &first), 0);
	second = admin_listen(address, 5000);
	cr_assert_geq(second, 0);
	pthread_join(thread, NULL);
	close(second);
}

Test(admin, bad_addresses_are_errors)
{
	static const char *const bad[] = {"", "15020", "127.0.0.1", "127.0.0.1:", ":15020", "localhost:15020", "127.0.0.1:x",
					  "127.0.0.1:70000", "[::1:15020", "::1]:15020", "[127.0.0.1]:15020", "::1:15020",
					  "127.0.0.1:0"};

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		cr_expect_eq(admin_listen(bad[i], 0), -EINVAL, "%s", bad[i]);
}

Test(admin, v6_address_in_brackets)
{
	struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_port = where.sin_port, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
	struct admin *second = NULL;
	int fd, error;

	error = start_at(&second, "[::1]:%u");
	if (error == -EADDRNOTAVAIL || error == -EAFNOSUPPORT)
		cr_skip_test("no IPv6 loopback");
	cr_assert_eq(error, 0);
	fd = socket(AF_INET6, SOCK_STREAM, 0);
	cr_assert_eq(connect(fd, (struct sockaddr *)&v6, sizeof(v6)), 0);
	close(fd);
	admin_stop(second);
}

/* ---- the text format ---- */

Test(metrics, labels_are_escaped)
{
	char *text = NULL;
	size_t length;
	FILE *out = open_memstream(&text, &length);

	metrics_sample(out, "x", 1.5, "a", "plain", "b", "q\"b\\n\nu\xff", LABELS_END);
	fclose(out);
	cr_assert_str_eq(text, "x{a=\"plain\",b=\"q\\\"b\\\\n\\nu?\"} 1.5\n");
	free(text);
}

Test(metrics, counters_are_whole_numbers)
{
	char *text = NULL;
	size_t length;
	FILE *out = open_memstream(&text, &length);

	metrics_sample(out, "bytes_total", (double)(1ULL << 53), LABELS_END);
	fclose(out);
	cr_assert_str_eq(text, "bytes_total 9007199254740992\n");
	free(text);
}
