/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of redirect/ share. The main thread (server.c) talks to the loader and publishes immutable views;
 * each worker thread owns its connections, buffers, pipes and upstream sockets, and takes no lock. A connection goes down
 * this list, and each file owns the states that it puts it in:
 *
 *	server.c packet.c confine.c	the main thread; messages with descriptors; system calls that are left
 *	view.c directory.c		what is published: tables, names, whose namespace is whose; names that clients show
 *	worker.c			a thread: its loop, timers, buffers, idle upstream sockets
 *	conn.c client_hello.c		a connection accepted, its record, what the client speaks
 *	http.c http1*.c http_route.c	a request read, judged, routed; http_exchange.c carries it and its response
 *	h2_*.c				HTTP/2, as connections that speak HTTP/1.1 to the above
 *	l4_route.c relay.c		what is not HTTP: where it leads, its bytes both ways
 *	upstream.c			an address, a socket, a try; circuit.c, outlier.c, ring.c say which
 *	origination.c greeting.c	TLS to the server; what comes before it (proxy_protocol.c, post_tunnel.c)
 *	mirror.c access_log.c		copies of requests; a line for each
 *	operators.c header_lines.c	Envoy's variables, in headers and in that line
 */
#ifndef SLUICE_REDIRECT_INTERNAL_H
#define SLUICE_REDIRECT_INTERNAL_H

#include <semaphore.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>
#include <uthash.h>

#include "policy/tables.h"
#include "policy/policy.h"
#include "redirect/http1.h"
#include "redirect/protocol.h"

#define MAX_WORKERS 8
#define SMALL_BUFFER 4096
#define LARGE_BUFFER 65536

/* ---- what is published (view.c) ---- */

/* The addresses of one name; replaced as a whole. */
struct addresses {
	size_t count;
	bool known; /* the resolver answered, or failed */
	bool is_refused; /* it was not asked: the loader has no room for another name */
	uint8_t items[][16];
};

/* A name lives as long as the process: configurations come and go, answers stay useful. */
struct name_entry {
	UT_hash_handle hh; /* main thread only */
	char *host;
	_Atomic(struct addresses *) addresses;
};

/* One generation, compiled. Counted: connections hold the table their decision was made by. */
struct table {
	atomic_uint references;
	uint64_t generation;
	struct config *config;
	struct policy *policy;
	atomic_uint_least64_t *turns;      /* by service id - 1: of ROUND_ROBIN */
	_Atomic(struct ring *) *rings;     /* by service id - 1: of consistentHash, else NULL */
	struct origination **originate;    /* by service id - 1: NULL where the server is spoken to as the client does */
	struct origination *originations;
	struct name_entry ***target_names; /* by service id - 1, by target: NULL for an IP, and where the client names it */
	const struct service **plain;      /* TCP services by (host, port, registry): they have no name that clients show */
	size_t plain_count;
	int log_fd;                        /* of the access log, whose format is in the mesh's settings; -1: there is none */
	bool log_is_socket;
};

struct roster_entry {
	uint32_t workload;
	char name[SLUICE_NAME_TEXT];      /* "namespace/name" */
	struct workload_identity who;     /* in view->arena */
	const struct rule_set *now;       /* by view->table */
	const struct rule_set *previous;  /* by view->previous, NULL without one */
};

/* A network namespace in which we listen. Counted: its connections hold it. */
struct place {
	atomic_uint references;
	uint64_t cookie;
	atomic_bool gone;
	atomic_size_t idle; /* upstream sockets in all the workers' pools */
	size_t connections[MAX_WORKERS]; /* and streams: each worker counts its own */
	size_t memory[MAX_WORKERS]; /* theirs, when it was last short (overload.c) */
};

struct listener {
	int kind; /* WATCH_LISTENER: first, as in struct watch */
	int fd;
	bool v6;
	bool waits[MAX_WORKERS]; /* that worker does not watch it: the namespace has its share */
	struct place *place;
};

