// SPDX-License-Identifier: Apache-2.0
/* Lines that a rule gives a message: Envoy's variables in them are what they stand for at this moment. */
#include <string.h>

#include "redirect/http_internal.h"
#include "redirect/operators.h"

static void expand_operator(struct writer *w, const struct operator_sources *of, const char *name, size_t n)
{
	const bool is_of_request = operator_is(name, n, "REQ");
	struct slice field;

	if (!is_of_request && !operator_is(name, n, "RESP")) {
		put_operator(w, of, name, n);
		return;
	}
	field = operator_field(is_of_request ? &of->request : &of->response, name, n);
	if (field.n)
		put(w, field.p, field.n);
}

static void expand_value(struct writer *w, const struct operator_sources *of, const char *value, size_t n)
{
	while (n) {
		const char *sign = memchr(value, '%', n);
		size_t plain = sign ? (size_t)(sign - value) : n, length;

		put(w, value, plain);
		value += plain;
		n -= plain;
		if (!n)
			return;
		length = operator_length(value); /* checked when the rule was read */
		if (length == 2)
			put_text(w, "%");
		else
			expand_operator(w, of, value + 1, length - 2);
		value += length;
		n -= length;
	}
}

const char *header_lines(struct conn *conn, const struct header_ops *ops, const struct http_head *request,
			 const struct http_head *response, uint16_t status, struct buffer **scratch)
{
	const struct operator_sources of = {.conn = conn, .request = {.head = request}, .response = {.head = response}, .is_request = true,
					    .has_upstream = response != NULL, .status = status};
	const char *line = ops ? ops->lines : "", *end;
	struct writer w;

	if (!strchr(line, '%'))
		return line;
	*scratch = buffer_get(conn->worker, true);
	w = (struct writer){.out = (*scratch)->bytes, .room = (*scratch)->size};
	for (; *line; line = end) {
		size_t before = w.n, name = strcspn(line, ":") + 2;

		end = strstr(line, "\r\n") + 2;
		put(&w, line, name);
		expand_value(&w, &of, line + name, (size_t)(end - line) - name - 2);
		if (w.n == before + name)
			w.n = before; /* nothing is known that it could say: it is left out, as Envoy does */
		else
			put_text(&w, "\r\n");
		if (w.full)
			w.n = before;
	}
	w.out[w.n] = 0;
	return w.out;
}
