/* SPDX-License-Identifier: BSD-2-Clause */
/* The rows with the library and a cleat-probe, a way each. */
#include <errno.h>
#include <string.h>

#include "backends/probe/probe_regs.h"
#include "bench/measure.h"

#define BATCH 1000
#define REGS (BENCH_PLACE + PLUG_REGS)
#define DOORBELLS (BENCH_PLACE + PLUG_DOORBELLS)
#define PAGES (BENCH_PLACE + PLUG_PAGES)

/* Of a counter of the device's. */
static int64_t get_events(void *opaque)
{
	struct bench *bench = opaque;

	return (int64_t)cleat_plug_get(&bench->plug, bench->events_at, 8);
}

void cleat_bench_count_events(struct bench *bench, uint64_t counter)
{
	bench->events = get_events;
	bench->opaque = bench;
	bench->events_at = counter;
}

static int64_t get_interrupts(void *opaque)
{
	return (int64_t)cleat_guest_interrupts(opaque, BENCH_VECTOR);
}

static void count_interrupts(struct bench *bench)
{
	bench->events = get_interrupts;
	bench->opaque = bench->guest;
}

/* What traps goes to the library, and messages count. */
static int measure(struct bench *bench, struct guest_op op,
		   struct bench_result *ret)
{
	bench->hooks = &bench->machine.hooks;
	bench->has_messages = true;
	return cleat_bench_measure(bench, op, ret);
}

static int store(struct bench *bench, uint64_t address, uint64_t value,
		 struct bench_result *ret)
{
	struct guest_op op = {
		.kind = GUEST_STORE,
		.size = 4,
		.address = address,
		.value = value,
	};

	return measure(bench, op, ret);
}

static int load(struct bench *bench, uint64_t address, struct bench_result *ret)
{
	struct guest_op op = {
		.kind = GUEST_LOAD,
		.size = 4,
		.address = address,
	};

	return measure(bench, op, ret);
}

/* --- Doorbells and pages ------------------------------------------------- */

static int mapped_write(struct bench *bench, struct bench_result *ret)
{
	return store(bench, PAGES + PROBE_AREA_1, 1, ret);
}

static int mapped_read(struct bench *bench, struct bench_result *ret)
{
	return load(bench, PAGES + PROBE_AREA_1, ret);
}

static int ioeventfd_write(struct bench *bench, struct bench_result *ret)
{
	cleat_bench_count_events(bench, PROBE_EVENTS(PROBE_DB_4));
	return store(bench, DOORBELLS + PROBE_AT_4, 1, ret);
}

static int ioeventfd_any(struct bench *bench, struct bench_result *ret)
{
	cleat_bench_count_events(bench, PROBE_EVENTS(PROBE_DB_ANY));
	return store(bench, DOORBELLS + PROBE_AT_ANY, 1, ret);
}

static int ioeventfd_match(struct bench *bench, struct bench_result *ret)
{
	cleat_bench_count_events(bench, PROBE_EVENTS(PROBE_DB_MATCH(0)));
	return store(bench, DOORBELLS + PROBE_AT_MATCH, 0, ret);
}

static struct guest_op shadow_op(struct bench *bench)
{
	return (struct guest_op){
		.kind = GUEST_STORE,
		.size = 4,
		.address = DOORBELLS + PROBE_AT_SHADOW(0),
		/* Another value each time, or it is not rung. */
		.value = ++bench->rung << 20,
		.step = 1,
	};
}

static int shadow_write(struct bench *bench, struct bench_result *ret)
{
	cleat_bench_count_events(bench, PROBE_SHADOW_KICKS);
	return measure(bench, shadow_op(bench), ret);
}

static int trapped_write(struct bench *bench, struct bench_result *ret)
{
	cleat_bench_count_events(bench, PROBE_MESSAGES(PROBE_DB_MESSAGE));
	return store(bench, DOORBELLS + PROBE_AT_MESSAGE, 1, ret);
}

