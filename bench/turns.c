/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What a shadow doorbell is held against: an exit, a write to an eventfd that
 * wakes the same server, and the doorbell itself, in turns within one run of
 * the guest.
 *
 * What a wake-up costs the one who writes depends on what the other processor
 * is at (asleep, looking for work for a while before it sleeps, at somebody
 * else's), by a factor of twenty, and on what has been through the caches since
 * the last one. So the write is done by the vCPU's thread when the guest has
 * just left, and a few of all kinds are done in each millisecond.
 */
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "backends/probe/probe_regs.h"
#include "bench/measure.h"

#define LIMIT_MS 60000
#define WRITE_AT (BENCH_WINDOW + 64)
#define SHADOW_AT (BENCH_PLACE + PLUG_DOORBELLS + PROBE_AT_SHADOW(0))
/* Each of them comes after a bare exit: 4 operations. */
#define PER_RUN (GUEST_OPS_MAX / 4)

struct turns {
	struct bench *bench;
	int fd;
	uint64_t written; /* ticks that the last write took */
	uint64_t *writes; /* where those of the next one go */
};

static int time_write(struct turns *turns)
{
	uint64_t start = cleat_bench_clock(), one = 1;
	/* Its counter has room for more than any run of ours. */
	ssize_t written = write(turns->fd, &one, sizeof(one));

	*turns->writes++ = cleat_bench_clock() - start;
	return written < 0 ? -errno : 0;
}

static int on_access(void *opaque, unsigned cpu,
		     const struct guest_access *access)
{
	struct turns *turns = opaque;
	const struct guest_hooks *hooks = &turns->bench->machine.hooks;

	if (access->address == BENCH_WINDOW)
		return 0;
	if (access->address == WRITE_AT)
		return time_write(turns);
	return hooks->access(hooks->opaque, cpu, access);
}

/* A bare exit, a write, a bare exit, the doorbell with another value. */
static void fill(struct guest_op *ops, struct bench *bench, unsigned i)
{
	struct guest_op op = { .kind = GUEST_STORE, .size = 4, .count = 1 };
	uint64_t record = bench->record + 2 * sizeof(uint64_t) * i;

	op.address = BENCH_WINDOW;
	ops[0] = ops[2] = op;
	ops[0].record = record;
	op.address = WRITE_AT;
	ops[1] = op;
	op.address = SHADOW_AT;
	op.value = bench->rung << 20 | i;
	op.record = record + sizeof(uint64_t);
	ops[3] = op;
}

/* @nr of each; their times from @ticks[] on. */
static int run_some(struct turns *turns, unsigned nr, uint64_t *ticks[3])
{
	const struct guest_hooks hooks = { .access = on_access,
					   .opaque = turns };
	struct bench *bench = turns->bench;
	const uint64_t *times = cleat_guest_ram(bench->guest, bench->record);
	struct guest_op ops[GUEST_OPS_MAX];
	int err;

	bench->rung++;
	for (unsigned i = 0; i < nr; i++)
		fill(&ops[4 * i], bench, i);
	turns->writes = ticks[BENCH_TURN_WRITE];
	err = cleat_guest_run(bench->guest, 0, ops, 4 * nr, &hooks, LIMIT_MS);
	for (unsigned i = 0; i < nr && !err; i++) {
		ticks[BENCH_TURN_EXIT][i] = times[2 * i];
		ticks[BENCH_TURN_SHADOW][i] = times[2 * i + 1];
	}
	return err;
}

static int run_all(struct turns *turns, uint64_t *ticks[3])
{
	uint64_t left = turns->bench->per_round, nr;
	int err = 0;

	/* Those that warm up are written over. */
	for (unsigned i = 0; i < BENCH_WARM_UP && !err; i += PER_RUN)
		err = run_some(turns, left < PER_RUN ? left : PER_RUN, ticks);
	for (; left && !err; left -= nr) {
		nr = left < PER_RUN ? left : PER_RUN;
		err = run_some(turns, (unsigned)nr, ticks);
		for (unsigned i = 0; i < BENCH_TURNS; i++)
			ticks[i] += nr;
	}
	return err;
}

/* A round of all of them, for the first of the rows that asks. */
static int measure(struct bench *bench)
{
	struct turns turns = { .bench = bench, .fd = -1 };
	uint64_t *ticks[BENCH_TURNS];
	int64_t before;
	int err;

	for (unsigned i = 0; i < bench->kicks.num; i++)
		if (bench->kicks.entries[i].offset == PROBE_AT_SHADOW(0))
			turns.fd = bench->kicks.entries[i].fd;
	if (turns.fd < 0)
		return -EOPNOTSUPP;
	for (unsigned i = 0; i < BENCH_TURNS; i++) {
		free(bench->turns[i]);
		bench->turns[i] = ticks[i] =
			calloc(bench->per_round, sizeof(**ticks));
		if (!ticks[i])
			return -ENOMEM;
	}
	cleat_bench_count_events(bench, PROBE_SHADOW_KICKS);
	before = bench->events(bench->opaque);
	err = run_all(&turns, ticks);
	/* The next row counts its own kicks alone. */
	if (!err)
		cleat_bench_wait_for_events(
			bench, before + 2 * (int64_t)bench->per_round);
	return err;
}

static int take(struct bench *bench, enum bench_turn turn,
		struct bench_result *ret)
{
	int err = bench->turns_round == ret->rounds + 1 ? 0 : measure(bench);

	if (err)
		return err;
	bench->turns_round = ret->rounds + 1;
	ret->count += (int64_t)bench->per_round;
	ret->returns = ret->mmio_exits = ret->messages = ret->events = -1;
	ret->switches = ret->others = -1;
	cleat_bench_take(bench, bench->turns[turn], bench->per_round, ret);
	return 0;
}

static int turn_exit(struct bench *bench, struct bench_result *ret)
{
	return take(bench, BENCH_TURN_EXIT, ret);
}

static int turn_write(struct bench *bench, struct bench_result *ret)
{
	return take(bench, BENCH_TURN_WRITE, ret);
}

static int turn_shadow(struct bench *bench, struct bench_result *ret)
{
	return take(bench, BENCH_TURN_SHADOW, ret);
}

const struct bench_row cleat_bench_turn_rows[] = {
	{ "exit-in-turn", "in turns: exit to user space and nothing",
	  turn_exit },
	{ "eventfd-in-turn", "in turns: after the exit, write() to an eventfd "
			     "a process sleeps on",
	  turn_write },
	{ "shadow-in-turn", "in turns: shadow doorbell of the same process",
	  turn_shadow },
};

const unsigned cleat_bench_num_turn_rows =
	sizeof(cleat_bench_turn_rows) / sizeof(*cleat_bench_turn_rows);
