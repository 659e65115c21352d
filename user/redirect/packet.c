// SPDX-License-Identifier: Apache-2.0
#include "redirect/packet.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "base/memory.h"
#include "base/text.h"
#include "hostname.h"

int packet_receive(int fd, struct packet *out)
{
	struct iovec parts[] = {{&out->head, sizeof(out->head)}, {out->payload, MESSAGE_MAX_BYTES}};
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(int) * MESSAGE_MAX_FDS)];
	} control;
	struct msghdr message = {.msg_iov = parts, .msg_iovlen = ARRAY_SIZE(parts), .msg_control = control.bytes,
				 .msg_controllen = sizeof(control.bytes)};
	ssize_t n = recvmsg(fd, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);

	if (n < 0)
		return errno == EAGAIN || errno == EINTR ? 0 : -errno;
	out->fd_count = 0;
	for (struct cmsghdr *c = CMSG_FIRSTHDR(&message); c; c = CMSG_NXTHDR(&message, c)) {
		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		out->fd_count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		memcpy(out->fds, CMSG_DATA(c), out->fd_count * sizeof(int));
	}
	out->length = (size_t)n - sizeof(out->head);
	if ((size_t)n < sizeof(out->head) || message.msg_flags & MSG_TRUNC || out->head.length != out->length) {
		packet_close(out);
		return n ? -EPROTO : -EPIPE;
	}
	out->payload[out->length] = 0;
	return 1;
}

void packet_close(struct packet *packet)
{
	for (size_t i = 0; i < packet->fd_count; i++)
		if (packet->fds[i] >= 0)
			close(packet->fds[i]);
	packet->fd_count = 0;
}

/* ---- payloads ---- */

static bool take(const struct packet *packet, void *out, size_t size)
{
	if (packet->length < size)
		return false;
	memcpy(out, packet->payload, size);
	return true;
}

bool message_hello(const struct packet *packet, struct hello *out)
{
	if (!take(packet, out, sizeof(*out)))
		return false;
	out->root_namespace[sizeof(out->root_namespace) - 1] = 0;
	out->log_level[sizeof(out->log_level) - 1] = 0;
	return true;
}

bool message_hello_answer(const struct packet *packet, struct hello_answer *out)
{
	struct hello_answer answer;

	if (!take(packet, &answer, sizeof(answer)) || answer.protocol != MESSAGE_PROTOCOL || !answer.workers ||
	    answer.workers > MESSAGE_MAX_FDS)
		return false;
	*out = answer;
	return true;
}

bool message_listener(const struct packet *packet, struct listener_message *out)
{
	return packet->fd_count == 1 && take(packet, out, sizeof(*out));
}

bool message_listener_gone(const struct packet *packet, struct listener_message *out)
{
	return take(packet, out, sizeof(*out));
}

bool message_workload(const struct packet *packet, struct workload_message *out, const char **strings, size_t *length)
{
	if (!take(packet, out, sizeof(*out)))
		return false;
	*strings = packet->payload + sizeof(*out);
	*length = packet->length - sizeof(*out);
	return true;
}

bool message_workload_gone(const struct packet *packet, uint32_t *workload)
{
	return take(packet, workload, sizeof(*workload));
}

bool message_decision(const struct packet *packet, struct flow_event *out)
{
	struct flow_event event;

	if (!take(packet, &event, sizeof(event)) || event.verdict >= VERDICT_COUNT || event.would_be >= VERDICT_COUNT ||
	    event.reason >= REASON_COUNT)
		return false;
	*out = (struct flow_event){.workload = event.workload, .service = event.service, .rule_set = event.rule_set,
				   .port = event.port, .protocol = SLUICE_TCP, .verdict = event.verdict,
				   .reason = event.reason, .would_be = event.would_be, .by_redirector = 1};
	memcpy(out->addr, event.addr, sizeof(out->addr));
	memcpy(out->host, event.host, sizeof(out->host));
	text_make_ascii(out->host, sizeof(out->host));
	return true;
}

bool message_statistics(const struct packet *packet, struct redirector_statistics *out)
{
	return take(packet, out, sizeof(*out));
}

void message_table_answer(const struct packet *packet, char out[MESSAGE_MAX_BYTES])
{
	size_t n = packet->length < MESSAGE_MAX_BYTES ? packet->length : MESSAGE_MAX_BYTES - 1;

	memcpy(out, packet->payload, n);
	out[n] = 0;
	text_make_harmless(out);
}

bool message_name(const struct packet *packet, struct published_name *out)
{
	const char *after = packet->payload + sizeof(struct name_message);
	struct name_message message;
	size_t bytes;

	if (!take(packet, &message, sizeof(message)))
		return false;
	bytes = (size_t)message.count * 16;
	if (bytes >= packet->length - sizeof(message))
		return false;
	*out = (struct published_name){after + bytes, (const uint8_t (*)[16])(const void *)after, message.count,
				       message.count || message.failed, message.failed};
	return true;
}

bool is_asked_name(const char *host)
{
	struct host_name name = {0};

	for (const char *c = host; *c; c++)
		if (!host_name_byte(&name, (unsigned char)*c) || host_name_lower((unsigned char)*c) != (unsigned char)*c)
			return false;
	return host_name_is_whole(&name) && name.label && !host_name_is_address(&name);
}

bool message_asked_name(const struct packet *packet, struct published_name *out)
{
	struct published_name name;

	if (!message_name(packet, &name) || !is_asked_name(name.host))
		return false;
	*out = name;
	return true;
}

bool message_asked_name_gone(const struct packet *packet, const char **host)
{
	if (!is_asked_name(packet->payload))
		return false;
	*host = packet->payload;
	return true;
}

bool message_ask(const struct packet *packet, struct ask_message *out, const char **host)
{
	struct ask_message ask;

	if (!take(packet, &ask, sizeof(ask)) || ask.flags & ~(__u32)(ASK_ANSWER | ASK_HELD) || !is_asked_name(packet->payload + sizeof(ask)))
		return false;
	*host = packet->payload + sizeof(ask);
	*out = ask;
	return true;
}

bool message_want(const void *bytes, size_t length, struct want *out)
{
	struct message head;

	if (length != sizeof(head) + sizeof(*out))
		return false;
	memcpy(&head, bytes, sizeof(head));
	if (head.type != MESSAGE_WANT || head.length != sizeof(*out))
		return false;
	memcpy(out, (const char *)bytes + sizeof(head), sizeof(*out));
	if (out->count > MESSAGE_MAX_FDS)
		out->count = MESSAGE_MAX_FDS;
	return true;
}
