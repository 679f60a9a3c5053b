/* SPDX-License-Identifier: BSD-2-Clause */
/* The command line, in this process; what the program says is run_test.c's. */
#include "tests/support/support.h"
#include "vmm/vmm.h"

/* Options point into argv: it lives until the next call. */
static int parse(struct options *options, const char *const *words)
{
	static char copies[80][40];
	char *argv[81] = { strcpy(copies[0], "cleat-vmm") };
	int argc = 1;

	for (; *words; words++, argc++)
		argv[argc] = strcpy(copies[argc], *words);
	return cleat_vmm_options_parse(argc, argv, options);
}

#define PARSE(options, ...) \
	parse(options, (const char *const[]){ __VA_ARGS__, NULL })

CLEAT_TC(parse__defaults)
{
	struct options options;

	ATF_REQUIRE_EQ(-1, PARSE(&options, "--kernel", "k"));
	ATF_REQUIRE_STREQ("k", options.kernel);
	ATF_REQUIRE_STREQ("console=ttyS0", options.append);
	ATF_REQUIRE_EQ(512 * MiB, options.memory);
	ATF_REQUIRE_EQ(1, options.cpus);
	ATF_REQUIRE_EQ(0, options.device_count);
	ATF_REQUIRE(!options.hugetlb && !options.initrd && !options.stats);
}

CLEAT_TC(parse__all)
{
	struct options options;

	ATF_REQUIRE_EQ(-1, PARSE(&options, "--kernel=k", "--initrd", "i",
				 "--append", "a b", "--memory", "5000",
				 "--cpus", "8", "--device", "/one",
				 "--device=/two", "--stats", "s", "--hugetlb"));
	ATF_REQUIRE_STREQ("i", options.initrd);
	ATF_REQUIRE_STREQ("a b", options.append);
	ATF_REQUIRE_EQ(5000 * MiB, options.memory);
	ATF_REQUIRE_EQ(8, options.cpus);
	ATF_REQUIRE_EQ(2, options.device_count);
	ATF_REQUIRE_STREQ("/two", options.devices[1]);
	ATF_REQUIRE(options.hugetlb);
}

CLEAT_TC(parse__bad)
{
	static const char *const bad[][6] = {
		{ "--cpus", "2" }, /* no kernel */
		{ "--kernel", "k", "--cpus", "0" },
		{ "--kernel", "k", "--cpus", "-1" },
		{ "--kernel", "k", "--cpus", "65" },
		{ "--kernel", "k", "--cpus", "two" },
		{ "--kernel", "k", "--cpus", "2x" },
		{ "--kernel", "k", "--cpus", "" },
		{ "--kernel", "k", "--memory", "99999999999999999999" },
		{ "--kernel", "k", "--memory", "8" },
		{ "--kernel", "k", "--memory", " 64" },
		{ "--kernel", "k", "--hugetlb", "--memory", "65" },
		{ "--kernel" },
		{ "--kernel", "k", "--nothing" },
		{ "--kernel", "k", "stray" },
		{ "-k" },
	};
	struct options options;
	size_t i;

	memset(&options, 0x5a, sizeof(options));
	for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		ATF_CHECK_EQ_MSG(OUTCOME_USAGE, parse(&options, bad[i]),
				 "line %zu", i);
		ATF_CHECK_EQ(0x5a5a5a5au, options.cpus);
	}
}

CLEAT_TC(parse__too_many_devices)
{
	const char *words[2 + 2 * (DEVICES_MAX + 1) + 1] = { "--kernel", "k" };
	struct options options;
	unsigned i;

	for (i = 0; i < DEVICES_MAX; i++) {
		words[2 + 2 * i] = "--device";
		words[3 + 2 * i] = "/s";
	}
	ATF_REQUIRE_EQ(-1, parse(&options, words));
	ATF_REQUIRE_EQ(DEVICES_MAX, options.device_count);
	words[2 + 2 * i] = "--device";
	words[3 + 2 * i] = "/s";
	ATF_REQUIRE_EQ(OUTCOME_USAGE, parse(&options, words));
}

ATF_TP_ADD_TCS(tp)
{
	ATF_TP_ADD_TC(tp, parse__defaults);
	ATF_TP_ADD_TC(tp, parse__all);
	ATF_TP_ADD_TC(tp, parse__bad);
	ATF_TP_ADD_TC(tp, parse__too_many_devices);
	return atf_no_error();
}
