/* SPDX-License-Identifier: BSD-2-Clause */
#include <errno.h>
#include <string.h>
#include <yajl/yajl_gen.h>

#include "bench/measure.h"

static void print_count(FILE *out, int64_t count)
{
	if (count < 0)
		fprintf(out, " %9s", "-");
	else
		fprintf(out, " %9lld", (long long)count);
}

void cleat_bench_print(FILE *out, const struct bench_result *results,
		       unsigned nr)
{
	fprintf(out, "%-20s %8s %9s %9s %9s %9s %9s %9s %9s %9s\n", "", "count",
		"median ns", "99% ns", "worst ns", "returns", "mmio exit",
		"messages", "events", "switches");
	for (unsigned i = 0; i < nr; i++) {
		const struct bench_result *r = &results[i];

		fprintf(out, "%-20s %8llu %9llu %9llu %9llu", r->name,
			(unsigned long long)r->count,
			(unsigned long long)r->median_ns,
			(unsigned long long)r->p99_ns,
			(unsigned long long)r->worst_ns);
		print_count(out, r->returns);
		print_count(out, r->mmio_exits);
		print_count(out, r->messages);
		print_count(out, r->events);
		print_count(out, r->switches);
		fputc('\n', out);
	}
}

static void put_text(yajl_gen gen, const char *key, const char *text)
{
	yajl_gen_string(gen, (const unsigned char *)key, strlen(key));
	yajl_gen_string(gen, (const unsigned char *)text, strlen(text));
}

static void put_number(yajl_gen gen, const char *key, int64_t number)
{
	yajl_gen_string(gen, (const unsigned char *)key, strlen(key));
	if (number < 0)
		yajl_gen_null(gen);
	else
		yajl_gen_integer(gen, number);
}

static void put_result(yajl_gen gen, const struct bench_result *result)
{
	yajl_gen_map_open(gen);
	put_text(gen, "name", result->name);
	put_text(gen, "what", result->what);
	put_number(gen, "count", (int64_t)result->count);
	put_number(gen, "median_ns", (int64_t)result->median_ns);
	put_number(gen, "p99_ns", (int64_t)result->p99_ns);
	put_number(gen, "worst_ns", (int64_t)result->worst_ns);
	put_number(gen, "returns", result->returns);
	put_number(gen, "mmio_exits", result->mmio_exits);
	put_number(gen, "messages", result->messages);
	put_number(gen, "events", result->events);
	put_number(gen, "switches", result->switches);
	yajl_gen_map_close(gen);
}

int cleat_bench_print_json(FILE *out, const struct bench_result *results,
			   unsigned nr)
{
	yajl_gen gen = yajl_gen_alloc(NULL);
	const unsigned char *text;
	size_t length;
	int err = -ENOMEM;

	if (!gen)
		return err;
	yajl_gen_config(gen, yajl_gen_beautify, 1);
	yajl_gen_map_open(gen);
	yajl_gen_string(gen, (const unsigned char *)"rows", 4);
	yajl_gen_array_open(gen);
	for (unsigned i = 0; i < nr; i++)
		put_result(gen, &results[i]);
	yajl_gen_array_close(gen);
	yajl_gen_map_close(gen);
	if (yajl_gen_get_buf(gen, &text, &length) == yajl_gen_status_ok)
		err = fwrite(text, 1, length, out) == length ? 0 : -EIO;
	yajl_gen_free(gen);
	return err;
}
