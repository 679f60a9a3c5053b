/* SPDX-License-Identifier: BSD-2-Clause */
/* Every subcommand that looks, against the programs cleat-probe and
 * cleat-nvme, for people and as JSON. */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/stat.h>

#include "backends/probe/probe_regs.h"
#include "tests/tools/ctl.h"

static struct run run;

static void start_nvme(struct child *child)
{
	const char *argv[] = { program("backends/cleat-nvme"), "--file=disk",
			       "--size=4M", "--socket-path=nvme.sock", NULL };

	start_server(child, "nvme", "nvme.sock", argv);
}

CLEAT_TC(info__probe)
{
	struct child probe;
	yajl_val json;

	start_probe(&probe, "p.sock");
	run_ctl(&run, "info", "p.sock", NULL);
	require_run(&run, 0, "version         0.2", "quirks          none",
		    "twin-socket", "(cleat-probe)", "regions         9",
		    "transfer        1048576", NULL);
	run_ctl(&run, "info", "p.sock", "--json", NULL);
	require_run(&run, 0, NULL);
	json = parse_json(run.out);
	ATF_CHECK_EQ(probe.pid, json_number(json, "server.pid"));
	ATF_CHECK_STREQ("cleat-probe", json_text(json, "server.name"));
	ATF_CHECK_EQ(2, json_number(json, "version.minor"));
	ATF_CHECK_EQ(9, json_number(json, "regions"));
	ATF_CHECK_EQ(4096, json_number(json, "limits.pgsizes"));
	ATF_CHECK(YAJL_IS_NULL(json_at(json, "quirks")));
	ATF_CHECK(json_has(json, "flags", "pci"));
	ATF_CHECK(json_has(json, "flags", "twin-socket"));
	yajl_tree_free(json);
	stop_server(&probe);
}

/* Options before the subcommand, and what they change. */
CLEAT_TC(info__options_anywhere)
{
	struct child probe;
	yajl_val json;

	start_probe(&probe, "p.sock");
	run_ctl(&run, "-j", "--peer", "usbvfiod", "--no-twin", "info",
		"--timeout", "2000", "p.sock", NULL);
	require_run(&run, 0, NULL);
	json = parse_json(run.out);
	ATF_CHECK_STREQ("usbvfiod", json_text(json, "quirks"));
	ATF_CHECK(!json_has(json, "flags", "twin-socket"));
	ATF_CHECK(!json_has(json, "flags", "reset"));
	yajl_tree_free(json);
	stop_server(&probe);
}

static void check_segments(yajl_val json)
{
	yajl_val areas = json_at(json, "regions.2");

	ATF_CHECK_EQ(2, json_length(areas, "areas"));
	ATF_CHECK_EQ(PROBE_AREA_0, json_number(areas, "areas.0.offset"));
	ATF_CHECK_STREQ("memfd", json_text(areas, "areas.0.fd.kind"));
	ATF_CHECK(json_has(areas, "areas.0.fd.seals", "shrink"));
	ATF_CHECK_EQ(4, json_length(areas, "segments"));
	ATF_CHECK_STREQ("message", json_text(areas, "segments.0.write"));
	ATF_CHECK_STREQ("map", json_text(areas, "segments.1.read"));
	ATF_CHECK_STREQ("map", json_text(areas, "segments.1.write"));
	ATF_CHECK_EQ(PROBE_AREA_0, json_number(areas, "segments.1.offset"));
}

