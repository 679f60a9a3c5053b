/* SPDX-License-Identifier: BSD-2-Clause */
/* Which parts of a region are posted, and collected where the VM can. */
#include <errno.h>
#include <stdlib.h>

#include "mmio/private.h"

bool cleat_binding_is_posted(const struct cleat_binding *binding,
			     uint64_t offset, unsigned length)
{
	for (unsigned i = 0; i < binding->num_zones; i++) {
		const struct cleat_zone *zone = &binding->zones[i];

		if (offset - zone->offset < zone->length)
			return length <=
			       zone->length - (offset - zone->offset);
	}
	return false;
}

bool cleat_binding_must_order(struct cleat_binding *binding)
{
	struct cleat_binding *other;

	for (other = binding->mmio->bindings; other; other = other->next)
		if (other->dev == binding->dev && atomic_load(&other->ordered))
			return true;
	return false;
}

/* --- Making them, control lock held ------------------------------------------ */

static bool writes_directly(const struct cleat_binding *binding)
{
	for (unsigned i = 0; i < binding->runs.num; i++) {
		enum cleat_way way = binding->runs.runs[i].seg.write_way;

		if (way != CLEAT_WAY_TRAP && way != CLEAT_WAY_EMULATED)
			return true;
	}
	return false;
}

/* The binding of a region; also whether the device has a direct way anywhere. */
static struct cleat_binding *find(struct cleat_mmio *mmio,
				  struct cleat_device *dev, unsigned region,
				  bool *ret_direct)
{
	struct cleat_binding *binding, *found = NULL;

	for (binding = mmio->bindings; binding; binding = binding->next) {
		if (binding->dev != dev)
			continue;
		*ret_direct |= writes_directly(binding);
		if (binding->region == region)
			found = binding;
	}
	return found;
}

static int add_zone(struct cleat_binding *binding, uint64_t start, uint64_t end)
{
	unsigned num = binding->num_zones;
	struct cleat_zone *zones;

	for (unsigned i = 0; i < num; i++) {
		const struct cleat_zone *zone = &binding->zones[i];

		/* KVM would have two for one write, and looks at one. */
		if (start < zone->offset + zone->length && zone->offset < end)
			return -EEXIST;
	}
	zones = reallocarray(binding->zones, num + 1, sizeof(*zones));
	if (!zones)
		return -ENOMEM;
	zones[num] = (struct cleat_zone){ start, end - start, false };
	binding->zones = zones;
	binding->num_zones = num + 1;
	return 0;
}

/* Runs that touch and are all written by message make one zone. */
static int add_zones(struct cleat_binding *binding, uint64_t start,
		     uint64_t end)
{
	uint64_t from = start, to = start;
	int err = 0;

	for (unsigned i = 0; i < binding->runs.num && !err; i++) {
		const struct cleat_segment *seg = &binding->runs.runs[i].seg;
		uint64_t seg_end = seg->offset + seg->length;

		if (seg_end <= start || seg->offset >= end)
			continue;
		if (seg->write_way == CLEAT_WAY_TRAP) {
			to = seg_end < end ? seg_end : end;
			continue;
		}
		if (to > from)
			err = add_zone(binding, from, to);
		from = to = seg_end;
	}
	return !err && to > from ? add_zone(binding, from, to) : err;
}

/* One VM's ring, whatever the bindings are made with. */
static int take_ring(struct cleat_binding *binding)
{
	const struct cleat_vm_ops *ops = &binding->ops;
	struct cleat_ring *ring = &binding->mmio->ring;

	if (!ops->coalesce_add || !ops->coalesce_remove ||
	    !ops->coalesced_take) {
		/* Posted only; and nothing to be taken out again. */
		binding->ops.coalesce_add = NULL;
		return 0;
	}
	if (atomic_load(&ring->there))
		return ring->take == ops->coalesced_take &&
				       ring->opaque == ops->opaque ?
			       0 :
			       -EINVAL;
	ring->take = ops->coalesced_take;
	ring->opaque = ops->opaque;
	atomic_store(&ring->there, true);
	return 0;
}

static void order_device(struct cleat_mmio *mmio, struct cleat_device *dev)
{
	struct cleat_binding *binding;

	for (binding = mmio->bindings; binding; binding = binding->next)
		if (binding->dev == dev) {
			atomic_store(&binding->ordered, true);
			cleat_binding_divert(binding);
		}
}

static int coalesce(struct cleat_mmio *mmio, struct cleat_device *dev,
		    unsigned region, uint64_t offset, uint64_t length,
		    uint32_t flags)
{
	bool direct = false;
	struct cleat_binding *binding = find(mmio, dev, region, &direct);
	int err;

	if (!binding)
		return -ENOENT;
	if (!length || offset > binding->length ||
	    length > binding->length - offset)
		return -ERANGE;
	/* Accesses look at the zones without a lock. */
	if (binding->seen)
		return -EBUSY;
	if (direct && !(flags & CLEAT_COALESCE_ANYWAY))
		return -EOPNOTSUPP;
	if (!binding->writable)
		return 0;
	err = take_ring(binding);
	if (err)
		return err;
	/* First: when memory runs out, some of the zones may be there. */
	order_device(mmio, dev);
	return add_zones(binding, offset, offset + length);
}

static const char *reason(int err)
{
	switch (err) {
	case -ENOENT:
		return "it is not bound";
	case -ERANGE:
		return "the range is not inside it";
	case -EBUSY:
		return "it has been placed already";
	case -EEXIST:
		return "a part of it is coalesced already";
	case -EOPNOTSUPP:
		return "the device has pages or doorbells that do not wait for "
		       "collected writes";
	case -ENOMEM:
		return "no memory";
	default:
		return "an unknown flag, or two VMs in one table";
	}
}

int cleat_mmio_coalesce(struct cleat_mmio *mmio, struct cleat_device *dev,
			unsigned region, uint64_t offset, uint64_t length,
			uint32_t flags, struct cleat_error *reterr)
{
	int err = -EINVAL;

	if (!(flags & ~CLEAT_COALESCE_ANYWAY)) {
		pthread_mutex_lock(&mmio->lock);
		err = coalesce(mmio, dev, region, offset, length, flags);
		pthread_mutex_unlock(&mmio->lock);
	}
	return err ? cleat_fail(reterr, CLEAT_ORIGIN_LOCAL, err,
				"region %u: cannot coalesce: %s", region,
				reason(err)) :
		     0;
}
