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

/* A run of addresses; @length is not 0 and it does not wrap. */
struct cleat_table_range {
	uint64_t start;
	uint64_t length;
	void *entry;
};

/*
 * @page_shift: bits of an address below the index: 12 for memory, fewer for
 * ports. Ranges need not be aligned to it.
 */
int cleat_table_create(unsigned page_shift, struct cleat_table **ret_table);
/* Waits for a grace period. NULL is fine. */
void cleat_table_destroy(struct cleat_table *table);

/*
 * Add or remove one range, publishing a new snapshot. One writer at a time (the
 * caller's lock). Neither waits for a grace period: what the old snapshot held
 * is freed later by a thread of the library's. -EEXIST if any part is taken;
 * -ENOENT if there is no such range; -ENOMEM: nothing has changed.
 */
int cleat_table_add(struct cleat_table *table,
		    const struct cleat_table_range *range);
int cleat_table_remove(struct cleat_table *table, uint64_t start,
		       uint64_t length);

/* The range that holds @address, or 0. Inside a read section only. */
int cleat_table_find(struct cleat_table *table, uint64_t address,
		     struct cleat_table_range *ret_range);

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
