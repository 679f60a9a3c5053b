/* SPDX-License-Identifier: BSD-2-Clause */
/* Regions, and how they are described to the client. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "server/server.h"

#define CAP_SPARSE_MMAP_FDS 16

struct cleat_srv_region *cleat_srv_region(const struct cleat_server *srv,
					  uint32_t index)
{
	return index < CLEAT_SRV_REGIONS ? srv->regions[index] : NULL;
}

static int bad(struct cleat_error *reterr, uint32_t index, int err,
	       const char *why)
{
	return cleat_fail(reterr, CLEAT_ORIGIN_LOCAL, err, "region %u: %s",
			  index, why);
}

static bool area_fits(const struct cleat_server_area *area, uint64_t length)
{
	uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
	struct stat st;

	if ((area->offset | area->length | area->fd_offset) & (page - 1) ||
	    !area->length || area->offset > length ||
	    area->length > length - area->offset)
		return false;
	if (fstat(area->fd, &st) || st.st_size < 0)
		return false;
	return area->fd_offset <= (uint64_t)st.st_size &&
	       area->length <= (uint64_t)st.st_size - area->fd_offset;
}

static int check_region(const struct cleat_server *srv,
			const struct cleat_server_region *region,
			struct cleat_error *reterr)
{
	uint64_t end = 0;

	if (region->size < sizeof(*region) ||
	    region->index >= CLEAT_SRV_REGIONS ||
	    region->flags & ~(CLEAT_REGION_READ | CLEAT_REGION_WRITE) ||
	    region->n_areas > CLEAT_SRV_AREAS || region->length > INT64_MAX)
		return bad(reterr, region->index, -EINVAL,
			   "a member is out of range");
	if (srv->regions[region->index])
		return bad(reterr, region->index, -EEXIST, "added twice");
	if (srv->conn.fd >= 0)
		return bad(reterr, region->index, -EBUSY,
			   "a client has seen the device already");
	for (unsigned i = 0; i < region->n_areas; i++) {
		if (region->areas[i].offset < end ||
		    !area_fits(&region->areas[i], region->length))
			return bad(reterr, region->index, -EINVAL,
				   "an area is not of whole pages, outside "
				   "the region or its file, or overlaps");
		end = region->areas[i].offset + region->areas[i].length;
	}
	return 0;
}

/* Areas of one file share one duplicate: who shares says which file it is. */
static int dup_area(struct cleat_srv_region *region,
		    const struct cleat_server_area *given, unsigned i)
{
	for (unsigned k = 0; k < i; k++)
		if (given[k].fd == given[i].fd)
			return region->areas[k].fd;
	return cleat_dup(given[i].fd);
}

static bool owns_fd(const struct cleat_srv_region *region, unsigned i)
{
	for (unsigned k = 0; k < i; k++)
		if (region->areas[k].fd == region->areas[i].fd)
			return false;
	return true;
}

static void free_region(struct cleat_srv_region *region)
{
	if (!region)
		return;
	for (unsigned i = region->n_areas; i-- > 0;)
		if (owns_fd(region, i))
			close(region->areas[i].fd);
	cleat_srv_io_fds_free(region->io_fds, region->n_io_fds);
	free(region);
}

void cleat_srv_regions_end(struct cleat_server *srv)
{
	for (unsigned i = 0; i < CLEAT_SRV_REGIONS; i++) {
		free_region(srv->regions[i]);
		srv->regions[i] = NULL;
	}
}

int cleat_server_add_region(struct cleat_server *srv,
			    const struct cleat_server_region *given,
			    struct cleat_error *reterr)
{
	struct cleat_srv_region *region;
	int err = check_region(srv, given, reterr);

	if (err)
		return err;
	region = calloc(1, sizeof(*region));
	if (!region)
		return bad(reterr, given->index, -ENOMEM, "no memory");
	region->flags = given->flags;
	region->length = given->length;
	region->type = given->type;
	region->subtype = given->subtype;
	for (unsigned i = 0; i < given->n_areas; i++) {
		int fd = dup_area(region, given->areas, i);

		if (fd < 0) {
			free_region(region);
			return bad(reterr, given->index, fd, strerror(-fd));
		}
		region->areas[i] = given->areas[i];
		region->areas[i].fd = fd;
		region->n_areas++;
	}
	srv->regions[given->index] = region;
	return 0;
}

/* ---- GET_REGION_INFO ---------------------------------------------- */

enum shape {
	NO_MAP,
	WHOLE,	   /* one area that is the region */
	SPARSE,	   /* one file, or one each, at a constant distance */
	SPARSE_FDS /* anything else */
};

struct description {
	struct cleat_wire_region_info info;
	enum shape shape;
	int fds[CLEAT_SRV_AREAS];
	unsigned n_fds;
	size_t length;
	uint32_t *link; /* where the next capability's offset goes */
	uint8_t caps[64 + CLEAT_SRV_AREAS * 32];
};

