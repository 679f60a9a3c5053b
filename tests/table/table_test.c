/* SPDX-License-Identifier: BSD-2-Clause */
#include <stdatomic.h>
#include <sys/wait.h>

#include "table/table.h"
#include "tests/support/support.h"

/* --- Memory that runs out: linked with --wrap=calloc ---------------------- */

static atomic_int allocations_left = -1; /* negative: no end of them */

void *__real_calloc(size_t count, size_t size);
void *__wrap_calloc(size_t count, size_t size);

void *__wrap_calloc(size_t count, size_t size)
{
	int left = atomic_load(&allocations_left);

	if (!left)
		return NULL;
	if (left > 0)
		atomic_fetch_sub(&allocations_left, 1);
	return __real_calloc(count, size);
}

/* --- Small verbs ---------------------------------------------------------- */

static char entries[64];

static struct cleat_table *new_table(unsigned page_shift)
{
	struct cleat_table *table;

	ATF_REQUIRE_EQ(0, cleat_table_create(page_shift, &table));
	return table;
}

static int add(struct cleat_table *table, uint64_t start, uint64_t length,
	       void *entry)
{
	struct cleat_table_range range = { start, length, entry };

	return cleat_table_add(table, &range);
}

static void *look_up(struct cleat_table *table, uint64_t address)
{
	struct cleat_table_range range = { 0 };
	int found;

	cleat_read_lock();
	found = cleat_table_find(table, address, &range);
	cleat_read_unlock();
	if (!found)
		return NULL;
	ATF_REQUIRE(address - range.start < range.length);
	return range.entry;
}

static int collect(void *opaque, const struct cleat_table_range *range)
{
	char **next = opaque;

	*(*next)++ = (char)('a' + ((char *)range->entry - entries));
	**next = '\0';
	return 0;
}

/* The entries from @start on, as letters. */
static const char *visited(struct cleat_table *table, uint64_t start,
			   uint64_t length)
{
	static char letters[sizeof(entries) + 1];
	char *next = letters;

	letters[0] = '\0';
	ATF_REQUIRE_EQ(0, cleat_table_visit(table, start, length, collect,
					    &next));
	return letters;
}

/* --- Cases ---------------------------------------------------------------- */

CLEAT_TC(create__bad_shift)
{
	struct cleat_table *table;

	ATF_REQUIRE_EQ(-EINVAL, cleat_table_create(53, &table));
	ATF_REQUIRE_EQ(-EINVAL, cleat_table_create(~0u, &table));
	cleat_table_destroy(NULL);
}

CLEAT_TC(find__empty)
{
	struct cleat_table *table = new_table(12);

	ATF_REQUIRE(!look_up(table, 0));
	ATF_REQUIRE(!look_up(table, UINT64_MAX));
	ATF_REQUIRE_STREQ("", visited(table, 0, UINT64_MAX));
	cleat_table_destroy(table);
}

CLEAT_TC(find__edges)
{
	static const uint64_t starts[] = {
		0,	    1,		    4095,	    4096,
		0x3ffff,    0x40000,	    0xfebf0000,	    0xffffffff,
		1ull << 38, (1ull << 48) - 1, 1ull << 63,   UINT64_MAX - 8191,
	};
	static const uint64_t lengths[] = { 1, 2, 4095, 4096, 4097, 8192 };

	for (size_t i = 0; i < 12 * 6; i++) {
		struct cleat_table *table = new_table(12);
		uint64_t start = starts[i / 6], length = lengths[i % 6];

		ATF_REQUIRE_EQ(0, add(table, start, length, entries));
		ATF_REQUIRE(look_up(table, start));
		ATF_REQUIRE(look_up(table, start + (length - 1)));
		ATF_REQUIRE(start == 0 || !look_up(table, start - 1));
		ATF_REQUIRE(start + length == 0 ||
			    !look_up(table, start + length));
		ATF_REQUIRE_STREQ("a", visited(table, start, length));
		ATF_REQUIRE_EQ(0, cleat_table_remove(table, start, length));
		ATF_REQUIRE(!look_up(table, start));
		cleat_table_destroy(table);
	}
}

