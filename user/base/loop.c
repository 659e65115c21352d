// SPDX-License-Identifier: Apache-2.0
#include "base/loop.h"

#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <time.h>

#include "base/memory.h"

struct watch {
	loop_fd_handler handler;
	void *context;
};

struct loop_timer {
	struct loop *loop;
	struct loop_timer *next;
	loop_timer_handler handler;
	void *context;
	uint64_t deadline_ms; /* 0: disarmed */
};

struct loop {
	int epoll_fd;
	bool stopped;
	struct watch *watches; /* indexed by descriptor */
	size_t watch_count;
	struct loop_timer *timers; /* few: a plain list */
};

uint64_t loop_now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

struct loop *loop_new(void)
{
	struct loop *loop = xcalloc(1, sizeof(*loop));

	loop->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (loop->epoll_fd < 0) {
		free(loop);
		return NULL;
	}
	return loop;
}

void loop_free(struct loop *loop)
{
	if (!loop)
		return;
	close(loop->epoll_fd);
	free(loop->watches);
	free(loop);
}

int loop_watch(struct loop *loop, int fd, uint32_t epoll_events, loop_fd_handler handler, void *context)
{
	struct epoll_event event = {.events = epoll_events, .data.fd = fd};
	size_t needed = (size_t)fd + 1;
	bool known;

	if (fd < 0)
		return -EBADF;
	if (needed > loop->watch_count) {
		loop->watches = xrealloc(loop->watches, needed, sizeof(*loop->watches));
		memset(loop->watches + loop->watch_count, 0, (needed - loop->watch_count) * sizeof(*loop->watches));
		loop->watch_count = needed;
	}
	known = loop->watches[fd].handler != NULL;
	if (epoll_ctl(loop->epoll_fd, known ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, fd, &event) < 0)
		return -errno;
	loop->watches[fd] = (struct watch){handler, context};
	return 0;
}

void loop_unwatch(struct loop *loop, int fd)
{
	if (fd < 0 || (size_t)fd >= loop->watch_count || !loop->watches[fd].handler)
		return;
	epoll_ctl(loop->epoll_fd, EPOLL_CTL_DEL, fd, NULL);
	loop->watches[fd] = (struct watch){0};
}

struct loop_timer *loop_timer_new(struct loop *loop, loop_timer_handler handler, void *context)
{
	struct loop_timer *timer = xcalloc(1, sizeof(*timer));

	*timer = (struct loop_timer){.loop = loop, .next = loop->timers, .handler = handler, .context = context};
	loop->timers = timer;
	return timer;
}

void loop_timer_free(struct loop_timer *timer)
{
	if (!timer)
		return;
	for (struct loop_timer **at = &timer->loop->timers; *at; at = &(*at)->next) {
		if (*at == timer) {
			*at = timer->next;
			break;
		}
	}
	free(timer);
}

void loop_timer_arm(struct loop_timer *timer, uint64_t delay_ms)
{
	timer->deadline_ms = loop_now_ms() + delay_ms;
}

void loop_timer_disarm(struct loop_timer *timer)
{
	timer->deadline_ms = 0;
}

bool loop_timer_armed(const struct loop_timer *timer)
{
	return timer->deadline_ms != 0;
}

static struct loop_timer *first_due(const struct loop *loop)
{
	struct loop_timer *first = NULL;

	for (struct loop_timer *timer = loop->timers; timer; timer = timer->next)
		if (timer->deadline_ms && (!first || timer->deadline_ms < first->deadline_ms))
			first = timer;
	return first;
}

static void run_due_timers(struct loop *loop)
{
	uint64_t now = loop_now_ms();

	/* A handler may free or arm any timer: look again from the start each time. */
	for (struct loop_timer *timer = first_due(loop); timer && timer->deadline_ms <= now; timer = first_due(loop)) {
		timer->deadline_ms = 0;
		timer->handler(timer->context);
	}
}

static int wait_ms(const struct loop *loop)
{
	const struct loop_timer *timer = first_due(loop);
	uint64_t now;

	if (!timer)
		return -1;
	now = loop_now_ms();
	if (timer->deadline_ms <= now)
		return 0;
	return timer->deadline_ms - now > 60000 ? 60000 : (int)(timer->deadline_ms - now);
}

int loop_run(struct loop *loop)
{
	struct epoll_event events[64];

	loop->stopped = false;
	while (!loop->stopped) {
		int n = epoll_wait(loop->epoll_fd, events, ARRAY_SIZE(events), wait_ms(loop));

		if (n < 0 && errno != EINTR)
			return -errno;
		for (int i = 0; i < n && !loop->stopped; i++) {
			int fd = events[i].data.fd;
			struct watch watch = loop->watches[fd];

			if (watch.handler)
				watch.handler(watch.context, fd, events[i].events);
		}
		run_due_timers(loop);
	}
	return 0;
}

void loop_stop(struct loop *loop)
{
	loop->stopped = true;
}
