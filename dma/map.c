/* SPDX-License-Identifier: BSD-2-Clause */
#include <errno.h>
#include <stdlib.h>

#include "dma/private.h"
#include "wire/wire.h"

/* Commands that are put on a socket before the first reply is waited for. */
#define BURST 64

/**
 * struct transfer - one DMA_MAP or DMA_UNMAP on its way
 * @result: of the call; what it is for the device is judge_*()'s to say
 * @started: the call is in flight
 */
struct transfer {
	struct cleat_call call;
	struct cleat_device *dev;
	const struct cleat_dma_range *range;
	union {
		struct cleat_wire_dma_map map;
		struct cleat_wire_dma_unmap unmap;
	} head;
	struct cleat_wire_dma_unmap echo;
	int result;
	bool started;
};

static void start(struct transfer *transfer)
{
	transfer->result = cleat_call_start(transfer->dev, &transfer->call);
	transfer->started = !transfer->result;
}

static int finish(struct transfer *transfer)
{
	if (transfer->started)
		transfer->result = cleat_call_finish(transfer->dev,
						     &transfer->call);
	transfer->started = false;
	return transfer->result;
}

static uint32_t wire_rights(uint32_t rights)
{
	return (rights & CLEAT_READ ? CLEAT_DMA_READ : 0) |
	       (rights & CLEAT_WRITE ? CLEAT_DMA_WRITE : 0);
}

/* Whether the device is given the range's file. */
static bool gives_fd(struct cleat_device *dev,
		     const struct cleat_dma_range *range)
{
	struct cleat_device_info info = { .size = sizeof(info) };

	if (range->fd < 0 || cleat_device_flags(dev) & CLEAT_DEVICE_SECURE)
		return false;
	return !cleat_device_info(dev, &info) && info.max_msg_fds;
}

static void start_map(struct transfer *transfer, struct cleat_device *dev,
		      const struct cleat_dma_range *range)
{
	bool with_fd = gives_fd(dev, range);

	*transfer = (struct transfer){
		.dev = dev,
		.range = range,
		.head.map = {
			.argsz = sizeof(transfer->head.map),
			.flags = wire_rights(range->rights),
			.offset = with_fd ? range->offset : 0,
			.address = range->guest,
			.size = range->length,
		},
		.call = {
			.command = VFIO_USER_DMA_MAP,
			.deadline_class = CLEAT_CALL_CONTROL,
			.flags = CLEAT_CALL_STATE,
			.head = &transfer->head,
			.head_size = sizeof(transfer->head.map),
			.fds = with_fd ? &range->fd : NULL,
			.num_fds = with_fd,
		},
	};
	start(transfer);
}

int cleat_dma_can_drop(struct cleat_device *dev,
		       const struct cleat_dma_range *range)
{
	if (!cleat_device_has_quirk(dev, CLEAT_QUIRK_NO_UNMAP) ||
	    cleat_device_is_lost(dev) || !gives_fd(dev, range))
		return 0;
	return -EOPNOTSUPP;
}

/*
 * The server ends itself at DMA_UNMAP. What it reaches by message only is out
 * of its reach when we serve it no more; what it has the file of it keeps.
 */
static void drop_silently(struct transfer *transfer)
{
	if (!cleat_dma_can_drop(transfer->dev, transfer->range))
		return;
	cleat_device_fail(transfer->dev, -EOPNOTSUPP,
			  "this server cannot give memory back that was mapped "
			  "in vain");
	transfer->result = -ENOTCONN;
}

static void start_unmap(struct transfer *transfer, struct cleat_device *dev,
			const struct cleat_dma_range *range)
{
	*transfer = (struct transfer){
		.dev = dev,
		.range = range,
		.head.unmap = {
			.argsz = sizeof(transfer->head.unmap),
			.address = range->guest,
			.size = range->length,
		},
		.call = {
			.command = VFIO_USER_DMA_UNMAP,
			.deadline_class = CLEAT_CALL_QUIESCE,
			.flags = CLEAT_CALL_STATE,
			.head = &transfer->head,
			.head_size = sizeof(transfer->head.unmap),
			/* Some servers answer with the bare header. */
			.reply = &transfer->echo,
			.reply_size = sizeof(transfer->echo),
		},
	};
	if (cleat_device_has_quirk(dev, CLEAT_QUIRK_NO_UNMAP))
		drop_silently(transfer);
	else
		start(transfer);
}

/* A device that is gone refuses nothing: the others shall have their memory. */
static bool is_gone(const struct transfer *transfer)
{
	return transfer->result == -ENOTCONN ||
	       transfer->result == -ESHUTDOWN;
}

/*
 * A server that will not let go of a range that it was given cannot be believed
 * about any other either.
 */
