/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What servers log of their own writes, by the commands of either generation.
 * All with memory->lock held.
 */
#include <errno.h>
#include <linux/vfio.h>
#include <stdlib.h>
#include <string.h>

#include "dma/private.h"
#include "wire/wire.h"

#define PAGE ((uint64_t)CLEAT_MEMORY_LOG_PAGE)
#define MOST_PAGE (UINT64_C(1) << 40)

uint64_t cleat_dma_log_bytes(uint64_t length, uint64_t page)
{
	uint64_t pages = length / page + !!(length % page);

	return (pages + 63) / 64 * 8;
}

bool cleat_dma_log_hides(const struct cleat_dma_attachment *at,
			 const struct cleat_dma_range *range)
{
	return (range->rights & CLEAT_WRITE) &&
	       cleat_dma_gives_fd(at->dev, range);
}

static uint64_t choose_page(struct cleat_memory *memory,
			    const struct cleat_dma_attachment *at)
{
	struct cleat_dma_range *range;
	uint64_t page = PAGE;

	for (range = memory->ranges; range; range = range->next)
		while (cleat_dma_log_hides(at, range) &&
		       cleat_dma_log_bytes(range->length, page) >
			       CLEAT_DMA_MOST_BITMAP)
			page *= 2;
	return page;
}

void cleat_dma_log_mark(struct cleat_memory *memory,
			const struct cleat_dma_range *range)
{
	cleat_memory_mark_dirty(memory, range->guest, range->length);
}

void cleat_dma_log_mark_hidden(struct cleat_memory *memory,
			       struct cleat_dma_attachment *at)
{
	struct cleat_dma_range *range;

	for (range = memory->ranges; range; range = range->next)
		if (cleat_dma_log_hides(at, range))
			cleat_dma_log_mark(memory, range);
}

/* --- Start and stop ------------------------------------------------------ */

static int start_feature(struct cleat_dma_attachment *at, uint64_t page)
{
	struct cleat_wire_logging control = { .page_size = page };
	size_t got = 0;
	int err = cleat_device_feature(
		at->dev, VFIO_DEVICE_FEATURE_DMA_LOGGING_START,
		CLEAT_FEATURE_SET, &control, sizeof(control), sizeof(control),
		&got);

	if (err)
		return err;
	/* Some take another size than they are asked for; they say which. */
	if (got >= sizeof(control.page_size) && control.page_size > page)
		page = control.page_size;
	if (page & (page - 1) || page > MOST_PAGE)
		return -EPROTO;
	at->log_page = page;
	return 0;
}

static int dirty_pages(struct cleat_dma_attachment *at, uint32_t flags)
{
	struct cleat_wire_dirty_pages head = { sizeof(head), flags };
	struct cleat_wire_dirty_pages reply;
	struct cleat_call call = {
		.command = VFIO_USER_DIRTY_PAGES,
		.deadline_class = CLEAT_CALL_CONTROL,
		.head = &head,
		.head_size = sizeof(head),
		.reply = &reply,
		.reply_size = sizeof(reply),
	};

	return cleat_call(at->dev, &call, NULL);
}

static void start_device(struct cleat_memory *memory,
			 struct cleat_dma_attachment *at)
{
	uint64_t page = choose_page(memory, at);

	at->log = CLEAT_DMA_LOGS_NOT;
	at->log_mute = false;
	if (!start_feature(at, page)) {
		at->log = CLEAT_DMA_LOGS_FEATURE;
		return;
	}
	if (cleat_device_is_lost(at->dev) ||
	    dirty_pages(at, CLEAT_DIRTY_START))
		return;
	at->log = CLEAT_DMA_LOGS_V1;
	at->log_page = page;
}

void cleat_dma_log_start_all(struct cleat_memory *memory)
{
	struct cleat_dma_attachment *at;
	struct cleat_dma_range *range;

	for (range = memory->ranges; range; range = range->next)
		range->is_untold = false;
	for (at = memory->attachments; at; at = at->next)
		start_device(memory, at);
}

void cleat_dma_log_join(struct cleat_memory *memory,
			struct cleat_dma_attachment *at)
{
	if (!memory->log)
		return;
	start_device(memory, at);
	/* It may have written before it was asked to log. */
	cleat_dma_log_mark_hidden(memory, at);
}

static void stop_device(struct cleat_dma_attachment *at)
{
	struct cleat_wire_logging control = { .page_size = at->log_page };

	if (at->log == CLEAT_DMA_LOGS_FEATURE &&
	    !cleat_device_is_lost(at->dev))
		cleat_device_feature(at->dev,
				     VFIO_DEVICE_FEATURE_DMA_LOGGING_STOP,
				     CLEAT_FEATURE_SET, &control,
				     sizeof(control), sizeof(control), NULL);
	else if (at->log == CLEAT_DMA_LOGS_V1)
		dirty_pages(at, CLEAT_DIRTY_STOP);
	at->log = CLEAT_DMA_LOGS_NOT;
}

void cleat_dma_log_stop_all(struct cleat_memory *memory)
{
	struct cleat_dma_attachment *at;

	for (at = memory->attachments; at; at = at->next)
		stop_device(at);
}

/* --- Fetch --------------------------------------------------------------- */

