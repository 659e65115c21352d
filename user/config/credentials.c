// SPDX-License-Identifier: Apache-2.0
/* The PEM files of DestinationRules: that they hold what they are named for is seen before anything is applied. */
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <string.h>

#include "config/walk.h"

static void refuse(struct config *config, const struct credential *credential, const char *why)
{
	config_problem(config, SEVERITY_ERROR, &credential->at, credential->object, credential->field, "\"%s\" %s", credential->path, why);
}

static int no_password(char *out, int room, int writing, void *context)
{
	(void)out;
	(void)room;
	(void)writing;
	(void)context;
	return -1;
}

static BIO *open_text(const struct credential *credential)
{
	return BIO_new_mem_buf(credential->text.bytes, (int)credential->text.length);
}

/* The first certificate, or NULL. */
static X509 *first_certificate(const struct credential *credential)
{
	BIO *bio = open_text(credential);
	X509 *found = bio ? PEM_read_bio_X509(bio, NULL, no_password, NULL) : NULL;

	BIO_free(bio);
	return found;
}

static bool has_revocations(const struct credential *credential)
{
	BIO *bio = open_text(credential);
	X509_CRL *found = bio ? PEM_read_bio_X509_CRL(bio, NULL, no_password, NULL) : NULL;

	BIO_free(bio);
	X509_CRL_free(found);
	return found;
}

static EVP_PKEY *private_key(const struct credential *credential)
{
	BIO *bio = open_text(credential);
	EVP_PKEY *found = bio ? PEM_read_bio_PrivateKey(bio, NULL, no_password, NULL) : NULL;

	BIO_free(bio);
	return found;
}

static const struct credential *credential_of(const struct config *config, size_t index)
{
	const struct credential *found = index ? &config->credentials[index - 1] : NULL;

	return found && found->text.bytes ? found : NULL; /* what could not be read was told of */
}

static void check_settings(struct config *config, const struct tls_settings *tls)
{
	const struct credential *authorities = credential_of(config, tls->authorities), *file = credential_of(config, tls->certificate),
				*key_file = credential_of(config, tls->key), *revoked = credential_of(config, tls->revoked);
	X509 *authority = authorities ? first_certificate(authorities) : NULL, *certificate = file ? first_certificate(file) : NULL;
	EVP_PKEY *key = key_file ? private_key(key_file) : NULL;

	if (authorities && !authority)
		refuse(config, authorities, "has no certificate in PEM form");
	if (file && !certificate)
		refuse(config, file, "has no certificate in PEM form");
	if (key_file && !key)
		refuse(config, key_file, "has no private key in PEM form without a password");
	if (revoked && !has_revocations(revoked))
		refuse(config, revoked, "has no list of revoked certificates in PEM form");
	if (certificate && key && !X509_check_private_key(certificate, key))
		refuse(config, key_file, "is not the key of the certificate");
	X509_free(authority);
	X509_free(certificate);
	EVP_PKEY_free(key);
}

static void check_rules(struct config *config, const struct traffic_rules *rules)
{
	check_settings(config, &rules->all.tls);
	for (size_t i = 0; i < rules->port_count; i++)
		check_settings(config, &rules->ports[i].policy.tls);
}

void config_check_credentials(struct config *config)
{
	for (size_t i = 0; i < config->destination_rule_count; i++) {
		const struct destination_rule *rule = config->destination_rules[i];

		check_rules(config, &rule->policy);
		for (size_t k = 0; k < rule->subset_count; k++)
			check_rules(config, &rule->subsets[k].policy);
	}
}
