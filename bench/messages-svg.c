/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The picture: each figure's ratio to what it is held against, on a logarithmic
 * scale, with a mark where it is to be at most.
 */
#include <errno.h>
#include <math.h>
#include <string.h>

#include "bench/messages.h"

#define WIDTH 1000
#define LEFT 400
#define RIGHT 190
#define TOP 70
#define STEP 20
#define BOTTOM 40
/* A hundredth to a hundred times. */
#define LEAST -2.0
#define DECADES 4.0

static double x_of(double ratio)
{
	double decade = log10(ratio > 0 ? ratio : 1e-9) - LEAST;

	if (decade < 0)
		decade = 0;
	if (decade > DECADES)
		decade = DECADES;
	return LEFT + (WIDTH - LEFT - RIGHT) * decade / DECADES;
}

static double y_of(unsigned line)
{
	return TOP + STEP * (line + 0.5);
}

static void draw_text(FILE *out, double x, double y, const char *anchor,
		      const char *text)
{
	fprintf(out, "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"%s\">", x, y,
		anchor);
	for (; *text; text++) {
		if (strchr("<>&", *text))
			fprintf(out, "&#%d;", *text);
		else
			fputc(*text, out);
	}
	fputs("</text>\n", out);
}

static void draw_upright(FILE *out, double x, double from, double to,
			 const char *colour, unsigned width)
{
	fprintf(out,
		"<line x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\" "
		"stroke=\"%s\" stroke-width=\"%u\"/>\n",
		x, from, x, to, colour, width);
}

static void draw_frame(FILE *out, unsigned lines)
{
	static const char *const names[] = { "0.01", "0.1", "1", "10", "100" };
	double height = TOP + STEP * lines + BOTTOM;

	fprintf(out,
		"<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" "
		"height=\"%.0f\" viewBox=\"0 0 %d %.0f\" "
		"font-family=\"sans-serif\" font-size=\"12\">\n"
		"<rect width=\"100%%\" height=\"100%%\" fill=\"#fff\"/>\n",
		WIDTH, height, WIDTH, height);
	draw_text(out, 16, 24, "start",
		  "What costs a vfio-user client's work on the socket: times "
		  "its limit in the same run (lower is better)");
	draw_text(out, 16, 42, "start",
		  "Blue: as wished, or no wish; red: above. The mark is what it "
		  "is to be at most. At the right: the ratio, and what it is "
		  "held against.");
	for (unsigned i = 0; i <= DECADES; i++) {
		double x = x_of(pow(10, i + LEAST));

		draw_upright(out, x, TOP, TOP + STEP * lines,
			     i + LEAST == 0 ? "#555" : "#ddd", 1);
		draw_text(out, x, TOP + STEP * lines + 18, "middle", names[i]);
	}
}

static void draw_figure(FILE *out, const struct bench_figure *figure,
			unsigned line)
{
	bool above = figure->target > 0 && figure->ratio > figure->target;
	double one = x_of(1), x = x_of(figure->ratio), y = y_of(line);
	char text[160];

	snprintf(text, sizeof(text), "%s (%s)", figure->name, figure->pinning);
	draw_text(out, LEFT - 8, y + 4, "end", text);
	fprintf(out,
		"<rect x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%d\" "
		"fill=\"%s\"/>\n",
		x < one ? x : one, y - 6, fabs(x - one) + 1, 12,
		above ? "#c33" : "#47a");
	if (figure->target > 0)
		draw_upright(out, x_of(figure->target), y - 9, y + 9, "#000",
			     2);
	snprintf(text, sizeof(text), "%.3g of %s", figure->ratio,
		 figure->against ? figure->against : "its limit");
	draw_text(out, WIDTH - RIGHT + 10, y + 4, "start", text);
}

int cleat_bench_messages_svg(FILE *out, const struct bench_messages *bench)
{
	unsigned lines = 0;

	for (unsigned i = 0; i < bench->num_figures; i++)
		lines += bench->figures[i].limit > 0;
	draw_frame(out, lines);
	lines = 0;
	for (unsigned i = 0; i < bench->num_figures; i++)
		if (bench->figures[i].limit > 0)
			draw_figure(out, &bench->figures[i], lines++);
	fputs("</svg>\n", out);
	return ferror(out) ? -EIO : 0;
}
