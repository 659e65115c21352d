// SPDX-License-Identifier: Apache-2.0
/* The answer of `explain`, for people and for programs. */
#include <json-c/json.h>
#include <stdio.h>
#include <string.h>

#include "command/explain.h"
#include "command/flow_print.h"
#include "policy/tables.h"

#define MAX_SHOWN 16 /* of what lost, to people */

static const char *decider(const struct answer *answer, const struct decision *decision)
{
	if (decision->verdict == VERDICT_BYPASS)
		return answer->bypass;
	if (decision->reason == REASON_NAME_ALLOWED)
		return answer->by_name.origin;
	if (decision->reason == REASON_RESOLVER)
		return "dns admits it";
	return decision->service && answer->by_address.id == decision->service ? answer->by_address.origin : answer->rules->origin;
}

/* Who reads the name. */
static const char *reader(const struct answer *answer)
{
	return answer->kernel.check_name ? "hello" : "redirector";
}

/* ---- text ---- */

static void print_notes(const struct notes *notes)
{
	for (size_t i = 0; i < notes->count; i++) {
		const struct note *note = &notes->items[i];

		printf(*note->by ? "%*s%-*s %s (%s)\n" : "%*s%-*s %s\n", 2 * (int)note->depth, "", 11 - 2 * (int)note->depth, note->what,
		       note->text, note->by);
	}
}

static void print_decision(const char *who, const struct answer *answer, const struct decision *decision)
{
	printf("%-11s %s, %s%s: %s\n", who, verdict_name(decision->verdict), verdict_reason_name(decision->reason),
	       decision->check_name ? ", name checked in the kernel" : "", decider(answer, decision));
	if (decision->would_be)
		printf("            audit: would be %s\n", verdict_name(decision->would_be));
}

static void print_redirected(const struct answer *answer)
{
	print_decision(reader(answer), answer, &answer->redirector);
	printf("shown       %s\n", answer->shown);
	if (answer->redirector.verdict == VERDICT_PASSTHROUGH && answer->rules->egress_proxy)
		printf("proxy       the egressProxy of %s gets it\n", answer->rules->origin);
}

static void print_service(const struct answer *answer)
{
	const struct named *service = answer_service(answer);

	if (!service)
		return;
	printf("service     %s: %s\n", service->host, service->origin);
	if (service->flags & SERVICE_DYNAMIC)
		printf("dialled     where DNS has the name, resolved when asked for\n");
	if (!answer->offline && service->flags & SERVICE_UNIX)
		printf("dialled     at a Unix socket of the node, perhaps among others (`explain --config` shows it)\n");
	print_notes(&answer->addresses);
	print_notes(&answer->route);
	if (!answer->offline && answer->redirected && service->flags & SERVICE_ROUTED && !(service->flags & (SERVICE_DYNAMIC | SERVICE_UNIX)))
		printf("route       by a VirtualService or DestinationRule (`explain --config` shows it)\n");
}

static void print_lost(const struct answer *answer)
{
	for (size_t i = 0; i < answer->lost.count && i < MAX_SHOWN; i++)
		printf("%-11s %s, %s: %s\n", i ? "" : "lost", answer->lost.items[i].by, answer->lost.items[i].what, answer->lost.items[i].text);
	if (answer->lost.count > MAX_SHOWN)
		printf("            and %zu more (`-o json` has them)\n", answer->lost.count - MAX_SHOWN);
}

static void print_rules(const struct answer *answer)
{
	static const struct {
		enum setting setting;
		const char *name;
	} others[] = {{SETTING_HOST_CHECK, "hostCheck"}, {SETTING_ENFORCEMENT, "enforcement"}};

	printf("rules       %s, hostCheck %s, enforcement %s: %s\n", verdict_mode_name(answer->rules->mode),
	       verdict_host_check_name(answer->rules->host_check), answer->rules->audit ? "audit" : "enforce", answer->rules->origin);
	for (size_t i = 0; i < ARRAY_SIZE(others); i++) {
		const struct settled *by = &answer->by[others[i].setting];

		if (by->object)
			printf("            %s: %s\n", others[i].name, place_of_line(answer->arena, by->at, by->object));
	}
}