/* Room for the head and the bitmap, eight-byte aligned. */
struct report {
	struct cleat_wire_report head;
	uint64_t bitmap[CLEAT_DMA_MOST_BITMAP / 8];
};

static int ask_feature(struct cleat_dma_attachment *at, struct report *report,
		       const struct cleat_dma_range *range, size_t bytes)
{
	size_t got = 0;
	int err;

	report->head = (struct cleat_wire_report){
		.iova = range->guest,
		.length = range->length,
		.page_size = at->log_page,
	};
	err = cleat_device_feature(at->dev,
				   VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT,
				   CLEAT_FEATURE_GET, report,
				   sizeof(report->head),
				   sizeof(report->head) + bytes, &got);
	if (err)
		return err;
	/* Success with nothing in it is how some refuse. */
	return got == sizeof(report->head) + bytes &&
			       report->head.page_size == at->log_page ?
		       0 :
		       -EPROTO;
}

static int ask_v1(struct cleat_dma_attachment *at, struct report *report,
		  const struct cleat_dma_range *range, size_t bytes)
{
	struct {
		struct cleat_wire_dirty_pages pages;
		struct cleat_wire_dirty_range range;
	} head = {
		.pages.argsz = (uint32_t)(sizeof(head) + bytes),
		.pages.flags = CLEAT_DIRTY_GET_BITMAP,
		.range.iova = range->guest,
		.range.size = range->length,
		.range.bitmap = { at->log_page, bytes },
	}, reply;
	struct cleat_call call = {
		.command = VFIO_USER_DIRTY_PAGES,
		.deadline_class = CLEAT_CALL_CONTROL,
		.head = &head,
		.head_size = sizeof(head),
		.reply = &reply,
		.reply_size = sizeof(reply),
		.reply_data = report->bitmap,
		.reply_data_size = bytes,
	};
	int err = cleat_call(at->dev, &call, NULL);

	if (err)
		return err;
	return call.got == sizeof(reply) + bytes &&
			       reply.range.bitmap.page_size == at->log_page ?
		       0 :
		       -EPROTO;
}

static int fetch_range(struct cleat_memory *memory,
		       struct cleat_dma_attachment *at, struct report *report,
		       const struct cleat_dma_range *range)
{
	uint64_t bytes = cleat_dma_log_bytes(range->length, at->log_page);
	int err;

	if (bytes > CLEAT_DMA_MOST_BITMAP)
		return -E2BIG;
	if (at->log == CLEAT_DMA_LOGS_FEATURE)
		err = ask_feature(at, report, range, bytes);
	else
		err = ask_v1(at, report, range, bytes);
	if (err)
		return err;
	return cleat_memory_log_merge(memory, range->guest, range->length,
				      at->log_page, report->bitmap);
}

/*
 * What it had logged and did not tell is not known any more: dirty now, and
 * once more in the last round.
 */
static void give_up(struct cleat_memory *memory,
		    struct cleat_dma_attachment *at)
{
	stop_device(at);
	cleat_dma_log_mark_hidden(memory, at);
}

/*
 * It came after the size of pages was agreed on and is too large for that, or
 * the server wants ranges to begin on such a page: what it writes elsewhere it
 * tells. Dirty now, and once more in the last round.
 */
static void give_up_range(struct cleat_memory *memory,
			  struct cleat_dma_range *range)
{
	if (!range->is_untold)
		cleat_dma_log_mark(memory, range);
	range->is_untold = true;
}

static void fetch_device(struct cleat_memory *memory,
			 struct cleat_dma_attachment *at, struct report *report)
{
	struct cleat_dma_range *range = memory->ranges;
	int err = 0;

	if (at->log == CLEAT_DMA_LOGS_NOT)
		return;
	for (; range && !err; range = range->next) {
		if (cleat_dma_log_hides(at, range))
			err = fetch_range(memory, at, report, range);
		if (err == -EINVAL || err == -E2BIG) {
			give_up_range(memory, range);
			err = 0;
		}
	}
	if (err)
		give_up(memory, at);
}

static void mark_untold(struct cleat_memory *memory)
{
	struct cleat_dma_range *range;

	for (range = memory->ranges; range; range = range->next)
		if (range->is_untold)
			cleat_dma_log_mark(memory, range);
}

static int fetch(struct cleat_memory *memory, uint32_t flags)
{
	struct cleat_dma_attachment *at;
	struct report *report;

	if (!memory->log)
		return -ENODATA;
	report = malloc(sizeof(*report));
	for (at = memory->attachments; at; at = at->next) {
		if (report)
			fetch_device(memory, at, report);
		else
			give_up(memory, at);
		if (at->log == CLEAT_DMA_LOGS_NOT &&
		    (flags & CLEAT_MEMORY_LOG_FINAL))
			cleat_dma_log_mark_hidden(memory, at);
	}
	free(report);
	if (flags & CLEAT_MEMORY_LOG_FINAL)
		mark_untold(memory);
	return 0;
}

int cleat_memory_log_fetch(struct cleat_memory *memory, uint32_t flags)
{
	int err;

	pthread_mutex_lock(&memory->lock);
	err = fetch(memory, flags);
	pthread_mutex_unlock(&memory->lock);
	return err;
}
