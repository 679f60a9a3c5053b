/* SPDX-License-Identifier: BSD-2-Clause */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "client/engine.h"

/* Conn lock held. The word that the slot's thread sleeps on, if it does, for
 * cleat_wake_up() when the lock is let go. */
static _Atomic uint32_t *finish_slot(struct cleat_device *dev,
				     struct cleat_slot *slot)
{
	slot->state = CLEAT_SLOT_DONE;
	dev->gathers = dev->gatherer;
	if (!slot->asleep)
		return NULL;
	cleat_sleepers_remove(dev, slot);
	slot->woken = true;
	dev->num_woken++;
	atomic_store(&slot->word, 1);
	return &slot->word;
}

/* Conn lock held. False: the server has passed more than a device may have. */
static bool hand_fds(struct cleat_device *dev, struct cleat_call *call,
		     struct cleat_fds *fds)
{
	unsigned num = fds ? fds->num : 0;

	if (!call->reply_fds)
		num = 0;
	if (num > call->max_reply_fds)
		num = call->max_reply_fds;
	if (call->flags & CLEAT_CALL_KEEPS_FDS) {
		if (num > CLEAT_MAX_DEVICE_FDS - dev->kept_fds)
			return false;
		dev->kept_fds += num;
	}
	for (unsigned i = 0; i < num; i++)
		call->reply_fds[i] = cleat_fds_take(fds, i);
	call->got_fds = num;
	return true;
}

void cleat_device_drop_fds(struct cleat_device *dev, int *fds, unsigned num)
{
	unsigned closed = num;

	if (!num)
		return;
	/* What cannot be closed now is still open. */
	for (unsigned i = 0; i < num; i++)
		closed -= cleat_close_foreign(&fds[i]);
	pthread_mutex_lock(&dev->lock);
	dev->kept_fds -= closed;
	pthread_mutex_unlock(&dev->lock);
}

/*
 * The numbers by which the library tells its callers what became of their
 * call. A server that could say them too would have a vCPU do its access over
 * and over (-EINTR), or a device that is there taken for one that is gone.
 */
static int error_of(const struct cleat_header *header)
{
	int err = cleat_header_error(header);

	return cleat_is_answer(err) ? err : -EREMOTEIO;
}

bool cleat_is_answer(int err)
{
	switch (err) {
	case -EINTR:
	case -ECANCELED:
	case -ETIMEDOUT:
	case -ENOTCONN:
	case -ESHUTDOWN:
	case -ECHILD:
		return false;
	default:
		return true;
	}
}

/* Conn lock held. -EPROTO: the reply has not the shape that was asked for. */
static int check_shape(const struct cleat_call *call, size_t size)
{
	if (size < call->reply_min ||
	    size > call->reply_size + call->reply_data_size)
		return -EPROTO;
	return 0;
}

static void copy_payload(struct cleat_call *call, const uint8_t *payload,
			 size_t size)
{
	size_t first = size < call->reply_size ? size : call->reply_size;

	if (first)
		memcpy(call->reply, payload, first);
	if (size > first)
		memcpy(call->reply_data, payload + first, size - first);
	call->got = size;
}

/* Conn lock held. */
static int fill_slot(struct cleat_device *dev, struct cleat_slot *slot,
		     const struct cleat_header *header, const uint8_t *payload,
		     struct cleat_fds *fds, _Atomic uint32_t **ret_word)
{
	size_t size = header->size - sizeof(*header);
	struct cleat_call *call = slot->call;
	int err = 0;

	if (slot->command != header->command)
		return -ENOENT;
	if (slot->state == CLEAT_SLOT_DEAD) {
		cleat_slot_release(dev, slot);
		return 0;
	}
	slot->result = error_of(header);
	if (!slot->result) {
		err = check_shape(call, size);
		if (!err && !hand_fds(dev, call, fds))
			err = -EMFILE;
		if (!err)
			copy_payload(call, payload, size);
		slot->result = err ? -EPROTO : 0;
	}
	*ret_word = finish_slot(dev, slot);
	return err;
}

/* The call whose reply it was says so, not only that the connection is lost. */
static void refuse_call(struct cleat_device *dev,
			const struct cleat_header *header)
{
	_Atomic uint32_t *word = NULL;
	struct cleat_slot *slot;

	pthread_mutex_lock(&dev->lock);
	slot = cleat_slot_of(dev, header->id);
	if (slot && slot->state == CLEAT_SLOT_FLYING &&
	    slot->command == header->command) {
		slot->result = -EPROTO;
		word = finish_slot(dev, slot);
	}
	pthread_mutex_unlock(&dev->lock);
	cleat_wake_up(word);
}

