/* SPDX-License-Identifier: BSD-2-Clause */
#include <sys/ioctl.h>

#include "tests/kvm/fixture.h"

static void counting(struct machine *m, const atf_tc_t *tc)
{
	struct cleat_kvm_config config = {0};

	machine_count_commits(m, &config);
	machine_start(m, tc, GUEST_IRQCHIP_KERNEL, &config);
}

static int route(struct machine *m, uint32_t gsi, unsigned vector)
{
	struct cleat_msi message = message_to(vector);

	return m->ops->msi_route(m->ops->opaque, gsi, &message);
}

static void begin(struct machine *m)
{
	m->ops->routes_begin(m->ops->opaque);
}

static int commit(struct machine *m)
{
	return m->ops->routes_commit(m->ops->opaque);
}

static uint32_t alloc(struct machine *m)
{
	uint32_t gsi;

	ATF_REQUIRE_EQ(0, m->ops->gsi_alloc(m->ops->opaque, &gsi));
	return gsi;
}

CLEAT_TC(commit__one_table_for_many)
{
	uint32_t gsis[16];
	struct machine m;

	counting(&m, tc);
	begin(&m);
	for (unsigned i = 0; i < 16; i++) {
		gsis[i] = alloc(&m);
		begin(&m);
		ATF_REQUIRE_EQ(0, route(&m, gsis[i], 0x40 + i));
		ATF_REQUIRE_EQ(0, commit(&m));
	}
	ATF_CHECK_EQ(0, m.commits);
	ATF_CHECK_EQ(0, commit(&m));
	ATF_CHECK_EQ(1, m.commits);
	ATF_CHECK_EQ(16, m.entries);
	for (unsigned i = 8; i < 16; i++)
		m.ops->gsi_free(m.ops->opaque, gsis[i]);
	ATF_CHECK_EQ(0, commit(&m));
	ATF_CHECK_EQ(2, m.commits);
	ATF_CHECK_EQ(8, m.entries);
	machine_end(&m);
}

CLEAT_TC(commit__nothing_changed)
{
	struct machine m;
	uint32_t gsi;

	counting(&m, tc);
	gsi = alloc(&m);
	begin(&m);
	ATF_CHECK_EQ(0, commit(&m));
	ATF_CHECK_EQ(0, m.commits);
	ATF_REQUIRE_EQ(0, route(&m, gsi, 0x40));
	ATF_CHECK_EQ(0, commit(&m));
	ATF_REQUIRE_EQ(0, route(&m, gsi, 0x40));
	ATF_CHECK_EQ(0, commit(&m));
	ATF_CHECK_EQ(1, m.commits);
	machine_end(&m);
}

static int commit_one(void *arg)
{
	struct machine *m = arg;
	struct cleat_msi message = message_to(0x50);
	uint32_t gsi;
	int err = m->ops->gsi_alloc(m->ops->opaque, &gsi);

	begin(m);
	if (!err)
		err = m->ops->msi_route(m->ops->opaque, gsi, &message);
	return commit(m) ? -EIO : err;
}

/* A thread's routes are in effect when its commit returns. */
CLEAT_TC(commit__another_thread_in_a_batch)
{
	struct script script;
	struct machine m;
	uint32_t gsi;

	counting(&m, tc);
	gsi = alloc(&m);
	begin(&m);
	script_start(&script, commit_one, &m);
	script_end(&script);
	ATF_CHECK_EQ(1, m.commits);
	ATF_CHECK_EQ(1, m.entries);
	ATF_REQUIRE_EQ(0, route(&m, gsi, 0x41));
	ATF_CHECK_EQ(0, commit(&m));
	ATF_CHECK_EQ(2, m.commits);
	ATF_CHECK_EQ(2, m.entries);
	machine_end(&m);
}

static int pass_32bit_ids(struct machine *m)
{
	struct kvm_enable_cap cap = {
		.cap = KVM_CAP_X2APIC_API,
		.args = {KVM_X2APIC_API_USE_32BIT_IDS},
	};

	return ioctl(cleat_guest_vm(m->guest), KVM_ENABLE_CAP, &cap);
}

/* One bad message of the guest's, which KVM refuses with the whole table. */
CLEAT_TC(commit__one_refused)
{
	struct cleat_msi bad = message_to(0x60);
	uint32_t gsis[3];
	struct machine m;

	machine_start(&m, tc, GUEST_IRQCHIP_KERNEL, NULL);
	ATF_REQUIRE_EQ(0, pass_32bit_ids(&m));
	bad.address |= 1ull << 32;
	for (unsigned i = 0; i < 3; i++)
		gsis[i] = route_to(&m, 0x40);
	begin(&m);
	ATF_REQUIRE_EQ(0, route(&m, gsis[0], 0x50));
	ATF_REQUIRE_EQ(0, m.ops->msi_route(m.ops->opaque, gsis[1], &bad));
	m.ops->gsi_free(m.ops->opaque, gsis[2]);
	ATF_CHECK_EQ(-EINVAL, commit(&m));
	/* Nothing is left to write that would fail. */
	ATF_CHECK_EQ(0, commit(&m));
	/* Alone, it is known which. */
	ATF_REQUIRE_EQ(0, m.ops->msi_route(m.ops->opaque, gsis[1], &bad));
	ATF_CHECK_EQ(-EINVAL, commit(&m));
	machine_end(&m);
}

