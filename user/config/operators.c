// SPDX-License-Identifier: Apache-2.0
/*
 * Envoy's command operators, in the headers that a rule gives a message and in the access log (Envoy: "Access logging", "Command
 * operators"). What they stand for is found when a message passes: redirect/operators.c.
 */
#include <string.h>

#include "config/reader.h"
#include "config/walk.h"

/* %NAME%, %NAME(anything but a parenthesis)%, and a number of bytes behind that: %REQ(X):10%. */
size_t operator_length(const char *text)
{
	const char *p = text + 1;

	if (*p == '%')
		return 2;
	p += strspn(p, "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_");
	if (p == text + 1)
		return 0;
	if (*p == '(') {
		p += strcspn(p, ")");
		if (!*p++)
			return 0;
		if (*p == ':')
			p += 1 + strspn(p + 1, "0123456789");
	}
	return *p == '%' ? (size_t)(p + 1 - text) : 0;
}

enum argument { ARGUMENT_NONE, ARGUMENT_TIME /* may be there */, ARGUMENT_FIELD };

#define OF_REQUEST (1U << OPERATORS_OF_REQUEST)
#define OF_RESPONSE (1U << OPERATORS_OF_RESPONSE)
#define OF_LOG (1U << OPERATORS_OF_LOG)
#define ANYWHERE (OF_REQUEST | OF_RESPONSE | OF_LOG)

static const struct command_operator {
	const char *name;
	enum argument argument;
	unsigned int places;
} operators[] = {
	{"HOSTNAME", ARGUMENT_NONE, ANYWHERE},
	{"PROTOCOL", ARGUMENT_NONE, ANYWHERE},
	{"START_TIME", ARGUMENT_TIME, ANYWHERE},
	{"DOWNSTREAM_LOCAL_ADDRESS", ARGUMENT_NONE, ANYWHERE},
	{"DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT", ARGUMENT_NONE, ANYWHERE},
	{"DOWNSTREAM_LOCAL_PORT", ARGUMENT_NONE, ANYWHERE},
	{"UPSTREAM_HOST", ARGUMENT_NONE, ANYWHERE},
	{"UPSTREAM_REMOTE_ADDRESS", ARGUMENT_NONE, ANYWHERE},
	{"UPSTREAM_REMOTE_ADDRESS_WITHOUT_PORT", ARGUMENT_NONE, ANYWHERE},
	{"UPSTREAM_REMOTE_PORT", ARGUMENT_NONE, ANYWHERE},
	{"UPSTREAM_CLUSTER", ARGUMENT_NONE, ANYWHERE},
	{"UPSTREAM_CLUSTER_RAW", ARGUMENT_NONE, ANYWHERE},
	{"ROUTE_NAME", ARGUMENT_NONE, ANYWHERE},
	{"REQUESTED_SERVER_NAME", ARGUMENT_NONE, ANYWHERE},
	{"RESPONSE_CODE", ARGUMENT_NONE, OF_RESPONSE | OF_LOG},
	{"REQ", ARGUMENT_FIELD, OF_REQUEST | OF_LOG},
	{"RESP", ARGUMENT_FIELD, OF_RESPONSE | OF_LOG},
	{"REQ_WITHOUT_QUERY", ARGUMENT_FIELD, OF_LOG},
	{"RESPONSE_CODE_DETAILS", ARGUMENT_NONE, OF_LOG},
	{"RESPONSE_FLAGS", ARGUMENT_NONE, OF_LOG},
	{"CONNECTION_TERMINATION_DETAILS", ARGUMENT_NONE, OF_LOG},
	{"UPSTREAM_TRANSPORT_FAILURE_REASON", ARGUMENT_NONE, OF_LOG},
	{"BYTES_RECEIVED", ARGUMENT_NONE, OF_LOG},
	{"BYTES_SENT", ARGUMENT_NONE, OF_LOG},
	{"DURATION", ARGUMENT_NONE, OF_LOG},
	{"UPSTREAM_LOCAL_ADDRESS", ARGUMENT_NONE, OF_LOG},
	{"UPSTREAM_LOCAL_ADDRESS_WITHOUT_PORT", ARGUMENT_NONE, OF_LOG},
	{"UPSTREAM_LOCAL_PORT", ARGUMENT_NONE, OF_LOG},
	{"UPSTREAM_REQUEST_ATTEMPT_COUNT", ARGUMENT_NONE, OF_LOG},
	{"DOWNSTREAM_REMOTE_ADDRESS", ARGUMENT_NONE, OF_LOG},
	{"DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT", ARGUMENT_NONE, OF_LOG},
	{"DOWNSTREAM_REMOTE_PORT", ARGUMENT_NONE, OF_LOG},
	{"DOWNSTREAM_DIRECT_REMOTE_ADDRESS", ARGUMENT_NONE, OF_LOG},
	{"DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT", ARGUMENT_NONE, OF_LOG},
	{"DOWNSTREAM_DIRECT_REMOTE_PORT", ARGUMENT_NONE, OF_LOG},
};