CLEAT_TC(regions__probe)
{
	struct child probe;
	yajl_val json;

	start_probe(&probe, "p.sock");
	run_ctl(&run, "regions", "p.sock", NULL);
	require_run(&run, 0, "0  BAR0        0x10000  read|write\n",
		    "2  BAR2        0x10000  read|write|mmap|caps\n",
		    "area     0x001000-0x002fff  fd={memfd size=0x10000",
		    "type=ioeventfd width=4 datamatch=0x3",
		    "type=shadow width=4",
		    "read=map write=map",
		    "read=message write=shadow",
		    "write=ioeventfd other_write=message kicks=8",
		    "read=emulated write=emulated",
		    "(the server offers no other way)",
		    "ports=yes", NULL);
	run_ctl(&run, "regions", "p.sock", "-j", NULL);
	require_run(&run, 0, NULL);
	json = parse_json(run.out);
	ATF_CHECK_STREQ("BAR1", json_text(json, "regions.1.name"));
	ATF_CHECK_EQ(39, json_length(json, "regions.1.io_fds"));
	ATF_CHECK_STREQ("shadow", json_text(json, "regions.1.io_fds.0.type"));
	ATF_CHECK_STREQ("memfd",
			json_text(json, "regions.1.io_fds.0.shadow.kind"));
	check_segments(json);
	yajl_tree_free(json);
	stop_server(&probe);
}

CLEAT_TC(regions__nvme)
{
	struct child nvme;
	yajl_val json;

	start_nvme(&nvme);
	run_ctl(&run, "regions", "nvme.sock", "--json", NULL);
	require_run(&run, 0, NULL);
	json = parse_json(run.out);
	ATF_CHECK_STREQ("BAR0", json_text(json, "regions.0.name"));
	ATF_CHECK(json_length(json, "regions.0.areas") >= 1);
	yajl_tree_free(json);
	stop_server(&nvme);
}

CLEAT_TC(irqs__probe)
{
	struct child probe;
	yajl_val json;

	start_probe(&probe, "p.sock");
	run_ctl(&run, "irqs", "p.sock", NULL);
	require_run(&run, 0,
		    "0  INTx          1  eventfd|maskable|automasked\n",
		    "2  MSI-X        16  eventfd|maskable\n", NULL);
	run_ctl(&run, "irqs", "p.sock", "--json", NULL);
	require_run(&run, 0, NULL);
	json = parse_json(run.out);
	ATF_CHECK_EQ(5, json_length(json, "irqs"));
	ATF_CHECK_EQ(16, json_number(json, "irqs.2.vectors"));
	ATF_CHECK(json_has(json, "irqs.0.flags", "automasked"));
	yajl_tree_free(json);
	stop_server(&probe);
}

CLEAT_TC(config__probe)
{
	struct child probe;
	yajl_val json;

	start_probe(&probe, "p.sock");
	run_ctl(&run, "config", "-x", "p.sock", NULL);
	require_run(&run, 0, "c1ea:cb01 class ff0000",
		    "BAR2 space=memory address=0 size=0x10000 bits=64 "
		    "prefetchable=yes",
		    "BAR4 space=ports", "interrupt_pin=A",
		    "MSI-X (0x11) enabled=no masked=no vectors=16 "
		    "table=BAR0+0x4000",
		    "[100] serial number", "\n00000000  ea c1 01 cb", NULL);
	run_ctl(&run, "config", "-j", "p.sock", NULL);
	require_run(&run, 0, NULL);
	json = parse_json(run.out);
	ATF_CHECK_STREQ("c1ea", json_text(json, "vendor"));
	ATF_CHECK_EQ(4, json_length(json, "bars"));
	ATF_CHECK_STREQ("ports", json_text(json, "bars.3.space"));
	ATF_CHECK_STREQ("MSI", json_text(json, "capabilities.1.name"));
	ATF_CHECK_EQ(4, json_number(json, "capabilities.1.vectors"));
	ATF_CHECK_STREQ("BAR0+0xc000", json_text(json, "capabilities.3.pba"));
	yajl_tree_free(json);
	stop_server(&probe);
}

CLEAT_TC(config__nvme)
{
	struct child nvme;

	start_nvme(&nvme);
	run_ctl(&run, "config", "nvme.sock", NULL);
	require_run(&run, 0, "class 010802 (non-volatile memory)", "MSI-X",
		    NULL);
	run_ctl(&run, "info", "nvme.sock", NULL);
	require_run(&run, 0, "(cleat-nvme)", NULL);
	stop_server(&nvme);
}

