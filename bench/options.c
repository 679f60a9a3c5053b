/* SPDX-License-Identifier: BSD-2-Clause */
#include <errno.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>

#include "bench/options.h"

static const char help[] =
	"usage: cleat-bench [OPTION]...\n"
	"\n"
	"Runs a small guest on /dev/kvm with a cleat-probe beside it, and\n"
	"measures what the guest's accesses cost, way by way, and what the\n"
	"kernel counted meanwhile.\n"
	"\n"
	"  --count N     times taken per row (1000 to 1000000; 10000)\n"
	"  --rounds N    in so many rounds of all rows (1 to 100; 10)\n"
	"  --row NAME    only this row; may be repeated\n"
	"  --json FILE   write the results there too; - instead of the table\n"
	"  --svg FILE    draw a picture\n"
	"  --probe PATH  the cleat-probe to use; by default this build's\n"
	"  --check       exit with 1 if a ratio is above what is promised\n"
	"  --all         run cleat-bench-dispatch and cleat-bench-messages\n"
	"                afterwards: all on one page, some four minutes\n"
	"  --list        say which rows there are\n"
	"  --help, --version\n"
	"\n"
	"Columns: returns are those of KVM_RUN, mmio ex. is KVM's own count "
	"of\n"
	"MMIO that left the kernel, messages are requests on the device's\n"
	"socket, events are kicks, messages or interrupts that arrived,\n"
	"switches are context switches of the vCPU's thread, others those of\n"
	"all other threads of this process. Ratios are medians over the "
	"rounds.\n"
	"Exit status: 0, 1 failed, 2 usage.\n";

/* What is held against each other is measured one after the other. */
static const char *const order[] = {
	"ram-write",	    "mapped-write",    "ram-read",
	"mapped-read",	    "bare-kick",       "ioeventfd-write",
	"bare-kick-any",    "ioeventfd-any",   "bare-kick-match",
	"ioeventfd-match",  "bare-exit-write", "shadow-write",
	"exit-in-turn",	    "eventfd-in-turn", "shadow-in-turn",
	"lookup",	    "posted-write",    "trapped-write",
	"bare-exit-read",   "trapped-read",    "bare-interrupt",
	"interrupt",	    "bare-there-and-back",
	"there-and-back",   "mapped-and-back", "shadow-and-back",
	"trapped-and-back",
};

static const struct bench_row *find_row(const char *name)
{
	for (unsigned i = 0; i < cleat_bench_num_bare_rows; i++)
		if (!strcmp(cleat_bench_bare_rows[i].name, name))
			return &cleat_bench_bare_rows[i];
	for (unsigned i = 0; i < cleat_bench_num_device_rows; i++)
		if (!strcmp(cleat_bench_device_rows[i].name, name))
			return &cleat_bench_device_rows[i];
	for (unsigned i = 0; i < cleat_bench_num_turn_rows; i++)
		if (!strcmp(cleat_bench_turn_rows[i].name, name))
			return &cleat_bench_turn_rows[i];
	return NULL;
}

const struct bench_row *cleat_bench_row(unsigned number)
{
	if (number >= sizeof(order) / sizeof(*order))
		return NULL;
	return find_row(order[number]);
}

static void list_rows(void)
{
	const struct bench_row *row;

	for (unsigned i = 0; (row = cleat_bench_row(i)); i++)
		printf("%-20s %s\n", row->name, row->what);
}

static int usage_error(const char *what, const char *why)
{
	fprintf(stderr, "cleat-bench: %s: %s: see cleat-bench --help\n", what,
		why);
	return 2;
}

static int take_number(const char *text, uint64_t least, uint64_t most,
		       uint64_t *ret)
{
	char why[64], *end;

	errno = 0;
	*ret = strtoull(text, &end, 10);
	if (!errno && end != text && !*end && *ret >= least && *ret <= most)
		return -1;
	snprintf(why, sizeof(why), "no number from %llu to %llu",
		 (unsigned long long)least, (unsigned long long)most);
	return usage_error(text, why);
}

static int take_rounds(struct bench_options *options, const char *text)
{
	uint64_t rounds = 0;
	int status = take_number(text, 1, BENCH_ROUNDS_MAX, &rounds);

	options->rounds = (unsigned)rounds;
	return status;
}

static int take_row(struct bench_options *options, const char *name)
{
	if (!find_row(name))
		return usage_error(name, "no row of that name");
	if (options->nr_rows == BENCH_ROWS_MAX)
		return usage_error(name, "too many rows");
	options->rows[options->nr_rows++] = name;
	return -1;
}

static int show(int option)
{
	switch (option) {
	case 'l':
		list_rows();
		return 0;
	case 'h':
		fputs(help, stdout);
		return 0;
	case 'v':
		puts("cleat-bench " CLEAT_VERSION);
		return 0;
	}
	/* getopt has said what is wrong. */
	return 2;
}

static int take_option(struct bench_options *options, int option)
{
	switch (option) {
	case 'c':
		return take_number(optarg, 1000, 1000000, &options->count);
	case 'n':
		return take_rounds(options, optarg);
	case 'r':
		return take_row(options, optarg);
	case 'j':
		options->json = optarg;
		return -1;
	case 's':
		options->svg = optarg;
		return -1;
	case 'p':
		options->probe = optarg;
		return -1;
	case 'k':
		options->check = true;
		return -1;
	case 'a':
		options->all = true;
		return -1;
	}
	return show(option);
}

int cleat_bench_options(struct bench_options *options, int argc, char **argv)
{
	static const struct option names[] = {
		{ "count", required_argument, NULL, 'c' },
		{ "rounds", required_argument, NULL, 'n' },
		{ "row", required_argument, NULL, 'r' },
		{ "json", required_argument, NULL, 'j' },
		{ "svg", required_argument, NULL, 's' },
		{ "probe", required_argument, NULL, 'p' },
		{ "check", no_argument, NULL, 'k' },
		{ "all", no_argument, NULL, 'a' },
		{ "list", no_argument, NULL, 'l' },
		{ "help", no_argument, NULL, 'h' },
		{ "version", no_argument, NULL, 'v' },
		{ NULL, 0, NULL, 0 },
	};
	int option, status = -1;

	*options = (struct bench_options){ .count = 10000, .rounds = 10 };
	while (status < 0 &&
	       (option = getopt_long(argc, argv, "", names, NULL)) >= 0)
		status = take_option(options, option);
	if (status < 0 && optind < argc)
		return usage_error(argv[optind], "not expected");
	return status;
}
