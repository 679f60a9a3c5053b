/* SPDX-License-Identifier: BSD-2-Clause */
#include <errno.h>
#include <getopt.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <yajl/yajl_gen.h>

#include "bench/dispatch.h"

#define MAX_THREADS 2
#define UPDATES_PER_SECOND 1000
#define ADDRESSES 4096
#define MAX_REGIONS 10000

static const struct bench_dispatch *const ways[] = {
	&cleat_bench_mutex,
	&cleat_bench_rwlock,
	&cleat_bench_memb,
	&cleat_bench_qsbr,
	&cleat_bench_rcu, /* the last: targets are of this one */
};
static const unsigned sizes[] = { 1, 100, MAX_REGIONS };

enum { NR_WAYS = 5, NR_SIZES = 3 };

/* What one way comes to at one size: ns a store costs one of its threads. */
struct cell {
	double ns[MAX_THREADS][2]; /* by threads - 1, without and with updates */
};

/* A ratio, and what it is to be: at most @limit, or at least. */
struct target {
	const char *what;
	double value;
	double limit;
	bool is_most;
};

enum { NR_TARGETS = 3 };

struct run {
	const struct bench_dispatch *way;
	const uint64_t *addresses;
	clockid_t clock; /* what the stores are timed with */
	pthread_barrier_t start;
	atomic_bool over;
	atomic_int err;
};

struct worker {
	struct run *run;
	pthread_t thread;
	unsigned number;
	uint64_t stores;
	uint64_t ns;
};

