/* SPDX-License-Identifier: BSD-2-Clause */
/* Writes that KVM collects, from a guest to a server. */
#include <stdio.h>

#include "tests/fast/rig.h"

#define N 1000
#define DOORBELLS (PLACE + PLUG_DOORBELLS)
#define AT (DOORBELLS + PROBE_AT_MESSAGE)

static const char *const by_message[] = { "--no-mapped", "--no-ioeventfd",
					  "--no-shadow", NULL };

static void start(struct rig *rig, const atf_tc_t *tc, unsigned vcpus)
{
	struct cleat_error why = { .text = "" };

	rig_open(rig, tc, GUEST_IRQCHIP_KERNEL, vcpus, NULL);
	if (!rig->machine.ops->coalesce_add)
		atf_tc_skip("this KVM does not coalesce writes");
	rig_plug(rig, &rig->plug, by_message, 1 << 3);
	ATF_REQUIRE_EQ_MSG(0,
			   cleat_mmio_coalesce(rig->machine.mmio,
					       rig->plug.dev,
					       PROBE_BAR_DOORBELLS, 0, 0x1000,
					       0, &why),
			   "%s", why.text);
	cleat_plug_place(&rig->plug, PLACE, PORT);
}

static struct guest_op stores(uint64_t address, uint64_t count)
{
	return (struct guest_op){ .kind = GUEST_STORE,
				  .size = 4,
				  .address = address,
				  .value = 1,
				  .step = 1,
				  .count = count };
}

/* Few exits, few messages, all writes. */
CLEAT_TC(coalesced__counts)
{
	struct cost cost;
	struct rig rig;

	start(&rig, tc, 1);
	cost = rig_cost(&rig, stores(AT, N));
	ATF_CHECK_MSG(cost.returns < N / 2, "%llu returns",
		      (unsigned long long)cost.returns);
	printf("%d writes: %llu returns, %llu messages\n", N,
	       (unsigned long long)cost.returns,
	       (unsigned long long)cost.messages);
	/* One batch and one posted write for each exit. */
	ATF_CHECK(cost.messages <= 2 * cost.returns);
	/* The run's own end is nobody's access. */
	ATF_REQUIRE_EQ(0, cleat_mmio_drain(rig.machine.mmio));
	ATF_CHECK_EQ(N, cleat_plug_get(&rig.plug,
				       PROBE_MESSAGES(PROBE_DB_MESSAGE), 8));
	ATF_CHECK_EQ(N, cleat_plug_get(&rig.plug,
				       PROBE_VALUE(PROBE_DB_MESSAGE), 8));
	rig_end(&rig);
}

/* What a guest reads after it wrote is what it wrote, without an exit between. */
CLEAT_TC(coalesced__read_after)
{
	struct guest_op ops[] = {
		stores(AT, N),
		{ .kind = GUEST_LOAD,
		  .size = 8,
		  .address = PLACE + PROBE_VALUE(PROBE_DB_MESSAGE),
		  .count = 1 },
		stores(AT, 7),
		{ .kind = GUEST_LOAD,
		  .size = 8,
		  .address = PLACE + PROBE_MESSAGES(PROBE_DB_MESSAGE),
		  .count = 1 },
	};
	struct rig rig;

	start(&rig, tc, 1);
	for (unsigned i = 0; i < 10; i++) {
		rig_run(&rig, ops, 4);
		ATF_CHECK_EQ(N, ops[1].result);
		ATF_CHECK_EQ((i + 1) * (N + 7), ops[3].result);
	}
	rig_end(&rig);
}

/* A place that the guest leaves exits again, and its new one does not. */
CLEAT_TC(coalesced__moved)
{
	uint64_t stray;
	struct rig rig;

	start(&rig, tc, 1);
	rig_cost(&rig, stores(AT, N));
	ATF_REQUIRE_EQ(0, cleat_mmio_drain(rig.machine.mmio));
	cleat_plug_place(&rig.plug, PLACE + PLUG_SPAN, PORT);
	stray = rig.machine.stray;
	ATF_CHECK_EQ(N, rig_cost(&rig, stores(AT, N)).returns);
	ATF_CHECK_EQ(stray + N, rig.machine.stray);
	ATF_CHECK(rig_cost(&rig, stores(AT + PLUG_SPAN, N)).returns < N / 2);
	ATF_REQUIRE_EQ(0, cleat_mmio_drain(rig.machine.mmio));
	ATF_CHECK_EQ(2 * N, cleat_plug_get(&rig.plug,
					   PROBE_MESSAGES(PROBE_DB_MESSAGE),
					   8));
	rig_end(&rig);
}

/* Two vCPUs fill one ring; each finds all of its own. */
CLEAT_TC(coalesced__two_vcpus)
{
	struct guest_op ops[2][2] = {
		{ stores(AT, 50000),
		  { .kind = GUEST_LOAD,
		    .size = 8,
		    .address = PLACE + PROBE_VALUE(PROBE_DB_MESSAGE),
		    .count = 1 } },
		{ stores(DOORBELLS + PROBE_AT_4, 50000),
		  { .kind = GUEST_LOAD,
		    .size = 8,
		    .address = PLACE + PROBE_VALUE(PROBE_DB_4),
		    .count = 1 } },
	};
	struct rig rig;

	rig_skip_in_lab();
	start(&rig, tc, 2);
	for (unsigned i = 0; i < 2; i++)
		ATF_REQUIRE_EQ(0, cleat_guest_start(rig.guest, i, ops[i], 2,
						    &rig.machine.hooks,
						    RUN_MS));
	for (unsigned i = 0; i < 2; i++) {
		ATF_REQUIRE_EQ(0, cleat_guest_wait(rig.guest, i));
		ATF_CHECK_EQ(50000, ops[i][1].result);
	}
	ATF_CHECK_EQ(50000, cleat_plug_get(&rig.plug,
					   PROBE_MESSAGES(PROBE_DB_4), 8));
	ATF_CHECK_EQ(50000, cleat_plug_get(&rig.plug,
					   PROBE_MESSAGES(PROBE_DB_MESSAGE),
					   8));
	rig_end(&rig);
}

ATF_TP_ADD_TCS(tp)
{
	ATF_TP_ADD_TC(tp, coalesced__counts);
	ATF_TP_ADD_TC(tp, coalesced__read_after);
	ATF_TP_ADD_TC(tp, coalesced__moved);
	ATF_TP_ADD_TC(tp, coalesced__two_vcpus);
	return atf_no_error();
}