/* What a refused batch leaves behind, seen from the guest. */
CLEAT_TC(commit__refused_keeps_the_route_before)
{
	struct cleat_msi bad = message_to(0x60);
	static const unsigned left[] = {0x50, 0x41};
	struct guest_op wait[2];
	struct machine m;
	uint32_t gsis[2];
	int fds[2];

	machine_start(&m, tc, GUEST_IRQCHIP_KERNEL, NULL);
	ATF_REQUIRE_EQ(0, pass_32bit_ids(&m));
	bad.address |= 1ull << 32;
	for (unsigned i = 0; i < 2; i++) {
		gsis[i] = route_to(&m, 0x40 + i);
		fds[i] = make_eventfd();
		ATF_REQUIRE_EQ(0, m.ops->irqfd_add(m.ops->opaque, gsis[i],
						   fds[i], -1));
		wait[i] = (struct guest_op){
			.kind = GUEST_WAIT,
			.address = cleat_guest_counter(left[i]),
			.value = 1,
			.count = 1};
	}
	ATF_REQUIRE_EQ(0, route(&m, gsis[0], 0x50));
	ATF_REQUIRE_EQ(0, m.ops->msi_route(m.ops->opaque, gsis[1], &bad));
	ATF_CHECK_EQ(-EINVAL, commit(&m));
	signal_eventfd(fds[0]);
	signal_eventfd(fds[1]);
	machine_run(&m, wait, 2);
	ATF_CHECK_EQ(0, cleat_guest_interrupts(m.guest, 0x40));
	ATF_CHECK_EQ(0, cleat_guest_interrupts(m.guest, 0x60));
	machine_end(&m);
	close(fds[0]);
	close(fds[1]);
}

CLEAT_TC(alloc__none_left)
{
	struct machine m;
	uint32_t gsis[16], gsi;

	machine_start(&m, tc, GUEST_IRQCHIP_KERNEL, NULL);
	for (unsigned i = 0; i < 16; i++) {
		gsis[i] = alloc(&m);
		ATF_CHECK(gsis[i] >= FIRST_GSI && gsis[i] < FIRST_GSI + 16);
		for (unsigned k = 0; k < i; k++)
			ATF_CHECK(gsis[k] != gsis[i]);
	}
	ATF_CHECK_EQ(-ENOSPC, m.ops->gsi_alloc(m.ops->opaque, &gsi));
	m.ops->gsi_free(m.ops->opaque, gsis[7]);
	m.ops->gsi_free(m.ops->opaque, gsis[7]);
	ATF_CHECK_EQ(gsis[7], alloc(&m));
	ATF_CHECK_EQ(-ENOSPC, m.ops->gsi_alloc(m.ops->opaque, &gsi));
	machine_end(&m);
}

CLEAT_TC(alloc__the_whole_table)
{
	struct cleat_kvm_config config = {.first_gsi = 24, .gsis = 4096 - 24};
	unsigned got = 0;
	struct machine m;
	uint32_t gsi;

	machine_start(&m, tc, GUEST_IRQCHIP_KERNEL, &config);
	begin(&m);
	while (!m.ops->gsi_alloc(m.ops->opaque, &gsi)) {
		ATF_REQUIRE_EQ(0, route(&m, gsi, 0x40));
		got++;
	}
	ATF_CHECK_EQ(4096 - 24, got);
	ATF_CHECK_EQ(0, commit(&m));
	machine_end(&m);
}

CLEAT_TC(route__not_ours)
{
	struct machine m;
	uint32_t gsi;

	machine_start(&m, tc, GUEST_IRQCHIP_KERNEL, NULL);
	gsi = alloc(&m);
	ATF_CHECK_EQ(-EINVAL, route(&m, 5, 0x40));
	ATF_CHECK_EQ(-EINVAL, route(&m, FIRST_GSI + 16, 0x40));
	m.ops->gsi_free(m.ops->opaque, 5);
	m.ops->gsi_free(m.ops->opaque, UINT32_MAX);
	m.ops->gsi_free(m.ops->opaque, gsi);
	ATF_CHECK_EQ(-EINVAL, route(&m, gsi, 0x40));
	machine_end(&m);
}

ATF_TP_ADD_TCS(tp)
{
	ATF_TP_ADD_TC(tp, commit__one_table_for_many);
	ATF_TP_ADD_TC(tp, commit__nothing_changed);
	ATF_TP_ADD_TC(tp, commit__another_thread_in_a_batch);
	ATF_TP_ADD_TC(tp, commit__one_refused);
	ATF_TP_ADD_TC(tp, commit__refused_keeps_the_route_before);
	ATF_TP_ADD_TC(tp, alloc__none_left);
	ATF_TP_ADD_TC(tp, alloc__the_whole_table);
	ATF_TP_ADD_TC(tp, route__not_ours);
	return atf_no_error();
}
