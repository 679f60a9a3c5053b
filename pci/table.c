/* SPDX-License-Identifier: BSD-2-Clause */
/* The MSI-X table and the pending bits, which no server sees. */
#include <string.h>

#include "pci/function.h"

unsigned cleat_pci_table_length(const struct cleat_pci *pci)
{
	return pci->msix_most * PCI_MSIX_ENTRY_SIZE;
}

unsigned cleat_pci_pba_length(const struct cleat_pci *pci)
{
	return (pci->msix_most + 63) / 64 * 8;
}

void cleat_pci_table_reset(struct cleat_pci *pci)
{
	if (!pci->table)
		return;
	pthread_mutex_lock(&pci->lock);
	memset(pci->table, 0, cleat_pci_table_length(pci));
	for (unsigned i = 0; i < pci->msix_most; i++)
		pci->table[i * PCI_MSIX_ENTRY_SIZE +
			   PCI_MSIX_ENTRY_VECTOR_CTRL] =
			PCI_MSIX_ENTRY_CTRL_MASKBIT;
	pthread_mutex_unlock(&pci->lock);
}

static bool is_absent(struct cleat_pci *pci)
{
	return atomic_load(&pci->resetting) || atomic_load(&pci->gone) ||
	       cleat_device_is_lost(pci->dev);
}

/* Of vector control, only the mask bit is there. */
static void store(struct cleat_pci *pci, uint64_t offset, const uint8_t *data,
		  unsigned length)
{
	for (unsigned i = 0; i < length; i++) {
		unsigned reg = (unsigned)(offset + i) % PCI_MSIX_ENTRY_SIZE;
		uint8_t bits = 0xff;

		if (reg >= PCI_MSIX_ENTRY_VECTOR_CTRL)
			bits = reg == PCI_MSIX_ENTRY_VECTOR_CTRL
				       ? PCI_MSIX_ENTRY_CTRL_MASKBIT
				       : 0;
		pci->table[offset + i] = data[i] & bits;
	}
}

/* The access lies inside: mmio cuts it at the window's end. */
static bool is_inside(uint64_t offset, unsigned length, unsigned size)
{
	return length <= size && offset <= size - length;
}

int cleat_pci_table_access(void *opaque, uint64_t offset, void *data,
			   unsigned length, bool write)
{
	struct cleat_pci *pci = opaque;
	bool absent = is_absent(pci);
	unsigned first, last;

	if (!is_inside(offset, length, cleat_pci_table_length(pci)))
		return 0;
	pthread_mutex_lock(&pci->lock);
	if (!write)
		memcpy(data, pci->table + offset, length);
	else if (!absent)
		store(pci, offset, data, length);
	pthread_mutex_unlock(&pci->lock);
	if (!write && absent)
		memset(data, 0xff, length);
	if (!write || absent)
		return 0;
	first = (unsigned)offset / PCI_MSIX_ENTRY_SIZE;
	last = (unsigned)(offset + length - 1) / PCI_MSIX_ENTRY_SIZE;
	return cleat_pci_irq_apply(pci, first, last - first + 1);
}

int cleat_pci_pba_access(void *opaque, uint64_t offset, void *data,
			 unsigned length, bool write)
{
	struct cleat_pci *pci = opaque;
	uint8_t *bytes = data;

	/* Read-only. */
	if (write)
		return 0;
	memset(bytes, is_absent(pci) ? 0xff : 0, length);
	if (is_absent(pci) ||
	    !is_inside(offset, length, cleat_pci_pba_length(pci)))
		return 0;
	for (unsigned i = 0; i < 8 * length; i++)
		if (cleat_pci_vector_pending(pci, VFIO_PCI_MSIX_IRQ_INDEX,
					     (unsigned)offset * 8 + i))
			bytes[i / 8] |= (uint8_t)(1u << i % 8);
	return 0;
}
