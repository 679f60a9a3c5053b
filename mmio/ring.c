/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Writes that KVM has kept back in its ring, on their way to the servers.
 *
 * The ring is the VM's: whichever vCPU exits first finds what all of them
 * wrote. So whoever drains does it for all, and one at a time: two threads that
 * each took a part of the ring could send in the wrong order. A vCPU that comes
 * meanwhile must wait for him even if it finds the ring empty, because its own
 * writes may be among those that he has taken and not sent yet; then it does a
 * round of its own, for what he did not see.
 *
 * Who drains holds a role and no lock: a socket may be full and he may have to
 * wait for a server. Called back meanwhile he leaves what is not sent in @kept,
 * which is older than anything in the ring, for the next one to begin with. One
 * drain takes what was in the ring when it began and no more, or a vCPU that
 * goes on writing would never let another one go.
 *
 * A write is looked up when it is sent. One whose place is not collected any
 * more is dropped: it was written while the guest took the place away, and must
 * not go to whatever is there now.
 */
#include <errno.h>
#include <string.h>
#include <time.h>

#include "mmio/private.h"

/* How often one who waits looks whether he is called back. */
#define TICK_NS 20000000

void cleat_ring_init(struct cleat_ring *ring)
{
	pthread_condattr_t attr;

	pthread_mutex_init(&ring->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&ring->idle, &attr);
	pthread_condattr_destroy(&attr);
}

void cleat_ring_end(struct cleat_ring *ring)
{
	pthread_cond_destroy(&ring->idle);
	pthread_mutex_destroy(&ring->lock);
}

/* --- One round of sending ---------------------------------------------------- */

/* Where a write goes: @binding is counted into; NULL: nowhere, or it is sent. */
struct target {
	struct cleat_binding *binding;
	uint64_t offset;
};

static bool is_well_formed(const struct cleat_coalesced *entry)
{
	return entry->length && entry->length <= sizeof(entry->data) &&
	       (unsigned)entry->space <= CLEAT_PORTS;
}

static void find_target(struct cleat_mmio *mmio,
			const struct cleat_coalesced *entry,
			struct target *target)
{
	target->binding = NULL;
	if (!is_well_formed(entry))
		return;
	target->binding = cleat_binding_get(mmio, entry->space, entry->address,
					    &target->offset);
	if (!target->binding ||
	    cleat_binding_is_posted(target->binding, target->offset,
				    entry->length))
		return;
	cleat_binding_put(target->binding);
	target->binding = NULL;
}

static void done(struct target *target, int err)
{
	cleat_binding_count(target->binding, CLEAT_COUNT_TRAP_WRITE);
	cleat_binding_count(target->binding, CLEAT_COUNT_COALESCED);
	if (err)
		cleat_binding_count(target->binding, CLEAT_COUNT_FAILED);
	cleat_binding_put(target->binding);
	target->binding = NULL;
}

static bool has_write_multi(struct cleat_device *dev)
{
	struct cleat_device_info info = { .size = sizeof(info) };

	return !cleat_device_info(dev, &info) &&
	       info.flags & CLEAT_DEVICE_INFO_WRITE_MULTI;
}

/* Servers know the lengths that CPUs have. Return: how many stores it takes. */
static unsigned split(const struct cleat_coalesced *entry,
		      const struct target *target,
		      struct cleat_region_store *stores)
{
	unsigned num = 0;

	for (unsigned at = 0; at < entry->length;) {
		struct cleat_region_store *store = &stores[num++];
		uint64_t offset = target->offset + at;
		unsigned count = entry->length - at;

		if (count & (count - 1))
			count = cleat_natural(offset, count);
		*store = (struct cleat_region_store){
			.offset = offset,
			.region = target->binding->region,
			.count = count,
		};
		memcpy(store->data, entry->data + at, count);
		at += count;
	}
	return num;
}

/* Up to CLEAT_RING_BATCH stores in one message, and no more in the second. */
#define MOST_STORES (CLEAT_RING_BATCH + 7)

/*
 * All stores of one device from the @first on, as many as fit one message.
 * Where the server has no REGION_WRITE_MULTI that is one entry's, so that what
 * was sent and what was not is known if we are called back in between.
 */
