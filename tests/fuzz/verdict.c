// SPDX-License-Identifier: Apache-2.0
/* The verdict: include/verdict.h over a compiled policy, and the slow model of the unit tests over its objects. */
#include "../unit/verdict_model.h"

#include "fuzz.h"

#define FLOWS 8

static unsigned int draw(void *feed, unsigned int below)
{
	return feed_byte(feed) % below;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct feed feed = {data, size};
	struct random_source source = {draw, &feed};
	unsigned int seen[REASON_COUNT] = {0};
	struct config *config = config_new();
	char *why;

	random_config(config, &source);
	why = verdict_model_compare(config, &source, FLOWS, seen);
	CHECK(!why, "%s", why);
	config_free(config);
	return 0;
}
