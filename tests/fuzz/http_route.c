// SPDX-License-Identifier: Apache-2.0
/*
 * Which http rule takes a request: the matcher over what the parser has read, and a slow model over the request as it was
 * made. And paths: what the normalizer makes of one, and what a stack of its segments makes of it.
 */
#include <strings.h>

#include "fuzz.h"
#include "redirect/http_route.h"

#define MAX_RULES 4
#define MAX_MATCHES 3
#define MAX_CONDITIONS 2
#define MAX_HEADERS 4
#define PATH_ROOM 64
#define SEGMENTS (PATH_ROOM + 1)

static const char *const words[] = {"", "a", "A", "ab", "/", "/a", "/A/b", "b=1", "GET", "PUT", "a.com", "http"};
static const char *const names[] = {"x-a", "X-A", "x-b", ":method", "x-c"};
static const char *const keys[] = {"a", "b", ""};

/* Patterns whose meaning the model spells out. */
static bool only_of(const char *text, const char *letters)
{
	return !text[strspn(text, letters)];
}

static bool some_of_ab(const char *text)
{
	return *text && only_of(text, "ab");
}

static bool a_slash_first(const char *text)
{
	return *text == '/' && !strchr(text, '\n');
}

static bool at_most_one(const char *text)
{
	return strlen(text) <= 1 && *text != '\n';
}

static const struct {
	const char *text;
	bool (*holds)(const char *text);
} patterns[] = {{"(a|b)+", some_of_ab}, {"/.*", a_slash_first}, {".?", at_most_one}};

static struct arena *arena; /* of the input under way */

#define PICK(feed, list) ((list)[feed_byte(feed) % (sizeof(list) / sizeof(*(list)))])

/* ---- making rules and requests ---- */

static struct text_match make_text(struct feed *feed)
{
	struct text_match match = {.rule = (enum text_rule)(feed_byte(feed) % (TEXT_REGEX + 1)), .text = PICK(feed, words)};
	char why[128];

	if (match.rule == TEXT_REGEX) {
		match.text = PICK(feed, patterns).text;
		match.pattern = pattern_compile(arena, match.text, why, sizeof(why));
		CHECK(match.pattern, "%s: %s", match.text, why);
	}
	match.length = strlen(match.text);
	return match;
}

static struct text_matches make_conditions(struct feed *feed, const char *const *from, size_t count)
{
	struct text_matches out = {0};

	for (size_t n = feed_byte(feed) % (MAX_CONDITIONS + 1); n; n--) {
		struct text_match match = make_text(feed);

		match.rule = match.rule == TEXT_ANY ? TEXT_PRESENT : match.rule;
		match.name = from[feed_byte(feed) % count];
		*arena_append(arena, out.items, out.count, out.capacity) = match;
	}
	return out;
}

static struct http_match make_match(struct feed *feed)
{
	static const char *const spaces[] = {"default", "other"};
	uint8_t flags = feed_byte(feed);

	return (struct http_match){
		.uri = make_text(feed), .method = make_text(feed), .authority = make_text(feed), .scheme = make_text(feed),
		.headers = make_conditions(feed, names, sizeof(names) / sizeof(*names)),
		.without = make_conditions(feed, names, sizeof(names) / sizeof(*names)),
		.params = make_conditions(feed, keys, sizeof(keys) / sizeof(*keys)),
		.ignore_case = flags & 1, .never = (flags & 6) == 6, .port = flags & 8 ? (flags & 16 ? 80 : 81) : 0,
		.source_namespace = flags & 32 ? spaces[flags >> 6 & 1] : NULL,
	};
}

struct request {
	const char *method;
	char path[PATH_ROOM];
	size_t header_count;
	struct {
		const char *name, *value;
	} headers[MAX_HEADERS];
	char bytes[1024];
	struct http_head head;
};

