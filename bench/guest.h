/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * guest: a machine with nothing in it but what a test or a measurement needs.
 *
 * It runs no operating system but a list of operations, in long mode at CPL 3
 * (paravirtual KVMs run only that natively), and counts the interrupts it
 * takes at CPL 0. Linear addresses are guest-physical ones. A run is
 *
 *	struct guest_op ops[] = {
 *		{ .kind = GUEST_STORE, .size = 4, .address = 0xe0000000,
 *		  .value = 1, .step = 1, .count = 1000 },
 *		{ .kind = GUEST_WAIT, .address = cleat_guest_counter(vector),
 *		  .value = 1000, .count = 1 },
 *	};
 *
 *	cleat_guest_window(guest, 0xe0000000, 4096);
 *	cleat_guest_run(guest, 0, ops, 2, &hooks, 10000);
 *
 * and returns when the last operation is done. What of it left the kernel is in
 * struct guest_returns, what KVM itself counted comes from
 * cleat_guest_stats(). The program ends with one port write, which is in @done
 * but in none of the other returns.
 *
 * All functions return 0 or -errno. One thread at a time may run a vCPU, any
 * number of them different ones.
 */
#ifndef BENCH_GUEST_H
#define BENCH_GUEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define GUEST_CPUS_MAX 8
#define GUEST_OPS_MAX 60
/* Vectors below are the processor's own exceptions, which end the run. */
#define GUEST_FIRST_VECTOR 32

enum guest_irqchip {
	GUEST_IRQCHIP_KERNEL, /* PIC, IOAPIC and local APICs */
	GUEST_IRQCHIP_SPLIT, /* local APICs */
	GUEST_IRQCHIP_NONE,
};

/**
 * struct guest_config - what machine
 * @irqchip:  what of the interrupt controllers is in the kernel
 * @cpus:     1 to GUEST_CPUS_MAX
 * @ram_size: bytes from guest address 0, a multiple of 4096; 0 means 4 MiB
 */
struct guest_config {
	enum guest_irqchip irqchip;
	unsigned cpus;
	size_t ram_size;
};

enum guest_op_kind {
	GUEST_STORE, /* 1, 2, 4, 8 bytes */
	GUEST_LOAD, /* 1, 2, 4, 8 bytes */
	GUEST_OUT, /* 1, 2, 4 bytes */
	GUEST_IN, /* 1, 2, 4 bytes */
	/* Spin until the 8 bytes at @address are at least @value. */
	GUEST_WAIT,
};

/**
 * struct guest_op - one operation, repeated
 * @kind:    what
 * @size:    bytes of one access
 * @address: guest-physical address or port
 * @value:   what the first access writes
 * @step:    added to it for each further one
 * @count:   how often
 * @wait_at: not 0: after each access spin until the 8 bytes there are no
 *           longer what they were before it: a doorbell and its interrupt
 * @record:  not 0: guest address of @count 64-bit places for the time that each
 *           access took, waiting included, in ticks of the time-stamp counter
 * @batch:   do each access so often, back to back, as one of @count: what one
 *           takes may be too short to be timed; 0 means 1. Waits once.
 * @stamp:   record not how long an access took but when it was over
 * @result:  out: what the last read gave
 */
struct guest_op {
	enum guest_op_kind kind;
	unsigned size;
	uint64_t address;
	uint64_t value;
	uint64_t step;
	uint64_t count;
	uint64_t wait_at;
	uint64_t record;
	uint32_t batch;
	bool stamp;
	uint64_t result;
};

/* An access that KVM left to its user. */
struct guest_access {
	bool ports;
	bool write;
	uint64_t address;
	unsigned length;
	void *data; /* in or out */
};

/**
 * struct guest_hooks - what happens outside the guest
 * @access: an access that nobody in the kernel took; NULL: writes vanish, reads
 *          give ones. -EINTR: run again with the same exit; another error ends
 *          the run.
 * @eoi:    the guest ended an interrupt that a split irqchip's user space must
 *          know of (KVM_EXIT_IOAPIC_EOI); may be NULL
 * @fault:  KVM_RUN failed with EFAULT; 0 runs on. NULL: the run ends.
 * @opaque: handed to both
 */
