/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * One thread per function, asleep nearly always. It does what changes the
 * server's state (SET_IRQS, DEVICE_RESET): a vCPU that waited for these itself
 * could not be called back without losing the connection.
 */
#include <errno.h>
#include <signal.h>

#include "pci/function.h"

static void run(struct cleat_pci *pci, unsigned jobs)
{
	if (jobs & PCI_JOB_SYNC)
		cleat_pci_irq_sync_all(pci);
	if (jobs & PCI_JOB_UNMASK)
		cleat_pci_intx_unmask(pci);
	if (jobs & PCI_JOB_RESET)
		cleat_pci_reset_run(pci);
}

static void *work(void *opaque)
{
	struct cleat_pci *pci = opaque;
	struct pci_worker *worker = &pci->worker;
	unsigned jobs = 0;
	uint64_t asked;

	pthread_mutex_lock(&worker->mutex);
	while (!(jobs & PCI_JOB_QUIT)) {
		while (!worker->jobs)
			pthread_cond_wait(&worker->cond, &worker->mutex);
		jobs = worker->jobs;
		worker->jobs = 0;
		asked = worker->asked;
		pthread_mutex_unlock(&worker->mutex);
		run(pci, jobs);
		pthread_mutex_lock(&worker->mutex);
		worker->done = asked;
		pthread_cond_broadcast(&worker->cond);
	}
	pthread_mutex_unlock(&worker->mutex);
	return NULL;
}

uint64_t cleat_pci_worker_ask(struct cleat_pci *pci, unsigned jobs)
{
	struct pci_worker *worker = &pci->worker;
	uint64_t ticket;

	pthread_mutex_lock(&worker->mutex);
	worker->jobs |= jobs;
	ticket = ++worker->asked;
	pthread_cond_broadcast(&worker->cond);
	pthread_mutex_unlock(&worker->mutex);
	return ticket;
}

int cleat_pci_worker_wait(struct cleat_pci *pci, uint64_t ticket)
{
	struct pci_worker *worker = &pci->worker;
	int err = 0;

	pthread_mutex_lock(&worker->mutex);
	while (worker->done < ticket && !err) {
		if (cleat_pci_called_back())
			err = -EINTR;
		else
			cleat_pci_cond_tick(&worker->cond, &worker->mutex);
	}
	pthread_mutex_unlock(&worker->mutex);
	return err;
}

/* The VMM's signals are its own: none may be taken by this thread. */
static int create_thread(struct cleat_pci *pci)
{
	sigset_t all, before;
	int err;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	err = -pthread_create(&pci->worker.thread, NULL, work, pci);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return err;
}

int cleat_pci_worker_start(struct cleat_pci *pci)
{
	struct pci_worker *worker = &pci->worker;
	int err = cleat_cancel_create(&worker->cancel);

	if (err)
		return err;
	err = create_thread(pci);
	if (err) {
		cleat_cancel_destroy(worker->cancel);
		worker->cancel = NULL;
		return err;
	}
	pthread_setname_np(worker->thread, "cleat-pci");
	worker->started = true;
	return 0;
}

void cleat_pci_worker_stop(struct cleat_pci *pci)
{
	struct pci_worker *worker = &pci->worker;

	if (!worker->started)
		return;
	cleat_pci_worker_ask(pci, PCI_JOB_QUIT);
	pthread_join(worker->thread, NULL);
	cleat_cancel_destroy(worker->cancel);
	worker->started = false;
}
