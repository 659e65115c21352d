// SPDX-License-Identifier: Apache-2.0
/* The access log that a MeshConfig asks for (ISTIO.md §2.4): where it goes, and a line's pieces. */
#include <linux/limits.h>
#include <stdlib.h>
#include <string.h>

#include "config/reader.h"
#include "config/walk.h"

#define MAX_FORMAT 16384

/* Istio's own formats (pilot/pkg/model/telemetry_logging.go). */
static const char default_text[] =
	"[%START_TIME%] \"%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%\" %RESPONSE_CODE% %RESPONSE_FLAGS% "
	"%RESPONSE_CODE_DETAILS% %CONNECTION_TERMINATION_DETAILS% \"%UPSTREAM_TRANSPORT_FAILURE_REASON%\" %BYTES_RECEIVED% "
	"%BYTES_SENT% %DURATION% %RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% \"%REQ(X-FORWARDED-FOR)%\" \"%REQ(USER-AGENT)%\" "
	"\"%REQ(X-REQUEST-ID)%\" \"%REQ(:AUTHORITY)%\" \"%UPSTREAM_HOST%\" %UPSTREAM_CLUSTER_RAW% %UPSTREAM_LOCAL_ADDRESS% "
	"%DOWNSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_REMOTE_ADDRESS% %REQUESTED_SERVER_NAME% %ROUTE_NAME%";

struct entry {
	const char *key, *value;
};

/* As Envoy, which sorts them. */
static const struct entry default_entries[] = {
	{"authority", "%REQ(:AUTHORITY)%"},
	{"bytes_received", "%BYTES_RECEIVED%"},
	{"bytes_sent", "%BYTES_SENT%"},
	{"connection_termination_details", "%CONNECTION_TERMINATION_DETAILS%"},
	{"downstream_local_address", "%DOWNSTREAM_LOCAL_ADDRESS%"},
	{"downstream_remote_address", "%DOWNSTREAM_REMOTE_ADDRESS%"},
	{"duration", "%DURATION%"},
	{"method", "%REQ(:METHOD)%"},
	{"path", "%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%"},
	{"protocol", "%PROTOCOL%"},
	{"request_id", "%REQ(X-REQUEST-ID)%"},
	{"requested_server_name", "%REQUESTED_SERVER_NAME%"},
	{"response_code", "%RESPONSE_CODE%"},
	{"response_code_details", "%RESPONSE_CODE_DETAILS%"},
	{"response_flags", "%RESPONSE_FLAGS%"},
	{"route_name", "%ROUTE_NAME%"},
	{"start_time", "%START_TIME%"},
	{"upstream_cluster", "%UPSTREAM_CLUSTER%"},
	{"upstream_host", "%UPSTREAM_HOST%"},
	{"upstream_local_address", "%UPSTREAM_LOCAL_ADDRESS%"},
	{"upstream_service_time", "%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)%"},
	{"upstream_transport_failure_reason", "%UPSTREAM_TRANSPORT_FAILURE_REASON%"},
	{"user_agent", "%REQ(USER-AGENT)%"},
	{"x_forwarded_for", "%REQ(X-FORWARDED-FOR)%"},
};

/* ---- pieces ---- */

static void add_text(struct walk *walk, struct access_log *log, const char *text, size_t n)
{
	struct arena *arena = walk->config->arena;
	struct log_piece *last;

	if (!log->count || log->pieces[log->count - 1].operator_)
		*arena_append(arena, log->pieces, log->count, log->capacity) = (struct log_piece){.text = ""};
	last = &log->pieces[log->count - 1];
	last->text = arena_printf(arena, "%s%.*s", last->text, (int)n, text);
	log->text_length += n;
}

static void add_operator(struct walk *walk, struct access_log *log, const char *operator_, size_t n, bool is_value)
{
	add_text(walk, log, "", 0);
	log->pieces[log->count - 1].operator_ = arena_strndup(walk->config->arena, operator_, n);
	log->pieces[log->count - 1].is_value = is_value;
}