static int send_some(struct cleat_ring *ring, struct target *targets,
		     unsigned first)
{
	struct cleat_device *dev = targets[first].binding->dev;
	struct cleat_region_store stores[MOST_STORES];
	bool multi = has_write_multi(dev);
	unsigned num = 0, last = first;
	int err;

	for (unsigned i = first; i < ring->num_kept; i++) {
		if (!targets[i].binding || targets[i].binding->dev != dev)
			continue;
		if (num && (!multi || num >= CLEAT_RING_BATCH))
			break;
		num += split(&ring->kept[i], &targets[i], &stores[num]);
		last = i;
	}
	err = cleat_region_write_batch(dev, stores, num, false);
	if (err == -ECANCELED)
		return -EINTR;
	/* Or the next one to drain would wait as long again, and so on. */
	if (err == -ETIMEDOUT)
		cleat_device_fail(dev, err,
				  "the server did not take collected writes");
	for (unsigned i = first; i <= last; i++)
		if (targets[i].binding && targets[i].binding->dev == dev)
			done(&targets[i], err);
	return 0;
}

/* What is not sent stays kept, in order. */
static void keep_rest(struct cleat_ring *ring, struct target *targets)
{
	unsigned num = 0;

	for (unsigned i = 0; i < ring->num_kept; i++) {
		if (!targets[i].binding)
			continue;
		cleat_binding_put(targets[i].binding);
		ring->kept[num++] = ring->kept[i];
	}
	ring->num_kept = num;
}

static int send_kept(struct cleat_mmio *mmio)
{
	struct target targets[CLEAT_RING_BATCH];
	struct cleat_ring *ring = &mmio->ring;
	int err = 0;

	for (unsigned i = 0; i < ring->num_kept; i++)
		find_target(mmio, &ring->kept[i], &targets[i]);
	for (unsigned i = 0; i < ring->num_kept && !err; i++)
		while (targets[i].binding && !err)
			err = send_some(ring, targets, i);
	keep_rest(ring, targets);
	return err;
}

/* --- Who does it ------------------------------------------------------------- */

/*
 * The ring first, and then whether somebody is at it: he says so before he
 * takes anything out, so an empty ring and nobody at it means that all is sent.
 */
static bool has_work(struct cleat_ring *ring)
{
	return atomic_load(&ring->there) &&
	       (ring->take(ring->opaque, NULL, 0) ||
		atomic_load(&ring->unfinished));
}

static void wait_a_tick(struct cleat_ring *ring)
{
	struct timespec until;

	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_nsec += TICK_NS;
	if (until.tv_nsec >= 1000000000) {
		until.tv_nsec -= 1000000000;
		until.tv_sec++;
	}
	pthread_cond_timedwait(&ring->idle, &ring->lock, &until);
}

static int take_role(struct cleat_ring *ring)
{
	int err = 0;

	pthread_mutex_lock(&ring->lock);
	while (ring->busy && !err) {
		wait_a_tick(ring);
		if (cleat_cancel_is_set(cleat_cancel_current()))
			err = -EINTR;
	}
	if (!err) {
		ring->busy = true;
		atomic_store(&ring->unfinished, true);
	}
	pthread_mutex_unlock(&ring->lock);
	return err;
}

static void give_role(struct cleat_ring *ring)
{
	pthread_mutex_lock(&ring->lock);
	ring->busy = false;
	atomic_store(&ring->unfinished, ring->num_kept > 0);
	/* All of them: each has to see for himself what was left. */
	pthread_cond_broadcast(&ring->idle);
	pthread_mutex_unlock(&ring->lock);
}

static int drain(struct cleat_mmio *mmio)
{
	struct cleat_ring *ring = &mmio->ring;
	unsigned left = ring->take(ring->opaque, NULL, 0);
	int err = send_kept(mmio);

	while (left && !err) {
		unsigned most = left < CLEAT_RING_BATCH ? left :
							  CLEAT_RING_BATCH;

		ring->num_kept = ring->take(ring->opaque, ring->kept, most);
		if (!ring->num_kept)
			break;
		left -= ring->num_kept < left ? ring->num_kept : left;
		err = send_kept(mmio);
	}
	return err;
}

int cleat_mmio_drain(struct cleat_mmio *mmio)
{
	struct cleat_ring *ring = &mmio->ring;
	int err;

	if (!has_work(ring))
		return 0;
	err = take_role(ring);
	if (err)
		return err;
	err = drain(mmio);
	give_role(ring);
	return err;
}
