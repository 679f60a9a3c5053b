/* SPDX-License-Identifier: BSD-2-Clause */
/* Replies to GET_REGION_INFO and GET_REGION_IO_FDS, right and wrong. */
#include <linux/vfio.h>

#include "tests/support/support.h"
#include "wire/wire.h"

#define MAPPABLE (VFIO_REGION_INFO_FLAG_MMAP | VFIO_REGION_INFO_FLAG_CAPS)

/* A reply under construction. */
struct reply {
	struct cleat_wire_region_info info;
	uint8_t caps[1024];
	size_t size;
};

static struct reply region_reply(uint32_t flags, uint64_t length)
{
	return (struct reply){
		.info = { .flags = flags,
			  .index = 2,
			  .size = length,
			  .offset = 0x1000 },
		.size = sizeof(struct cleat_wire_region_info),
	};
}

/* Append a capability; @next_is: the offset it says the next one is at. */
static size_t add_cap(struct reply *r, uint16_t id, uint32_t next_is,
		      const void *body, size_t size)
{
	struct vfio_info_cap_header cap = { .id = id, .next = next_is };
	size_t at = r->size;

	if (!r->info.cap_offset)
		r->info.cap_offset = (uint32_t)at;
	memcpy(r->caps + at - sizeof(r->info), &cap, sizeof(cap));
	memcpy(r->caps + at - sizeof(r->info) + sizeof(cap), body, size);
	r->size += sizeof(cap) + size;
	return at;
}

static int parse(struct reply *r, unsigned num_fds,
		 struct cleat_wire_region *ret, struct cleat_error *why)
{
	if (!r->info.argsz)
		r->info.argsz = (uint32_t)r->size;
	return cleat_wire_parse_region(r, r->size, 2, num_fds, ret, why);
}

static void refuse(struct reply r, unsigned num_fds, const char *text)
{
	struct cleat_wire_region region;
	struct cleat_error why = { 0 };

	ATF_CHECK_EQ_MSG(-EPROTO, parse(&r, num_fds, &region, &why), "%s",
			 text);
	ATF_CHECK_MATCH(text, why.text);
}

struct sparse {
	uint32_t count, reserved;
	struct {
		uint64_t offset, size;
	} areas[3];
};

static struct reply with_sparse(struct sparse sparse)
{
	struct reply r = region_reply(MAPPABLE, 0x4000);

	add_cap(&r, VFIO_REGION_INFO_CAP_SPARSE_MMAP, 0, &sparse,
		8 + sparse.count * 16);
	return r;
}

CLEAT_TC(region__plain)
{
	struct reply r = region_reply(VFIO_REGION_INFO_FLAG_READ, 100);
	struct cleat_wire_region region;

	ATF_REQUIRE_EQ(0, parse(&r, 0, &region, NULL));
	ATF_CHECK_EQ(100, region.length);
	ATF_CHECK_EQ(0, region.num_areas);
	cleat_wire_region_free(&region);
}

CLEAT_TC(region__mapped_whole)
{
	struct reply r = region_reply(VFIO_REGION_INFO_FLAG_MMAP, 0x4000);
	struct cleat_wire_region region;

	ATF_REQUIRE_EQ(0, parse(&r, 1, &region, NULL));
	ATF_REQUIRE_EQ(1, region.num_areas);
	ATF_CHECK_EQ(0x4000, region.areas[0].length);
	ATF_CHECK_EQ(0x1000, region.areas[0].fd_offset);
	cleat_wire_region_free(&region);
	/* Said to be mappable, and no file: by message then. */
	ATF_REQUIRE_EQ(0, parse(&r, 0, &region, NULL));
	ATF_CHECK_EQ(0, region.num_areas);
	cleat_wire_region_free(&region);
}

CLEAT_TC(region__sparse_one_file)
{
	struct reply r = with_sparse((struct sparse){
		2, 0, { { 0x2000, 0x1000 }, { 0x0, 0x1000 } } });
	struct cleat_wire_region region;

	ATF_REQUIRE_EQ(0, parse(&r, 1, &region, NULL));
	ATF_REQUIRE_EQ(2, region.num_areas);
	ATF_CHECK_EQ(0, region.areas[0].offset);
	ATF_CHECK_EQ(0x2000, region.areas[1].offset);
	ATF_CHECK_EQ(0x3000, region.areas[1].fd_offset);
	ATF_CHECK_EQ(0, region.areas[1].fd_index);
	cleat_wire_region_free(&region);
}

