// SPDX-License-Identifier: Apache-2.0
/*
 * Delegates: a rule of a VirtualService that hands its requests to the rules of another one, which has no hosts
 * (ISTIO.md §1.5; Istio merges the two, and leaves out what contradicts).
 */
#include <string.h>
#include <strings.h>

#include "config/walk.h"

#define MAX_MERGED 16384 /* matches of one rule */

/* ---- contradictions ---- */

static bool begins(const struct text_match *text, const struct text_match *with)
{
	return text->length >= with->length && !memcmp(text->text, with->text, with->length);
}

static bool ends(const struct text_match *text, const struct text_match *with)
{
	return text->length >= with->length && !memcmp(text->text + text->length - with->length, with->text, with->length);
}

/* Whether `leaf` could hold where `root` does not. */
static bool contradicts(const struct text_match *root, const struct text_match *leaf)
{
	if (!root || root->rule == TEXT_ANY || !leaf || leaf->rule == TEXT_ANY)
		return false;
	if (root->rule == TEXT_EXACT)
		return leaf->rule != TEXT_EXACT || root->length != leaf->length || !begins(leaf, root);
	if (root->rule == TEXT_PREFIX)
		return (leaf->rule != TEXT_EXACT && leaf->rule != TEXT_PREFIX) || !begins(leaf, root);
	if (root->rule == TEXT_SUFFIX)
		return (leaf->rule != TEXT_EXACT && leaf->rule != TEXT_SUFFIX) || !ends(leaf, root);
	return true; /* patterns are not compared */
}

static const struct text_match *find_named(const struct text_matches *list, const char *name)
{
	for (size_t i = 0; i < list->count; i++)
		if (!strcasecmp(list->items[i].name, name))
			return &list->items[i];
	return NULL;
}

static bool lists_contradict(const struct text_matches *root, const struct text_matches *leaf)
{
	for (size_t i = 0; i < leaf->count; i++)
		if (contradicts(find_named(root, leaf->items[i].name), &leaf->items[i]))
			return true;
	return false;
}

static const char *label_value(const struct label_list *list, const char *key)
{
	for (size_t i = 0; i < list->count; i++)
		if (!strcmp(list->items[i].key, key))
			return list->items[i].value;
	return NULL;
}

static bool labels_contradict(const struct label_list *root, const struct label_list *leaf)
{
	for (size_t i = 0; i < leaf->count; i++) {
		const char *value = label_value(root, leaf->items[i].key);

		if (value && strcmp(value, leaf->items[i].value))
			return true;
	}
	return false;
}

static bool matches_contradict(const struct http_match *root, const struct http_match *leaf)
{
	return contradicts(&root->uri, &leaf->uri) || contradicts(&root->scheme, &leaf->scheme) ||
	       contradicts(&root->method, &leaf->method) || contradicts(&root->authority, &leaf->authority) ||
	       lists_contradict(&root->headers, &leaf->headers) || lists_contradict(&root->without, &leaf->without) ||
	       lists_contradict(&root->params, &leaf->params) || root->ignore_case != leaf->ignore_case ||
	       (root->port && leaf->port && root->port != leaf->port) ||
	       (root->source_namespace && (!leaf->source_namespace || strcmp(root->source_namespace, leaf->source_namespace))) ||
	       labels_contradict(&root->source_labels, &leaf->source_labels);
}

/* ---- merging ---- */

static const char *merge_names(struct arena *arena, const char *root, const char *leaf)
{
	return root && leaf ? arena_printf(arena, "%s-%s", root, leaf) : leaf ? leaf : root;
}

static void merge_list(struct arena *arena, struct text_matches *out, const struct text_matches *root)
{
	struct text_matches merged = {0};

	for (size_t i = 0; i < out->count; i++)
		*arena_append(arena, merged.items, merged.count, merged.capacity) = out->items[i];
	for (size_t i = 0; i < root->count; i++)
		if (!find_named(out, root->items[i].name))
			*arena_append(arena, merged.items, merged.count, merged.capacity) = root->items[i];
	*out = merged;
}

static void merge_labels(struct arena *arena, struct label_list *out, const struct label_list *root)
{
	struct label_list merged = {0};

	for (size_t i = 0; i < out->count; i++)
		*arena_append(arena, merged.items, merged.count, merged.capacity) = out->items[i];
	for (size_t i = 0; i < root->count; i++)
		if (!label_value(out, root->items[i].key))
			*arena_append(arena, merged.items, merged.count, merged.capacity) = root->items[i];
	*out = merged;
}

static struct http_match merge_matches(struct arena *arena, const struct http_match *root, const struct http_match *leaf)
{
	struct http_match out = *leaf;

	out.name = merge_names(arena, root->name, leaf->name);
	if (out.uri.rule == TEXT_ANY)
		out.uri = root->uri;
	if (out.scheme.rule == TEXT_ANY)
		out.scheme = root->scheme;
	if (out.method.rule == TEXT_ANY)
		out.method = root->method;
	if (out.authority.rule == TEXT_ANY)
		out.authority = root->authority;
	merge_list(arena, &out.headers, &root->headers);
	merge_list(arena, &out.without, &root->without);
	merge_list(arena, &out.params, &root->params);
	merge_labels(arena, &out.source_labels, &root->source_labels);
	out.port = out.port ? out.port : root->port;
	out.source_namespace = out.source_namespace ? out.source_namespace : root->source_namespace;
	out.never |= root->never;
	return out;
}

