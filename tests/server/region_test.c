/* SPDX-License-Identifier: BSD-2-Clause */
#include <linux/vfio.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "tests/server/rig.h"

#define PAGE 4096u

static void connect_rig(struct rig *rig)
{
	struct peer_message reply;

	rig_run(rig);
	rig_version(rig, "{\"capabilities\":{\"max_msg_fds\":16}}", &reply);
	peer_message_end(&reply);
}

static void add_areas(struct rig *rig, uint32_t index,
		      const struct cleat_server_area *areas, unsigned count)
{
	struct cleat_server_region region = {
		.size = sizeof(region),
		.index = index,
		.flags = CLEAT_REGION_READ | CLEAT_REGION_WRITE,
		.length = 4 * PAGE,
		.areas = areas,
		.n_areas = count,
	};

	ATF_REQUIRE_EQ(0, cleat_server_add_region(rig->srv, &region, NULL));
}

static void ask(struct rig *rig, uint32_t index, uint32_t argsz,
		struct peer_message *reply)
{
	struct cleat_wire_region_info info = { .argsz = argsz,
					       .index = index };

	rig_call_fds(rig, VFIO_USER_DEVICE_GET_REGION_INFO, &info, sizeof(info),
		     NULL, 0, reply);
}

/* As a client does: ask with little, then with what was named. */
static void ask_twice(struct rig *rig, uint32_t index,
		      struct peer_message *reply,
		      struct cleat_wire_region *region)
{
	struct cleat_wire_region_info info;

	ask(rig, index, sizeof(info), reply);
	ATF_REQUIRE_EQ(sizeof(info), reply->length);
	memcpy(&info, reply->body, sizeof(info));
	if (info.argsz > sizeof(info)) {
		ATF_REQUIRE_EQ(0, reply->nr_fds);
		ATF_REQUIRE(!(info.flags & VFIO_REGION_INFO_FLAG_CAPS));
		ATF_REQUIRE_EQ(0, info.cap_offset);
		peer_message_end(reply);
		ask(rig, index, info.argsz, reply);
		ATF_REQUIRE_EQ(info.argsz, reply->length);
	}
	ATF_REQUIRE_EQ(0, cleat_wire_parse_region(reply->body, reply->length,
						  index, reply->nr_fds, region,
						  NULL));
}

static bool same_file(int a, int b)
{
	struct stat x, y;

	ATF_REQUIRE_EQ(0, fstat(a, &x));
	ATF_REQUIRE_EQ(0, fstat(b, &y));
	return x.st_ino == y.st_ino && x.st_dev == y.st_dev;
}

CLEAT_TC(info__device)
{
	struct cleat_wire_device_info info = { .argsz = sizeof(info) };
	struct peer_message reply;
	struct rig rig;

	rig_start(&rig);
	rig_call_fds(&rig, VFIO_USER_DEVICE_GET_INFO, &info, sizeof(info),
		     NULL, 0, &reply);
	memcpy(&info, reply.body, sizeof(info));
	peer_message_end(&reply);
	ATF_REQUIRE_EQ(VFIO_DEVICE_FLAGS_PCI | VFIO_DEVICE_FLAGS_RESET,
		       info.flags);
	ATF_REQUIRE_EQ(9, info.num_regions);
	ATF_REQUIRE_EQ(5, info.num_irqs);
	ATF_REQUIRE_EQ(0, rig_call(&rig, VFIO_USER_DEVICE_RESET, NULL, 0));
	ATF_REQUIRE_EQ(1, rig.resets);
	rig_end(&rig);
}

CLEAT_TC(info__whole_region)
{
	int fd = memfd(4 * PAGE, 0);
	struct cleat_server_area area = { 0, 4 * PAGE, fd, 0 };
	struct cleat_wire_region region;
	struct peer_message reply;
	struct rig rig;

	rig_create(&rig, NULL);
	add_areas(&rig, 2, &area, 1);
	connect_rig(&rig);
	ask_twice(&rig, 2, &reply, &region);
	ATF_REQUIRE_EQ(1, reply.nr_fds);
	ATF_REQUIRE(same_file(fd, reply.fds[0]));
	ATF_REQUIRE_EQ(1, region.num_areas);
	ATF_REQUIRE_EQ(4 * PAGE, region.areas[0].length);
	cleat_wire_region_free(&region);
	peer_message_end(&reply);
	rig_end(&rig);
	close(fd);
}

