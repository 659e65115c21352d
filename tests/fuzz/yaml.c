// SPDX-License-Identifier: Apache-2.0
/*
 * A policy file: from its bytes to the maps of a generation. Every refusal has its place and is fit for a terminal; what
 * is accepted compiles, and compiles again to the same maps, byte for byte (the redirector compiles for itself).
 */
#include "config/config.h"
#include "config/walk.h"
#include "fuzz.h"
#include "policy/policy.h"

#define ROOT "istio-system"

static const char file_name[] = "p.yaml";
static const uint8_t own_resolver[1][16] = {{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 9, 9, 9, 9}};
static const struct policy_options options = {ROOT, own_resolver, 1};

/* Up to two addresses for any name, so that DNS services reach the maps too. */
static const uint8_t (*look_up(void *context, const char *host, size_t *count))[16]
{
	static uint8_t found[2][16];

	(void)context;
	*count = strlen(host) % 3;
	memset(found, 0, sizeof(found));
	found[0][10] = found[0][11] = 0xff;
	memcpy(found[0] + 12, host, strlen(host) < 4 ? strlen(host) : 4);
	found[1][0] = 0x20;
	found[1][15] = (uint8_t)host[0];
	return (const uint8_t (*)[16])found;
}

/* What one reading of the file came to. */
struct reading {
	struct config *config;
	struct policy *policy;
	struct image *image;
};

static void read_file(struct reading *out, const char *text, size_t length)
{
	static const struct label web = {"app", "web"};
	static const struct workload_identity nobody = {"", "", NULL, 0}, cart = {"shop", "cart", &web, 1};
	struct config_file file = {file_name, text, length};
	const struct rule_set *rules;

	*out = (struct reading){.config = config_new()};
	out->config->unix_directory = "";
	config_parse(out->config, &file);
	config_validate(out->config, ROOT);
	if (out->config->error_count)
		return;
	out->policy = policy_compile(out->config, &options);
	CHECK(!out->policy == !!out->config->error_count, "%zu errors", out->config->error_count);
	if (!out->policy)
		return;
	CHECK(policy_rule_set(out->policy, &nobody, &rules) && rules, "no rule set");
	CHECK(policy_rule_set(out->policy, &cart, &rules) && rules, "no rule set");
	out->image = policy_image_build(out->policy, look_up, NULL, NULL, NULL);
}

static void forget(struct reading *reading)
{
	image_free(reading->image);
	policy_free(reading->policy);
	config_free(reading->config);
}

static void check_problems(const struct config *config)
{
	size_t errors = 0;

	for (size_t i = 0; i < config->problem_count; i++) {
		const struct problem *problem = &config->problems[i];
		char line[4096 + 4 * SLUICE_ERROR_TEXT];

		errors += problem->severity == SEVERITY_ERROR;
		config_problem_format(line, sizeof(line), problem);
		CHECK(!strcmp(problem->at.file, file_name) && problem->at.line && problem->at.column, "%s", line);
		CHECK(problem->text[0], "a problem without words: %s", line);
		for (const unsigned char *p = (const unsigned char *)line; *p; p++)
			CHECK(*p >= ' ' && *p != 0x7f && !(*p == 0xc2 && p[1] >= 0x80 && p[1] < 0xa0), "%s", line);
	}
	CHECK(errors == config->error_count || config->problem_count == CONFIG_MAX_PROBLEMS, "%zu of %zu errors", errors,
	      config->error_count);
}

/* Keys in order and each once: the kernel takes them so, and lookups in an image are binary searches. */
#define CHECK_MAP(a, b, items, count)                                                                               \
	do {                                                                                                        \
		CHECK((a)->count == (b)->count, #items ": %zu and %zu", (a)->count, (b)->count);                    \
		CHECK(!(a)->count || !memcmp((a)->items, (b)->items, (a)->count * sizeof(*(a)->items)), #items " differ"); \
		for (size_t i_ = 1; i_ < (a)->count; i_++)                                                          \
			CHECK(memcmp(&(a)->items[i_ - 1].key, &(a)->items[i_].key, sizeof((a)->items->key)) < 0,   \
			      #items " out of order at %zu", i_);                                                   \
	} while (0)

static void compare(const struct reading *a, const struct reading *b)
{
	CHECK(a->config->error_count == b->config->error_count && a->config->problem_count == b->config->problem_count,
	      "other problems the second time");
	CHECK(!a->image == !b->image, "compiles only once");
	if (!a->image)
		return;
	CHECK(policy_service_count(a->policy) == policy_service_count(b->policy), "other services");
	CHECK_MAP(a->image, b->image, intercept, intercept_count);
	CHECK_MAP(a->image, b->image, bypass, bypass_count);
	CHECK_MAP(a->image, b->image, services, service_count);
	CHECK_MAP(a->image, b->image, ports, port_count);
	CHECK_MAP(a->image, b->image, rule_sets, rule_set_count);
	CHECK_MAP(a->image, b->image, catalog, catalog_count);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct reading first, second;

	read_file(&first, (const char *)data, size);
	check_problems(first.config);
	if (first.image) {
		read_file(&second, (const char *)data, size);
		compare(&first, &second);
		forget(&second);
	}
	forget(&first);
	return 0;
}
