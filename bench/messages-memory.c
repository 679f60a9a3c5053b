/* SPDX-License-Identifier: BSD-2-Clause */
/* Rows of guest memory: shown to servers, and used by them by message. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include "bench/messages.h"

#define PAGE 4096u
#ifndef MOST_RANGES
#define MOST_RANGES 65535u
#endif

/* --- DMA_MAP and DMA_UNMAP ---------------------------------------------------- */

/* Every other page: nothing can be put together. Without a descriptor, so that
 * neither side runs out of mappings. */
static struct cleat_memory_range range_at(char *host, unsigned i)
{
	return (struct cleat_memory_range){
		.size = sizeof(struct cleat_memory_range),
		.rights = CLEAT_READ | CLEAT_WRITE,
		.guest = 2ull * i * PAGE,
		.length = PAGE,
		.host = host + (size_t)i * PAGE,
		.fd = -1,
	};
}

static int add(struct bench_way *way, unsigned i)
{
	struct cleat_memory_range range = range_at(way->opaque, i);

	return cleat_memory_add(way->memory, &range);
}

static int take_away(struct bench_way *way, unsigned i)
{
	return cleat_memory_remove(way->memory, 2ull * i * PAGE, PAGE);
}

static int end_turn(struct bench_way *way, uint64_t start,
		    struct bench_sample *ret, int err)
{
	ret->value = (double)(cleat_bench_now_ns() - start) / way->num;
	return err;
}

static int run_add(const struct bench_messages *bench, struct bench_way *way,
		   struct bench_sample *ret)
{
	uint64_t start = cleat_bench_now_ns();
	int err = 0;

	for (unsigned i = 0; i < way->num && !err; i++)
		err = add(way, i);
	return end_turn(way, start, ret, err);
}

static int run_remap(const struct bench_messages *bench, struct bench_way *way,
		     struct bench_sample *ret)
{
	uint64_t start = cleat_bench_now_ns();
	int err = 0;

	for (unsigned i = 0; i < way->num && !err; i++) {
		err = take_away(way, i);
		if (!err)
			err = add(way, i);
	}
	return end_turn(way, start, ret, err);
}

static int run_remove(const struct bench_messages *bench, struct bench_way *way,
		      struct bench_sample *ret)
{
	uint64_t start = cleat_bench_now_ns();
	int err = 0;

	for (unsigned i = 0; i < way->num && !err; i++)
		err = take_away(way, i);
	return end_turn(way, start, ret, err);
}

static int run_attach(const struct bench_messages *bench, struct bench_way *way,
		      struct bench_sample *ret)
{
	uint64_t start = cleat_bench_now_ns();

	return end_turn(way, start, ret,
			cleat_memory_attach(way->memory, way->dev));
}

static int run_reattach(const struct bench_messages *bench,
			struct bench_way *way, struct bench_sample *ret)
{
	uint64_t start = cleat_bench_now_ns();
	int err = cleat_memory_detach(way->memory, way->dev);

	if (!err)
		err = cleat_memory_attach(way->memory, way->dev);
	return end_turn(way, start, ret, err);
}

static int run_detach(const struct bench_messages *bench, struct bench_way *way,
		      struct bench_sample *ret)
{
	uint64_t start = cleat_bench_now_ns();

	return end_turn(way, start, ret,
			cleat_memory_detach(way->memory, way->dev));
}

/* In this order each begins with what the one before it has left. */
static struct bench_way map_ways[6] = {
	{ .name = "one by one", .run = run_add },
	{ .name = "one by one", .run = run_remap },
	{ .name = "one by one", .run = run_remove },
	{ .name = "pipelined", .run = run_attach },
	{ .name = "pipelined", .run = run_reattach },
	{ .name = "pipelined", .run = run_detach },
};

static int report_maps(struct bench_messages *bench,
		       enum bench_pinning pinning, unsigned num)
{
	static const char *const what[] = { "map", "remap", "unmap" };
	double target = pinning == BENCH_ONE_CORE ? 0.5 : 0.125;
	int err = 0;