CLEAT_TC(find__to_the_end_of_the_space)
{
	struct cleat_table *table = new_table(12);

	ATF_REQUIRE_EQ(0, add(table, 1ull << 63, 1ull << 63, entries));
	ATF_REQUIRE_EQ(0, add(table, 5, (1ull << 63) - 5, entries + 1));
	ATF_REQUIRE_EQ(entries, look_up(table, UINT64_MAX));
	ATF_REQUIRE_EQ(entries, look_up(table, 1ull << 63));
	ATF_REQUIRE_EQ(entries + 1, look_up(table, (1ull << 63) - 1));
	ATF_REQUIRE(!look_up(table, 4));
	ATF_REQUIRE_STREQ("ba", visited(table, 0, UINT64_MAX));
	ATF_REQUIRE_STREQ("a", visited(table, UINT64_MAX, 1));
	/* A visit that would wrap ends at the end. */
	ATF_REQUIRE_STREQ("a", visited(table, UINT64_MAX, UINT64_MAX));
	cleat_table_destroy(table);
}

CLEAT_TC(find__almost_everything)
{
	struct cleat_table *table = new_table(0);

	ATF_REQUIRE_EQ(0, add(table, 1, UINT64_MAX, entries));
	ATF_REQUIRE(!look_up(table, 0));
	ATF_REQUIRE(look_up(table, 1));
	ATF_REQUIRE(look_up(table, UINT64_MAX));
	ATF_REQUIRE_EQ(0, add(table, 0, 1, entries + 1));
	ATF_REQUIRE_EQ(0, cleat_table_remove(table, 1, UINT64_MAX));
	ATF_REQUIRE(!look_up(table, UINT64_MAX));
	ATF_REQUIRE_EQ(entries + 1, look_up(table, 0));
	cleat_table_destroy(table);
}

CLEAT_TC(add__nonsense)
{
	struct cleat_table *table = new_table(12);

	ATF_REQUIRE_EQ(-EINVAL, add(table, 0, 0, entries));
	ATF_REQUIRE_EQ(-EINVAL, add(table, 2, UINT64_MAX, entries));
	ATF_REQUIRE_EQ(-EINVAL, add(table, 0, 1, NULL));
	ATF_REQUIRE_EQ(-ENOENT, cleat_table_remove(table, 0, 1));
	cleat_table_destroy(table);
}

CLEAT_TC(add__overlap)
{
	struct cleat_table *table = new_table(12);

	ATF_REQUIRE_EQ(0, add(table, 0x10000, 0x10000, entries));
	ATF_REQUIRE_EQ(-EEXIST, add(table, 0x10000, 0x10000, entries));
	ATF_REQUIRE_EQ(-EEXIST, add(table, 0xffff, 2, entries));
	ATF_REQUIRE_EQ(-EEXIST, add(table, 0x1ffff, 1, entries));
	ATF_REQUIRE_EQ(-EEXIST, add(table, 0, UINT64_MAX, entries));
	ATF_REQUIRE_EQ(0, add(table, 0xffff, 1, entries + 1));
	ATF_REQUIRE_EQ(0, add(table, 0x20000, 1, entries + 2));
	ATF_REQUIRE_STREQ("bac", visited(table, 0, UINT64_MAX));
	cleat_table_destroy(table);
}

CLEAT_TC(add__many_in_one_page)
{
	struct cleat_table *table = new_table(12);

	for (unsigned i = 0; i < 16; i++) {
		unsigned n = i * 7 % 16;

		ATF_REQUIRE_EQ(0, add(table, 0x1000 + n * 256, 255,
				      entries + n));
	}
	for (unsigned n = 0; n < 16; n++) {
		ATF_REQUIRE_EQ(entries + n, look_up(table, 0x1000 + n * 256));
		ATF_REQUIRE(!look_up(table, 0x1000 + n * 256 + 255));
	}
	ATF_REQUIRE_STREQ("bcd", visited(table, 0x1100 + 254, 514));
	for (unsigned n = 0; n < 16; n += 2)
		ATF_REQUIRE_EQ(0, cleat_table_remove(table, 0x1000 + n * 256,
						     255));
	ATF_REQUIRE_STREQ("bdfhjlnp", visited(table, 0, UINT64_MAX));
	ATF_REQUIRE(!look_up(table, 0x1000));
	cleat_table_destroy(table);
}

