/* SPDX-License-Identifier: BSD-2-Clause */
/* Rows of many threads, of writes without an answer, and of another's server. */
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>

#include "bench/messages.h"

#define MOST_THREADS 8
#define WINDOW_MS 100
#define BATCH 64

/* --- Threads ------------------------------------------------------------------ */

struct crowd {
	struct cleat_device *dev;
	pthread_barrier_t start;
	atomic_bool over;
};

struct member {
	struct crowd *crowd;
	pthread_t thread;
	uint64_t accesses;
	int err;
};

static void *work(void *arg)
{
	struct member *member = arg;
	uint32_t value;

	pthread_barrier_wait(&member->crowd->start);
	while (!member->err && !atomic_load_explicit(&member->crowd->over,
						     memory_order_relaxed)) {
		member->err = cleat_region_read(member->crowd->dev,
						BENCH_REGION, 0, &value, 4);
		member->accesses++;
	}
	return NULL;
}

/* How far the one that is farthest from the mean is off, in percent of it. */
static double unevenness(const struct member *members, unsigned num,
			 double total)
{
	double mean = total / num, most = 0;

	for (unsigned i = 0; i < num; i++) {
		double off = (double)members[i].accesses - mean;

		off = off < 0 ? -off : off;
		most = off > most ? off : most;
	}
	return 100 * most / mean;
}

/* ns between two accesses of anybody's; in place of a percentile how unevenly
 * they are shared. */
static int run_crowd(const struct bench_messages *bench, struct bench_way *way,
		     struct bench_sample *ret)
{
	struct timespec window = { .tv_nsec = WINDOW_MS * 1000000L };
	struct member members[MOST_THREADS] = { { 0 } };
	struct crowd crowd = { .dev = way->dev };
	uint64_t start, ns;
	double total = 0;
	int err = 0;

	pthread_barrier_init(&crowd.start, NULL, way->num + 1);
	for (unsigned i = 0; i < way->num; i++) {
		members[i].crowd = &crowd;
		/* Nothing sensible can be done without threads. */
		if (pthread_create(&members[i].thread, NULL, work, &members[i]))
			exit(1);
	}
	pthread_barrier_wait(&crowd.start);
	start = cleat_bench_now_ns();
	nanosleep(&window, NULL);
	atomic_store(&crowd.over, true);
	ns = cleat_bench_now_ns() - start;
	for (unsigned i = 0; i < way->num; i++) {
		pthread_join(members[i].thread, NULL);
		total += (double)members[i].accesses;
		err = err ? err : members[i].err;
	}
	pthread_barrier_destroy(&crowd.start);
	ret->value = (double)ns / total;
	ret->p99 = unevenness(members, way->num, total);
	return err;
}

static int add_fairness(struct bench_messages *bench, const char *name,
			const struct bench_way *way, double target)
{
	struct bench_way share = { .name = way->name };

	for (unsigned i = 0; i < bench->rounds; i++)
		share.samples[i].value = way->samples[i].p99;
	return cleat_bench_compare(bench, name, BENCH_TWO_CORES, "%", &share,
				   NULL, target);
}

static int report_crowd(struct bench_messages *bench, const char *server,
			struct bench_way *ways)
{
	int err = 0;

	for (unsigned i = 0; i < 4 && !err; i++) {
		bool eight = ways[i].num == MOST_THREADS;
		char name[56];

		snprintf(name, sizeof(name), "%u threads read 4, %s",
			 ways[i].num, server);
		if (i)
			err = add_fairness(bench, name, &ways[i],
					   eight ? 20 : 0);
		for (unsigned r = 0; r < bench->rounds; r++)
			ways[i].samples[r].p99 = 0;
		if (!err)
			err = cleat_bench_compare(bench, name, BENCH_TWO_CORES,
						  "ns", &ways[i],
						  i ? &ways[0] : NULL,
						  eight ? 0.5 : 0);
	}
	return err;
}

static int measure_crowd(struct bench_messages *bench,
			 enum bench_peer_kind kind, const char *server)
{
	struct bench_peer peer = { .kind = kind };
	struct cleat_device *dev = NULL;
	struct bench_way ways[4];
	int err = cleat_bench_peer_start(&peer, BENCH_TWO_CORES);

	cleat_bench_pin_us(BENCH_TWO_CORES);
	if (!err)
		err = cleat_bench_peer_open(&peer, 0, 0, &dev);
	for (unsigned i = 0; i < 4; i++)
		ways[i] = (struct bench_way){ .name = i ? "more" : "1 thread",
					      .run = run_crowd,
					      .dev = dev,
					      .num = 1u << i };
	if (!err)
		err = cleat_bench_by_turns(bench, ways, 4);
	if (!err)
		err = report_crowd(bench, server, ways);
	cleat_device_unref(dev);
	cleat_bench_peer_end(&peer);
	return err;
}

int cleat_bench_row_threads(struct bench_messages *bench)
{
	int err = measure_crowd(bench, BENCH_PEER_CANNED, "canned");

	return err ? err : measure_crowd(bench, BENCH_PEER_SERVER, "server");
}

/* --- Writes --------------------------------------------------------------------- */

/* As the others are timed, so that what else the machine does hits all alike. */
static int run_synchronous(const struct bench_messages *bench,
			   struct bench_way *way, struct bench_sample *ret)
{
	uint64_t start = cleat_bench_now_ns();
	uint32_t value = 0;
	int err = 0;

