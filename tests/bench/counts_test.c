/* SPDX-License-Identifier: BSD-2-Clause */
/* What cleat-bench counts, never how long it took. */
#include <stdio.h>
#include <sys/wait.h>
#include <yajl/yajl_tree.h>

#include "tests/support/support.h"

#define N 1000
/* As many accesses are one where one is too short to be timed. */
#define BATCH 1000
#define RUN_MS 100000

static int run(const char *const args[])
{
	const char *argv[24] = { program("bench/cleat-bench") };
	struct child child;
	int status;

	for (unsigned i = 0; args[i]; i++)
		argv[i + 1] = args[i];
	child_start(&child, "bench", argv);
	status = child_wait(&child, RUN_MS);
	ATF_REQUIRE(status >= 0 && WIFEXITED(status));
	return WEXITSTATUS(status);
}

/* What the run said with --json. */
static yajl_val read_json(void)
{
	static char text[65536];
	char error[256];
	yajl_val tree;
	FILE *out;

	out = fopen("bench.out", "re");
	ATF_REQUIRE(out);
	text[fread(text, 1, sizeof(text) - 1, out)] = '\0';
	fclose(out);
	tree = yajl_tree_parse(text, error, sizeof(error));
	ATF_REQUIRE_MSG(tree, "%s", error);
	return tree;
}

static yajl_val measure(const atf_tc_t *tc, const char *row)
{
	const char *const args[] = { "--count", "1000",	 "--rounds",
				     "4",	"--row", row,
				     "--json",	"-",	 NULL };

	close(kvm_open(tc));
	ATF_REQUIRE_EQ(0, run(args));
	return read_json();
}

static double real(yajl_val tree, const char *name)
{
	const char *path[] = { name, NULL };
	yajl_val number = yajl_tree_get(tree, path, yajl_t_number);

	ATF_REQUIRE_MSG(number, "no %s", name);
	return YAJL_GET_DOUBLE(number);
}

static long long value(yajl_val tree, const char *name)
{
	const char *rows[] = { "rows", NULL };
	const char *path[] = { name, NULL };
	yajl_val list = yajl_tree_get(tree, rows, yajl_t_array);
	yajl_val number;

	ATF_REQUIRE(list && YAJL_GET_ARRAY(list)->len == 1);
	number = yajl_tree_get(YAJL_GET_ARRAY(list)->values[0], path,
			       yajl_t_any);
	ATF_REQUIRE(number);
	return YAJL_IS_INTEGER(number) ? YAJL_GET_INTEGER(number) : -1;
}

/* What a row must count; -1: nobody counts that. */
struct expected {
	long long count;
	long long returns;
	long long messages;
	long long events;
};

static void check_row(const atf_tc_t *tc, const char *row,
		      struct expected expected)
{
	yajl_val tree = measure(tc, row);

	ATF_CHECK_EQ(expected.count, value(tree, "count"));
	ATF_CHECK_EQ(expected.returns, value(tree, "returns"));
	ATF_CHECK_EQ(expected.returns, value(tree, "mmio_exits"));
	ATF_CHECK_EQ(expected.messages, value(tree, "messages"));
	ATF_CHECK_EQ(expected.events, value(tree, "events"));
	/*
	 * Whichever way it went, no other thread of the VMM's had a part. (The
	 * one that frees old snapshots may sleep through a grace period that
	 * ends meanwhile.)
	 */
	ATF_CHECK(value(tree, "other_switches") <= 2);
	yajl_tree_free(tree);
}

CLEAT_TC(count__bare_kick)
{
	check_row(tc, "bare-kick", (struct expected){ N, 0, -1, N });
}

CLEAT_TC(count__bare_exit)
{
	check_row(tc, "bare-exit-read", (struct expected){ N, N, -1, -1 });
}

CLEAT_TC(count__bare_there_and_back)
{
	check_row(tc, "bare-there-and-back", (struct expected){ N, 0, -1, N });
}

CLEAT_TC(count__mapped)
{
	check_row(tc, "mapped-write", (struct expected){ N * BATCH, 0, 0, -1 });
	check_row(tc, "mapped-read", (struct expected){ N * BATCH, 0, 0, -1 });
}

CLEAT_TC(count__ioeventfd)
{
	check_row(tc, "ioeventfd-write", (struct expected){ N, 0, 0, N });
	check_row(tc, "ioeventfd-any", (struct expected){ N, 0, 0, N });
	check_row(tc, "ioeventfd-match", (struct expected){ N, 0, 0, N });
}

CLEAT_TC(count__shadow)
{
	check_row(tc, "shadow-write", (struct expected){ N, N, 0, N });
}

CLEAT_TC(count__trapped)
{
	check_row(tc, "trapped-write", (struct expected){ N, N, N, N });
	check_row(tc, "posted-write", (struct expected){ N, N, N, N });
	check_row(tc, "trapped-read", (struct expected){ N, N, N, -1 });
}

CLEAT_TC(count__interrupt)
{
	check_row(tc, "interrupt", (struct expected){ N, 0, 0, N });
}

CLEAT_TC(count__there_and_back)
{
	check_row(tc, "there-and-back", (struct expected){ N, 0, 0, N });
	check_row(tc, "shadow-and-back", (struct expected){ N, N, 0, N });
	check_row(tc, "trapped-and-back", (struct expected){ N, N, N, N });
}

CLEAT_TC(count__polled_page_and_back)
{
	check_row(tc, "mapped-and-back", (struct expected){ N, 0, 0, N });
}

