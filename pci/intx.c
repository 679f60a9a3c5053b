/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The pin. Best: KVM raises the line from the server's eventfd and, when the
 * guest has ended the interrupt, writes an eventfd that the server reads. Where
 * the server does not take that, KVM writes one of ours and the worker tells
 * the server. Where KVM cannot resample, the events thread raises the line and
 * the VMM says when the guest has ended the interrupt.
 */
#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "pci/function.h"

#define INTX VFIO_PCI_INTX_IRQ_INDEX

bool cleat_pci_can_intx(const struct cleat_pci *pci)
{
	const struct cleat_vm_ops *ops = &pci->ops;

	return cleat_irqs_count(pci->irqs, INTX) && ops->intx_gsi &&
	       ((ops->irqfd_add && ops->irqfd_remove) || ops->line_set);
}

int cleat_pci_intx_init(struct cleat_pci *pci)
{
	pci->intx.fd = -1;
	pci->intx.unmask_fd = -1;
	pci->intx.resample = -1;
	return -pthread_mutex_init(&pci->intx.line_lock, NULL);
}

void cleat_pci_intx_destroy(struct cleat_pci *pci)
{
	if (pci->intx.resample >= 0)
		close(pci->intx.resample);
	pthread_mutex_destroy(&pci->intx.line_lock);
}

/* The guest has ended the interrupt: a server that holds its pin up fires
 * again. By message without @unmask_fd. */
static void tell_end_by(struct cleat_pci *pci, int unmask_fd)
{
	if (unmask_fd >= 0)
		cleat_kick_fd(unmask_fd);
	/* A server at rest refuses it, which would be taken for good. */
	else if (!atomic_load(&pci->intx.mute) && !atomic_load(&pci->frozen))
		cleat_pci_worker_ask(pci, PCI_JOB_UNMASK);
}

static void tell_end(struct cleat_pci *pci)
{
	tell_end_by(pci, pci->intx.unmask_fd);
}

void cleat_pci_intx_unmask(struct cleat_pci *pci)
{
	bool on;
	int err;

	pthread_mutex_lock(&pci->lock);
	on = pci->type == INTX && pci->intx.armed;
	pthread_mutex_unlock(&pci->lock);
	if (!on || atomic_load(&pci->intx.mute))
		return;
	err = cleat_irqs_unmask(pci->irqs, INTX, 0, 1);
	/*
	 * Servers say of INTx that it is neither maskable nor automasked when
	 * it is: so they are asked, until one refuses.
	 */
	if (err == -EINVAL || err == -EOPNOTSUPP || err == -ENOSYS)
		atomic_store(&pci->intx.mute, true);
}

/* Events thread. */
static void resampled(void *opaque, uint32_t events)
{
	struct cleat_pci *pci = opaque;
	uint64_t count;

	if (read(pci->intx.resample, &count, sizeof(count)) < 0)
		return;
	tell_end(pci);
}

static void set_line(struct cleat_pci *pci, bool level)
{
	struct pci_intx *intx = &pci->intx;

	pthread_mutex_lock(&intx->line_lock);
	if (intx->level != level)
		pci->ops.line_set(pci->ops.opaque, intx->gsi, level);
	intx->level = level;
	pthread_mutex_unlock(&intx->line_lock);
}

/* Events thread. */
static void fired(void *opaque, uint32_t events)
{
	struct cleat_pci *pci = opaque;

	if (!cleat_irqs_take(pci->irqs, INTX, 0))
		return;
	atomic_fetch_add(&pci->injected, 1);
	set_line(pci, true);
}

void cleat_pci_intx_eoi(struct cleat_pci *pci)
{
	struct pci_intx *intx = &pci->intx;
	int unmask_fd = -1;
	bool ended;

	pthread_mutex_lock(&intx->line_lock);
	/* Whoever else is on the line: only what we raised is ours to end. */
	ended = intx->level;
	if (ended) {
		intx->level = false;
		pci->ops.line_set(pci->ops.opaque, intx->gsi, false);
		/* Unlocked, it may be closed at any time. */
		if (intx->unmask_fd >= 0)
			unmask_fd = cleat_dup(intx->unmask_fd);
	}
	pthread_mutex_unlock(&intx->line_lock);
	/* A server can make a kick wait, and the events thread takes the lock:
	 * it would stand still for every device. */
	if (ended)
		tell_end_by(pci, unmask_fd);
	cleat_close(&unmask_fd);
}

static void set_how(struct cleat_pci *pci, enum pci_bound how)
{
	pthread_mutex_lock(&pci->lock);
	pci->intx.how = how;
	pthread_mutex_unlock(&pci->lock);
}

