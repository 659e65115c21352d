// SPDX-License-Identifier: Apache-2.0
/* EgressPolicy (sluice.dev/v1): what Istio keeps in mesh settings, pod annotations and Sidecar. */
#include <stddef.h>
#include <string.h>

#include "config/reader.h"
#include "config/walk.h"

#define MAX_CIDRS 4096
#define MAX_PORTS 1024
#define MAX_SERVERS 64

static void read_selector(struct walk *walk, const struct node *node, void *out)
{
	static const struct field fields[] = {
		{"labels", walk_labels, offsetof(struct egress_policy, selector), FIELD_OPTIONAL},
	};
	const struct node *labels = node_field(node, "labels");

	if (walk_mapping(walk, node, fields, ARRAY_SIZE(fields), out) && (!labels || !labels->count))
		walk_warning(walk, node, "selects no label: the policy is for the whole namespace");
}

static void read_mode(struct walk *walk, const struct node *node, void *out)
{
	static const struct choice modes[] = {
		{"ALLOW_ANY", MODE_ALLOW_ANY}, {"REGISTRY_ONLY", MODE_REGISTRY_ONLY},
		{"ALLOW_ANY_DYNAMIC_DNS", MODE_ALLOW_ANY_DYNAMIC_DNS},
	};
	struct egress_policy *policy = out;
	int value;

	if (!walk_choice(walk, node, "a mode", modes, ARRAY_SIZE(modes), &value))
		return;
	policy->has_mode = true;
	policy->mode = value;
	policy->at[SETTING_MODE] = walk_position(walk, node);
}

static void read_outbound(struct walk *walk, const struct node *node, void *out)
{
	static const struct field fields[] = {
		{"mode", read_mode, 0, FIELD_REQUIRED}, /* Istio's absent mode blocks, ours would allow: say which */
	};

	walk_mapping(walk, node, fields, ARRAY_SIZE(fields), out);
}

static bool is_star(const struct node *node)
{
	return node->type == NODE_SCALAR && !strcmp(node->text, "*");
}

static void read_capture_cidr(struct walk *walk, const struct node *node, void *list)
{
	if (is_star(node))
		walk_error(walk, node, "\"*\" stands for everything: only alone, and only in includeCIDRs");
	else
		read_cidr_item(walk, node, list);
}

static void read_include_cidrs(struct walk *walk, const struct node *node, void *out)
{
	struct egress_policy *policy = out;

	policy->has_include_cidrs = true;
	policy->at[SETTING_INCLUDE_CIDRS] = walk_position(walk, node);
	policy->include_all = node->type == NODE_SEQUENCE && node->count == 1 && is_star(node->items[0]);
	if (!policy->include_all)
		walk_list(walk, node, MAX_CIDRS, read_capture_cidr, &policy->include_cidrs);
}

static void read_exclude_cidrs(struct walk *walk, const struct node *node, void *out)
{
	struct egress_policy *policy = out;

	policy->has_exclude_cidrs = true;
	policy->at[SETTING_EXCLUDE_CIDRS] = walk_position(walk, node);
	walk_list(walk, node, MAX_CIDRS, read_capture_cidr, &policy->exclude_cidrs);
}

static void read_include_ports(struct walk *walk, const struct node *node, void *out)
{
	struct egress_policy *policy = out;

	policy->has_include_ports = true;
	policy->at[SETTING_INCLUDE_PORTS] = walk_position(walk, node);
	walk_list(walk, node, MAX_PORTS, read_port_item, &policy->include_ports);
}

static void read_exclude_ports(struct walk *walk, const struct node *node, void *out)
{
	struct egress_policy *policy = out;

	policy->has_exclude_ports = true;
	policy->at[SETTING_EXCLUDE_PORTS] = walk_position(walk, node);
	walk_list(walk, node, MAX_PORTS, read_port_item, &policy->exclude_ports);
}

