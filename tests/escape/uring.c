// SPDX-License-Identifier: Apache-2.0
/* io_uring, by its system calls. */
#include <fcntl.h>
#include <linux/io_uring.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include "escape.h"

struct ring {
	int fd;
	bool polled; /* a kernel thread submits */
	unsigned *sq_tail, *sq_mask, *sq_array, *sq_flags, *cq_head, *cq_tail, *cq_mask;
	struct io_uring_sqe *sqes;
	struct io_uring_cqe *cqes;
};

static int ring_open(struct ring *r, bool polled)
{
	struct io_uring_params p = {.flags = polled ? IORING_SETUP_SQPOLL : 0, .sq_thread_idle = 500};
	uint8_t *sq, *cq;

	r->polled = polled;
	r->fd = (int)syscall(SYS_io_uring_setup, 8, &p);
	if (r->fd < 0)
		return -errno;
	sq = mmap(NULL, p.sq_off.array + p.sq_entries * 4, PROT_READ | PROT_WRITE, MAP_SHARED, r->fd, IORING_OFF_SQ_RING);
	cq = mmap(NULL, p.cq_off.cqes + p.cq_entries * sizeof(*r->cqes), PROT_READ | PROT_WRITE, MAP_SHARED, r->fd, IORING_OFF_CQ_RING);
	r->sqes = mmap(NULL, p.sq_entries * sizeof(*r->sqes), PROT_READ | PROT_WRITE, MAP_SHARED, r->fd, IORING_OFF_SQES);
	if (sq == MAP_FAILED || cq == MAP_FAILED || r->sqes == MAP_FAILED)
		return -errno;
	r->sq_tail = (unsigned *)(sq + p.sq_off.tail);
	r->sq_mask = (unsigned *)(sq + p.sq_off.ring_mask);
	r->sq_flags = (unsigned *)(sq + p.sq_off.flags);
	r->sq_array = (unsigned *)(sq + p.sq_off.array);
	r->cq_head = (unsigned *)(cq + p.cq_off.head);
	r->cq_tail = (unsigned *)(cq + p.cq_off.tail);
	r->cq_mask = (unsigned *)(cq + p.cq_off.ring_mask);
	r->cqes = (struct io_uring_cqe *)(cq + p.cq_off.cqes);
	return 0;
}

/* Submits one operation and waits for its result. */
static int ring_do(struct ring *r, const struct io_uring_sqe *sqe, double patience_ms)
{
	unsigned tail = *r->sq_tail, slot = tail & *r->sq_mask, head = *r->cq_head;
	double deadline = now_ms() + patience_ms;
	int result;

	r->sqes[slot] = *sqe;
	r->sq_array[slot] = slot;
	__atomic_store_n(r->sq_tail, tail + 1, __ATOMIC_SEQ_CST);
	if (!r->polled)
		syscall(SYS_io_uring_enter, r->fd, 1, 0, 0, NULL, 0);
	else if (__atomic_load_n(r->sq_flags, __ATOMIC_SEQ_CST) & IORING_SQ_NEED_WAKEUP)
		syscall(SYS_io_uring_enter, r->fd, 1, 0, IORING_ENTER_SQ_WAKEUP, NULL, 0);
	while (head == __atomic_load_n(r->cq_tail, __ATOMIC_ACQUIRE)) {
		if (now_ms() > deadline)
			return -ETIMEDOUT;
		pause_ms(1);
	}
	result = r->cqes[head & *r->cq_mask].res;
	__atomic_store_n(r->cq_head, head + 1, __ATOMIC_RELEASE);
	return result;
}

static int result_of(struct context *c, int result, const char *step)
{
	errno = -result;
	return result < 0 ? failed(c, step) : result;
}

