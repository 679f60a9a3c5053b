/* SPDX-License-Identifier: BSD-2-Clause */
#include <errno.h>
#include <string.h>
#include <yajl/yajl_gen.h>

#include "bench/measure.h"

static void print_count(FILE *out, int64_t count)
{
	if (count < 0)
		fprintf(out, " %8s", "-");
	else
		fprintf(out, " %8lld", (long long)count);
}

static void print_ns(FILE *out, double ns)
{
	fprintf(out, ns < 100 ? " %9.2f" : " %9.0f", ns);
}

static void print_result(FILE *out, const struct bench_result *r)
{
	fprintf(out, "%-19s %9lld", r->row->name, (long long)r->count);
	print_ns(out, r->median_ns);
	print_ns(out, r->p99_ns);
	print_ns(out, r->worst_ns);
	print_count(out, r->returns);
	print_count(out, r->mmio_exits);
	print_count(out, r->messages);
	print_count(out, r->events);
	print_count(out, r->switches);
	print_count(out, r->others);
	fputc('\n', out);
}

static void print_ratio(FILE *out, const struct bench_ratio *r)
{
	fprintf(out, "%-62s %6.3f  %6.3f to %6.3f", r->name, r->value, r->low,
		r->high);
	if (r->limit > 0)
		fprintf(out, "  (at most %.2f: %s)", r->limit,
			r->value <= r->limit ? "yes" : "NO");
	fputc('\n', out);
}

void cleat_bench_print(FILE *out, const struct bench_report *report)
{
	const struct bench_host *host = &report->host;

	fprintf(out, "%s, %u CPUs, Linux %s, KVM: %s; load %.1f to %.1f\n\n",
		host->cpu, host->cpus, host->kernel, host->kvm, host->load[0],
		host->load[1]);
	fprintf(out, "%-19s %9s %9s %9s %9s %8s %8s %8s %8s %8s %8s\n", "",
		"count", "median ns", "99% ns", "worst ns", "returns",
		"mmio ex.", "messages", "events", "switches", "others");
	for (unsigned i = 0; i < report->nr; i++)
		print_result(out, &report->results[i]);
	if (report->nr_ratios)
		fprintf(out, "\n%-62s %6s  %s\n", "", "ratio",
			"half of the rounds");
	for (unsigned i = 0; i < report->nr_ratios; i++)
		print_ratio(out, &report->ratios[i]);
}

/* --- JSON ---------------------------------------------------------------- */

static void put_string(yajl_gen gen, const char *text)
{
	yajl_gen_string(gen, (const unsigned char *)text, strlen(text));
}

static void put_text(yajl_gen gen, const char *key, const char *text)
{
	put_string(gen, key);
	put_string(gen, text);
}

static void put_count(yajl_gen gen, const char *key, int64_t number)
{
	put_string(gen, key);
	if (number < 0)
		yajl_gen_null(gen);
	else
		yajl_gen_integer(gen, number);
}

static void put_number(yajl_gen gen, const char *key, double number)
{
	put_string(gen, key);
	yajl_gen_double(gen, number);
}

static void put_result(yajl_gen gen, const struct bench_result *result)
{
	yajl_gen_map_open(gen);
	put_text(gen, "name", result->row->name);
	put_text(gen, "what", result->row->what);
	put_count(gen, "count", result->count);
	put_count(gen, "batch", result->row->batch ? result->row->batch : 1);
	put_number(gen, "median_ns", result->median_ns);
	put_number(gen, "p99_ns", result->p99_ns);
	put_number(gen, "worst_ns", result->worst_ns);
	put_count(gen, "returns", result->returns);
	put_count(gen, "mmio_exits", result->mmio_exits);
	put_count(gen, "messages", result->messages);
	put_count(gen, "events", result->events);
	put_count(gen, "switches", result->switches);
	put_count(gen, "other_switches", result->others);
	yajl_gen_map_close(gen);
}

static void put_ratio(yajl_gen gen, const struct bench_ratio *ratio)
{
	yajl_gen_map_open(gen);
	put_text(gen, "name", ratio->name);
	put_number(gen, "ratio", ratio->value);
	put_number(gen, "low", ratio->low);
	put_number(gen, "high", ratio->high);
	if (ratio->limit > 0)
		put_number(gen, "limit", ratio->limit);
	yajl_gen_map_close(gen);
}

static void put_host(yajl_gen gen, const struct bench_host *host)
{
	put_string(gen, "host");
	yajl_gen_map_open(gen);
	put_text(gen, "cpu", host->cpu);
	put_count(gen, "cpus", host->cpus);
	put_text(gen, "kernel", host->kernel);
	put_text(gen, "kvm", host->kvm);
	put_number(gen, "load_before", host->load[0]);
	put_number(gen, "load_after", host->load[1]);
	yajl_gen_map_close(gen);
}

static void put_report(yajl_gen gen, const struct bench_report *report)
{
	yajl_gen_map_open(gen);
	put_host(gen, &report->host);
	put_string(gen, "rows");
	yajl_gen_array_open(gen);
	for (unsigned i = 0; i < report->nr; i++)
		put_result(gen, &report->results[i]);
	yajl_gen_array_close(gen);
	put_string(gen, "ratios");
	yajl_gen_array_open(gen);
	for (unsigned i = 0; i < report->nr_ratios; i++)
		put_ratio(gen, &report->ratios[i]);
	yajl_gen_array_close(gen);
	yajl_gen_map_close(gen);
}

int cleat_bench_print_json(FILE *out, const struct bench_report *report)
{
	yajl_gen gen = yajl_gen_alloc(NULL);
	const unsigned char *text;
	size_t length;
	int err = -ENOMEM;

	if (!gen)
		return err;
	yajl_gen_config(gen, yajl_gen_beautify, 1);
	put_report(gen, report);
	if (yajl_gen_get_buf(gen, &text, &length) == yajl_gen_status_ok)
		err = fwrite(text, 1, length, out) == length ? 0 : -EIO;
	yajl_gen_free(gen);
	return err;
}
