/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Stores that KVM collects (--device SOCKET,coalesce=...): few of them exit, all
 * of them arrive, in order, and before the next read; a machine that moves
 * leaves none behind. The device is cleat-probe, which counts messages.
 */
#include <stdio.h>
#include <sys/ioctl.h>

#include "tests/support/support.h"
#include "tests/vmm/moving.h"

/* The two registers that are written in bulk: SCRATCH64 and a doorbell. */
#define RANGES ",coalesce=0:0x18+8,coalesce=1:112+8"

#define BURSTS 60
#define STORES (3 * BURSTS * (BURSTS + 1) / 2)

static void start_probe(struct child *probe, const char *path,
			const char *direct)
{
	char option[64];

	snprintf(option, sizeof(option), "--socket-path=%s", path);
	child_start(probe, path, (const char *const[]){
		program("backends/cleat-probe"), option, "--no-mapped",
		"--no-ioeventfd", direct, NULL });
	REQUIRE_SOON(!access(path, F_OK) || child_ended(probe));
}

/* The number behind the last @key in the statistics, the sums' that is. */
static unsigned long long last_count(const char *key)
{
	const char *text = said("stats"), *at = text, *last = NULL;
	char quoted[32];

	snprintf(quoted, sizeof(quoted), "\"%s\": ", key);
	while ((at = strstr(at, quoted)))
		last = at++;
	ATF_REQUIRE_MSG(last, "no %s in %s", quoted, text);
	return strtoull(last + strlen(quoted), NULL, 10);
}

static bool kvm_collects(const atf_tc_t *tc)
{
	int kvm = kvm_open(tc);
	bool can = ioctl(kvm, KVM_CHECK_EXTENSION, KVM_CAP_COALESCED_MMIO) > 0;

	close(kvm);
	return can;
}

static void run_guest(const char *device)
{
	struct child probe;

	start_probe(&probe, "probe.sock", "--no-shadow");
	GUEST("kernel", STORES_AND_READS(BURSTS), PRINT('y'), POWER_OFF);
	ATF_REQUIRE_EQ_MSG(0,
			   RUN("--kernel", "kernel", "--device", device,
			       "--stats", "stats"),
			   "%s", said("vmm.err"));
	ATF_REQUIRE_STREQ("y", said("vmm.out"));
	ATF_REQUIRE_STREQ("", said("vmm.err"));
	child_end(&probe);
}

/* What it is without: each store is an exit, and none is collected. */
CLEAT_TC(stores__not_asked_for)
{
	close(kvm_open(tc));
	run_guest("probe.sock");
	ATF_REQUIRE_EQ(0, last_count("coalesced"));
	ATF_REQUIRE(last_count("mmio") > STORES);
}

CLEAT_TC(stores__collected)
{
	unsigned long long coalesced, exits;

	if (!kvm_collects(tc))
		atf_tc_skip("this KVM does not collect stores");
	run_guest("probe.sock" RANGES);
	coalesced = last_count("coalesced");
	exits = last_count("mmio");
	printf("%u stores: %llu coalesced, %llu exits\n", STORES, coalesced,
	       exits);
	/* One that finds the ring full exits; so do the reads. */
	ATF_REQUIRE(coalesced > STORES * 9 / 10 && coalesced <= STORES);
	ATF_REQUIRE(exits < STORES / 10);
}

/* Not those of another register: the doorbell's exit still. */
CLEAT_TC(stores__one_register)
{
	if (!kvm_collects(tc))
		atf_tc_skip("this KVM does not collect stores");
	run_guest("probe.sock,coalesce=0:0x18+8");
	ATF_REQUIRE(last_count("coalesced") <= STORES / 3 * 2);
	ATF_REQUIRE(last_count("coalesced") > STORES / 2);
	ATF_REQUIRE(last_count("mmio") > STORES / 3);
}

/* None is lost, and none comes twice: the guest goes on counting there. */
static void migrate_once(void)
{
	struct child here, there, source;

	start_probe(&here, "here.probe", "--no-shadow");
	start_probe(&there, "there.probe", "--no-shadow");
	GUEST("kernel", STORES_AND_READS(30), PRINT_AND_AGAIN);
	start_prepared(&source, "here.probe" RANGES);
	arrive(&source, control_connect("source.sock"), "there.probe" RANGES);
	child_end(&here);
	child_end(&there);
	unlink("here.probe");
	unlink("there.probe");
	unlink("source.out");
	unlink("target.out");
}

/* Where in a burst it is stopped is chance. */
CLEAT_TC(migrate__stores_under_way)
{
	unsigned i;

	close(kvm_open(tc));
	for (i = 0; i < 3; i++)
		migrate_once();
}

/* Stopped anywhere, also in the middle of sending. */
CLEAT_TC(pause__stores_under_way)
{
	struct child probe, source;
	unsigned i;
	int control;

	close(kvm_open(tc));
	start_probe(&probe, "probe.sock", "--no-shadow");
	GUEST("kernel", STORES_AND_READS(30), PRINT_AND_AGAIN);
	start_prepared(&source, "probe.sock" RANGES);
	control = control_connect("source.sock");
	for (i = 0; i < 8; i++) {
		require_answer(control, "{\"command\":\"pause\"}", OK);
		require_answer(control, "{\"command\":\"resume\"}", OK);
		require_runs_on("source");
	}
	quit(&source, control);
	child_end(&probe);
}

/* ---- What does not fit the device ---- */

static void refuse(const char *device, const char *words)
{
	ATF_REQUIRE_EQ_MSG(2, RUN("--kernel", "kernel", "--device", device),
			   "%s: %s", device, said("vmm.err"));
	require_complaint(words);
}

CLEAT_TC(device__does_not_fit)
{
	struct child probe;

	close(kvm_open(tc));
	GUEST("kernel", POWER_OFF);
	start_probe(&probe, "probe.sock", "--no-shadow");
	refuse("probe.sock,coalesce=5:0+4",
	       "--device probe.sock,coalesce=5:0+0x4: the device has no such BAR");
	refuse("probe.sock,coalesce=1:0x1ffd+4", "the BAR has 0x2000 bytes");
	refuse("probe.sock,coalesce=0:0x10000+1", "the BAR has 0x10000 bytes");
	refuse("probe.sock,coalesce=0:8+18446744073709551607",
	       "the BAR has 0x10000 bytes");
	/* The MSI-X table is the library's. */
	refuse("probe.sock,coalesce=0:0x4000+0x10",
	       "nothing there is written by message");
	refuse("probe.sock,coalesce=0:0+8,coalesce=9:0+8", "BARs are 0 to 5");
	child_end(&probe);
	/* Kicks by another way would overtake what is collected. */
	start_probe(&probe, "shadow.sock", NULL);
	refuse("shadow.sock,coalesce=0:0x18+8",
	       "pages or doorbells that do not wait for collected writes");
	child_end(&probe);
}

ATF_TP_ADD_TCS(tp)
{
	ATF_TP_ADD_TC(tp, stores__not_asked_for);
	ATF_TP_ADD_TC(tp, stores__collected);
	ATF_TP_ADD_TC(tp, stores__one_register);
	ATF_TP_ADD_TC(tp, migrate__stores_under_way);
	ATF_TP_ADD_TC(tp, pause__stores_under_way);
	ATF_TP_ADD_TC(tp, device__does_not_fit);
	return atf_no_error();
}
