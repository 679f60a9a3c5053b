/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Guests that move, overlap and switch BARs while other vCPUs hammer them.
 * Each device answers with a value of its own, so that an access that went to
 * the wrong one is seen.
 */
#include "tests/pci/rig.h"
#include "wire/wire.h"

#define ROUNDS 300
#define STORES 2000

#define PAGES 6
#define FIRST_PAGE 0xd0000000u
#define MARK_A 0x12121212u
#define MARK_B 0x52525252u

struct hammer {
	struct rig *rig;
	pthread_t thread;
	atomic_bool *stop;
	unsigned wrong;
	atomic_uint reached;
};

/* A is only ever in the first four pages, B in the last four. */
static bool may_answer(unsigned page, uint32_t value)
{
	if (value == RIG_NOBODY)
		return true;
	return (page < 4 && value == MARK_A) || (page >= 2 && value == MARK_B);
}

static void *hammer(void *arg)
{
	struct hammer *h = arg;

	while (!atomic_load(h->stop)) {
		for (unsigned i = 0; i < PAGES; i++) {
			uint32_t value =
				rig_load(h->rig, FIRST_PAGE + i * 0x1000);

			h->wrong += !may_answer(i, value);
			if (value != RIG_NOBODY)
				atomic_fetch_add(&h->reached, 1);
		}
	}
	return NULL;
}

static void hammers_start(struct hammer hammers[2], struct rig *rig,
			  atomic_bool *stop)
{
	for (unsigned i = 0; i < 2; i++) {
		hammers[i] = (struct hammer){ .rig = rig, .stop = stop };
		ATF_REQUIRE_EQ(0, pthread_create(&hammers[i].thread, NULL,
						 hammer, &hammers[i]));
	}
}

static void hammers_end(struct hammer hammers[2], atomic_bool *stop)
{
	for (unsigned i = 0; i < 2; i++)
		REQUIRE_SOON(atomic_load(&hammers[i].reached));
	atomic_store(stop, true);
	for (unsigned i = 0; i < 2; i++) {
		pthread_join(hammers[i].thread, NULL);
		ATF_CHECK_EQ(0, hammers[i].wrong);
		printf("total: function-loads-answered %u\n",
		       atomic_load(&hammers[i].reached));
	}
	printf("total: functions-moved %u\n", ROUNDS);
}

static uint32_t move(struct rig *rig, unsigned page)
{
	uint32_t at = FIRST_PAGE + page * 0x1000;

	rig_write(rig, PCI_BASE_ADDRESS_2, at, 4);
	return at;
}

CLEAT_TC(storm__one_function)
{
	struct rig *rig = rig_new();
	struct hammer hammers[2];
	atomic_bool stop = false;

	rig_start(rig);
	rig_enable(rig);
	hammers_start(hammers, rig, &stop);
	for (unsigned i = 0; i < ROUNDS; i++) {
		uint32_t at = move(rig, i % 4);

		ATF_CHECK_EQ(MARK_A, rig_load(rig, at));
		if (i % 3 == 0)
			rig_write(rig, PCI_BASE_ADDRESS_2, ~0u, 4);
		if (i % 5 == 0) {
			rig_write(rig, PCI_COMMAND, 0, 2);
			ATF_CHECK_EQ(RIG_NOBODY, rig_load(rig, at));
			rig_write(rig, PCI_COMMAND, 2, 2);
		}
	}
	hammers_end(hammers, &stop);
	rig_end(rig);
}

/* The lower function keeps what both want, and the other comes back. */
CLEAT_TC(storm__two_functions)
{
	struct rig *a = rig_new(), *b = rig_new();
	struct hammer hammers[2];
	atomic_bool stop = false;

	rig_start(a);
	b->mmio = a->mmio;
	b->function = a->function + 1;
	b->server.mark = 0x50;
	rig_start(b);
	rig_write(a, PCI_COMMAND, 2, 2);
	rig_write(b, PCI_COMMAND, 2, 2);
	hammers_start(hammers, a, &stop);
	for (unsigned i = 0; i < ROUNDS; i++) {
		uint32_t at_a = move(a, i % 4), at_b = move(b, 2 + i / 3 % 4);

		ATF_CHECK_EQ(MARK_A, rig_load(a, at_a));
		ATF_CHECK_EQ(at_a == at_b ? MARK_A : MARK_B, rig_load(b, at_b));
		rig_write(a, PCI_COMMAND, 0, 2);
		ATF_CHECK_EQ(MARK_B, rig_load(b, at_b));
		rig_write(a, PCI_COMMAND, 2, 2);
		ATF_CHECK_EQ(MARK_A, rig_load(a, at_a));
	}
	hammers_end(hammers, &stop);
	b->mmio = NULL;
	rig_end(b);
	rig_end(a);
}

struct masker {
	struct rig *rig;
	pthread_t thread;
	unsigned vector;
};

static void *mask_often(void *arg)
{
	struct masker *m = arg;
	struct rig *rig = m->rig;

	for (unsigned i = 0; i < STORES; i++) {
		uint64_t entry = RIG_TABLE + 16 * m->vector;
		uint32_t value = i % 2;

		cleat_mmio_access(rig->mmio, CLEAT_MEMORY, entry + 12, &value,
				  4, true);
		value = 0x40 + i % 7;
		cleat_mmio_access(rig->mmio, CLEAT_MEMORY, entry + 8, &value, 4,
				  true);
	}
	return NULL;
}

/* Table writes of two vCPUs beside config writes of a third. */
CLEAT_TC(storm__vectors)
{
	struct rig *rig = rig_new();
	struct masker maskers[2];

	rig_start(rig);
	rig_enable(rig);
	rig_enable_msix(rig);
	for (unsigned i = 0; i < 2; i++) {
		rig_entry(rig, i, 0x40, false);
		maskers[i] = (struct masker){ .rig = rig, .vector = i };
		ATF_REQUIRE_EQ(0, pthread_create(&maskers[i].thread, NULL,
						 mask_often, &maskers[i]));
	}
	for (unsigned i = 0; i < ROUNDS; i++) {
		rig_write(rig, RIG_MSIX + 2, i % 2 ? 0xc000 : 0x8000, 2);
		if (i % 16 == 0) {
			rig_write(rig, RIG_MSIX + 2, 0, 2);
			rig_forget(rig);
		}
	}
	for (unsigned i = 0; i < 2; i++)
		pthread_join(maskers[i].thread, NULL);
	printf("total: vectors-changed %u\n", 4 * STORES + ROUNDS);
	/* However it went, the end is what the registers say. */
	rig_write(rig, RIG_MSIX + 2, 0x8000, 2);
	rig_entry(rig, 0, 0x77, false);
	rig_entry(rig, 1, 0x78, true);
	ATF_CHECK_EQ(1, rig_stats(rig).irqfds);
	rig_fire(rig, 2, 0);
	rig_forget(rig);
	rig_pump(rig);
	rig_expect(rig, "inject 77");
	rig_end(rig);
}

ATF_TP_ADD_TCS(tp)
{
	ATF_TP_ADD_TC(tp, storm__one_function);
	ATF_TP_ADD_TC(tp, storm__two_functions);
	ATF_TP_ADD_TC(tp, storm__vectors);
	return atf_no_error();
}
