/* SPDX-License-Identifier: Apache-2.0 */
/* A network namespace of the test's own, with a DNS server on 127.0.0.1:53 and a resolv.conf that names it (as root). */
#ifndef SLUICE_TEST_DNS_RIG_H
#define SLUICE_TEST_DNS_RIG_H

#include <criterion/criterion.h>
#include <net/if.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <unistd.h>

#include "dns_server.h"

static char directory[] = "/tmp/names_test.XXXXXX", resolv_conf[64];

static void write_file(const char *path, const char *text)
{
	FILE *file = fopen(path, "we");

	cr_assert(file);
	fputs(text, file);
	fclose(file);
}

static void bring_lo_up(void)
{
	struct ifreq request = {.ifr_name = "lo", .ifr_flags = IFF_UP};
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	cr_assert_eq(ioctl(fd, SIOCSIFFLAGS, &request), 0);
	close(fd);
}

static void dns_rig_start(void)
{
	if (unshare(CLONE_NEWNET | CLONE_NEWNS) < 0)
		cr_skip_test("needs root");
	cr_assert_eq(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL), 0);
	bring_lo_up();
	cr_assert(mkdtemp(directory));
	snprintf(resolv_conf, sizeof(resolv_conf), "%s/resolv.conf", directory);
	write_file(resolv_conf, "nameserver 127.0.0.1\n");
	loop = loop_new();
	server_start();
}

static void dns_rig_stop(void)
{
	char path[64];

	loop_free(loop);
	snprintf(path, sizeof(path), "%s/hosts", directory);
	umount2("/etc/hosts", MNT_DETACH);
	unlink(path);
	unlink(resolv_conf);
	rmdir(directory);
}

static void on_slice(void *context)
{
	loop_stop(context);
}

static void run_for(uint64_t ms)
{
	struct loop_timer *timer = loop_timer_new(loop, on_slice, loop);

	loop_timer_arm(timer, ms);
	loop_run(loop);
	loop_timer_free(timer);
}

#define wait_until(condition, ms)                                                       \
	do {                                                                            \
		uint64_t give_up_ = loop_now_ms() + (ms);                               \
		while (!(condition) && loop_now_ms() < give_up_)                        \
			run_for(5);                                                     \
		cr_assert(condition, "not within %d ms: %s", (int)(ms), #condition);    \
	} while (0)

#endif
