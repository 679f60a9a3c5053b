/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * One client's connection: bytes become messages, messages become bytes, and
 * nothing here waits. While a reply is stuck in a full socket no further
 * command is handled, so that a client which does not read costs one queued
 * message and no more.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "server/server.h"

#define INPUT_SIZE (64u * 1024)
#define READ_LEAST 4096u

static struct cleat_srv_input *new_input(size_t size)
{
	struct cleat_srv_input *in = malloc(sizeof(*in) + size);

	if (!in)
		return NULL;
	in->size = size;
	in->head = in->tail = 0;
	in->pinned = false;
	return in;
}

static void move_sets(struct cleat_srv_conn *conn, size_t by)
{
	for (unsigned i = 0; i < conn->n_sets; i++)
		conn->sets[i].at -= by;
}

/* Puts what is not consumed at the front of a buffer of @size bytes. */
static int rebuild_input(struct cleat_srv_conn *conn, size_t size)
{
	struct cleat_srv_input *old = conn->in, *in = new_input(size);

	if (!in)
		return -ENOMEM;
	in->tail = old->tail - old->head;
	memcpy(in->data, old->data + old->head, in->tail);
	move_sets(conn, old->head);
	conn->in = in;
	/* Else whoever pinned it frees it. */
	if (!old->pinned)
		free(old);
	return 0;
}

int cleat_srv_conn_fork_input(struct cleat_server *srv)
{
	struct cleat_srv_input *in = srv->conn.in;
	size_t left = in->tail - in->head;

	if (!in->pinned)
		return 0;
	return rebuild_input(&srv->conn, left + INPUT_SIZE);
}

static bool peek_header(const struct cleat_srv_input *in, size_t at,
			struct cleat_header *header)
{
	if (in->tail - at < sizeof(*header))
		return false;
	memcpy(header, in->data + at, sizeof(*header));
	return true;
}

/*
 * Bytes that the first message in the buffer needs, at least a header's. Nobody
 * has looked at it yet if no message could be handled when it came.
 */
static size_t first_size(const struct cleat_srv_input *in)
{
	struct cleat_header header;

	if (!peek_header(in, in->head, &header) || cleat_header_check(&header))
		return sizeof(header);
	return header.size;
}

/* Room to go on with the message that has begun. */
static int make_room(struct cleat_srv_conn *conn)
{
	struct cleat_srv_input *in = conn->in;
	size_t held = in->tail - in->head, size = first_size(in);
	size_t want = size > held ? size - held : 0;

	if (!held && !conn->n_sets)
		in->head = in->tail = 0;
	if (want < READ_LEAST)
		want = READ_LEAST;
	if (in->size - in->tail >= want)
		return 0;
	if (in->size - held < want)
		return rebuild_input(conn, held + want);
	memmove(in->data, in->data + in->head, held);
	move_sets(conn, in->head);
	in->head = 0;
	in->tail = held;
	return 0;
}

/*
 * Where the last message that has begun starts. The kernel ends a read behind
 * the piece that carried descriptors, and they ride on a message's first byte,
 * so they belong to that one.
 */
static size_t last_begun(const struct cleat_srv_input *in)
{
	struct cleat_header header;
	size_t at = in->head;

	while (peek_header(in, at, &header) && header.size >= sizeof(header) &&
	       header.size < in->tail - at)
		at += header.size;
	return at;
}

static int keep_fds(struct cleat_srv_conn *conn, struct cleat_fds *fds)
{
	struct cleat_srv_fds *set = &conn->sets[conn->n_sets];
	size_t at = last_begun(conn->in);

	/* Twice for one message, or with more than can have begun. */
	if (conn->n_sets == 2 || (conn->n_sets && set[-1].at == at)) {
		cleat_fds_close(fds);
		return -EPROTO;
	}
	set->at = at;
	set->fds = *fds;
	conn->n_sets++;
	return 0;
}

static void take_fds(struct cleat_srv_conn *conn, size_t at,
		     struct cleat_fds *fds)
{
	fds->num = 0;
	if (!conn->n_sets || conn->sets[0].at > at)
		return;
	*fds = conn->sets[0].fds;
	conn->sets[0] = conn->sets[1];
	conn->n_sets--;
}

static int receive(struct cleat_srv_conn *conn)
{
	struct cleat_fds fds;
	struct iovec iov;
	ssize_t n;
	int err = make_room(conn);

	if (err)
		return err;
	iov.iov_base = conn->in->data + conn->in->tail;
	iov.iov_len = conn->in->size - conn->in->tail;
	n = cleat_wire_recv(conn->fd, &iov, 1, &fds, MSG_DONTWAIT);
	if (n < 0)
		return n == -EINTR ? -EAGAIN : (int)n;
	conn->in->tail += (size_t)n;
	return fds.num ? keep_fds(conn, &fds) : 0;
}

