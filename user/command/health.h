/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is wrong at the moment besides the configuration, in words an operator can act on. Looked at every two seconds;
 * trouble is logged when it comes and when it goes, and shown by `status`, /readyz and the metrics meanwhile.
 */
#ifndef SLUICE_HEALTH_H
#define SLUICE_HEALTH_H

#include <stdbool.h>
#include <stddef.h>

enum trouble { TROUBLE_CANARY, TROUBLE_PINS, TROUBLE_MAPS, TROUBLE_REDIRECTOR, TROUBLE_NAMES, TROUBLE_DISK, TROUBLE_COUNT };

struct daemon;
struct health;

struct health *health_new(struct daemon *daemon);
void health_free(struct health *health); /* accepts NULL */
/* NULL: it is well. The first text of trouble of a kind is logged, unless whoever noticed does that; later ones are only shown. */
void health_set(struct health *health, enum trouble trouble, const char *text);

const char *health_trouble_name(enum trouble trouble);
/* Any thread. */
bool health_has(struct health *health, enum trouble trouble);
/* The one line of /readyz and `status`. True: it enforces, and would go on without this daemon. Any thread. */
bool health_summary(const struct daemon *daemon, char *out, size_t room);

#endif
