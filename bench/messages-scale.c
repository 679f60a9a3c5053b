/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * How cost grows: devices of one process, and ranges of one memory, up to what
 * this machine has descriptors, memory and a minute for. What lies beyond is
 * for the reader to multiply: the columns are per piece.
 */
#include <dirent.h>
#include <errno.h>
#include <malloc.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "bench/messages.h"

#define PAGE 4096u
#define BATCH 4096u
#define LOOKUPS 200000u
#define READS 20000u
/* Above it, one by one takes longer than there is to learn from it. */
#define MOST_SINGLY (1u << 16)
#define MOST_RANGES (1u << 22)

static unsigned count_files(const char *folder)
{
	DIR *dir = opendir(folder);
	unsigned num = 0;

	while (dir && readdir(dir))
		num++;
	if (dir)
		closedir(dir);
	return num;
}

static double heap(void)
{
	struct mallinfo2 info = mallinfo2();

	return (double)info.uordblks + (double)info.hblkhd;
}

/*
 * CPU time of all threads of ours: what else the machine does, and what the
 * server does, is not in it.
 */
static uint64_t cpu_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static double since(uint64_t start, unsigned num)
{
	return (double)(cpu_ns() - start) / num;
}

/* The same sequence each time, anything but in order. */
static uint64_t scatter(uint64_t i, uint64_t num)
{
	return i * 0x9e3779b97f4a7c15u % num;
}

/* --- Devices ----------------------------------------------------------------- */

struct fleet {
	struct cleat_device **devs;
	struct cleat_memory *memory;
	unsigned num;
	unsigned opened;
	double open_ns, heap, files, read_ns, map_ns, unmap_ns, close_ns;
	unsigned threads;
};

static int open_all(struct fleet *fleet)
{
	unsigned files = count_files("/proc/self/fd");
	double before = heap();
	uint64_t start = cpu_ns();
	int err = 0;

	for (unsigned i = 0; i < fleet->num && !err; i++) {
		err = cleat_bench_open_many(&fleet->devs[i]);
		fleet->opened += !err;
	}
	fleet->open_ns = since(start, fleet->num);
	fleet->heap = (heap() - before) / fleet->num;
	fleet->files = ((double)count_files("/proc/self/fd") - files) /
		       fleet->num;
	fleet->threads = count_files("/proc/self/task") - 2;
	return err;
}

static int read_all(struct fleet *fleet)
{
	uint64_t start = cpu_ns();
	uint32_t value;
	int err = 0;

	for (unsigned i = 0; i < READS && !err; i++)
		err = cleat_region_read(
			fleet->devs[scatter(i, fleet->num)], BENCH_REGION, 0,
			&value, 4);
	fleet->read_ns = since(start, READS);
	return err;
}

/* One range, for all of them. */
static int share_memory(struct fleet *fleet)
{
	static char ram[PAGE];
	struct cleat_memory_range range = {
		.size = sizeof(range),
		.rights = CLEAT_READ | CLEAT_WRITE,
		.length = PAGE,
		.host = ram,
		.fd = -1,
	};
	uint64_t start;
	int err = cleat_memory_create(&fleet->memory);

	for (unsigned i = 0; i < fleet->num && !err; i++)
		err = cleat_memory_attach(fleet->memory, fleet->devs[i]);
	start = cpu_ns();
	if (!err)
		err = cleat_memory_add(fleet->memory, &range);
	fleet->map_ns = since(start, fleet->num);
	start = cpu_ns();
	if (!err)
		err = cleat_memory_remove(fleet->memory, 0, PAGE);
	fleet->unmap_ns = since(start, fleet->num);
	return err;
}

static void close_all(struct fleet *fleet)
{
	uint64_t start = cpu_ns();

	for (unsigned i = 0; i < fleet->num; i++)
		cleat_device_unref(fleet->devs[i]);
	fleet->close_ns = since(start, fleet->num);
	cleat_memory_unref(fleet->memory);
}

static int measure_fleet(unsigned num)
{
	struct fleet fleet = { .num = num };
	struct bench_peer server;
	int err = cleat_bench_start_many(&server, BENCH_FREE);

	fleet.devs = calloc(num, sizeof(*fleet.devs));
	if (!err && !fleet.devs)
		err = -ENOMEM;
	if (!err)
		err = open_all(&fleet);
	if (!err)
		err = read_all(&fleet);
	if (!err)
		err = share_memory(&fleet);
	if (fleet.devs)
		close_all(&fleet);
	cleat_bench_peer_end(&server);
	free(fleet.devs);
	if (err == -EMFILE)
		printf("%10u of %u: no more descriptors\n", fleet.opened, num);
	if (!err)
		printf("%10u %9.1f %9.0f %7.2f %7u %9.0f %9.1f %9.1f %9.1f\n",
		       num, fleet.open_ns / 1000, fleet.heap, fleet.files,
		       fleet.threads, fleet.read_ns, fleet.map_ns / 1000,
		       fleet.unmap_ns / 1000, fleet.close_ns / 1000);
	fflush(stdout);
	return err;
}

