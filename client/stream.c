/* SPDX-License-Identifier: BSD-2-Clause */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "client/engine.h"

int cleat_stream_init(struct cleat_stream *stream, int fd)
{
	stream->rx = malloc(CLEAT_RX_BYTES);
	if (!stream->rx)
		return -ENOMEM;
	stream->fd = fd;
	return 0;
}

static void drop_fds(struct cleat_rx_fds *rx)
{
	if (rx)
		cleat_fds_close(&rx->fds);
	free(rx);
}

void cleat_stream_destroy(struct cleat_stream *stream)
{
	while (stream->out) {
		struct cleat_packet *packet = stream->out;

		stream->out = packet->next;
		free(packet);
	}
	stream->out_tail = &stream->out;
	stream->out_bytes = 0;
	while (stream->fds) {
		struct cleat_rx_fds *rx = stream->fds;

		stream->fds = rx->next;
		drop_fds(rx);
	}
	free(stream->body);
	stream->body = NULL;
	free(stream->rx);
	stream->rx = NULL;
	cleat_close(&stream->fd);
}

static int broken(struct cleat_device *dev, const char *why)
{
	cleat_device_fail(dev, -EPROTO, "the server broke the protocol: %s",
			  why);
	return -EPROTO;
}

/*
 * The kernel stops a read after the piece that carries descriptors, and they
 * ride on the first byte of their message. So they belong to the last message
 * begun in the read of [@from, end).
 */
static int place_fds(struct cleat_device *dev, struct cleat_stream *stream,
		     struct cleat_fds *fds, size_t from)
{
	struct cleat_rx_fds **tail = &stream->fds, *rx;
	struct cleat_header header;
	size_t at = stream->start;

	while (stream->end - at >= sizeof(header)) {
		memcpy(&header, stream->rx + at, sizeof(header));
		if (header.size < sizeof(header) ||
		    header.size >= stream->end - at)
			break;
		at += header.size;
	}
	rx = at < from ? NULL : malloc(sizeof(*rx));
	if (!rx) {
		cleat_fds_close(fds);
		return broken(dev, "descriptors in the middle of a message");
	}
	rx->next = NULL;
	rx->at = at;
	rx->fds = *fds;
	while (*tail)
		tail = &(*tail)->next;
	*tail = rx;
	return 0;
}

/* Where the rest of the large message under way goes. */
static unsigned body_iov(struct cleat_stream *stream, struct iovec *iov)
{
	size_t got = stream->body_got, left = stream->body_size - got;
	struct cleat_call *call;

	if (stream->body_mode == CLEAT_BODY_DRAIN) {
		iov[0].iov_base = stream->rx;
		iov[0].iov_len = left < CLEAT_RX_BYTES ? left : CLEAT_RX_BYTES;
		return 1;
	}
	if (stream->body_mode == CLEAT_BODY_ALLOCATED) {
		iov[0] = (struct iovec){ stream->body + got, left };
		return 1;
	}
	call = stream->body_slot->call;
	if (got >= call->reply_size) {
		iov[0].iov_base =
			(uint8_t *)call->reply_data + (got - call->reply_size);
		iov[0].iov_len = left;
		return 1;
	}
	iov[0] = (struct iovec){ (uint8_t *)call->reply + got,
				 call->reply_size - got };
	if (iov[0].iov_len >= left) {
		iov[0].iov_len = left;
		return 1;
	}
	iov[1] = (struct iovec){ call->reply_data, left - iov[0].iov_len };
	return 2;
}

/* The descriptors of the message that begins at @at, if it has any, for the
 * caller to drop. */
static struct cleat_rx_fds *fds_of(struct cleat_stream *stream, size_t at)
{
	struct cleat_rx_fds *rx = stream->fds;

	if (!rx || rx->at != at)
		return NULL;
	stream->fds = rx->next;
	return rx;
}

