// SPDX-License-Identifier: Apache-2.0
#include "command/run_metrics.h"

#include <string.h>

#include "policy/tables.h"

struct counter_printer {
	const struct daemon *daemon;
	FILE *out;
};

static void print_counter(void *context, const struct counter_key *key, uint64_t count)
{
	const struct counter_printer *printer = context;
	struct workload_value who = {.name = "(default)"};

	if (key->workload && kernel_get_workload(printer->daemon->kernel, key->workload, &who))
		snprintf(who.name, sizeof(who.name), "(gone)/%u", key->workload);
	metrics_sample(printer->out, "sluice_verdicts_total", (double)count, "verdict", verdict_name(key->verdict), "reason",
		       verdict_reason_name(key->reason), "workload", who.name, "by", key->by_redirector ? "redirector" : "kernel",
		       LABELS_END);
}

static void print_redirector(FILE *out, const struct supervisor *supervisor)
{
	struct redirector_statistics now;
	const struct {
		const char *name;
		const char *type;
		const char *help;
		const uint64_t *value;
	} families[] = {
		{"sluice_redirector_connections", "gauge", "Open redirected connections.", (uint64_t *)&now.connections_open},
		{"sluice_redirector_connections_total", "counter", "Redirected connections accepted.", (uint64_t *)&now.connections_total},
		{"sluice_redirector_refused_total", "counter", "Connections closed without a record or at the bound.",
		 (uint64_t *)&now.connections_refused},
		{"sluice_redirector_shed_total", "counter", "Connections and streams ended because their network namespace held too much memory.",
		 (uint64_t *)&now.connections_shed},
		{"sluice_redirector_requests_total", "counter", "HTTP requests.", (uint64_t *)&now.requests_total},
		{"sluice_redirector_tls_relayed_total", "counter", "TLS connections relayed.", (uint64_t *)&now.tls_relayed},
		{"sluice_redirector_tls_refused_total", "counter", "TLS connections reset.", (uint64_t *)&now.tls_refused},
		{"sluice_redirector_delays", "gauge", "Requests held by an injected delay now.", (uint64_t *)&now.delays_active},
		{"sluice_redirector_delays_total", "counter", "Requests delayed.", (uint64_t *)&now.delays_total},
		{"sluice_redirector_mirrors_total", "counter", "Copies of requests that were sent.", (uint64_t *)&now.mirrors_total},
		{"sluice_redirector_mirrors_dropped_total", "counter", "Copies of requests that were not sent.",
		 (uint64_t *)&now.mirrors_dropped},
		{"sluice_redirector_aborts_total", "counter", "Requests aborted.", (uint64_t *)&now.aborts_total},
		{"sluice_redirector_upstream_failures_total", "counter", "Failed upstream connects.",
		 (uint64_t *)&now.upstream_connect_failures},
		{"sluice_redirector_overflows_total", "counter", "Requests and connections refused by a limit of a connectionPool.",
		 (uint64_t *)&now.overflows_total},
		{"sluice_redirector_ejections_total", "counter", "Addresses ejected by outlierDetection.", (uint64_t *)&now.ejections_total},
		{"sluice_redirector_upstream_bytes_total", "counter", "Bytes sent upstream.", (uint64_t *)&now.bytes_to_upstream},
		{"sluice_redirector_client_bytes_total", "counter", "Bytes sent to clients.", (uint64_t *)&now.bytes_to_client},
		{"sluice_redirector_names_asked_total", "counter", "Names below wildcards of DYNAMIC_DNS that were asked for.",
		 (uint64_t *)&now.names_asked},
		{"sluice_redirector_names_refused_total", "counter", "Those that were not, for their workload asks for too many a second.",
		 (uint64_t *)&now.names_refused},
		{"sluice_redirector_decisions_lost_total", "counter", "Decisions not reported for want of room.",
		 (uint64_t *)&now.decisions_lost},
		{"sluice_redirector_access_log_lost_total", "counter", "Lines of the access log that could not be written at once.",
		 (uint64_t *)&now.access_log_lost},
	};

	supervisor_statistics(supervisor, &now);
	for (size_t i = 0; i < ARRAY_SIZE(families); i++) {
		metrics_family(out, families[i].name, families[i].type, families[i].help);
		metrics_sample(out, families[i].name, (double)*families[i].value, LABELS_END);
	}
	metrics_family(out, "sluice_redirector_local_responses_total", "counter", "Responses made by the redirector itself.");
	metrics_sample(out, "sluice_redirector_local_responses_total", (double)now.responses_local_4xx, "status", "4xx", LABELS_END);
	metrics_sample(out, "sluice_redirector_local_responses_total", (double)now.responses_local_502, "status", "502", LABELS_END);
	metrics_sample(out, "sluice_redirector_local_responses_total", (double)now.responses_local_503, "status", "503", LABELS_END);
	metrics_sample(out, "sluice_redirector_local_responses_total", (double)now.responses_local_504, "status", "504", LABELS_END);
}

