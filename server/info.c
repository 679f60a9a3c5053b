/* SPDX-License-Identifier: BSD-2-Clause */
/* What the device is made of, and its reset. */
#include <errno.h>
#include <string.h>

#include "server/server.h"

static uint32_t region_count(const struct cleat_server *srv)
{
	uint32_t count = CLEAT_SRV_REGIONS;

	while (count > VFIO_PCI_NUM_REGIONS && !srv->regions[count - 1])
		count--;
	return count;
}

static uint32_t irq_count(const struct cleat_server *srv)
{
	uint32_t count = CLEAT_SRV_IRQ_TYPES;

	while (count > VFIO_PCI_NUM_IRQS && !srv->irqs[count - 1].added)
		count--;
	return count;
}

int cleat_srv_get_info(struct cleat_server *srv, struct cleat_srv_msg *msg)
{
	struct cleat_wire_device_info info;

	if (msg->length < sizeof(info))
		return -EINVAL;
	memcpy(&info, msg->body, sizeof(info));
	if (info.argsz < sizeof(info))
		return -EINVAL;
	info = (struct cleat_wire_device_info){
		.argsz = sizeof(info),
		.flags = VFIO_DEVICE_FLAGS_PCI,
		.num_regions = region_count(srv),
		.num_irqs = irq_count(srv),
	};
	if (srv->ops.reset)
		info.flags |= VFIO_DEVICE_FLAGS_RESET;
	return cleat_srv_reply(srv, msg, &info, sizeof(info));
}

int cleat_srv_irq_info(struct cleat_server *srv, struct cleat_srv_msg *msg)
{
	struct cleat_wire_irq_info info;

	if (msg->length < sizeof(info))
		return -EINVAL;
	memcpy(&info, msg->body, sizeof(info));
	if (info.argsz < sizeof(info) || info.index >= irq_count(srv))
		return -EINVAL;
	info.argsz = sizeof(info);
	info.flags = srv->irqs[info.index].flags;
	info.count = srv->irqs[info.index].count;
	return cleat_srv_reply(srv, msg, &info, sizeof(info));
}

int cleat_srv_reset(struct cleat_server *srv, struct cleat_srv_msg *msg)
{
	int err;

	if (!srv->ops.reset)
		return -EINVAL;
	cleat_srv_irqs_reset(srv);
	err = srv->ops.reset(srv->opaque);
	if (!err)
		cleat_srv_mig_reset(srv);
	return err ? err : cleat_srv_reply(srv, msg, NULL, 0);
}
