/* SPDX-License-Identifier: BSD-2-Clause */
/* What rows come to when held against each other, round by round. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/measure.h"

static const struct bench_result *find(const struct bench_result *results,
				       unsigned nr, const char *name)
{
	for (unsigned i = 0; i < nr; i++)
		if (!strcmp(results[i].row->name, name))
			return &results[i];
	return NULL;
}

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return x < y ? -1 : x > y;
}

static void take(struct bench_ratio *ratio, double *values, unsigned nr)
{
	qsort(values, nr, sizeof(*values), by_value);
	ratio->value = cleat_bench_quantile(values, nr, 0.5);
	ratio->low = cleat_bench_quantile(values, nr, 0.25);
	ratio->high = cleat_bench_quantile(values, nr, 0.75);
}

static void compare(const struct bench_result *row,
		    const struct bench_result *against,
		    struct bench_ratio *ratio)
{
	double values[BENCH_ROUNDS_MAX];

	for (unsigned i = 0; i < row->rounds; i++)
		values[i] = row->medians[i] / against->medians[i];
	take(ratio, values, row->rounds);
	ratio->limit = row->row->limit;
	snprintf(ratio->name, sizeof(ratio->name), "%s / %s", row->row->name,
		 against->row->name);
}

/* It must exit, wake the server and look up once; it may do nothing else. */
static bool compare_shadow(const struct bench_result *results, unsigned nr,
			   struct bench_ratio *ratio)
{
	const struct bench_result *shadow = find(results, nr, "shadow-in-turn");
	const struct bench_result *leave = find(results, nr, "exit-in-turn");
	const struct bench_result *kick = find(results, nr, "eventfd-in-turn");
	const struct bench_result *lookup = find(results, nr, "lookup");
	double values[BENCH_ROUNDS_MAX];

	if (!shadow || !leave || !kick || !lookup)
		return false;
	for (unsigned i = 0; i < shadow->rounds; i++)
		values[i] = shadow->medians[i] /
			    (leave->medians[i] + 1.5 * kick->medians[i] +
			     lookup->medians[i]);
	take(ratio, values, shadow->rounds);
	ratio->limit = 1;
	snprintf(ratio->name, sizeof(ratio->name), "%s",
		 "shadow-in-turn / (exit-in-turn + 1.5 eventfd-in-turn + "
		 "lookup)");
	return true;
}

unsigned cleat_bench_ratios(const struct bench_result *results, unsigned nr,
			    struct bench_ratio *ratios)
{
	unsigned count = 0;

	for (unsigned i = 0; i < nr; i++) {
		const struct bench_row *row = results[i].row;
		const struct bench_result *against =
			row->against ? find(results, nr, row->against) : NULL;

		if (against)
			compare(&results[i], against, &ratios[count++]);
	}
	return count + compare_shadow(results, nr, &ratios[count]);
}
