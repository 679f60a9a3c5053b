/* SPDX-License-Identifier: BSD-2-Clause */
#include <errno.h>
#include <time.h>

#include "pci/function.h"

/* Well below the 100 ms in which a vCPU that is called back has to be out. */
#define TICK_NS 20000000

int cleat_pci_cond_init(pthread_cond_t *cond)
{
	pthread_condattr_t attr;
	int err;

	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	err = pthread_cond_init(cond, &attr);
	pthread_condattr_destroy(&attr);
	return -err;
}

void cleat_pci_cond_tick(pthread_cond_t *cond, pthread_mutex_t *mutex)
{
	struct timespec until;

	/* Only a thread with a handle can be called back. */
	if (!cleat_cancel_current()) {
		pthread_cond_wait(cond, mutex);
		return;
	}
	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_nsec += TICK_NS;
	if (until.tv_nsec >= 1000000000) {
		until.tv_nsec -= 1000000000;
		until.tv_sec++;
	}
	pthread_cond_timedwait(cond, mutex, &until);
}

bool cleat_pci_called_back(void)
{
	return cleat_cancel_is_set(cleat_cancel_current());
}

int cleat_pci_turn_init(struct pci_turn *turn)
{
	pthread_mutex_init(&turn->mutex, NULL);
	return cleat_pci_cond_init(&turn->cond);
}

void cleat_pci_turn_destroy(struct pci_turn *turn)
{
	pthread_cond_destroy(&turn->cond);
	pthread_mutex_destroy(&turn->mutex);
}

int cleat_pci_turn_take(struct pci_turn *turn, const atomic_bool *give_up)
{
	int err = 0;

	pthread_mutex_lock(&turn->mutex);
	while (turn->taken && !err) {
		if (give_up && atomic_load(give_up))
			err = -ENODEV;
		else if (cleat_pci_called_back())
			err = -EINTR;
		else
			cleat_pci_cond_tick(&turn->cond, &turn->mutex);
	}
	if (!err)
		turn->taken = true;
	pthread_mutex_unlock(&turn->mutex);
	return err;
}

void cleat_pci_turn_give(struct pci_turn *turn)
{
	pthread_mutex_lock(&turn->mutex);
	turn->taken = false;
	pthread_cond_broadcast(&turn->cond);
	pthread_mutex_unlock(&turn->mutex);
}

void cleat_pci_turn_wake(struct pci_turn *turn)
{
	pthread_mutex_lock(&turn->mutex);
	pthread_cond_broadcast(&turn->cond);
	pthread_mutex_unlock(&turn->mutex);
}
