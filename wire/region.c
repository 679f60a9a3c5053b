/* SPDX-License-Identifier: BSD-2-Clause */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include <linux/vfio.h>

#include "wire/wire.h"

/* A capability of peers' development trees: an fd of its own for each area. */
#define CAP_SPARSE_MMAP_FDS 16

struct sparse_area {
	uint64_t offset;
	uint64_t size;
};

struct sparse_fds_area {
	uint64_t offset;
	uint64_t fd_offset;
	uint64_t size;
	uint32_t fd_index;
	uint32_t reserved;
};

/* A reply under examination. */
struct reply {
	const uint8_t *payload;
	size_t size;
	uint32_t index;
	unsigned num_fds;
	struct cleat_wire_region *region;
	struct cleat_error *reterr;
};

static int refuse(const struct reply *r, const char *why)
{
	return cleat_fail(r->reterr, CLEAT_ORIGIN_TRANSPORT, -EPROTO,
			  "region %u: %s", r->index, why);
}

/* Copy @size bytes from @offset, which the server chose. */
static bool fetch(const struct reply *r, uint64_t offset, void *to, size_t size)
{
	if (offset > r->size || size > r->size - offset)
		return false;
	memcpy(to, r->payload + offset, size);
	return true;
}

static int make_areas(const struct reply *r, uint32_t count)
{
	if (r->region->areas)
		return refuse(r, "two sparse capabilities");
	if (count > CLEAT_MAX_AREAS)
		return refuse(r, "too many sparse areas");
	r->region->areas = calloc(count ? count : 1, sizeof(*r->region->areas));
	if (!r->region->areas)
		return cleat_fail(r->reterr, CLEAT_ORIGIN_LOCAL, -ENOMEM,
				  "out of memory");
	return 0;
}

/*
 * One area of either sparse capability. In the plain one, one descriptor serves
 * all areas, or each has its own: both are in use.
 */
static bool fetch_area(const struct reply *r, uint64_t at, bool own_fds,
		       uint32_t i, uint32_t count, struct cleat_wire_area *ret)
{
	struct sparse_fds_area own;
	struct sparse_area area;

	if (own_fds) {
		if (!fetch(r, at + i * sizeof(own), &own, sizeof(own)))
			return false;
		*ret = (struct cleat_wire_area){ own.offset, own.size,
						 own.fd_offset, own.fd_index };
		return true;
	}
	if (!fetch(r, at + i * sizeof(area), &area, sizeof(area)))
		return false;
	*ret = (struct cleat_wire_area){
		.offset = area.offset,
		.length = area.size,
		.fd_offset = r->region->fd_offset + area.offset,
		.fd_index = r->num_fds == count ? i : 0,
	};
	return true;
}

/* An area of no bytes is left out. */
static int parse_sparse(const struct reply *r, uint64_t at, bool own_fds)
{
	struct cleat_wire_region *region = r->region;
	uint32_t count;
	int err;

	if (!fetch(r, at + 8, &count, sizeof(count)))
		return refuse(r, "the sparse capability is cut off");
	err = make_areas(r, count);
	if (err)
		return err;
	for (uint32_t i = 0; i < count; i++) {
		struct cleat_wire_area area;

		if (!fetch_area(r, at + 16, own_fds, i, count, &area))
			return refuse(r, "the sparse capability is cut off");
		if (area.length)
			region->areas[region->num_areas++] = area;
	}
	return 0;
}

static int parse_capability(const struct reply *r, uint64_t at, unsigned id)
{
	uint32_t type[2];

	switch (id) {
	case VFIO_REGION_INFO_CAP_SPARSE_MMAP:
		return parse_sparse(r, at, false);
	case CAP_SPARSE_MMAP_FDS:
		return parse_sparse(r, at, true);
	case VFIO_REGION_INFO_CAP_TYPE:
		if (!fetch(r, at + 8, type, sizeof(type)))
			return refuse(r, "the type capability is cut off");
		r->region->type = type[0];
		r->region->subtype = type[1];
		return 0;
	default:
		return 0;
	}
}

/*
 * The chain has to run forwards: that is how every server lays it out, and one
 * that does not could make us walk in a circle.
 */
static int parse_chain(const struct reply *r, uint64_t at)
{
	struct vfio_info_cap_header cap;
	uint64_t end = sizeof(struct cleat_wire_region_info);
	int err;

	while (at) {
		if (at < end)
			return refuse(r, "its capabilities run backwards");
		if (!fetch(r, at, &cap, sizeof(cap)))
			return refuse(r, "a capability outside the reply");
		err = parse_capability(r, at, cap.id);
		if (err)
			return err;
		end = at + sizeof(cap);
		at = cap.next;
	}
	return 0;
}

static int by_offset(const void *a, const void *b)
{
	const struct cleat_wire_area *x = a, *y = b;

	return (x->offset > y->offset) - (x->offset < y->offset);
}

static int check_areas(const struct reply *r)
{
	struct cleat_wire_region *region = r->region;
	uint64_t end = 0;

	if (region->num_areas > 1)
		qsort(region->areas, region->num_areas, sizeof(*region->areas),
		      by_offset);
	for (unsigned i = 0; i < region->num_areas; i++) {
		const struct cleat_wire_area *a = &region->areas[i];

		if (a->offset < end)
			return refuse(r, "its sparse areas overlap");
		if (a->offset > region->length ||
		    a->length > region->length - a->offset)
			return refuse(r, "a sparse area outside the region");
		if (a->fd_offset > INT64_MAX - a->length)
			return refuse(r, "an impossible file offset");
		if (a->fd_index >= r->num_fds)
			return refuse(r, "a sparse area without its file");
		end = a->offset + a->length;
	}
	return 0;
}

