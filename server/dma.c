/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The client's memory: disjoint ranges sorted by address, most of them with
 * a mapping here. Only the descriptor's mapping is kept, never the descriptor.
 */
#include <errno.h>
#include <linux/magic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <unistd.h>

#include "server/server.h"

#define MAP_FLAGS                                                              \
	(CLEAT_DMA_READ | CLEAT_DMA_WRITE | CLEAT_DMA_MMAP | CLEAT_DMA_FILE_IO)

struct cleat_srv_range *cleat_srv_range_at(const struct cleat_srv_dma *dma,
					   size_t i)
{
	return &dma->ranges[i < dma->gap ? i : i + (dma->size - dma->count)];
}

/* The gap before number @place. */
static void move_gap(struct cleat_srv_dma *dma, size_t place)
{
	size_t width = dma->size - dma->count;

	if (place < dma->gap)
		memmove(&dma->ranges[place + width], &dma->ranges[place],
			(dma->gap - place) * sizeof(*dma->ranges));
	else if (place > dma->gap)
		memmove(&dma->ranges[dma->gap], &dma->ranges[dma->gap + width],
			(place - dma->gap) * sizeof(*dma->ranges));
	dma->gap = place;
}

/* The first range that ends above @iova: its place in the table. */
static size_t find_place(const struct cleat_srv_dma *dma, uint64_t iova)
{
	size_t low = 0, high = dma->count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;
		const struct cleat_srv_range *range =
			cleat_srv_range_at(dma, middle);

		if (iova - range->iova < range->length || iova < range->iova)
			high = middle;
		else
			low = middle + 1;
	}
	return low;
}

struct cleat_srv_range *cleat_srv_range(struct cleat_server *srv, uint64_t iova)
{
	struct cleat_srv_dma *dma = &srv->dma;
	struct cleat_srv_range *range;

	/* A guest has few ranges, and most accesses go to one of them. */
	if (dma->last < dma->count) {
		range = cleat_srv_range_at(dma, dma->last);
		if (iova >= range->iova && iova - range->iova < range->length)
			return range;
	}
	dma->last = find_place(dma, iova);
	if (dma->last == dma->count)
		return NULL;
	range = cleat_srv_range_at(dma, dma->last);
	return iova >= range->iova ? range : NULL;
}

int cleat_server_dma_map(struct cleat_server *srv, uint64_t iova,
			 uint64_t length, uint32_t rights, struct iovec *iov,
			 unsigned n_iov)
{
	unsigned used = 0;

	if (!length || iova + length - 1 < iova)
		return -EINVAL;
	while (length) {
		struct cleat_srv_range *range = cleat_srv_range(srv, iova);
		uint64_t skip, part;

		if (!range)
			return -ENOENT;
		if (rights & ~range->rights)
			return -EACCES;
		if (!range->host)
			return -EOPNOTSUPP;
		if (used == n_iov)
			return -E2BIG;
		skip = iova - range->iova;
		part = range->length - skip;
		if (part > length)
			part = length;
		iov[used++] = (struct iovec){ range->host + skip, part };
		iova += part;
		length -= part;
	}
	return (int)used;
}

/* ---- DMA_MAP ------------------------------------------------------ */

static int check_map(const struct cleat_server *srv,
		     const struct cleat_wire_dma_map *map)
{
	const struct cleat_srv_dma *dma = &srv->dma;
	size_t place = find_place(dma, map->address);

	if (map->flags & ~MAP_FLAGS ||
	    !(map->flags & (CLEAT_DMA_READ | CLEAT_DMA_WRITE)) || !map->size ||
	    map->address + map->size - 1 < map->address)
		return -EINVAL;
	if (place < dma->count &&
	    cleat_srv_range_at(dma, place)->iova <=
		    map->address + map->size - 1)
		return -EEXIST;
	if (dma->count >= srv->config.max_dma_maps)
		return -ENOSPC;
	return 0;
}

