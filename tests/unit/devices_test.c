/* SPDX-License-Identifier: Apache-2.0 */
/* The way without tcx, which this kernel may never take by itself: a clsact filter, on lo of a namespace of our own. */
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <criterion/criterion.h>
#include <linux/bpf.h>
#include <sched.h>
#include <unistd.h>

#include "kernel/kernel.h"

#define LO 1

static int load_verdict(int verdict)
{
	const struct bpf_insn program[] = {
		{.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_0, .imm = verdict},
		{.code = BPF_JMP | BPF_EXIT},
	};
	int fd = bpf_prog_load(BPF_PROG_TYPE_SCHED_CLS, "verdict", "GPL", program, 2, NULL);

	cr_assert_geq(fd, 0, "a program of two instructions loads");
	return fd;
}

Test(devices, a_filter_is_attached_replaced_and_removed)
{
	int first, second;

	cr_assert_eq(unshare(CLONE_NEWNET), 0, "needs root");
	libbpf_set_print(NULL);
	first = load_verdict(-1);
	second = load_verdict(2);
	cr_expect(!kernel_has_filter(LO, BPF_TC_INGRESS));
	cr_assert_eq(kernel_attach_filter(LO, BPF_TC_INGRESS, first), 0);
	cr_expect(kernel_has_filter(LO, BPF_TC_INGRESS));
	cr_expect(!kernel_has_filter(LO, BPF_TC_EGRESS), "the other direction is its own");
	cr_assert_eq(kernel_attach_filter(LO, BPF_TC_INGRESS, second), 0, "an upgrade replaces it");
	cr_assert_eq(kernel_attach_filter(LO, BPF_TC_EGRESS, first), 0, "the qdisc is there already");
	kernel_detach_filter(LO, BPF_TC_INGRESS);
	cr_expect(!kernel_has_filter(LO, BPF_TC_INGRESS));
	cr_expect(kernel_has_filter(LO, BPF_TC_EGRESS), "only ours, only there");
	kernel_detach_filter(LO, BPF_TC_EGRESS);
	close(first);
	close(second);
}

Test(devices, a_device_that_is_not_there_is_an_error)
{
	int fd;

	cr_assert_eq(unshare(CLONE_NEWNET), 0, "needs root");
	libbpf_set_print(NULL);
	fd = load_verdict(-1);
	cr_expect_lt(kernel_attach_filter(4242, BPF_TC_INGRESS, fd), 0);
	cr_expect(!kernel_has_filter(4242, BPF_TC_INGRESS));
	close(fd);
}
