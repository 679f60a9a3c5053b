/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Copying to and from guest memory: through the mapping where there is one,
 * by DMA_READ and DMA_WRITE where there is none. One message DMA at a time.
 */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "server/server.h"

#define NS_PER_MS UINT64_C(1000000)
/* Replies that need no allocation. */
#define SMALL 4352

/* Milliseconds until @deadline, rounded up; 0 when it has passed. */
static int ms_left(uint64_t deadline)
{
	uint64_t now = cleat_srv_now();

	if (now >= deadline)
		return 0;
	return (int)((deadline - now + NS_PER_MS - 1) / NS_PER_MS);
}

/* Ready for @events, -ETIMEDOUT, or -ENOTCONN when the main socket hung up. */
static int wait_twin(struct cleat_server *srv, short events, uint64_t deadline)
{
	struct pollfd pollers[2] = {
		{ .fd = srv->conn.twin, .events = events },
		{ .fd = srv->conn.fd, .events = POLLRDHUP },
	};
	int n, left;

	do {
		left = ms_left(deadline);
		if (!left)
			return -ETIMEDOUT;
		n = poll(pollers, 2, left);
	} while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	if (pollers[0].revents & events)
		return 0;
	if (pollers[0].revents || pollers[1].revents)
		return -ENOTCONN;
	return -ETIMEDOUT;
}

static int send_twin(struct cleat_server *srv, struct iovec *iov,
		     unsigned n_iov, uint64_t deadline)
{
	while (n_iov) {
		ssize_t n = cleat_wire_send(srv->conn.twin, iov, n_iov, NULL,
					    0, MSG_DONTWAIT);
		int err = n == -EAGAIN ? wait_twin(srv, POLLOUT, deadline) : 0;

		if (err)
			return err;
		if (n < 0 && n != -EAGAIN)
			return (int)n;
		if (n > 0)
			n_iov = cleat_iov_advance(&iov, n_iov, (size_t)n);
	}
	return 0;
}

/* The reply to the wait that is under way, into it. */
static int take_reply(struct cleat_srv_wait *wait,
		      const struct cleat_srv_msg *msg)
{
	struct cleat_wire_dma dma = { 0 };
	int err = cleat_header_error(&msg->header);

	wait->done = true;
	wait->result = err;
	if (err)
		return 0;
	/* The specification prints a count of four bytes with a write. */
	if (msg->length < sizeof(dma.address) + sizeof(uint32_t))
		return -EPROTO;
	memcpy(&dma, msg->body,
	       msg->length < sizeof(dma) ? msg->length : sizeof(dma));
	if (dma.address != wait->address || dma.count > wait->count)
		return -EPROTO;
	if (wait->command == VFIO_USER_DMA_READ) {
		if (msg->length < sizeof(dma) ||
		    msg->length - sizeof(dma) != dma.count)
			return -EPROTO;
		memcpy(wait->buf, msg->body + sizeof(dma), dma.count);
	}
	wait->result = (int64_t)dma.count;
	return 0;
}

void cleat_srv_dma_reply(struct cleat_server *srv,
			 const struct cleat_srv_msg *msg)
{
	struct cleat_srv_conn *conn = &srv->conn;
	struct cleat_srv_wait *wait = &conn->wait;

	if (wait->active && !wait->done && conn->twin < 0 &&
	    msg->header.id == wait->id &&
	    msg->header.command == wait->command) {
		if (take_reply(wait, msg))
			conn->broken = 1;
	} else if (conn->stale) {
		/* Too late: nobody waits for it any more. */
		conn->stale--;
	} else {
		conn->broken = 1;
	}
}

/* Some more of the reply, of which @got bytes are there. */
static int receive_more(struct cleat_server *srv, uint8_t *buf, size_t room,
			size_t *got, uint64_t deadline)
{
	struct iovec iov = { buf + *got, room - *got };
	struct cleat_fds fds;
	int err = wait_twin(srv, POLLIN, deadline);
	ssize_t n;

	if (err)
		return err;
	n = cleat_wire_recv(srv->conn.twin, &iov, 1, &fds, MSG_DONTWAIT);
	if (n == -EAGAIN || n == -EINTR)
		return 0;
	if (n < 0)
		return (int)n;
	/* A DMA reply carries none. */
	cleat_fds_close(&fds);
	*got += (size_t)n;
	return 0;
}

