/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Client and server are both ours here: the server's library in a thread, with
 * a device that does DMA when it is told to.
 */
#include <cleat/server.h>

#include "tests/dma/server.h"

#define GUEST 0x40000000ull
#define SCRATCH 0x200

/* Written at offset 0 of BAR 0: do this now, inside the write. */
struct order {
	uint64_t guest;
	uint32_t count;
	uint32_t right; /* CLEAT_READ into the scratch, or CLEAT_WRITE */
};

struct world {
	struct cleat_server *srv;
	struct script script;
	struct cleat_device *dev;
	struct cleat_memory *memory;
	struct ram ram;
	/* The device's, seen and changed by the server's thread only. */
	int32_t result;
	char scratch[256];
};

static int on_read(void *opaque, uint32_t index, uint64_t offset, void *buf,
		   size_t count)
{
	struct world *world = opaque;

	if (offset == 0 && count == sizeof(world->result))
		memcpy(buf, &world->result, count);
	else if (offset == SCRATCH && count <= sizeof(world->scratch))
		memcpy(buf, world->scratch, count);
	else
		return -EINVAL;
	return 0;
}

static int obey(struct world *world, const struct order *order)
{
	if (order->count > sizeof(world->scratch))
		return -EINVAL;
	if (order->right == CLEAT_READ)
		return cleat_server_dma_read(world->srv, order->guest,
					     world->scratch, order->count);
	return cleat_server_dma_write(world->srv, order->guest, world->scratch,
				      order->count);
}

static int on_write(void *opaque, uint32_t index, uint64_t offset,
		    const void *buf, size_t count)
{
	struct world *world = opaque;
	struct order order;

	if (offset == SCRATCH && count <= sizeof(world->scratch)) {
		memcpy(world->scratch, buf, count);
		return 0;
	}
	if (offset || count != sizeof(order))
		return -EINVAL;
	memcpy(&order, buf, sizeof(order));
	world->result = obey(world, &order);
	return 0;
}

static int run(void *arg)
{
	return cleat_server_run(((struct world *)arg)->srv);
}

static void serve(struct world *world, uint32_t flags, int fd)
{
	struct cleat_server_config config = { .size = sizeof(config),
					      .flags = flags };
	struct cleat_server_ops ops = { .size = sizeof(ops),
					.region_read = on_read,
					.region_write = on_write };
	struct cleat_server_region bar = {
		.size = sizeof(bar),
		.length = PAGE,
		.flags = CLEAT_REGION_READ | CLEAT_REGION_WRITE,
	};

	ATF_REQUIRE_EQ(0, cleat_server_create(&config, &ops, world,
					      &world->srv, NULL));
	ATF_REQUIRE_EQ(0, cleat_server_add_region(world->srv, &bar, NULL));
	ATF_REQUIRE_EQ(0, cleat_server_adopt(world->srv, fd, NULL));
	script_start(&world->script, run, world);
}

static void world_open(struct world *world, uint32_t server_flags)
{
	struct cleat_device_config config = { .size = sizeof(config) };
	struct cleat_error why;
	int ends[2];

	ram_make(&world->ram, 4);
	peer_pair(ends);
	serve(world, server_flags, ends[1]);
	config.fd = ends[0];
	ATF_REQUIRE_EQ_MSG(0, cleat_device_open(&config, &world->dev, &why),
			   "%s", why.text);
	close(ends[0]);
	ATF_REQUIRE_EQ(0, cleat_memory_create(&world->memory));
	ATF_REQUIRE_EQ(0, cleat_memory_attach(world->memory, world->dev));
}

static void world_close(struct world *world)
{
	cleat_device_unref(world->dev);
	script_end(&world->script);
	cleat_server_destroy(world->srv);
	cleat_memory_unref(world->memory);
	ram_free(&world->ram);
}

/* Two pages that may be written and one that may not. */
static void add_ram(struct world *world, bool with_fd)
{
	struct cleat_memory_range ranges[2] = {
		ram_range(&world->ram, GUEST, 0, 2, READ_WRITE),
		ram_range(&world->ram, GUEST + 2 * PAGE, 2, 1, CLEAT_READ),
	};

	for (int i = 0; i < 2; i++) {
		if (!with_fd)
			ranges[i].fd = -1;
		ATF_REQUIRE_EQ(0, cleat_memory_add(world->memory, &ranges[i]));
	}
}

static int order(struct world *world, uint64_t offset, uint32_t count,
		 uint32_t right)
{
	struct order order = { GUEST + offset, count, right };
	int32_t result;

	ATF_REQUIRE_EQ(0, cleat_region_write(world->dev, 0, 0, &order,
					     sizeof(order)));
	ATF_REQUIRE_EQ(0, cleat_region_read(world->dev, 0, 0, &result,
					    sizeof(result)));
	return result;
}

