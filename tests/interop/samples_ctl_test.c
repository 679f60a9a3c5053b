/* SPDX-License-Identifier: BSD-2-Clause */
/* cleatctl on the sample servers of libvfio-user: every command it has. */
#include <signal.h>
#include <stdio.h>

#include "tests/interop/samples.h"
#include "tests/tools/ctl.h"

#define GPIO "gpio-pci-idio-16"

static struct run run;

CLEAT_TC(gpio__looks)
{
	struct sample gpio;
	yajl_val json;

	ATF_REQUIRE(sample_begin(&gpio, GPIO, "g.sock"));
	run_ctl(&run, "info", "g.sock", NULL);
	require_run(&run, 0, "version         0.", "quirks          none",
		    "regions         9", "interrupts      5 types", NULL);
	run_ctl(&run, "info", "g.sock", "--json", NULL);
	require_run(&run, 0, NULL);
	json = parse_json(run.out);
	ATF_CHECK_EQ(gpio.server.pid, json_number(json, "server.pid"));
	yajl_tree_free(json);
	run_ctl(&run, "regions", "g.sock", NULL);
	require_run(&run, 0, "BAR2          0x100  read|write",
		    "CONFIG        0x100", NULL);
	run_ctl(&run, "irqs", "g.sock", NULL);
	require_run(&run, 0, "INTx          1  eventfd", NULL);
	run_ctl(&run, "config", "g.sock", NULL);
	require_run(&run, 0, "494f:0dc8", "BAR2 space=ports", NULL);
	run_ctl(&run, "features", "g.sock", NULL);
	require_run(&run, 0, "flags=stop-copy", "state=running", NULL);
	sample_end(&gpio);
}

/* A pin is counted up by a write, and reads as one at every third. */
CLEAT_TC(gpio__accesses)
{
	static const char *const seen[] = { "ff", "00", "00", "ff" };
	struct sample gpio;

	ATF_REQUIRE(sample_begin(&gpio, GPIO, "g.sock"));
	for (unsigned i = 0; i < 4; i++) {
		run_ctl(&run, "read", "g.sock", "BAR2", "1", "--width", "1",
			NULL);
		require_run(&run, 0, seen[i], NULL);
		run_ctl(&run, "write", "g.sock", "BAR2", "0", "0xff",
			"--width", "1", NULL);
		require_run(&run, 0, NULL);
	}
	run_ctl(&run, "reset", "g.sock", NULL);
	require_run(&run, 0, "reset in", NULL);
	sample_end(&gpio);
}

/* INTx by our own hand. */
CLEAT_TC(gpio__watch)
{
	struct sample gpio;

	ATF_REQUIRE(sample_begin(&gpio, GPIO, "g.sock"));
	run_ctl(&run, "watch", "g.sock", "--irq", "intx", "--trigger", "0",
		"--count", "1", NULL);
	require_run(&run, 0, "armed", "interrupt type=INTx vector=0", NULL);
	sample_end(&gpio);
}

/* Between a client and the sample, and what was said once more from a file. */
CLEAT_TC(gpio__relay)
{
	struct child relay;
	struct sample gpio;

	ATF_REQUIRE(sample_begin(&gpio, GPIO, "g.sock"));
	start_ctl(&relay, "relay", "relay", "r.sock", "g.sock", "--save",
		  "stream", NULL);
	REQUIRE_SOON(!access("r.sock", F_OK));
	run_ctl(&run, "read", "r.sock", "BAR2", "1", "--width", "1", NULL);
	require_run(&run, 0, "ff", NULL);
	REQUIRE_SOON(out_has("relay", "REGION_READ"));
	ATF_CHECK(out_has("relay", "VERSION"));
	kill(relay.pid, SIGTERM);
	child_wait(&relay, PATIENCE_MS);
	child_end(&relay);
	run_ctl(&run, "replay", "stream", NULL);
	require_run(&run, 0, "VERSION", "REGION_READ", NULL);
	sample_end(&gpio);
}

/* --- The sample "server": one client each, and it ends --------------------- */

static void begin_server(struct sample *server)
{
	unlink("s.sock");
	if (sample_begin(server, "server", "s.sock"))
		return;
	sample_end(server);
	atf_tc_skip("this libvfio-user refuses its own sample's BAR");
}

static void on_server(const char *command, const char *word)
{
	struct sample server;

	begin_server(&server);
	run_ctl(&run, command, "s.sock", NULL);
	require_run(&run, 0, word, NULL);
	sample_end(&server);
}

CLEAT_TC(server__looks)
{
	on_server("info", "regions         9");
	on_server("regions", "BAR1");
	on_server("irqs", "INTx          1");
	on_server("config", "BAR0");
	on_server("features", "flags=stop-copy");
	on_server("reset", "reset in");
}

CLEAT_TC(server__accesses)
{
	struct sample server;

	begin_server(&server);
	run_ctl(&run, "write", "s.sock", "BAR1", "0", "0x12345678", NULL);
	require_run(&run, 0, NULL);
	sample_end(&server);
	begin_server(&server);
	run_ctl(&run, "read", "s.sock", "BAR1", "0x1000", "--count", "4", NULL);
	require_run(&run, 0, "00001000  00 00 00 00", NULL);
	sample_end(&server);
}

CLEAT_TC(server__watch)
{
	struct sample server;

	begin_server(&server);
	run_ctl(&run, "watch", "s.sock", "--irq", "intx", "--trigger", "0",
		"--count", "1", NULL);
	require_run(&run, 0, "interrupt type=INTx vector=0", NULL);
	sample_end(&server);
}

ATF_TP_ADD_TCS(tp)
{
	ATF_TP_ADD_TC(tp, gpio__looks);
	ATF_TP_ADD_TC(tp, gpio__accesses);
	ATF_TP_ADD_TC(tp, gpio__watch);
	ATF_TP_ADD_TC(tp, gpio__relay);
	ATF_TP_ADD_TC(tp, server__looks);
	ATF_TP_ADD_TC(tp, server__accesses);
	ATF_TP_ADD_TC(tp, server__watch);
	return atf_no_error();
}
