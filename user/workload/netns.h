/* SPDX-License-Identifier: Apache-2.0 */
/* Network namespaces: entering one for an instant to make a socket there. */
#ifndef SLUICE_NETNS_H
#define SLUICE_NETNS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* The calling thread's namespace, to come back to. A descriptor or -errno. */
int netns_open_own(void);
/* The namespace of a process. A descriptor or -errno. */
int netns_open_process(pid_t pid);

/* Moves the calling thread. 0 or -errno. */
int netns_enter(int netns_fd);

/* The cookie of the namespace that `socket_fd` lives in; the same number BPF sees. 0 or -errno. */
int netns_cookie_of_socket(int socket_fd, uint64_t *out);

/* The cookie of the calling thread's namespace. 0 or -errno. */
int netns_own_cookie(uint64_t *out);

/* Called with each socket before it is bound, to mark it. 0 or -errno. */
typedef int (*netns_mark)(void *context, int fd);

/*
 * A listening TCP socket on 127.0.0.1 or ::1 in the calling thread's namespace, marked before it is bound.
 * A descriptor, or -errno (-EAFNOSUPPORT: no IPv6 here; -EADDRINUSE: somebody has the port).
 */
int netns_listen(bool v6, uint16_t port, netns_mark mark, void *context);

#endif
