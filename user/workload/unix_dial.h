/* SPDX-License-Identifier: Apache-2.0 */
/* Connections to Unix sockets of the node, which policies name and an operator allows (`--unix-endpoints`). */
#ifndef SLUICE_UNIX_DIAL_H
#define SLUICE_UNIX_DIAL_H

/*
 * A connection to the socket at `path`, which begins with `directory` and '/': a non-blocking stream socket, or -errno. -EAGAIN:
 * its backlog is full. No symbolic link below the directory is followed, and no mount there entered.
 */
int unix_dial(const char *directory, const char *path);

#endif
