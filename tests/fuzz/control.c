// SPDX-License-Identifier: Apache-2.0
/*
 * Packets of Unix sockets: what the redirector tells the loader, the loader the redirector, a worker asks for, and what
 * comes over the control socket. What is read of a packet lies within it, ends within it, and is within its bounds.
 */
#include <errno.h>
#include <sanitizer/asan_interface.h>

#include "base/memory.h"
#include "command/paths.h"
#include "config/config.h"
#include "fuzz.h"
#include "policy/tables.h"
#include "redirect/packet.h"
#include "redirect/view.h"

/* ---- packets, as packet_receive() leaves them ---- */

static struct packet packet;

static void make_packet(struct feed *feed)
{
	packet.head.type = feed_byte(feed);
	packet.fd_count = feed_byte(feed) % (MESSAGE_MAX_FDS + 1);
	packet.length = feed->n < MESSAGE_MAX_BYTES ? feed->n : MESSAGE_MAX_BYTES;
	packet.head.length = (uint32_t)packet.length;
	ASAN_UNPOISON_MEMORY_REGION(packet.payload, sizeof(packet.payload));
	memcpy(packet.payload, feed->p, packet.length);
	packet.payload[packet.length] = 0;
	ASAN_POISON_MEMORY_REGION(packet.payload + packet.length + 1, MESSAGE_MAX_BYTES - packet.length);
}

static bool is_ascii(const char *field, size_t room)
{
	size_t n = strnlen(field, room);

	for (size_t i = 0; i < n; i++)
		if (field[i] < ' ' || field[i] > '~')
			return false;
	return n < room;
}

static bool is_within(const void *p, size_t n)
{
	const char *start = p;

	return start >= packet.payload && start + n <= packet.payload + packet.length;
}

static bool is_lower_name(const char *host)
{
	return *host && strlen(host) <= 253 && !host[strspn(host, "abcdefghijklmnopqrstuvwxyz0123456789-_.")];
}

/* ---- redirector to loader ---- */

static void read_decision(void)
{
	struct flow_event event;

	if (!message_decision(&packet, &event))
		return;
	CHECK(event.by_redirector == 1 && !event.pid && !event.cgroup && !event.name[0] && !event.comm[0], "forged");
	CHECK(is_ascii(event.host, sizeof(event.host)), "host");
	CHECK(strcmp(verdict_name(event.verdict), "?") && strcmp(verdict_name(event.would_be), "?"), "verdict %u", event.verdict);
	CHECK(strcmp(verdict_reason_name(event.reason), "?"), "reason %u", event.reason);
}

static void read_table_answer(void)
{
	char why[MESSAGE_MAX_BYTES];

	message_table_answer(&packet, why);
	CHECK(strnlen(why, sizeof(why)) < sizeof(why), "no end");
	for (const unsigned char *p = (const unsigned char *)why; *p; p++)
		CHECK(*p >= ' ' && *p != 0x7f && !(*p == 0xc2 && p[1] >= 0x80 && p[1] < 0xa0), "byte %02x", *p);
}

static void read_as_loader(void)
{
	struct redirector_statistics statistics;
	struct listener_message listener;
	struct hello_answer hello;
	struct ask_message ask;
	const char *host;

	if (message_hello_answer(&packet, &hello))
		CHECK(hello.workers && hello.workers <= MESSAGE_MAX_FDS && hello.protocol == MESSAGE_PROTOCOL, "%u workers",
		      hello.workers);
	if (message_listener(&packet, &listener))
		CHECK(packet.fd_count == 1, "%zu descriptors", packet.fd_count);
	if (message_ask(&packet, &ask, &host))
		CHECK(is_within(host, 1) && is_lower_name(host), "host");
	CHECK(message_statistics(&packet, &statistics) == (packet.length >= sizeof(statistics)), "statistics");
	read_decision();
	read_table_answer();
}

/* ---- loader to redirector ---- */

