/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * vCPUs stand still. A user who pauses is served at once: a vCPU may stop in
 * the middle of an access, called back out of the library, and makes the
 * access again when it goes on. Who wants to save the machine needs more: each
 * vCPU finishes the access that it has begun, and KVM takes the outcome in.
 */
#include <errno.h>
#include <signal.h>
#include <time.h>

#include "vmm/vmm.h"

#define KICK_AGAIN_MS 10

static struct timespec in_ms(unsigned ms)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	time.tv_sec += ms / 1000;
	time.tv_nsec += ms % 1000 * 1000000;
	if (time.tv_nsec >= 1000000000) {
		time.tv_nsec -= 1000000000;
		time.tv_sec++;
	}
	return time;
}

static bool over(const struct timespec *deadline)
{
	struct timespec now = in_ms(0);

	return now.tv_sec > deadline->tv_sec ||
	       (now.tv_sec == deadline->tv_sec &&
		now.tv_nsec >= deadline->tv_nsec);
}

int cleat_vmm_pause_init(struct pause *pause)
{
	pthread_condattr_t attr;
	int err;

	*pause = (struct pause){ .lock = PTHREAD_MUTEX_INITIALIZER };
	err = pthread_condattr_init(&attr);
	if (err)
		return -err;
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	err = pthread_cond_init(&pause->changed, &attr);
	pthread_condattr_destroy(&attr);
	return -err;
}

bool cleat_vmm_pausing(struct vm *vm)
{
	return atomic_load(&vm->pause.wanted) != 0;
}

/* Where a vCPU may stand still now: nowhere, anywhere, or between accesses. */
static bool may_stand(struct vm *vm, enum parked where)
{
	unsigned wanted = atomic_load(&vm->pause.wanted);

	if (where == PARKED_INSIDE)
		return wanted == PAUSE_USER;
	return wanted != 0;
}

void cleat_vmm_park(struct vcpu *vcpu, enum parked where)
{
	struct vm *vm = vcpu->vm;
	struct pause *pause = &vm->pause;
	bool stood = false;

	pthread_mutex_lock(&pause->lock);
	while (may_stand(vm, where) && !cleat_vmm_stopping(vm)) {
		/* Once: those who stand still wake one another otherwise. */
		if (!stood)
			pthread_cond_broadcast(&pause->changed);
		stood = true;
		vcpu->parked = where;
		pthread_cond_wait(&pause->changed, &pause->lock);
	}
	vcpu->parked = PARKED_NOT;
	pthread_mutex_unlock(&pause->lock);
	/* What a reader of ours did not take while we had to stop. */
	if (stood && where == PARKED_BETWEEN)
		cleat_vmm_serial_flush(&vm->serial);
}

/*
 * The flag catches a vCPU on its way into KVM_RUN, and makes KVM take in a
 * finished access without running the guest; the handle ends waits in the
 * library, which is only right where the access may be left unfinished.
 */
static void tell(struct vm *vm)
{
	unsigned wanted = atomic_load(&vm->pause.wanted);
	unsigned i;

	for (i = 0; i < vm->vcpu_count; i++) {
		struct vcpu *vcpu = &vm->vcpus[i];

		if (!vcpu->run || cleat_vmm_stopping(vm))
			continue;
		vcpu->run->immediate_exit = wanted != 0;
		if (wanted == PAUSE_USER)
			cleat_cancel_set(vcpu->cancel);
		else
			cleat_cancel_clear(vcpu->cancel);
	}
	pthread_cond_broadcast(&vm->pause.changed);
}

/* Return: how many still run; they are kicked. */
static unsigned kick_the_rest(struct vm *vm)
{
	bool anywhere = atomic_load(&vm->pause.wanted) == PAUSE_USER;
	unsigned i, running = 0;

	for (i = 0; i < vm->vcpu_count; i++) {
		struct vcpu *vcpu = &vm->vcpus[i];

		if (!vcpu->started || atomic_load(&vcpu->ended) ||
		    vcpu->parked == PARKED_BETWEEN ||
		    (anywhere && vcpu->parked == PARKED_INSIDE))
			continue;
		running++;
		pthread_kill(vcpu->thread, VCPU_KICK);
	}
	return running;
}

static int wait_for_all(struct vm *vm, unsigned ms)
{
	struct timespec deadline = in_ms(ms);

	while (kick_the_rest(vm)) {
		struct timespec again = in_ms(KICK_AGAIN_MS);

		if (cleat_vmm_stopping(vm))
			return -ECANCELED;
		if (over(&deadline))
			return -ETIMEDOUT;
		pthread_cond_timedwait(&vm->pause.changed, &vm->pause.lock,
				       &again);
	}
	return 0;
}

int cleat_vmm_pause(struct vm *vm, unsigned who, unsigned ms)
{
	struct pause *pause = &vm->pause;
	int err;

	pthread_mutex_lock(&pause->lock);
	atomic_fetch_or(&pause->wanted, who);
	tell(vm);
	err = wait_for_all(vm, ms);
	if (err) {
		atomic_fetch_and(&pause->wanted, ~who);
		tell(vm);
	}
	pthread_mutex_unlock(&pause->lock);
	return err;
}

void cleat_vmm_resume(struct vm *vm, unsigned who)
{
	pthread_mutex_lock(&vm->pause.lock);
	atomic_fetch_and(&vm->pause.wanted, ~who);
	tell(vm);
	pthread_mutex_unlock(&vm->pause.lock);
}

void cleat_vmm_pause_end(struct vm *vm)
{
	pthread_mutex_lock(&vm->pause.lock);
	pthread_cond_broadcast(&vm->pause.changed);
	pthread_mutex_unlock(&vm->pause.lock);
}
