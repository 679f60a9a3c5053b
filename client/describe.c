/* SPDX-License-Identifier: BSD-2-Clause */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <linux/vfio.h>

#include "client/engine.h"

/* More than any device has; what a server can make us allocate is bounded. */
#define MAX_REGIONS 1024
#define MAX_IRQ_TYPES 64
#define MAX_VECTORS 65536

/* Room for the description of a region with the usual number of areas: most
 * servers need not be asked twice. */
#define FIRST_ROOM 1024

/* Regions asked about before the first answer is waited for. */
#define ASK_AT_ONCE 64

/* One question about a region, and the answer. */
struct region_ask {
	struct cleat_call call;
	struct cleat_wire_region_info head;
	uint8_t reply[FIRST_ROOM];
	int fds[CLEAT_MAX_FDS];
};

struct irq_ask {
	struct cleat_call call;
	struct cleat_wire_irq_info head;
	struct cleat_wire_irq_info reply;
};

static int no_memory(struct cleat_error *reterr)
{
	return cleat_fail(reterr, CLEAT_ORIGIN_LOCAL, -ENOMEM, "out of memory");
}

static int impossible(struct cleat_error *reterr, const char *what)
{
	return cleat_fail(reterr, CLEAT_ORIGIN_TRANSPORT, -EPROTO,
			  "the device is impossible: %s", what);
}

static int get_info(struct cleat_device *dev, struct cleat_error *reterr)
{
	struct cleat_wire_device_info info = { .argsz = sizeof(info) }, reply;
	struct cleat_call call = {
		.command = VFIO_USER_DEVICE_GET_INFO,
		.deadline_class = CLEAT_CALL_CONTROL,
		.head = &info,
		.head_size = sizeof(info),
		.reply = &reply,
		.reply_min = sizeof(reply),
		.reply_size = sizeof(reply),
	};
	int err = cleat_call(dev, &call, reterr);

	if (err)
		return err;
	if (reply.num_regions > MAX_REGIONS)
		return impossible(reterr, "too many regions");
	if (reply.num_irqs > MAX_IRQ_TYPES)
		return impossible(reterr, "too many interrupt types");
	if (reply.flags & VFIO_DEVICE_FLAGS_RESET)
		dev->info.flags |= CLEAT_DEVICE_INFO_RESET;
	if (reply.flags & VFIO_DEVICE_FLAGS_PCI)
		dev->info.flags |= CLEAT_DEVICE_INFO_PCI;
	dev->info.num_regions = reply.num_regions;
	dev->info.num_irqs = reply.num_irqs;
	return 0;
}

static void prepare_region(struct region_ask *ask, uint32_t index, void *reply,
			   size_t room)
{
	ask->head = (struct cleat_wire_region_info){
		.argsz = (uint32_t)room,
		.index = index,
	};
	ask->call = (struct cleat_call){
		.command = VFIO_USER_DEVICE_GET_REGION_INFO,
		.deadline_class = CLEAT_CALL_CONTROL,
		.head = &ask->head,
		.head_size = sizeof(ask->head),
		.reply = reply,
		.reply_min = sizeof(ask->head),
		.flags = CLEAT_CALL_KEEPS_FDS,
		.reply_size = room,
		.reply_fds = ask->fds,
		.max_reply_fds = CLEAT_MAX_FDS,
	};
}

/* Make a region of what was parsed; it owns the descriptors from now on. */
static int keep_region(struct cleat_region *region,
		       const struct cleat_wire_region *wire, const int *fds,
		       unsigned num_fds)
{
	region->flags = wire->flags;
	region->length = wire->length;
	region->type = wire->type;
	region->subtype = wire->subtype;
	region->areas = calloc(wire->num_areas + 1, sizeof(*region->areas));
	region->fds = calloc(num_fds + 1, sizeof(*region->fds));
	if (!region->areas || !region->fds)
		return -ENOMEM;
	memcpy(region->fds, fds, num_fds * sizeof(*fds));
	region->num_fds = num_fds;
	region->num_areas = wire->num_areas;
	for (unsigned i = 0; i < wire->num_areas; i++) {
		const struct cleat_wire_area *area = &wire->areas[i];

		region->areas[i] = (struct cleat_region_area){
			.offset = area->offset,
			.length = area->length,
			.fd_offset = area->fd_offset,
			.fd = fds[area->fd_index],
		};
	}
	return 0;
}

