/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Many changes at once, of which servers see the difference between before and
 * after and no more.
 *
 * A range (struct cleat_dma_range) is what servers have; the parts of it are
 * what the caller added. Removed parts break their range: what is left of it,
 * and what is new, are the pieces of the state to come. They are put in order
 * and joined to ranges again. One that comes out as it was stays, with its place
 * in the table, and nobody hears of it; the others are unmapped, and after that
 * the new ones are mapped.
 *
 * A range that is not broken is left alone even where a new one touches it:
 * to make it longer it would have to be unmapped, while devices use it.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "dma/private.h"
#include "wire/wire.h"

/**
 * struct piece - a part of the state to come
 * @from:  a new one's own range, with its attributes; of what is left of a
 *         broken range, that one
 * @fresh: @from is new, and the update's until it is used
 */
struct piece {
	uint64_t guest;
	uint64_t length;
	struct cleat_dma_range *from;
	bool fresh;
};

/**
 * struct update - all that is under way
 * @added:   address to piece, for what is new
 * @pieces:  the new ones first, in the order of the changes
 * @broken:  ranges with removed parts, by next_broken
 * @old:     those to be unmapped, of @broken
 * @new:     those to be mapped
 */
struct update {
	struct cleat_memory *memory;
	uint32_t flags;
	struct cleat_table *added;
	struct piece *pieces;
	size_t num_pieces;
	struct cleat_dma_range *broken;
	struct cleat_dma_range **old;
	size_t num_old;
	struct cleat_dma_range **new;
	size_t num_new;
};

/* --- Parts of a range --------------------------------------------------------- */

