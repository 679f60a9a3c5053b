/* SPDX-License-Identifier: BSD-2-Clause */
/* read, write and watch, against the program cleat-probe. */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>

#include "backends/probe/probe_regs.h"
#include "tests/tools/ctl.h"

static struct run run;

CLEAT_TC(read__widths)
{
	struct child probe;

	start_probe(&probe, "p.sock");
	run_ctl(&run, "read", "p.sock", "bar0", "0", NULL);
	require_run(&run, 0, "0x42525043\n", NULL);
	run_ctl(&run, "read", "p.sock", "0", "0x2", "--width", "2", NULL);
	require_run(&run, 0, "0x4252\n", NULL);
	run_ctl(&run, "read", "p.sock", "BAR0", "0", "-w", "8", NULL);
	require_run(&run, 0, "0x0000000142525043\n", NULL);
	run_ctl(&run, "read", "p.sock", "config", "0", "-w1", NULL);
	require_run(&run, 0, "0xea\n", NULL);
	stop_server(&probe);
}

CLEAT_TC(read__many)
{
	struct child probe;
	yajl_val json;

	start_probe(&probe, "p.sock");
	run_ctl(&run, "read", "p.sock", "bar0", "0", "--count", "20", NULL);
	require_run(&run, 0, "00000000  43 50 52 42 01 00 00 00",
		    "CPRB............\n00000010  ", NULL);
	run_ctl(&run, "read", "p.sock", "bar0", "0", "-w4", "-n3", NULL);
	require_run(&run, 0, "00000000  42525043 00000001 ", NULL);
	run_ctl(&run, "read", "p.sock", "bar0", "0", "-w4", "-n3", "-j", NULL);
	require_run(&run, 0, NULL);
	json = parse_json(run.out);
	ATF_CHECK_EQ(12, json_number(json, "count"));
	ATF_CHECK_EQ(3, json_length(json, "values"));
	ATF_CHECK_EQ(0x42525043, json_number(json, "values.0"));
	yajl_tree_free(json);
	run_ctl(&run, "read", "p.sock", "bar0", "0", "-n3", "-j", NULL);
	require_run(&run, 0, NULL);
	json = parse_json(run.out);
	ATF_CHECK_EQ(3, json_length(json, "bytes"));
	ATF_CHECK_EQ(0x50, json_number(json, "bytes.1"));
	yajl_tree_free(json);
	stop_server(&probe);
}

/* How many messages it takes is what --width is about: the device counts. */
CLEAT_TC(read__messages)
{
	struct child probe;
	yajl_val json;
	long long before, after;

	start_probe(&probe, "p.sock");
	run_ctl(&run, "read", "p.sock", "bar0", "0x110", "-w8", "-j", NULL);
	json = parse_json(run.out);
	before = json_number(json, "values.0");
	yajl_tree_free(json);
	run_ctl(&run, "read", "p.sock", "bar2", "0", "-n64", NULL);
	run_ctl(&run, "read", "p.sock", "bar2", "0", "-n16", "-w4", NULL);
	run_ctl(&run, "read", "p.sock", "bar0", "0x110", "-w8", "-j", NULL);
	json = parse_json(run.out);
	after = json_number(json, "values.0");
	yajl_tree_free(json);
	ATF_CHECK_EQ(1 + 16, after - before);
	stop_server(&probe);
}

CLEAT_TC(write__values)
{
	struct child probe;
	yajl_val json;

	start_probe(&probe, "p.sock");
	run_ctl(&run, "write", "p.sock", "bar2", "0x40", "1", "0x2", "-w2",
		"-n2", NULL);
	require_run(&run, 0, NULL);
	ATF_CHECK_STREQ("", run.out);
	run_ctl(&run, "read", "p.sock", "bar2", "0x3e", "-w2", "-n6", NULL);
	require_run(&run, 0, "0000 0001 0002 0001 0002 0000", NULL);
	run_ctl(&run, "write", "p.sock", "bar2", "0x40",
		"0xffffffffffffffff", "-w8", "-j", NULL);
	require_run(&run, 0, NULL);
	json = parse_json(run.out);
	ATF_CHECK_EQ(8, json_number(json, "written"));
	yajl_tree_free(json);
	stop_server(&probe);
}

static void make_file(const char *path, size_t size)
{
	FILE *file = fopen(path, "w");

	ATF_REQUIRE(file);
	for (size_t i = 0; i < size; i++)
		fputc((int)(i * 7 + i / 256), file);
	ATF_REQUIRE_EQ(0, fclose(file));
}

