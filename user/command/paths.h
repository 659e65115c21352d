/* SPDX-License-Identifier: Apache-2.0 */
/* Where a daemon's sockets and lock are: /run/<last component of its pin directory>. */
#ifndef SLUICE_PATHS_H
#define SLUICE_PATHS_H

#include <linux/limits.h>
#include <stddef.h>

struct run_paths {
	char directory[PATH_MAX];
	char lock[PATH_MAX];
	char control[PATH_MAX];    /* SEQPACKET: exec, status and detach talk to the daemon */
	char redirector[PATH_MAX]; /* SEQPACKET: the daemon talks to the redirector */
	char applied[PATH_MAX];    /* config_source_pack() of the generation in force */
};

void run_paths_of(struct run_paths *out, const char *pin);

/* The control socket: one request, one answer, each a packet. Only root can reach the directory. */
enum control_type {
	CONTROL_PREPARE = 1, /* `pid` is in its cgroup: answer when its namespace has listeners */
	CONTROL_DETACH = 2,  /* let go of everything and do not attach again; the caller removes the pins */
	CONTROL_HEALTH = 3,  /* what the daemon itself says of its state; error 0 when it is ready */
};

struct control_request {
	unsigned int type;
	int pid;
};

struct control_answer {
	int error; /* 0 or -errno */
	char text[1020];
};

/* What came over the socket. 0; -EBADMSG: no such packet; a request also -EINVAL: not one that can be served. Pure. */
int control_read_request(struct control_request *out, const void *bytes, size_t length);
int control_read_answer(struct control_answer *out, const void *bytes, size_t length);

/* Asks the daemon. 0 with `answer`, whose own `error` counts then; -ENOENT or -ECONNREFUSED when none runs; -ETIMEDOUT. */
int control_ask(const struct run_paths *paths, const struct control_request *request, struct control_answer *answer,
		int timeout_ms);

#endif
