// SPDX-License-Identifier: Apache-2.0
#include "command/question.h"

#include <ctype.h>
#include <errno.h>
#include <string.h>

#include "config/config.h"

/* The rest of `text` behind its scheme, NULL if that is none of ours. */
static const char *take_scheme(struct question *question, const char *text)
{
	static const struct {
		const char *name;
		uint16_t port; /* 0: must be given */
		uint8_t protocol;
		enum speaks speaks;
	} schemes[] = {
		{"http://", 80, SLUICE_TCP, SPEAKS_HTTP},
		{"https://", 443, SLUICE_TCP, SPEAKS_TLS},
		{"tcp://", 0, SLUICE_TCP, SPEAKS_NEITHER},
		{"udp://", 0, SLUICE_UDP, SPEAKS_ANYTHING},
		{"", 80, SLUICE_TCP, SPEAKS_ANYTHING},
	};
	size_t i = 0;

	while (strncasecmp(text, schemes[i].name, strlen(schemes[i].name)))
		i++;
	text += strlen(schemes[i].name);
	question->port = schemes[i].port;
	question->protocol = schemes[i].protocol;
	question->speaks = schemes[i].speaks;
	return strstr(text, "://") == text + strcspn(text, ":/?#") ? NULL : text;
}

/* As a client writes it into Host. */
static void take_authority(struct question *question)
{
	bool is_bare_v6 = strchr(question->host, ':') && !parse_address(question->addr, question->host);

	snprintf(question->authority, sizeof(question->authority), is_bare_v6 ? "[%s]" : "%s", question->host);
}

/* Takes the port and the brackets of an IPv6 literal off `question->host`. */
static int take_port(struct question *question)
{
	char *host = question->host, *port;

	if (!parse_address(question->addr, host))
		return 0; /* its colons are its own */
	port = strchr(host, ':');
	if (host[0] == '[') {
		char *end = strchr(host, ']');

		if (!end || (end[1] && end[1] != ':'))
			return -EINVAL;
		port = end[1] ? end + 1 : NULL;
		*end = 0;
		if (!strchr(host, ':'))
			return -EINVAL;
	}
	if (port && parse_port(&question->port, port + 1))
		return -EINVAL;
	if (port)
		*port = 0;
	if (host[0] != '[')
		return 0;
	memmove(host, host + 1, strlen(host));
	return parse_address(question->addr, host);
}

static int take_path(struct question *question, const char *text)
{
	size_t n = strcspn(text, "#");

	if (n + 2 > sizeof(question->path))
		return -EINVAL;
	snprintf(question->path, sizeof(question->path), "%s%.*s", *text == '/' ? "" : "/", (int)n, text);
	return 0;
}

int question_parse(struct question *out, const char *text)
{
	struct question question = {0};
	const char *authority = take_scheme(&question, text), *user;
	size_t n = authority ? strcspn(authority, "/?#") : 0;

	if (!n || n >= sizeof(question.host))
		return -EINVAL;
	user = memrchr(authority, '@', n);
	memcpy(question.host, user ? user + 1 : authority, user ? n - (size_t)(user + 1 - authority) : n);
	take_authority(&question);
	if (take_path(&question, authority + n))
		return -EINVAL;
	if (take_port(&question) || !question.port)
		return -EINVAL;
	n = strlen(question.host);
	if (n && question.host[n - 1] == '.')
		question.host[--n] = 0;
	if (!n)
		return -EINVAL;
	for (char *c = question.host; *c; c++)
		*c = (char)tolower((unsigned char)*c);
	question.is_address = !parse_address(question.addr, question.host);
	*out = question;
	return 0;
}
