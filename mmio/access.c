/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The trap path of a vCPU thread. An access is done in parts, one for each way
 * that it touches; what it has got so far is in struct access, so that a thread
 * that is called back can leave and go on later from there.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "mmio/private.h"

#define MOST 8

struct access {
	struct cleat_mmio *mmio;
	enum cleat_space space;
	uint64_t address;
	unsigned length;
	bool write;
	bool failed;
	unsigned done; /* bytes */
	uint8_t value[MOST];
};

/**
 * struct park - what stays with a cancel handle
 * @busy:    an access was called back and waits here to be repeated
 * @binding: then: where it went, its memory pinned
 * @access:  then: how far it has come
 * @flight:  the request, which outlives its thread's stack frame
 */
struct park {
	struct cleat_parked base;
	bool busy;
	struct cleat_binding *binding;
	struct access access;
	struct cleat_flight flight;
};

/* --- Parking ------------------------------------------------------------------ */

static void give_up(struct park *park)
{
	if (!park->busy)
		return;
	cleat_call_abandon(park->binding->dev, &park->flight.call);
	cleat_binding_unpin(park->binding);
	park->busy = false;
}

static void drop_park(struct cleat_parked *parked)
{
	struct park *park = (struct park *)parked;

	give_up(park);
	free(park);
}

static struct park *current_park(void)
{
	struct cleat_cancel *cancel = cleat_cancel_current();

	return cancel ? (struct park *)cleat_cancel_parked(cancel) : NULL;
}

/* Allocated once for each handle. NULL: no handle, or no memory. */
static struct park *make_park(void)
{
	struct cleat_cancel *cancel = cleat_cancel_current();
	struct park *park = current_park();

	if (!cancel || park)
		return park;
	park = calloc(1, sizeof(*park));
	if (!park)
		return NULL;
	park->base.drop = drop_park;
	cleat_cancel_park(cancel, &park->base);
	return park;
}

/* Leave with -EINTR; what is under way stays so. */
static void park_access(struct park *park, struct cleat_binding *binding,
			const struct access *access)
{
	if (!park->busy)
		cleat_binding_pin(binding);
	park->busy = true;
	park->binding = binding;
	park->access = *access;
}

static bool is_repeated(const struct park *park, const struct access *access)
{
	const struct access *parked = &park->access;

	return parked->mmio == access->mmio && parked->space == access->space &&
	       parked->address == access->address &&
	       parked->length == access->length &&
	       parked->write == access->write &&
	       (!access->write ||
		!memcmp(parked->value, access->value, access->length));
}

/* --- One part ------------------------------------------------------------------ */

/* An access counts once, for the way of its first part. */
static void count_way(struct cleat_binding *binding,
		      const struct access *access, enum cleat_counter counter)
{
	if (!access->done)
		cleat_binding_count(binding, counter);
}

/* Servers know the lengths that CPUs have, and not always all. */
static unsigned served_length(struct cleat_binding *binding, uint64_t offset,
			      unsigned length)
{
	if (length & (length - 1))
		length = cleat_natural(offset, length);
	if (length == 8 &&
	    cleat_device_has_quirk(binding->dev, CLEAT_QUIRK_SPLIT_8))
		length = 4;
	return length;
}

/* The next access to the device goes after it, and nobody waits for it. */
static int by_post(struct cleat_binding *binding, struct access *access,
		   uint64_t offset, unsigned length)
{
	int err;

	/* (the parts before it must not be done again) */
	if (access->done)
		make_park();
	length = served_length(binding, offset, length);
	count_way(binding, access, CLEAT_COUNT_TRAP_WRITE);
	err = cleat_region_post(binding->dev, binding->region, offset,
				access->value + access->done, length);
	if (err == -ECANCELED)
		return -EINTR;
	access->failed |= err != 0;
	access->done += length;
	return 0;
}

static int by_message(struct cleat_binding *binding, struct access *access,
		      uint64_t offset, unsigned length)
{
	struct park *park = make_park();
	struct cleat_flight local;
	struct cleat_flight *flight = park ? &park->flight : &local;
	uint8_t *value = access->value + access->done;
	int err;

	length = served_length(binding, offset, length);
	count_way(binding, access,
		  access->write ? CLEAT_COUNT_TRAP_WRITE :
				  CLEAT_COUNT_TRAP_READ);
	if (!(access->write ? binding->writable : binding->readable)) {
		access->failed = true;
		access->done += length;
		return 0;
	}
	err = cleat_flight_go(binding, flight, offset, value, length,
			      access->write, park);
	if (err == -EINTR)
		return err;
	access->failed |= err != 0;
	access->done += length;
	return 0;
}

static int by_handler(struct cleat_binding *binding, const struct cleat_run *run,
		      struct access *access, uint64_t offset, unsigned length)
{
	const struct cleat_emulated *window = &binding->windows[run->window];
	int err;

