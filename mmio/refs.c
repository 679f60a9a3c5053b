/* SPDX-License-Identifier: BSD-2-Clause */
#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "mmio/private.h"

/* --- Which stripe is a thread's ---------------------------------------------- */

#define MAX_STRIPES 64

/* Set once, by begin(); a quarter of the stripes are shared. */
static unsigned num_stripes, num_own;
static pthread_key_t leaving;
static bool has_key;

/* One bit for each own stripe that a thread has. */
static _Atomic uint64_t taken;
static atomic_uint shared_turn;

/* 1 and the stripe's number; 0: none yet. */
static _Thread_local unsigned mine;

/* What this thread counted is seen by who has the stripe after it. */
static void leave(void *unused)
{
	unsigned number = mine - 1;

	mine = 0;
	if (number < num_own)
		atomic_fetch_and_explicit(&taken, ~(1ull << number),
					  memory_order_release);
}

/* Twice the CPUs: VMs have seldom more vCPUs. */
static void begin(void)
{
	long cpus = sysconf(_SC_NPROCESSORS_CONF);

	num_stripes = 4;
	while (num_stripes < MAX_STRIPES && (long)num_stripes < 2 * cpus)
		num_stripes *= 2;
	num_own = num_stripes - num_stripes / 4;
	has_key = !pthread_key_create(&leaving, leave);
}

/* A library may be unloaded before the threads end that have called it. */
static void __attribute__((destructor)) end(void)
{
	if (has_key)
		pthread_key_delete(leaving);
	has_key = false;
}

unsigned cleat_num_stripes(void)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	pthread_once(&once, begin);
	return num_stripes;
}

bool cleat_stripe_is_shared(unsigned number)
{
	return number >= num_own;
}

/* The lowest that is free, or num_own. */
static unsigned take_own(void)
{
	uint64_t all = ~0ull >> (64 - num_own), was = atomic_load(&taken);
	uint64_t free;

	while ((free = all & ~was))
		if (atomic_compare_exchange_weak(&taken, &was,
						 was | (free & -free)))
			return (unsigned)__builtin_ctzll(free);
	return num_own;
}

/* At a thread's first access; a binding is there, so begin() has run. */
static void __attribute__((noinline)) choose(void)
{
	unsigned number = num_own;

	/* Without the key nobody would give it back. */
	if (has_key && !pthread_setspecific(leaving, &taken))
		number = take_own();
	if (number == num_own)
		number += atomic_fetch_add(&shared_turn, 1) %
			  (num_stripes - num_own);
	mine = number + 1;
}

static struct cleat_stripe *stripe_of(struct cleat_binding *binding)
{
	if (__builtin_expect(!mine, false))
		choose();
	return &binding->stripes[mine - 1];
}

void cleat_stripe_count(struct cleat_stripe *stripe, enum cleat_counter counter)
{
	_Atomic uint64_t *count = &stripe->counts[counter];
	uint64_t was = atomic_load_explicit(count, memory_order_relaxed);

	if (stripe->shared)
		atomic_fetch_add_explicit(count, 1, memory_order_relaxed);
	else
		atomic_store_explicit(count, was + 1, memory_order_relaxed);
}

void cleat_binding_count(struct cleat_binding *binding,
			 enum cleat_counter counter)
{
	cleat_stripe_count(stripe_of(binding), counter);
}

/* --- Who is inside ------------------------------------------------------------ */

/* Relaxed: the grace period that follows unpublishing shows this to whoever
 * then waits for the count. */
static void count_in(struct cleat_stripe *stripe)
{
	unsigned was =
		atomic_load_explicit(&stripe->inside, memory_order_relaxed);

	if (stripe->shared)
		atomic_fetch_add_explicit(&stripe->inside, 1,
					  memory_order_relaxed);
	else
		atomic_store_explicit(&stripe->inside, was + 1,
				      memory_order_relaxed);
}

