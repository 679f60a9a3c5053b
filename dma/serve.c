/* SPDX-License-Identifier: BSD-2-Clause */
#include <errno.h>
#include <string.h>

#include "dma/dma.h"
#include "dma/private.h"
#include "wire/wire.h"

/* Up to here a copy goes word by word: a completion entry, a few of them. */
#define SMALL_COPY 64

struct cover {
	uint64_t next; /* the first address not covered yet */
	uint32_t right;
};

static int cover_range(void *opaque, const struct cleat_table_range *found)
{
	const struct cleat_dma_range *range = found->entry;
	struct cover *cover = opaque;

	if (found->start > cover->next)
		return -EFAULT;
	if (!(range->rights & cover->right))
		return -EACCES;
	cover->next = found->start + found->length;
	return 0;
}

/*
 * The whole of it, before the first byte: otherwise a device that writes past
 * the end of a range would leave half a write behind.
 */
static int check_cover(struct cleat_memory *memory, uint64_t address,
		       size_t count, uint32_t right)
{
	struct cover cover = { address, right };
	int err;

	cleat_read_lock();
	err = cleat_table_visit(memory->table, address, count, cover_range,
				&cover);
	cleat_read_unlock();
	if (!err && cover.next - address < count)
		err = -EFAULT;
	return err;
}

/* A referenced range that holds @address, or NULL. */
static struct cleat_dma_range *find(struct cleat_memory *memory,
				    uint64_t address)
{
	struct cleat_table_range found;
	struct cleat_dma_range *range = NULL;

	cleat_read_lock();
	if (cleat_table_find(memory->table, address, &found)) {
		range = found.entry;
		if (!cleat_dma_range_get(range))
			range = NULL;
	}
	cleat_read_unlock();
	return range;
}

static bool is_aligned(const void *a, size_t count)
{
	return !(((uintptr_t)a | count) & 3);
}

/*
 * @to is guest memory and a vCPU may be reading it. In a completion entry the
 * word that says "new" comes last, and memcpy promises no order.
 */
static void store(char *to, const char *from, size_t count)
{
	size_t done = 0;

	if (count > SMALL_COPY || !is_aligned(to, count)) {
		memcpy(to, from, count);
		return;
	}
	for (; done < count; done += 4) {
		uint32_t word;

		memcpy(&word, from + done, sizeof(word));
		/* Release: no word is seen before those below it. */
		__atomic_store_n((uint32_t *)(to + done), word,
				 __ATOMIC_RELEASE);
	}
}

static size_t copy_piece(struct cleat_dma_range *range, uint64_t address,
			 char *buf, size_t count, uint32_t right)
{
	uint64_t inside = address - range->guest;

	if (count > range->length - inside)
		count = range->length - inside;
	if (right == CLEAT_READ)
		memcpy(buf, range->host + inside, count);
	else
		store(range->host + inside, buf, count);
	return count;
}

int cleat_dma_copy(struct cleat_memory *memory, uint64_t address, void *buf,
		   size_t count, uint32_t right)
{
	char *at = buf;
	int err;

	if (!count)
		return 0;
	if (address + count < address)
		return -EFAULT;
	err = check_cover(memory, address, count, right);
	while (!err && count) {
		struct cleat_dma_range *range = find(memory, address);
		size_t done;

		/* Removed since, or replaced by one with fewer rights. */
		if (!range)
			return -EFAULT;
		if (range->rights & right) {
			done = copy_piece(range, address, at, count, right);
			if (right == CLEAT_WRITE)
				cleat_memory_mark_dirty(memory, address, done);
			at += done;
			address += done;
			count -= done;
		} else {
			err = -EACCES;
		}
		cleat_dma_range_put(memory, range);
	}
	return err;
}

/* A request's fixed part; -EINVAL unless its count is sane. */
static int parse(const struct cleat_inbound *in, struct cleat_wire_dma *dma)
{
	if (in->size < sizeof(*dma))
		return -EINVAL;
	memcpy(dma, in->payload, sizeof(*dma));
	return dma->count > CLEAT_MAX_TRANSFER ? -E2BIG : 0;
}

static int serve_read(void *opaque, struct cleat_inbound *in)
{
	struct cleat_wire_dma dma;
	int err = parse(in, &dma);

	if (err)
		return err;
	if (in->size != sizeof(dma))
		return -EINVAL;
	if (in->reply_room < sizeof(dma) ||
	    dma.count > in->reply_room - sizeof(dma))
		return -E2BIG;
	err = cleat_dma_copy(opaque, dma.address, in->reply + sizeof(dma),
			     dma.count, CLEAT_READ);
	if (err)
		return err;
	memcpy(in->reply, &dma, sizeof(dma));
	in->reply_size = sizeof(dma) + dma.count;
	return 0;
}

static int serve_write(void *opaque, struct cleat_inbound *in)
{
	struct cleat_wire_dma dma;
	int err = parse(in, &dma);

	if (err)
		return err;
	if (in->size - sizeof(dma) != dma.count)
		return -EINVAL;
	if (in->reply_room < sizeof(dma))
		return -E2BIG;
	err = cleat_dma_copy(opaque, dma.address,
			     (void *)(in->payload + sizeof(dma)), dma.count,
			     CLEAT_WRITE);
	if (err)
		return err;
	memcpy(in->reply, &dma, sizeof(dma));
	in->reply_size = sizeof(dma);
	return 0;
}

void cleat_dma_serve(struct cleat_memory *memory, struct cleat_device *dev)
{
	cleat_device_serve(dev, VFIO_USER_DMA_READ, serve_read, memory);
	cleat_device_serve(dev, VFIO_USER_DMA_WRITE, serve_write, memory);
}

void cleat_dma_serve_no_more(struct cleat_device *dev)
{
	cleat_device_serve(dev, VFIO_USER_DMA_READ, NULL, NULL);
	cleat_device_serve(dev, VFIO_USER_DMA_WRITE, NULL, NULL);
}
