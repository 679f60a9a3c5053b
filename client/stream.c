/* SPDX-License-Identifier: BSD-2-Clause */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "client/engine.h"

/* Messages looked at in one go: as many as the usual buffer can have. */
#define AT_ONCE (CLEAT_RX_BYTES / sizeof(struct cleat_header))

int cleat_stream_init(struct cleat_stream *stream, int fd)
{
	stream->rx = malloc(CLEAT_RX_BYTES);
	if (!stream->rx)
		return -ENOMEM;
	stream->rx_bytes = CLEAT_RX_BYTES;
	stream->fd = fd;
	return 0;
}

/* False if they are not of a kind that a server has a reason to send. */
static bool drop_fds(struct cleat_rx_fds *rx)
{
	bool plain = !rx || !cleat_fds_close(&rx->fds);

	free(rx);
	return plain;
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

/* They stay open until the server lets us close them: not one more. */
static void check_dropped(struct cleat_device *dev, bool plain)
{
	if (!plain)
		broken(dev, "files where none belong");
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
		iov[0].iov_len =
			left < stream->rx_bytes ? left : stream->rx_bytes;
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
		cleat_deliver_direct(dev, slot, &stream->body_header, fds);
	} else if (slot) {
		cleat_deliver_body(dev, slot, &stream->body_header, body, fds);
	} else {
		cleat_deliver(dev, stream, NULL, &stream->body_header, body,
			      fds);
		free(body);
	}
	check_dropped(dev, drop_fds(rx));
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
	struct cleat_slot *slot;
	struct cleat_call *call;

	/* (slots are for who reads the main socket to look at) */
	if (stream != &dev->main)
		return -ENOENT;
	slot = cleat_slot_of(dev, header->id);
	if (!slot || slot->command != header->command)
		return -ENOENT;
	stream->body_slot = slot;
	slot->arriving = true;
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

/* A message that does not fit the buffer begins at @start; it is not all there
 * yet. */
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
		cleat_refuse_reply(dev, header, err);
		return -EPROTO;
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
	if (stream->rx_bytes > CLEAT_RX_BYTES && left < CLEAT_RX_BYTES) {
		uint8_t *less = realloc(stream->rx, CLEAT_RX_BYTES);

		stream->rx = less ? less : stream->rx;
		stream->rx_bytes = CLEAT_RX_BYTES;
	}
}

/* Everything complete in the buffer, or so much that its reader has to look at
 * its deadline first. */
static int take_messages(struct cleat_device *dev, struct cleat_stream *stream,
			 struct cleat_slot *self)
{
	struct cleat_header header;
	unsigned taken = 0;

	while (stream->end - stream->start >= sizeof(header)) {
		const uint8_t *at = stream->rx + stream->start;
		struct cleat_rx_fds *rx;

		memcpy(&header, at, sizeof(header));
		if (cleat_header_check(&header))
			return broken(dev, "an impossible header");
		if (header.size > stream->end - stream->start) {
			if (header.size > CLEAT_RX_BYTES)
				return begin_body(dev, stream, &header, self);
			break;
		}
		rx = fds_of(stream, stream->start);
		cleat_deliver(dev, stream, self, &header, at + sizeof(header),
			      rx ? &rx->fds : NULL);
		check_dropped(dev, drop_fds(rx));
		stream->start += header.size;
		if (dev->lost)
			return -ENOTCONN;
		/* Each of them may ask for the largest reply there is. */
		stream->backlog = ++taken == AT_ONCE ||
				  cleat_outbox_state(dev, stream) > 0;
		if (stream->backlog)
			break;
	}
	compact(stream);
	return 0;
}

/* @n more bytes are in the buffer, and perhaps descriptors came with them. */
static int take_bytes(struct cleat_device *dev, struct cleat_stream *stream,
		      struct cleat_slot *self, size_t n, struct cleat_fds *fds)
{
	size_t from = stream->end;
	int err = 0;

	stream->end += n;
	if (fds->num)
		err = place_fds(dev, stream, fds, from);
	return err ? err : take_messages(dev, stream, self);
}

/* No more was read since they were left. */
static int take_backlog(struct cleat_device *dev, struct cleat_stream *stream,
			struct cleat_slot *self)
{
	if (cleat_outbox_state(dev, stream) > 0)
		return -EAGAIN;
	stream->backlog = false;
	return take_messages(dev, stream, self);
}

static int receive_messages(struct cleat_device *dev,
			    struct cleat_stream *stream,
			    struct cleat_slot *self, int flags)
{
	struct iovec iov = { stream->rx + stream->end,
			     stream->rx_bytes - stream->end };
	struct cleat_fds fds;
	ssize_t n = cleat_wire_recv(stream->fd, &iov, 1, &fds, flags);