struct guest_hooks {
	int (*access)(void *opaque, unsigned cpu,
		      const struct guest_access *access);
	int (*fault)(void *opaque, unsigned cpu);
	void (*eoi)(void *opaque, unsigned cpu, unsigned vector);
	void *opaque;
};

/* How often KVM_RUN came back, by reason; since the machine was made. */
struct guest_returns {
	uint64_t reads;
	uint64_t writes;
	uint64_t ins;
	uint64_t outs;
	uint64_t faults;
	uint64_t interrupted; /* by a signal */
	uint64_t done; /* the end of a program */
	uint64_t other;
};

/* What KVM counted of one vCPU; -1 where it does not say. */
struct guest_stats {
	int64_t exits;
	int64_t mmio_exits; /* MMIO that left the kernel */
	int64_t io_exits; /* some KVMs leave it at 0 */
	int64_t irq_injections;
};

struct guest;

int cleat_guest_create(int kvm_fd, const struct guest_config *config,
		       struct guest **ret_guest);
/* NULL is fine. */
void cleat_guest_destroy(struct guest *guest);

/* The VM, borrowed. Its memory slot 0 is the RAM. */
int cleat_guest_vm(struct guest *guest);
/* A vCPU, borrowed. */
int cleat_guest_vcpu(struct guest *guest, unsigned cpu);
/* The RAM's memfd, borrowed, and where it is mapped. */
int cleat_guest_ram_fd(struct guest *guest);
void *cleat_guest_ram(struct guest *guest, uint64_t address);
size_t cleat_guest_ram_size(struct guest *guest);
/* Guest address of @size zeroed bytes of RAM, page-aligned; 0: no room. */
uint64_t cleat_guest_alloc(struct guest *guest, size_t size);

/* Let the guest reach [@address, @address + @length), below 2^47. */
int cleat_guest_window(struct guest *guest, uint64_t address, uint64_t length);

/* Ticks per millisecond of the guest's time-stamp counter; 0: KVM won't say. */
uint64_t cleat_guest_tsc_khz(struct guest *guest);

/* Guest address of a vector's count of interrupts taken, and the count. */
uint64_t cleat_guest_counter(unsigned vector);
uint64_t cleat_guest_interrupts(struct guest *guest, unsigned vector);
/* The message that raises a vector at a vCPU. */
uint64_t cleat_guest_msi_address(unsigned cpu);
uint32_t cleat_guest_msi_data(unsigned vector);

/*
 * Run @nr operations on a vCPU, in the calling thread. @hooks may be NULL.
 * -ETIMEDOUT: the guest was still at it after @ms; -EFAULT and others:
 * what KVM_RUN or a hook gave; -EIO: an exit that means the guest is broken,
 * told on stderr. The vCPU cannot be used again after an error.
 */
int cleat_guest_run(struct guest *guest, unsigned cpu, struct guest_op *ops,
		    unsigned nr, const struct guest_hooks *hooks, unsigned ms);

/* The same in a thread of its own; cleat_guest_wait() gives its result. */
int cleat_guest_start(struct guest *guest, unsigned cpu, struct guest_op *ops,
		      unsigned nr, const struct guest_hooks *hooks,
		      unsigned ms);
int cleat_guest_wait(struct guest *guest, unsigned cpu);

/*
 * Queue an interrupt where no local APIC is in the kernel: from a hook, while
 * the guest has interrupts on, and not before it has taken the last one.
 */
int cleat_guest_inject(struct guest *guest, unsigned cpu, unsigned vector);

void cleat_guest_returns(struct guest *guest, unsigned cpu,
			 struct guest_returns *ret);
/* All but @done. */
uint64_t cleat_guest_returned(struct guest *guest, unsigned cpu);
int cleat_guest_stats(struct guest *guest, unsigned cpu,
		      struct guest_stats *ret);

#endif
