// SPDX-License-Identifier: Apache-2.0
/* Scalars as Kubernetes types them (YAML 1.1 plain scalars), and the values that several kinds share. */
#include <ctype.h>
#include <errno.h>
#include <string.h>

#include "addr.h"
#include "config/reader.h"
#include "config/walk.h"

#define MAX_LABELS 256

static bool is_boolean(const char *text)
{
	static const char *const words[] = {"y", "n", "yes", "no", "true", "false", "on", "off"};

	for (size_t i = 0; i < ARRAY_SIZE(words); i++) {
		if (!strcasecmp(text, words[i]))
			return true;
	}
	return false;
}

static bool is_decimal(const char *text)
{
	const char *digits = text + (*text == '-');

	return *digits && digits[strspn(digits, "0123456789")] == 0;
}

static bool is_real(const char *text)
{
	const char *p = text + strspn(text, "+-");
	size_t digits = strspn(p, "0123456789_");

	if (p - text > 1)
		return false;
	p += digits;
	if (*p == '.') {
		size_t fraction = strspn(p + 1, "0123456789_");

		digits += fraction;
		p += 1 + fraction;
	}
	if (!digits || text[strspn(text, "+-_.")] == 0)
		return false;
	if (*p == 'e' || *p == 'E') {
		p += 1 + strspn(p + 1, "+-");
		if (!isdigit((unsigned char)*p))
			return false;
		p += strspn(p, "0123456789");
	}
	return *p == 0;
}

static bool is_number(const char *text)
{
	const char *p = text + strspn(text, "+-");

	if (!strcasecmp(p, ".inf") || !strcasecmp(p, ".nan"))
		return true;
	if (p[0] == '0' && p[1] && strchr("xob", p[1]) && p[2])
		return p[2 + strspn(p + 2, "0123456789abcdefABCDEF_")] == 0;
	return is_real(text);
}

static bool is_scalar(struct walk *walk, const struct node *node, const char *wanted)
{
	if (node->type == NODE_SCALAR)
		return true;
	walk_error(walk, node, "is %s; %s is wanted", node_shown(walk, node), wanted);
	return false;
}

bool walk_text(struct walk *walk, const struct node *node, const char **out)
{
	if (!is_scalar(walk, node, "a string"))
		return false;
	if (node->plain && (is_boolean(node->text) || is_number(node->text))) {
		walk_error(walk, node, "%.64s is a %s here; a string is wanted: \"%.64s\" with quotes", node->text,
			   is_boolean(node->text) ? "boolean" : "number", node->text);
		return false;
	}
	*out = node->text;
	return true;
}

bool walk_integer(struct walk *walk, const struct node *node, int64_t low, int64_t high, int64_t *out)
{
	long long value;

	if (!is_scalar(walk, node, "a number"))
		return false;
	if (!node->plain && is_decimal(node->text)) {
		walk_error(walk, node, "\"%.64s\" is a string; a number is wanted: remove the quotes", node->text);
		return false;
	}
	if (!is_decimal(node->text) || (node->text[0] == '0' && node->text[1])) {
		walk_error(walk, node, "%s is not a decimal number", node_shown(walk, node));
		return false;
	}
	errno = 0;
	value = strtoll(node->text, NULL, 10);
	if (errno || value < low || value > high) {
		walk_error(walk, node, "%.64s is not within %lld to %lld", node->text, (long long)low, (long long)high);
		return false;
	}
	*out = value;
	return true;
}

bool walk_number(struct walk *walk, const struct node *node, double *out)
{
	if (!is_scalar(walk, node, "a number"))
		return false;
	if (!node->plain || !is_real(node->text) || strchr(node->text, '_')) {
		walk_error(walk, node, "%s is not a number", node_shown(walk, node));
		return false;
	}
	*out = strtod(node->text, NULL);
	return true;
}

