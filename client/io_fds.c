/* SPDX-License-Identifier: BSD-2-Clause */
#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "client/engine.h"

/* Room for the first answer; a server with more entries is asked again. */
#define FIRST_ROOM                          \
	(sizeof(struct cleat_wire_io_fds) + \
	 32 * sizeof(struct cleat_wire_io_fd))

struct io_ask {
	struct cleat_wire_io_fds head;
	void *reply;
	size_t got;
	struct cleat_fds fds;
};

/* Which device's limit they count against; in front of what users see. */
struct kept {
	struct cleat_device *dev; /* pinned */
	int fds[];
};

static int ask_io_fds(struct cleat_device *dev, struct io_ask *ask, size_t room,
		      struct cleat_error *reterr)
{
	struct cleat_call call = {
		.command = VFIO_USER_DEVICE_GET_REGION_IO_FDS,
		.deadline_class = CLEAT_CALL_CONTROL,
		.flags = CLEAT_CALL_KEEPS_FDS,
		.head = &ask->head,
		.head_size = sizeof(ask->head),
		.reply_min = sizeof(ask->head),
		.reply_size = room,
		.reply_fds = ask->fds.fd,
		.max_reply_fds = CLEAT_MAX_FDS,
	};
	int err;

	ask->head.argsz = (uint32_t)room;
	free(ask->reply);
	ask->reply = malloc(room);
	if (!ask->reply)
		return cleat_fail(reterr, CLEAT_ORIGIN_LOCAL, -ENOMEM,
				  "out of memory");
	call.reply = ask->reply;
	err = cleat_call(dev, &call, reterr);
	ask->got = call.got;
	ask->fds.num = call.got_fds;
	return err;
}

static void drop_fds(struct cleat_device *dev, struct cleat_fds *fds)
{
	cleat_device_drop_fds(dev, fds->fd, fds->num);
	fds->num = 0;
}

static int ask_twice(struct cleat_device *dev, struct io_ask *ask,
		     struct cleat_error *reterr)
{
	const struct cleat_wire_io_fds *info;
	int err = ask_io_fds(dev, ask, FIRST_ROOM, reterr);

	if (err)
		return err;
	info = ask->reply;
	if (info->argsz <= ask->got)
		return 0;
	drop_fds(dev, &ask->fds);
	if (info->argsz > CLEAT_MAX_INFO)
		return cleat_fail(reterr, CLEAT_ORIGIN_TRANSPORT, -EPROTO,
				  "region %u: too many I/O descriptors",
				  ask->head.index);
	return ask_io_fds(dev, ask, info->argsz, reterr);
}

static int refuse(const struct io_ask *ask, const char *why,
		  struct cleat_error *reterr)
{
	return cleat_fail(reterr, CLEAT_ORIGIN_TRANSPORT, -EPROTO,
			  "region %u: %s", ask->head.index, why);
}

static int fd_at(const struct io_ask *ask, uint32_t index)
{
	return index < ask->fds.num ? ask->fds.fd[index] : -1;
}

/* A descriptor that KVM or a vCPU is to kick has to be an eventfd: a write to
 * anything else might do anything, or never return. */
static int convert(const struct io_ask *ask,
		   const struct cleat_wire_io_fd *from, struct cleat_io_fd *to,
		   struct cleat_error *reterr)
{
	*to = (struct cleat_io_fd){
		.offset = from->offset,
		.length = from->size,
		.type = from->type,
		.match = from->flags & CLEAT_WIRE_IO_FD_MATCH,
		.ports = from->flags & CLEAT_WIRE_IO_FD_PORTS,
		.datamatch = from->datamatch,
		.fd = fd_at(ask, from->fd_index),
		.shadow_fd = -1,
	};
	if (from->type > CLEAT_IO_FD_SHADOW)
		return refuse(ask, "an I/O descriptor of an unknown type",
			      reterr);
	if (from->type == CLEAT_IO_FD_IOREGIONFD)
		return 0;
	if (!cleat_is_eventfd(to->fd))
		return refuse(ask, "an ioeventfd that is no eventfd", reterr);
	if (from->type == CLEAT_IO_FD_IOEVENTFD)
		return 0;
	to->shadow_fd = fd_at(ask, from->shadow_fd_index);
	to->shadow_offset = from->shadow_offset;
	if (to->shadow_fd < 0)
		return refuse(ask, "a shadow doorbell without its page",
			      reterr);
	return 0;
}