CLEAT_TC(info__sparse_one_file)
{
	int fd = memfd(8 * PAGE, 0);
	struct cleat_server_area areas[] = {
		{ PAGE, PAGE, fd, 2 * PAGE },
		{ 3 * PAGE, PAGE, fd, 4 * PAGE },
	};
	struct cleat_wire_region region;
	struct peer_message reply;
	struct rig rig;

	rig_create(&rig, NULL);
	add_areas(&rig, 2, areas, 2);
	connect_rig(&rig);
	ask_twice(&rig, 2, &reply, &region);
	ATF_REQUIRE_EQ(1, reply.nr_fds);
	ATF_REQUIRE_EQ(2, region.num_areas);
	ATF_REQUIRE_EQ(PAGE, region.areas[0].offset);
	ATF_REQUIRE_EQ(2 * PAGE, region.areas[0].fd_offset);
	ATF_REQUIRE_EQ(3 * PAGE, region.areas[1].offset);
	ATF_REQUIRE_EQ(4 * PAGE, region.areas[1].fd_offset);
	cleat_wire_region_free(&region);
	peer_message_end(&reply);
	rig_end(&rig);
	close(fd);
}

CLEAT_TC(info__sparse_file_each)
{
	int fds[2] = { memfd(8 * PAGE, 0), memfd(8 * PAGE, 0) };
	struct cleat_server_area areas[] = {
		{ 0, PAGE, fds[0], PAGE },
		{ 2 * PAGE, PAGE, fds[1], 3 * PAGE },
	};
	struct cleat_wire_region region;
	struct peer_message reply;
	struct rig rig;

	rig_create(&rig, NULL);
	add_areas(&rig, 2, areas, 2);
	connect_rig(&rig);
	ask_twice(&rig, 2, &reply, &region);
	ATF_REQUIRE_EQ(2, reply.nr_fds);
	for (unsigned i = 0; i < 2; i++) {
		ATF_REQUIRE_EQ(i, region.areas[i].fd_index);
		ATF_REQUIRE_EQ(areas[i].fd_offset, region.areas[i].fd_offset);
		ATF_REQUIRE(same_file(fds[i], reply.fds[i]));
		close(fds[i]);
	}
	cleat_wire_region_free(&region);
	peer_message_end(&reply);
	rig_end(&rig);
}

/* The doorbell page of a device at the beginning of its file. */
CLEAT_TC(info__sparse_file_before_region)
{
	int fd = memfd(PAGE, 0);
	struct cleat_server_area area = { PAGE, PAGE, fd, 0 };
	struct cleat_wire_region region;
	struct peer_message reply;
	struct rig rig;

	rig_create(&rig, NULL);
	add_areas(&rig, 2, &area, 1);
	connect_rig(&rig);
	ask_twice(&rig, 2, &reply, &region);
	ATF_REQUIRE_EQ(1, region.num_areas);
	ATF_REQUIRE_EQ(PAGE, region.areas[0].offset);
	ATF_REQUIRE_EQ(0, region.areas[0].fd_offset);
	cleat_wire_region_free(&region);
	peer_message_end(&reply);
	rig_end(&rig);
	close(fd);
}

CLEAT_TC(info__type_capability)
{
	struct cleat_server_region own = {
		.size = sizeof(own),
		.index = 9,
		.flags = CLEAT_REGION_READ,
		.length = 16,
		.type = 3,
		.subtype = 1,
	};
	struct cleat_wire_region region;
	struct peer_message reply;
	struct rig rig;

	rig_create(&rig, NULL);
	ATF_REQUIRE_EQ(0, cleat_server_add_region(rig.srv, &own, NULL));
	connect_rig(&rig);
	ask_twice(&rig, 9, &reply, &region);
	ATF_REQUIRE_EQ(3, region.type);
	ATF_REQUIRE_EQ(1, region.subtype);
	ATF_REQUIRE_EQ(16, region.length);
	cleat_wire_region_free(&region);
	peer_message_end(&reply);
	rig_end(&rig);
}