static int judge_unmap(struct transfer *transfer)
{
	if (!finish(transfer))
		return 0;
	if (cleat_device_is_lost(transfer->dev))
		return transfer->result;
	cleat_device_fail(transfer->dev, -EPROTO,
			  "DMA_UNMAP of %#llx was refused: error %d",
			  (unsigned long long)transfer->range->guest,
			  -transfer->result);
	return -ENOTCONN;
}

int cleat_dma_fits(struct cleat_device *dev,
		   const struct cleat_dma_range *range, unsigned num)
{
	struct cleat_device_info info = { .size = sizeof(info) };
	uint64_t page;
	int err = cleat_device_info(dev, &info);

	if (err)
		return err;
	if (num > info.max_dma_maps)
		return -ENOSPC;
	page = info.page_sizes & -info.page_sizes;
	if (page && ((range->guest | range->length) & (page - 1)))
		return -EINVAL;
	return 0;
}

static int start_everywhere(struct cleat_memory *memory,
			    struct cleat_dma_range *range,
			    struct transfer **ret_transfers, unsigned *ret_num,
			    void (*each)(struct transfer *,
					 struct cleat_device *,
					 const struct cleat_dma_range *))
{
	struct cleat_dma_attachment *at;
	struct transfer *transfers;
	unsigned num = 0;

	for (at = memory->attachments; at; at = at->next)
		num++;
	transfers = calloc(num + 1, sizeof(*transfers));
	if (!transfers)
		return -ENOMEM;
	*ret_transfers = transfers;
	*ret_num = num;
	for (at = memory->attachments; at; at = at->next)
		each(transfers++, at->dev, range);
	return 0;
}

int cleat_dma_map_everywhere(struct cleat_memory *memory,
			     struct cleat_dma_range *range)
{
	struct transfer *transfers;
	unsigned num, i;
	int err = start_everywhere(memory, range, &transfers, &num, start_map);

	if (err)
		return err;
	for (i = 0; i < num; i++)
		if (finish(&transfers[i]) && !is_gone(&transfers[i]) && !err)
			err = transfers[i].result;
	for (i = 0; err && i < num; i++) {
		if (transfers[i].result)
			continue;
		start_unmap(&transfers[i], transfers[i].dev, range);
		judge_unmap(&transfers[i]);
	}
	free(transfers);
	return err;
}

/* One after the other when there is no memory for all at once. */
static int unmap_each(struct cleat_memory *memory,
		      struct cleat_dma_range *range)
{
	struct cleat_dma_attachment *at;
	int err = 0;

	for (at = memory->attachments; at; at = at->next) {
		struct transfer transfer;
		int one;

		start_unmap(&transfer, at->dev, range);
		one = judge_unmap(&transfer);
		err = err ? err : one;
	}
	return err;
}

int cleat_dma_unmap_everywhere(struct cleat_memory *memory,
			       struct cleat_dma_range *range)
{
	struct transfer *transfers;
	unsigned num, i;
	int err = start_everywhere(memory, range, &transfers, &num,
				   start_unmap);

	if (err)
		return unmap_each(memory, range);
	for (i = 0; i < num; i++) {
		int one = judge_unmap(&transfers[i]);

		err = err ? err : one;
	}
	free(transfers);
	return err;
}

/* Unmaps from @first up to, not including, @end. */
static int unmap_run(struct cleat_device *dev, struct cleat_dma_range *first,
		     struct cleat_dma_range *end)
{
	struct transfer burst[BURST];
	int err = 0;

	while (first != end) {
		unsigned num = 0, i;

		for (; first != end && num < BURST; first = first->next)
			start_unmap(&burst[num++], dev, first);
		for (i = 0; i < num; i++) {
			int one = judge_unmap(&burst[i]);

			err = err ? err : one;
		}
	}
	return err;
}

/* One burst from *@range on, which moves past it; all of it or nothing. */
static int map_burst(struct cleat_device *dev, struct cleat_dma_range **range)
{
	struct transfer burst[BURST];
	unsigned num = 0, i;
	int err = 0;

	for (; *range && num < BURST; *range = (*range)->next)
		start_map(&burst[num++], dev, *range);
	for (i = 0; i < num; i++)
		if (finish(&burst[i]) && !err)
			err = burst[i].result;
	for (i = 0; err && i < num; i++) {
		if (burst[i].result)
			continue;
		start_unmap(&burst[i], dev, burst[i].range);
		judge_unmap(&burst[i]);
	}
	return err;
}

int cleat_dma_map_all(struct cleat_memory *memory, struct cleat_device *dev)
{
	struct cleat_dma_range *range = memory->ranges;

	while (range) {
		struct cleat_dma_range *first = range;
		int err = map_burst(dev, &range);

		if (err) {
			unmap_run(dev, memory->ranges, first);
			return err;
		}
	}
	return 0;
}

int cleat_dma_unmap_all(struct cleat_memory *memory, struct cleat_device *dev)
{
	return unmap_run(dev, memory->ranges, NULL);
}
