/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef BENCH_OPTIONS_H
#define BENCH_OPTIONS_H

#include "bench/measure.h"

/**
 * struct bench_options - the command line
 * @count:  times per row, over all rounds
 * @probe:  the device's program; NULL: the one beside us
 * @check:  fail when a ratio is above its limit
 * @all:    run cleat-bench-dispatch, too
 * @rows:   chosen; none: all
 */
struct bench_options {
	uint64_t count;
	unsigned rounds;
	const char *probe;
	const char *json;
	const char *svg;
	bool check;
	bool all;
	const char *rows[BENCH_ROWS_MAX];
	unsigned nr_rows;
};

/* -1 to go on, otherwise the exit status. */
int cleat_bench_options(struct bench_options *options, int argc, char **argv);

/* All rows, by number; NULL past the last one. */
const struct bench_row *cleat_bench_row(unsigned number);

#endif