struct view {
	struct table *table;    /* NULL: none yet; then there are no listeners */
	struct table *previous; /* NULL: none */
	struct roster_entry *roster; /* sorted by workload; the first is 0, the node's default */
	size_t roster_count;
	struct arena *arena;
	struct listener **listeners;
	size_t listener_count;
};

extern _Atomic(struct view *) current_view;
extern atomic_ulong current_epoch; /* grows with each publication, after the view was stored */

struct table *table_hold(struct table *table);
void table_release(struct table *table); /* accepts NULL */
struct place *place_hold(struct place *place);
void place_release(struct place *place);
const struct roster_entry *roster_find(const struct view *view, uint32_t workload); /* never NULL: the default's */
const struct service *table_find_plain(const struct table *table, uint32_t registry, const char *host, uint16_t port); /* or NULL */
bool table_may_have_plain(const struct table *table, uint32_t registry, const uint8_t addr[16], uint16_t port); /* at that address */

/* ---- workers ---- */

enum watch_kind { WATCH_LISTENER = 1, WATCH_CLIENT, WATCH_UPSTREAM, WATCH_SUPPLY, WATCH_WAKE };

struct watch {
	int kind;
	struct conn *conn; /* of WATCH_CLIENT and WATCH_UPSTREAM */
};

struct buffer {
	struct buffer *next; /* while free */
	uint32_t size;
	bool was_filled; /* by one read: more will come */
	uint32_t start, end;
	char bytes[];
};

struct pipe_pair {
	struct pipe_pair *next;
	int fds[2];
	size_t held;
};

/* Idle upstream sockets of one workload in one namespace, and who waits for one; or who waits for a connection to a Unix socket. */
struct pool_key {
	uint64_t netns;
	uint32_t workload;
	uint32_t pad;
	uint8_t socket[16]; /* socket_identity(), or zeroes */
};

#define POOL_MAX 64 /* idle sockets of a namespace, all workers together */

/* Connections in the order of their coming; each is in one at most. */
struct queue {
	struct conn *first, *last;
	size_t count;
};

struct pool {
	UT_hash_handle hh;
	struct pool_key key;
	struct place *place;
	int fds[POOL_MAX + MESSAGE_MAX_FDS];
	size_t count;
	bool v4_only; /* the sockets: a kernel without IPv6 has no others */
	uint32_t questions;     /* names that may still be asked for */
	uint64_t questions_ms;  /* when they were counted */
	bool asked;
	uint64_t asked_ms;
	struct queue waiting;
};

enum conn_state {
	CONN_SNIFF,    /* nothing, or not enough, was read to tell what the client speaks */
	CONN_REQUEST,  /* HTTP: a request head is being read */
	CONN_DELAYED,  /* an injected delay holds the request */
	CONN_NAME,     /* waits for the first answer about a name */
	CONN_PENDING,  /* waits until the service may have another connection */
	CONN_SOCKET,   /* waits for an upstream socket */
	CONN_BACKOFF,  /* waits before another try */
	CONN_CONNECT,  /* the upstream connection is being made */
	CONN_TLS,      /* it is made, and its TLS handshake is under way */
	CONN_SESSION,  /* HTTP/2: its requests are connections of their own, which it owns (h2.h) */
	CONN_TUNNEL,   /* it leads to a proxy, which is asked to lead on */
	CONN_EXCHANGE, /* request and response are under way */
	CONN_RELAY,    /* bytes both ways */
	CONN_LINGER,   /* our answer is out; the client's bytes are drained so that it can read it */
	CONN_CLOSED,
};

enum conn_purpose { FOR_HTTP, FOR_RELAY };

struct end {
	struct watch watch; /* first */
	int fd;
	bool readable, writable, eof;
	bool ending;           /* the peer's end was announced: a short read is not the last */
	bool failing;          /* an error was announced */
	struct ssl_st *tls;    /* of an upstream that TLS is spoken to (origination.h), else NULL */
	struct h2_stream *stream; /* in place of a descriptor: a stream of HTTP/2 (h2.h) */
	uint64_t registered;   /* the round in which it was: events of that round are of an earlier descriptor */
};

