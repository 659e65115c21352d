// SPDX-License-Identifier: Apache-2.0
/* What is taken from a packet of the redirector or the loader, and what is refused. */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "command/paths.h"
#include "redirect/packet.h"

static struct packet packet;

static void fill(const void *payload, size_t length)
{
	packet = (struct packet){.length = length, .head.length = (uint32_t)length};
	memcpy(packet.payload, payload, length);
}

static int pair[2];

static void open_pair(void)
{
	cr_assert_eq(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair), 0);
}

/* A head that claims `claimed` bytes, `length` of them, with a descriptor. */
static void send_bytes(uint32_t claimed, size_t length)
{
	static char bytes[MESSAGE_MAX_BYTES * 2];
	struct message head = {.type = MESSAGE_STATISTICS, .length = claimed};
	struct iovec part = {bytes, length};
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(int))];
	} control = {.align = {CMSG_LEN(sizeof(int)), SOL_SOCKET, SCM_RIGHTS}};
	struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = control.bytes, .msg_controllen = sizeof(control.bytes)};
	int null = 0;

	memcpy(bytes, &head, sizeof(head));
	memcpy(CMSG_DATA(&control.align), &null, sizeof(null));
	cr_assert_eq(sendmsg(pair[0], &message, 0), (ssize_t)length);
}

static int lowest_descriptor(void)
{
	int fd = dup(0);

	close(fd);
	return fd;
}

Test(packet, comes_whole_with_its_descriptors_or_not_at_all, .init = open_pair)
{
	int before = lowest_descriptor();

	cr_expect_eq(packet_receive(pair[1], &packet), 0);
	send_bytes(8, sizeof(struct message) + 8);
	cr_assert_eq(packet_receive(pair[1], &packet), 1);
	cr_expect_eq(packet.length, 8);
	cr_expect_eq(packet.fd_count, 1);
	packet_close(&packet);
	send_bytes(9, sizeof(struct message) + 8);
	cr_expect_eq(packet_receive(pair[1], &packet), -EPROTO, "another length than it says");
	send_bytes(0, sizeof(struct message) - 1);
	cr_expect_eq(packet_receive(pair[1], &packet), -EPROTO, "no head");
	send_bytes(MESSAGE_MAX_BYTES, sizeof(struct message) + MESSAGE_MAX_BYTES + 1);
	cr_expect_eq(packet_receive(pair[1], &packet), -EPROTO, "cut");
	cr_expect_eq(lowest_descriptor(), before, "a descriptor is left open");
	close(pair[0]);
	cr_expect_eq(packet_receive(pair[1], &packet), -EPIPE);
}

/* The redirector knows no process and no name: what it says of them is not recorded as the kernel's word. */
Test(packet, decision_says_only_what_the_redirector_can_know)
{
	struct flow_event event = {.seq = 5, .cgroup = 7, .workload = 3, .pid = 1, .port = 443, .protocol = 99, .verdict = VERDICT_DENY,
				   .reason = REASON_NAME_MISSING, .comm = "systemd", .name = "kube-system/other"}, out;

	memset(event.host, 'x', sizeof(event.host));
	memcpy(event.host, "a\n\x1b[2J\xc2\x9b", 8);
	fill(&event, sizeof(event));
	cr_assert(message_decision(&packet, &out));
	cr_expect_eq(out.workload, 3);
	cr_expect_eq(out.port, 443);
	cr_expect_eq(out.protocol, SLUICE_TCP);
	cr_expect_eq(out.by_redirector, 1);
	cr_expect(!out.pid && !out.cgroup && !out.seq && !out.comm[0] && !out.name[0]);
	cr_expect_eq(strncmp(out.host, "a??[2J??xx", 10), 0, "%s", out.host);
	cr_expect_eq(strlen(out.host), sizeof(out.host) - 1);
}

Test(packet, decision_with_an_unknown_verdict_or_reason_is_none)
{
	struct flow_event event = {.verdict = VERDICT_COUNT}, out;

	fill(&event, sizeof(event));
	cr_expect_not(message_decision(&packet, &out));
	event = (struct flow_event){.reason = REASON_COUNT};
	fill(&event, sizeof(event));
	cr_expect_not(message_decision(&packet, &out));
	event = (struct flow_event){.would_be = VERDICT_COUNT};
	fill(&event, sizeof(event));
	cr_expect_not(message_decision(&packet, &out));
	event = (struct flow_event){0};
	fill(&event, sizeof(event) - 1);
	cr_expect_not(message_decision(&packet, &out));
}

Test(packet, why_a_table_was_refused_reaches_no_terminal_as_commands)
{
	char why[MESSAGE_MAX_BYTES], all[MESSAGE_MAX_BYTES];

	fill("\x1b]0;x\a gr\xc3\xbc\xc3\x9f\x65 \xc2\x9b", 18);
	message_table_answer(&packet, why);
	cr_expect_str_eq(why, "?]0;x? gr\xc3\xbc\xc3\x9f\x65 ??");
	memset(all, 'a', sizeof(all));
	fill(all, sizeof(all));
	message_table_answer(&packet, why);
	cr_expect_eq(strlen(why), sizeof(why) - 1);
	fill("", 0);
	message_table_answer(&packet, why);
	cr_expect_str_empty(why);
}