CLEAT_TC(add__neighbours_share_the_edge_pages)
{
	struct cleat_table *table = new_table(12);

	ATF_REQUIRE_EQ(0, add(table, 0x1800, 0x100000, entries));
	ATF_REQUIRE_EQ(0, add(table, 0x101800, 0x100000, entries + 1));
	ATF_REQUIRE_EQ(0, add(table, 0x17ff, 1, entries + 2));
	ATF_REQUIRE_EQ(entries, look_up(table, 0x1017ff));
	ATF_REQUIRE_EQ(entries + 1, look_up(table, 0x101800));
	ATF_REQUIRE_STREQ("cab", visited(table, 0, UINT64_MAX));
	ATF_REQUIRE_EQ(0, cleat_table_remove(table, 0x1800, 0x100000));
	ATF_REQUIRE(!look_up(table, 0x1017ff));
	ATF_REQUIRE_EQ(entries + 1, look_up(table, 0x101800));
	ATF_REQUIRE_STREQ("cb", visited(table, 0, UINT64_MAX));
	cleat_table_destroy(table);
}

CLEAT_TC(remove__only_as_it_was_added)
{
	struct cleat_table *table = new_table(12);

	ATF_REQUIRE_EQ(0, add(table, 0x1000, 0x2000, entries));
	ATF_REQUIRE_EQ(-ENOENT, cleat_table_remove(table, 0x1000, 0x1000));
	ATF_REQUIRE_EQ(-ENOENT, cleat_table_remove(table, 0x2000, 0x1000));
	ATF_REQUIRE_EQ(-ENOENT, cleat_table_remove(table, 0x1001, 0x1fff));
	ATF_REQUIRE_EQ(0, cleat_table_remove(table, 0x1000, 0x2000));
	ATF_REQUIRE_EQ(-ENOENT, cleat_table_remove(table, 0x1000, 0x2000));
	cleat_table_destroy(table);
}

/* A far range makes the tree high; low ones must survive its coming and going.
 */
CLEAT_TC(exchange__only_as_it_was_added)
{
	struct cleat_table *table = new_table(12);

	ATF_REQUIRE_EQ(0, add(table, 0x1000, 0x2000, entries));
	ATF_REQUIRE_EQ(0, add(table, 0x3000, 0x10, entries + 1));
	ATF_CHECK_EQ(-ENOENT, cleat_table_exchange(table, 0x1000, 0x1000,
						   entries + 2));
	ATF_CHECK_EQ(-ENOENT, cleat_table_exchange(table, 0x4000, 0x1000,
						   entries + 2));
	ATF_REQUIRE_STREQ("ab", visited(table, 0, UINT64_MAX));
	/* It needs no memory. */
	atomic_store(&allocations_left, 0);
	ATF_REQUIRE_EQ(0, cleat_table_exchange(table, 0x1000, 0x2000,
					       entries + 2));
	atomic_store(&allocations_left, -1);
	ATF_REQUIRE_STREQ("cb", visited(table, 0, UINT64_MAX));
	ATF_REQUIRE_EQ(entries + 2, look_up(table, 0x2fff));
	ATF_REQUIRE_EQ(0, cleat_table_remove(table, 0x1000, 0x2000));
	ATF_CHECK_EQ(-ENOENT, cleat_table_exchange(table, 0x1000, 0x2000,
						   entries));
	cleat_table_destroy(table);
}

static uint64_t *aside_of(struct cleat_table *table, uint64_t address,
			  void *entry)
{
	struct cleat_table_range range;
	void *aside = NULL;

	cleat_read_lock();
	ATF_REQUIRE(cleat_table_find_aside(table, address, &range, &aside));
	cleat_read_unlock();
	ATF_REQUIRE_EQ(entry, range.entry);
	return aside;
}

