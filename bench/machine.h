/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A VMM around the guest of bench/guest.h: what it takes to give that guest
 * devices through the library, and no more. Each device is a cleat-probe in a
 * process of its own.
 */
#ifndef BENCH_MACHINE_H
#define BENCH_MACHINE_H

#include <cleat/cleat.h>

#include "bench/guest.h"

#define MACHINE_FIRST_SLOT 8
#define MACHINE_SLOTS 64
#define MACHINE_FIRST_GSI 32

/**
 * struct machine_config - what machine
 * @guest: the guest
 * @kvm:   what the library may use of KVM; NULL: 64 slots, and GSIs from
 *         MACHINE_FIRST_GSI with no routes of the VMM's
 */
struct machine_config {
	struct guest_config guest;
	const struct cleat_kvm_config *kvm;
};

/**
 * struct machine - the VMM
 * @ops:   what devices plugged in from now on get; KVM's, unless changed
 * @hooks: for cleat_guest_run(): what traps goes to the library; what is
 *         nobody's there reads ones
 * @stray: accesses that were nobody's
 */
struct machine {
	struct guest *guest;
	struct cleat_kvm *kvm;
	const struct cleat_vm_ops *ops;
	struct cleat_memory *memory;
	struct cleat_mmio *mmio;
	struct guest_hooks hooks;
	_Atomic uint64_t stray;
};

/* 0 or -errno, with the reason in @reterr. */
int cleat_machine_open(struct machine *machine, int kvm_fd,
		       const struct machine_config *config,
		       struct cleat_error *reterr);
/* After the last device. Fine on a zeroed one. */
void cleat_machine_close(struct machine *machine);

/* --- Devices ------------------------------------------------------------- */

/* Where a probe's BARs are, counted from its place. */
#define PLUG_REGS 0x00000u
#define PLUG_DOORBELLS 0x10000u
#define PLUG_PAGES 0x20000u
#define PLUG_SPAN 0x40000u

struct plug {
	struct machine *machine;
	struct cleat_device *dev;
	struct cleat_pci *pci;
	uint32_t place; /* guest address, 0: none */
};

/*
 * Start @argv (NULL-terminated, a cleat-probe) and make function @function of
 * it; its BARs are nowhere yet.
 */
int cleat_plug_in(struct plug *plug, struct machine *machine,
		  const char *const *argv, uint32_t function,
		  struct cleat_error *reterr);
/* Ends its server, too. Fine on a zeroed one. */
void cleat_plug_out(struct plug *plug);

/* BARs at @place and after, and what is decoded: memory, ports, bus master. */
void cleat_plug_place(struct plug *plug, uint32_t place, uint16_t port);
/* Program an entry of the MSI-X table, as the guest would. */
void cleat_plug_vector(struct plug *plug, unsigned vector, uint64_t address,
		       uint32_t data, bool masked);
/* MSI-X on or off, with all vectors masked or not. */
void cleat_plug_msix(struct plug *plug, bool on, bool masked);
/* Offset of a capability, 0: none. */
unsigned cleat_plug_capability(struct plug *plug, unsigned id);

/* A register or counter of the device's, by message. */
uint64_t cleat_plug_get(struct plug *plug, uint64_t offset, unsigned size);
void cleat_plug_set(struct plug *plug, uint64_t offset, uint32_t value);
/* Requests that have gone over its socket. */
uint64_t cleat_plug_messages(struct plug *plug);

#endif
