/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What a machine has besides RAM, vCPUs and other processes' devices: its
 * shape, the interrupt chips, timer and clock in KVM, and the few devices of
 * our own.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include "vmm/vmm.h"

#define CHIPS 3 /* two PICs and the IOAPIC */
#define CPUID_MAX 256

/* ---- Shape ---- */

static void describe(const struct vm *vm, struct shape *ret)
{
	*ret = (struct shape){
		.memory = vm->ram.size,
		.window64_start = vm->machine.window64_start,
		.cpus = vm->options.cpus,
		.devices = vm->options.device_count,
	};
}

int cleat_vmm_shape_save(struct stream *stream, const struct vm *vm,
			 bool answers)
{
	const struct kvm_cpuid2 *cpuid = vm->machine.cpuid;
	struct shape shape;

	describe(vm, &shape);
	shape.answers = answers;
	cleat_vmm_stream_begin(stream, SECTION_SHAPE);
	cleat_vmm_stream_add(stream, &shape, sizeof(shape));
	cleat_vmm_stream_add(stream, &cpuid->nent, sizeof(cpuid->nent));
	cleat_vmm_stream_add(stream, cpuid->entries,
			     cpuid->nent * sizeof(cpuid->entries[0]));
	return cleat_vmm_stream_send(stream);
}

static int compare(struct stream *stream, const struct vm *vm,
		   const struct shape *shape)
{
	struct shape ours;

	describe(vm, &ours);
	if (shape->memory != ours.memory || shape->cpus != ours.cpus ||
	    shape->devices != ours.devices)
		return cleat_vmm_stream_fail(stream, -EXDEV,
					     "another machine: give --memory %llu --cpus %u and %u times --device",
					     (unsigned long long)(shape->memory /
								  MiB),
					     shape->cpus, shape->devices);
	if (shape->window64_start != ours.window64_start)
		return cleat_vmm_stream_fail(stream, -EXDEV,
					     "the CPU there has more or fewer address bits than the one here");
	return 0;
}

static const struct kvm_cpuid_entry2 *find(const struct kvm_cpuid2 *cpuid,
					   const struct kvm_cpuid_entry2 *like)
{
	uint32_t i;

	for (i = 0; i < cpuid->nent; i++)
		if (cpuid->entries[i].function == like->function &&
		    cpuid->entries[i].index == like->index)
			return &cpuid->entries[i];
	return NULL;
}

/*
 * The guest has seen what the CPU there can do and uses it: the CPU here may
 * be able to do more, not less.
 */
static bool can_do(const struct kvm_cpuid2 *ours,
		   const struct kvm_cpuid_entry2 *theirs)
{
	static const struct kvm_cpuid_entry2 none;
	const struct kvm_cpuid_entry2 *here = find(ours, theirs);

	if (!here)
		here = &none;
	switch (theirs->function) {
	case 1:
		return !(theirs->ecx & ~here->ecx) &&
		       !(theirs->edx & ~here->edx);
	case 7:
		return !(theirs->ebx & ~here->ebx) &&
		       !(theirs->ecx & ~here->ecx) &&
		       !(theirs->edx & ~here->edx);
	case 0xd:
		return theirs->index || !(theirs->eax & ~here->eax);
	case 0x40000001:
		return !(theirs->eax & ~here->eax);
	case 0x80000001:
		return !(theirs->ecx & ~here->ecx) &&
		       !(theirs->edx & ~here->edx);
	}
	return true;
}

static int take_cpuid(struct stream *stream, struct vm *vm,
		      struct section *section)
{
	struct kvm_cpuid2 *cpuid = vm->machine.cpuid, *theirs;
	uint32_t count, i;
	int err = cleat_vmm_section_take(section, &count, sizeof(count));

	if (err || count > CPUID_MAX)
		return -EBADMSG;
	theirs = calloc(1, sizeof(*theirs) +
				   CPUID_MAX * sizeof(theirs->entries[0]));
	if (!theirs)
		return -ENOMEM;
	theirs->nent = count;
	err = cleat_vmm_section_take(section, theirs->entries,
				     count * sizeof(theirs->entries[0]));
	for (i = 0; !err && i < count; i++)
		if (!can_do(cpuid, &theirs->entries[i]))
			err = cleat_vmm_stream_fail(stream, -EXDEV,
						    "the CPU here cannot do what the one there can (CPUID %#x)",
						    theirs->entries[i].function);
	if (err) {
		free(theirs);
		return err;
	}
	free(cpuid);
	vm->machine.cpuid = theirs;
	return 0;
}