static void collect_fds(struct description *d,
			const struct cleat_srv_region *region)
{
	for (unsigned i = 0; i < region->n_areas; i++)
		if (owns_fd(region, i))
			d->fds[d->n_fds++] = region->areas[i].fd;
}

static enum shape choose_shape(const struct description *d,
			       const struct cleat_srv_region *region)
{
	const struct cleat_server_area *areas = region->areas;
	uint64_t distance = areas[0].fd_offset - areas[0].offset;

	if (areas[0].length == region->length)
		return WHOLE;
	if (areas[0].fd_offset < areas[0].offset ||
	    (d->n_fds != 1 && d->n_fds != region->n_areas))
		return SPARSE_FDS;
	for (unsigned i = 1; i < region->n_areas; i++)
		if (areas[i].fd_offset - areas[i].offset != distance)
			return SPARSE_FDS;
	return SPARSE;
}

static void append(struct description *d, const void *data, size_t length)
{
	memcpy(d->caps + d->length, data, length);
	d->length += length;
}

/* Offsets count from the beginning of the region info. */
static void begin_cap(struct description *d, uint16_t id)
{
	struct vfio_info_cap_header header = { .id = id, .version = 1 };
	uint32_t at = (uint32_t)(sizeof(d->info) + d->length);

	memcpy(d->link, &at, sizeof(at));
	d->link = (uint32_t *)(d->caps + d->length +
			       offsetof(struct vfio_info_cap_header, next));
	append(d, &header, sizeof(header));
	d->info.flags |= VFIO_REGION_INFO_FLAG_CAPS;
}

static uint32_t fd_index(const struct description *d, int fd)
{
	uint32_t i = 0;

	while (d->fds[i] != fd)
		i++;
	return i;
}

static void add_sparse(struct description *d,
		       const struct cleat_srv_region *region)
{
	uint32_t head[2] = { region->n_areas, 0 };

	begin_cap(d, d->shape == SPARSE ? VFIO_REGION_INFO_CAP_SPARSE_MMAP :
					  CAP_SPARSE_MMAP_FDS);
	append(d, head, sizeof(head));
	for (unsigned i = 0; i < region->n_areas; i++) {
		const struct cleat_server_area *area = &region->areas[i];
		uint32_t index[2] = { fd_index(d, area->fd), 0 };

		append(d, &area->offset, sizeof(area->offset));
		if (d->shape == SPARSE_FDS)
			append(d, &area->fd_offset, sizeof(area->fd_offset));
		append(d, &area->length, sizeof(area->length));
		if (d->shape == SPARSE_FDS)
			append(d, index, sizeof(index));
	}
}

static void describe_areas(struct cleat_server *srv, struct description *d,
			   const struct cleat_srv_region *region)
{
	const struct cleat_server_area *first = &region->areas[0];

	if (!region->n_areas || !srv->conn.pass_fds)
		return;
	collect_fds(d, region);
	if (d->n_fds > srv->conn.peer_fds) {
		d->n_fds = 0;
		return;
	}
	d->shape = choose_shape(d, region);
	d->info.flags |= VFIO_REGION_INFO_FLAG_MMAP;
	if (d->shape != SPARSE_FDS)
		d->info.offset = first->fd_offset - first->offset;
	if (d->shape != WHOLE)
		add_sparse(d, region);
}

static void describe(struct cleat_server *srv, struct description *d,
		     const struct cleat_srv_region *region)
{
	uint32_t type[2] = { region->type, region->subtype };

	d->info.flags = region->flags;
	d->info.size = region->length;
	d->link = &d->info.cap_offset;
	describe_areas(srv, d, region);
	if (region->type) {
		begin_cap(d, VFIO_REGION_INFO_CAP_TYPE);
		append(d, type, sizeof(type));
	}
}

int cleat_srv_region_info(struct cleat_server *srv, struct cleat_srv_msg *msg)
{
	struct description d = { .length = 0 };
	struct iovec payload[2] = { { &d.info, sizeof(d.info) },
				    { d.caps, 0 } };
	struct cleat_wire_region_info info;

	if (msg->length < sizeof(info))
		return -EINVAL;
	memcpy(&info, msg->body, sizeof(info));
	if (info.argsz < sizeof(info) ||
	    (info.index >= VFIO_PCI_NUM_REGIONS &&
	     !cleat_srv_region(srv, info.index)))
		return -EINVAL;
	d.info.index = info.index;
	if (srv->regions[info.index])
		describe(srv, &d, srv->regions[info.index]);
	d.info.argsz = (uint32_t)(sizeof(d.info) + d.length);
	if (info.argsz >= d.info.argsz) {
		payload[1].iov_len = d.length;
		return cleat_srv_reply_full(srv, msg, payload, d.fds, d.n_fds);
	}
	/*
	 * Asked with too little room: the size is the answer, ask again. QEMU's
	 * client takes no flag of capabilities without their offset.
	 */
	d.info.flags &= ~VFIO_REGION_INFO_FLAG_CAPS;
	d.info.cap_offset = 0;
	return cleat_srv_reply(srv, msg, &d.info, sizeof(d.info));
}
