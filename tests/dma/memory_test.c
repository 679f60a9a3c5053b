/* SPDX-License-Identifier: BSD-2-Clause */
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "tests/dma/server.h"

/* One server, one memory and some RAM, in most cases. */
struct world {
	struct server server;
	struct cleat_memory *memory;
	struct ram ram;
};

static void world_open(struct world *world)
{
	ram_make(&world->ram, 1024);
	ATF_REQUIRE_EQ(0, cleat_memory_create(&world->memory));
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

static int add(struct cleat_memory *memory, struct cleat_memory_range range)
{
	return cleat_memory_add(memory, &range);
}

static bool same_file(int a, int b)
{
	struct stat first, second;

	return !fstat(a, &first) && !fstat(b, &second) &&
	       first.st_ino == second.st_ino && first.st_dev == second.st_dev;
}

CLEAT_TC(add__mapped_with_its_file)
{
	static struct world world;
	const struct server_map *map;

	world_open(&world);
	ATF_REQUIRE_EQ(0, add(world.memory, ram_range(&world.ram, 0x100000, 2,
						      3, READ_WRITE)));
	map = server_find(&world.server, 0x100000);
	ATF_REQUIRE(map);
	ATF_REQUIRE_EQ(3 * PAGE, map->size);
	ATF_REQUIRE_EQ(2 * PAGE, map->offset);
	ATF_REQUIRE_EQ(3, map->flags);
	ATF_REQUIRE(same_file(map->fd, world.ram.fd));
	ATF_REQUIRE_EQ(O_RDWR, fcntl(map->fd, F_GETFL) & O_ACCMODE);
	world_close(&world);
}

CLEAT_TC(add__read_only_at_the_server)
{
	static struct world world;
	const struct server_map *map;

	world_open(&world);
	ATF_REQUIRE_EQ(0, add(world.memory,
			      ram_range(&world.ram, 0, 0, 1, CLEAT_READ)));
	map = server_find(&world.server, 0);
	ATF_REQUIRE(map);
	ATF_REQUIRE_EQ(1, map->flags);
	ATF_REQUIRE(same_file(map->fd, world.ram.fd));
	ATF_REQUIRE_EQ(O_RDONLY, fcntl(map->fd, F_GETFL) & O_ACCMODE);
	ATF_REQUIRE_EQ(MAP_FAILED, mmap(NULL, PAGE, PROT_READ | PROT_WRITE,
					MAP_SHARED, map->fd, 0));
	ATF_REQUIRE_EQ(-1, write(map->fd, "x", 1));
	world_close(&world);
}

CLEAT_TC(add__by_message_only)
{
	static struct world world;
	struct cleat_memory_range range;
	const struct server_map *map;

	world_open(&world);
	range = ram_range(&world.ram, PAGE, 1, 1, READ_WRITE);
	range.fd = -1;
	ATF_REQUIRE_EQ(0, cleat_memory_add(world.memory, &range));
	map = server_find(&world.server, PAGE);
	ATF_REQUIRE(map);
	ATF_REQUIRE_EQ(-1, map->fd);
	ATF_REQUIRE_EQ(0, map->offset);
	world_close(&world);
}

static int try_changed(struct cleat_memory *memory,
		       struct cleat_memory_range range, unsigned change)
{
	switch (change) {
	case 0: range.length = 0; break;
	case 1: range.length = PAGE + 1; break;
	case 2: range.guest = 1; break;
	case 3: range.offset = 512; break;
	case 4: range.rights = 0; break;
	case 5: range.rights = 0x13; break;
	case 6: range.size = sizeof(range) - 1; break;
	case 7: range.host = NULL; break;
	case 8: range.guest = -(uint64_t)PAGE; break;
	case 9: range.host = (void *)-(uintptr_t)PAGE; break;
	case 10: range.offset = -(uint64_t)PAGE; break;
	case 11: range.offset = 1024 * PAGE; break;
	case 12: range.length = 1025 * PAGE; break;
	case 13: range.fd = 1000; break;
	}
	return cleat_memory_add(memory, &range);
}

CLEAT_TC(add__impossible)
{
	static const int wanted[] = {
		-EINVAL, -EINVAL, -EINVAL, -EINVAL, -EINVAL, -EINVAL, -EINVAL,
		-EINVAL, -ERANGE, -ERANGE, -ERANGE, -ERANGE, -ERANGE, -EBADF,
	};
	static struct world world;

	world_open(&world);
	for (unsigned i = 0; i < sizeof(wanted) / sizeof(wanted[0]); i++) {
		struct cleat_memory_range range =
			ram_range(&world.ram, 0, 0, 1, READ_WRITE);
		int err = try_changed(world.memory, range, i);

		ATF_CHECK_EQ_MSG(wanted[i], err, "change %u gave %d", i, err);
	}
	ATF_REQUIRE_EQ(0, SERVER_GET(&world.server, mapped));
	world_close(&world);
}

CLEAT_TC(add__file_without_the_right)
{
	static struct world world;
	struct cleat_memory_range range;
	int fd;

	world_open(&world);
	range = ram_range(&world.ram, 0, 0, 1, READ_WRITE);
	fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	range.fd = fd;
	ATF_REQUIRE_EQ(-EACCES, cleat_memory_add(world.memory, &range));
	range.rights = CLEAT_READ;
	ATF_REQUIRE_EQ(0, cleat_memory_add(world.memory, &range));
	close(fd);
	world_close(&world);
}

CLEAT_TC(add__not_a_file)
{
	static struct world world;
	struct cleat_memory_range range;
	int ends[2];

	world_open(&world);
	range = ram_range(&world.ram, 0, 0, 1, READ_WRITE);
	peer_pair(ends);
	range.fd = ends[0];
	ATF_REQUIRE_EQ(-EINVAL, cleat_memory_add(world.memory, &range));
	close(ends[0]);
	close(ends[1]);
	world_close(&world);
}

CLEAT_TC(add__overlap)
{
	static struct world world;
	struct ram *ram = &world.ram;

	world_open(&world);
	ATF_REQUIRE_EQ(0, add(world.memory, ram_range(ram, 0x10000, 0, 4,
						      READ_WRITE)));
	ATF_CHECK_EQ(-EEXIST, add(world.memory, ram_range(ram, 0x10000, 0, 4,
							  READ_WRITE)));
	ATF_CHECK_EQ(-EEXIST, add(world.memory, ram_range(ram, 0x11000, 0, 1,
							  READ_WRITE)));
	ATF_CHECK_EQ(-EEXIST, add(world.memory, ram_range(ram, 0xf000, 0, 2,
							  READ_WRITE)));
	ATF_CHECK_EQ(-EEXIST, add(world.memory, ram_range(ram, 0xf000, 0, 9,
							  READ_WRITE)));
	ATF_CHECK_EQ(0, add(world.memory, ram_range(ram, 0xf000, 0, 1,
						    READ_WRITE)));
	ATF_CHECK_EQ(0, add(world.memory, ram_range(ram, 0x14000, 0, 1,
						    READ_WRITE)));
	ATF_REQUIRE_EQ(3, SERVER_GET(&world.server, mapped));
	ATF_REQUIRE_EQ(3, SERVER_GET(&world.server, num_maps));
	world_close(&world);
}

CLEAT_TC(add__refused_by_one_of_two)
{
	static struct server second = { .refuse_map = 2 };
	static struct world world;

	world_open(&world);
	server_open(&second);
	ATF_REQUIRE_EQ(0, cleat_memory_attach(world.memory, second.dev));
	ATF_REQUIRE_EQ(0, add(world.memory, ram_range(&world.ram, 0, 0, 1,
						      READ_WRITE)));
	ATF_REQUIRE_EQ(-EPERM, add(world.memory,
				   ram_range(&world.ram, PAGE, 1, 1,
					     READ_WRITE)));
	ATF_REQUIRE(server_find(&world.server, 0));
	ATF_REQUIRE(server_find(&second, 0));
	ATF_REQUIRE(!server_find(&world.server, PAGE));
	ATF_REQUIRE_EQ(1, SERVER_GET(&world.server, unmapped));
	ATF_REQUIRE_EQ(0, SERVER_GET(&second, unmapped));
	/* Nothing of it is left: it can be added now. */
	ATF_REQUIRE_EQ(0, add(world.memory, ram_range(&world.ram, PAGE, 1, 1,
						      READ_WRITE)));
	server_close(&second);
	world_close(&world);
}

CLEAT_TC(add__more_than_the_server_takes)
{
	static struct world world = { .server = {
		.json = "{\"capabilities\":{\"max_dma_maps\":2}}" } };

	world_open(&world);
	for (unsigned i = 0; i < 2; i++)
		ATF_REQUIRE_EQ(0, add(world.memory,
				      ram_range(&world.ram, i * PAGE, i, 1,
						READ_WRITE)));
	ATF_REQUIRE_EQ(-ENOSPC, add(world.memory,
				    ram_range(&world.ram, 2 * PAGE, 2, 1,
					      READ_WRITE)));
	ATF_REQUIRE_EQ(0, cleat_memory_remove(world.memory, 0, PAGE));
	ATF_REQUIRE_EQ(0, add(world.memory, ram_range(&world.ram, 2 * PAGE, 2,
						      1, READ_WRITE)));
	world_close(&world);
}

CLEAT_TC(add__servers_pages_are_larger)
{
	static struct world world = { .server = {
		.json = "{\"capabilities\":{\"pgsizes\":65536}}" } };

	world_open(&world);
	ATF_REQUIRE_EQ(-EINVAL, add(world.memory,
				    ram_range(&world.ram, 0, 0, 1,
					      READ_WRITE)));
	ATF_REQUIRE_EQ(-EINVAL, add(world.memory,
				    ram_range(&world.ram, PAGE, 0, 16,
					      READ_WRITE)));
	ATF_REQUIRE_EQ(0, add(world.memory, ram_range(&world.ram, 0x10000, 0,
						      16, READ_WRITE)));
	world_close(&world);
}

CLEAT_TC(add__one_device_is_lost)
{
	static struct world world;
	static struct server second;

	world_open(&world);
	server_open(&second);
	ATF_REQUIRE_EQ(0, cleat_memory_attach(world.memory, second.dev));
	shutdown(second.fd, SHUT_RDWR);
	REQUIRE_SOON(cleat_device_failure(second.dev, NULL) == -ENOTCONN);
	ATF_REQUIRE_EQ(0, add(world.memory, ram_range(&world.ram, 0, 0, 1,
						      READ_WRITE)));
	ATF_REQUIRE(server_find(&world.server, 0));
	/* What the lost one still has is its own secret. */
	ATF_REQUIRE_EQ(-ENOTCONN, cleat_memory_remove(world.memory, 0, PAGE));
	ATF_REQUIRE(!server_find(&world.server, 0));
	server_close(&second);
	world_close(&world);
}

CLEAT_TC(remove__not_there)
{
	static struct world world;

	world_open(&world);
	ATF_REQUIRE_EQ(0, add(world.memory, ram_range(&world.ram, 0x10000, 0,
						      4, READ_WRITE)));
	ATF_CHECK_EQ(-ENOENT, cleat_memory_remove(world.memory, 0, PAGE));
	ATF_CHECK_EQ(-ENOENT, cleat_memory_remove(world.memory, 0x10000,
						  PAGE));
	ATF_CHECK_EQ(-ENOENT, cleat_memory_remove(world.memory, 0x11000,
						  3 * PAGE));
	ATF_REQUIRE_EQ(0, SERVER_GET(&world.server, unmapped));
	ATF_REQUIRE_EQ(0, cleat_memory_remove(world.memory, 0x10000,
					      4 * PAGE));
	ATF_CHECK_EQ(-ENOENT, cleat_memory_remove(world.memory, 0x10000,
						  4 * PAGE));
	world_close(&world);
}

CLEAT_TC(remove__and_add_again)
{
	static struct world world;
	unsigned fds = 0;

	world_open(&world);
	for (unsigned i = 0; i < 50; i++) {
		ATF_REQUIRE_EQ(0, add(world.memory,
				      ram_range(&world.ram, 0, i, 2,
						READ_WRITE)));
		ATF_REQUIRE_EQ(i * PAGE,
			       server_find(&world.server, 0)->offset);
		ATF_REQUIRE_EQ(0, cleat_memory_remove(world.memory, 0,
						      2 * PAGE));
		if (!i)
			fds = count_fds();
	}
	ATF_REQUIRE_EQ(fds, count_fds());
	ATF_REQUIRE_EQ(0, SERVER_GET(&world.server, num_maps));
	world_close(&world);
}

CLEAT_TC(remove__bare_reply)
{
	static struct world world = { .server = { .bare_unmap = true } };

	world_open(&world);
	ATF_REQUIRE_EQ(0, add(world.memory, ram_range(&world.ram, 0, 0, 1,
						      READ_WRITE)));
	ATF_REQUIRE_EQ(0, cleat_memory_remove(world.memory, 0, PAGE));
	world_close(&world);
}

CLEAT_TC(remove__server_is_silent)
{
	static struct server mute = { .mute_unmap = true, .quiesce_ms = 200 };
	static struct world world;
	struct deadline limit;

	world_open(&world);
	server_open(&mute);
	ATF_REQUIRE_EQ(0, cleat_memory_attach(world.memory, mute.dev));
	ATF_REQUIRE_EQ(0, add(world.memory, ram_range(&world.ram, 0, 0, 1,
						      READ_WRITE)));
	limit = deadline_in(5000);
	ATF_REQUIRE_EQ(-ETIMEDOUT, cleat_memory_remove(world.memory, 0, PAGE));
	ATF_REQUIRE(deadline_spent(&limit) >= 150);
	ATF_REQUIRE(deadline_left(&limit));
	ATF_REQUIRE_EQ(-ENOTCONN, cleat_device_failure(mute.dev, NULL));
	/* The other one has let go, and goes on. */
	ATF_REQUIRE(!server_find(&world.server, 0));
	ATF_REQUIRE_EQ(0, add(world.memory, ram_range(&world.ram, 0, 0, 1,
						      READ_WRITE)));
	server_close(&mute);
	world_close(&world);
}

CLEAT_TC(remove__server_refuses)
{
	static struct world world = { .server = { .refuse_unmap = true } };

	world_open(&world);
	ATF_REQUIRE_EQ(0, add(world.memory, ram_range(&world.ram, 0, 0, 1,
						      READ_WRITE)));
	ATF_REQUIRE_EQ(-ENOTCONN, cleat_memory_remove(world.memory, 0, PAGE));
	ATF_REQUIRE_EQ(-ENOTCONN,
		       cleat_device_failure(world.server.dev, NULL));
	world_close(&world);
}

ATF_TP_ADD_TCS(tp)
{
	ATF_TP_ADD_TC(tp, add__mapped_with_its_file);
	ATF_TP_ADD_TC(tp, add__read_only_at_the_server);
	ATF_TP_ADD_TC(tp, add__by_message_only);
	ATF_TP_ADD_TC(tp, add__impossible);
	ATF_TP_ADD_TC(tp, add__file_without_the_right);
	ATF_TP_ADD_TC(tp, add__not_a_file);
	ATF_TP_ADD_TC(tp, add__overlap);
	ATF_TP_ADD_TC(tp, add__refused_by_one_of_two);
	ATF_TP_ADD_TC(tp, add__more_than_the_server_takes);
	ATF_TP_ADD_TC(tp, add__servers_pages_are_larger);
	ATF_TP_ADD_TC(tp, add__one_device_is_lost);
	ATF_TP_ADD_TC(tp, remove__not_there);
	ATF_TP_ADD_TC(tp, remove__and_add_again);
	ATF_TP_ADD_TC(tp, remove__bare_reply);
	ATF_TP_ADD_TC(tp, remove__server_is_silent);
	ATF_TP_ADD_TC(tp, remove__server_refuses);
	return atf_no_error();
}
