/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * What may stand as a host in Host, a request target or a server name: the DNS names that resolvers take. Labels of 1 to
 * 63 letters, digits, '-' or '_', at most 253 bytes, with or without a final dot. No percent-encoding and no sub-delims,
 * which RFC 3986 has: a server might decode what the policy has not. Byte by byte, as the kernel reads it.
 */
#ifndef SLUICE_HOSTNAME_H
#define SLUICE_HOSTNAME_H

#include "addr.h"

struct host_name {
	__u32 length;
	__u32 label;     /* length of the last label; 0 after a dot */
	__u32 digits;    /* digits in it */
	__u32 is_number; /* the last label before a dot is a number */
};

SLUICE_INLINE __u8 host_name_lower(__u8 c)
{
	return c >= 'A' && c <= 'Z' ? c | 0x20 : c;
}

/* Returns 0 if no name goes on so. */
SLUICE_INLINE int host_name_byte(struct host_name *name, __u8 c)
{
	int is_digit = c >= '0' && c <= '9';

	name->length++;
	if (c == '.') {
		if (!name->label)
			return 0;
		name->is_number = name->digits == name->label;
		name->label = 0;
		name->digits = 0;
		return 1;
	}
	c = host_name_lower(c);
	name->digits += is_digit;
	name->label++;
	return (is_digit || (c >= 'a' && c <= 'z') || c == '-' || c == '_') && name->label <= 63;
}

/* The bytes so far, each of which was taken, are a whole name. */
SLUICE_INLINE int host_name_is_whole(const struct host_name *name)
{
	return name->length && name->length - !name->label <= 253;
}

/* An address is no name (RFC 6066 §3), nor are its short forms that resolvers take: their last label is a number. */
SLUICE_INLINE int host_name_is_address(const struct host_name *name)
{
	return name->label ? name->digits == name->label : name->is_number != 0;
}

#endif
