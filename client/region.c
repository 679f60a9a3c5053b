/* SPDX-License-Identifier: BSD-2-Clause */
#include <errno.h>
#include <string.h>

#include "client/engine.h"

const struct cleat_region *cleat_device_region(struct cleat_device *dev,
					       unsigned index)
{
	if (index >= dev->info.num_regions)
		return NULL;
	return &dev->regions[index];
}

int cleat_region_info(struct cleat_device *dev, unsigned index,
		      struct cleat_region_info *info)
{
	const struct cleat_region *region = cleat_device_region(dev, index);

	if (info->size != sizeof(*info))
		return -EINVAL;
	if (!region)
		return -ENOENT;
	info->flags = region->flags;
	info->length = region->length;
	info->num_areas = region->num_areas;
	info->type = region->type;
	info->subtype = region->subtype;
	return 0;
}

int cleat_region_area(struct cleat_device *dev, unsigned index, unsigned area,
		      struct cleat_region_area *ret)
{
	const struct cleat_region *region = cleat_device_region(dev, index);

	if (!region || area >= region->num_areas)
		return -ENOENT;
	*ret = region->areas[area];
	return 0;
}

static int check_access(struct cleat_device *dev, unsigned index,
			uint64_t offset, size_t count, uint32_t right)
{
	const struct cleat_region *region = cleat_device_region(dev, index);

	if (!region || offset > region->length ||
	    count > region->length - offset)
		return -ERANGE;
	return region->flags & right ? 0 : -EACCES;
}

/* The reply says again what was asked; anything else is not its reply. */
static int check_echo(struct cleat_device *dev,
		      const struct cleat_wire_access *asked,
		      const struct cleat_wire_access *reply, size_t data)
{
	if (reply->offset == asked->offset && reply->region == asked->region &&
	    reply->count == asked->count && data == asked->count)
		return 0;
	if (reply->count < asked->count && data <= reply->count)
		return -EIO; /* the device did less than it was asked */
	cleat_device_fail(dev, -EPROTO,
			  "the server's reply is to another region access");
	return -EPROTO;
}

static int read_once(struct cleat_device *dev, unsigned index, uint64_t offset,
		     void *buf, size_t count)
{
	struct cleat_wire_access asked = { offset, index, (uint32_t)count };
	struct cleat_wire_access reply;
	struct cleat_call call = {
		.command = VFIO_USER_REGION_READ,
		.deadline_class = CLEAT_CALL_ACCESS,
		.flags = CLEAT_CALL_KEPT,
		.head = &asked,
		.head_size = sizeof(asked),
		.reply = &reply,
		.reply_min = sizeof(reply),
		.reply_size = sizeof(reply),
		.reply_data = buf,
		.reply_data_size = count,
	};
	int err = cleat_call(dev, &call, NULL);

	if (err)
		return err;
	return check_echo(dev, &asked, &reply, call.got - sizeof(reply));
}

static int write_once(struct cleat_device *dev, unsigned index, uint64_t offset,
		      const void *buf, size_t count, bool posted)
{
	struct cleat_wire_access asked = { offset, index, (uint32_t)count };
	struct cleat_wire_access reply;
	struct cleat_call call = {
		.command = VFIO_USER_REGION_WRITE,
		.deadline_class = CLEAT_CALL_ACCESS,
		.flags = posted ? CLEAT_CALL_POSTED : CLEAT_CALL_KEPT,
		.head = &asked,
		.head_size = sizeof(asked),
		.data = buf,
		.data_size = count,
		.reply = &reply,
		.reply_min = sizeof(reply),
		.reply_size = sizeof(reply),
	};
	int err = cleat_call(dev, &call, NULL);

	if (err || posted)
		return err;
	return check_echo(dev, &asked, &reply, reply.count);
}

/* How much of an access goes as one message. */
static size_t piece(struct cleat_device *dev, size_t count, size_t most)
{
	if (count == 8 && dev->quirks & CLEAT_QUIRK_SPLIT_8)
		return 4;
	return count < most ? count : most;
}

