// SPDX-License-Identifier: Apache-2.0
/*
 * HTTP/2: the frames of a client go through a worker of the redirector, or (bits of the first byte: 1) its fields through the
 * translation alone, whose head must say to the reader of HTTP/1 what the fields said, and nothing more, or (5) the frames of a
 * server that a request was sent to.
 */
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "fuzz.h"
#include "redirect/circuit.h"
#include "redirect/h2.h"
#include "redirect/h2_fields.h"
#include "redirect/view.h"

#define MAX_INPUT 16384

static const char documents[] =
	"apiVersion: sluice.dev/v1\nkind: EgressPolicy\nmetadata: {name: default, namespace: istio-system}\n"
	"spec: {outboundTrafficPolicy: {mode: REGISTRY_ONLY}}\n---\n"
	"apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: a}\n"
	"spec: {hosts: [a], ports: [{number: 80, name: p, protocol: HTTP}], resolution: STATIC, endpoints: [{address: 192.0.2.1}]}\n---\n"
	"apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: a}\n"
	"spec: {hosts: [a], http: [{match: [{uri: {prefix: /wait}}], route: [{destination: {host: a}}]}, {directResponse: {status: 200, body: {string: 'yes'}}}]}\n---\n"
	"apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: b}\n"
	"spec: {hosts: [b], ports: [{number: 81, name: p, protocol: HTTP2}], resolution: STATIC, endpoints: [{address: 192.0.2.1}]}\n---\n"
	"apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: b}\n"
	"spec: {host: b, trafficPolicy: {connectionPool: {tcp: {maxConnections: 1}}, outlierDetection: {consecutive5xxErrors: 2}}}\n";

static struct worker *worker = &workers[0];
static struct place place = {.cookie = 1};

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	struct config_file file = {"p.yaml", documents, sizeof(documents) - 1};
	struct config_source source = {.files = &file, .count = 1, .capacity = 1};
	int memfd = memfd_create("table", MFD_CLOEXEC);
	struct table *table;
	char *bytes, why[1024];
	size_t length;

	(void)argc, (void)argv;
	signal(SIGPIPE, SIG_IGN);
	worker_count = 1;
	main_wake_fd = open("/dev/null", O_WRONLY | O_CLOEXEC);
	atomic_store(&place.references, 1);
	CHECK(!config_source_pack(&source, &bytes, &length) && write(memfd, bytes, length) == (ssize_t)length, "the documents");
	free(bytes);
	CHECK(!table_compile(&table, 1, memfd, "istio-system", why, sizeof(why)), "%s", why);
	close(memfd);
	view_publish(table, NULL);
	return worker_init(worker, 0, 100000);
}

/* What a client sends after its preface, in two parts. */
static void run_frames(const char *bytes, size_t n, size_t cut)
{
	struct flow_record record = {.port = 80, .generation = 1, .service_flags = SERVICE_HTTP};
	static char answer[65536];
	int pair[2];

	CHECK(!socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair), "no sockets");
	CHECK(write(pair[0], H2_PREFACE, strlen(H2_PREFACE)) > 0, "the preface");
	CHECK(write(pair[0], bytes, cut) == (ssize_t)cut, "the first part");
	conn_adopt(worker, pair[1], &place, &record);
	worker_round(worker, 0);
	(void)!write(pair[0], bytes + cut, n - cut);
	for (int i = 0; i < 6; i++) {
		worker_round(worker, 0);
		while (read(pair[0], answer, sizeof(answer)) > 0)
			;
	}
	close(pair[0]);
	for (int i = 0; i < 4; i++)
		worker_round(worker, 0);
	CHECK(!worker->conns, "a connection outlives its client");
}

/* The request that waits for a socket has a connection, to us. */
static const struct circuit *connect_to(int fd)
{
	struct conn *conn = worker->conns;

	while (conn && conn->state != CONN_SOCKET)
		conn = conn->next;
	CHECK(conn && conn->has_connection, "no request waits");
	upstream_forget_waiting(conn);
	conn->tries = 1;
	circuit_dial(conn);
	worker->descriptors++;
	conn->upstream.fd = fd;
	conn->kept_for = conn->service;
	h2_connected(conn);
	http_connected(conn);
	worker_ready(conn);
	return conn->circuit;
}

