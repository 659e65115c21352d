// SPDX-License-Identifier: Apache-2.0
/* One document: apiVersion, kind and metadata, then the reader of its kind. */
#include <stddef.h>
#include <string.h>
#include <time.h>

#include "config/reader.h"
#include "config/walk.h"

#define ISTIO_GROUP "networking.istio.io"
#define SLUICE_GROUP "sluice.dev"
#define OPERATOR_GROUP "install.istio.io"

static const struct kind {
	const char *name;
	const char *group; /* "": Kubernetes' own; its content is in `data` */
	void (*read)(struct walk *walk, const struct node *spec, const struct object *object); /* NULL: not read */
	const char *harmless; /* why it can be left unread; NULL: it could change egress, and is refused */
} kinds[] = {
	{"ServiceEntry", ISTIO_GROUP, read_service_entry, NULL},
	{"VirtualService", ISTIO_GROUP, read_virtual_service, NULL},
	{"EgressPolicy", SLUICE_GROUP, read_egress_policy, NULL},
	{"Workload", SLUICE_GROUP, read_workload, NULL},
	{"Sidecar", ISTIO_GROUP, read_sidecar, NULL},
	{"IstioOperator", OPERATOR_GROUP, read_operator, NULL},
	{"ConfigMap", "", read_config_map, NULL},
	{"DestinationRule", ISTIO_GROUP, read_destination_rule, NULL},
	{"WorkloadEntry", ISTIO_GROUP, read_workload_entry, NULL},
	{"WorkloadGroup", ISTIO_GROUP, NULL, "it is a template of WorkloadEntries"},
	{"Gateway", ISTIO_GROUP, NULL, "it is for gateways"},
	{"EnvoyFilter", ISTIO_GROUP, NULL, NULL},
	{"ProxyConfig", ISTIO_GROUP, NULL, NULL},
	{"AuthorizationPolicy", "security.istio.io", NULL, "it is for inbound traffic"},
	{"PeerAuthentication", "security.istio.io", NULL, "it is for inbound traffic"},
	{"RequestAuthentication", "security.istio.io", NULL, "it is for inbound traffic"},
	{"Telemetry", "telemetry.istio.io", NULL, NULL},
	{"WasmPlugin", "extensions.istio.io", NULL, NULL},
};

static bool version_accepted(const struct kind *kind, const char *version)
{
	size_t group = strlen(kind->group);

	if (!group)
		return !strcmp(version, "v1");
	if (strncmp(version, kind->group, group) || version[group] != '/')
		return false;
	version += group + 1;
	if (!strcmp(kind->group, OPERATOR_GROUP))
		return !strcmp(version, "v1alpha1");
	if (!strcmp(version, "v1"))
		return true;
	return strcmp(kind->group, SLUICE_GROUP) && (!strcmp(version, "v1alpha3") || !strcmp(version, "v1beta1"));
}

/* RFC 3339, as kubectl prints it: "2020-09-07T09:28:54Z", fractions and offsets allowed. */
static bool parse_time(const char *text, int64_t *out)
{
	struct tm tm = {0};
	const char *p = strptime(text, "%Y-%m-%dT%H:%M:%S", &tm);
	int hours = 0, minutes = 0, n = 0, sign = 1;

	if (!p)
		return false;
	if (*p == '.')
		p += 1 + strspn(p + 1, "0123456789");
	if ((*p == '+' || *p == '-') && sscanf(p + 1, "%2d:%2d%n", &hours, &minutes, &n) == 2 && n == 5 && !p[6])
		sign = *p == '-' ? -1 : 1;
	else if (strcmp(p, "Z"))
		return false;
	*out = (int64_t)timegm(&tm) - sign * (hours * 3600 + minutes * 60);
	return true;
}

static void read_time(struct walk *walk, const struct node *node, void *out)
{
	const char *text;

	if (!walk_text(walk, node, &text))
		return;
	if (!parse_time(text, out))
		walk_error(walk, node, "%s is not a time, as in 2026-01-31T23:59:59Z", node_shown(walk, node));
}

/* One of them matters: which waypoint of a mesh the object is for. */
static void read_labels(struct walk *walk, const struct node *node, void *out)
{
	struct object *object = out;
	struct label_list labels = {0};

	walk_labels(walk, node, &labels);
	for (size_t i = 0; i < labels.count; i++)
		if (!strcmp(labels.items[i].key, "istio.io/use-waypoint"))
			object->has_waypoint = strcmp(labels.items[i].value, "none") != 0;
}