/* It goes with the range, wherever the tree has that, until it is removed. */
CLEAT_TC(add__with_something_aside)
{
	struct cleat_table_range first = { 0x1000, 0x10, entries };
	struct cleat_table_range second = { 0x1010, 0x20000, entries + 1 };
	uint64_t aside[CLEAT_TABLE_ASIDE / 8] = { 1, 2, 3 };
	struct cleat_table *table = new_table(12);

	ATF_REQUIRE_EQ(0, cleat_table_add_aside(table, &first, aside));
	aside[2] = 4;
	ATF_REQUIRE_EQ(0, cleat_table_add_aside(table, &second, aside));
	ATF_CHECK_EQ(-EEXIST, cleat_table_add_aside(table, &second, aside));
	ATF_CHECK_EQ(1, aside_of(table, 0x100f, entries)[0]);
	ATF_CHECK_EQ(3, aside_of(table, 0x1000, entries)[2]);
	ATF_CHECK_EQ(4, aside_of(table, 0x1010, entries + 1)[2]);
	ATF_CHECK_EQ(4, aside_of(table, 0x2100f, entries + 1)[2]);
	/* All that a lookup reads of a range is in one line of memory. */
	ATF_CHECK_EQ(64 - CLEAT_TABLE_ASIDE,
		     (uintptr_t)aside_of(table, 0x1000, entries) % 64);
	aside_of(table, 0x1000, entries)[2] = 5;
	ATF_REQUIRE_EQ(0, cleat_table_exchange(table, 0x1000, 0x10,
					       entries + 2));
	ATF_CHECK_EQ(5, aside_of(table, 0x1000, entries + 2)[2]);
	ATF_REQUIRE_EQ(0, cleat_table_remove(table, 0x1010, 0x20000));
	ATF_CHECK_EQ(NULL, look_up(table, 0x1010));
	ATF_CHECK_EQ(2, aside_of(table, 0x1000, entries + 2)[1]);
	cleat_table_destroy(table);
}

CLEAT_TC(remove__far_range)
{
	struct cleat_table *table = new_table(12);

	ATF_REQUIRE_EQ(0, add(table, 0x1000, 0x10, entries));
	for (unsigned i = 0; i < 3; i++) {
		ATF_REQUIRE_EQ(0, add(table, UINT64_MAX, 1, entries + 1));
		ATF_REQUIRE_EQ(entries, look_up(table, 0x100f));
		ATF_REQUIRE_EQ(0, add(table, 0x5000, 1, entries + 2));
		ATF_REQUIRE_EQ(0, cleat_table_remove(table, UINT64_MAX, 1));
		ATF_REQUIRE_EQ(entries + 2, look_up(table, 0x5000));
		ATF_REQUIRE_EQ(0, cleat_table_remove(table, 0x5000, 1));
		ATF_REQUIRE_EQ(entries, look_up(table, 0x100f));
	}
	cleat_table_destroy(table);
}

CLEAT_TC(add__no_memory)
{
	struct cleat_table *table = new_table(12);
	int err = -ENOMEM;
	unsigned n;

	ATF_REQUIRE_EQ(0, add(table, 0x1000, 0x1000, entries));
	for (n = 0; err; n++) {
		atomic_store(&allocations_left, (int)n);
		err = add(table, 0x2800, 1ull << 45, entries + 1);
		atomic_store(&allocations_left, -1);
		ATF_REQUIRE(!err || err == -ENOMEM);
		ATF_REQUIRE_EQ(entries, look_up(table, 0x1000));
		ATF_REQUIRE_EQ(err ? NULL : entries + 1,
			       look_up(table, 0x2800));
	}
	/* A leaf, and a node for every level on both paths. */
	ATF_REQUIRE(n > 8);
	cleat_table_destroy(table);
}

CLEAT_TC(remove__no_memory)
{
	for (int n = 0; n < 12; n++) {
		struct cleat_table *table = new_table(12);

		ATF_REQUIRE_EQ(0, add(table, 0x1000, 0x10, entries));
		ATF_REQUIRE_EQ(0, add(table, 0x1010, 0x10, entries + 1));
		ATF_REQUIRE_EQ(0, add(table, 0x1020, 1ull << 40, entries + 2));
		atomic_store(&allocations_left, n);
		ATF_REQUIRE_EQ(0, cleat_table_remove(table, 0x1010, 0x10));
		ATF_REQUIRE(!look_up(table, 0x1010));
		ATF_REQUIRE_STREQ("ac", visited(table, 0, UINT64_MAX));
		ATF_REQUIRE_EQ(-ENOENT,
			       cleat_table_remove(table, 0x1010, 0x10));
		atomic_store(&allocations_left, n);
		ATF_REQUIRE_EQ(0, cleat_table_remove(table, 0x1020,
						     1ull << 40));
		ATF_REQUIRE_STREQ("a", visited(table, 0, UINT64_MAX));
		atomic_store(&allocations_left, -1);
		ATF_REQUIRE_EQ(0, add(table, 0x1018, 0x10, entries + 3));
		ATF_REQUIRE_EQ(entries + 3, look_up(table, 0x1020));
		ATF_REQUIRE_STREQ("ad", visited(table, 0, UINT64_MAX));
		cleat_table_destroy(table);
	}
}