void cleat_refuse_reply(struct cleat_device *dev,
			const struct cleat_header *header, int err)
{
	const char *name = cleat_command_name(header->command);

	if (err != -ENOENT)
		refuse_call(dev, header);
	if (!name)
		name = "no known command";
	if (err == -ENOENT)
		cleat_device_fail(dev, -EPROTO,
				  "the server answered a request that nobody "
				  "made (id %u, %s)",
				  header->id, name);
	else if (err == -EMFILE)
		cleat_device_fail(dev, -EPROTO,
				  "the server passes more than %u descriptors",
				  CLEAT_MAX_DEVICE_FDS);
	else
		cleat_device_fail(dev, -EPROTO,
				  "the server's reply to %s has %zu bytes, "
				  "which cannot be",
				  name, header->size - sizeof(*header));
}

/*
 * The leader's own: nobody else changes a slot in flight or looks at its state,
 * so no lock is needed, and there is nobody to wake.
 */
static void deliver_own(struct cleat_device *dev, struct cleat_slot *self,
			const struct cleat_header *header,
			const uint8_t *payload)
{
	size_t size = header->size - sizeof(*header);
	int err = 0;

	self->result = error_of(header);
	if (!self->result) {
		err = check_shape(self->call, size);
		self->result = err;
	}
	if (!self->result)
		copy_payload(self->call, payload, size);
	self->state = CLEAT_SLOT_DONE;
	if (err)
		cleat_refuse_reply(dev, header, err);
}

static void deliver_reply(struct cleat_device *dev,
			  const struct cleat_header *header,
			  const uint8_t *payload, struct cleat_fds *fds)
{
	_Atomic uint32_t *word = NULL;
	struct cleat_slot *slot;
	int err = -ENOENT;

	pthread_mutex_lock(&dev->lock);
	slot = cleat_slot_of(dev, header->id);
	if (slot)
		err = fill_slot(dev, slot, header, payload, fds, &word);
	pthread_mutex_unlock(&dev->lock);
	cleat_wake_up(word);
	if (err)
		cleat_refuse_reply(dev, header, err);
}

/* By the only thread that reads the stream: no locked addition. */
static void count_bytes(struct cleat_stream *stream, size_t size)
{
	__atomic_store_n(&stream->received, stream->received + size,
			 __ATOMIC_RELAXED);
}

void cleat_deliver_body(struct cleat_device *dev, struct cleat_slot *slot,
			const struct cleat_header *header, uint8_t *body,
			struct cleat_fds *fds)
{
	_Atomic uint32_t *word = NULL;
	bool may_have = true;

	count_bytes(&dev->main, header->size);
	pthread_mutex_lock(&dev->lock);
	slot->arriving = false;
	if (slot->state == CLEAT_SLOT_DEAD) {
		cleat_slot_release(dev, slot);
	} else if (slot->state == CLEAT_SLOT_FLYING) {
		/* (it is neither when it was given up after the loss) */
		slot->result = error_of(header);
		/* Drained, because its thread had been called back meanwhile */
		if (!slot->result && !body)
			slot->result = -ECANCELED;
		if (!slot->result) {
			may_have = hand_fds(dev, slot->call, fds);
			slot->result = may_have ? 0 : -EPROTO;
			slot->call->got = header->size - sizeof(*header);
			slot->body = body;
			body = NULL;
		}
		word = finish_slot(dev, slot);
	}
	pthread_mutex_unlock(&dev->lock);
	cleat_wake_up(word);
	free(body);
	if (!may_have)
		cleat_refuse_reply(dev, header, -EMFILE);
}

void cleat_deliver_direct(struct cleat_device *dev, struct cleat_slot *slot,
			  const struct cleat_header *header,
			  struct cleat_fds *fds)
{
	bool may_have;

	count_bytes(&dev->main, header->size);
	pthread_mutex_lock(&dev->lock);
	slot->arriving = false;
	slot->call->got = header->size - sizeof(*header);
	may_have = hand_fds(dev, slot->call, fds);
	slot->result = may_have ? 0 : -EPROTO;
	finish_slot(dev, slot); /* (its thread is this one) */
	pthread_mutex_unlock(&dev->lock);
	if (!may_have)
		cleat_refuse_reply(dev, header, -EMFILE);
}

/* --- The server's own requests -------------------------------------------- */

