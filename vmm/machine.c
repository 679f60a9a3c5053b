/* SPDX-License-Identifier: BSD-2-Clause */
/* The VM and what KVM itself keeps for it: interrupt chips, timer, routes. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "vmm/vmm.h"

#define CPUID_ENTRIES 256
#define CPUID_ADDRESS_SIZES 0x80000008u
/* What a guest of four-level page tables can use. */
#define ADDRESS_BITS_MAX 46
#define ADDRESS_BITS_MIN 36

static int open_kvm(void)
{
	int fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);

	if (fd >= 0)
		return fd;
	if (errno == ENOENT)
		return cleat_vmm_fail(-ENOENT,
				      "/dev/kvm: not there: load kvm_intel or kvm_amd (a CPU with vmx or svm)");
	if (errno == EACCES || errno == EPERM)
		return cleat_vmm_fail(-EACCES,
				      "/dev/kvm: no access: be root, or join the group that owns it (often kvm)");
	return cleat_vmm_fail(-errno, "/dev/kvm: %m");
}

static int check_kvm(int kvm)
{
	static const struct {
		int capability;
		const char *name;
	} needed[] = {
		{ KVM_CAP_IRQCHIP, "an interrupt controller" },
		{ KVM_CAP_PIT2, "a timer" },
		{ KVM_CAP_IRQ_ROUTING, "interrupt routing" },
		{ KVM_CAP_SET_TSS_ADDR, "a TSS address" },
		{ KVM_CAP_EXT_CPUID, "CPUID" },
		{ KVM_CAP_IMMEDIATE_EXIT, "an immediate exit" },
	};
	size_t i;

	if (ioctl(kvm, KVM_GET_API_VERSION, 0) != KVM_API_VERSION)
		return cleat_vmm_fail(-ENOSYS, "/dev/kvm: not version %d",
				      KVM_API_VERSION);
	for (i = 0; i < sizeof(needed) / sizeof(needed[0]); i++)
		if (ioctl(kvm, KVM_CHECK_EXTENSION, needed[i].capability) <= 0)
			return cleat_vmm_fail(-ENOSYS,
					      "/dev/kvm: this kernel's KVM gives guests no %s",
					      needed[i].name);
	return 0;
}

static int get_cpuid(struct machine *machine)
{
	struct kvm_cpuid2 *cpuid;

	cpuid = calloc(1, sizeof(*cpuid) +
				  CPUID_ENTRIES * sizeof(cpuid->entries[0]));
	if (!cpuid)
		return cleat_vmm_fail(-ENOMEM, "no memory");
	machine->cpuid = cpuid;
	cpuid->nent = CPUID_ENTRIES;
	if (ioctl(machine->kvm, KVM_GET_SUPPORTED_CPUID, cpuid))
		return cleat_vmm_fail(-errno, "KVM_GET_SUPPORTED_CPUID: %m");
	return 0;
}

/*
 * The second half of the guest's address space is RAM's and ours for ever in
 * the lower part, PCI's in the upper: half and three quarters are far from
 * the last 12 GiB of a TiB, which some AMD machines keep for themselves.
 */
static void place_window64(struct machine *machine)
{
	const struct kvm_cpuid_entry2 *entry = machine->cpuid->entries;
	const struct kvm_cpuid_entry2 *end = entry + machine->cpuid->nent;
	unsigned bits = ADDRESS_BITS_MIN;

	for (; entry < end; entry++)
		if (entry->function == CPUID_ADDRESS_SIZES)
			bits = entry->eax & 0xff;
	if (bits > ADDRESS_BITS_MAX)
		bits = ADDRESS_BITS_MAX;
	if (bits < ADDRESS_BITS_MIN)
		bits = ADDRESS_BITS_MIN;
	machine->address_bits = bits;
	machine->window64_start = 1ull << (bits - 1);
	machine->window64_size = 1ull << (bits - 2);
}

static void add_route(struct kvm_irq_routing *routes, unsigned gsi,
		      unsigned chip, unsigned pin)
{
	routes->entries[routes->nr++] = (struct kvm_irq_routing_entry){
		.gsi = gsi,
		.type = KVM_IRQ_ROUTING_IRQCHIP,
		.u.irqchip = { .irqchip = chip, .pin = pin },
	};
}

/*
 * A PC's wiring: 16 lines to both PICs and the IOAPIC, 8 more to the IOAPIC
 * alone; line 0 arrives at pin 2, as the MADT tells.
 */
static int set_routes(struct machine *machine)
{
	struct kvm_irq_routing *routes;
	unsigned i;

	routes = calloc(1, sizeof(*routes) +
				   (16 + IOAPIC_PINS) *
					   sizeof(routes->entries[0]));
	if (!routes)
		return cleat_vmm_fail(-ENOMEM, "no memory");
	machine->routes = routes;
	for (i = 0; i < 16; i++)
		if (i != 2)
			add_route(routes, i,
				  i < 8 ? KVM_IRQCHIP_PIC_MASTER :
					  KVM_IRQCHIP_PIC_SLAVE,
				  i % 8);
	for (i = 0; i < IOAPIC_PINS; i++)
		if (i != 2)
			add_route(routes, i, KVM_IRQCHIP_IOAPIC, i ? i : 2);
	if (ioctl(machine->vm, KVM_SET_GSI_ROUTING, routes))
		return cleat_vmm_fail(-errno, "KVM_SET_GSI_ROUTING: %m");
	return 0;
}

static int create_chips(struct machine *machine)
{
	struct kvm_pit_config pit = { .flags = KVM_PIT_SPEAKER_DUMMY };
	uint64_t identity = KVM_IDENTITY_MAP;

	if (ioctl(machine->vm, KVM_SET_IDENTITY_MAP_ADDR, &identity))
		return cleat_vmm_fail(-errno, "KVM_SET_IDENTITY_MAP_ADDR: %m");
	if (ioctl(machine->vm, KVM_SET_TSS_ADDR, KVM_TSS))
		return cleat_vmm_fail(-errno, "KVM_SET_TSS_ADDR: %m");
	if (ioctl(machine->vm, KVM_CREATE_IRQCHIP, 0))
		return cleat_vmm_fail(-errno, "KVM_CREATE_IRQCHIP: %m");
	if (ioctl(machine->vm, KVM_CREATE_PIT2, &pit))
		return cleat_vmm_fail(-errno, "KVM_CREATE_PIT2: %m");
	return set_routes(machine);
}

int cleat_vmm_machine_open(struct machine *machine)
{
	int err;

	*machine = (struct machine){ .kvm = -1, .vm = -1 };
	machine->kvm = open_kvm();
	if (machine->kvm < 0)
		return machine->kvm;
	err = check_kvm(machine->kvm);
	if (!err)
		err = get_cpuid(machine);
	if (err)
		return err;
	place_window64(machine);
	machine->vm = ioctl(machine->kvm, KVM_CREATE_VM, 0);
	if (machine->vm < 0)
		return cleat_vmm_fail(-errno, "KVM_CREATE_VM: %m");
	return create_chips(machine);
}

void cleat_vmm_machine_close(struct machine *machine)
{
	free(machine->routes);
	free(machine->cpuid);
	if (machine->vm >= 0)
		close(machine->vm);
	if (machine->kvm >= 0)
		close(machine->kvm);
}

void cleat_vmm_machine_irq(struct machine *machine, unsigned gsi, bool level)
{
	struct kvm_irq_level irq = { .irq = gsi, .level = level };

	/* Fails only for a VM without chips, and ours has them. */
	ioctl(machine->vm, KVM_IRQ_LINE, &irq);
}
