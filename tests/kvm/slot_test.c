/* SPDX-License-Identifier: BSD-2-Clause */
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "tests/kvm/fixture.h"

#define PAGE 4096
#define N 1000

/* Two pages of a server's, mapped as the library would. */
struct pages {
	int fd;
	uint64_t *host;
};

static void pages_start(struct pages *pages)
{
	pages->fd = memfd(2 * PAGE, F_SEAL_SHRINK);
	pages->host = map_fd(pages->fd, 2 * PAGE, PROT_READ | PROT_WRITE);
}

static void pages_end(struct pages *pages)
{
	munmap(pages->host, 2 * PAGE);
	close(pages->fd);
}

static int add(struct machine *m, uint64_t guest, void *host, uint32_t flags,
	       uint32_t *ret_slot)
{
	return m->ops->slot_add(m->ops->opaque, guest, 2 * PAGE, host, flags,
				ret_slot);
}

static uint64_t stores(struct machine *m, uint64_t address)
{
	return machine_cost(m, (struct guest_op){.kind = GUEST_STORE,
						 .size = 8,
						 .address = address,
						 .value = 1,
						 .step = 1,
						 .count = N});
}

static uint64_t loads(struct machine *m, uint64_t address)
{
	return machine_cost(m, (struct guest_op){.kind = GUEST_LOAD,
						 .size = 8,
						 .address = address,
						 .count = N});
}

CLEAT_TC(map__no_exits)
{
	struct guest_op op = {.kind = GUEST_LOAD,
			      .size = 4,
			      .address = WINDOW + PAGE + 4,
			      .count = 1};
	struct machine m;
	struct pages p;
	uint32_t slot;

	pages_start(&p);
	machine_start(&m, tc, GUEST_IRQCHIP_KERNEL, NULL);
	ATF_CHECK_EQ(N, stores(&m, WINDOW));
	ATF_REQUIRE_EQ(0, add(&m, WINDOW, p.host, 0, &slot));
	ATF_CHECK(slot >= FIRST_SLOT && slot < FIRST_SLOT + 4);
	ATF_CHECK_EQ(0, stores(&m, WINDOW));
	ATF_CHECK_EQ(N, p.host[0]);
	p.host[PAGE / 8] = 0x1122334455667788;
	ATF_CHECK_EQ(0, loads(&m, WINDOW));
	ATF_CHECK_EQ(0x11223344, machine_do(&m, op));
	machine_end(&m);
	pages_end(&p);
}

CLEAT_TC(map__readonly)
{
	struct machine m;
	struct pages p;
	uint32_t slot;

	pages_start(&p);
	machine_start(&m, tc, GUEST_IRQCHIP_KERNEL, NULL);
	p.host[0] = 7;
	ATF_REQUIRE_EQ(0, add(&m, WINDOW, p.host, CLEAT_SLOT_READONLY, &slot));
	ATF_CHECK_EQ(0, loads(&m, WINDOW));
	ATF_CHECK_EQ(N, stores(&m, WINDOW));
	ATF_CHECK_EQ(7, p.host[0]);
	machine_end(&m);
	pages_end(&p);
}

CLEAT_TC(remove__traps_again)
{
	struct machine m;
	struct pages p;
	uint32_t slot;

	pages_start(&p);
	machine_start(&m, tc, GUEST_IRQCHIP_KERNEL, NULL);
	ATF_REQUIRE_EQ(0, add(&m, WINDOW, p.host, 0, &slot));
	ATF_CHECK_EQ(0, loads(&m, WINDOW));
	ATF_REQUIRE_EQ(0, m.ops->slot_remove(m.ops->opaque, slot));
	ATF_CHECK_EQ(N, loads(&m, WINDOW));
	ATF_CHECK_EQ(N, stores(&m, WINDOW));
	ATF_CHECK_EQ(0, p.host[0]);
	ATF_CHECK_EQ(-EINVAL, m.ops->slot_remove(m.ops->opaque, slot));
	machine_end(&m);
	pages_end(&p);
}

CLEAT_TC(remove__placed_elsewhere)
{
	struct machine m;
	struct pages p;
	uint32_t slot;

	pages_start(&p);
	machine_start(&m, tc, GUEST_IRQCHIP_KERNEL, NULL);
	for (unsigned i = 0; i < 20; i++) {
		uint64_t place = WINDOW + i % 3 * 8 * PAGE;

		ATF_REQUIRE_EQ(0, add(&m, place, p.host, 0, &slot));
		ATF_CHECK_EQ(0, stores(&m, place));
		ATF_REQUIRE_EQ(0, m.ops->slot_remove(m.ops->opaque, slot));
	}
	ATF_CHECK_EQ(N, stores(&m, WINDOW));
	machine_end(&m);
	pages_end(&p);
}

CLEAT_TC(remove__not_ours)
{
	struct machine m;

	machine_start(&m, tc, GUEST_IRQCHIP_KERNEL, NULL);
	/* Slot 0 is the guest's RAM. */
	ATF_CHECK_EQ(-EINVAL, m.ops->slot_remove(m.ops->opaque, 0));
	ATF_CHECK_EQ(-EINVAL, m.ops->slot_remove(m.ops->opaque, FIRST_SLOT));
	ATF_CHECK_EQ(-EINVAL, m.ops->slot_remove(m.ops->opaque, UINT32_MAX));
	machine_do(&m, (struct guest_op){.kind = GUEST_LOAD,
					 .size = 8,
					 .address = 0x1000,
					 .count = 1});
	machine_end(&m);
}