/* A reply of ours is no larger than what the server asked for. */
static size_t reply_room(const struct cleat_header *header,
			 const uint8_t *payload)
{
	struct cleat_wire_dma dma;
	size_t room = sizeof(dma);

	if (header->command != VFIO_USER_DMA_READ ||
	    header->size < sizeof(*header) + sizeof(dma))
		return room;
	memcpy(&dma, payload, sizeof(dma));
	return dma.count > CLEAT_MAX_TRANSFER ? room : room + dma.count;
}

static int serve(struct cleat_device *dev, struct cleat_inbound *in)
{
	struct cleat_served *served;
	int err;

	if (in->command > VFIO_USER_MIG_DATA_WRITE)
		return -EINVAL;
	pthread_mutex_lock(&dev->serve_lock);
	served = &dev->served[in->command];
	if (!served->handler)
		err = -EINVAL;
	else
		err = dev->no_master ? -ENODEV
				     : served->handler(served->opaque, in);
	pthread_mutex_unlock(&dev->serve_lock);
	return err;
}

static void answer(struct cleat_device *dev, struct cleat_stream *stream,
		   const struct cleat_header *header, const uint8_t *payload)
{
	size_t room = reply_room(header, payload);
	struct cleat_packet *packet;
	struct cleat_header reply = {
		.id = header->id,
		.command = header->command,
		.flags = CLEAT_HEADER_REPLY,
	};
	struct cleat_inbound in = {
		.command = header->command,
		.payload = payload,
		.size = header->size - sizeof(*header),
		.reply_room = room,
	};
	int err;

	packet = malloc(sizeof(*packet) + sizeof(reply) + room);
	if (!packet) {
		cleat_device_fail(dev, -ENOMEM, "out of memory");
		return;
	}
	in.reply = packet->data + sizeof(reply);
	err = serve(dev, &in);
	if (header->flags & CLEAT_HEADER_NO_REPLY) {
		free(packet);
		return;
	}
	if (err) {
		in.reply_size = 0;
		reply.flags |= CLEAT_HEADER_ERROR;
		reply.error = (uint32_t)-err;
	}
	packet->size = sizeof(reply) + in.reply_size;
	reply.size = (uint32_t)packet->size;
	memcpy(packet->data, &reply, sizeof(reply));
	cleat_send_reply(dev, stream, packet);
}

/* What has not been sent has no reply, whatever the server guesses. */
static bool is_of(const struct cleat_slot *self,
		  const struct cleat_header *header)
{
	return self && header->id == self->id &&
	       header->command == self->command &&
	       self->state == CLEAT_SLOT_FLYING &&
	       !__atomic_load_n(&self->gathered, __ATOMIC_RELAXED);
}

void cleat_deliver(struct cleat_device *dev, struct cleat_stream *stream,
		   struct cleat_slot *self, const struct cleat_header *header,
		   const uint8_t *payload, struct cleat_fds *fds)
{
	bool reply = header->flags & (CLEAT_HEADER_TYPE | CLEAT_HEADER_ERROR);

	count_bytes(stream, header->size);
	if (!reply) {
		__atomic_fetch_add(&dev->stats.server_requests, 1,
				   __ATOMIC_RELAXED);
		answer(dev, stream, header, payload);
	} else if (!fds && is_of(self, header)) {
		deliver_own(dev, self, header, payload);
	} else if (stream == &dev->main) {
		deliver_reply(dev, header, payload, fds);
	} else {
		cleat_device_fail(dev, -EPROTO,
				  "the server sent a reply on the twin socket");
	}
}

void cleat_device_set_master(struct cleat_device *dev, bool on)
{
	pthread_mutex_lock(&dev->serve_lock);
	dev->no_master = !on;
	pthread_mutex_unlock(&dev->serve_lock);
}

void cleat_device_serve(struct cleat_device *dev, uint16_t command,
			cleat_inbound_handler *handler, void *opaque)
{
	bool serves = false;

	if (command > VFIO_USER_MIG_DATA_WRITE)
		return;
	pthread_mutex_lock(&dev->serve_lock);
	dev->served[command].handler = handler;
	dev->served[command].opaque = opaque;
	for (unsigned i = 0; i <= VFIO_USER_MIG_DATA_WRITE; i++)
		serves |= dev->served[i].handler != NULL;
	pthread_mutex_unlock(&dev->serve_lock);
	pthread_mutex_lock(&dev->lock);
	dev->serves = serves;
	cleat_events_arm(dev);
	pthread_mutex_unlock(&dev->lock);
}
