/* SPDX-License-Identifier: BSD-2-Clause */
/* What the guest wants of each vector. */
#include "pci/function.h"

unsigned cleat_pci_msi_enabled(const struct cleat_pci *pci)
{
	return 1u << ((pci->regs.msi & PCI_MSI_FLAGS_QSIZE) >> 4);
}

/* No message leaves a function that is no bus master or asleep. */
static bool can_send(const struct cleat_pci *pci)
{
	return (pci->regs.command & PCI_COMMAND_MASTER) && !pci->regs.power &&
	       !atomic_load(&pci->frozen);
}

static void plan_msi(struct cleat_pci *pci, unsigned index)
{
	struct pci_vector *vector = &pci->vectors[index];
	const uint8_t *cap = pci->cfg + pci->cap.msi;
	unsigned count = cleat_pci_msi_enabled(pci);
	const uint8_t *data =
		cap + (pci->msi_wide ? PCI_MSI_DATA_64 : PCI_MSI_DATA_32);
	bool masked = false;

	if (pci->msi_maskable && index < 32)
		masked = cleat_pci_get32(data + 4) & 1u << index;
	vector->used = index < count;
	vector->wanted = vector->used && !masked && can_send(pci);
	vector->plan.address = cleat_pci_get32(cap + PCI_MSI_ADDRESS_LO);
	if (pci->msi_wide)
		vector->plan.address |=
			(uint64_t)cleat_pci_get32(cap + PCI_MSI_ADDRESS_HI)
			<< 32;
	/* The low bits of the data tell the vectors apart. */
	vector->plan.data =
		(cleat_pci_get16(data) & ~(count - 1)) | (index & (count - 1));
}

static void plan_msix(struct cleat_pci *pci, unsigned index)
{
	struct pci_vector *vector = &pci->vectors[index];
	const uint8_t *entry = pci->table + index * PCI_MSIX_ENTRY_SIZE;
	bool masked =
		entry[PCI_MSIX_ENTRY_VECTOR_CTRL] & PCI_MSIX_ENTRY_CTRL_MASKBIT;
	bool whole = index < pci->msix_most &&
		     !(pci->regs.msix & PCI_MSIX_FLAGS_MASKALL);

	vector->plan.address = cleat_pci_get64(entry) & ~3ull;
	vector->plan.data = cleat_pci_get32(entry + PCI_MSIX_ENTRY_DATA);
	/* One that the guest has programmed can become pending. */
	vector->used = vector->kept || (whole && (!masked ||
						  vector->plan.address ||
						  vector->plan.data));
	vector->wanted = whole && !masked && can_send(pci);
}

void cleat_pci_vector_plan(struct cleat_pci *pci, unsigned index)
{
	struct pci_vector *vector = &pci->vectors[index];

	vector->plan.requester = pci->function;
	if (pci->type == VFIO_PCI_MSIX_IRQ_INDEX && index < pci->msix_most)
		plan_msix(pci, index);
	else if (pci->type == VFIO_PCI_MSI_IRQ_INDEX && index < pci->msi_most)
		plan_msi(pci, index);
	else
		vector->used = vector->wanted = false;
}

bool cleat_pci_vector_pending(struct cleat_pci *pci, int type, unsigned index)
{
	bool waits;

	pthread_mutex_lock(&pci->lock);
	waits = pci->type == type && index < pci->num_vectors &&
		pci->vectors[index].armed &&
		pci->vectors[index].how == PCI_UNBOUND;
	pthread_mutex_unlock(&pci->lock);
	return waits && cleat_irqs_pending(pci->irqs, (unsigned)type, index);
}