/* The buffer's first message, if all of it is there: 1, 0, or -EPROTO. */
static int next_message(struct cleat_srv_conn *conn, struct cleat_srv_msg *msg)
{
	struct cleat_srv_input *in = conn->in;

	if (!peek_header(in, in->head, &msg->header))
		return 0;
	if (cleat_header_check(&msg->header))
		return -EPROTO;
	if (in->tail - in->head < msg->header.size)
		return 0;
	take_fds(conn, in->head, msg->fds);
	msg->body = in->data + in->head + sizeof(msg->header);
	msg->length = msg->header.size - sizeof(msg->header);
	in->head += msg->header.size;
	return 1;
}

/* The handler may read on, which gives the connection another buffer. */
static void handle_message(struct cleat_server *srv, struct cleat_srv_msg *msg)
{
	struct cleat_srv_input *in = srv->conn.in;

	in->pinned = true;
	cleat_srv_message(srv, msg);
	in->pinned = false;
	if (srv->conn.in != in)
		free(in);
}

/* What came behind the reply waited for is handled after the waiter. */
static bool may_handle(const struct cleat_server *srv)
{
	const struct cleat_srv_conn *conn = &srv->conn;

	if (conn->broken || conn->refused || conn->out)
		return false;
	return !srv->nested ||
	       (!conn->wait.done && !cleat_srv_deferred_full(srv));
}

static void handle_complete(struct cleat_server *srv)
{
	struct cleat_fds fds;
	struct cleat_srv_msg msg = { .fds = &fds };
	int more = 1;

	while (more > 0 && may_handle(srv)) {
		if (cleat_srv_has_deferred(srv)) {
			cleat_srv_run_deferred(srv);
			if (!may_handle(srv))
				return;
		}
		more = next_message(&srv->conn, &msg);
		if (more > 0)
			handle_message(srv, &msg);
	}
	if (more < 0)
		srv->conn.broken = 1;
}

void cleat_srv_conn_resume(struct cleat_server *srv)
{
	cleat_srv_run_deferred(srv);
	if (srv->conn.fd >= 0)
		handle_complete(srv);
}

int cleat_srv_conn_read(struct cleat_server *srv)
{
	int err;

	if (srv->conn.broken || srv->conn.out)
		return -EAGAIN;
	err = receive(&srv->conn);
	if (err == -EAGAIN)
		return err;
	if (err) {
		srv->conn.broken = 1;
		return err;
	}
	handle_complete(srv);
	if (srv->config.spin_us)
		srv->spin_until = CLEAT_SRV_SPIN_ANEW;
	return 0;
}

static void on_socket(void *opaque, int fd, uint32_t events)
{
	struct cleat_server *srv = opaque;

	if (srv->conn.writing)
		cleat_srv_conn_flush(srv);
	else
		cleat_srv_conn_read(srv);
}

static void want_writing(struct cleat_server *srv, bool writing)
{
	if (srv->conn.writing == writing)
		return;
	srv->conn.writing = writing;
	if (cleat_srv_watch_change(srv, srv->conn.fd,
				   writing ? EPOLLOUT : EPOLLIN))
		srv->conn.broken = 1;
}

/* Queue what is left of a message of which @sent bytes have gone. */
static int queue_rest(struct cleat_srv_conn *conn, const struct iovec *iov,
		      unsigned n_iov, size_t sent, const int *fds,
		      unsigned n_fds)
{
	struct cleat_srv_output *out;
	size_t length = 0;

	for (unsigned i = 0; i < n_iov; i++)
		length += iov[i].iov_len;
	out = malloc(sizeof(*out) + length);
	if (!out)
		return -ENOMEM;
	out->next = NULL;
	out->length = 0;
	for (unsigned i = 0; i < n_iov; i++) {
		memcpy(out->data + out->length, iov[i].iov_base,
		       iov[i].iov_len);
		out->length += iov[i].iov_len;
	}
	out->sent = 0;
	/* They went with the first byte. */
	out->n_fds = sent ? 0 : n_fds;
	if (out->n_fds)
		memcpy(out->fds, fds, n_fds * sizeof(*fds));
	*conn->out_end = out;
	conn->out_end = &out->next;
	return 0;
}