CLEAT_TC(info__absent_regions)
{
	struct cleat_wire_region region;
	struct cleat_wire_region_info info = { .argsz = 32 };
	struct peer_message reply;
	struct rig rig;

	rig_start(&rig);
	ask_twice(&rig, 8, &reply, &region);
	ATF_REQUIRE_EQ(0, region.length);
	ATF_REQUIRE_EQ(0, region.flags);
	peer_message_end(&reply);
	for (uint32_t i = 9; i < 1000; i += 90) {
		info.index = i;
		ATF_REQUIRE_EQ(-EINVAL,
			       rig_call(&rig, VFIO_USER_DEVICE_GET_REGION_INFO,
					&info, sizeof(info)));
	}
	info.index = UINT32_MAX;
	ATF_REQUIRE_EQ(-EINVAL, rig_call(&rig, VFIO_USER_DEVICE_GET_REGION_INFO,
					 &info, sizeof(info)));
	info.index = 0;
	info.argsz = 31;
	ATF_REQUIRE_EQ(-EINVAL, rig_call(&rig, VFIO_USER_DEVICE_GET_REGION_INFO,
					 &info, sizeof(info)));
	rig_end(&rig);
}

CLEAT_TC(add__impossible_areas)
{
	int fd = memfd(2 * PAGE, 0);
	struct cleat_server_area bad[] = {
		{ 1, PAGE, fd, 0 },	    { 0, 0, fd, 0 },
		{ 0, 100, fd, 0 },	    { 4 * PAGE, PAGE, fd, 0 },
		{ 0, 3 * PAGE, fd, 0 },	    { 0, PAGE, fd, 2 * PAGE },
		{ 0, PAGE, fd, UINT64_MAX - PAGE + 1 }, { 0, PAGE, -1, 0 },
	};
	struct cleat_server_region region = {
		.size = sizeof(region),
		.index = 1,
		.length = 4 * PAGE,
		.n_areas = 1,
	};
	struct cleat_error why;
	struct rig rig;

	rig_create(&rig, NULL);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		region.areas = &bad[i];
		ATF_CHECK_EQ(-EINVAL, cleat_server_add_region(rig.srv, &region,
							      &why));
	}
	region.n_areas = 0;
	region.index = 0;
	ATF_REQUIRE_EQ(-EEXIST,
		       cleat_server_add_region(rig.srv, &region, &why));
	region.index = 256;
	ATF_REQUIRE_EQ(-EINVAL,
		       cleat_server_add_region(rig.srv, &region, &why));
	rig_end(&rig);
	close(fd);
}

/* ---- IO descriptors ----------------------------------------------- */

static int ask_io_fds(struct rig *rig, uint32_t index,
		      struct peer_message *reply,
		      struct cleat_wire_io_fd **entries)
{
	struct cleat_wire_io_fds head = { .argsz = sizeof(head),
					  .index = index };
	struct peer_message first;
	int count;

	rig_call_fds(rig, VFIO_USER_DEVICE_GET_REGION_IO_FDS, &head,
		     sizeof(head), NULL, 0, &first);
	memcpy(&head, first.body, sizeof(head));
	if (head.count)
		ATF_REQUIRE_EQ(0, first.nr_fds);
	peer_message_end(&first);
	head.count = 0;
	rig_call_fds(rig, VFIO_USER_DEVICE_GET_REGION_IO_FDS, &head,
		     sizeof(head), NULL, 0, reply);
	ATF_REQUIRE_EQ(head.argsz, reply->length);
	count = cleat_wire_parse_io_fds(reply->body, reply->length, index,
					RIG_BAR, reply->nr_fds, entries, NULL);
	ATF_REQUIRE(count >= 0);
	return count;
}

static void set_three(struct rig *rig, int kick, int page)
{
	struct cleat_server_io_fd entries[] = {
		{ 0x1000, 4, CLEAT_IO_FD_IOEVENTFD, CLEAT_IO_FD_DATAMATCH, kick,
		  -1, 0, 7 },
		{ 0x1000, 4, CLEAT_IO_FD_IOEVENTFD, CLEAT_IO_FD_DATAMATCH, kick,
		  -1, 0, 8 },
		{ 0x2000, 4, CLEAT_IO_FD_SHADOW, 0, kick, page, 0x40, 0 },
	};

	ATF_REQUIRE_EQ(0, cleat_server_set_io_fds(rig->srv, 0, entries, 3));
}