/* What a server answers in HTTP/2, to a client of either version that asks `is_grpc` or not. */
static void run_answer(const char *bytes, size_t n, bool is_h2, bool is_grpc)
{
	static const char asked[] = H2_PREFACE "\0\0\0\4\0\0\0\0\0" "\0\0\6\1\5\0\0\0\1\x82\x86\x84\x41\1b";
	static const char *const asked_1[] = {"GET / HTTP/1.1\r\nHost: b\r\n\r\n",
					      "POST / HTTP/1.1\r\nHost: b\r\nContent-Type: application/grpc\r\nContent-Length: 0\r\n\r\n"};
	struct flow_record record = {.port = 81, .generation = 1, .service_flags = SERVICE_HTTP};
	const char *request = is_h2 ? asked : asked_1[is_grpc];
	const struct circuit *circuit;
	static char in[65536];
	int client[2], server[2];

	CHECK(!socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, client), "no sockets");
	CHECK(!socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, server), "no sockets");
	CHECK(write(client[0], request, is_h2 ? sizeof(asked) - 1 : strlen(request)) > 0, "the request");
	conn_adopt(worker, client[1], &place, &record);
	for (int i = 0; i < 3; i++)
		worker_round(worker, 0);
	circuit = connect_to(server[1]);
	(void)!write(server[0], bytes, n);
	for (int i = 0; i < 6; i++) {
		worker_round(worker, 0);
		while (read(client[0], in, sizeof(in)) > 0 || read(server[0], in, sizeof(in)) > 0)
			;
	}
	close(client[0]);
	close(server[0]);
	for (int i = 0; i < 4; i++)
		worker_round(worker, 0);
	CHECK(!worker->conns, "a connection outlives its client");
	CHECK(!circuit->connections && !circuit->requests && !circuit->waiting && !circuit->idle, "the circuit counts what is gone");
}

/* Length, then bytes: a name or a value. */
static struct slice take_slice(struct feed *feed)
{
	size_t n = feed_byte(feed);
	struct slice slice;

	n = n < feed->n ? n : feed->n;
	slice = (struct slice){(const char *)feed->p, n};
	feed->p += n;
	feed->n -= n;
	return slice;
}

static void run_fields(struct feed *feed, bool ended)
{
	struct h2_block block = {0};
	struct slice path = {"", 0};
	enum http_framing framing = HTTP_BODY_NONE;
	static struct http_head head;
	struct buffer *text;
	size_t given = 0;
	const char *why = "";
	enum http_result result;

	while (feed->n) {
		struct slice name = take_slice(feed), value = take_slice(feed);

		if (name.n == 5 && !memcmp(name.p, ":path", 5))
			path = value;
		h2_block_add(worker, &block, name, value);
		given++;
	}
	text = h2_request_head(worker, &block, ended, &framing);
	CHECK(!block.text && !block.lines && !block.cookies, "the block is not empty");
	if (!text)
		return;
	result = http_parse_request(&head, buffer_bytes(text), buffer_length(text), &why);
	CHECK(result != HTTP_MORE && result != HTTP_NOT_HTTP, "%d:\n%.*s", result, (int)buffer_length(text), buffer_bytes(text));
	if (result == HTTP_OK) {
		CHECK(head.bytes == buffer_length(text), "something follows the head:\n%.*s", (int)buffer_length(text), buffer_bytes(text));
		CHECK(head.field_count <= given + 2, "%zu fields of %zu", head.field_count, given);
		CHECK(head.framing == framing, "framing %d became %d", framing, head.framing);
		CHECK(head.method == HTTP_CONNECT || (head.path.n == path.n && !memcmp(head.path.p, path.p, path.n)), "another path");
		CHECK(!head.absolute_form, "an absolute target");
	}
	buffer_put(worker, &text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct feed feed = {data, size};
	uint8_t first = feed_byte(&feed);
	size_t n;
	char *bytes;

	if ((first & 5) == 1) {
		run_fields(&feed, first & 2);
		return 0;
	}
	bytes = (char *)feed_copy(&feed, MAX_INPUT, &n);
	if (first & 1)
		run_answer(bytes, n, first & 8, first & 16);
	else
		run_frames(bytes, n, n * first / 256);
	free(bytes);
	return 0;
}
