// SPDX-License-Identifier: Apache-2.0
/* HTTP/2 through a worker, on either side: streams, what becomes of them, and what is refused. */
#include "h2_peer.h"
#include "redirect/directory.h"
#include "redirect/h2_fields.h"

static uint16_t port;
static int server = -1;

#define VIA(name, number, protocol) ENTRY_OF(name, "hosts: [" name ".example], addresses: [203.0.113.1], resolution: STATIC, " \
	"ports: [{number: " number ", name: p, protocol: " protocol ", targetPort: %u}], endpoints: [{address: 127.0.0.1}]")

static void start(void)
{
	char documents[4096];

	server = serve_on(&port, "127.0.0.1");
	snprintf(documents, sizeof(documents), REGISTRY_ONLY VIA("a", "80", "HTTP") VIA("two", "81", "HTTP2"), port, port);
	rig_start(documents);
}

static struct peer *dial(uint16_t to)
{
	struct flow_record record = record_to("203.0.113.1", to);

	return peer_new(dial_as(&record), false);
}

/* The server's end of the connection that was made for the client's requests. */
static struct peer *accept_peer(struct peer *client)
{
	int fd;

	turn_with(client, NULL);
	fd = accept_upstream(server);
	cr_assert_geq(fd, 0, "no upstream connection");
	return peer_new(fd, true);
}

TestSuite(redirect_http2, .init = start, .fini = peers_free, .timeout = 20);