static int measure_devices(void)
{
	static const unsigned nums[] = { 10, 100, 1000, 6000, 10000 };
	struct rlimit limit;
	int err = 0;

	getrlimit(RLIMIT_NOFILE, &limit);
	limit.rlim_cur = limit.rlim_max;
	if (setrlimit(RLIMIT_NOFILE, &limit))
		return -errno;
	printf("Devices of one process (%lu descriptors), all on one canned "
	       "server; us of our CPU but for heap (bytes) and read (ns)\n"
	       "%10s %9s %9s %7s %7s %9s %9s %9s %9s\n",
	       (unsigned long)limit.rlim_cur, "devices", "open", "heap", "fds",
	       "threads", "read", "map", "unmap", "close");
	for (unsigned i = 0; i < sizeof(nums) / sizeof(*nums) && !err; i++)
		err = measure_fleet(nums[i]);
	return err == -EMFILE ? 0 : err;
}

/* --- Ranges -------------------------------------------------------------------- */

static struct cleat_memory_range page_at(char *host, uint64_t i)
{
	return (struct cleat_memory_range){
		.size = sizeof(struct cleat_memory_range),
		.rights = CLEAT_READ | CLEAT_WRITE,
		.guest = i * PAGE,
		.length = PAGE,
		.host = host,
		.fd = -1,
	};
}

static int add_singly(struct cleat_memory *memory, char *host, unsigned num)
{
	int err = 0;

	for (unsigned i = 0; i < num && !err; i++) {
		struct cleat_memory_range range = page_at(host, i);

		err = cleat_memory_add(memory, &range);
	}
	return err;
}

static int change_all(struct cleat_memory *memory, char *host, unsigned num,
		      uint32_t kind)
{
	static struct cleat_memory_change changes[BATCH];
	int err = 0;

	for (unsigned done = 0; done < num && !err; done += BATCH) {
		unsigned n = num - done < BATCH ? num - done : BATCH;

		for (unsigned i = 0; i < n; i++)
			changes[i] = (struct cleat_memory_change){
				.kind = kind,
				.range = page_at(host, done + i),
			};
		err = cleat_memory_update(memory, changes, n, 0);
	}
	return err;
}

static int measure_singly(char *host, unsigned num, double *ret_ns)
{
	struct cleat_memory *memory;
	uint64_t start;
	int err = cleat_memory_create(&memory);

	if (err)
		return err;
	start = cpu_ns();
	err = add_singly(memory, host, num);
	*ret_ns = since(start, num);
	cleat_memory_unref(memory);
	return err;
}

/*
 * The dirty log has a table of its own of the same kind, with as many entries:
 * a mark is a lookup and an or.
 */
static int measure_lookup(struct cleat_memory *memory, unsigned num,
			  double *ret_ns)
{
	uint64_t start;
	int err = cleat_memory_log_start(memory, 0, NULL);

	if (err)
		return err;
	start = cpu_ns();
	for (unsigned i = 0; i < LOOKUPS; i++)
		cleat_memory_mark_dirty(memory, scatter(i, num) * PAGE, 1);
	*ret_ns = since(start, LOOKUPS);
	cleat_memory_log_stop(memory);
	return 0;
}

static int measure_ranges(char *host, unsigned num)
{
	double singly = 0, together, bytes, lookup = 0, before = heap();
	struct cleat_memory *memory;
	uint64_t start;
	int err = num > MOST_SINGLY ? 0 : measure_singly(host, num, &singly);

	if (!err)
		err = cleat_memory_create(&memory);
	if (err)
		return err;
	before = heap();
	start = cpu_ns();
	err = change_all(memory, host, num, CLEAT_MEMORY_CHANGE_ADD);
	together = since(start, num);
	bytes = (heap() - before) / num;
	if (!err)
		err = measure_lookup(memory, num, &lookup);
	start = cpu_ns();
	if (!err)
		err = change_all(memory, host, num, CLEAT_MEMORY_CHANGE_REMOVE);
	if (!err)
		printf("%10u %9.0f %9.0f %9.0f %9.0f %9.0f\n", num, singly,
		       together, since(start, num), bytes, lookup);
	fflush(stdout);
	cleat_memory_unref(memory);
	return err;
}

int cleat_bench_scale(void)
{
	static char host[PAGE];
	int err = measure_devices();

	printf("\nRanges of 4 KiB of one memory; ns of CPU but for heap "
	       "(bytes); 0: not measured\n%10s %9s %9s %9s %9s %9s\n",
	       "ranges", "add", "together", "remove", "heap", "mark");
	for (unsigned num = 1u << 10; num <= MOST_RANGES && !err; num *= 4)
		err = measure_ranges(host, num);
	return err;
}