	/* (as in by_post()) */
	if (access->done)
		make_park();
	err = window->access(window->opaque, offset - window->offset,
			     access->value + access->done, length,
			     access->write);
	if (err == -EINTR)
		return err;
	count_way(binding, access,
		  access->write ? CLEAT_COUNT_EMULATED_WRITE :
				  CLEAT_COUNT_EMULATED_READ);
	access->failed |= err != 0;
	access->done += length;
	return 0;
}

static void by_load(struct cleat_binding *binding, const struct cleat_run *run,
		    struct access *access, uint64_t offset, unsigned length)
{
	const uint8_t *host = run->host + (offset - run->start);

	count_way(binding, access, CLEAT_COUNT_MAP_READ);
	cleat_host_load(host, access->value + access->done, length);
	access->done += length;
}

static void by_store(struct cleat_binding *binding, const struct cleat_run *run,
		     struct access *access, uint64_t offset, unsigned length)
{
	uint8_t *host = run->host + (offset - run->start);

	count_way(binding, access, CLEAT_COUNT_MAP_WRITE);
	cleat_host_store(host, access->value + access->done, length);
	access->done += length;
}

static bool matches(const struct cleat_kick *kick, const struct access *access)
{
	uint64_t value = 0;

	memcpy(&value, access->value, access->length);
	return (!kick->length || kick->length == access->length) &&
	       (!kick->match || kick->datamatch == value);
}

static bool by_shadow(struct cleat_binding *binding,
		      const struct cleat_run *run, struct access *access,
		      uint64_t offset, unsigned length)
{
	const struct cleat_io_fd *io = &binding->io_fds.entries[run->shadow];
	const struct cleat_kick *kick = run->seg.kicks;
	uint8_t *host = run->shadow_host + (offset - run->start);

	if (kick->match && (access->done || offset != io->offset ||
			    !matches(kick, access)))
		return false;
	count_way(binding, access, CLEAT_COUNT_SHADOW_WRITE);
	cleat_host_store(host, access->value + access->done, length);
	cleat_kick_fd(kick->fd);
	access->done += length;
	return true;
}

/* What KVM would have done, where an ioeventfd is not in place. */
static bool by_kick(struct cleat_binding *binding, const struct cleat_run *run,
		    struct access *access, uint64_t offset)
{
	if (access->done || !run->wanted || offset != run->start)
		return false;
	for (unsigned i = 0; i < run->seg.num_kicks; i++) {
		if (!matches(&run->seg.kicks[i], access))
			continue;
		count_way(binding, access, CLEAT_COUNT_IOEVENTFD_WRITE);
		cleat_kick_fd(run->seg.kicks[i].fd);
		access->done = access->length;
		return true;
	}
	return false;
}

static unsigned cut(const struct access *access, uint64_t offset, uint64_t end)
{
	unsigned left = access->length - access->done;

	return left < end - offset ? left : (unsigned)(end - offset);
}

static int store_part(struct cleat_binding *binding, struct access *access,
		      uint64_t offset)
{
	struct cleat_run *run = cleat_runs_find(&binding->runs, offset);
	unsigned length = cut(access, offset, run->store_end);

	if (by_kick(binding, run, access, offset))
		return 0;
	if (run->store == CLEAT_WAY_EMULATED)
		return by_handler(binding, run, access, offset, length);
	if (run->store == CLEAT_WAY_MAP) {
		by_store(binding, run, access, offset, length);
		return 0;
	}
	if (run->store == CLEAT_WAY_SHADOW &&
	    by_shadow(binding, run, access, offset, length))
		return 0;
	if (cleat_binding_is_posted(binding, offset, length))
		return by_post(binding, access, offset, length);
	return by_message(binding, access, offset, length);
}

static int load_part(struct cleat_binding *binding, struct access *access,
		     uint64_t offset)
{
	struct cleat_run *run = cleat_runs_find(&binding->runs, offset);
	unsigned length = cut(access, offset, run->load_end);

	if (run->load == CLEAT_WAY_EMULATED)
		return by_handler(binding, run, access, offset, length);
	if (run->load == CLEAT_WAY_TRAP)
		return by_message(binding, access, offset, length);
	by_load(binding, run, access, offset, length);
	return 0;
}

/* --- All of them ---------------------------------------------------------------- */

/* A device that is gone, or an address beyond the region's end. */
static void nothing_there(struct access *access)
{
	access->failed = true;
	access->done = access->length;
}

/* Go on from where the access is; @start is in the region. */
static int run_access(struct cleat_binding *binding, struct access *access,
		      uint64_t start)
{
	int err = 0;

	while (access->done < access->length && !err) {
		uint64_t offset = start + access->done;

		if (offset < start || offset >= binding->length ||
		    atomic_load_explicit(&binding->lost,
					 memory_order_relaxed) ||
		    cleat_device_is_lost(binding->dev))
			nothing_there(access);
		else if (access->write)
			err = store_part(binding, access, offset);
		else
			err = load_part(binding, access, offset);
	}
	return err;
}