static uint64_t served(struct world *world)
{
	struct cleat_device_stats stats = { .size = sizeof(stats) };

	ATF_REQUIRE_EQ(0, cleat_device_stats(world->dev, &stats));
	return stats.server_requests;
}

static bool has_twin(struct world *world)
{
	struct cleat_device_info info = { .size = sizeof(info) };

	ATF_REQUIRE_EQ(0, cleat_device_info(world->dev, &info));
	return info.flags & CLEAT_DEVICE_INFO_TWIN;
}

/* There and back, at a place that crosses from one page to the next. */
static void go_both_ways(struct world *world)
{
	char data[200], back[200];

	ATF_REQUIRE_EQ(0, order(world, PAGE - 100, 200, CLEAT_READ));
	ATF_REQUIRE_EQ(0, cleat_region_read(world->dev, 0, SCRATCH, back,
					    sizeof(back)));
	ATF_REQUIRE(ram_holds(&world->ram, PAGE - 100, back, sizeof(back)));

	memset(data, 0xa5, sizeof(data));
	ATF_REQUIRE_EQ(0, cleat_region_write(world->dev, 0, SCRATCH, data,
					     sizeof(data)));
	ATF_REQUIRE_EQ(0, order(world, PAGE - 100, 200, CLEAT_WRITE));
	ATF_REQUIRE(ram_holds(&world->ram, PAGE - 100, data, sizeof(data)));
}

CLEAT_TC(dma__by_mapping)
{
	static struct world world;

	world_open(&world, 0);
	add_ram(&world, true);
	go_both_ways(&world);
	ATF_REQUIRE_EQ(0, served(&world));
	world_close(&world);
}

CLEAT_TC(dma__by_message_on_the_twin)
{
	static struct world world;

	world_open(&world, 0);
	add_ram(&world, false);
	ATF_REQUIRE(has_twin(&world));
	go_both_ways(&world);
	ATF_REQUIRE(served(&world) >= 2);
	world_close(&world);
}

/* The thread that waits for its write has to serve the DMA that it causes. */
CLEAT_TC(dma__by_message_on_the_main_socket)
{
	static struct world world;

	world_open(&world, CLEAT_SERVER_NO_TWIN);
	add_ram(&world, false);
	ATF_REQUIRE(!has_twin(&world));
	go_both_ways(&world);
	ATF_REQUIRE(served(&world) >= 2);
	world_close(&world);
}

CLEAT_TC(dma__without_the_right)
{
	static struct world mapped, sent;

	world_open(&mapped, 0);
	add_ram(&mapped, true);
	ATF_CHECK_EQ(-EACCES, order(&mapped, 2 * PAGE, 8, CLEAT_WRITE));
	ATF_CHECK_EQ(0, order(&mapped, 2 * PAGE, 8, CLEAT_READ));
	world_close(&mapped);
	world_open(&sent, 0);
	add_ram(&sent, false);
	ATF_CHECK_EQ(-EACCES, order(&sent, 2 * PAGE, 8, CLEAT_WRITE));
	ATF_CHECK_EQ(0, order(&sent, 2 * PAGE, 8, CLEAT_READ));
	world_close(&sent);
}

CLEAT_TC(dma__removed_range)
{
	static struct world world;

	world_open(&world, 0);
	add_ram(&world, true);
	ATF_REQUIRE_EQ(0, order(&world, 0, 8, CLEAT_READ));
	ATF_REQUIRE_EQ(0, cleat_memory_remove(world.memory, GUEST, 2 * PAGE));
	ATF_REQUIRE_EQ(-ENOENT, order(&world, 0, 8, CLEAT_READ));
	ATF_REQUIRE_EQ(0, order(&world, 2 * PAGE, 8, CLEAT_READ));
	ATF_REQUIRE_EQ(0, cleat_memory_detach(world.memory, world.dev));
	ATF_REQUIRE_EQ(-ENOENT, order(&world, 2 * PAGE, 8, CLEAT_READ));
	world_close(&world);
}

ATF_TP_ADD_TCS(tp)
{
	ATF_TP_ADD_TC(tp, dma__by_mapping);
	ATF_TP_ADD_TC(tp, dma__by_message_on_the_twin);
	ATF_TP_ADD_TC(tp, dma__by_message_on_the_main_socket);
	ATF_TP_ADD_TC(tp, dma__without_the_right);
	ATF_TP_ADD_TC(tp, dma__removed_range);
	return atf_no_error();
}