	return n < 0 ? (int)n : take_bytes(dev, stream, self, (size_t)n, &fds);
}

/* --- The leader's own large reply, in one call ------------------------------
 */

/* Less is as well copied. */
#define WORTH_IT 512
#define MOST_HEAD 256

static size_t own_head(const struct cleat_call *call)
{
	return sizeof(struct cleat_header) + call->reply_size;
}

/* The next thing on the socket may well be the leader's large reply. */
static bool awaits_own(const struct cleat_stream *stream,
		       const struct cleat_slot *self)
{
	return self && !stream->end && !(self->call->flags & CLEAT_CALL_PARK) &&
	       !__atomic_load_n(&self->gathered, __ATOMIC_RELAXED) &&
	       self->call->reply_data_size >= WORTH_IT &&
	       own_head(self->call) <= MOST_HEAD;
}

/* It is: complete in shape, if not yet in length. */
static bool is_own(const struct cleat_stream *stream,
		   const struct cleat_slot *self, size_t n)
{
	const struct cleat_call *call = self->call;
	struct cleat_header header;

	if (n <= own_head(call))
		return false;
	memcpy(&header, stream->rx, sizeof(header));
	return header.id == self->id && header.command == self->command &&
	       header.flags == CLEAT_HEADER_REPLY &&
	       header.size == own_head(call) + call->reply_data_size;
}

static int take_own(struct cleat_device *dev, struct cleat_stream *stream,
		    struct cleat_slot *self, size_t n)
{
	struct cleat_call *call = self->call;
	size_t head = own_head(call), whole = head + call->reply_data_size;

	memcpy(call->reply, stream->rx + sizeof(struct cleat_header),
	       call->reply_size);
	memcpy(&stream->body_header, stream->rx, sizeof(stream->body_header));
	stream->body_size = whole - sizeof(struct cleat_header);
	if (n < whole) {
		stream->body_mode = CLEAT_BODY_DIRECT;
		stream->body_slot = self;
		self->arriving = true;
		stream->body_got = n - sizeof(struct cleat_header);
		return 0;
	}
	cleat_deliver_direct(dev, self, &stream->body_header, NULL);
	/* What came behind it lies behind the head. */
	stream->start = head;
	stream->end = head + (n - whole);
	return take_messages(dev, stream, self);
}

/*
 * It was something else, and a part of it lies in the leader's buffer: put it
 * together in a buffer that is large enough, which compact() makes small again.
 */
static int put_together(struct cleat_device *dev, struct cleat_stream *stream,
			struct cleat_slot *self, size_t n,
			struct cleat_fds *fds)
{
	size_t head = own_head(self->call), middle = n - head;
	uint8_t *rx = malloc(n + CLEAT_RX_BYTES);

	if (!rx) {
		cleat_fds_close(fds);
		return -ENOMEM;
	}
	if (middle > self->call->reply_data_size)
		middle = self->call->reply_data_size;
	memcpy(rx, stream->rx, head);
	memcpy(rx + head, self->call->reply_data, middle);
	memcpy(rx + head + middle, stream->rx + head, n - head - middle);
	free(stream->rx);
	stream->rx = rx;
	stream->rx_bytes = n + CLEAT_RX_BYTES;
	return take_bytes(dev, stream, self, n, fds);
}

static int receive_own(struct cleat_device *dev, struct cleat_stream *stream,
		       struct cleat_slot *self, int flags)
{
	struct cleat_call *call = self->call;
	size_t head = own_head(call);
	struct iovec iov[3] = {
		{ stream->rx, head },
		{ call->reply_data, call->reply_data_size },
		{ stream->rx + head, stream->rx_bytes - head },
	};
	struct cleat_fds fds;
	ssize_t n = cleat_wire_recv(stream->fd, iov, 3, &fds, flags);

	if (n < 0)
		return (int)n;
	if (!fds.num && is_own(stream, self, (size_t)n))
		return take_own(dev, stream, self, (size_t)n);
	if ((size_t)n <= head)
		return take_bytes(dev, stream, self, (size_t)n, &fds);
	return put_together(dev, stream, self, (size_t)n, &fds);
}

int cleat_stream_receive(struct cleat_device *dev, struct cleat_stream *stream,
			 struct cleat_slot *self, int flags)
{
	int err;

	if (stream->backlog)
		err = take_backlog(dev, stream, self);
	else if (stream->body_mode != CLEAT_BODY_NONE)
		err = receive_body(dev, stream, flags);
	else if (awaits_own(stream, self))
		err = receive_own(dev, stream, self, flags);
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