/* Envoy's response flags, in the order in which they are printed. */
enum response_flag {
	FLAG_UH = 1 << 0,  /* no healthy upstream */
	FLAG_UT = 1 << 1,  /* upstream timeout */
	FLAG_UR = 1 << 2,  /* upstream remote reset */
	FLAG_UF = 1 << 3,  /* upstream connection failure */
	FLAG_UC = 1 << 4,  /* upstream connection termination */
	FLAG_UO = 1 << 5,  /* upstream overflow */
	FLAG_NR = 1 << 6,  /* no route */
	FLAG_DI = 1 << 7,  /* delay injected */
	FLAG_FI = 1 << 8,  /* fault injected */
	FLAG_DC = 1 << 9,  /* downstream connection termination */
	FLAG_URX = 1 << 10, /* upstream retry limit exceeded */
	FLAG_SI = 1 << 11, /* stream idle timeout */
	FLAG_DPE = 1 << 12, /* downstream protocol error */
	FLAG_UPE = 1 << 13, /* upstream protocol error */
	FLAG_NC = 1 << 14, /* no cluster */
	FLAG_DF = 1 << 15, /* DNS failure */
};

/* What became of a request, or of a connection that was relayed or refused: for its line in the access log. */
struct outcome {
	bool begun;              /* a line is due */
	bool is_request;
	bool is_blocked;         /* by the policy */
	bool has_upstream;       /* conn->addr was dialled for it */
	uint16_t status;         /* that the client was sent; 0: none */
	uint32_t flags;          /* enum response_flag */
	const char *details;     /* Envoy's response code details; NULL: none. Static, as the next two */
	const char *termination; /* why we ended the connection */
	const char *reset;       /* why the upstream gave no answer */
	char failure[128];       /* what the kernel or TLS said of it */
	uint64_t start_us;
	uint64_t received, sent; /* relayed bytes */
	struct buffer *kept;     /* fields that the line wants, which are gone by then (access_log.c) */
	uint32_t kept_request;   /* of its bytes: those of the request */
	uint64_t format;         /* the log's, by which they were kept */
	struct buffer *settled;  /* of a relay whose policy is gone by then: its cluster, its route and its address, each with a NUL */
};

struct conn {
	struct worker *worker;
	struct conn *next, *previous;   /* of the worker's */
	struct conn *next_waiting, *previous_waiting; /* of `waiting_in` */
	struct conn *next_ready;
	struct conn *owner;             /* NULL: itself */
	struct conn *owned, *next_owned, *previous_owned;
	bool is_orphan;                 /* its owner is gone: it follows */
	struct h2_session *session;     /* of CONN_SESSION */
	bool is_h2;                     /* its client speaks HTTP/2 */
	bool is_ready;                  /* on the worker's ready list */
	struct end client, upstream;
	enum conn_state state;
	enum conn_purpose purpose;
	struct flow_record record;
	struct place *place;
	struct table *table;            /* the decision's; NULL before the first */
	const struct rule_set *rules;   /* of `table` */
	bool decided;                   /* the first decision was made: later ones use the newest table */

	uint64_t deadline_ms;           /* 0: none */
	size_t timer_slot;              /* in the heap, from 1; 0: not in it */
	uint64_t timer_ms;              /* the heap's key: at most the deadline */
	uint64_t route_deadline_ms;     /* when the route's timeout is over; 0: none runs. No deadline is later */
	uint64_t try_deadline_ms;       /* the same of the try that is under way */
	uint64_t drain_until_ms;        /* the newest table forbids what is under way: how long it may go on; 0: it does not */

	struct buffer *from_client;     /* received, not yet forwarded */
	struct buffer *from_upstream;
	struct buffer *to_upstream;     /* the rebuilt request head, and what is kept of the body for another try */
	struct buffer *to_client;       /* the rebuilt response head, or our own answer */

