/* SPDX-License-Identifier: BSD-2-Clause */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "client/engine.h"

int cleat_must_stop(uint64_t deadline_ns)
{
	if (cleat_cancel_is_set(cleat_cancel_current()))
		return -ECANCELED;
	return cleat_coarse_now_ns() >= deadline_ns ? -ETIMEDOUT : 0;
}

int cleat_call_must_stop(const struct cleat_call *call)
{
	return cleat_must_stop(
		__atomic_load_n(&call->deadline_ns, __ATOMIC_RELAXED));
}

static int lost_code(const struct cleat_device *dev)
{
	return dev->why.code == -ESHUTDOWN ? -ESHUTDOWN : -ENOTCONN;
}

static void leave(struct cleat_device *dev)
{
	/* (who waits for this has ended the connection before) */
	if (--dev->inside == 0 && dev->lost)
		pthread_cond_broadcast(&dev->left);
}

/* Replies of ours wait for room: wait for that too. */
static int receive_pressed(struct cleat_device *dev, struct cleat_slot *self)
{
	struct pollfd pfd = { .fd = dev->main.fd, .events = POLLOUT };
	bool may_read = cleat_outbox_state(dev, &dev->main) == 0;
	bool backlog = may_read && dev->main.backlog;

	if (may_read)
		pfd.events |= POLLIN;
	if (cleat_wire_poll(&pfd, backlog ? 0 : CLEAT_TICK_MS) > 0)
		cleat_send_waiting(dev, &dev->main);
	if (!backlog && !(pfd.revents & ~POLLOUT))
		return -EAGAIN;
	return cleat_stream_receive(dev, &dev->main, self, MSG_DONTWAIT);
}

/* As the leader, no lock held: at most a tick. */
static void receive_round(struct cleat_device *dev, struct cleat_slot *self)
{
	if (cleat_outbox_state(dev, &dev->main) >= 0)
		receive_pressed(dev, self);
	else
		cleat_spin_receive(dev, self);
}

/*
 * What others left for the leader goes out before it sleeps or leaves, and
 * whatever they ask after that they send themselves. Conn lock held on entry.
 */
static void unlock_and_send(struct cleat_device *dev)
{
	bool any = dev->gathered;

	dev->gathers = false;
	pthread_mutex_unlock(&dev->lock);
	if (any)
		cleat_send_waiting(dev, &dev->main);
}

/*
 * Read for everybody until our own reply has come, with our own request yet to
 * be sent or not. Conn lock held on entry and return, not in between.
 */
static void lead(struct cleat_device *dev, struct cleat_slot *slot, bool sent)
{
	dev->leader = true;
	dev->gatherer = true;
	dev->inside++;
	if (!sent) {
		pthread_mutex_unlock(&dev->lock);
		cleat_send_own(dev, slot);
		if (!cleat_cancel_is_set(cleat_cancel_current()))
			receive_round(dev, slot);
		pthread_mutex_lock(&dev->lock);
	}
	while (slot->state == CLEAT_SLOT_FLYING && !dev->lost &&
	       !cleat_call_must_stop(slot->call)) {
		unlock_and_send(dev);
		receive_round(dev, slot);
		pthread_mutex_lock(&dev->lock);
	}
	if (dev->gathered) {
		unlock_and_send(dev);
		pthread_mutex_lock(&dev->lock);
	}
	cleat_stream_leave(dev, &dev->main, slot);
	dev->gathers = false;
	dev->gatherer = false;
	dev->leader = false;
	leave(dev);
}

static void follow(struct cleat_device *dev, struct cleat_slot *slot)
{
	uint64_t deadline_ns = slot->call->deadline_ns;

	atomic_store(&slot->word, 0);
	cleat_sleepers_add(dev, slot);
	pthread_mutex_unlock(&dev->lock);
	cleat_futex_sleep(&slot->word, 0, deadline_ns);
	pthread_mutex_lock(&dev->lock);
	cleat_sleepers_remove(dev, slot);
}

