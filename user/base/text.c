// SPDX-License-Identifier: Apache-2.0
#include "base/text.h"

void text_make_harmless(char *text)
{
	for (unsigned char *p = (unsigned char *)text; *p; p++) {
		if (*p < 0x20 || *p == 0x7f)
			*p = '?';
		else if (*p == 0xc2 && p[1] >= 0x80 && p[1] < 0xa0)
			*p = p[1] = '?';
	}
}

void text_make_ascii(char *field, size_t room)
{
	field[room - 1] = 0;
	for (char *p = field; *p; p++)
		if (*p < ' ' || *p > '~')
			*p = '?';
}
