/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * This library's client against what real servers were recorded to say: it
 * does what the recorded client did, through the public calls where there are
 * any, and must get out of each reply what is in it.
 */
#include <linux/vfio.h>
#include <stdio.h>
#include <sys/mman.h>

#include <cleat/memory.h>

#include "client/client.h"
#include "tests/interop/recorded_server.h"

#define MAX_RANGES 64

/* A device on the recorded server, and the memory that it was shown. */
struct rig {
	struct replay replay;
	struct recorded_server server;
	struct cleat_device *dev;
	struct cleat_memory *memory;
	struct {
		uint64_t guest;
		uint64_t length;
		void *host;
	} ranges[MAX_RANGES];
};

static void rig_open(struct rig *rig, const char *name)
{
	struct cleat_device_config config = { .size = sizeof(config),
					      .control_ms = PATIENCE_MS };
	struct cleat_error why = { 0 };

	replay_load(&rig->replay, name);
	config.fd = recorded_server_start(&rig->server, &rig->replay);
	ATF_REQUIRE_EQ_MSG(0, cleat_device_open(&config, &rig->dev, &why), "%s",
			   why.text);
	close(config.fd);
	ATF_REQUIRE_EQ(0, cleat_memory_create(&rig->memory));
	ATF_REQUIRE_EQ(0, cleat_memory_attach(rig->memory, rig->dev));
}

static void rig_close(struct rig *rig)
{
	struct cleat_error why = { 0 };

	recorded_server_wait(&rig->server, rig->replay.num);
	ATF_REQUIRE_EQ_MSG(0, cleat_device_failure(rig->dev, &why), "%s",
			   why.text);
	cleat_device_unref(rig->dev);
	recorded_server_end(&rig->server);
	cleat_memory_unref(rig->memory);
	for (unsigned i = 0; i < MAX_RANGES; i++)
		if (rig->ranges[i].host)
			munmap(rig->ranges[i].host, rig->ranges[i].length);
	replay_free(&rig->replay);
}

/* What the recorded reply to @i says: 0 or -errno. */
static int outcome(const struct rig *rig, unsigned i)
{
	int partner = rig->replay.partner[i];
	struct cleat_header header;

	if (partner < 0)
		return 0;
	header = replay_header(&rig->replay, (unsigned)partner);
	return cleat_header_error(&header);
}

/* --- What was learnt by opening ------------------------------------------ */

static void require_region(const struct rig *rig, const void *reply)
{
	struct cleat_region_info info = { .size = sizeof(info) };
	struct cleat_wire_region_info wire;

	memcpy(&wire, reply, sizeof(wire));
	ATF_REQUIRE_EQ(0, cleat_region_info(rig->dev, wire.index, &info));
	ATF_REQUIRE_EQ(wire.size, info.length);
	ATF_REQUIRE_EQ(wire.flags & (CLEAT_REGION_READ | CLEAT_REGION_WRITE),
		       info.flags & (CLEAT_REGION_READ | CLEAT_REGION_WRITE));
}

/* The last one asked for is the whole one. */
static void require_areas(const struct rig *rig, unsigned i)
{
	const struct cleat_stream_message *message = &rig->replay.messages[i];
	struct cleat_region_info info = { .size = sizeof(info) };
	struct cleat_wire_region region;
	size_t length;
	const void *payload = replay_payload(&rig->replay, i, &length);
	struct cleat_wire_region_info wire;
	struct cleat_region_area area;

	memcpy(&wire, payload, sizeof(wire));
	if (wire.argsz > length)
		return;
	ATF_REQUIRE_EQ(0, cleat_wire_parse_region(payload, length, wire.index,
						  message->num_fds, &region,
						  NULL));
	ATF_REQUIRE_EQ(0, cleat_region_info(rig->dev, wire.index, &info));
	ATF_REQUIRE_EQ(region.num_areas, info.num_areas);
	for (unsigned k = 0; k < info.num_areas; k++) {
		ATF_REQUIRE_EQ(
			0, cleat_region_area(rig->dev, wire.index, k, &area));
		ATF_REQUIRE_EQ(region.areas[k].offset, area.offset);
		ATF_REQUIRE_EQ(region.areas[k].length, area.length);
		ATF_REQUIRE_EQ(region.areas[k].fd_offset, area.fd_offset);
	}
	cleat_wire_region_free(&region);
}

static void require_irqs(const struct rig *rig, const void *reply)
{
	struct cleat_wire_irq_info wire;
	struct cleat_irq_info info;

	memcpy(&wire, reply, sizeof(wire));
	ATF_REQUIRE_EQ(0, cleat_device_irq_info(rig->dev, wire.index, &info));
	ATF_REQUIRE_EQ(wire.count, info.count);
	ATF_REQUIRE_EQ(wire.flags, info.flags);
}