static void add_json_text(struct walk *walk, struct access_log *log, const char *text, size_t n)
{
	for (const char *end = text + n; text < end; text++) {
		if (*text == '"' || *text == '\\')
			add_text(walk, log, "\\", 1);
		add_text(walk, log, text, 1);
	}
}

/* A format that was checked. */
static void add_format(struct walk *walk, struct access_log *log, const char *format)
{
	void (*add)(struct walk *, struct access_log *, const char *, size_t) = log->is_json ? add_json_text : add_text;

	while (*format) {
		size_t plain = strcspn(format, "%"), length;

		add(walk, log, format, plain);
		format += plain;
		if (!*format)
			return;
		length = operator_length(format);
		if (length == 2)
			add(walk, log, "%", 1);
		else
			add_operator(walk, log, format + 1, length - 2, false);
		format += length;
	}
}

/* Of an operator alone the type is kept, as Envoy does. */
static void add_entry(struct walk *walk, struct access_log *log, const struct entry *entry)
{
	size_t n = strlen(entry->value);

	add_text(walk, log, log->count ? "," : "{", 1);
	add_text(walk, log, "\"", 1);
	add_json_text(walk, log, entry->key, strlen(entry->key));
	add_text(walk, log, "\":", 2);
	if (entry->value[0] == '%' && n > 2 && operator_length(entry->value) == n) {
		add_operator(walk, log, entry->value + 1, n - 2, true);
		return;
	}
	add_text(walk, log, "\"", 1);
	add_format(walk, log, entry->value);
	add_text(walk, log, "\"", 1);
}

static void add_entries(struct walk *walk, struct access_log *log, const struct entry *entries, size_t count)
{
	for (size_t i = 0; i < count; i++)
		add_entry(walk, log, &entries[i]);
	add_text(walk, log, "}", 1);
}

/* ---- formats ---- */

static bool check_format(struct walk *walk, const struct node *node, const char *format)
{
	for (const unsigned char *c = (const unsigned char *)format; *c; c++) {
		if (*c >= ' ' && *c != 0x7f)
			continue;
		walk_error(walk, node, "%s has a control character; each line ends by itself", node_shown(walk, node));
		return false;
	}
	return check_operators(walk, node, format, OPERATORS_OF_LOG);
}

/* A newline at the end, which Istio's users write, is the line's own. */
static void read_text_format(struct walk *walk, const struct node *node, struct access_log *log, const char *format)
{
	size_t n = strlen(format);

	if (n && format[n - 1] == '\n')
		n--;
	format = arena_strndup(walk->config->arena, format, n);
	if (check_format(walk, node, format))
		add_format(walk, log, format);
}

static int by_key(const void *a, const void *b)
{
	return strcmp(((const struct entry *)a)->key, ((const struct entry *)b)->key);
}

static void read_entries(struct walk *walk, const struct node *node, struct access_log *log)
{
	struct entry entries[ACCESS_LOG_OPERATORS];
	size_t errors = walk->config->error_count;

	if (node->type != NODE_MAPPING || !node->count || node->count / 2 > ACCESS_LOG_OPERATORS) {
		walk_error(walk, node, "must be a JSON object of at most %d strings, as accessLogEncoding is JSON", ACCESS_LOG_OPERATORS);
		return;
	}
	for (size_t i = 0; i < node->count; i += 2) {
		size_t state = walk_enter(walk, node->items[i]->text);

		entries[i / 2] = (struct entry){node->items[i]->text, ""};
		if (node->items[i + 1]->type != NODE_SCALAR)
			walk_error(walk, node->items[i + 1], "is %s: what is no string " NOT_IMPLEMENTED, node_shown(walk, node->items[i + 1]));
		else if (walk_text(walk, node->items[i + 1], &entries[i / 2].value))
			check_format(walk, node->items[i + 1], entries[i / 2].value);
		check_format(walk, node->items[i], node->items[i]->text);
		walk_leave(walk, state);
	}
	if (walk->config->error_count != errors)
		return;
	qsort(entries, node->count / 2, sizeof(*entries), by_key);
	add_entries(walk, log, entries, node->count / 2);
}

