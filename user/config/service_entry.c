// SPDX-License-Identifier: Apache-2.0
/* ServiceEntry: fields and rules of ISTIO.md §1.4, §3.3. */
#include <stddef.h>
#include <string.h>

#include "config/reader.h"
#include "config/walk.h"

#define MAX_ITEMS 256 /* hosts, addresses, ports: as Istio's schema */
#define MAX_ENDPOINTS 4096

static void read_service_host(struct walk *walk, const struct node *node, void *out)
{
	struct service_entry *entry = out;
	const char *name;

	if (!read_host(walk, node, HOST_WILDCARD, &name))
		return;
	if (name[0] == '*' && name[1] != '.')
		walk_warning(walk, node, "\"%.64s\" stands for parts of a label too, such as \"x%.64s\"; \"*.\" is for whole labels", name, name + 1);
	*arena_append(walk->config->arena, entry->hosts, entry->host_count, entry->host_capacity) =
		(struct service_host){name, walk_position(walk, node)};
}

static void read_hosts(struct walk *walk, const struct node *node, void *out)
{
	if (node->type == NODE_SEQUENCE && !node->count)
		walk_error(walk, node, "must name at least one host");
	walk_list(walk, node, MAX_ITEMS, read_service_host, out);
}

static void read_addresses(struct walk *walk, const struct node *node, void *out)
{
	walk_list(walk, node, MAX_ITEMS, read_cidr_item, out);
}

static void read_protocol(struct walk *walk, const struct node *node, void *out)
{
	static const struct choice protocols[] = {
		{"HTTP", PROTOCOL_HTTP}, {"HTTPS", PROTOCOL_HTTPS}, {"TLS", PROTOCOL_TLS}, {"TCP", PROTOCOL_TCP},
		{"UDP", PROTOCOL_UDP}, {"HTTP2", PROTOCOL_HTTP2}, {"GRPC", PROTOCOL_GRPC},
		{"GRPC-Web", PROTOCOL_GRPC_WEB}, {"HTTP_PROXY", PROTOCOL_HTTP_PROXY}, {"Mongo", PROTOCOL_MONGO},
		{"Redis", PROTOCOL_REDIS}, {"MySQL", PROTOCOL_MYSQL}, {"HBONE", PROTOCOL_TCP},
	};
	struct node spelled = *node;
	int value;

	if (node->type == NODE_SCALAR && !*node->text)
		return;
	*(enum port_protocol *)out = PROTOCOL_HTTP; /* so that nothing else is said of what is no protocol */
	for (size_t i = 0; node->type == NODE_SCALAR && i < ARRAY_SIZE(protocols); i++) {
		if (!strcasecmp(protocols[i].name, node->text)) /* Istio ignores the case */
			spelled.text = protocols[i].name;
	}
	if (walk_choice(walk, &spelled, "a protocol", protocols, ARRAY_SIZE(protocols), &value))
		*(enum port_protocol *)out = value;
}

static void check_port_unique(struct walk *walk, const struct node *node, const struct service_entry *entry,
			      const struct service_port *port)
{
	for (size_t i = 0; i < entry->port_count; i++) {
		const struct service_port *other = &entry->ports[i];

		if (port->number && other->number == port->number) {
			walk_error(walk, node, "number %u is taken by the port at line %u", port->number, other->at.line);
			return;
		}
		if (port->name && other->name && !strcmp(other->name, port->name)) {
			walk_error(walk, node, "name \"%s\" is taken by the port at line %u", port->name, other->at.line);
			return;
		}
	}
}

