/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * One measurement: how long each of many accesses took in the guest, and what
 * the kernel counted meanwhile. A way with no library behind it ("bare") is
 * measured as well, for the ratios; all rows are measured in every one of
 * several rounds, so that what else the machine does hits them alike.
 */
#ifndef BENCH_MEASURE_H
#define BENCH_MEASURE_H

#include <stdint.h>
#include <stdio.h>

#include "bench/machine.h"

#define BENCH_ROUNDS_MAX 100
#define BENCH_ROWS_MAX 40
#define BENCH_WARM_UP 64

/* Of the same VM for all rows. Bare rows have the first page of the window. */
#define BENCH_WINDOW 0xe0000000ull
#define BENCH_PLACE 0xe0040000u
#define BENCH_PORT 0x1000
#define BENCH_BARE_PORT 0x2000
#define BENCH_BARE_GSI 24
#define BENCH_BARE_VECTOR 0x50
#define BENCH_VECTOR 0x60

/**
 * struct bench_result - what a row came to
 * @row:      which
 * @times:    ns of one access as the guest saw it; of a batch the mean
 * @nr_times: how many
 * @rounds:   how many rounds, and the @medians of each
 * @median_ns, @p99_ns, @worst_ns: of all @times
 * @count:    accesses
 * @returns:  returns of KVM_RUN
 * @mmio_exits: MMIO that left the kernel; -1 if KVM does not say
 * @messages: requests on the device's socket; -1 without a device
 * @events:   what arrived at the other end (kicks, interrupts); -1 if nothing
 *            is to
 * @switches: context switches of the vCPU's thread
 * @others:   of all other threads of this process
 */
struct bench_result {
	const struct bench_row *row;
	double *times;
	uint64_t nr_times;
	unsigned rounds;
	double medians[BENCH_ROUNDS_MAX];
	double median_ns;
	double p99_ns;
	double worst_ns;
	int64_t count;
	int64_t returns;
	int64_t mmio_exits;
	int64_t messages;
	int64_t events;
	int64_t switches;
	int64_t others;
};

/* The other end of bare doorbells: a process that answers with an interrupt. */
struct echo {
	int pid;
	int kick;
	int irq;
	struct echo_shared *shared;
};

#define ECHO_STAMPS 4096

struct echo_shared {
	uint64_t nr;
	uint64_t stamps[ECHO_STAMPS];
};

/* What is measured in turns, see turns.c. */
enum bench_turn {
	BENCH_TURN_EXIT,
	BENCH_TURN_WRITE,
	BENCH_TURN_SHADOW,
	BENCH_TURNS,
};

/**
 * struct bench - the machine that the rows share
 * @machine:  one vCPU
 * @guest:    its guest
 * @plug:     a cleat-probe
 * @kicks:    its doorbells' descriptors, so that bare rows kick the same server
 * @echo:     the other end of bare ways there and back
 * @rounds, @per_round: how often, and how many times are taken each time
 * @record:   guest address of room for these times
 * @ram:      guest address of a page
 * @tsc_khz:  what the guest's clock counts
 * @tsc_offset: that clock less this process's
 * @has_offset: this is known
 *
 * And of the row that runs, forgotten after it but for @rung and @turns:
 *
 * @hooks:    NULL: accesses that trap go nowhere
 * @batch:    accesses per time, 0: one
 * @has_messages: count those to the device
 * @events:   how many arrived at the other end; NULL if nothing is to
 * @opaque:   handed to @events
 * @events_at: of cleat_bench_count_events()
 * @rung:     runs with values that must differ
 * @turns:    what rows that are measured in turns took in the last round
 * @turns_round: and its number, from 1 on
 */
struct bench {
	struct machine machine;
	struct guest *guest;
	struct plug plug;
	struct cleat_io_fds kicks;
	struct echo echo;
	unsigned rounds;
	uint64_t per_round;
	uint64_t record;
	uint64_t ram;
	uint64_t tsc_khz;
	int64_t tsc_offset;
	bool has_offset;

	const struct guest_hooks *hooks;
	unsigned batch;
	bool has_messages;
	int64_t (*events)(void *opaque);
	void *opaque;
	uint64_t events_at;
	uint64_t rung;
	uint64_t *turns[BENCH_TURNS];
	unsigned turns_round;
};