static int stop_at_third(void *opaque, const struct cleat_table_range *range)
{
	int *count = opaque;

	return ++*count == 3 ? 42 : 0;
}

CLEAT_TC(visit__stopped)
{
	struct cleat_table *table = new_table(12);
	int count = 0;

	for (unsigned i = 0; i < 5; i++)
		ATF_REQUIRE_EQ(0, add(table, i * 0x4000, 0x800, entries + i));
	ATF_REQUIRE_EQ(42, cleat_table_visit(table, 0, UINT64_MAX,
					     stop_at_third, &count));
	ATF_REQUIRE_EQ(3, count);
	ATF_REQUIRE_STREQ("", visited(table, 0, 0));
	cleat_table_destroy(table);
}

/* --- Against a list ------------------------------------------------------- */

#define ORACLE_MAX 64

struct oracle {
	struct cleat_table *table;
	struct cleat_table_range ranges[ORACLE_MAX];
	unsigned num;
	unsigned short seed[3];
};

static uint64_t any64(struct oracle *oracle)
{
	return (uint64_t)jrand48(oracle->seed) << 32 ^
	       (uint32_t)jrand48(oracle->seed);
}

/* Crowded low addresses, and now and then any of 64 bits. */
static uint64_t any_address(struct oracle *oracle)
{
	uint64_t address = any64(oracle);

	switch (address % 8) {
	case 0:
		return any64(oracle);
	case 1:
		return UINT64_MAX - any64(oracle) % 20000;
	case 2:
		return any64(oracle) % (1ull << 33);
	default:
		return any64(oracle) % 20000;
	}
}

static uint64_t any_length(struct oracle *oracle)
{
	unsigned bits = any64(oracle) % 4 ? 10 : 50;

	return 1 + any64(oracle) % (1ull << (any64(oracle) % bits));
}

static struct cleat_table_range *oracle_find(struct oracle *oracle,
					     uint64_t first, uint64_t last)
{
	for (unsigned i = 0; i < oracle->num; i++) {
		struct cleat_table_range *range = &oracle->ranges[i];

		if (range->start <= last &&
		    range->start + (range->length - 1) >= first)
			return range;
	}
	return NULL;
}

static void oracle_add(struct oracle *oracle)
{
	uint64_t start = any_address(oracle), length = any_length(oracle);
	uint64_t last = start + (length - 1);
	int expected = 0;

	if (last < start)
		expected = -EINVAL;
	else if (oracle_find(oracle, start, last))
		expected = -EEXIST;
	ATF_REQUIRE_EQ(expected, add(oracle->table, start, length,
				     entries + oracle->num));
	if (!expected)
		oracle->ranges[oracle->num++] = (struct cleat_table_range){
			start, length, entries + (oracle->num - 1)
		};
}

static void oracle_remove(struct oracle *oracle)
{
	struct cleat_table_range *range =
		&oracle->ranges[any64(oracle) % oracle->num];

	ATF_REQUIRE_EQ(0, cleat_table_remove(oracle->table, range->start,
					     range->length));
	*range = oracle->ranges[--oracle->num];
}

static void oracle_compare(struct oracle *oracle, uint64_t address)
{
	struct cleat_table_range *range = oracle_find(oracle, address, address);
	struct cleat_table_range got;
	int found;

	cleat_read_lock();
	found = cleat_table_find(oracle->table, address, &got);
	cleat_read_unlock();
	ATF_REQUIRE_EQ(!!range, found);
	if (!found)
		return;
	ATF_REQUIRE_EQ(range->start, got.start);
	ATF_REQUIRE_EQ(range->length, got.length);
}

