/* SPDX-License-Identifier: BSD-2-Clause */
/* What a guest's driver does with the function of a cleat-probe. */
#include <errno.h>
#include <linux/pci_regs.h>
#include <stdio.h>
#include <string.h>

#include "backends/probe/probe_regs.h"
#include "bench/machine.h"

#define MSIX_ENTRY 16

static int make_function(struct plug *plug, uint32_t function,
			 struct cleat_error *reterr)
{
	struct cleat_pci_config config = {
		.size = sizeof(config),
		.device = plug->dev,
		.mmio = plug->machine->mmio,
		.ops = plug->machine->ops,
		.function = function,
	};

	return cleat_pci_create(&config, &plug->pci, reterr);
}

int cleat_plug_in(struct plug *plug, struct machine *machine,
		  const char *const *argv, uint32_t function,
		  struct cleat_error *reterr)
{
	struct cleat_device_config config = {
		.size = sizeof(config),
		.argv = argv,
	};
	int err;

	*plug = (struct plug){ .machine = machine };
	err = cleat_device_open(&config, &plug->dev, reterr);
	if (err)
		return err;
	err = cleat_memory_attach(machine->memory, plug->dev);
	if (err && reterr)
		snprintf(reterr->text, sizeof(reterr->text),
			 "giving it the guest's memory: %s", strerror(-err));
	if (!err)
		err = make_function(plug, function, reterr);
	if (err)
		cleat_plug_out(plug);
	return err;
}

void cleat_plug_out(struct plug *plug)
{
	plug->pci = cleat_pci_unref(plug->pci);
	plug->dev = cleat_device_unref(plug->dev);
}

void cleat_plug_place(struct plug *plug, uint32_t place, uint16_t port)
{
	const struct {
		unsigned bar;
		uint32_t value;
	} bars[] = {
		{ PROBE_BAR_REGS, place + PLUG_REGS },
		{ PROBE_BAR_DOORBELLS, place + PLUG_DOORBELLS },
		{ PROBE_BAR_PAGES, place + PLUG_PAGES },
		{ PROBE_BAR_PAGES + 1, 0 },
		{ PROBE_BAR_IO, port },
	};

	for (unsigned i = 0; i < sizeof(bars) / sizeof(*bars); i++)
		cleat_pci_config_write(plug->pci,
				       PCI_BASE_ADDRESS_0 + 4 * bars[i].bar,
				       bars[i].value, 4);
	plug->place = place;
	cleat_pci_config_write(
		plug->pci, PCI_COMMAND,
		PCI_COMMAND_IO | PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER, 2);
}

/* --- MSI-X --------------------------------------------------------------- */

unsigned cleat_plug_capability(struct plug *plug, unsigned id)
{
	unsigned at = cleat_pci_config_read(plug->pci, PCI_CAPABILITY_LIST, 1);

	/* The library has checked the list: it ends. */
	while (at && cleat_pci_config_read(plug->pci, at, 1) != id)
		at = cleat_pci_config_read(plug->pci, at + 1, 1);
	return at;
}

static void store(struct plug *plug, uint64_t address, uint32_t value)
{
	cleat_mmio_access(plug->machine->mmio, CLEAT_MEMORY, address, &value,
			  sizeof(value), true);
}

void cleat_plug_vector(struct plug *plug, unsigned vector, uint64_t address,
		       uint32_t data, bool masked)
{
	uint64_t entry = plug->place + PLUG_REGS + PROBE_MSIX_TABLE +
			 (uint64_t)vector * MSIX_ENTRY;

	store(plug, entry + PCI_MSIX_ENTRY_LOWER_ADDR, (uint32_t)address);
	store(plug, entry + PCI_MSIX_ENTRY_UPPER_ADDR,
	      (uint32_t)(address >> 32));
	store(plug, entry + PCI_MSIX_ENTRY_DATA, data);
	store(plug, entry + PCI_MSIX_ENTRY_VECTOR_CTRL, masked);
}

void cleat_plug_msix(struct plug *plug, bool on, bool masked)
{
	unsigned at = cleat_plug_capability(plug, PCI_CAP_ID_MSIX);
	uint32_t flags = 0;

	if (on)
		flags |= PCI_MSIX_FLAGS_ENABLE;
	if (masked)
		flags |= PCI_MSIX_FLAGS_MASKALL;
	cleat_pci_config_write(plug->pci, at + PCI_MSIX_FLAGS, flags, 2);
}

/* --- Its registers ------------------------------------------------------- */

uint64_t cleat_plug_get(struct plug *plug, uint64_t offset, unsigned size)
{
	uint64_t value = 0;

	if (cleat_region_read(plug->dev, PROBE_BAR_REGS, offset, &value, size))
		return UINT64_MAX;
	return value;
}

void cleat_plug_set(struct plug *plug, uint64_t offset, uint32_t value)
{
	cleat_region_write(plug->dev, PROBE_BAR_REGS, offset, &value,
			   sizeof(value));
}

uint64_t cleat_plug_messages(struct plug *plug)
{
	struct cleat_device_stats stats = { .size = sizeof(stats) };

	cleat_device_stats(plug->dev, &stats);
	return stats.requests;
}