static void read_interception(struct walk *walk, const struct node *node, void *out)
{
	static const struct field fields[] = {
		{"includeCIDRs", read_include_cidrs, 0, FIELD_OPTIONAL},
		{"excludeCIDRs", read_exclude_cidrs, 0, FIELD_OPTIONAL},
		{"includePorts", read_include_ports, 0, FIELD_OPTIONAL},
		{"excludePorts", read_exclude_ports, 0, FIELD_OPTIONAL},
	};

	walk_mapping(walk, node, fields, ARRAY_SIZE(fields), out);
}

static void read_enforcement(struct walk *walk, const struct node *node, void *out)
{
	static const struct choice choices[] = {{"enforce", 0}, {"audit", 1}};
	struct egress_policy *policy = out;
	int value;

	if (!walk_choice(walk, node, "an enforcement", choices, ARRAY_SIZE(choices), &value))
		return;
	policy->has_audit = true;
	policy->at[SETTING_ENFORCEMENT] = walk_position(walk, node);
	policy->audit = value;
}

static void read_host_check(struct walk *walk, const struct node *node, void *out)
{
	/* YAML 1.1 takes a bare off for a boolean, so `hostCheck: off` as people write it must be read here. */
	static const struct choice choices[] = {{"proxy", HOST_CHECK_PROXY}, {"off", HOST_CHECK_OFF}, {"kernel", HOST_CHECK_KERNEL}};
	struct egress_policy *policy = out;
	struct node word = *node;
	int value;

	word.plain = false;
	if (!walk_choice(walk, &word, "a host check", choices, ARRAY_SIZE(choices), &value))
		return;
	policy->has_host_check = true;
	policy->at[SETTING_HOST_CHECK] = walk_position(walk, node);
	policy->host_check = value;
}

static void read_dns_allow(struct walk *walk, const struct node *node, void *out)
{
	static const struct choice choices[] = {
		{"resolvers", DNS_RESOLVERS}, {"any", DNS_ANY}, {"none", DNS_NONE}, {"registered", -1},
	};
	struct egress_policy *policy = out;
	int value;

	if (!walk_choice(walk, node, "a choice of resolvers", choices, ARRAY_SIZE(choices), &value))
		return;
	policy->has_dns_allow = true;
	policy->at[SETTING_DNS_ALLOW] = walk_position(walk, node);
	policy->dns_allow = value;
}

static void read_dns_servers(struct walk *walk, const struct node *node, void *out)
{
	struct egress_policy *policy = out;

	policy->has_dns_servers = true;
	policy->at[SETTING_DNS_SERVERS] = walk_position(walk, node);
	walk_list(walk, node, MAX_SERVERS, read_address_item, &policy->dns_servers);
}

static void read_dns(struct walk *walk, const struct node *node, void *out)
{
	static const struct field fields[] = {
		{"allow", read_dns_allow, 0, FIELD_OPTIONAL},
		{"servers", read_dns_servers, 0, FIELD_OPTIONAL},
	};

	walk_mapping(walk, node, fields, ARRAY_SIZE(fields), out);
}

static void read_drain(struct walk *walk, const struct node *node, void *out)
{
	struct egress_policy *policy = out;

	policy->has_drain = true;
	policy->at[SETTING_DRAIN] = walk_position(walk, node);
	walk_duration_of_day(walk, node, &policy->drain_ms);
}

void read_egress_policy(struct walk *walk, const struct node *spec, const struct object *object)
{
	static const struct field fields[] = {
		{"workloadSelector", read_selector, 0, FIELD_OPTIONAL},
		{"outboundTrafficPolicy", read_outbound, 0, FIELD_OPTIONAL},
		{"interception", read_interception, 0, FIELD_OPTIONAL},
		{"enforcement", read_enforcement, 0, FIELD_OPTIONAL},
		{"hostCheck", read_host_check, 0, FIELD_OPTIONAL},
		{"dns", read_dns, 0, FIELD_OPTIONAL},
		{"drain", read_drain, 0, FIELD_OPTIONAL},
	};
	struct config *config = walk->config;
	struct egress_policy *policy = arena_alloc(config->arena, 1, sizeof(*policy));

	policy->object = *object;
	walk_mapping(walk, spec, fields, ARRAY_SIZE(fields), policy);
	*arena_append(config->arena, config->egress_policies, config->egress_policy_count,
		      config->egress_policy_capacity) = policy;
}
