/* SPDX-License-Identifier: BSD-2-Clause */
#include <limits.h>
#include <linux/futex.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "mmio/private.h"

/* Threads are dealt out over the stripes as they come. */
static unsigned thread_number(void)
{
	static atomic_uint threads;
	static _Thread_local unsigned number;

	if (!number)
		number = 1 + atomic_fetch_add_explicit(&threads, 1,
						       memory_order_relaxed);
	return number;
}

struct cleat_stripe *cleat_binding_stripe(struct cleat_binding *binding)
{
	return &binding->stripes[thread_number() & binding->stripe_mask];
}

struct cleat_binding *cleat_binding_get(struct cleat_mmio *mmio,
					enum cleat_space space,
					uint64_t address, uint64_t *ret_offset)
{
	struct cleat_binding *binding = NULL;
	struct cleat_table_range range;

	cleat_read_lock();
	if (cleat_table_find(mmio->spaces[space].table, address, &range)) {
		binding = range.entry;
		/*
		 * What comes next is in another line of memory, which with many
		 * regions is far away; the count below is a barrier, behind
		 * which nobody would begin to fetch it.
		 */
		__builtin_prefetch(binding->runs.runs);
		/*
		 * Relaxed: the grace period that follows unpublishing shows
		 * this to whoever then waits for the count.
		 */
		atomic_fetch_add_explicit(
			&cleat_binding_stripe(binding)->inside, 1,
			memory_order_relaxed);
		*ret_offset = address - range.start;
	}
	cleat_read_unlock();
	return binding;
}

void cleat_binding_put(struct cleat_binding *binding)
{
	struct cleat_stripe *stripe = cleat_binding_stripe(binding);

	/*
	 * Once the count is down the binding may be freed, but not before a
	 * grace period: so it is still there when we look for a waiter. Both
	 * sides are sequentially consistent: either we see the waiter, or it
	 * sees our count.
	 */
	cleat_read_lock();
	atomic_fetch_sub(&stripe->inside, 1);
	if (atomic_load(&binding->draining)) {
		atomic_fetch_add(&binding->drain_word, 1);
		syscall(SYS_futex, &binding->drain_word, FUTEX_WAKE_PRIVATE,
			INT_MAX, NULL, NULL, 0);
	}
	cleat_read_unlock();
}

static bool is_empty(struct cleat_binding *binding)
{
	for (unsigned i = 0; i <= binding->stripe_mask; i++)
		if (atomic_load(&binding->stripes[i].inside))
			return false;
	return true;
}

void cleat_binding_drain(struct cleat_binding *binding)
{
	atomic_fetch_add(&binding->draining, 1);
	for (;;) {
		unsigned word = atomic_load(&binding->drain_word);

		if (is_empty(binding))
			break;
		syscall(SYS_futex, &binding->drain_word, FUTEX_WAIT_PRIVATE,
			word, NULL, NULL, 0);
	}
	atomic_fetch_sub(&binding->draining, 1);
	/* For those who are still in cleat_binding_put(). */
	cleat_synchronize();
}

void cleat_binding_pin(struct cleat_binding *binding)
{
	atomic_fetch_add_explicit(&binding->pins, 1, memory_order_relaxed);
}

void cleat_binding_unpin(struct cleat_binding *binding)
{
	if (atomic_fetch_sub(&binding->pins, 1) != 1)
		return;
	cleat_device_unpin(binding->dev);
	pthread_mutex_destroy(&binding->flights_lock);
	free(binding);
}
