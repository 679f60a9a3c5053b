/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The only file that knows which flavour of liburcu it is: bp, because a host
 * program that uses liburcu itself would die of a second registration (memb)
 * and a guest that runs without exits would stall every update (qsbr). A VMM
 * that knows better brings its own.
 */
#include <cleat/rcu.h>
#include <errno.h>
#include <stdbool.h>
#include <urcu-bp.h>

#include "table/reclaim.h"
#include "table/table.h"

/*
 * liburcu's read lock and unlock are a few lines each, which it makes to be
 * compiled into programs under any licence. Called instead, each looks for the
 * thread's own variables anew, and a lookup takes half as long again. Not under
 * a sanitizer, which finds that liburcu aligns its readers less than they ask
 * for.
 */
#ifdef CLEAT_SANITIZED
#define bp_read_lock urcu_bp_read_lock
#define bp_read_unlock urcu_bp_read_unlock
#else
#include <urcu/static/urcu-bp.h>
#define bp_read_lock _urcu_bp_read_lock
#define bp_read_unlock _urcu_bp_read_unlock
#endif

/* Written only while nobody is in a section or waits for one. */
static struct cleat_rcu_ops given;
static bool is_given;

/*
 * liburcu 0.13 tells ThreadSanitizer nothing: a reader's loads before the end
 * of its section come before what is done after the grace period.
 */
#if defined(__SANITIZE_THREAD__)
#define WATCHED 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define WATCHED 1
#endif
#endif

#ifdef WATCHED
#include <sanitizer/tsan_interface.h>
static char sections, updates;
#define SAYS(what, address) __tsan_##what(address)
#else
#define SAYS(what, address) ((void)0)
#endif

void cleat_read_lock(void)
{
	if (__builtin_expect(is_given, false))
		given.read_lock();
	else
		bp_read_lock();
	SAYS(acquire, &updates);
}

void cleat_read_unlock(void)
{
	SAYS(release, &sections);
	if (__builtin_expect(is_given, false))
		given.read_unlock();
	else
		bp_read_unlock();
}

void cleat_synchronize(void)
{
	SAYS(release, &updates);
	if (is_given)
		given.synchronize();
	else
		urcu_bp_synchronize_rcu();
	SAYS(acquire, &sections);
}

int cleat_rcu_use(const struct cleat_rcu_ops *ops)
{
	if (ops && (ops->size < sizeof(*ops) || !ops->read_lock ||
		    !ops->read_unlock || !ops->synchronize))
		return -EINVAL;
	/* A snapshot read under one would be freed after the other's wait. */
	if (cleat_reclaim_is_used())
		return -EBUSY;
	is_given = ops;
	if (ops)
		given = *ops;
	return 0;
}
