/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What this kernel can do, found out by trying each thing; never by its version. Features are bits of state.features,
 * so that `status` can tell of them while no daemon runs.
 */
#ifndef SLUICE_PROBE_H
#define SLUICE_PROBE_H

#include <stdbool.h>
#include <stdint.h>

enum feature {
	FEATURE_CONNECT, FEATURE_SENDMSG, FEATURE_RECVMSG, FEATURE_GETPEERNAME, FEATURE_SET_RETVAL, FEATURE_CGROUP_ID,
	FEATURE_NETNS_COOKIE, FEATURE_SOCKET_COOKIE, FEATURE_SOCKET_STORAGE, FEATURE_SOCKOPS, FEATURE_GETSOCKOPT,
	FEATURE_LPM_TRIE, FEATURE_LRU, FEATURE_RINGBUF, FEATURE_MMAP,
	/* optional from here on */
	FEATURE_BIND, FEATURE_GUARD, FEATURE_VETH, FEATURE_TCX,
	/* and these take maps to be tried: sockets_probe() */
	FEATURE_DESTROY, FEATURE_DIAG_STORAGE,
	FEATURE_COUNT
};

struct feature_text {
	const char *name;
	const char *what;    /* it is, in the kernel's terms */
	const char *without; /* what is not done where it is missing */
};
extern const struct feature_text kernel_features[FEATURE_COUNT];

static inline bool feature_is_mandatory(enum feature feature)
{
	return feature < FEATURE_BIND;
}

/* Bit i: feature i is there, of those before FEATURE_DESTROY. */
uint32_t kernel_probe(void);

/* The feature of that name. FEATURE_COUNT: there is none. */
enum feature kernel_feature_named(const char *name);

#endif