/* What an offset and a length of a mapping are multiples of, or -errno. */
static int64_t mapping_unit(int fd, uint64_t offset, uint64_t size)
{
	struct statfs fs;
	struct stat st;

	/* Devices and pipes have no size to check against. */
	if (fstat(fd, &st) || fstatfs(fd, &fs) || !S_ISREG(st.st_mode))
		return -EINVAL;
	if (offset > (uint64_t)st.st_size ||
	    size > (uint64_t)st.st_size - offset)
		return -EINVAL;
	return fs.f_type == HUGETLBFS_MAGIC ? (int64_t)fs.f_bsize :
					      sysconf(_SC_PAGESIZE);
}

static int map_file(struct cleat_srv_range *range, int fd, uint64_t offset)
{
	int64_t unit = mapping_unit(fd, offset, range->length);
	int protection = PROT_READ;
	uint64_t skip;

	if (unit <= 0)
		return -EINVAL;
	if (range->rights & CLEAT_WRITE)
		protection |= PROT_WRITE;
	skip = offset & (uint64_t)(unit - 1);
	range->map_length = (size_t)((range->length + skip + (uint64_t)unit -
				      1) & ~(uint64_t)(unit - 1));
	range->map = mmap(NULL, range->map_length, protection,
			  MAP_SHARED | MAP_NORESERVE, fd,
			  (off_t)(offset - skip));
	if (range->map == MAP_FAILED) {
		range->map = NULL;
		return -errno;
	}
	range->host = (uint8_t *)range->map + skip;
	return 0;
}

static void unmap_file(struct cleat_server *srv, struct cleat_srv_range *range)
{
	if (range->map)
		munmap(range->map, range->map_length);
	cleat_srv_dirty_free(srv, range);
}

static int insert(struct cleat_srv_dma *dma,
		  const struct cleat_srv_range *range)
{
	struct cleat_srv_range *grown;
	size_t size = dma->size ? 2 * dma->size : 16;

	if (dma->count == dma->size) {
		/* No gap was left: all of them are before the new one. */
		dma->gap = dma->count;
		grown = reallocarray(dma->ranges, size, sizeof(*grown));
		if (!grown)
			return -ENOMEM;
		dma->ranges = grown;
		dma->size = size;
	}
	move_gap(dma, find_place(dma, range->iova));
	dma->ranges[dma->gap++] = *range;
	dma->count++;
	return 0;
}

static int add_range(struct cleat_server *srv,
		     const struct cleat_wire_dma_map *map, int fd)
{
	struct cleat_srv_range range = {
		.iova = map->address,
		.length = map->size,
	};
	int err = 0;

	if (map->flags & CLEAT_DMA_READ)
		range.rights |= CLEAT_READ;
	if (map->flags & CLEAT_DMA_WRITE)
		range.rights |= CLEAT_WRITE;
	if (fd >= 0)
		err = map_file(&range, fd, map->offset);
	if (!err)
		err = cleat_srv_dirty_add(srv, &range);
	if (!err)
		err = insert(&srv->dma, &range);
	if (err)
		unmap_file(srv, &range);
	return err;
}

int cleat_srv_dma_map(struct cleat_server *srv, struct cleat_srv_msg *msg)
{
	struct cleat_wire_dma_map map;
	int err, fd;

	if (msg->length != sizeof(map) || msg->fds->num > 1)
		return -EINVAL;
	memcpy(&map, msg->body, sizeof(map));
	fd = msg->fds->num ? msg->fds->fd[0] : -1;
	if (fd < 0 && map.flags & (CLEAT_DMA_MMAP | CLEAT_DMA_FILE_IO))
		return -EINVAL;
	/* File I/O only: messages do what is asked for, at the same speed. */
	if (map.flags & CLEAT_DMA_FILE_IO && !(map.flags & CLEAT_DMA_MMAP))
		fd = -1;
	err = check_map(srv, &map);
	if (!err)
		err = add_range(srv, &map, fd);
	if (err)
		return err;
	if (srv->ops.dma_mapped)
		srv->ops.dma_mapped(srv->opaque, map.address, map.size);
	return cleat_srv_reply(srv, msg, NULL, 0);
}

/* ---- DMA_UNMAP ---------------------------------------------------- */