static void read_port(struct walk *walk, const struct node *node, void *out)
{
	static const struct field fields[] = {
		{"number", read_port_number, offsetof(struct service_port, number), FIELD_REQUIRED},
		{"name", read_label_name, offsetof(struct service_port, name), FIELD_REQUIRED},
		{"protocol", read_protocol, offsetof(struct service_port, protocol), FIELD_OPTIONAL},
		{"targetPort", read_port_number, offsetof(struct service_port, target_port), FIELD_OPTIONAL},
	};
	struct service_entry *entry = out;
	struct service_port port = {.protocol = PROTOCOL_UNSET, .at = walk_position(walk, node)};

	if (!walk_mapping(walk, node, fields, ARRAY_SIZE(fields), &port))
		return;
	check_port_unique(walk, node, entry, &port);
	*arena_append(walk->config->arena, entry->ports, entry->port_count, entry->port_capacity) = port;
}

static void read_ports(struct walk *walk, const struct node *node, void *out)
{
	walk_list(walk, node, MAX_ITEMS, read_port, out);
}

static void read_location(struct walk *walk, const struct node *node, void *out)
{
	static const struct choice locations[] = {{"MESH_EXTERNAL", 0}, {"MESH_INTERNAL", 1}};
	int value;

	if (walk_choice(walk, node, "a location", locations, ARRAY_SIZE(locations), &value))
		*(bool *)out = value;
}

static void read_resolution(struct walk *walk, const struct node *node, void *out)
{
	static const struct choice resolutions[] = {
		{"NONE", RESOLUTION_NONE}, {"STATIC", RESOLUTION_STATIC}, {"DNS", RESOLUTION_DNS},
		{"DNS_ROUND_ROBIN", RESOLUTION_DNS_ROUND_ROBIN}, {"DYNAMIC_DNS", RESOLUTION_DYNAMIC_DNS},
	};
	int value;

	if (walk_choice(walk, node, "a resolution", resolutions, ARRAY_SIZE(resolutions), &value))
		*(enum resolution *)out = value;
}

static void read_endpoint_ports(struct walk *walk, const struct node *node, void *out)
{
	struct endpoint *endpoint = out;

	if (node->type != NODE_MAPPING || node->count / 2 > MAX_ITEMS) {
		walk_error(walk, node, "must be a mapping of at most %d port names to numbers", MAX_ITEMS);
		return;
	}
	for (size_t i = 0; i < node->count; i += 2) {
		size_t state = walk_enter_key(walk, node->items[i]);
		const char *name = node->items[i]->text;
		struct endpoint_port *port = arena_append(walk->config->arena, endpoint->ports, endpoint->port_count,
							  endpoint->port_capacity);

		if (!is_label(name, strlen(name)))
			walk_error(walk, node->items[i], "%s is not a name: letters, digits and inner hyphens, at most 63",
				   node_shown(walk, node->items[i]));
		port->name = arena_strdup(walk->config->arena, name);
		read_port_number(walk, node->items[i + 1], &port->number);
		walk_leave(walk, state);
	}
}

static void read_weight(struct walk *walk, const struct node *node, void *out)
{
	int64_t value;

	if (walk_integer(walk, node, 0, UINT32_MAX, &value) && value) /* as Istio: 0 is the default */
		*(uint32_t *)out = (uint32_t)value;
}

/* locality matters with outlierDetection, serviceAccount with mutual TLS: both come with a DestinationRule only. */
static void check_text(struct walk *walk, const struct node *node, void *out)
{
	const char *text;

	(void)out;
	walk_text(walk, node, &text);
}

struct endpoint_fields {
	struct endpoint endpoint;
	const char *network;
};

static bool is_given(const char *text)
{
	return text && *text;
}

/* Without an address an endpoint is only known to the gateways of its network; with one it is dialled itself, as Istio does without such gateways. */
static void check_network(struct walk *walk, const struct node *node, struct endpoint_fields *read)
{
	size_t state = walk_enter(walk, "address");

	if (!is_given(read->endpoint.address)) {
		read->endpoint.address = NULL;
		if (is_given(read->network))
			walk_warning(walk, node, "is not given, and no gateway to network \"%.64s\" is known here: the endpoint is left out", read->network);
		else
			walk_error(walk, node, "is required");
	}
	walk_leave(walk, state);
}

