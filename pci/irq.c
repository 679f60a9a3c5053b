/* SPDX-License-Identifier: BSD-2-Clause */
#include <errno.h>
#include <string.h>

#include "pci/function.h"

int cleat_pci_type_of(const struct cleat_pci *pci, const struct pci_regs *regs)
{
	uint16_t live =
		PCI_COMMAND_IO | PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER;

	if (regs->msix & PCI_MSIX_FLAGS_ENABLE)
		return VFIO_PCI_MSIX_IRQ_INDEX;
	if (regs->msi & PCI_MSI_FLAGS_ENABLE)
		return VFIO_PCI_MSI_IRQ_INDEX;
	if (!pci->pin)
		return PCI_NO_IRQ;
	/* Disabling INTx for a while is no reason to tell the server. */
	if (pci->type == VFIO_PCI_INTX_IRQ_INDEX)
		return VFIO_PCI_INTX_IRQ_INDEX;
	if (!(regs->command & live) ||
	    (regs->command & PCI_COMMAND_INTX_DISABLE))
		return PCI_NO_IRQ;
	return VFIO_PCI_INTX_IRQ_INDEX;
}

static int wanted_type(struct cleat_pci *pci)
{
	int type = PCI_NO_IRQ;

	pthread_mutex_lock(&pci->lock);
	if (!pci->regs.hold && !atomic_load(&pci->gone) &&
	    !cleat_device_is_lost(pci->dev))
		type = cleat_pci_type_of(pci, &pci->regs);
	pthread_mutex_unlock(&pci->lock);
	return type;
}

static void set_type(struct cleat_pci *pci, int type)
{
	pthread_mutex_lock(&pci->lock);
	pci->type = type;
	pthread_mutex_unlock(&pci->lock);
}

/*
 * The guest's side first, so that nothing comes any more; then the server.
 */
static int leave_type(struct cleat_pci *pci, bool message)
{
	int err;

	if (pci->type == PCI_NO_IRQ)
		return 0;
	cleat_pci_vectors_unbind(pci);
	cleat_pci_intx_unbind(pci);
	if (cleat_irqs_enabled(pci->irqs) == pci->type) {
		if (!message)
			return -EAGAIN;
		err = cleat_irqs_disable(pci->irqs, (unsigned)pci->type);
		if (err && !cleat_device_is_lost(pci->dev))
			cleat_pci_log(pci,
				      "interrupts of type %d do not go "
				      "off: %s",
				      pci->type, strerror(-err));
	}
	cleat_pci_vectors_forget(pci);
	cleat_pci_intx_forget(pci);
	set_type(pci, PCI_NO_IRQ);
	return 0;
}

int cleat_pci_irq_sync(struct cleat_pci *pci, unsigned first, unsigned count,
		       bool message)
{
	int type = wanted_type(pci);
	int err;

	if (type != pci->type) {
		err = leave_type(pci, message);
		if (err)
			return err;
		set_type(pci, type);
	}
	if (type == PCI_NO_IRQ)
		return 0;
	if (type == VFIO_PCI_INTX_IRQ_INDEX)
		return cleat_pci_intx_sync(pci, message);
	return cleat_pci_vectors_sync(pci, first, count, message);
}

void cleat_pci_irq_sync_all(struct cleat_pci *pci)
{
	/* The worker has no handle, so that this cannot fail. */
	cleat_pci_turn_take(&pci->irq_turn, NULL);
	cleat_pci_irq_sync(pci, 0, pci->num_vectors, true);
	cleat_pci_turn_give(&pci->irq_turn);
}

int cleat_pci_irq_apply(struct cleat_pci *pci, unsigned first, unsigned count)
{
	int err = cleat_pci_turn_take(&pci->irq_turn, NULL);

	if (err)
		return err;
	err = cleat_pci_irq_sync(pci, first, count, false);
	cleat_pci_turn_give(&pci->irq_turn);
	if (err != -EAGAIN)
		return err;
	return cleat_pci_worker_wait(pci,
				     cleat_pci_worker_ask(pci, PCI_JOB_SYNC));
}
