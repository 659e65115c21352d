// SPDX-License-Identifier: Apache-2.0
/* sluice flows: the ring of decisions, once or as it grows. */
#include <getopt.h>
#include <linux/limits.h>
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
	"VERDICT is bypass, allow, passthrough, redirect or deny (with deny also what audit would have denied).\n"
	"-f follows until it is interrupted; -o json prints an object a line.\n";

static volatile sig_atomic_t stopped;

static void on_stop(int signal_number)
{
	(void)signal_number;
	stopped = 1;
}

struct printer {
	struct pins *pins;
	const struct flow_event *ring;
	const __u64 *head;
	const char *pin;
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
	for (int verdict = 0; verdict < VERDICT_COUNT; verdict++)
		if (!strcmp(text, verdict_name((__u8)verdict)))
			return verdict;
	return -1;
}

/* By a swap, which gives ids another meaning, or by a detach. */
static bool was_replaced(const struct printer *printer)
{
	char path[PATH_MAX];
	struct state now;
	__u32 zero = 0;

	snprintf(path, sizeof(path), "%s/state", printer->pin);
	return access(path, F_OK) || pins_lookup(printer->pins, PIN_STATE, &zero, &now) ||
	       now.generation != pins_state(printer->pins)->generation;
}

static int reopen(struct printer *printer)
{
	char why[512];
	struct pins *pins;
	int error = pins_open(&pins, printer->pin, why, sizeof(why));

	if (error) {
		fprintf(stderr, "sluice: %s\n", why);
		return error;
	}
	pins_close(printer->pins);
	printer->pins = pins;
	error = pins_map_flows(pins, &printer->ring, &printer->head);
	if (error)
		fprintf(stderr, "sluice: flows: %s\n", strerror(-error));
	return error;
}

static int show(struct printer *printer, bool follow)
{
	__u64 next = 1, lost = 0;
	int error = reopen(printer);

	if (error)
		return 1;
	signal(SIGINT, on_stop);
	signal(SIGTERM, on_stop);
	while (!error) {
		lost += flows_read(printer->ring, printer->head, &next, print_event, printer);
		if (fflush(stdout) || !follow || stopped)
			break;
		usleep(POLL_US);
		if (was_replaced(printer))
			error = reopen(printer);
	}
	fprintf(stderr, "%llu events lost (overwritten before they were read)\n", (unsigned long long)lost);
	return error ? 1 : 0;
}

int command_flows(int argc, char **argv)
{
	static const struct option options[] = {
		{"verdict", required_argument, NULL, 'v'}, {"follow", no_argument, NULL, 'f'}, {"pin", required_argument, NULL, 'p'},
		{"output", required_argument, NULL, 'o'},  {"help", no_argument, NULL, 'h'},   {0},
	};
	struct printer printer = {.pin = DEFAULT_PIN, .verdict = -1};
	bool follow = false;
	int option, status;

	while ((option = getopt_long(argc, argv, "fo:h", options, NULL)) != -1) {
		if (option == 'v') {
			printer.verdict = parse_verdict(optarg);
			if (printer.verdict < 0)
				return refuse_option("--verdict", optarg, "bypass, allow, passthrough, redirect or deny");
		} else if (option == 'o') {
			if (take_output(&printer.json, optarg))
				return EXIT_USAGE;
		} else if (option == 'f') {
			follow = true;
		} else if (option == 'p') {
			printer.pin = optarg;
		} else {
			fputs(usage, option == 'h' ? stdout : stderr);
			return option == 'h' ? 0 : EXIT_USAGE;
		}
	}
	if (optind < argc)
		return refuse_arguments(argv + optind);
	status = show(&printer, follow);
	pins_close(printer.pins);
	return status;
}
