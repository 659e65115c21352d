/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tcx DEVICE: puts a program that lets everything pass before all others at the ingress of DEVICE, says "attached", and
 * holds it there for 60 seconds, or until it is ended.
 */
#include <linux/bpf.h>
#include <net/if.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

/* linux/bpf.h of Linux 6.6, which older headers lack. */
#define TCX_INGRESS 46
#define BEFORE (1U << 3)
#define TCX_PASS 0

static int bpf(int command, union bpf_attr *attr)
{
	return (int)syscall(SYS_bpf, command, attr, sizeof(*attr));
}

static int load(void)
{
	static const struct bpf_insn pass[] = {
		{.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_0, .imm = TCX_PASS},
		{.code = BPF_JMP | BPF_EXIT},
	};
	union bpf_attr attr;

	memset(&attr, 0, sizeof(attr));
	attr.prog_type = BPF_PROG_TYPE_SCHED_CLS;
	attr.insns = (uintptr_t)pass;
	attr.insn_cnt = 2;
	attr.license = (uintptr_t) "GPL";
	return bpf(BPF_PROG_LOAD, &attr);
}

int main(int argc, char **argv)
{
	union bpf_attr attr;
	int program = load();

	memset(&attr, 0, sizeof(attr));
	if (argc != 2 || program < 0)
		return 2;
	attr.link_create.prog_fd = (uint32_t)program;
	attr.link_create.target_fd = if_nametoindex(argv[1]); /* target_ifindex has its place */
	attr.link_create.attach_type = TCX_INGRESS;
	attr.link_create.flags = BEFORE;
	if (bpf(BPF_LINK_CREATE, &attr) < 0) {
		perror("BPF_LINK_CREATE");
		return 1;
	}
	puts("attached");
	fflush(stdout);
	sleep(60);
	return 0;
}