Test(packet, name_must_hold_the_addresses_that_it_counts)
{
	struct {
		struct name_message head;
		uint8_t addresses[2][16];
		char host[8];
	} message = {{2, 0}, {{1}, {2}}, "a.com"};
	struct published_name name;

	fill(&message, sizeof(message));
	cr_assert(message_name(&packet, &name));
	cr_expect_str_eq(name.host, "a.com");
	cr_expect_eq(name.addresses[1][0], 2);
	cr_expect(name.known);
	message.head.count = UINT32_MAX;
	fill(&message, sizeof(message));
	cr_expect_not(message_name(&packet, &name));
	message.head.count = 2;
	fill(&message, sizeof(message.head) + sizeof(message.addresses));
	cr_expect_not(message_name(&packet, &name), "no host");
}

/* What is asked for goes to DNS, into logs and into the kernel's tables: it is a name in its one form, or it is nothing. */
Test(packet, a_name_that_is_asked_for_is_whole_and_in_lower_case)
{
	static const char *const good[] = {"a.com", "x-1._y.a.com", "1.2.3.4.a.com"},
		*const bad[] = {"", ".", "a.com.", "A.com", "a..com", "1.2.3.4", "a.5", "a b.com", "a.com\n", "*.a.com", "\xc3\xbc.com", "a:80",
				"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.com"};
	struct {
		struct ask_message head;
		char host[80];
	} message = {.head = {7, ASK_ANSWER}};
	struct published_name name;
	struct ask_message ask;
	const char *host;

	for (size_t i = 0; i < sizeof(good) / sizeof(*good); i++) {
		snprintf(message.host, sizeof(message.host), "%s", good[i]);
		fill(&message, sizeof(message.head) + strlen(message.host) + 1);
		cr_assert(message_ask(&packet, &ask, &host), "%s", good[i]);
		cr_expect(ask.workload == 7 && ask.flags == ASK_ANSWER && !strcmp(host, good[i]));
		message.head = (struct ask_message){0, NAME_HAS_NONE};
		fill(&message, sizeof(message));
		cr_expect(message_asked_name(&packet, &name) && name.known && !strcmp(name.host, good[i]));
		message.head = (struct ask_message){7, ASK_ANSWER};
		fill(good[i], strlen(good[i]) + 1);
		cr_expect(message_asked_name_gone(&packet, &host));
	}
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		snprintf(message.host, sizeof(message.host), "%s", bad[i]);
		fill(&message, sizeof(message));
		cr_expect_not(message_ask(&packet, &ask, &host), "%s", bad[i]);
		message.head = (struct ask_message){0, NAME_HAS_NONE};
		fill(&message, sizeof(message));
		cr_expect_not(message_asked_name(&packet, &name), "%s", bad[i]);
		message.head = (struct ask_message){7, ASK_ANSWER};
		fill(bad[i], strlen(bad[i]) + 1);
		cr_expect_not(message_asked_name_gone(&packet, &host), "%s", bad[i]);
	}
	message.head.flags = 4;
	snprintf(message.host, sizeof(message.host), "a.com");
	fill(&message, sizeof(message));
	cr_expect_not(message_ask(&packet, &ask, &host), "an unknown flag");
	fill(&message, sizeof(message.head) - 1);
	cr_expect_not(message_ask(&packet, &ask, &host), "cut");
}

Test(packet, worker_cannot_want_more_sockets_than_a_message_carries)
{
	struct {
		struct message head;
		struct want want;
	} message = {{MESSAGE_WANT, sizeof(struct want), 0}, {1, 2, UINT32_MAX, {0}, 0, 0}};
	struct want want;

	cr_assert(message_want(&message, sizeof(message), &want));
	cr_expect_eq(want.count, MESSAGE_MAX_FDS);
	cr_expect_eq(want.workload, 2);
	cr_expect_not(message_want(&message, sizeof(message) - 1, &want));
	cr_expect_not(message_want(&message, sizeof(message) + 1, &want));
	message.head.type = MESSAGE_SOCKETS;
	cr_expect_not(message_want(&message, sizeof(message), &want));
}

Test(control, a_request_is_of_a_known_type_and_of_its_length)
{
	struct control_request request = {CONTROL_PREPARE, 1}, out = {0};
	struct control_answer answer;

	cr_expect_eq(control_read_request(&out, &request, sizeof(request)), 0);
	cr_expect_eq(out.pid, 1);
	cr_expect_eq(control_read_request(&out, &request, sizeof(request) + 1), -EBADMSG);
	cr_expect_eq(control_read_request(&out, &request, sizeof(request) - 1), -EBADMSG);
	request.pid = 0;
	cr_expect_eq(control_read_request(&out, &request, sizeof(request)), -EINVAL);
	request.type = CONTROL_DETACH;
	cr_expect_eq(control_read_request(&out, &request, sizeof(request)), 0);
	request.type = CONTROL_HEALTH;
	cr_expect_eq(control_read_request(&out, &request, sizeof(request)), 0);
	request.type = 4;
	cr_expect_eq(control_read_request(&out, &request, sizeof(request)), -EINVAL);
	memset(&answer, 'a', sizeof(answer));
	cr_assert_eq(control_read_answer(&answer, &(struct control_answer){.error = 5}, sizeof(answer)), 0);
	cr_expect_eq(answer.error, -EBADMSG, "an error is negative");
}
