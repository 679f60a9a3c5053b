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

/* Times that cleat_mmio_fault() found something, in the whole process. */
static _Atomic uint64_t mends;

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
static void mend(struct cleat_mmio *mmio)
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
		atomic_fetch_add(&mends, 1);
	}
}

int cleat_mmio_fault(struct cleat_mmio *mmio)
{
	/*
	 * Several vCPUs run into one hole, and one of them mends it: what
	 * happened since this thread asked last counts for it too.
	 */
	static _Thread_local uint64_t seen;
	uint64_t now;

	pthread_mutex_lock(&mmio->lock);
	mend(mmio);
	pthread_mutex_unlock(&mmio->lock);
	now = atomic_load(&mends);
	if (now == seen)
		return -ENOENT;
	seen = now;
	return 0;
}
