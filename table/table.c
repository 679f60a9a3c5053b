/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A radix tree over page numbers, six bits a level, as high as its highest
 * address needs. A slot leads to a node one level below, to one range that
 * covers all of the slot's addresses or is the only one in a page, or to a page
 * that several ranges share.
 *
 * What is published is never written again. An update copies the nodes on the
 * paths to the first and the last page of its range, shares all others with the
 * snapshot before it, and publishes the new root.
 */
#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "table/reclaim.h"
#include "table/table.h"

#define BITS 6
#define FANOUT (1u << BITS)

/* In the low bits of a slot; a slot of 0 is empty. */
enum tag { TAG_NODE = 0, TAG_LEAF = 1, TAG_PAGE = 2, TAG_MASK = 3 };

struct node {
	struct cleat_garbage garbage;
	uint64_t serial; /* of the update that made it */
	unsigned level;	 /* 0: slots are pages */
	unsigned used;	 /* slots that are not empty */
	uintptr_t slots[FANOUT];
};

/* @garbage.next also links those that are dead, which are not garbage yet. */
struct leaf {
	struct cleat_garbage garbage;
	struct cleat_table_range range;
	uint8_t aside[]; /* with it a cache line, or nothing */
};

#define CACHE_LINE 64
_Static_assert(sizeof(struct leaf) + CLEAT_TABLE_ASIDE == CACHE_LINE,
	       "one line for all that a lookup reads");

struct page {
	struct cleat_garbage garbage;
	unsigned num;
	struct leaf *leaves[]; /* by address */
};

struct cleat_table {
	struct node *root;
	unsigned page_shift;
	uint64_t serial;
	struct leaf *dead; /* removed, but without memory to say so */
};

/* One update under way. */
struct update {
	struct cleat_table *table;
	struct leaf *leaf;
	uint64_t first, last;
	bool add;
	struct node *root;
	struct cleat_garbage *fresh; /* made: freed if it fails */
	struct cleat_garbage *stale; /* replaced: reclaimed if it succeeds */
};

static enum tag tag_of(uintptr_t slot)
{
	return (enum tag)(slot & TAG_MASK);
}

static void *target(uintptr_t slot)
{
	return (void *)(slot & ~(uintptr_t)TAG_MASK);
}

static uintptr_t leaf_slot(struct leaf *leaf)
{
	return (uintptr_t)leaf | TAG_LEAF;
}

static uint64_t last_of(const struct cleat_table_range *range)
{
	/* Never the end, which may be 2^64. */
	return range->start + (range->length - 1);
}

static unsigned shift_of(const struct cleat_table *table, unsigned level)
{
	return table->page_shift + BITS * level;
}

/* Whether a tree with @level on top has a place for @address. */
static bool reaches(const struct cleat_table *table, unsigned level,
		    uint64_t address)
{
	unsigned shift = shift_of(table, level + 1);

	return shift >= 64 || !(address >> shift);
}

static unsigned index_of(const struct cleat_table *table, unsigned level,
			 uint64_t address)
{
	return (address >> shift_of(table, level)) & (FANOUT - 1);
}

static struct node *current_root(struct cleat_table *table)
{
	/* Pairs with publish(): a node is seen as it was when published. */
	return __atomic_load_n(&table->root, __ATOMIC_ACQUIRE);
}

static void *entry_of(const struct leaf *leaf)
{
	/* Pairs with the exchange: an entry is seen as it was then. */
	return __atomic_load_n(&leaf->range.entry, __ATOMIC_ACQUIRE);
}

/* --- Lookup ------------------------------------------------------------- */

/* The last one that begins at or before @address, or the first one. */
static struct leaf *pick(const struct page *page, uint64_t address)
{
	unsigned low = 0, high = page->num;

	while (high - low > 1) {
		unsigned middle = low + (high - low) / 2;

		if (page->leaves[middle]->range.start <= address)
			low = middle;
		else
			high = middle;
	}
	return page->leaves[low];
}

/* The only range that can hold @address, or NULL. */
static struct leaf *locate(struct cleat_table *table, uint64_t address)
{
	const struct node *node = current_root(table);
	uintptr_t slot;
	unsigned shift;