/*
 * These stand for nothing: what is of the client's own TLS, which is spoken to the server, not to us, and what Envoy's
 * other filters leave to one another.
 */
static bool is_of_nobody(const char *name, size_t n)
{
	static const char *const begins[] = {"DOWNSTREAM_PEER_", "DOWNSTREAM_TLS_", "DOWNSTREAM_LOCAL_SUBJECT", "DOWNSTREAM_LOCAL_URI_SAN",
					     "DYNAMIC_METADATA", "FILTER_STATE", "PER_REQUEST_STATE"};

	for (size_t i = 0; i < ARRAY_SIZE(begins); i++)
		if (n >= strlen(begins[i]) && !memcmp(name, begins[i], strlen(begins[i])))
			return true;
	return false;
}

/* Envoy's are those of strftime(3) and for a part of a second %f, %1f to %9f. No line ends within a line: no %n. */
static bool is_time_format(const char *format, size_t length)
{
	for (const char *p = format, *end = format + length; p < end; p++) {
		if (*p != '%')
			continue;
		p++;
		if (p + 1 < end && *p >= '1' && *p <= '9' && p[1] == 'f')
			p++;
		else if (p >= end || !strchr("aAbBcCdDeFgGhHIjmMprRsSTuUVwWxXyYzZ%f", *p))
			return false;
	}
	return length > 0;
}

/* `length` bytes: the operator without its signs. */
static void check_operator(struct walk *walk, const struct node *node, const char *name, size_t length, enum operators_of place)
{
	static const char *const where[] = {
		[OPERATORS_OF_REQUEST] = " in a header of the request", [OPERATORS_OF_RESPONSE] = " in a header of the response",
		[OPERATORS_OF_LOG] = " in the access log",
	};
	size_t n = strcspn(name, "(%");
	bool has_argument = name[n] == '(';

	if (is_of_nobody(name, n))
		return;
	for (size_t i = 0; i < ARRAY_SIZE(operators); i++) {
		const struct command_operator *one = &operators[i];

		if (strlen(one->name) != n || memcmp(one->name, name, n) ||
		    (has_argument ? one->argument == ARGUMENT_NONE : one->argument == ARGUMENT_FIELD))
			continue;
		if (!(one->places & 1U << place))
			walk_error(walk, node, "%%%.*s%%%s " NOT_IMPLEMENTED, (int)length, name, where[place]);
		else if (has_argument && one->argument == ARGUMENT_TIME && !is_time_format(name + n + 1, length - n - 2))
			walk_error(walk, node, "%%%.*s%%: is not a time's format of strftime(3), with %%f, %%1f to %%9f for parts of a second",
				   (int)length, name);
		return;
	}
	walk_error(walk, node, "%%%.*s%%: this variable " NOT_IMPLEMENTED, (int)length, name);
}

bool check_operators(struct walk *walk, const struct node *node, const char *value, enum operators_of place)
{
	size_t errors = walk->config->error_count;

	for (const char *p = strchr(value, '%'); p; p = strchr(p, '%')) {
		size_t length = operator_length(p);

		if (!length) {
			walk_error(walk, node, "%s has a %% that begins no variable such as %%HOSTNAME%% (%%%% stands for a %% itself)",
				   node_shown(walk, node));
			break;
		}
		if (length > 2)
			check_operator(walk, node, p + 1, length - 2, place);
		p += length;
	}
	return walk->config->error_count == errors;
}
