/* SPDX-License-Identifier: BSD-2-Clause */
/* What the function says of MSI and MSI-X. */
#include <errno.h>
#include <stdlib.h>

#include "pci/function.h"

unsigned cleat_pci_msi_length(const struct cleat_pci *pci)
{
	if (pci->msi_maskable)
		return pci->msi_wide ? 0x18 : 0x14;
	return pci->msi_wide ? 0xe : 0xa;
}

static unsigned floor_log2(unsigned n)
{
	unsigned bits = 0;

	while (n >>= 1)
		bits++;
	return bits;
}

/*
 * The guest is shown what can be delivered: a vector that the server has no
 * interrupt for would stay silent.
 */
int cleat_pci_probe_msi(struct cleat_pci *pci, uint8_t at, bool *ret_hide,
			struct cleat_error *reterr)
{
	uint8_t *control = pci->cfg + at + PCI_MSI_FLAGS;
	unsigned have = cleat_irqs_count(pci->irqs, VFIO_PCI_MSI_IRQ_INDEX);
	uint16_t flags = cleat_pci_get16(control);
	unsigned most = (flags & PCI_MSI_FLAGS_QMASK) >> 1;

	if (most > 5)
		return cleat_fail(reterr, CLEAT_ORIGIN_DEVICE, -EPROTO,
				  "MSI with a count of 2 to the %u", most);
	pci->msi_wide = flags & PCI_MSI_FLAGS_64BIT;
	pci->msi_maskable = flags & PCI_MSI_FLAGS_MASKBIT;
	cleat_pci_claim(pci, at, cleat_pci_msi_length(pci));
	for (unsigned i = 4; i < cleat_pci_msi_length(pci); i++)
		pci->cfg[at + i] = 0;
	*ret_hide = !have || !cleat_pci_can_msi(pci);
	if (*ret_hide)
		return 0;
	if (have < 1u << most)
		most = floor_log2(have);
	flags &= PCI_MSI_FLAGS_64BIT | PCI_MSI_FLAGS_MASKBIT;
	cleat_pci_put16(control, (uint16_t)(flags | most << 1));
	pci->cap.msi = at;
	pci->msi_most = 1u << most;
	return 0;
}

int cleat_pci_probe_msix(struct cleat_pci *pci, uint8_t at, bool *ret_hide,
			 struct cleat_error *reterr)
{
	uint8_t *control = pci->cfg + at + PCI_MSIX_FLAGS;
	unsigned have = cleat_irqs_count(pci->irqs, VFIO_PCI_MSIX_IRQ_INDEX);
	unsigned size = (cleat_pci_get16(control) & PCI_MSIX_FLAGS_QSIZE) + 1u;
	uint32_t table = cleat_pci_get32(pci->cfg + at + PCI_MSIX_TABLE);
	uint32_t pba = cleat_pci_get32(pci->cfg + at + PCI_MSIX_PBA);

	cleat_pci_claim(pci, at, PCI_CAP_MSIX_SIZEOF);
	*ret_hide = !have || !cleat_pci_can_msi(pci);
	if (*ret_hide)
		return 0;
	if (size > have)
		size = have;
	cleat_pci_put16(control, (uint16_t)(size - 1));
	pci->table = calloc(size, PCI_MSIX_ENTRY_SIZE);
	if (!pci->table)
		return cleat_fail(reterr, CLEAT_ORIGIN_LOCAL, -ENOMEM,
				  "no memory for an MSI-X table");
	pci->cap.msix = at;
	pci->msix_most = size;
	pci->table_bar = table & PCI_MSIX_TABLE_BIR;
	pci->table_at = table & PCI_MSIX_TABLE_OFFSET;
	pci->pba_bar = pba & PCI_MSIX_PBA_BIR;
	pci->pba_at = pba & PCI_MSIX_PBA_OFFSET;
	return 0;
}

static int check_window(struct cleat_pci *pci, const char *what, unsigned bar,
			uint64_t at, uint64_t length,
			struct cleat_error *reterr)
{
	/* BIR 6 and 7 are reserved; the ROM is no place for it. */
	if (bar > 5 || !pci->bar[bar].size ||
	    (pci->bar[bar].flags & PCI_BASE_ADDRESS_SPACE_IO))
		return cleat_fail(reterr, CLEAT_ORIGIN_DEVICE, -EPROTO,
				  "MSI-X %s in BAR %u, which is no memory",
				  what, bar);
	if (at > pci->bar[bar].length || length > pci->bar[bar].length - at)
		return cleat_fail(reterr, CLEAT_ORIGIN_DEVICE, -EPROTO,
				  "MSI-X %s outside of BAR %u", what, bar);
	return 0;
}

int cleat_pci_check_msix(struct cleat_pci *pci, struct cleat_error *reterr)
{
	uint64_t table_end = pci->table_at + cleat_pci_table_length(pci);
	uint64_t pba_end = pci->pba_at + cleat_pci_pba_length(pci);
	int err;

	if (!pci->cap.msix)
		return 0;
	err = check_window(pci, "table", pci->table_bar, pci->table_at,
			   cleat_pci_table_length(pci), reterr);
	if (!err)
		err = check_window(pci, "PBA", pci->pba_bar, pci->pba_at,
				   cleat_pci_pba_length(pci), reterr);
	if (err)
		return err;
	if (pci->table_bar == pci->pba_bar && pci->table_at < pba_end &&
	    pci->pba_at < table_end)
		return cleat_fail(reterr, CLEAT_ORIGIN_DEVICE, -EPROTO,
				  "MSI-X table and PBA lie over one another");
	return 0;
}
