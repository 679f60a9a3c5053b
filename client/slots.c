/* SPDX-License-Identifier: BSD-2-Clause */
#include <stdlib.h>
#include <string.h>

#include "client/engine.h"

/*
 * Slots come in chunks that are never moved or freed before the device is: a
 * waker may still hold the address of a word whose thread has gone on.
 */
static bool add_chunk(struct cleat_device *dev)
{
	unsigned first = dev->num_slots;
	unsigned count = CLEAT_SLOT_CHUNK;
	struct cleat_slot *chunk;

	if (first >= CLEAT_MAX_SLOTS)
		return false;
	if (count > CLEAT_MAX_SLOTS - first)
		count = CLEAT_MAX_SLOTS - first;
	chunk = calloc(count, sizeof(*chunk));
	if (!chunk)
		return false;
	dev->chunks[first / CLEAT_SLOT_CHUNK] = chunk;
	for (unsigned i = count; i-- > 0;) {
		chunk[i].id = (uint16_t)(first + i);
		chunk[i].next = dev->free_slots;
		dev->free_slots = &chunk[i];
	}
	dev->num_slots += count;
	return true;
}

struct cleat_slot *cleat_slot_take(struct cleat_device *dev)
{
	struct cleat_slot *slot;

	if (!dev->free_slots && !add_chunk(dev))
		return NULL;
	slot = dev->free_slots;
	dev->free_slots = slot->next;
	/* A new generation: late replies to the last user are not ours. */
	slot->id = (uint16_t)(slot->id + (1u << CLEAT_SLOT_BITS));
	slot->state = CLEAT_SLOT_FLYING;
	slot->result = 0;
	slot->next = NULL;
	return slot;
}

struct cleat_slot *cleat_slot_of(struct cleat_device *dev, uint16_t id)
{
	unsigned index = id & ((1u << CLEAT_SLOT_BITS) - 1);
	struct cleat_slot *slot;

	if (index >= dev->num_slots)
		return NULL;
	slot = &dev->chunks[index / CLEAT_SLOT_CHUNK][index % CLEAT_SLOT_CHUNK];
	if (slot->id != id || slot->gathered)
		return NULL;
	if (slot->state != CLEAT_SLOT_FLYING && slot->state != CLEAT_SLOT_DEAD)
		return NULL;
	return slot;
}

void cleat_slot_release(struct cleat_device *dev, struct cleat_slot *slot)
{
	cleat_ungather(dev, slot);
	dev->stats.replies += slot->state == CLEAT_SLOT_DONE;
	dev->num_woken -= slot->woken;
	slot->woken = false;
	free(slot->body);
	slot->body = NULL;
	slot->call = NULL;
	/*
	 * Ids can be guessed: a server may answer what was never sent whole.
	 * The rest of such a reply must not find another call in this slot.
	 */
	if (slot->arriving) {
		slot->state = CLEAT_SLOT_DEAD;
		return;
	}
	slot->state = CLEAT_SLOT_FREE;
	slot->next = dev->free_slots;
	dev->free_slots = slot;
}

static void set_first(struct cleat_device *dev, struct cleat_slot *slot)
{
	/* (who looks for a reply looks at it without the lock) */
	__atomic_store_n(&dev->sleepers, slot, __ATOMIC_RELAXED);
}

void cleat_sleepers_add(struct cleat_device *dev, struct cleat_slot *slot)
{
	slot->asleep = true;
	slot->next = NULL;
	slot->prev = dev->last_sleeper;
	if (dev->last_sleeper)
		dev->last_sleeper->next = slot;
	else
		set_first(dev, slot);
	dev->last_sleeper = slot;
}

void cleat_sleepers_remove(struct cleat_device *dev, struct cleat_slot *slot)
{
	if (!slot->asleep)
		return;
	slot->asleep = false;
	if (slot->prev)
		slot->prev->next = slot->next;
	else
		set_first(dev, slot->next);
	if (slot->next)
		slot->next->prev = slot->prev;
	else
		dev->last_sleeper = slot->prev;
	slot->next = NULL;
	slot->prev = NULL;
}

_Atomic uint32_t *cleat_pass_lead(struct cleat_device *dev)
{
	struct cleat_slot *slot = dev->sleepers;

	if (dev->leader || !slot || dev->num_woken)
		return NULL;
	/*
	 * Off the list, so that the next leaver picks another. If this one
	 * gives up instead of leading it passes the role on itself.
	 */
	cleat_sleepers_remove(dev, slot);
	atomic_store(&slot->word, 1);
	return &slot->word;
}

void cleat_wake_up(_Atomic uint32_t *word)
{
	if (word)
		cleat_futex_wake(word);
}