/* Release: what the access did comes before the binding's end. */
static void count_out(struct cleat_stripe *stripe)
{
	unsigned was =
		atomic_load_explicit(&stripe->inside, memory_order_relaxed);

	if (stripe->shared)
		atomic_fetch_sub_explicit(&stripe->inside, 1,
					  memory_order_release);
	else
		atomic_store_explicit(&stripe->inside, was - 1,
				      memory_order_release);
}

bool cleat_binding_find(struct cleat_mmio *mmio, enum cleat_space space,
			uint64_t address, struct cleat_found *found)
{
	struct cleat_direct *direct;
	struct cleat_table_range range;
	void *aside;
	bool is_there;

	cleat_read_lock();
	is_there = cleat_table_find_aside(mmio->spaces[space].table, address,
					  &range, &aside);
	if (is_there) {
		direct = aside;
		found->binding = range.entry;
		found->stripe = stripe_of(range.entry);
		count_in(found->stripe);
		found->offset = address - range.start;
		/* Copied: the table's part may be freed after the section. */
		found->host = direct->host;
		found->dev = direct->dev;
		found->load_end = atomic_load_explicit(&direct->load_end,
						       memory_order_relaxed);
		found->store_end = atomic_load_explicit(&direct->store_end,
							memory_order_relaxed);
	}
	cleat_read_unlock();
	return is_there;
}

struct cleat_binding *cleat_binding_get(struct cleat_mmio *mmio,
					enum cleat_space space,
					uint64_t address, uint64_t *ret_offset)
{
	struct cleat_found found;

	if (!cleat_binding_find(mmio, space, address, &found))
		return NULL;
	*ret_offset = found.offset;
	return found.binding;
}

static void __attribute__((noinline)) wake(struct cleat_binding *binding)
{
	atomic_fetch_add(&binding->drain_word, 1);
	syscall(SYS_futex, &binding->drain_word, FUTEX_WAKE_PRIVATE, INT_MAX,
		NULL, NULL, 0);
}

void cleat_stripe_put(struct cleat_stripe *stripe,
		      struct cleat_binding *binding)
{
	/*
	 * Two things rest on this being a read section. Once the count is down
	 * the binding may be freed, but not before a grace period: so it is
	 * still there when we look for a waiter. And no barrier is needed
	 * between the count and the look, because he who waits lets a grace
	 * period pass between saying so and looking at the counts: a section
	 * that began after he said so sees it, and one that began before has
	 * ended, so that he sees its count.
	 */
	cleat_read_lock();
	count_out(stripe);
	if (atomic_load_explicit(&stripe->draining, memory_order_relaxed))
		wake(binding);
	cleat_read_unlock();
}

void cleat_binding_put(struct cleat_binding *binding)
{
	cleat_stripe_put(stripe_of(binding), binding);
}

static bool is_empty(struct cleat_binding *binding)
{
	for (unsigned i = 0; i < num_stripes; i++)
		if (atomic_load(&binding->stripes[i].inside))
			return false;
	return true;
}

static void wait_until_empty(struct cleat_binding *binding)
{
	for (unsigned i = 0; i < num_stripes; i++)
		atomic_fetch_add(&binding->stripes[i].draining, 1);
	/* See cleat_stripe_put(). */
	cleat_synchronize();
	for (;;) {
		unsigned word = atomic_load(&binding->drain_word);

		if (is_empty(binding))
			break;
		syscall(SYS_futex, &binding->drain_word, FUTEX_WAIT_PRIVATE,
			word, NULL, NULL, 0);
	}
	for (unsigned i = 0; i < num_stripes; i++)
		atomic_fetch_sub(&binding->stripes[i].draining, 1);
}

void cleat_binding_drain(struct cleat_binding *binding)
{
	if (!is_empty(binding))
		wait_until_empty(binding);
	/* For those who are still in cleat_stripe_put(). */
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
