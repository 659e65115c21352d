/* SPDX-License-Identifier: Apache-2.0 */
/* Between the files of HTTP/2. */
#ifndef SLUICE_H2_INTERNAL_H
#define SLUICE_H2_INTERNAL_H

#include "redirect/h2.h"
#include "redirect/h2_fields.h"

#define H2_MAX_STREAMS 100
#define H2_STREAM_WINDOW (256 * 1024)
#define H2_SESSION_BYTES (32 * 1024) /* about what nghttp2 takes for one: frames, tables of fields */
#define H2_SESSION_WINDOW (1024 * 1024) /* what the streams of a session may hold in memory, together */

/* Content on its way, in large buffers. */
struct h2_queue {
	struct buffer *first, *last;
	size_t bytes;
};

struct h2_session {
	nghttp2_session *http2;
	struct conn *conn;         /* whose end it is spoken on */
	struct end *end;
	bool is_server;            /* the peer is a client */
	bool is_broken;            /* the peer broke the protocol: said once */
	bool leaves;               /* no new streams */
	uint32_t faults;           /* for which streams of the client's were reset, within: */
	uint64_t faults_ms;
	struct h2_stream *streams;
	size_t stream_count;
	uint32_t served;           /* streams that were begun */
	uint64_t wanted_ms;        /* since when others wait for its connection; 0: nobody does */
};

struct h2_stream {
	struct h2_stream *next, *previous; /* of the session's */
	struct worker *worker;
	struct h2_session *session; /* NULL: it is gone */
	struct conn *conn;          /* NULL: it was let go */
	struct end *end;            /* of `conn`, which this is */
	int32_t id;
	bool is_closed;             /* nghttp2 knows it no more */
	bool is_reset, is_refused;  /* by the peer, or with its session */
	bool is_malformed;          /* what the peer has sent */
	enum http_method method;    /* of the request */
	/* what comes: as HTTP/1.1 to the connection */
	struct h2_block block;
	struct buffer *head, *trailer;
	struct h2_queue content;
	enum http_framing framing;
	bool tells_length;          /* of a body that comes in chunks here: */
	uint64_t length;
	bool has_head, ended, is_whole; /* all came; all was handed out */
	uint16_t grpc_answer;       /* of its trailer, as http_status_of_grpc(); 0: there is none */
	/* what goes: HTTP/1.1 from the connection */
	struct http_body body;
	struct h2_queue out;
	struct buffer *out_trailer;
	bool head_sent, out_done;
};

/* h2_stream.c */
struct h2_stream *h2_stream_new(struct h2_session *session, int32_t id);
void h2_stream_free(struct h2_stream *stream);
void h2_stream_bind(struct h2_stream *stream, struct conn *conn, struct end *end);
void h2_stream_wake(struct h2_stream *stream); /* its connection looks at it again */
void h2_stream_received(struct h2_stream *stream, const uint8_t *bytes, size_t n);
ssize_t h2_stream_read(nghttp2_session *http2, int32_t id, uint8_t *out, size_t room, uint32_t *flags, nghttp2_data_source *source,
		       void *context); /* nghttp2_data_source_read_callback */
bool h2_queue_add(struct worker *worker, struct h2_queue *queue, const char *bytes, size_t n, size_t most);
size_t h2_queue_take(struct worker *worker, struct h2_queue *queue, char *out, size_t n);
void h2_queue_drop(struct worker *worker, struct h2_queue *queue);

/* h2_session.c */
struct h2_session *h2_session_new(struct conn *conn, struct end *end, bool is_server);
void h2_session_wake(struct h2_session *session); /* it has something to send */

/* h2_upstream.c */
void h2_session_idle(struct h2_session *session); /* with a server: its last stream has ended */

#endif
