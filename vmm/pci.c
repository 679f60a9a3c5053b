/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The PCI host: config space by ECAM and by ports 0xcf8 and 0xcfc, a host
 * bridge as function 00:00.0, and behind every other slot a function of the
 * library's, if there is one. Functions serialise themselves: no lock here.
 */
#include <errno.h>
#include <string.h>

#include <linux/pci_regs.h>

#include "vmm/vmm.h"

/* A generic host bridge that no driver wants anything of. */
#define BRIDGE_VENDOR 0x1b36
#define BRIDGE_DEVICE 0x0008
#define BRIDGE_CLASS 0x0600

#define CONFIG_ENABLE (1u << 31)
#define ALL_ONES 0xffffffffu

static uint32_t read_bridge(unsigned offset, unsigned length)
{
	uint8_t config[PCI_STD_HEADER_SIZEOF] = {
		[PCI_VENDOR_ID] = BRIDGE_VENDOR & 0xff,
		[PCI_VENDOR_ID + 1] = BRIDGE_VENDOR >> 8,
		[PCI_DEVICE_ID] = BRIDGE_DEVICE,
		[PCI_CLASS_DEVICE] = BRIDGE_CLASS & 0xff,
		[PCI_CLASS_DEVICE + 1] = BRIDGE_CLASS >> 8,
	};
	uint32_t value = 0;

	if (offset + length <= sizeof(config))
		memcpy(&value, config + offset, length);
	return value;
}

/*
 * A vCPU that was called back makes the access again, unless the run ends: what
 * the guest would read then does not matter, for it does not go on.
 */
static uint32_t access_function(const struct pci_host *host, unsigned slot,
				unsigned offset, uint32_t value,
				unsigned length, bool is_write)
{
	int err;

	do
		err = cleat_pci_config_access(host->functions[slot], offset,
					      &value, length, is_write);
	while (err == -EINTR && cleat_vmm_called_back(host->vm));
	return err ? ALL_ONES : value;
}

static uint32_t access_config(const struct pci_host *host, unsigned function,
			      unsigned offset, uint32_t value, unsigned length,
			      bool is_write)
{
	unsigned slot = function >> 3;

	/* Nothing of the bridge can be written. */
	if (function == 0)
		return read_bridge(offset, length);
	if (function & 7 || !host->functions[slot])
		return ALL_ONES;
	return access_function(host, slot, offset, value, length, is_write);
}

/* An access inside one register of config space. */
static void access_register(const struct pci_host *host, unsigned function,
			    unsigned offset, void *data, unsigned length,
			    bool is_write)
{
	uint32_t value = 0;

	if (is_write)
		memcpy(&value, data, length);
	value = access_config(host, function, offset, value, length, is_write);
	if (!is_write)
		memcpy(data, &value, length);
}

/* What straddles a register is nobody's; eight bytes are two registers. */
static void access_ecam(void *device, uint64_t offset, void *data,
			unsigned length, bool is_write)
{
	const struct pci_host *host = device;
	unsigned function = offset >> 12 & 0xff;
	unsigned reg = offset & 0xfff;

	if (length & (length - 1) || reg & (length - 1)) {
		if (!is_write)
			memset(data, 0xff, length);
		return;
	}
	if (length == 8) {
		access_register(host, function, reg, data, 4, is_write);
		data = (uint8_t *)data + 4;
		reg += 4;
		length = 4;
	}
	access_register(host, function, reg, data, length, is_write);
}

static void access_address(void *device, uint64_t offset, void *data,
			   unsigned length, bool is_write)
{
	struct pci_host *host = device;
	uint32_t value = host->address;

	/* Narrower accesses go to the ports of other chips on a PC. */
	if (length != 4)
		memset(data, 0xff, is_write ? 0 : length);
	else if (is_write)
		memcpy(&value, data, 4);
	else
		memcpy(data, &value, 4);
	host->address = value;
}

static void access_data(void *device, uint64_t offset, void *data,
			unsigned length, bool is_write)
{
	const struct pci_host *host = device;
	uint32_t address = host->address;
	unsigned bus = address >> 16 & 0xff;

	if (!(address & CONFIG_ENABLE) || bus || length > 4 ||
	    offset & (length - 1)) {
		if (!is_write)
			memset(data, 0xff, length);
		return;
	}
	access_register(host, address >> 8 & 0xff,
		      (address & 0xfc) + (unsigned)offset, data, length,
		      is_write);
}

unsigned cleat_vmm_pci_gsi(unsigned slot, unsigned pin)
{
	return GSI_INTX + (slot + pin) % 4;
}

void cleat_vmm_pci_init(struct pci_host *host, struct vm *vm)
{
	struct bus *bus = &vm->bus;

	*host = (struct pci_host){ .vm = vm };
	cleat_vmm_bus_add(bus, CLEAT_MEMORY, ECAM_START, ECAM_SIZE,
			  access_ecam, host);
	cleat_vmm_bus_add(bus, CLEAT_PORTS, PORT_PCI_ADDRESS, 4, access_address,
			  host);
	cleat_vmm_bus_add(bus, CLEAT_PORTS, PORT_PCI_DATA, 4, access_data,
			  host);
}