	/* where to */
	const struct service *service;  /* of `table`; NULL: the original destination */
	uint8_t addr[16];
	uint16_t port;                  /* as of a candidate */
	unsigned int tries;             /* that were begun for this request or relay */
	unsigned int unconnected;       /* tries that found nobody */
	uint64_t draw;                  /* settles the order of the addresses for all tries */
	bool reused;                    /* the request went out on a connection that had served before */
	bool was_repeated;              /* since one that had served before was lost */
	uint32_t served;                /* requests that the open upstream connection has answered */
	bool kept;                      /* the open upstream connection may serve another request for `kept_for` */
	const struct service *kept_for; /* of `table`; NULL: the original destination */
	uint64_t connect_ms;            /* when the search for a connection began */
	struct queue *waiting_in;
	struct circuit *circuit;        /* of `service`, as long as `conn` has to do with it; NULL: it needs none */
	struct circuit_host *host;      /* of the circuit: where the upstream connection goes */
	bool has_connection, has_request, has_retry; /* counted in the circuit */
	bool session_has_room;          /* one of a session that it owns, since the line was looked at */
	bool shares;                    /* the try waits for a session that another stream dials: */
	int share_error;                /* that has failed so; 0: it has not */
	bool has_hash;                  /* consistentHash: */
	uint64_t hash;                  /* what tells where the request goes */
	bool makes_cookie;              /* the client is told it by this one: */
	uint64_t cookie;
	uint64_t idle_ms;               /* how long the upstream connection may be idle; 0: for ever */
	uint64_t idle_until_ms;         /* of a kept one; 0: for ever */
	uint64_t connected_until_ms;    /* maxConnectionDuration; 0: for ever */
	struct dynamic_name *named;     /* where it is that `service` is dialled, if the client says so; NULL: not known yet */
	bool goes_by_host;              /* nobody registers it, and the mode has it dialled where the client's Host is */
	bool name_refused, name_failed; /* it may not be asked for; it is none of the service's */

	/* the exchange */
	struct http_body request_body, response_body;
	uint32_t request_ready, response_ready; /* body bytes at the start of from_*, checked, to be sent */
	enum http_method method;
	uint8_t client_minor;
	bool keep_client, keep_upstream, upgrade_asked, upgraded, is_passthrough, is_local, dechunk;
	bool head_pending;              /* part of a request head was read: the clock runs */
	uint32_t incomplete;            /* bytes that were parsed and found to be no whole head */
	bool request_done, response_head_done, response_done;
	bool body_sent;                 /* some of the request's body is gone: it cannot be sent again */
	uint32_t request_head;          /* length of the head in to_upstream */
	bool counts_attempts;           /* it ends with x-envoy-attempt-count ... */
	bool tells_time;                /* ... behind x-envoy-expected-rq-timeout-ms */
	bool is_delayed;
	const struct service_route *chosen; /* of `table`: what `route` is for the service; NULL without one */
	uint32_t mirrored;              /* a bit for each of the rule's mirrors that is drawn */
	struct buffer *copy;            /* for them, while the request's body comes */
	bool is_mirror;                 /* there is no client: a copy of a request, whose answer is thrown away */
	const struct http_route *route; /* of `table`, or NULL */
	const char *match_name;         /* of the match by which it took the request; NULL: it has none */
	struct buffer *cors;            /* lines for the answer, each with CRLF and all with a NUL behind; NULL: none */
	bool is_grpc;                   /* our own answers are gRPC's */
	bool trailer_tells;             /* how the server does is told behind the body of its answer */
	uint64_t grpc_timeout_ms;       /* what it asks for; 0: absent */
	const char *own_body;           /* of a long answer of our own: what is left of it, in `table` */
	size_t own_body_left;
	bool is_preflight;              /* they are the answer */
	const struct route_target *target; /* of `route`: where it leads; NULL: to the service itself */
	uint64_t sent_us;               /* when the request's head had gone out */
	struct outcome outcome;
	uint8_t peer_addr[16], local_addr[16]; /* the client's end, and ours of the upstream connection; while there is an access log */
	uint16_t peer_port, local_port; /* 0: not known */

