/* SPDX-License-Identifier: BSD-2-Clause */
#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "bench/measure.h"

#define LIMIT_MS 60000
#define SETTLE_MS 2000

/* --- What is counted ----------------------------------------------------- */

/*
 * Whether a thread has yet to come to rest: it is awake, or it is a function's
 * own, which ends a while after its last work. It may have ended by now.
 */
static bool is_restless(int task)
{
	char path[64], line[128], state = 'S';
	bool is_passing = false;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/self/task/%d/status", task);
	file = fopen(path, "re");
	if (!file)
		return false;
	while (fgets(line, sizeof(line), file)) {
		is_passing |= !strcmp(line, "Name:\tcleat-pci\n");
		sscanf(line, "State: %c", &state);
	}
	fclose(file);
	return is_passing || state != 'S';
}

/* Any but this one. */
static bool are_threads_restless(void)
{
	DIR *tasks = opendir("/proc/self/task");
	struct dirent *task;
	bool restless = false;

	while (tasks && !restless && (task = readdir(tasks))) {
		int tid = atoi(task->d_name);

		restless = tid && tid != gettid() && is_restless(tid);
	}
	if (tasks)
		closedir(tasks);
	return restless;
}

static int64_t switches_of(int who)
{
	struct rusage usage;

	getrusage(who, &usage);
	return usage.ru_nvcsw + usage.ru_nivcsw;
}

/* The process's are those of its ended threads too. */
static void count_switches(struct bench_result *ret)
{
	ret->switches = switches_of(RUSAGE_THREAD);
	ret->others = switches_of(RUSAGE_SELF) - ret->switches;
}

static void count_guest(struct bench *bench, struct bench_result *ret)
{
	struct guest_stats stats;

	cleat_guest_stats(bench->guest, 0, &stats);
	ret->returns = (int64_t)cleat_guest_returned(bench->guest, 0);
	ret->mmio_exits = stats.mmio_exits;
	ret->messages = -1;
	if (bench->has_messages)
		ret->messages = (int64_t)cleat_plug_messages(&bench->plug);
}

static void pause_a_moment(void)
{
	struct timespec moment = { 0, 1000000 };

	nanosleep(&moment, NULL);
}

/* The other end may still be at it. */
int64_t cleat_bench_wait_for_events(struct bench *bench, int64_t wanted)
{
	int64_t events = bench->events(bench->opaque);

	for (int i = 0; events < wanted && i < SETTLE_MS; i++) {
		pause_a_moment();
		events = bench->events(bench->opaque);
	}
	return events;
}

/*
 * Asking for events may take messages: they are none of the row's. Nor is it
 * the row's doing that a thread has not yet gone back to sleep.
 */
static void count_before(struct bench *bench, int64_t events,
			 struct bench_result *ret)
{
	ret->events = -1;
	if (bench->events)
		ret->events = cleat_bench_wait_for_events(bench, events);
	count_guest(bench, ret);
	for (int i = 0; are_threads_restless() && i < SETTLE_MS; i++)
		pause_a_moment();
	count_switches(ret);
}

static void count_after(struct bench *bench, const struct bench_result *before,
			int64_t count, struct bench_result *ret)
{
	count_switches(ret);
	count_guest(bench, ret);
	ret->events = -1;
	if (bench->events)
		ret->events = cleat_bench_wait_for_events(bench, before->events + count);
}

/* -1 stays what nobody counts. */
static void add(int64_t *to, int64_t before, int64_t after, bool first)
{
	if (after < 0)
		*to = -1;
	else
		*to = (first ? 0 : *to) + after - before;
}

static void add_counts(struct bench_result *ret,
		       const struct bench_result *before,
		       const struct bench_result *after, int64_t count)
{
	bool first = !ret->rounds;

	ret->count += count;
	add(&ret->returns, before->returns, after->returns, first);
	add(&ret->mmio_exits, before->mmio_exits, after->mmio_exits, first);
	add(&ret->messages, before->messages, after->messages, first);
	add(&ret->events, before->events, after->events, first);
	add(&ret->switches, before->switches, after->switches, first);
	add(&ret->others, before->others, after->others, first);
}