int cleat_region_read(struct cleat_device *dev, unsigned index, uint64_t offset,
		      void *buf, size_t count)
{
	uint8_t *to = buf;
	int err = check_access(dev, index, offset, count, CLEAT_REGION_READ);

	cleat_device_pin(dev);
	while (!err && count) {
		size_t n = piece(dev, count, dev->info.max_transfer);

		err = read_once(dev, index, offset, to, n);
		to += n;
		offset += n;
		count -= n;
	}
	cleat_device_unpin(dev);
	return err;
}

static int write_pieces(struct cleat_device *dev, unsigned index,
			uint64_t offset, const void *buf, size_t count,
			bool posted)
{
	const uint8_t *from = buf;
	int err = check_access(dev, index, offset, count, CLEAT_REGION_WRITE);

	cleat_device_pin(dev);
	while (!err && count) {
		size_t n = piece(dev, count, dev->max_write);

		err = write_once(dev, index, offset, from, n, posted);
		from += n;
		offset += n;
		count -= n;
	}
	cleat_device_unpin(dev);
	return err;
}

int cleat_region_write(struct cleat_device *dev, unsigned index,
		       uint64_t offset, const void *buf, size_t count)
{
	return write_pieces(dev, index, offset, buf, count, false);
}

int cleat_region_post(struct cleat_device *dev, unsigned index, uint64_t offset,
		      const void *buf, size_t count)
{
	return write_pieces(dev, index, offset, buf, count, true);
}

/* --- Batches ----------------------------------------------------------------
 */

/* As many as other clients send; every server that knows the command has met
 * so many, unless it takes less at a time. */
#define MAX_BATCH 200

_Static_assert(sizeof(struct cleat_region_store) ==
		       sizeof(struct cleat_wire_write),
	       "a batch goes out as it is");

static int check_batch(struct cleat_device *dev,
		       const struct cleat_region_store *stores, size_t num)
{
	for (size_t i = 0; i < num; i++) {
		const struct cleat_region_store *s = &stores[i];
		int err;

		if (s->count == 0 || s->count > sizeof(s->data))
			return -EINVAL;
		err = check_access(dev, s->region, s->offset, s->count,
				   CLEAT_REGION_WRITE);
		if (err)
			return err;
	}
	return 0;
}

static int write_multi(struct cleat_device *dev,
		       const struct cleat_region_store *stores, size_t num,
		       bool posted)
{
	struct cleat_wire_write_multi head = { num }, reply;
	struct cleat_call call = {
		.command = VFIO_USER_REGION_WRITE_MULTI,
		.deadline_class = CLEAT_CALL_ACCESS,
		.flags = posted ? CLEAT_CALL_POSTED : CLEAT_CALL_KEPT,
		.head = &head,
		.head_size = sizeof(head),
		.data = stores,
		.data_size = num * sizeof(*stores),
		.reply = &reply,
		.reply_min = sizeof(reply),
		.reply_size = sizeof(reply),
	};
	int err = cleat_call(dev, &call, NULL);

	if (err || posted)
		return err;
	return reply.count == num ? 0 : -EIO;
}

static int write_singly(struct cleat_device *dev,
			const struct cleat_region_store *stores, size_t num,
			bool wait)
{
	int err = 0;

	for (size_t i = 0; i < num && !err; i++) {
		const struct cleat_region_store *s = &stores[i];

		err = write_pieces(dev, s->region, s->offset, s->data, s->count,
				   !wait || i + 1 < num);
	}
	return err;
}

/* How many go as one message; 0: none do. */
static size_t batch_of(struct cleat_device *dev)
{
	size_t most = dev->max_write / sizeof(struct cleat_region_store);

	if (!(dev->info.flags & CLEAT_DEVICE_INFO_WRITE_MULTI))
		return 0;
	return most < MAX_BATCH ? most : MAX_BATCH;
}

int cleat_region_write_batch(struct cleat_device *dev,
			     const struct cleat_region_store *stores,
			     size_t num, bool wait)
{
	int err = check_batch(dev, stores, num);
	size_t most = batch_of(dev);

	cleat_device_pin(dev);
	if (!err && !most) {
		err = write_singly(dev, stores, num, wait);
		num = 0;
	}
	while (num && !err) {
		size_t n = num < most ? num : most;

		num -= n;
		err = write_multi(dev, stores, n, num || !wait);
		stores += n;
	}
	cleat_device_unpin(dev);
	return err;
}