CLEAT_TC(io_fds__shared_and_shadow)
{
	int kick = eventfd(0, 0), page = memfd(PAGE, 0);
	struct cleat_wire_io_fd *entries;
	struct peer_message reply;
	uint64_t one = 1;
	struct rig rig;

	rig_create(&rig, NULL);
	set_three(&rig, kick, page);
	connect_rig(&rig);
	ATF_REQUIRE_EQ(3, ask_io_fds(&rig, 0, &reply, &entries));
	ATF_REQUIRE_EQ(2, reply.nr_fds);
	ATF_REQUIRE_EQ(entries[0].fd_index, entries[1].fd_index);
	ATF_REQUIRE_EQ(7, entries[0].datamatch);
	ATF_REQUIRE_EQ(8, entries[1].datamatch);
	ATF_REQUIRE_EQ(2, entries[2].type);
	ATF_REQUIRE_EQ(0x40, entries[2].shadow_offset);
	ATF_REQUIRE(same_file(page, reply.fds[entries[2].shadow_fd_index]));
	ATF_REQUIRE_EQ(8, write(reply.fds[entries[0].fd_index], &one, 8));
	ATF_REQUIRE_EQ(1, wait_eventfd(kick, PATIENCE_MS));
	free(entries);
	peer_message_end(&reply);
	rig_end(&rig);
	close(kick);
	close(page);
}

CLEAT_TC(io_fds__short_entries)
{
	const struct cleat_server_config config = {
		.size = sizeof(config),
		.flags = CLEAT_SERVER_IO_FDS_40,
	};
	int kick = eventfd(0, 0), page = memfd(PAGE, 0);
	struct cleat_wire_io_fd *entries;
	struct peer_message reply;
	struct rig rig;

	rig_create(&rig, &config);
	set_three(&rig, kick, page);
	connect_rig(&rig);
	/* The shadow doorbell does not fit in 40 bytes. */
	ATF_REQUIRE_EQ(2, ask_io_fds(&rig, 0, &reply, &entries));
	ATF_REQUIRE_EQ(16 + 2 * 40, reply.length);
	ATF_REQUIRE_EQ(8, entries[1].datamatch);
	free(entries);
	peer_message_end(&reply);
	rig_end(&rig);
	close(kick);
	close(page);
}

CLEAT_TC(io_fds__more_than_the_client_takes)
{
	struct cleat_server_io_fd entries[20] = { 0 };
	struct cleat_wire_io_fd *shown;
	struct peer_message reply;
	struct rig rig;

	rig_create(&rig, NULL);
	for (unsigned i = 0; i < 20; i++) {
		entries[i].offset = 8 * i;
		entries[i].length = 8;
		entries[i].fd = eventfd(0, 0);
	}
	ATF_REQUIRE_EQ(0, cleat_server_set_io_fds(rig.srv, 0, entries, 20));
	for (unsigned i = 0; i < 20; i++)
		close(entries[i].fd);
	connect_rig(&rig);
	ATF_REQUIRE_EQ(16, ask_io_fds(&rig, 0, &reply, &shown));
	ATF_REQUIRE_EQ(16, reply.nr_fds);
	free(shown);
	peer_message_end(&reply);
	rig_end(&rig);
}

CLEAT_TC(io_fds__none_and_replaced)
{
	int kick = eventfd(0, 0), page = memfd(PAGE, 0);
	struct cleat_wire_io_fd *entries;
	struct cleat_wire_io_fds head = { .argsz = sizeof(head), .index = 99 };
	struct peer_message reply;
	struct rig rig;

	rig_create(&rig, NULL);
	set_three(&rig, kick, page);
	set_three(&rig, kick, page);
	ATF_REQUIRE_EQ(0, cleat_server_set_io_fds(rig.srv, 0, NULL, 0));
	ATF_REQUIRE_EQ(-ENOENT, cleat_server_set_io_fds(rig.srv, 5, NULL, 0));
	connect_rig(&rig);
	ATF_REQUIRE_EQ(0, ask_io_fds(&rig, 0, &reply, &entries));
	peer_message_end(&reply);
	ATF_REQUIRE_EQ(0, ask_io_fds(&rig, 5, &reply, &entries));
	peer_message_end(&reply);
	ATF_REQUIRE_EQ(-EINVAL,
		       rig_call(&rig, VFIO_USER_DEVICE_GET_REGION_IO_FDS, &head,
				sizeof(head)));
	rig_end(&rig);
	close(kick);
	close(page);
}

