/* SPDX-License-Identifier: BSD-2-Clause */
#include "tests/dma/server.h"

/*
 * RAM in three ranges: two pages at 0 that are adjacent to a read-only page,
 * a hole, and a write-only page.
 */
#define READ_ONLY (2 * PAGE)
#define HOLE (3 * PAGE)
#define WRITE_ONLY (4 * PAGE)

struct world {
	struct server server;
	struct cleat_memory *memory;
	struct ram ram;
};

static void world_open(struct world *world)
{
	struct cleat_memory_range ranges[3];

	ram_make(&world->ram, 5);
	ranges[0] = ram_range(&world->ram, 0, 0, 2, READ_WRITE);
	ranges[1] = ram_range(&world->ram, READ_ONLY, 2, 1, CLEAT_READ);
	ranges[2] = ram_range(&world->ram, WRITE_ONLY, 4, 1, CLEAT_WRITE);
	ATF_REQUIRE_EQ(0, cleat_memory_create(&world->memory));
	for (int i = 0; i < 3; i++)
		ATF_REQUIRE_EQ(0, cleat_memory_add(world->memory, &ranges[i]));
	server_open(&world->server);
	ATF_REQUIRE_EQ(0, cleat_memory_attach(world->memory,
					      world->server.dev));
}

static void world_close(struct world *world)
{
	server_close(&world->server);
	cleat_memory_unref(world->memory);
	ram_free(&world->ram);
}

static int dma_read(struct world *world, uint64_t address, uint64_t count)
{
	return server_dma(&world->server, SERVER_READ, address, count, NULL, 0);
}

static void read_and_compare(struct world *world, uint64_t address,
			     size_t count)
{
	const struct peer_message *reply = &world->server.reply;
	uint64_t fixed[2];

	ATF_REQUIRE_EQ(0, dma_read(world, address, count));
	ATF_REQUIRE_EQ(sizeof(fixed) + count, reply->length);
	memcpy(fixed, reply->body, sizeof(fixed));
	ATF_REQUIRE_EQ(address, fixed[0]);
	ATF_REQUIRE_EQ(count, fixed[1]);
	ATF_REQUIRE(ram_holds(&world->ram, address,
			      (char *)reply->body + sizeof(fixed), count));
}

CLEAT_TC(read__in_range)
{
	static const size_t counts[] = { 0, 1, 3, 4, 8, 64, 65, 4096 };
	static struct world world;

	world_open(&world);
	for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]); i++) {
		read_and_compare(&world, 0, counts[i]);
		read_and_compare(&world, 13, counts[i]);
	}
	read_and_compare(&world, 2 * PAGE - 1, 1);
	world_close(&world);
}

CLEAT_TC(read__across_ranges)
{
	static struct world world;

	world_open(&world);
	read_and_compare(&world, 0, 3 * PAGE);
	read_and_compare(&world, READ_ONLY - 5, 10);
	world_close(&world);
}

CLEAT_TC(read__not_allowed)
{
	static struct world world;

	world_open(&world);
	ATF_CHECK_EQ(EFAULT, dma_read(&world, HOLE, 1));
	ATF_CHECK_EQ(EFAULT, dma_read(&world, HOLE - 1, 2));
	ATF_CHECK_EQ(EFAULT, dma_read(&world, HOLE - 4, PAGE + 8));
	ATF_CHECK_EQ(EFAULT, dma_read(&world, 1ull << 40, 8));
	ATF_CHECK_EQ(EFAULT, dma_read(&world, UINT64_MAX, 1));
	ATF_CHECK_EQ(EFAULT, dma_read(&world, UINT64_MAX, 2));
	ATF_CHECK_EQ(EACCES, dma_read(&world, WRITE_ONLY, 4));
	/* Refused, and no more: the connection goes on. */
	read_and_compare(&world, 0, 16);
	world_close(&world);
}

