/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * cleat-bench-dirty: what it costs to merge a bitmap of dirty pages, and to take
 * them out again. The bitmaps are made up, the memory is address space: no
 * server, no guest, one thread.
 */
#include <cleat/cleat.h>
#include <getopt.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#define PAGE 4096ull
#define PASSES 9
#define WORDS(length, page) ((length) / (page) / 64)

static uint64_t length = 1ull << 40;
static uint64_t random_state = 88172645463325252ull;

static uint64_t next_random(void)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	return random_state ^= random_state << 17;
}

/* --- Bitmaps -------------------------------------------------------------- */

static uint64_t none(uint64_t i)
{
	return 0;
}

static uint64_t one_in_a_thousand(uint64_t i)
{
	uint64_t random = next_random();

	return random % 16 ? 0 : 1ull << (random >> 58);
}

static uint64_t a_word_in_four(uint64_t i)
{
	return i % 4 ? 0 : next_random();
}

static uint64_t every_word(uint64_t i)
{
	return next_random() | 1;
}

static uint64_t every_page(uint64_t i)
{
	return ~0ull;
}

static const struct row {
	const char *name;
	uint64_t page;
	uint64_t shift; /* pages of 4 KiB between it and a word's beginning */
	uint64_t (*word)(uint64_t i);
} rows[] = {
	{ "nothing dirty", PAGE, 0, none },
	{ "a page in 1,000", PAGE, 0, one_in_a_thousand },
	{ "a word in four", PAGE, 0, a_word_in_four },
	{ "every word", PAGE, 0, every_word },
	{ "every page", PAGE, 0, every_page },
	{ "every word, begins 3 pages into one", PAGE, 3, every_word },
	{ "every word, pages of 64 KiB", 16 * PAGE, 0, every_word },
	{ "every word, pages of 2 MiB", 512 * PAGE, 0, every_word },
};

/* --- Measuring ------------------------------------------------------------ */

static double cpu_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
	return (double)now.tv_sec * 1e3 + (double)now.tv_nsec / 1e6;
}

static int compare(const void *a, const void *b)
{
	double left = *(const double *)a, right = *(const double *)b;

	return left < right ? -1 : left > right;
}

static double median(double *of)
{
	qsort(of, PASSES, sizeof(*of), compare);
	return of[PASSES / 2];
}

static uint64_t take_all(struct cleat_memory *memory)
{
	uint64_t guest = 0, got = 0, runs = 0;

	while (cleat_memory_log_take(memory, guest + got, length, &guest,
				     &got) == 1)
		runs++;
	return runs;
}

static int measure(struct cleat_memory *memory, const struct row *row,
		   uint64_t *bitmap)
{
	uint64_t span = length - 64 * PAGE, runs = 0;
	double merge[PASSES], again[PASSES], take[PASSES];

	for (unsigned pass = 0; pass < PASSES; pass++) {
		double start;

		for (uint64_t i = 0; i < WORDS(length, row->page) + 1; i++)
			bitmap[i] = row->word(i);
		start = cpu_ms();
		if (cleat_memory_log_merge(memory, row->shift * PAGE, span,
					   row->page, bitmap))
			return 1;
		merge[pass] = cpu_ms() - start;
		start = cpu_ms();
		cleat_memory_log_merge(memory, row->shift * PAGE, span,
				       row->page, bitmap);
		again[pass] = cpu_ms() - start;
		start = cpu_ms();
		runs = take_all(memory);
		take[pass] = cpu_ms() - start;
	}
	printf("%-36s %8.2f %8.2f %8.2f %10llu\n", row->name, median(merge),
	       median(again), median(take), (unsigned long long)runs);
	return 0;
}

static int run(void)
{
	struct cleat_memory_range range = { .size = sizeof(range),
					    .rights = CLEAT_WRITE,
					    .length = length,
					    .fd = -1 };
	uint64_t *bitmap = calloc(WORDS(length, PAGE) + 2, 8);
	struct cleat_memory *memory = NULL;
	int failed = 1;

	range.host = mmap(NULL, length, PROT_NONE,
			  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (bitmap && range.host != MAP_FAILED &&
	    !cleat_memory_create(&memory) &&
	    !cleat_memory_add(memory, &range) &&
	    !cleat_memory_log_start(memory, CLEAT_MEMORY_LOG_ALL, NULL)) {
		take_all(memory);
		failed = 0;
	}
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]) && !failed; i++)
		failed = measure(memory, &rows[i], bitmap);
	if (failed)
		fprintf(stderr, "cleat-bench-dirty: no memory for so large a "
				"guest: try --gib 64\n");
	cleat_memory_unref(memory);
	free(bitmap);
	return failed;
}

static void usage(FILE *to)
{
	fprintf(to, "usage: cleat-bench-dirty [--gib N]\n\n"
		    "Medians of %d passes, ms of CPU for a guest of N GiB "
		    "(1024): merging a bitmap\ninto a clean log, merging it "
		    "once more, and taking all of it out again in runs.\n",
		PASSES);
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "gib", required_argument, NULL, 'g' },
		{ "help", no_argument, NULL, 'h' },
		{ "version", no_argument, NULL, 'V' },
		{ 0 },
	};
	int option;

	while ((option = getopt_long(argc, argv, "g:hV", options, NULL)) >= 0) {
		char *end = NULL;

		if (option == 'V')
			return printf("cleat-bench-dirty " CLEAT_VERSION
				      "\n") < 0;
		if (option == 'h') {
			usage(stdout);
			return 0;
		}
		if (option == 'g')
			length = strtoull(optarg, &end, 10) << 30;
		if (!end || *end || length < 1ull << 30 || length > 1ull << 44) {
			usage(stderr);
			return 2;
		}
	}
	if (optind < argc) {
		usage(stderr);
		return 2;
	}
	printf("%-36s %8s %8s %8s %10s\n", "", "merge", "again", "take", "runs");
	return run();
}
