// SPDX-License-Identifier: Apache-2.0
#include "verdict_model.h"

#include <criterion/criterion.h>
#include <string.h>

#define POLICIES 2500
#define FLOWS 40

static unsigned int draw(void *seed, unsigned int below)
{
	uint64_t *state = seed;

	*state = *state * 6364136223846793005ULL + 1442695040888963407ULL;
	return (unsigned int)(*state >> 33) % below;
}

/* By way of the documents, so that the reader has its part. */
static void compare_once(const struct random_source *source, unsigned int seen[REASON_COUNT])
{
	struct config *made = config_new(), *config = config_new();
	_cleanup_free_ char *text = NULL, *why = NULL;
	struct config_file file;

	random_config(made, source);
	text = random_config_text(made);
	file = (struct config_file){"p.yaml", text, strlen(text)};
	config_parse(config, &file);
	config_validate(config, "istio-system");
	for (size_t i = 0; config->error_count && i < config->problem_count; i++)
		config_problem_print(stderr, &config->problems[i]);
	cr_assert_eq(config->error_count, 0, "of\n%s", text);
	why = verdict_model_compare(config, source, FLOWS, seen);
	cr_assert_null(why, "%s", why);
	config_free(config);
	config_free(made);
}

Test(verdict_model, random_policies_and_flows_get_the_same_verdict_from_both)
{
	unsigned int seen[REASON_COUNT] = {0};
	uint64_t seed = 20260801;
	struct random_source source = {draw, &seed};

	for (int i = 0; i < POLICIES; i++)
		compare_once(&source, seen);
	for (unsigned int reason = REASON_LOOPBACK; reason <= REASON_UDP_NAME_CHECK; reason++)
		cr_expect_gt(seen[reason], 0, "no flow had reason %s", verdict_reason_name((uint8_t)reason));
}
