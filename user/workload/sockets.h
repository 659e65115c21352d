/* SPDX-License-Identifier: Apache-2.0 */
/* The TCP and UDP sockets of a network namespace (sock_diag(7)): looking at them, and ending one. */
#ifndef SLUICE_SOCKETS_H
#define SLUICE_SOCKETS_H

#include <linux/inet_diag.h>
#include <stdbool.h>
#include <stdint.h>

#include "abi.h"

struct open_socket {
	uint8_t peer[16];        /* canonical */
	uint16_t peer_port;      /* host order */
	uint16_t own_port;       /* host order */
	uint8_t protocol;        /* enum sluice_protocol */
	bool listens;            /* TCP; then there is no peer */
	uint64_t cgroup;         /* id; 0: not told */
	struct socket_mark mark; /* .mark 0: none */
	uint8_t family;
	struct inet_diag_sockid id;
};

/* A descriptor by which to look into a namespace, for as long as it is open. Or -errno. */
int sockets_open(int netns_fd);

/* Calls back for each TCP socket that listens or has a peer, and each connected UDP socket. 0 or -errno. */
int sockets_each(int diag_fd, int marks_fd, void (*visit)(void *context, const struct open_socket *socket), void *context);

/*
 * Whether sock_diag ends sockets, and whether it tells of their storage; tried in the calling thread's namespace, on a socket
 * that `mark` has marked with MARK_OWN. 0 or -errno.
 */
int sockets_probe(int marks_fd, int (*mark)(void *context, int fd), void *context, bool *destroys, bool *tells_storage);

/* Ends it: its owner gets ECONNABORTED, a TCP peer a RST. 0 or -errno. */
int sockets_destroy(int diag_fd, const struct open_socket *socket);
/* The same for one that is known by its addresses only (canonical; ports in host order). -ENOENT: there is none. */
int sockets_destroy_tcp(int diag_fd, const uint8_t own[16], uint16_t own_port, const uint8_t peer[16], uint16_t peer_port);

#endif
