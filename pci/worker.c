/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A thread of the function's that does what changes the server's state
 * (SET_IRQS, DEVICE_RESET): a vCPU that waited for these itself could not be
 * called back without losing the connection. It is there while there is
 * something to do and a little longer: an idle function has none.
 */
#include <errno.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

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

/* Mutex held, but not while a job is done: what there is; 0 if nothing. */
static unsigned work_off(struct cleat_pci *pci)
{
	struct pci_worker *worker = &pci->worker;
	unsigned jobs = worker->jobs;
	uint64_t asked = worker->asked;

	if (!jobs)
		return 0;
	worker->jobs = 0;
	pthread_mutex_unlock(&worker->mutex);
	run(pci, jobs);
	pthread_mutex_lock(&worker->mutex);
	worker->done = asked;
	pthread_cond_broadcast(&worker->cond);
	return jobs;
}

static void *work(void *opaque)
{
	struct cleat_pci *pci = opaque;
	struct pci_worker *worker = &pci->worker;
	unsigned jobs;

	pthread_mutex_lock(&worker->mutex);
	do {
		await_job(worker);
		jobs = work_off(pci);
	} while (jobs && !(jobs & PCI_JOB_QUIT));
	/* Under the mutex that askers hold: who sees no thread starts one. The
	 * function may be gone as soon as it is let go. */
	worker->running = false;
	pthread_cond_broadcast(&worker->cond);
	pthread_mutex_unlock(&worker->mutex);
	return NULL;
}

/* Mutex held. The VMM's signals are its own: none may be taken by it. */
static void try_thread(struct cleat_pci *pci)
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

/* Events thread. */
static void retry(void *opaque, uint32_t events)
{
	struct cleat_pci *pci = opaque;
	struct pci_worker *worker = &pci->worker;
	uint64_t count;

	pthread_mutex_lock(&worker->mutex);
	if (worker->retry && read(worker->timer, &count, sizeof(count)) > 0) {
		if (worker->jobs)
			try_thread(pci);
		if (worker->running || !worker->jobs) {
			cleat_watch_remove(worker->retry);
			worker->retry = NULL;
			cleat_close(&worker->timer);
		}
	}
	pthread_mutex_unlock(&worker->mutex);
}

/*
 * Mutex held. Who asked may not be one that waits: a guest whose reset nobody
 * does would never see its function again. Where there is no timer either, the
 * next who asks, waits or looks tries again.
 */
static void retry_later(struct cleat_pci *pci)
{
	static const struct itimerspec often = {
		.it_interval.tv_nsec = RETRY_NS,
		.it_value.tv_nsec = RETRY_NS,
	};
	struct pci_worker *worker = &pci->worker;

	if (worker->retry)
		return;
	worker->timer = timerfd_create(CLOCK_MONOTONIC,
				       TFD_CLOEXEC | TFD_NONBLOCK);
	if (worker->timer >= 0 &&
	    (timerfd_settime(worker->timer, 0, &often, NULL) ||
	     cleat_watch_add(worker->timer, EPOLLIN, retry, pci,
			     &worker->retry)))
		cleat_close(&worker->timer);
}

/* Mutex held. */
static void start_thread(struct cleat_pci *pci)
{
	try_thread(pci);
	if (!pci->worker.running)
		retry_later(pci);
}

void cleat_pci_worker_nudge(struct cleat_pci *pci)
{
	pthread_mutex_lock(&pci->worker.mutex);
	if (pci->worker.jobs)
		start_thread(pci);
	pthread_mutex_unlock(&pci->worker.mutex);
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

/*
 * Mutex held. There was no thread to be had. One that can be called back tries
 * again; any other is as good as the worker, and need not wait for one: a
 * function can be given back where there are no threads left.
 */
static void do_without_thread(struct cleat_pci *pci)
{
	static const struct timespec pause = { .tv_nsec = RETRY_NS };
	struct pci_worker *worker = &pci->worker;

	if (cleat_cancel_current()) {
		pthread_mutex_unlock(&worker->mutex);
		nanosleep(&pause, NULL);
		pthread_mutex_lock(&worker->mutex);
	} else {
		worker->running = true;
		work_off(pci);
		worker->running = false;
	}
	if (worker->jobs)
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
			do_without_thread(pci);
		else
			cleat_pci_cond_tick(&worker->cond, &worker->mutex);
	}
	pthread_mutex_unlock(&worker->mutex);
	return err;
}

int cleat_pci_worker_settle(struct cleat_pci *pci)
{
	uint64_t asked;

	pthread_mutex_lock(&pci->worker.mutex);
	asked = pci->worker.asked;
	pthread_mutex_unlock(&pci->worker.mutex);
	return cleat_pci_worker_wait(pci, asked);
}

int cleat_pci_worker_start(struct cleat_pci *pci)
{
	struct pci_worker *worker = &pci->worker;
	int err = cleat_cancel_create(&worker->cancel);

	worker->timer = -1;
	worker->started = !err;
	return err;
}

/* Nobody asks any more. */
static void end_retry(struct pci_worker *worker)
{
	struct cleat_watch *watch;

	pthread_mutex_lock(&worker->mutex);
	watch = worker->retry;
	worker->retry = NULL;
	pthread_mutex_unlock(&worker->mutex);
	/* Waits for the handler, which takes the mutex. */
	cleat_watch_remove(watch);
	cleat_close(&worker->timer);
}

void cleat_pci_worker_stop(struct cleat_pci *pci)
{
	struct pci_worker *worker = &pci->worker;

	if (!worker->started)
		return;
	end_retry(worker);
	pthread_mutex_lock(&worker->mutex);
	worker->jobs |= PCI_JOB_QUIT;
	pthread_cond_broadcast(&worker->cond);
	while (worker->running)
		pthread_cond_wait(&worker->cond, &worker->mutex);
	pthread_mutex_unlock(&worker->mutex);
	cleat_cancel_destroy(worker->cancel);
	worker->started = false;
}