static void learn_workload(void)
{
	struct workload_message message;
	const struct roster_entry *entry;
	struct view *view;
	const char *strings;
	size_t length;

	if (!message_workload(&packet, &message, &strings, &length))
		return;
	CHECK(is_within(strings, length), "strings");
	workload_learn(message.workload, strings, length, message.label_count);
	view_publish(NULL, NULL);
	view = atomic_load(&current_view);
	entry = roster_find(view, message.workload);
	CHECK(entry->workload == message.workload || !entry->workload, "workload %u is %u", message.workload, entry->workload);
	CHECK(strnlen(entry->name, sizeof(entry->name)) < sizeof(entry->name), "no end");
	workload_forget(message.workload);
	view_publish(NULL, NULL);
	view_reclaim();
}

static void read_as_redirector(void)
{
	struct listener_message listener;
	struct published_name name;
	struct hello hello;
	uint32_t workload;

	if (message_hello(&packet, &hello))
		CHECK(strnlen(hello.root_namespace, sizeof(hello.root_namespace)) < sizeof(hello.root_namespace) &&
			      strnlen(hello.log_level, sizeof(hello.log_level)) < sizeof(hello.log_level),
		      "no end");
	if (message_name(&packet, &name)) {
		CHECK(is_within(name.host, 1) && is_within(name.addresses, name.count * 16), "%zu addresses", name.count);
		CHECK(strlen(name.host) <= packet.length, "no end");
		CHECK(name.known || !name.count, "addresses of an unknown name");
	}
	if (message_asked_name(&packet, &name))
		CHECK(is_within(name.host, 1) && is_within(name.addresses, name.count * 16) && is_lower_name(name.host), "asked name");
	CHECK(message_listener_gone(&packet, &listener) == (packet.length >= sizeof(listener)), "listener");
	CHECK(message_workload_gone(&packet, &workload) == (packet.length >= sizeof(workload)), "workload");
	learn_workload();
}

/* ---- the rest ---- */

static void read_want(const uint8_t *bytes, size_t n)
{
	struct want want;

	if (message_want(bytes, n, &want))
		CHECK(n == sizeof(struct message) + sizeof(want) && want.count <= MESSAGE_MAX_FDS, "%u sockets", want.count);
}

static void read_control(const uint8_t *bytes, size_t n)
{
	struct control_request request;
	struct control_answer answer;
	int error = control_read_request(&request, bytes, n);

	CHECK((error == -EBADMSG) == (n != sizeof(request)), "%d for %zu bytes", error, n);
	if (!error)
		CHECK(request.type && (request.type != CONTROL_PREPARE || request.pid > 0), "type %u, pid %d", request.type, request.pid);
	if (!control_read_answer(&answer, bytes, n))
		CHECK(n == sizeof(answer) && answer.error <= 0 && strnlen(answer.text, sizeof(answer.text)) < sizeof(answer.text),
		      "error %d", answer.error);
}

/* The files of a table: what is unpacked packs to the same bytes. */
static void read_table(const uint8_t *bytes, size_t n)
{
	struct config_source source = {0};
	_cleanup_free_ char *packed = NULL;
	size_t length;

	if (config_source_unpack(&source, (const char *)bytes, n))
		return;
	for (size_t i = 0; i < source.count; i++)
		CHECK(!source.files[i].text[source.files[i].length], "no end");
	/* A name with a NUL in it is shorter afterwards. */
	if (!config_source_pack(&source, &packed, &length) && length == n)
		CHECK(!memcmp(packed, bytes, n), "packed again to something else");
	config_source_free(&source);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct feed feed = {data, size};
	uint8_t reader = feed_byte(&feed);
	size_t n;
	uint8_t *bytes;

	if (reader % 4 < 2) {
		make_packet(&feed);
		reader % 4 ? read_as_redirector() : read_as_loader();
		return 0;
	}
	bytes = feed_copy(&feed, feed.n, &n);
	if (reader % 4 == 2) {
		read_want(bytes, n);
		read_control(bytes, n);
	} else {
		read_table(bytes, n);
	}
	free(bytes);
	return 0;
}