static void finish_body(struct cleat_device *dev, struct cleat_stream *stream)
{
	enum cleat_body_mode mode = stream->body_mode;
	struct cleat_slot *slot = stream->body_slot;
	struct cleat_rx_fds *rx = fds_of(stream, 0);
	struct cleat_fds *fds = rx ? &rx->fds : NULL;
	uint8_t *body = stream->body;

	stream->body_mode = CLEAT_BODY_NONE;
	stream->body_slot = NULL;
	stream->body = NULL;
	if (mode == CLEAT_BODY_DIRECT) {
		cleat_deliver_direct(dev, slot, stream->body_size, fds);
	} else if (slot) {
		cleat_deliver_body(dev, slot, &stream->body_header, body, fds);
	} else {
		cleat_deliver(dev, stream, &stream->body_header, body, fds);
		free(body);
	}
	drop_fds(rx);
}

static int receive_body(struct cleat_device *dev, struct cleat_stream *stream,
			int flags)
{
	struct iovec iov[2];
	struct cleat_fds fds;
	unsigned num = body_iov(stream, iov);
	ssize_t n = cleat_wire_recv(stream->fd, iov, num, &fds, flags);

	if (n < 0)
		return (int)n;
	if (fds.num) {
		cleat_fds_close(&fds);
		return broken(dev, "descriptors in the middle of a message");
	}
	stream->body_got += (size_t)n;
	if (stream->body_got == stream->body_size)
		finish_body(dev, stream);
	return 0;
}

/*
 * Decide where a large reply goes. Conn lock held. What the reply may carry was
 * set by the request: more than its room is refused before it costs anything.
 */
static int aim_reply(struct cleat_device *dev, struct cleat_stream *stream,
		     struct cleat_slot *self)
{
	const struct cleat_header *header = &stream->body_header;
	struct cleat_slot *slot = cleat_slot_of(dev, header->id);
	struct cleat_call *call;

	if (!slot || slot->command != header->command || stream != &dev->main)
		return -EPROTO;
	stream->body_slot = slot;
	call = slot->call;
	if (slot->state == CLEAT_SLOT_DEAD || cleat_header_error(header)) {
		stream->body_mode = CLEAT_BODY_DRAIN;
		return 0;
	}
	if (stream->body_size > call->reply_size + call->reply_data_size)
		return -EPROTO;
	stream->body_mode = slot == self && !(call->flags & CLEAT_CALL_PARK)
				    ? CLEAT_BODY_DIRECT
				    : CLEAT_BODY_ALLOCATED;
	return 0;
}

static bool is_reply(const struct cleat_header *header)
{
	return header->flags & (CLEAT_HEADER_TYPE | CLEAT_HEADER_ERROR);
}

/* Move what has come of a large message's body out of the buffer. */
static void begin_body_bytes(struct cleat_stream *stream)
{
	const uint8_t *from =
		stream->rx + stream->start + sizeof(struct cleat_header);
	size_t have = stream->end - stream->start - sizeof(struct cleat_header);
	struct iovec iov[2];

	/* (less than the body, or it would not be a large message) */
	if (stream->body_mode != CLEAT_BODY_DRAIN && have) {
		unsigned num = body_iov(stream, iov);
		size_t left = have;

		for (unsigned i = 0; i < num && left; i++) {
			size_t n =
				left < iov[i].iov_len ? left : iov[i].iov_len;

			memcpy(iov[i].iov_base, from, n);
			from += n;
			left -= n;
		}
	}
	stream->body_got = have;
	if (stream->fds)
		stream->fds->at = 0;
	stream->start = stream->end = 0;
}

/* A message that does not fit the buffer begins at @start. */
static int begin_body(struct cleat_device *dev, struct cleat_stream *stream,
		      const struct cleat_header *header,
		      struct cleat_slot *self)
{
	int err = 0;