static int tell_vcpus(struct stream *stream, const struct vm *vm)
{
	unsigned i;
	int err = 0;

	for (i = 0; !err && i < vm->vcpu_count; i++)
		err = cleat_vmm_cpu_set_cpuid(vm->vcpus[i].fd, &vm->machine, i,
					      vm->options.cpus);
	if (!err)
		return 0;
	errno = -err;
	return cleat_vmm_stream_fail(stream, err, "KVM_SET_CPUID2: %m");
}

int cleat_vmm_shape_load(struct stream *stream, struct vm *vm,
			 struct section *section, bool *ret_answers)
{
	struct shape shape;
	int err = cleat_vmm_section_take(section, &shape, sizeof(shape));

	if (!err)
		err = compare(stream, vm, &shape);
	if (!err)
		err = take_cpuid(stream, vm, section);
	if (!err)
		err = tell_vcpus(stream, vm);
	if (!err)
		*ret_answers = shape.answers;
	return err;
}

/* ---- What KVM keeps for the machine ---- */

struct chips {
	struct kvm_irqchip chip[CHIPS];
	struct kvm_pit_state2 pit;
	struct kvm_clock_data clock;
};

static int failed(struct stream *stream, const char *what)
{
	return cleat_vmm_stream_fail(stream, -errno, "%s: %m", what);
}

int cleat_vmm_chips_save(struct stream *stream, const struct vm *vm)
{
	struct chips chips;
	int fd = vm->machine.vm, i;

	memset(&chips, 0, sizeof(chips));
	for (i = 0; i < CHIPS; i++) {
		chips.chip[i].chip_id = (uint32_t)i;
		if (ioctl(fd, KVM_GET_IRQCHIP, &chips.chip[i]))
			return failed(stream, "KVM_GET_IRQCHIP");
	}
	if (ioctl(fd, KVM_GET_PIT2, &chips.pit))
		return failed(stream, "KVM_GET_PIT2");
	if (ioctl(fd, KVM_GET_CLOCK, &chips.clock))
		return failed(stream, "KVM_GET_CLOCK");
	cleat_vmm_stream_begin(stream, SECTION_CHIPS);
	cleat_vmm_stream_add(stream, &chips, sizeof(chips));
	return cleat_vmm_stream_send(stream);
}

int cleat_vmm_chips_load(struct stream *stream, struct vm *vm,
			 struct section *section)
{
	struct chips chips;
	int fd = vm->machine.vm, i;
	int err = cleat_vmm_section_take(section, &chips, sizeof(chips));

	if (err)
		return err;
	for (i = 0; i < CHIPS; i++) {
		chips.chip[i].chip_id = (uint32_t)i;
		if (ioctl(fd, KVM_SET_IRQCHIP, &chips.chip[i]))
			return failed(stream, "KVM_SET_IRQCHIP");
	}
	if (ioctl(fd, KVM_SET_PIT2, &chips.pit))
		return failed(stream, "KVM_SET_PIT2");
	/* Set when the guest starts: time does not pass on the way. */
	vm->clock = chips.clock.clock;
	return 0;
}

void cleat_vmm_clock_start(struct vm *vm)
{
	struct kvm_clock_data clock = { .clock = vm->clock };

	ioctl(vm->machine.vm, KVM_SET_CLOCK, &clock);
}

/* A guest whose clock stood still is not to believe that it locked up. */
void cleat_vmm_clock_stood(struct vm *vm)
{
	unsigned i;

	/* Refused by a guest that does not use the clock. */
	for (i = 0; i < vm->vcpu_count; i++)
		ioctl(vm->vcpus[i].fd, KVM_KVMCLOCK_CTRL, 0);
}

/* ---- Devices of our own ---- */

struct own {
	struct serial_state serial;
	uint32_t power_enable;
	uint32_t sleep_type;
	uint32_t pci_address;
};

int cleat_vmm_own_save(struct stream *stream, struct vm *vm)
{
	struct own own;

	memset(&own, 0, sizeof(own));
	cleat_vmm_serial_save(&vm->serial, &own.serial);
	own.power_enable = atomic_load(&vm->power.enable);
	own.sleep_type = atomic_load(&vm->power.sleep_type);
	own.pci_address = atomic_load(&vm->pci.address);
	cleat_vmm_stream_begin(stream, SECTION_OWN);
	cleat_vmm_stream_add(stream, &own, sizeof(own));
	return cleat_vmm_stream_send(stream);
}

int cleat_vmm_own_load(struct vm *vm, struct section *section)
{
	struct own own;
	int err = cleat_vmm_section_take(section, &own, sizeof(own));

	if (!err)
		err = cleat_vmm_serial_load(&vm->serial, &own.serial);
	if (err)
		return err;
	atomic_store(&vm->power.enable, own.power_enable & 0xffff);
	atomic_store(&vm->power.sleep_type, own.sleep_type & 7);
	atomic_store(&vm->pci.address, own.pci_address);
	return 0;
}