static int trapped_read(struct bench *bench, struct bench_result *ret)
{
	return load(bench, REGS + PROBE_SCRATCH, ret);
}

/* A VMM that knows of a register that nobody has to wait for. */
static int post(void *opaque, unsigned cpu, const struct guest_access *access)
{
	struct bench *bench = opaque;

	return cleat_region_post(bench->plug.dev, PROBE_BAR_DOORBELLS,
				 access->address - DOORBELLS, access->data,
				 access->length);
}

static int posted_write(struct bench *bench, struct bench_result *ret)
{
	const struct guest_hooks hooks = { .access = post, .opaque = bench };
	struct guest_op op = {
		.kind = GUEST_STORE,
		.size = 4,
		.address = DOORBELLS + PROBE_AT_MESSAGE,
	};

	cleat_bench_count_events(bench, PROBE_MESSAGES(PROBE_DB_MESSAGE));
	bench->hooks = &hooks;
	bench->has_messages = true;
	return cleat_bench_measure(bench, op, ret);
}

/* --- The dispatch alone -------------------------------------------------- */

static void dispatch(void *opaque)
{
	struct bench *bench = opaque;
	uint32_t value = 1;

	cleat_mmio_access(bench->machine.mmio, CLEAT_MEMORY,
			  PAGES + PROBE_AREA_1, &value, sizeof(value), true);
}

static int lookup(struct bench *bench, struct bench_result *ret)
{
	bench->has_messages = true;
	return cleat_bench_time(bench, dispatch, bench, ret);
}

/* --- There and back ------------------------------------------------------ */

static int ring_and_wait(struct bench *bench, struct guest_op op,
			 struct bench_result *ret)
{
	int err;

	op.wait_at = cleat_guest_counter(BENCH_VECTOR);
	count_interrupts(bench);
	cleat_plug_set(&bench->plug, PROBE_ECHO, PROBE_ECHO_ON);
	err = measure(bench, op, ret);
	cleat_plug_set(&bench->plug, PROBE_ECHO, 0);
	return err;
}

static struct guest_op echo_op(void)
{
	return (struct guest_op){
		.kind = GUEST_STORE,
		.size = 4,
		.address = DOORBELLS + PROBE_AT_ECHO(0),
	};
}

static int there_and_back(struct bench *bench, struct bench_result *ret)
{
	return ring_and_wait(bench, echo_op(), ret);
}

static int shadow_back(struct bench *bench, struct bench_result *ret)
{
	return ring_and_wait(bench, shadow_op(bench), ret);
}

static int trapped_back(struct bench *bench, struct bench_result *ret)
{
	struct guest_op op = {
		.kind = GUEST_STORE,
		.size = 4,
		.address = DOORBELLS + PROBE_AT_MESSAGE,
	};

	return ring_and_wait(bench, op, ret);
}

static int mapped_back(struct bench *bench, struct bench_result *ret)
{
	struct guest_op op = {
		.kind = GUEST_STORE,
		.size = 4,
		.address = PAGES + PROBE_MAPPED_DOORBELL,
		.value = ++bench->rung << 20,
		.step = 1,
	};
	int err;

	cleat_plug_set(&bench->plug, PROBE_POLL, 1);
	err = ring_and_wait(bench, op, ret);
	cleat_plug_set(&bench->plug, PROBE_POLL, 0);
	return err;
}

/* --- Interrupts ---------------------------------------------------------- */

int cleat_bench_interrupt(struct bench *bench, struct guest_op op,
			  int (*stamps)(struct bench *bench, uint64_t *ret),
			  struct bench_result *ret)
{
	uint64_t *times = cleat_guest_ram(bench->guest, bench->record);
	uint64_t fired[ECHO_STAMPS];
	int err;

