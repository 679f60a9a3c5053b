/* SPDX-License-Identifier: BSD-2-Clause */
/* Rows of accesses to a region, by one thread. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "bench/messages.h"

const struct bench_messages_row cleat_bench_messages_rows[] = {
	{ "sizes", "region read and write, 1 byte to 32 KiB, one core",
	  cleat_bench_row_sizes },
	{ "server", "the same of 4 bytes, served by our server library",
	  cleat_bench_row_server },
	{ "spin", "4-byte read on two cores, either side spinning or not",
	  cleat_bench_row_spin },
	{ "waste", "CPU time that spinning costs where it never pays",
	  cleat_bench_row_waste },
	{ "threads", "1, 2, 4 and 8 threads on one device",
	  cleat_bench_row_threads },
	{ "posted", "writes: synchronous, posted, 64 in a batch",
	  cleat_bench_row_posted },
	{ "maps", "DMA map, unmap and remap of 1, 1,000 and 65,535 ranges",
	  cleat_bench_row_maps },
	{ "storms", "guest memory taken apart and put together, and a vIOMMU's",
	  cleat_bench_row_storms },
	{ "dma", "DMA_READ and DMA_WRITE served, on the main and twin socket",
	  cleat_bench_row_dma },
	{ "open", "opening a device", cleat_bench_row_open },
	{ "devices", "1,000 idle devices: memory, threads, opening them",
	  cleat_bench_row_devices },
	{ "qemu", "4-byte reads and posted writes beside QEMU's vfio-user client",
	  cleat_bench_row_qemu },
	{ "libvfio-user", "the same from libvfio-user's server",
	  cleat_bench_row_libvfio_user },
	{ "peer", "4-byte read from the server at --peer",
	  cleat_bench_row_peer },
};
const unsigned cleat_bench_messages_num_rows =
	sizeof(cleat_bench_messages_rows) / sizeof(cleat_bench_messages_rows[0]);

/* --- One size --------------------------------------------------------------- */

static double target_of(size_t size, bool write)
{
	if (size == 4 && !write)
		return 1.10;
	return size == 32768 && !write ? 1 / 0.9 : 0;
}

static int measure_size(struct bench_messages *bench, struct bench_way *ways,
			size_t size, bool write)
{
	char name[64];
	int err;

	ways[0].send = cleat_bench_request_size(size, write);
	ways[0].receive = cleat_bench_reply_size(size, write);
	ways[1].size = size;
	ways[1].flags = write ? BENCH_WAY_WRITE : 0;
	err = cleat_bench_by_turns(bench, ways, 2);
	if (err)
		return err;
	snprintf(name, sizeof(name), "%s %zu, canned replies",
		 write ? "write" : "read", size);
	return cleat_bench_compare(bench, name, BENCH_ONE_CORE, "ns", &ways[1],
				   &ways[0], target_of(size, write));
}

/* Both peers, the device on the second. */
static int with_peers(struct bench_messages *bench, struct bench_peer *echo,
		      struct bench_peer *server, size_t size, bool write)
{
	struct bench_way ways[2] = {
		{ .name = "bare", .run = cleat_bench_run_bare },
		{ .name = "device", .run = cleat_bench_run_access },
	};
	int err;

	*echo = (struct bench_peer){
		.kind = BENCH_PEER_ECHO,
		.send = cleat_bench_request_size(size, write),
		.receive = cleat_bench_reply_size(size, write),
	};
	*server = (struct bench_peer){ .kind = BENCH_PEER_CANNED, .fd = -1 };
	err = cleat_bench_peer_start(echo, BENCH_ONE_CORE);
	if (!err)
		err = cleat_bench_peer_start(server, BENCH_ONE_CORE);
	cleat_bench_pin_us(BENCH_ONE_CORE);
	if (!err)
		err = cleat_bench_peer_open(server, 0, CLEAT_SPIN_NEVER,
					    &ways[1].dev);
	ways[0].fd = echo->fd;
	if (!err)
		err = measure_size(bench, ways, size, write);
	cleat_device_unref(ways[1].dev);
	return err;
}

int cleat_bench_row_sizes(struct bench_messages *bench)
{
	static const size_t sizes[] = { 1, 4, 8, 64, 4096, 32768 };
	int err = 0;

	for (unsigned i = 0; i < 12 && !err; i++) {
		struct bench_peer echo, server;

		err = with_peers(bench, &echo, &server, sizes[i / 2], i % 2);
		cleat_bench_peer_end(&echo);
		cleat_bench_peer_end(&server);
	}
	return err;
}

/* --- Rows of several peers --------------------------------------------------- */

/* One way of a row and the process at its other end. */
struct match {
	struct bench_way way;
	struct bench_peer peer;
	uint32_t spin_us;
};

static int start_match(struct match *match, enum bench_pinning pinning)
{
	int err = cleat_bench_peer_start(&match->peer, pinning);

	match->way.fd = match->peer.fd;
	if (err || match->peer.kind == BENCH_PEER_ECHO)
		return err;
	return cleat_bench_peer_open(&match->peer, 0, match->spin_us,
				     &match->way.dev);
}

static int run_matches(struct bench_messages *bench,
		       enum bench_pinning pinning, struct match *matches,
		       struct bench_way *ways, unsigned num)
{
	int err = 0;

	cleat_bench_pin_us(pinning);
	for (unsigned i = 0; i < num; i++)
		matches[i].peer.fd = -1;
	for (unsigned i = 0; i < num && !err; i++) {
		err = start_match(&matches[i], pinning);
		ways[i] = matches[i].way;
	}
	if (!err)
		err = cleat_bench_by_turns(bench, ways, num);
	for (unsigned i = 0; i < num; i++) {
		cleat_device_unref(matches[i].way.dev);
		cleat_bench_peer_end(&matches[i].peer);
	}
	return err;
}

