/* SPDX-License-Identifier: BSD-2-Clause */
/* That the guest does what it is told, so that what it measures means that. */
#include "bench/guest.h"
#include "tests/support/support.h"

#define STRAY 0xe0000000ull
#define RUN_MS 20000

static struct guest *make_guest(const atf_tc_t *tc)
{
	struct guest_config config = { .irqchip = GUEST_IRQCHIP_KERNEL,
				       .cpus = 1 };
	struct guest *guest;
	int fd = kvm_open(tc);

	ATF_REQUIRE_EQ(0, cleat_guest_create(fd, &config, &guest));
	close(fd);
	ATF_REQUIRE_EQ(0, cleat_guest_window(guest, STRAY, 4096));
	return guest;
}

static void run(struct guest *guest, struct guest_op *op)
{
	ATF_REQUIRE_EQ(0, cleat_guest_run(guest, 0, op, 1, NULL, RUN_MS));
}

CLEAT_TC(batch__each_is_done)
{
	struct guest *guest = make_guest(tc);
	struct guest_op op = { .kind = GUEST_STORE,
			       .size = 4,
			       .address = STRAY,
			       .count = 5,
			       .batch = 3 };

	run(guest, &op);
	ATF_CHECK_EQ(15, cleat_guest_returned(guest, 0));
	op.batch = 1;
	run(guest, &op);
	ATF_CHECK_EQ(20, cleat_guest_returned(guest, 0));
	op.batch = 0;
	run(guest, &op);
	ATF_CHECK_EQ(25, cleat_guest_returned(guest, 0));
	cleat_guest_destroy(guest);
}

/* The times are of as many accesses as there are places, and no more. */
CLEAT_TC(record__one_for_each)
{
	struct guest *guest = make_guest(tc);
	struct guest_op op = {
		.kind = GUEST_LOAD, .size = 4, .address = STRAY, .count = 8
	};
	uint64_t *times;

	op.record = cleat_guest_alloc(guest, 4096);
	times = cleat_guest_ram(guest, op.record);
	run(guest, &op);
	for (unsigned i = 0; i < 8; i++)
		ATF_CHECK(times[i] > 0 && times[i] < 1ull << 40);
	ATF_CHECK_EQ(0, times[8]);
	cleat_guest_destroy(guest);
}

CLEAT_TC(stamp__when_it_was_over)
{
	struct guest *guest = make_guest(tc);
	struct guest_op op = { .kind = GUEST_LOAD,
			       .size = 4,
			       .address = STRAY,
			       .count = 8,
			       .stamp = true };
	uint64_t *times;

	op.record = cleat_guest_alloc(guest, 4096);
	times = cleat_guest_ram(guest, op.record);
	run(guest, &op);
	ATF_CHECK(times[0] > 1u << 20);
	for (unsigned i = 1; i < 8; i++)
		ATF_CHECK(times[i] > times[i - 1]);
	cleat_guest_destroy(guest);
}

CLEAT_TC(step__changes_the_value)
{
	struct guest *guest = make_guest(tc);
	uint64_t address = cleat_guest_alloc(guest, 4096);
	struct guest_op op = { .kind = GUEST_STORE,
			       .size = 4,
			       .address = address,
			       .value = 7,
			       .step = 2,
			       .count = 5,
			       .batch = 3 };

	/* Once for each batch: 7, 9, 11, 13, 15. */
	run(guest, &op);
	ATF_CHECK_EQ(15, *(uint32_t *)cleat_guest_ram(guest, address));
	cleat_guest_destroy(guest);
}

ATF_TP_ADD_TCS(tp)
{
	ATF_TP_ADD_TC(tp, batch__each_is_done);
	ATF_TP_ADD_TC(tp, record__one_for_each);
	ATF_TP_ADD_TC(tp, stamp__when_it_was_over);
	ATF_TP_ADD_TC(tp, step__changes_the_value);
	return atf_no_error();
}
