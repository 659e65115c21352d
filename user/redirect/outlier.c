// SPDX-License-Identifier: Apache-2.0
/*
 * outlierDetection: an address that fails too often in a row is not used for a while. Envoy's rules (outlier_detection):
 * a part of the addresses at most, the longer the more often, and back with the sweep that follows.
 */
#include <string.h>

#include "redirect/circuit.h"

#define MAX_EJECTION_MS 300000 /* Envoy's max_ejection_time, unless the first one is longer */

static const struct outlier_settings *settings_of(const struct conn *conn)
{
	return conn->circuit && conn->service && conn->service->policy.outlier.present ? &conn->service->policy.outlier : NULL;
}

static bool is_ejected(const struct circuit_host *host, uint64_t now_ms)
{
	return host && atomic_load(&host->ejected_until_ms) > now_ms;
}

uint64_t outlier_time(const struct outlier_settings *settings, uint32_t ejections)
{
	uint64_t most = settings->base_ejection_ms > MAX_EJECTION_MS ? settings->base_ejection_ms : MAX_EJECTION_MS;
	uint64_t time = settings->base_ejection_ms * ejections;

	return time < most ? time : most;
}

static size_t count_ejected(const struct conn *conn, const struct candidate *all, size_t count)
{
	size_t ejected = 0;

	for (size_t i = 0; i < count; i++)
		ejected += is_ejected(circuit_host_of(conn->circuit, all[i].addr, all[i].port), conn->worker->now_ms);
	return ejected;
}

/* Of those in a row, each interval without another one takes one back. */
static void eject(struct conn *conn, const struct outlier_settings *settings)
{
	struct circuit_host *host = conn->host;
	struct circuit *circuit = conn->circuit;
	uint64_t now = conn->worker->now_ms, back = atomic_load(&host->ejected_until_ms), healthy, until;

	healthy = back ? (now - back) / settings->interval_ms : 0;
	host->ejections = host->ejections > healthy ? host->ejections - (uint32_t)healthy : 0;
	if (outlier_time(settings, host->ejections) < outlier_time(settings, host->ejections + 1))
		host->ejections++;
	until = now + outlier_time(settings, host->ejections) - circuit->made_ms;
	until = circuit->made_ms + (until + settings->interval_ms - 1) / settings->interval_ms * settings->interval_ms;
	atomic_store(&host->ejected_until_ms, until);
	if (atomic_load(&circuit->ejected_until_ms) < until)
		atomic_store(&circuit->ejected_until_ms, until);
	tally(&conn->worker->statistics.ejections_total, 1);
}

static void forget_failures(struct circuit_host *host)
{
	atomic_store(&host->failed, 0);
	atomic_store(&host->gateway, 0);
	atomic_store(&host->unreached, 0);
}

/* Somebody who decides the same at the same moment does it for both. */
static void consider(struct conn *conn, const struct outlier_settings *settings)
{
	struct candidate all[MAX_CANDIDATES];
	size_t count = upstream_addresses(conn, all);

	if (atomic_flag_test_and_set(&conn->circuit->ejecting))
		return;
	if (!is_ejected(conn->host, conn->worker->now_ms) && 100 * (count_ejected(conn, all, count) + 1) <= settings->max_ejection_percent * count) {
		eject(conn, settings);
		forget_failures(conn->host);
	}
	atomic_flag_clear(&conn->circuit->ejecting);
}

/* One more in a row. `most` 0: they do not matter. */
static void failed(struct conn *conn, atomic_uint *in_a_row, uint32_t most)
{
	if (!most || is_ejected(conn->host, conn->worker->now_ms) || atomic_fetch_add(in_a_row, 1) + 1 < most)
		return;
	atomic_store(in_a_row, 0);
	consider(conn, settings_of(conn));
}

void outlier_answered(struct conn *conn, uint16_t status)
{
	const struct outlier_settings *settings = settings_of(conn);
	struct circuit_host *host = conn->host;

	if (!settings || !host)
		return;
	if (status < 500) {
		atomic_store(&host->failed, 0);
		atomic_store(&host->gateway, 0);
		return;
	}
	if (status >= 502 && status <= 504)
		failed(conn, &host->gateway, settings->consecutive_gateway);
	else
		atomic_store(&host->gateway, 0);
	failed(conn, &host->failed, settings->consecutive_5xx);
}

void outlier_failed(struct conn *conn, uint16_t status)
{
	const struct outlier_settings *settings = settings_of(conn);

	if (!settings || !conn->host)
		return;
	if (settings->splits)
		failed(conn, &conn->host->unreached, settings->consecutive_local);
	else
		outlier_answered(conn, status);
}

void outlier_connected(struct conn *conn)
{
	const struct outlier_settings *settings = settings_of(conn);

	if (!settings || !conn->host)
		return;
	if (settings->splits)
		atomic_store(&conn->host->unreached, 0);
	else if (conn->purpose == FOR_RELAY) /* there is nothing else to be told well by */
		outlier_answered(conn, 200);
}

/* Envoy's panic: so few are left that all are used again. */
static bool are_too_few(const struct outlier_settings *settings, size_t ejected, size_t count)
{
	return 100 * (count - ejected) < settings->min_health_percent * count;
}

bool outlier_ejects(const struct conn *conn, const struct candidate *candidate)
{
	const struct outlier_settings *settings = settings_of(conn);
	struct candidate all[MAX_CANDIDATES];
	size_t count;

	if (!settings || !is_ejected(circuit_host_of(conn->circuit, candidate->addr, candidate->port), conn->worker->now_ms))
		return false;
	count = upstream_addresses(conn, all);
	return !are_too_few(settings, count_ejected(conn, all, count), count);
}

size_t outlier_filter(const struct conn *conn, struct candidate *candidates, size_t count)
{
	const struct outlier_settings *settings = settings_of(conn);
	uint64_t now = conn->worker->now_ms;
	size_t kept = 0;

	if (!settings || service_keeps_destination(conn->service) || atomic_load(&conn->circuit->ejected_until_ms) <= now)
		return count;
	if (are_too_few(settings, count_ejected(conn, candidates, count), count))
		return count;
	for (size_t i = 0; i < count; i++)
		if (!is_ejected(circuit_host_of(conn->circuit, candidates[i].addr, candidates[i].port), now))
			candidates[kept++] = candidates[i];
	return kept;
}