static void make_request(struct feed *feed, struct request *out)
{
	static const char *const methods[] = {"GET", "PUT"};
	static const char *const paths[] = {"/", "/a", "/A/b", "/ab?a", "/a?b=1&a=ab", "/?a=&a=1", "/?=a&b", "/a?"};
	static const char *const values[] = {"a", "ab", "", "A", "/a"};
	const char *why = "";
	int n;

	out->method = PICK(feed, methods);
	snprintf(out->path, sizeof(out->path), "%s", PICK(feed, paths));
	n = snprintf(out->bytes, sizeof(out->bytes), "%s %s HTTP/1.1\r\nHost: a.com\r\n", out->method, out->path);
	out->header_count = feed_byte(feed) % (MAX_HEADERS + 1);
	for (size_t i = 0; i < out->header_count; i++) {
		out->headers[i].name = names[feed_byte(feed) % 3];
		out->headers[i].value = PICK(feed, values);
		n += snprintf(out->bytes + n, sizeof(out->bytes) - (size_t)n, "%s: %s\r\n", out->headers[i].name, out->headers[i].value);
	}
	n += snprintf(out->bytes + n, sizeof(out->bytes) - (size_t)n, "\r\n");
	CHECK(http_parse_request(&out->head, out->bytes, (size_t)n, &why) == HTTP_OK, "%s: %s", why, out->bytes);
}

/* ---- the model ---- */

static bool model_text(const struct text_match *match, const char *value, bool ignore_case)
{
	size_t n = strlen(match->text);

	if (match->rule == TEXT_REGEX) {
		for (size_t i = 0; i < sizeof(patterns) / sizeof(*patterns); i++)
			if (!strcmp(patterns[i].text, match->text))
				return patterns[i].holds(value);
	}
	if (match->rule == TEXT_EXACT)
		return ignore_case ? !strcasecmp(value, match->text) : !strcmp(value, match->text);
	if (match->rule == TEXT_PREFIX)
		return ignore_case ? !strncasecmp(value, match->text, n) : !strncmp(value, match->text, n);
	if (match->rule == TEXT_SUFFIX) {
		size_t length = strlen(value);

		return length >= n && (ignore_case ? !strcasecmp(value + length - n, match->text) : !strcmp(value + length - n, match->text));
	}
	return true;
}

static bool model_header(const struct request *request, const char *name, char value[256])
{
	bool found = false;

	value[0] = 0;
	if (!strcmp(name, ":method")) {
		strcpy(value, request->method);
		return true;
	}
	for (size_t i = 0; i < request->header_count; i++) {
		if (strcasecmp(request->headers[i].name, name))
			continue;
		if (found)
			strcat(value, ",");
		strcat(value, request->headers[i].value);
		found = true;
	}
	return found;
}

static bool model_param(const struct request *request, const char *key, char value[256])
{
	char copy[PATH_ROOM], *rest = NULL;
	const char *query = strchr(request->path, '?');

	value[0] = 0;
	if (!query || !query[1])
		return false;
	snprintf(copy, sizeof(copy), "%s", query + 1);
	for (char *item = strtok_r(copy, "&", &rest); item; item = strtok_r(NULL, "&", &rest)) {
		char *equals = strchr(item, '=');

		if (equals)
			*equals = 0;
		if (strcmp(item, key))
			continue;
		strcpy(value, equals ? equals + 1 : "");
		return true;
	}
	return false;
}

static bool model_takes(const struct http_match *match, const struct request *request)
{
	char path[PATH_ROOM], value[256];

	snprintf(path, sizeof(path), "%.*s", (int)strcspn(request->path, "?"), request->path);
	if (!model_text(&match->uri, path, match->ignore_case) || !model_text(&match->method, request->method, false) ||
	    !model_text(&match->authority, "a.com", false) || !model_text(&match->scheme, "http", false))
		return false;
	for (size_t i = 0; i < match->headers.count; i++)
		if (!model_header(request, match->headers.items[i].name, value) || !model_text(&match->headers.items[i], value, false))
			return false;
	for (size_t i = 0; i < match->without.count; i++) {
		bool there = model_header(request, match->without.items[i].name, value);

		if (match->without.items[i].rule == TEXT_PRESENT ? there : model_text(&match->without.items[i], value, false))
			return false;
	}
	for (size_t i = 0; i < match->params.count; i++)
		if (!model_param(request, match->params.items[i].name, value) || !model_text(&match->params.items[i], value, false))
			return false;
	return true;
}

