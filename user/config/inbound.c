// SPDX-License-Identifier: Apache-2.0
/* What a Sidecar says of inbound traffic: checked as Istio does (ISTIO.md §3.5), without effect here. */
#include <stddef.h>

#include "config/reader.h"
#include "config/walk.h"

#define MAX_ITEMS 256

/* ---- connectionPool ---- */

static void check_count(struct walk *walk, const struct node *node, void *out)
{
	int64_t value;

	(void)out;
	walk_integer(walk, node, 0, INT32_MAX, &value);
}

static void check_duration(struct walk *walk, const struct node *node, void *out)
{
	uint64_t ms;

	(void)out;
	walk_duration(walk, node, &ms);
}

/* 0 turns the bound off. */
static void check_idle(struct walk *walk, const struct node *node, void *out)
{
	uint64_t ms;

	(void)out;
	walk_duration_or_zero(walk, node, &ms);
}

static void check_keepalive(struct walk *walk, const struct node *node, void *out)
{
	static const struct field fields[] = {
		{"probes", check_count, 0, FIELD_OPTIONAL}, {"time", check_duration, 0, FIELD_OPTIONAL},
		{"interval", check_duration, 0, FIELD_OPTIONAL},
	};

	walk_mapping(walk, node, fields, ARRAY_SIZE(fields), out);
}

static void check_pool_tcp(struct walk *walk, const struct node *node, void *out)
{
	static const struct field fields[] = {
		{"maxConnections", check_count, 0, FIELD_OPTIONAL}, {"connectTimeout", check_duration, 0, FIELD_OPTIONAL},
		{"tcpKeepalive", check_keepalive, 0, FIELD_OPTIONAL}, {"maxConnectionDuration", check_duration, 0, FIELD_OPTIONAL},
		{"idleTimeout", check_idle, 0, FIELD_OPTIONAL},
	};

	walk_mapping(walk, node, fields, ARRAY_SIZE(fields), out);
}

static void check_upgrade(struct walk *walk, const struct node *node, void *out)
{
	static const struct choice choices[] = {{"DEFAULT", 0}, {"DO_NOT_UPGRADE", 0}, {"UPGRADE", 1}};

	walk_choice(walk, node, "a way to upgrade", choices, ARRAY_SIZE(choices), out);
}

void check_pings(struct walk *walk, const struct node *node, void *out)
{
	static const struct field fields[] = {
		{"interval", check_duration, 0, FIELD_OPTIONAL}, {"timeout", check_duration, 0, FIELD_OPTIONAL},
	};

	walk_mapping(walk, node, fields, ARRAY_SIZE(fields), out);
	walk_warning(walk, node, "has no effect here: no PING of HTTP/2 is sent; tcp.tcpKeepalive finds dead connections too");
}

struct pool_http {
	int upgrade;
	bool clients_protocol;
};

static void check_pool_http(struct walk *walk, const struct node *node, void *out)
{
	static const struct field fields[] = {
		{"http1MaxPendingRequests", check_count, 0, FIELD_OPTIONAL}, {"http2MaxRequests", check_count, 0, FIELD_OPTIONAL},
		{"maxRequestsPerConnection", check_count, 0, FIELD_OPTIONAL}, {"maxRetries", check_count, 0, FIELD_OPTIONAL},
		{"idleTimeout", check_duration, 0, FIELD_OPTIONAL}, {"maxConcurrentStreams", check_count, 0, FIELD_OPTIONAL},
		{"h2UpgradePolicy", check_upgrade, offsetof(struct pool_http, upgrade), FIELD_OPTIONAL},
		{"useClientProtocol", read_flag, offsetof(struct pool_http, clients_protocol), FIELD_OPTIONAL},
		{"http2KeepAlive", check_pings, 0, FIELD_OPTIONAL},
	};
	struct pool_http read = {0};

	*(bool *)out = true;
	if (walk_mapping(walk, node, fields, ARRAY_SIZE(fields), &read) && read.upgrade && read.clients_protocol)
		walk_error(walk, node, "has useClientProtocol beside h2UpgradePolicy UPGRADE");
}

void check_inbound_pool(struct walk *walk, const struct node *node, void *has_http)
{
	static const struct field fields[] = {{"tcp", check_pool_tcp, 0, FIELD_OPTIONAL}, {"http", check_pool_http, 0, FIELD_OPTIONAL}};

	if (walk_mapping(walk, node, fields, ARRAY_SIZE(fields), has_http) && !node_field(node, "tcp") && !node_field(node, "http"))
		walk_error(walk, node, "must have tcp or http");
}

/* ---- tls ---- */

enum { PASSTHROUGH, SIMPLE, MUTUAL, OPTIONAL_MUTUAL, AUTO_PASSTHROUGH, ISTIO_MUTUAL };

struct server_tls {
	int mode;
	const char *certificate, *key, *authorities, *revoked;
	bool redirects, skips;
};

