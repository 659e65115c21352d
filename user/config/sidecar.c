// SPDX-License-Identifier: Apache-2.0
/*
 * Sidecar: fields and rules of ISTIO.md §1.2, §3.5. It says the mode of the workloads it selects; what is for inbound
 * traffic is checked and has no effect here.
 */
#include <ctype.h>
#include <stddef.h>
#include <string.h>
#include <strings.h>

#include "config/reader.h"
#include "config/walk.h"

#define MAX_LISTENERS 256
#define MAX_HOSTS 4096
#define MAX_COMPARED 256 /* imports of a listener: each is compared with those before it */

enum capture { CAPTURE_DEFAULT, CAPTURE_IPTABLES, CAPTURE_NONE };

struct listener_port {
	int64_t number; /* 0: of a unix socket; -1: no port */
	const char *protocol, *name;
};

struct imports {
	const struct object *object; /* the Sidecar */
	struct import_listener *listener;
};

struct listener {
	struct listener_port port;
	const char *bind, *endpoint;
	int capture;
	bool has_tls, has_http_pool;
};

static const char *lower_case(struct arena *arena, const char *text)
{
	char *out = arena_strdup(arena, text);

	for (char *c = out; *c; c++)
		*c = (char)tolower((unsigned char)*c);
	return out;
}

/* ---- ports ---- */

static void read_number(struct walk *walk, const struct node *node, void *out)
{
	walk_integer(walk, node, 0, UINT16_MAX, out);
}

static void read_protocol(struct walk *walk, const struct node *node, void *out)
{
	static const char *const protocols[] = {"HTTP", "HTTPS", "TLS", "TCP", "UDP", "HTTP2", "GRPC", "GRPC-Web", "HTTP_PROXY",
						"Mongo", "Redis", "MySQL", "HBONE"};
	const char *text;

	if (!walk_text(walk, node, &text))
		return;
	for (size_t i = 0; i < ARRAY_SIZE(protocols); i++) {
		if (!*text || !strcasecmp(text, protocols[i])) {
			*(const char **)out = protocols[i];
			return;
		}
	}
	walk_error(walk, node, "%s is no protocol that Istio knows", node_shown(walk, node));
}

/* Istio's port of a gateway has it, and it is shared. */
static void refuse_target_port(struct walk *walk, const struct node *node, void *out)
{
	int64_t value;

	(void)out;
	if (walk_integer(walk, node, 0, UINT32_MAX, &value) && value)
		walk_error(walk, node, "has no effect in a Sidecar; remove it");
}

static void read_port(struct walk *walk, const struct node *node, void *out)
{
	static const struct field fields[] = {
		{"targetPort", refuse_target_port, 0, FIELD_OPTIONAL},
		{"number", read_number, offsetof(struct listener_port, number), FIELD_OPTIONAL},
		{"protocol", read_protocol, offsetof(struct listener_port, protocol), FIELD_OPTIONAL},
		{"name", read_string, offsetof(struct listener_port, name), FIELD_OPTIONAL},
	};
	struct listener_port *port = out;

	port->number = 0;
	if (!walk_mapping(walk, node, fields, ARRAY_SIZE(fields), port))
		return;
	if (port->name && *port->name && !is_label(port->name, strlen(port->name)))
		walk_error(walk, node_field(node, "name"), "%s is not a label: letters, digits and inner hyphens, at most 63",
			   node_shown(walk, node_field(node, "name")));
}

static bool is_unix(const char *bind)
{
	return bind && !strncmp(bind, "unix://", strlen("unix://"));
}

/* A name of Linux' own (with @), or a path from / on of something that is no folder. */
static bool is_unix_socket(const char *bind)
{
	const char *path = bind + strlen("unix://");

	return path[0] == '@' || (path[0] == '/' && path[strlen(path) - 1] != '/');
}

