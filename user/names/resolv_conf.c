// SPDX-License-Identifier: Apache-2.0
/* The nameservers of a resolv.conf(5). */
#include <errno.h>
#include <string.h>

#include "addr.h"
#include "base/memory.h"
#include "names/names.h"

static bool is_listed(uint8_t (*list)[16], size_t count, const uint8_t address[16])
{
	for (size_t i = 0; i < count; i++)
		if (!memcmp(list[i], address, 16))
			return true;
	return false;
}

int names_resolvers(const char *resolv_conf, uint8_t (*out)[16], size_t room, size_t *count)
{
	static const uint8_t localhost[4] = {127, 0, 0, 1};
	FILE *file = fopen(resolv_conf, "re");
	_cleanup_free_ char *line = NULL;
	size_t size = 0, n = 0;

	if (!file)
		return -errno;
	while (n < room && getline(&line, &size, file) >= 0) {
		char *rest, *word = strtok_r(line, " \t\r\n", &rest);
		uint8_t address[16];

		if (!word || strcmp(word, "nameserver"))
			continue;
		word = strtok_r(NULL, " \t\r\n%#;", &rest); /* without a zone: "fe80::1%eth0" */
		if (word && !parse_address(address, word) && !is_listed(out, n, address))
			memcpy(out[n++], address, 16);
	}
	fclose(file);
	if (!n && room)
		addr_from_v4(out[n++], localhost); /* resolv.conf(5): the default */
	*count = n;
	return 0;
}
