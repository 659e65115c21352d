/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the redirector gives up. It reads what strangers send: whoever takes it over shall find a process that can read
 * and write the sockets it was given, dial those it is given later, and nothing else. DESIGN §5.
 */
#ifndef SLUICE_CONFINE_H
#define SLUICE_CONFINE_H

/* Before any thread is started: nobody's uid, no capability, no way to gain one, no file system. 0 or -errno, logged. */
int confine_privileges(void);

/* When all threads run: every one of them is killed, and the process with it, for a system call that is not listed. */
int confine_system_calls(void);

#endif
