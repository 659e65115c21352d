/* SPDX-License-Identifier: Apache-2.0 */
/* What `sluice run` keeps of root's power. tools/deploy/README.md, daemonset.yaml and sluice.service say the same. */
#ifndef SLUICE_PRIVILEGES_H
#define SLUICE_PRIVILEGES_H

/* Gives up every other capability, for itself and for what it starts. Before any thread is started. 0 or -errno, logged. */
int privileges_drop(void);

#endif
