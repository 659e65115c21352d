// SPDX-License-Identifier: Apache-2.0
/* What the methods share: addresses, dialling, telling the token. */
#include <fcntl.h>
#include <stdarg.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "escape.h"

int failed(struct context *c, const char *step)
{
	int error = errno ? errno : EPROTO;

	c->step = step;
	return -error;
}

/* Runs a shell command; 0 or -EPROTO. Its words are the caller's to print. */
int sh(const char *format, ...)
{
	char command[2048];
	va_list arguments;
	int status;

	va_start(arguments, format);
	vsnprintf(command, sizeof(command), format, arguments);
	va_end(arguments);
	status = system(command);
	errno = EPROTO;
	return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : -EPROTO;
}

int write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : write(fd, text, strlen(text));
	int error = n < 0 ? -errno : 0;

	if (fd >= 0)
		close(fd);
	return error;
}

bool is_v6(const struct context *c)
{
	return c->family == V6;
}

struct endpoint endpoint_at(const char *v4, const char *v6, const struct context *c, uint16_t port)
{
	char address[INET6_ADDRSTRLEN + 8], number[8];

	snprintf(address, sizeof(address), "%s%s", c->family == MAPPED ? "::ffff:" : "", is_v6(c) ? v6 : v4);
	snprintf(number, sizeof(number), "%u", port);
	return endpoint_parse(address, number);
}

struct endpoint with_port(struct endpoint e, uint16_t port)
{
	/* sin_port and sin6_port are at the same place. */
	((struct sockaddr_in *)&e.addr)->sin_port = htons(port);
	return e;
}

const void *address_bytes(const struct endpoint *e)
{
	if (e->addr.ss_family == AF_INET)
		return &((const struct sockaddr_in *)&e->addr)->sin_addr;
	return &((const struct sockaddr_in6 *)&e->addr)->sin6_addr;
}

const char *address_of(const struct endpoint *e)
{
	static char text[4][INET6_ADDRSTRLEN];
	static unsigned next;
	char *out = text[next++ % 4];

	inet_ntop(e->addr.ss_family, address_bytes(e), out, INET6_ADDRSTRLEN);
	return out;
}

int socket_for(const struct context *c, int type, int protocol)
{
	return socket(c->family == V4 ? AF_INET : AF_INET6, type | SOCK_CLOEXEC, protocol);
}

int dial(struct context *c, int fd, const struct endpoint *to)
{
	int flags = fcntl(fd, F_GETFL), result;

	fcntl(fd, F_SETFL, flags | O_NONBLOCK);
	result = connect_until(fd, to, now_ms() + c->patience_ms);
	fcntl(fd, F_SETFL, flags);
	errno = -result;
	return result < 0 ? failed(c, "connect") : 0;
}

int await_echo(struct context *c, int fd)
{
	char buffer[256];
	double deadline = now_ms() + c->patience_ms;
	ssize_t n;

	while ((n = receive_until(fd, buffer, sizeof(buffer), deadline)) > 0)
		if (memmem(buffer, (size_t)n, c->token, TOKEN_LENGTH))
			return 1;
	c->step = n < 0 ? strerrorname_np((int)-n) : "closed";
	return 0;
}

int tell(struct context *c, int fd)
{
	if (send(fd, c->token, TOKEN_LENGTH, MSG_NOSIGNAL) < 0)
		return failed(c, "send");
	return await_echo(c, fd);
}

int tell_to(struct context *c, int fd, const struct endpoint *to)
{
	if (sendto(fd, c->token, TOKEN_LENGTH, MSG_NOSIGNAL, (const struct sockaddr *)&to->addr, to->length) < 0)
		return failed(c, "sendto");
	return await_echo(c, fd);
}

void close_hard(int fd)
{
	struct linger now = {1, 0};

	setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
	close(fd);
}

int tcp_to(struct context *c, const struct endpoint *to)
{
	int fd = socket_for(c, SOCK_STREAM, 0), result;

	if (fd < 0)
		return failed(c, "socket");
	result = dial(c, fd, to);
	if (result == 0)
		result = tell(c, fd);
	close_hard(fd);
	return result;
}

int udp_to(struct context *c, const struct endpoint *to)
{
	int fd = socket_for(c, SOCK_DGRAM, 0), result;

	if (fd < 0)
		return failed(c, "socket");
	result = tell_to(c, fd, to);
	close(fd);
	return result;
}

void pause_ms(int ms)
{
	poll(NULL, 0, ms);
}

void await_release(struct context *c)
{
	double deadline = now_ms() + 60000;

	if (!c->hold)
		return;
	printf("held %s\n", c->row);
	fflush(stdout);
	while (access(c->hold, F_OK) < 0 && now_ms() < deadline)
		pause_ms(10);
}