CLEAT_TC(region__sparse_a_file_each)
{
	struct reply r = with_sparse((struct sparse){
		2, 0, { { 0x0, 0x1000 }, { 0x2000, 0x1000 } } });
	struct cleat_wire_region region;

	ATF_REQUIRE_EQ(0, parse(&r, 2, &region, NULL));
	ATF_CHECK_EQ(0, region.areas[0].fd_index);
	ATF_CHECK_EQ(1, region.areas[1].fd_index);
	cleat_wire_region_free(&region);
}

CLEAT_TC(region__sparse_with_its_own_fds)
{
	struct {
		uint32_t count, reserved;
		uint64_t offset, fd_offset, size;
		uint32_t fd_index, pad;
	} cap = { 1, 0, 0x1000, 0x8000, 0x1000, 1, 0 };
	struct reply r = region_reply(MAPPABLE, 0x4000);
	struct cleat_wire_region region;

	add_cap(&r, 16, 0, &cap, sizeof(cap));
	ATF_REQUIRE_EQ(0, parse(&r, 2, &region, NULL));
	ATF_CHECK_EQ(1, region.areas[0].fd_index);
	ATF_CHECK_EQ(0x8000, region.areas[0].fd_offset);
	cleat_wire_region_free(&region);
	refuse(r, 1, "without its file");
}

CLEAT_TC(region__type)
{
	struct reply r = region_reply(VFIO_REGION_INFO_FLAG_CAPS, 0x4000);
	uint32_t type[2] = { 3, 1 };
	struct cleat_wire_region region;

	add_cap(&r, VFIO_REGION_INFO_CAP_TYPE, 0, type, sizeof(type));
	ATF_REQUIRE_EQ(0, parse(&r, 0, &region, NULL));
	ATF_CHECK_EQ(3, region.type);
	ATF_CHECK_EQ(1, region.subtype);
	cleat_wire_region_free(&region);
}

CLEAT_TC(region__areas_refused)
{
	refuse(with_sparse((struct sparse){
		       2, 0, { { 0, 0x2000 }, { 0x1000, 0x1000 } } }),
	       1, "overlap");
	refuse(with_sparse((struct sparse){ 1, 0, { { 0x3000, 0x2000 } } }), 1,
	       "outside the region");
	refuse(with_sparse((struct sparse){ 1, 0, { { 0x5000, 0x1000 } } }), 1,
	       "outside the region");
	refuse(with_sparse((struct sparse){
		       1, 0, { { 0x1000, UINT64_MAX - 0xfff } } }),
	       1, "outside the region");
}

CLEAT_TC(region__chain_refused)
{
	struct reply r = region_reply(MAPPABLE, 0x4000);
	struct sparse none = { 0 };
	uint32_t count = 1000000;

	/* To itself, then backwards into the fixed part. */
	add_cap(&r, 99, 32, "12345678", 8);
	refuse(r, 1, "run backwards");
	r = region_reply(MAPPABLE, 0x4000);
	r.info.cap_offset = 8;
	refuse(r, 1, "run backwards");
	r = region_reply(MAPPABLE, 0x4000);
	r.info.cap_offset = 0xfffffff0;
	refuse(r, 1, "outside the reply");
	r = region_reply(MAPPABLE, 0x4000);
	add_cap(&r, VFIO_REGION_INFO_CAP_SPARSE_MMAP, 48, &none, 8);
	add_cap(&r, VFIO_REGION_INFO_CAP_SPARSE_MMAP, 0, &none, 8);
	refuse(r, 1, "two sparse");
	r = region_reply(MAPPABLE, 0x4000);
	add_cap(&r, VFIO_REGION_INFO_CAP_SPARSE_MMAP, 0, &count, 4);
	refuse(r, 1, "too many sparse areas");
	count = 3;
	r = region_reply(MAPPABLE, 0x4000);
	add_cap(&r, VFIO_REGION_INFO_CAP_SPARSE_MMAP, 0, &count, 4);
	refuse(r, 1, "cut off");
	r = region_reply(MAPPABLE, 0x4000);
	add_cap(&r, VFIO_REGION_INFO_CAP_TYPE, 0, &count, 4);
	refuse(r, 1, "type capability is cut off");
}