/* Of a 4-byte read. */
#define BARE(title, way_flags, peer_spin_us)                                  \
	{ .way = { .name = (title), .run = cleat_bench_run_bare, .send = 32,   \
		   .receive = 36, .flags = (way_flags) },                      \
	  .peer = { .kind = BENCH_PEER_ECHO, .send = 32, .receive = 36,        \
		    .spin_us = (peer_spin_us) } }
#define READ(title, peer_kind, our_spin_us, peer_spin_us)                      \
	{ .way = { .name = (title), .run = cleat_bench_run_access, .size = 4 },  \
	  .peer = { .kind = (peer_kind), .spin_us = (peer_spin_us) },          \
	  .spin_us = (our_spin_us) }
#define PEER_SPIN_US 1000

int cleat_bench_row_server(struct bench_messages *bench)
{
	struct match matches[2] = {
		BARE("bare", 0, 0),
		READ("server", BENCH_PEER_SERVER, CLEAT_SPIN_NEVER, 0),
	};
	struct bench_way ways[2];
	int err = run_matches(bench, BENCH_ONE_CORE, matches, ways, 2);

	return err ? err :
		     cleat_bench_compare(bench, "read 4, server library",
					 BENCH_ONE_CORE, "ns", &ways[1],
					 &ways[0], 1.25);
}

enum { BLOCK, SPIN, BOTH, CANNED, SERVER, SERVER_TOO, NUM_SPINS };

int cleat_bench_row_spin(struct bench_messages *bench)
{
	struct match matches[NUM_SPINS] = {
		BARE("bare, both asleep", 0, 0),
		BARE("bare, client spins", BENCH_WAY_SPIN, 0),
		BARE("bare, both spin", BENCH_WAY_SPIN, PEER_SPIN_US),
		READ("canned", BENCH_PEER_CANNED, 0, 0),
		READ("server", BENCH_PEER_SERVER, 0, 0),
		READ("server spins", BENCH_PEER_SERVER, 0, PEER_SPIN_US),
	};
	static struct bench_way ways[NUM_SPINS];
	static const struct {
		const char *name;
		unsigned way, limit;
		double target;
	} figures[] = {
		{ "bare ping-pong, client spins", SPIN, BLOCK, 0 },
		{ "bare ping-pong, both spin", BOTH, BLOCK, 0 },
		{ "read 4, canned, client spins", CANNED, BLOCK, 0.50 },
		{ "read 4, canned, client spins", CANNED, SPIN, 0 },
		{ "read 4, server library, client spins", SERVER, BLOCK, 0 },
		{ "read 4, server library, both spin", SERVER_TOO, BOTH, 1.25 },
	};
	int err = run_matches(bench, BENCH_TWO_CORES, matches, ways, NUM_SPINS);

	for (unsigned i = 0; i < sizeof(figures) / sizeof(figures[0]) && !err;
	     i++)
		err = cleat_bench_compare(bench, figures[i].name,
					  BENCH_TWO_CORES, "ns",
					  &ways[figures[i].way],
					  &ways[figures[i].limit],
					  figures[i].target);
	return err;
}

/* --- Spinning that never pays -------------------------------------------------- */

static double cpu_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
	return (double)now.tv_sec * 1e9 + (double)now.tv_nsec;
}

static int run_cpu(const struct bench_messages *bench, struct bench_way *way,
		   struct bench_sample *ret)
{
	double start = cpu_ns();
	uint32_t value;
	int err = 0;

	for (unsigned i = 0; i < bench->count && !err; i++)
		err = cleat_region_read(way->dev, BENCH_REGION, 0, &value, 4);
	ret->value = (cpu_ns() - start) / bench->count;
	return err;
}

/*
 * Of all rounds together: what the first ones waste on finding out belongs to
 * it.
 */
static int compare_sums(struct bench_messages *bench, const char *name,
			struct bench_way *ways)
{
	double sums[2] = { 0, 0 };

	for (unsigned w = 0; w < 2; w++)
		for (unsigned i = 0; i < bench->rounds; i++)
			sums[w] += ways[w].samples[i].value / bench->rounds;
	for (unsigned w = 0; w < 2; w++)
		for (unsigned i = 0; i < bench->rounds; i++)
			ways[w].samples[i].value = sums[w];
	return cleat_bench_compare(bench, name, BENCH_ONE_CORE, "cpu ns",
				   &ways[1], &ways[0], 1.02);
}

static int measure_waste(struct bench_messages *bench, const char *name,
			 unsigned delay_us)
{
	struct match matches[2] = {
		READ("never spinning", BENCH_PEER_CANNED, CLEAT_SPIN_NEVER, 0),
		READ("adaptive", BENCH_PEER_CANNED, 0, 0),
	};
	struct bench_way ways[2];
	int err;

	for (unsigned i = 0; i < 2; i++) {
		matches[i].way.run = run_cpu;
		matches[i].peer.delay_us = delay_us;
	}
	err = run_matches(bench, BENCH_ONE_CORE, matches, ways, 2);
	return err ? err : compare_sums(bench, name, ways);
}

int cleat_bench_row_waste(struct bench_messages *bench)
{
	int err = measure_waste(bench, "CPU of a read, server on our core", 0);

	return err ? err :
		     measure_waste(bench, "CPU of a read, server takes 200 us",
				   200);
}