	for (unsigned i = 0; i < bench->count && !err; i++)
		err = cleat_region_write(way->dev, BENCH_REGION, 4 * (i % 64),
					 &value, 4);
	ret->value = (double)(cleat_bench_now_ns() - start) / bench->count;
	return err;
}

/* Whatever was posted is done when a read that follows it is answered. */
static int run_posted(const struct bench_messages *bench, struct bench_way *way,
		      struct bench_sample *ret)
{
	uint64_t start = cleat_bench_now_ns();
	uint32_t value = 0;
	int err = 0;

	for (unsigned i = 0; i < bench->count && !err; i++)
		err = cleat_region_post(way->dev, BENCH_REGION, 4 * (i % 64),
					&value, 4);
	if (!err)
		err = cleat_region_read(way->dev, BENCH_REGION, 0, &value, 4);
	ret->value = (double)(cleat_bench_now_ns() - start) / bench->count;
	return err;
}

static int run_batched(const struct bench_messages *bench,
		       struct bench_way *way, struct bench_sample *ret)
{
	struct cleat_region_store stores[BATCH] = { { 0 } };
	unsigned batches = bench->count / BATCH + 1;
	uint64_t start = cleat_bench_now_ns();
	uint32_t value;
	int err = 0;

	for (unsigned i = 0; i < BATCH; i++)
		stores[i] = (struct cleat_region_store){
			.offset = 4 * i, .region = BENCH_REGION, .count = 4 };
	for (unsigned i = 0; i < batches && !err; i++)
		err = cleat_region_write_batch(way->dev, stores, BATCH, false);
	if (!err)
		err = cleat_region_read(way->dev, BENCH_REGION, 0, &value, 4);
	ret->value =
		(double)(cleat_bench_now_ns() - start) / batches / BATCH;
	return err;
}

static int measure_posted(struct bench_messages *bench,
			  enum bench_pinning pinning)
{
	struct bench_peer peer = { .kind = BENCH_PEER_CANNED };
	struct bench_way ways[3] = {
		{ .name = "synchronous", .run = run_synchronous },
		{ .name = "posted", .run = run_posted },
		{ .name = "batched", .run = run_batched },
	};
	struct cleat_device *dev = NULL;
	int err = cleat_bench_peer_start(&peer, pinning);

	cleat_bench_pin_us(pinning);
	if (!err)
		err = cleat_bench_peer_open(&peer, 0, CLEAT_SPIN_NEVER, &dev);
	for (unsigned i = 0; i < 3; i++)
		ways[i].dev = dev;
	if (!err)
		err = cleat_bench_by_turns(bench, ways, 3);
	if (!err)
		err = cleat_bench_compare(bench, "posted write 4", pinning,
					  "ns", &ways[1], &ways[0],
					  pinning == BENCH_ONE_CORE ? 1 / 3.0 :
								      0.1);
	if (!err)
		err = cleat_bench_compare(bench, "batched write 4", pinning,
					  "ns", &ways[2], &ways[1], 0.25);
	cleat_device_unref(dev);
	cleat_bench_peer_end(&peer);
	return err;
}

int cleat_bench_row_posted(struct bench_messages *bench)
{
	int err = measure_posted(bench, BENCH_ONE_CORE);

	return err ? err : measure_posted(bench, BENCH_TWO_CORES);
}

/* --- Another's server ------------------------------------------------------------ */

static int readable_region(struct cleat_device *dev, unsigned *ret)
{
	struct cleat_region_info info = { .size = sizeof(info) };

	for (*ret = 0; !cleat_region_info(dev, *ret, &info); ++*ret)
		if (info.length >= 4 && info.flags & CLEAT_REGION_READ)
			return 0;
	return -ENXIO;
}

int cleat_bench_row_peer(struct bench_messages *bench)
{
	struct cleat_device_config config = { .size = sizeof(config),
					      .path = bench->peer,
					      .fd = -1,
					      .spin_us = CLEAT_SPIN_NEVER };
	struct bench_peer echo = { .kind = BENCH_PEER_ECHO, .send = 32,
				   .receive = 36 };
	struct bench_way ways[2] = {
		{ .name = "bare", .run = cleat_bench_run_bare, .send = 32,
		  .receive = 36 },
		{ .name = "peer", .run = cleat_bench_run_access, .size = 4 },
	};
	struct cleat_error why;
	int err;

	if (!bench->peer)
		return 0;
	cleat_bench_pin_us(BENCH_FREE);
	err = cleat_device_open(&config, &ways[1].dev, &why);
	if (err)
		fprintf(stderr, "cleat-bench-messages: %s\n", why.text);
	if (!err)
		err = readable_region(ways[1].dev, &ways[1].num);
	if (!err)
		err = cleat_bench_peer_start(&echo, BENCH_FREE);
	ways[0].fd = echo.fd;
	if (!err)
		err = cleat_bench_by_turns(bench, ways, 2);
	if (!err)
		err = cleat_bench_compare(bench, "read 4, --peer", BENCH_FREE,
					  "ns", &ways[1], &ways[0], 0);
	cleat_device_unref(ways[1].dev);
	cleat_bench_peer_end(&echo);
	return err;
}
