// SPDX-License-Identifier: Apache-2.0
/* Relays that go on in TLS: the ends of each side, what was cut, and a server that does not read. */
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>

#include "redirect/origination.h"
#include "redirect_rig.h"

static uint16_t port;
static int server = -1;
static SSL_CTX *context;

#define DOCUMENTS REGISTRY_ONLY ENTRY_OF("db", "hosts: [db.example], addresses: [203.0.113.2], resolution: STATIC, " \
	"ports: [{number: 5432, name: p, protocol: TCP, targetPort: %u}], endpoints: [{address: 127.0.0.1}]") \
	"---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: db}\n" \
	"spec: {host: db.example, trafficPolicy: {tls: {mode: SIMPLE, insecureSkipVerify: true}}}\n"

/* A server whose certificate nobody looks at. */
static void make_server(void)
{
	EVP_PKEY *key = EVP_EC_gen("P-256");
	X509 *certificate = X509_new();

	X509_gmtime_adj(X509_getm_notBefore(certificate), 0);
	X509_gmtime_adj(X509_getm_notAfter(certificate), 3600);
	X509_set_pubkey(certificate, key);
	cr_assert(X509_sign(certificate, key, EVP_sha256()));
	context = SSL_CTX_new(TLS_server_method());
	SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
	cr_assert_eq(SSL_CTX_use_certificate(context, certificate), 1);
	cr_assert_eq(SSL_CTX_use_PrivateKey(context, key), 1);
	X509_free(certificate);
	EVP_PKEY_free(key);
}

static void start(void)
{
	char documents[2048];

	cr_assert_eq(origination_init(), 0);
	make_server();
	server = serve_on(&port, "127.0.0.1");
	rig_start(REGISTRY_ONLY);
	snprintf(documents, sizeof(documents), DOCUMENTS, port);
	apply(documents);
	turn();
}

TestSuite(redirect_tls, .init = start, .timeout = 20);

static int dial(void)
{
	struct flow_record record = record_to("203.0.113.2", 5432);

	record.service_flags = SERVICE_TCP | SERVICE_REWRITES | SERVICE_ROUTED;
	record.service = 1;
	return dial_as(&record);
}

/* Both sides of a connection whose handshake is over. */
static SSL *meet(int *client)
{
	SSL *tls = SSL_new(context);
	int fd, on = 1;

	*client = dial();
	turn();
	fd = accept_upstream(server);
	cr_assert_geq(fd, 0);
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	SSL_set_fd(tls, fd);
	SSL_set_accept_state(tls);
	for (int i = 0; i < 10 && SSL_do_handshake(tls) != 1; i++)
		turn();
	cr_assert(SSL_is_init_finished(tls));
	turn();
	return tls;
}

static int hear_tls(SSL *tls, char *out, size_t room)
{
	int n;

	turn();
	ERR_clear_error();
	n = SSL_read(tls, out, (int)room - 1);
	out[n > 0 ? n : 0] = 0;
	return n;
}

Test(redirect_tls, bytes_go_both_ways_and_the_server_may_speak_first)
{
	struct heard heard;
	char text[64];
	int client;
	SSL *tls = meet(&client);

	cr_expect_eq(SSL_write(tls, "hello", 5), 5);
	turn();
	heard = hear(client);
	cr_expect_str_eq(heard.text, "hello");
	say(client, "answer");
	hear_tls(tls, text, sizeof(text));
	cr_expect_str_eq(text, "answer");
	cr_expect_str_eq(SSL_get_servername(tls, TLSEXT_NAMETYPE_host_name), "db.example");
	cr_expect_null(rig.worker->conns->from_client, "no buffer is held while nothing moves");
	cr_expect_null(rig.worker->conns->from_upstream);
}

Test(redirect_tls, a_clients_end_is_told_and_leaves_the_other_side_open)
{
	struct heard heard;
	char text[64];
	int client;
	SSL *tls = meet(&client);

	say(client, "all");
	shutdown(client, SHUT_WR);
	usleep(1000);
	cr_expect_gt(hear_tls(tls, text, sizeof(text)), 0);
	cr_expect_str_eq(text, "all");
	cr_expect_leq(hear_tls(tls, text, sizeof(text)), 0);
	cr_expect_eq(SSL_get_shutdown(tls), SSL_RECEIVED_SHUTDOWN, "close_notify");
	cr_expect_eq(SSL_write(tls, "answer", 6), 6);
	cr_expect_eq(SSL_shutdown(tls), 1);
	turn();
	heard = hear(client);
	cr_expect_str_eq(heard.text, "answer");
	cr_expect(heard.ended);
	cr_expect_eq(rig.worker->statistics.connections_open, 0);
}