static void read_server_mode(struct walk *walk, const struct node *node, void *out)
{
	static const struct choice choices[] = {
		{"PASSTHROUGH", PASSTHROUGH}, {"SIMPLE", SIMPLE}, {"MUTUAL", MUTUAL}, {"OPTIONAL_MUTUAL", OPTIONAL_MUTUAL},
		{"AUTO_PASSTHROUGH", AUTO_PASSTHROUGH}, {"ISTIO_MUTUAL", ISTIO_MUTUAL},
	};

	if (walk_choice(walk, node, "a TLS mode", choices, ARRAY_SIZE(choices), out) && (*(int *)out == AUTO_PASSTHROUGH || *(int *)out == ISTIO_MUTUAL))
		walk_error(walk, node, "%s is not for a Sidecar", node_shown(walk, node));
}

static void check_tls_version(struct walk *walk, const struct node *node, void *out)
{
	static const struct choice choices[] = {{"TLS_AUTO", 0}, {"TLSV1_0", 0}, {"TLSV1_1", 0}, {"TLSV1_2", 0}, {"TLSV1_3", 0}};
	int unused;

	(void)out;
	walk_choice(walk, node, "a TLS version", choices, ARRAY_SIZE(choices), &unused);
}

static void check_strings(struct walk *walk, const struct node *node, void *out)
{
	struct string_list unused = {0};

	(void)out;
	walk_list(walk, node, MAX_ITEMS, read_string_item, &unused);
}

static void refuse_for_sidecars(struct walk *walk, const struct node *node, void *out)
{
	(void)out;
	if (node->type == NODE_SCALAR ? *node->text != 0 : node->count)
		walk_error(walk, node, "is for gateways, not for a Sidecar");
}

static bool is_given(const char *text)
{
	return text && *text;
}

static void check_tls_mode(struct walk *walk, const struct node *node, const struct server_tls *tls)
{
	bool is_mutual = tls->mode == MUTUAL || tls->mode == OPTIONAL_MUTUAL;

	if (tls->redirects)
		walk_error(walk, node, "has httpsRedirect, which is for gateways, not for a Sidecar");
	if ((tls->mode == SIMPLE || is_mutual) && !(is_given(tls->certificate) && is_given(tls->key)))
		walk_error(walk, node, "needs serverCertificate and privateKey");
	if (is_mutual && !is_given(tls->authorities))
		walk_error(walk, node, "needs caCertificates, to tell clients by");
	if (tls->mode == SIMPLE && is_given(tls->revoked))
		walk_error(walk, node, "has caCrl, but mode SIMPLE asks no client for a certificate");
}

void check_server_tls(struct walk *walk, const struct node *node, void *has_tls)
{
	static const struct field fields[] = {
		{"mode", read_server_mode, offsetof(struct server_tls, mode), FIELD_OPTIONAL},
		{"httpsRedirect", read_flag, offsetof(struct server_tls, redirects), FIELD_OPTIONAL},
		{"serverCertificate", read_string, offsetof(struct server_tls, certificate), FIELD_OPTIONAL},
		{"privateKey", read_string, offsetof(struct server_tls, key), FIELD_OPTIONAL},
		{"caCertificates", read_string, offsetof(struct server_tls, authorities), FIELD_OPTIONAL},
		{"caCrl", read_string, offsetof(struct server_tls, revoked), FIELD_OPTIONAL},
		{"credentialName", refuse_for_sidecars, 0, FIELD_OPTIONAL}, {"credentialNames", refuse_for_sidecars, 0, FIELD_OPTIONAL},
		{"caCertCredentialName", refuse_for_sidecars, 0, FIELD_OPTIONAL},
		{"tlsCertificates", refuse_for_sidecars, 0, FIELD_OPTIONAL}, {"subjectAltNames", refuse_for_sidecars, 0, FIELD_OPTIONAL},
		{"verifyCertificateSpki", check_strings, 0, FIELD_OPTIONAL}, {"verifyCertificateHash", check_strings, 0, FIELD_OPTIONAL},
		{"minProtocolVersion", check_tls_version, 0, FIELD_OPTIONAL}, {"maxProtocolVersion", check_tls_version, 0, FIELD_OPTIONAL},
		{"cipherSuites", check_strings, 0, FIELD_OPTIONAL}, {"ecdhCurves", check_strings, 0, FIELD_OPTIONAL},
		{"alpnProtocols", check_strings, 0, FIELD_OPTIONAL},
		{"insecureSkipVerify", read_flag, offsetof(struct server_tls, skips), FIELD_OPTIONAL},
	};
	struct server_tls tls = {.mode = PASSTHROUGH};

	*(bool *)has_tls = true;
	if (walk_mapping(walk, node, fields, ARRAY_SIZE(fields), &tls))
		check_tls_mode(walk, node, &tls);
}