/* Others' are theirs, but one that Istio refuses and what is captured of a workload; of ours an unknown one would be silently without effect. */
static void read_annotations(struct walk *walk, const struct node *node, void *out)
{
	static const char ours[] = SLUICE_GROUP "/", fault[] = SLUICE_GROUP "/connection-fault";
	struct object *object = out;

	for (size_t i = 0; node->type == NODE_MAPPING && i < node->count; i += 2) {
		const struct node *name = node->items[i], *value = node->items[i + 1];

		if (!strcmp(name->text, "istio.io/dry-run"))
			walk_error(walk, name, "istio.io/dry-run is for AuthorizationPolicies only; remove it");
		if (is_capture_annotation(name->text) && !strcmp(object->kind, "Workload")) {
			if (!object->capture)
				object->capture = arena_alloc(walk->config->arena, 1, sizeof(*object->capture));
			read_capture_annotation(walk, name, value, object->capture);
		}
		if (strncmp(name->text, ours, strlen(ours)))
			continue;
		if (strcmp(name->text, fault) || strcmp(object->kind, "VirtualService"))
			walk_error(walk, name, "%s is no annotation of a %s", node_shown(walk, name), object->kind);
		else if (value->type != NODE_SCALAR || value->plain || (strcmp(value->text, "true") && strcmp(value->text, "false")))
			walk_error(walk, value, "%s must be \"true\" or \"false\", with quotes", node_shown(walk, value));
		else
			object->connection_fault = !strcmp(value->text, "true");
	}
}

static bool read_metadata(struct walk *walk, const struct node *node, struct object *object)
{
	static const struct field fields[] = {
		{"name", read_object_name, offsetof(struct object, name), FIELD_REQUIRED},
		{"namespace", read_label_name, offsetof(struct object, namespace_), FIELD_OPTIONAL},
		{"labels", read_labels, 0, FIELD_OPTIONAL},
		{"creationTimestamp", read_time, offsetof(struct object, created), FIELD_OPTIONAL},
		{"annotations", read_annotations, 0, FIELD_OPTIONAL}, IGNORED("uid"), IGNORED("resourceVersion"), IGNORED("generation"),
		IGNORED("managedFields"), IGNORED("ownerReferences"), IGNORED("selfLink"), IGNORED("finalizers"),
		IGNORED("generateName"), IGNORED("clusterName"), IGNORED("deletionTimestamp"),
		IGNORED("deletionGracePeriodSeconds"),
	};
	size_t state = walk_enter(walk, "metadata");

	walk_mapping(walk, node, fields, ARRAY_SIZE(fields), object);
	walk_leave(walk, state);
	return object->name != NULL;
}

static const char *scalar_field(struct walk *walk, const struct node *root, const char *name)
{
	const struct node *node = node_field(root, name);
	size_t state = walk_enter(walk, name);
	const char *text = NULL;

	if (!node)
		walk_error(walk, root, "is required");
	else
		walk_text(walk, node, &text);
	walk_leave(walk, state);
	return text;
}

static const struct kind *known_kind(const char *version, const char *name)
{
	const struct kind *found = NULL;

	/* Kubernetes has a Gateway too: of what is not read only Istio's is known. */
	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++)
		if (!strcmp(kinds[i].name, name) && (kinds[i].read || !strncmp(version, kinds[i].group, strlen(kinds[i].group))))
			found = &kinds[i];
	return found;
}

/* "apps/v1": neither Istio's nor ours. */
static bool is_foreign(const char *version)
{
	static const char istio[] = ".istio.io";
	size_t group = strcspn(version, "/"), n = strlen(istio);

	return !(group == strlen(SLUICE_GROUP) && !memcmp(version, SLUICE_GROUP, group)) &&
	       !(group > n && !memcmp(version + group - n, istio, n));
}

static void refuse_kind(struct walk *walk, const struct node *node, const char *name)
{
	const char *names[ARRAY_SIZE(kinds)], *nearest;

	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++)
		names[i] = kinds[i].name;
	nearest = nearest_name(name, names, ARRAY_SIZE(names));
	walk_error(walk, node, "\"%.64s\" is not a kind that sluice reads (ServiceEntry, VirtualService, DestinationRule, WorkloadEntry, Sidecar, EgressPolicy, Workload, IstioOperator, ConfigMap)%s%s%s",
		   name, nearest ? "; did you mean \"" : "", nearest ? nearest : "", nearest ? "\"?" : "");
}

