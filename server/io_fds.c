/* SPDX-License-Identifier: BSD-2-Clause */
/* Descriptors through which writes to a region may come. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "server/server.h"

static bool entry_fits(const struct cleat_server_io_fd *entry, uint64_t length)
{
	if (entry->offset >= length || entry->length > length - entry->offset ||
	    entry->type > CLEAT_IO_FD_SHADOW || entry->fd < 0)
		return false;
	if (entry->flags & ~(CLEAT_IO_FD_DATAMATCH | CLEAT_IO_FD_PIO))
		return false;
	if (entry->type == CLEAT_IO_FD_SHADOW && entry->shadow_fd < 0)
		return false;
	if (entry->type == CLEAT_IO_FD_IOREGIONFD)
		return true;
	if (entry->flags & CLEAT_IO_FD_DATAMATCH && !entry->length)
		return false;
	return entry->length <= 8 && !(entry->length & (entry->length - 1));
}

/* A descriptor named twice is duplicated once, and sent once. */
static int dup_shared(const struct cleat_server_io_fd *given,
		      const struct cleat_server_io_fd *copies, unsigned count,
		      int fd)
{
	for (unsigned i = 0; i < count; i++) {
		if (given[i].fd == fd)
			return copies[i].fd;
		if (given[i].type == CLEAT_IO_FD_SHADOW &&
		    given[i].shadow_fd == fd)
			return copies[i].shadow_fd;
	}
	return cleat_dup(fd);
}

static void close_once(const struct cleat_server_io_fd *entries,
		       unsigned before, int fd)
{
	for (unsigned i = 0; i < before; i++)
		if (entries[i].fd == fd || entries[i].shadow_fd == fd)
			return;
	if (fd >= 0)
		close(fd);
}

void cleat_srv_io_fds_free(struct cleat_server_io_fd *entries, unsigned count)
{
	for (unsigned i = count; i-- > 0;) {
		if (entries[i].shadow_fd != entries[i].fd)
			close_once(entries, i, entries[i].shadow_fd);
		close_once(entries, i, entries[i].fd);
	}
	free(entries);
}

static int copy_entry(const struct cleat_server_io_fd *given,
		      struct cleat_server_io_fd *copies, unsigned i)
{
	struct cleat_server_io_fd *copy = &copies[i];

	*copy = given[i];
	copy->shadow_fd = -1;
	copy->fd = dup_shared(given, copies, i, given[i].fd);
	if (copy->fd < 0)
		return copy->fd;
	if (copy->type != CLEAT_IO_FD_SHADOW)
		return 0;
	copy->shadow_fd = given[i].shadow_fd == given[i].fd ?
				  copy->fd :
				  dup_shared(given, copies, i,
					     given[i].shadow_fd);
	if (copy->shadow_fd >= 0)
		return 0;
	close_once(copies, i, copy->fd);
	return copy->shadow_fd;
}

int cleat_server_set_io_fds(struct cleat_server *srv, uint32_t index,
			    const struct cleat_server_io_fd *entries,
			    unsigned count)
{
	struct cleat_srv_region *region = cleat_srv_region(srv, index);
	struct cleat_server_io_fd *copies;

	if (!region)
		return -ENOENT;
	if (count > CLEAT_SRV_IO_FDS)
		return -EINVAL;
	for (unsigned i = 0; i < count; i++)
		if (!entry_fits(&entries[i], region->length))
			return -EINVAL;
	copies = calloc(count + 1, sizeof(*copies));
	if (!copies)
		return -ENOMEM;
	for (unsigned i = 0; i < count; i++) {
		int err = copy_entry(entries, copies, i);

		if (err) {
			cleat_srv_io_fds_free(copies, i);
			return err;
		}
	}
	cleat_srv_io_fds_free(region->io_fds, region->n_io_fds);
	region->io_fds = copies;
	region->n_io_fds = count;
	return 0;
}

/* ---- GET_REGION_IO_FDS -------------------------------------------- */

struct answer {
	struct cleat_wire_io_fds head;
	int fds[CLEAT_MAX_FDS];
	unsigned n_fds, most_fds;
	size_t stride;
	uint8_t *entries;
};

