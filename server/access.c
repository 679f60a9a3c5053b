/* SPDX-License-Identifier: BSD-2-Clause */
/* Region accesses by message. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "server/server.h"

/* Registers: no allocation for what a vCPU reads. */
#define SMALL 256

static int check(const struct cleat_server *srv,
		 const struct cleat_wire_access *access, uint32_t right)
{
	const struct cleat_srv_region *region;

	region = cleat_srv_region(srv, access->region);
	if (!region || !(region->flags & right) ||
	    access->count > srv->config.max_data_xfer)
		return -EINVAL;
	if (access->offset > region->length ||
	    access->count > region->length - access->offset)
		return -EINVAL;
	return 0;
}

static int read_region(struct cleat_server *srv,
		       const struct cleat_wire_access *access, void *buf)
{
	struct cleat_server_pci *pci = srv->pci;

	if (!access->count)
		return 0;
	if (pci && access->region == VFIO_PCI_CONFIG_REGION_INDEX)
		return cleat_srv_pci_access(pci, access->offset, buf,
					    access->count, false);
	if (pci && cleat_srv_msix_access(pci, access->region, access->offset,
					 buf, access->count, false))
		return 0;
	if (cleat_srv_mig_v1(srv) && access->region == CLEAT_SRV_MIG_REGION)
		return cleat_srv_mig_region_read(srv, access->offset, buf,
						 access->count);
	if (!srv->ops.region_read)
		return -EINVAL;
	return srv->ops.region_read(srv->opaque, access->region,
				    access->offset, buf, access->count);
}

static int write_region(struct cleat_server *srv,
			const struct cleat_wire_access *access,
			const void *data)
{
	struct cleat_server_pci *pci = srv->pci;

	if (!access->count)
		return 0;
	if (pci && access->region == VFIO_PCI_CONFIG_REGION_INDEX)
		return cleat_srv_pci_access(pci, access->offset, (void *)data,
					    access->count, true);
	if (pci && cleat_srv_msix_access(pci, access->region, access->offset,
					 (void *)data, access->count, true))
		return 0;
	if (cleat_srv_mig_v1(srv) && access->region == CLEAT_SRV_MIG_REGION)
		return cleat_srv_mig_region_write(srv, access->offset, data,
						  access->count);
	if (!srv->ops.region_write)
		return -EINVAL;
	return srv->ops.region_write(srv->opaque, access->region,
				     access->offset, data, access->count);
}

static int read_and_reply(struct cleat_server *srv,
			  const struct cleat_srv_msg *msg,
			  struct cleat_wire_access *access, void *buf)
{
	struct iovec payload[2] = { { access, sizeof(*access) },
				    { buf, access->count } };
	int err = read_region(srv, access, buf);

	if (err)
		return err;
	return cleat_srv_reply_full(srv, msg, payload, NULL, 0);
}

int cleat_srv_read(struct cleat_server *srv, struct cleat_srv_msg *msg)
{
	struct cleat_wire_access access;
	uint8_t small[SMALL] = { 0 };
	uint8_t *buf = small;
	int err;

	if (msg->length != sizeof(access))
		return -EINVAL;
	memcpy(&access, msg->body, sizeof(access));
	err = check(srv, &access, CLEAT_REGION_READ);
	if (err)
		return err;
	if (access.count > sizeof(small))
		buf = calloc(1, access.count);
	if (!buf)
		return -ENOMEM;
	err = read_and_reply(srv, msg, &access, buf);
	if (buf != small)
		free(buf);
	return err;
}

int cleat_srv_write(struct cleat_server *srv, struct cleat_srv_msg *msg)
{
	struct cleat_wire_access access;
	int err;

	if (msg->length < sizeof(access))
		return -EINVAL;
	memcpy(&access, msg->body, sizeof(access));
	if (msg->length - sizeof(access) != access.count)
		return -EINVAL;
	err = check(srv, &access, CLEAT_REGION_WRITE);
	if (!err)
		err = write_region(srv, &access, msg->body + sizeof(access));
	return err ? err : cleat_srv_reply(srv, msg, &access, sizeof(access));
}

static int write_one(struct cleat_server *srv, const uint8_t *at)
{
	struct cleat_wire_access access;
	struct cleat_wire_write write;
	int err;

	memcpy(&write, at, sizeof(write));
	if (write.count > sizeof(write.data))
		return -EINVAL;
	access = (struct cleat_wire_access){ write.offset, write.region,
					     write.count };
	err = check(srv, &access, CLEAT_REGION_WRITE);
	return err ? err : write_region(srv, &access, write.data);
}

/* The first failure ends it: what came before has been done. */
int cleat_srv_write_multi(struct cleat_server *srv, struct cleat_srv_msg *msg)
{
	struct cleat_wire_write_multi multi;
	const uint8_t *at = msg->body + sizeof(multi);
	size_t rest;

	if (msg->length < sizeof(multi))
		return -EINVAL;
	memcpy(&multi, msg->body, sizeof(multi));
	rest = msg->length - sizeof(multi);
	if (rest % sizeof(struct cleat_wire_write) ||
	    rest / sizeof(struct cleat_wire_write) != multi.count)
		return -EINVAL;
	for (uint64_t i = 0; i < multi.count; i++) {
		int err = write_one(srv, at);

		if (err)
			return err;
		at += sizeof(struct cleat_wire_write);
	}
	return cleat_srv_reply(srv, msg, &multi, sizeof(multi));
}
