/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The functions that other processes serve: this file is what taking libcleat
 * on comes to.
 */
#include <errno.h>
#include <stdio.h>

#include "vmm/vmm.h"

static int intx_gsi(void *opaque, uint32_t requester, unsigned pin,
		    uint32_t *ret_gsi)
{
	*ret_gsi = cleat_vmm_pci_gsi(requester >> 3 & 0x1f, pin & 3);
	return 0;
}

static int create_kvm(struct devices *devices, const struct machine *machine)
{
	struct cleat_kvm_config config = {
		.size = sizeof(config),
		.first_slot = SLOT_LIBRARY,
		.slots = SLOTS_LIBRARY,
		.first_gsi = GSI_LIBRARY,
		.gsis = GSIS_LIBRARY,
		.base_routes = machine->routes,
		.intx_gsi = intx_gsi,
	};
	struct cleat_error why;
	int err;

	err = cleat_kvm_create(machine->vm, &config, &devices->kvm, &why);
	return err ? cleat_vmm_fail(err, "KVM: %s", why.text) : 0;
}

/* A guest may place a BAR anywhere; over these it does not get it. */
static int reserve(struct devices *devices, const struct vm *vm)
{
	struct bus_entry fixed[] = {
		{ .space = CLEAT_MEMORY, .base = 0, .size = vm->ram.low },
		{ .space = CLEAT_MEMORY, .base = HIGH_RAM_START,
		  .size = vm->ram.high },
		{ .space = CLEAT_MEMORY, .base = IOAPIC_START,
		  .size = HIGH_RAM_START - IOAPIC_START },
	};
	const struct bus_entry *entry;
	int err = 0;
	size_t i;

	for (i = 0; !err && i < sizeof(fixed) / sizeof(fixed[0]); i++)
		if (fixed[i].size)
			err = cleat_mmio_reserve(devices->mmio, fixed[i].space,
						 fixed[i].base, fixed[i].size);
	for (i = 0; !err && i < vm->bus.count; i++) {
		entry = &vm->bus.entries[i];
		/* The reset register lies inside the address register. */
		if (entry->base != PORT_RESET)
			err = cleat_mmio_reserve(devices->mmio, entry->space,
						 entry->base, entry->size);
	}
	if (!err)
		return 0;
	errno = -err;
	return cleat_vmm_fail(err, "reserving addresses: %m");
}

/* The guest reads ones from now on, as from a device that was pulled out. */
static void lost(void *opaque, const struct cleat_error *why)
{
	struct device *device = opaque;

	device->lost = true;
	cleat_vmm_say("--device %s: lost (%s): the guest goes on without it",
		      device->path, why->text);
}

static const char *advice(int err)
{
	switch (err) {
	case -ENOENT:
	case -ECONNREFUSED:
		return ": start its server first";
	case -ETIMEDOUT:
		return ": is it a vfio-user server, and is it free?";
	case -EACCES:
		return ": check who may use the socket";
	default:
		return "";
	}
}

/* ---- Stores that are collected ---- */

/* Whether anything in the range is written by message: nothing else is kept. */
static bool has_messages(struct device *device, const struct coalesce *range)
{
	struct cleat_binding *binding = cleat_pci_binding(device->pci,
							  range->bar);
	uint64_t end = range->offset + range->length;
	struct cleat_segment segment;
	unsigned i;

	for (i = 0; binding && !cleat_binding_segment(binding, i, &segment);
	     i++)
		if (segment.write_way == CLEAT_WAY_TRAP &&
		    segment.offset < end &&
		    segment.offset + segment.length > range->offset)
			return true;
	return false;
}

/* Return: why it makes no sense for this device, or NULL. */
static const char *misfit(struct device *device, const struct coalesce *range,
			  char *text, size_t size)
{
	struct cleat_region_info info = { .size = sizeof(info) };

	if (cleat_region_info(device->device, range->bar, &info) ||
	    !info.length)
		return "the device has no such BAR";
	if (range->offset > info.length ||
	    range->length > info.length - range->offset) {
		snprintf(text, size, "the BAR has %#llx bytes",
			 (unsigned long long)info.length);
		return text;
	}
	if (!(info.flags & CLEAT_REGION_WRITE))
		return "the BAR cannot be written";
	return NULL;
}

