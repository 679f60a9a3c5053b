/* SPDX-License-Identifier: BSD-2-Clause */
#include <errno.h>
#include <string.h>

#include "pci/function.h"

/* Standard header, of which the rest cannot be judged without all. */
#define HEADER_SIZE 0x40

void cleat_pci_claim(struct cleat_pci *pci, unsigned offset, unsigned length)
{
	memset(pci->own + offset, 0xff, length);
}

int cleat_pci_probe_word(struct cleat_pci *pci, unsigned offset,
			 struct cleat_error *reterr)
{
	int err = cleat_region_read(pci->dev, VFIO_PCI_CONFIG_REGION_INDEX,
				    offset, pci->cfg + offset, 4);

	if (!err)
		return 0;
	return cleat_fail(reterr, CLEAT_ORIGIN_DEVICE, err,
			  "config space: cannot read 4 bytes at 0x%x: %s",
			  offset, strerror(-err));
}

static int probe_region(struct cleat_pci *pci, struct cleat_error *reterr)
{
	const struct cleat_region *region =
		cleat_device_region(pci->dev, VFIO_PCI_CONFIG_REGION_INDEX);

	if (!region || !region->length)
		return cleat_fail(reterr, CLEAT_ORIGIN_DEVICE, -ENODEV,
				  "no PCI device: it has no config region");
	if (region->length < HEADER_SIZE || region->length % 4)
		return cleat_fail(reterr, CLEAT_ORIGIN_DEVICE, -EPROTO,
				  "config space of %llu bytes",
				  (unsigned long long)region->length);
	pci->length = region->length > PCI_CONFIG_SIZE
			      ? PCI_CONFIG_SIZE
			      : (unsigned)region->length;
	/* What the server does not have is empty, not an error. */
	cleat_pci_claim(pci, pci->length, PCI_CONFIG_SIZE - pci->length);
	return 0;
}

/*
 * What a guest takes for the identity and the structure of a function may not
 * change under it: shown as it was found here.
 */
static void claim_header(struct cleat_pci *pci)
{
	cleat_pci_claim(pci, PCI_VENDOR_ID, 4);
	cleat_pci_claim(pci, PCI_CLASS_REVISION, 4);
	cleat_pci_claim(pci, PCI_HEADER_TYPE, 1);
	cleat_pci_claim(pci, PCI_BASE_ADDRESS_0, 24);
	cleat_pci_claim(pci, PCI_SUBSYSTEM_VENDOR_ID, 4);
	cleat_pci_claim(pci, PCI_ROM_ADDRESS, 4);
	cleat_pci_claim(pci, PCI_CAPABILITY_LIST, 1);
	cleat_pci_claim(pci, PCI_INTERRUPT_LINE, 2);
	cleat_pci_put16(pci->own + PCI_COMMAND, PCI_COMMAND_OURS);
	cleat_pci_put16(pci->own + PCI_STATUS, PCI_STATUS_CAP_LIST);
}

static int probe_header(struct cleat_pci *pci, struct cleat_error *reterr)
{
	uint16_t vendor;
	uint8_t type;
	int err;

	for (unsigned at = 0; at < HEADER_SIZE; at += 4) {
		err = cleat_pci_probe_word(pci, at, reterr);
		if (err)
			return err;
	}
	vendor = cleat_pci_get16(pci->cfg + PCI_VENDOR_ID);
	type = pci->cfg[PCI_HEADER_TYPE] & PCI_HEADER_TYPE_MASK;
	if (vendor == 0xffff || vendor == 0)
		return cleat_fail(reterr, CLEAT_ORIGIN_DEVICE, -ENODEV,
				  "no PCI device: its vendor is %04x", vendor);
	if (type != PCI_HEADER_TYPE_NORMAL)
		return cleat_fail(reterr, CLEAT_ORIGIN_DEVICE, -EPROTO,
				  "config header of type %u: only endpoints "
				  "can be taken on",
				  type);
	claim_header(pci);
	return 0;
}

static void probe_pin(struct cleat_pci *pci)
{
	uint8_t pin = pci->cfg[PCI_INTERRUPT_PIN];

	if (pin > 4 || !cleat_pci_can_intx(pci))
		pin = 0;
	pci->pin = pin;
	pci->cfg[PCI_INTERRUPT_PIN] = pin;
	pci->cfg[PCI_INTERRUPT_LINE] = 0;
}

int cleat_pci_probe(struct cleat_pci *pci, struct cleat_error *reterr)
{
	int err = probe_region(pci, reterr);

	if (!err)
		err = probe_header(pci, reterr);
	if (!err)
		err = cleat_pci_probe_bars(pci, reterr);
	if (!err)
		err = cleat_pci_probe_caps(pci, reterr);
	if (!err)
		err = cleat_pci_check_msix(pci, reterr);
	if (!err)
		err = cleat_pci_probe_extended(pci, reterr);
	if (err)
		return err;
	probe_pin(pci);
	cleat_pci_show_regs(pci);
	return 0;
}