/* NULL: it is not read, which was told. */
static const struct kind *find_kind(struct walk *walk, const struct node *root)
{
	const char *version = scalar_field(walk, root, "apiVersion"), *name = scalar_field(walk, root, "kind");
	const struct node *node = node_field(root, "kind");
	const struct kind *kind = version && name ? known_kind(version, name) : NULL;
	size_t state;

	if (!version || !name || (kind && kind->read && version_accepted(kind, version)))
		return kind;
	state = walk_enter(walk, kind && kind->read ? "apiVersion" : "kind");
	if (kind && kind->read)
		walk_error(walk, node_field(root, "apiVersion"), "\"%.64s\" has no %s; use \"%s%sv1%s\"", version, name, kind->group,
			   *kind->group ? "/" : "", !strcmp(kind->group, OPERATOR_GROUP) ? "alpha1" : "");
	else if (kind && kind->harmless)
		walk_warning(walk, node, "%s is not read and has no effect here: %s", name, kind->harmless);
	else if (kind)
		walk_error(walk, node, "%s of %s " NOT_IMPLEMENTED, name, kind->group);
	else if (is_foreign(version))
		walk_warning(walk, node, "%.64s of %.64s is not read and has no effect here", name, version);
	else
		refuse_kind(walk, node, name);
	walk_leave(walk, state);
	return NULL;
}

static const char *object_label(struct walk *walk, const struct kind *kind, const struct node *root)
{
	const struct node *name = node_field(node_field(root, "metadata"), "name");

	if (!name || name->type != NODE_SCALAR)
		return kind->name;
	return arena_printf(walk->config->arena, "%s/%.253s", kind->name, name->text);
}

/* Counts what is read, or refused: what is passed over says nothing of egress. */
static void read_object(struct walk *walk, const struct node *root)
{
	static const struct field fields[] = {
		IGNORED("apiVersion"), IGNORED("kind"), IGNORED("metadata"), IGNORED("spec"), IGNORED("status"),
	};
	const struct config *config = walk->config;
	size_t errors = config->error_count;
	struct object object = {.namespace_ = "default", .created = INT64_MAX, .at = walk_position(walk, root)};
	const struct kind *kind = find_kind(walk, root);
	const struct node *metadata = node_field(root, "metadata"), *spec;
	const char *content;
	size_t state;

	walk->config->document_count += kind || walk->config->error_count > errors;
	if (!kind)
		return;
	content = *kind->group ? "spec" : "data";
	spec = node_field(root, content);
	walk->object = object_label(walk, kind, root);
	object.kind = kind->name;
	object.order = (uint32_t)(config->service_entry_count + config->virtual_service_count + config->workload_count +
				  config->egress_policy_count + config->sidecar_count + config->destination_rule_count +
				  config->workload_entry_count);
	if (*kind->group)
		walk_mapping(walk, root, fields, ARRAY_SIZE(fields), NULL);
	if (metadata) {
		read_metadata(walk, metadata, &object);
	} else {
		state = walk_enter(walk, "metadata.name");
		walk_error(walk, root, "is required");
		walk_leave(walk, state);
	}
	state = walk_enter(walk, content);
	if (spec)
		kind->read(walk, spec, &object);
	else
		walk_error(walk, root, "is required");
	walk_leave(walk, state);
}

/* The items of `kind: List`, as `kubectl get -o yaml` prints several objects, or NULL. */
static const struct node *list_items(const struct node *root)
{
	const struct node *kind = node_field(root, "kind"), *items = node_field(root, "items");

	if (!kind || kind->type != NODE_SCALAR || strcmp(kind->text, "List"))
		return NULL;
	return items && items->type == NODE_SEQUENCE ? items : NULL;
}

static void read_document(struct walk *walk, const struct node *root)
{
	const struct node *items = list_items(root);

	if (node_is_null(root))
		return;
	if (root->type != NODE_MAPPING)
		walk_error(walk, root, "is %s; an object with apiVersion and kind is wanted", node_shown(walk, root));
	else if (!items)
		read_object(walk, root);
	for (size_t i = 0; items && i < items->count; i++) {
		walk->object = "";
		if (items->items[i]->type == NODE_MAPPING)
			read_object(walk, items->items[i]);
		else
			walk_error(walk, items->items[i], "is %s; an object is wanted", node_shown(walk, items->items[i]));
	}
}

void config_parse(struct config *config, const struct config_file *file)
{
	struct walk walk = {.config = config, .file = arena_strdup(config->arena, file->name), .object = ""};
	const struct node *root;
	struct reader reader;
	int error;

	if (file->length > CONFIG_MAX_FILE) {
		walk_problem(&walk, SEVERITY_ERROR, 0, 0, "is larger than 16 MiB; split it");
		return;
	}
	error = reader_init(&reader, &walk, file->text, file->length);
	while (!error && reader_next(&reader, &root) > 0) {
		read_document(&walk, root);
		walk.object = "";
		walk_leave(&walk, 0);
	}
	reader_fini(&reader);
}
