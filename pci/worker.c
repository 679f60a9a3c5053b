/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A thread of the function's that does what changes the server's state
 * (SET_IRQS, DEVICE_RESET): a vCPU that waited for these itself could not be
 * called back without losing the connection. It is there while there is
 * something to do and a little longer: an idle function has none.
 */
#include <errno.h>
#include <signal.h>
#include <time.h>

#include "pci/function.h"

/* A guest that sets a device up asks for one thing after the other. */
#define LINGER_S 1
#define RETRY_NS 20000000

static void run(struct cleat_pci *pci, unsigned jobs)
{
	if (jobs & PCI_JOB_SYNC)
		cleat_pci_irq_sync_all(pci);
	if (jobs & PCI_JOB_UNMASK)
		cleat_pci_intx_unmask(pci);
	if (jobs & PCI_JOB_RESET)
		cleat_pci_reset_run(pci);
}

/* Mutex held: until there is a job, and if none comes for a while without. */
static void await_job(struct pci_worker *worker)
{
	struct timespec until;

	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += LINGER_S;
	while (!worker->jobs)
		if (pthread_cond_timedwait(&worker->cond, &worker->mutex,
					   &until))
			return;
}

static void *work(void *opaque)
{
	struct cleat_pci *pci = opaque;
	struct pci_worker *worker = &pci->worker;
	uint64_t asked;

	pthread_mutex_lock(&worker->mutex);
	for (;;) {
		unsigned jobs;

		await_job(worker);
		jobs = worker->jobs;
		if (!jobs)
			break;
		worker->jobs = 0;
		asked = worker->asked;
		pthread_mutex_unlock(&worker->mutex);
		run(pci, jobs);
		pthread_mutex_lock(&worker->mutex);
		worker->done = asked;
		pthread_cond_broadcast(&worker->cond);
		if (jobs & PCI_JOB_QUIT)
			break;
	}
	/* Under the mutex that askers hold: who sees no thread starts one. The
	 * function may be gone as soon as it is let go. */
	worker->running = false;
	pthread_cond_broadcast(&worker->cond);
	pthread_mutex_unlock(&worker->mutex);
	return NULL;
}

/* Mutex held. The VMM's signals are its own: none may be taken by it. */
static void start_thread(struct cleat_pci *pci)
{
	struct pci_worker *worker = &pci->worker;
	sigset_t all, before;
	pthread_attr_t attr;
	pthread_t thread;

	if (worker->running)
		return;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	pthread_attr_init(&attr);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	worker->running = !pthread_create(&thread, &attr, work, pci);
	if (worker->running)
		pthread_setname_np(thread, "cleat-pci");
	pthread_attr_destroy(&attr);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
}

uint64_t cleat_pci_worker_ask(struct cleat_pci *pci, unsigned jobs)
{
	struct pci_worker *worker = &pci->worker;
	uint64_t ticket;

	pthread_mutex_lock(&worker->mutex);
	worker->jobs |= jobs;
	ticket = ++worker->asked;
	start_thread(pci);
	pthread_cond_broadcast(&worker->cond);
	pthread_mutex_unlock(&worker->mutex);
	return ticket;
}

/* Mutex held. There was no thread to be had: try again. */
static void wait_for_thread(struct cleat_pci *pci)
{
	static const struct timespec pause = { .tv_nsec = RETRY_NS };

	pthread_mutex_unlock(&pci->worker.mutex);
	nanosleep(&pause, NULL);
	pthread_mutex_lock(&pci->worker.mutex);
	start_thread(pci);
}

int cleat_pci_worker_wait(struct cleat_pci *pci, uint64_t ticket)
{
	struct pci_worker *worker = &pci->worker;
	int err = 0;

	pthread_mutex_lock(&worker->mutex);
	while (worker->done < ticket && !err) {
		if (cleat_pci_called_back())
			err = -EINTR;
		else if (!worker->running)
			wait_for_thread(pci);
		else
			cleat_pci_cond_tick(&worker->cond, &worker->mutex);
	}
	pthread_mutex_unlock(&worker->mutex);
	return err;
}

int cleat_pci_worker_start(struct cleat_pci *pci)
{
	struct pci_worker *worker = &pci->worker;
	int err = cleat_cancel_create(&worker->cancel);

	worker->started = !err;
	return err;
}

void cleat_pci_worker_stop(struct cleat_pci *pci)
{
	struct pci_worker *worker = &pci->worker;

	if (!worker->started)
		return;
	pthread_mutex_lock(&worker->mutex);
	worker->jobs |= PCI_JOB_QUIT;
	pthread_cond_broadcast(&worker->cond);
	while (worker->running)
		pthread_cond_wait(&worker->cond, &worker->mutex);
	pthread_mutex_unlock(&worker->mutex);
	cleat_cancel_destroy(worker->cancel);
	worker->started = false;
}
