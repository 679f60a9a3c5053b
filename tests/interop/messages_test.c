/* SPDX-License-Identifier: BSD-2-Clause */
/* What cleat-bench-messages counts, and what it writes; never how long. */
#include <stdio.h>
#include <sys/wait.h>
#include <yajl/yajl_tree.h>

#include "tests/support/support.h"

#define RUN_MS 100000

static int run(const char *const args[])
{
	const char *argv[16] = { program("bench/cleat-bench-messages") };
	struct child child;
	int status;

	for (unsigned i = 0; args[i]; i++)
		argv[i + 1] = args[i];
	child_start(&child, "bench", argv);
	status = child_wait(&child, RUN_MS);
	ATF_REQUIRE(status >= 0 && WIFEXITED(status));
	return WEXITSTATUS(status);
}

static const char *read_text(const char *path)
{
	static char text[1u << 18];
	FILE *in = fopen(path, "re");

	ATF_REQUIRE(in);
	text[fread(text, 1, sizeof(text) - 1, in)] = '\0';
	fclose(in);
	return text;
}

/* A number of the figure with this name; -1: it is not there. */
static double figure(yajl_val tree, const char *name, const char *key)
{
	const char *figures[] = { "figures", NULL }, *is[] = { "name", NULL };
	const char *wanted[] = { key, NULL };
	yajl_val list = yajl_tree_get(tree, figures, yajl_t_array), number;

	ATF_REQUIRE(list);
	for (size_t i = 0; i < YAJL_GET_ARRAY(list)->len; i++) {
		yajl_val one = YAJL_GET_ARRAY(list)->values[i];
		yajl_val said = yajl_tree_get(one, is, yajl_t_string);
		const char *text = said ? said->u.string : "";

		if (strcmp(text, name))
			continue;
		number = yajl_tree_get(one, wanted, yajl_t_number);
		return number ? YAJL_GET_DOUBLE(number) : 0;
	}
	return -1;
}

/* Together they cost the difference, one by one all of it. */
CLEAT_TC(storms__messages)
{
	static const char *const args[] = { "--row", "storms", "--count",
					    "100", "--json", "storms.json",
					    "--svg", "storms.svg", NULL };
	const char *text;
	yajl_val tree;

	ATF_REQUIRE_EQ(0, run(args));
	tree = yajl_tree_parse(read_text("storms.json"), NULL, 0);
	ATF_REQUIRE(tree);
	ATF_CHECK_EQ(0, figure(tree, "messages of 18 times", "median"));
	ATF_CHECK_EQ(96, figure(tree, "messages of 18 times", "limit"));
	ATF_CHECK_EQ(400, figure(tree, "messages of them", "median"));
	ATF_CHECK_EQ(4000, figure(tree, "messages of them", "limit"));
	yajl_tree_free(tree);
	text = read_text("storms.svg");
	ATF_CHECK(!strncmp(text, "<svg ", 5));
	ATF_CHECK(strstr(text, "messages of 18 times"));
	ATF_CHECK(strstr(text, "</svg>"));
}

/* What is not there is skipped, and why is said. */
CLEAT_TC(peer__not_there)
{
	static const char *const qemu[] = { "--peer", "qemu", NULL };
	static const char *const vfu[] = { "--peer", "libvfio-user", NULL };

	setenv("CLEAT_QEMU", "/nowhere/qemu", 1);
	ATF_REQUIRE_EQ(0, run(qemu));
	ATF_CHECK(strstr(read_text("bench.err"), "set CLEAT_QEMU"));
	setenv("CLEAT_VFU_DEVICE", "/nowhere/device", 1);
	ATF_REQUIRE_EQ(0, run(vfu));
	ATF_CHECK(strstr(read_text("bench.err"), "set CLEAT_VFU_DEVICE"));
}

/* Where it is there, all of it can be measured. */
CLEAT_TC(peer__qemu)
{
	static const char *const args[] = { "--peer", "qemu", "--count", "100",
					    "--json", "qemu.json", NULL };
	const char *read_name = "read 4, beside QEMU's guest";
	yajl_val tree;

	ATF_REQUIRE_EQ(0, run(args));
	if (strstr(read_text("bench.err"), "skipped"))
		atf_tc_skip("no QEMU with a vfio-user client: set CLEAT_QEMU");
	tree = yajl_tree_parse(read_text("qemu.json"), NULL, 0);
	ATF_REQUIRE(tree);
	ATF_CHECK(figure(tree, read_name, "ratio") > 0);
	ATF_CHECK(figure(tree, "64 in a batch, beside QEMU's guest", "ratio") >
		  0);
	yajl_tree_free(tree);
}

ATF_TP_ADD_TCS(tp)
{
	ATF_TP_ADD_TC(tp, storms__messages);
	ATF_TP_ADD_TC(tp, peer__not_there);
	ATF_TP_ADD_TC(tp, peer__qemu);
	return atf_no_error();
}