CLEAT_TC(region__fixed_part_refused)
{
	struct reply r = region_reply(0, 0x4000);

	r.info.argsz = 64;
	refuse(r, 0, "cut off");
	r = region_reply(0, 0x4000);
	r.info.index = 3;
	refuse(r, 0, "another region");
	refuse(region_reply(0, UINT64_MAX), 0, "impossible size");
	r = region_reply(0, 0x4000);
	r.size = 31;
	refuse(r, 0, "cut off");
}

/* --- GET_REGION_IO_FDS ------------------------------------------------------
 */

struct io_reply {
	struct cleat_wire_io_fds head;
	uint8_t entries[200];
};

static int parse_io(struct io_reply *r, size_t stride, unsigned num_fds,
		    struct cleat_wire_io_fd **ret)
{
	size_t size = sizeof(r->head) + r->head.count * stride;

	r->head.index = 2;
	r->head.argsz = (uint32_t)size;
	if (size > sizeof(*r))
		size = sizeof(*r);
	return cleat_wire_parse_io_fds(r, size, 2, 0x1000, num_fds, ret, NULL);
}

CLEAT_TC(io_fds__both_sizes)
{
	struct cleat_wire_io_fd wide = { .offset = 8,
					 .size = 4,
					 .flags = 1,
					 .shadow_fd_index = ~0u,
					 .datamatch = 7 };
	struct io_reply r = { .head.count = 2 };
	struct cleat_wire_io_fd *entries;
	uint64_t match = 9;

	memcpy(r.entries, &wide, 48);
	memcpy(r.entries + 48, &wide, 48);
	ATF_REQUIRE_EQ(2, parse_io(&r, 48, 1, &entries));
	ATF_CHECK_EQ(7, entries[1].datamatch);
	free(entries);
	memcpy(r.entries, &wide, 32);
	memcpy(r.entries + 32, &match, 8);
	memcpy(r.entries + 40, r.entries, 40);
	ATF_REQUIRE_EQ(2, parse_io(&r, 40, 1, &entries));
	ATF_CHECK_EQ(9, entries[1].datamatch);
	ATF_CHECK_EQ(CLEAT_WIRE_NO_FD, entries[1].shadow_fd_index);
	free(entries);
}

CLEAT_TC(io_fds__none)
{
	struct cleat_wire_io_fd *entries;
	struct io_reply r = { .head.count = 0 };

	ATF_REQUIRE_EQ(0, parse_io(&r, 48, 0, &entries));
	ATF_CHECK_EQ(NULL, entries);
}

CLEAT_TC(io_fds__refused)
{
	struct cleat_wire_io_fd e = { .offset = 0x1000, .size = 4 };
	struct io_reply r = { .head.count = 1 };
	struct cleat_wire_io_fd *entries;

	memcpy(r.entries, &e, 48);
	ATF_CHECK_EQ(-EPROTO, parse_io(&r, 48, 1, &entries));
	e.offset = 0xffe;
	memcpy(r.entries, &e, 48);
	ATF_CHECK_EQ(-EPROTO, parse_io(&r, 48, 1, &entries));
	e.offset = 0;
	e.fd_index = 1;
	memcpy(r.entries, &e, 48);
	ATF_CHECK_EQ(-EPROTO, parse_io(&r, 48, 1, &entries));
	ATF_CHECK_EQ(-EPROTO, parse_io(&r, 32, 2, &entries));
	r.head.count = 10000;
	ATF_CHECK_EQ(-EPROTO, parse_io(&r, 48, 2, &entries));
	r.head.count = 0xffffffff;
	ATF_CHECK_EQ(-EPROTO, parse_io(&r, 48, 2, &entries));
}

ATF_TP_ADD_TCS(tp)
{
	ATF_TP_ADD_TC(tp, region__plain);
	ATF_TP_ADD_TC(tp, region__mapped_whole);
	ATF_TP_ADD_TC(tp, region__sparse_one_file);
	ATF_TP_ADD_TC(tp, region__sparse_a_file_each);
	ATF_TP_ADD_TC(tp, region__sparse_with_its_own_fds);
	ATF_TP_ADD_TC(tp, region__type);
	ATF_TP_ADD_TC(tp, region__areas_refused);
	ATF_TP_ADD_TC(tp, region__chain_refused);
	ATF_TP_ADD_TC(tp, region__fixed_part_refused);
	ATF_TP_ADD_TC(tp, io_fds__both_sizes);
	ATF_TP_ADD_TC(tp, io_fds__none);
	ATF_TP_ADD_TC(tp, io_fds__refused);
	return atf_no_error();
}
