/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Where bindings are placed, and who gives way to whom. A binding that cannot
 * have its address waits in a list; each change goes once over that list in the
 * order of who goes first, because whether one can be placed depends on those
 * before it only.
 */
#include <errno.h>
#include <limits.h>
#include <unistd.h>

#include "mmio/private.h"

/* --- Slots and ioeventfds --------------------------------------------------- */

static bool is_safe(const struct cleat_binding *b, unsigned i)
{
	return b->areas[b->runs.slots[i].area].safe;
}

/* False if the VM does not let it go: the guest may go on reaching it. */
static bool remove_slot(struct cleat_binding *b, unsigned i)
{
	if (b->slot_states[i] == CLEAT_SLOT_OUT)
		return true;
	if (b->ops.slot_remove(b->ops.opaque, b->slots[i])) {
		b->slot_states[i] = CLEAT_SLOT_STUCK;
		return false;
	}
	b->slot_states[i] = CLEAT_SLOT_OUT;
	if (!is_safe(b, i))
		cleat_mmio_mended(b->mmio);
	return true;
}

static void add_slot(struct cleat_binding *b, unsigned i, uint64_t page)
{
	const struct cleat_run_slot *slot = &b->runs.slots[i];
	uint64_t guest = b->address + slot->offset;
	uint8_t *host = b->area_hosts[slot->area];

	/* A region smaller than a page may be anywhere in one. */
	if (!b->ops.slot_add || !b->ops.slot_remove || guest % page)
		return;
	/* One that was stuck when the region was elsewhere. */
	if (!remove_slot(b, i))
		return;
	host += slot->offset - b->areas[slot->area].offset;
	if (!b->ops.slot_add(b->ops.opaque, guest, slot->length, host,
			     slot->writable ? 0 : CLEAT_SLOT_READONLY,
			     &b->slots[i]))
		b->slot_states[i] = CLEAT_SLOT_IN;
}

static struct cleat_ioeventfd kick_at(const struct cleat_binding *b,
				      const struct cleat_segment *seg,
				      const struct cleat_kick *kick)
{
	return (struct cleat_ioeventfd){
		.space = b->space,
		.address = b->address + seg->offset,
		.length = kick->length,
		.match = kick->match,
		.datamatch = kick->datamatch,
		.fd = kick->fd,
	};
}

static void each_kick(struct cleat_binding *b,
		      void (*what)(struct cleat_binding *b, bool *in,
				   const struct cleat_ioeventfd *kick))
{
	for (unsigned i = 0; i < b->runs.num; i++) {
		const struct cleat_run *run = &b->runs.runs[i];

		for (unsigned k = 0; run->wanted && k < run->seg.num_kicks;
		     k++) {
			const struct cleat_kick *kick = &run->seg.kicks[k];
			struct cleat_ioeventfd at = kick_at(b, &run->seg, kick);

			if (run->wanted[k])
				what(b, &b->kick_in[kick - b->runs.kicks], &at);
		}
	}
}

static void add_kick(struct cleat_binding *b, bool *in,
		     const struct cleat_ioeventfd *kick)
{
	*in = !b->ops.ioeventfd_add(b->ops.opaque, kick);
}

static void remove_kick(struct cleat_binding *b, bool *in,
			const struct cleat_ioeventfd *kick)
{
	if (*in)
		b->ops.ioeventfd_remove(b->ops.opaque, kick);
	*in = false;
}

static void add_zones(struct cleat_binding *b)
{
	for (unsigned i = 0; i < b->num_zones && b->ops.coalesce_add; i++) {
		struct cleat_zone *zone = &b->zones[i];

		zone->in = !b->ops.coalesce_add(b->ops.opaque, b->space,
						b->address + zone->offset,
						zone->length);
	}
}

/*
 * What of it is still in the ring finds no zone of the binding's there any
 * more, and is dropped: the guest wrote it while it took the place away. Other
 * than that the VMM has drained the ring since.
 */
