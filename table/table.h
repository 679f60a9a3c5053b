/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * table: address -> entry, for regions and for guest memory. An immutable,
 * page-indexed snapshot, looked up under RCU without a lock, an allocation or a
 * store to anything shared, and replaced whole.
 */
#ifndef CLEAT_TABLE_H
#define CLEAT_TABLE_H

#include <stddef.h>
#include <stdint.h>

struct cleat_table;

/*
 * A run of addresses; @length is not 0 and it does not wrap (ending at 2^64 is
 * fine). @entry is not NULL.
 */
struct cleat_table_range {
	uint64_t start;
	uint64_t length;
	void *entry;
};

/*
 * @page_shift: bits of an address below the index, at most 52: 12 for memory,
 * fewer for ports. Ranges need not be aligned to it. -EINVAL, -ENOMEM, -EAGAIN
 * (no thread to be had).
 */
int cleat_table_create(unsigned page_shift, struct cleat_table **ret_table);
/* Waits for a grace period; entries are the caller's. NULL is fine. */
void cleat_table_destroy(struct cleat_table *table);

/*
 * Add or remove one range, publishing a new snapshot. One writer at a time (the
 * caller's lock). Neither waits for a grace period: what the old snapshot held
 * is freed later by a thread of the library's.
 *
 * Add: 0, -EINVAL, -EEXIST if any part is taken; -ENOMEM: nothing has changed.
 * Remove: 0, or -ENOENT if exactly this range is not there; it never fails for
 * want of memory.
 */
int cleat_table_add(struct cleat_table *table,
		    const struct cleat_table_range *range);
/*
 * The same, with CLEAT_TABLE_ASIDE bytes from @aside on copied to where they
 * are in one cache line with the range: what every lookup wants to know next.
 */
#define CLEAT_TABLE_ASIDE 24
int cleat_table_add_aside(struct cleat_table *table,
			  const struct cleat_table_range *range,
			  const void *aside);
int cleat_table_remove(struct cleat_table *table, uint64_t start,
		       uint64_t length);
/*
 * Let exactly this range lead to another entry: every lookup finds the one or
 * the other. 0, or -ENOENT; it needs no memory.
 */
int cleat_table_exchange(struct cleat_table *table, uint64_t start,
			 uint64_t length, void *entry);

/*
 * The range that holds @address: 1, or 0 if there is none. Inside a read
 * section only, and @ret_range->entry may be used as long as that lasts.
 */
int cleat_table_find(struct cleat_table *table, uint64_t address,
		     struct cleat_table_range *ret_range);

/*
 * The same of a range that was added with something aside, and where that is:
 * for as long as @ret_range->entry may be used. An entry that was exchanged for
 * another since may be found with it, and what is stored there before an
 * exchange is seen by whoever finds the new one.
 */
int cleat_table_find_aside(struct cleat_table *table, uint64_t address,
			   struct cleat_table_range *ret_range,
			   void **ret_aside);

/*
 * Call @visit for every range that touches [start, start + length) in order
 * until it returns not 0; that value is returned. By the writer, or inside a
 * read section.
 */
int cleat_table_visit(struct cleat_table *table, uint64_t start,
		      uint64_t length,
		      int (*visit)(void *opaque,
				   const struct cleat_table_range *range),
		      void *opaque);

/*
 * Read sections, and the wait for all that began before it. Inside one nothing
 * may sleep and nothing of a server's may be touched: its pages may fault for
 * ever.
 */
void cleat_read_lock(void);
void cleat_read_unlock(void);
void cleat_synchronize(void);

#endif
