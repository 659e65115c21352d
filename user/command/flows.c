// SPDX-License-Identifier: Apache-2.0
/* sluice flows: the ring of decisions, once or as it grows. */
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "command/command.h"
#include "command/flow_print.h"

#define POLL_US 100000

static const char usage[] =
	"Usage: sluice flows [--verdict VERDICT] [-f] [-o json] [--pin DIR]\n"
	"\n"
	"Prints the latest decisions: for whom (workload, process), to where, why, and which line decided.\n"
	"VERDICT is bypass, allow, passthrough, redirect or deny (with deny also what audit would have denied).\n";

static volatile sig_atomic_t stopped;

static void on_stop(int signal_number)
{
	(void)signal_number;
	stopped = 1;
}

struct printer {
	const struct pins *pins;
	int verdict; /* -1: all */
	bool json;
};

static void print_event(void *context, const struct flow_event *event)
{
	const struct printer *printer = context;

	if (printer->verdict < 0 || event->verdict == printer->verdict || (event->would_be && event->would_be == printer->verdict))
		flow_print(printer->pins, event, printer->json);
}

static int parse_verdict(const char *text)
{
	for (__u8 verdict = 0; verdict < VERDICT_COUNT; verdict++)
		if (!strcmp(text, verdict_name(verdict)))
			return verdict;
	return -1;
}

static int show(struct pins *pins, struct printer *printer, bool follow)
{
	const struct flow_event *ring;
	const __u64 *head;
	__u64 next = 1, lost = 0;

	if (pins_map_flows(pins, &ring, &head)) {
		perror("sluice: flows");
		return 1;
	}
	signal(SIGINT, on_stop);
	signal(SIGTERM, on_stop);
	do {
		lost += flows_read(ring, head, &next, print_event, printer);
		fflush(stdout);
	} while (follow && !stopped && !ferror(stdout) && usleep(POLL_US) <= 0);
	fprintf(stderr, "%llu events lost (overwritten before they were read)\n", (unsigned long long)lost);
	return 0;
}

int command_flows(int argc, char **argv)
{
	static const struct option options[] = {
		{"verdict", required_argument, NULL, 'v'}, {"follow", no_argument, NULL, 'f'}, {"pin", required_argument, NULL, 'p'},
		{"output", required_argument, NULL, 'o'},  {"help", no_argument, NULL, 'h'},   {0},
	};
	struct printer printer = {.verdict = -1};
	const char *pin = DEFAULT_PIN;
	bool follow = false;
	char why[512];
	int option, status;
	struct pins *pins;

	while ((option = getopt_long(argc, argv, "fo:h", options, NULL)) != -1) {
		if (option == 'v' && (printer.verdict = parse_verdict(optarg)) >= 0)
			continue;
		if (option == 'o' && !parse_output(&printer.json, optarg))
			continue;
		if (option == 'f') {
			follow = true;
		} else if (option == 'p') {
			pin = optarg;
		} else {
			fputs(usage, option == 'h' ? stdout : stderr);
			return option == 'h' ? 0 : 2;
		}
	}
	if (pins_open(&pins, pin, why, sizeof(why))) {
		fprintf(stderr, "sluice: %s\n", why);
		return 1;
	}
	printer.pins = pins;
	status = show(pins, &printer, follow);
	pins_close(pins);
	return status;
}