	if (!node || !reaches(table, node->level, address))
		return NULL;
	shift = shift_of(table, node->level);
	slot = node->slots[(address >> shift) & (FANOUT - 1)];
	while (slot && tag_of(slot) == TAG_NODE) {
		node = (const struct node *)slot;
		shift -= BITS;
		slot = node->slots[(address >> shift) & (FANOUT - 1)];
	}
	if (tag_of(slot) == TAG_PAGE)
		return pick(target(slot), address);
	return target(slot);
}

static inline struct leaf *find(struct cleat_table *table, uint64_t address,
				struct cleat_table_range *ret_range)
{
	struct leaf *leaf = locate(table, address);
	void *entry;

	if (!leaf || address - leaf->range.start >= leaf->range.length)
		return NULL;
	entry = entry_of(leaf);
	if (!entry)
		return NULL;
	ret_range->start = leaf->range.start;
	ret_range->length = leaf->range.length;
	ret_range->entry = entry;
	return leaf;
}

int cleat_table_find(struct cleat_table *table, uint64_t address,
		     struct cleat_table_range *ret_range)
{
	return find(table, address, ret_range) != NULL;
}

int cleat_table_find_aside(struct cleat_table *table, uint64_t address,
			   struct cleat_table_range *ret_range,
			   void **ret_aside)
{
	struct leaf *leaf = find(table, address, ret_range);

	if (!leaf)
		return 0;
	*ret_aside = leaf->aside;
	return 1;
}

/* --- Walking ------------------------------------------------------------ */

struct walk {
	struct cleat_table *table;
	uint64_t first, last;
	const struct leaf *seen; /* a range has many slots, side by side */
	int (*visit)(void *opaque, const struct cleat_table_range *range);
	void *opaque;
};

static int walk_leaf(struct walk *walk, const struct leaf *leaf)
{
	struct cleat_table_range range = leaf->range;

	range.entry = entry_of(leaf);
	if (leaf == walk->seen || !range.entry || range.start > walk->last ||
	    last_of(&range) < walk->first)
		return 0;
	walk->seen = leaf;
	return walk->visit(walk->opaque, &range);
}

static int walk_node(struct walk *walk, const struct node *node, uint64_t base);

static int walk_slot(struct walk *walk, uintptr_t slot, uint64_t base)
{
	const struct page *page;
	int result = 0;

	if (!slot)
		return 0;
	if (tag_of(slot) == TAG_NODE)
		return walk_node(walk, target(slot), base);
	if (tag_of(slot) == TAG_LEAF)
		return walk_leaf(walk, target(slot));
	page = target(slot);
	for (unsigned i = 0; i < page->num && !result; i++)
		result = walk_leaf(walk, page->leaves[i]);
	return result;
}

/* The last address below @node, which begins at @base. */
static uint64_t end_of(const struct cleat_table *table, const struct node *node,
		       uint64_t base)
{
	unsigned shift = shift_of(table, node->level + 1);

	return shift >= 64 ? UINT64_MAX : base + ((1ull << shift) - 1);
}

static int walk_node(struct walk *walk, const struct node *node, uint64_t base)
{
	unsigned shift = shift_of(walk->table, node->level);
	uint64_t end = end_of(walk->table, node, base);
	unsigned i, last;
	int result = 0;

	if (walk->first > end || walk->last < base)
		return 0;
	i = walk->first <= base ?
		    0 : index_of(walk->table, node->level, walk->first);
	last = index_of(walk->table, node->level,
			walk->last < end ? walk->last : end);
	for (; i <= last && !result; i++)
		result = walk_slot(walk, node->slots[i],
				   base + ((uint64_t)i << shift));
	return result;
}

int cleat_table_visit(struct cleat_table *table, uint64_t start,
		      uint64_t length,
		      int (*visit)(void *opaque,
				   const struct cleat_table_range *range),
		      void *opaque)
{
	const struct node *root = current_root(table);
	struct walk walk = {
		.table = table,
		.first = start,
		.last = start + (length - 1),
		.visit = visit,
		.opaque = opaque,
	};

	if (!root || !length)
		return 0;
	if (walk.last < start)
		walk.last = UINT64_MAX;
	return walk_node(&walk, root, 0);
}

