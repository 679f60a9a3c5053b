/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef CLEAT_RCU_H
#define CLEAT_RCU_H

#include <stddef.h>

#include <cleat/api.h>

#ifdef __cplusplus
extern "C" {
#endif

/**
 * struct cleat_rcu_ops - the VMM's own RCU in place of the library's
 * @size:        sizeof(struct cleat_rcu_ops)
 * @read_lock:   begin a read section of the calling thread; sections nest
 * @read_unlock: end it
 * @synchronize: wait until every section that had begun has ended. Called
 *               outside of sections only
 *
 * The library looks addresses up in read sections, which are a few dozen
 * instructions long and never sleep. By itself it uses the bp flavour of
 * liburcu, which needs nothing of anybody. A VMM that has RCU already can have
 * its own used: one kind of grace period in the process, and its own word on
 * which threads are in a section.
 *
 * All three are called by the VMM's threads inside of library calls, and by the
 * few that the library starts, which the VMM never sees: a flavour that knows
 * only registered threads registers one at its first @read_lock, and has a
 * pthread key take it off the list at its end. A thread may wait for a server
 * for seconds inside of a call but outside of a section: a flavour that takes
 * every thread for a reader until it says otherwise has to let it be offline
 * there, which is best done by going online in @read_lock and offline in
 * @read_unlock. None of the three may call into the library.
 */
struct cleat_rcu_ops {
	size_t size;
	void (*read_lock)(void);
	void (*read_unlock)(void);
	void (*synchronize)(void);
};

/**
 * cleat_rcu_use() - from now on look up under the VMM's RCU
 * @ops: copied; NULL: the library's own again
 *
 * For the whole process, and only while the library has no object in it: before
 * the first is created or after the last is gone.
 *
 * Context: no other thread is inside of the library. Does not sleep.
 * Return: 0; -EINVAL: a member is missing; -EBUSY: there are objects.
 */
CLEAT_API int cleat_rcu_use(const struct cleat_rcu_ops *ops);

#ifdef __cplusplus
}
#endif

#endif