	stream->body_header = *header;
	stream->body_size = header->size - sizeof(*header);
	stream->body_got = 0;
	stream->body_slot = NULL;
	stream->body_mode = CLEAT_BODY_ALLOCATED;
	if (is_reply(header)) {
		pthread_mutex_lock(&dev->lock);
		err = aim_reply(dev, stream, self);
		pthread_mutex_unlock(&dev->lock);
	}
	if (err) {
		stream->body_mode = CLEAT_BODY_NONE;
		return broken(dev, "a reply that nobody asked for");
	}
	if (stream->body_mode == CLEAT_BODY_ALLOCATED) {
		stream->body = malloc(stream->body_size);
		if (!stream->body) {
			cleat_device_fail(dev, -ENOMEM, "out of memory");
			return -ENOMEM;
		}
	}
	begin_body_bytes(stream);
	return 0;
}

/* Keep what has come of an unfinished message at the front. */
static void compact(struct cleat_stream *stream)
{
	size_t left = stream->end - stream->start;

	if (stream->start && left)
		memmove(stream->rx, stream->rx + stream->start, left);
	for (struct cleat_rx_fds *rx = stream->fds; rx; rx = rx->next)
		rx->at -= stream->start;
	stream->start = 0;
	stream->end = left;
}

/* Everything complete in the buffer. */
static int take_messages(struct cleat_device *dev, struct cleat_stream *stream,
			 struct cleat_slot *self)
{
	struct cleat_header header;

	while (stream->end - stream->start >= sizeof(header)) {
		const uint8_t *at = stream->rx + stream->start;
		struct cleat_rx_fds *rx;

		memcpy(&header, at, sizeof(header));
		if (cleat_header_check(&header))
			return broken(dev, "an impossible header");
		if (header.size > CLEAT_RX_BYTES)
			return begin_body(dev, stream, &header, self);
		if (header.size > stream->end - stream->start)
			break;
		rx = fds_of(stream, stream->start);
		cleat_deliver(dev, stream, &header, at + sizeof(header),
			      rx ? &rx->fds : NULL);
		drop_fds(rx);
		stream->start += header.size;
		if (dev->lost)
			return -ENOTCONN;
	}
	compact(stream);
	return 0;
}

static int receive_messages(struct cleat_device *dev,
			    struct cleat_stream *stream,
			    struct cleat_slot *self, int flags)
{
	struct iovec iov = { stream->rx + stream->end,
			     CLEAT_RX_BYTES - stream->end };
	size_t from = stream->end;
	struct cleat_fds fds;
	ssize_t n = cleat_wire_recv(stream->fd, &iov, 1, &fds, flags);
	int err;

	if (n < 0)
		return (int)n;
	stream->end += (size_t)n;
	if (fds.num) {
		err = place_fds(dev, stream, &fds, from);
		if (err)
			return err;
	}
	return take_messages(dev, stream, self);
}

int cleat_stream_receive(struct cleat_device *dev, struct cleat_stream *stream,
			 struct cleat_slot *self, int flags)
{
	int err;

	if (stream->body_mode != CLEAT_BODY_NONE)
		err = receive_body(dev, stream, flags);
	else
		err = receive_messages(dev, stream, self, flags);
	if (err == -EINTR)
		err = -EAGAIN;
	if (err == -ENOTCONN)
		cleat_device_fail(dev, err, "the server closed the connection");
	else if (err && err != -EAGAIN)
		cleat_device_fail(dev, err, "receiving failed: %s",
				  strerror(-err));
	return err;
}

void cleat_stream_leave(struct cleat_device *dev, struct cleat_stream *stream,
			struct cleat_slot *self)
{
	/*
	 * The leader gives its own reply up half-way: its buffers go with its
	 * stack frame, so the rest is read into nowhere, by whoever leads next.
	 */
	if (stream->body_mode == CLEAT_BODY_DIRECT && stream->body_slot == self)
		stream->body_mode = CLEAT_BODY_DRAIN;
}
