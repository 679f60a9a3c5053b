/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The state a vCPU starts in. The first one starts in long mode with the low
 * 4 GiB mapped one to one, as the boot protocol asks; the others wait for the
 * kernel's INIT and start-up messages inside KVM, in the state KVM gave them.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include "vmm/vmm.h"

#define SELECTOR_CODE 0x10 /* the boot protocol's __BOOT_CS, __BOOT_DS */
#define SELECTOR_DATA 0x18
#define SELECTOR_TASK 0x20
#define GDT_ENTRIES 6
#define CODE_64 0x00af9b000000ffffull
#define DATA_FLAT 0x00cf93000000ffffull
#define TASK_BUSY 0x00008b0000000067ull /* base 0; its upper half is 0 */

#define PAGE_PRESENT_WRITE 0x3ull
#define PAGE_LARGE 0x80ull
#define TABLE 512

#define CR0_PE (1ull << 0)
#define CR0_ET (1ull << 4)
#define CR0_NE (1ull << 5)
#define CR0_WP (1ull << 16)
#define CR0_PG (1ull << 31)
#define CR4_PAE (1ull << 5)
#define EFER_LME (1ull << 8)
#define EFER_LMA (1ull << 10)

#define MSR_MISC_ENABLE 0x1a0u
#define MISC_FAST_STRING 1
#define MSR_MTRR_DEFAULT 0x2ffu
#define MTRR_ENABLED_WRITE_BACK ((1u << 11) | 6)

#define CPUID_1_TSC_DEADLINE (1u << 24) /* in ECX */
#define CPUID_1_HYPERVISOR (1u << 31)
#define CPUID_1_HTT (1u << 28) /* in EDX */

void cleat_vmm_cpu_tables(const struct ram *ram)
{
	static const uint64_t gdt[GDT_ENTRIES] = {
		0, 0, CODE_64, DATA_FLAT, TASK_BUSY, 0,
	};
	uint64_t *pml4 = (void *)(ram->host + GUEST_PAGE_TABLES);
	uint64_t *pdpt = pml4 + TABLE;
	uint64_t *directories = pdpt + TABLE;
	uint64_t i;

	memcpy(ram->host + GUEST_GDT, gdt, sizeof(gdt));
	pml4[0] = (GUEST_PAGE_TABLES + 0x1000) | PAGE_PRESENT_WRITE;
	for (i = 0; i < 4; i++)
		pdpt[i] = (GUEST_PAGE_TABLES + 0x2000 + 0x1000 * i) |
			  PAGE_PRESENT_WRITE;
	for (i = 0; i < 4 * TABLE; i++)
		directories[i] = (2 * MiB * i) | PAGE_PRESENT_WRITE |
				 PAGE_LARGE;
}

static unsigned bits_for(unsigned count)
{
	unsigned bits = 0;

	while (1u << bits < count)
		bits++;
	return bits;
}

/* One package of @count cores of one thread each. */
static void tell_topology(struct kvm_cpuid_entry2 *entry, unsigned id,
			  unsigned count)
{
	unsigned bits = bits_for(count);

	switch (entry->function) {
	case 1:
		entry->ebx = (entry->ebx & 0xffff) | count << 16 | id << 24;
		if (count > 1)
			entry->edx |= CPUID_1_HTT;
		break;
	case 4:
		/* Cores in the package; sharers of this cache: one. */
		entry->eax &= ~0xffffc000u;
		entry->eax |= ((1u << bits) - 1) << 26;
		break;
	case 0xb:
	case 0x1f:
		entry->eax = entry->index == 1 ? bits : 0;
		entry->ebx = entry->index == 0 ? 1 :
			     entry->index == 1 ? count : 0;
		entry->ecx = entry->index |
			     (entry->index < 2 ? (entry->index + 1) << 8 : 0);
		entry->edx = id;
		break;
	case 0x80000008:
		entry->ecx = (entry->ecx & ~0xf0ffu) | bits << 12 | (count - 1);
		break;
	case 0x8000001e:
		entry->eax = id;
		entry->ebx = id;
		entry->ecx = 0;
		break;
	}
}

