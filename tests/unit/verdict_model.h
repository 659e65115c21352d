/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A second opinion: the rules of DESIGN §3 written again, slowly and straight on the configuration's objects, without
 * maps, ids or prefix tries. Random policies and flows must get the same verdict from it and from include/verdict.h.
 */
#ifndef SLUICE_VERDICT_MODEL_H
#define SLUICE_VERDICT_MODEL_H

#include "random_policy.h"

/*
 * Judges random flows by `config`, which is made as random_config() makes it. NULL: both agree, and `seen` counts the
 * reasons; else what they do not agree on, with the documents. Free it.
 */
char *verdict_model_compare(struct config *config, const struct random_source *source, unsigned int flows,
			    unsigned int seen[REASON_COUNT]);

#endif
