/* SPDX-License-Identifier: BSD-2-Clause */
/* What cleat-bench counts, never how long it took. */
#include <stdio.h>
#include <sys/wait.h>
#include <yajl/yajl_tree.h>

#include "tests/support/support.h"

#define N 1000
#define RUN_MS 100000

static int run(const char *const args[])
{
	const char *argv[8] = {program("bench/cleat-bench")};
	struct child child;
	int status;

	for (unsigned i = 0; args[i]; i++)
		argv[i + 1] = args[i];
	child_start(&child, "bench", argv);
	status = child_wait(&child, RUN_MS);
	ATF_REQUIRE(status >= 0 && WIFEXITED(status));
	return WEXITSTATUS(status);
}

/* The only row of a run with --json. */
static yajl_val measure(const atf_tc_t *tc, const char *row)
{
	const char *const args[] = {"--count", "1000", "--row", row,
				    "--json",  "-",    NULL};
	static char text[65536];
	char error[256];
	yajl_val tree;
	FILE *out;

	close(kvm_open(tc));
	ATF_REQUIRE_EQ(0, run(args));
	out = fopen("bench.out", "re");
	ATF_REQUIRE(out);
	text[fread(text, 1, sizeof(text) - 1, out)] = '\0';
	fclose(out);
	tree = yajl_tree_parse(text, error, sizeof(error));
	ATF_REQUIRE_MSG(tree, "%s", error);
	return tree;
}

static long long value(yajl_val tree, const char *name)
{
	const char *rows[] = {"rows", NULL};
	const char *path[] = {name, NULL};
	yajl_val list = yajl_tree_get(tree, rows, yajl_t_array);
	yajl_val number;

	ATF_REQUIRE(list && YAJL_GET_ARRAY(list)->len == 1);
	number = yajl_tree_get(YAJL_GET_ARRAY(list)->values[0], path,
			       yajl_t_any);
	ATF_REQUIRE(number);
	return YAJL_IS_INTEGER(number) ? YAJL_GET_INTEGER(number) : -1;
}

static void check_row(const atf_tc_t *tc, const char *row, long long returns,
		      long long events)
{
	yajl_val tree = measure(tc, row);

	ATF_CHECK_EQ(N, value(tree, "count"));
	ATF_CHECK_EQ(returns, value(tree, "returns"));
	ATF_CHECK_EQ(returns, value(tree, "mmio_exits"));
	ATF_CHECK_EQ(events, value(tree, "events"));
	ATF_CHECK_EQ(-1, value(tree, "messages"));
	ATF_CHECK(value(tree, "median_ns") > 0);
	ATF_CHECK(value(tree, "p99_ns") >= value(tree, "median_ns"));
	ATF_CHECK(value(tree, "worst_ns") >= value(tree, "p99_ns"));
	yajl_tree_free(tree);
}

CLEAT_TC(count__bare_kick)
{
	check_row(tc, "bare-kick", 0, N);
}

CLEAT_TC(count__bare_exit)
{
	check_row(tc, "bare-exit-read", N, -1);
}

CLEAT_TC(count__bare_there_and_back)
{
	check_row(tc, "bare-there-and-back", 0, N);
}

CLEAT_TC(run__misused)
{
	ATF_CHECK_EQ(2, run((const char *const[]){"--count", "5", NULL}));
	ATF_CHECK_EQ(2, run((const char *const[]){"--count", "1k", NULL}));
	ATF_CHECK_EQ(2, run((const char *const[]){"--row", "none", NULL}));
	ATF_CHECK_EQ(2, run((const char *const[]){"--nothing", NULL}));
	ATF_CHECK_EQ(2, run((const char *const[]){"more", NULL}));
	ATF_CHECK_EQ(0, run((const char *const[]){"--help", NULL}));
	ATF_CHECK_EQ(0, run((const char *const[]){"--version", NULL}));
	ATF_CHECK_EQ(0, run((const char *const[]){"--list", NULL}));
}

CLEAT_TC(write__no_such_folder)
{
	close(kvm_open(tc));
	ATF_CHECK_EQ(1, run((const char *const[]){"--count", "1000", "--row",
						  "ram-read", "--json",
						  "none/such", NULL}));
}

ATF_TP_ADD_TCS(tp)
{
	ATF_TP_ADD_TC(tp, count__bare_kick);
	ATF_TP_ADD_TC(tp, count__bare_exit);
	ATF_TP_ADD_TC(tp, count__bare_there_and_back);
	ATF_TP_ADD_TC(tp, run__misused);
	ATF_TP_ADD_TC(tp, write__no_such_folder);
	return atf_no_error();
}