	for (unsigned i = 0; i < 3 && !err; i++) {
		char name[56];

		snprintf(name, sizeof(name), "%s of %u ranges, each", what[i],
			 num);
		err = cleat_bench_compare(bench, name, pinning, "ns",
					  &map_ways[3 + i], &map_ways[i],
					  !i && num == MOST_RANGES ? target :
								     0);
	}
	return err;
}

static int fill(struct cleat_memory *memory, char *host, unsigned num)
{
	struct bench_way way = { .memory = memory, .opaque = host };
	int err = 0;

	for (unsigned i = 0; i < num && !err; i++)
		err = add(&way, i);
	return err;
}

/* @memory[0] is attached and empty, @memory[1] is full and not attached. */
static int prepare_maps(struct cleat_memory **memory, struct cleat_device **dev,
			char *host, unsigned num)
{
	int err = cleat_memory_create(&memory[0]);

	if (!err)
		err = cleat_memory_create(&memory[1]);
	if (!err)
		err = cleat_memory_attach(memory[0], dev[0]);
	if (!err)
		err = fill(memory[1], host, num);
	for (unsigned i = 0; i < 6; i++) {
		map_ways[i].dev = dev[i / 3];
		map_ways[i].memory = memory[i / 3];
		map_ways[i].opaque = host;
		map_ways[i].num = num;
	}
	return err;
}

static int measure_maps(struct bench_messages *bench,
			enum bench_pinning pinning, char *host, unsigned num)
{
	struct bench_peer peers[2] = { { .kind = BENCH_PEER_SERVER, .fd = -1 },
				       { .kind = BENCH_PEER_SERVER, .fd = -1 } };
	struct cleat_device *dev[2] = { NULL, NULL };
	struct cleat_memory *memory[2] = { NULL, NULL };
	int err = 0;

	cleat_bench_pin_us(pinning);
	for (unsigned i = 0; i < 2 && !err; i++) {
		err = cleat_bench_peer_start(&peers[i], pinning);
		if (!err)
			err = cleat_bench_peer_open(&peers[i], 0,
						    CLEAT_SPIN_NEVER, &dev[i]);
	}
	if (!err)
		err = prepare_maps(memory, dev, host, num);
	if (!err)
		err = cleat_bench_by_turns(bench, map_ways, 6);
	if (!err)
		err = report_maps(bench, pinning, num);
	for (unsigned i = 0; i < 2; i++) {
		cleat_memory_unref(memory[i]);
		cleat_device_unref(dev[i]);
		cleat_bench_peer_end(&peers[i]);
	}
	return err;
}

