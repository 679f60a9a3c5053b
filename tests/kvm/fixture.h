/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A guest and the operations on its VM. All of it fails the case when it cannot
 * be had.
 */
#ifndef TESTS_KVM_FIXTURE_H
#define TESTS_KVM_FIXTURE_H

#include <linux/kvm.h>

#include <cleat/kvm.h>

#include "bench/guest.h"
#include "tests/support/support.h"

#define WINDOW 0xe0000000ull
#define FIRST_SLOT 8
#define FIRST_GSI 24
#define IOAPIC_PINS 24
#define RUN_MS 20000

struct machine {
	struct guest *guest;
	struct cleat_kvm *kvm;
	const struct cleat_vm_ops *ops;
	/* Of the table's writes, where the test counts them. */
	unsigned commits;
	unsigned entries;
};

/* IOAPIC routes of all pins, as a VMM would give them. */
const struct kvm_irq_routing *ioapic_routes(void);

/* With 4 slots and 16 GSIs, the rest of it as given. */
void machine_start(struct machine *machine, const atf_tc_t *tc,
		   enum guest_irqchip irqchip,
		   const struct cleat_kvm_config *more);
/* Tables go through a callback that counts them and writes them. */
void machine_count_commits(struct machine *machine,
			   struct cleat_kvm_config *config);
void machine_end(struct machine *machine);

/* Run on vCPU 0; fails the case unless it ends. */
void machine_run(struct machine *machine, struct guest_op *ops, unsigned nr);
/* One operation on the window, its result. */
uint64_t machine_do(struct machine *machine, struct guest_op op);
/* The returns of KVM_RUN that the operation costs; KVM must count the same. */
uint64_t machine_cost(struct machine *machine, struct guest_op op);

/* A GSI routed to a vector of vCPU 0, in effect. */
uint32_t route_to(struct machine *machine, unsigned vector);
struct cleat_msi message_to(unsigned vector);
int make_eventfd(void);
void signal_eventfd(int fd);
/* The counter of an eventfd that nobody waits for; 0 if there is none. */
uint64_t eventfd_count(int fd);

#endif