static int bind_resample(struct cleat_pci *pci)
{
	struct pci_intx *intx = &pci->intx;
	int resample = intx->unmask_fd;
	int err;

	if (!pci->ops.irqfd_add || !pci->ops.irqfd_remove)
		return -EOPNOTSUPP;
	if (resample < 0 && intx->resample < 0)
		intx->resample = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (resample < 0) {
		resample = intx->resample;
		err = resample < 0
			      ? -errno
			      : cleat_watch_add(resample, EPOLLIN, resampled,
						pci, &intx->watch);
		if (err)
			return err;
	}
	err = pci->ops.irqfd_add(pci->ops.opaque, intx->gsi, intx->fd,
				 resample);
	if (err) {
		cleat_watch_remove(intx->watch);
		intx->watch = NULL;
		return err;
	}
	set_how(pci, PCI_IRQFD);
	return 0;
}

static int bind_line(struct cleat_pci *pci)
{
	struct pci_intx *intx = &pci->intx;
	int err;

	if (!pci->ops.line_set)
		return -EOPNOTSUPP;
	err = cleat_watch_add(intx->fd, EPOLLIN, fired, pci, &intx->watch);
	if (!err)
		set_how(pci, PCI_WATCH);
	return err;
}

static void bind(struct cleat_pci *pci)
{
	struct pci_intx *intx = &pci->intx;
	uint32_t gsi;
	int err;

	err = pci->ops.intx_gsi(pci->ops.opaque, pci->function, pci->pin - 1u,
				&gsi);
	if (!err) {
		pthread_mutex_lock(&intx->line_lock);
		intx->gsi = gsi;
		pthread_mutex_unlock(&intx->line_lock);
		err = bind_resample(pci);
		if (err)
			err = bind_line(pci);
	}
	if (err)
		cleat_pci_log(pci, "INTx cannot be delivered: %s",
			      strerror(-err));
}

/*
 * Between the interrupt and its end the server may have its pin masked, and
 * with the irqfd gone nobody would tell it: told here, it fires again if it has
 * cause, and the eventfd keeps that.
 */
void cleat_pci_intx_unbind(struct cleat_pci *pci)
{
	struct pci_intx *intx = &pci->intx;

	if (intx->how == PCI_UNBOUND)
		return;
	if (intx->how == PCI_IRQFD)
		pci->ops.irqfd_remove(pci->ops.opaque, intx->gsi, intx->fd);
	cleat_watch_remove(intx->watch);
	intx->watch = NULL;
	if (intx->how == PCI_WATCH)
		set_line(pci, false);
	set_how(pci, PCI_UNBOUND);
	tell_end(pci);
}

void cleat_pci_intx_resumed(struct cleat_pci *pci)
{
	if (pci->type == INTX)
		tell_end(pci);
}

void cleat_pci_intx_forget(struct cleat_pci *pci)
{
	struct pci_intx *intx = &pci->intx;

	pthread_mutex_lock(&pci->lock);
	intx->armed = false;
	pthread_mutex_unlock(&pci->lock);
	intx->refused = false;
	intx->fd = -1;
	intx->unmask_fd = -1;
}

static void arm(struct cleat_pci *pci)
{
	struct pci_intx *intx = &pci->intx;
	int err = cleat_irqs_enable(pci->irqs, INTX, 1);
	int fd = err ? -1 : cleat_irqs_fd(pci->irqs, INTX, 0);
	bool kept;

	if (err)
		cleat_pci_log(pci, "INTx: %s", strerror(-err));
	intx->unmask_fd = -1;
	if (fd >= 0 &&
	    (cleat_irqs_flags(pci->irqs, INTX) & VFIO_IRQ_INFO_AUTOMASKED) &&
	    cleat_irqs_unmask_fd(pci->irqs, INTX, &intx->unmask_fd))
		intx->unmask_fd = -1;
	intx->fd = fd;
	intx->refused = fd < 0;
	pthread_mutex_lock(&pci->lock);
	intx->armed = fd >= 0;
	kept = intx->kept;
	intx->kept = false;
	pthread_mutex_unlock(&pci->lock);
	if (kept && fd >= 0)
		cleat_kick_fd(fd);
}

int cleat_pci_intx_sync(struct cleat_pci *pci, bool message)
{
	struct pci_intx *intx = &pci->intx;
	bool wanted;

	pthread_mutex_lock(&pci->lock);
	wanted = !(pci->regs.command & PCI_COMMAND_INTX_DISABLE) &&
		 !pci->regs.power;
	pthread_mutex_unlock(&pci->lock);
	if (!wanted) {
		cleat_pci_intx_unbind(pci);
		return 0;
	}
	if (intx->how != PCI_UNBOUND || intx->refused)
		return 0;
	if (!intx->armed) {
		if (!message)
			return -EAGAIN;
		arm(pci);
	}
	if (intx->armed && !atomic_load(&pci->frozen))
		bind(pci);
	return 0;
}

void cleat_pci_intx_rerouted(struct cleat_pci *pci)
{
	struct cleat_cancel *cancel = cleat_cancel_current();

	cleat_cancel_enter(NULL);
	cleat_pci_turn_take(&pci->irq_turn, NULL);
	cleat_pci_intx_unbind(pci);
	cleat_pci_turn_give(&pci->irq_turn);
	cleat_pci_irq_apply(pci, 0, pci->num_vectors);
	cleat_cancel_enter(cancel);
}
