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
	struct cleat_wire_access asked = {offset, index, (uint32_t)count};
	struct cleat_wire_access reply;
	struct cleat_call call = {
		.command = VFIO_USER_REGION_READ,
		.deadline_class = CLEAT_CALL_ACCESS,
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
		      const void *buf, size_t count)
{
	struct cleat_wire_access asked = {offset, index, (uint32_t)count};
	struct cleat_wire_access reply;
	struct cleat_call call = {
		.command = VFIO_USER_REGION_WRITE,
		.deadline_class = CLEAT_CALL_ACCESS,
		.head = &asked,
		.head_size = sizeof(asked),
		.data = buf,
		.data_size = count,
		.reply = &reply,
		.reply_min = sizeof(reply),
		.reply_size = sizeof(reply),
	};
	int err = cleat_call(dev, &call, NULL);

	if (err)
		return err;
	return check_echo(dev, &asked, &reply, reply.count);
}

int cleat_region_read(struct cleat_device *dev, unsigned index, uint64_t offset,
		      void *buf, size_t count)
{
	uint8_t *to = buf;
	int err = check_access(dev, index, offset, count, CLEAT_REGION_READ);

	while (!err && count) {
		size_t n = count;

		if (n > dev->info.max_transfer)
			n = dev->info.max_transfer;
		err = read_once(dev, index, offset, to, n);
		to += n;
		offset += n;
		count -= n;
	}
	return err;
}

int cleat_region_write(struct cleat_device *dev, unsigned index,
		       uint64_t offset, const void *buf, size_t count)
{
	const uint8_t *from = buf;
	int err = check_access(dev, index, offset, count, CLEAT_REGION_WRITE);

	while (!err && count) {
		size_t n = count < dev->max_write ? count : dev->max_write;

		err = write_once(dev, index, offset, from, n);
		from += n;
		offset += n;
		count -= n;
	}
	return err;
}
