/* SPDX-License-Identifier: BSD-2-Clause */
#include "tests/dma/server.h"

#define MANY 300

static struct cleat_memory *memory_with(struct ram *ram, unsigned ranges)
{
	struct cleat_memory *memory;

	ram_make(ram, ranges);
	ATF_REQUIRE_EQ(0, cleat_memory_create(&memory));
	for (unsigned i = 0; i < ranges; i++) {
		struct cleat_memory_range range =
			ram_range(ram, 2 * i * PAGE, i, 1, READ_WRITE);

		ATF_REQUIRE_EQ(0, cleat_memory_add(memory, &range));
	}
	return memory;
}

CLEAT_TC(attach__many_ranges)
{
	static struct server server;
	struct ram ram;
	struct cleat_memory *memory = memory_with(&ram, MANY);

	server_open(&server);
	ATF_REQUIRE_EQ(0, cleat_memory_attach(memory, server.dev));
	ATF_REQUIRE_EQ(MANY, SERVER_GET(&server, num_maps));
	for (unsigned i = 0; i < MANY; i++) {
		const struct server_map *map =
			server_find(&server, 2 * i * PAGE);

		ATF_REQUIRE(map);
		ATF_REQUIRE_EQ(i * PAGE, map->offset);
		ATF_REQUIRE(map->fd >= 0);
	}
	ATF_REQUIRE_EQ(0, cleat_memory_detach(memory, server.dev));
	ATF_REQUIRE_EQ(0, SERVER_GET(&server, num_maps));
	server_close(&server);
	cleat_memory_unref(memory);
	ram_free(&ram);
}

/* The first, early ones, one behind a full window of them, the last. */
static void attach_refused(unsigned refuse_map)
{
	struct server server = { .refuse_map = refuse_map };
	struct ram ram;
	struct cleat_memory *memory = memory_with(&ram, MANY);

	server_open(&server);
	ATF_REQUIRE_EQ(-EPERM, cleat_memory_attach(memory, server.dev));
	ATF_REQUIRE_EQ(0, SERVER_GET(&server, num_maps));
	ATF_REQUIRE_EQ(0, cleat_device_failure(server.dev, NULL));
	ATF_REQUIRE_EQ(-ENOENT, cleat_memory_detach(memory, server.dev));
	/* It was no more than a refusal: the next try may go well. */
	ATF_REQUIRE_EQ(0, cleat_memory_attach(memory, server.dev));
	ATF_REQUIRE_EQ(MANY, SERVER_GET(&server, num_maps));
	server_close(&server);
	cleat_memory_unref(memory);
	ram_free(&ram);
}

CLEAT_TC(attach__refused_half_way)
{
	static const unsigned refused[] = { 1, 100, 250, MANY };

	for (unsigned i = 0; i < 4; i++)
		attach_refused(refused[i]);
}

CLEAT_TC(attach__more_than_the_server_takes)
{
	static struct server server = {
		.json = "{\"capabilities\":{\"max_dma_maps\":2}}" };
	struct ram ram;
	struct cleat_memory *memory = memory_with(&ram, 3);

	server_open(&server);
	ATF_REQUIRE_EQ(-ENOSPC, cleat_memory_attach(memory, server.dev));
	ATF_REQUIRE_EQ(0, SERVER_GET(&server, mapped));
	server_close(&server);
	cleat_memory_unref(memory);
	ram_free(&ram);
}

CLEAT_TC(attach__twice)
{
	static struct server server;
	struct cleat_memory *memory, *other;

	ATF_REQUIRE_EQ(0, cleat_memory_create(&memory));
	ATF_REQUIRE_EQ(0, cleat_memory_create(&other));
	server_open(&server);
	ATF_REQUIRE_EQ(0, cleat_memory_attach(memory, server.dev));
	ATF_REQUIRE_EQ(-EBUSY, cleat_memory_attach(memory, server.dev));
	ATF_REQUIRE_EQ(-EBUSY, cleat_memory_attach(other, server.dev));
	ATF_REQUIRE_EQ(-ENOENT, cleat_memory_detach(other, server.dev));
	ATF_REQUIRE_EQ(0, cleat_memory_detach(memory, server.dev));
	ATF_REQUIRE_EQ(0, cleat_memory_attach(other, server.dev));
	server_close(&server);
	cleat_memory_unref(other);
	cleat_memory_unref(memory);
}

CLEAT_TC(attach__server_dies_meanwhile)
{
	static struct server server = { .die_at_map = 100 };
	struct ram ram;
	struct cleat_memory *memory = memory_with(&ram, MANY);

	server_open(&server);
	ATF_REQUIRE_EQ(-ENOTCONN, cleat_memory_attach(memory, server.dev));
	ATF_REQUIRE_EQ(-ENOTCONN, cleat_device_failure(server.dev, NULL));
	server_close(&server);
	cleat_memory_unref(memory);
	ram_free(&ram);
}

CLEAT_TC(unref__memory_before_device)
{
	static struct server first, second;
	struct ram ram;
	struct cleat_memory *memory = memory_with(&ram, 3);

	server_open(&first);
	server_open(&second);
	ATF_REQUIRE_EQ(0, cleat_memory_attach(memory, first.dev));
	ATF_REQUIRE_EQ(0, cleat_memory_attach(memory, second.dev));
	ATF_REQUIRE(!cleat_memory_unref(memory));
	/* No handler is left that would reach for the memory. */
	ATF_REQUIRE_EQ(EINVAL, server_dma_unserved(&first, SERVER_READ, 0, 4));
	ATF_REQUIRE_EQ(0, SERVER_GET(&first, unmapped));
	server_close(&first);
	server_close(&second);
	ram_free(&ram);
}

CLEAT_TC(unref__device_before_memory)
{
	static struct server first, second;
	struct ram ram;
	struct cleat_memory *memory = memory_with(&ram, 3);

	server_open(&first);
	server_open(&second);
	ATF_REQUIRE_EQ(0, cleat_memory_attach(memory, first.dev));
	ATF_REQUIRE_EQ(0, cleat_memory_attach(memory, second.dev));
	server_close(&first);
	ATF_REQUIRE_EQ(0, cleat_memory_remove(memory, 0, PAGE));
	ATF_REQUIRE_EQ(2, SERVER_GET(&second, num_maps));
	server_close(&second);
	ATF_REQUIRE_EQ(0, cleat_memory_remove(memory, 2 * PAGE, PAGE));
	cleat_memory_unref(memory);
	ram_free(&ram);
}

CLEAT_TC(unref__nothing)
{
	ATF_REQUIRE(!cleat_memory_unref(NULL));
}

ATF_TP_ADD_TCS(tp)
{
	ATF_TP_ADD_TC(tp, attach__many_ranges);
	ATF_TP_ADD_TC(tp, attach__refused_half_way);
	ATF_TP_ADD_TC(tp, attach__more_than_the_server_takes);
	ATF_TP_ADD_TC(tp, attach__twice);
	ATF_TP_ADD_TC(tp, attach__server_dies_meanwhile);
	ATF_TP_ADD_TC(tp, unref__memory_before_device);
	ATF_TP_ADD_TC(tp, unref__device_before_memory);
	ATF_TP_ADD_TC(tp, unref__nothing);
	return atf_no_error();
}
