/* SPDX-License-Identifier: Apache-2.0 */
/* The subcommands: one file each. Each gets argv from its own name on and returns the exit status. */
#ifndef SLUICE_COMMAND_H
#define SLUICE_COMMAND_H

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

#endif
