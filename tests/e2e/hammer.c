// SPDX-License-Identifier: Apache-2.0
/*
 * Threads that connect in a loop until SIGTERM or the time is over, and how often each outcome came:
 *
 *	hammer [-n THREADS] [-s SECONDS] [-w PAUSE-MS] tcp|echo|http ADDRESS PORT [HOST]
 *
 * Outcomes: ok, http-STATUS, end (closed without an answer), or the name of an errno. Ends with "max_ms=N".
 */
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "net.h"

#define MAX_OUTCOMES 32
#define ATTEMPT_MS 5000

static struct {
	char name[32];
	long count;
} outcomes[MAX_OUTCOMES];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static double max_ms;
static atomic_bool stopping;

static const char *kind, *host = "-";
static struct endpoint to;
static double end_ms, pause_ms;

static void record(const char *name, double took)
{
	int i;

	pthread_mutex_lock(&lock);
	for (i = 0; i < MAX_OUTCOMES - 1 && outcomes[i].count && strcmp(outcomes[i].name, name) != 0; i++)
		;
	snprintf(outcomes[i].name, sizeof(outcomes[i].name), "%s", name);
	outcomes[i].count++;
	if (took > max_ms)
		max_ms = took;
	pthread_mutex_unlock(&lock);
}

static void talk(int fd, double deadline, char outcome[32])
{
	char request[512] = "x", answer[512] = "";
	int is_http = strcmp(kind, "http") == 0;
	ssize_t n;

	if (is_http)
		snprintf(request, sizeof(request), "GET / HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", host);
	if (send(fd, request, strlen(request), MSG_NOSIGNAL) < 0) {
		snprintf(outcome, 32, "%s", strerrorname_np(errno));
		return;
	}
	n = receive_until(fd, answer, sizeof(answer) - 1, deadline);
	if (n <= 0)
		snprintf(outcome, 32, "%s", n == 0 ? "end" : strerrorname_np((int)-n));
	else if (is_http)
		snprintf(outcome, 32, "http-%.3s", strncmp(answer, "HTTP/1.", 7) == 0 && n > 12 ? answer + 9 : "bad");
	else
		snprintf(outcome, 32, "ok");
}

static void attempt(void)
{
	struct linger reset = {.l_onoff = 1, .l_linger = 0}; /* no TIME_WAIT: ports would run out */
	double start = now_ms(), deadline = start + ATTEMPT_MS;
	int fd = socket(to.addr.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	int error = connect_until(fd, &to, deadline);
	char outcome[32];

	snprintf(outcome, sizeof(outcome), "%s", result_name(error));
	if (!error && strcmp(kind, "tcp") != 0)
		talk(fd, deadline, outcome);
	record(outcome, now_ms() - start);
	setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
	close(fd);
}

static void *run(void *unused)
{
	(void)unused;
	while (!stopping && now_ms() < end_ms) {
		attempt();
		usleep((useconds_t)(pause_ms * 1000));
	}
	return NULL;
}

static void stop(int signal_number)
{
	(void)signal_number;
	stopping = true;
}

int main(int argc, char **argv)
{
	pthread_t threads[64];
	int count = 10, option, i;
	double seconds = 5;

	while ((option = getopt(argc, argv, "n:s:w:")) != -1) {
		if (option == 'n')
			count = atoi(optarg);
		else if (option == 's')
			seconds = atof(optarg);
		else if (option == 'w')
			pause_ms = atof(optarg);
		else
			return 2;
	}
	if (argc - optind < 3 || count < 1 || count > 64)
		return 2;
	kind = argv[optind];
	to = endpoint_parse(argv[optind + 1], argv[optind + 2]);
	if (argc - optind > 3)
		host = argv[optind + 3];
	signal(SIGTERM, stop);
	end_ms = now_ms() + seconds * 1000;
	for (i = 0; i < count; i++)
		pthread_create(&threads[i], NULL, run, NULL);
	for (i = 0; i < count; i++)
		pthread_join(threads[i], NULL);
	for (i = 0; i < MAX_OUTCOMES && outcomes[i].count; i++)
		printf("%ld %s\n", outcomes[i].count, outcomes[i].name);
	printf("max_ms=%.0f\n", max_ms);
	return 0;
}
