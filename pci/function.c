/* SPDX-License-Identifier: BSD-2-Clause */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "pci/function.h"

/* Withdrawn by the worker: the events thread may not wait for a turn. */
static void on_lost(struct cleat_device_hook *hook)
{
	struct cleat_pci *pci =
		(struct cleat_pci *)((char *)hook -
				     offsetof(struct cleat_pci, hook));

	cleat_pci_worker_ask(pci, PCI_JOB_SYNC);
}

/*
 * Everything off, whether or not the server still answers, and whether or not
 * the calling thread is called back.
 */
static void withdraw(struct cleat_pci *pci)
{
	struct cleat_cancel *cancel = cleat_cancel_current();

	cleat_cancel_enter(NULL);
	cleat_pci_irq_apply(pci, 0, pci->num_vectors);
	cleat_cancel_enter(cancel);
}

/* The guest's last reset may be under way, and it unplaces BARs. */
static void await_reset(struct cleat_pci *pci)
{
	struct cleat_cancel *cancel = cleat_cancel_current();

	cleat_cancel_enter(NULL);
	cleat_pci_worker_settle(pci);
	cleat_pci_turn_take(&pci->turn, NULL);
	cleat_pci_turn_give(&pci->turn);
	cleat_cancel_enter(cancel);
}

static void on_shutdown(struct cleat_device_hook *hook)
{
	struct cleat_pci *pci =
		(struct cleat_pci *)((char *)hook -
				     offsetof(struct cleat_pci, hook));

	cleat_device_hook_remove(pci->dev, hook);
	pci->hooked = false;
	atomic_store(&pci->gone, true);
	/* Only a reset waits under it, maybe for a minute. */
	cleat_cancel_set(pci->worker.cancel);
	withdraw(pci);
}

static int check_config(const struct cleat_pci_config *config,
			struct cleat_error *reterr)
{
	struct cleat_device_info info = { .size = sizeof(info) };

	if (config->size < sizeof(*config) || !config->device || !config->mmio)
		return cleat_fail(reterr, CLEAT_ORIGIN_LOCAL, -EINVAL,
				  "a function needs a device and a table");
	if (config->function > 0xffff ||
	    (config->ops && config->ops->size < sizeof(uint32_t)))
		return cleat_fail(reterr, CLEAT_ORIGIN_LOCAL, -EINVAL,
				  "function %#x, operations of %u bytes",
				  config->function,
				  config->ops ? config->ops->size : 0);
	if (cleat_device_info(config->device, &info) ||
	    !(info.flags & CLEAT_DEVICE_INFO_PCI))
		return cleat_fail(reterr, CLEAT_ORIGIN_DEVICE, -ENODEV,
				  "the server's device is no PCI device");
	return 0;
}

/* The parts that cleat_pci_unref() takes apart, each of which may be NULL. */
static struct cleat_pci *make(const struct cleat_pci_config *config)
{
	struct cleat_pci *pci = calloc(1, sizeof(*pci));
	size_t size;

	if (!pci)
		return NULL;
	pci->dev = config->device;
	pci->mmio = config->mmio;
	pci->function = config->function;
	pci->bind_ops = config->ops;
	pci->type = PCI_NO_IRQ;
	if (config->ops) {
		size = config->ops->size;
		memcpy(&pci->ops, config->ops,
		       size < sizeof(pci->ops) ? size : sizeof(pci->ops));
	}
	pthread_mutex_init(&pci->lock, NULL);
	pthread_mutex_init(&pci->worker.mutex, NULL);
	cleat_pci_cond_init(&pci->worker.cond);
	cleat_pci_turn_init(&pci->turn);
	cleat_pci_turn_init(&pci->irq_turn);
	cleat_pci_intx_init(pci);
	cleat_device_pin(pci->dev);
	return pci;
}

static void dismantle(struct cleat_pci *pci)
{
	cleat_irqs_destroy(pci->irqs);
	cleat_device_unpin(pci->dev);
	cleat_pci_intx_destroy(pci);
	cleat_pci_turn_destroy(&pci->irq_turn);
	cleat_pci_turn_destroy(&pci->turn);
	pthread_cond_destroy(&pci->worker.cond);
	pthread_mutex_destroy(&pci->worker.mutex);
	pthread_mutex_destroy(&pci->lock);
	free(pci->vectors);
	free(pci->table);
	free(pci->loaded);
	free(pci);
}