/* `inbound`: a unix socket cannot be listened at there. */
static void check_listener(struct walk *walk, const struct node *node, const struct listener *listener, bool inbound)
{
	uint8_t unused[16];

	if (!listener->port.number && (inbound || !is_unix(listener->bind))) {
		walk_error(walk, node, "port 0 is not within 1 to 65535%s", inbound ? "" : "; without a port bind must be unix://PATH");
	} else if (!listener->port.number) {
		if (!is_unix_socket(listener->bind))
			walk_error(walk, node, "bind \"%.64s\" is neither unix:///PATH nor unix://@NAME", listener->bind);
		if (listener->capture == CAPTURE_IPTABLES)
			walk_error(walk, node, "has captureMode IPTABLES, but a unix socket cannot be captured");
	} else if (listener->bind && *listener->bind && parse_address(unused, listener->bind)) {
		walk_error(walk, node, "bind \"%.64s\" is not an IP address", listener->bind);
	}
}

static void check_unique(struct walk *walk, const struct node *list, size_t index, const struct listener *listeners)
{
	for (size_t i = 0; i < index && listeners[index].port.number > 0; i++) {
		if (listeners[i].port.number != listeners[index].port.number)
			continue;
		walk_error(walk, list->items[index], "port %lld is that of item %zu too", (long long)listeners[index].port.number, i);
		return;
	}
	for (size_t i = 0; i < index && !listeners[index].port.number && is_unix(listeners[index].bind); i++)
		if (!listeners[i].port.number && is_unix(listeners[i].bind) && !strcmp(listeners[i].bind, listeners[index].bind))
			walk_error(walk, list->items[index], "bind \"%.64s\" is that of item %zu too", listeners[index].bind, i);
}

static void read_capture(struct walk *walk, const struct node *node, void *out)
{
	static const struct choice choices[] = {{"DEFAULT", CAPTURE_DEFAULT}, {"IPTABLES", CAPTURE_IPTABLES}, {"NONE", CAPTURE_NONE}};

	walk_choice(walk, node, "a capture mode", choices, ARRAY_SIZE(choices), out);
}

/* ---- egress ---- */

/* NAMESPACE/DNS: a name, "*" or "."; "~" before it excludes, and stands for all namespaces where there is none. */
static void read_imported(struct walk *walk, const struct node *node, void *out)
{
	struct imports *imports = out;
	struct import import = {.namespace_ = "*", .host = "*"};
	struct import_listener *listener = imports->listener;
	const char *text, *slash, *dns, *fault;
	bool is_any;
	size_t n;

	if (!walk_text(walk, node, &text))
		return;
	slash = strchr(text, '/');
	if (!slash) {
		walk_error(walk, node, "%s is not NAMESPACE/DNS, such as */*, ./api.example.com or prod/*.example.com",
			   node_shown(walk, node));
		return;
	}
	import.excludes = *text == '~';
	text += import.excludes;
	n = (size_t)(slash - text);
	is_any = n == 1 && (*text == '*' || *text == '.');
	if (n ? !is_any && !is_label(text, n) : !import.excludes)
		walk_error(walk, node, "%s has a namespace that is not one: a name, \"*\", \".\" or \"~\"", node_shown(walk, node));
	else if (n == 1 && *text == '.')
		import.namespace_ = imports->object->namespace_;
	else if (n)
		import.namespace_ = arena_strndup(walk->config->arena, text, n);
	dns = slash + 1;
	if (strcmp(dns, "*"))
		import.host = lower_case(walk->config->arena, dns);
	*arena_append(walk->config->arena, listener->imports, listener->import_count, listener->import_capacity) = import;
	if (!strcmp(dns, "*"))
		return;
	fault = !strncmp(dns, "*.", 2) ? domain_fault(dns + 2) : !strchr(dns, '.') ? "is a short name: give the whole one" : domain_fault(dns);
	if (fault)
		walk_error(walk, node, "%s %s", node_shown(walk, node), fault);
}

static bool is_all(const struct import *import)
{
	return !strcmp(import->namespace_, "*") && !strcmp(import->host, "*");
}