int cleat_vmm_cpu_set_cpuid(int vcpu, const struct machine *machine,
			    unsigned id, unsigned count)
{
	size_t size = sizeof(*machine->cpuid) +
		      machine->cpuid->nent * sizeof(machine->cpuid->entries[0]);
	struct kvm_cpuid2 *cpuid = malloc(size);
	bool deadline = ioctl(machine->kvm, KVM_CHECK_EXTENSION,
			      KVM_CAP_TSC_DEADLINE_TIMER) > 0;
	unsigned i;
	int err = 0;

	if (!cpuid)
		return -ENOMEM;
	memcpy(cpuid, machine->cpuid, size);
	for (i = 0; i < cpuid->nent; i++) {
		struct kvm_cpuid_entry2 *entry = &cpuid->entries[i];

		tell_topology(entry, id, count);
		if (entry->function != 1)
			continue;
		/* KVM leaves these two to us; without the first, no kvm-clock. */
		entry->ecx |= CPUID_1_HYPERVISOR;
		if (deadline)
			entry->ecx |= CPUID_1_TSC_DEADLINE;
	}
	if (ioctl(vcpu, KVM_SET_CPUID2, cpuid))
		err = -errno;
	free(cpuid);
	return err;
}

static struct kvm_segment flat(uint16_t selector, uint8_t type)
{
	return (struct kvm_segment){
		.limit = 0xffffffff,
		.selector = selector,
		.type = type,
		.present = 1,
		.s = 1,
		.g = 1,
	};
}

static int set_segments(int vcpu)
{
	struct kvm_segment data = flat(SELECTOR_DATA, 0x3);
	struct kvm_sregs sregs;

	if (ioctl(vcpu, KVM_GET_SREGS, &sregs))
		return -errno;
	data.db = 1;
	sregs.ds = sregs.es = sregs.fs = sregs.gs = sregs.ss = data;
	sregs.cs = flat(SELECTOR_CODE, 0xb);
	sregs.cs.l = 1;
	sregs.tr = (struct kvm_segment){
		.limit = 0x67,
		.selector = SELECTOR_TASK,
		.type = 0xb,
		.present = 1,
	};
	sregs.gdt.base = GUEST_GDT;
	sregs.gdt.limit = GDT_ENTRIES * 8 - 1;
	sregs.idt.base = 0;
	sregs.idt.limit = 0;
	sregs.cr0 = CR0_PE | CR0_ET | CR0_NE | CR0_WP | CR0_PG;
	sregs.cr3 = GUEST_PAGE_TABLES;
	sregs.cr4 = CR4_PAE;
	sregs.efer = EFER_LME | EFER_LMA;
	return ioctl(vcpu, KVM_SET_SREGS, &sregs) ? -errno : 0;
}

static int set_registers(int vcpu, const struct boot *boot)
{
	struct kvm_regs regs = {
		.rip = boot->entry,
		.rsi = GUEST_ZERO_PAGE,
		.rsp = GUEST_STACK,
		.rflags = 2,
	};

	return ioctl(vcpu, KVM_SET_REGS, &regs) ? -errno : 0;
}

/*
 * Without an enabled MTRR, Linux believes that firmware had a reason to turn
 * caching off, and gives up on the PAT too.
 */
static int set_msrs(int vcpu)
{
	const struct kvm_msr_entry entries[] = {
		{ .index = MSR_MISC_ENABLE, .data = MISC_FAST_STRING },
		{ .index = MSR_MTRR_DEFAULT, .data = MTRR_ENABLED_WRITE_BACK },
	};
	struct kvm_msrs *msrs = calloc(1, sizeof(*msrs) + sizeof(entries));
	int set, err = 0;

	if (!msrs)
		return -ENOMEM;
	msrs->nmsrs = sizeof(entries) / sizeof(entries[0]);
	memcpy(msrs->entries, entries, sizeof(entries));
	set = ioctl(vcpu, KVM_SET_MSRS, msrs);
	if (set < 0)
		err = -errno;
	else if (set < (int)msrs->nmsrs)
		err = -EINVAL;
	free(msrs);
	return err;
}

static int set_fpu(int vcpu)
{
	struct kvm_fpu fpu = { .fcw = 0x37f, .mxcsr = 0x1f80 };

	return ioctl(vcpu, KVM_SET_FPU, &fpu) ? -errno : 0;
}

int cleat_vmm_cpu_setup(int vcpu, const struct machine *machine, unsigned id,
			unsigned count, const struct boot *boot,
			const char **ret_what)
{
	int err = cleat_vmm_cpu_set_cpuid(vcpu, machine, id, count);

	*ret_what = "KVM_SET_CPUID2";
	if (err)
		return err;
	err = set_msrs(vcpu);
	*ret_what = "KVM_SET_MSRS";
	if (err || id != 0)
		return err;
	err = set_fpu(vcpu);
	*ret_what = "KVM_SET_FPU";
	if (err)
		return err;
	err = set_segments(vcpu);
	*ret_what = "KVM_SET_SREGS";
	if (err)
		return err;
	*ret_what = "KVM_SET_REGS";
	return set_registers(vcpu, boot);
}
