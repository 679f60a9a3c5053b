/* SPDX-License-Identifier: BSD-2-Clause */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "bench/guest-private.h"

#define PAGE 4096ull
#define TABLE_PRESENT 0x67ull /* present, writeable, user, accessed, dirty */
#define TABLE_LARGE 0x80ull
#define TABLE_ADDRESS 0x000ffffffffff000ull
#define LARGE_PAGE (2ull << 20)
#define LAPIC_PAGE 0xfee00000ull

#define SELECTOR_KERNEL_CODE 0x08
#define SELECTOR_USER_DATA 0x1b
#define SELECTOR_USER_CODE 0x23
#define SELECTOR_TSS(cpu) (0x28 + 16 * (cpu))

static void *at(struct guest *guest, uint64_t address)
{
	return guest->ram + address;
}

/* --- Memory ------------------------------------------------------------- */

static int make_ram(struct guest *guest, size_t size)
{
	struct kvm_userspace_memory_region slot = {.memory_size = size};

	guest->ram_fd = memfd_create("guest", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (guest->ram_fd < 0 || ftruncate(guest->ram_fd, (off_t)size))
		return -errno;
	guest->ram = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED,
			  guest->ram_fd, 0);
	if (guest->ram == MAP_FAILED) {
		guest->ram = NULL;
		return -errno;
	}
	guest->ram_size = size;
	guest->next_table = GUEST_TABLES;
	guest->next_free = GUEST_TABLES_END;
	slot.userspace_addr = (uintptr_t)guest->ram;
	if (ioctl(guest->vm, KVM_SET_USER_MEMORY_REGION, &slot))
		return -errno;
	return 0;
}

/* The table that an entry leads to, made if it is not there. */
static uint64_t *descend(struct guest *guest, uint64_t *entry)
{
	if (!*entry) {
		if (guest->next_table == GUEST_TABLES_END)
			return NULL;
		*entry = guest->next_table | TABLE_PRESENT;
		guest->next_table += PAGE;
	}
	return at(guest, *entry & TABLE_ADDRESS);
}

static int map_large(struct guest *guest, uint64_t address)
{
	uint64_t *table = at(guest, GUEST_TABLES);

	for (unsigned shift = 39; table && shift > 21; shift -= 9)
		table = descend(guest, &table[address >> shift & 511]);
	if (!table)
		return -ENOSPC;
	table[address >> 21 & 511] = address | TABLE_PRESENT | TABLE_LARGE;
	return 0;
}

int cleat_guest_window(struct guest *guest, uint64_t address, uint64_t length)
{
	uint64_t end = address + length;
	int err = 0;

	if (!length || end < address || end > 1ull << 47)
		return -EINVAL;
	for (address &= ~(LARGE_PAGE - 1); !err && address < end;
	     address += LARGE_PAGE)
		err = map_large(guest, address);
	return err;
}

uint64_t cleat_guest_alloc(struct guest *guest, size_t size)
{
	uint64_t address = guest->next_free;

	size = (size + PAGE - 1) & ~(PAGE - 1);
	if (size > guest->ram_size - address)
		return 0;
	guest->next_free += size;
	return address;
}

/* --- What the processor reads ------------------------------------------- */

static uint64_t cpu_area(unsigned cpu)
{
	return GUEST_CPU_AREA + GUEST_CPU_STRIDE * (uint64_t)cpu;
}

static void fill_gdt(struct guest *guest)
{
	uint64_t *gdt = at(guest, GUEST_GDT);

	gdt[SELECTOR_KERNEL_CODE / 8] = 0x00af9b000000ffff;
	gdt[SELECTOR_KERNEL_CODE / 8 + 1] = 0x00cf93000000ffff;
	gdt[SELECTOR_USER_DATA / 8] = 0x00cff3000000ffff;
	gdt[SELECTOR_USER_CODE / 8] = 0x00affb000000ffff;
	for (unsigned cpu = 0; cpu < guest->nr_cpus; cpu++) {
		uint64_t base = cpu_area(cpu);

		/* A TSS in use; all of ours are below 16 MiB. */
		gdt[SELECTOR_TSS(cpu) / 8] =
			0x00008b0000000000 | base << 16 | GUEST_TSS_LIMIT;
	}
}

static void fill_idt(struct guest *guest)
{
	uint64_t *idt = at(guest, GUEST_IDT);

	for (uint64_t vector = 0; vector < 256; vector++) {
		uint64_t entry = GUEST_CODE + vector * GUEST_STUB;

		idt[2 * vector] = 0x00008e0000000000 |
				  (uint64_t)SELECTOR_KERNEL_CODE << 16 |
				  (entry & 0xffff);
	}
}

/*
 * All ports are allowed by the bitmap and by the privilege level in the flags:
 * paravirtual KVMs ignore the latter, emulated processors the former.
 */
static void fill_tss(struct guest *guest, uint64_t area)
{
	uint8_t *tss = at(guest, area);
	uint64_t stack = area + GUEST_PROGRAM;
	uint16_t bitmap = GUEST_PORT_BITMAP;

	memcpy(tss + 4, &stack, sizeof(stack));
	memcpy(tss + 102, &bitmap, sizeof(bitmap));
	tss[GUEST_TSS_LIMIT] = 0xff;
}

