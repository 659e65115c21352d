/* SPDX-License-Identifier: Apache-2.0 */
/* Between http.c and http_exchange.c. */
#ifndef SLUICE_HTTP_INTERNAL_H
#define SLUICE_HTTP_INTERNAL_H

#include "redirect/internal.h"

enum step http_exchange_step(struct conn *conn);
void http_next_request(struct conn *conn);
bool http_worth_parsing(const struct conn *conn, const struct buffer *buffer);

#endif
