/* SPDX-License-Identifier: BSD-2-Clause */
/* The command line, in this process; what the program says is run_test.c's. */
#include <stdio.h>

#include "tests/support/support.h"
#include "vmm/vmm.h"

/* Options point into argv: it lives until the next call. */
static int parse(struct options *options, const char *const *words)
{
	static char copies[80][400];
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
	ATF_REQUIRE_STREQ("/two", options.devices[1].path);
	ATF_REQUIRE_EQ(0, options.devices[1].coalesce_count);
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

/* What is behind the socket. */
static int parse_device(const char *text, struct device_option *ret)
{
	struct options options;
	int status = PARSE(&options, "--kernel", "k", "--device", text);

	if (status < 0)
		*ret = options.devices[0];
	return status;
}

CLEAT_TC(device__coalesce)
{
	struct device_option device;

	ATF_REQUIRE_EQ(-1, parse_device("/s,coalesce=0:0x18+8,coalesce=5:0+0X1fF0,coalesce=0:32+0x10",
					&device));
	ATF_REQUIRE_STREQ("/s", device.path);
	ATF_REQUIRE_EQ(3, device.coalesce_count);
	ATF_REQUIRE_EQ(0, device.coalesce[0].bar);
	ATF_REQUIRE_EQ(0x18, device.coalesce[0].offset);
	ATF_REQUIRE_EQ(8, device.coalesce[0].length);
	ATF_REQUIRE_EQ(5, device.coalesce[1].bar);
	ATF_REQUIRE_EQ(0, device.coalesce[1].offset);
	ATF_REQUIRE_EQ(0x1ff0, device.coalesce[1].length);
	ATF_REQUIRE_EQ(32, device.coalesce[2].offset);
	/* One behind another, and the same place in two BARs. */
	ATF_REQUIRE_EQ(-1, parse_device("/s,coalesce=0:0+8,coalesce=0:8+8,coalesce=1:0+8",
					&device));
	/* All there can be, and not more. */
	ATF_REQUIRE_EQ(-1, parse_device("/s,coalesce=0:0+18446744073709551615",
					&device));
}

CLEAT_TC(device__commas)
{
	struct device_option device;

	ATF_REQUIRE_EQ(-1, parse_device("a,,b", &device));
	ATF_REQUIRE_STREQ("a,b", device.path);
	ATF_REQUIRE_EQ(0, device.coalesce_count);
	ATF_REQUIRE_EQ(-1, parse_device(",,a,,,coalesce=1:2+3", &device));
	ATF_REQUIRE_STREQ(",a,", device.path);
	ATF_REQUIRE_EQ(1, device.coalesce_count);
	ATF_REQUIRE_EQ(1, device.coalesce[0].bar);
}

CLEAT_TC(device__bad)
{
	static const char *const bad[] = {
		"",
		",coalesce=0:0+8", /* no socket */
		"/s,",
		"/s,coalesce=0:0+8,",
		"/s,fast=1",
		"/s,coalesce",
		"/s,coalesce=",
		"/s,coalesce=0",
		"/s,coalesce=0:0",
		"/s,coalesce=0:0+",
		"/s,coalesce=0:+8",
		"/s,coalesce=:0+8",
		"/s,coalesce=0+0:8",
		"/s,coalesce=0:0+8x",
		"/s,coalesce=0:0+8+8",
		"/s,coalesce=0:0x+8",
		"/s,coalesce=0:ff+8",
		"/s,coalesce=0:-1+8",
		"/s,coalesce=0: 1+8",
		"/s,coalesce=0:0+-8",
		"/s,coalesce=0:0++8",
		"/s,coalesce=6:0+8",
		"/s,coalesce=bar0:0+8",
		"/s,coalesce=0:0+0",
		"/s,coalesce=0:18446744073709551616+8",
		"/s,coalesce=0:0+0x10000000000000000",
		"/s,coalesce=0:1+18446744073709551615",
		"/s,coalesce=4294967296:0+8",
		"/s,coalesce=0:0+8,coalesce=0:7+1",
		"/s,coalesce=0:8+8,coalesce=0:0+9",
		"/s,coalesce=0:0+8,coalesce=0:0+8",
	};
	struct device_option device = { 0 };
	size_t i;

	for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		ATF_CHECK_EQ_MSG(OUTCOME_USAGE, parse_device(bad[i], &device),
				 "\"%s\"", bad[i]);
	ATF_CHECK_EQ(NULL, device.path);
}

CLEAT_TC(device__too_many_ranges)
{
	char text[400] = "/s";
	struct device_option device;
	unsigned i;

	for (i = 0; i < COALESCE_MAX; i++)
		snprintf(text + strlen(text), sizeof(text) - strlen(text),
			 ",coalesce=0:%u+1", i);
	ATF_REQUIRE_EQ(-1, parse_device(text, &device));
	ATF_REQUIRE_EQ(COALESCE_MAX, device.coalesce_count);
	strcat(text, ",coalesce=0:99+1");
	ATF_REQUIRE_EQ(OUTCOME_USAGE, parse_device(text, &device));
}

ATF_TP_ADD_TCS(tp)
{
	ATF_TP_ADD_TC(tp, parse__defaults);
	ATF_TP_ADD_TC(tp, parse__all);
	ATF_TP_ADD_TC(tp, parse__bad);
	ATF_TP_ADD_TC(tp, parse__too_many_devices);
	ATF_TP_ADD_TC(tp, device__coalesce);
	ATF_TP_ADD_TC(tp, device__commas);
	ATF_TP_ADD_TC(tp, device__bad);
	ATF_TP_ADD_TC(tp, device__too_many_ranges);
	return atf_no_error();
}