bool walk_choice(struct walk *walk, const struct node *node, const char *what, const struct choice *choices, size_t count,
		 int *out)
{
	const char *text = node->text, *names = "", *separator = "";

	/* Quotes would not make a choice of what is a number or a boolean: the choices are named for that too. */
	if (!is_scalar(walk, node, "a string"))
		return false;
	for (size_t i = 0; i < count; i++) {
		if (choices[i].value < 0 && !strcmp(choices[i].name, text)) {
			walk_error(walk, node, "\"%s\" " NOT_IMPLEMENTED, text);
			return false;
		}
		if (!strcmp(choices[i].name, text)) {
			*out = choices[i].value;
			return true;
		}
		if (choices[i].value >= 0) {
			names = arena_printf(walk->config->arena, "%s%s%s", names, separator, choices[i].name);
			separator = ", ";
		}
	}
	walk_error(walk, node, "%s is not %s (%s)", node_shown(walk, node), what, names);
	return false;
}

void read_string(struct walk *walk, const struct node *node, void *string)
{
	const char *text;

	if (walk_text(walk, node, &text))
		*(const char **)string = arena_strdup(walk->config->arena, text);
}

void read_string_or_none(struct walk *walk, const struct node *node, void *string)
{
	const char *text;

	if (walk_text(walk, node, &text) && *text)
		*(const char **)string = arena_strdup(walk->config->arena, text);
}

/* RFC 1123: letters, digits and inner hyphens, at most 63. */
bool is_label(const char *text, size_t length)
{
	if (!length || length > 63 || text[0] == '-' || text[length - 1] == '-')
		return false;
	for (size_t i = 0; i < length; i++) {
		if (!isalnum((unsigned char)text[i]) && text[i] != '-')
			return false;
	}
	return true;
}

void read_string_item(struct walk *walk, const struct node *node, void *out)
{
	struct string_list *list = out;
	const char *text;

	if (walk_text(walk, node, &text))
		*arena_append(walk->config->arena, list->items, list->count, list->capacity) = arena_strdup(walk->config->arena, text);
}

void read_label_name(struct walk *walk, const struct node *node, void *string)
{
	const char *text;

	if (!walk_text(walk, node, &text))
		return;
	if (!is_label(text, strlen(text)))
		walk_error(walk, node, "%s is not a name: letters, digits and inner hyphens, at most 63",
			   node_shown(walk, node));
	else
		*(const char **)string = arena_strdup(walk->config->arena, text);
}

void read_label_or_none(struct walk *walk, const struct node *node, void *string)
{
	if (node->type != NODE_SCALAR || node->plain || *node->text)
		read_label_name(walk, node, string);
}

void read_object_name(struct walk *walk, const struct node *node, void *string)
{
	static const char allowed[] = "abcdefghijklmnopqrstuvwxyz0123456789-.";
	const char *text;
	size_t n;

	if (!walk_text(walk, node, &text))
		return;
	n = strlen(text);
	if (!n || n > 253 || text[strspn(text, allowed)] || strchr("-.", text[0]) || strchr("-.", text[n - 1]))
		walk_error(walk, node, "%s is not an object's name: lower-case letters, digits, inner '-' and '.', at most 253",
			   node_shown(walk, node));
	else
		*(const char **)string = arena_strdup(walk->config->arena, text);
}

void read_port_number(struct walk *walk, const struct node *node, void *number)
{
	int64_t value;

	if (walk_integer(walk, node, 1, 65535, &value))
		*(uint16_t *)number = (uint16_t)value;
}

void read_port_or_none(struct walk *walk, const struct node *node, void *number)
{
	int64_t value;

	if (walk_integer(walk, node, 0, 65535, &value))
		*(uint16_t *)number = (uint16_t)value;
}

void read_port_item(struct walk *walk, const struct node *node, void *list)
{
	struct port_list *ports = list;
	uint16_t port = 0;

	read_port_number(walk, node, &port);
	if (port)
		*arena_append(walk->config->arena, ports->items, ports->count, ports->capacity) = port;
}