static int uring_connect(struct context *c)
{
	int fd = socket_for(c, SOCK_STREAM, 0), result;
	struct io_uring_sqe connect_it = {.opcode = IORING_OP_CONNECT, .fd = fd, .addr = (uintptr_t)&c->to.addr, .off = c->to.length};
	struct io_uring_sqe send_it = {.opcode = IORING_OP_SEND, .fd = fd, .addr = (uintptr_t)c->token, .len = TOKEN_LENGTH,
				       .msg_flags = MSG_NOSIGNAL};
	struct ring r;

	result = ring_open(&r, c->method->variant);
	if (fd < 0 || result < 0)
		return result_of(c, result, "io_uring_setup");
	result = result_of(c, ring_do(&r, &connect_it, c->patience_ms), "IORING_OP_CONNECT");
	if (result == 0)
		result = result_of(c, ring_do(&r, &send_it, c->patience_ms), "IORING_OP_SEND");
	if (result >= 0)
		result = await_echo(c, fd);
	close_hard(fd);
	return result;
}

static int uring_datagram(struct context *c)
{
	int fd = socket_for(c, SOCK_DGRAM, 0), result;
	struct iovec data = {c->token, TOKEN_LENGTH};
	struct msghdr message = {.msg_name = &c->to.addr, .msg_namelen = c->to.length, .msg_iov = &data, .msg_iovlen = 1};
	struct io_uring_sqe by_message = {.opcode = IORING_OP_SENDMSG, .fd = fd, .addr = (uintptr_t)&message};
	struct io_uring_sqe by_address = {.opcode = IORING_OP_SEND_ZC, .fd = fd, .addr = (uintptr_t)c->token, .len = TOKEN_LENGTH,
					  .addr2 = (uintptr_t)&c->to.addr, .addr_len = (uint16_t)c->to.length};
	int variant = c->method->variant;
	struct ring r;

	result = ring_open(&r, variant == 1);
	if (fd < 0 || result < 0)
		return result_of(c, result, "io_uring_setup");
	result = ring_do(&r, variant == 2 ? &by_address : &by_message, c->patience_ms);
	result = result_of(c, result, variant == 2 ? "IORING_OP_SEND_ZC" : "IORING_OP_SENDMSG");
	if (result >= 0)
		result = await_echo(c, fd);
	close(fd);
	return result;
}

/* Also the socket is made by the ring. */
static int uring_socket(struct context *c)
{
	struct io_uring_sqe make = {.opcode = IORING_OP_SOCKET, .fd = is_v6(c) ? AF_INET6 : AF_INET, .off = SOCK_STREAM};
	struct io_uring_sqe connect_it = {.opcode = IORING_OP_CONNECT, .addr = (uintptr_t)&c->to.addr, .off = c->to.length};
	struct ring r;
	int fd, result = ring_open(&r, true);

	if (result < 0)
		return result_of(c, result, "io_uring_setup");
	fd = ring_do(&r, &make, c->patience_ms);
	if (fd < 0)
		return result_of(c, fd, "IORING_OP_SOCKET");
	connect_it.fd = fd;
	result = result_of(c, ring_do(&r, &connect_it, c->patience_ms), "IORING_OP_CONNECT");
	if (result == 0)
		result = tell(c, fd);
	close_hard(fd);
	return result;
}

const struct method uring_methods[] = {
	{"uring-connect", "io_uring connect", "", V4 | V6, LEGIT | TUPLE | MAY_LACK, uring_connect, NULL, 0},
	{"uring-connect-sqpoll", "io_uring connect, submitted by a kernel thread", "", V4 | V6, LEGIT | TUPLE | MAY_LACK, uring_connect, NULL, 1},
	{"uring-socket-sqpoll", "io_uring socket and connect, by a kernel thread", "", V4 | V6, LEGIT | TUPLE | MAY_LACK, uring_socket, NULL, 0},
	{"uring-sendmsg", "io_uring sendmsg (UDP)", "", V4 | V6, LEGIT | TUPLE | MAY_LACK, uring_datagram, NULL, 0},
	{"uring-sendmsg-sqpoll", "io_uring sendmsg (UDP), by a kernel thread", "", V4 | V6, LEGIT | TUPLE | MAY_LACK, uring_datagram, NULL, 1},
	{"uring-send-zc", "io_uring send_zc with an address (UDP)", "", V4 | V6, LEGIT | TUPLE | MAY_LACK, uring_datagram, NULL, 2},
	{0},
};
