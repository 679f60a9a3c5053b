/* SPDX-License-Identifier: BSD-2-Clause */
/* What happens when a device goes: lost, shut down, or caught cheating. */
#include <errno.h>
#include <sys/stat.h>

#include "mmio/private.h"

/*
 * Control lock held. From now on the guest reads ones: first those who trap,
 * then, with slots and ioeventfds gone, all.
 */
static void make_absent(struct cleat_binding *binding)
{
	atomic_store(&binding->lost, true);
	cleat_binding_divert(binding);
	cleat_binding_uninstall(binding);
}

static struct cleat_binding *of_hook(struct cleat_device_hook *hook)
{
	return (struct cleat_binding *)((char *)hook -
					offsetof(struct cleat_binding, hook));
}

static void on_lost(struct cleat_device_hook *hook)
{
	struct cleat_binding *binding = of_hook(hook);

	pthread_mutex_lock(&binding->mmio->lock);
	make_absent(binding);
	pthread_mutex_unlock(&binding->mmio->lock);
}

static void on_shutdown(struct cleat_device_hook *hook)
{
	struct cleat_binding *binding = of_hook(hook);

	cleat_device_hook_remove(binding->dev, hook);
	cleat_binding_withdraw(binding);
}

int cleat_binding_hook(struct cleat_binding *binding)
{
	binding->hook.rank = CLEAT_HOOK_MMIO;
	binding->hook.lost = on_lost;
	binding->hook.shutdown = on_shutdown;
	return cleat_device_hook_add(binding->dev, &binding->hook);
}

void cleat_binding_withdraw(struct cleat_binding *binding)
{
	struct cleat_mmio *mmio = binding->mmio;

	pthread_mutex_lock(&mmio->lock);
	binding->gone = true;
	atomic_store(&binding->lost, true);
	cleat_binding_unpublish(binding);
	cleat_mmio_settle(mmio, binding->space);
	pthread_mutex_unlock(&mmio->lock);
	cleat_synchronize();
	cleat_flights_recall(binding);
	cleat_binding_drain(binding);
}

/* --- Faults ----------------------------------------------------------------- */

/*
 * Control lock held. Numbers of all tables, so that a thread that has been at
 * another one does not take that one's for this one's.
 */
void cleat_mmio_mended(struct cleat_mmio *mmio)
{
	static _Atomic uint64_t mends;

	mmio->last_mend = atomic_fetch_add(&mends, 1) + 1;
}

static bool has_shrunk(const struct cleat_resolve_area *area)
{
	struct stat st;

	return fstat(area->fd, &st) || st.st_size < 0 ||
	       (uint64_t)st.st_size < area->fd_offset + area->length;
}

static bool has_slot(const struct cleat_binding *binding)
{
	for (unsigned i = 0; i < binding->runs.num_slots; i++)
		if (binding->slot_states[i] != CLEAT_SLOT_OUT)
			return true;
	return false;
}

static bool is_broken(const struct cleat_binding *binding)
{
	if (cleat_device_is_lost(binding->dev))
		return true;
	for (unsigned i = 0; i < binding->runs.num_slots; i++)
		if (binding->slot_states[i] != CLEAT_SLOT_OUT &&
		    has_shrunk(&binding->areas[binding->runs.slots[i].area]))
			return true;
	return false;
}

/* Control lock held. */
static void end_cheats(struct cleat_mmio *mmio)
{
	struct cleat_binding *binding;

	for (binding = mmio->bindings; binding; binding = binding->next) {
		if (!has_slot(binding) || !is_broken(binding))
			continue;
		make_absent(binding);
		/* Not the first cause if the device is lost already. */
		cleat_device_fail(binding->dev, -EFAULT,
				  "region %u: the server shrank a file under "
				  "the guest",
				  binding->region);
	}
}

/*
 * Control lock held. Pages that were missing when the guest touched them may
 * be there again when we look, and those of huge pages can be missing from a
 * file that is as long as ever. So whatever could have been missing is the
 * guest's no more; message by message it goes on.
 */
static void take_no_chances(struct cleat_mmio *mmio)
{
	struct cleat_binding *binding;

	for (binding = mmio->bindings; binding; binding = binding->next)
		cleat_binding_remove_unsafe(binding);
}

int cleat_mmio_fault(struct cleat_mmio *mmio)
{
	/*
	 * Several vCPUs run into one hole, and one of them mends it, or the
	 * device goes, or the guest itself moves the region: a slot that was
	 * taken out since this thread asked last may be the one it ran into.
	 */
	static _Thread_local uint64_t seen;
	bool mended;

	pthread_mutex_lock(&mmio->lock);
	end_cheats(mmio);
	if (mmio->last_mend == seen)
		take_no_chances(mmio);
	mended = mmio->last_mend != seen;
	seen = mmio->last_mend;
	pthread_mutex_unlock(&mmio->lock);
	return mended ? 0 : -ENOENT;
}