/* --- Updates ------------------------------------------------------------ */

static void *keep(struct update *update, struct cleat_garbage *garbage)
{
	if (garbage) {
		garbage->next = update->fresh;
		update->fresh = garbage;
	}
	return garbage;
}

static void *make(struct update *update, size_t size)
{
	return keep(update, calloc(1, size));
}

static struct leaf *make_leaf(struct update *update,
			      const struct cleat_table_range *range,
			      const void *aside)
{
	size_t size = sizeof(struct leaf) + (aside ? CLEAT_TABLE_ASIDE : 0);
	struct leaf *leaf = aside ? aligned_alloc(CACHE_LINE, size) :
				    calloc(1, size);

	if (!leaf)
		return NULL;
	leaf->garbage.dropped = false;
	leaf->range = *range;
	if (aside)
		memcpy(leaf->aside, aside, CLEAT_TABLE_ASIDE);
	return keep(update, &leaf->garbage);
}

static void retire(struct update *update, struct cleat_garbage *garbage)
{
	garbage->next = update->stale;
	update->stale = garbage;
}

static struct node *make_node(struct update *update, unsigned level)
{
	struct node *node = make(update, sizeof(*node));

	if (node) {
		node->serial = update->table->serial;
		node->level = level;
	}
	return node;
}

static bool is_fresh(const struct update *update, const struct node *node)
{
	return node->serial == update->table->serial;
}

/* One that may be written, in place of @old (which may be NULL). */
static struct node *own_node(struct update *update, struct node *old,
			     unsigned level)
{
	struct node *node;

	if (old && is_fresh(update, old))
		return old;
	node = make_node(update, level);
	if (!node || !old)
		return node;
	node->used = old->used;
	memcpy(node->slots, old->slots, sizeof(node->slots));
	retire(update, &old->garbage);
	return node;
}

static struct page *make_page(struct update *update, unsigned num)
{
	struct page *page = make(update, sizeof(*page) +
					 num * sizeof(page->leaves[0]));

	if (page)
		page->num = num;
	return page;
}

/* Add the update's range to a page that it shares with others. */
static int join_page(struct update *update, uintptr_t *slot)
{
	struct leaf *alone = target(*slot);
	struct page *old = NULL, *page;
	struct leaf **leaves = &alone;
	unsigned num = 1, i = 0;

	if (tag_of(*slot) == TAG_PAGE) {
		old = target(*slot);
		leaves = old->leaves;
		num = old->num;
	}
	page = make_page(update, num + 1);
	if (!page)
		return -ENOMEM;
	for (; i < num && leaves[i]->range.start < update->first; i++)
		page->leaves[i] = leaves[i];
	page->leaves[i] = update->leaf;
	for (; i < num; i++)
		page->leaves[i + 1] = leaves[i];
	if (old)
		retire(update, &old->garbage);
	*slot = (uintptr_t)page | TAG_PAGE;
	return 0;
}

/* Take the update's range out of a page that it shares with others. */
static int leave_page(struct update *update, uintptr_t *slot)
{
	struct page *old = target(*slot), *page;
	unsigned n = 0;

	if (old->num == 2) {
		*slot = leaf_slot(old->leaves[old->leaves[0] == update->leaf]);
		retire(update, &old->garbage);
		return 0;
	}
	page = make_page(update, old->num - 1);
	if (!page)
		return -ENOMEM;
	for (unsigned i = 0; i < old->num; i++)
		if (old->leaves[i] != update->leaf)
			page->leaves[n++] = old->leaves[i];
	retire(update, &old->garbage);
	*slot = (uintptr_t)page | TAG_PAGE;
	return 0;
}

static int update_page(struct update *update, uintptr_t *slot)
{
	if (update->add && *slot)
		return join_page(update, slot);
	if (!update->add && tag_of(*slot) == TAG_PAGE)
		return leave_page(update, slot);
	*slot = update->add ? leaf_slot(update->leaf) : 0;
	return 0;
}

static int update_node(struct update *update, struct node **node,
		       unsigned level, uint64_t base);