/* The size of the message that has begun in @buf, of which @got bytes are
 * there; of a header if that is not whole. */
static ssize_t reply_size(const uint8_t *buf, size_t got, size_t room)
{
	struct cleat_header header;

	if (got < sizeof(header))
		return sizeof(header);
	memcpy(&header, buf, sizeof(header));
	if (cleat_header_check(&header) || header.size > room ||
	    (header.flags & CLEAT_HEADER_TYPE) != CLEAT_HEADER_REPLY)
		return -EPROTO;
	return header.size;
}

/* There is nothing but the one reply to come, and it is no longer than @room:
 * header and data are had by one call. */
static int receive_whole(struct cleat_server *srv, uint8_t *buf, size_t room,
			 uint64_t deadline)
{
	ssize_t size = sizeof(struct cleat_header);
	size_t got = 0;
	int err = 0;

	while (!err && (size < 0 || got < (size_t)size)) {
		err = receive_more(srv, buf, room, &got, deadline);
		size = reply_size(buf, got, room);
		if (!err && size < 0)
			err = (int)size;
	}
	return !err && got != (size_t)size ? -EPROTO : err;
}

static int receive_reply(struct cleat_server *srv, uint64_t deadline)
{
	struct cleat_srv_wait *wait = &srv->conn.wait;
	size_t room = sizeof(struct cleat_header) +
		      sizeof(struct cleat_wire_dma) +
		      (wait->command == VFIO_USER_DMA_READ ? wait->count : 0);
	struct cleat_srv_msg msg = { .body = NULL };
	uint8_t small[SMALL], *buf = small;
	int err;

	/* (an error's reply may echo more than it has to) */
	if (room > sizeof(small))
		buf = malloc(room);
	else
		room = sizeof(small);
	if (!buf)
		return -ENOMEM;
	err = receive_whole(srv, buf, room, deadline);
	if (!err) {
		memcpy(&msg.header, buf, sizeof(msg.header));
		msg.body = buf + sizeof(msg.header);
		msg.length = msg.header.size - sizeof(msg.header);
		err = msg.header.id == wait->id &&
				      msg.header.command == wait->command ?
			      take_reply(wait, &msg) :
			      -EPROTO;
	}
	if (buf != small)
		free(buf);
	return err;
}

static int wait_on_twin(struct cleat_server *srv, struct iovec *iov,
			unsigned n_iov, uint64_t deadline)
{
	struct cleat_srv_wait *wait = &srv->conn.wait;
	int err = send_twin(srv, iov, n_iov, deadline);

	while (!wait->done && !err)
		err = receive_reply(srv, deadline);
	/* Half a message may be under way: nothing can follow that. */
	if (err)
		srv->conn.broken = 1;
	return err;
}

static int wait_main(struct cleat_server *srv, uint64_t deadline)
{
	struct pollfd poller = { .fd = srv->conn.fd, .events = POLLIN };
	int left = ms_left(deadline);
	int n;

	if (srv->conn.broken)
		return -ENOTCONN;
	if (cleat_srv_deferred_full(srv))
		return -EBUSY;
	if (!left)
		return -ETIMEDOUT;
	if (srv->conn.out)
		poller.events = POLLOUT;
	n = poll(&poller, 1, left);
	if (n < 0)
		return errno == EINTR ? 0 : -errno;
	if (srv->conn.out)
		cleat_srv_conn_flush(srv);
	else
		cleat_srv_conn_read(srv);
	return 0;
}