static int parse_answer(struct cleat_device *dev, struct cleat_region *region,
			struct region_ask *ask, struct cleat_error *reterr)
{
	struct cleat_wire_region wire;
	int err;

	err = cleat_wire_parse_region(ask->call.reply, ask->call.got,
				      ask->head.index, ask->call.got_fds, &wire,
				      reterr);
	if (err) {
		cleat_device_drop_fds(dev, ask->fds, ask->call.got_fds);
		return err;
	}
	err = keep_region(region, &wire, ask->fds, ask->call.got_fds);
	cleat_wire_region_free(&wire);
	if (!err)
		return 0;
	if (!region->num_fds)
		cleat_device_drop_fds(dev, ask->fds, ask->call.got_fds);
	return no_memory(reterr);
}

/*
 * Servers answer a question with too little room with the room they need and
 * neither capabilities nor descriptors: ask again.
 */
static int ask_again(struct cleat_device *dev, struct region_ask *ask,
		     struct cleat_region *region, size_t room,
		     struct cleat_error *reterr)
{
	void *reply;
	int err;

	cleat_device_drop_fds(dev, ask->fds, ask->call.got_fds);
	if (room > CLEAT_MAX_INFO)
		return impossible(reterr, "a region's description is too long");
	reply = malloc(room);
	if (!reply)
		return no_memory(reterr);
	prepare_region(ask, ask->head.index, reply, room);
	err = cleat_call(dev, &ask->call, reterr);
	if (!err)
		err = parse_answer(dev, region, ask, reterr);
	free(reply);
	return err;
}

static int take_answer(struct cleat_device *dev, struct region_ask *ask,
		       struct cleat_error *reterr)
{
	struct cleat_region *region = &dev->regions[ask->head.index];
	const struct cleat_wire_region_info *info = ask->call.reply;

	if (info->argsz > ask->call.got)
		return ask_again(dev, ask, region, info->argsz, reterr);
	return parse_answer(dev, region, ask, reterr);
}

/* A server that does not know a region says so: then it is not there. */
static bool is_answer(int err)
{
	return err != -ENOMEM && cleat_is_answer(err);
}

static int explain(struct cleat_device *dev, int err,
		   struct cleat_error *reterr)
{
	struct cleat_error why;

	if (cleat_device_failure(dev, &why)) {
		if (reterr)
			*reterr = why;
		return why.code;
	}
	return cleat_fail(reterr, CLEAT_ORIGIN_TRANSPORT, err,
			  "asking what the device has: %s", strerror(-err));
}

static int finish_region(struct cleat_device *dev, struct region_ask *ask,
			 int err, struct cleat_error *reterr)
{
	int reply = cleat_call_finish(dev, &ask->call);

	if (err) { /* one before it failed */
		cleat_device_drop_fds(dev, ask->fds, ask->call.got_fds);
		return err;
	}
	if (!reply)
		return take_answer(dev, ask, reterr);
	if (cleat_device_is_lost(dev) || !is_answer(reply))
		return explain(dev, reply, reterr);
	return 0;
}

/* Regions [@first, @end), all at once: no more than there are slots for. */
static int ask_regions(struct cleat_device *dev, struct region_ask *asks,
		       uint32_t first, uint32_t end, struct cleat_error *reterr)
{
	uint32_t started;
	int err = 0;

	for (started = 0; first + started < end && !err; started++) {
		struct region_ask *ask = &asks[started];

		prepare_region(ask, first + started, ask->reply, FIRST_ROOM);
		err = cleat_call_start(dev, &ask->call);
		if (err)
			err = explain(dev, err, reterr);
	}
	for (uint32_t i = 0; i < started; i++)
		err = finish_region(dev, &asks[i], err, reterr);
	return err;
}

