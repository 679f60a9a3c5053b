/* SPDX-License-Identifier: BSD-2-Clause */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "client/engine.h"

static size_t out_bytes(struct cleat_stream *stream)
{
	return __atomic_load_n(&stream->out_bytes, __ATOMIC_SEQ_CST);
}

int cleat_outbox_state(struct cleat_device *dev, struct cleat_stream *stream)
{
	size_t bytes = out_bytes(stream);

	if (!bytes)
		return -1;
	return bytes > CLEAT_OUTBOX_BYTES;
}

/* What it makes us keep, not what it puts on the wire: a flood of small ones is
 * bounded too. */
static size_t cost_of(const struct cleat_packet *packet)
{
	return sizeof(*packet) + packet->size;
}

/* Send side held: nobody else counts, so there is no locked addition. */
static void count_sent(struct cleat_stream *stream, ssize_t size)
{
	__atomic_store_n(&stream->sent, stream->sent + (uint64_t)size,
			 __ATOMIC_RELAXED);
}

static struct cleat_packet *first_packet(struct cleat_device *dev,
					 struct cleat_stream *stream)
{
	struct cleat_packet *packet;

	pthread_mutex_lock(&dev->lock);
	packet = stream->out;
	pthread_mutex_unlock(&dev->lock);
	return packet;
}

static void drop_packet(struct cleat_device *dev, struct cleat_stream *stream)
{
	struct cleat_packet *packet;

	pthread_mutex_lock(&dev->lock);
	packet = stream->out;
	stream->out = packet->next;
	if (!stream->out)
		stream->out_tail = &stream->out;
	__atomic_fetch_sub(&stream->out_bytes, cost_of(packet),
			   __ATOMIC_SEQ_CST);
	pthread_mutex_unlock(&dev->lock);
	free(packet);
}

/*
 * Requests that found no room: they have begun to go out, so they go before all
 * else. Send side held.
 */
static int keep_rest(struct cleat_device *dev, const uint8_t *rest, size_t size)
{
	struct cleat_packet *packet = malloc(sizeof(*packet) + size);
	struct cleat_stream *stream = &dev->main;

	if (!packet) {
		cleat_device_fail(dev, -ENOMEM, "out of memory");
		return -ENOMEM;
	}
	memcpy(packet->data, rest, size);
	packet->size = size;
	packet->sent = 0;
	pthread_mutex_lock(&dev->lock);
	packet->next = stream->out;
	if (!stream->out)
		stream->out_tail = &packet->next;
	stream->out = packet;
	__atomic_fetch_add(&stream->out_bytes, cost_of(packet),
			   __ATOMIC_SEQ_CST);
	pthread_mutex_unlock(&dev->lock);
	return -EAGAIN;
}

/* Send side held, and nothing waits that came before. */
static int send_gathered(struct cleat_device *dev)
{
	uint8_t buf[CLEAT_GATHER_BYTES];
	struct iovec iov = { .iov_base = buf };

	while (cleat_has_gathered(dev)) {
		ssize_t n;

		pthread_mutex_lock(&dev->lock);
		iov.iov_len = cleat_gathered_take(dev, buf, sizeof(buf));
		pthread_mutex_unlock(&dev->lock);
		if (!iov.iov_len)
			break;
		n = cleat_wire_send(dev->main.fd, &iov, 1, NULL, 0,
				    MSG_DONTWAIT);
		if (n < 0 && n != -EAGAIN)
			return (int)n;
		n = n < 0 ? 0 : n;
		count_sent(&dev->main, n);
		if ((size_t)n < iov.iov_len)
			return keep_rest(dev, buf + n, iov.iov_len - (size_t)n);
	}
	return 0;
}

/* Something waits to be sent by whoever has the send side. */
static bool is_waiting(struct cleat_device *dev, struct cleat_stream *stream)
{
	return out_bytes(stream) ||
	       (stream == &dev->main && cleat_has_gathered(dev));
}

/* Send side held. Return: 0 with none left, -EAGAIN, or the end. */
static int flush(struct cleat_device *dev, struct cleat_stream *stream)
{
	struct cleat_packet *packet;

	if (!is_waiting(dev, stream))
		return 0;
	while ((packet = first_packet(dev, stream))) {
		struct iovec iov = { packet->data + packet->sent,
				     packet->size - packet->sent };
		ssize_t n = cleat_wire_send(stream->fd, &iov, 1, NULL, 0,
					    MSG_DONTWAIT);

		if (n < 0)
			return (int)n;
		packet->sent += (size_t)n;
		count_sent(stream, n);
		if (packet->sent == packet->size)
			drop_packet(dev, stream);
	}
	return stream == &dev->main ? send_gathered(dev) : 0;
}

void cleat_send_waiting(struct cleat_device *dev, struct cleat_stream *stream)
{
	/*
	 * Who queues a reply, or has gathered requests, tries the send side
	 * after that; who holds the send side looks at both after letting go.
	 * So one of the two sends it: all of these are sequentially consistent,
	 * and a try that fails comes before the holder's letting go.
	 */
	while (is_waiting(dev, stream) && cleat_gate_try(&stream->send_lock)) {
		int err;

		err = dev->lost ? -ENOTCONN : flush(dev, stream);
		cleat_gate_leave(&stream->send_lock);
		if (err == -EAGAIN)
			return;
		if (err) {
			cleat_device_fail(dev, err, "the server is gone");
			return;
		}
	}
}