/* What another item of the same namespace says already; and beside one for everything there is nothing left to say. */
static void warn_repeated(struct walk *walk, const struct node *node, const struct import_listener *listener)
{
	bool has_all = false;

	if (listener->import_count != node->count || node->count > MAX_COMPARED)
		return;
	for (size_t i = 0; i < node->count; i++) {
		const struct import *import = &listener->imports[i];
		size_t state = walk_enter_item(walk, i), k = 0;

		has_all |= !import->excludes && is_all(import);
		while (k < i && (listener->imports[k].excludes != import->excludes || strcmp(listener->imports[k].namespace_, import->namespace_) ||
				 (strcmp(listener->imports[k].host, "*") && strcmp(import->host, "*") && strcmp(listener->imports[k].host, import->host))))
			k++;
		if (k < i)
			walk_warning(walk, node->items[i], "%s says what item %zu says, or the reverse", node_shown(walk, node->items[i]), k);
		walk_leave(walk, state);
	}
	for (size_t i = 0; has_all && i < node->count; i++)
		if (!listener->imports[i].excludes && strcmp(listener->imports[i].namespace_, "*")) {
			walk_warning(walk, node, "has \"*/*\", which imports everything: the others add nothing");
			return;
		}
}

static void read_imports(struct walk *walk, const struct node *node, void *out)
{
	walk_list(walk, node, MAX_HOSTS, read_imported, out);
	if (node->type == NODE_SEQUENCE)
		warn_repeated(walk, node, ((struct imports *)out)->listener);
}

/* What a listener of its own would hear: sluice opens none, and its services are reached where they are. */
static void warn_bound(struct walk *walk, const struct node *node, const struct listener *listener)
{
	if ((listener->bind && *listener->bind) || listener->capture == CAPTURE_NONE)
		walk_warning(walk, node, "%s has no effect here: no listener is opened there, workloads dial the services themselves",
			     listener->bind && *listener->bind ? "bind" : "captureMode NONE");
}

static void read_egress(struct walk *walk, const struct node *node, void *out)
{
	struct sidecar *sidecar = out;
	struct listener *listeners;

	if (node->type != NODE_SEQUENCE || node->count > MAX_LISTENERS) {
		walk_error(walk, node, "must be a list of at most %d listeners", MAX_LISTENERS);
		return;
	}
	listeners = arena_alloc(walk->config->arena, node->count + 1, sizeof(*listeners));
	for (size_t i = 0; i < node->count; i++) {
		static const struct field fields[] = {
			{"port", read_port, offsetof(struct listener, port), FIELD_OPTIONAL},
			{"bind", read_string, offsetof(struct listener, bind), FIELD_OPTIONAL},
			{"captureMode", read_capture, offsetof(struct listener, capture), FIELD_OPTIONAL},
			{"hosts", NULL, 0, FIELD_IGNORED}, /* of the Sidecar: below */
		};
		const struct node *item = node->items[i], *hosts = node_field(item, "hosts");
		size_t state = walk_enter_item(walk, i), inner;
		struct import_listener imported = {0};
		struct imports imports = {&sidecar->object, &imported};

		listeners[i].port.number = -1;
		if (walk_mapping(walk, item, fields, ARRAY_SIZE(fields), &listeners[i])) {
			inner = walk_enter(walk, "hosts");
			if (!hosts || (hosts->type == NODE_SEQUENCE && !hosts->count))
				walk_error(walk, hosts ? hosts : item, "must name what is imported, such as \"*/*\"");
			else
				read_imports(walk, hosts, &imports);
			walk_leave(walk, inner);
			if (listeners[i].port.number < 0 && i + 1 < node->count)
				walk_error(walk, item, "has no port: only the last listener can be for all the others");
			if (listeners[i].port.number >= 0)
				check_listener(walk, item, &listeners[i], false);
			check_unique(walk, node, i, listeners);
			warn_bound(walk, item, &listeners[i]);
			imported.port = (uint16_t)(listeners[i].port.number > 0 ? listeners[i].port.number : 0);
			if (listeners[i].port.number) /* not a Unix socket */
				*arena_append(walk->config->arena, sidecar->listeners, sidecar->listener_count, sidecar->listener_capacity) = imported;
		}
		walk_leave(walk, state);
	}
}

