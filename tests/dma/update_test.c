/* SPDX-License-Identifier: BSD-2-Clause */
/* Many changes of guest memory at once, and what servers hear of them. */
#include <stdatomic.h>
#include <stdio.h>

#include "tests/dma/server.h"

#define MERGE CLEAT_MEMORY_UPDATE_MERGE
#define PAGES 1024u
#define MOST 2048

/* One server, one memory, some RAM and a list of changes. */
struct world {
	struct server server;
	struct cleat_memory *memory;
	struct ram ram;
	struct cleat_memory_change changes[MOST];
	size_t num;
};

static void world_open(struct world *world)
{
	ram_make(&world->ram, PAGES);
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

/* Guest addresses are those in the RAM, all in pages. */
static void change(struct world *world, uint32_t kind, size_t first,
		   size_t pages, uint32_t rights)
{
	world->changes[world->num++] = (struct cleat_memory_change){
		.kind = kind,
		.range = ram_range(&world->ram, first * PAGE, first, pages,
				   rights),
	};
}

static void plan_add(struct world *world, size_t first, size_t pages)
{
	change(world, CLEAT_MEMORY_CHANGE_ADD, first, pages, READ_WRITE);
}

static void plan_remove(struct world *world, size_t first, size_t pages)
{
	change(world, CLEAT_MEMORY_CHANGE_REMOVE, first, pages, READ_WRITE);
}

static int update(struct world *world, uint32_t flags)
{
	size_t num = world->num;

	world->num = 0;
	return cleat_memory_update(world->memory, world->changes, num, flags);
}

/* The commands that the server has had since it was opened. */
#define CHECK_MESSAGES(world, maps, unmaps)                                    \
	do {                                                                   \
		ATF_CHECK_EQ(maps, SERVER_GET(&(world)->server, mapped));      \
		ATF_CHECK_EQ(unmaps, SERVER_GET(&(world)->server, unmapped));  \
	} while (0)

static bool is_mapped(struct world *world, size_t first, size_t pages)
{
	const struct server_map *map =
		server_find(&world->server, first * PAGE);

	return map && map->size == pages * PAGE && map->offset == first * PAGE;
}

/* --- What cancels out, and what does not ----------------------------------------- */

CLEAT_TC(update__nothing_changes)
{
	static struct world world;

	world_open(&world);
	plan_add(&world, 0, 16);
	plan_add(&world, 32, 16);
	ATF_REQUIRE_EQ(0, update(&world, 0));
	CHECK_MESSAGES(&world, 2, 0);
	plan_remove(&world, 0, 16);
	plan_remove(&world, 32, 16);
	plan_add(&world, 32, 16);
	plan_add(&world, 0, 16);
	plan_add(&world, 64, 1);
	plan_remove(&world, 64, 1);
	ATF_REQUIRE_EQ(0, update(&world, 0));
	ATF_REQUIRE_EQ(0, update(&world, 0));
	CHECK_MESSAGES(&world, 2, 0);
	ATF_REQUIRE_EQ(0, cleat_memory_remove(world.memory, 0, 16 * PAGE));
	CHECK_MESSAGES(&world, 2, 1);
	world_close(&world);
}

/* The same addresses, and yet not the same. */
CLEAT_TC(update__other_memory)
{
	static struct world world;

	world_open(&world);
	plan_add(&world, 0, 16);
	ATF_REQUIRE_EQ(0, update(&world, MERGE));
	plan_remove(&world, 0, 16);
	change(&world, CLEAT_MEMORY_CHANGE_ADD, 0, 16, CLEAT_READ);
	ATF_REQUIRE_EQ(0, update(&world, MERGE));
	CHECK_MESSAGES(&world, 2, 1);
	plan_remove(&world, 0, 16);
	plan_add(&world, 0, 16);
	world.changes[1].range.offset += PAGE;
	world.changes[1].range.host = (char *)world.changes[1].range.host +
				      PAGE;
	ATF_REQUIRE_EQ(0, update(&world, MERGE));
	CHECK_MESSAGES(&world, 3, 2);
	plan_remove(&world, 0, 16);
	plan_add(&world, 0, 16);
	world.changes[1].range.offset += PAGE;
	ATF_REQUIRE_EQ(0, update(&world, MERGE));
	CHECK_MESSAGES(&world, 4, 3);
	world_close(&world);
}

CLEAT_TC(update__merged_and_cut)
{
	static struct world world;

	world_open(&world);
	plan_add(&world, 8, 8);
	plan_add(&world, 0, 8);
	plan_add(&world, 16, 8);
	plan_add(&world, 25, 8);
	ATF_REQUIRE_EQ(0, update(&world, MERGE));
	CHECK_MESSAGES(&world, 2, 0);
	ATF_CHECK(is_mapped(&world, 0, 24));
	/* They are still what was added. */
	ATF_CHECK_EQ(-ENOENT, cleat_memory_remove(world.memory, 0, 24 * PAGE));
	ATF_REQUIRE_EQ(0, cleat_memory_remove(world.memory, 8 * PAGE,
					      8 * PAGE));
	CHECK_MESSAGES(&world, 4, 1);
	ATF_CHECK(is_mapped(&world, 0, 8));
	ATF_CHECK(is_mapped(&world, 16, 8));
	ATF_CHECK_EQ(-ENOENT, cleat_memory_remove(world.memory, 8 * PAGE,
						  8 * PAGE));
	/* Nobody's neighbour is made longer: it would have to go first. */
	plan_add(&world, 8, 8);
	ATF_REQUIRE_EQ(0, update(&world, MERGE));
	CHECK_MESSAGES(&world, 5, 1);
	world_close(&world);
}

CLEAT_TC(update__not_merged)
{
	static struct world world;

	world_open(&world);
	plan_add(&world, 0, 24);
	ATF_REQUIRE_EQ(0, update(&world, 0));
	plan_remove(&world, 0, 24);
	for (unsigned i = 0; i < 3; i++)
		plan_add(&world, i * 8, 8);
	ATF_REQUIRE_EQ(0, update(&world, 0));
	CHECK_MESSAGES(&world, 4, 1);
	/* And back: without the flag they are not one. */
	ATF_CHECK_EQ(-ENOENT, cleat_memory_remove(world.memory, 0, 24 * PAGE));
	world_close(&world);
}

/* --- What is refused ---------------------------------------------------------------- */

CLEAT_TC(update__impossible)
{
	static struct world world;

	world_open(&world);
	plan_add(&world, 0, 16);
	ATF_REQUIRE_EQ(0, update(&world, 0));
	for (unsigned i = 0; i < 7; i++) {
		static const int wanted[] = { -EEXIST, -EEXIST, -ENOENT,
					      -ENOENT, -EINVAL, -EINVAL,
					      -ENOENT };
		int err;

		plan_remove(&world, 0, 16);
		plan_add(&world, 20, 4);
		switch (i) {
		case 0: plan_add(&world, 23, 4); break;
		case 1:
			world.num = 0;
			plan_add(&world, 15, 4);
			break;
		case 2: plan_remove(&world, 0, 16); break;
		case 3: plan_remove(&world, 20, 3); break;
		case 4: plan_add(&world, 40, 0); break;
		case 5: change(&world, 7, 40, 1, READ_WRITE); break;
		case 6: plan_remove(&world, 500, 1); break;
		}
		err = update(&world, 0);
		ATF_CHECK_EQ_MSG(wanted[i], err, "change %u gave %d", i, err);
	}
	ATF_CHECK_EQ(-EINVAL, update(&world, 2));
	CHECK_MESSAGES(&world, 1, 0);
	/* Nothing of it has stuck. */
	ATF_CHECK_EQ(0, cleat_memory_remove(world.memory, 0, 16 * PAGE));
	world_close(&world);
}

CLEAT_TC(update__refused_by_the_server)
{
	static struct world world = { .server.refuse_map = 150 };

	world_open(&world);
	for (unsigned i = 0; i < 300; i++)
		plan_add(&world, 2 * i, 1);
	ATF_REQUIRE_EQ(-EPERM, update(&world, 0));
	ATF_CHECK_EQ(0, SERVER_GET(&world.server, num_maps));
	ATF_CHECK_EQ(0, cleat_device_failure(world.server.dev, NULL));
	/* All of it is free. */
	for (unsigned i = 0; i < 300; i++)
		plan_add(&world, 2 * i, 1);
	ATF_REQUIRE_EQ(0, update(&world, 0));
	ATF_CHECK_EQ(300, SERVER_GET(&world.server, num_maps));
	world_close(&world);
}

CLEAT_TC(update__two_devices)
{
	static struct server other = { .refuse_map = 3 };
	static struct world world;

	world_open(&world);
	server_open(&other);
	ATF_REQUIRE_EQ(0, cleat_memory_attach(world.memory, other.dev));
	plan_add(&world, 0, 1);
	plan_add(&world, 2, 1);
	ATF_REQUIRE_EQ(0, update(&world, 0));
	plan_add(&world, 4, 1);
	plan_remove(&world, 0, 1);
	ATF_REQUIRE_EQ(-EPERM, update(&world, 0));
	for (unsigned i = 0; i < 2; i++) {
		struct server *server = i ? &other : &world.server;

		ATF_CHECK_EQ(1, SERVER_GET(server, num_maps));
		ATF_CHECK(server_find(server, 2 * PAGE));
	}
	server_close(&other);
	world_close(&world);
}

/* --- Storms -------------------------------------------------------------------------- */

/* Where a firmware cuts RAM: so often, and at these pages. */
#define TURNS 18
static const unsigned cuts[][6] = {
	{ 0, PAGES },
	{ 0, 160, 192, PAGES },
	{ 0, 160, 192, 224, 256, PAGES },
	{ 0, 256, PAGES },
};

static unsigned for_cuts(struct world *world, unsigned turn, bool adding)
{
	const unsigned *cut = cuts[turn % 4];
	unsigned num = 0;

	for (; cut[num] < PAGES; num++) {
		size_t pages = cut[num + 1] - cut[num];

		if (adding)
			plan_add(world, cut[num], pages);
		else
			plan_remove(world, cut[num], pages);
	}
	return num;
}

struct reader {
	struct world *world;
	unsigned failed;
};

static void *storm(void *arg)
{
	struct reader *reader = arg;

	for (unsigned turn = 0; turn < TURNS; turn++) {
		for_cuts(reader->world, turn, false);
		for_cuts(reader->world, turn + 1, true);
		reader->failed += !!update(reader->world, MERGE);
	}
	return NULL;
}

/*
 * The whole of RAM taken apart and put together again, with other cuts each
 * time: one by one that is a message for each piece; together it is none, and
 * at no time is a page of it not there for the device.
 */
CLEAT_TC(storm__firmware)
{
	static struct world world;
	struct reader reader = { .world = &world };
	uint8_t byte = 1;
	pthread_t thread;

	world_open(&world);
	plan_add(&world, 0, PAGES);
	ATF_REQUIRE_EQ(0, update(&world, MERGE));
	ATF_REQUIRE_EQ(0, pthread_create(&thread, NULL, storm, &reader));
	for (unsigned i = 0; i < 500; i++)
		ATF_CHECK_EQ(0, server_dma(&world.server,
					   i & 1 ? SERVER_WRITE : SERVER_READ,
					   i * 37 % PAGES * PAGE, 1, &byte,
					   i & 1));
	ATF_REQUIRE_EQ(0, pthread_join(thread, NULL));
	ATF_CHECK_EQ(0, reader.failed);
	CHECK_MESSAGES(&world, 1, 0);
	world_close(&world);
}

CLEAT_TC(storm__firmware_one_by_one)
{
	static struct world world;
	unsigned maps = 1, unmaps = 0;

	world_open(&world);
	plan_add(&world, 0, PAGES);
	ATF_REQUIRE_EQ(0, update(&world, 0));
	for (unsigned turn = 0; turn < TURNS; turn++) {
		world.num = 0;
		unmaps += for_cuts(&world, turn, false);
		maps += for_cuts(&world, turn + 1, true);
		for (size_t i = 0; i < world.num; i++)
			ATF_REQUIRE_EQ(0, cleat_memory_update(
						  world.memory,
						  &world.changes[i], 1, 0));
	}
	CHECK_MESSAGES(&world, maps, unmaps);
	printf("%u messages one by one\n", maps + unmaps);
	world_close(&world);
}

/* A vIOMMU's: pages that come and go, most of them at once. */
CLEAT_TC(storm__viommu)
{
	static struct world world;
	unsigned maps = 0, unmaps = 0;

	world_open(&world);
	for (unsigned turn = 0; turn < 20; turn++) {
		for (unsigned i = 0; turn && i < 500; i++)
			plan_remove(&world, 2 * i, 1);
		/* All but each tenth are mapped again as they were. */
		for (unsigned i = 0; i < 500; i++)
			change(&world, CLEAT_MEMORY_CHANGE_ADD, 2 * i, 1,
			       (i + turn) % 10 ? READ_WRITE : CLEAT_READ);
		ATF_REQUIRE_EQ(0, update(&world, 0));
		maps += turn ? 100 : 500;
		unmaps += turn ? 100 : 0;
		CHECK_MESSAGES(&world, maps, unmaps);
	}
	world_close(&world);
}

/* As many ranges as there may be descriptors, and one of those. */
CLEAT_TC(storm__descriptors)
{
	static struct world world;
	unsigned fds;

	world_open(&world);
	fds = count_fds();
	for (unsigned i = 0; i < 500; i++)
		change(&world, CLEAT_MEMORY_CHANGE_ADD, 2 * i, 1,
		       i % 2 ? READ_WRITE : CLEAT_READ);
	ATF_REQUIRE_EQ(0, update(&world, 0));
	/* The server is in this process, and has its own. */
	ATF_CHECK_EQ(fds + 500 + 2, count_fds());
	for (unsigned i = 0; i < 500; i++)
		plan_remove(&world, 2 * i, 1);
	ATF_REQUIRE_EQ(0, update(&world, 0));
	ATF_CHECK_EQ(fds, count_fds());
	world_close(&world);
}

/* --- Against a model ------------------------------------------------------------------- */

#define MODEL_PAGES 64u

/* What is there, by the page on which it begins: 0: nothing. */
struct model {
	unsigned pages[MODEL_PAGES];
	uint32_t rights[MODEL_PAGES];
	unsigned shift[MODEL_PAGES];
};

static bool is_free(const struct model *model, unsigned first, unsigned pages)
{
	for (unsigned i = 0; i < MODEL_PAGES; i++)
		if (model->pages[i] && i < first + pages &&
		    first < i + model->pages[i])
			return false;
	return first + pages <= MODEL_PAGES;
}

static void plan_at_random(struct world *world, struct model *model)
{
	unsigned first = (unsigned)rand() % MODEL_PAGES;
	unsigned pages = 1 + (unsigned)rand() % 6;
	struct cleat_memory_range *range;

	if (model->pages[first]) {
		plan_remove(world, first, model->pages[first]);
		model->pages[first] = 0;
	} else if (is_free(model, first, pages)) {
		model->pages[first] = pages;
		model->rights[first] = rand() % 4 ? READ_WRITE : CLEAT_READ;
		model->shift[first] = rand() % 4 ? 0 : 100;
		change(world, CLEAT_MEMORY_CHANGE_ADD, first, pages,
		       model->rights[first]);
		range = &world->changes[world->num - 1].range;
		range->offset += model->shift[first] * PAGE;
		range->host = (char *)range->host + model->shift[first] * PAGE;
	}
}

/* The server's map that holds a page, as the offset of that page; 0: none. */
static uint64_t served(struct world *world, unsigned page, uint32_t *flags)
{
	uint64_t at = (uint64_t)page * PAGE, found = 0;

	pthread_mutex_lock(&world->server.lock);
	for (unsigned i = 0; i < world->server.num_maps; i++) {
		const struct server_map *map = &world->server.maps[i];

		if (at - map->address >= map->size)
			continue;
		ATF_CHECK_MSG(!found, "page %u is mapped twice", page);
		found = map->offset + (at - map->address) + 1;
		*flags = map->flags;
	}
	pthread_mutex_unlock(&world->server.lock);
	return found;
}

static void check_model(struct world *world, const struct model *model)
{
	uint64_t wanted[MODEL_PAGES] = { 0 };
	uint32_t rights[MODEL_PAGES] = { 0 };

	for (unsigned i = 0; i < MODEL_PAGES; i++)
		for (unsigned k = 0; k < model->pages[i]; k++) {
			wanted[i + k] = (i + k + model->shift[i]) * PAGE + 1;
			rights[i + k] = model->rights[i];
		}
	for (unsigned i = 0; i < MODEL_PAGES; i++) {
		uint32_t flags = 0;

		ATF_REQUIRE_EQ(wanted[i], served(world, i, &flags));
		ATF_REQUIRE_EQ(rights[i], flags);
		ATF_REQUIRE_EQ(wanted[i] ? 0 : EFAULT,
			       server_dma(&world->server, SERVER_READ,
					  (uint64_t)i * PAGE, 1, NULL, 0));
	}
}

CLEAT_TC(storm__at_random)
{
	static struct world world;
	static struct model model;

	world_open(&world);
	srand(1);
	for (unsigned turn = 0; turn < 150; turn++) {
		unsigned num = 1 + (unsigned)rand() % 80;

		for (unsigned i = 0; i < num; i++)
			plan_at_random(&world, &model);
		ATF_REQUIRE_EQ(0, update(&world, rand() % 3 ? MERGE : 0));
		check_model(&world, &model);
	}
	for (unsigned i = 0; i < MODEL_PAGES; i++)
		if (model.pages[i])
			ATF_CHECK_EQ(0, cleat_memory_remove(
						world.memory,
						(uint64_t)i * PAGE,
						model.pages[i] * PAGE));
	ATF_CHECK_EQ(0, SERVER_GET(&world.server, num_maps));
	world_close(&world);
}

ATF_TP_ADD_TCS(tp)
{
	ATF_TP_ADD_TC(tp, update__nothing_changes);
	ATF_TP_ADD_TC(tp, update__other_memory);
	ATF_TP_ADD_TC(tp, update__merged_and_cut);
	ATF_TP_ADD_TC(tp, update__not_merged);
	ATF_TP_ADD_TC(tp, update__impossible);
	ATF_TP_ADD_TC(tp, update__refused_by_the_server);
	ATF_TP_ADD_TC(tp, update__two_devices);
	ATF_TP_ADD_TC(tp, storm__firmware);
	ATF_TP_ADD_TC(tp, storm__firmware_one_by_one);
	ATF_TP_ADD_TC(tp, storm__viommu);
	ATF_TP_ADD_TC(tp, storm__descriptors);
	ATF_TP_ADD_TC(tp, storm__at_random);
	return atf_no_error();
}
