// SPDX-License-Identifier: Apache-2.0
#include "redirect/origination.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/log.h"
#include "base/memory.h"
#include "redirect/h2.h"

/* The files of services that share a context. */
struct origination {
	struct origination *next;
	size_t authorities, certificate, key, revoked;
	bool skip_verify;
	SSL_CTX *context;
};

/* Of one connection: whom the server is to be. */
struct session {
	char name[SLUICE_HOST_MAX];
	const struct service *service; /* while the handshake lasts */
};

int origination_init(void)
{
	SSL_CTX *first;

	if (!OPENSSL_init_ssl(OPENSSL_INIT_NO_LOAD_CONFIG | OPENSSL_INIT_NO_ATEXIT, NULL))
		return log_errno(-EIO, "redirector: OpenSSL cannot be set up; not started");
	first = SSL_CTX_new(TLS_client_method()); /* algorithms are looked up with the first */
	if (!first)
		return log_errno(-EIO, "redirector: OpenSSL has no TLS client; not started");
	SSL_CTX_free(first);
	return 0;
}

/* ---- contexts ---- */

static BIO *open_credential(const struct config *config, size_t index)
{
	const struct credential *credential = &config->credentials[index - 1];

	return credential->text.bytes ? BIO_new_mem_buf(credential->text.bytes, (int)credential->text.length) : NULL;
}

static bool add_authorities(SSL_CTX *context, const struct config *config, size_t index)
{
	X509_STORE *store = SSL_CTX_get_cert_store(context);
	BIO *bio = open_credential(config, index);
	size_t count = 0;
	X509 *one;

	while (bio && (one = PEM_read_bio_X509(bio, NULL, NULL, NULL))) {
		count += X509_STORE_add_cert(store, one) == 1;
		X509_free(one);
	}
	BIO_free(bio);
	ERR_clear_error(); /* the end of the file is one */
	return count;
}

/* The certificate, then those that lead to its authority. */
static bool add_chain(SSL_CTX *context, const struct config *config, size_t index)
{
	BIO *bio = open_credential(config, index);
	X509 *one = bio ? PEM_read_bio_X509(bio, NULL, NULL, NULL) : NULL;
	bool good = one && SSL_CTX_use_certificate(context, one) == 1;

	X509_free(one);
	while (good && (one = PEM_read_bio_X509(bio, NULL, NULL, NULL)))
		if (!SSL_CTX_add0_chain_cert(context, one))
			X509_free(one);
	BIO_free(bio);
	ERR_clear_error();
	return good;
}

static bool add_key(SSL_CTX *context, const struct config *config, size_t index)
{
	BIO *bio = open_credential(config, index);
	EVP_PKEY *key = bio ? PEM_read_bio_PrivateKey(bio, NULL, NULL, NULL) : NULL;
	bool good = key && SSL_CTX_use_PrivateKey(context, key) == 1;

	EVP_PKEY_free(key);
	BIO_free(bio);
	return good;
}

/* Then each authority on the way to the server needs its list, as in Envoy. */
static bool add_revocations(SSL_CTX *context, const struct config *config, size_t index)
{
	X509_STORE *store = SSL_CTX_get_cert_store(context);
	BIO *bio = open_credential(config, index);
	size_t count = 0;
	X509_CRL *one;

	while (bio && (one = PEM_read_bio_X509_CRL(bio, NULL, NULL, NULL))) {
		count += X509_STORE_add_crl(store, one) == 1;
		X509_CRL_free(one);
	}
	BIO_free(bio);
	ERR_clear_error();
	return count && X509_STORE_set_flags(store, X509_V_FLAG_CRL_CHECK | X509_V_FLAG_CRL_CHECK_ALL);
}

static int check_server(int good, X509_STORE_CTX *chain);

static SSL_CTX *make_context(const struct config *config, const struct tls_settings *tls)
{
	SSL_CTX *context = SSL_CTX_new(TLS_client_method());

	if (!context)
		return NULL;
	SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION);
	SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF); /* it has a lock */
	SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER | SSL_MODE_RELEASE_BUFFERS);
	SSL_CTX_set_options(context, SSL_OP_NO_RENEGOTIATION);
	SSL_CTX_set_verify(context, tls->skip_verify ? SSL_VERIFY_NONE : SSL_VERIFY_PEER, check_server);
	if ((tls->skip_verify || (add_authorities(context, config, tls->authorities) &&
				  (!tls->revoked || add_revocations(context, config, tls->revoked)))) &&
	    (!tls->certificate || (add_chain(context, config, tls->certificate) && add_key(context, config, tls->key))))
		return context;
	SSL_CTX_free(context);
	return NULL;
}

static struct origination *origination_for(struct table *table, const struct tls_settings *tls)
{
	struct origination *one = table->originations;

	while (one && (one->authorities != tls->authorities || one->certificate != tls->certificate || one->key != tls->key ||
		       one->revoked != tls->revoked || one->skip_verify != tls->skip_verify))
		one = one->next;
	if (one)
		return one;
	one = xcalloc(1, sizeof(*one));
	*one = (struct origination){table->originations, tls->authorities, tls->certificate, tls->key, tls->revoked,
				    tls->skip_verify, make_context(table->config, tls)};
	table->originations = one;
	return one;
}

