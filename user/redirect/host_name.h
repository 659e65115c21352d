/* SPDX-License-Identifier: Apache-2.0 */
/* What may stand as a host in Host, a request target or a server name: the DNS names that resolvers take. */
#ifndef SLUICE_HOST_NAME_H
#define SLUICE_HOST_NAME_H

#include <stdbool.h>
#include <stddef.h>

/*
 * Labels of 1 to 63 letters, digits, '-' or '_', at most 253 bytes, with or without a final dot. No percent-encoding
 * and no sub-delims, which RFC 3986 has: a server might decode what the policy has not.
 */
static inline bool host_name_valid(const char *name, size_t n)
{
	size_t label = 0;

	if (n && name[n - 1] == '.')
		n--;
	if (n == 0 || n > 253)
		return false;
	for (size_t i = 0; i < n; i++) {
		unsigned char c = (unsigned char)name[i], lower = c | 0x20;

		if (c == '.') {
			if (label == 0)
				return false;
			label = 0;
		} else if ((lower >= 'a' && lower <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_') {
			if (++label > 63)
				return false;
		} else {
			return false;
		}
	}
	return label > 0;
}

#endif