CLEAT_TC(read__absurd_counts)
{
	static struct world world;

	world_open(&world);
	ATF_CHECK_EQ(E2BIG, dma_read(&world, 0, UINT64_MAX));
	ATF_CHECK_EQ(E2BIG, dma_read(&world, 0, 1ull << 32));
	ATF_CHECK_EQ(E2BIG, dma_read(&world, 0, (1u << 20) + 1));
	ATF_CHECK_EQ(EINVAL, server_dma(&world.server, SERVER_READ, 0, 4, "abcd",
					4));
	read_and_compare(&world, 0, 16);
	world_close(&world);
}

static int dma_write(struct world *world, uint64_t address, const void *data,
		     size_t length)
{
	return server_dma(&world->server, SERVER_WRITE, address, length, data,
			  length);
}

static void write_and_compare(struct world *world, uint64_t address,
			      size_t count)
{
	char data[2 * PAGE];
	uint64_t fixed[2];

	memset(data, (int)(address + count), sizeof(data));
	ATF_REQUIRE_EQ(0, dma_write(world, address, data, count));
	ATF_REQUIRE_EQ(sizeof(fixed), world->server.reply.length);
	memcpy(fixed, world->server.reply.body, sizeof(fixed));
	ATF_REQUIRE_EQ(address, fixed[0]);
	ATF_REQUIRE_EQ(count, fixed[1]);
	ATF_REQUIRE(ram_holds(&world->ram, address, data, count));
}

CLEAT_TC(write__in_range)
{
	static const size_t counts[] = { 0, 1, 3, 4, 8, 16, 64, 68, 4096 };
	static struct world world;

	world_open(&world);
	for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]); i++) {
		write_and_compare(&world, 0, counts[i]);
		write_and_compare(&world, 8, counts[i]);
		write_and_compare(&world, 13, counts[i]);
	}
	write_and_compare(&world, WRITE_ONLY, PAGE);
	world_close(&world);
}

CLEAT_TC(write__not_allowed)
{
	static struct world world;
	static char data[2 * PAGE];
	unsigned char before[5 * PAGE];

	world_open(&world);
	ATF_REQUIRE_EQ(sizeof(before), pread(world.ram.fd, before,
					     sizeof(before), 0));
	memset(data, 0xee, sizeof(data));
	ATF_CHECK_EQ(EACCES, dma_write(&world, READ_ONLY, data, 4));
	ATF_CHECK_EQ(EACCES, dma_write(&world, READ_ONLY - 4, data, 8));
	ATF_CHECK_EQ(EFAULT, dma_write(&world, WRITE_ONLY + 8, data, PAGE));
	ATF_CHECK_EQ(EFAULT, dma_write(&world, HOLE, data, 1));
	ATF_CHECK_EQ(EFAULT, dma_write(&world, UINT64_MAX - 1, data, 8));
	/* Nothing of a write that is refused was done. */
	ATF_REQUIRE(ram_holds(&world.ram, 0, before, sizeof(before)));
	world_close(&world);
}

CLEAT_TC(write__count_is_a_lie)
{
	static struct world world;

	world_open(&world);
	ATF_CHECK_EQ(EINVAL, server_dma(&world.server, SERVER_WRITE, 0, 8,
					"abcd", 4));
	ATF_CHECK_EQ(EINVAL, server_dma(&world.server, SERVER_WRITE, 0, 2,
					"abcd", 4));
	ATF_CHECK_EQ(E2BIG, server_dma(&world.server, SERVER_WRITE, 0,
				       UINT64_MAX, "abcd", 4));
	write_and_compare(&world, 0, 16);
	world_close(&world);
}