void cleat_lead_round(struct cleat_device *dev, bool for_room)
{
	struct pollfd pfd = { .fd = dev->main.fd };
	_Atomic uint32_t *next;
	bool mine, backlog;
	int outbox;

	pthread_mutex_lock(&dev->lock);
	mine = !dev->leader && !dev->lost;
	if (mine)
		dev->leader = true;
	pthread_mutex_unlock(&dev->lock);
	outbox = mine ? cleat_outbox_state(dev, &dev->main) : 1;
	backlog = outbox <= 0 && dev->main.backlog;
	if (for_room || (mine && outbox >= 0))
		pfd.events |= POLLOUT;
	if (outbox <= 0)
		pfd.events |= POLLIN;
	/* With another's lead a slot comes free at any time, untold. */
	cleat_wire_poll(&pfd, backlog ? 0 : pfd.events ? CLEAT_TICK_MS : 1);
	/* (who waits for room has the send side, and sends these himself) */
	if (mine && !for_room)
		cleat_send_waiting(dev, &dev->main);
	if (backlog || (mine && pfd.revents & ~POLLOUT))
		cleat_stream_receive(dev, &dev->main, NULL, MSG_DONTWAIT);
	if (!mine)
		return;
	pthread_mutex_lock(&dev->lock);
	dev->leader = false;
	next = cleat_pass_lead(dev);
	pthread_mutex_unlock(&dev->lock);
	cleat_wake_up(next);
}

/* Every slot is in flight: let replies come in. Conn lock held around. */
static int wait_for_slot(struct cleat_device *dev, struct cleat_call *call)
{
	for (;;) {
		int err;

		if (dev->lost)
			return lost_code(dev);
		call->slot = cleat_slot_take(dev);
		if (call->slot)
			return 0;
		err = cleat_call_must_stop(call);
		if (err)
			return err;
		pthread_mutex_unlock(&dev->lock);
		cleat_lead_round(dev, false);
		pthread_mutex_lock(&dev->lock);
	}
}

static uint64_t deadline_of(struct cleat_device *dev,
			    const struct cleat_call *call)
{
	if (dev->open_deadline_ns)
		return dev->open_deadline_ns;
	return cleat_deadline_ns(dev->limit_ns[call->deadline_class]);
}

static int send_call(struct cleat_device *dev, const struct cleat_call *call,
		     uint16_t id)
{
	struct cleat_header header = {
		.id = id,
		.command = call->command,
		.size = (uint32_t)(sizeof(header) + call->head_size +
				   call->data_size),
		.flags = call->flags & CLEAT_CALL_POSTED ? CLEAT_HEADER_NO_REPLY
							 : 0,
	};
	struct iovec iov[3] = {
		{ &header, sizeof(header) },
		{ (void *)call->head, call->head_size },
		{ (void *)call->data, call->data_size },
	};

	return cleat_send_message(dev, iov, call->data_size ? 3 : 2, call);
}

static int start_posted(struct cleat_device *dev, struct cleat_call *call)
{
	int err = send_call(dev, call, CLEAT_POSTED_ID);

	pthread_mutex_lock(&dev->lock);
	if (!err)
		dev->stats.posted++;
	cleat_events_arm(dev);
	leave(dev);
	pthread_mutex_unlock(&dev->lock);
	return err;
}

static int check_call(struct cleat_device *dev, const struct cleat_call *call)
{
	if (dev->fork_count != cleat_fork_count())
		return -ECHILD;
	if (call->num_fds > dev->info.max_msg_fds ||
	    call->head_size + call->data_size >
		    CLEAT_MAX_MESSAGE - sizeof(struct cleat_header))
		return -EINVAL;
	return 0;
}

/* Conn lock held around, but not while sending. An error gives the slot back.
 */