static void require_device(const struct rig *rig, const void *reply)
{
	struct cleat_device_info info = { .size = sizeof(info) };
	struct cleat_wire_device_info wire;

	memcpy(&wire, reply, sizeof(wire));
	ATF_REQUIRE_EQ(0, cleat_device_info(rig->dev, &info));
	ATF_REQUIRE_EQ(wire.num_regions, info.num_regions);
	ATF_REQUIRE_EQ(wire.num_irqs, info.num_irqs);
	ATF_REQUIRE_EQ(!(wire.flags & VFIO_DEVICE_FLAGS_RESET),
		       !(info.flags & CLEAT_DEVICE_INFO_RESET));
}

static void require_learnt(const struct rig *rig, unsigned i)
{
	const struct replay *replay = &rig->replay;
	unsigned partner = (unsigned)replay->partner[i];
	const void *reply = replay_payload(replay, partner, NULL);

	if (outcome(rig, i))
		return;
	switch (replay_header(replay, i).command) {
	case VFIO_USER_DEVICE_GET_INFO:
		require_device(rig, reply);
		break;
	case VFIO_USER_DEVICE_GET_REGION_INFO:
		require_region(rig, reply);
		require_areas(rig, partner);
		break;
	case VFIO_USER_DEVICE_GET_IRQ_INFO:
		require_irqs(rig, reply);
	}
}

/* --- What was done then -------------------------------------------------- */

static void keep_range(struct rig *rig, const struct cleat_memory_range *range)
{
	unsigned i = 0;

	while (rig->ranges[i].host)
		i++;
	ATF_REQUIRE(i < MAX_RANGES);
	rig->ranges[i].guest = range->guest;
	rig->ranges[i].length = range->length;
	rig->ranges[i].host = range->host;
}

static void do_map(struct rig *rig, unsigned i)
{
	struct cleat_memory_range range = { .size = sizeof(range), .fd = -1 };
	struct cleat_wire_dma_map map;

	memcpy(&map, replay_payload(&rig->replay, i, NULL), sizeof(map));
	if (rig->replay.messages[i].num_fds)
		replay_stand_in(&rig->replay, i, &range.fd);
	range.guest = map.address;
	range.length = map.size;
	range.rights = map.flags & (CLEAT_READ | CLEAT_WRITE);
	range.offset = range.fd < 0 ? 0 : map.offset;
	range.host =
		mmap(NULL, map.size, PROT_READ | PROT_WRITE,
		     range.fd < 0 ? MAP_PRIVATE | MAP_ANONYMOUS : MAP_SHARED,
		     range.fd, (off_t)range.offset);
	ATF_REQUIRE(range.host != MAP_FAILED);
	ATF_REQUIRE_EQ_MSG(outcome(rig, i),
			   cleat_memory_add(rig->memory, &range), "message %u",
			   i);
	keep_range(rig, &range);
	if (range.fd >= 0)
		close(range.fd);
}

static void do_call(struct rig *rig, unsigned i)
{
	const struct replay *replay = &rig->replay;
	unsigned partner = (unsigned)replay->partner[i];
	struct cleat_call call = {
		.command = replay_header(replay, i).command,
		.deadline_class = CLEAT_CALL_QUIESCE,
		.num_fds = replay->messages[i].num_fds,
	};
	const void *wanted;
	int fds[CLEAT_MAX_FDS], err;

	call.head = replay_payload(replay, i, &call.head_size);
	call.fds = fds;
	replay_stand_in(replay, i, fds);
	wanted = replay_payload(replay, partner, &call.reply_size);
	call.reply = malloc(call.reply_size + 1);
	err = cleat_call(rig->dev, &call, NULL);
	ATF_REQUIRE_EQ_MSG(outcome(rig, i), err, "message %u: %d", i, err);
	if (!err && call.reply_size) {
		ATF_REQUIRE_EQ(call.reply_size, call.got);
		ATF_REQUIRE(!memcmp(wanted, call.reply, call.got));
	}
	free(call.reply);
	for (unsigned k = 0; k < call.num_fds; k++)
		close(fds[k]);
}

static void do_unmap(struct rig *rig, unsigned i)
{
	struct cleat_wire_dma_unmap unmap;

	memcpy(&unmap, replay_payload(&rig->replay, i, NULL), sizeof(unmap));
	if (unmap.flags) { /* all of them, or with their dirty pages */
		do_call(rig, i);
		return;
	}
	ATF_REQUIRE_EQ_MSG(
		outcome(rig, i),
		cleat_memory_remove(rig->memory, unmap.address, unmap.size),
		"message %u", i);
	for (unsigned k = 0; k < MAX_RANGES; k++) {
		if (rig->ranges[k].guest != unmap.address ||
		    rig->ranges[k].length != unmap.size)
			continue;
		munmap(rig->ranges[k].host, unmap.size);
		rig->ranges[k].host = NULL;
		rig->ranges[k].length = 0;
	}
}

