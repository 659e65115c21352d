// SPDX-License-Identifier: Apache-2.0
/*
 * What SO_ORIGINAL_DST says of the sockets of another process, as a stock proxy in its place would ask: origdst PID
 * prints one line, "original=ADDRESS,PORT", for each socket that has an answer.
 */
#include <netinet/in.h>
#include <sys/syscall.h>

#include "net.h"

#define SO_ORIGINAL_DST 80      /* linux/netfilter_ipv4.h */
#define IP6T_SO_ORIGINAL_DST 80 /* linux/netfilter_ipv6/ip6_tables.h */
#define MAX_DESCRIPTORS 1024

int main(int argc, char **argv)
{
	int process = argc == 2 ? (int)syscall(SYS_pidfd_open, atoi(argv[1]), 0) : -1;

	if (process < 0) {
		perror("origdst PID");
		return 2;
	}
	for (int i = 0; i < MAX_DESCRIPTORS; i++) {
		int fd = (int)syscall(SYS_pidfd_getfd, process, i, 0);
		struct endpoint original = {.length = sizeof(original.addr)};

		if (fd < 0)
			continue;
		if (getsockopt(fd, SOL_IP, SO_ORIGINAL_DST, &original.addr, &original.length) == 0 ||
		    getsockopt(fd, SOL_IPV6, IP6T_SO_ORIGINAL_DST, &original.addr, &original.length) == 0) {
			endpoint_print(stdout, "original", &original);
			putchar('\n');
		}
		close(fd);
	}
	return 0;
}