int origination_bind(struct table *table, char *why, size_t room)
{
	size_t count = policy_service_count(table->policy);

	table->originate = xcalloc(count, sizeof(*table->originate));
	for (size_t i = 0; i < count; i++) {
		const struct service *service = policy_service(table->policy, (uint32_t)i + 1);

		if (!service_originates(service))
			continue;
		table->originate[i] = origination_for(table, &service->policy.tls);
		if (table->originate[i]->context)
			continue;
		snprintf(why, room, "the certificates for %s cannot be used", service->host);
		return -EINVAL;
	}
	return 0;
}

void origination_free(struct table *table)
{
	struct origination *one;

	while ((one = table->originations)) {
		table->originations = one->next;
		SSL_CTX_free(one->context);
		free(one);
	}
	free(table->originate);
}

/* ---- whom the server is to be ---- */

/* Without its port, brackets and final dot. */
static void name_of(char out[SLUICE_HOST_MAX], const char *host)
{
	size_t n = host[0] == '[' ? strcspn(++host, "]") : strcspn(host, ":");

	if (n >= SLUICE_HOST_MAX)
		n = SLUICE_HOST_MAX - 1;
	memcpy(out, host, n);
	if (n && out[n - 1] == '.')
		n--;
	out[n] = 0;
}

static bool is_address(const char *name)
{
	unsigned char unused[16];

	return inet_pton(AF_INET, name, unused) == 1 || inet_pton(AF_INET6, name, unused) == 1;
}

/* A name of the certificate: of a host, an address, or a URI (spiffe://...). */
static bool is_uri_of(X509 *certificate, const char *wanted)
{
	GENERAL_NAMES *names = X509_get_ext_d2i(certificate, NID_subject_alt_name, NULL, NULL);
	bool found = false;

	for (int i = 0; i < sk_GENERAL_NAME_num(names) && !found; i++) {
		const GENERAL_NAME *name = sk_GENERAL_NAME_value(names, i);

		if (name->type == GEN_URI)
			found = (size_t)ASN1_STRING_length(name->d.ia5) == strlen(wanted) &&
				!memcmp(ASN1_STRING_get0_data(name->d.ia5), wanted, strlen(wanted));
	}
	GENERAL_NAMES_free(names);
	return found;
}

static bool has_name(X509 *certificate, const char *wanted)
{
	if (is_address(wanted))
		return X509_check_ip_asc(certificate, wanted, 0) == 1;
	return X509_check_host(certificate, wanted, 0, X509_CHECK_FLAG_NEVER_CHECK_SUBJECT, NULL) == 1 || is_uri_of(certificate, wanted);
}

/* What DestinationRule says, else ServiceEntry, else the name that was asked for. */
static bool is_whom_it_should_be(const struct session *session, X509 *certificate)
{
	const struct service *service = session->service;
	const struct string_list *names = &service->policy.tls.alt_names;
	bool found = false;

	if (!names->count && service->entry)
		names = &service->entry->alt_names;
	if (!names->count)
		return has_name(certificate, session->name);
	for (size_t i = 0; i < names->count && !found; i++)
		found = has_name(certificate, names->items[i]);
	return found;
}

/* Within the handshake, so that a server of another name gets neither our certificate nor a word. The leaf comes last. */
static int check_server(int good, X509_STORE_CTX *chain)
{
	SSL *tls = X509_STORE_CTX_get_ex_data(chain, SSL_get_ex_data_X509_STORE_CTX_idx());

	if (!good || X509_STORE_CTX_get_error_depth(chain) || is_whom_it_should_be(SSL_get_app_data(tls), X509_STORE_CTX_get0_cert(chain)))
		return good;
	X509_STORE_CTX_set_error(chain, X509_V_ERR_HOSTNAME_MISMATCH);
	return 0;
}

/* ---- sessions ---- */

bool origination_begin(struct conn *conn, const char *host)
{
	static const unsigned char http1[] = "\x08http/1.1", http2[] = "\x02h2";
	struct origination *origination = conn->table->originate[conn->service->id - 1];
	bool is_h2 = conn->purpose == FOR_HTTP && h2_is_spoken(conn, conn->service);
	const char *sni = conn->service->policy.tls.sni;
	struct session *session = xcalloc(1, sizeof(*session));
	SSL *tls = SSL_new(origination->context);

	name_of(session->name, sni ? sni : host);
	session->service = conn->service;
	conn->upstream.tls = tls;
	if (!tls || !SSL_set_app_data(tls, session)) {
		free(session);
		return false;
	}
	SSL_set_connect_state(tls);
	if (conn->purpose == FOR_HTTP && SSL_set_alpn_protos(tls, is_h2 ? http2 : http1, is_h2 ? sizeof(http2) - 1 : sizeof(http1) - 1))
		return false; /* 0 is good here */
	return SSL_set_fd(tls, conn->upstream.fd) == 1 &&
	       (is_address(session->name) || !session->name[0] || SSL_set_tlsext_host_name(tls, session->name) == 1);
}