	/* the relay */
	struct pipe_pair *up, *down;
	bool up_shut, down_shut;
	bool posts;                     /* through a proxy that was asked by POST */
	bool is_tls;
	const struct service *by_address; /* of `table`: what it reached by the address alone; NULL: it has shown a name, or there is none */
	char shown[SLUICE_HOST_MAX];    /* Host or SNI of the last decision; of a plain TCP service its host */
};

struct timer_heap {
	struct conn **items; /* from 1 */
	size_t count, capacity;
};

/* One writer, read by the main thread while it counts. */
static inline void tally(__u64 *counter, __u64 n)
{
	__atomic_store_n(counter, *counter + n, __ATOMIC_RELAXED);
}

#define DECISION_SLOTS 256
#define QUESTION_SLOTS 64

/* About a name that a client showed (directory.h). */
struct question {
	uint32_t workload;
	char host[SLUICE_HOST_MAX];
};
#define LOG_LINES 4096 /* PIPE_BUF: what is written at once is not torn apart by others, nor cut */

struct worker {
	unsigned int index;
	pthread_t thread;
	sem_t runs; /* posted when the thread has begun */
	int epoll_fd, wake_fd;
	struct watch wake, supply_watch;
	int supply;                 /* -1: no loader */
	_Atomic int new_supply;     /* handed over by the main thread; -1: none */
	atomic_ulong seen;          /* epoch: nothing older is in this worker's hands */
	unsigned long epoch;        /* of `view` */
	uint64_t round;
	struct view *view;
	uint64_t now_ms, now_us;
	struct timer_heap timers;
	struct conn *conns, *closed, *free_conns, *ready;
	size_t descriptors, descriptor_limit; /* of connections, pools and pipes */
	bool paused;                /* not accepting: at the limit, or out of descriptors */
	size_t memory, memory_limit; /* of connections, sessions and their buffers; limit 0: none */
	uint64_t shed_ms;           /* when it was last said that some of it had to be given up */
	bool holds_back;            /* the listeners of some namespace */
	uint64_t held_back_ms;      /* when that was last said */
	uint64_t starved_ms;        /* when descriptors ran out; 0: there are some */
	uint64_t drained_ms;        /* when the first that drains has had its time; 0: none drains */
	struct buffer *free_small, *free_large;
	size_t free_large_count;
	struct pipe_pair *free_pipes;
	size_t free_pipe_count;
	struct pool *pools;
	struct queue pending, idle; /* those of bounded circuits: CONN_PENDING, and that have an idle upstream connection */
	atomic_uint lined_up;       /* in both */
	atomic_bool look_again;     /* set by whichever worker lets go of a connection */
	struct http_head head;      /* scratch: 6 KB that no connection needs to keep */
	uint64_t random;
	time_t date_second;
	char date[32];
	struct redirector_statistics statistics; /* written here, read racily by the main thread */
	char log_lines[LOG_LINES]; /* of this round */
	size_t log_length, log_count;
	bool log_is_torn; /* a part of a line was written, which has no end yet */
	struct flow_event decisions[DECISION_SLOTS];
	atomic_uint decision_head, decision_tail;
	uint64_t report_second;
	unsigned int reported;
	struct question questions[QUESTION_SLOTS];
	atomic_uint question_head, question_tail;
};

extern struct worker workers[MAX_WORKERS];
extern unsigned int worker_count;
extern int main_wake_fd;

int worker_init(struct worker *worker, unsigned int index, size_t descriptor_limit);
int worker_start(struct worker *worker); /* returns when the thread runs */
void worker_round(struct worker *worker, int patience_ms); /* waits at most that long; -1: as long as nothing happens */
void worker_wake(struct worker *worker);
void worker_ready(struct conn *conn); /* step it again in this round */
bool worker_may_accept(const struct worker *worker, const struct place *place);
void worker_hold_back(struct worker *worker, struct listener *listener); /* until it may accept again */
void worker_timer(struct conn *conn, uint64_t deadline_ms); /* 0: none */
void worker_read_clock(struct worker *worker); /* once a round, and where a few milliseconds matter */
uint64_t worker_random(struct worker *worker);
void worker_report(struct conn *conn, struct decision decision, const char *shown);
const char *worker_date(struct worker *worker);

