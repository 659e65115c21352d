// SPDX-License-Identifier: Apache-2.0
/* Addresses, prefixes and the other small values that the command line shares with the documents. */
#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "addr.h"
#include "config/config.h"

int parse_address(uint8_t out[16], const char *text)
{
	struct in_addr v4;
	struct in6_addr v6;

	if (inet_pton(AF_INET, text, &v4) == 1) {
		addr_from_v4(out, &v4);
		return 0;
	}
	if (inet_pton(AF_INET6, text, &v6) != 1)
		return -EINVAL;
	memcpy(out, &v6, 16);
	return 0;
}

static int parse_decimal(unsigned int *out, const char *text, unsigned int max)
{
	unsigned int value = 0;

	if (!*text || strlen(text) > 5 || (text[0] == '0' && text[1]))
		return -EINVAL;
	for (; *text; text++) {
		if (*text < '0' || *text > '9')
			return -EINVAL;
		value = value * 10 + (unsigned int)(*text - '0');
	}
	if (value > max)
		return -EINVAL;
	*out = value;
	return 0;
}

int parse_cidr(struct cidr *out, const char *text)
{
	const char *slash = strchr(text, '/');
	unsigned int bits = 128, width;
	char address[INET6_ADDRSTRLEN];
	uint8_t addr[16];

	if (snprintf(address, sizeof(address), "%.*s", (int)(slash ? slash - text : (long)strnlen(text, sizeof(address))),
		     text) >= (int)sizeof(address) || parse_address(addr, address))
		return -EINVAL;
	width = strchr(address, ':') ? 128 : 32;
	if (slash) {
		if (parse_decimal(&bits, slash + 1, width))
			return -EINVAL;
		bits += 128 - width;
	}
	for (unsigned int i = bits; i < 128; i++)
		addr[i / 8] &= (uint8_t)~(0x80 >> i % 8);
	memcpy(out->addr, addr, 16);
	out->bits = (uint8_t)bits;
	return 0;
}

int parse_label(struct label *out, struct arena *arena, const char *text)
{
	const char *equals = strchr(text, '=');

	if (!equals || equals == text)
		return -EINVAL;
	out->key = arena_strndup(arena, text, (size_t)(equals - text));
	out->value = arena_strdup(arena, equals + 1);
	return 0;
}

int parse_port(uint16_t *out, const char *text)
{
	unsigned int value;

	if (parse_decimal(&value, text, 65535) || !value)
		return -EINVAL;
	*out = (uint16_t)value;
	return 0;
}

int parse_unix_directory(const char **out, char *text)
{
	size_t n = strlen(text);

	if (text[0] != '/')
		return -EINVAL;
	for (; n && text[n - 1] == '/'; n--)
		text[n - 1] = 0;
	*out = text;
	return 0;
}

const char *format_address(char out[SLUICE_PREFIX_TEXT], const uint8_t addr[16])
{
	if (addr_is_v4(addr))
		inet_ntop(AF_INET, addr + 12, out, SLUICE_PREFIX_TEXT);
	else
		inet_ntop(AF_INET6, addr, out, SLUICE_PREFIX_TEXT);
	return out;
}

const char *format_cidr(char out[SLUICE_PREFIX_TEXT], const uint8_t addr[16], unsigned int bits)
{
	bool v4 = addr_is_v4(addr) && bits >= 96;
	size_t n;

	if (v4)
		inet_ntop(AF_INET, addr + 12, out, SLUICE_PREFIX_TEXT);
	else
		inet_ntop(AF_INET6, addr, out, SLUICE_PREFIX_TEXT);
	n = strlen(out);
	if (bits != 128)
		snprintf(out + n, SLUICE_PREFIX_TEXT - n, "/%u", v4 ? bits - 96 : bits);
	return out;
}
