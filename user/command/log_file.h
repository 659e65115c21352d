/* SPDX-License-Identifier: Apache-2.0 */
/* The access log's file, opened for the redirector: what it writes must never wait. */
#ifndef SLUICE_LOG_FILE_H
#define SLUICE_LOG_FILE_H

/* Before privileges are dropped: a terminal or pipe may be another user's. */
void log_file_prepare(void);

/* A descriptor, or -errno. /dev/stdout and /dev/stderr are this process's own. */
int log_file_open(const char *path);

#endif