static void remove_zones(struct cleat_binding *b)
{
	for (unsigned i = 0; i < b->num_zones; i++) {
		struct cleat_zone *zone = &b->zones[i];

		if (zone->in)
			b->ops.coalesce_remove(b->ops.opaque, b->space,
					       b->address + zone->offset,
					       zone->length);
		zone->in = false;
	}
}

void cleat_binding_install(struct cleat_binding *binding)
{
	uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);

	if (atomic_load(&binding->lost))
		return;
	for (unsigned i = 0; i < binding->runs.num_slots; i++)
		add_slot(binding, i, page);
	if (binding->ops.ioeventfd_add && binding->ops.ioeventfd_remove)
		each_kick(binding, add_kick);
	add_zones(binding);
}

void cleat_binding_uninstall(struct cleat_binding *binding)
{
	/* Placed or not: some may have been stuck the last time. */
	for (unsigned i = 0; i < binding->runs.num_slots; i++)
		remove_slot(binding, i);
	if (binding->ops.ioeventfd_remove)
		each_kick(binding, remove_kick);
	remove_zones(binding);
}

void cleat_binding_remove_unsafe(struct cleat_binding *binding)
{
	for (unsigned i = 0; i < binding->runs.num_slots; i++)
		if (!is_safe(binding, i))
			remove_slot(binding, i);
}

/* --- In and out of the table ------------------------------------------------- */

static bool goes_before(const struct cleat_binding *a,
			const struct cleat_binding *b)
{
	if (a->order != b->order)
		return a->order < b->order;
	if (a->region != b->region)
		return a->region < b->region;
	return a->serial < b->serial;
}

static struct cleat_mmio_space *space_of(struct cleat_binding *binding)
{
	return &binding->mmio->spaces[binding->space];
}

void cleat_binding_wait(struct cleat_binding *binding)
{
	struct cleat_binding **at = &space_of(binding)->waiting;

	while (*at && goes_before(*at, binding))
		at = &(*at)->next_waiting;
	binding->next_waiting = *at;
	*at = binding;
	binding->placement = CLEAT_WAITING;
}

static void stop_waiting(struct cleat_binding *binding)
{
	struct cleat_binding **at = &space_of(binding)->waiting;

	while (*at != binding)
		at = &(*at)->next_waiting;
	*at = binding->next_waiting;
}

bool cleat_binding_unpublish(struct cleat_binding *binding)
{
	bool placed = binding->placement == CLEAT_PLACED;

	if (binding->placement == CLEAT_WAITING)
		stop_waiting(binding);
	cleat_binding_uninstall(binding);
	if (placed)
		cleat_table_remove(space_of(binding)->table, binding->address,
				   binding->length);
	binding->placement = CLEAT_UNPLACED;
	return placed;
}

struct contest {
	struct cleat_binding *binding;
	struct cleat_binding *losers;
};

/* One that has a part of the address: stop if it goes before us. */
static int contend(void *opaque, const struct cleat_table_range *range)
{
	struct contest *contest = opaque;
	struct cleat_binding *other = range->entry;

	if (goes_before(other, contest->binding))
		return 1;
	other->next_loser = contest->losers;
	contest->losers = other;
	return 0;
}

/* How far the first run goes on, in the same way and without a kick. */
static uint64_t store_end(const struct cleat_runs *runs)
{
	const struct cleat_run *run = runs->runs, *end = run + runs->num;
	int area = run->area;
	uint64_t at = 0;

	for (; run < end && run->store == CLEAT_WAY_MAP && !run->wanted &&
	       run->area == area;
	     run++)
		at += run->seg.length;
	return at;
}

static unsigned fit(uint64_t end)
{
	return end < UINT_MAX ? (unsigned)end : UINT_MAX;
}

static struct cleat_direct direct_of(const struct cleat_binding *binding)
{
	const struct cleat_run *run = binding->runs.runs;
	struct cleat_direct direct = { .host = run->host, .dev = binding->dev };

