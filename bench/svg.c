/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The picture: for each way, what share of its accesses was done after how
 * long. Both scales are logarithmic: of time, and of the share that is left.
 */
#include <errno.h>
#include <math.h>

#include "bench/measure.h"

#define WIDTH 960
#define HEIGHT 540
#define LEFT 70
#define RIGHT 250
#define TOP 60
#define BOTTOM 60
#define POINTS 400
/* 0.1 ns to 100 ms; all to one in ten thousand left. */
#define DECADES 9.0
#define NINES 4.0

static double x_of(double ns)
{
	double decade = log10(ns < 0.1 ? 0.1 : ns) + 1;

	return LEFT + (WIDTH - LEFT - RIGHT) *
			      (decade > DECADES ? 1 : decade / DECADES);
}

static double y_of(double share)
{
	double nines = -log10(1 - share);

	return HEIGHT - BOTTOM -
	       (HEIGHT - TOP - BOTTOM) * (nines > NINES ? 1 : nines / NINES);
}

static void draw_line(FILE *out, double x1, double y1, double x2, double y2)
{
	fprintf(out,
		"<line x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\" "
		"stroke=\"#ddd\"/>\n",
		x1, y1, x2, y2);
}

static void draw_text(FILE *out, double x, double y, const char *anchor,
		      const char *text)
{
	fprintf(out, "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"%s\">", x, y,
		anchor);
	for (; *text; text++) {
		if (*text == '<' || *text == '>' || *text == '&')
			fprintf(out, "&#%d;", *text);
		else
			fputc(*text, out);
	}
	fputs("</text>\n", out);
}

static void draw_grid(FILE *out)
{
	static const char *const times[] = { "0.1 ns", "1 ns", "10 ns",
					     "100 ns", "1 µs", "10 µs",
					     "100 µs", "1 ms", "10 ms",
					     "100 ms" };
	static const char *const shares[] = { "0", "90%", "99%", "99.9%",
					      "99.99%" };

	for (unsigned i = 0; i <= DECADES; i++) {
		double x = x_of(pow(10, (double)i - 1));

		draw_line(out, x, TOP, x, HEIGHT - BOTTOM);
		draw_text(out, x, HEIGHT - BOTTOM + 18, "middle", times[i]);
	}
	for (unsigned i = 0; i <= NINES; i++) {
		double y = y_of(1 - pow(10, -(double)i));

		draw_line(out, LEFT, y, WIDTH - RIGHT, y);
		draw_text(out, LEFT - 8, y + 4, "end", shares[i]);
	}
	draw_line(out, LEFT, y_of(0.5), WIDTH - RIGHT, y_of(0.5));
	draw_text(out, LEFT - 8, y_of(0.5) + 4, "end", "50%");
}

/* @times are sorted. */
static void draw_curve(FILE *out, const struct bench_result *result)
{
	const char *dash =
		result->row->dashed ? " stroke-dasharray=\"5 4\"" : "";

	fprintf(out,
		"<polyline fill=\"none\" stroke=\"%s\" "
		"stroke-width=\"2\"%s points=\"",
		result->row->colour, dash);
	for (unsigned i = 0; i <= POINTS; i++) {
		double share = 1 - pow(10, -NINES * i / POINTS);

		fprintf(out, "%.1f,%.1f ",
			x_of(cleat_bench_quantile(result->times,
						  result->nr_times, share)),
			y_of(share));
	}
	fputs("\"/>\n", out);
}

static void draw_legend(FILE *out, const struct bench_result *result,
			unsigned line)
{
	double x = WIDTH - RIGHT + 16, y = TOP + 12 + 34 * line;
	char text[120];

	fprintf(out,
		"<line x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\" "
		"stroke=\"%s\" stroke-width=\"3\"%s/>\n",
		x, y - 4, x + 22, y - 4, result->row->colour,
		result->row->dashed ? " stroke-dasharray=\"5 4\"" : "");
	draw_text(out, x + 30, y, "start", result->row->name);
	if (result->median_ns < 100)
		snprintf(text, sizeof(text), "median %.2f ns, %lld exits",
			 result->median_ns, (long long)result->returns);
	else
		snprintf(text, sizeof(text), "median %.2f µs, %lld exits",
			 result->median_ns / 1000, (long long)result->returns);
	draw_text(out, x + 30, y + 14, "start", text);
}

static void draw_frame(FILE *out, const struct bench_host *host)
{
	char text[320];

	fprintf(out,
		"<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" "
		"height=\"%d\" viewBox=\"0 0 %d %d\" "
		"font-family=\"sans-serif\" font-size=\"12\">\n"
		"<rect width=\"100%%\" height=\"100%%\" fill=\"#fff\"/>\n",
		WIDTH, HEIGHT, WIDTH, HEIGHT);
	draw_text(out, LEFT, 24, "start",
		  "A guest's accesses to a device in another process: share "
		  "done after a time");
	snprintf(text, sizeof(text),
		 "%s, %u CPUs, Linux %s, KVM: %s. Times as the guest sees "
		 "them; dashed: no library.",
		 host->cpu, host->cpus, host->kernel, host->kvm);
	draw_text(out, LEFT, 42, "start", text);
	draw_grid(out);
}

int cleat_bench_print_svg(FILE *out, const struct bench_report *report)
{
	unsigned line = 0;

	draw_frame(out, &report->host);
	for (unsigned i = 0; i < report->nr; i++) {
		const struct bench_result *result = &report->results[i];

		if (!result->row->colour)
			continue;
		draw_curve(out, result);
		draw_legend(out, result, line++);
	}
	fputs("</svg>\n", out);
	return ferror(out) ? -EIO : 0;
}
