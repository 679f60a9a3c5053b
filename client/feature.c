/* SPDX-License-Identifier: BSD-2-Clause */
#include <errno.h>

#include "client/engine.h"

int cleat_device_feature(struct cleat_device *dev, uint16_t feature,
			 uint32_t flags, void *data, size_t size, size_t room,
			 size_t *ret_size)
{
	const uint32_t known =
		CLEAT_FEATURE_GET | CLEAT_FEATURE_SET | CLEAT_FEATURE_PROBE;
	struct cleat_wire_feature head = {
		.argsz = (uint32_t)(sizeof(head) + room),
		.flags = flags | feature,
	};
	struct cleat_wire_feature reply;
	struct cleat_call call = {
		.command = VFIO_USER_DEVICE_FEATURE,
		.deadline_class = CLEAT_CALL_QUIESCE,
		.head = &head,
		.head_size = sizeof(head),
		.data = data,
		.data_size = size,
		.reply = &reply,
		.reply_min = sizeof(reply),
		.reply_size = sizeof(reply),
		.reply_data = data,
		.reply_data_size = room,
	};
	int err;

	if (flags & ~known || !(flags & ~CLEAT_FEATURE_PROBE) ||
	    (flags & CLEAT_FEATURE_GET && flags & CLEAT_FEATURE_SET) ||
	    size > room || room > CLEAT_MAX_TRANSFER)
		return -EINVAL;
	if (flags & CLEAT_FEATURE_SET && !(flags & CLEAT_FEATURE_PROBE))
		call.flags = CLEAT_CALL_STATE;
	cleat_device_pin(dev);
	err = cleat_call(dev, &call, NULL);
	cleat_device_unpin(dev);
	if (err)
		return err;
	if (reply.argsz > sizeof(reply) + room)
		return -ENOBUFS;
	if (ret_size)
		*ret_size = call.got - sizeof(reply);
	return 0;
}