static int fill_memory(struct guest *guest)
{
	size_t code = (size_t)(cleat_guest_code_end - cleat_guest_code_start);
	int err;

	if (code > GUEST_CODE_ROOM)
		return -E2BIG;
	guest->next_table += PAGE;
	fill_gdt(guest);
	fill_idt(guest);
	memcpy(at(guest, GUEST_CODE), cleat_guest_code_start, code);
	for (unsigned cpu = 0; cpu < guest->nr_cpus; cpu++)
		fill_tss(guest, cpu_area(cpu));
	err = cleat_guest_window(guest, 0, guest->ram_size);
	return err ? err : cleat_guest_window(guest, LAPIC_PAGE, PAGE);
}

/* --- The processors ----------------------------------------------------- */

static struct kvm_segment segment(unsigned selector, unsigned type,
				  unsigned dpl)
{
	return (struct kvm_segment){
		.limit = 0xffffffff,
		.selector = (uint16_t)selector,
		.type = (uint8_t)type,
		.present = 1,
		.dpl = (uint8_t)dpl,
		.s = 1,
		.g = 1,
		.l = type & 8 ? 1 : 0,
		.db = type & 8 ? 0 : 1,
	};
}

static int set_sregs(struct guest_cpu *cpu, unsigned number)
{
	struct kvm_segment data = segment(SELECTOR_USER_DATA, 3, 3);
	struct kvm_sregs sregs;

	if (ioctl(cpu->fd, KVM_GET_SREGS, &sregs))
		return -errno;
	sregs.cs = segment(SELECTOR_USER_CODE, 11, 3);
	sregs.ds = sregs.es = sregs.ss = sregs.fs = sregs.gs = data;
	sregs.tr = (struct kvm_segment){
		.base = cpu_area(number),
		.limit = GUEST_TSS_LIMIT,
		.selector = (uint16_t)SELECTOR_TSS(number),
		.type = 11,
		.present = 1,
	};
	sregs.gdt.base = GUEST_GDT;
	sregs.gdt.limit = (uint16_t)(SELECTOR_TSS(GUEST_CPUS_MAX) - 1);
	sregs.idt.base = GUEST_IDT;
	sregs.idt.limit = 256 * 16 - 1;
	sregs.cr3 = GUEST_TABLES;
	sregs.cr4 = 1u << 5; /* PAE */
	sregs.cr0 = 0x80000033; /* PG, NE, ET, MP, PE */
	sregs.efer = 1u << 8 | 1u << 10; /* LME, LMA */
	return ioctl(cpu->fd, KVM_SET_SREGS, &sregs) ? -errno : 0;
}

static int set_regs(struct guest_cpu *cpu, unsigned number)
{
	struct kvm_regs regs = {
		.rip = GUEST_CODE + (uint64_t)(cleat_guest_code_entry -
					       cleat_guest_code_start),
		.rdi = cpu_area(number) + GUEST_PROGRAM,
		.rflags = 0x3202, /* ports at CPL 3, interrupts on */
	};

	return ioctl(cpu->fd, KVM_SET_REGS, &regs) ? -errno : 0;
}

static int set_cpuid(struct guest_cpu *cpu, int kvm_fd)
{
	unsigned entries = 256;
	struct kvm_cpuid2 *cpuid;
	int err = 0;

	cpuid = calloc(1, sizeof(*cpuid) + entries * sizeof(*cpuid->entries));
	if (!cpuid)
		return -ENOMEM;
	cpuid->nent = entries;
	if (ioctl(kvm_fd, KVM_GET_SUPPORTED_CPUID, cpuid) ||
	    ioctl(cpu->fd, KVM_SET_CPUID2, cpuid))
		err = -errno;
	free(cpuid);
	return err;
}

/*
 * Switched off by its spurious-interrupt register, a local APIC drops MSIs; and
 * all processors but the first wait for a start-up message otherwise.
 */
static int enable_lapic(struct guest_cpu *cpu)
{
	struct kvm_mp_state state = {KVM_MP_STATE_RUNNABLE};
	struct kvm_lapic_state lapic;
	uint32_t spurious = 0x1ff;

	if (ioctl(cpu->fd, KVM_SET_MP_STATE, &state) ||
	    ioctl(cpu->fd, KVM_GET_LAPIC, &lapic))
		return -errno;
	memcpy(lapic.regs + 0xf0, &spurious, sizeof(spurious));
	return ioctl(cpu->fd, KVM_SET_LAPIC, &lapic) ? -errno : 0;
}

