// SPDX-License-Identifier: Apache-2.0
#include "command/health.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "command/run.h"

#define PERIOD_MS 2000

struct health {
	struct daemon *daemon;
	struct loop_timer *timer;
	pthread_mutex_t lock; /* of `texts`: the admin page reads them */
	char texts[TROUBLE_COUNT][SLUICE_ERROR_TEXT];
};

static const struct {
	const char *name;
	bool logged; /* by those who noticed, with more detail */
} kinds[TROUBLE_COUNT] = {
	[TROUBLE_CANARY] = {"canary", false},
	[TROUBLE_PINS] = {"pins", false},   [TROUBLE_MAPS] = {"maps", true},  [TROUBLE_REDIRECTOR] = {"redirector", false},
	[TROUBLE_NAMES] = {"names", true}, [TROUBLE_DISK] = {"disk", false},
};

const char *health_trouble_name(enum trouble trouble)
{
	return kinds[trouble].name;
}

void health_set(struct health *health, enum trouble trouble, const char *text)
{
	bool was = health->texts[trouble][0] != 0;

	if (text && !was && !kinds[trouble].logged)
		log_error("%s", text);
	if (!text && was && !kinds[trouble].logged)
		log_info("%s: well again", kinds[trouble].name);
	pthread_mutex_lock(&health->lock);
	snprintf(health->texts[trouble], sizeof(health->texts[trouble]), "%s", text ? text : "");
	pthread_mutex_unlock(&health->lock);
}

static void look_at_pins(struct daemon *daemon)
{
	char why[PATH_MAX + 64], text[PATH_MAX + 256];
	int error = kernel_keep_pins(daemon->kernel, why, sizeof(why));

	snprintf(text, sizeof(text),
		 "pins: %s: %s; pid %d holds the hooks, and enforcement ends with it; pinned again as soon as that can be",
		 daemon->options->pin, why, (int)getpid());
	health_set(daemon->health, TROUBLE_PINS, error ? text : NULL);
}

static void look_at_maps(struct daemon *daemon)
{
	const char *example = "";
	size_t count = workloads_unpublished(daemon->workloads, &example);
	char text[SLUICE_ERROR_TEXT];

	snprintf(text, sizeof(text), "maps: no room in the kernel for %zu of the governed cgroups and namespaces, such as %s; "
		 "they are refused, tried again", count, example);
	health_set(daemon->health, TROUBLE_MAPS, count ? text : daemon->outdated[0] ? daemon->outdated : NULL);
}

static void look_at_redirector(struct daemon *daemon)
{
	uint64_t silence = supervisor_silence_ms(daemon->supervisor);
	char text[160];

	snprintf(text, sizeof(text), "redirector: pid %u has said nothing for %u s; redirected connections wait for it",
		 supervisor_pid(daemon->supervisor), (unsigned int)(silence / 1000));
	health_set(daemon->health, TROUBLE_REDIRECTOR, silence ? text : NULL);
}

static void look_at_names(struct daemon *daemon)
{
	const char *host = "", *why = "";
	size_t count = names_failing(daemon->names, &host, &why);
	char text[SLUICE_ERROR_TEXT];

	snprintf(text, sizeof(text), "names: %zu get no answer, such as %s: %s; the last good addresses stay, asked again", count,
		 host, why);
	health_set(daemon->health, TROUBLE_NAMES, count ? text : NULL);
}

static void on_period(void *context)
{
	struct health *health = context;
	struct daemon *daemon = health->daemon;

	look_at_pins(daemon);
	look_at_maps(daemon);
	look_at_redirector(daemon);
	look_at_names(daemon);
	apply_save_again(daemon);
	loop_timer_arm(health->timer, PERIOD_MS);
}

struct health *health_new(struct daemon *daemon)
{
	struct health *health = xcalloc(1, sizeof(*health));

	health->daemon = daemon;
	pthread_mutex_init(&health->lock, NULL);
	health->timer = loop_timer_new(daemon->loop, on_period, health);
	loop_timer_arm(health->timer, PERIOD_MS);
	return health;
}

void health_free(struct health *health)
{
	if (!health)
		return;
	loop_timer_free(health->timer);
	pthread_mutex_destroy(&health->lock);
	free(health);
}

bool health_has(struct health *health, enum trouble trouble)
{
	bool has;

	pthread_mutex_lock(&health->lock);
	has = health->texts[trouble][0] != 0;
	pthread_mutex_unlock(&health->lock);
	return has;
}

bool health_summary(const struct daemon *daemon, char *out, size_t room)
{
	unsigned int attached = kernel_attached(daemon->kernel), expected = kernel_expected(daemon->kernel);
	struct health *health = daemon->health;
	bool ready;
	struct state now;
	size_t n;

	kernel_read_state(daemon->kernel, &now);
	ready = now.generation && attached == expected && atomic_load(&daemon->canary_asked) && devices_looked(daemon->devices);
	n = (size_t)snprintf(out, room, "%s: generation %llu, %u of %u hooks attached%s%s", ready ? "enforcing" : "not enforcing",
			     (unsigned long long)now.generation, attached, expected, now.last_error[0] ? "; " : "",
			     now.last_error);
	pthread_mutex_lock(&health->lock);
	for (unsigned int i = 0; i < TROUBLE_COUNT && n < room; i++)
		if (health->texts[i][0])
			n += (size_t)snprintf(out + n, room - n, "; %s", health->texts[i]);
	ready = ready && !health->texts[TROUBLE_CANARY][0] && !health->texts[TROUBLE_PINS][0];
	pthread_mutex_unlock(&health->lock);
	return ready;
}