void cleat_srv_conn_send(struct cleat_server *srv, struct iovec *iov,
			 unsigned n_iov, const int *fds, unsigned n_fds)
{
	struct cleat_srv_conn *conn = &srv->conn;
	ssize_t sent = 0;

	if (conn->broken)
		return;
	if (!conn->out)
		sent = cleat_wire_send(conn->fd, iov, n_iov, fds, n_fds,
				       MSG_DONTWAIT);
	if (sent < 0 && sent != -EAGAIN) {
		conn->broken = 1;
		return;
	}
	if (sent < 0)
		sent = 0;
	n_iov = cleat_iov_advance(&iov, n_iov, (size_t)sent);
	if (!n_iov)
		return;
	if (queue_rest(conn, iov, n_iov, (size_t)sent, fds, n_fds))
		conn->broken = 1;
	else
		want_writing(srv, true);
}

/* 0 when the first queued message has gone. */
static int send_queued(struct cleat_srv_conn *conn)
{
	struct cleat_srv_output *out = conn->out;
	struct iovec iov = { out->data + out->sent, out->length - out->sent };
	ssize_t sent;

	sent = cleat_wire_send(conn->fd, &iov, 1, out->fds, out->n_fds,
			       MSG_DONTWAIT);
	if (sent < 0)
		return (int)sent;
	out->n_fds = 0;
	out->sent += (size_t)sent;
	if (out->sent < out->length)
		return -EAGAIN;
	conn->out = out->next;
	if (!conn->out)
		conn->out_end = &conn->out;
	free(out);
	return 0;
}

void cleat_srv_conn_flush(struct cleat_server *srv)
{
	struct cleat_srv_conn *conn = &srv->conn;
	int err = 0;

	while (conn->out && !conn->broken && !err)
		err = send_queued(conn);
	if (err && err != -EAGAIN)
		conn->broken = 1;
	if (conn->out || conn->broken)
		return;
	want_writing(srv, false);
	/* No event will tell of what is in the buffer already. */
	handle_complete(srv);
}

static bool passes_fds(int fd)
{
	int domain = 0;
	socklen_t length = sizeof(domain);

	return !getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &length) &&
	       domain == AF_UNIX;
}

int cleat_srv_conn_begin(struct cleat_server *srv, int fd)
{
	struct cleat_srv_conn *conn = &srv->conn;
	struct cleat_srv_input *in = new_input(INPUT_SIZE);
	int err;

	if (!in)
		return -ENOMEM;
	err = cleat_srv_watch_internal(srv, fd, EPOLLIN, on_socket, srv);
	if (err) {
		free(in);
		return err;
	}
	memset(conn, 0, sizeof(*conn));
	conn->fd = fd;
	conn->twin = -1;
	conn->pass_fds = passes_fds(fd);
	conn->since = cleat_srv_now();
	conn->in = in;
	conn->out_end = &conn->out;
	conn->deferred_end = &conn->deferred;
	conn->next_id = 1;
	srv->finished = false;
	cleat_srv_listen_pause(srv, true);
	return 0;
}

static void free_buffers(struct cleat_srv_conn *conn)
{
	struct cleat_srv_output *out, *next;

	for (out = conn->out; out; out = next) {
		next = out->next;
		free(out);
	}
	conn->out = NULL;
	for (unsigned i = 0; i < conn->n_sets; i++)
		cleat_fds_close(&conn->sets[i].fds);
	conn->n_sets = 0;
	free(conn->in);
	conn->in = NULL;
}

void cleat_srv_conn_end(struct cleat_server *srv)
{
	struct cleat_srv_conn *conn = &srv->conn;
	bool ready = conn->ready;

	if (conn->fd < 0)
		return;
	/* No callback below gets another message through. */
	conn->broken = 1;
	cleat_srv_drop_deferred(srv);
	cleat_srv_dma_forget(srv);
	cleat_srv_irqs_forget(srv);
	cleat_server_unwatch(srv, conn->fd);
	free_buffers(conn);
	cleat_close(&conn->twin);
	cleat_close(&conn->fd);
	conn->ready = false;
	conn->broken = 0;
	srv->spin_until = 0;
	cleat_srv_mig_reset(srv);
	if (ready && srv->ops.client_disconnected)
		srv->ops.client_disconnected(srv->opaque);
	cleat_srv_listen_pause(srv, false);
}

void cleat_server_disconnect(struct cleat_server *srv)
{
	/* Nothing would end it that nobody has begun. */
	if (srv->conn.fd >= 0)
		srv->conn.broken = 1;
}

bool cleat_server_connected(const struct cleat_server *srv)
{
	return srv->conn.ready && !srv->conn.broken;
}
