/* SPDX-License-Identifier: BSD-2-Clause */
/* The PCI host without a device: the bridge, and emptiness everywhere else. */
#include "tests/support/support.h"
#include "vmm/vmm.h"

static uint64_t access_at(struct vm *vm, enum cleat_space space,
			  uint64_t address, uint64_t value, unsigned length,
			  bool is_write)
{
	ATF_REQUIRE(cleat_vmm_bus_access(&vm->bus, space, address, &value,
					 length, is_write));
	return value;
}

static uint64_t ecam(struct vm *vm, unsigned function,
		     unsigned offset, unsigned length)
{
	return access_at(vm, CLEAT_MEMORY,
			 ECAM_START + ((uint64_t)function << 12) + offset, 0,
			 length, false);
}

static uint64_t by_ports(struct vm *vm, uint32_t address,
			 unsigned offset, unsigned length)
{
	access_at(vm, CLEAT_PORTS, PORT_PCI_ADDRESS, address, 4, true);
	ATF_REQUIRE_EQ(address, access_at(vm, CLEAT_PORTS, PORT_PCI_ADDRESS, 0,
					  4, false));
	return access_at(vm, CLEAT_PORTS, PORT_PCI_DATA + offset, 0, length,
			 false);
}

static struct vm *make(void)
{
	static struct vm vm;

	vm.bus.count = 0;
	cleat_vmm_pci_init(&vm.pci, &vm);
	return &vm;
}

CLEAT_TC(bridge__both_ways)
{
	struct vm *vm = make();
	unsigned offset, length;

	ATF_REQUIRE_EQ(0x0600, ecam(vm, 0, 0x0a, 2));
	ATF_REQUIRE(ecam(vm, 0, 0, 2) != 0xffff);
	for (length = 1; length <= 4; length *= 2)
		for (offset = 0; offset < 256; offset += length)
			ATF_REQUIRE_EQ(ecam(vm, 0, offset, length),
				       by_ports(vm, 1u << 31 | (offset & ~3u),
						offset & 3, length));
	ATF_REQUIRE_EQ(ecam(vm, 0, 0, 4) | ecam(vm, 0, 4, 4) << 32,
		       ecam(vm, 0, 0, 8));
}

CLEAT_TC(bridge__written)
{
	struct vm *vm = make();
	uint64_t before[16];
	unsigned i;

	for (i = 0; i < 16; i++)
		before[i] = ecam(vm, 0, 4 * i, 4);
	for (i = 0; i < 16; i++)
		access_at(vm, CLEAT_MEMORY, ECAM_START + 4 * i, UINT32_MAX, 4,
			  true);
	for (i = 0; i < 16; i++)
		ATF_REQUIRE_EQ(before[i], ecam(vm, 0, 4 * i, 4));
}

CLEAT_TC(empty__ones)
{
	struct vm *vm = make();
	unsigned function;

	for (function = 1; function < 256; function++) {
		ATF_REQUIRE_EQ(UINT32_MAX, ecam(vm, function, 0, 4));
		ATF_REQUIRE_EQ(0xff, ecam(vm, function, 4095, 1));
		ATF_REQUIRE_EQ(UINT64_MAX, ecam(vm, function, 8, 8));
		ATF_REQUIRE_EQ(UINT32_MAX,
			       by_ports(vm, 1u << 31 | function << 8, 0, 4));
		access_at(vm, CLEAT_MEMORY, ECAM_START + (function << 12), 0, 4,
			  true);
	}
	/* Other buses, and a window that is not enabled. */
	ATF_REQUIRE_EQ(UINT32_MAX, by_ports(vm, 1u << 31 | 1u << 16, 0, 4));
	ATF_REQUIRE_EQ(UINT32_MAX, by_ports(vm, 0, 0, 4));
}

CLEAT_TC(odd__ones)
{
	struct vm *vm = make();
	uint32_t value;

	ATF_REQUIRE_EQ(0xffff, ecam(vm, 0, 1, 2));
	ATF_REQUIRE_EQ(UINT32_MAX, ecam(vm, 0, 2, 4));
	ATF_REQUIRE_EQ(0xffffff, ecam(vm, 0, 0, 3));
	ATF_REQUIRE_EQ(UINT64_MAX, ecam(vm, 0, 4, 8));
	ATF_REQUIRE_EQ(0xffff, by_ports(vm, 1u << 31, 1, 2));
	ATF_REQUIRE_EQ(0xff, access_at(vm, CLEAT_PORTS, PORT_PCI_ADDRESS, 0, 1,
				       false));
	access_at(vm, CLEAT_PORTS, PORT_PCI_ADDRESS + 1, 0x55, 1, true);
	ATF_REQUIRE_EQ(1u << 31, access_at(vm, CLEAT_PORTS, PORT_PCI_ADDRESS, 0,
					   4, false));
	/* An access over the end of the area is nobody's. */
	ATF_REQUIRE(!cleat_vmm_bus_access(&vm->bus, CLEAT_MEMORY,
					  ECAM_START + ECAM_SIZE - 2, &value, 4,
					  false));
}

CLEAT_TC(gsi__rotates)
{
	unsigned slot, pin;

	for (slot = 1; slot <= DEVICES_MAX; slot++) {
		unsigned seen = 0;

		for (pin = 0; pin < 4; pin++) {
			unsigned gsi = cleat_vmm_pci_gsi(slot, pin);

			ATF_REQUIRE(gsi >= GSI_INTX && gsi < IOAPIC_PINS);
			seen |= 1u << (gsi - GSI_INTX);
		}
		ATF_REQUIRE_EQ(0xf, seen);
	}
}

ATF_TP_ADD_TCS(tp)
{
	ATF_TP_ADD_TC(tp, bridge__both_ways);
	ATF_TP_ADD_TC(tp, bridge__written);
	ATF_TP_ADD_TC(tp, empty__ones);
	ATF_TP_ADD_TC(tp, odd__ones);
	ATF_TP_ADD_TC(tp, gsi__rotates);
	return atf_no_error();
}