static int start_replied(struct cleat_device *dev, struct cleat_call *call)
{
	struct cleat_slot *slot = call->slot;
	int err = 0;

	if (dev->gathers && cleat_may_gather(call)) {
		if (cleat_gather(dev, slot)) {
			pthread_mutex_unlock(&dev->lock);
			cleat_send_waiting(dev, &dev->main);
			pthread_mutex_lock(&dev->lock);
		}
	} else {
		pthread_mutex_unlock(&dev->lock);
		err = send_call(dev, call, slot->id);
		pthread_mutex_lock(&dev->lock);
	}
	if (err) {
		/* Not a byte is out, or nothing will come in any more. */
		cleat_slot_release(dev, slot);
		call->slot = NULL;
	}
	leave(dev);
	return err;
}

/* Who has nothing to wait for leaves the rest to others. Conn lock held on
 * entry. */
static void unlock_and_pass(struct cleat_device *dev)
{
	_Atomic uint32_t *next = cleat_pass_lead(dev);

	cleat_events_arm(dev);
	pthread_mutex_unlock(&dev->lock);
	cleat_wake_up(next);
}

/* Take what a call needs. Return: 0 with the conn lock held. */
static int begin(struct cleat_device *dev, struct cleat_call *call)
{
	uint64_t deadline_ns;
	int err = check_call(dev, call);

	if (err)
		return err;
	deadline_ns = deadline_of(dev, call);
	call->got = 0;
	call->got_fds = 0;
	pthread_mutex_lock(&dev->lock);
	call->slot = NULL;
	call->deadline_ns = deadline_ns;
	if (dev->lost || call->expired) {
		err = dev->lost ? lost_code(dev) : -ETIMEDOUT;
		pthread_mutex_unlock(&dev->lock);
		return err;
	}
	dev->inside++;
	cleat_events_disarm(dev);
	if (!(call->flags & CLEAT_CALL_POSTED))
		err = wait_for_slot(dev, call);
	if (err) {
		leave(dev);
		cleat_events_arm(dev);
		pthread_mutex_unlock(&dev->lock);
		return err;
	}
	dev->stats.requests++;
	if (call->slot) {
		call->slot->call = call;
		call->slot->command = call->command;
	}
	return 0;
}

int cleat_call_start(struct cleat_device *dev, struct cleat_call *call)
{
	int err = begin(dev, call);

	if (err)
		return err;
	if (!call->slot) {
		pthread_mutex_unlock(&dev->lock);
		return start_posted(dev, call);
	}
	err = start_replied(dev, call);
	if (err)
		unlock_and_pass(dev);
	else
		pthread_mutex_unlock(&dev->lock);
	return err;
}

/* Nobody waits for this reply any more; when it comes it is drained. */
static void bury(struct cleat_device *dev, struct cleat_slot *slot)
{
	if (dev->lost || slot->state == CLEAT_SLOT_DONE || slot->gathered) {
		cleat_slot_release(dev, slot);
		return;
	}
	slot->call = NULL;
	slot->state = CLEAT_SLOT_DEAD;
}

/*
 * Wait until the reply is there, the connection is lost, or the thread has to
 * stop: then why. Conn lock held around.
 */
static int wait_for_reply(struct cleat_device *dev, struct cleat_slot *slot)
{
	for (;;) {
		int err;

		if (slot->state == CLEAT_SLOT_DONE || dev->lost)
			return 0;
		err = cleat_call_must_stop(slot->call);
		if (err)
			return err;
		if (dev->leader)
			follow(dev, slot);
		else
			lead(dev, slot, true);
	}
}

static void copy_body(struct cleat_call *call, const uint8_t *body)
{
	size_t first = call->got;

	if (first > call->reply_size)
		first = call->reply_size;
	memcpy(call->reply, body, first);
	if (call->got > first)
		memcpy(call->reply_data, body + first, call->got - first);
}

/* Take the result out of a slot and free it. Conn lock held. */
static int take_result(struct cleat_device *dev, struct cleat_slot *slot,
		       uint8_t **ret_body)
{
	int err =
		slot->state == CLEAT_SLOT_DONE ? slot->result : lost_code(dev);

	*ret_body = slot->body;
	slot->body = NULL;
	cleat_slot_release(dev, slot);
	return err;
}