/* open.c: @probe is a cleat-probe. What fails is told on stderr. */
int cleat_bench_open(struct bench *bench, int kvm_fd, const char *probe);
void cleat_bench_close(struct bench *bench);

/* echo.c: before there are threads. */
int cleat_echo_start(struct echo *echo);
void cleat_echo_stop(struct echo *echo);

/*
 * Runs @op, @bench->per_round times, after a few that warm up and are not
 * measured, and adds the outcome to @ret. The guest's times are still in
 * @bench->record afterwards.
 */
int cleat_bench_measure(struct bench *bench, struct guest_op op,
			struct bench_result *ret);
/* The same for something of the host's, no guest being run: @act is timed. */
int cleat_bench_time(struct bench *bench, void (*act)(void *opaque),
		     void *opaque, struct bench_result *ret);
/* The row's events are those that the device counts in this register. */
void cleat_bench_count_events(struct bench *bench, uint64_t counter);
/* Until there are @wanted, or they do not come. Return: how many there are. */
int64_t cleat_bench_wait_for_events(struct bench *bench, int64_t wanted);
/* Run and count, but leave the times to the caller: cleat_bench_take(). */
int cleat_bench_run(struct bench *bench, struct guest_op op,
		    struct bench_result *ret);
/* A round's times in ticks, which are sorted. */
void cleat_bench_take(struct bench *bench, uint64_t *ticks, uint64_t nr,
		      struct bench_result *ret);
/*
 * What a row with stamps does: rings @address, with the stamps that whoever
 * answers leaves at @stamps, and takes the time from the stamp to the guest's
 * going on.
 */
int cleat_bench_interrupt(struct bench *bench, struct guest_op op,
			  int (*stamps)(struct bench *bench, uint64_t *ret),
			  struct bench_result *ret);
/* After the last round. */
void cleat_bench_finish(struct bench_result *result);

static inline uint64_t cleat_bench_clock(void)
{
	return __builtin_ia32_rdtsc();
}

/**
 * struct bench_row - one line of the table
 * @name:    by which it is chosen
 * @what:    for people
 * @run:     one round; 0 or -errno; -EOPNOTSUPP: cannot be had here, left out
 * @against: a row it is held against; may be NULL
 * @limit:   at most so many times that; 0: nothing is promised
 * @colour:  in the picture; NULL: not in it
 * @batch:   accesses per time
 * @dashed:  in the picture
 */
struct bench_row {
	const char *name;
	const char *what;
	int (*run)(struct bench *bench, struct bench_result *ret);
	const char *against;
	double limit;
	const char *colour;
	unsigned batch;
	bool dashed;
};

extern const struct bench_row cleat_bench_bare_rows[];
extern const unsigned cleat_bench_num_bare_rows;
extern const struct bench_row cleat_bench_device_rows[];
extern const unsigned cleat_bench_num_device_rows;
extern const struct bench_row cleat_bench_turn_rows[];
extern const unsigned cleat_bench_num_turn_rows;

/**
 * struct bench_ratio - how a row compares
 * @name:  which rows
 * @value: the median, over the rounds, of the ratio of medians
 * @low, @high: the quarters
 * @limit: 0: none
 */
struct bench_ratio {
	char name[80];
	double value;
	double low;
	double high;
	double limit;
};

#define BENCH_RATIOS_MAX BENCH_ROWS_MAX

/* How many of @ratios, of BENCH_RATIOS_MAX, there are. */
unsigned cleat_bench_ratios(const struct bench_result *results, unsigned nr,
			    struct bench_ratio *ratios);
/* Of two ratios, @value and the quarters. */
double cleat_bench_quantile(const double *sorted, uint64_t nr, double share);

/* What all of it ran on. */
struct bench_host {
	char cpu[80];
	char kernel[80];
	char kvm[40];
	unsigned cpus;
	double load[2]; /* of the last minute, before and after */
};

void cleat_bench_host(struct bench_host *host);

/**
 * struct bench_report - what is told
 */
struct bench_report {
	struct bench_host host;
	const struct bench_result *results;
	unsigned nr;
	struct bench_ratio ratios[BENCH_RATIOS_MAX];
	unsigned nr_ratios;
};

void cleat_bench_print(FILE *out, const struct bench_report *report);
/* 0 or -errno. */
int cleat_bench_print_json(FILE *out, const struct bench_report *report);
int cleat_bench_print_svg(FILE *out, const struct bench_report *report);

#endif
