// SPDX-License-Identifier: Apache-2.0
/* Prints a TLS 1.2 ClientHello (RFC 5246, RFC 6066 §3): hello [-r BYTES-PER-RECORD] [-p PADDING] [-e] NAME|-; -e: with an
 * encrypted ClientHello (RFC 9849), of which NAME is the outer name */
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static uint8_t message[70000];
static size_t length;

static void put(const void *bytes, size_t n)
{
	memcpy(message + length, bytes, n);
	length += n;
}

static void put_number(size_t value, size_t bytes)
{
	while (bytes-- > 0)
		message[length++] = (uint8_t)(value >> (8 * bytes));
}

static void put_extension(size_t type, const void *bytes, size_t n)
{
	put_number(type, 2);
	put_number(n, 2);
	put(bytes, n);
}

static void put_server_name(const char *name)
{
	size_t n = strlen(name);

	put_number(0, 2);
	put_number(n + 5, 2);
	put_number(n + 3, 2);
	put_number(0, 1);
	put_number(n, 2);
	put(name, n);
}

static void build(const char *name, size_t padding, bool encrypted)
{
	static const uint8_t zero[65536], random[32] = {1, 2, 3};
	size_t handshake, extensions;

	put_number(1, 1); /* ClientHello */
	put_number(0, 3); /* its length, below */
	handshake = length;
	put_number(0x0303, 2);
	put(random, sizeof(random));
	put_number(0, 1);                    /* no session */
	put("\x00\x04\xc0\x2b\xc0\x2f", 6);  /* ECDHE with ECDSA or RSA, AES 128 GCM */
	put("\x01\x00", 2);                  /* no compression */
	put_number(0, 2);                    /* length of the extensions, below */
	extensions = length;
	put_extension(10, "\x00\x02\x00\x17", 4);                 /* groups: P-256 */
	put_extension(13, "\x00\x04\x04\x03\x04\x01", 6);         /* signatures: ECDSA and RSA with SHA-256 */
	if (padding)
		put_extension(21, zero, padding);
	if (encrypted)
		put_extension(0xfe0d, zero, 200);
	if (strcmp(name, "-") != 0)
		put_server_name(name);
	message[extensions - 2] = (uint8_t)((length - extensions) >> 8);
	message[extensions - 1] = (uint8_t)(length - extensions);
	message[handshake - 3] = (uint8_t)((length - handshake) >> 16);
	message[handshake - 2] = (uint8_t)((length - handshake) >> 8);
	message[handshake - 1] = (uint8_t)(length - handshake);
}

int main(int argc, char **argv)
{
	size_t record = 16384, padding = 0, at, n;
	bool encrypted = false;
	int option;

	while ((option = getopt(argc, argv, "r:p:e")) != -1) {
		if (option == 'r')
			record = (size_t)atol(optarg);
		else if (option == 'p')
			padding = (size_t)atol(optarg);
		else if (option == 'e')
			encrypted = true;
		else
			return 2;
	}
	if (argc - optind != 1 || record == 0 || padding > 65000 || strlen(argv[optind]) > 255)
		return 2;
	build(argv[optind], padding, encrypted);
	for (at = 0; at < length; at += n) {
		n = length - at < record ? length - at : record;
		printf("\x16\x03\x01%c%c", (int)(n >> 8), (int)(n & 255));
		fwrite(message + at, 1, n, stdout);
	}
	return 0;
}
