/* SPDX-License-Identifier: BSD-2-Clause */
/* What each way carries, where it leads, and what it must not cost. */
#include "tests/fast/rig.h"

#define N 1000
#define PAGES (PLACE + PLUG_PAGES)
#define DOORBELLS (PLACE + PLUG_DOORBELLS)

static struct guest_op stores(uint64_t address, uint64_t count)
{
	return (struct guest_op){ .kind = GUEST_STORE,
				  .size = 4,
				  .address = address,
				  .value = 1,
				  .step = 1,
				  .count = count };
}

static bool has_count(struct rig *rig, uint64_t counter, uint64_t count)
{
	return cleat_plug_get(&rig->plug, counter, 8) == count;
}

/* The server gets them, soon, and gets no more. */
static void require_events(struct rig *rig, unsigned doorbell, uint64_t events,
			   uint64_t messages)
{
	REQUIRE_SOON(has_count(rig, PROBE_EVENTS(doorbell), events));
	ATF_CHECK_EQ(messages,
		     cleat_plug_get(&rig->plug, PROBE_MESSAGES(doorbell), 8));
}

static uint32_t by_message(struct rig *rig, uint64_t offset)
{
	uint32_t value = 0;

	ATF_REQUIRE_EQ(0, cleat_region_read(rig->plug.dev, PROBE_BAR_PAGES,
					    offset, &value, sizeof(value)));
	return value;
}

CLEAT_TC(mapped__both_directions)
{
	uint64_t at = PAGES + PROBE_AREA_1 + 0x10;
	uint32_t value = 0x12345678;
	struct rig rig;

	rig_start(&rig, tc, NULL, NULL);
	REQUIRE_COST(&rig, stores(at, N), 0, 0);
	ATF_CHECK_EQ(N, by_message(&rig, PROBE_AREA_1 + 0x10));
	ATF_REQUIRE_EQ(0, cleat_region_write(rig.plug.dev, PROBE_BAR_PAGES,
					     PROBE_AREA_1 + 0x10, &value, 4));
	ATF_CHECK_EQ(value, rig_load(&rig, at));
	/* The page beside it is not mapped. */
	REQUIRE_COST(&rig, stores(PAGES + 0x10, N), N, N);
	ATF_CHECK_EQ(N, by_message(&rig, 0x10));
	rig_end(&rig);
}

CLEAT_TC(mapped__no_slots)
{
	struct cleat_kvm_config kvm = { .size = sizeof(kvm) };
	uint64_t at = PAGES + PROBE_AREA_1;
	struct rig rig;

	rig_start(&rig, tc, &kvm, NULL);
	/* The vCPU's thread stores: exits, and still no message. */
	REQUIRE_COST(&rig, stores(at, N), N, 0);
	ATF_CHECK_EQ(N, by_message(&rig, PROBE_AREA_1));
	rig_end(&rig);
}

CLEAT_TC(ioeventfd__widths)
{
	static const struct {
		unsigned at, size, doorbell;
	} rows[] = {
		{ PROBE_AT_1, 1, PROBE_DB_1 },
		{ PROBE_AT_2, 2, PROBE_DB_2 },
		{ PROBE_AT_4, 4, PROBE_DB_4 },
		{ PROBE_AT_8, 8, PROBE_DB_8 },
		{ PROBE_AT_ANY, 1, PROBE_DB_ANY },
		{ PROBE_AT_ANY, 8, PROBE_DB_ANY },
	};
	uint64_t events[PROBE_DOORBELLS] = { 0 };
	struct rig rig;

	rig_start(&rig, tc, NULL, NULL);
	for (unsigned i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		struct guest_op op = stores(DOORBELLS + rows[i].at, N);

		op.size = rows[i].size;
		REQUIRE_COST(&rig, op, 0, 0);
		events[rows[i].doorbell] += N;
		require_events(&rig, rows[i].doorbell, events[rows[i].doorbell],
			       0);
	}
	/* Of another width it is no kick. */
	ATF_CHECK_EQ(N, events[PROBE_DB_4]);
	{
		struct guest_op op = stores(DOORBELLS + PROBE_AT_4, N);

		op.size = 2;
		REQUIRE_COST(&rig, op, N, N);
		require_events(&rig, PROBE_DB_4, N, N);
	}
	rig_end(&rig);
}

CLEAT_TC(ioeventfd__values)
{
	struct guest_op op = stores(DOORBELLS + PROBE_AT_MATCH, PROBE_MATCHES);
	struct rig rig;

	rig_start(&rig, tc, NULL, NULL);
	op.value = 0;
	REQUIRE_COST(&rig, op, 0, 0);
	for (unsigned i = 0; i < PROBE_MATCHES; i++)
		require_events(&rig, PROBE_DB_MATCH(i), 1, 0);
	op.value = PROBE_MATCHES;
	op.count = N;
	REQUIRE_COST(&rig, op, N, N);
	ATF_CHECK(has_count(&rig, PROBE_MESSAGES(PROBE_DB_NO_MATCH), N));
	rig_end(&rig);
}

