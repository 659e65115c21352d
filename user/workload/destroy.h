/* SPDX-License-Identifier: Apache-2.0 */
/* Ending a socket that is somebody else's. */
#ifndef SLUICE_DESTROY_H
#define SLUICE_DESTROY_H

#include <stdint.h>

/*
 * Destroys a TCP socket of the calling thread's namespace: its owner gets ECONNABORTED at once. Ports in host order.
 * 0 or -errno (-ENOENT: there is none).
 */
int destroy_tcp(const uint8_t own[16], uint16_t own_port, const uint8_t peer[16], uint16_t peer_port);

#endif