/* Its index among those sent; added if there is room, else -1. */
static int fd_index(struct answer *a, int fd)
{
	for (unsigned i = 0; i < a->n_fds; i++)
		if (a->fds[i] == fd)
			return (int)i;
	if (a->n_fds >= a->most_fds)
		return -1;
	a->fds[a->n_fds] = fd;
	return (int)a->n_fds++;
}

static int convert(struct answer *a, const struct cleat_server_io_fd *entry,
		   struct cleat_wire_io_fd *wire)
{
	unsigned n_fds = a->n_fds;
	int fd = fd_index(a, entry->fd), shadow = -1;

	if (entry->type == CLEAT_IO_FD_SHADOW)
		shadow = fd_index(a, entry->shadow_fd);
	if (fd < 0 || (entry->type == CLEAT_IO_FD_SHADOW && shadow < 0)) {
		a->n_fds = n_fds;
		return -ENOSPC;
	}
	*wire = (struct cleat_wire_io_fd){
		.offset = entry->offset,
		.size = entry->length,
		.fd_index = (uint32_t)fd,
		.type = entry->type,
		.flags = entry->flags,
		.shadow_fd_index = (uint32_t)shadow,
		.shadow_offset = entry->shadow_offset,
		.datamatch = entry->datamatch,
	};
	return 0;
}

static void put_entry(struct answer *a, const struct cleat_wire_io_fd *wire)
{
	uint8_t *at = a->entries + a->head.count++ * a->stride;

	if (a->stride == sizeof(*wire)) {
		memcpy(at, wire, sizeof(*wire));
		return;
	}
	memcpy(at, wire, offsetof(struct cleat_wire_io_fd, shadow_fd_index));
	memset(at + offsetof(struct cleat_wire_io_fd, shadow_fd_index), 0,
	       sizeof(wire->shadow_fd_index));
	memcpy(at + offsetof(struct cleat_wire_io_fd, shadow_offset),
	       &wire->datamatch, sizeof(wire->datamatch));
}

static void fill(struct answer *a, const struct cleat_srv_region *region)
{
	struct cleat_wire_io_fd wire;

	for (unsigned i = 0; i < region->n_io_fds; i++) {
		const struct cleat_server_io_fd *entry = &region->io_fds[i];

		if (entry->type == CLEAT_IO_FD_SHADOW &&
		    a->stride != sizeof(wire))
			continue;
		/* Those left out keep coming as messages. */
		if (convert(a, entry, &wire))
			break;
		put_entry(a, &wire);
	}
	a->head.argsz = (uint32_t)(sizeof(a->head) + a->head.count * a->stride);
}

static int answer(struct cleat_server *srv, struct cleat_srv_msg *msg,
		  struct answer *a, uint32_t room)
{
	struct iovec payload[2] = { { &a->head, sizeof(a->head) },
				    { a->entries, 0 } };

	if (room < a->head.argsz)
		return cleat_srv_reply(srv, msg, &a->head, sizeof(a->head));
	payload[1].iov_len = a->head.argsz - sizeof(a->head);
	return cleat_srv_reply_full(srv, msg, payload, a->fds, a->n_fds);
}

int cleat_srv_io_fds(struct cleat_server *srv, struct cleat_srv_msg *msg)
{
	struct cleat_srv_region *region;
	struct answer a = { .n_fds = 0 };
	uint32_t room;
	int err;

	if (msg->length < sizeof(a.head))
		return -EINVAL;
	memcpy(&a.head, msg->body, sizeof(a.head));
	region = cleat_srv_region(srv, a.head.index);
	if (a.head.argsz < sizeof(a.head) || a.head.flags ||
	    (!region && a.head.index >= VFIO_PCI_NUM_REGIONS))
		return -EINVAL;
	room = a.head.argsz;
	a.head.count = 0;
	a.head.argsz = sizeof(a.head);
	if (!region || !srv->conn.pass_fds)
		return answer(srv, msg, &a, room);
	a.most_fds = srv->conn.peer_fds;
	a.stride = srv->config.flags & CLEAT_SERVER_IO_FDS_40 ?
			   CLEAT_WIRE_IO_FD_SHORT :
			   sizeof(struct cleat_wire_io_fd);
	a.entries = malloc(region->n_io_fds * a.stride + 1);
	if (!a.entries)
		return -ENOMEM;
	fill(&a, region);
	err = answer(srv, msg, &a, room);
	free(a.entries);
	return err;
}