CLEAT_TC(ioeventfd__ports)
{
	struct guest_op op = stores(PORT + PROBE_IO_AT_4, N);
	struct rig rig;

	rig_start(&rig, tc, NULL, NULL);
	op.kind = GUEST_OUT;
	REQUIRE_COST(&rig, op, 0, 0);
	require_events(&rig, PROBE_DB_IO_4, N, 0);
	op.address = PORT + PROBE_IO_AT_2;
	op.size = 2;
	REQUIRE_COST(&rig, op, 0, 0);
	require_events(&rig, PROBE_DB_IO_2, N, 0);
	op.address = PORT + PROBE_IO_AT_MESSAGE;
	op.size = 4;
	REQUIRE_COST(&rig, op, N, N);
	rig_end(&rig);
}

/* Where the VMM has none, the vCPU's thread kicks. */
CLEAT_TC(ioeventfd__none_in_the_vmm)
{
	struct cleat_vm_ops ops;
	struct rig rig;

	rig_open(&rig, tc, GUEST_IRQCHIP_KERNEL, 1, NULL);
	ops = *rig.machine.ops;
	ops.ioeventfd_add = NULL;
	ops.ioeventfd_remove = NULL;
	rig.machine.ops = &ops;
	rig_plug(&rig, &rig.plug, NULL, 1 << 3);
	cleat_plug_place(&rig.plug, PLACE, PORT);
	REQUIRE_COST(&rig, stores(DOORBELLS + PROBE_AT_4, N), N, 0);
	require_events(&rig, PROBE_DB_4, N, 0);
	rig_end(&rig);
}

/* No access reaches a place that the guest has moved the BAR from. */
CLEAT_TC(ioeventfd__moved)
{
	uint64_t stray;
	struct rig rig;

	rig_start(&rig, tc, NULL, NULL);
	REQUIRE_COST(&rig, stores(DOORBELLS + PROBE_AT_4, N), 0, 0);
	require_events(&rig, PROBE_DB_4, N, 0);
	cleat_plug_place(&rig.plug, PLACE + PLUG_SPAN, PORT);
	stray = rig.machine.stray;
	REQUIRE_COST(&rig, stores(DOORBELLS + PROBE_AT_4, N), N, 0);
	ATF_CHECK_EQ(stray + N, rig.machine.stray);
	REQUIRE_COST(&rig, stores(DOORBELLS + PLUG_SPAN + PROBE_AT_4, N), 0, 0);
	require_events(&rig, PROBE_DB_4, 2 * N, 0);
	rig_end(&rig);
}

CLEAT_TC(shadow__values)
{
	uint64_t at = DOORBELLS + PROBE_AT_SHADOW(3);
	unsigned doorbell = PROBE_DB_SHADOW(3);
	struct rig rig;

	rig_start(&rig, tc, NULL, NULL);
	REQUIRE_COST(&rig, stores(at, N), N, 0);
	REQUIRE_SOON(has_count(&rig, PROBE_SHADOW_KICKS, N));
	REQUIRE_SOON(has_count(&rig, PROBE_VALUE(doorbell), N));
	ATF_CHECK(has_count(&rig, PROBE_MESSAGES(doorbell), 0));
	rig_end(&rig);
}

/* What was offered no longer: each falls back to a message. */
CLEAT_TC(message__nothing_else)
{
	const char *const none[] = { "--no-mapped", "--no-ioeventfd",
				     "--no-shadow", NULL };
	struct rig rig;

	rig_start(&rig, tc, NULL, none);
	REQUIRE_COST(&rig, stores(PAGES + PROBE_AREA_1, N), N, N);
	REQUIRE_COST(&rig, stores(DOORBELLS + PROBE_AT_4, N), N, N);
	REQUIRE_COST(&rig, stores(DOORBELLS + PROBE_AT_SHADOW(0), N), N, N);
	ATF_CHECK(has_count(&rig, PROBE_MESSAGES(PROBE_DB_SHADOW(0)), N));
	rig_end(&rig);
}

/* Gone is gone: the guest reads ones and goes on. */
CLEAT_TC(lost__reads_ones)
{
	struct rig rig;

	rig_start(&rig, tc, NULL, NULL);
	ATF_CHECK_EQ(PROBE_MAGIC, rig_load(&rig, PLACE + PROBE_ID));
	rig_store(&rig, PLACE + PROBE_FAULT, PROBE_FAULT_DIE);
	REQUIRE_SOON(cleat_device_failure(rig.plug.dev, NULL));
	ATF_CHECK_EQ(UINT32_MAX, rig_load(&rig, PLACE + PROBE_ID));
	REQUIRE_SOON(rig_load(&rig, PAGES + PROBE_AREA_1) == UINT32_MAX);
	rig_store(&rig, DOORBELLS + PROBE_AT_4, 1);
	rig_end(&rig);
}

ATF_TP_ADD_TCS(tp)
{
	ATF_TP_ADD_TC(tp, mapped__both_directions);
	ATF_TP_ADD_TC(tp, mapped__no_slots);
	ATF_TP_ADD_TC(tp, ioeventfd__widths);
	ATF_TP_ADD_TC(tp, ioeventfd__values);
	ATF_TP_ADD_TC(tp, ioeventfd__ports);
	ATF_TP_ADD_TC(tp, ioeventfd__none_in_the_vmm);
	ATF_TP_ADD_TC(tp, ioeventfd__moved);
	ATF_TP_ADD_TC(tp, shadow__values);
	ATF_TP_ADD_TC(tp, message__nothing_else);
	ATF_TP_ADD_TC(tp, lost__reads_ones);
	return atf_no_error();
}