/* --- Times --------------------------------------------------------------- */

static int by_ticks(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

static int by_time(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return x < y ? -1 : x > y;
}

double cleat_bench_quantile(const double *sorted, uint64_t nr, double share)
{
	return sorted[(uint64_t)((double)(nr - 1) * share)];
}

void cleat_bench_take(struct bench *bench, uint64_t *ticks, uint64_t nr,
		      struct bench_result *ret)
{
	double batch = bench->batch ? bench->batch : 1;
	double ns = 1e6 / (double)bench->tsc_khz / batch;

	qsort(ticks, nr, sizeof(*ticks), by_ticks);
	for (uint64_t i = 0; i < nr; i++)
		ret->times[ret->nr_times++] = (double)ticks[i] * ns;
	ret->medians[ret->rounds++] = (double)ticks[nr / 2] * ns;
}

void cleat_bench_finish(struct bench_result *result)
{
	uint64_t nr = result->nr_times;

	qsort(result->times, nr, sizeof(double), by_time);
	result->median_ns = cleat_bench_quantile(result->times, nr, 0.5);
	result->p99_ns = cleat_bench_quantile(result->times, nr, 0.99);
	result->worst_ns = result->times[nr - 1];
}

/* --- Of the guest's accesses --------------------------------------------- */

int cleat_bench_run(struct bench *bench, struct guest_op op,
		    struct bench_result *ret)
{
	int64_t batch = bench->batch ? bench->batch : 1;
	int64_t count = (int64_t)op.count * batch, events = 0;
	struct bench_result before, after;
	struct guest_op warm_up = op;
	int err;

	if (bench->events)
		events = bench->events(bench->opaque);
	op.batch = warm_up.batch = bench->batch;
	op.record = bench->record;
	warm_up.count = BENCH_WARM_UP;
	warm_up.record = 0;
	err = cleat_guest_run(bench->guest, 0, &warm_up, 1, bench->hooks,
			      LIMIT_MS);
	if (err)
		return err;
	/* A shadow doorbell rung with the same value is not rung. */
	op.value += BENCH_WARM_UP * op.step;
	count_before(bench, events + BENCH_WARM_UP * batch, &before);
	err = cleat_guest_run(bench->guest, 0, &op, 1, bench->hooks, LIMIT_MS);
	if (err)
		return err;
	count_after(bench, &before, count, &after);
	add_counts(ret, &before, &after, count);
	return 0;
}

int cleat_bench_measure(struct bench *bench, struct guest_op op,
			struct bench_result *ret)
{
	int err;

	op.count = bench->per_round;
	err = cleat_bench_run(bench, op, ret);
	if (!err)
		cleat_bench_take(bench,
				 cleat_guest_ram(bench->guest, bench->record),
				 op.count, ret);
	return err;
}

/* --- Of what the host does ----------------------------------------------- */

static uint64_t time_act(struct bench *bench, void (*act)(void *opaque),
			 void *opaque)
{
	uint64_t start = cleat_bench_clock();

	for (unsigned i = 0; i < (bench->batch ? bench->batch : 1); i++)
		act(opaque);
	return cleat_bench_clock() - start;
}

int cleat_bench_time(struct bench *bench, void (*act)(void *opaque),
		     void *opaque, struct bench_result *ret)
{
	uint64_t *ticks = cleat_guest_ram(bench->guest, bench->record);
	int64_t count =
		(int64_t)bench->per_round * (bench->batch ? bench->batch : 1);
	struct bench_result before, after;
	int64_t events = 0;

	if (bench->events)
		events = bench->events(bench->opaque);
	for (unsigned i = 0; i < BENCH_WARM_UP; i++)
		time_act(bench, act, opaque);
	count_before(bench, events + BENCH_WARM_UP, &before);
	for (uint64_t i = 0; i < bench->per_round; i++)
		ticks[i] = time_act(bench, act, opaque);
	count_after(bench, &before, count, &after);
	add_counts(ret, &before, &after, count);
	cleat_bench_take(bench, ticks, bench->per_round, ret);
	return 0;
}
