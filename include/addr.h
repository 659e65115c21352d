/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* The one canonical form of an address: 16 bytes in network order, IPv4 as ::ffff:a.b.c.d. */
#ifndef SLUICE_ADDR_H
#define SLUICE_ADDR_H

#ifdef __bpf__
#define SLUICE_INLINE static __always_inline
#else
#include <linux/types.h>
#include <string.h>
#define SLUICE_INLINE static inline
#endif

/* `v4` is four bytes in network order. */
SLUICE_INLINE void addr_from_v4(__u8 out[16], const void *v4)
{
	__builtin_memset(out, 0, 10);
	out[10] = 0xff;
	out[11] = 0xff;
	__builtin_memcpy(out + 12, v4, 4);
}

/* Compared as words: memcmp would be a function call, which BPF does not have. */
SLUICE_INLINE int addr_is_v4(const __u8 a[16])
{
	__u64 high;

	__builtin_memcpy(&high, a, 8);
	return high == 0 && a[8] == 0 && a[9] == 0 && a[10] == 0xff && a[11] == 0xff;
}

/*
 * Loopback as DESIGN §2 has it: 127.0.0.0/8, ::1, the unspecified addresses and their mapped forms.
 * Never derived from a pod's interfaces: a pod can put any address on its lo.
 */
SLUICE_INLINE int addr_is_loopback(const __u8 a[16])
{
	__u64 high;
	__u32 middle;

	if (addr_is_v4(a))
		return a[12] == 127 || (a[12] | a[13] | a[14] | a[15]) == 0;
	__builtin_memcpy(&high, a, 8);
	__builtin_memcpy(&middle, a + 8, 4);
	return high == 0 && middle == 0 && a[12] == 0 && a[13] == 0 && a[14] == 0 && a[15] <= 1;
}

#endif