	if (atomic_load(&binding->lost) || atomic_load(&binding->ordered))
		return direct;
	if (run->load == CLEAT_WAY_MAP)
		direct.load_end = fit(run->load_end);
	direct.store_end = fit(store_end(&binding->runs));
	return direct;
}

void cleat_binding_divert(struct cleat_binding *binding)
{
	struct cleat_table *table = space_of(binding)->table;
	struct cleat_table_range range;
	struct cleat_direct *direct;
	void *aside;

	if (binding->placement != CLEAT_PLACED ||
	    !cleat_table_find_aside(table, binding->address, &range, &aside) ||
	    range.entry != binding)
		return;
	direct = aside;
	atomic_store(&direct->load_end, 0);
	atomic_store(&direct->store_end, 0);
}

/* @binding is at the head of *at, a place in the list of those who wait. */
static bool try_to_place(struct cleat_binding **at, bool *moved)
{
	struct cleat_binding *binding = *at, *loser;
	struct cleat_mmio_space *space = space_of(binding);
	struct contest contest = { .binding = binding };
	struct cleat_direct direct;
	struct cleat_table_range range = {
		.start = binding->address,
		.length = binding->length,
		.entry = binding,
	};

	if (cleat_mmio_is_reserved(space, range.start, range.length) ||
	    cleat_table_visit(space->table, range.start, range.length, contend,
			      &contest))
		return false;
	/* They wait behind us in the list, where the same pass finds them. */
	for (loser = contest.losers; loser; loser = loser->next_loser) {
		*moved |= cleat_binding_unpublish(loser);
		cleat_binding_wait(loser);
	}
	direct = direct_of(binding);
	binding->no_memory =
		cleat_table_add_aside(space->table, &range, &direct);
	if (binding->no_memory)
		return false;
	*at = binding->next_waiting;
	binding->seen = true;
	binding->placement = CLEAT_PLACED;
	cleat_binding_install(binding);
	return true;
}

bool cleat_mmio_settle(struct cleat_mmio *mmio, enum cleat_space space)
{
	struct cleat_binding **at = &mmio->spaces[space].waiting;
	bool moved = false;

	while (*at)
		if (!try_to_place(at, &moved))
			at = &(*at)->next_waiting;
	return moved;
}

/* --- What users call ------------------------------------------------------- */

/* Control lock held. */
static int place(struct cleat_binding *binding, uint64_t address, bool *moved)
{
	binding->no_memory = false;
	*moved = cleat_binding_unpublish(binding);
	binding->address = address;
	if (!binding->gone)
		cleat_binding_wait(binding);
	*moved |= cleat_mmio_settle(binding->mmio, binding->space);
	if (binding->placement != CLEAT_WAITING || !binding->no_memory)
		return 0;
	cleat_binding_unpublish(binding);
	return -ENOMEM;
}

int cleat_binding_place(struct cleat_binding *binding, uint64_t address)
{
	struct cleat_mmio *mmio = binding->mmio;
	bool moved = false;
	int err = cleat_mmio_check(binding->space, address, binding->length);

	if (err)
		return err;
	pthread_mutex_lock(&mmio->lock);
	if (binding->placement == CLEAT_UNPLACED || binding->address != address)
		err = place(binding, address, &moved);
	pthread_mutex_unlock(&mmio->lock);
	/* When this returns, nobody begins an access at the old address. */
	if (moved)
		cleat_synchronize();
	return err;
}

void cleat_binding_unplace(struct cleat_binding *binding)
{
	struct cleat_mmio *mmio = binding->mmio;
	bool moved;

	pthread_mutex_lock(&mmio->lock);
	moved = cleat_binding_unpublish(binding);
	moved |= cleat_mmio_settle(mmio, binding->space);
	pthread_mutex_unlock(&mmio->lock);
	if (moved)
		cleat_synchronize();
}
