/* SPDX-License-Identifier: BSD-2-Clause */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "bench/measure.h"

#define WARM_UP 64
#define LIMIT_MS 60000

int cleat_bench_open(struct bench *bench, int kvm_fd, uint64_t count)
{
	struct guest_config config = {
		.irqchip = GUEST_IRQCHIP_KERNEL,
		.cpus = 1,
	};
	size_t times = (size_t)count * sizeof(uint64_t);
	int err;

	memset(bench, 0, sizeof(*bench));
	config.ram_size = ((4u << 20) + times + 4095) & ~(size_t)4095;
	err = cleat_guest_create(kvm_fd, &config, &bench->guest);
	if (err)
		return err;
	bench->count = count;
	bench->record = cleat_guest_alloc(bench->guest, times);
	bench->tsc_khz = cleat_guest_tsc_khz(bench->guest);
	if (!bench->record || !bench->tsc_khz)
		err = bench->record ? -EOPNOTSUPP : -ENOMEM;
	if (!err)
		err = cleat_guest_window(bench->guest, BENCH_WINDOW, 1u << 20);
	if (err)
		cleat_bench_close(bench);
	return err;
}

void cleat_bench_close(struct bench *bench)
{
	cleat_guest_destroy(bench->guest);
	bench->guest = NULL;
}

static int by_time(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

static uint64_t to_ns(const struct bench *bench, uint64_t ticks)
{
	return ticks * 1000000 / bench->tsc_khz;
}

static void take_times(struct bench *bench, struct bench_result *ret)
{
	uint64_t *times = cleat_guest_ram(bench->guest, bench->record);
	uint64_t count = bench->count;

	qsort(times, count, sizeof(*times), by_time);
	ret->count = count;
	ret->median_ns = to_ns(bench, times[count / 2]);
	ret->p99_ns = to_ns(bench, times[count - 1 - count / 100]);
	ret->worst_ns = to_ns(bench, times[count - 1]);
}

static int64_t count_switches(void)
{
	struct rusage usage;

	getrusage(RUSAGE_SELF, &usage);
	return usage.ru_nvcsw + usage.ru_nivcsw;
}

static void take_counts(struct bench *bench, struct bench_result *ret)
{
	struct guest_stats stats;

	cleat_guest_stats(bench->guest, 0, &stats);
	ret->returns = (int64_t)cleat_guest_returned(bench->guest, 0);
	ret->mmio_exits = stats.mmio_exits;
	ret->messages = bench->messages ? bench->messages(bench->opaque) : -1;
	ret->events = bench->events ? bench->events(bench->opaque) : -1;
	ret->switches = count_switches();
}

/* What came between two counts; -1 stays what nobody counts. */
static void subtract(struct bench_result *ret,
		     const struct bench_result *before)
{
	ret->returns -= before->returns;
	ret->switches -= before->switches;
	if (ret->mmio_exits >= 0)
		ret->mmio_exits -= before->mmio_exits;
	if (ret->messages >= 0)
		ret->messages -= before->messages;
	if (ret->events >= 0)
		ret->events -= before->events;
}

int cleat_bench_measure(struct bench *bench, struct guest_op op,
			struct bench_result *ret)
{
	struct bench_result before;
	int err;

	op.count = WARM_UP;
	err = cleat_guest_run(bench->guest, 0, &op, 1, bench->hooks, LIMIT_MS);
	if (err)
		return err;
	op.count = bench->count;
	op.record = bench->record;
	take_counts(bench, &before);
	err = cleat_guest_run(bench->guest, 0, &op, 1, bench->hooks, LIMIT_MS);
	if (err)
		return err;
	take_counts(bench, ret);
	subtract(ret, &before);
	take_times(bench, ret);
	return 0;
}