Test(redirect_http2, a_request_reaches_a_server_of_http_1)
{
	struct peer *client = dial(80);
	int32_t id = peer_get(client, "a.example", "/x?y");
	struct heard heard;
	int upstream;

	turn_with(client, NULL);
	upstream = accept_upstream(server);
	cr_assert_geq(upstream, 0);
	turn();
	heard = hear(upstream);
	expect_in(&heard, "GET /x?y HTTP/1.1\r\nHost: a.example\r\n");
	say(upstream, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-Big: yes\r\nConnection: keep-alive\r\n\r\nhi");
	turn_with(client, NULL);
	expect_head(client, id, ":status: 200\n");
	expect_head(client, id, "x-big: yes\n");
	expect_head(client, id, "content-length: 2\n");
	expect_head(client, id, "x-envoy-upstream-service-time: ");
	cr_expect_str_eq(peer_stream(client, id)->body, "hi");
	cr_expect(peer_stream(client, id)->ended);
	cr_expect_null(strstr(peer_stream(client, id)->head, "connection"));
}

Test(redirect_http2, a_later_stream_takes_the_connection_of_an_earlier_one)
{
	struct peer *client = dial(80);
	int32_t id = peer_get(client, "a.example", "/1");
	int upstream;
	struct heard heard;

	turn_with(client, NULL);
	upstream = accept_upstream(server);
	turn();
	hear(upstream);
	say(upstream, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
	turn_with(client, NULL);
	id = peer_get(client, "a.example", "/2");
	turn_with(client, NULL);
	heard = hear(upstream);
	expect_in(&heard, "GET /2 HTTP/1.1\r\n");
	cr_expect_eq(accept_upstream(server), -1);
	say(upstream, "HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n");
	turn_with(client, NULL);
	expect_head(client, id, ":status: 201\n");
}

Test(redirect_http2, streams_of_a_client_share_a_session)
{
	struct peer *client = dial(81), *upstream;
	int32_t first = peer_get(client, "two.example", "/1"), second = peer_get(client, "two.example", "/2");

	upstream = accept_peer(client);
	turn_with(client, upstream);
	cr_expect_eq(accept_upstream(server), -1, "one connection for both");
	cr_assert_eq(upstream->count, 2);
	expect_head(upstream, 1, ":authority: two.example\n");
	peer_answer(upstream, 1, "200", "one", NULL);
	peer_answer(upstream, 3, "200", "two", "0");
	turn_with(client, upstream);
	cr_expect(strstr(peer_stream(client, first)->head, ":status: 200") && strstr(peer_stream(client, second)->head, ":status: 200"));
	cr_expect(peer_stream(client, first)->ended && peer_stream(client, second)->ended);
	cr_expect(strstr(peer_stream(client, first)->head, "grpc-status: 0") || strstr(peer_stream(client, second)->head, "--\ngrpc-status: 0\n"),
		  "%s %s", peer_stream(client, first)->head, peer_stream(client, second)->head);
	client->gone = true;
	close(client->fd);
	usleep(2000);
	turn_with(NULL, upstream);
	cr_expect(upstream->gone, "the server's connection ends with the client's");
	cr_expect_eq(rig.worker->statistics.connections_open, 0);
}

Test(redirect_http2, a_client_of_http_1_reaches_a_server_of_http_2)
{
	struct flow_record record = record_to("203.0.113.1", 81);
	int client = dial_as(&record), fd;
	struct peer *upstream;
	struct heard heard;

	say(client, "POST /p HTTP/1.1\r\nHost: two.example\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX-T: 1\r\n\r\n");
	turn();
	fd = accept_upstream(server);
	cr_assert_geq(fd, 0);
	upstream = peer_new(fd, true);
	turn_with(NULL, upstream);
	expect_head(upstream, 1, ":method: POST\n");
	expect_head(upstream, 1, "--\nx-t: 1\n");
	cr_expect_str_eq(peer_stream(upstream, 1)->body, "abc");
	cr_expect(peer_stream(upstream, 1)->ended);
	peer_answer(upstream, 1, "200", "hello", "0");
	turn_with(NULL, upstream);
	heard = hear(client);
	expect_in(&heard, "HTTP/1.1 200 OK\r\n");
	expect_in(&heard, "\r\n\r\n5\r\nhello\r\n0\r\ngrpc-status: 0\r\n\r\n");
	say(client, "GET /q HTTP/1.1\r\nHost: two.example\r\n\r\n");
	turn_with(NULL, upstream);
	expect_head(upstream, 3, ":path: /q\n");
	peer_answer(upstream, 3, "204", NULL, NULL);
	turn_with(NULL, upstream);
	heard = hear(client);
	expect_in(&heard, "HTTP/1.1 204 No Content\r\n");
}

Test(redirect_http2, blocked_hosts_get_502)
{
	struct peer *client = dial(80);
	int32_t id = peer_get(client, "evil.example", "/");

	turn_with(client, NULL);
	expect_head(client, id, ":status: 502\n");
	expect_head(client, id, "server: sluice\n");
	cr_expect(strstr(peer_stream(client, id)->body, "evil.example"));
	cr_expect(peer_stream(client, id)->ended);
}

/* ---- what is refused ---- */

#define ASKS(...) {NV(":method", "GET"), NV(":scheme", "http"), __VA_ARGS__}

/* The stream is reset, or answered with 400, and no server hears of it. */
static void expect_refused(const nghttp2_nv *fields, size_t count)
{
	struct peer *client = dial(80);
	int32_t id = peer_ask_with(client, fields, count, NULL, true);

	turn_with(client, NULL);
	cr_expect(peer_stream(client, id)->error == NGHTTP2_PROTOCOL_ERROR || strstr(peer_stream(client, id)->head, ":status: 400"),
		  "%.*s: %s error %u", (int)fields[count - 1].valuelen, (const char *)fields[count - 1].value, peer_stream(client, id)->head,
		  peer_stream(client, id)->error);
	cr_expect_eq(accept_upstream(server), -1);
}

Test(redirect_http2, what_could_be_read_in_two_ways_is_refused)
{
	const nghttp2_nv wrong[][5] = {
		ASKS(NV(":path", "/"), NV(":authority", "a.example"), NV("x", "a\r\nb: c")),
		ASKS(NV(":path", "/"), NV(":authority", "a.example"), NV("host", "evil.example")),
		ASKS(NV(":path", "/ HTTP/1.1"), NV(":authority", "a.example"), NV("x", "space in the path")),
		ASKS(NV(":path", "http://evil.example/"), NV(":authority", "a.example"), NV("x", "absolute path")),
		ASKS(NV(":path", "/"), NV(":authority", "user@a.example"), NV("x", "userinfo")),
		ASKS(NV(":path", "/"), NV(":authority", "a.example"), NV("connection", "close")),
		ASKS(NV(":path", "/"), NV(":authority", "a.example"), NV("transfer-encoding", "chunked")),
		ASKS(NV(":path", "/"), NV(":authority", "a.example"), NV("upgrade", "h2c")),
		ASKS(NV(":path", "/"), NV(":authority", "a.example"), NV("te", "gzip")),
		ASKS(NV(":path", "/"), NV(":authority", "a.example"), NV("content-length", "7")),
		ASKS(NV(":path", "/"), NV(":authority", "a.example"), NV(":path", "/second")),
		ASKS(NV(":path", "/"), NV("host", "a.example"), NV(":authority", "late.example")),
		ASKS(NV(":path", "/"), NV(":authority", "a.example"), NV("bad name", "blank")),
	};

	for (size_t i = 0; i < sizeof(wrong) / sizeof(*wrong); i++)
		expect_refused(wrong[i], 5);
}

Test(redirect_http2, the_block_itself_refuses_what_nghttp2_would)
{
	static const struct {
		const char *name, *value;
	} wrong[] = {{"X-Upper", "1"}, {"x", "a\nb"}, {"x", " a"}, {"", "a"}, {":protocol", "websocket"}, {"keep-alive", "1"}, {"a:b", "c"}};

	for (size_t i = 0; i < sizeof(wrong) / sizeof(*wrong); i++) {
		struct h2_block block = {0};
		enum http_framing framing;
		const char *asks[][2] = {{":method", "GET"}, {":scheme", "http"}, {":path", "/"}, {":authority", "a"}, {wrong[i].name, wrong[i].value}};

		for (size_t k = 0; k < 5; k++)
			h2_block_add(rig.worker, &block, (struct slice){asks[k][0], strlen(asks[k][0])}, (struct slice){asks[k][1], strlen(asks[k][1])});
		cr_expect_null(h2_request_head(rig.worker, &block, true, &framing), "%s: %s", wrong[i].name, wrong[i].value);
		cr_expect(block.is_malformed);
	}
}

Test(redirect_http2, crumbs_of_a_cookie_are_joined)
{
	const nghttp2_nv fields[] = {NV(":method", "GET"), NV(":scheme", "http"), NV(":path", "/"), NV("host", "a.example"), NV("cookie", "a=1"),
				     NV("cookie", "b=2")};
	struct peer *client = dial(80);
	struct heard heard;
	int upstream;

	peer_ask_with(client, fields, 6, NULL, true);
	turn_with(client, NULL);
	upstream = accept_upstream(server);
	cr_assert_geq(upstream, 0);
	turn();
	heard = hear(upstream);
	expect_in(&heard, "Host: a.example\r\n");
	expect_in(&heard, "cookie: a=1; b=2\r\n");
}

Test(redirect_http2, too_many_fields_are_too_much)
{
	nghttp2_nv fields[200] = {NV(":method", "GET"), NV(":scheme", "http"), NV(":path", "/"), NV(":authority", "a.example")};
	struct peer *client = dial(80);
	int32_t id;

	for (size_t i = 4; i < 200; i++)
		fields[i] = (nghttp2_nv)NV("x", "1");
	id = peer_ask_with(client, fields, 200, NULL, true);
	turn_with(client, NULL);
	expect_head(client, id, ":status: 431\n");
	id = peer_get(client, "evil.example", "/");
	turn_with(client, NULL);
	expect_head(client, id, ":status: 502\n");
}

Test(redirect_http2, connect_is_not_served)
{
	const nghttp2_nv fields[] = {NV(":method", "CONNECT"), NV(":authority", "a.example:80")};
	struct peer *client = dial(80);
	int32_t id = peer_ask_with(client, fields, 2, NULL, false);

	turn_with(client, NULL);
	expect_head(client, id, ":status: 405\n");
}

Test(redirect_http2, a_client_that_resets_without_end_is_sent_away)
{
	struct peer *client = dial(80);

	for (int round = 0; round < 12 && !client->goaway; round++) {
		for (int i = 0; i < 100; i++) {
			int32_t id = nghttp2_session_get_next_stream_id(client->http2);
			const nghttp2_nv fields[] = ASKS(NV(":path", "/"), NV(":authority", "evil.example"));

			nghttp2_submit_request(client->http2, NULL, fields, 4, NULL, NULL);
			peer_turn(client);
			nghttp2_submit_rst_stream(client->http2, NGHTTP2_FLAG_NONE, id, NGHTTP2_CANCEL);
			client->count = 0;
			peer_turn(client);
		}
		turn();
		client->count = 0;
		peer_turn(client);
	}
	cr_expect(client->goaway, "it is told to go");
	turn();
	cr_expect_leq(rig.worker->statistics.connections_open, 1);
}

/* CVE-2025-8671: it is us who resets the stream, and the client has asked all the same. */
Test(redirect_http2, a_client_that_has_streams_reset_without_end_is_sent_away)
{
	struct peer *client = dial(80);

	for (int round = 0; round < 12 && !client->goaway; round++) {
		for (int i = 0; i < 100; i++) {
			int32_t id = nghttp2_session_get_next_stream_id(client->http2);
			const nghttp2_nv fields[] = ASKS(NV(":path", "/"), NV(":authority", "a.example"));
			const unsigned char too_wide[13] = {0, 0, 4, 8, 0, 0, 0, (unsigned char)(id >> 8), (unsigned char)id, 0x7f, 0xff, 0xff, 0xff};

			nghttp2_submit_request(client->http2, NULL, fields, 4, NULL, NULL);
			peer_turn(client);
			cr_assert(send(client->fd, too_wide, sizeof(too_wide), MSG_NOSIGNAL) == sizeof(too_wide) || round > 9);
			client->count = 0;
			peer_turn(client);
		}
		turn();
		client->count = 0;
		peer_turn(client);
	}
	cr_expect_eq(client->goaway, NGHTTP2_ENHANCE_YOUR_CALM + 1, "it is told to go, not %u", client->goaway);
	turn();
	cr_expect_leq(rig.worker->statistics.connections_open, 1);
}

/* ---- streams that end early ---- */

Test(redirect_http2, a_stream_that_the_client_cancels_ends_the_request)
{
	struct peer *client = dial(80);
	int32_t id = peer_get(client, "a.example", "/");
	struct heard heard;
	int upstream;

	turn_with(client, NULL);
	upstream = accept_upstream(server);
	turn();
	hear(upstream);
	nghttp2_submit_rst_stream(client->http2, NGHTTP2_FLAG_NONE, id, NGHTTP2_CANCEL);
	turn_with(client, NULL);
	heard = hear(upstream);
	cr_expect(heard.ended || heard.error, "the server learns of it");
}

Test(redirect_http2, half_an_answer_is_never_taken_for_a_whole_one)
{
	struct peer *client = dial(80);
	int32_t id = peer_get(client, "a.example", "/");
	int upstream;

	turn_with(client, NULL);
	upstream = accept_upstream(server);
	turn();
	hear(upstream);
	say(upstream, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n");
	turn_with(client, NULL);
	close(upstream);
	usleep(2000);
	turn_with(client, NULL);
	cr_expect(!peer_stream(client, id)->ended);
	cr_expect_neq(peer_stream(client, id)->error, NGHTTP2_NO_ERROR);
}

Test(redirect_http2, a_body_until_close_ends_the_stream)
{
	struct peer *client = dial(80);
	int32_t id = peer_get(client, "a.example", "/");
	int upstream;

	turn_with(client, NULL);
	upstream = accept_upstream(server);
	turn();
	hear(upstream);
	say(upstream, "HTTP/1.1 200 OK\r\n\r\nhi");
	close(upstream);
	usleep(2000);
	turn_with(client, NULL);
	cr_expect_str_eq(peer_stream(client, id)->body, "hi");
	cr_expect(peer_stream(client, id)->ended);
}

Test(redirect_http2, an_answer_may_come_before_the_request_is_whole)
{
	const nghttp2_nv fields[] = {NV(":method", "POST"), NV(":scheme", "http"), NV(":path", "/"), NV(":authority", "two.example")};
	struct peer *client = dial(81), *upstream;
	int32_t id = peer_ask_with(client, fields, 4, "abc", false);

	upstream = accept_peer(client);
	turn_with(client, upstream);
	cr_expect_str_eq(peer_stream(upstream, 1)->body, "abc");
	cr_expect(!peer_stream(upstream, 1)->ended);
	peer_answer(upstream, 1, "200", "early", NULL);
	turn_with(client, upstream);
	cr_expect_str_eq(peer_stream(client, id)->body, "early");
	cr_expect(peer_stream(client, id)->ended);
	cr_expect_eq(peer_stream(client, id)->error, NGHTTP2_NO_ERROR);
}

Test(redirect_http2, a_refused_stream_is_tried_again)
{
	struct peer *client = dial(81), *upstream;
	int32_t id = peer_get(client, "two.example", "/");

	upstream = accept_peer(client);
	turn_with(client, upstream);
	nghttp2_submit_rst_stream(upstream->http2, NGHTTP2_FLAG_NONE, 1, NGHTTP2_REFUSED_STREAM);
	turn_with(client, upstream);
	turn_for(60);
	turn_with(client, upstream);
	expect_head(upstream, 3, "x-envoy-attempt-count: 2\n");
	peer_answer(upstream, 3, "200", NULL, NULL);
	turn_with(client, upstream);
	expect_head(client, id, ":status: 200\n");
}

Test(redirect_http2, a_stream_that_the_server_resets_is_answered)
{
	const nghttp2_nv fields[] = {NV(":method", "POST"), NV(":scheme", "http"), NV(":path", "/"), NV(":authority", "two.example")};
	struct peer *client = dial(81), *upstream;
	int32_t id = peer_ask_with(client, fields, 4, "abc", true);

	upstream = accept_peer(client);
	turn_with(client, upstream);
	nghttp2_submit_rst_stream(upstream->http2, NGHTTP2_FLAG_NONE, 1, NGHTTP2_INTERNAL_ERROR);
	turn_with(client, upstream);
	expect_head(client, id, ":status: 503\n");
	cr_expect(strstr(peer_stream(client, id)->body, "remote reset") || strstr(peer_stream(client, id)->body, "reset reason"));
}

/* The session has served before, and goes on: that is no connection which the server let go of just now. */
Test(redirect_http2, a_server_that_resets_each_stream_is_asked_once_for_each)
{
	struct peer *client = dial(81), *upstream;
	int32_t id = peer_get(client, "two.example", "/1");

	upstream = accept_peer(client);
	turn_with(client, upstream);
	peer_answer(upstream, 1, "200", NULL, NULL);
	turn_with(client, upstream);
	expect_head(client, id, ":status: 200\n");
	id = peer_get(client, "two.example", "/2");
	for (int i = 0; i < 4; i++) {
		turn_with(client, upstream);
		if (upstream->count > (size_t)i + 1)
			nghttp2_submit_rst_stream(upstream->http2, NGHTTP2_FLAG_NONE, 2 * i + 3, NGHTTP2_INTERNAL_ERROR);
	}
	turn_with(client, upstream);
	cr_expect_eq(upstream->count, 2, "%zu streams", upstream->count);
	expect_head(client, id, ":status: 503\n");
}

Test(redirect_http2, a_server_that_goes_away_gets_no_more_streams)
{
	struct peer *client = dial(81), *upstream, *next;
	int32_t first = peer_get(client, "two.example", "/1"), second;

	upstream = accept_peer(client);
	turn_with(client, upstream);
	nghttp2_submit_goaway(upstream->http2, NGHTTP2_FLAG_NONE, 1, NGHTTP2_NO_ERROR, NULL, 0);
	turn_with(client, upstream);
	second = peer_get(client, "two.example", "/2");
	next = accept_peer(client);
	turn_with(client, next);
	peer_answer(next, 1, "201", NULL, NULL);
	peer_answer(upstream, 1, "200", NULL, NULL);
	turn_with(client, upstream);
	turn_with(client, next);
	expect_head(client, first, ":status: 200\n");
	expect_head(client, second, ":status: 201\n");
}

Test(redirect_http2, a_trailer_that_would_frame_a_message_is_refused)
{
	const nghttp2_nv fields[] = {NV(":method", "POST"), NV(":scheme", "http"), NV(":path", "/"), NV(":authority", "a.example")};
	const nghttp2_nv trailer[] = {NV("content-length", "5")};
	struct peer *client = dial(80);
	int32_t id = peer_ask_with(client, fields, 4, NULL, false);

	turn_with(client, NULL);
	nghttp2_submit_headers(client->http2, NGHTTP2_FLAG_END_STREAM, id, NULL, trailer, 1, NULL);
	turn_with(client, NULL);
	cr_expect(peer_stream(client, id)->closed || strstr(peer_stream(client, id)->head, ":status: 400"));
}

/* ---- answers without bodies, and those before the answer ---- */

Test(redirect_http2, head_and_continue)
{
	const nghttp2_nv head[] = {NV(":method", "HEAD"), NV(":scheme", "http"), NV(":path", "/"), NV(":authority", "a.example")};
	const nghttp2_nv post[] = {NV(":method", "POST"), NV(":scheme", "http"), NV(":path", "/"), NV(":authority", "a.example"), NV("expect", "100-continue")};
	struct peer *client = dial(80);
	int32_t id = peer_ask_with(client, head, 4, NULL, true);
	int upstream;
	struct heard heard;

	turn_with(client, NULL);
	upstream = accept_upstream(server);
	turn();
	hear(upstream);
	say(upstream, "HTTP/1.1 200 OK\r\nContent-Length: 77\r\n\r\n");
	turn_with(client, NULL);
	expect_head(client, id, "content-length: 77\n");
	cr_expect(peer_stream(client, id)->ended);
	id = peer_ask_with(client, post, 5, "abc", true);
	turn_with(client, NULL);
	heard = hear(upstream);
	expect_in(&heard, "expect: 100-continue\r\n");
	say(upstream, "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi");
	turn_with(client, NULL);
	expect_head(client, id, ":status: 100\n");
	expect_head(client, id, ":status: 200\n");
	cr_expect_str_eq(peer_stream(client, id)->body, "hi");
}

/* ---- bounds, and what a new table does ---- */

Test(redirect_http2, a_client_that_does_not_read_holds_the_server_up)
{
	static char chunk[65536];
	struct peer *client = dial(80);
	size_t taken = 0;
	int upstream;

	client->withholds = true;
	peer_get(client, "a.example", "/");
	turn_with(client, NULL);
	upstream = accept_upstream(server);
	turn();
	hear(upstream);
	say(upstream, "HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n");
	for (int i = 0; i < 400; i++) {
		ssize_t n = send(upstream, chunk, sizeof(chunk), MSG_NOSIGNAL | MSG_DONTWAIT);

		taken += n > 0 ? (size_t)n : 0;
		turn();
	}
	cr_expect_lt(taken, 12000000, "what sockets hold, and two buffers; not all: %zu", taken);
}

Test(redirect_http2, streams_that_lose_their_right_are_answered_and_the_others_go_on)
{
	struct peer *client = dial(81), *upstream;
	int32_t id = peer_get(client, "two.example", "/");

	upstream = accept_peer(client);
	turn_with(client, upstream);
	apply(REGISTRY_ONLY);
	turn_with(client, upstream);
	expect_head(client, id, ":status: 502\n");
	cr_expect_neq(peer_stream(upstream, 1)->error, 0, "the server learns of it");
	id = peer_get(client, "two.example", "/");
	turn_with(client, upstream);
	expect_head(client, id, ":status: 502\n");
}

Test(redirect_http2, a_pod_that_goes_takes_its_streams_along)
{
	struct peer *client = dial(81), *upstream;

	peer_get(client, "two.example", "/1");
	peer_get(client, "two.example", "/2");
	upstream = accept_peer(client);
	turn_with(client, upstream);
	atomic_store(&rig.place.gone, true);
	view_publish(rig.table, rig.previous);
	turn();
	cr_expect_eq(rig.worker->statistics.connections_open, 0);
	cr_expect_null(rig.worker->conns);
}

Test(redirect_http2, an_upgrade_of_http_1_goes_on_as_stream_1)
{
	struct flow_record record = record_to("203.0.113.1", 80);
	int client = dial_as(&record);
	struct heard heard;

	say(client, "GET / HTTP/1.1\r\nHost: evil.example\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n");
	turn();
	heard = hear(client);
	expect_in(&heard, "HTTP/1.1 101 Switching Protocols\r\n");
	cr_expect(memmem(heard.text, heard.n, "sluice: blocked evil.example", 28), "stream 1 is answered");
	cr_assert_eq(send(client, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0", 33, MSG_NOSIGNAL), 33); /* and SETTINGS */
	turn();
	heard = hear(client);
	cr_expect(memmem(heard.text, heard.n, "\0\0\0\4\1", 5), "the settings are acknowledged: %zu bytes, ended %d, error %d", heard.n, heard.ended, heard.error);
	client = dial_as(&record);
	say(client, "GET / HTTP/1.1\r\nHost: evil.example\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: !\r\n\r\n");
	turn();
	heard = hear(client);
	expect_in(&heard, "HTTP/1.1 502 ");
}

/* ---- what outlives a stream ---- */

#define POOLED(host, settings) "---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: " host "}\n" \
	"spec: {host: " host ".example, trafficPolicy: {connectionPool: " settings "}}\n"

static void apply_pooled(const char *rule)
{
	char documents[4096];
	size_t n = (size_t)snprintf(documents, sizeof(documents), REGISTRY_ONLY VIA("a", "80", "HTTP") VIA("two", "81", "HTTP2"), port, port);

	snprintf(documents + n, sizeof(documents) - n, "%s", rule);
	apply(documents);
	turn();
}

/* A request to a server of HTTP/1.1, on a connection that is open (-1: a new one). Returns the connection. */
static int ask_http1(struct peer *client, int upstream)
{
	int32_t id = peer_get(client, "a.example", "/");
	struct heard heard;

	turn_with(client, NULL);
	if (upstream < 0)
		upstream = accept_upstream(server);
	cr_assert_geq(upstream, 0, "no upstream connection");
	turn();
	heard = hear(upstream);
	expect_in(&heard, "GET / HTTP/1.1\r\n");
	say(upstream, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
	turn_with(client, NULL);
	expect_head(client, id, ":status: 200\n");
	return upstream;
}

Test(redirect_http2, a_connection_that_was_idle_for_too_long_leaves_nothing_behind)
{
	struct peer *client;
	struct heard heard;
	int upstream;

	apply_pooled(POOLED("a", "{http: {idleTimeout: 200ms}}"));
	client = dial(80);
	upstream = ask_http1(client, -1);
	turn_for(100);
	upstream = ask_http1(client, upstream);
	turn_for(300);
	heard = hear(upstream);
	cr_expect(heard.ended, "the second stream's is closed as the first one's would have been");
	cr_expect_eq(rig.worker->statistics.connections_open, 1, "%llu are open", rig.worker->statistics.connections_open);
}

Test(redirect_http2, a_server_is_told_whose_session_a_stream_is_of)
{
	struct sockaddr_in own;
	socklen_t size = sizeof(own);
	struct peer *client;
	struct heard heard;
	char wanted[64];
	int upstream;

	apply_pooled("---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: a}\n"
		     "spec: {host: a.example, trafficPolicy: {proxyProtocol: {version: V1}}}\n");
	client = dial(80);
	getsockname(client->fd, (struct sockaddr *)&own, &size);
	peer_get(client, "a.example", "/");
	turn_with(client, NULL);
	upstream = accept_upstream(server);
	cr_assert_geq(upstream, 0);
	turn();
	heard = hear(upstream);
	snprintf(wanted, sizeof(wanted), "PROXY TCP4 127.0.0.1 203.0.113.1 %u 80\r\nGET ", ntohs(own.sin_port));
	expect_in(&heard, wanted);
}

Test(redirect_http2, a_connection_lasts_no_longer_for_the_streams_that_share_it)
{
	struct peer *client;
	int upstream;

	apply_pooled(POOLED("a", "{tcp: {maxConnectionDuration: 300ms}}"));
	client = dial(80);
	upstream = ask_http1(client, -1);
	ask_http1(client, upstream);
	turn_for(400);
	ask_http1(client, -1);
}

Test(redirect_http2, a_session_that_is_idle_for_too_long_ends)
{
	struct peer *client, *upstream;
	int32_t id;

	apply_pooled(POOLED("two", "{http: {idleTimeout: 200ms}}"));
	client = dial(81);
	id = peer_get(client, "two.example", "/");
	upstream = accept_peer(client);
	turn_with(client, upstream);
	turn_for(300);
	turn_with(client, upstream);
	cr_expect_not(upstream->gone, "a stream is open");
	peer_answer(upstream, 1, "200", NULL, NULL);
	turn_with(client, upstream);
	expect_head(client, id, ":status: 200\n");
	cr_expect_not(upstream->gone);
	turn_for(300);
	turn_with(client, upstream);
	cr_expect(upstream->gone);
	cr_expect_eq(rig.worker->statistics.connections_open, 1);
}

Test(redirect_http2, a_session_that_has_served_what_it_may_ends)
{
	struct peer *client, *upstream;

	apply_pooled(POOLED("two", "{http: {maxRequestsPerConnection: 1}}"));
	client = dial(81);
	peer_get(client, "two.example", "/");
	upstream = accept_peer(client);
	turn_with(client, upstream);
	peer_answer(upstream, 1, "200", NULL, NULL);
	turn_with(client, upstream);
	turn_with(client, upstream);
	cr_expect(upstream->gone);
	cr_expect_eq(rig.worker->statistics.connections_open, 1);
}

Test(redirect_http2, a_session_that_has_lasted_takes_no_more_streams)
{
	struct peer *client, *upstream, *next;
	int32_t first, second;

	apply_pooled(POOLED("two", "{tcp: {maxConnectionDuration: 200ms}}"));
	client = dial(81);
	first = peer_get(client, "two.example", "/1");
	upstream = accept_peer(client);
	turn_with(client, upstream);
	turn_for(300);
	second = peer_get(client, "two.example", "/2");
	next = accept_peer(client);
	turn_with(client, next);
	peer_answer(next, 1, "201", NULL, NULL);
	peer_answer(upstream, 1, "200", NULL, NULL);
	turn_with(client, upstream);
	turn_with(client, next);
	turn_with(client, upstream);
	expect_head(client, first, ":status: 200\n");
	expect_head(client, second, ":status: 201\n");
	cr_expect(upstream->gone, "what was under way is done");
}

/* A policy that comes every minute would leave a session of each behind, and its table. */
Test(redirect_http2, sessions_of_an_earlier_policy_end_with_their_streams)
{
	struct peer *client = dial(81), *upstream;
	int32_t id = peer_get(client, "two.example", "/");

	upstream = accept_peer(client);
	turn_with(client, upstream);
	apply_pooled("");
	turn_with(client, upstream);
	cr_expect_not(upstream->gone);
	peer_answer(upstream, 1, "200", NULL, NULL);
	turn_with(client, upstream);
	turn_with(client, upstream);
	expect_head(client, id, ":status: 200\n");
	cr_expect(upstream->gone);
	cr_expect_eq(rig.worker->statistics.connections_open, 1);
}

Test(redirect_http2, parked_connections_of_an_earlier_policy_are_closed)
{
	struct peer *client = dial(80);
	int upstream = ask_http1(client, -1);
	struct heard heard;

	apply_pooled("");
	heard = hear(upstream);
	cr_expect(heard.ended);
	cr_expect_eq(rig.worker->statistics.connections_open, 1);
}

/* What a stream that ends early leaves unread is taken off the window that all share. */
Test(redirect_http2, what_a_cancelled_upload_leaves_unread_does_not_hold_up_the_others)
{
	const nghttp2_nv fields[] = {NV(":method", "POST"), NV(":scheme", "http"), NV(":path", "/"), NV(":authority", "a.example")};
	struct peer *client = dial(80);

	rig.withholds = true; /* there is no connection that would take it */
	for (int i = 0; i < 6; i++) {
		int32_t id = peer_ask_with(client, fields, 4, NULL, false);

		peer_stream(client, id)->out_length = 200000;
		turn_with(client, NULL);
		nghttp2_submit_rst_stream(client->http2, NGHTTP2_FLAG_NONE, id, NGHTTP2_CANCEL);
		turn_with(client, NULL);
	}
	cr_expect_gt(nghttp2_session_get_remote_window_size(client->http2), 500000, "%d are left",
		     nghttp2_session_get_remote_window_size(client->http2));
}

Test(redirect_http2, what_a_cancelled_download_leaves_unread_does_not_hold_up_the_others)
{
	struct peer *client = dial(81), *upstream = NULL;

	client->withholds = true;
	for (int i = 0; i < 6; i++) {
		int32_t id = peer_get(client, "two.example", "/");

		if (!upstream)
			upstream = accept_peer(client);
		turn_with(client, upstream);
		peer_answer(upstream, 2 * i + 1, "200", "", "0");
		peer_stream(upstream, 2 * i + 1)->out = NULL;
		peer_stream(upstream, 2 * i + 1)->out_length = 250000;
		turn_with(client, upstream);
		nghttp2_submit_rst_stream(client->http2, NGHTTP2_FLAG_NONE, id, NGHTTP2_CANCEL);
		turn_with(client, upstream);
	}
	cr_expect_gt(nghttp2_session_get_remote_window_size(upstream->http2), 500000, "%d are left",
		     nghttp2_session_get_remote_window_size(upstream->http2));
}

/* The answer is whole, and what the server did not take of the request would wait for its window for ever. */
Test(redirect_http2, what_a_server_does_not_take_of_a_request_ends_with_the_answer)
{
	const nghttp2_nv fields[] = {NV(":method", "POST"), NV(":scheme", "http"), NV(":path", "/"), NV(":authority", "two.example")};
	struct peer *client = dial(81), *upstream = NULL;
	int32_t id = 0;

	for (int i = 0; i < 2; i++) {
		id = peer_ask_with(client, fields, 4, "", true);
		peer_stream(client, id)->out = NULL;
		peer_stream(client, id)->out_length = 40000;
		if (!upstream)
			upstream = accept_peer(client);
		upstream->withholds = true;
		turn_with(client, upstream);
	}
	cr_assert_not(peer_stream(upstream, 3)->ended);
	peer_answer(upstream, 3, "200", NULL, NULL);
	turn_with(client, upstream);
	turn_with(client, upstream);
	expect_head(client, id, ":status: 200\n");
	cr_expect(peer_stream(upstream, 3)->closed);
}

/* It was asked in HTTP/2 and knows none. */
Test(redirect_http2, a_server_of_http_1_in_place_of_one_of_http_2_is_answered_for)
{
	struct peer *client = dial(81);
	int32_t id = peer_get(client, "two.example", "/");
	int upstream;

	turn_with(client, NULL);
	upstream = accept_upstream(server);
	cr_assert_geq(upstream, 0);
	turn();
	hear(upstream);
	say(upstream, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi");
	turn_with(client, NULL);
	expect_head(client, id, ":status: 502\n");
	cr_expect(strstr(peer_stream(client, id)->body, "reset reason: protocol error"), "%s", peer_stream(client, id)->body);
	cr_expect_eq(rig.worker->statistics.connections_open, 1);
}

static void answer_with(struct peer *upstream, int32_t id, const nghttp2_nv *fields, size_t count, const char *body)
{
	nghttp2_data_provider provider = {.read_callback = peer_read};
	struct peer_stream *stream = peer_stream(upstream, id);

	stream->out = body;
	stream->out_length = body ? strlen(body) : 0;
	stream->out_ends = true;
	nghttp2_submit_response(upstream->http2, id, fields, count, body ? &provider : NULL);
}

Test(redirect_http2, an_answer_that_cannot_be_read_is_the_servers_fault)
{
	static const struct {
		nghttp2_nv fields[2];
		const char *body;
	} wrong[] = {{{NV(":status", "200"), NV("bad name", "x")}, NULL},
		     {{NV(":status", "200"), NV("transfer-encoding", "chunked")}, "x"},
		     {{NV(":status", "2000"), NV("x", "y")}, NULL},
		     {{NV("x", "y"), NV("z", "without a status")}, NULL},
		     {{NV(":status", "200"), NV("content-length", "7")}, NULL}};
	struct peer *client = dial(81), *upstream = NULL;

	for (size_t i = 0; i < sizeof(wrong) / sizeof(*wrong); i++) {
		int32_t id = peer_get(client, "two.example", "/");

		if (!upstream)
			upstream = accept_peer(client);
		turn_with(client, upstream);
		answer_with(upstream, 2 * (int32_t)i + 1, wrong[i].fields, 2, wrong[i].body);
		turn_with(client, upstream);
		expect_head(client, id, ":status: 502\n");
		cr_expect(strstr(peer_stream(client, id)->body, "reset reason: protocol error"), "%zu: %s", i, peer_stream(client, id)->body);
	}
}

Test(redirect_http2, an_answer_that_is_longer_than_it_says_is_broken_off)
{
	const nghttp2_nv fields[] = {NV(":status", "200"), NV("content-length", "3")};
	struct peer *client = dial(81), *upstream;
	int32_t id = peer_get(client, "two.example", "/");

	upstream = accept_peer(client);
	turn_with(client, upstream);
	answer_with(upstream, 1, fields, 2, "hello");
	turn_with(client, upstream);
	cr_expect(peer_stream(client, id)->error != NGHTTP2_NO_ERROR || strstr(peer_stream(client, id)->head, ":status: 502"), "%s",
		  peer_stream(client, id)->head);
}

/* Each stream holds what it was judged by; a client that stays connected for days holds none. */
Test(redirect_http2, a_clients_session_holds_no_policy)
{
	struct table *first;
	struct peer *client;

	apply_pooled("");
	first = rig.table;
	client = dial(81);
	turn_with(client, NULL);
	turn();
	for (int i = 0; i < 2; i++) {
		table_hold(first);
		apply_pooled("");
		table_release(first);
	}
	turn();
	cr_expect_eq(rig.worker->statistics.connections_open, 1);
	cr_expect_null(rig.worker->conns->table);
}

#define MANY 40

/* One client holds no more idle sessions than a few, however many servers it asks. */
Test(redirect_http2, idle_sessions_of_a_client_are_bounded)
{
	static char documents[32768];
	size_t n = (size_t)snprintf(documents, sizeof(documents), REGISTRY_ONLY);
	struct peer *client, *upstreams[MANY];

	for (int i = 0; i < MANY; i++)
		n += (size_t)snprintf(documents + n, sizeof(documents) - n,
				      ENTRY_OF("n%d", "hosts: [n%d.example], addresses: [203.0.113.1], resolution: STATIC, "
					       "ports: [{number: 81, name: p, protocol: HTTP2, targetPort: %u}], endpoints: [{address: 127.0.0.1}]"),
				      i, i, port);
	apply(documents);
	turn();
	client = dial(81);
	for (int i = 0; i < MANY; i++) {
		char host[32];
		int32_t id;

		snprintf(host, sizeof(host), "n%d.example", i);
		id = peer_get(client, host, "/");
		upstreams[i] = accept_peer(client);
		turn_with(client, upstreams[i]);
		peer_answer(upstreams[i], 1, "200", NULL, NULL);
		turn_with(client, upstreams[i]);
		expect_head(client, id, ":status: 200\n");
	}
	cr_expect_lt(rig.worker->statistics.connections_open, 20, "%llu are open", rig.worker->statistics.connections_open);
	peer_turn(upstreams[0]);
	peer_turn(upstreams[MANY - 1]);
	cr_expect(upstreams[0]->gone && !upstreams[MANY - 1]->gone, "the oldest goes first");
}

/* Where the client says for whom it is, the next stream takes that one's, and none else's. */
Test(redirect_http2, a_parked_connection_serves_its_own_name_only)
{
	static const uint8_t here[1][16] = {{[10] = 0xff, 0xff, 127, 0, 0, 1}};
	const struct published_name names[] = {{"x.d.example", here, 1, true, NAME_NOT_FAILED}, {"y.d.example", here, 1, true, NAME_NOT_FAILED}};
	const char *const asked[] = {"x.d.example", "y.d.example", "x.d.example", "y.d.example"};
	char documents[1024];
	int upstreams[2];
	struct peer *client;

	snprintf(documents, sizeof(documents), REGISTRY_ONLY
		 ENTRY_OF("d", "hosts: ['*.d.example'], resolution: DYNAMIC_DNS, ports: [{number: 80, name: p, protocol: HTTP, targetPort: %u}]"), port);
	apply(documents);
	for (int i = 0; i < 2; i++)
		directory_answer(&names[i], 1);
	directory_publish();
	turn();
	client = dial(80);
	for (int i = 0; i < 4; i++) {
		int32_t id = peer_get(client, asked[i], "/");
		struct heard heard;

		turn_with(client, NULL);
		if (i < 2)
			upstreams[i] = accept_upstream(server);
		cr_assert_geq(upstreams[i % 2], 0);
		turn();
		heard = hear(upstreams[i % 2]);
		expect_in(&heard, asked[i]);
		say(upstreams[i % 2], "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
		turn_with(client, NULL);
		expect_head(client, id, ":status: 200\n");
	}
	cr_expect_eq(accept_upstream(server), -1);
}

/* ---- limits ---- */

static struct peer *ask_two(struct peer *client, int32_t *id)
{
	*id = peer_get(client, "two.example", "/");
	return accept_peer(client);
}

static void answer_all(struct peer *client, struct peer *upstream, int32_t id)
{
	peer_answer(upstream, id, "200", NULL, NULL);
	for (int i = 0; i < 3; i++)
		turn_with(client, upstream);
}

Test(redirect_http2, a_session_is_one_connection_and_its_streams_are_requests)
{
	struct peer *client, *upstream;
	int32_t first, second, third;

	apply_pooled(POOLED("two", "{tcp: {maxConnections: 1}, http: {http2MaxRequests: 2}}"));
	client = dial(81);
	upstream = ask_two(client, &first);
	second = peer_get(client, "two.example", "/2");
	turn_with(client, upstream);
	cr_assert_eq(upstream->count, 2, "both are asked at once");
	third = peer_get(client, "two.example", "/3");
	turn_with(client, upstream);
	expect_head(client, third, ":status: 503\n");
	expect_head(client, third, "x-envoy-overloaded: true\n");
	answer_all(client, upstream, 1);
	third = peer_get(client, "two.example", "/4");
	answer_all(client, upstream, 3);
	answer_all(client, upstream, 5);
	expect_head(client, first, ":status: 200\n");
	expect_head(client, second, ":status: 200\n");
	expect_head(client, third, ":status: 200\n");
	cr_expect_eq(accept_upstream(server), -1, "on one connection");
}

Test(redirect_http2, requests_that_come_at_once_share_the_connection_that_is_made)
{
	struct peer *client, *upstream;

	apply_pooled(POOLED("two", "{tcp: {maxConnections: 1}, http: {http1MaxPendingRequests: 1}}"));
	rig.withholds = true; /* there is no socket yet */
	client = dial(81);
	for (int i = 0; i < 4; i++)
		peer_get(client, "two.example", "/");
	turn_with(client, NULL);
	rig.withholds = false;
	upstream = accept_peer(client);
	turn_with(client, upstream);
	cr_expect_eq(upstream->count, 4, "%zu are asked", upstream->count);
}

Test(redirect_http2, another_client_has_the_connection_of_a_session_once_it_is_idle)
{
	struct peer *client, *other, *upstream, *next;
	int32_t first, second;

	apply_pooled(POOLED("two", "{tcp: {maxConnections: 1}}"));
	client = dial(81);
	upstream = ask_two(client, &first);
	turn_with(client, upstream);
	other = dial(81);
	second = peer_get(other, "two.example", "/");
	turn_with(other, NULL);
	cr_expect_eq(accept_upstream(server), -1);
	answer_all(client, upstream, 1);
	cr_expect(upstream->gone);
	next = accept_peer(other);
	turn_with(other, next);
	answer_all(other, next, 1);
	expect_head(client, first, ":status: 200\n");
	expect_head(other, second, ":status: 200\n");
	first = peer_get(client, "two.example", "/"); /* and the first has it back as the other is idle */
	upstream = accept_peer(client);
	turn_with(client, upstream);
	answer_all(client, upstream, 1);
	expect_head(client, first, ":status: 200\n");
	close(client->fd);
	close(other->fd);
	client->gone = other->gone = true;
	usleep(2000);
	turn();
	cr_expect_eq(rig.worker->statistics.connections_open, 0);
}

/* Who has streams all the time would keep the others out for ever; one that lasts is no reason to hold up its neighbours. */
Test(redirect_http2, a_session_makes_way_for_others_but_not_for_ever)
{
	struct peer *client, *other, *upstream, *next;
	int32_t lasting, second, others;

	apply_pooled(POOLED("two", "{tcp: {maxConnections: 1}}"));
	client = dial(81);
	upstream = ask_two(client, &lasting);
	turn_with(client, upstream);
	other = dial(81);
	others = peer_get(other, "two.example", "/");
	turn_with(other, NULL);
	second = peer_get(client, "two.example", "/2");
	turn_for(300);
	turn_with(client, upstream);
	cr_expect_eq(upstream->count, 1, "it waits, too");
	turn_for(1200);
	turn_with(client, upstream);
	cr_assert_eq(upstream->count, 2, "and then no longer");
	answer_all(client, upstream, 3);
	expect_head(client, second, ":status: 200\n");
	answer_all(client, upstream, 1);
	expect_head(client, lasting, ":status: 200\n");
	next = accept_peer(other);
	turn_with(other, next);
	answer_all(other, next, 1);
	expect_head(other, others, ":status: 200\n");
}

Test(redirect_http2, a_request_in_line_is_served_by_a_session_that_has_room_again)
{
	struct peer *client, *upstream;
	int32_t first, second;

	apply_pooled(POOLED("two", "{tcp: {maxConnections: 1}, http: {maxConcurrentStreams: 1}}"));
	client = dial(81);
	upstream = ask_two(client, &first);
	second = peer_get(client, "two.example", "/2");
	turn_with(client, upstream);
	cr_expect_eq(upstream->count, 1);
	answer_all(client, upstream, 1);
	cr_assert_eq(upstream->count, 2, "on the same session");
	answer_all(client, upstream, 3);
	expect_head(client, second, ":status: 200\n");
	cr_expect_eq(accept_upstream(server), -1);
}

Test(redirect_http2, within_limits_later_streams_take_the_connection_of_earlier_ones)
{
	struct peer *client, *other;
	struct heard heard;
	int upstream, next;
	int32_t id;

	apply_pooled(POOLED("a", "{tcp: {maxConnections: 1}}"));
	client = dial(80);
	upstream = ask_http1(client, -1);
	ask_http1(client, upstream);
	cr_expect_eq(accept_upstream(server), -1);
	other = dial(80); /* for whom it is given up while it is idle */
	id = peer_get(other, "a.example", "/");
	turn_with(other, NULL);
	heard = hear(upstream);
	cr_expect(heard.ended);
	next = accept_upstream(server);
	cr_assert_geq(next, 0);
	turn();
	hear(next);
	say(next, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
	turn_with(other, NULL);
	expect_head(other, id, ":status: 200\n");
	close(client->fd);
	close(other->fd);
	client->gone = other->gone = true;
	usleep(2000);
	turn();
	cr_expect_eq(rig.worker->statistics.connections_open, 0);
	ask_http1(dial(80), -1); /* all were given back */
}

/* ---- a session that is being dialled ---- */

#define SILENT_TLS(pool) "---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: two}\n" \
	"spec: {host: two.example, trafficPolicy: {tls: {mode: SIMPLE, sni: x, insecureSkipVerify: true}, connectionPool: {tcp: {connectTimeout: " pool "}}}}\n" \

#define TRIES(attempts, more) ROUTE_OF("v", "hosts: [two.example], http: [{" more "retries: {attempts: " attempts "}, route: [{destination: {host: two.example}}]}]")

/* Whoever asks for /patient waits as long as it takes; the others have a timeout. */
#define PATIENT(timeout) ROUTE_OF("v", "hosts: [two.example], http: [{match: [{uri: {exact: /patient}}], route: [{destination: {host: two.example}}]}, " \
	"{" timeout ", route: [{destination: {host: two.example}}]}]")

/* They wait longer than for anything else, if the service says so. */
Test(redirect_http2, streams_wait_for_a_session_as_long_as_it_is_dialled)
{
	struct peer *client;
	int32_t second;

	apply_pooled(SILENT_TLS("60s"));
	client = dial(81);
	peer_get(client, "two.example", "/1");
	second = peer_get(client, "two.example", "/2");
	turn_with(client, NULL);
	cr_assert_geq(accept_upstream(server), 0);
	for (struct conn *conn = rig.worker->conns; conn; conn = conn->next)
		conn->connect_ms -= conn->connect_ms ? 11000 : 0;
	turn_for(300);
	turn_with(client, NULL);
	cr_expect_str_empty(peer_stream(client, second)->head, "%s", peer_stream(client, second)->head);
}

Test(redirect_http2, streams_that_wait_for_a_session_fail_with_it)
{
	struct peer *client;
	int32_t ids[3];

	apply_pooled(SILENT_TLS("300ms") TRIES("0", ""));
	client = dial(81);
	for (int i = 0; i < 3; i++)
		ids[i] = peer_get(client, "two.example", "/");
	turn_with(client, NULL);
	cr_assert_geq(accept_upstream(server), 0);
	turn_for(450);
	turn_with(client, NULL);
	cr_expect_eq(accept_upstream(server), -1);
	for (int i = 0; i < 3; i++) {
		expect_head(client, ids[i], ":status: 503\n");
		cr_expect(strstr(peer_stream(client, ids[i])->body, "connection timeout") || strstr(peer_stream(client, ids[i])->body, "before headers"),
			  "%s", peer_stream(client, ids[i])->body);
	}
	cr_expect_eq(rig.worker->statistics.connections_open, 1);
}

/* What one is told by the server holds for all: it is not asked as often as there are streams, one after the other. */
Test(redirect_http2, streams_that_wait_for_a_session_are_refused_with_it)
{
	struct peer *client;
	int32_t ids[5];
	int upstream;

	apply_pooled(SILENT_TLS("60s") TRIES("0", ""));
	client = dial(81);
	for (int i = 0; i < 5; i++)
		ids[i] = peer_get(client, "two.example", "/");
	turn_with(client, NULL);
	upstream = accept_upstream(server);
	cr_assert_geq(upstream, 0);
	close(upstream);
	usleep(2000);
	turn_with(client, NULL);
	cr_expect_eq(accept_upstream(server), -1, "asked again");
	for (int i = 0; i < 5; i++) {
		expect_head(client, ids[i], ":status: 503\n");
		cr_expect(strstr(peer_stream(client, ids[i])->body, "remote connection failure, transport failure reason: TLS_error: "), "%s",
			  peer_stream(client, ids[i])->body);
	}
}

Test(redirect_http2, the_timeouts_of_a_request_hold_while_it_waits_for_a_session)
{
	struct peer *client;
	int32_t id;

	apply_pooled(SILENT_TLS("60s") PATIENT("retries: {attempts: 1, perTryTimeout: 200ms}"));
	client = dial(81);
	peer_get(client, "two.example", "/patient");
	id = peer_get(client, "two.example", "/");
	turn_with(client, NULL);
	turn_for(700);
	turn_with(client, NULL);
	expect_head(client, id, ":status: 504\n");
	apply_pooled(SILENT_TLS("60s") PATIENT("timeout: 300ms"));
	peer_get(client, "two.example", "/patient");
	id = peer_get(client, "two.example", "/");
	turn_with(client, NULL);
	turn_for(450);
	turn_with(client, NULL);
	expect_head(client, id, ":status: 504\n");
}

/* Whoever dialled it has lost its patience: one of the others does. */
Test(redirect_http2, a_session_is_dialled_for_those_who_are_left)
{
	struct peer *client;
	int32_t first;

	apply_pooled(SILENT_TLS("60s"));
	client = dial(81);
	first = peer_get(client, "two.example", "/1");
	peer_get(client, "two.example", "/2");
	turn_with(client, NULL);
	cr_assert_geq(accept_upstream(server), 0);
	nghttp2_submit_rst_stream(client->http2, NGHTTP2_FLAG_NONE, first, NGHTTP2_CANCEL);
	turn_with(client, NULL);
	cr_expect_geq(accept_upstream(server), 0);
}

/* Which of several addresses a request goes to is drawn, and those of one client find no connection for the others. */
Test(redirect_http2, within_limits_a_session_with_another_address_will_do)
{
	static const char documents[] = REGISTRY_ONLY
		ENTRY_OF("two", "hosts: [two.example], addresses: [203.0.113.1], resolution: STATIC, "
				"ports: [{number: 81, name: p, protocol: HTTP2, targetPort: %u}], "
				"endpoints: [{address: 127.0.0.1}, {address: 127.0.0.2}, {address: 127.0.0.3}]")
		POOLED("two", "{tcp: {maxConnections: 1}}");
	int others[] = {serve_on(&port, "127.0.0.2"), serve_on(&port, "127.0.0.3")}, fd;
	struct peer *client, *upstream;
	char text[4096];

	snprintf(text, sizeof(text), documents, port);
	apply(text);
	turn();
	client = dial(81);
	peer_get(client, "two.example", "/");
	turn_with(client, NULL);
	fd = accept_upstream(server);
	for (int i = 0; i < 2 && fd < 0; i++)
		fd = accept_upstream(others[i]);
	cr_assert_geq(fd, 0);
	upstream = peer_new(fd, true);
	turn_with(client, upstream);
	for (int i = 0; i < 9; i++)
		peer_get(client, "two.example", "/");
	turn_with(client, upstream);
	cr_expect_eq(upstream->count, 10, "%zu are asked", upstream->count);
}

/* ---- the health of servers of gRPC ---- */

#define EJECTS(rule) "---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: two}\nspec: {host: two.example, trafficPolicy: " \
	"{outlierDetection: {" rule ", interval: 1s, baseEjectionTime: 30s, maxEjectionPercent: 100}}}\n" TRIES("0", "")

static int32_t call(struct peer *client)
{
	const nghttp2_nv fields[] = {NV(":method", "POST"), NV(":scheme", "http"), NV(":path", "/s/M"), NV(":authority", "two.example"),
				     NV("content-type", "application/grpc"), NV("te", "trailers")};

	return peer_ask_with(client, fields, 6, "", true);
}

/* A call that is answered so, in a head alone or behind a body; its id at the client. */
static int32_t call_and_answer(struct peer *client, struct peer **upstream, const char *status, bool in_trailer)
{
	const nghttp2_nv fields[] = {NV(":status", "200"), NV("content-type", "application/grpc"), NV("grpc-status", status)};
	int32_t id = call(client), at;

	if (!*upstream)
		*upstream = accept_peer(client);
	turn_with(client, *upstream);
	at = 2 * (int32_t)(*upstream)->count - 1;
	if (in_trailer)
		peer_answer(*upstream, at, "200", "body", status);
	else
		answer_with(*upstream, at, fields, 3, NULL);
	turn_with(client, *upstream);
	return id;
}

static void expect_ejected(struct peer *client, struct peer *upstream, bool wanted)
{
	size_t before = upstream->count;
	int32_t id = call(client);

	turn_with(client, upstream);
	cr_expect_eq(rig.worker->statistics.ejections_total, wanted);
	cr_expect_eq(upstream->count, before + !wanted);
	if (wanted)
		expect_head(client, id, "grpc-message: no healthy upstream\n");
}

static void eject_by_status(const char *status, bool in_trailer, bool wanted)
{
	struct peer *client = dial(81), *upstream = NULL;
	int32_t id = 0;

	for (int i = 0; i < 2; i++)
		id = call_and_answer(client, &upstream, status, in_trailer);
	expect_head(client, id, "grpc-status: ");
	expect_ejected(client, upstream, wanted);
}

Test(redirect_http2, a_server_of_grpc_that_is_unavailable_is_ejected)
{
	apply_pooled(EJECTS("consecutive5xxErrors: 2"));
	eject_by_status("14", false, true);
}

Test(redirect_http2, a_server_of_grpc_whose_trailer_says_so_is_ejected)
{
	apply_pooled(EJECTS("consecutive5xxErrors: 2"));
	eject_by_status("14", true, true);
}

Test(redirect_http2, statuses_of_grpc_count_as_those_of_http_that_envoy_takes_them_for)
{
	apply_pooled(EJECTS("consecutive5xxErrors: 2"));
	eject_by_status("5", true, false); /* NOT_FOUND */
	eject_by_status("8", false, false); /* RESOURCE_EXHAUSTED: 429 */
	apply_pooled(EJECTS("consecutive5xxErrors: 0, consecutiveGatewayErrors: 2"));
	eject_by_status("13", true, false); /* INTERNAL: 500 */
	eject_by_status("4", true, true); /* DEADLINE_EXCEEDED: 504 */
}

Test(redirect_http2, a_server_that_says_it_is_well_in_between_stays)
{
	struct peer *client, *upstream = NULL;

	apply_pooled(EJECTS("consecutive5xxErrors: 2"));
	client = dial(81);
	call_and_answer(client, &upstream, "14", true);
	call_and_answer(client, &upstream, "0", true);
	call_and_answer(client, &upstream, "14", true);
	expect_ejected(client, upstream, false);
}

Test(redirect_http2, a_server_that_breaks_its_answers_off_is_ejected)
{
	struct peer *client, *upstream = NULL;

	apply_pooled(EJECTS("consecutive5xxErrors: 2"));
	client = dial(81);
	for (int i = 0; i < 2; i++) {
		call(client);
		if (!upstream)
			upstream = accept_peer(client);
		turn_with(client, upstream);
		peer_answer(upstream, 2 * i + 1, "200", "", "0");
		peer_stream(upstream, 2 * i + 1)->out_ends = false;
		turn_with(client, upstream);
		nghttp2_submit_rst_stream(upstream->http2, NGHTTP2_FLAG_NONE, 2 * i + 1, NGHTTP2_INTERNAL_ERROR);
		turn_with(client, upstream);
	}
	expect_ejected(client, upstream, true);
}

/* ---- a length and a trailer ---- */

Test(redirect_http2, a_trailer_comes_through_behind_a_body_of_told_length)
{
	const nghttp2_nv asked[] = {NV(":method", "POST"), NV(":scheme", "http"), NV(":path", "/"), NV(":authority", "two.example"),
				    NV("content-length", "5")};
	const nghttp2_nv answered[] = {NV(":status", "200"), NV("content-length", "3")};
	struct peer *client = dial(81), *upstream;
	int32_t id = peer_ask_with(client, asked, 5, "hello", true);

	peer_stream(client, id)->trailer = "7";
	upstream = accept_peer(client);
	turn_with(client, upstream);
	expect_head(upstream, 1, "content-length: 5\n");
	expect_head(upstream, 1, "--\ngrpc-status: 7\n");
	cr_expect_str_eq(peer_stream(upstream, 1)->body, "hello");
	cr_expect(peer_stream(upstream, 1)->ended);
	peer_stream(upstream, 1)->trailer = "9";
	answer_with(upstream, 1, answered, 2, "abc");
	turn_with(client, upstream);
	expect_head(client, id, "content-length: 3\n");
	expect_head(client, id, "--\ngrpc-status: 9\n");
	cr_expect_str_eq(peer_stream(client, id)->body, "abc");
	cr_expect(peer_stream(client, id)->ended);
}

/* The other side is told the length as it came, and once. */
Test(redirect_http2, a_length_is_told_with_a_trailer_or_without)
{
	const nghttp2_nv asked[] = {NV(":method", "PUT"), NV(":scheme", "http"), NV(":path", "/"), NV(":authority", "two.example"),
				    NV("content-length", "5")};
	const nghttp2_nv answered[] = {NV(":status", "200"), NV("content-length", "3")};
	struct peer *client = dial(81), *upstream;
	int32_t id = peer_ask_with(client, asked, 5, "hello", false);
	const char *told;

	upstream = accept_peer(client);
	turn_with(client, upstream);
	told = strstr(peer_stream(upstream, 1)->head, "content-length: 5\n");
	cr_assert(told && !strstr(told + 1, "content-length"), "%s", peer_stream(upstream, 1)->head);
	peer_stream(client, id)->out_ends = true;
	nghttp2_session_resume_data(client->http2, id);
	turn_with(client, upstream);
	cr_expect(peer_stream(upstream, 1)->ended);
	answer_with(upstream, 1, answered, 2, "abc");
	turn_with(client, upstream);
	told = strstr(peer_stream(client, id)->head, "content-length: 3\n");
	cr_expect(told && !strstr(told + 1, "content-length"), "%s", peer_stream(client, id)->head);
	cr_expect_str_eq(peer_stream(client, id)->body, "abc");
	cr_expect(peer_stream(client, id)->ended);
}

/* A message of HTTP/1.1 with a length has no place for it; its length is worth more. */
Test(redirect_http2, towards_http_1_a_length_stays_what_it_is)
{
	const nghttp2_nv asked[] = {NV(":method", "POST"), NV(":scheme", "http"), NV(":path", "/"), NV(":authority", "a.example"),
				    NV("content-length", "5")};
	struct peer *client = dial(80);
	int32_t id = peer_ask_with(client, asked, 5, "hello", true);
	struct heard heard;
	int upstream;

	peer_stream(client, id)->trailer = "7";
	turn_with(client, NULL);
	upstream = accept_upstream(server);
	cr_assert_geq(upstream, 0);
	turn_with(client, NULL);
	heard = hear(upstream);
	expect_in(&heard, "Content-Length: 5\r\n");
	cr_expect(heard.n > 9 && !memcmp(heard.text + heard.n - 9, "\r\n\r\nhello", 9), "%s", heard.text);
	say(upstream, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
	turn_with(client, NULL);
	expect_head(client, id, ":status: 200\n");
}

Test(redirect_http2, clients_of_http_1_have_the_connection_in_turn)
{
	static const char request[] = "GET / HTTP/1.1\r\nHost: two.example\r\n\r\n";
	struct flow_record record = record_to("203.0.113.1", 81);
	int clients[2];

	apply_pooled(POOLED("two", "{tcp: {maxConnections: 1}}"));
	for (int i = 0; i < 2; i++)
		clients[i] = dial_as(&record);
	for (int i = 0; i < 4; i++) {
		struct peer *upstream;
		struct heard heard;
		int fd;

		say(clients[i % 2], request);
		turn();
		fd = accept_upstream(server);
		cr_assert_geq(fd, 0, "the session of the other is given up");
		upstream = peer_new(fd, true);
		turn_with(NULL, upstream);
		answer_all(NULL, upstream, 1);
		heard = hear(clients[i % 2]);
		expect_in(&heard, "HTTP/1.1 200 OK\r\n");
	}
	close(clients[0]);
	close(clients[1]);
	usleep(2000);
	turn();
	cr_expect_eq(rig.worker->statistics.connections_open, 0);
}