void overload_check(struct worker *worker); /* between rounds: ends connections when memory is short */
size_t overload_limit(void); /* for all workers, before they are confined */

/* Buffers: NULL is an empty one. */
struct buffer *buffer_get(struct worker *worker, bool large);
void buffer_put(struct worker *worker, struct buffer **buffer);
void buffer_drop_if_empty(struct worker *worker, struct buffer **buffer);
/* Room for more at the end: moves the content down, or into a large buffer. False: it is full for good. */
bool buffer_make_room(struct worker *worker, struct buffer **buffer);
static inline uint32_t buffer_length(const struct buffer *buffer)
{
	return buffer ? buffer->end - buffer->start : 0;
}
static inline char *buffer_bytes(struct buffer *buffer)
{
	return buffer->bytes + buffer->start;
}

/* ---- connections ---- */

enum step { STEP_BLOCKED, STEP_ADVANCED };

void conn_accept(struct worker *worker, struct listener *listener);
void conn_adopt(struct worker *worker, int fd, struct place *place, const struct flow_record *record);
struct conn *conn_new(struct worker *worker, int client_fd); /* -1: mirrors and streams have none */
void conn_settle(struct conn *conn, struct place *place);
void conn_own(struct conn *owner, struct conn *conn);
void conn_orphan(struct conn *conn); /* what it owns */
void conn_event(struct conn *conn, bool upstream, uint32_t events);
void conn_run(struct conn *conn); /* until it is blocked or closed */
void conn_timeout(struct conn *conn);
void conn_close(struct conn *conn);
void conn_reset(struct conn *conn); /* RST to the client */
void conn_view_changed(struct conn *conn, bool rules_changed);
bool conn_still_allowed(struct conn *conn); /* by the newest table, or it drains; ends what is under way if not */
/* Reads into `buffer`. 1: bytes came; 0: none now; -1: end or error (end->eof is set; errno is 0 at a clean end). */
int end_read(struct worker *worker, struct end *end, struct buffer **buffer);
ssize_t end_send(struct end *end, const struct iovec *parts, size_t count); /* as sendmsg() */
/* Sends what is in `buffer`. 1: all is out; 0: `end` takes no more now; -1: broken. */
int end_write(struct end *end, struct buffer *buffer, __u64 *bytes);
void conn_begin_delay(struct conn *conn, uint64_t ms); /* an injected one */
void conn_end_delay(struct conn *conn);
/* Flags of the services at the dialled address: by its record, but no TCP service that `table` has not. */
uint32_t conn_flags_here(const struct conn *conn, const struct table *table, const struct rule_set *rules);
bool conn_decide(struct conn *conn); /* takes the table and rules for the next decision. False: there is none */
const char *conn_describe(const struct conn *conn, char *out, size_t room);
/* For the access log. `details`: what Envoy says of it, static; NULL: what is there stays. */
static inline void conn_note(struct conn *conn, uint32_t flags, const char *details)
{
	conn->outcome.flags |= flags;
	if (details)
		conn->outcome.details = details;
}

struct candidate {
	uint8_t addr[16];
	uint16_t port; /* 0: a Unix socket, and `addr` is its identity */
};

#define MAX_CANDIDATES 256

/* upstream.c: an upstream connection, from the choice of an address to CONN_EXCHANGE or CONN_RELAY. */
void upstream_begin(struct conn *conn, const struct service *service);
bool upstream_can_look_up(const char *shown); /* it is a name, and no address */
/* Whether the connection that `open` has is for `service` and, where that is what clients name, for whom conn's request is. */
bool upstream_serves(const struct conn *open, const struct conn *conn, const struct service *service);
enum step upstream_step(struct conn *conn);
void upstream_timeout(struct conn *conn);
void upstream_drop(struct conn *conn);
size_t upstream_addresses(const struct conn *conn, struct candidate *out); /* in the order of the draw, at most MAX_CANDIDATES */
bool upstream_suits(struct conn *conn); /* the kept connection may be used for the request, which is for conn->service */
void upstream_admitted(struct conn *conn, bool overflow); /* it was in line */
void upstream_share(struct conn *conn, bool is_first); /* it is in line: it leaves that if a session takes it */
void upstream_again(struct conn *conn, uint64_t wait_ms); /* another try for the same service, on a fresh connection */
void upstream_forget_waiting(struct conn *conn);
void queue_add(struct queue *queue, struct conn *conn);
void upstream_supplied(struct worker *worker);
void upstream_supply_lost(struct worker *worker);
void upstream_places_gone(struct worker *worker);

