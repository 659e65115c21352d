/* SPDX-License-Identifier: Apache-2.0 */
/* The redirector as a process: what `sluice redirector` runs. */
#ifndef SLUICE_SERVER_H
#define SLUICE_SERVER_H

/* Serves until it is told to quit. The loader is accepted on descriptor REDIRECTOR_LISTEN_FD. 0 or -errno, logged. */
int redirector_run(void);

#endif
