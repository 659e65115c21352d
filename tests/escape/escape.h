/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The escape suite: ways out of a pod. A method is one way; with an address family it is a row. Every row has a port
 * and every attempt a token of its own, so that a sniffer beyond the pod can tell which one got out. What a method
 * returns is never the verdict.
 */
#ifndef TESTS_ESCAPE_H
#define TESTS_ESCAPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <netinet/in.h>
#include <sys/types.h>

#include "../e2e/net.h"

#define TOKEN_MAGIC "Zq"
#define TOKEN_LENGTH 8 /* the smallest fragment carries 8 bytes */
#define FIRST_PORT 20000
#define UNREGISTERED_PORT 19999 /* echoes, and is not registered */
#define SERVER_PORT 7701 /* where rows serve, and tests/escape/run's remote peer asks every 100 ms */
#define REMOTE_PORT 7702 /* the remote peer's UDP port */

/* Added to the lab's internet by tests/escape/run. */
#define FORBIDDEN_V4 "203.0.113.66"
#define FORBIDDEN_V6 "2001:db8:113::66"
#define ALLOWED_V4 "203.0.113.67" /* registered at the ports of the rows that say so */
#define ALLOWED_V6 "2001:db8:113::67"
#define NAMED_V4 "203.0.113.68" /* registered by name: allowed.example.com, HTTP on 80 and TLS on 443 */
#define NAMED_V6 "2001:db8:113::68"
#define ALLOWED_NAME "allowed.example.com"

enum family { V4 = 1, V6 = 2, MAPPED = 4 };

enum method_flags {
	LEGIT = 1,      /* must work where the destination is allowed: it waits for the echo */
	REGISTERED = 2, /* uses the allowed address at its port as a decoy */
	TUPLE = 4,      /* any packet to the forbidden address and the row's port counts, token or not */
	MAY_LACK = 8,   /* the kernel or the lab may not have it; any other row must get out without sluice */
	AT_ATTACH = 16, /* prepared before sluice attaches, finished after */
	AT_POLICY = 32, /* prepared under ALLOW_ANY, finished under REGISTRY_ONLY */
	LIMIT = 64,     /* sluice cannot hold it, and says so; the row shows what still holds */
	HOLDS_PORT = 128, /* escaped if the method itself succeeds: nothing leaves the pod */
	ENFORCED_ONLY = 256, /* means nothing without sluice */
	DISRUPTIVE = 512,     /* takes the pod's network apart: has a pod of its own */
};

struct method;

struct context {
	const char *row;
	const struct method *method;
	enum family family;
	uint16_t port;
	char token[TOKEN_LENGTH + 1];
	struct endpoint to;    /* the destination on trial */
	struct endpoint decoy; /* the allowed address, same port */
	struct endpoint own;   /* the pod's address, port 0 */
	uint8_t own_mac[6], gateway_mac[6];
	unsigned eth0;
	double patience_ms;
	uint16_t source_port; /* of hand-made packets */
	const char *hold;     /* a file whose coming releases a prepared method */
	const char *step;     /* what failed */
	int result;           /* of run */
};

struct method {
	const char *name;
	const char *what;
	const char *needs; /* what the pod must be given for it, beyond an ordinary process */
	unsigned families;
	unsigned flags;
	/* 1: an echo came back; 0: sent, nobody answered; -errno: c->step failed. */
	int (*run)(struct context *c);
	void (*undo)(struct context *c); /* by the parent, also when run was killed */
	int variant;
};

extern const struct method tcp_methods[], udp_methods[], uring_methods[], raw_methods[], fragment_methods[], reflect_methods[],
	packet_methods[], device_methods[], rewrite_methods[], identity_methods[], prepared_methods[], inbound_methods[],
	redirector_methods[];

/* ---- common.c ---- */

int failed(struct context *c, const char *step);
int sh(const char *format, ...) __attribute__((format(printf, 1, 2)));
int write_file(const char *path, const char *text);
struct endpoint endpoint_at(const char *v4, const char *v6, const struct context *c, uint16_t port);
struct endpoint with_port(struct endpoint e, uint16_t port);
const char *address_of(const struct endpoint *e); /* a ring of static buffers */
int socket_for(const struct context *c, int type, int protocol);
int dial(struct context *c, int fd, const struct endpoint *to);
int tell(struct context *c, int fd);                                /* send the token, wait for its echo */
int tell_to(struct context *c, int fd, const struct endpoint *to); /* the same with sendto */
int await_echo(struct context *c, int fd);
int tcp_to(struct context *c, const struct endpoint *to);
int udp_to(struct context *c, const struct endpoint *to);
void await_release(struct context *c); /* of a prepared method; returns at once where nothing is held */
void pause_ms(int ms);
void close_hard(int fd); /* with RST: nothing of a row is left to speak later */

/* ---- build.c: packets by hand ---- */

struct packet {
	uint8_t protocol;     /* of the transport; 0 means UDP */
	const char *source;   /* NULL: the pod's own */
	const char *destination; /* NULL: c->to */
	uint16_t source_port, destination_port; /* 0: the row's */
	uint8_t tcp_flags;
	uint32_t sequence, acknowledgment;
	const void *options;  /* IPv4 options or IPv6 extension headers */
	size_t options_length;
	uint8_t first_extension; /* protocol number of the first extension header */
	const void *payload;  /* NULL: the token */
	size_t payload_length;
	bool no_payload;
	uint8_t icmp_type, icmp_code;
};

enum { TCP_FIN = 1, TCP_SYN = 2, TCP_RST = 4, TCP_PSH = 8, TCP_ACK = 16 };

size_t build(const struct context *c, const struct packet *p, uint8_t *out);
size_t build_transport(const struct context *c, const struct packet *p, uint8_t *out);
uint16_t internet_checksum(const void *data, size_t length, uint32_t sum);
bool is_v6(const struct context *c);
const void *address_bytes(const struct endpoint *e);

enum via { VIA_RAW, VIA_PACKET };

int inject(struct context *c, enum via via, const uint8_t *packet, size_t length);
int inject_to(struct context *c, enum via via, const struct endpoint *route_to, const uint8_t *packet, size_t length);
int shoot(struct context *c, enum via via, const struct packet *p);

int tun_open(struct context *c, bool tap); /* packet.c: a device that is up, in a forwarding pod */

/* ---- nested.c: a network namespace behind the pod ---- */

pid_t nest(struct context *c, bool stranger); /* a process with a namespace of its own, ends with its parent */
int nest_veth(struct context *c, pid_t nested, const char *inner_v4, const char *inner_v6);
int nested_send(struct context *c, pid_t nested, const struct endpoint *to, int type); /* SOCK_PACKET: a frame to c->to */
void nested_end(struct context *c); /* an undo */
int join_outside(void); /* identity.c: out of the pod's cgroup */
void nested_name(const struct context *c, char name[16]);

/* ---- sniff.c, sink.c ---- */

int sniff_main(int argc, char **argv);
int sink_main(int argc, char **argv);
int remote_main(int argc, char **argv);
int donor_main(int argc, char **argv);
int ask_main(int argc, char **argv);

const struct method *method_at(size_t index); /* NULL beyond the last */
uint16_t port_of(size_t method, enum family family);

#endif
