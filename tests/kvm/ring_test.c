/* SPDX-License-Identifier: BSD-2-Clause */
/* KVM's ring of coalesced writes: one of the test's making, and a real one. */
#include "kvm/private.h"
#include "tests/kvm/fixture.h"

#define ROOM 5
#define N 1000

/* --- A made-up ring -------------------------------------------------------------- */

static struct kvm_coalesced_mmio_ring *make_ring(uint32_t first, uint32_t last)
{
	struct kvm_coalesced_mmio_ring *ring =
		calloc(1, sizeof(*ring) +
				  ROOM * sizeof(struct kvm_coalesced_mmio));

	ATF_REQUIRE(ring);
	ring->first = first;
	ring->last = last;
	for (unsigned i = 0; i < ROOM; i++) {
		struct kvm_coalesced_mmio *entry = &ring->coalesced_mmio[i];

		entry->phys_addr = 0x1000 + i;
		entry->len = 4;
		memset(entry->data, (int)i, sizeof(entry->data));
	}
	return ring;
}

CLEAT_TC(take__in_order_and_around)
{
	struct kvm_coalesced_mmio_ring *ring = make_ring(3, 1);
	struct cleat_coalesced got[ROOM];

	ATF_CHECK_EQ(3, cleat_kvm_ring_take(ring, ROOM, NULL, 0));
	ATF_CHECK_EQ(3, ring->first);
	ATF_REQUIRE_EQ(2, cleat_kvm_ring_take(ring, ROOM, got, 2));
	ATF_CHECK_EQ(0x1003, got[0].address);
	ATF_CHECK_EQ(0x1004, got[1].address);
	ATF_CHECK_EQ(4, got[1].data[7]);
	ATF_CHECK_EQ(4, got[1].length);
	ATF_CHECK_EQ(0, ring->first);
	ATF_REQUIRE_EQ(1, cleat_kvm_ring_take(ring, ROOM, got, ROOM));
	ATF_CHECK_EQ(0x1000, got[0].address);
	ATF_CHECK_EQ(1, ring->first);
	ATF_CHECK_EQ(0, cleat_kvm_ring_take(ring, ROOM, got, ROOM));
	free(ring);
}

CLEAT_TC(take__spaces)
{
	struct kvm_coalesced_mmio_ring *ring = make_ring(0, 2);
	struct cleat_coalesced got[ROOM];

	ring->coalesced_mmio[1].pio = 1;
	ATF_REQUIRE_EQ(2, cleat_kvm_ring_take(ring, ROOM, got, ROOM));
	ATF_CHECK_EQ(CLEAT_MEMORY, got[0].space);
	ATF_CHECK_EQ(CLEAT_PORTS, got[1].space);
	free(ring);
}

CLEAT_TC(take__impossible_lengths)
{
	struct kvm_coalesced_mmio_ring *ring = make_ring(0, 4);
	struct cleat_coalesced got[ROOM];

	ring->coalesced_mmio[0].len = 0;
	ring->coalesced_mmio[1].len = 9;
	ring->coalesced_mmio[3].len = UINT32_MAX;
	ATF_REQUIRE_EQ(1, cleat_kvm_ring_take(ring, ROOM, got, ROOM));
	ATF_CHECK_EQ(0x1002, got[0].address);
	ATF_CHECK_EQ(4, ring->first);
	free(ring);
}

CLEAT_TC(take__impossible_indices)
{
	static const uint32_t rows[][2] = {
		{ 0, ROOM }, { ROOM, 0 }, { UINT32_MAX, 1 }, { 2, UINT32_MAX },
	};
	struct cleat_coalesced got[ROOM];

	for (unsigned i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		struct kvm_coalesced_mmio_ring *ring =
			make_ring(rows[i][0], rows[i][1]);

		ATF_CHECK_EQ(0, cleat_kvm_ring_take(ring, ROOM, NULL, 0));
		ATF_CHECK_EQ(0, cleat_kvm_ring_take(ring, ROOM, got, ROOM));
		ATF_CHECK_EQ(rows[i][0], ring->first);
		free(ring);
	}
}

/* --- KVM's ------------------------------------------------------------------------- */

/* What came, in the order in which the guest wrote it. */
struct arrived {
	struct machine *machine;
	uint64_t num;
	uint64_t wrong;
	uint64_t coalesced;
};

static void take_all(struct arrived *arrived)
{
	const struct cleat_vm_ops *ops = arrived->machine->ops;
	struct cleat_coalesced got[7];
	unsigned num;

	while ((num = ops->coalesced_take(ops->opaque, got, 7)))
		for (unsigned i = 0; i < num; i++) {
			uint32_t value;

			memcpy(&value, got[i].data, sizeof(value));
			arrived->wrong += value != ++arrived->num;
			arrived->coalesced++;
		}
}

static int on_access(void *opaque, unsigned cpu,
		     const struct guest_access *access)
{
	struct arrived *arrived = opaque;
	uint32_t value;

	take_all(arrived);
	memcpy(&value, access->data, sizeof(value));
	arrived->wrong += value != ++arrived->num;
	return 0;
}