static void finish(struct cleat_binding *binding, const struct access *access,
		   void *data)
{
	if (access->failed)
		cleat_binding_count(binding, CLEAT_COUNT_FAILED);
	if (!access->write)
		memcpy(data, access->value, access->length);
}

/*
 * Called back. An access that has done nothing yet is simply done again; one
 * that has sent a request, or a part of itself, has to be parked.
 */
static int call_back(struct cleat_binding *binding, const struct access *access)
{
	struct park *park = current_park();

	cleat_binding_count(binding, CLEAT_COUNT_CALLED_BACK);
	if (park && (park->flight.call.slot || access->done))
		park_access(park, binding, access);
	return -EINTR;
}

static int go_on(struct park *park, struct access *access, void *data)
{
	struct cleat_binding *was = park->binding, *binding;
	uint64_t offset = 0;
	int err = 0;

	if (access->done < access->length) {
		binding = cleat_binding_get(access->mmio, access->space,
					    access->address, &offset);
		/* Moved away between two parts: what is left hits nothing. */
		if (binding == was)
			err = run_access(binding, access, offset);
		else
			nothing_there(access);
		if (err)
			err = call_back(binding, access);
		if (binding)
			cleat_binding_put(binding);
	}
	if (err)
		return err;
	finish(was, access, data);
	park->busy = false;
	cleat_binding_unpin(was);
	return 0;
}

/*
 * The same access again. What is under way belongs to the place where the
 * access went, wherever that is now.
 */
static int resume(struct park *park, void *data)
{
	struct cleat_binding *binding = park->binding;
	struct access *access = &park->access;
	struct cleat_flight *flight = &park->flight;
	int err = 0;

	if (flight->call.slot) {
		err = cleat_flight_resume(binding->dev, flight,
					  access->value + access->done);
		if (err == -EINTR) {
			cleat_binding_count(binding, CLEAT_COUNT_CALLED_BACK);
			return err;
		}
		access->failed |= err != 0;
		access->done += flight->count;
	}
	return go_on(park, access, data);
}

static int begin(struct cleat_binding *binding, struct access *access,
		 uint64_t offset)
{
	int err = 0;

	/* What was collected for the device was written before this. */
	if (atomic_load_explicit(&binding->ordered, memory_order_relaxed))
		err = cleat_mmio_drain(access->mmio);
	if (err) {
		cleat_binding_count(binding, CLEAT_COUNT_CALLED_BACK);
		return err;
	}
	err = run_access(binding, access, offset);
	return err ? call_back(binding, access) : 0;
}

/* Whether it is one load or store and nothing else. */
static bool is_direct(const struct cleat_found *found, unsigned length,
		      bool write)
{
	uint64_t end = write ? found->store_end : found->load_end;

	return found->offset < end && length <= end - found->offset &&
	       !(length & (length - 1)) && !(found->offset & (length - 1)) &&
	       !cleat_device_is_lost(found->dev);
}

static void go_direct(const struct cleat_found *found, void *data,
		      unsigned length, bool write)
{
	uint8_t *host = found->host + found->offset;

	cleat_stripe_count(found->stripe, write ? CLEAT_COUNT_MAP_WRITE :
						  CLEAT_COUNT_MAP_READ);
	if (write)
		cleat_host_store(host, data, length);
	else
		cleat_host_load(host, data, length);
}

static struct access make_access(struct cleat_mmio *mmio,
				 enum cleat_space space, uint64_t address,
				 const void *data, unsigned length, bool write)
{
	struct access access = { .mmio = mmio,
				 .space = space,
				 .address = address,
				 .length = length,
				 .write = write };

	if (write)
		memcpy(access.value, data, length);
	else
		memset(access.value, 0xff, length);
	return access;
}

/* What has to look at the binding. */
static int by_binding(const struct cleat_found *found, struct access *access,
		      void *data)
{
	int err = begin(found->binding, access, found->offset);

	if (!err)
		finish(found->binding, access, data);
	return err;
}

int cleat_mmio_access(struct cleat_mmio *mmio, enum cleat_space space,
		      uint64_t address, void *data, unsigned length, bool write)
{
	struct cleat_found found;
	struct access access;
	struct park *park;
	int err = 0;

	if (!length || length > MOST || (unsigned)space > CLEAT_PORTS)
		return -EINVAL;
	park = current_park();
	if (park && park->busy) {
		access = make_access(mmio, space, address, data, length, write);
		if (is_repeated(park, &access))
			return resume(park, data);
		give_up(park);
	}
	if (!cleat_binding_find(mmio, space, address, &found))
		return -ENOENT;
	if (is_direct(&found, length, write)) {
		go_direct(&found, data, length, write);
	} else {
		access = make_access(mmio, space, address, data, length, write);
		err = by_binding(&found, &access, data);
	}
	cleat_stripe_put(found.stripe, found.binding);
	return err;
}