static int get_regions(struct cleat_device *dev, struct cleat_error *reterr)
{
	uint32_t num = dev->info.num_regions, end;
	struct region_ask *asks = calloc(ASK_AT_ONCE, sizeof(*asks));
	int err = 0;

	dev->regions = calloc(num + 1, sizeof(*dev->regions));
	if (!asks || !dev->regions)
		err = no_memory(reterr);
	for (uint32_t first = 0; first < num && !err; first = end) {
		end = num - first > ASK_AT_ONCE ? first + ASK_AT_ONCE : num;
		err = ask_regions(dev, asks, first, end, reterr);
	}
	free(asks);
	return err;
}

static void prepare_irq(struct irq_ask *ask, uint32_t index)
{
	ask->head = (struct cleat_wire_irq_info){
		.argsz = sizeof(ask->head),
		.index = index,
	};
	ask->call = (struct cleat_call){
		.command = VFIO_USER_DEVICE_GET_IRQ_INFO,
		.deadline_class = CLEAT_CALL_CONTROL,
		.head = &ask->head,
		.head_size = sizeof(ask->head),
		.reply = &ask->reply,
		.reply_min = sizeof(ask->reply),
		.reply_size = sizeof(ask->reply),
	};
}

static int finish_irq(struct cleat_device *dev, struct irq_ask *ask, int err,
		      struct cleat_error *reterr)
{
	int reply = cleat_call_finish(dev, &ask->call);

	if (err)
		return err;
	if (reply)
		return cleat_device_is_lost(dev) || !is_answer(reply)
			       ? explain(dev, reply, reterr)
			       : 0;
	if (ask->reply.index != ask->head.index)
		return impossible(reterr, "it described another interrupt");
	if (ask->reply.count > MAX_VECTORS)
		return impossible(reterr, "too many vectors");
	dev->irqs[ask->head.index].flags = ask->reply.flags;
	dev->irqs[ask->head.index].count = ask->reply.count;
	return 0;
}

static int get_irqs(struct cleat_device *dev, struct cleat_error *reterr)
{
	uint32_t num = dev->info.num_irqs, started;
	struct irq_ask *asks = calloc(num + 1, sizeof(*asks));
	int err = 0;

	dev->irqs = calloc(num + 1, sizeof(*dev->irqs));
	if (!asks || !dev->irqs) {
		free(asks);
		return no_memory(reterr);
	}
	for (started = 0; started < num && !err; started++) {
		prepare_irq(&asks[started], started);
		err = cleat_call_start(dev, &asks[started].call);
		if (err)
			err = explain(dev, err, reterr);
	}
	for (uint32_t i = 0; i < started; i++)
		err = finish_irq(dev, &asks[i], err, reterr);
	free(asks);
	return err;
}

int cleat_describe(struct cleat_device *dev, struct cleat_error *reterr)
{
	int err = get_info(dev, reterr);

	if (!err)
		err = get_regions(dev, reterr);
	if (!err)
		err = get_irqs(dev, reterr);
	return err;
}

void cleat_describe_close(struct cleat_device *dev)
{
	for (uint32_t i = 0; dev->regions && i < dev->info.num_regions; i++)
		cleat_device_drop_fds(dev, dev->regions[i].fds,
				      dev->regions[i].num_fds);
}

void cleat_describe_free(struct cleat_device *dev)
{
	for (uint32_t i = 0; dev->regions && i < dev->info.num_regions; i++) {
		free(dev->regions[i].fds);
		free(dev->regions[i].areas);
	}
	free(dev->regions);
	free(dev->irqs);
}