bool read_endpoint_fields(struct walk *walk, const struct node *node, struct endpoint *out)
{
	static const struct field fields[] = {
		{"address", read_string, offsetof(struct endpoint_fields, endpoint.address), FIELD_OPTIONAL},
		{"ports", read_endpoint_ports, offsetof(struct endpoint_fields, endpoint), FIELD_OPTIONAL},
		{"weight", read_weight, offsetof(struct endpoint_fields, endpoint.weight), FIELD_OPTIONAL},
		{"labels", walk_labels, offsetof(struct endpoint_fields, endpoint.labels), FIELD_OPTIONAL},
		{"network", read_string, offsetof(struct endpoint_fields, network), FIELD_OPTIONAL},
		{"locality", check_text, 0, FIELD_OPTIONAL},
		{"serviceAccount", check_text, 0, FIELD_OPTIONAL},
	};
	struct endpoint_fields read = {.endpoint = {.weight = 1, .at = walk_position(walk, node)}};

	if (!walk_mapping(walk, node, fields, ARRAY_SIZE(fields), &read))
		return false;
	check_network(walk, node, &read);
	*out = read.endpoint;
	out->is_ip = out->address && !parse_address(out->ip, out->address);
	return true;
}

static void read_endpoint(struct walk *walk, const struct node *node, void *out)
{
	struct service_entry *entry = out;
	struct endpoint endpoint;

	if (read_endpoint_fields(walk, node, &endpoint))
		*arena_append(walk->config->arena, entry->endpoints, entry->endpoint_count, entry->endpoint_capacity) = endpoint;
}

static void read_endpoints(struct walk *walk, const struct node *node, void *out)
{
	walk_list(walk, node, MAX_ENDPOINTS, read_endpoint, out);
}

static bool resolves(const struct service_entry *entry)
{
	return entry->resolution == RESOLUTION_DNS || entry->resolution == RESOLUTION_DNS_ROUND_ROBIN;
}

/* `name` of one of the ports, or of none. */
static bool has_port(const struct service_entry *entry, const char *name)
{
	for (size_t i = 0; i < entry->port_count; i++) {
		if (entry->ports[i].name && !strcmp(entry->ports[i].name, name))
			return true;
	}
	return false;
}

static void check_endpoint(struct walk *walk, const struct node *node, const struct service_entry *entry,
			   struct endpoint *endpoint)
{
	size_t state = walk_enter(walk, "address");
	const struct node *address = node_field(node, "address");
	const char *name;

	if (!endpoint->address && resolves(entry))
		walk_error(walk, node, "is required: resolution DNS looks it up");
	else if (!endpoint->address || endpoint->is_ip)
		;
	else if (is_unix_address(endpoint->address) && resolves(entry))
		walk_error(walk, address, "%s is not a host name or IP address: a Unix socket takes resolution STATIC", node_shown(walk, address));
	else if (is_unix_address(endpoint->address))
		check_unix_address(walk, address, endpoint);
	else if (entry->resolution == RESOLUTION_STATIC)
		walk_error(walk, address, "%s is not an IP address, as resolution STATIC wants", node_shown(walk, address));
	else if (resolves(entry) && read_host(walk, address, HOST_EXACT, &name))
		endpoint->address = name;
	walk_leave(walk, state);

	state = walk_enter(walk, "ports");
	if (endpoint->address && is_unix_address(endpoint->address) && endpoint->port_count)
		walk_error(walk, node_field(node, "ports"), "a Unix socket has none");
	for (size_t i = 0; i < endpoint->port_count; i++) {
		if (!has_port(entry, endpoint->ports[i].name))
			walk_error(walk, node_field(node, "ports"), "\"%.64s\" is not the name of one of spec.ports",
				   endpoint->ports[i].name);
	}
	walk_leave(walk, state);
}