static void do_read(struct rig *rig, unsigned i)
{
	struct cleat_wire_access access;
	const uint8_t *reply;
	void *buf;
	int err;

	memcpy(&access, replay_payload(&rig->replay, i, NULL), sizeof(access));
	buf = malloc(access.count);
	err = cleat_region_read(rig->dev, access.region, access.offset, buf,
				access.count);
	ATF_REQUIRE_EQ_MSG(outcome(rig, i), err, "message %u: %d", i, err);
	reply = replay_payload(&rig->replay, (unsigned)rig->replay.partner[i],
			       NULL);
	ATF_REQUIRE_MSG(
		err || !memcmp(reply + sizeof(access), buf, access.count),
		"message %u: other data than recorded", i);
	free(buf);
}

static void do_write(struct rig *rig, unsigned i)
{
	const uint8_t *payload = replay_payload(&rig->replay, i, NULL);
	struct cleat_wire_access access;
	int err;

	memcpy(&access, payload, sizeof(access));
	if (replay_header(&rig->replay, i).flags & CLEAT_HEADER_NO_REPLY)
		err = cleat_region_post(rig->dev, access.region, access.offset,
					payload + sizeof(access), access.count);
	else
		err = cleat_region_write(rig->dev, access.region, access.offset,
					 payload + sizeof(access),
					 access.count);
	ATF_REQUIRE_EQ_MSG(outcome(rig, i), err, "message %u: %d", i, err);
}

/* A recorded client may also ask for what is not there, or know it from
 * elsewhere. */
static bool is_known(const struct rig *rig, unsigned i)
{
	struct cleat_region_info info = { .size = sizeof(info) };
	struct cleat_wire_access access;

	memcpy(&access, replay_payload(&rig->replay, i, NULL), sizeof(access));
	return !cleat_region_info(rig->dev, access.region, &info) &&
	       info.length;
}

static void do_access(struct rig *rig, unsigned i)
{
	if (!is_known(rig, i))
		do_call(rig, i);
	else if (replay_header(&rig->replay, i).command ==
		 VFIO_USER_REGION_READ)
		do_read(rig, i);
	else
		do_write(rig, i);
}

static void do_again(struct rig *rig, unsigned i)
{
	recorded_server_wait(&rig->server, i);
	rig->server.at = i;
	switch (replay_header(&rig->replay, i).command) {
	case VFIO_USER_VERSION:
	case VFIO_USER_DEVICE_GET_INFO:
	case VFIO_USER_DEVICE_GET_REGION_INFO:
	case VFIO_USER_DEVICE_GET_IRQ_INFO:
		require_learnt(rig, i);
		break;
	case VFIO_USER_DMA_MAP:
		do_map(rig, i);
		break;
	case VFIO_USER_DMA_UNMAP:
		do_unmap(rig, i);
		break;
	case VFIO_USER_REGION_READ:
	case VFIO_USER_REGION_WRITE:
		do_access(rig, i);
		break;
	case VFIO_USER_DEVICE_RESET:
		ATF_REQUIRE_EQ(outcome(rig, i), cleat_device_reset(rig->dev));
		break;
	default:
		do_call(rig, i);
	}
}

static void replay(const char *name)
{
	static struct rig rig;

	rig_open(&rig, name);
	for (unsigned i = 0; i < rig.replay.num; i++)
		if (replay_is_request(&rig.replay, i))
			do_again(&rig, i);
	/* Nothing was left out. */
	for (unsigned i = 0; i < rig.replay.num; i++)
		if (replay_is_request(&rig.replay, i))
			REQUIRE_SOON(rig.server.used[i]);
	rig_close(&rig);
}

CLEAT_TC(replay__libvfio_user_source)
{
	replay("client-source");
}

CLEAT_TC(replay__libvfio_user_destination)
{
	replay("client-destination");
}

CLEAT_TC(replay__libvfio_user_to_qemu)
{
	replay("qemu-gpio");
}

CLEAT_TC(replay__libvfio_user_to_qemu_booting)
{
	replay("qemu-boot");
}

CLEAT_TC(replay__libvfio_user_to_qemu_posting)
{
	replay("qemu-shadow");
}

CLEAT_TC(replay__libvfio_user_sparse_region)
{
	replay("qemu-sparse");
}

ATF_TP_ADD_TCS(tp)
{
	ATF_TP_ADD_TC(tp, replay__libvfio_user_source);
	ATF_TP_ADD_TC(tp, replay__libvfio_user_destination);
	ATF_TP_ADD_TC(tp, replay__libvfio_user_to_qemu);
	ATF_TP_ADD_TC(tp, replay__libvfio_user_to_qemu_booting);
	ATF_TP_ADD_TC(tp, replay__libvfio_user_to_qemu_posting);
	ATF_TP_ADD_TC(tp, replay__libvfio_user_sparse_region);
	return atf_no_error();
}