static uint64_t now_ns(clockid_t clock)
{
	struct timespec now;

	clock_gettime(clock, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static void pause_ns(uint64_t ns)
{
	struct timespec pause = { .tv_sec = (time_t)(ns / 1000000000u),
				  .tv_nsec = (long)(ns % 1000000000u) };

	nanosleep(&pause, NULL);
}

/* Each thread has a part of the page: the device's registers are not what is
 * measured. */
static void *work(void *arg)
{
	struct worker *worker = arg;
	struct run *run = worker->run;
	uint64_t offset = worker->number * 256, start;
	unsigned i = worker->number * 1000;
	int err = 0;

	pthread_barrier_wait(&run->start);
	start = now_ns(run->clock);
	while (!err && !atomic_load_explicit(&run->over,
					     memory_order_relaxed)) {
		for (unsigned n = 0; n < 64 && !err; n++, i++)
			err = run->way->store(
				run->addresses[i % ADDRESSES] + offset, i);
		worker->stores += 64;
	}
	worker->ns = now_ns(run->clock) - start;
	if (err)
		atomic_store(&run->err, err);
	return NULL;
}

static void *update(void *arg)
{
	struct run *run = arg;
	uint64_t next;

	pthread_barrier_wait(&run->start);
	next = now_ns(CLOCK_MONOTONIC);
	while (!atomic_load(&run->over)) {
		uint64_t now = now_ns(CLOCK_MONOTONIC);

		if (next > now)
			pause_ns(next - now);
		next += 1000000000u / UPDATES_PER_SECOND;
		if (run->way->update())
			atomic_store(&run->err, -EIO);
	}
	return NULL;
}

static int start_all(struct run *run, struct worker *workers, unsigned threads,
		     pthread_t *updater, bool updates)
{
	int err = 0;

	pthread_barrier_init(&run->start, NULL, threads + updates + 1);
	for (unsigned i = 0; i < threads && !err; i++) {
		workers[i] = (struct worker){ .run = run, .number = i };
		err = pthread_create(&workers[i].thread, NULL, work,
				     &workers[i]);
	}
	if (!err && updates)
		err = pthread_create(updater, NULL, update, run);
	return -err;
}

struct options {
	unsigned ms;
	unsigned rounds;
	bool json;
	bool cpu;
	bool check;
};

/* ns per store, or a negative errno. */
static double measure(const struct bench_dispatch *way,
		      const uint64_t *addresses, unsigned threads, bool updates,
		      const struct options *options)
{
	struct run run = { .way = way,
			   .addresses = addresses,
			   .clock = options->cpu ? CLOCK_THREAD_CPUTIME_ID :
						   CLOCK_MONOTONIC };
	struct worker workers[MAX_THREADS];
	double ns = 0;
	pthread_t updater;
	int err = start_all(&run, workers, threads, &updater, updates);

	/* Nothing sensible can be done without threads. */
	if (err)
		exit(1);
	pthread_barrier_wait(&run.start);
	pause_ns(options->ms * 1000000ull);
	atomic_store(&run.over, true);
	for (unsigned i = 0; i < threads; i++) {
		pthread_join(workers[i].thread, NULL);
		ns += (double)workers[i].ns / (double)workers[i].stores;
	}
	if (updates)
		pthread_join(updater, NULL);
	pthread_barrier_destroy(&run.start);
	err = atomic_load(&run.err);
	return err ? err : ns / threads;
}

static void spread(uint64_t *addresses, unsigned regions)
{
	unsigned short seed[3] = { 1, 2, 3 };

	for (unsigned i = 0; i < ADDRESSES; i++)
		addresses[i] = CLEAT_BENCH_BASE +
			       (uint64_t)nrand48(seed) % regions *
				       CLEAT_BENCH_STRIDE;
}

/* Threads and updates take turns within a round. */
static int measure_cell(const struct bench_dispatch *way, unsigned regions,
			const struct options *options, struct cell *cell)
{
	static uint64_t addresses[ADDRESSES];
	int err = way->create(regions);

	spread(addresses, regions);
	/* The first store to each page is a page fault. */
	for (unsigned i = 0; i < ADDRESSES && !err; i++)
		err = way->store(addresses[i], i);
	for (unsigned i = 0; i < 4 && !err; i++) {
		unsigned threads = 1 + i % 2;
		bool updates = i % 4 > 1;
		double *best = &cell->ns[threads - 1][updates];
		double ns = measure(way, addresses, threads, updates,
				    options);

		if (ns < 0)
			err = (int)ns;
		else if (!*best || ns < *best)
			*best = ns;
	}
	way->destroy();
	return err;
}

/*
 * Each round goes over all ways and sizes, and the best one counts: what else
 * the machine does for a second hits one round of all of them, and not all
 * rounds of one, which would then be held against others' quiet ones.
 */
static int measure_all(const struct options *options,
		       struct cell cells[NR_WAYS][NR_SIZES])
{
	int err = 0;

	for (unsigned round = 0; round < options->rounds; round++)
		for (unsigned i = 0; i < NR_WAYS * NR_SIZES && !err; i++)
			err = measure_cell(ways[i / NR_SIZES],
					   sizes[i % NR_SIZES], options,
					   &cells[i / NR_SIZES][i % NR_SIZES]);
	return err;
}

/* --- Output ------------------------------------------------------------------ */

static double speedup(const struct cell *cell)
{
	return 2 * cell->ns[0][0] / cell->ns[1][0];
}

static void print_table(struct cell cells[NR_WAYS][NR_SIZES])
{
	printf("%-8s %8s %10s %10s %10s %10s %9s\n", "", "regions", "1 thread",
	       "2 threads", "1, updates", "2, updates", "speed-up");
	for (unsigned w = 0; w < NR_WAYS; w++) {
		for (unsigned s = 0; s < NR_SIZES; s++) {
			const struct cell *cell = &cells[w][s];

			printf("%-8s %8u %7.1f ns %7.1f ns %7.1f ns %7.1f ns "
			       "%8.2fx\n",
			       ways[w]->name, sizes[s], cell->ns[0][0],
			       cell->ns[1][0], cell->ns[0][1], cell->ns[1][1],
			       speedup(cell));
		}
	}
}

/* What is promised of the library's way, at the size where it is hardest. */
static void find_targets(struct cell cells[NR_WAYS][NR_SIZES],
			 struct target targets[NR_TARGETS])
{
	const struct cell *one = &cells[NR_WAYS - 1][0];
	const struct cell *most = &cells[NR_WAYS - 1][NR_SIZES - 1];

	targets[0] = (struct target){
		"10,000 regions cost so many times 1, at most",
		most->ns[0][0] / one->ns[0][0], 3, true
	};
	targets[1] = (struct target){
		"two threads do so many times one's stores, at least",
		speedup(most), 1.8, false
	};
	targets[2] = (struct target){
		"with 1000 updates a second that share of them, at least",
		most->ns[0][0] / most->ns[0][1], 0.9, false
	};
}

static bool is_reached(const struct target *target)
{
	return target->is_most ? target->value <= target->limit :
				 target->value >= target->limit;
}

/* 1 if one is missed. */
static int check_targets(struct cell cells[NR_WAYS][NR_SIZES], bool quiet)
{
	struct target targets[NR_TARGETS];
	int status = 0;

	find_targets(cells, targets);
	for (unsigned i = 0; i < NR_TARGETS; i++) {
		if (!quiet)
			printf("rcu: %s %.2f: %.2f (%s)\n", targets[i].what,
			       targets[i].limit, targets[i].value,
			       is_reached(&targets[i]) ? "yes" : "NO");
		if (!is_reached(&targets[i]))
			status = 1;
	}
	return status;
}

static void put_key(yajl_gen gen, const char *key)
{
	yajl_gen_string(gen, (const unsigned char *)key, strlen(key));
}

static void put_cell(yajl_gen gen, const char *name, unsigned regions,
		     const struct cell *cell, unsigned threads, bool updates)
{
	yajl_gen_map_open(gen);
	put_key(gen, "lock");
	put_key(gen, name);
	put_key(gen, "regions");
	yajl_gen_integer(gen, regions);
	put_key(gen, "threads");
	yajl_gen_integer(gen, threads);
	put_key(gen, "updates_per_second");
	yajl_gen_integer(gen, updates ? UPDATES_PER_SECOND : 0);
	put_key(gen, "ns_per_store");
	yajl_gen_double(gen, cell->ns[threads - 1][updates]);
	yajl_gen_map_close(gen);
}

static int print_json(struct cell cells[NR_WAYS][NR_SIZES])
{
	yajl_gen gen = yajl_gen_alloc(NULL);
	const unsigned char *text;
	size_t length;

	if (!gen)
		return -ENOMEM;
	yajl_gen_config(gen, yajl_gen_beautify, 1);
	yajl_gen_array_open(gen);
	for (unsigned i = 0; i < NR_WAYS * NR_SIZES * 4; i++)
		put_cell(gen, ways[i / 4 / NR_SIZES]->name,
			 sizes[i / 4 % NR_SIZES],
			 &cells[i / 4 / NR_SIZES][i / 4 % NR_SIZES], 1 + i % 2,
			 i % 4 > 1);
	yajl_gen_array_close(gen);
	yajl_gen_get_buf(gen, &text, &length);
	fwrite(text, 1, length, stdout);
	yajl_gen_free(gen);
	return 0;
}

/* --- The program --------------------------------------------------------------- */

static const char help[] =
	"usage: cleat-bench-dispatch [--ms N] [--rounds N] [--cpu] [--json]\n"
	"                            [--check]\n"
	"\n"
	"What a trapped store to a mapped page costs the vCPU's thread, whole:\n"
	"lookup, reference, store, release; under a mutex, a rwlock, and as\n"
	"the library does it, with 1 and 2 threads and 1, 100 and 10,000\n"
	"regions, with and without 1000 updates of the table a second. The rows\n"
	"\"rcu memb\" and \"rcu qsbr\" are the library with RCU that its user\n"
	"brings (cleat_rcu_use()), \"rcu\" is its own.\n"
	"\n"
	"  --ms N      milliseconds per measurement (1 to 10000; 100)\n"
	"  --rounds N  the best of N (1 to 100; 3)\n"
	"  --cpu       count time on a CPU only: for a machine that has other\n"
	"              things to do; it leaves out how long a lock made a\n"
	"              thread sleep\n"
	"  --json      instead of the table\n"
	"  --check     exit with 1 if the library misses what is promised\n"
	"  --help, --version\n"
	"Exit status: 0, 1 failed, 2 usage.\n";

static int take_number(const char *text, unsigned most, unsigned *to)
{
	char *end;
	unsigned long number = strtoul(text, &end, 10);

	if (end == text || *end || !number || number > most) {
		fprintf(stderr,
			"cleat-bench-dispatch: %s: no number from 1 to %u: see "
			"cleat-bench-dispatch --help\n",
			text, most);
		return 2;
	}
	*to = (unsigned)number;
	return 0;
}

/* -1: go on; otherwise the exit status. */
static int take_option(int option, struct options *options)
{
	int status = -1;

	switch (option) {
	case 'm':
		status = take_number(optarg, 10000, &options->ms);
		break;
	case 'r':
		status = take_number(optarg, 100, &options->rounds);
		break;
	case 'c':
		options->cpu = true;
		break;
	case 'j':
		options->json = true;
		break;
	case 'k':
		options->check = true;
		break;
	case 'h':
		fputs(help, stdout);
		return 0;
	case 'v':
		puts("cleat-bench-dispatch " CLEAT_VERSION);
		return 0;
	default:
		return 2;
	}
	return status ? status : -1;
}

static int parse(int argc, char **argv, struct options *options)
{
	static const struct option known[] = {
		{ "ms", required_argument, NULL, 'm' },
		{ "rounds", required_argument, NULL, 'r' },
		{ "cpu", no_argument, NULL, 'c' },
		{ "json", no_argument, NULL, 'j' },
		{ "check", no_argument, NULL, 'k' },
		{ "help", no_argument, NULL, 'h' },
		{ "version", no_argument, NULL, 'v' },
		{ NULL, 0, NULL, 0 },
	};
	int option, status = -1;

	while (status < 0 &&
	       (option = getopt_long(argc, argv, "", known, NULL)) != -1)
		status = take_option(option, options);
	if (status < 0 && optind < argc) {
		fprintf(stderr,
			"cleat-bench-dispatch: %s: not understood: see "
			"cleat-bench-dispatch --help\n",
			argv[optind]);
		return 2;
	}
	return status;
}

int main(int argc, char **argv)
{
	static struct cell cells[NR_WAYS][NR_SIZES];
	struct options options = { .ms = 100, .rounds = 3 };
	int status = parse(argc, argv, &options), err;

	if (status >= 0)
		return status;
	err = measure_all(&options, cells);
	if (!err && options.json)
		err = print_json(cells);
	else if (!err)
		print_table(cells);
	if (err)
		fprintf(stderr, "cleat-bench-dispatch: cannot measure: %s\n",
			strerror(-err));
	if (!err && check_targets(cells, options.json) && options.check)
		return 1;
	return err ? 1 : 0;
}
