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

/* As Envoy, which sorts them. */
static const struct {
	const char *key, *value;
} default_entries[] = {
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

static void add_key(struct walk *walk, struct access_log *log, const char *key, bool is_first)
{
	add_text(walk, log, is_first ? "{\"" : ",\"", 2);
	add_json_text(walk, log, key, strlen(key));
	add_text(walk, log, "\":", 2);
}

/* Of an operator alone the type is kept, as Envoy does. */
static void add_string(struct walk *walk, struct access_log *log, const char *format)
{
	size_t n = strlen(format);

	if (format[0] == '%' && n > 2 && operator_length(format) == n) {
		add_operator(walk, log, format + 1, n - 2, true);
		return;
	}
	add_text(walk, log, "\"", 1);
	add_format(walk, log, format);
	add_text(walk, log, "\"", 1);
}

static void add_default_entries(struct walk *walk, struct access_log *log)
{
	for (size_t i = 0; i < ARRAY_SIZE(default_entries); i++) {
		add_key(walk, log, default_entries[i].key, !i);
		add_string(walk, log, default_entries[i].value);
	}
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

/* ---- objects ---- */

static void read_value(struct walk *walk, const struct node *node, struct access_log *log);

/* RFC 8259 §3, §6 */
static bool is_literal(const char *text)
{
	const char *p = text + (*text == '-'), *digits = p;

	if (!strcmp(text, "true") || !strcmp(text, "false") || !strcmp(text, "null"))
		return true;
	p += strspn(p, "0123456789");
	if (p == digits || (*digits == '0' && p > digits + 1))
		return false;
	if (*p == '.') {
		digits = ++p;
		p += strspn(p, "0123456789");
	}
	if (p > digits && (*p == 'e' || *p == 'E')) {
		p += 1 + (p[1] == '+' || p[1] == '-');
		digits = p;
		p += strspn(p, "0123456789");
	}
	return p > digits && !*p;
}

static int by_key(const void *a, const void *b)
{
	const struct node *const *x = a, *const *y = b;

	return strcmp((*x)->text, (*y)->text);
}

static void read_object(struct walk *walk, const struct node *node, struct access_log *log)
{
	struct node **items = arena_alloc(walk->config->arena, node->count + 1, sizeof(*items));

	for (size_t i = 0; i < node->count; i++)
		items[i] = node->items[i];
	qsort(items, node->count / 2, 2 * sizeof(*items), by_key);
	for (size_t i = 0; i < node->count; i += 2) {
		size_t state = walk_enter(walk, items[i]->text);

		check_format(walk, items[i], items[i]->text);
		add_key(walk, log, items[i]->text, !i);
		read_value(walk, items[i + 1], log);
		walk_leave(walk, state);
	}
	add_text(walk, log, node->count ? "}" : "{}", node->count ? 1 : 2);
}

static void read_array(struct walk *walk, const struct node *node, struct access_log *log)
{
	add_text(walk, log, "[", 1);
	for (size_t i = 0; i < node->count; i++) {
		size_t state = walk_enter_item(walk, i);

		if (i)
			add_text(walk, log, ",", 1);
		read_value(walk, node->items[i], log);
		walk_leave(walk, state);
	}
	add_text(walk, log, "]", 1);
}

static void read_value(struct walk *walk, const struct node *node, struct access_log *log)
{
	const char *text;

	if (node->type == NODE_MAPPING)
		read_object(walk, node, log);
	else if (node->type == NODE_SEQUENCE)
		read_array(walk, node, log);
	else if (node->plain && is_literal(node->text))
		add_text(walk, log, node->text, strlen(node->text));
	else if (walk_text(walk, node, &text) && check_format(walk, node, text))
		add_string(walk, log, text);
}

/* A document within a string: what is wrong in it is shown at its line if it stands in one. */
static void read_json_format(struct walk *walk, const struct node *node, struct access_log *log, const char *format)
{
	uint32_t outer = walk->first_line;
	const struct node *root = node;
	struct reader reader;

	walk->first_line += node->line - 1;
	if (!reader_init(&reader, walk, format, strlen(format)) && reader_next(&reader, &root) >= 0) {
		if (root->type == NODE_MAPPING && root->count)
			read_object(walk, root, log);
		else
			walk_error(walk, root, "must be a JSON object, as accessLogEncoding is JSON");
	}
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
		add_default_entries(walk, log);
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