/* @slot stands at @level and covers @base to @end. */
static int update_slot(struct update *update, uintptr_t *slot, unsigned level,
		       uint64_t base, uint64_t end)
{
	struct node *child;
	int err;

	/*
	 * One entry for all that is below; but if it came when the tree ended
	 * there, there is a node full of it, which has to go too.
	 */
	if (update->first <= base && update->last >= end &&
	    !(*slot && tag_of(*slot) == TAG_NODE)) {
		*slot = update->add ? leaf_slot(update->leaf) : 0;
		return 0;
	}
	if (!level)
		return update_page(update, slot);
	child = target(*slot);
	err = update_node(update, &child, level - 1, base);
	if (!err)
		*slot = (uintptr_t)child;
	return err;
}

/* Replaces *node by one with the update done; by NULL if it is empty then. */
static int update_node(struct update *update, struct node **node,
		       unsigned level, uint64_t base)
{
	const struct cleat_table *table = update->table;
	unsigned shift = shift_of(table, level), i, last;
	struct node *own = own_node(update, *node, level);
	uint64_t end;
	int err;

	if (!own)
		return -ENOMEM;
	end = end_of(table, own, base);
	i = update->first <= base ? 0 : index_of(table, level, update->first);
	last = index_of(table, level, update->last < end ? update->last : end);
	for (; i <= last; i++) {
		uint64_t from = base + ((uint64_t)i << shift);
		bool was = own->slots[i];

		err = update_slot(update, &own->slots[i], level, from,
				  from + ((1ull << shift) - 1));
		if (err)
			return err;
		own->used = own->used + !!own->slots[i] - was;
	}
	own->garbage.dropped = !own->used;
	*node = own->used ? own : NULL;
	return 0;
}

/* Make the tree high enough for the range. */
static int grow(struct update *update)
{
	unsigned level = 0;

	if (!update->root) {
		while (!reaches(update->table, level, update->last))
			level++;
		update->root = make_node(update, level);
		return update->root ? 0 : -ENOMEM;
	}
	while (!reaches(update->table, update->root->level, update->last)) {
		struct node *node = make_node(update, update->root->level + 1);

		if (!node)
			return -ENOMEM;
		node->slots[0] = (uintptr_t)update->root;
		node->used = 1;
		update->root = node;
	}
	return 0;
}

/* And no higher than what is left needs, or a far BAR would cost for ever. */
static void shrink(struct update *update)
{
	struct node *root = update->root;

	while (root && root->level && root->used == 1 && root->slots[0] &&
	       tag_of(root->slots[0]) == TAG_NODE) {
		struct node *below = target(root->slots[0]);

		if (is_fresh(update, root))
			root->garbage.dropped = true;
		else
			retire(update, &root->garbage);
		root = below;
	}
	update->root = root;
}

static void free_list(struct cleat_garbage *list, bool dropped_only)
{
	while (list) {
		struct cleat_garbage *next = list->next;

		if (!dropped_only || list->dropped)
			free(list);
		list = next;
	}
}

static void publish(struct update *update)
{
	/*
	 * rcu_assign_pointer() in a form that ThreadSanitizer knows: without
	 * the release a reader could find a node before its slots.
	 */
	__atomic_store_n(&update->table->root, update->root, __ATOMIC_RELEASE);
	free_list(update->fresh, true);
	cleat_reclaim(update->stale);
}

static int run_update(struct update *update)
{
	int err;

	update->table->serial++;
	update->root = update->table->root;
	err = grow(update);
	if (!err)
		err = update_node(update, &update->root, update->root->level,
				  0);
	if (err) {
		free_list(update->fresh, false);
		return err;
	}
	shrink(update);
	publish(update);
	return 0;
}

static int remove_leaf(struct cleat_table *table, struct leaf *leaf)
{
	struct update update = {
		.table = table,
		.leaf = leaf,
		.first = leaf->range.start,
		.last = last_of(&leaf->range),
		.stale = &leaf->garbage,
	};

	leaf->garbage.next = NULL;
	return run_update(&update);
}

static struct leaf *next_dead(const struct leaf *leaf)
{
	return (struct leaf *)leaf->garbage.next;
}

