/* SPDX-License-Identifier: BSD-2-Clause */
#include <errno.h>
#include <string.h>

#include "pci/function.h"

uint64_t cleat_pci_reset_begin(struct cleat_pci *pci, enum pci_reset kind)
{
	pci->reset_kind = kind;
	atomic_store(&pci->resetting, true);
	/* Writes that wait for the turn are lost, as on a bus. */
	cleat_pci_turn_wake(&pci->turn);
	return cleat_pci_worker_ask(pci, PCI_JOB_RESET);
}

/* What the guest sees of us is as after power-on. */
static void reset_ours(struct cleat_pci *pci)
{
	unsigned msi_bytes = pci->cap.msi ? cleat_pci_msi_length(pci) : 4;

	pthread_mutex_lock(&pci->lock);
	pci->regs = (struct pci_regs){ .hold = true };
	pci->intx.kept = false;
	cleat_pci_show_regs(pci);
	memset(pci->cfg + pci->cap.msi + 4, 0, msi_bytes - 4);
	pthread_mutex_unlock(&pci->lock);
	cleat_device_set_master(pci->dev, false);
	cleat_pci_bars_reset(pci);
	cleat_pci_table_reset(pci);
	cleat_pci_bars_apply(pci);
	cleat_pci_irq_sync_all(pci);
}

static bool has_device_reset(struct cleat_pci *pci)
{
	struct cleat_device_info info = { .size = sizeof(info) };

	return !cleat_device_info(pci->dev, &info) &&
	       (info.flags & CLEAT_DEVICE_INFO_RESET);
}

static int reset_server(struct cleat_pci *pci)
{
	if (has_device_reset(pci))
		return cleat_device_reset(pci->dev);
	/* Then it reads the guest's wish in its own config space. */
	if (pci->reset_kind == PCI_RESET_EXPRESS)
		return cleat_pci_forward(pci, pci->cap.express + PCI_EXP_DEVCTL,
					 PCI_EXP_DEVCTL_BCR_FLR, 2);
	if (pci->reset_kind == PCI_RESET_AF)
		return cleat_pci_forward(pci, pci->cap.af + PCI_AF_CTRL,
					 PCI_AF_CTRL_FLR, 1);
	/* PCI_RESET_POWER was forwarded before the reset began. */
	return pci->reset_kind == PCI_RESET_POWER ? 0 : -EOPNOTSUPP;
}

void cleat_pci_reset_run(struct cleat_pci *pci)
{
	int err;

	reset_ours(pci);
	cleat_cancel_enter(pci->worker.cancel);
	err = reset_server(pci);
	if (!err || err == -EOPNOTSUPP)
		cleat_pci_quiet(pci);
	cleat_cancel_enter(NULL);
	if (err)
		cleat_pci_log(pci, "reset: %s", strerror(-err));
	pthread_mutex_lock(&pci->worker.mutex);
	pci->worker.result = err;
	pthread_mutex_unlock(&pci->worker.mutex);
	pthread_mutex_lock(&pci->lock);
	pci->regs.hold = false;
	pthread_mutex_unlock(&pci->lock);
	atomic_store(&pci->resetting, false);
	cleat_pci_turn_give(&pci->turn);
}

int cleat_pci_reset(struct cleat_pci *pci)
{
	int err = cleat_pci_turn_take(&pci->turn, NULL);

	if (!err)
		err = cleat_pci_worker_wait(
			pci, cleat_pci_reset_begin(pci, PCI_RESET_BUS));
	/* Called back, the reset goes on. */
	if (err)
		return -ECANCELED;
	pthread_mutex_lock(&pci->worker.mutex);
	err = pci->worker.result;
	pthread_mutex_unlock(&pci->worker.mutex);
	return err;
}