/* ---- ingress: no effect here ---- */

static bool is_endpoint(const char *text)
{
	static const char *const hosts[] = {":", "127.0.0.1:", "0.0.0.0:", "[::1]:", "[::]:"};
	uint16_t port;

	if (!*text)
		return true;
	if (is_unix(text))
		return is_unix_socket(text);
	for (size_t i = 0; i < ARRAY_SIZE(hosts); i++)
		if (!strncmp(text, hosts[i], strlen(hosts[i])))
			return !parse_port(&port, text + strlen(hosts[i]));
	return false;
}

static void read_endpoint(struct walk *walk, const struct node *node, void *out)
{
	const char *text;

	(void)out;
	if (walk_text(walk, node, &text) && !is_endpoint(text))
		walk_error(walk, node, "%s is not 127.0.0.1:PORT, 0.0.0.0:PORT, [::1]:PORT, [::]:PORT or unix://PATH",
			   node_shown(walk, node));
}

/* Istio's, case apart. */
static bool is_http(const char *protocol)
{
	return protocol && (!strncmp(protocol, "HTTP", 4) || !strncmp(protocol, "GRPC", 4)) && strcmp(protocol, "HTTPS");
}

static void read_ingress(struct walk *walk, const struct node *node, void *out)
{
	struct listener *listeners;

	(void)out;
	if (node->type != NODE_SEQUENCE || node->count > MAX_LISTENERS) {
		walk_error(walk, node, "must be a list of at most %d listeners", MAX_LISTENERS);
		return;
	}
	listeners = arena_alloc(walk->config->arena, node->count + 1, sizeof(*listeners));
	for (size_t i = 0; i < node->count; i++) {
		static const struct field fields[] = {
			{"port", read_port, offsetof(struct listener, port), FIELD_REQUIRED},
			{"bind", read_string, offsetof(struct listener, bind), FIELD_OPTIONAL},
			{"captureMode", read_capture, offsetof(struct listener, capture), FIELD_OPTIONAL},
			{"defaultEndpoint", read_endpoint, 0, FIELD_OPTIONAL},
			{"tls", check_server_tls, offsetof(struct listener, has_tls), FIELD_OPTIONAL},
			{"connectionPool", check_inbound_pool, offsetof(struct listener, has_http_pool), FIELD_OPTIONAL},
		};
		size_t state = walk_enter_item(walk, i);
		const char *protocol;

		if (walk_mapping(walk, node->items[i], fields, ARRAY_SIZE(fields), &listeners[i])) {
			check_listener(walk, node->items[i], &listeners[i], true);
			check_unique(walk, node, i, listeners);
			protocol = listeners[i].port.protocol;
			if (listeners[i].has_tls && (!protocol || (strcmp(protocol, "HTTPS") && strcmp(protocol, "TLS"))))
				walk_error(walk, node->items[i], "has tls, but its port is neither HTTPS nor TLS");
			if (listeners[i].has_http_pool && !is_http(protocol))
				walk_warning(walk, node->items[i], "has connectionPool.http, but its port is not HTTP");
		}
		walk_leave(walk, state);
	}
	walk_warning(walk, node, "has no effect here: it is for inbound traffic");
}

static void read_inbound_pool(struct walk *walk, const struct node *node, void *out)
{
	bool unused;

	(void)out;
	check_inbound_pool(walk, node, &unused);
	walk_warning(walk, node, "has no effect here: it is for inbound traffic");
}

/* ---- the mode ---- */

static void read_mode(struct walk *walk, const struct node *node, void *out)
{
	static const struct choice modes[] = {{"ALLOW_ANY", MODE_ALLOW_ANY}, {"REGISTRY_ONLY", MODE_REGISTRY_ONLY}};
	struct sidecar *sidecar = out;
	int value;

	if (node->type == NODE_SCALAR && !strcmp(node->text, "ALLOW_ANY_DYNAMIC_DNS")) {
		walk_error(walk, node, "ALLOW_ANY_DYNAMIC_DNS is for the mesh, not for a Sidecar");
	} else if (walk_choice(walk, node, "a mode", modes, ARRAY_SIZE(modes), &value)) {
		sidecar->mode = value;
		sidecar->mode_at = walk_position(walk, node);
	}
}

