/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Guest memory taken apart and put together: as a firmware does it, with all
 * of RAM each time, and as a vIOMMU does it, with many small ranges.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "bench/messages.h"

#define PAGE 4096u
#define RAM_PAGES 4096u
#define TURNS 18
#define SMALL 2000u
#define MOST_CHANGES (2 * SMALL)

/* The cuts of successive turns, in pages. */
static const unsigned cuts[][6] = {
	{ 0, RAM_PAGES },
	{ 0, 160, 192, RAM_PAGES },
	{ 0, 160, 192, 224, 256, RAM_PAGES },
	{ 0, 256, RAM_PAGES },
};

struct storm {
	int fd;
	char *host;
	bool together;
	struct cleat_memory_change changes[MOST_CHANGES];
	size_t num;
};

static void plan(struct storm *storm, uint32_t kind, uint64_t page,
		 uint64_t pages, int fd)
{
	storm->changes[storm->num++] = (struct cleat_memory_change){
		.kind = kind,
		.range = { .size = sizeof(struct cleat_memory_range),
			   .rights = CLEAT_READ | CLEAT_WRITE,
			   .guest = page * PAGE,
			   .length = pages * PAGE,
			   .host = storm->host + page * PAGE,
			   .fd = fd,
			   .offset = fd < 0 ? 0 : page * PAGE },
	};
}

static void plan_cuts(struct storm *storm, unsigned turn, uint32_t kind)
{
	const unsigned *cut = cuts[turn % 4];

	for (; *cut < RAM_PAGES; cut++)
		plan(storm, kind, cut[0], cut[1] - cut[0], storm->fd);
}

static int carry_out(struct storm *storm, struct cleat_memory *memory,
		     uint32_t flags)
{
	size_t step = storm->together ? storm->num : 1;
	int err = 0;

	for (size_t i = 0; i < storm->num && !err; i += step)
		err = cleat_memory_update(memory, &storm->changes[i], step,
					  flags);
	storm->num = 0;
	return err;
}

static uint64_t requests(struct bench_way *way)
{
	struct cleat_device_stats stats = { .size = sizeof(stats) };

	cleat_device_stats(way->dev, &stats);
	return stats.requests;
}

/* Begins and ends with the first cuts. */
static int run_firmware(const struct bench_messages *bench,
			struct bench_way *way, struct bench_sample *ret)
{
	uint64_t start = cleat_bench_now_ns(), before = requests(way);
	struct storm *storm = way->opaque;
	int err = 0;

	for (unsigned turn = 0; turn < TURNS && !err; turn++) {
		unsigned next = turn + 1 < TURNS ? turn + 1 : 0;

		plan_cuts(storm, turn, CLEAT_MEMORY_CHANGE_REMOVE);
		plan_cuts(storm, next, CLEAT_MEMORY_CHANGE_ADD);
		err = carry_out(storm, way->memory, CLEAT_MEMORY_UPDATE_MERGE);
	}
	ret->value = (double)(cleat_bench_now_ns() - start) / TURNS;
	way->num = (unsigned)(requests(way) - before);
	return err;
}

/* All are unmapped and mapped again, each tenth of them elsewhere. */
static int run_viommu(const struct bench_messages *bench, struct bench_way *way,
		      struct bench_sample *ret)
{
	uint64_t start = cleat_bench_now_ns(), before = requests(way);
	struct storm *storm = way->opaque;
	int err;

	for (unsigned i = 0; i < SMALL; i++)
		plan(storm, CLEAT_MEMORY_CHANGE_REMOVE, RAM_PAGES + 2 * i, 1,
		     -1);
	for (unsigned i = 0; i < SMALL; i++) {
		plan(storm, CLEAT_MEMORY_CHANGE_ADD, RAM_PAGES + 2 * i, 1, -1);
		/* Each turn on the other one of two pages. */
		if (i % 10 == 0)
			storm->changes[storm->num - 1].range.host =
				storm->host + way->flags * PAGE;
	}
	way->flags = !way->flags;
	err = carry_out(storm, way->memory, 0);
	ret->value = (double)(cleat_bench_now_ns() - start) / SMALL;
	way->num = (unsigned)(requests(way) - before);
	return err;
}

