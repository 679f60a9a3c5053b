/* SPDX-License-Identifier: BSD-2-Clause */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <yajl/yajl_gen.h>
#include <yajl/yajl_tree.h>

#include "bench/messages.h"

#define MOST_TEXT (1u << 20)

static void print_target(FILE *out, const struct bench_figure *figure)
{
	double reached = figure->limit > 0 ? figure->ratio : figure->value;

	if (figure->target > 0)
		fprintf(out, " %8.3g  %s", figure->target,
			reached <= figure->target ? "yes" : "NO");
}

void cleat_bench_messages_print(FILE *out, const struct bench_messages *bench)
{
	fprintf(out, "%-42s %-13s %-6s %9s %9s %9s %7s %8s\n", "", "pinning",
		"unit", "median", "99%", "limit", "ratio", "at most");
	for (unsigned i = 0; i < bench->num_figures; i++) {
		const struct bench_figure *f = &bench->figures[i];

		fprintf(out, "%-42s %-13s %-6s %9.0f", f->name, f->pinning,
			f->unit, f->value);
		if (f->p99 > 0)
			fprintf(out, " %9.0f", f->p99);
		else
			fprintf(out, " %9s", "-");
		if (f->limit > 0)
			fprintf(out, " %9.0f %7.3f", f->limit, f->ratio);
		else
			fprintf(out, " %9s %7s", "-", "-");
		print_target(out, f);
		if (f->against)
			fprintf(out, "  (of %s)", f->against);
		fputc('\n', out);
	}
}

static void put_key(yajl_gen gen, const char *key)
{
	yajl_gen_string(gen, (const unsigned char *)key, strlen(key));
}

static void put_text(yajl_gen gen, const char *key, const char *text)
{
	if (!text)
		return;
	put_key(gen, key);
	put_key(gen, text);
}

static void put_number(yajl_gen gen, const char *key, double number)
{
	if (number <= 0)
		return;
	put_key(gen, key);
	yajl_gen_double(gen, number);
}

static void put_figure(yajl_gen gen, const struct bench_figure *figure)
{
	yajl_gen_map_open(gen);
	put_text(gen, "name", figure->name);
	put_text(gen, "pinning", figure->pinning);
	put_text(gen, "unit", figure->unit);
	put_text(gen, "against", figure->against);
	put_number(gen, "median", figure->value);
	put_number(gen, "p99", figure->p99);
	put_number(gen, "limit", figure->limit);
	put_number(gen, "ratio", figure->ratio);
	put_number(gen, "at_most", figure->target);
	yajl_gen_map_close(gen);
}

int cleat_bench_messages_json(FILE *out, const struct bench_messages *bench)
{
	yajl_gen gen = yajl_gen_alloc(NULL);
	const unsigned char *text;
	size_t length;
	int err = -ENOMEM;

	if (!gen)
		return err;
	yajl_gen_config(gen, yajl_gen_beautify, 1);
	yajl_gen_map_open(gen);
	put_key(gen, "rounds");
	yajl_gen_integer(gen, bench->rounds);
	put_key(gen, "count");
	yajl_gen_integer(gen, bench->count);
	put_key(gen, "figures");
	yajl_gen_array_open(gen);
	for (unsigned i = 0; i < bench->num_figures; i++)
		put_figure(gen, &bench->figures[i]);
	yajl_gen_array_close(gen);
	yajl_gen_map_close(gen);
	if (yajl_gen_get_buf(gen, &text, &length) == yajl_gen_status_ok)
		err = fwrite(text, 1, length, out) == length ? 0 : -EIO;
	yajl_gen_free(gen);
	return err;
}

/* --- Comparison ------------------------------------------------------------- */

static yajl_val load(const char *path)
{
	static char text[MOST_TEXT];
	char why[256] = "not as this program writes it";
	yajl_val tree = NULL;
	FILE *in = fopen(path, "re");

	if (in) {
		text[fread(text, 1, sizeof(text) - 1, in)] = '\0';
		fclose(in);
		tree = yajl_tree_parse(text, why, sizeof(why));
	} else {
		snprintf(why, sizeof(why), "%s", strerror(errno));
	}
	if (!tree)
		fprintf(stderr, "cleat-bench-messages: %s: cannot be read: "
				"%s\n", path, why);
	return tree;
}

static const yajl_val *figures_of(yajl_val tree, size_t *num)
{
	const char *path[] = { "figures", NULL };
	yajl_val list = yajl_tree_get(tree, path, yajl_t_array);

	*num = list ? YAJL_GET_ARRAY(list)->len : 0;
	return list ? YAJL_GET_ARRAY(list)->values : NULL;
}

static const char *text_in(yajl_val figure, const char *key)
{
	const char *path[] = { key, NULL };
	const char *text =
		YAJL_GET_STRING(yajl_tree_get(figure, path, yajl_t_string));

	return text ? text : "";
}

/* What a figure is compared by; 0: by nothing. */
static double cost_in(yajl_val figure)
{
	const char *ratio[] = { "ratio", NULL }, *median[] = { "median", NULL };
	yajl_val number = yajl_tree_get(figure, ratio, yajl_t_number);

	if (!number)
		number = yajl_tree_get(figure, median, yajl_t_number);
	return number ? YAJL_GET_DOUBLE(number) : 0;
}

static bool is_same(yajl_val a, yajl_val b)
{
	return !strcmp(text_in(a, "name"), text_in(b, "name")) &&
	       !strcmp(text_in(a, "pinning"), text_in(b, "pinning"));
}

static int judge(yajl_val before, yajl_val after, unsigned percent)
{
	double was = cost_in(before), is = cost_in(after);

	if (was <= 0 || is <= was * (1 + percent / 100.0))
		return 0;
	printf("%-42s %-13s %10.3f -> %10.3f  +%.0f%%\n",
	       text_in(after, "name"), text_in(after, "pinning"), was, is,
	       (is / was - 1) * 100);
	return 1;
}

static int judge_all(yajl_val before, yajl_val after, unsigned percent)
{
	size_t num_before, num_after;
	const yajl_val *was = figures_of(before, &num_before);
	const yajl_val *is = figures_of(after, &num_after);
	int worse = 0;

	for (size_t i = 0; i < num_after; i++)
		for (size_t k = 0; k < num_before; k++)
			if (is_same(was[k], is[i]))
				worse += judge(was[k], is[i], percent);
	return worse;
}

int cleat_bench_messages_regressions(const char *before, const char *after,
				     unsigned percent)
{
	yajl_val was = load(before), is = was ? load(after) : NULL;
	int worse = was && is ? judge_all(was, is, percent) : -1;

	yajl_tree_free(was);
	yajl_tree_free(is);
	return worse;
}