void print_text(const struct question *question, const struct answer *answer)
{
	char address[SLUICE_PREFIX_TEXT];

	printf("%s port %u/%s", question->host, question->port, protocol_name(question->protocol));
	if (answer->place.known && !question->is_address)
		printf(" at %s", format_cidr(address, answer->place.addr, answer->place.bits));
	else if (!answer->place.known)
		printf(", address not known%s: judged by name", answer->offline ? " offline" : "");
	printf(", for %s\n", answer->workload[0] ? answer->workload : "the node's default");
	print_decision("kernel", answer, &answer->kernel);
	if (answer->redirected)
		print_redirected(answer);
	print_service(answer);
	print_lost(answer);
	print_rules(answer);
	printf("%s\n", answer_lets_through(answer) ? "=> let through" : "=> denied");
}

/* ---- JSON ---- */

static void add_text(struct json_object *object, const char *name, const char *text)
{
	json_object_object_add(object, name, json_object_new_string(text));
}

static struct json_object *decision_json(const struct answer *answer, const struct decision *decision)
{
	struct json_object *out = json_object_new_object();

	add_text(out, "verdict", verdict_name(decision->verdict));
	add_text(out, "reason", verdict_reason_name(decision->reason));
	if (decision->would_be)
		add_text(out, "would_be", verdict_name(decision->would_be));
	add_text(out, "by", decider(answer, decision));
	return out;
}

static struct json_object *note_json(const struct note *note)
{
	struct json_object *out = json_object_new_object();

	add_text(out, "what", note->what);
	add_text(out, "text", note->text);
	if (*note->by)
		add_text(out, "by", note->by);
	return out;
}

/* From `*at` on those of `depth`, each with those that are below it. */
static struct json_object *notes_json(const struct notes *notes, size_t *at, unsigned int depth)
{
	struct json_object *out = json_object_new_array(), *last = NULL;

	while (*at < notes->count && notes->items[*at].depth >= depth) {
		if (notes->items[*at].depth > depth && last) {
			json_object_object_add(last, "notes", notes_json(notes, at, depth + 1));
			continue;
		}
		last = note_json(&notes->items[(*at)++]);
		json_object_array_add(out, last);
	}
	return out;
}

static void add_notes(struct json_object *object, const char *name, const struct notes *notes)
{
	size_t at = 0;

	if (notes->count)
		json_object_object_add(object, name, notes_json(notes, &at, 0));
}

void print_json(const struct question *question, const struct answer *answer)
{
	const struct named *service = answer_service(answer);
	struct json_object *out = json_object_new_object();
	char text[SLUICE_PREFIX_TEXT];

	add_text(out, "host", question->host);
	json_object_object_add(out, "port", json_object_new_int(question->port));
	add_text(out, "protocol", protocol_name(question->protocol));
	if (answer->place.known)
		add_text(out, "address", format_cidr(text, answer->place.addr, answer->place.bits));
	add_text(out, "workload", answer->workload);
	json_object_object_add(out, "allowed", json_object_new_boolean(answer_lets_through(answer)));
	json_object_object_add(out, "kernel", decision_json(answer, &answer->kernel));
	if (answer->redirected)
		json_object_object_add(out, reader(answer), decision_json(answer, &answer->redirector));
	if (service)
		add_text(out, "service", service->host);
	add_notes(out, "addresses", &answer->addresses);
	add_notes(out, "route", &answer->route);
	add_notes(out, "lost", &answer->lost);
	add_text(out, "mode", verdict_mode_name(answer->rules->mode));
	add_text(out, "hostCheck", verdict_host_check_name(answer->rules->host_check));
	add_text(out, "enforcement", answer->rules->audit ? "audit" : "enforce");
	add_text(out, "mode_by", answer->rules->origin);
	puts(json_object_to_json_string_ext(out, JSON_C_TO_STRING_PRETTY | JSON_C_TO_STRING_NOSLASHESCAPE));
	json_object_put(out);
}