void cleat_send_reply(struct cleat_device *dev, struct cleat_stream *stream,
		      struct cleat_packet *packet)
{
	packet->next = NULL;
	packet->sent = 0;
	pthread_mutex_lock(&dev->lock);
	*stream->out_tail = packet;
	stream->out_tail = &packet->next;
	__atomic_fetch_add(&stream->out_bytes, cost_of(packet),
			   __ATOMIC_SEQ_CST);
	pthread_mutex_unlock(&dev->lock);
	cleat_send_waiting(dev, stream);
}

/* Send side held. False: something waits that came before. */
static bool send_first(struct cleat_device *dev, struct cleat_slot *self)
{
	uint8_t buf[CLEAT_GATHER_MOST];
	struct iovec iov = { buf, cleat_write_request(self, buf) };
	ssize_t n = -ENOTCONN;

	if (is_waiting(dev, &dev->main))
		return false;
	if (!dev->lost)
		n = cleat_wire_send(dev->main.fd, &iov, 1, NULL, 0,
				    MSG_DONTWAIT);
	if (n < 0 && n != -EAGAIN) {
		cleat_device_fail(dev, (int)n, "the server is gone");
		return true;
	}
	n = n < 0 ? 0 : n;
	count_sent(&dev->main, n);
	if ((size_t)n < iov.iov_len)
		keep_rest(dev, buf + n, iov.iov_len - (size_t)n);
	return true;
}

void cleat_send_own(struct cleat_device *dev, struct cleat_slot *self)
{
	bool sent = false;

	if (cleat_gate_try(&dev->main.send_lock)) {
		sent = send_first(dev, self);
		cleat_gate_leave(&dev->main.send_lock);
	}
	if (!sent) {
		pthread_mutex_lock(&dev->lock);
		cleat_gather(dev, self);
		pthread_mutex_unlock(&dev->lock);
	}
	cleat_send_waiting(dev, &dev->main);
}

static int lock_send(struct cleat_device *dev, const struct cleat_call *call)
{
	if (cleat_gate_try(&dev->main.send_lock))
		return 0;
	do {
		int err = cleat_call_must_stop(call);

		if (err)
			return err;
		if (dev->lost)
			return -ENOTCONN;
	} while (!cleat_gate_wait(&dev->main.send_lock));
	return 0;
}

/*
 * No room in the socket. Wait for it while reading: a server that waits for
 * room itself would otherwise wait for us, and we for it.
 */
static int wait_for_room(struct cleat_device *dev,
			 const struct cleat_call *call, bool begun,
			 uint64_t deadline_ns)
{
	int err = cleat_call_must_stop(call);

	/* What is begun has to be ended, or nobody can send any more: neither a
	 * cancel nor an expiry counts then, only the time it was given. */
	if (err && begun)
		err = cleat_coarse_now_ns() >= deadline_ns ? -ETIMEDOUT : 0;
	if (err && begun)
		cleat_device_fail(dev, err,
				  "a request found no room in the socket");
	if (err)
		return err;
	if (dev->lost)
		return -ENOTCONN;
	cleat_lead_round(dev, true);
	return 0;
}

/* Send side held. */
static int send_locked(struct cleat_device *dev, struct iovec *iov,
		       unsigned num, const struct cleat_call *call)
{
	uint64_t deadline_ns =
		__atomic_load_n(&call->deadline_ns, __ATOMIC_RELAXED);
	unsigned num_fds = call->num_fds;
	bool begun = false;

	while (num) {
		/* (nothing goes into the middle of a message) */
		ssize_t n = begun ? 0 : flush(dev, &dev->main);

		if (!n)
			n = cleat_wire_send(dev->main.fd, iov, num, call->fds,
					    num_fds, MSG_DONTWAIT);
		if (n > 0) {
			begun = true;
			num_fds = 0;
			count_sent(&dev->main, n);
			num = cleat_iov_advance(&iov, num, (size_t)n);
			continue;
		}
		if (n == -EAGAIN)
			n = wait_for_room(dev, call, begun, deadline_ns);
		else if (n == -ENOTCONN)
			cleat_device_fail(dev, (int)n, "the server is gone");
		else if (begun)
			cleat_device_fail(dev, (int)n, "sending failed: %s",
					  strerror((int)-n));
		if (n)
			return (int)n;
	}
	return 0;
}

int cleat_send_message(struct cleat_device *dev, const struct iovec *iov,
		       unsigned num, const struct cleat_call *call)
{
	struct iovec rest[3];
	int err;

	memcpy(rest, iov, num * sizeof(rest[0]));
	err = lock_send(dev, call);
	if (err)
		return err;
	err = dev->lost ? -ENOTCONN : send_locked(dev, rest, num, call);
	cleat_gate_leave(&dev->main.send_lock);
	cleat_send_waiting(dev, &dev->main);
	return err;
}
