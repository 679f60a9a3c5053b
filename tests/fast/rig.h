/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * All of it together: a guest on real KVM, the library, and cleat-probes in
 * processes of their own. Whatever cannot be had fails the case.
 */
#ifndef TESTS_FAST_RIG_H
#define TESTS_FAST_RIG_H

#include "backends/probe/probe_regs.h"
#include "bench/machine.h"
#include "tests/support/support.h"

#define RUN_MS 60000
#define PLACE 0xe0000000u
#define PORT 0x1000
/* Nobody's, and the guest may reach it. */
#define STRAY 0xe00f0000u
#define VECTOR 0x60

struct rig {
	struct machine machine;
	struct guest *guest;
	struct plug plug;
};

/*
 * Of the lab's emulated CPUs those that run several of a guest's at once now
 * and then go on in the guest at an address of the host's: skips the case there.
 */
void rig_skip_in_lab(void);
/* @kvm may be NULL; @vcpus of them. */
void rig_open(struct rig *rig, const atf_tc_t *tc, enum guest_irqchip irqchip,
	      unsigned vcpus, const struct cleat_kvm_config *kvm);
/* A cleat-probe with @options (NULL-terminated, may be NULL), not placed. */
void rig_plug(struct rig *rig, struct plug *plug, const char *const *options,
	      uint32_t function);
/* Both, with one vCPU and rig->plug at PLACE. */
void rig_start(struct rig *rig, const atf_tc_t *tc,
	       const struct cleat_kvm_config *kvm, const char *const *options);
void rig_end(struct rig *rig);

/* On vCPU 0; it must end. */
void rig_run(struct rig *rig, struct guest_op *ops, unsigned nr);
uint64_t rig_load(struct rig *rig, uint64_t address);
void rig_store(struct rig *rig, uint64_t address, uint64_t value);
/* Until the guest has taken so many interrupts of a vector in all. */
void rig_wait(struct rig *rig, unsigned vector, uint64_t count);
/* Give what is pending a chance to be taken: ten trips to user space. */
void rig_linger(struct rig *rig);

/* What an operation costs: returns of KVM_RUN, and messages to rig->plug. */
struct cost {
	uint64_t returns;
	uint64_t messages;
};

struct cost rig_cost(struct rig *rig, struct guest_op op);
/* The same, compared: fails the case at its line. */
#define REQUIRE_COST(rig, op, returns_, messages_)                             \
	do {                                                                   \
		struct cost cost_ = rig_cost(rig, op);                         \
									       \
		ATF_CHECK_EQ(returns_, cost_.returns);                         \
		ATF_CHECK_EQ(messages_, cost_.messages);                       \
	} while (0)

#endif
