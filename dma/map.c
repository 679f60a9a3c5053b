/* SPDX-License-Identifier: BSD-2-Clause */
#include <errno.h>
#include <stdlib.h>

#include "dma/private.h"
#include "wire/wire.h"

/*
 * Commands that are under way at once, fewer than the engine has ids: others
 * want some too.
 */
#define WINDOW 128

/**
 * struct transfer - one DMA_MAP or DMA_UNMAP on its way
 * @at:     of a range that is removed while writes are logged; or NULL
 * @last:   what is asked about it with DMA_UNMAP; or NULL
 * @result: of the call; what it is for the device is judge_*()'s to say
 * @started: the call is in flight
 */
struct transfer {
	struct cleat_call call;
	struct cleat_device *dev;
	struct cleat_dma_range *range;
	struct cleat_dma_attachment *at;
	struct cleat_dma_last *last;
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

bool cleat_dma_gives_fd(struct cleat_device *dev,
			const struct cleat_dma_range *range)
{
	struct cleat_device_info info = { .size = sizeof(info) };

	if (range->fd < 0 || cleat_device_flags(dev) & CLEAT_DEVICE_SECURE)
		return false;
	return !cleat_device_info(dev, &info) && info.max_msg_fds;
}

static void start_map(struct transfer *transfer, struct cleat_device *dev,
		      struct cleat_dma_range *range)
{
	bool with_fd = cleat_dma_gives_fd(dev, range);

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
	    cleat_device_is_lost(dev) || !cleat_dma_gives_fd(dev, range))
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

static void prepare_unmap(struct transfer *transfer, struct cleat_device *dev,
			  struct cleat_dma_range *range)
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
}

static void send_unmap(struct transfer *transfer)
{
	if (cleat_device_has_quirk(transfer->dev, CLEAT_QUIRK_NO_UNMAP))
		drop_silently(transfer);
	else
		start(transfer);
}

static void start_unmap(struct transfer *transfer, struct cleat_device *dev,
			struct cleat_dma_range *range)
{
	prepare_unmap(transfer, dev, range);
	send_unmap(transfer);
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
					 struct cleat_dma_attachment *,
					 struct cleat_dma_range *))
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
		each(transfers++, at, range);
	return 0;
}

static void start_map_at(struct transfer *transfer,
			 struct cleat_dma_attachment *at,
			 struct cleat_dma_range *range)
{
	start_map(transfer, at->dev, range);
}

int cleat_dma_map_everywhere(struct cleat_memory *memory,
			     struct cleat_dma_range *range)
{
	struct transfer *transfers;
	unsigned num, i;
	int err = start_everywhere(memory, range, &transfers, &num,
				   start_map_at);

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

static void start_removal(struct transfer *transfer,
			  struct cleat_dma_attachment *at,
			  struct cleat_dma_range *range)
{
	prepare_unmap(transfer, at->dev, range);
	transfer->at = at;
	transfer->last = cleat_dma_last_ask(at, range, &transfer->call);
	send_unmap(transfer);
}

/* A server that says no to the question may still do what it is asked for. */
static void ask_plainly(struct transfer *transfer)
{
	struct cleat_dma_attachment *at = transfer->at;

	if (!transfer->last || !finish(transfer) ||
	    cleat_device_is_lost(transfer->dev))
		return;
	cleat_dma_last_refused(at, transfer->last);
	start_unmap(transfer, transfer->dev, transfer->range);
	transfer->at = at;
}

static int judge_removal(struct cleat_memory *memory,
			 struct transfer *transfer)
{
	int err = judge_unmap(transfer);

	cleat_dma_last_learn(memory, transfer->at, transfer->range,
			     transfer->last, err ? 0 : transfer->call.got);
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
		transfer.at = at;
		one = judge_removal(memory, &transfer);
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
				   start_removal);

	if (err)
		return unmap_each(memory, range);
	for (i = 0; i < num; i++)
		ask_plainly(&transfers[i]);
	for (i = 0; i < num; i++) {
		int one = judge_removal(memory, &transfers[i]);

		err = err ? err : one;
	}
	free(transfers);
	return err;
}

/* --- Many ranges, one device ------------------------------------------------
 */

/**
 * struct window - commands under way, oldest first
 * @first: of @ring, the oldest
 * @num:   how many
 *
 * When it is full the older half is waited for, not the oldest alone: a server
 * that shares our core would otherwise be switched to for each of them.
 */
struct window {
	struct transfer ring[WINDOW];
	unsigned first;
	unsigned num;
};

static struct transfer *window_next(struct window *window)
{
	return &window->ring[(window->first + window->num++) % WINDOW];
}

/* The oldest, which is the caller's to finish before the next is begun. */
static struct transfer *window_pop(struct window *window)
{
	struct transfer *transfer = &window->ring[window->first];

