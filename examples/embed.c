/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * embed SERVER [ARGUMENT...] - what it takes to give a VMM a vfio-user device
 *
 * A VMM with no vCPU: main() does what a guest's driver would do, and the calls
 * into the library are those that a VMM makes for it. Try it with
 *
 *	embed cleat-probe
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <cleat/cleat.h>

#define RAM (64ull << 20)
#define BAR0 0xd0000000u /* where our guest puts it */
#define SCRATCH 0x10 /* a register of cleat-probe's */

struct vm {
	int fd; /* of KVM; -1: there is none, and everything traps */
	struct cleat_memory *memory;
	struct cleat_mmio *mmio;
	struct cleat_kvm *kvm;
};

static void die(const char *what, const char *why)
{
	fprintf(stderr, "embed: %s: %s\n", what, why);
	exit(1);
}

static void need(int err, const char *what)
{
	if (err)
		die(what, strerror(-err));
}

/* Once per VM: memory that can be shared, a dispatch table, KVM's services. */
static void make_vm(struct vm *vm)
{
	struct cleat_memory_range ram = {
		.size = sizeof(ram),
		.rights = CLEAT_READ | CLEAT_WRITE,
		.guest = 0,
		.length = RAM,
	};
	struct cleat_kvm_config config = {
		.size = sizeof(config),
		.first_slot = 16, /* the VMM's own are below */
		.slots = 64,
	};
	struct cleat_error why;
	int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);

	ram.fd = cleat_memory_alloc(RAM, 0, &ram.host, &why);
	if (ram.fd < 0)
		die("guest memory", why.text);
	need(cleat_memory_create(&vm->memory), "memory");
	need(cleat_memory_add(vm->memory, &ram), "adding memory");
	close(ram.fd); /* the library has its own */
	need(cleat_mmio_create(&vm->mmio), "dispatch table");
	need(cleat_mmio_reserve(vm->mmio, CLEAT_MEMORY, 0, RAM), "reserving");

	vm->fd = kvm < 0 ? -1 : ioctl(kvm, KVM_CREATE_VM, 0);
	if (kvm >= 0)
		close(kvm);
	if (vm->fd >= 0 && cleat_kvm_create(vm->fd, &config, &vm->kvm, &why))
		die("KVM", why.text);
}

/* Once per device. */
static struct cleat_pci *plug(struct vm *vm, const char *const *server,
			      struct cleat_device **ret_device)
{
	struct cleat_device_config open = { .size = sizeof(open),
					    .argv = server };
	struct cleat_pci_config function = {
		.size = sizeof(function),
		.mmio = vm->mmio,
		.ops = vm->kvm ? cleat_kvm_ops(vm->kvm) : NULL,
		.function = 1 << 3,
	};
	struct cleat_error why;
	struct cleat_pci *pci;

	if (cleat_device_open(&open, &function.device, &why))
		die(server[0], why.text);
	need(cleat_memory_attach(vm->memory, function.device), "attaching");
	if (cleat_pci_create(&function, &pci, &why))
		die(server[0], why.text);
	*ret_device = function.device;
	return pci;
}

/* What a vCPU thread does on KVM_EXIT_MMIO. */
static uint32_t trapped(struct vm *vm, uint64_t address, uint32_t value,
			bool write)
{
	int err = cleat_mmio_access(vm->mmio, CLEAT_MEMORY, address, &value,
				    sizeof(value), write);

	if (err == -ENOENT) /* nobody's: ones, as on a bus */
		return UINT32_MAX;
	need(err, "access"); /* -EINTR: only where threads are called back */
	return value;
}

int main(int argc, char **argv)
{
	struct vm vm = { 0 };
	struct cleat_device *device;
	struct cleat_pci *pci;
	uint32_t id, mask, value;

	if (argc < 2) {
		fprintf(stderr, "usage: embed SERVER [ARGUMENT...]\n");
		return 2;
	}
	make_vm(&vm);
	pci = plug(&vm, (const char *const *)argv + 1, &device);

	/* The guest finds the function, sizes BAR 0, places it, turns it on. */
	id = cleat_pci_config_read(pci, 0x00, 4);
	cleat_pci_config_write(pci, 0x10, 0xffffffff, 4);
	mask = cleat_pci_config_read(pci, 0x10, 4) & ~0xfu;
	cleat_pci_config_write(pci, 0x10, BAR0, 4);
	cleat_pci_config_write(pci, 0x04, 0x2, 2);
	printf("function %04x:%04x, BAR 0 has %u bytes\n", id & 0xffff,
	       id >> 16, -mask);

	trapped(&vm, BAR0 + SCRATCH, 0xc1ea7000, true);
	value = trapped(&vm, BAR0 + SCRATCH, 0, false);
	printf("wrote 0xc1ea7000 to a register, read 0x%08x\n", value);
	value = trapped(&vm, BAR0 - 4, 0, false);
	printf("read 0x%08x where nothing is\n", value);

	cleat_pci_unref(pci);
	cleat_device_unref(device);
	cleat_mmio_unref(vm.mmio);
	cleat_memory_unref(vm.memory);
	cleat_kvm_destroy(vm.kvm);
	if (vm.fd >= 0)
		close(vm.fd);
	return 0;
}