static int make_cpu(struct guest *guest, int kvm_fd, unsigned number,
		    bool lapic)
{
	struct guest_cpu *cpu = &guest->cpus[number];
	void *run;
	int err;

	cpu->fd = ioctl(guest->vm, KVM_CREATE_VCPU, number);
	if (cpu->fd < 0)
		return -errno;
	run = mmap(NULL, guest->run_size, PROT_READ | PROT_WRITE, MAP_SHARED,
		   cpu->fd, 0);
	if (run == MAP_FAILED)
		return -errno;
	cpu->run = run;
	/* Older kernels have none: then nothing is counted. */
	cpu->stats_fd = ioctl(cpu->fd, KVM_GET_STATS_FD, NULL);
	err = set_cpuid(cpu, kvm_fd);
	if (!err)
		err = set_sregs(cpu, number);
	if (!err)
		err = set_regs(cpu, number);
	if (!err && lapic)
		err = enable_lapic(cpu);
	return err;
}

/* --- The machine -------------------------------------------------------- */

static int make_irqchip(struct guest *guest, enum guest_irqchip irqchip)
{
	struct kvm_enable_cap split = {
		.cap = KVM_CAP_SPLIT_IRQCHIP,
		.args = {24},
	};
	int err = 0;

	if (irqchip == GUEST_IRQCHIP_KERNEL)
		err = ioctl(guest->vm, KVM_CREATE_IRQCHIP, 0);
	else if (irqchip == GUEST_IRQCHIP_SPLIT)
		err = ioctl(guest->vm, KVM_ENABLE_CAP, &split);
	return err ? -errno : 0;
}

static int make_machine(struct guest *guest, int kvm_fd,
			const struct guest_config *config)
{
	int size = ioctl(kvm_fd, KVM_GET_VCPU_MMAP_SIZE, 0);
	int err;

	if (size < 0)
		return -errno;
	guest->run_size = (size_t)size;
	guest->vm = ioctl(kvm_fd, KVM_CREATE_VM, 0);
	if (guest->vm < 0)
		return -errno;
	err = make_irqchip(guest, config->irqchip);
	if (!err)
		err = make_ram(guest,
			       config->ram_size ? config->ram_size : 4u << 20);
	if (!err)
		err = fill_memory(guest);
	for (unsigned cpu = 0; !err && cpu < guest->nr_cpus; cpu++)
		err = make_cpu(guest, kvm_fd, cpu,
			       config->irqchip != GUEST_IRQCHIP_NONE);
	return err;
}

int cleat_guest_create(int kvm_fd, const struct guest_config *config,
		       struct guest **ret_guest)
{
	struct guest *guest;
	int err;

	if (!config->cpus || config->cpus > GUEST_CPUS_MAX ||
	    config->ram_size % PAGE ||
	    (config->ram_size && config->ram_size < 2 * GUEST_TABLES_END))
		return -EINVAL;
	guest = calloc(1, sizeof(*guest));
	if (!guest)
		return -ENOMEM;
	guest->vm = guest->ram_fd = -1;
	guest->nr_cpus = config->cpus;
	for (unsigned cpu = 0; cpu < GUEST_CPUS_MAX; cpu++)
		guest->cpus[cpu].fd = guest->cpus[cpu].stats_fd = -1;
	err = make_machine(guest, kvm_fd, config);
	if (err)
		cleat_guest_destroy(guest);
	else
		*ret_guest = guest;
	return err;
}

static void close_fd(int fd)
{
	if (fd >= 0)
		close(fd);
}

void cleat_guest_destroy(struct guest *guest)
{
	if (!guest)
		return;
	for (unsigned cpu = 0; cpu < guest->nr_cpus; cpu++) {
		if (guest->cpus[cpu].run)
			munmap(guest->cpus[cpu].run, guest->run_size);
		close_fd(guest->cpus[cpu].stats_fd);
		close_fd(guest->cpus[cpu].fd);
	}
	close_fd(guest->vm);
	if (guest->ram)
		munmap(guest->ram, guest->ram_size);
	close_fd(guest->ram_fd);
	free(guest);
}

int cleat_guest_vm(struct guest *guest)
{
	return guest->vm;
}

int cleat_guest_vcpu(struct guest *guest, unsigned cpu)
{
	return guest->cpus[cpu].fd;
}

int cleat_guest_ram_fd(struct guest *guest)
{
	return guest->ram_fd;
}

void *cleat_guest_ram(struct guest *guest, uint64_t address)
{
	return address < guest->ram_size ? guest->ram + address : NULL;
}

size_t cleat_guest_ram_size(struct guest *guest)
{
	return guest->ram_size;
}

uint64_t cleat_guest_tsc_khz(struct guest *guest)
{
	int khz = ioctl(guest->cpus[0].fd, KVM_GET_TSC_KHZ, 0);

	return khz > 0 ? (uint64_t)khz : 0;
}

uint64_t cleat_guest_counter(unsigned vector)
{
	return GUEST_COUNTERS + 8ull * vector;
}

uint64_t cleat_guest_interrupts(struct guest *guest, unsigned vector)
{
	const uint64_t *count = at(guest, cleat_guest_counter(vector));

	return __atomic_load_n(count, __ATOMIC_ACQUIRE);
}

uint64_t cleat_guest_msi_address(unsigned cpu)
{
	return LAPIC_PAGE | (uint64_t)cpu << 12;
}

uint32_t cleat_guest_msi_data(unsigned vector)
{
	return vector;
}