/* ---- Accesses ----------------------------------------------------- */

CLEAT_TC(access__data_travels)
{
	uint8_t in[RIG_BAR / 2], out[RIG_BAR / 2];
	struct rig rig;

	rig_start(&rig);
	for (size_t i = 0; i < sizeof(in); i++)
		in[i] = (uint8_t)(i * 7);
	ATF_REQUIRE_EQ(0, rig_write(&rig, 0, 100, in, sizeof(in)));
	ATF_REQUIRE_EQ(sizeof(in), rig.last_count);
	ATF_REQUIRE_EQ(0, rig_read(&rig, 0, 100, out, sizeof(out)));
	ATF_REQUIRE(!memcmp(in, out, sizeof(in)));
	ATF_REQUIRE_EQ(0, rig_read(&rig, 0, 100, out, 0));
	ATF_REQUIRE_EQ(1, rig.reads);
	rig_end(&rig);
}

CLEAT_TC(access__outside)
{
	char buf[64] = { 0 };
	struct rig rig;

	rig_start(&rig);
	ATF_CHECK_EQ(-EINVAL, rig_read(&rig, 0, RIG_BAR, buf, 1));
	ATF_CHECK_EQ(-EINVAL, rig_read(&rig, 0, RIG_BAR - 3, buf, 4));
	ATF_CHECK_EQ(-EINVAL, rig_read(&rig, 0, UINT64_MAX, buf, 1));
	ATF_CHECK_EQ(-EINVAL, rig_read(&rig, 0, UINT64_MAX - 3, buf, 8));
	ATF_CHECK_EQ(-EINVAL, rig_read(&rig, 1, 0, buf, 1));
	ATF_CHECK_EQ(-EINVAL, rig_read(&rig, UINT32_MAX, 0, buf, 1));
	ATF_CHECK_EQ(-EINVAL, rig_write(&rig, 0, RIG_BAR - 3, buf, 4));
	ATF_CHECK_EQ(-EINVAL, rig_write(&rig, 255, 0, buf, 4));
	ATF_CHECK_EQ(0, rig_read(&rig, 0, RIG_BAR - 4, buf, 4));
	ATF_REQUIRE_EQ(1, rig.reads);
	ATF_REQUIRE_EQ(0, rig.writes);
	rig_end(&rig);
}

CLEAT_TC(access__device_says_no)
{
	struct rig rig;
	uint32_t value;

	rig_start(&rig);
	rig.fail_with = -ENXIO;
	ATF_REQUIRE_EQ(-ENXIO, rig_read(&rig, 0, 0, &value, 4));
	ATF_REQUIRE_EQ(-ENXIO, rig_write32(&rig, 0, 1));
	/* Nothing that is no error number gets out. */
	rig.fail_with = -5000;
	ATF_REQUIRE_EQ(-EIO, rig_read(&rig, 0, 0, &value, 4));
	rig.fail_with = 17;
	ATF_REQUIRE_EQ(-EIO, rig_read(&rig, 0, 0, &value, 4));
	rig_end(&rig);
}

CLEAT_TC(access__no_reply)
{
	struct {
		struct cleat_wire_access access;
		uint32_t value;
	} __attribute__((packed)) body = { { 0x10, 0, 4 }, 77 };
	struct peer_message posted = {
		.header = { 5, VFIO_USER_REGION_WRITE, 16 + sizeof(body),
			    PEER_NO_REPLY, 0 },
		.body = &body,
		.length = sizeof(body),
	};
	uint32_t value;
	struct rig rig;

	rig_start(&rig);
	ATF_REQUIRE_EQ(0, peer_send(rig.fd, &posted));
	/* One that fails is not answered either. */
	body.access.region = 77;
	ATF_REQUIRE_EQ(0, peer_send(rig.fd, &posted));
	ATF_REQUIRE_EQ(0, rig_read(&rig, 0, 0x10, &value, 4));
	ATF_REQUIRE_EQ(77, value);
	rig_end(&rig);
}