/* A region that can be mapped as a whole is one area. */
static int whole_area(const struct reply *r)
{
	int err = make_areas(r, 1);

	if (err)
		return err;
	r->region->num_areas = 1;
	r->region->areas[0] = (struct cleat_wire_area){
		.length = r->region->length,
		.fd_offset = r->region->fd_offset,
	};
	return 0;
}

static int parse_region(const struct reply *r)
{
	struct cleat_wire_region *region = r->region;
	struct cleat_wire_region_info info;
	int err = 0;

	if (!fetch(r, 0, &info, sizeof(info)) || info.argsz > r->size)
		return refuse(r, "its description is cut off");
	if (info.index != r->index)
		return refuse(r, "the server described another region");
	region->flags = info.flags;
	region->length = info.size;
	region->fd_offset = info.offset;
	if (info.size > INT64_MAX)
		return refuse(r, "an impossible size");
	if (info.flags & VFIO_REGION_INFO_FLAG_CAPS)
		err = parse_chain(r, info.cap_offset);
	if (err)
		return err;
	if (!(info.flags & VFIO_REGION_INFO_FLAG_MMAP) || !r->num_fds ||
	    !info.size)
		region->num_areas = 0;
	else if (!region->areas)
		err = whole_area(r);
	return err ? err : check_areas(r);
}

int cleat_wire_parse_region(const void *payload, size_t size, uint32_t index,
			    unsigned num_fds, struct cleat_wire_region *ret,
			    struct cleat_error *reterr)
{
	struct cleat_wire_region region = { 0 };
	struct reply r = {
		.payload = payload,
		.size = size,
		.index = index,
		.num_fds = num_fds,
		.region = &region,
		.reterr = reterr,
	};
	int err = parse_region(&r);

	if (err) {
		cleat_wire_region_free(&region);
		return err;
	}
	*ret = region;
	return 0;
}

void cleat_wire_region_free(struct cleat_wire_region *region)
{
	free(region->areas);
	region->areas = NULL;
	region->num_areas = 0;
}

/* --- GET_REGION_IO_FDS ---------------------------------------------------- */

/* Bring the specification's short entry into the current form. */
static void widen(struct cleat_wire_io_fd *entry)
{
	entry->datamatch = entry->shadow_offset;
	entry->shadow_offset = 0;
	entry->shadow_fd_index = CLEAT_WIRE_NO_FD;
}

static int check_entry(const struct reply *r, uint64_t length,
		       const struct cleat_wire_io_fd *e)
{
	if (e->offset >= length || e->size > length - e->offset)
		return refuse(r, "an I/O descriptor's range lies outside");
	if (e->fd_index != CLEAT_WIRE_NO_FD && e->fd_index >= r->num_fds)
		return refuse(r, "an I/O descriptor that was not sent");
	if (e->shadow_fd_index != CLEAT_WIRE_NO_FD &&
	    e->shadow_fd_index >= r->num_fds && e->type == 2)
		return refuse(r, "a shadow descriptor that was not sent");
	return 0;
}

/* How far apart the entries are is told by argsz; 0 if that cannot be. */
static size_t entry_stride(const struct cleat_wire_io_fds *head, size_t size)
{
	size_t stride;

	if (head->argsz < sizeof(*head) || head->argsz > size)
		return 0;
	stride = (head->argsz - sizeof(*head)) / head->count;
	return stride >= CLEAT_WIRE_IO_FD_SHORT ? stride : 0;
}

static int parse_entries(const struct reply *r, uint64_t length,
			 const struct cleat_wire_io_fds *head,
			 struct cleat_wire_io_fd *entries)
{
	size_t stride = entry_stride(head, r->size);
	size_t take = stride < sizeof(*entries) ? CLEAT_WIRE_IO_FD_SHORT
						: sizeof(*entries);

	if (!stride)
		return refuse(r, "I/O descriptors of an impossible size");
	for (uint32_t i = 0; i < head->count; i++) {
		struct cleat_wire_io_fd *e = &entries[i];
		int err;

		if (!fetch(r, sizeof(*head) + i * stride, e, take))
			return refuse(r, "its I/O descriptors are cut off");
		if (take == CLEAT_WIRE_IO_FD_SHORT)
			widen(e);
		err = check_entry(r, length, e);
		if (err)
			return err;
	}
	return 0;
}

int cleat_wire_parse_io_fds(const void *payload, size_t size, uint32_t index,
			    uint64_t length, unsigned num_fds,
			    struct cleat_wire_io_fd **ret_entries,
			    struct cleat_error *reterr)
{
	const struct reply r = {
		.payload = payload,
		.size = size,
		.index = index,
		.num_fds = num_fds,
		.reterr = reterr,
	};
	struct cleat_wire_io_fd *entries;
	struct cleat_wire_io_fds head;
	int err;

	if (!fetch(&r, 0, &head, sizeof(head)))
		return refuse(&r, "its I/O descriptors are cut off");
	if (head.index != index)
		return refuse(&r, "the server described another region");
	*ret_entries = NULL;
	if (!head.count)
		return 0;
	if (head.count > CLEAT_MAX_IO_FDS)
		return refuse(&r, "too many I/O descriptors");
	entries = calloc(head.count, sizeof(*entries));
	if (!entries)
		return cleat_fail(reterr, CLEAT_ORIGIN_LOCAL, -ENOMEM,
				  "out of memory");
	err = parse_entries(&r, length, &head, entries);
	if (err) {
		free(entries);
		return err;
	}
	*ret_entries = entries;
	return (int)head.count;
}
