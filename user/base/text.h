/* SPDX-License-Identifier: Apache-2.0 */
/* Texts from elsewhere, before they reach a terminal or a log. */
#ifndef SLUICE_TEXT_H
#define SLUICE_TEXT_H

#include <stddef.h>

void text_make_harmless(char *text);              /* no control character, C1 ones in UTF-8 included */
void text_make_ascii(char *field, size_t room);   /* printable ASCII, and terminated within `room` */

#endif