static void append_cidr(struct walk *walk, struct cidr_list *list, const struct cidr *cidr)
{
	*arena_append(walk->config->arena, list->items, list->count, list->capacity) = *cidr;
}

/*
 * A short IPv6 prefix such as ::/0 covers ::ffff:0:0/96, where our canonical form keeps IPv4: it becomes the
 * prefixes beside the path to that one, so that IPv6 never speaks for IPv4.
 */
static void append_without_ipv4(struct walk *walk, struct cidr_list *list, const struct cidr *cidr)
{
	static const uint8_t zero[4];
	uint8_t mapped[16];

	addr_from_v4(mapped, zero);
	for (unsigned int bit = cidr->bits; bit < 96; bit++) {
		struct cidr beside = {.bits = (uint8_t)(bit + 1), .at = cidr->at};

		for (unsigned int i = 0; i < bit; i++)
			beside.addr[i / 8] |= mapped[i / 8] & (0x80 >> i % 8);
		beside.addr[bit / 8] |= ~mapped[bit / 8] & (0x80 >> bit % 8);
		append_cidr(walk, list, &beside);
	}
}

static bool covers_ipv4(const struct cidr *cidr)
{
	static const uint8_t zero[4];
	uint8_t mapped[16];

	addr_from_v4(mapped, zero);
	if (cidr->bits >= 96)
		return false;
	for (unsigned int i = 0; i < cidr->bits; i++) {
		if ((cidr->addr[i / 8] ^ mapped[i / 8]) & (0x80 >> i % 8))
			return false;
	}
	return true;
}

void read_cidr_item(struct walk *walk, const struct node *node, void *list)
{
	char canonical[SLUICE_PREFIX_TEXT];
	struct cidr cidr = {.at = walk_position(walk, node)};
	uint8_t address[16];
	const char *text;

	if (!walk_text(walk, node, &text))
		return;
	if (parse_cidr(&cidr, text)) {
		walk_error(walk, node, "%s is not an address or CIDR, as in 192.0.2.0/24 or 2001:db8::/32",
			   node_shown(walk, node));
		return;
	}
	if (parse_address(address, arena_strndup(walk->config->arena, text, strcspn(text, "/"))) ||
	    memcmp(address, cidr.addr, sizeof(address)))
		walk_warning(walk, node, "%s has bits set beyond its prefix; taken as %s", node_shown(walk, node),
			     format_cidr(canonical, cidr.addr, cidr.bits));
	if (covers_ipv4(&cidr))
		append_without_ipv4(walk, list, &cidr);
	else
		append_cidr(walk, list, &cidr);
}

void read_address_item(struct walk *walk, const struct node *node, void *list)
{
	struct cidr cidr = {.bits = 128, .at = walk_position(walk, node)};
	const char *text;

	if (!walk_text(walk, node, &text))
		return;
	if (parse_address(cidr.addr, text))
		walk_error(walk, node, "%s is not an IP address", node_shown(walk, node));
	else
		append_cidr(walk, list, &cidr);
}

const char *domain_fault(const char *text)
{
	size_t total = strlen(text), length;
	const char *label = text;

	if (!total)
		return "must not be empty";
	if (total > 255)
		return "is longer than 255 characters";
	if (strpbrk(text, ":/"))
		return "is not a domain name: a host stands alone, without scheme, port and path";
	do {
		length = strcspn(label, ".");
		if (!is_label(label, length))
			return "is not a domain name: labels of letters, digits and inner hyphens, at most 63 each";
		label += length;
		if (*label == '.')
			label++;
	} while (*label);
	label -= label[-1] == '.';
	if (strspn(label - length, "0123456789") == length)
		return "is not a domain name: its last label is a number";
	return NULL;
}

bool host_covers(const char *wildcard, const char *host)
{
	size_t suffix, length = strlen(host);

	if (!strcmp(wildcard, host))
		return true;
	if (wildcard[0] != '*')
		return false;
	suffix = strlen(wildcard + 1);
	return length > suffix && !strcmp(host + length - suffix, wildcard + 1);
}