int cleat_bench_row_maps(struct bench_messages *bench)
{
	static const unsigned nums[] = { 1, 1000, MOST_RANGES };
	size_t size = (size_t)MOST_RANGES * PAGE;
	char *host = mmap(NULL, size, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	int err = 0;

	if (host == MAP_FAILED)
		return -errno;
	for (unsigned i = 0; i < 6 && !err; i++)
		err = measure_maps(bench,
				   i % 2 ? BENCH_TWO_CORES : BENCH_ONE_CORE,
				   host, nums[i / 2]);
	munmap(host, size);
	return err;
}

/* --- DMA_READ and DMA_WRITE ------------------------------------------------------ */

#define GUEST 0x100000

static int run_dma(const struct bench_messages *bench, struct bench_way *way,
		   struct bench_sample *ret)
{
	struct timespec pause = { .tv_nsec = 1000000 };
	struct bench_shared *shared = way->opaque;
	uint32_t go = 1;
	int err;

	shared->done = 0;
	shared->num = bench->count;
	shared->size = (uint32_t)way->size;
	shared->write = way->flags & BENCH_WAY_WRITE;
	shared->address = GUEST;
	err = cleat_region_write(way->dev, BENCH_REGION, BENCH_GO, &go, 4);
	while (!err && !shared->done) {
		nanosleep(&pause, NULL);
		err = cleat_device_failure(way->dev, NULL);
	}
	if (err || shared->done != 1)
		return err ? err : -EIO;
	*ret = cleat_bench_summary(shared->ns, bench->count);
	return 0;
}

struct dma_row {
	enum bench_pinning pinning;
	bool no_twin;
	bool write;
	size_t size;
	struct bench_peer echo;
	struct bench_peer server;
	struct bench_way ways[2];
};

static int prepare_dma(struct dma_row *row, struct cleat_memory *memory,
		       struct bench_shared *shared)
{
	size_t header = cleat_bench_request_size(0, false);
	int err;

	row->ways[0] = (struct bench_way){
		.name = "bare",
		.run = cleat_bench_run_bare,
		.send = header + (row->write ? row->size : 0),
		.receive = header + (row->write ? 0 : row->size),
	};
	row->ways[1] = (struct bench_way){
		.name = "DMA",
		.run = run_dma,
		.size = row->size,
		.flags = row->write ? BENCH_WAY_WRITE : 0,
		.opaque = shared,
	};
	row->echo = (struct bench_peer){ .kind = BENCH_PEER_ECHO,
					 .send = row->ways[0].send,
					 .receive = row->ways[0].receive };
	row->server = (struct bench_peer){ .kind = BENCH_PEER_SERVER,
					   .no_twin = row->no_twin,
					   .shared = shared,
					   .fd = -1 };
	err = cleat_bench_peer_start(&row->echo, row->pinning);
	if (!err)
		err = cleat_bench_peer_start(&row->server, row->pinning);
	cleat_bench_pin_us(row->pinning);
	row->ways[0].fd = row->echo.fd;
	if (!err)
		err = cleat_bench_peer_open(&row->server, 0, 0,
					    &row->ways[1].dev);
	if (!err)
		err = cleat_memory_attach(memory, row->ways[1].dev);
	return err;
}

static int measure_dma(struct bench_messages *bench, struct dma_row *row,
		       struct cleat_memory *memory, struct bench_shared *shared)
{
	int err = prepare_dma(row, memory, shared);
	char name[56];

	if (!err)
		err = cleat_bench_by_turns(bench, row->ways, 2);
	snprintf(name, sizeof(name), "DMA_%s %zu served, %s socket",
		 row->write ? "WRITE" : "READ", row->size,
		 row->no_twin ? "main" : "twin");
	if (!err)
		err = cleat_bench_compare(bench, name, row->pinning, "ns",
					  &row->ways[1], &row->ways[0], 0);
	cleat_device_unref(row->ways[1].dev);
	cleat_bench_peer_end(&row->echo);
	cleat_bench_peer_end(&row->server);
	return err;
}

static int measure_all_dma(struct bench_messages *bench,
			   struct cleat_memory *memory,
			   struct bench_shared *shared)
{
	int err = 0;

	for (unsigned i = 0; i < 16 && !err; i++) {
		static struct dma_row row;

		row = (struct dma_row){
			.pinning = i & 1 ? BENCH_TWO_CORES : BENCH_ONE_CORE,
			.no_twin = i & 2,
			.write = i & 4,
			.size = i & 8 ? 4096 : 4,
		};
		err = measure_dma(bench, &row, memory, shared);
	}
	return err;
}

int cleat_bench_row_dma(struct bench_messages *bench)
{
	size_t size = sizeof(struct bench_shared) +
		      bench->count * sizeof(uint64_t);
	struct bench_shared *shared =
		mmap(NULL, size, PROT_READ | PROT_WRITE,
		     MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	void *ram = aligned_alloc(PAGE, 16 * PAGE);
	struct cleat_memory_range range = {
		.size = sizeof(range),
		.rights = CLEAT_READ | CLEAT_WRITE,
		.guest = GUEST,
		.length = 16 * PAGE,
		.host = ram,
		.fd = -1,
	};
	struct cleat_memory *memory = NULL;
	int err = shared == MAP_FAILED || !ram ? -ENOMEM :
						 cleat_memory_create(&memory);

	if (!err) {
		memset(ram, 0, 16 * PAGE);
		err = cleat_memory_add(memory, &range);
	}
	if (!err)
		err = measure_all_dma(bench, memory, shared);
	cleat_memory_unref(memory);
	if (shared != MAP_FAILED)
		munmap(shared, size);
	free(ram);
	return err;
}