/* Other commands that come meanwhile are handled, or put aside. */
static int wait_on_main(struct cleat_server *srv, struct iovec *iov,
			unsigned n_iov, uint64_t deadline)
{
	int err = cleat_srv_conn_fork_input(srv);

	if (err)
		return err;
	srv->nested = true;
	cleat_srv_conn_send(srv, iov, n_iov, NULL, 0);
	/*
	 * What came right behind the reply to the DMA before this one is in the
	 * buffer, and no event will tell of it. The client may be unable to
	 * answer before it is served.
	 */
	cleat_srv_conn_resume(srv);
	while (!srv->conn.wait.done && !err)
		err = wait_main(srv, deadline);
	srv->nested = false;
	if (err == -ETIMEDOUT || err == -EBUSY)
		srv->conn.stale++;
	return err;
}

static int64_t transact(struct cleat_server *srv, uint16_t command,
			uint64_t address, void *buf, size_t count)
{
	struct cleat_srv_conn *conn = &srv->conn;
	struct cleat_header header = { .id = conn->next_id++,
				       .command = command };
	struct cleat_wire_dma dma = { address, count };
	struct iovec iov[3] = { { &header, sizeof(header) },
				{ &dma, sizeof(dma) },
				{ buf, count } };
	unsigned n_iov = command == VFIO_USER_DMA_WRITE ? 3 : 2;
	uint64_t deadline = cleat_srv_now() +
			    srv->config.dma_timeout_ms * NS_PER_MS;
	int err;

	header.size = (uint32_t)(sizeof(header) + sizeof(dma) +
				 (n_iov == 3 ? count : 0));
	conn->wait = (struct cleat_srv_wait){
		.active = true,
		.id = header.id,
		.command = command,
		.address = address,
		.count = count,
		.buf = buf,
	};
	if (conn->twin >= 0)
		err = wait_on_twin(srv, iov, n_iov, deadline);
	else
		err = wait_on_main(srv, iov, n_iov, deadline);
	conn->wait.active = false;
	return err ? err : conn->wait.result;
}

static int64_t by_message(struct cleat_server *srv, uint64_t iova, void *buf,
			  size_t count, bool write)
{
	struct cleat_srv_conn *conn = &srv->conn;
	int64_t done;

	if (!conn->ready || conn->broken)
		return -ENOTCONN;
	if (conn->wait.active)
		return -EBUSY;
	if (count > conn->peer_xfer)
		count = conn->peer_xfer;
	if (count > CLEAT_MAX_TRANSFER)
		count = CLEAT_MAX_TRANSFER;
	if (write)
		srv->stats.dma_writes++;
	else
		srv->stats.dma_reads++;
	done = transact(srv, write ? VFIO_USER_DMA_WRITE : VFIO_USER_DMA_READ,
			iova, buf, count);
	/* A short transfer is one; one of nothing would go on for ever. */
	return done ? done : -EIO;
}

static int64_t transfer_part(struct cleat_server *srv, uint64_t iova,
			     uint8_t *buf, size_t count, bool write)
{
	struct cleat_srv_range *range = cleat_srv_range(srv, iova);
	uint64_t skip;

	if (!range)
		return -ENOENT;
	if (!(range->rights & (write ? CLEAT_WRITE : CLEAT_READ)))
		return -EACCES;
	skip = iova - range->iova;
	if (count > range->length - skip)
		count = range->length - skip;
	if (!range->host)
		return by_message(srv, iova, buf, count, write);
	memcpy(write ? range->host + skip : buf,
	       write ? buf : range->host + skip, count);
	return (int64_t)count;
}

static int transfer(struct cleat_server *srv, uint64_t iova, void *buf,
		    size_t count, bool write)
{
	uint8_t *at = buf;

	if (count && iova + count - 1 < iova)
		return -EINVAL;
	while (count) {
		int64_t done = transfer_part(srv, iova, at, count, write);

		if (done < 0)
			return (int)done;
		if (write)
			cleat_server_dma_dirty(srv, iova, (uint64_t)done);
		iova += (uint64_t)done;
		at += done;
		count -= (size_t)done;
	}
	return 0;
}

int cleat_server_dma_read(struct cleat_server *srv, uint64_t iova, void *buf,
			  size_t count)
{
	return transfer(srv, iova, buf, count, false);
}

int cleat_server_dma_write(struct cleat_server *srv, uint64_t iova,
			   const void *buf, size_t count)
{
	return transfer(srv, iova, (void *)buf, count, true);
}
