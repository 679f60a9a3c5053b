/* SPDX-License-Identifier: BSD-2-Clause */
#include <errno.h>
#include <linux/kvm.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "bench/machine.h"

/* One line of why, for what gives none itself. */
static int fail(struct cleat_error *reterr, int err, const char *what)
{
	if (err && reterr) {
		reterr->code = err;
		reterr->origin = CLEAT_ORIGIN_LOCAL;
		snprintf(reterr->text, sizeof(reterr->text), "%s: %s", what,
			 strerror(-err));
	}
	return err;
}

/* As a VMM does on KVM_EXIT_MMIO and KVM_EXIT_IO. */
static int on_access(void *opaque, unsigned cpu,
		     const struct guest_access *access)
{
	struct machine *machine = opaque;
	int err = cleat_mmio_drain(machine->mmio);

	if (!err)
		err = cleat_mmio_access(
			machine->mmio,
			access->ports ? CLEAT_PORTS : CLEAT_MEMORY,
			access->address, access->data, access->length,
			access->write);
	if (err != -ENOENT)
		return err;
	atomic_fetch_add(&machine->stray, 1);
	if (!access->write)
		memset(access->data, 0xff, access->length);
	return 0;
}

static int on_fault(void *opaque, unsigned cpu)
{
	struct machine *machine = opaque;

	return cleat_mmio_fault(machine->mmio);
}

static int make_memory(struct machine *machine)
{
	struct cleat_memory_range ram = {
		.size = sizeof(ram),
		.rights = CLEAT_READ | CLEAT_WRITE,
		.length = cleat_guest_ram_size(machine->guest),
		.host = cleat_guest_ram(machine->guest, 0),
		.fd = cleat_guest_ram_fd(machine->guest),
	};
	int err = cleat_memory_create(&machine->memory);

	if (!err)
		err = cleat_memory_add(machine->memory, &ram);
	if (!err)
		err = cleat_mmio_create(&machine->mmio);
	if (!err)
		err = cleat_mmio_reserve(machine->mmio, CLEAT_MEMORY, 0,
					 ram.length);
	return err;
}

static int make_kvm(struct machine *machine,
		    const struct cleat_kvm_config *given,
		    struct cleat_error *reterr)
{
	static const struct kvm_irq_routing none;
	struct cleat_kvm_config config = {
		.size = sizeof(config),
		.first_slot = MACHINE_FIRST_SLOT,
		.slots = MACHINE_SLOTS,
		.first_gsi = MACHINE_FIRST_GSI,
		.gsis = 1024,
		.base_routes = &none,
	};

	int err = cleat_kvm_create(cleat_guest_vm(machine->guest),
				   given ? given : &config, &machine->kvm,
				   reterr);

	/* Without it, what could be coalesced exits. */
	if (!err)
		cleat_kvm_map_ring(machine->kvm,
				   cleat_guest_vcpu(machine->guest, 0), NULL);
	return err;
}

int cleat_machine_open(struct machine *machine, int kvm_fd,
		       const struct machine_config *config,
		       struct cleat_error *reterr)
{
	int err;

	memset(machine, 0, sizeof(*machine));
	machine->hooks = (struct guest_hooks){
		.access = on_access,
		.fault = on_fault,
		.opaque = machine,
	};
	err = fail(reterr,
		   cleat_guest_create(kvm_fd, &config->guest, &machine->guest),
		   "the guest");
	if (!err)
		err = fail(reterr, make_memory(machine), "memory");
	if (!err)
		err = make_kvm(machine, config->kvm, reterr);
	if (err)
		cleat_machine_close(machine);
	else
		machine->ops = cleat_kvm_ops(machine->kvm);
	return err;
}

void cleat_machine_close(struct machine *machine)
{
	machine->mmio = cleat_mmio_unref(machine->mmio);
	machine->memory = cleat_memory_unref(machine->memory);
	machine->kvm = cleat_kvm_destroy(machine->kvm);
	cleat_guest_destroy(machine->guest);
	machine->guest = NULL;
}