/* http.c */
bool http_draw(struct worker *worker, double percent); /* true for so many of a hundred */
void http_begin(struct conn *conn);
enum step http_step(struct conn *conn);
void http_connected(struct conn *conn);
const char *http_asked_host(const struct conn *conn); /* whom the request is for, as the server is told */
void http_timeout(struct conn *conn);
void http_start_timeout(struct conn *conn); /* once the whole request is here */
void http_route_timeout(struct conn *conn);
void http_start_try(struct conn *conn);   /* a connection is dialled or taken for it */
void http_try_timeout(struct conn *conn);
/*
 * After `happened` (enum retry_condition): another try, if the rule wants one and the request can be sent again; after a
 * while if `wait`. False: none.
 */
bool http_try_again(struct conn *conn, uint32_t happened, bool wait);
bool http_judge_again(struct conn *conn); /* false: there is no newer generation */
void http_revoke(struct conn *conn, struct decision decision, const struct rule_set *rules); /* `rules` forbid the request */
void http_answer(struct conn *conn, uint16_t status, const char *format, ...) __attribute__((format(printf, 3, 4)));
/* `failure`: what the kernel said of the connection, or NULL. */
void http_answer_overflow(struct conn *conn); /* a limit of connectionPool */
void http_answer_upstream(struct conn *conn, uint16_t status, const char *reason, const char *failure);

/* greeting.c: what an upstream connection begins with, by DestinationRule `proxyProtocol` and `tunnel`. */
bool greeting_proxy_header(struct conn *conn); /* false, and errno: it could not be sent */
void tunnel_begin(struct conn *conn);
enum tunnel_result { TUNNEL_AGAIN, TUNNEL_OPEN, TUNNEL_FAILED };
enum tunnel_result tunnel_step(struct conn *conn);

/* post_tunnel.c: what the client says as the body of a request, what it is told as that of the response; as relay.c's. */
int post_tunnel_up(struct conn *conn);
int post_tunnel_down(struct conn *conn);

/* relay.c */
#define RELAY_ROUNDS 16 /* then others have their turn */
void relay_begin(struct conn *conn);
enum step relay_step(struct conn *conn);
void relay_end(struct conn *conn); /* gives pipes back */

/* access_log.c. Each does nothing where there is no log, or none is due. */
void access_log_begin(struct conn *conn, bool is_request); /* a line will be due */
/* What the line wants of a head that is gone by then. `lines`, `extra`: what it is given, if it is sent on; else NULL. */
void access_log_request(struct conn *conn, const struct http_head *head, const char *lines, const char *extra);
void access_log_response(struct conn *conn, const struct http_head *head, const char *lines, const char *extra);
void access_log_connected(struct conn *conn); /* to an upstream */
void access_log_reset(struct conn *conn, const char *reason, const char *failure); /* it gave no answer */
void access_log_settle(struct conn *conn); /* the line needs its table no more */
void access_log_end(struct conn *conn); /* the line, if one is due */
void access_log_flush(struct worker *worker);

#define HELLO_TIMEOUT_MS 10000  /* an incomplete head or ClientHello */
#define SILENCE_MS 1000         /* a client that says nothing at all (DESIGN §6) */
#define NAME_TIMEOUT_MS 5000
#define IDLE_TIMEOUT_MS 3600000 /* Istio's idleTimeout default */
#define NEVER_MS UINT64_MAX
#define LINGER_TIMEOUT_MS 2000
#define MAX_TRIES 3             /* Istio's default: 2 retries of a failed connect */

#endif
