/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the loader and the redirector say to each other, over Unix SOCK_SEQPACKET sockets that only they hold.
 * Each packet is one `struct message` followed by `length` bytes, with descriptors by SCM_RIGHTS. Both ends are
 * the same binary; MESSAGE_PROTOCOL guards against an upgrade in between. Host byte order.
 *
 * Two kinds of socket: the control socket (the redirector's main thread; one loader at a time), and one supply
 * socket per worker thread, on which that worker asks for upstream sockets and gets them.
 *
 * The redirector is started as `sluice redirector`: descriptor 3 is a *listening* SEQPACKET Unix socket on which it
 * accepts the loader (a restarted loader connects to it again by its path; a newer connection replaces the
 * older one). It has no other way in.
 */
#ifndef SLUICE_PROTOCOL_H
#define SLUICE_PROTOCOL_H

#include "abi.h"

#define MESSAGE_PROTOCOL 4
#define MESSAGE_MAX_BYTES 4096 /* payload; larger things travel as a memfd */
#define MESSAGE_MAX_FDS 64
#define REDIRECTOR_LISTEN_FD 3

enum message_type {
	/* control, loader → redirector */
	MESSAGE_HELLO = 1,      /* payload: struct hello. Answered by HELLO_ANSWER, then one LISTENER per listener held */
	MESSAGE_SUPPLY,         /* fds: one supply socket for each worker (as many as HELLO_ANSWER.workers) */
	MESSAGE_TABLE,          /* generation; fd: sealed memfd of config_source_pack(), and that of its access log if it
	                         * has one. Answered by TABLE_ANSWER */
	MESSAGE_WORKLOAD,       /* payload: struct workload_message */
	MESSAGE_WORKLOAD_GONE,  /* payload: u32 workload: close its idle upstream sockets, forget it */
	MESSAGE_LISTENER,       /* payload: struct listener_message; fd: the listening socket. Both directions */
	MESSAGE_LISTENER_GONE,  /* payload: struct listener_message: close listeners and connections of that netns */
	MESSAGE_NAME,           /* payload: struct name_message, then count * 16 bytes, then the host and a NUL */
	MESSAGE_QUIT,           /* close everything and exit */
	MESSAGE_ASKED_NAME,     /* as NAME, of a name that clients show: the answer to ASK, and again when it changes */
	MESSAGE_ASKED_NAME_GONE,/* payload: the host and a NUL: it was forgotten, and is to be asked for anew */
	/* control, redirector → loader */
	MESSAGE_HELLO_ANSWER = 64, /* payload: struct hello_answer */
	MESSAGE_HELLO_DONE,        /* after the last LISTENER */
	MESSAGE_TABLE_ANSWER,      /* generation; payload: error text, empty when accepted */
	MESSAGE_DECISION,          /* payload: struct flow_event (seq and time unset), rate-limited by the redirector */
	MESSAGE_STATISTICS,        /* payload: struct redirector_statistics, every second: the sign of life, too */
	MESSAGE_ASK,               /* payload: struct ask_message, then the host and a NUL. Of each name one at a time,
	                            * until it is answered; then again every few seconds while it is in use */
	/* supply */
	MESSAGE_WANT = 128,        /* worker → loader; payload: struct want */
	MESSAGE_SOCKETS,           /* loader → worker; payload: struct want (count as given); fds: the sockets.
	                            * No fds: none can be made (the netns or workload is gone, or `error`) */
};

struct message {
	__u32 type;   /* enum message_type */
	__u32 length; /* bytes of payload that follow */
	__u64 generation;
};

struct hello {
	__u32 protocol; /* MESSAGE_PROTOCOL */
	__u16 redirector_port;
	__u16 pad;
	char root_namespace[SLUICE_HOST_MAX];
	char log_level[16];
	__u32 log_json;
};

struct hello_answer {
	__u32 protocol;
	__u32 workers;
	__u64 generation; /* the newest table it has; 0: none */
};

struct workload_message {
	__u32 workload;
	__u32 label_count;
	/* then NUL-terminated strings: namespace, name, key, value, key, value, ... */
};

struct listener_message {
	__u64 netns;  /* cookie */
	__u8 is_v6;
	__u8 pad[7];
};

enum name_failure { NAME_NOT_FAILED = 0, NAME_HAS_NONE = 1, NAME_REFUSED = 2 /* the loader has no room for it */ };

struct name_message {
	__u32 count;  /* addresses, 16 canonical bytes each; 0: no address is known (any more) */
	__u32 failed; /* enum name_failure; NOT_FAILED with count 0: not asked yet */
};

enum ask_flags { ASK_ANSWER = 1 << 0, /* it is not known here */ ASK_HELD = 1 << 1 /* a connection is open */ };

/* A name that a client showed, which a service of resolution DYNAMIC_DNS covers for its workload. */
struct ask_message {
	__u32 workload;
	__u32 flags; /* enum ask_flags */
};

/* Upstream sockets: AF_INET6 and not v6-only (v4 is dialled as ::ffff:a.b.c.d), or AF_INET where a kernel has no IPv6.
 * Non-blocking, close-on-exec, made in `netns`, marked MARK_UPSTREAM with `workload`.
 *
 * Or connections to a Unix socket that a policy names. The loader makes them: a path is not for the redirector to say, and one
 * that has an unconnected socket could reach whatever is nobody's to write. */
struct want {
	__u64 netns;
	__u32 workload;
	__u32 count; /* at most MESSAGE_MAX_FDS */
	__u8 socket[16]; /* socket_identity() of the Unix socket; zeroes: not one */
	__u32 error;     /* of an answer with fewer connections than were wanted: errno of the next; EAGAIN: its backlog is full */
	__u32 pad;
};

struct redirector_statistics {
	__u64 connections_open;
	__u64 connections_total;
	__u64 connections_refused; /* at the bound, or without a record */
	__u64 connections_shed; /* and streams: for want of memory */
	__u64 requests_total;
	__u64 responses_local_4xx;
	__u64 responses_local_502;
	__u64 responses_local_503;
	__u64 responses_local_504;
	__u64 tls_relayed;
	__u64 tls_refused;
	__u64 delays_active;
	__u64 delays_total;
	__u64 mirrors_total;
	__u64 mirrors_dropped; /* too long a body, too many connections, or nowhere to go */
	__u64 aborts_total;
	__u64 upstream_connect_failures;
	__u64 overflows_total; /* requests and connections that a limit of connectionPool refused */
	__u64 ejections_total; /* of addresses, by outlierDetection */
	__u64 bytes_to_upstream;
	__u64 bytes_to_client;
	__u64 names_asked;   /* questions of clients about names below wildcards */
	__u64 names_refused; /* and those that were one too many */
	__u64 decisions_lost; /* DECISION messages not sent because of the rate limit */
	__u64 access_log_lost; /* lines that could not be written at once */
};

#endif
