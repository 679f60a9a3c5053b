/* SPDX-License-Identifier: BSD-2-Clause */
/* cleat-vmm from its first to its last line; vmm.h tells the order. */
#include <unistd.h>

#include "vmm/vmm.h"

static int build_acpi(struct vm *vm)
{
	struct acpi_config config = {
		.cpus = vm->options.cpus,
		.window64_start = vm->machine.window64_start,
		.window64_size = vm->machine.window64_size,
	};
	int used = cleat_vmm_acpi_build(vm->ram.host + ACPI_START, ACPI_SIZE,
					&config);

	return used < 0 ? cleat_vmm_fail(used, "ACPI tables: too long") : 0;
}

/* What a guest finds that starts here; one that arrives brings its own. */
static int fill_memory(struct vm *vm)
{
	int err = cleat_vmm_boot_load(&vm->boot, &vm->ram, &vm->options);

	if (!err)
		err = build_acpi(vm);
	if (!err)
		cleat_vmm_cpu_tables(&vm->ram);
	return err;
}

/* Everything that can go wrong before the guest runs. */
static int set_up(struct vm *vm)
{
	int err = cleat_vmm_machine_open(&vm->machine);

	if (!err)
		err = cleat_vmm_ram_create(&vm->ram, &vm->machine,
					   &vm->options);
	if (!err && !vm->options.incoming)
		err = fill_memory(vm);
	if (err)
		return err;
	err = cleat_vmm_pause_init(&vm->pause);
	if (err)
		return cleat_vmm_fail(err, "no memory");
	cleat_vmm_serial_init(&vm->serial, vm, STDOUT_FILENO);
	/* Before PCI: the reset register lies inside PCI's address register. */
	cleat_vmm_power_init(&vm->power, vm);
	cleat_vmm_pci_init(&vm->pci, vm);
	return cleat_vmm_devices_open(&vm->devices, vm);
}

static int create_vcpus(struct vm *vm)
{
	int err = 0;

	while (!err && vm->vcpu_count < vm->options.cpus) {
		err = cleat_vmm_vcpu_create(&vm->vcpus[vm->vcpu_count], vm,
					    vm->vcpu_count);
		vm->vcpu_count++;
	}
	if (!err)
		cleat_vmm_devices_ring(&vm->devices, vm->vcpus[0].fd);
	return err;
}

static int start_vcpus(struct vm *vm)
{
	unsigned i;
	int err = 0;

	for (i = 0; !err && i < vm->vcpu_count; i++)
		err = cleat_vmm_vcpu_start(&vm->vcpus[i]);
	return err;
}

/* vCPUs that arrive stand still until all of the machine is there. */
static int start(struct vm *vm)
{
	int err;

	if (vm->options.incoming)
		atomic_store(&vm->pause.wanted, PAUSE_MIGRATION);
	err = start_vcpus(vm);
	if (!err && vm->options.incoming)
		err = cleat_vmm_migration_start(vm, vm->options.incoming, false,
						false);
	return err;
}

static void run(struct vm *vm)
{
	if (create_vcpus(vm) || cleat_vmm_console_open(vm) ||
	    cleat_vmm_control_open(&vm->control, vm->options.control) ||
	    start(vm))
		cleat_vmm_stop(vm, OUTCOME_ERROR);
	cleat_vmm_console_run(vm);
	cleat_vmm_migration_end(vm);
	cleat_vmm_vcpu_join(vm);
	cleat_vmm_control_close(&vm->control);
	cleat_vmm_console_close(vm);
	if (vm->options.stats && cleat_vmm_stats_write(vm, vm->options.stats))
		atomic_store(&vm->outcome, OUTCOME_ERROR);
}

static void tear_down(struct vm *vm)
{
	unsigned i;

	for (i = 0; i < vm->vcpu_count; i++)
		cleat_vmm_vcpu_destroy(&vm->vcpus[i]);
	cleat_vmm_devices_close(&vm->devices);
	cleat_vmm_ram_destroy(&vm->ram);
	cleat_vmm_machine_close(&vm->machine);
}

int main(int argc, char **argv)
{
	static struct vm vm = {
		.machine = { .kvm = -1, .vm = -1 },
		.ram.fd = -1,
		.outcome = OUTCOME_RUNNING,
		.wake = -1,
		.signals = -1,
	};
	int status = cleat_vmm_options_parse(argc, argv, &vm.options);

	if (status >= 0)
		return status;
	cleat_vmm_control_init(&vm.control);
	if (set_up(&vm))
		cleat_vmm_stop(&vm, OUTCOME_ERROR);
	else
		run(&vm);
	tear_down(&vm);
	return atomic_load(&vm.outcome);
}
