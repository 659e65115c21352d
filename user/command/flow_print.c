// SPDX-License-Identifier: Apache-2.0
#include "command/flow_print.h"

#include <json-c/json.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "config/config.h"

#define WRITE_PATIENCE_US 5000 /* a writer that was killed never finishes */
#define WRITE_POLL_US 100

const char *printable(char *out, size_t room, const char *text)
{
	size_t n = 0;

	for (; text[n] && n + 1 < room; n++)
		out[n] = text[n] >= ' ' && text[n] <= '~' ? text[n] : '?';
	out[n] = 0;
	return out;
}

const char *protocol_name(__u8 protocol)
{
	return protocol == SLUICE_TCP ? "tcp" : protocol == SLUICE_UDP ? "udp" : "other";
}

/* The event `seq`, once its writer is done. The sequence number is written last, so that the same one before and after
   means that the copy is whole; a later one, that the event was overwritten. */
static bool copy_event(const struct flow_event *slot, __u64 seq, struct flow_event *out)
{
	for (unsigned int waited = 0; waited < WRITE_PATIENCE_US; waited += WRITE_POLL_US) {
		__u64 before = __atomic_load_n(&slot->seq, __ATOMIC_ACQUIRE), after;

		*out = *slot;
		__atomic_thread_fence(__ATOMIC_SEQ_CST);
		after = __atomic_load_n(&slot->seq, __ATOMIC_RELAXED);
		if (before == seq && after == seq)
			return true;
		if (before > seq || after > seq)
			return false;
		usleep(WRITE_POLL_US);
	}
	return false;
}

__u64 flows_read(const struct flow_event *ring, const __u64 *head, __u64 *next,
		 void (*visit)(void *context, const struct flow_event *event), void *context)
{
	__u64 end = __atomic_load_n(head, __ATOMIC_ACQUIRE), lost = 0;

	if (end < *next)
		*next = 1; /* another ring, since a detach and a start */
	if (end - *next > SLUICE_FLOW_SLOTS) {
		lost = end - SLUICE_FLOW_SLOTS - *next;
		*next = end - SLUICE_FLOW_SLOTS;
	}
	for (; *next < end; ++*next) {
		struct flow_event copy;

		if (!copy_event(&ring[*next % SLUICE_FLOW_SLOTS], *next, &copy)) {
			lost++;
			continue;
		}
		copy.comm[sizeof(copy.comm) - 1] = copy.name[sizeof(copy.name) - 1] = copy.host[sizeof(copy.host) - 1] = 0;
		visit(context, &copy);
	}
	return lost;
}

static void wall_clock(char out[40], __u64 boottime_ns)
{
	struct timespec boot, real;
	struct tm local;
	__s64 at;
	time_t seconds;

	clock_gettime(CLOCK_BOOTTIME, &boot);
	clock_gettime(CLOCK_REALTIME, &real);
	at = ((__s64)real.tv_sec - boot.tv_sec) * 1000000000LL + (real.tv_nsec - boot.tv_nsec) + (__s64)boottime_ns;
	seconds = at / 1000000000LL;
	localtime_r(&seconds, &local);
	strftime(out, 32, "%Y-%m-%dT%H:%M:%S", &local);
	snprintf(out + strlen(out), 8, ".%03d", (int)(at / 1000000 % 1000));
}

struct flow_text {
	char when[40];
	char destination[SLUICE_PREFIX_TEXT + 8];
	char host[SLUICE_HOST_MAX];
	char origin[SLUICE_ORIGIN_TEXT];
	char comm[SLUICE_COMM_TEXT];
	char name[SLUICE_NAME_TEXT];
	char verdict[40];
};

/* What decided: the service that matched, else what set the mode. Ids mean nothing but in their own generation. */
static void describe(const struct pins *pins, const struct flow_event *event, struct flow_text *out)
{
	char address[SLUICE_PREFIX_TEXT];
	struct catalog_value service;
	struct rule_set rules;
	bool is_live = event->generation == pins_state(pins)->generation;

	wall_clock(out->when, event->time);
	format_address(address, event->addr);
	snprintf(out->destination, sizeof(out->destination), addr_is_v4(event->addr) ? "%s:%u" : "[%s]:%u", address, event->port);
	printable(out->comm, sizeof(out->comm), event->comm);
	printable(out->name, sizeof(out->name), event->name[0] ? event->name : "(default)");
	printable(out->host, sizeof(out->host), event->host);
	out->origin[0] = 0;
	if (!is_live) {
		snprintf(out->origin, sizeof(out->origin), "generation %llu, since replaced", (unsigned long long)event->generation);
	} else if (event->service && !pins_lookup(pins, PIN_CATALOG, &event->service, &service)) {
		snprintf(out->origin, sizeof(out->origin), "%s", service.origin);
		if (!out->host[0])
			printable(out->host, sizeof(out->host), service.host);
	} else if (!pins_lookup(pins, PIN_RULE_SETS, &event->rule_set, &rules)) {
		snprintf(out->origin, sizeof(out->origin), "%s", rules.origin);
	}
	snprintf(out->verdict, sizeof(out->verdict), event->would_be ? "%s (audit)" : "%s",
		 verdict_name(event->would_be ? event->would_be : event->verdict));
}

static void print_json(const struct flow_event *event, const struct flow_text *text)
{
	struct json_object *line = json_object_new_object();

	json_object_object_add(line, "time", json_object_new_string(text->when));
	json_object_object_add(line, "verdict", json_object_new_string(verdict_name(event->verdict)));
	if (event->would_be)
		json_object_object_add(line, "would_be", json_object_new_string(verdict_name(event->would_be)));
	json_object_object_add(line, "reason", json_object_new_string(verdict_reason_name(event->reason)));
	json_object_object_add(line, "by", json_object_new_string(event->by_redirector ? "redirector" : "kernel"));
	json_object_object_add(line, "workload", json_object_new_string(text->name));
	json_object_object_add(line, "process", json_object_new_string(text->comm));
	json_object_object_add(line, "pid", json_object_new_int64(event->pid));
	json_object_object_add(line, "protocol", json_object_new_string(protocol_name(event->protocol)));
	json_object_object_add(line, "destination", json_object_new_string(text->destination));
	json_object_object_add(line, "host", json_object_new_string(text->host));
	json_object_object_add(line, "origin", json_object_new_string(text->origin));
	json_object_object_add(line, "generation", json_object_new_int64((int64_t)event->generation));
	puts(json_object_to_json_string_ext(line, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE));
	json_object_put(line);
}

void flow_print(const struct pins *pins, const struct flow_event *event, bool json)
{
	struct flow_text text;
	char process[SLUICE_COMM_TEXT + 16] = "-";

	describe(pins, event, &text);
	if (json) {
		print_json(event, &text);
		return;
	}
	if (event->pid)
		snprintf(process, sizeof(process), "%s[%u]", text.comm, event->pid);
	printf("%s %-11s %s %s %s/%s%s%s: %s%s%s\n", text.when, text.verdict, text.name, process, text.destination,
	       protocol_name(event->protocol), text.host[0] ? " " : "", text.host, verdict_reason_name(event->reason),
	       text.origin[0] ? ", by " : "", text.origin);
}