static int in_order(void *opaque, const struct cleat_table_range *range)
{
	struct cleat_table_range *before = opaque;

	if (before->length &&
	    range->start <= before->start + (before->length - 1))
		return -1;
	before->start = range->start;
	before->length = range->length;
	before->entry = (char *)before->entry + 1;
	return 0;
}

static void oracle_turn(struct oracle *oracle)
{
	struct cleat_table_range all = { 0, 0, entries };

	if (oracle->num == ORACLE_MAX || (oracle->num && any64(oracle) % 3 == 0))
		oracle_remove(oracle);
	else
		oracle_add(oracle);
	for (unsigned i = 0; i < oracle->num; i++) {
		uint64_t start = oracle->ranges[i].start;

		oracle_compare(oracle, start);
		oracle_compare(oracle, start - 1);
		oracle_compare(oracle, start + oracle->ranges[i].length);
		oracle_compare(oracle, start + oracle->ranges[i].length - 1);
	}
	oracle_compare(oracle, any_address(oracle));
	ATF_REQUIRE_EQ(0, cleat_table_visit(oracle->table, 0, UINT64_MAX,
					    in_order, &all));
	/* UINT64_MAX is not in a visit of that length from 0. */
	if (!oracle_find(oracle, UINT64_MAX, UINT64_MAX))
		ATF_REQUIRE_EQ(oracle->num, (char *)all.entry - entries);
}

CLEAT_TC(update__as_a_list_would)
{
	static const unsigned shifts[] = { 12, 2, 0, 5, 30, 52 };

	for (unsigned i = 0; i < 6; i++) {
		struct oracle oracle = { .table = new_table(shifts[i]),
					 .seed = { 1, 2, (short)i } };

		for (unsigned n = 0; n < 3000; n++)
			oracle_turn(&oracle);
		cleat_table_destroy(oracle.table);
	}
}

/* --- Readers and a writer ------------------------------------------------- */

#define COMERS 64

/* What a range leads to: poisoned when it has been removed for good. */
struct owner {
	uint64_t start;
	atomic_bool alive;
};

struct race {
	struct cleat_table *table;
	struct owner stays;
	atomic_bool over;
	atomic_ulong lookups;
};

static const char *check_lookup(struct race *race, uint64_t address)
{
	struct cleat_table_range range;
	struct owner *owner;
	const char *wrong = NULL;

	cleat_read_lock();
	if (cleat_table_find(race->table, address, &range)) {
		owner = range.entry;
		if (owner->start != range.start)
			wrong = "the entry is another range's";
		else if (!atomic_load(&owner->alive))
			wrong = "found after a grace period";
	} else if (address == race->stays.start) {
		wrong = "what stayed was not found";
	}
	cleat_read_unlock();
	return wrong;
}

static void *reader(void *arg)
{
	struct race *race = arg;
	const char *wrong = NULL;

	while (!atomic_load(&race->over) && !wrong) {
		for (unsigned i = 0; i < COMERS && !wrong; i++)
			wrong = check_lookup(race, 0x10000 + i * 0x900);
		if (!wrong)
			wrong = check_lookup(race, race->stays.start);
		atomic_fetch_add(&race->lookups, 1);
	}
	return (void *)wrong;
}

/* Entries come and go, each in memory of its own that goes with it. */
static void write_for_a_while(struct race *race, unsigned turns)
{
	struct owner *owners[COMERS] = { 0 };
	unsigned short seed[3] = { 7, 7, 7 };

	for (unsigned n = 0; n < turns; n++) {
		unsigned i = (unsigned)nrand48(seed) % COMERS;
		struct owner *owner = owners[i];
		uint64_t start = 0x10000 + i * 0x900;

		if (!owner) {
			owner = owners[i] = malloc(sizeof(*owner));
			owner->start = start;
			atomic_init(&owner->alive, true);
			ATF_REQUIRE_EQ(0, add(race->table, start, 0x900,
					      owner));
			continue;
		}
		owners[i] = NULL;
		ATF_REQUIRE_EQ(0, cleat_table_remove(race->table, start,
						     0x900));
		cleat_synchronize();
		atomic_store(&owner->alive, false);
		free(owner);
	}
	for (unsigned i = 0; i < COMERS; i++) {
		if (owners[i])
			cleat_table_remove(race->table, 0x10000 + i * 0x900,
					   0x900);
		cleat_synchronize();
		free(owners[i]);
	}
}