static void print_dynamic_names(FILE *out, const struct dynamic_names *dynamic)
{
	struct dynamic_statistics now;

	dynamic_names_statistics(dynamic, &now);
	metrics_family(out, "sluice_dynamic_names", "gauge", "Names below wildcards of DYNAMIC_DNS that are known or looked up.");
	metrics_sample(out, "sluice_dynamic_names", (double)now.known, LABELS_END);
	metrics_family(out, "sluice_dynamic_names_refused_total", "counter", "Such names that were not looked up for want of room.");
	metrics_sample(out, "sluice_dynamic_names_refused_total", (double)now.refused, LABELS_END);
	metrics_family(out, "sluice_dynamic_addresses_refused_total", "counter",
		       "Addresses of such names that are not dialled: loopback, link-local, multicast and the like.");
	metrics_sample(out, "sluice_dynamic_addresses_refused_total", (double)now.refused_addresses, LABELS_END);
}

static void print_metrics(void *context, FILE *out)
{
	struct run_metrics *metrics = context;
	const struct daemon *daemon;
	struct state now;

	pthread_mutex_lock(&metrics->lock);
	daemon = metrics->daemon;
	if (daemon) {
		struct counter_printer printer = {daemon, out};

		kernel_read_state(daemon->kernel, &now);
		metrics_family(out, "sluice_generation", "gauge", "The generation in force.");
		metrics_sample(out, "sluice_generation", (double)now.generation, LABELS_END);
		metrics_family(out, "sluice_config_errors_total", "counter", "Configurations refused.");
		metrics_sample(out, "sluice_config_errors_total", (double)now.config_errors, LABELS_END);
		metrics_family(out, "sluice_config_refused", "gauge", "1 while the configuration in the folder is not in force.");
		metrics_sample(out, "sluice_config_refused", now.last_error[0] != 0, LABELS_END);
		metrics_family(out, "sluice_hooks_attached", "gauge", "Hooks that are attached.");
		metrics_sample(out, "sluice_hooks_attached", kernel_attached(daemon->kernel), LABELS_END);
		metrics_family(out, "sluice_hooks_expected", "gauge", "Hooks that should be attached.");
		metrics_sample(out, "sluice_hooks_expected", kernel_expected(daemon->kernel), LABELS_END);
		metrics_family(out, "sluice_kernel_feature", "gauge", "1 where the kernel can do it; `sluice status` says what is not done otherwise.");
		for (enum feature i = 0; i < FEATURE_COUNT; i++)
			metrics_sample(out, "sluice_kernel_feature", kernel_has(daemon->kernel, i), "feature", kernel_features[i].name, LABELS_END);
		metrics_family(out, "sluice_canary_ok", "gauge", "1 while all that must be refused in the canary's namespace is.");
		metrics_sample(out, "sluice_canary_ok", atomic_load(&daemon->canary_asked) && !health_has(daemon->health, TROUBLE_CANARY), LABELS_END);
		metrics_family(out, "sluice_hooks_mended_total", "counter", "Hooks that were put back into their place.");
		metrics_sample(out, "sluice_hooks_mended_total", (double)atomic_load(&daemon->hooks_mended), LABELS_END);
		metrics_family(out, "sluice_redirector_up", "gauge", "1 while a redirector runs.");
		metrics_sample(out, "sluice_redirector_up", now.redirector_pid != 0, LABELS_END);
		metrics_family(out, "sluice_trouble", "gauge", "1 while `sluice status` shows trouble of that kind.");
		for (unsigned int i = 0; i < TROUBLE_COUNT; i++)
			metrics_sample(out, "sluice_trouble", health_has(daemon->health, i), "what", health_trouble_name(i), LABELS_END);
		metrics_family(out, "sluice_verdicts_total", "counter", "Verdicts on flows, and on requests by the redirector.");
		kernel_each_counter(daemon->kernel, print_counter, &printer);
		print_redirector(out, daemon->supervisor);
		print_dynamic_names(out, daemon->asked);
	}
	pthread_mutex_unlock(&metrics->lock);
}

static bool is_ready(void *context, char *why, size_t room)
{
	struct run_metrics *metrics = context;
	bool ready = false;

	pthread_mutex_lock(&metrics->lock);
	if (metrics->daemon)
		ready = health_summary(metrics->daemon, why, room);
	else
		snprintf(why, room, metrics->detached ? "detached by an operator: restart the daemon to enforce again" : "stopping");
	pthread_mutex_unlock(&metrics->lock);
	return ready;
}

int run_metrics_start(struct admin **out, struct run_metrics *metrics, const struct daemon *daemon)
{
	struct admin_callbacks callbacks = {print_metrics, is_ready, metrics};

	metrics->daemon = daemon;
	return admin_start(out, daemon->admin_fd, &callbacks);
}

void run_metrics_stop(struct run_metrics *metrics, bool detached)
{
	pthread_mutex_lock(&metrics->lock);
	metrics->daemon = NULL;
	metrics->detached = detached;
	pthread_mutex_unlock(&metrics->lock);
}
