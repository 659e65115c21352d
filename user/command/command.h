/* SPDX-License-Identifier: Apache-2.0 */
/* The subcommands: one file each. Each gets argv from its own name on and returns the exit status. */
#ifndef SLUICE_COMMAND_H
#define SLUICE_COMMAND_H

#include <stdbool.h>

#define EXIT_USAGE 2 /* a wrong command line: nothing was done */

#define DEFAULT_CONFIG "/etc/sluice/policies"
#define DEFAULT_PIN "/sys/fs/bpf/sluice"
#define DEFAULT_ROOT_NAMESPACE "istio-system"
#define DEFAULT_REDIRECTOR_PORT 15001

int command_run(int argc, char **argv);
int command_check(int argc, char **argv);
int command_exec(int argc, char **argv);
int command_status(int argc, char **argv);
int command_explain(int argc, char **argv);
int command_flows(int argc, char **argv);
int command_dump(int argc, char **argv);
int command_detach(int argc, char **argv);
int command_redirector(int argc, char **argv); /* internal: started by `run` */

/* options.c: what several commands say of a wrong command line. These return EXIT_USAGE, and have told why. */
int refuse_option(const char *option, const char *value, const char *rule); /* `value` "must be" `rule` */
int refuse_arguments(char *const *arguments);                               /* where there should be none */
int take_unix_directory(const char **out, char *text);                      /* of --unix-endpoints; takes off final slashes */
int take_output(bool *json, const char *text);                              /* of -o; 0 if it is json or text */

#endif