CLEAT_TC(serve__short_of_its_fixed_part)
{
	static struct world world;
	struct server *server = &world.server;

	world_open(&world);
	for (uint16_t command = SERVER_READ; command <= SERVER_WRITE;
	     command++) {
		ATF_REQUIRE_EQ(0, peer_command(server->fd, 5, command,
					       "123456789012345", 15, NULL, 0));
		ATF_REQUIRE_EQ(1, wait_eventfd(server->replied, PATIENCE_MS));
		ATF_REQUIRE_EQ(EINVAL, server->reply.header.error);
	}
	world_close(&world);
}

CLEAT_TC(serve__removed_range)
{
	static struct world world;

	world_open(&world);
	ATF_REQUIRE_EQ(0, cleat_memory_remove(world.memory, 0, 2 * PAGE));
	ATF_CHECK_EQ(EFAULT, dma_read(&world, 0, 8));
	ATF_CHECK_EQ(EFAULT, dma_write(&world, 8, "12345678", 8));
	read_and_compare(&world, READ_ONLY, 16);
	world_close(&world);
}

CLEAT_TC(serve__detached_device)
{
	static struct world world;

	world_open(&world);
	ATF_REQUIRE_EQ(0, cleat_memory_detach(world.memory,
					      world.server.dev));
	ATF_CHECK_EQ(EINVAL, server_dma_unserved(&world.server, SERVER_READ, 0,
						 8));
	ATF_REQUIRE_EQ(0, cleat_memory_attach(world.memory,
					      world.server.dev));
	read_and_compare(&world, 0, 16);
	world_close(&world);
}

/* Adds and removes page 8 for as long as it is told to. */
struct churn {
	struct world *world;
	bool stop;
};

static void *churn(void *arg)
{
	struct churn *churn = arg;
	struct world *world = churn->world;
	struct cleat_memory_range range =
		ram_range(&world->ram, 8 * PAGE, 0, 1, READ_WRITE);
	intptr_t err = 0;

	while (!err && !__atomic_load_n(&churn->stop, __ATOMIC_RELAXED)) {
		err = cleat_memory_add(world->memory, &range);
		if (!err)
			err = cleat_memory_remove(world->memory, range.guest,
						  PAGE);
	}
	return (void *)err;
}

CLEAT_TC(serve__while_ranges_come_and_go)
{
	static struct world world;
	struct deadline limit = deadline_in(5 * PATIENCE_MS);
	struct churn going = { &world, false };
	unsigned served = 0, refused = 0;
	pthread_t thread;
	void *result;

	world_open(&world);
	ATF_REQUIRE_EQ(0, pthread_create(&thread, NULL, churn, &going));
	while (served < 200 || refused < 200) {
		int err = dma_read(&world, 8 * PAGE, 64);
		const char *body = world.server.reply.body;

		ATF_REQUIRE(!err || err == EFAULT);
		ATF_REQUIRE(err || ram_holds(&world.ram, 0, body + 16, 64));
		ATF_REQUIRE(deadline_left(&limit));
		served += !err;
		refused += !!err;
	}
	__atomic_store_n(&going.stop, true, __ATOMIC_RELAXED);
	pthread_join(thread, &result);
	ATF_REQUIRE_EQ(NULL, result);
	world_close(&world);
}

ATF_TP_ADD_TCS(tp)
{
	ATF_TP_ADD_TC(tp, read__in_range);
	ATF_TP_ADD_TC(tp, read__across_ranges);
	ATF_TP_ADD_TC(tp, read__not_allowed);
	ATF_TP_ADD_TC(tp, read__absurd_counts);
	ATF_TP_ADD_TC(tp, write__in_range);
	ATF_TP_ADD_TC(tp, write__not_allowed);
	ATF_TP_ADD_TC(tp, write__count_is_a_lie);
	ATF_TP_ADD_TC(tp, serve__short_of_its_fixed_part);
	ATF_TP_ADD_TC(tp, serve__removed_range);
	ATF_TP_ADD_TC(tp, serve__detached_device);
	ATF_TP_ADD_TC(tp, serve__while_ranges_come_and_go);
	return atf_no_error();
}
