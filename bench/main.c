/* SPDX-License-Identifier: BSD-2-Clause */
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench/options.h"

static bool is_chosen(const struct bench_options *options, const char *name)
{
	for (unsigned i = 0; i < options->nr_rows; i++)
		if (!strcmp(options->rows[i], name))
			return true;
	return !options->nr_rows;
}

/* --- Programs beside this one -------------------------------------------- */

/* In static storage, until the next call. */
static const char *beside(const char *name)
{
	static char path[PATH_MAX];
	char self[PATH_MAX - 64];
	ssize_t length = readlink("/proc/self/exe", self, sizeof(self) - 1);

	self[length < 0 ? 0 : length] = '\0';
	snprintf(path, sizeof(path), "%s/%s", dirname(self), name);
	return path;
}

/* In a build tree it is in another folder than where both are installed. */
static const char *find_probe(const struct bench_options *options)
{
	const char *path;

	if (options->probe)
		return options->probe;
	path = beside("../backends/cleat-probe");
	return access(path, X_OK) ? beside("cleat-probe") : path;
}

/* Return: its exit status, or 1. */
static int run_other(const char *name)
{
	char *argv[] = { (char *)beside(name), NULL };
	int status;
	pid_t pid;

	fputc('\n', stdout);
	fflush(stdout);
	pid = fork();
	if (!pid) {
		execv(argv[0], argv);
		fprintf(stderr, "cleat-bench: %s: %s\n", argv[0],
			strerror(errno));
		_exit(1);
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid || !WIFEXITED(status))
		return 1;
	return WEXITSTATUS(status);
}

/* All on one page. */
static int run_others(void)
{
	int status = run_other("cleat-bench-dispatch");

	return run_other("cleat-bench-messages") ?: status;
}

/* --- The rows ------------------------------------------------------------ */

static void forget_row(struct bench *bench)
{
	bench->hooks = NULL;
	bench->batch = 0;
	bench->has_messages = false;
	bench->events = NULL;
	bench->opaque = NULL;
}

/* One round of one row; a row that cannot be had loses its memory. */
static int run_row(struct bench *bench, struct bench_result *result)
{
	int err;

	if (!result->times)
		return 0;
	bench->batch = result->row->batch;
	err = result->row->run(bench, result);
	forget_row(bench);
	if (err == -EOPNOTSUPP) {
		free(result->times);
		result->times = NULL;
		return 0;
	}
	if (err)
		fprintf(stderr, "cleat-bench: %s: %s\n", result->row->name,
			strerror(-err));
	return err;
}

/* To and fro, so that no row always comes after the same one. */
static int run_rounds(struct bench *bench, struct bench_result *results,
		      unsigned nr)
{
	int err = 0;

	for (unsigned round = 0; round < bench->rounds && !err; round++)
		for (unsigned i = 0; i < nr && !err; i++)
			err = run_row(bench,
				      &results[round % 2 ? nr - 1 - i : i]);
	return err;
}

/* Return: how many, or -1. */
static int choose_rows(const struct bench_options *options, uint64_t times,
		       struct bench_result *results)
{
	const struct bench_row *row;
	int nr = 0;

	for (unsigned i = 0; (row = cleat_bench_row(i)); i++) {
		if (!is_chosen(options, row->name))
			continue;
		results[nr].row = row;
		results[nr].times = calloc(times, sizeof(double));
		if (!results[nr++].times)
			return -1;
	}
	return nr;
}

/* Return: how many of @nr were to be had. */
static unsigned finish(struct bench_result *results, unsigned nr)
{
	unsigned kept = 0;

	for (unsigned i = 0; i < nr; i++) {
		struct bench_result result = results[i];

		if (!result.times)
			continue;
		results[i].times = NULL;
		results[kept] = result;
		cleat_bench_finish(&results[kept++]);
	}
	return kept;
}

static int open_bench(struct bench *bench, const struct bench_options *options)
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
	bench->rounds = options->rounds;
	bench->per_round =
		(options->count + options->rounds - 1) / options->rounds;
	err = cleat_bench_open(bench, kvm, find_probe(options));
	close(kvm);
	return err;
}

/* Return: how many results, or -1. */
static int run(const struct bench_options *options,
	       struct bench_result *results)
{
	struct bench bench = { .guest = NULL };
	int nr, err = open_bench(&bench, options);

	if (err)
		return -1;
	nr = choose_rows(options, bench.rounds * bench.per_round, results);
	err = nr < 0 ? -ENOMEM : run_rounds(&bench, results, (unsigned)nr);
	cleat_bench_close(&bench);
	return err ? -1 : (int)finish(results, (unsigned)nr);
}

/* --- What is told -------------------------------------------------------- */

static int write_to(const char *path, const struct bench_report *report,
		    int (*print)(FILE *out, const struct bench_report *report))
{
	bool is_stdout = !strcmp(path, "-");
	FILE *file = is_stdout ? stdout : fopen(path, "we");
	int err = file ? print(file, report) : -errno;

	if (file && !is_stdout && fclose(file) && !err)
		err = -errno;
	if (err)
		fprintf(stderr, "cleat-bench: %s: %s\n", path, strerror(-err));
	return err ? 1 : 0;
}

static int tell(const struct bench_options *options,
		const struct bench_report *report)
{
	int status = 0;

	if (!options->json || strcmp(options->json, "-"))
		cleat_bench_print(stdout, report);
	if (options->json)
		status =
			write_to(options->json, report, cleat_bench_print_json);
	if (!status && options->svg)
		status = write_to(options->svg, report, cleat_bench_print_svg);
	for (unsigned i = 0; options->check && i < report->nr_ratios; i++)
		if (report->ratios[i].limit > 0 &&
		    report->ratios[i].value > report->ratios[i].limit)
			status = 1;
	return status;
}

int main(int argc, char **argv)
{
	static struct bench_result results[BENCH_ROWS_MAX];
	static struct bench_report report = { .results = results };
	struct bench_options options;
	int status = cleat_bench_options(&options, argc, argv), nr;

	if (status >= 0)
		return status;
	cleat_bench_host(&report.host);
	getloadavg(&report.host.load[0], 1);
	nr = run(&options, results);
	if (nr < 0)
		return 1;
	getloadavg(&report.host.load[1], 1);
	report.nr = (unsigned)nr;
	report.nr_ratios =
		cleat_bench_ratios(results, report.nr, report.ratios);
	status = tell(&options, &report);
	for (unsigned i = 0; i < BENCH_ROWS_MAX; i++)
		free(results[i].times);
	return status || !options.all ? status : run_others();
}