/* A document within a string: what is wrong in it is shown at its line if it stands in one. */
static void read_json_format(struct walk *walk, const struct node *node, struct access_log *log, const char *format)
{
	uint32_t outer = walk->first_line;
	const struct node *root = node;
	struct reader reader;

	walk->first_line += node->line - 1;
	if (!reader_init(&reader, walk, format, strlen(format)) && reader_next(&reader, &root) >= 0)
		read_entries(walk, root, log);
	reader_fini(&reader);
	walk->first_line = outer;
}

static void check_size(struct walk *walk, const struct node *node, const struct access_log *log)
{
	if (log->text_length > ACCESS_LOG_TEXT || log->count > ACCESS_LOG_OPERATORS)
		walk_error(walk, node, "has more than %d bytes of text or %d variables", ACCESS_LOG_TEXT, ACCESS_LOG_OPERATORS);
}

static void read_format(struct walk *walk, const struct node *node, struct access_log *log)
{
	size_t state = walk_enter(walk, "accessLogFormat");
	const char *format = "";

	if (node && walk_text(walk, node, &format) && strlen(format) > MAX_FORMAT) {
		walk_error(walk, node, "is longer than %d bytes", MAX_FORMAT);
	} else if (*format) {
		if (log->is_json)
			read_json_format(walk, node, log, format);
		else
			read_text_format(walk, node, log, format);
		check_size(walk, node, log);
	} else if (log->is_json) {
		add_entries(walk, log, default_entries, ARRAY_SIZE(default_entries));
	} else {
		add_format(walk, log, default_text);
	}
	walk_leave(walk, state);
}

static void settle_signature(struct access_log *log)
{
	log->format = 0xcbf29ce484222325ULL + log->is_json; /* FNV-1a */
	for (size_t i = 0; i < log->count; i++)
		for (const char *p = log->pieces[i].operator_; p && *p; p++)
			log->format = (log->format ^ (unsigned char)*p) * 0x100000001b3ULL;
}

/* ---- fields of MeshConfig ---- */

static void read_file(struct walk *walk, const struct node *node, struct access_log *log)
{
	size_t state = walk_enter(walk, "accessLogFile");
	const char *text;

	if (walk_text(walk, node, &text) && *text) {
		if (*text != '/' || strlen(text) >= PATH_MAX)
			walk_error(walk, node, "%s is not an absolute path", node_shown(walk, node));
		log->file = arena_strdup(walk->config->arena, text);
		log->at = walk_position(walk, node);
		log->object = arena_strdup(walk->config->arena, walk->object);
		log->field = arena_strdup(walk->config->arena, walk->path);
	}
	walk_leave(walk, state);
}

static void read_encoding(struct walk *walk, const struct node *node, struct access_log *log)
{
	static const struct choice encodings[] = {{"TEXT", false}, {"JSON", true}};
	size_t state = walk_enter(walk, "accessLogEncoding");
	int value = false;

	walk_choice(walk, node, "an encoding", encodings, ARRAY_SIZE(encodings), &value);
	log->is_json = value;
	walk_leave(walk, state);
}

void read_access_log(struct walk *walk, const struct node *mesh_config, struct access_log *log)
{
	const struct node *file = node_field(mesh_config, "accessLogFile"), *format = node_field(mesh_config, "accessLogFormat"),
			  *encoding = node_field(mesh_config, "accessLogEncoding");

	if (!file && !format && !encoding)
		return;
	if (log->is_said) { /* spec.meshConfig and spec.values.meshConfig */
		walk_error(walk, mesh_config, "has the access log's fields, as another meshConfig has: one place for all of them");
		return;
	}
	*log = (struct access_log){.is_said = true};
	if (file)
		read_file(walk, file, log);
	if (encoding)
		read_encoding(walk, encoding, log);
	read_format(walk, format, log);
	settle_signature(log);
}