/* What blocks an operation, in the words of an edge-triggered wait. False: nothing, it failed. */
static bool waits(struct end *end, int result)
{
	switch (SSL_get_error(end->tls, result)) {
	case SSL_ERROR_WANT_READ:
		end->readable = false;
		return true;
	case SSL_ERROR_WANT_WRITE:
		end->writable = false;
		return true;
	default:
		return false;
	}
}

static bool is_alert(unsigned long error)
{
	return ERR_GET_LIB(error) == ERR_LIB_SSL && ERR_GET_REASON(error) > SSL_AD_REASON_OFFSET;
}

/*
 * As Envoy's TLS library numbers it: alerts as this one does, other reasons otherwise, of which these two are those that
 * operators look for.
 */
static unsigned long number_of(unsigned long error)
{
	const unsigned long library = 16UL << 24;
	int reason = ERR_GET_REASON(error);

	if (is_alert(error))
		return library | (unsigned long)reason;
	if (ERR_GET_LIB(error) == ERR_LIB_SSL && reason == SSL_R_CERTIFICATE_VERIFY_FAILED)
		return library | 125;
	if (ERR_GET_LIB(error) == ERR_LIB_SSL && reason == SSL_R_WRONG_VERSION_NUMBER)
		return library | 247;
	return error;
}

/* In Envoy's form (ISTIO.md §1.7), and behind it what this library knows beyond that. */
static void say_failure(const struct conn *conn, char *why, size_t room)
{
	unsigned long error = ERR_peek_error();
	const char *text = ERR_reason_error_string(error);
	long verified = SSL_get_verify_result(conn->upstream.tls);
	char name[96] = "";

	if (!error || !text || ERR_GET_REASON(error) == SSL_R_UNEXPECTED_EOF_WHILE_READING) {
		snprintf(why, room, "TLS_error: the server ended the handshake");
		return;
	}
	for (size_t i = 0; text[i] && i + 1 < sizeof(name); i++)
		name[i] = text[i] == ' ' ? '_' : (char)toupper((unsigned char)text[i]);
	snprintf(why, room, "TLS_error:|%lu:SSL routines:OPENSSL_internal:%s:TLS_error_end%s%s", number_of(error), name,
		 verified == X509_V_OK ? "" : ": ", verified == X509_V_OK ? "" : X509_verify_cert_error_string(verified));
}

bool origination_refused(const struct conn *conn, char *why, size_t room)
{
	if (!conn->upstream.tls || !is_alert(ERR_peek_error()))
		return false;
	say_failure(conn, why, room);
	return true;
}

enum origination_result origination_step(struct conn *conn, char *why, size_t room)
{
	struct end *end = &conn->upstream;
	int result;

	ERR_clear_error();
	result = SSL_do_handshake(end->tls);
	if (result == 1)
		return ORIGINATION_DONE;
	if (waits(end, result))
		return ORIGINATION_AGAIN;
	say_failure(conn, why, room);
	return ORIGINATION_FAILED;
}

bool origination_is_for(const struct conn *conn, const struct service *service, const char *host)
{
	const struct session *session = SSL_get_app_data(conn->upstream.tls);
	char name[SLUICE_HOST_MAX];

	name_of(name, service->policy.tls.sni ? service->policy.tls.sni : host);
	return !strcasecmp(name, session->name);
}

/* ---- bytes ---- */

ssize_t origination_receive(struct end *end, void *out, size_t room)
{
	int n;

	ERR_clear_error();
	n = SSL_read(end->tls, out, (int)room);
	if (n > 0)
		return n;
	if (waits(end, n)) {
		errno = EAGAIN;
		return -1;
	}
	if (SSL_get_error(end->tls, n) == SSL_ERROR_ZERO_RETURN)
		return 0;
	errno = ECONNRESET; /* an end without a word may be somebody's who cut it short */
	return -1;
}

ssize_t origination_send(struct end *end, const struct iovec *parts, size_t count)
{
	ssize_t sent = 0;

	for (size_t i = 0; i < count; i++) {
		int n;

		ERR_clear_error();
		n = SSL_write(end->tls, parts[i].iov_base, (int)parts[i].iov_len);
		if (n <= 0 && !sent) {
			errno = waits(end, n) ? EAGAIN : ECONNRESET;
			return -1;
		}
		if (n <= 0)
			break; /* told next time */
		sent += n;
		if ((size_t)n < parts[i].iov_len)
			break;
	}
	return sent;
}

enum origination_result origination_finish(struct end *end)
{
	int result;

	ERR_clear_error();
	result = SSL_shutdown(end->tls);
	return result >= 0 ? ORIGINATION_DONE : waits(end, result) ? ORIGINATION_AGAIN : ORIGINATION_FAILED;
}

void origination_break(struct end *end)
{
	if (end->tls)
		SSL_set_quiet_shutdown(end->tls, 1);
}

void origination_end(struct end *end)
{
	if (!end->tls)
		return;
	ERR_clear_error();
	if (SSL_is_init_finished(end->tls))
		SSL_shutdown(end->tls);
	free(SSL_get_app_data(end->tls));
	SSL_free(end->tls);
	end->tls = NULL;
}