static int make_vectors(struct cleat_pci *pci)
{
	pci->num_vectors =
		pci->msix_most > pci->msi_most ? pci->msix_most : pci->msi_most;
	if (!pci->num_vectors)
		return 0;
	pci->vectors = calloc(pci->num_vectors, sizeof(*pci->vectors));
	if (!pci->vectors)
		return -ENOMEM;
	for (unsigned i = 0; i < pci->num_vectors; i++) {
		pci->vectors[i].pci = pci;
		pci->vectors[i].fd = -1;
	}
	cleat_pci_table_reset(pci);
	return 0;
}

static int start(struct cleat_pci *pci, struct cleat_error *reterr)
{
	int err = make_vectors(pci);

	if (!err)
		err = cleat_pci_worker_start(pci);
	if (err)
		return cleat_fail(reterr, CLEAT_ORIGIN_LOCAL, err,
				  "a function's worker and vectors: %s",
				  strerror(-err));
	err = cleat_pci_bind_bars(pci, reterr);
	if (err)
		return err;
	/* Whoever used the device before: the guest finds it at rest. */
	cleat_device_set_master(pci->dev, false);
	cleat_pci_quiet(pci);
	pci->hook.rank = CLEAT_HOOK_PCI;
	pci->hook.lost = on_lost;
	pci->hook.shutdown = on_shutdown;
	err = cleat_device_hook_add(pci->dev, &pci->hook);
	if (err)
		return cleat_fail(reterr, CLEAT_ORIGIN_LOCAL, err,
				  "the device is being shut down");
	pci->hooked = true;
	return 0;
}

int cleat_pci_create(const struct cleat_pci_config *config,
		     struct cleat_pci **ret_pci, struct cleat_error *reterr)
{
	struct cleat_pci *pci;
	int err = check_config(config, reterr);

	if (err)
		return err;
	pci = make(config);
	if (!pci)
		return cleat_fail(reterr, CLEAT_ORIGIN_LOCAL, -ENOMEM,
				  "no memory for a function");
	err = cleat_irqs_create(pci->dev, &pci->irqs);
	if (err)
		cleat_fail(reterr, CLEAT_ORIGIN_LOCAL, err, "interrupts: %s",
			   strerror(-err));
	else
		err = cleat_pci_probe(pci, reterr);
	if (!err)
		err = start(pci, reterr);
	if (err) {
		cleat_pci_unref(pci);
		return err;
	}
	*ret_pci = pci;
	return 0;
}

struct cleat_pci *cleat_pci_unref(struct cleat_pci *pci)
{
	if (!pci)
		return NULL;
	if (pci->hooked)
		cleat_device_hook_remove(pci->dev, &pci->hook);
	atomic_store(&pci->gone, true);
	if (pci->worker.started)
		cleat_cancel_set(pci->worker.cancel);
	await_reset(pci);
	/* The BARs first: accesses to the MSI-X table use the worker. */
	cleat_pci_unbind_bars(pci);
	if (pci->worker.started)
		withdraw(pci);
	cleat_pci_worker_stop(pci);
	/* The device is nobody's function any more. */
	cleat_device_set_master(pci->dev, true);
	dismantle(pci);
	return NULL;
}

struct cleat_binding *cleat_pci_binding(struct cleat_pci *pci, unsigned bar)
{
	return bar < PCI_NUM_BARS ? pci->bar[bar].binding : NULL;
}

static void count_vectors(struct cleat_pci *pci, struct cleat_pci_stats *stats)
{
	enum pci_bound how = pci->intx.how;

	stats->type = (uint32_t)(pci->type + 1);
	stats->vectors = how != PCI_UNBOUND;
	stats->irqfds = how == PCI_IRQFD;
	for (unsigned i = 0; i < pci->num_vectors; i++) {
		how = pci->vectors[i].how;
		stats->vectors += how != PCI_UNBOUND;
		stats->irqfds += how == PCI_IRQFD;
	}
}

int cleat_pci_stats(struct cleat_pci *pci, struct cleat_pci_stats *stats)
{
	struct cleat_pci_stats all = { .size = stats->size };

	if (stats->size < sizeof(uint32_t))
		return -EINVAL;
	pthread_mutex_lock(&pci->lock);
	count_vectors(pci, &all);
	pthread_mutex_unlock(&pci->lock);
	all.injected = atomic_load(&pci->injected);
	all.placed = atomic_load(&pci->placed);
	memcpy(stats, &all, all.size < sizeof(all) ? all.size : sizeof(all));
	return 0;
}