	if (!bench->has_offset)
		return -EOPNOTSUPP;
	op.stamp = true;
	op.count = bench->per_round;
	if (op.count > ECHO_STAMPS - BENCH_WARM_UP)
		op.count = ECHO_STAMPS - BENCH_WARM_UP;
	err = cleat_bench_run(bench, op, ret);
	if (!err)
		err = stamps(bench, fired);
	if (err)
		return err;
	for (uint64_t i = 0; i < op.count; i++)
		times[i] -=
			fired[BENCH_WARM_UP + i] + (uint64_t)bench->tsc_offset;
	cleat_bench_take(bench, times, op.count, ret);
	return 0;
}

static int probe_stamps(struct bench *bench, uint64_t *ret)
{
	_Static_assert(ECHO_STAMPS == PROBE_STAMPS_MAX, "as many of either");

	return cleat_region_read(bench->plug.dev, PROBE_BAR_PAGES, PROBE_STAMPS,
				 ret, ECHO_STAMPS * sizeof(*ret));
}

static int interrupt(struct bench *bench, struct bench_result *ret)
{
	struct guest_op op = echo_op();
	int err;

	op.wait_at = cleat_guest_counter(BENCH_VECTOR);
	count_interrupts(bench);
	bench->hooks = &bench->machine.hooks;
	bench->has_messages = true;
	cleat_plug_set(&bench->plug, PROBE_ECHO, PROBE_ECHO_ON);
	cleat_plug_set(&bench->plug, PROBE_STAMP, 1);
	err = cleat_bench_interrupt(bench, op, probe_stamps, ret);
	cleat_plug_set(&bench->plug, PROBE_STAMP, 0);
	cleat_plug_set(&bench->plug, PROBE_ECHO, 0);
	return err;
}

const struct bench_row cleat_bench_device_rows[] = {
	{ "mapped-write", "mapped page, store", mapped_write, "ram-write", 1.05,
	  "#1b7837", BATCH },
	{ "mapped-read", "mapped page, load", mapped_read, "ram-read", 1.05,
	  NULL, BATCH },
	{ "ioeventfd-write", "doorbell: ioeventfd of 4 bytes", ioeventfd_write,
	  "bare-kick", 1.05, "#2166ac", 0 },
	{ "ioeventfd-any", "doorbell: ioeventfd of any length", ioeventfd_any,
	  "bare-kick-any", 1.05, NULL, 0 },
	{ "ioeventfd-match", "doorbell: ioeventfd with datamatch",
	  ioeventfd_match, "bare-kick-match", 1.05, NULL, 0 },
	{ "shadow-write", "shadow doorbell", shadow_write, NULL, 0, "#762a83",
	  0 },
	{ "posted-write", "message without a reply", posted_write, NULL, 0,
	  "#e08214", 0 },
	{ "trapped-write", "message and its reply, store", trapped_write, NULL,
	  0, "#b2182b", 0 },
	{ "trapped-read", "message and its reply, load", trapped_read, NULL, 0,
	  NULL, 0 },
	{ "interrupt", "server's irqfd to the guest going on", interrupt,
	  "bare-interrupt", 0, "#35978f", 0 },
	{ "there-and-back", "ioeventfd, server, irqfd", there_and_back,
	  "bare-there-and-back", 0, "#01665e", 0 },
	{ "mapped-and-back", "polled mapped page, server, irqfd", mapped_back,
	  NULL, 0, NULL, 0 },
	{ "shadow-and-back", "shadow doorbell, server, irqfd", shadow_back,
	  NULL, 0, NULL, 0 },
	{ "trapped-and-back", "message, server, irqfd", trapped_back, NULL, 0,
	  NULL, 0 },
	{ "lookup", "dispatch in this process, a store to a page", lookup, NULL,
	  0, NULL, BATCH },
};

const unsigned cleat_bench_num_device_rows =
	sizeof(cleat_bench_device_rows) / sizeof(*cleat_bench_device_rows);