Test(redirect_tls, a_servers_end_is_told_and_leaves_the_other_side_open)
{
	struct heard heard;
	char text[64];
	int client;
	SSL *tls = meet(&client);

	cr_expect_eq(SSL_write(tls, "all", 3), 3);
	cr_expect_eq(SSL_shutdown(tls), 0);
	turn();
	heard = hear(client);
	cr_expect_str_eq(heard.text, "all");
	cr_expect(heard.ended);
	say(client, "answer");
	cr_expect_gt(hear_tls(tls, text, sizeof(text)), 0);
	cr_expect_str_eq(text, "answer");
	close(client);
	usleep(1000);
	cr_expect_leq(hear_tls(tls, text, sizeof(text)), 0);
	cr_expect(SSL_get_shutdown(tls) & SSL_RECEIVED_SHUTDOWN);
	cr_expect_eq(rig.worker->statistics.connections_open, 0);
}

Test(redirect_tls, what_a_server_cut_is_no_end_for_the_client)
{
	struct heard heard;
	int client;
	SSL *tls = meet(&client);

	cr_expect_eq(SSL_write(tls, "half", 4), 4);
	turn();
	shutdown(SSL_get_fd(tls), SHUT_WR);
	usleep(1000);
	turn();
	heard = hear(client);
	cr_expect_str_eq(heard.text, "half");
	cr_expect_eq(heard.error, ECONNRESET);
}

Test(redirect_tls, what_a_client_broke_off_is_no_end_for_the_server)
{
	char text[64];
	int client;
	SSL *tls = meet(&client);

	say(client, "half");
	hear_tls(tls, text, sizeof(text));
	reset(client);
	usleep(1000);
	cr_expect_leq(hear_tls(tls, text, sizeof(text)), 0);
	cr_expect_eq(SSL_get_shutdown(tls) & SSL_RECEIVED_SHUTDOWN, 0, "no close_notify");
	cr_expect_eq(rig.worker->statistics.connections_open, 0);
}

Test(redirect_tls, a_server_that_does_not_read_holds_the_client_back)
{
	static char bytes[65536];
	size_t sent = 0, got = 0;
	int client, n, idle = 0;
	SSL *tls = meet(&client);

	while (idle < 20 && sent < 256U << 20) {
		ssize_t part = send(client, bytes, sizeof(bytes), MSG_NOSIGNAL | MSG_DONTWAIT);

		idle = part > 0 ? 0 : idle + 1;
		sent += part > 0 ? (size_t)part : 0;
		turn();
	}
	cr_assert_lt(sent, 64U << 20, "what is under way is bounded");
	cr_expect_leq(buffer_length(rig.worker->conns->from_client), LARGE_BUFFER);
	shutdown(client, SHUT_WR);
	for (idle = 0; idle < 20 && got < sent; idle = n > 0 ? 0 : idle + 1) {
		n = hear_tls(tls, bytes, sizeof(bytes));
		got += n > 0 ? (size_t)n : 0;
	}
	cr_expect_eq(got, sent);
	cr_expect_leq(hear_tls(tls, bytes, sizeof(bytes)), 0);
	cr_expect(SSL_get_shutdown(tls) & SSL_RECEIVED_SHUTDOWN);
}

Test(redirect_tls, a_server_without_tls_is_a_reset)
{
	struct heard heard;
	int client = dial(), fd;

	turn();
	fd = accept_upstream(server);
	cr_assert_geq(fd, 0);
	say(fd, "HTTP/1.1 400 Bad Request\r\n\r\n");
	usleep(1000);
	turn();
	heard = hear(client);
	cr_expect_eq(heard.error, ECONNRESET);
	cr_expect_eq(heard.n, 0);
}

Test(redirect_tls, a_table_without_the_service_ends_the_relay)
{
	struct heard heard;
	char text[64];
	int client;
	SSL *tls = meet(&client);

	apply(REGISTRY_ONLY);
	turn();
	heard = hear(client);
	cr_expect_eq(heard.error, ECONNRESET);
	cr_expect_leq(hear_tls(tls, text, sizeof(text)), 0);
}

Test(redirect_tls, a_newer_table_leaves_the_session_alone)
{
	char documents[2048], text[64];
	int client;
	SSL *tls = meet(&client);

	for (int i = 0; i < 3; i++) { /* until the first is gone */
		snprintf(documents, sizeof(documents), DOCUMENTS, port);
		apply(documents);
		turn();
	}
	say(client, "still here");
	cr_expect_gt(hear_tls(tls, text, sizeof(text)), 0);
	cr_expect_str_eq(text, "still here");
}
