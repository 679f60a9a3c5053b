/* SPDX-License-Identifier: BSD-2-Clause */
#include <errno.h>
#include <stdlib.h>

#include "dma/private.h"

static struct cleat_memory *free_memory(struct cleat_memory *memory)
{
	cleat_table_destroy(memory->table);
	pthread_cond_destroy(&memory->idle);
	pthread_mutex_destroy(&memory->idle_lock);
	pthread_mutex_destroy(&memory->lock);
	free(memory);
	return NULL;
}

int cleat_memory_create(struct cleat_memory **ret_memory)
{
	struct cleat_memory *memory = calloc(1, sizeof(*memory));
	int err;

	if (!memory)
		return -ENOMEM;
	pthread_mutex_init(&memory->lock, NULL);
	pthread_mutex_init(&memory->idle_lock, NULL);
	pthread_cond_init(&memory->idle, NULL);
	err = cleat_table_create(12, &memory->table);
	if (err) {
		free_memory(memory);
		return err;
	}
	*ret_memory = memory;
	return 0;
}

static void free_ranges(struct cleat_dma_range *range)
{
	while (range) {
		struct cleat_dma_range *next = range->next;

		cleat_dma_range_free(range);
		range = next;
	}
}

struct cleat_memory *cleat_memory_unref(struct cleat_memory *memory)
{
	if (!memory)
		return NULL;
	/* After this no handler runs, and none has: no copy is under way. */
	cleat_dma_release_all(memory);
	cleat_dma_log_drop(memory);
	free_ranges(memory->ranges);
	return free_memory(memory);
}

void cleat_memory_retire(struct cleat_memory *memory,
			 struct cleat_dma_range **set, size_t num)
{
	if (!num)
		return;
	for (size_t i = 0; i < num; i++)
		cleat_table_remove(memory->table, set[i]->guest,
				   set[i]->length);
	/* Nobody finds them after this; then those who had are done. */
	cleat_synchronize();
	for (size_t i = 0; i < num; i++) {
		cleat_dma_range_kill(memory, set[i]);
		cleat_dma_range_free(set[i]);
	}
}

static int check_devices(struct cleat_memory *memory,
			 const struct cleat_dma_range *range)
{
	struct cleat_dma_attachment *at;
	int err = 0;

	for (at = memory->attachments; at && !err; at = at->next)
		if (!cleat_device_is_lost(at->dev))
			err = cleat_dma_fits(at->dev, range,
					     memory->num_ranges + 1);
	return err;
}

void cleat_memory_append(struct cleat_memory *memory,
			 struct cleat_dma_range *range)
{
	range->prev = memory->last_range;
	if (range->prev)
		range->prev->next = range;
	else
		memory->ranges = range;
	memory->last_range = range;
	memory->num_ranges++;
}

void cleat_memory_take_out(struct cleat_memory *memory,
			   struct cleat_dma_range *range)
{
	if (range->prev)
		range->prev->next = range->next;
	else
		memory->ranges = range->next;
	if (range->next)
		range->next->prev = range->prev;
	else
		memory->last_range = range->prev;
	memory->num_ranges--;
}

/* Ours first: a server may use the range before its reply is read. */
static int publish(struct cleat_memory *memory, struct cleat_dma_range *range)
{
	struct cleat_table_range entry = {
		.start = range->guest,
		.length = range->length,
		.entry = range,
	};
	int err = check_devices(memory, range);

	if (!err)
		err = cleat_dma_log_cover(memory, range);
	if (!err)
		err = cleat_table_add(memory->table, &entry);
	if (err) {
		cleat_dma_range_free(range);
		return err;
	}
	err = cleat_dma_map_everywhere(memory, range);
	if (err) {
		cleat_memory_retire(memory, &range, 1);
		return err;
	}
	cleat_memory_append(memory, range);
	return 0;
}

int cleat_memory_add(struct cleat_memory *memory,
		     const struct cleat_memory_range *from)
{
	struct cleat_dma_range *range;
	int err = cleat_dma_range_create(from, &range);

	if (err)
		return err;
	pthread_mutex_lock(&memory->lock);
	err = publish(memory, range);
	pthread_mutex_unlock(&memory->lock);
	return err;
}

/* Exactly this one, or NULL. Ours for as long as we hold memory->lock. */
static struct cleat_dma_range *find_range(struct cleat_memory *memory,
					  uint64_t guest, uint64_t length)
{
	struct cleat_dma_range *range = NULL;
	struct cleat_table_range found;

	cleat_read_lock();
	if (cleat_table_find(memory->table, guest, &found) &&
	    found.start == guest && found.length == length)
		range = found.entry;
	cleat_read_unlock();
	return range && range->num_parts == 1 ? range : NULL;
}

/* Of one that was put together: what is left of that is mapped again. */
static int remove_part(struct cleat_memory *memory, uint64_t guest,
		       uint64_t length)
{
	struct cleat_memory_change change = {
		.kind = CLEAT_MEMORY_CHANGE_REMOVE,
		.range = { .guest = guest, .length = length },
	};

	return cleat_dma_update(memory, &change, 1, 0);
}

static int check_droppable(struct cleat_memory *memory,
			   const struct cleat_dma_range *range)
{
	struct cleat_dma_attachment *at;
	int err = range ? 0 : -ENOENT;

	for (at = memory->attachments; at && !err; at = at->next)
		err = cleat_dma_can_drop(at->dev, range);
	return err;
}

int cleat_memory_remove(struct cleat_memory *memory, uint64_t guest,
			uint64_t length)
{
	struct cleat_dma_range *range;
	int err;

	pthread_mutex_lock(&memory->lock);
	range = find_range(memory, guest, length);
	if (!range) {
		err = remove_part(memory, guest, length);
		pthread_mutex_unlock(&memory->lock);
		return err;
	}
	err = check_droppable(memory, range);
	if (!err) {
		cleat_memory_take_out(memory, range);
		/* Served until the last server has let go of it. */
		err = cleat_dma_unmap_everywhere(memory, range);
		cleat_memory_retire(memory, &range, 1);
	}
	pthread_mutex_unlock(&memory->lock);
	return err;
}