/* As Istio: nothing says which port's connections come to it. And what they carry is a stream of bytes. */
static void check_unix_ports(struct walk *walk, const struct node *spec, const struct service_entry *entry)
{
	bool has_socket = false;

	for (size_t i = 0; i < entry->endpoint_count; i++)
		has_socket |= entry->endpoints[i].address && is_unix_address(entry->endpoints[i].address);
	if (has_socket && entry->port_count != 1)
		walk_error(walk, node_field(spec, "endpoints"), "with a Unix socket among them the entry takes one port, not %zu", entry->port_count);
	else if (has_socket && entry->ports[0].protocol == PROTOCOL_UDP)
		walk_warning(walk, node_field(spec, "endpoints"), "UDP does not go to a Unix socket: such endpoints are left out");
}

/* Those of other networks were told of. */
static void drop_unreachable(struct service_entry *entry)
{
	size_t kept = 0;

	for (size_t i = 0; i < entry->endpoint_count; i++)
		if (entry->endpoints[i].address)
			entry->endpoints[kept++] = entry->endpoints[i];
	entry->endpoint_count = kept;
}

static void check_endpoints(struct walk *walk, const struct node *spec, struct service_entry *entry)
{
	const struct node *node = node_field(spec, "endpoints");
	size_t state = walk_enter(walk, "endpoints");

	if (entry->resolution == RESOLUTION_NONE && entry->endpoint_count)
		walk_error(walk, node, "resolution NONE dials the original address and takes no endpoints");
	if (entry->resolution == RESOLUTION_DYNAMIC_DNS && entry->endpoint_count)
		walk_error(walk, node, "resolution DYNAMIC_DNS dials what the client names and takes no endpoints");
	if (entry->resolution == RESOLUTION_DNS_ROUND_ROBIN && entry->endpoint_count > 1)
		walk_error(walk, node, "resolution DNS_ROUND_ROBIN takes one endpoint, not %zu", entry->endpoint_count);
	if (entry->resolution == RESOLUTION_STATIC && !entry->endpoint_count && !node && !entry->has_selector)
		walk_warning(walk, spec, "resolution STATIC without endpoints leads nowhere: HTTP is answered with 503");
	/* Endpoints that did not parse were left out: then items and endpoints no longer correspond. */
	for (size_t i = 0; node && entry->endpoint_count == node->count && i < node->count; i++) {
		size_t item = walk_enter_item(walk, i);

		check_endpoint(walk, node->items[i], entry, &entry->endpoints[i]);
		walk_leave(walk, item);
	}
	check_unix_ports(walk, spec, entry);
	drop_unreachable(entry);
	walk_leave(walk, state);
}

static void check_addresses(struct walk *walk, const struct node *spec, const struct service_entry *entry)
{
	const struct node *node = node_field(spec, "addresses");
	size_t state = walk_enter(walk, "addresses");

	if (entry->resolution == RESOLUTION_DYNAMIC_DNS && entry->addresses.count)
		walk_error(walk, node, "resolution DYNAMIC_DNS goes by what the client names and takes no addresses");
	for (size_t i = 0; resolves(entry) && node && node->type == NODE_SEQUENCE && i < node->count; i++) {
		size_t item = walk_enter_item(walk, i);

		if (node->items[i]->type == NODE_SCALAR && strchr(node->items[i]->text, '/'))
			walk_error(walk, node->items[i], "%s is a CIDR; resolution DNS takes single addresses only",
				   node_shown(walk, node->items[i]));
		walk_leave(walk, item);
	}
	walk_leave(walk, state);
}