/*
 * The device lets go first; then, and only then, it is not there. What it wrote
 * until it had let go is in @bitmap, if there is one.
 */
static void drop_range(struct cleat_server *srv, size_t place,
		       const struct cleat_srv_report *report, uint64_t *bitmap)
{
	struct cleat_srv_dma *dma = &srv->dma;
	const struct cleat_srv_range *range = cleat_srv_range_at(dma, place);
	uint64_t iova = range->iova, length = range->length;

	if (srv->ops.dma_unmapping)
		srv->ops.dma_unmapping(srv->opaque, iova, length);
	/* A DMA of the device's in there may have let a DMA_MAP through. */
	move_gap(dma, find_place(dma, iova));
	if (bitmap)
		cleat_srv_dirty_move(srv, cleat_srv_range_at(dma, dma->gap),
				     report, bitmap);
	unmap_file(srv, cleat_srv_range_at(dma, dma->gap));
	dma->count--;
}

static void drop_all(struct cleat_server *srv)
{
	while (srv->dma.count)
		drop_range(srv, srv->dma.count - 1, NULL, NULL);
}

void cleat_srv_dma_forget(struct cleat_server *srv)
{
	drop_all(srv);
	srv->dma.log_page = 0;
	free(srv->dma.ranges);
	srv->dma = (struct cleat_srv_dma){ 0 };
}

static int unmap_all(struct cleat_server *srv, struct cleat_srv_msg *msg,
		     const struct cleat_wire_dma_unmap *unmap)
{
	if (unmap->address || unmap->size)
		return -EINVAL;
	drop_all(srv);
	return cleat_srv_reply(srv, msg, unmap, sizeof(*unmap));
}

/* The first generation's, whichever generation's log is on. */
static int unmap_and_tell(struct cleat_server *srv, struct cleat_srv_msg *msg,
			  size_t place)
{
	struct {
		struct cleat_wire_dma_unmap unmap;
		struct cleat_wire_bitmap bitmap;
	} head;
	struct iovec payload[2] = { { &head, sizeof(head) } };
	struct cleat_srv_report report;
	uint64_t *bitmap, bytes;
	int err;

	if (msg->length != sizeof(head))
		return -EINVAL;
	memcpy(&head, msg->body, sizeof(head));
	report = (struct cleat_srv_report){ head.unmap.address, head.unmap.size,
					    head.bitmap.page_size };
	err = cleat_srv_dirty_check(srv, &report, head.unmap.argsz,
				    sizeof(head), &bytes);
	if (err || head.bitmap.size != bytes)
		return err ? err : -EINVAL;
	bitmap = calloc(1, bytes);
	if (!bitmap)
		return -ENOMEM;
	drop_range(srv, place, &report, bitmap);
	payload[1] = (struct iovec){ bitmap, bytes };
	err = cleat_srv_reply_full(srv, msg, payload, NULL, 0);
	free(bitmap);
	return err;
}

int cleat_srv_dma_unmap(struct cleat_server *srv, struct cleat_srv_msg *msg)
{
	const struct cleat_srv_range *range;
	struct cleat_wire_dma_unmap unmap;
	size_t place;

	if (msg->length < sizeof(unmap))
		return -EINVAL;
	memcpy(&unmap, msg->body, sizeof(unmap));
	if (unmap.flags != CLEAT_UNMAP_DIRTY &&
	    (unmap.flags & ~CLEAT_UNMAP_ALL || msg->length != sizeof(unmap)))
		return -EINVAL;
	if (unmap.flags & CLEAT_UNMAP_ALL)
		return unmap_all(srv, msg, &unmap);
	place = find_place(&srv->dma, unmap.address);
	if (place == srv->dma.count)
		return -ENOENT;
	range = cleat_srv_range_at(&srv->dma, place);
	if (range->iova != unmap.address || range->length != unmap.size)
		return -ENOENT;
	if (unmap.flags & CLEAT_UNMAP_DIRTY)
		return unmap_and_tell(srv, msg, place);
	drop_range(srv, place, NULL, NULL);
	return cleat_srv_reply(srv, msg, &unmap, sizeof(unmap));
}
