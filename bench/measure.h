/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * One measurement: how long each of many accesses took in the guest, and what
 * the kernel counted meanwhile. A way with no library behind it ("bare") is
 * measured as well, for the ratios.
 */
#ifndef BENCH_MEASURE_H
#define BENCH_MEASURE_H

#include <stdint.h>
#include <stdio.h>

#include "bench/guest.h"

/**
 * struct bench_result - what a row came to
 * @name, @what: the row's
 * @count:    accesses
 * @median_ns, @p99_ns, @worst_ns: of one access, seen by the guest
 * @returns:  returns of KVM_RUN
 * @mmio_exits: MMIO that left the kernel; -1 if KVM does not say
 * @messages: requests on the device's socket; -1 without a device
 * @events:   what arrived at the other end (kicks, interrupts); -1 if nothing
 *            is to
 * @switches: context switches of all threads of this process
 */
struct bench_result {
	const char *name;
	const char *what;
	uint64_t count;
	uint64_t median_ns;
	uint64_t p99_ns;
	uint64_t worst_ns;
	int64_t returns;
	int64_t mmio_exits;
	int64_t messages;
	int64_t events;
	int64_t switches;
};

/**
 * struct bench - the machine that the rows share
 * @guest:    one vCPU
 * @count:    accesses that are timed per row
 * @record:   guest address of room for their times
 * @tsc_khz:  what the guest's clock counts
 * @hooks:    of the row that runs; NULL: accesses that trap go nowhere
 * @messages: how many went over the row's device; NULL without one
 * @events:   how many arrived at the other end; NULL if nothing is to
 * @opaque:   handed to both
 */
struct bench {
	struct guest *guest;
	uint64_t count;
	uint64_t record;
	uint64_t tsc_khz;
	const struct guest_hooks *hooks;
	int64_t (*messages)(void *opaque);
	int64_t (*events)(void *opaque);
	void *opaque;
};

/* Of the same VM for all rows, at addresses that nothing else has. */
#define BENCH_WINDOW 0xe0000000ull
#define BENCH_VECTOR 0x50

int cleat_bench_open(struct bench *bench, int kvm_fd, uint64_t count);
void cleat_bench_close(struct bench *bench);

/*
 * Runs @op, @bench->count times, after a few that warm up and are not
 * measured.
 */
int cleat_bench_measure(struct bench *bench, struct guest_op op,
			struct bench_result *ret);

/**
 * struct bench_row - one line of the table
 * @name: by which it is chosen
 * @what: for people
 * @run:  0 or -errno; -EOPNOTSUPP: cannot be had here, left out
 */
struct bench_row {
	const char *name;
	const char *what;
	int (*run)(struct bench *bench, struct bench_result *ret);
};

extern const struct bench_row cleat_bench_rows[];
extern const unsigned cleat_bench_num_rows;

void cleat_bench_print(FILE *out, const struct bench_result *results,
		       unsigned nr);
/* 0 or -errno. */
int cleat_bench_print_json(FILE *out, const struct bench_result *results,
			   unsigned nr);

#endif