/* What Istio shows as SNI between the gateways of its networks: outbound_.PORT_.SUBSET_.HOST. */
static bool is_generated_name(const char *text)
{
	const char *port = strchr(text, '_'), *subset = port ? strchr(port + 1, '_') : NULL, *host = subset ? strchr(subset + 1, '_') : NULL;

	return !strncmp(text, "outbound_", strlen("outbound_")) && host && strlen(text) <= 255 &&
	       strcspn(port, "0123456789") < (size_t)(subset - port) && host[strcspn(host, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")];
}

static const char *host_fault(const char *text, enum host_form form)
{
	uint8_t address[16];

	if (form == HOST_OF_GATEWAY && is_generated_name(text))
		return NULL;
	if (form == HOST_EXACT || text[0] != '*')
		return form >= HOST_WILDCARD_OR_ADDRESS && !parse_address(address, text) ? NULL : domain_fault(text);
	if (!text[1] && form >= HOST_ANY)
		return NULL;
	if (!text[1])
		return "would stand for every host; name a domain, as in \"*.example.com\"";
	if (text[1] != '.')
		return domain_fault(text + 1 + (text[1] == '-')); /* partial: "*foo.com", "*-foo.com" */
	return domain_fault(text + 2);
}

bool read_host(struct walk *walk, const struct node *node, enum host_form form, const char **out)
{
	const char *text, *fault;
	size_t length;
	char *host;

	if (!walk_text(walk, node, &text))
		return false;
	fault = host_fault(text, form);
	if (fault) {
		walk_error(walk, node, "%s %s", node_shown(walk, node), fault);
		return false;
	}
	host = arena_strdup(walk->config->arena, text);
	length = strlen(host);
	if (host[length - 1] == '.')
		host[length - 1] = 0;
	for (char *p = host; *p; p++)
		*p = (char)tolower((unsigned char)*p);
	*out = host;
	return true;
}

/* A label's value, or the part of its key behind the '/': as names, with '_' and '.' inside; the value may be empty. */
static bool is_label_part(const char *text)
{
	size_t n = strlen(text);

	if (n > 63 || (n && (!isalnum((unsigned char)text[0]) || !isalnum((unsigned char)text[n - 1]))))
		return false;
	for (size_t i = 0; i < n; i++) {
		if (!isalnum((unsigned char)text[i]) && !strchr("-_.", text[i]))
			return false;
	}
	return true;
}

static bool is_label_key(const char *text)
{
	const char *slash = strchr(text, '/'), *name = slash ? slash + 1 : text;
	char prefix[254];

	if (!*name || !is_label_part(name))
		return false;
	if (!slash)
		return true;
	if (snprintf(prefix, sizeof(prefix), "%.*s", (int)(slash - text), text) >= (int)sizeof(prefix))
		return false;
	return !domain_fault(prefix);
}

static int by_label_key(const void *a, const void *b)
{
	return strcmp(((const struct label *)a)->key, ((const struct label *)b)->key);
}

void walk_labels(struct walk *walk, const struct node *node, void *label_list)
{
	struct label_list *list = label_list;

	if (node->type != NODE_MAPPING || node->count / 2 > MAX_LABELS) {
		walk_error(walk, node, "must be a mapping of at most %d labels", MAX_LABELS);
		return;
	}
	for (size_t i = 0; i < node->count; i += 2) {
		const struct node *key = node->items[i], *value = node->items[i + 1];
		size_t state = walk_enter_key(walk, key);
		const char *text = "";

		if (!is_label_key(key->text)) {
			walk_error(walk, key, "%s is not a label's name", node_shown(walk, key));
		} else if (node_is_null(value) || walk_text(walk, value, &text)) {
			if (strchr(text, '*') || !is_label_part(text))
				walk_error(walk, value, "%s is not a label's value", node_shown(walk, value));
			else
				*arena_append(walk->config->arena, list->items, list->count, list->capacity) =
					(struct label){arena_strdup(walk->config->arena, key->text),
						       arena_strdup(walk->config->arena, text)};
		}
		walk_leave(walk, state);
	}
	if (list->count)
		qsort(list->items, list->count, sizeof(*list->items), by_label_key);
}

#define HOUR_MS (3600ULL * 1000)
#define MAX_DURATION_MS (87600 * HOUR_MS) /* ten years: sums of two are far from the end of 64 bits, in nanoseconds too */

static uint64_t unit_nanoseconds(const char **text)
{
	static const struct {
		const char *name;
		uint64_t ns;
	} units[] = {{"ns", 1}, {"us", 1000}, {"µs", 1000}, {"ms", 1000000}, {"s", 1000000000},
		     {"m", 60000000000}, {"h", 3600000000000}};

	for (size_t i = 0; i < ARRAY_SIZE(units); i++) {
		size_t n = strlen(units[i].name);

		if (!strncmp(*text, units[i].name, n)) {
			*text += n;
			return units[i].ns;
		}
	}
	return 0;
}

/* "1.5" of "1.5s" as a number of thousand-millionths; NULL when there is none. */
static const char *parse_decimal_part(const char *text, uint64_t *whole, uint64_t *billionths)
{
	size_t digits = strspn(text, "0123456789"), fraction = 0;
	uint64_t scale = 100000000;

	*whole = *billionths = 0;
	if (digits > 18)
		return NULL;
	for (size_t i = 0; i < digits; i++)
		*whole = *whole * 10 + (uint64_t)(text[i] - '0');
	text += digits;
	if (*text == '.') {
		fraction = strspn(++text, "0123456789");
		for (size_t i = 0; i < fraction; i++, scale /= 10)
			*billionths += (uint64_t)(text[i] - '0') * scale;
		text += fraction;
	}
	return digits || fraction ? text : NULL;
}

/* Go's notation, as protobuf durations in Istio: "5s", "1.5s", "1h2m". Whole milliseconds. 0 or -EINVAL. */
static int parse_duration(uint64_t *out, const char *text)
{
	uint64_t total = 0;

	text += *text == '+';
	if (!*text)
		return -EINVAL;
	while (*text) {
		uint64_t whole, billionths, unit;

		text = parse_decimal_part(text, &whole, &billionths);
		unit = text ? unit_nanoseconds(&text) : 0;
		if (!unit || whole > MAX_DURATION_MS * 1000000 / unit)
			return -EINVAL;
		total += whole * unit + (uint64_t)((__uint128_t)billionths * unit / 1000000000);
		if (total > MAX_DURATION_MS * 1000000)
			return -EINVAL;
	}
	if (total % 1000000)
		return -EINVAL;
	*out = total / 1000000;
	return 0;
}

static void read_duration(struct walk *walk, const struct node *node, uint64_t low_ms, uint64_t high_ms, uint64_t *out)
{
	uint64_t ms;

	/* Of a number too: what it lacks is a unit, not quotes. */
	if (!is_scalar(walk, node, "a string"))
		return;
	if (parse_duration(&ms, node->text) || ms < low_ms || ms > high_ms)
		walk_error(walk, node, "%s is not a duration of whole milliseconds from %s to %lluh, as in 5s or 1.5s",
			   node_shown(walk, node), low_ms ? "1ms" : "0s", (unsigned long long)(high_ms / HOUR_MS));
	else
		*out = ms;
}

void walk_duration(struct walk *walk, const struct node *node, void *out)
{
	read_duration(walk, node, 1, MAX_DURATION_MS, out);
}

void walk_duration_or_zero(struct walk *walk, const struct node *node, void *out)
{
	read_duration(walk, node, 0, MAX_DURATION_MS, out);
}

void walk_duration_of_day(struct walk *walk, const struct node *node, void *out)
{
	read_duration(walk, node, 0, 24 * HOUR_MS, out);
}
