// SPDX-License-Identifier: Apache-2.0
#include "observe/admin.h"

#include <errno.h>
#include <microhttpd.h>
#include <netinet/in.h>
#include <stdarg.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "addr.h"
#include "base/log.h"
#include "base/memory.h"
#include "config/config.h"

#define MAX_CONNECTIONS 16
#define TIMEOUT_SECONDS 10
#define POLL_MS 20

struct admin {
	struct MHD_Daemon *http;
	struct admin_callbacks callbacks;
};

static enum MHD_Result answer(struct MHD_Connection *connection, unsigned int status, const char *type, char *text,
			      size_t length)
{
	struct MHD_Response *response = MHD_create_response_from_buffer(length, text, MHD_RESPMEM_MUST_FREE);
	enum MHD_Result result;

	if (!response) {
		free(text);
		return MHD_NO;
	}
	MHD_add_response_header(response, "Content-Type", type);
	result = MHD_queue_response(connection, status, response);
	MHD_destroy_response(response);
	return result;
}

static enum MHD_Result answer_text(struct MHD_Connection *connection, unsigned int status, const char *text)
{
	return answer(connection, status, "text/plain; charset=utf-8", xstrdup(text), strlen(text));
}

static enum MHD_Result answer_metrics(const struct admin *admin, struct MHD_Connection *connection)
{
	char *text = NULL;
	size_t length = 0;
	FILE *out = open_memstream(&text, &length);

	if (!out)
		return MHD_NO;
	admin->callbacks.metrics(admin->callbacks.context, out);
	fclose(out);
	return answer(connection, MHD_HTTP_OK, "text/plain; version=0.0.4; charset=utf-8", text, length);
}

static enum MHD_Result answer_ready(const struct admin *admin, struct MHD_Connection *connection)
{
	char why[2048] = "", text[2056];
	bool ready = admin->callbacks.ready(admin->callbacks.context, why, sizeof(why));

	snprintf(text, sizeof(text), "%s\n", why);
	return answer_text(connection, ready ? MHD_HTTP_OK : MHD_HTTP_SERVICE_UNAVAILABLE, text);
}

static enum MHD_Result on_request(void *context, struct MHD_Connection *connection, const char *url, const char *method,
				  const char *version, const char *body, size_t *body_size, void **state)
{
	(void)version;
	(void)body;
	(void)state;
	if (*body_size || (strcmp(method, "GET") && strcmp(method, "HEAD")))
		return answer_text(connection, MHD_HTTP_METHOD_NOT_ALLOWED, "only GET and HEAD\n");
	if (!strcmp(url, "/metrics"))
		return answer_metrics(context, connection);
	if (!strcmp(url, "/readyz"))
		return answer_ready(context, connection);
	if (!strcmp(url, "/healthz"))
		return answer_text(connection, MHD_HTTP_OK, "ok\n");
	if (!strcmp(url, "/"))
		return answer_text(connection, MHD_HTTP_OK, "sluice\n/metrics\n/healthz\n/readyz\n");
	return answer_text(connection, MHD_HTTP_NOT_FOUND, "not found: /metrics, /healthz and /readyz are here\n");
}

/* "127.0.0.1:15020" or "[::1]:15020". */
static int parse_listen(const char *text, uint8_t address[16], uint16_t *port)
{
	_cleanup_free_ char *copy = xstrdup(text);
	char *colon = strrchr(copy, ':'), *host = copy;

	if (!colon)
		return -EINVAL;
	*colon = 0;
	if (strchr(host, ':') || host[0] == '[') {
		if (host[0] != '[' || colon[-1] != ']' || !strchr(host, ':'))
			return -EINVAL;
		host++;
		colon[-1] = 0;
	}
	return parse_address(address, host) ?: parse_port(port, colon + 1);
}

static int listen_at(const uint8_t address[16], uint16_t port)
{
	struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_port = htons(port)};
	struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
	bool is_v4 = addr_is_v4(address);
	const struct sockaddr *where = is_v4 ? (struct sockaddr *)&v4 : (struct sockaddr *)&v6;
	_cleanup_close_ int fd = socket(where->sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	int on = 1;

	memcpy(&v4.sin_addr, address + 12, 4);
	memcpy(&v6.sin6_addr, address, 16);
	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) < 0 ||
	    bind(fd, where, is_v4 ? sizeof(v4) : sizeof(v6)) < 0 || listen(fd, MAX_CONNECTIONS) < 0)
		return -errno;
	return TAKE_FD(fd);
}

int admin_listen(const char *address, unsigned int wait_ms)
{
	uint8_t where[16];
	uint16_t port;
	int fd;

	if (parse_listen(address, where, &port))
		return log_errno(-EINVAL, "--admin \"%s\": must be ADDRESS:PORT, such as 127.0.0.1:15020; not started", address);
	for (fd = listen_at(where, port); fd == -EADDRINUSE && wait_ms >= POLL_MS; fd = listen_at(where, port)) {
		usleep(POLL_MS * 1000);
		wait_ms -= POLL_MS;
	}
	if (fd < 0)
		return log_errno(fd, "--admin %s: %s; not started", address, strerror(-fd));
	return fd;
}

int admin_start(struct admin **out, int fd, const struct admin_callbacks *callbacks)
{
	struct admin *admin = xcalloc(1, sizeof(*admin));

	admin->callbacks = *callbacks;
	admin->http = MHD_start_daemon(MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_EPOLL, 0, NULL, NULL, on_request, admin,
				       MHD_OPTION_LISTEN_SOCKET, fd, MHD_OPTION_CONNECTION_LIMIT, (unsigned int)MAX_CONNECTIONS,
				       MHD_OPTION_CONNECTION_TIMEOUT, (unsigned int)TIMEOUT_SECONDS, MHD_OPTION_END);
	if (!admin->http) {
		close(fd);
		free(admin);
		return log_errno(-EIO, "--admin: cannot serve; not started");
	}
	*out = admin;
	return 0;
}

void admin_stop(struct admin *admin)
{
	if (!admin)
		return;
	MHD_stop_daemon(admin->http);
	free(admin);
}

void metrics_family(FILE *out, const char *name, const char *type, const char *help)
{
	fprintf(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

/* Prometheus rejects the whole page for one byte that is not UTF-8, and a cgroup may have any name. */
static void print_label_value(FILE *out, const char *value)
{
	for (; *value; value++) {
		if (*value == '\n')
			fputs("\\n", out);
		else if (*value == '"' || *value == '\\')
			fprintf(out, "\\%c", *value);
		else
			fputc((unsigned char)*value < 0x80 ? *value : '?', out);
	}
}

void metrics_sample(FILE *out, const char *name, double value, ...)
{
	const char *separator = "{";
	va_list labels;

	fputs(name, out);
	va_start(labels, value);
	for (const char *key = va_arg(labels, const char *); key; key = va_arg(labels, const char *)) {
		fprintf(out, "%s%s=\"", separator, key);
		print_label_value(out, va_arg(labels, const char *));
		fputc('"', out);
		separator = ",";
	}
	va_end(labels);
	fprintf(out, "%s %.17g\n", *separator == ',' ? "}" : "", value);
}
