/* SPDX-License-Identifier: BSD-2-Clause */
#include <errno.h>
#include <stdlib.h>

#include "dma/private.h"

/*
 * Every attachment there is, so that a device is shown one memory only: the
 * handlers of a second one would take the place of the first one's.
 */
static pthread_mutex_t all_lock = PTHREAD_MUTEX_INITIALIZER;
static struct cleat_dma_attachment *all;

static int enter_all(struct cleat_dma_attachment *new)
{
	struct cleat_dma_attachment *at;

	pthread_mutex_lock(&all_lock);
	for (at = all; at && at->dev != new->dev; at = at->next_of_all)
		;
	if (!at) {
		new->next_of_all = all;
		all = new;
	}
	pthread_mutex_unlock(&all_lock);
	return at ? -EBUSY : 0;
}

static void leave_all(struct cleat_dma_attachment *old)
{
	struct cleat_dma_attachment **link;

	pthread_mutex_lock(&all_lock);
	for (link = &all; *link != old; link = &(*link)->next_of_all)
		;
	*link = old->next_of_all;
	pthread_mutex_unlock(&all_lock);
}

/* Out of the list: then it is the caller's. False if it is another's. */
static bool take(struct cleat_memory *memory, struct cleat_dma_attachment *at)
{
	struct cleat_dma_attachment **link;

	for (link = &memory->attachments; *link && *link != at;
	     link = &(*link)->next)
		;
	if (!*link)
		return false;
	*link = at->next;
	return true;
}

/* Whoever took it. Not with memory->lock held: the hook may want it. */
static void release(struct cleat_dma_attachment *at)
{
	cleat_device_hook_remove(at->dev, &at->hook);
	cleat_dma_serve_no_more(at->dev);
	leave_all(at);
	cleat_device_unpin(at->dev);
	free(at);
}

/*
 * The device's last reference was given back. Another thread that has taken the
 * attachment meanwhile waits in release() until this has returned. One that
 * finds it in the list no more may free the memory, so whoever still copies
 * from it is waited for before.
 */
static void shut_down(struct cleat_device_hook *hook)
{
	struct cleat_dma_attachment *at = (void *)hook;
	struct cleat_memory *memory = at->memory;
	bool ours;

	cleat_dma_serve_no_more(at->dev);
	pthread_mutex_lock(&memory->lock);
	ours = take(memory, at);
	if (ours)
		cleat_dma_log_mark_hidden(memory, at);
	pthread_mutex_unlock(&memory->lock);
	if (ours)
		release(at);
}

static int create(struct cleat_memory *memory, struct cleat_device *dev,
		  struct cleat_dma_attachment **ret)
{
	struct cleat_dma_attachment *at = calloc(1, sizeof(*at));
	int err;

	if (!at)
		return -ENOMEM;
	at->hook.rank = CLEAT_HOOK_MEMORY;
	at->hook.shutdown = shut_down;
	at->memory = memory;
	at->dev = dev;
	err = enter_all(at);
	if (err) {
		free(at);
		return err;
	}
	cleat_device_pin(dev);
	*ret = at;
	return 0;
}

static int check_ranges(struct cleat_memory *memory, struct cleat_device *dev)
{
	struct cleat_dma_range *range;
	int err = 0;

	for (range = memory->ranges; range && !err; range = range->next)
		err = cleat_dma_fits(dev, range, memory->num_ranges);
	return err;
}

/* Served before the first range is mapped, which may be used at once. */
static int show(struct cleat_memory *memory, struct cleat_dma_attachment *at)
{
	int err = check_ranges(memory, at->dev);

	if (err)
		return err;
	cleat_dma_serve(memory, at->dev);
	return cleat_dma_map_all(memory, at->dev);
}

int cleat_memory_attach(struct cleat_memory *memory, struct cleat_device *dev)
{
	struct cleat_dma_attachment *at;
	int err = create(memory, dev, &at);

	if (err)
		return err;
	pthread_mutex_lock(&memory->lock);
	err = show(memory, at);
	if (!err)
		err = cleat_device_hook_add(dev, &at->hook);
	if (!err) {
		at->next = memory->attachments;
		memory->attachments = at;
		cleat_dma_log_join(memory, at);
	}
	pthread_mutex_unlock(&memory->lock);
	if (err)
		release(at);
	return err;
}

static struct cleat_dma_attachment *find_device(struct cleat_memory *memory,
						struct cleat_device *dev)
{
	struct cleat_dma_attachment *at = memory->attachments;

	while (at && at->dev != dev)
		at = at->next;
	return at;
}

/* All of it is the caller's to drop, or nothing happens. */
static int check_droppable(struct cleat_memory *memory,
			   struct cleat_dma_attachment *at)
{
	struct cleat_dma_range *range = memory->ranges;
	int err = at ? 0 : -ENOENT;

	for (; range && !err; range = range->next)
		err = cleat_dma_can_drop(at->dev, range);
	return err;
}

int cleat_memory_detach(struct cleat_memory *memory, struct cleat_device *dev)
{
	struct cleat_dma_attachment *at;
	bool taken = false;
	int err;

	pthread_mutex_lock(&memory->lock);
	at = find_device(memory, dev);
	err = check_droppable(memory, at);
	if (!err) {
		taken = take(memory, at);
		err = cleat_dma_unmap_all(memory, dev);
		cleat_dma_log_mark_hidden(memory, at);
	}
	pthread_mutex_unlock(&memory->lock);
	if (taken)
		release(at);
	return err;
}

void cleat_dma_release_all(struct cleat_memory *memory)
{
	struct cleat_dma_attachment *at;

	for (;;) {
		pthread_mutex_lock(&memory->lock);
		at = memory->attachments;
		if (at)
			take(memory, at);
		pthread_mutex_unlock(&memory->lock);
		if (!at)
			return;
		release(at);
	}
}