static void read_proxy_port(struct walk *walk, const struct node *node, void *out)
{
	static const struct field fields[] = {{"number", read_port_number, 0, FIELD_REQUIRED}};

	walk_mapping(walk, node, fields, ARRAY_SIZE(fields), out);
}

static void read_proxy_host(struct walk *walk, const struct node *node, void *out)
{
	read_host(walk, node, HOST_EXACT, out);
}

static void read_proxy(struct walk *walk, const struct node *node, void *out)
{
	static const struct field fields[] = {
		{"host", read_proxy_host, offsetof(struct sidecar, proxy_host), FIELD_REQUIRED},
		{"subset", read_label_or_none, offsetof(struct sidecar, proxy_subset), FIELD_OPTIONAL},
		{"port", read_proxy_port, offsetof(struct sidecar, proxy_port), FIELD_REQUIRED},
	};

	walk_mapping(walk, node, fields, ARRAY_SIZE(fields), out);
}

/* Istio's zero value blocks: an empty outboundTrafficPolicy is REGISTRY_ONLY. */
static void read_outbound(struct walk *walk, const struct node *node, void *out)
{
	static const struct field fields[] = {
		{"mode", read_mode, 0, FIELD_OPTIONAL},
		{"egressProxy", read_proxy, 0, FIELD_OPTIONAL},
	};
	struct sidecar *sidecar = out;
	size_t state;

	sidecar->has_mode = true;
	sidecar->mode = MODE_REGISTRY_ONLY;
	sidecar->mode_at = walk_position(walk, node);
	walk_mapping(walk, node, fields, ARRAY_SIZE(fields), sidecar);
	state = walk_enter(walk, "egressProxy");
	if (node_field(node, "egressProxy") && sidecar->mode != MODE_ALLOW_ANY)
		walk_error(walk, node_field(node, "egressProxy"), "is for mode ALLOW_ANY: under REGISTRY_ONLY nothing is left for it");
	walk_leave(walk, state);
}

/* ---- all of it ---- */

static void read_selector(struct walk *walk, const struct node *node, void *out)
{
	static const struct field fields[] = {{"labels", walk_labels, offsetof(struct sidecar, selector), FIELD_OPTIONAL}};
	struct sidecar *sidecar = out;

	if (walk_mapping(walk, node, fields, ARRAY_SIZE(fields), out) && !sidecar->selector.count)
		walk_warning(walk, node, "selects no label: the Sidecar is for the whole namespace");
}

void read_sidecar(struct walk *walk, const struct node *spec, const struct object *object)
{
	static const struct field fields[] = {
		{"workloadSelector", read_selector, 0, FIELD_OPTIONAL},
		{"ingress", read_ingress, 0, FIELD_OPTIONAL},
		{"egress", read_egress, 0, FIELD_OPTIONAL},
		{"inboundConnectionPool", read_inbound_pool, 0, FIELD_OPTIONAL},
		{"outboundTrafficPolicy", read_outbound, 0, FIELD_OPTIONAL},
	};
	struct config *config = walk->config;
	struct sidecar *sidecar = arena_alloc(config->arena, 1, sizeof(*sidecar));

	sidecar->object = *object;
	*arena_append(config->arena, config->sidecars, config->sidecar_count, config->sidecar_capacity) = sidecar;
	if (!walk_mapping(walk, spec, fields, ARRAY_SIZE(fields), sidecar))
		return;
	if (node_is_empty(node_field(spec, "ingress")) && node_is_empty(node_field(spec, "egress")) && !node_field(spec, "inboundConnectionPool") &&
	    !node_field(spec, "outboundTrafficPolicy"))
		walk_error(walk, spec, "must have egress, ingress, inboundConnectionPool or outboundTrafficPolicy");
}