static int convert_all(const struct io_ask *ask,
		       const struct cleat_wire_io_fd *wire, unsigned num,
		       struct cleat_io_fds *ret, struct cleat_error *reterr)
{
	ret->entries = calloc(num + 1, sizeof(*ret->entries));
	if (!ret->entries)
		return cleat_fail(reterr, CLEAT_ORIGIN_LOCAL, -ENOMEM,
				  "out of memory");
	for (unsigned i = 0; i < num; i++) {
		int err = convert(ask, &wire[i], &ret->entries[i], reterr);

		if (err)
			return err;
	}
	ret->num = num;
	return 0;
}

static void keep_fds(struct cleat_device *dev, const struct cleat_fds *fds,
		     struct kept *kept)
{
	cleat_device_pin(dev);
	kept->dev = dev;
	memcpy(kept->fds, fds->fd, fds->num * sizeof(int));
}

/* The parsed answer; takes the descriptors on success. */
static int parse_answer(struct cleat_device *dev, struct io_ask *ask,
			uint64_t length, struct cleat_io_fds *ret,
			struct cleat_error *reterr)
{
	struct kept *kept = malloc(sizeof(*kept) + sizeof(ask->fds.fd));
	struct cleat_wire_io_fd *wire;
	int num, err;

	if (!kept)
		return cleat_fail(reterr, CLEAT_ORIGIN_LOCAL, -ENOMEM,
				  "out of memory");
	num = cleat_wire_parse_io_fds(ask->reply, ask->got, ask->head.index,
				      length, ask->fds.num, &wire, reterr);
	if (num < 0) {
		free(kept);
		return num;
	}
	err = convert_all(ask, wire, (unsigned)num, ret, reterr);
	free(wire);
	if (err) {
		free(kept);
		cleat_io_fds_free(ret);
		return err;
	}
	keep_fds(dev, &ask->fds, kept);
	ret->fds = kept->fds;
	ret->num_fds = ask->fds.num;
	ask->fds.num = 0;
	return 0;
}

int cleat_device_io_fds(struct cleat_device *dev, unsigned index,
			struct cleat_io_fds *ret, struct cleat_error *reterr)
{
	const struct cleat_region *region = cleat_device_region(dev, index);
	struct cleat_error why;
	struct io_ask *ask;
	int err;

	*ret = (struct cleat_io_fds){ 0 };
	if (!region)
		return cleat_fail(reterr, CLEAT_ORIGIN_LOCAL, -ENOENT,
				  "there is no region %u", index);
	ask = calloc(1, sizeof(*ask));
	if (!ask)
		return cleat_fail(reterr, CLEAT_ORIGIN_LOCAL, -ENOMEM,
				  "out of memory");
	cleat_device_pin(dev);
	ask->head.index = index;
	why.origin = CLEAT_ORIGIN_LOCAL;
	err = ask_twice(dev, ask, &why);
	if (!err)
		err = parse_answer(dev, ask, region->length, ret, &why);
	else if (why.origin == CLEAT_ORIGIN_DEVICE)
		err = 0; /* it does not know the command, or has none */
	if (err && reterr)
		*reterr = why;
	drop_fds(dev, &ask->fds);
	free(ask->reply);
	free(ask);
	cleat_device_unpin(dev);
	return err;
}

void cleat_io_fds_free(struct cleat_io_fds *io_fds)
{
	if (io_fds->fds) {
		struct kept *kept = (void *)((char *)io_fds->fds -
					     offsetof(struct kept, fds));

		cleat_device_drop_fds(kept->dev, kept->fds, io_fds->num_fds);
		cleat_device_unpin(kept->dev);
		free(kept);
	}
	free(io_fds->entries);
	*io_fds = (struct cleat_io_fds){ 0 };
}
