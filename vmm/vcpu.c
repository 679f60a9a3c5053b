/* SPDX-License-Identifier: BSD-2-Clause */
/* One thread per vCPU, around KVM_RUN. */
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "vmm/vmm.h"

#define KICK_AGAIN_MS 10

/* The vCPU whose thread this is. */
static _Thread_local struct vcpu *self;

/* Its only work is to interrupt a system call. */
static void on_kick(int signal)
{
}

bool cleat_vmm_called_back(struct vm *vm)
{
	if (self)
		cleat_vmm_park(self, PARKED_INSIDE);
	return !cleat_vmm_stopping(vm);
}

/*
 * A device of ours, one of the library's, or nobody: then nothing answers, and
 * the bus floats at ones. -EINTR is somebody who wants this thread to stop; it
 * is the same access again if the run goes on.
 */
static void access_bus(struct vcpu *vcpu, enum cleat_space space,
		       uint64_t address, void *data, unsigned length,
		       bool is_write)
{
	struct vm *vm = vcpu->vm;
	int err;

	if (cleat_vmm_bus_access(&vm->bus, space, address, data, length,
				 is_write))
		return;
	do
		err = cleat_mmio_access(vm->devices.mmio, space, address, data,
					length, is_write);
	while (err == -EINTR && cleat_vmm_called_back(vm));
	if (err && !is_write)
		memset(data, 0xff, length);
}

/* A string instruction brings several units for one port in one exit. */
static void handle_io(struct vcpu *vcpu)
{
	struct kvm_run *run = vcpu->run;
	uint8_t *data = (uint8_t *)run + run->io.data_offset;
	uint32_t i;

	for (i = 0; i < run->io.count && !cleat_vmm_stopping(vcpu->vm); i++)
		access_bus(vcpu, CLEAT_PORTS, run->io.port,
			   data + i * run->io.size, run->io.size,
			   run->io.direction == KVM_EXIT_IO_OUT);
}

static void give_up(struct vcpu *vcpu, const char *what, uint64_t detail)
{
	struct kvm_regs regs = { 0 };

	/* Best effort: it only makes the message better. */
	ioctl(vcpu->fd, KVM_GET_REGS, &regs);
	if (!cleat_vmm_stopping(vcpu->vm))
		cleat_vmm_say("CPU %u: %s (%#llx) at rip %#llx: the guest cannot go on",
			      vcpu->id, what, (unsigned long long)detail,
			      (unsigned long long)regs.rip);
	cleat_vmm_stop(vcpu->vm, OUTCOME_ERROR);
}

static void handle_exit(struct vcpu *vcpu)
{
	struct kvm_run *run = vcpu->run;
	uint32_t reason = run->exit_reason;

	vcpu->returns[reason < EXIT_REASONS ? reason : 0]++;
	switch (reason) {
	case KVM_EXIT_MMIO:
		access_bus(vcpu, CLEAT_MEMORY, run->mmio.phys_addr,
			   run->mmio.data, run->mmio.len, run->mmio.is_write);
		break;
	case KVM_EXIT_IO:
		handle_io(vcpu);
		break;
	case KVM_EXIT_INTR:
	case KVM_EXIT_IRQ_WINDOW_OPEN:
		break;
	case KVM_EXIT_SHUTDOWN:
		cleat_vmm_stop(vcpu->vm, OUTCOME_TRIPLE_FAULT);
		break;
	case KVM_EXIT_FAIL_ENTRY:
		give_up(vcpu, "KVM could not enter it",
			run->fail_entry.hardware_entry_failure_reason);
		break;
	case KVM_EXIT_INTERNAL_ERROR:
		give_up(vcpu, "KVM cannot emulate what it does",
			run->internal.suberror);
		break;
	default:
		give_up(vcpu, "KVM gave up for an unknown reason", reason);
	}
}

static void handle_failure(struct vcpu *vcpu, int error)
{
	switch (error) {
	case EINTR:
		/* KVM has taken in what the last access brought. */
		vcpu->interrupted++;
		cleat_vmm_park(vcpu, PARKED_BETWEEN);
		break;
	case EAGAIN:
		vcpu->interrupted++;
		break;
	case EFAULT:
		/* A server took pages away that the guest was using. */
		vcpu->faults++;
		if (cleat_mmio_fault(vcpu->vm->devices.mmio))
			give_up(vcpu, "no memory where there should be some",
				0);
		break;
	default:
		give_up(vcpu, strerror(error), (uint64_t)error);
	}
}