static void put_dead(struct cleat_table *table, struct leaf *leaf,
		     struct leaf *next)
{
	leaf->garbage.next = (struct cleat_garbage *)next;
	table->dead = leaf;
}

/* Try again to take out those that there was no memory for. */
static int bury(struct cleat_table *table)
{
	while (table->dead) {
		struct leaf *next = next_dead(table->dead);

		if (remove_leaf(table, table->dead)) {
			put_dead(table, table->dead, next);
			return -ENOMEM;
		}
		table->dead = next;
	}
	return 0;
}

static int refuse(void *opaque, const struct cleat_table_range *range)
{
	return -EEXIST;
}

int cleat_table_add_aside(struct cleat_table *table,
			  const struct cleat_table_range *range,
			  const void *aside)
{
	struct update update = {
		.table = table,
		.first = range->start,
		.last = last_of(range),
		.add = true,
	};
	int err;

	if (!range->length || !range->entry || update.last < update.first)
		return -EINVAL;
	err = bury(table);
	if (!err)
		err = cleat_table_visit(table, range->start, range->length,
					refuse, NULL);
	if (err)
		return err;
	update.leaf = make_leaf(&update, range, aside);
	if (!update.leaf)
		return -ENOMEM;
	return run_update(&update);
}

int cleat_table_add(struct cleat_table *table,
		    const struct cleat_table_range *range)
{
	return cleat_table_add_aside(table, range, NULL);
}

int cleat_table_remove(struct cleat_table *table, uint64_t start,
		       uint64_t length)
{
	struct leaf *leaf = locate(table, start);

	if (!leaf || !leaf->range.entry || leaf->range.start != start ||
	    leaf->range.length != length)
		return -ENOENT;
	bury(table);
	if (remove_leaf(table, leaf)) {
		/*
		 * The one store into what is published: a removal that failed
		 * would leave a device reachable that is about to be freed.
		 */
		__atomic_store_n(&leaf->range.entry, NULL, __ATOMIC_RELAXED);
		put_dead(table, leaf, table->dead);
	}
	return 0;
}

int cleat_table_exchange(struct cleat_table *table, uint64_t start,
			 uint64_t length, void *entry)
{
	struct leaf *leaf = locate(table, start);

	if (!leaf || !leaf->range.entry || leaf->range.start != start ||
	    leaf->range.length != length)
		return -ENOENT;
	__atomic_store_n(&leaf->range.entry, entry, __ATOMIC_RELEASE);
	return 0;
}

/* --- The whole ---------------------------------------------------------- */

int cleat_table_create(unsigned page_shift, struct cleat_table **ret_table)
{
	struct cleat_table *table;
	int err;

	if (page_shift > 52)
		return -EINVAL;
	table = calloc(1, sizeof(*table));
	if (!table)
		return -ENOMEM;
	table->page_shift = page_shift;
	err = cleat_reclaim_get();
	if (err) {
		free(table);
		return err;
	}
	*ret_table = table;
	return 0;
}

/* Leaves are freed at their last slot, which is where the next one begins. */
static void free_leaf(struct leaf **held, struct leaf *leaf)
{
	if (*held != leaf)
		free(*held);
	*held = leaf;
}

static void free_node(struct leaf **held, struct node *node)
{
	for (unsigned i = 0; i < FANOUT; i++) {
		uintptr_t slot = node->slots[i];
		struct page *page = target(slot);

		if (!slot)
			continue;
		if (tag_of(slot) == TAG_NODE)
			free_node(held, target(slot));
		if (tag_of(slot) == TAG_LEAF)
			free_leaf(held, target(slot));
		if (tag_of(slot) != TAG_PAGE)
			continue;
		for (unsigned n = 0; n < page->num; n++)
			free_leaf(held, page->leaves[n]);
		free(page);
	}
	free(node);
}

void cleat_table_destroy(struct cleat_table *table)
{
	struct leaf *held = NULL;

	if (!table)
		return;
	cleat_synchronize();
	if (table->root)
		free_node(&held, table->root);
	free(held);
	free(table);
	cleat_reclaim_put();
}
