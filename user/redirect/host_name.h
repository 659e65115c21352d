/* SPDX-License-Identifier: Apache-2.0 */
/* Host names as clients send them: bytes with a length, not yet terminated. */
#ifndef SLUICE_HOST_NAME_H
#define SLUICE_HOST_NAME_H

#include <stdbool.h>
#include <stddef.h>

#include "hostname.h"

/* Whether these bytes are a host name as include/hostname.h has it. */
static inline bool host_name_valid(const char *bytes, size_t n)
{
	struct host_name name = {0};

	for (size_t i = 0; i < n; i++)
		if (!host_name_byte(&name, (unsigned char)bytes[i]))
			return false;
	return host_name_is_whole(&name);
}

#endif