/* What is told of the times holds together, and the ratio is there. */
CLEAT_TC(report__ratio)
{
	const char *const args[] = {
		"--count", "1000",	"--rounds", "3",
		"--row",   "bare-kick", "--row",    "ioeventfd-write",
		"--svg",   "bench.svg", "--json",   "-",
		NULL
	};
	const char *rows[] = { "rows", NULL }, *ratios[] = { "ratios", NULL };
	yajl_val tree, list;

	close(kvm_open(tc));
	ATF_REQUIRE_EQ(0, run(args));
	tree = read_json();
	list = yajl_tree_get(tree, rows, yajl_t_array);
	ATF_REQUIRE(list && YAJL_GET_ARRAY(list)->len == 2);
	for (unsigned i = 0; i < 2; i++) {
		yajl_val row = YAJL_GET_ARRAY(list)->values[i];

		ATF_CHECK(real(row, "median_ns") > 0);
		ATF_CHECK(real(row, "p99_ns") >= real(row, "median_ns"));
		ATF_CHECK(real(row, "worst_ns") >= real(row, "p99_ns"));
	}
	list = yajl_tree_get(tree, ratios, yajl_t_array);
	ATF_REQUIRE(list && YAJL_GET_ARRAY(list)->len == 1);
	ATF_CHECK(real(YAJL_GET_ARRAY(list)->values[0], "ratio") > 0);
	ATF_CHECK_EQ(1.05, real(YAJL_GET_ARRAY(list)->values[0], "limit"));
	yajl_tree_free(tree);
	ATF_CHECK(atf_utils_grep_file("</svg>", "bench.svg"));
	ATF_CHECK(atf_utils_grep_file("ioeventfd-write", "bench.svg"));
}

/* Three rows of one measurement, and the next one's counts are its own. */
CLEAT_TC(report__in_turns)
{
	const char *const args[] = {
		"--count", "1000", "--rounds", "4", "--row", "exit-in-turn",
		"--row", "eventfd-in-turn", "--row", "shadow-in-turn",
		"--row", "lookup", "--row", "shadow-write", "--json", "-",
		NULL
	};
	const char *rows[] = { "rows", NULL }, *ratios[] = { "ratios", NULL };
	const char *events[] = { "events", NULL };
	yajl_val tree, list;

	close(kvm_open(tc));
	ATF_REQUIRE_EQ(0, run(args));
	tree = read_json();
	list = yajl_tree_get(tree, rows, yajl_t_array);
	ATF_REQUIRE(list && YAJL_GET_ARRAY(list)->len == 5);
	for (unsigned i = 0; i < 5; i++)
		ATF_CHECK(real(YAJL_GET_ARRAY(list)->values[i], "median_ns") >
			  0);
	/* (shadow-write is the first of them in the report) */
	ATF_CHECK_EQ(1000, YAJL_GET_INTEGER(yajl_tree_get(
				   YAJL_GET_ARRAY(list)->values[0], events,
				   yajl_t_number)));
	list = yajl_tree_get(tree, ratios, yajl_t_array);
	ATF_REQUIRE(list && YAJL_GET_ARRAY(list)->len == 1);
	ATF_CHECK_EQ(1, real(YAJL_GET_ARRAY(list)->values[0], "limit"));
	yajl_tree_free(tree);
}

CLEAT_TC(run__misused)
{
	ATF_CHECK_EQ(2, run((const char *const[]){ "--count", "5", NULL }));
	ATF_CHECK_EQ(2, run((const char *const[]){ "--count", "1k", NULL }));
	ATF_CHECK_EQ(2, run((const char *const[]){ "--row", "none", NULL }));
	ATF_CHECK_EQ(2, run((const char *const[]){ "--nothing", NULL }));
	ATF_CHECK_EQ(2, run((const char *const[]){ "more", NULL }));
	ATF_CHECK_EQ(2, run((const char *const[]){ "--rounds", "0", NULL }));
	ATF_CHECK_EQ(0, run((const char *const[]){ "--help", NULL }));
	ATF_CHECK_EQ(0, run((const char *const[]){ "--version", NULL }));
	ATF_CHECK_EQ(0, run((const char *const[]){ "--list", NULL }));
}

CLEAT_TC(write__no_such_folder)
{
	close(kvm_open(tc));
	ATF_CHECK_EQ(1, run((const char *const[]){ "--count", "1000", "--row",
						   "ram-read", "--json",
						   "none/such", NULL }));
}

ATF_TP_ADD_TCS(tp)
{
	ATF_TP_ADD_TC(tp, count__bare_kick);
	ATF_TP_ADD_TC(tp, count__bare_exit);
	ATF_TP_ADD_TC(tp, count__bare_there_and_back);
	ATF_TP_ADD_TC(tp, count__mapped);
	ATF_TP_ADD_TC(tp, count__ioeventfd);
	ATF_TP_ADD_TC(tp, count__shadow);
	ATF_TP_ADD_TC(tp, count__trapped);
	ATF_TP_ADD_TC(tp, count__interrupt);
	ATF_TP_ADD_TC(tp, count__there_and_back);
	ATF_TP_ADD_TC(tp, count__polled_page_and_back);
	ATF_TP_ADD_TC(tp, report__ratio);
	ATF_TP_ADD_TC(tp, report__in_turns);
	ATF_TP_ADD_TC(tp, run__misused);
	ATF_TP_ADD_TC(tp, write__no_such_folder);
	return atf_no_error();
}