struct multi {
	uint64_t count;
	struct cleat_wire_write writes[3];
};

CLEAT_TC(multi__all_arrive)
{
	struct multi multi = {
		3, { { 0, 0, 4, { 1 } }, { 8, 0, 8, { 2 } }, { 16, 0, 1, { 3 } } }
	};
	struct peer_message reply;
	uint64_t count;
	struct rig rig;

	rig_start(&rig);
	rig_call_fds(&rig, VFIO_USER_REGION_WRITE_MULTI, &multi, sizeof(multi),
		     NULL, 0, &reply);
	ATF_REQUIRE_EQ(8, reply.length);
	memcpy(&count, reply.body, 8);
	peer_message_end(&reply);
	ATF_REQUIRE_EQ(3, count);
	ATF_REQUIRE_EQ(3, rig.writes);
	ATF_REQUIRE_EQ(1, rig.bar[0]);
	ATF_REQUIRE_EQ(2, rig.bar[8]);
	ATF_REQUIRE_EQ(3, rig.bar[16]);
	rig_end(&rig);
}

CLEAT_TC(multi__lies)
{
	struct multi multi = { 3, { { 0, 0, 4, { 1 } } } };
	struct rig rig;

	rig_start(&rig);
	multi.count = 4;
	ATF_CHECK_EQ(-EINVAL, rig_call(&rig, VFIO_USER_REGION_WRITE_MULTI,
				       &multi, sizeof(multi)));
	multi.count = UINT64_MAX / 24 + 2;
	ATF_CHECK_EQ(-EINVAL, rig_call(&rig, VFIO_USER_REGION_WRITE_MULTI,
				       &multi, sizeof(multi)));
	ATF_CHECK_EQ(-EINVAL, rig_call(&rig, VFIO_USER_REGION_WRITE_MULTI,
				       &multi, 7));
	multi.count = 1;
	ATF_CHECK_EQ(-EINVAL, rig_call(&rig, VFIO_USER_REGION_WRITE_MULTI,
				       &multi, 8 + 23));
	multi.writes[0].count = 9;
	ATF_CHECK_EQ(-EINVAL, rig_call(&rig, VFIO_USER_REGION_WRITE_MULTI,
				       &multi, 8 + 24));
	ATF_REQUIRE_EQ(0, rig.writes);
	multi.count = 0;
	ATF_CHECK_EQ(0, rig_call(&rig, VFIO_USER_REGION_WRITE_MULTI, &multi, 8));
	rig_end(&rig);
}

ATF_TP_ADD_TCS(tp)
{
	ATF_TP_ADD_TC(tp, info__device);
	ATF_TP_ADD_TC(tp, info__whole_region);
	ATF_TP_ADD_TC(tp, info__sparse_one_file);
	ATF_TP_ADD_TC(tp, info__sparse_file_each);
	ATF_TP_ADD_TC(tp, info__sparse_file_before_region);
	ATF_TP_ADD_TC(tp, info__type_capability);
	ATF_TP_ADD_TC(tp, info__absent_regions);
	ATF_TP_ADD_TC(tp, add__impossible_areas);
	ATF_TP_ADD_TC(tp, io_fds__shared_and_shadow);
	ATF_TP_ADD_TC(tp, io_fds__short_entries);
	ATF_TP_ADD_TC(tp, io_fds__more_than_the_client_takes);
	ATF_TP_ADD_TC(tp, io_fds__none_and_replaced);
	ATF_TP_ADD_TC(tp, access__data_travels);
	ATF_TP_ADD_TC(tp, access__outside);
	ATF_TP_ADD_TC(tp, access__device_says_no);
	ATF_TP_ADD_TC(tp, access__no_reply);
	ATF_TP_ADD_TC(tp, multi__all_arrive);
	ATF_TP_ADD_TC(tp, multi__lies);
	return atf_no_error();
}