/* More than one message carries, there and back. */
CLEAT_TC(write__file_and_read_back)
{
	struct child probe;

	make_file("in", PROBE_PAGES_LENGTH);
	start_probe(&probe, "p.sock");
	run_ctl(&run, "write", "p.sock", "bar2", "0", "-i", "in", NULL);
	require_run(&run, 0, NULL);
	run_ctl(&run, "read", "p.sock", "bar2", "0", "-n65536", "-o", "out",
		NULL);
	require_run(&run, 0, NULL);
	ATF_CHECK_STREQ("", run.out);
	ATF_CHECK_EQ(0, system("cmp in out"));
	run_ctl(&run, "read", "p.sock", "bar2", "3", "-n5", "-o", "-", NULL);
	ATF_CHECK_EQ(0, memcmp(run.out, "\x15\x1c\x23\x2a\x31", 6));
	run_ctl(&run, "write", "p.sock", "bar2", "0", "-i", "in", "-w4", "-n2",
		"-j", NULL);
	require_run(&run, 0, "\"written\": 8", NULL);
	run_ctl(&run, "write", "p.sock", "bar2", "1", "-i", "in", NULL);
	ATF_CHECK_EQ(1, run.status);
	stop_server(&probe);
}

CLEAT_TC(watch__trigger)
{
	struct child probe;
	yajl_val json;

	start_probe(&probe, "p.sock");
	run_ctl(&run, "watch", "p.sock", "--trigger", "3", "--count", "1",
		NULL);
	require_run(&run, 0, "armed     vectors=16\n",
		    "interrupt type=MSI-X vector=3 count=1\n", NULL);
	run_ctl(&run, "watch", "p.sock", "--irq", "intx", "--trigger", "0",
		"-n1", "-j", NULL);
	require_run(&run, 0, NULL);
	json = parse_json(strchr(run.out, '\n') + 1);
	ATF_CHECK_STREQ("interrupt", json_text(json, "event"));
	ATF_CHECK_STREQ("INTx", json_text(json, "type"));
	ATF_CHECK_EQ(1, json_number(json, "count"));
	yajl_tree_free(json);
	stop_server(&probe);
}

/* The device fires by itself, as its register is written. */
CLEAT_TC(watch__write)
{
	struct child probe;
	char option[64];

	start_probe(&probe, "p.sock");
	snprintf(option, sizeof(option), "bar0:%#x=%#x", PROBE_IRQ_RAISE,
		 PROBE_IRQ_ENABLED | 5);
	run_ctl(&run, "watch", "p.sock", "--irq", "msi-x", "--vectors", "4-6",
		"--write", "config:0x96=0x8000/2", "--write", option, "-n1",
		NULL);
	require_run(&run, 0, "armed     vectors=3\n",
		    "interrupt type=MSI-X vector=5 count=1\n", NULL);
	stop_server(&probe);
}

CLEAT_TC(watch__until_told)
{
	struct child probe, watch;

	start_probe(&probe, "p.sock");
	start_ctl(&watch, "watch", "watch", "p.sock", NULL);
	REQUIRE_SOON(out_has("watch", "armed"));
	kill(watch.pid, SIGINT);
	ATF_CHECK_EQ(0, child_wait(&watch, PATIENCE_MS));
	run_ctl(&run, "watch", "p.sock", "--seconds", "1", NULL);
	require_run(&run, 0, "armed", NULL);
	stop_server(&probe);
}

CLEAT_TC(watch__server_dies)
{
	struct child probe, watch;

	start_probe(&probe, "p.sock");
	start_ctl(&watch, "watch", "watch", "p.sock", "--json", NULL);
	REQUIRE_SOON(out_has("watch", "armed"));
	child_end(&probe);
	ATF_CHECK_EQ(1 << 8, child_wait(&watch, PATIENCE_MS));
	ATF_CHECK(out_has("watch", "\"event\":\"lost\",\"why\":\""));
}

ATF_TP_ADD_TCS(tp)
{
	ATF_TP_ADD_TC(tp, read__widths);
	ATF_TP_ADD_TC(tp, read__many);
	ATF_TP_ADD_TC(tp, read__messages);
	ATF_TP_ADD_TC(tp, write__values);
	ATF_TP_ADD_TC(tp, write__file_and_read_back);
	ATF_TP_ADD_TC(tp, watch__trigger);
	ATF_TP_ADD_TC(tp, watch__write);
	ATF_TP_ADD_TC(tp, watch__until_told);
	ATF_TP_ADD_TC(tp, watch__server_dies);
	return atf_no_error();
}