/* To another process than the VM's KVM says EIO: the number stays taken. */
CLEAT_TC(remove__refused)
{
	struct machine m;
	struct pages p;
	uint32_t slot;
	int status;
	pid_t pid;

	pages_start(&p);
	machine_start(&m, tc, GUEST_IRQCHIP_KERNEL, NULL);
	ATF_REQUIRE_EQ(0, add(&m, WINDOW, p.host, 0, &slot));
	pid = fork();
	if (!pid)
		_exit(m.ops->slot_remove(m.ops->opaque, slot) != -EIO ||
		      m.ops->slot_remove(m.ops->opaque, slot) != -EIO);
	ATF_REQUIRE_EQ(pid, waitpid(pid, &status, 0));
	ATF_CHECK_EQ(0, status);
	ATF_CHECK_EQ(0, loads(&m, WINDOW));
	ATF_CHECK_EQ(0, m.ops->slot_remove(m.ops->opaque, slot));
	machine_end(&m);
	pages_end(&p);
}

CLEAT_TC(map__overlap)
{
	struct machine m;
	struct pages p;
	uint32_t slots[5];
	uint64_t ram;

	pages_start(&p);
	machine_start(&m, tc, GUEST_IRQCHIP_KERNEL, NULL);
	ram = cleat_guest_ram_size(m.guest);
	ATF_REQUIRE_EQ(0, add(&m, WINDOW, p.host, 0, &slots[0]));
	/* More often than there are numbers: a refused one is free again. */
	for (unsigned i = 0; i < 10; i++) {
		ATF_CHECK_EQ(-EEXIST, add(&m, WINDOW, p.host, 0, &slots[1]));
		ATF_CHECK_EQ(-EEXIST,
			     add(&m, WINDOW + PAGE, p.host, 0, &slots[1]));
		ATF_CHECK_EQ(-EEXIST,
			     add(&m, ram - PAGE, p.host, 0, &slots[1]));
	}
	for (unsigned i = 1; i < 4; i++)
		ATF_CHECK_EQ(0, add(&m, WINDOW + i * 2 * PAGE, p.host, 0,
				    &slots[i]));
	ATF_CHECK_EQ(-ENOSPC, add(&m, WINDOW + 8 * PAGE, p.host, 0, &slots[4]));
	machine_end(&m);
	pages_end(&p);
}

CLEAT_TC(map__not_whole_pages)
{
	const struct cleat_vm_ops *ops;
	struct machine m;
	struct pages p;
	uint8_t *host;
	uint32_t slot;

	pages_start(&p);
	machine_start(&m, tc, GUEST_IRQCHIP_KERNEL, NULL);
	ops = m.ops;
	host = (uint8_t *)p.host;
	ATF_CHECK_EQ(-EINVAL,
		     ops->slot_add(ops->opaque, WINDOW, 0, host, 0, &slot));
	ATF_CHECK_EQ(-EINVAL, ops->slot_add(ops->opaque, WINDOW, PAGE / 2, host,
					    0, &slot));
	ATF_CHECK_EQ(-EINVAL, ops->slot_add(ops->opaque, WINDOW + 512, PAGE,
					    host, 0, &slot));
	ATF_CHECK_EQ(-EINVAL, ops->slot_add(ops->opaque, WINDOW, PAGE,
					    host + 512, 0, &slot));
	ATF_CHECK_EQ(-EINVAL,
		     ops->slot_add(ops->opaque, WINDOW, PAGE, host, 2, &slot));
	ATF_CHECK(ops->slot_add(ops->opaque, 0ull - PAGE, 2 * PAGE, host, 0,
				&slot) < 0);
	machine_end(&m);
	pages_end(&p);
}

CLEAT_TC(destroy__slots_left)
{
	struct machine m;
	struct pages p;
	uint32_t slot;

	pages_start(&p);
	machine_start(&m, tc, GUEST_IRQCHIP_KERNEL, NULL);
	ATF_REQUIRE_EQ(0, add(&m, WINDOW, p.host, 0, &slot));
	ATF_REQUIRE_EQ(0, add(&m, WINDOW + 2 * PAGE, p.host, 0, &slot));
	m.kvm = cleat_kvm_destroy(m.kvm);
	ATF_CHECK_EQ(N, loads(&m, WINDOW));
	ATF_CHECK_EQ(N, loads(&m, WINDOW + 2 * PAGE));
	machine_end(&m);
	pages_end(&p);
}

ATF_TP_ADD_TCS(tp)
{
	ATF_TP_ADD_TC(tp, map__no_exits);
	ATF_TP_ADD_TC(tp, map__readonly);
	ATF_TP_ADD_TC(tp, remove__traps_again);
	ATF_TP_ADD_TC(tp, remove__placed_elsewhere);
	ATF_TP_ADD_TC(tp, remove__not_ours);
	ATF_TP_ADD_TC(tp, remove__refused);
	ATF_TP_ADD_TC(tp, map__overlap);
	ATF_TP_ADD_TC(tp, map__not_whole_pages);
	ATF_TP_ADD_TC(tp, destroy__slots_left);
	return atf_no_error();
}
