/* SPDX-License-Identifier: Apache-2.0 */
/* A single-threaded epoll loop with one-shot timers, for the loader and the commands. */
#ifndef SLUICE_LOOP_H
#define SLUICE_LOOP_H

#include <stdbool.h>
#include <stdint.h>

struct loop;
struct loop_timer;

typedef void (*loop_fd_handler)(void *context, int fd, uint32_t epoll_events);
typedef void (*loop_timer_handler)(void *context);

struct loop *loop_new(void);
void loop_free(struct loop *loop); /* accepts NULL; closes none of the watched descriptors */

/* Watches `fd` (borrowed), or changes the events of one already watched. 0 or -errno. */
int loop_watch(struct loop *loop, int fd, uint32_t epoll_events, loop_fd_handler handler, void *context);
/* Stops watching; must come before the descriptor is closed. Safe inside any handler. */
void loop_unwatch(struct loop *loop, int fd);

/* Timers are owned by the caller and disarmed until armed. */
struct loop_timer *loop_timer_new(struct loop *loop, loop_timer_handler handler, void *context);
void loop_timer_free(struct loop_timer *timer); /* accepts NULL */
void loop_timer_arm(struct loop_timer *timer, uint64_t delay_ms); /* from now; replaces an earlier deadline */
void loop_timer_disarm(struct loop_timer *timer);
bool loop_timer_armed(const struct loop_timer *timer);

int loop_run(struct loop *loop); /* until loop_stop(); 0 or -errno */
void loop_stop(struct loop *loop);
uint64_t loop_now_ms(void); /* CLOCK_MONOTONIC */

#endif