	window->first = (window->first + 1) % WINDOW;
	window->num--;
	return transfer;
}

/* Judge all but the @left youngest; the first thing that was wrong. */
static int window_judge(struct window *window, unsigned left)
{
	int err = 0;

	while (window->num > left) {
		int one = judge_unmap(window_pop(window));

		err = err ? err : one;
	}
	return err;
}

/*
 * Unmaps from @last back to the first range. Servers keep ranges in order, and
 * what is last is taken out most cheaply.
 */
static int unmap_back(struct cleat_device *dev, struct cleat_dma_range *last)
{
	struct window window = { .num = 0 };
	int err = 0, one;

	for (; last; last = last->prev) {
		if (window.num == WINDOW) {
			one = window_judge(&window, WINDOW / 2);
			err = err ? err : one;
		}
		start_unmap(window_next(&window), dev, last);
	}
	one = window_judge(&window, 0);
	return err ? err : one;
}

/* Finish all but the @left youngest, until one was refused: that one's range,
 * and why. */
static struct cleat_dma_range *finish_maps(struct window *window, unsigned left,
					   int *ret_err)
{
	while (window->num > left) {
		struct transfer *transfer = window_pop(window);

		*ret_err = finish(transfer);
		if (*ret_err)
			return transfer->range;
	}
	return NULL;
}

/* Take back what was granted of those that were under way. */
static void undo_maps(struct window *window)
{
	while (window->num) {
		struct transfer *transfer = window_pop(window);

		if (finish(transfer))
			continue;
		start_unmap(transfer, transfer->dev, transfer->range);
		judge_unmap(transfer);
	}
}

int cleat_dma_map_all(struct cleat_memory *memory, struct cleat_device *dev)
{
	struct cleat_dma_range *range, *refused = NULL;
	struct window window = { .num = 0 };
	int err = 0;

	for (range = memory->ranges; range && !refused; range = range->next) {
		if (window.num == WINDOW)
			refused = finish_maps(&window, WINDOW / 2, &err);
		if (!refused)
			start_map(window_next(&window), dev, range);
	}
	if (!refused)
		refused = finish_maps(&window, 0, &err);
	if (!refused)
		return 0;
	undo_maps(&window);
	unmap_back(dev, refused->prev);
	return err;
}

int cleat_dma_unmap_all(struct cleat_memory *memory, struct cleat_device *dev)
{
	return unmap_back(dev, memory->last_range);
}

/* --- Many ranges, all devices ----------------------------------------------- */

int cleat_dma_unmap_set(struct cleat_memory *memory,
			struct cleat_dma_range **set, size_t num)
{
	struct window window = { .num = 0 };
	struct cleat_dma_attachment *at;
	int err = 0, one;

	for (size_t i = num; i; i--)
		for (at = memory->attachments; at; at = at->next) {
			if (window.num == WINDOW) {
				one = window_judge(&window, WINDOW / 2);
				err = err ? err : one;
			}
			start_unmap(window_next(&window), at->dev, set[i - 1]);
		}
	one = window_judge(&window, 0);
	return err ? err : one;
}

/*
 * Finish all but the @left youngest, until one was refused. @finished counts
 * those before it, in the order in which they were begun.
 */
static int settle(struct window *window, unsigned left, size_t *finished)
{
	while (window->num > left) {
		struct transfer *transfer = window_pop(window);

		/* One that is gone refuses nothing. */
		if (finish(transfer) && !is_gone(transfer))
			return transfer->result;
		(*finished)++;
	}
	return 0;
}

/* Take the first @finished back, and what was granted of those under way. */
static void undo_set(struct cleat_memory *memory, struct cleat_dma_range **set,
		     struct window *window, size_t finished)
{
	struct cleat_dma_attachment *at = NULL;

	undo_maps(window);
	for (size_t i = 0; finished; i++)
		for (at = memory->attachments; at && finished; at = at->next) {
			finished--;
			if (window->num == WINDOW)
				window_judge(window, WINDOW / 2);
			start_unmap(window_next(window), at->dev, set[i]);
		}
	window_judge(window, 0);
}

int cleat_dma_map_set(struct cleat_memory *memory,
		      struct cleat_dma_range **set, size_t num)
{
	struct window window = { .num = 0 };
	struct cleat_dma_attachment *at;
	size_t finished = 0;
	int err = 0;

	for (size_t i = 0; i < num && !err; i++)
		for (at = memory->attachments; at && !err; at = at->next) {
			if (window.num == WINDOW)
				err = settle(&window, WINDOW / 2, &finished);
			if (!err)
				start_map(window_next(&window), at->dev,
					  set[i]);
		}
	if (!err)
		err = settle(&window, 0, &finished);
	if (err)
		undo_set(memory, set, &window, finished);
	return err;
}