static int coalesce_one(struct device *device, struct cleat_mmio *mmio,
			const struct coalesce *range)
{
	struct cleat_error error = { .text = "" };
	char text[64];
	const char *why = misfit(device, range, text, sizeof(text));
	int err = -EINVAL;

	if (!why) {
		err = cleat_mmio_coalesce(mmio, device->device, range->bar,
					  range->offset, range->length, 0,
					  &error);
		why = error.text;
	}
	if (!err && !has_messages(device, range)) {
		err = -EINVAL;
		why = "nothing there is written by message";
	}
	return err ? cleat_vmm_fail(err,
				    "--device %s,coalesce=%u:%#llx+%#llx: %s",
				    device->path, range->bar,
				    (unsigned long long)range->offset,
				    (unsigned long long)range->length, why) :
		     0;
}

/* What does not fit the device is the command line's fault. */
static int coalesce(struct device *device, struct vm *vm)
{
	unsigned i;
	int err = 0;

	for (i = 0; !err && i < device->option->coalesce_count; i++)
		err = coalesce_one(device, vm->devices.mmio,
				   &device->option->coalesce[i]);
	if (err && err != -ENOMEM)
		cleat_vmm_stop(vm, OUTCOME_USAGE);
	return err;
}

/* Without it the stores exit, and are posted all the same. */
void cleat_vmm_devices_ring(struct devices *devices, int vcpu)
{
	struct cleat_error why;
	bool wanted = false;
	unsigned i;

	for (i = 0; i < devices->count; i++)
		wanted |= devices->device[i].option->coalesce_count > 0;
	if (wanted && cleat_kvm_map_ring(devices->kvm, vcpu, &why))
		cleat_vmm_say("--device: coalesce: %s: each store exits",
			      why.text);
}

/* ---- All of it ---- */

static int open_device(struct device *device, struct vm *vm, unsigned slot)
{
	struct devices *devices = &vm->devices;
	struct cleat_device_config open = {
		.size = sizeof(open),
		.flags = CLEAT_DEVICE_OWN_LOOP,
		.path = device->path,
		.lost = lost,
		.opaque = device,
	};
	struct cleat_pci_config function = {
		.size = sizeof(function),
		.mmio = devices->mmio,
		.ops = cleat_kvm_ops(devices->kvm),
		.function = slot << 3,
	};
	struct cleat_error why;
	int err = cleat_device_open(&open, &device->device, &why);

	if (err)
		return cleat_vmm_fail(err, "--device %s: %s%s", device->path,
				      why.text, advice(err));
	err = cleat_memory_attach(vm->ram.memory, device->device);
	if (err) {
		errno = -err;
		return cleat_vmm_fail(err, "--device %s: showing it memory: %m",
				      device->path);
	}
	function.device = device->device;
	err = cleat_pci_create(&function, &device->pci, &why);
	if (err)
		return cleat_vmm_fail(err, "--device %s: %s", device->path,
				      why.text);
	vm->pci.functions[slot] = device->pci;
	return coalesce(device, vm);
}

int cleat_vmm_devices_open(struct devices *devices, struct vm *vm)
{
	unsigned i;
	int err;

	pthread_mutex_init(&devices->lock, NULL);
	err = create_kvm(devices, &vm->machine);
	if (err)
		return err;
	err = cleat_mmio_create(&devices->mmio);
	if (err)
		return cleat_vmm_fail(err, "no memory");
	err = reserve(devices, vm);
	for (i = 0; !err && i < vm->options.device_count; i++) {
		devices->device[i].option = &vm->options.devices[i];
		devices->device[i].path = vm->options.devices[i].path;
		devices->count = i + 1;
		err = open_device(&devices->device[i], vm, i + 1);
	}
	return err;
}

void cleat_vmm_devices_close(struct devices *devices)
{
	unsigned i;

	for (i = 0; i < devices->count; i++) {
		/* The connection first: a silent server is not waited for. */
		cleat_device_unref(devices->device[i].device);
		cleat_pci_unref(devices->device[i].pci);
	}
	cleat_mmio_unref(devices->mmio);
	cleat_kvm_destroy(devices->kvm);
}