/* Conn lock held on entry. */
static int finish(struct cleat_device *dev, struct cleat_call *call)
{
	struct cleat_slot *slot = call->slot;
	uint8_t *body = NULL;
	int stop = wait_for_reply(dev, slot), err;

	if (stop == -ECANCELED && (call->flags & CLEAT_CALL_PARK)) {
		err = -EINTR;
	} else {
		call->slot = NULL;
		dev->stats.timeouts += stop == -ETIMEDOUT;
		if (stop)
			bury(dev, slot);
		err = stop ? stop : take_result(dev, slot, &body);
	}
	unlock_and_pass(dev);
	if (body)
		copy_body(call, body);
	free(body);
	if (stop && (call->flags & CLEAT_CALL_STATE))
		cleat_device_fail(dev, stop,
				  "%s was %s: its outcome is unknown",
				  cleat_command_name(call->command),
				  stop == -ETIMEDOUT ? "not answered in time"
						     : "cancelled");
	return err;
}

int cleat_call_finish(struct cleat_device *dev, struct cleat_call *call)
{
	if (!call->slot)
		return 0;
	pthread_mutex_lock(&dev->lock);
	return finish(dev, call);
}

void cleat_call_abandon(struct cleat_device *dev, struct cleat_call *call)
{
	if (!call->slot)
		return;
	pthread_mutex_lock(&dev->lock);
	bury(dev, call->slot);
	call->slot = NULL;
	unlock_and_pass(dev);
}

void cleat_call_expire(struct cleat_device *dev, struct cleat_call *call)
{
	struct cleat_slot *slot;

	pthread_mutex_lock(&dev->lock);
	call->expired = true;
	/* (its thread may be sending, without the lock) */
	__atomic_store_n(&call->deadline_ns, 0, __ATOMIC_RELAXED);
	slot = call->slot;
	/* A leader looks at its deadline at every tick. */
	if (slot && slot->asleep) {
		cleat_sleepers_remove(dev, slot);
		atomic_store(&slot->word, 1);
		cleat_futex_wake(&slot->word);
	}
	pthread_mutex_unlock(&dev->lock);
}

static int explain(struct cleat_device *dev, const struct cleat_call *call,
		   int err, struct cleat_error *reterr)
{
	const char *name = cleat_command_name(call->command);
	struct cleat_error why;

	if (!reterr)
		return err;
	/* (in a child nobody may ever give the lock back) */
	if (err != -ECHILD && cleat_device_failure(dev, &why)) {
		*reterr = why;
		reterr->code = err;
		return err;
	}
	if (err == -ETIMEDOUT)
		return cleat_fail(reterr, CLEAT_ORIGIN_TRANSPORT, err,
				  "%s: no reply in time", name);
	if (err == -ECANCELED || err == -EINVAL || err == -ECHILD)
		return cleat_fail(reterr, CLEAT_ORIGIN_LOCAL, err, "%s: %s",
				  name, strerror(-err));
	return cleat_fail(reterr, CLEAT_ORIGIN_DEVICE, err,
			  "%s: the server says: %s", name, strerror(-err));
}

int cleat_call(struct cleat_device *dev, struct cleat_call *call,
	       struct cleat_error *reterr)
{
	int err = begin(dev, call);

	if (!err && !call->slot) {
		pthread_mutex_unlock(&dev->lock);
		err = start_posted(dev, call);
	} else if (!err && !dev->leader && cleat_may_gather(call)) {
		lead(dev, call->slot, false);
		leave(dev);
		err = finish(dev, call);
	} else if (!err) {
		err = start_replied(dev, call);
		if (err)
			unlock_and_pass(dev);
		else
			err = finish(dev, call);
	}
	return err ? explain(dev, call, err, reterr) : 0;
}