/* The rule's index; -1: none; -2: none is for default/web on port 80. */
static int model_route(const struct http_route *rules, size_t count, const struct request *request)
{
	int otherwise = -2;

	for (size_t i = 0; i < count; i++) {
		if (!rules[i].match_count)
			return (int)i;
		for (size_t k = 0; k < rules[i].match_count; k++) {
			const struct http_match *match = &rules[i].matches[k];

			if (match->never || match->port == 81 || (match->source_namespace && strcmp(match->source_namespace, "default")))
				continue;
			otherwise = -1;
			if (model_takes(match, request))
				return (int)i;
		}
	}
	return otherwise;
}

static void check_routes(struct feed *feed)
{
	const struct workload_identity who = {"default", "web", NULL, 0};
	struct service_route routes[MAX_RULES];
	struct http_route rules[MAX_RULES] = {0};
	struct service service = {.routes = routes};
	const struct service_route *found = NULL;
	static struct request request;
	enum route_result result;
	const struct http_match *match;
	int index;

	service.route_count = 1 + feed_byte(feed) % MAX_RULES;
	for (size_t i = 0; i < service.route_count; i++) {
		routes[i] = (struct service_route){.rule = &rules[i]};
		for (size_t n = feed_byte(feed) % (MAX_MATCHES + 1); n; n--)
			*arena_append(arena, rules[i].matches, rules[i].match_count, rules[i].match_capacity) = make_match(feed);
	}
	make_request(feed, &request);
	result = http_route_find(&service, &request.head, &who, 80, &found, &match);
	index = result == ROUTE_FOUND ? (int)(found - routes) : result == ROUTE_NONE ? -1 : -2;
	CHECK(index == model_route(rules, service.route_count, &request), "rule %d, the model says %d: %s", index,
	      model_route(rules, service.route_count, &request), request.bytes);
	if (result == ROUTE_FOUND)
		CHECK(http_matched_path(match, &request.head) <= request.head.path.n, "%zu bytes of %s", http_matched_path(match, &request.head),
		      request.path);
}

/* ---- paths ---- */

/* How many dots a segment is, 0 if it is something else. */
static int model_dots(const char *segment)
{
	char plain[PATH_ROOM];
	size_t n = 0;

	for (const char *c = segment; *c; c++) {
		bool escaped = !strncasecmp(c, "%2e", 3);

		plain[n++] = escaped ? '.' : *c;
		c += escaped ? 2 : 0;
	}
	plain[n] = 0;
	return !strcmp(plain, ".") ? 1 : !strcmp(plain, "..") ? 2 : 0;
}

static void model_path(const char *path, char *out)
{
	char copy[PATH_ROOM], *stack[SEGMENTS], *at = copy + 1, *end;
	size_t depth = 0, n = strcspn(path, "?");

	snprintf(copy, sizeof(copy), "%.*s", (int)n, path);
	for (;; at = end + 1) {
		bool last;

		end = at + strcspn(at, "/\\");
		last = !*end;
		*end = 0;
		if (!model_dots(at))
			stack[depth++] = at;
		else if (model_dots(at) == 2 && depth)
			depth--;
		if (last && model_dots(at))
			stack[depth++] = end; /* empty: the path ends with a slash */
		if (last)
			break;
	}
	out[0] = 0;
	for (size_t i = 0; i < depth; i++) {
		strcat(out, "/");
		strcat(out, stack[i]);
	}
	strcat(out, path + n);
}

static void check_path(struct feed *feed)
{
	static const char *const parts[] = {"/", "\\", ".", "..", "%2e", "%2E", "a", "%", "?", "b", "/../", "/./"};
	char path[PATH_ROOM] = "/", wanted[2 * PATH_ROOM];
	size_t n;

	while (strlen(path) + 5 < sizeof(path) && feed->n)
		strcat(path, PICK(feed, parts));
	model_path(path, wanted);
	n = http_normalize_path(path, strlen(path));
	CHECK(n == strlen(wanted) && !memcmp(path, wanted, n), "%.*s, the model says %s", (int)n, path, wanted);
	CHECK(http_normalize_path(path, n) == n && !memcmp(path, wanted, n), "a second time: %s", wanted);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct feed feed = {data, size};

	arena = arena_new();
	if (feed_byte(&feed) & 1)
		check_path(&feed);
	else
		check_routes(&feed);
	arena_free(arena);
	return 0;
}