/* What both storms begin with. */
static int fill(struct storm *storm, struct cleat_memory *memory)
{
	int err;

	plan_cuts(storm, 0, CLEAT_MEMORY_CHANGE_ADD);
	for (unsigned i = 0; i < SMALL; i++)
		plan(storm, CLEAT_MEMORY_CHANGE_ADD, RAM_PAGES + 2 * i, 1, -1);
	err = cleat_memory_update(memory, storm->changes, storm->num, 0);
	storm->num = 0;
	return err;
}

static int report_messages(struct bench_messages *bench, const char *name,
			   const struct bench_way *ways)
{
	struct bench_figure *figure = cleat_bench_figure(
		bench, name, BENCH_ONE_CORE, "msgs", 0);

	if (!figure)
		return -ENOMEM;
	figure->value = ways[1].num;
	figure->limit = ways[0].num;
	figure->ratio = (double)ways[1].num / ways[0].num;
	figure->against = ways[0].name;
	return 0;
}

struct side {
	struct bench_peer peer;
	struct storm storm;
	struct cleat_device *dev;
	struct cleat_memory *memory;
};

static int open_side(struct side *side, int fd, char *host, bool together)
{
	int err;

	side->storm.fd = fd;
	side->storm.host = host;
	side->storm.together = together;
	side->peer = (struct bench_peer){ .kind = BENCH_PEER_SERVER, .fd = -1 };
	err = cleat_bench_peer_start(&side->peer, BENCH_ONE_CORE);
	if (!err)
		err = cleat_bench_peer_open(&side->peer, 0, CLEAT_SPIN_NEVER,
					    &side->dev);
	if (!err)
		err = cleat_memory_create(&side->memory);
	if (!err)
		err = cleat_memory_attach(side->memory, side->dev);
	return err ? err : fill(&side->storm, side->memory);
}

static void close_side(struct side *side)
{
	cleat_memory_unref(side->memory);
	cleat_device_unref(side->dev);
	cleat_bench_peer_end(&side->peer);
}

static int measure(struct bench_messages *bench, struct side *sides,
		   int (*run)(const struct bench_messages *bench,
			      struct bench_way *way, struct bench_sample *ret),
		   const char *name, const char *messages)
{
	static struct bench_way ways[2];
	int err;

	for (unsigned i = 0; i < 2; i++)
		ways[i] = (struct bench_way){
			.name = i ? "together" : "one by one",
			.run = run,
			.dev = sides[i].dev,
			.memory = sides[i].memory,
			.opaque = &sides[i].storm,
		};
	err = cleat_bench_by_turns(bench, ways, 2);
	if (!err)
		err = cleat_bench_compare(bench, name, BENCH_ONE_CORE, "ns",
					  &ways[1], &ways[0], 0);
	return err ? err : report_messages(bench, messages, ways);
}

int cleat_bench_row_storms(struct bench_messages *bench)
{
	size_t length = (RAM_PAGES + 2ull * SMALL) * PAGE;
	static struct side sides[2];
	struct cleat_error why;
	void *host = NULL;
	int fd = cleat_memory_alloc((length + 0x1fffff) & ~0x1fffffull, 0,
				    &host, &why);
	int err = fd < 0 ? fd : 0;

	memset(sides, 0, sizeof(sides));
	cleat_bench_pin_us(BENCH_ONE_CORE);
	for (unsigned i = 0; i < 2 && !err; i++)
		err = open_side(&sides[i], fd, host, i);
	if (!err)
		err = measure(bench, sides, run_firmware,
			      "RAM taken apart and put together, each",
			      "messages of 18 times");
	if (!err)
		err = measure(bench, sides, run_viommu,
			      "remap of 2,000 pages, a tenth new, each",
			      "messages of them");
	for (unsigned i = 0; i < 2; i++)
		close_side(&sides[i]);
	if (fd >= 0) {
		munmap(host, (length + 0x1fffff) & ~0x1fffffull);
		close(fd);
	}
	return err;
}