static void check_hosts(struct walk *walk, const struct service_entry *entry)
{
	size_t state = walk_enter(walk, "hosts");

	for (size_t i = 0; resolves(entry) && !entry->endpoint_count && i < entry->host_count; i++) {
		const struct service_host *host = &entry->hosts[i];
		size_t item = walk_enter_item(walk, i);

		if (host->name[0] == '*')
			walk_problem(walk, SEVERITY_ERROR, host->at.line, host->at.column,
				     "\"%s\" cannot be looked up; resolution DNS wants endpoints for a wildcard, or use DYNAMIC_DNS or NONE",
				     host->name);
		walk_leave(walk, item);
	}
	for (size_t i = 0; entry->resolution == RESOLUTION_DYNAMIC_DNS && i < entry->host_count; i++) {
		const struct service_host *host = &entry->hosts[i];
		size_t item = walk_enter_item(walk, i);

		if (host->name[0] != '*')
			walk_problem(walk, SEVERITY_ERROR, host->at.line, host->at.column,
				     "\"%s\" is no wildcard, as resolution DYNAMIC_DNS wants; use DNS for it", host->name);
		walk_leave(walk, item);
	}
	walk_leave(walk, state);
}

/* Neither HTTP nor TLS: such a flow has no name to tell hosts apart by. */
static bool is_nameless(enum port_protocol protocol)
{
	return protocol >= PROTOCOL_TCP;
}

/* A client names a host in HTTP or TLS. HTTPS is left out as in Istio, where its proxy has no filter for it. */
static void check_dynamic_port(struct walk *walk, const struct service_port *port)
{
	switch (port->protocol) {
	case PROTOCOL_HTTP:
	case PROTOCOL_HTTP2:
	case PROTOCOL_GRPC:
	case PROTOCOL_TLS:
		break;
	default:
		walk_problem(walk, SEVERITY_ERROR, port->at.line, port->at.column,
			     "resolution DYNAMIC_DNS takes the protocols HTTP, HTTP2, GRPC and TLS only");
	}
}

/* As Istio has it: a waypoint's own hosts are known to the mesh. */
static void check_location(struct walk *walk, const struct node *spec, const struct service_entry *entry)
{
	size_t state = walk_enter(walk, "location");

	if (entry->resolution == RESOLUTION_DYNAMIC_DNS && entry->mesh_internal && entry->object.has_waypoint)
		walk_error(walk, node_field(spec, "location"), "MESH_INTERNAL with a waypoint takes no resolution DYNAMIC_DNS");
	walk_leave(walk, state);
}

/* A client finds such a service by the name that it shows, or by spec.addresses. */
static bool has_no_address(const struct service_entry *entry)
{
	bool sockets_only = entry->endpoint_count;

	for (size_t i = 0; i < entry->endpoint_count; i++)
		sockets_only &= entry->endpoints[i].address && is_unix_address(entry->endpoints[i].address);
	return !entry->addresses.count && sockets_only;
}

static void check_ports(struct walk *walk, const struct node *spec, const struct service_entry *entry)
{
	size_t state = walk_enter(walk, "ports");

	if (!entry->port_count && !node_field(spec, "ports"))
		walk_warning(walk, spec, "none: the entry registers nothing");
	for (size_t i = 0; i < entry->port_count; i++) {
		const struct service_port *port = &entry->ports[i];
		size_t item = walk_enter_item(walk, i);

		if (entry->resolution == RESOLUTION_DYNAMIC_DNS)
			check_dynamic_port(walk, port);
		else if (is_nameless(port->protocol) && entry->host_count > 1 && entry->resolution != RESOLUTION_NONE)
			walk_problem(walk, SEVERITY_ERROR, port->at.line, port->at.column,
				     "a port that is neither HTTP nor TLS cannot tell %zu hosts apart; give one host",
				     entry->host_count);
		else if (is_nameless(port->protocol) && entry->resolution == RESOLUTION_NONE && !entry->addresses.count)
			walk_problem(walk, SEVERITY_WARNING, port->at.line, port->at.column,
				     "matches nothing%s: resolution NONE without addresses; give spec.addresses",
				     port->protocol == PROTOCOL_UNSET ? " but HTTP and TLS" : "");
		else if (is_nameless(port->protocol) && has_no_address(entry))
			walk_problem(walk, SEVERITY_WARNING, port->at.line, port->at.column,
				     "matches nothing%s: a Unix socket has no address that clients dial; give spec.addresses",
				     port->protocol == PROTOCOL_UNSET ? " but HTTP and TLS" : "");
		walk_leave(walk, item);
	}
	walk_leave(walk, state);
}

