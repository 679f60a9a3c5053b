/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The only file that knows which flavour of liburcu it is: bp, because a host
 * program that uses liburcu itself would die of a second registration (memb)
 * and a guest that runs without exits would stall every update (qsbr). A VMM's
 * own register and online hooks belong into these three functions.
 */
#include <urcu-bp.h>

#include "table/table.h"

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
	urcu_bp_read_lock();
	SAYS(acquire, &updates);
}

void cleat_read_unlock(void)
{
	SAYS(release, &sections);
	urcu_bp_read_unlock();
}

void cleat_synchronize(void)
{
	SAYS(release, &updates);
	urcu_bp_synchronize_rcu();
	SAYS(acquire, &sections);
}