CLEAT_TC(find__while_updated)
{
	struct race race = { .table = new_table(12),
			     .stays = { .start = 0xffff0, .alive = true } };
	pthread_t threads[3];
	void *wrong;

	ATF_REQUIRE_EQ(0, add(race.table, race.stays.start, 16, &race.stays));
	for (unsigned i = 0; i < 3; i++)
		ATF_REQUIRE_EQ(0, pthread_create(&threads[i], NULL, reader,
						 &race));
	write_for_a_while(&race, 400);
	REQUIRE_SOON(atomic_load(&race.lookups) > 100);
	atomic_store(&race.over, true);
	for (unsigned i = 0; i < 3; i++) {
		pthread_join(threads[i], &wrong);
		ATF_CHECK_MSG(!wrong, "%s", (char *)wrong);
	}
	cleat_table_destroy(race.table);
}

/* A table of a parent process can be given up in a child, which has not the
 * thread that would free it. */
CLEAT_TC(destroy__after_fork)
{
	struct cleat_table *table = new_table(12);
	int status = -1;
	pid_t child;

	ATF_REQUIRE_EQ(0, add(table, 0x1000, 0x1000, entries));
	/* It asserts nothing: its exit status tells. */
	child = fork();
	if (!child) {
		cleat_table_remove(table, 0x1000, 0x1000);
		if (look_up(table, 0x1000))
			_exit(1);
		cleat_table_destroy(table);
		_exit(0);
	}
	ATF_REQUIRE_EQ(child, waitpid(child, &status, 0));
	ATF_REQUIRE_EQ(0, status);
	ATF_REQUIRE(look_up(table, 0x1000));
	cleat_table_destroy(table);
}

/* The sanitizer sees if a node is forgotten. */
CLEAT_TC(remove__what_filled_the_tree)
{
	struct cleat_table *table = new_table(12);
	uint64_t length = 0x1000;

	for (unsigned level = 0; level < 3; level++) {
		length *= 64;
		ATF_REQUIRE_EQ(0, add(table, 0, length, &entries[0]));
		ATF_REQUIRE_EQ(0, add(table, length * 64, 0x1000, &entries[1]));
		ATF_REQUIRE_EQ(0, cleat_table_remove(table, 0, length));
		ATF_CHECK_EQ(NULL, look_up(table, 0));
		ATF_CHECK_EQ(NULL, look_up(table, length - 1));
		ATF_CHECK_EQ(&entries[1], look_up(table, length * 64));
		ATF_REQUIRE_EQ(0,
			       cleat_table_remove(table, length * 64, 0x1000));
	}
	cleat_table_destroy(table);
}

ATF_TP_ADD_TCS(tp)
{
	ATF_TP_ADD_TC(tp, create__bad_shift);
	ATF_TP_ADD_TC(tp, find__empty);
	ATF_TP_ADD_TC(tp, find__edges);
	ATF_TP_ADD_TC(tp, find__to_the_end_of_the_space);
	ATF_TP_ADD_TC(tp, find__almost_everything);
	ATF_TP_ADD_TC(tp, add__nonsense);
	ATF_TP_ADD_TC(tp, add__overlap);
	ATF_TP_ADD_TC(tp, add__many_in_one_page);
	ATF_TP_ADD_TC(tp, add__neighbours_share_the_edge_pages);
	ATF_TP_ADD_TC(tp, remove__only_as_it_was_added);
	ATF_TP_ADD_TC(tp, exchange__only_as_it_was_added);
	ATF_TP_ADD_TC(tp, add__with_something_aside);
	ATF_TP_ADD_TC(tp, remove__far_range);
	ATF_TP_ADD_TC(tp, add__no_memory);
	ATF_TP_ADD_TC(tp, remove__no_memory);
	ATF_TP_ADD_TC(tp, visit__stopped);
	ATF_TP_ADD_TC(tp, update__as_a_list_would);
	ATF_TP_ADD_TC(tp, find__while_updated);
	ATF_TP_ADD_TC(tp, destroy__after_fork);
	ATF_TP_ADD_TC(tp, remove__what_filled_the_tree);
	return atf_no_error();
}
