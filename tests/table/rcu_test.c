/* SPDX-License-Identifier: BSD-2-Clause */
/* The VMM's own RCU in place of the library's. */
#include <cleat/rcu.h>
#include <stdatomic.h>
#include <urcu/urcu-memb.h>

#include "table/table.h"
#include "tests/support/support.h"

#define READERS 2
#define UPDATES 2000

static atomic_uint locks, unlocks, waits;
static pthread_key_t key;
static _Thread_local bool is_registered;

static void leave(void *unused)
{
	urcu_memb_unregister_thread();
}

/* As <cleat/rcu.h> asks: the library's threads come unannounced. */
static void lock(void)
{
	if (!is_registered) {
		urcu_memb_register_thread();
		pthread_setspecific(key, &key);
		is_registered = true;
	}
	atomic_fetch_add_explicit(&locks, 1, memory_order_relaxed);
	urcu_memb_read_lock();
}

static void unlock(void)
{
	urcu_memb_read_unlock();
	atomic_fetch_add_explicit(&unlocks, 1, memory_order_relaxed);
}

static void synchronize(void)
{
	atomic_fetch_add(&waits, 1);
	urcu_memb_synchronize_rcu();
}

static const struct cleat_rcu_ops ops = {
	.size = sizeof(ops),
	.read_lock = lock,
	.read_unlock = unlock,
	.synchronize = synchronize,
};

static void use_ours(void)
{
	ATF_REQUIRE_EQ(0, pthread_key_create(&key, leave));
	ATF_REQUIRE_EQ(0, cleat_rcu_use(&ops));
}

/* --- Cases ---------------------------------------------------------------- */

CLEAT_TC(use__incomplete)
{
	struct cleat_rcu_ops bad = ops;

	bad.size--;
	ATF_CHECK_EQ(-EINVAL, cleat_rcu_use(&bad));
	bad = ops;
	bad.read_lock = NULL;
	ATF_CHECK_EQ(-EINVAL, cleat_rcu_use(&bad));
	bad = ops;
	bad.read_unlock = NULL;
	ATF_CHECK_EQ(-EINVAL, cleat_rcu_use(&bad));
	bad = ops;
	bad.synchronize = NULL;
	ATF_CHECK_EQ(-EINVAL, cleat_rcu_use(&bad));
}

CLEAT_TC(use__with_objects)
{
	struct cleat_table *table;

	ATF_REQUIRE_EQ(0, cleat_table_create(12, &table));
	ATF_CHECK_EQ(-EBUSY, cleat_rcu_use(&ops));
	ATF_CHECK_EQ(-EBUSY, cleat_rcu_use(NULL));
	cleat_table_destroy(table);
	use_ours();
	ATF_CHECK_EQ(0, cleat_rcu_use(NULL));
	cleat_synchronize();
	ATF_CHECK_EQ(0, waits);
}

struct race {
	struct cleat_table *table;
	atomic_bool over;
};

static void *read_on(void *arg)
{
	struct race *race = arg;

	while (!atomic_load(&race->over)) {
		struct cleat_table_range found;

		cleat_read_lock();
		/* Freed too early, it would be other memory by now. */
		if (cleat_table_find(race->table, 0x5000, &found))
			ATF_CHECK_EQ(&race->over, found.entry);
		cleat_read_unlock();
	}
	return NULL;
}

CLEAT_TC(use__readers_and_updates)
{
	struct race race = { .over = false };
	struct cleat_table_range range = { 0x5000, 0x1000, &race.over };
	pthread_t readers[READERS];

	use_ours();
	ATF_REQUIRE_EQ(0, cleat_table_create(12, &race.table));
	for (unsigned i = 0; i < READERS; i++)
		ATF_REQUIRE_EQ(
			0, pthread_create(&readers[i], NULL, read_on, &race));
	for (unsigned i = 0; i < UPDATES; i++) {
		ATF_REQUIRE_EQ(0, cleat_table_add(race.table, &range));
		ATF_REQUIRE_EQ(0, cleat_table_remove(race.table, range.start,
						     range.length));
	}
	REQUIRE_SOON(atomic_load(&locks) > 1000);
	atomic_store(&race.over, true);
	for (unsigned i = 0; i < READERS; i++)
		pthread_join(readers[i], NULL);
	cleat_table_destroy(race.table);
	ATF_CHECK_EQ(locks, unlocks);
	ATF_CHECK(waits > 0);
	ATF_CHECK_EQ(0, cleat_rcu_use(NULL));
}

ATF_TP_ADD_TCS(tp)
{
	ATF_TP_ADD_TC(tp, use__incomplete);
	ATF_TP_ADD_TC(tp, use__with_objects);
	ATF_TP_ADD_TC(tp, use__readers_and_updates);
	return atf_no_error();
}
