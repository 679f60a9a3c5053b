/* SPDX-License-Identifier: BSD-2-Clause */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench/measure.h"

#define MAX_COUNT 1000000
#define MAX_ROWS 64

struct options {
	uint64_t count;
	const char *json;
	const char *rows[MAX_ROWS];
	unsigned nr_rows;
};

static const char help[] =
	"usage: cleat-bench [--count N] [--row NAME]... [--json FILE]\n"
	"       cleat-bench --list\n"
	"\n"
	"Runs a small guest on /dev/kvm and measures what its accesses cost,\n"
	"way by way, and what the kernel counted meanwhile.\n"
	"\n"
	"  --count N    accesses per row (1000 to 1000000; 10000)\n"
	"  --row NAME   only this row; may be repeated\n"
	"  --json FILE  write the results there too; - instead of the table\n"
	"  --list       say which rows there are\n"
	"  --help, --version\n"
	"\n"
	"Columns: returns are those of KVM_RUN, mmio exit is KVM's own count "
	"of\n"
	"MMIO that left the kernel, messages are requests on the device's\n"
	"socket, events are kicks or interrupts that arrived, switches are\n"
	"context switches of this process.\n"
	"Exit status: 0, 1 failed, 2 usage.\n";

static void list_rows(void)
{
	for (unsigned i = 0; i < cleat_bench_num_rows; i++)
		printf("%-20s %s\n", cleat_bench_rows[i].name,
		       cleat_bench_rows[i].what);
}

static int usage_error(const char *what, const char *why)
{
	fprintf(stderr, "cleat-bench: %s: %s: see cleat-bench --help\n", what,
		why);
	return 2;
}

static bool is_row(const char *name)
{
	for (unsigned i = 0; i < cleat_bench_num_rows; i++)
		if (!strcmp(cleat_bench_rows[i].name, name))
			return true;
	return false;
}

static int take_count(struct options *options, const char *text)
{
	char *end;

	errno = 0;
	options->count = strtoull(text, &end, 10);
	if (errno || end == text || *end || options->count < 1000 ||
	    options->count > MAX_COUNT)
		return usage_error(text, "no number from 1000 to 1000000");
	return 0;
}

static int take_row(struct options *options, const char *name)
{
	if (!is_row(name))
		return usage_error(name, "no row of that name");
	if (options->nr_rows == MAX_ROWS)
		return usage_error(name, "too many rows");
	options->rows[options->nr_rows++] = name;
	return 0;
}

/* Return: -1 to run, otherwise the exit status. */
static int take_option(struct options *options, int option)
{
	int status = -1;

	switch (option) {
	case 'c':
		status = take_count(options, optarg);
		return status ? status : -1;
	case 'r':
		status = take_row(options, optarg);
		return status ? status : -1;
	case 'j':
		options->json = optarg;
		return -1;
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

static int take_options(struct options *options, int argc, char **argv)
{
	static const struct option names[] = {
		{"count", required_argument, NULL, 'c'},
		{"row", required_argument, NULL, 'r'},
		{"json", required_argument, NULL, 'j'},
		{"list", no_argument, NULL, 'l'},
		{"help", no_argument, NULL, 'h'},
		{"version", no_argument, NULL, 'v'},
		{NULL, 0, NULL, 0},
	};
	int option, status = -1;

	while (status < 0 &&
	       (option = getopt_long(argc, argv, "", names, NULL)) >= 0)
		status = take_option(options, option);
	if (status < 0 && optind < argc)
		return usage_error(argv[optind], "not expected");
	return status;
}

static bool is_chosen(const struct options *options, const char *name)
{
	for (unsigned i = 0; i < options->nr_rows; i++)
		if (!strcmp(options->rows[i], name))
			return true;
	return !options->nr_rows;
}

/* Return: how many results, or -1. */
static int run_rows(const struct options *options, struct bench *bench,
		    struct bench_result *results)
{
	int nr = 0;

	for (unsigned i = 0; i < cleat_bench_num_rows; i++) {
		const struct bench_row *row = &cleat_bench_rows[i];
		int err;

		if (!is_chosen(options, row->name))
			continue;
		err = row->run(bench, &results[nr]);
		if (err && err != -EOPNOTSUPP) {
			fprintf(stderr, "cleat-bench: %s: %s\n", row->name,
				strerror(-err));
			return -1;
		}
		if (err)
			continue;
		results[nr].name = row->name;
		results[nr++].what = row->what;
	}
	return nr;
}

static int report(const struct options *options,
		  const struct bench_result *results, unsigned nr)
{
	bool only_json = options->json && !strcmp(options->json, "-");
	FILE *file = stdout;
	int err = 0;

	if (!only_json)
		cleat_bench_print(stdout, results, nr);
	if (!options->json)
		return 0;
	if (!only_json)
		file = fopen(options->json, "we");
	if (file)
		err = cleat_bench_print_json(file, results, nr);
	if (!file || err || (!only_json && fclose(file))) {
		fprintf(stderr, "cleat-bench: %s: %s\n", options->json,
			strerror(err ? -err : errno));
		return 1;
	}
	return 0;
}

static int open_bench(struct bench *bench, uint64_t count)
{
	int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	int err;

	if (kvm < 0) {
		fprintf(stderr,
			"cleat-bench: /dev/kvm: %s: run it where KVM is, or "
			"by tools/lab\n",
			strerror(errno));
		return -1;
	}
	err = cleat_bench_open(bench, kvm, count);
	close(kvm);
	if (err)
		fprintf(stderr, "cleat-bench: the guest: %s\n", strerror(-err));
	return err;
}

int main(int argc, char **argv)
{
	static struct bench_result results[MAX_ROWS];
	struct options options = {.count = 10000};
	int status = take_options(&options, argc, argv);
	struct bench bench;
	int nr;

	if (status >= 0)
		return status;
	if (open_bench(&bench, options.count))
		return 1;
	nr = run_rows(&options, &bench, results);
	cleat_bench_close(&bench);
	return nr < 0 ? 1 : report(&options, results, (unsigned)nr);
}