CLEAT_TC(features__probe)
{
	struct child probe;
	yajl_val json;

	start_probe(&probe, "p.sock");
	run_ctl(&run, "features", "p.sock", NULL);
	require_run(&run, 0, "DMA_LOGGING_START            yes  yes",
		    "PCI_VF_TOKEN                 no   no",
		    "no migration region", NULL);
	run_ctl(&run, "features", "p.sock", "-j", NULL);
	require_run(&run, 0, NULL);
	json = parse_json(run.out);
	ATF_CHECK_EQ(11, json_length(json, "features"));
	ATF_CHECK(YAJL_IS_TRUE(json_at(json, "features.6.get")));
	ATF_CHECK(YAJL_IS_FALSE(json_at(json, "features.3.get")));
	ATF_CHECK(json_has(json, "features.1.flags", "stop-copy"));
	ATF_CHECK_STREQ("running", json_text(json, "features.2.state"));
	ATF_CHECK(json_number(json, "features.9.size") > 0);
	ATF_CHECK(YAJL_IS_NULL(json_at(json, "migration_region")));
	yajl_tree_free(json);
	stop_server(&probe);
}

CLEAT_TC(reset__probe)
{
	struct child probe;
	yajl_val json;

	start_probe(&probe, "p.sock");
	run_ctl(&run, "write", "p.sock", "bar0", "0x10", "77", NULL);
	require_run(&run, 0, NULL);
	run_ctl(&run, "reset", "p.sock", NULL);
	require_run(&run, 0, "reset in ", " ms", NULL);
	run_ctl(&run, "read", "p.sock", "bar0", "0x10", NULL);
	require_run(&run, 0, "0x00000000\n", NULL);
	run_ctl(&run, "reset", "p.sock", "-j", NULL);
	require_run(&run, 0, NULL);
	json = parse_json(run.out);
	ATF_CHECK(YAJL_IS_TRUE(json_at(json, "reset")));
	yajl_tree_free(json);
	stop_server(&probe);
}

CLEAT_TC(help__of_all_and_of_each)
{
	static const char *const names[] = { "info", "regions", "irqs",
					     "config", "read", "write",
					     "reset", "features", "watch",
					     "relay", "replay" };
	char usage[64];

	run_ctl(&run, "--help", NULL);
	require_run(&run, 0, "usage: cleatctl COMMAND", NULL);
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		snprintf(usage, sizeof(usage), "  %-9s ", names[i]);
		run_ctl(&run, "help", NULL);
		require_run(&run, 0, usage, NULL);
		snprintf(usage, sizeof(usage), "usage: cleatctl %s ", names[i]);
		run_ctl(&run, names[i], "--help", NULL);
		require_run(&run, 0, usage, NULL);
		run_ctl(&run, "help", names[i], NULL);
		require_run(&run, 0, usage, NULL);
	}
	run_ctl(&run, "--version", NULL);
	require_run(&run, 0, "cleatctl 0.", NULL);
}

ATF_TP_ADD_TCS(tp)
{
	ATF_TP_ADD_TC(tp, info__probe);
	ATF_TP_ADD_TC(tp, info__options_anywhere);
	ATF_TP_ADD_TC(tp, regions__probe);
	ATF_TP_ADD_TC(tp, regions__nvme);
	ATF_TP_ADD_TC(tp, irqs__probe);
	ATF_TP_ADD_TC(tp, config__probe);
	ATF_TP_ADD_TC(tp, config__nvme);
	ATF_TP_ADD_TC(tp, features__probe);
	ATF_TP_ADD_TC(tp, reset__probe);
	ATF_TP_ADD_TC(tp, help__of_all_and_of_each);
	return atf_no_error();
}
