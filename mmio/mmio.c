/* SPDX-License-Identifier: BSD-2-Clause */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "mmio/private.h"

#define PORT_LIMIT 0x10000u
/* Memory by pages, ports by the four bytes of a register. */
#define MEMORY_SHIFT 12
#define PORT_SHIFT 2

static void free_mmio(struct cleat_mmio *mmio)
{
	for (unsigned i = 0; i < 2; i++) {
		cleat_table_destroy(mmio->spaces[i].table);
		free(mmio->spaces[i].reserved);
	}
	cleat_ring_end(&mmio->ring);
	pthread_mutex_destroy(&mmio->lock);
	free(mmio);
}

int cleat_mmio_create(struct cleat_mmio **ret_mmio)
{
	struct cleat_mmio *mmio = calloc(1, sizeof(*mmio));
	int err;

	if (!mmio)
		return -ENOMEM;
	atomic_init(&mmio->refs, 1);
	pthread_mutex_init(&mmio->lock, NULL);
	cleat_ring_init(&mmio->ring);
	err = cleat_table_create(MEMORY_SHIFT,
				 &mmio->spaces[CLEAT_MEMORY].table);
	if (!err)
		err = cleat_table_create(PORT_SHIFT,
					 &mmio->spaces[CLEAT_PORTS].table);
	if (err) {
		free_mmio(mmio);
		return err;
	}
	*ret_mmio = mmio;
	return 0;
}

struct cleat_mmio *cleat_mmio_unref(struct cleat_mmio *mmio)
{
	if (mmio && atomic_fetch_sub(&mmio->refs, 1) == 1)
		free_mmio(mmio);
	return NULL;
}

int cleat_mmio_check(enum cleat_space space, uint64_t start, uint64_t length)
{
	if (space != CLEAT_MEMORY && space != CLEAT_PORTS)
		return -ERANGE;
	if (!length || start + (length - 1) < start)
		return -ERANGE;
	if (space == CLEAT_PORTS && start + (length - 1) >= PORT_LIMIT)
		return -ERANGE;
	return 0;
}

/* --- Reserved ranges: few, and they may overlap ---------------------------- */

static bool overlap(uint64_t a, uint64_t a_length, uint64_t b,
		    uint64_t b_length)
{
	return a - b < b_length || b - a < a_length;
}

bool cleat_mmio_is_reserved(const struct cleat_mmio_space *space,
			    uint64_t start, uint64_t length)
{
	for (size_t i = 0; i < space->num_reserved; i++)
		if (overlap(start, length, space->reserved[i].start,
			    space->reserved[i].length))
			return true;
	return false;
}

static int add_reserved(struct cleat_mmio_space *space, uint64_t start,
			uint64_t length)
{
	size_t num = space->num_reserved + 1;
	struct cleat_reserved *reserved =
		reallocarray(space->reserved, num, sizeof(*reserved));

	if (!reserved)
		return -ENOMEM;
	reserved[num - 1] = (struct cleat_reserved){ start, length };
	space->reserved = reserved;
	space->num_reserved = num;
	return 0;
}

/* Those who are in the way are unplaced, and wait. */
static bool evict(struct cleat_mmio *mmio, enum cleat_space space,
		  uint64_t start, uint64_t length)
{
	struct cleat_binding *binding;
	bool any = false;

	for (binding = mmio->bindings; binding; binding = binding->next) {
		if (binding->space != space ||
		    binding->placement != CLEAT_PLACED ||
		    !overlap(start, length, binding->address, binding->length))
			continue;
		any |= cleat_binding_unpublish(binding);
		cleat_binding_wait(binding);
	}
	return any;
}

int cleat_mmio_reserve(struct cleat_mmio *mmio, enum cleat_space space,
		       uint64_t start, uint64_t length)
{
	int err = cleat_mmio_check(space, start, length);
	bool moved = false;

	if (err)
		return err;
	pthread_mutex_lock(&mmio->lock);
	err = add_reserved(&mmio->spaces[space], start, length);
	if (!err) {
		moved = evict(mmio, space, start, length);
		moved |= cleat_mmio_settle(mmio, space);
	}
	pthread_mutex_unlock(&mmio->lock);
	if (moved)
		cleat_synchronize();
	return err;
}

static int drop_reserved(struct cleat_mmio_space *space, uint64_t start,
			 uint64_t length)
{
	for (size_t i = 0; i < space->num_reserved; i++) {
		struct cleat_reserved *reserved = &space->reserved[i];

		if (reserved->start != start || reserved->length != length)
			continue;
		*reserved = space->reserved[--space->num_reserved];
		return 0;
	}
	return -ENOENT;
}

int cleat_mmio_unreserve(struct cleat_mmio *mmio, enum cleat_space space,
			 uint64_t start, uint64_t length)
{
	bool moved = false;
	int err = cleat_mmio_check(space, start, length);

	if (err)
		return -ENOENT;
	pthread_mutex_lock(&mmio->lock);
	err = drop_reserved(&mmio->spaces[space], start, length);
	if (!err)
		moved = cleat_mmio_settle(mmio, space);
	pthread_mutex_unlock(&mmio->lock);
	if (moved)
		cleat_synchronize();
	return err;
}
