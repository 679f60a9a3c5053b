/* SPDX-License-Identifier: BSD-2-Clause */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "client/engine.h"

/* What we speak; whatever is newer in a peer is told by its capabilities. */
#define MAJOR 0
#define MINOR 2

/*
 * Servers read from the socket with one call, which hands over AF_UNIX data in
 * pieces of about 36 KiB: a write above this breaks them, whatever they
 * announce.
 */
#define SAFE_WRITE (32u * 1024)

static bool passes_fds(int fd)
{
	socklen_t size = sizeof(int);
	int domain;

	return !getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &size) &&
	       domain == AF_UNIX;
}

static ssize_t print_request(struct cleat_device *dev, char *json, size_t size)
{
	struct cleat_capabilities ours;

	cleat_capabilities_default(&ours);
	ours.max_msg_fds = passes_fds(dev->main.fd) ? CLEAT_MAX_FDS : 0;
	ours.twin_supported = !(dev->flags & CLEAT_DEVICE_NO_TWIN) &&
			      passes_fds(dev->main.fd);
	ours.write_multiple = true;
	/* Who does not say it, says the first generation, cannot migrate. */
	ours.has_migration = true;
	return cleat_capabilities_print(&ours, true, json, size);
}

static int check_version(const struct cleat_wire_version *version,
			 struct cleat_error *reterr)
{
	if (version->major == MAJOR && version->minor <= MINOR)
		return 0;
	return cleat_fail(reterr, CLEAT_ORIGIN_TRANSPORT, -EPROTO,
			  "the server wants version %u.%u, this library speaks "
			  "up to %u.%u",
			  version->major, version->minor, MAJOR, MINOR);
}

/* The twin socket came with the reply, or it has none. */
static int take_twin(struct cleat_device *dev, struct cleat_fds *fds,
		     struct cleat_error *reterr)
{
	socklen_t size = sizeof(int);
	int type, fd, err;

	if (!dev->peer.twin_supported || dev->flags & CLEAT_DEVICE_NO_TWIN)
		return 0;
	fd = dev->peer.twin_fd_index < 0
		     ? -1
		     : cleat_fds_take(fds, (unsigned)dev->peer.twin_fd_index);
	if (fd < 0)
		return cleat_fail(reterr, CLEAT_ORIGIN_TRANSPORT, -EPROTO,
				  "VERSION: a twin socket without its "
				  "descriptor");
	if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size) ||
	    type != SOCK_STREAM) {
		cleat_close_foreign(&fd);
		return cleat_fail(reterr, CLEAT_ORIGIN_TRANSPORT, -EPROTO,
				  "VERSION: the twin socket is no stream "
				  "socket");
	}
	err = cleat_stream_init(&dev->twin, fd);
	if (err) {
		cleat_close(&fd);
		return cleat_fail(reterr, CLEAT_ORIGIN_LOCAL, err,
				  "out of memory");
	}
	dev->info.flags |= CLEAT_DEVICE_INFO_TWIN;
	return 0;
}

static void settle(struct cleat_device *dev,
		   const struct cleat_wire_version *version)
{
	const struct cleat_capabilities *peer = &dev->peer;
	uint32_t transfer = peer->max_data_xfer_size;

	if (transfer > CLEAT_MAX_TRANSFER)
		transfer = CLEAT_MAX_TRANSFER;
	dev->info.major = version->major;
	dev->info.minor = version->minor;
	dev->info.max_msg_fds = peer->max_msg_fds;
	if (dev->info.max_msg_fds > CLEAT_MAX_FDS)
		dev->info.max_msg_fds = CLEAT_MAX_FDS;
	if (!passes_fds(dev->main.fd))
		dev->info.max_msg_fds = 0;
	dev->info.max_transfer = transfer;
	dev->max_write = transfer < SAFE_WRITE ? transfer : SAFE_WRITE;
	dev->info.max_dma_maps = peer->max_dma_maps;
	dev->info.page_sizes = peer->page_sizes;
	if (peer->write_multiple)
		dev->info.flags |= CLEAT_DEVICE_INFO_WRITE_MULTI;
}

static int take_reply(struct cleat_device *dev, const struct cleat_call *call,
		      const char *json, struct cleat_error *reterr)
{
	const struct cleat_wire_version *version = call->reply;
	struct cleat_fds fds = { .num = call->got_fds };
	int err;

	memcpy(fds.fd, call->reply_fds, sizeof(int) * fds.num);
	err = check_version(version, reterr);
	if (!err)
		err = cleat_capabilities_parse(
			json, call->got - sizeof(*version), &dev->peer, reterr);
	if (!err)
		err = take_twin(dev, &fds, reterr);
	cleat_fds_close(&fds);
	if (!err)
		settle(dev, version);
	return err;
}

int cleat_handshake(struct cleat_device *dev, struct cleat_error *reterr)
{
	struct cleat_wire_version ours = { MAJOR, MINOR }, theirs;
	int fds[CLEAT_MAX_FDS];
	char json[512];
	ssize_t size = print_request(dev, json, sizeof(json));
	struct cleat_call call = {
		.command = VFIO_USER_VERSION,
		.deadline_class = CLEAT_CALL_CONTROL,
		.head = &ours,
		.head_size = sizeof(ours),
		.data = json,
		.reply = &theirs,
		.reply_min = sizeof(theirs),
		.reply_size = sizeof(theirs),
		.reply_data_size = CLEAT_JSON_SIZE,
		.reply_fds = fds,
		.max_reply_fds = CLEAT_MAX_FDS,
	};
	int err;

	if (size < 0)
		return cleat_fail(reterr, CLEAT_ORIGIN_LOCAL, (int)size,
				  "out of memory");
	call.data_size = (size_t)size;
	call.reply_data = malloc(CLEAT_JSON_SIZE);
	if (!call.reply_data)
		return cleat_fail(reterr, CLEAT_ORIGIN_LOCAL, -ENOMEM,
				  "out of memory");
	err = cleat_call(dev, &call, reterr);
	if (!err)
		err = take_reply(dev, &call, call.reply_data, reterr);
	free(call.reply_data);
	return err;
}