static struct arrived run(struct machine *machine, enum guest_op_kind kind,
			  uint64_t address)
{
	struct arrived arrived = { .machine = machine };
	struct guest_hooks hooks = { .access = on_access, .opaque = &arrived };
	struct guest_op op = { .kind = kind,
			       .size = 4,
			       .address = address,
			       .value = 1,
			       .step = 1,
			       .count = N };
	int err = cleat_guest_run(machine->guest, 0, &op, 1, &hooks, RUN_MS);

	ATF_REQUIRE_EQ_MSG(0, err, "the guest's run: %s", strerror(-err));
	take_all(&arrived);
	ATF_CHECK_EQ(N, arrived.num);
	ATF_CHECK_EQ(0, arrived.wrong);
	return arrived;
}

static void start(struct machine *machine, const atf_tc_t *tc)
{
	struct cleat_error why = { .text = "" };
	int err;

	machine_start(machine, tc, GUEST_IRQCHIP_KERNEL, NULL);
	if (!machine->ops->coalesce_add)
		atf_tc_skip("this KVM does not coalesce writes");
	err = cleat_kvm_map_ring(machine->kvm,
				 cleat_guest_vcpu(machine->guest, 1), &why);
	ATF_REQUIRE_EQ_MSG(0, err, "%s", why.text);
	/* Once is enough, whatever comes then. */
	ATF_CHECK_EQ(0, cleat_kvm_map_ring(machine->kvm, -1, NULL));
}

static void check_zone(struct machine *machine, enum cleat_space space,
		       enum guest_op_kind kind, uint64_t address)
{
	const struct cleat_vm_ops *ops = machine->ops;
	uint64_t returned;

	ATF_CHECK_EQ(0, run(machine, kind, address).coalesced);
	ATF_REQUIRE_EQ(0, ops->coalesce_add(ops->opaque, space, address, 8));
	returned = cleat_guest_returned(machine->guest, 0);
	/* Some KVMs exit now and then; none must not coalesce at all. */
	ATF_CHECK(run(machine, kind, address).coalesced > N / 2);
	ATF_CHECK(cleat_guest_returned(machine->guest, 0) - returned < N / 2);
	ATF_REQUIRE_EQ(0, ops->coalesce_remove(ops->opaque, space, address, 8));
	ATF_CHECK_EQ(0, run(machine, kind, address).coalesced);
	ATF_CHECK_EQ(-ENOENT,
		     ops->coalesce_remove(ops->opaque, space, address, 8));
}

CLEAT_TC(zone__memory)
{
	struct machine machine;

	start(&machine, tc);
	check_zone(&machine, CLEAT_MEMORY, GUEST_STORE, WINDOW + 0x100);
	/* Taken away with the rest. */
	ATF_CHECK_EQ(0, machine.ops->coalesce_add(machine.ops->opaque,
						  CLEAT_MEMORY, WINDOW, 8));
	machine_end(&machine);
}

CLEAT_TC(zone__ports)
{
	struct machine machine;
	int err;

	start(&machine, tc);
	err = machine.ops->coalesce_add(machine.ops->opaque, CLEAT_PORTS,
					0x2000, 4);
	if (err != -EOPNOTSUPP) {
		ATF_CHECK_EQ(0, err);
		check_zone(&machine, CLEAT_PORTS, GUEST_OUT, 0x1000);
	}
	machine_end(&machine);
}

CLEAT_TC(zone__refused)
{
	const struct cleat_vm_ops *ops;
	struct machine machine;
	int file = memfd(4096, 0);

	machine_start(&machine, tc, GUEST_IRQCHIP_KERNEL, NULL);
	ops = machine.ops;
	if (!ops->coalesce_add)
		atf_tc_skip("this KVM does not coalesce writes");
	/* Nobody can take them out yet. */
	ATF_CHECK_EQ(-EOPNOTSUPP,
		     ops->coalesce_add(ops->opaque, CLEAT_MEMORY, WINDOW, 8));
	ATF_CHECK_EQ(0, ops->coalesced_take(ops->opaque, NULL, 0));
	ATF_CHECK_EQ(-EINVAL, cleat_kvm_map_ring(machine.kvm, file, NULL));
	ATF_CHECK_EQ(-EINVAL, cleat_kvm_map_ring(machine.kvm, -1, NULL));
	ATF_CHECK_EQ(-EINVAL,
		     cleat_kvm_map_ring(machine.kvm,
					cleat_guest_vm(machine.guest), NULL));
	ATF_REQUIRE_EQ(0, cleat_kvm_map_ring(machine.kvm,
					     cleat_guest_vcpu(machine.guest, 0),
					     NULL));
	ATF_CHECK_EQ(-EINVAL,
		     ops->coalesce_add(ops->opaque, CLEAT_MEMORY, WINDOW, 0));
	ATF_CHECK_EQ(-EINVAL, ops->coalesce_add(ops->opaque, CLEAT_MEMORY,
						UINT64_MAX, 2));
	ATF_CHECK_EQ(-EINVAL,
		     ops->coalesce_add(ops->opaque, CLEAT_PORTS, 0xffff, 2));
	machine_end(&machine);
	close(file);
}

ATF_TP_ADD_TCS(tp)
{
	ATF_TP_ADD_TC(tp, take__in_order_and_around);
	ATF_TP_ADD_TC(tp, take__spaces);
	ATF_TP_ADD_TC(tp, take__impossible_lengths);
	ATF_TP_ADD_TC(tp, take__impossible_indices);
	ATF_TP_ADD_TC(tp, zone__memory);
	ATF_TP_ADD_TC(tp, zone__ports);
	ATF_TP_ADD_TC(tp, zone__refused);
	return atf_no_error();
}