/* Each match of the delegate's rule within one of the root's. False: one of them is in none. */
static bool merge_all(struct arena *arena, struct http_route *out, const struct http_route *root, const struct http_route *leaf)
{
	out->matches = NULL;
	out->match_count = out->match_capacity = 0;
	if (!root->match_count || !leaf->match_count) {
		const struct http_route *one = root->match_count ? root : leaf;

		out->matches = one->matches;
		out->match_count = out->match_capacity = one->match_count;
		return true;
	}
	for (size_t i = 0; i < leaf->match_count; i++) {
		bool found = false;

		for (size_t k = 0; k < root->match_count && out->match_count < MAX_MERGED; k++) {
			if (matches_contradict(&root->matches[k], &leaf->matches[i]))
				continue;
			found = true;
			*arena_append(arena, out->matches, out->match_count, out->match_capacity) =
				merge_matches(arena, &root->matches[k], &leaf->matches[i]);
		}
		if (!found)
			return false;
	}
	return true;
}

/* What the delegate's rule does not say, the root's does. */
static struct http_route merge_actions(struct arena *arena, const struct http_route *root, const struct http_route *leaf)
{
	struct http_route out = *leaf;

	out.name = merge_names(arena, root->name, leaf->name);
	if (!out.rewrite.present)
		out.rewrite = root->rewrite;
	if (!out.direct.present)
		out.direct = root->direct;
	if (!out.timeout_ms)
		out.timeout_ms = root->timeout_ms;
	if (!out.retries.present)
		out.retries = root->retries;
	if (!out.delay.present && !out.abort.present) {
		out.delay = root->delay;
		out.abort = root->abort;
	}
	if (!out.cors.present)
		out.cors = root->cors;
	if (!out.headers.present)
		out.headers = root->headers;
	if (!out.mirror_count) {
		out.mirrors = root->mirrors;
		out.mirror_count = out.mirror_capacity = root->mirror_count;
	}
	return out;
}

/* ---- finding ---- */

static int by_name(const void *a, const void *b)
{
	const struct virtual_service *x = *(struct virtual_service *const *)a, *y = *(struct virtual_service *const *)b;
	int order = strcmp(x->object.namespace_, y->object.namespace_);

	return order ? order : strcmp(x->object.name, y->object.name);
}

struct delegates {
	struct virtual_service **items; /* sorted by namespace and name */
	size_t count, capacity;
};

static const struct virtual_service *find_delegate(const struct delegates *delegates, const char *namespace_, const char *name)
{
	struct virtual_service wanted = {.object = {.namespace_ = namespace_, .name = name}}, *key = &wanted;
	struct virtual_service **found =
		delegates->count ? bsearch(&key, delegates->items, delegates->count, sizeof(key), by_name) : NULL;

	return found ? *found : NULL;
}

static void add_rules(struct config *config, struct virtual_service *service, const struct delegates *delegates,
		      const struct http_route *root, size_t index)
{
	const char *namespace_ = root->delegate_namespace ? root->delegate_namespace : service->object.namespace_;
	const struct virtual_service *delegate = find_delegate(delegates, namespace_, root->delegate);
	const char *object = arena_printf(config->arena, "VirtualService/%s", service->object.name);
	const char *field = arena_printf(config->arena, "spec.http[%zu].delegate", index);

	if (!delegate) {
		config_problem(config, SEVERITY_WARNING, &root->at, object, field,
			       "there is no VirtualService/%s without hosts in namespace \"%s\": this rule is left out", root->delegate, namespace_);
		return;
	}
	for (size_t i = 0; i < delegate->http_count; i++) {
		struct http_route merged = merge_actions(config->arena, root, &delegate->http[i]);

		if (merge_all(config->arena, &merged, root, &delegate->http[i]))
			*arena_append(config->arena, service->http, service->http_count, service->http_capacity) = merged;
		else
			config_problem(config, SEVERITY_WARNING, &delegate->http[i].at, object, field,
				       "rule %zu of VirtualService/%s matches what this rule does not: it is left out", i, root->delegate);
	}
}

static void resolve(struct config *config, struct virtual_service *service, const struct delegates *delegates)
{
	const struct http_route *rules = service->http;
	size_t count = service->http_count;
	bool any = false;

	for (size_t i = 0; i < count; i++)
		any |= rules[i].delegate != NULL;
	if (!any)
		return;
	service->http = NULL;
	service->http_count = service->http_capacity = 0;
	for (size_t i = 0; i < count; i++) {
		if (rules[i].delegate)
			add_rules(config, service, delegates, &rules[i], i);
		else
			*arena_append(config->arena, service->http, service->http_count, service->http_capacity) = rules[i];
	}
}

void config_resolve_delegates(struct config *config)
{
	struct delegates delegates = {0};

	for (size_t i = 0; i < config->virtual_service_count; i++)
		if (!config->virtual_services[i]->host_count && config->virtual_services[i]->object.name)
			*arena_append(config->arena, delegates.items, delegates.count, delegates.capacity) = config->virtual_services[i];
	if (delegates.count)
		qsort(delegates.items, delegates.count, sizeof(*delegates.items), by_name);
	for (size_t i = 0; i < config->virtual_service_count && !config->error_count; i++)
		if (config->virtual_services[i]->host_count)
			resolve(config, config->virtual_services[i], &delegates);
}