static void warn_shared_addresses(struct walk *walk, const struct node *spec, const struct service_entry *entry)
{
	size_t state = walk_enter(walk, "addresses");
	bool is_tls = false;

	for (size_t i = 0; i < entry->port_count; i++)
		is_tls |= entry->ports[i].protocol == PROTOCOL_HTTPS || entry->ports[i].protocol == PROTOCOL_TLS;
	if (is_tls && resolves(entry) && entry->host_count > 1 && entry->addresses.count)
		walk_warning(walk, node_field(spec, "addresses"),
			     "are shared by %zu hosts: Istio takes every TLS connection to them for the first one's, here the name decides",
			     entry->host_count);
	walk_leave(walk, state);
}

static void read_selector(struct walk *walk, const struct node *node, void *out)
{
	static const struct field fields[] = {{"labels", walk_labels, offsetof(struct service_entry, selector), FIELD_OPTIONAL}};
	struct service_entry *entry = out;

	entry->has_selector = true;
	if (walk_mapping(walk, node, fields, ARRAY_SIZE(fields), entry) && !entry->selector.count)
		walk_warning(walk, node, "selects no label, and so nothing");
}

static void check_selector(struct walk *walk, const struct node *spec, const struct service_entry *entry)
{
	const struct node *node = node_field(spec, "workloadSelector");
	size_t state = walk_enter(walk, "workloadSelector");

	if (entry->has_selector && node_field(spec, "endpoints"))
		walk_error(walk, node, "stands beside endpoints: only one of them can say where the service is");
	else if (entry->has_selector && entry->resolution == RESOLUTION_NONE)
		walk_warning(walk, node, "has no effect: resolution NONE dials the original address");
	else if (entry->has_selector && entry->resolution == RESOLUTION_DYNAMIC_DNS)
		walk_warning(walk, node, "has no effect: resolution DYNAMIC_DNS dials what the client names");
	walk_leave(walk, state);
}

/* Of the server's certificate: they count where TLS is originated. */
static void read_alt_names(struct walk *walk, const struct node *node, void *out)
{
	walk_list(walk, node, MAX_ITEMS, read_string_item, out);
}

void read_service_entry(struct walk *walk, const struct node *spec, const struct object *object)
{
	static const struct field fields[] = {
		{"hosts", read_hosts, 0, FIELD_REQUIRED},
		{"addresses", read_addresses, offsetof(struct service_entry, addresses), FIELD_OPTIONAL},
		{"ports", read_ports, 0, FIELD_OPTIONAL},
		{"location", read_location, offsetof(struct service_entry, mesh_internal), FIELD_OPTIONAL},
		{"resolution", read_resolution, offsetof(struct service_entry, resolution), FIELD_OPTIONAL},
		{"endpoints", read_endpoints, 0, FIELD_OPTIONAL},
		{"exportTo", read_export_to, offsetof(struct service_entry, object), FIELD_OPTIONAL},
		{"workloadSelector", read_selector, 0, FIELD_OPTIONAL},
		{"subjectAltNames", read_alt_names, offsetof(struct service_entry, alt_names), FIELD_OPTIONAL},
	};
	struct config *config = walk->config;
	struct service_entry *entry = arena_alloc(config->arena, 1, sizeof(*entry));

	entry->object = *object;
	*arena_append(config->arena, config->service_entries, config->service_entry_count,
		      config->service_entry_capacity) = entry;
	if (!walk_mapping(walk, spec, fields, ARRAY_SIZE(fields), entry))
		return;
	check_hosts(walk, entry);
	check_addresses(walk, spec, entry);
	check_ports(walk, spec, entry);
	warn_shared_addresses(walk, spec, entry);
	check_location(walk, spec, entry);
	check_endpoints(walk, spec, entry);
	check_selector(walk, spec, entry);
}
