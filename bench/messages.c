/* SPDX-License-Identifier: BSD-2-Clause */
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "bench/messages.h"

#define PROGRAM "cleat-bench-messages"
#define MOST_COUNT 1000000

uint64_t cleat_bench_now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static int by_time(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

struct bench_sample cleat_bench_summary(uint64_t *ns, unsigned num)
{
	qsort(ns, num, sizeof(*ns), by_time);
	return (struct bench_sample){
		.value = (double)ns[num / 2],
		.p99 = (double)ns[(uint64_t)num * 99 / 100],
	};
}

int cleat_bench_by_turns(const struct bench_messages *bench,
			 struct bench_way *ways, unsigned num)
{
	int err = 0;

	for (unsigned i = 0; i < bench->rounds; i++)
		for (unsigned w = 0; w < num && !err; w++)
			err = ways[w].run(bench, &ways[w],
					  &ways[w].samples[i]);
	return err;
}

static double median(double *values, unsigned num)
{
	qsort(values, num, sizeof(*values), by_value);
	return values[num / 2];
}

static double median_value(const struct bench_messages *bench,
			   const struct bench_way *way)
{
	double values[BENCH_MOST_ROUNDS];

	for (unsigned i = 0; i < bench->rounds; i++)
		values[i] = way->samples[i].value;
	return median(values, bench->rounds);
}

static double median_p99(const struct bench_messages *bench,
			 const struct bench_way *way)
{
	double values[BENCH_MOST_ROUNDS];

	for (unsigned i = 0; i < bench->rounds; i++)
		values[i] = way->samples[i].p99;
	return median(values, bench->rounds);
}

static double median_ratio(const struct bench_messages *bench,
			   const struct bench_way *way,
			   const struct bench_way *limit)
{
	double values[BENCH_MOST_ROUNDS];

	for (unsigned i = 0; i < bench->rounds; i++)
		values[i] = way->samples[i].value / limit->samples[i].value;
	return median(values, bench->rounds);
}

struct bench_figure *cleat_bench_figure(struct bench_messages *bench,
					const char *name,
					enum bench_pinning pinning,
					const char *unit, double target)
{
	struct bench_figure *figures, *new;

	figures = reallocarray(bench->figures, bench->num_figures + 1,
			       sizeof(*figures));
	if (!figures)
		return NULL;
	bench->figures = figures;
	new = &figures[bench->num_figures++];
	*new = (struct bench_figure){
		.pinning = cleat_bench_pinning_name(pinning),
		.unit = unit,
		.target = target,
	};
	snprintf(new->name, sizeof(new->name), "%s", name);
	return new;
}

int cleat_bench_compare(struct bench_messages *bench, const char *name,
			enum bench_pinning pinning, const char *unit,
			const struct bench_way *way,
			const struct bench_way *limit, double target)
{
	struct bench_figure *figure =
		cleat_bench_figure(bench, name, pinning, unit, target);

	if (!figure)
		return -ENOMEM;
	figure->value = median_value(bench, way);
	figure->p99 = median_p99(bench, way);
	if (!limit)
		return 0;
	figure->against = limit->name;
	figure->limit = median_value(bench, limit);
	figure->ratio = median_ratio(bench, way, limit);
	return 0;
}

/* --- The program ------------------------------------------------------------ */

static const char help[] =
	"usage: " PROGRAM " [--row NAME]... [--rounds N] [--count N]\n"
	"                            [--peer PEER] [--json FILE] [--svg FILE]\n"
	"       " PROGRAM " --scale\n"
	"       " PROGRAM " --compare BEFORE.json AFTER.json [--within PERCENT]\n"
	"\n"
	"What costs a vfio-user client's work on the socket, each thing beside\n"
	"its limit in the same run: mostly a bare socket that carries the same\n"
	"bytes between two processes on the same CPUs. Costs and ratios: lower\n"
	"is better. Ratios are medians of ratios within a round.\n"
	"\n"
	"  --row NAME     only this row; may be repeated (see --list)\n"
	"  --list         the rows\n"
	"  --rounds N     rounds, in each of which everything has its turn\n"
	"                 (5 to 99; 5)\n"
	"  --count N      operations in a turn (100 to 1000000; 1000)\n"
	"  --peer SOCKET  for the row \"peer\": a server that is running\n"
	"  --peer qemu, --peer libvfio-user\n"
	"                 that row, which is otherwise among the others: 10.1 or\n"
	"                 newer in the PATH or at $CLEAT_QEMU; vfu_device of this\n"
	"                 build or at $CLEAT_VFU_DEVICE. Skipped where it is not\n"
	"                 there, with the reason on stderr\n"
	"  --json FILE    write the figures there too; -: in place of the table\n"
	"  --scale        how cost grows with devices (10 to 10,000) and with\n"
	"                 ranges of guest memory (2^10 to 2^22); 2 to 3 minutes\n"
	"                 and 3 GiB\n"
	"  --svg FILE     and a picture of the ratios\n"
	"  --compare      the figures of two runs, by their ratios to their own\n"
	"                 limits: exit status 1 if one has become worse\n"
	"  --within N     by more than N percent (25)\n"
	"  --help, --version\n"
	"Exit status: 0, 1 failed or worse, 2 usage.\n";

struct options {
	struct bench_messages bench;
	const char *rows[64];
	unsigned num_rows;
	const char *json;
	const char *svg;
	unsigned within;
	bool compare;
	bool scale;
};

static int take_number(const char *text, unsigned least, unsigned most,
		       unsigned *to)
{
	char *end;
	unsigned long number = strtoul(text, &end, 10);

	if (end == text || *end || number < least || number > most) {
		fprintf(stderr,
			PROGRAM ": %s: no number from %u to %u: see " PROGRAM
				" --help\n",
			text, least, most);
		return 2;
	}
	*to = (unsigned)number;
	return -1;
}

static int list_rows(void)
{
	for (unsigned i = 0; i < cleat_bench_messages_num_rows; i++)
		printf("%-10s %s\n", cleat_bench_messages_rows[i].name,
		       cleat_bench_messages_rows[i].what);
	return 0;
}

static int take_row(struct options *options, const char *name)
{
	for (unsigned i = 0; i < cleat_bench_messages_num_rows; i++) {
		if (strcmp(name, cleat_bench_messages_rows[i].name) ||
		    options->num_rows == 64)
			continue;
		options->rows[options->num_rows++] = name;
		return -1;
	}
	fprintf(stderr,
		PROGRAM ": %s: no such row: see " PROGRAM " --list\n", name);
	return 2;
}

static int take_peer(struct options *options, const char *peer)
{
	if (!strcmp(peer, "qemu") || !strcmp(peer, "libvfio-user"))
		return take_row(options, peer);
	options->bench.peer = peer;
	return -1;
}

/* -1: go on; otherwise the exit status. */
static int take_option(int option, struct options *options)
{
	switch (option) {
	case 'r':
		return take_row(options, optarg);
	case 'n':
		return take_number(optarg, 5, BENCH_MOST_ROUNDS,
				   &options->bench.rounds);
	case 'c':
		return take_number(optarg, 100, MOST_COUNT,
				   &options->bench.count);
	case 'w':
		return take_number(optarg, 1, 1000, &options->within);
	case 'p':
		return take_peer(options, optarg);
	case 's':
		options->svg = optarg;
		return -1;
	case 'j':
		options->json = optarg;
		return -1;
	case 'x':
		options->compare = true;
		return -1;
	case 'S':
		options->scale = true;
		return -1;
	case 'l':
		return list_rows();
	case 'h':
		fputs(help, stdout);
		return 0;
	case 'v':
		puts(PROGRAM " " CLEAT_VERSION);
		return 0;
	default:
		return 2;
	}
}

static int parse(int argc, char **argv, struct options *options)
{
	static const struct option known[] = {
		{ "row", required_argument, NULL, 'r' },
		{ "rounds", required_argument, NULL, 'n' },
		{ "count", required_argument, NULL, 'c' },
		{ "within", required_argument, NULL, 'w' },
		{ "peer", required_argument, NULL, 'p' },
		{ "json", required_argument, NULL, 'j' },
		{ "scale", no_argument, NULL, 'S' },
		{ "svg", required_argument, NULL, 's' },
		{ "compare", no_argument, NULL, 'x' },
		{ "list", no_argument, NULL, 'l' },
		{ "help", no_argument, NULL, 'h' },
		{ "version", no_argument, NULL, 'v' },
		{ NULL, 0, NULL, 0 },
	};
	int option, status = -1, files;

	while (status < 0 &&
	       (option = getopt_long(argc, argv, "", known, NULL)) != -1)
		status = take_option(option, options);
	files = options->compare ? 2 : 0;
	if (status < 0 && argc - optind != files) {
		fprintf(stderr,
			PROGRAM ": %s: see " PROGRAM " --help\n",
			files ? "two files are to be compared" :
				argv[optind]);
		return 2;
	}
	return status;
}

static int compare(const char *before, const char *after, unsigned within)
{
	int worse = cleat_bench_messages_regressions(before, after, within);

	if (worse > 0)
		printf("%d figures are worse by more than %u%%\n", worse,
		       within);
	return worse ? 1 : 0;
}

static bool is_wanted(const struct options *options, const char *name)
{
	for (unsigned i = 0; i < options->num_rows; i++)
		if (!strcmp(options->rows[i], name))
			return true;
	return !options->num_rows;
}

static int run(struct options *options)
{
	int err = 0;

	for (unsigned i = 0; i < cleat_bench_messages_num_rows && !err; i++) {
		const struct bench_messages_row *row =
			&cleat_bench_messages_rows[i];

		if (!is_wanted(options, row->name))
			continue;
		err = row->run(&options->bench);
		if (err)
			fprintf(stderr,
				PROGRAM ": %s: cannot be measured: %s\n",
				row->name, strerror(-err));
	}
	return err ? 1 : 0;
}

static int write_file(const char *path, const struct bench_messages *bench,
		      int (*print)(FILE *out,
				   const struct bench_messages *bench))
{
	FILE *out = strcmp(path, "-") ? fopen(path, "we") : stdout;
	int err = out ? print(out, bench) : -errno;

	if (out && out != stdout && fclose(out) && !err)
		err = -errno;
	if (err)
		fprintf(stderr, PROGRAM ": %s: cannot be written: %s\n", path,
			strerror(-err));
	return err ? 1 : 0;
}

static int report(const struct options *options)
{
	const struct bench_messages *bench = &options->bench;
	int status = 0;

	if (!options->json || strcmp(options->json, "-"))
		cleat_bench_messages_print(stdout, bench);
	if (options->json)
		status = write_file(options->json, bench,
				    cleat_bench_messages_json);
	if (options->svg && write_file(options->svg, bench,
				       cleat_bench_messages_svg))
		status = 1;
	return status;
}

static int scale(void)
{
	int err = cleat_bench_scale();

	if (err)
		fprintf(stderr, PROGRAM ": --scale: cannot go on: %s\n",
			strerror(-err));
	return err ? 1 : 0;
}

int main(int argc, char **argv)
{
	static struct options options = {
		.bench = { .rounds = 5, .count = 1000 },
		.within = 25,
	};
	int status = parse(argc, argv, &options), reported;

	if (status >= 0)
		return status;
	if (options.compare)
		return compare(argv[optind], argv[optind + 1], options.within);
	signal(SIGPIPE, SIG_IGN);
	if (options.scale)
		return scale();
	status = run(&options);
	reported = report(&options);
	free(options.bench.figures);
	return status ? status : reported;
}