/* The first that ends after @guest. */
static unsigned first_part(const struct cleat_dma_range *range, uint64_t guest)
{
	unsigned low = 0, high = range->num_parts;

	while (low < high) {
		unsigned middle = low + (high - low) / 2;
		const struct cleat_dma_part *part = &range->parts[middle];

		if (part->guest + (part->length - 1) < guest)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static struct cleat_dma_part *exact_part(struct cleat_dma_range *range,
					 uint64_t guest, uint64_t length)
{
	unsigned i = range ? first_part(range, guest) : 0;

	if (!range || i == range->num_parts ||
	    range->parts[i].guest != guest || range->parts[i].length != length)
		return NULL;
	return &range->parts[i];
}

/* Some part that is there is in the way. */
static int collide(void *opaque, const struct cleat_table_range *found)
{
	const struct cleat_dma_range *range = found->entry;
	const struct cleat_memory_range *with = opaque;
	unsigned i = first_part(range, with->guest);

	for (; i < range->num_parts; i++) {
		const struct cleat_dma_part *part = &range->parts[i];

		if (part->guest > with->guest + (with->length - 1))
			return 0;
		if (!part->removed)
			return -EEXIST;
	}
	return 0;
}

static void *lookup(struct cleat_table *table, uint64_t guest)
{
	struct cleat_table_range found = { .entry = NULL };

	cleat_read_lock();
	if (!cleat_table_find(table, guest, &found))
		found.entry = NULL;
	cleat_read_unlock();
	return found.entry;
}

/* The same memory: what is at @guest of both lies at one place. */
static bool is_same_memory(const struct cleat_dma_range *a,
			   const struct cleat_dma_range *b, uint64_t guest)
{
	return a->rights == b->rights && a->file == b->file &&
	       (!a->file ||
		(a->file->known && a->offset + (guest - a->guest) ==
					   b->offset + (guest - b->guest))) &&
	       a->host + (guest - a->guest) == b->host + (guest - b->guest);
}

/* --- The changes, one by one ---------------------------------------------------- */

static int remove_added(struct update *update, struct piece *piece,
			uint64_t length)
{
	if (piece->length != length)
		return -ENOENT;
	cleat_table_remove(update->added, piece->guest, piece->length);
	cleat_dma_range_free(piece->from);
	piece->from = NULL;
	return 0;
}

static int take_remove(struct update *update, uint64_t guest, uint64_t length)
{
	struct cleat_memory *memory = update->memory;
	struct piece *piece = lookup(update->added, guest);
	struct cleat_dma_range *range = lookup(memory->table, guest);
	struct cleat_dma_part *part = exact_part(range, guest, length);

	if (piece && piece->guest == guest)
		return remove_added(update, piece, length);
	if (!part || part->removed)
		return -ENOENT;
	part->removed = true;
	if (!range->is_broken) {
		range->is_broken = true;
		range->next_broken = update->broken;
		update->broken = range;
	}
	return 0;
}

/* It was there, removed by an earlier change: as if nothing had happened. */
static bool revive(struct update *update, const struct cleat_dma_range *range)
{
	struct cleat_dma_range *was =
		lookup(update->memory->table, range->guest);
	struct cleat_dma_part *part =
		exact_part(was, range->guest, range->length);

	if (!part || !part->removed ||
	    !is_same_memory(was, range, range->guest))
		return false;
	part->removed = false;
	return true;
}

static int take_add(struct update *update,
		    const struct cleat_memory_range *from)
{
	struct piece *piece = &update->pieces[update->num_pieces];
	struct cleat_table_range entry = { from->guest, from->length, piece };
	struct cleat_dma_range *range;
	int err = cleat_dma_range_create(from, &range);

	if (err)
		return err;
	err = cleat_table_visit(update->memory->table, from->guest,
				from->length, collide, (void *)from);
	if (!err)
		err = cleat_table_add(update->added, &entry);
	if (!err && revive(update, range)) {
		cleat_table_remove(update->added, from->guest, from->length);
		cleat_dma_range_free(range);
		return 0;
	}
	if (err) {
		cleat_dma_range_free(range);
		return err;
	}
	*piece = (struct piece){ from->guest, from->length, range, true };
	update->num_pieces++;
	return 0;
}

static int take_changes(struct update *update,
			const struct cleat_memory_change *changes, size_t num)
{
	int err = 0;

	for (size_t i = 0; i < num && !err; i++) {
		const struct cleat_memory_range *range = &changes[i].range;

		if (changes[i].kind == CLEAT_MEMORY_CHANGE_ADD)
			err = take_add(update, range);
		else if (changes[i].kind == CLEAT_MEMORY_CHANGE_REMOVE)
			err = take_remove(update, range->guest, range->length);
		else
			err = -EINVAL;
	}
	return err;
}

/* --- The state to come ------------------------------------------------------------ */

static int by_guest(const void *left, const void *right)
{
	const struct piece *a = left, *b = right;

	return (a->guest > b->guest) - (a->guest < b->guest);
}

static size_t count_left(const struct update *update)
{
	const struct cleat_dma_range *range = update->broken;
	size_t num = 0;

	for (; range; range = range->next_broken)
		for (unsigned i = 0; i < range->num_parts; i++)
			num += !range->parts[i].removed;
	return num;
}

/* What is new and was not removed again, and what is left of broken ranges. */
static int gather(struct update *update)
{
	size_t num = 0;
	struct cleat_dma_range *range;
	struct piece *pieces =
		reallocarray(update->pieces,
			     update->num_pieces + count_left(update) + 1,
			     sizeof(*pieces));

	if (!pieces)
		return -ENOMEM;
	update->pieces = pieces;
	for (size_t i = 0; i < update->num_pieces; i++)
		if (pieces[i].from)
			pieces[num++] = pieces[i];
	for (range = update->broken; range; range = range->next_broken)
		for (unsigned i = 0; i < range->num_parts; i++)
			if (!range->parts[i].removed)
				pieces[num++] = (struct piece){
					range->parts[i].guest,
					range->parts[i].length, range, false
				};
	update->num_pieces = num;
	qsort(pieces, num, sizeof(*pieces), by_guest);
	return 0;
}

static bool can_join(const struct update *update, const struct piece *a,
		     const struct piece *b)
{
	if (a->guest + a->length != b->guest)
		return false;
	/* What servers had as one they keep as one. */
	if (a->from == b->from)
		return true;
	return update->flags & CLEAT_MEMORY_UPDATE_MERGE &&
	       is_same_memory(a->from, b->from, b->guest);
}

static int set_parts(struct cleat_dma_range *range, const struct piece *pieces,
		     size_t num)
{
	struct cleat_dma_part *parts = calloc(num, sizeof(*parts));

	if (!parts)
		return -ENOMEM;
	for (size_t i = 0; i < num; i++) {
		parts[i].guest = pieces[i].guest;
		parts[i].length = pieces[i].length;
	}
	free(range->next_parts);
	range->next_parts = parts;
	range->num_next_parts = (unsigned)num;
	return 0;
}

/* The broken range that comes out as it was, or NULL. */
static struct cleat_dma_range *unchanged(struct update *update,
					 const struct piece *first,
					 uint64_t length)
{
	struct cleat_dma_range *was =
		lookup(update->memory->table, first->guest);

	return was && was->is_broken && was->guest == first->guest &&
			       was->length == length &&
			       is_same_memory(was, first->from, first->guest) ?
		       was :
		       NULL;
}

static int join(struct update *update, struct piece *pieces, size_t num)
{
	struct piece *last = &pieces[num - 1];
	uint64_t length = last->guest + (last->length - 1) -
			  pieces[0].guest + 1;
	struct cleat_dma_range *range = unchanged(update, pieces, length);
	int err = 0;

	if (!range && num == 1 && pieces[0].fresh) {
		range = pieces[0].from;
		pieces[0].from = NULL;
	} else if (!range) {
		err = cleat_dma_range_copy(pieces[0].from, pieces[0].guest,
					   length, &range);
	}
	if (err)
		return err;
	if (range->is_broken)
		range->is_kept = true;
	else
		update->new[update->num_new++] = range;
	return set_parts(range, pieces, num);
}

static int join_all(struct update *update)
{
	struct piece *pieces = update->pieces;
	size_t first = 0;
	int err = 0;

	update->new = calloc(update->num_pieces + 1, sizeof(*update->new));
	if (!update->new)
		return -ENOMEM;
	for (size_t i = 0; i < update->num_pieces && !err; i++) {
		if (i + 1 < update->num_pieces &&
		    can_join(update, &pieces[i], &pieces[i + 1]))
			continue;
		err = join(update, &pieces[first], i + 1 - first);
		first = i + 1;
	}
	return err;
}

static int list_old(struct update *update)
{
	struct cleat_dma_range *range;
	size_t num = 0;

	for (range = update->broken; range; range = range->next_broken)
		num++;
	update->old = calloc(num + 1, sizeof(*update->old));
	if (!update->old)
		return -ENOMEM;
	for (range = update->broken; range; range = range->next_broken)
		if (!range->is_kept)
			update->old[update->num_old++] = range;
	return 0;
}

/* --- Whether it can be ------------------------------------------------------------- */

static int check_device(struct update *update, struct cleat_device *dev)
{
	unsigned num = update->memory->num_ranges -
		       (unsigned)update->num_old + (unsigned)update->num_new;
	int err = 0;

	for (size_t i = 0; i < update->num_new && !err; i++)
		if (!cleat_device_is_lost(dev))
			err = cleat_dma_fits(dev, update->new[i], num);
	for (size_t i = 0; i < update->num_old && !err; i++)
		err = cleat_dma_can_drop(dev, update->old[i]);
	return err;
}

static int check(struct update *update)
{
	struct cleat_memory *memory = update->memory;
	struct cleat_dma_attachment *at;
	int err = 0;

	for (at = memory->attachments; at && !err; at = at->next)
		err = check_device(update, at->dev);
	for (size_t i = 0; i < update->num_new && !err; i++)
		err = cleat_dma_log_cover(memory, update->new[i]);
	return err;
}

static int prepare(struct update *update,
		   const struct cleat_memory_change *changes, size_t num)
{
	int err = cleat_table_create(12, &update->added);

	if (err)
		return err;
	update->pieces = calloc(num + 1, sizeof(*update->pieces));
	err = update->pieces ? take_changes(update, changes, num) : -ENOMEM;
	if (!err)
		err = gather(update);
	if (!err)
		err = join_all(update);
	if (!err)
		err = list_old(update);
	return err ? err : check(update);
}

/* --- Doing it ------------------------------------------------------------------------ */

/* Served until the last server has let go of them. */
static int drop_old(struct update *update)
{
	struct cleat_memory *memory = update->memory;
	int err = 0;

	for (size_t i = 0; i < update->num_old; i++)
		cleat_memory_take_out(memory, update->old[i]);
	if (!memory->log)
		err = cleat_dma_unmap_set(memory, update->old,
					  update->num_old);
	/* Each server is asked what it has logged, which takes its time. */
	for (size_t i = 0; memory->log && i < update->num_old; i++) {
		int one = cleat_dma_unmap_everywhere(memory, update->old[i]);

		err = err ? err : one;
	}
	cleat_memory_retire(memory, update->old, update->num_old);
	return err;
}

/* Ours first: a server may use a range before its reply is read. */
static int publish_new(struct update *update)
{
	struct cleat_memory *memory = update->memory;
	size_t done = 0;
	int err = 0;

	for (; done < update->num_new && !err; done += !err) {
		struct cleat_dma_range *range = update->new[done];
		struct cleat_table_range entry = { range->guest, range->length,
						   range };

		cleat_dma_range_use_next(range);
		err = cleat_table_add(memory->table, &entry);
	}
	if (!err)
		err = cleat_dma_map_set(memory, update->new, update->num_new);
	for (size_t i = 0; i < done && !err; i++)
		cleat_memory_append(memory, update->new[i]);
	if (err)
		cleat_memory_retire(memory, update->new, done);
	for (size_t i = done; err && i < update->num_new; i++)
		cleat_dma_range_free(update->new[i]);
	update->num_new = 0;
	return err;
}

static int apply(struct update *update)
{
	struct cleat_dma_range *range = update->broken;
	int err, one;

	/* Of the broken ones those are left that come out as they were. */
	for (; range; range = range->next_broken)
		cleat_dma_range_use_next(range);
	/* (no loss of a device keeps the others from their memory) */
	err = drop_old(update);
	one = publish_new(update);
	return one ? one : err;
}

/* As it was before, for those ranges that are still there. */
static void clear_marks(struct update *update)
{
	struct cleat_dma_range *range, *next;

	for (range = update->broken; range; range = next) {
		next = range->next_broken;
		for (unsigned i = 0; i < range->num_parts; i++)
			range->parts[i].removed = false;
		free(range->next_parts);
		range->next_parts = NULL;
		range->is_broken = range->is_kept = false;
		range->next_broken = NULL;
	}
}

static void drop_pieces(struct update *update)
{
	for (size_t i = 0; update->pieces && i < update->num_pieces; i++)
		if (update->pieces[i].fresh && update->pieces[i].from)
			cleat_dma_range_free(update->pieces[i].from);
	for (size_t i = 0; i < update->num_new; i++)
		cleat_dma_range_free(update->new[i]);
	cleat_table_destroy(update->added);
	free(update->pieces);
	free(update->old);
	free(update->new);
}

/* Ranges that are retired cannot be looked at after that. */
static void forget_old(struct update *update)
{
	struct cleat_dma_range **link = &update->broken;

	while (*link)
		if ((*link)->is_kept)
			link = &(*link)->next_broken;
		else
			*link = (*link)->next_broken;
}

int cleat_dma_update(struct cleat_memory *memory,
		     const struct cleat_memory_change *changes, size_t num,
		     uint32_t flags)
{
	struct update update = { .memory = memory, .flags = flags };
	int err = prepare(&update, changes, num);

	if (!err) {
		forget_old(&update);
		err = apply(&update);
	}
	clear_marks(&update);
	drop_pieces(&update);
	return err;
}

int cleat_memory_update(struct cleat_memory *memory,
			const struct cleat_memory_change *changes, size_t num,
			uint32_t flags)
{
	int err;

	if (flags & ~CLEAT_MEMORY_UPDATE_MERGE)
		return -EINVAL;
	pthread_mutex_lock(&memory->lock);
	err = cleat_dma_update(memory, changes, num, flags);
	pthread_mutex_unlock(&memory->lock);
	return err;
}
