/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The last thing a server is asked about a range: which pages of it are dirty,
 * with the DMA_UNMAP that takes it away. The first generation has that; of the
 * second's servers those that are known to.
 */
#include <errno.h>
#include <stdlib.h>

#include "dma/private.h"
#include "wire/wire.h"

struct words {
	struct cleat_wire_dma_unmap unmap;
	struct cleat_wire_bitmap bitmap;
};

/* One such question, and the room for its answer. */
struct cleat_dma_last {
	struct words asked;
	struct words told;
	uint64_t bits[];
};

static bool tells(const struct cleat_dma_attachment *at,
		  const struct cleat_dma_range *range)
{
	if (at->log_mute || !cleat_dma_log_hides(at, range) ||
	    cleat_device_has_quirk(at->dev, CLEAT_QUIRK_NO_UNMAP))
		return false;
	return at->log == CLEAT_DMA_LOGS_V1 ||
	       (at->log == CLEAT_DMA_LOGS_FEATURE &&
		cleat_device_has_quirk(at->dev, CLEAT_QUIRK_UNMAP_TELLS));
}

struct cleat_dma_last *cleat_dma_last_ask(struct cleat_dma_attachment *at,
					  const struct cleat_dma_range *range,
					  struct cleat_call *call)
{
	struct cleat_dma_last *last;
	uint64_t bytes;

	if (!tells(at, range))
		return NULL;
	bytes = cleat_dma_log_bytes(range->length, at->log_page);
	if (bytes > CLEAT_DMA_MOST_BITMAP)
		return NULL;
	last = calloc(1, sizeof(*last) + bytes);
	if (!last)
		return NULL;
	last->asked = (struct words){
		.unmap.argsz = (uint32_t)(sizeof(last->told) + bytes),
		.unmap.flags = CLEAT_UNMAP_DIRTY,
		.unmap.address = range->guest,
		.unmap.size = range->length,
		.bitmap = { at->log_page, bytes },
	};
	call->head = &last->asked;
	call->head_size = sizeof(last->asked);
	call->reply = &last->told;
	call->reply_size = sizeof(last->told);
	call->reply_data = last->bits;
	call->reply_data_size = bytes;
	return last;
}

void cleat_dma_last_refused(struct cleat_dma_attachment *at,
			    struct cleat_dma_last *last)
{
	at->log_mute = true;
	free(last);
}

/* What it says is what was asked for: some answer what they do not know. */
static bool is_answer(const struct cleat_dma_last *last, size_t got)
{
	return got == sizeof(last->told) + last->asked.bitmap.size &&
	       last->told.unmap.address == last->asked.unmap.address &&
	       last->told.unmap.size == last->asked.unmap.size &&
	       last->told.bitmap.page_size == last->asked.bitmap.page_size &&
	       last->told.bitmap.size == last->asked.bitmap.size;
}

void cleat_dma_last_learn(struct cleat_memory *memory,
			  struct cleat_dma_attachment *at,
			  const struct cleat_dma_range *range,
			  struct cleat_dma_last *last, size_t got)
{
	int err = -EPROTO;

	if (last && is_answer(last, got))
		err = cleat_memory_log_merge(memory, range->guest,
					     range->length, at->log_page,
					     last->bits);
	if (err && cleat_dma_log_hides(at, range))
		cleat_dma_log_mark(memory, range);
	free(last);
}