/*
 * What this vCPU has stored goes to the servers before anything else happens:
 * before it stands still, above all, because then the machine may be saved.
 */
static void send_stores(struct vcpu *vcpu)
{
	int err;

	do
		err = cleat_mmio_drain(vcpu->vm->devices.mmio);
	while (err == -EINTR && cleat_vmm_called_back(vcpu->vm));
}

static void *run(void *opaque)
{
	struct vcpu *vcpu = opaque;

	self = vcpu;
	cleat_cancel_enter(vcpu->cancel);
	cleat_vmm_park(vcpu, PARKED_BETWEEN);
	while (!cleat_vmm_stopping(vcpu->vm)) {
		int error = ioctl(vcpu->fd, KVM_RUN, 0) ? errno : 0;

		send_stores(vcpu);
		if (error)
			handle_failure(vcpu, error);
		else
			handle_exit(vcpu);
	}
	cleat_cancel_enter(NULL);
	atomic_store(&vcpu->ended, true);
	return NULL;
}

static int open_vcpu(struct vcpu *vcpu)
{
	const struct machine *machine = &vcpu->vm->machine;
	int size = ioctl(machine->kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
	void *area;

	vcpu->fd = ioctl(machine->vm, KVM_CREATE_VCPU,
			 (unsigned long)vcpu->id);
	if (vcpu->fd < 0 || size < (int)sizeof(*vcpu->run))
		return cleat_vmm_fail(-errno, "CPU %u: KVM_CREATE_VCPU: %m",
				      vcpu->id);
	area = mmap(NULL, (size_t)size, PROT_READ | PROT_WRITE, MAP_SHARED,
		    vcpu->fd, 0);
	if (area == MAP_FAILED)
		return cleat_vmm_fail(-errno, "CPU %u: mmap: %m", vcpu->id);
	vcpu->run = area;
	vcpu->run_size = (size_t)size;
	return 0;
}

int cleat_vmm_vcpu_create(struct vcpu *vcpu, struct vm *vm, unsigned id)
{
	const char *what;
	int err;

	*vcpu = (struct vcpu){ .vm = vm, .id = id, .fd = -1 };
	err = cleat_cancel_create(&vcpu->cancel);
	if (err)
		return cleat_vmm_fail(err, "no memory");
	err = open_vcpu(vcpu);
	if (err)
		return err;
	err = cleat_vmm_cpu_setup(vcpu->fd, &vm->machine, id, vm->options.cpus,
				  &vm->boot, &what);
	if (err) {
		errno = -err;
		return cleat_vmm_fail(err, "CPU %u: %s: %m", id, what);
	}
	return 0;
}

int cleat_vmm_vcpu_start(struct vcpu *vcpu)
{
	/* Without SA_RESTART: a blocked write must end too. */
	struct sigaction action = { .sa_handler = on_kick };
	int err;

	sigaction(VCPU_KICK, &action, NULL);
	err = pthread_create(&vcpu->thread, NULL, run, vcpu);
	if (err) {
		errno = err;
		return cleat_vmm_fail(-err, "CPU %u: no thread: %m", vcpu->id);
	}
	vcpu->started = true;
	return 0;
}

/*
 * immediate_exit catches a thread that is on its way into KVM_RUN. A write to
 * a full pipe has no such flag: a signal that comes just before it is without
 * effect, so it is sent until the thread has ended.
 */
static void join(struct vcpu *vcpu)
{
	struct timespec pause = { .tv_nsec = KICK_AGAIN_MS * 1000000 };

	vcpu->run->immediate_exit = 1;
	cleat_cancel_set(vcpu->cancel);
	while (!atomic_load(&vcpu->ended)) {
		pthread_kill(vcpu->thread, VCPU_KICK);
		if (!atomic_load(&vcpu->ended))
			nanosleep(&pause, NULL);
	}
	pthread_join(vcpu->thread, NULL);
	vcpu->started = false;
}

void cleat_vmm_vcpu_join(struct vm *vm)
{
	unsigned i;

	cleat_vmm_pause_end(vm);
	for (i = 0; i < vm->vcpu_count; i++)
		if (vm->vcpus[i].started)
			join(&vm->vcpus[i]);
}

void cleat_vmm_vcpu_destroy(struct vcpu *vcpu)
{
	if (vcpu->run)
		munmap(vcpu->run, vcpu->run_size);
	if (vcpu->fd >= 0)
		close(vcpu->fd);
	cleat_cancel_destroy(vcpu->cancel);
}
