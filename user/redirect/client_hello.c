// SPDX-License-Identifier: Apache-2.0
#include "redirect/client_hello.h"

enum client_hello_result client_hello_parse(char name[256], const unsigned char *bytes, size_t n)
{
	uint32_t size = n < CLIENT_HELLO_MAX ? (uint32_t)n : CLIENT_HELLO_MAX, length;
	struct client_hello hello = {0};
	int result = CLIENT_HELLO_MORE;

	while (hello.at < size && result == CLIENT_HELLO_MORE)
		result = hello_byte(&hello, bytes[hello.at]);
	result = hello_result(&hello, result, size);
	if (result != CLIENT_HELLO_OK)
		return (enum client_hello_result)result;
	length = hello.host_size;
	for (uint32_t i = 0; i < length; i++)
		name[i] = (char)hello.name[length - 1 - i];
	if (name[length - 1] == '.')
		length--;
	name[length] = '\0';
	return CLIENT_HELLO_OK;
}
