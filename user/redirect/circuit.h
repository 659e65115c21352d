/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Circuits: what one workload has under way towards one service, as each of Istio's sidecars counts for itself. All
 * workers count in the same one. It is found by names, so that it outlives generations: the limits are those of the
 * policy that a connection was decided by, the counts and the health of the addresses stay.
 *
 * A request for which there is no connection waits in its worker's line. Whoever lets go of a connection that others wait
 * for wakes the workers; idle ones are given up for them. A relay does not wait (Envoy's TCP proxy). A session of HTTP/2 is
 * one connection, whatever streams it has; each of these is a request.
 */
#ifndef SLUICE_CIRCUIT_H
#define SLUICE_CIRCUIT_H

#include "redirect/internal.h"

#define CIRCUIT_HOSTS 1024       /* addresses of one circuit that are told apart; others have no health */
#define CIRCUIT_UNUSED_MS 600000 /* then it is forgotten */

/* The head of what hangs in a list that all workers add to, and that the main thread alone takes from. */
struct shared {
	_Atomic(struct shared *) next;
	atomic_uint holders; /* SHARED_GONE: it is taken out, and found no more */
	atomic_uint_least64_t used_ms;
};

/* An address of the service. */
struct circuit_host {
	struct shared shared;
	uint8_t addr[16];
	uint16_t port;
	atomic_uint requests;                   /* under way, or connections of a relay */
	atomic_uint failed, gateway, unreached; /* one after another: answers of 5xx, those of 502 to 504, failed tries */
	atomic_uint_least64_t ejected_until_ms; /* 0: it never was */
	uint32_t ejections;                     /* in a row; written by whoever has the circuit's `ejecting` */
};

struct circuit {
	struct shared shared;
	struct pool_key key;
	uint16_t port;
	const char *host, *subset; /* subset: "" for the whole service. Behind the struct */
	uint64_t made_ms;
	atomic_uint connections, requests, retries;
	atomic_uint waiting;       /* for a connection */
	atomic_uint idle;          /* connections, of those that are bounded */
	atomic_uint limit;         /* of connections, as the newest of them knows it */
	_Atomic(struct shared *) hosts;
	atomic_uint host_count;
	atomic_flag ejecting;
	atomic_uint_least64_t ejected_until_ms; /* later than that, no host is */
};

/*
 * Makes the service's circuit the connection's, if its policy asks for one; `several`: it has addresses to choose from.
 * Before a connection is made for it.
 */
void circuit_enter(struct conn *conn, bool several);
void circuit_leave(struct conn *conn);

enum admission { CIRCUIT_ADMITS, CIRCUIT_HOLDS, CIRCUIT_OVERFLOWS };
enum admission circuit_admit(struct conn *conn); /* a connection and its first request; CIRCUIT_HOLDS: it is in line */
void circuit_dial(struct conn *conn);            /* to conn->addr */
bool circuit_request(struct conn *conn);         /* another request on the idle connection; false: overflow */
bool circuit_stream(struct conn *conn);          /* a request on a session, which has its connection; false: overflow */
bool circuit_rest(struct conn *conn);            /* no request is under way; false: others wait for the connection */
void circuit_idle(struct conn *conn);            /* it has a connection that is given up for others */
void circuit_lend(struct conn *conn, struct conn *carrier); /* of the session that its connection has become */
void circuit_move(struct conn *from, struct conn *to);      /* along with its idle connection */
bool circuit_is_short(const struct circuit *circuit);       /* others wait for a connection; accepts NULL */
void circuit_session_has_room(const struct conn *carrier);  /* those in line that share its owner may find it */
void circuit_release(struct conn *conn);         /* the connection is no more */
bool circuit_retry(struct conn *conn);           /* false: too many retries are under way */
void circuit_retry_over(struct conn *conn);

/* Those in line try again, and idle connections that others wait for are given up: after worker->look_again. */
void circuit_look_again(struct worker *worker);
void circuit_left_line(struct conn *conn);       /* by whatever way: upstream_forget_waiting() */

/* The requests that an address has to do. */
unsigned int circuit_load(const struct conn *conn, const uint8_t addr[16], uint16_t port);
struct circuit_host *circuit_host_of(const struct circuit *circuit, const uint8_t addr[16], uint16_t port); /* or NULL */

/* Main thread: forgets what nobody has used for long. */
void circuit_sweep(uint64_t now_ms);

/* outlier.c: the health of addresses (outlierDetection). Nothing of it does anything without such a policy. */
void outlier_answered(struct conn *conn, uint16_t status); /* by the server */
void outlier_failed(struct conn *conn, uint16_t status);   /* no answer; what the client would be told of it */
void outlier_connected(struct conn *conn);
/* Unless so few are left that all are used again. */
bool outlier_ejects(const struct conn *conn, const struct candidate *candidate);
/* Takes the ejected ones out. Returns how many stay. */
size_t outlier_filter(const struct conn *conn, struct candidate *candidates, size_t count);
uint64_t outlier_time(const struct outlier_settings *settings, uint32_t ejections); /* how long the so many-th lasts */

#endif
