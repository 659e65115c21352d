// SPDX-License-Identifier: Apache-2.0
#include "observe/denials.h"

#include <string.h>
#include <uthash.h>

#include "base/log.h"
#include "base/loop.h"
#include "base/memory.h"
#include "config/config.h"
#include "policy/tables.h"

#define REPEAT_MS 60000
#define LINES_PER_SECOND 20
#define MAX_DISTINCT 4096

struct denial_key {
	uint8_t addr[16];
	uint32_t workload;
	uint16_t port;
	uint8_t protocol;
	uint8_t reason;
	char comm[SLUICE_COMM_TEXT];
	char host[SLUICE_HOST_TEXT];
};

struct denial {
	UT_hash_handle hh;
	struct denial_key key;
	uint64_t logged_ms;
	uint64_t repeats;
};

struct denials {
	struct denial *seen;
	uint64_t second;
	unsigned int lines;
	uint64_t left_out;
};

struct denials *denials_new(void)
{
	return xcalloc(1, sizeof(struct denials));
}

void denials_forget(struct denials *denials)
{
	struct denial *denial, *next;

	HASH_ITER(hh, denials->seen, denial, next) {
		HASH_DEL(denials->seen, denial);
		free(denial);
	}
}

void denials_free(struct denials *denials)
{
	if (!denials)
		return;
	denials_forget(denials);
	free(denials);
}

static bool may_log(struct denials *denials, uint64_t now_ms)
{
	if (now_ms / 1000 != denials->second) {
		if (denials->left_out)
			log_warning("denied: %llu more lines left out (at most %d a second); see `sluice flows --verdict deny`",
				    (unsigned long long)denials->left_out, LINES_PER_SECOND);
		denials->second = now_ms / 1000;
		denials->lines = 0;
		denials->left_out = 0;
	}
	if (denials->lines < LINES_PER_SECOND) {
		denials->lines++;
		return true;
	}
	denials->left_out++;
	return false;
}

static const char *protocol_name(uint8_t protocol)
{
	return protocol == SLUICE_TCP ? "tcp" : protocol == SLUICE_UDP ? "udp" : "other";
}

static void log_denial(const struct flow_event *event, const char *origin, uint64_t repeats)
{
	char address[SLUICE_PREFIX_TEXT], repeated[64] = "", process[40] = "";

	if (repeats)
		snprintf(repeated, sizeof(repeated), " (%llu more since the last line)", (unsigned long long)repeats);
	if (event->pid)
		snprintf(process, sizeof(process), " %s[%u]", event->comm, event->pid);
	log_warning("%s: %s%s to %s%s%s:%u/%s: %s, by %s%s", event->verdict == VERDICT_DENY ? "denied" : "audit: would deny",
		    event->name[0] ? event->name : "(default)", process, event->host, event->host[0] ? " at " : "",
		    format_address(address, event->addr), event->port, protocol_name(event->protocol),
		    verdict_reason_name(event->reason), origin, repeated);
}

void denials_see(struct denials *denials, const struct flow_event *event, const char *origin)
{
	struct denial_key key = {.workload = event->workload, .port = event->port, .protocol = event->protocol,
				 .reason = event->reason};
	uint64_t now = loop_now_ms();
	struct denial *denial;

	if (event->verdict != VERDICT_DENY && !event->would_be)
		return;
	memcpy(key.addr, event->addr, 16);
	memcpy(key.comm, event->comm, strnlen(event->comm, sizeof(key.comm)));
	memcpy(key.host, event->host, strnlen(event->host, sizeof(key.host)));
	HASH_FIND(hh, denials->seen, &key, sizeof(key), denial);
	if (denial && now - denial->logged_ms < REPEAT_MS) {
		denial->repeats++;
		return;
	}
	if (!denial) {
		if (HASH_COUNT(denials->seen) >= MAX_DISTINCT)
			denials_forget(denials);
		denial = xcalloc(1, sizeof(*denial));
		denial->key = key;
		HASH_ADD(hh, denials->seen, key, sizeof(denial->key), denial);
	}
	denial->logged_ms = now;
	if (may_log(denials, now))
		log_denial(event, origin, denial->repeats);
	denial->repeats = 0;
}
