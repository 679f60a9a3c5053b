/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A server may offer more when it has been attached for a while. What is found
 * then is another binding, which takes the first one's place: accesses are in
 * the one or in the other, and nothing of either changes under them.
 */
#include <errno.h>

#include "mmio/private.h"

/* Control lock held. At no moment is there nobody at the address. */
static void exchange(struct cleat_binding *old, struct cleat_binding *new)
{
	cleat_binding_uninstall(old);
	/* Not the new one's: who finds that must not use the old one's page. */
	cleat_binding_divert(old);
	cleat_table_exchange(old->mmio->spaces[old->space].table, old->address,
			     old->length, new);
	old->placement = CLEAT_UNPLACED;
	new->placement = CLEAT_PLACED;
	new->seen = true;
	cleat_binding_install(new);
}

static void take_place(struct cleat_binding *old, struct cleat_binding *new)
{
	struct cleat_mmio *mmio = old->mmio;

	pthread_mutex_lock(&mmio->lock);
	new->serial = old->serial;
	new->address = old->address;
	if (!new->gone && old->placement == CLEAT_PLACED) {
		exchange(old, new);
	} else if (!new->gone && old->placement == CLEAT_WAITING) {
		cleat_binding_unpublish(old);
		cleat_binding_wait(new);
		cleat_mmio_settle(mmio, new->space);
	}
	pthread_mutex_unlock(&mmio->lock);
	/* Nobody begins an access in the old one; those in there are right. */
	cleat_synchronize();
	cleat_binding_drain(old);
}

int cleat_binding_refresh(struct cleat_binding **binding,
			  struct cleat_error *reterr)
{
	struct cleat_binding *old = *binding, *new;
	const struct cleat_binding_config config = {
		.size = sizeof(config),
		.device = old->dev,
		.region = old->region,
		.space = old->space,
		.order = old->order,
		.ops = &old->ops,
		.emulated = old->windows,
		.num_emulated = old->num_windows,
	};
	int err;

	/*
	 * A direct way would not be ordered with what is collected, whichever
	 * of the device's regions that is for.
	 */
	if (atomic_load(&old->ordered))
		return cleat_fail(reterr, CLEAT_ORIGIN_LOCAL, -EBUSY,
				  "region %u: writes to its device are "
				  "collected",
				  old->region);
	/*
	 * Nor with what was posted, which the reply to GET_REGION_IO_FDS comes
	 * after: without that reply there are no new ways.
	 */
	err = cleat_mmio_bind(old->mmio, &config, &new, reterr);
	if (err)
		return err;
	take_place(old, new);
	cleat_mmio_unbind(old);
	*binding = new;
	return 0;
}
